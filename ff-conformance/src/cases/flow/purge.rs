//! Purges of flows, and the backlog rebuilt.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, FlowId};
use ff_core::refusal::Code;
use ff_core::state::{PublicState, TerminalOutcome};

use crate::cases::cases;
use crate::harness::Damage;
use crate::stage::{PARTITION, Stage, kept_for, namespace, numbered, terminal_flow};

cases! { "flow";
    "sweep: a closed flow is purged with all its members when due, no member earlier, and its id is free when the backlog item is done." => purged,
    "sweep: a replay disarms the purge of its flow." => disarmed;
    damage:
    "rebuild_indexes: a lost backlog entry comes back and a sound partition is not touched." => rebuilt [BacklogLost],
}

const DAY_MS: u64 = 86_400_000;

/// A member with this number that is kept for `retention_ms` once it has ended.
fn kept(s: &Stage, flow_id: FlowId, number: u128, retention_ms: u64) -> CreateExecutionArgs {
    let mut args = s.member_creation(flow_id, &[]);
    args.execution_id = numbered(number);
    args.policy = Arc::new(kept_for(retention_ms));
    args
}

async fn exists(s: &Stage, id: ExecutionId) -> bool {
    let answer = s.backend.describe_execution(DescribeExecutionArgs { execution_id: id }).await;
    match answer {
        Ok(_) => true,
        Err(e) if e.code() == Some(Code::ExecutionNotFound) => false,
        Err(e) => panic!("describe_execution: {e}"),
    }
}

async fn purged(s: &Stage) {
    let flow_id = s.flow().await;
    let creation = |number, retention_ms| kept(s, flow_id, number, retention_ms);
    let first = s.create(creation(1, 1_000)).await;
    let second = s.create(creation(2, 10_000)).await;
    let third = s.create(creation(3, 0)).await;
    let start = s.now();
    s.complete_as_operator(second).await;
    s.advance(5_000);
    s.complete_as_operator(first).await;
    s.advance(1_000);
    let behind = s
        .create({
            let mut args = creation(4, 500);
            if let Some(join) = &mut args.flow {
                join.edges.push(IncomingEdge::new(ff_core::ids::EdgeId::new(), first));
            }
            args
        })
        .await;
    s.complete_as_operator(behind).await;
    // Neither sealed nor all ended: it is kept, whatever has passed.
    s.complete_as_operator(third).await;
    assert_eq!(s.describe_flow(flow_id).await.purge_at, None);
    s.set(start.after(9_000));
    assert_eq!(s.sweep().await.total(), 0);
    s.seal(flow_id).await;
    // The greatest of 5 000 + 1 000, 0 + 10 000, 6 000 + 0 and 6 000 + 500 after the start.
    let due = start.after(10_000);
    assert_eq!(s.describe_flow(flow_id).await.purge_at, Some(due));
    s.set(start.after(9_999));
    assert_eq!(s.sweep().await.total(), 0);
    for id in [first, second, third, behind] {
        assert!(exists(s, id).await, "no member goes before its flow");
        assert_eq!(s.describe(id).await.purge_at, None);
    }

    s.set(due);
    let report = s.sweep_once(1).await;
    assert_eq!((report.count(TimerKind::Retention), report.total(), report.more), (1, 1, true));
    s.flow_gone(flow_id).await;
    for id in [first, second, third, behind] {
        assert!(exists(s, id).await, "read as ever until its own step");
        s.refused_with(Code::FlowNotFound, s.replay_args(id, 0)).await;
        let args = ListExecutionsArgs::builder().partition(PARTITION).build();
        let listed = s.backend.list_executions(args).await.unwrap_or_else(|e| panic!("list_executions: {e}"));
        assert!(listed.executions.iter().any(|x| x.execution_id == id));
    }
    let again = CreateFlowArgs::builder().flow_id(flow_id).namespace(namespace()).flow_kind("pipeline").build();
    let members = [first, second, third, behind];
    for (n, id) in members.into_iter().enumerate() {
        let refusal = s.refused_with(Code::FlowAlreadyTerminal, again.clone()).await;
        assert_eq!(terminal_flow(&refusal), (None, None));
        let mut taken = s.creation();
        taken.execution_id = id;
        s.refused_with(Code::ExecutionAlreadyExists, taken).await;
        let report = s.sweep_once(1).await;
        assert_eq!((report.count(SweepKind::Backlog), report.total()), (1, 1), "one step");
        for (position, member) in members.into_iter().enumerate() {
            assert_eq!(exists(s, member).await, position > n, "in id order");
        }
    }
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.rebuild().await.total(), 0);
    // All ids are free.
    s.call(again).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.describe_flow(flow_id).await.node_count, 0);
    for (number, id) in (1..).zip(members) {
        assert_eq!(s.create(creation(number, 0)).await, id);
        assert_eq!(s.attempts(id).await, []);
    }

    // A flow that never had a member is kept for a day from its seal; one that is cancelled needs no seal.
    let empty = s.flow().await;
    s.seal(empty).await;
    assert_eq!(s.describe_flow(empty).await.purge_at, Some(s.now().after(DAY_MS)));
    let cancelled = s.flow().await;
    s.create(kept(s, cancelled, 77, 2_000)).await;
    s.cancel_flow(cancelled, CancellationPolicy::CancelAll).await;
    assert_eq!(s.describe_flow(cancelled).await.purge_at, Some(s.now().after(2_000)));
    s.advance(2_000);
    s.sweep().await;
    s.flow_gone(cancelled).await;
    assert!(!exists(s, numbered(77)).await);
    s.advance(DAY_MS - 2_001);
    s.sweep().await;
    assert_eq!(s.describe_flow(empty).await.node_count, 0);
    s.advance(1);
    s.sweep().await;
    s.flow_gone(empty).await;
}

