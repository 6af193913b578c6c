//! Edges, and what they mean to a member: staged, applied, resolved; evaluated and promoted.

use std::collections::{BTreeMap, VecDeque};

use ff_core::bounds::GraphBounds;
use ff_core::contracts::{
    ApplyDependencyToChildArgs, ApplyDependencyToChildResult, EdgeState, EvaluateFlowEligibilityArgs,
    EvaluateFlowEligibilityResult, FanInPart, FlowPart, OnUpstreamTerminal, PromoteBlockedToEligibleArgs,
    PromoteBlockedToEligibleResult, ResolveDependencyArgs, ResolveDependencyResult, StageDependencyEdgeArgs,
    StageDependencyEdgeResult,
};
use ff_core::error::EngineError;
use ff_core::ids::{EdgeId, ExecutionId};
use ff_core::records::{EdgeRecord, FlowRecord};
use ff_core::refusal::Refusal;
use ff_core::state::PublicState;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use super::{already_terminal, find, open_to_structure};
use crate::cascade::{self, Call, apply_edge, examine_edge, gate_member};
use crate::model::{Execution, Graph, Partition};
use crate::routines::is_covered;

/// Lets one member wait for another.
///
/// # Errors
/// `flow_not_found`, `dependency_already_exists`, `flow_already_terminal`, `flow_sealed`, `stale_graph_revision`,
/// `execution_not_in_flow`, `execution_terminal`, `upstream_already_terminal`, `data_name_conflict`, `flow_too_large`,
/// `fan_in_limit`, `fan_out_limit`, `cycle_detected`, `graph_too_large`.
pub fn stage_dependency_edge(
    p: &mut Partition,
    now: TimestampMs,
    args: &StageDependencyEdgeArgs,
) -> Result<StageDependencyEdgeResult, EngineError> {
    let (flow, graph) = find(p, &args.flow_id)?;
    let edge_id = args.edge_id;
    let (upstream, downstream) = (args.upstream_execution_id, args.downstream_execution_id);
    if let Some(edge) = graph.edges.get(&edge_id) {
        let equal = edge.upstream_execution_id == upstream
            && edge.downstream_execution_id == downstream
            && edge.dependency_kind == args.dependency_kind
            && edge.data_passing_ref == args.data_passing_ref;
        if !equal {
            return Err(Refusal::dependency_already_exists(edge_id).into());
        }
        return Ok(StageDependencyEdgeResult::AlreadyStaged {
            edge_id,
            graph_revision: flow.graph_revision,
            edge_state: edge.edge_state,
            child: p.find(&downstream)?.summary(),
        });
    }
    open_to_structure(flow)?;
    if args.expected_graph_revision.is_some_and(|expected| expected != flow.graph_revision) {
        return Err(Refusal::stale_graph_revision(flow.graph_revision).into());
    }
    for member in [upstream, downstream] {
        if !graph.members.contains_key(&member.uuid()) {
            return Err(Refusal::execution_not_in_flow(member).into());
        }
    }
    let child = p.find(&downstream)?;
    if child.record.vector.is_terminal() {
        return Err(Refusal::execution_terminal(child.record.vector.terminal_outcome).into());
    }
    let parent = p.find(&upstream)?;
    if args.on_upstream_terminal == OnUpstreamTerminal::Reject && parent.record.vector.is_terminal() {
        return Err(Refusal::upstream_already_terminal(parent.record.vector.terminal_outcome).into());
    }
    check_room(flow, graph, &p.deployment().graph, args)?;
    if let Some(cycle) = find_cycle(graph, upstream, downstream, p.deployment().graph.cycle_search)? {
        return Err(Refusal::cycle_detected(cycle).into());
    }
    let (seq, new_graph_revision) = (flow.next_edge_seq, flow.graph_revision + 1);

    let mut call = Call::new(now);
    let flow = args.flow_id.uuid();
    if let Some(graph) = p.graphs.get_mut(&flow) {
        graph.add_edge(EdgeRecord {
            edge_id,
            flow_id: args.flow_id,
            seq,
            upstream_execution_id: upstream,
            downstream_execution_id: downstream,
            dependency_kind: args.dependency_kind,
            created_at: now,
            data_passing_ref: args.data_passing_ref.clone(),
            edge_state: EdgeState::Staged,
            applied_at: None,
            resolution: None,
        });
    }
    p.edit_flow(flow, now, |record| {
        record.edge_count += 1;
        record.next_edge_seq = seq + 1;
        record.graph_revision = new_graph_revision;
        record.last_mutation_at = now;
    });
    if args.apply {
        apply_edge(p, &mut call, flow, edge_id);
    }
    cascade::run(p, &mut call);
    Ok(StageDependencyEdgeResult::Staged {
        edge_id,
        new_graph_revision,
        edge_state: state_of(p, flow, edge_id),
        child: p.find(&downstream)?.summary(),
        cascade: call.cascade,
    })
}

