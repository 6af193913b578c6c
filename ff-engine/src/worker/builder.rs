//! Putting a worker together.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ff_core::bounds;
use ff_core::ids::{LaneId, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::handler::{Handler, handler};
use super::leases::Leases;
use super::report::Observer;
use super::run::{Core, Counters, WorkerReport};
use super::{AttemptReport, Context, TaskError};
use crate::admission::Admission;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::retries::millis;

/// A worker: handlers by kind, and the loop that feeds them. Made by [`Worker::builder`].
pub struct Worker {
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("instance", &self.core.instance).finish_non_exhaustive()
    }
}

impl Worker {
    /// Begins a worker of this engine.
    pub fn builder(engine: &Engine) -> WorkerBuilder {
        WorkerBuilder {
            engine: engine.clone(),
            name: "worker".into(),
            lanes: BTreeMap::new(),
            capabilities: Capabilities::none(),
            concurrency: 16,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            maintenance: true,
            observer: None,
            lane_gauges: None,
            handlers: BTreeMap::new(),
            mistake: None,
        }
    }

    /// Runs until `shutdown` is ready, then drains: claims nothing more, lets the handlers end within the
    /// [bound](WorkerBuilder::drain), and gives back what has not ended then. Leases are renewed until that is over.
    ///
    /// Dropping the future stops at once, as a crash would: leases run out, and others take the work over.
    ///
    /// # Errors
    /// A refusal of the claims themselves, such as a malformed capability, after draining. A store that is not reached
    /// is waited for.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<WorkerReport> {
        super::run::run(self, shutdown).await
    }

    /// Runs as long as `work` does, then drains, and answers what `work` answered: for programs and tests that wait for
    /// results of their own worker.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until).
    pub async fn run_while<F: Future>(self, work: F) -> Result<F::Output> {
        let mut output = None;
        self.run_until(async { output = Some(work.await) }).await?;
        output.ok_or_else(|| Error::Setup("the worker ended before what it was run for".into()))
    }
}

/// A worker on its way. Mistakes are reported by [`build`](Self::build).
#[must_use = "it does nothing before it is built and run"]
pub struct WorkerBuilder {
    engine: Engine,
    name: String,
    lanes: BTreeMap<LaneId, u32>,
    capabilities: Capabilities,
    concurrency: usize,
    lease: Duration,
    drain: Duration,
    grace: Duration,
    maintenance: bool,
    observer: Option<Observer>,
    lane_gauges: Option<Duration>,
    handlers: BTreeMap<String, Handler>,
    mistake: Option<Error>,
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<&String> = self.handlers.keys().collect();
        f.debug_struct("WorkerBuilder").field("name", &self.name).field("kinds", &kinds).finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    /// What this kind of worker is called; `worker`. Each built worker also gets an instance id of its own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// A lane to serve; without any, the engine's default. Several share the slots alike.
    pub fn lane(self, lane: impl AsRef<str>) -> Self {
        self.weighted_lane(lane, 1)
    }

    /// A lane to serve, with a weight of 1 to 1000: while all lanes have more work than this worker can do, each gets as
    /// much of it as its weight says. No lane waits for one that has nothing to do.
    pub fn weighted_lane(mut self, lane: impl AsRef<str>, weight: u32) -> Self {
        if !(1..=1000).contains(&weight) {
            self.wrong(Error::Setup(format!("a lane's weight lies between 1 and 1000, not at {weight}")));
        }
        match LaneId::new(lane) {
            Ok(lane) => {
                self.lanes.insert(lane, weight);
            }
            Err(error) => self.wrong(error.into()),
        }
        self
    }

