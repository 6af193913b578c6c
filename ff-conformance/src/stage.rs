//! Where a case plays: a fresh backend on a manual clock, with short words for what every case does.
//!
//! The words only call operations; expected values are the case's to state.

use std::sync::{Arc, Mutex};

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptId, ExecutionId, FlowId, Kid, LaneId, LeaseId, Namespace, WorkerId, WorkerInstanceId};
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::policy::{Capabilities, ExecutionPolicy};
use ff_core::refusal::{Code, Refusal};
use ff_core::state::{StateName, StateSummary, StateVector};
use ff_core::time::{Clock, ManualClock, TimestampMs};
use ff_core::token::WaitpointSecret;
use uuid::Uuid;

use crate::harness::{Damage, Fixture, Harness};
use crate::view::{Named, View, difference, view};

mod budget;
mod execution;
mod flow;
mod keystore;
mod maintenance;
mod quota;
mod reads;
mod signal;
mod stream;
mod suspension;

pub use self::budget::*;
pub use self::execution::*;
pub use self::flow::*;
pub use self::keystore::*;
pub use self::maintenance::*;
pub use self::quota::*;
pub use self::reads::*;
pub use self::signal::*;
pub use self::stream::*;
pub use self::suspension::*;

/// What the clock shows when a case begins.
pub const START_MS: u64 = 1_000_000;
/// The partition that cases play in unless they need another.
pub const PARTITION: u16 = 5;
/// The lease duration of claims that say nothing else.
pub const LEASE_MS: u64 = 30_000;

struct Noting(Arc<Mutex<Named>>);

#[async_trait::async_trait]
impl Layer for Noting {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        if let Ok(mut named) = self.0.lock() {
            named.note(&operation);
        }
        dispatch(inner, operation).await
    }
}

type DamageFn = Box<dyn Fn(Damage) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A fresh backend and what was named on it.
pub struct Stage {
    /// The backend; every operation on it is noted for [`Stage::view`].
    pub backend: Arc<dyn EngineBackend>,
    /// Its clock.
    pub clock: ManualClock,
    named: Arc<Mutex<Named>>,
    fixture: Arc<Fixture>,
    damage: DamageFn,
}

/// A name that is valid by construction.
macro_rules! valid {
    ($Type:ident, $text:expr) => {
        $Type::new($text).unwrap_or_else(|e| panic!("{e}"))
    };
}

/// The lane of executions that name none.
#[must_use]
pub fn lane() -> LaneId {
    valid!(LaneId, "main")
}

/// The namespace of executions that name none.
#[must_use]
pub fn namespace() -> Namespace {
    valid!(Namespace, "ns")
}

/// The worker of claims that name none.
#[must_use]
pub fn worker() -> (WorkerId, WorkerInstanceId) {
    (valid!(WorkerId, "worker"), valid!(WorkerInstanceId, "worker-1"))
}

/// A fresh slot.
#[must_use]
pub fn slot() -> ClaimSlot {
    ClaimSlot { lease_id: LeaseId::new(), attempt_id: AttemptId::new() }
}

/// The instant `ms` after the epoch.
#[must_use]
pub fn at(ms: u64) -> TimestampMs {
    TimestampMs::saturating(ms)
}

/// A signing secret made of one byte.
#[must_use]
pub fn secret(byte: u8) -> WaitpointSecret {
    WaitpointSecret::new([byte; 32])
}

/// A kid.
#[must_use]
pub fn kid(text: &str) -> Kid {
    valid!(Kid, text)
}

impl Stage {
    /// Opens a stage on a fixture; rotates a signing key (`k1`) into [`PARTITION`].
    pub async fn open<H: Harness>(harness: &Arc<H>, fixture: Fixture) -> Self {
        let named = Arc::new(Mutex::new(Named::default()));
        let fixture = Arc::new(fixture);
        let backend: Arc<dyn EngineBackend> =
            Arc::new(Layered::new(Arc::clone(&fixture.backend), Noting(Arc::clone(&named))));
        let (owner, held) = (Arc::clone(harness), Arc::clone(&fixture));
        let damage: DamageFn = Box::new(move |damage| {
            let (owner, held) = (Arc::clone(&owner), Arc::clone(&held));
            Box::pin(async move { owner.damage(&held, damage).await })
        });
        let stage = Self { backend, clock: fixture.clock.clone(), named, fixture, damage };
        stage.rotate(PARTITION, "k1", 1).await;
        stage
    }

