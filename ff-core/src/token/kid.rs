//! What a kid is worth, decided by the store's clock at the instant a signal is committed.

use crate::records::KidRecord;
use crate::refusal::Refusal;
use crate::time::TimestampMs;
use crate::word_enum;

/// How long a kid's tokens are told `token_expired` after its expiry, in milliseconds; from then on the kid is retired.
pub const EXPIRED_KID_MS: u64 = 24 * 60 * 60 * 1000;

word_enum! {
    /// What a kid is worth, by the store's clock.
    pub enum KidStatus {
        /// It is the partition's current one: signs and verifies.
        Current = "current",
        /// It was demoted; its tokens still pass.
        Verifying = "verifying",
        /// Its grace is over, since less than 24 h.
        Expired = "expired",
        /// Expired for longer, or revoked, or never installed.
        Retired = "retired",
    }
}

impl KidStatus {
    /// Lets a token of this kid in, at commit.
    ///
    /// # Errors
    /// `token_expired` when expired, `invalid_token` when retired.
    pub fn admit(self) -> Result<(), Refusal> {
        match self {
            Self::Current | Self::Verifying => Ok(()),
            Self::Expired => Err(Refusal::token_expired()),
            Self::Retired => Err(Refusal::invalid_token()),
        }
    }
}

/// What a kid is worth at `now`: `record` is what the partition's keystore has under its name, `is_current` whether it
/// is the partition's current kid.
///
/// A kid without its secret is retired whatever the clock says: the secret went when it was retired, and what has been
/// done stays done when the clock steps back. So is one that is neither current nor about to expire, which no
/// operation leaves behind.
#[must_use]
pub fn kid_status(record: Option<&KidRecord>, is_current: bool, now: TimestampMs) -> KidStatus {
    let Some(record) = record.filter(|record| record.revoked_at.is_none() && record.secret.is_some()) else {
        return KidStatus::Retired;
    };
    match record.expires_at {
        _ if is_current => KidStatus::Current,
        Some(expires_at) if now < expires_at => KidStatus::Verifying,
        Some(expires_at) if now < expires_at.after(EXPIRED_KID_MS) => KidStatus::Expired,
        _ => KidStatus::Retired,
    }
}
