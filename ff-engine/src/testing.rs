//! Tests of workflows: an empty store in memory, a clock that is turned by hand, and workers that run until there is
//! nothing more to do.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use ff_backend_memory::MemoryBackend;
use ff_core::contracts::{SignalEffect, SweepArgs};
use ff_core::state::{BlockReason, PublicState};
use ff_core::time::{Clock, ManualClock, TimestampMs};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineBuilder};
use crate::error::{Error, Result};
use crate::flow::{FlowHandle, FlowProgress};
use crate::handle::Handle;
use crate::repeat::call;
use crate::retries::millis;
use crate::worker::{Bench, WorkerBuilder};

/// What the clock of a test shows first: the first millisecond of 2026.
const BEGINNING: TimestampMs = TimestampMs::saturating(1_767_225_600_000);
/// How long handlers may take, in real time, before they count as waiting for the clock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns without an end: something always has more to do at the same instant.
const MAX_TURNS: u32 = 100_000;

/// An engine for tests: an empty store in memory whose time passes only when the test says so. It is an [`Engine`], by
/// `Deref`; made by [`Engine::in_memory`].
///
/// A week's delay takes milliseconds:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::time::Duration;
/// use ff_engine::{Context, Engine, TaskError, Worker};
///
/// // The workflow: greet, wait for a week, ask how it goes.
/// async fn onboard(ctx: Context, name: String) -> Result<String, TaskError> {
///     if ctx.resumed().is_none() {
///         ctx.frame("mail", &format!("welcome, {name}")).await?;
///         return Err(TaskError::delay(Duration::from_secs(7 * 86_400)));
///     }
///     Ok(format!("how is it going, {name}?"))
/// }
///
/// // Its test.
/// let test = Engine::in_memory().await?;
/// test.serve(Worker::builder(&test).handler("onboard", onboard))?;
/// let zoe = test.execution("onboard", "Zoe").submit().await?;
///
/// test.run_until_idle().await?;
/// test.assert_delayed(&zoe).await;
/// test.advance(Duration::from_secs(6 * 86_400)).await?;
/// test.assert_delayed(&zoe).await;
/// test.advance(Duration::from_secs(86_400)).await?;
/// test.assert_result(&zoe, "how is it going, Zoe?").await;
/// # Ok::<(), ff_engine::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestEngine {
    engine: Engine,
    clock: ManualClock,
    memory: MemoryBackend,
    patience: Duration,
    floor: Mutex<Floor>,
}

/// Where the work is done.
#[derive(Default)]
struct Floor {
    benches: Vec<Bench>,
    tasks: JoinSet<()>,
}

impl fmt::Debug for TestEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEngine").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Deref for TestEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Engine {
    /// An engine for tests.
    ///
    /// # Errors
    /// None that a test could meet.
    pub async fn in_memory() -> Result<TestEngine> {
        Self::builder().in_memory().await
    }
}

impl EngineBuilder {
    /// As [`Engine::in_memory`], with the namespace, lane and creator said here.
    ///
    /// # Errors
    /// A name that breaks its rule.
    pub async fn in_memory(self) -> Result<TestEngine> {
        let clock = ManualClock::at(BEGINNING);
        let memory = MemoryBackend::with_manual_clock(clock.clone());
        let engine = self.open(Arc::new(memory.clone())).await?;
        Ok(TestEngine { engine, clock, memory, patience: PATIENCE, floor: Mutex::default() })
    }
}

