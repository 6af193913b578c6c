//! Renewing leases, on a task of its own, until the drain has ended; and telling handlers at once when theirs is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ff_core::contracts::TailFramesResult;
use ff_core::contracts::{ClaimedExecution, Fence, RenewLeaseArgs, StreamCursor, TailFramesArgs};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, LeaseId};
use ff_core::operation::Operation;
use ff_core::refusal::{Code, Details};
use ff_core::state::{EndCause, TerminalOutcome};
use ff_core::time::TimestampMs;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Slot};
use crate::engine::Engine;
use crate::output::BLOCK_MS;
use crate::repeat::is_transport;

/// A handler that runs longer than this is worth a look at its attempt's end, besides the renewals.
const WATCHED_AFTER: Duration = Duration::from_millis(250);

/// Why a handler should stop: what it still does is done for nobody, or soon will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The execution was cancelled.
    Cancelled,
    /// The execution's deadline has passed.
    DeadlinePassed,
    /// The attempt has used up its time.
    AttemptTimeout,
    /// The lease was lost, or withdrawn; another worker may have the work.
    LeaseLost,
    /// Something else ended the execution.
    Ended,
    /// The worker shuts down, and the time for draining is over.
    Shutdown,
}

impl StopReason {
    /// The reason in one word, as the metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::DeadlinePassed => "deadline_passed",
            Self::AttemptTimeout => "attempt_timeout",
            Self::LeaseLost => "lease_lost",
            Self::Ended => "ended",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The end of a handler's work, seen from both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<Mutex<Option<StopReason>>>,
}

impl Stop {
    /// Tells the handler to stop. The first reason stands, and is counted.
    pub(crate) fn because(&self, reason: StopReason) {
        let mut first = self.reason.lock();
        if first.is_none() {
            *first = Some(reason);
            // A shutdown ends no lease.
            if reason != StopReason::Shutdown {
                metrics::counter!("ff_leases_ended_early_total", "reason" => reason.as_str()).increment(1);
            }
        }
        drop(first);
        self.token.cancel();
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        *self.reason.lock()
    }
}

struct Held {
    execution_id: ExecutionId,
    fence: Fence,
    stop: Stop,
    /// When the lease has run out unless it was renewed, by this process's clock.
    until: Instant,
    /// The store has not said that it is over.
    alive: bool,
    /// Its worker is ending or pausing it right now: a refused renewal tells nothing new.
    ending: bool,
    /// The quota policy's slot that goes with it.
    slot: Option<Slot>,
}

/// The leases that a worker holds.
pub(crate) struct Leases {
    engine: Engine,
    ttl: Duration,
    held: Mutex<HashMap<LeaseId, Held>>,
    admission: Arc<Admission>,
    /// Held while slots are refreshed: a slot is released only when no refresh of it is on its way.
    refreshing: Arc<tokio::sync::Mutex<()>>,
    releases: TaskTracker,
    /// The store's clock is turned by hand: instants of this process mean nothing.
    by_hand: AtomicBool,
}

impl Leases {
    pub(crate) fn new(engine: Engine, ttl: Duration, admission: Arc<Admission>) -> Self {
        let (held, refreshing, releases) = (Mutex::default(), Arc::default(), TaskTracker::new());
        Self { engine, ttl, held, admission, refreshing, releases, by_hand: AtomicBool::new(false) }
    }

    #[cfg(feature = "memory")]
    /// From now on only the store says when something is over.
    pub(crate) fn by_hand(&self) {
        self.by_hand.store(true, Ordering::SeqCst);
    }

    #[cfg(feature = "memory")]
    /// How many leases are held.
    pub(crate) fn len(&self) -> usize {
        self.held.lock().len()
    }

    pub(crate) fn ttl_ms(&self) -> u64 {
        crate::retries::millis(self.ttl)
    }

