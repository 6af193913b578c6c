//! Whole flows in one call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{EdgeId, ExecutionId, Namespace};
use ff_core::operation::Outcome;
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, StateName, StateVector};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, arrow, data_name, deadline, namespace, requires, spec, tags};

cases! { "flow";
    "submit_flow: a repeat answers the same ids and other content is a conflict." => submitted_twice,
    "submit_flow: every refusal leaves no flow, member, edge, timer or queue entry behind." => refused_wholly,
    "submit_flow: no member can be claimed before all edges exist, under concurrent claims." => claimed_meanwhile,
    "submit_flow: 256 members and 1024 edges are taken and one more of either is refused." => largest,
    "submit_flow: a cycle is refused and its witness is a path of edges of the call." => cyclic,
    "submit_flow: derived ids repeat and members of one priority are served in list order." => derived,
    "submit_flow: unsealed, its members are held and edges can be staged among them." => unsealed,
}

fn letters(names: &str) -> Vec<FlowMemberSpec> {
    names.chars().map(|c| spec(&c.to_string())).collect()
}

/// Edges from pairs of letters: `ab` is an edge from a to b.
fn arrows(pairs: &[&str]) -> Vec<FlowEdgeSpec> {
    pairs.iter().map(|pair| arrow(&pair[..1], &pair[1..])).collect()
}

async fn submitted_twice(s: &Stage) {
    let mut args = s.submission(letters("abc"), arrows(&["ab", "bc"]));
    args.tags = tags(&[("team.name", "search")]);
    let flow_id = args.flow_id;
    let members: Vec<_> = args.members.iter().map(|m| (m.name.clone(), m.execution_id)).collect();
    let first = s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    let created = SubmitFlowResult::Created { flow_id, graph_revision: 1, members: members.clone() };
    assert_eq!(first, Outcome::SubmitFlow(created));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.graph_revision, flow.node_count, flow.edge_count, flow.sealed), (1, 3, 2, true));
    assert_eq!(flow.tags, tags(&[("team.name", "search")]));
    for (n, member) in s.list_members(flow_id, 10).await.into_iter().enumerate() {
        assert_eq!((member.member_name, member.execution_id), (Some(members[n].0.clone()), members[n].1));
        assert!(!member.held);
    }
    for (n, member) in args.members.iter().enumerate() {
        let seqs: Vec<_> = s.incoming(flow_id, member.execution_id).await.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, [&[][..], &[1], &[2]][n]);
    }
    assert_eq!(s.state(args.members[0].execution_id).await, StateName::Ready);
    assert_eq!(s.state(args.members[1].execution_id).await, StateName::Deps);

    let again = Outcome::SubmitFlow(SubmitFlowResult::AlreadyExists { flow_id, graph_revision: 1, members });
    s.advance(5);
    assert_eq!(s.changes_nothing(args.clone()).await, again);
    let fence = s.claim_this(args.members[0].execution_id).await.fence;
    s.complete(args.members[0].execution_id, fence).await;
    let later = std::collections::BTreeMap::from([("team.later".to_owned(), Some("x".to_owned()))]);
    s.call(SetFlowTagsArgs { flow_id, tags: later }).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.changes_nothing(args.clone()).await, again, "whatever changed since");

    let change = |edit: fn(&mut SubmitFlowArgs)| {
        let mut args = args.clone();
        edit(&mut args);
        args
    };
    for args in [
        change(|args| args.flow_kind = "other".to_owned()),
        change(|args| args.namespace = Namespace::new("elsewhere").unwrap_or_else(|e| panic!("{e}"))),
        change(|args| args.tags.clear()),
        change(|args| args.sealed = false),
        change(|args| args.members[2].payload = Bytes::from_static(b"x")),
        change(|args| args.members[2].priority = 1),
        change(|args| args.members[2].name = data_name("d")),
        change(|args| args.edges[1].dependency_kind = DependencyKind::AnyTerminal),
        change(|args| args.edges[1].data_passing_ref = Some(data_name("out"))),
        change(|args| drop(args.edges.pop())),
        change(|args| args.members.swap(0, 1)),
    ] {
        let unknown = args.members[2].name != data_name("c");
        let code = if unknown { Code::UnknownMember } else { Code::FlowSpecConflict };
        s.refused_with(code, args).await;
    }
    // An id that create_flow made is taken as well.
    let mut other = s.submission(letters("ab"), arrows(&["ab"]));
    other.flow_id = s.flow().await;
    for member in &mut other.members {
        member.execution_id = FlowMemberSpec::UNDERIVED;
    }
    s.refused_with(Code::FlowSpecConflict, other.derive_ids()).await;
}

