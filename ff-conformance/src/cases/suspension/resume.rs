//! An operator's resume, and what every resume has in common.

use ff_core::condition::{Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, LeaseEpoch};
use ff_core::operation::Outcome;
use ff_core::records::OperatorResume;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::{
    AttemptLifecycle, AttemptState, EndCause, LifecyclePhase, NotBeforeKind, StateName, StateVector, TerminalOutcome,
};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "suspension";
    "resume_execution: after an operator resume and a new suspend the old token is waitpoint_closed and the new suspension keeps its timeout." => resumed_and_suspended_again,
    "resume_execution: a resume delay of 50 ms gives DELAYED, unclaimable for 50 ms and READY at 50, for signal, operator and auto_resume alike; a later not_before set meanwhile wins." => delays,
    "resume_execution: a policy without override refuses the operator and a stale suspension id changes nothing." => forbidden_or_stale,
    "resume_execution: the resumed claim continues the same attempt id and index with the next epoch, and is told Operator, never Signal, even when some signals had matched." => told_operator,
    "resume_execution: a repeat by the same operator gets the first answer; a second operator gets execution_not_suspended." => repeats,
    "resume_execution: a flow member that got an unresolved edge while suspended goes to DEPS and one whose flow was cancelled ends cancelled." => members,
    "resume_execution: from the timeout instant on an operator is refused until the timeout has been applied." => overtaken,
}

async fn resumed_and_suspended_again(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    let first = s.suspend(args).await;
    s.advance(400);
    assert_eq!(s.resume(id).await.state_vector, INTERRUPTED);
    let fence = s.claim_this(id).await.fence;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(5_000, TimeoutBehavior::Fail);
    let second = s.suspend(args).await;
    let timeout_at = Some(s.now().after(5_000));
    assert_eq!(second.timeout_at, timeout_at);

    let old = s.signal(id, &first.waitpoints[0], "go");
    s.refused_as_closed(old, WaitpointCloseReason::OperatorResume).await;
    s.advance(600); // the first timeout's instant
    assert_eq!(s.sweep().await.total(), 0);
    let suspension = s.last_suspension(id).await;
    assert_eq!((suspension.suspension_id, suspension.timeout_at), (second.suspension_id, timeout_at));
    assert_eq!(suspension.closed_at, None);
    s.advance(4_399);
    s.sweep().await;
    assert_eq!(s.state(id).await, StateName::Suspended);
    s.advance(1);
    assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
    assert_eq!(s.vector(id).await, StateVector::done(TerminalOutcome::Failed, true));
}

async fn delays(s: &Stage) {
    // How each wakes the execution, 100 ms after it was suspended.
    enum Wake {
        Signal,
        Operator,
        Timeout,
        LateTimeout,
    }
    let asleep_then_awake = async |wake: Wake, meanwhile: Option<u64>| {
        let (id, fence) = s.running().await;
        let mut args = s.any_signal(id, fence);
        args.resume_policy = resume_delay(50);
        let due = if matches!(wake, Wake::LateTimeout) { 70 } else { 100 };
        args.timeout = timeout(due, TimeoutBehavior::AutoResume);
        let asleep = s.suspend(args).await;
        if let Some(ms) = meanwhile {
            let DelayExecutionResult::Delayed { summary, .. } = s.delay_as_operator(id, When::After(ms)).await;
            assert_eq!(summary.state_vector.name(), Some(StateName::Suspended));
        }
        match wake {
            Wake::Signal => {
                s.advance(99);
                s.send(id, &asleep.waitpoints[0], "go").await;
            }
            Wake::Operator => {
                s.advance(99);
                s.resume(id).await;
            }
            Wake::Timeout | Wake::LateTimeout => {
                s.advance(100);
                // The delay counts from when the timeout is applied.
                assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
            }
        }
        (id, s.now())
    };
    for wake in [Wake::Signal, Wake::Operator, Wake::Timeout, Wake::LateTimeout] {
        let (id, woken_at) = asleep_then_awake(wake, None).await;
        assert_eq!(s.vector(id).await, interrupted_until(NotBeforeKind::ResumeDelay));
        let x = s.describe(id).await;
        assert_eq!(x.not_before, Some(woken_at.after(50)));
        assert_eq!(x.not_before_kind, Some(NotBeforeKind::ResumeDelay));
        for ms in [0, 49] {
            s.advance(ms);
            assert_eq!(s.claim_next(1).await.claimed, []);
            s.refused_with(Code::ExecutionNotEligible, s.grant_args(id, 1_000)).await;
            assert_eq!(s.vector(id).await, interrupted_until(NotBeforeKind::ResumeDelay));
        }
        s.advance(1);
        assert_eq!(s.sweep().await.count(TimerKind::Delay), 1);
        let x = s.describe(id).await;
        assert_eq!((x.summary.state_vector, x.not_before), (INTERRUPTED, None));
        s.claim_awake(id).await;
        s.cancel(id).await;
    }
    for wake in [Wake::Signal, Wake::Operator, Wake::Timeout] {
        let set_at = s.now();
        let (id, _) = asleep_then_awake(wake, Some(1_000)).await;
        assert_eq!(s.vector(id).await, interrupted_until(NotBeforeKind::Delay));
        assert_eq!(s.describe(id).await.not_before, Some(set_at.after(1_000)));
        s.set(set_at.after(999));
        s.sweep().await;
        assert_eq!(s.vector(id).await, interrupted_until(NotBeforeKind::Delay));
        s.advance(1);
        s.sweep().await;
        assert_eq!(s.vector(id).await, INTERRUPTED);
        s.cancel(id).await;
    }
    // An earlier one does not: the resume delay is later.
    let (id, woken_at) = asleep_then_awake(Wake::Operator, Some(110)).await;
    assert_eq!(s.vector(id).await, interrupted_until(NotBeforeKind::ResumeDelay));
    assert_eq!(s.describe(id).await.not_before, Some(woken_at.after(50)));
}

