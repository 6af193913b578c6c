//! From creation to purge: create, submit, join, seal, tags, retention.

use std::collections::BTreeMap;

use ff_core::contracts::{
    AddExecutionToFlowArgs, AddExecutionToFlowResult, BacklogKind, CreateFlowResult, EdgeState, FlowEdgeSpec,
    FlowMemberSpec, ListFlowMembersArgs, PublicFlowState, SetFlowTagsArgs, SetFlowTagsResult, SubmitFlowArgs,
    SubmitFlowResult, SweepKind,
};
use ff_core::refusal::Code;
use ff_core::state::{PublicState, TerminalOutcome};

use super::*;
use crate::rules::flow::{
    add_execution_to_flow, create_flow, describe_flow, list_flow_members, set_flow_tags, submit_flow,
};

const DAY: u64 = 86_400_000;

fn add(b: &mut Bench, n: u128) -> Result<AddExecutionToFlowResult, EngineError> {
    let now = b.at();
    add_execution_to_flow(&mut b.p, now, &AddExecutionToFlowArgs { flow_id: flow(F), execution_id: execution(n) })
}

fn alone(b: &mut Bench, n: u128) {
    let args = b.creation(n, None);
    let now = b.at();
    rules::execution::create_execution(&mut b.p, now, &args).unwrap();
}

fn creation() -> CreateFlowArgs {
    CreateFlowArgs::builder().flow_id(flow(F)).namespace("n".parse().unwrap()).flow_kind("k").build()
}

fn member(name: &str, lane: &str, required: &[&str]) -> FlowMemberSpec {
    let required: Capabilities = required.iter().copied().collect();
    FlowMemberSpec::builder()
        .name(name.parse().unwrap())
        .lane_id(lane.parse().unwrap())
        .kind("k")
        .policy(ExecutionPolicy::builder().required_capabilities(required).build())
        .build()
}

fn link(from: &str, to: &str) -> FlowEdgeSpec {
    FlowEdgeSpec::builder().from(from.parse().unwrap()).to(to.parse().unwrap()).build()
}

fn submission(n: u128, sealed: bool, members: Vec<FlowMemberSpec>, edges: Vec<FlowEdgeSpec>) -> SubmitFlowArgs {
    SubmitFlowArgs::builder()
        .flow_id(flow(n))
        .namespace("n".parse().unwrap())
        .flow_kind("k")
        .sealed(sealed)
        .members(members)
        .edges(edges)
        .build()
}

#[test]
fn a_flow_is_told_by_its_creation_whatever_changed_later() {
    let mut b = Bench::new();
    let changes = BTreeMap::from([("a.b".to_owned(), Some("c".to_owned()))]);
    let args = SetFlowTagsArgs { flow_id: flow(F), tags: changes };
    assert_eq!(set_flow_tags(&mut b.p, at(1_001), &args).unwrap(), SetFlowTagsResult::Tagged { count: 1 });
    b.seal();
    let before = b.p.clone();
    let repeat = create_flow(&mut b.p, at(2_000), &creation()).unwrap();
    assert_eq!(repeat, CreateFlowResult::AlreadyExists { flow_id: flow(F) });
    assert!(b.p == before);
    let mut other = creation();
    other.flow_kind = "other".to_owned();
    b.refused(&Refusal::flow_spec_conflict(), |b| create_flow(&mut b.p, at(2_000), &other));
}

#[test]
fn the_65th_tag_changes_nothing() {
    let mut b = Bench::new();
    let tags = |range: std::ops::Range<u32>| SetFlowTagsArgs {
        flow_id: flow(F),
        tags: range.map(|n| (format!("a.{n}"), Some(String::new()))).collect(),
    };
    set_flow_tags(&mut b.p, at(1), &tags(0..64)).unwrap();
    b.refused(&Refusal::too_many_tags(64_u32), |b| set_flow_tags(&mut b.p, at(2), &tags(64..65)));
    let mut swap = tags(64..65);
    swap.tags.insert("a.0".to_owned(), None);
    assert_eq!(set_flow_tags(&mut b.p, at(3), &swap).unwrap(), SetFlowTagsResult::Tagged { count: 64 });
    assert_eq!(b.flow().last_mutation_at, at(3));
}

