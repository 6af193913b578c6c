//! Edges, and what they mean to a member: staged, applied, resolved; evaluated and promoted.

use bon::Builder;
use serde::{Deserialize, Serialize};

use super::lifecycle::at_home;
use super::{Cascade, DependencyKind, EdgeState, FlowEligibility, OnUpstreamTerminal};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::{DataName, EdgeId, ExecutionId, FlowId};
use crate::records::MemberRecord;
use crate::refusal::Refusal;
use crate::state::{StateSummary, TerminalOutcome};

const fn yes() -> bool {
    true
}

/// Arguments of `stage_dependency_edge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StageDependencyEdgeArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// The new edge's id, minted by the caller.
    pub edge_id: EdgeId,
    /// Who is waited for.
    pub upstream_execution_id: ExecutionId,
    /// Who waits.
    pub downstream_execution_id: ExecutionId,
    /// What satisfies it; `success_only`.
    #[serde(default)]
    #[builder(default)]
    pub dependency_kind: DependencyKind,
    /// The name under which the downstream receives the upstream's result.
    #[serde(default)]
    pub data_passing_ref: Option<DataName>,
    /// Whether it counts at once; true. A staged edge gates nobody until it is applied.
    #[serde(default = "yes")]
    #[builder(default = true)]
    pub apply: bool,
    /// What to do when the upstream has ended; `resolve`.
    #[serde(default)]
    #[builder(default)]
    pub on_upstream_terminal: OnUpstreamTerminal,
    /// Stages only at this revision; none does not compare.
    #[serde(default)]
    pub expected_graph_revision: Option<u64>,
}

impl CheckArgs for StageDependencyEdgeArgs {
    /// Its last check is `self_referencing_edge`, which the operation's list has before existence.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        deployment.partition(self.upstream_execution_id.partition())?;
        deployment.partition(self.downstream_execution_id.partition())?;
        bounds::integer("expected_graph_revision", self.expected_graph_revision.unwrap_or(0))?;
        at_home(&self.flow_id, &[self.upstream_execution_id, self.downstream_execution_id])?;
        if self.upstream_execution_id == self.downstream_execution_id {
            return Err(Refusal::self_referencing_edge());
        }
        Ok(())
    }
}

/// Result of `stage_dependency_edge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageDependencyEdgeResult {
    /// The edge exists now.
    Staged {
        /// Its id.
        edge_id: EdgeId,
        /// The flow's revision after this call.
        new_graph_revision: u64,
        /// `staged` without `apply`, else as the upstream decides.
        edge_state: EdgeState,
        /// The downstream's state.
        child: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// It existed with equal content: a repeat, which applies nothing.
    AlreadyStaged {
        /// Its id.
        edge_id: EdgeId,
        /// The flow's revision.
        graph_revision: u64,
        /// Its stored state of now.
        edge_state: EdgeState,
        /// The downstream's state of now.
        child: StateSummary,
    },
}

/// Arguments of `apply_dependency_to_child`. All but the first two are compared with the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApplyDependencyToChildArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// The staged edge.
    pub edge_id: EdgeId,
    /// Who is waited for.
    pub upstream_execution_id: ExecutionId,
    /// Who waits.
    pub downstream_execution_id: ExecutionId,
    /// What satisfies it; `success_only`.
    #[serde(default)]
    #[builder(default)]
    pub dependency_kind: DependencyKind,
    /// The name under which the downstream receives the upstream's result.
    #[serde(default)]
    pub data_passing_ref: Option<DataName>,
}

impl CheckArgs for ApplyDependencyToChildArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        deployment.partition(self.upstream_execution_id.partition())?;
        deployment.partition(self.downstream_execution_id.partition())?;
        at_home(&self.flow_id, &[self.upstream_execution_id, self.downstream_execution_id])
    }
}

