use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::text::message;
use super::*;
use crate::canon::Digest;
use crate::contracts::SignalSource;
use crate::ids::{ExecutionId, Kid, WaitpointId};
use crate::records::KidRecord;
use crate::refusal::Refusal;
use crate::time::TimestampMs;

const VECTOR_1: &str = "ffw1.k1.DIG2tQ_uATdUr7o0TwMESAXriICNio7JweQO7_62toE";
const VECTOR_2: &str = "ffw1.k1.pfj4WZjuDUXRwAMFCTX2b1helEk7HnLE7UEFnE4YYh0";
const VECTOR_3: &str =
    "ffw1.2026-06_b.NH22C3u1EIKAfO_5cSqK6tWYa8lXCGxziEDxsOYrLzQ.AAAABWh1bWFuAAAAEHpvw6tAZXhhbXBsZS5vcmc";

fn secret_a() -> WaitpointSecret {
    WaitpointSecret::new(std::array::from_fn(|i| u8::try_from(i).expect("small")))
}

fn secret_b() -> WaitpointSecret {
    WaitpointSecret::new(std::array::from_fn(|i| 255 - u8::try_from(i).expect("small")))
}

fn kid(text: &str) -> Kid {
    Kid::new(text).expect("a kid")
}

fn execution(partition: u16) -> ExecutionId {
    ExecutionId::from_parts(partition, "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("a uuid"))
}

fn waitpoint() -> WaitpointId {
    "01890a5d-ac97-7d21-9c03-d1e2f3a4b5c6".parse().expect("a uuid")
}

fn zoe() -> SignalSource {
    SignalSource::new("human", "zoë@example.org")
}

/// One current key.
fn keys(partition: u16, name: &str, secret: WaitpointSecret) -> PartitionKeys {
    let key = PartitionKey::new(kid(name), secret, None);
    PartitionKeys { partition, current_kid: Some(kid(name)), keys: vec![key] }
}

fn judge(keys: &PartitionKeys, source: &SignalSource, text: &str) -> Result<VerifiedToken, TokenFault> {
    verify_or_fault(keys, execution(keys.partition), waitpoint(), source, &WaitpointToken::new(text))
}

#[test]
fn the_vectors_of_the_contract_mint_and_verify() {
    let zoe = zoe();
    for (secret, name, partition, source, text) in [
        (secret_a(), "k1", 7, None, VECTOR_1),
        (secret_a(), "k1", 8, None, VECTOR_2),
        (secret_b(), "2026-06_b", 16_383, Some(&zoe), VECTOR_3),
    ] {
        let keys = keys(partition, name, secret.clone());
        let by_current = mint(&keys, execution(partition), waitpoint(), source).expect("there is a current key");
        assert_eq!(by_current.expose(), text);
        let by_name = SigningKey::new(kid(name), secret).mint(execution(partition), waitpoint(), source);
        assert_eq!(by_name, by_current);
        let verified = verify(&keys, execution(partition), waitpoint(), &zoe, &by_current).expect("it is good");
        assert_eq!(verified.execution_id(), execution(partition));
        assert_eq!(verified.waitpoint_id(), waitpoint());
        assert_eq!(verified.kid(), &kid(name));
        assert_eq!(verified.source_bound(), source.is_some());
    }
}

#[test]
fn the_message_the_mac_and_the_digest_of_vector_1_are_the_contracts() {
    let message = message(&kid("k1"), execution(7), waitpoint(), &[]);
    assert_eq!(message.len(), 81);
    assert_eq!(
        data_encoding::HEXLOWER.encode(&message),
        "0000001566662f77616974706f696e742d746f6b656e2f7631000000026b310000000200070000001001890a5dac96774bbcceb302099a\
         80570000001001890a5dac977d219c03d1e2f3a4b5c600000000"
    );
    let mac = data_encoding::BASE64URL_NOPAD.decode(&VECTOR_1.as_bytes()[8..]).expect("base64url");
    assert_eq!(
        data_encoding::HEXLOWER.encode(&mac),
        "0c81b6b50fee013754afba344f03044805eb88808d8a8ec9c1e40eeffeb6b681"
    );
    assert_eq!(secret_a().digest().to_hex(), "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd");
}

#[test]
fn every_single_bit_change_of_a_text_is_refused() {
    let zoe = zoe();
    for (keys, text) in [(keys(7, "k1", secret_a()), VECTOR_1), (keys(16_383, "2026-06_b", secret_b()), VECTOR_3)] {
        assert!(judge(&keys, &zoe, text).is_ok());
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                // What is no UTF-8 cannot be held by a token at all.
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                let refusal =
                    verify(&keys, execution(keys.partition), waitpoint(), &zoe, &WaitpointToken::new(&changed));
                assert_eq!(refusal, Err(Refusal::invalid_token()), "bit {bit} of byte {at}: {changed}");
            }
        }
    }
}

