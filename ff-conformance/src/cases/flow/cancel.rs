//! Cancelling flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, FlowId};
use ff_core::refusal::Code;
use ff_core::state::{AttemptState, EndCause, PublicState, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, not_eligible_cause, numbered, retries, slot, terminal_flow};

cases! { "flow";
    "cancel_flow: with 1, 64, 65 and 5 000 members it ends 1, 64, 64 and 64 in the call, and drains end the others." => sizes,
    "cancel_flow: after the flip no claim of a covered member succeeds, under concurrent claims and completions, and none ends skipped." => no_claim,
    "cancel_flow: a repeat answers what remains, a narrower policy changes nothing, a wider one widens." => repeated,
    "cancel_flow: cancel_pending leaves running members alone until they stop running." => pending_only,
    "cancel_flow: flow_only leaves members and cascade alone and releases held members." => flow_only,
    "cancel_flow: a retry, delay, suspension, signal or lost lease of a covered member ends it cancelled in that call." => covered,
    "cancel_flow: in the middle of a cascade it turns the pending edges detached and skips nobody any more." => mid_cascade,
    "cancel_flow: a finished sealed flow is refused." => finished,
}

use CancellationPolicy::{CancelAll, CancelPending, FlowOnly};

/// It must have been ended by its flow, which `ops` called off.
async fn called_off(s: &Stage, id: ExecutionId) {
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector.terminal_outcome, TerminalOutcome::Cancelled, "{id}");
    assert_eq!(x.end_cause, Some(EndCause::FlowCancelled));
    assert_eq!(x.ended_by, Some(EndedBy::Operator { identity: "ops".to_owned() }));
    assert_eq!(x.cancel_reason.as_deref(), Some("called off"));
}

async fn sizes(s: &Stage) {
    for (n, ended) in [(1_u32, 1_u32), (64, 64), (65, 64), (5_000, 64)] {
        let flow_id = s.flow().await;
        let ids = s.members(flow_id, n as usize, &[]).await;
        let remaining = n - ended;
        let expected = if remaining == 0 {
            CancelFlowResult::Cancelled { cancellation_policy: CancelAll, cancelled: ended, nonterminal: 0 }
        } else {
            CancelFlowResult::CancellationScheduled {
                cancellation_policy: CancelAll,
                cancelled: ended,
                remaining,
                nonterminal: remaining,
            }
        };
        s.advance(1);
        assert_eq!(s.cancel_flow(flow_id, CancelAll).await, expected, "{n} members");
        let flow = s.describe_flow(flow_id).await;
        assert_eq!((flow.public_flow_state, flow.sealed), (PublicFlowState::Cancelled, true));
        assert_eq!((flow.cancelled_at, flow.last_mutation_at), (Some(s.now()), s.now()));
        assert_eq!(flow.cancelled_by.as_deref(), Some("ops"));
        assert_eq!(flow.cancel_reason.as_deref(), Some("called off"));
        assert_eq!(flow.cancellation_policy, Some(CancelAll));
        assert_eq!(flow.graph_revision, u64::from(n), "the graph is what it was");
        assert_eq!(flow.member_counts.get(PublicState::Cancelled), ended);
        assert_eq!(flow.deferred, u32::from(remaining > 0));
        // In id order.
        for (position, member) in s.list_members(flow_id, 1000).await.iter().enumerate() {
            let expected = if position < ended as usize { PublicState::Cancelled } else { PublicState::Waiting };
            assert_eq!(member.public_state, expected, "member {position} of {n}");
        }
        let mut left = remaining;
        while left > 0 {
            s.sweep_once(1000).await;
            left = left.saturating_sub(64);
            assert_eq!(s.count_of(flow_id, PublicState::Cancelled).await, n - left, "a drain ends 64");
        }
        assert_eq!(s.deferred(flow_id).await, 0);
        for id in [ids[0], ids[ids.len() / 2], ids[ids.len() - 1]] {
            called_off(s, id).await;
        }
        assert!(s.claim_next(1).await.claimed.is_empty());
    }
}

