//! Joining flows, later and at creation.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{EdgeId, ExecutionId, FlowId, Namespace};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, EndCause, PublicState, StateName, StateVector, TerminalOutcome};

use crate::cases::cases;
use crate::stage::{Stage, data_name, edge_from, refusal_of, terminal_flow};

cases! { "flow";
    "add_execution_to_flow: a repeat answers AlreadyMember and raises no count." => added_twice,
    "add_execution_to_flow: a member of another flow, a terminal one, another namespace, a sealed flow and a full flow are refused with their codes." => not_added,
    "add_execution_to_flow: an unsealed flow shown as completed takes a member and reopens." => reopened,
    "create_execution: a member created for a flow with hold is claimable after the seal or its own promote and not before." => held,
    "create_execution: a member created with an edge and without hold is claimable at its upstream's success and not before, and skipped at once behind a failed one." => with_an_edge,
    "create_execution: a refused edge of a joining creation leaves no execution, member, edge or key behind." => refused_edge,
}

async fn added_twice(s: &Stage) {
    let flow_id = s.flow().await;
    s.member(flow_id, &[]).await;
    let (execution_id, fence) = {
        let id = s.ready().await;
        let claims = s.claim_next(2).await.claimed;
        let claim = claims.iter().find(|c| c.claimed().execution_id == id).unwrap_or_else(|| panic!("not claimed"));
        (id, claim.claimed().fence)
    };
    s.advance(10);
    let args = AddExecutionToFlowArgs { flow_id, execution_id };
    let added = s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    let summary = s.describe(execution_id).await.summary;
    assert_eq!(summary.state_vector, StateVector::RUNNING);
    let expected = AddExecutionToFlowResult::Added { execution_id, new_node_count: 2, new_graph_revision: 2, summary };
    assert_eq!(added, Outcome::AddExecutionToFlow(expected));
    let member = s.member_of(flow_id, execution_id).await;
    assert_eq!((member.held, member.member_name, member.public_state), (false, None, PublicState::Active));
    assert_eq!((member.unresolved_count, member.satisfied_count, member.impossible_count), (0, 0, 0));
    assert_eq!(s.describe(execution_id).await.flow_id, Some(flow_id));
    assert_eq!(s.describe_flow(flow_id).await.last_mutation_at, s.now());
    assert_eq!(s.count_of(flow_id, PublicState::Active).await, 2);

    s.advance(10);
    let again = AddExecutionToFlowResult::AlreadyMember { execution_id, node_count: 2, summary };
    assert_eq!(s.changes_nothing(args).await, Outcome::AddExecutionToFlow(again));
    // The lease stays: the owner goes on.
    let summary = s.complete(execution_id, fence).await;
    s.seal(flow_id).await;
    // Also of a terminal member of a sealed flow.
    let again = AddExecutionToFlowResult::AlreadyMember { execution_id, node_count: 2, summary };
    assert_eq!(s.changes_nothing(args).await, Outcome::AddExecutionToFlow(again));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.node_count, flow.graph_revision), (2, 2));
}

