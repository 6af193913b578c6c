//! Domain maintenance: `resources.md`, section 7.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::LaneId;
use crate::refusal::Refusal;
use crate::state::PublicState;
use crate::time::TimestampMs;
use crate::word_enum;

word_enum! {
    /// The kinds of timers, in the order in which equals fire.
    pub enum TimerKind {
        /// The end of a lease.
        Lease = "lease",
        /// The end of an attempt's time.
        AttemptTimeout = "attempt_timeout",
        /// The end of a run's time.
        Deadline = "deadline",
        /// The end of a delay.
        Delay = "delay",
        /// The end of a suspension's time.
        SuspensionTimeout = "suspension_timeout",
        /// The end of a pending waitpoint.
        PendingWaitpoint = "pending_waitpoint",
        /// The end of a grant.
        Grant = "grant",
        /// The end of a block.
        BlockUntil = "block_until",
        /// The end of an ended execution's or closed flow's retention.
        Retention = "retention",
    }
}

word_enum! {
    /// What stands on a partition's backlog.
    pub enum BacklogKind {
        /// The outgoing edges of an ended or replayed execution.
        Edges = "edges",
        /// The members of a cancelled flow.
        Cancel = "cancel",
        /// The members of a sealed flow.
        Seal = "seal",
        /// The records of what no longer exists.
        Purge = "purge",
    }
}

word_enum! {
    /// What a sweep did: a timer of this kind, a step of the backlog, or the dropping of a stale entry.
    pub enum SweepKind {
        /// A lease ran out.
        Lease = "lease",
        /// An attempt ran out of its time.
        AttemptTimeout = "attempt_timeout",
        /// A run ran out of its time.
        Deadline = "deadline",
        /// A delay was over.
        Delay = "delay",
        /// A suspension ran out of its time.
        SuspensionTimeout = "suspension_timeout",
        /// A pending waitpoint aged out.
        PendingWaitpoint = "pending_waitpoint",
        /// A grant lapsed.
        Grant = "grant",
        /// A block was over.
        BlockUntil = "block_until",
        /// A retention was over: something stopped existing.
        Retention = "retention",
        /// One step of draining the backlog.
        Backlog = "backlog",
        /// An entry that no longer named anything current was dropped.
        Stale = "stale",
    }
}

impl From<TimerKind> for SweepKind {
    fn from(kind: TimerKind) -> Self {
        match kind {
            TimerKind::Lease => Self::Lease,
            TimerKind::AttemptTimeout => Self::AttemptTimeout,
            TimerKind::Deadline => Self::Deadline,
            TimerKind::Delay => Self::Delay,
            TimerKind::SuspensionTimeout => Self::SuspensionTimeout,
            TimerKind::PendingWaitpoint => Self::PendingWaitpoint,
            TimerKind::Grant => Self::Grant,
            TimerKind::BlockUntil => Self::BlockUntil,
            TimerKind::Retention => Self::Retention,
        }
    }
}

const fn default_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

/// Arguments of `sweep`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SweepArgs {
    /// The partition.
    pub partition: u16,
    /// Timers taken and steps drained at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl CheckArgs for SweepArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)?;
        bounds::page(self.limit)
    }
}

/// Result of `sweep`.
pub type SweepResult = SweepReport;

/// An entry that was dropped because the record that it names cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CorruptEntry {
    /// The timer's kind, or `backlog`.
    pub kind: SweepKind,
    /// The text form of the execution or flow that the entry names, or, if that cannot be read either, the entry's
    /// own text.
    pub id: String,
}

/// What a sweep did and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// How often each thing was done; zeros are left out.
    pub counts: BTreeMap<SweepKind, u64>,
    /// Entries whose record cannot be decoded, in the order in which they were dropped.
    pub corrupt: Vec<CorruptEntry>,
    /// A due timer or a backlog entry remains.
    pub more: bool,
    /// Now if the backlog is not empty, else the earliest armed due time (it may have passed), else none.
    pub next_due_at: Option<TimestampMs>,
}

impl SweepReport {
    /// Counts one more of `kind`.
    pub fn add(&mut self, kind: impl Into<SweepKind>) {
        *self.counts.entry(kind.into()).or_default() += 1;
    }

    /// How often `kind` was done.
    #[must_use]
    pub fn count(&self, kind: impl Into<SweepKind>) -> u64 {
        self.counts.get(&kind.into()).copied().unwrap_or_default()
    }

    /// How many things were done in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Arguments of `rebuild_indexes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RebuildIndexesArgs {
    /// The partition.
    pub partition: u16,
    /// The `next_cursor` of the page before; none begins a walk. Its form is the backend's own.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// Records and entries examined at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl CheckArgs for RebuildIndexesArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)?;
        bounds::page(self.limit)
    }
}

/// Result of `rebuild_indexes`.
pub type RebuildIndexesResult = RebuildReport;

