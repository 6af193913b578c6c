//! Appending and trimming.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptId, ExecutionId, LeaseEpoch, LeaseId};
use ff_core::operation::Outcome;
use ff_core::policy::{ExecutionPolicy, StreamPolicy};
use ff_core::refusal::{Code, Details};
use ff_core::state::StateName;
use ff_core::time::When;
use futures::future::join_all;

use crate::cases::cases;
use crate::stage::{FIRST, LEASE_MS, Stage, at, frame, frame_id, frame_ids, numbered_frame, whole};

cases! { "stream";
    "append_frame: 65_536 bytes are taken, 65_537 are payload_too_large, and all 256 byte values and an empty payload come back identical." => bytes,
    "append_frame: the same seq and content twice is one frame with one entry id." => twice,
    "append_frame: a used seq with other content, and a skipped lower seq, are frame_seq_conflict naming last_seq." => seq_conflicts,
    "append_frame: three appends in one ms get seq 0, 1, 2, and a clock set back still gives rising ids." => rising,
    "append_frame: at clock 0 the first id is 0-1." => clock_zero,
    "append_frame: after expiry it is lease_expired, after revocation lease_revoked, under another epoch, lease or attempt id stale_lease, after the end execution_not_active, and no frame is added." => fenced,
    "append_frame: after suspend and resume the new lease appends to the same stream and seq goes on." => across_leases,
    "append_frame: with retention_maxlen 1_000_000, of frames without payload 65_536 are kept, and one of 64 KiB then trims 64." => byte_bound,
    "append_frame: beyond retention_maxlen the oldest goes, the newest stays, frame_count keeps counting and trimmed_to names the last that went." => frame_bound,
}

fn keeps(retention_maxlen: u64) -> ExecutionPolicy {
    ExecutionPolicy::builder().stream(StreamPolicy { retention_maxlen }).build()
}

async fn bytes(s: &Stage) {
    let (id, fence) = s.running().await;
    let every: Vec<u8> = (0..=255).collect();
    let largest = vec![0xab; 65_536];
    let mut rich = frame(id, fence, every.clone());
    rich.frame_type = "token chunk".to_owned();
    (rich.encoding, rich.correlation_id) = (Some("application/x".to_owned()), Some("request 7".to_owned()));
    rich.seq = Some(9_007_199_254_740_991);
    let start = s.now().as_millis();
    assert_eq!(s.append(frame(id, fence, largest.clone())).await, frame_id(start, 0));
    s.append(frame(id, fence, Vec::new())).await;
    s.append(rich).await;
    let refusal = s.refused_with(Code::PayloadTooLarge, frame(id, fence, vec![0; 65_537])).await;
    let wanted = Details::PayloadTooLarge { field: "payload".to_owned(), bytes: 65_537, bound: 65_536 };
    assert_eq!(refusal.details(), &wanted);
    let page = s.frames(whole(id)).await;
    let payloads: Vec<_> = page.frames.iter().map(|f| f.payload.to_vec()).collect();
    assert_eq!(payloads, [largest, Vec::new(), every]);
    let [plain, _, rich] = page.frames.as_slice() else { panic!("{}", page.frames.len()) };
    assert_eq!(
        (plain.frame_type.as_str(), &plain.encoding, &plain.correlation_id, plain.seq),
        ("log", &None, &None, None)
    );
    assert_eq!((rich.frame_type.as_str(), rich.seq), ("token chunk", Some(9_007_199_254_740_991)));
    assert_eq!(rich.encoding.as_deref(), Some("application/x"));
    assert_eq!(rich.correlation_id.as_deref(), Some("request 7"));
    for (args, field) in [
        (numbered_frame(frame(id, fence, Vec::new()), 0), "seq"),
        (numbered_frame(frame(id, fence, Vec::new()), 1 << 53), "seq"),
    ] {
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: field.to_owned() });
    }
}

