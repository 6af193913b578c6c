//! What signals do: to conditions, to each other, and to an execution that ends meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::condition::{Condition, Distinct, LeafProgress, Matcher, ResumeCondition, SignalView, evaluate};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{SignalId, WaitpointId};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::{StateVector, TerminalOutcome};

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

use SignalEffect::{
    AppendedToWaitpoint as Appended, AppendedToWaitpointDuplicate as Idle, BufferedForPendingWaitpoint as Buffered,
    NoOp, ResumeConditionSatisfied as Satisfied,
};

cases! { "signal";
    "deliver_signal: a retry of the winning signal is a duplicate with resume_condition_satisfied, also at the limits, after the end and after the next suspend." => retried,
    "deliver_signal: one signal id twice counts once; the same id or key with other content is signal_conflict." => twice,
    "deliver_signal: one signal on two matching leaves feeds both; two sibling counts share no progress; all_of in all_of over a count completes." => leaves,
    "deliver_signal: sources (`a:b`, `c`) and (`a`, `b:c`) are two, and a separator in a name joins nothing." => separators,
    "deliver_signal: one token cannot fill a quorum of two sources; two source-bound tokens can." => quorum,
    "deliver_signal: a signal at the exact timeout instant is waitpoint_closed, swept or not; one millisecond earlier it resumes." => at_the_timeout,
    "deliver_signal: cancel and deliver in either order leave DONE(cancelled): the earlier signal keeps its effect, the later one is waitpoint_closed." => cancelled,
    "deliver_signal: payload bytes 0x00 to 0xff come back identical; 65,536 bytes pass and 65,537 are payload_too_large." => payloads,
    "deliver_signal: one idempotency key under the bound tokens of two sources names two signals." => one_key_two_sources,
    "deliver_signal: whole-list and one-by-one evaluation give the same effects for any condition and any signals, in Rust and in Lua." => both_ways,
    "buffer_signal: an active waitpoint is waitpoint_not_pending, a closed one waitpoint_closed, and a key used there is a duplicate in deliver_signal." => only_pending,
}

fn keyed(mut args: DeliverSignalArgs, key: &str) -> DeliverSignalArgs {
    args.idempotency_key = Some(key.to_owned());
    args
}

async fn retried(s: &Stage) {
    let (id, fence) = s.running_with(max_signals(2)).await;
    let first = s.suspend(s.any_signal(id, fence)).await;
    let winner = keyed(s.signal(id, &first.waitpoints[0], "go"), "winner");
    assert_eq!(s.deliver(winner.clone()).await, Satisfied);
    let again = async || {
        let want = (winner.signal_id, Satisfied);
        assert_eq!(s.duplicate(winner.clone()).await, want);
        // A sender that mints a new id for each try is known by its key; one without a key by its id.
        let mut by_key = winner.clone();
        by_key.signal_id = SignalId::new();
        assert_eq!(s.duplicate(by_key).await, want);
        let mut by_id = winner.clone();
        by_id.idempotency_key = None;
        assert_eq!(s.duplicate(by_id).await, want);
    };
    again().await;
    let fence = s.claim_this(id).await.fence;
    again().await;
    let second = s.suspend(s.suspension(id, fence, vec![fresh()], ResumeCondition::signal("go"))).await;
    again().await;
    assert_eq!(s.send(id, &second.waitpoints[0], "noise").await, NoOp);
    let refused = s.refused(s.signal(id, &second.waitpoints[0], "noise")).await;
    assert_eq!(refused, beyond(SignalLimitScope::Execution, 2), "the limit is reached");
    again().await;
    assert_eq!(s.describe(id).await.signal_count, 2);
    s.cancel(id).await;
    again().await;
    s.replay(id, 0).await;
    again().await;
}

