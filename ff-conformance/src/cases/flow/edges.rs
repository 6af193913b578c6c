//! Staging edges.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, EdgeId, ExecutionId};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, EndCause, PublicState, StateName, StateVector, TerminalOutcome};
use futures::future::join_all;

use crate::cases::cases;
use crate::stage::{Stage, counted, data_name, not_eligible_cause, refusal_of, retries};

cases! { "flow";
    "stage_dependency_edge: an edge to a succeeded upstream is born satisfied and the child stays claimable." => born_satisfied,
    "stage_dependency_edge: an edge to a failed upstream skips a never claimed child in the same call and leaves a claimed one alone." => born_impossible,
    "stage_dependency_edge: reject refuses a terminal upstream." => rejected,
    "stage_dependency_edge: a repeat with a stale revision or on a finished flow answers AlreadyStaged." => staged_twice,
    "stage_dependency_edge: the same id with other content and a second edge for a pair are conflicts that name the existing edge." => conflicts,
    "stage_dependency_edge: without expected revision concurrent stagers all succeed, with the same one exactly one does." => concurrent,
    "stage_dependency_edge: a staged edge gates nobody and the cascade passes it by." => only_staged,
    "stage_dependency_edge: a chain of 10 000 members is built edge by edge from either end; on one of 1 500 the closing edge is a cycle with its witness." => chains,
    "stage_dependency_edge: a search beyond 2 000 edges is graph_too_large, never a false cycle." => long_search,
    "stage_dependency_edge: a grant issued before the edge is void and its claim refused." => grant_void,
    "stage_dependency_edge: a second edge with the same data name and a 65th data edge are refused." => data_edges,
}