    /// Damages the store; the case's harness can, or the case would not run.
    pub async fn damage(&self, damage: Damage) {
        assert!((self.damage)(damage).await, "the harness could not do {damage:?}");
    }

    /// Damages the store, if the harness can: whether it did. For the part of a case that only some stores have.
    pub async fn damage_if_possible(&self, damage: Damage) -> bool {
        (self.damage)(damage).await
    }

    // --- time ---

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    /// Moves the clock forward.
    pub fn advance(&self, ms: u64) {
        self.clock.advance(ms);
    }

    /// Sets the clock.
    pub fn set(&self, now: TimestampMs) {
        self.clock.set(now);
    }

    // --- any operation ---

    /// Carries out an operation.
    ///
    /// # Errors
    /// Those of the operation.
    pub async fn call(&self, operation: impl Into<Operation>) -> Result<Outcome, EngineError> {
        dispatch(&*self.backend, operation.into()).await
    }

    /// The operation must be refused, and the whole public view must be what it was.
    pub async fn refused(&self, operation: impl Into<Operation>) -> Refusal {
        let operation = operation.into();
        let name = operation.name();
        let judge = |answer| match answer {
            Err(EngineError::Refused(refusal)) => (format!("was refused ({refusal})"), refusal),
            other => panic!("{name} must be refused, answered {other:?}"),
        };
        self.without_change(operation, judge).await
    }

    /// The operation must be refused with this code, changing nothing.
    pub async fn refused_with(&self, code: Code, operation: impl Into<Operation>) -> Refusal {
        let operation = operation.into();
        let name = operation.name();
        let refusal = self.refused(operation).await;
        assert_eq!(refusal.code(), code, "{name}: {refusal}");
        refusal
    }

    /// The whole public view.
    pub async fn view(&self) -> View {
        let named = self.named.lock().map(|n| n.clone()).unwrap_or_default();
        view(&*self.fixture.backend, &named).await
    }

    /// The operation must succeed and change nothing that can be seen: a repeat.
    pub async fn changes_nothing(&self, operation: impl Into<Operation>) -> Outcome {
        let operation = operation.into();
        let name = operation.name();
        let judge = |answer: Result<Outcome, EngineError>| {
            ("must change nothing".to_owned(), answer.unwrap_or_else(|e| panic!("{name}: {e}")))
        };
        self.without_change(operation, judge).await
    }

    /// Carries out an operation; `judge` must take the answer, and the whole public view must be what it was. What
    /// `judge` says first is how a change is told.
    async fn without_change<T: Send>(
        &self,
        operation: Operation,
        judge: impl FnOnce(Result<Outcome, EngineError>) -> (String, T) + Send,
    ) -> T {
        if let Ok(mut named) = self.named.lock() {
            named.note(&operation);
        }
        let before = self.view().await;
        let name = operation.name();
        let (told, judged) = judge(self.call(operation).await);
        let changed = difference(&before, &self.view().await);
        assert!(changed.is_empty(), "{name} {told} and changed:\n{}", changed.join("\n"));
        judged
    }

    // --- creating ---

    /// A fresh execution id in [`PARTITION`].
    #[must_use]
    pub fn execution_id(&self) -> ExecutionId {
        ExecutionId::from_parts(PARTITION, Uuid::now_v7())
    }

    /// A fresh flow id in [`PARTITION`].
    #[must_use]
    pub fn flow_id(&self) -> FlowId {
        FlowId::from_parts(PARTITION, Uuid::now_v7())
    }