async fn twice(s: &Stage) {
    let (id, fence) = s.running().await;
    let condition = ResumeCondition::count(2, Distinct::Signals, Matcher::any());
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh(), fresh()], condition)).await;
    let mut first = keyed(s.signal(id, &asleep.waitpoints[0], "go"), "key");
    first.payload = Bytes::from_static(b"1");
    first.correlation_id = Some("c".to_owned());
    assert_eq!(s.deliver(first.clone()).await, Appended);
    for _ in 0..2 {
        assert_eq!(s.duplicate(first.clone()).await, (first.signal_id, Appended));
    }
    let listed = s.signals(id).await;
    assert_eq!(listed.signals.len(), 1);
    assert_eq!(listed.progress, [LeafProgress { path: "/root".to_owned(), have: 1, need: 2 }]);
    assert_eq!(s.describe(id).await.signal_count, 1);

    let changes: [fn(&mut DeliverSignalArgs); 9] = [
        |a| a.name = "stop".to_owned(),
        |a| a.category = "other".to_owned(),
        |a| a.source.source_type = "robot".to_owned(),
        |a| a.source.source_identity = "bob".to_owned(),
        |a| a.payload = Bytes::from_static(b"2"),
        |a| a.payload = Bytes::new(),
        |a| a.encoding = Some("json".to_owned()),
        |a| a.correlation_id = None,
        |a| a.correlation_id = Some("d".to_owned()),
    ];
    let conflict = Refusal::signal_conflict(first.signal_id);
    for change in changes {
        let mut same_both = first.clone();
        change(&mut same_both);
        let mut same_id = same_both.clone();
        same_id.idempotency_key = None;
        let mut unknown_key = same_both.clone();
        unknown_key.idempotency_key = Some("another".to_owned());
        let mut same_key = same_both.clone();
        same_key.signal_id = SignalId::new();
        for args in [same_both, same_id, unknown_key, same_key] {
            assert_eq!(s.refused(args).await, conflict);
        }
    }
    // The id is the execution's, the key is the waitpoint's.
    let mut same_id_there = s.signal(id, &asleep.waitpoints[1], "go");
    same_id_there.signal_id = first.signal_id;
    assert_eq!(s.refused(same_id_there).await, conflict);
    let mut same_key_there = first.clone();
    same_key_there.waitpoint_id = asleep.waitpoints[1].waitpoint_id;
    same_key_there.waitpoint_token = token(&asleep.waitpoints[1]);
    same_key_there.signal_id = SignalId::new();
    assert_eq!(s.deliver(same_key_there).await, Satisfied);
}

async fn leaves(s: &Stage) {
    let asleep_on = async |condition: Condition, waitpoints: usize| {
        let (id, fence) = s.running().await;
        let bindings = (0..waitpoints).map(|_| fresh()).collect();
        let asleep = s.suspend(s.suspension(id, fence, bindings, condition)).await;
        (id, asleep.waitpoints)
    };
    let progress = async |id| {
        s.signals(id).await.progress.into_iter().map(|leaf| (leaf.path, leaf.have, leaf.need)).collect::<Vec<_>>()
    };
    let row = |path: &str, have: u32, need: u32| (path.to_owned(), have, need);
    let count = |n, name: &str| Condition::count(n, Distinct::Signals, name);

    let (id, at) = asleep_on(Condition::all_of([Condition::signal("a"), count(2, "a")]), 1).await;
    assert_eq!(s.send(id, &at[0], "a").await, Appended);
    assert_eq!(progress(id).await, [row("/root/of/0", 1, 1), row("/root/of/1", 1, 2)]);
    assert_eq!(s.send(id, &at[0], "a").await, Satisfied);
    assert_eq!(progress(id).await, [row("/root/of/0", 1, 1), row("/root/of/1", 2, 2)]);
    s.cancel(id).await;

    let (id, at) = asleep_on(Condition::any_of([count(2, "a"), count(2, "b")]), 1).await;
    assert_eq!(s.send(id, &at[0], "a").await, Appended);
    assert_eq!(s.send(id, &at[0], "b").await, Appended);
    assert_eq!(progress(id).await, [row("/root/of/0", 1, 2), row("/root/of/1", 1, 2)]);
    assert_eq!(s.vector(id).await.name(), Some(ff_core::state::StateName::Suspended));
    assert_eq!(s.send(id, &at[0], "b").await, Satisfied);
    assert_eq!(progress(id).await, [row("/root/of/0", 1, 2), row("/root/of/1", 2, 2)]);
    s.cancel(id).await;

    let inner = Condition::all_of([Condition::count(2, Distinct::Waitpoints, "a")]);
    let (id, at) = asleep_on(Condition::all_of([inner, Condition::signal("b")]), 2).await;
    for (waitpoint, name, effect) in
        [(0, "a", Appended), (0, "a", Idle), (1, "c", NoOp), (1, "b", Appended), (1, "b", Idle), (1, "a", Satisfied)]
    {
        assert_eq!(s.send(id, &at[waitpoint], name).await, effect);
    }
    assert_eq!(progress(id).await, [row("/root/of/0/of/0", 2, 2), row("/root/of/1", 1, 1)]);
    assert_eq!(s.vector(id).await, INTERRUPTED);
}

