//! The pure parts, without server, lock or runtime: `cargo bench -p ff-bench`. A regression shows here first.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::condition::{Distinct, ResumeCondition, SignalView, evaluate};
use ff_core::contracts::{
    Actor, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs, CreateExecutionArgs, FlowEdgeSpec, FlowMemberSpec,
    SignalSource, SubmitFlowArgs,
};
use ff_core::ids::{
    DataName, ExecutionId, FlowId, Kid, LaneId, Namespace, SignalId, WaitpointId, WorkerId, WorkerInstanceId,
};
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::Capabilities;
use ff_core::time::TimestampMs;
use ff_core::token::{PartitionKey, PartitionKeys, WaitpointSecret, verify};
use uuid::Uuid;

const NOW: TimestampMs = TimestampMs::saturating(1_700_000_000_000);

fn creation(payload: &Bytes) -> CreateExecutionArgs {
    CreateExecutionArgs::builder()
        .execution_id(ExecutionId::from_parts(0, Uuid::now_v7()))
        .namespace(Namespace::new("bench").expect("a name"))
        .lane_id(LaneId::new("lane").expect("a name"))
        .kind("bench")
        .payload(payload.clone())
        .build()
}

fn claim() -> Operation {
    Operation::from(ClaimNextArgs {
        partition: 0,
        lane_id: LaneId::new("lane").expect("a name"),
        worker_id: WorkerId::new("bench").expect("a name"),
        worker_instance_id: WorkerInstanceId::new("bench-1").expect("a name"),
        capabilities: Capabilities::none(),
        slots: vec![ClaimSlot::new()],
        lease_ttl_ms: 60_000,
    })
}

/// Claims and completes the next one.
fn finish_next(model: &mut Model) {
    let Ok(Outcome::ClaimNext(next)) = model.apply(NOW, &claim()) else { panic!("no claim") };
    let claimed = next.claimed.first().expect("one is ready").claimed();
    let (id, fence) = (claimed.execution_id, claimed.fence);
    let done = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(fence)).build();
    model.apply(NOW, &done.into()).expect("completed");
}

fn rules(c: &mut Criterion) {
    for (name, bytes) in [("lifecycle, 4 KiB", 4096), ("lifecycle, empty", 0)] {
        let payload = Bytes::from(vec![7u8; bytes]);
        c.bench_function(name, |b| {
            let mut model = Model::new(Deployment::default());
            b.iter(|| {
                model.apply(NOW, &creation(&payload).into()).expect("created");
                finish_next(&mut model);
            });
        });
    }
    let name = |n: usize| DataName::new(format!("n{n}")).expect("a name");
    c.bench_function("chain of ten", |b| {
        let mut model = Model::new(Deployment::default());
        b.iter(|| {
            let lane = LaneId::new("lane").expect("a name");
            let member = |n| FlowMemberSpec::builder().name(name(n)).lane_id(lane.clone()).kind("bench").build();
            let edge = |n: usize| FlowEdgeSpec::builder().from(name(n - 1)).to(name(n)).build();
            let flow = SubmitFlowArgs::builder()
                .flow_id(FlowId::from_parts(0, Uuid::now_v7()))
                .namespace(Namespace::new("bench").expect("a name"))
                .flow_kind("bench")
                .members((0..10).map(member).collect::<Vec<_>>())
                .edges((1..10).map(edge).collect::<Vec<_>>())
                .build()
                .derive_ids();
            model.apply(NOW, &flow.into()).expect("submitted");
            (0..10).for_each(|_| finish_next(&mut model));
        });
    });
}

fn parts(c: &mut Criterion) {
    let payload = Bytes::from(vec![7u8; 4096]);
    let args = creation(&payload);
    c.bench_function("fingerprint of a creation, 4 KiB", |b| b.iter(|| black_box(&args).fingerprint()));

    let operation = Operation::from(args);
    let text = serde_json::to_string(&operation).expect("JSON");
    c.bench_function("operation to JSON, 4 KiB", |b| b.iter(|| serde_json::to_string(black_box(&operation))));
    c.bench_function("operation from JSON, 4 KiB", |b| b.iter(|| serde_json::from_str::<Operation>(black_box(&text))));

    let mut model = Model::new(Deployment::default());
    model.apply(NOW, &operation).expect("created");
    let partition = model.partitions().next().expect("touched");
    let record = partition.executions().next().expect("stored").record.clone();
    let id = record.execution_id;
    let flat = record.encode();
    c.bench_function("execution record, encode", |b| b.iter(|| black_box(&record).encode()));
    c.bench_function("execution record, decode", |b| {
        b.iter(|| ff_core::records::ExecutionRecord::decode(id, black_box(&flat)).expect("decodes"));
    });

    let (waitpoint, source) = (WaitpointId::new(), SignalSource::new("human", "ann"));
    let kid = Kid::new("k1").expect("a name");
    let key = PartitionKey::new(kid.clone(), WaitpointSecret::new([7; 32]), None);
    let keys = PartitionKeys { partition: 0, current_kid: Some(kid), keys: vec![key] };
    let mint = || ff_core::token::mint(&keys, id, waitpoint, Some(&source)).expect("a current key");
    let token = mint();
    c.bench_function("token, mint", |b| b.iter(mint));
    c.bench_function("token, verify", |b| {
        b.iter(|| verify(&keys, id, waitpoint, &source, black_box(&token)).expect("good"));
    });

    let condition = ResumeCondition::count(32, Distinct::Signals, "approve");
    let ids: Vec<SignalId> = (0..32).map(|_| SignalId::new()).collect();
    c.bench_function("condition of 32 signals", |b| {
        b.iter_batched(
            || {
                ids.iter().map(|signal_id| SignalView {
                    signal_id: *signal_id,
                    waitpoint_id: waitpoint,
                    name: "approve",
                    category: "custom",
                    source: &source,
                    correlation_id: None,
                    source_bound: true,
                })
            },
            |signals| evaluate(black_box(&condition), &[waitpoint], signals),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, rules, parts);
criterion_main!(benches);