impl TestEngine {
    /// How long handlers may take, in real time, before those that still run count as waiting for the clock; 10 s. For
    /// tests of handlers that watch their [cancellation](crate::Context::cancellation).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The time that the store has.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    /// How much time has passed since this engine was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now().since(BEGINNING))
    }

    /// The clock, for what the steps below do not offer. Nothing happens at due instants that it is turned past before
    /// [`run_until_idle`](Self::run_until_idle).
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The store.
    #[must_use]
    pub fn memory(&self) -> &MemoryBackend {
        &self.memory
    }

    /// Lets this worker do the work from now on. It runs only inside the steps below, and stands for as long as this
    /// engine.
    ///
    /// # Errors
    /// As [`WorkerBuilder::build`].
    pub fn serve(&self, worker: WorkerBuilder) -> Result<()> {
        let bench = Bench::new(worker.build()?);
        self.floor
            .try_lock()
            .map_err(|_| Error::Setup("a worker is added while the others work".into()))?
            .benches
            .push(bench);
        Ok(())
    }

    // --- time ---

    /// Fires what is due and runs what is ready, until nothing is left to do at this instant. Answers how many attempts
    /// were begun.
    ///
    /// # Errors
    /// [`Error::Setup`] when it never ends, and the backend's errors.
    pub async fn run_until_idle(&self) -> Result<u64> {
        let mut floor = self.floor.lock().await;
        self.settle(&mut floor).await
    }

    /// Lets this much time pass: the clock stops at each due instant on its way, and what is ready then is done.
    ///
    /// # Errors
    /// As [`run_until_idle`](Self::run_until_idle).
    pub async fn advance(&self, by: Duration) -> Result<()> {
        self.advance_to(self.now().after(millis(by))).await
    }

    /// Lets time pass until then; nothing happens when that is over.
    ///
    /// # Errors
    /// As [`run_until_idle`](Self::run_until_idle).
    pub async fn advance_to(&self, then: TimestampMs) -> Result<()> {
        let mut floor = self.floor.lock().await;
        self.settle(&mut floor).await?;
        while self.now() < then {
            let due = self.sweep().await?.1.filter(|due| *due <= then);
            self.turn_to(&mut floor, due.unwrap_or(then)).await?;
        }
        self.settle(&mut floor).await.map(drop)
    }

    /// Lets time pass until the next due instant, and does what is due then; `false` if nothing is ever due.
    ///
    /// # Errors
    /// As [`run_until_idle`](Self::run_until_idle).
    pub async fn advance_to_next(&self) -> Result<bool> {
        let mut floor = self.floor.lock().await;
        self.settle(&mut floor).await?;
        let Some(due) = self.sweep().await?.1 else { return Ok(false) };
        self.turn_to(&mut floor, due).await?;
        Ok(true)
    }

    /// Lets as much time pass as the execution needs to end.
    ///
    /// # Errors
    /// [`Error::Setup`] when it waits for something that no time brings; the message [explains](Engine::explain) it. The
    /// backend's errors.
    pub async fn finish(&self, handle: &Handle) -> Result<PublicState> {
        loop {
            self.run_until_idle().await?;
            let state = handle.describe().await?.public_state;
            if state.is_terminal() {
                return Ok(state);
            }
            // That comes again for ever: workers are added between the steps.
            let unhandled =
                handle.describe().await?.blocks.iter().any(|b| b.reason == BlockReason::WaitingForCapableWorker);
            if unhandled || !self.advance_to_next().await? {
                return Err(Error::Setup(format!("{} does not end: {}", handle.id(), handle.explain().await?)));
            }
        }
    }

    /// Lets as much time pass as the flow needs to end.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn finish_flow(&self, flow: &FlowHandle) -> Result<FlowProgress> {
        loop {
            self.run_until_idle().await?;
            let progress = flow.progress().await?;
            if progress.is_over() {
                return Ok(progress);
            }
            if !self.advance_to_next().await? {
                let open = flow.list().await?.into_iter().find(|member| !member.public_state.is_terminal());
                let why = match open {
                    Some(member) => self.explain(member.execution_id).await?.to_string(),
                    None => "no task of it is open".into(),
                };
                return Err(Error::Setup(format!("{} does not end: {why}", flow.id())));
            }
        }
    }

    /// Sends a signal to the execution's first open waitpoint, as whoever holds its token would, and does what follows.
    ///
    /// # Errors
    /// [`Error::Missing`] when it has none, and those of [`SignalBuilder::send`](crate::SignalBuilder::send).
    pub async fn answer<T: Serialize + ?Sized>(
        &self,
        handle: &Handle,
        name: impl Into<String>,
        payload: &T,
    ) -> Result<SignalEffect> {
        let waitpoints = self.waitpoints(handle.id()).await?;
        let open = waitpoints.iter().find_map(|w| Some((w.waitpoint_id, w.tokens.first()?)));
        let Some((waitpoint_id, issued)) = open else {
            return Err(Error::Missing(format!("{} has no open waitpoint", handle.id())));
        };
        let mut signal = self.signal(handle.id(), waitpoint_id, &issued.token, name).payload(payload);
        if let Some(source) = &issued.source {
            signal = signal.source(&source.source_type, &source.source_identity);
        }
        let effect = signal.send().await?;
        self.run_until_idle().await?;
        Ok(effect)
    }

    // --- asserting ---

    /// # Panics
    /// Unless the execution is in this state; the message explains where it is.
    pub async fn assert_state(&self, handle: &Handle, expected: PublicState) {
        let explanation = handle.explain().await.expect("the execution exists");
        assert_eq!(explanation.state, expected, "{explanation}");
    }

    /// # Panics
    /// Unless the execution waits for its time.
    pub async fn assert_delayed(&self, handle: &Handle) {
        self.assert_state(handle, PublicState::Delayed).await;
    }

    /// # Panics
    /// Unless the execution waits for signals or an operator.
    pub async fn assert_suspended(&self, handle: &Handle) {
        self.assert_state(handle, PublicState::Suspended).await;
    }

    /// # Panics
    /// Unless the execution has ended with success.
    pub async fn assert_completed(&self, handle: &Handle) {
        self.assert_state(handle, PublicState::Completed).await;
    }

    /// # Panics
    /// Unless the execution has failed, with this category.
    pub async fn assert_failed(&self, handle: &Handle, category: &str) {
        self.assert_state(handle, PublicState::Failed).await;
        let end = handle.describe().await.expect("the execution exists");
        assert_eq!(end.failure_category.as_deref(), Some(category), "{:?}", end.failure_reason);
    }

    /// # Panics
    /// Unless the execution has ended with success and this result; the two are compared as JSON.
    pub async fn assert_result<T: Serialize + ?Sized>(&self, handle: &Handle, expected: &T) {
        self.assert_completed(handle).await;
        let result: serde_json::Value = handle.result().await.expect("a result in JSON");
        assert_eq!(result, serde_json::to_value(expected).expect("it has a form in JSON"));
    }

    /// Checks the rules that hold of every state of the store: nothing is stranded, queues and timers are what the
    /// records imply.
    ///
    /// # Panics
    /// When one is broken: a mistake of the store, not of the test.
    pub fn assert_sound(&self) {
        let findings = self.memory.model().audit();
        assert!(findings.is_empty(), "{findings:#?}");
    }

    // --- inside ---

    /// Fires what is due; how much that was, and what is due next.
    async fn sweep(&self) -> Result<(u64, Option<TimestampMs>)> {
        let (mut done, mut next) = (0, None);
        for partition in self.partitions() {
            loop {
                let report = call!(self.engine, sweep(SweepArgs::builder().partition(partition).limit(1000).build()))?;
                done += report.total();
                if !report.more || report.total() == 0 {
                    next = [next, report.next_due_at].into_iter().flatten().min();
                    break;
                }
            }
        }
        Ok((done, next))
    }

    /// Turns the clock, while leases that are in use are renewed on its way, and does what is due then.
    async fn turn_to(&self, floor: &mut Floor, then: TimestampMs) -> Result<()> {
        while self.now() < then {
            let third = floor.benches.iter().filter_map(Bench::third_of_lease_in_use).min();
            let step = third.map_or(then, |third| then.min(self.now().after(third.max(1))));
            self.clock.set(step);
            for bench in &floor.benches {
                bench.renew().await;
            }
        }
        // The timer of a lease that was renewed on the way is due no more, and nobody need be asked.
        if self.sweep().await?.0 > 0 { self.settle(floor).await.map(drop) } else { Ok(()) }
    }

    async fn settle(&self, floor: &mut Floor) -> Result<u64> {
        let never = CancellationToken::new();
        let mut begun = 0;
        for _ in 0..MAX_TURNS {
            let (mut busy, _) = self.sweep().await?;
            for bench in &mut floor.benches {
                let (claimed, more) = bench.claim(&mut floor.tasks, &never).await?;
                begun += claimed;
                busy += claimed + u64::from(more);
            }
            let patience = Instant::now() + self.patience;
            while !floor.tasks.is_empty() {
                match tokio::time::timeout_at(patience, floor.tasks.join_next()).await {
                    Ok(Some(Err(panicked))) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
                    Ok(_) => busy += 1,
                    // They wait for the clock.
                    Err(_) => break,
                }
            }
            for bench in &floor.benches {
                bench.released().await;
            }
            if busy == 0 {
                return Ok(begun);
            }
        }
        Err(Error::Setup("there is always more to do at the same instant".into()))
    }
}