async fn separators(s: &Stage) {
    for (joined, split) in
        [("a:b", "b:c"), ("a|b", "b|c"), ("a/b", "b/c"), ("a\0b", "b\0c"), ("a\nb", "b\nc"), ("a b", "b c")]
    {
        let sources = [SignalSource::new(joined, "c"), SignalSource::new("a", split)];
        // By tokens bound to the two, and by the bare claim where a condition is content with it.
        for bound in [true, false] {
            let (id, fence) = s.running().await;
            let declared = if bound { sources.to_vec() } else { Vec::new() };
            let binding = WaitpointBinding::Fresh { waitpoint_id: WaitpointId::new(), sources: declared };
            let matcher = Matcher::any().authenticated_source(bound);
            let condition = ResumeCondition::count(2, Distinct::Sources, matcher);
            let asleep = s.suspend(s.suspension(id, fence, vec![binding], condition)).await;
            let from = |n: usize| {
                let mut args = s.signal_by(id, &asleep.waitpoints[0], if bound { n } else { 0 }, "go");
                args.source = sources[n].clone();
                args
            };
            assert_eq!(s.deliver(from(0)).await, Appended);
            assert_eq!(s.deliver(from(0)).await, Idle, "the same source again");
            if bound {
                let mut stolen = from(0);
                stolen.source = sources[1].clone();
                assert_eq!(s.refused(stolen).await, Refusal::token_source_mismatch());
            }
            assert_eq!(s.deliver(from(1)).await, Satisfied, "{sources:?}");
            s.cancel(id).await;
        }
        // Keys under bound tokens: nothing of source and key runs together.
        let (id, fence) = s.running().await;
        let mut args = s.pending_args(id, fence);
        args.sources = sources.to_vec();
        let (waitpoint, _) = s.create_pending(args).await;
        let separator = &joined[1..2];
        for (nth, key) in
            [(0, "k".to_owned()), (1, "k".to_owned()), (0, format!("c{separator}k")), (1, format!("c{separator}k"))]
        {
            let args = keyed(s.signal_by(id, &waitpoint, nth, "go"), &key);
            assert_eq!(s.deliver(args).await, Buffered);
        }
        s.complete(id, fence).await;
    }
}

async fn quorum(s: &Stage) {
    let (id, fence) = s.running().await;
    let bindings = vec![fresh_for(&["ann", "bob"]), fresh()];
    let condition = ResumeCondition::count(2, Distinct::Sources, "approve");
    let asleep = s.suspend(s.suspension(id, fence, bindings, condition)).await;
    let (bound, open) = (&asleep.waitpoints[0], &asleep.waitpoints[1]);
    assert_eq!(s.send(id, bound, "approve").await, Appended);
    for _ in 0..3 {
        assert_eq!(s.send(id, bound, "approve").await, Idle);
    }
    let mut as_bob = s.signal(id, bound, "approve");
    as_bob.source = human("bob");
    assert_eq!(s.refused(as_bob).await, Refusal::token_source_mismatch());
    // A token that binds nobody proves nobody, whoever it claims to be from.
    for name in ["bob", "cid"] {
        let mut claimed = s.signal(id, open, "approve");
        claimed.source = human(name);
        assert_eq!(s.deliver(claimed).await, NoOp);
    }
    assert_eq!(s.vector(id).await.name(), Some(ff_core::state::StateName::Suspended));
    assert_eq!(s.deliver(s.signal_by(id, bound, 1, "approve")).await, Satisfied);
    assert_eq!(s.vector(id).await, INTERRUPTED);
}

async fn at_the_timeout(s: &Stage) {
    let asleep = async || {
        let (id, fence) = s.running().await;
        let mut args = s.any_signal(id, fence);
        args.timeout = timeout(1_000, TimeoutBehavior::AutoResume);
        let asleep = s.suspend(args).await;
        s.advance(999);
        (id, asleep.waitpoints[0].clone())
    };
    let (id, waitpoint) = asleep().await;
    assert_eq!(s.send(id, &waitpoint, "go").await, Satisfied);
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::Satisfied));
    assert_eq!(s.vector(id).await, INTERRUPTED);
    s.cancel(id).await;

    let (id, waitpoint) = asleep().await;
    s.advance(1);
    for swept in [false, true] {
        if swept {
            assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
        }
        let late = s.signal(id, &waitpoint, "go");
        s.refused_as_closed(late.clone(), WaitpointCloseReason::TimedOut).await;
        let refusal = s.refused_with(Code::WaitpointClosed, to_buffer(&late)).await;
        assert_eq!(refusal, closed(WaitpointCloseReason::TimedOut));
    }
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::TimedOutAutoResume));
}

