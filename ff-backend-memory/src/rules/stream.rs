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

#[cfg(test)]
mod tests {
    use ff_core::contracts::{Actor, CompleteExecutionArgs, Fence, StreamCursor};
    use ff_core::policy::{ExecutionPolicy, StreamPolicy};
    use ff_core::refusal::Code;
    use ff_core::state::EndCause;

    use super::*;
    use crate::rules::execution::complete_execution;
    use crate::rules::testing::{at, claim, code, create, execution, partition};

    const X: u128 = 1;

    fn running(now: u64, retention_maxlen: u64) -> (Partition, Fence) {
        let mut p = partition();
        let policy = ExecutionPolicy::builder().stream(StreamPolicy { retention_maxlen }).build();
        create(&mut p, at(now), execution(X), policy);
        let fence = claim(&mut p, at(now)).fence;
        p.wakes.streams.clear();
        (p, fence)
    }

    fn frame(fence: Fence, bytes: usize, seq: Option<u64>) -> AppendFrameArgs {
        AppendFrameArgs::builder()
            .execution_id(execution(X))
            .fence(fence)
            .frame_type("t")
            .payload(vec![7; bytes])
            .maybe_seq(seq)
            .build()
    }

    fn append(p: &mut Partition, now: u64, fence: Fence, bytes: usize) -> StreamEntryId {
        append_frame(p, at(now), &frame(fence, bytes, None)).unwrap().entry_id
    }

    fn read(p: &Partition, from: StreamCursor, to: StreamCursor, limit: u32) -> StreamFrames {
        let args = ReadFramesArgs::builder()
            .execution_id(execution(X))
            .attempt_index(AttemptIndex(0))
            .from(from)
            .to(to)
            .limit(limit)
            .build();
        let ReadFramesResult::Frames(page) = read_frames(p, at(0), &args).unwrap();
        page
    }

    fn tail(p: &Partition, after: StreamCursor) -> TailLook {
        let args = TailFramesArgs::builder()
            .execution_id(execution(X))
            .attempt_index(AttemptIndex(0))
            .after(after)
            .block_ms(0)
            .build();
        tail_page(p, at(0), &args).unwrap()
    }

    fn complete(p: &mut Partition, now: u64, fence: Fence) {
        let args = CompleteExecutionArgs::builder().execution_id(execution(X)).actor(Actor::Worker(fence)).build();
        complete_execution(p, at(now), &args).unwrap();
    }

    fn meta(p: &Partition) -> &StreamMetaRecord {
        &p.find(&execution(X)).unwrap().history.streams[&0].meta
    }

    const fn id(ms: u64, seq: u64) -> StreamEntryId {
        StreamEntryId::new(ms, seq)
    }

    #[test]
    fn ids_rise_within_a_millisecond_and_under_a_clock_set_back() {
        let (mut p, fence) = running(0, 10);
        assert_eq!(append(&mut p, 0, fence, 0), id(0, 1));
        let ids: Vec<_> = [5, 5, 5, 3, 6].map(|now| append(&mut p, now, fence, 0)).to_vec();
        assert_eq!(ids, [id(5, 0), id(5, 1), id(5, 2), id(5, 3), id(6, 0)]);
        let page = read(&p, StreamCursor::Ms(5), StreamCursor::Ms(5), 100);
        assert_eq!((page.frames.len(), page.last_id, page.has_more), (4, Some(id(5, 3)), false));
    }

    #[test]
    fn an_append_wakes_tails_and_leaves_the_record_as_it_was() {
        let (mut p, fence) = running(0, 10);
        let before = p.find(&execution(X)).unwrap().record.clone();
        append(&mut p, 9, fence, 1);
        assert_eq!(p.wakes.streams, [(execution(X).uuid(), 0)]);
        assert_eq!(p.find(&execution(X)).unwrap().record, before);
    }

    #[test]
    fn a_seq_is_used_once_and_its_repeat_is_the_first_frame() {
        let (mut p, fence) = running(0, 3);
        let first = append_frame(&mut p, at(1), &frame(fence, 4, Some(7))).unwrap();
        append(&mut p, 2, fence, 0);
        p.wakes.streams.clear();
        assert_eq!(append_frame(&mut p, at(3), &frame(fence, 4, Some(7))).unwrap(), first);
        assert_eq!((meta(&p).frame_count, p.wakes.streams.len()), (2, 0));
        for taken in [frame(fence, 5, Some(7)), frame(fence, 4, Some(6))] {
            let answer = append_frame(&mut p, at(3), &taken);
            assert_eq!(answer, Err(Refusal::frame_seq_conflict(7u64).into()));
        }
        // Once its frame has been trimmed, the seq is only used up.
        for now in 4..7 {
            append(&mut p, now, fence, 0);
        }
        let answer = append_frame(&mut p, at(7), &frame(fence, 4, Some(7)));
        assert_eq!(answer, Err(Refusal::frame_seq_conflict(7u64).into()));
        append_frame(&mut p, at(8), &frame(fence, 4, Some(9))).unwrap();
        assert_eq!(meta(&p).last_seq, Some(9));
    }

