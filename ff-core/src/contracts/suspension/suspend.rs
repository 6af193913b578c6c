//! The pause: `suspend_execution`.

use std::collections::BTreeSet;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    MAX_CONTINUATION_BYTES, MAX_WAITPOINTS, MatchedSignals, ResumePolicy, SuspensionReason, TimeoutBehavior,
    check_sources,
};
use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::{Canon, Canonical, Digest};
use crate::condition::{ResumeCondition, validate_form};
use crate::contracts::{Fence, SignalSource};
use crate::ids::{ExecutionId, SuspensionId, WaitpointId};
use crate::policy::SuspensionPolicy;
use crate::refusal::Refusal;
use crate::state::StateSummary;
use crate::time::TimestampMs;
use crate::token::{PartitionKey, WaitpointToken};

/// A waitpoint that a suspension listens at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WaitpointBinding {
    /// Made by this call, active at once.
    Fresh {
        /// A new id, minted by the caller; ids are single-use.
        waitpoint_id: WaitpointId,
        /// Who may signal it, at most 16, distinct; empty is anyone with its token.
        #[serde(default)]
        sources: Vec<SignalSource>,
    },
    /// Made ahead by `create_pending_waitpoint`; what was buffered on it counts.
    Pending {
        /// Its id.
        waitpoint_id: WaitpointId,
    },
}

impl WaitpointBinding {
    /// A fresh waitpoint for anyone with its token.
    #[must_use]
    pub const fn fresh(waitpoint_id: WaitpointId) -> Self {
        Self::Fresh { waitpoint_id, sources: Vec::new() }
    }

    /// A waitpoint made ahead.
    #[must_use]
    pub const fn pending(waitpoint_id: WaitpointId) -> Self {
        Self::Pending { waitpoint_id }
    }

    /// Its waitpoint.
    #[must_use]
    pub const fn waitpoint_id(&self) -> WaitpointId {
        match self {
            Self::Fresh { waitpoint_id, .. } | Self::Pending { waitpoint_id } => *waitpoint_id,
        }
    }
}

impl Canon for WaitpointBinding {
    fn canon(&self, out: &mut Canonical) {
        match self {
            Self::Fresh { waitpoint_id, sources } => out.put("fresh").put(waitpoint_id).put(sources),
            Self::Pending { waitpoint_id } => out.put("pending").put(waitpoint_id),
        };
    }
}

/// How long a suspension lasts at most, and what happens then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SuspensionTimeout {
    /// As the execution's frozen policy says: its `suspension.default_timeout_ms` (none is never) and
    /// `suspension.default_timeout_behavior`.
    #[default]
    Default,
    /// No timeout, whatever the policy says.
    Never,
    /// Its own.
    After {
        /// Milliseconds from now, `1..=366 days`.
        after_ms: u64,
        /// What happens then.
        behavior: TimeoutBehavior,
    },
}

impl SuspensionTimeout {
    /// The milliseconds and the behaviour meant under the frozen policy; `None` is never.
    #[must_use]
    pub fn resolve(self, policy: &SuspensionPolicy) -> Option<(u64, TimeoutBehavior)> {
        match self {
            Self::Default => policy.default_timeout_ms.map(|ms| (ms, policy.default_timeout_behavior)),
            Self::Never => None,
            Self::After { after_ms, behavior } => Some((after_ms, behavior)),
        }
    }

    fn check(self) -> Result<(), Refusal> {
        if let Self::After { after_ms, behavior } = self {
            bounds::duration("timeout.after_ms", after_ms, 1)?;
            bounds::ensure(behavior.within_bounds(), "timeout.behavior.fail_after_ms")?;
        }
        Ok(())
    }
}

impl Canon for SuspensionTimeout {
    fn canon(&self, out: &mut Canonical) {
        match self {
            Self::Default => out.put("default"),
            Self::Never => out.put("never"),
            Self::After { after_ms, behavior } => out.put("after").put(after_ms).put(behavior),
        };
    }
}

