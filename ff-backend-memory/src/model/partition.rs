//! One partition: everything that one operation may touch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ff_core::bounds::Deployment;
use ff_core::contracts::decode::{DecodeCause, DecodeError};
use ff_core::contracts::{BacklogKind, FlowInput, TimerKind};
use ff_core::error::EngineError;
use ff_core::ids::{EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseId, Namespace};
use ff_core::records::{FlowRecord, KidRecord, MemberRecord};
use ff_core::refusal::Refusal;
use ff_core::state::PublicState;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use super::backlog::{Fifo, Item, Subject};
use super::execution::{Execution, History, Implied, Stream};
use super::graph::Graph;
use super::queue::Queues;
use super::timer::{TimerKey, TimerOf};

/// Where an idempotency key is unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOwner {
    /// Of stand-alone executions: the namespace.
    Namespace(Namespace),
    /// Of members created for a flow: the flow.
    Flow(Uuid),
}

/// The signing keys of a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keystore {
    /// The kid that signs.
    pub current_kid: Option<Kid>,
    /// Every kid ever installed.
    pub kids: BTreeMap<Kid, KidRecord>,
}

/// What has gone but still leaves records behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// Records that are left, beside those of the history.
    pub own: u32,
    /// The records keyed under it.
    pub history: Box<History>,
}

impl Remains {
    /// Removes at most `budget` records; says how much of the budget is left.
    pub(crate) fn shrink(&mut self, mut budget: usize) -> usize {
        let own = budget.min(self.own as usize);
        self.own -= u32::try_from(own).unwrap_or(self.own);
        budget -= own;
        let h = &mut *self.history;
        let mut cut = |length: usize| {
            let taken = budget.min(length);
            budget -= taken;
            length - taken
        };
        let keep = cut(h.attempts.len());
        h.attempts.truncate(keep);
        let keep = cut(h.runs.len());
        h.runs.truncate(keep);
        // A stream is one record, however many frames it has; an attempt that never got a frame left none.
        let keep = cut(h.streams.len());
        while h.streams.len() > keep {
            h.streams.pop_last();
        }
        let keep = cut(h.waitpoints.len());
        while h.waitpoints.len() > keep {
            h.waitpoints.pop_last();
        }
        let keep = cut(h.signals.len());
        while h.signals.len() > keep {
            h.signals.pop_last();
        }
        let keep = cut(h.dedup.len());
        while h.dedup.len() > keep {
            h.dedup.pop_last();
        }
        // A key is no record of its own: it leads to a dedup entry, and goes with the last of them.
        if h.dedup.is_empty() {
            h.signal_keys.clear();
        }
        budget
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.own == 0 && *self.history == History::default()
    }
}

/// What an operation did that somebody may wait for. No part of the state.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    /// Streams that were written to or closed: execution and attempt.
    pub streams: Vec<(Uuid, u32)>,
    /// Lanes in whose queues something became ready, and how much.
    pub lanes: Vec<(LaneId, usize)>,
}

impl Wakes {
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.lanes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.streams.clear();
        self.lanes.clear();
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn lane(&mut self, lane: &LaneId) {
        match self.lanes.last_mut() {
            Some((last, ready)) if last == lane => *ready += 1,
            _ => self.lanes.push((lane.clone(), 1)),
        }
    }
}

impl PartialEq for Wakes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Executions of a lane by public state.
pub type LaneCounts = [u64; 11];

/// The state of one partition. Records are the truth; queues, timers, counts and indexes are derived from them and
/// kept level by `Partition::put`.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    number: u16,
    deployment: Arc<Deployment>,
    /// `None` only while a rule holds the execution in its hands.
    executions: BTreeMap<Uuid, Option<Box<Execution>>>,
    /// Stand-alone executions that have gone and members whose purge has begun.
    pub(crate) remains: BTreeMap<Uuid, Remains>,
    /// The execution that an idempotency key names.
    pub(crate) idempotency: BTreeMap<(KeyOwner, String), Uuid>,
    /// The execution of a live lease.
    pub(crate) leases: BTreeMap<LeaseId, Uuid>,
    flows: BTreeMap<Uuid, FlowRecord>,
    /// Members and edges by flow; what is left of a flow that has gone is here until its purge is done.
    pub(crate) graphs: BTreeMap<Uuid, Graph>,
    /// Signing keys.
    pub(crate) keystore: Keystore,
    /// Ready queues.
    pub(crate) queues: Queues,
    /// The due-time index.
    pub(crate) timers: BTreeSet<TimerKey>,
    /// What cascades and purges left for later.
    pub(crate) backlog: Fifo,
    /// Executions by lane and public state.
    pub(crate) lane_counts: BTreeMap<LaneId, LaneCounts>,
    /// Executions whose records cannot be decoded: only damage puts one here.
    pub(crate) damaged: BTreeSet<Uuid>,
    /// Flows whose records cannot be decoded: nothing can be done with their members.
    pub(crate) damaged_flows: BTreeSet<Uuid>,
    /// Edges whose records cannot be decoded.
    pub(crate) damaged_edges: BTreeSet<EdgeId>,
    /// What the last operations did that somebody may wait for.
    pub(crate) wakes: Wakes,
}

