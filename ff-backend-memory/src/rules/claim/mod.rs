//! Domain claim: `execution.md`, section 5.

mod by_id;
mod next;

pub use by_id::{claim_execution, claim_resumed_execution, issue_claim_grant, issue_reclaim_grant, reclaim_execution};
pub use next::claim_next;

use ff_core::contracts::{
    ClaimKind, ClaimedExecution, ClaimedResumedExecution, NextClaim, NotEligibleCause, NotReclaimableCause, ResumeCause,
};
use ff_core::ids::{AttemptId, LeaseId, WorkerId, WorkerInstanceId};
use ff_core::records::PauseKind;
use ff_core::refusal::Refusal;
use ff_core::state::StateName;
use ff_core::time::TimestampMs;

use crate::model::{Execution, Partition};
use crate::routines::{deadline_is_due, is_covered, state_name};
use crate::rules::suspension::resume_info;

/// Refuses an execution that is not READY, or is not to be handed out.
fn check_eligible(p: &Partition, x: &Execution, now: TimestampMs) -> Result<(), Refusal> {
    let cause = match state_name(x) {
        StateName::Ready if is_covered(p, x) => NotEligibleCause::FlowCancelled,
        StateName::Ready if deadline_is_due(x, now) => NotEligibleCause::DeadlinePassed,
        StateName::Ready => return Ok(()),
        StateName::Delayed => NotEligibleCause::Delayed,
        StateName::Deps => NotEligibleCause::Dependencies,
        StateName::Blocked => NotEligibleCause::Blocked,
        _ => NotEligibleCause::NotRunnable,
    };
    Err(Refusal::execution_not_eligible(x.record.vector, cause))
}

/// Refuses an execution that is neither LOST nor REVOKED (nor, if `also_expired`, RUNNING past its lease), or is not to
/// be handed out.
fn check_reclaimable(p: &Partition, x: &Execution, now: TimestampMs, also_expired: bool) -> Result<(), Refusal> {
    let r = &x.record;
    let expired = also_expired && r.lease.as_ref().is_some_and(|l| l.expires_at <= now);
    let cause = if !r.vector.is_reclaimable() && !expired {
        NotReclaimableCause::NotLost
    } else if r.not_before.is_some() {
        NotReclaimableCause::Delayed
    } else if !r.blocks.is_empty() {
        NotReclaimableCause::Blocked
    } else if is_covered(p, x) {
        NotReclaimableCause::FlowCancelled
    } else if deadline_is_due(x, now) {
        NotReclaimableCause::DeadlinePassed
    } else {
        return Ok(());
    };
    Err(Refusal::execution_not_reclaimable(r.vector, cause))
}

/// Who asks for a claim, and under which names.
struct Claimant<'a> {
    worker_id: &'a WorkerId,
    worker_instance_id: &'a WorkerInstanceId,
    lease_id: LeaseId,
    /// Compared for a new attempt.
    attempt_id: Option<AttemptId>,
    /// The kind of the call; none is any.
    kind: Option<ClaimKind>,
}

/// Whether the execution that holds this lease id holds it by a repeat of this claim.
fn is_repeat(x: &Execution, now: TimestampMs, by: &Claimant<'_>) -> bool {
    let Some(lease) = &x.record.lease else { return false };
    let attempt_fits =
        lease.claim_kind == ClaimKind::Resumed || x.attempt.as_ref().map(|a| a.attempt_id) == by.attempt_id;
    lease.lease_id == by.lease_id
        && lease.expires_at > now
        && lease.worker_id == *by.worker_id
        && lease.worker_instance_id == *by.worker_instance_id
        && by.kind.is_none_or(|kind| kind == lease.claim_kind)
        && attempt_fits
}

/// What a claim answers, read from the records.
fn claimed(p: &Partition, x: &Execution) -> Option<ClaimedExecution> {
    let attempt = x.attempt.as_ref()?;
    ClaimedExecution::of(&x.record, x.payload.clone(), x.payload_encoding.clone(), attempt, p.inputs(x))
}

/// Why a continued attempt goes on.
fn resume_cause(p: &Partition, x: &Execution) -> ResumeCause {
    match x.attempt.as_ref().and_then(|a| a.pause_kind) {
        Some(PauseKind::Children) => {
            let (satisfied_count, impossible_count) =
                p.member(x).map_or((0, 0), |m| (m.satisfied_count, m.impossible_count));
            ResumeCause::ChildrenDone { satisfied_count, impossible_count }
        }
        Some(PauseKind::Suspension) => {
            let suspension = x.suspension.as_deref().filter(|s| !s.is_open());
            let info = suspension.and_then(|s| resume_info(x, s));
            info.map_or(ResumeCause::DelayOver, ResumeCause::Suspension)
        }
        Some(PauseKind::Delay) | None => ResumeCause::DelayOver,
    }
}

fn claimed_resumed(p: &Partition, x: &Execution) -> Option<ClaimedResumedExecution> {
    Some(ClaimedResumedExecution::of(claimed(p, x)?, resume_cause(p, x)))
}

/// The answer of `claim_next` for an execution that is owned.
fn next_claim(p: &Partition, x: &Execution) -> Option<NextClaim> {
    Some(match x.record.lease.as_ref()?.claim_kind {
        ClaimKind::New => NextClaim::New(claimed(p, x)?),
        ClaimKind::Resumed => NextClaim::Resumed(claimed_resumed(p, x)?),
        ClaimKind::Reclaimed => NextClaim::Reclaimed(claimed(p, x)?),
    })
}
