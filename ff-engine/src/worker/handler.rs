//! Handlers: plain async functions, kept without their types.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, TaskError};
use crate::payload;

/// A handler whose input and result are bytes.
pub(crate) type Handler = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<Bytes, TaskError>> + Send + Sync>;

/// Wraps a function. An input that is no `T` is a permanent failure of the category `bad_input`, a result that is not
/// JSON one of the category `bad_output`: every attempt would meet it.
pub(crate) fn handler<T, O, F, Fut>(function: F) -> Handler
where
    T: DeserializeOwned + Send + 'static,
    O: Serialize,
    F: Fn(Context, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send + 'static,
{
    let function = Arc::new(function);
    Arc::new(move |context: Context| {
        let function = Arc::clone(&function);
        async move {
            let claimed = context.claimed();
            let input = payload::decode("the input", Some(&claimed.payload), claimed.payload_encoding.as_deref());
            let input = input.map_err(|error| TaskError::permanent(error).category("bad_input"))?;
            let output = function(context, input).await?;
            payload::encode("the result", &output).map_err(|e| TaskError::permanent(e).category("bad_output"))
        }
        .boxed()
    })
}

/// Runs a handler; a panic becomes a failure of the category `panic`, retried as the policy says.
pub(crate) async fn run(handler: Handler, context: Context) -> Result<Bytes, TaskError> {
    // The handler's state is dropped with it: nothing that a panic left half done is seen again.
    let called = AssertUnwindSafe(async move { handler(context).await }).catch_unwind().await;
    called.unwrap_or_else(|panic| Err(TaskError::retryable(panic_message(&*panic)).category("panic")))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the handler panicked".into())
}
