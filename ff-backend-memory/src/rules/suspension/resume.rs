//! `resume_execution`: an operator's word ends a suspension.

use ff_core::contracts::{ResumeExecutionArgs, ResumeExecutionResult, SuspensionCloseReason};
use ff_core::error::EngineError;
use ff_core::records::{OperatorResume, SuspensionRecord};
use ff_core::refusal::Refusal;
use ff_core::state::LifecyclePhase;
use ff_core::time::TimestampMs;

use crate::cascade::{self, Call};
use crate::model::Partition;
use crate::routines::wake;

/// Ends the open suspension; the condition is not asked.
///
/// # Errors
/// `execution_not_found`, `execution_not_suspended`, `stale_suspension`, `operator_override_forbidden`,
/// `suspension_timed_out`.
pub fn resume_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ResumeExecutionArgs,
) -> Result<ResumeExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    if let Some(s) = x.suspension.as_deref().filter(|s| repeats(s, args)) {
        return Ok(ResumeExecutionResult::Resumed { suspension_id: s.suspension_id, summary: x.summary() });
    }
    let phase = x.record.vector.lifecycle_phase;
    // A suspended execution has an open suspension.
    let open = x.open_suspension().filter(|_| phase == LifecyclePhase::Suspended);
    let s = open.ok_or_else(|| Refusal::execution_not_suspended(phase))?;
    let suspension_id = s.suspension_id;
    if args.suspension_id.is_some_and(|named| named != suspension_id) {
        return Err(Refusal::stale_suspension(Some(suspension_id)).into());
    }
    if !s.resume_policy.allow_operator_override {
        return Err(Refusal::operator_override_forbidden().into());
    }
    if s.is_timed_out(now) {
        return Err(Refusal::suspension_timed_out().into());
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let operator = OperatorResume { by: args.by.clone(), reason: args.reason.clone() };
    wake(p, &mut call, &mut x, SuspensionCloseReason::OperatorResume, Some(operator));
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(ResumeExecutionResult::Resumed { suspension_id, summary })
}

/// Whether the call is the one that ended this suspension.
fn repeats(s: &SuspensionRecord, args: &ResumeExecutionArgs) -> bool {
    args.suspension_id == Some(s.suspension_id)
        && s.close_reason == Some(SuspensionCloseReason::OperatorResume)
        && s.operator.as_ref().is_some_and(|o| o.by == args.by && o.reason == args.reason)
}
