//! Rebuilding what is derived from records.

use std::collections::BTreeMap;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::refusal::{Code, Details};
use ff_core::state::{BlockReason, PublicState, StateName};
use ff_core::time::When;

use crate::cases::cases;
use crate::harness::Damage;
use crate::random::{self, Action, World};
use crate::stage::{
    LEASE_MS, PARTITION, Stage, attempt_timeout, deadline, default_timeout, kept_for, lane, lane_named, numbered,
    requires, under,
};
use crate::view::difference;

cases! { "maintenance";
    "rebuild_indexes: on any state reached by operations it repairs nothing." => sound,
    ; damage:
    "rebuild_indexes: after all queues and timers are deleted one walk restores exactly what was there." => deleted [IndexesLost],
    "rebuild_indexes: a foreign queue entry and a wrong due time are removed and corrected, and no record changes." => foreign [ForeignQueueEntry, WrongDueTime],
}

/// A walk over a partition in pages of at most `limit`, which must find nothing to repair. Answers the lane counts.
async fn finds_nothing(s: &Stage, partition: u16, limit: u32) -> BTreeMap<PublicState, u64> {
    let (mut cursor, mut counts) = (None, BTreeMap::new());
    for page in 0.. {
        let args = RebuildIndexesArgs::builder().partition(partition).limit(limit).maybe_cursor(cursor).build();
        let report = s.backend.rebuild_indexes(args).await.unwrap_or_else(|e| panic!("rebuild_indexes: {e}"));
        assert!(report.repaired.is_empty(), "page {page} of a sound state repaired {:?}", report.repaired);
        assert!(report.corrupt.is_empty(), "page {page}: {:?}", report.corrupt);
        assert!(report.examined <= u64::from(limit), "page {page} examined {}", report.examined);
        for (state, n) in report.lane_counts.get(&lane()).into_iter().flatten() {
            *counts.entry(*state).or_default() += n;
        }
        cursor = report.next_cursor;
        if cursor.is_none() {
            return counts;
        }
        assert!(page < 100_000, "the walk never ends");
    }
    counts
}