    /// Calls this at the end of each attempt, with what the store has it ended as: where the handler's answer came too
    /// late, that is not what the handler answered. It should be quick.
    pub fn observe(mut self, observer: impl Fn(&AttemptReport) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// What it can do beyond the ordinary: it also gets work that requires these tokens.
    pub fn capabilities<S: Into<String>>(mut self, tokens: impl IntoIterator<Item = S>) -> Self {
        self.capabilities = tokens.into_iter().collect();
        self
    }

    /// How many handlers run at once; 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// How long a lease lives unless it is renewed, 100 ms to a day; 30 s. It is renewed at a third of this. When a
    /// worker dies, its work waits for the rest of it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long handlers may take to end once the worker shuts down; 30 s.
    pub fn drain(mut self, bound: Duration) -> Self {
        self.drain = bound;
        self
    }

    /// How long a handler may go on after it was told to stop; 10 s. Then it is dropped where it stands.
    pub fn grace(mut self, bound: Duration) -> Self {
        self.grace = bound;
        self
    }

    /// Sets the gauges `ff_lane_executions` and `ff_lane_oldest_seconds` of each of its lanes this often: one cheap read
    /// per lane, and a page per partition where something waits. One worker of a deployment is enough.
    pub fn lane_gauges(mut self, every: Duration) -> Self {
        self.lane_gauges = Some(every.max(Duration::from_millis(100)));
        self
    }

    /// Leaves the background work of the store to others.
    pub fn without_maintenance(mut self) -> Self {
        self.maintenance = false;
        self
    }

    /// Runs this function for executions of this kind. One that is claimed and has no handler is put back and held back
    /// for 5 s, so that a newer worker can take it while an older one is still around; for twice as long each time that
    /// this worker meets it again, up to 10 minutes.
    pub fn handler<T, O, F, Fut>(mut self, kind: impl Into<String>, function: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize,
        F: Fn(Context, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, TaskError>> + Send + 'static,
    {
        let kind = kind.into();
        if self.handlers.insert(kind.clone(), handler(function)).is_some() {
            self.wrong(Error::Setup(format!("two handlers for the kind {kind:?}")));
        }
        self
    }

    fn wrong(&mut self, error: Error) {
        self.mistake.get_or_insert(error);
    }

    /// The worker.
    ///
    /// # Errors
    /// The first mistake: a name that breaks its rule, a lease out of bounds, no handler, two for one kind.
    pub fn build(self) -> Result<Worker> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        bounds::lease_ttl(millis(self.lease)).map_err(ff_core::error::EngineError::from)?;
        bounds::worker_capabilities(&self.capabilities).map_err(ff_core::error::EngineError::from)?;
        if self.concurrency == 0 {
            return Err(Error::Setup("a worker runs at least one handler at once".into()));
        }
        if self.handlers.is_empty() {
            return Err(Error::Setup("a worker has at least one handler".into()));
        }
        let mut lanes: Vec<(LaneId, u32)> = self.lanes.into_iter().collect();
        if lanes.is_empty() {
            lanes.push((self.engine.default_lane().clone(), 1));
        }
        let worker_id = WorkerId::new(&self.name)?;
        // At most 128 bytes: a name that leaves no room for the rest is cut; it is ASCII.
        let instance = format!("{}/{}", self.name.get(..91).unwrap_or(&self.name), uuid::Uuid::now_v7());
        let instance = WorkerInstanceId::new(instance)?;
        let admission = Arc::new(Admission::new(
            self.engine.clone(),
            worker_id.clone(),
            instance.clone(),
            self.capabilities.clone(),
            self.lease,
        ));
        let core = Core {
            leases: Arc::new(Leases::new(self.engine.clone(), self.lease, Arc::clone(&admission))),
            admission,
            observer: self.observer,
            lane_gauges: self.lane_gauges,
            maintenance: self.maintenance,
            engine: self.engine,
            lanes,
            worker_id,
            instance,
            capabilities: self.capabilities,
            concurrency: self.concurrency,
            drain: self.drain,
            grace: self.grace,
            handlers: self.handlers,
            unhandled: Mutex::default(),
            shutdown: CancellationToken::new(),
            counters: Counters::default(),
        };
        Ok(Worker { core: Arc::new(core) })
    }
}