async fn born_satisfied(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let fence = s.claim_this(up).await.fence;
    s.complete(up, fence).await;
    let child = s.member(flow_id, &[]).await;
    s.advance(10);
    let args = s.edge_args(flow_id, up, child);
    let edge_id = args.edge_id;
    match s.backend.stage_dependency_edge(args).await {
        Ok(StageDependencyEdgeResult::Staged { new_graph_revision, edge_state, child, cascade, .. }) => {
            assert_eq!((new_graph_revision, edge_state), (3, EdgeState::Satisfied));
            assert_eq!(child.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
            assert_eq!((cascade.promoted, cascade.skipped, cascade.deferred), (0, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    let edge = s.edge(flow_id, edge_id).await;
    assert_eq!((edge.edge_state, edge.seq, edge.stale_upstream), (EdgeState::Satisfied, 1, false));
    assert_eq!((edge.applied_at, edge.resolved_at, edge.created_at), (Some(s.now()), Some(s.now()), s.now()));
    assert_eq!(edge.upstream_run, Some(0));
    assert_eq!(edge.upstream_outcome, Some(TerminalOutcome::Success));
    assert_eq!(edge.upstream_attempt_index, Some(AttemptIndex(0)));
    assert_eq!(s.counts_of(flow_id, child).await, (0, 1, 0));
    s.claim_this(child).await;
}

async fn born_impossible(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.fail_as_operator(up).await;
    let child = s.member(flow_id, &[]).await;
    let grandchild = s.member(flow_id, &[child]).await;
    let (edge_state, summary, cascade) = s.stage(s.edge_args(flow_id, up, child)).await;
    assert_eq!(edge_state, EdgeState::Impossible);
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
    // One step sets the edge, one examines the child's own; both end somebody.
    assert_eq!(counted(cascade), (2, 0, 2, 0));
    assert_eq!(s.outcome(grandchild).await, TerminalOutcome::Skipped);
    let x = s.describe(child).await;
    assert_eq!((x.end_cause, x.ended_by), (Some(EndCause::DependencyImpossible), Some(EndedBy::Engine)));
    assert_eq!(s.counts_of(flow_id, child).await, (0, 0, 1));
    let edge = s.edge_between(flow_id, up, child).await;
    assert_eq!((edge.upstream_outcome, edge.upstream_attempt_index), (Some(TerminalOutcome::Failed), None));

    // RUNNING, and READY for a retry.
    let running = s.member(flow_id, &[]).await;
    let fence = s.claim_this(running).await.fence;
    let mut args = s.member_creation(flow_id, &[]);
    args.policy = Arc::new(retries(1, 0));
    let retried = s.create(args).await;
    let failed = s.claim_this(retried).await.fence;
    s.fail_and_retry(retried, failed).await;
    for (id, expected) in
        [(running, StateVector::RUNNING), (retried, StateVector::ready(AttemptState::PendingRetryAttempt))]
    {
        let (edge_state, summary, cascade) = s.stage(s.edge_args(flow_id, up, id)).await;
        assert_eq!((edge_state, summary.state_vector), (EdgeState::Impossible, expected));
        assert_eq!((cascade.promoted, cascade.skipped), (0, 0));
        assert_eq!(s.counts_of(flow_id, id).await, (0, 0, 1));
    }
    s.complete(running, fence).await;
    s.claim_this(retried).await;

    // A held child waits for the seal, and is skipped then.
    let held = s.held_member(flow_id).await;
    let (edge_state, summary, _) = s.stage(s.edge_args(flow_id, up, held)).await;
    assert_eq!(edge_state, EdgeState::Impossible);
    assert_eq!(summary.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
    s.seal(flow_id).await;
    assert_eq!(s.outcome(held).await, TerminalOutcome::Skipped);
}

async fn rejected(s: &Stage) {
    let flow_id = s.flow().await;
    let child = s.member(flow_id, &[]).await;
    let reject = |up| {
        let mut args = s.edge_args(flow_id, up, child);
        args.on_upstream_terminal = OnUpstreamTerminal::Reject;
        args
    };
    let (good, bad, open) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    s.complete_as_operator(good).await;
    s.fail_as_operator(bad).await;
    for (up, terminal_outcome) in [(good, TerminalOutcome::Success), (bad, TerminalOutcome::Failed)] {
        for apply in [true, false] {
            let mut args = reject(up);
            args.apply = apply;
            let refusal = s.refused_with(Code::UpstreamAlreadyTerminal, args).await;
            assert_eq!(refusal.details(), &Details::UpstreamAlreadyTerminal { terminal_outcome });
        }
    }
    assert_eq!(s.state(child).await, StateName::Ready);
    let (edge_state, ..) = s.stage(reject(open)).await;
    assert_eq!(edge_state, EdgeState::Pending);
    assert_eq!(s.state(child).await, StateName::Deps);
}

async fn staged_twice(s: &Stage) {
    let flow_id = s.flow().await;
    let (up, down) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let mut args = s.edge_args(flow_id, up, down);
    args.expected_graph_revision = Some(2);
    args.data_passing_ref = Some(data_name("in"));
    s.stage(args.clone()).await;
    let edge_id = args.edge_id;
    let repeat = |edge_state, child| {
        Outcome::StageDependencyEdge(StageDependencyEdgeResult::AlreadyStaged {
            edge_id,
            graph_revision: 3,
            edge_state,
            child,
        })
    };
    let child = s.describe(down).await.summary;
    assert_eq!(child.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
    s.advance(5);
    assert_eq!(s.changes_nothing(args.clone()).await, repeat(EdgeState::Pending, child), "revision 2 is stale");
    // What says how to stage is no content.
    let mut other = args.clone();
    (other.apply, other.on_upstream_terminal, other.expected_graph_revision) =
        (false, OnUpstreamTerminal::Reject, Some(77));
    assert_eq!(s.changes_nothing(other).await, repeat(EdgeState::Pending, child));

    s.complete_as_operator(up).await;
    let child = s.complete_as_operator(down).await;
    s.seal(flow_id).await;
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Completed);
    assert_eq!(s.changes_nothing(args.clone()).await, repeat(EdgeState::Satisfied, child));
    // A fresh one is refused there.
    args.edge_id = EdgeId::new();
    s.refused_with(Code::FlowAlreadyTerminal, args).await;

    // A repeat of an edge that was only staged applies nothing, also in a cancelled flow.
    let flow_id = s.flow().await;
    let (up, down) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let mut args = s.edge_args(flow_id, up, down);
    args.apply = false;
    s.stage(args.clone()).await;
    let as_applied = |args: &StageDependencyEdgeArgs| {
        let mut args = args.clone();
        args.apply = true;
        args
    };
    match s.changes_nothing(as_applied(&args)).await {
        Outcome::StageDependencyEdge(StageDependencyEdgeResult::AlreadyStaged { edge_state, .. }) => {
            assert_eq!(edge_state, EdgeState::Staged);
        }
        other => panic!("{other:?}"),
    }
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    match s.changes_nothing(as_applied(&args)).await {
        Outcome::StageDependencyEdge(StageDependencyEdgeResult::AlreadyStaged { child, .. }) => {
            assert_eq!(child.state_vector.terminal_outcome, TerminalOutcome::Cancelled);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(s.edge(flow_id, args.edge_id).await.applied_at, None);
}

async fn conflicts(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 4, &[]).await;
    let mut args = s.edge_args(flow_id, ids[0], ids[1]);
    args.data_passing_ref = Some(data_name("in"));
    s.stage(args.clone()).await;
    let edge_id = args.edge_id;
    let change = |edit: &dyn Fn(&mut StageDependencyEdgeArgs)| {
        let mut args = args.clone();
        edit(&mut args);
        args
    };
    let existing = Details::DependencyAlreadyExists { edge_id };
    for other in [
        change(&|args| args.upstream_execution_id = ids[2]),
        change(&|args| args.downstream_execution_id = ids[2]),
        change(&|args| args.dependency_kind = DependencyKind::AnyTerminal),
        change(&|args| args.data_passing_ref = None),
        change(&|args| args.data_passing_ref = Some(data_name("in2"))),
    ] {
        let refusal = s.refused_with(Code::DependencyAlreadyExists, other).await;
        assert_eq!(refusal.details(), &existing);
    }
    // A second edge for the pair, of whatever kind, applied or not.
    for second in [
        change(&|args| args.edge_id = EdgeId::new()),
        change(&|args| {
            args.edge_id = EdgeId::new();
            args.dependency_kind = DependencyKind::AnyTerminal;
            args.data_passing_ref = None;
            args.apply = false;
        }),
    ] {
        let refusal = s.refused_with(Code::DependencyAlreadyExists, second).await;
        assert_eq!(refusal.details(), &existing);
    }
    // The other way round it is no edge of that pair, but a cycle.
    let refusal = s.refused_with(Code::CycleDetected, s.edge_args(flow_id, ids[1], ids[0])).await;
    assert_eq!(refusal.details(), &Details::CycleDetected { cycle: vec![ids[1], ids[0], ids[1]] });
    s.refused_with(Code::SelfReferencingEdge, s.edge_args(flow_id, ids[1], ids[1])).await;
}

async fn concurrent(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 32, &[]).await;
    let stagers = |revision: Option<u64>, from: usize| {
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let mut args = s.edge_args(flow_id, ids[from + n], ids[from + n + 8]);
                args.expected_graph_revision = revision;
                let backend = Arc::clone(&s.backend);
                tokio::spawn(async move { backend.stage_dependency_edge(args).await })
            })
            .collect();
        async move {
            let answers = join_all(calls).await;
            answers.into_iter().map(|a| a.unwrap_or_else(|e| panic!("{e}"))).collect::<Vec<_>>()
        }
    };
    let mut revisions: Vec<_> = stagers(None, 0)
        .await
        .into_iter()
        .map(|answer| match answer {
            Ok(StageDependencyEdgeResult::Staged { new_graph_revision, .. }) => new_graph_revision,
            other => panic!("{other:?}"),
        })
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (33..=40).collect::<Vec<_>>(), "each made a revision of its own");
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.edge_count, flow.graph_revision), (8, 40));

    let (mut staged, mut stale) = (0, 0);
    for answer in stagers(Some(40), 16).await {
        match answer {
            Ok(StageDependencyEdgeResult::Staged { new_graph_revision, .. }) => {
                assert_eq!(new_graph_revision, 41);
                staged += 1;
            }
            other => {
                assert_eq!(
                    refusal_of(other, Code::StaleGraphRevision),
                    Details::StaleGraphRevision { graph_revision: 41 }
                );
                stale += 1;
            }
        }
    }
    assert_eq!((staged, stale), (1, 7));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.edge_count, flow.graph_revision), (9, 41));
}

