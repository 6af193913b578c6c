//! How attempts ended, as the store has it.

use std::sync::Arc;

use ff_core::contracts::{ClaimedExecution, DescribeExecutionArgs, StreamCursor, TailFramesArgs, TailFramesResult};
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::refusal::Code;
use ff_core::state::{EndCause, PublicState};
use ff_core::time::TimestampMs;

use crate::engine::Engine;
use crate::repeat::call;

/// What a worker is asked to call at the end of each attempt.
pub(crate) type Observer = Arc<dyn Fn(&AttemptReport) + Send + Sync>;

/// One attempt that this worker had in its hands, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its kind.
    pub kind: String,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// What became of it.
    pub end: AttemptEnd,
}

/// What became of an attempt in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// It succeeded.
    Completed,
    /// It failed, and the execution with it.
    Failed {
        /// What kind of failure.
        category: String,
        /// Why.
        reason: String,
    },
    /// It failed, and another attempt follows.
    Retried {
        /// When, at the earliest.
        retry_at: TimestampMs,
        /// What kind of failure.
        category: String,
        /// Why.
        reason: String,
    },
    /// It paused: the handler asked for it.
    Paused,
    /// It was given back unfinished: the worker shuts down, has no handler for it, or had lost its lease when it failed.
    GivenBack,
    /// The handler's answer came too late: something else had ended the attempt, and that stands. This is the true
    /// outcome.
    Superseded {
        /// The execution's state now; none if it has been purged.
        state: Option<PublicState>,
        /// What ended this attempt; none if it goes on elsewhere, as after an operator's delay.
        cause: Option<EndCause>,
    },
    /// The handler's answer did not reach the store, whatever was tried, and when the lease has run out, another worker
    /// takes the work over; or the answer came too late, and the store could not be asked what had ended it before.
    Unreported {
        /// Why.
        error: String,
    },
}

impl AttemptEnd {
    /// The end in one word, as the metrics have it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "retried",
            Self::Paused => "paused",
            Self::GivenBack => "given_back",
            Self::Superseded { .. } => "superseded",
            Self::Unreported { .. } => "unreported",
        }
    }
}

/// The true outcome of an attempt whose end came too late.
pub(super) async fn superseded(engine: &Engine, claimed: &ClaimedExecution) -> AttemptEnd {
    let execution_id = claimed.execution_id;
    let now = match call!(engine, describe_execution(DescribeExecutionArgs { execution_id })) {
        Ok(now) => now,
        Err(error) if error.code() == Some(Code::ExecutionNotFound) => {
            return AttemptEnd::Superseded { state: None, cause: None };
        }
        Err(error) => {
            return AttemptEnd::Unreported { error: format!("something else ended it; how is not known: {error}") };
        }
    };
    let state = Some(now.public_state);
    let newest = now.current_attempt.filter(|attempt| attempt.attempt_id == claimed.attempt_id);
    if let Some(attempt) = newest {
        return AttemptEnd::Superseded { state, cause: attempt.end_cause };
    }
    // Another attempt has begun: this one's stream tells how it ended.
    let args = TailFramesArgs::builder()
        .execution_id(execution_id)
        .attempt_index(claimed.attempt_index)
        .after(StreamCursor::Ms(u64::MAX))
        .block_ms(0)
        .limit(1)
        .build();
    let cause = match call!(engine, tail_frames(args)) {
        Ok(TailFramesResult::Frames(page)) => page.closed.map(|closed| closed.cause),
        Err(_) => None,
    };
    AttemptEnd::Superseded { state, cause }
}
