//! How fast the in-memory engine is: lifecycles (create, claim, complete) with 4 KiB payloads by one task and by 16, and
//! flows of ten members in a chain. Nothing else shall run meanwhile.
//!
//! `cargo run --release -p ff-backend-memory --example lifecycles [-- ROUNDS [SCENARIO]]`
//!
//! Each figure is the median of the rounds (five unless said), each on a fresh engine. On one core there is a second
//! figure, per second of that core's own time, which is steadier where others use the machine too (Linux only).
#![allow(clippy::print_stdout)] // a program that prints

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ff_backend_memory::MemoryBackend;
use ff_core::contracts::{
    Actor, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs, CreateExecutionArgs, FlowEdgeSpec, FlowMemberSpec,
    SubmitFlowArgs,
};
use ff_core::engine_backend::{ClaimOps, ExecutionOps, FlowOps};
use ff_core::ids::{DataName, ExecutionId, FlowId, LaneId, Namespace, WorkerId, WorkerInstanceId};
use ff_core::policy::{Capabilities, ExecutionPolicy};
use uuid::Uuid;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Lifecycles of one round, over all tasks.
const LIFECYCLES: usize = 10_000;
/// Flows of one round, and the members of each.
const FLOWS: usize = 320;
const MEMBERS: usize = 10;
const PAYLOAD: usize = 4096;
const TASKS: usize = 16;

/// What every call of one task has in common. Each task plays in a partition of its own.
struct Client {
    backend: MemoryBackend,
    partition: u16,
    namespace: Namespace,
    lane_id: LaneId,
    worker_id: WorkerId,
    worker_instance_id: WorkerInstanceId,
    policy: Arc<ExecutionPolicy>,
    payload: Bytes,
}

impl Client {
    fn new(backend: &MemoryBackend, task: usize, payload: usize) -> Fallible<Self> {
        Ok(Self {
            backend: backend.clone(),
            partition: u16::try_from(task)?,
            namespace: Namespace::new("bench")?,
            lane_id: LaneId::new("default")?,
            worker_id: WorkerId::new("worker")?,
            worker_instance_id: WorkerInstanceId::new(format!("worker-{task}"))?,
            policy: Arc::default(),
            payload: Bytes::from(vec![7; payload]),
        })
    }

    async fn create(&self) -> Fallible<()> {
        let args = CreateExecutionArgs::builder()
            .execution_id(ExecutionId::from_parts(self.partition, Uuid::now_v7()))
            .namespace(self.namespace.clone())
            .lane_id(self.lane_id.clone())
            .kind("job")
            .payload(self.payload.clone())
            .policy(Arc::clone(&self.policy))
            .build();
        self.backend.create_execution(args).await?;
        Ok(())
    }

    /// Claims up to `slots` and completes them: how many.
    async fn work(&self, slots: usize) -> Fallible<usize> {
        let args = ClaimNextArgs {
            partition: self.partition,
            lane_id: self.lane_id.clone(),
            worker_id: self.worker_id.clone(),
            worker_instance_id: self.worker_instance_id.clone(),
            capabilities: Capabilities::none(),
            slots: (0..slots).map(|_| ClaimSlot::new()).collect(),
            lease_ttl_ms: 30_000,
        };
        let taken = self.backend.claim_next(args).await?;
        for claim in &taken.claimed {
            let claimed = claim.claimed();
            let args = CompleteExecutionArgs::builder()
                .execution_id(claimed.execution_id)
                .actor(Actor::Worker(claimed.fence))
                .result("done")
                .build();
            self.backend.complete_execution(args).await?;
        }
        Ok(taken.claimed.len())
    }

