//! The invariants of the contract, checked over a whole state. Everything is recomputed from the records here, not
//! through the functions that keep the indexes level, so that the two can disagree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{BacklogKind, EdgeState, TimerKind, WaitpointState};
use ff_core::ids::LaneId;
use ff_core::policy::Capabilities;
use ff_core::state::{AttemptLifecycle, AttemptState, BlockReason, StateName};
use uuid::Uuid;

use crate::model::{Execution, ItemKey, Model, Partition, ReadyKey, Subject, TimerKey, TimerOf};

/// What is wrong with a state: one line each; none if nothing is.
#[must_use]
pub(crate) fn audit(model: &Model) -> Vec<String> {
    model.partitions().flat_map(audit_partition).collect()
}

struct Findings {
    partition: u16,
    lines: Vec<String>,
}

impl Findings {
    fn ensure(&mut self, ok: bool, line: impl FnOnce() -> String) {
        if !ok {
            self.lines.push(format!("partition {}: {}", self.partition, line()));
        }
    }
}

/// The findings of one partition.
#[must_use]
pub(crate) fn audit_partition(p: &Partition) -> Vec<String> {
    let mut f = Findings { partition: p.number(), lines: Vec::new() };
    for x in p.executions() {
        audit_execution(&mut f, p, x);
    }
    audit_queues(&mut f, p);
    audit_timers(&mut f, p);
    audit_counts(&mut f, p);
    audit_flows(&mut f, p);
    audit_lists(&mut f, p);
    f.lines
}

fn audit_execution(f: &mut Findings, p: &Partition, x: &Execution) {
    let r = &x.record;
    let id = r.execution_id;
    let Some(state) = r.vector.name() else {
        f.ensure(false, || format!("{id} has the illegal vector {:?}", r.vector));
        return;
    };
    let (running, done) = (state == StateName::Running, state == StateName::Done);
    f.ensure(r.lease.is_some() == running, || format!("{id} is {state:?} and its lease is {:?}", r.lease));
    f.ensure(r.ended.is_some() == done, || format!("{id} is {state:?} and its end is {:?}", r.ended));
    f.ensure(r.purge_at.is_some() == (done && r.flow_id.is_none()), || {
        format!("{id} is {state:?}, in flow {:?}, and its purge is {:?}", r.flow_id, r.purge_at)
    });
    // The attempts.
    let count = r.attempt_count as usize;
    f.ensure(x.history.attempts.len() + usize::from(x.attempt.is_some()) == count, || {
        format!("{id} counts {count} attempts and has {} and {:?}", x.history.attempts.len(), x.attempt)
    });
    for (index, attempt) in x.history.attempts.iter().chain(x.attempt.as_ref()).enumerate() {
        let right = attempt.attempt_index.get() as usize == index;
        f.ensure(right, || format!("{id}: attempt {index} has index {}", attempt.attempt_index));
        let is_final = attempt.attempt_state.is_final();
        f.ensure(attempt.ended.is_some() == is_final, || {
            format!("{id}: attempt {index} is {} and its end is {:?}", attempt.attempt_state, attempt.ended)
        });
        let replaced = index + 1 < count;
        f.ensure(!replaced || is_final, || format!("{id}: attempt {index} was replaced before its end"));
        f.ensure(attempt.attempt_deadline_at.is_none() || running, || {
            format!("{id} is {state:?} and attempt {index} has a deadline")
        });
    }
    let newest = x.attempt.as_ref().map(|a| a.attempt_state);
    let a = r.vector.attempt_state;
    let fits = match state {
        StateName::Running => newest == Some(AttemptLifecycle::Started),
        StateName::Suspended => newest == Some(AttemptLifecycle::Suspended),
        StateName::Lost | StateName::Revoked => newest == Some(AttemptLifecycle::InterruptedReclaimed),
        StateName::Done => newest.is_none_or(AttemptLifecycle::is_final) && (a == AttemptState::None) == (count == 0),
        _ if a == AttemptState::AttemptInterrupted => newest == Some(AttemptLifecycle::Suspended),
        _ => newest.is_none_or(AttemptLifecycle::is_final),
    };
    f.ensure(fits, || format!("{id} is {state:?}({a}) and its newest attempt is {newest:?}"));
    // What holds it.
    let may_hold = r.vector.is_runnable() || r.vector.is_reclaimable();
    f.ensure(r.blocks.is_empty() || may_hold, || format!("{id} is {state:?} and blocked"));
    for (reason, block) in &r.blocks {
        let by_hand = matches!(reason, BlockReason::PausedByOperator | BlockReason::PausedByPolicy);
        f.ensure(by_hand || block.until.is_some(), || format!("{id}: a {reason} block without end"));
    }
    let open_suspension = x.suspension.as_ref().is_some_and(|s| s.closed_at.is_none());
    f.ensure(open_suspension == (state == StateName::Suspended), || {
        format!("{id} is {state:?} and its suspension is open: {open_suspension}")
    });
    f.ensure(r.grant.is_none() || state == StateName::Ready || r.vector.is_reclaimable(), || {
        format!("{id} is {state:?} and granted")
    });
    if done {
        f.ensure(r.not_before.is_none() && r.grant.is_none(), || format!("{id} has ended and still waits"));
        f.ensure(x.open_waitpoints.is_empty(), || format!("{id} has ended with open waitpoints"));
    }
    // The waitpoints.
    let open: BTreeSet<_> =
        x.history.waitpoints.values().filter(|w| w.state != WaitpointState::Closed).map(|w| w.waitpoint_id).collect();
    f.ensure(open == x.open_waitpoints, || format!("{id}: open waitpoints are {open:?}"));
    for w in x.history.waitpoints.values().filter(|w| w.state == WaitpointState::Active) {
        let owner = x.suspension.as_ref().filter(|s| s.closed_at.is_none()).map(|s| s.suspension_id);
        f.ensure(w.suspension_id.is_some() && w.suspension_id == owner, || {
            format!("{id}: waitpoint {} is active without its suspension", w.waitpoint_id)
        });
    }
    f.ensure(r.waitpoint_count as usize == x.history.waitpoints.len(), || {
        format!("{id} counts {} waitpoints and has {}", r.waitpoint_count, x.history.waitpoints.len())
    });
    f.ensure(x.history.signals.keys().next_back().is_none_or(|seq| *seq < r.next_signal_seq), || {
        format!("{id}: a signal is ahead of seq {}", r.next_signal_seq)
    });
    // Nobody is stranded.
    let awaited = match state {
        StateName::Done | StateName::Running => true,
        StateName::Ready => r.grant.is_some() || expected_in_queue(x),
        StateName::Delayed => r.not_before.is_some(),
        StateName::Blocked => !r.blocks.is_empty(),
        StateName::Lost | StateName::Revoked => {
            r.grant.is_some() || r.not_before.is_some() || !r.blocks.is_empty() || expected_in_queue(x)
        }
        StateName::Suspended => open_suspension,
        StateName::Deps => deps_end(p, x),
    };
    f.ensure(awaited, || format!("{id} is {state:?} and nothing will ever wake it"));
}

