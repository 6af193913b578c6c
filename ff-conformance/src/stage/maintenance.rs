//! Words for the domain maintenance.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LaneId};
use ff_core::policy::ExecutionPolicy;

use super::Stage;

/// A lease that outlives what a case does, in milliseconds: a day.
pub const LONG_MS: u64 = 86_400_000;

/// A policy whose executions are kept this long after their end, in milliseconds.
#[must_use]
pub fn kept_for(retention_ms: u64) -> ExecutionPolicy {
    ExecutionPolicy::builder().retention_ms(retention_ms).build()
}

impl Stage {
    /// Creates in a lane, with this policy, under this id.
    pub async fn create_in(&self, lane_id: &LaneId, policy: ExecutionPolicy, id: ExecutionId) -> ExecutionId {
        let mut args = self.creation_with(policy);
        (args.lane_id, args.execution_id) = (lane_id.clone(), id);
        self.create(args).await
    }

    /// Claims everything of a lane of a partition, under leases of `lease_ttl_ms`.
    pub async fn claim_lane(&self, lane_id: &LaneId, lease_ttl_ms: u64) -> Vec<(ExecutionId, Fence)> {
        let mut owned = Vec::new();
        loop {
            let mut args = self.claim_args(64);
            (args.lane_id, args.lease_ttl_ms) = (lane_id.clone(), lease_ttl_ms);
            let result = self.backend.claim_next(args).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
            if result.claimed.is_empty() {
                return owned;
            }
            owned.extend(result.claimed.iter().map(|c| (c.claimed().execution_id, c.claimed().fence)));
        }
    }

    /// A RUNNING execution with this policy, under a lease of a day.
    pub async fn running_long(&self, policy: ExecutionPolicy) -> (ExecutionId, Fence) {
        let id = self.ready_with(policy).await;
        let mut args = self.claim_args(1);
        args.lease_ttl_ms = LONG_MS;
        let result = self.backend.claim_next(args).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
        match result.claimed.as_slice() {
            [taken] if taken.claimed().execution_id == id => (id, taken.claimed().fence),
            other => panic!("claim_next took {other:?}"),
        }
    }

    /// An ended execution that is kept `retention_ms`, cancelled by `ops` before any claim.
    pub async fn ended(&self, retention_ms: u64, id: ExecutionId) -> ExecutionId {
        let mut args = self.creation();
        args.execution_id = id;
        Arc::make_mut(&mut args.policy).retention_ms = retention_ms;
        self.create(args).await;
        self.cancel(id).await;
        id
    }

    /// The kinds that a sweep of limit 1 counts: one, or none if there was nothing to do.
    pub async fn step(&self) -> (Option<SweepKind>, SweepReport) {
        let report = self.sweep_once(1).await;
        assert!(report.total() <= 1, "a limit of 1 did more than one thing: {report:?}");
        (report.counts.keys().next().copied(), report)
    }
}
