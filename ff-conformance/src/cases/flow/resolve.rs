//! Applying and resolving edges one by one; evaluating and promoting members.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{EdgeId, ExecutionId, FlowId};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, LifecyclePhase, PublicState, StateName, StateVector, TerminalOutcome};

use crate::cases::cases;
use crate::stage::{Stage, counted, data_name, terminal_flow};

cases! { "flow";
    "apply_dependency_to_child: a second call answers AlreadyApplied with the present counts." => applied_twice,
    "apply_dependency_to_child: after the upstream ended it resolves at once, by outcome and kind." => applied_late,
    "apply_dependency_to_child: an unknown edge and other endpoints, kind or data name are refused." => other_spec,
    "resolve_dependency: a running upstream and a wrong outcome are refused and nothing changes." => not_resolved,
    "resolve_dependency: it resolves ahead of the backlog and the later drain changes nothing." => ahead,
    "evaluate_flow_eligibility: every status is reachable and pending_resolution counts what the backlog owes." => statuses,
    "promote_blocked_to_eligible: it pulls finished upstreams past a long backlog and a repeat answers AlreadyEligible." => pulled,
    "promote_blocked_to_eligible: behind a running upstream it answers StillBlocked and releases a hold." => still_blocked,
}

/// A staged edge, not applied.
async fn staged(s: &Stage, flow_id: FlowId, up: ExecutionId, down: ExecutionId) -> StageDependencyEdgeArgs {
    let mut args = s.edge_args(flow_id, up, down);
    args.apply = false;
    s.stage(args.clone()).await;
    args
}

async fn apply(s: &Stage, edge: &StageDependencyEdgeArgs) -> (u32, EdgeState, StateSummary, Cascade) {
    match s.backend.apply_dependency_to_child(s.application(edge)).await {
        Ok(ApplyDependencyToChildResult::Applied { unresolved_count, edge_state, child, cascade }) => {
            (unresolved_count, edge_state, child, cascade)
        }
        other => panic!("apply_dependency_to_child: {other:?}"),
    }
}

async fn applied_twice(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 3, &[]).await;
    let [one, two, child] = ids[..] else { panic!("{ids:?}") };
    let first = staged(s, flow_id, one, child).await;
    let second = staged(s, flow_id, two, child).await;
    let revision = s.describe_flow(flow_id).await.graph_revision;
    s.advance(5);
    let (unresolved, edge_state, summary, _) = apply(s, &first).await;
    assert_eq!((unresolved, edge_state), (1, EdgeState::Pending));
    assert_eq!(summary.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
    assert_eq!(s.edge(flow_id, first.edge_id).await.applied_at, Some(s.now()));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.graph_revision, flow.last_mutation_at), (revision, s.now()));

    let again = |unresolved_count, edge_state, child| {
        Outcome::ApplyDependencyToChild(ApplyDependencyToChildResult::AlreadyApplied {
            unresolved_count,
            edge_state,
            child,
        })
    };
    s.advance(5);
    assert_eq!(s.changes_nothing(s.application(&first)).await, again(1, EdgeState::Pending, summary));
    apply(s, &second).await;
    assert_eq!(s.changes_nothing(s.application(&first)).await, again(2, EdgeState::Pending, summary));
    s.complete_as_operator(one).await;
    assert_eq!(s.changes_nothing(s.application(&first)).await, again(1, EdgeState::Satisfied, summary));
    s.complete_as_operator(two).await;
    let ready = s.describe(child).await.summary;
    assert_eq!(ready.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
    assert_eq!(s.changes_nothing(s.application(&first)).await, again(0, EdgeState::Satisfied, ready));
    // An edge that was applied as it was staged is no other.
    let late = s.edge_args(flow_id, one, two);
    let both = s.flow().await;
    let pair = s.chain(both, 2).await;
    let edge = s.edge_between(both, pair[0], pair[1]).await;
    let args = ApplyDependencyToChildArgs::builder()
        .flow_id(both)
        .edge_id(edge.edge_id)
        .upstream_execution_id(pair[0])
        .downstream_execution_id(pair[1])
        .build();
    let waiting = s.describe(pair[1]).await.summary;
    assert_eq!(s.changes_nothing(args).await, again(1, EdgeState::Pending, waiting));
    s.refused_with(Code::EdgeNotFound, s.application(&late)).await;
}

