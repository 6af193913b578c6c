//! Reading pages.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::AttemptIndex;
use ff_core::refusal::{Code, Details};
use ff_core::state::EndCause;

use crate::cases::cases;
use crate::stage::{FIRST, Stage, between, frame, frame_id, frame_ids, whole};

cases! { "stream";
    "read_frames: limit 0 and 10_001 are invalid_input, 10_000 is served." => limits,
    "read_frames: 100 frames of 64 KiB come in pages of at most 4 MiB without loss or repeat." => pages,
    "read_frames: a page with frames after it never shows closed, also when `to` ends it." => closed_at_the_end,
    "read_frames: an attempt without frames is empty and open, and closed once it has ended; an attempt never started is attempt_not_found." => without_frames,
    "read_frames: from after to is an empty page." => reversed,
    "read_frames: after the first close no later event changes at or cause." => closed_for_good,
}

async fn limits(s: &Stage) {
    let (id, fence) = s.running().await;
    for limit in [0, 10_001] {
        let mut args = whole(id);
        args.limit = limit;
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "limit".to_owned() });
    }
    let now = s.now().as_millis();
    for _ in 0..10_000 {
        s.append(frame(id, fence, "x")).await;
    }
    let page = s.frames(whole(id)).await;
    assert_eq!((page.frames.len(), page.has_more, page.last_id), (10_000, false, Some(frame_id(now, 9_999))));
    let mut args = whole(id);
    args.limit = 9_999;
    let page = s.frames(args).await;
    assert_eq!((page.frames.len(), page.has_more, page.last_id), (9_999, true, Some(frame_id(now, 9_998))));
    // Without a limit it is 100 frames.
    let args = ReadFramesArgs::builder().execution_id(id).attempt_index(FIRST).build();
    let page = s.frames(args).await;
    assert_eq!((page.frames.len(), page.has_more, page.trimmed_to), (100, true, None));
}

async fn pages(s: &Stage) {
    let (id, fence) = s.running().await;
    for n in 0..100_u8 {
        s.append(frame(id, fence, vec![n; 65_536])).await;
        s.advance(u64::from(n % 3 == 0));
    }
    let (mut args, mut seen, mut sizes) = (whole(id), Vec::new(), Vec::new());
    loop {
        let page = s.frames(args.clone()).await;
        assert!(page.frames.iter().all(|f| f.payload.len() == 65_536 && f.payload.iter().all(|b| *b == f.payload[0])));
        seen.extend(page.frames.iter().map(|f| f.payload[0]));
        sizes.push(page.frames.len());
        assert_eq!(page.last_id, page.frames.last().map(|f| f.id));
        if !page.has_more {
            break;
        }
        args.from =
            StreamCursor::Id(page.last_id.and_then(StreamEntryId::next).unwrap_or_else(|| panic!("no last_id")));
    }
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
    assert_eq!(sizes, [64, 36], "4 MiB are 64 frames of 64 KiB");
    // A frame that would bring the page one byte above it begins the next.
    let (id, fence) = s.running().await;
    s.append(frame(id, fence, "x")).await;
    for _ in 0..64 {
        s.append(frame(id, fence, vec![0; 65_536])).await;
    }
    s.append(frame(id, fence, "x")).await;
    let page = s.frames(whole(id)).await;
    assert_eq!((page.frames.len(), page.has_more), (64, true));
}

async fn closed_at_the_end(s: &Stage) {
    let (id, fence) = s.running().await;
    let start = s.now().as_millis();
    for n in 0..5_u8 {
        s.append(frame(id, fence, vec![n])).await;
        s.advance(1);
    }
    let at = |n: u64| format!("{}-0", start + n);
    assert_eq!(s.frames(whole(id)).await.closed, None, "it is open");
    s.complete(id, fence).await;
    let closed = Some(StreamClosed { at: s.now(), cause: EndCause::Completed });
    let seen = async |args: ReadFramesArgs| {
        let page = s.frames(args).await;
        (page.frames.len(), page.has_more, page.closed)
    };
    let mut two = between(id, "start", "end");
    two.limit = 2;
    assert_eq!(seen(two.clone()).await, (2, true, None));
    two.from = StreamCursor::Id(frame_id(start + 2, 0));
    assert_eq!(seen(two.clone()).await, (2, true, None));
    two.from = StreamCursor::Id(frame_id(start + 3, 0));
    assert_eq!(seen(two).await, (2, false, closed), "the page that ends with the last frame");
    assert_eq!(seen(between(id, "start", &at(2))).await, (3, false, None), "`to` ends it, and two are stored after it");
    assert_eq!(seen(between(id, &at(1), &at(3))).await, (3, false, None));
    assert_eq!(seen(between(id, "start", &at(4))).await, (5, false, closed));
    assert_eq!(seen(between(id, "start", "end")).await, (5, false, closed));
    // Of an empty page: none at or after `from`.
    assert_eq!(seen(between(id, &format!("{}-1", start + 1), &format!("{}-9", start + 1))).await, (0, false, None));
    assert_eq!(seen(between(id, &format!("{}-1", start + 4), "end")).await, (0, false, closed));
    assert_eq!(seen(between(id, "end", "end")).await, (0, false, closed));
    assert_eq!(seen(between(id, "start", "start")).await, (0, false, None));
    // A millisecond as `to` is all of it.
    assert_eq!(seen(between(id, &(start + 1).to_string(), &(start + 3).to_string())).await, (3, false, None));
}

