//! Domain suspension: `suspension.md`, section 4.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canon::{Canon, Canonical};
use crate::contracts::{SignalEffect, SignalSource};
use crate::ids::{SignalId, SuspensionId, WaitpointId};
use crate::records::OperatorResume;
use crate::state::BlockingReason;
use crate::time::{MAX_DURATION_MS, TimestampMs};
use crate::word_enum;

word_enum! {
    /// Why an attempt pauses.
    pub enum SuspensionReason {
        /// It waits for a signal.
        WaitingForSignal = "waiting_for_signal",
        /// It waits for an approval.
        WaitingForApproval = "waiting_for_approval",
        /// It waits for a callback.
        WaitingForCallback = "waiting_for_callback",
        /// It waits for a tool's result.
        WaitingForToolResult = "waiting_for_tool_result",
        /// An operator shall look at it.
        WaitingForOperatorReview = "waiting_for_operator_review",
        /// A policy paused it.
        PausedByPolicy = "paused_by_policy",
        /// A budget paused it.
        PausedByBudget = "paused_by_budget",
        /// A step is over.
        StepBoundary = "step_boundary",
        /// A person paused it.
        ManualPause = "manual_pause",
    }
}

impl SuspensionReason {
    /// The blocking reason of the suspended execution.
    #[must_use]
    pub const fn blocking_reason(self) -> BlockingReason {
        match self {
            Self::WaitingForSignal | Self::StepBoundary => BlockingReason::WaitingForSignal,
            Self::WaitingForApproval => BlockingReason::WaitingForApproval,
            Self::WaitingForCallback => BlockingReason::WaitingForCallback,
            Self::WaitingForToolResult => BlockingReason::WaitingForToolResult,
            Self::WaitingForOperatorReview | Self::ManualPause => BlockingReason::PausedByOperator,
            Self::PausedByPolicy => BlockingReason::PausedByPolicy,
            Self::PausedByBudget => BlockingReason::WaitingForBudget,
        }
    }
}

/// What happens when a suspension's time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum TimeoutBehavior {
    /// The execution ends failed; the retry policy is not asked.
    #[default]
    Fail,
    /// The execution ends cancelled.
    Cancel,
    /// The execution ends expired.
    Expire,
    /// The attempt goes on.
    AutoResume,
    /// It stays suspended, for an operator.
    Escalate {
        /// Fails after this many further milliseconds, `1..=366 days`; none is never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fail_after_ms: Option<u64>,
    },
}

impl TimeoutBehavior {
    /// Whether its duration, if it has one, is within bounds.
    #[must_use]
    pub const fn within_bounds(self) -> bool {
        match self {
            Self::Escalate { fail_after_ms: Some(ms) } => ms >= 1 && ms <= MAX_DURATION_MS,
            _ => true,
        }
    }

    /// Its name without the duration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
            Self::AutoResume => "auto_resume",
            Self::Escalate { .. } => "escalate",
        }
    }
}

impl Canon for TimeoutBehavior {
    fn canon(&self, out: &mut Canonical) {
        out.field(self.as_str().as_bytes());
        if let Self::Escalate { fail_after_ms } = self {
            out.put(fail_after_ms);
        }
    }
}

word_enum! {
    /// Why a suspension closed.
    pub enum SuspensionCloseReason {
        /// A signal satisfied its condition.
        Satisfied = "satisfied",
        /// Buffered signals satisfied it before it began.
        AlreadySatisfied = "already_satisfied",
        /// An operator resumed it.
        OperatorResume = "operator_resume",
        /// Its time was over: failed.
        TimedOutFail = "timed_out_fail",
        /// Its time was over: cancelled.
        TimedOutCancel = "timed_out_cancel",
        /// Its time was over: expired.
        TimedOutExpire = "timed_out_expire",
        /// Its time was over: resumed.
        TimedOutAutoResume = "timed_out_auto_resume",
        /// Something else ended the execution.
        ExecutionEnded = "execution_ended",
    }
}

word_enum! {
    /// The life of a waitpoint.
    pub enum WaitpointState {
        /// Made ahead of a suspension; buffers signals.
        Pending = "pending",
        /// Belongs to the open suspension.
        Active = "active",
        /// Takes no more signals.
        Closed = "closed",
    }
}

word_enum! {
    /// Why a waitpoint closed.
    pub enum WaitpointCloseReason {
        /// Its suspension's condition was satisfied.
        Satisfied = "satisfied",
        /// An operator resumed its suspension.
        OperatorResume = "operator_resume",
        /// Its suspension's time was over.
        TimedOut = "timed_out",
        /// It aged out while pending.
        Expired = "expired",
        /// Its owner closed it.
        Withdrawn = "withdrawn",
        /// Its attempt ended.
        AttemptEnded = "attempt_ended",
        /// Its execution ended.
        ExecutionEnded = "execution_ended",
    }
}

word_enum! {
    /// What is wrong with a resume condition.
    pub enum ConditionFault {
        /// Another version than 1.
        UnsupportedVersion = "unsupported_version",
        /// Over 8 KiB of compact JSON.
        TooLarge = "too_large",
        /// Below depth 4.
        TooDeep = "too_deep",
        /// More than 64 nodes.
        TooManyNodes = "too_many_nodes",
        /// A kind that may stand only at the root.
        NotAtRoot = "not_at_root",
        /// A list without elements.
        EmptyList = "empty_list",
        /// A waitpoint named twice in one list.
        DuplicateWaitpoint = "duplicate_waitpoint",
        /// A waitpoint that the call does not bind.
        UnboundWaitpoint = "unbound_waitpoint",
        /// n outside 1..=1000, or over the number of waitpoints.
        CountOutOfRange = "count_out_of_range",
        /// A matcher's field breaks its rule.
        BadMatcher = "bad_matcher",
        /// A leaf, but nothing is bound.
        NoWaitpoint = "no_waitpoint",
        /// A bound waitpoint that no leaf looks at.
        UnreferencedWaitpoint = "unreferenced_waitpoint",
        /// `timeout_only` without a timeout.
        NeedsTimeout = "needs_timeout",
        /// It can be ended only by an operator, and the policy forbids that.
        NeedsOverride = "needs_override",
        /// Fewer declared sources than the leaf needs.
        TooFewSources = "too_few_sources",
    }
}

word_enum! {
    /// Which bound on waitpoints.
    pub enum WaitpointLimitScope {
        /// Open pending ones per execution: 16.
        Pending = "pending",
        /// Ids ever used per execution: 10,000.
        Execution = "execution",
    }
}

/// How a suspended execution resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumePolicy {
    /// Milliseconds between the resume and the next claim, 0..=30 days; 0.
    pub resume_delay_ms: u64,
    /// Whether an operator may resume it; true.
    pub allow_operator_override: bool,
}

impl Default for ResumePolicy {
    fn default() -> Self {
        Self { resume_delay_ms: 0, allow_operator_override: true }
    }
}

impl Canon for ResumePolicy {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.resume_delay_ms).put(&self.allow_operator_override);
    }
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

/// One signal that contributed to the end of a suspension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The signals that contributed, and the timeout signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedSignals {
    /// How many there are.
    pub total: u64,
    /// The one that satisfied the condition.
    pub closer: Option<SignalId>,
    /// The first 16 in order of acceptance.
    pub first: Vec<MatchedSignal>,
}

/// What a claim that continues a suspended attempt is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
