//! Domain execution: `execution.md`, section 4.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::{Canon, Canonical, Digest};
use crate::contracts::FlowJoin;
use crate::ids::{AttemptId, AttemptIndex, ExecutionId, LaneId, LeaseEpoch, LeaseId, Namespace, WorkerInstanceId};
use crate::policy::ExecutionPolicy;
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::When;
use crate::word_enum;

word_enum! {
    /// Why a timer or marking did nothing: the first that holds.
    pub enum NotDueCause {
        /// The execution has ended.
        Terminal = "terminal",
        /// What the call names is not current.
        Stale = "stale",
        /// There is no such timer.
        NotArmed = "not_armed",
        /// It is not due yet.
        Early = "early",
    }
}

/// What a worker shows to prove that it still owns what it writes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// The lease.
    pub lease_id: LeaseId,
    /// Its epoch.
    pub lease_epoch: LeaseEpoch,
    /// The attempt that runs under it.
    pub attempt_id: AttemptId,
}

impl Canon for Fence {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.lease_id).put(&self.lease_epoch).put(&self.attempt_id);
    }
}

/// Who acts: the worker that owns the execution, or an operator. There is no default.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Actor {
    /// The present owner.
    Worker(Fence),
    /// A person or program that may act on any live execution; recorded, not proved.
    Operator {
        /// A name, 1..=256 bytes.
        identity: String,
    },
}

impl Actor {
    /// An operator of that name.
    pub fn operator(identity: impl Into<String>) -> Self {
        Self::Operator { identity: identity.into() }
    }

    /// The actor of a boundary that received loose parts: a complete fence, or else an operator's identity.
    ///
    /// # Errors
    /// `fence_required` when neither is complete.
    pub fn from_parts(
        lease_id: Option<LeaseId>,
        lease_epoch: Option<LeaseEpoch>,
        attempt_id: Option<AttemptId>,
        operator: Option<String>,
    ) -> Result<Self, Refusal> {
        match (lease_id, lease_epoch, attempt_id, operator) {
            (Some(lease_id), Some(lease_epoch), Some(attempt_id), None) => {
                Ok(Self::Worker(Fence { lease_id, lease_epoch, attempt_id }))
            }
            (None, None, None, Some(identity)) => Ok(Self::Operator { identity }),
            _ => Err(Refusal::fence_required()),
        }
    }

    /// The fence, if a worker acts.
    #[must_use]
    pub const fn fence(&self) -> Option<&Fence> {
        match self {
            Self::Worker(fence) => Some(fence),
            Self::Operator { .. } => None,
        }
    }
}

/// Who ended an execution or an attempt. Text form `engine`, `worker:<instance>`, `operator:<identity>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// Timers, the gate, a cascade.
    Engine,
    /// The worker that owned it.
    Worker {
        /// Its instance.
        worker_instance_id: WorkerInstanceId,
    },
    /// An operator.
    Operator {
        /// As it named itself.
        identity: String,
    },
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine => f.write_str("engine"),
            Self::Worker { worker_instance_id } => write!(f, "worker:{worker_instance_id}"),
            Self::Operator { identity } => write!(f, "operator:{identity}"),
        }
    }
}

/// The timer that `expire_execution` fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExpiryTimer {
    /// The attempt's own time.
    AttemptTimeout {
        /// The attempt it was armed for.
        attempt_index: AttemptIndex,
    },
    /// The execution's deadline.
    Deadline,
}

/// Arguments of `create_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CreateExecutionArgs {
    /// The new execution's id, minted by the caller.
    pub execution_id: ExecutionId,
    /// Scopes the idempotency key and filters lists.
    pub namespace: Namespace,
    /// The queue it waits in.
    pub lane_id: LaneId,
    /// What kind of work; a name.
    #[builder(into)]
    pub kind: String,
    /// Opaque bytes, within the deployment's bound.
    #[serde(default, with = "crate::wire::base64_bytes")]
    #[builder(default, into)]
    pub payload: Bytes,
    /// The payload's encoding; a label.
    #[serde(default)]
    #[builder(into)]
    pub payload_encoding: Option<String>,
    /// Greater is served first; 0.
    #[serde(default)]
    #[builder(default)]
    pub priority: i32,
    /// At most 64.
    #[serde(default)]
    #[builder(default)]
    pub tags: BTreeMap<String, String>,
    /// Frozen with the execution.
    #[serde(default)]
    #[builder(default, into)]
    pub policy: Arc<ExecutionPolicy>,
    /// Not claimable before.
    #[serde(default)]
    pub delay: Option<When>,
    /// Equal keys name one execution while the key is in force.
    #[serde(default)]
    #[builder(into)]
    pub idempotency_key: Option<String>,
    /// Makes it a member of a flow, with its incoming edges, in the same step.
    #[serde(default)]
    pub flow: Option<FlowJoin>,
    /// Recorded, not compared; a name.
    #[serde(default)]
    #[builder(into)]
    pub creator: Option<String>,
}

impl CreateExecutionArgs {
    /// The digest that equal content is judged by: without id, idempotency key and creator.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of("create_execution", |c| {
            c.put(&self.namespace)
                .put(&self.lane_id)
                .put(&self.kind)
                .put(&self.payload)
                .put(&self.payload_encoding)
                .put(&self.priority)
                .put(&self.tags)
                .put(&self.policy)
                .put(&self.delay)
                .put(&self.flow);
        })
    }
}

impl CheckArgs for CreateExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        if let Some(join) = &self.flow {
            deployment.partition(join.flow_id.partition())?;
            for edge in &join.edges {
                deployment.partition(edge.upstream_execution_id.partition())?;
            }
        }
        bounds::name("kind", &self.kind)?;
        deployment.payload("payload", self.payload.len())?;
        bounds::label("payload_encoding", self.payload_encoding.as_deref())?;
        bounds::tags(&self.tags)?;
        self.policy.check()?;
        bounds::when("delay", self.delay)?;
        bounds::key("idempotency_key", self.idempotency_key.as_deref())?;
        if let Some(join) = &self.flow {
            bounds::ensure(join.edges.len() <= FlowJoin::MAX_EDGES, "flow.edges")?;
        }
        if let Some(creator) = &self.creator {
            bounds::name("creator", creator)?;
        }
        let home = match (&self.flow, &self.idempotency_key) {
            (Some(join), _) => {
                let edges_at_home =
                    join.edges.iter().all(|e| e.upstream_execution_id.partition() == join.flow_id.partition());
                if !edges_at_home {
                    return Err(Refusal::partition_mismatch());
                }
                join.flow_id.partition()
            }
            (None, Some(key)) => ExecutionId::partition_of_key(deployment.partitions, &self.namespace, key),
            (None, None) => self.execution_id.partition(),
        };
        if home == self.execution_id.partition() { Ok(()) } else { Err(Refusal::partition_mismatch()) }
    }
}

/// Result of `create_execution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateExecutionResult {
    /// It was created.
    Created {
        /// Its id.
        execution_id: ExecutionId,
        /// Its state.
        summary: StateSummary,
    },
    /// The id exists with equal content: a repeat.
    AlreadyExists {
        /// Its id.
        execution_id: ExecutionId,
        /// Its state of now.
        summary: StateSummary,
    },
    /// The idempotency key is in force with equal content.
    Duplicate {
        /// The existing execution.
        execution_id: ExecutionId,
        /// Its state of now.
        summary: StateSummary,
    },
}
