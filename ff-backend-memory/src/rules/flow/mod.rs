//! Domain flow: `flow.md`, section 4.

pub(crate) mod join;

use ff_core::contracts::FlowSnapshot;
use ff_core::records::FlowRecord;
use ff_core::refusal::Refusal;

/// The refusal of a call that a closed or frozen flow no longer takes.
pub(crate) fn already_terminal(flow: &FlowRecord) -> Refusal {
    let state = FlowSnapshot::of(flow).public_flow_state;
    Refusal::flow_already_terminal(Some(state), flow.cancelled.as_ref().map(|c| c.policy))
}
