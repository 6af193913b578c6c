//! Domain suspension: `suspension.md`, section 4.

mod timeout;

pub(crate) use timeout::fire_suspension_timeout;

use ff_core::contracts::{MatchedSignals, ResumeInfo, ResumeTrigger, SuspensionCloseReason};
use ff_core::records::SuspensionRecord;

use crate::model::Execution;

/// What a claim that continues a suspended attempt is told.
pub(crate) fn resume_info(x: &Execution, s: &SuspensionRecord) -> Option<ResumeInfo> {
    let _ = x;
    let trigger = match s.close_reason? {
        SuspensionCloseReason::OperatorResume => ResumeTrigger::Operator,
        SuspensionCloseReason::TimedOutAutoResume => ResumeTrigger::Timeout,
        _ => ResumeTrigger::Signal,
    };
    Some(ResumeInfo {
        suspension_id: s.suspension_id,
        trigger,
        operator: s.operator.clone(),
        continuation: s.continuation.clone(),
        matched: MatchedSignals::default(),
    })
}
