//! The codecs of execution, attempt and run against generated models and damaged maps.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::generate::{attempt, execution, run};
use super::*;
use crate::contracts::decode::{DecodeCause, DecodeError, decode_attempt, decode_execution, decode_run};
use crate::records::flat::{FlatMap, Registry};
use crate::state::{EligibilityState, OwnershipState};

const ID: &str = "e1_01890a5d-ac96-774b-bcce-b302099a8057";

type Damage = (Index, Option<Vec<u8>>);

/// One field replaced or removed.
fn damaged(map: &FlatMap, (which, value): &Damage) -> (String, FlatMap) {
    let name = (*which.get(&map.keys().collect::<Vec<_>>())).clone();
    let mut map = map.clone();
    match value {
        Some(value) => map.insert(name.clone(), Bytes::from(value.clone())),
        None => map.remove(&name),
    };
    (name, map)
}

/// Bytes that are often plausible somewhere.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            "",
            "0",
            "1",
            "01",
            "-1",
            "1.0",
            "9007199254740992",
            "4294967296",
            "engine",
            "operator:me",
            "worker:w",
            "none",
            "success",
            "runnable",
            "terminal",
            "delay",
            "{}",
            "[]",
            "null",
            "namespace",
            "initial",
            "started",
            "ended_success",
            "{\"type\":\"completed\"}",
            "waiting_for_worker",
            "x",
            "a.b",
        ])
        .prop_map(|text: &str| text.as_bytes().to_vec()),
    ]
}

/// Whole maps made of a registry's names.
fn map_of(registry: Registry) -> impl Strategy<Value = FlatMap> {
    let mut names: Vec<String> = registry.fields.iter().map(|f| (*f).to_owned()).collect();
    names.extend(registry.prefixes.iter().flat_map(|p| [format!("{p}a.b"), format!("{p}waiting_for_quota")]));
    names.extend(["v".to_owned(), "_own".to_owned(), "surprise".to_owned()]);
    let entry = (prop::sample::select(names), value().prop_map(Bytes::from));
    proptest::collection::vec(entry, 0..80).prop_map(|entries| {
        let mut map: FlatMap = entries.into_iter().collect();
        map.insert("v".to_owned(), Bytes::from_static(b"1.0"));
        map.insert("execution_id".to_owned(), Bytes::from_static(ID.as_bytes()));
        map
    })
}

fn without_own(map: &FlatMap) -> FlatMap {
    map.iter().filter(|(name, _)| !name.starts_with('_')).map(|(n, b)| (n.clone(), b.clone())).collect()
}

