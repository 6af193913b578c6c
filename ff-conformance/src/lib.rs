//! The public conformance suite: point it at a backend and learn whether it keeps the contract.
//!
//! A backend author writes a [`Harness`] that opens fresh, isolated instances, and a `main` that hands it over:
//!
//! ```no_run
//! use std::sync::Arc;
//! use ff_conformance::{Fixture, Harness, TestName};
//! use ff_core::time::ManualClock;
//! # use ff_backend_memory::MemoryBackend;
//!
//! struct Mine;
//!
//! impl Harness for Mine {
//!     async fn open(&self, _test: &TestName, clock: ManualClock) -> Fixture {
//!         Fixture::new(Arc::new(MemoryBackend::with_manual_clock(clock.clone())), clock)
//!     }
//! }
//!
//! fn main() {
//!     ff_conformance::main("mine", || Mine)
//! }
//! ```
//!
//! Put it in `tests/conformance.rs` with `harness = false`; it then lists, filters and reports its trials like any test.

mod brief;
pub mod cases;
pub mod concurrent;
mod convict;
pub mod faults;
mod harness;
pub mod hostile;
pub mod linear;
pub mod random;
mod run;
pub mod stage;
pub mod traces;
pub mod view;

pub use brief::table;
pub use convict::{Cause, Conviction, Trials, convict};
pub use harness::{Damage, DamageKind, Fault, Fixture, Harness, StoredValue, TestName};
pub use run::{Depth, Sizes, Tally, Tier, Trial, Verdict, main};
