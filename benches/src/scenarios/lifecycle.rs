//! Create, claim, complete: the life of an execution that nothing disturbs.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::report::{Report, per_second};
use crate::target::{Target, Usage};
use crate::worker::{self, Times, Worker};

/// One after another, as a caller that has one thing to do.
pub(crate) async fn one_by_one(worker: &Worker, n: usize) -> Result<Times> {
    let mut times = Times::default();
    for _ in 0..n {
        let start = Instant::now();
        worker.backend.create_execution(worker.creation()).await?;
        let created = Instant::now();
        let claim = worker.claim_one().await?;
        let claimed = Instant::now();
        worker.complete(&claim).await?;
        times.add("create", created - start);
        times.add("claim", claimed - created);
        times.add("complete", claimed.elapsed());
    }
    Ok(times)
}

pub(crate) async fn single(target: &Target, name: &str, payload: usize, report: &mut Report) -> Result<()> {
    let n = (target.executions / target.workers).max(1);
    let before = target.usage().await?;
    let start = Instant::now();
    let times = worker::each(target, payload, |worker| async move { one_by_one(&worker, n).await }).await?;
    finish(target, name, n * target.workers, start.elapsed(), &before, report).await?;
    Times::merge(times).report(name, report);
    target.check().await
}

pub(crate) async fn batched(target: &Target, report: &mut Report) -> Result<()> {
    let n = (target.executions / target.workers).max(1);
    let before = target.usage().await?;
    let start = Instant::now();
    worker::each(target, 4096, |worker| async move { worker.batches(n).await }).await?;
    finish(target, "batched", n * target.workers, start.elapsed(), &before, report).await?;
    target.check().await
}

async fn finish(
    target: &Target,
    name: &str,
    n: usize,
    took: Duration,
    before: &Usage,
    report: &mut Report,
) -> Result<()> {
    report.add(name, "lifecycles/s", per_second(n, took));
    target.report_usage(name, "lifecycle", n, before, report).await
}
