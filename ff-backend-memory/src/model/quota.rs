//! One quota policy: its record, window entries, slots and waiters, each in the orders that the rules ask for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ff_core::contracts::MAX_QUOTA_WAITERS;
use ff_core::ids::{ExecutionId, LeaseEpoch};
use ff_core::records::{AdmissionIdentity, QuotaPolicyRecord};
use ff_core::time::TimestampMs;

/// The admissions that a rate counts, at most as many as its maximum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// By time, so that the k-th is found at once.
    pub(crate) in_order: VecDeque<(TimestampMs, AdmissionIdentity)>,
    pub(crate) of: BTreeMap<AdmissionIdentity, TimestampMs>,
}

impl Window {
    /// Whether an entry of this time counts at `now`.
    fn counts(t: TimestampMs, window_ms: u64, now: TimestampMs) -> bool {
        now < t.after(window_ms)
    }

    /// How many of the oldest entries no longer count.
    fn lapsed(&self, window_ms: u64, now: TimestampMs) -> usize {
        self.in_order.partition_point(|(t, _)| !Self::counts(*t, window_ms, now))
    }

    /// How many entries count, and the time of the oldest of them.
    #[must_use]
    pub fn counting(&self, window_ms: u64, now: TimestampMs) -> (usize, Option<TimestampMs>) {
        let lapsed = self.lapsed(window_ms, now);
        (self.in_order.len() - lapsed, self.in_order.get(lapsed).map(|(t, _)| *t))
    }

    /// How many entries are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.in_order.len()
    }

    /// Whether none is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// The time of the k-th stored entry.
    #[must_use]
    pub fn time_at(&self, k: usize) -> Option<TimestampMs> {
        self.in_order.get(k).map(|(t, _)| *t)
    }

    /// Whether an entry of this identity is stored.
    #[must_use]
    pub fn contains(&self, identity: &AdmissionIdentity) -> bool {
        self.of.contains_key(identity)
    }

    /// The stored entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (TimestampMs, AdmissionIdentity)> {
        self.in_order.iter().copied()
    }

    pub(crate) fn drop_lapsed(&mut self, window_ms: u64, now: TimestampMs) {
        for (_, identity) in self.in_order.drain(..self.lapsed(window_ms, now)) {
            self.of.remove(&identity);
        }
    }

    /// Adds an entry of an identity that has none.
    pub(crate) fn insert(&mut self, identity: AdmissionIdentity, t: TimestampMs) {
        let entry = (t, identity);
        // At the end, unless the clock was set back.
        let place = self.in_order.partition_point(|known| *known < entry);
        self.in_order.insert(place, entry);
        self.of.insert(identity, t);
    }
}

/// A place under the concurrency cap, as it is kept by identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The lease that it is for.
    pub lease_epoch: LeaseEpoch,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

/// The slots of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub(crate) of: BTreeMap<AdmissionIdentity, Slot>,
    pub(crate) by_end: BTreeSet<(TimestampMs, AdmissionIdentity)>,
}

impl Slots {
    /// How many live at `now`.
    #[must_use]
    pub fn live(&self, now: TimestampMs) -> usize {
        self.of.len() - self.by_end.iter().take_while(|(end, _)| *end <= now).count()
    }

    /// The slot of an identity, as stored.
    #[must_use]
    pub fn get(&self, identity: &AdmissionIdentity) -> Option<Slot> {
        self.of.get(identity).copied()
    }

    /// How many are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether none is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The end of the stored slot that ends first.
    #[must_use]
    pub fn earliest_end(&self) -> Option<TimestampMs> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// The stored slots, by identity.
    pub fn iter(&self) -> impl Iterator<Item = (&AdmissionIdentity, &Slot)> {
        self.of.iter()
    }

    pub(crate) fn drop_lapsed(&mut self, now: TimestampMs) {
        while let Some((end, identity)) = self.by_end.first().copied()
            && end <= now
        {
            self.by_end.remove(&(end, identity));
            self.of.remove(&identity);
        }
    }

    pub(crate) fn put(&mut self, identity: AdmissionIdentity, slot: Slot) {
        self.remove(&identity);
        self.by_end.insert((slot.expires_at, identity));
        self.of.insert(identity, slot);
    }

    pub(crate) fn remove(&mut self, identity: &AdmissionIdentity) {
        if let Some(slot) = self.of.remove(identity) {
            self.by_end.remove(&(slot.expires_at, *identity));
        }
    }
}

