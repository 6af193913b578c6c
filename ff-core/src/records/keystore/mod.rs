//! The keystore of a partition: `suspension.md`, section 8.

mod codec;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::canon::Digest;
use crate::ids::Kid;
use crate::time::TimestampMs;
use crate::token::WaitpointSecret;

/// One signing key, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KidRecord {
    /// The partition.
    pub partition: u16,
    /// Its name.
    pub kid: Kid,
    /// SHA-256 of the secret; never removed.
    pub digest: Digest,
    /// When it was first installed.
    pub installed_at: TimestampMs,
    /// The secret; removed by revocation, or by the first rotation 24 h after `expires_at`.
    pub secret: Option<WaitpointSecret>,
    /// When its tokens expire; absent while current.
    pub expires_at: Option<TimestampMs>,
    /// When it was revoked.
    pub revoked_at: Option<TimestampMs>,
}
