//! The state vector: six stored dimensions, the combinations that exist, and the label derived from them.

use serde::{Deserialize, Serialize};

use crate::ids::AttemptIndex;
use crate::word_enum;

word_enum! {
    /// What an execution is doing at the coarsest.
    pub enum LifecyclePhase {
        /// Never written; accepted on read.
        Submitted = "submitted",
        /// Waiting for its turn, for time, for others or for permission.
        Runnable = "runnable",
        /// Owned by a worker, or lately lost or withdrawn from one.
        Active = "active",
        /// Paused until signals arrive.
        Suspended = "suspended",
        /// Ended.
        Terminal = "terminal",
    }
}

word_enum! {
    /// Who owns it.
    pub enum OwnershipState {
        /// Nobody.
        Unowned = "unowned",
        /// A worker, under a lease.
        Leased = "leased",
        /// Nobody: the lease ran out; the next claim reclaims.
        LeaseExpiredReclaimable = "lease_expired_reclaimable",
        /// Nobody: the lease was withdrawn; the next claim reclaims.
        LeaseRevoked = "lease_revoked",
    }
}

word_enum! {
    /// Whether a claim may take it.
    pub enum EligibilityState {
        /// It may.
        EligibleNow = "eligible_now",
        /// A time must pass first.
        NotEligibleUntilTime = "not_eligible_until_time",
        /// Others must end first.
        BlockedByDependencies = "blocked_by_dependencies",
        /// A budget is exhausted.
        BlockedByBudget = "blocked_by_budget",
        /// A quota is reached.
        BlockedByQuota = "blocked_by_quota",
        /// No capable worker.
        BlockedByRoute = "blocked_by_route",
        /// A policy paused it.
        BlockedByLaneState = "blocked_by_lane_state",
        /// An operator paused it.
        BlockedByOperator = "blocked_by_operator",
        /// It is not runnable.
        NotApplicable = "not_applicable",
    }
}

word_enum! {
    /// Why it waits.
    pub enum BlockingReason {
        /// Nothing holds it.
        None = "none",
        /// A worker must claim it.
        WaitingForWorker = "waiting_for_worker",
        /// A delay.
        WaitingForDelay = "waiting_for_delay",
        /// The backoff of a retry.
        WaitingForRetryBackoff = "waiting_for_retry_backoff",
        /// The delay after a resume.
        WaitingForResumeDelay = "waiting_for_resume_delay",
        /// Incoming edges.
        WaitingForChildren = "waiting_for_children",
        /// A budget.
        WaitingForBudget = "waiting_for_budget",
        /// A quota.
        WaitingForQuota = "waiting_for_quota",
        /// A capable worker.
        WaitingForCapableWorker = "waiting_for_capable_worker",
        /// Never written; accepted on read.
        WaitingForLocalityMatch = "waiting_for_locality_match",
        /// A signal.
        WaitingForSignal = "waiting_for_signal",
        /// An approval.
        WaitingForApproval = "waiting_for_approval",
        /// A callback.
        WaitingForCallback = "waiting_for_callback",
        /// A tool's result.
        WaitingForToolResult = "waiting_for_tool_result",
        /// An operator's hold.
        PausedByOperator = "paused_by_operator",
        /// A policy's hold.
        PausedByPolicy = "paused_by_policy",
        /// Never written; accepted on read.
        PausedByFlowCancel = "paused_by_flow_cancel",
    }
}

word_enum! {
    /// How it ended.
    pub enum TerminalOutcome {
        /// It has not.
        None = "none",
        /// With success.
        Success = "success",
        /// With failure.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// Its time was over.
        Expired = "expired",
        /// What it depends on can no longer succeed.
        Skipped = "skipped",
    }
}

word_enum! {
    /// Which claim comes next, or what the attempt does now.
    pub enum AttemptState {
        /// No attempt was ever started.
        None = "none",
        /// The next claim starts the first attempt.
        PendingFirstAttempt = "pending_first_attempt",
        /// The next claim starts a retry.
        PendingRetryAttempt = "pending_retry_attempt",
        /// The next claim starts the first attempt of a replay.
        PendingReplayAttempt = "pending_replay_attempt",
        /// An attempt runs.
        RunningAttempt = "running_attempt",
        /// The attempt is paused, or was lost; a READY one goes on with the same attempt.
        AttemptInterrupted = "attempt_interrupted",
        /// Ended, and an attempt was started.
        AttemptTerminal = "attempt_terminal",
    }
}

