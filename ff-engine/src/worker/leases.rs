//! Renewing leases, on a task of its own, until the drain has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ff_core::contracts::{Fence, RenewLeaseArgs};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, LeaseId};
use ff_core::operation::Operation;
use ff_core::refusal::{Code, Details};
use ff_core::state::TerminalOutcome;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::repeat::is_transport;

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

/// The end of a handler's work, seen from both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<Mutex<Option<StopReason>>>,
}

impl Stop {
    /// Tells the handler to stop. The first reason stands.
    pub(crate) fn because(&self, reason: StopReason) {
        self.reason.lock().get_or_insert(reason);
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
}

/// The leases that a worker holds.
pub(crate) struct Leases {
    engine: Engine,
    ttl: Duration,
    held: Mutex<HashMap<LeaseId, Held>>,
}

impl Leases {
    pub(crate) fn new(engine: Engine, ttl: Duration) -> Self {
        Self { engine, ttl, held: Mutex::default() }
    }

    pub(crate) fn ttl_ms(&self) -> u64 {
        crate::retries::millis(self.ttl)
    }

    /// Keeps a lease alive from now on. `asked_at` is when its claim was sent: it cannot run out earlier than a lease's
    /// time after that.
    pub(crate) fn hold(&self, execution_id: ExecutionId, fence: Fence, stop: Stop, asked_at: Instant) {
        let held = Held { execution_id, fence, stop, until: asked_at + self.ttl };
        self.held.lock().insert(fence.lease_id, held);
    }

    /// Lets a lease go: its work has ended or is paused.
    pub(crate) fn let_go(&self, lease_id: LeaseId) {
        self.held.lock().remove(&lease_id);
    }

    /// Tells every handler to stop.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for held in self.held.lock().values() {
            held.stop.because(reason);
        }
    }

    /// Renews at a third of the lease, at once when something was ended from this process, and sooner again after a
    /// failure. Ends when `over` is cancelled: after the drain.
    pub(crate) async fn keep(&self, over: CancellationToken) {
        let third = self.ttl / 3;
        let mut wait = third;
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                () = self.engine.ended().notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let reached = self.renew_all().await;
            wait = if reached { third } else { (third / 4).max(Duration::from_millis(10)) };
        }
    }

    /// Whether every renewal was answered.
    async fn renew_all(&self) -> bool {
        let asked_at = Instant::now();
        let ttl_ms = self.ttl_ms();
        let renewals: Vec<RenewLeaseArgs> = self
            .held
            .lock()
            .values()
            .filter(|held| held.stop.reason().is_none_or(|r| r == StopReason::Shutdown))
            .map(|held| RenewLeaseArgs { execution_id: held.execution_id, fence: held.fence, lease_ttl_ms: ttl_ms })
            .collect();
        if renewals.is_empty() {
            return true;
        }
        let operations = renewals.iter().map(|args| Operation::RenewLease(*args)).collect();
        let results = self.engine.backend().execute_many(operations).await;
        let mut reached = true;
        let mut all = self.held.lock();
        for (args, result) in renewals.iter().zip(results) {
            let Some(held) = all.get_mut(&args.fence.lease_id) else { continue };
            match result {
                Ok(_) => held.until = asked_at + self.ttl,
                Err(error) if is_transport(&error) => {
                    reached = false;
                    if Instant::now() >= held.until {
                        held.stop.because(StopReason::LeaseLost);
                    }
                }
                Err(error) => {
                    let reason = why(&error);
                    tracing::debug!(execution = %held.execution_id, ?reason, %error, "lease not renewed");
                    held.stop.because(reason);
                }
            }
        }
        reached
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
