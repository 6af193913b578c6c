//! What lets a signal in, and what an answer to a bad one gives away.

use std::collections::BTreeSet;

use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, SuspensionId, WaitpointId};
use ff_core::operation::Operation;
use ff_core::refusal::{Class, Code, Refusal};
use ff_core::state::LifecyclePhase;
use ff_core::token::{SigningKey, WaitpointSecret, WaitpointToken};
use uuid::Uuid;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "signal";
    "deliver_signal: a token of one execution, partition or waitpoint used for another is invalid_token, one bound to another source is token_source_mismatch, and nothing changes anywhere." => elsewhere,
    "deliver_signal: every single-bit change, a last character with other unused bits (`..62toF` in vector 1), padding, uppercase or trailing text is invalid_token." => one_spelling,
    "deliver_signal: a bad token gets invalid_token whether or not execution, waitpoint or kid exists." => nothing_given_away,
    "deliver_signal: a bound token of a revoked kid is invalid_token whoever sends it." => revoked_and_bound,
    "deliver_signal: a wrong-partition, malformed or over-long argument leaves all records unchanged." => bad_arguments,
    "deliver_signal: every code of this page has one name, one class and one typed form in every backend." => codes,
}

const VECTOR_1: &str = "ffw1.k1.DIG2tQ_uATdUr7o0TwMESAXriICNio7JweQO7_62toE";
const EXECUTION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const WAITPOINT: &str = "01890a5d-ac97-7d21-9c03-d1e2f3a4b5c6";

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// A SUSPENDED execution of this uuid in that partition, which waits at a waitpoint of that id, and what was issued.
async fn asleep_in(s: &Stage, partition: u16, execution: Uuid, waitpoint: Uuid) -> (ExecutionId, IssuedWaitpoint) {
    let mut creation = s.creation();
    creation.execution_id = ExecutionId::from_parts(partition, execution);
    let id = s.create(creation).await;
    let mut claim = s.claim_args(1);
    claim.partition = partition;
    let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}")).claimed;
    let fence = claimed[0].claimed().fence;
    let bindings = vec![WaitpointBinding::fresh(WaitpointId::from_uuid(waitpoint))];
    let asleep = s.suspend(s.suspension(id, fence, bindings, ResumeCondition::any_signal())).await;
    (id, asleep.waitpoints[0].clone())
}

async fn revoked_and_bound(s: &Stage) {
    let (id, fence) = s.running().await;
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh_for(&["ann"])], ResumeCondition::operator_only())).await;
    let mut by_another = s.signal(id, &asleep.waitpoints[0], "go");
    by_another.source = human("eve");
    // A process that has seen the kid may keep it; the store decides what it is worth.
    assert_eq!(s.refused(by_another.clone()).await, Refusal::token_source_mismatch());
    s.rotate_from("k1", "k2", 2, 60_000).await;
    assert_eq!(s.refused(by_another.clone()).await, Refusal::token_source_mismatch());
    s.revoke_kid("k1").await;
    assert_eq!(s.refused(by_another.clone()).await, Refusal::invalid_token());
    assert_eq!(s.refused(to_buffer(&by_another)).await, Refusal::invalid_token());
}