async fn twice(s: &Stage) {
    let (id, fence) = s.running().await;
    let start = s.now().as_millis();
    let args = numbered_frame(frame(id, fence, "a"), 1);
    let touched = s.describe(id).await;
    assert_eq!(s.append(args.clone()).await, frame_id(start, 0));
    let mut other = numbered_frame(frame(id, fence, "b"), 2);
    other.encoding = Some("text".to_owned());
    s.advance(10);
    assert_eq!(s.append(other.clone()).await, frame_id(start + 10, 0));
    s.advance(10);
    for (again, first) in [(args, frame_id(start, 0)), (other, frame_id(start + 10, 0))] {
        match s.changes_nothing(again).await {
            Outcome::AppendFrame(answer) => assert_eq!(answer.entry_id, first),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(s.frames(whole(id)).await.frames.len(), 2);
    assert_eq!(s.describe(id).await, touched, "the execution's record does not change");
    // Without seq it is a second frame.
    s.append(frame(id, fence, "c")).await;
    s.append(frame(id, fence, "c")).await;
    assert_eq!(s.frames(whole(id)).await.frames.len(), 4);
}

async fn seq_conflicts(s: &Stage) {
    let (id, fence) = s.running_with(keeps(3)).await;
    let mut fifth = numbered_frame(frame(id, fence, "five"), 5);
    (fifth.encoding, fifth.correlation_id) = (Some("text".to_owned()), Some("c".to_owned()));
    s.append(fifth.clone()).await;
    s.append(frame(id, fence, "between")).await;
    s.append(numbered_frame(frame(id, fence, "eight"), 8)).await;
    let with = |change: fn(&mut AppendFrameArgs)| {
        let mut args = fifth.clone();
        change(&mut args);
        args
    };
    let conflicting = [
        with(|f| f.payload = "four".into()),
        with(|f| f.frame_type = "Log".to_owned()),
        with(|f| f.encoding = None),
        with(|f| f.encoding = Some("json".to_owned())),
        with(|f| f.correlation_id = None),
        with(|f| f.correlation_id = Some("d".to_owned())),
        with(|f| f.seq = Some(8)),
        with(|f| f.seq = Some(6)),
        with(|f| f.seq = Some(7)),
        with(|f| f.seq = Some(1)),
    ];
    for args in conflicting {
        let refusal = s.refused_with(Code::FrameSeqConflict, args).await;
        assert_eq!(refusal.details(), &Details::FrameSeqConflict { last_seq: 8 });
    }
    assert_eq!(s.frames(whole(id)).await.frames.len(), 3);
    // Gaps are allowed. A frame that has been trimmed away can no longer be repeated.
    s.append(numbered_frame(frame(id, fence, "hundred"), 100)).await;
    let refusal = s.refused_with(Code::FrameSeqConflict, fifth).await;
    assert_eq!(refusal.details(), &Details::FrameSeqConflict { last_seq: 100 });
    s.changes_nothing(numbered_frame(frame(id, fence, "eight"), 8)).await;
}

async fn rising(s: &Stage) {
    let (id, fence) = s.running().await;
    let now = s.now().as_millis();
    for seq in 0..3 {
        assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(now, seq));
    }
    s.set(at(now - 500));
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(now, 3));
    s.set(at(now));
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(now, 4));
    s.set(at(now + 1));
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(now + 1, 0));
    let page = s.frames(whole(id)).await;
    let wanted: Vec<_> = (0..5).map(|seq| frame_id(now, seq)).chain([frame_id(now + 1, 0)]).collect();
    assert_eq!((frame_ids(&page), page.last_id), (wanted, Some(frame_id(now + 1, 0))));
    // Streams do not share their ids.
    let (other, fence) = s.running().await;
    assert_eq!(s.append(frame(other, fence, "x")).await, frame_id(now + 1, 0));
}

async fn clock_zero(s: &Stage) {
    s.set(at(0));
    let (id, fence) = s.running().await;
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(0, 1));
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(0, 2));
    s.advance(1);
    assert_eq!(s.append(frame(id, fence, "x")).await, frame_id(1, 0));
    assert_eq!(frame_ids(&s.frames(whole(id)).await), [frame_id(0, 1), frame_id(0, 2), frame_id(1, 0)]);
}

