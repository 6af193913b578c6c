//! Words for the domain suspension.

use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, FlowId, SignalId, SuspensionId, WaitpointId};
use ff_core::policy::{ExecutionPolicy, SuspensionPolicy};
use ff_core::refusal::Refusal;
use ff_core::state::{NotBeforeKind, StateSummary, StateVector};
use ff_core::time::TimestampMs;
use ff_core::token::WaitpointToken;
use uuid::Uuid;

use super::{Stage, numbered};

/// What `suspend_execution` answered when the execution sleeps.
#[derive(Clone, Debug)]
pub struct Asleep {
    /// The suspension.
    pub suspension_id: SuspensionId,
    /// Its waitpoints, in binding order.
    pub waitpoints: Vec<IssuedWaitpoint>,
    /// When it times out.
    pub timeout_at: Option<TimestampMs>,
    /// The state after it.
    pub summary: StateSummary,
}

/// A source of type `human`.
#[must_use]
pub fn human(identity: &str) -> SignalSource {
    SignalSource::new("human", identity)
}

/// A fresh waitpoint without sources.
#[must_use]
pub fn fresh() -> WaitpointBinding {
    WaitpointBinding::fresh(WaitpointId::new())
}

/// A fresh waitpoint whose tokens are bound to these humans.
#[must_use]
pub fn fresh_for(identities: &[&str]) -> WaitpointBinding {
    WaitpointBinding::Fresh {
        waitpoint_id: WaitpointId::new(),
        sources: identities.iter().map(|identity| human(identity)).collect(),
    }
}

/// A timeout of the suspension's own.
#[must_use]
pub const fn timeout(after_ms: u64, behavior: TimeoutBehavior) -> SuspensionTimeout {
    SuspensionTimeout::After { after_ms, behavior }
}

/// Resume this long after the wake.
#[must_use]
pub const fn resume_delay(ms: u64) -> ResumePolicy {
    ResumePolicy { resume_delay_ms: ms, allow_operator_override: true }
}

/// READY, and the same attempt goes on.
pub const INTERRUPTED: StateVector = StateVector::ready(ff_core::state::AttemptState::AttemptInterrupted);

/// DELAYED by this kind, and the same attempt goes on.
#[must_use]
pub const fn interrupted_until(kind: NotBeforeKind) -> StateVector {
    StateVector::delayed(kind, ff_core::state::AttemptState::AttemptInterrupted)
}

/// A policy whose suspensions time out by themselves.
#[must_use]
pub fn default_timeout(ms: u64, behavior: TimeoutBehavior) -> ExecutionPolicy {
    let suspension = SuspensionPolicy { default_timeout_ms: Some(ms), default_timeout_behavior: behavior };
    ExecutionPolicy::builder().suspension(suspension).build()
}

/// The waitpoint's only token.
#[must_use]
pub fn token(waitpoint: &IssuedWaitpoint) -> WaitpointToken {
    let [only] = waitpoint.tokens.as_slice() else { panic!("not one token: {waitpoint:?}") };
    only.token.clone()
}

/// The kids of all tokens of these waitpoints.
pub fn kids(waitpoints: &[IssuedWaitpoint]) -> Vec<String> {
    let tokens = waitpoints.iter().flat_map(|waitpoint| &waitpoint.tokens);
    tokens.map(|issued| issued.token.kid().map_or_else(|| "?".to_owned(), |kid| kid.to_string())).collect()
}

/// The refusal of a closed waitpoint.
#[must_use]
pub fn closed(reason: WaitpointCloseReason) -> Refusal {
    Refusal::waitpoint_closed(reason)
}

/// A signal id from a number.
#[must_use]
pub const fn signal_id(number: u128) -> SignalId {
    SignalId::from_uuid(Uuid::from_u128(number))
}

impl Stage {
    // --- suspending ---

    /// The arguments of a suspension: fresh id, reason `waiting_for_signal`, the default timeout. Change them at will.
    #[must_use]
    pub fn suspension(
        &self,
        id: ExecutionId,
        fence: Fence,
        waitpoints: Vec<WaitpointBinding>,
        condition: impl Into<ResumeCondition>,
    ) -> SuspendExecutionArgs {
        SuspendExecutionArgs::builder()
            .execution_id(id)
            .fence(fence)
            .suspension_id(SuspensionId::new())
            .waitpoints(waitpoints)
            .reason_code(SuspensionReason::WaitingForSignal)
            .resume_condition(condition)
            .build()
    }

