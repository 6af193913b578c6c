//! Domain execution: `execution.md`, section 4.

mod change;
mod create;
mod end;
mod pause;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::change::*;
pub use self::create::*;
pub use self::end::*;
pub use self::pause::*;
use crate::bounds;
use crate::canon::{Canon, Canonical};
use crate::ids::{AttemptId, AttemptIndex, LeaseEpoch, LeaseId, WorkerInstanceId};
use crate::refusal::Refusal;
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

impl Fence {
    /// Holds the epoch to 2^53-1: a greater one could not be told apart from its neighbours by every store.
    ///
    /// # Errors
    /// `invalid_input`, naming `<field>.lease_epoch`.
    pub fn check(&self, field: &str) -> Result<(), Refusal> {
        bounds::integer("lease_epoch", self.lease_epoch.get()).map_err(|refusal| refusal.nested(field))
    }
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

    /// The fence's bounds, or that the identity is a name.
    ///
    /// # Errors
    /// `invalid_input`, naming `actor.lease_epoch` or `actor.identity`.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Worker(fence) => fence.check("actor"),
            Self::Operator { identity } => bounds::name("actor.identity", identity),
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
