//! The lifecycle beside many executions that are stored already: its rate relative to the empty store.

use std::time::Instant;

use anyhow::Result;
use ff_core::time::When;

use crate::report::{Report, per_second};
use crate::scenarios::lifecycle::one_by_one;
use crate::target::Target;
use crate::worker;

const FAR_MS: u64 = 30 * 86_400_000;

/// `stored` ascends; the store grows from each to the next.
pub(crate) async fn run(target: &Target, stored: &[usize], report: &mut Report) -> Result<()> {
    let n = (target.executions / target.workers).max(1);
    let mut there = 0;
    let mut empty = None;
    for want in [0].iter().chain(stored) {
        let more = want.saturating_sub(there).div_ceil(target.workers);
        eprintln!("  {want} stored");
        // A third waits for time, a third is ready in lanes that nobody serves, a third is finished and retained.
        worker::each(target, 0, move |worker| async move {
            let mut other = worker.clone();
            other.lane = ff_core::ids::LaneId::new("stored")?;
            let third = more / 3;
            other.create(third, |args| args.delay = Some(When::After(FAR_MS))).await?;
            worker.batches(third).await?;
            other.create(more - 2 * third, |_| ()).await
        })
        .await?;
        there += more * target.workers;
        let start = Instant::now();
        worker::each(target, 4096, |worker| async move { one_by_one(&worker, n).await.map(|_| ()) }).await?;
        let rate = per_second(n * target.workers, start.elapsed());
        report.add("growth", &format!("lifecycles/s at {want}"), rate);
        let empty = *empty.get_or_insert(rate);
        if *want > 0 {
            report.add("growth", &format!("rate at {want} / empty"), rate / empty);
        }
    }
    target.check().await
}