async fn disarmed(s: &Stage) {
    let flow_id = s.flow().await;
    let (one, two) = (s.create(kept(s, flow_id, 1, 1_000)).await, s.create(kept(s, flow_id, 2, 1_000)).await);
    s.seal(flow_id).await;
    for id in [one, two] {
        s.complete_as_operator(id).await;
    }
    let due = s.now().after(1_000);
    assert_eq!(s.describe_flow(flow_id).await.purge_at, Some(due));
    // Due, and not fired: the replay keeps it.
    s.set(due.after(1));
    s.replay(one, 0).await;
    assert_eq!(s.describe_flow(flow_id).await.purge_at, None);
    let report = s.sweep().await;
    assert_eq!((report.total(), report.next_due_at), (0, None), "no timer stands");
    s.advance(DAY_MS);
    assert_eq!(s.sweep().await.total(), 0);
    assert!(exists(s, one).await && exists(s, two).await);
    // It is armed anew when the flow is over again.
    s.complete_as_operator(one).await;
    let due = s.now().after(1_000);
    assert_eq!(s.describe_flow(flow_id).await.purge_at, Some(due));
    s.advance(999);
    assert_eq!(s.sweep().await.total(), 0);
    s.advance(1);
    s.sweep().await;
    s.flow_gone(flow_id).await;
    assert!(!exists(s, one).await && !exists(s, two).await);
}

async fn rebuilt(s: &Stage) {
    // One entry of each kind: a walk of edges, of a cancellation, of a seal, and of a purge.
    let (edges, cancelled, sealed) = (s.flow().await, s.flow().await, s.flow().await);
    let up = s.member(edges, &[]).await;
    s.members(edges, 130, &[up]).await;
    s.fail_as_operator(up).await;
    s.members(cancelled, 66, &[]).await;
    s.cancel_flow(cancelled, CancellationPolicy::CancelAll).await;
    s.held_members(sealed, 130).await;
    s.seal(sealed).await;
    let purged = s.flow().await;
    let gone = s.create(kept(s, purged, 1, 0)).await;
    s.seal(purged).await;
    s.complete_as_operator(gone).await;
    let report = s.sweep_once(1).await;
    assert_eq!(report.count(TimerKind::Retention), 1);
    for flow_id in [edges, cancelled, sealed] {
        assert_eq!(s.deferred(flow_id).await, 1);
    }
    // Sound, it is not touched.
    let before = s.view().await;
    let report = s.rebuild().await;
    assert_eq!(report.total(), 0, "{report:?}");
    assert_eq!(s.view().await, before);

    s.damage(Damage::BacklogLost(PARTITION)).await;
    assert_eq!(s.sweep_once(1000).await.count(SweepKind::Backlog), 0, "nothing is left to drain");
    let report = s.rebuild().await;
    assert_eq!(report.count(IndexKind::Backlog, RepairAction::Added), 4);
    for flow_id in [edges, cancelled, sealed] {
        assert_eq!(s.deferred(flow_id).await, 1);
    }
    assert_eq!(s.rebuild().await.total(), 0, "once");
    s.sweep().await;
    assert_eq!(s.count_of(edges, PublicState::Skipped).await, 130);
    assert_eq!(s.count_of(cancelled, PublicState::Cancelled).await, 66);
    assert_eq!(s.count_of(sealed, PublicState::Waiting).await, 130);
    assert!(!exists(s, gone).await);
    assert_eq!(s.outcome(up).await, TerminalOutcome::Failed);
    for flow_id in [edges, cancelled, sealed] {
        assert_eq!(s.deferred(flow_id).await, 0);
    }
}
