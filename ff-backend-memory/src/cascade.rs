//! What an ending, a cancellation or a seal means for others: the call's work list, the partition's backlog, and the
//! examination of one candidate (`flow.md` 3.2 to 3.4).
//!
//! Everything here is bounded per call by two budgets: 128 steps and 64 endings. What a budget stops goes to the
//! backlog and is drained by sweeps and claims.

use ff_core::contracts::{BacklogKind, Cascade, DependencyKind, EdgeState};
use ff_core::ids::{EdgeId, FlowId};
use ff_core::records::{EdgeResolution, FlowRecord, MemberRecord};
use ff_core::state::{AttemptState, PublicState, TerminalOutcome};
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::model::{Cursor, Execution, Fifo, Item, ItemKey, Partition, Remains, Subject};
use crate::routines::{end_with_flow, gate, is_covered};

/// Steps that one call may use.
const STEPS_PER_CALL: u32 = Cascade::MAX_STEPS;
/// Endings that one call may make beside its own.
const ENDINGS_PER_CALL: u32 = Cascade::MAX_ENDINGS;
/// Steps in a row on one backlog item before it yields its place.
const STEPS_IN_A_ROW: u32 = 64;
/// Subordinate records that one step of a purge removes at most.
const RECORDS_PER_STEP: usize = 100;

/// What one call shares between its checks, its sweep and its cascades.
pub(crate) struct Call {
    /// The one reading of the clock.
    pub(crate) now: TimestampMs,
    steps_left: u32,
    endings_left: u32,
    /// The work list.
    pub(crate) work: Fifo,
    /// What is reported.
    pub(crate) cascade: Cascade,
    /// Members that a cancellation's walk ended.
    pub(crate) cancelled: u32,
}

impl Call {
    pub(crate) fn new(now: TimestampMs) -> Self {
        #[cfg(not(test))]
        let (steps_left, endings_left) = (STEPS_PER_CALL, ENDINGS_PER_CALL);
        #[cfg(test)]
        let (steps_left, endings_left) = testing::budgets();
        Self { now, steps_left, endings_left, work: Fifo::default(), cascade: Cascade::default(), cancelled: 0 }
    }

    /// Whether a step is left.
    pub(crate) fn has_step(&self) -> bool {
        self.steps_left > 0
    }

    fn has_ending(&self) -> bool {
        self.endings_left > 0
    }

    fn use_step(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1);
        self.cascade.steps += 1;
    }

    /// Counts what a gate did to a member: whether it left DEPS or ended skipped. What its flow's cancellation ends in
    /// that gate (`flow.md` 3.5) is the call's own ending and counts for nothing.
    pub(crate) fn count_child(&mut self, before: PublicState, after: PublicState) {
        if before == after {
            return;
        }
        if after == PublicState::Skipped {
            self.cascade.skipped += 1;
            self.endings_left = self.endings_left.saturating_sub(1);
        } else if before == PublicState::WaitingChildren && !after.is_terminal() {
            self.cascade.promoted += 1;
        }
    }

    /// Counts a member that a cancellation's walk ended.
    fn count_cancelled(&mut self) {
        self.cancelled += 1;
        self.endings_left = self.endings_left.saturating_sub(1);
    }
}

/// The next candidate of an item.
#[derive(Clone, Copy, Debug)]
enum Candidate {
    Edge(u64, EdgeId),
    Member(Uuid),
    /// The stand-alone execution that is being purged.
    Itself,
}

/// The flow that an item is about. Its record may have gone, its graph too.
fn flow_of(p: &Partition, item: &Item) -> Option<Uuid> {
    match item.key.subject {
        Subject::Flow(flow) => Some(flow),
        Subject::Execution(uuid) => readable(p, uuid)?.record.flow_id.map(FlowId::uuid),
    }
}

fn next_candidate(p: &Partition, item: &Item) -> Option<Candidate> {
    match (item.key.kind, item.key.subject) {
        (BacklogKind::Edges, Subject::Execution(upstream)) => {
            let after = if let Some(Cursor::Edge(seq)) = item.cursor { seq } else { 0 };
            let graph = p.graph(flow_of(p, item)?)?;
            graph.outgoing_after(upstream, after).next().map(|e| Candidate::Edge(e.seq, e.edge_id))
        }
        (BacklogKind::Cancel | BacklogKind::Seal, Subject::Flow(flow)) => {
            members_after(p, flow, item.cursor).next().map(Candidate::Member)
        }
        (BacklogKind::Purge, Subject::Flow(flow)) => {
            // A purged member stays the candidate while records of it are left; it leaves the graph with its last.
            p.graph(flow)?.members.keys().next().copied().map(Candidate::Member)
        }
        (BacklogKind::Purge, Subject::Execution(uuid)) => p.remains.contains_key(&uuid).then_some(Candidate::Itself),
        // No item has its kind with another subject.
        _ => None,
    }
}

