//! `claim_next`.

use std::cmp::Reverse;
use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, DataName, EdgeId, ExecutionId, LaneId, LeaseEpoch, QuotaPolicyId, WorkerInstanceId};
use ff_core::operation::Outcome;
use ff_core::policy::{Capabilities, ExecutionPolicy};
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, BlockReason, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::harness::Damage;
use crate::stage::{LEASE_MS, Stage, deadline, lane, numbered, requires, retries, slot};

cases! { "claim";
    "claim_next: it returns what a filter and sort over all records returns, over new, resumed and reclaimed." => filter_and_sort,
    "claim_next: equal priorities go by created_at whatever the ids say, then by execution id, also for retried and reclaimed executions." => by_age,
    "claim_next: a thousand heads that the worker cannot run do not hide one that it can." => thousand_heads,
    "claim_next: its repeat returns the same leases and takes nothing new although more is ready." => claimed_twice,
    "claim_next: 0 and 65 slots are invalid_input, one foreign lease_id refuses the whole call." => slots,
    "claim_next: it takes due delays, lapsed grants and lapsed leases without any sweep by others." => own_sweep,
    "claim_next: an admission-controlled execution is listed, never taken, and taken by grant and claim." => admission,
    "claim_next: a head whose deadline has passed is expired, a covered one cancelled, and the slot goes to the next; such a head of an admission-controlled queue is ended too and not listed." => dead_heads,
    "claim_next: behind the 64th head that it ends, candidates for admission are still listed." => behind_dead_heads,
    "claim_next: with members of 64 inputs each it takes four and leaves the fifth ready." => many_inputs,
    "claim_next: next_due_at is the earliest remaining timer and none in an empty partition." => next_due,
    ; damage:
    "claim_next: a head that cannot be decoded hides nobody behind it." => unreadable_head [Unreadable, Readable],
}

fn ids(result: &ClaimNextResult) -> Vec<ExecutionId> {
    result.claimed.iter().map(|claim| claim.claimed().execution_id).collect()
}

async fn claim(s: &Stage, args: ClaimNextArgs) -> ClaimNextResult {
    s.backend.claim_next(args).await.unwrap_or_else(|e| panic!("claim_next: {e}"))
}

/// A policy that a quota policy must admit.
fn admitted() -> ExecutionPolicy {
    let quota = QuotaPolicyId::new("q").unwrap_or_else(|e| panic!("{e}"));
    ExecutionPolicy::builder().quota_policy_id(quota).build()
}

/// What the contract says the worker is to be given: the filter and the sort, over everything there is.
async fn expected(s: &Stage, all: &[ExecutionId], capabilities: &Capabilities) -> Vec<(ExecutionId, ClaimKind)> {
    let mut waiting = Vec::new();
    for id in all {
        let x = s.describe(*id).await;
        let kind = match (x.summary.state_vector.name(), x.summary.state_vector.attempt_state) {
            (Some(StateName::Ready), AttemptState::AttemptInterrupted) => ClaimKind::Resumed,
            (Some(StateName::Ready), _) => ClaimKind::New,
            (Some(StateName::Lost | StateName::Revoked), _) => ClaimKind::Reclaimed,
            _ => continue,
        };
        let free = x.grant.is_none() && x.blocks.is_empty() && x.not_before.is_none();
        let ordinary = x.policy.budget_ids.is_empty() && x.policy.quota_policy_id.is_none();
        if free && ordinary && x.lane_id == lane() && capabilities.covers(&x.policy.required_capabilities) {
            waiting.push((Reverse(x.priority), x.created_at, *id, kind));
        }
    }
    waiting.sort_by_key(|(priority, created_at, id, _)| (*priority, *created_at, *id));
    waiting.into_iter().map(|(_, _, id, kind)| (id, kind)).collect()
}

