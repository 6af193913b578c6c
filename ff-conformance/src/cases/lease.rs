//! Domain lease.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LeaseEpoch};
use ff_core::operation::Outcome;
use ff_core::refusal::Code;
use ff_core::state::{AttemptLifecycle, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use super::cases;
use crate::stage::{LEASE_MS, Stage, attempt_timeout, deadline};

cases! { "lease";
    "renew_lease: at lease_expires_at it is lease_expired and revives nothing." => too_late,
    "renew_lease: a shorter ttl does not shorten the lease, and one beyond the deadline does not move the deadline." => lengths,
    "mark_lease_expired: under an older epoch it is NotDue and the new owner is untouched." => older_epoch,
    "mark_lease_expired: fifty lost executions that nobody reclaims delay no other timer." => fifty_lost,
    "mark_lease_expired: max_reclaims 1 survives one loss and fails at the second with flow edges resolved." => one_reclaim,
    "revoke_lease: the execution is claimable at once, reclaim_count is unchanged, the old fence is lease_revoked and then stale_lease." => revoked,
}

async fn too_late(s: &Stage) {
    let (id, fence) = s.running().await;
    s.advance(LEASE_MS - 1);
    let expires_at = s.renew(id, fence, 100).await;
    assert_eq!(expires_at, s.now().after(100));
    s.set(expires_at);
    let args = RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: LEASE_MS };
    s.refused_with(Code::LeaseExpired, args).await;
    assert_eq!(s.state(id).await, StateName::Running);
    assert_eq!(s.sweep().await.count(TimerKind::Lease), 1);
    assert_eq!(s.state(id).await, StateName::Lost);
    s.refused_with(Code::LeaseExpired, args).await;
}

async fn lengths(s: &Stage) {
    let start = s.now();
    let mut policy = deadline(When::After(60_000));
    policy.timeouts.attempt_timeout_ms = attempt_timeout(50_000).timeouts.attempt_timeout_ms;
    let (id, fence) = s.running_with(policy).await;
    s.advance(10);
    assert_eq!(s.renew(id, fence, 100).await, start.after(LEASE_MS), "the lease got shorter");
    assert_eq!(s.renew(id, fence, LEASE_MS).await, start.after(10 + LEASE_MS));
    // The first expiry's timer went with it.
    s.set(start.after(LEASE_MS));
    assert_eq!(s.sweep().await.count(TimerKind::Lease), 0);
    assert_eq!(s.state(id).await, StateName::Running);
    s.set(start.after(10));
    let args = RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: 86_400_000 };
    match s.backend.renew_lease(args).await {
        Ok(RenewLeaseResult::Renewed { lease_expires_at, deadline_at, attempt_deadline_at, summary }) => {
            assert_eq!(lease_expires_at, start.after(10 + 86_400_000));
            assert_eq!(deadline_at, Some(start.after(60_000)));
            assert_eq!(attempt_deadline_at, Some(start.after(50_000)));
            assert_eq!(summary.state_vector, StateVector::RUNNING);
        }
        Err(e) => panic!("renew_lease: {e}"),
    }
    s.cancel(id).await;

    let (other, fence) = s.running_with(deadline(When::After(60_000))).await;
    s.renew(other, fence, 86_400_000).await;
    s.advance(60_000);
    s.sweep().await;
    assert_eq!(s.vector(other).await, StateVector::done(TerminalOutcome::Expired, true));
    s.refused_with(Code::ExecutionNotActive, RenewLeaseArgs { execution_id: other, fence, lease_ttl_ms: 100 }).await;
}