async fn cancelled(s: &Stage) {
    let done = StateVector::done(TerminalOutcome::Cancelled, true);
    let (id, _, waitpoint) = s.suspended().await;
    let early = s.signal(id, &waitpoint, "go");
    assert_eq!(s.deliver(early.clone()).await, Satisfied);
    s.cancel(id).await;
    assert_eq!(s.vector(id).await, done);
    assert_eq!(s.duplicate(early.clone()).await, (early.signal_id, Satisfied));
    assert_eq!(effects(&s.signals(id).await.signals), [Satisfied]);
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::Satisfied));

    let (id, _, waitpoint) = s.suspended().await;
    s.cancel(id).await;
    let late = s.signal(id, &waitpoint, "go");
    s.refused_as_closed(late, WaitpointCloseReason::ExecutionEnded).await;
    assert_eq!(s.vector(id).await, done);
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::ExecutionEnded));

    // Nobody else decides the order.
    for _ in 0..100 {
        let (id, _, waitpoint) = s.suspended().await;
        let signal = s.signal(id, &waitpoint, "go");
        let (sender, operator) = (Arc::clone(&s.backend), Arc::clone(&s.backend));
        let cancel =
            CancelExecutionArgs { execution_id: id, actor: Actor::operator("ops"), reason: "enough".to_owned() };
        let sent = tokio::spawn({
            let signal = signal.clone();
            async move { sender.deliver_signal(signal).await }
        });
        let ended = tokio::spawn(async move { operator.cancel_execution(cancel).await });
        assert!(matches!(ended.await, Ok(Ok(_))));
        assert_eq!(s.vector(id).await, done);
        match sent.await.unwrap_or_else(|e| panic!("{e}")) {
            Ok(DeliverSignalResult::Accepted { effect, .. }) => {
                assert_eq!(effect, Satisfied);
                assert_eq!(s.duplicate(signal.clone()).await, (signal.signal_id, Satisfied));
            }
            Err(refused) => {
                assert_eq!(refused.code(), Some(Code::WaitpointClosed));
                assert_eq!(s.signals(id).await.signals, []);
            }
            other @ Ok(DeliverSignalResult::Duplicate { .. }) => panic!("{other:?}"),
        }
        assert_eq!(s.vector(id).await, done);
    }
}

async fn payloads(s: &Stage) {
    let every_byte: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let full: Bytes = every_byte.repeat(256).into();
    let (id, fence) = s.running().await;
    let condition = ResumeCondition::count(4, Distinct::Signals, Matcher::any());
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh()], condition)).await;
    let payloads = [every_byte, Bytes::new(), Bytes::from_static(b"\x00\xff{}\"\\\r\n"), full.clone()];
    for payload in &payloads {
        let mut args = s.signal(id, &asleep.waitpoints[0], "go");
        args.payload = payload.clone();
        if payload.len() == 65_536 {
            let mut longer = args.clone();
            longer.payload = [&full[..], b"x"].concat().into();
            let too_large = Refusal::payload_too_large("payload", 65_537_u64, 65_536_u64);
            assert_eq!(s.refused(longer).await, too_large);
        }
        s.deliver(args).await;
    }
    let listed = s.signals(id).await.signals;
    let came_back: Vec<_> = listed.iter().map(|signal| signal.payload.clone()).collect();
    assert_eq!(came_back, payloads);
    let (_, info) = s.claim_awake(id).await;
    let shown: Vec<_> = info.matched.first.iter().map(|matched| matched.payload.clone()).collect();
    let [a, b, c, _] = payloads;
    assert_eq!(shown, [Some(a), Some(b), Some(c), None], "the last is beyond what is shown inline");
}

