//! The worker's loop: feed the handlers, end what they end, drain.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ff_core::contracts::{
    Actor, BlockExecutionArgs, ClaimedExecution, CompleteExecutionArgs, DelayExecutionArgs, DelayExecutionResult,
    EvaluateFlowEligibilityArgs, EvaluateFlowEligibilityResult, FailExecutionArgs, FailExecutionResult, LaneCountsArgs,
    ListExecutionsArgs, MoveToWaitingChildrenArgs, MoveToWaitingChildrenResult, NextClaim, ResumeCause,
    RevokeLeaseArgs, RevokeLeaseResult,
};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, LaneId, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use ff_core::refusal::{Class, Code};
use ff_core::state::{BlockReason, PublicState};
use ff_core::time::{Clock, SystemClock, When};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::claims::Turns;
use super::context::Resumed;
use super::handler::Handler;
use super::leases::{Leases, Stop, StopReason};
use super::outcome::Kind;
use super::report::{AttemptEnd, AttemptReport, Observer};
use super::{Context, TaskError, Worker};
use crate::admission::{Admission, Claim};
use crate::engine::{Engine, Serving};
use crate::error::{Error, Result};
use crate::payload::JSON;
use crate::repeat::{call, is_transport};
use crate::wake::Sleep;

/// How long an execution is put back at first that no handler here is for; then twice as long each time it comes again,
/// up to the longest.
const NO_HANDLER_MS: u64 = 5_000;
const LONGEST_NO_HANDLER_MS: u64 = 600_000;
/// Executions of which a worker remembers that it had no handler for them. Beyond that it begins anew.
const MAX_UNHANDLED: usize = 10_000;
/// How long an execution is put back of which the store cannot say what its handler must know: that takes an operator.
const UNREADABLE_MS: u64 = 60_000;
/// How long to wait before the store is asked again that was not reached, all repeats included.
const UNREACHED: Duration = Duration::from_secs(1);

/// More queues than these are not looked at twice when a worker starts, if listening for wake-ups begins within this time.
const MANY_QUEUES: usize = 64;
const LISTENS_WITHIN: Duration = Duration::from_millis(250);

/// Queues that an idle worker looks at in a second although nothing says that there is work: a wake-up may be lost.
const IDLE_LOOKS: usize = 1;

/// Waiting executions of a partition among which the oldest of a lane is looked for.
const OLDEST_OF: u32 = 100;
/// Pages without any that are passed over for them.
const OLDEST_PAGES: usize = 100;

/// How often a wake-up that was in vain is passed on to other workers: backends that poll send many.
const PASS_ON: Duration = Duration::from_millis(200);

