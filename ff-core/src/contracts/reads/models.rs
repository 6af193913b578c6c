//! What reads show of an execution and of an attempt: pure functions of records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::contracts::{ClaimKind, EndedBy, SuspensionInfo};
use crate::ids::{
    AttemptId, AttemptIndex, ExecutionId, FlowId, LaneId, LeaseEpoch, LeaseId, Namespace, WorkerId, WorkerInstanceId,
};
use crate::policy::ExecutionPolicy;
use crate::records::{AttemptRecord, Block, ExecutionRecord, GrantRecord, PauseKind, Progress, SuspensionRecord};
use crate::state::{AttemptLifecycle, AttemptType, BlockReason, EndCause, NotBeforeKind, PublicState, StateSummary};
use crate::time::TimestampMs;

/// An execution in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutionSummary {
    /// Its id.
    pub execution_id: ExecutionId,
    /// The flow that it is a member of.
    pub flow_id: Option<FlowId>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its lane.
    pub lane_id: LaneId,
    /// What kind of work.
    pub kind: String,
    /// Greater is served first.
    pub priority: i32,
    /// The derived label of its state.
    pub public_state: PublicState,
    /// When it was created.
    pub created_at: TimestampMs,
}

impl ExecutionSummary {
    /// Of its record.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Self {
        Self {
            execution_id: record.execution_id,
            flow_id: record.flow_id,
            namespace: record.namespace.clone(),
            lane_id: record.lane_id.clone(),
            kind: record.kind.clone(),
            priority: record.priority,
            public_state: record.vector.public_state(),
            created_at: record.created_at,
        }
    }
}

/// An execution at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutionInfo {
    /// Its id.
    pub execution_id: ExecutionId,
    /// The flow that it is a member of.
    pub flow_id: Option<FlowId>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its lane.
    pub lane_id: LaneId,
    /// What kind of work.
    pub kind: String,
    /// Greater is served first.
    pub priority: i32,
    /// The derived label of its state.
    pub public_state: PublicState,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Its state.
    pub summary: StateSummary,
    /// Attempts ever started.
    pub attempt_count: u32,
    /// Acquisitions ever made.
    pub lease_epoch: LeaseEpoch,
    /// The current run's number: how often it was replayed.
    pub run: u32,
    /// When it was first acquired in this run.
    pub started_at: Option<TimestampMs>,
    /// When it ended.
    pub completed_at: Option<TimestampMs>,
    /// The end of this run's time.
    pub deadline_at: Option<TimestampMs>,
    /// When anything of it was last written.
    pub last_mutation_at: TimestampMs,
}

impl ExecutionInfo {
    /// Of its record.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Self {
        Self {
            execution_id: record.execution_id,
            flow_id: record.flow_id,
            namespace: record.namespace.clone(),
            lane_id: record.lane_id.clone(),
            kind: record.kind.clone(),
            priority: record.priority,
            public_state: record.vector.public_state(),
            created_at: record.created_at,
            summary: record.summary(),
            attempt_count: record.attempt_count,
            lease_epoch: record.lease_epoch,
            run: record.replay_count,
            started_at: record.started_at,
            completed_at: record.ended.as_ref().map(|e| e.at),
            deadline_at: record.deadline_at,
            last_mutation_at: record.last_mutation_at,
        }
    }
}

/// One reason that holds an execution back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BlockSummary {
    /// The reason.
    pub reason: BlockReason,
    /// For people.
    pub detail: String,
    /// When it ends by itself.
    pub until: Option<TimestampMs>,
    /// Who asked.
    pub by: String,
    /// Since when.
    pub blocked_at: TimestampMs,
}