/// Nothing is due, nothing is ready, and nothing is to be repaired.
async fn nothing_stands(s: &Stage) {
    let result = s.claim_next(1).await;
    assert!(result.claimed.is_empty());
    assert_eq!((result.ready_remaining, result.next_due_at), (0, None));
    assert_eq!(s.rebuild().await.total(), 0);
}

/// Members that would leave timers and tags behind, were they half created.
fn telling(names: &str) -> Vec<FlowMemberSpec> {
    let mut members = letters(names);
    for member in &mut members {
        member.policy = Arc::new(deadline(When::After(60_000)));
        member.delay = Some(When::After(1_000));
        member.tags = tags(&[("team.name", "search")]);
    }
    members
}

#[allow(clippy::too_many_lines)] // one refusal after the other
async fn refused_wholly(s: &Stage) {
    let with_ids = |edges: &[&str], id: EdgeId| {
        let mut edges = arrows(edges);
        for edge in &mut edges {
            edge.edge_id = id;
        }
        edges
    };
    let with_data = |pairs: &[&str]| {
        let mut edges = arrows(pairs);
        for edge in &mut edges {
            edge.data_passing_ref = Some(data_name("same"));
        }
        edges
    };
    let wide = |data: bool| {
        let mut members = telling("z");
        let mut edges = Vec::new();
        for n in 0..65 {
            members.push(spec(&format!("u{n}")));
            let mut edge = arrow(&format!("u{n}"), "z");
            edge.data_passing_ref = data.then(|| data_name(&format!("d{n}")));
            edges.push(edge);
        }
        (members, edges)
    };
    let (wide_members, wide_edges) = wide(true);
    let edit = |edit: fn(&mut FlowMemberSpec)| {
        let mut members = telling("abc");
        edit(&mut members[1]);
        members
    };
    let heavy = || {
        let mut members = telling("abcde");
        for member in &mut members {
            member.payload = Bytes::from(vec![b'x'; 1 << 20]);
        }
        members
    };
    let mut submissions = vec![
        (Code::InvalidInput, None, s.submission(Vec::new(), Vec::new())),
        (Code::PayloadTooLarge, None, s.submission(heavy(), Vec::new())),
        (
            Code::PayloadTooLarge,
            Some("b"),
            s.submission(edit(|m| m.payload = Bytes::from(vec![b'x'; (1 << 20) + 1])), arrows(&["ab"])),
        ),
        (Code::InvalidInput, Some("b"), s.submission(edit(|m| m.kind = String::new()), arrows(&["ab"]))),
        (Code::InvalidTagKey, Some("b"), s.submission(edit(|m| m.tags = tags(&[("nodot", "v")])), arrows(&["ab"]))),
        (
            Code::InvalidPolicy,
            Some("b"),
            s.submission(edit(|m| Arc::make_mut(&mut m.policy).stream.retention_maxlen = 0), arrows(&["ab"])),
        ),
        (Code::DuplicateMemberName, Some("a"), s.submission(telling("aba"), Vec::new())),
        (Code::UnknownMember, None, s.submission(telling("ab"), arrows(&["ab", "ax"]))),
        (Code::SelfReferencingEdge, Some("b"), s.submission(telling("ab"), arrows(&["ab", "bb"]))),
        (Code::DependencyAlreadyExists, Some("b"), s.submission(telling("ab"), arrows(&["ab", "ab"]))),
        (
            Code::DependencyAlreadyExists,
            Some("c"),
            s.submission(telling("abc"), with_ids(&["ab", "bc"], EdgeId::new())),
        ),
        (Code::DataNameConflict, Some("c"), s.submission(telling("abc"), with_data(&["ac", "bc"]))),
        (Code::FanInLimit, Some("z"), s.submission(wide_members, wide_edges)),
        (Code::CycleDetected, None, s.submission(telling("abc"), arrows(&["ab", "bc", "ca"]))),
    ];
    let (members, edges) = wide(false);
    let mut homeless = s.submission(telling("ab"), arrows(&["ab"]));
    homeless.members[1].execution_id = ExecutionId::from_parts(6, homeless.members[1].execution_id.uuid());
    submissions.push((Code::PartitionMismatch, Some("b"), homeless));
    for (code, member, args) in submissions {
        let flow_id = args.flow_id;
        let refusal = s.refused_with(code, args.clone()).await;
        assert_eq!(refusal.member(), member, "{refusal}");
        s.flow_gone(flow_id).await;
        for member in &args.members {
            s.gone(member.execution_id).await;
        }
        nothing_stands(s).await;
    }
    // 65 edges into one member are no matter without data.
    s.submit(s.submission(members, edges)).await;

    // An id that is taken: the first in list order is named.
    let mut args = s.submission(telling("abc"), arrows(&["ab"]));
    for n in [1, 2] {
        let mut taken = s.creation();
        taken.execution_id = args.members[n].execution_id;
        s.create(taken).await;
    }
    let refusal = s.refused_with(Code::ExecutionAlreadyExists, args.clone()).await;
    assert_eq!(refusal.member(), Some("b"));
    s.flow_gone(args.flow_id).await;
    s.gone(args.members[0].execution_id).await;
    assert_eq!(s.describe(args.members[1].execution_id).await.flow_id, None, "it has not joined");

    // A flow that exists with other content.
    args.flow_id = s.flow().await;
    for (member, spec) in args.members.iter_mut().zip(telling("abc")) {
        *member = spec;
    }
    let args = args.derive_ids();
    s.refused_with(Code::FlowSpecConflict, args.clone()).await;
    s.gone(args.members[0].execution_id).await;
    assert_eq!(s.describe_flow(args.flow_id).await.node_count, 0);

    // The lane knows 256 capability sets.
    let lane = ff_core::ids::LaneId::new("narrow").unwrap_or_else(|e| panic!("{e}"));
    let creations = (0..256).map(|n| {
        let mut args = s.creation_with(requires([format!("token{n}")]));
        args.lane_id = lane.clone();
        args
    });
    s.create_all(creations.collect()).await;
    let mut args = s.submission(telling("abc"), arrows(&["ab"]));
    args.members[1].lane_id = lane.clone();
    args.members[1].policy = Arc::new(requires(["one-more".to_owned()]));
    let refusal = s.refused_with(Code::TooManyCapabilitySets, args.clone()).await;
    assert_eq!(refusal.details(), &Details::TooManyCapabilitySets { lane_id: lane, bound: 256 });
    s.flow_gone(args.flow_id).await;
    s.gone(args.members[0].execution_id).await;

    // A flow that is being purged.
    let policy = ExecutionPolicy::builder().retention_ms(0).build();
    let mut members = letters("a");
    members[0].policy = Arc::new(policy);
    let args = s.submission(members, Vec::new());
    let flow_id = args.flow_id;
    let ids = s.submit(args.clone()).await;
    s.complete_as_operator(ids[0]).await;
    s.sweep_once(1).await;
    s.flow_gone(flow_id).await;
    let refusal = s.refused_with(Code::FlowAlreadyTerminal, args.clone()).await;
    let none = Details::FlowAlreadyTerminal { public_flow_state: None, cancellation_policy: None };
    assert_eq!(refusal.details(), &none);
    s.sweep().await;
    s.submit(args).await;
}

