//! Keys and the tokens that they sign.

use super::*; // the stage and the page

#[test]
fn a_partition_without_a_key_suspends_without_waitpoints_only() {
    let mut s = Stage::new();
    s.p.keystore = crate::model::Keystore::default();
    let args = s.suspension(1);
    assert_eq!(s.refused_suspend(&args), Details::HmacSecretNotInitialized {});
    assert_eq!(s.refused(|s| s.pending(1, 10)), Details::HmacSecretNotInitialized {});
    let mut args = args;
    args.waitpoints = Vec::new();
    args.resume_condition = ResumeCondition::operator_only();
    assert_eq!(s.suspend(&args), []);
    assert!(open(&s, true).is_empty());
    let args = s.signal(1, &WaitpointToken::new("ffw1.k1.x"), "go");
    assert_eq!(s.refused_signal(&args), Details::InvalidToken {});
}

#[test]
fn a_token_lives_as_long_as_its_kid() {
    const DAY: u64 = 86_400_000;
    let mut s = Stage::new();
    let rotate =
        |s: &mut Stage, kid: &str, byte| rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation(kid, byte));
    let old = s.suspend(&s.suspension(1)).remove(0);
    s.now = 2_000;
    rotate(&mut s, "k2", 2).unwrap();
    let refused_with = |s: &mut Stage| {
        let args = s.signal(1, &old, "noise");
        s.refused_signal(&args)
    };
    s.now = 2_000 + DAY - 1;
    s.send(1, &old, "noise").unwrap();
    s.now = 2_000 + DAY;
    assert_eq!(refused_with(&mut s), Details::TokenExpired {});
    assert!(
        list_waitpoint_hmac_kids(&s.p, at(s.now), &ListWaitpointHmacKidsArgs { partition: 0 })
            .unwrap()
            .verifying
            .is_empty()
    );
    assert_eq!(s.refused(|s| rotate(s, "k1", 1)), Details::KidRetired { revoked: false });
    assert_eq!(s.refused(|s| rotate(s, "k1", 9)), Details::RotationConflict { kid: kid("k1") });
    s.now = 2_000 + 2 * DAY;
    assert_eq!(refused_with(&mut s), Details::InvalidToken {});
    assert!(s.p.keystore.kids[&kid("k1")].secret.is_some());

    // The next rotation takes the secret; the clock that steps back does not bring the kid back.
    rotate(&mut s, "k3", 3).unwrap();
    assert!(s.p.keystore.kids[&kid("k1")].secret.is_none());
    s.now = 2_001;
    assert_eq!(refused_with(&mut s), Details::InvalidToken {});
    s.now = 2_000 + 2 * DAY;
    assert_eq!(s.refused(|s| rotate(s, "k1", 1)), Details::KidRetired { revoked: false });

    // The approval outlives its kid: the listing issues a token anew.
    let token = open(&s, true)[0].tokens[0].token.clone();
    assert_eq!(token.kid(), Some(kid("k3")));
    let revoke = |s: &mut Stage, of: &str| {
        revoke_waitpoint_kid(&mut s.p, at(s.now), &RevokeWaitpointKidArgs { partition: 0, kid: kid(of) })
    };
    assert_eq!(s.refused(|s| revoke(s, "k3")), Details::KidIsCurrent {});
    assert_eq!(s.refused(|s| revoke(s, "k9")), Details::KidNotFound {});
    rotate(&mut s, "k4", 4).unwrap();
    let before = s.p.clone();
    let repeat = rotate(&mut s, "k4", 4).unwrap();
    assert_eq!(repeat, RotateWaitpointHmacSecretOutcome::AlreadyCurrent { kid: kid("k4") });
    assert_eq!(before, s.p);
    assert_eq!(
        rotate(&mut s, "k3", 3).unwrap(),
        RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: Some(kid("k4")), new_kid: kid("k3") }
    );
    rotate(&mut s, "k5", 5).unwrap();
    assert_eq!(revoke(&mut s, "k4").unwrap(), RevokeWaitpointKidResult::Revoked { kid: kid("k4") });
    assert_eq!(revoke(&mut s, "k4").unwrap(), RevokeWaitpointKidResult::AlreadyRevoked { kid: kid("k4") });
    assert_eq!(s.refused(|s| rotate(s, "k4", 4)), Details::KidRetired { revoked: true });
    assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::ResumeConditionSatisfied);
}

#[test]
fn the_seventeenth_kid_with_a_secret_is_refused() {
    let mut s = Stage::new();
    for n in 2..=16 {
        rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation(&format!("k{n}"), n)).unwrap();
    }
    let refused = s.refused(|s| rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k17", 17)));
    assert_eq!(refused, Details::TooManyKids { scope: KidLimitScope::Live, max: 16 });
    let args = RevokeWaitpointKidArgs { partition: 0, kid: kid("k3") };
    revoke_waitpoint_kid(&mut s.p, at(s.now), &args).unwrap();
    rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k17", 17)).unwrap();
}
