//! A worker that is driven by hand, for tests.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::claims::{Round, Turns};
use super::run::{Core, work};
use crate::engine::Running;
use crate::error::Result;

/// A worker whose every step somebody else decides.
pub(crate) struct Bench {
    core: Arc<Core>,
    turns: Turns,
    _running: Running,
}

impl Bench {
    pub(crate) fn new(worker: Worker) -> Self {
        let core = worker.core;
        core.leases.by_hand();
        let running = core.engine.running(core.serving());
        Self { turns: Turns::new(&core.lanes), core, _running: running }
    }

    /// Takes what is ready and has a free slot; how many that were, and whether another look is worth it.
    pub(crate) async fn claim(&mut self, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(u64, bool)> {
        let free = self.core.concurrency.saturating_sub(self.core.leases.len());
        if free == 0 {
            return Ok((0, false));
        }
        let core = &self.core;
        let take = |claim| {
            tasks.spawn(work(Arc::clone(core), claim));
        };
        let Round { claimed, more } = core.claim(free, &mut self.turns, stop, take).await?;
        Ok((claimed as u64, more))
    }

    /// A third of its leases' time, if any is in use.
    pub(crate) fn third_of_lease_in_use(&self) -> Option<u64> {
        (self.core.leases.len() > 0).then(|| self.core.leases.ttl_ms() / 3)
    }

    pub(crate) async fn renew(&self) {
        self.core.leases.renew_and_refresh().await;
    }

    pub(crate) async fn released(&self) {
        self.core.leases.released().await;
    }
}
