//! The bounds of section 8, and the checks that hold arguments to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contracts::CapabilitySide;
use crate::partition::PartitionConfig;
use crate::policy::Capabilities;
use crate::refusal::Refusal;
use crate::time::{MAX_DURATION_MS, MAX_SAFE_INTEGER, When};

/// The longest name (kind, category, signal name, source, `by`), in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest text (reason, message, detail, tag value), in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The longest key (idempotency, dedup, correlation id), in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// The longest label (encoding), in bytes.
pub const MAX_LABEL_BYTES: usize = 64;
/// The greatest number of tags of one entity.
pub const MAX_TAGS: usize = 64;
/// The longest tag key, in bytes.
pub const MAX_TAG_KEY_BYTES: usize = 128;
/// The largest signal payload or stream frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 65_536;
/// The largest list page.
pub const MAX_PAGE: u32 = 1000;
/// The default list page.
pub const DEFAULT_PAGE: u32 = 100;

/// What a deployment fixes for all operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// How many partitions there are.
    pub partitions: PartitionConfig,
    /// The largest payload or result, in bytes: 1 MiB by default, at most 64 MiB.
    pub max_payload_bytes: u64,
    /// The bounds of a flow's graph.
    pub graph: GraphBounds,
}

impl Default for Deployment {
    fn default() -> Self {
        Self { partitions: PartitionConfig::default(), max_payload_bytes: 1 << 20, graph: GraphBounds::default() }
    }
}

impl Deployment {
    /// The largest `max_payload_bytes`.
    pub const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

    /// Refuses an id whose partition this deployment does not have.
    ///
    /// # Errors
    /// `invalid_partition`.
    pub fn partition(&self, partition: u16) -> Result<(), Refusal> {
        if self.partitions.contains(partition) { Ok(()) } else { Err(Refusal::invalid_partition()) }
    }

    /// Refuses a payload or result over the bound.
    ///
    /// # Errors
    /// `payload_too_large`.
    pub fn payload(&self, field: &str, bytes: usize) -> Result<(), Refusal> {
        payload(field, bytes, self.max_payload_bytes)
    }
}

/// The caps of `flow.md` section 2. A deployment may lower them, never raise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphBounds {
    /// Members per flow.
    pub members: u32,
    /// Edges per flow, staged ones too.
    pub edges: u32,
    /// Incoming edges per member.
    pub incoming: u32,
    /// Incoming edges with a data name per member.
    pub data_incoming: u32,
    /// Outgoing edges per member.
    pub outgoing: u32,
    /// Edges read by one cycle search.
    pub cycle_search: u32,
}

impl Default for GraphBounds {
    fn default() -> Self {
        Self {
            members: 10_000,
            edges: 50_000,
            incoming: 1_000,
            data_incoming: 64,
            outgoing: 10_000,
            cycle_search: 2_000,
        }
    }
}

/// The arguments of an operation, checked before anything is read: `invalid_partition`, then each argument in the order
/// listed, then `partition_mismatch`.
pub trait CheckArgs {
    /// Refuses what no state could make right.
    ///
    /// # Errors
    /// The first refusal in the contract's order of checks.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal>;
}

/// Refuses `field` unless `ok`.
///
/// # Errors
/// `invalid_input`.
pub fn ensure(ok: bool, field: &str) -> Result<(), Refusal> {
    if ok { Ok(()) } else { Err(Refusal::invalid_input(field)) }
}

/// Whether a text is a name: 1..=256 bytes.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
}

/// A name: 1..=256 bytes.
///
/// # Errors
/// `invalid_input`.
pub fn name(field: &str, text: &str) -> Result<(), Refusal> {
    ensure(is_name(text), field)
}

/// A text: 0..=4096 bytes.
///
/// # Errors
/// `invalid_input`.
pub fn text(field: &str, text: &str) -> Result<(), Refusal> {
    ensure(text.len() <= MAX_TEXT_BYTES, field)
}

/// A key, if given: 1..=256 bytes.
///
/// # Errors
/// `invalid_input`.
pub fn key(field: &str, key: Option<&str>) -> Result<(), Refusal> {
    ensure(key.is_none_or(|k| (1..=MAX_KEY_BYTES).contains(&k.len())), field)
}

