//! Domain budget: `resources.md`, section 1.

use async_trait::async_trait;

use crate::contracts::{
    BudgetStatus, CreateBudgetArgs, CreateBudgetResult, GetBudgetStatusArgs, ReportUsageArgs, ReportUsageResult,
    ResetBudgetArgs, ResetBudgetResult,
};
use crate::error::EngineError;

/// Budgets: counters with limits, each a partition of its own. They stop admission, not what already runs.
///
/// *The due rule.* Every operation on an existing budget but `create_budget`, reads included, takes it as of now
/// ([`BudgetRecord::as_of`](crate::records::BudgetRecord::as_of)): resets that have come due have happened, at their
/// due times, without drift and each once, whoever looked in between. A write stores that together with its own effect;
/// reads, refused calls and replayed answers store nothing, and nobody can tell the difference. A budget has no timer
/// and no sweep.
#[async_trait]
pub trait BudgetOps: Send + Sync + 'static {
    /// Creates a budget with its limits. Its definition never changes.
    ///
    /// # Behavior
    /// - It begins without usage, counters at 0, and with `reset_interval_ms` resets by itself at
    ///   `created_at + n * reset_interval_ms`.
    /// - `advisory` enforcement never denies admission; reports and breaches are the same for both.
    ///
    /// # Refuses
    /// `budget_conflict`: the id exists with another definition (dimensions, limits, enforcement or interval).
    ///
    /// # Repeats
    /// `AlreadyExists` with the first `created_at`; usage is untouched.
    ///
    /// # Cost
    /// One round trip; O(d) in the declared dimensions, at most 64.
    async fn create_budget(&self, args: CreateBudgetArgs) -> Result<CreateBudgetResult, EngineError>;

    /// Adds what was used, or reserves it only if it fits.
    ///
    /// # Behavior
    /// - Entries of one dimension are added up first; dimensions go in ascending name order. "Breaks" means strictly
    ///   greater.
    /// - `record`: everything is added. The first dimension of the call whose usage breaks its hard limit answers
    ///   `HardBreach`; else the first that breaks its soft limit `SoftBreach`; else `Ok`.
    /// - `reserve`: if usage + amount of some dimension breaks its hard limit, nothing at all is added and the first such
    ///   dimension answers `HardBreach`; else as `record`. It looks at usage, not at exhaustion.
    /// - At most one breach is counted per call; a hard one is remembered with its instant and dimension.
    /// - The budget is exhausted, from now until the next reset, by the first dimension of the call that has
    ///   usage >= hard afterwards, or that rejected the reservation although the amount alone would fit. Each dimension
    ///   that the reservation does not fit in has rejected it, not only the one that is reported.
    /// - Undeclared dimensions are counted without limits.
    /// - With a key, mode, merged amounts and answer are remembered per (budget, key) for 24 h, through resets. Later
    ///   reports remove what has lapsed, a bounded number per call.
    ///
    /// # Refuses
    /// - `budget_not_found`; nothing is left behind.
    /// - `dedup_key_conflict`: the key is remembered with another mode or other merged amounts.
    /// - `invalid_input` (`amounts`): some usage would exceed 2^53-1 if everything were added, in both modes.
    /// - `too_many_dimensions`: more than 64 undeclared dimensions would have usage if everything were added, in both
    ///   modes.
    ///
    /// # Repeats
    /// With a key the first answer verbatim for 24 h, that of a rejected reservation too, and nothing else changes; a
    /// new try is a new key. Without a key it counts again.
    ///
    /// # Cost
    /// One round trip; O(a log d) in the amounts and the dimensions, both at most 128.
    async fn report_usage(&self, args: ReportUsageArgs) -> Result<ReportUsageResult, EngineError>;

    /// Clears usage and exhaustion now.
    ///
    /// # Behavior
    /// - `last_reset_at` is now, `last_reset_by` is `by`, `reset_count` rises by one. Schedule and breach counters stay.
    /// - Wakes nobody: parked executions return at their `until` at the latest; the caller may unblock them at once.
    /// - With a key, `by` and the answer are remembered for 24 h, in a scope apart from usage keys.
    ///
    /// # Refuses
    /// - `budget_not_found`.
    /// - `dedup_key_conflict`: the key is remembered with another `by`.
    ///
    /// # Repeats
    /// With a key the first answer verbatim for 24 h; without one another reset.
    ///
    /// # Cost
    /// One round trip; O(d) in the dimensions with usage.
    async fn reset_budget(&self, args: ResetBudgetArgs) -> Result<ResetBudgetResult, EngineError>;

    /// Reads a budget as of now.
    ///
    /// # Behavior
    /// - Lists the declared dimensions, and undeclared ones with usage.
    /// - `retry_at` is present exactly when the budget denies admission (strict and exhausted): 5 minutes from now, or
    ///   the next reset if that is earlier.
    /// - Writes nothing.
    ///
    /// # Refuses
    /// `budget_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(d) in the dimensions.
    async fn get_budget_status(&self, args: GetBudgetStatusArgs) -> Result<BudgetStatus, EngineError>;
}