    /// The arguments of a suspension until any signal arrives at one fresh waitpoint.
    #[must_use]
    pub fn any_signal(&self, id: ExecutionId, fence: Fence) -> SuspendExecutionArgs {
        self.suspension(id, fence, vec![fresh()], ResumeCondition::any_signal())
    }

    /// Suspends; the execution must sleep.
    pub async fn suspend(&self, args: SuspendExecutionArgs) -> Asleep {
        match self.backend.suspend_execution(args).await {
            Ok(SuspendExecutionResult::Suspended { suspension_id, waitpoints, timeout_at, summary }) => {
                Asleep { suspension_id, waitpoints, timeout_at, summary }
            }
            other => panic!("suspend_execution: {other:?}"),
        }
    }

    /// Suspends on what has arrived already; the execution must go on. Answers its waitpoints and what matched.
    pub async fn already_satisfied(&self, args: SuspendExecutionArgs) -> (Vec<IssuedWaitpoint>, MatchedSignals) {
        match self.backend.suspend_execution(args).await {
            Ok(SuspendExecutionResult::AlreadySatisfied { waitpoints, matched, summary, .. }) => {
                assert_eq!(summary.state_vector, StateVector::RUNNING);
                (waitpoints, matched)
            }
            other => panic!("suspend_execution: {other:?}"),
        }
    }

    /// The current or last suspension; there must be one.
    pub async fn last_suspension(&self, id: ExecutionId) -> SuspensionInfo {
        let suspension = self.describe(id).await.suspension;
        suspension.unwrap_or_else(|| panic!("{id} was never suspended"))
    }

    // --- resuming ---

    /// The arguments of a resume by `ops`, of this suspension or of whichever is open.
    #[must_use]
    pub fn resumption(&self, id: ExecutionId, suspension_id: Option<SuspensionId>) -> ResumeExecutionArgs {
        ResumeExecutionArgs::builder()
            .execution_id(id)
            .maybe_suspension_id(suspension_id)
            .by("ops")
            .reason("go on")
            .build()
    }

    /// Resumes whichever suspension is open, as the operator `ops`.
    pub async fn resume(&self, id: ExecutionId) -> StateSummary {
        match self.backend.resume_execution(self.resumption(id, None)).await {
            Ok(ResumeExecutionResult::Resumed { summary, .. }) => summary,
            Err(e) => panic!("resume_execution: {e}"),
        }
    }

    /// Claims this execution, whose attempt was suspended: the claim and what it is told.
    pub async fn claim_awake(&self, id: ExecutionId) -> (ClaimedExecution, ResumeInfo) {
        let result = self.claim_next(1).await;
        match result.claimed.into_iter().next() {
            Some(NextClaim::Resumed(ClaimedResumedExecution {
                claimed, cause: ResumeCause::Suspension(info), ..
            })) => {
                assert_eq!(claimed.execution_id, id, "claim_next took another");
                (claimed, info)
            }
            other => panic!("no resumed attempt of {id}: {other:?}"),
        }
    }

    // --- timeouts ---

    /// Expires a suspension.
    pub async fn expire_suspension(&self, id: ExecutionId, suspension_id: SuspensionId) -> ExpireSuspensionResult {
        let args = ExpireSuspensionArgs { execution_id: id, suspension_id };
        self.backend.expire_suspension(args).await.unwrap_or_else(|e| panic!("expire_suspension: {e}"))
    }

    /// Expires a suspension that is due.
    pub async fn time_out(&self, id: ExecutionId, suspension_id: SuspensionId) -> (TimeoutBehavior, StateSummary) {
        match self.expire_suspension(id, suspension_id).await {
            ExpireSuspensionResult::Expired { behavior, summary } => (behavior, summary),
            other @ ExpireSuspensionResult::NotDue { .. } => panic!("expire_suspension: {other:?}"),
        }
    }

    /// Expiring must have no effect at all, for this cause.
    pub async fn not_due(&self, id: ExecutionId, suspension_id: SuspensionId, cause: NotDueCause) {
        let before = self.describe(id).await.summary;
        let outcome = self.changes_nothing(ExpireSuspensionArgs { execution_id: id, suspension_id }).await;
        let want = ExpireSuspensionResult::NotDue { cause, summary: before };
        assert_eq!(outcome, ff_core::operation::Outcome::ExpireSuspension(want));
    }

    // --- waitpoints ---

    /// The arguments of a pending waitpoint with a fresh id and no sources, which lives for a day.
    #[must_use]
    pub fn pending_args(&self, id: ExecutionId, fence: Fence) -> CreatePendingWaitpointArgs {
        CreatePendingWaitpointArgs::builder()
            .execution_id(id)
            .fence(fence)
            .waitpoint_id(WaitpointId::new())
            .expires_in_ms(CreatePendingWaitpointArgs::MAX_EXPIRES_IN_MS)
            .build()
    }

