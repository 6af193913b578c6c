//! The life of a flow: created, joined by members, sealed, cancelled, tagged.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use super::{CancellationPolicy, Cascade};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::Digest;
use crate::ids::{ExecutionId, FlowId, Namespace};
use crate::refusal::Refusal;
use crate::state::StateSummary;

/// Arguments of `create_flow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CreateFlowArgs {
    /// The new flow's id, minted by the caller.
    pub flow_id: FlowId,
    /// The namespace of the flow and of all its members.
    pub namespace: Namespace,
    /// What kind of flow; an opaque name.
    #[builder(into)]
    pub flow_kind: String,
    /// At most 64.
    #[serde(default)]
    #[builder(default)]
    pub tags: BTreeMap<String, String>,
}

impl CreateFlowArgs {
    /// The digest that equal content is judged by, whatever changed later. One of `submit_flow` never equals it.
    #[must_use]
    pub fn spec_digest(&self) -> Digest {
        Digest::of("create_flow", |c| {
            c.put(&self.flow_id).put(&self.namespace).put(&self.flow_kind).put(&self.tags);
        })
    }
}

impl CheckArgs for CreateFlowArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::name("flow_kind", &self.flow_kind)?;
        bounds::tags(&self.tags)
    }
}

/// Result of `create_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateFlowResult {
    /// It was created, empty and unsealed.
    Created {
        /// Its id.
        flow_id: FlowId,
    },
    /// It exists with equal content: a repeat.
    AlreadyExists {
        /// Its id.
        flow_id: FlowId,
    },
}

/// Arguments of `add_execution_to_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddExecutionToFlowArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// The execution that shall be its member; it has the flow's partition.
    pub execution_id: ExecutionId,
}

impl CheckArgs for AddExecutionToFlowArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        deployment.partition(self.execution_id.partition())?;
        at_home(&self.flow_id, &[self.execution_id])
    }
}

/// Refuses executions outside the flow's partition.
pub(super) fn at_home(flow: &FlowId, executions: &[ExecutionId]) -> Result<(), Refusal> {
    if executions.iter().all(|x| x.partition() == flow.partition()) {
        Ok(())
    } else {
        Err(Refusal::partition_mismatch())
    }
}

/// Result of `add_execution_to_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddExecutionToFlowResult {
    /// It is a member now.
    Added {
        /// The execution.
        execution_id: ExecutionId,
        /// Members ever added, this one included.
        new_node_count: u32,
        /// The flow's revision after this call.
        new_graph_revision: u64,
        /// The member's state, which joining leaves as it was.
        summary: StateSummary,
    },
    /// It was a member: a repeat.
    AlreadyMember {
        /// The execution.
        execution_id: ExecutionId,
        /// Members ever added.
        node_count: u32,
        /// The member's state of now.
        summary: StateSummary,
    },
}

/// Arguments of `seal_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SealFlowArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// Seals only at this revision; none does not compare.
    #[serde(default)]
    pub expected_graph_revision: Option<u64>,
}

impl CheckArgs for SealFlowArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::integer("expected_graph_revision", self.expected_graph_revision.unwrap_or(0))
    }
}

/// Result of `seal_flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealFlowResult {
    /// It is sealed now, and held members are released.
    Sealed {
        /// The flow's revision.
        graph_revision: u64,
        /// Open members that the backlog has yet to look at.
        remaining: u32,
        /// What the release did.
        cascade: Cascade,
    },
    /// It was sealed, by a seal or by a cancellation: a repeat.
    AlreadySealed {
        /// The flow's revision.
        graph_revision: u64,
        /// Open members that the backlog has yet to look at.
        remaining: u32,
    },
}

/// Arguments of `cancel_flow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CancelFlowArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// Why; a text.
    #[builder(into)]
    pub reason: String,
    /// What it covers; `cancel_all`.
    #[serde(default)]
    #[builder(default)]
    pub cancellation_policy: CancellationPolicy,
    /// Who asks; a name.
    #[builder(into)]
    pub by: String,
}

impl CheckArgs for CancelFlowArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::text("reason", &self.reason)?;
        bounds::name("by", &self.by)
    }
}

/// Result of `cancel_flow`, repeats included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelFlowResult {
    /// It is cancelled, and no member is left to end.
    Cancelled {
        /// The stored policy: the widest so far.
        cancellation_policy: CancellationPolicy,
        /// Members that this call ended.
        cancelled: u32,
        /// Members that have not ended.
        nonterminal: u32,
    },
    /// It is cancelled, and the backlog ends the rest.
    CancellationScheduled {
        /// The stored policy: the widest so far.
        cancellation_policy: CancellationPolicy,
        /// Members that this call ended.
        cancelled: u32,
        /// Open members that the backlog has yet to look at.
        remaining: u32,
        /// Members that have not ended.
        nonterminal: u32,
    },
}

/// Arguments of `set_flow_tags`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFlowTagsArgs {
    /// The flow.
    pub flow_id: FlowId,
    /// Values to set, and none to delete; 1..=64 entries.
    pub tags: BTreeMap<String, Option<String>>,
}

impl CheckArgs for SetFlowTagsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        bounds::tag_changes(&self.tags)
    }
}

/// Result of `set_flow_tags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetFlowTagsResult {
    /// All changes are made.
    Tagged {
        /// Tags afterwards.
        count: u32,
    },
}
