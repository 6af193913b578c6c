//! The flat form of stored records: field name to bytes, read strictly and written in one way.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounds;
use crate::canon::Digest;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{
    AttemptId, AttemptIndex, BudgetId, DataName, Dimension, EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseEpoch,
    LeaseId, Namespace, QuotaPolicyId, SignalId, SuspensionId, WaitpointId, WorkerId, WorkerInstanceId,
};
use crate::time::{MAX_SAFE_INTEGER, TimestampMs};

/// The version that this code writes: `major.minor`.
pub const VERSION: &str = "1.0";
const MAJOR: u64 = 1;
const MINOR: u64 = 0;

/// A stored record as a map of field name to bytes.
pub type FlatMap = BTreeMap<String, Bytes>;

/// A value with exactly one text form in a field.
pub trait Field: Sized {
    /// Reads the one form, and nothing else.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause>;
    /// Writes it.
    fn write(&self) -> Bytes;
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeCause> {
    std::str::from_utf8(bytes).map_err(|_| DecodeCause::NotUtf8)
}

/// `0`, or a digit 1-9 and further digits; up to 2^53-1.
///
/// # Errors
/// `not_utf8`, `not_a_number`, `out_of_range`.
pub fn read_number(bytes: &[u8]) -> Result<u64, DecodeCause> {
    let text = utf8(bytes)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0')) {
        return Err(DecodeCause::NotANumber);
    }
    match text.parse::<u64>() {
        Ok(n) if n <= MAX_SAFE_INTEGER => Ok(n),
        _ => Err(DecodeCause::OutOfRange),
    }
}

impl Field for u64 {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        read_number(bytes)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl Field for u32 {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        Self::try_from(read_number(bytes)?).map_err(|_| DecodeCause::OutOfRange)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl Field for u16 {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        Self::try_from(read_number(bytes)?).map_err(|_| DecodeCause::OutOfRange)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl Field for u8 {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        Self::try_from(read_number(bytes)?).map_err(|_| DecodeCause::OutOfRange)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl Field for i32 {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        let text = utf8(bytes)?;
        let number = match text.strip_prefix('-') {
            Some(digits) => match read_number(digits.as_bytes())? {
                0 => return Err(DecodeCause::NotANumber),
                n => i64::try_from(n).map(|n| -n),
            },
            None => i64::try_from(read_number(bytes)?),
        };
        number.ok().and_then(|n| Self::try_from(n).ok()).ok_or(DecodeCause::OutOfRange)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

impl Field for bool {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        match bytes {
            b"1" => Ok(true),
            b"0" => Ok(false),
            _ => Err(DecodeCause::UnknownValue),
        }
    }
    fn write(&self) -> Bytes {
        Bytes::from_static(if *self { b"1" } else { b"0" })
    }
}

impl Field for TimestampMs {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        Self::new(read_number(bytes)?).ok_or(DecodeCause::OutOfRange)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.as_millis().to_string())
    }
}

impl Field for AttemptIndex {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        u32::read(bytes).map(Self)
    }
    fn write(&self) -> Bytes {
        self.0.write()
    }
}

impl Field for LeaseEpoch {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        u64::read(bytes).map(Self)
    }
    fn write(&self) -> Bytes {
        self.0.write()
    }
}

impl Field for Digest {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        Self::from_hex(utf8(bytes)?).ok_or(DecodeCause::UnknownValue)
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_hex())
    }
}

macro_rules! id_fields {
    ($($Id:ty),+) => { $(impl Field for $Id {
        fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
            utf8(bytes)?.parse().map_err(|_| DecodeCause::BadId)
        }
        fn write(&self) -> Bytes {
            Bytes::from(self.to_string())
        }
    })+ };
}
id_fields!(
    AttemptId,
    LeaseId,
    SuspensionId,
    WaitpointId,
    SignalId,
    EdgeId,
    ExecutionId,
    FlowId,
    LaneId,
    Namespace,
    WorkerId,
    WorkerInstanceId,
    BudgetId,
    QuotaPolicyId,
    Dimension,
    Kid,
    DataName
);