/// An execution in the hands of a rule, with the index entries that stand for it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) x: Box<Execution>,
    /// `None` for one that is new.
    before: Option<Implied>,
}

impl std::ops::Deref for Held {
    type Target = Execution;
    fn deref(&self) -> &Execution {
        &self.x
    }
}

impl std::ops::DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Execution {
        &mut self.x
    }
}

impl Held {
    /// A new execution, not yet stored.
    pub(crate) fn new(x: Execution) -> Self {
        Self { x: Box::new(x), before: None }
    }
}

pub(crate) fn corrupt_execution() -> EngineError {
    corrupt("execution")
}

/// The error of a record that counts as unreadable.
pub(crate) fn corrupt(record: &str) -> EngineError {
    EngineError::Corruption(DecodeError {
        record: record.to_owned(),
        field: "v".to_owned(),
        cause: DecodeCause::UnsupportedVersion,
    })
}

impl Partition {
    /// An empty partition.
    #[must_use]
    pub fn new(number: u16, deployment: Arc<Deployment>) -> Self {
        Self {
            number,
            deployment,
            executions: BTreeMap::new(),
            remains: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            leases: BTreeMap::new(),
            flows: BTreeMap::new(),
            graphs: BTreeMap::new(),
            keystore: Keystore::default(),
            queues: Queues::default(),
            timers: BTreeSet::new(),
            backlog: Fifo::default(),
            lane_counts: BTreeMap::new(),
            damaged: BTreeSet::new(),
            damaged_flows: BTreeSet::new(),
            damaged_edges: BTreeSet::new(),
            wakes: Wakes::default(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// What the deployment fixes.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The id of an execution in this partition.
    #[must_use]
    pub const fn execution_id(&self, uuid: Uuid) -> ExecutionId {
        ExecutionId::from_parts(self.number, uuid)
    }

    /// The id of a flow in this partition.
    #[must_use]
    pub const fn flow_id(&self, uuid: Uuid) -> FlowId {
        FlowId::from_parts(self.number, uuid)
    }

    // --- executions ---

    /// The execution, if it exists and can be decoded.
    ///
    /// # Errors
    /// Corruption.
    pub fn get(&self, uuid: Uuid) -> Result<Option<&Execution>, EngineError> {
        if self.is_damaged(uuid) {
            return Err(corrupt_execution());
        }
        Ok(self.executions.get(&uuid).and_then(Option::as_deref))
    }

    /// Whether its own record, or that of its flow, cannot be decoded.
    fn is_damaged(&self, uuid: Uuid) -> bool {
        if !self.damaged.is_empty() && self.damaged.contains(&uuid) {
            return true;
        }
        if self.damaged_flows.is_empty() {
            return false;
        }
        let flow_id = self.executions.get(&uuid).and_then(Option::as_deref).and_then(|x| x.record.flow_id);
        flow_id.is_some_and(|flow_id| self.damaged_flows.contains(&flow_id.uuid()))
    }

    /// The execution.
    ///
    /// # Errors
    /// `execution_not_found`; corruption.
    pub fn find(&self, id: &ExecutionId) -> Result<&Execution, EngineError> {
        self.get(id.uuid())?.ok_or_else(|| Refusal::execution_not_found().into())
    }

    /// Whether it exists, readable or not.
    #[must_use]
    pub fn exists(&self, uuid: Uuid) -> bool {
        self.executions.contains_key(&uuid)
    }

    /// Every execution that can be decoded, by id.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.executions.values().filter_map(Option::as_deref).filter(|x| !self.damaged.contains(&x.uuid()))
    }

    /// Every execution, by id, whether its record counts as readable or not.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &Execution> {
        self.executions.values().filter_map(Option::as_deref)
    }

    /// Uuids of the executions after `after`, by id, whether they can be decoded or not.
    pub fn execution_ids_after(&self, after: Option<Uuid>) -> impl Iterator<Item = Uuid> + '_ {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.executions.range((from, Bound::Unbounded)).map(|(uuid, _)| *uuid)
    }

