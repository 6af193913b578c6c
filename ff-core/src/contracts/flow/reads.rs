//! Reads of flows: snapshots made of records by pure functions, and lists by page.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use super::lifecycle::at_home;
use super::{CancellationPolicy, DependencyKind, EdgeDirection, EdgeState, Join, PublicFlowState};
use crate::bounds::{self, CheckArgs, DEFAULT_PAGE, Deployment};
use crate::ids::{AttemptIndex, DataName, EdgeId, ExecutionId, FlowId, Namespace};
use crate::records::{EdgeRecord, FlowRecord, MemberRecord, StateCounts};
use crate::refusal::Refusal;
use crate::state::{PublicState, StateSummary, TerminalOutcome};
use crate::time::TimestampMs;

const fn default_page() -> u32 {
    DEFAULT_PAGE
}

/// Arguments of `describe_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeFlowArgs {
    /// The flow.
    pub flow_id: FlowId,
}

impl CheckArgs for DescribeFlowArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())
    }
}

/// A flow as it is stored, with its derived state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowSnapshot {
    /// Its id.
    pub flow_id: FlowId,
    /// What kind of flow.
    pub flow_kind: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Derived from the record.
    pub public_flow_state: PublicFlowState,
    /// Rises with every call after the creation that adds a member or an edge.
    pub graph_revision: u64,
    /// Members ever added.
    pub node_count: u32,
    /// Edges ever added.
    pub edge_count: u32,
    /// Members by public state; their sum is `node_count`.
    pub member_counts: StateCounts,
    /// Whether its structure is closed.
    pub sealed: bool,
    /// Backlog entries of the flow and its members: what its cascades still owe.
    pub deferred: u32,
    /// When it was created.
    pub created_at: TimestampMs,
    /// When a call of its own last wrote it; cascades do not count.
    pub last_mutation_at: TimestampMs,
    /// When it was first cancelled.
    #[serde(default)]
    pub cancelled_at: Option<TimestampMs>,
    /// By whom.
    #[serde(default)]
    pub cancelled_by: Option<String>,
    /// Why.
    #[serde(default)]
    pub cancel_reason: Option<String>,
    /// The widest policy so far.
    #[serde(default)]
    pub cancellation_policy: Option<CancellationPolicy>,
    /// When it is purged with its members; none while it is open.
    #[serde(default)]
    pub purge_at: Option<TimestampMs>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What `describe_flow` answers.
pub type DescribeFlowResult = FlowSnapshot;

impl FlowSnapshot {
    /// The snapshot of a record.
    #[must_use]
    pub fn of(flow: &FlowRecord) -> Self {
        let cancelled = flow.cancelled.as_ref();
        Self {
            flow_id: flow.flow_id,
            flow_kind: flow.flow_kind.clone(),
            namespace: flow.namespace.clone(),
            public_flow_state: PublicFlowState::of(flow),
            graph_revision: flow.graph_revision,
            node_count: flow.node_count,
            edge_count: flow.edge_count,
            member_counts: flow.member_counts,
            sealed: flow.sealed,
            deferred: flow.deferred,
            created_at: flow.created_at,
            last_mutation_at: flow.last_mutation_at,
            cancelled_at: cancelled.map(|c| c.at),
            cancelled_by: cancelled.map(|c| c.by.clone()),
            cancel_reason: cancelled.map(|c| c.reason.clone()),
            cancellation_policy: cancelled.map(|c| c.policy),
            purge_at: flow.purge_at,
            tags: flow.tags.clone(),
        }
    }
}

/// Arguments of `describe_edge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeEdgeArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// The edge.
    pub edge_id: EdgeId,
}

impl CheckArgs for DescribeEdgeArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())
    }
}

/// An edge as it is stored, with its live state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EdgeSnapshot {
    /// Its id.
    pub edge_id: EdgeId,
    /// The flow.
    pub flow_id: FlowId,
    /// Its place in the flow's order of edges, from 1.
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
    #[serde(default)]
    pub data_passing_ref: Option<DataName>,
    /// Its state; `detached` for a staged or pending edge of a frozen flow.
    pub edge_state: EdgeState,
    /// When it was applied.
    #[serde(default)]
    pub applied_at: Option<TimestampMs>,
    /// The upstream's run that decided it.
    #[serde(default)]
    pub upstream_run: Option<u32>,
    /// How that run ended.
    #[serde(default)]
    pub upstream_outcome: Option<TerminalOutcome>,
    /// That run's last attempt, if it had one.
    #[serde(default)]
    pub upstream_attempt_index: Option<AttemptIndex>,
    /// When it was resolved.
    #[serde(default)]
    pub resolved_at: Option<TimestampMs>,
    /// How the child joins its incoming edges.
    pub join: Join,
    /// Resolved by a run below the upstream's present one.
    pub stale_upstream: bool,
}

