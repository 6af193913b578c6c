//! Endings: completion, failure, cancellation, expiry.

use std::collections::BTreeSet;
use std::sync::Arc;

use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptId, AttemptIndex, ExecutionId};
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::{Backoff, ExecutionPolicy};
use ff_core::refusal::Code;
use ff_core::state::{
    AttemptLifecycle, AttemptState, AttemptType, EndCause, NotBeforeKind, PublicState, StateName, StateVector,
    TerminalOutcome,
};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, attempt_timeout, deadline, fresh, not_reclaimable_cause, retries, timeout};

cases! { "execution";
    "complete_execution: at now = lease_expires_at it is lease_expired although no timer fired, and nothing changes." => too_late,
    "complete_execution: its repeat answers Completed and moves no flow counter twice; another result is execution_not_active." => completed_twice,
    "complete_execution: a replayed run that completes without result shows none, and the first run's result is still readable." => results_by_run,
    "complete_execution: an operator completes READY, DELAYED, DEPS, BLOCKED, LOST, REVOKED and SUSPENDED executions." => operator_completes,
    "complete_execution: an operator's completion before any claim leaves attempt_state none." => completed_unclaimed,
    "fail_execution: max_retries 2 gives three attempts, then failed; the default gives one." => three_attempts,
    "fail_execution: a category outside the list, and no_retry, end at once; the empty list retries everything." => categories,
    "fail_execution: backoff and jitter equal the vectors of section 2.2 on every backend." => backoff_vectors,
    "fail_execution: its repeat returns the same retry_at, also after the next attempt has started." => failed_twice,
    "fail_execution: its repeat also gets the first answer after an operator's delay, and is refused, not done twice, once the next attempt has failed." => failed_and_delayed,
    "fail_execution: a retry whose backoff outlasts the deadline ends expired at the deadline." => backoff_beyond_deadline,
    "fail_execution: an operator's failure of a running execution with retries left is final, and so is its repeat." => operator_fails,
    "cancel_execution: from each of the eight non-terminal vectors nothing of x is left in a queue or timer except retention." => cancelled_everywhere,
    "cancel_execution: a paused attempt becomes ended_cancelled and its stream closes." => cancelled_pause,
    "cancel_execution: a worker with the right lease and the wrong attempt_id is stale_lease." => wrong_attempt,
    "cancel_execution: a LOST execution cannot be claimed afterwards and keeps its interrupted attempt." => cancelled_lost,
    "expire_execution: an attempt timeout is retried like any failure of category timeout." => timeout_retried,
    "expire_execution: the timeout of attempt 0 changes nothing once attempt 1 runs or a retry is scheduled." => stale_timeout,
    "expire_execution: an attempt timeout that is due but has not fired refuses no completion." => late_completion,
    "expire_execution: the deadline of a suspended execution closes its suspension and every waitpoint." => deadline_of_suspended,
}

async fn too_late(s: &Stage) {
    let (id, fence) = s.running().await;
    s.advance(LEASE_MS);
    s.refused_with(Code::LeaseExpired, s.completion(id, fence, b"late")).await;
    assert_eq!(s.state(id).await, StateName::Running);
}

async fn completed_twice(s: &Stage) {
    let flow_id = s.flow().await;
    let id = s.member(flow_id, &[]).await;
    s.member(flow_id, &[]).await;
    let fence = s.claim_this(id).await.fence;
    let args = s.completion(id, fence, b"one");
    let first = s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    let again = s.changes_nothing(args).await;
    assert_eq!(again, first);
    let flow = s.describe_flow(flow_id).await;
    assert_eq!(flow.member_counts.get(PublicState::Completed), 1);
    assert_eq!(flow.member_counts.get(PublicState::Waiting), 1);
    s.refused_with(Code::ExecutionNotActive, s.completion(id, fence, b"two")).await;
}

async fn results_by_run(s: &Stage) {
    let (id, fence) = s.running().await;
    s.complete_with(id, fence, b"one").await;
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    s.complete(id, fence).await;
    let last = s.result(id, ResultSelector::Last).await;
    assert_eq!((last.run, last.result), (1, None));
    let first = s.result(id, ResultSelector::Run(0)).await;
    assert_eq!((first.run, first.result.as_deref()), (0, Some(b"one".as_slice())));
}

