//! Endings: complete, fail, cancel, expire (`execution.md` 4.2 to 4.5).

use ff_core::contracts::{
    CancelExecutionArgs, CancelExecutionResult, CompleteExecutionArgs, CompleteExecutionResult, EndedBy,
    ExpireExecutionArgs, ExpireExecutionResult, ExpiryTimer, FailExecutionArgs, FailExecutionResult, NotDueCause,
};
use ff_core::error::EngineError;
use ff_core::records::{LastAnswer, LastOperation};
use ff_core::state::{EndCause, TerminalOutcome};
use ff_core::time::TimestampMs;

use super::{check_actor, ended_by, first_answer, remember};
use crate::cascade::{self, Call};
use crate::model::{Execution, Partition};
use crate::routines::{End, Failure, fail_attempt, terminate};

/// Ends an execution with success.
///
/// # Errors
/// The fence check; `execution_terminal` to an operator.
pub fn complete_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &CompleteExecutionArgs,
) -> Result<CompleteExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    if first_answer(x, LastOperation::CompleteExecution, &args.actor, digest).is_some() {
        return Ok(CompleteExecutionResult::Completed { summary: x.summary() });
    }
    check_actor(x, &args.actor, now)?;

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let run = x.record.replay_count;
    let end = End {
        result: args.result.clone(),
        result_encoding: args.result_encoding.clone(),
        ..End::of(TerminalOutcome::Success, EndCause::Completed, ended_by(&x, &args.actor))
    };
    terminate(p, &mut call, &mut x, end);
    remember(&mut x, LastOperation::CompleteExecution, &args.actor, digest, run, LastAnswer::Completed);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(CompleteExecutionResult::Completed { summary })
}

/// Ends an attempt with failure: in a retry, or for good.
///
/// # Errors
/// The fence check; `execution_terminal` to an operator.
pub fn fail_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &FailExecutionArgs,
) -> Result<FailExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    if let Some(answer) = first_answer(x, LastOperation::FailExecution, &args.actor, digest) {
        return Ok(fail_answer(answer, x));
    }
    check_actor(x, &args.actor, now)?;

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let run = x.record.replay_count;
    let failure = Failure {
        cause: EndCause::Failed,
        by: ended_by(&x, &args.actor),
        reason: Some(args.reason.clone()),
        category: args.category.clone(),
        may_retry: args.actor.fence().is_some() && !args.no_retry,
    };
    let answer = match fail_attempt(p, &mut call, &mut x, failure) {
        Some(retry_at) => LastAnswer::RetryScheduled { retry_at },
        None => LastAnswer::Ended,
    };
    remember(&mut x, LastOperation::FailExecution, &args.actor, digest, run, answer);
    let result = fail_answer(answer, &x);
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(result)
}

fn fail_answer(answer: LastAnswer, x: &Execution) -> FailExecutionResult {
    let summary = x.summary();
    match answer {
        LastAnswer::RetryScheduled { retry_at } => FailExecutionResult::RetryScheduled { retry_at, summary },
        _ => FailExecutionResult::Ended { summary },
    }
}

/// Ends an execution as cancelled.
///
/// # Errors
/// The fence check; `execution_terminal` to an operator.
pub fn cancel_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &CancelExecutionArgs,
) -> Result<CancelExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    if let Some(LastAnswer::Cancelled { from }) = first_answer(x, LastOperation::CancelExecution, &args.actor, digest) {
        return Ok(CancelExecutionResult::Cancelled { from, summary: x.summary() });
    }
    check_actor(x, &args.actor, now)?;

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let run = x.record.replay_count;
    let from = x.record.vector.lifecycle_phase;
    let end = End {
        cancel_reason: Some(args.reason.clone()),
        ..End::of(TerminalOutcome::Cancelled, EndCause::Cancelled, ended_by(&x, &args.actor))
    };
    terminate(p, &mut call, &mut x, end);
    remember(&mut x, LastOperation::CancelExecution, &args.actor, digest, run, LastAnswer::Cancelled { from });
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(CancelExecutionResult::Cancelled { from, summary })
}

/// Fires an attempt timeout or a deadline, if it is due.
///
/// # Errors
/// `execution_not_found`.
pub fn expire_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ExpireExecutionArgs,
) -> Result<ExpireExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let (stale, due_at) = match args.timer {
        ExpiryTimer::AttemptTimeout { attempt_index } => (
            x.record.current_attempt_index() != Some(attempt_index),
            x.attempt.as_ref().and_then(|a| a.attempt_deadline_at).filter(|_| x.record.vector.is_running()),
        ),
        ExpiryTimer::Deadline => (false, x.record.deadline_at),
    };
    let cause = match due_at {
        _ if x.record.vector.is_terminal() => Some(NotDueCause::Terminal),
        _ if stale => Some(NotDueCause::Stale),
        None => Some(NotDueCause::NotArmed),
        Some(at) if at > now => Some(NotDueCause::Early),
        Some(_) => None,
    };
    if let Some(cause) = cause {
        return Ok(ExpireExecutionResult::NotDue { cause, summary: x.summary() });
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let retry_at = match args.timer {
        ExpiryTimer::AttemptTimeout { .. } => fire_attempt_timeout(p, &mut call, &mut x),
        ExpiryTimer::Deadline => {
            fire_deadline(p, &mut call, &mut x);
            None
        }
    };
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(match retry_at {
        Some(retry_at) => ExpireExecutionResult::RetryScheduled { retry_at, summary },
        None => ExpireExecutionResult::Ended { summary },
    })
}

/// The attempt's time is over: a failure of category `timeout`.
pub(crate) fn fire_attempt_timeout(p: &mut Partition, call: &mut Call, x: &mut Execution) -> Option<TimestampMs> {
    let failure = Failure {
        cause: EndCause::AttemptTimeout,
        by: EndedBy::Engine,
        reason: None,
        category: "timeout".to_owned(),
        may_retry: true,
    };
    fail_attempt(p, call, x, failure)
}

/// The run's time is over.
pub(crate) fn fire_deadline(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    terminate(p, call, x, End::of(TerminalOutcome::Expired, EndCause::DeadlinePassed, EndedBy::Engine));
}
