//! What an idle worker costs, and how soon it is at work.
#![cfg(feature = "memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_engine::{Context, Engine, TaskError, Worker};

/// Counts calls.
#[derive(Default)]
struct Count(AtomicU64);

#[async_trait]
impl Layer for Count {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        dispatch(inner, operation).await
    }
}

#[tokio::test]
async fn a_worker_with_a_hundred_idle_lanes_makes_about_five_calls_a_second() {
    let counted = Layered::new(Arc::new(MemoryBackend::new()), Count::default());
    let engine = Engine::with_backend(Arc::new(counted.clone())).await.expect("opens");
    let mut worker =
        Worker::builder(&engine).handler("job", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) });
    for n in 0..100 {
        worker = worker.lane(format!("lane-{n}"));
    }
    let calls = || counted.layer().0.load(Ordering::SeqCst);
    let measure = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let before = calls();
        assert!(before >= 1_600, "it has looked at each lane in each partition once: {before}");
        tokio::time::sleep(Duration::from_secs(4)).await;
        let made = calls() - before;
        assert!(made <= 22, "{made} calls in 4 s");
        // And still it is there at once.
        let since = Instant::now();
        let handle = engine.execution("job", &()).lane("lane-77").submit().await.expect("submitted");
        handle.wait().await.expect("known");
        assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_execution_starts_within_milliseconds_of_its_submission() {
    let engine = Engine::connect("memory:").await.expect("an empty store");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::builder(&engine).handler("job", move |_: Context, (): ()| {
        let _ = tell.send(Instant::now());
        async move { Ok::<_, TaskError>(()) }
    });
    let measure = async {
        let mut waits = Vec::new();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let since = Instant::now();
            engine.execution("job", &()).submit().await.expect("submitted");
            waits.push(told.recv().await.expect("it runs").duration_since(since));
        }
        waits.sort();
        // The best measure on a machine that does other things as well.
        assert!(waits[50] < Duration::from_millis(10), "{:?}", waits[50]);
        println!("p50 {:?}, p99 {:?}", waits[50], waits[98]);
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}

#[tokio::test]
async fn what_becomes_due_is_done_then_and_not_at_the_next_round() {
    let engine = Engine::connect("memory:").await.expect("an empty store");
    let worker = Worker::builder(&engine).handler("flaky", |ctx: Context, (): ()| async move {
        if ctx.attempt_index().get() < 3 { Err(TaskError::retryable("not yet")) } else { Ok(()) }
    });
    let measure = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        let retries = ff_engine::Retries::fixed(3, Duration::from_millis(40));
        let flaky = engine.execution("flaky", &()).delay(Duration::from_millis(60)).retries(retries);
        flaky.submit().await.expect("submitted").result::<()>().await.expect("the fourth attempt");
        // 60 ms of delay and 3 * 40 ms of backoff; the waiter looks every 100 ms.
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(180) && took < Duration::from_millis(600), "{took:?}");
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}
