//! The canonical byte form of arguments, and the digests over it.
//!
//! `canon(fields)` writes each field, in the order given, as its length (u32 big-endian) and its bytes; an absent
//! field is the length `0xFFFFFFFF` alone. Integers and booleans (`1`, `0`) are decimal text, ids their text form, an
//! enum its `snake_case` name and then its fields, a struct its fields, a list its count and then its elements, a set
//! or map its count and then its elements sorted by bytes. Two different argument lists never share a form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Collects canonical bytes, for a digest or as they are.
///
/// Long fields go to the hash directly, so a digest never copies a payload.
pub struct Canonical {
    buffer: Vec<u8>,
    hash: Option<Sha256>,
}

impl Canonical {
    fn hashing() -> Self {
        Self { buffer: Vec::with_capacity(512), hash: Some(Sha256::new()) }
    }

    /// The canonical bytes of what `write` puts in.
    #[must_use]
    pub fn bytes(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut out = Self { buffer: Vec::new(), hash: None };
        write(&mut out);
        out.buffer
    }

    /// One present field.
    pub fn field(&mut self, bytes: &[u8]) {
        // Every argument is bounded far below 4 GiB; a longer one could not have passed its check.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        match &mut self.hash {
            Some(hash) if bytes.len() > 256 => {
                hash.update(&self.buffer);
                self.buffer.clear();
                hash.update(bytes);
            }
            _ => self.buffer.extend_from_slice(bytes),
        }
    }

    /// One absent field.
    pub fn absent(&mut self) {
        self.buffer.extend_from_slice(&u32::MAX.to_be_bytes());
    }

    /// A value by its own canonical form.
    pub fn put<T: Canon + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.canon(self);
        self
    }

    /// An unsigned integer, in decimal.
    pub fn number(&mut self, mut n: u64) {
        let mut text = [0_u8; 20];
        let mut at = text.len();
        loop {
            at -= 1;
            text[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.field(&text[at..]);
    }

    fn finish(mut self) -> Digest {
        let mut hash = self.hash.take().unwrap_or_default();
        hash.update(&self.buffer);
        Digest(hash.finalize().into())
    }
}

/// A value with a canonical form.
pub trait Canon {
    /// Writes the fields of `self`, in order.
    fn canon(&self, out: &mut Canonical);
}

macro_rules! canon_unsigned {
    ($($t:ty),+) => { $(impl Canon for $t {
        fn canon(&self, out: &mut Canonical) { out.number(u64::from(*self)); }
    })+ };
}
canon_unsigned!(u8, u16, u32, u64);

impl Canon for i32 {
    fn canon(&self, out: &mut Canonical) {
        out.field(self.to_string().as_bytes());
    }
}

impl Canon for bool {
    fn canon(&self, out: &mut Canonical) {
        out.field(if *self { b"1" } else { b"0" });
    }
}

impl Canon for str {
    fn canon(&self, out: &mut Canonical) {
        out.field(self.as_bytes());
    }
}

impl Canon for String {
    fn canon(&self, out: &mut Canonical) {
        out.field(self.as_bytes());
    }
}

impl Canon for Bytes {
    fn canon(&self, out: &mut Canonical) {
        out.field(self);
    }
}

impl<T: Canon + ?Sized> Canon for &T {
    fn canon(&self, out: &mut Canonical) {
        (**self).canon(out);
    }
}

impl<T: Canon + ?Sized> Canon for Arc<T> {
    fn canon(&self, out: &mut Canonical) {
        (**self).canon(out);
    }
}

impl<T: Canon> Canon for Option<T> {
    fn canon(&self, out: &mut Canonical) {
        match self {
            Some(value) => value.canon(out),
            None => out.absent(),
        }
    }
}

impl<T: Canon> Canon for [T] {
    fn canon(&self, out: &mut Canonical) {
        out.number(self.len() as u64);
        for item in self {
            item.canon(out);
        }
    }
}

impl<T: Canon> Canon for Vec<T> {
    fn canon(&self, out: &mut Canonical) {
        self.as_slice().canon(out);
    }
}

// Ordered collections of our types iterate in byte order: names and texts compare by bytes.
impl<T: Canon> Canon for BTreeSet<T> {
    fn canon(&self, out: &mut Canonical) {
        out.number(self.len() as u64);
        for item in self {
            item.canon(out);
        }
    }
}

impl<K: Canon, V: Canon> Canon for BTreeMap<K, V> {
    fn canon(&self, out: &mut Canonical) {
        out.number(self.len() as u64);
        for (key, value) in self {
            key.canon(out);
            value.canon(out);
        }
    }
}

/// A SHA-256 digest; text form 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of an operation's arguments: SHA-256 over `canon("<operation>/1", fields)`.
    #[must_use]
    pub fn of(operation: &str, fields: impl FnOnce(&mut Canonical)) -> Self {
        let mut out = Canonical::hashing();
        let mut name = String::with_capacity(operation.len() + 2);
        name.push_str(operation);
        name.push_str("/1");
        out.field(name.as_bytes());
        fields(&mut out);
        out.finish()
    }

    /// SHA-256 of plain bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 lower-case hex digits; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a digest is 64 lower-case hex digits"))
    }
}

/// `u(bytes)`: FNV-1a 64 over the bytes, mod 2^53. The one pseudo-random function of the contract (placement, jitter).
#[must_use]
pub fn u(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash & ((1 << 53) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_vectors_of_the_contract() {
        let id = "e7_01890a5d-ac96-774b-bcce-b302099a8057";
        for (n, want) in [
            (0, 6_331_569_250_584_602),
            (1, 8_490_126_143_258_017),
            (2, 8_550_957_241_815_460),
            (10, 2_620_850_955_534_921),
        ] {
            assert_eq!(u(format!("{n}:{id}").as_bytes()), want, "n = {n}");
        }
    }

    #[test]
    fn absent_and_empty_differ_and_long_fields_hash_alike() {
        let absent = Canonical::bytes(Canonical::absent);
        let empty = Canonical::bytes(|c| c.field(b""));
        assert_ne!(absent, empty);
        assert_eq!(absent, [0xff; 4]);
        let long = vec![7_u8; 5000];
        let by_parts = Digest::of("op", |c| {
            c.put("a").put(&Bytes::from(long.clone())).put(&3_u64);
        });
        let whole = Canonical::bytes(|c| {
            c.put("op/1").put("a").put(&Bytes::from(long.clone())).put(&3_u64);
        });
        assert_eq!(by_parts, Digest::of_bytes(&whole));
    }
}