/// The open members behind the cursor of a `cancel` or `seal` item, by id.
fn members_after(p: &Partition, flow: Uuid, cursor: Option<Cursor>) -> impl Iterator<Item = Uuid> {
    use std::ops::Bound;
    let from = if let Some(Cursor::Member(uuid)) = cursor { Bound::Excluded(uuid) } else { Bound::Unbounded };
    p.graph(flow).into_iter().flat_map(move |g| g.open.range((from, Bound::Unbounded)).copied())
}

/// What a flow's `cancel` or `seal` item has before it, if it stands on the backlog: open members behind its cursor.
pub(crate) fn remaining(p: &Partition, kind: BacklogKind, flow: Uuid) -> Option<u32> {
    let entry = p.backlog.get(&ItemKey { kind, subject: Subject::Flow(flow) })?;
    Some(u32::try_from(members_after(p, flow, entry.cursor).count()).unwrap_or(u32::MAX))
}

/// Whether an item has nothing to do any more: the flow is frozen or gone, or no candidate is left.
fn is_void(p: &Partition, item: &Item) -> bool {
    let about_structure = matches!(item.key.kind, BacklogKind::Edges | BacklogKind::Seal);
    let dead = about_structure && flow_of(p, item).and_then(|f| p.flow(f)).is_none_or(FlowRecord::is_frozen);
    dead || next_candidate(p, item).is_none()
}

/// Whether examining the candidate would end a member as skipped, or as cancelled by a walk.
fn would_end(p: &Partition, now: TimestampMs, item: &Item, candidate: Candidate) -> bool {
    match (candidate, item.key.kind) {
        (Candidate::Edge(_, id), _) => plan_of(p, now, item, id).is_some_and(|plan| plan_ends(p, &plan)),
        (Candidate::Member(uuid), BacklogKind::Cancel) => readable(p, uuid).is_some_and(|x| is_covered(p, x)),
        (Candidate::Member(uuid), BacklogKind::Seal) => {
            readable(p, uuid).is_some_and(|x| p.member(x).is_some_and(|m| ends_skipped(x, m.impossible_count)))
        }
        (Candidate::Member(_) | Candidate::Itself, _) => false,
    }
}

/// The execution, unless its record cannot be decoded: then it is passed over.
fn readable(p: &Partition, uuid: Uuid) -> Option<&Execution> {
    p.get(uuid).ok().flatten()
}

/// Whether the gate of a member that is not held ends it behind so many impossible edges: it was never claimed.
fn ends_skipped(x: &Execution, impossible_count: u32) -> bool {
    x.record.vector.is_runnable() && x.record.started_at.is_none() && impossible_count > 0
}

/// What examining an edge would do.
struct EdgePlan {
    edge_id: EdgeId,
    flow: Uuid,
    downstream: Uuid,
    was: EdgeState,
    state: EdgeState,
    resolution: Option<EdgeResolution>,
    reopen: bool,
}

/// The verdict of an upstream as it is now.
pub(crate) fn verdict(
    upstream: &Execution,
    kind: DependencyKind,
    now: TimestampMs,
) -> (EdgeState, Option<EdgeResolution>) {
    let outcome = upstream.record.vector.terminal_outcome;
    let state = kind.verdict(outcome);
    let run = upstream.record.replay_count;
    let resolution = (state != EdgeState::Pending).then(|| EdgeResolution {
        upstream_run: run,
        upstream_outcome: outcome,
        upstream_attempt_index: upstream.attempt.as_ref().filter(|a| a.run == run).map(|a| a.attempt_index),
        resolved_at: now,
    });
    (state, resolution)
}

/// Whether an edge already says what its upstream says: both pending, or decided by the same run.
pub(crate) fn is_level(known: Option<&EdgeResolution>, verdict: Option<&EdgeResolution>) -> bool {
    known.map(|r| r.upstream_run) == verdict.map(|r| r.upstream_run)
}

