//! Words for the domains execution, claim and lease.

use std::sync::Arc;

use ff_core::bounds::Deployment;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, FlowId, Namespace};
use ff_core::policy::{Backoff, Capabilities, ExecutionPolicy, RetryPolicy, TimeoutPolicy};
use ff_core::refusal::{Code, Details, Refusal};
use ff_core::state::{BlockReason, StateSummary};
use ff_core::time::{TimestampMs, When};
use uuid::Uuid;

use super::{LEASE_MS, PARTITION, Stage, slot, worker};

/// A policy of this many retries, each `delay_ms` after its failure.
#[must_use]
pub fn retries(max_retries: u32, delay_ms: u64) -> ExecutionPolicy {
    let retry = RetryPolicy::builder().max_retries(max_retries).backoff(Backoff::Fixed { delay_ms }).build();
    ExecutionPolicy::builder().retry(retry).build()
}

/// A policy with this deadline.
#[must_use]
pub fn deadline(when: When) -> ExecutionPolicy {
    ExecutionPolicy::builder().timeouts(TimeoutPolicy { deadline: Some(when), attempt_timeout_ms: None }).build()
}

/// A policy with this attempt timeout.
#[must_use]
pub fn attempt_timeout(ms: u64) -> ExecutionPolicy {
    ExecutionPolicy::builder().timeouts(TimeoutPolicy { deadline: None, attempt_timeout_ms: Some(ms) }).build()
}

/// A policy that requires these tokens.
#[must_use]
pub fn requires(tokens: impl Into<Capabilities>) -> ExecutionPolicy {
    ExecutionPolicy::builder().required_capabilities(tokens.into()).build()
}

/// The id in [`PARTITION`] whose uuid is this number: ids ascend as their numbers do.
#[must_use]
pub fn numbered(number: u128) -> ExecutionId {
    ExecutionId::from_parts(PARTITION, Uuid::from_u128(number))
}

/// An idempotency key that puts a stand-alone execution of the namespace into [`PARTITION`].
#[must_use]
pub fn key_at_home(namespace: &Namespace) -> String {
    let partitions = Deployment::default().partitions;
    let mut keys = (0..10_000).map(|i| format!("key-{i}"));
    let at_home = |key: &String| ExecutionId::partition_of_key(partitions, namespace, key) == PARTITION;
    keys.find(at_home).unwrap_or_else(|| panic!("no key hashes to {PARTITION}"))
}

/// The cause of an `execution_not_eligible`.
#[must_use]
pub fn not_eligible_cause(refusal: &Refusal) -> NotEligibleCause {
    match refusal.details() {
        Details::ExecutionNotEligible { cause, .. } => *cause,
        other => panic!("{other:?}"),
    }
}

/// The cause of an `execution_not_reclaimable`.
#[must_use]
pub fn not_reclaimable_cause(refusal: &Refusal) -> NotReclaimableCause {
    match refusal.details() {
        Details::ExecutionNotReclaimable { cause, .. } => *cause,
        other => panic!("{other:?}"),
    }
}

impl Stage {
    // --- endings ---

    /// The arguments of an operator's completion without result.
    #[must_use]
    pub fn operator_completion(&self, id: ExecutionId) -> CompleteExecutionArgs {
        CompleteExecutionArgs::builder().execution_id(id).actor(Actor::operator("ops")).build()
    }

    /// The arguments of a worker's completion with a result.
    #[must_use]
    pub fn completion(&self, id: ExecutionId, fence: Fence, result: &'static [u8]) -> CompleteExecutionArgs {
        CompleteExecutionArgs::builder()
            .execution_id(id)
            .actor(Actor::Worker(fence))
            .result(bytes::Bytes::from_static(result))
            .build()
    }

    /// Completes as the operator `ops`.
    pub async fn complete_as_operator(&self, id: ExecutionId) -> StateSummary {
        match self.backend.complete_execution(self.operator_completion(id)).await {
            Ok(CompleteExecutionResult::Completed { summary }) => summary,
            Err(e) => panic!("complete_execution: {e}"),
        }
    }

