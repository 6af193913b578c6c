//! Lies about leases.

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "renewal revives a dead lease",
        story: "renew sets the new expiry whatever the old one was; the worker was dead and another is on its way",
        by: "lease::renew_lease::at lease_expires_at it is lease_expired and revives",
        operations: &[Op::RenewLease],
        lie: Call(|s, op| {
            let args = args!(s, op, RenewLease);
            s.revive(&args.execution_id);
            s.call(args)
        }),
    },
    Bug {
        name: "lease expiry compared exclusively",
        story: "`now > expires_at` in the fence check, `>=` in the sweep: for a millisecond there are two owners",
        by: "execution::complete_execution::at now = lease_expires_at it is lease_expired",
        operations: &[Op::RenewLease, Op::CompleteExecution, Op::FailExecution, Op::SuspendExecution, Op::AppendFrame],
        lie: Call(|s, op| {
            let id = match &op {
                Operation::RenewLease(args) => args.execution_id,
                Operation::CompleteExecution(args) => args.execution_id,
                Operation::FailExecution(args) => args.execution_id,
                Operation::SuspendExecution(args) => args.execution_id,
                Operation::AppendFrame(args) => args.execution_id,
                _ => return s.call(op),
            };
            let ends = s.execution(&id).and_then(|x| x.record.lease).map(|lease| lease.expires_at);
            if ends == Some(s.now()) {
                s.revive(&id);
            }
            s.call(op)
        }),
    },
    Bug {
        name: "shorter renewal shortens",
        story: "a renewal with the default ttl cuts the long one that a handler had asked for",
        by: "lease::renew_lease::a shorter ttl does not shorten the",
        operations: &[Op::RenewLease],
        lie: Tells(|s, op, mut answer| {
            let Operation::RenewLease(args) = op else { return answer };
            if let Ok(Outcome::RenewLease(RenewLeaseResult::Renewed { lease_expires_at, .. })) = &mut answer {
                let at = s.now().after(args.lease_ttl_ms);
                *lease_expires_at = at;
                s.alter(&args.execution_id, |x| {
                    if let Some(lease) = &mut x.record.lease {
                        lease.expires_at = at;
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "stale expiry ends the next lease",
        story: "a delayed expiry message names the job; the new owner loses its fresh lease to it",
        by: "lease::mark_lease_expired::under an older epoch it is NotDue",
        operations: &[Op::MarkLeaseExpired],
        lie: Call(|s, op| {
            let mut args = args!(s, op, MarkLeaseExpired);
            let now = s.now();
            if let Some(x) = s.execution(&args.execution_id)
                && x.record.lease_epoch > args.lease_epoch
            {
                args.lease_epoch = x.record.lease_epoch;
                s.alter(&args.execution_id, |x| {
                    if let Some(lease) = &mut x.record.lease {
                        lease.expires_at = now;
                    }
                });
            }
            s.call(args)
        }),
    },
    Bug {
        name: "revocation counts as a loss",
        story: "an operator's drain of a node spends the jobs' reclaims",
        by: "lease::revoke_lease::the execution is claimable at once, reclaim_count",
        operations: &[Op::RevokeLease],
        lie: Tells(|s, op, answer| {
            if let (Operation::RevokeLease(args), Ok(Outcome::RevokeLease(RevokeLeaseResult::Revoked { .. }))) =
                (op, &answer)
            {
                s.alter(&args.execution_id, |x| x.record.reclaim_count += 1);
            }
            answer
        }),
    },
    Bug {
        name: "renewal leaves the old timer",
        story: "the record says renewed, the timer of the first expiry fires, and nobody compares the two",
        by: "lease::renew_lease::a shorter ttl does not shorten the",
        operations: &[Op::RenewLease, Op::Sweep, Op::ClaimNext],
        lie: Call(|s, op| {
            if let Operation::RenewLease(args) = &op {
                let first = s.execution(&args.execution_id).and_then(|x| x.record.lease).map(|lease| lease.expires_at);
                let answer = s.call(op.clone());
                if let (Ok(_), Some(first)) = (&answer, first) {
                    s.kept().instants.entry(args.execution_id).or_insert(first);
                }
                return answer;
            }
            let now = s.now();
            let due: Vec<_> = s.kept().instants.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
            for id in due {
                s.kept().instants.remove(&id);
                s.alter(&id, |x| {
                    if let Some(lease) = &mut x.record.lease {
                        lease.expires_at = now;
                    }
                });
            }
            s.call(op)
        }),
    },
    Bug {
        name: "revocation of whatever lease there is",
        story: "revoke takes the job's present lease, not the one that the operator saw",
        by: "lease::revoke_lease::the execution is claimable at once, reclaim_count",
        operations: &[Op::RevokeLease],
        lie: Call(|s, op| {
            let mut args = args!(s, op, RevokeLease);
            args.lease_id = s.fence(&args.execution_id).map_or(args.lease_id, |fence| fence.lease_id);
            s.call(args)
        }),
    },
    Bug {
        name: "lost lease keeps its attempt open",
        story: "the lost attempt is never ended; its stream stays open beside the new one's",
        by: "reads::list_attempts::initial, retry, reclaim and replay attempts come",
        operations: &[Op::MarkLeaseExpired],
        lie: Tells(|s, op, answer| {
            if let (
                Operation::MarkLeaseExpired(args),
                Ok(Outcome::MarkLeaseExpired(MarkLeaseExpiredResult::Lost { .. })),
            ) = (op, &answer)
            {
                s.alter(&args.execution_id, |x| {
                    if let Some(attempt) = &mut x.attempt {
                        attempt.attempt_state = ff_core::state::AttemptLifecycle::Started;
                        attempt.ended = None;
                    }
                });
            }
            answer
        }),
    },
];