    async fn lifecycles(self, n: usize) -> Fallible<()> {
        for _ in 0..n {
            self.create().await?;
            self.work(1).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn batches(self, n: usize) -> Fallible<()> {
        let mut left = n;
        while left > 0 {
            let batch = left.min(64);
            for _ in 0..batch {
                self.create().await?;
            }
            let mut done = 0;
            while done < batch {
                done += self.work(16).await?;
            }
            left -= batch;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn chains(self, n: usize) -> Fallible<()> {
        let names = (0..MEMBERS).map(|i| DataName::new(format!("m{i}"))).collect::<Result<Vec<_>, _>>()?;
        for _ in 0..n {
            let member = |name: &DataName| {
                FlowMemberSpec::builder()
                    .name(name.clone())
                    .lane_id(self.lane_id.clone())
                    .kind("step")
                    .policy(Arc::clone(&self.policy))
                    .build()
            };
            let edge = |pair: &[DataName]| FlowEdgeSpec::builder().from(pair[0].clone()).to(pair[1].clone()).build();
            let args = SubmitFlowArgs::builder()
                .flow_id(FlowId::from_parts(self.partition, Uuid::now_v7()))
                .namespace(self.namespace.clone())
                .flow_kind("chain")
                .members(names.iter().map(member).collect())
                .edges(names.windows(2).map(edge).collect())
                .build();
            self.backend.submit_flow(args).await?;
            for _ in 0..MEMBERS {
                self.work(1).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Work {
    Single,
    Batched,
    Chain,
}

/// How long this thread has had a core so far, where the system tells.
fn own_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// One round on a fresh engine: what was done per second, and per second of this thread's own time.
fn round(work: Work, tasks: usize, threads: usize, payload: usize) -> Fallible<(f64, f64)> {
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?
    };
    let backend = MemoryBackend::new();
    let total = if matches!(work, Work::Chain) { FLOWS } else { LIFECYCLES };
    let clients = (0..tasks).map(|task| Client::new(&backend, task, payload)).collect::<Fallible<Vec<_>>>()?;
    let (took, busy) = runtime.block_on(async {
        let (start, before) = (Instant::now(), own_time());
        let mut running = Vec::new();
        for client in clients {
            running.push(tokio::spawn(async move {
                match work {
                    Work::Single => client.lifecycles(total / tasks).await,
                    Work::Batched => client.batches(total / tasks).await,
                    Work::Chain => client.chains(total / tasks).await,
                }
            }));
        }
        for task in running {
            task.await??;
        }
        let took = start.elapsed();
        let busy = own_time().zip(before).map_or(took, |(now, before)| now - before);
        Fallible::<(Duration, Duration)>::Ok((took, busy))
    })?;
    #[allow(clippy::cast_precision_loss)] // thousands
    let done = (total / tasks * tasks) as f64;
    Ok((done / took.as_secs_f64(), done / busy.as_secs_f64()))
}

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let wanted = arguments.next();
    let threads = std::thread::available_parallelism()?.get();
    let scenarios = [
        ("lifecycle, 1 task", "lifecycles/s", Work::Single, 1, 1, PAYLOAD),
        ("lifecycle, 16 tasks on one core", "lifecycles/s", Work::Single, TASKS, 1, PAYLOAD),
        ("lifecycle, 16 tasks on all cores", "lifecycles/s", Work::Single, TASKS, threads, PAYLOAD),
        ("lifecycle batched, 16 tasks on one core", "lifecycles/s", Work::Batched, TASKS, 1, PAYLOAD),
        ("lifecycle without payload, 16 tasks on one core", "lifecycles/s", Work::Single, TASKS, 1, 0),
        ("chain, 16 tasks on one core", "flows/s", Work::Chain, TASKS, 1, 0),
        ("chain, 16 tasks on all cores", "flows/s", Work::Chain, TASKS, threads, 0),
    ];
    println!("{threads} cores, {rounds} rounds, medians; payload {PAYLOAD} bytes");
    for (name, unit, work, tasks, threads, payload) in scenarios {
        if wanted.as_deref().is_some_and(|wanted| !name.starts_with(wanted)) {
            continue;
        }
        let mut figures = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            figures.push(round(work, tasks, threads, payload)?);
        }
        let median = |mut of: Vec<f64>| {
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        };
        let (wall, own): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
        let per_core = if threads == 1 { format!("{:>10.0} per core second", median(own)) } else { String::new() };
        println!("{name:<48} {:>10.0} {unit:<13}{per_core}", median(wall));
    }
    Ok(())
}