async fn not_added(s: &Stage) {
    let flow_id = s.flow().await;
    let unknown = FlowId::from_parts(crate::stage::PARTITION, uuid::Uuid::from_u128(7));
    let alone = s.ready().await;
    let add = |flow_id, execution_id| AddExecutionToFlowArgs { flow_id, execution_id };
    s.refused_with(Code::FlowNotFound, add(unknown, alone)).await;
    s.refused_with(Code::ExecutionNotFound, add(flow_id, s.execution_id())).await;

    let other = s.flow().await;
    let member = s.member(other, &[]).await;
    let refusal = s.refused_with(Code::ExecutionAlreadyInFlow, add(flow_id, member)).await;
    assert_eq!(refusal.details(), &Details::ExecutionAlreadyInFlow { flow_id: other });

    let ended = s.ready().await;
    s.cancel(ended).await;
    let refusal = s.refused_with(Code::ExecutionTerminal, add(flow_id, ended)).await;
    assert_eq!(refusal.details(), &Details::ExecutionTerminal { terminal_outcome: TerminalOutcome::Cancelled });

    let mut args = s.creation();
    args.namespace = Namespace::new("elsewhere").unwrap_or_else(|e| panic!("{e}"));
    let foreign = s.create(args).await;
    s.refused_with(Code::NamespaceMismatch, add(flow_id, foreign)).await;

    // Sealed: with an open member, finished, empty, cancelled.
    let sealed = s.flow().await;
    let open = s.member(sealed, &[]).await;
    s.seal(sealed).await;
    s.refused_with(Code::FlowSealed, add(sealed, alone)).await;
    s.complete_as_operator(open).await;
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, add(sealed, alone)).await;
    assert_eq!(terminal_flow(&refusal), (Some(PublicFlowState::Completed), None));
    let empty = s.flow().await;
    s.seal(empty).await;
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, add(empty, alone)).await;
    assert_eq!(terminal_flow(&refusal), (Some(PublicFlowState::Open), None));
    let cancelled = s.flow().await;
    s.member(cancelled, &[]).await;
    s.cancel_flow(cancelled, CancellationPolicy::FlowOnly).await;
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, add(cancelled, alone)).await;
    assert_eq!(terminal_flow(&refusal), (Some(PublicFlowState::Cancelled), Some(CancellationPolicy::FlowOnly)));

    // Full: 10 000 members.
    let full = s.flow().await;
    s.members(full, 9_999, &[]).await;
    s.join(full, alone).await;
    let one_more = s.ready().await;
    let details = refusal_of(s.backend.add_execution_to_flow(add(full, one_more)).await, Code::FlowTooLarge);
    assert_eq!(details, Details::FlowTooLarge { what: FlowPart::Members, limit: 10_000 });
    let joining = s.member_creation(full, &[]);
    let id = joining.execution_id;
    let details = refusal_of(s.backend.create_execution(joining).await, Code::FlowTooLarge);
    assert_eq!(details, Details::FlowTooLarge { what: FlowPart::Members, limit: 10_000 });
    s.gone(id).await;
    let flow = s.describe_flow(full).await;
    assert_eq!((flow.node_count, flow.graph_revision), (10_000, 10_000));
    assert_eq!(s.describe(one_more).await.flow_id, None);
}

async fn reopened(s: &Stage) {
    let flow_id = s.flow().await;
    let first = s.member(flow_id, &[]).await;
    let fence = s.claim_this(first).await.fence;
    s.complete(first, fence).await;
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.public_flow_state, flow.sealed, flow.purge_at), (PublicFlowState::Completed, false, None));
    let second = s.ready().await;
    let summary = s.join(flow_id, second).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.public_flow_state, flow.node_count, flow.graph_revision), (PublicFlowState::Open, 2, 2));
    // It takes an edge to the new member, too: the upstream has succeeded.
    let (edge_state, child, _) = s.stage(s.edge_args(flow_id, first, second)).await;
    assert_eq!((edge_state, child.state_vector), (EdgeState::Satisfied, summary.state_vector));
    let fence = s.claim_this(second).await.fence;
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Running);
    s.complete(second, fence).await;
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Completed);
}

async fn held(s: &Stage) {
    let flow_id = s.flow().await;
    let (promoted, sealed) = (s.held_member(flow_id).await, s.held_member(flow_id).await);
    let deps = StateVector::deps(AttemptState::PendingFirstAttempt);
    for id in [promoted, sealed] {
        assert_eq!(s.vector(id).await, deps);
        assert!(s.member_of(flow_id, id).await.held);
        let refusal = s.refused_with(Code::ExecutionNotEligible, s.grant_args(id, 10_000)).await;
        assert_eq!(crate::stage::not_eligible_cause(&refusal), NotEligibleCause::Dependencies);
    }
    s.advance(86_400_000);
    s.sweep().await;
    assert!(s.claim_next(2).await.claimed.is_empty(), "time alone releases nobody");

    match s.promote(promoted).await {
        PromoteBlockedToEligibleResult::Promoted { summary, .. } => {
            assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingFirstAttempt));
        }
        other => panic!("{other:?}"),
    }
    assert!(!s.member_of(flow_id, promoted).await.held);
    assert!(s.member_of(flow_id, sealed).await.held, "only its own hold");
    s.claim_this(promoted).await;
    assert!(s.claim_next(1).await.claimed.is_empty());

    s.seal(flow_id).await;
    assert!(!s.member_of(flow_id, sealed).await.held);
    s.claim_this(sealed).await;
}

