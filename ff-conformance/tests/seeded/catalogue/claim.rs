//! Lies about claims and grants.

use std::collections::BTreeSet;

use ff_core::contracts::ClaimedExecution;
use ff_core::ids::{ExecutionId, LaneId, LeaseEpoch, LeaseId};
use ff_core::policy::Capabilities;
use ff_core::records::PauseKind;

use super::prelude::*;

/// Every token that anything in the partition requires.
fn everything(scene: &Scene, partition: u16) -> Capabilities {
    let required = scene.executions(partition).into_iter();
    required.flat_map(|x| x.record.policy.required_capabilities.iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What a claim of any kind handed out, the resumed apart from the others.
fn handed_out(answer: &mut Answer) -> Vec<(bool, &mut ClaimedExecution)> {
    match answer {
        Ok(Outcome::ClaimNext(result)) => {
            let each = result.claimed.iter_mut().map(|claim| match claim {
                NextClaim::New(claimed) | NextClaim::Reclaimed(claimed) => (false, claimed),
                NextClaim::Resumed(resumed) => (true, &mut resumed.claimed),
            });
            each.collect()
        }
        Ok(Outcome::ClaimExecution(ClaimExecutionResult::Claimed(claimed)))
        | Ok(Outcome::ReclaimExecution(ReclaimExecutionResult::Reclaimed(claimed))) => vec![(false, claimed)],
        Ok(Outcome::ClaimResumedExecution(ClaimResumedExecutionResult::Claimed(resumed))) => {
            vec![(true, &mut resumed.claimed)]
        }
        _ => Vec::new(),
    }
}

const CLAIMS: &[Op] = &[Op::ClaimNext, Op::ClaimExecution, Op::ClaimResumedExecution, Op::ReclaimExecution];

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "grant used by another instance",
        story: "the grant is held by the worker's name; a second process under that name takes it",
        by: "claim::claim_execution::another instance of the same worker cannot",
        operations: &[Op::ClaimExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ClaimExecution);
            if let Some(grant) = s.execution(&args.execution_id).and_then(|x| x.record.grant)
                && grant.worker_id == args.worker_id
            {
                args.worker_instance_id = grant.worker_instance_id;
            }
            s.call(args)
        }),
    },
    Bug {
        name: "resumed claim keeps the epoch",
        story: "the same attempt, so the same fencing token: the owner before the pause can still write",
        by: "claim::claim_execution::the epoch rises by one when new",
        operations: CLAIMS,
        lie: Tells(|s, _, mut answer| {
            for (resumed, claimed) in handed_out(&mut answer) {
                if resumed {
                    let epoch = LeaseEpoch(claimed.fence.lease_epoch.get() - 1);
                    claimed.fence.lease_epoch = epoch;
                    s.alter(&claimed.execution_id, |x| {
                        x.record.lease_epoch = epoch;
                        if let Some(attempt) = &mut x.attempt {
                            attempt.lease_epoch = epoch;
                        }
                    });
                }
            }
            answer
        }),
    },
    Bug {
        name: "capabilities not asked for",
        story: "the queue is per lane, and the worker's capabilities are looked at by the grant alone",
        by: "claim::claim_next::it returns what a filter and sort",
        operations: &[Op::ClaimNext],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ClaimNext);
            if args.capabilities.check(CapabilitySide::Worker).is_ok() {
                args.capabilities = args
                    .capabilities
                    .iter()
                    .map(str::to_owned)
                    .chain(everything(s, args.partition).iter().map(str::to_owned))
                    .collect();
            }
            s.call(args)
        }),
    },
    Bug {
        name: "head of line blocks",
        story: "a head that this worker cannot run hides all that it could, as long as no other worker comes",
        by: "claim::claim_next::it returns what a filter and sort",
        operations: &[Op::ClaimNext],
        lie: Call(|s, op| {
            let args = args!(s, op, ClaimNext);
            let queue = s.executions(args.partition).into_iter().filter(|x| {
                x.belongs_in_queue() && x.record.lane_id == args.lane_id && !x.record.policy.is_admission_controlled()
            });
            let head = queue.min_by_key(|x| (std::cmp::Reverse(x.record.priority), x.record.created_at, x.uuid()));
            if head.is_some_and(|x| !args.capabilities.covers(&x.record.policy.required_capabilities)) {
                let mut elsewhere = args;
                elsewhere.lane_id = LaneId::new("nobody-waits-here").expect("a lane");
                return s.call(elsewhere);
            }
            s.call(args)
        }),
    },
    Bug {
        name: "repeated claim takes more",
        story: "the reply is lost, the worker asks again and gets other jobs; the first ones run out their leases",
        by: "claim::claim_next::its repeat returns the same leases and",
        operations: &[Op::ClaimNext],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ClaimNext);
            let held: BTreeSet<LeaseId> =
                s.executions(args.partition).iter().filter_map(|x| Some(x.record.lease.as_ref()?.lease_id)).collect();
            for slot in &mut args.slots {
                if held.contains(&slot.lease_id) {
                    slot.lease_id = LeaseId::new();
                }
            }
            s.call(args)
        }),
    },
    Bug {
        name: "grant lapses a moment late",
        story: "expiry compared exclusively: at its last instant the grant is given out twice",
        by: "claim::issue_claim_grant::an unused grant lapses and x returns",
        operations: &[Op::ClaimExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ClaimExecution);
            let lapses = s.execution(&args.execution_id).and_then(|x| x.record.grant).map(|g| g.expires_at);
            s.call_late(lapses, args)
        }),
    },
    Bug {
        name: "hands out what is past its deadline",
        story: "the deadline is looked at by the sweep alone, and the worker starts what is over",
        by: "claim::claim_next::a head whose deadline has passed is",
        operations: &[Op::ClaimNext],
        lie: Call(|s, op| {
            let args = args!(s, op, ClaimNext);
            let now = s.now();
            let over = s.executions(args.partition).into_iter().filter(|x| x.record.vector.is_ready());
            let over: Vec<(ExecutionId, TimestampMs)> = over
                .filter_map(|x| Some((x.record.execution_id, x.record.deadline_at.filter(|at| *at <= now)?)))
                .collect();
            for (id, _) in &over {
                s.alter(id, |x| x.record.deadline_at = None);
            }
            let answer = s.call(args);
            for (id, at) in over {
                s.alter(&id, |x| x.record.deadline_at = Some(at));
            }
            answer
        }),
    },
    Bug {
        name: "reclaim of a live lease",
        story: "the supervisor takes a slow worker for a dead one, and two own the job",
        by: "claim::reclaim_execution::a live lease is execution_not_reclaimable",
        operations: &[Op::IssueReclaimGrant, Op::ReclaimExecution],
        lie: Call(|s, op| {
            if let Operation::IssueReclaimGrant(args) = &op {
                let now = s.now();
                s.alter(&args.execution_id, |x| {
                    if let Some(lease) = &mut x.record.lease {
                        lease.expires_at = now;
                    }
                });
            }
            s.call(op)
        }),
    },
    Bug {
        name: "claims by a cached clock",
        story: "the time is read once per batch and used for the next ones",
        by: "claim::claim_next::it takes due delays, lapsed grants and",
        operations: &[Op::ClaimNext],
        lie: Call(|s, op| s.call_at(before(s.now()), op)),
    },
    Bug {
        name: "too many slots are cut",
        story: "a bound is met by silence: 65 were asked for, 64 are served",
        by: "claim::claim_next::0 and 65 slots are invalid_input, one",
        operations: &[Op::ClaimNext],
        lie: Asks(|_, mut op| {
            if let Operation::ClaimNext(args) = &mut op {
                args.slots.truncate(64);
            }
            op
        }),
    },
    Bug {
        name: "grant raises the epoch",
        story: "the fencing token moves when nobody has acquired anything, and a repeat is no repeat",
        by: "claim::claim_execution::the epoch rises by one when new",
        operations: &[Op::IssueClaimGrant],
        lie: Tells(|s, op, answer| {
            if let (Operation::IssueClaimGrant(args), Ok(_)) = (op, &answer) {
                s.alter(&args.execution_id, |x| x.record.lease_epoch = LeaseEpoch(x.record.lease_epoch.get() + 1));
            }
            answer
        }),
    },
    Bug {
        name: "reclaimed attempt inherits the dead one's time",
        story: "the attempt timer is armed by execution, and the dead attempt's is found standing",
        by: "claim::reclaim_execution::the fresh attempt gets a full attempt",
        operations: CLAIMS,
        lie: Tells(|s, _, mut answer| {
            for (_, claimed) in handed_out(&mut answer) {
                s.alter(&claimed.execution_id, |x| {
                    let timeout = x.record.policy.timeouts.attempt_timeout_ms;
                    let dead = x.history.attempts.last().map(|a| a.started_at);
                    if let (Some(timeout), Some(started_at), Some(attempt)) = (timeout, dead, &mut x.attempt)
                        && attempt.attempt_type == ff_core::state::AttemptType::Reclaim
                    {
                        attempt.attempt_deadline_at = Some(started_at.after(timeout));
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "time asleep counts",
        story: "an attempt that sleeps for an hour wakes up to its timeout",
        by: "execution::delay_execution::the time asleep does not count against",
        operations: CLAIMS,
        lie: Tells(|s, _, mut answer| {
            let now = s.now();
            for (resumed, claimed) in handed_out(&mut answer) {
                if resumed {
                    s.alter(&claimed.execution_id, |x| {
                        let Some(attempt) = &mut x.attempt else { return };
                        let asleep = attempt.paused_at.map_or(0, |at| now.since(at));
                        if attempt.pause_kind == Some(PauseKind::Delay) {
                            attempt.attempt_deadline_at = attempt
                                .attempt_deadline_at
                                .map(|at| TimestampMs::saturating(at.as_millis().saturating_sub(asleep)));
                        }
                    });
                }
            }
            answer
        }),
    },
    Bug {
        name: "inputs of the wrong run",
        story: "a child reads its upstream's newest run, though it was resolved by an earlier one",
        by: "flow::claim_next::an upstream replayed after the child's first",
        operations: CLAIMS,
        lie: Tells(|s, _, mut answer| {
            for (_, claimed) in handed_out(&mut answer) {
                for input in &mut claimed.inputs {
                    let newest = s.execution(&input.upstream_execution_id).map(|up| up.record.replay_count);
                    input.upstream_run = newest.unwrap_or(input.upstream_run);
                }
            }
            answer
        }),
    },
    Bug {
        name: "repeated grant told as somebody else's",
        story: "the holder that lost the reply asks again, is told that it is taken, and gives up",
        by: "claim::issue_claim_grant::the same holder gets the same grant",
        operations: &[Op::IssueClaimGrant],
        lie: Call(|s, op| {
            let args = args!(s, op, IssueClaimGrant);
            let granted =
                s.execution(&args.execution_id).and_then(|x| x.record.grant).filter(|g| g.expires_at > s.now());
            if granted.is_some() {
                let mut other = args;
                other.worker_instance_id = ff_core::ids::WorkerInstanceId::new("somebody-else").expect("an instance");
                return s.call(other);
            }
            s.call(args)
        }),
    },
];
