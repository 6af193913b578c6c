//! Lost answers, slow questions, failing partitions, mistakes of callers: what a worker and its engine make of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_core::contracts::UnblockExecutionArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::{Applied, EngineError};
use ff_core::ids::ExecutionId;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::state::{BlockReason, PublicState};
use ff_engine::{
    AttemptEnd, BudgetLimits, Context, Engine, Handle, QuotaLimits, Retries, StopReason, Suspend, Suspended, TaskError,
    Worker, WorkerBuilder,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::common::{SOON, until};

/// What becomes of a call.
enum Fate {
    Done,
    /// Carried out, and its answer is lost.
    Lost,
    /// It never arrives.
    Cut,
    /// It arrives late.
    Late(Duration),
    /// The backend cannot do it.
    Unsupported,
}

/// Decides the fate of each call.
struct Fates<F>(F);

#[async_trait]
impl<F: Fn(&Operation) -> Fate + Send + Sync + 'static> Layer for Fates<F> {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let gone = |applied| EngineError::Transport { applied, message: "on purpose".into() };
        match (self.0)(&operation) {
            Fate::Done => dispatch(inner, operation).await,
            Fate::Lost => dispatch(inner, operation).await.and(Err(gone(Applied::Unknown))),
            Fate::Cut => Err(gone(Applied::No)),
            Fate::Late(by) => {
                tokio::time::sleep(by).await;
                dispatch(inner, operation).await
            }
            Fate::Unsupported => Err(EngineError::Unsupported { what: "on purpose".into() }),
        }
    }
}

async fn engine(fate: impl Fn(&Operation) -> Fate + Send + Sync + 'static) -> Engine {
    let deployment = ff_core::bounds::Deployment {
        partitions: ff_core::partition::PartitionConfig::new(4).expect("a number"),
        ..ff_core::bounds::Deployment::default()
    };
    let memory = MemoryBackend::open(deployment, Arc::new(ff_core::time::SystemClock));
    Engine::with_backend(Arc::new(Layered::new(Arc::new(memory), Fates(fate)))).await.expect("opens")
}

async fn plain() -> Engine {
    engine(|_| Fate::Done).await
}

/// A handler that says how it was called, then never ends; and where it says so.
fn saying(engine: &Engine) -> (WorkerBuilder, mpsc::UnboundedReceiver<(u32, bool)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let worker = Worker::builder(engine).handler("job", move |ctx: Context, (): ()| {
        let _ = tell.send((ctx.attempt_index().get(), ctx.resumed().is_some()));
        std::future::pending::<Result<(), TaskError>>()
    });
    (worker, told)
}

#[tokio::test]
async fn what_is_given_back_at_a_shutdown_begins_from_its_beginning() {
    let engine = plain().await;
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    for attempt in 0..3 {
        let (worker, mut told) = saying(&engine);
        until(worker.drain(Duration::ZERO).grace(Duration::from_millis(1)), async {
            assert_eq!(told.recv().await.expect("called"), (attempt, false));
        })
        .await;
    }
    let end = job.describe().await.expect("known");
    assert_eq!((end.retry_count, end.reclaim_count, end.attempt_count), (0, 0, 3));
}

#[tokio::test]
async fn a_delay_is_over_for_the_next_worker_too_when_its_attempt_is_given_back() {
    let engine = plain().await;
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = || {
        let tell = tell.clone();
        Worker::builder(&engine).drain(Duration::ZERO).grace(Duration::from_millis(1)).handler(
            "job",
            move |ctx: Context, (): ()| {
                let tell = tell.clone();
                async move {
                    if ctx.resumed().is_none() {
                        return Err(TaskError::delay(Duration::from_millis(1)));
                    }
                    let _ = tell.send(ctx.attempt_index().get());
                    std::future::pending::<Result<(), TaskError>>().await
                }
            },
        )
    };
    for _ in 0..2 {
        until(worker(), async { assert_eq!(told.recv().await, Some(0)) }).await;
    }
    assert_eq!(job.describe().await.expect("known").attempt_count, 1);
}

