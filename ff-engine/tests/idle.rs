//! What an idle worker costs, and how soon it is at work.
#![cfg(feature = "memory")]

#[cfg(feature = "valkey")]
mod common;

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
        // At first it looks at each lane in each partition; then it is quiet.
        while calls() < 1_600 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, since) = (calls(), Instant::now());
        tokio::time::sleep(Duration::from_secs(4)).await;
        let (made, seconds) = (calls() - before, since.elapsed().as_secs_f64());
        println!("{made} calls in {seconds:.1} s");
        // A call more for the second that has just begun.
        #[allow(clippy::cast_precision_loss)]
        let per_second = made.saturating_sub(5) as f64 / seconds;
        assert!(per_second <= 5.0, "{made} calls in {seconds:.1} s");
        // And still it is there at once.
        let since = Instant::now();
        let handle = engine.execution("job", &()).lane("lane-77").submit().await.expect("submitted");
        handle.wait().await.expect("known");
        // By looking around alone that lane's turn comes after 26 minutes.
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}

/// Submits a hundred executions one after the other, and says how long each took to be at work.
async fn starts(name: &str, engine: Engine) {
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
        println!("{name}: at work after p50 {:?}, p99 {:?}", waits[50], waits[98]);
        // The machine may do other things as well; a worker that only looks around takes half a second.
        assert!(waits[50] < Duration::from_millis(25), "{name}: {:?}", waits[50]);
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_execution_starts_within_milliseconds_of_its_submission() {
    starts("memory", Engine::connect("memory:").await.expect("an empty store")).await;
}

#[cfg(feature = "valkey")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_execution_starts_within_milliseconds_of_its_submission_to_a_server() {
    let server = common::server(&[]);
    starts("server", Engine::connect(&server.url()).await.expect("an empty store")).await;
}

#[cfg(feature = "valkey")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_hundred_idle_lanes_asks_its_server_about_five_times_a_second() {
    let server = common::server(&[]);
    // Calls of functions, by the server's own count; what these call in turn is not the client's.
    let calls = || {
        let stats = server.ask(&["INFO", "commandstats"]).expect("it answers");
        let calls = |line: &str| {
            let (name, rest) = line.split_once(":calls=")?;
            let n: u64 = rest.split(',').next()?.parse().ok()?;
            name.starts_with("cmdstat_fcall").then_some(n)
        };
        stats.lines().filter_map(calls).sum::<u64>()
    };
    let engine = Engine::connect(&server.url()).await.expect("an empty store");
    let mut worker =
        Worker::builder(&engine).handler("job", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) });
    for n in 0..100 {
        worker = worker.lane(format!("lane-{n}"));
    }
    let measure = async {
        // At first it looks at each lane in each partition, once. Then it is quiet.
        let quiet = async {
            loop {
                let before = calls();
                tokio::time::sleep(Duration::from_secs(1)).await;
                if before >= 1_600 && calls() - before <= 20 {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), quiet).await.expect("it becomes quiet");
        println!("server: {} calls at first", calls());
        assert!(calls() < 2_400, "{} calls: it looked twice", calls());
        let (before, since) = (calls(), Instant::now());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (made, seconds) = (calls() - before, since.elapsed().as_secs_f64());
        println!("server: {made} calls in {seconds:.1} s");
        #[allow(clippy::cast_precision_loss)]
        let per_second = made.saturating_sub(5) as f64 / seconds;
        assert!(per_second <= 5.0, "{made} calls in {seconds:.1} s");
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}

#[tokio::test]
async fn what_becomes_due_is_done_then_and_not_at_the_next_round() {
    let engine = Engine::connect("memory:").await.expect("an empty store");
    let worker = Worker::builder(&engine).handler("flaky", |ctx: Context, (): ()| async move {
        if ctx.attempt_index().get() < 20 { Err(TaskError::retryable("not yet")) } else { Ok(()) }
    });
    let measure = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        let retries = ff_engine::Retries::fixed(20, Duration::from_millis(40));
        let flaky = engine.execution("flaky", &()).delay(Duration::from_millis(60)).retries(retries);
        flaky.submit().await.expect("submitted").result::<()>().await.expect("the last attempt");
        // 60 ms of delay and 20 * 40 ms of backoff. At the next round it would be a second for each of them.
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(860) && took < Duration::from_secs(10), "{took:?}");
    };
    worker.build().expect("well put together").run_until(measure).await.expect("no refusal");
}
