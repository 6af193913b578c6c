use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::bounds::{CheckArgs, Deployment, GraphBounds};
use crate::ids::{LaneId, Namespace};
use crate::refusal::{Code, Refusal};

const FLOW: &str = "f7_01890a5d-ac96-774b-bcce-b302099a8057";

fn flow_id() -> FlowId {
    FLOW.parse().expect("well formed")
}

fn name(text: &str) -> DataName {
    text.parse().expect("a data name")
}

fn namespace() -> Namespace {
    Namespace::new("acme").expect("a namespace")
}

fn member(text: &str) -> FlowMemberSpec {
    FlowMemberSpec::builder().name(name(text)).lane_id(LaneId::new("default").expect("a lane")).kind("work").build()
}

fn edge(from: &str, to: &str) -> FlowEdgeSpec {
    FlowEdgeSpec::builder().from(name(from)).to(name(to)).build()
}

fn with_data(from: &str, to: &str, data: &str) -> FlowEdgeSpec {
    FlowEdgeSpec::builder().from(name(from)).to(name(to)).data_passing_ref(name(data)).build()
}

fn submission(members: &[&str], edges: Vec<FlowEdgeSpec>) -> SubmitFlowArgs {
    SubmitFlowArgs::builder()
        .flow_id(flow_id())
        .namespace(namespace())
        .flow_kind("etl")
        .members(members.iter().map(|m| member(m)).collect())
        .edges(edges)
        .build()
}

fn check(args: &impl CheckArgs) -> Result<(), Refusal> {
    args.check(&Deployment::default())
}

fn refusal(args: &impl CheckArgs) -> Refusal {
    check(args).expect_err("is refused")
}

/// Computed apart from this code, with Python:
/// `h = bytearray(hashlib.sha256(f.bytes + b"m" + b"fetch").digest()[:8]); h[0] = h[0] & 0x3f | 0x80`,
/// `uuid.UUID(bytes=f.bytes[:6] + (0x7000 + position).to_bytes(2, "big") + bytes(h))`, and for an edge
/// `b"e" + b"fetch" + b">" + b"resize"`.
#[test]
fn derived_ids_equal_vectors_computed_apart() {
    let flow = flow_id();
    for (position, text, want) in [
        (0, "fetch", "e7_01890a5d-ac96-7000-bbdb-5fcb08822274"),
        (255, "resize_1", "e7_01890a5d-ac96-70ff-88bf-5ed11dccae94"),
    ] {
        assert_eq!(FlowMemberSpec::derived_id(&flow, position, &name(text)).to_string(), want);
    }
    for (position, from, to, want) in [
        (0, "fetch", "resize", "01890a5d-ac96-7000-a103-201362b2d7f0"),
        (1023, "a", "b", "01890a5d-ac96-73ff-b142-a4f4d14c4748"),
    ] {
        assert_eq!(FlowEdgeSpec::derived_id(&flow, position, &name(from), &name(to)).to_string(), want);
    }
}

