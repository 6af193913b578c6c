//! Suspensions that time out.

use ff_core::condition::{Distinct, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{SignalId, SuspensionId};
use ff_core::records::SignalAuth;
use ff_core::state::{AttemptLifecycle, BlockingReason, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::{TimestampMs, When};

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "suspension";
    "expire_suspension: each of the five behaviours gives its vector, attempt state and close reasons and exactly one timeout signal with the derived id." => five_behaviours,
    "expire_suspension: without a timeout, or before it, the answer is NotDue and nothing changes, and no timer is armed without a timeout." => not_due,
    "expire_suspension: a timer of an earlier suspension never ends a later one." => earlier_timer,
    "expire_suspension: the policy's default timeout applies unless the call says Never or gives its own." => defaults,
    "expire_suspension: after escalate every old token is waitpoint_closed, the execution stays suspended, and an operator resume works." => escalated,
    "expire_suspension: escalate on a covered member ends it cancelled." => escalated_member,
    "expire_suspension: an escalation with fail_after_ms ends failed at that instant with a second timeout signal." => escalated_and_failed,
    "expire_suspension: auto_resume hands over the timeout signal and the partial matches and gives back the attempt's remaining time." => resumed_by_itself,
    "expire_suspension: when deadline and suspension timeout are due in one sweep at one instant the execution ends expired by the deadline." => deadline_first,
}

/// The suspension id of the contract's example, and its two timeout signals.
const SUSPENSION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const FIRST_TIMEOUT: &str = "01890a5d-ac96-874b-bcce-b302099a8057";
const SECOND_TIMEOUT: &str = "01890a5d-ac96-874b-bcce-b302099a8056";

fn suspension_id() -> SuspensionId {
    SUSPENSION.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn is_timeout_signal(signal: &SignalInfo, id: &str, seq: u64, accepted_at: TimestampMs) {
    let id: SignalId = id.parse().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((signal.signal_id, signal.seq, signal.accepted_at), (id, seq, accepted_at));
    assert_eq!((signal.name.as_str(), signal.category.as_str()), ("timeout", "timeout"));
    assert_eq!(signal.source, SignalSource::new("engine", "engine"));
    assert_eq!((signal.waitpoint_id, signal.payload.len()), (None, 0));
    assert_eq!((&signal.encoding, &signal.correlation_id, &signal.idempotency_key), (&None, &None, &None));
    assert_eq!((&signal.auth, signal.effect), (&SignalAuth::Engine, SignalEffect::TimeoutFired));
}

const ESCALATE: TimeoutBehavior = TimeoutBehavior::Escalate { fail_after_ms: None };

async fn five_behaviours(s: &Stage) {
    let ended = |outcome| StateVector::done(outcome, true);
    let rows = [
        (
            TimeoutBehavior::Fail,
            ended(TerminalOutcome::Failed),
            AttemptLifecycle::EndedFailure,
            Some(SuspensionCloseReason::TimedOutFail),
        ),
        (
            TimeoutBehavior::Cancel,
            ended(TerminalOutcome::Cancelled),
            AttemptLifecycle::EndedCancelled,
            Some(SuspensionCloseReason::TimedOutCancel),
        ),
        (
            TimeoutBehavior::Expire,
            ended(TerminalOutcome::Expired),
            AttemptLifecycle::EndedFailure,
            Some(SuspensionCloseReason::TimedOutExpire),
        ),
        (
            TimeoutBehavior::AutoResume,
            INTERRUPTED,
            AttemptLifecycle::Suspended,
            Some(SuspensionCloseReason::TimedOutAutoResume),
        ),
        (ESCALATE, StateVector::suspended(BlockingReason::PausedByOperator), AttemptLifecycle::Suspended, None),
    ];
    for (behavior, vector, attempt_state, close_reason) in rows {
        for swept in [false, true] {
            let (id, fence) = s.running_with(retries(5, 0)).await;
            let mut args = s.any_signal(id, fence);
            args.suspension_id = suspension_id();
            args.timeout = timeout(1_000, behavior);
            let asleep = s.suspend(args).await;
            s.advance(1_000);
            if swept {
                assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
            } else {
                let (told, summary) = s.time_out(id, suspension_id()).await;
                assert_eq!((told, summary.state_vector), (behavior, vector));
            }
            let x = s.describe(id).await;
            assert_eq!(x.summary.state_vector, vector, "{behavior:?}");
            let attempt = s.attempts(id).await.remove(0);
            assert_eq!(attempt.attempt_state, attempt_state, "{behavior:?}");
            if vector.is_terminal() {
                assert_eq!(x.end_cause, Some(EndCause::SuspensionTimeout));
                assert_eq!(x.ended_by, Some(EndedBy::Engine));
                assert_eq!((x.failure_reason, x.cancel_reason, x.retry_count), (None, None, 0));
                assert_eq!(attempt.end_cause, Some(EndCause::SuspensionTimeout));
                assert_eq!((attempt.ended_at, attempt.failure_reason), (Some(s.now()), None));
            }
            let suspension = s.last_suspension(id).await;
            assert_eq!(suspension.close_reason, close_reason, "{behavior:?}");
            assert_eq!(suspension.closed_at, close_reason.map(|_| s.now()));
            if behavior == ESCALATE {
                assert_eq!(suspension.escalated_at, Some(s.now()));
                assert_eq!((suspension.timeout_at, suspension.timeout_behavior), (None, None));
            } else {
                assert_eq!(suspension.escalated_at, None);
                assert_eq!(suspension.timeout_at, asleep.timeout_at);
                assert_eq!(suspension.timeout_behavior, Some(behavior));
            }
            let late = s.signal(id, &asleep.waitpoints[0], "go");
            s.refused_as_closed(late, WaitpointCloseReason::TimedOut).await;
            let cause = match behavior {
                ESCALATE => NotDueCause::NotArmed,
                TimeoutBehavior::AutoResume => NotDueCause::Stale,
                _ => NotDueCause::Terminal,
            };
            s.not_due(id, suspension_id(), cause).await;
            let signals = s.signals(id).await.signals;
            assert_eq!(signals.len(), 1, "{behavior:?}");
            is_timeout_signal(&signals[0], FIRST_TIMEOUT, 1, s.now());
            s.cancel_unless_done(id).await;
        }
    }
}

async fn not_due(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.timeout = SuspensionTimeout::Never;
    let never = s.suspend(args).await;
    assert_eq!(never.timeout_at, None);
    assert_eq!(s.sweep().await.next_due_at, None, "no timer is armed");
    s.not_due(id, never.suspension_id, NotDueCause::NotArmed).await;
    s.advance(31_622_400_000);
    s.not_due(id, never.suspension_id, NotDueCause::NotArmed).await;
    s.not_due(id, SuspensionId::new(), NotDueCause::Stale).await;
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(id).await, StateName::Suspended);

    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    let asleep = s.suspend(args).await;
    assert_eq!(s.sweep().await.next_due_at, Some(s.now().after(1_000)));
    for ms in [0, 999] {
        s.advance(ms);
        s.not_due(id, asleep.suspension_id, NotDueCause::Early).await;
        assert_eq!(s.sweep().await.total(), 0);
    }
    s.cancel(id).await;
    s.not_due(id, asleep.suspension_id, NotDueCause::Terminal).await;
}

async fn earlier_timer(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    let first = s.suspend(args).await;
    s.send(id, &first.waitpoints[0], "go").await;
    let fence = s.claim_this(id).await.fence;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(5_000, TimeoutBehavior::Cancel);
    let second = s.suspend(args).await;
    for ms in [1_000, 3_999] {
        s.advance(ms);
        assert_eq!(s.sweep().await.total(), 0, "the first suspension's timer was disarmed");
        s.not_due(id, first.suspension_id, NotDueCause::Stale).await;
        assert_eq!(s.state(id).await, StateName::Suspended);
    }
    s.advance(1);
    s.not_due(id, first.suspension_id, NotDueCause::Stale).await;
    let (behavior, summary) = s.time_out(id, second.suspension_id).await;
    assert_eq!(behavior, TimeoutBehavior::Cancel);
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, true));
}

