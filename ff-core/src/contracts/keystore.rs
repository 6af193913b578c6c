//! Domain keystore: `suspension.md`, section 6.

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::Kid;
use crate::records::KidRecord;
use crate::refusal::Refusal;
use crate::time::TimestampMs;
use crate::token::{KidStatus, WaitpointSecret, kid_status};
use crate::word_enum;

/// Kids of one partition that hold a secret.
pub const MAX_LIVE_KIDS: usize = 16;
/// Kids that one partition ever installs.
pub const MAX_KIDS: usize = 10_000;

word_enum! {
    /// Which bound on kids.
    pub enum KidLimitScope {
        /// 16 that hold a secret.
        Live = "live",
        /// 10,000 that ever existed.
        Ever = "ever",
    }
}

/// Arguments of `rotate_waitpoint_hmac_secret`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RotateWaitpointHmacSecretArgs {
    /// The partition; callers fan out.
    pub partition: u16,
    /// The kid that shall be the current one.
    pub new_kid: Kid,
    /// Its secret. Two deployments must not share one: nothing else in a token tells them apart.
    pub new_secret: WaitpointSecret,
    /// How long the tokens of the kid current so far still pass, in milliseconds: `60_000..=366 days`; a day.
    #[serde(default = "RotateWaitpointHmacSecretArgs::default_grace_ms")]
    #[builder(default = RotateWaitpointHmacSecretArgs::default_grace_ms())]
    pub grace_ms: u64,
}

impl RotateWaitpointHmacSecretArgs {
    /// The shortest `grace_ms`: a minute.
    pub const MIN_GRACE_MS: u64 = 60_000;

    const fn default_grace_ms() -> u64 {
        86_400_000
    }
}

impl CheckArgs for RotateWaitpointHmacSecretArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)?;
        bounds::duration("grace_ms", self.grace_ms, Self::MIN_GRACE_MS)
    }
}

/// Result of `rotate_waitpoint_hmac_secret`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotateWaitpointHmacSecretOutcome {
    /// The kid is the current one now.
    Rotated {
        /// The one before, which verifies for its grace; none at first.
        previous_kid: Option<Kid>,
        /// The current one.
        new_kid: Kid,
    },
    /// It was the current one, with this secret: a repeat.
    AlreadyCurrent {
        /// The kid.
        kid: Kid,
    },
}

/// Result of `rotate_waitpoint_hmac_secret`, by the name of the operation.
pub type RotateWaitpointHmacSecretResult = RotateWaitpointHmacSecretOutcome;

/// Arguments of `revoke_waitpoint_kid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeWaitpointKidArgs {
    /// The partition; callers fan out.
    pub partition: u16,
    /// The kid whose tokens shall never pass again.
    pub kid: Kid,
}

impl CheckArgs for RevokeWaitpointKidArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)
    }
}

/// Result of `revoke_waitpoint_kid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeWaitpointKidResult {
    /// Its secret is gone, and its tokens are invalid for ever.
    Revoked {
        /// The kid.
        kid: Kid,
    },
    /// It was revoked before: a repeat.
    AlreadyRevoked {
        /// The kid.
        kid: Kid,
    },
}

/// Arguments of `list_waitpoint_hmac_kids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListWaitpointHmacKidsArgs {
    /// The partition.
    pub partition: u16,
}

impl CheckArgs for ListWaitpointHmacKidsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.partition)
    }
}

/// A kid that was demoted and whose tokens still pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyingKid {
    /// Its name.
    pub kid: Kid,
    /// When its tokens expire.
    pub expires_at: TimestampMs,
    /// When it was first installed.
    pub installed_at: TimestampMs,
}

/// The kids of a partition whose tokens pass; never a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitpointHmacKids {
    /// The one that signs; none before the first rotation.
    pub current_kid: Option<Kid>,
    /// The others, by expiry, then kid.
    pub verifying: Vec<VerifyingKid>,
}

impl VerifyingKid {
    /// For backends: a kid that verifies until `expires_at`.
    #[must_use]
    pub const fn new(kid: Kid, expires_at: TimestampMs, installed_at: TimestampMs) -> Self {
        Self { kid, expires_at, installed_at }
    }
}

impl WaitpointHmacKids {
    /// For backends: the kids of one partition; brings the verifying ones into their order.
    #[must_use]
    pub fn new(current_kid: Option<Kid>, mut verifying: Vec<VerifyingKid>) -> Self {
        verifying.sort_by(|a, b| (a.expires_at, &a.kid).cmp(&(b.expires_at, &b.kid)));
        Self { current_kid, verifying }
    }

    /// The kids among a partition's records that are not expired at `now`.
    pub fn of<'a>(
        current_kid: Option<&Kid>,
        records: impl IntoIterator<Item = &'a KidRecord>,
        now: TimestampMs,
    ) -> Self {
        let verifying = |record: &KidRecord| {
            let status = kid_status(Some(record), current_kid == Some(&record.kid), now);
            let expires_at = record.expires_at.filter(|_| status == KidStatus::Verifying)?;
            Some(VerifyingKid { kid: record.kid.clone(), expires_at, installed_at: record.installed_at })
        };
        Self::new(current_kid.cloned(), records.into_iter().filter_map(verifying).collect())
    }
}

/// Result of `list_waitpoint_hmac_kids`, by the name of the operation.
pub type ListWaitpointHmacKidsResult = WaitpointHmacKids;
