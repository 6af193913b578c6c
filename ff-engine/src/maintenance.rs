//! The background work of the store: due timers, and what cascades left over.

use std::future::Future;

use ff_core::contracts::SweepArgs;
use ff_core::time::TimestampMs;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::Result;
use crate::repeat::call;
use crate::wake::Sleep;

/// What a round over all partitions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Timers fired and backlog steps taken.
    pub done: u64,
    /// Entries whose record cannot be decoded; an operator must look.
    pub corrupt: u64,
    /// The earliest due instant of all partitions afterwards.
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
        let mut swept = Swept::default();
        for partition in self.engine.partitions() {
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
            swept.next_due_at = [swept.next_due_at, next_due_at].into_iter().flatten().min();
        }
        Ok(swept)
    }

    /// Sweeps whenever something is due, until `shutdown` is ready. A failing round is logged and tried again.
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
        let mut sleep = Sleep::default();
        while !stop.is_cancelled() {
            let next_due_at = match self.sweep().await {
                Ok(swept) => {
                    if swept.done > 0 {
                        sleep.reset();
                    }
                    if swept.corrupt > 0 {
                        tracing::error!(entries = swept.corrupt, "sweep dropped entries of records that do not decode");
                    }
                    swept.next_due_at
                }
                Err(error) => {
                    tracing::warn!(%error, "sweep failed; trying again");
                    None
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(sleep.until(next_due_at)) => {}
            }
        }
    }
}
