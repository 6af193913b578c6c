//! 128 steps and 64 endings per call, the backlog, and its drain.

use ff_core::contracts::{BacklogKind, Cascade, EdgeState, SealFlowResult, SweepKind};
use ff_core::policy::{ExecutionPolicy, TimeoutPolicy};
use ff_core::state::PublicState;
use ff_core::time::When;

use super::*;

#[test]
fn of_64_children_all_are_skipped_in_the_call() {
    let mut b = Bench::new();
    b.fan(1, 100..164);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!(b.backlog(), []);
    b.check();
}

#[test]
fn of_65_children_64_are_skipped_and_the_last_waits_with_its_edge_pending() {
    let mut b = Bench::new();
    b.fan(1, 100..165);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!((b.state(164), b.edge_state(1, 164)), (PublicState::WaitingChildren, EdgeState::Pending));
    assert_eq!((b.backlog(), b.flow().deferred), (vec![of_execution(BacklogKind::Edges, 1)], 1));
    b.check();
    let report = b.sweep(100);
    assert_eq!((report.count(SweepKind::Backlog), report.more), (1, false));
    assert_eq!((b.state(164), b.flow().deferred), (PublicState::Skipped, 0));
    b.check();
}

#[test]
fn an_edge_that_ends_nobody_is_handled_when_no_ending_is_left() {
    let mut b = Bench::new();
    b.fan(1, 100..164);
    b.member(164);
    b.stage_any(1, 164);
    b.join(165, false, &[1]);
    b.member(166);
    b.stage_any(1, 166);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    // The 65th edge ends nobody; the 66th would, and stops the run; nothing overtakes it.
    let rest = [PublicState::Waiting, PublicState::WaitingChildren, PublicState::WaitingChildren];
    assert_eq!(b.states(164..167), rest);
    b.check();
}

#[test]
fn a_held_child_behind_a_failure_needs_no_ending() {
    let mut b = Bench::new();
    b.fan(1, 100..164);
    b.join(164, true, &[1]);
    b.join(165, false, &[1]);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!((b.state(164), b.counts(164)), (PublicState::WaitingChildren, (0, 0, 1)));
    assert_eq!((b.state(165), b.counts(165)), (PublicState::WaitingChildren, (1, 0, 0)));
    b.check();
}

#[test]
fn a_claimed_child_behind_a_failure_needs_no_ending() {
    use ff_core::contracts::DelayExecutionArgs;
    let mut b = Bench::new();
    b.member(164);
    b.run(164);
    b.fan(1, 100..164);
    b.stage(1, 164);
    b.join(165, false, &[1]);
    let args = DelayExecutionArgs { execution_id: execution(164), actor: Bench::operator(), until: When::After(50) };
    rules::execution::delay_execution(&mut b.p, at(b.now), &args).unwrap();
    assert_eq!(b.state(164), PublicState::WaitingChildren);
    b.fail(1);
    assert_eq!(b.count(100..164, PublicState::Skipped), 64);
    assert_eq!(b.states(164..166), [PublicState::Delayed, PublicState::WaitingChildren]);
    assert_eq!(b.counts(164), (0, 0, 1));
    b.check();
}

#[test]
fn of_128_children_none_is_owed_and_of_129_one() {
    for (children, owed) in [(128, 0), (129, 1)] {
        let mut b = Bench::new();
        b.fan(1, 1000..1000 + children);
        b.complete(1);
        assert_eq!(b.count(1000..1128, PublicState::Waiting), 128);
        assert_eq!(b.backlog().len(), owed);
        assert_eq!(b.count(1128..1000 + children, PublicState::WaitingChildren), owed);
        b.check();
        let report = b.sweep(1);
        assert_eq!((report.count(SweepKind::Backlog), report.more), (owed as u64, false));
        assert_eq!(b.count(1000..1000 + children, PublicState::Waiting), children as usize);
    }
}

