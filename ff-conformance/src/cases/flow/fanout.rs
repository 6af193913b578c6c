//! Endings that are more than one call does: budgets, the backlog, and who finishes it.

use std::collections::BTreeSet;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, FlowId};
use ff_core::state::{PublicState, StateName, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{Stage, deadline, edge_from};

cases! { "flow";
    "fail_execution: in a chain of 300 the first call skips exactly 64 and leaves one entry, and sweeps skip each of the rest once." => chain_of_300,
    "fail_execution: of 65 children 64 are skipped and the last stays in DEPS with its edge pending." => sixty_five,
    "complete_execution: with exactly 128 children no backlog entry remains, with 129 one remains." => at_the_step,
    "complete_execution: a fan-out of 9 999 handles the first 128 edges by seq and claims alone finish the rest." => giant,
    "sweep: limit counts timers and drained steps together and limit 1 makes exactly one of either." => limits,
    "sweep: several endings in one sweep share both budgets." => shared,
    "sweep: a giant fan-out yields its place after 64 steps." => yields,
    "sweep: after a full drain every pending edge of an unfrozen flow has an open upstream." => drained,
    "claim_next: it drains before it looks, so a child that the backlog owed is claimed in the same call." => drains_first,
}

async fn chain_of_300(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.chain(flow_id, 300).await;
    let fence = s.claim_this(ids[0]).await.fence;
    s.fail_for_good(ids[0], fence).await;
    s.all_ended(&ids[1..=64], TerminalOutcome::Skipped).await;
    s.all_ended(&ids[65..], TerminalOutcome::None).await;
    assert_eq!(s.deferred(flow_id).await, 1);
    assert_eq!(s.edge_between(flow_id, ids[64], ids[65]).await.edge_state, EdgeState::Pending);
    let mut skipped = 64;
    let mut at_end: Vec<_> = vec![s.now(); 64];
    // 235 are left, 64 in each sweep.
    for expected in [64, 64, 64, 43] {
        s.advance(1);
        let report = s.sweep_once(1000).await;
        // Each of the last sweep's steps ends one; the end of the chain has nobody behind it.
        assert_eq!(report.count(SweepKind::Backlog), expected);
        skipped += u32::try_from(expected).unwrap_or_default();
        at_end.extend(vec![s.now(); usize::try_from(expected).unwrap_or_default()]);
        assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, skipped);
        assert_eq!((report.more, s.deferred(flow_id).await), (skipped < 299, u32::from(skipped < 299)));
    }
    assert_eq!(skipped, 299);
    s.advance(1);
    assert_eq!(s.sweep_once(1000).await.total(), 0);
    for (id, at) in ids[1..].iter().zip(at_end) {
        let x = s.describe(*id).await;
        assert_eq!((x.summary.state_vector.terminal_outcome, x.completed_at), (TerminalOutcome::Skipped, Some(at)));
        assert_eq!((x.last_transition_at, x.last_mutation_at), (at, at), "skipped once");
    }
}