async fn fenced(s: &Stage) {
    // Whether or not the timer has fired, at the very instant; and for a frame that is stored already.
    let (id, fence) = s.running().await;
    let stored = numbered_frame(frame(id, fence, "x"), 1);
    s.append(stored.clone()).await;
    s.advance(LEASE_MS - 1);
    s.append(numbered_frame(frame(id, fence, "y"), 2)).await;
    s.advance(1);
    for args in [frame(id, fence, "z"), stored.clone()] {
        s.refused_with(Code::LeaseExpired, args).await;
    }
    s.sweep().await;
    assert_eq!(s.state(id).await, StateName::Lost);
    for args in [frame(id, fence, "z"), stored.clone()] {
        s.refused_with(Code::LeaseExpired, args).await;
    }
    let second = s.claim_this(id).await.fence;
    for args in [frame(id, fence, "z"), stored] {
        s.refused_with(Code::StaleLease, args).await;
    }
    // One wrong part each.
    for wrong in [
        Fence { lease_epoch: LeaseEpoch(1), ..second },
        Fence { lease_epoch: LeaseEpoch(3), ..second },
        Fence { lease_id: LeaseId::new(), ..second },
        Fence { attempt_id: AttemptId::new(), ..second },
        Fence { attempt_id: fence.attempt_id, ..second },
    ] {
        s.refused_with(Code::StaleLease, frame(id, wrong, "z")).await;
    }
    s.revoke(id, second).await;
    s.refused_with(Code::LeaseRevoked, frame(id, second, "z")).await;
    let third = s.claim_this(id).await.fence;
    s.append(frame(id, third, "last")).await;
    s.complete(id, third).await;
    let refusal = s.refused_with(Code::ExecutionNotActive, frame(id, third, "z")).await;
    match refusal.details() {
        Details::ExecutionNotActive { lease_epoch, attempt_id, .. } => {
            assert_eq!((*lease_epoch, *attempt_id), (LeaseEpoch(3), Some(third.attempt_id)));
        }
        other => panic!("{other:?}"),
    }
    s.refused_with(Code::ExecutionNotFound, frame(s.execution_id(), third, "z")).await;
    let mut counts = Vec::new();
    for index in 0..3 {
        let args = ReadFramesArgs::builder().execution_id(id).attempt_index(ff_core::ids::AttemptIndex(index)).build();
        counts.push(s.frames(args).await.frames.len());
    }
    assert_eq!(counts, [2, 0, 1]);
}

async fn across_leases(s: &Stage) {
    let (id, first) = s.running().await;
    let start = s.now().as_millis();
    s.append(numbered_frame(frame(id, first, "a"), 1)).await;
    let third = numbered_frame(frame(id, first, "b"), 3);
    s.append(third.clone()).await;
    s.suspend_on_any_signal(id, first).await;
    s.refused_with(Code::ExecutionNotActive, frame(id, first, "z")).await;
    s.advance(10);
    s.resume(id).await;
    let second = s.claim_this(id).await;
    assert_eq!((second.attempt_index, second.fence.lease_epoch), (FIRST, LeaseEpoch(2)));
    let second = second.fence;
    s.refused_with(Code::StaleLease, third.clone()).await;
    let refusal = s.refused_with(Code::FrameSeqConflict, numbered_frame(frame(id, second, "b"), 2)).await;
    assert_eq!(refusal.details(), &Details::FrameSeqConflict { last_seq: 3 });
    let mut again = third;
    again.fence = second;
    assert_eq!(s.append(again).await, frame_id(start, 1), "its first id");
    assert_eq!(s.append(numbered_frame(frame(id, second, "c"), 4)).await, frame_id(start + 10, 0));
    let page = s.frames(whole(id)).await;
    let found: Vec<_> = page.frames.iter().map(|f| (f.id, f.seq)).collect();
    let wanted = [(frame_id(start, 0), Some(1)), (frame_id(start, 1), Some(3)), (frame_id(start + 10, 0), Some(4))];
    assert_eq!((found.as_slice(), page.closed), (wanted.as_slice(), None));
    // A delay pauses the attempt just so.
    s.delay(id, second, When::At(s.now())).await;
    let third = s.claim_this(id).await.fence;
    s.append(numbered_frame(frame(id, third, "d"), 5)).await;
    assert_eq!(s.frames(whole(id)).await.frames.len(), 4);
}