async fn with_an_edge(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let args = s.member_creation(flow_id, &[up]);
    let (down, edge_id) = (args.execution_id, args.flow.as_ref().map(|f| f.edges[0].edge_id));
    match s.backend.create_execution(args).await {
        Ok(CreateExecutionResult::Created { summary, .. }) => {
            assert_eq!(summary.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
        }
        other => panic!("{other:?}"),
    }
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.graph_revision, flow.node_count, flow.edge_count), (2, 2, 1));
    let edge = s.edge_between(flow_id, up, down).await;
    assert_eq!((Some(edge.edge_id), edge.edge_state, edge.applied_at), (edge_id, EdgeState::Pending, Some(s.now())));
    assert!(!s.member_of(flow_id, down).await.held);
    let fence = s.claim_this(up).await.fence;
    s.seal(flow_id).await;
    assert_eq!(s.state(down).await, StateName::Deps, "the seal is not what it waits for");
    assert!(s.claim_next(1).await.claimed.is_empty());
    s.complete(up, fence).await;
    s.claim_this(down).await;

    // Behind an upstream that has succeeded, and behind one that has failed.
    let flow_id = s.flow().await;
    let good = s.member(flow_id, &[]).await;
    s.complete_as_operator(good).await;
    let bad = s.member(flow_id, &[]).await;
    s.fail_as_operator(bad).await;
    let after_good = s.member(flow_id, &[good]).await;
    assert_eq!(s.vector(after_good).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    let args = s.member_creation(flow_id, &[good, bad]);
    let after_bad = args.execution_id;
    match s.backend.create_execution(args).await {
        Ok(CreateExecutionResult::Created { summary, .. }) => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
        }
        other => panic!("{other:?}"),
    }
    let x = s.describe(after_bad).await;
    assert_eq!((x.end_cause, x.ended_by), (Some(EndCause::DependencyImpossible), Some(EndedBy::Engine)));
    assert_eq!(s.counts_of(flow_id, after_bad).await, (0, 1, 1));
    let after_any = s.create(s.member_behind(flow_id, vec![edge_from(bad, DependencyKind::AnyTerminal)])).await;
    assert_eq!(s.state(after_any).await, StateName::Ready);
    assert_eq!(s.claim_next(5).await.claimed.len(), 2);
}

async fn refused_edge(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.chain(flow_id, 3).await;
    let known = s.edge_between(flow_id, ups[0], ups[1]).await.edge_id;
    let outside = s.ready().await;
    let named = |up: ExecutionId, name: &str| {
        let mut edge = IncomingEdge::new(EdgeId::new(), up);
        edge.data_passing_ref = Some(data_name(name));
        edge
    };
    let fresh = |up: ExecutionId| IncomingEdge::new(EdgeId::new(), up);
    let (first, twice) = (fresh(ups[0]), EdgeId::new());
    let data = named(ups[0], "in");
    let refusals = [
        (vec![fresh(ups[0]), IncomingEdge::new(known, ups[1])], Details::DependencyAlreadyExists { edge_id: known }),
        (
            vec![IncomingEdge::new(twice, ups[0]), IncomingEdge::new(twice, ups[1])],
            Details::DependencyAlreadyExists { edge_id: twice },
        ),
        (vec![first.clone(), fresh(ups[0])], Details::DependencyAlreadyExists { edge_id: first.edge_id }),
        (vec![fresh(ups[0]), fresh(outside)], Details::ExecutionNotInFlow { execution_id: outside }),
        (vec![data.clone(), named(ups[1], "in")], Details::DataNameConflict { edge_id: data.edge_id }),
        ((0..65).map(|_| fresh(ups[0])).collect(), Details::InvalidInput { field: "flow.edges".to_owned() }),
    ];
    for (edges, details) in refusals {
        let mut args = s.member_behind(flow_id, edges);
        args.idempotency_key = Some("once".to_owned());
        args.delay = Some(ff_core::time::When::After(1_000));
        let (id, edge_ids): (_, Vec<_>) =
            (args.execution_id, args.flow.iter().flat_map(|f| &f.edges).map(|e| e.edge_id).collect());
        let refusal = s.refused_with(details.code(), args).await;
        assert_eq!(refusal.details(), &details);
        s.gone(id).await;
        let flow = s.describe_flow(flow_id).await;
        assert_eq!((flow.node_count, flow.edge_count, flow.graph_revision), (3, 2, 3));
        assert!(s.list_members(flow_id, 10).await.iter().all(|m| m.execution_id != id));
        for edge_id in edge_ids.into_iter().filter(|id| *id != known) {
            let args = DescribeEdgeArgs { flow_id, edge_id };
            s.refused_with(Code::EdgeNotFound, args).await;
        }
    }
    assert_eq!(s.sweep().await.next_due_at, None, "no timer stands");
    assert_eq!(s.claim_next(10).await.claimed.len(), 2, "the first of the chain, and the one outside");
    assert_eq!(s.rebuild().await.total(), 0);
    // The key is free, for other content.
    let mut args = s.member_behind(flow_id, vec![named(ups[0], "in"), named(ups[1], "in.2")]);
    args.idempotency_key = Some("once".to_owned());
    let id = s.create(args).await;
    assert_eq!(s.describe(id).await.idempotency_key.as_deref(), Some("once"));
}
