//! How an attempt ends without a result.

use std::fmt;
use std::time::Duration;

use crate::retries::millis;

/// Why a handler gives no result: it failed, or it pauses.
///
/// Any error becomes a failure of the category `error` by `?`; it is retried as the policy says. Others say what they
/// are:
///
/// ```
/// use ff_engine::TaskError;
/// fn parse(text: &str) -> Result<u32, TaskError> {
///     text.parse().map_err(|e| TaskError::permanent(e).category("bad_number"))
/// }
/// fn read(path: &str) -> Result<String, TaskError> {
///     Ok(std::fs::read_to_string(path)?)
/// }
/// assert!(parse("seven").is_err() && read("/no/such/file").is_err());
/// ```
#[derive(Debug)]
pub struct TaskError(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Failure {
        reason: String,
        category: String,
        no_retry: bool,
    },
    /// The pause was carried out by the context; nothing is left to do.
    Paused,
    Delay(u64),
    WaitForChildren,
}

impl TaskError {
    fn failure(reason: &impl ToString, no_retry: bool) -> Self {
        Self(Kind::Failure { reason: reason.to_string(), category: "error".into(), no_retry })
    }

    /// A failure that another attempt may not meet: retried as the policy says.
    #[allow(clippy::needless_pass_by_value)] // for `map_err(TaskError::retryable)`
    pub fn retryable(reason: impl ToString) -> Self {
        Self::failure(&reason, false)
    }

    /// A failure that every attempt would meet: not retried.
    #[allow(clippy::needless_pass_by_value)] // for `map_err(TaskError::permanent)`
    pub fn permanent(reason: impl ToString) -> Self {
        Self::failure(&reason, true)
    }

    /// What kind of failure it is, for policies that retry only some; `error`.
    #[must_use]
    pub fn category(mut self, name: impl Into<String>) -> Self {
        if let Kind::Failure { category, .. } = &mut self.0 {
            *category = name.into();
        }
        self
    }

    /// No failure: the attempt pauses, and its handler is called again after this time.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self(Kind::Delay(millis(delay)))
    }

    /// No failure: the attempt pauses until no incoming edge of its flow is unresolved, and its handler is called again.
    #[must_use]
    pub fn wait_for_children() -> Self {
        Self(Kind::WaitForChildren)
    }
}

impl<E: std::error::Error> From<E> for TaskError {
    /// A retryable failure; the reason is the error and its sources.
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        Self::retryable(reason)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Failure { reason, category, no_retry } => {
                let retry = if *no_retry { ", permanent" } else { "" };
                write!(f, "{reason} ({category}{retry})")
            }
            Kind::Paused => f.write_str("the attempt is paused"),
            Kind::Delay(ms) => write!(f, "the attempt pauses for {ms} ms"),
            Kind::WaitForChildren => f.write_str("the attempt waits for its incoming edges"),
        }
    }
}
