//! What the scenarios do alike: a worker with a lane and a partition of its own, and its calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ff_core::condition::ResumeCondition;
use ff_core::contracts::{
    Actor, ClaimNextArgs, ClaimSlot, ClaimedExecution, CompleteExecutionArgs, CreateExecutionArgs, Fence, FlowEdgeSpec,
    FlowMemberSpec, NextClaim, SubmitFlowArgs, SuspendExecutionArgs, SuspensionReason, WaitpointBinding,
};
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{
    DataName, ExecutionId, FlowId, LaneId, Namespace, SuspensionId, WaitpointId, WorkerId, WorkerInstanceId,
};
use ff_core::operation::Operation;
use ff_core::policy::Capabilities;
use uuid::Uuid;

use crate::report::Report;
use crate::target::Target;

const LEASE_MS: u64 = 60_000;
/// How many operations are sent together.
pub(crate) const TOGETHER: usize = 64;

/// The namespace of everything.
pub(crate) fn namespace() -> Result<Namespace> {
    Ok(Namespace::new("bench")?)
}

/// A worker that meets just what was put into its lane.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) backend: Arc<dyn EngineBackend>,
    pub(crate) partition: u16,
    pub(crate) lane: LaneId,
    pub(crate) capabilities: Capabilities,
    namespace: Namespace,
    id: WorkerId,
    instance: WorkerInstanceId,
    payload: Bytes,
}

impl Worker {
    pub(crate) fn new(target: &Target, number: usize, payload: usize) -> Result<Self> {
        Ok(Self {
            backend: Arc::clone(&target.backend),
            partition: target.partition_of(number)?,
            lane: LaneId::new(format!("lane{number}"))?,
            capabilities: Capabilities::none(),
            namespace: namespace()?,
            id: WorkerId::new("bench")?,
            instance: WorkerInstanceId::new(format!("bench-{number}"))?,
            payload: Bytes::from(vec![7u8; payload]),
        })
    }

    pub(crate) fn creation(&self) -> CreateExecutionArgs {
        CreateExecutionArgs::builder()
            .execution_id(ExecutionId::from_parts(self.partition, Uuid::now_v7()))
            .namespace(self.namespace.clone())
            .lane_id(self.lane.clone())
            .kind("bench")
            .payload(self.payload.clone())
            .build()
    }

    /// Creates so many executions, many sent together, each changed by `change`.
    pub(crate) async fn create(&self, n: usize, change: impl Fn(&mut CreateExecutionArgs)) -> Result<()> {
        for start in (0..n).step_by(TOGETHER) {
            let creations = (start..n.min(start + TOGETHER)).map(|_| {
                let mut args = self.creation();
                change(&mut args);
                Operation::from(args)
            });
            self.send(creations.collect()).await?;
        }
        Ok(())
    }

    pub(crate) fn claim(&self, slots: usize) -> ClaimNextArgs {
        ClaimNextArgs {
            partition: self.partition,
            lane_id: self.lane.clone(),
            worker_id: self.id.clone(),
            worker_instance_id: self.instance.clone(),
            capabilities: self.capabilities.clone(),
            slots: (0..slots).map(|_| ClaimSlot::new()).collect(),
            lease_ttl_ms: LEASE_MS,
        }
    }

    /// Claims up to so many.
    pub(crate) async fn claim_up_to(&self, slots: usize) -> Result<Vec<NextClaim>> {
        Ok(self.backend.claim_next(self.claim(slots)).await?.claimed)
    }

    /// Claims the one that must be there.
    pub(crate) async fn claim_one(&self) -> Result<ClaimedExecution> {
        let claims = self.claim_up_to(1).await?;
        Ok(claims.first().context("nothing to claim")?.claimed().clone())
    }

    pub(crate) fn completion(execution_id: ExecutionId, fence: Fence) -> CompleteExecutionArgs {
        CompleteExecutionArgs::builder().execution_id(execution_id).actor(Actor::Worker(fence)).build()
    }

    pub(crate) async fn complete(&self, claim: &ClaimedExecution) -> Result<()> {
        self.backend.complete_execution(Self::completion(claim.execution_id, claim.fence)).await?;
        Ok(())
    }