    /// Fails as the worker; a retry must follow. Answers when.
    pub async fn fail_and_retry(&self, id: ExecutionId, fence: Fence) -> TimestampMs {
        match self.fail(id, fence).await {
            FailExecutionResult::RetryScheduled { retry_at, .. } => retry_at,
            FailExecutionResult::Ended { summary } => panic!("no retry follows: {summary:?}"),
        }
    }

    /// Fails as the worker; it must be final.
    pub async fn fail_for_good(&self, id: ExecutionId, fence: Fence) -> StateSummary {
        match self.fail(id, fence).await {
            FailExecutionResult::Ended { summary } => summary,
            other @ FailExecutionResult::RetryScheduled { .. } => panic!("a retry follows: {other:?}"),
        }
    }

    /// Cancels as the operator `ops`, unless it has ended.
    pub async fn cancel_unless_done(&self, id: ExecutionId) {
        if !self.vector(id).await.is_terminal() {
            self.cancel(id).await;
        }
    }

    /// Expires by a timer.
    pub async fn expire(&self, id: ExecutionId, timer: ExpiryTimer) -> ExpireExecutionResult {
        let args = ExpireExecutionArgs { execution_id: id, timer };
        self.backend.expire_execution(args).await.unwrap_or_else(|e| panic!("expire_execution: {e}"))
    }

    // --- pauses ---

    /// Delays as the worker.
    pub async fn delay(&self, id: ExecutionId, fence: Fence, until: When) -> DelayExecutionResult {
        let args = DelayExecutionArgs { execution_id: id, actor: Actor::Worker(fence), until };
        self.backend.delay_execution(args).await.unwrap_or_else(|e| panic!("delay_execution: {e}"))
    }

    /// Delays as the operator `ops`.
    pub async fn delay_as_operator(&self, id: ExecutionId, until: When) -> DelayExecutionResult {
        let args = DelayExecutionArgs { execution_id: id, actor: Actor::operator("ops"), until };
        self.backend.delay_execution(args).await.unwrap_or_else(|e| panic!("delay_execution: {e}"))
    }

    /// Waits for children.
    pub async fn wait_for_children(&self, id: ExecutionId, fence: Fence) -> MoveToWaitingChildrenResult {
        let args = MoveToWaitingChildrenArgs { execution_id: id, fence };
        self.backend.move_to_waiting_children(args).await.unwrap_or_else(|e| panic!("move_to_waiting_children: {e}"))
    }

    /// Two members of a fresh flow, both RUNNING, the second with an edge from the first staged upon it: (flow,
    /// upstream with fence, downstream with fence). It claims nothing else if nothing else is ready.
    pub async fn running_pair(&self) -> (FlowId, (ExecutionId, Fence), (ExecutionId, Fence)) {
        let flow_id = self.flow().await;
        let up = self.member(flow_id, &[]).await;
        let up_fence = self.claim_this(up).await.fence;
        let down = self.member(flow_id, &[]).await;
        let down_fence = self.claim_this(down).await.fence;
        self.link(flow_id, up, down).await;
        (flow_id, (up, up_fence), (down, down_fence))
    }

    /// The arguments of a replay by `ops`.
    #[must_use]
    pub fn replay_args(&self, id: ExecutionId, replay_count: u32) -> ReplayExecutionArgs {
        ReplayExecutionArgs::builder().execution_id(id).replay_count(replay_count).reason("again").by("ops").build()
    }

    // --- blocks ---

    /// Unblocks; there must be such a block.
    pub async fn unblock(&self, id: ExecutionId, reason: BlockReason) -> StateSummary {
        let args = UnblockExecutionArgs { execution_id: id, reason };
        match self.backend.unblock_execution(args).await {
            Ok(UnblockExecutionResult::Unblocked { summary }) => summary,
            other => panic!("unblock_execution: {other:?}"),
        }
    }

