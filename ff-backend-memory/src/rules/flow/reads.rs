//! Reads of flows: snapshots made of records, and lists by page.

use ff_core::contracts::{
    DescribeEdgeArgs, DescribeFlowArgs, EdgeDirection, EdgeSnapshot, FlowMember, FlowSnapshot, Join, ListEdgesArgs,
    ListEdgesResult, ListFlowMembersArgs, ListFlowMembersResult,
};
use ff_core::error::EngineError;
use ff_core::ids::ExecutionId;
use ff_core::records::{EdgeRecord, FlowRecord};
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::find;
use crate::model::{Graph, Partition};

/// Shows a flow.
///
/// # Errors
/// `flow_not_found`.
pub fn describe_flow(p: &Partition, _now: TimestampMs, args: &DescribeFlowArgs) -> Result<FlowSnapshot, EngineError> {
    Ok(FlowSnapshot::of(p.find_flow(&args.flow_id)?))
}

/// Shows an edge.
///
/// # Errors
/// `flow_not_found`, `edge_not_found`.
pub fn describe_edge(p: &Partition, _now: TimestampMs, args: &DescribeEdgeArgs) -> Result<EdgeSnapshot, EngineError> {
    let (flow, graph) = find(p, &args.flow_id)?;
    let edge = graph.edges.get(&args.edge_id).ok_or_else(|| Refusal::edge_not_found(args.edge_id))?;
    snapshot(p, flow, graph, edge)
}

fn snapshot(p: &Partition, flow: &FlowRecord, graph: &Graph, edge: &EdgeRecord) -> Result<EdgeSnapshot, EngineError> {
    let upstream_run = p.find(&edge.upstream_execution_id)?.record.replay_count;
    let join = graph.members.get(&edge.downstream_execution_id.uuid()).map_or(Join::All, |m| m.join);
    Ok(EdgeSnapshot::of(edge, flow.is_frozen(), upstream_run, join))
}

/// Lists the edges that end at a member, or those that start at it. A cursor is the last seq of the page.
///
/// # Errors
/// `invalid_input` for a cursor that is none; `flow_not_found`, `execution_not_in_flow`.
pub fn list_edges(p: &Partition, _now: TimestampMs, args: &ListEdgesArgs) -> Result<ListEdgesResult, EngineError> {
    let after = match args.cursor.as_deref() {
        None => 0,
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|seq| seq.to_string() == text)
            .ok_or_else(|| Refusal::invalid_input("cursor"))?,
    };
    let (flow, graph) = find(p, &args.flow_id)?;
    let node = args.direction.node();
    if !graph.members.contains_key(&node.uuid()) {
        return Err(Refusal::execution_not_in_flow(node).into());
    }
    // One more than the page tells whether anything follows.
    let wanted = args.limit as usize + 1;
    let page: Vec<&EdgeRecord> = match args.direction {
        EdgeDirection::Incoming { .. } => graph.incoming_after(node.uuid(), after).take(wanted).collect(),
        EdgeDirection::Outgoing { .. } => graph.outgoing_after(node.uuid(), after).take(wanted).collect(),
    };
    let more = page.len() == wanted;
    let page = page.get(..args.limit as usize).unwrap_or(&page);
    let next_cursor = page.last().filter(|_| more).map(|edge| edge.seq.to_string());
    let edges = page.iter().map(|edge| snapshot(p, flow, graph, edge)).collect::<Result<_, _>>()?;
    Ok(ListEdgesResult { edges, next_cursor })
}

/// Lists a flow's members. A cursor is the last execution id of the page.
///
/// # Errors
/// `invalid_input` for a cursor that is none; `flow_not_found`.
pub fn list_flow_members(
    p: &Partition,
    _now: TimestampMs,
    args: &ListFlowMembersArgs,
) -> Result<ListFlowMembersResult, EngineError> {
    use std::ops::Bound;
    let after = match args.cursor.as_deref() {
        None => Bound::Unbounded,
        Some(text) => text
            .parse::<ExecutionId>()
            .ok()
            .filter(|id| id.partition() == args.flow_id.partition())
            .map(|id| Bound::Excluded(id.uuid()))
            .ok_or_else(|| Refusal::invalid_input("cursor"))?,
    };
    let (_, graph) = find(p, &args.flow_id)?;
    let mut rest = graph.members.range((after, Bound::Unbounded)).map(|(_, member)| member);
    let members = rest
        .by_ref()
        .take(args.limit as usize)
        .map(|member| Ok(FlowMember::of(member, p.find(&member.execution_id)?.summary())))
        .collect::<Result<Vec<_>, EngineError>>()?;
    let more = rest.next().is_some();
    let next_cursor = members.last().filter(|_| more).map(|member| member.execution_id.to_string());
    Ok(ListFlowMembersResult { members, next_cursor })
}
