//! Domain reads: `resources.md`, section 5. The models are pure functions of records.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::contracts::{ClaimKind, EndedBy, SuspensionInfo};
use crate::ids::{
    AttemptId, AttemptIndex, ExecutionId, FlowId, LaneId, LeaseEpoch, LeaseId, Namespace, WorkerId, WorkerInstanceId,
};
use crate::policy::ExecutionPolicy;
use crate::records::{AttemptRecord, Block, ExecutionRecord, GrantRecord, PauseKind, Progress, SuspensionRecord};
use crate::refusal::Refusal;
use crate::state::{AttemptLifecycle, AttemptType, BlockReason, EndCause, NotBeforeKind, PublicState, StateSummary};
use crate::time::TimestampMs;

const fn default_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

/// A text that is no cursor of the list asked for. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

/// A position in a walk over executions by id: right after one. Opaque to callers; the backends of this workspace
/// share the form, so that [`ListExecutionsArgs`] can be checked before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionCursor {
    /// The walk goes on with the first execution above this id, which need not exist.
    pub after: ExecutionId,
}

impl ExecutionCursor {
    const PREFIX: &str = "x1.";

    /// The position behind everything of a partition.
    #[must_use]
    pub const fn end_of(partition: u16) -> Self {
        Self { after: ExecutionId::from_parts(partition, uuid::Uuid::max()) }
    }
}

impl fmt::Display for ExecutionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.after)
    }
}

impl FromStr for ExecutionCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let after = text.strip_prefix(Self::PREFIX).and_then(|id| id.parse().ok()).ok_or(InvalidCursor)?;
        Ok(Self { after })
    }
}

/// A position in a walk over an execution's attempts: right after one. Opaque to callers, shared by the backends of
/// this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptCursor {
    /// The walk goes on with the attempt after this one.
    pub after: AttemptIndex,
}

impl AttemptCursor {
    const PREFIX: &str = "a1.";
}

impl fmt::Display for AttemptCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.after)
    }
}

impl FromStr for AttemptCursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let number = text.strip_prefix(Self::PREFIX).ok_or(InvalidCursor)?;
        let index = crate::records::flat::read_number(number.as_bytes()).map_err(|_| InvalidCursor)?;
        Ok(Self { after: AttemptIndex(u32::try_from(index).map_err(|_| InvalidCursor)?) })
    }
}

macro_rules! of_one_execution {
    ($($(#[$meta:meta])* $Name:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Name {
            /// The execution.
            pub execution_id: ExecutionId,
        }

        impl CheckArgs for $Name {
            fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
                deployment.partition(self.execution_id.partition())
            }
        }
    )+ };
}

of_one_execution! {
    /// Arguments of `get_execution`.
    GetExecutionArgs;
    /// Arguments of `describe_execution`.
    DescribeExecutionArgs;
    /// Arguments of `get_payload`.
    GetPayloadArgs;
}

/// Result of `get_execution`.
pub type GetExecutionResult = ExecutionInfo;

/// Result of `describe_execution`.
pub type DescribeExecutionResult = ExecutionSnapshot;

/// Result of `get_payload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPayloadResult {
    /// The bytes as they were given; empty when none were.
    #[serde(with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// Their encoding.
    pub payload_encoding: Option<String>,
}

