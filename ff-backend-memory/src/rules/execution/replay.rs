//! `replay_execution`: `execution.md` 4.8; of members `flow.md` 3.6 and 3.4 (7).

use std::collections::BTreeSet;

use ff_core::contracts::{EdgeState, ReplayExecutionArgs, ReplayExecutionResult};
use ff_core::error::EngineError;
use ff_core::ids::EdgeId;
use ff_core::records::{ClosedRun, EdgeResolution, ReplayMark, RunRecord};
use ff_core::refusal::Refusal;
use ff_core::state::AttemptState;
use ff_core::time::{TimestampMs, When};
use uuid::Uuid;

use crate::cascade::{self, Call, is_level, recount, verdict};
use crate::model::{Execution, Partition, Queues};
use crate::routines::{become_runnable, touch, walk_outgoing_edges};

/// Starts a new run of an ended execution.
///
/// # Errors
/// `stale_replay`, `execution_not_terminal`, `max_replays_exhausted`, `too_many_capability_sets`; of a member
/// `flow_not_found`, `flow_already_terminal`, `deps_impossible`.
pub fn replay_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ReplayExecutionArgs,
) -> Result<ReplayExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    let r = &x.record;
    if args.replay_count.checked_add(1) == Some(r.replay_count) {
        if r.replay.as_ref().is_some_and(|mark| mark.digest == digest) {
            return Ok(ReplayExecutionResult::Replayed { replay_count: r.replay_count, summary: x.summary() });
        }
        return Err(Refusal::stale_replay(r.replay_count).into());
    }
    if !r.vector.is_terminal() {
        return Err(Refusal::execution_not_terminal(r.vector.lifecycle_phase).into());
    }
    if args.replay_count != r.replay_count {
        return Err(Refusal::stale_replay(r.replay_count).into());
    }
    if r.replay_count >= r.policy.max_replays {
        return Err(Refusal::max_replays_exhausted(r.replay_count, r.policy.max_replays).into());
    }
    let edges = match r.flow_id {
        None => Vec::new(),
        Some(flow_id) => {
            let flow = p.find_flow(&flow_id)?;
            if let Some(cancelled) = &flow.cancelled {
                let state = ff_core::contracts::PublicFlowState::Cancelled;
                return Err(Refusal::flow_already_terminal(Some(state), Some(cancelled.policy)).into());
            }
            reread_edges(p, flow_id.uuid(), x, now)?
        }
    };
    // Where a capability set is new to its lane, a replay is held to the bound like a creation.
    if !p.queues.has_room(&r.lane_id, &BTreeSet::from([&r.policy.required_capabilities])) {
        let bound = u32::try_from(Queues::MAX_SETS).unwrap_or(u32::MAX);
        return Err(Refusal::too_many_capability_sets(r.lane_id.clone(), bound).into());
    }

    let mut call = Call::new(now);
    if let Some(flow_id) = r.flow_id {
        take_edges(p, flow_id.uuid(), args.execution_id.uuid(), edges);
    }
    let mut x = p.take(args.execution_id.uuid())?;
    let mark = ReplayMark { reason: args.reason.clone(), by: args.by.clone(), at: now, digest };
    begin_run(p, &mut call, &mut x, mark, args.deadline, args.reopen_skipped);
    let replay_count = x.record.replay_count;
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(ReplayExecutionResult::Replayed { replay_count, summary })
}

type Reread = (EdgeId, EdgeState, Option<EdgeResolution>);

