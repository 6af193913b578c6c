//! Claims, grants and leases.

use super::prelude::*;

impl World {
    /// An operation of these domains, or none for one of another.
    pub(super) fn draw_claim(&self, name: OpName, d: &Dice<'_>, n: u32) -> Option<Operation> {
        // Seldom the id of a lease that is known.
        let lease_id = if d.chance(4) { self.owned(d).1.lease_id } else { LeaseId::from_uuid(uuid(3, n)) };
        let attempt_id = AttemptId::from_uuid(uuid(4, n));
        Some(match name {
            OpName::IssueClaimGrant => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                IssueClaimGrantArgs {
                    execution_id: self.paused_or_any(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    grant_ttl_ms: 2_000,
                }
                .into()
            }
            OpName::IssueReclaimGrant => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                IssueReclaimGrantArgs {
                    execution_id: self.existing(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    grant_ttl_ms: 2_000,
                }
                .into()
            }
            OpName::ClaimExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::New);
                let lease_ttl_ms = Self::lease_ttl(d);
                ClaimExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, attempt_id, lease_ttl_ms }
                    .into()
            }
            OpName::ClaimResumedExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::Resumed);
                let lease_ttl_ms = Self::lease_ttl(d);
                ClaimResumedExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, lease_ttl_ms }.into()
            }
            OpName::ReclaimExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::Reclaimed);
                let lease_ttl_ms = Self::lease_ttl(d);
                ReclaimExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, attempt_id, lease_ttl_ms }
                    .into()
            }
            OpName::ClaimNext => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                let slots = (0..=d.below(3))
                    .map(|i| ClaimSlot {
                        lease_id: if d.chance(3) {
                            lease_id
                        } else {
                            LeaseId::from_uuid(uuid(3, n * 4 + i + 1_000_000))
                        },
                        attempt_id: AttemptId::from_uuid(uuid(4, n * 4 + i + 1_000_000)),
                    })
                    .collect();
                ClaimNextArgs {
                    partition: PARTITION,
                    lane_id: Self::lane(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    slots,
                    lease_ttl_ms: Self::lease_ttl(d),
                }
                .into()
            }
            OpName::RenewLease => {
                let (execution_id, fence) = self.owned(d);
                RenewLeaseArgs { execution_id, fence, lease_ttl_ms: Self::lease_ttl(d) }.into()
            }
            OpName::MarkLeaseExpired => {
                let (execution_id, fence) = self.owned(d);
                MarkLeaseExpiredArgs { execution_id, lease_epoch: fence.lease_epoch }.into()
            }
            OpName::RevokeLease => {
                let (execution_id, fence) = self.owned(d);
                let (reason, by) = ("drain".to_owned(), "ops".to_owned());
                RevokeLeaseArgs { execution_id, lease_id: fence.lease_id, reason, by }.into()
            }
            _ => return None,
        })
    }
}
