//! `MemoryBackend`: locks, a clock, and the model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ff_core::bounds::{CheckArgs, Deployment};
use ff_core::contracts::*; // the list of operations names nearly all of it
use ff_core::engine_backend::*; // and every domain trait
use ff_core::error::EngineError;
use ff_core::ids::{BudgetId, LaneId, QuotaPolicyId};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::time::{Clock, ManualClock, SystemClock, TimestampMs};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::apply::{Store, run_rule};
use crate::model::{Budget, Model, Partition, Quota, Snapshot, Wakes};
use crate::rules;

type Slot<T> = Arc<Mutex<Option<T>>>;

/// A stream that somebody waits for: partition, execution, attempt.
type StreamKey = (u16, Uuid, u32);

#[derive(Debug)]
struct Shared {
    deployment: Arc<Deployment>,
    clock: Arc<dyn Clock>,
    partitions: Box<[Mutex<Partition>]>,
    budgets: Mutex<HashMap<BudgetId, Slot<Budget>>>,
    policies: Mutex<HashMap<QuotaPolicyId, Slot<Quota>>>,
    waiting: Waiting,
}

/// Who waits for frames and for work. Nothing is looked up while nobody waits.
#[derive(Debug, Default)]
struct Waiting {
    tails: AtomicUsize,
    /// How many wait for a stream, and what wakes them.
    streams: Mutex<HashMap<StreamKey, (usize, Arc<Notify>)>>,
    /// Whether anybody ever waited for work: from then on a wake-up is kept until somebody takes it.
    listened: AtomicBool,
    lanes: Mutex<HashMap<LaneId, Arc<Notify>>>,
    any_lane: Notify,
}

/// Waiters woken by one operation on one lane at most; who finds more than it can take wakes others.
const MAX_WOKEN: usize = 64;

/// The engine in the memory of this process: for local development, for tests, and as the reference of the contract.
///
/// Clones share the state. Partitions are locked apart, and no lock is held while anything waits.
///
/// ```
/// use ff_backend_memory::MemoryBackend;
/// use ff_core::contracts::CreateExecutionArgs;
/// use ff_core::engine_backend::{EngineBackend, ExecutionOps, Host};
/// use ff_core::ids::{ExecutionId, LaneId, Namespace};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let backend = MemoryBackend::new();
/// let id = ExecutionId::new(backend.deployment().partitions);
/// let args = CreateExecutionArgs::builder()
///     .execution_id(id)
///     .namespace(Namespace::new("shop")?)
///     .lane_id(LaneId::new("default")?)
///     .kind("send_mail")
///     .payload("hello")
///     .build();
/// backend.create_execution(args).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackend {
    /// An empty engine with the default deployment and the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::open(Deployment::default(), Arc::new(SystemClock))
    }

    /// An empty engine on a clock that is turned by hand.
    #[must_use]
    pub fn with_manual_clock(clock: ManualClock) -> Self {
        Self::open(Deployment::default(), Arc::new(clock))
    }

    /// An empty engine with this deployment and clock.
    #[must_use]
    pub fn open(deployment: Deployment, clock: Arc<dyn Clock>) -> Self {
        let deployment = Arc::new(deployment);
        let partitions = (0..deployment.partitions.partitions())
            .map(|number| Mutex::new(Partition::new(number, Arc::clone(&deployment))))
            .collect();
        Self {
            shared: Arc::new(Shared {
                deployment,
                clock,
                partitions,
                budgets: Mutex::default(),
                policies: Mutex::default(),
                waiting: Waiting::default(),
            }),
        }
    }

    /// A copy of the whole state: one snapshot of each partition, budget and policy.
    #[must_use]
    pub fn model(&self) -> Model {
        let partitions: Vec<Partition> = self.shared.partitions.iter().map(|p| p.lock().clone()).collect();
        fn copy<K: Ord + Clone, T: Clone>(slots: &Mutex<HashMap<K, Slot<T>>>) -> BTreeMap<K, Option<T>> {
            let slots: Vec<(K, Slot<T>)> = slots.lock().iter().map(|(k, s)| (k.clone(), Arc::clone(s))).collect();
            slots.into_iter().map(|(k, s)| (k, s.lock().clone())).filter(|(_, s)| s.is_some()).collect()
        }
        Model::from_parts(
            Arc::clone(&self.shared.deployment),
            partitions,
            copy(&self.shared.budgets),
            copy(&self.shared.policies),
        )
    }

    /// The whole state as plain data: one snapshot of each partition, budget and policy.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.model().snapshot()
    }

    /// One partition, locked; nothing for a number that the deployment does not have.
    pub(crate) fn partition_mut<R>(&self, number: u16, with: impl FnOnce(&mut Partition) -> R) -> Option<R> {
        self.shared.partitions.get(usize::from(number)).map(|p| with(&mut p.lock()))
    }

    /// What its clock shows.
    pub(crate) fn now(&self) -> TimestampMs {
        self.shared.clock.now()
    }

    /// One budget, locked.
    pub(crate) fn at_budget<R>(&self, id: &BudgetId, with: impl FnOnce(&mut Option<Budget>) -> R) -> R {
        with_slot(&self.shared.budgets, id, with)
    }

    /// One quota policy, locked.
    pub(crate) fn at_policy<R>(&self, id: &QuotaPolicyId, with: impl FnOnce(&mut Option<Quota>) -> R) -> R {
        with_slot(&self.shared.policies, id, with)
    }

    async fn tail(&self, args: &TailFramesArgs) -> Result<TailFramesResult, EngineError> {
        args.check(&self.shared.deployment)?;
        let deadline = Instant::now() + Duration::from_millis(args.block_ms);
        let key = (args.execution_id.partition(), args.execution_id.uuid(), args.attempt_index.get());
        let look = || {
            let now = self.shared.clock.now();
            self.shared.at_partition(key.0, |p| rules::stream::tail_page(p, now, args))
        };
        let first = look()?;
        if first.over || args.block_ms == 0 {
            return Ok(TailFramesResult::Frames(first.page));
        }
        let seat = Seat::take(&self.shared.waiting, key);
        loop {
            // Armed before the look, so that what comes between the look and the wait wakes it.
            let woken = seat.notify.notified();
            let seen = look()?;
            if seen.over || Instant::now() >= deadline {
                return Ok(TailFramesResult::Frames(seen.page));
            }
            let _ = tokio::time::timeout_at(deadline, woken).await;
        }
    }
}

