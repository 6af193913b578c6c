//! The engine: an open store, and what this process calls itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ff_core::contracts::{
    DeliverSignalResult, ExecutionSummary, ListExecutionsArgs, ListPendingWaitpointsArgs, PendingWaitpointInfo,
};
use ff_core::engine_backend::EngineBackend;
#[cfg(feature = "valkey")]
use ff_core::error::Applied;
use ff_core::error::EngineError;
use ff_core::ids::{BudgetId, ExecutionId, FlowId, LaneId, Namespace, QuotaPolicyId};
use ff_core::layer::Layered;
use ff_core::policy::Capabilities;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::agenda::Agenda;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::execution::ExecutionBuilder;
use crate::flow::{FlowBuilder, FlowHandle};
use crate::handle::Handle;
use crate::health::{EngineHealth, MaintenanceHealth};
use crate::maintenance::{Maintenance, Swept};
use crate::observe::Observe;
use crate::quota::Quota;
use crate::repeat::call;
use crate::signal::SignalBuilder;
use crate::{keys, url};

/// An open store. Clones share it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use ff_engine::Engine;
///
/// let engine = Engine::connect("memory:").await?;
/// let handle = engine.execution("greet", &"world").submit().await?;
/// assert_eq!(handle.describe().await?.kind, "greet");
/// # Ok::<(), ff_engine::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn EngineBackend>,
    namespace: Namespace,
    lane: LaneId,
    creator: Option<String>,
    /// More work is ready than the worker that saw it can take.
    more_work: Notify,
    /// Something was ended from here, so its worker should look at its leases now.
    ended: Notify,
    agenda: Agenda,
    maintained: Mutex<MaintenanceHealth>,
    /// The workers that run in this process: what they serve and offer.
    workers: Mutex<BTreeMap<u64, Serving>>,
    next_worker: AtomicU64,
}

/// What a running worker serves and offers.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) lanes: Vec<LaneId>,
    pub(crate) capabilities: Capabilities,
    /// What it has handlers for.
    pub(crate) kinds: BTreeSet<String>,
}

/// A worker is known to run as long as it holds this.
pub(crate) struct Running {
    engine: Engine,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.shared.workers.lock().remove(&self.number);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("namespace", &self.shared.namespace).finish_non_exhaustive()
    }
}

/// What a URL does not say. Made by [`Engine::builder`].
#[derive(Clone, Debug, Default)]
pub struct EngineBuilder {
    namespace: Option<String>,
    lane: Option<String>,
    creator: Option<String>,
    unobserved: bool,
}

/// A server that is not reached is a matter of the store, as in every later call; the rest is one of how it was opened.
#[cfg(feature = "valkey")]
fn not_opened(error: &ff_backend_valkey::ConnectError) -> Error {
    let message = format!("cannot open the store: {error}");
    match error {
        ff_backend_valkey::ConnectError::Server(_) => {
            Error::Engine(EngineError::Transport { applied: Applied::No, message })
        }
        _ => Error::Setup(message),
    }
}

impl EngineBuilder {
    /// Leaves out the spans and metrics of operations, for who puts a layer of its own around the backend.
    #[must_use]
    pub fn unobserved(mut self) -> Self {
        self.unobserved = true;
        self
    }

    /// The namespace of everything that is submitted; `default`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The lane of what names none; `default`.
    #[must_use]
    pub fn lane(mut self, lane: impl Into<String>) -> Self {
        self.lane = Some(lane.into());
        self
    }

    /// Who is recorded as the creator of executions; nobody.
    #[must_use]
    pub fn creator(mut self, creator: impl Into<String>) -> Self {
        self.creator = Some(creator.into());
        self
    }

    /// Opens the store at `url`.
    ///
    /// # Errors
    /// [`Error::Url`] for an address that this build cannot open; the message says what to write instead.
    /// [`Error::Engine`] with `Transport` for a server that is not reached, [`Error::Setup`] for one that cannot be used as
    /// asked: another number of partitions, a newer library, a server that evicts keys. Otherwise as [`Self::open`].
    pub async fn connect(self, url: &str) -> Result<Engine> {
        match url::parse(url)? {
            #[cfg(feature = "memory")]
            url::Address::Memory { partitions, max_payload_bytes } => {
                let deployment = url::deployment(partitions, max_payload_bytes);
                let clock = Arc::new(ff_core::time::SystemClock);
                self.open(Arc::new(ff_backend_memory::MemoryBackend::open(deployment, clock))).await
            }
            #[cfg(not(feature = "memory"))]
            url::Address::Memory { .. } => Err(url::not_built("memory", "memory")),
            #[cfg(feature = "valkey")]
            url::Address::Valkey { url, prefix, partitions, max_payload_bytes } => {
                let mut options = ff_backend_valkey::Options::default();
                options.deployment = url::deployment(partitions, max_payload_bytes);
                options.prefix = prefix.unwrap_or(options.prefix);
                let opened = ff_backend_valkey::ValkeyBackend::connect(&url.0, options).await;
                self.open(Arc::new(opened.map_err(|error| not_opened(&error))?)).await
            }
            #[cfg(not(feature = "valkey"))]
            url::Address::Valkey { url, .. } => {
                let scheme = url.0.split(':').next().unwrap_or_default();
                Err(url::not_built(scheme, "valkey"))
            }
        }
    }