async fn filter_and_sort(s: &Stage) {
    let capabilities = Capabilities::from(["cpu", "gpu"]);
    let mut all = Vec::new();
    let mut owned = Vec::new();
    // Twelve that were claimed once, in four fates, three of each.
    for n in 0..12_u64 {
        let mut args = s.creation_with(retries(3, 0));
        args.priority = [0, 5, -5][usize::try_from(n / 4).unwrap_or(0)];
        all.push(s.create(args).await);
        s.advance(n % 2);
    }
    for taken in s.claim_next(64).await.claimed {
        owned.push((taken.claimed().execution_id, taken.claimed().fence));
    }
    owned.sort_by_key(|(id, _)| all.iter().position(|x| x == id));
    for (n, (id, fence)) in owned.iter().enumerate() {
        match n % 4 {
            0 => drop(s.delay(*id, *fence, When::At(s.now())).await),
            1 => drop(s.revoke(*id, *fence).await),
            2 => drop(s.fail_and_retry(*id, *fence).await),
            _ => {} // to be lost
        }
    }
    s.advance(LEASE_MS);
    for (n, (id, fence)) in owned.iter().enumerate() {
        if n % 4 == 3 {
            assert!(matches!(s.mark_expired(*id, *fence).await, MarkLeaseExpiredResult::Lost { .. }));
        }
    }
    // Twenty that never were, in every way of not being handed out and some of being.
    for n in 0..20_i32 {
        let policy = match n % 5 {
            0 => ExecutionPolicy::default(),
            1 => requires(["gpu"]),
            2 => requires(["tpu"]),
            3 => requires(["cpu", "gpu"]),
            _ => admitted(),
        };
        let mut args = s.creation_with(policy);
        args.priority = [0, 5, -5, 7][usize::try_from(n % 4).unwrap_or(0)];
        args.delay = (n == 3).then_some(When::After(1_000_000));
        if n == 5 {
            args.lane_id = LaneId::new("other").unwrap_or_else(|e| panic!("{e}"));
        }
        all.push(s.create(args).await);
        if n % 3 == 0 {
            s.advance(1);
        }
    }
    s.block(all[22], BlockReason::PausedByOperator).await;
    s.grant(all[27]).await;
    s.block(all[3], BlockReason::PausedByOperator).await;
    s.delay_as_operator(all[1], When::After(1_000_000)).await;

    let wanted = expected(s, &all, &capabilities).await;
    for kind in [ClaimKind::New, ClaimKind::Resumed, ClaimKind::Reclaimed] {
        assert!(wanted.iter().any(|(_, k)| *k == kind), "the case lacks a {kind} one");
    }
    let mut got = Vec::new();
    for slots in [1, 5, 64] {
        let mut args = s.claim_args(slots);
        args.capabilities = capabilities.clone();
        let result = claim(s, args).await;
        let kinds = result.claimed.iter().map(|c| (c.claimed().execution_id, c.claim_kind()));
        got.extend(kinds);
        assert_eq!(usize::try_from(result.ready_remaining).unwrap_or(0), wanted.len() - got.len());
    }
    assert_eq!(got, wanted);
}

async fn by_age(s: &Stage) {
    let create = async |number: u128| {
        let mut args = s.creation_with(retries(3, 0));
        args.execution_id = numbered(number);
        s.create(args).await
    };
    let oldest = create(90).await;
    s.advance(1);
    let lost = create(80).await;
    s.advance(1);
    let low = create(3).await;
    let lower = create(2).await;
    s.advance(1);
    let youngest = create(1).await;
    assert_eq!(ids(&s.claim_next(3).await), [oldest, lost, lower]);
    let fence = |attempts: &[AttemptSummary]| {
        let a = attempts.last().unwrap_or_else(|| panic!("no attempt"));
        Fence { lease_id: a.lease_id, lease_epoch: a.lease_epoch, attempt_id: a.attempt_id }
    };
    let failed = fence(&s.attempts(oldest).await);
    s.fail_and_retry(oldest, failed).await;
    let failed = fence(&s.attempts(lower).await);
    s.fail_and_retry(lower, failed).await;
    let gone = fence(&s.attempts(lost).await);
    s.lose(lost, gone).await;
    create(0).await;
    assert_eq!(ids(&s.claim_next(5).await), [oldest, lost, lower, low, youngest]);
}

