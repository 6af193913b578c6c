//! The stored records: one model per record of the contract's pages, with its flat form.
//!
//! A model has the fields of its table. Stores that keep records as maps write [`flat::FlatMap`]s and read them back
//! with the decoders of [`crate::contracts::decode`]; the in-memory backend keeps the models themselves.

mod budget;
mod execution;
pub mod flat;
mod flow;
mod keystore;
mod quota;
mod signal;
mod stream;
mod suspension;
#[cfg(test)]
mod testing;

#[cfg(test)]
pub(crate) use execution::generate;

pub use budget::*;
pub use execution::*;
pub use flow::*;
pub use keystore::*;
pub use quota::*;
pub use signal::*;
pub use stream::*;
pub use suspension::*;
