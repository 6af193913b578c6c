//! Replays: edges read again, children moved back, pinned or reopened.

use ff_core::contracts::{BacklogKind, EdgeState, PublicFlowState};
use ff_core::refusal::Code;
use ff_core::state::PublicState;

use super::*;

#[test]
fn a_skipped_member_is_refused_behind_a_failure_waits_behind_a_run_and_goes_behind_a_success() {
    let mut b = Bench::new();
    b.fan(1, 2..3);
    b.fail(1);
    assert_eq!((b.state(2), b.counts(2)), (PublicState::Skipped, (0, 0, 1)));
    b.refused(&Refusal::deps_impossible([edge(1, 2)]), |b| b.try_replay(2, false));
    b.replay(1, false);
    // The edge is pending again; the child stays skipped.
    assert_eq!((b.state(2), b.counts(2), b.edge_state(1, 2)), (PublicState::Skipped, (1, 0, 0), EdgeState::Pending));
    b.check();
    b.replay(2, false);
    assert_eq!(b.state(2), PublicState::WaitingChildren);
    b.complete(1);
    assert_eq!((b.state(2), b.counts(2)), (PublicState::Waiting, (0, 1, 0)));
    assert_eq!(b.edge_of(1, 2).upstream_run, Some(1));
    b.check();
}

#[test]
fn an_upstreams_replay_moves_a_ready_child_back_and_leaves_a_claimed_and_a_finished_one() {
    let mut b = Bench::new();
    b.fan(1, 2..5);
    b.complete(1);
    b.run(2);
    b.complete(4);
    b.replay(1, false);
    assert_eq!(b.states(2..5), [PublicState::Active, PublicState::WaitingChildren, PublicState::Completed]);
    let of = |b: &Bench, n| (b.edge_state(1, n), b.edge_of(1, n).stale_upstream, b.edge_of(1, n).upstream_run);
    assert_eq!(of(&b, 2), (EdgeState::Satisfied, true, Some(0)));
    assert_eq!(of(&b, 3), (EdgeState::Pending, false, None));
    assert_eq!(of(&b, 4), (EdgeState::Satisfied, true, Some(0)));
    b.check();
    // The new run fails: what is pinned stays, what is not takes the new verdict.
    b.fail(1);
    assert_eq!(b.states(2..5), [PublicState::Active, PublicState::Skipped, PublicState::Completed]);
    assert_eq!(of(&b, 2), (EdgeState::Satisfied, true, Some(0)));
    b.check();
}

#[test]
fn a_replay_reads_its_edges_again() {
    let mut b = Bench::new();
    b.fan(1, 2..3);
    b.complete(1);
    b.complete(2);
    // The child keeps the old run's edge while it is finished, and reads it again when it is replayed.
    b.replay(1, false);
    assert_eq!(b.edge_state(1, 2), EdgeState::Satisfied);
    b.replay(2, false);
    assert_eq!((b.edge_state(1, 2), b.state(2)), (EdgeState::Pending, PublicState::WaitingChildren));
    b.check();
    b.complete(1);
    assert_eq!((b.state(2), b.edge_of(1, 2).upstream_run), (PublicState::Waiting, Some(1)));
    b.check();
}

#[test]
fn reopening_replays_skipped_descendants_except_behind_another_impossible_edge() {
    let mut b = Bench::new();
    b.member(1);
    b.member(9);
    b.join(2, false, &[1]);
    b.join(3, false, &[2]);
    b.join(4, false, &[2, 9]);
    b.fail(9);
    b.fail(1);
    assert_eq!(b.states(2..5), [PublicState::Skipped; 3]);
    b.now += 7;
    b.replay(1, true);
    let reopened = [PublicState::WaitingChildren, PublicState::WaitingChildren, PublicState::Skipped];
    assert_eq!(b.states(2..5), reopened);
    assert_eq!((b.counts(4), b.edge_state(2, 4)), ((1, 0, 1), EdgeState::Pending));
    assert_eq!(b.p.find(&execution(4)).unwrap().record.replay_count, 0);
    b.check();
    for n in [2, 3] {
        let record = &b.p.find(&execution(n)).unwrap().record;
        let mark = record.replay.clone().unwrap();
        let args = ReplayExecutionArgs::builder()
            .execution_id(execution(n))
            .replay_count(0)
            .reason("again")
            .by("me")
            .reopen_skipped(true)
            .build();
        assert_eq!((mark.reason.as_str(), mark.by.as_str(), mark.at), ("again", "me", at(1_007)));
        assert_eq!((mark.digest, record.replay_count), (args.digest(), 1));
    }
    b.complete(1);
    b.complete(2);
    assert_eq!(b.states(2..5), [PublicState::Completed, PublicState::Waiting, PublicState::Skipped]);
    b.check();
}

