//! What a handler sees of its attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ff_core::contracts::{
    AppendFrameArgs, ClaimedExecution, CreatePendingWaitpointArgs, CreatePendingWaitpointResult, Fence, FlowInput,
    GetResultArgs, MatchedSignal, ReportMode, ReportUsageResult, ResultSelector, ResumeCause, ResumeInfo,
    ResumeTrigger, SuspendExecutionArgs, SuspendExecutionResult, SuspensionTimeout, UpdateProgressArgs,
    WaitpointBinding,
};
use ff_core::ids::{AttemptIndex, ExecutionId, SuspensionId, WaitpointId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::ChildBuilder;
use super::leases::{Leases, Stop, StopReason};
use super::suspend::{Paused, Suspend, Suspended, Waitpoint};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::payload::{JSON, decode, encode};
use crate::repeat::call;
use crate::retries::millis;

/// Frames per lease that carry a number, so that a repeated one is stored once. A power of two.
const FRAMES_PER_LEASE: u64 = 1 << 20;

/// What a handler sees of its attempt. Clones share it.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
}

/// What the call of a handler follows.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// Why the attempt goes on; none at its start.
    pub(super) cause: Option<ResumeCause>,
    /// Incoming edges that can no longer be satisfied.
    pub(super) failed_children: u32,
}

struct Shared {
    engine: Engine,
    claimed: ClaimedExecution,
    resumed: Resumed,
    stop: Stop,
    shutdown: CancellationToken,
    leases: Arc<Leases>,
    paused: AtomicBool,
    /// Usage reports made under this lease: each has a key of its own.
    reports: AtomicU64,
    /// Frames written under this lease; held while one is written, so that their numbers arrive in order.
    frames: tokio::sync::Mutex<u64>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("execution_id", &self.execution_id())
            .field("attempt_index", &self.attempt_index())
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(
        engine: Engine,
        claimed: ClaimedExecution,
        resumed: Resumed,
        stop: Stop,
        shutdown: CancellationToken,
        leases: Arc<Leases>,
    ) -> Self {
        let (paused, reports) = (AtomicBool::new(false), AtomicU64::new(0));
        let frames = tokio::sync::Mutex::new(0);
        Self { shared: Arc::new(Shared { engine, claimed, resumed, stop, shutdown, leases, paused, reports, frames }) }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.shared.paused.load(Ordering::SeqCst)
    }

    /// The engine, to submit further work or to look at other executions.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Everything that the claim told: kind, lane, priority, tags, run, retries, deadlines.
    #[must_use]
    pub fn claimed(&self) -> &ClaimedExecution {
        &self.shared.claimed
    }

    /// The execution.
    #[must_use]
    pub fn execution_id(&self) -> ExecutionId {
        self.shared.claimed.execution_id
    }

    /// The attempt: 0 for the first.
    #[must_use]
    pub fn attempt_index(&self) -> AttemptIndex {
        self.shared.claimed.attempt_index
    }

