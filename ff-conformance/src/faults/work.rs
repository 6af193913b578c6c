//! What the clients do: they submit, claim, work, suspend, signal, report and die.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // clients speak the whole contract
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{AttemptId, ExecutionId, FlowId, LeaseId, SignalId, SuspensionId, WaitpointId, WorkerInstanceId};
use ff_core::operation::Outcome;
use ff_core::time::{ManualClock, When};
use ff_core::token::WaitpointToken;
use uuid::Uuid;

use super::ledger::Ledger;
use crate::stage::{PARTITION, arrow, budget_id, dimension, human, lane, namespace, retries, spec, worker};

/// How long a lease lives, by the manual clock.
pub(super) const LEASE_MS: u64 = 2_000;
/// How long those who come back were away: longer than a lease, as the clock is turned.
const AWAY: Duration = Duration::from_millis(700);
/// The budget that every client reports to.
pub(super) const BUDGET: &str = "tokens";
/// Its dimension.
pub(super) const DIMENSION: &str = "used";
/// Of 100: how often a client goes on trying a call that got no answer.
const PATIENCE: u32 = 93;

/// What all clients of one campaign share.
pub(super) struct Crew {
    pub(super) ledger: Ledger,
    pub(super) over: AtomicBool,
    /// Suspended executions that somebody must signal.
    sleepers: Mutex<Vec<(ExecutionId, WaitpointId, WaitpointToken)>>,
    /// What the dead owned, since when: some come back long after.
    dead: Mutex<VecDeque<(Instant, ExecutionId, Fence)>>,
    /// Executions that were submitted.
    submitted: Mutex<Vec<ExecutionId>>,
}