    /// Creates a pending waitpoint: it must be new.
    pub async fn create_pending(&self, args: CreatePendingWaitpointArgs) -> (IssuedWaitpoint, TimestampMs) {
        match self.backend.create_pending_waitpoint(args).await {
            Ok(CreatePendingWaitpointResult::Created { waitpoint_id, tokens, expires_at, .. }) => {
                (IssuedWaitpoint { waitpoint_id, tokens }, expires_at)
            }
            other => panic!("create_pending_waitpoint: {other:?}"),
        }
    }

    /// A pending waitpoint with a fresh id and no sources, which lives for a day.
    pub async fn pending(&self, id: ExecutionId, fence: Fence) -> IssuedWaitpoint {
        self.create_pending(self.pending_args(id, fence)).await.0
    }

    /// A pending waitpoint without sources, which lives for so long.
    pub async fn pending_for(&self, id: ExecutionId, fence: Fence, ms: u64) -> IssuedWaitpoint {
        let mut args = self.pending_args(id, fence);
        args.expires_in_ms = ms;
        self.create_pending(args).await.0
    }

    /// A pending waitpoint with a token for each of these humans.
    pub async fn pending_from(&self, id: ExecutionId, fence: Fence, identities: &[&str]) -> IssuedWaitpoint {
        let mut args = self.pending_args(id, fence);
        args.sources = identities.iter().map(|identity| human(identity)).collect();
        self.create_pending(args).await.0
    }

    /// The arguments that withdraw a waitpoint.
    #[must_use]
    pub fn withdrawal(&self, id: ExecutionId, fence: Fence, waitpoint_id: WaitpointId) -> CloseWaitpointArgs {
        CloseWaitpointArgs { execution_id: id, fence, waitpoint_id, reason: "not needed".to_owned() }
    }

    /// Withdraws a waitpoint that is open and pending.
    pub async fn withdraw(&self, id: ExecutionId, fence: Fence, waitpoint_id: WaitpointId) {
        match self.backend.close_waitpoint(self.withdrawal(id, fence, waitpoint_id)).await {
            Ok(CloseWaitpointResult::Closed { waitpoint_id: closed, .. }) => assert_eq!(closed, waitpoint_id),
            other => panic!("close_waitpoint: {other:?}"),
        }
    }

    /// The open waitpoints, without tokens.
    pub async fn waitpoints(&self, id: ExecutionId) -> Vec<PendingWaitpointInfo> {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).limit(1000).build();
        self.backend.list_pending_waitpoints(args).await.unwrap_or_else(|e| panic!("list: {e}")).waitpoints
    }

    /// The open waitpoints, with tokens issued anew.
    pub async fn reissued(&self, id: ExecutionId) -> Vec<IssuedWaitpoint> {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).include_tokens(true).limit(1000).build();
        let listed = self.backend.list_pending_waitpoints(args).await.unwrap_or_else(|e| panic!("list: {e}"));
        let issued =
            |info: PendingWaitpointInfo| IssuedWaitpoint { waitpoint_id: info.waitpoint_id, tokens: info.tokens };
        listed.waitpoints.into_iter().map(issued).collect()
    }

    // --- flows ---

    /// A RUNNING member, its fence, and its flow: the one of a hundred members that a cancellation of the flow reaches
    /// last, in a later call than its first (a call ends 64 members).
    pub async fn member_cancelled_last(&self) -> (FlowId, ExecutionId, Fence) {
        let flow_id = self.flow().await;
        let join = || Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
        let mut last = self.creation();
        last.execution_id = numbered(u128::MAX);
        last.flow = join();
        let last = self.create(last).await;
        let fence = self.claim_this(last).await.fence;
        for number in 1..100 {
            let mut args = self.creation();
            args.execution_id = numbered(number);
            args.flow = join();
            self.create(args).await;
        }
        (flow_id, last, fence)
    }

    /// Begins to cancel a flow of a hundred members; 36 of them must be left for later.
    pub async fn cancel_flow_of_a_hundred(&self, flow_id: FlowId) {
        let args = CancelFlowArgs::builder().flow_id(flow_id).reason("over").by("boss").build();
        match self.backend.cancel_flow(args).await {
            Ok(CancelFlowResult::CancellationScheduled { cancelled: 64, .. }) => {}
            other => panic!("cancel_flow: {other:?}"),
        }
    }
}