/// Whether a member's resolved edges do not move again until it is replayed itself: it was claimed in this run, or has
/// ended otherwise than skipped.
pub(crate) fn is_settled(x: &Execution) -> bool {
    let v = x.record.vector;
    let never_claimed = v.is_runnable()
        && matches!(v.attempt_state, AttemptState::PendingFirstAttempt | AttemptState::PendingReplayAttempt);
    let skipped = v.terminal_outcome == TerminalOutcome::Skipped;
    !never_claimed && !skipped
}

fn plan_of(p: &Partition, now: TimestampMs, item: &Item, edge_id: EdgeId) -> Option<EdgePlan> {
    plan_edge(p, now, flow_of(p, item)?, edge_id, item.reopen)
}

/// Steps 1 to 4 of examining an edge: what it would take, or nothing.
fn plan_edge(p: &Partition, now: TimestampMs, flow: Uuid, edge_id: EdgeId, reopen: bool) -> Option<EdgePlan> {
    let edge = p.graph(flow)?.edges.get(&edge_id)?;
    if edge.edge_state == EdgeState::Staged || p.damaged_edges.contains(&edge_id) {
        return None;
    }
    let upstream = readable(p, edge.upstream_execution_id.uuid())?;
    let downstream = readable(p, edge.downstream_execution_id.uuid())?;
    let (state, resolution) = verdict(upstream, edge.dependency_kind, now);
    if is_level(edge.resolution.as_ref(), resolution.as_ref()) || (edge.resolution.is_some() && is_settled(downstream))
    {
        return None;
    }
    let was = edge.edge_state;
    Some(EdgePlan { edge_id, flow, downstream: downstream.uuid(), was, state, resolution, reopen })
}

/// Whether examining the edge would change it, whatever item it belongs to.
pub(crate) fn would_move(p: &Partition, flow: Uuid, edge_id: EdgeId) -> bool {
    plan_edge(p, TimestampMs::ZERO, flow, edge_id, false).is_some()
}

/// Whether carrying out the plan ends the downstream as skipped.
fn plan_ends(p: &Partition, plan: &EdgePlan) -> bool {
    let Some(d) = readable(p, plan.downstream) else { return false };
    let Some(member) = p.member(d) else { return false };
    let held = member.held && p.flow(plan.flow).is_some_and(|f| !f.sealed);
    let mut after = member.clone();
    recount(&mut after, plan.was, plan.state);
    !held && ends_skipped(d, after.impossible_count)
}

/// Moves a member's counts from one edge state to another; one that was staged is counted as incoming from now on.
pub(crate) fn recount(member: &mut MemberRecord, from: EdgeState, to: EdgeState) {
    fn slot(member: &mut MemberRecord, state: EdgeState) -> Option<&mut u32> {
        match state {
            EdgeState::Pending => Some(&mut member.unresolved_count),
            EdgeState::Satisfied => Some(&mut member.satisfied_count),
            EdgeState::Impossible => Some(&mut member.impossible_count),
            EdgeState::Staged | EdgeState::Detached => None,
        }
    }
    match slot(member, from) {
        Some(count) => *count = count.saturating_sub(1),
        None => member.incoming_count += 1,
    }
    if let Some(count) = slot(member, to) {
        *count += 1;
    }
}

/// Steps 5 to 7 of examining an edge.
fn carry_out(p: &mut Partition, call: &mut Call, plan: &EdgePlan) {
    let Some(graph) = p.graphs.get_mut(&plan.flow) else { return };
    let Some(edge) = graph.edges.get_mut(&plan.edge_id) else { return };
    edge.edge_state = plan.state;
    edge.resolution = plan.resolution;
    let upstream = edge.upstream_execution_id.uuid();
    let mut impossible = 0;
    if let Some(member) = graph.members.get_mut(&plan.downstream) {
        recount(member, plan.was, plan.state);
        impossible = member.impossible_count;
    }
    let Some(d) = readable(p, plan.downstream) else { return };
    if d.record.vector.is_runnable() {
        gate_member(p, call, plan.downstream);
        return;
    }
    let reopens = plan.reopen
        && d.record.vector.terminal_outcome == TerminalOutcome::Skipped
        && plan.was == EdgeState::Impossible
        && plan.state != EdgeState::Impossible
        && impossible == 0
        && d.record.replay_count < d.record.policy.max_replays
        && p.flow(plan.flow).is_some_and(|f| f.cancelled.is_none());
    if reopens {
        crate::rules::execution::reopen(p, call, plan.downstream, upstream);
    }
}

