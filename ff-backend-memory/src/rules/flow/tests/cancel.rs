//! `cancel_flow`: who is ended, in which call, and what it does to a cascade.

use ff_core::contracts::{BacklogKind, CancelFlowResult, CancellationPolicy, EdgeState, PublicFlowState, SweepKind};
use ff_core::state::{EndCause, PublicState};

use super::*;

const ALL: CancellationPolicy = CancellationPolicy::CancelAll;
const PENDING: CancellationPolicy = CancellationPolicy::CancelPending;
const FLOW_ONLY: CancellationPolicy = CancellationPolicy::FlowOnly;

const fn done(cancellation_policy: CancellationPolicy, cancelled: u32, nonterminal: u32) -> CancelFlowResult {
    CancelFlowResult::Cancelled { cancellation_policy, cancelled, nonterminal }
}

const fn more(
    cancellation_policy: CancellationPolicy,
    cancelled: u32,
    remaining: u32,
    nonterminal: u32,
) -> CancelFlowResult {
    CancelFlowResult::CancellationScheduled { cancellation_policy, cancelled, remaining, nonterminal }
}

#[test]
fn one_call_ends_64_members_in_id_order() {
    for (members, expected) in [(1, done(ALL, 1, 0)), (64, done(ALL, 64, 0)), (65, more(ALL, 64, 1, 1))] {
        let mut b = Bench::new();
        for n in (100..100 + members).rev() {
            b.member(n);
        }
        assert_eq!(b.cancel(ALL), expected);
        assert_eq!(b.count(100..100 + members.min(64), PublicState::Cancelled), members.min(64) as usize);
        b.check();
    }
}

#[test]
fn a_repeat_carries_the_walk_on_and_changes_no_field() {
    let mut b = Bench::new();
    for n in 100..240 {
        b.member(n);
    }
    assert_eq!(b.cancel(ALL), more(ALL, 64, 76, 76));
    b.now += 5;
    let before = b.flow();
    assert_eq!(b.cancel(FLOW_ONLY), more(ALL, 64, 12, 12));
    let mut after = b.flow();
    assert_eq!(after.member_counts.get(PublicState::Cancelled), 128);
    after.member_counts = before.member_counts;
    assert_eq!(after, before);
    assert_eq!(b.cancel(ALL), done(ALL, 12, 0));
    assert_eq!(b.cancel(ALL), done(ALL, 0, 0));
    assert_eq!((b.backlog(), b.flow().deferred), (vec![], 0));
    b.check();
    let x = b.p.find(&execution(100)).unwrap();
    let ended = x.record.ended.clone().unwrap();
    assert_eq!((ended.cause, ended.by.to_string()), (EndCause::FlowCancelled, "operator:me".to_owned()));
    assert_eq!(x.record.cancel_reason.as_deref(), Some("why"));
}

#[test]
fn running_members_use_steps_and_no_endings_under_cancel_pending() {
    let mut b = Bench::new();
    for n in 100..230 {
        b.member(n);
    }
    for _ in 0..3 {
        b.claim(64);
    }
    assert_eq!(b.count(100..230, PublicState::Active), 130);
    assert_eq!(b.cancel(PENDING), more(PENDING, 0, 2, 130));
    assert_eq!(b.cancel(PENDING), done(PENDING, 0, 130));
    // A wider policy starts from the first member again.
    b.now += 1;
    assert_eq!(b.cancel(ALL), more(ALL, 64, 66, 66));
    assert_eq!(b.count(100..164, PublicState::Cancelled), 64);
    assert_eq!((b.flow().cancelled_at, b.flow().last_mutation_at), (Some(at(1_000)), at(1_001)));
    b.check();
}

#[test]
fn a_wider_policy_over_a_waiting_walk_starts_from_the_first_member_and_keeps_the_place() {
    let mut b = Bench::new();
    for n in 100..300 {
        b.member(n);
    }
    b.run(100);
    assert_eq!(b.cancel(PENDING), more(PENDING, 64, 135, 136));
    assert_eq!(b.cancel(ALL), more(ALL, 64, 72, 72));
    assert_eq!(b.state(100), PublicState::Cancelled);
    b.check();
}

#[test]
fn flow_only_releases_held_members_and_ends_nobody() {
    let mut b = Bench::new();
    b.member(1);
    b.held(2);
    b.join(3, true, &[1]);
    assert_eq!(b.cancel(FLOW_ONLY), done(FLOW_ONLY, 0, 3));
    let waiting = [PublicState::Waiting, PublicState::Waiting, PublicState::WaitingChildren];
    assert_eq!(b.states(1..4), waiting);
    assert_eq!((b.flow().public_flow_state, b.flow().sealed), (PublicFlowState::Cancelled, true));
    // Its cascade goes on.
    b.fail(1);
    assert_eq!(b.state(3), PublicState::Skipped);
    assert_eq!(b.cancel(ALL), done(ALL, 1, 0));
    b.check();
}

