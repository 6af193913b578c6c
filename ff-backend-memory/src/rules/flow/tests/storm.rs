//! Random calls on one flow: after each the records agree with each other and nothing is to be repaired, a refusal has
//! changed nothing, and budgets decide only in which call something happens, never what.

use std::collections::BTreeSet;

use fastrand::Rng;
use ff_core::contracts::{
    AddExecutionToFlowArgs, ApplyDependencyToChildArgs, BlockExecutionArgs, DelayExecutionArgs,
    MoveToWaitingChildrenArgs, PromoteBlockedToEligibleArgs, ResolveDependencyArgs, RevokeLeaseArgs,
};
use ff_core::policy::{Backoff, RetryPolicy};
use ff_core::state::{BlockReason, LifecyclePhase};
use ff_core::time::When;

use super::*;
use crate::cascade::testing::with_budgets;
use crate::rules::flow::{
    add_execution_to_flow, apply_dependency_to_child, promote_blocked_to_eligible, resolve_dependency,
};

/// One call, drawn beforehand, so that it can be made in two states.
#[derive(Clone, Debug)]
enum Step {
    Join { n: u128, hold: bool, upstreams: Vec<(u128, bool)> },
    Alone { n: u128 },
    Add { n: u128 },
    Stage { up: u128, down: u128, any: bool, apply: bool },
    Apply { up: u128, down: u128, any: bool },
    Resolve { up: u128, down: u128 },
    Promote { n: u128 },
    Claim { slots: usize, seed: u64 },
    End { n: u128, success: bool, worker: bool, no_retry: bool },
    Delay { n: u128, ms: u64 },
    Block { n: u128, lift: bool },
    Wait { n: u128 },
    Revoke { n: u128 },
    Replay { n: u128, reopen: bool },
    Seal,
    Cancel { policy: CancellationPolicy },
    Sweep { limit: u32 },
    Pass { ms: u64 },
}

/// Members of the first graph; a few more may join later.
const NODES: u128 = 14;

/// A new member behind some of those below it.
fn draw_join(rng: &mut Rng, n: u128) -> Step {
    let upstreams: BTreeSet<u128> = (0..rng.usize(..5)).map(|_| rng.u128(1..=NODES)).filter(|up| *up < n).collect();
    let upstreams = upstreams.into_iter().map(|up| (up, rng.u8(..4) == 0)).collect();
    Step::Join { n, hold: rng.u8(..8) == 0, upstreams }
}

/// The calls of one run: first a graph, then anything.
fn draw_all(rng: &mut Rng) -> Vec<Step> {
    let mut all: Vec<Step> = (1..=NODES).map(|n| draw_join(rng, n)).collect();
    all.extend((0..120).map(|_| draw(rng)));
    all
}

fn draw(rng: &mut Rng) -> Step {
    let n = rng.u128(1..=NODES);
    // Mostly along the order of ids, so that few edges are refused for a cycle.
    let (a, b) = (rng.u128(1..=NODES + 4), rng.u128(1..=NODES + 4));
    let (up, down) = if rng.u8(..10) < 9 { (a.min(b), a.max(b)) } else { (a, b) };
    match rng.u32(..100) {
        0..4 => {
            let n = NODES + rng.u128(1..=4);
            draw_join(rng, n)
        }
        4..5 => Step::Alone { n: NODES + rng.u128(1..=4) },
        5..6 => Step::Add { n: NODES + rng.u128(1..=4) },
        6..14 => Step::Stage { up, down, any: rng.u8(..4) == 0, apply: rng.u8(..4) > 0 },
        14..17 => Step::Apply { up, down, any: rng.u8(..4) == 0 },
        17..20 => Step::Resolve { up, down },
        20..26 => Step::Promote { n },
        26..41 => Step::Claim { slots: rng.usize(1..4), seed: rng.u64(..) },
        41..65 => Step::End { n, success: rng.bool(), worker: rng.u8(..3) > 0, no_retry: rng.bool() },
        65..68 => Step::Delay { n, ms: rng.u64(..20) },
        68..71 => Step::Block { n, lift: rng.bool() },
        71..75 => Step::Wait { n },
        75..76 => Step::Revoke { n },
        76..93 => Step::Replay { n, reopen: rng.bool() },
        93 if rng.u8(..4) == 0 => Step::Seal,
        94 if rng.u8(..4) == 0 => Step::Cancel {
            policy: [CancellationPolicy::CancelAll, CancellationPolicy::CancelPending, CancellationPolicy::FlowOnly]
                [rng.usize(..3)],
        },
        93..98 => Step::Sweep { limit: rng.u32(1..6) },
        _ => Step::Pass { ms: rng.u64(..15) },
    }
}

