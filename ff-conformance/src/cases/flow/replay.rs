//! Replaying members.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, PublicState, StateName, StateVector, TerminalOutcome};

use crate::cases::cases;
use crate::stage::{Stage, terminal_flow};

cases! { "flow";
    "replay_execution: a skipped member is refused while its upstream is failed, waits while it runs, is claimable once it succeeded." => skipped_member,
    "replay_execution: replaying an upstream moves a ready child back to DEPS and leaves active, finished and skipped children where they are." => upstream_replayed,
    "replay_execution: reopen_skipped replays skipped descendants except those behind another impossible edge." => reopened,
    "replay_execution: an entry left from before the replay skips no child." => old_entry,
    "replay_execution: a member of a cancelled flow is refused, and a finished sealed flow shows its state of now again." => closed_flows,
}

async fn skipped_member(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let second = s.member(flow_id, &[]).await;
    let child = s.member(flow_id, &[up, second]).await;
    s.fail_as_operator(second).await;
    s.fail_as_operator(up).await;
    assert_eq!(s.outcome(child).await, TerminalOutcome::Skipped);
    let impossible: Vec<_> = s.incoming(flow_id, child).await.iter().map(|e| e.edge_id).collect();
    let refusal = s.refused_with(Code::DepsImpossible, s.replay_args(child, 0)).await;
    assert_eq!(refusal.details(), &Details::DepsImpossible { edge_ids: impossible.clone() }, "by seq");
    // One of the two is enough.
    s.replay(second, 0).await;
    let refusal = s.refused_with(Code::DepsImpossible, s.replay_args(child, 0)).await;
    assert_eq!(refusal.details(), &Details::DepsImpossible { edge_ids: vec![impossible[0]] });

    s.replay(up, 0).await;
    let summary = s.replay(child, 0).await;
    assert_eq!(summary.state_vector, StateVector::deps(AttemptState::PendingReplayAttempt));
    assert_eq!(s.counts_of(flow_id, child).await, (2, 0, 0));
    let x = s.describe(child).await;
    assert_eq!((x.run, x.end_cause, x.completed_at), (1, None, None));
    let mut fences = Vec::new();
    for id in [up, second] {
        fences.push(s.claim_this(id).await.fence);
    }
    assert!(s.claim_next(1).await.claimed.is_empty(), "it waits while they run");
    s.complete(up, fences[0]).await;
    assert_eq!(s.state(child).await, StateName::Deps);
    s.complete(second, fences[1]).await;
    let claimed = s.claim_this(child).await;
    assert_eq!(claimed.run, 1);
    s.complete(child, claimed.fence).await;
    // Replayed behind upstreams that have succeeded, it is claimable at once.
    let summary = s.replay(child, 1).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingReplayAttempt));

    // Of many impossible edges the first 16 are named.
    let flow_id = s.flow().await;
    let ups = s.members(flow_id, 20, &[]).await;
    let child = s.member(flow_id, &ups).await;
    for up in &ups {
        s.fail_as_operator(*up).await;
    }
    s.sweep().await;
    let edges: Vec<_> = s.incoming(flow_id, child).await.iter().map(|e| e.edge_id).take(16).collect();
    let refusal = s.refused_with(Code::DepsImpossible, s.replay_args(child, 0)).await;
    assert_eq!(refusal.details(), &Details::DepsImpossible { edge_ids: edges });
}

