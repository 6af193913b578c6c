//! Domain stream: `resources.md`, section 4.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a stored frame, strictly increasing per stream. Text form `<ms>-<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamEntryId {
    /// Milliseconds of the store's clock, or those of the frame before if that was later.
    pub ms: u64,
    /// Place within the millisecond.
    pub seq: u64,
}

impl fmt::Display for StreamEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl Serialize for StreamEntryId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamEntryId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // One text per value: see the grammar of `StreamCursor`.
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        let parts =
            text.split_once('-').and_then(|(ms, seq)| Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? }));
        parts
            .filter(|id| id.to_string() == *text)
            .ok_or_else(|| serde::de::Error::custom("an entry id is `<ms>-<seq>`"))
    }
}
