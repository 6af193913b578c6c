//! Domain keystore.

use std::sync::Arc;

use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::engine_backend::EngineBackend;
use ff_core::ids::{ExecutionId, Kid, SuspensionId};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::refusal::{Code, Refusal};
use ff_core::state::StateName;
use ff_core::token::{SigningKey, WaitpointSecret, WaitpointToken};
use uuid::Uuid;

use super::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "keystore";
    "rotate_waitpoint_hmac_secret: a token issued before a rotation works until its kid's expires_at, is token_expired at that instant, and invalid_token 24 h later." => ages,
    "rotate_waitpoint_hmac_secret: an open approval outlives its kid: the listing re-issues a token that resumes it." => reissued,
    "rotate_waitpoint_hmac_secret: A to B to A with A's secret clears A's expiry and its tokens live through the next rotation; with another secret it is rotation_conflict at every age." => there_and_back,
    "rotate_waitpoint_hmac_secret: repeating a rotation is AlreadyCurrent, and an expired or revoked kid never comes back." => repeated,
    "rotate_waitpoint_hmac_secret: a partition without a key refuses every call that issues tokens, suspends without waitpoints, and answers invalid_token to every signal." => keyless,
    "rotate_waitpoint_hmac_secret: the seventeenth kid that holds a secret is refused and nothing moves." => seventeen,
    "revoke_waitpoint_kid: a kid revoked between verification and commit refuses the signal; the current kid cannot be revoked." => revoked,
    "list_waitpoint_hmac_kids: only unexpired kids are shown, by expiry then kid, never a secret." => listed,
    "list_waitpoint_hmac_kids: no error, debug text, log or trace of any operation contains a secret or a token text." => hidden,
}

const DAY: u64 = 86_400_000;

/// An execution that sleeps whatever arrives, and its waitpoint.
async fn deaf(s: &Stage) -> (ExecutionId, IssuedWaitpoint) {
    let (id, fence) = s.running().await;
    let asleep = s.suspend(s.suspension(id, fence, vec![fresh()], ResumeCondition::operator_only())).await;
    (id, asleep.waitpoints[0].clone())
}

async fn ages(s: &Stage) {
    let (id, waitpoint) = deaf(s).await;
    s.advance(5_000);
    let rotated_at = s.now();
    s.rotate_from("k1", "k2", 2, 60_000).await;
    let expires_at = rotated_at.after(60_000);
    assert_eq!(s.kids().await, (Some("k2".to_owned()), vec![("k1".to_owned(), expires_at.as_millis())]));
    for at in [rotated_at, rotated_at.after(59_999)] {
        s.set(at);
        assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::NoOp);
    }
    for at in [expires_at, expires_at.after(1), expires_at.after(DAY - 1)] {
        s.set(at);
        assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::token_expired());
    }
    for at in [expires_at.after(DAY), expires_at.after(DAY + 1), expires_at.after(400 * DAY)] {
        s.set(at);
        assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::invalid_token());
    }
    // The longest and the shortest grace there is.
    let field = Refusal::invalid_input("grace_ms");
    for grace_ms in [0, 59_999, 366 * DAY + 1] {
        assert_eq!(s.refused(s.rotation("k3", 3, grace_ms)).await, field);
    }
    s.rotate_from("k2", "k3", 3, 366 * DAY).await;
    assert_eq!(s.kids().await.1, [("k2".to_owned(), s.now().after(366 * DAY).as_millis())]);
}

