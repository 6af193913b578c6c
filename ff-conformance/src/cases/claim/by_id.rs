//! Grants and claims by id.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch, WorkerInstanceId};
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::Capabilities;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, AttemptType, BlockReason, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{
    LEASE_MS, Stage, attempt_timeout, not_eligible_cause, not_reclaimable_cause, numbered, requires, retries,
};

cases! { "claim";
    "issue_claim_grant: another worker's claim_next takes the next execution at once while the first is granted." => next_is_served,
    "issue_claim_grant: an unused grant lapses and x returns to its old place exactly once." => lapsed_grant,
    "issue_claim_grant: the same holder gets the same grant, another gets grant_already_exists." => granted_twice,
    "claim_execution: the epoch rises by one when new, resumed and reclaimed, and at nothing else." => epochs,
    "claim_execution: another instance of the same worker cannot use the grant." => other_instance,
    "claim_execution: its repeat under a live lease is the same answer with the same epoch, another instance's is lease_id_in_use." => claimed_twice,
    "claim_execution: a member of a cancelled flow is refused although it still is in a queue." => cancelled_flow,
    "claim_resumed_execution: a DELAYED, DEPS or BLOCKED execution with a paused attempt is refused." => still_paused,
    "issue_reclaim_grant: at the cap a capable worker gets Ended, an incapable one capability_mismatch and no change." => at_the_cap,
    "reclaim_execution: a live lease is execution_not_reclaimable." => live_lease,
    "reclaim_execution: the fresh attempt gets a full attempt timeout and the dead one's timer does nothing." => full_timeout,
}

fn another_instance() -> WorkerInstanceId {
    WorkerInstanceId::new("worker-2").unwrap_or_else(|e| panic!("{e}"))
}

async fn next_is_served(s: &Stage) {
    let first = s.ready().await;
    s.advance(1);
    let second = s.ready().await;
    let grant = s.grant(first).await;
    assert_eq!(grant.claim_kind, ClaimKind::New);
    assert_eq!((grant.granted_at, grant.expires_at), (s.now(), s.now().after(10_000)));
    assert_eq!(s.state(first).await, StateName::Ready, "a grant leaves the vector");
    let mut claim = s.claim_args(1);
    claim.worker_instance_id = another_instance();
    let result = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
    let taken: Vec<_> = result.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!((taken, result.ready_remaining), (vec![second], 0));
    let claimed = match s.backend.claim_execution(s.claim_by_id_args(first)).await {
        Ok(ClaimExecutionResult::Claimed(claimed)) => claimed,
        Err(e) => panic!("claim_execution: {e}"),
    };
    assert_eq!(claimed.execution_id, first);
    assert_eq!(s.describe(first).await.grant, None, "a used grant is gone");
}

async fn lapsed_grant(s: &Stage) {
    let first = s.ready().await;
    s.advance(1);
    let second = s.ready().await;
    s.backend.issue_claim_grant(s.grant_args(first, 1_000)).await.unwrap_or_else(|e| panic!("{e}"));
    s.advance(999);
    assert_eq!(s.sweep().await.total(), 0);
    s.advance(1);
    let expires_at = s.now();
    let refusal = s.refused_with(Code::ClaimGrantExpired, s.claim_by_id_args(first)).await;
    assert_eq!(refusal.details(), &Details::ClaimGrantExpired { expires_at });
    let report = s.sweep().await;
    assert_eq!((report.count(TimerKind::Grant), report.total()), (1, 1));
    assert_eq!(report.next_due_at, None);
    assert_eq!(s.describe(first).await.grant, None);
    let order: Vec<_> = s.claim_next(64).await.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(order, [first, second]);
    assert!(s.claim_next(64).await.claimed.is_empty());
}

async fn granted_twice(s: &Stage) {
    let id = s.ready().await;
    let grant = s.grant(id).await;
    s.advance(500);
    let outcome = s.changes_nothing(s.grant_args(id, 60_000)).await;
    assert_eq!(outcome, Outcome::IssueClaimGrant(IssueClaimGrantResult::Granted(grant.clone())));
    let mut other = s.grant_args(id, 10_000);
    other.worker_instance_id = another_instance();
    let refusal = s.refused_with(Code::GrantAlreadyExists, other.clone()).await;
    assert_eq!(refusal.details(), &Details::GrantAlreadyExists { expires_at: grant.expires_at });
    // A lapsed grant is replaced, swept or not.
    s.set(grant.expires_at);
    match s.backend.issue_claim_grant(other).await {
        Ok(IssueClaimGrantResult::Granted(new)) => {
            assert_eq!(new.worker_instance_id, another_instance());
            assert_eq!(new.expires_at, s.now().after(10_000));
        }
        Err(e) => panic!("issue_claim_grant: {e}"),
    }
}