async fn upstream_replayed(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let bad = s.member(flow_id, &[]).await;
    let ready = s.member(flow_id, &[up]).await;
    let active = s.member(flow_id, &[up]).await;
    let completed = s.member(flow_id, &[up]).await;
    let failed = s.member(flow_id, &[up]).await;
    let skipped = s.member(flow_id, &[up, bad]).await;
    s.complete_as_operator(up).await;
    s.fail_as_operator(bad).await;
    let fence = s.claim_by_id(active).await.fence;
    s.complete_as_operator(completed).await;
    s.fail_as_operator(failed).await;
    assert_eq!(s.outcome(skipped).await, TerminalOutcome::Skipped);
    let edge = async |down| s.edge_between(flow_id, up, down).await;
    assert_eq!(edge(skipped).await.edge_state, EdgeState::Satisfied);
    s.grant(ready).await;
    s.advance(10);

    s.replay(up, 0).await;
    assert_eq!(s.vector(ready).await, StateVector::deps(AttemptState::PendingFirstAttempt));
    assert_eq!(s.describe(ready).await.grant, None, "its grant is void");
    let pending = edge(ready).await;
    assert_eq!((pending.edge_state, pending.upstream_run, pending.resolved_at), (EdgeState::Pending, None, None));
    assert_eq!((pending.upstream_outcome, pending.stale_upstream), (None, false));
    for (id, vector) in [
        (active, StateVector::RUNNING),
        (completed, StateVector::done(TerminalOutcome::Success, false)),
        (failed, StateVector::done(TerminalOutcome::Failed, false)),
    ] {
        assert_eq!(s.vector(id).await, vector);
        let edge = edge(id).await;
        assert_eq!((edge.edge_state, edge.upstream_run), (EdgeState::Satisfied, Some(0)));
        assert!(edge.stale_upstream);
        assert_eq!(s.counts_of(flow_id, id).await, (0, 1, 0));
    }
    // A skipped one has its edge pending again, and stays skipped.
    assert_eq!(s.vector(skipped).await, StateVector::done(TerminalOutcome::Skipped, false));
    assert_eq!(edge(skipped).await.edge_state, EdgeState::Pending);
    assert_eq!(s.counts_of(flow_id, skipped).await, (1, 0, 1));

    let again = s.claim_by_id(up).await.fence;
    s.complete(up, again).await;
    assert_eq!(s.vector(ready).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    assert_eq!(edge(ready).await.upstream_run, Some(1));
    assert_eq!(s.vector(skipped).await, StateVector::done(TerminalOutcome::Skipped, false));
    assert_eq!(edge(skipped).await.upstream_run, Some(1));
    assert_eq!(edge(active).await.upstream_run, Some(0), "settled edges do not move");
    s.complete(active, fence).await;
}

async fn reopened(s: &Stage) {
    let flow_id = s.flow().await;
    let (up, other) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let child = s.member(flow_id, &[up]).await;
    let grandchild = s.member(flow_id, &[child]).await;
    let both = s.member(flow_id, &[up, other]).await;
    let below = s.member(flow_id, &[both]).await;
    let sink = s.member(flow_id, &[grandchild, below]).await;
    let mut args = s.member_creation(flow_id, &[up]);
    std::sync::Arc::make_mut(&mut args.policy).max_replays = 0;
    let exhausted = s.create(args).await;
    s.fail_as_operator(other).await;
    s.fail_as_operator(up).await;
    let all = [child, grandchild, both, below, sink, exhausted];
    s.all_ended(&all, TerminalOutcome::Skipped).await;
    s.advance(10);

    let summary = s.replay_and_reopen(up, 0).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingReplayAttempt));
    s.sweep().await;
    let of_up = s.describe(up).await;
    for id in [child, grandchild] {
        let x = s.describe(id).await;
        assert_eq!(x.summary.state_vector, StateVector::deps(AttemptState::PendingReplayAttempt));
        assert_eq!((x.run, x.end_cause, x.completed_at), (1, None, None));
        assert_eq!((&x.replay_reason, &x.replayed_by), (&of_up.replay_reason, &of_up.replayed_by));
        assert_eq!(x.replayed_at, Some(s.now()));
        assert_eq!(s.counts_of(flow_id, id).await, (1, 0, 0));
    }
    assert_eq!(of_up.replay_reason.as_deref(), Some("again"));
    for id in [both, below, sink] {
        let x = s.describe(id).await;
        assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Skipped, false));
        assert_eq!(x.run, 0);
    }
    assert_eq!(s.counts_of(flow_id, both).await, (1, 0, 1));
    assert_eq!(s.counts_of(flow_id, sink).await, (1, 0, 1), "one way is open again, the other is not");
    assert_eq!(s.outcome(exhausted).await, TerminalOutcome::Skipped, "at its replay limit");
    // The reopened ones are replayed by the digest of their own call, which its repeat finds.
    let mut own = s.replay_args(child, 0);
    own.reopen_skipped = true;
    s.changes_nothing(own).await;

    // The other way is opened by its own replay.
    s.replay_and_reopen(other, 0).await;
    s.sweep().await;
    for id in [both, below, sink] {
        assert_eq!(s.vector(id).await, StateVector::deps(AttemptState::PendingReplayAttempt));
    }
    s.complete_as_operator(up).await;
    assert_eq!(s.vector(child).await, StateVector::ready(AttemptState::PendingReplayAttempt));
    s.complete_as_operator(other).await;
    assert_eq!(s.vector(both).await, StateVector::ready(AttemptState::PendingReplayAttempt));
    for id in [child, grandchild, both, below] {
        s.complete_as_operator(id).await;
    }
    assert_eq!(s.vector(sink).await, StateVector::ready(AttemptState::PendingReplayAttempt));

    // What reopens is an edge that was impossible: not one that was satisfied, though no other is impossible any more.
    let flow_id = s.flow().await;
    let (good, bad) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let child = s.member(flow_id, &[good, bad]).await;
    s.complete_as_operator(good).await;
    s.fail_as_operator(bad).await;
    s.replay(bad, 0).await;
    assert_eq!(s.counts_of(flow_id, child).await, (1, 1, 0));
    s.replay_and_reopen(good, 0).await;
    assert_eq!(s.counts_of(flow_id, child).await, (2, 0, 0));
    assert_eq!(s.vector(child).await, StateVector::done(TerminalOutcome::Skipped, false));
}