async fn one_key_two_sources(s: &Stage) {
    let (id, fence) = s.running().await;
    let condition = ResumeCondition::count(2, Distinct::Signals, "go");
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh_for(&["ann", "bob"])], condition)).await;
    let [by_ann, by_bob] = [0, 1].map(|nth| keyed(s.signal_by(id, &asleep.waitpoints[0], nth, "go"), "key"));
    assert_eq!(s.deliver(by_ann.clone()).await, Appended);
    let mut other = by_bob.clone();
    other.payload = Bytes::from_static(b"not what ann sent");
    assert_eq!(s.deliver(other.clone()).await, Satisfied);
    // Each is its own sender's repeat, whatever ids are minted anew.
    for (args, effect) in [(by_ann, Appended), (other, Satisfied)] {
        let mut again = args.clone();
        again.signal_id = SignalId::new();
        assert_eq!(s.duplicate(again).await, (args.signal_id, effect));
    }
    let mut changed = by_bob;
    changed.signal_id = SignalId::new();
    s.refused_with(Code::SignalConflict, changed).await;
}

/// A random leaf or tree over these waitpoints.
fn draw(random: &mut fastrand::Rng, waitpoints: &[WaitpointId; 3], levels: usize) -> Condition {
    let matcher = match random.u8(0..4) {
        0 => Matcher::any(),
        1 => Matcher::named("a"),
        2 => Matcher::named("b").authenticated_source(random.bool()),
        _ => Matcher::any().source_type("human").authenticated_source(random.bool()),
    };
    let some = |random: &mut fastrand::Rng| {
        let mut some = waitpoints.to_vec();
        random.shuffle(&mut some);
        some.truncate(random.usize(1..=3));
        some
    };
    match random.u8(0..if levels > 1 { 6 } else { 4 }) {
        0 => Condition::signal(matcher),
        1 => Condition::signal_at(some(random)[0], matcher),
        kind @ (2 | 3) => {
            let distinct = random.choice([Distinct::Waitpoints, Distinct::Signals, Distinct::Sources]);
            let distinct = distinct.unwrap_or(Distinct::Signals);
            if kind == 2 {
                return Condition::count(random.u32(1..=3), distinct, matcher);
            }
            let at = some(random);
            let n = if distinct == Distinct::Waitpoints { random.usize(1..=at.len()) } else { random.usize(1..=3) };
            Condition::count_at(at, u32::try_from(n).unwrap_or(1), distinct, matcher)
        }
        kind => {
            let of = (0..random.usize(1..=3)).map(|_| draw(random, waitpoints, levels - 1)).collect::<Vec<_>>();
            if kind == 4 { Condition::all_of(of) } else { Condition::any_of(of) }
        }
    }
}

