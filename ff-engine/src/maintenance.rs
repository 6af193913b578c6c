//! The background work of the store: due timers, and what cascades left over.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use ff_core::contracts::SweepArgs;
use ff_core::error::EngineError;
use ff_core::time::{Clock, SystemClock, TimestampMs};
use futures::stream::{self, StreamExt};
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

/// Partitions that are swept at once.
const AT_ONCE: usize = 4;

/// When a sweep is made again that did not get through.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// At once, as any other call.
    Repeat,
    /// In the next round: others wait for this one to end.
    NextRound,
}

/// The partitions that could not be swept, and why.
type Failing = BTreeMap<u16, EngineError>;

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
    /// The error of the first partition that has one; the others have been swept.
    pub async fn sweep(&self) -> Result<Swept> {
        let (swept, mut failing) = self.sweep_these(self.engine.partitions(), Again::Repeat).await;
        failing.pop_first().map_or(Ok(swept), |(_, error)| Err(error.into()))
    }

    /// Sweeps these partitions, some at a time: one that does not answer keeps no other from its turn.
    async fn sweep_these(&self, partitions: impl IntoIterator<Item = u16>, again: Again) -> (Swept, Failing) {
        let (mut all, mut failing) = (Swept::default(), Failing::new());
        let sweeps = stream::iter(partitions).map(|n| async move { (n, self.sweep_one(n, again).await) });
        let mut sweeps = sweeps.buffer_unordered(AT_ONCE);
        while let Some((partition, (swept, error))) = sweeps.next().await {
            all.done += swept.done;
            all.corrupt += swept.corrupt;
            all.next_due_at = [all.next_due_at, swept.next_due_at].into_iter().flatten().min();
            if let Some(error) = error {
                failing.insert(partition, error);
            }
        }
        metrics::counter!("ff_swept_total").increment(all.done);
        metrics::counter!("ff_sweep_corrupt_total").increment(all.corrupt);
        if all.done > 0 {
            self.engine.agenda().worked();
            // For workers whose backend cannot tell them that something became ready.
            self.engine.more_work().notify_waiters();
        }
        (all, failing)
    }

    async fn sweep_one(&self, partition: u16, again: Again) -> (Swept, Option<EngineError>) {
        let mut swept = Swept::default();
        loop {
            let asked = self.engine.agenda().asks(partition);
            let args = SweepArgs::builder().partition(partition).limit(1000).build();
            let report = match again {
                Again::Repeat => call!(self.engine, sweep(args)),
                Again::NextRound => self.engine.backend().sweep(args).await,
            };
            let report = match report {
                Ok(report) => report,
                Err(error) => return (swept, Some(error)),
            };
            swept.done += report.total();
            swept.corrupt += report.corrupt.len() as u64;
            // A report of nothing done with more due is damage or another process at work: not waited for.
            if !report.more || report.total() == 0 {
                self.engine.agenda().seen(asked, report.next_due_at);
                swept.next_due_at = report.next_due_at;
                return (swept, None);
            }
        }
    }

    /// Sweeps whenever something is due, until `shutdown` is ready. A failing round is logged, shown by
    /// [`Engine::health`], and tried again; it keeps no partition from being swept that can be.
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
        let mut failed_at = BTreeMap::new();
        while !stop.is_cancelled() {
            // Listened for before the look, so that no timer is missed that is armed during it.
            let sooner = agenda.sooner().notified();
            tokio::pin!(sooner);
            sooner.as_mut().enable();
            let (swept, failing) = self.sweep_these(due.iter().copied(), Again::NextRound).await;
            let error = failing.values().next();
            self.engine.swept(&swept, error);
            metrics::counter!("ff_sweep_rounds_total", "outcome" => if error.is_none() { "ok" } else { "failed" })
                .increment(1);
            failed_at.extend(failing.keys().map(|partition| (*partition, Instant::now())));
            let lag = agenda.next().map_or(0, |due| SystemClock.now().since(due));
            metrics::gauge!("ff_sweep_lag_seconds").set(Duration::from_millis(lag).as_secs_f64());
            if swept.done > 0 {
                sleep.reset();
            }
            if swept.corrupt > 0 {
                tracing::error!(entries = swept.corrupt, "sweep dropped entries of records that do not decode");
            }
            if let Some(error) = error {
                tracing::warn!(%error, partitions = ?failing.keys(), "sweep failed; trying again");
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
            // Nor is one that fails asked without pause, while others have work.
            failed_at.retain(|_, at| at.elapsed() < POLL);
            due.retain(|partition| !failed_at.contains_key(partition));
        }
    }
}