/// Refuses a second edge of a pair, a data name that the downstream knows already, and what is beyond the caps.
fn check_room(
    flow: &FlowRecord,
    graph: &Graph,
    caps: &GraphBounds,
    args: &StageDependencyEdgeArgs,
) -> Result<(), Refusal> {
    let (upstream, downstream) = (args.upstream_execution_id.uuid(), args.downstream_execution_id.uuid());
    if let Some(known) = graph.pairs.get(&(upstream, downstream)) {
        return Err(Refusal::dependency_already_exists(*known));
    }
    let (mut incoming, mut data_incoming) = (0, 0);
    for edge in graph.incoming_of(downstream) {
        if edge.data_passing_ref.is_some() && edge.data_passing_ref == args.data_passing_ref {
            return Err(Refusal::data_name_conflict(edge.edge_id));
        }
        incoming += 1;
        data_incoming += u32::from(edge.data_passing_ref.is_some());
    }
    if flow.edge_count >= caps.edges {
        return Err(Refusal::flow_too_large(FlowPart::Edges, caps.edges));
    }
    if incoming >= caps.incoming {
        return Err(Refusal::fan_in_limit(FanInPart::Edges, caps.incoming));
    }
    if args.data_passing_ref.is_some() && data_incoming >= caps.data_incoming {
        return Err(Refusal::fan_in_limit(FanInPart::DataEdges, caps.data_incoming));
    }
    if graph.fan_out(upstream) >= caps.outgoing {
        return Err(Refusal::fan_out_limit(caps.outgoing));
    }
    Ok(())
}

/// The cycle that an edge from `upstream` to `downstream` would close, from upstream back to it: breadth first from
/// downstream along outgoing edges by seq, staged ones too, each node expanded once, `limit` edges read at most.
///
/// Where upstream has no incoming or downstream no outgoing edge there is none, and nothing is searched.
fn find_cycle(
    graph: &Graph,
    upstream: ExecutionId,
    downstream: ExecutionId,
    limit: u32,
) -> Result<Option<Vec<ExecutionId>>, Refusal> {
    if !graph.has_incoming(upstream.uuid()) || !graph.has_outgoing(downstream.uuid()) {
        return Ok(None);
    }
    let mut found_from = BTreeMap::from([(downstream, downstream)]);
    let mut queue = VecDeque::from([downstream]);
    let mut read = 0;
    while let Some(node) = queue.pop_front() {
        for edge in graph.outgoing_after(node.uuid(), 0) {
            if read == limit {
                return Err(Refusal::graph_too_large(limit));
            }
            read += 1;
            let next = edge.downstream_execution_id;
            if next == upstream {
                let mut cycle = vec![upstream];
                let mut at = node;
                while at != downstream {
                    cycle.push(at);
                    // Every node but the first was found from another.
                    at = found_from.get(&at).copied().unwrap_or(downstream);
                }
                cycle.extend([downstream, upstream]);
                cycle.reverse();
                return Ok(Some(cycle));
            }
            found_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                node
            });
        }
    }
    Ok(None)
}

/// The stored state of an edge that is known to exist.
fn state_of(p: &Partition, flow: Uuid, edge_id: EdgeId) -> EdgeState {
    p.graph(flow).and_then(|g| g.edges.get(&edge_id)).map_or(EdgeState::Staged, |edge| edge.edge_state)
}

