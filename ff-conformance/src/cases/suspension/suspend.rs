//! Suspending: what it takes, what it refuses, what a repeat is told.

use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, LeaseEpoch, LeaseId, SuspensionId, WaitpointId};
use ff_core::operation::Outcome;
use ff_core::records::PauseKind;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::{AttemptLifecycle, BlockingReason, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "suspension";
    "suspend_execution: a suspend refused for a bad condition, a bad number, a spent waitpoint or a stale fence leaves every record as it was, the last closed suspension included." => refused_suspends,
    "suspend_execution: the lease is released, the epoch kept, and the attempt timer's remainder comes back at the resumed claim." => timers,
    "suspend_execution: the execution deadline keeps running and ends a suspended execution, closing its suspension and waitpoints as execution_ended." => deadline_passes,
    "suspend_execution: a repeat with the same fence and content answers the same variant with tokens under the current kid, also after the resume." => repeats,
    "suspend_execution: the same suspension id with another fence or content is suspension_conflict, also after a replay of the execution." => conflicts,
    "suspend_execution: a fresh waitpoint id that exists in any state is refused, also after replay." => spent_ids,
    "suspend_execution: a pending waitpoint of another execution is waitpoint_not_found and one of an ended attempt waitpoint_not_pending." => foreign_waitpoints,
    "suspend_execution: a pending waitpoint at its exact expiry instant is refused, swept or not, and the lease is kept; one millisecond earlier it is activated and never expires." => at_the_expiry,
    "suspend_execution: a fifth level, a 65th node, an unbound, unnamed or repeated waitpoint, n above the waitpoints and a quorum without enough declared sources are each refused with their path and reason." => bad_conditions,
}

type Change = fn(&mut SuspendExecutionArgs);

async fn refused_suspends(s: &Stage) {
    let (id, first_fence, old) = s.suspended().await;
    s.send(id, &old, "go").await;
    let fence = s.claim_this(id).await.fence;
    let last = s.last_suspension(id).await;
    assert_eq!(last.close_reason, Some(SuspensionCloseReason::Satisfied));
    let signals = s.signals(id).await;
    assert_eq!(signals.signals.len(), 1);
    let pending = s.pending(id, fence).await;
    let (new, spent) = (WaitpointId::new(), old.waitpoint_id);
    // All but the last binding would do: whatever is written one by one would show.
    let bindings = || vec![WaitpointBinding::fresh(new), WaitpointBinding::pending(pending.waitpoint_id)];
    let good = |condition: ResumeCondition| s.suspension(id, fence, bindings(), condition);
    let any = ResumeCondition::any_signal;

    for (condition, path, fault) in [
        (ResumeCondition::any_of([]), "/root/of", ConditionFault::EmptyList),
        (ResumeCondition::timeout_only(), "/root", ConditionFault::NeedsTimeout),
        (ResumeCondition::count(2, Distinct::Sources, "go"), "/root", ConditionFault::TooFewSources),
    ] {
        assert_eq!(s.refused(good(condition)).await, Refusal::invalid_resume_condition(path, fault));
    }

    let numbers: [(Change, &str); 5] = [
        (|a| a.resume_policy.resume_delay_ms = 2_592_000_001, "resume_policy.resume_delay_ms"),
        (|a| a.timeout = timeout(0, TimeoutBehavior::Fail), "timeout.after_ms"),
        (|a| a.timeout = timeout(31_622_400_001, TimeoutBehavior::Fail), "timeout.after_ms"),
        (
            |a| a.timeout = timeout(1, TimeoutBehavior::Escalate { fail_after_ms: Some(0) }),
            "timeout.behavior.fail_after_ms",
        ),
        (|a| a.continuation = Some(vec![0; 1025].into()), "continuation"),
    ];
    for (spoil, field) in numbers {
        let mut args = good(any());
        spoil(&mut args);
        assert_eq!(s.refused(args).await, Refusal::invalid_input(field));
    }

    let mut args = good(any());
    args.waitpoints.push(WaitpointBinding::fresh(spent));
    assert_eq!(s.refused(args).await, Refusal::waitpoint_already_exists(WaitpointState::Closed));

    let mut args = good(any());
    args.fence = first_fence;
    assert_eq!(s.refused(args).await, Refusal::stale_lease());

    assert_eq!(s.last_suspension(id).await, last);
    assert_eq!(s.signals(id).await, signals);
    let x = s.describe(id).await;
    assert_eq!((x.waitpoint_count, x.lease_epoch), (2, LeaseEpoch(2)));
    // Nothing was spent by what was refused: the same ids do.
    let asleep = s.suspend(good(any())).await;
    assert_eq!(asleep.waitpoints[0].waitpoint_id, new);
    assert_eq!(s.send(id, &asleep.waitpoints[1], "go").await, SignalEffect::ResumeConditionSatisfied);
}