async fn only_staged(s: &Stage) {
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 4, &[]).await;
    let [up, child, other, sibling] = ids[..] else { panic!("{ids:?}") };
    let staged = |up, down| {
        let mut args = s.edge_args(flow_id, up, down);
        args.apply = false;
        args
    };
    let args = staged(up, child);
    let edge_id = args.edge_id;
    let (edge_state, summary, cascade) = s.stage(args).await;
    assert_eq!(edge_state, EdgeState::Staged);
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
    assert_eq!(counted(cascade), (0, 0, 0, 0));
    s.stage(staged(up, other)).await;
    s.link(flow_id, up, sibling).await;
    assert_eq!(s.counts_of(flow_id, child).await, (0, 0, 0));
    assert_eq!(s.edge(flow_id, edge_id).await.applied_at, None);
    assert_eq!(s.describe_flow(flow_id).await.edge_count, 3);

    s.fail_as_operator(up).await;
    assert_eq!(s.deferred(flow_id).await, 0);
    assert_eq!(s.state(child).await, StateName::Ready);
    assert_eq!(s.state(other).await, StateName::Ready);
    assert_eq!(s.outcome(sibling).await, TerminalOutcome::Skipped);
    let edge = s.edge(flow_id, edge_id).await;
    assert_eq!((edge.edge_state, edge.resolved_at, edge.upstream_run), (EdgeState::Staged, None, None));
    assert_eq!(s.counts_of(flow_id, child).await, (0, 0, 0));
    // Staged to an upstream that has ended, too.
    let late = s.member(flow_id, &[]).await;
    let (edge_state, summary, _) = s.stage(staged(up, late)).await;
    assert_eq!((edge_state, summary.state_vector.name()), (EdgeState::Staged, Some(StateName::Ready)));
    s.seal(flow_id).await;
    let claimed = s.claim_next(10).await.claimed;
    let taken: Vec<_> = claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(taken, [child, other, late]);
}

