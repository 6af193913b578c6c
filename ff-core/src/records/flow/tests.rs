use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::contracts::decode::DecodeCause;
use crate::contracts::{EdgeSnapshot, FlowInput, FlowSnapshot, PublicFlowState};
use crate::records::flat::FlatMap;
use crate::time::MAX_SAFE_INTEGER;

fn instant() -> impl Strategy<Value = TimestampMs> {
    (0..=MAX_SAFE_INTEGER).prop_map(TimestampMs::saturating)
}

fn flow_id() -> impl Strategy<Value = FlowId> {
    (any::<u16>(), any::<u128>()).prop_map(|(p, n)| FlowId::from_parts(p, Uuid::from_u128(n)))
}

fn execution_id() -> impl Strategy<Value = ExecutionId> {
    (any::<u16>(), any::<u128>()).prop_map(|(p, n)| ExecutionId::from_parts(p, Uuid::from_u128(n)))
}

fn data_name() -> impl Strategy<Value = DataName> {
    "[A-Za-z0-9_.-]{1,64}".prop_map(|text| DataName::new(text).expect("of its charset"))
}

fn cancellation() -> impl Strategy<Value = FlowCancellation> {
    let policy = proptest::sample::select(CancellationPolicy::ALL);
    (instant(), "\\PC{1,40}", ".{0,40}", policy).prop_map(|(at, by, reason, policy)| FlowCancellation {
        at,
        by,
        reason,
        policy,
    })
}

fn counts() -> impl Strategy<Value = StateCounts> {
    proptest::collection::vec((proptest::sample::select(PublicState::ALL), 0_u32..900), 0..6)
        .prop_map(|counts| counts.into_iter().collect())
}

fn flow() -> impl Strategy<Value = FlowRecord> {
    let tags = proptest::collection::btree_map("[a-z][a-z0-9_]{0,6}\\.\\PC{1,8}", ".{0,12}", 0..5);
    let numbers = (0..=MAX_SAFE_INTEGER, any::<u32>(), 1..=MAX_SAFE_INTEGER, any::<u32>());
    let optional =
        (proptest::option::of(cancellation()), proptest::option::of(instant()), proptest::option::of(instant()));
    let head = (flow_id(), "\\PC{1,40}", "[A-Za-z0-9._:/-]{1,128}", any::<[u8; 32]>(), any::<bool>());
    (head, tags, counts(), numbers, optional, (instant(), instant())).prop_map(
        |(head, tags, member_counts, numbers, (cancelled, retain_until, purge_at), (created_at, last_mutation_at))| {
            let (flow_id, flow_kind, namespace, digest, sealed) = head;
            let (graph_revision, edge_count, next_edge_seq, deferred) = numbers;
            FlowRecord {
                flow_id,
                flow_kind,
                namespace: Namespace::new(namespace).expect("of its charset"),
                created_at,
                spec_digest: Digest::from_bytes(digest),
                tags,
                sealed,
                graph_revision,
                node_count: u32::try_from(member_counts.total()).expect("a few thousand"),
                edge_count,
                next_edge_seq,
                member_counts,
                last_mutation_at,
                cancelled,
                deferred,
                retain_until,
                purge_at,
            }
        },
    )
}

fn resolution() -> impl Strategy<Value = EdgeResolution> {
    let outcome = proptest::sample::select(&TerminalOutcome::ALL[1..]);
    let attempt = proptest::option::of(any::<u32>().prop_map(AttemptIndex));
    (any::<u32>(), outcome, attempt, instant()).prop_map(
        |(upstream_run, upstream_outcome, upstream_attempt_index, resolved_at)| EdgeResolution {
            upstream_run,
            upstream_outcome,
            upstream_attempt_index,
            resolved_at,
        },
    )
}