proptest! {
    #[test]
    fn execution_encode_and_decode_are_inverse(record in execution()) {
        let map = record.encode();
        prop_assert_eq!(decode_execution(record.execution_id, &map), Ok(record.clone()));
        let json = serde_json::to_string(&record).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<ExecutionRecord>(&json).expect("parses"), record);
    }

    #[test]
    fn attempt_encode_and_decode_are_inverse(record in attempt()) {
        let map = record.encode();
        prop_assert_eq!(decode_attempt(record.execution_id, record.attempt_index, &map), Ok(record));
    }

    #[test]
    fn run_encode_and_decode_are_inverse(record in run()) {
        let map = record.encode();
        prop_assert_eq!(decode_run(record.execution_id, record.run, &map), Ok(record));
    }

    #[test]
    fn a_damaged_record_is_an_error_or_another_record_of_the_same_form(
        x in execution(),
        a in attempt(),
        r in run(),
        damage in (any::<Index>(), proptest::option::of(value())),
    ) {
        let (_, map) = damaged(&x.encode(), &damage);
        if let Ok(read) = decode_execution(x.execution_id, &map) {
            prop_assert_eq!(read.encode(), map);
        }
        let (_, map) = damaged(&a.encode(), &damage);
        if let Ok(read) = decode_attempt(a.execution_id, a.attempt_index, &map) {
            prop_assert_eq!(read.encode(), map);
        }
        let (_, map) = damaged(&r.encode(), &damage);
        if let Ok(read) = decode_run(r.execution_id, r.run, &map) {
            prop_assert_eq!(read.encode(), map);
        }
    }

    #[test]
    fn any_map_gives_a_model_or_an_error(
        x in map_of(ExecutionRecord::REGISTRY),
        a in map_of(AttemptRecord::REGISTRY),
        r in map_of(RunRecord::REGISTRY),
    ) {
        let id = ID.parse().expect("an id");
        if let Ok(read) = decode_execution(id, &x) {
            prop_assert_eq!(read.encode(), without_own(&x));
        }
        if let Ok(read) = decode_attempt(id, AttemptIndex(0), &a) {
            prop_assert_eq!(read.encode(), without_own(&a));
        }
        if let Ok(read) = decode_run(id, 0, &r) {
            prop_assert_eq!(read.encode(), without_own(&r));
        }
    }

    #[test]
    fn no_value_shows_in_an_error(record in execution(), which in any::<Index>()) {
        let secret = "s3cr3t-\u{1f600}-value";
        let (name, map) = damaged(&record.encode(), &(which, Some(secret.as_bytes().to_vec())));
        if let Err(error) = decode_execution(record.execution_id, &map) {
            prop_assert!(!format!("{error} {error:?}").contains(secret), "{name}: {error}");
        }
    }

    #[test]
    fn no_number_has_another_form(record in execution(), which in any::<Index>()) {
        let numbers: Vec<String> = record
            .encode()
            .into_iter()
            .filter(|(name, _)| {
                name.ends_with("_at") || name.ends_with("_count") || name.starts_with("block_at:")
                    || ["priority", "lease_epoch", "signal_bytes", "next_signal_seq", "not_before", "last_run"]
                        .contains(&name.as_str())
            })
            .map(|(name, _)| name)
            .collect();
        let name = which.get(&numbers);
        for bad in ["abc", "1.0", "+1", "01", "", " 1", "1e3", "9007199254740992"] {
            let mut map = record.encode();
            map.insert(name.clone(), Bytes::from_static(bad.as_bytes()));
            let error = decode_execution(record.execution_id, &map).expect_err(bad);
            prop_assert_eq!(&error.field, name);
            prop_assert!(
                matches!(error.cause, DecodeCause::NotANumber | DecodeCause::OutOfRange),
                "{} = {:?}: {}", name, bad, error
            );
        }
    }

    #[test]
    fn every_half_group_is_corruption(record in execution(), which in any::<Index>()) {
        const GROUPED: [&str; 26] = [
            "idempotency_key", "idempotency_scope", "idempotency_expires_at", "completed_at", "end_cause", "ended_by",
            "replay_reason", "replayed_by", "replayed_at", "replay_digest", "not_before", "not_before_kind",
            "last_operation", "last_by", "last_run", "last_digest", "last_answer", "lease_id", "lease_claim_kind",
            "lease_worker_id", "lease_worker_instance_id", "lease_acquired_at", "lease_expires_at", "grant_worker_id",
            "granted_at", "grant_expires_at",
        ];
        let map = record.encode();
        let grouped: Vec<&String> = map
            .keys()
            .filter(|name| GROUPED.contains(&name.as_str()) || (name.starts_with("block_") && !name.starts_with("block_until")))
            .collect();
        prop_assume!(!grouped.is_empty());
        let name = (*which.get(&grouped)).clone();
        let mut map = map.clone();
        map.remove(&name);
        prop_assert_eq!(
            decode_execution(record.execution_id, &map),
            Err(DecodeError { record: "execution".to_owned(), field: name, cause: DecodeCause::IncompleteGroup })
        );
    }

    #[test]
    fn a_vector_with_one_wrong_dimension_is_corruption(
        record in execution(),
        phase in generate::word(LifecyclePhase::ALL),
        owner in generate::word(OwnershipState::ALL),
        eligibility in generate::word(EligibilityState::ALL),
        outcome in generate::word(TerminalOutcome::ALL),
    ) {
        for (name, word) in [
            ("lifecycle_phase", phase.as_str()),
            ("ownership_state", owner.as_str()),
            ("eligibility_state", eligibility.as_str()),
            ("terminal_outcome", outcome.as_str()),
        ] {
            let mut map = record.encode();
            map.insert(name.to_owned(), Bytes::from_static(word.as_bytes()));
            match decode_execution(record.execution_id, &map) {
                Ok(read) => prop_assert!(read.vector.is_legal()),
                Err(error) => prop_assert_eq!(error.cause, DecodeCause::IllegalState),
            }
        }
    }
}