async fn chains(s: &Stage) {
    // Forward: the newest end grows; backward: the front does. Members are created before, without edges.
    let (forward, backward) = (s.flow().await, s.flow().await);
    let ahead = s.members(forward, 10_000, &[]).await;
    let behind = s.members(backward, 10_000, &[]).await;
    for n in 0..9_999 {
        let (edge_state, ..) = s.stage(s.edge_args(forward, ahead[n], ahead[n + 1])).await;
        assert_eq!(edge_state, EdgeState::Pending);
        let (up, down) = (behind[9_998 - n], behind[9_999 - n]);
        let (edge_state, ..) = s.stage(s.edge_args(backward, up, down)).await;
        assert_eq!(edge_state, EdgeState::Pending);
    }
    for (flow_id, ids) in [(forward, &ahead), (backward, &behind)] {
        let flow = s.describe_flow(flow_id).await;
        assert_eq!((flow.node_count, flow.edge_count, flow.graph_revision), (10_000, 9_999, 19_999));
        assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 1);
        assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 9_999);
        assert_eq!(s.state(ids[0]).await, StateName::Ready);
    }

    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 1_500, &[]).await;
    for pair in ids.windows(2) {
        s.link(flow_id, pair[0], pair[1]).await;
    }
    let closing = s.edge_args(flow_id, ids[1_499], ids[0]);
    let details = refusal_of(s.backend.stage_dependency_edge(closing).await, Code::CycleDetected);
    let mut witness = vec![ids[1_499]];
    witness.extend(&ids);
    assert_eq!(details, Details::CycleDetected { cycle: witness });
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.edge_count, flow.graph_revision), (1_499, 2_999));
    // In the middle of it, as well: only the way that closes is the witness.
    let closing = s.edge_args(flow_id, ids[700], ids[690]);
    let details = refusal_of(s.backend.stage_dependency_edge(closing).await, Code::CycleDetected);
    let mut witness = vec![ids[700]];
    witness.extend(&ids[690..=700]);
    assert_eq!(details, Details::CycleDetected { cycle: witness });
}

