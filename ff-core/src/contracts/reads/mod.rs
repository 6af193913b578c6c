//! Domain reads: `resources.md`, section 5. The models are pure functions of records.

mod cursor;
mod lane;
mod list;
mod models;
mod result;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::ExecutionId;
use crate::refusal::Refusal;

pub use cursor::*;
pub use lane::*;
pub use list::*;
pub use models::*;
pub use result::*;

const fn default_limit() -> u32 {
    bounds::DEFAULT_PAGE
}

macro_rules! of_one_execution {
    ($($(#[$meta:meta])* $Name:ident;)+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Name {
            /// The execution.
            pub execution_id: ExecutionId,
        }

        impl CheckArgs for $Name {
            fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
                deployment.partition(self.execution_id.partition())
            }
        }
    )+ };
}

of_one_execution! {
    /// Arguments of `get_execution`.
    GetExecutionArgs;
    /// Arguments of `describe_execution`.
    DescribeExecutionArgs;
    /// Arguments of `get_payload`.
    GetPayloadArgs;
}

/// Result of `get_execution`.
pub type GetExecutionResult = ExecutionInfo;

/// Result of `describe_execution`.
pub type DescribeExecutionResult = ExecutionSnapshot;

/// Result of `get_payload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPayloadResult {
    /// The bytes as they were given; empty when none were.
    #[serde(with = "crate::wire::base64_bytes")]
    pub payload: Bytes,
    /// Their encoding.
    pub payload_encoding: Option<String>,
}