/// Arguments of `list_executions`. Filters are joined by "and".
///
/// ```
/// use ff_core::contracts::{ListExecutionsArgs, PublicState};
/// let args = ListExecutionsArgs::builder()
///     .lane_id("default".parse()?)
///     .public_state(PublicState::Waiting)
///     .tag("team.name", "search")
///     .build();
/// # assert_eq!(args.limit, 100);
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListExecutionsArgs {
    /// Only this partition; none walks all of them in ascending order.
    #[serde(default)]
    pub partition: Option<u16>,
    /// Only this lane.
    #[serde(default)]
    pub lane_id: Option<LaneId>,
    /// Only this namespace.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Only this label.
    #[serde(default)]
    pub public_state: Option<PublicState>,
    /// Only with this tag: equal key and value.
    #[serde(default)]
    #[builder(with = |key: impl Into<String>, value: impl Into<String>| (key.into(), value.into()))]
    pub tag: Option<(String, String)>,
    /// The `next_cursor` of the page before; none begins a walk. It names a position, not the filters.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100. A page may be shorter, or empty, while more remain.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListExecutionsArgs {
    /// Where the walk goes on.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor, or one outside the given partition.
    pub fn position(&self) -> Result<Option<ExecutionCursor>, Refusal> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let cursor: ExecutionCursor = text.parse().map_err(|InvalidCursor| Refusal::invalid_input("cursor"))?;
        let within = self.partition.is_none_or(|partition| partition == cursor.after.partition());
        bounds::ensure(within, "cursor")?;
        Ok(Some(cursor))
    }

    /// Whether an execution passes the filters; its partition is not looked at.
    #[must_use]
    pub fn matches(&self, record: &ExecutionRecord) -> bool {
        self.lane_id.as_ref().is_none_or(|lane| *lane == record.lane_id)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == record.namespace)
            && self.public_state.is_none_or(|state| state == record.vector.public_state())
            && self.tag.as_ref().is_none_or(|(key, value)| record.tags.get(key) == Some(value))
    }
}

impl CheckArgs for ListExecutionsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        self.partition.map_or(Ok(()), |partition| deployment.partition(partition))?;
        if let Some((key, value)) = &self.tag {
            bounds::tag_key(key)?;
            bounds::text("tag", value)?;
        }
        let position = self.position()?;
        // A cursor of another deployment is a foreign text, not a wrong id.
        bounds::ensure(position.is_none_or(|p| deployment.partition(p.after.partition()).is_ok()), "cursor")?;
        bounds::page(self.limit)
    }
}

/// Result of `list_executions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListExecutionsResult {
    /// By execution id.
    pub executions: Vec<ExecutionSummary>,
    /// Only its absence ends the walk.
    pub next_cursor: Option<String>,
}

/// Arguments of `list_attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListAttemptsArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The `next_cursor` of the page before; none begins a walk.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's length at most, `1..=1000`; 100.
    #[serde(default = "default_limit")]
    #[builder(default = default_limit())]
    pub limit: u32,
}

impl ListAttemptsArgs {
    /// The first attempt that the page may hold; none when the cursor stands behind the last possible one.
    ///
    /// # Errors
    /// `invalid_input` (`cursor`) for a text that is no cursor.
    pub fn first(&self) -> Result<Option<AttemptIndex>, Refusal> {
        let Some(text) = &self.cursor else { return Ok(Some(AttemptIndex(0))) };
        let cursor: AttemptCursor = text.parse().map_err(|InvalidCursor| Refusal::invalid_input("cursor"))?;
        Ok(cursor.after.get().checked_add(1).map(AttemptIndex))
    }
}

impl CheckArgs for ListAttemptsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.first()?;
        bounds::page(self.limit)
    }
}

/// Result of `list_attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAttemptsResult {
    /// By index, of all runs.
    pub attempts: Vec<AttemptSummary>,
    /// Present exactly while more may remain.
    pub next_cursor: Option<String>,
}

/// Whose result is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResultSelector {
    /// The present run's.
    #[default]
    Last,
    /// That of the run with this number.
    Run(u32),
    /// That of the run whose last attempt is this one.
    Attempt(AttemptIndex),
}

/// Arguments of `get_result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GetResultArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whose; the present run's.
    #[serde(default)]
    #[builder(default)]
    pub of: ResultSelector,
}