async fn sixty_five(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 65, &[up]).await;
    let children: Vec<_> = s.outgoing(flow_id, up).await.iter().map(|e| e.downstream_execution_id).collect();
    let fence = s.claim_this(up).await.fence;
    s.fail_for_good(up, fence).await;
    s.all_ended(&children[..64], TerminalOutcome::Skipped).await;
    let last = children[64];
    assert_eq!(s.state(last).await, StateName::Deps);
    assert_eq!(s.edge_between(flow_id, up, last).await.edge_state, EdgeState::Pending);
    assert_eq!(s.counts_of(flow_id, last).await, (1, 0, 0));
    assert_eq!(s.deferred(flow_id).await, 1);
    let EvaluateFlowEligibilityResult::Status { pending_resolution, .. } = s.eligibility(last).await;
    assert_eq!(pending_resolution, 1);
    let report = s.sweep_once(1000).await;
    assert_eq!((report.count(SweepKind::Backlog), report.more), (1, false));
    assert_eq!(s.outcome(last).await, TerminalOutcome::Skipped);
    assert_eq!(s.deferred(flow_id).await, 0);

    // Exactly 64 leave nothing.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let children = s.members(flow_id, 64, &[up]).await;
    s.fail_as_operator(up).await;
    s.all_ended(&children, TerminalOutcome::Skipped).await;
    assert_eq!(s.deferred(flow_id).await, 0);

    // Where the 65th would end nobody, it is handled: steps are left.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    for _ in 0..64 {
        s.member(flow_id, &[up]).await;
    }
    let tolerant = s.create(s.member_behind(flow_id, vec![edge_from(up, DependencyKind::AnyTerminal)])).await;
    let held = s.held_member(flow_id).await;
    s.link(flow_id, up, held).await;
    let beyond = s.member(flow_id, &[up]).await;
    s.fail_as_operator(up).await;
    assert_eq!(s.state(tolerant).await, StateName::Ready);
    assert_eq!(s.state(held).await, StateName::Deps);
    assert_eq!(s.counts_of(flow_id, held).await, (0, 0, 1), "a held one ends with its hold, not now");
    assert_eq!(s.state(beyond).await, StateName::Deps);
    assert_eq!(s.counts_of(flow_id, beyond).await, (1, 0, 0));
    assert_eq!(s.deferred(flow_id).await, 1);
}

async fn at_the_step(s: &Stage) {
    for (n, left) in [(128, 0), (129, 1)] {
        let flow_id = s.flow().await;
        let up = s.member(flow_id, &[]).await;
        s.members(flow_id, n, &[up]).await;
        let children: Vec<_> = s.outgoing(flow_id, up).await.iter().map(|e| e.downstream_execution_id).collect();
        let fence = s.claim_by_id(up).await.fence;
        s.complete(up, fence).await;
        assert_eq!(s.deferred(flow_id).await, left, "with {n} children");
        assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 128);
        assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, left);
        if left > 0 {
            assert_eq!(s.state(children[128]).await, StateName::Deps);
            assert_eq!(s.edge_between(flow_id, up, children[128]).await.edge_state, EdgeState::Pending);
        }
        let report = s.sweep_once(1000).await;
        assert_eq!(report.total(), u64::from(left), "one step for the one that is left");
        assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 0);
        assert_eq!(s.deferred(flow_id).await, 0);
    }
}

async fn giant(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let children: BTreeSet<_> = s.members(flow_id, 9_999, &[up]).await.into_iter().collect();
    let fence = s.claim_this(up).await.fence;
    s.complete(up, fence).await;
    let edges = s.outgoing(flow_id, up).await;
    assert_eq!(edges.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=9_999).collect::<Vec<_>>());
    for edge in &edges {
        let expected = if edge.seq <= 128 { EdgeState::Satisfied } else { EdgeState::Pending };
        assert_eq!(edge.edge_state, expected, "seq {}", edge.seq);
    }
    assert_eq!((s.deferred(flow_id).await, s.count_of(flow_id, PublicState::Waiting).await), (1, 128));
    let mut taken = BTreeSet::new();
    while taken.len() < 9_999 {
        let result = s.claim_next(64).await;
        assert!(!result.claimed.is_empty(), "{} are claimed and the rest is stranded", taken.len());
        for claim in result.claimed {
            assert!(taken.insert(claim.claimed().execution_id), "claimed twice");
        }
    }
    assert_eq!(taken, children);
    assert_eq!(s.deferred(flow_id).await, 0);
    assert_eq!(s.count_of(flow_id, PublicState::Active).await, 9_999);
}

