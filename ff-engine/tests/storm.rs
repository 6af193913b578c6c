//! Flaky handlers, panics and killed workers: every execution ends, and the ledger agrees.
#![cfg(feature = "memory")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ff_backend_memory::MemoryBackend;
use ff_core::state::PublicState;
use ff_engine::{AttemptEnd, Context, Engine, QuotaLimits, Retries, TaskError, Worker};
use parking_lot::Mutex;
use tokio::time::timeout;

const EXECUTIONS: u32 = 2_000;
const DEADLY: u64 = 6;

/// A number that looks random and is the same every time.
const fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_execution_ends_once_whatever_its_workers_do() {
    let memory = MemoryBackend::new();
    let engine = Engine::with_backend(Arc::new(memory.clone())).await.expect("opens");
    let quota = engine.quota("narrow").expect("a name");
    quota.create(QuotaLimits::concurrent(8)).await.expect("created");
    let all = engine.submit_all((0..EXECUTIONS).map(|n| {
        let job = engine.execution("job", &n).retries(Retries::fixed(20, Duration::from_millis(5)));
        if n % 10 == 0 { job.quota("narrow") } else { job }
    }));
    let all: Vec<_> = all.await.into_iter().map(|handle| handle.expect("submitted")).collect();

    let ledger: Arc<Mutex<BTreeMap<_, u32>>> = Arc::default();
    let worker = |n: u64| {
        let ledger = Arc::clone(&ledger);
        Worker::builder(&engine)
            .name(format!("w{n}"))
            .concurrency(16)
            .lease(Duration::from_millis(300))
            .handler("job", move |ctx: Context, job: u32| async move {
                let dice = mix(u64::from(job) * 1_000 + u64::from(ctx.attempt_index().get()));
                tokio::time::sleep(Duration::from_micros(dice % 3_000)).await;
                match dice % 100 {
                    0..10 => Err(TaskError::retryable("flaky")),
                    10..12 => std::panic::resume_unwind(Box::new("on purpose")),
                    12..15 if ctx.resumed().is_none() => Err(TaskError::delay(Duration::from_millis(3))),
                    _ if job % 500 == 499 => Err(TaskError::permanent("never")),
                    _ => Ok(job),
                }
            })
            .observe(move |report| {
                if matches!(report.end, AttemptEnd::Completed | AttemptEnd::Failed { .. }) {
                    *ledger.lock().entry(report.execution_id).or_default() += 1;
                }
            })
            .build()
            .expect("well put together")
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let steady = tokio::spawn(worker(0).run_until(stop.clone().cancelled_owned()));
    for n in 1..=DEADLY {
        let doomed = tokio::spawn(worker(n).run_until(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(60)).await;
        doomed.abort();
        let _ = doomed.await;
    }
    let ended = async {
        for handle in &all {
            handle.wait().await.expect("known");
        }
    };
    timeout(Duration::from_secs(60), ended).await.expect("every one ends");
    stop.cancel();
    let report = steady.await.expect("no panic").expect("no refusal");
    assert!(report.completed > 0 && report.retried > 0, "{report:?}");

    let mut reclaims = 0;
    for (n, handle) in (0_u32..).zip(&all) {
        let end = handle.describe().await.expect("known");
        let expected = if n % 500 == 499 { PublicState::Failed } else { PublicState::Completed };
        assert_eq!(end.public_state, expected, "{n}: {:?}", end.failure_reason);
        reclaims += end.total_reclaims;
        // A worker that was killed may have ended it and not lived to say so.
        let told = ledger.lock().get(&handle.id()).copied().unwrap_or_default();
        assert!(told <= 1, "{n} ended {told} times");
    }
    assert!(reclaims > 0, "somebody was killed at work");
    let narrow = quota.status().await.expect("exists");
    assert_eq!(narrow.waiting, 0);
    assert_eq!(memory.model().audit(), Vec::<String>::new());
}
