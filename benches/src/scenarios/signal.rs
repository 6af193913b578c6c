//! Suspend, deliver, claim again: the round trip of an answer from outside, by one caller with nobody beside it.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use ff_core::contracts::{DeliverSignalArgs, SignalSource, SuspendExecutionResult};
use ff_core::ids::SignalId;

use crate::report::{Report, per_second};
use crate::target::Target;
use crate::worker::{self, Times, Worker};

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    target.install_keys().await?;
    let n = (target.executions / 10).max(1);
    let worker = Worker::new(target, 0, 0)?;
    let before = target.usage().await?;
    let mut times = Times::default();
    let begin = Instant::now();
    for _ in 0..n {
        worker.backend.create_execution(worker.creation()).await?;
        let claim = worker.claim_one().await?;
        let start = Instant::now();
        let suspension = worker::suspension(claim.execution_id, claim.fence);
        let asleep = worker.backend.suspend_execution(suspension).await?;
        let SuspendExecutionResult::Suspended { waitpoints, .. } = asleep else { bail!("not asleep: {asleep:?}") };
        let suspended = Instant::now();
        let waitpoint = waitpoints.first().context("a waitpoint")?;
        let token = waitpoint.tokens.first().context("a token")?.token.clone();
        let signal = DeliverSignalArgs::builder()
            .execution_id(claim.execution_id)
            .waitpoint_id(waitpoint.waitpoint_id)
            .waitpoint_token(token)
            .signal_id(SignalId::new())
            .name("go")
            .source(SignalSource::new("human", "ann"))
            .build();
        worker.backend.deliver_signal(signal).await?;
        let delivered = Instant::now();
        let claim = worker.claim_one().await.context("the resumed attempt")?;
        times.add("round trip", start.elapsed());
        times.add("suspend", suspended - start);
        times.add("deliver", delivered - suspended);
        times.add("claim", delivered.elapsed());
        worker.complete(&claim).await?;
    }
    report.add("signal", "lifecycles/s", per_second(n, begin.elapsed()));
    target.report_usage("signal", "lifecycle", n, &before, report).await?;
    times.report("signal", report);
    target.check().await
}