word_enum! {
    /// The derived label of a state vector.
    pub enum PublicState {
        /// Ready to be claimed, or held by something other than budget and quota.
        Waiting = "waiting",
        /// Waiting for time.
        Delayed = "delayed",
        /// Waiting for budget or quota.
        RateLimited = "rate_limited",
        /// Waiting for incoming edges.
        WaitingChildren = "waiting_children",
        /// Owned, lost or revoked.
        Active = "active",
        /// Suspended.
        Suspended = "suspended",
        /// Ended with success.
        Completed = "completed",
        /// Ended with failure.
        Failed = "failed",
        /// Cancelled.
        Cancelled = "cancelled",
        /// Expired.
        Expired = "expired",
        /// Skipped.
        Skipped = "skipped",
    }
}

impl PublicState {
    /// Whether it is the label of an ended execution.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired | Self::Skipped)
    }
}

word_enum! {
    /// The life of one attempt; the last four are final and the record is then immutable.
    pub enum AttemptLifecycle {
        /// Never written; accepted on read.
        Created = "created",
        /// Running.
        Started = "started",
        /// Paused by a suspension, a delay or waiting for children.
        Suspended = "suspended",
        /// Ended with success.
        EndedSuccess = "ended_success",
        /// Ended with failure.
        EndedFailure = "ended_failure",
        /// Cancelled.
        EndedCancelled = "ended_cancelled",
        /// The lease was lost or revoked.
        InterruptedReclaimed = "interrupted_reclaimed",
    }
}

impl AttemptLifecycle {
    /// Whether the attempt has ended for good.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::EndedSuccess | Self::EndedFailure | Self::EndedCancelled | Self::InterruptedReclaimed)
    }
}

word_enum! {
    /// Why an attempt was started; the one with index 0 is always `initial`.
    pub enum AttemptType {
        /// The first of the execution.
        Initial = "initial",
        /// After a failure.
        Retry = "retry",
        /// After a lost or revoked lease.
        Reclaim = "reclaim",
        /// The first of a later run.
        Replay = "replay",
        /// Never written; accepted on read.
        Fallback = "fallback",
    }
}

word_enum! {
    /// Why an execution or an attempt ended.
    pub enum EndCause {
        /// Completed.
        Completed = "completed",
        /// Failed by its worker or an operator.
        Failed = "failed",
        /// The attempt ran out of its time.
        AttemptTimeout = "attempt_timeout",
        /// The lease ran out.
        LeaseExpired = "lease_expired",
        /// The lease was withdrawn.
        LeaseRevoked = "lease_revoked",
        /// Lost too often.
        MaxReclaimsExceeded = "max_reclaims_exceeded",
        /// Cancelled.
        Cancelled = "cancelled",
        /// Cancelled with its flow.
        FlowCancelled = "flow_cancelled",
        /// The deadline came.
        DeadlinePassed = "deadline_passed",
        /// The suspension ran out of its time.
        SuspensionTimeout = "suspension_timeout",
        /// An upstream can no longer satisfy its edge.
        DependencyImpossible = "dependency_impossible",
    }
}

word_enum! {
    /// What a `not_before` was set for.
    pub enum NotBeforeKind {
        /// A delay.
        Delay = "delay",
        /// A retry's backoff.
        RetryBackoff = "retry_backoff",
        /// The delay after a resume.
        ResumeDelay = "resume_delay",
    }
}

impl NotBeforeKind {
    /// The label that a delayed execution shows for it.
    #[must_use]
    pub const fn blocking_reason(self) -> BlockingReason {
        match self {
            Self::Delay => BlockingReason::WaitingForDelay,
            Self::RetryBackoff => BlockingReason::WaitingForRetryBackoff,
            Self::ResumeDelay => BlockingReason::WaitingForResumeDelay,
        }
    }
}

