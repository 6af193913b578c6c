//! Waiting for frames. `block_ms` is real time, so these cases measure it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::ExecutionId;
use ff_core::refusal::{Code, Details};
use ff_core::state::EndCause;
use tokio::task::JoinHandle;

use crate::cases::cases;
use crate::stage::{Stage, at, frame, frame_id, frame_ids, tail};

cases! { "stream";
    "tail_frames: after `5` equals after `5-0`; start, end and block_ms 30_001 are invalid_input." => positions,
    "tail_frames: a waiting tail returns closed within one round trip or 50 ms of a completion without frames." => close_wakes,
    "tail_frames: a frame appended between look and wait is returned before block_ms is over." => no_lost_wake_up,
    "tail_frames: with nothing to see it returns an empty page after block_ms with no clock moved." => nothing_to_see,
    "tail_frames: 1_000 waiting tails slow no append and no other call." => many_tails,
}

/// A tail that waits on its own, and when it returned.
fn waiting(s: &Stage, args: TailFramesArgs) -> JoinHandle<(StreamFrames, Instant)> {
    let backend = Arc::clone(&s.backend);
    tokio::spawn(async move {
        let TailFramesResult::Frames(page) =
            backend.tail_frames(args).await.unwrap_or_else(|e| panic!("tail_frames: {e}"));
        (page, Instant::now())
    })
}

async fn joined(tail: JoinHandle<(StreamFrames, Instant)>) -> (StreamFrames, Instant) {
    tail.await.unwrap_or_else(|e| panic!("the tail panicked: {e}"))
}

async fn positions(s: &Stage) {
    s.set(at(5));
    let (id, fence) = s.running().await;
    for _ in 0..3 {
        s.append(frame(id, fence, "x")).await;
    }
    let rest = [frame_id(5, 1), frame_id(5, 2)];
    for after in ["5", "5-0"] {
        assert_eq!(frame_ids(&s.tailed(tail(id, after, 0)).await), rest, "after {after}");
    }
    let all = [frame_id(5, 0), frame_id(5, 1), frame_id(5, 2)];
    for after in ["4", "0", "0-0", "4-18446744073709551615"] {
        assert_eq!(frame_ids(&s.tailed(tail(id, after, 30_000)).await), all, "after {after}");
    }
    let default = TailFramesArgs::builder().execution_id(id).attempt_index(crate::stage::FIRST).block_ms(0).build();
    assert_eq!(frame_ids(&s.tailed(default.clone()).await), all, "after 0-0 unless said");
    for after in ["5-2", "6", "18446744073709551615-18446744073709551615"] {
        assert_eq!(s.tailed(tail(id, after, 0)).await, StreamFrames::default(), "after {after}");
    }
    let mut one = tail(id, "5-0", 0);
    one.limit = 1;
    let page = s.tailed(one).await;
    assert_eq!((frame_ids(&page), page.has_more), (vec![frame_id(5, 1)], true));

    let with = |change: fn(&mut TailFramesArgs)| {
        let mut args = tail(id, "5", 0);
        change(&mut args);
        args
    };
    for (args, field) in [
        (with(|t| t.after = StreamCursor::Start), "after"),
        (with(|t| t.after = StreamCursor::End), "after"),
        (with(|t| t.block_ms = 30_001), "block_ms"),
        (with(|t| t.limit = 0), "limit"),
        (with(|t| t.limit = 10_001), "limit"),
    ] {
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: field.to_owned() });
    }
    s.refused_with(Code::ExecutionNotFound, tail(s.execution_id(), "5", 30_000)).await;
    let ready = s.ready().await;
    s.refused_with(Code::AttemptNotFound, tail(ready, "5", 30_000)).await;
}