word_enum! {
    /// What was repaired.
    pub enum IndexKind {
        /// A ready queue.
        ReadyQueue = "ready_queue",
        /// The due-time index.
        Timer = "timer",
        /// The backlog.
        Backlog = "backlog",
        /// A list: lane membership, leases by id, open members of flows.
        List = "list",
        /// A flow's counts.
        Counter = "counter",
    }
}

word_enum! {
    /// How it was repaired.
    pub enum RepairAction {
        /// An entry that a record implies was missing.
        Added = "added",
        /// An entry stood in the wrong place or a count was wrong.
        Moved = "moved",
        /// No record implies the entry.
        Removed = "removed",
    }
}

/// What a page of `rebuild_indexes` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// Records and index entries examined.
    pub examined: u64,
    /// What was repaired, by index and action; zeros are left out.
    pub repaired: BTreeMap<IndexKind, BTreeMap<RepairAction, u64>>,
    /// The text forms of the ids of records that cannot be decoded and were skipped.
    pub corrupt: Vec<String>,
    /// The executions examined on the page, by lane and public state; zeros are left out.
    pub lane_counts: BTreeMap<LaneId, BTreeMap<PublicState, u64>>,
    /// Where the next page begins; present exactly while more may remain.
    pub next_cursor: Option<String>,
}

impl RebuildReport {
    /// Counts one more repair.
    pub fn add(&mut self, kind: IndexKind, action: RepairAction) {
        *self.repaired.entry(kind).or_default().entry(action).or_default() += 1;
    }

    /// Counts one more execution of a lane.
    pub fn add_lane(&mut self, lane: &LaneId, state: PublicState) {
        *self.lane_counts.entry(lane.clone()).or_default().entry(state).or_default() += 1;
    }

    /// How often an index was repaired in this way.
    #[must_use]
    pub fn count(&self, kind: IndexKind, action: RepairAction) -> u64 {
        self.repaired.get(&kind).and_then(|by| by.get(&action)).copied().unwrap_or_default()
    }

    /// How many repairs there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.repaired.values().flat_map(BTreeMap::values).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::testing::{refused_code, refused_field};
    use crate::refusal::Code;

    #[test]
    fn sweep_kinds_are_the_timer_kinds_the_backlog_and_what_was_stale() {
        let timers: Vec<_> = TimerKind::ALL.iter().map(|kind| SweepKind::from(*kind)).collect();
        assert_eq!(SweepKind::ALL[..9], timers);
        for (kind, timer) in timers.iter().zip(TimerKind::ALL) {
            assert_eq!(kind.as_str(), timer.as_str());
        }
        assert_eq!(SweepKind::ALL[9..], [SweepKind::Backlog, SweepKind::Stale]);
    }

    #[test]
    fn limits_are_a_page() {
        let sweep = |partition, limit| SweepArgs { partition, limit };
        assert_eq!(refused_code(&SweepArgs::builder().partition(0).build()), None);
        assert_eq!(refused_code(&sweep(0, 1_000)), None);
        assert_eq!(refused_field(&sweep(0, 0)), Some("limit".into()));
        assert_eq!(refused_field(&sweep(0, 1_001)), Some("limit".into()));
        assert_eq!(refused_code(&sweep(16, 0)), Some(Code::InvalidPartition));
        let rebuild = RebuildIndexesArgs { limit: 0, ..RebuildIndexesArgs::builder().partition(0).build() };
        assert_eq!(refused_field(&rebuild), Some("limit".into()));
    }

    #[test]
    fn reports_survive_json() {
        let mut sweep = SweepReport { more: true, next_due_at: Some(TimestampMs::saturating(5)), ..Default::default() };
        sweep.add(TimerKind::Retention);
        sweep.add(SweepKind::Stale);
        sweep.add(SweepKind::Stale);
        sweep.corrupt.push(CorruptEntry { kind: SweepKind::Lease, id: "e0_x".into() });
        assert_eq!((sweep.count(TimerKind::Retention), sweep.count(SweepKind::Stale), sweep.total()), (1, 2, 3));
        let text = serde_json::to_string(&sweep).expect("string keys");
        assert_eq!(serde_json::from_str::<SweepReport>(&text).expect("its own text"), sweep);

        let mut rebuild = RebuildReport { examined: 2, ..Default::default() };
        rebuild.add(IndexKind::Timer, RepairAction::Moved);
        rebuild.add(IndexKind::Timer, RepairAction::Added);
        rebuild.add_lane(&"default".parse().expect("well formed"), PublicState::Waiting);
        assert_eq!((rebuild.count(IndexKind::Timer, RepairAction::Moved), rebuild.total()), (1, 2));
        let text = serde_json::to_string(&rebuild).expect("string keys");
        assert!(text.contains(r#""repaired":{"timer":{"added":1,"moved":1}}"#), "{text}");
        assert_eq!(serde_json::from_str::<RebuildReport>(&text).expect("its own text"), rebuild);
    }
}