/// Reads a UTF-8 text of `low..=high` bytes.
///
/// # Errors
/// `not_utf8`, `out_of_range`.
pub fn read_text(bytes: &[u8], low: usize, high: usize) -> Result<String, DecodeCause> {
    let text = utf8(bytes)?;
    if (low..=high).contains(&text.len()) { Ok(text.to_owned()) } else { Err(DecodeCause::OutOfRange) }
}

/// Splits a comma-joined list that is not empty; with `ascending` each element must be greater than the one before.
///
/// # Errors
/// `not_utf8`, `bad_list`.
pub fn read_list(bytes: &[u8], ascending: bool) -> Result<Vec<&str>, DecodeCause> {
    let elements: Vec<&str> = utf8(bytes)?.split(',').collect();
    if elements.iter().any(|e| e.is_empty()) || (ascending && !elements.windows(2).all(|w| w[0] < w[1])) {
        return Err(DecodeCause::BadList);
    }
    if !ascending && elements.iter().collect::<std::collections::BTreeSet<_>>().len() != elements.len() {
        return Err(DecodeCause::BadList);
    }
    Ok(elements)
}

/// Reads what has structure: compact JSON in the one form that writing it back gives.
///
/// # Errors
/// `not_utf8`, `bad_policy`.
pub fn read_json<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeCause> {
    let value: T = serde_json::from_str(utf8(bytes)?).map_err(|_| DecodeCause::BadPolicy)?;
    if write_json(&value) == bytes { Ok(value) } else { Err(DecodeCause::BadPolicy) }
}

/// Writes what has structure.
pub fn write_json<T: Serialize + ?Sized>(value: &T) -> Bytes {
    // Our structures are plain data with string keys, which always serialises; an empty field is no JSON and would be
    // corruption, never a default.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

/// What names a record may have: exact names, and prefixes of `<prefix>:<key>` fields.
#[derive(Clone, Copy, Debug)]
pub struct Registry {
    /// The record's kind, for errors.
    pub record: &'static str,
    /// Exact field names.
    pub fields: &'static [&'static str],
    /// Prefixes, colon included.
    pub prefixes: &'static [&'static str],
}

/// Reads one record's map.
pub struct Reader<'a> {
    registry: Registry,
    map: &'a FlatMap,
}

impl<'a> Reader<'a> {
    /// Checks the version, then the field names.
    ///
    /// # Errors
    /// `missing`, `unsupported_version`, `unknown_field`.
    pub fn open(registry: Registry, map: &'a FlatMap) -> Result<Self, DecodeError> {
        Self::open_with(registry, map, |_| false)
    }

    /// The same; `also` accepts further names.
    ///
    /// # Errors
    /// `missing`, `unsupported_version`, `unknown_field`.
    pub fn open_with(registry: Registry, map: &'a FlatMap, also: impl Fn(&str) -> bool) -> Result<Self, DecodeError> {
        let reader = Self { registry, map };
        reader.check(reader.required("v")?, |name| name == "v" || also(name))?;
        Ok(reader)
    }

    /// Reads a part of a record that carries the version for it: `version` is the whole's `v`, and the part has none.
    ///
    /// # Errors
    /// `unsupported_version`, `unknown_field`.
    pub fn open_part(registry: Registry, version: &[u8], map: &'a FlatMap) -> Result<Self, DecodeError> {
        let reader = Self { registry, map };
        reader.check(version, |_| false)?;
        Ok(reader)
    }

    /// Checks the version, then the field names.
    fn check(&self, version: &[u8], also: impl Fn(&str) -> bool) -> Result<(), DecodeError> {
        let (major, minor) = read_version(version).map_err(|cause| self.fail("v", cause))?;
        if major != MAJOR {
            return Err(self.fail("v", DecodeCause::UnsupportedVersion));
        }
        if minor > MINOR {
            return Ok(());
        }
        for name in self.map.keys() {
            let known = name.starts_with('_')
                || self.registry.fields.contains(&name.as_str())
                || self.registry.prefixes.iter().any(|p| name.starts_with(p))
                || also(name);
            if !known {
                return Err(self.fail(name, DecodeCause::UnknownField));
            }
        }
        Ok(())
    }

