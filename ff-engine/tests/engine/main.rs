//! Workers, flows, admission, operators' questions and faults, on the in-memory backend.
#![cfg(feature = "memory")]

mod admission;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod flow;
mod leases;
mod operate;
mod testing;
mod worker;
