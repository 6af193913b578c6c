//! Delays and waiting for children.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::AttemptIndex;
use ff_core::records::PauseKind;
use ff_core::state::{AttemptLifecycle, AttemptState, AttemptType, StateName, StateVector};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, attempt_timeout, retries};

cases! { "execution";
    "delay_execution: until in the past gives READY(attempt_interrupted) and the next claim continues the same attempt." => delayed_into_the_past,
    "delay_execution: the time asleep does not count against the attempt timeout." => asleep,
    "delay_execution: an operator ends a retry backoff early and its attempt starts as a retry." => backoff_ended,
    "move_to_waiting_children: outside a flow, or when the last edge was resolved before the call, it is AlreadySatisfied and the lease lives." => nothing_to_wait_for,
}

async fn delayed_into_the_past(s: &Stage) {
    let (id, fence) = s.running().await;
    let past = s.now();
    s.advance(10);
    let DelayExecutionResult::Delayed { until, summary } = s.delay(id, fence, When::At(past)).await;
    assert_eq!(until, past);
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::AttemptInterrupted));
    assert_eq!(summary.current_attempt_index, Some(AttemptIndex(0)));
    let x = s.describe(id).await;
    assert_eq!((x.not_before, x.current_lease), (None, None), "the lease is gone");

    let result = s.claim_next(1).await;
    let [NextClaim::Resumed(resumed)] = result.claimed.as_slice() else { panic!("{result:?}") };
    assert_eq!(resumed.cause, ResumeCause::DelayOver);
    assert_eq!(resumed.claimed.execution_id, id);
    assert_eq!(resumed.claimed.attempt_id, fence.attempt_id);
    assert_eq!(resumed.claimed.attempt_index, AttemptIndex(0));
    assert_eq!(resumed.claimed.attempt_type, AttemptType::Initial);
    let attempts = s.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].attempt_state, AttemptLifecycle::Started);
    assert_eq!(attempts[0].pause_kind, Some(PauseKind::Delay));
    assert_eq!((attempts[0].paused_at, attempts[0].resumed_at), (Some(s.now()), Some(s.now())));
}

async fn asleep(s: &Stage) {
    let (id, fence) = s.running_with(attempt_timeout(10_000)).await;
    s.advance(4_000);
    s.delay(id, fence, When::After(60_000)).await;
    assert_eq!(s.attempts(id).await[0].attempt_deadline_at, None);
    s.advance(60_000);
    let claimed = s.claim_this(id).await;
    assert_eq!(claimed.attempt_id, fence.attempt_id);
    assert_eq!(claimed.attempt_deadline_at, Some(s.now().after(6_000)));
    let timer = ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(0) };
    s.advance(5_999);
    match s.expire(id, timer).await {
        ExpireExecutionResult::NotDue { cause, .. } => assert_eq!(cause, NotDueCause::Early),
        other => panic!("{other:?}"),
    }
    s.advance(1);
    assert!(matches!(s.expire(id, timer).await, ExpireExecutionResult::Ended { .. }));
}

async fn backoff_ended(s: &Stage) {
    let (id, fence) = s.running_with(retries(1, 60_000)).await;
    s.fail_and_retry(id, fence).await;
    assert_eq!(s.state(id).await, StateName::Delayed);
    s.advance(1);
    let DelayExecutionResult::Delayed { summary, .. } = s.delay_as_operator(id, When::At(s.now())).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingRetryAttempt));
    let claimed = s.claim_this(id).await;
    assert_eq!((claimed.attempt_type, claimed.attempt_index), (AttemptType::Retry, AttemptIndex(1)));
    assert_eq!(claimed.retry_count, 1);
}

async fn nothing_to_wait_for(s: &Stage) {
    let satisfied = |answer| match answer {
        MoveToWaitingChildrenResult::AlreadySatisfied { impossible_count, summary } => {
            assert_eq!(summary.state_vector, StateVector::RUNNING);
            impossible_count
        }
        other @ MoveToWaitingChildrenResult::Moved { .. } => panic!("{other:?}"),
    };
    let (alone, fence) = s.running().await;
    s.changes_nothing(MoveToWaitingChildrenArgs { execution_id: alone, fence }).await;
    assert_eq!(satisfied(s.wait_for_children(alone, fence).await), 0);
    s.complete(alone, fence).await;

    let (_, (up, up_fence), (down, fence)) = s.running_pair().await;
    s.complete(up, up_fence).await;
    s.changes_nothing(MoveToWaitingChildrenArgs { execution_id: down, fence }).await;
    assert_eq!(satisfied(s.wait_for_children(down, fence).await), 0);
    s.advance(10);
    assert_eq!(s.renew(down, fence, LEASE_MS).await, s.now().after(LEASE_MS));
    s.complete(down, fence).await;

    // An edge that became impossible is resolved too.
    let (_, (up, _), (down, fence)) = s.running_pair().await;
    s.cancel(up).await;
    assert_eq!(satisfied(s.wait_for_children(down, fence).await), 1);
}
