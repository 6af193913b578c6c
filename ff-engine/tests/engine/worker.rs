//! Workers on the in-memory backend: what becomes of work that fails, panics, pauses, or loses its worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ff_core::state::{EndCause, PublicState};
use ff_engine::{
    Context, Engine, Error, Retries, SignalEffect, StopReason, Suspend, Suspended, SuspensionReason, TaskError, Worker,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::common::{SOON, memory, until};

async fn engine() -> Engine {
    memory(4).await
}

#[tokio::test]
async fn a_typed_input_comes_in_and_a_typed_result_comes_out() {
    let engine = engine().await;
    let handle = engine.execution("add", &(1, 2)).submit().await.expect("submitted");
    let worker = Worker::builder(&engine)
        .handler("add", |_: Context, (a, b): (i32, i32)| async move { Ok::<_, TaskError>(a + b) });
    let report = until(worker, async {
        assert_eq!(handle.result::<i32>().await.expect("it succeeds"), 3);
    })
    .await;
    assert_eq!((report.claimed, report.completed), (1, 1));
    let error = handle.result::<String>().await.expect_err("3 is no text");
    assert!(matches!(error, Error::Decode { .. }), "{error}");
}

#[tokio::test]
async fn a_failure_is_retried_as_the_policy_says_and_a_permanent_one_is_not() {
    let engine = engine().await;
    let retries = || Retries::fixed(3, Duration::from_millis(5));
    let flaky = engine.execution("flaky", &()).retries(retries()).submit().await.expect("submitted");
    let broken = engine.execution("broken", &()).retries(retries()).submit().await.expect("submitted");
    let hopeless = engine.execution("hopeless", &()).retries(retries()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine)
        .handler("flaky", |ctx: Context, (): ()| async move {
            if ctx.attempt_index().get() < 2 {
                Err(TaskError::retryable("not yet"))
            } else {
                Ok(ctx.attempt_index().get())
            }
        })
        .handler("broken", |_: Context, (): ()| async move {
            Err::<(), _>(TaskError::permanent("no such file").category("input"))
        })
        .handler("hopeless", |_: Context, (): ()| async move { Err::<(), _>(TaskError::retryable("never")) });
    let report = until(worker, async {
        assert_eq!(flaky.result::<u32>().await.expect("the third attempt"), 2);
        let error = broken.result::<()>().await.expect_err("permanent").to_string();
        assert!(error.ends_with("ended failed (failed): no such file"), "{error}");
        assert_eq!(hopeless.wait().await.expect("known"), PublicState::Failed);
    })
    .await;
    assert_eq!(flaky.describe().await.expect("known").retry_count, 2);
    let broken = broken.describe().await.expect("known");
    assert_eq!((broken.retry_count, broken.failure_category.as_deref()), (0, Some("input")));
    assert_eq!(hopeless.describe().await.expect("known").attempt_count, 4);
    assert_eq!((report.retried, report.failed, report.completed), (5, 2, 1));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_category_panic() {
    let engine = engine().await;
    let handle = engine.execution("boom", &()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("boom", |ctx: Context, (): ()| async move {
        assert!(ctx.attempt_index().get() > 7, "the kettle is dry");
        Ok::<_, TaskError>(())
    });
    until(worker, async {
        let Err(Error::Ended { category, reason, .. }) = handle.result::<()>().await else { panic!("it panics") };
        assert_eq!(category.as_deref(), Some("panic"));
        assert_eq!(reason.as_deref(), Some("the kettle is dry"));
    })
    .await;
}

#[tokio::test]
async fn an_input_of_another_type_is_a_permanent_failure() {
    let engine = engine().await;
    let handle = engine.execution("add", &"one").retries(Retries::immediate(9)).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("add", |_: Context, n: i32| async move { Ok::<_, TaskError>(n) });
    until(worker, async {
        let Err(Error::Ended { category, .. }) = handle.result::<i32>().await else { panic!("no number") };
        assert_eq!(category.as_deref(), Some("bad_input"));
    })
    .await;
}

#[tokio::test]
async fn the_work_of_a_dead_worker_is_taken_over_when_its_lease_has_run_out() {
    let engine = engine().await;
    let handle = engine.execution("slow", &()).submit().await.expect("submitted");
    let (started, has_started) = oneshot::channel();
    let started = Arc::new(std::sync::Mutex::new(Some(started)));
    let doomed = Worker::builder(&engine)
        .name("doomed")
        .lease(Duration::from_millis(1_000))
        .handler("slow", move |_: Context, (): ()| {
            let started = started.lock().expect("not poisoned").take();
            async move {
                started.map(|s| s.send(()));
                std::future::pending::<()>().await;
                Ok::<_, TaskError>(0)
            }
        })
        .build()
        .expect("well put together");
    let dying = tokio::spawn(doomed.run_until(std::future::pending()));
    timeout(SOON, has_started).await.expect("in time").expect("the handler ran");
    // Renewed at a third of its time, it outlives that time.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(handle.describe().await.expect("known").reclaim_count, 0);
    dying.abort();
    let heir = Worker::builder(&engine)
        .handler("slow", |ctx: Context, (): ()| async move { Ok::<_, TaskError>(ctx.claimed().reclaim_count) });
    let report = until(heir, async {
        assert_eq!(handle.result::<u32>().await.expect("taken over"), 1);
    })
    .await;
    assert_eq!(report.reclaimed, 1);
    assert_eq!(handle.describe().await.expect("known").attempt_count, 2);
}

#[tokio::test]
async fn a_cancellation_reaches_the_handler_with_its_reason() {
    let engine = engine().await;
    let handle = engine.execution("long", &()).submit().await.expect("submitted");
    let (told, was_told) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let worker = Worker::builder(&engine).handler("long", move |ctx: Context, (): ()| {
        let told = told.lock().expect("not poisoned").take();
        async move {
            ctx.progress(10, "waiting").await?;
            let reason = ctx.cancelled().await;
            told.map(|t| t.send(reason));
            Ok::<_, TaskError>(())
        }
    });
    let report = until(worker, async {
        while handle.describe().await.expect("known").progress.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        handle.cancel("zoe", "not needed any more").await.expect("cancelled");
        assert_eq!(was_told.await.expect("told"), StopReason::Cancelled);
    })
    .await;
    assert_eq!(report.lost, 1, "a stale end is no error");
    let end = handle.describe().await.expect("known");
    assert_eq!((end.public_state, end.end_cause), (PublicState::Cancelled, Some(EndCause::Cancelled)));
}

#[tokio::test]
async fn a_deadline_and_an_attempts_time_reach_the_handler() {
    let engine = engine().await;
    let late = engine.execution("long", &()).deadline(Duration::from_secs(2)).submit().await.expect("submitted");
    let slow =
        engine.execution("long", &()).attempt_timeout(Duration::from_millis(60)).submit().await.expect("submitted");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::builder(&engine).handler("long", move |ctx: Context, (): ()| {
        let tell = tell.clone();
        async move {
            let reason = ctx.cancelled().await;
            let _ = tell.send((ctx.execution_id(), reason));
            // An answer at this very instant would still count.
            std::future::pending::<Result<(), TaskError>>().await
        }
    });
    let worker = worker.grace(Duration::from_millis(10));
    until(worker, async {
        let mut reasons = Vec::from([told.recv().await.expect("one"), told.recv().await.expect("two")]);
        reasons.sort_by_key(|(_, reason)| *reason != StopReason::DeadlinePassed);
        assert_eq!(reasons, [(late.id(), StopReason::DeadlinePassed), (slow.id(), StopReason::AttemptTimeout)]);
        assert_eq!(late.wait().await.expect("known"), PublicState::Expired);
    })
    .await;
}

#[tokio::test]
async fn a_suspended_attempt_goes_on_with_the_signal_that_its_token_let_in() {
    let engine = engine().await;
    let handle = engine.execution("publish", &"index").submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("publish", |ctx: Context, what: String| async move {
        if ctx.resume_info().is_none() {
            let approval = Suspend::until_signal("approved")
                .reason(SuspensionReason::WaitingForApproval)
                .detail(format!("publish {what}"))
                .remember(&7);
            match ctx.suspend(approval).await? {
                Suspended::Paused(paused) => return Err(paused.into()),
                Suspended::AlreadySatisfied(_) => unreachable!("nobody has its token"),
            }
        }
        let by: String = serde_json::from_slice(ctx.signals()[0].payload.as_ref().expect("inline"))?;
        let remembered: u32 = ctx.remembered()?;
        Ok::<_, TaskError>(format!("{what} approved by {by}, {remembered}, attempt {}", ctx.attempt_index()))
    });
    let report = until(worker, async {
        let waitpoint = loop {
            if let Some(waitpoint) = engine.waitpoints(handle.id()).await.expect("known").pop() {
                break waitpoint;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let token = &waitpoint.tokens[0].token;
        let signal = |token: &str| engine.signal(handle.id(), waitpoint.waitpoint_id, token, "approved");
        let error = signal("ffw1.nobody.AAAA").send().await.expect_err("no token");
        assert_eq!(error.code(), Some(ff_core::refusal::Code::InvalidToken));
        let effect = signal(token.expose()).payload("zoe").send().await.expect("accepted");
        assert_eq!(effect, SignalEffect::ResumeConditionSatisfied);
        assert_eq!(handle.result::<String>().await.expect("approved"), "index approved by zoe, 7, attempt 0");
    })
    .await;
    assert_eq!((report.paused, report.resumed, report.completed), (1, 1, 1));
}

#[tokio::test]
async fn a_waitpoint_made_ahead_keeps_a_signal_that_comes_before_the_suspension() {
    let engine = engine().await;
    let handle = engine.execution("call", &()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("call", |ctx: Context, (): ()| async move {
        let waitpoint = ctx.waitpoint(Duration::from_secs(60)).await?;
        let token = waitpoint.token().expect("one for anybody");
        let effect =
            ctx.engine().signal(ctx.execution_id(), waitpoint.id(), token, "answer").payload(&42).send().await?;
        assert_eq!(effect, SignalEffect::BufferedForPendingWaitpoint);
        match ctx.suspend(Suspend::until_signal("answer").on(&waitpoint)).await? {
            Suspended::AlreadySatisfied(matched) => Ok(matched.total),
            Suspended::Paused(paused) => Err(paused.into()),
        }
    });
    until(worker, async {
        assert_eq!(handle.result::<u64>().await.expect("satisfied at once"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_delay_pauses_the_attempt_and_frames_keep_their_order_over_it() {
    let engine = engine().await;
    let handle = engine.execution("nap", &()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("nap", |ctx: Context, (): ()| async move {
        ctx.frame("log", "working").await?;
        if ctx.resumed().is_none() {
            return Err(TaskError::delay(Duration::from_millis(30)));
        }
        Ok(ctx.attempt_index().get())
    });
    until(worker, async {
        assert_eq!(handle.result::<u32>().await.expect("after the nap"), 0);
    })
    .await;
    let args = ff_core::contracts::ReadFramesArgs::builder()
        .execution_id(handle.id())
        .attempt_index(ff_core::ids::AttemptIndex(0))
        .build();
    let ff_core::contracts::ReadFramesResult::Frames(frames) =
        engine.backend().read_frames(args).await.expect("readable");
    assert_eq!(frames.frames.len(), 2);
}

#[tokio::test]
async fn a_shutdown_lets_handlers_end_and_gives_back_what_takes_too_long() {
    let engine = engine().await;
    let quick = engine.execution("work", &50_u64).submit().await.expect("submitted");
    let endless = engine.execution("work", &1_000_000_u64).submit().await.expect("submitted");
    let running = Arc::new(AtomicU32::new(0));
    let worker = || {
        let running = Arc::clone(&running);
        Worker::builder(&engine).handler("work", move |ctx: Context, ms: u64| {
            running.fetch_add(1, Ordering::SeqCst);
            async move {
                if ctx.attempt_index().get() > 0 {
                    return Ok("begun anew");
                }
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok::<_, TaskError>("slept")
            }
        })
    };
    let bounded = worker().drain(Duration::from_millis(200)).grace(Duration::from_millis(20));
    let report = until(bounded, async {
        while running.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!((report.completed, report.given_back), (1, 1));
    assert_eq!(quick.result::<String>().await.expect("drained"), "slept");
    until(worker(), async {
        assert_eq!(endless.result::<String>().await.expect("given back"), "begun anew");
    })
    .await;
    let end = endless.describe().await.expect("known");
    assert_eq!((end.reclaim_count, end.retry_count, end.attempt_count), (0, 0, 2));
}

#[tokio::test]
async fn capabilities_and_lanes_decide_who_gets_what() {
    let engine = engine().await;
    let plain = engine.execution("job", &"plain").lane("b").submit().await.expect("submitted");
    let gpu = engine.execution("job", &"gpu").lane("a").requires(["gpu"]).submit().await.expect("submitted");
    let job = |_: Context, text: String| async move { Ok::<_, TaskError>(text) };
    until(Worker::builder(&engine).lane("a").lane("b").handler("job", job), async {
        plain.wait().await.expect("known");
    })
    .await;
    assert_eq!(gpu.describe().await.expect("known").public_state, PublicState::Waiting);
    until(Worker::builder(&engine).lane("a").capabilities(["gpu", "ssd"]).handler("job", job), async {
        gpu.wait().await.expect("known");
    })
    .await;
}

#[tokio::test]
async fn a_thousand_executions_over_two_workers_all_end_once() {
    let engine = engine().await;
    let mut handles = Vec::new();
    for n in 0..1000_u32 {
        handles.push(engine.execution("square", &n).submit().await.expect("submitted"));
    }
    let calls = Arc::new(AtomicU32::new(0));
    let worker = || {
        let calls = Arc::clone(&calls);
        let square = move |_: Context, n: u32| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, TaskError>(n * n) }
        };
        Worker::builder(&engine).concurrency(8).handler("square", square).build().expect("well put together")
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let both = [worker(), worker()].map(|w| tokio::spawn(w.run_until(stop.clone().cancelled_owned())));
    for (n, handle) in (0_u32..).zip(&handles) {
        assert_eq!(timeout(SOON, handle.result::<u32>()).await.expect("in time").expect("a square"), n * n);
    }
    stop.cancel();
    let mut completed = 0;
    for worker in both {
        completed += worker.await.expect("no panic").expect("no refusal").completed;
    }
    assert_eq!((completed, calls.load(Ordering::SeqCst)), (1000, 1000));
}
