//! Keys as a process holds them.

use hmac::Mac;

use crate::canon::Digest;
use crate::contracts::SignalSource;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{ExecutionId, Kid, WaitpointId};
use crate::records::KidRecord;
use crate::time::TimestampMs;
use crate::token::text::{Parsed, claims_of, message};
use crate::token::{KidStatus, WaitpointSecret, WaitpointToken, kid_status};

/// A key that signs tokens: what [`mint`](crate::token::mint) uses, explicitly.
///
/// Within a partition a kid never changes its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name.
    pub kid: Kid,
    /// Its secret.
    pub secret: WaitpointSecret,
}

impl SigningKey {
    /// A key.
    #[must_use]
    pub const fn new(kid: Kid, secret: WaitpointSecret) -> Self {
        Self { kid, secret }
    }

    /// The token of one waitpoint of one execution under this key, bound to `source` if one is given.
    ///
    /// Deterministic: whoever has the secret can mint it again. A source whose fields are not names (1..=256 bytes)
    /// gives a token that [`verify`](crate::token::verify) calls malformed.
    #[must_use]
    pub fn mint(
        &self,
        execution_id: ExecutionId,
        waitpoint_id: WaitpointId,
        source: Option<&SignalSource>,
    ) -> WaitpointToken {
        mint_under(&self.kid, &self.secret, execution_id, waitpoint_id, source)
    }
}

fn mint_under(
    kid: &Kid,
    secret: &WaitpointSecret,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: Option<&SignalSource>,
) -> WaitpointToken {
    let message = message(kid, execution_id, waitpoint_id, &claims_of(source));
    let mac = secret.mac(&message).finalize().into_bytes().into();
    WaitpointToken::new(Parsed { kid: kid.clone(), mac, claims: source.cloned() }.write())
}

/// One key of a partition, as loaded from its keystore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKey {
    /// Its name.
    pub kid: Kid,
    /// Its secret.
    pub secret: WaitpointSecret,
    /// SHA-256 of the secret, as stored; [`PartitionKeys::check`] compares the two.
    pub digest: Digest,
    /// When its tokens expire; absent while it is current. In a process this is advice: the store decides at commit.
    pub expires_at: Option<TimestampMs>,
}

impl PartitionKey {
    /// A key with the digest of its secret.
    #[must_use]
    pub fn new(kid: Kid, secret: WaitpointSecret, expires_at: Option<TimestampMs>) -> Self {
        Self { kid, digest: secret.digest(), secret, expires_at }
    }

    /// The token of one waitpoint under this key, as [`SigningKey::mint`] makes it.
    #[must_use]
    pub fn mint(
        &self,
        execution_id: ExecutionId,
        waitpoint_id: WaitpointId,
        source: Option<&SignalSource>,
    ) -> WaitpointToken {
        mint_under(&self.kid, &self.secret, execution_id, waitpoint_id, source)
    }
}

/// The keys of one partition, read at once: the current, the verifying and the expired ones. Retired ones are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKeys {
    /// The partition. [`mint`](crate::token::mint) and [`verify`](crate::token::verify) serve ids of this partition
    /// only: partitions may share a kid and its secret, and keys of the one must not answer for the other.
    pub partition: u16,
    /// The kid that signs; none before the first rotation.
    pub current_kid: Option<Kid>,
    /// At most 16, each kid once.
    pub keys: Vec<PartitionKey>,
}

impl PartitionKeys {
    /// A partition without keys: it mints nothing and verifies nothing.
    #[must_use]
    pub const fn none(partition: u16) -> Self {
        Self { partition, current_kid: None, keys: Vec::new() }
    }

    /// The keys among a partition's records that are not retired at `now`, in the records' order.
    pub fn of<'a>(
        partition: u16,
        current_kid: Option<&Kid>,
        records: impl IntoIterator<Item = &'a KidRecord>,
        now: TimestampMs,
    ) -> Self {
        let live =
            |record: &&KidRecord| kid_status(Some(record), current_kid == Some(&record.kid), now) != KidStatus::Retired;
        let key = |record: &KidRecord| {
            let secret = record.secret.clone()?;
            Some(PartitionKey { kid: record.kid.clone(), secret, digest: record.digest, expires_at: record.expires_at })
        };
        let keys = records.into_iter().filter(live).filter_map(key).collect();
        Self { partition, current_kid: current_kid.cloned(), keys }
    }

    /// The key of that name.
    #[must_use]
    pub fn key(&self, kid: &Kid) -> Option<&PartitionKey> {
        self.keys.iter().find(|key| key.kid == *kid)
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> Option<&PartitionKey> {
        self.key(self.current_kid.as_ref()?)
    }

    /// Refuses keys that are not what the store says they are. To be asked once, when they are loaded.
    ///
    /// # Errors
    /// Corruption: a secret whose SHA-256 is not its stored digest, or a current kid without its secret.
    pub fn check(&self) -> Result<(), DecodeError> {
        let fault = |field: &str| DecodeError {
            record: "kid".to_owned(),
            field: field.to_owned(),
            cause: DecodeCause::IllegalState,
        };
        if self.keys.iter().any(|key| key.secret.digest() != key.digest) {
            return Err(fault("secret"));
        }
        if self.current_kid.is_some() && self.current().is_none() {
            return Err(fault("current_kid"));
        }
        Ok(())
    }
}
