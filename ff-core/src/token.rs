//! Waitpoint tokens: the bearer capability that lets its holder signal one waitpoint. `suspension.md`, section 1.
//!
//! A token is the MAC, under its partition's key, of one waitpoint of one execution and, if it is bound to one, of its
//! sender. [`mint`] makes it, [`verify`] judges it, and [`KidStatus`] decides, at the instant a signal is committed,
//! whether its key still counts. All three are pure; who loads the keys and when is a backend's own.
//!
//! ```
//! use ff_core::contracts::SignalSource;
//! use ff_core::ids::{ExecutionId, Kid, WaitpointId};
//! use ff_core::partition::PartitionConfig;
//! use ff_core::token::{self, PartitionKey, PartitionKeys, WaitpointSecret};
//!
//! let execution = ExecutionId::new(PartitionConfig::default());
//! let waitpoint = WaitpointId::new();
//! let kid = Kid::new("2026-06")?;
//! let mut keys = PartitionKeys::none(execution.partition());
//! keys.current_kid = Some(kid.clone());
//! keys.keys.push(PartitionKey::new(kid, WaitpointSecret::new([7; 32]), None));
//!
//! let zoe = SignalSource::new("human", "zoe@example.org");
//! let token = token::mint(&keys, execution, waitpoint, Some(&zoe))?;
//! let verified = token::verify(&keys, execution, waitpoint, &zoe, &token)?;
//! assert!(verified.source_bound());
//!
//! let eve = SignalSource::new("human", "eve@example.org");
//! let refusal = token::verify(&keys, execution, waitpoint, &eve, &token).unwrap_err();
//! assert_eq!(refusal.code().as_str(), "token_source_mismatch");
//! // A token shows itself to nobody who does not ask for it by name.
//! assert!(!format!("{token:?}").contains(token.expose()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::bounds::is_name;
use crate::canon::{Canonical, Digest};
use crate::contracts::SignalSource;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{ExecutionId, Kid, WaitpointId};
use crate::records::KidRecord;
use crate::refusal::Refusal;
use crate::time::TimestampMs;
use crate::word_enum;

/// The longest text of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 776;

/// How long a kid's tokens are told `token_expired` after its expiry, in milliseconds; from then on the kid is retired.
pub const EXPIRED_KID_MS: u64 = 24 * 60 * 60 * 1000;

const VERSION: &str = "ffw1";
const CONTEXT: &[u8] = b"ff/waitpoint-token/v1";

/// A signing secret: exactly 32 bytes, zeroised when dropped, never shown.
#[derive(Clone)]
pub struct WaitpointSecret(Zeroizing<[u8; 32]>);

impl WaitpointSecret {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From 64 hex digits of either case; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// The bytes: for signing, and for the store.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.expose())
    }
}

impl PartialEq for WaitpointSecret {
    fn eq(&self, other: &Self) -> bool {
        // Digests first, so that the time taken says nothing about the bytes.
        self.digest() == other.digest()
    }
}

impl Eq for WaitpointSecret {}

impl fmt::Debug for WaitpointSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitpointSecret(..)")
    }
}

impl Serialize for WaitpointSecret {
    /// Writes a fixed placeholder.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("<secret>")
    }
}

impl<'de> Deserialize<'de> for WaitpointSecret {
    /// Reads 64 hex digits.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a secret is 64 hex digits"))
    }
}

/// A waitpoint token, well formed or not: any text is held, and only [`verify`] judges it, so that every bad token ends
/// in one code.
///
/// Whoever has the text may signal the waitpoint, so it leaves through [`expose`](Self::expose) alone: `Debug` and
/// `Serialize` show its kid and a fingerprint. `Deserialize` reads the text. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitpointToken(Arc<str>);

impl WaitpointToken {
    /// Takes any text.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// The text: for the sender, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The kid that the token names; `None` if the token is malformed. It says nothing about the MAC.
    #[must_use]
    pub fn kid(&self) -> Option<Kid> {
        Parsed::of(&self.0).map(|parsed| parsed.kid)
    }

