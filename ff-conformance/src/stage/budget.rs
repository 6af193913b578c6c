//! Words for the domain budget.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{BudgetId, Dimension};
use ff_core::time::TimestampMs;

use super::Stage;

/// A budget's id.
#[must_use]
pub fn budget_id(text: &str) -> BudgetId {
    BudgetId::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// A dimension.
#[must_use]
pub fn dimension(text: &str) -> Dimension {
    Dimension::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// Both limits.
#[must_use]
pub fn limits(hard: u64, soft: u64) -> Limits {
    Limits { hard: Some(hard), soft: Some(soft) }
}

/// The creation of a strict budget without resets.
#[must_use]
pub fn budget(id: &str, dimensions: &[(&str, Limits)]) -> CreateBudgetArgs {
    let dimensions = dimensions.iter().map(|(name, limits)| (dimension(name), *limits)).collect();
    CreateBudgetArgs::builder().budget_id(budget_id(id)).dimensions(dimensions).build()
}

/// A report without dedup key.
#[must_use]
pub fn usage(id: &str, mode: ReportMode, amounts: &[(&str, u64)]) -> ReportUsageArgs {
    let amounts = amounts.iter().map(|(name, amount)| (dimension(name), *amount)).collect();
    ReportUsageArgs::builder().budget_id(budget_id(id)).amounts(amounts).mode(mode).build()
}

/// A report of what has happened.
#[must_use]
pub fn record(id: &str, amounts: &[(&str, u64)]) -> ReportUsageArgs {
    usage(id, ReportMode::Record, amounts)
}

/// A report of what may happen.
#[must_use]
pub fn reserve(id: &str, amounts: &[(&str, u64)]) -> ReportUsageArgs {
    usage(id, ReportMode::Reserve, amounts)
}

/// The same report under a dedup key.
#[must_use]
pub fn keyed(mut args: ReportUsageArgs, key: &str) -> ReportUsageArgs {
    args.dedup_key = Some(key.to_owned());
    args
}

/// A soft breach.
#[must_use]
pub fn soft_breach(name: &str, usage: u64, soft_limit: u64) -> ReportUsageResult {
    ReportUsageResult::SoftBreach { dimension: dimension(name), usage, soft_limit }
}

/// A hard breach.
#[must_use]
pub fn hard_breach(name: &str, usage: u64, hard_limit: u64) -> ReportUsageResult {
    ReportUsageResult::HardBreach { dimension: dimension(name), usage, hard_limit }
}

/// A dimension's usage; the budget must list it.
#[must_use]
pub fn used(status: &BudgetStatus, name: &str) -> u64 {
    let found = status.dimensions.get(&dimension(name));
    found.unwrap_or_else(|| panic!("{name} is not listed: {status:?}")).usage
}

/// Since when a budget is exhausted, and by which dimension.
#[must_use]
pub fn exhausted(status: &BudgetStatus) -> Option<(TimestampMs, &str)> {
    match (status.exhausted_at, &status.exhausted_dimension) {
        (Some(at), Some(dimension)) => Some((at, dimension.as_str())),
        (None, None) => None,
        half => panic!("half an exhaustion: {half:?}"),
    }
}

impl Stage {
    /// Creates a budget; it must be new.
    pub async fn create_budget(&self, args: CreateBudgetArgs) {
        match self.backend.create_budget(args).await {
            Ok(CreateBudgetResult::Created { created_at }) => assert_eq!(created_at, self.now()),
            other => panic!("create_budget: {other:?}"),
        }
    }

    /// Reports usage.
    pub async fn report(&self, args: ReportUsageArgs) -> ReportUsageResult {
        self.backend.report_usage(args).await.unwrap_or_else(|e| panic!("report_usage: {e}"))
    }

    /// Resets a budget as `ops`.
    pub async fn reset_budget(&self, id: &str) -> ResetBudgetResult {
        let args = ResetBudgetArgs::builder().budget_id(budget_id(id)).by("ops").build();
        self.backend.reset_budget(args).await.unwrap_or_else(|e| panic!("reset_budget: {e}"))
    }

    /// A budget as of now.
    pub async fn budget(&self, id: &str) -> BudgetStatus {
        let args = GetBudgetStatusArgs { budget_id: budget_id(id) };
        self.backend.get_budget_status(args).await.unwrap_or_else(|e| panic!("get_budget_status: {e}"))
    }
}
