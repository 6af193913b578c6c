//! The in-memory backend held against the contract.

use std::sync::Arc;

use ff_backend_memory::MemoryBackend;
use ff_conformance::{Fixture, Harness, TestName};
use ff_core::time::ManualClock;

struct Memory;

impl Harness for Memory {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        Fixture::new(Arc::new(MemoryBackend::with_manual_clock(clock.clone())), clock)
    }
}

fn main() {
    ff_conformance::main("memory", || Memory)
}
