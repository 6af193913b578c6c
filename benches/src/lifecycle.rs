//! Create, claim, complete: the life of an execution that nothing disturbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ff_core::contracts::{
    Actor, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs, CreateExecutionArgs, RebuildIndexesArgs,
};
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{ExecutionId, LaneId, Namespace, WorkerId, WorkerInstanceId};
use ff_core::operation::Operation;
use ff_core::policy::Capabilities;
use uuid::Uuid;

use crate::Target;
use crate::report::{Report, per_second, server_cpu};

const LEASE_MS: u64 = 60_000;

struct Worker {
    backend: Arc<dyn EngineBackend>,
    partition: u16,
    lane: LaneId,
    namespace: Namespace,
    id: WorkerId,
    instance: WorkerInstanceId,
    payload: Bytes,
}

impl Worker {
    fn new(target: &Target, number: usize, payload: usize) -> Result<Self> {
        let partitions = target.backend.deployment().partitions.partitions();
        Ok(Self {
            backend: Arc::clone(&target.backend),
            partition: u16::try_from(number)? % partitions,
            // A lane of its own: each worker meets just what it created.
            lane: LaneId::new(format!("lane{number}"))?,
            namespace: Namespace::new("bench")?,
            id: WorkerId::new("bench")?,
            instance: WorkerInstanceId::new(format!("bench-{number}"))?,
            payload: Bytes::from(vec![7u8; payload]),
        })
    }

    fn creation(&self) -> CreateExecutionArgs {
        CreateExecutionArgs::builder()
            .execution_id(ExecutionId::from_parts(self.partition, Uuid::now_v7()))
            .namespace(self.namespace.clone())
            .lane_id(self.lane.clone())
            .kind("bench")
            .payload(self.payload.clone())
            .build()
    }

    fn claim(&self, slots: usize) -> ClaimNextArgs {
        ClaimNextArgs {
            partition: self.partition,
            lane_id: self.lane.clone(),
            worker_id: self.id.clone(),
            worker_instance_id: self.instance.clone(),
            capabilities: Capabilities::none(),
            slots: (0..slots).map(|_| ClaimSlot::new()).collect(),
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// One after another, as a caller that has one thing to do.
    async fn single(&self, n: usize) -> Result<[Vec<Duration>; 3]> {
        let mut times = [Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n)];
        for _ in 0..n {
            let start = Instant::now();
            self.backend.create_execution(self.creation()).await?;
            let created = Instant::now();
            let next = self.backend.claim_next(self.claim(1)).await?;
            let claimed = Instant::now();
            let claim = next.claimed.first().context("a claim")?.claimed();
            let done = CompleteExecutionArgs::builder()
                .execution_id(claim.execution_id)
                .actor(Actor::Worker(claim.fence))
                .build();
            self.backend.complete_execution(done).await?;
            let completed = Instant::now();
            times[0].push(created - start);
            times[1].push(claimed - created);
            times[2].push(completed - claimed);
        }
        Ok(times)
    }

    /// 64 creations together, then claims of up to 16 whose completions go together.
    async fn batched(&self, n: usize) -> Result<usize> {
        let mut done = 0;
        while done < n {
            let some = (n - done).min(64);
            let creations = (0..some).map(|_| Operation::from(self.creation())).collect();
            for result in self.backend.execute_many(creations).await {
                result?;
            }
            let mut left = some;
            while left > 0 {
                let next = self.backend.claim_next(self.claim(left.min(16))).await?;
                ensure!(!next.claimed.is_empty(), "nothing to claim with {left} left");
                left -= next.claimed.len();
                let ends = next.claimed.iter().map(|claim| {
                    let claim = claim.claimed();
                    Operation::from(
                        CompleteExecutionArgs::builder()
                            .execution_id(claim.execution_id)
                            .actor(Actor::Worker(claim.fence))
                            .build(),
                    )
                });
                for result in self.backend.execute_many(ends.collect()).await {
                    result?;
                }
            }
            done += some;
        }
        Ok(done)
    }
}

/// A percentile of sorted times, in microseconds.
fn percentile(sorted: &[Duration], of_100: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * of_100 / 100;
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

pub(crate) async fn single(target: &Target, name: &str, payload: usize, report: &mut Report) -> Result<()> {
    let each = target.executions / target.workers;
    let before = commands(target).await?;
    let start = Instant::now();
    let tasks = (0..target.workers).map(|number| {
        let worker = Worker::new(target, number, payload);
        tokio::spawn(async move { worker?.single(each).await })
    });
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for task in futures::future::join_all(tasks).await {
        for (all, some) in times.iter_mut().zip(task??) {
            all.extend(some);
        }
    }
    let took = start.elapsed();
    finish(target, name, each * target.workers, took, before, report).await?;
    for (operation, mut all) in ["create", "claim", "complete"].into_iter().zip(times) {
        all.sort_unstable();
        report.add(name, &format!("{operation} p50, us"), percentile(&all, 50));
        report.add(name, &format!("{operation} p99, us"), percentile(&all, 99));
    }
    Ok(())
}

pub(crate) async fn batched(target: &Target, report: &mut Report) -> Result<()> {
    let each = target.executions / target.workers;
    let before = commands(target).await?;
    let start = Instant::now();
    let tasks = (0..target.workers).map(|number| {
        let worker = Worker::new(target, number, 4096);
        tokio::spawn(async move { worker?.batched(each).await })
    });
    let mut n = 0;
    for task in futures::future::join_all(tasks).await {
        n += task??;
    }
    finish(target, "batched", n, start.elapsed(), before, report).await
}

/// The server's time and how often it ran each command.
type Before = Option<(f64, BTreeMap<String, f64>)>;

async fn commands(target: &Target) -> Result<Before> {
    let Some(mut server) = target.server.clone() else { return Ok(None) };
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut server).await?;
    let counts = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    let counts = counts.collect();
    Ok(Some((server_cpu(&mut server).await?, counts)))
}

/// Reports the rate, the server's part, and that the state is sound.
async fn finish(
    target: &Target,
    name: &str,
    n: usize,
    took: Duration,
    before: Before,
    report: &mut Report,
) -> Result<()> {
    #[allow(clippy::cast_precision_loss)] // counts of a benchmark
    let count = n as f64;
    report.add(name, "lifecycles/s", per_second(n, took));
    if let (Some((cpu, counts)), Some((cpu_after, counts_after))) = (before, commands(target).await?) {
        report.add(name, "server us/lifecycle", (cpu_after - cpu) / count);
        let made: f64 = counts_after
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "fcall" | "info"))
            .map(|(name, calls)| calls - counts.get(name).copied().unwrap_or_default())
            .sum();
        report.add(name, "commands/lifecycle", made / count);
    }
    // A rate of a store that has lost something is worth nothing.
    for partition in 0..target.backend.deployment().partitions.partitions() {
        let mut cursor = None;
        loop {
            let mut args = RebuildIndexesArgs::builder().partition(partition).limit(1000).build();
            args.cursor = cursor;
            let page = target.backend.rebuild_indexes(args).await?;
            ensure!(page.total() == 0 && page.corrupt.is_empty(), "the state is not sound: {page:?}");
            let Some(next) = page.next_cursor else { break };
            cursor = Some(next);
        }
    }
    Ok(())
}