async fn epochs(s: &Stage) {
    let id = s.ready_with(retries(5, 0)).await;
    let epoch = async || s.describe(id).await.lease_epoch;
    assert_eq!(epoch().await, LeaseEpoch(0));
    s.grant(id).await;
    assert_eq!(epoch().await, LeaseEpoch(0));
    let claimed = s.claim_by_id(id).await;
    assert_eq!((claimed.fence.lease_epoch, epoch().await), (LeaseEpoch(1), LeaseEpoch(1)));
    s.renew(id, claimed.fence, LEASE_MS).await;
    s.delay(id, claimed.fence, When::At(s.now())).await;
    assert_eq!(epoch().await, LeaseEpoch(1));
    let resumed = s.claim_resumed(id).await.claimed;
    assert_eq!((resumed.fence.lease_epoch, epoch().await), (LeaseEpoch(2), LeaseEpoch(2)));
    s.lose(id, resumed.fence).await;
    assert_eq!(epoch().await, LeaseEpoch(2));
    let reclaimed = s.reclaim(id).await;
    assert_eq!((reclaimed.fence.lease_epoch, epoch().await), (LeaseEpoch(3), LeaseEpoch(3)));
    s.revoke(id, reclaimed.fence).await;
    assert_eq!(epoch().await, LeaseEpoch(3));
    let again = s.reclaim(id).await;
    assert_eq!(again.fence.lease_epoch, LeaseEpoch(4));
    s.fail_and_retry(id, again.fence).await;
    s.block(id, BlockReason::PausedByOperator).await;
    s.unblock(id, BlockReason::PausedByOperator).await;
    s.cancel(id).await;
    s.replay(id, 0).await;
    assert_eq!(epoch().await, LeaseEpoch(4));
    let replayed = s.claim_by_id(id).await;
    assert_eq!((replayed.fence.lease_epoch, epoch().await), (LeaseEpoch(5), LeaseEpoch(5)));
    s.complete(id, replayed.fence).await;
    assert_eq!(epoch().await, LeaseEpoch(5));
}

async fn other_instance(s: &Stage) {
    let id = s.ready().await;
    s.refused_with(Code::InvalidClaimGrant, s.claim_by_id_args(id)).await;
    s.grant(id).await;
    let mut claim = s.claim_by_id_args(id);
    claim.worker_instance_id = another_instance();
    s.refused_with(Code::InvalidClaimGrant, claim).await;
    s.call(s.claim_by_id_args(id)).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn claimed_twice(s: &Stage) {
    let id = s.ready_with(retries(3, 0)).await;
    s.grant(id).await;
    let args = s.claim_by_id_args(id);
    let first = s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    s.advance(LEASE_MS - 1);
    assert_eq!(s.changes_nothing(args.clone()).await, first);
    let mut other = args.clone();
    other.worker_instance_id = another_instance();
    s.refused_with(Code::LeaseIdInUse, other).await;
    let mut other = args.clone();
    other.attempt_id = s.claim_by_id_args(id).attempt_id;
    s.refused_with(Code::LeaseIdInUse, other).await;
    // The kind of claim is part of the repeat.
    let mut resumed = s.claim_resumed_args(id);
    resumed.lease_id = args.lease_id;
    s.refused_with(Code::LeaseIdInUse, resumed).await;
    // Once the lease has run out the same call is no repeat; the lease still stands in the index until it is marked.
    s.advance(1);
    s.refused_with(Code::LeaseIdInUse, args).await;
}

async fn cancelled_flow(s: &Stage) {
    // One call ends 64 members, by id; the last two are left to the backlog.
    let flow_id = s.flow().await;
    let mut members = Vec::new();
    for number in 1..=66 {
        let mut args = s.creation();
        args.execution_id = numbered(number);
        args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
        members.push(s.create(args).await);
    }
    let [.., granted, queued] = members.as_slice() else { panic!("no members") };
    s.grant(*granted).await;
    let cancel = CancelFlowArgs::builder().flow_id(flow_id).reason("enough").by("ops").build();
    match s.backend.cancel_flow(cancel).await {
        Ok(CancelFlowResult::CancellationScheduled { cancelled, nonterminal, .. }) => {
            assert_eq!((cancelled, nonterminal), (64, 2));
        }
        other => panic!("cancel_flow: {other:?}"),
    }
    for id in [*granted, *queued] {
        assert_eq!(s.state(id).await, StateName::Ready);
        for operation in [Operation::from(s.claim_by_id_args(id)), Operation::from(s.grant_args(id, 1_000))] {
            let refusal = s.refused_with(Code::ExecutionNotEligible, operation).await;
            assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::FlowCancelled);
        }
    }
}

