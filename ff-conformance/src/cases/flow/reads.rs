//! Reads of flows.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{EdgeId, ExecutionId};
use ff_core::refusal::Code;
use ff_core::state::{BlockReason, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{Stage, arrow, data_name, spec};

cases! { "flow";
    "describe_edge: it shows satisfied, impossible, stale and detached, and join all." => edge_states,
    "list_edges: both directions are ordered by seq and paging is stable while edges are added." => paging,
    "list_flow_members: pages over 10 000 members hold each once, in id order." => many_members,
    "describe_flow: the state follows its rule for every combination of counts, also empty, all skipped, unsealed and after replay." => combinations,
    "describe_flow: member counts equal a recount after every operation." => recounted,
}

async fn edge_states(s: &Stage) {
    let flow_id = s.flow().await;
    let (good, bad, open) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let child = s.member(flow_id, &[]).await;
    let created_at = s.now();
    let mut ids = Vec::new();
    for (up, kind, apply) in [
        (good, DependencyKind::SuccessOnly, true),
        (bad, DependencyKind::AnyTerminal, true),
        (open, DependencyKind::SuccessOnly, false),
    ] {
        let mut args = s.edge_args(flow_id, up, child);
        (args.dependency_kind, args.apply) = (kind, apply);
        args.data_passing_ref = (up == good).then(|| data_name("in"));
        ids.push(args.edge_id);
        s.stage(args).await;
    }
    let strict = s.member(flow_id, &[bad]).await;
    let strict_id = s.edge_between(flow_id, bad, strict).await.edge_id;
    let edge = s.edge(flow_id, ids[0]).await;
    assert_eq!((edge.edge_id, edge.flow_id, edge.seq), (ids[0], flow_id, 1));
    assert_eq!((edge.upstream_execution_id, edge.downstream_execution_id), (good, child));
    assert_eq!((edge.dependency_kind, edge.data_passing_ref), (DependencyKind::SuccessOnly, Some(data_name("in"))));
    assert_eq!((edge.edge_state, edge.created_at, edge.applied_at), (EdgeState::Pending, created_at, Some(created_at)));
    assert_eq!((edge.upstream_run, edge.upstream_outcome, edge.resolved_at), (None, None, None));
    assert_eq!((edge.upstream_attempt_index, edge.stale_upstream), (None, false));
    assert_eq!(s.edge(flow_id, ids[2]).await.edge_state, EdgeState::Staged);

    s.advance(10);
    s.complete_as_operator(good).await;
    s.fail_as_operator(bad).await;
    let edge = s.edge(flow_id, ids[0]).await;
    assert_eq!((edge.edge_state, edge.upstream_outcome), (EdgeState::Satisfied, Some(TerminalOutcome::Success)));
    assert_eq!((edge.upstream_run, edge.resolved_at), (Some(0), Some(s.now())));
    let edge = s.edge(flow_id, ids[1]).await;
    assert_eq!((edge.edge_state, edge.upstream_outcome), (EdgeState::Satisfied, Some(TerminalOutcome::Failed)));
    let edge = s.edge(flow_id, strict_id).await;
    assert_eq!((edge.edge_state, edge.upstream_outcome), (EdgeState::Impossible, Some(TerminalOutcome::Failed)));
    // Stale: the child has been claimed, and its upstream runs again.
    s.claim_by_id(child).await;
    s.replay(good, 0).await;
    let edge = s.edge(flow_id, ids[0]).await;
    assert_eq!((edge.edge_state, edge.upstream_run, edge.stale_upstream), (EdgeState::Satisfied, Some(0), true));
    assert!(!s.edge(flow_id, ids[1]).await.stale_upstream);
    // Detached: what was staged or pending when the flow was cancelled over it.
    let late = s.member(flow_id, &[open]).await;
    let late_id = s.edge_between(flow_id, open, late).await.edge_id;
    s.cancel_flow(flow_id, CancellationPolicy::FlowOnly).await;
    assert_eq!(s.edge(flow_id, late_id).await.edge_state, EdgeState::Pending, "flow_only freezes nothing");
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    for (edge_id, expected) in [
        (ids[0], EdgeState::Satisfied),
        (ids[1], EdgeState::Satisfied),
        (ids[2], EdgeState::Detached),
        (late_id, EdgeState::Detached),
        (strict_id, EdgeState::Impossible),
    ] {
        let edge = s.edge(flow_id, edge_id).await;
        assert_eq!((edge.edge_state, edge.join), (expected, Join::All));
        let listed = s.incoming(flow_id, edge.downstream_execution_id).await;
        assert!(listed.contains(&edge), "the list shows the same");
    }
    let unknown = DescribeEdgeArgs { flow_id, edge_id: EdgeId::new() };
    s.refused_with(Code::EdgeNotFound, unknown).await;
    s.refused_with(Code::FlowNotFound, DescribeEdgeArgs { flow_id: s.flow_id(), edge_id: ids[0] }).await;
}

async fn paging(s: &Stage) {
    let flow_id = s.flow().await;
    let hub = s.member(flow_id, &[]).await;
    let others = s.members(flow_id, 60, &[]).await;
    let (ups, downs) = others.split_at(30);
    // Edge ids say nothing about the order; out and in alternate, so that each direction has gaps.
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    for n in 0..30 {
        let mut args = s.edge_args(flow_id, ups[n], hub);
        args.edge_id = EdgeId::from_uuid(uuid::Uuid::from_u128(1_000 - n as u128));
        incoming.push(args.edge_id);
        s.stage(args).await;
        if n < 20 {
            outgoing.push(s.link(flow_id, hub, downs[n]).await);
        }
    }
    let page = async |direction, cursor: Option<String>, limit| {
        let args =
            ListEdgesArgs::builder().flow_id(flow_id).direction(direction).limit(limit).maybe_cursor(cursor).build();
        s.backend.list_edges(args).await.unwrap_or_else(|e| panic!("list_edges: {e}"))
    };
    let into = EdgeDirection::Incoming { to_node: hub };
    let out = EdgeDirection::Outgoing { from_node: hub };
    for (direction, expected) in [(into, &incoming), (out, &outgoing)] {
        for limit in [1, 7, 1000] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = page(direction, cursor, limit).await;
                assert!(page.edges.len() <= limit as usize);
                seen.extend(page.edges);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(&seen.iter().map(|e| e.edge_id).collect::<Vec<_>>(), expected);
            assert!(seen.is_sorted_by_key(|e| e.seq));
        }
    }
    // One more between any two pages: each comes at the end, none is lost or doubled.
    let (mut seen, mut cursor, mut added) = (Vec::new(), None, 20);
    loop {
        let page = page(out, cursor, 4).await;
        seen.extend(page.edges.iter().map(|e| e.edge_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
        if added < 30 {
            outgoing.push(s.link(flow_id, hub, downs[added]).await);
            added += 1;
        }
    }
    assert_eq!(seen[..20], outgoing[..20]);
    assert!(outgoing.starts_with(&seen), "in the order in which they were added");
    assert!(seen.len() > 20, "what was added before the last page is on it");
    let outsider = s.ready().await;
    let args =
        ListEdgesArgs::builder().flow_id(flow_id).direction(EdgeDirection::Incoming { to_node: outsider }).build();
    s.refused_with(Code::ExecutionNotInFlow, args).await;
    for limit in [0, 1001] {
        let args = ListEdgesArgs::builder().flow_id(flow_id).direction(out).limit(limit).build();
        s.refused_with(Code::InvalidInput, args).await;
    }
}

async fn many_members(s: &Stage) {
    let flow_id = s.flow().await;
    let mut ids: Vec<ExecutionId> = s.members(flow_id, 9_999, &[]).await;
    // Ids are ordered as numbers, whenever they were made.
    let mut first = s.member_creation(flow_id, &[]);
    first.execution_id = crate::stage::numbered(3);
    ids.insert(0, s.create(first).await);
    for limit in [1000, 999] {
        let members = s.list_members(flow_id, limit).await;
        assert_eq!(members.iter().map(|m| m.execution_id).collect::<Vec<_>>(), ids, "in pages of {limit}");
    }
    let small = s.submission(vec![spec("b"), spec("a")], vec![arrow("b", "a")]);
    let flow_id = small.flow_id;
    s.submit(small).await;
    let one_by_one = s.list_members(flow_id, 1).await;
    let names: Vec<_> = one_by_one.iter().map(|m| m.member_name.clone()).collect();
    assert_eq!(names, [Some(data_name("b")), Some(data_name("a"))]);
    assert_eq!((one_by_one[1].public_state, one_by_one[1].unresolved_count), (PublicState::WaitingChildren, 1));
}

/// The rule of the state, from the states of the members.
fn expected(states: &[PublicState]) -> PublicFlowState {
    use PublicState as P;
    let any = |of: &[PublicState]| states.iter().any(|s| of.contains(s));
    let open = [P::Waiting, P::Delayed, P::RateLimited, P::WaitingChildren, P::Active, P::Suspended];
    if !states.is_empty() && !any(&open) {
        return if any(&[P::Failed, P::Cancelled, P::Expired]) || !any(&[P::Completed]) {
            PublicFlowState::Failed
        } else {
            PublicFlowState::Completed
        };
    }
    if any(&[P::Active]) {
        PublicFlowState::Running
    } else if any(&[P::Suspended, P::Delayed, P::RateLimited, P::WaitingChildren]) {
        PublicFlowState::Blocked
    } else {
        PublicFlowState::Open
    }
}

async fn combinations(s: &Stage) {
    let others: Vec<_> = PublicState::ALL.iter().copied().filter(|state| *state != PublicState::Skipped).collect();
    assert_eq!(others.len(), 10);
    for set in 0..1_u32 << 10 {
        let states: Vec<_> = (0..10).filter(|n| set & (1 << n) != 0).map(|n| others[n]).collect();
        // Without a skipped member, and with one: behind a member that failed, and was replayed and brought to its state.
        for skipped in [false, true] {
            if skipped && states.is_empty() {
                continue; // somebody else must have ended it
            }
            let flow_id = s.flow().await;
            let mut all = states.clone();
            for (n, state) in states.iter().enumerate() {
                if n > 0 || !skipped {
                    s.member_that_is(flow_id, *state, &[]).await;
                    continue;
                }
                let mut args = s.member_creation(flow_id, &[]);
                match state {
                    PublicState::WaitingChildren => args.flow = Some(FlowJoin::held(flow_id)),
                    PublicState::Expired => args.policy = std::sync::Arc::new(crate::stage::deadline(When::After(0))),
                    _ => {}
                }
                let up = s.create(args).await;
                s.member(flow_id, &[up]).await;
                s.fail_as_operator(up).await;
                all.push(PublicState::Skipped);
                if *state != PublicState::Failed {
                    s.replay(up, 0).await;
                    s.bring_to(up, *state).await;
                }
            }
            let flow = s.describe_flow(flow_id).await;
            assert_eq!(flow.public_flow_state, expected(&all), "{all:?}");
            for state in PublicState::ALL {
                assert_eq!(flow.member_counts.get(*state), u32::from(all.contains(state)), "{state} of {all:?}");
            }
        }
    }
    let state = async |flow_id| s.describe_flow(flow_id).await.public_flow_state;
    // Empty, and sealed empty.
    let empty = s.flow().await;
    assert_eq!(state(empty).await, PublicFlowState::Open);
    s.seal(empty).await;
    assert_eq!(state(empty).await, PublicFlowState::Open);
    // All skipped but the one that it is owed to.
    let flow_id = s.flow().await;
    let ids = s.chain(flow_id, 5).await;
    s.seal(flow_id).await;
    s.fail_as_operator(ids[0]).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Failed);
    // After replay: blocked ones count once more.
    s.replay_and_reopen(ids[0], 0).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Blocked);
    s.claim_by_id(ids[0]).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Running);
    // Unsealed and shown as over, until somebody joins.
    let flow_id = s.flow().await;
    let id = s.member(flow_id, &[]).await;
    s.complete_as_operator(id).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Completed);
    let held = s.held_member(flow_id).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Blocked);
    s.promote(held).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Open);
    // Cancelled comes first, whatever the members do.
    s.claim_by_id(held).await;
    s.cancel_flow(flow_id, CancellationPolicy::FlowOnly).await;
    assert_eq!(state(flow_id).await, PublicFlowState::Cancelled);
}