async fn limits(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 138, &[up]).await;
    s.complete_as_operator(up).await;
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 10);
    for _ in 0..3 {
        s.delayed(100).await;
    }
    s.advance(100);
    let mut waiting = 10;
    // Timers come first, each takes one.
    let report = s.sweep_once(1).await;
    assert_eq!((report.count(TimerKind::Delay), report.count(SweepKind::Backlog), report.total()), (1, 0, 1));
    assert!(report.more);
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, waiting);
    // Two timers and three edges.
    let report = s.sweep_once(5).await;
    assert_eq!((report.count(TimerKind::Delay), report.count(SweepKind::Backlog), report.total()), (2, 3, 5));
    waiting -= 3;
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, waiting);
    while waiting > 0 {
        let report = s.sweep_once(1).await;
        assert_eq!((report.count(SweepKind::Backlog), report.total()), (1, 1));
        waiting -= 1;
        assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, waiting);
        assert_eq!(report.more, waiting > 0);
        assert_eq!(report.next_due_at, (waiting > 0).then(|| s.now()));
    }
    assert_eq!(s.sweep_once(1).await.total(), 0);
}

/// A member that ends by its deadline, `ms` from now, and this many behind it.
async fn doomed(s: &Stage, flow_id: FlowId, ms: u64, n: usize, kind: DependencyKind) -> ExecutionId {
    let mut args = s.member_creation(flow_id, &[]);
    args.policy = std::sync::Arc::new(deadline(When::After(ms)));
    let up = s.create(args).await;
    s.create_all((0..n).map(|_| s.member_behind(flow_id, vec![edge_from(up, kind)])).collect()).await;
    up
}

async fn shared(s: &Stage) {
    // Endings: 40 and 40 behind two that expire together, 64 in all.
    let flow_id = s.flow().await;
    let first = doomed(s, flow_id, 100, 40, DependencyKind::SuccessOnly).await;
    let second = doomed(s, flow_id, 101, 40, DependencyKind::SuccessOnly).await;
    s.advance(101);
    let report = s.sweep_once(1000).await;
    assert_eq!((report.count(TimerKind::Deadline), report.count(SweepKind::Backlog)), (2, 0));
    assert!(report.more);
    s.all_ended(&[first, second], TerminalOutcome::Expired).await;
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 64);
    let skipped = |edges: Vec<EdgeSnapshot>| edges.iter().filter(|e| e.edge_state == EdgeState::Impossible).count();
    assert_eq!(skipped(s.outgoing(flow_id, first).await), 40, "in the order in which they ended");
    assert_eq!(skipped(s.outgoing(flow_id, second).await), 24);
    assert_eq!(s.deferred(flow_id).await, 1);
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 80);

    // Steps: 100 and 100 that nobody's end follows from, 128 in all.
    let flow_id = s.flow().await;
    let first = doomed(s, flow_id, 100, 100, DependencyKind::AnyTerminal).await;
    let second = doomed(s, flow_id, 101, 100, DependencyKind::AnyTerminal).await;
    s.advance(101);
    let report = s.sweep_once(1000).await;
    assert_eq!((report.count(TimerKind::Deadline), report.count(SweepKind::Backlog)), (2, 0));
    let satisfied = |edges: Vec<EdgeSnapshot>| edges.iter().filter(|e| e.edge_state == EdgeState::Satisfied).count();
    assert_eq!(satisfied(s.outgoing(flow_id, first).await), 100);
    assert_eq!(satisfied(s.outgoing(flow_id, second).await), 28);
    assert_eq!(s.deferred(flow_id).await, 1);
    // Without a budget left a third's item waits whole.
    let flow_id = s.flow().await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(doomed(s, flow_id, 100, 128, DependencyKind::AnyTerminal).await);
    }
    s.sweep().await;
    s.advance(100);
    let report = s.sweep_once(3).await;
    assert_eq!((report.count(TimerKind::Deadline), report.total()), (3, 3), "the limit is not the cascades' budget");
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 128);
    assert_eq!(s.deferred(flow_id).await, 2);
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 384);
    s.all_ended(&all, TerminalOutcome::Expired).await;
}