#[tokio::test]
async fn an_approval_is_never_taken_for_given_because_a_worker_shut_down() {
    let engine = plain().await;
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = || {
        let tell = tell.clone();
        Worker::builder(&engine).drain(Duration::ZERO).grace(Duration::from_millis(1)).handler(
            "job",
            move |ctx: Context, (): ()| {
                let tell = tell.clone();
                async move {
                    let _ = tell.send((ctx.resumed().is_some(), ctx.signals().len()));
                    if ctx.resumed().is_none() {
                        let Suspended::Paused(paused) = ctx.suspend(Suspend::until_signal("ok")).await? else {
                            return Ok(());
                        };
                        return Err(paused.into());
                    }
                    std::future::pending::<Result<(), TaskError>>().await
                }
            },
        )
    };
    until(worker(), async {
        assert_eq!(told.recv().await, Some((false, 0)));
        let waitpoint = loop {
            if let Some(waitpoint) = engine.waitpoints(job.id()).await.expect("known").pop() {
                break waitpoint;
            }
            tokio::task::yield_now().await;
        };
        engine.signal(job.id(), waitpoint.waitpoint_id, &waitpoint.tokens[0].token, "ok").send().await.expect("taken");
        assert_eq!(told.recv().await, Some((true, 1)));
    })
    .await;
    // It asks again; it does not go on without an answer.
    until(worker(), async { assert_eq!(told.recv().await, Some((false, 0))) }).await;
}