async fn elsewhere(s: &Stage) {
    // Two partitions with one key, as a careless operator would have it; one uuid in both, one waitpoint uuid everywhere.
    s.rotate(6, "k1", 1).await;
    let (uuid_a, uuid_b, shared) = (Uuid::from_u128(10), Uuid::from_u128(11), Uuid::from_u128(77));
    let (here, mine) = asleep_in(s, PARTITION, uuid_a, shared).await;
    let (neighbour, its) = asleep_in(s, PARTITION, uuid_b, shared).await;
    let (there, theirs) = asleep_in(s, 6, uuid_a, shared).await;
    let (id, fence) = s.running().await;
    let bindings = vec![fresh(), fresh_for(&["ann", "bob"])];
    let two = s.suspend(s.suspension(id, fence, bindings, ResumeCondition::any_signal())).await.waitpoints;
    let all: BTreeSet<_> = [&mine, &its, &theirs].iter().map(|w| token(w)).collect();
    assert_eq!(all.len(), 3, "each has its own token");

    let use_for = async |of: &IssuedWaitpoint, nth: usize, id, at: &IssuedWaitpoint| {
        let mut args = s.signal(id, at, "go");
        args.waitpoint_token = of.tokens[nth].token.clone();
        args.source = of.tokens[nth].source.clone().unwrap_or_else(|| human("ann"));
        assert_eq!(s.refused(args.clone()).await, Refusal::invalid_token());
        assert_eq!(s.refused(to_buffer(&args)).await, Refusal::invalid_token());
    };
    use_for(&its, 0, here, &mine).await;
    use_for(&mine, 0, neighbour, &its).await;
    use_for(&theirs, 0, here, &mine).await;
    use_for(&mine, 0, there, &theirs).await;
    use_for(&two[0], 0, id, &two[1]).await;
    use_for(&two[1], 0, id, &two[0]).await;
    use_for(&two[1], 1, id, &two[0]).await;

    for (nth, source) in [
        (0, human("bob")),
        (1, human("ann")),
        (0, SignalSource::new("robot", "ann")),
        (0, human("Ann")),
        (0, human("ann ")),
    ] {
        let mut args = s.signal_by(id, &two[1], nth, "go");
        args.source = source;
        assert_eq!(s.refused(args.clone()).await, Refusal::token_source_mismatch());
        assert_eq!(s.refused(to_buffer(&args)).await, Refusal::token_source_mismatch());
    }
    // Each is good for its own.
    for (id, waitpoint) in [(here, &mine), (neighbour, &its), (there, &theirs), (id, &two[1])] {
        assert_eq!(s.send(id, waitpoint, "go").await, SignalEffect::ResumeConditionSatisfied);
    }
}

/// Every text that differs from this one in one bit. A bit that makes it no text cannot be sent.
fn flips(text: &str) -> Vec<String> {
    let flipped = (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    });
    flipped.collect()
}

/// Every text whose part at this place differs in one bit of what its base64url says, unused bits included.
fn decoded_flips(text: &str, part: usize) -> Vec<String> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let start: usize = text.split('.').take(part).map(|part| part.len() + 1).sum();
    let length = text.split('.').nth(part).map_or(0, str::len);
    let flip = |at: usize, bit: usize| {
        let value = ALPHABET.find(&text[at..=at]).unwrap_or_else(|| panic!("not base64url: {text}"));
        let other = value ^ (1 << bit);
        format!("{}{}{}", &text[..at], &ALPHABET[other..=other], &text[at + 1..])
    };
    (start..start + length).flat_map(|at| (0..6).map(move |bit| (at, bit))).map(|(at, bit)| flip(at, bit)).collect()
}

