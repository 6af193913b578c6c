//! Quota policy and its slots: `resources.md`, sections 2 and 6.

use serde::{Deserialize, Serialize};

use crate::canon::u;
use crate::contracts::CreateQuotaPolicyArgs;
use crate::ids::{AttemptIndex, ExecutionId, LeaseEpoch, QuotaPolicyId};
use crate::time::TimestampMs;

/// How many admissions a sliding window takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWindow {
    /// Admissions per window.
    pub max_requests: u64,
    /// The window in milliseconds.
    pub window_ms: u64,
}

/// A rate window and a concurrency cap. Its definition never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaPolicyRecord {
    /// Its id.
    pub quota_policy_id: QuotaPolicyId,
    /// The rate, if there is one.
    pub rate: Option<RateWindow>,
    /// The cap, if there is one.
    pub max_concurrent: Option<u64>,
    /// The spread of `retry_at`, in milliseconds.
    pub jitter_ms: u64,
    /// When it was created.
    pub created_at: TimestampMs,
}

/// What is admitted: one attempt of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AdmissionIdentity {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt that the claim starts or continues.
    pub attempt_index: AttemptIndex,
}

/// A place under the concurrency cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionSlotRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// The lease that it is for.
    pub lease_epoch: LeaseEpoch,
    /// When it lapses.
    pub expires_at: TimestampMs,
}

impl QuotaPolicyRecord {
    /// Whether a creation asks for this very definition.
    #[must_use]
    pub fn is_defined_by(&self, args: &CreateQuotaPolicyArgs) -> bool {
        self.rate.map(|r| r.max_requests) == args.max_requests_per_window
            && self.rate.map(|r| r.window_ms) == args.window_ms
            && self.max_concurrent == args.max_concurrent
            && self.jitter_ms == args.jitter_ms
    }
}

impl AdmissionIdentity {
    /// What is added to its `retry_at`, in milliseconds: a function of the identity alone, `0..=jitter_ms`, equal on
    /// every backend and in every repeat.
    #[must_use]
    pub fn jitter(&self, jitter_ms: u64) -> u64 {
        match jitter_ms {
            0 => 0,
            _ => u(format!("{}:{}", self.attempt_index, self.execution_id).as_bytes()) % (jitter_ms + 1),
        }
    }
}
