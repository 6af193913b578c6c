//! Quota policies: a rate over a sliding window, and a cap on how many run at once.

use std::time::Duration;

use ff_core::contracts::{CreateQuotaPolicyArgs, GetQuotaStatusArgs, QuotaStatus};
use ff_core::ids::QuotaPolicyId;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::repeat::call;
use crate::retries::millis;

/// What a quota policy limits. It never changes once the policy exists.
///
/// ```
/// use std::time::Duration;
/// use ff_engine::QuotaLimits;
/// let polite = QuotaLimits::rate(10, Duration::from_secs(1)).and_concurrent(4);
/// let narrow = QuotaLimits::concurrent(2);
/// # let _ = (polite, narrow);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    rate: Option<(u64, Duration)>,
    concurrent: Option<u64>,
    jitter: Duration,
}

impl QuotaLimits {
    /// At most `starts` attempts start within any `window`.
    #[must_use]
    pub fn rate(starts: u64, window: Duration) -> Self {
        Self { rate: Some((starts, window)), ..Self::default() }
    }

    /// At most `running` attempts run at once.
    #[must_use]
    pub fn concurrent(running: u64) -> Self {
        Self { concurrent: Some(running), ..Self::default() }
    }

    /// And at most `running` attempts at once.
    #[must_use]
    pub fn and_concurrent(mut self, running: u64) -> Self {
        self.concurrent = Some(running);
        self
    }

    /// Spreads those who wait over this time, a minute at most.
    #[must_use]
    pub fn jitter(mut self, spread: Duration) -> Self {
        self.jitter = spread;
        self
    }
}

/// One quota policy, by its id. Made by [`Engine::quota`].
#[derive(Clone, Debug)]
pub struct Quota {
    engine: Engine,
    id: QuotaPolicyId,
}

impl Quota {
    pub(crate) fn new(engine: Engine, id: QuotaPolicyId) -> Self {
        Self { engine, id }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &QuotaPolicyId {
        &self.id
    }

    /// Creates it; one that exists with the same limits stays as it is.
    ///
    /// # Errors
    /// `quota_policy_conflict` when it exists with other limits, and the backend's errors.
    pub async fn create(&self, limits: QuotaLimits) -> Result<()> {
        let args = CreateQuotaPolicyArgs::builder()
            .quota_policy_id(self.id.clone())
            .maybe_max_requests_per_window(limits.rate.map(|(starts, _)| starts))
            .maybe_window_ms(limits.rate.map(|(_, window)| millis(window)))
            .maybe_max_concurrent(limits.concurrent)
            .jitter_ms(millis(limits.jitter))
            .build();
        call!(self.engine, create_quota_policy(args)).map(drop).map_err(Error::from)
    }

    /// What is in its window, in its slots, and waiting, as of now.
    ///
    /// # Errors
    /// `quota_policy_not_found`, and the backend's errors.
    pub async fn status(&self) -> Result<QuotaStatus> {
        let args = GetQuotaStatusArgs { quota_policy_id: self.id.clone() };
        call!(self.engine, get_quota_status(args)).map_err(Error::from)
    }
}
