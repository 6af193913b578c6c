//! Domain lease: `execution.md`, section 6.

use async_trait::async_trait;

use crate::contracts::{
    MarkLeaseExpiredArgs, MarkLeaseExpiredResult, RenewLeaseArgs, RenewLeaseResult, RevokeLeaseArgs, RevokeLeaseResult,
};
use crate::error::EngineError;

/// The life of a lease between the claim and the end: renewed by its owner, lost to time, withdrawn by an operator.
#[async_trait]
pub trait LeaseOps: Send + Sync + 'static {
    /// Lets the lease live longer.
    ///
    /// # Behavior
    /// - It then runs out at now + `lease_ttl_ms`, or when it did before if that is later: it never gets shorter.
    /// - Id and epoch stay. Deadline and attempt timeout neither cap nor refuse it: they end the work by themselves,
    ///   and the answer shows them.
    ///
    /// # Refuses
    /// The fence check: `execution_not_found`; `execution_not_active`; `lease_revoked`; `lease_expired` (also at
    /// exactly `lease_expires_at`, whether or not a timer has fired: nothing is revived); `stale_lease`.
    ///
    /// # Repeats
    /// Renew again, from the new now.
    ///
    /// # Cost
    /// One round trip; O(log n) in the partition's timers.
    async fn renew_lease(&self, args: RenewLeaseArgs) -> Result<RenewLeaseResult, EngineError>;

    /// Takes a lease that has run out from its owner, without waiting for a sweep.
    ///
    /// # Behavior
    /// - RUNNING under this epoch with `lease_expires_at <= now`: the attempt ends `interrupted_reclaimed`. Below the
    ///   policy's `max_reclaims` the loss is counted and the execution is LOST, at its old place in its queue; else it
    ///   ends failed with `max_reclaims_exceeded`.
    /// - Otherwise `NotDue`, and nothing is written: `Terminal`; `Stale` (another epoch); `NotArmed` (not RUNNING);
    ///   `Early`.
    ///
    /// # Refuses
    /// Nothing but `execution_not_found` and malformed arguments.
    ///
    /// # Repeats
    /// `NotDue`.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 128 cascade steps when it ends.
    async fn mark_lease_expired(&self, args: MarkLeaseExpiredArgs) -> Result<MarkLeaseExpiredResult, EngineError>;

    /// Withdraws a lease; the execution is claimable at once.
    ///
    /// # Behavior
    /// - RUNNING under this lease, also when it has run out unmarked: the attempt ends `interrupted_reclaimed` with
    ///   reason and `by`, and the execution is REVOKED at its old place in its queue.
    /// - Counts no retry and no reclaim. The owner learns it as `lease_revoked`, after the next claim as `stale_lease`.
    ///
    /// # Refuses
    /// `execution_not_active`; `stale_lease`: not the last lease of the current attempt.
    ///
    /// # Repeats
    /// `AlreadyReleased`; once it is claimed again `stale_lease`, so that a repeat never hits the next owner.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn revoke_lease(&self, args: RevokeLeaseArgs) -> Result<RevokeLeaseResult, EngineError>;
}
