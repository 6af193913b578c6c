//! Creating, sealing and tagging flows.

use std::collections::BTreeMap;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::Namespace;
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, PublicState, StateName, StateVector};

use crate::cases::cases;
use crate::harness::Damage;
use crate::stage::{Stage, counted, namespace, spec, tags};

cases! { "flow";
    "create_flow: a repeat with equal content answers AlreadyExists and changes nothing." => created_twice,
    "create_flow: other kind, namespace or tags under the same id is a conflict, and equality ignores tags set later." => other_content,
    "seal_flow: it releases 128 members in the call and sweeps release the rest." => sealed_in_steps,
    "set_flow_tags: describe_flow returns the tags, also of a flow with tags inline in its hash." => tags_described,
    "set_flow_tags: a bad key or a 65th tag writes nothing." => bad_tags,
}

fn creation(s: &Stage) -> CreateFlowArgs {
    CreateFlowArgs::builder()
        .flow_id(s.flow_id())
        .namespace(namespace())
        .flow_kind("pipeline")
        .tags(tags(&[("team.name", "search"), ("team.empty", "")]))
        .build()
}

async fn created_twice(s: &Stage) {
    let args = creation(s);
    let flow_id = args.flow_id;
    let start = s.now();
    let first = s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(first, Outcome::CreateFlow(CreateFlowResult::Created { flow_id }));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!((flow.flow_kind.as_str(), &flow.namespace), ("pipeline", &namespace()));
    assert_eq!((flow.graph_revision, flow.node_count, flow.edge_count, flow.deferred), (0, 0, 0, 0));
    assert_eq!((flow.sealed, flow.public_flow_state), (false, PublicFlowState::Open));
    assert_eq!((flow.created_at, flow.last_mutation_at), (start, start));
    assert_eq!((flow.cancelled_at, flow.cancellation_policy, flow.purge_at), (None, None, None));

    s.advance(7);
    let again = Outcome::CreateFlow(CreateFlowResult::AlreadyExists { flow_id });
    assert_eq!(s.changes_nothing(args.clone()).await, again);
    // Whatever has become of it since.
    s.member(flow_id, &[]).await;
    s.seal(flow_id).await;
    s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
    assert_eq!(s.changes_nothing(args).await, again);
}

async fn other_content(s: &Stage) {
    let args = creation(s);
    let flow_id = args.flow_id;
    s.call(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    let conflicts = || async {
        let change = |edit: fn(&mut CreateFlowArgs)| {
            let mut args = args.clone();
            edit(&mut args);
            args
        };
        for args in [
            change(|args| args.flow_kind = "other".to_owned()),
            change(|args| args.namespace = Namespace::new("elsewhere").unwrap_or_else(|e| panic!("{e}"))),
            change(|args| args.tags = BTreeMap::new()),
            change(|args| args.tags = tags(&[("team.name", "search"), ("team.empty", "x")])),
            change(|args| args.tags = tags(&[("team.name", "search"), ("team.later", "")])),
        ] {
            s.refused_with(Code::FlowSpecConflict, args).await;
        }
    };
    conflicts().await;
    let later = BTreeMap::from([
        ("team.name".to_owned(), Some("ranking".to_owned())),
        ("team.empty".to_owned(), None),
        ("team.later".to_owned(), Some(String::new())),
    ]);
    s.call(SetFlowTagsArgs { flow_id, tags: later }).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.describe_flow(flow_id).await.tags, tags(&[("team.name", "ranking"), ("team.later", "")]));
    let again = Outcome::CreateFlow(CreateFlowResult::AlreadyExists { flow_id });
    assert_eq!(s.changes_nothing(args.clone()).await, again);
    conflicts().await;
    let mut as_it_is_now = args.clone();
    as_it_is_now.tags = tags(&[("team.name", "ranking"), ("team.later", "")]);
    s.refused_with(Code::FlowSpecConflict, as_it_is_now).await;

    // A flow that submit_flow made is other content too.
    let submission = s.submission(vec![spec("only")], Vec::new());
    let submitted = submission.flow_id;
    s.submit(submission).await;
    let args = CreateFlowArgs::builder().flow_id(submitted).namespace(namespace()).flow_kind("pipeline").build();
    s.refused_with(Code::FlowSpecConflict, args).await;
}

