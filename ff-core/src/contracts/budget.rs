//! Domain budget: `resources.md`, section 1.

use std::collections::BTreeMap;

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::canon::{Canon, Canonical};
use crate::ids::{BudgetId, Dimension};
use crate::records::BudgetRecord;
use crate::refusal::Refusal;
use crate::time::{MAX_SAFE_INTEGER, TimestampMs};
use crate::word_enum;

word_enum! {
    /// Whether an exhausted budget denies admission.
    pub enum Enforcement {
        /// It does.
        Strict = "strict",
        /// It never does; reports and breaches are the same.
        Advisory = "advisory",
    }
}

// `word_enum!` hands only attributes of the set to the enum, so a default value cannot be marked inside it.
#[allow(clippy::derivable_impls)]
impl Default for Enforcement {
    fn default() -> Self {
        Self::Strict
    }
}

word_enum! {
    /// How usage is reported.
    pub enum ReportMode {
        /// It has happened: always added.
        Record = "record",
        /// It may happen: added only if no hard limit breaks.
        Reserve = "reserve",
    }
}

#[allow(clippy::derivable_impls)]
impl Default for ReportMode {
    fn default() -> Self {
        Self::Record
    }
}

/// The limits of one dimension; an absent one does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Usage above it is a hard breach; `1..=2^53-1`.
    pub hard: Option<u64>,
    /// Usage above it is a soft breach; `1..=2^53-1` and at most the hard one.
    pub soft: Option<u64>,
}

impl Limits {
    /// A hard limit alone.
    #[must_use]
    pub const fn hard(hard: u64) -> Self {
        Self { hard: Some(hard), soft: None }
    }

    /// A soft limit alone.
    #[must_use]
    pub const fn soft(soft: u64) -> Self {
        Self { hard: None, soft: Some(soft) }
    }

    /// Whether `usage` breaks the hard limit: it is strictly greater.
    #[must_use]
    pub fn breaks_hard(&self, usage: u64) -> bool {
        self.hard.is_some_and(|hard| usage > hard)
    }

    /// Whether `usage` breaks the soft limit: it is strictly greater.
    #[must_use]
    pub fn breaks_soft(&self, usage: u64) -> bool {
        self.soft.is_some_and(|soft| usage > soft)
    }
}

impl Canon for Limits {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.hard).put(&self.soft);
    }
}

/// The greatest number of declared dimensions, of undeclared ones with usage, and of amounts in one report.
pub const MAX_DIMENSIONS: usize = 64;

/// How long a dedup key is remembered: 24 h, in milliseconds.
pub const DEDUP_WINDOW_MS: u64 = 86_400_000;

/// How long a denied execution waits for an exhausted budget at most before it asks again: 5 minutes, in milliseconds.
pub const BUDGET_RETRY_MS: u64 = 300_000;

/// Arguments of `create_budget`.
///
/// ```
/// use ff_core::contracts::{CreateBudgetArgs, Limits};
/// let args = CreateBudgetArgs::builder()
///     .budget_id("team-a".parse()?)
///     .dimensions([("tokens".parse()?, Limits { hard: Some(1_000_000), soft: Some(800_000) })].into())
///     .reset_interval_ms(86_400_000)
///     .build();
/// # assert_eq!(args.dimensions.len(), 1);
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CreateBudgetArgs {
    /// The new budget's id.
    pub budget_id: BudgetId,
    /// The declared dimensions and their limits, `1..=64`.
    pub dimensions: BTreeMap<Dimension, Limits>,
    /// Whether exhaustion denies admission; strict.
    #[serde(default)]
    #[builder(default)]
    pub enforcement: Enforcement,
    /// Milliseconds between resets, `1_000..=366 days`; absent: counted for its lifetime.
    #[serde(default)]
    pub reset_interval_ms: Option<u64>,
}