/// Every frame that is kept, read in pages.
async fn kept(s: &Stage, id: ExecutionId) -> (usize, StreamFrames) {
    let (mut count, mut args) = (0, whole(id));
    loop {
        let page = s.frames(args.clone()).await;
        count += page.frames.len();
        match page.last_id.and_then(StreamEntryId::next) {
            Some(next) if page.has_more => args.from = StreamCursor::Id(next),
            _ => return (count, page),
        }
    }
}

async fn byte_bound(s: &Stage) {
    let (id, fence) = s.running_with(keeps(1_000_000)).await;
    let now = s.now().as_millis();
    let append = async |count: usize| {
        for chunk in (0..count).collect::<Vec<_>>().chunks(128) {
            join_all(chunk.iter().map(|_| s.append(frame(id, fence, Vec::new())))).await;
        }
    };
    append(65_536).await;
    let (count, page) = kept(s, id).await;
    assert_eq!((count, page.trimmed_to), (65_536, None));
    append(1).await;
    let (count, page) = kept(s, id).await;
    assert_eq!((count, page.trimmed_to), (65_536, Some(frame_id(now, 0))));
    // 64 KiB counts as 64 frames without payload.
    s.append(frame(id, fence, vec![7; 65_536])).await;
    let (count, page) = kept(s, id).await;
    assert_eq!((count, page.trimmed_to), (65_536 - 64 + 1, Some(frame_id(now, 64))));
    assert_eq!(page.last_id, Some(frame_id(now, 65_537)));
    assert_eq!(s.frames(whole(id)).await.frames[0].id, frame_id(now, 65));
    // One of 1 KiB counts as one without payload, one of a byte more as more than one.
    s.append(frame(id, fence, vec![7; 1_024])).await;
    assert_eq!(kept(s, id).await.1.trimmed_to, Some(frame_id(now, 65)));
    s.append(frame(id, fence, vec![7; 1_025])).await;
    assert_eq!(kept(s, id).await.1.trimmed_to, Some(frame_id(now, 67)));
}

async fn frame_bound(s: &Stage) {
    let (id, fence) = s.running_with(keeps(3)).await;
    let now = s.now().as_millis();
    for n in 0..3_u8 {
        s.append(frame(id, fence, vec![n])).await;
    }
    assert_eq!(s.frames(whole(id)).await.trimmed_to, None);
    for n in 3..10_u64 {
        let payload = vec![u8::try_from(n).unwrap_or(0)];
        // The id goes on counting, whatever has gone.
        assert_eq!(s.append(numbered_frame(frame(id, fence, payload), n)).await, frame_id(now, n));
        let page = s.frames(whole(id)).await;
        assert_eq!(frame_ids(&page), [n - 2, n - 1, n].map(|seq| frame_id(now, seq)));
        assert_eq!(page.trimmed_to, Some(frame_id(now, n - 3)));
        assert_eq!((page.has_more, page.last_id), (false, Some(frame_id(now, n))));
    }
    assert_eq!(s.frames(whole(id)).await.frames[2].payload.as_ref(), [9]);
    // One frame is kept at least.
    let (single, fence) = s.running_with(keeps(1)).await;
    for _ in 0..2 {
        s.append(frame(single, fence, vec![1; 65_536])).await;
    }
    let page = s.frames(whole(single)).await;
    assert_eq!((frame_ids(&page), page.trimmed_to), (vec![frame_id(now, 1)], Some(frame_id(now, 0))));
    // A page that shows nothing tells what has gone, too.
    let args = ReadFramesArgs::builder().execution_id(single).attempt_index(FIRST).from(StreamCursor::End).build();
    let page = s.frames(args).await;
    assert_eq!((page.frames.len(), page.trimmed_to), (0, Some(frame_id(now, 0))));
}