#[tokio::test]
async fn what_no_handler_was_for_is_held_back_and_begins_from_its_beginning() {
    let engine = plain().await;
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    let old = Worker::builder(&engine).handler("old_kind", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) });
    let held = async {
        loop {
            let now = job.describe().await.expect("known");
            if let Some(block) = now.blocks.first() {
                assert!(block.detail.contains("\"job\""), "{block:?}");
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    until(old, held).await;
    let args = UnblockExecutionArgs { execution_id: job.id(), reason: BlockReason::WaitingForCapableWorker };
    engine.backend().unblock_execution(args).await.expect("known");
    let (new, mut told) = saying(&engine);
    until(new.drain(Duration::ZERO).grace(Duration::ZERO), async {
        let (attempt, resumed) = told.recv().await.expect("called");
        assert!(attempt >= 1 && !resumed, "{attempt}, {resumed}");
    })
    .await;
    assert_eq!(job.describe().await.expect("known").total_reclaims, 0);
}

#[tokio::test]
async fn what_nobody_has_a_handler_for_comes_ever_less_often_and_says_why() {
    let test = Engine::in_memory().await.expect("a store");
    test.serve(Worker::builder(&test).handler("other", |_: Context, (): ()| async move { Ok::<_, TaskError>(()) }))
        .expect("well put together");
    let job = test.execution("job", &()).submit().await.expect("submitted");
    let text = job.explain().await.expect("known").to_string();
    assert!(text.contains("no worker of lane default in this process has a handler for the kind \"job\""), "{text}");
    test.advance(Duration::from_secs(6)).await.expect("time passes");
    assert_eq!(job.describe().await.expect("known").attempt_count, 2, "once, and again after 5 s");
    test.advance(Duration::from_secs(3_600)).await.expect("time passes");
    let now = job.describe().await.expect("known");
    // After 5, 10, 20, .. 320 s, and every 10 minutes from then on; not every 5 s.
    assert_eq!(now.attempt_count, 12, "{now:?}");
    let text = job.explain().await.expect("known").to_string();
    assert!(text.contains("waiting_for_capable_worker") && text.contains("no handler for the kind"), "{text}");
    let error = test.finish(&job).await.expect_err("it never ends");
    assert!(error.to_string().contains("no handler for the kind"), "{error}");
}

#[tokio::test]
async fn usage_is_counted_once_when_the_answer_is_lost() {
    let calls = Arc::new(AtomicU32::new(0));
    let engine = engine({
        let calls = Arc::clone(&calls);
        move |operation| match operation.name() {
            OpName::ReportUsage if calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => Fate::Lost,
            _ => Fate::Done,
        }
    })
    .await;
    let budget = engine.budget("b").expect("a name");
    budget.create(BudgetLimits::hard("tokens", 100)).await.expect("created");
    for _ in 0..2 {
        budget.record("tokens", 10, None).await.expect("recorded");
        budget.reserve("tokens", 10, None).await.expect("reserved");
    }
    let status = budget.status().await.expect("exists");
    let usage: Vec<u64> = status.dimensions.values().map(|d| d.usage).collect();
    assert_eq!((usage, calls.load(Ordering::SeqCst)), (vec![40], 8));
}

#[tokio::test]
async fn to_fail_because_the_lease_was_lost_is_no_failure_of_the_work() {
    let renewals = Arc::new(AtomicU32::new(0));
    let engine = engine({
        let renewals = Arc::clone(&renewals);
        move |operation| match operation.name() {
            // The store is not reached for as long as the first lease lives.
            OpName::RenewLease if renewals.fetch_add(1, Ordering::SeqCst) < 1_000 => Fate::Cut,
            _ => Fate::Done,
        }
    })
    .await;
    // Without retries: a failure would be the end of it.
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = Worker::builder(&engine).lease(Duration::from_millis(300)).handler("job", {
        move |ctx: Context, (): ()| {
            let (renewals, tell) = (Arc::clone(&renewals), tell.clone());
            async move {
                if ctx.attempt_index().get() > 0 {
                    return Ok("done");
                }
                let reason = ctx.cancelled().await;
                let _ = tell.send(reason);
                renewals.store(1_000, Ordering::SeqCst);
                Err(TaskError::permanent(format!("stopped: {reason:?}")))
            }
        }
    });
    until(worker, async { assert_eq!(job.result::<String>().await.expect("done anew"), "done") }).await;
    assert_eq!(told.recv().await, Some(StopReason::LeaseLost));
    let end = job.describe().await.expect("known");
    assert_eq!((end.attempt_count, end.retry_count), (2, 0));
}

#[tokio::test]
async fn slow_questions_before_a_claim_use_up_nothing_of_its_lease() {
    let engine = engine(|operation| match operation.name() {
        OpName::GetBudgetStatus => Fate::Late(Duration::from_millis(2_500)),
        _ => Fate::Done,
    })
    .await;
    engine.budget("b").expect("a name").create(BudgetLimits::hard("tokens", 100)).await.expect("created");
    let job = engine.execution("job", &()).budget("b").submit().await.expect("submitted");
    let worker =
        Worker::builder(&engine).lease(Duration::from_secs(2)).handler("job", |ctx: Context, (): ()| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, TaskError>(ctx.stop_reason().map(StopReason::as_str))
        });
    until(worker, async { assert_eq!(job.result::<Option<String>>().await.expect("done"), None) }).await;
}

#[tokio::test]
async fn a_slow_quota_policy_delays_no_renewal() {
    let checks = AtomicU32::new(0);
    let engine = engine(move |operation| match operation.name() {
        // The first lets it in; each refresh takes longer than the lease.
        OpName::CheckAdmission if checks.fetch_add(1, Ordering::SeqCst) > 0 => Fate::Late(Duration::from_secs(6)),
        _ => Fate::Done,
    })
    .await;
    engine.quota("q").expect("a name").create(QuotaLimits::concurrent(1)).await.expect("created");
    let job = engine.execution("job", &()).quota("q").submit().await.expect("submitted");
    let worker =
        Worker::builder(&engine).lease(Duration::from_millis(1_500)).handler("job", |_: Context, (): ()| async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok::<_, TaskError>(())
        });
    until(worker, async { job.result::<()>().await.expect("done") }).await;
    assert_eq!(job.describe().await.expect("known").attempt_count, 1);
}

fn delayed(engine: &Engine, partition: u16, by: Duration) -> impl Future<Output = Handle> {
    let id = ExecutionId::from_parts(partition, Uuid::now_v7());
    let submission = engine.execution("job", &()).id(id).delay(by).submit();
    async { submission.await.expect("submitted") }
}