async fn timers(s: &Stage) {
    let (id, fence) = s.running_with(attempt_timeout(10_000)).await;
    s.advance(4_000);
    let asleep = s.suspend(s.any_signal(id, fence)).await;
    assert_eq!(asleep.summary.state_vector, StateVector::suspended(BlockingReason::WaitingForSignal));
    assert_eq!(asleep.timeout_at, None);
    let x = s.describe(id).await;
    assert_eq!((x.current_lease, x.lease_epoch), (None, LeaseEpoch(1)));
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::Suspended);
    assert_eq!((attempt.pause_kind, attempt.paused_at), (Some(PauseKind::Suspension), Some(s.now())));
    assert_eq!(attempt.attempt_deadline_at, None);
    let renewal = RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: LEASE_MS };
    s.refused_with(Code::ExecutionNotActive, renewal).await;

    s.advance(100_000);
    assert_eq!(s.sweep().await.total(), 0, "neither lease nor attempt timer is armed");
    s.send(id, &asleep.waitpoints[0], "go").await;
    assert_eq!(s.describe(id).await.lease_epoch, LeaseEpoch(1));
    let (claimed, _) = s.claim_awake(id).await;
    assert_eq!(claimed.fence.lease_epoch, LeaseEpoch(2));
    assert_eq!((claimed.attempt_id, claimed.attempt_index), (fence.attempt_id, AttemptIndex(0)));
    assert_eq!(claimed.attempt_deadline_at, Some(s.now().after(6_000)));
    s.advance(5_999);
    s.sweep().await;
    assert_eq!(s.state(id).await, StateName::Running);
    s.advance(1);
    s.sweep().await;
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
    assert_eq!(x.end_cause, Some(EndCause::AttemptTimeout));
}

async fn deadline_passes(s: &Stage) {
    let (id, fence) = s.running_with(deadline(When::After(60_000))).await;
    s.advance(10_000);
    let left_alone = s.pending(id, fence).await;
    let any = ResumeCondition::any_signal();
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh(), fresh()], any)).await;
    assert_eq!(s.describe(id).await.deadline_at, Some(s.now().after(50_000)));
    s.advance(49_999);
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(id).await, StateName::Suspended);
    s.advance(1);
    assert_eq!(s.sweep().await.count(TimerKind::Deadline), 1);
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Expired, true));
    assert_eq!(x.end_cause, Some(EndCause::DeadlinePassed));
    let suspension = s.last_suspension(id).await;
    assert_eq!(suspension.closed_at, Some(s.now()));
    assert_eq!(suspension.close_reason, Some(SuspensionCloseReason::ExecutionEnded));
    for waitpoint in asleep.waitpoints.iter().chain([&left_alone]) {
        let late = s.signal(id, waitpoint, "go");
        s.refused_as_closed(late, WaitpointCloseReason::ExecutionEnded).await;
    }
    assert_eq!(s.attempts(id).await[0].attempt_state, AttemptLifecycle::EndedFailure);
}

/// The repeat of a suspend: it changes nothing.
async fn again(s: &Stage, args: &SuspendExecutionArgs) -> SuspendExecutionResult {
    match s.changes_nothing(args.clone()).await {
        Outcome::SuspendExecution(result) => result,
        other => panic!("{other:?}"),
    }
}

