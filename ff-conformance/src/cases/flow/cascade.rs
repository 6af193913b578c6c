//! What the end of a member does to those behind it.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::error::EngineError;
use ff_core::operation::Outcome;
use ff_core::state::{
    AttemptState, BlockReason, BlockingReason, EndCause, NotBeforeKind, PublicState, StateName, StateVector,
    TerminalOutcome,
};
use ff_core::time::When;

use crate::cases::cases;
use crate::harness::Damage;
use crate::stage::{Stage, edge_from, retries};

cases! { "flow";
    "complete_execution: in a diamond the sink is claimable after the call that completes the second middle." => diamond,
    "fail_execution: in a diamond one failed middle skips the sink and leaves the other middle alone." => broken_diamond,
    "fail_execution: an any_terminal child becomes claimable." => any_terminal,
    "complete_execution: a child that is delayed, held by an operator or blocked by budget goes to that state when its last edge resolves." => held_otherwise,
    "complete_execution: an active or suspended child only counts and obeys at its next gate, and a terminal one never moves." => only_counts,
    "fail_execution: a claimed child of an impossible edge is never ended by it." => claimed_child;
    damage:
    "complete_execution: a child that cannot be decoded keeps neither its upstream from ending nor its siblings from waking." => unreadable_child [Unreadable, Readable],
    "complete_execution: an edge that cannot be decoded is passed by, and its id is nobody else's." => unreadable_edge [EdgeUnreadable, EdgeReadable],
    "sweep: a flow that cannot be decoded is in nobody's way and is listed." => unreadable_flow [FlowUnreadable, FlowReadable],
    "cancel_flow: a member whose suspension cannot be decoded is passed by." => unreadable_suspension [SuspensionUnreadable, SuspensionReadable],
}

async fn diamond(s: &Stage) {
    let flow_id = s.flow().await;
    let source = s.member(flow_id, &[]).await;
    let (left, right) = (s.member(flow_id, &[source]).await, s.member(flow_id, &[source]).await);
    let sink = s.member(flow_id, &[left, right]).await;
    let fence = s.claim_this(source).await.fence;
    s.complete(source, fence).await;
    let (one, two) = (s.claim_this(left).await.fence, s.claim_this(right).await.fence);
    assert!(s.claim_next(1).await.claimed.is_empty());
    s.complete(left, one).await;
    assert_eq!(s.vector(sink).await, StateVector::deps(AttemptState::PendingFirstAttempt));
    assert_eq!(s.counts_of(flow_id, sink).await, (1, 1, 0));
    assert!(s.claim_next(1).await.claimed.is_empty());
    s.complete(right, two).await;
    assert_eq!(s.vector(sink).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    assert_eq!(s.counts_of(flow_id, sink).await, (0, 2, 0));
    assert_eq!(s.deferred(flow_id).await, 0);
    let fence = s.claim_by_id(sink).await.fence;
    s.complete(sink, fence).await;
    s.seal(flow_id).await;
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Completed);
}

async fn broken_diamond(s: &Stage) {
    let flow_id = s.flow().await;
    let source = s.member(flow_id, &[]).await;
    let (left, right) = (s.member(flow_id, &[source]).await, s.member(flow_id, &[source]).await);
    let sink = s.member(flow_id, &[left, right]).await;
    let fence = s.claim_this(source).await.fence;
    s.complete(source, fence).await;
    let (one, two) = (s.claim_this(left).await.fence, s.claim_this(right).await.fence);
    let before = s.describe(right).await;
    s.advance(10);
    s.fail_for_good(left, one).await;
    let x = s.describe(sink).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
    assert_eq!(
        (x.end_cause, x.ended_by, x.completed_at),
        (Some(EndCause::DependencyImpossible), Some(EndedBy::Engine), Some(s.now()))
    );
    assert_eq!(s.describe(right).await, before, "the other middle is left alone");
    // Its own edge to the sink still waits for it.
    assert_eq!(s.edge_between(flow_id, right, sink).await.edge_state, EdgeState::Pending);
    assert_eq!(s.edge_between(flow_id, left, sink).await.edge_state, EdgeState::Impossible);
    assert_eq!(s.counts_of(flow_id, sink).await, (1, 0, 1));
    s.complete(right, two).await;
    assert_eq!(s.outcome(sink).await, TerminalOutcome::Skipped);
    assert_eq!(s.counts_of(flow_id, sink).await, (0, 1, 1));
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Failed);
}