impl CheckArgs for GetResultArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `get_result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetResultResult {
    /// The run.
    pub run: u32,
    /// When it ended in success.
    pub completed_at: TimestampMs,
    /// The bytes as they were given; none when none were.
    #[serde(default, with = "crate::wire::base64_option")]
    pub result: Option<Bytes>,
    /// Their encoding.
    pub result_encoding: Option<String>,
}

/// Arguments of `lane_counts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LaneCountsArgs {
    /// The lane.
    pub lane_id: LaneId,
    /// Only this partition; none sums up all of them.
    #[serde(default)]
    pub partition: Option<u16>,
}

impl CheckArgs for LaneCountsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        self.partition.map_or(Ok(()), |partition| deployment.partition(partition))
    }
}

/// Result of `lane_counts`.
pub type LaneCountsResult = LaneCounts;

/// The stored executions of a lane by public state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCounts {
    /// All 11 states, those without executions as 0.
    pub counts: BTreeMap<PublicState, u64>,
}

impl Default for LaneCounts {
    fn default() -> Self {
        Self { counts: PublicState::ALL.iter().map(|state| (*state, 0)).collect() }
    }
}

impl LaneCounts {
    /// Counts `n` more of a state.
    pub fn add(&mut self, state: PublicState, n: u64) {
        *self.counts.entry(state).or_default() += n;
    }

    /// How many there are of a state.
    #[must_use]
    pub fn count(&self, state: PublicState) -> u64 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contracts::StreamClosed;
    use crate::contracts::testing::{refused_code, refused_field};
    use crate::records::generate;
    use crate::refusal::Code;

    fn id(partition: u16, n: u128) -> ExecutionId {
        ExecutionId::from_parts(partition, uuid::Uuid::from_u128(n))
    }

