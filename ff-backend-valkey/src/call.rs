//! One call: arguments packed as one array, the reply taken apart.

use bytes::Bytes;
use ff_core::canon::Digest;
use ff_core::contracts::decode::DecodeCause;
use ff_core::contracts::{Actor, Fence};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId, Kid};
use ff_core::records::flat::FlatMap;
use ff_core::state::{StateSummary, StateVector};
use ff_core::time::{TimestampMs, When};
use redis::Value;
use uuid::Uuid;

use crate::record;
use crate::refusal::refusal_of;

/// An absent instant or duration: 2^53. No legal value reaches it.
pub(crate) const NONE: u64 = 1 << 53;

/// Arguments in `MessagePack`, as Lua's `cmsgpack` reads them: bytes are written as str, never as bin.
#[derive(Debug)]
pub(crate) struct Pack {
    buf: Vec<u8>,
    len: u16,
    /// Whether the bytes begin with a list's head that takes the length.
    list: bool,
    /// The execution or flow that the call is on, where it is on one.
    subject: Option<Uuid>,
    /// Whether the call counts each time that it is made.
    once: bool,
}

impl Pack {
    /// An empty list that will be a whole argument.
    pub(crate) fn new() -> Self {
        let mut buf = Vec::with_capacity(256);
        buf.extend_from_slice(&[0xdc, 0, 0]);
        Self { buf, len: 0, list: true, subject: None, once: false }
    }

    /// Bytes that are a whole argument by themselves, of a call on `subject`.
    pub(crate) fn whole(buf: Vec<u8>, subject: Option<Uuid>) -> Self {
        Self { buf, len: 0, list: false, subject, once: false }
    }

    /// Says that the call counts each time that it is made: it is not made again once it may have been applied.
    pub(crate) fn once(&mut self) -> &mut Self {
        self.once = true;
        self
    }

    /// Whether it may be made again unchanged, as law 6 of the contract has it.
    pub(crate) fn repeatable(&self) -> bool {
        !self.once
    }

    /// The execution or flow that the call is on, where it is on one: the id behind the clock, which is the first argument.
    pub(crate) fn subject(&self) -> Option<Uuid> {
        self.subject
    }

    pub(crate) fn absent(&mut self) -> &mut Self {
        self.len += 1;
        self.buf.push(0xc2);
        self
    }

    pub(crate) fn flag(&mut self, on: bool) -> &mut Self {
        self.len += 1;
        self.buf.push(if on { 0xc3 } else { 0xc2 });
        self
    }

    pub(crate) fn num(&mut self, n: u64) -> &mut Self {
        self.len += 1;
        self.write_num(n);
        self
    }

    pub(crate) fn num_opt(&mut self, n: Option<u64>) -> &mut Self {
        match n {
            Some(n) => self.num(n),
            None => self.absent(),
        }
    }

    pub(crate) fn int(&mut self, n: i32) -> &mut Self {
        self.len += 1;
        self.buf.push(0xd2);
        self.buf.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, b: &[u8]) -> &mut Self {
        self.len += 1;
        self.write_bytes(b);
        self
    }

    pub(crate) fn text(&mut self, s: &str) -> &mut Self {
        self.bytes(s.as_bytes())
    }

    pub(crate) fn text_opt(&mut self, s: Option<&str>) -> &mut Self {
        match s {
            Some(s) => self.text(s),
            None => self.absent(),
        }
    }