async fn repeats(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.suspension(id, fence, vec![fresh(), fresh_for(&["ann", "bob"])], ResumeCondition::any_signal());
    args.timeout = timeout(60_000, TimeoutBehavior::Escalate { fail_after_ms: Some(10_000) });
    let asleep = s.suspend(args.clone()).await;
    let timeout_at = asleep.timeout_at;
    assert_eq!(timeout_at, Some(s.now().after(60_000)));
    let expect = |got: SuspendExecutionResult, want_kids: [&str; 3], want_at, want_state| match got {
        SuspendExecutionResult::Suspended { suspension_id, waitpoints, timeout_at, summary } => {
            assert_eq!(suspension_id, args.suspension_id);
            let ids: Vec<_> = waitpoints.iter().map(|w| w.waitpoint_id).collect();
            assert_eq!(ids, args.waitpoint_ids());
            assert_eq!(kids(&waitpoints), want_kids);
            assert_eq!(timeout_at, want_at);
            assert_eq!(summary.state_vector.name(), Some(want_state));
            waitpoints
        }
        other @ SuspendExecutionResult::AlreadySatisfied { .. } => panic!("{other:?}"),
    };
    s.advance(5);
    let same = expect(again(s, &args).await, ["k1"; 3], timeout_at, StateName::Suspended);
    assert_eq!(same, asleep.waitpoints, "the same tokens");

    s.rotate_from("k1", "k2", 2, 86_400_000).await;
    let renewed = expect(again(s, &args).await, ["k2"; 3], timeout_at, StateName::Suspended);
    assert_eq!(renewed[1].tokens[1].source, Some(human("bob")));
    assert_eq!(s.deliver(s.signal_by(id, &renewed[1], 1, "go")).await, SignalEffect::ResumeConditionSatisfied);
    expect(again(s, &args).await, ["k2"; 3], timeout_at, StateName::Ready);
    let fence = s.claim_this(id).await.fence;
    expect(again(s, &args).await, ["k2"; 3], timeout_at, StateName::Running);

    // Another suspension is the last: the first call is now like any other of a past owner.
    let mut next = s.suspension(id, fence, vec![fresh()], ResumeCondition::any_signal());
    next.timeout = args.timeout;
    s.suspend(next.clone()).await;
    s.refused_with(Code::ExecutionNotActive, args.clone()).await;
    // The timeout is the one of now: the escalation has replaced it.
    s.advance(60_000);
    s.sweep().await;
    match again(s, &next).await {
        SuspendExecutionResult::Suspended { timeout_at, .. } => assert_eq!(timeout_at, Some(s.now().after(10_000))),
        other @ SuspendExecutionResult::AlreadySatisfied { .. } => panic!("{other:?}"),
    }
    s.cancel(id).await;

    let (id, fence) = s.running().await;
    let pending = s.pending(id, fence).await;
    s.send(id, &pending, "go").await;
    let args =
        s.suspension(id, fence, vec![WaitpointBinding::pending(pending.waitpoint_id)], ResumeCondition::any_signal());
    let (_, first_matched) = s.already_satisfied(args.clone()).await;
    s.rotate_from("k2", "k3", 3, 86_400_000).await;
    for ended in [false, true] {
        if ended {
            s.complete(id, fence).await;
        }
        match again(s, &args).await {
            SuspendExecutionResult::AlreadySatisfied { suspension_id, waitpoints, matched, summary } => {
                assert_eq!(suspension_id, args.suspension_id);
                assert_eq!(waitpoints[0].waitpoint_id, pending.waitpoint_id);
                assert_eq!(kids(&waitpoints), ["k3"]);
                assert_eq!(matched, first_matched);
                assert_eq!(summary.state_vector.is_terminal(), ended);
            }
            other @ SuspendExecutionResult::Suspended { .. } => panic!("{other:?}"),
        }
    }
}

async fn conflicts(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.any_signal(id, fence);
    args.detail = Some("first".to_owned());
    let asleep = s.suspend(args.clone()).await;
    let conflict = async |args: SuspendExecutionArgs| {
        assert_eq!(s.refused(args).await, Refusal::suspension_conflict());
    };
    let changes: [Change; 10] = [
        |a| a.fence.lease_id = LeaseId::new(),
        |a| a.fence.lease_epoch = LeaseEpoch(7),
        |a| a.waitpoints = vec![fresh()],
        |a| a.reason_code = SuspensionReason::StepBoundary,
        |a| a.detail = None,
        |a| a.resume_condition = ResumeCondition::signal("go"),
        |a| a.resume_policy.allow_operator_override = false,
        |a| a.timeout = SuspensionTimeout::Never,
        |a| a.timeout = timeout(5, TimeoutBehavior::Fail),
        |a| a.continuation = Some(bytes::Bytes::new()),
    ];
    for change in changes {
        let mut other = args.clone();
        change(&mut other);
        conflict(other).await;
    }
    s.send(id, &asleep.waitpoints[0], "go").await;
    let second = s.claim_this(id).await.fence;
    let with = |fence: Fence| {
        let mut args = args.clone();
        args.fence = fence;
        args
    };
    conflict(with(second)).await;
    s.complete(id, second).await;
    conflict(with(second)).await;
    s.replay(id, 0).await;
    let third = s.claim_this(id).await.fence;
    conflict(with(third)).await;
    let mut other = args.clone();
    other.detail = Some("second".to_owned());
    conflict(other).await;
    // The very call is still the repeat of itself, and the owner may suspend under another id.
    assert!(matches!(again(s, &args).await, SuspendExecutionResult::Suspended { .. }));
    s.suspend(s.any_signal(id, third)).await;
}

