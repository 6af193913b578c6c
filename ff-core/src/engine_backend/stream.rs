//! Domain stream: `resources.md`, section 4.

use async_trait::async_trait;

use crate::contracts::{
    AppendFrameArgs, AppendFrameResult, ReadFramesArgs, ReadFramesResult, TailFramesArgs, TailFramesResult,
};
use crate::error::EngineError;

/// Streams: what an attempt tells while it runs, frame by frame.
///
/// Every attempt has one, from its start until the purge, also if it never gets a frame. It stays open through pauses,
/// resumes and changes of lease, and is closed exactly when the attempt is final: `closed` is the attempt's end, read
/// from the attempt and never changing afterwards.
#[async_trait]
pub trait StreamOps: Send + Sync + 'static {
    /// Appends a frame to the stream of the attempt that the fence names.
    ///
    /// # Behavior
    /// - Ids rise strictly, also when the clock is set back: `ms = max(now, last.ms)`, and `seq` counts from 0 within a
    ///   millisecond ([`StreamEntryId::following`](crate::contracts::StreamEntryId::following)).
    /// - In the same step the oldest frames go until at most the policy's `stream.retention_maxlen` frames and 64 MiB of
    ///   payload remain, a frame counted as at least 1 KiB. `frame_count` and `total_bytes` keep counting; `trimmed_to`
    ///   names the newest frame that has gone.
    /// - Waiting tails wake. The execution's record does not change, nor does the lease.
    /// - `seq` rises strictly per attempt, across its leases; gaps are allowed, and frames without it may stand between.
    ///
    /// # Refuses
    /// - The fence check: `execution_not_found`; `execution_not_active`; `lease_revoked`; `lease_expired`; `stale_lease`.
    /// - `frame_seq_conflict`: the seq is not above the last one, and no retained frame has it with this frame type,
    ///   payload, encoding and correlation id.
    ///
    /// # Repeats
    /// With a seq the first entry id, while the lease lives; without one a second frame. After the lease the fence check
    /// answers, even if the frame is stored.
    ///
    /// # Cost
    /// One round trip; O(1) and what is trimmed; a repeat with a seq O(retained frames) at worst.
    async fn append_frame(&self, args: AppendFrameArgs) -> Result<AppendFrameResult, EngineError>;

    /// Reads a page of a stream.
    ///
    /// # Behavior
    /// - The frames with ids in `from..=to`, at most `limit`, ending before the frame that would bring the payload bytes
    ///   above 4 MiB; the first always fits. `from` after `to` is an empty page.
    /// - `has_more`: frames of the range remain after the page; go on from the position after `last_id`.
    /// - `closed` is shown exactly when the stream is closed and no frame is stored after `last_id` (of an empty page:
    ///   none at or after `from`). Frames and marker come from one snapshot.
    /// - A reader whose position is at or below `trimmed_to` has missed frames.
    /// - Writes nothing.
    ///
    /// # Refuses
    /// `execution_not_found`; `attempt_not_found`: no such attempt has started.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(log n) and the page.
    async fn read_frames(&self, args: ReadFramesArgs) -> Result<ReadFramesResult, EngineError>;

    /// Waits for frames after a position, or for the end.
    ///
    /// # Behavior
    /// - The answer is that of `read_frames` from the position after `after` to the end: at once if that page has a frame
    ///   or shows `closed`, else taken again after the first append, at the close, or when `block_ms` is over (then it
    ///   may be empty).
    /// - No wake-up between look and wait is lost. `block_ms` is real time of the calling process, also under a manual
    ///   clock.
    /// - A waiting tail holds no lock and no store connection of its own; thousands may wait and slow nobody. Dropping the
    ///   future ends it. Whether a backend is notified or polls every 50 ms at most is its own choice.
    /// - Writes nothing.
    ///
    /// # Refuses
    /// As `read_frames`, at the start and after the wait (purged meanwhile: `execution_not_found`).
    ///
    /// # Repeats
    /// Waits again.
    ///
    /// # Cost
    /// One round trip to look, one per wake-up or poll; O(log n) and the page each.
    async fn tail_frames(&self, args: TailFramesArgs) -> Result<TailFramesResult, EngineError>;
}
