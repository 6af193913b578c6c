//! Queues, timers, counts and lists: each equals what the records imply.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{BacklogKind, TimerKind, WaitpointState};
use ff_core::ids::LaneId;
use ff_core::policy::Capabilities;
use ff_core::state::StateName;

use super::{Findings, Rule};
use crate::model::{Execution, KeyOwner, Partition, ReadyKey, Subject, TimerKey, TimerOf};

pub(super) fn audit(f: &mut Findings, p: &Partition) {
    queues(f, p);
    timers(f, p);
    counts(f, p);
    lists(f, p);
}

/// READY, LOST or REVOKED, with no grant, no block and no `not_before`.
pub(super) fn belongs_in_queue(x: &Execution) -> bool {
    let r = &x.record;
    let state = r.vector.name();
    matches!(state, Some(StateName::Ready | StateName::Lost | StateName::Revoked))
        && r.grant.is_none()
        && r.blocks.is_empty()
        && r.not_before.is_none()
}

type QueueEntry = (LaneId, Capabilities, bool, ReadyKey);

fn queues(f: &mut Findings, p: &Partition) {
    let expected: BTreeSet<QueueEntry> = p
        .executions()
        .filter(|x| belongs_in_queue(x))
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
        f.ensure(Rule::Queues, false, || format!("{} is missing in its queue", missing.3.2));
    }
    for foreign in actual.difference(&expected).filter(|e| !p.damaged.contains(&e.3.2)) {
        f.ensure(Rule::Queues, false, || format!("{} is in a queue where it does not belong", foreign.3.2));
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
        f.ensure(Rule::RegisteredSets, open == registered, || {
            format!("registered sets are {registered:?}, should be {open:?}")
        });
    }
}

fn timers(f: &mut Findings, p: &Partition) {
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
        f.ensure(Rule::Timers, false, || format!("{missing:?} is missing"));
    }
    for foreign in p.timers.difference(&expected).filter(|t| !p.damaged.contains(&t.of.uuid())) {
        f.ensure(Rule::Timers, false, || format!("{foreign:?} should not exist"));
    }
}

fn counts(f: &mut Findings, p: &Partition) {
    if !p.damaged.is_empty() {
        return;
    }
    let mut lanes: BTreeMap<LaneId, [u64; 11]> = BTreeMap::new();
    for x in p.executions() {
        let counts = lanes.entry(x.record.lane_id.clone()).or_default();
        counts[x.record.vector.public_state().index()] += 1;
    }
    f.ensure(Rule::LaneCounts, lanes == p.lane_counts, || {
        format!("lane counts are {:?}, should be {lanes:?}", p.lane_counts)
    });
}

fn lists(f: &mut Findings, p: &Partition) {
    let leases: BTreeMap<_, _> =
        p.executions().filter_map(|x| x.record.lease.as_ref().map(|l| (l.lease_id, x.uuid()))).collect();
    if p.damaged.is_empty() {
        f.ensure(Rule::LeaseIndex, leases == p.leases, || format!("leases are {:?}, should be {leases:?}", p.leases));
    }
    for ((owner, key), uuid) in &p.idempotency {
        let named = p.get(*uuid).ok().flatten();
        let has_it = named.is_some_and(|x| {
            let of_owner = match owner {
                KeyOwner::Namespace(namespace) => x.record.namespace == *namespace,
                KeyOwner::Flow(flow) => x.record.flow_id.is_some_and(|f| f.uuid() == *flow),
            };
            of_owner && x.record.idempotency.as_ref().is_some_and(|k| k.key == *key)
        });
        f.ensure(Rule::KeyIndex, has_it || p.damaged.contains(uuid), || {
            format!("key {key:?} names {uuid}, which does not have it")
        });
    }
    for uuid in p.remains.keys() {
        f.ensure(Rule::Remains, !p.exists(*uuid), || format!("{uuid} exists and is being purged"));
    }
    for item in p.backlog.iter() {
        let there = match (item.key.kind, item.key.subject) {
            (BacklogKind::Purge, Subject::Execution(x)) => p.remains.contains_key(&x),
            (BacklogKind::Purge, Subject::Flow(flow)) => p.flow(flow).is_none(),
            (_, Subject::Execution(x)) => p.exists(x) || p.remains.contains_key(&x),
            // A flow that has gone may still be named; its item is stale and is dropped when its turn comes.
            (_, Subject::Flow(_)) => true,
        };
        f.ensure(Rule::Backlog, there, || format!("{item:?} stands for nothing"));
    }
}
