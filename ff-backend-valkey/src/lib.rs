//! Durable execution on Valkey and Redis; tried on Valkey 8.0.1 and Redis 7.0.15, meant for 7.2 and 7.0 and later.
//!
//! Every operation that it has is one call of a function of the library `ff`, whose Lua source is part of this
//! crate: atomic in the server, one round trip. The folder `lua/` documents the keys.

mod backend;
mod batch;
mod budget;
mod call;
mod claim;
mod connection;
mod dump;
mod execution;
mod flow;
mod history;
mod keys;
mod keystore;
mod lease;
mod library;
mod maintenance;
mod options;
mod quota;
mod reads;
mod record;
mod refusal;
mod signal;
mod stream;
mod suspension;
mod tails;
mod wake;

pub use backend::ValkeyBackend;
pub use library::{LIBRARY_VERSION, source as library_source};
pub use options::{Confirm, ConnectError, Options, Tls};
