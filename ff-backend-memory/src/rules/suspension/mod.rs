//! Domain suspension: `suspension.md`, section 4.

mod timeout;

pub(crate) use timeout::fire_suspension_timeout;

use ff_core::contracts::ResumeInfo;
use ff_core::records::SuspensionRecord;

use crate::model::Execution;

/// What a claim that continues a suspended attempt is told.
pub(crate) fn resume_info(x: &Execution, s: &SuspensionRecord) -> Option<ResumeInfo> {
    ResumeInfo::of(s, x.history.signals.values())
}