impl BlockSummary {
    /// Of its reason and record.
    #[must_use]
    pub fn of(reason: BlockReason, block: &Block) -> Self {
        Self {
            reason,
            detail: block.detail.clone(),
            until: block.until,
            by: block.by.clone(),
            blocked_at: block.blocked_at,
        }
    }
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptSummary {
    /// Its id.
    pub attempt_id: AttemptId,
    /// Its position.
    pub attempt_index: AttemptIndex,
    /// Why it was started.
    pub attempt_type: AttemptType,
    /// Its life.
    pub attempt_state: AttemptLifecycle,
    /// The run it belongs to.
    pub run: u32,
    /// When it started.
    pub started_at: TimestampMs,
    /// Its last lease.
    pub lease_id: LeaseId,
    /// That lease's epoch.
    pub lease_epoch: LeaseEpoch,
    /// Its last worker.
    pub worker_id: WorkerId,
    /// That worker's instance.
    pub worker_instance_id: WorkerInstanceId,
    /// The end of its time, while it runs.
    pub attempt_deadline_at: Option<TimestampMs>,
    /// Its last pause.
    pub pause_kind: Option<PauseKind>,
    /// When that began.
    pub paused_at: Option<TimestampMs>,
    /// When it last went on.
    pub resumed_at: Option<TimestampMs>,
    /// When it ended.
    pub ended_at: Option<TimestampMs>,
    /// Why.
    pub end_cause: Option<EndCause>,
    /// By whom.
    pub ended_by: Option<EndedBy>,
    /// Why it failed or was revoked.
    pub failure_reason: Option<String>,
    /// The category of the failure.
    pub failure_category: Option<String>,
}

impl AttemptSummary {
    /// Of its record.
    #[must_use]
    pub fn of(record: &AttemptRecord) -> Self {
        Self {
            attempt_id: record.attempt_id,
            attempt_index: record.attempt_index,
            attempt_type: record.attempt_type,
            attempt_state: record.attempt_state,
            run: record.run,
            started_at: record.started_at,
            lease_id: record.lease_id,
            lease_epoch: record.lease_epoch,
            worker_id: record.worker_id.clone(),
            worker_instance_id: record.worker_instance_id.clone(),
            attempt_deadline_at: record.attempt_deadline_at,
            pause_kind: record.pause_kind,
            paused_at: record.paused_at,
            resumed_at: record.resumed_at,
            ended_at: record.ended.as_ref().map(|e| e.at),
            end_cause: record.ended.as_ref().map(|e| e.cause),
            ended_by: record.ended.as_ref().map(|e| e.by.clone()),
            failure_reason: record.failure_reason.clone(),
            failure_category: record.failure_category.clone(),
        }
    }
}

/// A lease as it is stored, also when it is due and its timer has not fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeaseSummary {
    /// Its id.
    pub lease_id: LeaseId,
    /// Its epoch.
    pub lease_epoch: LeaseEpoch,
    /// The attempt that runs under it.
    pub attempt_index: AttemptIndex,
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

impl LeaseSummary {
    /// Of the record of its execution; none unless that is RUNNING.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Option<Self> {
        let lease = record.lease.as_ref()?;
        Some(Self {
            lease_id: lease.lease_id,
            lease_epoch: record.lease_epoch,
            attempt_index: record.current_attempt_index()?,
            claim_kind: lease.claim_kind,
            worker_id: lease.worker_id.clone(),
            worker_instance_id: lease.worker_instance_id.clone(),
            acquired_at: lease.acquired_at,
            expires_at: lease.expires_at,
            renewed_at: lease.renewed_at,
        })
    }
}

