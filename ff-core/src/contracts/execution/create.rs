//! Creation: `execution.md`, 4.1.

use std::collections::BTreeMap;
use std::sync::Arc;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::{Canonical, Digest, LazyDigest};
use crate::contracts::FlowJoin;
use crate::ids::{ExecutionId, LaneId, Namespace};
use crate::policy::ExecutionPolicy;
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::When;

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
        Digest::of("create_execution", |c| self.content(c))
    }

    /// The same, computed when it is first asked for if the payload is long.
    #[must_use]
    pub fn lazy_fingerprint(&self) -> LazyDigest {
        LazyDigest::of("create_execution", |c| self.content(c))
    }

    fn content(&self, c: &mut Canonical) {
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