async fn older_epoch(s: &Stage) {
    let (id, first) = s.running().await;
    s.lose(id, first).await;
    let second = s.claim_this(id).await.fence;
    assert_eq!(second.lease_epoch, LeaseEpoch(2));
    s.advance(LEASE_MS);
    let args = MarkLeaseExpiredArgs { execution_id: id, lease_epoch: first.lease_epoch };
    match s.changes_nothing(args).await {
        Outcome::MarkLeaseExpired(MarkLeaseExpiredResult::NotDue { cause, .. }) => {
            assert_eq!(cause, NotDueCause::Stale);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(s.describe(id).await.current_lease.map(|l| l.lease_id), Some(second.lease_id));
}

async fn fifty_lost(s: &Stage) {
    let mut owned = Vec::new();
    for _ in 0..50 {
        s.ready().await;
    }
    for claim in s.claim_next(50).await.claimed {
        owned.push((claim.claimed().execution_id, claim.claimed().fence));
    }
    assert_eq!(owned.len(), 50);
    s.advance(LEASE_MS);
    for (id, fence) in &owned {
        assert!(matches!(s.mark_expired(*id, *fence).await, MarkLeaseExpiredResult::Lost { .. }));
    }
    let delayed = s.delayed(100).await;
    s.advance(100);
    let report = s.sweep_once(1).await;
    assert_eq!((report.count(TimerKind::Delay), report.total()), (1, 1));
    assert!(!report.more);
    assert_eq!(report.next_due_at, None);
    assert_eq!(s.state(delayed).await, StateName::Ready);
    for (id, _) in owned {
        assert_eq!(s.state(id).await, StateName::Lost);
    }
}

async fn one_reclaim(s: &Stage) {
    let flow_id = s.flow().await;
    let mut args = s.creation();
    std::sync::Arc::make_mut(&mut args.policy).max_reclaims = 1;
    args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
    let up: ExecutionId = s.create(args).await;
    let down = s.member(flow_id, &[up]).await;
    let fence = s.claim_this(up).await.fence;
    s.lose(up, fence).await;
    let x = s.describe(up).await;
    assert_eq!((x.reclaim_count, x.total_reclaims), (1, 1));
    assert_eq!(s.state(down).await, StateName::Deps);
    let fence = s.claim_this(up).await.fence;
    s.advance(LEASE_MS);
    match s.mark_expired(up, fence).await {
        MarkLeaseExpiredResult::Ended { summary } => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
        }
        other => panic!("{other:?}"),
    }
    let x = s.describe(up).await;
    assert_eq!((x.reclaim_count, x.total_reclaims), (1, 1), "both counts stay");
    assert_eq!(x.end_cause, Some(EndCause::MaxReclaimsExceeded));
    assert_eq!(x.ended_by, Some(EndedBy::Engine));
    let attempts = s.attempts(up).await;
    assert_eq!(attempts[1].attempt_state, AttemptLifecycle::InterruptedReclaimed);
    assert_eq!(attempts[1].end_cause, Some(EndCause::LeaseExpired));
    let skipped = s.describe(down).await;
    assert_eq!(skipped.summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
    assert_eq!(skipped.end_cause, Some(EndCause::DependencyImpossible));
}

async fn revoked(s: &Stage) {
    let (id, fence) = s.running().await;
    match s.revoke(id, fence).await {
        RevokeLeaseResult::Revoked { lease_id, lease_epoch, summary } => {
            assert_eq!((lease_id, lease_epoch), (fence.lease_id, LeaseEpoch(1)));
            assert_eq!(summary.state_vector, StateVector::REVOKED);
        }
        other @ RevokeLeaseResult::AlreadyReleased { .. } => panic!("{other:?}"),
    }
    let attempt = s.attempts(id).await.remove(0);
    assert_eq!(attempt.attempt_state, AttemptLifecycle::InterruptedReclaimed);
    assert_eq!(attempt.end_cause, Some(EndCause::LeaseRevoked));
    assert_eq!(attempt.ended_by, Some(EndedBy::Operator { identity: "ops".to_owned() }));
    assert_eq!(attempt.failure_reason.as_deref(), Some("drain"));
    let renewal = RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: LEASE_MS };
    s.refused_with(Code::LeaseRevoked, renewal).await;
    let again = RevokeLeaseArgs {
        execution_id: id,
        lease_id: fence.lease_id,
        reason: "drain".to_owned(),
        by: "ops".to_owned(),
    };
    match s.changes_nothing(again.clone()).await {
        Outcome::RevokeLease(RevokeLeaseResult::AlreadyReleased { .. }) => {}
        other => panic!("{other:?}"),
    }
    let claimed = s.claim_this(id).await;
    assert_eq!((claimed.reclaim_count, claimed.retry_count), (0, 0));
    let x = s.describe(id).await;
    assert_eq!((x.reclaim_count, x.total_reclaims, x.total_retries), (0, 0, 0));
    s.refused_with(Code::StaleLease, renewal).await;
    s.refused_with(Code::StaleLease, again).await;
}
