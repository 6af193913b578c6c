//! The codec of a kid against generated models and damaged maps.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::contracts::WaitpointHmacKids;
use crate::contracts::decode::{DecodeCause, decode_kid};
use crate::records::execution::generate::instant;
use crate::records::flat::FlatMap;

prop_compose! {
    fn record()(
        partition in any::<u16>(),
        kid in "[A-Za-z0-9_-]{1,32}",
        secret in any::<[u8; 32]>(),
        installed_at in instant(),
        holds in any::<bool>(),
        expires_at in option::of(instant()),
        revoked_at in option::of(instant()),
    ) -> KidRecord {
        let secret = WaitpointSecret::new(secret);
        KidRecord {
            partition,
            kid: Kid::new(kid).expect("within the charset"),
            digest: secret.digest(),
            installed_at,
            secret: Some(secret).filter(|_| holds && revoked_at.is_none()),
            expires_at,
            revoked_at,
        }
    }
}

proptest! {
    #[test]
    fn a_kid_decodes_as_it_was_encoded(kid in record()) {
        prop_assert_eq!(decode_kid(kid.partition, &kid.kid, &kid.encode()), Ok(kid));
    }

    #[test]
    fn what_the_decoder_accepts_encodes_to_the_same_map(
        kid in record(),
        damage in vec((any::<prop::sample::Index>(), option::of(vec(any::<u8>(), 0..3))), 0..3),
    ) {
        let mut map = kid.encode();
        for (which, value) in damage {
            let field = *which.get(KidRecord::REGISTRY.fields);
            match value {
                Some(value) => drop(map.insert(field.to_owned(), Bytes::from(value))),
                None => drop(map.remove(field)),
            }
        }
        if let Ok(accepted) = decode_kid(kid.partition, &kid.kid, &map) {
            prop_assert_eq!(accepted.encode(), map);
        }
    }

    #[test]
    fn no_map_makes_the_decoder_panic(
        map in proptest::collection::btree_map("(secret|kid|digest|.{0,9})", vec(any::<u8>(), 0..70), 0..7),
    ) {
        let mut map: FlatMap = map.into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect();
        for version in ["1.0", "1.9"] {
            map.insert("v".to_owned(), Bytes::from_static(version.as_bytes()));
            prop_assert!(decode_kid(7, &Kid::new("k1").expect("a kid"), &map).is_err());
        }
    }
}

fn example() -> KidRecord {
    let secret = WaitpointSecret::new(std::array::from_fn(|i| u8::try_from(i).expect("small")));
    KidRecord {
        partition: 7,
        kid: Kid::new("k1").expect("a kid"),
        digest: secret.digest(),
        installed_at: TimestampMs::saturating(5),
        secret: Some(secret),
        expires_at: None,
        revoked_at: None,
    }
}

#[test]
fn a_kids_faults_are_named_and_never_show_the_secret() {
    use DecodeCause as C;
    let secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    assert_eq!(example().encode()["secret"], secret);
    let fault = |field: &str, value: &str| {
        let mut map = example().encode();
        map.insert(field.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        let error = decode_kid(7, &example().kid, &map).expect_err("is refused");
        let shown = format!("{error} {error:?} {}", serde_json::to_string(&error).expect("serialises"));
        assert!(!shown.contains("0102030405"), "{shown}");
        (error.field, error.cause)
    };
    let of = |field: &str, cause| (field.to_owned(), cause);
    assert_eq!(fault("partition", "8"), of("partition", C::IdMismatch));
    assert_eq!(fault("kid", "k2"), of("kid", C::IdMismatch));
    assert_eq!(fault("kid", "k.2"), of("kid", C::BadId));
    assert_eq!(fault("secret", &secret.to_uppercase()), of("secret", C::UnknownValue));
    assert_eq!(fault("secret", &secret[2..]), of("secret", C::UnknownValue));
    assert_eq!(fault("secret", &format!("01{}", &secret[2..])), of("secret", C::IllegalState));
    assert_eq!(fault("revoked_at", "9"), of("secret", C::IllegalState));
    assert!(!format!("{:?}", example()).contains("0102030405"));
}

#[test]
fn only_unexpired_kids_are_listed_by_expiry_then_kid() {
    let at = TimestampMs::saturating;
    let kid = |name: &str, expires_at: Option<u64>| KidRecord {
        kid: Kid::new(name).expect("a kid"),
        expires_at: expires_at.map(at),
        ..example()
    };
    let revoked = KidRecord { secret: None, revoked_at: Some(at(6)), ..kid("revoked", Some(900)) };
    let current = kid("current", None);
    let records = [kid("b", Some(300)), kid("a", Some(300)), kid("z", Some(200)), kid("old", Some(100)), revoked];
    let kids = WaitpointHmacKids::of(Some(&current.kid), records.iter().chain([&current]), at(100));
    let names: Vec<_> = kids.verifying.iter().map(|kid| kid.kid.as_str()).collect();
    assert_eq!((kids.current_kid.as_ref().map(Kid::as_str), names), (Some("current"), vec!["z", "a", "b"]));
    assert_eq!(WaitpointHmacKids::of(None, [], at(0)), WaitpointHmacKids::default());
}