async fn reissued(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.suspension(id, fence, vec![fresh_for(&["ann"])], ResumeCondition::signal("approve"));
    args.reason_code = SuspensionReason::WaitingForApproval;
    let asleep = s.suspend(args).await;
    s.rotate_from("k1", "k2", 2, 60_000).await;
    s.advance(60_000 + DAY);
    let approve = s.signal(id, &asleep.waitpoints[0], "approve");
    assert_eq!(s.refused(approve).await, Refusal::invalid_token());
    assert_eq!(s.state(id).await, StateName::Suspended);
    let anew = s.reissued(id).await;
    assert_eq!((anew.len(), kids(&anew)), (1, vec!["k2".to_owned()]));
    assert_eq!(anew[0].waitpoint_id, asleep.waitpoints[0].waitpoint_id);
    assert_eq!(anew[0].tokens[0].source, Some(human("ann")));
    assert_ne!(anew[0].tokens[0].token, asleep.waitpoints[0].tokens[0].token);
    assert_eq!(s.send(id, &anew[0], "approve").await, SignalEffect::ResumeConditionSatisfied);
    assert_eq!(s.vector(id).await, INTERRUPTED);
}

async fn there_and_back(s: &Stage) {
    s.rotate_from("k1", "a", 10, 60_000).await;
    let (id, waitpoint) = deaf(s).await;
    assert_eq!(kids(std::slice::from_ref(&waitpoint)), ["a"]);
    let conflict = async || {
        assert_eq!(s.refused(s.rotation("a", 99, 60_000)).await, Refusal::rotation_conflict(kid("a")));
    };
    conflict().await; // while it is current
    s.rotate_from("a", "b", 11, 60_000).await;
    let start = s.now();
    s.advance(59_999);
    conflict().await; // while it verifies
    s.rotate_from("b", "a", 10, 120_000).await;
    let (current, verifying) = s.kids().await;
    assert_eq!(current.as_deref(), Some("a"));
    let b_expires = s.now().after(120_000).as_millis();
    // k1 was demoted when A came first.
    assert_eq!(verifying, [("k1".to_owned(), start.after(60_000).as_millis()), ("b".to_owned(), b_expires)]);
    s.set(start.after(60_000 + 2 * DAY)); // long past the expiry that A once had
    assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::NoOp);
    assert_eq!(s.kids().await, (Some("a".to_owned()), vec![]));
    let (other, there) = deaf(s).await;
    assert_eq!(kids(std::slice::from_ref(&there)), ["a"]);

    s.rotate_from("a", "c", 12, 60_000).await;
    let rotated_at = s.now();
    s.advance(59_999);
    for (id, waitpoint) in [(id, &waitpoint), (other, &there)] {
        assert_eq!(s.send(id, waitpoint, "go").await, SignalEffect::NoOp);
    }
    s.advance(1);
    assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::token_expired());
    for ms in [0, DAY - 1, 1, DAY] {
        s.advance(ms);
        conflict().await; // when it has expired, and when it is retired
    }
    assert!(s.now() > rotated_at.after(60_000 + DAY));
    // The next rotation takes its secret away; its digest stays and still tells.
    s.rotate_from("c", "d", 13, 60_000).await;
    conflict().await;
    let now = s.now();
    // What has been done stays done when the clock steps back into the kid's last day.
    s.set(rotated_at.after(60_000 + DAY - 1));
    assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::invalid_token());
    conflict().await;
    s.set(now);
    s.revoke_kid("c").await;
    let refused = s.refused(s.rotation("c", 99, 60_000)).await;
    assert_eq!(refused, Refusal::rotation_conflict(kid("c")), "when it was revoked");
}

async fn repeated(s: &Stage) {
    s.advance(7);
    s.rotate_from("k1", "k2", 2, 60_000).await;
    s.advance(10);
    for grace_ms in [60_000, DAY] {
        let again = s.changes_nothing(s.rotation("k2", 2, grace_ms)).await;
        let want = RotateWaitpointHmacSecretOutcome::AlreadyCurrent { kid: kid("k2") };
        assert_eq!(again, Outcome::RotateWaitpointHmacSecret(want));
    }
    assert_eq!(s.kids().await.1, [("k1".to_owned(), START_MS + 7 + 60_000)], "the first expiry stands");

    s.set(at(START_MS + 7 + 60_000));
    for ms in [0, 1, DAY - 1, 400 * DAY] {
        s.advance(ms);
        assert_eq!(s.refused(s.rotation("k1", 1, 60_000)).await, Refusal::kid_retired(false));
    }
    s.rotate_from("k2", "k3", 3, DAY).await;
    assert_eq!(s.refused(s.rotation("k1", 1, 60_000)).await, Refusal::kid_retired(false), "with its secret gone");
    s.revoke_kid("k2").await;
    for ms in [0, DAY, 3 * DAY] {
        s.advance(ms);
        assert_eq!(s.refused(s.rotation("k2", 2, 60_000)).await, Refusal::kid_retired(true));
    }
    assert_eq!(s.kids().await, (Some("k3".to_owned()), vec![]));
}

