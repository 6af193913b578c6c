//! The end of a suspension's time.

use ff_core::contracts::{
    EndedBy, ExpireSuspensionArgs, ExpireSuspensionResult, NotDueCause, SuspensionCloseReason, TimeoutBehavior,
    WaitpointCloseReason, WaitpointState,
};
use ff_core::error::EngineError;
use ff_core::state::{BlockingReason, EndCause, StateVector, TerminalOutcome};
use ff_core::time::TimestampMs;

use crate::cascade::{self, Call};
use crate::model::{Execution, Partition};
use crate::routines::{End, close_suspension, end_if_covered, set_vector, terminate, touch, wake};

/// Applies the timeout of a suspension, if it is due.
///
/// # Errors
/// `execution_not_found`.
pub fn expire_suspension(
    p: &mut Partition,
    now: TimestampMs,
    args: &ExpireSuspensionArgs,
) -> Result<ExpireSuspensionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let open = x.open_suspension().filter(|s| s.suspension_id == args.suspension_id);
    let due = match (open, open.and_then(|s| s.timeout_at)) {
        _ if x.record.vector.is_terminal() => Err(NotDueCause::Terminal),
        (None, _) => Err(NotDueCause::Stale),
        (Some(_), None) => Err(NotDueCause::NotArmed),
        (Some(_), Some(at)) if at > now => Err(NotDueCause::Early),
        (Some(s), Some(_)) => Ok(s.timeout_behavior.unwrap_or_default()),
    };
    let behavior = match due {
        Ok(behavior) => behavior,
        Err(cause) => return Ok(ExpireSuspensionResult::NotDue { cause, summary: x.summary() }),
    };

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    fire_suspension_timeout(p, &mut call, &mut x);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(ExpireSuspensionResult::Expired { behavior, summary })
}

/// Records the timeout signal of a due suspension and does what its behaviour says.
pub(crate) fn fire_suspension_timeout(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    let now = call.now;
    let seq = x.record.next_signal_seq;
    let Some(s) = x.open_suspension() else { return };
    let behavior = s.timeout_behavior.unwrap_or_default();
    let signal = s.timeout_signal(seq, now);
    x.history.signals.insert(seq, signal);
    x.record.next_signal_seq += 1;
    let (reason, outcome) = match behavior {
        TimeoutBehavior::Fail => (SuspensionCloseReason::TimedOutFail, TerminalOutcome::Failed),
        TimeoutBehavior::Cancel => (SuspensionCloseReason::TimedOutCancel, TerminalOutcome::Cancelled),
        TimeoutBehavior::Expire => (SuspensionCloseReason::TimedOutExpire, TerminalOutcome::Expired),
        TimeoutBehavior::AutoResume => {
            wake(p, call, x, SuspensionCloseReason::TimedOutAutoResume, None);
            return;
        }
        TimeoutBehavior::Escalate { fail_after_ms } => {
            x.close_waitpoints(WaitpointState::Active, WaitpointCloseReason::TimedOut, now);
            if let Some(s) = &mut x.suspension {
                s.escalated_at = Some(now);
                s.timeout_at = fail_after_ms.map(|ms| now.after(ms));
                s.timeout_behavior = fail_after_ms.map(|_| TimeoutBehavior::Fail);
            }
            set_vector(x, StateVector::suspended(BlockingReason::PausedByOperator), now);
            touch(x, now);
            end_if_covered(p, call, x);
            return;
        }
    };
    close_suspension(x, reason, WaitpointCloseReason::TimedOut, now, None);
    terminate(p, call, x, End::of(outcome, EndCause::SuspensionTimeout, EndedBy::Engine));
}
