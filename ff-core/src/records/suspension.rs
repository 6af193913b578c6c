//! Suspension and waitpoint: `suspension.md`, section 8.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canon::Digest;
use crate::condition::ResumeCondition;
use crate::contracts::{
    Fence, ResumePolicy, SignalSource, SuspensionCloseReason, SuspensionReason, TimeoutBehavior, WaitpointCloseReason,
    WaitpointState,
};
use crate::ids::{AttemptIndex, ExecutionId, SignalId, SuspensionId, WaitpointId};
use crate::time::TimestampMs;

/// An operator's resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorResume {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// An intentional pause that waits for signals: one slot per execution, the current or last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspensionRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its id.
    pub suspension_id: SuspensionId,
    /// The attempt that paused.
    pub attempt_index: AttemptIndex,
    /// The fence of the suspend.
    pub fence: Fence,
    /// Digest of the suspend's other arguments.
    pub digest: Digest,
    /// Why.
    pub reason_code: SuspensionReason,
    /// For reviewers.
    pub detail: Option<String>,
    /// Opaque bytes for the resumed attempt.
    #[serde(default, with = "crate::wire::base64_option")]
    pub continuation: Option<Bytes>,
    /// What must arrive.
    pub condition: ResumeCondition,
    /// How it resumes.
    pub resume_policy: ResumePolicy,
    /// Its waitpoints, in binding order.
    pub waitpoint_ids: Vec<WaitpointId>,
    /// When it began.
    pub created_at: TimestampMs,
    /// The end of its time.
    pub timeout_at: Option<TimestampMs>,
    /// What happens then.
    pub timeout_behavior: Option<TimeoutBehavior>,
    /// When it escalated.
    pub escalated_at: Option<TimestampMs>,
    /// When it closed; open iff absent.
    pub closed_at: Option<TimestampMs>,
    /// Why.
    pub close_reason: Option<SuspensionCloseReason>,
    /// The signal that satisfied it.
    pub closer_signal_id: Option<SignalId>,
    /// The operator that resumed it.
    pub operator: Option<OperatorResume>,
}

impl SuspensionRecord {
    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }
}

/// The address that a signal is sent to; keyed (execution, waitpoint id).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitpointRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its id.
    pub waitpoint_id: WaitpointId,
    /// The attempt that made it.
    pub attempt_index: AttemptIndex,
    /// Who may signal it; empty is anyone with its token.
    pub sources: Vec<SignalSource>,
    /// When it was made.
    pub created_at: TimestampMs,
    /// Its life.
    pub state: WaitpointState,
    /// When it ages out while pending.
    pub expires_at: Option<TimestampMs>,
    /// The suspension that it belongs to.
    pub suspension_id: Option<SuspensionId>,
    /// Since when.
    pub activated_at: Option<TimestampMs>,
    /// When it closed.
    pub closed_at: Option<TimestampMs>,
    /// Why.
    pub close_reason: Option<WaitpointCloseReason>,
    /// The owner's reason for withdrawing it.
    pub close_detail: Option<String>,
    /// Signals recorded on it.
    pub signal_count: u32,
}
