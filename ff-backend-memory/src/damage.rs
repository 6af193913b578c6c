//! Damage that no operation brings about: what a store can suffer, for tests of what heals and of what convicts.
//!
//! Hidden from the documentation: it is the conformance harness's way in, and no part of the engine.

use ff_core::ids::ExecutionId;
use ff_core::time::TimestampMs;

use crate::backend::MemoryBackend;
use crate::model::{Fifo, Partition, Queues};

impl MemoryBackend {
    /// The execution's record can no longer be decoded. Each of these says whether there was something to damage.
    #[doc(hidden)]
    #[must_use]
    pub fn make_unreadable(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| p.exists(id.uuid()) && p.damaged.insert(id.uuid()))
    }

    /// It can be decoded again, as it was.
    #[doc(hidden)]
    #[must_use]
    pub fn make_readable(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| p.damaged.remove(&id.uuid()))
    }

    /// Every queue entry and every timer of the partition is gone.
    #[doc(hidden)]
    #[must_use]
    pub fn lose_indexes(&self, partition: u16) -> bool {
        self.damage(partition, |p| {
            p.queues.clear_entries();
            p.timers.clear();
            true
        })
    }

    /// The partition's backlog is gone.
    #[doc(hidden)]
    #[must_use]
    pub fn lose_backlog(&self, partition: u16) -> bool {
        self.damage(partition, |p| {
            p.backlog = Fifo::default();
            true
        })
    }

    /// An execution that does not belong there stands in the ready queue of its lane and set, at its priority and age.
    #[doc(hidden)]
    #[must_use]
    pub fn add_foreign_queue_entry(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| {
            let Ok(Some(x)) = p.get(id.uuid()) else { return false };
            if x.belongs_in_queue() {
                return false;
            }
            let record = x.record.clone();
            p.queues.update(&record, (true, true), (None, Some(record.priority)));
            p.queues.contains(
                &record.lane_id,
                &record.policy.required_capabilities,
                record.policy.is_admission_controlled(),
                &Queues::key(&record, record.priority),
            )
        })
    }

    /// The first timer of an execution, by kind, stands at instant 0.
    #[doc(hidden)]
    #[must_use]
    pub fn misplace_timer(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| {
            let Ok(Some(x)) = p.get(id.uuid()) else { return false };
            let Some(mut timer) = x.implied_timers().into_iter().min_by_key(|t| (t.kind, t.of)) else { return false };
            p.timers.remove(&timer);
            timer.due_at = TimestampMs::ZERO;
            p.timers.insert(timer)
        })
    }

    fn damage(&self, number: u16, with: impl FnOnce(&mut Partition) -> bool) -> bool {
        self.partition_mut(number, with).unwrap_or(false)
    }
}