    /// The first 8 bytes of the text's SHA-256, as 16 hex digits: tells tokens apart in logs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(&Digest::of_bytes(self.0.as_bytes()).as_bytes()[..8])
    }
}

impl fmt::Debug for WaitpointToken {
    /// `<token kid=k1 fp=0123456789abcdef>`. The kid of a malformed token is `?`: what stands in its place may be
    /// anything, a secret too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kid = self.kid();
        write!(f, "<token kid={} fp={}>", kid.as_ref().map_or("?", Kid::as_str), self.fingerprint())
    }
}

impl Serialize for WaitpointToken {
    /// Writes what `Debug` writes.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for WaitpointToken {
    /// Reads any text.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self::new(std::borrow::Cow::<str>::deserialize(d)?))
    }
}

/// The parts of a well-formed text.
struct Parsed {
    kid: Kid,
    mac: [u8; 32],
    claims: Option<SignalSource>,
}

impl Parsed {
    fn of(text: &str) -> Option<Self> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut parts = text.split('.');
        if parts.next()? != VERSION {
            return None;
        }
        let kid = Kid::new(parts.next()?).ok()?;
        let mac = from_b64(parts.next()?)?.try_into().ok()?;
        let claims = match parts.next() {
            Some(part) => Some(parse_claims(&from_b64(part)?)?),
            None => None,
        };
        let parsed = Self { kid, mac, claims };
        // The parts were read strictly; this is the rule itself, so that no second spelling can slip in by them.
        (parts.next().is_none() && parsed.write() == text).then_some(parsed)
    }

    fn write(&self) -> String {
        let mut text = format!("{VERSION}.{}.{}", self.kid, BASE64URL_NOPAD.encode(&self.mac));
        if let Some(source) = &self.claims {
            text.push('.');
            BASE64URL_NOPAD.encode_append(&claims_of(Some(source)), &mut text);
        }
        text
    }
}

fn from_b64(part: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(part.as_bytes()).ok()
}

/// `field(source_type) || field(source_identity)`, or nothing.
fn claims_of(source: Option<&SignalSource>) -> Vec<u8> {
    Canonical::bytes(|c| {
        if let Some(source) = source {
            c.put(source);
        }
    })
}

/// Exactly two fields, each a name.
fn parse_claims(bytes: &[u8]) -> Option<SignalSource> {
    fn field(bytes: &[u8]) -> Option<(&str, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some((std::str::from_utf8(text).ok().filter(|text| is_name(text))?, rest))
    }
    let (source_type, rest) = field(bytes)?;
    let (source_identity, rest) = field(rest)?;
    rest.is_empty().then(|| SignalSource::new(source_type, source_identity))
}

/// What is signed. The partition and the uuids are those of the ids, never of a display text.
fn message(kid: &Kid, execution_id: ExecutionId, waitpoint_id: WaitpointId, claims: &[u8]) -> Vec<u8> {
    Canonical::bytes(|c| {
        c.field(CONTEXT);
        c.field(kid.as_str().as_bytes());
        c.field(&execution_id.partition().to_be_bytes());
        c.field(execution_id.uuid().as_bytes());
        c.field(waitpoint_id.uuid().as_bytes());
        c.field(claims);
    })
}

fn hmac(secret: &WaitpointSecret, message: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("HMAC takes keys of any length");
    hmac.update(message);
    hmac
}

/// A key that signs tokens: what [`mint`] uses, explicitly.
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
    /// gives a token that [`verify`] calls malformed.
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
    let mac = hmac(secret, &message).finalize().into_bytes().into();
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
    /// The partition. [`mint`] and [`verify`] serve ids of this partition only: partitions may share a kid and its
    /// secret, and keys of the one must not answer for the other.
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
            record: "keystore".to_owned(),
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

/// The token of one waitpoint under its partition's current kid, bound to `source` if one is given.
///
/// A waitpoint with declared sources gets one token bound to each and no unbound one; else one unbound token.
///
/// # Errors
/// `hmac_secret_not_initialized` when `keys` has no current key, or belongs to another partition.
pub fn mint(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: Option<&SignalSource>,
) -> Result<WaitpointToken, Refusal> {
    let key = keys.current().filter(|_| keys.partition == execution_id.partition());
    Ok(key.ok_or_else(Refusal::hmac_secret_not_initialized)?.mint(execution_id, waitpoint_id, source))
}