async fn thousand_heads(s: &Stage) {
    for n in 0..1_000 {
        let mut args = s.creation_with(requires([format!("model-{}", n % 200)]));
        args.priority = 10;
        s.create(args).await;
    }
    let mut args = s.creation_with(requires(["gpu"]));
    args.priority = -10;
    let id = s.create(args).await;
    let mut args = s.claim_args(1);
    args.capabilities = Capabilities::from(["gpu", "model-x"]);
    let result = claim(s, args).await;
    assert_eq!((ids(&result), result.ready_remaining), (vec![id], 0));
}

async fn unreadable_head(s: &Stage) {
    let head = s.ready().await;
    s.advance(1);
    let next = s.ready().await;
    s.damage(Damage::Unreadable(head)).await;
    assert_eq!(ids(&s.claim_next(1).await), [next]);
    assert_eq!(s.claim_next(1).await.ready_remaining, 0, "it has left its queue");
    s.damage(Damage::Readable(head)).await;
    assert!(s.claim_next(1).await.claimed.is_empty());
    s.rebuild().await;
    s.claim_this(head).await;
}

async fn claimed_twice(s: &Stage) {
    let first = s.ready().await;
    let args = s.claim_args(2);
    let taken = claim(s, args.clone()).await;
    assert_eq!(ids(&taken), [first]);
    s.ready().await;
    s.ready_with(admitted()).await;
    s.advance(LEASE_MS - 1);
    match s.changes_nothing(args.clone()).await {
        Outcome::ClaimNext(again) => {
            assert_eq!(again.claimed, taken.claimed);
            assert!(again.needs_admission.is_empty());
            assert_eq!(again.ready_remaining, 1);
        }
        other => panic!("{other:?}"),
    }
    // In slot order, whichever slots they were: the second slot's claim alone is a repeat too.
    let mut second = args;
    second.slots = vec![slot(), second.slots[0]];
    match s.changes_nothing(second).await {
        Outcome::ClaimNext(again) => assert_eq!(again.claimed, taken.claimed),
        other => panic!("{other:?}"),
    }
}

async fn slots(s: &Stage) {
    let due = s.delayed(100).await;
    let (owned, fence) = s.running().await;
    s.advance(100);
    for n in [0, 65] {
        let refusal = s.refused_with(Code::InvalidInput, s.claim_args(n)).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "slots".to_owned() });
    }
    let mut foreign = s.claim_args(3);
    foreign.worker_instance_id = WorkerInstanceId::new("worker-2").unwrap_or_else(|e| panic!("{e}"));
    foreign.slots[1].lease_id = fence.lease_id;
    s.refused_with(Code::LeaseIdInUse, foreign).await;
    assert_eq!(s.state(due).await, StateName::Delayed, "nothing is swept then");
    assert_eq!(s.state(owned).await, StateName::Running);
    assert_eq!(ids(&s.claim_next(64).await), [due]);
}

async fn own_sweep(s: &Stage) {
    let (lost, _) = s.running().await;
    s.advance(1);
    let delayed = s.delayed(LEASE_MS - 1).await;
    s.advance(1);
    let granted = s.ready().await;
    s.grant(granted).await;
    s.advance(1);
    let blocked = s.ready().await;
    s.block(blocked, BlockReason::WaitingForQuota).await;
    s.advance(60_000);
    let result = s.claim_next(10).await;
    assert_eq!(ids(&result), [lost, delayed, granted, blocked]);
    let kinds: Vec<_> = result.claimed.iter().map(NextClaim::claim_kind).collect();
    assert_eq!(kinds, [ClaimKind::Reclaimed, ClaimKind::New, ClaimKind::New, ClaimKind::New]);
}