async fn keyless(s: &Stage) {
    const KEYLESS: u16 = 6;
    let mut creation = s.creation();
    creation.execution_id = ExecutionId::from_parts(KEYLESS, Uuid::now_v7());
    let id = s.create(creation).await;
    let mut claim = s.claim_args(1);
    claim.partition = KEYLESS;
    let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}")).claimed;
    let fence = claimed[0].claimed().fence;
    let none = Refusal::hmac_secret_not_initialized();
    assert_eq!(s.refused(s.pending_args(id, fence)).await, none);
    assert_eq!(s.refused(s.any_signal(id, fence)).await, none);
    let bound = s.suspension(id, fence, vec![fresh_for(&["ann"])], ResumeCondition::operator_only());
    assert_eq!(s.refused(bound).await, none);

    let key = SigningKey::new(kid("k1"), secret(1));
    let forge = |token: WaitpointToken| {
        let waitpoint = IssuedWaitpoint {
            waitpoint_id: ff_core::ids::WaitpointId::from_uuid(Uuid::from_u128(3)),
            tokens: vec![IssuedToken { source: None, token }],
        };
        s.signal(id, &waitpoint, "go")
    };
    let minted = key.mint(id, ff_core::ids::WaitpointId::from_uuid(Uuid::from_u128(3)), None);
    let bad = async || {
        for token in [minted.clone(), WaitpointToken::new(""), WaitpointToken::new("ffw1.k1.AAAA")] {
            let args = forge(token);
            assert_eq!(s.refused(args.clone()).await, Refusal::invalid_token());
            assert_eq!(s.refused(to_buffer(&args)).await, Refusal::invalid_token());
        }
    };
    bad().await;
    let args = s.suspension(id, fence, vec![], ResumeCondition::operator_only());
    let asleep = s.suspend(args.clone()).await;
    assert_eq!(asleep.waitpoints, []);
    assert_eq!(s.state(id).await, StateName::Suspended);
    bad().await;
    assert!(matches!(s.changes_nothing(args).await, Outcome::SuspendExecution(_)), "a repeat issues nothing either");
    assert_eq!(s.reissued(id).await, [], "there is no token to issue");
    let listed = s.backend.list_waitpoint_hmac_kids(ListWaitpointHmacKidsArgs { partition: KEYLESS }).await;
    assert_eq!(listed, Ok(WaitpointHmacKids::default()));
    let mut revocation = s.revocation("k1");
    revocation.partition = KEYLESS;
    assert_eq!(s.refused(revocation).await, Refusal::kid_not_found(), "other partitions' kids are not its own");
    assert_eq!(s.resume(id).await.state_vector, INTERRUPTED);

    // The first key takes nobody's place, and from then on the partition is like any other.
    let first = s.rotate(KEYLESS, "k9", 9).await;
    assert_eq!(first, RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: None, new_kid: kid("k9") });
    let mut claim = s.claim_args(1);
    claim.partition = KEYLESS;
    let claimed = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}")).claimed;
    let asleep = s.suspend(s.any_signal(id, claimed[0].claimed().fence)).await;
    assert_eq!(s.send(id, &asleep.waitpoints[0], "go").await, SignalEffect::ResumeConditionSatisfied);
}

