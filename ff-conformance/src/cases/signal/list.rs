//! What is told of a suspension's signals: by the list, and at the claim.

use bytes::Bytes;
use ff_core::condition::{Distinct, LeafProgress, Matcher, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::SignalId;
use ff_core::operation::Outcome;
use ff_core::refusal::Refusal;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

use SignalEffect::{
    AppendedToWaitpoint as Appended, AppendedToWaitpointDuplicate as Idle, NoOp, ResumeConditionSatisfied as Satisfied,
    TimeoutFired,
};

cases! { "signal";
    "list_signals: signals come in order with final effects, matched_only gives exactly those that contributed and the timeout signal, and a cursor of a gone suspension is stale_suspension." => in_order,
    "list_signals: the last suspension's signals stay readable after the end, after replay, and until the next suspend commits." => still_there,
    "list_signals: of 17 matched signals 16 are inline at the claim, a payload that passes 64 KiB in sum and all behind it are not, and a repeated claim shows the same while no later suspension has closed." => inline,
}

async fn in_order(s: &Stage) {
    let (id, fence) = s.running().await;
    assert_eq!(s.signals(id).await, ListSignalsResult::default());
    let named = s.pending_from(id, fence, &["ann", "bob"]).await;
    let unnamed = s.pending(id, fence).await;
    let first = s.signal(id, &named, "go");
    s.deliver(first.clone()).await;
    s.send(id, &unnamed, "go").await; // seq 2, of a waitpoint that no suspension names
    s.send(id, &named, "noise").await;
    s.advance(10);
    assert_eq!(s.signals(id).await, ListSignalsResult::default(), "no suspension has named them");

    let condition = ResumeCondition::count(3, Distinct::Sources, "go");
    let bindings = vec![WaitpointBinding::pending(named.waitpoint_id), fresh_for(&["cid"])];
    let mut args = s.suspension(id, fence, bindings, condition);
    args.timeout = timeout(1_000, TimeoutBehavior::AutoResume);
    let asleep = s.suspend(args).await;
    s.send(id, &named, "go").await;
    s.deliver(s.signal_by(id, &named, 1, "go")).await;
    s.send(id, &asleep.waitpoints[1], "noise").await;
    s.advance(1_000);
    s.sweep().await;

    let all = s.signals(id).await;
    let seqs: Vec<_> = all.signals.iter().map(|signal| signal.seq).collect();
    assert_eq!(seqs, [1, 3, 4, 5, 6, 7]);
    assert_eq!(effects(&all.signals), [Appended, NoOp, Idle, Appended, NoOp, TimeoutFired]);
    assert_eq!(all.progress, [LeafProgress { path: "/root".to_owned(), have: 2, need: 3 }]);
    assert_eq!(all.suspension, Some(s.last_suspension(id).await));
    assert_eq!((all.signals[0].signal_id, all.signals[0].accepted_at), (first.signal_id, at(START_MS)));
    assert_eq!(all.signals[5].accepted_at, s.now());
    let matched = s.matched_signals(id).await;
    assert_eq!(effects(&matched), [Appended, Appended, TimeoutFired]);
    let of_all: Vec<_> = all.signals.iter().filter(|signal| matched.contains(signal)).cloned().collect();
    assert_eq!(matched, of_all);
    for limit in [1, 2, 5, 6, 7] {
        assert_eq!(s.walk_signals(id, false, limit).await.signals, all.signals);
        assert_eq!(s.walk_signals(id, true, limit).await.signals, matched);
    }

    let page = |matched_only: bool, cursor: Option<String>| {
        ListSignalsArgs::builder().execution_id(id).limit(2).matched_only(matched_only).maybe_cursor(cursor).build()
    };
    let list = async |args| s.backend.list_signals(args).await.unwrap_or_else(|e| panic!("list_signals: {e}"));
    let cursors = [list(page(false, None)).await.next_cursor, list(page(true, None)).await.next_cursor];
    let fence = s.claim_this(id).await.fence;
    for (matched_only, cursor) in [(false, &cursors[0]), (true, &cursors[1])] {
        assert!(cursor.is_some());
        let rest = list(page(matched_only, cursor.clone())).await;
        assert_eq!(rest.signals[0].seq, if matched_only { 7 } else { 4 }, "it is still the last");
    }
    let next = s.suspend(s.any_signal(id, fence)).await;
    for (matched_only, cursor) in [(false, &cursors[0]), (true, &cursors[1])] {
        let refusal = s.refused(page(matched_only, cursor.clone())).await;
        assert_eq!(refusal, Refusal::stale_suspension(Some(next.suspension_id)));
    }
    assert_eq!(s.refused(page(false, Some("nonsense".to_owned()))).await, Refusal::invalid_input("cursor"));
    s.cancel(id).await;

    // A page ends before it would hold more than 1 MiB of payload, and still holds one.
    let (id, fence) = s.running().await;
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh()], ResumeCondition::signal("go"))).await;
    let full: Bytes = vec![1; 65_536].into();
    s.send_noise(id, &asleep.waitpoints[0], 17, &full, NoOp).await;
    let args = ListSignalsArgs::builder().execution_id(id).limit(1000).build();
    let first = list(args.clone()).await;
    assert_eq!(first.signals.len(), 16);
    let mut args = args;
    args.cursor = first.next_cursor;
    let rest = list(args).await;
    assert_eq!((rest.signals.len(), rest.signals[0].seq, rest.next_cursor), (1, 17, None));
}

