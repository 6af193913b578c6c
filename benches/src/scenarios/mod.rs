//! The scenarios, each a file: what is played, and which figures it gives.

pub(crate) mod chain;
pub(crate) mod delay;
pub(crate) mod fan;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod lifecycle;
pub(crate) mod limit;
pub(crate) mod memory;
pub(crate) mod queue;
pub(crate) mod routing;
pub(crate) mod signal;
pub(crate) mod stream;
