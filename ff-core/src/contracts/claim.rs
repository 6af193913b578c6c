//! Domain claim: `execution.md`, section 5.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::contracts::{Fence, FlowInput, ResumeInfo};
use crate::ids::{
    AttemptId, AttemptIndex, BudgetId, ExecutionId, FlowId, LaneId, LeaseEpoch, LeaseId, Namespace, QuotaPolicyId,
    WorkerId, WorkerInstanceId,
};
use crate::policy::Capabilities;
use crate::records::{AttemptRecord, ExecutionRecord};
use crate::refusal::Refusal;
use crate::state::{AttemptType, StateSummary};
use crate::time::TimestampMs;
use crate::word_enum;

word_enum! {
    /// Whose capability list.
    pub enum CapabilitySide {
        /// What an execution requires.
        Requirement = "requirement",
        /// What a worker advertises.
        Worker = "worker",
    }
}

word_enum! {
    /// What a claim takes.
    pub enum ClaimKind {
        /// A new attempt of a ready execution.
        New = "new",
        /// A paused attempt goes on.
        Resumed = "resumed",
        /// A new attempt of an execution whose lease was lost or revoked.
        Reclaimed = "reclaimed",
    }
}

word_enum! {
    /// Why an execution is not handed out, in the order in which the causes are reported.
    pub enum NotEligibleCause {
        /// It is not runnable.
        NotRunnable = "not_runnable",
        /// It waits for time.
        Delayed = "delayed",
        /// It waits for incoming edges.
        Dependencies = "dependencies",
        /// It is held by a block.
        Blocked = "blocked",
        /// Its flow is cancelled over it.
        FlowCancelled = "flow_cancelled",
        /// Its deadline is due.
        DeadlinePassed = "deadline_passed",
    }
}

word_enum! {
    /// Why an execution is not reclaimed, in the order in which the causes are reported.
    pub enum NotReclaimableCause {
        /// It is neither LOST nor REVOKED, nor RUNNING past its lease.
        NotLost = "not_lost",
        /// It waits for time.
        Delayed = "delayed",
        /// It is held by a block.
        Blocked = "blocked",
        /// Its flow is cancelled over it.
        FlowCancelled = "flow_cancelled",
        /// Its deadline is due.
        DeadlinePassed = "deadline_passed",
    }
}

/// Arguments of `issue_claim_grant`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueClaimGrantArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance; holder is the pair.
    pub worker_instance_id: WorkerInstanceId,
    /// What the worker can do, at most 256 tokens.
    pub capabilities: Capabilities,
    /// How long the grant lives unused: 100 ms ..= 60 s.
    pub grant_ttl_ms: u64,
}

impl CheckArgs for IssueClaimGrantArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::worker_capabilities(&self.capabilities)?;
        bounds::grant_ttl(self.grant_ttl_ms)
    }
}

/// A promise that its holder may claim one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimGrant {
    /// The execution.
    pub execution_id: ExecutionId,
    /// `new` or `resumed`: which claim it is for.
    pub claim_kind: ClaimKind,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// When it was given.
    pub granted_at: TimestampMs,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

impl ClaimGrant {
    /// The stored grant of a READY execution; `None` if there is none, or the execution is not READY.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Option<Self> {
        let grant = record.grant.as_ref()?;
        let claim_kind = record.next_claim_kind().filter(|kind| *kind != ClaimKind::Reclaimed)?;
        Some(Self {
            execution_id: record.execution_id,
            claim_kind,
            worker_id: grant.worker_id.clone(),
            worker_instance_id: grant.worker_instance_id.clone(),
            granted_at: grant.granted_at,
            expires_at: grant.expires_at,
        })
    }
}

/// Result of `issue_claim_grant`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueClaimGrantResult {
    /// The holder may claim until the grant lapses.
    Granted(ClaimGrant),
}

