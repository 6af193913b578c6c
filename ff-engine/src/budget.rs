//! Budgets: counters with limits that stop admission when they are used up.

use std::collections::BTreeMap;
use std::time::Duration;

use ff_core::contracts::{
    BudgetStatus, CreateBudgetArgs, Enforcement, GetBudgetStatusArgs, Limits, ReportMode, ReportUsageArgs,
    ReportUsageResult, ResetBudgetArgs,
};
use ff_core::ids::{BudgetId, Dimension};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::repeat::call;
use crate::retries::millis;

/// What a budget limits. It never changes once the budget exists.
///
/// ```
/// use std::time::Duration;
/// use ff_engine::BudgetLimits;
/// let limits = BudgetLimits::hard("tokens", 1_000_000).and_soft("tokens", 800_000).reset_every(Duration::from_secs(86_400));
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    dimensions: BTreeMap<String, Limits>,
    advisory: bool,
    reset_every: Option<Duration>,
}

impl BudgetLimits {
    /// Usage of this dimension that reaches `limit` stops admission.
    #[must_use]
    pub fn hard(dimension: impl Into<String>, limit: u64) -> Self {
        Self::default().and_hard(dimension, limit)
    }

    /// A further hard limit.
    #[must_use]
    pub fn and_hard(mut self, dimension: impl Into<String>, limit: u64) -> Self {
        self.dimensions.entry(dimension.into()).or_default().hard = Some(limit);
        self
    }

    /// Usage of this dimension above `limit` is told to who reports it, and stops nothing.
    #[must_use]
    pub fn and_soft(mut self, dimension: impl Into<String>, limit: u64) -> Self {
        self.dimensions.entry(dimension.into()).or_default().soft = Some(limit);
        self
    }

    /// Only counts and tells: never stops admission.
    #[must_use]
    pub fn advisory(mut self) -> Self {
        self.advisory = true;
        self
    }

    /// Begins anew this often, counted from its creation.
    #[must_use]
    pub fn reset_every(mut self, interval: Duration) -> Self {
        self.reset_every = Some(interval);
        self
    }
}

/// One budget, by its id. Made by [`Engine::budget`].
#[derive(Clone, Debug)]
pub struct Budget {
    engine: Engine,
    id: BudgetId,
}

impl Budget {
    pub(crate) fn new(engine: Engine, id: BudgetId) -> Self {
        Self { engine, id }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &BudgetId {
        &self.id
    }

    /// Creates it; one that exists with the same limits stays as it is, usage included.
    ///
    /// # Errors
    /// `budget_conflict` when it exists with other limits, and the backend's errors.
    pub async fn create(&self, limits: BudgetLimits) -> Result<()> {
        let dimensions = limits
            .dimensions
            .into_iter()
            .map(|(name, limits)| Ok((Dimension::new(name)?, limits)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let enforcement = if limits.advisory { Enforcement::Advisory } else { Enforcement::Strict };
        let args = CreateBudgetArgs::builder()
            .budget_id(self.id.clone())
            .dimensions(dimensions)
            .enforcement(enforcement)
            .maybe_reset_interval_ms(limits.reset_every.map(millis))
            .build();
        call!(self.engine, create_budget(args)).map(drop).map_err(Error::from)
    }

    /// Adds usage that has happened. `key` names the report, so that who makes it twice is counted once (for a day);
    /// handlers use [`Context::report_usage`](crate::Context::report_usage), which sees to that. Without one, each call
    /// counts, and counts once: it is repeated under a key of its own when its answer is lost.
    ///
    /// # Errors
    /// `budget_not_found`, `dedup_key_conflict`, and the backend's errors.
    pub async fn record(&self, dimension: &str, amount: u64, key: Option<String>) -> Result<ReportUsageResult> {
        self.report(dimension, amount, key, ReportMode::Record).await
    }

    /// Adds usage that may happen, unless it would break a hard limit: then the answer is a breach and nothing is added.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn reserve(&self, dimension: &str, amount: u64, key: Option<String>) -> Result<ReportUsageResult> {
        self.report(dimension, amount, key, ReportMode::Reserve).await
    }

    pub(crate) async fn report(
        &self,
        dimension: &str,
        amount: u64,
        key: Option<String>,
        mode: ReportMode,
    ) -> Result<ReportUsageResult> {
        let args = ReportUsageArgs::builder()
            .budget_id(self.id.clone())
            .amounts(vec![(Dimension::new(dimension)?, amount)])
            .mode(mode)
            // A report without a key counts again when it is repeated.
            .dedup_key(key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()))
            .build();
        call!(self.engine, report_usage(args)).map_err(Error::from)
    }

    /// Its usage, limits and breaches as of now.
    ///
    /// # Errors
    /// `budget_not_found`, and the backend's errors.
    pub async fn status(&self) -> Result<BudgetStatus> {
        let args = GetBudgetStatusArgs { budget_id: self.id.clone() };
        call!(self.engine, get_budget_status(args)).map_err(Error::from)
    }

    /// Clears its usage now. Executions that wait for it come back at their own time, five minutes at most.
    ///
    /// # Errors
    /// `budget_not_found`, and the backend's errors.
    pub async fn reset(&self, by: impl Into<String>) -> Result<()> {
        // A key of its own: a repeated call resets once.
        let key = uuid::Uuid::now_v7().to_string();
        let args = ResetBudgetArgs::builder().budget_id(self.id.clone()).by(by).dedup_key(key).build();
        call!(self.engine, reset_budget(args)).map(drop).map_err(Error::from)
    }
}