#[test]
fn joining_later_keeps_the_state_and_counts_once() {
    let mut b = Bench::new();
    for n in 1..6 {
        alone(&mut b, n);
    }
    b.run(1);
    b.now += 5;
    let summary = b.p.find(&execution(1)).unwrap().summary();
    let added = AddExecutionToFlowResult::Added {
        execution_id: execution(1),
        new_node_count: 1,
        new_graph_revision: 1,
        summary,
    };
    assert_eq!(add(&mut b, 1).unwrap(), added);
    assert_eq!((b.flow().public_flow_state, b.flow().last_mutation_at), (PublicFlowState::Running, at(1_005)));
    assert_eq!(b.p.find(&execution(1)).unwrap().record.last_mutation_at, at(1_005));
    let before = b.p.clone();
    let repeat = AddExecutionToFlowResult::AlreadyMember { execution_id: execution(1), node_count: 1, summary };
    assert_eq!(add(&mut b, 1).unwrap(), repeat);
    assert!(b.p == before);
    b.check();

    b.complete(2);
    b.refused(&Refusal::execution_terminal(TerminalOutcome::Success), |b| add(b, 2));
    assert_eq!(code(add(&mut b, 77)), Code::ExecutionNotFound);
    b.create_flow(0xe);
    let args = AddExecutionToFlowArgs { flow_id: flow(0xe), execution_id: execution(1) };
    b.refused(&Refusal::execution_already_in_flow(flow(F)), |b| add_execution_to_flow(&mut b.p, at(b.now), &args));
    // It shows completed, is unsealed, and takes another.
    b.complete(1);
    assert_eq!(b.flow().public_flow_state, PublicFlowState::Completed);
    add(&mut b, 3).unwrap();
    assert_eq!(b.flow().public_flow_state, PublicFlowState::Open);
    b.seal();
    b.refused(&Refusal::flow_sealed(), |b| add(b, 4));
    b.complete(3);
    let closed = Refusal::flow_already_terminal(Some(PublicFlowState::Completed), None);
    b.refused(&closed, |b| add(b, 4));
    assert_eq!(add(&mut b, 3).map(|r| matches!(r, AddExecutionToFlowResult::AlreadyMember { .. })), Ok(true));
    b.check();
}

#[test]
fn a_member_created_behind_a_failure_is_skipped_at_once_and_held_ones_are_not() {
    let mut b = Bench::new();
    b.member(1);
    b.fail(1);
    b.join(2, false, &[1]);
    b.join(3, true, &[1]);
    assert_eq!(b.states(2..4), [PublicState::Skipped, PublicState::WaitingChildren]);
    assert_eq!(b.flow().graph_revision, 3);
    b.check();
}

#[test]
fn a_refused_joining_leaves_nothing() {
    let mut b = Bench::new();
    b.member(1);
    b.member(2);
    b.stage(1, 2);
    let join = |edges: Vec<IncomingEdge>| Some(FlowJoin { flow_id: flow(F), hold: false, edges });
    let at_once = |b: &mut Bench, edges| {
        let args = b.creation(3, join(edges));
        let now = b.at();
        rules::execution::create_execution(&mut b.p, now, &args)
    };
    let new = |up: u128| IncomingEdge::new(edge(up, 3), execution(up));
    let named = |up: u128| IncomingEdge { data_passing_ref: Some("d".parse().unwrap()), ..new(up) };
    let known = IncomingEdge { edge_id: edge(1, 2), ..new(1) };
    b.refused(&Refusal::dependency_already_exists(edge(1, 2)), |b| at_once(b, vec![known]));
    let twice = vec![new(1), IncomingEdge { edge_id: edge(9, 9), ..new(1) }];
    b.refused(&Refusal::dependency_already_exists(edge(1, 3)), |b| at_once(b, twice));
    let twice = vec![new(1), IncomingEdge { edge_id: edge(1, 3), ..new(2) }];
    b.refused(&Refusal::dependency_already_exists(edge(1, 3)), |b| at_once(b, twice));
    // Edge by edge: the first edge's name comes before the second edge's upstream.
    let mixed = vec![named(1), named(2), new(77)];
    b.refused(&Refusal::data_name_conflict(edge(1, 3)), |b| at_once(b, mixed));
    b.refused(&Refusal::execution_not_in_flow(execution(3)), |b| at_once(b, vec![new(3)]));
    b.check();
}

