//! Waitpoints that are made ahead, and what becomes of their signals.

use super::*; // the stage and the page

#[test]
fn a_pending_waitpoint_that_is_not_named_waits_on_and_one_that_closes_lets_its_signals_come_to_nothing() {
    let mut s = Stage::new();
    let tokens = [s.pending(2, 5_000).unwrap(), s.pending(3, 5_000).unwrap(), s.pending(4, 1_000).unwrap()];
    let sent = [2, 3, 4].map(|n| {
        let args = s.signal(n, &tokens[n as usize - 2], "go");
        s.deliver(&args).unwrap();
        args
    });
    let close = |fence: Fence, n| CloseWaitpointArgs {
        execution_id: execution(X),
        fence,
        waitpoint_id: waitpoint(n),
        reason: "not needed".to_owned(),
    };
    let mut foreign = close(s.fence, 3);
    foreign.fence.lease_id = LeaseId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused(|s| close_waitpoint(&mut s.p, at(s.now), &foreign)), Details::StaleLease {});
    let args = close(s.fence, 3);
    assert!(matches!(close_waitpoint(&mut s.p, at(s.now), &args), Ok(CloseWaitpointResult::Closed { .. })));
    let before = s.p.clone();
    let again = close_waitpoint(&mut s.p, at(s.now), &foreign).unwrap();
    let withdrawn = WaitpointCloseReason::Withdrawn;
    assert!(matches!(again, CloseWaitpointResult::AlreadyClosed { close_reason, .. } if close_reason == withdrawn));
    assert_eq!(before, s.p);

    s.suspend(&s.suspension(1));
    assert_eq!(
        open(&s, false).iter().map(|w| w.state).collect::<Vec<_>>(),
        [WaitpointState::Active, WaitpointState::Pending, WaitpointState::Pending]
    );
    let active = s.refused(|s| close_waitpoint(&mut s.p, at(s.now), &close(s.fence, 1)));
    assert_eq!(active, Details::WaitpointInUse {});
    let never = SignalEffect::NoOpWaitpointNeverActivated;
    assert_eq!(s.again(&sent[1]).1, never);
    assert_eq!(s.again(&sent[2]).1, SignalEffect::BufferedForPendingWaitpoint);
    s.now = 2_000;
    assert_eq!(s.again(&sent[2]).1, never, "aged out, not swept");
    assert_eq!(open(&s, true).len(), 2);

    resume(&mut s, "ann", None).unwrap();
    s.resumed();
    let mut args = s.suspension(5);
    args.waitpoints.push(WaitpointBinding::pending(waitpoint(2)));
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    assert!(matches!(answer, SuspendExecutionResult::AlreadySatisfied { .. }), "{answer:?}");
}

#[test]
fn a_thousand_signals_are_buffered_over_all_pending_waitpoints_and_sixteen_of_these_are_open() {
    let mut s = Stage::new();
    let tokens = [s.pending(1, 1_000).unwrap(), s.pending(2, 2_000).unwrap()];
    for n in 0..1_000 {
        let of = n % 2 + 1;
        s.send(of, &tokens[of as usize - 1], "x").unwrap();
    }
    let one_more = s.signal(2, &tokens[1], "x");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Buffered, max: 1_000 };
    assert_eq!(s.refused_signal(&one_more), limit);
    for n in 3..=16 {
        s.pending(n, 2_000).unwrap();
    }
    let limit = Details::WaitpointLimitExceeded { scope: WaitpointLimitScope::Pending, max: 16 };
    assert_eq!(s.refused(|s| s.pending(17, 1_000)), limit);
    // One aged out, swept or not: it and what was buffered on it count no more.
    s.now = 2_000;
    s.pending(17, 1_000).unwrap();
    s.deliver(&one_more).unwrap();
}

#[test]
fn completing_ends_the_attempts_pending_waitpoints() {
    let mut s = Stage::new();
    let token = s.pending(1, 10_000).unwrap();
    let args = CompleteExecutionArgs::builder().execution_id(execution(X)).actor(Actor::Worker(s.fence)).build();
    complete_execution(&mut s.p, at(s.now), &args).unwrap();
    let late = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::ExecutionEnded };
    assert_eq!(s.refused_signal(&late), closed);
    let mut elsewhere = late;
    elsewhere.execution_id = ExecutionId::from_parts(0, Uuid::from_u128(77));
    assert_eq!(s.refused_signal(&elsewhere), Details::InvalidToken {}, "before it is asked whether that exists");
}
