//! Domain lease: `execution.md`, section 6.

use ff_core::contracts::{
    MarkLeaseExpiredArgs, MarkLeaseExpiredResult, NotDueCause, RenewLeaseArgs, RenewLeaseResult, RevokeLeaseArgs,
    RevokeLeaseResult,
};
use ff_core::error::EngineError;
use ff_core::refusal::Refusal;
use ff_core::state::LifecyclePhase;
use ff_core::time::TimestampMs;

use crate::cascade::{self, Call};
use crate::model::Partition;
use crate::routines::{check_fence, lose, revoke, touch};

/// Extends a lease, never shortening it.
///
/// # Errors
/// The fence check.
pub fn renew_lease(
    p: &mut Partition,
    now: TimestampMs,
    args: &RenewLeaseArgs,
) -> Result<RenewLeaseResult, EngineError> {
    check_fence(p.find(&args.execution_id)?, &args.fence, now)?;
    let mut x = p.take(args.execution_id.uuid())?;
    let mut lease_expires_at = now.after(args.lease_ttl_ms);
    if let Some(lease) = &mut x.record.lease {
        lease_expires_at = lease_expires_at.max(lease.expires_at);
        lease.expires_at = lease_expires_at;
        lease.renewed_at = Some(now);
    }
    touch(&mut x, now);
    let result = RenewLeaseResult::Renewed {
        lease_expires_at,
        deadline_at: x.record.deadline_at,
        attempt_deadline_at: x.attempt.as_ref().and_then(|a| a.attempt_deadline_at),
        summary: x.summary(),
    };
    p.put(x, now);
    Ok(result)
}

/// Marks a lease that ran out, if it is still the named one.
///
/// # Errors
/// `execution_not_found`.
pub fn mark_lease_expired(
    p: &mut Partition,
    now: TimestampMs,
    args: &MarkLeaseExpiredArgs,
) -> Result<MarkLeaseExpiredResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let r = &x.record;
    let cause = match &r.lease {
        _ if r.vector.is_terminal() => Some(NotDueCause::Terminal),
        _ if r.lease_epoch != args.lease_epoch => Some(NotDueCause::Stale),
        None => Some(NotDueCause::NotArmed),
        Some(lease) if lease.expires_at > now => Some(NotDueCause::Early),
        Some(_) => None,
    };
    if let Some(cause) = cause {
        return Ok(MarkLeaseExpiredResult::NotDue { cause, summary: x.summary() });
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    lose(p, &mut call, &mut x);
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(if summary.state_vector.is_terminal() {
        MarkLeaseExpiredResult::Ended { summary }
    } else {
        MarkLeaseExpiredResult::Lost { summary }
    })
}

/// Withdraws a lease: the execution is claimable at once.
///
/// # Errors
/// `execution_not_active`; `stale_lease`.
pub fn revoke_lease(
    p: &mut Partition,
    now: TimestampMs,
    args: &RevokeLeaseArgs,
) -> Result<RevokeLeaseResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let r = &x.record;
    let attempt = x.attempt.as_ref().filter(|_| r.vector.lifecycle_phase == LifecyclePhase::Active);
    let Some(attempt) = attempt else {
        return Err(Refusal::execution_not_active(
            r.vector.lifecycle_phase,
            r.vector.terminal_outcome,
            r.lease_epoch,
            x.attempt.as_ref().map(|a| a.attempt_id),
        )
        .into());
    };
    if attempt.lease_id != args.lease_id {
        return Err(Refusal::stale_lease().into());
    }
    if r.vector.is_reclaimable() {
        return Ok(RevokeLeaseResult::AlreadyReleased { summary: x.summary() });
    }

    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    revoke(p, &mut call, &mut x, &args.by, &args.reason);
    let (lease_epoch, summary) = (x.record.lease_epoch, x.summary());
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(RevokeLeaseResult::Revoked { lease_id: args.lease_id, lease_epoch, summary })
}
