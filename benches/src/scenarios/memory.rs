//! Bytes of a waiting, a running and a finished execution with an empty payload.

use anyhow::{Result, ensure};

use crate::report::Report;
use crate::target::{Target, count};
use crate::worker;

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let n = (target.executions / target.workers).max(1);
    let all = count(n * target.workers);
    let empty = target.usage().await?.memory;
    let mut add = |figure: &str, now: f64| report.add("memory", figure, (now - empty) / all);
    worker::each(target, 0, |worker| async move { worker.create(n, |_| ()).await }).await?;
    add("bytes waiting", target.usage().await?.memory);
    let claims = worker::each(target, 0, |worker| async move {
        let mut claims = Vec::with_capacity(n);
        while claims.len() < n {
            let some = worker.claim_up_to((n - claims.len()).min(16)).await?;
            ensure!(!some.is_empty(), "nothing to claim");
            claims.extend(some.into_iter().map(|claim| (claim.claimed().execution_id, claim.claimed().fence)));
        }
        Ok((worker, claims))
    })
    .await?;
    add("bytes running", target.usage().await?.memory);
    for (worker, claims) in claims {
        let ends = claims.into_iter().map(|(id, fence)| worker::Worker::completion(id, fence).into());
        worker.send(ends.collect()).await?;
    }
    add("bytes finished", target.usage().await?.memory);
    target.check().await
}
