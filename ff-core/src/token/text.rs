//! The text of a token, and what is signed.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounds::is_name;
use crate::canon::{Canonical, Digest};
use crate::contracts::SignalSource;
use crate::ids::{ExecutionId, Kid, WaitpointId};

/// The longest text of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 776;

const VERSION: &str = "ffw1";
const CONTEXT: &[u8] = b"ff/waitpoint-token/v1";

/// A waitpoint token, well formed or not: any text is held, and only [`verify`](crate::token::verify) judges it, so that
/// every bad token ends in one code.
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
pub(super) struct Parsed {
    pub(super) kid: Kid,
    pub(super) mac: [u8; 32],
    pub(super) claims: Option<SignalSource>,
}

impl Parsed {
    pub(super) fn of(text: &str) -> Option<Self> {
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

    pub(super) fn write(&self) -> String {
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
pub(super) fn claims_of(source: Option<&SignalSource>) -> Vec<u8> {
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
pub(super) fn message(kid: &Kid, execution_id: ExecutionId, waitpoint_id: WaitpointId, claims: &[u8]) -> Vec<u8> {
    Canonical::bytes(|c| {
        c.field(CONTEXT);
        c.field(kid.as_str().as_bytes());
        c.field(&execution_id.partition().to_be_bytes());
        c.field(execution_id.uuid().as_bytes());
        c.field(waitpoint_id.uuid().as_bytes());
        c.field(claims);
    })
}