/// A tail's place among those who wait for one stream.
struct Seat<'a> {
    waiting: &'a Waiting,
    key: StreamKey,
    notify: Arc<Notify>,
}

impl<'a> Seat<'a> {
    fn take(waiting: &'a Waiting, key: StreamKey) -> Self {
        waiting.tails.fetch_add(1, Ordering::SeqCst);
        let mut streams = waiting.streams.lock();
        let (seats, notify) = streams.entry(key).or_default();
        *seats += 1;
        Self { waiting, key, notify: Arc::clone(notify) }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut streams = self.waiting.streams.lock();
        if let Some((seats, _)) = streams.get_mut(&self.key) {
            *seats -= 1;
            if *seats == 0 {
                streams.remove(&self.key);
            }
        }
        self.waiting.tails.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Waiting {
    fn wake(&self, partition: u16, wakes: &Wakes) {
        if !wakes.streams.is_empty() && self.tails.load(Ordering::SeqCst) > 0 {
            let streams = self.streams.lock();
            for (uuid, index) in &wakes.streams {
                if let Some((_, notify)) = streams.get(&(partition, *uuid, *index)) {
                    notify.notify_waiters();
                }
            }
        }
        if !wakes.lanes.is_empty() && self.listened.load(Ordering::SeqCst) {
            let lanes = self.lanes.lock();
            let mut all = 0;
            for (lane, ready) in &wakes.lanes {
                all += ready;
                if let Some(notify) = lanes.get(lane) {
                    // As many as there is work; of those that nobody waits for, one is kept.
                    (0..(*ready).min(MAX_WOKEN)).for_each(|_| notify.notify_one());
                }
            }
            (0..all.min(MAX_WOKEN)).for_each(|_| self.any_lane.notify_one());
        }
    }
}

impl Shared {
    fn at_partition<R>(&self, number: u16, with: impl FnOnce(&mut Partition) -> R) -> R {
        // Arguments were checked: the number is below the deployment's count.
        let mut partition = self.partitions[usize::from(number)].lock();
        let result = with(&mut partition);
        if !partition.wakes.is_empty() {
            let wakes = partition.wakes.take();
            drop(partition);
            self.waiting.wake(number, &wakes);
        }
        result
    }
}

fn with_slot<K: Clone + Eq + std::hash::Hash, T, R>(
    slots: &Mutex<HashMap<K, Slot<T>>>,
    id: &K,
    with: impl FnOnce(&mut Option<T>) -> R,
) -> R {
    let known = slots.lock().get(id).map(Arc::clone);
    if let Some(slot) = known {
        return with(&mut slot.lock());
    }
    // An id that names nothing leaves nothing behind: the slot is kept only if the operation made something.
    let mut all = slots.lock();
    if let Some(slot) = all.get(id).map(Arc::clone) {
        drop(all);
        return with(&mut slot.lock());
    }
    let mut fresh = None;
    let result = with(&mut fresh);
    if fresh.is_some() {
        all.insert(id.clone(), Arc::new(Mutex::new(fresh)));
    }
    result
}

/// The shared state as a store: each part is locked while a rule runs on it.
struct Locked<'a>(&'a Shared);

impl Store for Locked<'_> {
    fn deployment(&self) -> &Deployment {
        &self.0.deployment
    }

