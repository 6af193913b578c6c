//! Pauses and replay: `execution.md`, 4.6 to 4.8.

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::Digest;
use crate::contracts::{Actor, Fence};
use crate::ids::ExecutionId;
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::{TimestampMs, When};

/// Arguments of `delay_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Who delays it. A worker pauses its own attempt.
    pub actor: Actor,
    /// Not claimable before. An instant that is not after now ends a delay or backoff.
    pub until: When,
}

impl DelayExecutionArgs {
    /// The digest that a repeat is recognised by: without execution and actor.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("delay_execution", |c| {
            c.put(&self.until);
        })
    }
}

impl CheckArgs for DelayExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.actor.check()?;
        bounds::when("until", Some(self.until))
    }
}

/// Result of `delay_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayExecutionResult {
    /// It is not claimable before that instant.
    Delayed {
        /// The instant meant by the argument, also when it has passed.
        until: TimestampMs,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `move_to_waiting_children`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveToWaitingChildrenArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
}

impl MoveToWaitingChildrenArgs {
    /// The digest that a repeat is recognised by. Nothing is left of the arguments without execution and fence: the
    /// fence stands beside the digest in the stored first answer.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("move_to_waiting_children", |_| {})
    }
}

impl CheckArgs for MoveToWaitingChildrenArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")
    }
}

/// Result of `move_to_waiting_children`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveToWaitingChildrenResult {
    /// The attempt pauses until no incoming edge is unresolved.
    Moved {
        /// Incoming edges that it waits for.
        unresolved_count: u32,
        /// Incoming edges that can no longer be satisfied.
        impossible_count: u32,
        /// Its state.
        summary: StateSummary,
    },
    /// There is nothing to wait for; nothing changed and the lease stays.
    AlreadySatisfied {
        /// Incoming edges that can no longer be satisfied.
        impossible_count: u32,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `replay_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplayExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The count as the caller read it: two callers that read the same one replay once.
    pub replay_count: u32,
    /// Why; a text.
    #[builder(into)]
    pub reason: String,
    /// Who asks; a name.
    #[builder(into)]
    pub by: String,
    /// The new run's deadline; none leaves it to the policy.
    #[serde(default)]
    pub deadline: Option<When>,
    /// Whether members skipped behind it are replayed as their edges become possible again; false.
    #[serde(default)]
    #[builder(default)]
    pub reopen_skipped: bool,
}

impl ReplayExecutionArgs {
    /// The digest that a repeat is recognised by: of all arguments, as passed.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("replay_execution", |c| {
            c.put(&self.execution_id)
                .put(&self.replay_count)
                .put(&self.reason)
                .put(&self.by)
                .put(&self.deadline)
                .put(&self.reopen_skipped);
        })
    }
}

impl CheckArgs for ReplayExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::text("reason", &self.reason)?;
        bounds::name("by", &self.by)?;
        bounds::when("deadline", self.deadline)
    }
}

/// Result of `replay_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayExecutionResult {
    /// A new run began.
    Replayed {
        /// The new run's number.
        replay_count: u32,
        /// Its state.
        summary: StateSummary,
    },
}