async fn defaults(s: &Stage) {
    let asleep_with = async |own: SuspensionTimeout| {
        let (id, fence) = s.running_with(default_timeout(7_000, TimeoutBehavior::Cancel)).await;
        let mut args = s.any_signal(id, fence);
        args.timeout = own;
        let asleep = s.suspend(args).await;
        (id, asleep.timeout_at, s.last_suspension(id).await.timeout_behavior)
    };
    let start = s.now();
    let (by_policy, timeout_at, behavior) = asleep_with(SuspensionTimeout::Default).await;
    assert_eq!((timeout_at, behavior), (Some(start.after(7_000)), Some(TimeoutBehavior::Cancel)));
    let (never, timeout_at, behavior) = asleep_with(SuspensionTimeout::Never).await;
    assert_eq!((timeout_at, behavior), (None, None));
    let (own, timeout_at, behavior) = asleep_with(timeout(3_000, TimeoutBehavior::Expire)).await;
    assert_eq!((timeout_at, behavior), (Some(start.after(3_000)), Some(TimeoutBehavior::Expire)));
    let (id, fence) = s.running().await;
    assert_eq!(s.suspend(s.any_signal(id, fence)).await.timeout_at, None, "the default policy has none");

    s.advance(3_000);
    s.sweep().await;
    assert_eq!(s.vector(own).await, StateVector::done(TerminalOutcome::Expired, true));
    assert_eq!(s.state(by_policy).await, StateName::Suspended);
    s.advance(4_000);
    assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
    assert_eq!(s.vector(by_policy).await, StateVector::done(TerminalOutcome::Cancelled, true));
    assert_eq!(s.state(never).await, StateName::Suspended);
    assert_eq!(s.state(id).await, StateName::Suspended);
}

