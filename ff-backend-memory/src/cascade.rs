//! What an ending, a cancellation or a seal means for others: the call's work list, the partition's backlog, and the
//! examination of one candidate (`flow.md` 3.2 to 3.4).
//!
//! Everything here is bounded per call by two budgets: 128 steps and 64 endings. What a budget stops goes to the
//! backlog and is drained by sweeps and claims.

use ff_core::contracts::{BacklogKind, Cascade, DependencyKind, EdgeState};
use ff_core::ids::EdgeId;
use ff_core::records::{EdgeResolution, MemberRecord};
use ff_core::state::{PublicState, TerminalOutcome};
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::model::{Cursor, Execution, Fifo, Item, Partition, Subject};
use crate::routines::{end_with_flow, gate, is_covered};

/// Steps that one call may use.
pub(crate) const STEPS_PER_CALL: u32 = 128;
/// Endings that one call may make beside its own.
pub(crate) const ENDINGS_PER_CALL: u32 = 64;
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
}

impl Call {
    pub(crate) fn new(now: TimestampMs) -> Self {
        Self {
            now,
            steps_left: STEPS_PER_CALL,
            endings_left: ENDINGS_PER_CALL,
            work: Fifo::default(),
            cascade: Cascade::default(),
        }
    }

    /// Whether a step is left.
    pub(crate) fn has_step(&self) -> bool {
        self.steps_left > 0
    }

    /// Whether an ending is left.
    pub(crate) fn has_ending(&self) -> bool {
        self.endings_left > 0
    }

    /// Uses one step.
    pub(crate) fn use_step(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1);
        self.cascade.steps += 1;
    }

    /// Counts what an examination did to a member: whether it left DEPS, ended skipped, or was cancelled by a walk.
    fn count(&mut self, before: PublicState, after: PublicState, walk_cancels: bool) {
        if before == after {
            return;
        }
        if after == PublicState::Skipped {
            self.cascade.skipped += 1;
            self.endings_left = self.endings_left.saturating_sub(1);
        } else if after == PublicState::Cancelled && walk_cancels {
            self.endings_left = self.endings_left.saturating_sub(1);
        } else if before == PublicState::WaitingChildren && !after.is_terminal() {
            self.cascade.promoted += 1;
        }
    }

    /// Counts what the call itself did to a child.
    pub(crate) fn count_child(&mut self, before: PublicState, after: PublicState) {
        self.count(before, after, false);
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

/// The flow that an item is about, while it exists.
fn flow_of(p: &Partition, item: &Item) -> Option<Uuid> {
    match item.key.subject {
        Subject::Flow(flow) => Some(flow),
        Subject::Execution(uuid) => p.get(uuid).ok().flatten().and_then(|x| x.record.flow_id).map(|f| f.uuid()),
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
            let after = if let Some(Cursor::Member(uuid)) = item.cursor { Some(uuid) } else { None };
            let open = &p.graph(flow)?.open;
            use std::ops::Bound;
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            open.range((from, Bound::Unbounded)).next().map(|uuid| Candidate::Member(*uuid))
        }
        (BacklogKind::Purge, Subject::Flow(flow)) => {
            // A purged member stays the candidate while records of it are left; it leaves the graph with its last.
            p.graph(flow)?.members.keys().next().map(|uuid| Candidate::Member(*uuid))
        }
        (BacklogKind::Purge, Subject::Execution(uuid)) => p.remains.contains_key(&uuid).then_some(Candidate::Itself),
        _ => None,
    }
}

/// How many candidates are left behind the cursor of a `cancel` or `seal` item: open members.
pub(crate) fn members_after(p: &Partition, flow: Uuid, cursor: Option<Cursor>) -> u64 {
    use std::ops::Bound;
    let from = if let Some(Cursor::Member(uuid)) = cursor { Bound::Excluded(uuid) } else { Bound::Unbounded };
    p.graph(flow).map_or(0, |g| g.open.range((from, Bound::Unbounded)).count() as u64)
}

/// Whether an item has nothing to do any more: the flow is frozen or gone, or no candidate is left.
fn is_void(p: &Partition, item: &Item) -> bool {
    let about_structure = matches!(item.key.kind, BacklogKind::Edges | BacklogKind::Seal);
    let dead = about_structure && flow_of(p, item).and_then(|f| p.flow(f)).is_none_or(|f| f.is_frozen());
    dead || next_candidate(p, item).is_none()
}