/// Whether something named will re-run the gate of a member that waits: an edge's upstream, the backlog, or the seal.
fn deps_end(p: &Partition, x: &Execution) -> bool {
    let Some(flow_id) = x.record.flow_id else { return false };
    let flow = flow_id.uuid();
    let Some(graph) = p.graph(flow) else { return false };
    let Some(member) = graph.members.get(&x.uuid()) else { return false };
    let owed = |kind, subject| p.backlog.get(&ItemKey { kind, subject }).is_some();
    let sealed = p.flow(flow).is_none_or(|record| record.sealed);
    if owed(BacklogKind::Cancel, Subject::Flow(flow)) {
        return true;
    }
    if member.held {
        return !sealed || owed(BacklogKind::Seal, Subject::Flow(flow));
    }
    let mut waits = false;
    for edge in graph.incoming_of(x.uuid()).filter(|e| e.edge_state == EdgeState::Pending) {
        let upstream = edge.upstream_execution_id.uuid();
        let alive = p.get(upstream).ok().flatten().is_none_or(|u| !u.record.vector.is_terminal());
        if !alive && !owed(BacklogKind::Edges, Subject::Execution(upstream)) {
            return false;
        }
        waits = true;
    }
    waits
}

fn expected_in_queue(x: &Execution) -> bool {
    let r = &x.record;
    let state = r.vector.name();
    matches!(state, Some(StateName::Ready | StateName::Lost | StateName::Revoked))
        && r.grant.is_none()
        && r.blocks.is_empty()
        && r.not_before.is_none()
}

type QueueEntry = (LaneId, Capabilities, bool, ReadyKey);

