//! The canonical decoders of stored records: `resources.md`, section 6.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptIndex, EdgeId, ExecutionId, FlowId};
use crate::records::flat::FlatMap;
use crate::records::{AttemptRecord, EdgeRecord, ExecutionRecord, FlowRecord, MemberRecord, RunRecord};
use crate::word_enum;

word_enum! {
    /// What is wrong with a stored record.
    pub enum DecodeCause {
        /// Another major version.
        UnsupportedVersion = "unsupported_version",
        /// A field outside the record's registry.
        UnknownField = "unknown_field",
        /// A required field is absent.
        Missing = "missing",
        /// Not UTF-8.
        NotUtf8 = "not_utf8",
        /// Not a number in its one text form.
        NotANumber = "not_a_number",
        /// A number or a text out of bounds.
        OutOfRange = "out_of_range",
        /// No word of its set.
        UnknownValue = "unknown_value",
        /// Not an id.
        BadId = "bad_id",
        /// Not a list, set or map in its one form.
        BadList = "bad_list",
        /// A policy, condition or other structure that does not decode.
        BadPolicy = "bad_policy",
        /// The record's own id is not the one asked for.
        IdMismatch = "id_mismatch",
        /// A group of fields is neither whole nor absent.
        IncompleteGroup = "incomplete_group",
        /// The fields do not go together.
        IllegalState = "illegal_state",
    }
}

/// A stored record that cannot be decoded. It never contains a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeError {
    /// The record's kind.
    pub record: String,
    /// The field.
    pub field: String,
    /// What is wrong.
    pub cause: DecodeCause,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} record, field {}: {}", self.record, self.field, self.cause)
    }
}

impl std::error::Error for DecodeError {}

/// Decodes an execution's flat form, with its lease and grant; payload and result are kept beside it.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_execution(execution_id: ExecutionId, map: &FlatMap) -> Result<ExecutionRecord, DecodeError> {
    ExecutionRecord::decode(execution_id, map)
}

/// Decodes an attempt's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_attempt(
    execution_id: ExecutionId,
    attempt_index: AttemptIndex,
    map: &FlatMap,
) -> Result<AttemptRecord, DecodeError> {
    AttemptRecord::decode(execution_id, attempt_index, map)
}

/// Decodes a run's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_run(execution_id: ExecutionId, run: u32, map: &FlatMap) -> Result<RunRecord, DecodeError> {
    RunRecord::decode(execution_id, run, map)
}

/// Decodes a flow's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_flow(flow_id: FlowId, map: &FlatMap) -> Result<FlowRecord, DecodeError> {
    FlowRecord::decode(flow_id, map)
}

/// Decodes an edge's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_edge(flow_id: FlowId, edge_id: EdgeId, map: &FlatMap) -> Result<EdgeRecord, DecodeError> {
    EdgeRecord::decode(flow_id, edge_id, map)
}

/// Decodes a member's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_member(execution_id: ExecutionId, map: &FlatMap) -> Result<MemberRecord, DecodeError> {
    MemberRecord::decode(execution_id, map)
}
