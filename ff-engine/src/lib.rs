//! What an application embeds: submit work, run workers, keep the store in order.
//!
//! - [`Engine::connect`] opens a store by its URL, [`Engine::with_backend`] takes a backend that is open.
//! - [`Engine::execution`] and [`Engine::flow`] submit work with typed inputs, and give handles to wait for it.
//! - [`Worker`] runs handlers: plain async functions with a [`Context`] and a typed input. It claims in batches, renews
//!   leases, retries, drains on shutdown.
//! - [`Engine::signal`] resumes what waits for an answer from outside.
//! - [`Engine::explain`] says why something is not running, [`Engine::health`] how the store is.
//! - [`Engine::in_memory`] is for tests: months pass in milliseconds.
//!
//! The [guide] has a page on each: start with [getting started](guide::getting_started).
//!
//! ```
//! use ff_engine::{Context, Engine, TaskError, Worker};
//!
//! async fn shout(_ctx: Context, text: String) -> Result<String, TaskError> {
//!     Ok(text.to_uppercase())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let engine = Engine::connect("memory:").await?;
//! let handle = engine.execution("shout", &"hello").submit().await?;
//!
//! let worker = Worker::builder(&engine).concurrency(4).handler("shout", shout).build()?;
//! worker.run_until(async {
//!     assert_eq!(handle.result::<String>().await.expect("it succeeds"), "HELLO");
//! }).await?;
//! # Ok::<(), ff_engine::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Work is done at least once: a worker that dies, or loses its lease, has its work taken over by another one, and what
//! it had done outside the store is done again. [`Context::fence`] is for stores that can check it.

mod admission;
mod agenda;
mod budget;
mod engine;
mod error;
mod execution;
mod explain;
mod flow;
pub mod guide;
mod handle;
mod health;
mod keys;
mod maintenance;
mod observe;
mod options;
mod output;
mod payload;
mod poll;
mod quota;
mod repeat;
mod retries;
mod signal;
#[cfg(feature = "memory")]
mod testing;
mod url;
mod wake;
mod worker;

/// The contract, whose types stand in this crate's signatures.
pub use ff_core;
pub use ff_core::contracts::{ReportUsageResult, ResumeCause, SignalEffect, SuspensionReason, TimeoutBehavior};
pub use ff_core::error::EngineError;
pub use ff_core::ids::{ExecutionId, FlowId, WaitpointId};
pub use ff_core::policy::ExecutionPolicy;
pub use ff_core::refusal::Code;
pub use ff_core::state::{EndCause, PublicState};

pub use crate::budget::{Budget, BudgetLimits};
pub use crate::engine::{Engine, EngineBuilder};
pub use crate::error::{Error, Result};
pub use crate::execution::ExecutionBuilder;
pub use crate::explain::{Explanation, Why};
pub use crate::flow::{FlowBuilder, FlowHandle, FlowProgress, Task};
pub use crate::handle::Handle;
pub use crate::health::{EngineHealth, Failing, MaintenanceHealth};
pub use crate::maintenance::{Maintenance, Swept};
pub use crate::output::OutputFrame;
pub use crate::payload::JSON;
pub use crate::quota::{Quota, QuotaLimits};
pub use crate::retries::Retries;
pub use crate::signal::{SignalBuilder, Token};
#[cfg(feature = "memory")]
pub use crate::testing::TestEngine;
pub use crate::worker::{
    AttemptEnd, AttemptReport, ChildBuilder, Context, Paused, StopReason, Suspend, Suspended, TaskError, Waitpoint,
    Worker, WorkerBuilder, WorkerReport,
};
