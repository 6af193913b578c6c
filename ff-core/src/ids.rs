//! Identifiers. Each type parses strictly, has one text form, and cannot hold an invalid value.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::canon::{Canon, Canonical};
use crate::partition::PartitionConfig;

/// A text that is not an identifier of the type asked for. It does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: {rule}")]
pub struct InvalidId {
    /// The type asked for.
    pub kind: &'static str,
    /// The rule that was broken.
    pub rule: &'static str,
}

/// Parses the 36 lower-case characters of a uuid and nothing else.
fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let uuid = Uuid::try_parse(text).ok()?;
    // `try_parse` also takes other layouts of 36 characters; only the hyphenated one writes back as itself.
    let mut buffer = Uuid::encode_buffer();
    (*uuid.hyphenated().encode_lower(&mut buffer) == *text).then_some(uuid)
}

macro_rules! text_serde {
    ($Name:ident) => {
        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! uuid_ids {
    ($($(#[$meta:meta])* $Name:ident;)+) => { $(
        $(#[$meta])*
        ///
        /// Minted by the caller, so that a repeated call is recognisable. Text form: the uuid's 36 lower-case characters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(Uuid);

        impl $Name {
            /// A fresh id (`UUIDv7`).
            #[allow(clippy::new_without_default)] // a fresh id is no default value
            #[must_use]
            pub fn new() -> Self { Self(Uuid::now_v7()) }

            /// From any uuid, for deterministic ids.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }

            /// The uuid.
            #[must_use]
            pub const fn uuid(self) -> Uuid { self.0 }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl FromStr for $Name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_uuid(text).map(Self).ok_or(InvalidId {
                    kind: stringify!($Name),
                    rule: "a uuid is its 36 lower-case characters",
                })
            }
        }
        impl Canon for $Name {
            fn canon(&self, out: &mut Canonical) {
                let mut buffer = Uuid::encode_buffer();
                out.field(self.0.hyphenated().encode_lower(&mut buffer).as_bytes());
            }
        }
        text_serde!($Name);
    )+ };
}

uuid_ids! {
    /// Names one attempt of an execution.
    AttemptId;
    /// Names one lease: a worker's time-limited ownership.
    LeaseId;
    /// Names one suspension.
    SuspensionId;
    /// Names one waitpoint: the address that a signal is sent to.
    WaitpointId;
    /// Names one signal.
    SignalId;
    /// Names one edge of a flow.
    EdgeId;
}

macro_rules! placed_ids {
    ($($(#[$meta:meta])* $Name:ident, $letter:literal;)+) => { $(
        $(#[$meta])*
        ///
        /// Carries its partition and is never rehashed. Ordered by (partition as a number, uuid as a 128-bit number).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name { partition: u16, uuid: Uuid }

        impl $Name {
            /// From its parts.
            #[must_use]
            pub const fn from_parts(partition: u16, uuid: Uuid) -> Self { Self { partition, uuid } }

            /// The partition that holds it.
            #[must_use]
            pub const fn partition(self) -> u16 { self.partition }

            /// The uuid within the partition.
            #[must_use]
            pub const fn uuid(self) -> Uuid { self.uuid }

            /// A fresh id (`UUIDv7`), placed by its bytes.
            #[must_use]
            pub fn new(config: PartitionConfig) -> Self { Self::from_uuid(config, Uuid::now_v7()) }

            /// From any uuid, placed by its bytes; for deterministic ids.
            #[must_use]
            pub fn from_uuid(config: PartitionConfig, uuid: Uuid) -> Self {
                Self { partition: config.place(uuid.as_bytes()), uuid }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}_{}"), self.partition, self.uuid.hyphenated())
            }
        }
        impl FromStr for $Name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_placed(text, $letter).map(|(partition, uuid)| Self { partition, uuid }).ok_or(InvalidId {
                    kind: stringify!($Name),
                    rule: concat!($letter, "<partition>_<uuid>, the partition without a leading zero"),
                })
            }
        }
        impl Canon for $Name {
            fn canon(&self, out: &mut Canonical) { out.field(self.to_string().as_bytes()); }
        }
        text_serde!($Name);
    )+ };
}

fn parse_placed(text: &str, letter: &str) -> Option<(u16, Uuid)> {
    let (number, uuid) = text.strip_prefix(letter)?.split_once('_')?;
    let canonical = number == "0" || (number.starts_with(|c: char| ('1'..='9').contains(&c)));
    if !canonical || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, parse_uuid(uuid)?))
}

placed_ids! {
    /// Names one durable unit of work; text form `e<partition>_<uuid>`.
    ExecutionId, "e";
    /// Names one flow; text form `f<partition>_<uuid>`.
    FlowId, "f";
}

impl ExecutionId {
    /// A fresh id for a member of `flow`: it has its flow's partition.
    #[must_use]
    pub fn in_flow(flow: &FlowId) -> Self {
        Self { partition: flow.partition, uuid: Uuid::now_v7() }
    }