async fn without_frames(s: &Stage) {
    let delayed = s.delayed(10).await;
    s.refused_with(Code::AttemptNotFound, whole(delayed)).await;
    s.cancel(delayed).await;
    s.refused_with(Code::AttemptNotFound, whole(delayed)).await;
    s.refused_with(Code::ExecutionNotFound, whole(s.execution_id())).await;
    let (id, fence) = s.running().await;
    assert_eq!(s.frames(whole(id)).await, StreamFrames::default());
    let mut next = whole(id);
    next.attempt_index = AttemptIndex(1);
    s.refused_with(Code::AttemptNotFound, next.clone()).await;
    s.suspend_on_any_signal(id, fence).await;
    assert_eq!(s.frames(whole(id)).await, StreamFrames::default(), "a pause leaves it open");
    s.advance(5);
    s.cancel(id).await;
    let page = s.frames(whole(id)).await;
    let closed = Some(StreamClosed { at: s.now(), cause: EndCause::Cancelled });
    assert_eq!((page.frames.len(), page.has_more, page.last_id, page.closed), (0, false, None, closed));
    s.refused_with(Code::AttemptNotFound, next).await;
}

async fn reversed(s: &Stage) {
    let (id, fence) = s.running().await;
    let start = s.now().as_millis();
    for _ in 0..3 {
        s.append(frame(id, fence, "x")).await;
        s.advance(1);
    }
    let (first, last) = (format!("{start}-0"), format!("{}-0", start + 2));
    for args in [
        between(id, &last, &first),
        between(id, "end", "start"),
        between(id, &format!("{start}-1"), &first),
        between(id, &(start + 1).to_string(), &start.to_string()),
    ] {
        assert_eq!(s.frames(args.clone()).await, StreamFrames::default(), "{args:?}");
    }
    // Both ends are inclusive.
    assert_eq!(frame_ids(&s.frames(between(id, &first, &first)).await), [frame_id(start, 0)]);
    let page = s.frames(between(id, &start.to_string(), &start.to_string())).await;
    assert_eq!(frame_ids(&page), [frame_id(start, 0)]);
}

async fn closed_for_good(s: &Stage) {
    let (id, fence) = s.running().await;
    s.append(frame(id, fence, "x")).await;
    s.lose(id, fence).await;
    let closed = Some(StreamClosed { at: s.now(), cause: EndCause::LeaseExpired });
    assert_eq!(s.stream_closed(id, 0).await, closed);
    s.advance(3);
    let fence = s.claim_this(id).await.fence;
    assert_eq!(s.stream_closed(id, 0).await, closed);
    assert_eq!(s.stream_closed(id, 1).await, None);
    s.advance(3);
    s.complete(id, fence).await;
    let second = Some(StreamClosed { at: s.now(), cause: EndCause::Completed });
    assert_eq!((s.stream_closed(id, 0).await, s.stream_closed(id, 1).await), (closed, second));
    s.advance(3);
    s.replay(id, 0).await;
    s.advance(3);
    let third = s.claim_this(id).await.fence;
    s.append(frame(id, third, "y")).await;
    s.advance(3);
    s.revoke(id, third).await;
    let third = Some(StreamClosed { at: s.now(), cause: EndCause::LeaseRevoked });
    s.advance(3);
    s.cancel(id).await;
    assert_eq!(s.stream_closed(id, 0).await, closed);
    assert_eq!(s.stream_closed(id, 1).await, second);
    assert_eq!(s.stream_closed(id, 2).await, third);
    s.sweep().await;
    assert_eq!(s.frames(whole(id)).await.frames.len(), 1);
}