word_enum! {
    /// Why an execution is held back. Declared in the order in which the gate looks at them.
    pub enum BlockReason {
        /// An operator paused it.
        PausedByOperator = "paused_by_operator",
        /// A policy paused it.
        PausedByPolicy = "paused_by_policy",
        /// A budget is exhausted.
        WaitingForBudget = "waiting_for_budget",
        /// A quota is reached.
        WaitingForQuota = "waiting_for_quota",
        /// No worker is capable of it.
        WaitingForCapableWorker = "waiting_for_capable_worker",
    }
}

impl BlockReason {
    /// The eligibility of an execution that shows this block.
    #[must_use]
    pub const fn eligibility(self) -> EligibilityState {
        match self {
            Self::PausedByOperator => EligibilityState::BlockedByOperator,
            Self::PausedByPolicy => EligibilityState::BlockedByLaneState,
            Self::WaitingForBudget => EligibilityState::BlockedByBudget,
            Self::WaitingForQuota => EligibilityState::BlockedByQuota,
            Self::WaitingForCapableWorker => EligibilityState::BlockedByRoute,
        }
    }

    /// The blocking reason of an execution that shows this block.
    #[must_use]
    pub const fn blocking_reason(self) -> BlockingReason {
        match self {
            Self::PausedByOperator => BlockingReason::PausedByOperator,
            Self::PausedByPolicy => BlockingReason::PausedByPolicy,
            Self::WaitingForBudget => BlockingReason::WaitingForBudget,
            Self::WaitingForQuota => BlockingReason::WaitingForQuota,
            Self::WaitingForCapableWorker => BlockingReason::WaitingForCapableWorker,
        }
    }

    /// How long the block lasts if nothing was said, in milliseconds; `None` is until it is taken away.
    #[must_use]
    pub const fn default_until_ms(self) -> Option<u64> {
        match self {
            Self::PausedByOperator | Self::PausedByPolicy => None,
            Self::WaitingForBudget | Self::WaitingForQuota | Self::WaitingForCapableWorker => Some(60_000),
        }
    }
}

/// The row of the contract's table that a vector belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// May be claimed now.
    Ready,
    /// Waits for time.
    Delayed,
    /// Waits for incoming edges.
    Deps,
    /// Held by a block.
    Blocked,
    /// Owned under a lease.
    Running,
    /// The lease ran out.
    Lost,
    /// The lease was withdrawn.
    Revoked,
    /// Paused until signals arrive.
    Suspended,
    /// Ended.
    Done,
}

/// The six stored dimensions. Only the combinations of the contract's section 4 are legal; see [`StateVector::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StateVector {
    /// What it is doing.
    pub lifecycle_phase: LifecyclePhase,
    /// Who owns it.
    pub ownership_state: OwnershipState,
    /// Whether a claim may take it.
    pub eligibility_state: EligibilityState,
    /// Why it waits.
    pub blocking_reason: BlockingReason,
    /// How it ended.
    pub terminal_outcome: TerminalOutcome,
    /// Which claim comes next.
    pub attempt_state: AttemptState,
}

impl StateVector {
    const fn runnable(e: EligibilityState, b: BlockingReason, a: AttemptState) -> Self {
        Self {
            lifecycle_phase: LifecyclePhase::Runnable,
            ownership_state: OwnershipState::Unowned,
            eligibility_state: e,
            blocking_reason: b,
            terminal_outcome: TerminalOutcome::None,
            attempt_state: a,
        }
    }

    const fn active(o: OwnershipState, b: BlockingReason, a: AttemptState) -> Self {
        Self {
            lifecycle_phase: LifecyclePhase::Active,
            ownership_state: o,
            eligibility_state: EligibilityState::NotApplicable,
            blocking_reason: b,
            terminal_outcome: TerminalOutcome::None,
            attempt_state: a,
        }
    }

    /// RUNNING.
    pub const RUNNING: Self = Self::active(OwnershipState::Leased, BlockingReason::None, AttemptState::RunningAttempt);
    /// LOST.
    pub const LOST: Self = Self::active(
        OwnershipState::LeaseExpiredReclaimable,
        BlockingReason::WaitingForWorker,
        AttemptState::AttemptInterrupted,
    );
    /// REVOKED.
    pub const REVOKED: Self =
        Self::active(OwnershipState::LeaseRevoked, BlockingReason::WaitingForWorker, AttemptState::AttemptInterrupted);

    /// READY(a).
    #[must_use]
    pub const fn ready(a: AttemptState) -> Self {
        Self::runnable(EligibilityState::EligibleNow, BlockingReason::WaitingForWorker, a)
    }