async fn no_claim(s: &Stage) {
    for round in 0..5 {
        // 100 that can be claimed, each before one of its own; half of them run when the flip comes.
        let flow_id = s.flow().await;
        let ups = s.members(flow_id, 100, &[]).await;
        let mut children = Vec::new();
        for up in &ups {
            children.push(s.member(flow_id, &[*up]).await);
        }
        let granted = ups[99];
        s.grant(granted).await;
        let running: Vec<_> = s.claim_next(50).await.claimed.iter().map(|c| c.claimed().fence).collect();
        assert_eq!(running.len(), 50);
        let flipped = Arc::new(AtomicBool::new(false));
        let claimers: Vec<_> = (0..3)
            .map(|_| {
                let (backend, flipped, claims) = (Arc::clone(&s.backend), Arc::clone(&flipped), s.claim_args(2));
                tokio::spawn(async move {
                    let (mut taken, mut late, mut after) = (Vec::new(), Vec::new(), 0);
                    while after < 3 {
                        let over = flipped.load(Ordering::SeqCst);
                        after += u32::from(over);
                        let mut args = claims.clone();
                        args.slots = vec![slot(), slot()];
                        let result = backend.claim_next(args).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
                        let ids = result.claimed.iter().map(|c| (c.claimed().execution_id, c.claimed().fence));
                        if over {
                            late.extend(ids);
                        } else {
                            taken.extend(ids);
                        }
                        tokio::task::yield_now().await;
                    }
                    (taken, late)
                })
            })
            .collect();
        let completer = {
            let (backend, ups, running) = (Arc::clone(&s.backend), ups.clone(), running.clone());
            tokio::spawn(async move {
                let mut completed = Vec::new();
                for (id, fence) in ups.into_iter().zip(running) {
                    let args = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(fence)).build();
                    if backend.complete_execution(args).await.is_ok() {
                        completed.push(id);
                    }
                    tokio::task::yield_now().await;
                }
                completed
            })
        };
        for _ in 0..round * 5 {
            tokio::task::yield_now().await;
        }
        s.cancel_flow(flow_id, CancelAll).await;
        flipped.store(true, Ordering::SeqCst);
        for id in ups.iter().chain(&children) {
            // By id, with the grant made before: refused for whoever is still open.
            if s.state(*id).await == StateName::Ready {
                let answer = s.backend.claim_execution(s.claim_by_id_args(*id)).await;
                assert!(answer.is_err(), "{id} was claimed");
            }
        }
        for claimer in claimers {
            let (_, late) = claimer.await.unwrap_or_else(|e| panic!("{e}"));
            assert!(late.is_empty(), "claimed after the flip: {late:?}");
        }
        let completed = completer.await.unwrap_or_else(|e| panic!("{e}"));
        s.sweep().await;
        let flow = s.describe_flow(flow_id).await;
        assert_eq!(flow.member_counts.get(PublicState::Skipped), 0);
        assert_eq!(flow.member_counts.open(), 0);
        assert_eq!(flow.member_counts.get(PublicState::Completed) as usize, completed.len());
        assert_eq!(flow.deferred, 0);
        s.recount(flow_id, "the cancellation").await;
    }
    // A covered member that the walk has not reached, by every way of claiming.
    let flow_id = s.flow().await;
    let ids = s.members(flow_id, 70, &[]).await;
    s.grant(ids[69]).await;
    s.cancel_flow(flow_id, CancelAll).await;
    let refusal = s.refused_with(Code::ExecutionNotEligible, s.claim_by_id_args(ids[69])).await;
    assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::FlowCancelled);
    let refusal = s.refused_with(Code::ExecutionNotEligible, s.grant_args(ids[68], 10_000)).await;
    assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::FlowCancelled);
    assert!(s.claim_next(10).await.claimed.is_empty());
    for id in &ids {
        called_off(s, *id).await;
    }
}

