//! Changes that move no attempt: `execution.md`, 4.9 to 4.13.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::contracts::Fence;
use crate::ids::ExecutionId;
use crate::refusal::Refusal;
use crate::state::{BlockReason, StateSummary};
use crate::time::When;

/// Arguments of `change_priority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePriorityArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Greater is served first.
    pub priority: i32,
}

impl CheckArgs for ChangePriorityArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `change_priority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangePriorityResult {
    /// It has the priority asked for.
    Changed {
        /// The priority before; of a repeat the same.
        old: i32,
        /// The priority now.
        new: i32,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `update_progress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UpdateProgressArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
    /// Per cent, 0..=100; absent keeps what stands. One of this and the message must be present.
    #[serde(default)]
    pub pct: Option<u8>,
    /// For people, a text; absent keeps what stands, empty clears it.
    #[serde(default)]
    #[builder(into)]
    pub message: Option<String>,
}

impl CheckArgs for UpdateProgressArgs {
    /// A call with neither field is `invalid_input` of `pct`, the first of the two.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::ensure(self.pct.is_none_or(|pct| pct <= 100), "pct")?;
        if let Some(message) = &self.message {
            bounds::text("message", message)?;
        }
        bounds::ensure(self.pct.is_some() || self.message.is_some(), "pct")
    }
}

/// Result of `update_progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateProgressResult {
    /// The progress stands.
    Updated {
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `set_execution_tags`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetExecutionTagsArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// 1..=64 changes: a text sets the tag, none deletes it; all or nothing.
    pub tags: BTreeMap<String, Option<String>>,
}

impl CheckArgs for SetExecutionTagsArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::tag_changes(&self.tags)
    }
}

/// Result of `set_execution_tags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetExecutionTagsResult {
    /// The changes stand.
    Tagged {
        /// How many tags it has afterwards, at most 64.
        count: u32,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `block_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BlockExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Why it is held back; it has at most one block per reason.
    pub reason: BlockReason,
    /// For people, a text; empty.
    #[serde(default)]
    #[builder(default, into)]
    pub detail: String,
    /// When the block ends by itself; absent is [`BlockReason::default_until_ms`] from now.
    #[serde(default)]
    pub until: Option<When>,
    /// Who asks; a name.
    #[builder(into)]
    pub by: String,
}

impl CheckArgs for BlockExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::text("detail", &self.detail)?;
        bounds::when("until", self.until)?;
        bounds::name("by", &self.by)
    }
}

/// Result of `block_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockExecutionResult {
    /// The block stands.
    Blocked {
        /// Its state: BLOCKED when nothing earlier in the gate holds it.
        summary: StateSummary,
    },
    /// The block would have ended at once: no block of this reason stands.
    NotBlocked {
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `unblock_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnblockExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whose block goes; the others stay.
    pub reason: BlockReason,
}

impl CheckArgs for UnblockExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `unblock_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnblockExecutionResult {
    /// The block is gone; others may go on holding it.
    Unblocked {
        /// Its state.
        summary: StateSummary,
    },
    /// There was no such block; nothing changed.
    NotBlocked {
        /// Its state.
        summary: StateSummary,
    },
}
