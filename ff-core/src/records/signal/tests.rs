//! The codecs of signal and dedup entry against generated models and damaged maps.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::contracts::decode::{DecodeCause, decode_dedup, decode_signal};
use crate::records::execution::generate::{digest, execution_id, instant, name, word};
use crate::records::flat::FlatMap;
use crate::time::MAX_SAFE_INTEGER;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn kid() -> impl Strategy<Value = Kid> {
    "[A-Za-z0-9_-]{1,32}".prop_map(|text| Kid::new(text).expect("within the charset"))
}

prop_compose! {
    fn signal()(
        named in (execution_id(), uuid(), 1..=MAX_SAFE_INTEGER, instant()),
        token in option::of((kid(), any::<bool>(), uuid())),
        said in (name(), name(), name(), name(), option::of(name()), option::of(name())),
        payload in vec(any::<u8>(), 0..20),
        encoding in option::of("[a-z/]{1,20}"),
        effect in word(SignalEffect::ALL),
    ) -> SignalRecord {
        let (execution_id, signal_id, seq, accepted_at) = named;
        let (name, category, source_type, source_identity, correlation_id, idempotency_key) = said;
        let waitpoint_id = token.as_ref().map(|(_, _, id)| WaitpointId::from_uuid(*id));
        let auth = token.map_or(SignalAuth::Engine, |(kid, source_bound, _)| SignalAuth::Token { kid, source_bound });
        SignalRecord {
            execution_id,
            signal_id: SignalId::from_uuid(signal_id),
            seq,
            accepted_at,
            waitpoint_id,
            name,
            category,
            source: SignalSource { source_type, source_identity },
            correlation_id,
            idempotency_key,
            payload: Bytes::from(payload),
            encoding,
            auth,
            effect,
        }
    }
}

prop_compose! {
    fn dedup()(
        named in (execution_id(), uuid(), uuid()),
        idempotency_key in option::of(name()),
        digest in digest(),
        effect in word(SignalEffect::ALL),
    ) -> DedupRecord {
        let (execution_id, signal_id, waitpoint_id) = named;
        DedupRecord {
            execution_id,
            signal_id: SignalId::from_uuid(signal_id),
            waitpoint_id: WaitpointId::from_uuid(waitpoint_id),
            idempotency_key,
            digest,
            effect,
        }
    }
}

/// Bytes that are often plausible somewhere.
fn value() -> impl Strategy<Value = Bytes> {
    let words = ["", "0", "1", "01", "engine", "token:k:1", "token:k:2", "token:1", "no_op", "x"];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| Bytes::from_static(word.as_bytes()));
    prop_oneof![3 => word, 1 => vec(any::<u8>(), 0..20).prop_map(Bytes::from)]
}

proptest! {
    #[test]
    fn a_signal_decodes_as_it_was_encoded(signal in signal()) {
        prop_assert_eq!(decode_signal(signal.execution_id, signal.seq, &signal.encode()), Ok(signal));
    }

    #[test]
    fn a_dedup_entry_decodes_as_it_was_encoded(dedup in dedup()) {
        prop_assert_eq!(decode_dedup(dedup.execution_id, dedup.signal_id, &dedup.encode()), Ok(dedup));
    }

    #[test]
    fn what_a_decoder_accepts_encodes_to_the_same_map(
        signal in signal(), dedup in dedup(),
        damage in vec((any::<prop::sample::Index>(), option::of(value())), 0..4),
    ) {
        let damaged = |mut map: FlatMap, fields: &[&str]| {
            for (which, value) in &damage {
                let field = *which.get(fields);
                match value {
                    Some(value) => drop(map.insert(field.to_owned(), value.clone())),
                    None => drop(map.remove(field)),
                }
            }
            map
        };
        let map = damaged(signal.encode(), SignalRecord::REGISTRY.fields);
        if let Ok(accepted) = decode_signal(signal.execution_id, signal.seq, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
        let map = damaged(dedup.encode(), DedupRecord::REGISTRY.fields);
        if let Ok(accepted) = decode_dedup(dedup.execution_id, dedup.signal_id, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
    }

    #[test]
    fn no_map_makes_a_decoder_panic(
        map in proptest::collection::btree_map("(auth|seq|name|effect|payload|.{0,9})", vec(any::<u8>(), 0..20), 0..9),
    ) {
        let mut map: FlatMap = map.into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect();
        let execution = ExecutionId::from_parts(7, Uuid::from_u128(1));
        for version in ["1.0", "1.9"] {
            map.insert("v".to_owned(), Bytes::from_static(version.as_bytes()));
            prop_assert!(decode_signal(execution, 1, &map).is_err());
            prop_assert!(decode_dedup(execution, SignalId::from_uuid(Uuid::from_u128(1)), &map).is_err());
        }
    }
}

#[test]
fn a_signals_faults_are_named() {
    use DecodeCause as C;
    let example = SignalRecord {
        execution_id: ExecutionId::from_parts(7, Uuid::from_u128(1)),
        signal_id: SignalId::from_uuid(Uuid::from_u128(2)),
        seq: 1,
        accepted_at: TimestampMs::saturating(5),
        waitpoint_id: Some(WaitpointId::from_uuid(Uuid::from_u128(3))),
        name: "approve".to_owned(),
        category: "custom".to_owned(),
        source: SignalSource::new("human", "ann"),
        correlation_id: None,
        idempotency_key: None,
        payload: Bytes::new(),
        encoding: None,
        auth: SignalAuth::Token { kid: Kid::new("k1").expect("a kid"), source_bound: true },
        effect: SignalEffect::NoOp,
    };
    assert_eq!(example.encode()["auth"].as_ref(), b"token:k1:1");
    assert_eq!(example.encode()["payload"].as_ref(), b"");
    let fault = |field: &str, value: Option<&'static [u8]>| {
        let mut map = example.encode();
        match value {
            Some(value) => drop(map.insert(field.to_owned(), Bytes::from_static(value))),
            None => drop(map.remove(field)),
        }
        let error = decode_signal(example.execution_id, 1, &map).expect_err("is refused");
        (error.field, error.cause)
    };
    let of = |field: &str, cause| (field.to_owned(), cause);
    assert_eq!(fault("seq", Some(b"2")), of("seq", C::IdMismatch));
    assert_eq!(fault("seq", Some(b"0")), of("seq", C::OutOfRange));
    assert_eq!(fault("payload", None), of("payload", C::Missing));
    assert_eq!(fault("name", Some(b"")), of("name", C::OutOfRange));
    assert_eq!(fault("name", Some(b"\xff")), of("name", C::NotUtf8));
    for bad in [&b"token:k1:2"[..], b"token:k1", b"token", b"engine:", b"", b"token:k1:1:1"] {
        assert_eq!(fault("auth", Some(bad)), of("auth", C::UnknownValue), "{bad:?}");
    }
    assert_eq!(fault("auth", Some(b"token:k 1:1")), of("auth", C::BadId));
    assert_eq!(fault("auth", Some(b"engine")), of("waitpoint_id", C::IllegalState));
    assert_eq!(fault("waitpoint_id", None), of("waitpoint_id", C::IllegalState));
    assert_eq!(fault("effect", Some(b"nothing")), of("effect", C::UnknownValue));
}