async fn repeated(s: &Stage) {
    let flow_id = s.flow().await;
    let first = numbered(1);
    let mut args = s.member_creation(flow_id, &[]);
    args.execution_id = first;
    s.create(args).await;
    let fence = s.claim_this(first).await.fence;
    s.members(flow_id, 199, &[]).await;
    let at = s.now();
    assert_eq!(
        s.cancel_flow(flow_id, CancelPending).await,
        CancelFlowResult::CancellationScheduled {
            cancellation_policy: CancelPending,
            cancelled: 64,
            remaining: 135,
            nonterminal: 136,
        },
        "the running one is passed over"
    );
    s.advance(100);
    // Repeats, with other words and narrower: no field changes, the walk goes on.
    let other = CancelFlowArgs::builder()
        .flow_id(flow_id)
        .reason("another")
        .cancellation_policy(FlowOnly)
        .by("someone")
        .build();
    let before = s.describe_flow(flow_id).await;
    let answer = s.backend.cancel_flow(other.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        answer,
        CancelFlowResult::CancellationScheduled {
            cancellation_policy: CancelPending,
            cancelled: 64,
            remaining: 71,
            nonterminal: 72,
        }
    );
    let unchanged = async |deferred| {
        let after = s.describe_flow(flow_id).await;
        assert_eq!(after.last_mutation_at, before.last_mutation_at);
        assert_eq!((after.cancelled_at, after.cancelled_by.as_deref()), (Some(at), Some("ops")));
        assert_eq!(after.cancel_reason.as_deref(), Some("called off"));
        assert_eq!((after.cancellation_policy, after.deferred), (Some(CancelPending), deferred));
    };
    unchanged(1).await;
    assert_eq!(
        s.cancel_flow(flow_id, CancelPending).await,
        CancelFlowResult::CancellationScheduled {
            cancellation_policy: CancelPending,
            cancelled: 64,
            remaining: 7,
            nonterminal: 8,
        }
    );
    let answer = s.backend.cancel_flow(other).await.unwrap_or_else(|e| panic!("{e}"));
    let done = |cancellation_policy, cancelled, nonterminal| CancelFlowResult::Cancelled {
        cancellation_policy,
        cancelled,
        nonterminal,
    };
    assert_eq!(answer, done(CancelPending, 7, 1));
    unchanged(0).await;
    assert_eq!(s.cancel_flow(flow_id, CancelPending).await, done(CancelPending, 0, 1));
    assert_eq!(s.vector(first).await, StateVector::RUNNING);

    // Wider: the walk begins anew and takes the running one; time, by and reason stay.
    s.advance(100);
    let wider = CancelFlowArgs::builder()
        .flow_id(flow_id)
        .reason("another")
        .cancellation_policy(CancelAll)
        .by("someone")
        .build();
    let answer = s.backend.cancel_flow(wider).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer, done(CancelAll, 1, 0));
    called_off(s, first).await;
    s.refused_with(Code::ExecutionNotActive, s.completion(first, fence, b"late")).await;
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.cancellation_policy, flow.last_mutation_at), (Some(CancelAll), s.now()));
    assert_eq!((flow.cancelled_at, flow.cancelled_by.as_deref()), (Some(at), Some("ops")));
    assert_eq!(flow.cancel_reason.as_deref(), Some("called off"));
    assert_eq!(s.cancel_flow(flow_id, FlowOnly).await, done(CancelAll, 0, 0), "never narrowed");

    // Where those that are passed over use up the steps, a repeat goes on behind them.
    let flow_id = s.flow().await;
    s.members(flow_id, 130, &[]).await;
    while !s.claim_next(64).await.claimed.is_empty() {}
    s.members(flow_id, 3, &[]).await;
    assert_eq!(
        s.cancel_flow(flow_id, CancelPending).await,
        CancelFlowResult::CancellationScheduled {
            cancellation_policy: CancelPending,
            cancelled: 0,
            remaining: 5,
            nonterminal: 133,
        }
    );
    assert_eq!(s.cancel_flow(flow_id, CancelPending).await, done(CancelPending, 3, 130));

    // From the narrowest on.
    let flow_id = s.flow().await;
    s.members(flow_id, 2, &[]).await;
    assert_eq!(s.cancel_flow(flow_id, FlowOnly).await, done(FlowOnly, 0, 2));
    assert_eq!(s.cancel_flow(flow_id, FlowOnly).await, done(FlowOnly, 0, 2));
    assert_eq!(s.cancel_flow(flow_id, CancelPending).await, done(CancelPending, 2, 0));
}