/// Makes the call. What it answers is not compared: reports of cascades depend on budgets.
fn make(b: &mut Bench, step: &Step) -> Result<(), EngineError> {
    let now = b.at();
    let fence_of = |b: &Bench, n: u128| {
        let x = b.p.find(&execution(n)).ok()?;
        let (lease, attempt) = (x.record.lease.as_ref()?, x.attempt.as_ref()?);
        Some(Fence { lease_id: lease.lease_id, lease_epoch: x.record.lease_epoch, attempt_id: attempt.attempt_id })
    };
    let kind = |any| if any { DependencyKind::AnyTerminal } else { DependencyKind::SuccessOnly };
    match step.clone() {
        Step::Join { n, hold, upstreams } => {
            let edges = upstreams
                .iter()
                .map(|(up, any)| IncomingEdge {
                    dependency_kind: kind(*any),
                    ..IncomingEdge::new(edge(*up, n), execution(*up))
                })
                .collect();
            let args = b.creation(n, Some(FlowJoin { flow_id: flow(F), hold, edges }));
            rules::execution::create_execution(&mut b.p, now, &args).map(drop)
        }
        Step::Alone { n } => {
            let args = b.creation(n, None);
            rules::execution::create_execution(&mut b.p, now, &args).map(drop)
        }
        Step::Add { n } => {
            let args = AddExecutionToFlowArgs { flow_id: flow(F), execution_id: execution(n) };
            add_execution_to_flow(&mut b.p, now, &args).map(drop)
        }
        // An edge from a node to itself is refused with the arguments.
        Step::Stage { up, down, .. } if up == down => Ok(()),
        Step::Stage { up, down, any, apply } => {
            let mut args = Bench::stage_args(up, down);
            args.dependency_kind = kind(any);
            args.apply = apply;
            b.try_stage(&args).map(drop)
        }
        Step::Apply { up, down, any } => {
            let args = ApplyDependencyToChildArgs::builder()
                .flow_id(flow(F))
                .edge_id(edge(up, down))
                .upstream_execution_id(execution(up))
                .downstream_execution_id(execution(down))
                .dependency_kind(kind(any))
                .build();
            apply_dependency_to_child(&mut b.p, now, &args).map(drop)
        }
        Step::Resolve { up, down } => {
            let args = ResolveDependencyArgs::builder().flow_id(flow(F)).edge_id(edge(up, down)).build();
            resolve_dependency(&mut b.p, now, &args).map(drop)
        }
        Step::Promote { n } => {
            let args = PromoteBlockedToEligibleArgs { execution_id: execution(n) };
            promote_blocked_to_eligible(&mut b.p, now, &args).map(drop)
        }
        Step::Claim { slots, seed } => {
            let mut rng = Rng::with_seed(seed);
            let mut uuid = || Uuid::from_u128(rng.u128(..));
            let args = ClaimNextArgs {
                partition: 0,
                lane_id: "l".parse().unwrap(),
                worker_id: "w".parse().unwrap(),
                worker_instance_id: "w-1".parse().unwrap(),
                capabilities: Capabilities::none(),
                slots: (0..slots)
                    .map(|_| ClaimSlot {
                        lease_id: uuid().to_string().parse().unwrap(),
                        attempt_id: uuid().to_string().parse().unwrap(),
                    })
                    .collect(),
                lease_ttl_ms: 100,
            };
            rules::claim::claim_next(&mut b.p, now, &args).map(drop)
        }
        Step::End { n, success, worker, no_retry } => {
            let actor = match fence_of(b, n) {
                Some(fence) if worker => Actor::Worker(fence),
                _ => Bench::operator(),
            };
            if success {
                let args = CompleteExecutionArgs::builder().execution_id(execution(n)).actor(actor).build();
                return rules::execution::complete_execution(&mut b.p, now, &args).map(drop);
            }
            let args = FailExecutionArgs::builder()
                .execution_id(execution(n))
                .actor(actor)
                .reason("no")
                .category("c")
                .no_retry(no_retry)
                .build();
            rules::execution::fail_execution(&mut b.p, now, &args).map(drop)
        }
        Step::Delay { n, ms } => {
            let args =
                DelayExecutionArgs { execution_id: execution(n), actor: Bench::operator(), until: When::After(ms) };
            rules::execution::delay_execution(&mut b.p, now, &args).map(drop)
        }
        Step::Block { n, lift } => {
            let args = BlockExecutionArgs::builder()
                .execution_id(execution(n))
                .reason(BlockReason::PausedByOperator)
                .maybe_until(lift.then_some(When::After(0)))
                .by("me")
                .build();
            rules::execution::block_execution(&mut b.p, now, &args).map(drop)
        }
        Step::Wait { n } => {
            let Some(fence) = fence_of(b, n) else { return Ok(()) };
            let args = MoveToWaitingChildrenArgs { execution_id: execution(n), fence };
            rules::execution::move_to_waiting_children(&mut b.p, now, &args).map(drop)
        }
        Step::Revoke { n } => {
            let Some(fence) = fence_of(b, n) else { return Ok(()) };
            let args = RevokeLeaseArgs {
                execution_id: execution(n),
                lease_id: fence.lease_id,
                reason: String::new(),
                by: "me".to_owned(),
            };
            rules::lease::revoke_lease(&mut b.p, now, &args).map(drop)
        }
        Step::Replay { n, .. } if b.p.find(&execution(n)).is_err() => Ok(()),
        Step::Replay { n, reopen } => b.try_replay(n, reopen).map(drop),
        Step::Seal => {
            b.seal();
            Ok(())
        }
        Step::Cancel { policy } => b.try_cancel(policy).map(drop),
        Step::Sweep { limit } => {
            b.sweep(limit);
            Ok(())
        }
        Step::Pass { ms } => {
            b.now += ms;
            Ok(())
        }
    }
}

