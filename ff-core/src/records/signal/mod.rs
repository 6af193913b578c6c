//! Signal and its dedup entry: `suspension.md`, section 8.

mod codec;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canon::Digest;
use crate::contracts::{SignalEffect, SignalSource};
use crate::ids::{ExecutionId, Kid, SignalId, WaitpointId};
use crate::time::TimestampMs;

/// What let a signal in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalAuth {
    /// A waitpoint token.
    Token {
        /// The key that signed it.
        kid: Kid,
        /// Whether it was bound to the source.
        source_bound: bool,
    },
    /// The engine itself.
    Engine,
}

/// One recorded signal, keyed (execution, seq); immutable but for its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its id.
    pub signal_id: SignalId,
    /// Its place in the order of acceptance, from 1.
    pub seq: u64,
    /// When it was accepted.
    pub accepted_at: TimestampMs,
    /// Where it was sent; none iff made by the engine.
    pub waitpoint_id: Option<WaitpointId>,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: String,
    /// Who sent it.
    pub source: SignalSource,
    /// Its correlation id.
    pub correlation_id: Option<String>,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// Its payload.
    #[serde(with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// The payload's encoding.
    pub encoding: Option<String>,
    /// What let it in.
    pub auth: SignalAuth,
    /// What it did.
    pub effect: SignalEffect,
}

/// What recognises a signal that was sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The first signal's id.
    pub signal_id: SignalId,
    /// Where it was sent.
    pub waitpoint_id: WaitpointId,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// Digest of its content.
    pub digest: Digest,
    /// What it did.
    pub effect: SignalEffect,
}
