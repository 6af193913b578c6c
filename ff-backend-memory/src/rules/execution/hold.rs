//! What holds an execution back: delays, waiting for children, blocks (`execution.md` 4.6, 4.7, 4.12, 4.13).

use ff_core::contracts::{
    Actor, BlockExecutionArgs, BlockExecutionResult, DelayExecutionArgs, DelayExecutionResult,
    MoveToWaitingChildrenArgs, MoveToWaitingChildrenResult, NotEligibleCause, UnblockExecutionArgs,
    UnblockExecutionResult,
};
use ff_core::error::EngineError;
use ff_core::records::{Block, LastAnswer, LastOperation, NotBefore, PauseKind};
use ff_core::refusal::Refusal;
use ff_core::state::{AttemptState, BlockReason, NotBeforeKind};
use ff_core::time::{TimestampMs, When};

use super::{check_actor, check_not_terminal, first_answer, remember, worker};
use crate::cascade::{self, Call};
use crate::model::{Execution, Partition};
use crate::routines::{become_runnable, check_fence, gate, pause, touch};

/// Sets the earliest instant of the next claim; a running attempt pauses.
///
/// # Errors
/// The fence check; `execution_terminal` to an operator.
pub fn delay_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &DelayExecutionArgs,
) -> Result<DelayExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    if matches!(args.actor, Actor::Worker(_))
        && let Some(LastAnswer::Delayed { until }) = first_answer(x, LastOperation::DelayExecution, &args.actor, digest)
    {
        return Ok(DelayExecutionResult::Delayed { until, summary: x.summary() });
    }
    check_actor(x, &args.actor, now)?;

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let run = x.record.replay_count;
    let until = args.until.resolve(now);
    let not_before = (until > now).then_some(NotBefore { at: until, kind: NotBeforeKind::Delay });
    if not_before.is_some() && x.record.not_before != not_before {
        x.record.grant = None;
    }
    x.record.not_before = not_before;
    touch(&mut x, now);
    if x.record.vector.is_running() {
        pause(&mut x, PauseKind::Delay, now);
        become_runnable(p, &mut call, &mut x, AttemptState::AttemptInterrupted);
    } else {
        gate(p, &mut call, &mut x);
    }
    if matches!(args.actor, Actor::Worker(_)) {
        remember(&mut x, LastOperation::DelayExecution, &args.actor, digest, run, LastAnswer::Delayed { until });
    }
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(DelayExecutionResult::Delayed { until, summary })
}

/// Parks a running member until its incoming edges are resolved.
///
/// # Errors
/// The fence check.
pub fn move_to_waiting_children(
    p: &mut Partition,
    now: TimestampMs,
    args: &MoveToWaitingChildrenArgs,
) -> Result<MoveToWaitingChildrenResult, EngineError> {
    let digest = args.digest();
    let actor = worker(args.fence);
    let x = p.find(&args.execution_id)?;
    if let Some(LastAnswer::Moved { unresolved_count, impossible_count }) =
        first_answer(x, LastOperation::MoveToWaitingChildren, &actor, digest)
    {
        let summary = x.summary();
        return Ok(MoveToWaitingChildrenResult::Moved { unresolved_count, impossible_count, summary });
    }
    check_fence(x, &args.fence, now)?;
    let (unresolved_count, impossible_count) = p.member(x).map_or((0, 0), |m| (m.unresolved_count, m.impossible_count));
    if unresolved_count == 0 {
        return Ok(MoveToWaitingChildrenResult::AlreadySatisfied { impossible_count, summary: x.summary() });
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let run = x.record.replay_count;
    pause(&mut x, PauseKind::Children, now);
    become_runnable(p, &mut call, &mut x, AttemptState::AttemptInterrupted);
    let answer = LastAnswer::Moved { unresolved_count, impossible_count };
    remember(&mut x, LastOperation::MoveToWaitingChildren, &actor, digest, run, answer);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(MoveToWaitingChildrenResult::Moved { unresolved_count, impossible_count, summary })
}

/// Holds an execution back for a reason.
///
/// # Errors
/// `execution_terminal`; `execution_not_eligible` while it is RUNNING or suspended.
pub fn block_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &BlockExecutionArgs,
) -> Result<BlockExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    check_not_terminal(x)?;
    let vector = x.record.vector;
    if !vector.is_runnable() && !vector.is_reclaimable() {
        return Err(Refusal::execution_not_eligible(vector, NotEligibleCause::NotRunnable).into());
    }
    let until = args.until.or_else(|| args.reason.default_until_ms().map(When::After)).map(|when| when.resolve(now));
    if until.is_some_and(|at| at <= now) {
        let (_, summary) = unblock(p, now, args.execution_id.uuid(), args.reason)?;
        return Ok(BlockExecutionResult::NotBlocked { summary });
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let blocked_at = x.record.blocks.get(&args.reason).map_or(now, |block| block.blocked_at);
    let block = Block { detail: args.detail.clone(), until, by: args.by.clone(), blocked_at };
    x.record.blocks.insert(args.reason, block);
    x.record.grant = None;
    touch(&mut x, now);
    gate(p, &mut call, &mut x);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(BlockExecutionResult::Blocked { summary })
}

/// Takes one reason away.
///
/// # Errors
/// `execution_not_found`.
pub fn unblock_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &UnblockExecutionArgs,
) -> Result<UnblockExecutionResult, EngineError> {
    p.find(&args.execution_id)?;
    let (was_blocked, summary) = unblock(p, now, args.execution_id.uuid(), args.reason)?;
    Ok(if was_blocked {
        UnblockExecutionResult::Unblocked { summary }
    } else {
        UnblockExecutionResult::NotBlocked { summary }
    })
}

fn unblock(
    p: &mut Partition,
    now: TimestampMs,
    uuid: uuid::Uuid,
    reason: BlockReason,
) -> Result<(bool, ff_core::state::StateSummary), EngineError> {
    let known = p.get(uuid)?.ok_or_else(Refusal::execution_not_found)?;
    if !known.record.blocks.contains_key(&reason) {
        return Ok((false, known.summary()));
    }
    let mut call = Call::new(now);
    let mut x = p.take(uuid)?;
    fire_block_until(p, &mut call, &mut x, reason);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok((true, summary))
}

/// A block is over.
pub(crate) fn fire_block_until(p: &mut Partition, call: &mut Call, x: &mut Execution, reason: BlockReason) {
    x.record.blocks.remove(&reason);
    touch(x, call.now);
    gate(p, call, x);
}

/// A delay is over.
pub(crate) fn fire_delay(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    x.record.not_before = None;
    touch(x, call.now);
    gate(p, call, x);
}