    /// The streams of an execution, by attempt index. They imply no index entry, so an append needs no
    /// [`Partition::put`].
    pub(crate) fn streams_mut(&mut self, uuid: Uuid) -> Option<&mut BTreeMap<u32, Box<Stream>>> {
        self.executions.get_mut(&uuid).and_then(Option::as_deref_mut).map(|x| &mut x.history.streams)
    }

    /// Changes an execution behind the back of every index, as damage does.
    #[cfg(test)]
    pub(crate) fn harm(&mut self, uuid: Uuid, change: impl FnOnce(&mut Execution)) {
        if let Some(x) = self.executions.get_mut(&uuid).and_then(Option::as_deref_mut) {
            change(x);
        }
    }

    /// Changes a flow's record behind the back of every index.
    #[cfg(test)]
    pub(crate) fn harm_flow(&mut self, uuid: Uuid, change: impl FnOnce(&mut FlowRecord)) {
        if let Some(flow) = self.flows.get_mut(&uuid) {
            change(flow);
        }
    }

    /// Takes an execution into a rule's hands. It must be [`Partition::put`] back before anybody looks for it.
    pub(crate) fn take(&mut self, uuid: Uuid) -> Result<Held, EngineError> {
        if self.is_damaged(uuid) {
            return Err(corrupt_execution());
        }
        self.take_to_remove(uuid)
    }

    /// The same, whether its record can be decoded or not: a purge takes what is there.
    pub(crate) fn take_to_remove(&mut self, uuid: Uuid) -> Result<Held, EngineError> {
        let x = self.executions.get_mut(&uuid).and_then(Option::take);
        let x = x.ok_or_else(|| EngineError::from(Refusal::execution_not_found()))?;
        let before = Some(x.implied());
        Ok(Held { x, before })
    }

    /// Stores an execution and brings every index level with its records.
    pub(crate) fn put(&mut self, held: Held, now: TimestampMs) {
        let Held { x, before } = held;
        let uuid = x.uuid();
        let after = x.implied();
        let open_after = !after.public_state.is_terminal();
        let (open_before, queued_before, lease_before) = match &before {
            Some(b) => (!b.public_state.is_terminal(), b.queued, b.lease_id),
            None => (false, None, None),
        };
        self.queues.update(&x.record, (open_before, open_after), (queued_before, after.queued));
        if queued_before.is_none() && after.queued.is_some() {
            self.wakes.lane(&x.record.lane_id);
        }
        if lease_before != after.lease_id {
            if let Some(lease_id) = lease_before {
                self.leases.remove(&lease_id);
            }
            if let Some(lease_id) = after.lease_id {
                self.leases.insert(lease_id, uuid);
            }
        }
        match &before {
            Some(b) if b.timers == after.timers => {}
            Some(b) => {
                for timer in b.timers.iter().filter(|t| !after.timers.contains(t)) {
                    self.timers.remove(timer);
                }
                self.timers.extend(after.timers.iter().filter(|t| !b.timers.contains(t)).copied());
            }
            None => self.timers.extend(after.timers.iter().copied()),
        }
        let state_before = before.as_ref().map(|b| b.public_state);
        if state_before != Some(after.public_state) {
            self.count_in_lane(&x.record.lane_id, state_before, Some(after.public_state));
            if let Some(flow_id) = x.record.flow_id {
                self.count_in_flow(flow_id.uuid(), uuid, state_before, after.public_state, now);
            }
        }
        if let Some(open) = before.as_ref().and_then(|b| b.open_attempt)
            && after.open_attempt != Some(open)
        {
            self.wakes.streams.push((uuid, open));
        }
        match self.executions.get_mut(&uuid) {
            Some(slot) => *slot = Some(x),
            None => {
                self.executions.insert(uuid, Some(x));
            }
        }
    }

    /// Ends an execution's existence: every index entry goes. The caller keeps what is returned.
    pub(crate) fn remove(&mut self, held: Held) -> Box<Execution> {
        let Held { x, before } = held;
        let uuid = x.uuid();
        if let Some(b) = before {
            self.queues.update(&x.record, (!b.public_state.is_terminal(), false), (b.queued, None));
            if let Some(lease_id) = b.lease_id {
                self.leases.remove(&lease_id);
            }
            for timer in &b.timers {
                self.timers.remove(timer);
            }
            self.count_in_lane(&x.record.lane_id, Some(b.public_state), None);
        }
        if let Some(key) = &x.record.idempotency {
            let owner = self.key_owner(&x);
            let entry = (owner, key.key.clone());
            if self.idempotency.get(&entry) == Some(&uuid) {
                self.idempotency.remove(&entry);
            }
        }
        self.executions.remove(&uuid);
        self.damaged.remove(&uuid);
        x
    }

