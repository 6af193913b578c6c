//! How handlers hear that their work is over, and what becomes of answers that come too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ff_core::contracts::{Actor, CancelExecutionArgs, CompleteExecutionArgs, RevokeLeaseArgs};
use ff_core::state::{EndCause, PublicState};
use ff_engine::{AttemptEnd, AttemptReport, Context, Engine, Handle, StopReason, TaskError, Worker, WorkerBuilder};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::{SOON, memory};

async fn engine() -> Engine {
    memory(2).await
}

/// A worker whose handler waits to be told to stop and says why.
fn listening(engine: &Engine) -> (WorkerBuilder, mpsc::UnboundedReceiver<StopReason>, Arc<Mutex<Vec<AttemptReport>>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let worker = Worker::builder(engine)
        .handler("long", move |ctx: Context, (): ()| {
            let tell = tell.clone();
            async move {
                ctx.progress(1, "begun").await?;
                let _ = tell.send(ctx.cancelled().await);
                Ok::<_, TaskError>("too late")
            }
        })
        .observe({
            let reports = Arc::clone(&reports);
            move |report| reports.lock().push(report.clone())
        });
    (worker, told, reports)
}

async fn begun(handle: &Handle) {
    while handle.describe().await.expect("known").progress.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_another_process_ends_reaches_the_handler_long_before_the_next_renewal() {
    let engine = engine().await;
    let (worker, mut told, reports) = listening(&engine);
    // The next renewal comes in 20 minutes.
    let worker = worker.lease(Duration::from_secs(3_600)).build().expect("well put together");
    // Past this engine, as another process would.
    let backend = engine.backend();
    timeout(
        SOON,
        worker.run_until(async {
            let submit = || engine.execution("long", &()).submit();
            let [cancelled, completed, revoked] =
                [submit().await, submit().await, submit().await].map(|h| h.expect("submitted"));
            for handle in [&cancelled, &completed, &revoked] {
                begun(handle).await;
            }
            let (actor, reason) = (Actor::operator("zoe"), String::from("stop"));
            let args = CancelExecutionArgs { execution_id: cancelled.id(), actor, reason };
            backend.cancel_execution(args).await.expect("running");
            assert_eq!(told.recv().await, Some(StopReason::Cancelled));
            let args =
                CompleteExecutionArgs::builder().execution_id(completed.id()).actor(Actor::operator("zoe")).build();
            backend.complete_execution(args).await.expect("running");
            assert_eq!(told.recv().await, Some(StopReason::Ended));
            let lease_id = revoked.describe().await.expect("known").current_lease.expect("running").lease_id;
            let args =
                RevokeLeaseArgs { execution_id: revoked.id(), lease_id, reason: "drill".into(), by: "zoe".into() };
            backend.revoke_lease(args).await.expect("running");
            assert_eq!(told.recv().await, Some(StopReason::LeaseLost));
            revoked.cancel("zoe", "enough").await.expect("not ended");
        }),
    )
    .await
    .expect("in time")
    .expect("no refusal");
    let ends: Vec<AttemptEnd> = reports.lock().iter().map(|report| report.end.clone()).collect();
    let superseded = |state, cause| AttemptEnd::Superseded { state: Some(state), cause: Some(cause) };
    assert!(ends.contains(&superseded(PublicState::Cancelled, EndCause::Cancelled)), "{ends:?}");
    assert!(ends.contains(&superseded(PublicState::Completed, EndCause::Completed)), "{ends:?}");
    assert!(
        ends.iter().any(|end| matches!(end, AttemptEnd::Superseded { cause: Some(EndCause::LeaseRevoked), .. })),
        "{ends:?}"
    );
}

#[tokio::test]
async fn an_attempts_true_end_is_told_also_when_the_next_one_is_done() {
    let engine = engine().await;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let (tell, mut told) = mpsc::unbounded_channel();
    let done = Arc::new(tokio::sync::Notify::new());
    let handle = engine.execution("long", &()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine)
        .concurrency(1)
        .grace(SOON)
        .handler("long", {
            let done = Arc::clone(&done);
            move |ctx: Context, (): ()| {
                let (tell, done) = (tell.clone(), Arc::clone(&done));
                async move {
                    ctx.progress(1, "begun").await?;
                    let _ = tell.send(ctx.cancelled().await);
                    // It keeps its slot until the heir has it.
                    done.notified().await;
                    Ok::<_, TaskError>("too late")
                }
            }
        })
        .observe({
            let reports = Arc::clone(&reports);
            move |report: &AttemptReport| reports.lock().push(report.clone())
        })
        .build()
        .expect("well put together");
    let heir = Worker::builder(&engine)
        .name("heir")
        .handler("long", |_: Context, (): ()| async move { Ok::<_, TaskError>("the heir") });
    timeout(
        SOON,
        worker.run_until(async {
            begun(&handle).await;
            let lease_id = handle.describe().await.expect("known").current_lease.expect("running").lease_id;
            let heir = heir.build().expect("well put together").run_until(async {
                let args =
                    RevokeLeaseArgs { execution_id: handle.id(), lease_id, reason: "drill".into(), by: "zoe".into() };
                engine.backend().revoke_lease(args).await.expect("running");
                assert_eq!(handle.result::<String>().await.expect("taken over"), "the heir");
            });
            heir.await.expect("no refusal");
            assert_eq!(told.recv().await, Some(StopReason::LeaseLost));
            done.notify_one();
        }),
    )
    .await
    .expect("in time")
    .expect("no refusal");
    let ends: Vec<AttemptEnd> = reports.lock().iter().map(|report| report.end.clone()).collect();
    assert_eq!(
        ends,
        [AttemptEnd::Superseded { state: Some(PublicState::Completed), cause: Some(EndCause::LeaseRevoked) }]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_awaits_sees_its_deadline_too() {
    let engine = engine().await;
    let seen = Arc::new(AtomicBool::new(false));
    let handle = engine.execution("busy", &()).deadline(Duration::from_secs(2)).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("busy", {
        let seen = Arc::clone(&seen);
        move |ctx: Context, (): ()| {
            let seen = Arc::clone(&seen);
            async move {
                let began = Instant::now();
                while began.elapsed() < SOON {
                    if ctx.stop_reason() == Some(StopReason::DeadlinePassed) {
                        seen.store(true, Ordering::SeqCst);
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                // An answer at this very instant would still count.
                std::future::pending::<Result<(), TaskError>>().await
            }
        }
    });
    let worker = worker.grace(Duration::from_millis(10)).build().expect("well put together");
    let done = async {
        assert_eq!(handle.wait().await.expect("known"), PublicState::Expired);
    };
    timeout(SOON, worker.run_until(done)).await.expect("in time").expect("no refusal");
    assert!(seen.load(Ordering::SeqCst));
}

#[tokio::test]
async fn leases_are_renewed_until_the_drain_has_ended() {
    let engine = engine().await;
    let handle = engine.execution("slow", &()).submit().await.expect("submitted");
    let began = Arc::new(tokio::sync::Notify::new());
    let worker = Worker::builder(&engine).lease(Duration::from_millis(1_500)).drain(SOON).handler("slow", {
        let began = Arc::clone(&began);
        move |_: Context, (): ()| {
            let began = Arc::clone(&began);
            async move {
                began.notify_one();
                tokio::time::sleep(Duration::from_secs(4)).await;
                Ok::<_, TaskError>("drained")
            }
        }
    });
    let worker = worker.build().expect("well put together");
    timeout(SOON, worker.run_until(began.notified())).await.expect("in time").expect("no refusal");
    let end = handle.describe().await.expect("known");
    assert_eq!((end.public_state, end.attempt_count), (PublicState::Completed, 1));
}

#[tokio::test]
async fn lanes_share_by_weight_and_none_waits_for_an_empty_one() {
    let engine = Engine::connect("memory:?partitions=1").await.expect("an empty store");
    for n in 0..400 {
        for lane in ["bulk", "urgent"] {
            engine.execution("job", &n).lane(lane).submit().await.expect("submitted");
        }
    }
    let (bulk, urgent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (enough, done) = tokio::sync::watch::channel(false);
    let worker = Worker::builder(&engine)
        .concurrency(4)
        .weighted_lane("bulk", 1)
        .weighted_lane("urgent", 3)
        .weighted_lane("empty", 1000)
        .handler("job", {
            let (bulk, urgent) = (Arc::clone(&bulk), Arc::clone(&urgent));
            move |ctx: Context, _: u64| {
                let lane = if ctx.claimed().lane_id.as_str() == "bulk" { &bulk } else { &urgent };
                lane.fetch_add(1, Ordering::SeqCst);
                if bulk.load(Ordering::SeqCst) + urgent.load(Ordering::SeqCst) >= 200 {
                    enough.send_replace(true);
                }
                async move {
                    tokio::task::yield_now().await;
                    Ok::<_, TaskError>(())
                }
            }
        });
    let worker = worker.build().expect("well put together");
    let mut done = done;
    let stop = async move {
        let _ = done.wait_for(|enough| *enough).await;
    };
    timeout(SOON, worker.run_until(stop)).await.expect("in time").expect("no refusal");
    let (bulk, urgent) = (bulk.load(Ordering::SeqCst), urgent.load(Ordering::SeqCst));
    assert!(urgent > 2 * bulk && urgent < 5 * bulk, "bulk {bulk}, urgent {urgent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_become_ready_at_once_wake_as_many_workers() {
    let engine = engine().await;
    let begun = Arc::new(AtomicU64::new(0));
    let stop = tokio_util::sync::CancellationToken::new();
    let workers: Vec<_> = (0..4)
        .map(|n| {
            let begun = Arc::clone(&begun);
            let worker = Worker::builder(&engine).name(format!("w{n}")).concurrency(1).without_maintenance().handler(
                "nap",
                move |_: Context, (): ()| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let begun = Arc::clone(&begun);
                    async move {
                        // Until each of the four has one.
                        while !begun.load(Ordering::SeqCst).is_multiple_of(4) {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        Ok::<_, TaskError>(())
                    }
                },
            );
            tokio::spawn(worker.build().expect("well put together").run_until(stop.clone().cancelled_owned()))
        })
        .collect();
    // Workers that look around by themselves do so once in a second: all four within 150 ms is one chance in 300. On a
    // busy machine it is not always reached by those that are woken.
    let mut took = Vec::new();
    while took.iter().all(|took| *took > Duration::from_millis(150)) {
        assert!(took.len() < 10, "{took:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut flow = engine.flow("naps");
        for _ in 0..4 {
            flow.task("nap", &()).expect("encodes");
        }
        let (since, all) = (Instant::now(), 4 * (took.len() as u64 + 1));
        let flow = flow.submit().await.expect("submitted");
        let each_has_one = async {
            while begun.load(Ordering::SeqCst) < all {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, each_has_one).await.expect("in time");
        took.push(since.elapsed());
        flow.wait().await.expect("known");
    }
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic").expect("no refusal");
    }
}

/// Answers suspensions late, so that renewals come between them and their answers.
struct Late;

#[async_trait::async_trait]
impl ff_core::layer::Layer for Late {
    async fn around(
        &self,
        inner: &dyn ff_core::engine_backend::EngineBackend,
        operation: ff_core::operation::Operation,
    ) -> Result<ff_core::operation::Outcome, ff_core::error::EngineError> {
        let late = operation.name() == ff_core::operation::OpName::SuspendExecution;
        let outcome = ff_core::operation::dispatch(inner, operation).await;
        if late {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outcome
    }
}

#[tokio::test]
async fn a_pause_is_never_mistaken_for_a_lost_lease() {
    use ff_engine::{Suspend, Suspended, TimeoutBehavior};
    let memory = Arc::new(ff_backend_memory::MemoryBackend::new());
    let engine = Engine::with_backend(Arc::new(ff_core::layer::Layered::new(memory, Late))).await.expect("opens");
    let stopped = Arc::new(AtomicU64::new(0));
    let worker = Worker::builder(&engine).handler("ask", {
        let stopped = Arc::clone(&stopped);
        move |ctx: Context, rounds: u64| {
            let stopped = Arc::clone(&stopped);
            async move {
                let round = if ctx.resumed().is_none() { 0 } else { ctx.remembered::<u64>()? + 1 };
                if round == rounds {
                    return Ok(round);
                }
                let brief = Suspend::until_signal("never").remember(&round);
                let brief = brief.timeout(Duration::from_millis(1), TimeoutBehavior::AutoResume);
                // Renewals are sent all the time: whenever somebody cancels something in this process.
                let Suspended::Paused(paused) = ctx.suspend(brief).await? else { return Ok(round) };
                tokio::time::sleep(Duration::from_millis(2)).await;
                if ctx.stop_reason().is_some() {
                    stopped.fetch_add(1, Ordering::SeqCst);
                }
                Err(paused.into())
            }
        }
    });
    let worker = worker.build().expect("well put together");
    let done = async {
        let mut all = Vec::new();
        for _ in 0..20 {
            all.push(engine.execution("ask", &10_u64).submit().await.expect("submitted"));
        }
        while let Some(handle) = all.pop() {
            while !handle.describe().await.expect("known").public_state.is_terminal() {
                let other = engine.execution("other", &()).lane("other").submit().await.expect("submitted");
                other.cancel("zoe", "").await.expect("not ended");
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            assert_eq!(handle.result::<u64>().await.expect("it goes on each time"), 10);
        }
    };
    timeout(SOON, worker.run_until(done)).await.expect("in time").expect("no refusal");
    assert_eq!(stopped.load(Ordering::SeqCst), 0);
}