    /// A fresh id for a stand-alone execution with an idempotency key, so that equal keys meet in one partition.
    #[must_use]
    pub fn keyed(config: PartitionConfig, namespace: &Namespace, key: &str) -> Self {
        Self { partition: Self::partition_of_key(config, namespace, key), uuid: Uuid::now_v7() }
    }

    /// Where a stand-alone execution with this idempotency key belongs.
    #[must_use]
    pub fn partition_of_key(config: PartitionConfig, namespace: &Namespace, key: &str) -> u16 {
        config.place(&Canonical::bytes(|c| {
            c.put(namespace.as_str()).put(key);
        }))
    }
}

macro_rules! names {
    ($($(#[$meta:meta])* $Name:ident, $max:literal, $charset:literal, $allowed:expr;)+) => { $(
        $(#[$meta])*
        ///
        #[doc = concat!("1..=", $max, " bytes of `", $charset, "`; an invalid one cannot exist. Cloning is cheap.")]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(Arc<str>);

        impl $Name {
            /// Checks and takes a text.
            ///
            /// # Errors
            /// [`InvalidId`] when it is empty, too long or holds another character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.bytes().all(allowed) {
                    return Err(InvalidId {
                        kind: stringify!($Name),
                        rule: concat!("1..=", $max, " bytes of ", $charset),
                    });
                }
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
        impl FromStr for $Name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> { Self::new(text) }
        }
        impl Canon for $Name {
            fn canon(&self, out: &mut Canonical) { out.field(self.0.as_bytes()); }
        }
        text_serde!($Name);
    )+ };
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'-')
}

names! {
    /// A named queue.
    LaneId, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// A label that scopes idempotency keys and filters lists; it isolates nothing.
    Namespace, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// A kind of worker, as it names itself.
    WorkerId, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// One running worker process.
    WorkerInstanceId, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// Names a budget, which is a partition of its own.
    BudgetId, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// Names a quota policy, which is a partition of its own.
    QuotaPolicyId, 128, "[A-Za-z0-9._:/-]", is_name_byte;
    /// A counted quantity of a budget.
    Dimension, 64, "[A-Za-z0-9._-]", |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    /// Names a waitpoint signing key; within a partition it never changes its secret.
    Kid, 32, "[A-Za-z0-9_-]", |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    /// The name under which a child receives an upstream's result by reference, and a member's name in a submission.
    DataName, 64, "[A-Za-z0-9_.-]", |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
}

macro_rules! counters {
    ($($(#[$meta:meta])* $Name:ident($t:ty);)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $Name(pub $t);

        impl $Name {
            /// The number.
            #[must_use]
            pub const fn get(self) -> $t { self.0 }
        }
        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl Canon for $Name {
            fn canon(&self, out: &mut Canonical) { out.number(u64::from(self.0)); }
        }
    )+ };
}

counters! {
    /// The position of an attempt in its execution: from 0, gap-free.
    AttemptIndex(u32);
    /// The number of times an execution has been acquired; it rises by one at every acquisition and never otherwise.
    LeaseEpoch(u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_strictly_and_write_back() {
        let good = "e7_01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(good.parse::<ExecutionId>().expect("well formed").to_string(), good);
        for bad in [
            "e07_01890a5d-ac96-774b-bcce-b302099a8057",
            "e+7_01890a5d-ac96-774b-bcce-b302099a8057",
            "e65536_01890a5d-ac96-774b-bcce-b302099a8057",
            "e7_01890A5D-ac96-774b-bcce-b302099a8057",
            "e7_01890a5dac96774bbcceb302099a8057",
            "e7-01890a5d-ac96-774b-bcce-b302099a8057",
            "f7_01890a5d-ac96-774b-bcce-b302099a8057",
            "e_01890a5d-ac96-774b-bcce-b302099a8057",
            "e7_01890a5d-ac96-774b-bcce-b302099a8057 ",
            "",
        ] {
            assert!(bad.parse::<ExecutionId>().is_err(), "{bad:?}");
        }
        assert!("urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057".parse::<LeaseId>().is_err());
    }

    #[test]
    fn ids_order_by_partition_as_a_number() {
        let two: ExecutionId = "e2_ffffffff-ffff-ffff-ffff-ffffffffffff".parse().expect("well formed");
        let ten: ExecutionId = "e10_00000000-0000-0000-0000-000000000000".parse().expect("well formed");
        assert!(two < ten);
    }

    #[test]
    fn names_hold_their_bounds() {
        assert!(LaneId::new("a".repeat(128)).is_ok());
        for bad in [String::new(), "a".repeat(129), "a b".into(), "ü".into(), "a,b".into(), "a\n".into()] {
            assert!(LaneId::new(&bad).is_err(), "{bad:?}");
        }
        assert!(Kid::new("2026-06_b").is_ok());
        assert!(Kid::new("a.b").is_err());
    }
}
