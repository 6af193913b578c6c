//! Domain keystore: `suspension.md`, section 6. Keys lie in the partition itself: there is no cache, and so neither a
//! stale kid nor a busy keystore.

use ff_core::contracts::{
    KidLimitScope, ListWaitpointHmacKidsArgs, MAX_KIDS, MAX_LIVE_KIDS, RevokeWaitpointKidArgs,
    RevokeWaitpointKidResult, RotateWaitpointHmacSecretArgs, RotateWaitpointHmacSecretOutcome, WaitpointHmacKids,
};
use ff_core::error::EngineError;
use ff_core::ids::Kid;
use ff_core::records::KidRecord;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;
use ff_core::token::{KidStatus, PartitionKey, PartitionKeys, kid_status};

use crate::model::{Keystore, Partition};

/// The keys of a partition that judge a token of this kid: its own, unless it is retired.
pub(crate) fn keys_of(p: &Partition, kid: Option<&Kid>, now: TimestampMs) -> PartitionKeys {
    let keystore = &p.keystore;
    let record = kid.and_then(|kid| keystore.kids.get(kid));
    PartitionKeys::of(p.number(), keystore.current_kid.as_ref(), record, now)
}

/// The key that signs.
///
/// # Errors
/// `hmac_secret_not_initialized`.
pub(crate) fn signing_key(p: &Partition, now: TimestampMs) -> Result<PartitionKey, Refusal> {
    let keys = keys_of(p, p.keystore.current_kid.as_ref(), now);
    keys.current().cloned().ok_or_else(Refusal::hmac_secret_not_initialized)
}

/// What a kid is worth now.
pub(crate) fn status_of(keystore: &Keystore, kid: &Kid, now: TimestampMs) -> KidStatus {
    kid_status(keystore.kids.get(kid), keystore.current_kid.as_ref() == Some(kid), now)
}

/// Makes a kid the current one.
///
/// # Errors
/// `rotation_conflict`, `kid_retired`, `too_many_kids`.
pub fn rotate_waitpoint_hmac_secret(
    p: &mut Partition,
    now: TimestampMs,
    args: &RotateWaitpointHmacSecretArgs,
) -> Result<RotateWaitpointHmacSecretOutcome, EngineError> {
    let keystore = &mut p.keystore;
    let kid = &args.new_kid;
    let digest = args.new_secret.digest();
    let status = status_of(keystore, kid, now);
    let known = keystore.kids.get(kid);
    if let Some(record) = known {
        if record.digest != digest {
            return Err(Refusal::rotation_conflict(kid.clone()).into());
        }
        match status {
            KidStatus::Current => return Ok(RotateWaitpointHmacSecretOutcome::AlreadyCurrent { kid: kid.clone() }),
            KidStatus::Verifying => {}
            KidStatus::Expired | KidStatus::Retired => {
                return Err(Refusal::kid_retired(record.revoked_at.is_some()).into());
            }
        }
    }
    let new = usize::from(known.is_none());
    // Who keeps a secret: whoever this rotation does not find retired by age.
    let live = keystore.kids.keys().filter(|kid| status_of(keystore, kid, now) != KidStatus::Retired).count();
    if live + new > MAX_LIVE_KIDS {
        return Err(Refusal::too_many_kids(KidLimitScope::Live, MAX_LIVE_KIDS as u64).into());
    }
    if keystore.kids.len() + new > MAX_KIDS {
        return Err(Refusal::too_many_kids(KidLimitScope::Ever, MAX_KIDS as u64).into());
    }

    let current = keystore.current_kid.take();
    for record in keystore.kids.values_mut() {
        let is_current = current.as_ref() == Some(&record.kid);
        if kid_status(Some(record), is_current, now) == KidStatus::Retired {
            record.secret = None;
        }
        if is_current {
            record.expires_at = Some(now.after(args.grace_ms));
        }
    }
    let record = keystore.kids.entry(kid.clone()).or_insert_with(|| KidRecord {
        partition: args.partition,
        kid: kid.clone(),
        digest,
        installed_at: now,
        secret: Some(args.new_secret.clone()),
        expires_at: None,
        revoked_at: None,
    });
    record.expires_at = None;
    keystore.current_kid = Some(kid.clone());
    Ok(RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: current, new_kid: kid.clone() })
}

/// Withdraws a kid at once and for ever.
///
/// # Errors
/// `kid_not_found`, `kid_is_current`.
pub fn revoke_waitpoint_kid(
    p: &mut Partition,
    now: TimestampMs,
    args: &RevokeWaitpointKidArgs,
) -> Result<RevokeWaitpointKidResult, EngineError> {
    let keystore = &mut p.keystore;
    let kid = args.kid.clone();
    let record = keystore.kids.get_mut(&kid).ok_or_else(Refusal::kid_not_found)?;
    if keystore.current_kid.as_ref() == Some(&kid) {
        return Err(Refusal::kid_is_current().into());
    }
    if record.revoked_at.is_some() {
        return Ok(RevokeWaitpointKidResult::AlreadyRevoked { kid });
    }
    record.secret = None;
    record.revoked_at = Some(now);
    Ok(RevokeWaitpointKidResult::Revoked { kid })
}

/// The kids whose tokens pass.
///
/// # Errors
/// None of its own.
pub fn list_waitpoint_hmac_kids(
    p: &Partition,
    now: TimestampMs,
    _: &ListWaitpointHmacKidsArgs,
) -> Result<WaitpointHmacKids, EngineError> {
    Ok(WaitpointHmacKids::of(p.keystore.current_kid.as_ref(), p.keystore.kids.values(), now))
}