async fn forbidden_or_stale(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.resume_policy.allow_operator_override = false;
    let first = s.suspend(args).await;
    for suspension_id in [None, Some(first.suspension_id)] {
        let refusal = s.refused(s.resumption(id, suspension_id)).await;
        assert_eq!(refusal, Refusal::operator_override_forbidden());
    }
    assert_eq!(s.send(id, &first.waitpoints[0], "go").await, SignalEffect::ResumeConditionSatisfied);

    let fence = s.claim_this(id).await.fence;
    let second = s.suspend(s.any_signal(id, fence)).await;
    let refusal = s.refused(s.resumption(id, Some(first.suspension_id))).await;
    assert_eq!(refusal, Refusal::stale_suspension(Some(second.suspension_id)));
    assert_eq!(s.state(id).await, StateName::Suspended);
    let args = s.resumption(id, Some(second.suspension_id));
    assert!(s.backend.resume_execution(args).await.is_ok());
}

async fn told_operator(s: &Stage) {
    for by_id in [false, true] {
        let (id, fence) = s.running().await;
        let condition = ResumeCondition::count(3, Distinct::Signals, "go");
        let mut args = s.suspension(id, fence, vec![fresh()], condition);
        args.continuation = Some(bytes::Bytes::from_static(b"step 4"));
        let asleep = s.suspend(args).await;
        for _ in 0..2 {
            let effect = s.send(id, &asleep.waitpoints[0], "go").await;
            assert_eq!(effect, SignalEffect::AppendedToWaitpoint);
        }
        let summary = s.resume(id).await;
        assert_eq!((summary.state_vector, summary.current_attempt_index), (INTERRUPTED, Some(AttemptIndex(0))));
        assert_eq!(s.attempts(id).await[0].attempt_state, AttemptLifecycle::Suspended, "until it is claimed");
        let (claimed, info) = if by_id {
            let resumed = s.claim_resumed(id).await;
            match resumed.cause {
                ResumeCause::Suspension(info) => (resumed.claimed, info),
                other => panic!("{other:?}"),
            }
        } else {
            s.claim_awake(id).await
        };
        assert_eq!((claimed.attempt_id, claimed.attempt_index), (fence.attempt_id, AttemptIndex(0)));
        assert_eq!(claimed.fence.lease_epoch, LeaseEpoch(2));
        assert_eq!(claimed.fence.attempt_id, fence.attempt_id);
        assert_eq!((info.suspension_id, info.trigger), (asleep.suspension_id, ResumeTrigger::Operator));
        let operator = OperatorResume { by: "ops".to_owned(), reason: "go on".to_owned() };
        assert_eq!(info.operator, Some(operator));
        assert_eq!(info.continuation.as_deref(), Some(&b"step 4"[..]));
        assert_eq!((info.matched.total, info.matched.closer), (2, None));
        let effects: Vec<_> = info.matched.first.iter().map(|m| m.effect).collect();
        assert_eq!(effects, [SignalEffect::AppendedToWaitpoint; 2]);
        let attempts = s.attempts(id).await;
        assert_eq!((attempts.len(), attempts[0].attempt_state), (1, AttemptLifecycle::Started));
        s.complete(id, claimed.fence).await;
    }
}

