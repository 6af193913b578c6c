//! The codecs of suspension and waitpoint against generated models and damaged maps, and the clock's word on openness.

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::condition::{Condition, Distinct, Matcher};
use crate::contracts::decode::DecodeCause;
use crate::ids::{AttemptId, LeaseEpoch, LeaseId};
use crate::records::execution::generate::{digest, execution_id, instant, name, number, text, word};
use crate::records::flat::FlatMap;
use crate::time::MAX_DURATION_MS;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn source() -> impl Strategy<Value = SignalSource> {
    (name(), name())
        .prop_filter("no argument names the engine", |(source_type, _)| source_type != SignalSource::ENGINE)
        .prop_map(|(source_type, source_identity)| SignalSource { source_type, source_identity })
}

fn behavior() -> impl Strategy<Value = TimeoutBehavior> {
    prop_oneof![
        Just(TimeoutBehavior::Fail),
        Just(TimeoutBehavior::Cancel),
        Just(TimeoutBehavior::Expire),
        Just(TimeoutBehavior::AutoResume),
        option::of(1..=MAX_DURATION_MS).prop_map(|fail_after_ms| TimeoutBehavior::Escalate { fail_after_ms }),
    ]
}

/// A condition over these waitpoints that names or means all of them.
fn condition(ids: Vec<WaitpointId>) -> BoxedStrategy<ResumeCondition> {
    if ids.is_empty() {
        let root_only = vec![ResumeCondition::operator_only(), ResumeCondition::timeout_only()];
        return prop::sample::select(root_only).boxed();
    }
    let all = u32::try_from(ids.len()).expect("a few");
    let matcher = || option::of("[a-z]{1,9}").prop_map(|name| Matcher { name, ..Matcher::default() });
    let leaf = prop_oneof![
        matcher().prop_map(Condition::signal),
        (1..=1000_u32, matcher()).prop_map(|(n, matcher)| Condition::count(n, Distinct::Signals, matcher)),
        (1..=all).prop_map(|n| Condition::count(n, Distinct::Waitpoints, Matcher::any())),
        (1..=1000_u32).prop_map(move |n| Condition::count_at(ids.clone(), n, Distinct::Sources, "approve")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![vec(inner.clone(), 1..4).prop_map(Condition::all_of), vec(inner, 1..4).prop_map(Condition::any_of)]
    })
    .prop_map(ResumeCondition::new)
    .boxed()
}

prop_compose! {
    fn waitpoint_ids()(ids in btree_set(uuid(), 0..6), reversed in any::<bool>()) -> Vec<WaitpointId> {
        let ids = ids.into_iter().map(WaitpointId::from_uuid);
        if reversed { ids.rev().collect() } else { ids.collect() }
    }
}

prop_compose! {
    fn suspension()(ids in waitpoint_ids())(
        condition in condition(ids.clone()),
        waitpoint_ids in Just(ids),
        named in (execution_id(), uuid(), any::<u32>(), uuid(), number(), uuid(), digest()),
        said in (word(SuspensionReason::ALL), option::of(text()), option::of(vec(any::<u8>(), 0..9))),
        resume_policy in (0..=ResumePolicy::MAX_RESUME_DELAY_MS, any::<bool>()),
        created_at in instant(),
        timeout in option::of((option::of(instant()), behavior())),
        escalated_at in option::of(instant()),
        closed in option::of((instant(), word(SuspensionCloseReason::ALL))),
        closer in uuid(),
        operator in (name(), text()),
    ) -> SuspensionRecord {
        let (execution_id, suspension_id, attempt_index, lease, epoch, attempt, digest) = named;
        let (reason_code, detail, continuation) = said;
        let close_reason = closed.map(|(_, reason)| reason);
        let satisfied = [SuspensionCloseReason::Satisfied, SuspensionCloseReason::AlreadySatisfied];
        SuspensionRecord {
            execution_id,
            suspension_id: SuspensionId::from_uuid(suspension_id),
            attempt_index: AttemptIndex(attempt_index),
            fence: Fence {
                lease_id: LeaseId::from_uuid(lease),
                lease_epoch: LeaseEpoch(epoch),
                attempt_id: AttemptId::from_uuid(attempt),
            },
            digest,
            reason_code,
            detail,
            continuation: continuation.map(Bytes::from),
            condition,
            resume_policy: ResumePolicy { resume_delay_ms: resume_policy.0, allow_operator_override: resume_policy.1 },
            waitpoint_ids,
            created_at,
            timeout_at: timeout.and_then(|(at, _)| at),
            timeout_behavior: timeout.map(|(_, behavior)| behavior),
            escalated_at,
            closed_at: closed.map(|(at, _)| at),
            close_reason,
            closer_signal_id: close_reason
                .filter(|reason| satisfied.contains(reason))
                .map(|_| SignalId::from_uuid(closer)),
            operator: close_reason
                .filter(|reason| *reason == SuspensionCloseReason::OperatorResume)
                .map(|_| OperatorResume { by: operator.0, reason: operator.1 }),
        }
    }
}