#[test]
fn in_a_chain_of_300_each_call_skips_64_and_leaves_one_entry() {
    let mut b = Bench::new();
    b.member(0);
    for n in 1..300 {
        b.join(n, false, &[n - 1]);
    }
    b.fail(0);
    assert_eq!(b.count(0..300, PublicState::Skipped), 64);
    assert_eq!((b.state(64), b.state(65)), (PublicState::Skipped, PublicState::WaitingChildren));
    assert_eq!(b.backlog(), [of_execution(BacklogKind::Edges, 64)]);
    b.check();
    // 235 are left: three sweeps of 64, and 43.
    for (steps, skipped) in [(64, 128), (64, 192), (64, 256), (43, 299)] {
        let report = b.sweep(1000);
        assert_eq!(report.count(SweepKind::Backlog), steps);
        assert_eq!(b.count(0..300, PublicState::Skipped), skipped);
    }
    assert_eq!((b.backlog(), b.flow().deferred), (vec![], 0));
    b.check();
}

#[test]
fn a_fan_out_of_9_999_handles_128_by_seq_and_claims_finish_the_rest() {
    let mut b = Bench::new();
    b.fan(1, 10_001..20_000);
    b.complete(1);
    assert_eq!(b.count(10_001..10_129, PublicState::Waiting), 128);
    assert_eq!(b.state(10_129), PublicState::WaitingChildren);
    // A claim drains 64 steps before it looks: 9 871 edges are left, 155 claims.
    for _ in 0..154 {
        assert_eq!(b.claim(1).len(), 1);
    }
    assert_eq!(b.count(10_001..20_000, PublicState::WaitingChildren), 9_871 - 154 * 64);
    b.claim(1);
    assert_eq!(b.count(10_001..20_000, PublicState::WaitingChildren), 0);
    assert_eq!(b.backlog(), []);
    b.check();
}

#[test]
fn a_giant_fan_out_yields_its_place_after_64_steps() {
    let mut b = Bench::new();
    b.fan(1, 1000..1228);
    b.fan(2, 2000..2129);
    b.complete(1);
    b.complete(2);
    let [giant, small] = [1, 2].map(|n| of_execution(BacklogKind::Edges, n));
    assert_eq!(b.backlog(), [giant, small]);
    // Not after 63, nor over two calls.
    b.sweep(63);
    assert_eq!(b.backlog(), [giant, small]);
    assert_eq!(b.count(1000..1228, PublicState::Waiting), 128 + 63);
    b.sweep(1);
    assert_eq!(b.backlog(), [giant, small]);
    assert_eq!(b.count(1000..1228, PublicState::Waiting), 128 + 64);

    let mut b = Bench::new();
    b.fan(1, 1000..1228);
    b.fan(2, 2000..2129);
    b.complete(1);
    b.complete(2);
    b.sweep(64);
    assert_eq!(b.backlog(), [small, giant]);
    b.sweep(2);
    assert_eq!(b.backlog(), [giant]);
    assert_eq!(b.state(2128), PublicState::Waiting);
    assert_eq!(b.count(1000..1228, PublicState::Waiting), 128 + 65);
    b.check();
}

#[test]
fn an_item_alone_goes_on_after_it_yielded_to_nobody() {
    let mut b = Bench::new();
    b.fan(1, 1000..1228);
    b.complete(1);
    let report = b.sweep(1000);
    assert_eq!((report.count(SweepKind::Backlog), report.more), (100, false));
}

#[test]
fn several_endings_in_one_sweep_share_both_budgets() {
    let mut b = Bench::new();
    let timeouts = TimeoutPolicy { deadline: Some(When::After(500)), ..TimeoutPolicy::default() };
    let plain = std::mem::replace(&mut b.policy, ExecutionPolicy::builder().timeouts(timeouts).build().into());
    b.member(1);
    b.member(2);
    b.policy = plain;
    for child in 0..40 {
        b.join(1000 + child, false, &[1]);
        b.join(2000 + child, false, &[2]);
    }
    b.now += 500;
    // Two timers: 40 endings by the first, 24 by the second, and no limit for the drain.
    let report = b.sweep(2);
    assert_eq!((report.count(SweepKind::Deadline), report.count(SweepKind::Backlog)), (2, 0));
    assert_eq!(b.count(1000..1040, PublicState::Skipped), 40);
    assert_eq!(b.count(2000..2040, PublicState::Skipped), 24);
    assert_eq!((b.backlog(), report.more), (vec![of_execution(BacklogKind::Edges, 2)], true));
    b.check();
    b.sweep(100);
    assert_eq!(b.count(2000..2040, PublicState::Skipped), 40);
    b.check();
}