    /// Where an execution's idempotency key is unique.
    #[must_use]
    pub fn key_owner(&self, x: &Execution) -> KeyOwner {
        use ff_core::records::KeyScope;
        let of_flow = x.record.idempotency.as_ref().is_some_and(|k| k.scope == KeyScope::Flow);
        match x.record.flow_id {
            Some(flow_id) if of_flow => KeyOwner::Flow(flow_id.uuid()),
            _ => KeyOwner::Namespace(x.record.namespace.clone()),
        }
    }

    fn count_in_lane(&mut self, lane: &LaneId, before: Option<PublicState>, after: Option<PublicState>) {
        if !self.lane_counts.contains_key(lane) {
            self.lane_counts.insert(lane.clone(), [0; 11]);
        }
        let Some(counts) = self.lane_counts.get_mut(lane) else { return };
        if let Some(state) = before {
            counts[state.index()] = counts[state.index()].saturating_sub(1);
        }
        if let Some(state) = after {
            counts[state.index()] += 1;
        }
        if after.is_none() && counts.iter().all(|n| *n == 0) {
            self.lane_counts.remove(lane);
        }
    }

    /// Counts a member's transition in its flow, and keeps the flow's open members.
    pub(crate) fn count_in_flow(
        &mut self,
        flow: Uuid,
        member: Uuid,
        before: Option<PublicState>,
        after: PublicState,
        now: TimestampMs,
    ) {
        if let Some(graph) = self.graphs.get_mut(&flow) {
            if after.is_terminal() {
                graph.open.remove(&member);
            } else {
                graph.open.insert(member);
            }
        }
        self.edit_flow(flow, now, |record| {
            if let Some(state) = before {
                record.member_counts.remove(state);
            }
            record.member_counts.add(after);
        });
    }

    // --- flows ---

    /// The flow's record, if it exists.
    #[must_use]
    pub fn flow(&self, uuid: Uuid) -> Option<&FlowRecord> {
        self.flows.get(&uuid)
    }

    /// The flow's record.
    ///
    /// # Errors
    /// `flow_not_found`; corruption.
    pub fn find_flow(&self, id: &FlowId) -> Result<&FlowRecord, EngineError> {
        if self.damaged_flows.contains(&id.uuid()) {
            return Err(corrupt("flow"));
        }
        self.flow(id.uuid()).ok_or_else(|| Refusal::flow_not_found().into())
    }

    /// Every flow, by id.
    pub fn flows(&self) -> impl Iterator<Item = &FlowRecord> {
        self.flows.values()
    }

    /// Stores a new flow.
    pub(crate) fn add_flow(&mut self, record: FlowRecord, now: TimestampMs) {
        let uuid = record.flow_id.uuid();
        self.graphs.entry(uuid).or_default();
        self.flows.insert(uuid, record);
        self.edit_flow(uuid, now, |_| {});
    }

    /// Changes a flow's record, if it exists, and then its retention: armed exactly while the flow is closed and has
    /// no open member.
    pub(crate) fn edit_flow(&mut self, uuid: Uuid, now: TimestampMs, change: impl FnOnce(&mut FlowRecord)) {
        /// How long a flow that never had a member is kept.
        const EMPTY_FLOW_RETENTION_MS: u64 = 24 * 60 * 60 * 1000;
        let Some(record) = self.flows.get_mut(&uuid) else { return };
        let before = record.purge_at;
        change(record);
        let over = record.is_closed() && record.member_counts.open() == 0;
        record.purge_at = match (over, record.purge_at) {
            (false, _) => None,
            (true, Some(at)) => Some(at),
            (true, None) => Some(record.retain_until.unwrap_or_else(|| now.after(EMPTY_FLOW_RETENTION_MS))),
        };
        let after = record.purge_at;
        if before != after {
            let timer = |due_at| TimerKey { due_at, kind: TimerKind::Retention, of: TimerOf::Flow(uuid) };
            if let Some(at) = before {
                self.timers.remove(&timer(at));
            }
            if let Some(at) = after {
                self.timers.insert(timer(at));
            }
        }
    }

