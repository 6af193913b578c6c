//! The flat form of a kid: `resources.md`, section 6.

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::KidRecord;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::Kid;
use crate::records::flat::{FlatMap, Reader, Registry, Writer};
use crate::token::WaitpointSecret;

/// 64 lower-case hex digits.
fn read_secret(bytes: &[u8]) -> Result<WaitpointSecret, DecodeCause> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeCause::NotUtf8)?;
    let one_form = !text.bytes().any(|b| b.is_ascii_uppercase());
    WaitpointSecret::from_hex(text).filter(|_| one_form).ok_or(DecodeCause::UnknownValue)
}

impl KidRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "kid",
        fields: &["partition", "kid", "digest", "installed_at", "secret", "expires_at", "revoked_at"],
        prefixes: &[],
    };

    /// The flat form: for the store alone, since it has the secret in plain text. It must not be logged or shown.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("partition", &self.partition)
            .put("kid", &self.kid)
            .put("digest", &self.digest)
            .put("installed_at", &self.installed_at);
        if let Some(secret) = &self.secret {
            out.raw("secret", Bytes::from(HEXLOWER.encode(secret.expose())));
        }
        out.put_opt("expires_at", self.expires_at.as_ref()).put_opt("revoked_at", self.revoked_at.as_ref());
        out.finish()
    }

    /// Reads the flat form of this kid of this partition.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(partition: u16, kid: &Kid, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<u16>("partition")? == partition, "partition")?;
        reader.same_id(reader.get::<Kid>("kid")? == *kid, "kid")?;
        let digest = reader.get("digest")?;
        let installed_at = reader.get("installed_at")?;
        let secret = reader.with_opt("secret", read_secret)?;
        let expires_at = reader.get_opt("expires_at")?;
        let revoked_at = reader.get_opt("revoked_at")?;

        reader.ensure(secret.as_ref().is_none_or(|secret| secret.digest() == digest), "secret")?;
        reader.ensure(secret.is_none() || revoked_at.is_none(), "secret")?;
        Ok(Self { partition, kid: kid.clone(), digest, installed_at, secret, expires_at, revoked_at })
    }
}