/// A label, if given: 1..=64 bytes.
///
/// # Errors
/// `invalid_input`.
pub fn label(field: &str, label: Option<&str>) -> Result<(), Refusal> {
    ensure(label.is_none_or(|l| (1..=MAX_LABEL_BYTES).contains(&l.len())), field)
}

/// An integer within 2^53-1.
///
/// # Errors
/// `invalid_input`.
pub fn integer(field: &str, n: u64) -> Result<(), Refusal> {
    ensure(n <= MAX_SAFE_INTEGER, field)
}

/// A duration within `low..=366 days`.
///
/// # Errors
/// `invalid_input`.
pub fn duration(field: &str, ms: u64, low: u64) -> Result<(), Refusal> {
    ensure((low..=MAX_DURATION_MS).contains(&ms), field)
}

/// An instant or duration argument, if given.
///
/// # Errors
/// `invalid_input`.
pub fn when(field: &str, when: Option<When>) -> Result<(), Refusal> {
    ensure(when.is_none_or(When::within_bounds), field)
}

/// A list page's limit: 1..=1000.
///
/// # Errors
/// `invalid_input`.
pub fn page(limit: u32) -> Result<(), Refusal> {
    ensure((1..=MAX_PAGE).contains(&limit), "limit")
}

/// A lease's duration: 100 ms ..= 24 h.
///
/// # Errors
/// `invalid_input`.
pub fn lease_ttl(ms: u64) -> Result<(), Refusal> {
    ensure((100..=86_400_000).contains(&ms), "lease_ttl_ms")
}

/// A grant's duration: 100 ms ..= 60 s.
///
/// # Errors
/// `invalid_input`.
pub fn grant_ttl(ms: u64) -> Result<(), Refusal> {
    ensure((100..=60_000).contains(&ms), "grant_ttl_ms")
}

/// A worker's tokens.
///
/// # Errors
/// `invalid_capabilities`.
pub fn worker_capabilities(capabilities: &Capabilities) -> Result<(), Refusal> {
    capabilities.check(CapabilitySide::Worker)
}

/// A payload, result or frame within `bound`.
///
/// # Errors
/// `payload_too_large`.
pub fn payload(field: &str, bytes: usize, bound: u64) -> Result<(), Refusal> {
    let bytes = bytes as u64;
    if bytes <= bound { Ok(()) } else { Err(Refusal::payload_too_large(field, bytes, bound)) }
}

/// Whether a tag key is well formed: at most 128 bytes, `^[a-z][a-z0-9_]*\.` with at least one more character, no
/// control characters.
#[must_use]
pub fn is_tag_key(key: &str) -> bool {
    let Some((head, rest)) = key.split_once('.') else { return false };
    key.len() <= MAX_TAG_KEY_BYTES
        && head.starts_with(|c: char| c.is_ascii_lowercase())
        && head.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !rest.is_empty()
        && !key.chars().any(char::is_control)
}

/// A tag key.
///
/// # Errors
/// `invalid_tag_key`.
pub fn tag_key(key: &str) -> Result<(), Refusal> {
    if is_tag_key(key) { Ok(()) } else { Err(Refusal::invalid_tag_key(key)) }
}

/// The tags of a creation: keys well formed, values texts, at most 64.
///
/// # Errors
/// `invalid_tag_key`; `invalid_input` for a value or for too many.
pub fn tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (key, value) in tags {
        tag_key(key)?;
        text("tags", value)?;
    }
    ensure(tags.len() <= MAX_TAGS, "tags")
}

/// Tag changes: 1..=64 entries, keys well formed (deletions included), values texts.
///
/// # Errors
/// `invalid_tag_key`; `invalid_input`.
pub fn tag_changes(changes: &BTreeMap<String, Option<String>>) -> Result<(), Refusal> {
    ensure((1..=MAX_TAGS).contains(&changes.len()), "tags")?;
    for (key, value) in changes {
        tag_key(key)?;
        if let Some(value) = value {
            text("tags", value)?;
        }
    }
    Ok(())
}