    // --- grants and claims by id ---

    /// The arguments of a claim grant for the default worker, living `ttl_ms`.
    #[must_use]
    pub fn grant_args(&self, id: ExecutionId, ttl_ms: u64) -> IssueClaimGrantArgs {
        let (worker_id, worker_instance_id) = worker();
        IssueClaimGrantArgs {
            execution_id: id,
            worker_id,
            worker_instance_id,
            capabilities: Capabilities::none(),
            grant_ttl_ms: ttl_ms,
        }
    }

    /// Issues a claim grant of ten seconds to the default worker.
    pub async fn grant(&self, id: ExecutionId) -> ClaimGrant {
        match self.backend.issue_claim_grant(self.grant_args(id, 10_000)).await {
            Ok(IssueClaimGrantResult::Granted(grant)) => grant,
            Err(e) => panic!("issue_claim_grant: {e}"),
        }
    }

    /// The arguments of the default worker's claim by id, with fresh ids.
    #[must_use]
    pub fn claim_by_id_args(&self, id: ExecutionId) -> ClaimExecutionArgs {
        let (worker_id, worker_instance_id) = worker();
        let ClaimSlot { lease_id, attempt_id } = slot();
        ClaimExecutionArgs {
            execution_id: id,
            worker_id,
            worker_instance_id,
            lease_id,
            attempt_id,
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// The arguments of the default worker's claim of a paused attempt, with a fresh lease id.
    #[must_use]
    pub fn claim_resumed_args(&self, id: ExecutionId) -> ClaimResumedExecutionArgs {
        let (worker_id, worker_instance_id) = worker();
        ClaimResumedExecutionArgs {
            execution_id: id,
            worker_id,
            worker_instance_id,
            lease_id: slot().lease_id,
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// Grants and claims a new attempt.
    pub async fn claim_by_id(&self, id: ExecutionId) -> ClaimedExecution {
        self.grant(id).await;
        match self.backend.claim_execution(self.claim_by_id_args(id)).await {
            Ok(ClaimExecutionResult::Claimed(claimed)) => claimed,
            Err(e) => panic!("claim_execution: {e}"),
        }
    }

    /// Grants and claims a paused attempt.
    pub async fn claim_resumed(&self, id: ExecutionId) -> ClaimedResumedExecution {
        self.grant(id).await;
        match self.backend.claim_resumed_execution(self.claim_resumed_args(id)).await {
            Ok(ClaimResumedExecutionResult::Claimed(claimed)) => claimed,
            Err(e) => panic!("claim_resumed_execution: {e}"),
        }
    }

    /// The arguments of a reclaim grant of ten seconds for the default worker.
    #[must_use]
    pub fn reclaim_grant_args(&self, id: ExecutionId) -> IssueReclaimGrantArgs {
        let (worker_id, worker_instance_id) = worker();
        IssueReclaimGrantArgs {
            execution_id: id,
            worker_id,
            worker_instance_id,
            capabilities: Capabilities::none(),
            grant_ttl_ms: 10_000,
        }
    }

    /// The arguments of the default worker's reclaim, with fresh ids.
    #[must_use]
    pub fn reclaim_args(&self, id: ExecutionId) -> ReclaimExecutionArgs {
        let (worker_id, worker_instance_id) = worker();
        let ClaimSlot { lease_id, attempt_id } = slot();
        ReclaimExecutionArgs {
            execution_id: id,
            worker_id,
            worker_instance_id,
            lease_id,
            attempt_id,
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// Grants and reclaims a LOST or REVOKED execution.
    pub async fn reclaim(&self, id: ExecutionId) -> ClaimedExecution {
        match self.backend.issue_reclaim_grant(self.reclaim_grant_args(id)).await {
            Ok(IssueReclaimGrantResult::Granted(_)) => {}
            other => panic!("issue_reclaim_grant: {other:?}"),
        }
        match self.backend.reclaim_execution(self.reclaim_args(id)).await {
            Ok(ReclaimExecutionResult::Reclaimed(claimed)) => claimed,
            Err(e) => panic!("reclaim_execution: {e}"),
        }
    }

    // --- leases ---

    /// Renews for `ttl_ms`: when the lease runs out now.
    pub async fn renew(&self, id: ExecutionId, fence: Fence, ttl_ms: u64) -> TimestampMs {
        let args = RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: ttl_ms };
        match self.backend.renew_lease(args).await {
            Ok(RenewLeaseResult::Renewed { lease_expires_at, .. }) => lease_expires_at,
            Err(e) => panic!("renew_lease: {e}"),
        }
    }

    /// Marks the lease of this epoch as expired.
    pub async fn mark_expired(&self, id: ExecutionId, fence: Fence) -> MarkLeaseExpiredResult {
        let args = MarkLeaseExpiredArgs { execution_id: id, lease_epoch: fence.lease_epoch };
        self.backend.mark_lease_expired(args).await.unwrap_or_else(|e| panic!("mark_lease_expired: {e}"))
    }

    /// Lets the lease run out and marks it; the execution must be LOST. The clock moves by [`LEASE_MS`].
    pub async fn lose(&self, id: ExecutionId, fence: Fence) {
        self.advance(LEASE_MS);
        match self.mark_expired(id, fence).await {
            MarkLeaseExpiredResult::Lost { .. } => {}
            other => panic!("mark_lease_expired: {other:?}"),
        }
    }

    /// Revokes the lease as `ops`.
    pub async fn revoke(&self, id: ExecutionId, fence: Fence) -> RevokeLeaseResult {
        let args = RevokeLeaseArgs {
            execution_id: id,
            lease_id: fence.lease_id,
            reason: "drain".to_owned(),
            by: "ops".to_owned(),
        };
        self.backend.revoke_lease(args).await.unwrap_or_else(|e| panic!("revoke_lease: {e}"))
    }

    // --- looking ---

    /// All attempts, by index.
    pub async fn attempts(&self, id: ExecutionId) -> Vec<AttemptSummary> {
        let args = ListAttemptsArgs::builder().execution_id(id).limit(1000).build();
        self.backend.list_attempts(args).await.unwrap_or_else(|e| panic!("list_attempts: {e}")).attempts
    }

    /// How an attempt's stream closed, if it has.
    pub async fn stream_closed(&self, id: ExecutionId, index: u32) -> Option<StreamClosed> {
        let args = ReadFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(index)).build();
        match self.backend.read_frames(args).await {
            Ok(ReadFramesResult::Frames(frames)) => frames.closed,
            Err(e) => panic!("read_frames: {e}"),
        }
    }

    /// A run's result.
    pub async fn result(&self, id: ExecutionId, of: ResultSelector) -> GetResultResult {
        let args = GetResultArgs::builder().execution_id(id).of(of).build();
        self.backend.get_result(args).await.unwrap_or_else(|e| panic!("get_result: {e}"))
    }

    /// The execution must not exist.
    pub async fn gone(&self, id: ExecutionId) {
        let answer = self.backend.describe_execution(DescribeExecutionArgs { execution_id: id }).await;
        assert_eq!(answer.map_err(|e| e.code()), Err(Some(Code::ExecutionNotFound)), "{id} still exists");
    }

    /// Creates with an idempotency key: the same content whenever namespace, key and policy are the same.
    #[must_use]
    pub fn keyed_creation(&self, namespace: &Namespace, key: &str, policy: ExecutionPolicy) -> CreateExecutionArgs {
        let mut args = self.creation();
        args.execution_id = ExecutionId::keyed(Deployment::default().partitions, namespace, key);
        args.namespace = namespace.clone();
        args.idempotency_key = Some(key.to_owned());
        args.policy = Arc::new(policy);
        args
    }
}