/// Result of `apply_dependency_to_child`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyDependencyToChildResult {
    /// The edge counts now.
    Applied {
        /// Pending incoming edges of the downstream.
        unresolved_count: u32,
        /// As the upstream decides.
        edge_state: EdgeState,
        /// The downstream's state.
        child: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// It was applied: a repeat.
    AlreadyApplied {
        /// Pending incoming edges of the downstream, of now.
        unresolved_count: u32,
        /// Its stored state of now.
        edge_state: EdgeState,
        /// The downstream's state of now.
        child: StateSummary,
    },
}

/// Arguments of `resolve_dependency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ResolveDependencyArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// The applied edge.
    pub edge_id: EdgeId,
    /// How the caller believes that the upstream ended, to be verified; none does not compare. The upstream itself
    /// decides.
    #[serde(default)]
    pub upstream_outcome: Option<TerminalOutcome>,
}

impl CheckArgs for ResolveDependencyArgs {
    /// The word `none` is no outcome that an ended upstream could have: `invalid_input`.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::ensure(self.upstream_outcome != Some(TerminalOutcome::None), "upstream_outcome")
    }
}

/// Result of `resolve_dependency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveDependencyResult {
    /// The edge is satisfied now.
    Satisfied {
        /// The downstream's state.
        child: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// The edge is impossible now.
    Impossible {
        /// The downstream's state.
        child: StateSummary,
        /// Whether this ended the downstream as skipped.
        child_skipped: bool,
        /// What followed.
        cascade: Cascade,
    },
    /// It was resolved: a repeat.
    AlreadyResolved {
        /// `satisfied` or `impossible`.
        edge_state: EdgeState,
        /// The downstream's state of now.
        child: StateSummary,
    },
}

/// Arguments of `evaluate_flow_eligibility`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateFlowEligibilityArgs {
    /// The execution, a member or not.
    pub execution_id: ExecutionId,
}

impl CheckArgs for EvaluateFlowEligibilityArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `evaluate_flow_eligibility`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluateFlowEligibilityResult {
    /// Where the execution stands.
    Status {
        /// The first that matches.
        status: FlowEligibility,
        /// READY, and no cancellation of its flow is over it.
        claimable: bool,
        /// The member's `held` as stored: also while a sealed flow's backlog has yet to release it.
        held: bool,
        /// Pending incoming edges.
        unresolved_count: u32,
        /// Impossible incoming edges.
        impossible_count: u32,
        /// Pending incoming edges whose upstream has ended: what the backlog owes.
        pending_resolution: u32,
        /// Its state.
        summary: StateSummary,
    },
}

impl EvaluateFlowEligibilityResult {
    /// Evaluates an execution: its state, its member record (none outside a flow), whether its flow is cancelled over
    /// it, and how many of its pending incoming edges have an ended upstream.
    #[must_use]
    pub fn of(summary: StateSummary, member: Option<&MemberRecord>, covered: bool, pending_resolution: u32) -> Self {
        let impossible_count = member.map_or(0, |m| m.impossible_count);
        Self::Status {
            status: FlowEligibility::of(&summary.state_vector, impossible_count),
            claimable: summary.state_vector.is_ready() && !covered,
            held: member.is_some_and(|m| m.held),
            unresolved_count: member.map_or(0, |m| m.unresolved_count),
            impossible_count,
            pending_resolution,
            summary,
        }
    }
}

/// Arguments of `promote_blocked_to_eligible`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteBlockedToEligibleArgs {
    /// The execution.
    pub execution_id: ExecutionId,
}

impl CheckArgs for PromoteBlockedToEligibleArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `promote_blocked_to_eligible`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromoteBlockedToEligibleResult {
    /// It left DEPS.
    Promoted {
        /// Its state.
        summary: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// It ended as skipped.
    Skipped {
        /// Its state.
        summary: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// Its edges hold it still.
    StillBlocked {
        /// Pending incoming edges.
        unresolved_count: u32,
        /// Impossible incoming edges.
        impossible_count: u32,
        /// Its state.
        summary: StateSummary,
        /// What followed.
        cascade: Cascade,
    },
    /// It was not in DEPS.
    AlreadyEligible {
        /// Its state.
        summary: StateSummary,
    },
}
