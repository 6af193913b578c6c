//! Words for the domain reads.

use std::collections::BTreeMap;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LaneId};
use ff_core::state::PublicState;
use uuid::Uuid;

use super::Stage;

/// A fresh execution id in a partition.
#[must_use]
pub fn id_in(partition: u16) -> ExecutionId {
    ExecutionId::from_parts(partition, Uuid::now_v7())
}

/// A lane.
#[must_use]
pub fn lane_named(text: &str) -> LaneId {
    LaneId::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The arguments of a list of all executions.
#[must_use]
pub fn every() -> ListExecutionsArgs {
    ListExecutionsArgs::builder().build()
}

impl Stage {
    /// A page of executions.
    pub async fn list(&self, args: ListExecutionsArgs) -> ListExecutionsResult {
        self.backend.list_executions(args).await.unwrap_or_else(|e| panic!("list_executions: {e}"))
    }

    /// A whole walk in pages of at most `limit`.
    pub async fn walk(&self, filter: &ListExecutionsArgs, limit: u32) -> Vec<ExecutionSummary> {
        let (mut args, mut found) = (filter.clone(), Vec::new());
        args.limit = limit;
        loop {
            let page = self.list(args.clone()).await;
            assert!(page.executions.len() <= limit as usize, "a page of more than {limit}");
            found.extend(page.executions);
            match page.next_cursor {
                Some(cursor) => args.cursor = Some(cursor),
                None => return found,
            }
        }
    }

    /// The counts of a lane over all partitions, those that are not 0. All 11 states must be there.
    pub async fn lane_counts(&self, lane_id: LaneId) -> BTreeMap<PublicState, u64> {
        let args = LaneCountsArgs::builder().lane_id(lane_id).build();
        let answer = self.backend.lane_counts(args).await.unwrap_or_else(|e| panic!("lane_counts: {e}"));
        let states: Vec<_> = answer.counts.keys().copied().collect();
        assert_eq!(states, PublicState::ALL, "a state is missing");
        answer.counts.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}
