//! Suspensions that time out.

use super::*; // the stage and the page

#[test]
fn each_timeout_behaviour_gives_its_state_and_close_reasons_and_one_timeout_signal() {
    use SuspensionCloseReason as Closed;
    let auto = TimeoutBehavior::AutoResume;
    for (behavior, state, reason) in [
        (TimeoutBehavior::Fail, StateName::Done, Some(Closed::TimedOutFail)),
        (TimeoutBehavior::Cancel, StateName::Done, Some(Closed::TimedOutCancel)),
        (TimeoutBehavior::Expire, StateName::Done, Some(Closed::TimedOutExpire)),
        (auto, StateName::Ready, Some(Closed::TimedOutAutoResume)),
        (TimeoutBehavior::Escalate { fail_after_ms: None }, StateName::Suspended, None),
    ] {
        for by_sweep in [false, true] {
            let mut s = Stage::new();
            s.pending(9, 86_400_000).unwrap();
            let mut args = s.suspension(1);
            args.resume_condition = ResumeCondition::count(2, Distinct::Signals, "go");
            args.timeout = after(100, behavior);
            let token = s.suspend(&args).remove(0);
            assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::AppendedToWaitpoint);
            s.now = 1_099;
            assert_eq!(cause(expire(&mut s, 1)), NotDueCause::Early);
            assert_eq!(cause(expire(&mut s, 2)), NotDueCause::Stale);
            s.now = 1_100;
            let late = s.signal(1, &token, "go");
            let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::TimedOut };
            assert_eq!(s.refused_signal(&late), closed);
            let refused = s.refused(|s| resume(s, "ann", None));
            assert_eq!(refused, Details::SuspensionTimedOut {});
            assert!(open(&s, false).iter().all(|w| w.state == WaitpointState::Pending));
            if by_sweep {
                s.sweep();
            } else {
                let answer = expire(&mut s, 1);
                assert!(matches!(answer, ExpireSuspensionResult::Expired { behavior: b, .. } if b == behavior));
            }
            assert_eq!(s.refused_signal(&late), closed);
            let x = s.x();
            assert_eq!(s.state(), state, "{behavior:?}");
            assert_eq!(x.suspension.as_ref().unwrap().close_reason, reason);
            assert_eq!(x.history.waitpoints[&waitpoint(1)].close_reason, Some(WaitpointCloseReason::TimedOut));
            let of_attempt = (state == StateName::Done).then_some(WaitpointCloseReason::ExecutionEnded);
            assert_eq!(x.history.waitpoints[&waitpoint(9)].close_reason, of_attempt);
            assert_eq!((x.record.signal_count, x.record.next_signal_seq), (1, 3));
            let matched = listed(&s, true).signals;
            let timeout = &matched[1];
            assert_eq!(matched.len(), 2);
            assert_eq!(timeout.signal_id.to_string(), "01890a5d-ac96-874b-bcce-b302099a8001");
            assert_eq!((timeout.name.as_str(), timeout.effect), ("timeout", SignalEffect::TimeoutFired));
            let again = cause(expire(&mut s, 1));
            match state {
                StateName::Done => assert_eq!(again, NotDueCause::Terminal),
                StateName::Ready => assert_eq!(again, NotDueCause::Stale),
                _ => assert_eq!(again, NotDueCause::NotArmed),
            }
            if behavior == auto {
                let info = s.resumed();
                assert_eq!((info.trigger, info.matched.total, info.matched.closer), (ResumeTrigger::Timeout, 2, None));
            }
        }
    }
}

#[test]
fn an_escalated_suspension_waits_for_an_operator_and_then_fails_with_a_second_timeout_signal() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.timeout = after(100, TimeoutBehavior::Escalate { fail_after_ms: Some(50) });
    s.suspend(&args);
    s.now = 1_100;
    s.sweep();
    assert_eq!(s.x().record.vector.blocking_reason, BlockingReason::PausedByOperator);
    let mut other = Stage { p: s.p.clone(), now: s.now, fence: s.fence, signals: 0 };
    resume(&mut other, "ann", Some(suspension(1))).unwrap();
    assert_eq!(other.resumed().trigger, ResumeTrigger::Operator);

    s.now = 1_149;
    assert_eq!(cause(expire(&mut s, 1)), NotDueCause::Early);
    s.now = 1_150;
    s.sweep();
    assert_eq!(s.state(), StateName::Done);
    let ids = listed(&s, true).signals.iter().map(|i| i.signal_id).collect::<Vec<_>>();
    assert_eq!(ids, [false, true].map(|second| timeout_signal_id(suspension(1), second)));
    let s = s.x().suspension.as_ref().unwrap();
    assert_eq!((s.timeout_at, s.close_reason), (Some(at(1_150)), Some(SuspensionCloseReason::TimedOutFail)));
}

#[test]
fn the_policys_timeout_applies_unless_the_call_says_otherwise() {
    let policy = SuspensionPolicy::builder().default_timeout_ms(70).default_timeout_behavior(TimeoutBehavior::Cancel);
    let policy = ExecutionPolicy::builder().suspension(policy.build()).build();
    for (timeout, timeout_at) in [
        (SuspensionTimeout::Default, Some(at(1_070))),
        (SuspensionTimeout::Never, None),
        (after(5, TimeoutBehavior::Fail), Some(at(1_005))),
    ] {
        let mut s = Stage::with(policy.clone());
        let mut args = s.suspension(1);
        args.timeout = timeout;
        s.suspend(&args);
        assert_eq!(s.x().suspension.as_ref().unwrap().timeout_at, timeout_at);
        if timeout_at.is_none() {
            assert_eq!(cause(expire(&mut s, 1)), NotDueCause::NotArmed);
        }
    }
}
