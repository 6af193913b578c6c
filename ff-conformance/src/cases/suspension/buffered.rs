//! Suspending on what has arrived already, and on what no signal satisfies.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::refusal::Refusal;
use ff_core::state::{StateName, StateVector};

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "suspension";
    "suspend_execution: buffered signals satisfy every kind of condition, across several pending waitpoints, in order of acceptance." => every_kind,
    "suspend_execution: already satisfied keeps the lease, returns the matched signals and spends the waitpoints: an old token sent in a later suspension is waitpoint_closed." => satisfied_at_once,
    "suspend_execution: 1,500 noise signals and one match on a pending waitpoint end satisfied or refused by the limit, never lost." => noise,
    "suspend_execution: over 1,000 interleavings of deliver and suspend on a pending waitpoint no execution sleeps beside an accepted signal that satisfies it." => interleavings,
    "suspend_execution: operator_only and timeout_only stay suspended whatever signals arrive, each recorded as no_op." => deaf,
    "suspend_execution: tokens of one call all carry the current kid, also when the key was rotated after the cache was filled." => current_kid,
}

async fn every_kind(s: &Stage) {
    use SignalEffect::{
        AppendedToWaitpoint as Appended, AppendedToWaitpointDuplicate as Duplicate, NoOp,
        ResumeConditionSatisfied as Satisfied,
    };
    // Sent in this order: a and b by ann to the first waitpoint, c and d by bob to the second.
    let count = |n, distinct| Condition::count(n, distinct, Matcher::any());
    let kinds = [
        (Condition::signal("c"), [NoOp, NoOp, Satisfied, NoOp]),
        (Condition::any_signal(), [Satisfied, NoOp, NoOp, NoOp]),
        (count(3, Distinct::Signals), [Appended, Appended, Satisfied, NoOp]),
        (count(2, Distinct::Waitpoints), [Appended, Duplicate, Satisfied, NoOp]),
        (count(2, Distinct::Sources), [Appended, Duplicate, Satisfied, NoOp]),
        (Condition::all_of([Condition::signal("d"), Condition::signal("a")]), [Appended, NoOp, NoOp, Satisfied]),
        (
            Condition::any_of([
                Condition::all_of([Condition::signal("b"), Condition::signal("d")]),
                Condition::signal("c"),
            ]),
            [NoOp, Appended, Satisfied, NoOp],
        ),
    ];
    for (condition, want) in kinds {
        let (id, fence) = s.running().await;
        let first = s.pending_from(id, fence, &["ann"]).await;
        let second = s.pending_from(id, fence, &["bob"]).await;
        let mut sent = Vec::new();
        for (waitpoint, name) in [(&first, "a"), (&first, "b"), (&second, "c"), (&second, "d")] {
            let args = s.signal(id, waitpoint, name);
            s.buffer(&args).await;
            sent.push(args.signal_id);
        }
        // The order of acceptance decides, not that of the bindings.
        let bindings = [&second, &first].map(|w| WaitpointBinding::pending(w.waitpoint_id)).to_vec();
        let (issued, matched) = s.already_satisfied(s.suspension(id, fence, bindings, condition.clone())).await;
        assert_eq!(issued, [second, first]);
        let listed = s.signals(id).await.signals;
        assert_eq!(names(&listed), ["a", "b", "c", "d"], "{condition:?}");
        assert_eq!(listed.iter().map(|signal| signal.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(effects(&listed), want, "{condition:?}");
        let closer = want.iter().position(|effect| *effect == Satisfied).map(|at| sent[at]);
        assert_eq!(matched.closer, closer, "{condition:?}");
        let contributed = want.iter().zip(&sent).filter(|(effect, _)| matches!(effect, Appended | Satisfied));
        let contributed: Vec<_> = contributed.map(|(_, id)| *id).collect();
        assert_eq!(matched.first.iter().map(|m| m.signal_id).collect::<Vec<_>>(), contributed, "{condition:?}");
        assert_eq!(matched.total, contributed.len() as u64);
        s.complete(id, fence).await;
    }
}

async fn satisfied_at_once(s: &Stage) {
    let (id, fence) = s.running().await;
    let pending = s.pending(id, fence).await;
    let mut go = s.signal(id, &pending, "go");
    go.payload = Bytes::from_static(b"{\"ok\":true}");
    go.encoding = Some("json".to_owned());
    go.correlation_id = Some("c-1".to_owned());
    assert_eq!(s.deliver(go.clone()).await, SignalEffect::BufferedForPendingWaitpoint);
    s.advance(10);
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh()];
    let mut args = s.suspension(id, fence, bindings, ResumeCondition::signal("go"));
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    let lease = s.describe(id).await.current_lease;
    let (issued, matched) = s.already_satisfied(args.clone()).await;
    assert_eq!(issued[0], pending, "the token of the pending waitpoint is issued again");
    assert_eq!((matched.total, matched.closer, matched.first.len()), (1, Some(go.signal_id), 1));
    let first = &matched.first[0];
    assert_eq!((first.signal_id, first.seq, first.waitpoint_id), (go.signal_id, 1, Some(pending.waitpoint_id)));
    assert_eq!((first.name.as_str(), first.category.as_str(), &first.source), ("go", "custom", &human("ann")));
    assert_eq!((&first.correlation_id, &first.encoding), (&go.correlation_id, &go.encoding));
    assert_eq!(first.payload.as_ref(), Some(&go.payload));
    assert_eq!((first.effect, first.accepted_at), (SignalEffect::ResumeConditionSatisfied, at(START_MS)));

    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::RUNNING);
    assert!(lease.is_some());
    assert_eq!(x.current_lease, lease);
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.close_reason, Some(SuspensionCloseReason::AlreadySatisfied));
    assert_eq!((suspension.created_at, suspension.closed_at), (s.now(), Some(s.now())));
    assert_eq!(suspension.closer_signal_id, Some(go.signal_id));
    assert_eq!(s.waitpoints(id).await, []);
    s.advance(1_000);
    assert_eq!(s.sweep().await.total(), 0, "no timer of what closed at once is armed");
    s.renew(id, fence, LEASE_MS).await;

    for binding in args.waitpoints {
        let spent = WaitpointBinding::fresh(binding.waitpoint_id());
        let args = s.suspension(id, fence, vec![spent], ResumeCondition::signal("go"));
        assert_eq!(s.refused(args).await, Refusal::waitpoint_already_exists(WaitpointState::Closed));
    }
    let later = s.suspend(s.any_signal(id, fence)).await;
    for old in &issued {
        let args = s.signal(id, old, "go");
        s.refused_as_closed(args, WaitpointCloseReason::Satisfied).await;
    }
    assert_eq!(s.state(id).await, StateName::Suspended);
    s.send(id, &later.waitpoints[0], "anything").await;
    assert_eq!(s.vector(id).await, INTERRUPTED);
}