impl Crew {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            over: AtomicBool::new(false),
            sleepers: Mutex::default(),
            dead: Mutex::default(),
            submitted: Mutex::default(),
        }
    }

    /// The sleepers that nobody has signalled yet.
    pub(super) fn take_sleepers(&self) -> Vec<(ExecutionId, WaitpointId, WaitpointToken)> {
        std::mem::take(&mut *self.sleepers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The clock goes on while clients work: leases of the dead run out, delays end.
    pub(super) async fn turn_clock(&self, clock: &ManualClock) {
        while !self.over.load(Ordering::SeqCst) {
            clock.advance(40);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One client.
pub(super) struct Client {
    pub(super) backend: Arc<dyn EngineBackend>,
    pub(super) crew: Arc<Crew>,
    pub(super) rng: Rng,
    pub(super) number: usize,
}

impl Client {
    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.u128(..))
    }

    async fn ask(&mut self, operation: impl Into<ff_core::operation::Operation>) -> Option<Outcome> {
        let crew = Arc::clone(&self.crew);
        crew.ledger.ask(&*self.backend, operation, PATIENCE, &mut self.rng).await
    }

    /// Works until the campaign is over.
    pub(super) async fn run(mut self) {
        while !self.crew.over.load(Ordering::SeqCst) {
            match self.rng.u32(0..100) {
                0..=19 => self.submit().await,
                20..=25 => self.submit_flow().await,
                26..=69 => self.claim().await,
                70..=83 => self.report().await,
                84..=92 => self.signal().await,
                93..=95 => self.cancel().await,
                96 => self.come_back().await,
                _ => {
                    let args = SweepArgs::builder().partition(PARTITION).build();
                    self.ask(args).await;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn submit(&mut self) {
        let execution_id = ExecutionId::from_parts(PARTITION, self.uuid());
        let payload: Vec<u8> = (0..self.rng.usize(0..200)).map(|_| self.rng.u8(..)).collect();
        let args = CreateExecutionArgs::builder()
            .execution_id(execution_id)
            .namespace(namespace())
            .lane_id(lane())
            .kind("job")
            .payload(Bytes::from(payload))
            .policy(Arc::new(retries(3, self.rng.u64(0..2) * 100)))
            .maybe_delay((self.rng.u32(0..10) == 0).then_some(When::After(300)))
            .build();
        if self.ask(args).await.is_some() {
            self.crew.submitted.lock().unwrap_or_else(PoisonError::into_inner).push(execution_id);
        }
    }

    /// A diamond: its sink waits for both middles.
    async fn submit_flow(&mut self) {
        let flow_id = FlowId::from_parts(PARTITION, self.uuid());
        let args = SubmitFlowArgs::builder()
            .flow_id(flow_id)
            .namespace(namespace())
            .flow_kind("diamond")
            .members(["top", "left", "right", "sink"].map(spec).to_vec())
            .edges(vec![arrow("top", "left"), arrow("top", "right"), arrow("left", "sink"), arrow("right", "sink")])
            .build();
        self.ask(args).await;
    }

    async fn claim(&mut self) {
        let (worker_id, _) = worker();
        let worker_instance_id =
            WorkerInstanceId::new(format!("worker-{}", self.number)).unwrap_or_else(|e| panic!("{e}"));
        let slots = (0..self.rng.usize(1..4))
            .map(|_| ClaimSlot {
                lease_id: LeaseId::from_uuid(Uuid::from_u128(self.rng.u128(..))),
                attempt_id: AttemptId::from_uuid(Uuid::from_u128(self.rng.u128(..))),
            })
            .collect();
        let args = ClaimNextArgs {
            partition: PARTITION,
            lane_id: lane(),
            worker_id,
            worker_instance_id,
            capabilities: ff_core::policy::Capabilities::none(),
            slots,
            lease_ttl_ms: LEASE_MS,
        };
        let Some(Outcome::ClaimNext(result)) = self.ask(args).await else { return };
        for claim in result.claimed {
            let claimed = claim.claimed().clone();
            self.work(&claimed).await;
        }
    }

    async fn work(&mut self, claimed: &ClaimedExecution) {
        let (execution_id, fence) = (claimed.execution_id, claimed.fence);
        // Frames are numbered by the lease, so that a resumed attempt goes on behind those of its first half.
        for n in 0..self.rng.u64(0..3) {
            let seq = fence.lease_epoch.get() * 10 + n + 1;
            let args = AppendFrameArgs::builder()
                .execution_id(execution_id)
                .fence(fence)
                .frame_type("log")
                .payload(Bytes::from(format!("{} {seq}", claimed.attempt_index.get())))
                .seq(seq)
                .build();
            self.ask(args).await;
        }
        if self.rng.u32(0..5) == 0 {
            self.ask(RenewLeaseArgs { execution_id, fence, lease_ttl_ms: LEASE_MS }).await;
        }
        match self.rng.u32(0..100) {
            0..=54 => self.complete(execution_id, fence).await,
            55..=67 => {
                let args = FailExecutionArgs::builder()
                    .execution_id(execution_id)
                    .actor(Actor::Worker(fence))
                    .reason("it broke")
                    .category("error")
                    .build();
                self.ask(args).await;
            }
            68..=79 => self.sleep(execution_id, fence).await,
            80..=86 => {
                let until = When::After(self.rng.u64(0..500));
                self.ask(DelayExecutionArgs { execution_id, actor: Actor::Worker(fence), until }).await;
            }
            // It dies with what it owns.
            _ => {
                let mut dead = self.crew.dead.lock().unwrap_or_else(PoisonError::into_inner);
                dead.push_back((Instant::now(), execution_id, fence));
            }
        }
    }

    /// One that was taken for dead finishes what it began, when its lease has run out.
    async fn come_back(&mut self) {
        let back = {
            let mut dead = self.crew.dead.lock().unwrap_or_else(PoisonError::into_inner);
            dead.pop_front_if(|(since, ..)| since.elapsed() > AWAY)
        };
        let Some((_, execution_id, fence)) = back else { return };
        self.complete(execution_id, fence).await;
    }

    async fn complete(&mut self, execution_id: ExecutionId, fence: Fence) {
        let result = format!("{} by {} under {}", execution_id, self.number, fence.lease_epoch.get());
        let args = CompleteExecutionArgs::builder()
            .execution_id(execution_id)
            .actor(Actor::Worker(fence))
            .result(Bytes::from(result))
            .build();
        self.ask(args).await;
    }

    async fn sleep(&mut self, execution_id: ExecutionId, fence: Fence) {
        let waitpoint_id = WaitpointId::from_uuid(self.uuid());
        let args = SuspendExecutionArgs::builder()
            .execution_id(execution_id)
            .fence(fence)
            .suspension_id(SuspensionId::from_uuid(self.uuid()))
            .waitpoints(vec![WaitpointBinding::Fresh { waitpoint_id, sources: Vec::new() }])
            .reason_code(SuspensionReason::WaitingForSignal)
            .resume_condition(ResumeCondition::any_signal())
            .timeout(SuspensionTimeout::Never)
            .build();
        if let Some(Outcome::SuspendExecution(SuspendExecutionResult::Suspended { waitpoints, .. })) =
            self.ask(args).await
        {
            let issued = waitpoints.iter().flat_map(|w| w.tokens.iter().map(|t| (w.waitpoint_id, t.token.clone())));
            let mut sleepers = self.crew.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            sleepers.extend(issued.map(|(waitpoint_id, token)| (execution_id, waitpoint_id, token)));
        }
    }

    async fn signal(&mut self) {
        let sleeper = {
            let mut sleepers = self.crew.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = sleepers.len();
            (count > 0).then(|| sleepers.swap_remove(self.rng.usize(0..count)))
        };
        let Some((execution_id, waitpoint_id, token)) = sleeper else { return };
        let signal_id = SignalId::from_uuid(self.uuid());
        self.ask(wake_up(execution_id, waitpoint_id, token, signal_id)).await;
    }

    async fn report(&mut self) {
        let args = ReportUsageArgs::builder()
            .budget_id(budget_id(BUDGET))
            .amounts(vec![(dimension(DIMENSION), self.rng.u64(1..1_000))])
            .dedup_key(self.uuid().to_string())
            .build();
        self.ask(args).await;
    }

    async fn cancel(&mut self) {
        let picked = {
            let submitted = self.crew.submitted.lock().unwrap_or_else(PoisonError::into_inner);
            if submitted.is_empty() { None } else { Some(submitted[self.rng.usize(0..submitted.len())]) }
        };
        let Some(execution_id) = picked else { return };
        let identity = format!("ops-{}", self.number);
        let actor = Actor::Operator { identity };
        self.ask(CancelExecutionArgs { execution_id, actor, reason: "enough".to_owned() }).await;
    }
}

/// The signal that wakes a sleeper.
pub(super) fn wake_up(
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    token: WaitpointToken,
    signal_id: SignalId,
) -> DeliverSignalArgs {
    DeliverSignalArgs::builder()
        .execution_id(execution_id)
        .waitpoint_id(waitpoint_id)
        .waitpoint_token(token)
        .signal_id(signal_id)
        .name("go")
        .source(human("ann"))
        .build()
}