async fn operator_completes(s: &Stage) {
    let ready = s.ready().await;
    s.complete_as_operator(ready).await;
    let delayed = s.delayed(1_000).await;
    s.complete_as_operator(delayed).await;
    let (_, deps) = s.deps().await;
    s.complete_as_operator(deps).await;
    let blocked = s.blocked().await;
    s.complete_as_operator(blocked).await;
    let (lost, _) = s.lost().await;
    s.complete_as_operator(lost).await;
    let (revoked, _) = s.revoked().await;
    s.complete_as_operator(revoked).await;
    let (suspended, _, _) = s.suspended().await;
    s.complete_as_operator(suspended).await;
    for (id, attempted) in [
        (ready, false),
        (delayed, false),
        (deps, false),
        (blocked, false),
        (lost, true),
        (revoked, true),
        (suspended, true),
    ] {
        let x = s.describe(id).await;
        assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Success, attempted));
        assert_eq!(x.end_cause, Some(EndCause::Completed));
        assert_eq!(x.ended_by, Some(EndedBy::Operator { identity: "ops".to_owned() }));
    }
    let state = |attempts: Vec<AttemptSummary>| attempts.first().map(|a| a.attempt_state);
    assert_eq!(state(s.attempts(lost).await), Some(AttemptLifecycle::InterruptedReclaimed));
    assert_eq!(state(s.attempts(revoked).await), Some(AttemptLifecycle::InterruptedReclaimed));
    assert_eq!(state(s.attempts(suspended).await), Some(AttemptLifecycle::EndedSuccess));
    assert!(s.claim_next(10).await.claimed.is_empty());
}

async fn completed_unclaimed(s: &Stage) {
    let id = s.ready().await;
    let summary = s.complete_as_operator(id).await;
    assert_eq!(summary.state_vector.attempt_state, AttemptState::None);
    assert_eq!(summary.current_attempt_index, None);
    assert!(s.attempts(id).await.is_empty());
    assert_eq!(s.describe(id).await.current_attempt, None);
}

async fn three_attempts(s: &Stage) {
    let id = s.ready_with(retries(2, 0)).await;
    for n in 0..2 {
        let fence = s.claim_this(id).await.fence;
        assert_eq!(s.fail_and_retry(id, fence).await, s.now());
        assert_eq!(s.vector(id).await, StateVector::ready(AttemptState::PendingRetryAttempt));
        assert_eq!(s.describe(id).await.retry_count, n + 1);
    }
    let fence = s.claim_this(id).await.fence;
    let summary = s.fail_for_good(id, fence).await;
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
    let attempts = s.attempts(id).await;
    let types: Vec<_> = attempts.iter().map(|a| a.attempt_type).collect();
    assert_eq!(types, [AttemptType::Initial, AttemptType::Retry, AttemptType::Retry]);
    for attempt in &attempts {
        assert_eq!(attempt.attempt_state, AttemptLifecycle::EndedFailure);
        assert_eq!(attempt.end_cause, Some(EndCause::Failed));
        assert_eq!(attempt.failure_reason.as_deref(), Some("it broke"));
        assert_eq!(attempt.failure_category.as_deref(), Some("error"));
    }
    let x = s.describe(id).await;
    assert_eq!(x.end_cause, Some(EndCause::Failed));
    assert_eq!((x.failure_reason.as_deref(), x.failure_category.as_deref()), (Some("it broke"), Some("error")));

    let (plain, fence) = s.running().await;
    s.fail_for_good(plain, fence).await;
    assert_eq!(s.attempts(plain).await.len(), 1);
}

async fn categories(s: &Stage) {
    let mut policy = retries(5, 0);
    policy.retry.retryable_categories = BTreeSet::from(["error".to_owned(), "network".to_owned()]);
    let failed_with = |id, fence, category: &str, no_retry| {
        let mut args = s.failure(id, fence);
        args.category = category.to_owned();
        args.no_retry = no_retry;
        args
    };
    for (policy, category, no_retry, retried) in [
        (policy.clone(), "network", false, true),
        (policy.clone(), "disk", false, false),
        (policy.clone(), "network", true, false),
        (retries(5, 1_000), "anything", false, true),
        (retries(5, 1_000), "anything", true, false),
    ] {
        let (id, fence) = s.running_with(policy).await;
        let answer = s.backend.fail_execution(failed_with(id, fence, category, no_retry)).await;
        let answer = answer.unwrap_or_else(|e| panic!("fail_execution: {e}"));
        let was_retried = matches!(answer, FailExecutionResult::RetryScheduled { .. });
        assert_eq!(was_retried, retried, "category {category}, no_retry {no_retry}");
        s.cancel_unless_done(id).await;
    }
}