async fn noise(s: &Stage) {
    let limit = beyond(SignalLimitScope::Waitpoint, 1_000);
    for match_after in [0, 999, 1_000, 1_500] {
        let (id, fence) = s.running().await;
        let pending = s.pending(id, fence).await;
        let mut accepted = 0;
        for n in 0..=1_500 {
            let args = s.signal(id, &pending, if n == match_after { "go" } else { "noise" });
            if accepted < 1_000 {
                assert_eq!(s.deliver(args).await, SignalEffect::BufferedForPendingWaitpoint);
                accepted += 1;
            } else {
                s.turned_away(args, &limit).await;
            }
        }
        assert_eq!(s.waitpoints(id).await[0].signal_count, 1_000);
        let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id)];
        let args = s.suspension(id, fence, bindings, ResumeCondition::signal("go"));
        if match_after < 1_000 {
            let (_, matched) = s.already_satisfied(args).await;
            assert_eq!((matched.total, matched.first[0].seq), (1, match_after + 1));
            s.complete(id, fence).await;
        } else {
            // Its sender knows that it was refused, and sends again.
            s.suspend(args).await;
            assert_eq!(s.send(id, &pending, "go").await, SignalEffect::ResumeConditionSatisfied);
            s.cancel(id).await;
        }
    }
}

