//! Edges one by one: refusals in their order, cycles, apply, resolve, promote, evaluate, and the lists.

use ff_core::contracts::{
    ApplyDependencyToChildArgs, ApplyDependencyToChildResult, Cascade, EdgeState, EvaluateFlowEligibilityArgs,
    EvaluateFlowEligibilityResult, FanInPart, FlowEligibility, FlowPart, OnUpstreamTerminal,
    PromoteBlockedToEligibleArgs, PromoteBlockedToEligibleResult, ResolveDependencyArgs, ResolveDependencyResult,
    StageDependencyEdgeResult,
};
use ff_core::state::{LifecyclePhase, PublicState, TerminalOutcome};

use super::*;
use crate::rules::flow::{
    apply_dependency_to_child, evaluate_flow_eligibility, list_edges, list_flow_members, promote_blocked_to_eligible,
    resolve_dependency,
};

const fn steps(steps: u32) -> Cascade {
    Cascade { steps, promoted: 0, skipped: 0, deferred: 0 }
}

fn unapplied(up: u128, down: u128) -> StageDependencyEdgeArgs {
    let mut args = Bench::stage_args(up, down);
    args.apply = false;
    args
}

fn apply_args(up: u128, down: u128) -> ApplyDependencyToChildArgs {
    ApplyDependencyToChildArgs::builder()
        .flow_id(flow(F))
        .edge_id(edge(up, down))
        .upstream_execution_id(execution(up))
        .downstream_execution_id(execution(down))
        .build()
}

fn resolve_args(up: u128, down: u128, outcome: Option<TerminalOutcome>) -> ResolveDependencyArgs {
    ResolveDependencyArgs::builder().flow_id(flow(F)).edge_id(edge(up, down)).maybe_upstream_outcome(outcome).build()
}

fn promote(b: &mut Bench, n: u128) -> Result<PromoteBlockedToEligibleResult, EngineError> {
    let now = b.at();
    promote_blocked_to_eligible(&mut b.p, now, &PromoteBlockedToEligibleArgs { execution_id: execution(n) })
}

/// Status, claimable, held, unresolved, impossible, pending resolution.
fn eligibility(b: &Bench, n: u128) -> (FlowEligibility, bool, bool, u32, u32, u32) {
    let args = EvaluateFlowEligibilityArgs { execution_id: execution(n) };
    let EvaluateFlowEligibilityResult::Status {
        status,
        claimable,
        held,
        unresolved_count,
        impossible_count,
        pending_resolution,
        ..
    } = evaluate_flow_eligibility(&b.p, b.at(), &args).unwrap();
    (status, claimable, held, unresolved_count, impossible_count, pending_resolution)
}

#[test]
fn an_edge_is_born_as_its_upstream_decides() {
    let mut b = Bench::new();
    for n in 1..8 {
        b.member(n);
    }
    b.complete(1);
    b.fail(2);
    // Running upstream, succeeded, failed; then the claimed child of a failed one.
    let staged = |b: &mut Bench, up, down| match b.stage(up, down) {
        StageDependencyEdgeResult::Staged { edge_state, child, cascade, .. } => {
            (edge_state, child.public_state, cascade)
        }
        other @ StageDependencyEdgeResult::AlreadyStaged { .. } => panic!("{other:?}"),
    };
    assert_eq!(staged(&mut b, 3, 4), (EdgeState::Pending, PublicState::WaitingChildren, steps(1)));
    assert_eq!(staged(&mut b, 1, 5), (EdgeState::Satisfied, PublicState::Waiting, steps(1)));
    let skipped = Cascade { skipped: 1, ..steps(1) };
    assert_eq!(staged(&mut b, 2, 6), (EdgeState::Impossible, PublicState::Skipped, skipped));
    b.run(3);
    b.run(5);
    assert_eq!(staged(&mut b, 2, 5), (EdgeState::Impossible, PublicState::Active, steps(1)));
    assert_eq!((b.counts(5), b.flow().graph_revision), ((0, 1, 1), 7 + 4));
    b.check();
}