#[tokio::test]
async fn a_partition_that_cannot_be_swept_keeps_no_other_from_it() {
    let engine = engine(|operation| match operation {
        Operation::Sweep(args) if args.partition == 0 => Fate::Unsupported,
        _ => Fate::Done,
    })
    .await;
    let mut all = Vec::new();
    for partition in 1..4 {
        all.push(delayed(&engine, partition, Duration::from_millis(1)).await);
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let error = engine.maintenance().sweep().await.expect_err("partition 0");
    assert!(error.to_string().contains("on purpose"), "{error}");
    for handle in &all {
        assert_eq!(handle.describe().await.expect("known").public_state, PublicState::Waiting);
    }
}

/// How late each of some timers of partition 1 is, while partition 0, in which something has been due for long, is as
/// `fate` says.
async fn lateness(fate: impl Fn() -> Fate + Send + Sync + 'static) -> Vec<Duration> {
    let engine = engine(move |operation| match operation {
        Operation::Sweep(args) if args.partition == 0 => fate(),
        _ => Fate::Done,
    })
    .await;
    let _ = delayed(&engine, 0, Duration::from_millis(1)).await;
    let maintenance = engine.maintenance();
    let measure = async {
        // Until whoever backs off for its sake has done so.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let mut late = Vec::new();
        for _ in 0..8 {
            let by = Duration::from_millis(40);
            let job = delayed(&engine, 1, by).await;
            let since = Instant::now();
            while job.describe().await.expect("known").public_state != PublicState::Waiting {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            late.push(since.elapsed().saturating_sub(by));
        }
        late.sort();
        late
    };
    let (tell, told) = oneshot::channel();
    let done = async {
        let _ = tell.send(measure.await);
    };
    timeout(SOON, maintenance.run_until(done)).await.expect("in time");
    told.await.expect("measured")
}

#[tokio::test]
async fn timers_are_in_time_beside_a_partition_that_fails() {
    let late = lateness(|| Fate::Unsupported).await;
    assert!(late[4] < Duration::from_millis(150), "{late:?}");
}

#[tokio::test]
async fn timers_are_in_time_beside_a_partition_that_does_not_answer() {
    let late = lateness(|| Fate::Late(SOON)).await;
    assert!(late[4] < Duration::from_millis(150), "{late:?}");
}

#[tokio::test]
async fn the_store_is_not_healthy_until_every_partition_that_failed_was_swept_again() {
    let fails = Arc::new(AtomicBool::new(true));
    let engine = engine({
        let fails = Arc::clone(&fails);
        move |operation| match operation {
            Operation::Sweep(args) if args.partition == 2 && fails.load(Ordering::SeqCst) => Fate::Cut,
            _ => Fate::Done,
        }
    })
    .await;
    let maintenance = engine.maintenance();
    let healthy = async || engine.health().await.expect("reached").is_healthy();
    let watch = async {
        while healthy().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Others are swept all the time.
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(2_500) {
            let _ = delayed(&engine, 1, Duration::from_millis(1)).await;
            let health = engine.health().await.expect("reached");
            assert!(!health.is_healthy(), "{:?} after its failure", since.elapsed());
            assert!(health.warnings.iter().any(|w| w.contains("partition 2 could not be swept")), "{health:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let health = engine.health().await.expect("reached");
        assert!(health.maintenance.failing[&2].times >= 2, "it is tried again: {health:?}");
        fails.store(false, Ordering::SeqCst);
        while !healthy().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, maintenance.run_until(watch)).await.expect("in time");
}

#[tokio::test]
async fn an_observer_that_panics_costs_no_slot_and_no_work() {
    let engine = plain().await;
    let quota = engine.quota("q").expect("a name");
    quota.create(QuotaLimits::concurrent(1)).await.expect("created");
    let jobs = engine.submit_all((0..5).map(|n| engine.execution("job", &n).quota("q"))).await;
    let worker = Worker::builder(&engine)
        .handler("job", |_: Context, n: u32| async move { Ok::<_, TaskError>(n) })
        .observe(|report| std::panic::resume_unwind(Box::new(format!("{report:?}"))));
    until(worker, async {
        for job in &jobs {
            job.as_ref().expect("submitted").result::<u32>().await.expect("done");
        }
    })
    .await;
    assert_eq!(quota.status().await.expect("exists").in_use, 0);
}

#[tokio::test]
async fn a_store_that_cannot_tell_is_not_taken_for_a_purge() {
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let blind = Arc::new(AtomicU32::new(0));
    let engine = engine({
        let blind = Arc::clone(&blind);
        move |operation| match operation.name() {
            OpName::DescribeExecution if blind.load(Ordering::SeqCst) > 0 => Fate::Unsupported,
            _ => Fate::Done,
        }
    })
    .await;
    let job = engine.execution("job", &()).submit().await.expect("submitted");
    let (began, has_begun) = oneshot::channel();
    let began = Arc::new(Mutex::new(Some(began)));
    let worker = Worker::builder(&engine)
        .handler("job", move |ctx: Context, (): ()| {
            let began = began.lock().take();
            async move {
                began.map(|began| began.send(()));
                ctx.cancelled().await;
                Ok::<_, TaskError>(())
            }
        })
        .observe(move |report| {
            tell.lock().take().map(|tell| tell.send(report.end.clone()));
        });
    until(worker, async {
        has_begun.await.expect("called");
        blind.store(1, Ordering::SeqCst);
        job.cancel("zoe", "enough").await.expect("running");
        let end = told.await.expect("observed");
        assert!(matches!(&end, AttemptEnd::Unreported { error } if error.contains("on purpose")), "{end:?}");
    })
    .await;
}

#[tokio::test]
async fn an_explanation_counts_all_that_is_waited_for() {
    let engine = plain().await;
    let mut flow = engine.flow("wide");
    let parts: Vec<_> = (0..120).map(|n| flow.task("part", &n).expect("encodes")).collect();
    let total = flow.task("total", &()).expect("encodes").name("total");
    let _total = parts.iter().fold(total, ff_engine::Task::after);
    let flow = flow.submit().await.expect("submitted");
    let text = flow.member("total").expect("named").explain().await.expect("known").to_string();
    assert!(text.contains("120 other executions") && text.contains("and 119 more"), "{text}");
}

#[tokio::test]
async fn children_that_failed_before_they_were_waited_for_are_counted() {
    let test = Engine::in_memory().await.expect("a store");
    let worker = Worker::builder(&test)
        .handler("parent", |ctx: Context, (): ()| async move {
            if ctx.resumed().is_none() {
                ctx.child("good", "child", &true).required().spawn().await?;
                ctx.child("bad", "child", &false).required().spawn().await?;
                return Err(TaskError::delay(Duration::from_secs(60)));
            }
            // The second call finds them ended, and waits for nothing; the third follows that wait.
            if ctx.fence().lease_epoch.get() == 2 {
                return Err(TaskError::wait_for_children());
            }
            Ok((ctx.children_done(), ctx.failed_children()))
        })
        .handler("child", |_: Context, good: bool| async move {
            if good { Ok(7) } else { Err(TaskError::permanent("never")) }
        });
    test.serve(worker).expect("well put together");
    let mut flow = test.flow("family").open();
    let _parent = flow.task("parent", &()).expect("encodes").retries(Retries::none());
    let flow = flow.submit().await.expect("submitted");
    let parent = flow.member("parent").expect("named");
    test.finish(&parent).await.expect("it ends");
    test.assert_result(&parent, &(true, 1)).await;
}

/// A flow's task that delays itself once, and what came of it in the hands of a worker whose store answers as `fate`
/// says when it is asked how the task's children went.
async fn after_a_delay(
    fate: impl Fn() -> Fate + Send + Sync + 'static,
) -> (Handle, mpsc::UnboundedReceiver<AttemptEnd>) {
    let engine = engine(move |operation| match operation.name() {
        OpName::EvaluateFlowEligibility => fate(),
        _ => Fate::Done,
    })
    .await;
    let mut flow = engine.flow("one");
    let _ = flow.task("job", &()).expect("encodes");
    let job = flow.submit().await.expect("submitted").member("job").expect("named");
    let (tell, mut told) = mpsc::unbounded_channel();
    let (begin, watched) = mpsc::unbounded_channel();
    let worker = Worker::builder(&engine)
        .lease(Duration::from_secs(2))
        .handler("job", |ctx: Context, (): ()| async move {
            if ctx.resumed().is_none() { Err(TaskError::delay(Duration::from_millis(1))) } else { Ok("done") }
        })
        .observe(move |report| {
            let _ = begin.send(report.end.clone());
            let _ = tell.send(());
        });
    // The delay, and what follows it.
    until(worker, async {
        told.recv().await.expect("observed");
        told.recv().await.expect("observed");
    })
    .await;
    (job, watched)
}

#[tokio::test]
async fn a_lease_is_kept_while_the_store_does_not_say_how_the_children_went() {
    let asked = AtomicU32::new(0);
    // One call with all its repeats, and some of the next: longer than the lease.
    let fate = move || if asked.fetch_add(1, Ordering::SeqCst) < 11 { Fate::Cut } else { Fate::Done };
    let (job, mut ends) = after_a_delay(fate).await;
    assert_eq!((ends.recv().await, ends.recv().await), (Some(AttemptEnd::Paused), Some(AttemptEnd::Completed)));
    let end = job.describe().await.expect("known");
    assert_eq!((end.public_state, end.attempt_count, end.total_reclaims), (PublicState::Completed, 1, 0));
}

#[tokio::test]
async fn a_task_is_given_back_when_the_store_cannot_say_how_its_children_went() {
    let (job, mut ends) = after_a_delay(|| Fate::Unsupported).await;
    assert_eq!((ends.recv().await, ends.recv().await), (Some(AttemptEnd::Paused), Some(AttemptEnd::GivenBack)));
    let now = job.describe().await.expect("known");
    assert_eq!((now.public_state, now.attempt_count), (PublicState::Delayed, 1));
}

/// Lets nobody be parked before a slot has been freed.
#[derive(Default)]
struct Crossing {
    freed: Notify,
    /// Blocks that came.
    blocks: AtomicU32,
}

#[async_trait]
impl Layer for Crossing {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        match &operation {
            Operation::ReleaseAdmission(_) => {
                let answer = dispatch(inner, operation).await;
                self.freed.notify_one();
                answer
            }
            Operation::BlockExecution(args) if args.reason == BlockReason::WaitingForQuota => {
                self.blocks.fetch_add(1, Ordering::SeqCst);
                self.freed.notified().await;
                dispatch(inner, operation).await
            }
            _ => dispatch(inner, operation).await,
        }
    }
}

#[tokio::test]
async fn a_slot_that_is_freed_between_a_denial_and_its_block_is_taken_at_once() {
    let crossing = Layered::new(Arc::new(MemoryBackend::new()), Crossing::default());
    let engine = Engine::with_backend(Arc::new(crossing.clone())).await.expect("opens");
    engine.quota("q").expect("a name").create(QuotaLimits::concurrent(1)).await.expect("created");
    let first = engine.execution("job", &()).quota("q").submit().await.expect("submitted");
    let second = engine.execution("job", &()).quota("q").submit().await.expect("submitted");
    let worker = {
        let crossing = crossing.clone();
        Worker::builder(&engine).handler("job", move |_: Context, (): ()| {
            let crossing = crossing.clone();
            async move {
                // It has the slot until the other one was denied.
                while crossing.layer().blocks.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, TaskError>(())
            }
        })
    };
    let since = Instant::now();
    until(worker, async {
        first.wait().await.expect("known");
        second.wait().await.expect("known");
    })
    .await;
    // Its block lasts for as long as the slot could: 40 s.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[cfg(feature = "valkey")]
#[tokio::test]
async fn a_server_that_is_not_reached_is_an_error_of_the_store() {
    // Port 1: nobody listens there.
    let error = Engine::connect("redis://:hunter2@127.0.0.1:1/0").await.expect_err("nobody listens");
    assert!(
        matches!(error, ff_engine::Error::Engine(EngineError::Transport { applied: Applied::No, .. })),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}
