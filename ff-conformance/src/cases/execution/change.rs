//! Changes that move no attempt: priority, progress, tags, blocks.

use std::collections::BTreeMap;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LeaseId};
use ff_core::operation::{OpName, Operation};
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, BlockReason, NotBeforeKind, StateVector};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, not_eligible_cause, retries};

cases! { "execution";
    "change_priority: i32::MIN and i32::MAX order correctly, and a delayed execution keeps its new priority when it becomes ready." => extremes,
    "update_progress: absent pct keeps 80, pct 101 is invalid_input, a new attempt starts empty." => progress,
    "update_progress: another lease, epoch or attempt id is stale_lease and a due lease lease_expired, and so in every other call that acts as the owner." => fenced,
    "set_execution_tags: one bad key among three changes none." => bad_tag,
    "unblock_execution: an operator's hold survives the unblocking of a budget." => hold_survives,
    "block_execution: block then unblock of a DELAYED or DEPS execution leaves it delayed or dependent." => block_and_unblock,
    "block_execution: a quota block without until becomes claimable again by itself after 60 seconds." => quota_block,
    "block_execution: it voids a live grant and the holder's claim changes nothing." => block_voids_grant,
    "block_execution: a blocked LOST execution is in no queue, and unblocking returns it to its old place." => blocked_lost,
}

async fn extremes(s: &Stage) {
    let prioritise = async |id: ExecutionId, old: i32, new: i32| {
        let args = ChangePriorityArgs { execution_id: id, priority: new };
        match s.backend.change_priority(args).await {
            Ok(ChangePriorityResult::Changed { old: was, new: is, .. }) => assert_eq!((was, is), (old, new)),
            Err(e) => panic!("change_priority: {e}"),
        }
    };
    let lowest = s.ready().await;
    prioritise(lowest, 0, i32::MIN).await;
    let plain = s.ready().await;
    let below = s.ready().await;
    prioritise(below, 0, i32::MIN + 1).await;
    let highest = s.ready().await;
    prioritise(highest, 0, i32::MAX).await;
    let negative = s.ready().await;
    prioritise(negative, 0, -1).await;
    let delayed = s.delayed(100).await;
    prioritise(delayed, 0, i32::MAX - 1).await;
    prioritise(delayed, i32::MAX - 1, i32::MAX - 1).await;
    s.advance(100);
    let order: Vec<_> = s.claim_next(10).await.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(order, [highest, delayed, plain, negative, below, lowest]);
}

async fn progress(s: &Stage) {
    let (id, fence) = s.running_with(retries(1, 0)).await;
    let update = |pct: Option<u8>, message: Option<&str>| {
        UpdateProgressArgs::builder().execution_id(id).fence(fence).maybe_pct(pct).maybe_message(message).build()
    };
    let shown = async || {
        let progress = s.describe(id).await.progress.unwrap_or_else(|| panic!("no progress"));
        (progress.pct, progress.message, progress.updated_at)
    };
    s.call(update(Some(80), None)).await.unwrap_or_else(|e| panic!("{e}"));
    s.advance(5);
    s.call(update(None, Some("nearly"))).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(shown().await, (Some(80), Some("nearly".to_owned()), s.now()));
    for args in [update(Some(101), None), update(None, None)] {
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "pct".to_owned() });
    }
    s.call(update(Some(0), None)).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(shown().await, (Some(0), Some("nearly".to_owned()), s.now()));
    s.fail_and_retry(id, fence).await;
    s.claim_this(id).await;
    assert_eq!(s.describe(id).await.progress, None);
}

/// Every call that acts as the owner of an execution. `close_waitpoint` asks for the waitpoint first, and `append_frame` has
/// a case of its own.
fn fenced_calls(s: &Stage, execution_id: ExecutionId, fence: Fence) -> Vec<Operation> {
    let actor = Actor::Worker(fence);
    vec![
        UpdateProgressArgs::builder().execution_id(execution_id).fence(fence).pct(1).build().into(),
        CompleteExecutionArgs::builder().execution_id(execution_id).actor(actor.clone()).build().into(),
        FailExecutionArgs::builder()
            .execution_id(execution_id)
            .actor(actor.clone())
            .reason("broke")
            .category("error")
            .build()
            .into(),
        CancelExecutionArgs { execution_id, actor: actor.clone(), reason: "enough".to_owned() }.into(),
        DelayExecutionArgs { execution_id, actor, until: When::After(5) }.into(),
        MoveToWaitingChildrenArgs { execution_id, fence }.into(),
        RenewLeaseArgs { execution_id, fence, lease_ttl_ms: LEASE_MS }.into(),
        s.any_signal(execution_id, fence).into(),
        s.pending_args(execution_id, fence).into(),
    ]
}

async fn fenced(s: &Stage) {
    let (id, first) = s.running_with(retries(1, 0)).await;
    s.fail_and_retry(id, first).await;
    let own = s.claim_this(id).await.fence;
    for wrong in [
        first,
        Fence { lease_epoch: first.lease_epoch, ..own },
        Fence { lease_id: LeaseId::new(), ..own },
        Fence { attempt_id: first.attempt_id, ..own },
    ] {
        for call in fenced_calls(s, id, wrong) {
            // The call that ended this very fence gets its first answer; that one is not made again here.
            if wrong == first && call.name() == OpName::FailExecution {
                continue;
            }
            s.refused_with(Code::StaleLease, call).await;
        }
    }
    s.advance(LEASE_MS);
    for call in fenced_calls(s, id, own) {
        s.refused_with(Code::LeaseExpired, call).await;
    }
}

