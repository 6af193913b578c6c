//! Domain flow: `flow.md`. The words, joining at creation and data by reference are here; the operations in the
//! modules below, by what they are about.

use serde::{Deserialize, Serialize};

use crate::canon::{Canon, Canonical};
use crate::ids::{AttemptIndex, DataName, EdgeId, ExecutionId, FlowId};
use crate::records::{EdgeRecord, FlowRecord};
use crate::state::{EligibilityState, LifecyclePhase, PublicState, StateVector, TerminalOutcome};
use crate::word_enum;

mod edges;
mod lifecycle;
mod reads;
mod submit;
#[cfg(test)]
mod tests;

pub use edges::*;
pub use lifecycle::*;
pub use reads::*;
pub use submit::*;

word_enum! {
    /// When an upstream's end satisfies an edge.
    #[derive(Default)]
    pub enum DependencyKind {
        /// Only success.
        #[default]
        SuccessOnly = "success_only",
        /// Every outcome.
        AnyTerminal = "any_terminal",
    }
}

impl DependencyKind {
    /// What an applied edge of this kind becomes by its upstream's outcome: `pending` while there is none.
    #[must_use]
    pub const fn verdict(self, upstream: TerminalOutcome) -> EdgeState {
        match (upstream, self) {
            (TerminalOutcome::None, _) => EdgeState::Pending,
            (TerminalOutcome::Success, _) | (_, Self::AnyTerminal) => EdgeState::Satisfied,
            (_, Self::SuccessOnly) => EdgeState::Impossible,
        }
    }
}

word_enum! {
    /// The state of an edge; `detached` is only ever read, never stored.
    pub enum EdgeState {
        /// Not applied: gates nobody.
        Staged = "staged",
        /// Applied; the upstream has not decided it.
        Pending = "pending",
        /// Satisfied.
        Satisfied = "satisfied",
        /// The upstream ended so that it can no longer be satisfied.
        Impossible = "impossible",
        /// A staged or pending edge of a frozen flow, as reads show it.
        Detached = "detached",
    }
}

word_enum! {
    /// How a member joins its incoming edges.
    pub enum Join {
        /// Every applied incoming edge must be satisfied.
        All = "all",
    }
}

word_enum! {
    /// What a flow's cancellation covers, from narrow to wide.
    #[derive(Default)]
    pub enum CancellationPolicy {
        /// The flow takes no more members; nobody is ended.
        FlowOnly = "flow_only",
        /// Every open member that does not run.
        CancelPending = "cancel_pending",
        /// Every open member.
        #[default]
        CancelAll = "cancel_all",
    }
}

impl CancellationPolicy {
    /// Whether a member in this state is covered: open and, under `cancel_pending`, not RUNNING.
    #[must_use]
    pub const fn covers(self, member: &StateVector) -> bool {
        match self {
            Self::FlowOnly => false,
            Self::CancelPending => !member.is_terminal() && !member.is_running(),
            Self::CancelAll => !member.is_terminal(),
        }
    }

    /// Whether it ends members: any but `flow_only`.
    #[must_use]
    pub const fn covers_members(self) -> bool {
        !matches!(self, Self::FlowOnly)
    }
}

word_enum! {
    /// A flow's state, computed from its record.
    pub enum PublicFlowState {
        /// Members may be ready, or there are none yet.
        Open = "open",
        /// A member is active.
        Running = "running",
        /// None is active, and one waits for something.
        Blocked = "blocked",
        /// Every member ended, none badly.
        Completed = "completed",
        /// Every member ended, one badly or none with success.
        Failed = "failed",
        /// Cancelled.
        Cancelled = "cancelled",
    }
}

impl PublicFlowState {
    /// The state of a flow, from its record alone: the first that matches.
    #[must_use]
    pub fn of(flow: &FlowRecord) -> Self {
        let count = |states: &[PublicState]| states.iter().map(|s| u64::from(flow.member_counts.get(*s))).sum::<u64>();
        if flow.cancelled.is_some() {
            return Self::Cancelled;
        }
        if flow.node_count > 0 && flow.member_counts.open() == 0 {
            let bad = count(&[PublicState::Failed, PublicState::Cancelled, PublicState::Expired]);
            let none_succeeded = count(&[PublicState::Completed]) == 0;
            return if bad > 0 || none_succeeded { Self::Failed } else { Self::Completed };
        }
        if count(&[PublicState::Active]) > 0 {
            return Self::Running;
        }
        let blocked =
            [PublicState::Suspended, PublicState::Delayed, PublicState::RateLimited, PublicState::WaitingChildren];
        if count(&blocked) > 0 { Self::Blocked } else { Self::Open }
    }