/// Everything about an execution but its payload and result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutionSnapshot {
    /// Its id.
    pub execution_id: ExecutionId,
    /// The flow that it is a member of.
    pub flow_id: Option<FlowId>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its lane.
    pub lane_id: LaneId,
    /// What kind of work.
    pub kind: String,
    /// Greater is served first.
    pub priority: i32,
    /// The derived label of its state.
    pub public_state: PublicState,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Its state.
    pub summary: StateSummary,
    /// Attempts ever started.
    pub attempt_count: u32,
    /// Acquisitions ever made.
    pub lease_epoch: LeaseEpoch,
    /// The current run's number: how often it was replayed.
    pub run: u32,
    /// When it was first acquired in this run.
    pub started_at: Option<TimestampMs>,
    /// When it ended.
    pub completed_at: Option<TimestampMs>,
    /// The end of this run's time.
    pub deadline_at: Option<TimestampMs>,
    /// When anything of it was last written.
    pub last_mutation_at: TimestampMs,
    /// Who created it.
    pub creator: Option<String>,
    /// What its creator asked for.
    pub policy: Arc<ExecutionPolicy>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// When that key is free again.
    pub idempotency_expires_at: Option<TimestampMs>,
    /// What holds it back, in the order in which the gate looks at it.
    pub blocks: Vec<BlockSummary>,
    /// The earliest instant of the next claim.
    pub not_before: Option<TimestampMs>,
    /// What that was set for.
    pub not_before_kind: Option<NotBeforeKind>,
    /// Retries of this run.
    pub retry_count: u32,
    /// Lost leases of this run.
    pub reclaim_count: u32,
    /// Retries of all runs.
    pub total_retries: u32,
    /// Lost leases of all runs.
    pub total_reclaims: u32,
    /// Signals recorded in this run from senders.
    pub signal_count: u32,
    /// Waitpoint ids ever used.
    pub waitpoint_count: u32,
    /// Why it was replayed last.
    pub replay_reason: Option<String>,
    /// By whom.
    pub replayed_by: Option<String>,
    /// When.
    pub replayed_at: Option<TimestampMs>,
    /// Why it ended.
    pub end_cause: Option<EndCause>,
    /// By whom.
    pub ended_by: Option<EndedBy>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// The category of the failure.
    pub failure_category: Option<String>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// When it is purged; a member is purged with its flow.
    pub purge_at: Option<TimestampMs>,
    /// When the state vector last changed.
    pub last_transition_at: TimestampMs,
    /// What its worker last said about its progress.
    pub progress: Option<Progress>,
    /// The newest attempt, final or not.
    pub current_attempt: Option<AttemptSummary>,
    /// The lease; exactly when RUNNING.
    pub current_lease: Option<LeaseSummary>,
    /// The grant as stored, also when it has lapsed.
    pub grant: Option<GrantRecord>,
    /// The present or last suspension.
    pub suspension: Option<SuspensionInfo>,
}

impl ExecutionSnapshot {
    /// Of its record, that of its newest attempt, and that of its present or last suspension.
    #[must_use]
    pub fn of(
        record: &ExecutionRecord,
        newest_attempt: Option<&AttemptRecord>,
        suspension: Option<&SuspensionRecord>,
    ) -> Self {
        Self {
            execution_id: record.execution_id,
            flow_id: record.flow_id,
            namespace: record.namespace.clone(),
            lane_id: record.lane_id.clone(),
            kind: record.kind.clone(),
            priority: record.priority,
            public_state: record.vector.public_state(),
            created_at: record.created_at,
            summary: record.summary(),
            attempt_count: record.attempt_count,
            lease_epoch: record.lease_epoch,
            run: record.replay_count,
            started_at: record.started_at,
            completed_at: record.ended.as_ref().map(|e| e.at),
            deadline_at: record.deadline_at,
            last_mutation_at: record.last_mutation_at,
            creator: record.creator.clone(),
            policy: Arc::clone(&record.policy),
            tags: record.tags.clone(),
            idempotency_key: record.idempotency.as_ref().map(|k| k.key.clone()),
            idempotency_expires_at: record.idempotency.as_ref().map(|k| k.expires_at),
            blocks: record.blocks.iter().map(|(reason, block)| BlockSummary::of(*reason, block)).collect(),
            not_before: record.not_before.map(|n| n.at),
            not_before_kind: record.not_before.map(|n| n.kind),
            retry_count: record.retry_count,
            reclaim_count: record.reclaim_count,
            total_retries: record.total_retries,
            total_reclaims: record.total_reclaims,
            signal_count: record.signal_count,
            waitpoint_count: record.waitpoint_count,
            replay_reason: record.replay.as_ref().map(|r| r.reason.clone()),
            replayed_by: record.replay.as_ref().map(|r| r.by.clone()),
            replayed_at: record.replay.as_ref().map(|r| r.at),
            end_cause: record.ended.as_ref().map(|e| e.cause),
            ended_by: record.ended.as_ref().map(|e| e.by.clone()),
            failure_reason: record.failure_reason.clone(),
            failure_category: record.failure_category.clone(),
            cancel_reason: record.cancel_reason.clone(),
            purge_at: record.purge_at,
            last_transition_at: record.last_transition_at,
            progress: record.progress.clone(),
            current_attempt: newest_attempt.map(AttemptSummary::of),
            current_lease: LeaseSummary::of(record),
            grant: record.grant.clone(),
            suspension: suspension.map(SuspensionInfo::of),
        }
    }
}
