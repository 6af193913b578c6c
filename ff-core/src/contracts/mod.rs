//! The arguments and results of every operation, one file per domain, re-exported flat.

mod budget;
mod claim;
pub mod decode;
mod execution;
mod flow;
mod keystore;
mod lease;
mod maintenance;
mod quota;
mod reads;
mod signal;
mod stream;
mod suspension;
#[cfg(test)]
mod testing;

pub use budget::*;
pub use claim::*;
pub use execution::*;
pub use flow::*;
pub use keystore::*;
pub use lease::*;
pub use maintenance::*;
pub use quota::*;
pub use reads::*;
pub use signal::*;
pub use stream::*;
pub use suspension::*;

pub use crate::state::{PublicState, StateSummary, StateVector};