impl CheckArgs for CreateBudgetArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        bounds::ensure((1..=MAX_DIMENSIONS).contains(&self.dimensions.len()), "dimensions")?;
        let within = |limit: Option<u64>| limit.is_none_or(|l| (1..=MAX_SAFE_INTEGER).contains(&l));
        for limits in self.dimensions.values() {
            bounds::ensure(within(limits.hard), "dimensions.hard")?;
            let below_hard = limits.soft.zip(limits.hard).is_none_or(|(soft, hard)| soft <= hard);
            bounds::ensure(within(limits.soft) && below_hard, "dimensions.soft")?;
        }
        self.reset_interval_ms.map_or(Ok(()), |ms| bounds::duration("reset_interval_ms", ms, 1_000))
    }
}

/// Result of `create_budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateBudgetResult {
    /// It was created.
    Created {
        /// Now.
        created_at: TimestampMs,
    },
    /// It exists with an equal definition: a repeat; its usage was not touched.
    AlreadyExists {
        /// When it was created.
        created_at: TimestampMs,
    },
}

/// Arguments of `report_usage`.
///
/// ```
/// use ff_core::contracts::{ReportMode, ReportUsageArgs};
/// let args = ReportUsageArgs::builder()
///     .budget_id("team-a".parse()?)
///     .amounts(vec![("tokens".parse()?, 1_200)])
///     .mode(ReportMode::Reserve)
///     .dedup_key("job-17/attempt-0")
///     .build();
/// # assert!(args.merged().is_ok());
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReportUsageArgs {
    /// The budget.
    pub budget_id: BudgetId,
    /// What was or would be used, `1..=64` entries; entries of one dimension are added up.
    pub amounts: Vec<(Dimension, u64)>,
    /// Whether it has happened; record.
    #[serde(default)]
    #[builder(default)]
    pub mode: ReportMode,
    /// Equal keys of one budget count once within 24 h; a key.
    #[serde(default)]
    #[builder(into)]
    pub dedup_key: Option<String>,
}

impl ReportUsageArgs {
    /// The amounts with the entries of one dimension added up, in ascending name order.
    ///
    /// # Errors
    /// `invalid_input` (`amounts`) when an amount or a sum is above 2^53-1.
    pub fn merged(&self) -> Result<BTreeMap<Dimension, u64>, Refusal> {
        let mut merged = BTreeMap::new();
        for (dimension, amount) in &self.amounts {
            let sum: &mut u64 = merged.entry(dimension.clone()).or_default();
            *sum = sum.saturating_add(*amount);
            bounds::integer("amounts", *sum)?;
        }
        Ok(merged)
    }
}

impl CheckArgs for ReportUsageArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        bounds::ensure((1..=MAX_DIMENSIONS).contains(&self.amounts.len()), "amounts")?;
        self.merged()?;
        bounds::key("dedup_key", self.dedup_key.as_deref())
    }
}

/// Result of `report_usage`. `usage` is what is stored after the call; after a rejected reservation it is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReportUsageResult {
    /// No limit of the call's dimensions is broken.
    Ok,
    /// A soft limit is broken, and no hard one; the first such dimension.
    SoftBreach {
        /// The dimension.
        dimension: Dimension,
        /// Its usage after the call.
        usage: u64,
        /// The limit.
        soft_limit: u64,
    },
    /// A hard limit is broken, or would have been; the first such dimension.
    HardBreach {
        /// The dimension.
        dimension: Dimension,
        /// Its usage after the call.
        usage: u64,
        /// The limit.
        hard_limit: u64,
    },
}

/// Arguments of `reset_budget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ResetBudgetArgs {
    /// The budget.
    pub budget_id: BudgetId,
    /// Who asks; a name, recorded.
    #[builder(into)]
    pub by: String,
    /// Equal keys of one budget reset once within 24 h; a key, in a scope apart from usage keys.
    #[serde(default)]
    #[builder(into)]
    pub dedup_key: Option<String>,
}

impl CheckArgs for ResetBudgetArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        bounds::name("by", &self.by)?;
        bounds::key("dedup_key", self.dedup_key.as_deref())
    }
}

/// Result of `reset_budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetBudgetResult {
    /// Resets so far, this one included.
    pub reset_count: u64,
    /// When this one happened.
    pub last_reset_at: TimestampMs,
    /// The next scheduled one, if the budget resets by itself.
    pub next_reset_at: Option<TimestampMs>,
}

