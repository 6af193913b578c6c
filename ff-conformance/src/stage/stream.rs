//! Words for the domain stream.

use bytes::Bytes;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId};

use super::Stage;

/// Attempt 0, whose stream most cases play on.
pub const FIRST: AttemptIndex = AttemptIndex(0);

/// A frame id.
#[must_use]
pub const fn frame_id(ms: u64, seq: u64) -> StreamEntryId {
    StreamEntryId::new(ms, seq)
}

/// The arguments of a whole read of attempt 0: as many frames as one page takes.
#[must_use]
pub fn whole(id: ExecutionId) -> ReadFramesArgs {
    ReadFramesArgs::builder().execution_id(id).attempt_index(FIRST).limit(STREAM_READ_HARD_CAP).build()
}

/// The arguments of a read of attempt 0 between two cursors' texts.
#[must_use]
pub fn between(id: ExecutionId, from: &str, to: &str) -> ReadFramesArgs {
    let cursor = |text: &str| text.parse::<StreamCursor>().unwrap_or_else(|e| panic!("{text:?}: {e}"));
    ReadFramesArgs::builder().execution_id(id).attempt_index(FIRST).from(cursor(from)).to(cursor(to)).build()
}

/// The arguments of a tail of attempt 0 behind a cursor's text.
#[must_use]
pub fn tail(id: ExecutionId, after: &str, block_ms: u64) -> TailFramesArgs {
    let after: StreamCursor = after.parse().unwrap_or_else(|e| panic!("{after:?}: {e}"));
    TailFramesArgs::builder().execution_id(id).attempt_index(FIRST).after(after).block_ms(block_ms).build()
}

/// The arguments of a frame of type `log` without seq.
#[must_use]
pub fn frame(id: ExecutionId, fence: Fence, payload: impl Into<Bytes>) -> AppendFrameArgs {
    AppendFrameArgs::builder().execution_id(id).fence(fence).frame_type("log").payload(payload.into()).build()
}

/// The same frame under a number of the worker's own.
#[must_use]
pub fn numbered_frame(mut args: AppendFrameArgs, seq: u64) -> AppendFrameArgs {
    args.seq = Some(seq);
    args
}

/// The ids of a page's frames.
#[must_use]
pub fn frame_ids(page: &StreamFrames) -> Vec<StreamEntryId> {
    page.frames.iter().map(|f| f.id).collect()
}

impl Stage {
    /// Appends: the frame's id.
    pub async fn append(&self, args: AppendFrameArgs) -> StreamEntryId {
        let answer = self.backend.append_frame(args).await;
        answer.unwrap_or_else(|e| panic!("append_frame: {e}")).entry_id
    }

    /// Reads a page.
    pub async fn frames(&self, args: ReadFramesArgs) -> StreamFrames {
        let ReadFramesResult::Frames(page) =
            self.backend.read_frames(args).await.unwrap_or_else(|e| panic!("read_frames: {e}"));
        page
    }

    /// Waits for a page.
    pub async fn tailed(&self, args: TailFramesArgs) -> StreamFrames {
        let TailFramesResult::Frames(page) =
            self.backend.tail_frames(args).await.unwrap_or_else(|e| panic!("tail_frames: {e}"));
        page
    }
}
