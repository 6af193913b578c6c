//! Signals: what they do to conditions, and how many are taken.

use super::*; // the stage and the page

#[test]
fn behind_a_thousand_signals_of_noise_the_one_that_satisfies_is_accepted() {
    let mut s = Stage::new();
    let token = s.suspend(&s.suspension(1)).remove(0);
    for _ in 0..1_000 {
        assert_eq!(s.send(1, &token, "noise").unwrap(), SignalEffect::NoOp);
    }
    let noise = s.signal(1, &token, "noise");
    let limit = |scope, max| Details::SignalLimitExceeded { scope, max };
    assert_eq!(s.refused_signal(&noise), limit(SignalLimitScope::Waitpoint, 1_000));
    assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!((s.state(), s.x().record.signal_count), (StateName::Ready, 1_001));
}

#[test]
fn a_quorum_needs_two_bound_tokens_and_each_source_has_a_share_and_keys_of_its_own() {
    let mut s = Stage::new();
    let sources = [SignalSource::new("a:b", "c"), SignalSource::new("a", "b:c")];
    let mut args = s.suspension(1);
    args.waitpoints = vec![WaitpointBinding::Fresh { waitpoint_id: waitpoint(1), sources: sources.to_vec() }];
    args.resume_condition = ResumeCondition::count(2, Distinct::Sources, "go");
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    let SuspendExecutionResult::Suspended { waitpoints, .. } = answer else { panic!("{answer:?}") };
    let tokens: Vec<_> = waitpoints[0].tokens.iter().map(|t| t.token.clone()).collect();
    assert_eq!(waitpoints[0].tokens.iter().map(|t| t.source.clone().unwrap()).collect::<Vec<_>>(), sources);

    let call = |s: &mut Stage, token: usize, source: usize, name: &str| {
        let mut args = s.signal(1, &tokens[token], name);
        args.source = sources[source].clone();
        args
    };
    let foreign = call(&mut s, 0, 1, "go");
    assert_eq!(s.refused_signal(&foreign), Details::TokenSourceMismatch {});
    for _ in 0..250 {
        let args = call(&mut s, 0, 0, "noise");
        s.deliver(&args).unwrap();
    }
    let args = call(&mut s, 0, 0, "noise");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Source, max: 250 };
    assert_eq!(s.refused_signal(&args), limit);
    let mut args = call(&mut s, 0, 0, "go");
    args.idempotency_key = Some("one".to_owned());
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::AppendedToWaitpoint);
    let again = call(&mut s, 0, 0, "go");
    assert_eq!(s.refused_signal(&again), limit, "a second one of the same source adds nothing");
    let progress = open(&s, false)[0].suspension.as_ref().unwrap().progress.clone();
    assert_eq!((progress[0].path.as_str(), progress[0].have, progress[0].need), ("/root", 1, 2));
    let mut args = call(&mut s, 1, 1, "go");
    args.idempotency_key = Some("one".to_owned());
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::ResumeConditionSatisfied);
}

#[test]
fn a_run_takes_its_number_of_signals_and_16_mib_of_what_does_not_contribute() {
    let mut s = Stage::with(ExecutionPolicy::builder().max_signals(300).build());
    let token = s.suspend(&s.suspension(1)).remove(0);
    let big = Bytes::from(vec![0; 65_536]);
    for n in 0..257 {
        let mut args = s.signal(1, &token, "noise");
        args.payload = big.clone();
        if n < 256 {
            s.deliver(&args).unwrap();
        } else {
            let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Payload, max: 16 << 20 };
            assert_eq!(s.refused_signal(&args), limit);
        }
    }
    for _ in 256..300 {
        s.send(1, &token, "noise").unwrap();
    }
    let noise = s.signal(1, &token, "noise");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Execution, max: 300 };
    assert_eq!(s.refused_signal(&noise), limit);
    let mut args = s.signal(1, &token, "go");
    args.payload = big;
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!((s.x().record.signal_bytes, s.x().record.signal_count), (16 << 20, 301));

    // 16 payloads of 64 KiB fill a page of 1 MiB; the cursor is of no use when the execution has suspended again.
    let mut args = ListSignalsArgs::builder().execution_id(execution(X)).limit(1_000).build();
    let page = list_signals(&s.p, at(s.now), &args).unwrap();
    assert_eq!((page.signals.len(), page.next_cursor.is_some()), (16, true));
    args.cursor = page.next_cursor;
    assert_eq!(list_signals(&s.p, at(s.now), &args).unwrap().signals[0].seq, 17);
    s.resumed();
    s.suspend(&s.suspension(2));
    assert_eq!(code(list_signals(&s.p, at(s.now), &args)), Code::StaleSuspension);
}