async fn one_spelling(s: &Stage) {
    let secret_a = WaitpointSecret::new(std::array::from_fn(|n| u8::try_from(n).unwrap_or_default()));
    let rotation =
        RotateWaitpointHmacSecretArgs::builder().partition(7).new_kid(kid("k1")).new_secret(secret_a).build();
    assert!(s.backend.rotate_waitpoint_hmac_secret(rotation).await.is_ok());
    let (id, waitpoint) = asleep_in(s, 7, uuid(EXECUTION), uuid(WAITPOINT)).await;
    assert_eq!(token(&waitpoint).expose(), VECTOR_1);
    let (bound_id, fence) = s.running().await;
    let bindings = vec![WaitpointBinding::Fresh {
        waitpoint_id: WaitpointId::from_uuid(uuid(WAITPOINT)),
        sources: vec![human("zoë@example.org")],
    }];
    let bound = s.suspend(s.suspension(bound_id, fence, bindings, ResumeCondition::any_signal())).await;
    let bound = bound.waitpoints[0].clone();
    let bound_text = token(&bound).expose().to_owned();

    let before = s.view().await;
    let mut tried = 0;
    let mut forged = async |id, waitpoint: &IssuedWaitpoint, text: String| {
        let mut args = s.signal(id, waitpoint, "go");
        args.waitpoint_token = WaitpointToken::new(&text);
        let answer = s.backend.deliver_signal(args).await;
        let code = answer.as_ref().map_err(ff_core::error::EngineError::code).err().flatten();
        assert_eq!(code, Some(Code::InvalidToken), "{text:?}: {answer:?}");
        tried += 1;
    };
    for unused in ["F", "G", "H"] {
        forged(id, &waitpoint, format!("{}{unused}", &VECTOR_1[..VECTOR_1.len() - 1])).await;
    }
    assert_eq!(decoded_flips(VECTOR_1, 2).len(), 43 * 6);
    for (id, waitpoint, text) in [(id, &waitpoint, VECTOR_1), (bound_id, &bound, bound_text.as_str())] {
        for part in 2..text.split('.').count() {
            for text in decoded_flips(text, part) {
                forged(id, waitpoint, text).await;
            }
        }
        let flips = flips(text);
        assert!(flips.len() >= text.len() * 7);
        for text in flips {
            forged(id, waitpoint, text).await;
        }
        let (version, rest) = text.split_at(4);
        let padded = text.split('.').enumerate().map(|(n, part)| if n == 2 { format!("{part}=") } else { part.into() });
        let spellings = [
            padded.collect::<Vec<String>>().join("."),
            format!("{text}="),
            format!("{text}=="),
            text.to_uppercase(),
            text.to_lowercase(),
            format!("FFW1{rest}"),
            format!("ffw2{rest}"),
            format!("{version}.{rest}"),
            format!("{version}{}", &rest[1..]),
            format!("{text} "),
            format!(" {text}"),
            format!("{text}\n"),
            format!("{text}\0"),
            format!("{text}."),
            format!(".{text}"),
            format!("{text}A"),
            format!("{text}.{text}"),
            format!("{text}.AAAA"),
            text[..text.len() - 1].to_owned(),
            text.replace('.', ".."),
            text.replace('.', ","),
            text.replace('-', "+").replace('_', "/"),
            "A".repeat(777),
            format!("{text}{}", "A".repeat(777)),
            String::new(),
        ];
        // A text without `-` and `_` has no other alphabet.
        for other in spellings.into_iter().filter(|other| other != text) {
            forged(id, waitpoint, other).await;
        }
    }
    // Bound claims dropped, or added to an unbound token.
    let without = bound_text.rsplit_once('.').map_or("", |(head, _)| head).to_owned();
    let claims = bound_text.rsplit_once('.').map_or("", |(_, claims)| claims);
    forged(bound_id, &bound, without).await;
    forged(id, &waitpoint, format!("{VECTOR_1}.{claims}")).await;
    assert!(tried > 1_000);
    assert_eq!(crate::view::difference(&before, &s.view().await), [""; 0]);
    for (id, waitpoint) in [(id, &waitpoint), (bound_id, &bound)] {
        assert_eq!(s.send(id, waitpoint, "go").await, SignalEffect::ResumeConditionSatisfied);
    }
}