async fn escalated(s: &Stage) {
    let (id, fence) = s.running().await;
    let pending = s.pending_from(id, fence, &["ann", "bob"]).await;
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh()];
    let condition = ResumeCondition::count(3, Distinct::Signals, "go");
    let mut args = s.suspension(id, fence, bindings, condition);
    args.timeout = timeout(1_000, ESCALATE);
    let asleep = s.suspend(args).await;
    let early = s.signal(id, &asleep.waitpoints[0], "go");
    assert_eq!(s.deliver(early.clone()).await, SignalEffect::AppendedToWaitpoint);
    s.advance(1_000);
    s.sweep().await;
    for (waitpoint, nth) in [(0, 0), (0, 1), (1, 0)] {
        let late = s.signal_by(id, &asleep.waitpoints[waitpoint], nth, "go");
        s.refused_as_closed(late, WaitpointCloseReason::TimedOut).await;
    }
    assert_eq!(s.duplicate(early.clone()).await, (early.signal_id, SignalEffect::AppendedToWaitpoint));
    assert_eq!(s.vector(id).await, StateVector::suspended(BlockingReason::PausedByOperator));
    assert_eq!(s.waitpoints(id).await, []);
    s.advance(31_622_400_000);
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.vector(id).await, StateVector::suspended(BlockingReason::PausedByOperator));

    assert_eq!(s.resume(id).await.state_vector, INTERRUPTED);
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::OperatorResume));
    let (claimed, info) = s.claim_awake(id).await;
    assert_eq!((claimed.attempt_id, info.trigger), (fence.attempt_id, ResumeTrigger::Operator));
    let effects: Vec<_> = info.matched.first.iter().map(|m| m.effect).collect();
    assert_eq!(effects, [SignalEffect::AppendedToWaitpoint, SignalEffect::TimeoutFired]);
}

async fn escalated_member(s: &Stage) {
    let (flow_id, id, fence) = s.member_cancelled_last().await;
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(1_000, ESCALATE);
    let asleep = s.suspend(args).await;
    s.advance(1_000);
    s.cancel_flow_of_a_hundred(flow_id).await;
    assert_eq!(s.state(id).await, StateName::Suspended, "its turn has not come");
    let (behavior, summary) = s.time_out(id, asleep.suspension_id).await;
    assert_eq!(behavior, ESCALATE);
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, true));
    let x = s.describe(id).await;
    assert_eq!(x.end_cause, Some(EndCause::FlowCancelled));
    assert_eq!(x.ended_by, Some(EndedBy::Operator { identity: "boss".to_owned() }));
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.escalated_at, Some(s.now()));
    assert_eq!(suspension.close_reason, Some(SuspensionCloseReason::ExecutionEnded));
    let late = s.signal(id, &asleep.waitpoints[0], "go");
    s.refused_as_closed(late, WaitpointCloseReason::TimedOut).await;
    assert_eq!(effects(&s.signals(id).await.signals), [SignalEffect::TimeoutFired]);
}

