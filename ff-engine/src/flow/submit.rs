//! Submitting a flow: at once, or piece by piece when it is too large for one call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ff_core::contracts::{
    CreateExecutionArgs, CreateFlowArgs, FlowEdgeSpec, FlowJoin, FlowMemberSpec, IncomingEdge,
    PromoteBlockedToEligibleArgs, SealFlowArgs, StageDependencyEdgeArgs, SubmitFlowArgs,
};
use ff_core::error::EngineError;
use ff_core::ids::{DataName, ExecutionId, FlowId};
use ff_core::operation::Operation;

use super::{FlowBuilder, FlowHandle, Node};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::payload::JSON;
use crate::repeat::{call, is_transport};

/// How many operations are sent together.
const BATCH: usize = 256;
/// How often a batch is repeated while some of it does not get through.
const REPEATS: u32 = 8;

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
    for node in &nodes {
        node.options.arm(&engine, flow_id.partition());
    }
    let edges: usize = nodes.iter().map(|n| n.upstreams.len()).sum();
    let bytes: u64 = nodes.iter().map(|n| n.payload.len() as u64).sum();
    let at_once = !open
        && nodes.len() <= SubmitFlowArgs::MAX_MEMBERS
        && edges <= SubmitFlowArgs::MAX_EDGES
        && bytes <= SubmitFlowArgs::MAX_PAYLOAD_BYTES;
    if at_once {
        let args = whole(&engine, flow_id, kind, tags, nodes, &names);
        call!(engine, submit_flow(args))?;
    } else {
        let args = CreateFlowArgs::builder()
            .flow_id(flow_id)
            .namespace(engine.namespace().clone())
            .flow_kind(kind)
            .tags(tags)
            .build();
        call!(engine, create_flow(args))?;
        for batch in pieces(&engine, flow_id, nodes, &names, &ids, !open)?.chunks(BATCH) {
            all(&engine, batch).await?;
        }
        if !open {
            call!(engine, seal_flow(SealFlowArgs::builder().flow_id(flow_id).build()))?;
        }
    }
    Ok(FlowHandle::new(engine, flow_id, members))
}

fn whole(
    engine: &Engine,
    flow_id: FlowId,
    kind: String,
    tags: BTreeMap<String, String>,
    nodes: Vec<Node>,
    names: &[DataName],
) -> SubmitFlowArgs {
    let (mut members, mut edges) = (Vec::with_capacity(nodes.len()), Vec::new());
    for (node, name) in nodes.into_iter().zip(names) {
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
        members.push(
            FlowMemberSpec::builder()
                .name(name.clone())
                .lane_id(node.options.lane.unwrap_or_else(|| engine.default_lane().clone()))
                .kind(node.kind)
                .payload(node.payload)
                .payload_encoding(JSON)
                .priority(node.options.priority)
                .tags(node.options.tags)
                .policy(Arc::new(node.options.policy))
                .maybe_delay(node.options.delay)
                .maybe_creator(engine.creator().map(str::to_owned))
                .build(),
        );
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
        let create = CreateExecutionArgs::builder()
            .execution_id(*id)
            .namespace(engine.namespace().clone())
            .lane_id(node.options.lane.unwrap_or_else(|| engine.default_lane().clone()))
            .kind(node.kind)
            .payload(node.payload)
            .payload_encoding(JSON)
            .priority(node.options.priority)
            .tags(node.options.tags)
            .policy(Arc::new(node.options.policy))
            .maybe_delay(node.options.delay)
            .flow(join)
            .maybe_creator(engine.creator().map(str::to_owned))
            .build();
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

/// Carries out a batch in order. What did not get through may have kept what follows it from being accepted, so the
/// batch is repeated as a whole, unchanged: what was done answers as a repeat.
async fn all(engine: &Engine, batch: &[Operation]) -> Result<()> {
    let mut wait = Duration::from_millis(20);
    for repeat in 0.. {
        let results = engine.backend().execute_many(batch.to_vec()).await;
        let lost: Option<&EngineError> = results.iter().filter_map(|r| r.as_ref().err()).find(|e| is_transport(e));
        match lost {
            Some(_) if repeat < REPEATS => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(1));
            }
            _ => {
                for result in results {
                    result?;
                }
                return Ok(());
            }
        }
    }
    Ok(())
}