/// Sweeps until nothing is due.
fn drain(b: &mut Bench) {
    for _ in 0..10_000 {
        if !b.sweep(1000).more {
            return;
        }
    }
    panic!("the backlog never ends");
}

/// What a full drain promises.
fn check_drained(b: &Bench) {
    b.check();
    let record = b.p.flow(flow(F).uuid()).unwrap();
    let graph = b.p.graph(flow(F).uuid()).unwrap();
    assert_eq!(record.deferred, 0);
    for edge in graph.edges.values() {
        let upstream = b.p.find(&edge.upstream_execution_id).unwrap();
        let owed = edge.edge_state == EdgeState::Pending && upstream.record.vector.is_terminal();
        assert!(!owed || record.is_frozen());
    }
    for (uuid, member) in &graph.members {
        let x = b.p.get(*uuid).unwrap().unwrap();
        let r = &x.record;
        assert!(!record.covers(&r.vector), "{r:?}");
        // Law 9: what is runnable and not READY waits for something that will come.
        if r.vector.lifecycle_phase == LifecyclePhase::Runnable {
            let held = member.held && !record.sealed;
            let waits = held || member.unresolved_count > 0;
            assert_eq!(r.vector.public_state() == PublicState::WaitingChildren, waits, "{r:?} {member:?}");
            assert!(r.started_at.is_some() || member.impossible_count == 0 || held, "{r:?} {member:?}");
        }
    }
}

fn bench() -> Bench {
    let mut b = Bench::new();
    let retry = RetryPolicy { max_retries: 2, backoff: Backoff::Fixed { delay_ms: 5 }, ..RetryPolicy::default() };
    b.policy = ExecutionPolicy::builder().retry(retry).max_replays(3).build().into();
    b
}

#[test]
fn every_call_leaves_a_sound_state_and_a_refusal_none_but_the_old() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let (steps, endings) = [(128, 64), (3, 2), (1, 1), (5, 1)][rng.usize(..4)];
        with_budgets(steps, endings, || {
            let mut b = bench();
            for step in draw_all(&mut rng) {
                let before = b.p.clone();
                match make(&mut b, &step) {
                    Ok(()) => b.check(),
                    Err(EngineError::Refused(_)) => {
                        assert!(b.p == before, "seed {seed}: {step:?} was refused and wrote");
                    }
                    Err(other) => panic!("seed {seed}: {step:?}: {other}"),
                }
            }
            drain(&mut b);
            check_drained(&b);
        });
    }
}

#[test]
fn budgets_decide_when_and_never_what() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed ^ 0xb0d9);
        let (mut wide, mut narrow) = (bench(), bench());
        let budgets = [(1, 1), (2, 1), (7, 3)][rng.usize(..3)];
        for step in draw_all(&mut rng) {
            let answer = make(&mut wide, &step);
            drain(&mut wide);
            with_budgets(budgets.0, budgets.1, || {
                assert_eq!(make(&mut narrow, &step), answer, "seed {seed}: {step:?}");
                drain(&mut narrow);
            });
            assert!(wide.p == narrow.p, "seed {seed}: {step:?} under {budgets:?}");
        }
        check_drained(&wide);
    }
}
