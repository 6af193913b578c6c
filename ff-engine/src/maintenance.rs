//! The background work of the store: due timers, and what cascades left over.

use std::future::Future;
use std::time::Duration;

use ff_core::contracts::SweepArgs;
use ff_core::time::{Clock, SystemClock, TimestampMs};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::Result;
use crate::repeat::call;
use crate::wake::Sleep;

/// Partitions that an idle process sweeps in a second although nothing is known to be due: another process may have
/// armed a timer there.
const IDLE_SWEEPS: usize = 4;

/// How often partitions are swept in which nothing is known to be due; no longer than the longest sleep.
const POLL: Duration = Duration::from_millis(990);

/// What a round over all partitions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Timers fired and backlog steps taken.
    pub done: u64,
    /// Entries whose record cannot be decoded; an operator must look.
    pub corrupt: u64,
    /// The earliest due instant of the swept partitions afterwards.
    pub next_due_at: Option<TimestampMs>,
}

/// Sweeps all partitions. Safe in every process at once.
#[derive(Clone, Debug)]
pub struct Maintenance {
    engine: Engine,
}

impl Maintenance {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// One round: sweeps each partition until nothing more is due in it.
    ///
    /// # Errors
    /// The backend's errors; partitions before the failing one have been swept.
    pub async fn sweep(&self) -> Result<Swept> {
        self.sweep_these(self.engine.partitions()).await
    }

    async fn sweep_these(&self, partitions: impl IntoIterator<Item = u16>) -> Result<Swept> {
        let mut swept = Swept::default();
        for partition in partitions {
            let next_due_at = loop {
                let args = SweepArgs::builder().partition(partition).limit(1000).build();
                let report = call!(self.engine, sweep(args))?;
                swept.done += report.total();
                swept.corrupt += report.corrupt.len() as u64;
                // A report of nothing done with more due is damage or another process at work: not waited for.
                if !report.more || report.total() == 0 {
                    break report.next_due_at;
                }
            };
            self.engine.agenda().seen(partition, next_due_at);
            swept.next_due_at = [swept.next_due_at, next_due_at].into_iter().flatten().min();
        }
        metrics::counter!("ff_swept_total").increment(swept.done);
        metrics::counter!("ff_sweep_corrupt_total").increment(swept.corrupt);
        if swept.done > 0 {
            self.engine.agenda().worked();
            // For workers whose backend cannot tell them that something became ready.
            self.engine.more_work().notify_waiters();
        }
        Ok(swept)
    }

    /// Sweeps whenever something is due, until `shutdown` is ready. A failing round is logged, shown by
    /// [`Engine::health`], and tried again.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let rounds = self.rounds(stop.clone());
        tokio::pin!(rounds);
        tokio::select! {
            () = shutdown => {
                stop.cancel();
                rounds.await;
            }
            () = &mut rounds => {}
        }
    }

    pub(crate) async fn rounds(&self, stop: CancellationToken) {
        let agenda = self.engine.agenda();
        let mut sleep = Sleep::default();
        let all: Vec<u16> = self.engine.partitions().collect();
        // The first round is over all.
        let (mut due, mut turn, mut polled_at) = (all.clone(), 0, Instant::now());
        while !stop.is_cancelled() {
            // Listened for before the look, so that no timer is missed that is armed during it.
            let sooner = agenda.sooner().notified();
            tokio::pin!(sooner);
            sooner.as_mut().enable();
            let swept = self.sweep_these(due.iter().copied()).await;
            self.engine.swept(swept.as_ref());
            metrics::counter!("ff_sweep_rounds_total", "outcome" => if swept.is_ok() { "ok" } else { "failed" })
                .increment(1);
            let lag = agenda.next().map_or(0, |due| SystemClock.now().since(due));
            metrics::gauge!("ff_sweep_lag_seconds").set(Duration::from_millis(lag).as_secs_f64());
            match swept {
                Ok(swept) => {
                    if swept.done > 0 {
                        sleep.reset();
                    }
                    if swept.corrupt > 0 {
                        tracing::error!(entries = swept.corrupt, "sweep dropped entries of records that do not decode");
                    }
                }
                Err(error) => tracing::warn!(%error, "sweep failed; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = &mut sooner => {}
                () = tokio::time::sleep(sleep.until(agenda.next())) => {}
            }
            due = agenda.due();
            // Not only what is known to be due: another process may have armed a timer.
            if polled_at.elapsed() >= POLL {
                polled_at = Instant::now();
                let polled = if agenda.is_busy() { all.len() } else { IDLE_SWEEPS.min(all.len()) };
                for _ in 0..polled {
                    let Some(partition) = all.get(turn % all.len()) else { break };
                    turn = (turn + 1) % all.len();
                    if !due.contains(partition) {
                        due.push(*partition);
                    }
                }
            }
        }
    }
}