async fn long_search(s: &Stage) {
    let flow_id = s.flow().await;
    let root = s.member(flow_id, &[]).await;
    let down = s.member(flow_id, &[]).await;
    let early = s.member(flow_id, &[down]).await;
    s.members(flow_id, 1_999, &[down]).await;
    let [exact, beyond] = [s.member(flow_id, &[root]).await, s.member(flow_id, &[root]).await];

    // 2 000 edges are read and none leads to it.
    let (edge_state, ..) = s.stage(s.edge_args(flow_id, exact, down)).await;
    assert_eq!(edge_state, EdgeState::Pending);
    // The 2 001st edge is one too many, whatever it would tell: here a cycle that is not found, there none.
    let late = s.member(flow_id, &[down]).await;
    let before = s.describe_flow(flow_id).await;
    for up in [beyond, late] {
        let details =
            refusal_of(s.backend.stage_dependency_edge(s.edge_args(flow_id, up, down)).await, Code::GraphTooLarge);
        assert_eq!(details, Details::GraphTooLarge { limit: 2_000 });
    }
    // Found within the bound it is a cycle.
    let details =
        refusal_of(s.backend.stage_dependency_edge(s.edge_args(flow_id, early, down)).await, Code::CycleDetected);
    assert_eq!(details, Details::CycleDetected { cycle: vec![early, down, early] });
    assert_eq!(s.describe_flow(flow_id).await, before);
    // No search is made where the upstream has no incoming edge, or the downstream no outgoing one.
    let fresh = s.member(flow_id, &[]).await;
    s.link(flow_id, fresh, down).await;
    let leaf = s.member(flow_id, &[]).await;
    s.link(flow_id, late, leaf).await;
    assert_eq!(s.describe_flow(flow_id).await.edge_count, before.edge_count + 2);

    // A staged edge is searched like any other.
    let (a, b) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let mut staged = s.edge_args(flow_id, a, b);
    staged.apply = false;
    s.stage(staged).await;
    let details = refusal_of(s.backend.stage_dependency_edge(s.edge_args(flow_id, b, a)).await, Code::CycleDetected);
    assert_eq!(details, Details::CycleDetected { cycle: vec![b, a, b] });
}

async fn grant_void(s: &Stage) {
    let flow_id = s.flow().await;
    let (up, down) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    s.grant(down).await;
    let claim = s.claim_by_id_args(down);
    let (edge_state, summary, _) = s.stage(s.edge_args(flow_id, up, down)).await;
    assert_eq!(edge_state, EdgeState::Pending);
    assert_eq!(summary.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
    assert_eq!(s.describe(down).await.grant, None);
    let refusal = s.refused_with(Code::ExecutionNotEligible, claim.clone()).await;
    assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::Dependencies);
    // It does not come back with the readiness.
    s.complete_as_operator(up).await;
    assert_eq!(s.state(down).await, StateName::Ready);
    s.refused_with(Code::InvalidClaimGrant, claim).await;
    s.claim_this(down).await;

    // An edge that is born satisfied leaves it READY, and the grant lives.
    let late = s.member(flow_id, &[]).await;
    let granted = s.grant(late).await;
    s.stage(s.edge_args(flow_id, up, late)).await;
    assert_eq!(s.grant(late).await, granted);
    s.backend.claim_execution(s.claim_by_id_args(late)).await.unwrap_or_else(|e| panic!("claim_execution: {e}"));
}

async fn data_edges(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 66, &[]).await;
    let named = |n: usize| {
        let mut edge = IncomingEdge::new(EdgeId::new(), ups[n]);
        edge.data_passing_ref = Some(data_name(&format!("in.{n}")));
        edge
    };
    let child = s.create(s.member_behind(flow_id, (0..63).map(named).collect())).await;
    let data_edge = |up: ExecutionId, name: &str, apply: bool| {
        let mut args = s.edge_args(flow_id, up, child);
        args.data_passing_ref = Some(data_name(name));
        args.apply = apply;
        args
    };
    let holder = s.edge_between(flow_id, ups[7], child).await.edge_id;
    for apply in [true, false] {
        let refusal = s.refused_with(Code::DataNameConflict, data_edge(ups[63], "in.7", apply)).await;
        assert_eq!(refusal.details(), &Details::DataNameConflict { edge_id: holder });
    }
    // The 64th is taken; only staged, it counts as well.
    s.stage(data_edge(ups[63], "in.63", false)).await;
    for apply in [true, false] {
        let refusal = s.refused_with(Code::FanInLimit, data_edge(ups[64], "in.64", apply)).await;
        assert_eq!(refusal.details(), &Details::FanInLimit { what: FanInPart::DataEdges, limit: 64 });
    }
    // Without data it is taken, and another child may use the name.
    s.link(flow_id, ups[64], child).await;
    let mut elsewhere = s.edge_args(flow_id, ups[64], ups[65]);
    elsewhere.data_passing_ref = Some(data_name("in.7"));
    s.stage(elsewhere).await;
}
