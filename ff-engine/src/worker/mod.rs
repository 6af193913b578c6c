//! Workers: handlers, and the loop that feeds them.

#[cfg(feature = "memory")]
mod bench;
mod builder;
mod child;
mod claims;
mod context;
mod handler;
mod leases;
mod outcome;
mod report;
mod run;
mod suspend;

#[cfg(feature = "memory")]
pub(crate) use self::bench::Bench;
pub use self::builder::{Worker, WorkerBuilder};
pub use self::child::ChildBuilder;
pub use self::context::Context;
pub use self::leases::StopReason;
pub use self::outcome::TaskError;
pub use self::report::{AttemptEnd, AttemptReport};
pub use self::run::WorkerReport;
pub use self::suspend::{Paused, Suspend, Suspended, Waitpoint};
