//! Retry policies in words.

use std::collections::BTreeSet;
use std::time::Duration;

use ff_core::policy::{Backoff, RetryPolicy};

/// Milliseconds of a duration, at most the greatest that a policy takes; what is longer is cut to it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(ff_core::time::MAX_DURATION_MS)
}

/// How often and when a failed attempt is tried again.
///
/// ```
/// use std::time::Duration;
/// use ff_engine::Retries;
///
/// let patient = Retries::exponential(5, Duration::from_millis(200), Duration::from_secs(30)).jitter();
/// let picky = Retries::fixed(3, Duration::from_secs(1)).only(["timeout", "network"]);
/// # let _ = (patient, picky);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries(RetryPolicy);

impl Retries {
    /// No second attempt; what an execution has unless it asks for more.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// At most `max` retries, at once.
    #[must_use]
    pub fn immediate(max: u32) -> Self {
        Self::fixed(max, Duration::ZERO)
    }

    /// At most `max` retries, each `delay` after the failure.
    #[must_use]
    pub fn fixed(max: u32, delay: Duration) -> Self {
        Self::with(max, Backoff::Fixed { delay_ms: millis(delay) })
    }

    /// At most `max` retries, the first after `initial`, each wait twice the one before, none longer than `longest`.
    #[must_use]
    pub fn exponential(max: u32, initial: Duration, longest: Duration) -> Self {
        let (initial_ms, max_ms) = (millis(initial), millis(longest).max(millis(initial)));
        Self::with(max, Backoff::Exponential { initial_ms, max_ms, multiplier_milli: 2_000, jitter: false })
    }

    /// Spreads exponential waits over `0..=wait`, so that what failed together does not come back together.
    #[must_use]
    pub fn jitter(mut self) -> Self {
        if let Backoff::Exponential { jitter, .. } = &mut self.0.backoff {
            *jitter = true;
        }
        self
    }

    /// Retries only failures of these categories (see [`TaskError::category`](crate::TaskError::category)).
    #[must_use]
    pub fn only<S: Into<String>>(mut self, categories: impl IntoIterator<Item = S>) -> Self {
        self.0.retryable_categories = categories.into_iter().map(Into::into).collect::<BTreeSet<_>>();
        self
    }

    fn with(max_retries: u32, backoff: Backoff) -> Self {
        Self(RetryPolicy { max_retries, backoff, retryable_categories: BTreeSet::new() })
    }
}

impl From<Retries> for RetryPolicy {
    fn from(retries: Retries) -> Self {
        retries.0
    }
}
