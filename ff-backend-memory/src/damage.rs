//! Damage that no operation brings about: what a store can suffer, for tests of what heals and of what convicts.
//!
//! Hidden from the documentation: it is the conformance harness's way in, and no part of the engine.

use ff_core::ids::{BudgetId, EdgeId, ExecutionId, FlowId, QuotaPolicyId};
use ff_core::records::{FlowRecord, MemberRecord};
use ff_core::time::TimestampMs;

use crate::backend::MemoryBackend;
use crate::model::{Budget, Execution, Fifo, Keystore, Partition, Queues, Quota};

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

    /// The flow's record can no longer be decoded.
    #[doc(hidden)]
    #[must_use]
    pub fn make_flow_unreadable(&self, id: &FlowId) -> bool {
        self.damage(id.partition(), |p| p.flow(id.uuid()).is_some() && p.damaged_flows.insert(id.uuid()))
    }

    /// It can be decoded again, as it was.
    #[doc(hidden)]
    #[must_use]
    pub fn make_flow_readable(&self, id: &FlowId) -> bool {
        self.damage(id.partition(), |p| p.damaged_flows.remove(&id.uuid()))
    }

    /// The edge's record can no longer be decoded.
    #[doc(hidden)]
    #[must_use]
    pub fn make_edge_unreadable(&self, flow_id: &FlowId, id: EdgeId) -> bool {
        self.damage(flow_id.partition(), |p| {
            p.graph(flow_id.uuid()).is_some_and(|g| g.edges.contains_key(&id)) && p.damaged_edges.insert(id)
        })
    }

    /// It can be decoded again, as it was.
    #[doc(hidden)]
    #[must_use]
    pub fn make_edge_readable(&self, flow_id: &FlowId, id: EdgeId) -> bool {
        self.damage(flow_id.partition(), |p| p.damaged_edges.remove(&id))
    }

    /// The execution's suspension can no longer be decoded: it is part of the execution here.
    #[doc(hidden)]
    #[must_use]
    pub fn make_suspension_unreadable(&self, id: &ExecutionId) -> bool {
        let suspended = |p: &mut Partition| p.get(id.uuid()).is_ok_and(|x| x.is_some_and(|x| x.suspension.is_some()));
        self.damage(id.partition(), suspended) && self.make_unreadable(id)
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

/// For seeded bugs: a decorator that lies alters records here. What is altered through these keeps the indexes level with
/// the records, unless it says otherwise, so that what is found wrong afterwards is the lie itself.
impl MemoryBackend {
    /// A copy of an execution.
    #[doc(hidden)]
    #[must_use]
    pub fn copy_of(&self, id: &ExecutionId) -> Option<Execution> {
        self.partition_mut(id.partition(), |p| p.get(id.uuid()).ok().flatten().cloned()).flatten()
    }

    /// Changes an execution's records. Not what its place in a queue is made of.
    #[doc(hidden)]
    pub fn alter(&self, id: &ExecutionId, change: impl FnOnce(&mut Execution)) -> bool {
        let now = self.now();
        self.damage(id.partition(), |p| {
            let Ok(mut held) = p.take(id.uuid()) else { return false };
            change(&mut held);
            p.put(held, now);
            true
        })
    }

    /// The execution's entry in its ready queue is gone, its record as it was.
    #[doc(hidden)]
    pub fn lose_queue_entry(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| {
            let Ok(Some(x)) = p.get(id.uuid()) else { return false };
            let record = x.record.clone();
            p.queues.update(&record, (true, true), (Some(record.priority), None));
            true
        })
    }

    /// The timers of an execution are gone, its record as it was.
    #[doc(hidden)]
    pub fn lose_timers(&self, id: &ExecutionId) -> bool {
        self.damage(id.partition(), |p| {
            let Ok(Some(x)) = p.get(id.uuid()) else { return false };
            for timer in x.implied_timers() {
                p.timers.remove(&timer);
            }
            true
        })
    }

    /// Changes a flow's record.
    #[doc(hidden)]
    pub fn alter_flow(&self, id: &FlowId, change: impl FnOnce(&mut FlowRecord)) -> bool {
        let now = self.now();
        self.damage(id.partition(), |p| {
            let known = p.flow(id.uuid()).is_some();
            p.edit_flow(id.uuid(), now, change);
            known
        })
    }

    /// Changes the part that a member has in its flow.
    #[doc(hidden)]
    pub fn alter_member(&self, flow: &FlowId, member: &ExecutionId, change: impl FnOnce(&mut MemberRecord)) -> bool {
        self.damage(flow.partition(), |p| {
            p.edit_member(flow.uuid(), member.uuid(), change);
            true
        })
    }

    /// Changes a partition's keys.
    #[doc(hidden)]
    pub fn alter_keys(&self, partition: u16, change: impl FnOnce(&mut Keystore)) -> bool {
        self.damage(partition, |p| {
            change(&mut p.keystore);
            true
        })
    }

    /// Changes a budget.
    #[doc(hidden)]
    pub fn alter_budget(&self, id: &BudgetId, change: impl FnOnce(&mut Budget)) -> bool {
        self.at_budget(id, |budget| budget.as_mut().map(change)).is_some()
    }

    /// Changes a quota policy.
    #[doc(hidden)]
    pub fn alter_policy(&self, id: &QuotaPolicyId, change: impl FnOnce(&mut Quota)) -> bool {
        self.at_policy(id, |policy| policy.as_mut().map(change)).is_some()
    }
}
