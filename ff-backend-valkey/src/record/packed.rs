//! Packed bytes and `MessagePack` values, read one by one.

use ff_core::time::TimestampMs;
use rmpv::Value;
use uuid::Uuid;

use crate::call::NONE;

/// A packed record, read from the front.
pub(super) struct Cut<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cut<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }

    pub(super) fn number(&mut self, n: usize) -> Option<u64> {
        self.take(n).map(|b| b.iter().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number(4).and_then(|n| u32::try_from(n).ok())
    }

    /// Seven bytes.
    pub(super) fn long(&mut self) -> Option<u64> {
        self.number(7).filter(|n| *n < NONE)
    }

    pub(super) fn long_opt(&mut self) -> Option<Option<u64>> {
        match self.number(7)? {
            NONE => Some(None),
            n if n < NONE => Some(Some(n)),
            _ => None,
        }
    }

    pub(super) fn at(&mut self) -> Option<TimestampMs> {
        self.long().and_then(TimestampMs::new)
    }

    pub(super) fn at_opt(&mut self) -> Option<Option<TimestampMs>> {
        self.long_opt().map(|n| n.and_then(TimestampMs::new))
    }

    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        self.take(16).and_then(|b| Uuid::from_slice(b).ok())
    }

    pub(super) fn length(&mut self, bytes: usize) -> Option<usize> {
        self.number(bytes).and_then(|n| usize::try_from(n).ok())
    }

    pub(super) fn text(&mut self, n: usize) -> Option<&'a str> {
        self.take(n).and_then(|b| std::str::from_utf8(b).ok())
    }
}

pub(crate) fn text_of(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Boolean(false) | Value::Nil => Some(None),
        Value::String(s) => s.as_str().map(|s| Some(s.to_owned())),
        _ => None,
    }
}

pub(crate) fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(s) => Some(s.as_bytes()),
        Value::Binary(b) => Some(b),
        _ => None,
    }
}

pub(crate) fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::F64(f) if *f >= 0.0 && f.fract() == 0.0 && *f <= 9_007_199_254_740_992.0 => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole and in range
            Some(*f as u64)
        }
        _ => value.as_u64(),
    }
}

pub(crate) fn at_of(value: &Value) -> Option<Option<TimestampMs>> {
    match number_of(value) {
        Some(NONE) => Some(None),
        Some(n) => TimestampMs::new(n).map(Some),
        None if matches!(value, Value::Boolean(false) | Value::Nil) => Some(None),
        None => None,
    }
}

/// One packed value that fills all its bytes.
pub(crate) fn read_packed(mut bytes: &[u8]) -> Option<Value> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, 16).ok()?;
    bytes.is_empty().then_some(value)
}

/// A list or map of Lua with whole numbers as keys.
pub(super) fn numbered(value: &Value) -> Option<Vec<(u8, &Value)>> {
    match value {
        Value::Array(items) => (1..).zip(items).filter(|(_, v)| !v.is_nil()).map(|(n, v)| Some((n, v))).collect(),
        Value::Map(pairs) => pairs.iter().map(|(k, v)| Some((u8::try_from(number_of(k)?).ok()?, v))).collect(),
        _ => None,
    }
}