prop_compose! {
    fn waitpoint()(
        named in (execution_id(), uuid(), any::<u32>()),
        sources in btree_set(source(), 0..4),
        created_at in instant(),
        state in word(WaitpointState::ALL),
        expires_at in option::of(instant()),
        expires_when_pending in instant(),
        activated in (uuid(), instant(), any::<bool>()),
        closed in (instant(), word(WaitpointCloseReason::ALL), text()),
        signal_count in any::<u32>(),
    ) -> WaitpointRecord {
        let expires_at = expires_at.or((state == WaitpointState::Pending).then_some(expires_when_pending));
        let activated = match state {
            WaitpointState::Pending => None,
            WaitpointState::Active => Some(activated),
            WaitpointState::Closed => Some(activated).filter(|(_, _, was)| *was),
        };
        let closed = Some(closed).filter(|_| state == WaitpointState::Closed);
        let close_reason = closed.as_ref().map(|(_, reason, _)| *reason);
        WaitpointRecord {
            execution_id: named.0,
            waitpoint_id: WaitpointId::from_uuid(named.1),
            attempt_index: AttemptIndex(named.2),
            sources: sources.into_iter().collect(),
            created_at,
            state,
            expires_at,
            suspension_id: activated.map(|(id, _, _)| SuspensionId::from_uuid(id)),
            activated_at: activated.map(|(_, at, _)| at),
            closed_at: closed.as_ref().map(|(at, _, _)| *at),
            close_reason,
            close_detail: closed
                .filter(|(_, reason, _)| *reason == WaitpointCloseReason::Withdrawn)
                .map(|(_, _, detail)| detail),
            signal_count,
        }
    }
}

/// Bytes that are often plausible somewhere.
fn value() -> impl Strategy<Value = Bytes> {
    let words = [
        "",
        "0",
        "1",
        "01",
        "9007199254740992",
        "pending",
        "active",
        "closed",
        "satisfied",
        "operator_resume",
        "withdrawn",
        "expired",
        "[]",
        "{}",
        "{\"type\":\"fail\"}",
        "{\"type\":\"escalate\",\"fail_after_ms\":0}",
        "{\"version\":1,\"root\":{\"type\":\"operator_only\"}}",
        "{\"version\":1,\"root\":{\"type\":\"signal\"}}",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "x",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| Bytes::from_static(word.as_bytes()));
    prop_oneof![3 => word, 1 => vec(any::<u8>(), 0..20).prop_map(Bytes::from)]
}

type Damage = Vec<(prop::sample::Index, Option<Bytes>)>;

fn damage() -> impl Strategy<Value = Damage> {
    vec((any::<prop::sample::Index>(), option::of(value())), 0..4)
}

