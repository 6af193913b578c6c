//! The error of every operation: few kinds, by what the caller can do.

use serde::{Deserialize, Serialize};

use crate::contracts::decode::DecodeError;
use crate::refusal::{Code, Refusal};
use crate::word_enum;

word_enum! {
    /// Whether an operation that failed on the way may have been applied.
    pub enum Applied {
        /// It was not.
        No = "no",
        /// Nobody knows: repeat the call unchanged and get the first answer.
        Unknown = "unknown",
    }
}

/// Why an operation gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineError {
    /// The engine refused; nothing changed. What to do next is the code's class.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The backend was not reached, or its answer was lost. Repeating the call unchanged is safe, but for what counts each
    /// time once it may have been applied: a report or a reset of a budget without a dedup key, a frame without a seq.
    #[error("transport ({}): {message}", match applied { Applied::No => "not applied", Applied::Unknown => "may have been applied" })]
    Transport {
        /// Whether the operation may have been applied.
        applied: Applied,
        /// What happened, for people.
        message: String,
    },
    /// A stored record cannot be decoded; an operator must look.
    #[error("corruption: {0}")]
    Corruption(DecodeError),
    /// This backend lacks the operation or the option.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What it lacks.
        what: String,
    },
}

impl EngineError {
    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// The refusal's code, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.refusal().map(Refusal::code)
    }

    /// Whether the operation may have been applied.
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        matches!(self, Self::Transport { applied: Applied::Unknown, .. })
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DecodeError> for EngineError {
    fn from(error: DecodeError) -> Self {
        Self::Corruption(error)
    }
}