/// What `describe_edge` answers.
pub type DescribeEdgeResult = EdgeSnapshot;

impl EdgeSnapshot {
    /// The snapshot of a record: `frozen` of its flow, the number of its upstream's present run, the child's join.
    #[must_use]
    pub fn of(edge: &EdgeRecord, frozen: bool, upstream_run_now: u32, join: Join) -> Self {
        let resolution = edge.resolution;
        Self {
            edge_id: edge.edge_id,
            flow_id: edge.flow_id,
            seq: edge.seq,
            upstream_execution_id: edge.upstream_execution_id,
            downstream_execution_id: edge.downstream_execution_id,
            dependency_kind: edge.dependency_kind,
            created_at: edge.created_at,
            data_passing_ref: edge.data_passing_ref.clone(),
            edge_state: edge.live_state(frozen),
            applied_at: edge.applied_at,
            upstream_run: resolution.map(|r| r.upstream_run),
            upstream_outcome: resolution.map(|r| r.upstream_outcome),
            upstream_attempt_index: resolution.and_then(|r| r.upstream_attempt_index),
            resolved_at: resolution.map(|r| r.resolved_at),
            join,
            stale_upstream: resolution.is_some_and(|r| r.upstream_run < upstream_run_now),
        }
    }
}

/// Arguments of `list_edges`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListEdgesArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// Of which node, and which way.
    pub direction: EdgeDirection,
    /// Where the page before ended; opaque.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's size, 1..=1000; 100.
    #[serde(default = "default_page")]
    #[builder(default = DEFAULT_PAGE)]
    pub limit: u32,
}

impl CheckArgs for ListEdgesArgs {
    /// A text that is no cursor of its own is the backend's to refuse, as `invalid_input` of `cursor`.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        let node = self.direction.node();
        deployment.partition(self.flow_id.partition())?;
        deployment.partition(node.partition())?;
        bounds::page(self.limit)?;
        at_home(&self.flow_id, &[node])
    }
}

/// Result of `list_edges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEdgesResult {
    /// By seq.
    pub edges: Vec<EdgeSnapshot>,
    /// Present exactly while more may remain.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// Arguments of `list_flow_members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ListFlowMembersArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// Where the page before ended; opaque.
    #[serde(default)]
    #[builder(into)]
    pub cursor: Option<String>,
    /// The page's size, 1..=1000; 100.
    #[serde(default = "default_page")]
    #[builder(default = DEFAULT_PAGE)]
    pub limit: u32,
}

impl CheckArgs for ListFlowMembersArgs {
    /// A text that is no cursor of its own is the backend's to refuse, as `invalid_input` of `cursor`.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::page(self.limit)
    }
}

/// Result of `list_flow_members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFlowMembersResult {
    /// By execution id.
    pub members: Vec<FlowMember>,
    /// Present exactly while more may remain.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A member as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowMember {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its name in the submission.
    #[serde(default)]
    pub member_name: Option<DataName>,
    /// The label of its state.
    pub public_state: PublicState,
    /// Its state.
    pub summary: StateSummary,
    /// As stored: also while a sealed flow's backlog has yet to release it.
    pub held: bool,
    /// Pending incoming edges.
    pub unresolved_count: u32,
    /// Satisfied incoming edges.
    pub satisfied_count: u32,
    /// Impossible incoming edges.
    pub impossible_count: u32,
}

impl FlowMember {
    /// A member's record, with the state of its execution.
    #[must_use]
    pub fn of(member: &MemberRecord, summary: StateSummary) -> Self {
        Self {
            execution_id: member.execution_id,
            member_name: member.member_name.clone(),
            public_state: summary.public_state,
            summary,
            held: member.held,
            unresolved_count: member.unresolved_count,
            satisfied_count: member.satisfied_count,
            impossible_count: member.impossible_count,
        }
    }
}
