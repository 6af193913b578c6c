//! Workers and admission-controlled executions: budgets stop them, quota policies let them in one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ff_core::state::PublicState;
use ff_engine::{
    BudgetLimits, Context, Engine, QuotaLimits, ReportUsageResult, Retries, Suspend, Suspended, TaskError,
    TimeoutBehavior, Worker,
};

use crate::common::{ended, memory, until};

async fn engine() -> Engine {
    memory(4).await
}

#[tokio::test]
async fn a_cap_is_never_exceeded_and_every_end_of_a_lease_frees_its_slot_once() {
    let engine = engine().await;
    let quota = engine.quota("q").expect("a name");
    quota.create(QuotaLimits::concurrent(3)).await.expect("created");
    let mut all = Vec::new();
    for n in 0..60_u64 {
        let call = engine.execution("call", &n).quota("q").retries(Retries::immediate(1)).submit();
        all.push(call.await.expect("submitted"));
    }
    let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let worker = || {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        Worker::builder(&engine).handler("call", move |ctx: Context, n: u64| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                match n % 5 {
                    0 => Ok(()),
                    1 if ctx.attempt_index().get() == 0 => Err(TaskError::retryable("once more")),
                    2 if ctx.resumed().is_none() => Err(TaskError::delay(Duration::from_millis(1))),
                    3 => Err(TaskError::permanent("never")),
                    4 if ctx.resumed().is_none() => {
                        let brief =
                            Suspend::until_signal("s").timeout(Duration::from_millis(1), TimeoutBehavior::AutoResume);
                        match ctx.suspend(brief).await? {
                            Suspended::Paused(paused) => Err(paused.into()),
                            Suspended::AlreadySatisfied(_) => Ok(()),
                        }
                    }
                    _ => Ok(()),
                }
            }
        })
    };
    let other = worker().name("other").build().expect("well put together");
    let stop = tokio_util::sync::CancellationToken::new();
    let other = tokio::spawn(other.run_until(stop.clone().cancelled_owned()));
    until(worker(), ended(&all)).await;
    stop.cancel();
    other.await.expect("no panic").expect("no refusal");
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    let status = quota.status().await.expect("exists");
    assert_eq!((status.in_use, status.waiting), (0, 0));
}

#[tokio::test]
async fn a_slot_lives_as_long_as_its_renewed_lease() {
    let engine = engine().await;
    let quota = engine.quota("q").expect("a name");
    quota.create(QuotaLimits::concurrent(1)).await.expect("created");
    let slow = engine.execution("call", &4_000_u64).quota("q").submit().await.expect("submitted");
    let worker = Worker::builder(&engine).lease(Duration::from_millis(1_500)).handler(
        "call",
        |_: Context, ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok::<_, TaskError>(())
        },
    );
    until(worker, async {
        while quota.status().await.expect("exists").in_use == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ended(std::slice::from_ref(&slow)).await;
    })
    .await;
    assert_eq!(slow.describe().await.expect("known").attempt_count, 1);
    assert_eq!(quota.status().await.expect("exists").in_use, 0);
}

#[tokio::test]
async fn a_rate_spreads_the_starts_over_its_windows() {
    let engine = engine().await;
    let window = Duration::from_millis(200);
    engine.quota("q").expect("a name").create(QuotaLimits::rate(2, window)).await.expect("created");
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(engine.execution("call", &()).quota("q").submit().await.expect("submitted"));
    }
    let (began, starts) = (tokio::time::Instant::now(), Arc::new(parking_lot::Mutex::new(Vec::new())));
    let worker = Worker::builder(&engine).handler("call", {
        let starts = Arc::clone(&starts);
        move |_: Context, (): ()| {
            starts.lock().push(began.elapsed());
            async move { Ok::<_, TaskError>(()) }
        }
    });
    until(worker, ended(&all)).await;
    let starts = starts.lock();
    assert_eq!(starts.len(), 6);
    // Admitted at 0, 200 and 400 ms; the start follows.
    assert!(starts[2] >= Duration::from_millis(150) && starts[4] >= Duration::from_millis(350), "{starts:?}");
}

#[tokio::test]
async fn a_budget_that_is_used_up_stops_what_has_not_begun_and_a_reset_lets_it_go_on() {
    let engine = engine().await;
    let budget = engine.budget("llm").expect("a name");
    let limits = BudgetLimits::hard("tokens", 100).reset_every(Duration::from_secs(3));
    budget.create(limits).await.expect("created");
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(engine.execution("ask", &60_u64).budget("llm").submit().await.expect("submitted"));
    }
    let breaches = Arc::new(AtomicU64::new(0));
    let worker = Worker::builder(&engine).concurrency(1).handler("ask", {
        let breaches = Arc::clone(&breaches);
        move |ctx: Context, tokens: u64| {
            let breaches = Arc::clone(&breaches);
            async move {
                if let ReportUsageResult::HardBreach { .. } = ctx.report_usage("llm", "tokens", tokens).await? {
                    breaches.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, TaskError>(())
            }
        }
    });
    let mut waited = false;
    until(worker, async {
        while !waited {
            for handle in &all {
                waited |= handle.describe().await.expect("known").public_state == PublicState::RateLimited;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ended(&all).await;
    })
    .await;
    assert!(breaches.load(Ordering::SeqCst) >= 1);
    let status = budget.status().await.expect("exists");
    assert!(status.reset_count >= 1, "{status:?}");
}

#[tokio::test]
async fn ordinary_work_without_end_does_not_starve_what_needs_admission() {
    let engine = Engine::connect("memory:?partitions=1").await.expect("an empty store");
    engine.quota("q").expect("a name").create(QuotaLimits::concurrent(5)).await.expect("created");
    for n in 0..300 {
        engine.execution("plain", &n).submit().await.expect("submitted");
    }
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(engine.execution("call", &()).quota("q").submit().await.expect("submitted"));
    }
    // How many ordinary ones came before each of the others.
    let (plain, before) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let worker = Worker::builder(&engine)
        .concurrency(1)
        .handler("call", {
            let (plain, before) = (Arc::clone(&plain), Arc::clone(&before));
            move |_: Context, (): ()| {
                before.store(plain.load(Ordering::SeqCst), Ordering::SeqCst);
                async move { Ok::<_, TaskError>(()) }
            }
        })
        .handler("plain", move |_: Context, _: u64| {
            plain.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, TaskError>(()) }
        });
    until(worker, ended(&all)).await;
    let before = before.load(Ordering::SeqCst);
    assert!(before < 100, "{before} ordinary executions came first");
}