async fn close_wakes(s: &Stage) {
    let mut delays = Vec::new();
    for _ in 0..5 {
        let (id, fence) = s.running().await;
        let tail = waiting(s, tail(id, "0-0", 20_000));
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert!(!tail.is_finished(), "it returned with nothing to see");
        let before = Instant::now();
        s.complete(id, fence).await;
        let (page, returned) = joined(tail).await;
        let closed = Some(StreamClosed { at: s.now(), cause: EndCause::Completed });
        assert_eq!((page.frames.len(), page.closed), (0, closed));
        delays.push(returned.saturating_duration_since(before));
        // Who asks afterwards sees it at once.
        let before = Instant::now();
        let page = s.tailed(crate::stage::tail(id, "0-0", 20_000)).await;
        assert_eq!(page.closed, closed);
        assert!(before.elapsed() < Duration::from_secs(5), "a closed stream is not waited for");
    }
    delays.sort_unstable();
    // The middle one, and 200 ms for a machine that does other things as well.
    assert!(delays[2] < Duration::from_millis(250), "{delays:?}");
}

async fn no_lost_wake_up(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut after = "0-0".to_owned();
    for round in 0..300_u32 {
        let before = Instant::now();
        let tail = waiting(s, tail(id, &after, 20_000));
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        if round % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(u64::from(round % 7))).await;
        }
        let appended = s.append(frame(id, fence, "x")).await;
        let (page, returned) = joined(tail).await;
        assert_eq!(frame_ids(&page), [appended], "round {round}");
        let waited = returned.saturating_duration_since(before);
        assert!(waited < Duration::from_secs(10), "round {round}: {waited:?}");
        after = appended.to_string();
    }
}

async fn nothing_to_see(s: &Stage) {
    let (id, fence) = s.running().await;
    let now = s.now();
    let last = s.append(frame(id, fence, "x")).await;
    for block_ms in [0, 1, 300] {
        let before = Instant::now();
        let page = s.tailed(tail(id, &last.to_string(), block_ms)).await;
        let waited = before.elapsed();
        assert_eq!(page, StreamFrames::default());
        assert!(waited >= Duration::from_millis(block_ms), "{waited:?} of {block_ms} ms");
        assert!(waited < Duration::from_millis(block_ms + 5_000), "{waited:?} of {block_ms} ms");
    }
    assert_eq!(s.now(), now);
    // The other way about: the manual clock moves, and the tail waits on.
    let started = Instant::now();
    let tail = waiting(s, tail(id, &last.to_string(), 400));
    tokio::time::sleep(Duration::from_millis(50)).await;
    s.advance(25_000);
    let (page, returned) = joined(tail).await;
    assert_eq!(page, StreamFrames::default());
    assert!(returned.saturating_duration_since(started) >= Duration::from_millis(400));
}

async fn many_tails(s: &Stage) {
    let mut tailed: Vec<(ExecutionId, Fence)> = Vec::new();
    for _ in 0..10 {
        tailed.push(s.running().await);
    }
    let (other, fence) = s.running().await;
    let calls = async || {
        let before = Instant::now();
        for _ in 0..200 {
            s.append(frame(other, fence, "x")).await;
            s.describe(other).await;
        }
        let created = s.ready().await;
        s.cancel(created).await;
        before.elapsed()
    };
    calls().await;
    let alone = calls().await;
    let tails: Vec<_> = (0..1_000).map(|n| waiting(s, tail(tailed[n % 10].0, "0-0", 30_000))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let beside = calls().await;
    assert!(tails.iter().all(|t| !t.is_finished()), "a tail returned with nothing to see");
    assert!(beside < alone * 5 + Duration::from_secs(1), "alone {alone:?}, beside 1_000 tails {beside:?}");
    let before = Instant::now();
    let mut appended = Vec::new();
    for (id, fence) in &tailed {
        appended.push(s.append(frame(*id, *fence, "y")).await);
    }
    let appending = before.elapsed();
    assert!(appending < Duration::from_secs(2), "10 appends that wake 100 tails each took {appending:?}");
    for (n, tail) in tails.into_iter().enumerate() {
        let (page, returned) = joined(tail).await;
        assert_eq!(frame_ids(&page), [appended[n % 10]]);
        assert!(returned.saturating_duration_since(before) < Duration::from_secs(10));
    }
}