#[test]
fn a_skipped_child_takes_its_own_children_along() {
    let mut b = Bench::new();
    b.member(1);
    b.fail(1);
    b.fan(2, 100..102);
    let cascade = Cascade { steps: 3, promoted: 0, skipped: 3, deferred: 0 };
    match b.stage(1, 2) {
        StageDependencyEdgeResult::Staged { cascade: c, .. } => assert_eq!(c, cascade),
        other @ StageDependencyEdgeResult::AlreadyStaged { .. } => panic!("{other:?}"),
    }
    // 64 endings, its own among them.
    let mut b = Bench::new();
    b.member(1);
    b.fail(1);
    b.fan(2, 100..164);
    let cascade = Cascade { steps: 64, promoted: 0, skipped: 64, deferred: 1 };
    match b.stage(1, 2) {
        StageDependencyEdgeResult::Staged { cascade: c, .. } => assert_eq!(c, cascade),
        other @ StageDependencyEdgeResult::AlreadyStaged { .. } => panic!("{other:?}"),
    }
    assert_eq!(b.state(163), PublicState::WaitingChildren);
    b.check();
}

#[test]
fn staging_refuses_in_the_order_of_its_list() {
    let mut b = Bench::new();
    for n in 1..6 {
        b.member(n);
    }
    b.stage(1, 2);
    // The id with other content, before everything about the flow.
    let mut args = Bench::stage_args(1, 3);
    args.edge_id = edge(1, 2);
    args.expected_graph_revision = Some(77);
    b.refused(&Refusal::dependency_already_exists(edge(1, 2)), |b| b.try_stage(&args));
    // A repeat, whatever its revision.
    let mut args = Bench::stage_args(1, 2);
    args.expected_graph_revision = Some(77);
    args.apply = false;
    let before = b.p.clone();
    let child = b.p.find(&execution(2)).unwrap().summary();
    let repeat = StageDependencyEdgeResult::AlreadyStaged {
        edge_id: edge(1, 2),
        graph_revision: 6,
        edge_state: EdgeState::Pending,
        child,
    };
    assert_eq!(b.try_stage(&args).unwrap(), repeat);
    assert!(b.p == before);
    // The revision, before the members.
    let mut args = Bench::stage_args(7, 8);
    args.expected_graph_revision = Some(5);
    b.refused(&Refusal::stale_graph_revision(6_u64), |b| b.try_stage(&args));
    args.expected_graph_revision = Some(6);
    b.refused(&Refusal::execution_not_in_flow(execution(7)), |b| b.try_stage(&args));
    args.upstream_execution_id = execution(4);
    b.refused(&Refusal::execution_not_in_flow(execution(8)), |b| b.try_stage(&args));
    // The downstream's end, before the upstream's, before the pair.
    b.complete(1);
    b.complete(4);
    let mut args = Bench::stage_args(1, 4);
    args.on_upstream_terminal = OnUpstreamTerminal::Reject;
    b.refused(&Refusal::execution_terminal(TerminalOutcome::Success), |b| b.try_stage(&args));
    args.downstream_execution_id = execution(2);
    b.refused(&Refusal::upstream_already_terminal(TerminalOutcome::Success), |b| b.try_stage(&args));
    args.on_upstream_terminal = OnUpstreamTerminal::Resolve;
    b.refused(&Refusal::dependency_already_exists(edge(1, 2)), |b| b.try_stage(&args));
    // A data name; then a cycle.
    let mut args = Bench::stage_args(3, 2);
    args.data_passing_ref = Some("d".parse().unwrap());
    b.try_stage(&args).unwrap();
    let mut args = Bench::stage_args(5, 2);
    args.data_passing_ref = Some("d".parse().unwrap());
    b.refused(&Refusal::data_name_conflict(edge(3, 2)), |b| b.try_stage(&args));
    let cycle: Vec<_> = [2, 3, 2].map(execution).to_vec();
    b.refused(&Refusal::cycle_detected(cycle), |b| b.try_stage(&Bench::stage_args(2, 3)));
    // A sealed flow, and a closed one.
    b.seal();
    b.refused(&Refusal::flow_sealed(), |b| b.try_stage(&Bench::stage_args(5, 2)));
    assert_eq!(
        b.try_stage(&Bench::stage_args(1, 2)).map(|r| matches!(r, StageDependencyEdgeResult::AlreadyStaged { .. })),
        Ok(true)
    );
    b.check();
}