#[test]
fn derived_ids_repeat_sort_in_list_order_and_leave_given_ones_alone() {
    let names: Vec<String> = (0..256).map(|n| format!("m{}", (n * 37) % 256)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = submission(&names, vec![edge("m0", "m1")]);
    assert_eq!(first, submission(&names, vec![edge("m0", "m1")]));
    assert!(first.members.windows(2).all(|w| w[0].execution_id < w[1].execution_id));
    assert_eq!(check(&first), Ok(()));

    let own = ExecutionId::from_parts(7, Uuid::from_u128(1));
    let mut given = member("own");
    given.execution_id = own;
    let args = SubmitFlowArgs::builder()
        .flow_id(flow_id())
        .namespace(namespace())
        .flow_kind("etl")
        .members(vec![given])
        .build();
    assert_eq!(args.members[0].execution_id, own);
    assert!(args.sealed);
}

/// The first: Python, SHA-256 over u32 length and bytes of `create_flow/1`, the id, `acme`, `etl`, `1`, `team.name`,
/// `data`.
#[test]
fn spec_digests_cover_their_arguments_in_order() {
    let mut args = CreateFlowArgs::builder().flow_id(flow_id()).namespace(namespace()).flow_kind("etl").build();
    args.tags.insert("team.name".into(), "data".into());
    assert_eq!(args.spec_digest().to_hex(), "92cbe4a46ef1898b5d2698a6e996a4a3ca5a60bfa41d4a6bd5bc6bb727801db2");

    let base = submission(&["a", "b"], vec![edge("a", "b")]);
    let differs = |change: fn(&mut SubmitFlowArgs)| {
        let mut other = base.clone();
        change(&mut other);
        other.spec_digest() != base.spec_digest()
    };
    assert!(differs(|f| f.sealed = false));
    assert!(differs(|f| f.members[0].priority = 1));
    assert!(differs(|f| f.members[0].payload_encoding = Some(String::new())));
    assert!(differs(|f| f.members[1].payload = Bytes::from_static(b"x")));
    assert!(differs(|f| f.edges[0].dependency_kind = DependencyKind::AnyTerminal));
    assert!(differs(|f| f.edges[0].data_passing_ref = Some(name("in"))));
    assert!(differs(|f| f.members.swap(0, 1)));
    assert!(!differs(|f| f.members[0].creator = Some("someone".into())));
}

#[test]
fn a_member_amounts_to_a_creation_for_the_flow() {
    let mut spec = member("a");
    spec.tags.insert("team.name".into(), "data".into());
    spec.creator = Some("someone".into());
    let creation = spec.to_creation(&namespace(), flow_id(), true);
    assert_eq!(creation.flow, Some(FlowJoin::held(flow_id())));
    assert_eq!((creation.idempotency_key, creation.tags, creation.creator), (None, spec.tags, spec.creator));
}

#[test]
fn the_graph_is_refused_code_by_code_in_the_order_of_the_list() {
    let twice = refusal(&submission(&["a", "b", "a"], vec![edge("a", "nobody")]));
    assert_eq!(twice, Refusal::duplicate_member_name("a").about_member("a"));

    let unknown = refusal(&submission(&["a", "b"], vec![edge("a", "a"), edge("nobody", "b")]));
    assert_eq!(unknown, Refusal::unknown_member("nobody"));

    let itself = refusal(&submission(&["a", "b"], vec![edge("a", "b"), edge("a", "b"), edge("b", "b")]));
    assert_eq!(itself, Refusal::self_referencing_edge().about_member("b"));

    let pair = submission(&["a", "b"], vec![with_data("a", "b", "in"), with_data("a", "b", "in")]);
    assert_eq!(refusal(&pair), Refusal::dependency_already_exists(pair.edges[0].edge_id).about_member("b"));

    let mut id = submission(&["a", "b", "c"], vec![edge("a", "b"), edge("b", "c")]);
    id.edges[1].edge_id = id.edges[0].edge_id;
    assert_eq!(refusal(&id), Refusal::dependency_already_exists(id.edges[0].edge_id).about_member("c"));

    let data = submission(&["a", "b", "c"], vec![with_data("a", "c", "in"), with_data("b", "c", "in"), edge("c", "a")]);
    assert_eq!(refusal(&data), Refusal::data_name_conflict(data.edges[0].edge_id).about_member("c"));

    let mut ids = submission(&["a", "b"], Vec::new());
    ids.members[1].execution_id = ids.members[0].execution_id;
    assert_eq!(check(&ids), Ok(()), "which execution exists is asked of the store");
    assert_eq!(ids.repeated_member().map(|m| &m.name), Some(&name("b")));
}

#[test]
fn caps_of_the_graph_are_refused_with_what_and_limit() {
    let names: Vec<String> = (0..70).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let data: Vec<_> = (1..=65).map(|n| with_data(names[n], "m0", names[n])).collect();
    assert_eq!(check(&submission(&names, data[..64].to_vec())), Ok(()));
    assert_eq!(
        refusal(&submission(&names, data)),
        Refusal::fan_in_limit(FanInPart::DataEdges, 64_u64).about_member("m0")
    );

    let low = |graph: GraphBounds| Deployment { graph, ..Deployment::default() };
    let chain = submission(&["a", "b", "c"], vec![edge("a", "c"), edge("b", "c"), edge("a", "b")]);
    let refused = |graph| chain.check(&low(graph)).expect_err("is refused");
    let default = GraphBounds::default();
    assert_eq!(
        refused(GraphBounds { incoming: 1, data_incoming: 0, ..default }),
        Refusal::fan_in_limit(FanInPart::Edges, 1_u64).about_member("c")
    );
    assert_eq!(refused(GraphBounds { outgoing: 1, ..default }), Refusal::fan_out_limit(1_u64).about_member("a"));
    assert_eq!(
        refused(GraphBounds { members: 2, edges: 2, ..default }),
        Refusal::flow_too_large(FlowPart::Members, 2_u64)
    );
    assert_eq!(refused(GraphBounds { edges: 2, ..default }), Refusal::flow_too_large(FlowPart::Edges, 2_u64));
}

#[test]
fn a_submission_holds_its_bounds() {
    let names: Vec<String> = (0..257).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(check(&submission(&names[..256], Vec::new())), Ok(()));
    assert_eq!(refusal(&submission(&names, Vec::new())), Refusal::invalid_input("members"));
    assert_eq!(refusal(&submission(&[], Vec::new())), Refusal::invalid_input("members"));

    let edges: Vec<_> = (0..1025).map(|n| edge(names[n / 20], names[60 + n % 20])).collect();
    assert_eq!(check(&submission(&names[..80], edges[..1024].to_vec())), Ok(()));
    assert_eq!(refusal(&submission(&names[..80], edges)), Refusal::invalid_input("edges"));

    let mut large = submission(&["a", "b", "c", "d", "e"], Vec::new());
    for member in &mut large.members {
        member.payload = Bytes::from(vec![0; 1 << 20]);
    }
    assert_eq!(refusal(&large), Refusal::payload_too_large("members", 5_u64 << 20, 4_u64 << 20));
    large.members.pop();
    assert_eq!(check(&large), Ok(()));
    large.members[2].payload = Bytes::from(vec![0; (1 << 20) + 1]);
    large.members[3].payload = Bytes::new();
    assert_eq!(
        refusal(&large),
        Refusal::payload_too_large("members.payload", (1_u64 << 20) + 1, 1_u64 << 20).about_member("c")
    );
}

#[test]
fn a_member_is_refused_by_name_and_in_the_order_of_checks() {
    let base = submission(&["a", "b"], Vec::new());
    let with = |change: &dyn Fn(&mut SubmitFlowArgs)| {
        let mut args = base.clone();
        change(&mut args);
        refusal(&args)
    };
    assert_eq!(with(&|f| f.members[1].kind.clear()), Refusal::invalid_input("members.kind").about_member("b"));
    assert_eq!(
        with(&|f| {
            Arc::make_mut(&mut f.members[1].policy).max_signals = 0;
            f.members[1].execution_id = ExecutionId::from_parts(6, Uuid::nil());
        }),
        Refusal::invalid_policy("max_signals").about_member("b")
    );
    assert_eq!(
        with(&|f| f.members[1].execution_id = ExecutionId::from_parts(6, Uuid::nil())),
        Refusal::partition_mismatch().about_member("b")
    );
    assert_eq!(
        with(&|f| {
            f.flow_kind.clear();
            f.members[0].execution_id = ExecutionId::from_parts(16, Uuid::nil());
        }),
        Refusal::invalid_partition().about_member("a")
    );
    assert_eq!(with(&|f| f.flow_kind.clear()).code(), Code::InvalidInput);
}

#[test]
fn the_witness_of_a_cycle_runs_from_the_first_closing_edges_upstream_back_to_it() {
    let args = submission(
        &["a", "b", "c", "d"],
        // The third edge closes a cycle; the fourth would close another one.
        vec![edge("b", "c"), edge("a", "b"), edge("c", "a"), edge("b", "a"), edge("c", "d")],
    );
    let id = |n: usize| args.members[n].execution_id;
    assert_eq!(refusal(&args), Refusal::cycle_detected(vec![id(2), id(0), id(1), id(2)]));

    // Two paths of one length: the one that a breadth-first search by seq meets first.
    let args = submission(
        &["a", "b", "c", "d"],
        vec![edge("a", "c"), edge("a", "b"), edge("b", "d"), edge("c", "d"), edge("d", "a")],
    );
    let id = |n: usize| args.members[n].execution_id;
    assert_eq!(refusal(&args), Refusal::cycle_detected(vec![id(3), id(0), id(2), id(3)]));
}

proptest! {
    /// Against reachability by closure: refused exactly when some prefix of the list is cyclic, by the edge that makes
    /// it so, with a witness made of edges up to that one.
    #[test]
    fn a_cycle_is_found_exactly_where_the_closure_has_one(
        pairs in proptest::collection::btree_set((0_usize..7, 0_usize..7), 0..16),
        salt in any::<u64>(),
    ) {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(u, d)| u != d).collect();
        let length = pairs.len().max(1);
        pairs.rotate_left(usize::try_from(salt % 97).unwrap_or(0) % length);
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let args = submission(&names, pairs.iter().map(|(u, d)| edge(names[*u], names[*d])).collect());
        let mut reach = [[false; 7]; 7];
        let mut closing = None;
        for (at, &(u, d)) in pairs.iter().enumerate() {
            if reach[d][u] {
                closing = Some(at);
                break;
            }
            let into: Vec<_> = (0..7).filter(|x| *x == u || reach[*x][u]).collect();
            let out: Vec<_> = (0..7).filter(|x| *x == d || reach[d][*x]).collect();
            for x in &into {
                for y in &out {
                    reach[*x][*y] = true;
                }
            }
        }
        match (check(&args), closing) {
            (Ok(()), None) => {}
            (Err(refusal), Some(at)) => {
                let crate::refusal::Details::CycleDetected { cycle } = refusal.details() else {
                    return Err(TestCaseError::fail(format!("{refusal}")));
                };
                let ids: BTreeMap<_, _> = args.members.iter().enumerate().map(|(n, m)| (m.execution_id, n)).collect();
                let nodes: Vec<_> = cycle.iter().map(|x| ids[x]).collect();
                prop_assert_eq!((nodes[0], nodes[1]), pairs[at]);
                prop_assert_eq!(nodes.first(), nodes.last());
                for step in nodes.windows(2) {
                    prop_assert!(pairs[..=at].contains(&(step[0], step[1])));
                }
            }
            (answer, closing) => return Err(TestCaseError::fail(format!("{answer:?} {closing:?}"))),
        }
    }
}