    /// Keeps a lease alive from now on. `asked_at` is when its claim was sent: it cannot run out earlier than a lease's
    /// time after that.
    pub(crate) fn hold(&self, claimed: &ClaimedExecution, slot: Option<Slot>, stop: Stop, asked_at: Instant) {
        let (execution_id, fence) = (claimed.execution_id, claimed.fence);
        let held = Held { execution_id, fence, stop, until: asked_at + self.ttl, alive: true, ending: false, slot };
        self.held.lock().insert(fence.lease_id, held);
    }

    /// Lets a lease go: its work has ended or is paused. The slot that went with it is released behind the scenes.
    pub(crate) fn let_go(self: &Arc<Self>, lease_id: LeaseId) {
        let slot = self.held.lock().remove(&lease_id).and_then(|held| held.slot);
        self.release(slot);
    }

    /// Its worker is about to end or pause the attempt, or has found that it goes on.
    pub(crate) fn ending(&self, lease_id: LeaseId, ending: bool) {
        if let Some(held) = self.held.lock().get_mut(&lease_id) {
            held.ending = ending;
        }
    }

    /// Lets a lease go in any case: its work has come to its end, or unwinds, or is dropped where it stands.
    pub(crate) fn until_dropped(self: &Arc<Self>, lease_id: LeaseId) -> Hold {
        Hold { leases: Arc::clone(self), lease_id }
    }

    fn is_ending(&self, lease_id: LeaseId) -> bool {
        self.held.lock().get(&lease_id).is_none_or(|held| held.ending)
    }

    /// The store says that a lease is over, while its handler still runs.
    fn over(self: &Arc<Self>, lease_id: LeaseId, reason: StopReason) {
        let mut all = self.held.lock();
        let Some(held) = all.get_mut(&lease_id) else { return };
        held.alive = false;
        held.stop.because(reason);
        let slot = held.slot.take();
        drop(all);
        self.release(slot);
    }

    /// Frees a slot that no held lease has any more.
    pub(crate) fn release(self: &Arc<Self>, slot: Option<Slot>) {
        let Some(slot) = slot else { return };
        let leases = Arc::clone(self);
        self.releases.spawn(async move {
            // Nobody refreshes it from now on; this waits for who already does.
            drop(leases.refreshing.lock().await);
            leases.admission.release(&slot).await;
        });
    }

    /// Waits until every slot that was let go has been released.
    pub(crate) async fn released(&self) {
        self.releases.close();
        self.releases.wait().await;
        self.releases.reopen();
    }

