//! Suspension and waitpoint: `suspension.md`, section 8.

mod codec;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canon::Digest;
use crate::condition::{ResumeCondition, timeout_signal_id};
use crate::contracts::{
    Fence, ResumePolicy, SignalEffect, SignalSource, SuspensionCloseReason, SuspensionReason, TimeoutBehavior,
    WaitpointCloseReason, WaitpointState,
};
use crate::ids::{AttemptIndex, ExecutionId, SignalId, SuspensionId, WaitpointId};
use crate::records::{SignalAuth, SignalRecord};
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

    /// Whether it is open and its time is over at `now`, fired or not.
    #[must_use]
    pub fn is_timed_out(&self, now: TimestampMs) -> bool {
        self.is_open() && self.timeout_at.is_some_and(|at| at <= now)
    }

    /// Whether the signal is one of its own: sent to one of its waitpoints, or its timeout signal.
    #[must_use]
    pub fn has(&self, signal: &SignalRecord) -> bool {
        match signal.waitpoint_id {
            Some(waitpoint_id) => self.waitpoint_ids.contains(&waitpoint_id),
            None => {
                [false, true].iter().any(|&second| signal.signal_id == timeout_signal_id(self.suspension_id, second))
            }
        }
    }

    /// The signal that the engine records when its time is over.
    #[must_use]
    pub fn timeout_signal(&self, seq: u64, now: TimestampMs) -> SignalRecord {
        SignalRecord {
            execution_id: self.execution_id,
            signal_id: timeout_signal_id(self.suspension_id, self.escalated_at.is_some()),
            seq,
            accepted_at: now,
            waitpoint_id: None,
            name: "timeout".to_owned(),
            category: "timeout".to_owned(),
            source: SignalSource::engine(),
            correlation_id: None,
            idempotency_key: None,
            payload: Bytes::new(),
            encoding: None,
            auth: SignalAuth::Engine,
            effect: SignalEffect::TimeoutFired,
        }
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

impl WaitpointRecord {
    /// Why it takes no signals at `now`; `None` while it is open. What is due counts as closed before any timer fires:
    /// a pending one that aged out has `expired`, an active one whose suspension's time is over `timed_out`.
    ///
    /// `suspension` is the execution's open one. An active waitpoint without it, or a pending one without its expiry,
    /// is damaged and lets nobody in.
    #[must_use]
    pub fn closed_as(&self, suspension: Option<&SuspensionRecord>, now: TimestampMs) -> Option<WaitpointCloseReason> {
        match self.state {
            WaitpointState::Pending => {
                self.expires_at.is_none_or(|at| at <= now).then_some(WaitpointCloseReason::Expired)
            }
            WaitpointState::Active => {
                let own = suspension.filter(|s| s.is_open() && Some(s.suspension_id) == self.suspension_id);
                own.is_none_or(|s| s.is_timed_out(now)).then_some(WaitpointCloseReason::TimedOut)
            }
            WaitpointState::Closed => Some(self.close_reason.unwrap_or(WaitpointCloseReason::ExecutionEnded)),
        }
    }
}