#[test]
fn a_token_has_one_spelling() {
    let zoe = zoe();
    let b64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let with_claims = |claims: &[u8]| format!("{VECTOR_1}.{}", b64(claims));
    let no_utf8: &[u8] = b"\0\0\0\x01\xff\0\0\0\x01a";
    for bad in [
        // Other unused bits, padding, the other alphabet, case, white space.
        VECTOR_1.replace("62toE", "62toF"),
        VECTOR_1.replace("62toE", "62toG"),
        VECTOR_3.replace("vcmc", "vcmd"),
        format!("{VECTOR_1}="),
        format!("{VECTOR_3}=="),
        VECTOR_1.replace('_', "/"),
        VECTOR_1.to_uppercase(),
        VECTOR_1.replace("ffw1", "FFW1"),
        format!(" {VECTOR_1}"),
        format!("{VECTOR_1}\n"),
        format!("{VECTOR_1}\0"),
        // More, fewer and empty parts.
        format!("{VECTOR_1}."),
        format!("{VECTOR_3}."),
        format!("{VECTOR_3}.AAAA"),
        VECTOR_1.replace("k1", ""),
        VECTOR_1.replace("k1.", ""),
        format!(".{VECTOR_1}"),
        String::new(),
        ".".to_owned(),
        "ffw1.k1.".to_owned(),
        "ffw1.k1".to_owned(),
        "ffw1".to_owned(),
        // Another version, a kid that is none, MACs of another length.
        VECTOR_1.replace("ffw1", "ffw2"),
        VECTOR_1.replace("k1", "k 1"),
        VECTOR_1.replace("k1", "ké"),
        VECTOR_1.replace("k1", &"k".repeat(33)),
        format!("ffw1.k1.{}", b64(&[7; 31])),
        format!("ffw1.k1.{}", b64(&[7; 33])),
        // Claims that are not exactly two names.
        with_claims(b""),
        with_claims(b"\0\0\0\x01a"),
        with_claims(b"\0\0\0\x01a\0\0\0"),
        with_claims(b"\0\0\0\x01a\0\0\0\x02b"),
        with_claims(b"\0\0\0\x01a\0\0\0\x01bc"),
        with_claims(b"\0\0\0\x01a\0\0\0\x01b\0\0\0\x01c"),
        with_claims(b"\0\0\0\0\0\0\0\x01b"),
        with_claims(b"\0\0\0\x01a\0\0\0\0"),
        with_claims(b"\xff\xff\xff\xff"),
        with_claims(no_utf8),
        with_claims(&[b"\0\0\x01\x01".as_slice(), &[b'a'; 257], b"\0\0\0\x01b"].concat()),
        // Over-long.
        format!("{VECTOR_1}.{}", "A".repeat(776)),
        "x".repeat(1 << 20),
    ] {
        assert_eq!(judge(&keys(7, "k1", secret_a()), &zoe, &bad), Err(TokenFault::Malformed), "{bad:?}");
        assert_eq!(WaitpointToken::new(&bad).kid(), None, "{bad:?}");
    }
}

#[test]
fn the_longest_token_has_776_bytes_and_passes() {
    let name = "k".repeat(32);
    let source = SignalSource::new("t".repeat(256), "i".repeat(256));
    let keys = keys(7, &name, secret_a());
    let token = mint(&keys, execution(7), waitpoint(), Some(&source)).expect("there is a current key");
    assert_eq!(token.expose().len(), MAX_TOKEN_BYTES);
    assert!(verify(&keys, execution(7), waitpoint(), &source, &token).is_ok());
    let longer = SignalSource::new("t".repeat(257), "i");
    let token = mint(&keys, execution(7), waitpoint(), Some(&longer)).expect("there is a current key");
    assert_eq!(verify(&keys, execution(7), waitpoint(), &longer, &token), Err(Refusal::invalid_token()));
}