async fn old_entry(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 100, &[up]).await;
    let children: Vec<_> = s.outgoing(flow_id, up).await.iter().map(|e| e.downstream_execution_id).collect();
    s.fail_as_operator(up).await;
    assert_eq!((s.count_of(flow_id, PublicState::Skipped).await, s.deferred(flow_id).await), (64, 1));
    s.replay(up, 0).await;
    s.sweep().await;
    assert_eq!((s.count_of(flow_id, PublicState::Skipped).await, s.deferred(flow_id).await), (64, 0));
    for (n, child) in children.iter().enumerate() {
        let expected = if n < 64 {
            StateVector::done(TerminalOutcome::Skipped, false)
        } else {
            StateVector::deps(AttemptState::PendingFirstAttempt)
        };
        assert_eq!(s.vector(*child).await, expected, "child {n}");
        assert_eq!(s.edge_between(flow_id, up, *child).await.edge_state, EdgeState::Pending);
    }
    let fence = s.claim_this(up).await.fence;
    s.complete(up, fence).await;
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 36);
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 64);

    // With more steps than one call has, too: the walk begins anew, with the new run.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 300, &[up]).await;
    s.fail_as_operator(up).await;
    s.replay(up, 0).await;
    assert_eq!(s.deferred(flow_id).await, 1);
    s.complete_as_operator(up).await;
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 64);
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 236);
    for edge in s.outgoing(flow_id, up).await {
        assert_eq!((edge.edge_state, edge.upstream_run), (EdgeState::Satisfied, Some(1)));
    }
}

async fn closed_flows(s: &Stage) {
    for policy in CancellationPolicy::ALL {
        let flow_id = s.flow().await;
        let id = s.member(flow_id, &[]).await;
        s.member(flow_id, &[]).await;
        s.fail_as_operator(id).await;
        s.cancel_flow(flow_id, *policy).await;
        let refusal = s.refused_with(Code::FlowAlreadyTerminal, s.replay_args(id, 0)).await;
        assert_eq!(terminal_flow(&refusal), (Some(PublicFlowState::Cancelled), Some(*policy)));
        // A stale count is told first.
        s.refused_with(Code::StaleReplay, s.replay_args(id, 1)).await;
    }

    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 2, &[]).await;
    s.seal(flow_id).await;
    for id in &ids {
        s.fail_as_operator(*id).await;
    }
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.public_flow_state, flow.sealed), (PublicFlowState::Failed, true));
    assert!(flow.purge_at.is_some());
    s.replay(ids[0], 0).await;
    let state = async || s.describe_flow(flow_id).await.public_flow_state;
    assert_eq!(state().await, PublicFlowState::Open);
    assert_eq!(s.describe_flow(flow_id).await.purge_at, None);
    let fence = s.claim_by_id(ids[0]).await.fence;
    assert_eq!(state().await, PublicFlowState::Running);
    s.complete(ids[0], fence).await;
    assert_eq!(state().await, PublicFlowState::Failed, "the other one has failed");
    s.replay(ids[1], 0).await;
    assert_eq!(state().await, PublicFlowState::Open);
    s.complete_as_operator(ids[1]).await;
    assert_eq!(state().await, PublicFlowState::Completed);
    assert!(s.describe_flow(flow_id).await.sealed);
    s.refused_with(Code::FlowAlreadyTerminal, s.member_creation(flow_id, &[])).await;
}