/// What an examination decided before it wrote anything.
fn would_end(p: &Partition, item: &Item, candidate: Candidate) -> bool {
    match candidate {
        Candidate::Edge(_, id) => plan_edge(p, item, id).is_some_and(|plan| plan_ends(p, &plan)),
        Candidate::Member(uuid) => match item.key.kind {
            BacklogKind::Cancel => p.get(uuid).ok().flatten().is_some_and(|x| is_covered(p, x)),
            BacklogKind::Seal => p.get(uuid).ok().flatten().is_some_and(|x| seal_would_skip(p, x)),
            _ => false,
        },
        Candidate::Itself => false,
    }
}

/// Whether the gate of a held member that is released would end it: it was never claimed and has an impossible edge.
fn seal_would_skip(p: &Partition, x: &Execution) -> bool {
    x.record.vector.is_runnable()
        && x.record.started_at.is_none()
        && p.member(x).is_some_and(|m| m.impossible_count > 0)
}

/// What examining an edge would do.
struct EdgePlan {
    edge_id: EdgeId,
    flow: Uuid,
    downstream: Uuid,
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
    let vector = upstream.record.vector;
    if !vector.is_terminal() {
        return (EdgeState::Pending, None);
    }
    let outcome = vector.terminal_outcome;
    let state = if outcome == TerminalOutcome::Success || kind == DependencyKind::AnyTerminal {
        EdgeState::Satisfied
    } else {
        EdgeState::Impossible
    };
    let run = upstream.record.replay_count;
    let resolution = EdgeResolution {
        upstream_run: run,
        upstream_outcome: outcome,
        upstream_attempt_index: upstream.attempt.as_ref().filter(|a| a.run == run).map(|a| a.attempt_index),
        resolved_at: now,
    };
    (state, Some(resolution))
}

/// Whether a member's resolved edges do not move again until it is replayed itself: it was claimed in this run, or has
/// ended otherwise than skipped.
pub(crate) fn is_settled(x: &Execution) -> bool {
    use ff_core::state::AttemptState;
    let v = x.record.vector;
    let never_claimed = v.is_runnable()
        && matches!(v.attempt_state, AttemptState::PendingFirstAttempt | AttemptState::PendingReplayAttempt);
    let skipped = v.terminal_outcome == TerminalOutcome::Skipped;
    !never_claimed && !skipped
}

/// Steps 1 to 4 of examining an edge: what it would take, or nothing.
fn plan_edge(p: &Partition, item: &Item, edge_id: EdgeId) -> Option<EdgePlan> {
    let flow = flow_of(p, item)?;
    plan_edge_in(p, flow, edge_id, item.reopen, TimestampMs::ZERO)
}

fn plan_edge_in(p: &Partition, flow: Uuid, edge_id: EdgeId, reopen: bool, now: TimestampMs) -> Option<EdgePlan> {
    let edge = p.graph(flow)?.edges.get(&edge_id)?;
    if edge.edge_state == EdgeState::Staged {
        return None;
    }
    // A record that cannot be decoded is passed over.
    let upstream = p.get(edge.upstream_execution_id.uuid()).ok().flatten()?;
    let downstream = p.get(edge.downstream_execution_id.uuid()).ok().flatten()?;
    let (state, resolution) = verdict(upstream, edge.dependency_kind, now);
    let level = match (&edge.resolution, &resolution) {
        (None, None) => true,
        (Some(known), Some(new)) => known.upstream_run == new.upstream_run,
        _ => false,
    };
    if level || (edge.resolution.is_some() && is_settled(downstream)) {
        return None;
    }
    Some(EdgePlan { edge_id, flow, downstream: downstream.uuid(), state, resolution, reopen })
}

/// Whether carrying out the plan ends the downstream as skipped.
fn plan_ends(p: &Partition, plan: &EdgePlan) -> bool {
    let Ok(Some(d)) = p.get(plan.downstream) else { return false };
    if !d.record.vector.is_runnable() || d.record.started_at.is_some() {
        return false;
    }
    let Some(member) = p.member(d) else { return false };
    let held = member.held && p.flow(plan.flow).is_some_and(|f| !f.sealed);
    let was = p.graph(plan.flow).and_then(|g| g.edges.get(&plan.edge_id)).map(|e| e.edge_state);
    let impossible = (member.impossible_count + u32::from(plan.state == EdgeState::Impossible))
        .saturating_sub(u32::from(was == Some(EdgeState::Impossible)));
    !held && impossible > 0
}

