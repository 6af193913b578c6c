//! How users test their workflows: time passes when the test says so, and months take milliseconds.

use std::time::{Duration, Instant};

use ff_core::state::PublicState;
use ff_engine::{
    BudgetLimits, Context, Engine, Error, QuotaLimits, Retries, SignalEffect, StopReason, Suspend, Suspended,
    SuspensionReason, TaskError, TestEngine, TimeoutBehavior, Worker, WorkerBuilder,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

async fn engine(with: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> TestEngine {
    let test = Engine::in_memory().await.expect("in memory");
    test.serve(with(Worker::builder(&test))).expect("well put together");
    test
}

/// An order: reserve, wait a week for the payment, remind twice, give up; or ship.
async fn order(ctx: Context, item: String) -> Result<String, TaskError> {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Waiting {
        reminders: u32,
    }
    let reminders = match ctx.resume_info() {
        None => 0,
        Some(_) if !ctx.timed_out() => {
            let price: f64 = ctx.answer("paid")?.unwrap_or_default();
            return Ok(format!("{item} shipped for {price}"));
        }
        Some(_) => ctx.remembered::<Waiting>()?.reminders + 1,
    };
    if reminders == 3 {
        return Err(TaskError::permanent("nobody paid").category("unpaid"));
    }
    ctx.frame("mail", &format!("please pay for {item} ({reminders})")).await?;
    let payment = Suspend::until_signal("paid")
        .reason(SuspensionReason::WaitingForCallback)
        .remember(&Waiting { reminders })
        .timeout(7 * DAY, TimeoutBehavior::AutoResume);
    match ctx.suspend(payment).await? {
        Suspended::Paused(paused) => Err(paused.into()),
        Suspended::AlreadySatisfied(_) => Ok(format!("{item} shipped")),
    }
}

#[tokio::test]
async fn a_workflow_of_weeks_is_tested_in_milliseconds() {
    let began = Instant::now();
    let test = engine(|w| w.handler("order", order)).await;
    let paid = test.execution("order", "lamp").submit().await.expect("submitted");
    let unpaid = test.execution("order", "chair").submit().await.expect("submitted");
    assert_eq!(test.run_until_idle().await.expect("idle"), 2);
    test.assert_suspended(&paid).await;

    test.advance(8 * DAY).await.expect("a week and a day");
    test.assert_suspended(&paid).await;
    let effect = test.answer(&paid, "paid", &19.90).await.expect("it waits");
    assert_eq!(effect, SignalEffect::ResumeConditionSatisfied);
    test.assert_result(&paid, "lamp shipped for 19.9").await;

    assert_eq!(test.finish(&unpaid).await.expect("it gives up"), PublicState::Failed);
    test.assert_failed(&unpaid, "unpaid").await;
    assert_eq!(test.elapsed(), 21 * DAY);
    test.assert_sound();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn time_stops_at_each_retry_on_its_way() {
    let test = engine(|w| {
        w.handler("flaky", |ctx: Context, (): ()| async move {
            if ctx.attempt_index().get() < 3 {
                Err(TaskError::retryable("not yet"))
            } else {
                Ok(ctx.attempt_index().get())
            }
        })
    })
    .await;
    let retries = Retries::exponential(5, HOUR, 10 * HOUR);
    let handle = test.execution("flaky", &()).retries(retries).submit().await.expect("submitted");
    test.advance(3 * HOUR).await.expect("passes");
    assert_eq!(handle.describe().await.expect("known").attempt_count, 3, "at 0, 1 and 3 hours");
    test.assert_delayed(&handle).await;
    test.advance(4 * HOUR).await.expect("passes");
    test.assert_result(&handle, &3).await;
    assert_eq!(test.elapsed(), 7 * HOUR);
    assert_eq!(handle.describe().await.expect("known").completed_at, Some(test.now()));
}

#[tokio::test]
async fn a_flow_ends_and_one_that_cannot_says_why() {
    let test = engine(|w| {
        w.handler("number", |_: Context, n: u64| async move { Ok::<_, TaskError>(n) }).handler(
            "sum",
            |ctx: Context, (): ()| async move {
                let mut sum = 0;
                for input in ctx.inputs() {
                    sum += ctx.input::<u64>(input.name.as_str()).await?;
                }
                Ok::<_, TaskError>(sum)
            },
        )
    })
    .await;
    let mut flow = test.flow("sums");
    let a = flow.task("number", &1).expect("encodes").delay(DAY);
    let b = flow.task("number", &2).expect("encodes").delay(3 * DAY);
    let _sum = flow.task("sum", &()).expect("encodes").data("a", &a).data("b", &b);
    let flow = flow.submit().await.expect("submitted");
    assert_eq!(test.finish_flow(&flow).await.expect("ends").count(PublicState::Completed), 3);
    assert_eq!(test.elapsed(), 3 * DAY);
    test.assert_result(&flow.member("sum").expect("named"), &3).await;

    let gpu = test.execution("number", &1).requires(["gpu"]).submit().await.expect("submitted");
    let Err(Error::Setup(why)) = test.finish(&gpu).await else { panic!("nobody can run it") };
    assert!(why.ends_with("no worker of lane default in this process offers gpu"), "{why}");
}

#[tokio::test]
async fn rates_caps_and_budgets_pass_with_the_clock() {
    let test = engine(|w| {
        w.handler("call", |ctx: Context, (): ()| async move {
            ctx.report_usage("day", "calls", 1).await?;
            Ok::<_, TaskError>(())
        })
    })
    .await;
    test.quota("q").expect("a name").create(QuotaLimits::rate(2, HOUR).and_concurrent(1)).await.expect("created");
    test.budget("day").expect("a name").create(BudgetLimits::hard("calls", 5).reset_every(DAY)).await.expect("created");
    let calls: Vec<_> =
        test.submit_all((0..8).map(|_| test.execution("call", &()).quota("q").budget("day").retention(9 * DAY))).await;
    let calls: Vec<_> = calls.into_iter().map(|c| c.expect("submitted")).collect();
    let done = async || {
        let mut done = 0;
        for call in &calls {
            done += usize::from(call.describe().await.expect("known").public_state == PublicState::Completed);
        }
        done
    };
    test.run_until_idle().await.expect("idle");
    assert_eq!(done().await, 2);
    test.advance(HOUR).await.expect("passes");
    assert_eq!(done().await, 4);
    test.advance(HOUR).await.expect("passes");
    assert_eq!(done().await, 5, "the day's budget is used up");
    test.advance(21 * HOUR).await.expect("passes");
    assert_eq!(done().await, 5);
    test.advance(2 * HOUR).await.expect("passes");
    assert!(done().await >= 7, "the budget was reset at 24 hours");
    for call in &calls {
        test.finish(call).await.expect("ends");
    }
    let status = test.quota("q").expect("a name").status().await.expect("exists");
    assert_eq!((status.in_use, status.waiting), (0, 0));
    test.assert_sound();
}

#[tokio::test]
async fn a_handler_that_waits_keeps_its_lease_and_is_told_of_its_deadline() {
    let test = engine(|w| {
        w.handler("long", |ctx: Context, (): ()| async move {
            assert_eq!(ctx.cancelled().await, StopReason::DeadlinePassed);
            Ok::<_, TaskError>(())
        })
    })
    .await
    .patience(Duration::from_millis(200));
    let handle = test.execution("long", &()).deadline(2 * HOUR).submit().await.expect("submitted");
    test.advance(HOUR).await.expect("passes");
    test.assert_state(&handle, PublicState::Active).await;
    assert_eq!(handle.describe().await.expect("known").attempt_count, 1, "its lease was renewed on the way");
    test.advance(HOUR).await.expect("passes");
    test.assert_state(&handle, PublicState::Expired).await;
}