async fn backoff_vectors(s: &Stage) {
    let mut plain = retries(10, 0);
    plain.retry.backoff =
        Backoff::Exponential { initial_ms: 1_000, max_ms: 60_000, multiplier_milli: 1_500, jitter: false };
    let id = s.ready_with(plain).await;
    for delay in [1000, 1500, 2250, 3375, 5062, 7593, 11389] {
        let fence = s.claim_this(id).await.fence;
        assert_eq!(s.fail_and_retry(id, fence).await, s.now().after(delay));
        s.advance(delay);
    }
    s.cancel(id).await;

    let mut spread = retries(20, 0);
    spread.retry.backoff =
        Backoff::Exponential { initial_ms: 1_000, max_ms: 60_000, multiplier_milli: 2_000, jitter: true };
    let mut args = s.creation();
    let id: ExecutionId = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap_or_else(|e| panic!("{e}"));
    args.execution_id = id;
    args.policy = Arc::new(spread);
    s.create(args).await;
    let mut delays = Vec::new();
    for _ in 0..=10 {
        let mut claim = s.claim_args(1);
        claim.partition = id.partition();
        let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}")).claimed;
        let fence = claimed.first().unwrap_or_else(|| panic!("nothing claimed")).claimed().fence;
        let retry_at = s.fail_and_retry(id, fence).await;
        delays.push(retry_at.since(s.now()));
        s.set(retry_at);
    }
    assert_eq!((delays[0], delays[1], delays[2], delays[10]), (24, 1189, 2259, 53665));
}

fn retry_scheduled(outcome: Outcome) -> (ff_core::time::TimestampMs, StateVector) {
    match outcome {
        Outcome::FailExecution(FailExecutionResult::RetryScheduled { retry_at, summary }) => {
            (retry_at, summary.state_vector)
        }
        other => panic!("{other:?}"),
    }
}

async fn failed_twice(s: &Stage) {
    let (id, fence) = s.running_with(retries(3, 1_000)).await;
    let args = s.failure(id, fence);
    let retry_at = s.fail_and_retry(id, fence).await;
    assert_eq!(retry_at, s.now().after(1_000));
    let delayed = StateVector::delayed(NotBeforeKind::RetryBackoff, AttemptState::PendingRetryAttempt);
    s.advance(300);
    assert_eq!(retry_scheduled(s.changes_nothing(args.clone()).await), (retry_at, delayed));
    s.advance(700);
    s.claim_this(id).await;
    assert_eq!(retry_scheduled(s.changes_nothing(args).await), (retry_at, StateVector::RUNNING));
}

async fn failed_and_delayed(s: &Stage) {
    let (id, fence) = s.running_with(retries(3, 1_000)).await;
    let args = s.failure(id, fence);
    let retry_at = s.fail_and_retry(id, fence).await;
    s.delay_as_operator(id, When::After(9_000)).await;
    let delayed = StateVector::delayed(NotBeforeKind::Delay, AttemptState::PendingRetryAttempt);
    assert_eq!(retry_scheduled(s.changes_nothing(args.clone()).await), (retry_at, delayed));
    s.advance(9_000);
    let second = s.claim_this(id).await.fence;
    s.fail_and_retry(id, second).await;
    s.refused_with(Code::ExecutionNotActive, args.clone()).await;
    assert_eq!(s.describe(id).await.retry_count, 2);
    s.advance(1_000);
    s.claim_this(id).await;
    s.refused_with(Code::StaleLease, args).await;
}

async fn backoff_beyond_deadline(s: &Stage) {
    let mut policy = retries(3, 60_000);
    policy.timeouts.deadline = Some(When::After(5_000));
    let (id, fence) = s.running_with(policy).await;
    s.advance(1_000);
    assert_eq!(s.fail_and_retry(id, fence).await, s.now().after(60_000));
    s.advance(3_999);
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(id).await, StateName::Delayed);
    s.advance(1);
    assert_eq!(s.sweep().await.count(TimerKind::Deadline), 1);
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Expired, true));
    assert_eq!((x.end_cause, x.retry_count), (Some(EndCause::DeadlinePassed), 1));
    let attempts = s.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].end_cause, Some(EndCause::Failed), "a final attempt is not touched");
}

