//! The end of a pause: by an operator, by its time, and what the resumed attempt is told.

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ResumePolicy, SuspensionCloseReason, SuspensionReason, TimeoutBehavior};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::condition::ResumeCondition;
use crate::contracts::{NotDueCause, SignalEffect, SignalSource};
use crate::ids::{AttemptIndex, ExecutionId, SignalId, SuspensionId, WaitpointId};
use crate::records::{OperatorResume, SignalRecord, SuspensionRecord};
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::TimestampMs;
use crate::word_enum;

/// Arguments of `resume_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ResumeExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The suspension to end; none is whichever is open. Only a call that names it can be repeated.
    #[serde(default)]
    pub suspension_id: Option<SuspensionId>,
    /// The operator; a name.
    #[builder(into)]
    pub by: String,
    /// Why; a text.
    #[builder(into)]
    pub reason: String,
}

impl CheckArgs for ResumeExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::name("by", &self.by)?;
        bounds::text("reason", &self.reason)
    }
}

/// Result of `resume_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeExecutionResult {
    /// The suspension is over.
    Resumed {
        /// The suspension.
        suspension_id: SuspensionId,
        /// The execution's state: claimable, delayed, behind new edges, or ended as a covered member.
        summary: StateSummary,
    },
}

/// Arguments of `expire_suspension`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireSuspensionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The suspension whose time is thought to be over; a later one is left alone.
    pub suspension_id: SuspensionId,
}

impl CheckArgs for ExpireSuspensionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `expire_suspension`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpireSuspensionResult {
    /// Its time was over, and that took effect.
    Expired {
        /// What the timeout did.
        behavior: TimeoutBehavior,
        /// The execution's state.
        summary: StateSummary,
    },
    /// It is not over, or the suspension is not the open one; nothing changed.
    NotDue {
        /// The first cause that holds.
        cause: NotDueCause,
        /// The execution's state.
        summary: StateSummary,
    },
}

word_enum! {
    /// What ended the suspension that a resumed claim follows.
    pub enum ResumeTrigger {
        /// Signals satisfied it.
        Signal = "signal",
        /// An operator resumed it.
        Operator = "operator",
        /// Its time was over, and it was to resume then.
        Timeout = "timeout",
    }
}

impl ResumeTrigger {
    /// What resumed an attempt whose suspension closed for this reason; `None` if that ended the execution.
    #[must_use]
    pub const fn of(reason: SuspensionCloseReason) -> Option<Self> {
        match reason {
            SuspensionCloseReason::Satisfied | SuspensionCloseReason::AlreadySatisfied => Some(Self::Signal),
            SuspensionCloseReason::OperatorResume => Some(Self::Operator),
            SuspensionCloseReason::TimedOutAutoResume => Some(Self::Timeout),
            SuspensionCloseReason::TimedOutFail
            | SuspensionCloseReason::TimedOutCancel
            | SuspensionCloseReason::TimedOutExpire
            | SuspensionCloseReason::ExecutionEnded => None,
        }
    }
}

/// One signal that contributed to the end of a suspension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MatchedSignal {
    /// Its id.
    pub signal_id: SignalId,
    /// Its place in the order of acceptance.
    pub seq: u64,
    /// Where it was sent; none for the engine's timeout signal.
    pub waitpoint_id: Option<WaitpointId>,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: String,
    /// Who sent it.
    pub source: SignalSource,
    /// Its correlation id.
    pub correlation_id: Option<String>,
    /// The payload's encoding.
    pub encoding: Option<String>,
    /// When it was accepted.
    pub accepted_at: TimestampMs,
    /// What it did.
    pub effect: SignalEffect,
    /// Its payload, while the sum of those shown is at most 64 KiB; else none, to be read by `list_signals`.
    #[serde(default, with = "crate::wire::base64_option")]
    pub payload: Option<Bytes>,
}

impl MatchedSignal {
    fn of(record: &SignalRecord, payload_shown: bool) -> Self {
        Self {
            signal_id: record.signal_id,
            seq: record.seq,
            waitpoint_id: record.waitpoint_id,
            name: record.name.clone(),
            category: record.category.clone(),
            source: record.source.clone(),
            correlation_id: record.correlation_id.clone(),
            encoding: record.encoding.clone(),
            accepted_at: record.accepted_at,
            effect: record.effect,
            payload: payload_shown.then(|| record.payload.clone()),
        }
    }
}