    /// A plain creation: fresh id, lane `main`, kind `job`, no payload, the default policy. Change its fields at will.
    #[must_use]
    pub fn creation(&self) -> CreateExecutionArgs {
        CreateExecutionArgs::builder()
            .execution_id(self.execution_id())
            .namespace(namespace())
            .lane_id(lane())
            .kind("job")
            .build()
    }

    /// A plain creation with this policy.
    #[must_use]
    pub fn creation_with(&self, policy: ExecutionPolicy) -> CreateExecutionArgs {
        let mut args = self.creation();
        args.policy = Arc::new(policy);
        args
    }

    /// Creates; it must be new.
    pub async fn create(&self, args: CreateExecutionArgs) -> ExecutionId {
        let id = args.execution_id;
        match self.backend.create_execution(args).await {
            Ok(CreateExecutionResult::Created { execution_id, .. }) if execution_id == id => id,
            other => panic!("create_execution: {other:?}"),
        }
    }

    /// A READY execution.
    pub async fn ready(&self) -> ExecutionId {
        self.create(self.creation()).await
    }

    /// A READY execution with this policy.
    pub async fn ready_with(&self, policy: ExecutionPolicy) -> ExecutionId {
        self.create(self.creation_with(policy)).await
    }

    // --- claiming ---

