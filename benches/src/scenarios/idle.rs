//! Many executions wait for time and many for signals, workers and maintenance run, and nothing is due: what idling costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use ff_core::contracts::ClaimedExecution;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome};
use ff_core::time::When;
use ff_engine::{Context, Engine, TaskError, Worker as EngineWorker};

use crate::report::Report;
use crate::target::{Target, count};
use crate::worker::{self, TOGETHER};

/// Counts the calls of an engine, on whatever backend.
#[derive(Default)]
struct Calls(AtomicU64);

#[async_trait]
impl Layer for Calls {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        ff_core::operation::dispatch(inner, operation).await
    }
}

/// Far enough that nothing becomes due while we look.
const DAY_MS: u64 = 86_400_000;

async fn job(_: Context, (): ()) -> Result<(), TaskError> {
    Ok(())
}

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    target.install_keys().await?;
    // Ten times the size, waiting and suspended each: 100,000 of each by default.
    let n = (target.executions * 10 / target.workers).max(1);
    eprintln!("  {} wait, {} are suspended", n * target.workers, n * target.workers);
    worker::each(target, 0, |worker| async move {
        worker.create(n, |args| args.delay = Some(When::After(DAY_MS))).await?;
        for done in (0..n).step_by(TOGETHER) {
            let some = (n - done).min(TOGETHER);
            worker.create(some, |_| ()).await?;
            let asleep = |claim: &ClaimedExecution| worker::suspension(claim.execution_id, claim.fence).into();
            worker.serve(some, TOGETHER, asleep).await?;
        }
        Ok(())
    })
    .await?;

    let counted = Arc::new(Layered::new(Arc::clone(&target.backend), Calls::default()));
    let engine = Engine::with_backend(Arc::clone(&counted) as Arc<dyn EngineBackend>).await?;
    let mut builder = EngineWorker::builder(&engine).handler("job", job);
    for lane in 0..100 {
        builder = builder.lane(format!("waiting{lane}"));
    }
    let worker = builder.build()?;
    // The first looks at everything are no idling.
    let (settle, look) = if target.executions < 1000 { (500, 1_000) } else { (3_000, 20_000) };
    let (settle, look) = (Duration::from_millis(settle), Duration::from_millis(look));
    let watch = async {
        tokio::time::sleep(settle).await;
        let calls = counted.layer().0.load(Ordering::Relaxed);
        let before = target.usage().await;
        tokio::time::sleep(look).await;
        let calls = counted.layer().0.load(Ordering::Relaxed) - calls;
        (calls, before, target.usage().await)
    };
    let (calls, before, after) = worker.run_while(watch).await?;
    let (before, after) = (before?, after?);
    let seconds = look.as_secs_f64();
    report.add("idle", "store calls/s", count(usize::try_from(calls)?) / seconds);
    let what = if target.server.is_some() { "server" } else { "process" };
    report.add("idle", &format!("{what} ms/s"), (after.cpu_us - before.cpu_us) / 1e3 / seconds);
    target.check().await
}
