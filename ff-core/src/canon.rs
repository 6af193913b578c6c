//! The canonical byte form of arguments, and the digests over it.
//!
//! `canon(fields)` writes each field, in the order given, as its length (u32 big-endian) and its bytes; an absent
//! field is the length `0xFFFFFFFF` alone. Integers and booleans (`1`, `0`) are decimal text, ids their text form, an
//! enum its `snake_case` name and then its fields, a struct its fields, a list its count and then its elements, a set
//! or map its count and then its elements sorted by bytes. Two different argument lists never share a form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Collects canonical bytes, for a digest or as they are.
///
/// Long fields go to the hash directly, so a digest never copies a payload.
pub struct Canonical {
    buffer: Vec<u8>,
    sink: Sink,
}

/// Where long fields go.
enum Sink {
    /// To the buffer.
    Bytes,
    /// To the hash, behind what the buffer holds.
    Hash(Sha256),
    /// Aside, each with its place in the buffer: they are hashed when somebody asks.
    Aside(Vec<(usize, Bytes)>),
}

impl Canonical {
    fn new(sink: Sink) -> Self {
        Self { buffer: Vec::with_capacity(512), sink }
    }

    /// The canonical bytes of what `write` puts in.
    #[must_use]
    pub fn bytes(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut out = Self { buffer: Vec::new(), sink: Sink::Bytes };
        write(&mut out);
        out.buffer
    }

    /// The name of an operation, as a digest of its arguments begins.
    fn operation(&mut self, name: &str) {
        let length = u32::try_from(name.len() + 2).unwrap_or(u32::MAX - 1);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.extend_from_slice(b"/1");
    }

    /// One present field.
    pub fn field(&mut self, bytes: &[u8]) {
        // Every argument is bounded far below 4 GiB; a longer one could not have passed its check.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        match &mut self.sink {
            Sink::Hash(hash) if bytes.len() > 256 => {
                hash.update(&self.buffer);
                self.buffer.clear();
                hash.update(bytes);
            }
            _ => self.buffer.extend_from_slice(bytes),
        }
    }

    /// One present field whose bytes can be shared.
    fn shared(&mut self, bytes: &Bytes) {
        match &mut self.sink {
            Sink::Aside(parts) if bytes.len() >= LazyDigest::LONG => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
                self.buffer.extend_from_slice(&length.to_be_bytes());
                parts.push((self.buffer.len(), bytes.clone()));
            }
            _ => self.field(bytes),
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

    fn finish(self) -> Digest {
        match self.sink {
            Sink::Hash(mut hash) => {
                hash.update(&self.buffer);
                Digest(hash.finalize().into())
            }
            Sink::Bytes => Digest::of_bytes(&self.buffer),
            Sink::Aside(parts) => digest_of(&self.buffer, &parts),
        }
    }
}

/// The digest of a buffer with its parts put where they belong.
fn digest_of(buffer: &[u8], parts: &[(usize, Bytes)]) -> Digest {
    let mut hash = Sha256::new();
    let mut from = 0;
    for (place, part) in parts {
        hash.update(&buffer[from..*place]);
        hash.update(part);
        from = *place;
    }
    hash.update(&buffer[from..]);
    Digest(hash.finalize().into())
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
        out.shared(self);
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
        let mut out = Canonical::new(Sink::Hash(Sha256::new()));
        out.operation(operation);
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

/// A digest that is computed when somebody asks for it, if what it is of is long.
///
/// A creation's digest is compared only when its id or key is met again; until then the bytes that are kept anyway need
/// not be hashed. Short content is hashed at once. Equality, debug text and JSON are those of the digest.
#[derive(Clone)]
pub struct LazyDigest(Lazy);

#[derive(Clone)]
enum Lazy {
    Known(Digest),
    Later(Arc<Later>),
}

struct Later {
    buffer: Box<[u8]>,
    parts: Vec<(usize, Bytes)>,
    digest: OnceLock<Digest>,
}

impl LazyDigest {
    /// Shared bytes from this length on, in bytes, are hashed later.
    const LONG: usize = 1024;

    /// As [`Digest::of`].
    #[must_use]
    pub fn of(operation: &str, fields: impl FnOnce(&mut Canonical)) -> Self {
        let mut out = Canonical::new(Sink::Aside(Vec::new()));
        out.operation(operation);
        fields(&mut out);
        match out.sink {
            Sink::Aside(parts) if !parts.is_empty() => {
                let later = Later { buffer: out.buffer.into_boxed_slice(), parts, digest: OnceLock::new() };
                Self(Lazy::Later(Arc::new(later)))
            }
            _ => Self(Lazy::Known(out.finish())),
        }
    }

    /// The digest.
    #[must_use]
    pub fn get(&self) -> Digest {
        match &self.0 {
            Lazy::Known(digest) => *digest,
            Lazy::Later(later) => *later.digest.get_or_init(|| digest_of(&later.buffer, &later.parts)),
        }
    }
}

impl From<Digest> for LazyDigest {
    fn from(digest: Digest) -> Self {
        Self(Lazy::Known(digest))
    }
}

impl PartialEq for LazyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for LazyDigest {}

impl fmt::Debug for LazyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Serialize for LazyDigest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(s)
    }
}

impl<'de> Deserialize<'de> for LazyDigest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Digest::deserialize(d).map(Self::from)
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

    #[test]
    fn a_digest_computed_later_is_the_same() {
        for length in [0, 1, 255, 256, 257, LazyDigest::LONG - 1, LazyDigest::LONG, 5000] {
            let (first, second) = (Bytes::from(vec![7_u8; length]), Bytes::from(vec![8_u8; length]));
            let fields = |c: &mut Canonical| {
                c.put("a").put(&first).put(&3_u64).put(&second).put(&None::<Bytes>);
            };
            let later = LazyDigest::of("op", fields);
            let want = Digest::of("op", fields);
            assert_eq!(later.get(), want, "of {length} bytes");
            assert_eq!(later, LazyDigest::from(want), "of {length} bytes");
            assert_ne!(later, LazyDigest::of("op", |c| c.field(b"other")), "of {length} bytes");
            assert_eq!(serde_json::to_string(&later).expect("JSON"), serde_json::to_string(&want).expect("JSON"));
        }
    }
}