    /// Takes a backend that is open, and gives every partition that has none a signing key.
    ///
    /// # Errors
    /// A name that breaks its rule, or the backend's errors.
    pub async fn open(self, backend: Arc<dyn EngineBackend>) -> Result<Engine> {
        let backend: Arc<dyn EngineBackend> =
            if self.unobserved { backend } else { Arc::new(Layered::new(backend, Observe)) };
        let agenda = Agenda::new(backend.deployment().partitions.partitions());
        let engine = Engine {
            shared: Arc::new(Shared {
                backend,
                namespace: Namespace::new(self.namespace.as_deref().unwrap_or("default"))?,
                lane: LaneId::new(self.lane.as_deref().unwrap_or("default"))?,
                creator: self.creator,
                more_work: Notify::new(),
                ended: Notify::new(),
                agenda,
                maintained: Mutex::default(),
                workers: Mutex::default(),
                next_worker: AtomicU64::new(0),
            }),
        };
        keys::provide(&engine).await?;
        Ok(engine)
    }
}

impl Engine {
    /// Opens the store at `url`. All forms:
    ///
    /// | address | store |
    /// |---|---|
    /// | `memory:` | an empty one in this process, gone with it |
    /// | `redis://[user[:password]@]host[:port][/db]` | a Valkey or Redis server; port 6379, database 0 |
    /// | `rediss://...` | the same with TLS |
    /// | `redis+unix:///path/to/socket` | a server behind a socket; `?db=`, `&user=`, `&pass=` |
    /// | `redis+cluster://[user[:password]@]host[:port],host[:port]` | a cluster, by some of its nodes |
    /// | `redis+sentinel://[user[:password]@]host[:port],host[:port]/primary[/db]` | the server that sentinels name; their port 26379, `?sentinel_user=`, `&sentinel_password=` |
    /// | `rediss+cluster://...`, `rediss+sentinel://...` | these with TLS |
    ///
    /// `valkey` may stand for `redis`, and `valkeys` for `rediss`, in each of them. All but `memory:` need the feature
    /// `valkey`. In a user or password, what means something in an address is written as `%23` for `#`.
    ///
    /// | parameter, behind `?`, parted by `&` | where | meaning |
    /// |---|---|---|
    /// | `partitions=` | everywhere | 1 to 16384; 16. Fixed at the first use of a store |
    /// | `max_payload_bytes=` | everywhere | the largest input or result, 1 to 67108864; 1 MiB |
    /// | `prefix=` | servers | what every key begins with: it isolates applications on one server; `ff` |
    /// | `confirm=` | servers | what a write waits for: `memory`, `local_fsync`, `replicas:2` |
    /// | `ca=`, `cert=`, `key=` | TLS | files of PEM: authorities, and the client's certificate with its key |
    /// | `protocol=` | servers | `resp2` or `resp3` |
    ///
    /// # Errors
    /// See [`EngineBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// For what a URL does not say.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Takes a backend that is open.
    ///
    /// # Errors
    /// See [`EngineBuilder::open`].
    pub async fn with_backend(backend: Arc<dyn EngineBackend>) -> Result<Self> {
        Self::builder().open(backend).await
    }