async fn spent_ids(s: &Stage) {
    let (id, fence) = s.running().await;
    let spend = |fence, waitpoint_id| {
        s.suspension(id, fence, vec![WaitpointBinding::fresh(waitpoint_id)], ResumeCondition::any_signal())
    };
    let pending = s.pending(id, fence).await.waitpoint_id;
    let state = s.refused(spend(fence, pending)).await;
    assert_eq!(state, Refusal::waitpoint_already_exists(WaitpointState::Pending));
    let aged = s.pending_for(id, fence, 1_000).await.waitpoint_id;
    s.advance(1_000);
    s.refused_with(Code::WaitpointAlreadyExists, spend(fence, aged)).await;
    s.sweep().await;
    let withdrawn = s.pending(id, fence).await.waitpoint_id;
    s.withdraw(id, fence, withdrawn).await;
    let asleep = s.suspend(s.any_signal(id, fence)).await;
    let satisfied = asleep.waitpoints[0].waitpoint_id;
    // While it is active, nobody can suspend: the owner is gone.
    s.refused_with(Code::ExecutionNotActive, spend(fence, satisfied)).await;
    s.send(id, &asleep.waitpoints[0], "go").await;
    let fence = s.claim_this(id).await.fence;
    let closed = Refusal::waitpoint_already_exists(WaitpointState::Closed);
    for waitpoint_id in [aged, withdrawn, satisfied] {
        assert_eq!(s.refused(spend(fence, waitpoint_id)).await, closed);
    }
    s.complete(id, fence).await;
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    for waitpoint_id in [pending, aged, withdrawn, satisfied] {
        assert_eq!(s.refused(spend(fence, waitpoint_id)).await, closed);
    }
    s.suspend(s.any_signal(id, fence)).await;
}

async fn foreign_waitpoints(s: &Stage) {
    let (other, other_fence) = s.running().await;
    let foreign = s.pending(other, other_fence).await;
    let (id, fence) = s.running_with(retries(1, 0)).await;
    let bind = |fence, waitpoint: &IssuedWaitpoint| {
        let bindings = vec![fresh(), WaitpointBinding::pending(waitpoint.waitpoint_id)];
        s.suspension(id, fence, bindings, ResumeCondition::any_signal())
    };
    assert_eq!(s.refused(bind(fence, &foreign)).await, Refusal::waitpoint_not_found());
    let unknown = IssuedWaitpoint { waitpoint_id: WaitpointId::new(), tokens: Vec::new() };
    assert_eq!(s.refused(bind(fence, &unknown)).await, Refusal::waitpoint_not_found());

    let own = s.pending(id, fence).await;
    s.fail_and_retry(id, fence).await;
    let fence = s.claim_this(id).await.fence;
    let closed = Refusal::waitpoint_not_pending(WaitpointState::Closed);
    assert_eq!(s.refused(bind(fence, &own)).await, closed);
    assert_eq!(s.state(id).await, StateName::Running);
    // The other execution may name its own.
    let bindings = vec![WaitpointBinding::pending(foreign.waitpoint_id)];
    s.suspend(s.suspension(other, other_fence, bindings, ResumeCondition::any_signal())).await;
}

async fn at_the_expiry(s: &Stage) {
    let (id, fence) = s.running().await;
    let waitpoint = s.pending_for(id, fence, 1_000).await;
    let bind = |id, fence, waitpoint: &IssuedWaitpoint| {
        let bindings = vec![WaitpointBinding::pending(waitpoint.waitpoint_id)];
        s.suspension(id, fence, bindings, ResumeCondition::any_signal())
    };
    s.advance(1_000);
    assert_eq!(s.refused(bind(id, fence, &waitpoint)).await, Refusal::pending_waitpoint_expired());
    assert_eq!(s.sweep().await.count(TimerKind::PendingWaitpoint), 1);
    assert_eq!(s.refused(bind(id, fence, &waitpoint)).await, Refusal::pending_waitpoint_expired());
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::RUNNING);
    assert_eq!(x.current_lease.map(|lease| lease.lease_id), Some(fence.lease_id));
    assert_eq!(s.renew(id, fence, LEASE_MS).await, s.now().after(LEASE_MS));
    s.complete(id, fence).await;

    let (id, fence) = s.running().await;
    let waitpoint = s.pending_for(id, fence, 1_000).await;
    s.advance(999);
    s.suspend(bind(id, fence, &waitpoint)).await;
    for ms in [1, 1_000, 86_400_000] {
        s.advance(ms);
        assert_eq!(s.sweep().await.count(TimerKind::PendingWaitpoint), 0);
        let open = s.waitpoints(id).await;
        assert_eq!(open.len(), 1, "after {ms} ms");
        assert_eq!((open[0].waitpoint_id, open[0].state), (waitpoint.waitpoint_id, WaitpointState::Active));
    }
    assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::ResumeConditionSatisfied);
}