    /// Whether every member had ended, or the flow was cancelled, when the record was read.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

word_enum! {
    /// What to do when an edge's upstream has ended already.
    #[derive(Default)]
    pub enum OnUpstreamTerminal {
        /// Resolve the edge at once.
        #[default]
        Resolve = "resolve",
        /// Refuse it.
        Reject = "reject",
    }
}

word_enum! {
    /// Where a member stands towards being claimed.
    pub enum FlowEligibility {
        /// It has ended.
        Terminal = "terminal",
        /// It is active.
        Owned = "owned",
        /// It is suspended.
        NotRunnable = "not_runnable",
        /// An incoming edge is impossible.
        Impossible = "impossible",
        /// It waits for incoming edges.
        BlockedByDependencies = "blocked_by_dependencies",
        /// Its edges do not hold it.
        Eligible = "eligible",
    }
}

impl FlowEligibility {
    /// Where an execution in this state, behind so many impossible edges, stands: the first that matches.
    #[must_use]
    pub const fn of(vector: &StateVector, impossible_count: u32) -> Self {
        match vector.lifecycle_phase {
            LifecyclePhase::Terminal => Self::Terminal,
            LifecyclePhase::Active => Self::Owned,
            LifecyclePhase::Suspended => Self::NotRunnable,
            LifecyclePhase::Submitted | LifecyclePhase::Runnable => match vector.eligibility_state {
                _ if impossible_count > 0 => Self::Impossible,
                EligibilityState::BlockedByDependencies => Self::BlockedByDependencies,
                _ => Self::Eligible,
            },
        }
    }
}

/// Which edges of a node to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EdgeDirection {
    /// The edges that end at a node.
    Incoming {
        /// The node.
        to_node: ExecutionId,
    },
    /// The edges that start at a node.
    Outgoing {
        /// The node.
        from_node: ExecutionId,
    },
}

impl EdgeDirection {
    /// The node.
    #[must_use]
    pub const fn node(self) -> ExecutionId {
        match self {
            Self::Incoming { to_node } => to_node,
            Self::Outgoing { from_node } => from_node,
        }
    }
}

word_enum! {
    /// What a flow has too many of.
    pub enum FlowPart {
        /// Members.
        Members = "members",
        /// Edges.
        Edges = "edges",
    }
}

word_enum! {
    /// Which incoming edges a member has too many of.
    pub enum FanInPart {
        /// All of them.
        Edges = "edges",
        /// Those with a data name.
        DataEdges = "data_edges",
    }
}

/// What one call did to other members of the flow; counted over the whole call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cascade {
    /// Steps used: examinations of one edge or member.
    pub steps: u32,
    /// Members that left DEPS without ending.
    pub promoted: u32,
    /// Members that ended skipped.
    pub skipped: u32,
    /// Items that the call left on the backlog.
    pub deferred: u32,
}

impl Cascade {
    /// The greatest number of steps of one call.
    pub const MAX_STEPS: u32 = 128;
    /// The greatest number of endings of one call: members that it ends as skipped, or by a flow's cancellation.
    pub const MAX_ENDINGS: u32 = 64;
}

/// An incoming edge of a member that is created with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncomingEdge {
    /// The edge's id.
    pub edge_id: EdgeId,
    /// Who is waited for.
    pub upstream_execution_id: ExecutionId,
    /// What satisfies it; `success_only`.
    #[serde(default)]
    pub dependency_kind: DependencyKind,
    /// The name under which the member receives the upstream's result.
    #[serde(default)]
    pub data_passing_ref: Option<DataName>,
}

impl IncomingEdge {
    /// An edge that only the upstream's success satisfies, without data.
    #[must_use]
    pub const fn new(edge_id: EdgeId, upstream_execution_id: ExecutionId) -> Self {
        Self { edge_id, upstream_execution_id, dependency_kind: DependencyKind::SuccessOnly, data_passing_ref: None }
    }
}

impl Canon for IncomingEdge {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.edge_id).put(&self.upstream_execution_id).put(&self.dependency_kind).put(&self.data_passing_ref);
    }
}

/// Makes an execution a member of a flow in the step that creates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowJoin {
    /// The flow.
    pub flow_id: FlowId,
    /// Whether nobody may claim it before the seal or its own promote; true.
    #[serde(default = "yes")]
    pub hold: bool,
    /// Its incoming edges, 0..=64.
    #[serde(default)]
    pub edges: Vec<IncomingEdge>,
}

const fn yes() -> bool {
    true
}

impl FlowJoin {
    /// The greatest number of edges that a creation may bring.
    pub const MAX_EDGES: usize = 64;

    /// A held member without edges.
    #[must_use]
    pub const fn held(flow_id: FlowId) -> Self {
        Self { flow_id, hold: true, edges: Vec::new() }
    }
}

impl Canon for FlowJoin {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.flow_id).put(&self.hold).put(&self.edges);
    }
}

/// An upstream's result, handed to a member's claim by reference: the bytes are fetched with
/// `get_result(upstream_execution_id, Run(upstream_run))`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowInput {
    /// The edge's data name.
    pub name: DataName,
    /// The edge.
    pub edge_id: EdgeId,
    /// The upstream.
    pub upstream_execution_id: ExecutionId,
    /// How its run ended.
    pub upstream_outcome: TerminalOutcome,
    /// The run that decided the edge.
    pub upstream_run: u32,
    /// That run's last attempt, if it had one.
    pub attempt_index: Option<AttemptIndex>,
    /// The result's size; absent when that run left none.
    pub size_bytes: Option<u64>,
}

impl FlowInput {
    /// What an edge hands to its child's claim: nothing without a data name or before it is resolved.
    ///
    /// `size_bytes` is the size of the result of the run that decided the edge, if that run left one.
    #[must_use]
    pub fn of(edge: &EdgeRecord, size_bytes: Option<u64>) -> Option<Self> {
        let (name, resolution) = (edge.data_passing_ref.clone()?, edge.resolution?);
        Some(Self {
            name,
            edge_id: edge.edge_id,
            upstream_execution_id: edge.upstream_execution_id,
            upstream_outcome: resolution.upstream_outcome,
            upstream_run: resolution.upstream_run,
            attempt_index: resolution.upstream_attempt_index,
            size_bytes,
        })
    }
}