/// Runs the gate of a runnable member and counts what it did.
pub(crate) fn gate_member(p: &mut Partition, call: &mut Call, uuid: Uuid) {
    if readable(p, uuid).is_none_or(|x| !x.record.vector.is_runnable()) {
        return;
    }
    let Ok(mut x) = p.take(uuid) else { return };
    let before = x.record.vector.public_state();
    gate(p, call, &mut x);
    call.count_child(before, x.record.vector.public_state());
    p.put(x, call.now);
}

/// Examines one edge on behalf of an operation: one step.
pub(crate) fn examine_edge(p: &mut Partition, call: &mut Call, flow: Uuid, edge_id: EdgeId) {
    call.use_step();
    if let Some(plan) = plan_edge(p, call.now, flow, edge_id, false) {
        carry_out(p, call, &plan);
    }
}

/// Makes a staged edge count on behalf of an operation: one step. It takes the verdict of its upstream as that is now,
/// and its downstream's gate decides, if that is runnable.
pub(crate) fn apply_edge(p: &mut Partition, call: &mut Call, flow: Uuid, edge_id: EdgeId) {
    call.use_step();
    let now = call.now;
    let Some(edge) = p.graph(flow).and_then(|g| g.edges.get(&edge_id)) else { return };
    let Some(upstream) = readable(p, edge.upstream_execution_id.uuid()) else { return };
    let (state, resolution) = verdict(upstream, edge.dependency_kind, now);
    let downstream = edge.downstream_execution_id.uuid();
    if let Some(edge) = p.graphs.get_mut(&flow).and_then(|g| g.edges.get_mut(&edge_id)) {
        edge.edge_state = state;
        edge.resolution = resolution;
        edge.applied_at = Some(now);
    }
    p.edit_member(flow, downstream, |member| recount(member, EdgeState::Staged, state));
    gate_member(p, call, downstream);
}

fn examine(p: &mut Partition, call: &mut Call, item: &Item, candidate: Candidate) {
    match (candidate, item.key.kind, item.key.subject) {
        (Candidate::Edge(_, id), ..) => {
            if let Some(plan) = plan_of(p, call.now, item, id) {
                carry_out(p, call, &plan);
            }
        }
        (Candidate::Member(uuid), BacklogKind::Cancel, _) => {
            let covered = readable(p, uuid).is_some_and(|x| is_covered(p, x));
            if covered && let Ok(mut x) = p.take(uuid) {
                end_with_flow(p, call, &mut x);
                call.count_cancelled();
                p.put(x, call.now);
            }
        }
        (Candidate::Member(uuid), BacklogKind::Seal, _) => gate_member(p, call, uuid),
        (Candidate::Member(uuid), _, Subject::Flow(flow)) => purge_member(p, flow, uuid),
        (Candidate::Itself, _, Subject::Execution(uuid)) => purge_remains(p, uuid),
        // Members are candidates of flows' items only, and only the purge of an execution has itself.
        (Candidate::Member(_) | Candidate::Itself, ..) => {}
    }
}

/// Runs the call's work list until it is empty or a budget is used up; what is left goes to the backlog.
pub(crate) fn run(p: &mut Partition, call: &mut Call) {
    while let Some(item) = call.work.head() {
        if !call.has_step() {
            break;
        }
        let Some(candidate) = next_candidate(p, &item) else {
            finish(p, call, &item);
            continue;
        };
        if !call.has_ending() && would_end(p, call.now, &item, candidate) {
            break;
        }
        step(p, call, &item, candidate);
        let Some(now_at) = call.work.get(&item.key) else { continue };
        if next_candidate(p, &now_at).is_none() {
            finish(p, call, &item);
        }
    }
    while let Some(item) = call.work.head() {
        call.work.remove(&item.key);
        call.cascade.deferred += 1;
        p.backlog_resume(item);
    }
}

fn step(p: &mut Partition, call: &mut Call, item: &Item, candidate: Candidate) {
    call.use_step();
    if let Some(cursor) = cursor_at(candidate) {
        call.work.advance(&item.key, cursor);
    }
    examine(p, call, item, candidate);
}

fn cursor_at(candidate: Candidate) -> Option<Cursor> {
    match candidate {
        Candidate::Edge(seq, _) => Some(Cursor::Edge(seq)),
        Candidate::Member(uuid) => Some(Cursor::Member(uuid)),
        Candidate::Itself => None,
    }
}

fn finish(p: &mut Partition, call: &mut Call, item: &Item) {
    call.work.remove(&item.key);
    p.backlog_remove(item);
}

/// What a drain did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Candidates examined.
    pub(crate) steps: u64,
    /// Items dropped because they were void.
    pub(crate) stale: u64,
    /// Executions and flows whose items were dropped because their record cannot be decoded.
    pub(crate) corrupt: Vec<String>,
}