async fn sealed_in_steps(s: &Stage) {
    // One member more than there are steps, and with 128 exactly nothing is left.
    let exact = s.flow().await;
    s.held_members(exact, 128).await;
    match s.seal(exact).await {
        SealFlowResult::Sealed { graph_revision, remaining, cascade } => {
            assert_eq!((graph_revision, remaining), (128, 0));
            assert_eq!(counted(cascade), (128, 128, 0, 0));
        }
        other @ SealFlowResult::AlreadySealed { .. } => panic!("{other:?}"),
    }
    assert_eq!(s.count_of(exact, PublicState::Waiting).await, 128);
    assert_eq!(s.deferred(exact).await, 0);

    let flow_id = s.flow().await;
    let ids = s.held_members(flow_id, 200).await;
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 200);
    match s.seal(flow_id).await {
        SealFlowResult::Sealed { graph_revision, remaining, cascade } => {
            assert_eq!((graph_revision, remaining), (200, 72));
            assert_eq!(counted(cascade), (128, 128, 0, 1));
        }
        other @ SealFlowResult::AlreadySealed { .. } => panic!("{other:?}"),
    }
    let flow = s.describe_flow(flow_id).await;
    assert!(flow.sealed);
    assert_eq!(flow.deferred, 1);
    // In id order.
    for (n, member) in s.list_members(flow_id, 1000).await.into_iter().enumerate() {
        assert_eq!(member.execution_id, ids[n]);
        let expected = if n < 128 { PublicState::Waiting } else { PublicState::WaitingChildren };
        assert_eq!((member.public_state, member.held), (expected, n >= 128), "member {n}");
    }
    let repeat = SealFlowArgs::builder().flow_id(flow_id).build();
    let again = Outcome::SealFlow(SealFlowResult::AlreadySealed { graph_revision: 200, remaining: 72 });
    assert_eq!(s.changes_nothing(repeat).await, again);

    s.sweep_once(50).await;
    assert_eq!(s.count_of(flow_id, PublicState::WaitingChildren).await, 22);
    match s.seal(flow_id).await {
        SealFlowResult::AlreadySealed { remaining, .. } => assert_eq!(remaining, 22),
        other @ SealFlowResult::Sealed { .. } => panic!("{other:?}"),
    }
    s.sweep().await;
    assert_eq!(s.count_of(flow_id, PublicState::Waiting).await, 200);
    assert_eq!(s.deferred(flow_id).await, 0);
    assert_eq!(s.vector(ids[199]).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    match s.seal(flow_id).await {
        SealFlowResult::AlreadySealed { remaining, .. } => assert_eq!(remaining, 0),
        other @ SealFlowResult::Sealed { .. } => panic!("{other:?}"),
    }
}

fn set(key: &str, value: &str) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([(key.to_owned(), Some(value.to_owned()))])
}

