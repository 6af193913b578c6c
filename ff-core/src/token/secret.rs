//! The secrets that sign.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::canon::Digest;

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

impl WaitpointSecret {
    /// The MAC of a message, on its way.
    pub(super) fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut hmac = Hmac::<Sha256>::new_from_slice(self.expose()).expect("HMAC takes keys of any length");
        hmac.update(message);
        hmac
    }
}