fn unresolved_of(p: &Partition, x: &Execution) -> u32 {
    p.member(x).map_or(0, |m| m.unresolved_count)
}

/// Makes a staged edge count.
///
/// # Errors
/// `flow_not_found`, `edge_not_found`, `dependency_spec_mismatch`, `flow_already_terminal`, `execution_terminal`.
pub fn apply_dependency_to_child(
    p: &mut Partition,
    now: TimestampMs,
    args: &ApplyDependencyToChildArgs,
) -> Result<ApplyDependencyToChildResult, EngineError> {
    let (record, graph) = find(p, &args.flow_id)?;
    let edge_id = args.edge_id;
    let edge = graph.edges.get(&edge_id).ok_or_else(|| Refusal::edge_not_found(edge_id))?;
    let differs = [
        ("upstream_execution_id", edge.upstream_execution_id != args.upstream_execution_id),
        ("downstream_execution_id", edge.downstream_execution_id != args.downstream_execution_id),
        ("dependency_kind", edge.dependency_kind != args.dependency_kind),
        ("data_passing_ref", edge.data_passing_ref != args.data_passing_ref),
    ];
    if let Some((field, _)) = differs.iter().find(|(_, differs)| *differs) {
        return Err(Refusal::dependency_spec_mismatch(*field).into());
    }
    let child = p.find(&edge.downstream_execution_id)?;
    if edge.edge_state != EdgeState::Staged {
        return Ok(ApplyDependencyToChildResult::AlreadyApplied {
            unresolved_count: unresolved_of(p, child),
            edge_state: edge.edge_state,
            child: child.summary(),
        });
    }
    if record.is_closed() {
        return Err(already_terminal(record).into());
    }
    if child.record.vector.is_terminal() {
        return Err(Refusal::execution_terminal(child.record.vector.terminal_outcome).into());
    }
    p.find(&edge.upstream_execution_id)?;

    let mut call = Call::new(now);
    let flow = args.flow_id.uuid();
    p.edit_flow(flow, now, |record| record.last_mutation_at = now);
    apply_edge(p, &mut call, flow, edge_id);
    cascade::run(p, &mut call);
    let child = p.find(&args.downstream_execution_id)?;
    Ok(ApplyDependencyToChildResult::Applied {
        unresolved_count: unresolved_of(p, child),
        edge_state: state_of(p, flow, edge_id),
        child: child.summary(),
        cascade: call.cascade,
    })
}

/// Resolves one edge of an ended upstream now, ahead of the backlog.
///
/// # Errors
/// `flow_not_found`, `edge_not_found`, `edge_not_applied`, `dependency_resolution_mismatch`, `flow_already_terminal`,
/// `upstream_not_terminal`.
pub fn resolve_dependency(
    p: &mut Partition,
    now: TimestampMs,
    args: &ResolveDependencyArgs,
) -> Result<ResolveDependencyResult, EngineError> {
    let (record, graph) = find(p, &args.flow_id)?;
    let edge_id = args.edge_id;
    let edge = graph.edges.get(&edge_id).ok_or_else(|| Refusal::edge_not_found(edge_id))?;
    if edge.edge_state == EdgeState::Staged {
        return Err(Refusal::edge_not_applied().into());
    }
    let verify = |outcome| match args.upstream_outcome {
        Some(claimed) if claimed != outcome => Err(Refusal::dependency_resolution_mismatch(outcome)),
        _ => Ok(()),
    };
    let downstream = edge.downstream_execution_id;
    if let Some(resolution) = edge.resolution {
        verify(resolution.upstream_outcome)?;
        let child = p.find(&downstream)?.summary();
        return Ok(ResolveDependencyResult::AlreadyResolved { edge_state: edge.edge_state, child });
    }
    if record.is_frozen() {
        return Err(already_terminal(record).into());
    }
    let upstream = p.find(&edge.upstream_execution_id)?.record.vector;
    if !upstream.is_terminal() {
        return Err(Refusal::upstream_not_terminal(upstream.public_state()).into());
    }
    verify(upstream.terminal_outcome)?;
    let before = p.find(&downstream)?.record.vector.public_state();

    let mut call = Call::new(now);
    let flow = args.flow_id.uuid();
    examine_edge(p, &mut call, flow, edge_id);
    cascade::run(p, &mut call);
    let child = p.find(&downstream)?.summary();
    let cascade = call.cascade;
    Ok(if state_of(p, flow, edge_id) == EdgeState::Impossible {
        let child_skipped = before != PublicState::Skipped && child.public_state == PublicState::Skipped;
        ResolveDependencyResult::Impossible { child, child_skipped, cascade }
    } else {
        ResolveDependencyResult::Satisfied { child, cascade }
    })
}

