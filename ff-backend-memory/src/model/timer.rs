//! The due-time index: one ordered set per partition.

use ff_core::contracts::TimerKind;
use ff_core::ids::WaitpointId;
use ff_core::state::BlockReason;
use ff_core::time::TimestampMs;
use uuid::Uuid;

/// What a timer belongs to. Ordered as equals fire: executions by id, then what is within them; flows after all
/// executions. Timers of one kind all have the same form, so the order across forms only parts flows from executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerOf {
    /// An execution.
    Execution(Uuid),
    /// A pending waitpoint of an execution.
    Waitpoint(Uuid, WaitpointId),
    /// A block of an execution.
    Block(Uuid, BlockReason),
    /// A flow.
    Flow(Uuid),
}

impl TimerOf {
    /// The uuid of the execution or flow.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Execution(uuid) | Self::Waitpoint(uuid, _) | Self::Block(uuid, _) | Self::Flow(uuid) => uuid,
        }
    }
}

/// One entry: fires by (due instant, kind, what it belongs to).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerKey {
    /// When it is due.
    pub due_at: TimestampMs,
    /// What it does.
    pub kind: TimerKind,
    /// What it belongs to.
    pub of: TimerOf,
}