fn audit_queues(f: &mut Findings, p: &Partition) {
    let expected: BTreeSet<QueueEntry> = p
        .executions()
        .filter(|x| expected_in_queue(x))
        .map(|x| {
            let r = &x.record;
            let controlled = !r.policy.budget_ids.is_empty() || r.policy.quota_policy_id.is_some();
            let key = (Reverse(r.priority), r.created_at, x.uuid());
            (r.lane_id.clone(), r.policy.required_capabilities.clone(), controlled, key)
        })
        .collect();
    let actual: BTreeSet<QueueEntry> =
        p.queues.entries().map(|(lane, set, c, key)| (lane.clone(), set.clone(), c, key)).collect();
    for missing in expected.difference(&actual) {
        f.ensure(false, || format!("{} is missing in its queue", missing.3.2));
    }
    for foreign in actual.difference(&expected).filter(|e| !p.damaged.contains(&e.3.2)) {
        f.ensure(false, || format!("{} is in a queue where it does not belong", foreign.3.2));
    }
    let mut open: BTreeMap<(LaneId, Capabilities), u64> = BTreeMap::new();
    for x in p.executions().filter(|x| !x.record.vector.is_terminal()) {
        let key = (x.record.lane_id.clone(), x.record.policy.required_capabilities.clone());
        *open.entry(key).or_default() += 1;
    }
    if p.damaged.is_empty() {
        let registered: BTreeMap<(LaneId, Capabilities), u64> = p
            .queues
            .lanes()
            .flat_map(|(lane, sets)| sets.iter().map(move |(set, q)| ((lane.clone(), set.clone()), q.open)))
            .collect();
        f.ensure(open == registered, || format!("registered sets are {registered:?}, should be {open:?}"));
    }
}

fn audit_timers(f: &mut Findings, p: &Partition) {
    let mut expected = BTreeSet::new();
    for x in p.executions() {
        let r = &x.record;
        let me = TimerOf::Execution(x.uuid());
        let terminal = r.vector.is_terminal();
        let suspension = x.suspension.as_ref().filter(|s| s.closed_at.is_none());
        let own = [
            (TimerKind::Lease, r.lease.as_ref().map(|l| l.expires_at)),
            (TimerKind::AttemptTimeout, x.attempt.as_ref().and_then(|a| a.attempt_deadline_at)),
            (TimerKind::Deadline, r.deadline_at.filter(|_| !terminal)),
            (TimerKind::Delay, r.not_before.map(|n| n.at)),
            (TimerKind::SuspensionTimeout, suspension.and_then(|s| s.timeout_at)),
            (TimerKind::Grant, r.grant.as_ref().map(|g| g.expires_at)),
            (TimerKind::Retention, r.purge_at.filter(|_| terminal)),
        ];
        expected.extend(own.into_iter().filter_map(|(kind, at)| Some(TimerKey { due_at: at?, kind, of: me })));
        for (reason, block) in &r.blocks {
            let of = TimerOf::Block(x.uuid(), *reason);
            expected.extend(block.until.map(|due_at| TimerKey { due_at, kind: TimerKind::BlockUntil, of }));
        }
        for w in x.history.waitpoints.values().filter(|w| w.state == WaitpointState::Pending) {
            let of = TimerOf::Waitpoint(x.uuid(), w.waitpoint_id);
            expected.extend(w.expires_at.map(|due_at| TimerKey { due_at, kind: TimerKind::PendingWaitpoint, of }));
        }
    }
    for flow in p.flows() {
        let of = TimerOf::Flow(flow.flow_id.uuid());
        expected.extend(flow.purge_at.map(|due_at| TimerKey { due_at, kind: TimerKind::Retention, of }));
    }
    for missing in expected.difference(&p.timers) {
        f.ensure(false, || format!("timer {missing:?} is missing"));
    }
    for foreign in p.timers.difference(&expected).filter(|t| !p.damaged.contains(&t.of.uuid())) {
        f.ensure(false, || format!("timer {foreign:?} should not exist"));
    }
}

fn audit_counts(f: &mut Findings, p: &Partition) {
    if !p.damaged.is_empty() {
        return;
    }
    let mut lanes: BTreeMap<LaneId, [u64; 11]> = BTreeMap::new();
    for x in p.executions() {
        let counts = lanes.entry(x.record.lane_id.clone()).or_default();
        counts[x.record.vector.public_state().index()] += 1;
    }
    f.ensure(lanes == p.lane_counts, || format!("lane counts are {:?}, should be {lanes:?}", p.lane_counts));
}

