//! The worker's loop: feed the handlers, end what they end, drain.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ff_core::contracts::{
    Actor, ClaimedExecution, CompleteExecutionArgs, DelayExecutionArgs, FailExecutionArgs, FailExecutionResult,
    MoveToWaitingChildrenArgs, MoveToWaitingChildrenResult, NextClaim,
};
use ff_core::error::EngineError;
use ff_core::ids::{LaneId, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use ff_core::refusal::{Class, Code};
use ff_core::time::{TimestampMs, When};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::handler::Handler;
use super::leases::{Leases, Stop, StopReason};
use super::outcome::Kind;
use super::{Context, TaskError, Worker};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::payload::JSON;
use crate::repeat::call;
use crate::wake::Sleep;

/// How long an execution is put back that no handler here is for.
const NO_HANDLER_MS: u64 = 5_000;
/// How long to wait before the store is asked again that was not reached, all repeats included.
const UNREACHED: Duration = Duration::from_secs(1);

/// What all parts of a worker share.
pub(crate) struct Core {
    pub(super) engine: Engine,
    pub(super) lanes: Vec<LaneId>,
    pub(super) worker_id: WorkerId,
    pub(super) instance: WorkerInstanceId,
    pub(super) capabilities: Capabilities,
    pub(super) concurrency: usize,
    pub(super) drain: Duration,
    pub(super) grace: Duration,
    pub(super) handlers: BTreeMap<String, Handler>,
    pub(super) leases: Arc<Leases>,
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
            fn report(&self) -> WorkerReport {
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
    /// Attempts given back at shutdown, or for want of a handler.
    given_back,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) async fn run(worker: Worker, shutdown: impl Future<Output = ()>) -> Result<WorkerReport> {
    let core = worker.core;
    let over = CancellationToken::new();
    // Both end with this future, however it ends.
    let renewal = AbortOnDropHandle::new(tokio::spawn({
        let (leases, over) = (Arc::clone(&core.leases), over.clone());
        async move { leases.keep(over).await }
    }));
    let maintenance = worker.maintenance.then(|| {
        let (maintenance, over) = (core.engine.maintenance(), over.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { maintenance.rounds(over).await }))
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
    over.cancel();
    let _ = renewal.await;
    if let Some(maintenance) = maintenance {
        let _ = maintenance.await;
    }
    fed.map(|()| core.counters.report())
}

/// Claims as long as the worker is not to shut down.
async fn feed(core: &Arc<Core>, tasks: &mut JoinSet<()>) -> Result<()> {
    let (mut sleep, mut start) = (Sleep::default(), 0);
    let stop = &core.shutdown;
    while !stop.is_cancelled() {
        while tasks.try_join_next().is_some() {}
        let free = core.concurrency.saturating_sub(tasks.len());
        if free == 0 {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tasks.join_next() => {}
            }
            continue;
        }
        // Listened for before the look, so that nothing is missed between the look and the wait.
        let more_work = core.engine.more_work().notified();
        tokio::pin!(more_work);
        more_work.as_mut().enable();
        let looked = core.claim(free, &mut start, stop, |claim, asked_at| {
            tasks.spawn(work(Arc::clone(core), claim, asked_at));
        });
        let round = match looked.await {
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
                continue;
            }
        };
        if round.claimed > 0 {
            sleep.reset();
            if round.more {
                core.engine.more_work().notify_waiters();
            }
            continue;
        }
        let timeout = sleep.until(round.next_due_at);
        tokio::select! {
            () = stop.cancelled() => {}
            () = &mut more_work => {}
            _ = core.engine.backend().wait_for_work(&core.lanes, timeout) => {}
        }
    }
    Ok(())
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

/// One claimed execution, from its claim to its end or pause.
async fn work(core: Arc<Core>, claim: NextClaim, asked_at: Instant) {
    count(&core.counters.claimed);
    let (claimed, resumed) = match claim {
        NextClaim::New(claimed) => (claimed, None),
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
        tracing::warn!(kind = claimed.kind, execution = %claimed.execution_id, "no handler here for this kind");
        core.give_back(&claimed, NO_HANDLER_MS).await;
        return;
    };
    let stop = Stop::default();
    core.leases.hold(claimed.execution_id, claimed.fence, stop.clone(), asked_at);
    let context = Context::new(
        core.engine.clone(),
        claimed.clone(),
        resumed,
        stop.clone(),
        core.shutdown.clone(),
        Arc::clone(&core.leases),
    );
    let ended = tokio::select! {
        ended = super::handler::run(handler, context.clone()) => Some(ended),
        () = too_long(&core, &claimed, &stop, asked_at) => None,
    };
    core.end(&claimed, &context, &stop, ended).await;
    core.leases.let_go(claimed.fence.lease_id);
}

/// Tells the handler when its time is over, and is ready when it has not stopped within its grace.
async fn too_long(core: &Core, claimed: &ClaimedExecution, stop: &Stop, asked_at: Instant) {
    // The store's clock at the claim; this process's own may be another.
    let now = claimed.lease_expires_at.as_millis().saturating_sub(core.leases.ttl_ms());
    let at =
        |due: Option<TimestampMs>| due.map(|due| asked_at + Duration::from_millis(due.as_millis().saturating_sub(now)));
    tokio::select! {
        () = stop.token().cancelled() => {}
        () = due(at(claimed.deadline_at)) => stop.because(StopReason::DeadlinePassed),
        () = due(at(claimed.attempt_deadline_at)) => stop.because(StopReason::AttemptTimeout),
    }
    tokio::time::sleep(core.grace).await;
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Core {
    /// Puts an attempt back: it pauses, and goes on elsewhere after `ms`. It counts as no failure and no lost lease.
    async fn give_back(&self, claimed: &ClaimedExecution, ms: u64) {
        count(&self.counters.given_back);
        let actor = Actor::Worker(claimed.fence);
        let args = DelayExecutionArgs { execution_id: claimed.execution_id, actor, until: When::After(ms) };
        if let Err(error) = call!(self.engine, delay_execution(args)) {
            self.too_late(claimed, &error);
        }
    }

    /// The call that ends an attempt was refused: something else had ended it before, and that stands.
    fn too_late(&self, claimed: &ClaimedExecution, error: &EngineError) {
        count(&self.counters.lost);
        if error.refusal().is_some() {
            tracing::debug!(execution = %claimed.execution_id, %error, "the attempt had ended before");
        } else {
            tracing::warn!(execution = %claimed.execution_id, %error, "the attempt's end did not reach the store");
        }
    }

    /// Carries out what the handler answered; `None` is one that did not stop when it should.
    async fn end(
        &self,
        claimed: &ClaimedExecution,
        context: &Context,
        stop: &Stop,
        ended: Option<Result<Bytes, TaskError>>,
    ) {
        if context.is_paused() {
            count(&self.counters.paused);
            return;
        }
        let shutting_down = stop.reason() == Some(StopReason::Shutdown);
        match ended {
            Some(Ok(result)) => self.complete(claimed, result).await,
            // A failure after being told to stop for the shutdown's sake is no failure of the work.
            Some(Err(TaskError(Kind::Failure { .. }))) | None if shutting_down => self.give_back(claimed, 0).await,
            Some(Err(TaskError(Kind::Failure { reason, category, no_retry }))) => {
                self.fail(claimed, reason, category, no_retry).await;
            }
            Some(Err(TaskError(Kind::Delay(ms)))) => self.delay(claimed, ms).await,
            Some(Err(TaskError(Kind::WaitForChildren))) => self.wait_for_children(claimed).await,
            Some(Err(TaskError(Kind::Paused))) => {
                let reason = "the handler answered that it is paused, but nothing was suspended";
                self.fail(claimed, reason.into(), "bad_output".into(), true).await;
            }
            None if stop.reason() == Some(StopReason::AttemptTimeout) => {
                self.fail(claimed, "the attempt did not end in time".into(), "timeout".into(), false).await;
            }
            // Cancelled, expired or taken over: there is nothing left to end.
            None => count(&self.counters.lost),
        }
    }

    async fn complete(&self, claimed: &ClaimedExecution, result: Bytes) {
        let args = CompleteExecutionArgs::builder()
            .execution_id(claimed.execution_id)
            .actor(Actor::Worker(claimed.fence))
            .result(result)
            .result_encoding(JSON)
            .build();
        match call!(self.engine, complete_execution(args)) {
            Ok(_) => count(&self.counters.completed),
            Err(error) if error.code() == Some(Code::PayloadTooLarge) => {
                self.fail(claimed, error.to_string(), "result_too_large".into(), true).await;
            }
            Err(error) => self.too_late(claimed, &error),
        }
    }

    async fn fail(&self, claimed: &ClaimedExecution, reason: String, category: String, no_retry: bool) {
        let args = FailExecutionArgs::builder()
            .execution_id(claimed.execution_id)
            .actor(Actor::Worker(claimed.fence))
            .reason(cut(reason, ff_core::bounds::MAX_TEXT_BYTES))
            .category(name(category))
            .no_retry(no_retry)
            .build();
        match call!(self.engine, fail_execution(args)) {
            Ok(FailExecutionResult::RetryScheduled { .. }) => count(&self.counters.retried),
            Ok(FailExecutionResult::Ended { .. }) => count(&self.counters.failed),
            Err(error) => self.too_late(claimed, &error),
        }
    }

    async fn delay(&self, claimed: &ClaimedExecution, ms: u64) {
        let actor = Actor::Worker(claimed.fence);
        let args = DelayExecutionArgs { execution_id: claimed.execution_id, actor, until: When::After(ms) };
        match call!(self.engine, delay_execution(args)) {
            Ok(_) => count(&self.counters.paused),
            Err(error) => self.too_late(claimed, &error),
        }
    }

    async fn wait_for_children(&self, claimed: &ClaimedExecution) {
        let args = MoveToWaitingChildrenArgs { execution_id: claimed.execution_id, fence: claimed.fence };
        match call!(self.engine, move_to_waiting_children(args)) {
            Ok(MoveToWaitingChildrenResult::Moved { .. }) => count(&self.counters.paused),
            // Nothing is left to wait for: the handler is called again at once.
            Ok(MoveToWaitingChildrenResult::AlreadySatisfied { .. }) => self.delay(claimed, 0).await,
            Err(error) => self.too_late(claimed, &error),
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
