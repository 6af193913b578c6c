//! The backend on servers that move, fall over, ask for certificates or forbid things. Each test starts its own.

#![allow(clippy::unwrap_used)] // a test may

mod acl;
mod cluster;
mod common;
mod connection;
mod dump;
mod durability;
mod library;
mod lost;
mod sentinel;
mod tls;
mod wake;