async fn seventeen(s: &Stage) {
    for n in 2..=16 {
        s.rotate_from(&format!("k{}", n - 1), &format!("k{n}"), n, DAY).await;
    }
    let full = Refusal::too_many_kids(KidLimitScope::Live, 16_u64);
    let before = s.kids().await;
    assert_eq!((before.0.as_deref(), before.1.len()), (Some("k16"), 15));
    assert_eq!(s.refused(s.rotation("k17", 17, 60_000)).await, full);
    assert_eq!(s.kids().await, before);
    let (id, waitpoint) = deaf(s).await;
    assert_eq!(kids(std::slice::from_ref(&waitpoint)), ["k16"]);
    assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::NoOp);
    // One that is there already is no seventeenth.
    s.rotate_from("k16", "k3", 3, 2 * DAY).await;
    assert_eq!(s.refused(s.rotation("k17", 17, 60_000)).await, full);
    s.revoke_kid("k5").await;
    s.rotate_from("k3", "k17", 17, 3 * DAY).await;
    assert_eq!(s.refused(s.rotation("k18", 18, 60_000)).await, full);
    // The expired ones keep their secrets for another day, and count.
    s.advance(2 * DAY - 1);
    assert_eq!(s.refused(s.rotation("k18", 18, 60_000)).await, full);
    s.advance(1);
    s.rotate_from("k17", "k18", 18, 60_000).await;
    assert_eq!(s.kids().await.0.as_deref(), Some("k18"));
}

async fn revoked(s: &Stage) {
    assert_eq!(s.refused(s.revocation("k1")).await, Refusal::kid_is_current());
    assert_eq!(s.refused(s.revocation("never")).await, Refusal::kid_not_found());
    let (id, waitpoint) = deaf(s).await;
    assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::NoOp);
    s.rotate_from("k1", "k2", 2, DAY).await;
    assert_eq!(s.send(id, &waitpoint, "go").await, SignalEffect::NoOp);
    // Whoever has verified by the key, and holds it still, is refused when it commits.
    s.revoke_kid("k1").await;
    assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::invalid_token());
    assert_eq!(s.kids().await, (Some("k2".to_owned()), vec![]));
    let again = s.changes_nothing(s.revocation("k1")).await;
    assert_eq!(again, Outcome::RevokeWaitpointKid(RevokeWaitpointKidResult::AlreadyRevoked { kid: kid("k1") }));
    for ms in [DAY, 2 * DAY] {
        s.advance(ms);
        assert_eq!(s.refused(s.signal(id, &waitpoint, "go")).await, Refusal::invalid_token(), "for ever");
    }
    // Revocations among deliveries: what was recorded before stands, and nothing is recorded after.
    let mut current = "k2".to_owned();
    for n in 3..30 {
        let (id, fence) = s.running().await;
        let bindings = vec![fresh()];
        let asleep = s.suspend(s.suspension(id, fence, bindings, ResumeCondition::operator_only())).await;
        let next = format!("k{n}");
        s.rotate_from(&current, &next, n, DAY).await;
        let revocation = s.revocation(&current);
        let mut sent = Vec::new();
        for _ in 0..4 {
            let backend = Arc::clone(&s.backend);
            let args = s.signal(id, &asleep.waitpoints[0], "go");
            sent.push(tokio::spawn(async move { backend.deliver_signal(args).await }));
        }
        let backend = Arc::clone(&s.backend);
        let revoke = tokio::spawn(async move { backend.revoke_waitpoint_kid(revocation).await });
        assert!(matches!(revoke.await, Ok(Ok(RevokeWaitpointKidResult::Revoked { .. }))));
        assert_eq!(s.refused(s.signal(id, &asleep.waitpoints[0], "go")).await, Refusal::invalid_token());
        let mut accepted = 0;
        for answer in sent {
            match answer.await.unwrap_or_else(|e| panic!("{e}")) {
                Ok(DeliverSignalResult::Accepted { .. }) => accepted += 1,
                Err(refused) => assert_eq!(refused.code(), Some(Code::InvalidToken)),
                other @ Ok(DeliverSignalResult::Duplicate { .. }) => panic!("{other:?}"),
            }
        }
        assert_eq!(s.signals(id).await.signals.len(), accepted);
        current = next;
    }
}