/// What all parts of a worker share.
pub(crate) struct Core {
    pub(super) engine: Engine,
    /// With their weights.
    pub(super) lanes: Vec<(LaneId, u32)>,
    pub(super) worker_id: WorkerId,
    pub(super) instance: WorkerInstanceId,
    pub(super) capabilities: Capabilities,
    pub(super) concurrency: usize,
    pub(super) drain: Duration,
    pub(super) grace: Duration,
    /// Whether it also does the background work of the store.
    pub(super) maintenance: bool,
    pub(super) handlers: BTreeMap<String, Handler>,
    /// How often executions came that it has no handler for.
    pub(super) unhandled: Mutex<HashMap<ExecutionId, u32>>,
    pub(super) leases: Arc<Leases>,
    pub(super) admission: Arc<Admission>,
    pub(super) observer: Option<Observer>,
    pub(super) lane_gauges: Option<Duration>,
    /// Cancelled when the worker begins to shut down.
    pub(super) shutdown: CancellationToken,
    pub(super) counters: Counters,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a worker did.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WorkerReport { $($(#[$doc])* pub $name: u64,)+ }

        #[derive(Default)]
        pub(crate) struct Counters { $($name: AtomicU64,)+ }

        impl Counters {
            pub(super) fn report(&self) -> WorkerReport {
                WorkerReport { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Executions that it claimed.
    claimed,
    /// Of these, taken over after a lost or withdrawn lease.
    reclaimed,
    /// Of these, paused attempts that went on.
    resumed,
    /// Executions that it completed.
    completed,
    /// Attempts that failed and are tried again.
    retried,
    /// Executions that ended failed.
    failed,
    /// Attempts that paused.
    paused,
    /// Attempts whose end came too late: cancelled, expired, or taken over meanwhile.
    lost,
    /// Attempts given back at shutdown, for want of a handler, or because they failed after their lease was lost.
    given_back,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) async fn run(worker: Worker, shutdown: impl Future<Output = ()>) -> Result<WorkerReport> {
    let core = worker.core;
    let over = CancellationToken::new();
    let _running = core.engine.running(core.serving());
    // Both end with this future, however it ends.
    let renewal = AbortOnDropHandle::new(tokio::spawn({
        let (leases, over) = (Arc::clone(&core.leases), over.clone());
        async move { leases.keep(over).await }
    }));
    let maintenance = core.maintenance.then(|| {
        let (maintenance, over) = (core.engine.maintenance(), over.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { maintenance.rounds(over).await }))
    });
    let _lanes = core.lane_gauges.map(|every| {
        let core = Arc::clone(&core);
        AbortOnDropHandle::new(tokio::spawn(async move { tell_lanes(&core, every).await }))
    });
    let mut tasks = JoinSet::new();
    let fed = {
        let feeding = feed(&core, &mut tasks);
        tokio::pin!(feeding);
        tokio::select! {
            () = shutdown => {
                core.shutdown.cancel();
                feeding.await
            }
            fed = &mut feeding => {
                core.shutdown.cancel();
                fed
            }
        }
    };
    drain(&core, &mut tasks).await;
    // Slots lapse by themselves; this only frees them sooner.
    let _ = tokio::time::timeout(UNREACHED, core.leases.released()).await;
    over.cancel();
    let _ = renewal.await;
    if let Some(maintenance) = maintenance {
        let _ = maintenance.await;
    }
    fed.map(|()| core.counters.report())
}

/// Claims as long as the worker is not to shut down.
async fn feed(core: &Arc<Core>, tasks: &mut JoinSet<()>) -> Result<()> {
    let (mut sleep, mut turns) = (Sleep::default(), Turns::new(&core.lanes));
    let stop = &core.shutdown;
    let lanes: Vec<LaneId> = core.lanes.iter().map(|(lane, _)| lane.clone()).collect();
    let agenda = core.engine.agenda();
    // Wake-ups are listened for before the first look. Where the backend tells when it begins to, and a look is dear, that
    // is waited for: otherwise there would be a second look then.
    let queues = lanes.len() * usize::from(core.engine.partitions().end);
    let listens = if queues > MANY_QUEUES { LISTENS_WITHIN } else { Duration::ZERO };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = core.engine.backend().wait_for_work(&lanes, listens) => {}
    }
    // A full look is called for: at first, after a wake-up, and while there is work. `many` is what the last one saw.
    let (mut full, mut many, mut told, mut passed_on) = (true, false, false, None::<Instant>);
    while !stop.is_cancelled() {
        while let Some(joined) = tasks.try_join_next() {
            note(joined);
        }
        let free = core.concurrency.saturating_sub(tasks.len());
        if free == 0 {
            tokio::select! {
                () = stop.cancelled() => {}
                joined = tasks.join_next() => {
                    if let Some(joined) = joined {
                        note(joined);
                    }
                    full = true;
                }
            }
            continue;
        }
        // Listened for before the look, so that nothing is missed between the look and the wait.
        let (more_work, sooner) = (core.engine.more_work().notified(), agenda.sooner().notified());
        tokio::pin!(more_work, sooner);
        more_work.as_mut().enable();
        sooner.as_mut().enable();
        let take = |claim| {
            tasks.spawn(work(Arc::clone(core), claim));
        };
        let looked = if many {
            core.claim(free, &mut turns, stop, take).await
        } else if full || agenda.is_busy() {
            core.search(free, &mut turns, stop, take).await
        } else {
            core.glance(free, IDLE_LOOKS, &mut turns, take).await
        };
        let round = match looked {
            Ok(round) => round,
            Err(Error::Engine(EngineError::Refused(refusal))) if refusal.code().class() == Class::Validation => {
                return Err(EngineError::from(refusal).into());
            }
            Err(error) => {
                tracing::warn!(%error, "claiming failed; trying again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(UNREACHED) => {}
                }
                full = true;
                continue;
            }
        };
        if round.claimed > 0 {
            sleep.reset();
            agenda.worked();
        }
        let in_vain = told && round.claimed == 0 && !round.more && passed_on.is_none_or(|at| at.elapsed() >= PASS_ON);
        if in_vain {
            passed_on = Some(Instant::now());
        }
        if round.claimed > 0 && round.more || in_vain {
            // More than can be taken here, or woken for something that is not for this worker: others should look.
            core.engine.more_work().notify_waiters();
        }
        (told, many) = (false, round.more);
        if round.claimed > 0 || round.more {
            full = true;
            // Others get their turn, also where no call ever waits.
            tokio::task::yield_now().await;
            continue;
        }
        // With maintenance it sweeps what is due, and says so; without it a look does.
        let due = if core.maintenance { None } else { agenda.next() };
        let timeout = sleep.until(due);
        full = due.is_some() && timeout < sleep.longest();
        tokio::select! {
            () = stop.cancelled() => {}
            () = &mut more_work => full = true,
            () = &mut sooner, if !core.maintenance => full = true,
            woken = core.engine.backend().wait_for_work(&lanes, timeout) => {
                told = woken;
                full |= woken;
            }
        }
    }
    Ok(())
}

/// Handlers' panics are caught, so this one is the worker's own: the lease was let go, and others take the work over.
fn note(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined
        && error.is_panic()
    {
        tracing::error!(%error, "a mistake in the worker: the work of one attempt unwound");
    }
}

/// Lets the handlers end; tells those to stop that take too long; leaves those behind that do not stop.
async fn drain(core: &Core, tasks: &mut JoinSet<()>) {
    let join_all = async |tasks: &mut JoinSet<()>| while tasks.join_next().await.is_some() {};
    if tokio::time::timeout(core.drain, join_all(tasks)).await.is_ok() {
        return;
    }
    core.leases.stop_all(StopReason::Shutdown);
    // Each gives back its work when its grace is over; the rest of the time is for those calls.
    let _ = tokio::time::timeout(core.grace + UNREACHED, join_all(tasks)).await;
}

/// A handler at work, for the gauge.
struct InUse(metrics::Gauge);

impl InUse {
    fn new(claimed: &ClaimedExecution) -> Self {
        let gauge = metrics::gauge!("ff_handlers_running", "kind" => claimed.kind.clone());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// How long the first attempt waited since the creation, by the store's clock.
fn note_wait(core: &Core, claimed: &ClaimedExecution) {
    if claimed.attempt_index.get() == 0 {
        let now = claimed.lease_expires_at.as_millis().saturating_sub(core.leases.ttl_ms());
        let waited = Duration::from_millis(now.saturating_sub(claimed.created_at.as_millis()));
        metrics::histogram!("ff_wait_seconds", "lane" => claimed.lane_id.to_string()).record(waited);
    }
}

/// Tells how many executions of the worker's lanes are in which state, and how long the oldest waits, one lane after the
/// other.
async fn tell_lanes(core: &Core, every: Duration) {
    loop {
        for (lane, _) in &core.lanes {
            let args = LaneCountsArgs::builder().lane_id(lane.clone()).build();
            let Ok(counts) = call!(core.engine, lane_counts(args)) else { continue };
            for (state, count) in &counts.counts {
                let gauge =
                    metrics::gauge!("ff_lane_executions", "lane" => lane.to_string(), "state" => state.as_str());
                // Counts stay far below what a float holds exactly.
                #[allow(clippy::cast_precision_loss)]
                gauge.set(*count as f64);
            }
            let waiting = counts.counts.get(&PublicState::Waiting).copied().unwrap_or_default();
            // What is not found is not told as nothing: the gauge keeps what it had.
            if let Ok(Some(age)) = oldest(core, lane, waiting).await {
                metrics::gauge!("ff_lane_oldest_seconds", "lane" => lane.to_string()).set(age.as_secs_f64());
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// How long ago the oldest of the lane's waiting executions was created, by this process's clock; zero without any, none
/// when it was not found. Ids begin with the time at which they were made and lists go by id, so the first ones of each
/// partition have it, unless ids were given that do not.
async fn oldest(core: &Core, lane: &LaneId, waiting: u64) -> Result<Option<Duration>, EngineError> {
    if waiting == 0 {
        return Ok(Some(Duration::ZERO));
    }
    let mut oldest = None;
    for partition in core.engine.partitions() {
        let mut cursor = None;
        // A page may be empty although more remain: those before them are in other states.
        for _ in 0..OLDEST_PAGES {
            let args = ListExecutionsArgs::builder()
                .partition(partition)
                .lane_id(lane.clone())
                .public_state(PublicState::Waiting)
                .limit(OLDEST_OF)
                .maybe_cursor(cursor.take())
                .build();
            let page = call!(core.engine, list_executions(args))?;
            let found = !page.executions.is_empty();
            oldest = page.executions.iter().map(|x| x.created_at).chain(oldest).min();
            cursor = page.next_cursor;
            if found || cursor.is_none() {
                break;
            }
        }
    }
    Ok(oldest.map(|at| Duration::from_millis(SystemClock.now().since(at))))
}

/// One claimed execution, from its claim to its end or pause.
pub(super) async fn work(core: Arc<Core>, claim: Claim) {
    count(&core.counters.claimed);
    let Claim { claim, slot, asked_at } = claim;
    let (claimed, resumed) = match claim {
        NextClaim::New(claimed) => {
            note_wait(&core, &claimed);
            (claimed, None)
        }
        NextClaim::Reclaimed(claimed) => {
            count(&core.counters.reclaimed);
            (claimed, None)
        }
        NextClaim::Resumed(resumed) => {
            count(&core.counters.resumed);
            (resumed.claimed, Some(resumed.cause))
        }
    };
    let Some(handler) = core.handlers.get(&claimed.kind).cloned() else {
        let wait_ms = core.wait_for_handler_ms(claimed.execution_id);
        metrics::counter!("ff_no_handler_total", "kind" => claimed.kind.clone()).increment(1);
        tracing::warn!(kind = claimed.kind, execution = %claimed.execution_id, wait_ms, "no handler here for this kind");
        let end = core.give_back(&claimed, resumed.as_ref(), GiveBack::NoHandler { wait_ms }).await;
        core.leases.release(slot);
        core.observe(&claimed, end);
        return;
    };
    let stop = Stop::default();
    core.leases.hold(&claimed, slot, stop.clone(), asked_at);
    let hold = core.leases.until_dropped(claimed.fence.lease_id);
    let watch = Arc::clone(&core.leases).watch(claimed.clone(), stop.clone(), asked_at);
    let watch = AbortOnDropHandle::new(tokio::spawn(watch));
    // It must have set its timers before a handler that never awaits takes this thread.
    tokio::task::yield_now().await;
    let failed_children = match core.failed_children(&claimed, resumed.as_ref(), &stop).await {
        Ok(failed) => failed,
        Err(unknown) => {
            drop(watch);
            core.leases.ending(claimed.fence.lease_id, true);
            let end = match (unknown, stop.reason()) {
                (Unknown::Refused(error), _) => core.too_late(&claimed, &error).await,
                (Unknown::Unreadable, _) => core.give_back(&claimed, resumed.as_ref(), GiveBack::Unreadable).await,
                (Unknown::Stopped, Some(StopReason::Shutdown)) => {
                    core.give_back(&claimed, resumed.as_ref(), GiveBack::Shutdown).await
                }
                (Unknown::Stopped, Some(StopReason::LeaseLost)) => {
                    core.give_back(&claimed, resumed.as_ref(), GiveBack::LeaseLost).await
                }
                (Unknown::Stopped, _) => {
                    count(&core.counters.lost);
                    super::report::superseded(&core.engine, &claimed).await
                }
            };
            drop(hold);
            core.observe(&claimed, end);
            return;
        }
    };
    let _in_use = InUse::new(&claimed);
    let began = Instant::now();
    let span = tracing::info_span!(
        "ff.attempt",
        execution = %claimed.execution_id,
        kind = claimed.kind,
        attempt = claimed.attempt_index.get(),
        end = tracing::field::Empty
    );
    let context = Context::new(
        core.engine.clone(),
        claimed.clone(),
        Resumed { cause: resumed, failed_children },
        stop.clone(),
        core.shutdown.clone(),
        Arc::clone(&core.leases),
    );
    let ended = tokio::select! {
        ended = super::handler::run(handler, context.clone()).instrument(span.clone()) => Some(ended),
        () = too_long(&core, &stop) => None,
    };
    drop(watch);
    core.leases.ending(claimed.fence.lease_id, true);
    metrics::histogram!("ff_attempt_seconds", "kind" => claimed.kind.clone()).record(began.elapsed());
    let end = core.end(&claimed, &context, &stop, ended).instrument(span.clone()).await;
    span.record("end", end.as_str());
    drop(hold);
    core.observe(&claimed, end);
}

/// Why it is not known how the children of an execution went.
enum Unknown {
    /// The attempt is over, or the worker is.
    Stopped,
    /// The execution is gone.
    Refused(EngineError),
    /// The store cannot say it, and asking again would not help.
    Unreadable,
}

/// Why an attempt is put back that is neither done nor failed.
#[derive(Clone, Copy, Debug)]
enum GiveBack {
    NoHandler { wait_ms: u64 },
    Shutdown,
    LeaseLost,
    Unreadable,
}

impl GiveBack {
    const fn reason(self) -> &'static str {
        match self {
            Self::NoHandler { .. } => "given back: no handler for its kind",
            Self::Shutdown => "given back: the worker shuts down",
            Self::LeaseLost => "given back: the worker could not renew its lease in time",
            Self::Unreadable => "given back: the store cannot say how its children went",
        }
    }

    /// How long nobody shall get it.
    const fn wait_ms(self) -> u64 {
        match self {
            Self::NoHandler { wait_ms } => wait_ms,
            Self::Unreadable => UNREADABLE_MS,
            Self::Shutdown | Self::LeaseLost => 0,
        }
    }
}

/// Ready when the handler was told to stop and has not done so within its grace.
async fn too_long(core: &Core, stop: &Stop) {
    stop.token().cancelled().await;
    tokio::time::sleep(core.grace).await;
}

impl Core {
    /// What it says of itself to its process.
    pub(super) fn serving(&self) -> Serving {
        let lanes = self.lanes.iter().map(|(lane, _)| lane.clone()).collect();
        Serving { lanes, capabilities: self.capabilities.clone(), kinds: self.handlers.keys().cloned().collect() }
    }

    /// How long an execution is put back that this worker has no handler for: the longer the oftener it came, so that one
    /// that nobody has a handler for does not gather attempts for nothing.
    fn wait_for_handler_ms(&self, execution_id: ExecutionId) -> u64 {
        let mut all = self.unhandled.lock();
        if all.len() >= MAX_UNHANDLED && !all.contains_key(&execution_id) {
            all.clear();
        }
        let times = all.entry(execution_id).or_default();
        let wait_ms = (NO_HANDLER_MS << (*times).min(16)).min(LONGEST_NO_HANDLER_MS);
        *times += 1;
        wait_ms
    }

    fn observe(&self, claimed: &ClaimedExecution, end: AttemptEnd) {
        metrics::counter!("ff_attempts_total", "kind" => claimed.kind.clone(), "end" => end.as_str()).increment(1);
        if let Some(observer) = &self.observer {
            let (execution_id, attempt_index) = (claimed.execution_id, claimed.attempt_index);
            let report = AttemptReport { execution_id, kind: claimed.kind.clone(), attempt_index, end };
            // The attempt has ended; what its observer makes of that is no concern of the worker's.
            if std::panic::catch_unwind(AssertUnwindSafe(|| observer(&report))).is_err() {
                tracing::error!(execution = %execution_id, "the observer of attempts panicked");
            }
        }
    }

    /// Puts an attempt back, as no failure and no lost worker: it counts neither as a retry nor as a reclaim.
    ///
    /// What began, or went on after signals or children, is withdrawn, so that the next worker begins a new attempt: after
    /// a pause its handler would take what nobody has done, or answered, for done. Only one that went on after a delay is
    /// delayed again: that is what its handler saw.
    async fn give_back(&self, claimed: &ClaimedExecution, resumed: Option<&ResumeCause>, why: GiveBack) -> AttemptEnd {
        let end = match resumed {
            Some(ResumeCause::DelayOver) => match self.pause(claimed, why.wait_ms()).await {
                AttemptEnd::Paused => AttemptEnd::GivenBack,
                other => other,
            },
            _ => self.withdraw(claimed, why).await,
        };
        if end == AttemptEnd::GivenBack {
            count(&self.counters.given_back);
        }
        end
    }

    async fn withdraw(&self, claimed: &ClaimedExecution, why: GiveBack) -> AttemptEnd {
        let execution_id = claimed.execution_id;
        let args = RevokeLeaseArgs {
            execution_id,
            lease_id: claimed.fence.lease_id,
            reason: why.reason().into(),
            by: self.instance.to_string(),
        };
        match call!(self.engine, revoke_lease(args)) {
            Ok(RevokeLeaseResult::Revoked { .. }) => {}
            // It had run out, or somebody else withdrew it; what became of it then is asked. Otherwise this is the answer
            // to the repeat of a call whose own answer was lost.
            Ok(RevokeLeaseResult::AlreadyReleased { .. }) if matches!(why, GiveBack::LeaseLost) => {
                count(&self.counters.lost);
                return super::report::superseded(&self.engine, claimed).await;
            }
            Ok(RevokeLeaseResult::AlreadyReleased { .. }) => {}
            Err(error) => return self.too_late(claimed, &error).await,
        }
        if why.wait_ms() > 0 {
            // Refused when somebody has claimed it meanwhile, which is just as well.
            let until = When::After(why.wait_ms());
            let args = BlockExecutionArgs::builder()
                .execution_id(execution_id)
                .reason(BlockReason::WaitingForCapableWorker)
                .detail(format!("no handler for the kind {:?}", claimed.kind))
                .until(until)
                .by(self.instance.as_str())
                .build();
            if let Err(error) = call!(self.engine, block_execution(args)) {
                tracing::debug!(execution = %execution_id, %error, "not held back");
            }
            self.engine.agenda().armed_when(execution_id.partition(), [until]);
        }
        AttemptEnd::GivenBack
    }

    /// The call that ends an attempt was refused: something else had ended it before, and that stands.
    async fn too_late(&self, claimed: &ClaimedExecution, error: &EngineError) -> AttemptEnd {
        count(&self.counters.lost);
        if error.refusal().is_none() {
            tracing::warn!(execution = %claimed.execution_id, %error, "the attempt's end did not reach the store");
            return AttemptEnd::Unreported { error: error.to_string() };
        }
        tracing::debug!(execution = %claimed.execution_id, %error, "the attempt had ended before");
        super::report::superseded(&self.engine, claimed).await
    }

    /// Carries out what the handler answered; `None` is one that did not stop when it should.
    async fn end(
        &self,
        claimed: &ClaimedExecution,
        context: &Context,
        stop: &Stop,
        ended: Option<Result<Bytes, TaskError>>,
    ) -> AttemptEnd {
        if context.is_paused() {
            count(&self.counters.paused);
            return AttemptEnd::Paused;
        }
        // To fail after being told to stop for the worker's sake is no failure of the work.
        let not_its_fault = match stop.reason() {
            Some(StopReason::Shutdown) => Some(GiveBack::Shutdown),
            Some(StopReason::LeaseLost) => Some(GiveBack::LeaseLost),
            _ => None,
        };
        match (ended, not_its_fault) {
            (Some(Ok(result)), _) => self.complete(claimed, result).await,
            (Some(Err(TaskError(Kind::Failure { .. }))) | None, Some(why)) => {
                self.give_back(claimed, context.resumed(), why).await
            }
            (Some(Err(TaskError(Kind::Failure { reason, category, no_retry }))), None) => {
                self.fail(claimed, reason, category, no_retry).await
            }
            (Some(Err(TaskError(Kind::Delay(ms)))), _) => {
                let end = self.pause(claimed, ms).await;
                if end == AttemptEnd::Paused {
                    count(&self.counters.paused);
                }
                end
            }
            (Some(Err(TaskError(Kind::WaitForChildren))), _) => self.wait_for_children(claimed).await,
            (Some(Err(TaskError(Kind::Paused))), _) => {
                let reason = "the handler answered that it is paused, but nothing was suspended";
                self.fail(claimed, reason.into(), "bad_output".into(), true).await
            }
            (None, None) if stop.reason() == Some(StopReason::AttemptTimeout) => {
                self.fail(claimed, "the attempt did not end in time".into(), "timeout".into(), false).await
            }
            // Cancelled, or expired: there is nothing left to end.
            (None, None) => {
                count(&self.counters.lost);
                super::report::superseded(&self.engine, claimed).await
            }
        }
    }

    async fn complete(&self, claimed: &ClaimedExecution, result: Bytes) -> AttemptEnd {
        let args = CompleteExecutionArgs::builder()
            .execution_id(claimed.execution_id)
            .actor(Actor::Worker(claimed.fence))
            .result(result)
            .result_encoding(JSON)
            .build();
        match call!(self.engine, complete_execution(args)) {
            Ok(_) => {
                count(&self.counters.completed);
                AttemptEnd::Completed
            }
            Err(error) if error.code() == Some(Code::PayloadTooLarge) => {
                self.fail(claimed, error.to_string(), "result_too_large".into(), true).await
            }
            Err(error) => self.too_late(claimed, &error).await,
        }
    }

    async fn fail(&self, claimed: &ClaimedExecution, reason: String, category: String, no_retry: bool) -> AttemptEnd {
        let (reason, category) = (cut(reason, ff_core::bounds::MAX_TEXT_BYTES), name(category));
        let args = FailExecutionArgs::builder()
            .execution_id(claimed.execution_id)
            .actor(Actor::Worker(claimed.fence))
            .reason(reason.clone())
            .category(category.clone())
            .no_retry(no_retry)
            .build();
        match call!(self.engine, fail_execution(args)) {
            Ok(FailExecutionResult::RetryScheduled { retry_at, .. }) => {
                count(&self.counters.retried);
                self.engine.agenda().armed(claimed.execution_id.partition(), retry_at);
                AttemptEnd::Retried { retry_at, category, reason }
            }
            Ok(FailExecutionResult::Ended { .. }) => {
                count(&self.counters.failed);
                AttemptEnd::Failed { category, reason }
            }
            Err(error) => self.too_late(claimed, &error).await,
        }
    }

    /// Pauses the attempt for `ms`.
    async fn pause(&self, claimed: &ClaimedExecution, ms: u64) -> AttemptEnd {
        let actor = Actor::Worker(claimed.fence);
        let args = DelayExecutionArgs { execution_id: claimed.execution_id, actor, until: When::After(ms) };
        match call!(self.engine, delay_execution(args)) {
            Ok(DelayExecutionResult::Delayed { until, .. }) => {
                self.engine.agenda().armed(claimed.execution_id.partition(), until);
                AttemptEnd::Paused
            }
            Err(error) => self.too_late(claimed, &error).await,
        }
    }

    async fn wait_for_children(&self, claimed: &ClaimedExecution) -> AttemptEnd {
        let args = MoveToWaitingChildrenArgs { execution_id: claimed.execution_id, fence: claimed.fence };
        match call!(self.engine, move_to_waiting_children(args)) {
            Ok(MoveToWaitingChildrenResult::Moved { .. }) => {
                count(&self.counters.paused);
                AttemptEnd::Paused
            }
            // Nothing is left to wait for: the handler is called again at once, by a claim that hands it the results.
            Ok(MoveToWaitingChildrenResult::AlreadySatisfied { .. }) => {
                let end = self.pause(claimed, 0).await;
                if end == AttemptEnd::Paused {
                    count(&self.counters.paused);
                }
                end
            }
            Err(error) => self.too_late(claimed, &error).await,
        }
    }

    /// How many incoming edges are impossible. After a delay that is asked: it may be the one that follows a wait for
    /// children which had all ended. Without an answer the handler is not called, since it would take failed children for
    /// done; the lease is kept meanwhile, and a store that is not reached is asked again for as long as it lives.
    async fn failed_children(
        &self,
        claimed: &ClaimedExecution,
        cause: Option<&ResumeCause>,
        stop: &Stop,
    ) -> Result<u32, Unknown> {
        match cause {
            Some(ResumeCause::ChildrenDone { impossible_count, .. }) => return Ok(*impossible_count),
            Some(ResumeCause::DelayOver) if claimed.flow_id.is_some() => {}
            _ => return Ok(0),
        }
        let execution_id = claimed.execution_id;
        loop {
            let args = EvaluateFlowEligibilityArgs { execution_id };
            let answer = tokio::select! {
                () = stop.token().cancelled() => return Err(Unknown::Stopped),
                answer = async { call!(self.engine, evaluate_flow_eligibility(args)) } => answer,
            };
            match answer {
                Ok(EvaluateFlowEligibilityResult::Status { impossible_count, .. }) => return Ok(impossible_count),
                Err(error) if error.refusal().is_some() => return Err(Unknown::Refused(error)),
                Err(error) if is_transport(&error) => {
                    tracing::warn!(execution = %execution_id, %error, "how its children went is not known yet");
                    tokio::select! {
                        () = stop.token().cancelled() => return Err(Unknown::Stopped),
                        () = tokio::time::sleep(UNREACHED) => {}
                    }
                }
                Err(error) => {
                    tracing::error!(execution = %execution_id, %error, "how its children went cannot be read");
                    return Err(Unknown::Unreadable);
                }
            }
        }
    }
}

/// The text, cut at a character's boundary.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A category is a name: neither empty nor too long.
fn name(text: String) -> String {
    if text.is_empty() { "error".into() } else { cut(text, ff_core::bounds::MAX_NAME_BYTES) }
}