    /// Sends operations, many together.
    pub(crate) async fn send(&self, mut operations: Vec<Operation>) -> Result<()> {
        while !operations.is_empty() {
            let rest = operations.split_off(operations.len().min(TOGETHER));
            for result in self.backend.execute_many(operations).await {
                result?;
            }
            operations = rest;
        }
        Ok(())
    }

    /// Claims up to `at_once` at a time and sends what `then` makes of them together, until so many are through.
    pub(crate) async fn serve(
        &self,
        n: usize,
        at_once: usize,
        then: impl Fn(&ClaimedExecution) -> Operation,
    ) -> Result<()> {
        let mut left = n;
        while left > 0 {
            let claims = self.claim_up_to(left.min(at_once)).await?;
            ensure!(!claims.is_empty(), "nothing to claim with {left} left");
            left -= claims.len();
            self.send(claims.iter().map(|claim| then(claim.claimed())).collect()).await?;
        }
        Ok(())
    }

    /// Claims up to 16 at a time and completes them together, until so many are done.
    pub(crate) async fn drain(&self, n: usize) -> Result<()> {
        self.serve(n, 16, |claim| Self::completion(claim.execution_id, claim.fence).into()).await
    }

    /// 64 creations together, then claims of up to 16 whose completions go together, until so many are done.
    pub(crate) async fn batches(&self, n: usize) -> Result<()> {
        for done in (0..n).step_by(TOGETHER) {
            let some = (n - done).min(TOGETHER);
            self.create(some, |_| ()).await?;
            self.drain(some).await?;
        }
        Ok(())
    }

    /// A flow in this worker's partition whose members and edges are named by their numbers.
    pub(crate) fn flow(&self, members: usize, edges: impl Iterator<Item = (usize, usize)>) -> Result<SubmitFlowArgs> {
        let name = |n: usize| DataName::new(format!("n{n}"));
        let members = (0..members)
            .map(|n| Ok(FlowMemberSpec::builder().name(name(n)?).lane_id(self.lane.clone()).kind("bench").build()))
            .collect::<Result<Vec<_>>>()?;
        let edges = edges
            .map(|(from, to)| Ok(FlowEdgeSpec::builder().from(name(from)?).to(name(to)?).build()))
            .collect::<Result<Vec<_>>>()?;
        Ok(SubmitFlowArgs::builder()
            .flow_id(FlowId::from_parts(self.partition, Uuid::now_v7()))
            .namespace(self.namespace.clone())
            .flow_kind("bench")
            .members(members)
            .edges(edges)
            .build())
    }
}

/// Puts a claimed execution to sleep until any signal arrives at a waitpoint of its own.
pub(crate) fn suspension(execution_id: ExecutionId, fence: Fence) -> SuspendExecutionArgs {
    SuspendExecutionArgs::builder()
        .execution_id(execution_id)
        .fence(fence)
        .suspension_id(SuspensionId::new())
        .waitpoints(vec![WaitpointBinding::fresh(WaitpointId::new())])
        .reason_code(SuspensionReason::WaitingForSignal)
        .resume_condition(ResumeCondition::any_signal())
        .build()
}

/// Runs a task for each worker, and gives what each brought.
pub(crate) async fn each<T, F>(target: &Target, payload: usize, task: impl Fn(Worker) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let workers = (0..target.workers).map(|n| Worker::new(target, n, payload)).collect::<Result<Vec<_>>>()?;
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(task(worker))).collect();
    futures::future::join_all(tasks).await.into_iter().map(|done| done?).collect()
}

/// Times by what was timed.
#[derive(Debug, Default)]
pub(crate) struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    pub(crate) fn add(&mut self, what: &'static str, time: Duration) {
        self.0.entry(what).or_default().push(time);
    }

    pub(crate) fn merge(all: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Self::default();
        for times in all {
            for (what, some) in times.0 {
                merged.0.entry(what).or_default().extend(some);
            }
        }
        merged
    }

    /// Reports median and 99th percentile of each, in microseconds.
    pub(crate) fn report(self, scenario: &str, report: &mut Report) {
        for (what, mut all) in self.0 {
            all.sort_unstable();
            let at = |of_100: usize| {
                let at = all.len().saturating_sub(1) * of_100 / 100;
                all.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
            };
            report.add(scenario, &format!("{what} p50, us"), at(50));
            report.add(scenario, &format!("{what} p99, us"), at(99));
        }
    }
}
