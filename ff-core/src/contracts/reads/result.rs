//! The result of a run.

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{CheckArgs, Deployment};
use crate::ids::{AttemptIndex, ExecutionId};
use crate::refusal::Refusal;
use crate::time::TimestampMs;

/// Whose result is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResultSelector {
    /// The present run's.
    #[default]
    Last,
    /// That of the run with this number.
    Run(u32),
    /// That of the run whose last attempt is this one.
    Attempt(AttemptIndex),
}

/// Arguments of `get_result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GetResultArgs {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whose; the present run's.
    #[serde(default)]
    #[builder(default)]
    pub of: ResultSelector,
}

impl CheckArgs for GetResultArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())
    }
}

/// Result of `get_result`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetResultResult {
    /// The run.
    pub run: u32,
    /// When it ended in success.
    pub completed_at: TimestampMs,
    /// The bytes as they were given; none when none were.
    #[serde(default, with = "crate::wire::base64_option")]
    pub result: Option<Bytes>,
    /// Their encoding.
    pub result_encoding: Option<String>,
}