async fn nothing_given_away(s: &Stage) {
    let (id, _, waitpoint) = s.suspended().await;
    let unknown = s.execution_id();
    let keyless = ExecutionId::from_parts(9, Uuid::now_v7());
    let guess = |kid_text: &str, byte| SigningKey::new(kid(kid_text), secret(byte));
    for execution_id in [id, unknown, keyless] {
        for waitpoint_id in [waitpoint.waitpoint_id, WaitpointId::new()] {
            let bad = [
                WaitpointToken::new("nonsense"),
                guess("k1", 9).mint(execution_id, waitpoint_id, None),
                guess("never", 1).mint(execution_id, waitpoint_id, None),
                guess("k1", 1).mint(execution_id, WaitpointId::new(), None),
                guess("k1", 9).mint(execution_id, waitpoint_id, Some(&human("bob"))),
            ];
            for bad in bad {
                let mut args = s.signal(execution_id, &waitpoint, "go");
                args.waitpoint_id = waitpoint_id;
                args.waitpoint_token = bad;
                assert_eq!(s.refused(args.clone()).await, Refusal::invalid_token());
                assert_eq!(s.refused(to_buffer(&args)).await, Refusal::invalid_token());
            }
        }
    }
    // Only who holds the key learns what is there.
    for (execution_id, waitpoint_id) in [(id, WaitpointId::new()), (unknown, waitpoint.waitpoint_id)] {
        let mut args = s.signal(execution_id, &waitpoint, "go");
        args.waitpoint_id = waitpoint_id;
        args.waitpoint_token = guess("k1", 1).mint(execution_id, waitpoint_id, None);
        assert_eq!(s.refused(args).await, Refusal::waitpoint_not_found());
    }
    s.send(id, &waitpoint, "go").await;
}

type Spoil = Box<dyn Fn(&mut DeliverSignalArgs) + Send>;

async fn bad_arguments(s: &Stage) {
    let (id, _, waitpoint) = s.suspended().await;
    let good = s.signal(id, &waitpoint, "go");
    let field = Refusal::invalid_input;
    let long = || "x".repeat(257);
    let rows: Vec<(Spoil, Refusal)> = vec![
        (
            Box::new(|a| a.execution_id = ExecutionId::from_parts(16_384, a.execution_id.uuid())),
            Refusal::invalid_partition(),
        ),
        (Box::new(|a| a.name = String::new()), field("name")),
        (Box::new(move |a| a.name = long()), field("name")),
        (Box::new(|a| a.name = "__internal".to_owned()), field("name")),
        (Box::new(|a| a.category = String::new()), field("category")),
        (Box::new(move |a| a.category = long()), field("category")),
        (Box::new(|a| a.source.source_type = String::new()), field("source.source_type")),
        (Box::new(move |a| a.source.source_type = long()), field("source.source_type")),
        (Box::new(|a| a.source.source_type = "engine".to_owned()), field("source.source_type")),
        (Box::new(|a| a.source.source_identity = String::new()), field("source.source_identity")),
        (Box::new(move |a| a.source.source_identity = long()), field("source.source_identity")),
        (
            Box::new(|a| a.payload = vec![0; 65_537].into()),
            Refusal::payload_too_large("payload", 65_537_u64, 65_536_u64),
        ),
        (Box::new(|a| a.encoding = Some(String::new())), field("encoding")),
        (Box::new(|a| a.encoding = Some("x".repeat(65))), field("encoding")),
        (Box::new(|a| a.correlation_id = Some(String::new())), field("correlation_id")),
        (Box::new(move |a| a.correlation_id = Some(long())), field("correlation_id")),
        (Box::new(|a| a.idempotency_key = Some(String::new())), field("idempotency_key")),
        (Box::new(move |a| a.idempotency_key = Some(long())), field("idempotency_key")),
    ];
    for (spoil, want) in rows {
        let mut args = good.clone();
        spoil(&mut args);
        assert_eq!(s.refused(args.clone()).await, want);
        assert_eq!(s.refused(to_buffer(&args)).await, want);
    }
    // The execution of the same uuid in another partition of the deployment is another execution.
    let mut args = good.clone();
    args.execution_id = ExecutionId::from_parts(PARTITION + 1, id.uuid());
    assert_eq!(s.refused(args).await, Refusal::invalid_token());
    // What lies just within the bounds is taken.
    let mut args = good;
    args.name = "x".repeat(256);
    args.category = "é".repeat(128);
    args.payload = vec![0; 65_536].into();
    args.encoding = Some("x".repeat(64));
    args.correlation_id = Some("x".repeat(256));
    args.idempotency_key = Some("x".repeat(256));
    assert_eq!(s.deliver(args).await, SignalEffect::ResumeConditionSatisfied);
}

