//! Domain flow: `flow.md`, section 4. Words, records and the rules between them stand in sections 1 to 3; what an end,
//! a cancellation or a seal means for others is in `cascade.rs`.

mod edges;
pub(crate) mod join;
mod lifecycle;
mod reads;
mod submit;
#[cfg(test)]
mod tests;

pub use edges::{
    apply_dependency_to_child, evaluate_flow_eligibility, promote_blocked_to_eligible, resolve_dependency,
    stage_dependency_edge,
};
pub use lifecycle::{add_execution_to_flow, cancel_flow, create_flow, seal_flow, set_flow_tags};
pub use reads::{describe_edge, describe_flow, list_edges, list_flow_members};
pub use submit::submit_flow;

use ff_core::contracts::PublicFlowState;
use ff_core::error::EngineError;
use ff_core::ids::FlowId;
use ff_core::records::FlowRecord;
use ff_core::refusal::Refusal;

use crate::model::{Graph, Partition};

/// The refusal of a call that a closed or frozen flow no longer takes.
pub(crate) fn already_terminal(flow: &FlowRecord) -> Refusal {
    Refusal::flow_already_terminal(Some(PublicFlowState::of(flow)), flow.cancelled.as_ref().map(|c| c.policy))
}

/// The flow, if it still takes members and edges.
fn open_to_structure(flow: &FlowRecord) -> Result<(), Refusal> {
    if flow.is_closed() {
        return Err(already_terminal(flow));
    }
    if flow.sealed {
        return Err(Refusal::flow_sealed());
    }
    Ok(())
}

/// The flow's record and graph.
fn find<'a>(p: &'a Partition, id: &FlowId) -> Result<(&'a FlowRecord, &'a Graph), EngineError> {
    let flow = p.find_flow(id)?;
    // A flow has its graph from its creation to the end of its purge.
    let graph = p.graph(id.uuid()).ok_or_else(Refusal::flow_not_found)?;
    Ok((flow, graph))
}
