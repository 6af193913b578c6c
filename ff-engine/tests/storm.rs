//! Flaky handlers, panics, killed workers and a killed server: every execution ends, and the ledger agrees.
//!
//! `FF_STORM=10000` says how many executions; 500 without it.
#![cfg(feature = "memory")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ff_backend_memory::MemoryBackend;
use ff_core::ids::ExecutionId;
use ff_core::state::PublicState;
use ff_engine::{AttemptEnd, Context, Engine, Handle, QuotaLimits, Retries, TaskError, Worker};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::common::SOON;

const DEADLY: u64 = 6;
/// Jobs that a worker holds when it is killed.
const HELD: usize = 3;
const LEASE: Duration = Duration::from_secs(1);
/// One execution of so many never succeeds.
const HOPELESS: u32 = 100;

fn executions() -> u32 {
    std::env::var("FF_STORM").map_or(500, |n| n.parse().expect("FF_STORM is a number"))
}

/// A number that looks random and is the same every time.
const fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// How often workers were told that an execution has ended.
type Ledger = Arc<Mutex<BTreeMap<ExecutionId, u32>>>;

/// A worker. One that is to die never ends the first jobs that it gets, and says so at the first; the others it does.
fn worker(engine: &Engine, ledger: &Ledger, n: u64, at_work: Option<oneshot::Sender<()>>) -> Worker {
    let (ledger, held) = (Arc::clone(ledger), AtomicUsize::new(if at_work.is_some() { 0 } else { HELD }));
    let at_work = Mutex::new(at_work);
    Worker::builder(engine)
        .name(format!("w{n}"))
        .concurrency(if n == 0 { 16 } else { HELD + 1 })
        .lease(LEASE)
        .handler("job", move |ctx: Context, job: u32| {
            let holds = held.fetch_add(1, Ordering::SeqCst) < HELD;
            at_work.lock().take().map(|tell| tell.send(()));
            async move {
                if holds {
                    std::future::pending::<()>().await;
                }
                let dice = mix(u64::from(job) * 1_000 + u64::from(ctx.attempt_index().get()));
                tokio::time::sleep(Duration::from_micros(dice % 3_000)).await;
                match dice % 100 {
                    0..10 => Err(TaskError::retryable("flaky")),
                    10..12 => std::panic::resume_unwind(Box::new("on purpose")),
                    12..15 if ctx.resumed().is_none() => Err(TaskError::delay(Duration::from_millis(3))),
                    _ if job % HOPELESS == HOPELESS - 1 => Err(TaskError::permanent("never")),
                    _ => Ok(job),
                }
            }
        })
        .observe(move |report| {
            if matches!(report.end, AttemptEnd::Completed | AttemptEnd::Failed { .. }) {
                *ledger.lock().entry(report.execution_id).or_default() += 1;
            }
        })
        .build()
        .expect("well put together")
}