#[test]
fn a_token_of_another_execution_partition_waitpoint_or_kid_is_invalid() {
    let token = WaitpointToken::new(VECTOR_1);
    let fault = |keys: &PartitionKeys, execution, waitpoint| {
        verify_or_fault(keys, execution, waitpoint, &zoe(), &token).expect_err("it is another's")
    };
    let good = keys(7, "k1", secret_a());
    let other_execution = ExecutionId::from_parts(7, Uuid::from_u128(1));
    assert_eq!(fault(&good, other_execution, waitpoint()), TokenFault::WrongMac);
    assert_eq!(fault(&good, execution(7), WaitpointId::from_uuid(Uuid::from_u128(1))), TokenFault::WrongMac);
    assert_eq!(fault(&keys(8, "k1", secret_a()), execution(8), waitpoint()), TokenFault::WrongMac);
    assert_eq!(fault(&keys(7, "k1", secret_b()), execution(7), waitpoint()), TokenFault::WrongMac);
    assert_eq!(fault(&keys(7, "k2", secret_a()), execution(7), waitpoint()), TokenFault::UnknownKid);
    assert_eq!(fault(&PartitionKeys::none(7), execution(7), waitpoint()), TokenFault::UnknownKid);
}

#[test]
fn the_keys_of_one_partition_do_not_answer_for_another_that_shares_them() {
    let (seven, eight) = (keys(7, "k1", secret_a()), keys(8, "k1", secret_a()));
    let token = WaitpointToken::new(VECTOR_1);
    assert!(verify(&seven, execution(7), waitpoint(), &zoe(), &token).is_ok());
    assert_eq!(verify(&eight, execution(7), waitpoint(), &zoe(), &token), Err(Refusal::invalid_token()));
    assert_eq!(mint(&eight, execution(7), waitpoint(), None), Err(Refusal::hmac_secret_not_initialized()));
}

#[test]
fn a_bound_token_is_for_its_source_and_its_claims_cannot_be_taken_off_put_on_or_moved() {
    let keys = keys(16_383, "2026-06_b", secret_b());
    for other in [
        SignalSource::new("human", "zoe@example.org"),
        SignalSource::new("humanzoë", "@example.org"),
        SignalSource::new("zoë@example.org", "human"),
    ] {
        assert_eq!(judge(&keys, &other, VECTOR_3), Err(TokenFault::SourceMismatch), "{other:?}");
    }
    let (unbound, _) = VECTOR_3.rsplit_once('.').expect("it has claims");
    assert_eq!(judge(&keys, &zoe(), unbound), Err(TokenFault::WrongMac));
    let own = mint(&keys, execution(16_383), waitpoint(), None).expect("there is a current key");
    let (_, claims) = VECTOR_3.rsplit_once('.').expect("it has claims");
    assert_eq!(judge(&keys, &zoe(), &format!("{}.{claims}", own.expose())), Err(TokenFault::WrongMac));
    let eve = SignalSource::new("human", "eve");
    let of_eve = mint(&keys, execution(16_383), waitpoint(), Some(&eve)).expect("there is a current key");
    let (mac, _) = of_eve.expose().rsplit_once('.').expect("it has claims");
    assert_eq!(judge(&keys, &zoe(), &format!("{mac}.{claims}")), Err(TokenFault::WrongMac));
}

#[test]
fn an_unbound_token_takes_any_source_and_is_not_source_bound() {
    let keys = keys(7, "k1", secret_a());
    for source in [zoe(), SignalSource::new("service", "x")] {
        assert!(!judge(&keys, &source, VECTOR_1).expect("it is good").source_bound());
    }
}

#[test]
fn a_wrong_mac_comes_before_a_wrong_source() {
    let keys = keys(16_383, "2026-06_b", secret_a());
    assert_eq!(judge(&keys, &SignalSource::new("x", "y"), VECTOR_3), Err(TokenFault::WrongMac));
}

#[test]
fn a_caller_hears_one_code_for_every_bad_token() {
    for fault in TokenFault::ALL {
        let code = Refusal::from(*fault).code().as_str();
        let bound_to_another = *fault == TokenFault::SourceMismatch;
        assert_eq!(code, if bound_to_another { "token_source_mismatch" } else { "invalid_token" });
    }
}