async fn admission(s: &Stage) {
    let mut args = s.creation_with(admitted());
    args.priority = 9;
    let new = s.create(args).await;
    s.advance(1);
    let plain = s.ready().await;
    let mut incapable = admitted();
    incapable.required_capabilities = Capabilities::from(["gpu"]);
    s.ready_with(incapable).await;

    let result = s.claim_next(10).await;
    assert_eq!((ids(&result), result.ready_remaining), (vec![plain], 0));
    let [listed] = result.needs_admission.as_slice() else { panic!("{:?}", result.needs_admission) };
    assert_eq!((listed.execution_id, listed.claim_kind, listed.priority), (new, ClaimKind::New, 9));
    assert_eq!((listed.attempt_index, listed.lease_epoch), (AttemptIndex(0), LeaseEpoch(1)));
    assert!(listed.budget_ids.is_empty());
    assert_eq!(listed.quota_policy_id.as_ref().map(QuotaPolicyId::as_str), Some("q"));
    assert_eq!(s.state(new).await, StateName::Ready);

    let claimed = s.claim_by_id(new).await;
    assert_eq!((claimed.attempt_index, claimed.fence.lease_epoch), (AttemptIndex(0), LeaseEpoch(1)));
    assert!(s.claim_next(10).await.needs_admission.is_empty());
    s.lose(new, claimed.fence).await;
    let result = s.claim_next(10).await;
    let listed = result.needs_admission.iter().find(|c| c.execution_id == new);
    let listed = listed.unwrap_or_else(|| panic!("a lost one is listed too"));
    assert_eq!(listed.claim_kind, ClaimKind::Reclaimed);
    assert_eq!((listed.attempt_index, listed.lease_epoch), (AttemptIndex(1), LeaseEpoch(2)));
    let reclaimed = s.reclaim(new).await;
    assert_eq!((reclaimed.attempt_index, reclaimed.fence.lease_epoch), (AttemptIndex(1), LeaseEpoch(2)));

    // At most 16, the best ones.
    let mut many = Vec::new();
    for priority in 0..20 {
        let mut args = s.creation_with(admitted());
        args.priority = priority;
        many.push(s.create(args).await);
    }
    many.reverse();
    let listed: Vec<_> = s.claim_next(1).await.needs_admission.iter().map(|c| c.execution_id).collect();
    assert_eq!(listed, many[..16]);
}

async fn dead_heads(s: &Stage) {
    // More than the call's own sweep ends: it takes 64 timers, by due time and id, and then no step of the backlog. So
    // 65 to 70 of those whose deadline passes, and 65 to 70 of the cancelled flow's members, are met as heads.
    let flow_id = s.flow().await;
    let (mut late, mut covered) = (Vec::new(), Vec::new());
    for number in 1..=70 {
        let controlled = if number > 68 { admitted() } else { ExecutionPolicy::default() };
        let mut args = s.creation_with(controlled);
        args.execution_id = numbered(number);
        args.priority = 5;
        Arc::make_mut(&mut args.policy).timeouts.deadline = Some(When::After(100));
        late.push(s.create(args.clone()).await);
        args.execution_id = numbered(1_000 + number);
        Arc::make_mut(&mut args.policy).timeouts.deadline = None;
        args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
        covered.push(s.create(args).await);
    }
    let next = s.ready().await;
    let listed = s.ready_with(admitted()).await;
    s.advance(100);
    let cancel = CancelFlowArgs::builder().flow_id(flow_id).reason("enough").by("ops").build();
    s.backend.cancel_flow(cancel).await.unwrap_or_else(|e| panic!("cancel_flow: {e}"));
    assert_eq!(s.state(late[69]).await, StateName::Ready);
    assert_eq!(s.state(covered[69]).await, StateName::Ready);

    let result = s.claim_next(1).await;
    assert_eq!((ids(&result), result.ready_remaining), (vec![next], 0));
    let waiting: Vec<_> = result.needs_admission.iter().map(|c| c.execution_id).collect();
    assert_eq!(waiting, [listed]);
    for id in late {
        let x = s.describe(id).await;
        assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Expired, false));
        assert_eq!(x.end_cause, Some(EndCause::DeadlinePassed));
    }
    for id in covered {
        let x = s.describe(id).await;
        assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, false));
        assert_eq!((x.end_cause, x.cancel_reason.as_deref()), (Some(EndCause::FlowCancelled), Some("enough")));
        assert_eq!(x.ended_by, Some(EndedBy::Operator { identity: "ops".to_owned() }));
    }
}

