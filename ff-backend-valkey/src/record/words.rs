//! The numbers of closed sets in records.

use ff_core::records::PauseKind;
use ff_core::state::{
    AttemptLifecycle, AttemptState, AttemptType, BlockReason, BlockingReason, EndCause, NotBeforeKind, StateVector,
    TerminalOutcome,
};

/// The vector of its three numbers.
pub(crate) fn vector(s: u8, a: u8, b: u8, attempted: bool) -> Option<StateVector> {
    let pending = || {
        Some(match a {
            1 => AttemptState::PendingFirstAttempt,
            2 => AttemptState::PendingRetryAttempt,
            3 => AttemptState::PendingReplayAttempt,
            4 => AttemptState::AttemptInterrupted,
            _ => return None,
        })
    };
    Some(match s {
        1 => StateVector::ready(pending()?),
        2 => StateVector::delayed(not_before_kind(b)?, pending()?),
        3 => StateVector::deps(pending()?),
        4 => StateVector::blocked(block_reason(b)?, pending()?),
        5 => StateVector::RUNNING,
        6 => StateVector::LOST,
        7 => StateVector::REVOKED,
        8 => StateVector::suspended(match b {
            1 => BlockingReason::WaitingForSignal,
            2 => BlockingReason::WaitingForApproval,
            3 => BlockingReason::WaitingForCallback,
            4 => BlockingReason::WaitingForToolResult,
            5 => BlockingReason::PausedByOperator,
            6 => BlockingReason::PausedByPolicy,
            7 => BlockingReason::WaitingForBudget,
            _ => return None,
        }),
        9 => StateVector::done(outcome(b)?, attempted),
        _ => return None,
    })
}

pub(super) fn nth<T: Copy>(all: &[T], n: u8) -> Option<T> {
    all.get(usize::from(n).checked_sub(1)?).copied()
}

pub(super) fn not_before_kind(b: u8) -> Option<NotBeforeKind> {
    nth(&[NotBeforeKind::Delay, NotBeforeKind::RetryBackoff, NotBeforeKind::ResumeDelay], b)
}

pub(super) fn block_reason(b: u8) -> Option<BlockReason> {
    nth(
        &[
            BlockReason::PausedByOperator,
            BlockReason::PausedByPolicy,
            BlockReason::WaitingForBudget,
            BlockReason::WaitingForQuota,
            BlockReason::WaitingForCapableWorker,
        ],
        b,
    )
}

/// The number of a block reason in records and arguments.
pub(crate) const fn block_number(reason: BlockReason) -> u64 {
    match reason {
        BlockReason::PausedByOperator => 1,
        BlockReason::PausedByPolicy => 2,
        BlockReason::WaitingForBudget => 3,
        BlockReason::WaitingForQuota => 4,
        BlockReason::WaitingForCapableWorker => 5,
    }
}

pub(super) fn outcome(b: u8) -> Option<TerminalOutcome> {
    nth(
        &[
            TerminalOutcome::Success,
            TerminalOutcome::Failed,
            TerminalOutcome::Cancelled,
            TerminalOutcome::Expired,
            TerminalOutcome::Skipped,
        ],
        b,
    )
}

pub(super) fn attempt_lifecycle(n: u8) -> Option<AttemptLifecycle> {
    nth(
        &[
            AttemptLifecycle::Started,
            AttemptLifecycle::Suspended,
            AttemptLifecycle::EndedSuccess,
            AttemptLifecycle::EndedFailure,
            AttemptLifecycle::EndedCancelled,
            AttemptLifecycle::InterruptedReclaimed,
        ],
        n,
    )
}

pub(super) fn attempt_type(n: u8) -> Option<AttemptType> {
    nth(&[AttemptType::Initial, AttemptType::Retry, AttemptType::Reclaim, AttemptType::Replay], n)
}

pub(crate) fn end_cause(n: u8) -> Option<EndCause> {
    nth(EndCause::ALL, n)
}

pub(super) fn pause_kind(n: u8) -> Option<PauseKind> {
    nth(&[PauseKind::Delay, PauseKind::Children, PauseKind::Suspension], n)
}