/// Arguments of `get_budget_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetBudgetStatusArgs {
    /// The budget.
    pub budget_id: BudgetId,
}

impl CheckArgs for GetBudgetStatusArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Result of `get_budget_status`.
pub type GetBudgetStatusResult = BudgetStatus;

/// One dimension of a budget: a declared one, or an undeclared one with usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DimensionStatus {
    /// What has been used since the last reset.
    pub usage: u64,
    /// The hard limit.
    pub hard: Option<u64>,
    /// The soft limit.
    pub soft: Option<u64>,
    /// What is left of the hard limit, 0 when it is reached or broken; only with a hard limit.
    pub remaining: Option<u64>,
}

/// A budget as of now. A pure function of its record and the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BudgetStatus {
    /// Its id.
    pub budget_id: BudgetId,
    /// Whether exhaustion denies admission.
    pub enforcement: Enforcement,
    /// The declared dimensions, and undeclared ones with usage.
    pub dimensions: BTreeMap<Dimension, DimensionStatus>,
    /// Milliseconds between resets.
    pub reset_interval_ms: Option<u64>,
    /// The next scheduled reset.
    pub next_reset_at: Option<TimestampMs>,
    /// The last reset.
    pub last_reset_at: Option<TimestampMs>,
    /// Who asked for it; none if it was due.
    pub last_reset_by: Option<String>,
    /// Resets so far.
    pub reset_count: u64,
    /// Hard breaches so far, through resets.
    pub hard_breach_count: u64,
    /// Soft breaches so far, through resets.
    pub soft_breach_count: u64,
    /// The last hard breach.
    pub last_breach_at: Option<TimestampMs>,
    /// Its dimension.
    pub last_breach_dimension: Option<Dimension>,
    /// Exhausted since; set is what exhausted means.
    pub exhausted_at: Option<TimestampMs>,
    /// By which dimension.
    pub exhausted_dimension: Option<Dimension>,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Present exactly when the budget denies admission (strict and exhausted): when to ask again.
    pub retry_at: Option<TimestampMs>,
    /// The same, counted from now, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl BudgetStatus {
    /// The status at `now`, the due rule applied.
    #[must_use]
    pub fn of(record: &BudgetRecord, now: TimestampMs) -> Self {
        let record = record.as_of(now);
        let mut dimensions: BTreeMap<_, _> = record
            .dimensions
            .iter()
            .map(|(dimension, limits)| {
                let usage = record.usage_of(dimension);
                let remaining = limits.hard.map(|hard| hard.saturating_sub(usage));
                (dimension.clone(), DimensionStatus { usage, hard: limits.hard, soft: limits.soft, remaining })
            })
            .collect();
        for (dimension, &usage) in &record.usage {
            dimensions
                .entry(dimension.clone())
                .or_insert_with(|| DimensionStatus { usage, ..DimensionStatus::default() });
        }
        let retry_at = record.denies_admission().then(|| {
            let retry = now.after(BUDGET_RETRY_MS);
            record.schedule.map_or(retry, |schedule| retry.min(schedule.next_at))
        });
        Self {
            budget_id: record.budget_id.clone(),
            enforcement: record.enforcement,
            dimensions,
            reset_interval_ms: record.schedule.map(|s| s.interval_ms),
            next_reset_at: record.schedule.map(|s| s.next_at),
            last_reset_at: record.last_reset_at,
            last_reset_by: record.last_reset_by.clone(),
            reset_count: record.reset_count,
            hard_breach_count: record.hard_breach_count,
            soft_breach_count: record.soft_breach_count,
            last_breach_at: record.last_breach.as_ref().map(|m| m.at),
            last_breach_dimension: record.last_breach.as_ref().map(|m| m.dimension.clone()),
            exhausted_at: record.exhausted.as_ref().map(|m| m.at),
            exhausted_dimension: record.exhausted.as_ref().map(|m| m.dimension.clone()),
            created_at: record.created_at,
            retry_at,
            retry_after_ms: retry_at.map(|at| at.since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::testing::refused_field;

    fn dimension(text: &str) -> Dimension {
        text.parse().expect("well formed")
    }

    fn create(dimensions: impl IntoIterator<Item = (Dimension, Limits)>) -> CreateBudgetArgs {
        CreateBudgetArgs::builder()
            .budget_id("b".parse().expect("well formed"))
            .dimensions(dimensions.into_iter().collect())
            .build()
    }

    fn report(amounts: Vec<(Dimension, u64)>) -> ReportUsageArgs {
        ReportUsageArgs::builder().budget_id("b".parse().expect("well formed")).amounts(amounts).build()
    }

    #[test]
    fn definitions_out_of_bounds_are_refused() {
        let one = |limits| create([(dimension("t"), limits)]);
        assert_eq!(refused_field(&one(Limits { hard: Some(10), soft: Some(10) })), None);
        assert_eq!(refused_field(&one(Limits { hard: Some(10), soft: Some(11) })), Some("dimensions.soft".into()));
        assert_eq!(refused_field(&one(Limits::hard(0))), Some("dimensions.hard".into()));
        assert_eq!(refused_field(&one(Limits::soft(0))), Some("dimensions.soft".into()));
        assert_eq!(refused_field(&one(Limits::hard(MAX_SAFE_INTEGER + 1))), Some("dimensions.hard".into()));
        assert_eq!(refused_field(&create([])), Some("dimensions".into()));
        let many = |n: u32| create((0..n).map(|i| (dimension(&format!("d{i}")), Limits::default())));
        assert_eq!(refused_field(&many(64)), None);
        assert_eq!(refused_field(&many(65)), Some("dimensions".into()));
        for (ms, ok) in [(999, false), (1_000, true), (31_622_400_000, true), (31_622_400_001, false)] {
            let args = CreateBudgetArgs { reset_interval_ms: Some(ms), ..one(Limits::default()) };
            assert_eq!(refused_field(&args), (!ok).then(|| "reset_interval_ms".into()), "{ms}");
        }
    }

    #[test]
    fn amounts_of_one_dimension_are_one_amount() {
        let args = report(vec![(dimension("t"), 6), (dimension("a"), 1), (dimension("t"), 6)]);
        assert_eq!(args.merged().expect("small"), [(dimension("a"), 1), (dimension("t"), 12)].into());
        let exact = report(vec![(dimension("t"), MAX_SAFE_INTEGER), (dimension("t"), 0)]);
        assert_eq!(refused_field(&exact), None);
        for amounts in [
            vec![],
            vec![(dimension("t"), MAX_SAFE_INTEGER), (dimension("t"), 1)],
            vec![(dimension("t"), u64::MAX), (dimension("t"), u64::MAX)],
            vec![(dimension("t"), 1); 65],
        ] {
            assert_eq!(refused_field(&report(amounts)), Some("amounts".into()));
        }
        let args = ReportUsageArgs { dedup_key: Some(String::new()), ..report(vec![(dimension("t"), 1)]) };
        assert_eq!(refused_field(&args), Some("dedup_key".into()));
    }

    #[test]
    fn arguments_read_strictly_from_json_with_their_defaults() {
        let text = r#"{"budget_id":"b","amounts":[["t",6],["t",6]]}"#;
        let args: ReportUsageArgs = serde_json::from_str(text).expect("complete");
        assert_eq!((args.mode, &args.dedup_key), (ReportMode::Record, &None));
        assert!(serde_json::from_str::<ReportUsageArgs>(r#"{"budget_id":"b","amounts":[],"mod":"record"}"#).is_err());
        let args: CreateBudgetArgs =
            serde_json::from_str(r#"{"budget_id":"b","dimensions":{"t":{"hard":5}}}"#).expect("complete");
        assert_eq!((args.enforcement, args.dimensions[&dimension("t")]), (Enforcement::Strict, Limits::hard(5)));
        let result = ReportUsageResult::SoftBreach { dimension: dimension("t"), usage: 6, soft_limit: 5 };
        let text = serde_json::to_string(&result).expect("plain data");
        assert_eq!(text, r#"{"soft_breach":{"dimension":"t","usage":6,"soft_limit":5}}"#);
        assert_eq!(serde_json::from_str::<ReportUsageResult>(&text).expect("its own text"), result);
    }
}