async fn behind_dead_heads(s: &Stage) {
    // 64 deadlines fire in the call's own sweep, 64 are met as heads of the admission-controlled queue.
    let mut last = None;
    for _ in 0..128 {
        let mut args = s.creation_with(admitted());
        Arc::make_mut(&mut args.policy).timeouts.deadline = Some(When::After(100));
        last = Some(s.create(args).await);
    }
    let mut listed = Vec::new();
    for _ in 0..3 {
        listed.push(s.ready_with(admitted()).await);
    }
    s.advance(100);
    let result = s.claim_next(1).await;
    assert_eq!(result.needs_admission.iter().map(|c| c.execution_id).collect::<Vec<_>>(), listed);
    let last = last.unwrap_or_else(|| panic!("128 were created"));
    assert_eq!(s.state(last).await, StateName::Done);
}

async fn many_inputs(s: &Stage) {
    let flow_id = s.flow().await;
    let mut upstreams = Vec::new();
    for _ in 0..64 {
        let up = s.member(flow_id, &[]).await;
        s.complete_as_operator(up).await;
        upstreams.push(up);
    }
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut args = s.creation();
        let edges = upstreams.iter().enumerate().map(|(n, up)| IncomingEdge {
            data_passing_ref: Some(DataName::new(format!("in-{n}")).unwrap_or_else(|e| panic!("{e}"))),
            ..IncomingEdge::new(EdgeId::new(), *up)
        });
        args.flow = Some(FlowJoin { flow_id, hold: false, edges: edges.collect() });
        members.push(s.create(args).await);
        s.advance(1);
    }
    let result = s.claim_next(10).await;
    assert_eq!((ids(&result), result.ready_remaining), (members[..4].to_vec(), 1));
    for taken in &result.claimed {
        let names: Vec<_> = taken.claimed().inputs.iter().map(|input| input.name.to_string()).collect();
        assert_eq!(names, (0..64).map(|n| format!("in-{n}")).collect::<Vec<_>>());
    }
    assert_eq!(s.state(members[4]).await, StateName::Ready);
    s.claim_this(members[4]).await;
}

async fn next_due(s: &Stage) {
    assert_eq!(s.claim_next(1).await, ClaimNextResult::default());
    let start = s.now();
    s.ready_with(deadline(When::After(1_000_000))).await;
    let result = s.claim_next(1).await;
    assert_eq!(result.next_due_at, Some(start.after(LEASE_MS)), "the new lease's own timer counts");
    s.delayed(500).await;
    assert_eq!(s.claim_next(1).await.next_due_at, Some(start.after(500)));
    let (id, fence) = (ids(&result)[0], result.claimed[0].claimed().fence);
    s.complete(id, fence).await;
    s.advance(500);
    let result = s.claim_next(1).await;
    assert_eq!(result.claimed.len(), 1);
    assert_eq!(result.next_due_at, Some(s.now().after(LEASE_MS)));
    s.complete(ids(&result)[0], result.claimed[0].claimed().fence).await;
    assert_eq!(s.claim_next(1).await.next_due_at, Some(start.after(86_400_000)), "a retention is a timer too");
}