#[test]
fn the_caps_hold() {
    use ff_core::bounds::{Deployment, GraphBounds};
    let graph = GraphBounds { members: 5, edges: 4, incoming: 3, data_incoming: 1, outgoing: 2, cycle_search: 2_000 };
    let mut b = Bench::new();
    b.p = Partition::new(0, Deployment { graph, ..Deployment::default() }.into());
    b.create_flow(F);
    for n in 1..6 {
        b.member(n);
    }
    let sixth = b.creation(6, Some(FlowJoin { flow_id: flow(F), hold: false, edges: vec![] }));
    b.refused(&Refusal::flow_too_large(FlowPart::Members, 5_u32), |b| {
        rules::execution::create_execution(&mut b.p, at(b.now), &sixth)
    });
    let named = |up, down, name: &str| {
        let mut args = Bench::stage_args(up, down);
        args.data_passing_ref = Some(name.parse().unwrap());
        args
    };
    b.try_stage(&named(1, 5, "a")).unwrap();
    b.refused(&Refusal::fan_in_limit(FanInPart::DataEdges, 1_u32), |b| b.try_stage(&named(2, 5, "b")));
    b.try_stage(&unapplied(2, 5)).unwrap();
    b.stage(3, 5);
    b.refused(&Refusal::fan_in_limit(FanInPart::Edges, 3_u32), |b| b.try_stage(&Bench::stage_args(4, 5)));
    b.stage(1, 4);
    b.refused(&Refusal::flow_too_large(FlowPart::Edges, 4_u32), |b| b.try_stage(&Bench::stage_args(1, 3)));
    b.check();
}

#[test]
fn the_fan_out_is_capped() {
    use ff_core::bounds::{Deployment, GraphBounds};
    let graph = GraphBounds { outgoing: 2, ..GraphBounds::default() };
    let mut b = Bench::new();
    b.p = Partition::new(0, Deployment { graph, ..Deployment::default() }.into());
    b.create_flow(F);
    b.fan(1, 2..4);
    b.member(4);
    b.refused(&Refusal::fan_out_limit(2_u32), |b| b.try_stage(&Bench::stage_args(1, 4)));
    let edges = vec![IncomingEdge::new(edge(1, 5), execution(1))];
    let fifth = b.creation(5, Some(FlowJoin { flow_id: flow(F), hold: false, edges }));
    b.refused(&Refusal::fan_out_limit(2_u32), |b| rules::execution::create_execution(&mut b.p, at(b.now), &fifth));
}

#[test]
fn a_chain_of_1_500_shows_its_whole_cycle() {
    let mut b = Bench::new();
    b.member(0);
    for n in 1..1_500 {
        b.join(n, false, &[n - 1]);
    }
    let cycle: Vec<_> = std::iter::once(1_499).chain(0..1_500).map(execution).collect();
    b.refused(&Refusal::cycle_detected(cycle), |b| b.try_stage(&Bench::stage_args(1_499, 0)));
}

#[test]
fn a_search_that_needs_edge_2_001_is_too_large_and_one_of_2_000_is_not() {
    let mut b = Bench::new();
    b.fan(1, 2..3);
    b.fan(3, 10..2_010);
    b.member(2_010);
    b.stage(2, 3);
    let mut b = Bench::new();
    b.fan(1, 2..3);
    b.fan(3, 10..2_011);
    b.refused(&Refusal::graph_too_large(2_000_u32), |b| b.try_stage(&Bench::stage_args(2, 3)));
    // Where the upstream has no incoming edge nothing is searched.
    b.stage(1, 3);
    // A cycle that is met with the 2 000 edges is one.
    let mut b = Bench::new();
    b.fan(3, 10..2_010);
    b.member(2_010);
    b.stage(2_009, 2_010);
    b.refused(&Refusal::graph_too_large(2_000_u32), |b| b.try_stage(&Bench::stage_args(2_010, 3)));
    let cycle: Vec<_> = [2_009, 3, 2_009].map(execution).to_vec();
    b.refused(&Refusal::cycle_detected(cycle), |b| b.try_stage(&Bench::stage_args(2_009, 3)));
}

