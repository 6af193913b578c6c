//! Submitting a flow: at once, or piece by piece when it is too large for one call.

use std::collections::BTreeMap;

use ff_core::contracts::{
    CreateFlowArgs, FlowEdgeSpec, FlowJoin, FlowMemberSpec, IncomingEdge, PromoteBlockedToEligibleArgs, SealFlowArgs,
    StageDependencyEdgeArgs, SubmitFlowArgs,
};
use ff_core::ids::{DataName, ExecutionId, FlowId};
use ff_core::operation::Operation;
use ff_core::time::When;

use super::{FlowBuilder, FlowHandle, Node};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::repeat::{BATCH, call, in_order};

pub(super) async fn submit(builder: FlowBuilder) -> Result<FlowHandle> {
    let FlowBuilder { engine, id, kind, tags, open, draft } = builder;
    let nodes = std::mem::take(&mut draft.lock().nodes);
    if nodes.is_empty() {
        return Err(Error::Setup("a flow has at least one task".into()));
    }
    let flow_id = id.unwrap_or_else(|| FlowId::new(engine.backend().deployment().partitions));
    let mut nodes = nodes;
    if let Some(mistake) = nodes.iter_mut().find_map(|node| node.options.mistake.take()) {
        return Err(mistake);
    }
    let names: Vec<DataName> = nodes.iter().map(|n| DataName::new(&n.name)).collect::<Result<_, _>>()?;
    let ids: Vec<ExecutionId> =
        names.iter().enumerate().map(|(i, name)| FlowMemberSpec::derived_id(&flow_id, i, name)).collect();
    let members: BTreeMap<String, ExecutionId> =
        nodes.iter().map(|n| n.name.clone()).zip(ids.iter().copied()).collect();
    let timers: Vec<When> = nodes.iter().flat_map(|node| node.options.timers()).collect();
    let edges: usize = nodes.iter().map(|n| n.upstreams.len()).sum();
    let bytes: u64 = nodes.iter().map(|n| n.payload.len() as u64).sum();
    let at_once = !open
        && nodes.len() <= SubmitFlowArgs::MAX_MEMBERS
        && edges <= SubmitFlowArgs::MAX_EDGES
        && bytes <= SubmitFlowArgs::MAX_PAYLOAD_BYTES;
    let created = if at_once {
        let args = whole(&engine, flow_id, kind, tags, nodes, &names, &ids);
        call!(engine, submit_flow(args)).map(drop).map_err(Error::from)
    } else {
        let operations = pieces(&engine, flow_id, nodes, &names, &ids, !open)?;
        piece_by_piece(&engine, flow_id, kind, tags, operations, !open).await
    };
    engine.agenda().armed_when(flow_id.partition(), timers);
    created?;
    Ok(FlowHandle::new(engine, flow_id, members))
}

/// Creates the flow, then these, then seals it.
async fn piece_by_piece(
    engine: &Engine,
    flow_id: FlowId,
    kind: String,
    tags: BTreeMap<String, String>,
    operations: Vec<Operation>,
    seal: bool,
) -> Result<()> {
    let args = CreateFlowArgs::builder()
        .flow_id(flow_id)
        .namespace(engine.namespace().clone())
        .flow_kind(kind)
        .tags(tags)
        .build();
    call!(engine, create_flow(args))?;
    for batch in operations.chunks(BATCH) {
        in_order(engine, batch).await?;
    }
    if seal {
        call!(engine, seal_flow(SealFlowArgs::builder().flow_id(flow_id).build()))?;
    }
    Ok(())
}