    /// DELAYED(b, a), labelled by what the time was set for.
    #[must_use]
    pub const fn delayed(kind: NotBeforeKind, a: AttemptState) -> Self {
        Self::runnable(EligibilityState::NotEligibleUntilTime, kind.blocking_reason(), a)
    }

    /// DEPS(a).
    #[must_use]
    pub const fn deps(a: AttemptState) -> Self {
        Self::runnable(EligibilityState::BlockedByDependencies, BlockingReason::WaitingForChildren, a)
    }

    /// BLOCKED(e, b, a), labelled by the block that shows.
    #[must_use]
    pub const fn blocked(reason: BlockReason, a: AttemptState) -> Self {
        Self::runnable(reason.eligibility(), reason.blocking_reason(), a)
    }

    /// SUSPENDED(b).
    #[must_use]
    pub const fn suspended(b: BlockingReason) -> Self {
        Self {
            lifecycle_phase: LifecyclePhase::Suspended,
            ownership_state: OwnershipState::Unowned,
            eligibility_state: EligibilityState::NotApplicable,
            blocking_reason: b,
            terminal_outcome: TerminalOutcome::None,
            attempt_state: AttemptState::AttemptInterrupted,
        }
    }

    /// DONE(o); `attempted` says whether an attempt was ever started.
    #[must_use]
    pub const fn done(o: TerminalOutcome, attempted: bool) -> Self {
        Self {
            lifecycle_phase: LifecyclePhase::Terminal,
            ownership_state: OwnershipState::Unowned,
            eligibility_state: EligibilityState::NotApplicable,
            blocking_reason: BlockingReason::None,
            terminal_outcome: o,
            attempt_state: if attempted { AttemptState::AttemptTerminal } else { AttemptState::None },
        }
    }

    /// The row of the table that this vector is; `None` when it is no legal combination.
    #[must_use]
    pub fn name(&self) -> Option<StateName> {
        let name = match self.lifecycle_phase {
            LifecyclePhase::Submitted => return None,
            LifecyclePhase::Runnable => match self.eligibility_state {
                EligibilityState::EligibleNow => StateName::Ready,
                EligibilityState::NotEligibleUntilTime => StateName::Delayed,
                EligibilityState::BlockedByDependencies => StateName::Deps,
                EligibilityState::NotApplicable => return None,
                _ => StateName::Blocked,
            },
            LifecyclePhase::Active => match self.ownership_state {
                OwnershipState::Leased => StateName::Running,
                OwnershipState::LeaseExpiredReclaimable => StateName::Lost,
                OwnershipState::LeaseRevoked => StateName::Revoked,
                OwnershipState::Unowned => return None,
            },
            LifecyclePhase::Suspended => StateName::Suspended,
            LifecyclePhase::Terminal => StateName::Done,
        };
        self.matches(name).then_some(name)
    }

    /// Whether the vector is exactly one of the row `name`.
    fn matches(&self, name: StateName) -> bool {
        let a = self.attempt_state;
        let pending = matches!(
            a,
            AttemptState::PendingFirstAttempt
                | AttemptState::PendingRetryAttempt
                | AttemptState::PendingReplayAttempt
                | AttemptState::AttemptInterrupted
        );
        match name {
            StateName::Ready => pending && *self == Self::ready(a),
            StateName::Delayed => pending && NotBeforeKind::ALL.iter().any(|k| *self == Self::delayed(*k, a)),
            StateName::Deps => pending && *self == Self::deps(a),
            StateName::Blocked => pending && BlockReason::ALL.iter().any(|r| *self == Self::blocked(*r, a)),
            StateName::Running => *self == Self::RUNNING,
            StateName::Lost => *self == Self::LOST,
            StateName::Revoked => *self == Self::REVOKED,
            StateName::Suspended => {
                let b = self.blocking_reason;
                *self == Self::suspended(b)
                    && matches!(
                        b,
                        BlockingReason::WaitingForSignal
                            | BlockingReason::WaitingForApproval
                            | BlockingReason::WaitingForCallback
                            | BlockingReason::WaitingForToolResult
                            | BlockingReason::PausedByOperator
                            | BlockingReason::PausedByPolicy
                            | BlockingReason::WaitingForBudget
                    )
            }
            StateName::Done => {
                let o = self.terminal_outcome;
                o != TerminalOutcome::None && (*self == Self::done(o, true) || *self == Self::done(o, false))
            }
        }
    }

