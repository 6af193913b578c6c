//! What surrounds the operations: the deployment, many operations at once, waiting for work, health.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::bounds::Deployment;
use crate::error::EngineError;
use crate::ids::LaneId;
use crate::operation::{Operation, Outcome};
use crate::word_enum;

word_enum! {
    /// What an acknowledged write has survived.
    pub enum Durability {
        /// It is in the memory of one process, and lost with it.
        Memory = "memory",
        /// It is on the disk of one machine.
        LocalFsync = "local_fsync",
        /// It is on as many replicas as were asked for.
        Replicas = "replicas",
    }
}

/// What a backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// The backend's name and version.
    pub backend: String,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// What an operator should know, one line each: settings that lose data, replicas that lag.
    pub warnings: Vec<String>,
}

impl Health {
    /// A healthy backend without warnings.
    #[must_use]
    pub fn new(backend: impl Into<String>, durability: Durability) -> Self {
        Self { backend: backend.into(), durability, warnings: Vec::new() }
    }
}

/// What surrounds the operations. No state of the contract is reached through it but by operations.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// What the deployment fixes: partitions and bounds. Known since the backend was opened; costs nothing.
    fn deployment(&self) -> &Deployment;

    /// Carries out several operations; the results come in their order.
    ///
    /// # Behavior
    /// - Each is one call of its own: atomic alone, refused alone. Operations on one partition take effect in the order
    ///   given; nothing is promised about the order across partitions.
    /// - A backend sends together what it can (Valkey pipelines), and never waits in series for what it can send at once.
    ///
    /// # Cost
    /// One round trip where the backend can; else one each.
    async fn execute_many(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>>;

    /// Waits until work may have become ready in one of the lanes (all lanes if empty), or the time is over.
    ///
    /// # Behavior
    /// - Answers true for a wake-up, false when the time is over. Both are hints: a wake-up may come for work that
    ///   another worker takes, and may get lost with a connection, so a caller looks anyway when the time is over.
    /// - Work that becomes ready between a caller's look and its wait wakes it, as far as the backend can tell.
    /// - Real time of the calling process, also under a manual clock.
    async fn wait_for_work(&self, lanes: &[LaneId], timeout: Duration) -> bool;

    /// Reaches the store and says how it is.
    ///
    /// # Errors
    /// `Transport` when it cannot be reached.
    async fn health(&self) -> Result<Health, EngineError>;
}
