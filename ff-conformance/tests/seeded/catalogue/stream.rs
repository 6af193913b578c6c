//! Lies about streams.

use super::prelude::*;

fn frames(answer: &mut Answer) -> Option<&mut StreamFrames> {
    match answer {
        Ok(Outcome::ReadFrames(ReadFramesResult::Frames(page))) => Some(page),
        Ok(Outcome::TailFrames(TailFramesResult::Frames(page))) => Some(page),
        _ => None,
    }
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "page shows closed and misses frames",
        story: "the reader stops at `closed`, and the last pages are never read",
        by: "stream::read_frames::a page with frames after it never",
        operations: &[Op::ReadFrames, Op::TailFrames],
        lie: Tells(|s, op, mut answer| {
            let (id, index) = match op {
                Operation::ReadFrames(args) => (args.execution_id, args.attempt_index),
                Operation::TailFrames(args) => (args.execution_id, args.attempt_index),
                _ => return answer,
            };
            let whole = s.call(ReadFramesArgs::builder().execution_id(id).attempt_index(index).limit(10_000).build());
            if let (Some(page), Ok(Outcome::ReadFrames(ReadFramesResult::Frames(whole)))) = (frames(&mut answer), whole)
            {
                page.closed = page.closed.take().or(whole.closed);
            }
            answer
        }),
    },
    Bug {
        name: "repeated append adds a frame",
        story: "the lost reply's retry prints the line twice",
        by: "stream::append_frame::the same seq and content twice is",
        operations: &[Op::AppendFrame],
        lie: Call(|s, op| {
            let args = args!(s, op, AppendFrame);
            let known = s.execution(&args.execution_id).is_some_and(|x| {
                let index = x.attempt.as_ref().map_or(0, |a| a.attempt_index.get());
                x.history.streams.get(&index).is_some_and(|stream| {
                    args.seq.is_some() && stream.frames.iter().any(|f| f.seq == args.seq && f.same_content(&args))
                })
            });
            if known {
                let mut again = args;
                again.seq = None;
                return s.call(again);
            }
            s.call(args)
        }),
    },
    Bug {
        name: "zombie appends",
        story: "output of a lost attempt goes on arriving in its stream",
        by: "stream::append_frame::after expiry it is lease_expired, after revocation",
        operations: &[Op::AppendFrame],
        lie: Call(|s, op| {
            let args = args!(s, op, AppendFrame);
            s.revive(&args.execution_id);
            s.call(args)
        }),
    },
    Bug {
        name: "tail is never told of the end",
        story: "the close wakes the tail, and the page that it gets does not say why",
        by: "stream::tail_frames::a waiting tail returns closed within one",
        operations: &[Op::TailFrames],
        lie: Tells(|_, _, mut answer| {
            if let Some(page) = frames(&mut answer) {
                page.closed = None;
            }
            answer
        }),
    },
    Bug {
        name: "tail's cursor is inclusive",
        story: "every page begins with the last line of the one before",
        by: "stream::tail_frames::a frame appended between look and wait",
        operations: &[Op::TailFrames],
        lie: Tells(|s, op, mut answer| {
            if let (Operation::TailFrames(args), Some(page)) = (op, frames(&mut answer))
                && let StreamCursor::Id(id) = args.after
                && let Some(x) = s.execution(&args.execution_id)
                && let Some(stream) = x.history.streams.get(&args.attempt_index.get())
                && let Some(last) = stream.frames.iter().find(|frame| frame.id == id)
            {
                page.frames.insert(0, last.clone());
            }
            answer
        }),
    },
    Bug {
        name: "trim takes the newest",
        story: "the stream is cut at the wrong end",
        by: "stream::append_frame::beyond retention_maxlen the oldest goes, the newest",
        operations: &[Op::AppendFrame],
        lie: Call(|s, op| {
            let args = args!(s, op, AppendFrame);
            let before = s.execution(&args.execution_id);
            let answer = s.call(args.clone());
            s.alter(&args.execution_id, |x| {
                let index = x.attempt.as_ref().map_or(0, |a| a.attempt_index.get());
                let old = before.as_ref().and_then(|x| x.history.streams.get(&index));
                if let (Some(stream), Some(old)) = (x.history.streams.get_mut(&index), old)
                    && stream.meta.trimmed_to != old.meta.trimmed_to
                {
                    stream.frames = old.frames.clone();
                }
            });
            answer
        }),
    },
    Bug {
        name: "used seq overwritten in silence",
        story: "other content under a used number is answered as the repeat of the first",
        by: "stream::append_frame::a used seq with other content, and",
        operations: &[Op::AppendFrame],
        lie: Call(|s, op| {
            let args = args!(s, op, AppendFrame);
            let answer = s.call(args.clone());
            if refused(&answer, Code::FrameSeqConflict)
                && let Some(x) = s.execution(&args.execution_id)
            {
                let index = x.attempt.as_ref().map_or(0, |a| a.attempt_index.get());
                let stream = x.history.streams.get(&index);
                if let Some(frame) = stream.and_then(|stream| stream.frames.iter().find(|frame| frame.seq == args.seq))
                {
                    return Ok(Outcome::AppendFrame(AppendFrameResult { entry_id: frame.id }));
                }
            }
            answer
        }),
    },
];
