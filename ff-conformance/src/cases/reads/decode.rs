//! The decoders of stored records. They need no backend; every backend that keeps records as maps reads through them.

use std::collections::BTreeSet;

use bytes::Bytes;
use ff_core::contracts::StreamEntryId;
use ff_core::contracts::decode::{DecodeCause, DecodeError, decode_execution, decode_flow, decode_stream_frame};
use ff_core::error::EngineError;
use ff_core::records::flat::FlatMap;
use ff_core::state::{AttemptState, BlockingReason, EligibilityState, LifecyclePhase, OwnershipState, TerminalOutcome};

use super::stored::{Sample, X, plain_execution, samples};
use crate::cases::cases;
use crate::stage::Stage;

cases! { "reads";
    "decode: a flow and an execution with tags decode; an unknown field at the known version is corruption, at a newer minor it is ignored." => unknown_fields,
    "decode: abc, 1.0, +1, 01, an empty text and 2^53 in any number field are corruption, never 0." => numbers,
    "decode: every illegal state vector and every half group is corruption." => halves,
    "decode: any bytes in any field give a model or a DecodeError, never a panic, and no value shows in the error." => any_bytes,
    "decode: encode and decode are inverse on every generated model." => inverse,
}

fn with(map: &FlatMap, field: &str, value: impl Into<Vec<u8>>) -> FlatMap {
    let mut map = map.clone();
    map.insert(field.to_owned(), Bytes::from(value.into()));
    map
}

fn without(map: &FlatMap, field: &str) -> FlatMap {
    let mut map = map.clone();
    map.remove(field);
    map
}

fn error(sample: &Sample, map: &FlatMap, what: &str) -> DecodeError {
    match (sample.round_trip)(map) {
        Err(error) => error,
        Ok(read) => panic!("{} with {what} was read: {read:?}", sample.name),
    }
}

async fn unknown_fields(_: &Stage) {
    let samples = samples();
    let kinds: BTreeSet<_> = samples.iter().map(|s| s.name).collect();
    assert_eq!(kinds.len(), 16, "a record is missing: {kinds:?}");
    for sample in &samples {
        let name = sample.name;
        assert_eq!((sample.round_trip)(&sample.map), Ok(sample.map.clone()), "{name}");
        let own = with(&sample.map, "_index", "whatever");
        assert_eq!((sample.round_trip)(&own), Ok(sample.map.clone()), "{name}: a store's own field");
        let surprised = with(&sample.map, "surprise", "1");
        let found = error(sample, &surprised, "an unknown field");
        assert_eq!((found.cause, found.field.as_str()), (DecodeCause::UnknownField, "surprise"), "{name}");
        assert_eq!(error(sample, &FlatMap::new(), "nothing at all").cause, DecodeCause::Missing, "{name}");
        if name == "stream_frame" {
            continue;
        }
        let newer = with(&surprised, "v", "1.7");
        assert_eq!((sample.round_trip)(&newer), Ok(sample.map.clone()), "{name}: of a newer minor");
        for (version, cause) in [
            ("2.0", DecodeCause::UnsupportedVersion),
            ("0.9", DecodeCause::UnsupportedVersion),
            ("1", DecodeCause::UnsupportedVersion),
            ("01.0", DecodeCause::UnsupportedVersion),
        ] {
            let found = error(sample, &with(&surprised, "v", version), version);
            assert_eq!((found.cause, found.field.as_str()), (cause, "v"), "{name} {version}");
        }
        let found = error(sample, &without(&sample.map, "v"), "no version");
        assert_eq!((found.cause, found.field.as_str()), (DecodeCause::Missing, "v"), "{name}");
        // Unknown fields are told by name, and before anything that is wrong with a known one.
        let both = with(&with(&surprised, "created_at", "abc"), "another", "");
        assert_eq!(error(sample, &both, "two unknown fields").field, "another", "{name}");
    }
    // The frame's version is its stream's.
    let pairs = |texts: &[&'static str]| texts.iter().map(|t| Bytes::from_static(t.as_bytes())).collect::<Vec<_>>();
    let id = StreamEntryId::new(1, 0);
    let surprised = pairs(&["frame_type", "log", "surprise", "1", "payload", ""]);
    let cause =
        |result: Result<_, DecodeError>| result.map(|_: ff_core::contracts::StreamFrame| ()).map_err(|e| e.cause);
    assert_eq!(cause(decode_stream_frame(id, b"1.0", &surprised)), Err(DecodeCause::UnknownField));
    assert_eq!(cause(decode_stream_frame(id, b"1.1", &surprised)), Ok(()));
    assert_eq!(cause(decode_stream_frame(id, b"2.0", &surprised)), Err(DecodeCause::UnsupportedVersion));
    for bad in [&["frame_type"][..], &["frame_type", "log", "payload", "", "payload", ""], &["frame_type", "log", "x"]]
    {
        assert_eq!(cause(decode_stream_frame(id, b"1.0", &pairs(bad))), Err(DecodeCause::BadList), "{bad:?}");
    }

    let tags = |found: &std::collections::BTreeMap<String, String>| {
        found.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
    };
    let execution = samples.iter().find(|s| s.map.contains_key("tag:a.é")).unwrap_or_else(|| panic!("no tagged one"));
    let x = decode_execution(X.parse().unwrap_or_else(|e| panic!("{e}")), &execution.map);
    assert_eq!(x.map(|x| tags(&x.tags)), Ok(vec!["a.é=".to_owned(), "team.name=search".to_owned()]));
    // A flow's inline tag of an older layout is none of the unknown fields; an execution's is.
    let flow = samples.iter().find(|s| s.name == "flow").unwrap_or_else(|| panic!("no flow"));
    let older = with(&flow.map, "case.inline", "old");
    let id = flow.map["flow_id"].clone();
    let id = std::str::from_utf8(&id).ok().and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("no flow id"));
    let read = decode_flow(id, &older).map(|f| tags(&f.tags));
    assert_eq!(read, Ok(vec!["case.inline=old".to_owned(), "team.name=search".to_owned()]));
    assert_eq!(error(execution, &with(&execution.map, "case.inline", "old"), "a tag").cause, DecodeCause::UnknownField);
}