#[test]
fn tokens_of_old_keys_verify_and_new_ones_are_minted_under_the_current_kid() {
    let mut keys = keys(7, "k2", secret_b());
    keys.keys.push(PartitionKey::new(kid("k1"), secret_a(), Some(TimestampMs::ZERO)));
    assert_eq!(judge(&keys, &zoe(), VECTOR_1).expect("expiry is decided at commit").kid(), &kid("k1"));
    let token = mint(&keys, execution(7), waitpoint(), None).expect("there is a current key");
    assert_eq!(token.kid(), Some(kid("k2")));
    let under_old = keys.keys[1].mint(execution(7), waitpoint(), None);
    assert_eq!(under_old.expose(), VECTOR_1);
}

#[test]
fn without_a_current_key_nothing_is_minted() {
    let mut keys = PartitionKeys::none(7);
    let not_initialized = Err(Refusal::hmac_secret_not_initialized());
    assert_eq!(mint(&keys, execution(7), waitpoint(), None), not_initialized);
    keys.current_kid = Some(kid("k1"));
    assert_eq!(mint(&keys, execution(7), waitpoint(), None), not_initialized);
}

#[test]
fn a_token_shows_its_kid_and_fingerprint_and_nothing_else() {
    let token = WaitpointToken::new(VECTOR_1);
    let fingerprint = &Digest::of_bytes(VECTOR_1.as_bytes()).to_hex()[..16];
    let shown = format!("<token kid=k1 fp={fingerprint}>");
    assert_eq!(format!("{token:?}"), shown);
    assert_eq!(serde_json::to_string(&token).expect("serialises"), format!("{shown:?}"));
    assert_eq!(token.fingerprint(), fingerprint);
    // What stands where a kid should be may be anything.
    let malformed = WaitpointToken::new("ffw1.secret.x");
    assert_eq!(format!("{malformed:?}"), format!("<token kid=? fp={}>", malformed.fingerprint()));
    let read: WaitpointToken = serde_json::from_str(&format!("{VECTOR_1:?}")).expect("any text");
    assert_eq!(read, token);
    assert_ne!(read, WaitpointToken::new(VECTOR_2));
}

#[test]
fn no_debug_text_of_keys_contains_a_secret() {
    let keys = keys(7, "k1", secret_a());
    let signing = SigningKey::new(kid("k1"), secret_a());
    let shown = format!("{keys:?} {signing:?} {}", serde_json::to_string(&secret_a()).expect("serialises"));
    assert!(shown.contains("WaitpointSecret(..)") && shown.contains("\"<secret>\""), "{shown}");
    assert!(!shown.contains("000102") && !shown.contains("0, 1, 2"), "{shown}");
}

#[test]
fn a_secret_is_32_bytes_or_64_hex_digits() {
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    assert_eq!(WaitpointSecret::from_hex(hex), Some(secret_a()));
    assert_eq!(WaitpointSecret::from_hex(&hex.to_uppercase()), Some(secret_a()));
    assert_eq!(serde_json::from_str::<WaitpointSecret>(&format!("{hex:?}")).expect("hex"), secret_a());
    for bad in [&hex[2..], &hex[1..], &format!("{hex}00"), &hex.replace('a', "g"), "", "<secret>"] {
        assert_eq!(WaitpointSecret::from_hex(bad), None, "{bad:?}");
        assert!(serde_json::from_str::<WaitpointSecret>(&format!("{bad:?}")).is_err(), "{bad:?}");
    }
}

#[test]
fn keys_that_are_not_what_the_store_says_are_corruption() {
    let good = keys(7, "k1", secret_a());
    assert_eq!(good.check(), Ok(()));
    assert_eq!(PartitionKeys::none(7).check(), Ok(()));
    let mut swapped = good.clone();
    swapped.keys[0].secret = secret_b();
    assert_eq!(swapped.check().expect_err("another secret").field, "secret");
    let mut lost = good;
    lost.keys.clear();
    assert_eq!(lost.check().expect_err("no current key").field, "current_kid");
}

const fn at(ms: u64) -> TimestampMs {
    TimestampMs::saturating(ms)
}

fn record(name: &str, expires_at: Option<u64>) -> KidRecord {
    let secret = WaitpointSecret::new([7; 32]);
    KidRecord {
        partition: 7,
        kid: kid(name),
        digest: secret.digest(),
        installed_at: at(1),
        secret: Some(secret),
        expires_at: expires_at.map(at),
        revoked_at: None,
    }
}