/// An execution that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// When it was first refused.
    pub since: TimestampMs,
    /// When it was last told to ask again.
    pub retry_at: TimestampMs,
}

/// The executions that were refused, at most [`MAX_QUOTA_WAITERS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiters {
    pub(crate) of: BTreeMap<ExecutionId, Waiter>,
    /// By (first refusal, id), so that a rank is a position.
    pub(crate) in_order: VecDeque<(TimestampMs, ExecutionId)>,
    pub(crate) by_retry: BTreeSet<(TimestampMs, ExecutionId)>,
}

impl Waiters {
    /// The rank of an execution among those stored, 0-based.
    #[must_use]
    pub fn rank(&self, id: ExecutionId) -> Option<usize> {
        let waiter = self.of.get(&id)?;
        self.in_order.binary_search(&(waiter.since, id)).ok()
    }

    /// How many have not lapsed at `now`: `grace_ms` after it was told to ask again, who waits has asked.
    #[must_use]
    pub fn waiting(&self, grace_ms: u64, now: TimestampMs) -> usize {
        self.of.len() - self.by_retry.iter().take_while(|(retry_at, _)| retry_at.after(grace_ms) <= now).count()
    }

    /// How many are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether none is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Those stored, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ExecutionId, Waiter)> {
        self.in_order.iter().filter_map(|(_, id)| self.of.get(id).map(|waiter| (*id, *waiter)))
    }

    pub(crate) fn drop_lapsed(&mut self, grace_ms: u64, now: TimestampMs) {
        while let Some((retry_at, id)) = self.by_retry.first().copied()
            && retry_at.after(grace_ms) <= now
        {
            self.remove(id);
        }
    }

    /// Puts a refused execution on the list, unless it is there or the list is full; its rank, if it is there now.
    pub(crate) fn note(&mut self, id: ExecutionId, now: TimestampMs) -> Option<usize> {
        if let Some(rank) = self.rank(id) {
            return Some(rank);
        }
        if self.of.len() >= MAX_QUOTA_WAITERS {
            return None;
        }
        // Told nothing yet; the caller says what in the same step.
        self.of.insert(id, Waiter { since: now, retry_at: now });
        self.by_retry.insert((now, id));
        // Near the end, unless the clock was set back.
        let place = self.in_order.partition_point(|known| *known < (now, id));
        self.in_order.insert(place, (now, id));
        Some(place)
    }

    /// Keeps what a refused execution is told, if it is on the list.
    pub(crate) fn told(&mut self, id: ExecutionId, retry_at: TimestampMs) {
        if let Some(waiter) = self.of.get_mut(&id) {
            self.by_retry.remove(&(waiter.retry_at, id));
            waiter.retry_at = retry_at;
            self.by_retry.insert((retry_at, id));
        }
    }

    pub(crate) fn remove(&mut self, id: ExecutionId) {
        if let Some(waiter) = self.of.remove(&id) {
            self.by_retry.remove(&(waiter.retry_at, id));
            if let Ok(place) = self.in_order.binary_search(&(waiter.since, id)) {
                self.in_order.remove(place);
            }
        }
    }

    /// Takes the first off the list.
    pub(crate) fn take_first(&mut self) -> Option<ExecutionId> {
        let (_, id) = *self.in_order.front()?;
        self.remove(id);
        Some(id)
    }
}

/// One quota policy, a partition of its own. What has lapsed is out of sight at once and goes with the next write.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Its record.
    pub record: QuotaPolicyRecord,
    /// Window entries; none without a rate.
    pub window: Window,
    /// Slots; none without a cap.
    pub slots: Slots,
    /// Waiters.
    pub waiters: Waiters,
}

impl Quota {
    /// A policy that nobody has asked.
    pub(crate) fn new(record: QuotaPolicyRecord) -> Self {
        Self { record, window: Window::default(), slots: Slots::default(), waiters: Waiters::default() }
    }

    /// How long after its `retry_at` a waiter still counts, in milliseconds.
    #[must_use]
    pub fn waiter_grace_ms(&self) -> u64 {
        self.record.rate.map_or(0, |rate| rate.window_ms).max(60_000)
    }

    /// Drops whatever has lapsed.
    pub(crate) fn drop_lapsed(&mut self, now: TimestampMs) {
        if let Some(rate) = self.record.rate {
            self.window.drop_lapsed(rate.window_ms, now);
        }
        self.slots.drop_lapsed(now);
        self.waiters.drop_lapsed(self.waiter_grace_ms(), now);
    }
}