async fn numbers(_: &Stage) {
    let mut tried = 0;
    for sample in samples() {
        for (field, _) in &sample.numbers {
            for bad in ["abc", "1.0", "+1", "01", "", "9007199254740992", " 1", "1 ", "1e3", "0x1", "-1x", "١", "\u{0}"]
            {
                let found = error(&sample, &with(&sample.map, field, bad), &format!("{field} = {bad:?}"));
                let cause = if bad == "9007199254740992" { DecodeCause::OutOfRange } else { DecodeCause::NotANumber };
                assert_eq!((&found.field, found.cause), (field, cause), "{} {bad:?}", sample.name);
                tried += 1;
            }
            let found = error(&sample, &with(&sample.map, field, [b'1', 0xff]), field);
            assert_eq!((&found.field, found.cause), (field, DecodeCause::NotUtf8), "{}", sample.name);
            for bad in ["-1", "-0"].iter().filter(|_| field != "priority") {
                assert_eq!(error(&sample, &with(&sample.map, field, *bad), bad).field, *field, "{}", sample.name);
            }
        }
        for (field, bad) in
            [("priority", "2147483648"), ("priority", "-2147483649"), ("priority", "-0"), ("progress_pct", "101")]
        {
            if sample.map.contains_key(field) {
                assert_eq!(error(&sample, &with(&sample.map, field, bad), bad).field, field);
            }
        }
        for (field, greatest) in sample.numbers.iter().filter(|(_, greatest)| *greatest > 0) {
            let most = with(&sample.map, field, greatest.to_string());
            assert_eq!((sample.round_trip)(&most), Ok(most.clone()), "{} {field}", sample.name);
            if *greatest == u64::from(u32::MAX) {
                let found = error(&sample, &with(&sample.map, field, "4294967296"), field);
                assert_eq!((&found.field, found.cause), (field, DecodeCause::OutOfRange), "{}", sample.name);
            }
        }
        // No default replaces what is missing, either.
        for field in sample.map.keys().filter(|f| !is_optional(&sample, f)) {
            error(&sample, &without(&sample.map, field), &format!("no {field}"));
        }
    }
    assert!(tried > 1_000);
}

/// Whether the record may do without the field, the others as they are.
fn is_optional(sample: &Sample, field: &str) -> bool {
    // The run's and suspension's optional fields are in no list when something else asks for them.
    sample.optional.iter().any(|f| f == field)
}