    /// The error of this record at `field`.
    #[must_use]
    pub fn fail(&self, field: &str, cause: DecodeCause) -> DecodeError {
        // A name outside the registry came from the store: shown only in part, it may be anything.
        let field = field.chars().filter(|c| !c.is_control()).take(128).collect();
        DecodeError { record: self.registry.record.to_owned(), field, cause }
    }

    /// Whether the field is there.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    /// The bytes of a required field.
    ///
    /// # Errors
    /// `missing`.
    pub fn required(&self, field: &str) -> Result<&'a Bytes, DecodeError> {
        self.map.get(field).ok_or_else(|| self.fail(field, DecodeCause::Missing))
    }

    /// The bytes of an optional field.
    #[must_use]
    pub fn optional(&self, field: &str) -> Option<&'a Bytes> {
        self.map.get(field)
    }

    /// A required field of a type with one text form.
    ///
    /// # Errors
    /// `missing`, or what is wrong with the bytes.
    pub fn get<T: Field>(&self, field: &str) -> Result<T, DecodeError> {
        self.with(field, T::read)
    }

    /// An optional field of a type with one text form.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn get_opt<T: Field>(&self, field: &str) -> Result<Option<T>, DecodeError> {
        self.with_opt(field, T::read)
    }

    /// A required field, read by `read`.
    ///
    /// # Errors
    /// `missing`, or what `read` says.
    pub fn with<T>(
        &self,
        field: &str,
        read: impl FnOnce(&'a [u8]) -> Result<T, DecodeCause>,
    ) -> Result<T, DecodeError> {
        read(self.required(field)?).map_err(|cause| self.fail(field, cause))
    }

    /// An optional field, read by `read`.
    ///
    /// # Errors
    /// What `read` says.
    pub fn with_opt<T>(
        &self,
        field: &str,
        read: impl FnOnce(&'a [u8]) -> Result<T, DecodeCause>,
    ) -> Result<Option<T>, DecodeError> {
        self.optional(field).map(|bytes| read(bytes)).transpose().map_err(|cause| self.fail(field, cause))
    }

    /// A required text of `low..=high` bytes.
    ///
    /// # Errors
    /// `missing`, `not_utf8`, `out_of_range`.
    pub fn text(&self, field: &str, low: usize, high: usize) -> Result<String, DecodeError> {
        self.with(field, |b| read_text(b, low, high))
    }

    /// An optional text of `low..=high` bytes.
    ///
    /// # Errors
    /// `not_utf8`, `out_of_range`.
    pub fn text_opt(&self, field: &str, low: usize, high: usize) -> Result<Option<String>, DecodeError> {
        self.with_opt(field, |b| read_text(b, low, high))
    }

    /// The `tag:<key>` fields: at most 64, every key by the rule of tag keys, every value a text.
    ///
    /// # Errors
    /// `bad_list` for a key, `not_utf8` or `out_of_range` for a value, `out_of_range` at the first tag too many.
    pub fn tags(&self) -> Result<BTreeMap<String, String>, DecodeError> {
        let mut tags = BTreeMap::new();
        for (key, bytes) in self.prefixed("tag:") {
            let fail = |cause| self.fail(&format!("tag:{key}"), cause);
            if !bounds::is_tag_key(key) {
                return Err(fail(DecodeCause::BadList));
            }
            if tags.len() == bounds::MAX_TAGS {
                return Err(fail(DecodeCause::OutOfRange));
            }
            tags.insert(key.to_owned(), read_text(bytes, 0, bounds::MAX_TEXT_BYTES).map_err(fail)?);
        }
        Ok(tags)
    }

    /// Whether the group is there: wholly (true) or not at all (false).
    ///
    /// # Errors
    /// `incomplete_group`, naming the first missing field.
    pub fn group(&self, fields: &[&str]) -> Result<bool, DecodeError> {
        let present = fields.iter().filter(|f| self.has(f)).count();
        match fields.iter().find(|f| !self.has(f)) {
            Some(missing) if present > 0 => Err(self.fail(missing, DecodeCause::IncompleteGroup)),
            missing => Ok(missing.is_none()),
        }
    }

    /// Refuses fields that do not go together.
    ///
    /// # Errors
    /// `illegal_state` at `field` unless `ok`.
    pub fn ensure(&self, ok: bool, field: &str) -> Result<(), DecodeError> {
        if ok { Ok(()) } else { Err(self.fail(field, DecodeCause::IllegalState)) }
    }

    /// Refuses a record under another id than the one asked for.
    ///
    /// # Errors
    /// `id_mismatch` at `field` unless `ok`.
    pub fn same_id(&self, ok: bool, field: &str) -> Result<(), DecodeError> {
        if ok { Ok(()) } else { Err(self.fail(field, DecodeCause::IdMismatch)) }
    }

    /// The `<prefix>:<key>` fields: key and bytes, in order of key.
    pub fn prefixed(&self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Bytes)> + use<'a> {
        let map: &'a FlatMap = self.map;
        map.range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(move |(name, bytes)| (&name[prefix.len()..], bytes))
    }
}