#[test]
fn without_an_ending_left_the_head_stays_and_is_not_overtaken() {
    let mut b = Bench::new();
    let timeouts = TimeoutPolicy { deadline: Some(When::After(500)), ..TimeoutPolicy::default() };
    let plain = std::mem::replace(&mut b.policy, ExecutionPolicy::builder().timeouts(timeouts).build().into());
    b.member(1);
    b.member(2);
    b.policy = plain;
    for child in 0..65 {
        b.join(1000 + child, false, &[1]);
        b.join(2000 + child, false, &[2]);
    }
    b.now += 500;
    let report = b.sweep(1000);
    // 64 endings are used by the first timer; the drain of the same call may not make the 65th.
    assert_eq!((report.count(SweepKind::Deadline), report.count(SweepKind::Backlog)), (2, 0));
    assert_eq!(b.backlog(), [1, 2].map(|n| of_execution(BacklogKind::Edges, n)));
    assert_eq!(b.count(2000..2065, PublicState::Skipped), 0);
    b.check();
}

#[test]
fn limit_1_makes_exactly_one_timer_or_one_step() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    b.complete(1);
    for left in [2, 1, 0] {
        assert_eq!(b.count(1000..1130, PublicState::WaitingChildren), left);
        let report = b.sweep(1);
        assert_eq!((report.total(), report.more), (u64::from(left > 0), left > 1));
    }
}

#[test]
fn a_seal_releases_128_and_sweeps_the_rest() {
    let mut b = Bench::new();
    for n in 100..230 {
        b.held(n);
    }
    assert_eq!(b.claim(1), []);
    let cascade = Cascade { steps: 128, promoted: 128, skipped: 0, deferred: 1 };
    assert_eq!(b.seal(), SealFlowResult::Sealed { graph_revision: 130, remaining: 2, cascade });
    assert_eq!(b.seal(), SealFlowResult::AlreadySealed { graph_revision: 130, remaining: 2 });
    assert_eq!(b.states(228..230), [PublicState::WaitingChildren; 2]);
    b.check();
    b.sweep(100);
    assert_eq!(b.seal(), SealFlowResult::AlreadySealed { graph_revision: 130, remaining: 0 });
    assert_eq!(b.count(100..230, PublicState::Waiting), 130);
    b.check();
}

#[test]
fn a_seal_skips_at_most_64_held_members_behind_a_failure() {
    let mut b = Bench::new();
    b.member(1);
    b.fail(1);
    for n in 100..170 {
        b.join(n, true, &[1]);
        assert_eq!(b.state(n), PublicState::WaitingChildren);
    }
    let cascade = Cascade { steps: 64, promoted: 0, skipped: 64, deferred: 1 };
    assert_eq!(b.seal(), SealFlowResult::Sealed { graph_revision: 71, remaining: 6, cascade });
    b.check();
    b.sweep(100);
    assert_eq!(b.count(100..170, PublicState::Skipped), 70);
    b.check();
}

#[test]
fn a_child_that_cannot_be_decoded_costs_its_step_and_is_passed_over() {
    let mut b = Bench::new();
    b.fan(1, 100..103);
    b.p.damaged.insert(execution(101).uuid());
    b.complete(1);
    b.p.damaged.clear();
    assert_eq!(b.states(100..103), [PublicState::Waiting, PublicState::WaitingChildren, PublicState::Waiting]);
    assert_eq!(b.backlog(), []);
    // Once it is readable, what it is owed comes back.
    let args = RebuildIndexesArgs::builder().partition(0).limit(1000).build();
    let report = rules::maintenance::rebuild_indexes(&mut b.p, at(b.now), &args).unwrap();
    assert_eq!(report.total(), 1);
    assert_eq!(b.backlog(), [of_execution(BacklogKind::Edges, 1)]);
    b.sweep(100);
    assert_eq!(b.state(101), PublicState::Waiting);
    b.check();
}

#[test]
fn an_entry_whose_upstream_cannot_be_decoded_is_dropped_and_listed() {
    let mut b = Bench::new();
    b.fan(1, 1000..1130);
    b.complete(1);
    b.p.damaged.insert(execution(1).uuid());
    let report = b.sweep(100);
    assert_eq!((report.counts.len(), report.corrupt.len(), report.more), (0, 1, false));
    assert_eq!((report.corrupt[0].kind, report.corrupt[0].id.clone()), (SweepKind::Backlog, execution(1).to_string()));
    b.p.damaged.clear();
    assert_eq!((b.backlog(), b.flow().deferred), (vec![], 0));
}