    /// Tells every handler to stop.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for held in self.held.lock().values() {
            held.stop.because(reason);
        }
    }

    /// Renews at a third of the lease, at once when something was ended from this process, and sooner again after a
    /// failure. Ends when `over` is cancelled: after the drain.
    pub(crate) async fn keep(self: &Arc<Self>, over: CancellationToken) {
        let third = self.ttl / 3;
        let mut wait = third;
        // Listened for before the renewal, so that what is ended during one brings another.
        let mut ended = Box::pin(self.engine.ended().notified());
        ended.as_mut().enable();
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                () = &mut ended => {
                    ended.set(self.engine.ended().notified());
                    ended.as_mut().enable();
                }
                () = tokio::time::sleep(wait) => {}
            }
            let (reached, renewed) = self.renew_all().await;
            self.refresh_aside(renewed);
            wait = if reached { third } else { (third / 4).max(Duration::from_millis(10)) };
        }
    }

    /// Renews every lease and refreshes their slots, one after the other.
    #[cfg(feature = "memory")]
    pub(crate) async fn renew_and_refresh(self: &Arc<Self>) {
        let (_, renewed) = self.renew_all().await;
        let refreshing = Arc::clone(&self.refreshing).lock_owned().await;
        self.refresh(&renewed, refreshing).await;
    }

    /// Whether every renewal was answered, and the leases that were renewed.
    async fn renew_all(self: &Arc<Self>) -> (bool, Vec<LeaseId>) {
        let asked_at = Instant::now();
        let ttl_ms = self.ttl_ms();
        let renewals: Vec<RenewLeaseArgs> = self
            .held
            .lock()
            .values()
            .filter(|held| held.alive)
            .map(|held| RenewLeaseArgs { execution_id: held.execution_id, fence: held.fence, lease_ttl_ms: ttl_ms })
            .collect();
        if renewals.is_empty() {
            return (true, Vec::new());
        }
        let operations = renewals.iter().map(|args| Operation::RenewLease(*args)).collect();
        let results = self.engine.backend().execute_many(operations).await;
        let (mut reached, mut renewed) = (true, Vec::new());
        for (args, result) in renewals.iter().zip(results) {
            let lease_id = args.fence.lease_id;
            match result {
                Ok(_) => {
                    if let Some(held) = self.held.lock().get_mut(&lease_id) {
                        held.until = asked_at + self.ttl;
                        renewed.push(lease_id);
                    }
                }
                Err(error) if is_transport(&error) => reached = false,
                Err(_) if self.is_ending(lease_id) => {}
                Err(error) => {
                    let reason = why(&error);
                    tracing::debug!(execution = %args.execution_id, ?reason, %error, "lease not renewed");
                    self.over(lease_id, reason);
                }
            }
        }
        (reached, renewed)
    }

    /// Refreshes slots beside the renewals, which wait for no policy's answer. While a refresh is on its way none is
    /// begun: a slot outlives its lease by some seconds, and the next renewal brings another.
    fn refresh_aside(self: &Arc<Self>, renewed: Vec<LeaseId>) {
        if renewed.is_empty() {
            return;
        }
        let Ok(refreshing) = Arc::clone(&self.refreshing).try_lock_owned() else { return };
        let leases = Arc::clone(self);
        tokio::spawn(async move { leases.refresh(&renewed, refreshing).await });
    }

    /// Slots live on with their leases.
    async fn refresh(&self, renewed: &[LeaseId], refreshing: tokio::sync::OwnedMutexGuard<()>) {
        let slots: Vec<Slot> = {
            let all = self.held.lock();
            renewed.iter().filter_map(|lease_id| all.get(lease_id)?.slot.clone()).collect()
        };
        self.admission.refresh(&slots).await;
        drop(refreshing);
    }

    /// Watches one attempt, and tells its handler as early as can be: at its deadline, when its time is used up, when
    /// its lease has run out without a renewal, and when anybody else ends it. Off the handler's task, so that a handler
    /// that computes hears of it too.
    pub(crate) async fn watch(self: Arc<Self>, claimed: ClaimedExecution, stop: Stop, asked_at: Instant) {
        // The store's clock at the claim; this process's own may be another.
        let now = claimed.lease_expires_at.as_millis().saturating_sub(self.ttl_ms());
        let at = |due: Option<TimestampMs>| {
            due.map(|due| asked_at + Duration::from_millis(due.as_millis().saturating_sub(now)))
        };
        let lease_id = claimed.fence.lease_id;
        let timed = !self.by_hand.load(Ordering::SeqCst);
        tokio::select! {
            () = stop.token().cancelled() => {}
            () = due(at(claimed.deadline_at)), if timed => stop.because(StopReason::DeadlinePassed),
            () = due(at(claimed.attempt_deadline_at)), if timed => stop.because(StopReason::AttemptTimeout),
            () = self.run_out(lease_id), if timed => stop.because(StopReason::LeaseLost),
            reason = self.ended_elsewhere(&claimed) => self.over(lease_id, reason),
        }
    }

    /// Ready when the lease has run out by this process's clock.
    async fn run_out(&self, lease_id: LeaseId) {
        loop {
            let until = self.held.lock().get(&lease_id).map(|held| held.until);
            match until {
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ready when the attempt has ended, by whoever: its stream closes then, and a tail behind all its frames sees
    /// nothing else.
    async fn ended_elsewhere(&self, claimed: &ClaimedExecution) -> StopReason {
        if !self.by_hand.load(Ordering::SeqCst) {
            tokio::time::sleep(WATCHED_AFTER).await;
        }
        loop {
            let args = TailFramesArgs::builder()
                .execution_id(claimed.execution_id)
                .attempt_index(claimed.attempt_index)
                .after(StreamCursor::Ms(u64::MAX))
                .block_ms(BLOCK_MS)
                .limit(1)
                .build();
            match self.engine.backend().tail_frames(args).await {
                Ok(TailFramesResult::Frames(page)) => {
                    if let Some(closed) = page.closed {
                        return because_of(closed.cause);
                    }
                }
                Err(EngineError::Refused(refusal)) if refusal.code() == Code::ExecutionNotFound => {
                    return StopReason::Ended;
                }
                Err(error) if is_transport(&error) => tokio::time::sleep(Duration::from_secs(1)).await,
                // The renewals will tell.
                Err(_) => return std::future::pending().await,
            }
            // An answer that comes early, as behind a frame, is no reason to ask without pause.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A lease that is let go when this is dropped.
pub(crate) struct Hold {
    leases: Arc<Leases>,
    lease_id: LeaseId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let slot = self.leases.held.lock().remove(&self.lease_id).and_then(|held| held.slot);
        // Dropped from outside of a runtime, as when that ends, there is nobody to release the slot: it lapses.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.leases.release(slot);
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What the end of an attempt says about the work.
const fn because_of(cause: EndCause) -> StopReason {
    match cause {
        EndCause::Cancelled | EndCause::FlowCancelled => StopReason::Cancelled,
        EndCause::DeadlinePassed => StopReason::DeadlinePassed,
        EndCause::AttemptTimeout => StopReason::AttemptTimeout,
        EndCause::LeaseExpired | EndCause::LeaseRevoked | EndCause::MaxReclaimsExceeded => StopReason::LeaseLost,
        EndCause::Completed | EndCause::Failed | EndCause::SuspensionTimeout | EndCause::DependencyImpossible => {
            StopReason::Ended
        }
    }
}

/// What a refused renewal says about the work.
fn why(error: &EngineError) -> StopReason {
    let Some(refusal) = error.refusal() else { return StopReason::LeaseLost };
    match refusal.details() {
        Details::ExecutionNotActive { terminal_outcome, .. } => match terminal_outcome {
            TerminalOutcome::Cancelled => StopReason::Cancelled,
            TerminalOutcome::Expired => StopReason::DeadlinePassed,
            TerminalOutcome::None => StopReason::LeaseLost,
            TerminalOutcome::Success | TerminalOutcome::Failed | TerminalOutcome::Skipped => StopReason::Ended,
        },
        _ if refusal.code() == Code::ExecutionNotFound => StopReason::Ended,
        _ => StopReason::LeaseLost,
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::super::claims::Turns;
    use super::super::{Context, TaskError, Worker};
    use super::*;
    use crate::admission::Claim;

    #[tokio::test]
    async fn a_lease_is_let_go_when_its_work_unwinds() {
        let engine = Engine::connect("memory:").await.expect("an empty store");
        engine.execution("job", &()).submit().await.expect("submitted");
        let worker = Worker::builder(&engine)
            .handler("job", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) })
            .build()
            .expect("well put together");
        let (core, mut claims) = (worker.core, Vec::new());
        let never = CancellationToken::new();
        core.claim(1, &mut Turns::new(&core.lanes), &never, |claim| claims.push(claim)).await.expect("reached");
        let Claim { claim, slot, asked_at } = claims.pop().expect("claimed");
        let claimed = crate::admission::claimed_of(&claim).clone();
        core.leases.hold(&claimed, slot, Stop::default(), asked_at);
        assert_eq!(core.leases.len(), 1);
        let leases = Arc::clone(&core.leases);
        let unwound = tokio::spawn(async move {
            let _hold = leases.until_dropped(claimed.fence.lease_id);
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        let unwound: Result<(), _> = unwound.await;
        assert!(unwound.expect_err("it unwinds").is_panic());
        assert_eq!(core.leases.len(), 0);
    }

    #[test]
    fn the_first_reason_to_stop_stands() {
        let stop = Stop::default();
        stop.because(StopReason::DeadlinePassed);
        stop.because(StopReason::LeaseLost);
        assert_eq!(stop.reason(), Some(StopReason::DeadlinePassed));
        assert!(stop.token().is_cancelled());
    }
}