#[test]
fn the_search_is_breadth_first_by_seq_and_counts_staged_edges() {
    // 1 -> 2 -> 4 -> 6 and 1 -> 3 -> 6, where 3 -> 6 is only staged: the shorter way is the witness.
    let mut b = Bench::new();
    for n in 1..7 {
        b.member(n);
    }
    for (up, down) in [(1, 2), (1, 3), (2, 4), (4, 6)] {
        b.stage(up, down);
    }
    b.try_stage(&unapplied(3, 6)).unwrap();
    let cycle: Vec<_> = [6, 1, 3, 6].map(execution).to_vec();
    b.refused(&Refusal::cycle_detected(cycle), |b| b.try_stage(&Bench::stage_args(6, 1)));
    // Of two equally short ways the one whose edge was there first.
    b.stage(2, 6);
    let cycle: Vec<_> = [6, 1, 2, 6].map(execution).to_vec();
    b.refused(&Refusal::cycle_detected(cycle), |b| b.try_stage(&Bench::stage_args(6, 1)));
}

#[test]
fn a_staged_edge_gates_nobody_until_it_is_applied() {
    let mut b = Bench::new();
    for n in 1..4 {
        b.member(n);
    }
    b.try_stage(&unapplied(1, 2)).unwrap();
    assert_eq!((b.state(2), b.counts(2), b.edge_state(1, 2)), (PublicState::Waiting, (0, 0, 0), EdgeState::Staged));
    b.fail(1);
    assert_eq!((b.state(2), b.edge_state(1, 2)), (PublicState::Waiting, EdgeState::Staged));
    let now = b.at();
    let call = |b: &mut Bench, args: &ApplyDependencyToChildArgs| apply_dependency_to_child(&mut b.p, now, args);
    b.refused(&Refusal::edge_not_applied(), |b| resolve_dependency(&mut b.p, now, &resolve_args(1, 2, None)));
    b.refused(&Refusal::edge_not_found(edge(1, 3)), |b| call(b, &apply_args(1, 3)));
    for (field, change) in [
        ("upstream_execution_id", (|a| a.upstream_execution_id = execution(3)) as fn(&mut ApplyDependencyToChildArgs)),
        ("downstream_execution_id", |a| a.downstream_execution_id = execution(3)),
        ("dependency_kind", |a| a.dependency_kind = DependencyKind::AnyTerminal),
        ("data_passing_ref", |a| a.data_passing_ref = Some("d".parse().unwrap())),
    ] {
        let mut args = apply_args(1, 2);
        change(&mut args);
        b.refused(&Refusal::dependency_spec_mismatch(field), |b| call(b, &args));
    }
    // A sealed flow is no obstacle; the revision stays.
    b.seal();
    b.now += 3;
    let now = b.at();
    let answer = apply_dependency_to_child(&mut b.p, now, &apply_args(1, 2)).unwrap();
    let child = b.p.find(&execution(2)).unwrap().summary();
    let cascade = Cascade { skipped: 1, ..steps(1) };
    let applied = ApplyDependencyToChildResult::Applied {
        unresolved_count: 0,
        edge_state: EdgeState::Impossible,
        child,
        cascade,
    };
    assert_eq!(answer, applied);
    assert_eq!((child.public_state, b.flow().graph_revision), (PublicState::Skipped, 4));
    assert_eq!((b.flow().last_mutation_at, b.edge_of(1, 2).applied_at), (now, Some(now)));
    b.check();
    let before = b.p.clone();
    let again =
        ApplyDependencyToChildResult::AlreadyApplied { unresolved_count: 0, edge_state: EdgeState::Impossible, child };
    assert_eq!(apply_dependency_to_child(&mut b.p, now, &apply_args(1, 2)).unwrap(), again);
    assert!(b.p == before);
}