#[test]
fn edges_between_partitions_and_to_oneself_are_refused_before_anything_is_read() {
    let x = |partition, n| ExecutionId::from_parts(partition, Uuid::from_u128(n));
    let stage = |up, down| {
        StageDependencyEdgeArgs::builder()
            .flow_id(flow_id())
            .edge_id(EdgeId::from_uuid(Uuid::nil()))
            .upstream_execution_id(up)
            .downstream_execution_id(down)
            .build()
    };
    assert_eq!(check(&stage(x(7, 1), x(7, 2))), Ok(()));
    assert_eq!(refusal(&stage(x(7, 1), x(7, 1))), Refusal::self_referencing_edge());
    assert_eq!(refusal(&stage(x(7, 1), x(6, 1))), Refusal::partition_mismatch());
    assert_eq!(refusal(&stage(x(16, 1), x(6, 1))), Refusal::invalid_partition());
    let mut revision = stage(x(7, 1), x(6, 1));
    revision.expected_graph_revision = Some(1 << 53);
    assert_eq!(refusal(&revision), Refusal::invalid_input("expected_graph_revision"));

    let list =
        ListEdgesArgs::builder().flow_id(flow_id()).direction(EdgeDirection::Incoming { to_node: x(6, 1) }).build();
    assert_eq!(list.limit, 100);
    assert_eq!(refusal(&list), Refusal::partition_mismatch());
    let add = AddExecutionToFlowArgs { flow_id: flow_id(), execution_id: x(6, 1) };
    assert_eq!(refusal(&add), Refusal::partition_mismatch());
    let resolve = ResolveDependencyArgs::builder()
        .flow_id(flow_id())
        .edge_id(EdgeId::from_uuid(Uuid::nil()))
        .upstream_outcome(TerminalOutcome::None)
        .build();
    assert_eq!(refusal(&resolve), Refusal::invalid_input("upstream_outcome"));
}