/// Fields of the registry removed and replaced.
fn damaged(mut map: FlatMap, fields: &[&str], damage: &Damage) -> FlatMap {
    for (which, value) in damage {
        let field = *which.get(fields);
        match value {
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
    map
}

proptest! {
    #[test]
    fn a_suspension_decodes_as_it_was_encoded(suspension in suspension()) {
        prop_assert_eq!(SuspensionRecord::decode(suspension.execution_id, &suspension.encode()), Ok(suspension));
    }

    #[test]
    fn a_waitpoint_decodes_as_it_was_encoded(waitpoint in waitpoint()) {
        let decoded = WaitpointRecord::decode(waitpoint.execution_id, waitpoint.waitpoint_id, &waitpoint.encode());
        prop_assert_eq!(decoded, Ok(waitpoint));
    }

    #[test]
    fn what_a_decoder_accepts_encodes_to_the_same_map(
        suspension in suspension(), waitpoint in waitpoint(), damage in damage(),
    ) {
        let map = damaged(suspension.encode(), SuspensionRecord::REGISTRY.fields, &damage);
        if let Ok(accepted) = SuspensionRecord::decode(suspension.execution_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
        let map = damaged(waitpoint.encode(), WaitpointRecord::REGISTRY.fields, &damage);
        if let Ok(accepted) = WaitpointRecord::decode(waitpoint.execution_id, waitpoint.waitpoint_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
    }

    #[test]
    fn no_map_makes_a_decoder_panic(
        known in vec((any::<prop::sample::Index>(), value()), 0..20),
        other in proptest::collection::btree_map(".{0,20}", vec(any::<u8>(), 0..20), 0..3),
    ) {
        let (s, w) = (example(), example_waitpoint());
        for fields in [SuspensionRecord::REGISTRY.fields, WaitpointRecord::REGISTRY.fields] {
            let mut map: FlatMap = known.iter().map(|(f, v)| ((*f.get(fields)).to_owned(), v.clone())).collect();
            map.extend(other.iter().map(|(name, bytes)| (name.clone(), Bytes::from(bytes.clone()))));
            for version in ["1.0", "1.9"] {
                map.insert("v".to_owned(), Bytes::from_static(version.as_bytes()));
                let _ = SuspensionRecord::decode(s.execution_id, &map);
                let _ = WaitpointRecord::decode(w.execution_id, w.waitpoint_id, &map);
            }
        }
    }
}

fn at(ms: u64) -> TimestampMs {
    TimestampMs::saturating(ms)
}

/// An open suspension with one waitpoint and a timeout at 100.
fn example() -> SuspensionRecord {
    SuspensionRecord {
        execution_id: "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("well formed"),
        suspension_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("well formed"),
        attempt_index: AttemptIndex(0),
        fence: Fence {
            lease_id: LeaseId::from_uuid(Uuid::from_u128(1)),
            lease_epoch: LeaseEpoch(1),
            attempt_id: AttemptId::from_uuid(Uuid::from_u128(2)),
        },
        digest: Digest::of_bytes(b""),
        reason_code: SuspensionReason::WaitingForApproval,
        detail: None,
        continuation: None,
        condition: ResumeCondition::signal("approve"),
        resume_policy: ResumePolicy::default(),
        waitpoint_ids: vec![WaitpointId::from_uuid(Uuid::from_u128(3))],
        created_at: at(5),
        timeout_at: Some(at(100)),
        timeout_behavior: Some(TimeoutBehavior::Escalate { fail_after_ms: None }),
        escalated_at: None,
        closed_at: None,
        close_reason: None,
        closer_signal_id: None,
        operator: None,
    }
}

/// Its waitpoint.
fn example_waitpoint() -> WaitpointRecord {
    WaitpointRecord {
        execution_id: example().execution_id,
        waitpoint_id: example().waitpoint_ids[0],
        attempt_index: AttemptIndex(0),
        sources: vec![SignalSource::new("human", "zoë@example.org")],
        created_at: at(5),
        state: WaitpointState::Active,
        expires_at: None,
        suspension_id: Some(example().suspension_id),
        activated_at: Some(at(5)),
        closed_at: None,
        close_reason: None,
        close_detail: None,
        signal_count: 0,
    }
}

type Changes<'a> = &'a [(&'a str, Option<&'static str>)];

fn changed(mut map: FlatMap, changes: Changes<'_>) -> FlatMap {
    for (field, value) in changes {
        match value {
            Some(value) => drop(map.insert((*field).to_owned(), Bytes::from_static(value.as_bytes()))),
            None => drop(map.remove(*field)),
        }
    }
    map
}

#[test]
fn a_suspensions_flat_form_is_as_written_here() {
    let map = SuspensionRecord { continuation: Some(Bytes::from_static(&[0xff])), ..example() }.encode();
    let text = |field: &str| std::str::from_utf8(&map[field]).expect("is text");
    assert_eq!(text("v"), "1.0");
    assert_eq!(text("condition"), r#"{"version":1,"root":{"type":"signal","matcher":{"name":"approve"}}}"#);
    assert_eq!(text("resume_policy"), r#"{"resume_delay_ms":0,"allow_operator_override":true}"#);
    assert_eq!(text("timeout_behavior"), r#"{"type":"escalate"}"#);
    assert_eq!(text("waitpoint_ids"), "00000000-0000-0000-0000-000000000003");
    assert_eq!(map["continuation"].as_ref(), [0xff]);
    assert!(!map.contains_key("closed_at"));
    let map = example_waitpoint().encode();
    let sources = std::str::from_utf8(&map["sources"]).expect("is text");
    assert_eq!(sources, r#"[{"source_type":"human","source_identity":"zoë@example.org"}]"#);
}

#[test]
fn a_suspensions_faults_are_named() {
    use DecodeCause as C;
    let fault = |changes: Changes<'_>| {
        let error = SuspensionRecord::decode(example().execution_id, &changed(example().encode(), changes));
        let error = error.expect_err("is refused");
        (error.field, error.cause)
    };
    let of = |field: &str, cause| (field.to_owned(), cause);
    let other = "e8_01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(fault(&[("execution_id", Some(other))]), of("execution_id", C::IdMismatch));
    assert_eq!(fault(&[("surprise", Some("1"))]), of("surprise", C::UnknownField));
    assert_eq!(fault(&[("digest", None)]), of("digest", C::Missing));
    assert_eq!(fault(&[("digest", Some("AB"))]), of("digest", C::UnknownValue));

    let bad_conditions = [
        "",
        "null",
        r#"{"version":2,"root":{"type":"operator_only"}}"#,
        r#"{"version":1,"root":{"type":"operator_only"}} "#,
        r#"{"version":1,"root":{"type":"operator_only","x":1}}"#,
        r#"{"root":{"type":"operator_only"},"version":1}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":null}}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":{"name":"__x"}}}"#,
        r#"{"version":1,"root":{"type":"all_of","of":[]}}"#,
        r#"{"version":1,"root":{"type":"all_of","of":[{"type":"operator_only"}]}}"#,
        r#"{"version":1,"root":{"type":"count","n":1001,"distinct":"signals"}}"#,
    ];
    for bad in bad_conditions {
        assert_eq!(fault(&[("condition", Some(bad))]), of("condition", C::BadPolicy), "{bad}");
    }
    let bindings = [
        r#"{"version":1,"root":{"type":"signal","waitpoint":"00000000-0000-0000-0000-000000000004"}}"#,
        r#"{"version":1,"root":{"type":"count","n":2,"distinct":"waitpoints"}}"#,
    ];
    for unbound in bindings {
        assert_eq!(fault(&[("condition", Some(unbound))]), of("condition", C::IllegalState), "{unbound}");
    }
    assert_eq!(fault(&[("waitpoint_ids", None)]), of("condition", C::IllegalState));

    for bad in ["{}", r#"{"resume_delay_ms":2592000001,"allow_operator_override":true}"#] {
        assert_eq!(fault(&[("resume_policy", Some(bad))]), of("resume_policy", C::BadPolicy), "{bad}");
    }
    let twice = "00000000-0000-0000-0000-000000000003,00000000-0000-0000-0000-000000000003";
    for (bad, cause) in [("", C::BadList), (twice, C::BadList), ("a,b", C::BadId)] {
        assert_eq!(fault(&[("waitpoint_ids", Some(bad))]), of("waitpoint_ids", cause), "{bad}");
    }
    let bad_behaviors = [r#""fail""#, r#"{"type":"fail","x":1}"#, r#"{"type":"escalate","fail_after_ms":null}"#];
    for bad in bad_behaviors {
        assert_eq!(fault(&[("timeout_behavior", Some(bad))]), of("timeout_behavior", C::BadPolicy), "{bad}");
    }
    assert_eq!(fault(&[("timeout_behavior", None)]), of("timeout_at", C::IllegalState));

    assert_eq!(fault(&[("closed_at", Some("7"))]), of("close_reason", C::IncompleteGroup));
    let closed = |reason, more: Changes<'_>| {
        let closed = [("closed_at", Some("7")), ("close_reason", Some(reason))];
        fault(&[&closed[..], more].concat())
    };
    assert_eq!(closed("satisfied", &[]), of("closer_signal_id", C::IllegalState));
    assert_eq!(closed("operator_resume", &[]), of("operator_by", C::IllegalState));
    assert_eq!(closed("operator_resume", &[("operator_by", Some("me"))]), of("operator_reason", C::IncompleteGroup));
    let operator = [("operator_by", Some("me")), ("operator_reason", Some(""))];
    assert_eq!(fault(&operator), of("operator_by", C::IllegalState));
    assert_eq!(fault(&[("operator_by", Some(""))]), of("operator_reason", C::IncompleteGroup));
}

#[test]
fn a_waitpoints_faults_are_named() {
    use DecodeCause as C;
    let fault = |changes: Changes<'_>| {
        let w = example_waitpoint();
        let error = WaitpointRecord::decode(w.execution_id, w.waitpoint_id, &changed(w.encode(), changes));
        let error = error.expect_err("is refused");
        (error.field, error.cause)
    };
    let of = |field: &str, cause| (field.to_owned(), cause);
    let other = "00000000-0000-0000-0000-000000000004";
    assert_eq!(fault(&[("waitpoint_id", Some(other))]), of("waitpoint_id", C::IdMismatch));
    let twice = r#"[{"source_type":"a","source_identity":"b"},{"source_type":"a","source_identity":"b"}]"#;
    let engine = r#"[{"source_type":"engine","source_identity":"b"}]"#;
    for bad in [twice, engine, "", "[ ]", r#"[{"source_type":"","source_identity":"b"}]"#] {
        assert_eq!(fault(&[("sources", Some(bad))]), of("sources", C::BadPolicy), "{bad}");
    }
    assert_eq!(fault(&[("sources", None)]), of("sources", C::Missing));
    assert_eq!(fault(&[("state", Some("pending"))]), of("expires_at", C::Missing));
    assert_eq!(fault(&[("activated_at", None)]), of("activated_at", C::IncompleteGroup));
    let never_activated = [("activated_at", None), ("suspension_id", None)];
    assert_eq!(fault(&never_activated), of("suspension_id", C::Missing));
    assert_eq!(fault(&[("state", Some("closed"))]), of("closed_at", C::IllegalState));
    let closed = [("closed_at", Some("7")), ("close_reason", Some("withdrawn"))];
    assert_eq!(fault(&closed), of("closed_at", C::IllegalState), "an active one is not closed");
    let closed = [&closed[..], &[("state", Some("closed"))]].concat();
    assert_eq!(fault(&closed), of("close_detail", C::IllegalState));
    let expired = [&closed[..], &[("close_reason", Some("expired")), ("close_detail", Some(""))]].concat();
    assert_eq!(fault(&expired), of("close_detail", C::IllegalState));
}

#[test]
fn the_clock_closes_before_the_timer() {
    let suspension = example();
    let active = example_waitpoint();
    let closed = |w: &WaitpointRecord, s: Option<&SuspensionRecord>, now| w.closed_as(s, at(now));
    assert_eq!(closed(&active, Some(&suspension), 99), None);
    assert_eq!(closed(&active, Some(&suspension), 100), Some(WaitpointCloseReason::TimedOut));
    let forever = SuspensionRecord { timeout_at: None, ..suspension.clone() };
    assert_eq!(closed(&active, Some(&forever), u64::MAX), None);
    assert!(suspension.is_timed_out(at(100)) && !suspension.is_timed_out(at(99)) && !forever.is_timed_out(at(100)));
    // Damage lets nobody in.
    assert!(closed(&active, None, 0).is_some());
    let other = SuspensionRecord { suspension_id: SuspensionId::from_uuid(Uuid::from_u128(9)), ..forever };
    assert!(closed(&active, Some(&other), 0).is_some());

    let pending = WaitpointRecord {
        state: WaitpointState::Pending,
        expires_at: Some(at(50)),
        suspension_id: None,
        activated_at: None,
        ..active.clone()
    };
    assert_eq!(closed(&pending, Some(&suspension), 49), None);
    assert_eq!(closed(&pending, None, 50), Some(WaitpointCloseReason::Expired));
    let withdrawn = WaitpointRecord {
        state: WaitpointState::Closed,
        closed_at: Some(at(10)),
        close_reason: Some(WaitpointCloseReason::Withdrawn),
        ..pending.clone()
    };
    assert_eq!(closed(&withdrawn, None, 0), Some(WaitpointCloseReason::Withdrawn));

    // What was buffered reads accordingly.
    let buffered = SignalEffect::BufferedForPendingWaitpoint;
    assert_eq!(buffered.at(&pending, at(49)), buffered);
    assert_eq!(buffered.at(&pending, at(50)), SignalEffect::NoOpWaitpointNeverActivated);
    assert_eq!(buffered.at(&withdrawn, at(11)), SignalEffect::NoOpWaitpointNeverActivated);
    assert_eq!(SignalEffect::AppendedToWaitpoint.at(&withdrawn, at(11)), SignalEffect::AppendedToWaitpoint);
    let ended = WaitpointRecord { activated_at: Some(at(9)), suspension_id: active.suspension_id, ..withdrawn };
    assert_eq!(SignalEffect::NoOp.at(&ended, at(11)), SignalEffect::NoOp);
}

#[test]
fn a_suspension_knows_its_signals() {
    let suspension = example();
    let timeout = suspension.timeout_signal(4, at(100));
    assert_eq!(timeout.signal_id.to_string(), "01890a5d-ac96-874b-bcce-b302099a8057");
    assert_eq!((timeout.name.as_str(), timeout.category.as_str(), timeout.seq), ("timeout", "timeout", 4));
    assert_eq!((&timeout.source, &timeout.auth), (&SignalSource::engine(), &SignalAuth::Engine));
    let escalated = SuspensionRecord { escalated_at: Some(at(100)), ..suspension.clone() };
    let second = escalated.timeout_signal(5, at(200));
    assert_eq!(second.signal_id.to_string(), "01890a5d-ac96-874b-bcce-b302099a8056");
    assert!(escalated.has(&timeout) && escalated.has(&second));

    let sent = SignalRecord { waitpoint_id: Some(suspension.waitpoint_ids[0]), ..timeout.clone() };
    assert!(suspension.has(&sent));
    let elsewhere = WaitpointId::from_uuid(Uuid::from_u128(9));
    assert!(!suspension.has(&SignalRecord { waitpoint_id: Some(elsewhere), ..sent }));
    let other = SuspensionRecord { suspension_id: SuspensionId::from_uuid(Uuid::from_u128(9)), ..suspension };
    assert!(!other.has(&timeout));
}