word_enum! {
    /// Why a token was not verified: for a process's own counters, and to know when a load of keys may help. A caller
    /// is told less: the first three are one refusal.
    pub enum TokenFault {
        /// Not a token's one spelling.
        Malformed = "malformed",
        /// Its kid is not among the keys; a load may find it.
        UnknownKid = "unknown_kid",
        /// Its MAC is another one.
        WrongMac = "wrong_mac",
        /// It is good, but bound to another source than the call's.
        SourceMismatch = "source_mismatch",
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Malformed | TokenFault::UnknownKid | TokenFault::WrongMac => Self::invalid_token(),
            TokenFault::SourceMismatch => Self::token_source_mismatch(),
        }
    }
}

/// Proof that a token was verified for one waitpoint of one execution.
///
/// Only [`verify`] (and [`verify_or_fault`], which is the same) makes one, and it can be neither copied nor read from
/// anywhere. The step that commits a signal takes addresses and kid from it alone.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    kid: Kid,
    source_bound: bool,
}

impl VerifiedToken {
    /// The execution.
    #[must_use]
    pub const fn execution_id(&self) -> ExecutionId {
        self.execution_id
    }

    /// The waitpoint.
    #[must_use]
    pub const fn waitpoint_id(&self) -> WaitpointId {
        self.waitpoint_id
    }

    /// The key that signed. Whether it still counts is decided at commit, by [`kid_status`].
    #[must_use]
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Whether the token is bound to the call's source.
    #[must_use]
    pub const fn source_bound(&self) -> bool {
        self.source_bound
    }
}

/// Judges a token: well formed, its kid among `keys`, its MAC that of this waitpoint of this execution, and its claims,
/// if it has any, the call's source. Pure; the MAC is compared in constant time.
///
/// # Errors
/// `invalid_token` for a malformed token, an unknown kid and a wrong MAC alike, and for keys of another partition;
/// `token_source_mismatch` for a good token of another source.
pub fn verify(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: &SignalSource,
    token: &WaitpointToken,
) -> Result<VerifiedToken, Refusal> {
    Ok(verify_or_fault(keys, execution_id, waitpoint_id, source, token)?)
}

/// [`verify`], telling the faults apart: for whoever keeps the keys, never for the caller.
///
/// # Errors
/// The first fault in `verify`'s order.
pub fn verify_or_fault(
    keys: &PartitionKeys,
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    source: &SignalSource,
    token: &WaitpointToken,
) -> Result<VerifiedToken, TokenFault> {
    let Parsed { kid, mac, claims } = Parsed::of(token.expose()).ok_or(TokenFault::Malformed)?;
    let key = keys.key(&kid).filter(|_| keys.partition == execution_id.partition()).ok_or(TokenFault::UnknownKid)?;
    let message = message(&kid, execution_id, waitpoint_id, &claims_of(claims.as_ref()));
    hmac(&key.secret, &message).verify_slice(&mac).map_err(|_| TokenFault::WrongMac)?;
    if claims.as_ref().is_some_and(|claims| claims != source) {
        return Err(TokenFault::SourceMismatch);
    }
    Ok(VerifiedToken { execution_id, waitpoint_id, kid, source_bound: claims.is_some() })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_a() -> WaitpointSecret {
        WaitpointSecret::new(std::array::from_fn(|i| u8::try_from(i).expect("small")))
    }

    #[test]
    fn the_vectors_of_the_contract() {
        let execution = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        let waitpoint = "01890a5d-ac97-7d21-9c03-d1e2f3a4b5c6".parse().expect("an id");
        let key = SigningKey::new(Kid::new("k1").expect("a kid"), secret_a());
        let token = key.mint(execution, waitpoint, None);
        assert_eq!(token.expose(), "ffw1.k1.DIG2tQ_uATdUr7o0TwMESAXriICNio7JweQO7_62toE");
    }
}
