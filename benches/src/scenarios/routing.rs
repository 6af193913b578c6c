//! Executions over 50 requirement sets, 100 workers with mixed capabilities; the same with one set beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ff_core::contracts::DescribeExecutionArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::policy::{Capabilities, ExecutionPolicy};

use crate::report::{Report, per_second};
use crate::target::{Target, count};
use crate::worker::{Times, Worker};

const WORKERS: usize = 100;
const SETS: usize = 50;
/// Sets that one worker can serve: each set is served by many, no worker serves all.
const SERVED: usize = 10;

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    play(target, "routing", SETS, report).await?;
    play(target, "routing of one set", 1, report).await?;
    target.check().await
}

fn token(set: usize) -> String {
    format!("can-{set}")
}

async fn play(target: &Target, name: &str, sets: usize, report: &mut Report) -> Result<()> {
    let n = target.executions.max(sets);
    // All in one lane of one partition: there alone a claim has to choose among sets.
    let mut shared = Worker::new(target, 0, 0)?;
    shared.lane = ff_core::ids::LaneId::new(format!("routing{sets}"))?;
    for set in 0..sets {
        let policy = ExecutionPolicy::builder().required_capabilities(Capabilities::from([token(set)])).build();
        let policy = Arc::new(policy);
        let share = n / sets + usize::from(set < n % sets);
        shared.create(share, |args| args.policy = Arc::clone(&policy)).await?;
    }
    let before = target.usage().await?;
    let start = Instant::now();
    let tasks = (0..WORKERS).map(|number| {
        let mut worker = shared.clone();
        let served: Vec<String> = (0..SERVED).map(|k| token((number + k * SETS / SERVED) % sets)).collect();
        let distinct: BTreeSet<String> = served.into_iter().collect();
        tokio::spawn(async move {
            worker.capabilities = distinct.into_iter().collect();
            work(&worker).await
        })
    });
    let mut times = Vec::new();
    let (mut right, mut all) = (0, 0);
    for done in futures::future::join_all(tasks).await {
        let (some, correct, claims) = done??;
        times.push(some);
        right += correct;
        all += claims;
    }
    ensure!(all == n, "{all} claims of {n} executions");
    report.add(name, "claims/s", per_second(n, start.elapsed()));
    report.add(name, "correct routings", count(right) / count(all));
    target.report_usage(name, "lifecycle", n, &before, report).await?;
    Times::merge(times).report(name, report);
    Ok(())
}

/// Claims and completes until nothing is left for it: times of the claims that found something, how many were right, how
/// many there were.
async fn work(worker: &Worker) -> Result<(Times, usize, usize)> {
    let (mut times, mut right, mut all) = (Times::default(), 0, 0);
    loop {
        let start = Instant::now();
        let claims = worker.claim_up_to(1).await?;
        let Some(claim) = claims.first() else { return Ok((times, right, all)) };
        times.add("claim", start.elapsed());
        let claim = claim.claimed();
        let described = required(&*worker.backend, claim.execution_id).await?;
        right += usize::from(described.iter().all(|t| worker.capabilities.iter().any(|c| c == t)));
        all += 1;
        worker.complete(claim).await?;
    }
}

async fn required(backend: &dyn EngineBackend, id: ff_core::ids::ExecutionId) -> Result<Capabilities> {
    let shown =
        backend.describe_execution(DescribeExecutionArgs { execution_id: id }).await.context("what it requires")?;
    Ok(shown.policy.required_capabilities.clone())
}
