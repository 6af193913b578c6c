//! Linear chains of ten: what a hop from a completion to the next claim costs.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::report::{Report, per_second};
use crate::target::{Target, count};
use crate::worker::{self, Times};

const NODES: usize = 10;

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let flows = (target.executions / 100 / target.workers).max(1);
    let before = target.usage().await?;
    let start = Instant::now();
    let times = worker::each(target, 0, |worker| async move {
        let mut times = Times::default();
        for _ in 0..flows {
            let flow = worker.flow(NODES, (1..NODES).map(|n| (n - 1, n)))?;
            worker.backend.submit_flow(flow).await?;
            // A worker that completes one step and takes the next one: each hop is two calls.
            let mut claim = worker.claim_one().await?;
            for _ in 1..NODES {
                let hop = Instant::now();
                worker.complete(&claim).await?;
                claim = worker.claim_one().await.context("the next of the chain")?;
                times.add("hop", hop.elapsed());
            }
            worker.complete(&claim).await?;
        }
        Ok(times)
    })
    .await?;
    let took = start.elapsed();
    let all = flows * target.workers;
    report.add("chain", "flows/s", per_second(all, took));
    let after = target.usage().await?;
    if target.server.is_some() {
        // The submission is one call more for each flow.
        let calls = after.calls - before.calls - count(all);
        report.add("chain", "calls/node", calls / count(all * NODES));
        report.add("chain", "server us/node", (after.cpu_us - before.cpu_us) / count(all * NODES));
        report.add("chain", "commands/node", after.commands_since(&before) / count(all * NODES));
    }
    Times::merge(times).report("chain", report);
    target.check().await
}