async fn listed(s: &Stage) {
    let expiry = |ms: u64| START_MS + ms;
    s.rotate_from("k1", "z", 20, 3 * DAY).await;
    s.rotate_from("z", "m", 21, 2 * DAY).await;
    s.advance(1_000);
    s.rotate_from("m", "b", 22, 2 * DAY - 1_000).await; // expires with z
    s.rotate_from("b", "A", 23, 2 * DAY - 1_000).await; // and so does b
    s.rotate_from("A", "now", 24, 60_000).await;
    let row = |kid: &str, ms: u64| (kid.to_owned(), expiry(ms));
    let all = [row("A", 61_000), row("b", 2 * DAY), row("m", 2 * DAY), row("z", 2 * DAY), row("k1", 3 * DAY)];
    let want = |from: usize| (Some("now".to_owned()), all[from..].to_vec());
    assert_eq!(s.kids().await, want(0));
    let listed = s.backend.list_waitpoint_hmac_kids(ListWaitpointHmacKidsArgs { partition: PARTITION }).await;
    let listed = listed.unwrap_or_else(|e| panic!("list: {e}"));
    let installed: Vec<_> = listed.verifying.iter().map(|v| v.installed_at.as_millis()).collect();
    assert_eq!(installed, [1_000, 1_000, 0, 0, 0].map(expiry));
    for (instant, from) in
        [(60_999, 0), (61_000, 1), (2 * DAY - 1, 1), (2 * DAY, 4), (3 * DAY - 1, 4), (3 * DAY, 5), (9 * DAY, 5)]
    {
        s.set(at(expiry(instant)));
        assert_eq!(s.kids().await, want(from), "after {instant} ms");
    }
    // A bad partition is told, as by every operation.
    assert_eq!(s.refused(ListWaitpointHmacKidsArgs { partition: 16_384 }).await, Refusal::invalid_partition());
    let text = format!("{listed:?} {}", serde_json::to_string(&listed).unwrap_or_else(|e| panic!("{e}")));
    for byte in 20..=24 {
        assert!(!leaks(&text, &secret(byte)), "{text}");
    }
}

/// Whether a text has the secret in it, as hex or as a list of bytes, in whole or the first quarter.
fn leaks(text: &str, secret: &WaitpointSecret) -> bool {
    let quarter = &secret.expose()[..8];
    let hex: String = quarter.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = quarter.iter().map(u8::to_string).collect::<Vec<_>>();
    let lower = text.to_lowercase();
    lower.contains(&hex) || text.contains(&list.join(", ")) || text.contains(&list.join(","))
}

/// Everything that can be written about a call and its answer.
async fn written(backend: &dyn EngineBackend, operation: Operation) -> (String, Option<Outcome>) {
    let mut text = format!("{operation:?} {operation:#?} {}", serde_json::to_string(&operation).unwrap_or_default());
    match dispatch(backend, operation).await {
        Ok(outcome) => {
            text += &format!("{outcome:?} {outcome:#?} {}", serde_json::to_string(&outcome).unwrap_or_default());
            (text, Some(outcome))
        }
        Err(error) => {
            text += &format!("{error} {error:?} {error:#?} {}", serde_json::to_string(&error).unwrap_or_default());
            (text, None)
        }
    }
}

