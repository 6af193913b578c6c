//! What the tests share.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::future::Future;
use std::time::Duration;

use ff_engine::{Engine, Handle, WorkerBuilder, WorkerReport};
use tokio::time::timeout;

/// What takes longer does not end.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// An empty store.
pub(crate) async fn memory(partitions: u16) -> Engine {
    Engine::connect(&format!("memory:?partitions={partitions}")).await.expect("an empty store")
}

/// Runs a worker until what is asked of it is done.
pub(crate) async fn until(worker: WorkerBuilder, done: impl Future<Output = ()>) -> WorkerReport {
    let worker = worker.build().expect("well put together");
    timeout(SOON, worker.run_until(done)).await.expect("in time").expect("no refusal of claims")
}

/// Waits until all have ended.
pub(crate) async fn ended(handles: &[Handle]) {
    for handle in handles {
        handle.wait().await.expect("known");
    }
}

/// A server of its own, of the kind that `FF_SERVER` names, else Valkey, else, where that is not installed, Redis.
#[cfg(feature = "valkey")]
pub(crate) fn server(more: &[&str]) -> ff_testserver::process::Process {
    ff_testserver::process::chosen(more).expect("a server is installed")
}
