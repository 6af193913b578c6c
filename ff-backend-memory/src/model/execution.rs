//! One execution with everything that is keyed under it, and the index entries that its records imply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ff_core::contracts::{SignalSource, StreamFrame, TimerKind, WaitpointCloseReason, WaitpointState};
use ff_core::ids::{LaneId, LeaseId, SignalId, WaitpointId};
use ff_core::policy::Capabilities;
use ff_core::records::{
    AttemptRecord, DedupRecord, ExecutionRecord, RunRecord, SignalRecord, StreamMetaRecord, SuspensionRecord,
    WaitpointRecord,
};
use ff_core::state::{PublicState, StateSummary};
use ff_core::time::TimestampMs;
use smallvec::SmallVec;
use uuid::Uuid;

use super::queue::{Queues, ReadyKey};
use super::timer::{TimerKey, TimerOf};

/// An attempt's stream: what is known of it, and the frames that are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// What is known of it.
    pub meta: StreamMetaRecord,
    /// The kept frames, oldest first.
    pub frames: VecDeque<StreamFrame>,
}

/// What recognises a signal by its idempotency key: where it was sent, the source if the token binds one, the key.
pub type SignalKey = (WaitpointId, Option<SignalSource>, String);

/// The records keyed under an execution, beside its own record and its newest attempt and suspension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The attempts that a newer one has replaced, by index.
    pub attempts: Vec<AttemptRecord>,
    /// Runs by number: each closed run, and the present one once it ended in success.
    pub runs: Vec<RunRecord>,
    /// Streams by attempt index; an attempt that never got a frame has none.
    pub streams: BTreeMap<u32, Box<Stream>>,
    /// Waitpoints by id.
    pub waitpoints: BTreeMap<WaitpointId, WaitpointRecord>,
    /// Signals by seq.
    pub signals: BTreeMap<u64, SignalRecord>,
    /// Dedup entries by signal id.
    pub dedup: BTreeMap<SignalId, DedupRecord>,
    /// The signal that first used an idempotency key.
    pub signal_keys: BTreeMap<SignalKey, SignalId>,
}

/// One execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its record, with lease and grant.
    pub record: ExecutionRecord,
    /// Its payload.
    pub payload: Bytes,
    /// The payload's encoding.
    pub payload_encoding: Option<String>,
    /// Its newest attempt.
    pub attempt: Option<AttemptRecord>,
    /// Its present or last suspension.
    pub suspension: Option<Box<SuspensionRecord>>,
    /// The waitpoints that are pending or active, as stored.
    pub open_waitpoints: BTreeSet<WaitpointId>,
    /// Everything else keyed under it.
    pub history: Box<History>,
}

/// Timers that one execution implies: few.
pub(crate) type Timers = SmallVec<[TimerKey; 6]>;

/// The index entries that an execution's records imply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Implied {
    /// Its label, for the counts.
    pub(crate) public_state: PublicState,
    /// Its priority, if it belongs in its ready queue.
    pub(crate) queued: Option<i32>,
    /// Its lease, for the partition's index.
    pub(crate) lease_id: Option<LeaseId>,
    /// Its timers.
    pub(crate) timers: Timers,
    /// The attempt whose stream is open.
    pub(crate) open_attempt: Option<u32>,
}

