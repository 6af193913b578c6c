//! Where a lie is told: around the in-memory backend, whose records it may read and alter.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_backend_memory::model::Execution;
use ff_core::contracts::{Fence, ListPendingWaitpointsArgs, ListPendingWaitpointsResult, SignalSource};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, FlowId, WaitpointId};
use ff_core::layer::Layer;
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::records::{EdgeRecord, FlowRecord, GrantRecord, MemberRecord, Progress};
use ff_core::refusal::Code;
use ff_core::time::{Clock, ManualClock, TimestampMs};
use ff_core::token::{WaitpointSecret, WaitpointToken};
use futures::FutureExt;

/// What an operation answers.
pub(crate) type Answer = Result<Outcome, EngineError>;

/// How a bug tells its lie, for the operations that it has.
#[derive(Clone, Copy)]
pub(crate) enum Lie {
    /// It makes the call itself, or others instead.
    Call(fn(&Scene, Operation) -> Answer),
    /// It changes what is asked.
    Asks(fn(&Scene, Operation) -> Operation),
    /// It changes the answer, or the state behind it.
    Tells(fn(&Scene, &Operation, Answer) -> Answer),
}

/// One seeded bug.
pub(crate) struct Bug {
    /// Its name.
    pub(crate) name: &'static str,
    /// What happened in the real world.
    pub(crate) story: &'static str,
    /// The case whose sentence it breaks, and which must convict it: the beginning of its name.
    pub(crate) by: &'static str,
    /// The operations that it lies in.
    pub(crate) operations: &'static [OpName],
    /// How.
    pub(crate) lie: Lie,
}

/// What lies remember.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) executions: BTreeSet<ExecutionId>,
    pub(crate) calls: BTreeMap<String, Operation>,
    pub(crate) answers: BTreeMap<String, Outcome>,
    pub(crate) instants: BTreeMap<ExecutionId, TimestampMs>,
    pub(crate) progress: BTreeMap<ExecutionId, Progress>,
    pub(crate) secrets: BTreeMap<String, WaitpointSecret>,
    pub(crate) tokens: BTreeSet<WaitpointToken>,
}

/// A backend under a lie.
pub(crate) struct Scene {
    pub(crate) backend: MemoryBackend,
    pub(crate) clock: ManualClock,
    kept: Mutex<Kept>,
}