/// A record of no particular state, made by the encoder's own rules.
fn plain() -> ExecutionRecord {
    ExecutionRecord {
        execution_id: ID.parse().expect("an id"),
        namespace: "n".parse().expect("a name"),
        lane_id: "l".parse().expect("a name"),
        kind: "k".to_owned(),
        policy: Arc::default(),
        creator: None,
        created_at: TimestampMs::ZERO,
        fingerprint: Digest::of_bytes(b"").into(),
        idempotency: None,
        flow_id: None,
        vector: StateVector::ready(AttemptState::PendingFirstAttempt),
        priority: 0,
        tags: BTreeMap::from([("app.team".to_owned(), "search".to_owned())]),
        attempt_count: 0,
        lease_epoch: LeaseEpoch(0),
        retry_count: 0,
        reclaim_count: 0,
        total_retries: 0,
        total_reclaims: 0,
        replay_count: 0,
        replay: None,
        started_at: None,
        ended: None,
        purge_at: None,
        failure_reason: None,
        failure_category: None,
        cancel_reason: None,
        deadline_at: None,
        not_before: None,
        blocks: BTreeMap::new(),
        progress: None,
        signal_count: 0,
        signal_bytes: 0,
        next_signal_seq: 1,
        waitpoint_count: 0,
        last_call: None,
        last_transition_at: TimestampMs::ZERO,
        last_mutation_at: TimestampMs::ZERO,
        lease: None,
        grant: None,
    }
}