#[test]
fn a_kid_is_current_then_verifying_then_expired_for_24_hours_then_retired() {
    let demoted = record("k1", Some(1_000));
    for (now, status) in [
        (0, KidStatus::Verifying),
        (999, KidStatus::Verifying),
        (1_000, KidStatus::Expired),
        (86_400_999, KidStatus::Expired),
        (86_401_000, KidStatus::Retired),
        (u64::MAX, KidStatus::Retired),
    ] {
        assert_eq!(kid_status(Some(&demoted), false, at(now)), status, "at {now}");
    }
    assert_eq!(kid_status(Some(&record("k1", None)), true, at(u64::MAX)), KidStatus::Current);
}

#[test]
fn a_kid_that_was_revoked_lost_its_secret_or_never_was_is_retired_at_every_instant() {
    let revoked = KidRecord { revoked_at: Some(at(5)), ..record("k1", Some(1_000)) };
    let emptied = KidRecord { secret: None, ..record("k1", Some(1_000)) };
    for now in [0, 10, 1_000, 86_400_999] {
        for is_current in [false, true] {
            assert_eq!(kid_status(None, is_current, at(now)), KidStatus::Retired);
            assert_eq!(kid_status(Some(&revoked), is_current, at(now)), KidStatus::Retired);
            assert_eq!(kid_status(Some(&emptied), is_current, at(now)), KidStatus::Retired);
        }
        assert_eq!(kid_status(Some(&record("k1", None)), false, at(now)), KidStatus::Retired);
    }
}

#[test]
fn current_and_verifying_kids_are_admitted_expired_ones_told_so_and_retired_ones_not() {
    assert_eq!(KidStatus::Current.admit(), Ok(()));
    assert_eq!(KidStatus::Verifying.admit(), Ok(()));
    assert_eq!(KidStatus::Expired.admit(), Err(Refusal::token_expired()));
    assert_eq!(KidStatus::Retired.admit(), Err(Refusal::invalid_token()));
}

#[test]
fn a_load_gives_the_current_verifying_and_expired_keys_and_leaves_retired_ones_out() {
    let records = [
        record("current", None),
        record("verifying", Some(100_000_000)),
        record("expired", Some(1_000)),
        record("retired", Some(0)),
        KidRecord { secret: None, revoked_at: Some(at(1)), ..record("revoked", Some(2_000_000)) },
    ];
    let keys = PartitionKeys::of(7, Some(&kid("current")), &records, at(86_400_500));
    let names: BTreeSet<_> = keys.keys.iter().map(|key| key.kid.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["current", "expired", "verifying"]));
    let earlier = PartitionKeys::of(7, Some(&kid("current")), &records, at(86_399_999));
    assert_eq!(earlier.keys.len(), 4, "the oldest is not retired yet");
    assert_eq!(earlier.current().map(|key| &key.kid), Some(&kid("current")));
    assert_eq!(earlier.check(), Ok(()));
}

proptest! {
    #[test]
    fn what_is_minted_verifies_and_only_for_what_it_was_minted(
        secret in any::<[u8; 32]>(),
        name in "[A-Za-z0-9_-]{1,32}",
        partition in 0..16_384_u16,
        ids in any::<(u128, u128)>(),
        source in prop::option::of(("\\PC{1,40}", "\\PC{1,40}")),
    ) {
        let keys = keys(partition, &name, WaitpointSecret::new(secret));
        let execution = ExecutionId::from_parts(partition, Uuid::from_u128(ids.0));
        let waitpoint = WaitpointId::from_uuid(Uuid::from_u128(ids.1));
        let source = source.map(|(source_type, identity)| SignalSource::new(source_type, identity));
        let token = mint(&keys, execution, waitpoint, source.as_ref()).expect("there is a current key");
        let sender = source.clone().unwrap_or_else(zoe);
        let verified = verify(&keys, execution, waitpoint, &sender, &token).expect("it is good");
        prop_assert_eq!(verified.source_bound(), source.is_some());
        let other = WaitpointId::from_uuid(Uuid::from_u128(!ids.1));
        prop_assert_eq!(verify(&keys, execution, other, &sender, &token), Err(Refusal::invalid_token()));
    }

    #[test]
    fn any_text_is_judged_and_none_by_chance_is_good(text in "(ffw1\\.)?(k1\\.)?[A-Za-z0-9_.=-]{0,60}|\\PC*") {
        prop_assert!(judge(&keys(7, "k1", secret_a()), &zoe(), &text).is_err() || text == VECTOR_1);
    }
}
