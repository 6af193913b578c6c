//! What the metrics facade is told: the documented names, with their labels.
#![cfg(feature = "memory")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_core::bounds::Deployment;
use ff_core::contracts::ListExecutionsResult;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::partition::PartitionConfig;
use ff_core::time::SystemClock;
use ff_engine::{Context, Engine, TaskError, Worker};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// The first page of every list is empty, as when it stands for many that were passed over.
struct EmptyFirst;

#[async_trait]
impl Layer for EmptyFirst {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        match operation {
            Operation::ListExecutions(args) if args.cursor.is_none() => {
                let (executions, next_cursor) = (Vec::new(), Some("begin".into()));
                Ok(Outcome::ListExecutions(ListExecutionsResult { executions, next_cursor }))
            }
            Operation::ListExecutions(mut args) if args.cursor.as_deref() == Some("begin") => {
                args.cursor = None;
                dispatch(inner, Operation::ListExecutions(args)).await
            }
            other => dispatch(inner, other).await,
        }
    }
}

#[test]
fn operations_attempts_waits_and_sweeps_are_counted() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    recorder.install().expect("the only one of this process");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let deployment = Deployment { partitions: PartitionConfig::new(1).expect("a number"), ..Deployment::default() };
        let memory = MemoryBackend::open(deployment, Arc::new(SystemClock));
        let engine = Engine::with_backend(Arc::new(Layered::new(Arc::new(memory), EmptyFirst))).await.expect("opens");
        let handles = [
            engine.execution("good", &()).submit().await.expect("submitted"),
            engine.execution("bad", &()).submit().await.expect("submitted"),
            engine.execution("late", &()).deadline(Duration::from_millis(50)).submit().await.expect("submitted"),
        ];
        // Waits for ever: nobody has a handler for it on its lane.
        engine.execution("good", &()).lane("quiet").requires(["gpu"]).submit().await.expect("submitted");
        let worker = Worker::builder(&engine)
            .handler("good", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) })
            .handler("late", |ctx: Context, (): ()| async move {
                ctx.cancelled().await;
                // An answer at this very instant would still count.
                std::future::pending::<Result<(), TaskError>>().await
            })
            .grace(Duration::from_millis(10))
            .handler("bad", |_: Context, (): ()| async move { Err::<(), _>(TaskError::permanent("no")) })
            .lane("default")
            .lane("quiet")
            .lane("idle")
            .lane_gauges(Duration::from_millis(100))
            .build()
            .expect("well put together");
        let done = async {
            for handle in &handles {
                handle.wait().await.expect("known");
            }
            // Nobody has a handler for it.
            engine.execution("unknown", &()).submit().await.expect("submitted");
            // Two looks at the lanes after that.
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(engine.handle(handles[0].id()).cancel("zoe", "").await.is_err(), "it has ended");
        };
        worker.run_until(done).await.expect("no refusal");
    });
    let told: BTreeMap<String, DebugValue> = told
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let key = key.key();
            let labels: BTreeMap<&str, &str> = key.labels().map(|l| (l.key(), l.value())).collect();
            let labels: Vec<String> = labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
            (format!("{}{{{}}}", key.name(), labels.join(",")), value)
        })
        .collect();
    let counter = |name: &str| match told.get(name) {
        Some(DebugValue::Counter(n)) => *n,
        other => panic!("{name}: {other:?} in {:#?}", told.keys()),
    };
    assert_eq!(counter("ff_operations_total{operation=create_execution,outcome=ok}"), 5);
    assert_eq!(counter("ff_no_handler_total{kind=unknown}"), 1);
    assert_eq!(counter("ff_attempts_total{end=given_back,kind=unknown}"), 1);
    assert_eq!(counter("ff_operations_total{operation=cancel_execution,outcome=execution_terminal}"), 1);
    assert_eq!(counter("ff_attempts_total{end=completed,kind=good}"), 1);
    assert_eq!(counter("ff_attempts_total{end=failed,kind=bad}"), 1);
    assert_eq!(counter("ff_leases_ended_early_total{reason=deadline_passed}"), 1);
    assert!(counter("ff_sweeps_total{outcome=ok}") >= 1);
    let gauge = |name: &str| match told.get(name) {
        Some(DebugValue::Gauge(n)) => n.into_inner(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(gauge("ff_handlers_running{kind=good}").abs() < 1e-9);
    assert!((gauge("ff_lane_executions{lane=default,state=completed}") - 1.0).abs() < 1e-9);
    assert!(gauge("ff_lane_oldest_seconds{lane=idle}").abs() < 1e-9, "nothing waits there");
    assert!(gauge("ff_lane_oldest_seconds{lane=quiet}") >= 0.1);
    assert!(gauge("ff_sweep_failing_partitions{}").abs() < 1e-9);
    for name in
        ["ff_operation_seconds{operation=claim_next}", "ff_wait_seconds{lane=default}", "ff_attempt_seconds{kind=good}"]
    {
        assert!(matches!(told.get(name), Some(DebugValue::Histogram(values)) if !values.is_empty()), "{name}");
    }
}
