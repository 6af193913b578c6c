//! Endings: `execution.md`, 4.2 to 4.5.

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::Digest;
use crate::contracts::{Actor, ExpiryTimer, NotDueCause};
use crate::ids::ExecutionId;
use crate::refusal::Refusal;
use crate::state::{LifecyclePhase, StateSummary};
use crate::time::TimestampMs;

/// Arguments of `complete_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CompleteExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Who completes it.
    pub actor: Actor,
    /// The run's result, within the deployment's bound; absent and empty differ, and both come back as given.
    #[serde(default, with = "crate::wire::base64_option")]
    #[builder(into)]
    pub result: Option<Bytes>,
    /// The result's encoding; a label.
    #[serde(default)]
    #[builder(into)]
    pub result_encoding: Option<String>,
}

impl CompleteExecutionArgs {
    /// The digest that a repeat is recognised by: without execution and actor.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("complete_execution", |c| {
            c.put(&self.result).put(&self.result_encoding);
        })
    }
}

impl CheckArgs for CompleteExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.actor.check()?;
        deployment.payload("result", self.result.as_ref().map_or(0, Bytes::len))?;
        bounds::label("result_encoding", self.result_encoding.as_deref())
    }
}

/// Result of `complete_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompleteExecutionResult {
    /// It ended with success.
    Completed {
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `fail_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FailExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Who fails it. An operator's failure is final; a worker's may be retried.
    pub actor: Actor,
    /// Why; a text.
    #[builder(into)]
    pub reason: String,
    /// What kind of failure, for the policy's `retryable_categories`; a name.
    #[builder(into)]
    pub category: String,
    /// Whether the policy's retries are left unasked; false.
    #[serde(default)]
    #[builder(default)]
    pub no_retry: bool,
}

impl FailExecutionArgs {
    /// The digest that a repeat is recognised by: without execution and actor.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("fail_execution", |c| {
            c.put(&self.reason).put(&self.category).put(&self.no_retry);
        })
    }
}

impl CheckArgs for FailExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.actor.check()?;
        bounds::text("reason", &self.reason)?;
        bounds::name("category", &self.category)
    }
}

/// Result of `fail_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailExecutionResult {
    /// The attempt ended; another one follows.
    RetryScheduled {
        /// Not claimable before.
        retry_at: TimestampMs,
        /// Its state.
        summary: StateSummary,
    },
    /// The failure was final.
    Ended {
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `cancel_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Who cancels it. A worker needs its full, live fence.
    pub actor: Actor,
    /// Why; a text.
    pub reason: String,
}

impl CancelExecutionArgs {
    /// The digest that a repeat is recognised by: without execution and actor.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("cancel_execution", |c| {
            c.put(&self.reason);
        })
    }
}

impl CheckArgs for CancelExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.actor.check()?;
        bounds::text("reason", &self.reason)
    }
}

/// Result of `cancel_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelExecutionResult {
    /// It ended cancelled.
    Cancelled {
        /// What it was doing.
        from: LifecyclePhase,
        /// Its state.
        summary: StateSummary,
    },
}

/// Arguments of `expire_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The timer to fire, if it is due.
    pub timer: ExpiryTimer,
}

impl CheckArgs for ExpireExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `expire_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpireExecutionResult {
    /// The attempt's time was over; another attempt follows.
    RetryScheduled {
        /// Not claimable before.
        retry_at: TimestampMs,
        /// Its state.
        summary: StateSummary,
    },
    /// It ended.
    Ended {
        /// Its state.
        summary: StateSummary,
    },
    /// Nothing was due; nothing changed.
    NotDue {
        /// The first cause that holds.
        cause: NotDueCause,
        /// Its state.
        summary: StateSummary,
    },
}
