//! The in-memory reference model of the durable execution contract, and the engine for local development and tests.

mod cascade;
pub mod model;
mod routines;
pub mod rules;
