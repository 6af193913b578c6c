//! `submit_flow`: a whole flow in one call. What its graph is refused for is a function of the arguments alone and has
//! been checked with them.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{EdgeState, SubmitFlowArgs, SubmitFlowResult};
use ff_core::error::EngineError;
use ff_core::ids::LaneId;
use ff_core::policy::Capabilities;
use ff_core::records::{EdgeRecord, FlowRecord};
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::lifecycle::{admit_flow, new_flow, new_member};
use crate::cascade::{Call, recount};
use crate::model::{Held, Partition, Queues, Subject};
use crate::routines::gate;
use crate::rules::execution::{Creation, build_execution};

/// Creates a flow with its members and edges; nobody can claim a member before all of it exists.
///
/// # Errors
/// `flow_spec_conflict`, `flow_already_terminal`, `execution_already_exists`, `too_many_capability_sets`.
pub fn submit_flow(
    p: &mut Partition,
    now: TimestampMs,
    args: &SubmitFlowArgs,
) -> Result<SubmitFlowResult, EngineError> {
    let flow_id = args.flow_id;
    let spec_digest = args.spec_digest();
    if let Some(graph_revision) = admit_flow(p, &flow_id, spec_digest)? {
        return Ok(SubmitFlowResult::AlreadyExists { flow_id, graph_revision, members: args.member_ids() });
    }
    admit_members(p, args)?;

    let mut call = Call::new(now);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let flow = FlowRecord {
        sealed: args.sealed,
        graph_revision: 1,
        node_count: count(args.members.len()),
        edge_count: count(args.edges.len()),
        next_edge_seq: args.edges.len() as u64 + 1,
        ..new_flow(flow_id, &args.flow_kind, &args.namespace, &args.tags, spec_digest, now)
    };
    p.add_flow(flow, now);
    add_graph(p, now, args);
    for spec in &args.members {
        let creation = spec.to_creation(&args.namespace, flow_id, !args.sealed);
        let fingerprint = creation.lazy_fingerprint();
        let creation = Creation { args: &creation, flow_id: Some(flow_id), fingerprint };
        let mut x = Held::new(build_execution(&creation, now));
        gate(p, &mut call, &mut x);
        p.put(x, now);
    }
    Ok(SubmitFlowResult::Created { flow_id, graph_revision: 1, members: args.member_ids() })
}

/// Refuses ids that are taken, by others or by an earlier member, and then capability sets that their lanes have no
/// room for: the first in list order.
fn admit_members(p: &Partition, args: &SubmitFlowArgs) -> Result<(), Refusal> {
    let mut ids = BTreeSet::new();
    for spec in &args.members {
        let uuid = spec.execution_id.uuid();
        if p.exists(uuid) || p.is_being_purged(Subject::Execution(uuid)) || !ids.insert(uuid) {
            return Err(Refusal::execution_already_exists().about_member(spec.name.as_str()));
        }
    }
    let mut sets: BTreeMap<&LaneId, BTreeSet<&Capabilities>> = BTreeMap::new();
    for spec in &args.members {
        let sets = sets.entry(&spec.lane_id).or_default();
        if sets.insert(&spec.policy.required_capabilities) && !p.queues.has_room(&spec.lane_id, sets) {
            let bound = u32::try_from(Queues::MAX_SETS).unwrap_or(u32::MAX);
            let refusal = Refusal::too_many_capability_sets(spec.lane_id.clone(), bound);
            return Err(refusal.about_member(spec.name.as_str()));
        }
    }
    Ok(())
}

/// The members' records and all edges, applied: no upstream has ended, so they are pending.
fn add_graph(p: &mut Partition, now: TimestampMs, args: &SubmitFlowArgs) {
    let Some(graph) = p.graphs.get_mut(&args.flow_id.uuid()) else { return };
    let mut ids = BTreeMap::new();
    for spec in &args.members {
        let mut member = new_member(args.flow_id, spec.execution_id, !args.sealed);
        member.member_name = Some(spec.name.clone());
        graph.members.insert(spec.execution_id.uuid(), member);
        ids.insert(&spec.name, spec.execution_id);
    }
    for (seq, spec) in (1..).zip(&args.edges) {
        // Both names were checked to be members'.
        let (Some(&upstream), Some(&downstream)) = (ids.get(&spec.from), ids.get(&spec.to)) else { continue };
        if let Some(member) = graph.members.get_mut(&downstream.uuid()) {
            recount(member, EdgeState::Staged, EdgeState::Pending);
        }
        graph.add_edge(EdgeRecord {
            edge_id: spec.edge_id,
            flow_id: args.flow_id,
            seq,
            upstream_execution_id: upstream,
            downstream_execution_id: downstream,
            dependency_kind: spec.dependency_kind,
            created_at: now,
            data_passing_ref: spec.data_passing_ref.clone(),
            edge_state: EdgeState::Pending,
            applied_at: Some(now),
            resolution: None,
        });
    }
}