/// A member's pending incoming edges whose upstream has ended, by seq: what the backlog owes it.
fn owed<'a>(p: &'a Partition, x: &Execution) -> impl Iterator<Item = &'a EdgeRecord> + use<'a> {
    let graph = x.record.flow_id.and_then(|flow| p.graph(flow.uuid()));
    let uuid = x.uuid();
    graph.into_iter().flat_map(move |g| g.incoming_of(uuid)).filter(|edge| {
        edge.edge_state == EdgeState::Pending
            && p.get(edge.upstream_execution_id.uuid()).ok().flatten().is_some_and(|u| u.record.vector.is_terminal())
    })
}

/// Tells where an execution stands towards being claimed, as far as flows decide.
///
/// # Errors
/// `execution_not_found`.
pub fn evaluate_flow_eligibility(
    p: &Partition,
    _now: TimestampMs,
    args: &EvaluateFlowEligibilityArgs,
) -> Result<EvaluateFlowEligibilityResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let pending_resolution = u32::try_from(owed(p, x).count()).unwrap_or(u32::MAX);
    Ok(EvaluateFlowEligibilityResult::of(x.summary(), p.member(x), is_covered(p, x), pending_resolution))
}

/// Releases a member's hold and pulls what the backlog owes it.
///
/// # Errors
/// `execution_not_found`, `execution_terminal`, `not_runnable`, `flow_already_terminal`.
pub fn promote_blocked_to_eligible(
    p: &mut Partition,
    now: TimestampMs,
    args: &PromoteBlockedToEligibleArgs,
) -> Result<PromoteBlockedToEligibleResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let vector = x.record.vector;
    if vector.is_terminal() {
        return Err(Refusal::execution_terminal(vector.terminal_outcome).into());
    }
    if !vector.is_runnable() {
        return Err(Refusal::not_runnable(vector.lifecycle_phase).into());
    }
    let flow = x.record.flow_id.and_then(|flow| p.flow(flow.uuid()));
    if let Some(flow) = flow.filter(|flow| flow.is_frozen()) {
        return Err(already_terminal(flow).into());
    }
    // Only a member waits in DEPS.
    let Some(flow) = flow.filter(|_| vector.public_state() == PublicState::WaitingChildren) else {
        return Ok(PromoteBlockedToEligibleResult::AlreadyEligible { summary: x.summary() });
    };
    let (flow, uuid) = (flow.flow_id.uuid(), x.uuid());
    let edges: Vec<EdgeId> = owed(p, x).map(|edge| edge.edge_id).collect();

    let mut call = Call::new(now);
    p.edit_member(flow, uuid, |member| member.held = false);
    for edge_id in edges {
        let ended = p.find(&args.execution_id)?.record.vector.is_terminal();
        if ended || !call.has_step() {
            break;
        }
        examine_edge(p, &mut call, flow, edge_id);
    }
    gate_member(p, &mut call, uuid);
    cascade::run(p, &mut call);

    let x = p.find(&args.execution_id)?;
    let (summary, cascade) = (x.summary(), call.cascade);
    let member = p.member(x);
    Ok(match summary.public_state {
        PublicState::WaitingChildren => PromoteBlockedToEligibleResult::StillBlocked {
            unresolved_count: member.map_or(0, |m| m.unresolved_count),
            impossible_count: member.map_or(0, |m| m.impossible_count),
            summary,
            cascade,
        },
        PublicState::Skipped => PromoteBlockedToEligibleResult::Skipped { summary, cascade },
        _ => PromoteBlockedToEligibleResult::Promoted { summary, cascade },
    })
}