fn read_version(bytes: &[u8]) -> Result<(u64, u64), DecodeCause> {
    let text = utf8(bytes)?;
    let (major, minor) = text.split_once('.').ok_or(DecodeCause::UnsupportedVersion)?;
    let number = |t: &str| read_number(t.as_bytes()).map_err(|_| DecodeCause::UnsupportedVersion);
    Ok((number(major)?, number(minor)?))
}

/// Writes one record's map.
#[derive(Debug)]
pub struct Writer(FlatMap);

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A map with the version.
    #[must_use]
    pub fn new() -> Self {
        Self(FlatMap::from([("v".to_owned(), Bytes::from_static(VERSION.as_bytes()))]))
    }

    /// An empty map, of a part whose version is the whole's.
    #[must_use]
    pub fn part() -> Self {
        Self(FlatMap::new())
    }

    /// A value with one text form.
    pub fn put<T: Field>(&mut self, field: &str, value: &T) -> &mut Self {
        self.raw(field, value.write())
    }

    /// The same, if present.
    pub fn put_opt<T: Field>(&mut self, field: &str, value: Option<&T>) -> &mut Self {
        match value {
            Some(value) => self.put(field, value),
            None => self,
        }
    }

    /// A text.
    pub fn text(&mut self, field: &str, text: &str) -> &mut Self {
        self.raw(field, Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A text, if present.
    pub fn text_opt(&mut self, field: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(field, text),
            None => self,
        }
    }

    /// One `tag:<key>` field per tag.
    pub fn tags(&mut self, tags: &BTreeMap<String, String>) -> &mut Self {
        for (key, value) in tags {
            self.text(&format!("tag:{key}"), value);
        }
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, field: &str, bytes: Bytes) -> &mut Self {
        self.0.insert(field.to_owned(), bytes);
        self
    }

    /// The map.
    #[must_use]
    pub fn finish(self) -> FlatMap {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for bad in ["abc", "1.0", "+1", "01", "", " 1", "1 ", "-0", "-1", "1e3", "٣"] {
            assert!(u64::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(u64::read(b"9007199254740992"), Err(DecodeCause::OutOfRange));
        assert_eq!(u64::read(b"9007199254740991"), Ok(MAX_SAFE_INTEGER));
        assert_eq!(i32::read(b"-2147483648"), Ok(i32::MIN));
        assert_eq!(i32::read(b"2147483648"), Err(DecodeCause::OutOfRange));
        assert_eq!(i32::read(b"-0"), Err(DecodeCause::NotANumber));
        assert_eq!(u32::read(b"4294967296"), Err(DecodeCause::OutOfRange));
    }

    #[test]
    fn lists_have_one_form() {
        assert_eq!(read_list(b"a,b", true).expect("ascending"), ["a", "b"]);
        for bad in ["", "a,", ",a", "b,a", "a,a"] {
            assert!(read_list(bad.as_bytes(), true).is_err(), "{bad:?}");
        }
        assert!(read_list(b"b,a", false).is_ok());
        assert!(read_list(b"a,a", false).is_err());
    }
}