async fn bad_tag(s: &Stage) {
    let mut args = s.creation();
    args.tags = BTreeMap::from([("team.name".to_owned(), "search".to_owned())]);
    let id = s.create(args).await;
    let change = |bad: &str, value: Option<&str>| SetExecutionTagsArgs {
        execution_id: id,
        tags: BTreeMap::from([
            ("a.one".to_owned(), Some("1".to_owned())),
            (bad.to_owned(), value.map(str::to_owned)),
            ("team.name".to_owned(), None),
        ]),
    };
    for bad in ["noperiod", "Upper.case", "b."] {
        for value in [Some("x"), None] {
            let refusal = s.refused_with(Code::InvalidTagKey, change(bad, value)).await;
            assert_eq!(refusal.details(), &Details::InvalidTagKey { key: bad.to_owned() });
        }
    }
    match s.backend.set_execution_tags(change("b.two", Some(""))).await {
        Ok(SetExecutionTagsResult::Tagged { count, .. }) => assert_eq!(count, 2),
        Err(e) => panic!("set_execution_tags: {e}"),
    }
    let expected = [("a.one", "1"), ("b.two", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(s.describe(id).await.tags, BTreeMap::from(expected));
}

async fn hold_survives(s: &Stage) {
    let id = s.ready().await;
    s.block(id, BlockReason::WaitingForBudget).await;
    let budget = StateVector::blocked(BlockReason::WaitingForBudget, AttemptState::PendingFirstAttempt);
    let held = StateVector::blocked(BlockReason::PausedByOperator, AttemptState::PendingFirstAttempt);
    assert_eq!(s.vector(id).await, budget);
    assert_eq!(s.block(id, BlockReason::PausedByOperator).await.state_vector, held);
    assert_eq!(s.unblock(id, BlockReason::WaitingForBudget).await.state_vector, held);
    s.advance(86_400_000);
    assert!(s.claim_next(1).await.claimed.is_empty());
    let reasons: Vec<_> = s.describe(id).await.blocks.iter().map(|b| b.reason).collect();
    assert_eq!(reasons, [BlockReason::PausedByOperator]);
    s.unblock(id, BlockReason::PausedByOperator).await;
    s.claim_this(id).await;
}

async fn block_and_unblock(s: &Stage) {
    let delayed = s.delayed(1_000).await;
    let (_, deps) = s.deps().await;
    let a = AttemptState::PendingFirstAttempt;
    for (id, vector) in [(delayed, StateVector::delayed(NotBeforeKind::Delay, a)), (deps, StateVector::deps(a))] {
        assert_eq!(s.vector(id).await, vector);
        for reason in BlockReason::ALL.iter().copied() {
            assert_eq!(s.block(id, reason).await.state_vector, vector, "{reason} blocks before its turn");
            assert_eq!(s.unblock(id, reason).await.state_vector, vector);
        }
        assert!(s.describe(id).await.blocks.is_empty());
    }
    s.block(delayed, BlockReason::PausedByPolicy).await;
    s.advance(1_000);
    s.sweep().await;
    assert_eq!(s.vector(delayed).await, StateVector::blocked(BlockReason::PausedByPolicy, a));
    s.unblock(delayed, BlockReason::PausedByPolicy).await;
    s.claim_this(delayed).await;
}

async fn quota_block(s: &Stage) {
    let id = s.ready().await;
    s.block(id, BlockReason::WaitingForQuota).await;
    assert_eq!(s.describe(id).await.blocks[0].until, Some(s.now().after(60_000)));
    s.advance(59_999);
    assert!(s.claim_next(1).await.claimed.is_empty());
    s.advance(1);
    s.claim_this(id).await;
    assert!(s.describe(id).await.blocks.is_empty());
}

async fn block_voids_grant(s: &Stage) {
    let id = s.ready().await;
    s.grant(id).await;
    s.block(id, BlockReason::PausedByOperator).await;
    assert_eq!(s.describe(id).await.grant, None);
    let claim = s.claim_by_id_args(id);
    let refusal = s.refused_with(Code::ExecutionNotEligible, claim.clone()).await;
    assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::Blocked);
    s.unblock(id, BlockReason::PausedByOperator).await;
    s.refused_with(Code::InvalidClaimGrant, claim).await;
    s.claim_this(id).await;
}

async fn blocked_lost(s: &Stage) {
    let (old, _) = s.lost().await;
    s.advance(1);
    let young = s.ready().await;
    s.block(old, BlockReason::PausedByOperator).await;
    assert_eq!(s.vector(old).await, StateVector::LOST);
    assert_eq!(s.claim_next(10).await.claimed.len(), 1, "a blocked execution was taken");
    let refusal = s.refused_with(Code::ExecutionNotReclaimable, s.reclaim_grant_args(old)).await;
    assert!(matches!(refusal.details(), Details::ExecutionNotReclaimable { cause: NotReclaimableCause::Blocked, .. }));
    s.cancel(young).await;
    let younger = s.ready().await;
    assert_eq!(s.unblock(old, BlockReason::PausedByOperator).await.state_vector, StateVector::LOST);
    let order: Vec<_> = s.claim_next(10).await.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(order, [old, younger]);
}