async fn recounted(s: &Stage) {
    let flow_id = s.flow().await;
    let check = async |after: &str| s.recount(flow_id, after).await;
    check("create_flow").await;
    let joined = s.ready().await;
    s.join(flow_id, joined).await;
    check("add_execution_to_flow").await;
    let up = s.member(flow_id, &[]).await;
    let held = s.held_member(flow_id).await;
    let child = s.member(flow_id, &[up]).await;
    let other = s.member(flow_id, &[]).await;
    check("create_execution").await;
    s.link(flow_id, up, other).await;
    check("stage_dependency_edge").await;
    s.promote(held).await;
    check("promote_blocked_to_eligible").await;
    s.grant(held).await;
    check("issue_claim_grant").await;
    let fence = match s.backend.claim_execution(s.claim_by_id_args(held)).await {
        Ok(ClaimExecutionResult::Claimed(claimed)) => claimed.fence,
        Err(e) => panic!("claim_execution: {e}"),
    };
    check("claim_execution").await;
    let waitpoint = s.suspend_on_any_signal(held, fence).await;
    check("suspend_execution").await;
    s.wake_by_signal(held, &waitpoint).await;
    check("deliver_signal").await;
    let fence = s.claim_resumed(held).await.claimed.fence;
    check("claim_resumed_execution").await;
    s.delay(held, fence, When::After(1_000)).await;
    check("delay_execution").await;
    s.advance(1_000);
    s.sweep().await;
    check("sweep").await;
    let fence = s.claim_resumed(held).await.claimed.fence;
    s.revoke(held, fence).await;
    check("revoke_lease").await;
    let fence = s.reclaim(held).await.fence;
    check("reclaim_execution").await;
    s.lose(held, fence).await;
    check("mark_lease_expired").await;
    s.block(joined, BlockReason::WaitingForQuota).await;
    check("block_execution").await;
    s.unblock(joined, BlockReason::WaitingForQuota).await;
    check("unblock_execution").await;
    s.block(joined, BlockReason::PausedByOperator).await;
    let claims = s.claim_next(5).await.claimed;
    assert_eq!(claims.len(), 2);
    check("claim_next").await;
    for claim in claims {
        let claimed = claim.claimed();
        if claimed.execution_id == up {
            s.fail(up, claimed.fence).await;
            check("fail_execution").await;
            assert_eq!(s.outcome(child).await, TerminalOutcome::Skipped);
        } else {
            s.complete(held, claimed.fence).await;
            check("complete_execution").await;
        }
    }
    s.replay_and_reopen(up, 0).await;
    check("replay_execution").await;
    s.cancel(child).await;
    check("cancel_execution").await;
    let parent = s.claim_by_id(up).await.fence;
    let task = s.member(flow_id, &[]).await;
    s.link(flow_id, task, up).await;
    s.wait_for_children(up, parent).await;
    check("move_to_waiting_children").await;
    s.complete_as_operator(task).await;
    check("a woken parent").await;
    let mut args = s.member_creation(flow_id, &[]);
    args.policy = std::sync::Arc::new(crate::stage::deadline(When::After(0)));
    let doomed = s.create(args).await;
    s.expire(doomed, ExpiryTimer::Deadline).await;
    check("expire_execution").await;
    let late = s.held_member(flow_id).await;
    s.seal(flow_id).await;
    check("seal_flow").await;
    s.claim_by_id(late).await;
    s.cancel_flow(flow_id, CancellationPolicy::CancelPending).await;
    check("cancel_flow").await;
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    check("a wider cancel_flow").await;
    assert_eq!(s.describe_flow(flow_id).await.member_counts.open(), 0);

    let submission = s.submission(vec![spec("a"), spec("b")], vec![arrow("a", "b")]);
    let flow_id = submission.flow_id;
    let ids = s.submit(submission).await;
    s.recount(flow_id, "submit_flow").await;
    s.complete_as_operator(ids[0]).await;
    s.recount(flow_id, "an operator's complete_execution").await;
}