#[test]
fn only_an_edge_that_leaves_impossible_reopens() {
    let mut b = Bench::new();
    b.fan(1, 2..3);
    b.fail(1);
    b.replay(1, false);
    b.complete(1);
    assert_eq!((b.state(2), b.edge_state(1, 2)), (PublicState::Skipped, EdgeState::Satisfied));
    b.replay(1, true);
    assert_eq!((b.state(2), b.edge_state(1, 2)), (PublicState::Skipped, EdgeState::Pending));
    b.check();
}

#[test]
fn nobody_is_reopened_in_a_flow_that_was_cancelled_meanwhile() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    b.fail(1);
    b.sweep(1000);
    b.sweep(1000);
    assert_eq!(b.count(1000..1130, PublicState::Skipped), 130);
    b.replay(1, true);
    assert_eq!(b.count(1000..1130, PublicState::WaitingChildren), 128);
    b.cancel(CancellationPolicy::FlowOnly);
    b.sweep(1000);
    assert_eq!(b.states(1128..1130), [PublicState::Skipped; 2]);
    assert_eq!(b.edge_state(1, 1129), EdgeState::Pending);
    b.check();
}

#[test]
fn a_member_at_its_replay_limit_is_not_reopened() {
    let mut b = Bench::new();
    b.member(1);
    b.policy = ExecutionPolicy::builder().max_replays(0).build().into();
    b.join(2, false, &[1]);
    b.fail(1);
    b.replay(1, true);
    assert_eq!((b.state(2), b.edge_state(1, 2)), (PublicState::Skipped, EdgeState::Pending));
    b.check();
}

#[test]
fn an_entry_from_before_the_replay_skips_no_child() {
    let mut b = Bench::new();
    b.fan(1, 100..165);
    b.fail(1);
    assert_eq!(b.backlog(), [of_execution(BacklogKind::Edges, 1)]);
    // 65 edges: one call walks them all, and takes the entry with it.
    b.replay(1, false);
    assert_eq!(b.backlog(), []);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!((b.state(164), b.counts(100)), (PublicState::WaitingChildren, (1, 0, 0)));
    b.check();
    b.complete(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!(b.state(164), PublicState::Waiting);
    b.check();
}

#[test]
fn a_replay_that_runs_out_of_steps_restarts_its_waiting_entry_in_place() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    b.fan(2, 2000..2129);
    b.complete(1);
    b.complete(2);
    b.replay(1, false);
    // 128 children are back behind their edge; the entry keeps its place before the other and goes on from there.
    assert_eq!(b.backlog(), [1, 2].map(|n| of_execution(BacklogKind::Edges, n)));
    assert_eq!(b.count(1000..1130, PublicState::WaitingChildren), 130);
    b.sweep(2);
    assert_eq!(b.backlog(), [of_execution(BacklogKind::Edges, 2)]);
    assert_eq!(b.count(1000..1130, PublicState::WaitingChildren), 130);
    b.check();
}

#[test]
fn an_upstream_that_ended_again_before_the_walk_gives_each_edge_its_latest_verdict_once() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    b.complete(1);
    b.replay(1, false);
    b.fail(1);
    assert_eq!(b.count(1000..1064, PublicState::Skipped), 64);
    b.sweep(1000);
    b.sweep(1000);
    assert_eq!(b.count(1000..1130, PublicState::Skipped), 130);
    assert!((1000..1130).all(|n| b.edge_of(1, n).upstream_run == Some(1)));
    b.check();
}

#[test]
fn a_cancelled_flow_refuses_and_a_finished_sealed_one_is_reopened_and_disarmed() {
    let mut b = Bench::new();
    b.member(1);
    b.seal();
    b.complete(1);
    assert_eq!(b.flow().public_flow_state, PublicFlowState::Completed);
    assert_eq!(b.flow().purge_at, Some(at(1_000 + 86_400_000)));
    b.now += 86_400_000;
    // Due, but not fired.
    b.replay(1, false);
    assert_eq!((b.flow().public_flow_state, b.flow().purge_at), (PublicFlowState::Open, None));
    assert_eq!(b.sweep(100).total(), 0);
    b.check();
    b.complete(1);
    assert_eq!(b.flow().purge_at, Some(at(1_000 + 2 * 86_400_000)));

    let mut b = Bench::new();
    b.member(1);
    b.complete(1);
    b.cancel(CancellationPolicy::FlowOnly);
    assert_eq!(code(b.try_replay(1, false)), Code::FlowAlreadyTerminal);
}
