//! Lies about quotas.

use ff_backend_memory::model::{Slots, Waiters, Window};
use ff_core::ids::{ExecutionId, LeaseEpoch};
use ff_core::records::AdmissionIdentity;
use uuid::Uuid;

use super::prelude::*;

fn policy(s: &Scene, id: &ff_core::ids::QuotaPolicyId) -> Option<ff_backend_memory::model::Quota> {
    s.backend.model().policies().find(|(known, _)| *known == id).map(|(_, quota)| quota.clone())
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "release frees another holder's slot",
        story: "the first attempt's late release frees the slot of the second",
        by: "quota::release_admission::a release with the epoch of an",
        operations: &[Op::ReleaseAdmission],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ReleaseAdmission);
            let identity = AdmissionIdentity { execution_id: args.execution_id, attempt_index: args.attempt_index };
            if let Some(slot) = policy(s, &args.quota_policy_id).and_then(|quota| quota.slots.get(&identity)) {
                args.lease_epoch = slot.lease_epoch;
            }
            s.call(args)
        }),
    },
    Bug {
        name: "release of an unknown holder frees a slot",
        story: "the cap is a counter, and a double release lowers it twice",
        by: "quota::release_admission::with cap 2 and X, Y admitted",
        operations: &[Op::ReleaseAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, ReleaseAdmission);
            let answer = s.call(args.clone());
            if let Ok(Outcome::ReleaseAdmission(ReleaseAdmissionResult { released: false, .. })) = &answer
                && let Some(quota) = policy(s, &args.quota_policy_id)
                && let Some((identity, slot)) = quota.slots.iter().next()
            {
                let mut other = args;
                other.execution_id = identity.execution_id;
                other.attempt_index = identity.attempt_index;
                other.lease_epoch = slot.lease_epoch;
                let _ = s.call(other);
            }
            answer
        }),
    },
    Bug {
        name: "slot ends a moment late",
        story: "expiry compared exclusively: at its last instant the slot is still taken",
        by: "quota::check_admission::a slot is gone at its expires_at",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, CheckAdmission);
            let ends = policy(s, &args.quota_policy_id).and_then(|quota| quota.slots.earliest_end());
            s.call_late(ends, args)
        }),
    },
    Bug {
        name: "slots never end by themselves",
        story: "a worker that died holds its place under the cap until an operator finds it",
        by: "quota::check_admission::a slot is gone at its expires_at",
        operations: &[Op::CheckAdmission],
        lie: Asks(|_, mut op| {
            if let Operation::CheckAdmission(args) = &mut op {
                args.slot_ttl_ms = 24 * 60 * 60 * 1000;
            }
            op
        }),
    },
    Bug {
        name: "who asks again loses its place",
        story: "every refusal writes the waiter anew, and the patient one starves",
        by: "quota::check_admission::at 2 per 10 s without jitter",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, CheckAdmission);
            s.backend.alter_policy(&args.quota_policy_id, |quota| quota.waiters = Waiters::default());
            s.call(args)
        }),
    },
    Bug {
        name: "release wakes nobody",
        story: "the free slot is found by whoever polls next, after a minute",
        by: "quota::release_admission::it wakes waiters in the order of",
        operations: &[Op::ReleaseAdmission],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::ReleaseAdmission(result)) = &mut answer {
                result.wake.clear();
            }
            answer
        }),
    },
    Bug {
        name: "window is fixed, not sliding",
        story: "twice the rate passes around the full minute",
        by: "quota::check_admission::the window slides: with 2 per 10",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, CheckAdmission);
            let now = s.now().as_millis();
            s.backend.alter_policy(&args.quota_policy_id, |quota| {
                let Some(rate) = quota.record.rate else { return };
                let bucket = |at: u64| at / rate.window_ms;
                if quota.window.iter().all(|(at, _)| bucket(at.as_millis()) < bucket(now)) {
                    quota.window = Window::default();
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "repeated admission is charged again",
        story: "a retry of the check after a lost reply uses up the rate",
        by: "quota::check_admission::a repeat of one identity is charged",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, CheckAdmission);
            let identity = AdmissionIdentity { execution_id: args.execution_id, attempt_index: args.attempt_index };
            let known = policy(s, &args.quota_policy_id).is_some_and(|quota| quota.window.contains(&identity));
            let answer = s.call(args.clone());
            if known && answer.is_ok() {
                let mut again = args;
                again.execution_id = ExecutionId::from_parts(
                    again.execution_id.partition(),
                    Uuid::from_u128(u128::from(s.now().as_millis())),
                );
                let _ = s.call(again);
            }
            answer
        }),
    },
    Bug {
        name: "admission of a reset store",
        story: "the slots live in a cache that is emptied by every deployment: beyond the cap all are admitted",
        by: "quota::release_admission::with cap 2 and X, Y admitted",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let args = args!(s, op, CheckAdmission);
            s.backend.alter_policy(&args.quota_policy_id, |quota| quota.slots = Slots::default());
            s.call(args)
        }),
    },
    Bug {
        name: "unknown policy admits",
        story: "a typing error in the policy's name switches the limit off",
        by: "quota::admission::an unknown budget or quota policy admits",
        operations: &[Op::CheckAdmission],
        lie: Tells(|_, _, answer| {
            if refused(&answer, Code::QuotaPolicyNotFound) {
                return Ok(Outcome::CheckAdmission(CheckAdmissionResult::Admitted { slot_expires_at: None }));
            }
            answer
        }),
    },
    Bug {
        name: "other jitter is a repeat",
        story: "a changed policy is told to be in force, and is not",
        by: "quota::create_quota_policy::an equal definition is AlreadyExists, another jitter",
        operations: &[Op::CreateQuotaPolicy],
        lie: Call(|s, op| {
            let args = args!(s, op, CreateQuotaPolicy);
            let answer = s.call(args.clone());
            let known = policy(s, &args.quota_policy_id);
            let jitter_ms = known.as_ref().map_or(0, |quota| quota.record.jitter_ms);
            // All but the jitter is as it was.
            let mut with_that = args;
            with_that.jitter_ms = jitter_ms;
            let same = matches!(
                s.pretend(&with_that.into()),
                Ok(Outcome::CreateQuotaPolicy(CreateQuotaPolicyResult::AlreadyExists { .. }))
            );
            match known {
                Some(quota) if same && refused(&answer, Code::QuotaPolicyConflict) => {
                    let created_at = quota.record.created_at;
                    Ok(Outcome::CreateQuotaPolicy(CreateQuotaPolicyResult::AlreadyExists { created_at }))
                }
                _ => answer,
            }
        }),
    },
    Bug {
        name: "slot belongs to the job, not to its lease",
        story: "a refresh keeps the epoch of the first lease, and the second lease's release is taken for a stranger's",
        by: "quota::release_admission::a release with the epoch of an",
        operations: &[Op::CheckAdmission],
        lie: Call(|s, op| {
            let mut args = args!(s, op, CheckAdmission);
            let identity = AdmissionIdentity { execution_id: args.execution_id, attempt_index: args.attempt_index };
            if let Some(slot) = policy(s, &args.quota_policy_id).and_then(|quota| quota.slots.get(&identity)) {
                args.lease_epoch = LeaseEpoch(slot.lease_epoch.get().min(args.lease_epoch.get()));
            }
            s.call(args)
        }),
    },
];