async fn claimed_meanwhile(s: &Stage) {
    for _ in 0..20 {
        // The children would be served before the root if they could be taken.
        let mut members = vec![spec("root")];
        let mut edges = Vec::new();
        for n in 0..60 {
            let name = format!("m{n}");
            let mut member = spec(&name);
            member.priority = 10;
            members.push(member);
            edges.push(arrow(if n % 2 == 0 { "root" } else { "m0" }, &name));
        }
        let args = s.submission(members, edges);
        let root = args.members[0].execution_id;
        let over = Arc::new(AtomicBool::new(false));
        let claimers: Vec<_> = (0..4)
            .map(|_| {
                let (backend, over, claims) = (Arc::clone(&s.backend), Arc::clone(&over), s.claim_args(8));
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    loop {
                        let last = over.load(Ordering::SeqCst);
                        let mut args = claims.clone();
                        args.slots = (0..8).map(|_| crate::stage::slot()).collect();
                        let result = backend.claim_next(args).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
                        taken.extend(result.claimed.iter().map(|c| c.claimed().execution_id));
                        if last {
                            return taken;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let ids = s.submit(args).await;
        over.store(true, Ordering::SeqCst);
        let mut taken = Vec::new();
        for claimer in claimers {
            taken.extend(claimer.await.unwrap_or_else(|e| panic!("{e}")));
        }
        assert_eq!(taken, [root], "claimed before its edges existed");
        for id in &ids[1..] {
            assert_eq!(s.state(*id).await, StateName::Deps);
        }
    }
}

async fn largest(s: &Stage) {
    let members = |n: usize| (0..n).map(|n| spec(&format!("m{n}"))).collect::<Vec<_>>();
    let edges = |n: usize| {
        let pairs = (0..256).flat_map(|up| (up + 1..256).map(move |down| (up, down)));
        pairs.take(n).map(|(up, down)| arrow(&format!("m{up}"), &format!("m{down}"))).collect::<Vec<_>>()
    };
    let mut too_many = s.submission(members(257), edges(1024));
    let refusal = s.refused_with(Code::InvalidInput, too_many.clone()).await;
    assert_eq!(refusal.details(), &Details::InvalidInput { field: "members".to_owned() });
    s.flow_gone(too_many.flow_id).await;
    too_many = s.submission(members(256), edges(1025));
    let refusal = s.refused_with(Code::InvalidInput, too_many.clone()).await;
    assert_eq!(refusal.details(), &Details::InvalidInput { field: "edges".to_owned() });
    s.flow_gone(too_many.flow_id).await;

    let args = s.submission(members(256), edges(1024));
    let flow_id = args.flow_id;
    let ids = s.submit(args).await;
    assert_eq!(ids.len(), 256);
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.node_count, flow.edge_count, flow.graph_revision), (256, 1024, 1));
    // The first goes to all others, the fifth (of the pairs: 255 + 254 + 253 + 252 = 1014) to ten.
    let seqs = |edges: Vec<EdgeSnapshot>| edges.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(s.outgoing(flow_id, ids[0]).await), (1..=255).collect::<Vec<_>>());
    assert_eq!(seqs(s.outgoing(flow_id, ids[4]).await), (1015..=1024).collect::<Vec<_>>());
    assert_eq!(s.state(ids[0]).await, StateName::Ready);
    assert_eq!(s.counts_of(flow_id, ids[255]).await, (4, 0, 0));
    assert_eq!(s.counts_of(flow_id, ids[5]).await, (5, 0, 0));
    s.claim_this(ids[0]).await;
    assert!(s.claim_next(1).await.claimed.is_empty());
}

async fn cyclic(s: &Stage) {
    // `ca` closes the first cycle; `da` would close another one. A shorter way back is not of the call yet.
    let args = s.submission(letters("abcde"), arrows(&["ae", "ab", "bc", "cd", "ca", "da", "ba"]));
    let refusal = s.refused_with(Code::CycleDetected, args.clone()).await;
    let id = |n: usize| args.members[n].execution_id;
    let Details::CycleDetected { cycle } = refusal.details() else { panic!("{refusal}") };
    assert_eq!(cycle, &[id(2), id(0), id(1), id(2)], "from the upstream of the closing edge back to it");
    s.flow_gone(args.flow_id).await;

    // The same edges, the last of them first: the cycle is closed by another edge.
    let args = s.submission(letters("abcde"), arrows(&["ba", "cd", "da", "ab", "bc", "ca"]));
    let refusal = s.refused_with(Code::CycleDetected, args.clone()).await;
    let id = |n: usize| args.members[n].execution_id;
    let Details::CycleDetected { cycle } = refusal.details() else { panic!("{refusal}") };
    assert_eq!(cycle, &[id(0), id(1), id(0)]);

    // A long one: each step of the witness is an edge of the call.
    let mut edges: Vec<_> = (0..200).map(|n| arrow(&format!("m{n}"), &format!("m{}", n + 1))).collect();
    edges.extend((0..100).map(|n| arrow(&format!("m{n}"), &format!("m{}", n + 100))));
    edges.push(arrow("m200", "m0"));
    let args = s.submission((0..201).map(|n| spec(&format!("m{n}"))).collect(), edges);
    let refusal = s.refused_with(Code::CycleDetected, args.clone()).await;
    let Details::CycleDetected { cycle } = refusal.details() else { panic!("{refusal}") };
    let id = |name| args.member(name).map(|m| m.execution_id);
    let of_the_call: BTreeSet<_> = args.edges.iter().map(|e| (id(&e.from), id(&e.to))).collect();
    for step in cycle.windows(2) {
        assert!(of_the_call.contains(&(Some(step[0]), Some(step[1]))), "{step:?} is no edge of the call");
    }
    let last = args.members[200].execution_id;
    assert_eq!((cycle.first(), cycle.last()), (Some(&last), Some(&last)));
    assert_eq!(cycle[1], args.members[0].execution_id);
    // The shortest way from m0 to m200: 100 single steps and one of a hundred.
    assert_eq!(cycle.len(), 103);
}

async fn derived(s: &Stage) {
    let build = |flow_id| {
        let mut members = letters("zmayx");
        members[4].priority = 1;
        SubmitFlowArgs::builder()
            .flow_id(flow_id)
            .namespace(namespace())
            .flow_kind("pipeline")
            .members(members)
            .edges(arrows(&["zm", "za"]))
            .build()
    };
    let uuid = uuid::Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8057);
    let args = build(ff_core::ids::FlowId::from_parts(crate::stage::PARTITION, uuid));
    assert_eq!(build(args.flow_id), args, "derived ids repeat");
    // Bytes 0..6 of the flow's uuid, 0x7000 + position, then the hash, its top two bits 10.
    let flow = args.flow_id.uuid().into_bytes();
    for (position, member) in args.members.iter().enumerate() {
        let bytes = member.execution_id.uuid().into_bytes();
        assert_eq!(bytes[..6], flow[..6]);
        assert_eq!(bytes[6..8], [0x70, u8::try_from(position).unwrap_or_default()]);
        assert_eq!(bytes[8] >> 6, 0b10);
        assert_eq!(member.execution_id.partition(), args.flow_id.partition());
    }
    // SHA-256 of the uuid's bytes, `m` and `z`; of the uuid's bytes, `e`, `z`, `>` and `m`.
    assert_eq!(args.members[0].execution_id.to_string(), MEMBER_Z);
    assert_eq!(args.edges[0].edge_id.to_string(), EDGE_Z_M);

    let mut free = build(s.flow_id());
    free.edges.clear();
    let ids = s.submit(free).await;
    let claimed = s.claim_next(10).await.claimed;
    let served: Vec<_> = claimed.iter().map(|c| c.claimed().execution_id).collect();
    assert_eq!(served, [ids[4], ids[0], ids[1], ids[2], ids[3]], "priority first, then as listed");
}