fn audit_flows(f: &mut Findings, p: &Partition) {
    for flow in p.flows() {
        let id = flow.flow_id;
        let Some(graph) = p.graph(id.uuid()) else {
            f.ensure(false, || format!("{id} has no graph"));
            continue;
        };
        let members: Vec<&Execution> = graph.members.keys().filter_map(|m| p.get(*m).ok().flatten()).collect();
        if members.len() == graph.members.len() {
            let mut counts = ff_core::records::StateCounts::default();
            for x in &members {
                counts.add(x.record.vector.public_state());
            }
            f.ensure(counts == flow.member_counts, || {
                format!("{id} counts {:?}, should be {counts:?}", flow.member_counts)
            });
            let open: BTreeSet<Uuid> =
                members.iter().filter(|x| !x.record.vector.is_terminal()).map(|x| x.uuid()).collect();
            f.ensure(open == graph.open, || format!("{id}: open members are {:?}, should be {open:?}", graph.open));
            let over = flow.is_closed() && open.is_empty();
            f.ensure(flow.purge_at.is_some() == over, || format!("{id} is over: {over}, purge {:?}", flow.purge_at));
        }
        f.ensure(flow.node_count as usize == graph.members.len(), || format!("{id}: node_count is off"));
        f.ensure(flow.edge_count as usize == graph.edges.len(), || format!("{id}: edge_count is off"));
        for (uuid, member) in &graph.members {
            let mut counts = [0_u32; 4];
            for edge in graph.incoming_of(*uuid) {
                match edge.edge_state {
                    EdgeState::Staged => continue,
                    EdgeState::Pending => counts[1] += 1,
                    EdgeState::Satisfied => counts[2] += 1,
                    EdgeState::Impossible => counts[3] += 1,
                    EdgeState::Detached => f.ensure(false, || format!("{id}: a detached edge is stored")),
                }
                counts[0] += 1;
                let resolved = matches!(edge.edge_state, EdgeState::Satisfied | EdgeState::Impossible);
                f.ensure(edge.resolution.is_some() == resolved, || {
                    format!("{id}: edge {} is {} and resolved: {:?}", edge.edge_id, edge.edge_state, edge.resolution)
                });
            }
            let stored =
                [member.incoming_count, member.unresolved_count, member.satisfied_count, member.impossible_count];
            f.ensure(stored == counts, || format!("{id}: member {uuid} counts {stored:?}, should be {counts:?}"));
        }
        let deferred = p
            .backlog
            .iter()
            .filter(|item| match item.key.subject {
                Subject::Flow(of) => of == id.uuid(),
                Subject::Execution(of) => graph.members.contains_key(&of),
            })
            .count();
        f.ensure(flow.deferred as usize == deferred, || {
            format!("{id}: deferred is {}, should be {deferred}", flow.deferred)
        });
        if !flow.is_frozen() {
            for edge in graph.edges.values().filter(|e| e.edge_state == EdgeState::Pending) {
                let upstream = edge.upstream_execution_id.uuid();
                let open = p.get(upstream).ok().flatten().is_none_or(|u| !u.record.vector.is_terminal());
                let key = ItemKey { kind: BacklogKind::Edges, subject: Subject::Execution(upstream) };
                f.ensure(open || p.backlog.get(&key).is_some(), || {
                    format!("{id}: edge {} is pending, its upstream has ended and nothing is owed", edge.edge_id)
                });
            }
        }
    }
}

fn audit_lists(f: &mut Findings, p: &Partition) {
    let leases: BTreeMap<_, _> =
        p.executions().filter_map(|x| x.record.lease.as_ref().map(|l| (l.lease_id, x.uuid()))).collect();
    if p.damaged.is_empty() {
        f.ensure(leases == p.leases, || format!("the lease index is {:?}, should be {leases:?}", p.leases));
    }
    for (entry, uuid) in &p.idempotency {
        let named = p.get(*uuid).ok().flatten().and_then(|x| x.record.idempotency.as_ref());
        f.ensure(named.is_some_and(|k| k.key == entry.1) || p.damaged.contains(uuid), || {
            format!("key {:?} names {uuid}, which does not have it", entry.1)
        });
    }
    for uuid in p.remains.keys() {
        f.ensure(!p.exists(*uuid), || format!("{uuid} exists and is being purged"));
    }
}
