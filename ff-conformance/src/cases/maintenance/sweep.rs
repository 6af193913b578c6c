//! Firing timers.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, FlowId, LaneId};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{BlockReason, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;
use uuid::Uuid;

use crate::cases::cases;
use crate::harness::Damage;
use crate::stage::{
    LEASE_MS, LONG_MS, PARTITION, Stage, attempt_timeout, deadline, default_timeout, kept_for, lane_named, numbered,
    retries,
};

cases! { "maintenance";
    "sweep: with limit 1 it does exactly one thing and more is true until nothing is left." => one_thing,
    "sweep: due timers fire by due time, then kind, then id, as in the README." => order,
    "sweep: 1_000 stuck entries of any kind do not delay the 1_001st beyond the sweeps that the limit implies." => stuck,
    "sweep: a lane never named in any configuration gets its delays, retries and purges." => unheard_lane,
    "sweep: after a run without `more`, a second one at the same instant does nothing." => nothing_left,
    "sweep: next_due_at is the earliest armed timer, and sweeping then fires it." => next_due,
    ; damage:
    "sweep: an undecodable record blocks no other timer and is listed in corrupt." => undecodable [Unreadable, Readable],
}

async fn one_thing(s: &Stage) {
    let start = s.now();
    let delayed = [s.delayed(100).await, s.delayed(100).await];
    let (ended, fence) = s.running_with(kept_for(100)).await;
    s.complete(ended, fence).await;
    // One timer, of which much follows in its own step.
    let flow_id = s.flow().await;
    let mut args = s.creation_with(deadline(When::After(100)));
    args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
    let up = s.create(args).await;
    let mut behind = Vec::new();
    for _ in 0..5 {
        behind.push(s.member(flow_id, &[up]).await);
    }
    // And one that arms another, which is due at once.
    let mut short = s.creation_with(deadline(When::After(100)));
    Arc::make_mut(&mut short.policy).retention_ms = 0;
    let short = s.create(short).await;

    assert_eq!(s.step().await.1, SweepReport { next_due_at: Some(start.after(100)), ..SweepReport::default() });
    s.advance(99);
    assert_eq!(s.step().await.1, SweepReport { next_due_at: Some(start.after(100)), ..SweepReport::default() });
    s.advance(1);
    let due = s.now();
    let mut done = Vec::new();
    loop {
        let (kind, report) = s.step().await;
        done.push(kind.unwrap_or_else(|| panic!("nothing was done: {report:?}")));
        assert_eq!(report.total(), 1);
        assert!(report.corrupt.is_empty());
        if !report.more {
            // What is left is armed for later: the retention of the members is their flow's, which is not closed.
            assert_eq!(report.next_due_at, None);
            break;
        }
        assert_eq!(report.next_due_at, Some(due));
        assert!(done.len() < 20, "it never ends");
        if done.len() == 2 {
            for id in &behind {
                assert_eq!(s.vector(*id).await, StateVector::done(TerminalOutcome::Skipped, false));
            }
        }
    }
    let wanted = [
        SweepKind::Deadline,
        SweepKind::Deadline,
        SweepKind::Delay,
        SweepKind::Delay,
        SweepKind::Retention,
        SweepKind::Retention,
    ];
    assert_eq!(done[..6], wanted);
    // The purges: a step for the one with records, and what the other's empty item takes.
    assert_eq!(done.len(), 8);
    assert!(done[6..].contains(&SweepKind::Backlog), "{done:?}");
    assert!(done[6..].iter().all(|kind| matches!(kind, SweepKind::Backlog | SweepKind::Stale)), "{done:?}");
    for id in delayed {
        assert_eq!(s.state(id).await, StateName::Ready);
    }
    s.gone(ended).await;
    s.gone(short).await;
    assert_eq!(s.step().await.1, SweepReport::default());

    for limit in [0, 1001] {
        let mut args = SweepArgs::builder().partition(PARTITION).build();
        args.limit = limit;
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "limit".to_owned() });
    }
    s.refused_with(Code::InvalidPartition, SweepArgs::builder().partition(16).build()).await;
}