async fn repeats(s: &Stage) {
    let (id, fence, _) = s.suspended().await;
    let suspension_id = s.last_suspension(id).await.suspension_id;
    let args = s.resumption(id, Some(suspension_id));
    let first = s.backend.resume_execution(args.clone()).await;
    let Ok(ResumeExecutionResult::Resumed { suspension_id: told, summary }) = first else { panic!("{first:?}") };
    assert_eq!((told, summary.state_vector), (suspension_id, INTERRUPTED));

    let second_operator = || {
        let mut other = args.clone();
        other.by = "somebody".to_owned();
        let mut reason = args.clone();
        reason.reason = "why not".to_owned();
        [other, reason, s.resumption(id, None)]
    };
    let refuse = async |phase| {
        for args in second_operator() {
            assert_eq!(s.refused(args).await, Refusal::execution_not_suspended(phase));
        }
    };
    let repeat = async |state| {
        let outcome = s.changes_nothing(args.clone()).await;
        let Outcome::ResumeExecution(ResumeExecutionResult::Resumed { suspension_id: told, summary }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!((told, summary.state_vector.name()), (suspension_id, Some(state)));
    };
    s.advance(5);
    repeat(StateName::Ready).await;
    refuse(LifecyclePhase::Runnable).await;
    let owner = s.claim_this(id).await.fence;
    assert_eq!(owner.attempt_id, fence.attempt_id);
    repeat(StateName::Running).await;
    refuse(LifecyclePhase::Active).await;
    s.complete(id, owner).await;
    repeat(StateName::Done).await;
    refuse(LifecyclePhase::Terminal).await;
}

async fn members(s: &Stage) {
    let flow_id = s.flow().await;
    let upstream = s.member(flow_id, &[]).await;
    let upstream_fence = s.claim_this(upstream).await.fence;
    let id = s.member(flow_id, &[]).await;
    let fence = s.claim_this(id).await.fence;
    s.suspend(s.any_signal(id, fence)).await;
    s.link(flow_id, upstream, id).await;
    assert_eq!(s.state(id).await, StateName::Suspended);
    assert_eq!(s.resume(id).await.state_vector, StateVector::deps(AttemptState::AttemptInterrupted));
    s.complete(upstream, upstream_fence).await;
    assert_eq!(s.vector(id).await, INTERRUPTED);
    let (claimed, info) = s.claim_awake(id).await;
    assert_eq!((claimed.attempt_id, info.trigger), (fence.attempt_id, ResumeTrigger::Operator));
    s.complete(id, claimed.fence).await;

    let (flow_id, id, fence) = s.member_cancelled_last().await;
    s.suspend(s.any_signal(id, fence)).await;
    s.cancel_flow_of_a_hundred(flow_id).await;
    assert_eq!(s.state(id).await, StateName::Suspended, "its turn has not come");
    assert_eq!(s.resume(id).await.state_vector, StateVector::done(TerminalOutcome::Cancelled, true));
    let x = s.describe(id).await;
    assert_eq!(x.end_cause, Some(EndCause::FlowCancelled));
    assert_eq!(x.cancel_reason.as_deref(), Some("over"));
    assert_eq!(x.ended_by, Some(EndedBy::Operator { identity: "boss".to_owned() }));
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.close_reason, Some(SuspensionCloseReason::OperatorResume));
}

async fn overtaken(s: &Stage) {
    let due = |behavior| async move {
        let (id, fence) = s.running().await;
        let condition = ResumeCondition::signal(Matcher::named("go"));
        let mut args = s.suspension(id, fence, vec![fresh()], condition);
        args.timeout = timeout(1_000, behavior);
        let asleep = s.suspend(args).await;
        s.advance(999);
        (id, asleep.suspension_id)
    };
    let (id, _) = due(TimeoutBehavior::Fail).await;
    assert_eq!(s.resume(id).await.state_vector, INTERRUPTED, "one millisecond earlier it is the operator's");
    s.cancel(id).await;

    for behavior in
        [TimeoutBehavior::Fail, TimeoutBehavior::AutoResume, TimeoutBehavior::Escalate { fail_after_ms: None }]
    {
        let (id, suspension_id) = due(behavior).await;
        for ms in [1, 1, 60_000] {
            s.advance(ms);
            for named in [None, Some(suspension_id)] {
                assert_eq!(s.refused(s.resumption(id, named)).await, Refusal::suspension_timed_out());
            }
        }
        s.time_out(id, suspension_id).await;
        match behavior {
            TimeoutBehavior::Fail => {
                let refusal = s.refused(s.resumption(id, None)).await;
                assert_eq!(refusal, Refusal::execution_not_suspended(LifecyclePhase::Terminal));
            }
            TimeoutBehavior::AutoResume => {
                let refusal = s.refused(s.resumption(id, None)).await;
                assert_eq!(refusal, Refusal::execution_not_suspended(LifecyclePhase::Runnable));
                s.cancel(id).await;
            }
            _ => {
                assert_eq!(s.resume(id).await.state_vector, INTERRUPTED);
                s.cancel(id).await;
            }
        }
    }
}