async fn applied_late(s: &Stage) {
    let flow_id = s.flow().await;
    let (good, bad) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let children = s.members(flow_id, 4, &[]).await;
    let mut edges = Vec::new();
    for (n, child) in children.iter().enumerate() {
        let mut args = s.edge_args(flow_id, if n < 2 { good } else { bad }, *child);
        args.apply = false;
        if n % 2 == 1 {
            args.dependency_kind = DependencyKind::AnyTerminal;
        }
        s.stage(args.clone()).await;
        edges.push(args);
    }
    let grandchild = s.member(flow_id, &[children[2]]).await;
    s.complete_as_operator(good).await;
    s.fail_as_operator(bad).await;
    // A sealed flow is no obstacle.
    s.seal(flow_id).await;
    let ready = StateVector::ready(AttemptState::PendingFirstAttempt);
    let skipped = StateVector::done(TerminalOutcome::Skipped, false);
    let outcomes =
        [TerminalOutcome::Success, TerminalOutcome::Success, TerminalOutcome::Failed, TerminalOutcome::Failed];
    let expected = [
        (EdgeState::Satisfied, ready, (1, 0, 0, 0)),
        (EdgeState::Satisfied, ready, (1, 0, 0, 0)),
        (EdgeState::Impossible, skipped, (2, 0, 2, 0)),
        (EdgeState::Satisfied, ready, (1, 0, 0, 0)),
    ];
    for (n, edge) in edges.iter().enumerate() {
        s.advance(1);
        let (unresolved, edge_state, summary, cascade) = apply(s, edge).await;
        assert_eq!((unresolved, edge_state, summary.state_vector), (0, expected[n].0, expected[n].1), "edge {n}");
        assert_eq!(counted(cascade), expected[n].2, "edge {n}");
        let edge = s.edge(flow_id, edge.edge_id).await;
        assert_eq!((edge.edge_state, edge.upstream_outcome), (expected[n].0, Some(outcomes[n])));
        assert_eq!((edge.applied_at, edge.resolved_at), (Some(s.now()), Some(s.now())));
    }
    assert_eq!(s.outcome(grandchild).await, TerminalOutcome::Skipped);
    assert_eq!(s.claim_next(9).await.claimed.len(), 3);
}

async fn other_spec(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 3, &[]).await;
    let mut args = s.edge_args(flow_id, ids[0], ids[1]);
    args.apply = false;
    args.data_passing_ref = Some(data_name("in"));
    s.stage(args.clone()).await;
    let right = s.application(&args);
    let change = |edit: &dyn Fn(&mut ApplyDependencyToChildArgs)| {
        let mut args = right.clone();
        edit(&mut args);
        args
    };
    let unknown = EdgeId::new();
    let refusal = s.refused_with(Code::EdgeNotFound, change(&|args| args.edge_id = unknown)).await;
    assert_eq!(refusal.details(), &Details::EdgeNotFound { edge_id: unknown });
    let mismatches = [
        ("upstream_execution_id", change(&|args| args.upstream_execution_id = ids[2])),
        ("downstream_execution_id", change(&|args| args.downstream_execution_id = ids[2])),
        ("dependency_kind", change(&|args| args.dependency_kind = DependencyKind::AnyTerminal)),
        ("data_passing_ref", change(&|args| args.data_passing_ref = None)),
        ("data_passing_ref", change(&|args| args.data_passing_ref = Some(data_name("in2")))),
    ];
    let mismatch = |field: &str| Details::DependencySpecMismatch { field: field.to_owned() };
    for (field, other) in mismatches.clone() {
        let refusal = s.refused_with(Code::DependencySpecMismatch, other).await;
        assert_eq!(refusal.details(), &mismatch(field));
    }
    // The first that differs.
    let both = change(&|args| {
        args.data_passing_ref = None;
        args.upstream_execution_id = ids[2];
    });
    let refusal = s.refused_with(Code::DependencySpecMismatch, both).await;
    assert_eq!(refusal.details(), &mismatch("upstream_execution_id"));
    assert_eq!(s.edge(flow_id, args.edge_id).await.edge_state, EdgeState::Staged);
    // Applied already, it makes no difference.
    apply(s, &args).await;
    for (field, other) in mismatches {
        let refusal = s.refused_with(Code::DependencySpecMismatch, other).await;
        assert_eq!(refusal.details(), &mismatch(field));
    }
    let elsewhere = s.flow().await;
    s.refused_with(Code::EdgeNotFound, change(&|args| args.flow_id = elsewhere)).await;
}