    /// Whether it is one of the contract's combinations.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        self.name().is_some()
    }

    /// The derived label: a total function of the other six.
    #[must_use]
    pub const fn public_state(&self) -> PublicState {
        match self.lifecycle_phase {
            LifecyclePhase::Active => PublicState::Active,
            LifecyclePhase::Suspended => PublicState::Suspended,
            LifecyclePhase::Terminal => match self.terminal_outcome {
                TerminalOutcome::Success | TerminalOutcome::None => PublicState::Completed,
                TerminalOutcome::Failed => PublicState::Failed,
                TerminalOutcome::Cancelled => PublicState::Cancelled,
                TerminalOutcome::Expired => PublicState::Expired,
                TerminalOutcome::Skipped => PublicState::Skipped,
            },
            LifecyclePhase::Submitted | LifecyclePhase::Runnable => match self.eligibility_state {
                EligibilityState::NotEligibleUntilTime => PublicState::Delayed,
                EligibilityState::BlockedByDependencies => PublicState::WaitingChildren,
                EligibilityState::BlockedByBudget | EligibilityState::BlockedByQuota => PublicState::RateLimited,
                EligibilityState::EligibleNow
                | EligibilityState::BlockedByRoute
                | EligibilityState::BlockedByLaneState
                | EligibilityState::BlockedByOperator
                | EligibilityState::NotApplicable => PublicState::Waiting,
            },
        }
    }

    /// Whether it is READY, DELAYED, DEPS or BLOCKED.
    #[must_use]
    pub const fn is_runnable(&self) -> bool {
        matches!(self.lifecycle_phase, LifecyclePhase::Runnable)
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self.lifecycle_phase, LifecyclePhase::Terminal)
    }

    /// Whether it is RUNNING.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.ownership_state, OwnershipState::Leased)
    }

    /// Whether it is LOST or REVOKED.
    #[must_use]
    pub const fn is_reclaimable(&self) -> bool {
        matches!(self.ownership_state, OwnershipState::LeaseExpiredReclaimable | OwnershipState::LeaseRevoked)
    }

    /// Whether it is READY.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.eligibility_state, EligibilityState::EligibleNow)
    }
}

/// The state of an execution as answers carry it: the vector, its label and the newest attempt's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateSummary {
    /// The six dimensions.
    pub state_vector: StateVector,
    /// The label derived from them.
    pub public_state: PublicState,
    /// The newest attempt's index; none before the first claim.
    pub current_attempt_index: Option<AttemptIndex>,
}

impl StateSummary {
    /// The summary of a vector.
    #[must_use]
    pub const fn new(state_vector: StateVector, current_attempt_index: Option<AttemptIndex>) -> Self {
        Self { state_vector, public_state: state_vector.public_state(), current_attempt_index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the legal vectors over the whole product space against the table, row by row.
    #[test]
    fn exactly_the_combinations_of_the_table_are_legal() {
        let mut legal = std::collections::BTreeMap::new();
        for &lifecycle_phase in LifecyclePhase::ALL {
            for &ownership_state in OwnershipState::ALL {
                for &eligibility_state in EligibilityState::ALL {
                    for &blocking_reason in BlockingReason::ALL {
                        for &terminal_outcome in TerminalOutcome::ALL {
                            for &attempt_state in AttemptState::ALL {
                                let v = StateVector {
                                    lifecycle_phase,
                                    ownership_state,
                                    eligibility_state,
                                    blocking_reason,
                                    terminal_outcome,
                                    attempt_state,
                                };
                                if let Some(name) = v.name() {
                                    *legal.entry(name).or_insert(0) += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        let want = [
            (StateName::Ready, 4),
            (StateName::Delayed, 12),
            (StateName::Deps, 4),
            (StateName::Blocked, 20),
            (StateName::Running, 1),
            (StateName::Lost, 1),
            (StateName::Revoked, 1),
            (StateName::Suspended, 7),
            (StateName::Done, 10),
        ];
        assert_eq!(legal, want.into_iter().collect());
    }
}
