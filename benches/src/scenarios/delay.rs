//! Executions that become due over ten seconds, taken by an engine's worker as an application runs it: how late each starts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ff_core::time::{Clock, SystemClock};
use ff_engine::{Context, Engine, TaskError, Worker as EngineWorker};

use crate::report::Report;
use crate::target::Target;
use crate::worker::Times;

/// How long the due instants are spread over; with few executions less, so that a tiny run is quick.
const SPREAD: Duration = Duration::from_secs(10);

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let engine = Engine::with_backend(Arc::clone(&target.backend)).await?;
    let n = target.executions;
    let spread = SPREAD.min(Duration::from_millis(20 * u64::try_from(n)?));
    // The submission must be over before the first is due: on a slow machine, and in a debug build, too.
    let lead = Duration::from_secs(1) + Duration::from_millis(u64::try_from(n)?);
    let begin = now_ms() + u64::try_from(lead.as_millis())?;
    let mut submissions = Vec::with_capacity(n);
    for i in 0..n {
        let due = begin + u64::try_from(spread.as_millis())? * u64::try_from(i)? / u64::try_from(n)?;
        let delay = Duration::from_millis(due.saturating_sub(now_ms()));
        submissions.push(engine.execution("due", &due).delay(delay));
    }
    let before = target.usage().await?;
    for submitted in engine.submit_all(submissions).await {
        submitted?;
    }
    ensure!(now_ms() < begin, "the submission took longer than its time");
    let lateness = Arc::new(Mutex::new(Vec::with_capacity(n)));
    let seen = Arc::clone(&lateness);
    let handler = move |_: Context, due: u64| {
        let seen = Arc::clone(&seen);
        async move {
            let late = now_ms().checked_sub(due);
            seen.lock().map_err(|_| TaskError::permanent("another handler panicked"))?.push(late);
            Ok::<(), TaskError>(())
        }
    };
    let worker = EngineWorker::builder(&engine).handler("due", handler).concurrency(target.workers).build()?;
    let all = Arc::clone(&lateness);
    let limit = Instant::now() + lead + spread + Duration::from_secs(30);
    let done = async move {
        while all.lock().is_ok_and(|seen| seen.len() < n) && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    worker.run_until(done).await?;
    let mut times = Times::default();
    {
        let seen = lateness.lock().ok().context("a handler panicked")?;
        ensure!(seen.len() == n, "{} of {n} started", seen.len());
        for late in seen.iter() {
            let late = late.context("one started before it was due")?;
            times.add("lateness", Duration::from_millis(late));
        }
    }
    target.report_usage("delay", "execution", n, &before, report).await?;
    times.report("delay", report);
    target.check().await
}

fn now_ms() -> u64 {
    SystemClock.now().as_millis()
}
