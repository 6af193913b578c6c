//! Layers around a backend: recording, tracing, fault injection, deliberate mistakes.
//!
//! One method sees every operation, so a layer is written once and not per operation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::bounds::Deployment;
use crate::contracts::*; // the list of operations names nearly all of it
use crate::engine_backend::*; // and every domain trait
use crate::error::EngineError;
use crate::ids::LaneId;
use crate::operation::{Operation, Outcome};

/// What a layer does around each operation.
#[async_trait]
pub trait Layer: Send + Sync + 'static {
    /// Carries out `operation` on `inner`, with whatever the layer adds. The outcome must be that operation's.
    ///
    /// # Errors
    /// Those of the operation, or the layer's own.
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError>;

    /// Carries out several operations, one after the other. A layer that lets through what it is given may hand them on
    /// together ([`Host::execute_many`]), so that the backend can send them at once.
    async fn around_many(
        &self,
        inner: &dyn EngineBackend,
        operations: Vec<Operation>,
    ) -> Vec<Result<Outcome, EngineError>> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(self.around(inner, operation).await);
        }
        results
    }
}

/// A backend with a layer around it: again a backend.
pub struct Layered<L> {
    inner: Arc<dyn EngineBackend>,
    layer: Arc<L>,
}

impl<L> Clone for Layered<L> {
    /// Another handle of the same backend and the same layer.
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), layer: Arc::clone(&self.layer) }
    }
}

impl<L: Layer> Layered<L> {
    /// Puts `layer` around `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn EngineBackend>, layer: L) -> Self {
        Self { inner, layer: Arc::new(layer) }
    }

    /// The layer.
    #[must_use]
    pub fn layer(&self) -> &L {
        &self.layer
    }
}

macro_rules! implement {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => { $(
        #[async_trait]
        impl<L: Layer> $Trait for Layered<L> {
            $(async fn $method(&self, args: $Args) -> Result<$Result, EngineError> {
                match self.layer.around(&*self.inner, Operation::$Op(args)).await? {
                    Outcome::$Op(result) => Ok(result),
                    other => Err(EngineError::Unsupported {
                        what: format!("a layer answered {} with an outcome of {}", stringify!($method), other.name()),
                    }),
                }
            })*
        }
    )* };
}
crate::operations!(implement);

#[async_trait]
impl<L: Layer> Host for Layered<L> {
    fn deployment(&self) -> &Deployment {
        self.inner.deployment()
    }

    async fn execute_many(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>> {
        self.layer.around_many(&*self.inner, operations).await
    }

    async fn wait_for_work(&self, lanes: &[LaneId], timeout: Duration) -> bool {
        self.inner.wait_for_work(lanes, timeout).await
    }

    async fn health(&self) -> Result<Health, EngineError> {
        self.inner.health().await
    }
}