#[test]
fn arguments_read_strictly_and_fill_in_defaults() {
    let text = format!(r#"{{"flow_id":"{FLOW}","reason":"","by":"ops"}}"#);
    let args: CancelFlowArgs = serde_json::from_str(&text).expect("has its required fields");
    assert_eq!(args.cancellation_policy, CancellationPolicy::CancelAll);
    assert_eq!(check(&args), Ok(()));
    let text = format!(r#"{{"flow_id":"{FLOW}","reason":"","by":"ops","polic":1}}"#);
    assert!(serde_json::from_str::<CancelFlowArgs>(&text).is_err());

    let args = submission(&["a", "b"], vec![with_data("a", "b", "in")]);
    let text = serde_json::to_string(&args).expect("serialises");
    assert_eq!(serde_json::from_str::<SubmitFlowArgs>(&text).expect("parses"), args);
}

#[test]
fn a_cancellation_covers_open_members_and_spares_running_ones_if_so_asked() {
    use crate::state::AttemptState;
    let ready = StateVector::ready(AttemptState::PendingFirstAttempt);
    let done = StateVector::done(TerminalOutcome::Failed, true);
    let covers = |policy: CancellationPolicy| {
        [&ready, &StateVector::RUNNING, &StateVector::LOST, &done].map(|vector| policy.covers(vector))
    };
    assert_eq!(covers(CancellationPolicy::FlowOnly), [false; 4]);
    assert_eq!(covers(CancellationPolicy::CancelPending), [true, false, true, false]);
    assert_eq!(covers(CancellationPolicy::CancelAll), [true, true, true, false]);
    assert!(CancellationPolicy::FlowOnly < CancellationPolicy::CancelPending);
    assert!(CancellationPolicy::CancelPending < CancellationPolicy::CancelAll);
}

#[test]
fn an_edges_verdict_follows_outcome_and_kind() {
    for outcome in TerminalOutcome::ALL {
        let want = match outcome {
            TerminalOutcome::None => (EdgeState::Pending, EdgeState::Pending),
            TerminalOutcome::Success => (EdgeState::Satisfied, EdgeState::Satisfied),
            _ => (EdgeState::Impossible, EdgeState::Satisfied),
        };
        let got = (DependencyKind::SuccessOnly.verdict(*outcome), DependencyKind::AnyTerminal.verdict(*outcome));
        assert_eq!(got, want, "{outcome}");
    }
}