async fn any_terminal(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let behind = |kind| s.member_behind(flow_id, vec![edge_from(up, kind)]);
    let tolerant = s.create(behind(DependencyKind::AnyTerminal)).await;
    let strict = s.create(behind(DependencyKind::SuccessOnly)).await;
    let fence = s.claim_this(up).await.fence;
    s.fail_for_good(up, fence).await;
    assert_eq!(s.outcome(strict).await, TerminalOutcome::Skipped);
    assert_eq!(s.edge_between(flow_id, up, tolerant).await.upstream_outcome, Some(TerminalOutcome::Failed));
    s.claim_this(tolerant).await;

    // Every other outcome satisfies it too: cancelled, skipped, expired.
    let flow_id = s.flow().await;
    for state in [PublicState::Cancelled, PublicState::Expired, PublicState::Skipped] {
        let failed = s.member_that_is(flow_id, PublicState::Failed, &[]).await;
        let up = s.member_that_is(flow_id, state, &[failed]).await;
        let child = s.create(s.member_behind(flow_id, vec![edge_from(up, DependencyKind::AnyTerminal)])).await;
        s.claim_this(child).await;
    }
}

async fn held_otherwise(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 2, &[]).await;
    let mut delayed = s.member_creation(flow_id, &ups);
    delayed.delay = Some(When::After(60_000));
    let delayed = s.create(delayed).await;
    let paused = s.member(flow_id, &ups).await;
    let parked = s.member(flow_id, &ups).await;
    let deps = StateVector::deps(AttemptState::PendingFirstAttempt);
    assert_eq!(s.block(paused, BlockReason::PausedByOperator).await.state_vector, deps);
    assert_eq!(s.block(parked, BlockReason::WaitingForBudget).await.state_vector, deps);
    s.complete_as_operator(ups[0]).await;
    for id in [delayed, paused, parked] {
        assert_eq!(s.vector(id).await, deps);
    }
    s.complete_as_operator(ups[1]).await;
    let first = AttemptState::PendingFirstAttempt;
    assert_eq!(s.vector(delayed).await, StateVector::delayed(NotBeforeKind::Delay, first));
    assert_eq!(s.vector(paused).await, StateVector::blocked(BlockReason::PausedByOperator, first));
    assert_eq!(s.vector(parked).await, StateVector::blocked(BlockReason::WaitingForBudget, first));
    assert!(s.claim_next(3).await.claimed.is_empty());
    assert_eq!(s.count_of(flow_id, PublicState::Delayed).await, 1);
    assert_eq!(s.count_of(flow_id, PublicState::RateLimited).await, 1);
    // Each leaves it as it would without any edge.
    s.advance(60_000);
    s.sweep().await;
    assert_eq!(s.state(delayed).await, StateName::Ready);
    assert_eq!(s.state(parked).await, StateName::Ready, "a budget block without until ends after a minute");
    assert_eq!(s.state(paused).await, StateName::Blocked);
    s.unblock(paused, BlockReason::PausedByOperator).await;
    assert_eq!(s.claim_next(5).await.claimed.len(), 3);
}

async fn unreadable_child(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let (first, hurt, last) =
        (s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await);
    let fence = s.claim_this(up).await.fence;
    s.damage(Damage::Unreadable(hurt)).await;
    let summary = s.complete(up, fence).await;
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Success, true));
    assert_eq!(s.state(first).await, StateName::Ready);
    assert_eq!(s.state(last).await, StateName::Ready);
    s.sweep().await;
    assert_eq!(s.state(up).await, StateName::Done);
    // Readable again, it is owed its edge, and a rebuild says so.
    s.damage(Damage::Readable(hurt)).await;
    assert_eq!(s.state(hurt).await, StateName::Deps);
    let report = s.rebuild().await;
    assert_eq!(report.count(IndexKind::Backlog, RepairAction::Added), 1);
    s.sweep().await;
    assert_eq!(s.state(hurt).await, StateName::Ready);
    assert_eq!(s.claim_next(5).await.claimed.len(), 3);
}