async fn order(s: &Stage) {
    let start = s.now();
    let due = start.after(100_000);
    let aside = lane_named("aside");
    let late = |id| (When::At(due), id);
    // Made against the order in which they fire, wherever the order could follow from anything else.
    let flow_id = FlowId::from_parts(PARTITION, Uuid::from_u128(0));
    let args = CreateFlowArgs::builder().flow_id(flow_id).namespace(crate::stage::namespace()).flow_kind("f").build();
    s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    let mut args = s.creation_with(kept_for(100_000));
    args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
    let member = s.create(args).await;
    s.cancel(member).await;
    s.seal(flow_id).await;
    for number in [62, 61] {
        s.ended(100_000, numbered(number)).await;
    }
    let early = s.ended(99_999, numbered(69)).await;

    // Of a runnable one the gate drops all due blocks at once, and their timers with them; a REVOKED one has no gate.
    let parked = s.create_in(&aside, kept_for(1), numbered(50)).await;
    let owned = s.claim_lane(&aside, LONG_MS).await;
    s.revoke(parked, owned[0].1).await;
    for reason in [BlockReason::WaitingForQuota, BlockReason::WaitingForBudget, BlockReason::PausedByOperator] {
        let (until, execution_id) = late(parked);
        let args =
            BlockExecutionArgs::builder().execution_id(execution_id).reason(reason).until(until).by("ops").build();
        s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    }
    let granted = s.create_in(&aside, kept_for(1), numbered(40)).await;
    let (pending, fence) = s.running_long(kept_for(1)).await;
    for _ in 0..2 {
        s.pending_for(pending, fence, 100_000).await;
    }
    let (asleep, fence) = s.running_long(default_timeout(100_000, TimeoutBehavior::Fail)).await;
    s.suspend_on_any_signal(asleep, fence).await;
    let delayed: Vec<ExecutionId> = [32, 31].map(numbered).into();
    for id in &delayed {
        let mut args = s.creation();
        (args.execution_id, args.lane_id, args.delay) = (*id, aside.clone(), Some(When::At(due)));
        s.create(args).await;
    }
    let overdue = s.create_in(&aside, deadline(When::At(due)), numbered(25)).await;
    let (timed, _) = s.running_long(attempt_timeout(100_000)).await;
    let leased = lane_named("leased");
    for number in [12, 11] {
        s.create_in(&leased, kept_for(1), numbered(number)).await;
        assert_eq!(s.claim_lane(&leased, 100_000).await.len(), 1);
    }
    s.set(start.after(90_000));
    s.grant(granted).await; // ten seconds
    s.set(due);

    let mut fired = Vec::new();
    let mut fire = async |wanted: SweepKind| {
        let (kind, report) = s.step().await;
        assert_eq!(kind, Some(wanted), "after {fired:?}: {report:?}");
        fired.push(wanted);
    };
    fire(SweepKind::Retention).await;
    s.gone(early).await;
    fire(SweepKind::Lease).await;
    assert_eq!((s.state(numbered(11)).await, s.state(numbered(12)).await), (StateName::Lost, StateName::Running));
    fire(SweepKind::Lease).await;
    assert_eq!(s.state(numbered(12)).await, StateName::Lost);
    fire(SweepKind::AttemptTimeout).await;
    assert_eq!(s.vector(timed).await, StateVector::done(TerminalOutcome::Failed, true));
    fire(SweepKind::Deadline).await;
    assert_eq!(s.vector(overdue).await, StateVector::done(TerminalOutcome::Expired, false));
    fire(SweepKind::Delay).await;
    assert_eq!((s.state(delayed[1]).await, s.state(delayed[0]).await), (StateName::Ready, StateName::Delayed));
    fire(SweepKind::Delay).await;
    fire(SweepKind::SuspensionTimeout).await;
    assert_eq!(s.vector(asleep).await, StateVector::done(TerminalOutcome::Failed, true));
    fire(SweepKind::PendingWaitpoint).await;
    fire(SweepKind::PendingWaitpoint).await;
    fire(SweepKind::Grant).await;
    assert_eq!(s.describe(granted).await.grant, None);
    let blocks = async || s.describe(parked).await.blocks.iter().map(|b| b.reason).collect::<Vec<_>>();
    fire(SweepKind::BlockUntil).await;
    assert_eq!(blocks().await, [BlockReason::WaitingForBudget, BlockReason::WaitingForQuota]);
    fire(SweepKind::BlockUntil).await;
    assert_eq!(blocks().await, [BlockReason::WaitingForQuota]);
    fire(SweepKind::BlockUntil).await;
    assert_eq!((s.state(parked).await, blocks().await.len()), (StateName::Revoked, 0));
    fire(SweepKind::Retention).await;
    s.gone(numbered(61)).await;
    s.describe(numbered(62)).await;
    fire(SweepKind::Retention).await;
    s.gone(numbered(62)).await;
    s.describe_flow(flow_id).await;
    fire(SweepKind::Retention).await;
    s.refused_with(Code::FlowNotFound, DescribeFlowArgs { flow_id }).await;
    // The expired one's retention, and the backlog, come after all that was due.
    let (kind, _) = s.step().await;
    assert!(matches!(kind, Some(SweepKind::Backlog | SweepKind::Stale)), "{kind:?}");
}