    /// The backend, for what this crate has no word for.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn EngineBackend> {
        &self.shared.backend
    }

    /// The namespace of everything that is submitted here.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    /// The lane of what names none.
    #[must_use]
    pub fn default_lane(&self) -> &LaneId {
        &self.shared.lane
    }

    /// Who is recorded as creator.
    #[must_use]
    pub fn creator(&self) -> Option<&str> {
        self.shared.creator.as_deref()
    }

    pub(crate) fn partitions(&self) -> std::ops::Range<u16> {
        0..self.shared.backend.deployment().partitions.partitions()
    }

    pub(crate) fn more_work(&self) -> &Notify {
        &self.shared.more_work
    }

    pub(crate) fn ended(&self) -> &Notify {
        &self.shared.ended
    }

    /// A worker runs from now on.
    pub(crate) fn running(&self, serving: Serving) -> Running {
        let number = self.shared.next_worker.fetch_add(1, Ordering::Relaxed);
        self.shared.workers.lock().insert(number, serving);
        Running { engine: self.clone(), number }
    }

    /// The workers that serve this lane in this process.
    pub(crate) fn workers_of(&self, lane: &LaneId) -> Vec<Serving> {
        let workers = self.shared.workers.lock();
        workers.values().filter(|w| w.lanes.contains(lane)).cloned().collect()
    }

    pub(crate) fn agenda(&self) -> &Agenda {
        &self.shared.agenda
    }

    /// Notes how the sweep of a partition went; how many partitions fail now.
    pub(crate) fn swept(&self, partition: u16, swept: &Swept, error: Option<&EngineError>) -> usize {
        self.shared.maintained.lock().note(partition, swept, error)
    }

    /// Reaches the store, and says how it is and how the background work of this process goes.
    ///
    /// # Errors
    /// The backend's errors, when it is not reached.
    pub async fn health(&self) -> Result<EngineHealth> {
        let store = self.backend().health().await?;
        let maintenance = self.shared.maintained.lock().clone();
        Ok(EngineHealth::new(store, maintenance, self.agenda().earliest()))
    }

    /// Begins an execution of this kind, to be [submitted](ExecutionBuilder::submit).
    pub fn execution<T: Serialize + ?Sized>(&self, kind: impl Into<String>, input: &T) -> ExecutionBuilder {
        ExecutionBuilder::new(self.clone(), kind.into(), crate::payload::encode("the input", input))
    }

    /// Begins a flow of this kind, to be [submitted](FlowBuilder::submit).
    pub fn flow(&self, kind: impl Into<String>) -> FlowBuilder {
        FlowBuilder::new(self.clone(), kind.into())
    }

    /// The budget of that id, whether it exists yet or not.
    ///
    /// # Errors
    /// An id that breaks its rule.
    pub fn budget(&self, id: impl AsRef<str>) -> Result<Budget> {
        Ok(Budget::new(self.clone(), BudgetId::new(id)?))
    }

    /// The quota policy of that id, whether it exists yet or not.
    ///
    /// # Errors
    /// An id that breaks its rule.
    pub fn quota(&self, id: impl AsRef<str>) -> Result<Quota> {
        Ok(Quota::new(self.clone(), QuotaPolicyId::new(id)?))
    }

    /// The handle of an execution that is known by its id. Whether it exists is seen at its first use.
    #[must_use]
    pub fn handle(&self, execution_id: ExecutionId) -> Handle {
        Handle::new(self.clone(), execution_id)
    }

    /// The executions that pass these filters, page after page until the end, in the order of their ids within each
    /// partition: for an operator, or a test. It reads as many records as the store has in the named partitions.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ff_engine::ff_core::contracts::ListExecutionsArgs;
    /// use ff_engine::{Engine, PublicState};
    ///
    /// let engine = Engine::connect("memory:").await?;
    /// engine.execution("greet", "world").tag("team.name", "mail").submit().await?;
    /// let waiting = ListExecutionsArgs::builder().public_state(PublicState::Waiting).tag("team.name", "mail").build();
    /// assert_eq!(engine.list(waiting).await?.len(), 1);
    /// # Ok::<(), ff_engine::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A filter that breaks its rule, `Corruption` when a record cannot be decoded that may pass, and the backend's errors.
    pub async fn list(&self, filters: ListExecutionsArgs) -> Result<Vec<ExecutionSummary>> {
        let (mut all, mut args) = (Vec::new(), filters);
        loop {
            let page = call!(self, list_executions(args.clone()))?;
            all.extend(page.executions);
            match page.next_cursor {
                Some(next) => args.cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The handle of a flow that is known by its id, with the members that its submission named.
    ///
    /// # Errors
    /// `flow_not_found`, and the backend's errors.
    pub async fn flow_handle(&self, flow_id: FlowId) -> Result<FlowHandle> {
        FlowHandle::load(self.clone(), flow_id).await
    }

    /// Begins a signal to a waitpoint, authenticated by its token.
    pub fn signal(
        &self,
        execution_id: ExecutionId,
        waitpoint_id: ff_core::ids::WaitpointId,
        token: impl Into<crate::signal::Token>,
        name: impl Into<String>,
    ) -> SignalBuilder {
        SignalBuilder::new(self.clone(), execution_id, waitpoint_id, token.into(), name.into())
    }

    /// The waitpoints of an execution that take signals now, with tokens issued anew: for an inbox of approvals. Whoever
    /// may call this may resume the execution.
    ///
    /// # Errors
    /// `execution_not_found`, and the backend's errors.
    pub async fn waitpoints(&self, execution_id: ExecutionId) -> Result<Vec<PendingWaitpointInfo>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let args = ListPendingWaitpointsArgs::builder()
                .execution_id(execution_id)
                .include_tokens(true)
                .maybe_cursor(cursor.take())
                .build();
            let page = call!(self, list_pending_waitpoints(args))?;
            all.extend(page.waitpoints);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The background work of the store: due timers and what cascades left over. A [`Worker`](crate::Worker) does it
    /// too, unless it is told not to.
    #[must_use]
    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.clone())
    }

    pub(crate) async fn deliver(&self, args: ff_core::contracts::DeliverSignalArgs) -> Result<DeliverSignalResult> {
        call!(self, deliver_signal(args)).map_err(Error::from)
    }
}