    /// Ends a flow's existence; its graph stays until its purge is done.
    pub(crate) fn remove_flow(&mut self, uuid: Uuid) -> Option<FlowRecord> {
        let record = self.flows.remove(&uuid)?;
        if let Some(due_at) = record.purge_at {
            self.timers.remove(&TimerKey { due_at, kind: TimerKind::Retention, of: TimerOf::Flow(uuid) });
        }
        Some(record)
    }

    /// The graph of a flow.
    #[must_use]
    pub fn graph(&self, uuid: Uuid) -> Option<&Graph> {
        self.graphs.get(&uuid)
    }

    /// The part that an execution has in its flow.
    #[must_use]
    pub fn member(&self, x: &Execution) -> Option<&MemberRecord> {
        self.graphs.get(&x.record.flow_id?.uuid())?.members.get(&x.uuid())
    }

    /// Changes the part that a member has in its flow.
    pub(crate) fn edit_member(&mut self, flow: Uuid, member: Uuid, change: impl FnOnce(&mut MemberRecord)) {
        if let Some(record) = self.graphs.get_mut(&flow).and_then(|g| g.members.get_mut(&member)) {
            change(record);
        }
    }

    /// The results of a member's upstreams, by reference: one per resolved incoming edge with a data name, by seq.
    #[must_use]
    pub fn inputs(&self, x: &Execution) -> Vec<FlowInput> {
        let Some(graph) = x.record.flow_id.and_then(|f| self.graphs.get(&f.uuid())) else { return Vec::new() };
        if !graph.has_incoming(x.uuid()) {
            return Vec::new();
        }
        graph
            .incoming_of(x.uuid())
            .filter_map(|edge| {
                let resolution = edge.resolution?;
                let size_bytes = self
                    .executions
                    .get(&edge.upstream_execution_id.uuid())
                    .and_then(Option::as_deref)
                    .and_then(|up| up.run(resolution.upstream_run))
                    .and_then(|run| run.result.as_ref())
                    .map(|result| result.len() as u64);
                Some(FlowInput {
                    name: edge.data_passing_ref.clone()?,
                    edge_id: edge.edge_id,
                    upstream_execution_id: edge.upstream_execution_id,
                    upstream_outcome: resolution.upstream_outcome,
                    upstream_run: resolution.upstream_run,
                    attempt_index: resolution.upstream_attempt_index,
                    size_bytes,
                })
            })
            .collect()
    }

    // --- backlog ---

    fn flow_of_item(&self, item: &Item) -> Option<Uuid> {
        match item.key.subject {
            Subject::Flow(flow) => Some(flow),
            Subject::Execution(uuid) => {
                let x = self.executions.get(&uuid).and_then(Option::as_deref)?;
                x.record.flow_id.map(FlowId::uuid)
            }
        }
    }

    fn count_deferred(&mut self, item: &Item, added: bool) {
        if let Some(record) = self.flow_of_item(item).and_then(|flow| self.flows.get_mut(&flow)) {
            record.deferred = if added { record.deferred + 1 } else { record.deferred.saturating_sub(1) };
        }
    }

    /// Puts an item on the backlog that begins anew.
    pub(crate) fn backlog_restart(&mut self, item: Item) {
        if self.backlog.restart(item) {
            self.count_deferred(&item, true);
        }
    }

    /// Puts an item on the backlog that stopped in mid-work.
    pub(crate) fn backlog_resume(&mut self, item: Item) {
        if self.backlog.resume(item) {
            self.count_deferred(&item, true);
        }
    }

    /// Takes an item off the backlog.
    pub(crate) fn backlog_remove(&mut self, item: &Item) {
        if self.backlog.remove(&item.key).is_some() {
            self.count_deferred(item, false);
        }
    }

    /// Whether the purge of this stand-alone execution or flow is not done.
    #[must_use]
    pub fn is_being_purged(&self, subject: Subject) -> bool {
        match subject {
            Subject::Execution(uuid) => self.remains.contains_key(&uuid),
            Subject::Flow(uuid) => {
                !self.flows.contains_key(&uuid)
                    && (self.graphs.contains_key(&uuid)
                        || self.backlog.get(&super::backlog::ItemKey { kind: BacklogKind::Purge, subject }).is_some())
            }
        }
    }

    /// The earliest instant at which something of this partition is due: now if the backlog is not empty.
    #[must_use]
    pub fn next_due_at(&self, now: TimestampMs) -> Option<TimestampMs> {
        if self.backlog.is_empty() { self.timers.first().map(|t| t.due_at) } else { Some(now) }
    }
}