/// A thousand entries of one kind that are due in 50 s, in a lane of its own.
async fn thousand(s: &Stage, kind: TimerKind, lane_id: &LaneId) {
    const DUE: u64 = 50_000;
    let policy = match kind {
        TimerKind::AttemptTimeout => attempt_timeout(DUE),
        TimerKind::Deadline => deadline(When::After(DUE)),
        TimerKind::SuspensionTimeout => default_timeout(DUE, TimeoutBehavior::Fail),
        TimerKind::Retention => kept_for(DUE),
        _ => kept_for(LONG_MS),
    };
    let mut ids = Vec::new();
    for _ in 0..1_000 {
        let mut args = s.creation_with(policy.clone());
        args.lane_id = lane_id.clone();
        args.delay = (kind == TimerKind::Delay).then_some(When::After(DUE));
        ids.push(s.create(args).await);
    }
    let owned = match kind {
        TimerKind::Lease => s.claim_lane(lane_id, DUE).await,
        TimerKind::AttemptTimeout | TimerKind::SuspensionTimeout | TimerKind::PendingWaitpoint => {
            s.claim_lane(lane_id, LONG_MS).await
        }
        _ => Vec::new(),
    };
    match kind {
        TimerKind::Lease | TimerKind::AttemptTimeout => assert_eq!(owned.len(), 1_000),
        TimerKind::SuspensionTimeout => {
            for (id, fence) in owned {
                s.suspend_on_any_signal(id, fence).await;
            }
        }
        TimerKind::PendingWaitpoint => {
            for (id, fence) in owned {
                s.pending_for(id, fence, DUE).await;
            }
        }
        TimerKind::Grant => {
            for id in ids {
                s.call(s.grant_args(id, DUE)).await.unwrap_or_else(|e| panic!("{e}"));
            }
        }
        TimerKind::BlockUntil => {
            for id in ids {
                s.park(id, BlockReason::WaitingForQuota, Some(DUE)).await;
            }
        }
        TimerKind::Retention => {
            for id in ids {
                s.cancel(id).await;
            }
        }
        TimerKind::Deadline | TimerKind::Delay => {}
    }
}

async fn stuck(s: &Stage) {
    for kind in TimerKind::ALL {
        let start = s.now();
        thousand(s, *kind, &lane_named(kind.as_str())).await;
        let last = s.delayed(50_001).await;
        s.set(start.after(50_001));
        for n in 0..10 {
            let report = s.sweep_once(100).await;
            assert_eq!((report.count(*kind), report.total(), report.more), (100, 100, true), "{kind} {n}");
            assert_eq!(s.state(last).await, StateName::Delayed, "{kind} {n}");
        }
        let report = s.sweep_once(100).await;
        assert_eq!(s.state(last).await, StateName::Ready, "{kind}: {report:?}");
        assert_eq!(report.count(TimerKind::Delay), 1);
        s.sweep().await;
        // They are done with: nobody reclaims, resumes or ends them, and no sweep meets them again.
        assert_eq!(s.sweep_once(100).await.total(), 0, "{kind}");
        s.cancel(last).await;
    }
}