    #[test]
    fn cursors_parse_strictly_and_write_back() {
        let cursor = ExecutionCursor { after: id(10, 7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!(ExecutionCursor::end_of(2).after < cursor.after, "partition 10 comes after partition 2");
        let attempt = AttemptCursor { after: AttemptIndex(u32::MAX) };
        assert_eq!(attempt.to_string().parse(), Ok(attempt));
        for foreign in
            ["", "x1.", "x1.e1_x", "x2.e1_01890a5d-ac96-774b-bcce-b302099a8057", "a1.0", &id(1, 1).to_string()]
        {
            assert_eq!(foreign.parse::<ExecutionCursor>(), Err(InvalidCursor), "{foreign:?}");
        }
        for foreign in ["", "a1.", "a1.01", "a1.-1", "a1.4294967296", "a1. 1", &cursor.to_string()] {
            assert_eq!(foreign.parse::<AttemptCursor>(), Err(InvalidCursor), "{foreign:?}");
        }
    }

    #[test]
    fn a_list_of_executions_refuses_foreign_cursors_and_bad_tags() {
        let all = || ListExecutionsArgs::builder().build();
        let at = |after| Some(ExecutionCursor { after }.to_string());
        assert_eq!(refused_code(&all()), None);
        assert_eq!(refused_code(&ListExecutionsArgs { cursor: at(id(3, 1)), ..all() }), None);
        assert_eq!(refused_code(&ListExecutionsArgs { cursor: at(id(3, 1)), partition: Some(3), ..all() }), None);
        for (cursor, partition) in [(at(id(3, 1)), Some(2)), (at(id(16, 1)), None), (Some("a1.0".to_owned()), None)] {
            let args = ListExecutionsArgs { cursor, partition, ..all() };
            assert_eq!(refused_field(&args), Some("cursor".into()), "{args:?}");
        }
        for limit in [0, 1001] {
            assert_eq!(refused_field(&ListExecutionsArgs { limit, ..all() }), Some("limit".into()));
        }
        let foreign = ListExecutionsArgs { partition: Some(16), limit: 0, ..all() };
        assert_eq!(refused_code(&foreign), Some(Code::InvalidPartition));
        let tagged = ListExecutionsArgs::builder().tag("Team", "x").build();
        assert_eq!(refused_code(&tagged), Some(Code::InvalidTagKey));
        let tagged = ListExecutionsArgs::builder().tag("team.name", "x".repeat(4097)).build();
        assert_eq!(refused_field(&tagged), Some("tag".into()));
    }

    #[test]
    fn a_list_of_attempts_goes_on_behind_its_cursor() {
        let all = || ListAttemptsArgs::builder().execution_id(id(0, 1)).build();
        assert_eq!(all().first(), Ok(Some(AttemptIndex(0))));
        let behind =
            |n| ListAttemptsArgs { cursor: Some(AttemptCursor { after: AttemptIndex(n) }.to_string()), ..all() };
        assert_eq!(behind(4).first(), Ok(Some(AttemptIndex(5))));
        assert_eq!(behind(u32::MAX).first(), Ok(None));
        let foreign = ListAttemptsArgs { cursor: Some("5".into()), limit: 0, ..all() };
        assert_eq!(refused_field(&foreign), Some("cursor".into()));
    }

    #[test]
    fn results_are_asked_for_in_words() {
        let args = GetResultArgs::builder().execution_id(id(0, 1)).build();
        assert_eq!(args.of, ResultSelector::Last);
        let text = serde_json::to_string(&GetResultArgs { of: ResultSelector::Run(2), ..args }).expect("plain data");
        assert!(text.ends_with(r#""of":{"run":2}}"#), "{text}");
    }

    proptest! {
        /// The three models of one execution agree where they overlap, survive JSON, and show groups whole.
        #[test]
        fn summary_info_and_snapshot_agree(
            record in generate::execution(),
            attempt in proptest::option::of(generate::attempt()),
        ) {
            let snapshot = ExecutionSnapshot::of(&record, attempt.as_ref(), None);
            let (summary, info) = (ExecutionSummary::of(&record), ExecutionInfo::of(&record));
            let json = (serde_json::to_value(&summary), serde_json::to_value(&info), serde_json::to_value(&snapshot));
            let (small, medium, large) = (json.0.expect("plain"), json.1.expect("plain"), json.2.expect("plain"));
            for (less, more) in [(&small, &medium), (&medium, &large)] {
                for (name, field) in less.as_object().expect("a struct") {
                    prop_assert_eq!(more.get(name), Some(field), "{}", name);
                }
            }
            prop_assert_eq!(info.run, record.replay_count);
            prop_assert_eq!(snapshot.current_lease.is_some(), record.vector.is_running());
            prop_assert_eq!(snapshot.end_cause.is_some(), record.vector.is_terminal());
            prop_assert!(snapshot.blocks.windows(2).all(|pair| pair[0].reason < pair[1].reason));
            prop_assert_eq!(serde_json::from_value::<ExecutionSummary>(small).expect("its own"), summary);
            prop_assert_eq!(serde_json::from_value::<ExecutionInfo>(medium).expect("its own"), info);
            prop_assert_eq!(serde_json::from_value::<ExecutionSnapshot>(large).expect("its own"), snapshot);
        }

        #[test]
        fn a_stream_is_closed_exactly_when_its_attempt_is_final(attempt in generate::attempt()) {
            let closed = StreamClosed::of(&attempt);
            prop_assert_eq!(closed.is_some(), attempt.attempt_state.is_final());
            let summary = AttemptSummary::of(&attempt);
            prop_assert_eq!(closed.map(|c| c.at), summary.ended_at);
            prop_assert_eq!(closed.map(|c| c.cause), summary.end_cause);
        }
    }

    #[test]
    fn a_lane_never_seen_counts_nothing_in_all_eleven_states() {
        let mut counts = LaneCounts::default();
        assert_eq!((counts.counts.len(), counts.total()), (11, 0));
        counts.add(PublicState::Active, 2);
        assert_eq!((counts.count(PublicState::Active), counts.total()), (2, 2));
        let text = serde_json::to_string(&counts).expect("string keys");
        assert_eq!(serde_json::from_str::<LaneCounts>(&text).expect("its own text"), counts);
    }
}