#[test]
fn resolving_goes_ahead_of_the_backlog_and_the_drain_finds_it_level() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    let now = b.at();
    b.refused(&Refusal::upstream_not_terminal(PublicState::Waiting), |b| {
        resolve_dependency(&mut b.p, now, &resolve_args(1, 1129, Some(TerminalOutcome::Success)))
    });
    b.complete(1);
    b.refused(&Refusal::dependency_resolution_mismatch(TerminalOutcome::Success), |b| {
        resolve_dependency(&mut b.p, now, &resolve_args(1, 1129, Some(TerminalOutcome::Failed)))
    });
    let args = resolve_args(1, 1129, Some(TerminalOutcome::Success));
    let answer = resolve_dependency(&mut b.p, now, &args).unwrap();
    let child = b.p.find(&execution(1129)).unwrap().summary();
    let cascade = Cascade { promoted: 1, ..steps(1) };
    assert_eq!(answer, ResolveDependencyResult::Satisfied { child, cascade });
    assert_eq!(b.states(1128..1130), [PublicState::WaitingChildren, PublicState::Waiting]);
    assert_eq!(eligibility(&b, 1128), (FlowEligibility::BlockedByDependencies, false, false, 1, 0, 1));
    let again = ResolveDependencyResult::AlreadyResolved { edge_state: EdgeState::Satisfied, child };
    assert_eq!(resolve_dependency(&mut b.p, now, &args).unwrap(), again);
    b.refused(&Refusal::dependency_resolution_mismatch(TerminalOutcome::Success), |b| {
        resolve_dependency(&mut b.p, now, &resolve_args(1, 1129, Some(TerminalOutcome::Failed)))
    });
    b.now += 9;
    assert_eq!(b.sweep(100).total(), 2);
    assert_eq!((b.edge_of(1, 1129).resolved_at, b.edge_of(1, 1128).resolved_at), (Some(now), Some(b.at())));
    b.check();
}

#[test]
fn resolving_an_impossible_edge_tells_whether_it_skipped_the_child() {
    let mut b = Bench::new();
    b.fan(1, 100..166);
    b.held(166);
    b.stage(1, 166);
    b.fail(1);
    let now = b.at();
    let answer = resolve_dependency(&mut b.p, now, &resolve_args(1, 165, None)).unwrap();
    let cascade = Cascade { skipped: 1, ..steps(1) };
    let child = b.p.find(&execution(165)).unwrap().summary();
    assert_eq!(answer, ResolveDependencyResult::Impossible { child, child_skipped: true, cascade });
    assert_eq!(child.public_state, PublicState::Skipped);
    // A held child stays where it is.
    let answer = resolve_dependency(&mut b.p, now, &resolve_args(1, 166, None)).unwrap();
    let child = b.p.find(&execution(166)).unwrap().summary();
    assert_eq!(answer, ResolveDependencyResult::Impossible { child, child_skipped: false, cascade: steps(1) });
    assert_eq!(child.public_state, PublicState::WaitingChildren);
    assert_eq!(eligibility(&b, 166), (FlowEligibility::Impossible, false, true, 0, 1, 0));
    b.check();
    assert_eq!(
        promote(&mut b, 166).unwrap(),
        PromoteBlockedToEligibleResult::Skipped {
            summary: b.p.find(&execution(166)).unwrap().summary(),
            cascade: Cascade { skipped: 1, ..steps(0) },
        }
    );
    b.check();
}