fn edge() -> impl Strategy<Value = EdgeRecord> {
    let state = (
        proptest::sample::select(&EdgeState::ALL[..4]),
        instant(),
        resolution(),
        proptest::sample::select(DependencyKind::ALL),
    );
    let ids = (any::<u128>(), flow_id(), execution_id(), execution_id());
    (ids, 1..=MAX_SAFE_INTEGER, instant(), proptest::option::of(data_name()), state).prop_map(
        |((edge, flow_id, up, down), seq, created_at, data_passing_ref, (edge_state, at, resolution, kind))| {
            let resolved = matches!(edge_state, EdgeState::Satisfied | EdgeState::Impossible);
            EdgeRecord {
                edge_id: EdgeId::from_uuid(Uuid::from_u128(edge)),
                flow_id,
                seq,
                upstream_execution_id: up,
                downstream_execution_id: down,
                dependency_kind: kind,
                created_at,
                data_passing_ref,
                edge_state,
                applied_at: (edge_state != EdgeState::Staged).then_some(at),
                resolution: resolved.then_some(resolution),
            }
        },
    )
}

fn member() -> impl Strategy<Value = MemberRecord> {
    let counts = (0..=u32::MAX / 3, 0..=u32::MAX / 3, 0..=u32::MAX / 3);
    (execution_id(), flow_id(), proptest::option::of(data_name()), any::<bool>(), counts).prop_map(
        |(execution_id, flow_id, member_name, held, (unresolved_count, satisfied_count, impossible_count))| {
            MemberRecord {
                execution_id,
                flow_id,
                member_name,
                held,
                join: Join::All,
                incoming_count: unresolved_count + satisfied_count + impossible_count,
                unresolved_count,
                satisfied_count,
                impossible_count,
            }
        },
    )
}

/// What may happen to a stored map: fields go, come and change.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, Bytes)>> {
    let value = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"0")),
        Just(Bytes::from_static(b"1")),
        Just(Bytes::from_static(b"01")),
        Just(Bytes::from_static(b"9007199254740992")),
        Just(Bytes::from_static(b"none")),
        Just(Bytes::from_static(b"detached")),
        Just(Bytes::from_static(b"satisfied")),
        Just(Bytes::from_static(b"\xff")),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ];
    proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..4, value), 0..3)
}

/// Applies it; a third of the fields that come are of the registry.
fn damaged(mut map: FlatMap, fields: &[&str], damage: Vec<(prop::sample::Index, u8, Bytes)>) -> FlatMap {
    for (which, how, value) in damage {
        let names: Vec<_> = map.keys().cloned().collect();
        match how {
            0 if !names.is_empty() => {
                map.remove(&names[which.index(names.len())]);
            }
            1 if !names.is_empty() => {
                map.insert(names[which.index(names.len())].clone(), value);
            }
            2 => {
                map.insert(fields[which.index(fields.len())].to_owned(), value);
            }
            _ => {
                map.insert(format!("tag:x.{}", which.index(9)), value);
            }
        }
    }
    map
}

