//! What every generator speaks.

pub(super) use std::collections::BTreeMap;
pub(super) use std::sync::Arc;

pub(super) use bytes::Bytes;
pub(super) use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition};
pub(super) use ff_core::contracts::*; // a generator speaks the whole contract
pub(super) use ff_core::ids::{
    AttemptId, AttemptIndex, BudgetId, DataName, Dimension, EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseEpoch,
    LeaseId, Namespace, QuotaPolicyId, SignalId, SuspensionId, WaitpointId, WorkerId, WorkerInstanceId,
};
pub(super) use ff_core::operation::{OpName, Operation, Outcome};
pub(super) use ff_core::policy::{
    Backoff, Capabilities, ExecutionPolicy, RetryPolicy, StreamPolicy, SuspensionPolicy, TimeoutPolicy,
};
pub(super) use ff_core::state::{BlockReason, TerminalOutcome};
pub(super) use ff_core::time::{TimestampMs, When};
pub(super) use ff_core::token::{WaitpointSecret, WaitpointToken};
pub(super) use serde::{Deserialize, Serialize};
pub(super) use uuid::Uuid;

pub(super) use super::{Dice, Known, KnownEdge, PARTITION, Seen, World, uuid};

/// A name that is valid by construction.
macro_rules! valid {
    ($Type:ident, $text:expr) => {
        $Type::new($text).unwrap_or_else(|e| panic!("{e}"))
    };
}
pub(super) use valid;