async fn still_paused(s: &Stage) {
    let refused = async |id: ExecutionId, name: StateName, cause: NotEligibleCause| {
        let vector = s.vector(id).await;
        assert_eq!((vector.name(), vector.attempt_state), (Some(name), AttemptState::AttemptInterrupted));
        for operation in [Operation::from(s.claim_resumed_args(id)), Operation::from(s.grant_args(id, 1_000))] {
            let refusal = s.refused_with(Code::ExecutionNotEligible, operation).await;
            assert_eq!(not_eligible_cause(&refusal), cause);
        }
    };
    let (delayed, fence) = s.running().await;
    s.delay(delayed, fence, When::After(600_000)).await;
    refused(delayed, StateName::Delayed, NotEligibleCause::Delayed).await;

    let (blocked, fence) = s.running().await;
    s.delay(blocked, fence, When::At(s.now())).await;
    s.block(blocked, BlockReason::PausedByPolicy).await;
    refused(blocked, StateName::Blocked, NotEligibleCause::Blocked).await;

    let (_, (up, up_fence), (deps, fence)) = s.running_pair().await;
    match s.wait_for_children(deps, fence).await {
        MoveToWaitingChildrenResult::Moved { unresolved_count, impossible_count, .. } => {
            assert_eq!((unresolved_count, impossible_count), (1, 0));
        }
        other @ MoveToWaitingChildrenResult::AlreadySatisfied { .. } => panic!("{other:?}"),
    }
    refused(deps, StateName::Deps, NotEligibleCause::Dependencies).await;
    s.complete(up, up_fence).await;
    let resumed = s.claim_resumed(deps).await;
    assert_eq!(resumed.cause, ResumeCause::ChildrenDone { satisfied_count: 1, impossible_count: 0 });
    assert_eq!(resumed.claimed.attempt_id, fence.attempt_id);
}

async fn at_the_cap(s: &Stage) {
    let mut policy = requires(["gpu"]);
    policy.max_reclaims = 0;
    let id = s.ready_with(policy).await;
    let mut claim = s.claim_args(1);
    claim.capabilities = Capabilities::from(["gpu"]);
    let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}")).claimed;
    assert_eq!(claimed.len(), 1);
    s.advance(LEASE_MS);
    let refusal = s.refused_with(Code::CapabilityMismatch, s.reclaim_grant_args(id)).await;
    assert_eq!(refusal.details(), &Details::CapabilityMismatch { missing: vec!["gpu".to_owned()] });
    assert_eq!(s.state(id).await, StateName::Running);
    let mut capable = s.reclaim_grant_args(id);
    capable.capabilities = Capabilities::from(["gpu", "ssd"]);
    match s.backend.issue_reclaim_grant(capable.clone()).await {
        Ok(IssueReclaimGrantResult::Ended { summary }) => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Failed, true));
        }
        other => panic!("issue_reclaim_grant: {other:?}"),
    }
    let x = s.describe(id).await;
    assert_eq!((x.end_cause, x.reclaim_count), (Some(EndCause::MaxReclaimsExceeded), 0));
    assert_eq!(x.grant, None);
    let refusal = s.refused_with(Code::ExecutionNotReclaimable, capable).await;
    assert_eq!(not_reclaimable_cause(&refusal), NotReclaimableCause::NotLost);
}

async fn live_lease(s: &Stage) {
    let (id, _) = s.running().await;
    s.advance(LEASE_MS - 1);
    for operation in [Operation::from(s.reclaim_grant_args(id)), Operation::from(s.reclaim_args(id))] {
        let refusal = s.refused_with(Code::ExecutionNotReclaimable, operation).await;
        assert_eq!(not_reclaimable_cause(&refusal), NotReclaimableCause::NotLost);
    }
    // A lease that has run out must be marked before it is reclaimed: the grant does that.
    s.advance(1);
    s.refused_with(Code::ExecutionNotReclaimable, s.reclaim_args(id)).await;
    s.reclaim(id).await;
}

async fn full_timeout(s: &Stage) {
    let (id, fence) = s.running_with(attempt_timeout(40_000)).await;
    let dead_at = s.now().after(40_000);
    s.lose(id, fence).await;
    let claimed = s.reclaim(id).await;
    assert_eq!((claimed.attempt_type, claimed.attempt_index), (AttemptType::Reclaim, AttemptIndex(1)));
    assert_eq!(claimed.attempt_deadline_at, Some(s.now().after(40_000)));
    assert_eq!(claimed.reclaim_count, 1);
    s.set(dead_at);
    assert_eq!(s.sweep().await.total(), 0);
    let timer = ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(0) };
    match s.changes_nothing(ExpireExecutionArgs { execution_id: id, timer }).await {
        Outcome::ExpireExecution(ExpireExecutionResult::NotDue { cause, .. }) => assert_eq!(cause, NotDueCause::Stale),
        other => panic!("{other:?}"),
    }
    s.complete(id, claimed.fence).await;
}
