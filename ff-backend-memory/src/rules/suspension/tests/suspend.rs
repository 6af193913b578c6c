//! What a suspend does, refuses and repeats.

use super::*; // the stage and the page

#[test]
fn a_repeated_suspend_gets_the_first_answer_under_the_current_kid_and_another_is_a_conflict() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.timeout = after(100, TimeoutBehavior::AutoResume);
    let first = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    s.now += 50;
    let before = s.p.clone();
    assert_eq!(suspend_execution(&mut s.p, at(s.now), &args).unwrap(), first);
    assert_eq!(before, s.p);

    rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k2", 2)).unwrap();
    s.now += 50;
    s.sweep();
    assert_eq!(s.state(), StateName::Ready);
    let SuspendExecutionResult::Suspended { waitpoints, timeout_at, .. } =
        suspend_execution(&mut s.p, at(s.now), &args).unwrap()
    else {
        panic!("the first variant");
    };
    assert_eq!((timeout_at, waitpoints[0].tokens[0].token.kid()), (Some(at(1_100)), Some(kid("k2"))));

    let mut other = args.clone();
    other.detail = Some("?".to_owned());
    assert_eq!(s.refused_suspend(&other), Details::SuspensionConflict {});
    let mut other = args.clone();
    other.fence.attempt_id = AttemptId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused_suspend(&other), Details::SuspensionConflict {});
}

#[test]
fn a_refused_suspend_leaves_every_record_as_it_was() {
    let mut s = Stage::new();
    let token = s.pending(8, 1_000).unwrap();
    s.send(8, &token, "go").unwrap();
    let good = s.suspension(1);

    let mut args = good.clone();
    args.fence.lease_id = LeaseId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused_suspend(&args), Details::StaleLease {});
    let invalid = |path: &str, reason| Details::InvalidResumeCondition { path: path.to_owned(), reason };
    let mut args = good.clone();
    args.resume_condition = ResumeCondition::timeout_only();
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::NeedsTimeout));
    args.resume_condition = ResumeCondition::operator_only();
    args.resume_policy.allow_operator_override = false;
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::NeedsOverride));
    let mut args = good.clone();
    args.resume_condition = ResumeCondition::count(2, Distinct::Sources, "go");
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::TooFewSources));
    let mut args = good.clone();
    args.waitpoints = vec![WaitpointBinding::fresh(waitpoint(8))];
    assert_eq!(s.refused_suspend(&args), Details::WaitpointAlreadyExists { state: WaitpointState::Pending });
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(9))];
    assert_eq!(s.refused_suspend(&args), Details::WaitpointNotFound {});

    // At its exact expiry it is too late, swept or not; one millisecond earlier it is activated and never expires.
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(8))];
    let mut early = Stage { p: s.p.clone(), now: 1_999, fence: s.fence, signals: 0 };
    assert!(suspend_execution(&mut early.p, at(1_999), &args).is_ok());
    s.now = 2_000;
    assert_eq!(s.refused_suspend(&args), Details::PendingWaitpointExpired {});
    assert_eq!(code(s.pending(8, 1_000)), Code::WaitpointAlreadyExists);
    s.sweep();
    assert_eq!(s.refused_suspend(&args), Details::PendingWaitpointExpired {});
    assert_eq!(s.state(), StateName::Running);
}

#[test]
fn buffered_signals_satisfy_across_waitpoints_and_keep_the_lease() {
    let mut s = Stage::new();
    let tokens = [s.pending(1, 1_000).unwrap(), s.pending(2, 1_000).unwrap()];
    let sent = [(2, "b"), (1, "noise"), (1, "a"), (2, "late")].map(|(n, name)| {
        let args = s.signal(n, &tokens[n as usize - 1], name);
        assert_eq!(s.deliver(&args).unwrap(), SignalEffect::BufferedForPendingWaitpoint);
        args
    });
    let mut args = s.suspension(1);
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(2)), WaitpointBinding::pending(waitpoint(1))];
    args.resume_condition = ResumeCondition::all_of([
        Condition::signal_at(waitpoint(1), "a"),
        Condition::signal_at(waitpoint(2), Matcher::named("b")),
    ]);
    args.timeout = after(500, TimeoutBehavior::Fail);
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    let SuspendExecutionResult::AlreadySatisfied { matched, waitpoints, .. } = &answer else { panic!("{answer:?}") };
    assert_eq!((matched.total, matched.closer), (2, Some(sent[2].signal_id)));
    assert_eq!(matched.first.iter().map(|m| m.signal_id).collect::<Vec<_>>(), [sent[0].signal_id, sent[2].signal_id]);
    assert_eq!(waitpoints[0].waitpoint_id, waitpoint(2));
    assert_eq!((s.state(), s.x().record.waitpoint_count), (StateName::Running, 2));
    assert_eq!(suspend_execution(&mut s.p, at(s.now), &args).unwrap(), answer);
    let effects = [
        SignalEffect::AppendedToWaitpoint,
        SignalEffect::NoOp,
        SignalEffect::ResumeConditionSatisfied,
        SignalEffect::NoOp,
    ];
    assert_eq!(listed(&s, false).signals.iter().map(|i| i.effect).collect::<Vec<_>>(), effects);
    for (args, effect) in sent.iter().zip(effects) {
        assert_eq!(s.again(args), (args.signal_id, effect));
    }

    // The ids are spent: an old token does not reach a later suspension.
    s.suspend(&s.suspension(3));
    let old = s.signal(1, &tokens[0], "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::Satisfied };
    assert_eq!(s.refused_signal(&old), closed);
    assert!(listed(&s, false).signals.is_empty());
}