#[test]
fn a_submission_makes_everything_at_once_and_repeats() {
    let mut b = Bench::new();
    let members = ["a", "b", "c", "d"].map(|name| member(name, "l", &[])).to_vec();
    let edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")].map(|(from, to)| link(from, to)).to_vec();
    let args = submission(2, true, members, edges);
    let created = SubmitFlowResult::Created { flow_id: flow(2), graph_revision: 1, members: args.member_ids() };
    assert_eq!(submit_flow(&mut b.p, at(1_000), &args).unwrap(), created);
    let now = at(1_000);
    let shown = describe_flow(&b.p, now, &DescribeFlowArgs { flow_id: flow(2) }).unwrap();
    assert_eq!((shown.node_count, shown.edge_count, shown.sealed, shown.purge_at), (4, 4, true, None));
    let listed =
        list_flow_members(&b.p, now, &ListFlowMembersArgs::builder().flow_id(flow(2)).build()).unwrap().members;
    let seen: Vec<_> = listed.iter().map(|m| (m.public_state, m.held, m.unresolved_count)).collect();
    let deps = PublicState::WaitingChildren;
    assert_eq!(seen, [(PublicState::Waiting, false, 0), (deps, false, 1), (deps, false, 1), (deps, false, 2)]);
    assert!(listed.iter().zip(["a", "b", "c", "d"]).all(|(m, n)| m.member_name == Some(n.parse().unwrap())));
    let seqs: Vec<_> = b.p.graph(flow(2).uuid()).unwrap().edges.values().map(|e| (e.edge_id, e.seq)).collect();
    assert!(args.edges.iter().zip(1..).all(|(e, seq)| seqs.contains(&(e.edge_id, seq))));
    assert_eq!(b.claim(10).len(), 1);
    b.check();
    // A repeat, also when the flow has moved on; and a member that is created again.
    let before = b.p.clone();
    let repeat = SubmitFlowResult::AlreadyExists { flow_id: flow(2), graph_revision: 1, members: args.member_ids() };
    assert_eq!(submit_flow(&mut b.p, at(1_500), &args).unwrap(), repeat);
    let again = args.members[3].to_creation(&args.namespace, args.flow_id, false);
    let again = rules::execution::create_execution(&mut b.p, at(1_500), &again).unwrap();
    assert!(matches!(again, ff_core::contracts::CreateExecutionResult::AlreadyExists { .. }));
    assert!(b.p == before);
    let mut other = args.clone();
    other.tags.insert("a.b".to_owned(), String::new());
    b.refused(&Refusal::flow_spec_conflict(), |b| submit_flow(&mut b.p, at(1_500), &other));
}

#[test]
fn an_unsealed_submission_holds_its_members() {
    let mut b = Bench::new();
    let args = submission(2, false, vec![member("a", "l", &[]), member("b", "l", &[])], vec![]);
    submit_flow(&mut b.p, at(1_000), &args).unwrap();
    assert_eq!(b.claim(1), []);
    let (up, down) = (args.members[0].execution_id, args.members[1].execution_id);
    let stage = StageDependencyEdgeArgs::builder()
        .flow_id(flow(2))
        .edge_id(edge(1, 2))
        .upstream_execution_id(up)
        .downstream_execution_id(down)
        .build();
    b.try_stage(&stage).unwrap();
    let seal = SealFlowArgs::builder().flow_id(flow(2)).expected_graph_revision(2).build();
    super::super::seal_flow(&mut b.p, at(1_000), &seal).unwrap();
    assert_eq!(b.claim(2).iter().map(|c| c.0).collect::<Vec<_>>(), [up.uuid().as_u128()]);
}

#[test]
fn a_refused_submission_leaves_nothing() {
    let mut b = Bench::new();
    let members = ["a", "b", "c"].map(|name| member(name, "l", &[])).to_vec();
    let args = submission(2, true, members, vec![link("a", "b")]);
    let third = args.members[2].execution_id.uuid().as_u128();
    alone(&mut b, third);
    b.refused(&Refusal::execution_already_exists().about_member("c"), |b| submit_flow(&mut b.p, at(1_000), &args));
    let mut twice = args.clone();
    twice.members[1].execution_id = args.members[0].execution_id;
    b.refused(&Refusal::execution_already_exists().about_member("b"), |b| submit_flow(&mut b.p, at(1_000), &twice));
}

#[test]
fn a_submission_fits_its_lanes_as_a_whole() {
    let mut b = Bench::new();
    for n in 0..255 {
        let token = format!("t{n}");
        let required: Capabilities = [token].into_iter().collect();
        b.policy = ExecutionPolicy::builder().required_capabilities(required).build().into();
        alone(&mut b, 1_000 + n);
    }
    // Lane l has 255 sets. One new one fits, known and empty ones do, and another lane has room of its own.
    let fits = vec![
        member("a", "l", &["new"]),
        member("b", "l", &["t0"]),
        member("c", "l", &[]),
        member("d", "l", &["new"]),
        member("e", "m", &["x"]),
        member("f", "m", &["y"]),
    ];
    let mut more = fits.clone();
    more.push(member("g", "l", &["newer"]));
    let refusal = Refusal::too_many_capability_sets("l".parse::<ff_core::ids::LaneId>().unwrap(), 256_u32);
    let args = submission(2, true, more, vec![]);
    b.refused(&refusal.about_member("g"), |b| submit_flow(&mut b.p, at(1_000), &args));
    submit_flow(&mut b.p, at(1_000), &submission(2, true, fits, vec![])).unwrap();
}