proptest! {
    #[test]
    fn a_flow_decodes_as_it_was_encoded(flow in flow()) {
        prop_assert_eq!(FlowRecord::decode(flow.flow_id, &flow.encode()), Ok(flow));
    }

    #[test]
    fn an_edge_decodes_as_it_was_encoded(edge in edge()) {
        prop_assert_eq!(EdgeRecord::decode(edge.flow_id, edge.edge_id, &edge.encode()), Ok(edge));
    }

    #[test]
    fn a_member_decodes_as_it_was_encoded(member in member()) {
        prop_assert_eq!(MemberRecord::decode(member.execution_id, &member.encode()), Ok(member));
    }

    #[test]
    fn what_a_decoder_accepts_encodes_to_the_same_map(
        flow in flow(), edge in edge(), member in member(), damage in damage(),
    ) {
        let map = damaged(flow.encode(), FlowRecord::REGISTRY.fields, damage.clone());
        if let Ok(accepted) = FlowRecord::decode(flow.flow_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
        let map = damaged(edge.encode(), EdgeRecord::REGISTRY.fields, damage.clone());
        if let Ok(accepted) = EdgeRecord::decode(edge.flow_id, edge.edge_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
        let map = damaged(member.encode(), MemberRecord::REGISTRY.fields, damage);
        if let Ok(accepted) = MemberRecord::decode(member.execution_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
    }

    #[test]
    fn no_map_makes_a_decoder_panic(
        map in proptest::collection::btree_map(".{0,20}", proptest::collection::vec(any::<u8>(), 0..20), 0..8),
        flow in flow_id(), edge in any::<u128>(), execution in execution_id(),
    ) {
        let mut map: FlatMap = map.into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect();
        for version in [None, Some("1.0"), Some("1.9")] {
            map.extend(version.map(|v| ("v".to_owned(), Bytes::from_static(v.as_bytes()))));
            prop_assert!(FlowRecord::decode(flow, &map).is_err());
            prop_assert!(EdgeRecord::decode(flow, EdgeId::from_uuid(Uuid::from_u128(edge)), &map).is_err());
            prop_assert!(MemberRecord::decode(execution, &map).is_err());
        }
    }
}

fn example() -> FlowRecord {
    let at = TimestampMs::saturating(5);
    FlowRecord {
        flow_id: "f7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("well formed"),
        flow_kind: "etl".into(),
        namespace: Namespace::new("acme").expect("a namespace"),
        created_at: at,
        spec_digest: Digest::of_bytes(b""),
        tags: BTreeMap::from([("team.name".to_owned(), "data".to_owned())]),
        sealed: true,
        graph_revision: 1,
        node_count: 2,
        edge_count: 1,
        next_edge_seq: 2,
        member_counts: [(PublicState::Active, 1), (PublicState::WaitingChildren, 1)].into_iter().collect(),
        last_mutation_at: at,
        cancelled: None,
        deferred: 0,
        retain_until: None,
        purge_at: None,
    }
}

/// The cause and field of a flow's map after a change.
fn fault(change: impl FnOnce(&mut FlatMap)) -> (String, DecodeCause) {
    let mut map = example().encode();
    change(&mut map);
    let error = FlowRecord::decode(example().flow_id, &map).expect_err("is refused");
    (error.field, error.cause)
}

fn put(map: &mut FlatMap, field: &str, value: &'static str) {
    map.insert(field.to_owned(), Bytes::from_static(value.as_bytes()));
}

#[test]
fn inline_tags_of_an_older_layout_are_tags() {
    let mut map = example().encode();
    put(&mut map, "owner.name", "ann");
    put(&mut map, "team.name", "old");
    let flow = FlowRecord::decode(example().flow_id, &map).expect("decodes");
    let tags = BTreeMap::from([("owner.name", "ann"), ("team.name", "data")].map(|(k, v)| (k.into(), v.into())));
    assert_eq!(flow.tags, tags, "the tags' own field wins");
    assert_eq!(FlowSnapshot::of(&flow).tags, tags);
    let moved = flow.encode();
    assert!(!moved.contains_key("owner.name") && moved.contains_key("tag:owner.name"));
    assert_eq!(FlowRecord::decode(flow.flow_id, &moved), Ok(flow));
}

#[test]
fn a_flows_faults_are_named() {
    use DecodeCause as C;
    assert_eq!(fault(FlatMap::clear), ("v".into(), C::Missing));
    assert_eq!(fault(|m| put(m, "v", "2.0")), ("v".into(), C::UnsupportedVersion));
    assert_eq!(fault(|m| put(m, "count:bogus", "1")), ("count:bogus".into(), C::UnknownField));
    assert_eq!(fault(|m| put(m, "Owner.name", "x")), ("Owner.name".into(), C::UnknownField));
    assert_eq!(fault(|m| put(m, "tag:Owner", "x")), ("tag:Owner".into(), C::OutOfRange));
    assert_eq!(fault(|m| put(m, "count:failed", "0")), ("count:failed".into(), C::OutOfRange));
    assert_eq!(fault(|m| put(m, "count:failed", "1")), ("node_count".into(), C::IllegalState));
    assert_eq!(fault(|m| put(m, "cancelled_at", "1")), ("cancelled_by".into(), C::IncompleteGroup));
    assert_eq!(fault(|m| put(m, "cancel_reason", "")), ("cancel_reason".into(), C::IllegalState));
    assert_eq!(fault(|m| put(m, "flow_kind", "")), ("flow_kind".into(), C::OutOfRange));
    assert_eq!(fault(|m| put(m, "sealed", "true")), ("sealed".into(), C::UnknownValue));
    let other = "f7_01890a5d-ac96-774b-bcce-b302099a8058";
    assert_eq!(fault(|m| put(m, "flow_id", other)), ("flow_id".into(), C::IdMismatch));
    assert_eq!(fault(|m| drop(m.remove("deferred"))), ("deferred".into(), C::Missing));

    let mut map = example().encode();
    put(&mut map, "_store", "x");
    assert_eq!(FlowRecord::decode(example().flow_id, &map), Ok(example()));
    put(&mut map, "v", "1.3");
    put(&mut map, "later", "x");
    assert_eq!(FlowRecord::decode(example().flow_id, &map), Ok(example()));
}

fn example_edge() -> EdgeRecord {
    let at = TimestampMs::saturating(5);
    EdgeRecord {
        edge_id: EdgeId::from_uuid(Uuid::from_u128(9)),
        flow_id: example().flow_id,
        seq: 1,
        upstream_execution_id: ExecutionId::from_parts(7, Uuid::from_u128(1)),
        downstream_execution_id: ExecutionId::from_parts(7, Uuid::from_u128(2)),
        dependency_kind: DependencyKind::SuccessOnly,
        created_at: at,
        data_passing_ref: Some(DataName::new("in").expect("a data name")),
        edge_state: EdgeState::Satisfied,
        applied_at: Some(at),
        resolution: Some(EdgeResolution {
            upstream_run: 1,
            upstream_outcome: TerminalOutcome::Success,
            upstream_attempt_index: None,
            resolved_at: at,
        }),
    }
}

#[test]
fn an_edges_faults_are_named() {
    use DecodeCause as C;
    let fault = |changes: &[(&str, Option<&'static str>)]| {
        let mut map = example_edge().encode();
        for (field, value) in changes {
            match value {
                Some(value) => put(&mut map, field, value),
                None => drop(map.remove(*field)),
            }
        }
        let edge = example_edge();
        let error = EdgeRecord::decode(edge.flow_id, edge.edge_id, &map).expect_err("is refused");
        (error.field, error.cause)
    };
    assert_eq!(fault(&[("edge_state", Some("detached"))]), ("edge_state".into(), C::UnknownValue));
    assert_eq!(fault(&[("edge_state", Some("staged"))]), ("applied_at".into(), C::IllegalState));
    assert_eq!(fault(&[("edge_state", Some("pending"))]), ("upstream_run".into(), C::IllegalState));
    assert_eq!(fault(&[("applied_at", None)]), ("applied_at".into(), C::IllegalState));
    assert_eq!(fault(&[("upstream_outcome", None)]), ("upstream_outcome".into(), C::IncompleteGroup));
    assert_eq!(fault(&[("upstream_outcome", Some("none"))]), ("upstream_outcome".into(), C::UnknownValue));
    let unresolved =
        [("edge_state", Some("pending")), ("upstream_run", None), ("upstream_outcome", None), ("resolved_at", None)];
    let with_attempt = [&unresolved[..], &[("upstream_attempt_index", Some("0"))]].concat();
    assert_eq!(fault(&with_attempt), ("upstream_attempt_index".into(), C::IllegalState));
    assert_eq!(fault(&[("data_passing_ref", Some("a b"))]), ("data_passing_ref".into(), C::BadId));
    assert_eq!(fault(&[("tag:a.b", Some(""))]), ("tag:a.b".into(), C::UnknownField));
}

#[test]
fn an_edge_is_shown_stale_detached_and_as_an_input() {
    let edge = example_edge();
    let shown = |edge: &EdgeRecord, frozen, run| EdgeSnapshot::of(edge, frozen, run, Join::All);
    assert!(!shown(&edge, false, 1).stale_upstream);
    assert!(shown(&edge, false, 2).stale_upstream);
    assert_eq!(shown(&edge, true, 2).edge_state, EdgeState::Satisfied);
    let input = FlowInput::of(&edge, Some(3)).expect("a resolved data edge");
    assert_eq!((input.name.as_str(), input.upstream_run, input.size_bytes), ("in", 1, Some(3)));

    let pending = EdgeRecord { edge_state: EdgeState::Pending, resolution: None, ..edge.clone() };
    assert_eq!(shown(&pending, true, 2).edge_state, EdgeState::Detached);
    assert_eq!(shown(&pending, false, 2).edge_state, EdgeState::Pending);
    assert!(!shown(&pending, false, 2).stale_upstream);
    assert_eq!(FlowInput::of(&pending, None), None);
    assert_eq!(FlowInput::of(&EdgeRecord { data_passing_ref: None, ..edge }, None), None);
}

#[test]
fn a_flows_state_is_the_first_rule_that_matches() {
    use PublicState as S;
    let state = |counts: &[(S, u32)]| {
        let member_counts: StateCounts = counts.iter().copied().collect();
        let node_count = u32::try_from(member_counts.total()).expect("a few");
        PublicFlowState::of(&FlowRecord { member_counts, node_count, ..example() })
    };
    assert_eq!(state(&[]), PublicFlowState::Open);
    assert_eq!(state(&[(S::Waiting, 1), (S::Failed, 1)]), PublicFlowState::Open);
    assert_eq!(state(&[(S::Active, 1), (S::Suspended, 1)]), PublicFlowState::Running);
    for blocked in [S::Suspended, S::Delayed, S::RateLimited, S::WaitingChildren] {
        assert_eq!(state(&[(blocked, 1), (S::Waiting, 1)]), PublicFlowState::Blocked);
    }
    assert_eq!(state(&[(S::Completed, 1), (S::Skipped, 3)]), PublicFlowState::Completed);
    assert_eq!(state(&[(S::Skipped, 3)]), PublicFlowState::Failed);
    for bad in [S::Failed, S::Cancelled, S::Expired] {
        assert_eq!(state(&[(S::Completed, 1), (bad, 1)]), PublicFlowState::Failed);
    }
    let at = TimestampMs::ZERO;
    let policy = CancellationPolicy::FlowOnly;
    let cancelled = Some(FlowCancellation { at, by: "ops".into(), reason: String::new(), policy });
    let flow = FlowRecord { cancelled, ..example() };
    assert_eq!(PublicFlowState::of(&flow), PublicFlowState::Cancelled);
    assert!(flow.is_closed() && !flow.is_frozen());
}

#[test]
fn counts_are_written_by_name() {
    let text = serde_json::to_string(&example().member_counts).expect("serialises");
    assert!(text.starts_with(r#"{"waiting":0,"delayed":0,"rate_limited":0,"waiting_children":1,"active":1"#), "{text}");
    assert_eq!(serde_json::from_str::<StateCounts>(&text).expect("parses"), example().member_counts);
    for state in PublicState::ALL {
        let counts: StateCounts = [(*state, 1)].into_iter().collect();
        let flow = FlowRecord { member_counts: counts, node_count: 1, ..example() };
        assert!(flow.encode().contains_key(&format!("count:{state}")));
    }
}