/// Arguments of `suspend_execution`.
///
/// Its check validates the condition's form last, when all other arguments have been found good.
///
/// ```
/// # use ff_core::contracts::Fence;
/// # use ff_core::ids::{AttemptId, ExecutionId, LeaseEpoch, LeaseId};
/// # use ff_core::partition::PartitionConfig;
/// use ff_core::condition::ResumeCondition;
/// use ff_core::contracts::{SuspendExecutionArgs, SuspensionReason, SuspensionTimeout, TimeoutBehavior, WaitpointBinding};
/// use ff_core::ids::{SuspensionId, WaitpointId};
/// # let execution_id = ExecutionId::new(PartitionConfig::default());
/// # let fence = Fence { lease_id: LeaseId::new(), lease_epoch: LeaseEpoch(1), attempt_id: AttemptId::new() };
///
/// let args = SuspendExecutionArgs::builder()
///     .execution_id(execution_id)
///     .fence(fence)
///     .suspension_id(SuspensionId::new())
///     .waitpoints(vec![WaitpointBinding::fresh(WaitpointId::new())])
///     .reason_code(SuspensionReason::WaitingForApproval)
///     .detail("publish the index?")
///     .resume_condition(ResumeCondition::signal("approve"))
///     .timeout(SuspensionTimeout::After { after_ms: 3_600_000, behavior: TimeoutBehavior::Expire })
///     .build();
/// # use ff_core::bounds::{CheckArgs, Deployment};
/// # assert_eq!(args.check(&Deployment::default()), Ok(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SuspendExecutionArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The worker's proof that it still owns it.
    pub fence: Fence,
    /// The new suspension's id, minted by the caller.
    pub suspension_id: SuspensionId,
    /// Where it listens, at most 16; ids distinct.
    #[serde(default)]
    #[builder(default)]
    pub waitpoints: Vec<WaitpointBinding>,
    /// Why; gives the blocking reason.
    pub reason_code: SuspensionReason,
    /// For reviewers; a text.
    #[serde(default)]
    #[builder(into)]
    pub detail: Option<String>,
    /// What must arrive.
    #[builder(into)]
    pub resume_condition: ResumeCondition,
    /// How it resumes: at once, also by an operator.
    #[serde(default)]
    #[builder(default)]
    pub resume_policy: ResumePolicy,
    /// How long it lasts at most; as the execution's policy says.
    #[serde(default)]
    #[builder(default)]
    pub timeout: SuspensionTimeout,
    /// Opaque bytes for the resumed attempt, at most 1 KiB; absent and empty differ.
    #[serde(default, with = "crate::wire::base64_option")]
    #[builder(into)]
    pub continuation: Option<Bytes>,
}

impl SuspendExecutionArgs {
    /// The digest that a repeat is recognised by: of all fields but `suspension_id` and `fence`, which are compared
    /// themselves.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("suspend_execution", |c| {
            c.put(&self.execution_id)
                .put(&self.waitpoints)
                .put(&self.reason_code)
                .put(&self.detail)
                .put(&self.resume_condition)
                .put(&self.resume_policy)
                .put(&self.timeout)
                .put(&self.continuation);
        })
    }

    /// The waitpoints, in binding order.
    #[must_use]
    pub fn waitpoint_ids(&self) -> Vec<WaitpointId> {
        self.waitpoints.iter().map(WaitpointBinding::waitpoint_id).collect()
    }
}

impl CheckArgs for SuspendExecutionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        self.fence.check("fence")?;
        bounds::ensure(self.waitpoints.len() <= MAX_WAITPOINTS, "waitpoints")?;
        let mut ids = BTreeSet::new();
        for binding in &self.waitpoints {
            bounds::ensure(ids.insert(binding.waitpoint_id()), "waitpoints.waitpoint_id")?;
            if let WaitpointBinding::Fresh { sources, .. } = binding {
                check_sources(sources).map_err(|refusal| refusal.nested("waitpoints"))?;
            }
        }
        bounds::text("detail", self.detail.as_deref().unwrap_or(""))?;
        bounds::ensure(self.resume_policy.within_bounds(), "resume_policy.resume_delay_ms")?;
        self.timeout.check()?;
        let continuation = self.continuation.as_ref().map_or(0, Bytes::len);
        bounds::ensure(continuation <= MAX_CONTINUATION_BYTES, "continuation")?;
        // Listed first of the operation's own refusals, so behind every argument's.
        validate_form(&self.resume_condition, &self.waitpoint_ids())
    }
}

/// A token that was minted for one waitpoint.
///
/// Its JSON and its debug text show the token's kid and fingerprint only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// The source that it is bound to; none lets any source use it.
    pub source: Option<SignalSource>,
    /// The token. Whoever holds its text may signal the waitpoint.
    pub token: WaitpointToken,
}

impl IssuedToken {
    /// The tokens of one waitpoint under one key: one bound to each of its sources, in their order; without sources one
    /// unbound token.
    #[must_use]
    pub fn mint(
        key: &PartitionKey,
        execution_id: ExecutionId,
        waitpoint_id: WaitpointId,
        sources: &[SignalSource],
    ) -> Vec<Self> {
        let issue = |source: Option<&SignalSource>| Self {
            source: source.cloned(),
            token: key.mint(execution_id, waitpoint_id, source),
        };
        if sources.is_empty() {
            return vec![issue(None)];
        }
        sources.iter().map(|source| issue(Some(source))).collect()
    }
}

/// A waitpoint and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedWaitpoint {
    /// The waitpoint.
    pub waitpoint_id: WaitpointId,
    /// One bound token for each of its sources; without sources one unbound token.
    pub tokens: Vec<IssuedToken>,
}

/// Result of `suspend_execution`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspendExecutionResult {
    /// It is suspended, and the lease is gone.
    Suspended {
        /// The suspension.
        suspension_id: SuspensionId,
        /// Its waitpoints in binding order, those made ahead too.
        waitpoints: Vec<IssuedWaitpoint>,
        /// The end of its time; a repeat shows that of now.
        timeout_at: Option<TimestampMs>,
        /// Its state.
        summary: StateSummary,
    },
    /// Buffered signals satisfied the condition: nothing paused, and the lease is kept.
    AlreadySatisfied {
        /// The suspension, recorded as closed.
        suspension_id: SuspensionId,
        /// Its waitpoints in binding order, spent.
        waitpoints: Vec<IssuedWaitpoint>,
        /// What arrived.
        matched: MatchedSignals,
        /// Its state.
        summary: StateSummary,
    },
}
