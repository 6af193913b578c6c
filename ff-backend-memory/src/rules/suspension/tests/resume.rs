//! What ends a suspension: a signal, an operator, the end of the execution.

use super::*; // the stage and the page

#[test]
fn a_signal_resumes_the_same_attempt_and_its_retry_is_a_duplicate_for_ever() {
    let mut s = Stage::new();
    let attempt = s.fence.attempt_id;
    let mut args = s.suspension(1);
    args.continuation = Some(Bytes::from_static(b"step 3"));
    let token = s.suspend(&args).remove(0);
    assert_eq!(s.state(), StateName::Suspended);
    assert_eq!(s.x().record.vector.blocking_reason, BlockingReason::WaitingForApproval);
    assert_eq!(s.x().record.lease, None);

    assert_eq!(s.send(1, &token, "noise").unwrap(), SignalEffect::NoOp);
    let mut go = s.signal(1, &token, "go");
    go.payload = Bytes::from((0..=255).collect::<Vec<u8>>());
    go.idempotency_key = Some("k".to_owned());
    s.now += 5;
    assert_eq!(s.deliver(&go).unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!(s.state(), StateName::Ready);

    let info = s.resumed();
    assert_eq!((info.trigger, info.suspension_id), (ResumeTrigger::Signal, suspension(1)));
    assert_eq!(info.continuation.as_deref(), Some(&b"step 3"[..]));
    assert_eq!((info.matched.total, info.matched.closer), (1, Some(go.signal_id)));
    assert_eq!(info.matched.first[0].payload, Some(go.payload.clone()));
    assert_eq!((s.fence.attempt_id, s.fence.lease_epoch.get()), (attempt, 2));

    // The same signal again: by its key under another id, by its id without the key; after the next suspend too.
    let mut by_key = go.clone();
    by_key.signal_id = signal(900);
    let mut by_id = go.clone();
    by_id.idempotency_key = None;
    s.suspend(&s.suspension(2));
    for args in [&go, &by_key, &by_id] {
        assert_eq!(s.again(args), (go.signal_id, SignalEffect::ResumeConditionSatisfied));
    }
    let mut other = go.clone();
    other.payload = Bytes::from_static(b"other");
    let first = Details::SignalConflict { signal_id: go.signal_id };
    assert_eq!(s.refused_signal(&other), first);
    let fresh = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::Satisfied };
    assert_eq!(s.refused_signal(&fresh), closed);
}

#[test]
fn an_operators_resume_honours_the_delay_and_repeats_for_the_same_operator_only() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.resume_policy.resume_delay_ms = 50;
    s.suspend(&args);
    let stale = s.refused(|s| resume(s, "ann", Some(suspension(7))));
    assert_eq!(stale, Details::StaleSuspension { suspension_id: Some(suspension(1)) });
    let first = resume(&mut s, "ann", Some(suspension(1))).unwrap();
    assert_eq!(s.state(), StateName::Delayed);
    let before = s.p.clone();
    assert_eq!(resume(&mut s, "ann", Some(suspension(1))).unwrap(), first);
    assert_eq!(before, s.p);
    for (by, id) in [("bob", Some(suspension(1))), ("ann", None)] {
        assert!(matches!(s.refused(|s| resume(s, by, id)), Details::ExecutionNotSuspended { .. }));
    }
    s.now += 50;
    let info = s.resumed();
    assert_eq!((info.trigger, info.operator.unwrap().by.as_str()), (ResumeTrigger::Operator, "ann"));

    let mut args = s.suspension(2);
    args.resume_policy.allow_operator_override = false;
    s.suspend(&args);
    assert_eq!(s.refused(|s| resume(s, "ann", None)), Details::OperatorOverrideForbidden {});
}

#[test]
fn what_ends_the_execution_closes_its_suspension_and_the_ids_stay_spent_after_a_replay() {
    let mut s = Stage::new();
    let args = s.suspension(1);
    let token = s.suspend(&args).remove(0);
    let cancel = CancelExecutionArgs {
        execution_id: execution(X),
        actor: Actor::Operator { identity: "ann".to_owned() },
        reason: "no".to_owned(),
    };
    cancel_execution(&mut s.p, at(s.now), &cancel).unwrap();
    let late = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::ExecutionEnded };
    assert_eq!(s.refused_signal(&late), closed);
    let replay =
        ReplayExecutionArgs::builder().execution_id(execution(X)).replay_count(0).reason("r").by("ann").build();
    replay_execution(&mut s.p, at(s.now), &replay).unwrap();
    s.fence = claim(&mut s.p, at(s.now)).fence;
    let mut again = s.suspension(1);
    assert_eq!(s.refused_suspend(&again), Details::SuspensionConflict {});
    again.suspension_id = suspension(2);
    assert_eq!(s.refused_suspend(&again), Details::WaitpointAlreadyExists { state: WaitpointState::Closed });
}