const MEMBER_Z: &str = "e5_01890a5d-ac96-7000-a551-e791ba0f34c1";
const EDGE_Z_M: &str = "01890a5d-ac96-7000-aadb-c4ea80cc91c7";

async fn unsealed(s: &Stage) {
    let mut args = s.submission(letters("abc"), arrows(&["ac"]));
    args.sealed = false;
    let flow_id = args.flow_id;
    let ids = s.submit(args).await;
    assert!(!s.describe_flow(flow_id).await.sealed);
    for member in s.list_members(flow_id, 10).await {
        assert!(member.held);
        assert_eq!(member.summary.state_vector, StateVector::deps(AttemptState::PendingFirstAttempt));
    }
    assert!(s.claim_next(3).await.claimed.is_empty());
    s.link(flow_id, ids[0], ids[1]).await;
    let mut data = s.edge_args(flow_id, ids[1], ids[2]);
    data.data_passing_ref = Some(data_name("out"));
    s.stage(data).await;
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.graph_revision, flow.edge_count), (3, 3));
    assert!(s.claim_next(3).await.claimed.is_empty());

    s.seal(flow_id).await;
    for (n, expected) in [StateName::Ready, StateName::Deps, StateName::Deps].into_iter().enumerate() {
        assert_eq!(s.state(ids[n]).await, expected, "member {n}");
    }
    for id in ids {
        let claimed = s.claim_this(id).await;
        assert_eq!(claimed.lease_expires_at, s.now().after(LEASE_MS));
        s.complete(id, claimed.fence).await;
    }
    assert_eq!(s.describe_flow(flow_id).await.public_flow_state, PublicFlowState::Completed);
}