async fn pending_only(s: &Stage) {
    let flow_id = s.flow().await;
    let with_retries = || {
        let mut args = s.member_creation(flow_id, &[]);
        args.policy = Arc::new(retries(5, 0));
        args
    };
    let ids = s.create_all((0..5).map(|_| with_retries()).collect()).await;
    let fences: Vec<_> = s.claim_next(5).await.claimed.iter().map(|c| c.claimed().fence).collect();
    let fence = |n: usize| fences[n];
    let (ready, delayed) = (s.member(flow_id, &[]).await, s.held_member(flow_id).await);
    let claimed: Vec<_> = {
        let mut by_fence = Vec::new();
        for id in &ids {
            by_fence.push((*id, s.describe(*id).await.current_lease.map(|l| l.lease_id)));
        }
        by_fence
    };
    let owner_of = |lease| claimed.iter().find(|(_, l)| *l == Some(lease)).map_or_else(|| panic!("no owner"), |c| c.0);
    let id = |n: usize| owner_of(fences[n].lease_id);
    assert_eq!(
        s.cancel_flow(flow_id, CancelPending).await,
        CancelFlowResult::Cancelled { cancellation_policy: CancelPending, cancelled: 2, nonterminal: 5 }
    );
    called_off(s, ready).await;
    called_off(s, delayed).await;
    for n in 0..5 {
        assert_eq!(s.vector(id(n)).await, StateVector::RUNNING);
    }
    s.sweep().await;
    assert_eq!(s.renew(id(0), fence(0), LEASE_MS).await, s.now().after(LEASE_MS), "they go on as they were");

    // Completion and final failure keep their outcome.
    s.complete(id(0), fence(0)).await;
    assert_eq!(s.outcome(id(0)).await, TerminalOutcome::Success);
    let mut last = s.failure(id(1), fence(1));
    last.no_retry = true;
    s.call(last).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.outcome(id(1)).await, TerminalOutcome::Failed);
    // Whatever else stops them running ends them.
    match s.fail(id(2), fence(2)).await {
        FailExecutionResult::Ended { summary } => {
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, true));
        }
        other @ FailExecutionResult::RetryScheduled { .. } => panic!("{other:?}"),
    }
    called_off(s, id(2)).await;
    s.revoke(id(3), fence(3)).await;
    called_off(s, id(3)).await;
    s.advance(LEASE_MS);
    s.sweep().await;
    called_off(s, id(4)).await;
    assert_eq!(s.describe_flow(flow_id).await.member_counts.open(), 0);
}

async fn flow_only(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let (child, doomed) = (s.member(flow_id, &[up]).await, s.member(flow_id, &[]).await);
    let grandchild = s.member(flow_id, &[doomed]).await;
    let fence = s.claim_this(up).await.fence;
    let held = s.held_member(flow_id).await;
    let behind = s.held_member(flow_id).await;
    s.link(flow_id, up, behind).await;
    let revision = s.describe_flow(flow_id).await.graph_revision;
    assert_eq!(
        s.cancel_flow(flow_id, FlowOnly).await,
        CancelFlowResult::Cancelled { cancellation_policy: FlowOnly, cancelled: 0, nonterminal: 6 }
    );
    let flow = s.describe_flow(flow_id).await;
    assert_eq!(
        (flow.public_flow_state, flow.sealed, flow.graph_revision),
        (PublicFlowState::Cancelled, true, revision)
    );
    assert_eq!(s.vector(up).await, StateVector::RUNNING);
    assert_eq!(s.state(child).await, StateName::Deps);
    assert_eq!(s.vector(held).await, StateVector::ready(AttemptState::PendingFirstAttempt), "released");
    assert!(!s.member_of(flow_id, behind).await.held);
    assert_eq!(s.state(behind).await, StateName::Deps, "it waits for its upstream alone");
    assert_eq!(s.edge_between(flow_id, up, child).await.edge_state, EdgeState::Pending, "not detached");
    // The cascade goes on as in any flow.
    s.complete(up, fence).await;
    assert_eq!(s.state(child).await, StateName::Ready);
    assert_eq!(s.state(behind).await, StateName::Ready);
    s.fail_as_operator(doomed).await;
    assert_eq!(s.outcome(grandchild).await, TerminalOutcome::Skipped);
    assert_eq!(s.claim_next(9).await.claimed.len(), 3);
    s.refused_with(Code::FlowAlreadyTerminal, s.member_creation(flow_id, &[])).await;
    s.refused_with(Code::FlowAlreadyTerminal, s.edge_args(flow_id, held, child)).await;

    // More held ones than one call has steps for.
    let flow_id = s.flow().await;
    s.held_members(flow_id, 130).await;
    assert_eq!(
        s.cancel_flow(flow_id, FlowOnly).await,
        CancelFlowResult::Cancelled { cancellation_policy: FlowOnly, cancelled: 0, nonterminal: 130 }
    );
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 128);
    assert_eq!(s.deferred(flow_id).await, 1);
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 130);
}

