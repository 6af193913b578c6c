//! Ready queues: one per lane, required capability set, and whether claims need an admission.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ff_core::ids::LaneId;
use ff_core::policy::Capabilities;
use ff_core::records::ExecutionRecord;
use ff_core::time::TimestampMs;
use uuid::Uuid;

/// The order of service: priority descending, then age by the store's clock, then id.
pub type ReadyKey = (Reverse<i32>, TimestampMs, Uuid);

/// The queues of one lane and required set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetQueues {
    /// Executions of this lane and set that have not ended: while there are any, the set is registered.
    pub open: u64,
    /// Ready ones that a claim may take.
    pub ordinary: BTreeSet<ReadyKey>,
    /// Ready ones that need an admission.
    pub controlled: BTreeSet<ReadyKey>,
}

/// All ready queues of a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queues {
    lanes: BTreeMap<LaneId, BTreeMap<Capabilities, SetQueues>>,
}

impl Queues {
    /// The greatest number of non-empty sets registered per lane.
    pub const MAX_SETS: usize = 256;

    /// The sets of a lane, with their queues.
    #[must_use]
    pub fn lane(&self, lane: &LaneId) -> Option<&BTreeMap<Capabilities, SetQueues>> {
        self.lanes.get(lane)
    }

    /// Every lane.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneId, &BTreeMap<Capabilities, SetQueues>)> {
        self.lanes.iter()
    }

    /// Whether `added` more sets, none of them empty or registered, fit in the lane beside those registered.
    #[must_use]
    pub fn has_room(&self, lane: &LaneId, added: &BTreeSet<&Capabilities>) -> bool {
        let sets = self.lanes.get(lane);
        let new = added.iter().filter(|s| !s.is_empty() && !sets.is_some_and(|l| l.contains_key(**s))).count();
        if new == 0 {
            return true;
        }
        let registered = sets.map_or(0, |l| l.keys().filter(|s| !s.is_empty()).count());
        registered + new <= Self::MAX_SETS
    }

    pub(crate) fn key(record: &ExecutionRecord, priority: i32) -> ReadyKey {
        (Reverse(priority), record.created_at, record.execution_id.uuid())
    }

    fn with(&mut self, record: &ExecutionRecord, change: impl FnOnce(&mut SetQueues)) {
        if !self.lanes.contains_key(&record.lane_id) {
            self.lanes.insert(record.lane_id.clone(), BTreeMap::new());
        }
        let Some(sets) = self.lanes.get_mut(&record.lane_id) else { return };
        let required = &record.policy.required_capabilities;
        if !sets.contains_key(required) {
            sets.insert(required.clone(), SetQueues::default());
        }
        let Some(queues) = sets.get_mut(required) else { return };
        change(queues);
        if queues.open == 0 && queues.ordinary.is_empty() && queues.controlled.is_empty() {
            sets.remove(required);
            if sets.is_empty() {
                self.lanes.remove(&record.lane_id);
            }
        }
    }

    /// Applies what changed of one execution: whether it is open, and its place (by priority) before and after.
    pub(crate) fn update(&mut self, record: &ExecutionRecord, open: (bool, bool), place: (Option<i32>, Option<i32>)) {
        if open.0 == open.1 && place.0 == place.1 {
            return;
        }
        let controlled = record.policy.is_admission_controlled();
        self.with(record, |queues| {
            match open {
                (false, true) => queues.open += 1,
                (true, false) => queues.open = queues.open.saturating_sub(1),
                _ => {}
            }
            let queue = if controlled { &mut queues.controlled } else { &mut queues.ordinary };
            if place.0 != place.1 {
                if let Some(priority) = place.0 {
                    queue.remove(&Self::key(record, priority));
                }
                if let Some(priority) = place.1 {
                    queue.insert(Self::key(record, priority));
                }
            }
        });
    }

    /// Every queue entry: lane, set, whether controlled, key.
    pub fn entries(&self) -> impl Iterator<Item = (&LaneId, &Capabilities, bool, ReadyKey)> {
        self.lanes.iter().flat_map(|(lane, sets)| {
            sets.iter().flat_map(move |(set, queues)| {
                let plain = queues.ordinary.iter().map(move |key| (lane, set, false, *key));
                plain.chain(queues.controlled.iter().map(move |key| (lane, set, true, *key)))
            })
        })
    }

    /// Removes one entry, as damage does, or its repair.
    pub(crate) fn remove_entry(&mut self, lane: &LaneId, set: &Capabilities, controlled: bool, key: &ReadyKey) {
        let Some(sets) = self.lanes.get_mut(lane) else { return };
        let Some(queues) = sets.get_mut(set) else { return };
        let queue = if controlled { &mut queues.controlled } else { &mut queues.ordinary };
        queue.remove(key);
        if queues.open == 0 && queues.ordinary.is_empty() && queues.controlled.is_empty() {
            sets.remove(set);
            if sets.is_empty() {
                self.lanes.remove(lane);
            }
        }
    }

    /// Changes how many open executions a set is registered for, as damage does.
    #[cfg(test)]
    pub(crate) fn harm_open(&mut self, change: impl Fn(&mut u64)) {
        self.lanes.values_mut().flat_map(BTreeMap::values_mut).for_each(|queues| change(&mut queues.open));
    }

    /// Removes every entry, as damage does; what is registered stays.
    pub(crate) fn clear_entries(&mut self) {
        for queues in self.lanes.values_mut().flat_map(BTreeMap::values_mut) {
            queues.ordinary.clear();
            queues.controlled.clear();
        }
    }

    /// Whether the entry is there.
    #[must_use]
    pub fn contains(&self, lane: &LaneId, set: &Capabilities, controlled: bool, key: &ReadyKey) -> bool {
        self.lanes.get(lane).and_then(|sets| sets.get(set)).is_some_and(|queues| {
            if controlled { queues.controlled.contains(key) } else { queues.ordinary.contains(key) }
        })
    }
}