/// One of everything: every vector, every timer, grants, flows in every state, and a backlog that is not empty.
async fn one_of_everything(s: &Stage) {
    s.complete_as_operator(s.ready().await).await;
    s.create_in(&lane_named("c"), kept_for(1), numbered(8)).await;
    let owned = s.claim_lane(&lane_named("c"), LEASE_MS).await;
    s.revoke(numbered(8), owned[0].1).await;
    s.create_in(&lane_named("d"), kept_for(1), numbered(9)).await;
    let owned = s.claim_lane(&lane_named("d"), LEASE_MS).await;
    s.lose(numbered(9), owned[0].1).await;
    s.running().await;
    let suspended = s.create_in(&lane_named("a"), default_timeout(90_000, TimeoutBehavior::Cancel), numbered(1)).await;
    let owned = s.claim_lane(&lane_named("a"), LEASE_MS).await;
    s.suspend_on_any_signal(suspended, owned[0].1).await;
    s.create_in(&lane_named("b"), attempt_timeout(70_000), numbered(2)).await;
    let owned = s.claim_lane(&lane_named("b"), LEASE_MS).await;
    s.pending(numbered(2), owned[0].1).await;
    s.delayed(10_000).await;
    s.ready_with(deadline(When::After(60_000))).await;
    s.ready_with(requires(["gpu", "cpu"])).await;
    s.ready_with(under(Some("q"), &["b"])).await;
    let granted = s.ready().await;
    s.grant(granted).await;
    s.blocked().await;
    let parked = s.ready().await;
    s.park(parked, BlockReason::WaitingForBudget, Some(40_000)).await;
    s.park(parked, BlockReason::WaitingForQuota, None).await;
    s.deps().await;
    let replayed = s.ready().await;
    s.cancel(replayed).await;
    s.replay(replayed, 0).await;
    s.ended(0, numbered(3)).await;
    s.ended(500, numbered(4)).await;
    let closed = s.flow().await;
    let up = s.member(closed, &[]).await;
    s.member(closed, &[up]).await;
    s.seal(closed).await;
    s.cancel(up).await;
    // More behind one edge, and more members of a cancelled flow, than one call takes.
    let wide = s.flow().await;
    let up = s.member(wide, &[]).await;
    for _ in 0..150 {
        s.member(wide, &[up]).await;
    }
    s.cancel(up).await;
    let cancelled = s.flow().await;
    for _ in 0..150 {
        s.member(cancelled, &[]).await;
    }
    let args = CancelFlowArgs::builder().flow_id(cancelled).reason("enough").by("ops").build();
    s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn sound(s: &Stage) {
    assert!(finds_nothing(s, PARTITION, 1).await.is_empty());
    one_of_everything(s).await;
    for limit in [1, 7, 1000] {
        let counts = finds_nothing(s, PARTITION, limit).await;
        assert_eq!(counts, s.lane_counts(lane()).await, "it reports the lane's counts");
    }
    for _ in 0..50 {
        s.sweep_once(3).await;
        finds_nothing(s, PARTITION, 50).await;
    }
    s.sweep().await;
    finds_nothing(s, PARTITION, 100).await;
    s.advance(1_000_000);
    s.sweep_once(5).await;
    finds_nothing(s, PARTITION, 100).await;
    s.sweep().await;
    finds_nothing(s, PARTITION, 100).await;

    // And after whatever comes to mind.
    for seed in 0..5 {
        let mut world = World::default();
        s.rotate(random::PARTITION, &format!("seed{seed}"), 1).await;
        for (at, step) in random::draw(1_000 + seed, 200).iter().enumerate() {
            match step.action {
                Action::Clock => s.set(World::clock_step(step, s.now(), None)),
                Action::Call(name) => {
                    let operation = world.operation(name, step, s.now());
                    if let Ok(outcome) = s.call(operation.clone()).await {
                        world.learn(&operation, &outcome);
                    }
                }
            }
            if at % 40 == 39 {
                finds_nothing(s, random::PARTITION, 20).await;
            }
        }
    }
    for limit in [0, 1001] {
        let mut args = RebuildIndexesArgs::builder().partition(PARTITION).build();
        args.limit = limit;
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "limit".to_owned() });
    }
    s.refused_with(Code::InvalidPartition, RebuildIndexesArgs::builder().partition(16).build()).await;
}