async fn hidden(s: &Stage) {
    let secrets = [1, 201, 202].map(|n: u8| {
        WaitpointSecret::new(std::array::from_fn(|at| {
            n.wrapping_add(u8::try_from(at).unwrap_or_default().wrapping_mul(7))
        }))
    });
    let rotate = |kid_text: &str, secret: &WaitpointSecret| {
        let mut args = s.rotation(kid_text, 0, DAY);
        args.new_secret = secret.clone();
        Operation::from(args)
    };
    let mut texts = Vec::new();
    let mut write = async |operation: Operation| {
        let (text, outcome) = written(&*s.backend, operation).await;
        texts.push(text);
        outcome
    };
    assert!(write(rotate("hidden", &secrets[0])).await.is_some());
    write(rotate("hidden", &secrets[0])).await;
    assert_eq!(write(rotate("hidden", &secrets[1])).await, None, "a conflict names the kid alone");
    write(rotate("hidden2", &secrets[2])).await;

    let (id, fence) = s.running().await;
    let mut tokens: Vec<WaitpointToken> = Vec::new();
    let pending = s.pending_args(id, fence);
    for _ in 0..2 {
        if let Some(Outcome::CreatePendingWaitpoint(
            CreatePendingWaitpointResult::Created { tokens: issued, .. }
            | CreatePendingWaitpointResult::AlreadyExists { tokens: issued, .. },
        )) = write(pending.clone().into()).await
        {
            tokens.extend(issued.into_iter().map(|issued| issued.token));
        }
    }
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh_for(&["ann", "bob"])];
    let suspend = s.suspension(id, fence, bindings, ResumeCondition::signal("go"));
    let mut issued = Vec::new();
    for _ in 0..2 {
        if let Some(Outcome::SuspendExecution(SuspendExecutionResult::Suspended { waitpoints, .. })) =
            write(suspend.clone().into()).await
        {
            tokens.extend(waitpoints.iter().flat_map(|w| &w.tokens).map(|issued| issued.token.clone()));
            issued = waitpoints;
        }
    }
    for include_tokens in [false, true] {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).include_tokens(include_tokens).build();
        write(args.into()).await;
    }
    let good = s.signal(id, &issued[1], "noise");
    let with_token = |token: &WaitpointToken| {
        let mut args = s.signal(id, &issued[1], "noise");
        args.waitpoint_token = token.clone();
        args
    };
    // What stands in a token's place may be anything, a secret or half a token too.
    let expose = tokens[0].expose().to_owned();
    let hex: String = secrets[2].expose().iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [hex.clone(), format!("ffw1.{expose}"), format!("{expose}x"), expose[..expose.len() - 1].to_owned()] {
        let args = with_token(&WaitpointToken::new(text));
        assert_eq!(write(to_buffer(&args).into()).await, None);
        assert_eq!(write(args.into()).await, None);
    }
    let mut wrong_source = good.clone();
    wrong_source.source = human("eve");
    assert_eq!(write(wrong_source.into()).await, None);
    assert_eq!(write(to_buffer(&good).into()).await, None);
    assert!(write(good.clone().into()).await.is_some());
    assert!(write(good.clone().into()).await.is_some());
    assert_eq!(write(with_token(&tokens[0]).into()).await, None, "another waitpoint's");
    write(ListSignalsArgs::builder().execution_id(id).build().into()).await;
    write(s.signal(id, &issued[0], "go").into()).await;
    write(s.claim_args(1).into()).await;
    write(DescribeExecutionArgs { execution_id: id }.into()).await;
    write(s.resumption(id, Some(SuspensionId::new())).into()).await;
    write(ListWaitpointHmacKidsArgs { partition: PARTITION }.into()).await;
    write(s.revocation("hidden").into()).await;
    write(s.revocation("hidden2").into()).await;
    write(good.into()).await;
    write(SweepArgs::builder().partition(PARTITION).build().into()).await;
    write(RebuildIndexesArgs::builder().partition(PARTITION).build().into()).await;
    texts.push(format!("{:?}", s.view().await));

    assert!(tokens.len() >= 5, "two calls each were answered");
    for text in &texts {
        for token in &tokens {
            assert!(!text.contains(token.expose()), "{text}");
            let mac = token.expose().split('.').nth(2).unwrap_or_default();
            assert!(mac.len() == 43 && !text.contains(mac) && !text.contains(&mac[..16]), "{text}");
        }
        for secret in &secrets {
            assert!(!leaks(text, secret), "{text}");
        }
        assert!(!text.contains(&hex), "{text}");
    }
    // The checks can fail.
    let all: Kid = kid("hidden");
    assert!(texts.iter().any(|text| text.contains(all.as_str())));
    assert!(leaks(&format!("{:?}", secrets[0].expose()), &secrets[0]) && leaks(&hex, &secrets[2]));
}
