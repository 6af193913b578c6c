//! Execution, attempt and run: `execution.md`, section 8.

mod attempt_codec;
mod codec;
#[cfg(test)]
pub(crate) mod generate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canon::{Digest, LazyDigest};
use crate::contracts::{ClaimKind, EndedBy, Fence};
use crate::ids::{
    AttemptId, AttemptIndex, ExecutionId, FlowId, LaneId, LeaseEpoch, LeaseId, Namespace, WorkerId, WorkerInstanceId,
};
use crate::policy::ExecutionPolicy;
use crate::state::{
    AttemptLifecycle, AttemptState, AttemptType, BlockReason, EndCause, LifecyclePhase, NotBeforeKind, StateSummary,
    StateVector, TerminalOutcome,
};
use crate::time::TimestampMs;
use crate::word_enum;

word_enum! {
    /// Where an idempotency key is unique.
    pub enum KeyScope {
        /// In the namespace: a stand-alone execution.
        Namespace = "namespace",
        /// In the flow: a member created for it.
        Flow = "flow",
    }
}

/// The idempotency key of a creation and how long it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key.
    pub key: String,
    /// Where it is unique.
    pub scope: KeyScope,
    /// When it is free again.
    pub expires_at: TimestampMs,
}

/// How the current run began, if by a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayMark {
    /// Why.
    pub reason: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: TimestampMs,
    /// Digest of the replay's arguments.
    pub digest: Digest,
}

/// How and when an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndMark {
    /// When.
    pub at: TimestampMs,
    /// Why.
    pub cause: EndCause,
    /// By whom.
    pub by: EndedBy,
}

/// The earliest instant of the next claim, stored apart from blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotBefore {
    /// The instant.
    pub at: TimestampMs,
    /// What it was set for.
    pub kind: NotBeforeKind,
}

/// One reason that holds an execution back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// For people.
    pub detail: String,
    /// When it ends by itself.
    pub until: Option<TimestampMs>,
    /// Who asked.
    pub by: String,
    /// Since when.
    pub blocked_at: TimestampMs,
}

/// What a worker last said about its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Per cent, 0..=100.
    pub pct: Option<u8>,
    /// For people.
    pub message: Option<String>,
    /// When it was said.
    pub updated_at: TimestampMs,
}

word_enum! {
    /// The operations whose first answer is kept with the execution.
    pub enum LastOperation {
        /// `complete_execution`.
        CompleteExecution = "complete_execution",
        /// `fail_execution`.
        FailExecution = "fail_execution",
        /// `cancel_execution`.
        CancelExecution = "cancel_execution",
        /// `delay_execution` by a worker.
        DelayExecution = "delay_execution",
        /// `move_to_waiting_children`.
        MoveToWaitingChildren = "move_to_waiting_children",
    }
}

/// Who made the call whose first answer is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastBy {
    /// A worker, by its fence.
    Worker(Fence),
    /// An operator.
    Operator {
        /// As it named itself.
        identity: String,
    },
}

/// A first answer, without its summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LastAnswer {
    /// Completed.
    Completed,
    /// A retry was scheduled.
    RetryScheduled {
        /// For when.
        retry_at: TimestampMs,
    },
    /// The failure was final.
    Ended,
    /// Cancelled.
    Cancelled {
        /// What it was doing.
        from: LifecyclePhase,
    },
    /// Delayed.
    Delayed {
        /// Until when.
        until: TimestampMs,
    },
    /// Waiting for children.
    Moved {
        /// Pending edges then.
        unresolved_count: u32,
        /// Impossible edges then.
        impossible_count: u32,
    },
}

/// The last ending or pausing call and its first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCall {
    /// The operation.
    pub operation: LastOperation,
    /// Who called.
    pub by: LastBy,
    /// The run it was made in.
    pub run: u32,
    /// Digest of its arguments without execution and actor.
    pub digest: Digest,
    /// The first answer.
    pub answer: LastAnswer,
}

/// A worker's time-limited ownership. Exists exactly while RUNNING.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its id.
    pub lease_id: LeaseId,
    /// What the claim took.
    pub claim_kind: ClaimKind,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// When it was acquired.
    pub acquired_at: TimestampMs,
    /// When it runs out.
    pub expires_at: TimestampMs,
    /// When it was last renewed.
    pub renewed_at: Option<TimestampMs>,
}

/// A promise that a holder may claim. Exists until used, void or lapsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// When it was given.
    pub granted_at: TimestampMs,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

