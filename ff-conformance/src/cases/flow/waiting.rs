//! Waiting for others, and what their results come as.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, EdgeId, ExecutionId};
use ff_core::state::{AttemptState, AttemptType, StateVector, TerminalOutcome};

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, data_name, retries};

cases! { "flow";
    "move_to_waiting_children: edges added while the parent ran and resolved before the call leave it its lease." => already_there,
    "move_to_waiting_children: a parked parent wakes when the last edge resolves and is told of the impossible ones." => parked,
    "claim_next: three data edges, one of them without a result, give inputs by reference and the own payload intact." => inputs,
    "claim_next: an upstream replayed after the child's first claim leaves the child's inputs on the old run, also at its retry." => old_inputs,
}

async fn already_there(s: &Stage) {
    let flow_id = s.flow().await;
    let parent = s.member(flow_id, &[]).await;
    let fence = s.claim_this(parent).await.fence;
    s.advance(10);
    let children = s.members(flow_id, 3, &[]).await;
    for child in &children {
        s.link(flow_id, *child, parent).await;
    }
    assert_eq!(s.counts_of(flow_id, parent).await, (3, 0, 0));
    for claim in s.claim_next(2).await.claimed {
        s.complete(claim.claimed().execution_id, claim.claimed().fence).await;
    }
    s.cancel(children[2]).await;
    let before = s.describe(parent).await;
    assert_eq!(before.summary.state_vector, StateVector::RUNNING);
    s.changes_nothing(MoveToWaitingChildrenArgs { execution_id: parent, fence }).await;
    match s.wait_for_children(parent, fence).await {
        MoveToWaitingChildrenResult::AlreadySatisfied { impossible_count, summary } => {
            assert_eq!(impossible_count, 1);
            assert_eq!(summary.state_vector, StateVector::RUNNING);
        }
        other @ MoveToWaitingChildrenResult::Moved { .. } => panic!("{other:?}"),
    }
    let x = s.describe(parent).await;
    assert_eq!(x.current_lease.map(|l| l.lease_id), Some(fence.lease_id));
    assert_eq!(x.lease_epoch, fence.lease_epoch);
    assert_eq!(s.renew(parent, fence, LEASE_MS).await, s.now().after(LEASE_MS));
    s.complete(parent, fence).await;
}

async fn parked(s: &Stage) {
    let flow_id = s.flow().await;
    let parent = s.member(flow_id, &[]).await;
    let fence = s.claim_this(parent).await.fence;
    let children = s.members(flow_id, 4, &[]).await;
    for child in &children {
        s.link(flow_id, *child, parent).await;
    }
    s.complete_as_operator(children[0]).await;
    match s.wait_for_children(parent, fence).await {
        MoveToWaitingChildrenResult::Moved { unresolved_count, impossible_count, summary } => {
            assert_eq!((unresolved_count, impossible_count), (3, 0));
            assert_eq!(summary.state_vector, StateVector::deps(AttemptState::AttemptInterrupted));
        }
        other @ MoveToWaitingChildrenResult::AlreadySatisfied { .. } => panic!("{other:?}"),
    }
    assert_eq!(s.describe(parent).await.current_lease, None);
    s.fail_as_operator(children[1]).await;
    assert_eq!(
        s.vector(parent).await,
        StateVector::deps(AttemptState::AttemptInterrupted),
        "an impossible edge wakes nobody"
    );
    s.cancel(children[2]).await;
    assert_eq!(s.counts_of(flow_id, parent).await, (1, 1, 2));
    assert_eq!(s.vector(parent).await, StateVector::deps(AttemptState::AttemptInterrupted));
    s.advance(10);
    s.complete_as_operator(children[3]).await;
    assert_eq!(s.vector(parent).await, StateVector::ready(AttemptState::AttemptInterrupted));
    let result = s.claim_next(1).await;
    let [NextClaim::Resumed(resumed)] = result.claimed.as_slice() else { panic!("{result:?}") };
    assert_eq!(resumed.cause, ResumeCause::ChildrenDone { satisfied_count: 2, impossible_count: 2 });
    assert_eq!(resumed.claimed.execution_id, parent);
    assert_eq!(resumed.claimed.attempt_id, fence.attempt_id);
    assert_eq!(resumed.claimed.attempt_index, AttemptIndex(0));
    s.complete(parent, resumed.claimed.fence).await;
}

fn data_edge(up: ExecutionId, name: &str, dependency_kind: DependencyKind) -> IncomingEdge {
    IncomingEdge { dependency_kind, data_passing_ref: Some(data_name(name)), ..IncomingEdge::new(EdgeId::new(), up) }
}

