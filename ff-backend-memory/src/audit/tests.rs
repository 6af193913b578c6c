//! A sound state, and for each rule a damage that it convicts.

use std::collections::BTreeMap;

use ff_core::bounds::Deployment;
use ff_core::condition::{Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // the state has something of everything
use ff_core::ids::{
    AttemptIndex, Dimension, EdgeId, ExecutionId, FlowId, LeaseEpoch, SignalId, SuspensionId, WaitpointId,
};
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::{ExecutionPolicy, StreamPolicy, TimeoutPolicy};
use ff_core::state::{AttemptLifecycle, BlockReason, LifecyclePhase, NotBeforeKind, PublicState};
use ff_core::time::When;
use ff_core::token::WaitpointSecret;
use uuid::Uuid;

use super::*;
use crate::apply::Store;
use crate::model::{Budget, Execution, Graph, History, Item, Quota, Remains, Subject};
use crate::rules::testing::{at, execution};

const READY: u128 = 2;
const RUNNING: u128 = 3;
const SUSPENDED: u128 = 4;
const DONE: u128 = 5;
const DELAYED: u128 = 6;
const BLOCKED: u128 = 7;
const GRANTED: u128 = 8;
/// Members of the open flow: an ended upstream, who waits for it no more, an open one, who waits for it.
const ENDED: u128 = 11;
const FREED: u128 = 12;
const UP: u128 = 13;
const DOWN: u128 = 14;

fn flow(n: u128) -> FlowId {
    FlowId::from_parts(0, Uuid::from_u128(n))
}

struct Play(Model);

impl Play {
    fn call(&mut self, now: u64, operation: impl Into<Operation>) -> Outcome {
        let operation = operation.into();
        self.0.apply(at(now), &operation).unwrap_or_else(|e| panic!("{operation:?}: {e}"))
    }

    fn create(&mut self, n: u128, change: impl FnOnce(&mut CreateExecutionArgs)) {
        let mut args = CreateExecutionArgs::builder()
            .execution_id(execution(n))
            .namespace("n".parse().unwrap())
            .lane_id("l".parse().unwrap())
            .kind("k")
            .build();
        change(&mut args);
        self.call(1_000, args);
    }

    fn grant(&mut self, n: u128) {
        self.call(
            1_000,
            IssueClaimGrantArgs {
                execution_id: execution(n),
                worker_id: "w".parse().unwrap(),
                worker_instance_id: "w-1".parse().unwrap(),
                capabilities: ff_core::policy::Capabilities::none(),
                grant_ttl_ms: 10_000,
            },
        );
    }

    fn claim(&mut self, n: u128) -> Fence {
        self.grant(n);
        let ClaimSlot { lease_id, attempt_id } = ClaimSlot::new();
        let args = ClaimExecutionArgs {
            execution_id: execution(n),
            worker_id: "w".parse().unwrap(),
            worker_instance_id: "w-1".parse().unwrap(),
            lease_id,
            attempt_id,
            lease_ttl_ms: 60_000,
        };
        match self.call(1_000, args) {
            Outcome::ClaimExecution(ClaimExecutionResult::Claimed(claimed)) => claimed.fence,
            other => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, n: u128) {
        let fence = self.claim(n);
        let args = CompleteExecutionArgs::builder()
            .execution_id(execution(n))
            .actor(Actor::Worker(fence))
            .result("done")
            .build();
        self.call(1_000, args);
    }

    fn rotate(&mut self, kid: &str, byte: u8) {
        let secret = WaitpointSecret::new([byte; 32]);
        let args =
            RotateWaitpointHmacSecretArgs::builder().partition(0).new_kid(kid.parse().unwrap()).new_secret(secret);
        self.call(1_000, args.build());
    }

    fn member(&mut self, flow_id: FlowId, n: u128, upstream: Option<u128>, key: Option<&str>) {
        let edges = upstream.iter().map(|u| IncomingEdge::new(EdgeId::new(), execution(*u))).collect();
        self.create(n, |args| {
            args.flow = Some(FlowJoin { flow_id, hold: false, edges });
            args.idempotency_key = key.map(str::to_owned);
        });
    }

    fn check(&mut self, n: u128) {
        self.call(
            1_000,
            CheckAdmissionArgs {
                quota_policy_id: "q".parse().unwrap(),
                execution_id: execution(n),
                attempt_index: AttemptIndex(0),
                lease_epoch: LeaseEpoch(1),
                slot_ttl_ms: 5_000,
            },
        );
    }
}

fn suspended(play: &mut Play) {
    play.create(SUSPENDED, |_| {});
    let fence = play.claim(SUSPENDED);
    let suspend = SuspendExecutionArgs::builder()
        .execution_id(execution(SUSPENDED))
        .fence(fence)
        .suspension_id(SuspensionId::new())
        .waitpoints(vec![WaitpointBinding::fresh(WaitpointId::new())])
        .reason_code(SuspensionReason::WaitingForSignal)
        .resume_condition(ResumeCondition::count(2, Distinct::Signals, Matcher::any()))
        .build();
    let Outcome::SuspendExecution(SuspendExecutionResult::Suspended { waitpoints, .. }) = play.call(1_000, suspend)
    else {
        panic!("not suspended");
    };
    let signal = DeliverSignalArgs::builder()
        .execution_id(execution(SUSPENDED))
        .waitpoint_id(waitpoints[0].waitpoint_id)
        .waitpoint_token(waitpoints[0].tokens[0].token.clone())
        .signal_id(SignalId::new())
        .name("go")
        .source(SignalSource::new("human", "ann"))
        .idempotency_key("once")
        .build();
    play.call(1_000, signal);
}

/// A state that has something of everything.
fn sound() -> Model {
    let mut play = Play(Model::new(Deployment::default()));
    play.rotate("k1", 1);
    play.rotate("k2", 2);
    play.create(READY, |_| {});
    play.create(RUNNING, |args| {
        let policy = ExecutionPolicy::builder()
            .timeouts(TimeoutPolicy { deadline: None, attempt_timeout_ms: Some(5_000) })
            .stream(StreamPolicy { retention_maxlen: 2 })
            .build();
        args.policy = policy.into();
    });
    let fence = play.claim(RUNNING);
    for seq in 1..=3 {
        let id = execution(RUNNING);
        let frame = AppendFrameArgs::builder().execution_id(id).fence(fence).frame_type("log").payload("x").seq(seq);
        play.call(1_000, frame.build());
    }
    suspended(&mut play);
    play.create(DONE, |_| {});
    play.complete(DONE);
    let replay = ReplayExecutionArgs::builder().execution_id(execution(DONE)).replay_count(0).reason("r").by("ops");
    play.call(1_000, replay.build());
    play.complete(DONE);
    play.create(DELAYED, |args| args.delay = Some(When::After(5_000)));
    play.create(BLOCKED, |_| {});
    let block = BlockExecutionArgs::builder().execution_id(execution(BLOCKED)).reason(BlockReason::WaitingForBudget);
    play.call(1_000, block.by("ops").build());
    play.create(GRANTED, |_| {});
    play.grant(GRANTED);
    for n in [1, 2] {
        let args = CreateFlowArgs::builder().flow_id(flow(n)).namespace("n".parse().unwrap()).flow_kind("f").build();
        play.call(1_000, args);
    }
    play.member(flow(1), ENDED, None, Some("a key"));
    play.complete(ENDED);
    play.member(flow(1), FREED, Some(ENDED), None);
    play.member(flow(1), UP, None, None);
    play.member(flow(1), DOWN, Some(UP), None);
    play.member(flow(2), 21, None, None);
    play.complete(21);
    play.call(1_000, SealFlowArgs::builder().flow_id(flow(2)).build());
    let limits = Limits { hard: Some(10), soft: Some(5) };
    let budget = CreateBudgetArgs::builder()
        .budget_id("b".parse().unwrap())
        .dimensions(BTreeMap::from([("tokens".parse().unwrap(), limits)]))
        .reset_interval_ms(60_000)
        .build();
    play.call(1_000, budget);
    let usage = ReportUsageArgs::builder()
        .budget_id("b".parse().unwrap())
        .amounts(vec![("tokens".parse().unwrap(), 12)])
        .dedup_key("u");
    play.call(1_000, usage.build());
    let policy = CreateQuotaPolicyArgs::builder()
        .quota_policy_id("q".parse().unwrap())
        .max_requests_per_window(2)
        .window_ms(10_000)
        .max_concurrent(2)
        .build();
    play.call(1_000, policy);
    for n in [READY, RUNNING, DELAYED, BLOCKED] {
        play.check(n);
    }
    play.0
}

// --- harm ---

fn harm(model: &mut Model, n: u128, change: impl FnOnce(&mut Execution)) {
    model.partition(0, |p| p.harm(execution(n).uuid(), change));
}

fn partition_of(model: &mut Model, change: impl FnOnce(&mut Partition)) {
    model.partition(0, change);
}

fn graph(model: &mut Model, change: impl FnOnce(&mut Graph)) {
    partition_of(model, |p| change(p.graphs.get_mut(&flow(1).uuid()).unwrap()));
}

fn harm_flow(model: &mut Model, n: u128, change: impl FnOnce(&mut ff_core::records::FlowRecord)) {
    partition_of(model, |p| p.harm_flow(flow(n).uuid(), change));
}

fn budget(model: &mut Model, change: impl FnOnce(&mut Budget)) {
    model.budget(&"b".parse().unwrap(), |slot| change(slot.as_mut().unwrap()));
}

fn quota(model: &mut Model, change: impl FnOnce(&mut Quota)) {
    model.policy(&"q".parse().unwrap(), |slot| change(slot.as_mut().unwrap()));
}

fn attempt(x: &mut Execution) -> &mut ff_core::records::AttemptRecord {
    x.attempt.as_mut().unwrap()
}

fn resolved_edge(g: &mut Graph) -> &mut ff_core::records::EdgeRecord {
    g.edges.values_mut().find(|e| e.upstream_execution_id == execution(ENDED)).unwrap()
}

fn tokens() -> Dimension {
    "tokens".parse().unwrap()
}

type Harm = fn(&mut Model);

/// Every rule with harms that it convicts.
#[allow(clippy::too_many_lines, clippy::semicolon_if_nothing_returned)] // a table of one-liners
fn table() -> Vec<(Rule, Vec<Harm>)> {
    vec![
        (
            Rule::LegalVector,
            vec![|m| {
                harm(m, READY, |x| x.record.vector.lifecycle_phase = LifecyclePhase::Terminal);
            }],
        ),
        (Rule::LeaseWhileRunning, vec![|m| harm(m, RUNNING, |x| x.record.lease = None)]),
        (Rule::EndWhenDone, vec![|m| harm(m, DONE, |x| x.record.ended = None)]),
        (
            Rule::PurgeWhenDone,
            vec![|m| harm(m, DONE, |x| x.record.purge_at = None), |m| {
                harm(m, READY, |x| x.record.purge_at = Some(at(9)));
            }],
        ),
        (
            Rule::AttemptsCounted,
            vec![|m| harm(m, RUNNING, |x| x.record.attempt_count += 1), |m| {
                harm(m, RUNNING, |x| attempt(x).attempt_index = AttemptIndex(1));
            }],
        ),
        (
            Rule::AttemptsEnd,
            vec![|m| harm(m, DONE, |x| attempt(x).ended = None), |m| {
                harm(m, DONE, |x| x.history.attempts[0].attempt_state = AttemptLifecycle::Started);
            }],
        ),
        (Rule::AttemptDeadline, vec![|m| harm(m, DONE, |x| attempt(x).attempt_deadline_at = Some(at(9)))]),
        (Rule::AttemptFits, vec![|m| harm(m, RUNNING, |x| attempt(x).attempt_state = AttemptLifecycle::Suspended)]),
        (
            Rule::RunsCounted,
            vec![
                |m| harm(m, DONE, |x| x.history.runs.clear()),
                |m| harm(m, DONE, |x| x.history.runs[0].closed = None),
                |m| harm(m, DONE, |x| x.history.runs[1].run = 7),
            ],
        ),
        (
            Rule::Blocks,
            vec![|m| harm(m, BLOCKED, |x| x.record.blocks.values_mut().for_each(|b| b.until = None)), |m| {
                let blocks =
                    m.partition(0, |p| p.get(execution(BLOCKED).uuid()).unwrap().unwrap().record.blocks.clone());
                harm(m, RUNNING, |x| x.record.blocks = blocks);
            }],
        ),
        (
            Rule::SuspensionOpen,
            vec![|m| {
                harm(m, SUSPENDED, |x| x.suspension.as_mut().unwrap().closed_at = Some(at(9)));
            }],
        ),
        (
            Rule::GrantUsable,
            vec![|m| {
                let grant = m.partition(0, |p| p.get(execution(GRANTED).uuid()).unwrap().unwrap().record.grant.clone());
                harm(m, RUNNING, |x| x.record.grant = grant);
            }],
        ),
        (
            Rule::NothingAfterEnd,
            vec![|m| {
                let not_before = ff_core::records::NotBefore { at: at(9), kind: NotBeforeKind::ALL[0] };
                harm(m, DONE, |x| x.record.not_before = Some(not_before));
            }],
        ),
        (
            Rule::Waitpoints,
            vec![
                |m| harm(m, SUSPENDED, |x| x.open_waitpoints.clear()),
                |m| harm(m, SUSPENDED, |x| x.record.waitpoint_count += 1),
                |m| harm(m, SUSPENDED, |x| x.history.waitpoints.values_mut().for_each(|w| w.suspension_id = None)),
            ],
        ),
        (
            Rule::Signals,
            vec![
                |m| harm(m, SUSPENDED, |x| x.history.waitpoints.values_mut().for_each(|w| w.signal_count += 1)),
                |m| harm(m, SUSPENDED, |x| x.record.next_signal_seq = 1),
                |m| harm(m, SUSPENDED, |x| x.record.signal_count += 1),
                |m| harm(m, SUSPENDED, |x| x.history.waitpoints.clear()),
            ],
        ),
        (
            Rule::SignalDedup,
            vec![
                |m| harm(m, SUSPENDED, |x| x.history.dedup.clear()),
                |m| harm(m, SUSPENDED, |x| x.history.signal_keys.clear()),
                |m| harm(m, SUSPENDED, |x| x.history.dedup.values_mut().for_each(|d| d.idempotency_key = None)),
            ],
        ),
        (
            Rule::Streams,
            vec![
                |m| harm(m, RUNNING, |x| stream(x).meta.retained_bytes += 1),
                |m| harm(m, RUNNING, |x| stream(x).meta.frame_count = 2),
                |m| harm(m, RUNNING, |x| stream(x).frames.swap(0, 1)),
                |m| harm(m, RUNNING, |x| stream(x).meta.last_id.seq += 1),
                |m| harm(m, RUNNING, |x| stream(x).meta.trimmed_to = Some(stream(x).meta.last_id)),
                |m| harm(m, RUNNING, |x| stream(x).meta.last_seq = Some(2)),
                |m| {
                    harm(m, RUNNING, |x| {
                        let moved = x.history.streams.remove(&0).unwrap();
                        x.history.streams.insert(1, moved);
                    });
                },
            ],
        ),
        (
            Rule::NobodyStranded,
            vec![
                |m| harm(m, DELAYED, |x| x.record.not_before = None),
                |m| harm(m, BLOCKED, |x| x.record.blocks.clear()),
                |m| graph(m, |g| g.edges.retain(|_, e| e.downstream_execution_id != execution(DOWN))),
            ],
        ),
        (
            Rule::Queues,
            vec![
                |m| partition_of(m, |p| p.queues.clear_entries()),
                |m| harm(m, READY, |x| x.record.priority = 1),
                |m| harm(m, READY, |x| x.record.created_at = at(1)),
            ],
        ),
        (Rule::RegisteredSets, vec![|m| partition_of(m, |p| p.queues.harm_open(|open| *open += 1))]),
        (
            Rule::Timers,
            vec![|m| partition_of(m, |p| assert!(p.timers.pop_first().is_some())), |m| {
                partition_of(m, |p| {
                    let mut timer = *p.timers.first().unwrap();
                    timer.due_at = at(0);
                    p.timers.insert(timer);
                });
            }],
        ),
        (Rule::LaneCounts, vec![|m| partition_of(m, |p| p.lane_counts.clear())]),
        (Rule::LeaseIndex, vec![|m| partition_of(m, |p| p.leases.clear())]),
        (
            Rule::KeyIndex,
            vec![|m| partition_of(m, |p| p.idempotency.values_mut().for_each(|x| *x = execution(READY).uuid())), |m| {
                harm(m, ENDED, |x| x.record.idempotency = None);
            }],
        ),
        (
            Rule::Remains,
            vec![|m| {
                let remains = Remains { own: 1, history: Box::<History>::default() };
                partition_of(m, |p| assert!(p.remains.insert(execution(READY).uuid(), remains).is_none()));
            }],
        ),
        (
            Rule::Backlog,
            vec![|m| {
                let subject = Subject::Execution(execution(READY).uuid());
                partition_of(m, |p| assert!(p.backlog.restart(Item::new(BacklogKind::Purge, subject, false))));
            }],
        ),
        (
            Rule::FlowGraph,
            vec![
                |m| partition_of(m, |p| assert!(p.graphs.remove(&flow(1).uuid()).is_some())),
                |m| harm_flow(m, 1, |f| f.node_count += 1),
                |m| harm_flow(m, 1, |f| f.edge_count += 1),
            ],
        ),
        (
            Rule::FlowCounts,
            vec![|m| harm_flow(m, 1, |f| f.member_counts.add(PublicState::Waiting)), |m| graph(m, |g| g.open.clear())],
        ),
        (
            Rule::FlowPurge,
            vec![|m| harm_flow(m, 2, |f| f.purge_at = None), |m| harm_flow(m, 1, |f| f.purge_at = Some(at(9)))],
        ),
        (
            Rule::Membership,
            vec![
                |m| harm(m, READY, |x| x.record.flow_id = Some(flow(1))),
                |m| harm(m, UP, |x| x.record.flow_id = Some(flow(2))),
                |m| graph(m, |g| g.members.values_mut().for_each(|member| member.flow_id = flow(2))),
            ],
        ),
        (
            Rule::EdgeOrders,
            vec![
                |m| graph(m, |g| g.outgoing.clear()),
                |m| graph(m, |g| g.incoming.clear()),
                |m| graph(m, |g| g.pairs.clear()),
                |m| graph(m, |g| g.fan_outs.clear()),
                |m| graph(m, |g| g.edges.clear()),
                |m| harm_flow(m, 1, |f| f.next_edge_seq = 1),
            ],
        ),
        (Rule::EdgeResolution, vec![|m| graph(m, |g| resolved_edge(g).resolution = None)]),
        (
            Rule::EdgeCounts,
            vec![|m| graph(m, |g| g.members.values_mut().for_each(|member| member.incoming_count += 1))],
        ),
        (Rule::FlowDeferred, vec![|m| harm_flow(m, 1, |f| f.deferred += 1)]),
        (Rule::EdgeOwed, vec![|m| graph(m, |g| resolved_edge(g).edge_state = EdgeState::Pending)]),
        (
            Rule::Kids,
            vec![
                |m| partition_of(m, |p| p.keystore.current_kid = None),
                |m| partition_of(m, |p| p.keystore.kids.values_mut().for_each(|kid| kid.expires_at = None)),
                |m| partition_of(m, |p| p.keystore.kids.values_mut().for_each(|kid| kid.secret = None)),
                |m| partition_of(m, |p| p.keystore.kids.values_mut().for_each(|kid| kid.partition = 9)),
                |m| partition_of(m, |p| p.keystore.kids.values_mut().for_each(|kid| kid.revoked_at = Some(at(9)))),
                |m| {
                    let other = WaitpointSecret::new([9; 32]);
                    partition_of(m, |p| p.keystore.kids.values_mut().for_each(|kid| kid.digest = other.digest()));
                },
            ],
        ),
        (
            Rule::BudgetDefinition,
            vec![
                |m| budget(m, |b| b.record.budget_id = "c".parse().unwrap()),
                |m| budget(m, |b| b.record.dimensions.clear()),
                |m| budget(m, |b| b.record.dimensions.values_mut().for_each(|limits| limits.soft = Some(11))),
                |m| budget(m, |b| b.record.dimensions.values_mut().for_each(|limits| limits.hard = Some(0))),
            ],
        ),
        (
            Rule::BudgetUsage,
            vec![|m| budget(m, |b| b.record.usage.values_mut().for_each(|usage| *usage = 0)), |m| {
                budget(m, |b| b.record.usage.extend((0..65).map(|n| (format!("d{n}").parse().unwrap(), 1))));
            }],
        ),
        (
            Rule::BudgetSchedule,
            vec![|m| {
                budget(m, |b| b.record.schedule.as_mut().unwrap().next_at = at(61_001));
            }],
        ),
        (
            Rule::BudgetCounters,
            vec![
                |m| budget(m, |b| b.record.reset_count = 1),
                |m| budget(m, |b| b.record.hard_breach_count = 0),
                |m| budget(m, |b| b.record.last_reset_by = Some("ops".into())),
                |m| budget(m, |b| b.record.last_breach.as_mut().unwrap().dimension = "other".parse().unwrap()),
            ],
        ),
        (
            Rule::BudgetExhausted,
            vec![|m| budget(m, |b| b.record.exhausted = None), |m| {
                budget(m, |b| b.record.exhausted.as_mut().unwrap().dimension = "other".parse().unwrap());
            }],
        ),
        (
            Rule::BudgetMemory,
            vec![
                |m| budget(m, |b| b.reports.by_age.clear()),
                |m| budget(m, |b| b.reports.by_key.clear()),
                |m| budget(m, |b| b.reports.by_key.values_mut().for_each(|r| r.content.amounts.clear())),
                |m| {
                    budget(m, |b| {
                        b.record.dimensions = [("x".parse().unwrap(), b.record.dimensions[&tokens()])].into();
                    });
                },
            ],
        ),
        (
            Rule::QuotaDefinition,
            vec![
                |m| quota(m, |q| q.record.jitter_ms = 60_001),
                |m| quota(m, |q| q.record.quota_policy_id = "r".parse().unwrap()),
                |m| quota(m, |q| (q.record.rate, q.record.max_concurrent) = (None, None)),
            ],
        ),
        (
            Rule::QuotaWindow,
            vec![
                |m| quota(m, |q| q.window.in_order.clear()),
                |m| quota(m, |q| q.window.in_order.swap(0, 1)),
                |m| quota(m, |q| q.window.of.clear()),
                |m| quota(m, |q| q.record.rate = None),
            ],
        ),
        (
            Rule::QuotaSlots,
            vec![|m| quota(m, |q| q.slots.by_end.clear()), |m| quota(m, |q| q.slots.of.clear()), |m| {
                quota(m, |q| q.record.max_concurrent = Some(1));
            }],
        ),
        (
            Rule::QuotaWaiters,
            vec![|m| quota(m, |q| q.waiters.by_retry.clear()), |m| quota(m, |q| q.waiters.in_order.swap(0, 1)), |m| {
                quota(m, |q| q.waiters.of.clear());
            }],
        ),
        (
            Rule::StoredForm,
            vec![
                |m| harm(m, READY, |x| x.record.kind = String::new()),
                |m| harm(m, RUNNING, |x| stream(x).frames[0].frame_type = String::new()),
                |m| quota(m, |q| q.record.jitter_ms = 60_001),
                |m| budget(m, |b| b.record.dimensions.clear()),
            ],
        ),
    ]
}

fn stream(x: &mut Execution) -> &mut crate::model::Stream {
    x.history.streams.get_mut(&0).unwrap()
}

fn broken(model: &Model) -> Vec<Rule> {
    audit(model).into_iter().chain(forms(model)).map(|finding| finding.rule).collect()
}

#[test]
fn a_sound_state_has_no_findings() {
    let model = sound();
    assert_eq!(audit(&model), []);
    assert_eq!(forms(&model), []);
    assert_eq!(model.audit(), Vec::<String>::new());
}

#[test]
fn every_rule_convicts_each_of_its_harms() {
    let sound = sound();
    for (rule, harms) in table() {
        for (n, harm) in harms.into_iter().enumerate() {
            let mut model = sound.clone();
            harm(&mut model);
            let found = broken(&model);
            assert!(found.contains(&rule), "{rule}, harm {n}: {found:?}");
        }
    }
}

#[test]
fn every_rule_has_a_harm() {
    let all: Vec<Rule> = table().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(all, Rule::ALL);
}

#[test]
fn a_finding_names_rule_and_place() {
    let mut model = sound();
    harm(&mut model, DELAYED, |x| x.record.not_before = None);
    let expected =
        format!("nobody_stranded: partition 0: {} is Delayed and nothing will ever wake it", execution(DELAYED));
    assert!(model.audit().contains(&expected), "{:?}", model.audit());
}

#[test]
fn what_cannot_be_decoded_is_not_judged() {
    let mut model = sound();
    let ids: Vec<ExecutionId> = [READY, RUNNING, SUSPENDED, DONE].map(execution).into();
    partition_of(&mut model, |p| p.damaged.extend(ids.iter().map(|id| id.uuid())));
    assert_eq!(audit(&model), []);
}