/// One durable unit of work. The payload and its encoding are kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRecord {
    /// Its id.
    pub execution_id: ExecutionId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its lane.
    pub lane_id: LaneId,
    /// What kind of work.
    pub kind: String,
    /// What its creator asked for.
    pub policy: Arc<ExecutionPolicy>,
    /// Who created it.
    pub creator: Option<String>,
    /// When.
    pub created_at: TimestampMs,
    /// Digest of the creation.
    pub fingerprint: LazyDigest,
    /// Its idempotency key.
    pub idempotency: Option<KeyUse>,
    /// The flow that it is a member of.
    pub flow_id: Option<FlowId>,
    /// The six dimensions.
    pub vector: StateVector,
    /// Greater is served first.
    pub priority: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Attempts ever started.
    pub attempt_count: u32,
    /// Acquisitions ever made.
    pub lease_epoch: LeaseEpoch,
    /// Retries of this run.
    pub retry_count: u32,
    /// Lost leases of this run.
    pub reclaim_count: u32,
    /// Retries of all runs.
    pub total_retries: u32,
    /// Lost leases of all runs.
    pub total_reclaims: u32,
    /// The current run's number.
    pub replay_count: u32,
    /// How the current run began, if by a replay.
    pub replay: Option<ReplayMark>,
    /// First acquired in this run; absent: never claimed in it.
    pub started_at: Option<TimestampMs>,
    /// How it ended; present exactly when terminal.
    pub ended: Option<EndMark>,
    /// When it is purged; a member has none.
    pub purge_at: Option<TimestampMs>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// The category of the failure.
    pub failure_category: Option<String>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// The end of this run's time.
    pub deadline_at: Option<TimestampMs>,
    /// The earliest instant of the next claim.
    pub not_before: Option<NotBefore>,
    /// What holds it back; empty unless runnable, LOST or REVOKED.
    pub blocks: BTreeMap<BlockReason, Block>,
    /// Its progress.
    pub progress: Option<Progress>,
    /// Signals recorded in this run from senders.
    pub signal_count: u32,
    /// Payload bytes of those that did not contribute.
    pub signal_bytes: u64,
    /// The seq of the next recorded signal; from 1.
    pub next_signal_seq: u64,
    /// Waitpoint ids ever used.
    pub waitpoint_count: u32,
    /// The last ending or pausing call.
    pub last_call: Option<LastCall>,
    /// When the vector last changed.
    pub last_transition_at: TimestampMs,
    /// When anything of it was last written.
    pub last_mutation_at: TimestampMs,
    /// The lease; present exactly when RUNNING.
    pub lease: Option<LeaseRecord>,
    /// The grant.
    pub grant: Option<GrantRecord>,
}

impl ExecutionRecord {
    /// The newest attempt's index; none before the first claim.
    #[must_use]
    pub fn current_attempt_index(&self) -> Option<AttemptIndex> {
        self.attempt_count.checked_sub(1).map(AttemptIndex)
    }

    /// The claim that would take it from its queue: by its vector alone, whatever else holds it. `None` unless it is
    /// READY, LOST or REVOKED.
    #[must_use]
    pub const fn next_claim_kind(&self) -> Option<ClaimKind> {
        if self.vector.is_reclaimable() {
            Some(ClaimKind::Reclaimed)
        } else if !self.vector.is_ready() {
            None
        } else if matches!(self.vector.attempt_state, AttemptState::AttemptInterrupted) {
            Some(ClaimKind::Resumed)
        } else {
            Some(ClaimKind::New)
        }
    }

    /// The state as answers carry it.
    #[must_use]
    pub fn summary(&self) -> StateSummary {
        StateSummary::new(self.vector, self.current_attempt_index())
    }
}

word_enum! {
    /// Why an attempt paused.
    pub enum PauseKind {
        /// It asked for a delay.
        Delay = "delay",
        /// It waits for incoming edges.
        Children = "children",
        /// It waits for signals.
        Suspension = "suspension",
    }
}

/// One run of an execution by a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its position.
    pub attempt_index: AttemptIndex,
    /// Its id.
    pub attempt_id: AttemptId,
    /// Why it was started.
    pub attempt_type: AttemptType,
    /// The run it belongs to.
    pub run: u32,
    /// When it started.
    pub started_at: TimestampMs,
    /// Its life.
    pub attempt_state: AttemptLifecycle,
    /// The last lease.
    pub lease_id: LeaseId,
    /// Its epoch.
    pub lease_epoch: LeaseEpoch,
    /// The last worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// The end of its time, while it runs.
    pub attempt_deadline_at: Option<TimestampMs>,
    /// What is left of its time, while it pauses.
    pub timeout_remaining_ms: Option<u64>,
    /// The last pause.
    pub pause_kind: Option<PauseKind>,
    /// When that began.
    pub paused_at: Option<TimestampMs>,
    /// When it last went on.
    pub resumed_at: Option<TimestampMs>,
    /// How it ended; present exactly when final.
    pub ended: Option<EndMark>,
    /// Why it failed or was revoked.
    pub failure_reason: Option<String>,
    /// The category of the failure.
    pub failure_category: Option<String>,
}

/// What a replay writes of the run that it closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRun {
    /// How it ended.
    pub outcome: TerminalOutcome,
    /// When, why and by whom.
    pub ended: EndMark,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// The category of the failure.
    pub failure_category: Option<String>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// The end of its time.
    pub deadline_at: Option<TimestampMs>,
    /// How it began, if by a replay.
    pub replay: Option<ReplayMark>,
}

/// What lies between creation or a replay and the next end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its number.
    pub run: u32,
    /// The result of a success.
    #[serde(default, with = "crate::wire::base64_option")]
    pub result: Option<Bytes>,
    /// Its encoding.
    pub result_encoding: Option<String>,
    /// Present exactly when a replay closed the run.
    pub closed: Option<ClosedRun>,
}
