//! How many executions of a lane are in which state.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{CheckArgs, Deployment};
use crate::ids::LaneId;
use crate::refusal::Refusal;
use crate::state::PublicState;

/// Arguments of `lane_counts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LaneCountsArgs {
    /// The lane.
    pub lane_id: LaneId,
    /// Only this partition; none sums up all of them.
    #[serde(default)]
    pub partition: Option<u16>,
}

impl CheckArgs for LaneCountsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        self.partition.map_or(Ok(()), |partition| deployment.partition(partition))
    }
}

/// Result of `lane_counts`.
pub type LaneCountsResult = LaneCounts;

/// The stored executions of a lane by public state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCounts {
    /// All 11 states, those without executions as 0.
    pub counts: BTreeMap<PublicState, u64>,
}

impl Default for LaneCounts {
    fn default() -> Self {
        Self { counts: PublicState::ALL.iter().map(|state| (*state, 0)).collect() }
    }
}

impl LaneCounts {
    /// Counts `n` more of a state.
    pub fn add(&mut self, state: PublicState, n: u64) {
        *self.counts.entry(state).or_default() += n;
    }

    /// How many there are of a state.
    #[must_use]
    pub fn count(&self, state: PublicState) -> u64 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