/// Moves a member's counts from one edge state to another.
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
fn carry_out(p: &mut Partition, call: &mut Call, plan: EdgePlan) {
    let now = call.now;
    let Some(graph) = p.graphs.get_mut(&plan.flow) else { return };
    let Some(edge) = graph.edges.get_mut(&plan.edge_id) else { return };
    let was = edge.edge_state;
    edge.edge_state = plan.state;
    edge.resolution = plan.resolution.map(|r| EdgeResolution { resolved_at: now, ..r });
    if let Some(member) = graph.members.get_mut(&plan.downstream) {
        recount(member, was, plan.state);
    }
    let impossible = graph.members.get(&plan.downstream).map_or(0, |m| m.impossible_count);
    let Ok(Some(d)) = p.get(plan.downstream) else { return };
    if d.record.vector.is_runnable() {
        gate_member(p, call, plan.downstream, false);
        return;
    }
    let left_impossible = was == EdgeState::Impossible && plan.state != EdgeState::Impossible;
    let reopens = d.record.vector.terminal_outcome == TerminalOutcome::Skipped
        && plan.reopen
        && left_impossible
        && impossible == 0
        && d.record.replay_count < d.record.policy.max_replays
        && p.flow(plan.flow).is_some_and(|f| f.cancelled.is_none());
    if reopens {
        let upstream = p.graph(plan.flow).and_then(|g| g.edges.get(&plan.edge_id)).map(|e| e.upstream_execution_id);
        if let Some(upstream) = upstream {
            crate::rules::execution::reopen(p, call, plan.downstream, upstream.uuid());
        }
    }
}

/// Runs the gate of a member and counts what it did.
pub(crate) fn gate_member(p: &mut Partition, call: &mut Call, uuid: Uuid, walk_cancels: bool) {
    let Ok(mut x) = p.take(uuid) else { return };
    let before = x.record.vector.public_state();
    gate(p, call, &mut x);
    call.count(before, x.record.vector.public_state(), walk_cancels);
    let now = call.now;
    p.put(x, now);
}

/// Examines one edge on behalf of an operation: one step. Says whether it moved.
pub(crate) fn examine_edge(p: &mut Partition, call: &mut Call, flow: Uuid, edge_id: EdgeId, reopen: bool) -> bool {
    call.use_step();
    match plan_edge_in(p, flow, edge_id, reopen, call.now) {
        Some(plan) => {
            carry_out(p, call, plan);
            true
        }
        None => false,
    }
}

fn examine(p: &mut Partition, call: &mut Call, item: &Item, candidate: Candidate) {
    match (candidate, item.key.kind) {
        (Candidate::Edge(_, id), _) => {
            if let Some(plan) = plan_edge(p, item, id) {
                carry_out(p, call, plan);
            }
        }
        (Candidate::Member(uuid), BacklogKind::Cancel) => {
            let covered = p.get(uuid).ok().flatten().is_some_and(|x| is_covered(p, x));
            if covered && let Ok(mut x) = p.take(uuid) {
                let before = x.record.vector.public_state();
                end_with_flow(p, call, &mut x);
                call.count(before, x.record.vector.public_state(), true);
                let now = call.now;
                p.put(x, now);
            }
        }
        (Candidate::Member(uuid), BacklogKind::Seal) => gate_member(p, call, uuid, false),
        (Candidate::Member(uuid), _) => {
            if let Subject::Flow(flow) = item.key.subject {
                purge_member(p, flow, uuid);
            }
        }
        (Candidate::Itself, _) => {
            if let Subject::Execution(uuid) = item.key.subject {
                purge_remains(p, uuid);
            }
        }
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
        if !call.has_ending() && would_end(p, &item, candidate) {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    pub(crate) steps: u64,
    pub(crate) stale: u64,
}

/// Works on the partition's backlog with what is left of `limit` and of the call's budgets.
pub(crate) fn drain(p: &mut Partition, call: &mut Call, limit: &mut u32) -> Drained {
    let mut done = Drained::default();
    let mut in_a_row: Option<(Item, u32)> = None;
    while *limit > 0 && call.has_step() {
        let Some(item) = p.backlog.head() else { break };
        if is_void(p, &item) {
            p.backlog_remove(&item);
            call.use_step();
            *limit -= 1;
            done.stale += 1;
            continue;
        }
        let Some(candidate) = next_candidate(p, &item) else { break };
        if !call.has_ending() && would_end(p, &item, candidate) {
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
        p.remains.insert(uuid, crate::model::Remains { own, history: x.history });
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
    let empty = p.remains.get(&uuid).is_none_or(|r| r.is_empty());
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