    fn partition<R>(&mut self, number: u16, with: impl FnOnce(&mut Partition) -> R) -> R {
        self.0.at_partition(number, with)
    }

    fn budget<R>(&mut self, id: &BudgetId, with: impl FnOnce(&mut Option<Budget>) -> R) -> R {
        with_slot(&self.0.budgets, id, with)
    }

    fn policy<R>(&mut self, id: &QuotaPolicyId, with: impl FnOnce(&mut Option<Quota>) -> R) -> R {
        with_slot(&self.0.policies, id, with)
    }
}

macro_rules! call {
    (tail, $domain:ident, $method:ident, $self:ident, $args:ident) => {
        $self.tail(&$args).await
    };
    ($within:ident, $domain:ident, $method:ident, $self:ident, $args:ident) => {{
        $args.check(&$self.shared.deployment)?;
        let now = $self.shared.clock.now();
        let store = &mut Locked(&$self.shared);
        run_rule!($within, $domain, $method, store, now, &$args)
    }};
}

macro_rules! implement {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => { $(
        #[async_trait]
        impl $Trait for MemoryBackend {
            $(async fn $method(&self, args: $Args) -> Result<$Result, EngineError> {
                call!($within, $domain, $method, self, args)
            })*
        }
    )* };
}
ff_core::operations!(implement);

#[async_trait]
impl Host for MemoryBackend {
    fn deployment(&self) -> &Deployment {
        &self.shared.deployment
    }

    async fn execute_many(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(dispatch(self, operation).await);
        }
        results
    }

    async fn wait_for_work(&self, lanes: &[LaneId], timeout: Duration) -> bool {
        let waiting = &self.shared.waiting;
        waiting.listened.store(true, Ordering::SeqCst);
        let woken = async {
            if lanes.is_empty() {
                waiting.any_lane.notified().await;
                return;
            }
            let notifies: Vec<Arc<Notify>> = {
                let mut all = waiting.lanes.lock();
                lanes.iter().map(|lane| Arc::clone(all.entry(lane.clone()).or_default())).collect()
            };
            let waits: Vec<_> = notifies.iter().map(|n| Box::pin(n.notified())).collect();
            any_of(waits).await;
        };
        tokio::time::timeout(timeout, woken).await.is_ok()
    }

    async fn health(&self) -> Result<Health, EngineError> {
        Ok(Health::new(concat!("memory ", env!("CARGO_PKG_VERSION")), Durability::Memory))
    }
}

/// Ready as soon as one of the futures is.
async fn any_of<F: Future<Output = ()> + Unpin>(mut futures: Vec<F>) {
    std::future::poll_fn(|cx| {
        for future in &mut futures {
            if std::pin::Pin::new(future).poll(cx).is_ready() {
                return std::task::Poll::Ready(());
            }
        }
        std::task::Poll::Pending
    })
    .await;
}
