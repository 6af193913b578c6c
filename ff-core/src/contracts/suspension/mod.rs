//! Domain suspension: `suspension.md`, section 4.

mod resume;
mod suspend;
mod waitpoint;

#[cfg(test)]
mod tests;

pub use resume::*;
pub use suspend::*;
pub use waitpoint::*;

use waitpoint::check_sources;

use serde::{Deserialize, Serialize};

use crate::canon::{Canon, Canonical};
use crate::state::BlockingReason;
use crate::time::MAX_DURATION_MS;
use crate::word_enum;

/// Waitpoints that one suspension binds at most, sources that one waitpoint declares at most, and pending waitpoints
/// of one execution that are open at once.
pub const MAX_WAITPOINTS: usize = 16;
/// Waitpoint ids that one execution ever uses.
pub const MAX_WAITPOINT_IDS: u32 = 10_000;
/// The longest continuation, in bytes.
pub const MAX_CONTINUATION_BYTES: usize = 1024;

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
///
/// JSON: tagged by `type`; an absent `fail_after_ms` is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", from = "StrictTimeoutBehavior")]
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

/// The same as it is read: serde lets a tagged unit variant have any further fields, a struct variant none.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum StrictTimeoutBehavior {
    Fail {},
    Cancel {},
    Expire {},
    AutoResume {},
    Escalate {
        #[serde(default)]
        fail_after_ms: Option<u64>,
    },
}

impl From<StrictTimeoutBehavior> for TimeoutBehavior {
    fn from(read: StrictTimeoutBehavior) -> Self {
        match read {
            StrictTimeoutBehavior::Fail {} => Self::Fail,
            StrictTimeoutBehavior::Cancel {} => Self::Cancel,
            StrictTimeoutBehavior::Expire {} => Self::Expire,
            StrictTimeoutBehavior::AutoResume {} => Self::AutoResume,
            StrictTimeoutBehavior::Escalate { fail_after_ms } => Self::Escalate { fail_after_ms },
        }
    }
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

impl ResumePolicy {
    /// The longest `resume_delay_ms`: 30 days.
    pub const MAX_RESUME_DELAY_MS: u64 = 30 * 24 * 60 * 60 * 1000;

    /// Whether its delay is within bounds.
    #[must_use]
    pub const fn within_bounds(self) -> bool {
        self.resume_delay_ms <= Self::MAX_RESUME_DELAY_MS
    }
}

impl Canon for ResumePolicy {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.resume_delay_ms).put(&self.allow_operator_override);
    }
}