/// The signals that contributed, and the timeout signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MatchedSignals {
    /// How many there are.
    pub total: u64,
    /// The one that satisfied the condition.
    pub closer: Option<SignalId>,
    /// The first 16 in order of acceptance.
    pub first: Vec<MatchedSignal>,
}

impl MatchedSignals {
    /// How many are shown.
    pub const MAX_SHOWN: usize = 16;
    /// The greatest sum of the payloads shown, in bytes. The one that would pass it and all behind it are left out.
    pub const MAX_SHOWN_BYTES: usize = 65_536;

    /// The matched signals of a suspension, picked from `signals`, which must hold all of its signals in `seq` order
    /// and may hold others.
    pub fn of<'a>(suspension: &SuspensionRecord, signals: impl IntoIterator<Item = &'a SignalRecord>) -> Self {
        let mut total = 0;
        let all = signals.into_iter().filter(|s| s.effect.is_match() && suspension.has(s)).inspect(|_| total += 1);
        let matched = Self::of_first(0, suspension, all);
        Self { total, ..matched }
    }

    /// For backends: of how many signals matched in all and the first of them in order, [`Self::MAX_SHOWN`] or more.
    pub fn of_first<'a>(
        total: u64,
        suspension: &SuspensionRecord,
        first: impl IntoIterator<Item = &'a SignalRecord>,
    ) -> Self {
        let mut matched = Self { total, closer: suspension.closer_signal_id, first: Vec::new() };
        let (mut shown, mut showing) = (0, true);
        for signal in first {
            if matched.first.len() < Self::MAX_SHOWN {
                showing = showing && shown + signal.payload.len() <= Self::MAX_SHOWN_BYTES;
                if showing {
                    shown += signal.payload.len();
                }
                matched.first.push(MatchedSignal::of(signal, showing));
            }
        }
        matched
    }
}

/// What a claim that continues a suspended attempt is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResumeInfo {
    /// The suspension.
    pub suspension_id: SuspensionId,
    /// What ended it.
    pub trigger: ResumeTrigger,
    /// Who, if an operator did.
    pub operator: Option<OperatorResume>,
    /// The bytes that the attempt left for itself.
    #[serde(default, with = "crate::wire::base64_option")]
    pub continuation: Option<Bytes>,
    /// What arrived.
    pub matched: MatchedSignals,
}

impl ResumeInfo {
    /// What the attempt is told that the closed suspension let go; `None` while it is open, or when its end was the
    /// execution's. `signals` as for [`MatchedSignals::of`].
    pub fn of<'a>(suspension: &SuspensionRecord, signals: impl IntoIterator<Item = &'a SignalRecord>) -> Option<Self> {
        Self::with(suspension, MatchedSignals::of(suspension, signals))
    }

    /// For backends: of the closed suspension and its matched signals.
    #[must_use]
    pub fn with(suspension: &SuspensionRecord, matched: MatchedSignals) -> Option<Self> {
        let trigger = ResumeTrigger::of(suspension.close_reason?)?;
        Some(Self {
            suspension_id: suspension.suspension_id,
            trigger,
            operator: suspension.operator.clone(),
            continuation: suspension.continuation.clone(),
            matched,
        })
    }
}

/// A suspension as reads show it: its record without fence and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SuspensionInfo {
    /// Its id.
    pub suspension_id: SuspensionId,
    /// The attempt that paused.
    pub attempt_index: AttemptIndex,
    /// Why.
    pub reason_code: SuspensionReason,
    /// For reviewers.
    pub detail: Option<String>,
    /// The bytes that the attempt left for itself.
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
    /// The end of its time; kept when it closes.
    pub timeout_at: Option<TimestampMs>,
    /// What happens then.
    pub timeout_behavior: Option<TimeoutBehavior>,
    /// When it escalated; from then on only an operator or its time ends it.
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

impl SuspensionInfo {
    /// The record as reads show it.
    #[must_use]
    pub fn of(record: &SuspensionRecord) -> Self {
        Self {
            suspension_id: record.suspension_id,
            attempt_index: record.attempt_index,
            reason_code: record.reason_code,
            detail: record.detail.clone(),
            continuation: record.continuation.clone(),
            condition: record.condition.clone(),
            resume_policy: record.resume_policy,
            waitpoint_ids: record.waitpoint_ids.clone(),
            created_at: record.created_at,
            timeout_at: record.timeout_at,
            timeout_behavior: record.timeout_behavior,
            escalated_at: record.escalated_at,
            closed_at: record.closed_at,
            close_reason: record.close_reason,
            closer_signal_id: record.closer_signal_id,
            operator: record.operator.clone(),
        }
    }
}