async fn unheard_lane(s: &Stage) {
    let unheard = lane_named("never-heard-of/at.all:1");
    let mut args = s.creation_with(retries(1, 2_000));
    (args.lane_id, args.delay) = (unheard.clone(), Some(When::After(1_000)));
    Arc::make_mut(&mut args.policy).retention_ms = 3_000;
    let id = s.create(args).await;
    s.advance(1_000);
    assert_eq!(s.sweep().await.count(TimerKind::Delay), 1);
    assert_eq!(s.state(id).await, StateName::Ready);
    let owned = s.claim_lane(&unheard, LEASE_MS).await;
    assert_eq!(owned.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
    s.fail_and_retry(id, owned[0].1).await;
    s.advance(2_000);
    assert_eq!(s.sweep().await.count(TimerKind::Delay), 1);
    assert_eq!(s.state(id).await, StateName::Ready);
    let owned = s.claim_lane(&unheard, LEASE_MS).await;
    s.fail_for_good(id, owned[0].1).await;
    s.advance(2_999);
    assert_eq!(s.sweep().await.total(), 0);
    s.advance(1);
    let report = s.sweep().await;
    assert_eq!((report.count(TimerKind::Retention), report.count(SweepKind::Backlog)), (1, 1));
    s.gone(id).await;
    assert!(s.lane_counts(unheard).await.is_empty());
}

async fn nothing_left(s: &Stage) {
    for n in 0..30 {
        s.delayed(100 + n % 3).await;
        s.ready_with(deadline(When::After(100))).await;
        s.ended(100, s.execution_id()).await;
    }
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    for _ in 0..200 {
        s.member(flow_id, &[up]).await;
    }
    s.cancel(up).await;
    let aside = lane_named("aside");
    s.create_in(&aside, kept_for(LONG_MS), s.execution_id()).await;
    assert_eq!(s.claim_lane(&aside, 102).await.len(), 1);
    s.advance(101);
    let first = s.sweep().await;
    assert!(first.count(SweepKind::Backlog) >= 30 && first.count(TimerKind::Delay) == 20, "{first:?}");
    for limit in [1, 100, 1000] {
        let args = SweepArgs::builder().partition(PARTITION).limit(limit).build();
        match s.changes_nothing(args).await {
            Outcome::Sweep(report) => {
                let wanted = SweepReport { next_due_at: Some(s.now().after(1)), ..SweepReport::default() };
                assert_eq!(report, wanted, "limit {limit}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Other partitions have nothing at all.
    let args = SweepArgs::builder().partition(PARTITION + 1).build();
    let report = s.backend.sweep(args).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report, SweepReport::default());
}

async fn next_due(s: &Stage) {
    let start = s.now();
    assert_eq!(s.sweep().await, SweepReport::default());
    s.create_in(&lane_named("aside"), deadline(When::After(60_000)), s.execution_id()).await;
    s.running().await;
    s.delayed(20_000).await;
    let granted = s.create_in(&lane_named("aside"), kept_for(LONG_MS), s.execution_id()).await;
    s.grant(granted).await; // ten seconds
    s.ended(40_000, s.execution_id()).await;
    let blocked = s.create_in(&lane_named("aside"), kept_for(LONG_MS), s.execution_id()).await;
    s.park(blocked, BlockReason::WaitingForBudget, Some(50_000)).await;
    let wanted = [
        (10_000, SweepKind::Grant),
        (20_000, SweepKind::Delay),
        (30_000, SweepKind::Lease),
        (40_000, SweepKind::Retention),
        (50_000, SweepKind::BlockUntil),
        (60_000, SweepKind::Deadline),
    ];
    for (after, kind) in wanted {
        let report = s.sweep_once(1).await;
        assert_eq!((report.total(), report.next_due_at), (0, Some(start.after(after))), "before {kind}");
        s.set(start.after(after - 1));
        assert_eq!(s.sweep_once(1).await.total(), 0, "one ms before {kind}");
        s.advance(1);
        let (fired, report) = s.step().await;
        assert_eq!(fired, Some(kind), "{report:?}");
        if kind == SweepKind::Retention {
            assert_eq!(report.next_due_at, Some(s.now()), "the backlog is not empty");
            s.sweep().await;
        }
    }
    // It may have passed.
    s.delayed(5).await;
    s.delayed(6).await;
    s.advance(100);
    let report = s.sweep_once(1).await;
    assert_eq!((report.next_due_at, report.more), (Some(start.after(60_006)), true));
}

async fn undecodable(s: &Stage) {
    let start = s.now();
    let broken = s.delayed(100).await;
    let (leased, _) = s.running().await;
    s.delayed(100).await;
    let after = s.delayed(200).await;
    s.set(start.after(200));
    s.damage(Damage::Unreadable(broken)).await;
    let report = s.sweep().await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::Delay, id: broken.to_string() }]);
    assert_eq!((s.state(after).await, report.more), (StateName::Ready, false));
    assert_eq!(s.claim_next(10).await.claimed.len(), 2);
    // It is dropped: listed once, in nobody's way.
    assert!(s.sweep().await.corrupt.is_empty());
    s.damage(Damage::Unreadable(leased)).await;
    s.set(start.after(LEASE_MS));
    let report = s.sweep_once(1).await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::Lease, id: leased.to_string() }]);
    // Armed again by a rebuild once they can be read.
    s.damage(Damage::Readable(broken)).await;
    s.damage(Damage::Readable(leased)).await;
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(broken).await, StateName::Delayed);
    let repaired = s.rebuild().await;
    assert_eq!((repaired.count(IndexKind::Timer, RepairAction::Added), repaired.total()), (2, 2));
    let report = s.sweep().await;
    assert_eq!((report.count(TimerKind::Lease), report.count(TimerKind::Delay), report.total()), (1, 1, 2));
    assert_eq!((s.state(broken).await, s.state(leased).await), (StateName::Ready, StateName::Lost));
    let index = s.describe(leased).await.summary.current_attempt_index;
    assert_eq!(index, Some(AttemptIndex(0)));
}