async fn tags_described(s: &Stage) {
    let args = creation(s);
    let flow_id = args.flow_id;
    s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.describe_flow(flow_id).await.tags, tags(&[("team.name", "search"), ("team.empty", "")]));
    let changes = BTreeMap::from([
        ("team.name".to_owned(), Some("ranking".to_owned())),
        ("team.empty".to_owned(), None),
        ("cost_centre.no".to_owned(), Some("12".to_owned())),
    ]);
    s.advance(5);
    let change = SetFlowTagsArgs { flow_id, tags: changes };
    for _ in 0..2 {
        // Its repeat does and answers the same.
        let answer = s.call(change.clone()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(answer, Outcome::SetFlowTags(SetFlowTagsResult::Tagged { count: 2 }));
        let flow = s.describe_flow(flow_id).await;
        assert_eq!(flow.tags, tags(&[("team.name", "ranking"), ("cost_centre.no", "12")]));
        assert_eq!((flow.graph_revision, flow.last_mutation_at), (0, s.now()));
        s.advance(5);
    }
    // On every existing flow: a finished one too.
    s.seal(flow_id).await;
    s.call(SetFlowTagsArgs { flow_id, tags: set("team.closed", "yes") }).await.unwrap_or_else(|e| panic!("{e}"));
    let all = tags(&[("team.name", "ranking"), ("cost_centre.no", "12"), ("team.closed", "yes")]);
    assert_eq!(s.describe_flow(flow_id).await.tags, all);

    // A store with the older layout reads its tags, and moves them into their own record at the next change.
    if s.damage_if_possible(Damage::TagsInline(flow_id)).await {
        assert_eq!(s.describe_flow(flow_id).await.tags, all, "inline tags are read");
        let answer = s.call(SetFlowTagsArgs { flow_id, tags: set("team.name", "again") }).await;
        let answer = answer.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(answer, Outcome::SetFlowTags(SetFlowTagsResult::Tagged { count: 3 }));
        let moved = tags(&[("team.name", "again"), ("cost_centre.no", "12"), ("team.closed", "yes")]);
        assert_eq!(s.describe_flow(flow_id).await.tags, moved, "the call wins over what is inline");
        let gone = BTreeMap::from([("cost_centre.no".to_owned(), None)]);
        s.call(SetFlowTagsArgs { flow_id, tags: gone }).await.unwrap_or_else(|e| panic!("{e}"));
        let left = tags(&[("team.name", "again"), ("team.closed", "yes")]);
        assert_eq!(s.describe_flow(flow_id).await.tags, left, "a deleted tag does not come back");
    }
}

async fn bad_tags(s: &Stage) {
    let flow_id = s.flow().await;
    let full: BTreeMap<_, _> = (0..64).map(|n| (format!("n.{n}"), Some("v".to_owned()))).collect();
    let answer = s.call(SetFlowTagsArgs { flow_id, tags: full }).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer, Outcome::SetFlowTags(SetFlowTagsResult::Tagged { count: 64 }));

    for bad in ["Upper.case", "nodot", "n.", ".n", "1.n", "n.\u{7}"] {
        let mut tags = set("n.1", "other");
        tags.insert(bad.to_owned(), Some("v".to_owned()));
        tags.insert("zz.last".to_owned(), None);
        let refusal = s.refused_with(Code::InvalidTagKey, SetFlowTagsArgs { flow_id, tags: tags.clone() }).await;
        assert_eq!(refusal.details(), &Details::InvalidTagKey { key: bad.to_owned() });
        // A deletion names a key as well.
        tags.insert(bad.to_owned(), None);
        s.refused_with(Code::InvalidTagKey, SetFlowTagsArgs { flow_id, tags }).await;
    }
    let mut one_more = set("n.1", "other");
    one_more.insert("n.64".to_owned(), Some("v".to_owned()));
    let refusal = s.refused_with(Code::TooManyTags, SetFlowTagsArgs { flow_id, tags: one_more.clone() }).await;
    assert_eq!(refusal.details(), &Details::TooManyTags { bound: 64 });
    // What counts is how many there are afterwards.
    one_more.insert("n.0".to_owned(), None);
    let answer = s.call(SetFlowTagsArgs { flow_id, tags: one_more }).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer, Outcome::SetFlowTags(SetFlowTagsResult::Tagged { count: 64 }));
    let flow = s.describe_flow(flow_id).await;
    assert_eq!(flow.tags.len(), 64);
    assert_eq!(flow.tags.get("n.1").map(String::as_str), Some("other"));
    assert_eq!((flow.tags.get("n.0"), flow.tags.get("n.64").map(String::as_str)), (None, Some("v")));
    let member = s.held_member(flow_id).await;
    assert_eq!(s.state(member).await, StateName::Deps);
}