async fn unreadable_edge(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let (first, hurt, last) =
        (s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await, s.member(flow_id, &[up]).await);
    let edge_id = s.edge_between(flow_id, up, hurt).await.edge_id;
    let fence = s.claim_this(up).await.fence;
    s.damage(Damage::EdgeUnreadable((flow_id, edge_id))).await;
    s.complete(up, fence).await;
    let states = [s.state(first).await, s.state(hurt).await, s.state(last).await];
    assert_eq!(states, [StateName::Ready, StateName::Deps, StateName::Ready]);
    let mut taking = s.member_creation(flow_id, &[up]);
    taking.flow = Some(FlowJoin { flow_id, hold: false, edges: vec![IncomingEdge::new(edge_id, up)] });
    let answer = s.backend.create_execution(taking).await;
    assert!(matches!(answer, Err(EngineError::Corruption(_))), "{answer:?}");
    let report = s.rebuild().await;
    assert_eq!((report.corrupt.clone(), report.total()), (vec![edge_id.to_string()], 0));
    s.damage(Damage::EdgeReadable((flow_id, edge_id))).await;
    assert_eq!(s.rebuild().await.count(IndexKind::Backlog, RepairAction::Added), 1);
    s.sweep().await;
    assert_eq!(s.state(hurt).await, StateName::Ready);
}

async fn unreadable_flow(s: &Stage) {
    let start = s.now();
    let flow_id = s.flow().await;
    let mut args = s.member_creation(flow_id, &[]);
    args.delay = Some(When::After(10));
    let delayed = s.create(args).await;
    let up = s.member(flow_id, &[]).await;
    s.member(flow_id, &[up]).await;
    let closed = s.flow().await;
    s.seal(closed).await;
    let other = s.delayed(10).await;
    s.damage(Damage::FlowUnreadable(flow_id)).await;
    s.damage(Damage::FlowUnreadable(closed)).await;
    s.advance(10);
    let report = s.sweep().await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::Delay, id: delayed.to_string() }]);
    let page = s.claim_next(3).await;
    let taken: Vec<_> = page.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!((taken, page.ready_remaining), (vec![other], 0), "its members leave their queue");
    let answers = [
        s.backend.describe_flow(DescribeFlowArgs { flow_id }).await.err(),
        s.backend.cancel_flow(s.cancellation(flow_id, CancellationPolicy::CancelAll)).await.err(),
    ];
    assert!(answers.iter().all(|e| matches!(e, Some(EngineError::Corruption(_)))), "{answers:?}");
    // The purge of the closed one.
    s.set(start.after(86_400_000));
    let report = s.sweep().await;
    assert!(report.corrupt.contains(&CorruptEntry { kind: SweepKind::Retention, id: closed.to_string() }));
    let listed = s.rebuild().await.corrupt;
    assert!(listed.contains(&flow_id.to_string()) && listed.contains(&closed.to_string()), "{listed:?}");
    // Once they can be read, a rebuild brings back what was dropped.
    s.damage(Damage::FlowReadable(flow_id)).await;
    s.damage(Damage::FlowReadable(closed)).await;
    assert_eq!(s.rebuild().await.corrupt, [] as [String; 0]);
    s.sweep().await;
    s.flow_gone(closed).await;
    let taken: Vec<_> = s.claim_next(3).await.claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert!(taken.contains(&delayed) && taken.contains(&up), "{taken:?}");
    assert_eq!(s.rebuild().await.total(), 0);
    s.recount(flow_id, "the flow could be read again").await;
}