async fn escalated_and_failed(s: &Stage) {
    let (id, fence) = s.running_with(retries(5, 0)).await;
    let mut args = s.any_signal(id, fence);
    args.suspension_id = suspension_id();
    args.timeout = timeout(1_000, TimeoutBehavior::Escalate { fail_after_ms: Some(500) });
    s.suspend(args).await;
    s.advance(1_030); // applied late: the second time counts from then
    let first_at = s.now();
    let (behavior, summary) = s.time_out(id, suspension_id()).await;
    assert_eq!(behavior, TimeoutBehavior::Escalate { fail_after_ms: Some(500) });
    assert_eq!(summary.state_vector, StateVector::suspended(BlockingReason::PausedByOperator));
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.timeout_at, Some(first_at.after(500)));
    assert_eq!(suspension.timeout_behavior, Some(TimeoutBehavior::Fail));
    assert_eq!(s.sweep().await.next_due_at, Some(first_at.after(500)));
    s.advance(499);
    s.not_due(id, suspension_id(), NotDueCause::Early).await;
    s.sweep().await;
    assert_eq!(s.state(id).await, StateName::Suspended);
    s.advance(1);
    assert_eq!(s.sweep().await.count(TimerKind::SuspensionTimeout), 1);
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
    assert_eq!(x.end_cause, Some(EndCause::SuspensionTimeout));
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.close_reason, Some(SuspensionCloseReason::TimedOutFail));
    assert_eq!(suspension.escalated_at, Some(first_at));
    let signals = s.signals(id).await.signals;
    assert_eq!(signals.len(), 2);
    is_timeout_signal(&signals[0], FIRST_TIMEOUT, 1, first_at);
    is_timeout_signal(&signals[1], SECOND_TIMEOUT, 2, s.now());
}

async fn resumed_by_itself(s: &Stage) {
    let (id, fence) = s.running_with(attempt_timeout(10_000)).await;
    s.advance(4_000);
    let condition = ResumeCondition::count(2, Distinct::Signals, "go");
    let mut args = s.suspension(id, fence, vec![fresh()], condition);
    args.suspension_id = suspension_id();
    args.timeout = timeout(1_000, TimeoutBehavior::AutoResume);
    let asleep = s.suspend(args).await;
    s.send(id, &asleep.waitpoints[0], "noise").await;
    let go = s.signal(id, &asleep.waitpoints[0], "go");
    assert_eq!(s.deliver(go.clone()).await, SignalEffect::AppendedToWaitpoint);
    s.advance(1_000);
    let (claimed, info) = s.claim_awake(id).await; // claim_next sweeps first
    assert_eq!((claimed.attempt_id, claimed.attempt_deadline_at), (fence.attempt_id, Some(s.now().after(6_000))));
    assert_eq!((info.suspension_id, info.trigger, info.operator), (suspension_id(), ResumeTrigger::Timeout, None));
    assert_eq!((info.matched.total, info.matched.closer, info.matched.first.len()), (2, None, 2));
    let [partial, fired] = info.matched.first.as_slice() else { panic!("{:?}", info.matched) };
    assert_eq!((partial.signal_id, partial.seq, partial.effect), (go.signal_id, 2, SignalEffect::AppendedToWaitpoint));
    let id: SignalId = FIRST_TIMEOUT.parse().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((fired.signal_id, fired.seq, fired.effect), (id, 3, SignalEffect::TimeoutFired));
    assert_eq!((fired.waitpoint_id, fired.source.clone()), (None, SignalSource::new("engine", "engine")));
}

async fn deadline_first(s: &Stage) {
    let (id, fence) = s.running_with(deadline(When::After(10_000))).await;
    s.advance(4_000);
    let mut args = s.any_signal(id, fence);
    args.timeout = timeout(6_000, TimeoutBehavior::Fail);
    let asleep = s.suspend(args).await;
    let x = s.describe(id).await;
    assert_eq!((asleep.timeout_at, x.deadline_at), (Some(s.now().after(6_000)), asleep.timeout_at));
    s.advance(6_000);
    let report = s.sweep().await;
    assert_eq!((report.count(TimerKind::Deadline), report.count(TimerKind::SuspensionTimeout)), (1, 0));
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Expired, true));
    assert_eq!(x.end_cause, Some(EndCause::DeadlinePassed));
    assert_eq!(s.last_suspension(id).await.close_reason, Some(SuspensionCloseReason::ExecutionEnded));
    assert_eq!(s.signals(id).await.signals, [], "the timeout never fired");
    let late = s.signal(id, &asleep.waitpoints[0], "go");
    s.refused_as_closed(late, WaitpointCloseReason::ExecutionEnded).await;
}
