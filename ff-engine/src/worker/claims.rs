//! Claiming: in batches, over all partitions and lanes, sized by the free slots.

use ff_core::contracts::{ClaimNextArgs, ClaimSlot, NextClaim};
use ff_core::time::TimestampMs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::run::Core;
use crate::error::Result;
use crate::repeat::call;

/// What a look at the queues found.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) claimed: usize,
    /// More is ready than was claimed.
    pub(super) more: bool,
    /// The earliest due instant of the partitions that were looked at.
    pub(super) next_due_at: Option<TimestampMs>,
}

impl Core {
    /// Looks at each lane in each partition once, from `start` on, until `free` executions are claimed. Each claim is
    /// handed over as it comes. A claim that was sent is always waited for: what it took must be worked on.
    pub(super) async fn claim(
        &self,
        free: usize,
        start: &mut u16,
        stop: &CancellationToken,
        mut take: impl FnMut(NextClaim, Instant),
    ) -> Result<Round> {
        let mut round = Round::default();
        let partitions = self.engine.partitions().end;
        let first = *start % partitions.max(1);
        // The next look begins one further on, so that no partition is always served last.
        *start = (first + 1) % partitions.max(1);
        for offset in 0..partitions {
            let partition = (first + offset) % partitions;
            for turn in 0..self.lanes.len() {
                let left = free - round.claimed;
                let Some(lane) = self.lanes.get((turn + usize::from(first)) % self.lanes.len()) else { continue };
                if left == 0 || stop.is_cancelled() {
                    round.more |= left == 0;
                    return Ok(round);
                }
                let args = ClaimNextArgs {
                    partition,
                    lane_id: lane.clone(),
                    worker_id: self.worker_id.clone(),
                    worker_instance_id: self.instance.clone(),
                    capabilities: self.capabilities.clone(),
                    slots: (0..left.min(ClaimNextArgs::MAX_SLOTS)).map(|_| ClaimSlot::new()).collect(),
                    lease_ttl_ms: self.leases.ttl_ms(),
                };
                let asked_at = Instant::now();
                let result = call!(self.engine, claim_next(args))?;
                round.claimed += result.claimed.len();
                round.more |= result.ready_remaining > 0;
                round.next_due_at = [round.next_due_at, result.next_due_at].into_iter().flatten().min();
                for claim in result.claimed {
                    take(claim, asked_at);
                }
            }
        }
        Ok(round)
    }
}