/// Arguments of `claim_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// The new lease's id, minted by the caller.
    pub lease_id: LeaseId,
    /// The new attempt's id, minted by the caller; not compared with earlier ones.
    pub attempt_id: AttemptId,
    /// How long the lease lives unless renewed: 100 ms ..= 24 h.
    pub lease_ttl_ms: u64,
}

impl CheckArgs for ClaimExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::lease_ttl(self.lease_ttl_ms)
    }
}

/// What a worker owns: everything that it needs to run the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimedExecution {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The flow that it is a member of.
    pub flow_id: Option<FlowId>,
    /// Its lane.
    pub lane_id: LaneId,
    /// What kind of work.
    pub kind: String,
    /// As its creator gave it.
    #[serde(default, with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// The payload's encoding.
    pub payload_encoding: Option<String>,
    /// Its priority.
    pub priority: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The attempt that starts or goes on.
    pub attempt_id: AttemptId,
    /// Its position.
    pub attempt_index: AttemptIndex,
    /// Why it was started.
    pub attempt_type: AttemptType,
    /// The run: the number of replays before it.
    pub run: u32,
    /// Retries of this run so far.
    pub retry_count: u32,
    /// Lost leases of this run so far.
    pub reclaim_count: u32,
    /// What the worker shows with every call of this lease.
    pub fence: Fence,
    /// When the lease runs out unless renewed.
    pub lease_expires_at: TimestampMs,
    /// The end of this run's time.
    pub deadline_at: Option<TimestampMs>,
    /// The end of this attempt's time.
    pub attempt_deadline_at: Option<TimestampMs>,
    /// Upstream results by reference, in the order of the edges.
    pub inputs: Vec<FlowInput>,
    /// When the execution was created.
    pub created_at: TimestampMs,
}

impl ClaimedExecution {
    /// The claim that stands on a running execution, read from its records; `None` unless it is RUNNING.
    #[must_use]
    pub fn of(
        record: &ExecutionRecord,
        payload: Bytes,
        payload_encoding: Option<String>,
        attempt: &AttemptRecord,
        inputs: Vec<FlowInput>,
    ) -> Option<Self> {
        let lease = record.lease.as_ref()?;
        Some(Self {
            execution_id: record.execution_id,
            namespace: record.namespace.clone(),
            flow_id: record.flow_id,
            lane_id: record.lane_id.clone(),
            kind: record.kind.clone(),
            payload,
            payload_encoding,
            priority: record.priority,
            tags: record.tags.clone(),
            attempt_id: attempt.attempt_id,
            attempt_index: attempt.attempt_index,
            attempt_type: attempt.attempt_type,
            run: record.replay_count,
            retry_count: record.retry_count,
            reclaim_count: record.reclaim_count,
            fence: Fence { lease_id: lease.lease_id, lease_epoch: record.lease_epoch, attempt_id: attempt.attempt_id },
            lease_expires_at: lease.expires_at,
            deadline_at: record.deadline_at,
            attempt_deadline_at: attempt.attempt_deadline_at,
            inputs,
            created_at: record.created_at,
        })
    }
}

/// Result of `claim_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimExecutionResult {
    /// A new attempt runs under the caller's lease.
    Claimed(ClaimedExecution),
}

/// Arguments of `claim_resumed_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimResumedExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// The new lease's id, minted by the caller.
    pub lease_id: LeaseId,
    /// How long the lease lives unless renewed: 100 ms ..= 24 h.
    pub lease_ttl_ms: u64,
}

impl CheckArgs for ClaimResumedExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::lease_ttl(self.lease_ttl_ms)
    }
}

/// Why a paused attempt goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeCause {
    /// Its delay is over.
    DelayOver,
    /// No incoming edge is unresolved.
    ChildrenDone {
        /// Satisfied incoming edges, now.
        satisfied_count: u32,
        /// Impossible incoming edges, now.
        impossible_count: u32,
    },
    /// Its suspension ended.
    Suspension(ResumeInfo),
}

