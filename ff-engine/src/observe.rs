//! What an operator sees: a span for every operation, and metrics through the `metrics` facade.
//!
//! Every engine wraps its backend with this. Without a subscriber and a recorder both cost next to nothing.
//!
//! The names and labels are documented in the guide, under operating.

use std::time::Instant;

use async_trait::async_trait;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::Layer;
use ff_core::operation::{Operation, Outcome, dispatch};
use tracing::Instrument;

/// The layer around the backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observe;

/// How a call went, as one word.
fn outcome(result: &Result<Outcome, EngineError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(EngineError::Refused(refusal)) => refusal.code().as_str(),
        Err(EngineError::Transport { .. }) => "transport",
        Err(EngineError::Corruption(_)) => "corruption",
        Err(_) => "unsupported",
    }
}

/// Counts one call.
fn note(name: &'static str, result: &Result<Outcome, EngineError>) -> &'static str {
    let outcome = outcome(result);
    metrics::counter!("ff_operations_total", "operation" => name, "outcome" => outcome).increment(1);
    if let Err(EngineError::Corruption(error)) = result {
        tracing::error!(operation = name, %error, "a stored record cannot be decoded");
    }
    outcome
}

#[async_trait]
impl Layer for Observe {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let name = operation.name().as_str();
        let span = tracing::debug_span!("ff.operation", operation = name, outcome = tracing::field::Empty);
        let began = Instant::now();
        let result = dispatch(inner, operation).instrument(span.clone()).await;
        span.record("outcome", note(name, &result));
        metrics::histogram!("ff_operation_seconds", "operation" => name).record(began.elapsed());
        result
    }

    async fn around_many(
        &self,
        inner: &dyn EngineBackend,
        operations: Vec<Operation>,
    ) -> Vec<Result<Outcome, EngineError>> {
        let names: Vec<&'static str> = operations.iter().map(|o| o.name().as_str()).collect();
        let span = tracing::debug_span!("ff.operations", count = names.len());
        let began = Instant::now();
        let results = inner.execute_many(operations).instrument(span).await;
        for (name, result) in names.into_iter().zip(&results) {
            note(name, result);
        }
        metrics::histogram!("ff_batch_seconds").record(began.elapsed());
        results
    }
}