    /// A claim of lane `main` by the default worker, with this many fresh slots.
    #[must_use]
    pub fn claim_args(&self, slots: usize) -> ClaimNextArgs {
        let (worker_id, worker_instance_id) = worker();
        ClaimNextArgs {
            partition: PARTITION,
            lane_id: lane(),
            worker_id,
            worker_instance_id,
            capabilities: Capabilities::none(),
            slots: (0..slots).map(|_| slot()).collect(),
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// Claims from lane `main`.
    pub async fn claim_next(&self, slots: usize) -> ClaimNextResult {
        self.backend.claim_next(self.claim_args(slots)).await.unwrap_or_else(|e| panic!("claim_next: {e}"))
    }

    /// Claims the one next execution of lane `main`; there must be one.
    pub async fn claim(&self) -> ClaimedExecution {
        let result = self.claim_next(1).await;
        let first = result.claimed.into_iter().next();
        first.unwrap_or_else(|| panic!("claim_next found nothing")).claimed().clone()
    }

    /// Claims the next execution of lane `main`; it must be this one.
    pub async fn claim_this(&self, id: ExecutionId) -> ClaimedExecution {
        let claimed = self.claim().await;
        assert_eq!(claimed.execution_id, id, "claim_next took another");
        claimed
    }

    /// A RUNNING execution and the fence of its owner.
    pub async fn running(&self) -> (ExecutionId, Fence) {
        let id = self.ready().await;
        (id, self.claim_this(id).await.fence)
    }

    /// A RUNNING execution with this policy, and the fence of its owner.
    pub async fn running_with(&self, policy: ExecutionPolicy) -> (ExecutionId, Fence) {
        let id = self.ready_with(policy).await;
        (id, self.claim_this(id).await.fence)
    }

    // --- ending ---

    /// Completes as the worker, without a result.
    pub async fn complete(&self, id: ExecutionId, fence: Fence) -> StateSummary {
        let args = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(fence)).build();
        match self.backend.complete_execution(args).await {
            Ok(CompleteExecutionResult::Completed { summary }) => summary,
            Err(e) => panic!("complete_execution: {e}"),
        }
    }

    /// Completes as the worker, with a result.
    pub async fn complete_with(&self, id: ExecutionId, fence: Fence, result: &'static [u8]) -> StateSummary {
        match self.backend.complete_execution(self.completion(id, fence, result)).await {
            Ok(CompleteExecutionResult::Completed { summary }) => summary,
            Err(e) => panic!("complete_execution: {e}"),
        }
    }

    /// The arguments of a worker's failure of category `error`.
    #[must_use]
    pub fn failure(&self, id: ExecutionId, fence: Fence) -> FailExecutionArgs {
        FailExecutionArgs::builder()
            .execution_id(id)
            .actor(Actor::Worker(fence))
            .reason("it broke")
            .category("error")
            .build()
    }

    /// Fails as the worker.
    pub async fn fail(&self, id: ExecutionId, fence: Fence) -> FailExecutionResult {
        let args = self.failure(id, fence);
        self.backend.fail_execution(args).await.unwrap_or_else(|e| panic!("fail_execution: {e}"))
    }

    /// Cancels as the operator `ops`.
    pub async fn cancel(&self, id: ExecutionId) -> StateSummary {
        let args = CancelExecutionArgs { execution_id: id, actor: Actor::operator("ops"), reason: "enough".to_owned() };
        match self.backend.cancel_execution(args).await {
            Ok(CancelExecutionResult::Cancelled { summary, .. }) => summary,
            Err(e) => panic!("cancel_execution: {e}"),
        }
    }

    /// Replays as the operator `ops`.
    pub async fn replay(&self, id: ExecutionId, replay_count: u32) -> StateSummary {
        match self.backend.replay_execution(self.replay_args(id, replay_count)).await {
            Ok(ReplayExecutionResult::Replayed { summary, .. }) => summary,
            Err(e) => panic!("replay_execution: {e}"),
        }
    }

    // --- one of each state ---

    /// A LOST execution and the fence of the owner that lost it. The clock moves by [`LEASE_MS`].
    pub async fn lost(&self) -> (ExecutionId, Fence) {
        let (id, fence) = self.running().await;
        self.lose(id, fence).await;
        (id, fence)
    }

    /// A REVOKED execution and the fence of the owner that lost it.
    pub async fn revoked(&self) -> (ExecutionId, Fence) {
        let (id, fence) = self.running().await;
        match self.revoke(id, fence).await {
            RevokeLeaseResult::Revoked { .. } => (id, fence),
            other @ RevokeLeaseResult::AlreadyReleased { .. } => panic!("revoke_lease: {other:?}"),
        }
    }

    /// A DELAYED execution, for `ms` from now.
    pub async fn delayed(&self, ms: u64) -> ExecutionId {
        let mut args = self.creation();
        args.delay = Some(ff_core::time::When::After(ms));
        self.create(args).await
    }

    /// A BLOCKED execution, paused by an operator.
    pub async fn blocked(&self) -> ExecutionId {
        let id = self.ready().await;
        self.block(id, ff_core::state::BlockReason::PausedByOperator).await;
        id
    }

    /// Blocks for a reason, without `until`.
    pub async fn block(&self, id: ExecutionId, reason: ff_core::state::BlockReason) -> StateSummary {
        let args = BlockExecutionArgs::builder().execution_id(id).reason(reason).by("ops").build();
        match self.backend.block_execution(args).await {
            Ok(BlockExecutionResult::Blocked { summary }) => summary,
            other => panic!("block_execution: {other:?}"),
        }
    }

    /// A DEPS execution: the only member of an unsealed flow, held.
    pub async fn deps(&self) -> (FlowId, ExecutionId) {
        let flow_id = self.flow().await;
        (flow_id, self.held_member(flow_id).await)
    }

    /// A SUSPENDED execution that waits for any signal at one waitpoint, its owner's fence, and the waitpoint.
    pub async fn suspended(&self) -> (ExecutionId, Fence, IssuedWaitpoint) {
        let (id, fence) = self.running().await;
        let waitpoint = self.suspend_on_any_signal(id, fence).await;
        (id, fence, waitpoint)
    }

    /// Suspends a running execution until any signal arrives at one fresh waitpoint.
    pub async fn suspend_on_any_signal(&self, id: ExecutionId, fence: Fence) -> IssuedWaitpoint {
        let asleep = self.suspend(self.any_signal(id, fence)).await;
        asleep.waitpoints.into_iter().next().unwrap_or_else(|| panic!("no waitpoint was issued"))
    }

    // --- flows ---

    /// An empty unsealed flow.
    pub async fn flow(&self) -> FlowId {
        let flow_id = self.flow_id();
        let args = CreateFlowArgs::builder().flow_id(flow_id).namespace(namespace()).flow_kind("pipeline").build();
        match self.backend.create_flow(args).await {
            Ok(CreateFlowResult::Created { .. }) => flow_id,
            other => panic!("create_flow: {other:?}"),
        }
    }

    /// A member of the flow, not held, behind these upstreams (success only).
    pub async fn member(&self, flow_id: FlowId, upstreams: &[ExecutionId]) -> ExecutionId {
        self.create(self.member_creation(flow_id, upstreams)).await
    }

    /// Seals the flow.
    pub async fn seal(&self, flow_id: FlowId) -> SealFlowResult {
        let args = SealFlowArgs::builder().flow_id(flow_id).build();
        self.backend.seal_flow(args).await.unwrap_or_else(|e| panic!("seal_flow: {e}"))
    }

    // --- keys ---

    /// Makes a kid current in a partition, with the secret of one byte.
    pub async fn rotate(&self, partition: u16, new_kid: &str, byte: u8) -> RotateWaitpointHmacSecretOutcome {
        let args = rotation_in(partition, new_kid, byte);
        self.backend.rotate_waitpoint_hmac_secret(args).await.unwrap_or_else(|e| panic!("rotate: {e}"))
    }

    // --- looking ---

    /// Everything that is known of an execution.
    pub async fn describe(&self, id: ExecutionId) -> ExecutionSnapshot {
        let args = DescribeExecutionArgs { execution_id: id };
        self.backend.describe_execution(args).await.unwrap_or_else(|e| panic!("describe_execution {id}: {e}"))
    }

    /// Its vector.
    pub async fn vector(&self, id: ExecutionId) -> StateVector {
        self.describe(id).await.summary.state_vector
    }

    /// The row of its vector.
    pub async fn state(&self, id: ExecutionId) -> StateName {
        let vector = self.vector(id).await;
        vector.name().unwrap_or_else(|| panic!("illegal vector {vector:?}"))
    }

    /// A flow's snapshot.
    pub async fn describe_flow(&self, flow_id: FlowId) -> FlowSnapshot {
        let args = DescribeFlowArgs { flow_id };
        self.backend.describe_flow(args).await.unwrap_or_else(|e| panic!("describe_flow {flow_id}: {e}"))
    }

    // --- maintenance ---

    /// One sweep of [`PARTITION`].
    pub async fn sweep_once(&self, limit: u32) -> SweepReport {
        let args = SweepArgs::builder().partition(PARTITION).limit(limit).build();
        self.backend.sweep(args).await.unwrap_or_else(|e| panic!("sweep: {e}"))
    }

    /// Sweeps [`PARTITION`] until nothing is due.
    pub async fn sweep(&self) -> SweepReport {
        let mut all = SweepReport::default();
        for _ in 0..100_000 {
            let report = self.sweep_once(1000).await;
            for (kind, n) in &report.counts {
                *all.counts.entry(*kind).or_default() += n;
            }
            all.corrupt.extend(report.corrupt);
            all.next_due_at = report.next_due_at;
            if !report.more {
                return all;
            }
        }
        panic!("sweep never came to an end");
    }

    /// A whole walk of `rebuild_indexes` over [`PARTITION`].
    pub async fn rebuild(&self) -> RebuildReport {
        let mut all = RebuildReport::default();
        let mut cursor = None;
        loop {
            let args = RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).maybe_cursor(cursor).build();
            let page = self.backend.rebuild_indexes(args).await.unwrap_or_else(|e| panic!("rebuild: {e}"));
            all.examined += page.examined;
            for (kind, by) in &page.repaired {
                for (action, n) in by {
                    *all.repaired.entry(*kind).or_default().entry(*action).or_default() += n;
                }
            }
            all.corrupt.extend(page.corrupt);
            for (lane, by) in &page.lane_counts {
                for (state, n) in by {
                    *all.lane_counts.entry(lane.clone()).or_default().entry(*state).or_default() += n;
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }
}