#[test]
fn promoting_pulls_finished_upstreams_past_the_backlog() {
    let mut b = Bench::new();
    // 1 has 129 children before the one that matters; 2 runs.
    b.fan(1, 1000..1129);
    b.member(2);
    b.join(9, false, &[1, 2]);
    b.complete(1);
    let blocked = |b: &Bench, cascade| PromoteBlockedToEligibleResult::StillBlocked {
        unresolved_count: 1,
        impossible_count: 0,
        summary: b.p.find(&execution(9)).unwrap().summary(),
        cascade,
    };
    assert_eq!(b.counts(9), (2, 0, 0));
    assert_eq!(promote(&mut b, 9).unwrap(), blocked(&b, steps(1)));
    assert_eq!(promote(&mut b, 9).unwrap(), blocked(&b, steps(0)));
    b.check();
    // A long walk before it, so that its upstream's end does not reach it by itself.
    let mut b = Bench::new();
    b.fan(1, 1000..1129);
    b.join(9, false, &[1]);
    b.complete(1);
    let promoted = Cascade { promoted: 1, ..steps(1) };
    let answer = promote(&mut b, 9).unwrap();
    let summary = b.p.find(&execution(9)).unwrap().summary();
    assert_eq!(answer, PromoteBlockedToEligibleResult::Promoted { summary, cascade: promoted });
    assert_eq!(promote(&mut b, 9).unwrap(), PromoteBlockedToEligibleResult::AlreadyEligible { summary });
    assert_eq!(summary.public_state, PublicState::Waiting);
    b.check();
}

#[test]
fn promoting_releases_one_hold_and_stops_where_it_ends_the_member() {
    let mut b = Bench::new();
    b.member(1);
    b.join(2, true, &[1]);
    b.held(3);
    let summary = b.p.find(&execution(2)).unwrap().summary();
    let still = PromoteBlockedToEligibleResult::StillBlocked {
        unresolved_count: 1,
        impossible_count: 0,
        summary,
        cascade: steps(0),
    };
    assert_eq!(promote(&mut b, 2).unwrap(), still);
    b.complete(1);
    assert_eq!(b.states(2..4), [PublicState::Waiting, PublicState::WaitingChildren]);
    b.check();

    // Four owed edges; the second is impossible and ends it: two steps.
    let mut b = Bench::new();
    for up in 1..5 {
        b.fan(up, (up * 10_000)..(up * 10_000 + 128));
    }
    b.join(9, false, &[1, 2, 3, 4]);
    for up in [1, 3, 4] {
        b.complete(up);
    }
    b.fail(2);
    assert_eq!((b.state(9), b.counts(9)), (PublicState::WaitingChildren, (4, 0, 0)));
    let answer = promote(&mut b, 9).unwrap();
    let summary = b.p.find(&execution(9)).unwrap().summary();
    let cascade = Cascade { steps: 2, promoted: 0, skipped: 1, deferred: 0 };
    assert_eq!(answer, PromoteBlockedToEligibleResult::Skipped { summary, cascade });
    assert_eq!(b.counts(9), (2, 1, 1));
    b.check();
}

#[test]
fn promoting_refuses_what_is_not_waiting() {
    let mut b = Bench::new();
    b.member(1);
    b.member(2);
    b.held(3);
    b.run(1);
    b.refused(&Refusal::not_runnable(LifecyclePhase::Active), |b| promote(b, 1));
    b.complete(2);
    b.refused(&Refusal::execution_terminal(TerminalOutcome::Success), |b| promote(b, 2));
    assert_eq!(code(promote(&mut b, 77)), Code::ExecutionNotFound);
    for _ in 0..64 {
        let n = 100 + b.flow().node_count;
        b.member(u128::from(n));
    }
    b.held(9_999);
    b.cancel(CancellationPolicy::CancelPending);
    let refusal = Refusal::flow_already_terminal(
        Some(ff_core::contracts::PublicFlowState::Cancelled),
        Some(CancellationPolicy::CancelPending),
    );
    b.refused(&refusal, |b| promote(b, 9_999));
}