async fn operator_fails(s: &Stage) {
    let (id, _) = s.running_with(retries(3, 1_000)).await;
    let args = FailExecutionArgs::builder()
        .execution_id(id)
        .actor(Actor::operator("ops"))
        .reason("hopeless")
        .category("triage")
        .build();
    let first = s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(first, Outcome::FailExecution(FailExecutionResult::Ended { .. })), "{first:?}");
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
    assert_eq!((x.failure_reason.as_deref(), x.failure_category.as_deref()), (Some("hopeless"), Some("triage")));
    assert_eq!((x.end_cause, x.retry_count), (Some(EndCause::Failed), 0));
    assert_eq!(s.changes_nothing(args).await, first);
}

async fn cancelled_everywhere(s: &Stage) {
    // Every timer that a live execution can have, all of them before any retention is over.
    let timed = || {
        let mut policy = deadline(When::After(3_600_000));
        policy.timeouts.attempt_timeout_ms = Some(1_800_000);
        policy
    };
    let mut cancelled = Vec::new();
    let mut end = async |id: ExecutionId, name: StateName| {
        assert_eq!(s.state(id).await, name);
        s.cancel(id).await;
        assert_eq!(s.describe(id).await.grant, None);
        cancelled.push(id);
    };

    let ready = s.ready_with(timed()).await;
    s.grant(ready).await;
    end(ready, StateName::Ready).await;

    let mut args = s.creation_with(timed());
    args.delay = Some(When::After(600_000));
    end(s.create(args).await, StateName::Delayed).await;

    let flow_id = s.flow().await;
    let mut args = s.creation_with(timed());
    args.flow = Some(FlowJoin::held(flow_id));
    let deps = s.create(args).await;
    end(deps, StateName::Deps).await;

    let blocked = s.ready_with(timed()).await;
    s.block(blocked, ff_core::state::BlockReason::WaitingForBudget).await;
    s.block(blocked, ff_core::state::BlockReason::PausedByOperator).await;
    end(blocked, StateName::Blocked).await;

    let (running, _) = s.running_with(timed()).await;
    end(running, StateName::Running).await;

    let (lost, fence) = s.running_with(timed()).await;
    s.lose(lost, fence).await;
    end(lost, StateName::Lost).await;

    let (revoked, fence) = s.running_with(timed()).await;
    s.revoke(revoked, fence).await;
    end(revoked, StateName::Revoked).await;

    let (suspended, fence) = s.running_with(timed()).await;
    let mut args = s.any_signal(suspended, fence);
    args.reason_code = SuspensionReason::WaitingForApproval;
    args.timeout = timeout(900_000, TimeoutBehavior::Fail);
    s.suspend(args).await;
    end(suspended, StateName::Suspended).await;

    assert_eq!(cancelled.len(), 8);
    let result = s.claim_next(64).await;
    assert!(result.claimed.is_empty());
    assert_eq!(result.ready_remaining, 0);
    assert_eq!(result.next_due_at, s.describe(ready).await.purge_at, "a timer other than retention is armed");
    assert_eq!(s.rebuild().await.total(), 0);
    s.advance(86_400_000);
    let report = s.sweep().await;
    assert_eq!(report.count(TimerKind::Retention), 7);
    assert_eq!(report.total(), 7 + report.count(SweepKind::Backlog), "{:?}", report.counts);
    assert_eq!(s.state(deps).await, StateName::Done, "a member is purged with its flow");
}

async fn cancelled_pause(s: &Stage) {
    let (id, fence) = s.running().await;
    s.delay(id, fence, When::After(5_000)).await;
    assert_eq!(s.attempts(id).await[0].attempt_state, AttemptLifecycle::Suspended);
    assert_eq!(s.stream_closed(id, 0).await, None);
    s.advance(10);
    s.cancel(id).await;
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::EndedCancelled);
    assert_eq!(attempt.end_cause, Some(EndCause::Cancelled));
    let closed = s.stream_closed(id, 0).await.unwrap_or_else(|| panic!("the stream is still open"));
    assert_eq!((closed.at, closed.cause), (s.now(), EndCause::Cancelled));
}

async fn wrong_attempt(s: &Stage) {
    let (id, mut fence) = s.running().await;
    fence.attempt_id = AttemptId::new();
    let args = CancelExecutionArgs { execution_id: id, actor: Actor::Worker(fence), reason: "enough".to_owned() };
    s.refused_with(Code::StaleLease, args).await;
}