/// The table of the page, section 7, with the names of the details.
const CODES: [(&str, Class, &[&str]); 26] = [
    ("invalid_resume_condition", Class::Validation, &["path", "reason"]),
    ("invalid_token", Class::Validation, &[]),
    ("token_expired", Class::Validation, &[]),
    ("token_source_mismatch", Class::Validation, &[]),
    ("waitpoint_not_found", Class::NotFound, &[]),
    ("kid_not_found", Class::NotFound, &[]),
    ("stale_suspension", Class::Contention, &["suspension_id"]),
    ("stale_kid", Class::Contention, &["current_kid"]),
    ("keystore_busy", Class::Contention, &[]),
    ("suspension_conflict", Class::Conflict, &[]),
    ("waitpoint_already_exists", Class::Conflict, &["state"]),
    ("signal_conflict", Class::Conflict, &["signal_id"]),
    ("operator_override_forbidden", Class::Conflict, &[]),
    ("rotation_conflict", Class::Conflict, &["kid"]),
    ("kid_retired", Class::Conflict, &["revoked"]),
    ("execution_not_suspended", Class::State, &["lifecycle_phase"]),
    ("suspension_timed_out", Class::State, &[]),
    ("waitpoint_not_pending", Class::State, &["state"]),
    ("pending_waitpoint_expired", Class::State, &[]),
    ("waitpoint_in_use", Class::State, &[]),
    ("waitpoint_closed", Class::State, &["close_reason"]),
    ("hmac_secret_not_initialized", Class::State, &[]),
    ("kid_is_current", Class::State, &[]),
    ("waitpoint_limit_exceeded", Class::Limit, &["scope", "max"]),
    ("signal_limit_exceeded", Class::Limit, &["scope", "max"]),
    ("too_many_kids", Class::Limit, &["scope", "max"]),
];