async fn still_there(s: &Stage) {
    let (id, fence) = s.running().await;
    let condition = ResumeCondition::count(2, Distinct::Signals, "go");
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh()], condition)).await;
    for (name, effect) in [("noise", NoOp), ("go", Appended), ("go", Satisfied)] {
        let mut args = s.signal(id, &asleep.waitpoints[0], name);
        args.payload = Bytes::from_static(b"p");
        assert_eq!(s.deliver(args).await, effect);
    }
    let told = s.signals(id).await;
    assert_eq!(effects(&told.signals), [NoOp, Appended, Satisfied]);
    let same = async || assert_eq!(s.signals(id).await, told);
    let fence = s.claim_this(id).await.fence;
    same().await;
    s.complete(id, fence).await;
    same().await;
    s.replay(id, 0).await;
    same().await;
    let fence = s.claim_this(id).await.fence;
    same().await;
    // A suspend that is refused commits nothing.
    let refused = s.suspension(id, fence, vec![], ResumeCondition::timeout_only());
    s.refused(refused).await;
    same().await;
    let next = s.suspend(s.any_signal(id, fence)).await;
    let now = s.signals(id).await;
    assert_eq!(now.suspension.map(|suspension| suspension.suspension_id), Some(next.suspension_id));
    assert_eq!(now.signals, []);
    assert_eq!(now.progress, [LeafProgress { path: "/root".to_owned(), have: 0, need: 1 }]);
}

async fn inline(s: &Stage) {
    // Resumes an execution by signals with payloads of these lengths; what the claim shows, and the call that made it.
    let woken = async |lengths: &[usize]| {
        let (id, fence) = s.running().await;
        let n = u32::try_from(lengths.len()).unwrap_or(0);
        let condition = ResumeCondition::count(n, Distinct::Signals, Matcher::any());
        let asleep = s.suspend(s.suspension(id, fence, vec![fresh()], condition)).await;
        let mut sent: Vec<SignalId> = Vec::new();
        for length in lengths {
            let mut args = s.signal(id, &asleep.waitpoints[0], "go");
            args.payload = vec![9; *length].into();
            sent.push(args.signal_id);
            s.deliver(args).await;
        }
        let claim = s.claim_args(1);
        let answer = s.backend.claim_next(claim.clone()).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
        (id, sent, claim, told(answer.claimed))
    };
    fn told(claimed: Vec<NextClaim>) -> (ClaimedExecution, ResumeInfo) {
        match claimed.into_iter().next() {
            Some(NextClaim::Resumed(ClaimedResumedExecution {
                claimed, cause: ResumeCause::Suspension(info), ..
            })) => (claimed, info),
            other => panic!("{other:?}"),
        }
    }
    let shown =
        |info: &ResumeInfo| info.matched.first.iter().map(|m| m.payload.as_ref().map(Bytes::len)).collect::<Vec<_>>();

    let (id, sent, _, (claimed, info)) = woken(&[1; 17]).await;
    assert_eq!((info.matched.total, info.matched.closer), (17, Some(sent[16])));
    let ids: Vec<_> = info.matched.first.iter().map(|m| m.signal_id).collect();
    assert_eq!(ids, sent[..16]);
    assert_eq!(shown(&info), [Some(1); 16]);
    assert_eq!(s.matched_signals(id).await.len(), 17);
    s.complete(id, claimed.fence).await;

    let (id, _, _, (claimed, info)) = woken(&[40_000, 25_536, 0, 1, 0]).await;
    assert_eq!(shown(&info), [Some(40_000), Some(25_536), Some(0), None, None], "64 KiB exactly are shown");
    s.complete(id, claimed.fence).await;

    let (id, sent, claim, (claimed, info)) = woken(&[40_000, 25_537, 1]).await;
    assert_eq!(shown(&info), [Some(40_000), None, None]);
    let lengths: Vec<_> = s.matched_signals(id).await.iter().map(|signal| signal.payload.len()).collect();
    assert_eq!(lengths, [40_000, 25_537, 1], "the list has them all");
    let repeat = async || match s.changes_nothing(claim.clone()).await {
        Outcome::ClaimNext(again) => told(again.claimed),
        other => panic!("{other:?}"),
    };
    assert_eq!(repeat().await, (claimed.clone(), info.clone()));
    // A suspension that closed at once is the newest closed one; the claim lives on and tells of it.
    let pending = s.pending(id, claimed.fence).await;
    s.send(id, &pending, "early").await;
    assert_eq!(repeat().await, (claimed.clone(), info.clone()));
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id)];
    let args = s.suspension(id, claimed.fence, bindings, ResumeCondition::any_signal());
    s.already_satisfied(args.clone()).await;
    let (same, newer) = repeat().await;
    assert_eq!(same, claimed);
    assert_eq!((newer.suspension_id, newer.matched.total), (args.suspension_id, 1));
    assert_ne!(newer.matched.closer, Some(sent[2]));
    s.complete(id, claimed.fence).await;
}