/// A flow cancelled with `cancel_all` whose walk has ended 64 others first: these members of it are covered and open.
async fn behind_the_walk(s: &Stage, base: u128, n: u128) -> (FlowId, Vec<ExecutionId>) {
    let flow_id = s.flow().await;
    let member = |number: u128| {
        let mut args = s.member_creation(flow_id, &[]);
        args.execution_id = numbered(number);
        args.policy = Arc::new(retries(5, 60_000));
        args
    };
    let ids = s.create_all((0..n).map(|k| member(base + 1_000 + k)).collect()).await;
    for id in &ids {
        s.claim_by_id(*id).await;
    }
    s.create_all((0..64).map(|k| member(base + k)).collect()).await;
    (flow_id, ids)
}

async fn covered(s: &Stage) {
    let (flow_id, ids) = behind_the_walk(s, 10_000, 7).await;
    let lease = async |n: usize| {
        let x = s.describe(ids[n]).await;
        let (lease, attempt) = x.current_lease.zip(x.current_attempt).unwrap_or_else(|| panic!("not running"));
        Fence { lease_id: lease.lease_id, lease_epoch: lease.lease_epoch, attempt_id: attempt.attempt_id }
    };
    let waitpoint = s.suspend_on_any_signal(ids[4], lease(4).await).await;
    assert_eq!(
        s.cancel_flow(flow_id, CancelAll).await,
        CancelFlowResult::CancellationScheduled {
            cancellation_policy: CancelAll,
            cancelled: 64,
            remaining: 7,
            nonterminal: 7,
        }
    );
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(s.state(*id).await, if n == 4 { StateName::Suspended } else { StateName::Running });
    }
    let cancelled = StateVector::done(TerminalOutcome::Cancelled, true);
    // A retry.
    match s.fail(ids[0], lease(0).await).await {
        FailExecutionResult::Ended { summary } => assert_eq!(summary.state_vector, cancelled),
        other @ FailExecutionResult::RetryScheduled { .. } => panic!("{other:?}"),
    }
    called_off(s, ids[0]).await;
    // A delay.
    let DelayExecutionResult::Delayed { summary, .. } = s.delay(ids[1], lease(1).await, When::After(60_000)).await;
    assert_eq!(summary.state_vector, cancelled);
    called_off(s, ids[1]).await;
    assert_eq!(s.describe(ids[1]).await.not_before, None);
    // A suspension.
    match s.backend.suspend_execution(s.any_signal(ids[2], lease(2).await)).await {
        Ok(SuspendExecutionResult::Suspended { summary, .. }) => assert_eq!(summary.state_vector, cancelled),
        other => panic!("{other:?}"),
    }
    called_off(s, ids[2]).await;
    // A signal.
    let summary = s.wake_by_signal(ids[4], &waitpoint).await;
    assert_eq!(summary.state_vector, cancelled);
    called_off(s, ids[4]).await;
    // A revoked lease.
    match s.revoke(ids[5], lease(5).await).await {
        RevokeLeaseResult::Revoked { summary, .. } => assert_eq!(summary.state_vector, cancelled),
        other @ RevokeLeaseResult::AlreadyReleased { .. } => panic!("{other:?}"),
    }
    called_off(s, ids[5]).await;
    // A lost lease, marked by hand and by its timer.
    let (marked, timed) = (lease(3).await, ids[6]);
    s.advance(LEASE_MS);
    match s.mark_expired(ids[3], marked).await {
        MarkLeaseExpiredResult::Ended { summary } => assert_eq!(summary.state_vector, cancelled),
        other => panic!("{other:?}"),
    }
    called_off(s, ids[3]).await;
    assert_eq!(s.state(timed).await, StateName::Running);
    let report = s.sweep_once(1).await;
    assert_eq!((report.count(TimerKind::Lease), report.total()), (1, 1));
    called_off(s, timed).await;
    assert_eq!(s.describe_flow(flow_id).await.member_counts.open(), 0);
}