/// README, section 4, as it is written there.
fn exists(vector: [&str; 6]) -> bool {
    let [phase, ownership, eligibility, blocking, outcome, attempt] = vector;
    let pending = ["pending_first_attempt", "pending_retry_attempt", "pending_replay_attempt", "attempt_interrupted"]
        .contains(&attempt);
    let ended = ["success", "failed", "cancelled", "expired", "skipped"].contains(&outcome);
    match (phase, ownership, eligibility, blocking, outcome) {
        ("runnable", "unowned", "eligible_now", "waiting_for_worker", "none")
        | (
            "runnable",
            "unowned",
            "not_eligible_until_time",
            "waiting_for_delay" | "waiting_for_retry_backoff" | "waiting_for_resume_delay",
            "none",
        )
        | ("runnable", "unowned", "blocked_by_dependencies", "waiting_for_children", "none")
        | ("runnable", "unowned", "blocked_by_budget", "waiting_for_budget", "none")
        | ("runnable", "unowned", "blocked_by_quota", "waiting_for_quota", "none")
        | ("runnable", "unowned", "blocked_by_route", "waiting_for_capable_worker", "none")
        | ("runnable", "unowned", "blocked_by_lane_state", "paused_by_policy", "none")
        | ("runnable", "unowned", "blocked_by_operator", "paused_by_operator", "none") => pending,
        ("active", "leased", "not_applicable", "none", "none") => attempt == "running_attempt",
        ("active", "lease_expired_reclaimable" | "lease_revoked", "not_applicable", "waiting_for_worker", "none")
        | (
            "suspended",
            "unowned",
            "not_applicable",
            "waiting_for_signal"
            | "waiting_for_approval"
            | "waiting_for_callback"
            | "waiting_for_tool_result"
            | "paused_by_operator"
            | "paused_by_policy"
            | "waiting_for_budget",
            "none",
        ) => attempt == "attempt_interrupted",
        ("terminal", "unowned", "not_applicable", "none", _) if ended => {
            attempt == "attempt_terminal" || attempt == "none"
        }
        _ => false,
    }
}

async fn halves(_: &Stage) {
    let id = X.parse().unwrap_or_else(|e| panic!("{e}"));
    let fields = [
        "lifecycle_phase",
        "ownership_state",
        "eligibility_state",
        "blocking_reason",
        "terminal_outcome",
        "attempt_state",
    ];
    let (mut map, mut legal, mut illegal) = (plain_execution(), 0, 0);
    let set = |map: &mut FlatMap, at: usize, word: &'static str| {
        map.insert(fields[at].to_owned(), Bytes::from_static(word.as_bytes()));
    };
    for phase in LifecyclePhase::ALL {
        set(&mut map, 0, phase.as_str());
        for ownership in OwnershipState::ALL {
            set(&mut map, 1, ownership.as_str());
            for eligibility in EligibilityState::ALL {
                set(&mut map, 2, eligibility.as_str());
                for blocking in BlockingReason::ALL {
                    set(&mut map, 3, blocking.as_str());
                    for outcome in TerminalOutcome::ALL {
                        set(&mut map, 4, outcome.as_str());
                        for attempt in AttemptState::ALL {
                            set(&mut map, 5, attempt.as_str());
                            let vector = [
                                phase.as_str(),
                                ownership.as_str(),
                                eligibility.as_str(),
                                blocking.as_str(),
                                outcome.as_str(),
                                attempt.as_str(),
                            ];
                            let found = decode_execution(id, &map);
                            if exists(vector) {
                                // Other rules may miss what such an execution has; not the vector's.
                                legal += 1;
                                let fault = found.err().map(|e| e.field);
                                assert_ne!(fault.as_deref(), Some("lifecycle_phase"), "{vector:?}");
                            } else {
                                illegal += 1;
                                let fault = found.err().map(|e| e.cause);
                                assert_eq!(fault, Some(DecodeCause::IllegalState), "{vector:?}");
                            }
                        }
                    }
                }
            }
        }
    }
    // READY, 3 DELAYED, DEPS and 5 BLOCKED with 4 states each; RUNNING, LOST, REVOKED; 7 SUSPENDED; 5 DONE with 2 each.
    assert_eq!(legal, 10 * 4 + 3 + 7 + 5 * 2);
    assert_eq!(legal + illegal, 5 * 4 * 9 * 17 * 6 * 7);
    for field in fields {
        let found =
            decode_execution(id, &with(&plain_execution(), field, "Runnable")).err().map(|e| (e.field, e.cause));
        assert_eq!(found, Some((field.to_owned(), DecodeCause::UnknownValue)));
    }

    let mut groups = 0;
    for sample in samples() {
        for group in &sample.groups {
            for missing in group {
                let found = error(&sample, &without(&sample.map, missing), &format!("no {missing}"));
                assert_eq!(found.cause, DecodeCause::IncompleteGroup, "{}: {found}", sample.name);
                assert!(group.contains(&found.field), "{}: {found}", sample.name);
                // And with only this one of them.
                let mut alone = sample.map.clone();
                alone.retain(|field, _| field == missing || !group.contains(field));
                let found = error(&sample, &alone, &format!("only {missing}"));
                assert_eq!(found.cause, DecodeCause::IncompleteGroup, "{}: {found}", sample.name);
            }
            groups += 1;
        }
    }
    assert!(groups >= 20, "{groups}");
}