#[test]
fn an_empty_sealed_flow_is_kept_a_day() {
    let mut b = Bench::new();
    assert_eq!(b.flow().purge_at, None);
    b.now += 10;
    b.seal();
    assert_eq!(b.flow().purge_at, Some(at(1_010 + DAY)));
    b.now = 1_010 + DAY;
    // The timer; then the item without a candidate.
    assert_eq!(b.sweep(1).count(SweepKind::Retention), 1);
    assert_eq!(b.backlog(), [of_flow(BacklogKind::Purge, F)]);
    b.refused(&Refusal::flow_already_terminal(None, None), |b| create_flow(&mut b.p, at(b.now), &creation()));
    assert_eq!(b.sweep(1).count(SweepKind::Stale), 1);
    b.create_flow(F);
    b.check();
}

#[test]
fn a_flow_is_purged_member_by_member_in_steps_of_100_records() {
    let mut b = Bench::new();
    b.policy = ExecutionPolicy::builder().retention_ms(DAY).build().into();
    // 1 waits for 150 others: 150 incoming edges are its records, and its one run.
    b.held(1);
    for up in 1_000..1_150 {
        b.member(up);
        b.stage(up, 1);
    }
    b.seal();
    // Of 151 open members the call looked at 128.
    assert_eq!(b.sweep(100).count(SweepKind::Backlog), 23);
    for up in 1_000..1_150 {
        b.complete(up);
    }
    b.now += 77;
    b.complete(1);
    assert_eq!(b.flow().purge_at, Some(at(1_077 + DAY)));
    b.check();
    b.now += DAY - 1;
    assert_eq!(b.sweep(100).total(), 0);
    b.now += 1;
    let report = b.sweep(1);
    assert_eq!((report.count(SweepKind::Retention), report.more), (1, true));
    let gone = |b: &Bench| code(describe_flow(&b.p, at(b.now), &DescribeFlowArgs { flow_id: flow(F) }));
    assert_eq!(gone(&b), Code::FlowNotFound);
    b.refused(&Refusal::flow_already_terminal(None, None), |b| create_flow(&mut b.p, at(b.now), &creation()));
    // Until its first step a member is read, and refuses what needs its flow.
    assert_eq!(b.state(1), PublicState::Completed);
    b.refused(&Refusal::flow_not_found(), |b| b.try_replay(1, false));

    let create = |b: &mut Bench, n| {
        let args = b.creation(n, None);
        rules::execution::create_execution(&mut b.p, at(b.now), &args)
    };
    // First step: 100 of 151 records.
    assert_eq!(b.sweep(1).count(SweepKind::Backlog), 1);
    assert_eq!(code(b.p.find(&execution(1)).map(|_| ())), Code::ExecutionNotFound);
    assert_eq!(b.state(1_000), PublicState::Completed);
    b.refused(&Refusal::execution_already_exists(), |b| create(b, 1));
    // Second step: the rest. Its id is free, the flow's is not.
    assert_eq!(b.sweep(1).count(SweepKind::Backlog), 1);
    assert_eq!(b.state(1_000), PublicState::Completed);
    create(&mut b, 1).unwrap();
    b.refused(&Refusal::flow_already_terminal(None, None), |b| create_flow(&mut b.p, at(b.now), &creation()));
    // 150 members of one record each.
    let report = b.sweep(149);
    assert_eq!((report.count(SweepKind::Backlog), report.more), (128, true));
    let report = b.sweep(22);
    assert_eq!((report.count(SweepKind::Backlog), report.more), (22, false));
    b.create_flow(F);
    assert_eq!(b.flow().node_count, 0);
    assert_eq!(b.p.remains.len(), 0);
}

#[test]
fn the_edges_entry_of_a_purged_flow_is_void() {
    let mut b = Bench::new();
    b.policy = ExecutionPolicy::builder().retention_ms(0).build().into();
    b.fan(1, 100..229);
    for n in 100..229 {
        b.fail(n);
    }
    b.seal();
    b.complete(1);
    // All are terminal; one edge is owed, and the flow is due at once.
    assert_eq!((b.flow().deferred, b.flow().purge_at), (1, Some(at(1_000))));
    assert_eq!(b.edge_state(1, 228), EdgeState::Pending);
    let report = b.sweep(2);
    assert_eq!((report.count(SweepKind::Retention), report.count(SweepKind::Stale)), (1, 1));
    assert_eq!(b.backlog(), [of_flow(BacklogKind::Purge, F)]);
}

#[test]
fn a_member_is_never_purged_before_its_flow() {
    let mut b = Bench::new();
    b.policy = ExecutionPolicy::builder().retention_ms(0).build().into();
    b.member(1);
    b.member(2);
    b.complete(1);
    b.now += 10 * DAY;
    assert_eq!(b.sweep(100).total(), 0);
    b.seal();
    assert_eq!(b.flow().purge_at, None);
    b.complete(2);
    assert_eq!(b.flow().purge_at, Some(at(1_000 + 10 * DAY)));
    // Retention counts from each member's end: the greatest instant so far.
    assert_eq!(b.sweep(100).count(SweepKind::Retention), 1);
}
