//! Lies about executions.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::state::{AttemptLifecycle, PublicState, StateVector};

use super::prelude::*;

fn delay_is_over(scene: &Scene, when: Option<When>) -> bool {
    when.is_some_and(|when| when.resolve(scene.now()) <= scene.now())
}

fn to_whole_seconds(when: When) -> When {
    match when {
        When::After(ms) => When::After(ms.div_ceil(1000) * 1000),
        When::At(at) => When::At(TimestampMs::saturating(at.as_millis().div_ceil(1000) * 1000)),
    }
}

fn with_worker(scene: &Scene, actor: Actor, id: &ff_core::ids::ExecutionId) -> Actor {
    match (&actor, scene.fence(id)) {
        (Actor::Operator { .. }, Some(fence)) => Actor::Worker(fence),
        _ => actor,
    }
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "zombie worker completes",
        story: "a worker pauses beyond its lease (GC, VM move) and still completes, because only the timer ends leases",
        by: "execution::complete_execution::at now = lease_expires_at it is lease_expired",
        operations: &[Op::CompleteExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CompleteExecution);
            if matches!(args.actor, Actor::Worker(_)) {
                s.revive(&args.execution_id);
            }
            s.call(args)
        }),
    },
    Bug {
        name: "fence ignored by progress",
        story: "the fence is checked on the endings and forgotten on one minor path",
        by: "execution::update_progress::another lease, epoch or attempt id is",
        operations: &[Op::UpdateProgress],
        lie: Call(|s, op| {
            let mut args = args!(s, op, UpdateProgress);
            args.fence = s.fence(&args.execution_id).unwrap_or(args.fence);
            s.call(args)
        }),
    },
    Bug {
        name: "fence's attempt id ignored by cancel",
        story: "ownership is compared by lease id alone",
        by: "execution::cancel_execution::a worker with the right lease and",
        operations: &[Op::CancelExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, CancelExecution);
            if let (Actor::Worker(shown), Some(own)) = (&mut args.actor, s.fence(&args.execution_id))
                && shown.lease_id == own.lease_id
            {
                *shown = own;
            }
            s.call(args)
        }),
    },
    Bug {
        name: "replay keeps the retry counter",
        story: "a replayed job fails at its first error, since its retries were used up last week",
        by: "execution::replay_execution::an exhausted execution gets its full retries",
        operations: &[Op::ReplayExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ReplayExecution);
            let (id, spent) = (args.execution_id, s.execution(&args.execution_id).map_or(0, |x| x.record.retry_count));
            let answer = s.call(args);
            if answer.is_ok() {
                s.alter(&id, |x| x.record.retry_count = x.record.retry_count.max(spent));
            }
            answer
        }),
    },
    Bug {
        name: "replay keeps the reclaim counter",
        story: "the same for lost leases: the replayed run ends at the first crash",
        by: "execution::replay_execution::an exhausted execution gets its full retries",
        operations: &[Op::ReplayExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ReplayExecution);
            let id = args.execution_id;
            let spent = s.execution(&id).map_or(0, |x| x.record.reclaim_count);
            let answer = s.call(args);
            if answer.is_ok() {
                s.alter(&id, |x| x.record.reclaim_count = x.record.reclaim_count.max(spent));
            }
            answer
        }),
    },
    Bug {
        name: "revoked marker survives a replay",
        story: "a marker is set by revoke and cleared by reclaim only; after cancel and replay every lease is refused",
        by: "execution::replay_execution::after revoke, cancel and replay, claim, renew",
        operations: &[
            Op::RevokeLease,
            Op::ReclaimExecution,
            Op::ClaimNext,
            Op::ReplayExecution,
            Op::RenewLease,
            Op::CompleteExecution,
        ],
        lie: Call(|s, op| {
            let marked = |id| s.kept().executions.contains(id);
            match &op {
                Operation::RenewLease(args) if marked(&args.execution_id) => {
                    return Err(Refusal::lease_revoked().into());
                }
                Operation::CompleteExecution(args)
                    if marked(&args.execution_id) && matches!(args.actor, Actor::Worker(_)) =>
                {
                    return Err(Refusal::lease_revoked().into());
                }
                _ => {}
            }
            let answer = s.call(op.clone());
            match (&op, &answer) {
                (Operation::RevokeLease(args), Ok(_)) => {
                    s.kept().executions.insert(args.execution_id);
                }
                (_, Ok(Outcome::ReclaimExecution(ReclaimExecutionResult::Reclaimed(claimed)))) => {
                    s.kept().executions.remove(&claimed.execution_id);
                }
                (_, Ok(Outcome::ClaimNext(result))) => {
                    for claim in &result.claimed {
                        if let NextClaim::Reclaimed(claimed) = claim {
                            s.kept().executions.remove(&claimed.execution_id);
                        }
                    }
                }
                _ => {}
            }
            answer
        }),
    },
    Bug {
        name: "delay in the past lands in no queue",
        story: "`until <= now` goes the way of delays, whose timer was never armed for an instant that has passed",
        by: "execution::create_execution::a delay in the past creates READY",
        operations: &[Op::CreateExecution, Op::DelayExecution],
        lie: Tells(|s, op, answer| {
            let (id, over) = match op {
                Operation::CreateExecution(args) => (args.execution_id, delay_is_over(s, args.delay)),
                Operation::DelayExecution(args) => (args.execution_id, delay_is_over(s, Some(args.until))),
                _ => return answer,
            };
            if over && answer.is_ok() {
                s.backend.lose_queue_entry(&id);
            }
            answer
        }),
    },
    Bug {
        name: "delay rounded up to whole seconds",
        story: "the scheduler's resolution is a second, and nobody said so",
        by: "execution::create_execution::a delay ends at its exact millisecond",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op {
                args.delay = args.delay.map(to_whole_seconds);
            }
            op
        }),
    },
    Bug {
        name: "repeated completion counts again",
        story: "the counter is raised before the repeat is recognised; a flow of ten shows eleven completed",
        by: "execution::complete_execution::its repeat answers Completed and moves no",
        operations: &[Op::CompleteExecution],
        lie: Call(|s, op| {
            let key = format!("{op:?}");
            let repeat = s.kept().calls.contains_key(&key);
            let answer = s.call(op.clone());
            if let (Operation::CompleteExecution(args), true) = (&op, answer.is_ok()) {
                if let Some(flow) = s.execution(&args.execution_id).and_then(|x| x.record.flow_id).filter(|_| repeat) {
                    s.backend.alter_flow(&flow, |f| f.member_counts.add(PublicState::Completed));
                }
                s.kept().calls.insert(key, op);
            }
            answer
        }),
    },
    Bug {
        name: "grant survives a cancel",
        story: "cancel forgets the grant that admission gave a moment before",
        by: "execution::cancel_execution::from each of the eight non-terminal vectors",
        operations: &[Op::CancelExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CancelExecution);
            let id = args.execution_id;
            s.keeping_grant(&id, args.into())
        }),
    },
    Bug {
        name: "grant survives a block",
        story: "an operator holds a job and sees it start a second later",
        by: "execution::block_execution::it voids a live grant and the",
        operations: &[Op::BlockExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, BlockExecution);
            let id = args.execution_id;
            s.keeping_grant(&id, args.into())
        }),
    },
    Bug {
        name: "unblocking lifts every block",
        story: "one flag for all reasons: the budget's reset frees what an operator holds",
        by: "execution::unblock_execution::an operator's hold survives the unblocking of",
        operations: &[Op::UnblockExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, UnblockExecution);
            let id = args.execution_id;
            let answer = s.call(args);
            if answer.is_ok() {
                let others = s.execution(&id).map(|x| x.record.blocks.keys().copied().collect::<Vec<_>>());
                for reason in others.unwrap_or_default() {
                    let _ = s.call(UnblockExecutionArgs { execution_id: id, reason });
                }
            }
            answer
        }),
    },
    Bug {
        name: "priority order breaks at i32::MIN",
        story: "the score is `-priority`, which i32::MIN does not have",
        by: "execution::change_priority::i32::MIN and i32::MAX order correctly, and a",
        operations: &[Op::CreateExecution, Op::ChangePriority],
        lie: Asks(|_, mut op| {
            let wrapped = |priority: i32| if priority == i32::MIN { i32::MAX } else { priority };
            match &mut op {
                Operation::CreateExecution(args) => args.priority = wrapped(args.priority),
                Operation::ChangePriority(args) => args.priority = wrapped(args.priority),
                _ => {}
            }
            op
        }),
    },
    Bug {
        name: "tags half written",
        story: "refusal after a write: keys are checked one by one while they are stored",
        by: "execution::set_execution_tags::one bad key among three changes none",
        operations: &[Op::SetExecutionTags],
        lie: Call(|s, op| {
            let args = args!(s, op, SetExecutionTags);
            let answer = s.call(args.clone());
            if refused(&answer, Code::InvalidTagKey) {
                for (key, value) in &args.tags {
                    let mut one = args.clone();
                    one.tags = [(key.clone(), value.clone())].into();
                    let _ = s.call(one);
                }
            }
            answer
        }),
    },
    Bug {
        name: "progress survives a new attempt",
        story: "the retry starts at 80 per cent",
        by: "execution::update_progress::absent pct keeps 80, pct 101 is",
        operations: &[Op::UpdateProgress, Op::ClaimNext, Op::ClaimExecution, Op::ReclaimExecution],
        lie: Tells(|s, op, answer| {
            match (op, &answer) {
                (Operation::UpdateProgress(args), Ok(_)) => {
                    if let Some(progress) = s.execution(&args.execution_id).and_then(|x| x.record.progress) {
                        s.kept().progress.insert(args.execution_id, progress);
                    }
                }
                (_, Ok(Outcome::ClaimNext(result))) => {
                    for claim in &result.claimed {
                        let id = claim.claimed().execution_id;
                        let progress = s.kept().progress.get(&id).cloned();
                        s.alter(&id, |x| x.record.progress = progress);
                    }
                }
                _ => {}
            }
            answer
        }),
    },
    Bug {
        name: "any content is a repeat",
        story: "an id that exists is taken for a retry of the same creation",
        by: "execution::create_execution::the same id with one payload byte",
        operations: &[Op::CreateExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CreateExecution);
            let execution_id = args.execution_id;
            let answer = s.call(args);
            match s.execution(&execution_id) {
                Some(x) if refused(&answer, Code::ExecutionAlreadyExists) => {
                    let summary = x.summary();
                    Ok(Outcome::CreateExecution(CreateExecutionResult::AlreadyExists { execution_id, summary }))
                }
                _ => answer,
            }
        }),
    },
    Bug {
        name: "idempotency key ignores the namespace",
        story: "dedup scoped too widely: the second tenant's job is a duplicate of the first tenant's",
        by: "execution::create_execution::one key in two namespaces, or in",
        operations: &[Op::CreateExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CreateExecution);
            let key = args.idempotency_key.clone().filter(|_| args.flow.is_none());
            let known = key.as_ref().and_then(|key| s.kept().calls.get(key).cloned());
            if let Some(Operation::CreateExecution(first)) = known
                && first.namespace != args.namespace
                && let Some(x) = s.execution(&first.execution_id)
            {
                let (execution_id, summary) = (first.execution_id, x.summary());
                return Ok(Outcome::CreateExecution(CreateExecutionResult::Duplicate { execution_id, summary }));
            }
            let answer = s.call(args.clone());
            if let (Some(key), true) = (key, answer.is_ok()) {
                s.kept().calls.entry(key).or_insert(args.into());
            }
            answer
        }),
    },
    Bug {
        name: "idempotency key free at the end",
        story: "the key goes with the running job, so a late retry of the producer runs it twice",
        by: "execution::create_execution::a key is free at the end",
        operations: &[Op::CreateExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, CreateExecution);
            if let Some(key) = &args.idempotency_key {
                let holds = |x: &ff_backend_memory::model::Execution| {
                    x.record.idempotency.as_ref().is_some_and(|k| k.key == *key)
                        && x.record.namespace == args.namespace
                        && x.record.vector.is_terminal()
                        && x.record.execution_id != args.execution_id
                };
                if s.executions(args.execution_id.partition()).iter().any(holds) {
                    args.idempotency_key = None;
                }
            }
            s.call(args)
        }),
    },
    Bug {
        name: "no_retry ignored",
        story: "a permanent failure is retried until the retries are spent",
        by: "execution::fail_execution::a category outside the list, and no_retry",
        operations: &[Op::FailExecution],
        lie: Asks(|_, mut op| {
            if let Operation::FailExecution(args) = &mut op {
                args.no_retry = false;
            }
            op
        }),
    },
    Bug {
        name: "retries counted as attempts",
        story: "max_retries 2 gives two attempts instead of three",
        by: "execution::fail_execution::max_retries 2 gives three attempts, then failed",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op {
                let retry = &mut Arc::make_mut(&mut args.policy).retry;
                retry.max_retries = retry.max_retries.saturating_sub(1);
            }
            op
        }),
    },
    Bug {
        name: "stale attempt timer ends the next attempt",
        story: "the timer names the execution, not the attempt that it was armed for",
        by: "execution::expire_execution::the timeout of attempt 0 changes nothing",
        operations: &[Op::ExpireExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ExpireExecution);
            let current =
                s.execution(&args.execution_id).filter(|x| x.record.vector.is_running()).and_then(|x| x.attempt);
            if let (ExpiryTimer::AttemptTimeout { attempt_index }, Some(current)) = (&mut args.timer, current)
                && *attempt_index < current.attempt_index
            {
                *attempt_index = current.attempt_index;
                let now = s.now();
                s.alter(&args.execution_id, |x| {
                    if let Some(attempt) = &mut x.attempt {
                        attempt.attempt_deadline_at = Some(now);
                    }
                });
            }
            s.call(args)
        }),
    },
    Bug {
        name: "last wake-up lost while the parent was active",
        story: "the last child ends before the parent waits; the parent waits for a wake-up that has been",
        by: "flow::move_to_waiting_children::edges added while the parent ran and",
        operations: &[Op::MoveToWaitingChildren],
        lie: Call(|s, op| {
            let args = args!(s, op, MoveToWaitingChildren);
            let id = args.execution_id;
            let answer = s.call(args);
            let waited_for = s.member(&id).is_some_and(|member| member.incoming_count > 0);
            if let (Ok(Outcome::MoveToWaitingChildren(MoveToWaitingChildrenResult::AlreadySatisfied { .. })), true) =
                (&answer, waited_for)
            {
                s.alter(&id, |x| {
                    x.record.lease = None;
                    x.record.vector = StateVector::deps(ff_core::state::AttemptState::AttemptInterrupted);
                    if let Some(attempt) = &mut x.attempt {
                        attempt.attempt_state = AttemptLifecycle::Suspended;
                        attempt.attempt_deadline_at = None;
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "replay forgets earlier results",
        story: "the result is a field of the execution, and the new run clears it",
        by: "reads::get_result::after a replay that fails, Last is",
        operations: &[Op::ReplayExecution],
        lie: Tells(|s, op, answer| {
            if let (Operation::ReplayExecution(args), Ok(_)) = (op, &answer) {
                s.alter(&args.execution_id, |x| x.history.runs.iter_mut().for_each(|run| run.result = None));
            }
            answer
        }),
    },
    Bug {
        name: "empty result becomes none",
        story: "absent and empty are one value in the store",
        by: "reads::get_result::after a replay that fails, Last is",
        operations: &[Op::CompleteExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CompleteExecution(args) = &mut op {
                args.result = args.result.take().filter(|result| !result.is_empty());
            }
            op
        }),
    },
    Bug {
        name: "payload goes through text",
        story: "bytes are decoded as UTF-8 on the way, and what is none becomes question marks",
        by: "execution::create_execution::a payload of all 256 byte values",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op {
                args.payload = Bytes::from(String::from_utf8_lossy(&args.payload).into_owned());
            }
            op
        }),
    },
    Bug {
        name: "retry moves the deadline",
        story: "each retry gets the whole run's time again, so that a job never times out",
        by: "execution::fail_execution::a retry whose backoff outlasts the deadline",
        operations: &[Op::FailExecution],
        lie: Tells(|s, op, answer| {
            let retried = matches!(&answer, Ok(Outcome::FailExecution(FailExecutionResult::RetryScheduled { .. })));
            if let (Operation::FailExecution(args), true) = (op, retried) {
                let now = s.now();
                s.alter(&args.execution_id, |x| {
                    let whole = x.record.deadline_at.map(|at| at.since(x.record.created_at));
                    x.record.deadline_at = whole.map(|ms| now.after(ms));
                });
            }
            answer
        }),
    },
    Bug {
        name: "operator's failure is retried",
        story: "an operator fails a job for good, and the retry policy brings it back",
        by: "execution::fail_execution::an operator's failure of a running execution",
        operations: &[Op::FailExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, FailExecution);
            args.actor = with_worker(s, args.actor, &args.execution_id);
            s.call(args)
        }),
    },
    Bug {
        name: "retry rejoins at the tail",
        story: "a retried job is enqueued as if it were new, behind everything that came meanwhile",
        by: "claim::claim_next::equal priorities go by created_at whatever the",
        operations: &[Op::FailExecution],
        lie: Tells(|s, op, answer| {
            let retried = matches!(&answer, Ok(Outcome::FailExecution(FailExecutionResult::RetryScheduled { .. })));
            if let (Operation::FailExecution(args), true) = (op, retried) {
                let now = s.now();
                s.alter(&args.execution_id, |x| x.record.created_at = now);
            }
            answer
        }),
    },
    Bug {
        name: "cancel leaves a paused attempt open",
        story: "only running attempts are ended; the paused one's stream is tailed for ever",
        by: "execution::cancel_execution::a paused attempt becomes ended_cancelled and its",
        operations: &[Op::CancelExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CancelExecution);
            let id = args.execution_id;
            let paused = |x: &ff_backend_memory::model::Execution| {
                x.attempt.as_ref().is_some_and(|a| a.attempt_state == AttemptLifecycle::Suspended)
            };
            let was_paused = s.execution(&id).is_some_and(|x| paused(&x));
            let answer = s.call(args);
            if answer.is_ok() && was_paused {
                s.alter(&id, |x| {
                    if let Some(attempt) = &mut x.attempt {
                        attempt.attempt_state = AttemptLifecycle::Suspended;
                        attempt.ended = None;
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "one lost lease too many",
        story: "`<=` where `<` was meant: max_reclaims 1 survives two losses",
        by: "claim::issue_reclaim_grant::at the cap a capable worker gets",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op {
                let policy = Arc::make_mut(&mut args.policy);
                policy.max_reclaims = policy.max_reclaims.saturating_add(1).min(1_000_000);
            }
            op
        }),
    },
    Bug {
        name: "completion acknowledged and lost",
        story: "the answer goes out before the commit, and the commit fails",
        by: "execution::complete_execution::its repeat answers Completed and moves no",
        operations: &[Op::CompleteExecution],
        lie: Call(|s, op| s.pretend(&op)),
    },
    Bug {
        name: "cancel forgets the retention",
        story: "cancelled jobs have no time to live, and fill the store over the years",
        by: "execution::cancel_execution::from each of the eight non-terminal vectors",
        operations: &[Op::CancelExecution],
        lie: Tells(|s, op, answer| {
            if let (Operation::CancelExecution(args), Ok(_)) = (op, &answer) {
                s.alter(&args.execution_id, |x| x.record.purge_at = None);
            }
            answer
        }),
    },
];