async fn bad_conditions(s: &Stage) {
    let (id, fence) = s.running().await;
    let (a, b) = (WaitpointId::new(), WaitpointId::new());
    let other = WaitpointId::new();
    let two = || vec![WaitpointBinding::fresh(a), WaitpointBinding::fresh(b)];
    let refuse = async |bindings, condition: Condition, path: &str, fault| {
        let args = s.suspension(id, fence, bindings, condition);
        assert_eq!(s.refused(args).await, Refusal::invalid_resume_condition(path, fault));
    };
    let nested = |levels: usize| (1..levels).fold(Condition::any_signal(), |inner, _| Condition::all_of([inner]));
    let wide = |nodes: usize| Condition::any_of((1..nodes).map(|_| Condition::any_signal()));

    refuse(two(), nested(5), "/root/of/0/of/0/of/0/of/0", ConditionFault::TooDeep).await;
    refuse(two(), wide(65), "/root/of/63", ConditionFault::TooManyNodes).await;
    refuse(two(), Condition::signal_at(other, "go"), "/root/waitpoint", ConditionFault::UnboundWaitpoint).await;
    let unbound = Condition::count_at([a, other], 1, Distinct::Signals, "go");
    let unbound = Condition::all_of([Condition::any_signal(), unbound]);
    refuse(two(), unbound, "/root/of/1/waitpoints/1", ConditionFault::UnboundWaitpoint).await;
    refuse(two(), Condition::signal_at(a, "go"), "", ConditionFault::UnreferencedWaitpoint).await;
    refuse(vec![], Condition::any_signal(), "/root", ConditionFault::NoWaitpoint).await;
    let repeated = Condition::count_at([a, b, a], 1, Distinct::Signals, "go");
    refuse(two(), repeated, "/root/waitpoints/2", ConditionFault::DuplicateWaitpoint).await;
    let many = Condition::count(3, Distinct::Waitpoints, Matcher::any());
    refuse(two(), many, "/root/n", ConditionFault::CountOutOfRange).await;
    let many = Condition::any_of([Condition::any_signal(), Condition::count_at([b], 2, Distinct::Waitpoints, "go")]);
    refuse(two(), many, "/root/of/1/n", ConditionFault::CountOutOfRange).await;
    for n in [0, 1001] {
        let count = Condition::count(n, Distinct::Signals, "go");
        refuse(two(), count, "/root/n", ConditionFault::CountOutOfRange).await;
    }

    let quorum = || Condition::count(3, Distinct::Sources, Matcher::any());
    let bound = |identities: &[&str]| vec![fresh_for(identities), fresh_for(&["bob"])];
    refuse(bound(&["ann", "bob"]), quorum(), "/root", ConditionFault::TooFewSources).await;
    let authentic = Condition::all_of([
        Condition::signal_at(a, Matcher::any()),
        Condition::signal_at(b, Matcher::named("go").authenticated_source(true)),
    ]);
    let half =
        vec![WaitpointBinding::Fresh { waitpoint_id: a, sources: vec![human("ann")] }, WaitpointBinding::fresh(b)];
    refuse(half, authentic, "/root/of/1", ConditionFault::TooFewSources).await;

    // What lies just within the bounds is suspended on.
    for (bindings, condition) in [
        (two(), nested(4)),
        (vec![fresh()], wide(64)),
        (vec![fresh(), fresh()], Condition::count(2, Distinct::Waitpoints, Matcher::any())),
        (bound(&["ann", "cid"]), quorum()),
    ] {
        let (id, fence) = s.running().await;
        let mut args = s.suspension(id, fence, bindings, condition);
        args.suspension_id = SuspensionId::new();
        s.suspend(args).await;
    }
}
