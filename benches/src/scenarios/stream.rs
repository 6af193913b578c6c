//! Frames of 256 bytes: appended by the owner of an attempt while another tails them.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use ff_core::contracts::{AppendFrameArgs, StreamCursor, TailFramesArgs, TailFramesResult};
use ff_core::ids::AttemptIndex;

use crate::report::{Report, per_second};
use crate::target::Target;
use crate::worker::{self, Times};

const BYTES: usize = 256;

pub(crate) async fn run(target: &Target, report: &mut Report) -> Result<()> {
    let n = (target.executions / target.workers).max(2);
    let before = target.usage().await?;
    let start = Instant::now();
    let times = worker::each(target, 0, |worker| async move {
        worker.backend.create_execution(worker.creation()).await?;
        let claim = worker.claim_one().await?;
        let appender = worker.clone();
        let (fence, id) = (claim.fence, claim.execution_id);
        let zero = Instant::now();
        let append = tokio::spawn(async move {
            for _ in 0..n {
                let mut payload = vec![b'.'; BYTES];
                // When it was sent, so that the reader can tell how old it is.
                let sent = u64::try_from(zero.elapsed().as_nanos())?.to_le_bytes();
                payload.splice(..sent.len(), sent);
                let frame = AppendFrameArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .frame_type("log")
                    .payload(Bytes::from(payload))
                    .build();
                appender.backend.append_frame(frame).await?;
            }
            anyhow::Ok(())
        });
        let mut times = Times::default();
        let (mut seen, mut after) = (0, StreamCursor::Id(ff_core::contracts::StreamEntryId::ZERO));
        while seen < n {
            let tail = TailFramesArgs::builder()
                .execution_id(id)
                .attempt_index(AttemptIndex(0))
                .after(after)
                .block_ms(1000)
                .limit(1000)
                .build();
            let TailFramesResult::Frames(page) = worker.backend.tail_frames(tail).await?;
            let now = zero.elapsed();
            for frame in &page.frames {
                let sent = frame.payload.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                times.add("delivery", now.saturating_sub(Duration::from_nanos(sent)));
            }
            seen += page.frames.len();
            if let Some(last) = page.frames.last() {
                after = StreamCursor::Id(last.id);
            }
        }
        append.await??;
        worker.complete(&claim).await?;
        Ok(times)
    })
    .await?;
    let took = start.elapsed();
    let all = n * target.workers;
    report.add("stream", "frames/s", per_second(all, took));
    target.report_usage("stream", "frame", all, &before, report).await?;
    Times::merge(times).report("stream", report);
    target.check().await
}