/// A claim that continues a paused attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimedResumedExecution {
    /// What the worker owns.
    pub claimed: ClaimedExecution,
    /// Why the attempt goes on.
    pub cause: ResumeCause,
}

impl ClaimedResumedExecution {
    /// The claim and why it goes on.
    #[must_use]
    pub const fn of(claimed: ClaimedExecution, cause: ResumeCause) -> Self {
        Self { claimed, cause }
    }
}

/// Result of `claim_resumed_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimResumedExecutionResult {
    /// The paused attempt goes on under the caller's lease.
    Claimed(ClaimedResumedExecution),
}

/// The ids of one claim that `claim_next` may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimSlot {
    /// The lease's id.
    pub lease_id: LeaseId,
    /// The attempt's id, if the claim starts one; a continued attempt leaves it unused.
    pub attempt_id: AttemptId,
}

impl ClaimSlot {
    /// A slot with fresh ids.
    #[allow(clippy::new_without_default)] // fresh ids are no default value
    #[must_use]
    pub fn new() -> Self {
        Self { lease_id: LeaseId::new(), attempt_id: AttemptId::new() }
    }
}

/// Arguments of `claim_next`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimNextArgs {
    /// Where to look.
    pub partition: u16,
    /// The lane; an unknown one is an empty one.
    pub lane_id: LaneId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// What the worker can do, at most 256 tokens.
    pub capabilities: Capabilities,
    /// 1..=64 claims at most, in this order; no lease id and no attempt id twice.
    pub slots: Vec<ClaimSlot>,
    /// How long each lease lives unless renewed: 100 ms ..= 24 h.
    pub lease_ttl_ms: u64,
}

impl ClaimNextArgs {
    /// The greatest number of slots.
    pub const MAX_SLOTS: usize = 64;
}

impl CheckArgs for ClaimNextArgs {
    /// An id twice is `invalid_input` of `slots.lease_id` or `slots.attempt_id`.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)?;
        bounds::worker_capabilities(&self.capabilities)?;
        bounds::ensure((1..=Self::MAX_SLOTS).contains(&self.slots.len()), "slots")?;
        let (mut leases, mut attempts) = (BTreeSet::new(), BTreeSet::new());
        for slot in &self.slots {
            bounds::ensure(leases.insert(slot.lease_id), "slots.lease_id")?;
            bounds::ensure(attempts.insert(slot.attempt_id), "slots.attempt_id")?;
        }
        bounds::lease_ttl(self.lease_ttl_ms)
    }
}

/// One claim that `claim_next` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextClaim {
    /// A new attempt.
    New(ClaimedExecution),
    /// A paused attempt goes on.
    Resumed(ClaimedResumedExecution),
    /// A new attempt after a lost or revoked lease.
    Reclaimed(ClaimedExecution),
}

impl NextClaim {
    /// What the worker owns, whichever kind of claim it is.
    #[must_use]
    pub const fn claimed(&self) -> &ClaimedExecution {
        match self {
            Self::New(claimed) | Self::Reclaimed(claimed) => claimed,
            Self::Resumed(resumed) => &resumed.claimed,
        }
    }

    /// The kind of claim.
    #[must_use]
    pub const fn claim_kind(&self) -> ClaimKind {
        match self {
            Self::New(_) => ClaimKind::New,
            Self::Resumed(_) => ClaimKind::Resumed,
            Self::Reclaimed(_) => ClaimKind::Reclaimed,
        }
    }
}

/// An execution that waits in its queue for the runtime to ask its budgets and quota policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdmissionCandidate {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The claim that takes it.
    pub claim_kind: ClaimKind,
    /// Its priority.
    pub priority: i32,
    /// The attempt that the claim would start or continue.
    pub attempt_index: AttemptIndex,
    /// The epoch that the claim would have.
    pub lease_epoch: LeaseEpoch,
    /// Budgets that must not be exhausted.
    pub budget_ids: BTreeSet<BudgetId>,
    /// The quota policy that admits it.
    pub quota_policy_id: Option<QuotaPolicyId>,
}