async fn unreadable_suspension(s: &Stage) {
    let flow_id = s.flow().await;
    let hurt = s.member(flow_id, &[]).await;
    let fence = s.claim_this(hurt).await.fence;
    let mut args = s.any_signal(hurt, fence);
    args.timeout = SuspensionTimeout::After { after_ms: 1_000, behavior: TimeoutBehavior::Fail };
    s.suspend(args).await;
    let others = [s.member(flow_id, &[]).await, s.member(flow_id, &[]).await];
    let due = s.delayed(1_000).await;
    s.damage(Damage::SuspensionUnreadable(hurt)).await;
    s.advance(1_000);
    let report = s.sweep().await;
    assert_eq!(report.corrupt, [CorruptEntry { kind: SweepKind::SuspensionTimeout, id: hurt.to_string() }]);
    assert_eq!(s.state(due).await, StateName::Ready);
    assert_eq!(s.rebuild().await.corrupt, [hurt.to_string()]);
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    s.all_ended(&others, TerminalOutcome::Cancelled).await;
    s.damage(Damage::SuspensionReadable(hurt)).await;
    s.rebuild().await;
    s.sweep().await;
    // Its timeout comes first.
    s.all_ended(&[hurt], TerminalOutcome::Failed).await;
}

async fn only_counts(s: &Stage) {
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 2, &[]).await;
    s.block(ups[0], BlockReason::PausedByOperator).await;
    s.block(ups[1], BlockReason::PausedByOperator).await;
    let active = s.member(flow_id, &[]).await;
    let fence = s.claim_this(active).await.fence;
    let suspended = s.member(flow_id, &[]).await;
    let other = s.claim_this(suspended).await.fence;
    let waitpoint = s.suspend_on_any_signal(suspended, other).await;
    let mut args = s.member_creation(flow_id, &[]);
    args.policy = Arc::new(retries(1, 0));
    let retried = s.create(args).await;
    let failing = s.claim_this(retried).await.fence;
    let ended = s.member(flow_id, &ups).await;
    s.cancel(ended).await;
    for down in [active, suspended, retried] {
        for up in &ups {
            s.link(flow_id, *up, down).await;
        }
    }
    let waiting = StateVector::suspended(BlockingReason::WaitingForSignal);
    assert_eq!(s.vector(active).await, StateVector::RUNNING);
    assert_eq!(s.vector(suspended).await, waiting);

    s.complete_as_operator(ups[0]).await;
    let all = [
        (active, StateVector::RUNNING),
        (suspended, waiting),
        (retried, StateVector::RUNNING),
        (ended, StateVector::done(TerminalOutcome::Cancelled, false)),
    ];
    for (id, vector) in all {
        assert_eq!(s.vector(id).await, vector);
        assert_eq!(s.counts_of(flow_id, id).await, (1, 1, 0));
        assert_eq!(s.edge_between(flow_id, ups[0], id).await.edge_state, EdgeState::Satisfied);
    }
    // Each obeys at its next gate: the park, the resume, the retry.
    match s.wait_for_children(active, fence).await {
        MoveToWaitingChildrenResult::Moved { unresolved_count, impossible_count, summary } => {
            assert_eq!((unresolved_count, impossible_count), (1, 0));
            assert_eq!(summary.state_vector, StateVector::deps(AttemptState::AttemptInterrupted));
        }
        other @ MoveToWaitingChildrenResult::AlreadySatisfied { .. } => panic!("{other:?}"),
    }
    let summary = s.wake_by_signal(suspended, &waitpoint).await;
    assert_eq!(summary.state_vector, StateVector::deps(AttemptState::AttemptInterrupted));
    s.fail_and_retry(retried, failing).await;
    assert_eq!(s.vector(retried).await, StateVector::deps(AttemptState::PendingRetryAttempt));
    assert!(s.claim_next(5).await.claimed.is_empty());

    s.complete_as_operator(ups[1]).await;
    assert_eq!(s.vector(active).await, StateVector::ready(AttemptState::AttemptInterrupted));
    assert_eq!(s.vector(suspended).await, StateVector::ready(AttemptState::AttemptInterrupted));
    assert_eq!(s.vector(retried).await, StateVector::ready(AttemptState::PendingRetryAttempt));
    assert_eq!(s.vector(ended).await, StateVector::done(TerminalOutcome::Cancelled, false));
    for (id, _) in all {
        assert_eq!(s.counts_of(flow_id, id).await, (0, 2, 0));
    }
    assert_eq!(s.claim_next(5).await.claimed.len(), 3);
}

