//! What can go wrong for an application, and what to do about it.

use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, InvalidId};
use ff_core::refusal::Code;
use ff_core::state::{EndCause, PublicState};

/// Why a call of this crate gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the store is wrong; the message says what to write instead.
    #[error("{problem}; {remedy}")]
    Url {
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The backend refused, was not reached, or found a damaged record. Calls that may have been applied were repeated
    /// unchanged, so a transport error is final here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A value could not be written as JSON.
    #[error("cannot encode {what} as JSON: {source}")]
    Encode {
        /// Which value.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Stored bytes are not the JSON that was asked for.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// Which value.
        what: String,
        /// Why.
        reason: String,
    },
    /// A name or label breaks its rule.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The execution ended otherwise than with success.
    #[error("{execution_id} ended {state}{}{}", cause.map(|c| format!(" ({c})")).unwrap_or_default(),
        reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Ended {
        /// The execution.
        execution_id: ExecutionId,
        /// How it ended.
        state: PublicState,
        /// Why.
        cause: Option<EndCause>,
        /// The failure's or cancellation's reason.
        reason: Option<String>,
        /// The failure's category.
        category: Option<String>,
    },
    /// A flow or a worker was put together wrongly.
    #[error("{0}")]
    Setup(String),
    /// There is no such input, member or result.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// The refusal's code, if the backend refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        if let Self::Engine(error) = self { error.code() } else { None }
    }
}

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