async fn both_ways(s: &Stage) {
    let mut random = fastrand::Rng::with_seed(20_260_624);
    let (mut played, mut closed, mut tails) = (0, 0, 0);
    while played < 150 {
        // Two waitpoints with tokens for ann and bob, one whose token binds nobody. The ids may be the same in two
        // executions, and so the condition and its effects must be.
        let waitpoints = [(); 3].map(|()| WaitpointId::new());
        let condition = ResumeCondition::new(draw(&mut random, &waitpoints, 4));
        let sources = [vec![human("ann"), human("bob")], vec![human("ann"), human("bob")], vec![]];
        let (whole, whole_fence) = s.running().await;
        let (single, single_fence) = s.running().await;
        let mut at = Vec::new();
        for (waitpoint_id, sources) in waitpoints.iter().zip(&sources) {
            let mut args = s.pending_args(whole, whole_fence);
            (args.waitpoint_id, args.sources) = (*waitpoint_id, sources.clone());
            at.push(s.create_pending(args).await.0);
        }
        let fresh = waitpoints.iter().zip(sources);
        let fresh =
            fresh.map(|(waitpoint_id, sources)| WaitpointBinding::Fresh { waitpoint_id: *waitpoint_id, sources });
        let args = s.suspension(single, single_fence, fresh.collect(), condition.clone());
        let asleep = match s.backend.suspend_execution(args).await {
            Ok(SuspendExecutionResult::Suspended { waitpoints, .. }) => waitpoints,
            Err(refused) if refused.code() == Some(Code::InvalidResumeCondition) => {
                // Not to be had of these waitpoints; draw another.
                s.cancel(whole).await;
                s.cancel(single).await;
                continue;
            }
            other => panic!("{other:?}"),
        };
        played += 1;

        let mut one_by_one = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..random.usize(0..=14) {
            let waitpoint = random.usize(0..3);
            let nth = random.usize(0..at[waitpoint].tokens.len());
            let name = ["a", "b", "c"][random.usize(0..3)];
            let mut args = s.signal_by(whole, &at[waitpoint], nth, name);
            if args.source != human("bob") && waitpoint == 2 {
                args.source =
                    random.choice([human("ann"), SignalSource::new("robot", "r2")]).unwrap_or_else(|| human("ann"));
            }
            s.buffer(&args).await;
            let mut there = args.clone();
            there.execution_id = single;
            there.waitpoint_token = asleep[waitpoint].tokens[nth].token.clone();
            if one_by_one.last() != Some(&Satisfied) {
                one_by_one.push(s.deliver(there).await);
            }
            sent.push(args);
        }
        let pending = waitpoints.map(WaitpointBinding::pending).to_vec();
        let args = s.suspension(whole, whole_fence, pending, condition.clone());
        let answer = s.backend.suspend_execution(args).await.unwrap_or_else(|e| panic!("suspend_execution: {e}"));
        let satisfied = one_by_one.last() == Some(&Satisfied);
        assert_eq!(matches!(answer, SuspendExecutionResult::AlreadySatisfied { .. }), satisfied, "{condition:?}");
        let listed = s.signals(whole).await;
        let all = effects(&listed.signals);
        let (upto, behind) = all.split_at(one_by_one.len());
        assert_eq!(upto, one_by_one, "{condition:?}");
        assert!(behind.iter().all(|effect| *effect == NoOp), "behind the closer nothing counts");
        assert_eq!(s.signals(single).await.progress, listed.progress, "{condition:?}");
        // And the same by the function itself.
        let views = sent.iter().map(|args| SignalView {
            signal_id: args.signal_id,
            waitpoint_id: args.waitpoint_id,
            name: &args.name,
            category: &args.category,
            source: &args.source,
            correlation_id: None,
            source_bound: args.waitpoint_id != waitpoints[2],
        });
        let evaluation = evaluate(&condition, &waitpoints, views);
        assert_eq!(evaluation.effects, all);
        assert_eq!(evaluation.progress, listed.progress);
        closed += usize::from(satisfied);
        tails += usize::from(!behind.is_empty());
        for id in [whole, single] {
            s.cancel(id).await;
        }
    }
    assert!(closed > 30 && closed < 140 && tails > 15, "{closed} closed, {tails} with more behind: too much alike");
}

async fn only_pending(s: &Stage) {
    let (id, fence) = s.running().await;
    let pending = s.pending(id, fence).await;
    let by_key = keyed(s.signal(id, &pending, "go"), "key");
    s.buffer(&by_key).await;
    let mut again = by_key.clone();
    again.signal_id = SignalId::new();
    assert_eq!(s.duplicate(again.clone()).await, (by_key.signal_id, Buffered));
    // And the other way round.
    let delivered = keyed(s.signal(id, &pending, "other"), "other");
    assert_eq!(s.deliver(delivered.clone()).await, Buffered);
    match s.changes_nothing(to_buffer(&delivered)).await {
        Outcome::BufferSignal(BufferSignalResult::Duplicate { signal_id, effect, .. }) => {
            assert_eq!((signal_id, effect), (delivered.signal_id, Buffered));
        }
        other => panic!("{other:?}"),
    }

    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id)];
    let condition = ResumeCondition::count(2, Distinct::Signals, "go");
    s.suspend(s.suspension(id, fence, bindings, condition)).await;
    let fresh_one = s.signal(id, &pending, "go");
    let active = Refusal::waitpoint_not_pending(WaitpointState::Active);
    assert_eq!(s.refused(to_buffer(&fresh_one)).await, active);
    assert_eq!(s.duplicate(again.clone()).await, (by_key.signal_id, Appended), "it tells what became of it");
    // What is known is a duplicate before the waitpoint is looked at.
    assert!(matches!(
        s.changes_nothing(to_buffer(&again)).await,
        Outcome::BufferSignal(BufferSignalResult::Duplicate { effect: Appended, .. })
    ));
    assert_eq!(s.deliver(fresh_one).await, Satisfied);
    let late = s.signal(id, &pending, "go");
    assert_eq!(s.refused(to_buffer(&late)).await, closed(WaitpointCloseReason::Satisfied));
    assert_eq!(s.duplicate(again).await, (by_key.signal_id, Appended));
}
