//! What the codecs' tests share: values that records hold, and damage that stored maps may take.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::flat::FlatMap;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{Dimension, ExecutionId};
use crate::time::{MAX_SAFE_INTEGER, TimestampMs};

pub(super) fn instant() -> impl Strategy<Value = TimestampMs> {
    number().prop_map(TimestampMs::saturating)
}

/// Any stored number, its bounds more often than chance would have it.
pub(super) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 1 => Just(MAX_SAFE_INTEGER), 8 => 0..=MAX_SAFE_INTEGER]
}

pub(super) fn execution_id() -> impl Strategy<Value = ExecutionId> {
    (any::<u16>(), any::<u128>()).prop_map(|(p, n)| ExecutionId::from_parts(p, Uuid::from_u128(n)))
}

pub(super) fn dimension() -> impl Strategy<Value = Dimension> {
    "[A-Za-z0-9._-]{1,8}".prop_map(|text| Dimension::new(text).expect("of its charset"))
}

/// A text of one to twenty characters, any of them; so within every bound on names, keys and labels but the byte
/// bound of 64, for which see `label`.
pub(super) fn name() -> impl Strategy<Value = String> {
    ".{1,20}"
}

pub(super) fn label() -> impl Strategy<Value = String> {
    ".{1,16}"
}

/// What may happen to a stored map: fields go, change, come, or swap their values.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Remove(prop::sample::Index),
    Set(prop::sample::Index, Bytes),
    Add(String, Bytes),
    Swap(prop::sample::Index, prop::sample::Index),
}

pub(super) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let value = || {
        prop_oneof![
            Just(Bytes::new()),
            Just(Bytes::from_static(b"0")),
            Just(Bytes::from_static(b"1")),
            Just(Bytes::from_static(b"01")),
            Just(Bytes::from_static(b"1.0")),
            Just(Bytes::from_static(b"1.7")),
            Just(Bytes::from_static(b"2.0")),
            Just(Bytes::from_static(b"+1")),
            Just(Bytes::from_static(b"abc")),
            Just(Bytes::from_static(b"9007199254740992")),
            Just(Bytes::from_static(b"5-0")),
            Just(Bytes::from_static(b"a,b")),
            Just(Bytes::from_static(b"{}")),
            Just(Bytes::from_static(b"[[[[")),
            Just(Bytes::from_static(b"\xff")),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        ]
    };
    let field = prop_oneof![
        Just("_store".to_owned()),
        Just("surprise".to_owned()),
        Just("usage:".to_owned()),
        Just("usage:x".to_owned()),
        Just("hard:x".to_owned()),
        Just("soft:a b".to_owned()),
        Just("seq".to_owned()),
        Just("trimmed_to".to_owned()),
        Just("max_concurrent".to_owned()),
        Just("exhausted_at".to_owned()),
        ".{0,12}",
    ];
    let any_index = any::<prop::sample::Index>;
    let one = prop_oneof![
        any_index().prop_map(Damage::Remove),
        (any_index(), value()).prop_map(|(at, value)| Damage::Set(at, value)),
        (field, value()).prop_map(|(name, value)| Damage::Add(name, value)),
        (any_index(), any_index()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ];
    proptest::collection::vec(one, 1..4)
}

pub(super) fn damaged(mut map: FlatMap, damage: &[Damage]) -> FlatMap {
    for one in damage {
        let nth = |at: &prop::sample::Index, map: &FlatMap| {
            (!map.is_empty()).then(|| map.keys().nth(at.index(map.len())).expect("within").clone())
        };
        match one {
            Damage::Remove(at) => {
                if let Some(key) = nth(at, &map) {
                    map.remove(&key);
                }
            }
            Damage::Set(at, value) => {
                if let Some(key) = nth(at, &map) {
                    map.insert(key, value.clone());
                }
            }
            Damage::Add(name, value) => {
                map.insert(name.clone(), value.clone());
            }
            Damage::Swap(a, b) => {
                if let (Some(a), Some(b)) = (nth(a, &map), nth(b, &map)) {
                    let (x, y) = (map[&a].clone(), map[&b].clone());
                    map.insert(a, y);
                    map.insert(b, x);
                }
            }
        }
    }
    map
}

/// A damaged map gives a model that writes back as the same map (of this version, the store's own fields apart), or an
/// error that names a field and shows no value.
pub(super) fn decodes_or_tells<T: std::fmt::Debug>(
    map: &FlatMap,
    decoded: Result<T, DecodeError>,
    encode: impl FnOnce(&T) -> FlatMap,
) {
    match decoded {
        Ok(model) => {
            let own = map.iter().any(|(name, _)| name.starts_with('_'));
            let newer = map.get("v").is_some_and(|v| **v != *b"1.0");
            if !own && !newer {
                assert_eq!(&encode(&model), map);
            }
        }
        Err(error) => assert!(error.field.chars().count() <= 128 && !error.record.is_empty(), "{error}"),
    }
}

/// The cause that a map is refused for.
pub(super) fn cause<T: std::fmt::Debug>(decoded: Result<T, DecodeError>) -> (String, DecodeCause) {
    let error = decoded.expect_err("refused");
    (error.field, error.cause)
}
