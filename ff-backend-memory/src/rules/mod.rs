//! The rules, one module per domain: pure, synchronous functions over a partition, a clock reading and arguments that
//! have passed their own check. A rule refuses first and writes last.

pub mod budget;
pub mod claim;
pub mod execution;
pub mod flow;
pub mod keystore;
pub mod lease;
pub mod maintenance;
pub mod quota;
pub mod reads;
pub mod signal;
pub mod stream;
pub mod suspension;
#[cfg(test)]
pub(crate) mod testing;