async fn interleavings(s: &Stage) {
    for n in 0..1_000 {
        let (id, fence) = s.running().await;
        let pending = s.pending(id, fence).await;
        let signal = s.signal(id, &pending, "go");
        let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id)];
        let suspend = s.suspension(id, fence, bindings, ResumeCondition::signal("go"));
        let (sender, owner) = (Arc::clone(&s.backend), Arc::clone(&s.backend));
        let sent = async move { sender.deliver_signal(signal).await };
        let slept = async move { owner.suspend_execution(suspend).await };
        let (sent, slept) = match n % 3 {
            0 => (sent.await, slept.await),
            1 => {
                let slept = slept.await;
                (sent.await, slept)
            }
            _ => {
                let (sent, slept) = (tokio::spawn(sent), tokio::spawn(slept));
                (sent.await.unwrap_or_else(|e| panic!("{e}")), slept.await.unwrap_or_else(|e| panic!("{e}")))
            }
        };
        let effect = match sent {
            Ok(DeliverSignalResult::Accepted { effect, .. }) => effect,
            other => panic!("deliver_signal: {other:?}"),
        };
        match (n % 3, effect, slept) {
            (
                0 | 2,
                SignalEffect::BufferedForPendingWaitpoint,
                Ok(SuspendExecutionResult::AlreadySatisfied { matched, .. }),
            ) => {
                assert_eq!(matched.total, 1);
                assert_eq!(s.vector(id).await, StateVector::RUNNING);
            }
            (1 | 2, SignalEffect::ResumeConditionSatisfied, Ok(SuspendExecutionResult::Suspended { .. })) => {
                assert_eq!(s.vector(id).await, INTERRUPTED);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(effects(&s.signals(id).await.signals), [SignalEffect::ResumeConditionSatisfied]);
        s.cancel(id).await;
    }
}

async fn deaf(s: &Stage) {
    for condition in [ResumeCondition::operator_only(), ResumeCondition::timeout_only()] {
        let (id, fence) = s.running().await;
        let pending = s.pending(id, fence).await;
        s.send(id, &pending, "early").await;
        let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh_for(&["ann"])];
        let mut args = s.suspension(id, fence, bindings, condition.clone());
        args.timeout = timeout(1_000, TimeoutBehavior::AutoResume);
        let asleep = s.suspend(args).await;
        let vector = StateVector::suspended(ff_core::state::BlockingReason::WaitingForSignal);
        for waitpoint in &asleep.waitpoints {
            for name in ["resume", "approve", "timeout"] {
                assert_eq!(s.send(id, waitpoint, name).await, SignalEffect::NoOp);
                assert_eq!(s.vector(id).await, vector);
            }
        }
        let listed = s.signals(id).await;
        assert_eq!(effects(&listed.signals), [SignalEffect::NoOp; 7]);
        assert_eq!(listed.progress, [], "there is no leaf");
        assert_eq!(s.matched_signals(id).await, []);
        assert_eq!(s.describe(id).await.signal_count, 7);
        s.cancel(id).await;
    }
}

async fn current_kid(s: &Stage) {
    let (id, fence) = s.running().await;
    let pending = s.pending_from(id, fence, &["ann", "bob"]).await;
    assert_eq!(kids(std::slice::from_ref(&pending)), ["k1"; 2]);
    // The keys are in use: a signal was verified by them, a token made by them.
    s.send(id, &pending, "early").await;
    s.rotate_from("k1", "k2", 2, 86_400_000).await;
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh(), fresh_for(&["ann", "cid"])];
    let asleep = s.suspend(s.suspension(id, fence, bindings, ResumeCondition::operator_only())).await;
    assert_eq!(kids(&asleep.waitpoints), ["k2"; 5]);
    let ids: Vec<_> = asleep.waitpoints.iter().map(|w| w.waitpoint_id).collect();
    assert_eq!(ids[0], pending.waitpoint_id);
    for waitpoint in &asleep.waitpoints {
        for nth in 0..waitpoint.tokens.len() {
            assert_eq!(s.deliver(s.signal_by(id, waitpoint, nth, "go")).await, SignalEffect::NoOp);
        }
    }
    let sources: Vec<_> = asleep.waitpoints.iter().flat_map(|w| &w.tokens).map(|t| t.source.clone()).collect();
    assert_eq!(sources, [Some(human("ann")), Some(human("bob")), None, Some(human("ann")), Some(human("cid"))]);

    s.rotate_from("k2", "k3", 3, 86_400_000).await;
    let (other, fence) = s.running().await;
    let made = s.pending(other, fence).await;
    assert_eq!(kids(&[made]), ["k3"]);
    s.rotate_from("k3", "k4", 4, 86_400_000).await;
    assert_eq!(kids(&s.reissued(id).await), ["k4"; 5]);
}
