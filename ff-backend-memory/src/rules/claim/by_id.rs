//! Grants and claims by id (`execution.md` 5.1 to 5.3, 5.5, 5.6).

use ff_core::contracts::{
    ClaimExecutionArgs, ClaimExecutionResult, ClaimGrant, ClaimKind, ClaimResumedExecutionArgs,
    ClaimResumedExecutionResult, IssueClaimGrantArgs, IssueClaimGrantResult, IssueReclaimGrantArgs,
    IssueReclaimGrantResult, ReclaimExecutionArgs, ReclaimExecutionResult, ReclaimGrant,
};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptId, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use ff_core::records::GrantRecord;
use ff_core::refusal::Refusal;
use ff_core::state::AttemptState;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use super::{Claimant, check_eligible, check_reclaimable, claimed, claimed_resumed, is_repeat};
use crate::cascade::{self, Call};
use crate::model::{Execution, Partition, corrupt_execution};
use crate::routines::{Acquisition, acquire, lose, touch};

/// Whether a live grant is the asker's own; a live one of another is refused.
fn holds_live_grant(
    x: &Execution,
    worker_id: &WorkerId,
    instance: &WorkerInstanceId,
    now: TimestampMs,
) -> Result<bool, Refusal> {
    match &x.record.grant {
        Some(grant) if grant.expires_at > now => {
            if grant.worker_id == *worker_id && grant.worker_instance_id == *instance {
                Ok(true)
            } else {
                Err(Refusal::grant_already_exists(grant.expires_at))
            }
        }
        _ => Ok(false),
    }
}

fn check_capable(x: &Execution, capabilities: &Capabilities) -> Result<(), Refusal> {
    let required = &x.record.policy.required_capabilities;
    if capabilities.covers(required) {
        return Ok(());
    }
    Err(Refusal::capability_mismatch(capabilities.missing(required)))
}

/// The grant must live and be the asker's.
fn check_grant_held(
    x: &Execution,
    worker_id: &WorkerId,
    instance: &WorkerInstanceId,
    now: TimestampMs,
) -> Result<(), Refusal> {
    match &x.record.grant {
        Some(grant) if grant.worker_id == *worker_id && grant.worker_instance_id == *instance => {
            if grant.expires_at > now { Ok(()) } else { Err(Refusal::claim_grant_expired(grant.expires_at)) }
        }
        _ => Err(Refusal::invalid_claim_grant()),
    }
}

fn grant(x: &mut Execution, worker_id: &WorkerId, instance: &WorkerInstanceId, now: TimestampMs, ttl_ms: u64) {
    x.record.grant = Some(GrantRecord {
        worker_id: worker_id.clone(),
        worker_instance_id: instance.clone(),
        granted_at: now,
        expires_at: now.after(ttl_ms),
    });
    touch(x, now);
}

/// Promises a ready execution to a holder.
///
/// # Errors
/// `execution_not_eligible`, `grant_already_exists`, `capability_mismatch`.
pub fn issue_claim_grant(
    p: &mut Partition,
    now: TimestampMs,
    args: &IssueClaimGrantArgs,
) -> Result<IssueClaimGrantResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    check_eligible(p, x, now)?;
    if !holds_live_grant(x, &args.worker_id, &args.worker_instance_id, now)? {
        check_capable(x, &args.capabilities)?;
        let mut x = p.take(args.execution_id.uuid())?;
        grant(&mut x, &args.worker_id, &args.worker_instance_id, now, args.grant_ttl_ms);
        p.put(x, now);
    }
    let answer = ClaimGrant::of(&p.find(&args.execution_id)?.record);
    Ok(IssueClaimGrantResult::Granted(answer.ok_or_else(corrupt_execution)?))
}

/// Refuses a lease id that names a lease; says the execution if it is a repeat of this claim.
fn check_lease_id(p: &Partition, x: &Execution, now: TimestampMs, by: &Claimant<'_>) -> Result<bool, Refusal> {
    match p.leases.get(&by.lease_id) {
        None => Ok(false),
        Some(owner) if *owner == x.uuid() && is_repeat(x, now, by) => Ok(true),
        Some(_) => Err(Refusal::lease_id_in_use()),
    }
}

fn own(p: &mut Partition, now: TimestampMs, uuid: Uuid, by: &Acquisition<'_>) -> Result<(), EngineError> {
    let mut x = p.take(uuid)?;
    acquire(&mut x, now, by);
    p.put(x, now);
    Ok(())
}