async fn mid_cascade(s: &Stage) {
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    s.members(flow_id, 100, &[up]).await;
    let edges = s.outgoing(flow_id, up).await;
    let fence = s.claim_this(up).await.fence;
    // A staged edge, and one behind a member that runs on.
    let (apart, other) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let mut staged = s.edge_args(flow_id, apart, other);
    staged.apply = false;
    let staged_id = staged.edge_id;
    s.stage(staged).await;
    s.fail_for_good(up, fence).await;
    assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 64);
    assert_eq!(s.deferred(flow_id).await, 1);

    assert_eq!(
        s.cancel_flow(flow_id, CancelAll).await,
        CancelFlowResult::Cancelled { cancellation_policy: CancelAll, cancelled: 38, nonterminal: 0 }
    );
    let check = async || {
        for (n, edge) in edges.iter().enumerate() {
            let expected = if n < 64 { EdgeState::Impossible } else { EdgeState::Detached };
            let edge = s.edge(flow_id, edge.edge_id).await;
            assert_eq!(edge.edge_state, expected, "edge {n}");
            assert_eq!(edge.resolved_at.is_some(), n < 64);
            let outcome = s.outcome(edge.downstream_execution_id).await;
            assert_eq!(outcome, if n < 64 { TerminalOutcome::Skipped } else { TerminalOutcome::Cancelled });
        }
        assert_eq!(s.edge(flow_id, staged_id).await.edge_state, EdgeState::Detached);
        assert_eq!(s.count_of(flow_id, PublicState::Skipped).await, 64);
    };
    check().await;
    // The entry is dropped when it is reached.
    let report = s.sweep_once(1000).await;
    assert_eq!((report.count(SweepKind::Stale), report.count(SweepKind::Backlog)), (1, 0));
    assert_eq!(s.deferred(flow_id).await, 0);
    check().await;

    // Nor does a failure after the flip skip anybody.
    let flow_id = s.flow().await;
    let pair = s.chain(flow_id, 2).await;
    let fence = s.claim_this(pair[0]).await.fence;
    s.cancel_flow(flow_id, CancelPending).await;
    called_off(s, pair[1]).await;
    s.fail_for_good(pair[0], fence).await;
    assert_eq!(s.edge_between(flow_id, pair[0], pair[1]).await.edge_state, EdgeState::Detached);
    called_off(s, pair[1]).await;
}

async fn finished(s: &Stage) {
    let finished = s.flow().await;
    let id = s.member(finished, &[]).await;
    let fence = s.claim_this(id).await.fence;
    s.complete(id, fence).await;
    s.seal(finished).await;
    let failed = s.flow().await;
    let id = s.member(failed, &[]).await;
    s.seal(failed).await;
    s.fail_as_operator(id).await;
    let empty = s.flow().await;
    s.seal(empty).await;
    for (flow_id, state) in
        [(finished, PublicFlowState::Completed), (failed, PublicFlowState::Failed), (empty, PublicFlowState::Open)]
    {
        for policy in [FlowOnly, CancelPending, CancelAll] {
            let refusal = s.refused_with(Code::FlowAlreadyTerminal, s.cancellation(flow_id, policy)).await;
            assert_eq!(terminal_flow(&refusal), (Some(state), None));
        }
    }
    // One that only looks finished takes it: it is not sealed.
    let unsealed = s.flow().await;
    let id = s.member(unsealed, &[]).await;
    s.complete_as_operator(id).await;
    assert_eq!(
        s.cancel_flow(unsealed, CancelAll).await,
        CancelFlowResult::Cancelled { cancellation_policy: CancelAll, cancelled: 0, nonterminal: 0 }
    );
    assert_eq!(s.describe_flow(unsealed).await.public_flow_state, PublicFlowState::Cancelled);
}