impl Scene {
    pub(crate) fn new(backend: MemoryBackend, clock: ManualClock) -> Self {
        Self { backend, clock, kept: Mutex::default() }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call as it should be.
    pub(crate) fn call(&self, operation: impl Into<Operation>) -> Answer {
        let operation = operation.into();
        let waits = "no operation in memory waits, but tail_frames, which no lie calls";
        dispatch(&self.backend, operation).now_or_never().expect(waits)
    }

    /// What a call would answer. Nothing of it is done.
    pub(crate) fn pretend(&self, operation: &Operation) -> Answer {
        self.backend.model().apply(self.now(), operation)
    }

    pub(crate) fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    /// Makes a call under another clock.
    pub(crate) fn call_at(&self, at: TimestampMs, operation: impl Into<Operation>) -> Answer {
        let now = self.now();
        self.clock.set(at);
        let answer = self.call(operation);
        self.clock.set(now);
        answer
    }

    /// Makes a call one millisecond too early, if now is the instant that decides.
    pub(crate) fn call_late(&self, decisive: Option<TimestampMs>, operation: impl Into<Operation>) -> Answer {
        let now = self.now();
        if decisive == Some(now) { self.call_at(before(now), operation) } else { self.call(operation) }
    }

    pub(crate) fn execution(&self, id: &ExecutionId) -> Option<Execution> {
        self.backend.copy_of(id)
    }

    pub(crate) fn alter(&self, id: &ExecutionId, change: impl FnOnce(&mut Execution)) {
        self.backend.alter(id, change);
    }

    /// What the present owner would show.
    pub(crate) fn fence(&self, id: &ExecutionId) -> Option<Fence> {
        let x = self.execution(id)?;
        let lease = x.record.lease.as_ref()?;
        let attempt_id = x.attempt.as_ref()?.attempt_id;
        Some(Fence { lease_id: lease.lease_id, lease_epoch: x.record.lease_epoch, attempt_id })
    }

    /// A lease that has run out, and of which no timer knows yet, has a moment left.
    pub(crate) fn revive(&self, id: &ExecutionId) {
        let now = self.now();
        self.alter(id, |x| {
            if let Some(lease) = x.record.lease.as_mut().filter(|lease| lease.expires_at <= now) {
                lease.expires_at = now.after(1);
            }
        });
    }

    /// The grant of an execution before a call is its grant after it.
    pub(crate) fn keeping_grant(&self, id: &ExecutionId, operation: Operation) -> Answer {
        let grant: Option<GrantRecord> = self.execution(id).and_then(|x| x.record.grant);
        let answer = self.call(operation);
        if answer.is_ok() && grant.is_some() {
            self.alter(id, |x| x.record.grant = grant);
        }
        answer
    }

    pub(crate) fn flow(&self, id: &FlowId) -> Option<FlowRecord> {
        let model = self.backend.model();
        let partition = model.partitions().find(|p| p.number() == id.partition())?;
        partition.flow(id.uuid()).cloned()
    }

    pub(crate) fn member(&self, id: &ExecutionId) -> Option<MemberRecord> {
        let x = self.execution(id)?;
        let model = self.backend.model();
        let partition = model.partitions().find(|p| p.number() == id.partition())?;
        partition.member(&x).cloned()
    }

    /// The edges that leave a member.
    pub(crate) fn outgoing(&self, id: &ExecutionId) -> Vec<EdgeRecord> {
        let Some(flow) = self.execution(id).and_then(|x| x.record.flow_id) else { return Vec::new() };
        let model = self.backend.model();
        let Some(partition) = model.partitions().find(|p| p.number() == id.partition()) else { return Vec::new() };
        partition.graph(flow.uuid()).map(|g| g.outgoing_after(id.uuid(), 0).cloned().collect()).unwrap_or_default()
    }

    /// Everything in a partition.
    pub(crate) fn executions(&self, partition: u16) -> Vec<Execution> {
        let model = self.backend.model();
        model.partitions().filter(|p| p.number() == partition).flat_map(|p| p.executions().cloned()).collect()
    }

    /// Good tokens of an execution's open waitpoints.
    pub(crate) fn good_tokens(
        &self,
        execution_id: ExecutionId,
    ) -> Vec<(WaitpointId, Option<SignalSource>, WaitpointToken)> {
        let args =
            ListPendingWaitpointsArgs::builder().execution_id(execution_id).include_tokens(true).limit(1000).build();
        let Ok(Outcome::ListPendingWaitpoints(ListPendingWaitpointsResult { waitpoints, .. })) = self.call(args) else {
            return Vec::new();
        };
        let tokens = waitpoints.into_iter().flat_map(|w| {
            let id = w.waitpoint_id;
            w.tokens.into_iter().map(move |t| (id, t.source, t.token))
        });
        tokens.collect()
    }
}

/// One millisecond earlier.
pub(crate) fn before(at: TimestampMs) -> TimestampMs {
    TimestampMs::saturating(at.as_millis().saturating_sub(1))
}

/// Whether an answer is this refusal.
pub(crate) fn refused(answer: &Answer, code: Code) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == Some(code))
}

/// A lie as a layer.
pub(crate) struct Liar {
    pub(crate) bug: &'static Bug,
    pub(crate) scene: Scene,
    /// Set if telling the lie panicked: what a trial says then is no conviction.
    pub(crate) panicked: Arc<AtomicBool>,
}

impl Liar {
    fn tell<T>(&self, lie: impl FnOnce() -> T) -> T {
        std::panic::catch_unwind(AssertUnwindSafe(lie)).unwrap_or_else(|panic| {
            self.panicked.store(true, Ordering::SeqCst);
            std::panic::resume_unwind(panic)
        })
    }
}

#[async_trait]
impl Layer for Liar {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Answer {
        if !self.bug.operations.contains(&operation.name()) {
            return dispatch(inner, operation).await;
        }
        match self.bug.lie {
            Lie::Call(call) => self.tell(|| call(&self.scene, operation)),
            Lie::Asks(change) => dispatch(inner, self.tell(|| change(&self.scene, operation))).await,
            Lie::Tells(change) => {
                let answer = dispatch(inner, operation.clone()).await;
                self.tell(|| change(&self.scene, &operation, answer))
            }
        }
    }
}