fn with(changes: &[(&str, &str)]) -> Result<ExecutionRecord, (String, DecodeCause)> {
    let record = plain();
    let mut map = record.encode();
    for (name, value) in changes {
        if *value == "<absent>" {
            map.remove(*name);
        } else {
            map.insert((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        }
    }
    decode_execution(record.execution_id, &map).map_err(|error| (error.field, error.cause))
}

fn error(field: &str, cause: DecodeCause) -> Result<ExecutionRecord, (String, DecodeCause)> {
    Err((field.to_owned(), cause))
}

#[test]
fn an_execution_with_tags_decodes_and_its_registry_is_closed() {
    assert_eq!(with(&[]), Ok(plain()));
    assert_eq!(with(&[("surprise", "1")]), error("surprise", DecodeCause::UnknownField));
    assert_eq!(with(&[("surprise", "1"), ("v", "1.1")]), Ok(plain()));
    assert_eq!(with(&[("surprise", "1"), ("v", "2.0")]), error("v", DecodeCause::UnsupportedVersion));
    assert_eq!(with(&[("_own", "anything")]), Ok(plain()));
    assert_eq!(with(&[("v", "<absent>")]), error("v", DecodeCause::Missing));
    assert_eq!(decode_execution(plain().execution_id, &FlatMap::new()).expect_err("empty").cause, DecodeCause::Missing);
    let other = "e2_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
    let mismatch = decode_execution(other, &plain().encode()).expect_err("another id");
    assert_eq!((mismatch.field.as_str(), mismatch.cause), ("execution_id", DecodeCause::IdMismatch));
}

#[test]
fn the_first_error_is_reported_in_the_order_of_the_table() {
    let ladder: [(&str, &str, DecodeCause); 9] = [
        ("v", "2.0", DecodeCause::UnsupportedVersion),
        ("aaa", "", DecodeCause::UnknownField),
        ("zzz", "", DecodeCause::UnknownField),
        ("namespace", "a b", DecodeCause::BadId),
        ("policy", "{}", DecodeCause::BadPolicy),
        ("idempotency_key", "k", DecodeCause::IncompleteGroup),
        ("priority", "high", DecodeCause::NotANumber),
        ("tag:Bad", "x", DecodeCause::BadList),
        ("attempt_count", "1", DecodeCause::IllegalState),
    ];
    for from in 0..ladder.len() {
        let changes: Vec<_> = ladder[from..].iter().map(|(name, value, _)| (*name, *value)).collect();
        let (name, _, cause) = ladder[from];
        let name = if name == "idempotency_key" { "idempotency_scope" } else { name };
        assert_eq!(with(&changes), error(name, cause), "from {from}");
    }
}

#[test]
fn the_rules_between_fields_hold() {
    use DecodeCause::{IllegalState, UnknownValue};
    type Case = (&'static [(&'static str, &'static str)], &'static str, DecodeCause);
    let cases: &[Case] = &[
        (&[("purge_at", "1")], "purge_at", IllegalState),
        (&[("completed_at", "1"), ("end_cause", "failed"), ("ended_by", "engine")], "completed_at", IllegalState),
        (&[("replay_count", "1")], "replay_reason", IllegalState),
        (&[("attempt_state", "attempt_interrupted")], "attempt_count", IllegalState),
        (&[("progress_pct", "5")], "progress_pct", IllegalState),
        (&[("lease_renewed_at", "5")], "lease_renewed_at", IllegalState),
        (&[("block_until:waiting_for_quota", "5")], "block_until:waiting_for_quota", IllegalState),
        (&[("block_at:weather", "5")], "block_at:weather", UnknownValue),
        (
            &[("idempotency_key", "k"), ("idempotency_scope", "flow"), ("idempotency_expires_at", "9")],
            "idempotency_scope",
            IllegalState,
        ),
    ];
    for (changes, field, cause) in cases {
        assert_eq!(with(changes), error(field, *cause), "{changes:?}");
    }
    let member_with_purge = ExecutionRecord {
        vector: StateVector::done(TerminalOutcome::Cancelled, false),
        flow_id: Some("f1_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id")),
        ended: Some(EndMark { at: TimestampMs::ZERO, cause: EndCause::Cancelled, by: EndedBy::Engine }),
        purge_at: Some(TimestampMs::MAX),
        ..plain()
    };
    let refused = decode_execution(member_with_purge.execution_id, &member_with_purge.encode()).expect_err("a member");
    assert_eq!((refused.field.as_str(), refused.cause), ("purge_at", IllegalState));
}

#[test]
fn a_first_answer_has_one_form_and_belongs_to_its_operation() {
    let fence = "01890a5d-ac96-774b-bcce-b302099a8057:3:01890a5d-ac96-774b-bcce-b302099a8058";
    let digest = Digest::of_bytes(b"x").to_hex();
    let call = |operation: &str, by: &str, answer: &str| {
        with(&[
            ("last_operation", operation),
            ("last_by", by),
            ("last_run", "0"),
            ("last_digest", &digest),
            ("last_answer", answer),
        ])
        .map(|record| record.last_call.is_some())
        .map_err(|(field, cause)| (field, cause.as_str()))
    };
    let worker = format!("worker:{fence}");
    let completed = r#"{"type":"completed"}"#;
    assert_eq!(call("complete_execution", &worker, completed), Ok(true));
    assert_eq!(call("complete_execution", "operator:a:b", completed), Ok(true));
    let bad = |field: &str, cause| Err((field.to_owned(), cause));
    assert_eq!(call("fail_execution", &worker, completed), bad("last_answer", "illegal_state"));
    assert_eq!(
        call("delay_execution", "operator:me", r#"{"type":"delayed","until":5}"#),
        bad("last_answer", "illegal_state")
    );
    for text in [r#"{"type": "completed"}"#, r#"{"type":"completed","x":1}"#, "completed", ""] {
        assert_eq!(call("complete_execution", &worker, text), bad("last_answer", "bad_policy"), "{text}");
    }
    assert_eq!(call("complete_execution", &format!("{worker}:9"), completed), bad("last_by", "bad_id"));
    assert_eq!(call("complete_execution", "worker:", completed), bad("last_by", "bad_id"));
    assert_eq!(call("complete_execution", "someone", completed), bad("last_by", "unknown_value"));
    assert_eq!(call("complete_execution", "operator:", completed), bad("last_by", "out_of_range"));
}

mod claims {
    use super::*;
    use crate::contracts::{AdmissionCandidate, ClaimGrant, ClaimedExecution, ReclaimGrant};

    proptest! {
        #[test]
        fn a_claim_shows_what_the_records_hold(record in execution(), attempt in attempt(), payload in value()) {
            let claim = ClaimedExecution::of(&record, payload.clone().into(), None, &attempt, Vec::new());
            prop_assert_eq!(claim.is_some(), record.vector.is_running());
            if let (Some(claim), Some(lease)) = (claim, &record.lease) {
                prop_assert_eq!(claim.payload, payload);
                prop_assert_eq!(claim.fence.lease_id, lease.lease_id);
                prop_assert_eq!(claim.fence.lease_epoch, record.lease_epoch);
                prop_assert_eq!(claim.fence.attempt_id, attempt.attempt_id);
                prop_assert_eq!(claim.run, record.replay_count);
            }
        }

        #[test]
        fn a_candidate_is_the_claim_that_would_be_made(record in execution()) {
            let waits = record.vector.is_ready() || record.vector.is_reclaimable();
            let candidate = AdmissionCandidate::of(&record);
            prop_assert_eq!(candidate.is_some(), waits);
            if let Some(candidate) = candidate {
                let continued = candidate.claim_kind == ClaimKind::Resumed;
                prop_assert_eq!(candidate.attempt_index.get() + u32::from(continued), record.attempt_count);
                prop_assert_eq!(candidate.lease_epoch.get(), record.lease_epoch.get() + 1);
            }
            // A grant has the kind that the state gives it, never both.
            let (claim, reclaim) = (ClaimGrant::of(&record), ReclaimGrant::of(&record));
            prop_assert!(claim.is_none() || record.vector.is_ready());
            prop_assert!(reclaim.is_none() || record.vector.is_reclaimable());
            prop_assert_eq!(claim.is_some() || reclaim.is_some(), waits && record.grant.is_some());
        }
    }
}