async fn inputs(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 5, &[]).await;
    let edges = vec![
        data_edge(ups[3], "z.last", DependencyKind::SuccessOnly),
        data_edge(ups[0], "a", DependencyKind::SuccessOnly),
        IncomingEdge::new(EdgeId::new(), ups[4]),
        data_edge(ups[1], "none", DependencyKind::SuccessOnly),
        data_edge(ups[2], "failed", DependencyKind::AnyTerminal),
    ];
    let ids: Vec<_> = edges.iter().map(|e| e.edge_id).collect();
    let mut args = s.member_behind(flow_id, edges);
    let payload: Vec<u8> = (0..=255).collect();
    args.payload = Bytes::from(payload.clone());
    args.payload_encoding = Some("raw".to_owned());
    let child = s.create(args).await;
    // A result, none, an upstream that failed, an empty result, and one that passes no data.
    for (n, claim) in s.claim_next(5).await.claimed.into_iter().enumerate() {
        let claimed = claim.claimed();
        assert_eq!(claimed.execution_id, ups[n]);
        assert!(claimed.inputs.is_empty());
        match n {
            0 => drop(s.complete_with(ups[n], claimed.fence, b"hello").await),
            1 => drop(s.complete(ups[n], claimed.fence).await),
            2 => drop(s.fail_for_good(ups[n], claimed.fence).await),
            3 => drop(s.complete_with(ups[n], claimed.fence, b"").await),
            _ => drop(s.complete_with(ups[n], claimed.fence, b"unasked").await),
        }
    }
    let claimed = s.claim_this(child).await;
    assert_eq!(claimed.payload, payload);
    assert_eq!(claimed.payload_encoding.as_deref(), Some("raw"));
    let input = |name: &str, edge_id, up, upstream_outcome, size_bytes| FlowInput {
        name: data_name(name),
        edge_id,
        upstream_execution_id: up,
        upstream_outcome,
        upstream_run: 0,
        attempt_index: Some(AttemptIndex(0)),
        size_bytes,
    };
    let expected = [
        input("z.last", ids[0], ups[3], TerminalOutcome::Success, Some(0)),
        input("a", ids[1], ups[0], TerminalOutcome::Success, Some(5)),
        input("none", ids[3], ups[1], TerminalOutcome::Success, None),
        input("failed", ids[4], ups[2], TerminalOutcome::Failed, None),
    ];
    assert_eq!(claimed.inputs, expected, "by seq");
    let bytes = s.result(ups[0], ResultSelector::Run(claimed.inputs[1].upstream_run)).await;
    assert_eq!(bytes.result.as_deref(), Some(b"hello".as_slice()));
    let stored = s.backend.get_payload(GetPayloadArgs { execution_id: child }).await;
    assert_eq!(stored.map(|p| p.payload.to_vec()).unwrap_or_default(), payload);

    // An upstream that an operator completed before any claim has no attempt.
    let up = s.member(flow_id, &[]).await;
    let child = s.create(s.member_behind(flow_id, vec![data_edge(up, "in", DependencyKind::SuccessOnly)])).await;
    s.complete_as_operator(up).await;
    let claimed = s.claim_this(child).await;
    assert_eq!(claimed.inputs.iter().map(|i| (i.attempt_index, i.size_bytes)).collect::<Vec<_>>(), [(None, None)]);
}

async fn old_inputs(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let mut args = s.member_behind(flow_id, vec![data_edge(up, "in", DependencyKind::SuccessOnly)]);
    args.policy = Arc::new(retries(5, 0));
    let child = s.create(args).await;
    let fence = s.claim_this(up).await.fence;
    s.complete_with(up, fence, b"first").await;
    let claimed = s.claim_this(child).await;
    let first = claimed.inputs.clone();
    assert_eq!((first.len(), first[0].upstream_run, first[0].size_bytes), (1, 0, Some(5)));

    s.replay(up, 0).await;
    assert_eq!(s.vector(child).await, StateVector::RUNNING);
    s.fail_and_retry(child, claimed.fence).await;
    assert_eq!(s.vector(child).await, StateVector::ready(AttemptState::PendingRetryAttempt), "its edge stays resolved");
    let taken = s.claim_next(2).await.claimed;
    assert_eq!(taken.len(), 2);
    for claim in taken {
        let claimed = claim.claimed();
        if claimed.execution_id == child {
            assert_eq!((claimed.attempt_type, claimed.inputs.clone()), (AttemptType::Retry, first.clone()));
            s.fail_and_retry(child, claimed.fence).await;
        } else {
            assert_eq!((claimed.execution_id, claimed.run), (up, 1));
            s.complete_with(up, claimed.fence, b"the second").await;
        }
    }
    let claimed = s.claim_this(child).await;
    assert_eq!(claimed.inputs, first, "also once the new run has ended");
    assert!(s.edge_between(flow_id, up, child).await.stale_upstream);
    let bytes = s.result(up, ResultSelector::Run(0)).await;
    assert_eq!(bytes.result.as_deref(), Some(b"first".as_slice()));
    // Its own replay reads the edge anew.
    s.complete(child, claimed.fence).await;
    s.replay(child, 0).await;
    let claimed = s.claim_this(child).await;
    assert_eq!((claimed.inputs[0].upstream_run, claimed.inputs[0].size_bytes), (1, Some(10)));
    assert_eq!(claimed.inputs[0].attempt_index, Some(AttemptIndex(1)));
}