fn whole(
    engine: &Engine,
    flow_id: FlowId,
    kind: String,
    tags: BTreeMap<String, String>,
    nodes: Vec<Node>,
    names: &[DataName],
    ids: &[ExecutionId],
) -> SubmitFlowArgs {
    let (mut members, mut edges) = (Vec::with_capacity(nodes.len()), Vec::new());
    for ((node, name), id) in nodes.into_iter().zip(names).zip(ids) {
        for (upstream, edge) in &node.upstreams {
            // Positions come from this list.
            let Some(from) = names.get(*upstream) else { continue };
            edges.push(
                FlowEdgeSpec::builder()
                    .from(from.clone())
                    .to(name.clone())
                    .dependency_kind(edge.kind)
                    .maybe_data_passing_ref(edge.data.clone())
                    .build(),
            );
        }
        let lane = engine.default_lane();
        members.push(node.options.into_member(engine, *id, name.clone(), lane, node.kind, node.payload));
    }
    SubmitFlowArgs::builder()
        .flow_id(flow_id)
        .namespace(engine.namespace().clone())
        .flow_kind(kind)
        .tags(tags)
        .members(members)
        .edges(edges)
        .build()
}

/// The creations of the members, each after its upstreams, held; edges that do not fit into a creation come as stages
/// right behind it. Ids derive from the flow's, so that the same flow built again makes the same calls.
fn pieces(
    engine: &Engine,
    flow_id: FlowId,
    nodes: Vec<Node>,
    names: &[DataName],
    ids: &[ExecutionId],
    hold: bool,
) -> Result<Vec<Operation>> {
    let order = upstreams_first(&nodes)?;
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let (mut operations, mut edges_so_far) = (Vec::with_capacity(nodes.len()), 0_usize);
    for position in order {
        let (Some(node), Some(name), Some(id)) =
            (nodes.get_mut(position).and_then(Option::take), names.get(position), ids.get(position))
        else {
            continue;
        };
        let (mut join, mut stages) = (FlowJoin::held(flow_id), Vec::new());
        // A member whose edges do not all come with it must not start before they are there.
        join.hold = hold || node.upstreams.len() > FlowJoin::MAX_EDGES;
        for (upstream, edge) in node.upstreams {
            let (Some(from), Some(upstream_id)) = (names.get(upstream), ids.get(upstream)) else { continue };
            let edge_id = FlowEdgeSpec::derived_id(&flow_id, edges_so_far, from, name);
            edges_so_far += 1;
            if join.edges.len() < FlowJoin::MAX_EDGES {
                let mut incoming = IncomingEdge::new(edge_id, *upstream_id);
                incoming.dependency_kind = edge.kind;
                incoming.data_passing_ref = edge.data;
                join.edges.push(incoming);
            } else {
                let stage = StageDependencyEdgeArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(edge_id)
                    .upstream_execution_id(*upstream_id)
                    .downstream_execution_id(*id)
                    .dependency_kind(edge.kind)
                    .maybe_data_passing_ref(edge.data)
                    .build();
                stages.push(Operation::StageDependencyEdge(stage));
            }
        }
        let lane = engine.default_lane();
        let member = node.options.into_member(engine, *id, name.clone(), lane, node.kind, node.payload);
        let mut create = member.to_creation(engine.namespace(), flow_id, join.hold);
        create.flow = Some(join);
        operations.push(Operation::CreateExecution(create));
        let promote = !hold && !stages.is_empty();
        operations.append(&mut stages);
        if promote {
            operations.push(Operation::PromoteBlockedToEligible(PromoteBlockedToEligibleArgs { execution_id: *id }));
        }
    }
    Ok(operations)
}

/// Positions such that every node comes after its upstreams, otherwise in list order.
fn upstreams_first(nodes: &[Node]) -> Result<Vec<usize>> {
    let mut waiting: Vec<usize> = nodes.iter().map(|n| n.upstreams.len()).collect();
    let mut downstreams = vec![Vec::new(); nodes.len()];
    for (position, node) in nodes.iter().enumerate() {
        for upstream in node.upstreams.keys() {
            if let Some(list) = downstreams.get_mut(*upstream) {
                list.push(position);
            }
        }
    }
    let mut free: std::collections::BTreeSet<usize> =
        waiting.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| i).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(position) = free.pop_first() {
        order.push(position);
        for downstream in downstreams.get(position).into_iter().flatten() {
            if let Some(n) = waiting.get_mut(*downstream) {
                *n -= 1;
                if *n == 0 {
                    free.insert(*downstream);
                }
            }
        }
    }
    if order.len() == nodes.len() {
        Ok(order)
    } else {
        Err(Error::Setup("the flow's tasks wait for each other in a circle".into()))
    }
}