/// Claims a ready execution under a grant: a new attempt.
///
/// # Errors
/// `lease_id_in_use`, `execution_not_eligible`, `use_claim_resumed_execution`, `invalid_claim_grant`,
/// `claim_grant_expired`.
pub fn claim_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ClaimExecutionArgs,
) -> Result<ClaimExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let by = Claimant {
        worker_id: &args.worker_id,
        worker_instance_id: &args.worker_instance_id,
        lease_id: args.lease_id,
        attempt_id: Some(args.attempt_id),
        kind: Some(ClaimKind::New),
    };
    if !check_lease_id(p, x, now, &by)? {
        check_eligible(p, x, now)?;
        if x.record.vector.attempt_state == AttemptState::AttemptInterrupted {
            return Err(Refusal::use_claim_resumed_execution().into());
        }
        check_grant_held(x, &args.worker_id, &args.worker_instance_id, now)?;
        own(
            p,
            now,
            args.execution_id.uuid(),
            &acquisition(&args.worker_id, &args.worker_instance_id, &by, args.lease_ttl_ms),
        )?;
    }
    let answer = claimed(p, p.find(&args.execution_id)?);
    Ok(ClaimExecutionResult::Claimed(answer.ok_or_else(corrupt_execution)?))
}

fn acquisition<'a>(
    worker_id: &'a WorkerId,
    worker_instance_id: &'a WorkerInstanceId,
    by: &Claimant<'_>,
    lease_ttl_ms: u64,
) -> Acquisition<'a> {
    // A continued attempt keeps its own id and leaves this one unused.
    let attempt_id = by.attempt_id.unwrap_or(AttemptId::from_uuid(Uuid::nil()));
    Acquisition { worker_id, worker_instance_id, lease_id: by.lease_id, attempt_id, lease_ttl_ms }
}

/// Claims a ready execution with a paused attempt under a grant: the attempt goes on.
///
/// # Errors
/// As [`claim_execution`], with `not_a_resumed_execution`.
pub fn claim_resumed_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ClaimResumedExecutionArgs,
) -> Result<ClaimResumedExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let by = Claimant {
        worker_id: &args.worker_id,
        worker_instance_id: &args.worker_instance_id,
        lease_id: args.lease_id,
        attempt_id: None,
        kind: Some(ClaimKind::Resumed),
    };
    if !check_lease_id(p, x, now, &by)? {
        check_eligible(p, x, now)?;
        if x.record.vector.attempt_state != AttemptState::AttemptInterrupted {
            return Err(Refusal::not_a_resumed_execution().into());
        }
        check_grant_held(x, &args.worker_id, &args.worker_instance_id, now)?;
        own(
            p,
            now,
            args.execution_id.uuid(),
            &acquisition(&args.worker_id, &args.worker_instance_id, &by, args.lease_ttl_ms),
        )?;
    }
    let answer = claimed_resumed(p, p.find(&args.execution_id)?);
    Ok(ClaimResumedExecutionResult::Claimed(answer.ok_or_else(corrupt_execution)?))
}

/// Promises a lost or revoked execution to a holder; a lease that ran out unmarked is lost first.
///
/// # Errors
/// `execution_not_reclaimable`, `grant_already_exists`, `capability_mismatch`.
pub fn issue_reclaim_grant(
    p: &mut Partition,
    now: TimestampMs,
    args: &IssueReclaimGrantArgs,
) -> Result<IssueReclaimGrantResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    check_reclaimable(p, x, now, true)?;
    if !holds_live_grant(x, &args.worker_id, &args.worker_instance_id, now)? {
        check_capable(x, &args.capabilities)?;
        let mut call = Call::new(now);
        let mut x = p.take(args.execution_id.uuid())?;
        if x.record.vector.is_running() {
            lose(p, &mut call, &mut x);
        }
        if x.record.vector.is_terminal() {
            let summary = x.summary();
            p.put(x, now);
            cascade::run(p, &mut call);
            return Ok(IssueReclaimGrantResult::Ended { summary });
        }
        grant(&mut x, &args.worker_id, &args.worker_instance_id, now, args.grant_ttl_ms);
        p.put(x, now);
    }
    let answer = ReclaimGrant::of(&p.find(&args.execution_id)?.record);
    Ok(IssueReclaimGrantResult::Granted(answer.ok_or_else(corrupt_execution)?))
}

/// Claims a lost or revoked execution under a grant: a new attempt.
///
/// # Errors
/// `lease_id_in_use`, `execution_not_reclaimable`, `invalid_claim_grant`, `claim_grant_expired`.
pub fn reclaim_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &ReclaimExecutionArgs,
) -> Result<ReclaimExecutionResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let by = Claimant {
        worker_id: &args.worker_id,
        worker_instance_id: &args.worker_instance_id,
        lease_id: args.lease_id,
        attempt_id: Some(args.attempt_id),
        kind: Some(ClaimKind::Reclaimed),
    };
    if !check_lease_id(p, x, now, &by)? {
        check_reclaimable(p, x, now, false)?;
        check_grant_held(x, &args.worker_id, &args.worker_instance_id, now)?;
        own(
            p,
            now,
            args.execution_id.uuid(),
            &acquisition(&args.worker_id, &args.worker_instance_id, &by, args.lease_ttl_ms),
        )?;
    }
    let answer = claimed(p, p.find(&args.execution_id)?);
    Ok(ReclaimExecutionResult::Reclaimed(answer.ok_or_else(corrupt_execution)?))
}
