//! The contract of a durable execution engine with a pluggable backend.
//!
//! No I/O and no runtime: the types of every operation ([`contracts`]), what they may be refused for ([`refusal`]),
//! the trait that a backend implements ([`engine_backend`]), the one list of operations ([`operation`]), and the total
//! value functions that all backends share: ids, digests, state derivation, backoff, tokens, conditions, decoders.

pub mod bounds;
pub mod canon;
pub mod condition;
pub mod contracts;
pub mod engine_backend;
pub mod error;
pub mod ids;
pub mod layer;
pub mod operation;
pub mod partition;
pub mod policy;
pub mod records;
pub mod refusal;
pub mod state;
pub mod text;
pub mod time;
pub mod token;
pub mod wire;
