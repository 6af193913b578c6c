//! Domain suspension: `suspension.md`, section 4.

mod resume;
mod suspend;
mod timeout;
mod waitpoint;

#[cfg(test)]
mod tests;

pub use resume::resume_execution;
pub use suspend::suspend_execution;
pub use timeout::expire_suspension;
pub(crate) use timeout::fire_suspension_timeout;
pub use waitpoint::{close_waitpoint, create_pending_waitpoint, list_pending_waitpoints};

use ff_core::condition::{Evaluator, SignalView};
use ff_core::contracts::{ResumeInfo, WaitpointState};
use ff_core::records::{SuspensionRecord, WaitpointRecord};
use ff_core::time::TimestampMs;

use crate::model::Execution;

/// What a claim that continues a suspended attempt is told.
pub(crate) fn resume_info(x: &Execution, s: &SuspensionRecord) -> Option<ResumeInfo> {
    ResumeInfo::of(s, x.history.signals.values())
}

/// The suspension's condition as its recorded signals have left it.
///
/// Only signals that contributed have changed anything, and their effects say which they were: noise is passed over.
pub(crate) fn judge<'x>(x: &'x Execution, s: &'x SuspensionRecord) -> Evaluator<'x> {
    let mut evaluator = Evaluator::new(&s.condition, &s.waitpoint_ids);
    for signal in x.history.signals.values().filter(|signal| signal.effect.is_match() && s.has(signal)) {
        if let Some(view) = SignalView::of(signal) {
            evaluator.push(&view);
        }
    }
    evaluator
}

/// The state of a waitpoint as of the clock: one that is not open is closed, swept or not.
fn state_at(x: &Execution, waitpoint: &WaitpointRecord, now: TimestampMs) -> WaitpointState {
    match waitpoint.closed_as(x.open_suspension(), now) {
        Some(_) => WaitpointState::Closed,
        None => waitpoint.state,
    }
}