async fn deleted(s: &Stage) {
    let start = s.now();
    // Queue entries: a REVOKED one, three of lane `main` that are READY, one of them admission-controlled, and one of lane
    // `aside`: 5. Timers: the lease of `lost`, and the five below: 6.
    let (lost, fence) = s.running().await;
    s.lose(lost, fence).await;
    s.advance(1);
    s.claim_this(lost).await;
    let (revoked, fence) = s.running().await;
    s.revoke(revoked, fence).await;
    let fence = s.describe(lost).await.current_lease.map(|l| (l.lease_id, l.expires_at));
    assert!(fence.is_some());
    let mut low = s.creation();
    low.priority = -5;
    let low = s.create(low).await;
    let ready = s.ready().await;
    let controlled = s.ready_with(under(Some("q"), &[])).await;
    let now = s.now();
    let delayed = s.delayed(1_000).await; // a timer
    let overdue = s.create_in(&lane_named("aside"), deadline(When::After(2_000)), s.execution_id()).await; // and an entry
    let granted = s.create_in(&lane_named("aside"), kept_for(1), s.execution_id()).await;
    s.grant(granted).await; // a timer
    let parked = s.ready().await;
    s.park(parked, BlockReason::WaitingForQuota, Some(3_000)).await; // a timer
    let ended = s.ended(4_000, s.execution_id()).await; // a timer
    s.blocked().await; // neither
    s.deps().await; // neither
    let before = s.view().await;

    s.damage(Damage::IndexesLost(PARTITION)).await;
    let page = s.claim_next(10).await;
    assert_eq!((page.claimed.len(), page.ready_remaining, page.next_due_at), (0, 0, None), "nothing was deleted");
    let repaired = s.rebuild().await;
    let wanted = [
        (IndexKind::ReadyQueue, [(RepairAction::Added, 5)].into()),
        (IndexKind::Timer, [(RepairAction::Added, 6)].into()),
    ];
    assert_eq!(repaired.repaired, BTreeMap::from(wanted));
    assert_eq!(s.rebuild().await.total(), 0);
    let changed = difference(&before, &s.view().await);
    assert!(changed.is_empty(), "{}", changed.join("\n"));

    // What is claimed, in which order, and what fires, and when.
    let page = s.claim_next(10).await;
    let ids: Vec<_> = page.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(ids, [revoked, ready, low]);
    assert_eq!(page.needs_admission.iter().map(|c| c.execution_id).collect::<Vec<_>>(), [controlled]);
    for claim in &page.claimed {
        s.complete(claim.claimed().execution_id, claim.claimed().fence).await;
    }
    let mut fired = Vec::new();
    while let Some(next) = s.sweep_once(1).await.next_due_at.filter(|next| *next <= now.after(LEASE_MS)) {
        s.set(next);
        let (kind, report) = s.step().await;
        assert!(report.corrupt.is_empty());
        if !matches!(kind, Some(SweepKind::Backlog | SweepKind::Stale)) {
            fired.push((next.since(now), kind));
        }
        s.sweep().await;
    }
    let wanted = [
        (1_000, Some(SweepKind::Delay)),
        (2_000, Some(SweepKind::Deadline)),
        (3_000, Some(SweepKind::BlockUntil)),
        (4_000, Some(SweepKind::Retention)),
        (10_000, Some(SweepKind::Grant)),
        (LEASE_MS, Some(SweepKind::Lease)),
    ];
    assert_eq!(fired, wanted);
    assert_eq!((s.state(delayed).await, s.state(parked).await), (StateName::Ready, StateName::Ready));
    assert_eq!((s.state(lost).await, s.state(overdue).await), (StateName::Lost, StateName::Done));
    s.gone(ended).await;
    assert!(start < now);
}

async fn foreign(s: &Stage) {
    let delayed = s.delayed(5_000).await;
    let running = s.create_in(&lane_named("aside"), kept_for(1), s.execution_id()).await;
    s.claim_lane(&lane_named("aside"), LEASE_MS).await;
    let ready = s.ready().await;
    let before = s.view().await;
    s.damage(Damage::ForeignQueueEntry(delayed)).await;
    s.damage(Damage::WrongDueTime(running)).await;
    let repaired = s.rebuild().await;
    assert_eq!(repaired.count(IndexKind::ReadyQueue, RepairAction::Removed), 1, "{:?}", repaired.repaired);
    assert_eq!(repaired.count(IndexKind::Timer, RepairAction::Moved), 1, "{:?}", repaired.repaired);
    assert_eq!(repaired.total(), 2, "{:?}", repaired.repaired);
    let changed = difference(&before, &s.view().await);
    assert!(changed.is_empty(), "{}", changed.join("\n"));
    assert_eq!(s.rebuild().await.total(), 0);
    let page = s.claim_next(10).await;
    assert_eq!(page.claimed.iter().map(|c| c.claimed().execution_id).collect::<Vec<_>>(), [ready]);
    assert_eq!((page.ready_remaining, s.sweep().await.total()), (0, 0));
    s.advance(5_000);
    assert_eq!(s.sweep().await.count(TimerKind::Delay), 1);
    s.advance(LEASE_MS - 5_000);
    assert_eq!(s.sweep().await.count(TimerKind::Lease), 2);
    assert_eq!(s.state(running).await, StateName::Lost);
}