/// Submits the work, lets workers do it while others die, calls `meanwhile` with the ledger, and holds the ends against
/// it.
async fn storm(name: &str, engine: &Engine, meanwhile: impl AsyncFnOnce(&Ledger, u32)) {
    let (began, n) = (Instant::now(), executions());
    let quota = engine.quota("narrow").expect("a name");
    quota.create(QuotaLimits::concurrent(8)).await.expect("created");
    let all = engine.submit_all((0..n).map(|n| {
        let job = engine.execution("job", &n).retries(Retries::fixed(20, Duration::from_millis(5)));
        if n % 10 == 0 { job.quota("narrow") } else { job }
    }));
    let all: Vec<Handle> = all.await.into_iter().map(|handle| handle.expect("submitted")).collect();
    let submitted = began.elapsed();

    let ledger = Ledger::default();
    let stop = CancellationToken::new();
    // All of them have work in their hands before anybody else may take the rest.
    let mut doomed = Vec::new();
    for n in 1..=DEADLY {
        let (tell, at_work) = oneshot::channel();
        let worker = worker(engine, &ledger, n, Some(tell));
        doomed.push((tokio::spawn(worker.run_until(std::future::pending())), at_work));
    }
    let mut dying = Vec::new();
    for (worker, at_work) in doomed {
        timeout(SOON, at_work).await.expect("in time").expect("it is at work");
        dying.push(worker);
    }
    let steady = tokio::spawn(worker(engine, &ledger, 0, None).run_until(stop.clone().cancelled_owned()));
    let deaths = async {
        for worker in dying {
            tokio::time::sleep(Duration::from_millis(20)).await;
            worker.abort();
            assert!(worker.await.is_err_and(|error| error.is_cancelled()), "it was killed at work");
        }
    };
    tokio::join!(deaths, meanwhile(&ledger, n));
    let ended = async {
        for handle in &all {
            handle.wait().await.expect("known");
        }
    };
    timeout(Duration::from_secs(60 + u64::from(n) / 20), ended).await.expect("every one ends");
    stop.cancel();
    let report = steady.await.expect("no panic").expect("no refusal");
    let took = began.elapsed();
    assert!(report.completed > 0 && report.retried > 0, "{report:?}");

    let (mut reclaims, mut attempts, mut untold) = (0, 0, 0);
    for (n, handle) in (0_u32..).zip(&all) {
        let end = handle.describe().await.expect("known");
        let hopeless = n % HOPELESS == HOPELESS - 1;
        let expected = if hopeless { PublicState::Failed } else { PublicState::Completed };
        assert_eq!(end.public_state, expected, "{n}: {:?}", end.failure_reason);
        if !hopeless {
            assert_eq!(handle.result::<u32>().await.expect("its own"), n);
        }
        reclaims += end.total_reclaims;
        attempts += end.attempt_count;
        // A worker that was killed may have ended it and not lived to say so.
        let told = ledger.lock().get(&handle.id()).copied().unwrap_or_default();
        assert!(told <= 1, "{n} ended {told} times");
        untold += 1 - told;
    }
    println!(
        "{name}: {n} executions in {:.1} s (submitted in {:.1} s): {attempts} attempts, {reclaims} reclaims, {untold} ends \
         not told; {report:?}",
        took.as_secs_f64(),
        submitted.as_secs_f64()
    );
    assert!(u64::from(untold) <= 16 * (DEADLY + 2), "{untold} ends were told to nobody");
    assert!(u64::from(reclaims) >= DEADLY, "{reclaims} taken over from {DEADLY} workers that were killed");
    let narrow = quota.status().await.expect("exists");
    assert_eq!(narrow.waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_execution_ends_once_whatever_its_workers_do() {
    let memory = MemoryBackend::new();
    let engine = Engine::with_backend(Arc::new(memory.clone())).await.expect("opens");
    storm("memory", &engine, async |_, _| {}).await;
    assert_eq!(memory.model().audit(), Vec::<String>::new());
}

/// The server acknowledges what it has on disk, so that a kill of it loses nothing that was answered.
#[cfg(feature = "valkey")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_execution_ends_once_also_when_the_server_is_killed() {
    let mut server = common::server(&["--appendonly", "yes", "--appendfsync", "always"]);
    let engine = Engine::connect(&format!("{}/0?partitions=4", server.url())).await.expect("opens");
    storm("valkey", &engine, async |ledger, n| {
        for share in [5, 2] {
            while ledger.lock().len() < (n / share) as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.kill();
            assert!(ledger.lock().len() < n as usize, "nothing was left to do");
            // Longer than nothing, shorter than the lease.
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.restart().expect("it starts again on its data");
        }
    })
    .await;
    // What the records imply and what the queues hold agree.
    for partition in 0..4 {
        let mut cursor = None;
        loop {
            let args = ff_core::contracts::RebuildIndexesArgs::builder()
                .partition(partition)
                .limit(1000)
                .maybe_cursor(cursor.take())
                .build();
            let report = engine.backend().rebuild_indexes(args).await.expect("reached");
            assert!(report.repaired.is_empty() && report.corrupt.is_empty(), "{report:?}");
            cursor = report.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
}