#[test]
fn buffer_signal_wants_a_pending_waitpoint_and_shares_the_dedup_table() {
    let mut s = Stage::new();
    let pending = s.pending(2, 1_000).unwrap();
    let token = s.suspend(&s.suspension(1)).remove(0);
    let buffer = |args: &DeliverSignalArgs| {
        let token = if args.waitpoint_id == waitpoint(1) { &token } else { &pending };
        let args = args.clone();
        BufferSignalArgs::builder()
            .execution_id(args.execution_id)
            .waitpoint_id(args.waitpoint_id)
            .waitpoint_token(token.clone())
            .signal_id(args.signal_id)
            .name(args.name)
            .source(args.source)
            .maybe_idempotency_key(args.idempotency_key)
            .build()
    };
    let active = buffer(&s.signal(1, &token, "go"));
    let refused = s.refused(|s| buffer_signal(&mut s.p, at(s.now), &active));
    assert_eq!(refused, Details::WaitpointNotPending { state: WaitpointState::Active });
    let mut args = s.signal(2, &pending, "go");
    args.idempotency_key = Some("k".to_owned());
    let answer = buffer_signal(&mut s.p, at(s.now), &buffer(&args)).unwrap();
    assert!(matches!(answer, BufferSignalResult::Buffered { .. }));
    assert_eq!(s.again(&args), (args.signal_id, SignalEffect::BufferedForPendingWaitpoint));
    s.now = 2_000;
    let late = buffer(&s.signal(2, &pending, "go"));
    let refused = s.refused(|s| buffer_signal(&mut s.p, at(s.now), &late));
    assert_eq!(refused, Details::WaitpointClosed { close_reason: WaitpointCloseReason::Expired });
}

#[test]
fn no_execution_sleeps_beside_signals_that_satisfy_it_and_effects_are_those_of_the_whole_list() {
    let condition = || {
        let at_both = Condition::count(2, Distinct::Waitpoints, "a");
        let three = Condition::count(3, Distinct::Signals, Matcher::any());
        ResumeCondition::all_of([at_both, Condition::any_of([three, Condition::signal("b")])])
    };
    let mut random = fastrand::Rng::with_seed(7);
    let (mut buffered_only, mut delivered, mut asleep) = (0, 0, 0);
    for _ in 0..1_000 {
        let mut s = Stage::new();
        let tokens = [s.pending(1, 50_000).unwrap(), s.pending(2, 50_000).unwrap()];
        let mut args = s.suspension(1);
        args.waitpoints = vec![WaitpointBinding::pending(waitpoint(1)), WaitpointBinding::pending(waitpoint(2))];
        args.resume_condition = condition();
        let calls = random.u32(1..8);
        let suspend_before = random.u32(0..=calls);
        for n in 0..=calls {
            if n == suspend_before {
                suspend_execution(&mut s.p, at(s.now), &args).unwrap();
            } else {
                let of = random.u128(1..=2);
                let name = ["a", "b", "c"][random.usize(0..3)];
                let args = s.signal(of, &tokens[of as usize - 1], name);
                match deliver_signal(&mut s.p, at(s.now), &args) {
                    Ok(_) => {}
                    Err(EngineError::Refused(r)) if r.code() == Code::WaitpointClosed => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let x = s.x();
        let records: Vec<_> = x.history.signals.values().collect();
        let views = records.iter().filter_map(|r| SignalView::of(r));
        let whole = evaluate(&args.resume_condition, &args.waitpoint_ids(), views);
        assert_eq!(records.iter().map(|r| r.effect).collect::<Vec<_>>(), whole.effects);
        assert_eq!(x.suspension.as_ref().unwrap().closer_signal_id, whole.closer);
        assert_eq!(listed(&s, false).progress, whole.progress);
        match s.state() {
            StateName::Running => buffered_only += 1,
            StateName::Ready => delivered += 1,
            _ => asleep += 1,
        }
        assert_eq!(s.state() == StateName::Suspended, !whole.is_satisfied());
    }
    assert!(buffered_only > 20 && delivered > 20 && asleep > 20, "{buffered_only} {delivered} {asleep}");
}