fn resolution(flow_id: FlowId, edge_id: EdgeId, outcome: Option<TerminalOutcome>) -> ResolveDependencyArgs {
    ResolveDependencyArgs::builder().flow_id(flow_id).edge_id(edge_id).maybe_upstream_outcome(outcome).build()
}

async fn not_resolved(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 128, &[up]).await;
    let child = s.member(flow_id, &[up]).await;
    let edge_id = s.edge_between(flow_id, up, child).await.edge_id;
    let fence = s.claim_this(up).await.fence;
    for claim in [None, Some(TerminalOutcome::Success), Some(TerminalOutcome::Failed)] {
        let refusal = s.refused_with(Code::UpstreamNotTerminal, resolution(flow_id, edge_id, claim)).await;
        assert_eq!(refusal.details(), &Details::UpstreamNotTerminal { public_state: PublicState::Active });
    }
    let unknown = EdgeId::new();
    s.refused_with(Code::EdgeNotFound, resolution(flow_id, unknown, None)).await;
    let only_staged = staged(s, flow_id, up, s.member(flow_id, &[]).await).await;
    s.refused_with(Code::EdgeNotApplied, resolution(flow_id, only_staged.edge_id, None)).await;

    // 129 applied edges: the last one waits on the backlog.
    s.complete(up, fence).await;
    assert_eq!(s.edge(flow_id, edge_id).await.edge_state, EdgeState::Pending);
    let success = Details::DependencyResolutionMismatch { outcome: TerminalOutcome::Success };
    let wrong =
        [TerminalOutcome::Failed, TerminalOutcome::Cancelled, TerminalOutcome::Expired, TerminalOutcome::Skipped];
    for outcome in wrong {
        let args = resolution(flow_id, edge_id, Some(outcome));
        let refusal = s.refused_with(Code::DependencyResolutionMismatch, args).await;
        assert_eq!(refusal.details(), &success);
    }
    assert_eq!(s.state(child).await, StateName::Deps);
    s.call(resolution(flow_id, edge_id, Some(TerminalOutcome::Success))).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.state(child).await, StateName::Ready);
    for outcome in wrong {
        let args = resolution(flow_id, edge_id, Some(outcome));
        let refusal = s.refused_with(Code::DependencyResolutionMismatch, args).await;
        assert_eq!(refusal.details(), &success);
    }
    // In a frozen flow nothing is resolved any more, and what is resolved is told.
    let frozen = s.flow().await;
    let pair = s.chain(frozen, 2).await;
    let kept = s.edge_between(frozen, pair[0], pair[1]).await.edge_id;
    s.cancel_flow(frozen, CancellationPolicy::CancelAll).await;
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, resolution(frozen, kept, None)).await;
    let cancelled = (Some(PublicFlowState::Cancelled), Some(CancellationPolicy::CancelAll));
    assert_eq!(terminal_flow(&refusal), cancelled);
}

