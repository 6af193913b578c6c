//! The end of a suspension's time.

use ff_core::contracts::{EndedBy, SuspensionCloseReason, TimeoutBehavior, WaitpointCloseReason, WaitpointState};
use ff_core::state::{BlockingReason, EndCause, StateVector, TerminalOutcome};

use crate::cascade::Call;
use crate::model::{Execution, Partition};
use crate::routines::{End, close_suspension, end_if_covered, set_vector, terminate, touch, wake};

/// What the behaviour of a due suspension timeout says.
pub(crate) fn fire_suspension_timeout(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    let now = call.now;
    let behavior = x.suspension.as_ref().and_then(|s| s.timeout_behavior).unwrap_or_default();
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