async fn claimed_child(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.block(up, BlockReason::PausedByOperator).await;
    let sibling = s.member(flow_id, &[]).await;
    s.block(sibling, BlockReason::PausedByOperator).await;
    let with_retries = |delay_ms| {
        let mut args = s.member_creation(flow_id, &[]);
        args.policy = Arc::new(retries(5, delay_ms));
        args
    };
    // Each of these was claimed: RUNNING, SUSPENDED, DELAYED by backoff, DEPS behind another edge, REVOKED.
    let running = s.create(with_retries(0)).await;
    let fence = s.claim_this(running).await.fence;
    let suspended = s.create(with_retries(0)).await;
    let other = s.claim_this(suspended).await.fence;
    let waitpoint = s.suspend_on_any_signal(suspended, other).await;
    let backing_off = s.create(with_retries(60_000)).await;
    let other = s.claim_this(backing_off).await.fence;
    s.fail_and_retry(backing_off, other).await;
    let parked = s.create(with_retries(0)).await;
    let other = s.claim_this(parked).await.fence;
    s.link(flow_id, sibling, parked).await;
    s.wait_for_children(parked, other).await;
    let revoked = s.create(with_retries(0)).await;
    let other = s.claim_this(revoked).await.fence;
    s.revoke(revoked, other).await;
    let all = [running, suspended, backing_off, parked, revoked];
    for id in all {
        s.link(flow_id, up, id).await;
    }
    let mut before = Vec::new();
    for id in all {
        before.push(s.vector(id).await);
    }
    assert_eq!(before[2], StateVector::deps(AttemptState::PendingRetryAttempt), "the edge comes before the backoff");
    let fresh = s.member(flow_id, &[up]).await;

    s.unblock(up, BlockReason::PausedByOperator).await;
    let claims = s.claim_next(9).await.claimed;
    let owner = |id| claims.iter().find(|c| c.claimed().execution_id == id).map(|c| c.claimed().fence);
    let failing = owner(up).unwrap_or_else(|| panic!("{claims:?}"));
    // The revoked one was taken along: it runs again.
    before[4] = StateVector::RUNNING;
    s.fail_for_good(up, failing).await;
    assert_eq!(s.outcome(fresh).await, TerminalOutcome::Skipped);
    before[2] = StateVector::delayed(NotBeforeKind::RetryBackoff, AttemptState::PendingRetryAttempt);
    for (id, vector) in all.into_iter().zip(before) {
        assert_eq!(s.vector(id).await, vector, "{id}");
        assert_eq!(s.edge_between(flow_id, up, id).await.edge_state, EdgeState::Impossible);
    }
    // Nor at any later gate.
    s.fail_and_retry(running, fence).await;
    assert_eq!(s.vector(running).await, StateVector::ready(AttemptState::PendingRetryAttempt));
    let summary = s.wake_by_signal(suspended, &waitpoint).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::AttemptInterrupted));
    s.complete_as_operator(sibling).await;
    assert_eq!(s.vector(parked).await, StateVector::ready(AttemptState::AttemptInterrupted));
    s.delay_as_operator(backing_off, When::At(s.now())).await;
    assert_eq!(s.vector(backing_off).await, StateVector::ready(AttemptState::PendingRetryAttempt));
    let taken = s.claim_next(9).await.claimed;
    assert_eq!(taken.len(), 4);
    for claim in taken {
        s.complete(claim.claimed().execution_id, claim.claimed().fence).await;
    }
    let args = DescribeFlowArgs { flow_id };
    match s.changes_nothing(args).await {
        Outcome::DescribeFlow(flow) => assert_eq!(flow.member_counts.get(PublicState::Skipped), 1),
        other => panic!("{other:?}"),
    }
}