#[test]
fn an_edge_voids_the_grant_of_a_child_that_leaves_ready() {
    use ff_core::contracts::{ClaimExecutionArgs, IssueClaimGrantArgs};
    let mut b = Bench::new();
    b.member(1);
    b.member(2);
    b.member(3);
    b.complete(3);
    let grant = IssueClaimGrantArgs {
        execution_id: execution(2),
        worker_id: "w".parse().unwrap(),
        worker_instance_id: "w-1".parse().unwrap(),
        capabilities: Capabilities::none(),
        grant_ttl_ms: 1_000,
    };
    rules::claim::issue_claim_grant(&mut b.p, at(1_000), &grant).unwrap();
    // One that leaves it READY leaves the grant.
    b.stage(3, 2);
    assert!(b.p.find(&execution(2)).unwrap().record.grant.is_some());
    b.stage(1, 2);
    assert!(b.p.find(&execution(2)).unwrap().record.grant.is_none());
    let claim = ClaimExecutionArgs {
        execution_id: execution(2),
        worker_id: "w".parse().unwrap(),
        worker_instance_id: "w-1".parse().unwrap(),
        lease_id: ff_core::ids::LeaseId::new(),
        attempt_id: ff_core::ids::AttemptId::new(),
        lease_ttl_ms: 1_000,
    };
    assert_eq!(code(rules::claim::claim_execution(&mut b.p, at(1_000), &claim)), Code::ExecutionNotEligible);
    b.check();
}

#[test]
fn lists_page_by_seq_and_by_id_and_refuse_foreign_cursors() {
    let mut b = Bench::new();
    b.fan(1, 10..14);
    b.stage(10, 13);
    let out = EdgeDirection::Outgoing { from_node: execution(1) };
    let into = EdgeDirection::Incoming { to_node: execution(13) };
    assert_eq!(b.listed(out, None, 3), (vec![1, 2, 3], Some("3".to_owned())));
    assert_eq!(b.listed(out, None, 4), (vec![1, 2, 3, 4], None));
    b.join(14, false, &[1]);
    assert_eq!(b.listed(out, Some("3"), 3), (vec![4, 6], None));
    assert_eq!(b.listed(into, None, 100), (vec![4, 5], None));
    for cursor in ["", "x", "03", "+3", "-1"] {
        let mut args = ListEdgesArgs::builder().flow_id(flow(9)).direction(out).build();
        args.cursor = Some(cursor.to_owned());
        assert_eq!(code(list_edges(&b.p, at(0), &args)), Code::InvalidInput, "{cursor:?}");
    }
    let missing = EdgeDirection::Outgoing { from_node: execution(77) };
    let args = ListEdgesArgs::builder().flow_id(flow(F)).direction(missing).build();
    assert_eq!(code(list_edges(&b.p, at(0), &args)), Code::ExecutionNotInFlow);

    let mut args = ff_core::contracts::ListFlowMembersArgs::builder().flow_id(flow(F)).limit(4).build();
    let mut seen = Vec::new();
    loop {
        let page = list_flow_members(&b.p, at(0), &args).unwrap();
        seen.push(page.members.iter().map(|m| m.execution_id.uuid().as_u128()).collect::<Vec<_>>());
        args.cursor = page.next_cursor;
        if args.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [vec![1, 10, 11, 12], vec![13, 14]]);
    args.cursor = Some("e1_00000000-0000-0000-0000-000000000001".to_owned());
    assert_eq!(code(list_flow_members(&b.p, at(0), &args)), Code::InvalidInput);
}

#[test]
fn every_eligibility_is_reachable() {
    let mut b = Bench::new();
    for n in 1..5 {
        b.member(n);
    }
    b.join(5, false, &[4]);
    let args = b.creation(50, None);
    rules::execution::create_execution(&mut b.p, at(1_000), &args).unwrap();
    b.run(1);
    b.complete(3);
    assert_eq!(eligibility(&b, 1), (FlowEligibility::Owned, false, false, 0, 0, 0));
    assert_eq!(eligibility(&b, 2), (FlowEligibility::Eligible, true, false, 0, 0, 0));
    assert_eq!(eligibility(&b, 3), (FlowEligibility::Terminal, false, false, 0, 0, 0));
    assert_eq!(eligibility(&b, 5), (FlowEligibility::BlockedByDependencies, false, false, 1, 0, 0));
    assert_eq!(eligibility(&b, 50), (FlowEligibility::Eligible, true, false, 0, 0, 0));
}
