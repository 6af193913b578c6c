//! Joining at creation: a member and its incoming edges in the step that creates the execution.

use std::collections::BTreeSet;

use ff_core::contracts::{EdgeState, FanInPart, FlowJoin, FlowPart};
use ff_core::error::EngineError;
use ff_core::ids::{DataName, ExecutionId, Namespace};
use ff_core::records::EdgeRecord;
use ff_core::refusal::Refusal;

use super::lifecycle::new_member;
use super::{find, open_to_structure};
use crate::cascade::{Call, recount, verdict};
use crate::model::{Partition, corrupt};

/// The refusals of joining at creation.
pub(crate) fn check(p: &Partition, namespace: &Namespace, join: &FlowJoin) -> Result<(), EngineError> {
    let (flow, graph) = find(p, &join.flow_id)?;
    open_to_structure(flow)?;
    if flow.namespace != *namespace {
        return Err(Refusal::namespace_mismatch().into());
    }
    let mut ids = BTreeSet::new();
    let mut upstreams = BTreeSet::new();
    let mut names: BTreeSet<&DataName> = BTreeSet::new();
    for edge in &join.edges {
        if p.damaged_edges.contains(&edge.edge_id) {
            // Whose it is cannot be told: nobody gets its id.
            return Err(corrupt("edge"));
        }
        let known = graph.edges.contains_key(&edge.edge_id);
        if known || !ids.insert(edge.edge_id) {
            return Err(Refusal::dependency_already_exists(edge.edge_id).into());
        }
        if !upstreams.insert(edge.upstream_execution_id) {
            let first = join.edges.iter().find(|e| e.upstream_execution_id == edge.upstream_execution_id);
            return Err(Refusal::dependency_already_exists(first.map_or(edge.edge_id, |e| e.edge_id)).into());
        }
        if !graph.members.contains_key(&edge.upstream_execution_id.uuid()) {
            return Err(Refusal::execution_not_in_flow(edge.upstream_execution_id).into());
        }
        if let Some(name) = &edge.data_passing_ref
            && !names.insert(name)
        {
            let first = join.edges.iter().find(|e| e.data_passing_ref.as_ref() == Some(name));
            return Err(Refusal::data_name_conflict(first.map_or(edge.edge_id, |e| e.edge_id)).into());
        }
    }
    let caps = p.deployment().graph;
    if flow.node_count >= caps.members {
        return Err(Refusal::flow_too_large(FlowPart::Members, caps.members).into());
    }
    if flow.edge_count as usize + join.edges.len() > caps.edges as usize {
        return Err(Refusal::flow_too_large(FlowPart::Edges, caps.edges).into());
    }
    if join.edges.len() > caps.incoming as usize {
        return Err(Refusal::fan_in_limit(FanInPart::Edges, caps.incoming).into());
    }
    if names.len() > caps.data_incoming as usize {
        return Err(Refusal::fan_in_limit(FanInPart::DataEdges, caps.data_incoming).into());
    }
    for edge in &join.edges {
        if graph.fan_out(edge.upstream_execution_id.uuid()) >= caps.outgoing {
            return Err(Refusal::fan_out_limit(caps.outgoing).into());
        }
        // An upstream that cannot be read has no verdict.
        p.find(&edge.upstream_execution_id)?;
    }
    Ok(())
}

/// Makes a new execution a member, with its incoming edges. Its own state is the gate's to decide.
pub(crate) fn apply(p: &mut Partition, call: &mut Call, id: ExecutionId, join: &FlowJoin) {
    let now = call.now;
    let flow = join.flow_id.uuid();
    let mut seq = p.flow(flow).map_or(1, |f| f.next_edge_seq);
    let mut member = new_member(join.flow_id, id, join.hold);
    let mut edges = Vec::with_capacity(join.edges.len());
    for edge in &join.edges {
        let upstream = p.get(edge.upstream_execution_id.uuid()).ok().flatten();
        let (edge_state, resolution) =
            upstream.map_or((EdgeState::Pending, None), |u| verdict(u, edge.dependency_kind, now));
        recount(&mut member, EdgeState::Staged, edge_state);
        edges.push(EdgeRecord {
            edge_id: edge.edge_id,
            flow_id: join.flow_id,
            seq,
            upstream_execution_id: edge.upstream_execution_id,
            downstream_execution_id: id,
            dependency_kind: edge.dependency_kind,
            created_at: now,
            data_passing_ref: edge.data_passing_ref.clone(),
            edge_state,
            applied_at: Some(now),
            resolution,
        });
        seq += 1;
    }
    let added = u32::try_from(edges.len()).unwrap_or(u32::MAX);
    if let Some(graph) = p.graphs.get_mut(&flow) {
        graph.members.insert(id.uuid(), member);
        for edge in edges {
            graph.add_edge(edge);
        }
    }
    p.edit_flow(flow, now, |record| {
        record.node_count += 1;
        record.edge_count += added;
        record.next_edge_seq = seq;
        record.graph_revision += 1;
        record.last_mutation_at = now;
    });
}
