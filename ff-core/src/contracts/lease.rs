//! Domain lease: `execution.md`, section 6.

use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::contracts::{Fence, NotDueCause};
use crate::ids::{ExecutionId, LeaseEpoch, LeaseId};
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::TimestampMs;

/// Arguments of `renew_lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewLeaseArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
    /// How long the lease shall live from now: 100 ms ..= 24 h. It never gets shorter.
    pub lease_ttl_ms: u64,
}

impl CheckArgs for RenewLeaseArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::lease_ttl(self.lease_ttl_ms)
    }
}

/// Result of `renew_lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewLeaseResult {
    /// The lease lives.
    Renewed {
        /// When it runs out.
        lease_expires_at: TimestampMs,
        /// The end of the run's time, which ends it whatever the lease says.
        deadline_at: Option<TimestampMs>,
        /// The end of the attempt's time, likewise.
        attempt_deadline_at: Option<TimestampMs>,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `mark_lease_expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkLeaseExpiredArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The lease that is thought to have run out; of a later one nothing changes.
    pub lease_epoch: LeaseEpoch,
}

impl CheckArgs for MarkLeaseExpiredArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::integer("lease_epoch", self.lease_epoch.get())
    }
}

/// Result of `mark_lease_expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkLeaseExpiredResult {
    /// It is LOST; the next claim reclaims it.
    Lost {
        /// Its state.
        summary: StateSummary,
    },
    /// The loss was one too many, or its flow's cancellation covered it: it ended.
    Ended {
        /// Its state.
        summary: StateSummary,
    },
    /// The lease has not run out, or is not the one named; nothing changed.
    NotDue {
        /// The first cause that holds.
        cause: NotDueCause,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `revoke_lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeLeaseArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The lease to withdraw; a later one is left alone.
    pub lease_id: LeaseId,
    /// Why; a text.
    pub reason: String,
    /// Who asks; a name.
    pub by: String,
}

impl CheckArgs for RevokeLeaseArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::text("reason", &self.reason)?;
        bounds::name("by", &self.by)
    }
}

/// Result of `revoke_lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeLeaseResult {
    /// The lease is withdrawn; the execution is claimable at once.
    Revoked {
        /// The lease.
        lease_id: LeaseId,
        /// Its epoch.
        lease_epoch: LeaseEpoch,
        /// The execution's state: REVOKED, or ended as a covered member.
        summary: StateSummary,
    },
    /// The lease was lost or withdrawn before; nothing changed.
    AlreadyReleased {
        /// The execution's state.
        summary: StateSummary,
    },
}
