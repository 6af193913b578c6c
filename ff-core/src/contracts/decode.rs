//! The canonical decoders of stored records: `resources.md`, section 6.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::contracts::{StreamEntryId, StreamFrame};
use crate::ids::{AttemptIndex, BudgetId, EdgeId, ExecutionId, FlowId, Kid, QuotaPolicyId, SignalId, WaitpointId};
use crate::records::flat::FlatMap;
use crate::records::{
    AdmissionIdentity, AdmissionSlotRecord, AttemptRecord, BudgetKeyRecord, BudgetKeyScope, BudgetRecord, DedupRecord,
    EdgeRecord, ExecutionRecord, FlowRecord, KidRecord, MemberRecord, QuotaPolicyRecord, RunRecord, SignalRecord,
    StreamMetaRecord, SuspensionRecord, WaitpointRecord,
};
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

/// Decodes the flat form of an execution's current or last suspension.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_suspension(execution_id: ExecutionId, map: &FlatMap) -> Result<SuspensionRecord, DecodeError> {
    SuspensionRecord::decode(execution_id, map)
}

/// Decodes a waitpoint's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_waitpoint(
    execution_id: ExecutionId,
    waitpoint_id: WaitpointId,
    map: &FlatMap,
) -> Result<WaitpointRecord, DecodeError> {
    WaitpointRecord::decode(execution_id, waitpoint_id, map)
}

/// Decodes a signal's flat form, payload included.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_signal(execution_id: ExecutionId, seq: u64, map: &FlatMap) -> Result<SignalRecord, DecodeError> {
    SignalRecord::decode(execution_id, seq, map)
}

/// Decodes the flat form of a signal's dedup entry.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_dedup(execution_id: ExecutionId, signal_id: SignalId, map: &FlatMap) -> Result<DedupRecord, DecodeError> {
    DedupRecord::decode(execution_id, signal_id, map)
}

/// Decodes a kid's flat form, secret included.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_kid(partition: u16, kid: &Kid, map: &FlatMap) -> Result<KidRecord, DecodeError> {
    KidRecord::decode(partition, kid, map)
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

/// Decodes a budget's flat form. No due rule is applied.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_budget(budget_id: &BudgetId, map: &FlatMap) -> Result<BudgetRecord, DecodeError> {
    BudgetRecord::decode(budget_id, map)
}

/// Decodes the flat form of what a budget remembers under a dedup key.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_budget_key(scope: BudgetKeyScope, map: &FlatMap) -> Result<BudgetKeyRecord, DecodeError> {
    BudgetKeyRecord::decode(scope, map)
}

/// Decodes a quota policy's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_quota_policy(quota_policy_id: &QuotaPolicyId, map: &FlatMap) -> Result<QuotaPolicyRecord, DecodeError> {
    QuotaPolicyRecord::decode(quota_policy_id, map)
}

/// Decodes an admission slot's flat form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_admission_slot(identity: AdmissionIdentity, map: &FlatMap) -> Result<AdmissionSlotRecord, DecodeError> {
    AdmissionSlotRecord::decode(identity, map)
}

/// Decodes the flat form of an attempt's stream metadata.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode_stream_meta(
    execution_id: ExecutionId,
    attempt_index: AttemptIndex,
    map: &FlatMap,
) -> Result<StreamMetaRecord, DecodeError> {
    StreamMetaRecord::decode(execution_id, attempt_index, map)
}

/// Decodes a stream entry: names and values in turn, as a store returns them. Its version is that of its stream.
///
/// # Errors
/// The first thing that is wrong with it; `bad_list` for a list of odd length or a name twice.
pub fn decode_stream_frame(id: StreamEntryId, version: &[u8], pairs: &[Bytes]) -> Result<StreamFrame, DecodeError> {
    StreamFrame::decode_pairs(id, version, pairs)
}
