//! The in-memory reference model of the durable execution contract.

mod cascade;
pub mod model;
mod routines;
pub mod rules;