async fn codes(s: &Stage) {
    for (name, class, details) in CODES {
        let Some(code) = Code::from_word(name) else { panic!("no code {name}") };
        assert_eq!((code.as_str(), code.class(), code.detail_names()), (name, class, details));
    }
    // What a call can bring about, the backend says in exactly this form.
    let mut met = BTreeSet::new();
    let mut meet = async |operation: Operation, want: Refusal| {
        let text = serde_json::to_value(&want).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(text.get("code"), Some(&want.code().as_str().into()), "{text}");
        assert_eq!(s.refused(operation).await, want);
        met.insert(want.code().as_str());
    };

    let (id, fence, waitpoint) = s.suspended().await;
    let go = s.signal(id, &waitpoint, "go");
    let with = |change: &dyn Fn(&mut DeliverSignalArgs)| {
        let mut args = go.clone();
        change(&mut args);
        Operation::from(args)
    };
    meet(with(&|a| a.waitpoint_token = WaitpointToken::new("")), Refusal::invalid_token()).await;
    let k1 = SigningKey::new(kid("k1"), secret(1));
    let bound = k1.mint(id, waitpoint.waitpoint_id, Some(&human("bob")));
    meet(with(&|a| a.waitpoint_token = bound.clone()), Refusal::token_source_mismatch()).await;
    let nowhere = WaitpointId::new();
    let there = k1.mint(id, nowhere, None);
    let unknown = with(&|a| {
        a.waitpoint_id = nowhere;
        a.waitpoint_token = there.clone();
    });
    meet(unknown, Refusal::waitpoint_not_found()).await;
    let stale = s.resumption(id, Some(SuspensionId::new())).into();
    let suspension_id = s.last_suspension(id).await.suspension_id;
    meet(stale, Refusal::stale_suspension(Some(suspension_id))).await;
    meet(s.withdrawal(id, fence, waitpoint.waitpoint_id).into(), Refusal::waitpoint_in_use()).await;
    meet(to_buffer(&go).into(), Refusal::waitpoint_not_pending(WaitpointState::Active)).await;
    let mut other = s.any_signal(id, fence);
    other.suspension_id = suspension_id;
    meet(other.into(), Refusal::suspension_conflict()).await;
    s.deliver(go.clone()).await;
    meet(with(&|a| a.payload = "x".into()), Refusal::signal_conflict(go.signal_id)).await;
    let closed_at = s.signal(id, &waitpoint, "go");
    meet(closed_at.into(), Refusal::waitpoint_closed(WaitpointCloseReason::Satisfied)).await;
    let runnable = Refusal::execution_not_suspended(LifecyclePhase::Runnable);
    meet(s.resumption(id, None).into(), runnable).await;

    s.cancel(id).await;
    let (id, fence) = s.running_with(max_signals(1)).await;
    let any = ResumeCondition::any_signal;
    let bad = s.suspension(id, fence, vec![], any());
    meet(bad.into(), Refusal::invalid_resume_condition("/root", ConditionFault::NoWaitpoint)).await;
    let aged = s.pending_for(id, fence, 1).await;
    s.advance(1);
    let named = |waitpoint: &IssuedWaitpoint| {
        s.suspension(id, fence, vec![WaitpointBinding::pending(waitpoint.waitpoint_id)], any())
    };
    meet(named(&aged).into(), Refusal::pending_waitpoint_expired()).await;
    let pending = s.pending(id, fence).await;
    let again = s.suspension(id, fence, vec![WaitpointBinding::fresh(pending.waitpoint_id)], any());
    meet(again.into(), Refusal::waitpoint_already_exists(WaitpointState::Pending)).await;
    for _ in 0..15 {
        s.pending(id, fence).await;
    }
    let full = Refusal::waitpoint_limit_exceeded(WaitpointLimitScope::Pending, 16_u64);
    meet(s.pending_args(id, fence).into(), full).await;
    s.send(id, &pending, "noise").await;
    let last = s.signal(id, &pending, "noise");
    meet(last.into(), beyond(SignalLimitScope::Execution, 1)).await;
    let mut strict = s.any_signal(id, fence);
    strict.resume_policy.allow_operator_override = false;
    strict.timeout = timeout(1_000, TimeoutBehavior::Fail);
    s.suspend(strict).await;
    meet(s.resumption(id, None).into(), Refusal::operator_override_forbidden()).await;
    s.cancel(id).await;
    let (late, fence) = s.running().await;
    let mut args = s.any_signal(late, fence);
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    s.suspend(args).await;
    s.advance(1_000);
    meet(s.resumption(late, None).into(), Refusal::suspension_timed_out()).await;
    s.sweep().await;

    let mut claim = s.claim_args(1);
    claim.partition = 9;
    let mut creation = s.creation();
    creation.execution_id = ExecutionId::from_parts(9, Uuid::now_v7());
    let keyless = s.create(creation).await;
    let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("{e}")).claimed;
    let keyless_fence = claimed[0].claimed().fence;
    meet(s.pending_args(keyless, keyless_fence).into(), Refusal::hmac_secret_not_initialized()).await;

    let (id, _, waitpoint) = s.suspended().await;
    meet(s.revocation("never").into(), Refusal::kid_not_found()).await;
    meet(s.revocation("k1").into(), Refusal::kid_is_current()).await;
    meet(s.rotation("k1", 9, 60_000).into(), Refusal::rotation_conflict(kid("k1"))).await;
    s.rotate_from("k1", "k2", 2, 60_000).await;
    s.advance(60_000);
    meet(s.signal(id, &waitpoint, "go").into(), Refusal::token_expired()).await;
    meet(s.rotation("k1", 1, 60_000).into(), Refusal::kid_retired(false)).await;
    for n in 3..=16 {
        s.rotate(PARTITION, &format!("k{n}"), n).await;
    }
    let full = Refusal::too_many_kids(KidLimitScope::Live, 16_u64);
    meet(s.rotation("k17", 17, 60_000).into(), full).await;

    let missing: Vec<_> = CODES.iter().map(|(name, ..)| *name).filter(|name| !met.contains(name)).collect();
    assert_eq!(missing, ["stale_kid", "keystore_busy"], "the two that only a lost race brings about");
}