async fn any_bytes(_: &Stage) {
    let mut rng = fastrand::Rng::with_seed(11);
    let telling = b"s3cret\xff\x00".as_slice();
    let plausible: [&[u8]; 24] = [
        b"",
        b"0",
        b"1",
        b"-1",
        b"1.0",
        b"1.7",
        b"9007199254740992",
        b"none",
        b"success",
        b"runnable",
        b"engine",
        b"operator:",
        b"worker:x",
        b"token:k1:2",
        b"{}",
        b"[]",
        b"null",
        b"{\"type\":\"fail\"}",
        b"a,b",
        b"a,,b",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        b"5-0",
        b"\xff\xfe",
        b"s3cret",
    ];
    let check = |sample: &Sample, map: &FlatMap| {
        if let Err(found) = (sample.round_trip)(map) {
            let texts = [
                found.to_string(),
                format!("{found:?}"),
                serde_json::to_string(&found).unwrap_or_default(),
                EngineError::Corruption(found).to_string(),
            ];
            assert!(texts.iter().all(|text| !text.contains("s3cret")), "{texts:?}");
        }
    };
    for sample in samples() {
        let fields: Vec<String> = sample.map.keys().cloned().collect();
        for field in &fields {
            for value in plausible {
                check(&sample, &with(&sample.map, field, value));
            }
            check(&sample, &with(&sample.map, field, telling));
            check(&sample, &without(&sample.map, field));
            for _ in 0..20 {
                let mut value: Vec<u8> = (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect();
                value.extend_from_slice(if rng.bool() { b"s3cret" } else { b"" });
                check(&sample, &with(&sample.map, field, value));
            }
        }
        // Several at once, among them swapped values and names of nobody's.
        for _ in 0..500 {
            let mut map = sample.map.clone();
            for _ in 0..rng.usize(1..6) {
                let field = fields[rng.usize(0..fields.len())].clone();
                let other = fields[rng.usize(0..fields.len())].clone();
                match rng.u8(0..5) {
                    0 => drop(map.remove(&field)),
                    1 => drop(map.insert(field, Bytes::from_static(plausible[rng.usize(0..plausible.len())]))),
                    2 => {
                        if let (Some(a), Some(b)) = (map.get(&field).cloned(), map.get(&other).cloned()) {
                            map.insert(field, b);
                            map.insert(other, a);
                        }
                    }
                    3 => drop(map.insert(format!("{field}{other}"), Bytes::from_static(b"s3cret"))),
                    _ => {
                        let name: String = (0..rng.usize(0..300)).map(|_| rng.char(..)).collect();
                        map.insert(name, Bytes::from_static(b"s3cret"));
                    }
                }
            }
            check(&sample, &map);
        }
    }
}

async fn inverse(_: &Stage) {
    let mut rng = fastrand::Rng::with_seed(13);
    for sample in samples() {
        for _ in 0..400 {
            let mut map = sample.map.clone();
            for (field, greatest) in sample.numbers.iter().filter(|(_, greatest)| *greatest > 0) {
                let n = match rng.u8(0..4) {
                    0 => 0,
                    1 => *greatest,
                    _ => rng.u64(0..=*greatest) >> rng.u32(0..53),
                };
                map.insert(field.clone(), Bytes::from(n.to_string()));
            }
            for field in &sample.texts {
                let text: String = (0..rng.usize(1..12)).map(|_| rng.char(..)).collect();
                map.insert(field.clone(), Bytes::from(text));
            }
            for field in &sample.optional {
                if rng.bool() {
                    map.remove(field);
                }
            }
            // The sample's round trip has decoded what it encoded, and compared the models.
            match (sample.round_trip)(&map) {
                Ok(encoded) => assert_eq!(encoded, map, "{}", sample.name),
                Err(found) => panic!("{}: {found}: {map:?}", sample.name),
            }
        }
    }
}