/// Works on the partition's backlog with what is left of `limit` and of the call's budgets.
pub(crate) fn drain(p: &mut Partition, call: &mut Call, limit: &mut u32) -> Drained {
    let mut done = Drained::default();
    let mut in_a_row: Option<(Item, u32)> = None;
    while *limit > 0 && call.has_step() {
        let Some(item) = p.backlog.head() else { break };
        // Whose outgoing edges these are must be read to examine them.
        let corrupt = match (item.key.kind, item.key.subject) {
            (BacklogKind::Edges, Subject::Execution(uuid)) => {
                p.get(uuid).err().map(|_| p.execution_id(uuid).to_string())
            }
            (_, Subject::Flow(flow)) => p.damaged_flows.contains(&flow).then(|| p.flow_id(flow).to_string()),
            _ => None,
        };
        if corrupt.is_some() || is_void(p, &item) {
            p.backlog_remove(&item);
            call.use_step();
            *limit -= 1;
            match corrupt {
                Some(id) => done.corrupt.push(id),
                None => done.stale += 1,
            }
            continue;
        }
        let Some(candidate) = next_candidate(p, &item) else { break };
        if !call.has_ending() && would_end(p, call.now, &item, candidate) {
            break;
        }
        call.use_step();
        *limit -= 1;
        done.steps += 1;
        if let Some(cursor) = cursor_at(candidate)
            && item.key.kind != BacklogKind::Purge
        {
            p.backlog.advance(&item.key, cursor);
        }
        examine(p, call, &item, candidate);
        // What arises while draining goes to the backlog's tail.
        while let Some(arisen) = call.work.head() {
            call.work.remove(&arisen.key);
            p.backlog_restart(arisen);
        }
        let streak = match in_a_row {
            Some((last, n)) if last.key == item.key => n + 1,
            _ => 1,
        };
        in_a_row = Some((item, streak));
        match p.backlog.get(&item.key) {
            Some(at) if next_candidate(p, &at).is_none() => p.backlog_remove(&item),
            Some(_) if streak >= STEPS_IN_A_ROW => {
                p.backlog.yield_place(&item.key);
                in_a_row = None;
            }
            _ => {}
        }
    }
    done
}

/// One step of purging a member of a flow that has gone.
fn purge_member(p: &mut Partition, flow: Uuid, uuid: Uuid) {
    if let Ok(held) = p.take_to_remove(uuid) {
        let x = p.remove(held);
        let own = u32::from(x.attempt.is_some()) + u32::from(x.suspension.is_some());
        p.remains.insert(uuid, Remains { own, history: x.history });
    }
    let mut left = RECORDS_PER_STEP;
    if let Some(remains) = p.remains.get_mut(&uuid) {
        left = remains.shrink(left);
    }
    let Some(graph) = p.graphs.get_mut(&flow) else { return };
    while left > 0 {
        let edge = graph.incoming_of(uuid).next().map(|e| e.edge_id);
        let Some(edge) = edge else { break };
        graph.remove_edge(edge);
        left -= 1;
    }
    let empty = p.remains.get(&uuid).is_none_or(Remains::is_empty);
    if empty && !graph.has_incoming(uuid) {
        graph.members.remove(&uuid);
        graph.open.remove(&uuid);
        p.remains.remove(&uuid);
        if graph.members.is_empty() {
            p.graphs.remove(&flow);
        }
    }
}

/// One step of purging a stand-alone execution that has gone.
fn purge_remains(p: &mut Partition, uuid: Uuid) {
    if let Some(remains) = p.remains.get_mut(&uuid) {
        remains.shrink(RECORDS_PER_STEP);
        if remains.is_empty() {
            p.remains.remove(&uuid);
        }
    }
}

/// Smaller budgets, so that small graphs meet them.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::{ENDINGS_PER_CALL, STEPS_PER_CALL};

    thread_local! {
        static BUDGETS: Cell<(u32, u32)> = const { Cell::new((STEPS_PER_CALL, ENDINGS_PER_CALL)) };
    }

    /// The budgets of a call on this thread.
    pub(super) fn budgets() -> (u32, u32) {
        BUDGETS.get()
    }

    /// Runs something whose calls have these budgets.
    pub(crate) fn with_budgets<R>(steps: u32, endings: u32, run: impl FnOnce() -> R) -> R {
        let before = BUDGETS.replace((steps, endings));
        let result = run();
        BUDGETS.set(before);
        result
    }
}