async fn cancelled_lost(s: &Stage) {
    let (id, _) = s.lost().await;
    let summary = s.cancel(id).await;
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, true));
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::InterruptedReclaimed);
    assert_eq!(attempt.end_cause, Some(EndCause::LeaseExpired));
    assert!(s.claim_next(1).await.claimed.is_empty());
    for args in [Operation::from(s.reclaim_grant_args(id)), Operation::from(s.reclaim_args(id))] {
        let refusal = s.refused_with(Code::ExecutionNotReclaimable, args).await;
        assert_eq!(not_reclaimable_cause(&refusal), NotReclaimableCause::NotLost);
    }
}

fn retried_timeout(category: &str) -> ExecutionPolicy {
    let mut policy = retries(1, 1_000);
    policy.timeouts.attempt_timeout_ms = Some(5_000);
    policy.retry.retryable_categories = BTreeSet::from([category.to_owned()]);
    policy
}

async fn timeout_retried(s: &Stage) {
    let timer = ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(0) };
    let (id, _) = s.running_with(retried_timeout("timeout")).await;
    s.advance(5_000);
    match s.expire(id, timer).await {
        ExpireExecutionResult::RetryScheduled { retry_at, summary } => {
            assert_eq!(retry_at, s.now().after(1_000));
            let expected = StateVector::delayed(NotBeforeKind::RetryBackoff, AttemptState::PendingRetryAttempt);
            assert_eq!(summary.state_vector, expected);
        }
        other => panic!("{other:?}"),
    }
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::EndedFailure);
    assert_eq!(attempt.end_cause, Some(EndCause::AttemptTimeout));
    assert_eq!(attempt.ended_by, Some(EndedBy::Engine));
    assert_eq!((attempt.failure_reason, attempt.failure_category.as_deref()), (None, Some("timeout")));
    let x = s.describe(id).await;
    assert_eq!((x.retry_count, x.total_retries), (1, 1));
    s.cancel(id).await;

    let (other, _) = s.running_with(retried_timeout("network")).await;
    s.advance(5_000);
    match s.expire(other, timer).await {
        ExpireExecutionResult::Ended { summary } => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
        }
        other => panic!("{other:?}"),
    }
    let x = s.describe(other).await;
    assert_eq!((x.end_cause, x.failure_category.as_deref()), (Some(EndCause::AttemptTimeout), Some("timeout")));
}

async fn stale_timeout(s: &Stage) {
    let not_due = |outcome: Outcome| match outcome {
        Outcome::ExpireExecution(ExpireExecutionResult::NotDue { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    let (id, _) = s.running_with(retried_timeout("timeout")).await;
    let timer = ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(0) };
    s.advance(5_000);
    s.expire(id, timer).await;
    let args = ExpireExecutionArgs { execution_id: id, timer };
    assert_eq!(not_due(s.changes_nothing(args).await), NotDueCause::NotArmed);
    s.advance(1_000);
    s.claim_this(id).await;
    assert_eq!(not_due(s.changes_nothing(args).await), NotDueCause::Stale);
    assert_eq!(s.sweep().await.total(), 0);
}

async fn late_completion(s: &Stage) {
    let (id, fence) = s.running_with(attempt_timeout(5_000)).await;
    s.advance(6_000);
    let summary = s.complete_with(id, fence, b"just in time").await;
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Success, true));
    assert_eq!(s.sweep().await.total(), 0);
}

async fn deadline_of_suspended(s: &Stage) {
    let (id, fence) = s.running_with(deadline(When::After(5_000))).await;
    let args = s.suspension(id, fence, vec![fresh(), fresh()], ResumeCondition::any_signal());
    let issued = s.suspend(args).await.waitpoints;
    let open = || async {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).build();
        let list = s.backend.list_pending_waitpoints(args).await;
        list.unwrap_or_else(|e| panic!("list_pending_waitpoints: {e}")).waitpoints.len()
    };
    assert_eq!(open().await, 2);
    s.advance(5_000);
    match s.expire(id, ExpiryTimer::Deadline).await {
        ExpireExecutionResult::Ended { summary } => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Expired, true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open().await, 0);
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::EndedFailure);
    assert_eq!(attempt.end_cause, Some(EndCause::DeadlinePassed));
    for waitpoint in issued {
        let mut signal = s.signal(id, &waitpoint, "go");
        signal.source = SignalSource::new("user", "ann");
        s.refused_with(Code::WaitpointClosed, signal).await;
    }
}
