//! Domain stream: `resources.md`, section 4.

use std::collections::VecDeque;

use ff_core::contracts::{
    AppendFrameArgs, AppendFrameResult, ReadFramesArgs, ReadFramesResult, STREAM_PAGE_BYTES, STREAM_RETAINED_BYTES,
    StreamClosed, StreamEntryId, StreamFrame, StreamFrames, TailFramesArgs,
};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::records::StreamMetaRecord;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use crate::model::{Partition, Stream};
use crate::routines::check_fence;

/// The retained frame with this seq. Seqs rise along the stream, so the newest is looked at first.
fn frame_with_seq(frames: &VecDeque<StreamFrame>, seq: u64) -> Option<&StreamFrame> {
    let mut numbered = frames.iter().rev().filter_map(|frame| frame.seq.map(|s| (s, frame)));
    numbered.find(|(s, _)| *s <= seq).filter(|(s, _)| *s == seq).map(|(_, frame)| frame)
}

impl Stream {
    fn new(execution_id: ExecutionId, attempt_index: AttemptIndex) -> Self {
        let meta = StreamMetaRecord {
            execution_id,
            attempt_index,
            last_id: StreamEntryId::ZERO,
            frame_count: 0,
            total_bytes: 0,
            retained_frames: 0,
            retained_bytes: 0,
            last_seq: None,
            trimmed_to: None,
        };
        Self { meta, frames: VecDeque::new() }
    }

    /// Stores a frame and trims the oldest.
    fn append(&mut self, frame: StreamFrame, retention_maxlen: u64) {
        let meta = &mut self.meta;
        meta.last_id = frame.id;
        meta.last_seq = frame.seq.or(meta.last_seq);
        meta.frame_count += 1;
        meta.total_bytes += frame.payload.len() as u64;
        meta.retained_frames += 1;
        meta.retained_bytes += frame.retained_bytes();
        self.frames.push_back(frame);
        while meta.retained_frames > retention_maxlen || meta.retained_bytes > STREAM_RETAINED_BYTES {
            let Some(oldest) = self.frames.pop_front() else { break };
            meta.retained_frames -= 1;
            meta.retained_bytes -= oldest.retained_bytes();
            meta.trimmed_to = Some(oldest.id);
        }
    }
}

/// Appends a frame to the stream of the running attempt.
///
/// # Errors
/// The fence check; `frame_seq_conflict`.
pub fn append_frame(
    p: &mut Partition,
    now: TimestampMs,
    args: &AppendFrameArgs,
) -> Result<AppendFrameResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    check_fence(x, &args.fence, now)?;
    let uuid = x.uuid();
    let retention_maxlen = x.record.policy.stream.retention_maxlen;
    // A running execution has an attempt.
    let Some(attempt_index) = x.record.current_attempt_index() else { return Err(Refusal::stale_lease().into()) };
    let known = x.history.streams.get(&attempt_index.get());
    if let Some(stream) = known
        && let Some(seq) = args.seq
        && let Some(last_seq) = stream.meta.last_seq.filter(|last| seq <= *last)
    {
        return match frame_with_seq(&stream.frames, seq) {
            Some(frame) if frame.same_content(args) => Ok(AppendFrameResult { entry_id: frame.id }),
            _ => Err(Refusal::frame_seq_conflict(last_seq).into()),
        };
    }

    let entry_id = known.map_or(StreamEntryId::ZERO, |stream| stream.meta.last_id).following(now);
    if let Some(streams) = p.streams_mut(uuid) {
        let stream = streams
            .entry(attempt_index.get())
            .or_insert_with(|| Box::new(Stream::new(args.execution_id, attempt_index)));
        stream.append(args.frame(entry_id), retention_maxlen);
    }
    p.wakes.streams.push((uuid, attempt_index.get()));
    Ok(AppendFrameResult { entry_id })
}

/// The frames in `from..=to`, at most `limit` and a page of bytes, with the closed marker of the same instant. `from` is
/// none behind the last possible position.
fn page(
    p: &Partition,
    id: &ExecutionId,
    attempt_index: AttemptIndex,
    (from, to): (Option<StreamEntryId>, StreamEntryId),
    limit: u32,
) -> Result<StreamFrames, EngineError> {
    let x = p.find(id)?;
    let attempt = x.attempt_at(attempt_index.get()).ok_or_else(Refusal::attempt_not_found)?;
    let stream = x.history.streams.get(&attempt_index.get()).map(Box::as_ref);
    let empty = VecDeque::new();
    let stored = stream.map_or(&empty, |stream| &stream.frames);

    let begin = from.map_or(stored.len(), |from| stored.partition_point(|frame| frame.id < from));
    let end = stored.partition_point(|frame| frame.id <= to).max(begin);
    let mut bytes = 0;
    let frames: Vec<StreamFrame> = stored
        .range(begin..end)
        .take(limit as usize)
        .enumerate()
        .take_while(|(n, frame)| {
            bytes += frame.payload.len() as u64;
            *n == 0 || bytes <= STREAM_PAGE_BYTES
        })
        .map(|(_, frame)| frame.clone())
        .collect();
    let behind = begin + frames.len();
    Ok(StreamFrames {
        last_id: frames.last().map(|frame| frame.id),
        has_more: behind < end,
        closed: StreamClosed::of(attempt).filter(|_| behind == stored.len()),
        trimmed_to: stream.and_then(|stream| stream.meta.trimmed_to),
        frames,
    })
}

/// A page of a stream.
///
/// # Errors
/// `execution_not_found`; `attempt_not_found`.
pub fn read_frames(p: &Partition, _: TimestampMs, args: &ReadFramesArgs) -> Result<ReadFramesResult, EngineError> {
    let range = (Some(args.from.lower()), args.to.upper());
    page(p, &args.execution_id, args.attempt_index, range, args.limit).map(ReadFramesResult::Frames)
}

/// What a tail sees at one look.
#[derive(Clone, Debug, PartialEq)]
pub struct TailLook {
    /// The page after the tail's position.
    pub page: StreamFrames,
    /// Whether there is nothing to wait for: the page has a frame or shows the end.
    pub over: bool,
}

/// One look of a tail. Waiting between looks is the backend's: every write to a stream and every close of one is in
/// the partition's wakes.
///
/// # Errors
/// `execution_not_found`; `attempt_not_found`.
pub fn tail_page(p: &Partition, _: TimestampMs, args: &TailFramesArgs) -> Result<TailLook, EngineError> {
    let range = (args.after.lower().next(), StreamEntryId::MAX);
    let page = page(p, &args.execution_id, args.attempt_index, range, args.limit)?;
    let over = !page.frames.is_empty() || page.closed.is_some();
    Ok(TailLook { page, over })
}