    pub(crate) fn uuid(&mut self, id: Uuid) -> &mut Self {
        if self.len == 1 {
            self.subject = Some(id);
        }
        self.bytes(id.as_bytes())
    }

    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.bytes(digest.as_bytes())
    }

    /// Two arguments: mode (0 none, 1 at, 2 after) and milliseconds.
    pub(crate) fn when(&mut self, when: Option<When>) -> &mut Self {
        match when {
            None => self.num(0).num(0),
            Some(When::At(at)) => self.num(1).num(at.as_millis()),
            Some(When::After(ms)) => self.num(2).num(ms),
        }
    }

    /// Three arguments.
    pub(crate) fn fence(&mut self, fence: &Fence) -> &mut Self {
        self.uuid(fence.lease_id.uuid()).num(fence.lease_epoch.get()).uuid(fence.attempt_id.uuid())
    }

    /// Four arguments: a fence and no identity, or three absent and an identity.
    pub(crate) fn actor(&mut self, actor: &Actor) -> &mut Self {
        match actor {
            Actor::Worker(fence) => self.fence(fence).absent(),
            Actor::Operator { identity } => self.absent().absent().absent().text(identity),
        }
    }

    /// A list as one argument.
    pub(crate) fn list(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::new();
        fill(&mut inner);
        self.len += 1;
        self.buf.extend_from_slice(&inner.finish());
        self
    }

    /// The packed argument.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.list {
            self.buf[1..3].copy_from_slice(&self.len.to_be_bytes());
        }
        self.buf
    }

    fn write_num(&mut self, n: u64) {
        match n {
            0..=0x7f => self.buf.push(n.to_be_bytes()[7]),
            0x80..=0xff => self.buf.extend_from_slice(&[0xcc, n.to_be_bytes()[7]]),
            0x100..=0xffff => {
                self.buf.push(0xcd);
                self.buf.extend_from_slice(&n.to_be_bytes()[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.buf.push(0xce);
                self.buf.extend_from_slice(&n.to_be_bytes()[4..]);
            }
            _ => {
                self.buf.push(0xcf);
                self.buf.extend_from_slice(&n.to_be_bytes());
            }
        }
    }

    fn write_bytes(&mut self, b: &[u8]) {
        let len = u32::try_from(b.len()).unwrap_or(u32::MAX).to_be_bytes();
        match b.len() {
            0..=31 => self.buf.push(0xa0 | len[3]),
            32..=0xff => self.buf.extend_from_slice(&[0xd9, len[3]]),
            0x100..=0xffff => self.buf.extend_from_slice(&[0xda, len[2], len[3]]),
            _ => {
                self.buf.push(0xdb);
                self.buf.extend_from_slice(&len);
            }
        }
        self.buf.extend_from_slice(b);
    }
}

/// A map of texts in `MessagePack`; nothing for an empty one.
pub(crate) fn pack_map<'a>(map: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    if map.len() == 0 {
        return Vec::new();
    }
    let mut pack = Pack::whole(Vec::new(), None);
    pack.buf.push(0xde);
    pack.buf.extend_from_slice(&u16::try_from(map.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (key, value) in map {
        pack.write_bytes(key.as_bytes());
        pack.write_bytes(value.as_bytes());
    }
    pack.buf
}

/// A reply of a function, read from the front.
#[derive(Debug)]
pub(crate) struct Reply {
    word: String,
    rest: std::vec::IntoIter<Value>,
    partition: u16,
}

/// A reply that this backend cannot read. Its library has the same version, so what the reply carries is a stored value that
/// is damaged.
pub(crate) fn unreadable(what: &str) -> EngineError {
    record::corrupt("reply", what, DecodeCause::IllegalState)
}

impl Reply {
    /// Takes a reply apart; a refusal is an error.
    pub(crate) fn open(value: Value, partition: u16) -> Result<Self, EngineError> {
        let Value::Array(items) = value else { return Err(unreadable("not a list")) };
        let mut reply = Self { word: String::new(), rest: items.into_iter(), partition };
        let word = reply.text()?;
        if word == "!" {
            return Err(refusal_of(&mut reply)?.into());
        }
        reply.word = word;
        Ok(reply)
    }

    /// A list within a reply.
    pub(crate) fn list(&mut self) -> Result<Self, EngineError> {
        match self.next() {
            Value::Array(items) => Ok(Self { word: String::new(), rest: items.into_iter(), partition: self.partition }),
            _ => Err(unreadable("not a list")),
        }
    }

    /// A list within a reply, if there is one.
    pub(crate) fn list_opt(&mut self) -> Result<Option<Self>, EngineError> {
        match self.next() {
            Value::Nil => Ok(None),
            Value::Array(items) => {
                Ok(Some(Self { word: String::new(), rest: items.into_iter(), partition: self.partition }))
            }
            _ => Err(unreadable("not a list")),
        }
    }

    /// A flat record: names and values in turn.
    pub(crate) fn flat_map(mut self) -> Result<FlatMap, EngineError> {
        let mut map = FlatMap::new();
        while !self.is_over() {
            // A name that is not UTF-8 is no field of ours under any spelling.
            let name = String::from_utf8_lossy(&self.bytes()?).into_owned();
            map.insert(name, self.bytes()?);
        }
        Ok(map)
    }

    /// The variant's word.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// The partition that was called.
    pub(crate) fn partition(&self) -> u16 {
        self.partition
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.len() == 0
    }

    pub(crate) fn next(&mut self) -> Value {
        self.rest.next().unwrap_or(Value::Nil)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, EngineError> {
        self.bytes_opt()?.ok_or_else(|| unreadable("a field is missing"))
    }

    pub(crate) fn bytes_opt(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self.next() {
            Value::Nil => Ok(None),
            Value::BulkString(b) => Ok(Some(Bytes::from(b))),
            Value::SimpleString(s) => Ok(Some(Bytes::from(s))),
            Value::Int(n) => Ok(Some(Bytes::from(n.to_string()))),
            Value::Okay => Ok(Some(Bytes::from_static(b"OK"))),
            _ => Err(unreadable("not a string")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, EngineError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| unreadable("not UTF-8"))
    }

    pub(crate) fn text_opt(&mut self) -> Result<Option<String>, EngineError> {
        match self.bytes_opt()? {
            None => Ok(None),
            Some(b) => String::from_utf8(b.to_vec()).map(Some).map_err(|_| unreadable("not UTF-8")),
        }
    }

    pub(crate) fn num_opt(&mut self) -> Result<Option<u64>, EngineError> {
        let number = match self.next() {
            Value::Nil => return Ok(None),
            Value::Int(n) => u64::try_from(n).ok(),
            Value::BulkString(b) => std::str::from_utf8(&b).ok().and_then(|s| s.parse().ok()),
            _ => None,
        };
        number.map(Some).ok_or_else(|| unreadable("not a number"))
    }

    pub(crate) fn num(&mut self) -> Result<u64, EngineError> {
        self.num_opt()?.ok_or_else(|| unreadable("a number is missing"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, EngineError> {
        u32::try_from(self.num()?).map_err(|_| unreadable("a number is too large"))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, EngineError> {
        match self.next() {
            Value::Int(n) => i32::try_from(n).map_err(|_| unreadable("a number is too large")),
            _ => Err(unreadable("not a number")),
        }
    }

    pub(crate) fn flag(&mut self) -> Result<bool, EngineError> {
        Ok(self.num_opt()?.unwrap_or(0) != 0)
    }

    pub(crate) fn at(&mut self) -> Result<TimestampMs, EngineError> {
        self.at_opt()?.ok_or_else(|| unreadable("an instant is missing"))
    }

    pub(crate) fn at_opt(&mut self) -> Result<Option<TimestampMs>, EngineError> {
        match self.num_opt()? {
            None => Ok(None),
            Some(ms) => TimestampMs::new(ms).map(Some).ok_or_else(|| unreadable("an instant is out of range")),
        }
    }

    /// Bytes of a fixed number.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        self.bytes()?.as_ref().try_into().map_err(|_| unreadable("bytes of another number"))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, EngineError> {
        Uuid::from_slice(&self.bytes()?).map_err(|_| unreadable("not an id"))
    }

    pub(crate) fn execution_id(&mut self) -> Result<ExecutionId, EngineError> {
        let uuid = self.uuid()?;
        Ok(ExecutionId::from_parts(self.partition, uuid))
    }

    pub(crate) fn kid_opt(&mut self) -> Result<Option<Kid>, EngineError> {
        self.text_opt()?.map(|text| Kid::new(text).map_err(|_| unreadable("not a kid"))).transpose()
    }

    pub(crate) fn kid(&mut self) -> Result<Kid, EngineError> {
        self.kid_opt()?.ok_or_else(|| unreadable("a kid is missing"))
    }

    /// A word of a closed set.
    pub(crate) fn word_of<T: std::str::FromStr>(&mut self) -> Result<T, EngineError> {
        self.text()?.parse().map_err(|_| unreadable("an unknown word"))
    }

    pub(crate) fn summary(&mut self) -> Result<StateSummary, EngineError> {
        let (vector, attempts) = self.packed_summary()?;
        Ok(StateSummary::new(vector, attempts.checked_sub(1).map(AttemptIndex)))
    }

    pub(crate) fn vector(&mut self) -> Result<StateVector, EngineError> {
        self.packed_summary().map(|(vector, _)| vector)
    }

    fn packed_summary(&mut self) -> Result<(StateVector, u32), EngineError> {
        let b = self.bytes()?;
        let &[s, a, label, n0, n1, n2, n3] = b.as_ref() else { return Err(unreadable("not a summary")) };
        let attempts = u32::from_be_bytes([n0, n1, n2, n3]);
        let vector = record::vector(s, a, label, attempts > 0).ok_or_else(|| unreadable("not a state vector"))?;
        Ok((vector, attempts))
    }

    /// What a reply with an unexpected word means.
    pub(crate) fn unknown(&self) -> EngineError {
        unreadable(&self.word)
    }
}