#[test]
fn in_the_middle_of_a_cascade_it_skips_nobody_any_more() {
    let mut b = Bench::new();
    b.fan(1, 100..166);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!(b.cancel(ALL), done(ALL, 2, 0));
    assert_eq!(b.states(164..166), [PublicState::Cancelled; 2]);
    assert_eq!((b.edge_state(1, 163), b.edge_state(1, 164)), (EdgeState::Impossible, EdgeState::Detached));
    // The upstream's own entry is void, and dropped when reached: one step.
    assert_eq!(b.backlog(), [of_execution(BacklogKind::Edges, 1)]);
    b.check();
    let report = b.sweep(100);
    assert_eq!((report.count(SweepKind::Stale), report.count(SweepKind::Backlog)), (1, 0));
    assert_eq!((b.edge_state(1, 164), b.flow().deferred), (EdgeState::Detached, 0));
    assert_eq!(b.flow().member_counts.get(PublicState::Skipped), 64);
    b.check();
}

#[test]
fn a_seal_that_is_not_over_is_dropped_by_a_covering_policy() {
    let mut b = Bench::new();
    for n in 100..230 {
        b.held(n);
    }
    b.seal();
    assert_eq!(b.cancel(ALL), more(ALL, 64, 66, 66));
    assert_eq!(b.backlog(), [of_flow(BacklogKind::Seal, F), of_flow(BacklogKind::Cancel, F)]);
    b.check();
    let report = b.sweep(100);
    assert_eq!((report.count(SweepKind::Stale), report.count(SweepKind::Backlog)), (1, 64));
    b.sweep(100);
    assert_eq!((b.backlog(), b.count(100..230, PublicState::Cancelled)), (vec![], 130));
    b.check();
}

#[test]
fn a_walk_that_others_finished_is_over_for_a_repeat() {
    let mut b = Bench::new();
    for n in 100..165 {
        b.member(n);
    }
    assert_eq!(b.cancel(ALL), more(ALL, 64, 1, 1));
    b.complete(164);
    assert_eq!((b.state(164), b.backlog().len()), (PublicState::Completed, 1));
    assert_eq!(b.cancel(ALL), done(ALL, 0, 0));
    assert_eq!(b.backlog(), []);
    b.check();
}

#[test]
fn a_wider_policy_ends_a_narrower_walk_that_has_nobody_left() {
    let mut b = Bench::new();
    for n in 100..165 {
        b.member(n);
    }
    assert_eq!(b.cancel(PENDING), more(PENDING, 64, 1, 1));
    b.complete(164);
    assert_eq!(b.cancel(ALL), done(ALL, 0, 0));
    assert_eq!((b.backlog(), b.flow().deferred), (vec![], 0));
    b.check();
}

#[test]
fn flow_only_on_a_sealed_flow_walks_nowhere() {
    let mut b = Bench::new();
    for n in 100..230 {
        b.member(n);
    }
    b.seal();
    b.sweep(100);
    assert_eq!(b.cancel(FLOW_ONLY), done(FLOW_ONLY, 0, 130));
    assert_eq!(b.backlog(), []);
    // Nor does its repeat carry on what a seal has left.
    let mut b = Bench::new();
    for n in 100..230 {
        b.held(n);
    }
    b.seal();
    assert_eq!(b.cancel(FLOW_ONLY), done(FLOW_ONLY, 0, 130));
    assert_eq!(b.cancel(FLOW_ONLY), done(FLOW_ONLY, 0, 130));
    assert_eq!(b.states(228..230), [PublicState::WaitingChildren; 2]);
    b.check();
}

#[test]
fn an_unsealed_flow_without_open_members_is_cancelled_and_a_finished_sealed_one_refused() {
    let mut b = Bench::new();
    b.member(1);
    b.complete(1);
    assert_eq!(b.flow().public_flow_state, PublicFlowState::Completed);
    assert_eq!(b.cancel(ALL), done(ALL, 0, 0));
    assert_eq!(b.flow().public_flow_state, PublicFlowState::Cancelled);

    let mut b = Bench::new();
    b.seal();
    let refusal = Refusal::flow_already_terminal(Some(PublicFlowState::Open), None);
    b.refused(&refusal, |b| b.try_cancel(ALL));
    let mut b = Bench::new();
    b.member(1);
    b.seal();
    b.complete(1);
    let refusal = Refusal::flow_already_terminal(Some(PublicFlowState::Completed), None);
    b.refused(&refusal, |b| b.try_cancel(ALL));
}

#[test]
fn a_completion_before_the_walk_keeps_its_outcome_and_resolves_no_edge() {
    let mut b = Bench::new();
    for n in 100..165 {
        b.member(n);
    }
    b.join(165, false, &[164]);
    // 164 runs, and the walk stops before it.
    for n in 100..164 {
        b.run(n);
    }
    let fence = b.run(164);
    assert_eq!(b.cancel(ALL), more(ALL, 64, 2, 2));
    let args = CompleteExecutionArgs::builder().execution_id(execution(164)).actor(Actor::Worker(fence)).build();
    rules::execution::complete_execution(&mut b.p, at(b.now), &args).unwrap();
    assert_eq!((b.state(164), b.edge_state(164, 165)), (PublicState::Completed, EdgeState::Detached));
    assert_eq!(b.state(165), PublicState::WaitingChildren);
    b.check();
    b.sweep(10);
    assert_eq!(b.state(165), PublicState::Cancelled);
    b.check();
}