impl Execution {
    /// Its uuid within the partition.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.record.execution_id.uuid()
    }

    /// Its state as answers carry it.
    #[must_use]
    pub fn summary(&self) -> StateSummary {
        self.record.summary()
    }

    /// The attempt with this index, if it has started.
    #[must_use]
    pub fn attempt_at(&self, index: u32) -> Option<&AttemptRecord> {
        match &self.attempt {
            Some(newest) if newest.attempt_index.get() == index => Some(newest),
            _ => self.history.attempts.get(index as usize),
        }
    }

    /// The record of a run: closed, or ended in success.
    #[must_use]
    pub fn run(&self, run: u32) -> Option<&RunRecord> {
        self.history.runs.get(run as usize)
    }

    /// The suspension, if it is open.
    #[must_use]
    pub fn open_suspension(&self) -> Option<&SuspensionRecord> {
        self.suspension.as_deref().filter(|s| s.is_open())
    }

    /// Whether it belongs in its ready queue: READY, LOST or REVOKED, with no grant, no block and no `not_before`.
    #[must_use]
    pub fn belongs_in_queue(&self) -> bool {
        let r = &self.record;
        (r.vector.is_ready() || r.vector.is_reclaimable())
            && r.grant.is_none()
            && r.blocks.is_empty()
            && r.not_before.is_none()
    }

    /// Whether a ready-queue entry is the one that its records imply.
    #[must_use]
    pub fn stands_at(&self, lane: &LaneId, set: &Capabilities, controlled: bool, key: &ReadyKey) -> bool {
        let r = &self.record;
        self.belongs_in_queue()
            && r.lane_id == *lane
            && r.policy.required_capabilities == *set
            && r.policy.is_admission_controlled() == controlled
            && Queues::key(r, r.priority) == *key
    }

    /// Every index entry that its records imply.
    pub(crate) fn implied(&self) -> Implied {
        Implied {
            public_state: self.record.vector.public_state(),
            queued: self.belongs_in_queue().then_some(self.record.priority),
            lease_id: self.record.lease.as_ref().map(|l| l.lease_id),
            timers: self.implied_timers(),
            open_attempt: self.attempt.as_ref().filter(|a| !a.attempt_state.is_final()).map(|a| a.attempt_index.get()),
        }
    }

    /// The timers that its records imply.
    pub(crate) fn implied_timers(&self) -> Timers {
        let r = &self.record;
        let mut timers = Timers::new();
        let mut arm = |kind: TimerKind, due_at: Option<TimestampMs>, of: TimerOf| {
            if let Some(due_at) = due_at {
                timers.push(TimerKey { due_at, kind, of });
            }
        };
        let me = TimerOf::Execution(self.uuid());
        arm(TimerKind::Lease, r.lease.as_ref().map(|l| l.expires_at), me);
        arm(TimerKind::AttemptTimeout, self.attempt.as_ref().and_then(|a| a.attempt_deadline_at), me);
        if r.vector.is_terminal() {
            arm(TimerKind::Retention, r.purge_at, me);
        } else {
            arm(TimerKind::Deadline, r.deadline_at, me);
        }
        arm(TimerKind::Delay, r.not_before.map(|n| n.at), me);
        arm(TimerKind::SuspensionTimeout, self.open_suspension().and_then(|s| s.timeout_at), me);
        arm(TimerKind::Grant, r.grant.as_ref().map(|g| g.expires_at), me);
        for (reason, block) in &r.blocks {
            arm(TimerKind::BlockUntil, block.until, TimerOf::Block(self.uuid(), *reason));
        }
        for id in &self.open_waitpoints {
            if let Some(w) = self.history.waitpoints.get(id).filter(|w| w.state == WaitpointState::Pending) {
                arm(TimerKind::PendingWaitpoint, w.expires_at, TimerOf::Waitpoint(self.uuid(), *id));
            }
        }
        timers
    }

    /// Stores a waitpoint.
    pub(crate) fn put_waitpoint(&mut self, waitpoint: WaitpointRecord) {
        if waitpoint.state == WaitpointState::Closed {
            self.open_waitpoints.remove(&waitpoint.waitpoint_id);
        } else {
            self.open_waitpoints.insert(waitpoint.waitpoint_id);
        }
        self.history.waitpoints.insert(waitpoint.waitpoint_id, waitpoint);
    }

    /// Closes an open waitpoint; a pending one that is already due closes as expired, whatever closes it.
    pub(crate) fn close_waitpoint(
        &mut self,
        id: WaitpointId,
        reason: WaitpointCloseReason,
        detail: Option<String>,
        now: TimestampMs,
    ) {
        self.open_waitpoints.remove(&id);
        let Some(w) = self.history.waitpoints.get_mut(&id) else { return };
        if w.state == WaitpointState::Closed {
            return;
        }
        let aged_out = w.state == WaitpointState::Pending && w.expires_at.is_some_and(|at| at <= now);
        w.state = WaitpointState::Closed;
        w.closed_at = Some(now);
        w.close_reason = Some(if aged_out { WaitpointCloseReason::Expired } else { reason });
        w.close_detail = if aged_out { None } else { detail };
    }

    /// Closes every open waitpoint in this state.
    pub(crate) fn close_waitpoints(&mut self, state: WaitpointState, reason: WaitpointCloseReason, now: TimestampMs) {
        if self.open_waitpoints.is_empty() {
            return;
        }
        let ids: SmallVec<[WaitpointId; 16]> = self
            .open_waitpoints
            .iter()
            .copied()
            .filter(|id| self.history.waitpoints.get(id).is_some_and(|w| w.state == state))
            .collect();
        for id in ids {
            self.close_waitpoint(id, reason, None, now);
        }
    }
}
