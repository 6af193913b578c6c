//! One root, many children, one sink: as one flow of 1,000 children, and as ten of 100.

use std::time::Instant;

use anyhow::{Context, Result};
use ff_core::contracts::{CreateExecutionArgs, CreateFlowArgs, FlowJoin, SealFlowArgs, StageDependencyEdgeArgs};
use ff_core::ids::{EdgeId, ExecutionId, FlowId};
use ff_core::operation::Operation;
use uuid::Uuid;

use crate::report::{Report, per_second};
use crate::target::Target;
use crate::worker::{Worker, namespace};

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let children = (target.executions / 10).clamp(10, 1000);
    play(target, "fan", 1, children, report).await?;
    play(target, "fan of ten flows", 10, children / 10, report).await
}

async fn play(target: &Target, name: &str, flows: usize, children: usize, report: &mut Report) -> Result<()> {
    let before = target.usage().await?;
    let start = Instant::now();
    let tasks = (0..flows).map(|number| {
        let worker = Worker::new(target, number, 0);
        tokio::spawn(async move { fan(&worker?, children).await })
    });
    for done in futures::future::join_all(tasks).await {
        done??;
    }
    let took = start.elapsed();
    let edges = flows * children * 2;
    report.add(name, "s", took.as_secs_f64());
    report.add(name, "edges/s", per_second(edges, took));
    target.report_usage(name, "edge", edges, &before, report).await?;
    target.check().await
}

async fn fan(worker: &Worker, children: usize) -> Result<()> {
    let flow_id = FlowId::from_parts(worker.partition, Uuid::now_v7());
    let flow = CreateFlowArgs::builder().flow_id(flow_id).namespace(namespace()?).flow_kind("fan").build();
    worker.backend.create_flow(flow).await?;
    let member = || {
        let mut args = worker.creation();
        args.flow = Some(FlowJoin::held(flow_id));
        args
    };
    let (root, sink) = (member(), member());
    let (root_id, sink_id) = (root.execution_id, sink.execution_id);
    let inner: Vec<CreateExecutionArgs> = (0..children).map(|_| member()).collect();
    let ids: Vec<ExecutionId> = inner.iter().map(|args| args.execution_id).collect();
    worker.send([root, sink].into_iter().chain(inner).map(Operation::from).collect()).await?;
    let edge = |from: ExecutionId, to: ExecutionId| {
        let args = StageDependencyEdgeArgs::builder()
            .flow_id(flow_id)
            .edge_id(EdgeId::new())
            .upstream_execution_id(from)
            .downstream_execution_id(to)
            .build();
        Operation::from(args)
    };
    worker.send(ids.iter().flat_map(|id| [edge(root_id, *id), edge(*id, sink_id)]).collect()).await?;
    worker.backend.seal_flow(SealFlowArgs::builder().flow_id(flow_id).build()).await?;

    let root = worker.claim_one().await.context("the root")?;
    worker.complete(&root).await?;
    // One ending frees at most 128 others in its own call; the claims that follow free the rest.
    worker.drain(children).await.context("the children")?;
    let sink = worker.claim_one().await.context("the sink")?;
    anyhow::ensure!(sink.execution_id == sink_id, "the sink came last");
    worker.complete(&sink).await
}
