//! What operators and clients ask: why is it not running, run it again, label it, follow it, submit many, is all well.

use std::time::Duration;

use ff_core::contracts::{BlockExecutionArgs, CreateFlowArgs, FlowJoin, RevokeLeaseArgs};
use ff_core::ids::{AttemptIndex, FlowId};
use ff_core::state::{BlockReason, EndCause, PublicState};
use ff_engine::{
    Context, Engine, Error, QuotaLimits, Retries, Suspend, Suspended, SuspensionReason, TaskError, Why, Worker,
    WorkerBuilder,
};
use futures::{StreamExt, TryStreamExt};

use crate::common::{memory, until};

async fn engine() -> Engine {
    memory(1).await
}

fn quick(engine: &Engine) -> WorkerBuilder {
    Worker::builder(engine).handler("job", |ctx: Context, n: u32| async move {
        if n == 13 { Err(TaskError::permanent("unlucky")) } else { Ok(n + ctx.claimed().run) }
    })
}

#[tokio::test]
async fn a_ready_execution_tells_its_place_and_who_serves_it() {
    let engine = engine().await;
    let first = engine.execution("job", &1).submit().await.expect("submitted");
    let second = engine.execution("job", &2).submit().await.expect("submitted");
    let urgent = engine.execution("job", &3).priority(9).submit().await.expect("submitted");
    for (handle, place) in [(&urgent, 0), (&first, 1), (&second, 2)] {
        let explanation = handle.explain().await.expect("known");
        let Why::Ready { ahead, at_least, needs_admission, lost, workers_here, .. } = explanation.why else {
            panic!("{explanation}")
        };
        assert_eq!((ahead, at_least, needs_admission, lost, workers_here), (place, false, false, false, 0));
    }
    let text = second.explain().await.expect("known").to_string();
    assert_eq!(
        text,
        "waiting: it is ready, with at most 2 before it in lane default; no worker of this process serves that lane"
    );
}