async fn ahead(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 129, &[up]).await;
    let child = s.member(flow_id, &[up]).await;
    s.complete_as_operator(up).await;
    assert_eq!(s.deferred(flow_id).await, 1);
    let edge_id = s.edge_between(flow_id, up, child).await.edge_id;
    s.advance(10);
    match s.resolve(flow_id, edge_id).await {
        ResolveDependencyResult::Satisfied { child, cascade } => {
            assert_eq!(child.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
            assert_eq!(counted(cascade), (1, 1, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    // The 129th still waits; the 130th is over.
    assert_eq!((s.deferred(flow_id).await, s.count_of(flow_id, PublicState::WaitingChildren).await), (1, 1));
    let (then, edge) = (s.describe(child).await, s.edge(flow_id, edge_id).await);
    assert_eq!(edge.resolved_at, Some(s.now()));
    s.advance(10);
    s.sweep().await;
    assert_eq!((s.describe(child).await, s.edge(flow_id, edge_id).await), (then, edge));
    assert_eq!((s.deferred(flow_id).await, s.count_of(flow_id, PublicState::Waiting).await), (0, 130));
    match s.changes_nothing(resolution(flow_id, edge_id, Some(TerminalOutcome::Success))).await {
        Outcome::ResolveDependency(ResolveDependencyResult::AlreadyResolved { edge_state, child }) => {
            assert_eq!(edge_state, EdgeState::Satisfied);
            assert_eq!(child.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
        }
        other => panic!("{other:?}"),
    }

    // A failed upstream: 64 are skipped, the 66th is asked for.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 65, &[up]).await;
    let child = s.member(flow_id, &[up]).await;
    let grandchild = s.member(flow_id, &[child]).await;
    s.fail_as_operator(up).await;
    let edge_id = s.edge_between(flow_id, up, child).await.edge_id;
    match s.resolve(flow_id, edge_id).await {
        ResolveDependencyResult::Impossible { child, child_skipped, cascade } => {
            assert_eq!(child.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
            assert!(child_skipped);
            assert_eq!(counted(cascade), (2, 0, 2, 0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(s.outcome(grandchild).await, TerminalOutcome::Skipped);
    let then = s.describe(child).await;
    s.advance(10);
    s.sweep().await;
    assert_eq!(s.describe(child).await, then, "skipped once");
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 67);
    assert_eq!(s.deferred(flow_id).await, 0);
}

type Status = (FlowEligibility, bool, bool, u32, u32, u32);

/// status, claimable, held, unresolved, impossible, pending resolution.
async fn status(s: &Stage, id: ExecutionId) -> Status {
    let EvaluateFlowEligibilityResult::Status {
        status,
        claimable,
        held,
        unresolved_count,
        impossible_count,
        pending_resolution,
        summary,
    } = s.eligibility(id).await;
    assert_eq!(summary, s.describe(id).await.summary);
    (status, claimable, held, unresolved_count, impossible_count, pending_resolution)
}

async fn statuses(s: &Stage) {
    let flow_id = s.flow().await;
    let bad = s.member(flow_id, &[]).await;
    s.fail_as_operator(bad).await;
    assert_eq!(status(s, bad).await, (FlowEligibility::Terminal, false, false, 0, 0, 0));
    let owned = s.member(flow_id, &[]).await;
    let fence = s.claim_this(owned).await.fence;
    assert_eq!(status(s, owned).await, (FlowEligibility::Owned, false, false, 0, 0, 0));
    let suspended = s.member(flow_id, &[]).await;
    let other = s.claim_this(suspended).await.fence;
    s.suspend_on_any_signal(suspended, other).await;
    assert_eq!(status(s, suspended).await, (FlowEligibility::NotRunnable, false, false, 0, 0, 0));
    let held = s.held_member(flow_id).await;
    assert_eq!(status(s, held).await, (FlowEligibility::BlockedByDependencies, false, true, 0, 0, 0));
    s.link(flow_id, bad, held).await;
    assert_eq!(status(s, held).await, (FlowEligibility::Impossible, false, true, 0, 1, 0));
    let waiting = s.member(flow_id, &[owned]).await;
    assert_eq!(status(s, waiting).await, (FlowEligibility::BlockedByDependencies, false, false, 1, 0, 0));
    let free = s.member(flow_id, &[]).await;
    assert_eq!(status(s, free).await, (FlowEligibility::Eligible, true, false, 0, 0, 0));
    // No edge is in the way of a stand-alone that is delayed, and yet it cannot be claimed.
    let delayed = s.delayed(1_000).await;
    assert_eq!(status(s, delayed).await, (FlowEligibility::Eligible, false, false, 0, 0, 0));
    s.complete(owned, fence).await;
    assert_eq!(status(s, waiting).await, (FlowEligibility::Eligible, true, false, 0, 0, 0));
    let outside = s.ready().await;
    assert_eq!(status(s, outside).await, (FlowEligibility::Eligible, true, false, 0, 0, 0));
    s.refused_with(Code::ExecutionNotFound, EvaluateFlowEligibilityArgs { execution_id: s.execution_id() }).await;

    // What the backlog owes: two upstreams have ended, neither's walk has come to the sink, and one still runs.
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 3, &[]).await;
    for up in &ups[..2] {
        s.members(flow_id, 130, &[*up]).await;
    }
    let sink = s.member(flow_id, &ups).await;
    assert_eq!(status(s, sink).await, (FlowEligibility::BlockedByDependencies, false, false, 3, 0, 0));
    s.complete_as_operator(ups[0]).await;
    assert_eq!(status(s, sink).await, (FlowEligibility::BlockedByDependencies, false, false, 3, 0, 1));
    s.complete_as_operator(ups[1]).await;
    assert_eq!(status(s, sink).await, (FlowEligibility::BlockedByDependencies, false, false, 3, 0, 2));
    s.sweep().await;
    assert_eq!(status(s, sink).await, (FlowEligibility::BlockedByDependencies, false, false, 1, 0, 0));

    // Covered, and not reached by the walk yet.
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 65, &[]).await;
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    assert_eq!(s.state(ids[64]).await, StateName::Ready);
    assert_eq!(status(s, ids[64]).await, (FlowEligibility::Eligible, false, false, 0, 0, 0));
}

async fn pulled(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 3, &[]).await;
    for up in &ups {
        s.members(flow_id, 300, &[*up]).await;
    }
    let child = s.member(flow_id, &ups).await;
    for up in &ups {
        s.complete_as_operator(*up).await;
    }
    assert_eq!(s.deferred(flow_id).await, 3);
    assert_eq!(s.counts_of(flow_id, child).await, (3, 0, 0));
    match s.promote(child).await {
        PromoteBlockedToEligibleResult::Promoted { summary, cascade } => {
            assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
            assert_eq!(counted(cascade), (3, 1, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(s.counts_of(flow_id, child).await, (0, 3, 0));
    assert_eq!(s.deferred(flow_id).await, 3, "the backlog is as long as before");
    let args = PromoteBlockedToEligibleArgs { execution_id: child };
    let summary = s.describe(child).await.summary;
    let again = Outcome::PromoteBlockedToEligible(PromoteBlockedToEligibleResult::AlreadyEligible { summary });
    assert_eq!(s.changes_nothing(args).await, again);
    s.grant(child).await;

    // A failed upstream pulls it out of its misery.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 65, &[up]).await;
    let child = s.member(flow_id, &[up]).await;
    s.fail_as_operator(up).await;
    match s.promote(child).await {
        PromoteBlockedToEligibleResult::Skipped { summary, cascade } => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
            assert_eq!(counted(cascade), (1, 0, 1, 0));
        }
        other => panic!("{other:?}"),
    }
    s.refused_with(Code::ExecutionTerminal, PromoteBlockedToEligibleArgs { execution_id: child }).await;
    // DELAYED and BLOCKED are not in DEPS.
    for id in [s.delayed(1_000).await, s.blocked().await] {
        assert!(matches!(s.promote(id).await, PromoteBlockedToEligibleResult::AlreadyEligible { .. }));
    }
}

async fn still_blocked(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let fence = s.claim_this(up).await.fence;
    let child = s.held_member(flow_id).await;
    s.link(flow_id, up, child).await;
    assert!(s.member_of(flow_id, child).await.held);
    let deps = StateVector::deps(AttemptState::PendingFirstAttempt);
    match s.promote(child).await {
        PromoteBlockedToEligibleResult::StillBlocked { unresolved_count, impossible_count, summary, cascade } => {
            assert_eq!((unresolved_count, impossible_count), (1, 0));
            assert_eq!(summary.state_vector, deps);
            assert_eq!(counted(cascade), (0, 0, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    assert!(!s.member_of(flow_id, child).await.held);
    assert!(!s.describe_flow(flow_id).await.sealed);
    assert!(matches!(s.promote(child).await, PromoteBlockedToEligibleResult::StillBlocked { .. }));

    let running = PromoteBlockedToEligibleArgs { execution_id: up };
    let refusal = s.refused_with(Code::NotRunnable, running).await;
    assert_eq!(refusal.details(), &Details::NotRunnable { lifecycle_phase: LifecyclePhase::Active });
    let (suspended, _, _) = s.suspended().await;
    let refusal = s.refused_with(Code::NotRunnable, PromoteBlockedToEligibleArgs { execution_id: suspended }).await;
    assert_eq!(refusal.details(), &Details::NotRunnable { lifecycle_phase: LifecyclePhase::Suspended });

    // Released, it wakes at its upstream's end, without seal.
    s.complete(up, fence).await;
    s.claim_this(child).await;

    // In a frozen flow nothing is promoted.
    let frozen = s.flow().await;
    let running = s.member(frozen, &[]).await;
    s.claim_this(running).await;
    let ids = s.held_members(frozen, 65).await;
    s.cancel_flow(frozen, CancellationPolicy::CancelPending).await;
    let last = ids[64];
    assert_eq!(s.state(last).await, StateName::Deps);
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, PromoteBlockedToEligibleArgs { execution_id: last }).await;
    let cancelled = (Some(PublicFlowState::Cancelled), Some(CancellationPolicy::CancelPending));
    assert_eq!(terminal_flow(&refusal), cancelled);
}