/// What every applied incoming edge gets against its upstream as it is now.
fn reread_edges(p: &Partition, flow: Uuid, x: &Execution, now: TimestampMs) -> Result<Vec<Reread>, EngineError> {
    /// Impossible edges named in a refusal.
    const NAMED: usize = 16;
    let Some(graph) = p.graph(flow) else { return Ok(Vec::new()) };
    let mut edges = Vec::new();
    let mut impossible = Vec::new();
    for edge in graph.incoming_of(x.uuid()).filter(|e| e.edge_state != EdgeState::Staged) {
        let Some(upstream) = p.get(edge.upstream_execution_id.uuid())? else { continue };
        let (state, resolution) = verdict(upstream, edge.dependency_kind, now);
        if state == EdgeState::Impossible && impossible.len() < NAMED {
            impossible.push(edge.edge_id);
        }
        // What the present run of the upstream has decided already stays as it is, its instant too.
        if !is_level(edge.resolution.as_ref(), resolution.as_ref()) {
            edges.push((edge.edge_id, state, resolution));
        }
    }
    if impossible.is_empty() { Ok(edges) } else { Err(Refusal::deps_impossible(impossible).into()) }
}

fn take_edges(p: &mut Partition, flow: Uuid, member: Uuid, edges: Vec<Reread>) {
    let Some(graph) = p.graphs.get_mut(&flow) else { return };
    for (edge_id, state, resolution) in edges {
        let Some(edge) = graph.edges.get_mut(&edge_id) else { continue };
        let was = std::mem::replace(&mut edge.edge_state, state);
        edge.resolution = resolution;
        if let Some(member) = graph.members.get_mut(&member) {
            recount(member, was, state);
        }
    }
}

/// The effects of a replay on the execution itself, then its gate and the walk over its outgoing edges.
fn begin_run(
    p: &mut Partition,
    call: &mut Call,
    x: &mut Execution,
    mark: ReplayMark,
    deadline: Option<When>,
    reopen: bool,
) {
    let now = call.now;
    let r = &mut x.record;
    let run = r.replay_count;
    if let Some(ended) = r.ended.take() {
        let closed = ClosedRun {
            outcome: r.vector.terminal_outcome,
            ended,
            failure_reason: r.failure_reason.take(),
            failure_category: r.failure_category.take(),
            cancel_reason: r.cancel_reason.take(),
            deadline_at: r.deadline_at,
            replay: r.replay.take(),
        };
        match x.history.runs.get_mut(run as usize) {
            Some(record) => record.closed = Some(closed),
            None => x.history.runs.push(RunRecord {
                execution_id: r.execution_id,
                run,
                result: None,
                result_encoding: None,
                closed: Some(closed),
            }),
        }
    }
    r.replay_count += 1;
    r.replay = Some(mark);
    r.retry_count = 0;
    r.reclaim_count = 0;
    r.signal_count = 0;
    r.signal_bytes = 0;
    r.started_at = None;
    r.progress = None;
    r.purge_at = None;
    r.deadline_at = match (deadline, r.policy.timeouts.deadline) {
        (Some(when), _) => Some(when.resolve(now)),
        (None, Some(When::After(ms))) => Some(now.after(ms)),
        (None, Some(When::At(at))) => Some(at).filter(|at| *at > now),
        (None, None) => None,
    };
    touch(x, now);
    become_runnable(p, call, x, AttemptState::PendingReplayAttempt);
    walk_outgoing_edges(p, call, x, reopen);
}

/// Replays a skipped descendant of a replayed member, with its upstream's reason and operator.
pub(crate) fn reopen(p: &mut Partition, call: &mut Call, uuid: Uuid, upstream: Uuid) {
    let now = call.now;
    let mark = p.get(upstream).ok().flatten().and_then(|u| u.record.replay.clone());
    let Some(mark) = mark else { return };
    let Ok(mut x) = p.take(uuid) else { return };
    let args = ReplayExecutionArgs::builder()
        .execution_id(x.record.execution_id)
        .replay_count(x.record.replay_count)
        .reason(mark.reason.clone())
        .by(mark.by.clone())
        .reopen_skipped(true)
        .build();
    let mark = ReplayMark { at: now, digest: args.digest(), ..mark };
    begin_run(p, call, &mut x, mark, None, true);
    p.put(x, now);
}