async fn yields(s: &Stage) {
    let flow_id = s.flow().await;
    let (giant, small) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    s.members(flow_id, 428, &[giant]).await;
    s.members(flow_id, 130, &[small]).await;
    s.complete_as_operator(giant).await;
    s.complete_as_operator(small).await;
    let waiting = async || {
        let count = async |up| {
            let edges = s.outgoing(flow_id, up).await;
            edges.iter().filter(|e| e.edge_state == EdgeState::Pending).count()
        };
        (count(giant).await, count(small).await)
    };
    assert_eq!(waiting().await, (300, 2));
    assert_eq!(s.deferred(flow_id).await, 2);
    // 64 of the giant, then the small one's two, then the giant again.
    s.sweep_once(65).await;
    assert_eq!(waiting().await, (236, 1));
    s.sweep_once(1).await;
    assert_eq!((waiting().await, s.deferred(flow_id).await), ((236, 0), 1));
    s.sweep_once(128).await;
    assert_eq!(waiting().await, (108, 0), "alone, it goes on");
    s.sweep_once(1000).await;
    assert_eq!((waiting().await, s.deferred(flow_id).await), ((0, 0), 0));
}

/// Every pending edge must have an open upstream.
async fn no_edge_is_owed(s: &Stage, flow_id: FlowId) {
    for member in s.list_members(flow_id, 1000).await {
        for edge in s.incoming(flow_id, member.execution_id).await {
            if edge.edge_state == EdgeState::Pending {
                let upstream = s.vector(edge.upstream_execution_id).await;
                assert!(!upstream.is_terminal(), "edge {} waits for an upstream that has ended", edge.seq);
            }
        }
    }
    assert_eq!(s.deferred(flow_id).await, 0);
}

async fn drained(s: &Stage) {
    // A root over 200, each over one of its own, all over a sink; then endings and replays in the middle of the walks.
    let flow_id = s.flow().await;
    let root = s.member(flow_id, &[]).await;
    let middle = s.members(flow_id, 200, &[root]).await;
    for up in &middle {
        s.member(flow_id, &[*up]).await;
    }
    let sink = s.create(s.member_creation(flow_id, &middle[..64])).await;
    s.fail_as_operator(root).await;
    // The root's own walk, and one of each that was skipped.
    assert_eq!(s.deferred(flow_id).await, 65);
    s.sweep_once(10).await;
    s.replay(root, 0).await;
    s.sweep_once(20).await;
    s.complete_as_operator(root).await;
    let mut replayed = 0;
    for up in &middle {
        if s.outcome(*up).await == TerminalOutcome::Skipped {
            match s.backend.replay_execution(s.replay_args(*up, 0)).await {
                Ok(_) => replayed += 1,
                Err(e) => panic!("replay_execution: {e}"),
            }
        }
    }
    assert!(replayed > 0);
    for (n, up) in middle.iter().enumerate() {
        match n % 4 {
            0 => drop(s.complete_as_operator(*up).await),
            1 => drop(s.fail_as_operator(*up).await),
            2 => drop(s.cancel(*up).await),
            _ => {}
        }
    }
    s.sweep().await;
    no_edge_is_owed(s, flow_id).await;
    assert_eq!(s.outcome(sink).await, TerminalOutcome::Skipped);
    // The rest ends too, and then nobody waits.
    for (n, up) in middle.iter().enumerate() {
        if n % 4 == 3 {
            s.complete_as_operator(*up).await;
        }
    }
    s.sweep().await;
    no_edge_is_owed(s, flow_id).await;
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 0);
    assert_eq!(s.rebuild().await.total(), 0);
}

async fn drains_first(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 128, &[up]).await;
    let mut args = s.member_creation(flow_id, &[up]);
    args.lane_id = ff_core::ids::LaneId::new("other").unwrap_or_else(|e| panic!("{e}"));
    let owed = s.create(args).await;
    s.complete_as_operator(up).await;
    assert_eq!(s.state(owed).await, StateName::Deps);
    let mut claims = s.claim_args(1);
    claims.lane_id = ff_core::ids::LaneId::new("other").unwrap_or_else(|e| panic!("{e}"));
    let result = s.backend.claim_next(claims).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
    assert_eq!(result.claimed.iter().map(|c| c.claimed().execution_id).collect::<Vec<_>>(), [owed]);
    assert_eq!(s.state(owed).await, StateName::Running);
    assert_eq!(s.deferred(flow_id).await, 0);
}