#[tokio::test]
async fn a_capability_that_no_worker_offers_is_named() {
    let engine = engine().await;
    let handle = engine.execution("job", &1).requires(["gpu", "cuda"]).submit().await.expect("submitted");
    until(quick(&engine).capabilities(["gpu"]), async {
        let explanation = loop {
            let explanation = handle.explain().await.expect("known");
            if let Why::NoCapableWorker { .. } = explanation.why {
                break explanation.to_string();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(explanation, "waiting: it is ready, and no worker of lane default in this process offers cuda");
    })
    .await;
    // No worker runs any more.
    assert!(matches!(handle.explain().await.expect("known").why, Why::Ready { workers_here: 0, .. }));
}

#[tokio::test]
async fn what_waits_for_time_others_or_an_operator_says_so() {
    let engine = engine().await;
    let delayed = engine.execution("job", &1).delay(Duration::from_secs(60)).submit().await.expect("submitted");
    let Why::NotYet { until, .. } = delayed.explain().await.expect("known").why else { panic!("delayed") };
    assert_eq!(Some(until), delayed.describe().await.expect("known").not_before);

    let mut flow = engine.flow("two");
    let a = flow.task("job", &1).expect("encodes").name("a").delay(Duration::from_secs(60));
    let _b = flow.task("job", &1).expect("encodes").name("b").after(&a);
    let flow = flow.submit().await.expect("submitted");
    let (a, b) = (flow.member("a").expect("named"), flow.member("b").expect("named"));
    let explanation = b.explain().await.expect("known");
    assert_eq!(
        explanation.to_string(),
        format!("waiting_children: it waits for 1 other executions of its flow: {}", a.id())
    );

    let flow_id = FlowId::new(engine.backend().deployment().partitions);
    let args =
        CreateFlowArgs::builder().flow_id(flow_id).namespace(engine.namespace().clone()).flow_kind("open").build();
    engine.backend().create_flow(args).await.expect("created");
    let held = ff_core::contracts::CreateExecutionArgs::builder()
        .execution_id(ff_core::ids::ExecutionId::in_flow(&flow_id))
        .namespace(engine.namespace().clone())
        .lane_id(engine.default_lane().clone())
        .kind("job")
        .flow(FlowJoin::held(flow_id))
        .build();
    let id = held.execution_id;
    engine.backend().create_execution(held).await.expect("created");
    assert!(matches!(engine.explain(id).await.expect("known").why, Why::Dependencies { held: true, .. }));

    let blocked = engine.execution("job", &1).submit().await.expect("submitted");
    let args = BlockExecutionArgs::builder()
        .execution_id(blocked.id())
        .reason(BlockReason::PausedByOperator)
        .detail("the printer is out of paper")
        .by("zoe")
        .build();
    engine.backend().block_execution(args).await.expect("waiting");
    assert_eq!(
        blocked.explain().await.expect("known").to_string(),
        "waiting: it is held back by paused_by_operator (set by zoe: the printer is out of paper) until somebody lifts it"
    );
    assert_eq!(
        engine
            .explain(ff_core::ids::ExecutionId::new(engine.backend().deployment().partitions))
            .await
            .expect_err("unknown")
            .code(),
        Some(ff_core::refusal::Code::ExecutionNotFound)
    );
}

#[tokio::test]
async fn what_waits_at_a_quota_policy_says_at_which() {
    let engine = engine().await;
    engine
        .quota("crawl")
        .expect("a name")
        .create(QuotaLimits::rate(1, Duration::from_secs(60)))
        .await
        .expect("created");
    let first = engine.execution("job", &1).quota("crawl").submit().await.expect("submitted");
    let second = engine.execution("job", &2).quota("crawl").submit().await.expect("submitted");
    assert!(matches!(first.explain().await.expect("known").why, Why::Ready { needs_admission: true, .. }));
    until(quick(&engine), async {
        first.result::<u32>().await.expect("admitted");
    })
    .await;
    let explanation = second.explain().await.expect("known");
    assert!(explanation.to_string().contains("quota policy crawl: its rate is used up"), "{explanation}");
}

#[tokio::test]
async fn what_runs_waits_for_an_answer_or_has_ended_says_so() {
    let engine = engine().await;
    let handle = engine.execution("ask", &()).deadline(Duration::from_secs(3600)).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("ask", |ctx: Context, (): ()| async move {
        let explanation = ctx.engine().explain(ctx.execution_id()).await?;
        assert!(matches!(explanation.why, Why::Running { .. }), "{explanation}");
        let ask = Suspend::until_signal("yes").reason(SuspensionReason::WaitingForApproval).detail("ship it");
        match ctx.suspend(ask).await? {
            Suspended::Paused(paused) => Err::<(), _>(paused.into()),
            Suspended::AlreadySatisfied(_) => Ok(()),
        }
    });
    until(worker, async {
        while handle.describe().await.expect("known").public_state != PublicState::Suspended {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let text = handle.explain().await.expect("known").to_string();
    let begins = "suspended: it is suspended (waiting_for_approval), ship it, listening at 1 waitpoint, for as long as it takes; its deadline is ";
    assert!(text.starts_with(begins), "{text}");
    handle.cancel("zoe", "never mind").await.expect("not ended");
    let explanation = handle.explain().await.expect("known");
    assert!(
        explanation.to_string().starts_with("cancelled: it has ended (cancelled), by operator:zoe: never mind"),
        "{explanation}"
    );
    assert!(matches!(explanation.why, Why::Ended { cause: Some(EndCause::Cancelled), .. }));
}

#[tokio::test]
async fn what_was_withdrawn_waits_to_be_taken_over() {
    let engine = engine().await;
    let handle = engine.execution("stuck", &()).submit().await.expect("submitted");
    let worker = Worker::builder(&engine)
        .handler("stuck", |_: Context, (): ()| std::future::pending::<Result<(), TaskError>>())
        .build()
        .expect("well put together");
    let running = tokio::spawn(worker.run_until(std::future::pending()));
    let lease_id = loop {
        if let Some(lease) = handle.describe().await.expect("known").current_lease {
            break lease.lease_id;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    running.abort();
    let _ = running.await;
    let args = RevokeLeaseArgs { execution_id: handle.id(), lease_id, reason: "stuck".into(), by: "zoe".into() };
    engine.backend().revoke_lease(args).await.expect("running");
    assert!(matches!(handle.explain().await.expect("known").why, Why::Ready { lost: true, .. }));
}

#[tokio::test]
async fn a_failed_execution_is_replayed_and_its_tags_and_priority_are_changed() {
    let engine = engine().await;
    let handle = engine.execution("job", &13).tag("shop.order", "17").submit().await.expect("submitted");
    assert!(handle.replay("zoe", "too early").await.is_err());
    handle.set_priority(7).await.expect("not ended");
    until(quick(&engine), async {
        assert_eq!(handle.wait().await.expect("known"), PublicState::Failed);
        assert_eq!(handle.replay("zoe", "the stars are better").await.expect("ended"), 1);
        assert_eq!(handle.wait().await.expect("known"), PublicState::Failed);
    })
    .await;
    handle.set_tag("team.owner", "blue").await.expect("legal");
    handle.remove_tag("shop.order").await.expect("legal");
    let end = handle.describe().await.expect("known");
    assert_eq!((end.run, end.attempt_count, end.priority), (1, 2, 7));
    assert_eq!(end.tags.into_iter().collect::<Vec<_>>(), [("team.owner".to_owned(), "blue".to_owned())]);
    let error = handle.set_tag("no point", "x").await.expect_err("no tag key");
    assert_eq!(error.code(), Some(ff_core::refusal::Code::InvalidTagKey));
}

#[tokio::test]
async fn output_and_progress_are_followed_over_attempts_and_pauses_until_the_end() {
    let engine = engine().await;
    let retries = Retries::fixed(1, Duration::from_millis(30));
    let handle = engine.execution("talk", &()).retries(retries).submit().await.expect("submitted");
    let worker = Worker::builder(&engine).handler("talk", |ctx: Context, (): ()| async move {
        ctx.progress(10 * u8::try_from(ctx.attempt_index().get()).expect("small") + 10, "talking").await?;
        ctx.frame("word", &format!("attempt {}", ctx.attempt_index())).await?;
        if ctx.resumed().is_none() {
            return Err(TaskError::delay(Duration::from_millis(20)));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        ctx.frame("word", "again").await?;
        if ctx.attempt_index() == AttemptIndex(0) { Err(TaskError::retryable("once more")) } else { Ok(()) }
    });
    until(worker, async {
        let words = async {
            let words: Vec<(u32, String)> = handle
                .output()
                .map(|frame| frame.and_then(|frame| Ok((frame.attempt_index.get(), frame.json()?))))
                .try_collect()
                .await
                .expect("readable");
            words
        };
        let steps = async {
            let steps: Vec<Option<u8>> = handle.progress().map_ok(|p| p.pct).try_collect().await.expect("readable");
            steps
        };
        let (words, steps) = tokio::join!(words, steps);
        let said = |attempt: u32| {
            [
                (attempt, format!("attempt {attempt}")),
                (attempt, format!("attempt {attempt}")),
                (attempt, "again".into()),
            ]
        };
        assert_eq!(words, [said(0), said(1)].concat());
        assert_eq!((steps.first(), steps.last()), (Some(&Some(10)), Some(&Some(20))));
    })
    .await;
    // After the end it is read the same, and what never ran tells nothing.
    assert_eq!(handle.output_from(AttemptIndex(1)).count().await, 3);
    let never = engine.execution("talk", &()).submit().await.expect("submitted");
    never.cancel("zoe", "").await.expect("not ended");
    assert_eq!(never.output().count().await, 0);
}

#[tokio::test]
async fn of_many_submissions_each_stands_for_itself() {
    let engine = engine().await;
    let all = engine
        .submit_all((0..600).map(|n| {
            let builder = engine.execution("job", &n).idempotency_key(format!("key-{}", n / 2));
            if n == 300 { builder.lane("no spaces") } else { builder }
        }))
        .await;
    assert_eq!(all.len(), 600);
    for (n, answer) in all.iter().enumerate() {
        match answer {
            Ok(_) => assert!(n.is_multiple_of(2) || n == 301, "{n} has another content under the same key"),
            Err(Error::InvalidId(_)) => assert_eq!(n, 300),
            Err(error) => {
                assert_eq!(error.code(), Some(ff_core::refusal::Code::IdempotencyConflict), "{n}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn health_tells_of_the_store_and_of_the_background_work() {
    let engine = engine().await;
    let health = engine.health().await.expect("reached");
    assert!(health.is_healthy());
    assert_eq!(health.maintenance.last_success_at, None);
    assert!(health.warnings.iter().any(|w| w.contains("before anything is on disk")), "{:?}", health.warnings);
    let handle = engine.execution("job", &1).delay(Duration::from_millis(10)).submit().await.expect("submitted");
    until(quick(&engine), async {
        handle.result::<u32>().await.expect("after its delay");
    })
    .await;
    let health = engine.health().await.expect("reached");
    assert!(health.maintenance.last_success_at.is_some() && health.lag_ms == 0, "{health:?}");
}
