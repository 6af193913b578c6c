//! The in-memory reference model of the durable execution contract, and the engine for local development and tests.
//!
//! [`MemoryBackend`] is the engine: partitions locked apart, the system's clock or one that is turned by hand. [`Model`]
//! is the same state without locks and clock, for comparison: [`Model::apply`] carries out one operation at a given
//! instant.
//!
//! ```
//! use ff_backend_memory::Model;
//! use ff_core::bounds::Deployment;
//! use ff_core::contracts::SweepArgs;
//! use ff_core::time::TimestampMs;
//!
//! let mut model = Model::new(Deployment::default());
//! let sweep = SweepArgs::builder().partition(0).build();
//! assert!(model.apply(TimestampMs::ZERO, &sweep.into()).is_ok());
//! ```

mod apply;
mod audit;
mod backend;
mod cascade;
mod damage;
pub mod model;
mod routines;
pub mod rules;

pub use backend::MemoryBackend;
pub use model::{Model, Snapshot};