impl AdmissionCandidate {
    /// What the claim of an execution that waits in a queue would be; `None` unless it is READY, LOST or REVOKED.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Option<Self> {
        let claim_kind = record.next_claim_kind()?;
        let attempt_index = match claim_kind {
            ClaimKind::Resumed => record.current_attempt_index()?,
            ClaimKind::New | ClaimKind::Reclaimed => AttemptIndex(record.attempt_count),
        };
        Some(Self {
            execution_id: record.execution_id,
            claim_kind,
            priority: record.priority,
            attempt_index,
            lease_epoch: LeaseEpoch(record.lease_epoch.get() + 1),
            budget_ids: record.policy.budget_ids.clone(),
            quota_policy_id: record.policy.quota_policy_id.clone(),
        })
    }
}

/// Result of `claim_next`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimNextResult {
    /// The claims, in slot order.
    pub claimed: Vec<NextClaim>,
    /// The best admission-controlled executions that the worker could run, at most 16, in queue order; empty on a
    /// repeat.
    pub needs_admission: Vec<AdmissionCandidate>,
    /// How many wait in the matching ordinary queues afterwards.
    pub ready_remaining: u64,
    /// The earliest armed due time of the partition afterwards, which may have passed; now if its backlog is not
    /// empty; none if neither.
    pub next_due_at: Option<TimestampMs>,
}

/// Arguments of `issue_reclaim_grant`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueReclaimGrantArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance; holder is the pair.
    pub worker_instance_id: WorkerInstanceId,
    /// What the worker can do, at most 256 tokens.
    pub capabilities: Capabilities,
    /// How long the grant lives unused: 100 ms ..= 60 s.
    pub grant_ttl_ms: u64,
}

impl CheckArgs for IssueReclaimGrantArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::worker_capabilities(&self.capabilities)?;
        bounds::grant_ttl(self.grant_ttl_ms)
    }
}

/// A promise that its holder may reclaim one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReclaimGrant {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// When it was given.
    pub granted_at: TimestampMs,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

impl ReclaimGrant {
    /// The stored grant of a LOST or REVOKED execution; `None` if there is none, or the execution is neither.
    #[must_use]
    pub fn of(record: &ExecutionRecord) -> Option<Self> {
        let grant = record.grant.as_ref()?;
        record.next_claim_kind().filter(|kind| *kind == ClaimKind::Reclaimed)?;
        Some(Self {
            execution_id: record.execution_id,
            worker_id: grant.worker_id.clone(),
            worker_instance_id: grant.worker_instance_id.clone(),
            granted_at: grant.granted_at,
            expires_at: grant.expires_at,
        })
    }
}

/// Result of `issue_reclaim_grant`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueReclaimGrantResult {
    /// The holder may reclaim until the grant lapses.
    Granted(ReclaimGrant),
    /// The loss of its lease was one too many, or its flow's cancellation covered it: it ended.
    Ended {
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `reclaim_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReclaimExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker.
    pub worker_id: WorkerId,
    /// Its instance.
    pub worker_instance_id: WorkerInstanceId,
    /// The new lease's id, minted by the caller.
    pub lease_id: LeaseId,
    /// The new attempt's id, minted by the caller; not compared with earlier ones.
    pub attempt_id: AttemptId,
    /// How long the lease lives unless renewed: 100 ms ..= 24 h.
    pub lease_ttl_ms: u64,
}

impl CheckArgs for ReclaimExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::lease_ttl(self.lease_ttl_ms)
    }
}

/// Result of `reclaim_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReclaimExecutionResult {
    /// A new attempt runs under the caller's lease.
    Reclaimed(ClaimedExecution),
}