    #[test]
    fn the_oldest_goes_beyond_the_length_kept() {
        let (mut p, fence) = running(0, 2);
        for now in 1..=4 {
            append(&mut p, now, fence, 3);
        }
        let page = read(&p, StreamCursor::Start, StreamCursor::End, 100);
        assert_eq!(page.frames.iter().map(|f| f.id).collect::<Vec<_>>(), [id(3, 0), id(4, 0)]);
        assert_eq!(page.trimmed_to, Some(id(2, 0)));
        let meta = meta(&p);
        assert_eq!((meta.frame_count, meta.total_bytes), (4, 12));
        assert_eq!((meta.retained_frames, meta.retained_bytes), (2, 2 * 1_024));
    }

    #[test]
    fn empty_frames_count_as_1_kib_of_64_mib() {
        let (mut p, fence) = running(0, 1_000_000);
        for _ in 0..=65_536 {
            append(&mut p, 1, fence, 0);
        }
        assert_eq!((meta(&p).retained_frames, meta(&p).retained_bytes), (65_536, 64 << 20));
        append(&mut p, 1, fence, 65_536);
        assert_eq!((meta(&p).retained_frames, meta(&p).retained_bytes), (65_536 - 64 + 1, 64 << 20));
        assert_eq!(meta(&p).trimmed_to, Some(id(1, 64)));
    }

    #[test]
    fn pages_end_at_4_mib_but_never_before_their_first_frame() {
        let (mut p, fence) = running(0, 1_000);
        for now in 1..=100 {
            append(&mut p, now, fence, 65_536);
        }
        complete(&mut p, 200, fence);
        let first = read(&p, StreamCursor::Start, StreamCursor::End, 10_000);
        assert_eq!((first.frames.len(), first.has_more, first.closed), (64, true, None));
        let next = first.last_id.unwrap().next().unwrap();
        let second = read(&p, StreamCursor::Id(next), StreamCursor::End, 10_000);
        assert_eq!((second.frames[0].id, second.frames.len(), second.has_more), (id(65, 0), 36, false));
        assert_eq!(second.closed, Some(StreamClosed { at: at(200), cause: EndCause::Completed }));
    }

    #[test]
    fn closed_is_shown_only_when_nothing_lies_behind_the_page() {
        let (mut p, fence) = running(0, 10);
        assert_eq!(read(&p, StreamCursor::Start, StreamCursor::End, 1), StreamFrames::default());
        append(&mut p, 3, fence, 0);
        append(&mut p, 5, fence, 0);
        complete(&mut p, 6, fence);
        let closed = Some(StreamClosed { at: at(6), cause: EndCause::Completed });
        let page = |from: u64, to: u64| read(&p, StreamCursor::Ms(from), StreamCursor::Ms(to), 100);
        let seen = |page: StreamFrames| (page.frames.len(), page.has_more, page.closed);
        assert_eq!(seen(page(0, 9)), (2, false, closed));
        assert_eq!(seen(page(0, 4)), (1, false, None), "`to` ends the page, a frame lies behind it");
        assert_eq!(seen(page(4, 4)), (0, false, None));
        assert_eq!(seen(page(9, 2)), (0, false, closed), "from after to, and nothing at or after from");
        assert_eq!(seen(page(4, 2)), (0, false, None));
        assert_eq!(seen(read(&p, StreamCursor::Start, StreamCursor::End, 1)), (1, true, None));
        assert_eq!(seen(read(&p, StreamCursor::End, StreamCursor::End, 1)), (0, false, closed));
    }

    #[test]
    fn a_tail_waits_for_a_frame_after_its_position_or_the_end() {
        let (mut p, fence) = running(0, 10);
        assert!(!tail(&p, StreamCursor::Id(StreamEntryId::ZERO)).over);
        append(&mut p, 5, fence, 0);
        append(&mut p, 5, fence, 0);
        let look = tail(&p, StreamCursor::Ms(5));
        assert_eq!((look.over, look.page.last_id, look.page.frames.len()), (true, Some(id(5, 1)), 1));
        for nothing in [StreamCursor::Id(id(5, 1)), StreamCursor::Id(StreamEntryId::MAX)] {
            assert!(!tail(&p, nothing).over);
        }
        complete(&mut p, 6, fence);
        assert!(p.wakes.streams.contains(&(execution(X).uuid(), 0)));
        let look = tail(&p, StreamCursor::Id(StreamEntryId::MAX));
        assert_eq!((look.over, look.page.closed.map(|closed| closed.at)), (true, Some(at(6))));
    }

    #[test]
    fn only_started_attempts_have_streams_and_only_owners_append() {
        let (mut p, fence) = running(0, 10);
        let args = ReadFramesArgs::builder().execution_id(execution(X)).attempt_index(AttemptIndex(1)).build();
        assert_eq!(code(read_frames(&p, at(0), &args)), Code::AttemptNotFound);
        let mut answer = |now: u64, fence: Fence| code(append_frame(&mut p, at(now), &frame(fence, 0, None)));
        assert_eq!(answer(60_000, fence), Code::LeaseExpired);
        let other = ff_core::ids::AttemptId::new();
        assert_eq!(answer(1, Fence { attempt_id: other, ..fence }), Code::StaleLease);
        complete(&mut p, 2, fence);
        assert_eq!(code(append_frame(&mut p, at(3), &frame(fence, 0, None))), Code::ExecutionNotActive);
        assert!(p.find(&execution(X)).unwrap().history.streams.is_empty());
    }
}
