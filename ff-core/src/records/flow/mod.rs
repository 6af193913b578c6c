//! Flow, edge and member: `flow.md`, section 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canon::Digest;
use crate::contracts::{CancellationPolicy, DependencyKind, EdgeState, Join};
use crate::ids::{AttemptIndex, DataName, EdgeId, ExecutionId, FlowId, Namespace};
use crate::state::{PublicState, StateVector, TerminalOutcome};
use crate::time::TimestampMs;

mod codec;
#[cfg(test)]
mod tests;

/// Members of a flow by public state. Serialised as a map of all states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts([u32; 11]);

impl StateCounts {
    /// How many have this state.
    #[must_use]
    pub const fn get(&self, state: PublicState) -> u32 {
        self.0[state.index()]
    }

    /// Counts one more.
    pub const fn add(&mut self, state: PublicState) {
        self.0[state.index()] = self.0[state.index()].saturating_add(1);
    }

    /// Counts one less.
    pub const fn remove(&mut self, state: PublicState) {
        self.0[state.index()] = self.0[state.index()].saturating_sub(1);
    }

    /// Sets a count.
    pub const fn set(&mut self, state: PublicState, count: u32) {
        self.0[state.index()] = count;
    }

    /// All of them, by state.
    pub fn iter(&self) -> impl Iterator<Item = (PublicState, u32)> + '_ {
        PublicState::ALL.iter().map(|s| (*s, self.get(*s)))
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|n| u64::from(*n)).sum()
    }

    /// How many have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.iter().filter(|(s, _)| !s.is_terminal()).map(|(_, n)| u64::from(n)).sum()
    }
}

impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for StateCounts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<PublicState, u32>::deserialize(d)?.into_iter().collect())
    }
}

impl FromIterator<(PublicState, u32)> for StateCounts {
    fn from_iter<I: IntoIterator<Item = (PublicState, u32)>>(counts: I) -> Self {
        let mut all = Self::default();
        for (state, count) in counts {
            all.set(state, count);
        }
        all
    }
}

/// The first cancellation of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCancellation {
    /// When.
    pub at: TimestampMs,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What it covers; only ever widened.
    pub policy: CancellationPolicy,
}

/// A directed acyclic graph of executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Its id.
    pub flow_id: FlowId,
    /// What kind of flow.
    pub flow_kind: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Digest of the creation.
    pub spec_digest: Digest,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether its structure is closed.
    pub sealed: bool,
    /// Rises with every later call that adds a member or an edge.
    pub graph_revision: u64,
    /// Members ever added.
    pub node_count: u32,
    /// Edges ever added.
    pub edge_count: u32,
    /// The seq of the next edge; from 1.
    pub next_edge_seq: u64,
    /// Members by public state.
    pub member_counts: StateCounts,
    /// When it was last written by a call of its own.
    pub last_mutation_at: TimestampMs,
    /// Its cancellation.
    pub cancelled: Option<FlowCancellation>,
    /// Backlog entries of the flow and its members.
    pub deferred: u32,
    /// The greatest purge instant of any member so far.
    pub retain_until: Option<TimestampMs>,
    /// When it is purged.
    pub purge_at: Option<TimestampMs>,
}

impl FlowRecord {
    /// Cancelled with a policy that covers members: its edges stay as they are.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|c| c.policy.covers_members())
    }

    /// Whether the flow is cancelled over a member in this state.
    #[must_use]
    pub fn covers(&self, member: &StateVector) -> bool {
        self.cancelled.as_ref().is_some_and(|c| c.policy.covers(member))
    }

    /// Cancelled, or sealed with no open member: takes no more structure.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cancelled.is_some() || (self.sealed && self.member_counts.open() == 0)
    }
}

/// What decided an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeResolution {
    /// The upstream's run.
    pub upstream_run: u32,
    /// How that run ended.
    pub upstream_outcome: TerminalOutcome,
    /// That run's last attempt, if it had one.
    pub upstream_attempt_index: Option<AttemptIndex>,
    /// When the edge was resolved.
    pub resolved_at: TimestampMs,
}

/// "Downstream waits for upstream."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// Its id.
    pub edge_id: EdgeId,
    /// The flow.
    pub flow_id: FlowId,
    /// Its place in the flow's order of edges.
    pub seq: u64,
    /// Who is waited for.
    pub upstream_execution_id: ExecutionId,
    /// Who waits.
    pub downstream_execution_id: ExecutionId,
    /// What satisfies it.
    pub dependency_kind: DependencyKind,
    /// When it was created.
    pub created_at: TimestampMs,
    /// The name under which the child receives the upstream's result.
    pub data_passing_ref: Option<DataName>,
    /// Its state; never `detached`.
    pub edge_state: EdgeState,
    /// When it was applied.
    pub applied_at: Option<TimestampMs>,
    /// Present exactly when satisfied or impossible.
    pub resolution: Option<EdgeResolution>,
}

impl EdgeRecord {
    /// The state as reads show it: `detached` for a staged or pending edge of a frozen flow.
    #[must_use]
    pub const fn live_state(&self, frozen: bool) -> EdgeState {
        match self.edge_state {
            EdgeState::Staged | EdgeState::Pending if frozen => EdgeState::Detached,
            state => state,
        }
    }
}

/// A member's part in its flow, beside its execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The flow.
    pub flow_id: FlowId,
    /// Its name in the submission.
    pub member_name: Option<DataName>,
    /// Not released before the seal or its own promote.
    pub held: bool,
    /// How its incoming edges join.
    pub join: Join,
    /// Applied incoming edges.
    pub incoming_count: u32,
    /// Of these: pending.
    pub unresolved_count: u32,
    /// Of these: satisfied.
    pub satisfied_count: u32,
    /// Of these: impossible.
    pub impossible_count: u32,
}