    /// The proof that this attempt still owns the execution, for stores that can check it: the epoch only ever rises.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.shared.claimed.fence
    }

    /// Why the attempt goes on, if it was paused; none at its start.
    #[must_use]
    pub fn resumed(&self) -> Option<&ResumeCause> {
        self.shared.resumed.cause.as_ref()
    }

    /// What ended the suspension that this call follows, if it follows one.
    #[must_use]
    pub fn resume_info(&self) -> Option<&ResumeInfo> {
        match self.resumed() {
            Some(ResumeCause::Suspension(info)) => Some(info),
            _ => None,
        }
    }

    /// Whether that end was its timeout, with the behaviour `AutoResume`.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.resume_info().is_some_and(|info| info.trigger == ResumeTrigger::Timeout)
    }

    /// What the first signal of this name carried that contributed to that end; none if there is no such signal.
    ///
    /// # Errors
    /// [`Error::Decode`] when that is no `T`.
    pub fn answer<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let signal = self.signals().iter().find(|s| s.name == name && s.waitpoint_id.is_some());
        let read =
            |s: &MatchedSignal| decode(&format!("the signal {name:?}"), s.payload.as_ref(), s.encoding.as_deref());
        signal.map(read).transpose()
    }

    /// The first signals that contributed to that end, at most 16; after a timeout the engine's own is among them.
    #[must_use]
    pub fn signals(&self) -> &[MatchedSignal] {
        self.resume_info().map_or(&[], |info| &info.matched.first)
    }

    /// What the suspension [remembered](Suspend::remember).
    ///
    /// # Errors
    /// [`Error::Missing`] without a suspension that remembered something, [`Error::Decode`] when it is no `T`.
    pub fn remembered<T: DeserializeOwned>(&self) -> Result<T> {
        let bytes = self.resume_info().and_then(|info| info.continuation.as_ref());
        let bytes = bytes.ok_or_else(|| Error::Missing("no suspension remembered anything".into()))?;
        decode("what the suspension remembered", Some(bytes), None)
    }

    // --- stopping ---

    /// Cancelled when what the handler does is done for nobody: the execution was cancelled or has ended, its time is
    /// over, or the lease is lost. Handlers that run long should watch it; one that does not return is left behind.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.shared.stop.token().clone()
    }

    /// Ready when the handler should stop.
    pub async fn cancelled(&self) -> StopReason {
        self.shared.stop.token().cancelled().await;
        self.shared.stop.reason().unwrap_or(StopReason::Ended)
    }

    /// Why the handler should stop, if it should.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.shared.stop.reason()
    }

    /// Cancelled when the worker begins to shut down: there is still time, up to its bound, to end well or to
    /// [pause](crate::TaskError::delay).
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shared.shutdown.clone()
    }

    // --- data ---

    /// The upstream results that this task receives by reference.
    #[must_use]
    pub fn inputs(&self) -> &[FlowInput] {
        &self.shared.claimed.inputs
    }

    /// Fetches the upstream result that was passed under this name: that of the very run that satisfied the edge.
    ///
    /// # Errors
    /// [`Error::Missing`] when no edge passes it or that run left no result, [`Error::Decode`] when it is no `T`, and
    /// the backend's errors.
    pub async fn input<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let input = self.inputs().iter().find(|i| i.name.as_str() == name);
        let input = input.ok_or_else(|| Error::Missing(format!("no edge passes an input {name:?}")))?;
        if input.size_bytes.is_none() {
            return Err(Error::Missing(format!("the input {name:?} has no value: its task left no result")));
        }
        let args = GetResultArgs::builder()
            .execution_id(input.upstream_execution_id)
            .of(ResultSelector::Run(input.upstream_run))
            .build();
        let result = call!(self.shared.engine, get_result(args))?;
        decode(&format!("the input {name:?}"), result.result.as_ref(), result.result_encoding.as_deref())
    }

    /// As [`input`](Self::input), but none when that task left no result, as after a failure.
    ///
    /// # Errors
    /// As [`input`](Self::input).
    pub async fn optional_input<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.inputs().iter().find(|i| i.name.as_str() == name) {
            Some(input) if input.size_bytes.is_none() => Ok(None),
            _ => self.input(name).await.map(Some),
        }
    }

    // --- telling ---

    /// Says how far it is: per cent, at most 100.
    ///
    /// # Errors
    /// A lease code when the attempt no longer owns the execution, and the backend's errors.
    pub async fn progress(&self, pct: u8, message: impl Into<String>) -> Result<()> {
        let args = UpdateProgressArgs::builder()
            .execution_id(self.execution_id())
            .fence(self.fence())
            .pct(pct)
            .message(message)
            .build();
        call!(self.shared.engine, update_progress(args)).map(drop).map_err(Error::from)
    }

    /// Appends a frame to the attempt's stream, as JSON, at most 64 KiB.
    ///
    /// # Errors
    /// A lease code when the attempt no longer owns the execution, `payload_too_large`, and the backend's errors.
    pub async fn frame<T: Serialize + ?Sized>(&self, frame_type: impl Into<String>, payload: &T) -> Result<()> {
        let payload = encode("the frame", payload)?;
        let mut written = self.shared.frames.lock().await;
        *written += 1;
        // Rises over the leases of an attempt, because the epoch does.
        let base = self.fence().lease_epoch.get().checked_mul(FRAMES_PER_LEASE);
        let seq = base.filter(|_| *written < FRAMES_PER_LEASE).map(|base| base + *written);
        let args = AppendFrameArgs::builder()
            .execution_id(self.execution_id())
            .fence(self.fence())
            .frame_type(frame_type)
            .payload(payload)
            .encoding(JSON)
            .maybe_seq(seq.filter(|seq| *seq <= ff_core::time::MAX_SAFE_INTEGER))
            .build();
        call!(self.shared.engine, append_frame(args)).map(drop).map_err(Error::from)
    }

    /// Adds usage of this attempt to a budget. A repeated call after a lost answer counts once. What the answer means is
    /// for the handler to decide: a [hard breach](ReportUsageResult::HardBreach) stops later claims, not this attempt.
    ///
    /// # Errors
    /// `budget_not_found`, and the backend's errors.
    pub async fn report_usage(&self, budget: &str, dimension: &str, amount: u64) -> Result<ReportUsageResult> {
        let n = self.shared.reports.fetch_add(1, Ordering::SeqCst);
        let epoch = self.fence().lease_epoch;
        let key = format!("{}:{}:{epoch}:{n}", self.execution_id(), self.attempt_index());
        self.shared.engine.budget(budget)?.report(dimension, amount, Some(key), ReportMode::Record).await
    }

    // --- children ---

    /// Begins a child of this task: a further task of its flow, which must have been [left open](crate::FlowBuilder::open).
    /// The name is unique among its children. Return [`TaskError::wait_for_children`](crate::TaskError::wait_for_children)
    /// to be called again when all have ended; [`children_done`](Self::children_done) tells the two calls apart.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ff_engine::{Context, Engine, TaskError, Worker};
    ///
    /// async fn total(ctx: Context, words: Vec<String>) -> Result<usize, TaskError> {
    ///     if !ctx.children_done() {
    ///         for (n, word) in words.iter().enumerate() {
    ///             ctx.child(format!("word-{n}"), "length", word).required().spawn().await?;
    ///         }
    ///         return Err(TaskError::wait_for_children());
    ///     }
    ///     let mut total = 0;
    ///     for n in 0..words.len() {
    ///         total += ctx.input::<usize>(&format!("word-{n}")).await?;
    ///     }
    ///     Ok(total)
    /// }
    ///
    /// let test = Engine::in_memory().await?;
    /// let worker = Worker::builder(&test)
    ///     .handler("total", total)
    ///     .handler("length", |_: Context, word: String| async move { Ok::<_, TaskError>(word.len()) });
    /// test.serve(worker)?;
    /// let mut flow = test.flow("words").open();
    /// flow.task("total", &["one", "three"])?;
    /// let flow = flow.submit().await?;
    /// test.run_until_idle().await?;
    /// test.assert_result(&flow.member("total").expect("named"), &8).await;
    /// flow.seal().await?;
    /// # Ok::<(), ff_engine::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn child<T: Serialize + ?Sized>(
        &self,
        name: impl Into<String>,
        kind: impl Into<String>,
        input: &T,
    ) -> ChildBuilder {
        ChildBuilder::new(self.clone(), name.into(), kind.into(), encode("the child's input", input))
    }

    /// Whether this call follows a wait for children, or any other pause: at the first call of an attempt it does not.
    #[must_use]
    pub fn children_done(&self) -> bool {
        matches!(self.resumed(), Some(ResumeCause::ChildrenDone { .. } | ResumeCause::DelayOver))
    }

    /// How many of the edges that this task waited for can no longer be satisfied: children that were
    /// [required](ChildBuilder::required) and did not succeed.
    #[must_use]
    pub fn failed_children(&self) -> u32 {
        self.shared.resumed.failed_children
    }

    // --- pausing ---

    /// Makes a waitpoint ahead of a [suspension](Self::suspend): signals that arrive before it are kept for
    /// `expires_in`, at most a day.
    ///
    /// # Errors
    /// A lease code when the attempt no longer owns the execution, `waitpoint_limit_exceeded` for a 17th at a time, and
    /// the backend's errors.
    pub async fn waitpoint(&self, expires_in: Duration) -> Result<Waitpoint> {
        let args = CreatePendingWaitpointArgs::builder()
            .execution_id(self.execution_id())
            .fence(self.fence())
            .waitpoint_id(WaitpointId::new())
            .expires_in_ms(millis(expires_in))
            .build();
        let (CreatePendingWaitpointResult::Created { waitpoint_id, tokens, .. }
        | CreatePendingWaitpointResult::AlreadyExists { waitpoint_id, tokens, .. }) =
            call!(self.shared.engine, create_pending_waitpoint(args))?;
        Ok(Waitpoint { id: waitpoint_id, tokens })
    }

    /// Pauses the attempt now. The handler then hands out the tokens and returns `Err(paused.into())`; it is called again
    /// when the condition holds, with what arrived in [`signals`](Self::signals).
    ///
    /// # Errors
    /// `invalid_resume_condition`, a lease code when the attempt no longer owns the execution, and the backend's errors.
    pub async fn suspend(&self, suspend: Suspend) -> Result<Suspended> {
        if let Some(mistake) = suspend.mistake {
            return Err(mistake);
        }
        let mut waitpoints = suspend.waitpoints;
        let after = match suspend.timeout {
            SuspensionTimeout::After { after_ms, .. } => Some(after_ms),
            _ => None,
        };
        let root_only = matches!(
            suspend.condition.root,
            ff_core::condition::Condition::OperatorOnly {} | ff_core::condition::Condition::TimeoutOnly {}
        );
        if waitpoints.is_empty() && !root_only {
            waitpoints.push(WaitpointBinding::fresh(WaitpointId::new()));
        }
        let args = SuspendExecutionArgs::builder()
            .execution_id(self.execution_id())
            .fence(self.fence())
            .suspension_id(SuspensionId::new())
            .waitpoints(waitpoints)
            .reason_code(suspend.reason)
            .maybe_detail(suspend.detail)
            .resume_condition(suspend.condition)
            .resume_policy(suspend.policy)
            .timeout(suspend.timeout)
            .maybe_continuation(suspend.continuation)
            .build();
        // From here on a refused renewal is this pause, and no reason to stop.
        let lease_id = self.fence().lease_id;
        self.shared.leases.ending(lease_id, true);
        let suspended = call!(self.shared.engine, suspend_execution(args));
        if !matches!(suspended, Ok(SuspendExecutionResult::Suspended { .. })) {
            self.shared.leases.ending(lease_id, false);
        }
        match suspended? {
            SuspendExecutionResult::Suspended { suspension_id, waitpoints, .. } => {
                if let Some(ms) = after {
                    self.shared.engine.agenda().armed_after(self.execution_id().partition(), ms);
                }
                self.shared.paused.store(true, Ordering::SeqCst);
                self.shared.leases.let_go(self.fence().lease_id);
                let waitpoints = waitpoints.into_iter().map(Waitpoint::from).collect();
                Ok(Suspended::Paused(Paused { suspension_id, waitpoints }))
            }
            SuspendExecutionResult::AlreadySatisfied { matched, .. } => Ok(Suspended::AlreadySatisfied(matched)),
        }
    }
}
