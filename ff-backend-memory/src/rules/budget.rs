//! Domain budget: `resources.md`, section 1.
//!
//! A budget is a partition of its own: a rule gets the place where its state is or would be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ff_core::contracts::{
    BudgetStatus, CreateBudgetArgs, CreateBudgetResult, GetBudgetStatusArgs, MAX_DIMENSIONS, ReportMode,
    ReportUsageArgs, ReportUsageResult, ResetBudgetArgs, ResetBudgetResult,
};
use ff_core::error::EngineError;
use ff_core::ids::Dimension;
use ff_core::records::{BudgetRecord, DimensionMark, ResetSchedule, UsageContent};
use ff_core::refusal::Refusal;
use ff_core::time::{MAX_SAFE_INTEGER, TimestampMs};

use crate::model::Budget;

fn find(slot: &Option<Budget>) -> Result<&Budget, Refusal> {
    slot.as_ref().ok_or_else(Refusal::budget_not_found)
}

fn find_mut(slot: &mut Option<Budget>) -> Result<&mut Budget, Refusal> {
    slot.as_mut().ok_or_else(Refusal::budget_not_found)
}

/// Stores the resets that have come due, with the effect of the write that follows.
fn settle(record: &mut BudgetRecord, now: TimestampMs) {
    if let Cow::Owned(settled) = record.as_of(now) {
        *record = settled;
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1).min(MAX_SAFE_INTEGER);
}

/// Creates a budget.
///
/// # Errors
/// `budget_conflict`.
pub fn create_budget(
    slot: &mut Option<Budget>,
    now: TimestampMs,
    args: &CreateBudgetArgs,
) -> Result<CreateBudgetResult, EngineError> {
    if let Some(budget) = slot {
        if !budget.record.is_defined_by(args) {
            return Err(Refusal::budget_conflict().into());
        }
        return Ok(CreateBudgetResult::AlreadyExists { created_at: budget.record.created_at });
    }
    let schedule =
        args.reset_interval_ms.map(|interval_ms| ResetSchedule { interval_ms, next_at: now.after(interval_ms) });
    *slot = Some(Budget::new(BudgetRecord {
        budget_id: args.budget_id.clone(),
        enforcement: args.enforcement,
        created_at: now,
        dimensions: args.dimensions.clone(),
        usage: BTreeMap::new(),
        schedule,
        last_reset_at: None,
        last_reset_by: None,
        reset_count: 0,
        hard_breach_count: 0,
        soft_breach_count: 0,
        last_breach: None,
        exhausted: None,
    }));
    Ok(CreateBudgetResult::Created { created_at: now })
}

/// What a report does to a budget as of now.
struct Judgement {
    /// Usage of the call's dimensions afterwards; none if the reservation is rejected.
    added: Option<BTreeMap<Dimension, u64>>,
    result: ReportUsageResult,
    /// The dimension that exhausts the budget, if it is not exhausted already.
    exhausting: Option<Dimension>,
}

fn hard_limit(record: &BudgetRecord, dimension: &Dimension) -> Option<u64> {
    record.dimensions.get(dimension).and_then(|limits| limits.hard)
}

/// Refuses what would leave the bounds if everything were added, in both modes; else decides.
fn judge(record: &BudgetRecord, mode: ReportMode, amounts: &BTreeMap<Dimension, u64>) -> Result<Judgement, Refusal> {
    let mut all = BTreeMap::new();
    for (dimension, amount) in amounts {
        let usage = record.usage_of(dimension).saturating_add(*amount);
        if usage > MAX_SAFE_INTEGER {
            return Err(Refusal::invalid_input("amounts"));
        }
        all.insert(dimension.clone(), usage);
    }
    let undeclared = |dimension: &&Dimension| !record.dimensions.contains_key(*dimension);
    let used = record.usage.keys().filter(undeclared).count();
    let new = all
        .iter()
        .filter(|(dimension, usage)| **usage > 0 && undeclared(dimension) && !record.usage.contains_key(*dimension))
        .count();
    if used + new > MAX_DIMENSIONS {
        return Err(Refusal::too_many_dimensions());
    }

    let breaks_hard = |dimension: &Dimension, usage: u64| hard_limit(record, dimension).filter(|hard| usage > *hard);
    let breaks_soft = |dimension: &Dimension, usage: u64| {
        record.dimensions.get(dimension).and_then(|limits| limits.soft).filter(|soft| usage > *soft)
    };
    let hard = all.iter().find_map(|(d, usage)| breaks_hard(d, *usage).map(|limit| (d, *usage, limit)));
    let soft = all.iter().find_map(|(d, usage)| breaks_soft(d, *usage).map(|limit| (d, *usage, limit)));
    let rejected = mode == ReportMode::Reserve && hard.is_some();
    let result = match (hard, soft) {
        (Some((dimension, usage, hard_limit)), _) => {
            let usage = if rejected { record.usage_of(dimension) } else { usage };
            ReportUsageResult::HardBreach { dimension: dimension.clone(), usage, hard_limit }
        }
        (None, Some((dimension, usage, soft_limit))) => {
            ReportUsageResult::SoftBreach { dimension: dimension.clone(), usage, soft_limit }
        }
        (None, None) => ReportUsageResult::Ok,
    };
    // Each dimension that the reservation does not fit in has rejected it, not only the one that is reported: a budget
    // that is exhausted in doubt admits nobody.
    let exhausts = |dimension: &Dimension, usage: u64| {
        hard_limit(record, dimension).is_some_and(|hard| {
            if rejected {
                let amount = amounts.get(dimension).copied().unwrap_or_default();
                record.usage_of(dimension) >= hard || (usage > hard && amount <= hard)
            } else {
                usage >= hard
            }
        })
    };
    let exhausting = all.iter().find(|(d, usage)| exhausts(d, **usage)).map(|(d, _)| d.clone());
    Ok(Judgement { added: (!rejected).then_some(all), result, exhausting })
}

/// Adds usage, or reserves it if it fits.
///
/// # Errors
/// `budget_not_found`; `dedup_key_conflict`; `invalid_input` (`amounts`); `too_many_dimensions`.
pub fn report_usage(
    slot: &mut Option<Budget>,
    now: TimestampMs,
    args: &ReportUsageArgs,
) -> Result<ReportUsageResult, EngineError> {
    let budget = find_mut(slot)?;
    let content = UsageContent { mode: args.mode, amounts: args.merged()? };
    if let Some(known) = args.dedup_key.as_deref().and_then(|key| budget.reports.recall(key, now)) {
        if known.content != content {
            return Err(Refusal::dedup_key_conflict().into());
        }
        return Ok(known.result.clone());
    }
    let judgement = judge(&budget.record.as_of(now), args.mode, &content.amounts)?;

    let record = &mut budget.record;
    settle(record, now);
    if let Some(added) = judgement.added {
        record.usage.extend(added.into_iter().filter(|(_, usage)| *usage > 0));
    }
    match &judgement.result {
        ReportUsageResult::HardBreach { dimension, .. } => {
            count(&mut record.hard_breach_count);
            record.last_breach = Some(DimensionMark { at: now, dimension: dimension.clone() });
        }
        ReportUsageResult::SoftBreach { .. } => count(&mut record.soft_breach_count),
        ReportUsageResult::Ok => {}
    }
    if record.exhausted.is_none() {
        record.exhausted = judgement.exhausting.map(|dimension| DimensionMark { at: now, dimension });
    }
    budget.reports.forget_lapsed(now);
    if let Some(key) = &args.dedup_key {
        budget.reports.remember(key, now, content, judgement.result.clone());
    }
    Ok(judgement.result)
}

/// Clears usage and exhaustion now.
///
/// # Errors
/// `budget_not_found`; `dedup_key_conflict`.
pub fn reset_budget(
    slot: &mut Option<Budget>,
    now: TimestampMs,
    args: &ResetBudgetArgs,
) -> Result<ResetBudgetResult, EngineError> {
    let budget = find_mut(slot)?;
    if let Some(known) = args.dedup_key.as_deref().and_then(|key| budget.resets.recall(key, now)) {
        if known.content != args.by {
            return Err(Refusal::dedup_key_conflict().into());
        }
        return Ok(known.result);
    }

    let record = &mut budget.record;
    settle(record, now);
    record.usage.clear();
    record.exhausted = None;
    record.last_reset_at = Some(now);
    record.last_reset_by = Some(args.by.clone());
    count(&mut record.reset_count);
    let result = ResetBudgetResult {
        reset_count: record.reset_count,
        last_reset_at: now,
        next_reset_at: record.schedule.map(|schedule| schedule.next_at),
    };
    budget.resets.forget_lapsed(now);
    if let Some(key) = &args.dedup_key {
        budget.resets.remember(key, now, args.by.clone(), result);
    }
    Ok(result)
}

/// The budget as of now.
///
/// # Errors
/// `budget_not_found`.
pub fn get_budget_status(
    slot: &Option<Budget>,
    now: TimestampMs,
    _: &GetBudgetStatusArgs,
) -> Result<BudgetStatus, EngineError> {
    Ok(BudgetStatus::of(&find(slot)?.record, now))
}

#[cfg(test)]
mod tests {
    use ff_core::contracts::{Enforcement, Limits};
    use ff_core::refusal::Code;

    use super::*;
    use crate::rules::testing::{at, code};

    fn dimension(name: &str) -> Dimension {
        name.parse().unwrap()
    }

    fn create(dimensions: &[(&str, Limits)], reset_interval_ms: Option<u64>) -> Option<Budget> {
        let mut slot = None;
        let args = CreateBudgetArgs::builder()
            .budget_id("b".parse().unwrap())
            .dimensions(dimensions.iter().map(|(name, limits)| (dimension(name), *limits)).collect())
            .maybe_reset_interval_ms(reset_interval_ms)
            .build();
        create_budget(&mut slot, at(1_000), &args).unwrap();
        slot
    }

    fn args(mode: ReportMode, amounts: &[(&str, u64)], key: Option<&str>) -> ReportUsageArgs {
        ReportUsageArgs::builder()
            .budget_id("b".parse().unwrap())
            .amounts(amounts.iter().map(|(name, amount)| (dimension(name), *amount)).collect())
            .mode(mode)
            .maybe_dedup_key(key)
            .build()
    }

    fn status(slot: &Option<Budget>, now: u64) -> BudgetStatus {
        get_budget_status(slot, at(now), &GetBudgetStatusArgs { budget_id: "b".parse().unwrap() }).unwrap()
    }

    fn reset_args(by: &str, key: Option<&str>) -> ResetBudgetArgs {
        ResetBudgetArgs::builder().budget_id("b".parse().unwrap()).by(by).maybe_dedup_key(key).build()
    }

    use ReportMode::{Record, Reserve};
    const LIMITS: Limits = Limits { hard: Some(10), soft: Some(5) };

    fn hard(name: &str, usage: u64) -> ReportUsageResult {
        ReportUsageResult::HardBreach { dimension: dimension(name), usage, hard_limit: 10 }
    }

    #[test]
    fn a_soft_breach_then_a_rejected_reservation_then_a_hard_breach() {
        let mut slot = create(&[("t", LIMITS)], None);
        let soft = ReportUsageResult::SoftBreach { dimension: dimension("t"), usage: 6, soft_limit: 5 };
        for _ in 0..2 {
            let answer = report_usage(&mut slot, at(1_001), &args(Record, &[("t", 6)], Some("k"))).unwrap();
            assert_eq!(answer, soft);
        }
        assert_eq!(status(&slot, 1_001).soft_breach_count, 1);
        assert_eq!(report_usage(&mut slot, at(1_002), &args(Reserve, &[("t", 5)], None)).unwrap(), hard("t", 6));
        // 5 alone would fit, so the rejection exhausts the budget; the record that follows moves nothing of that.
        assert_eq!(status(&slot, 1_002).exhausted_at, Some(at(1_002)));
        assert_eq!(report_usage(&mut slot, at(1_003), &args(Record, &[("t", 5)], None)).unwrap(), hard("t", 11));
        let status = status(&slot, 1_003);
        assert_eq!((status.exhausted_at, status.hard_breach_count, status.soft_breach_count), (Some(at(1_002)), 2, 1));
        assert_eq!((status.last_breach_at, status.retry_after_ms), (Some(at(1_003)), Some(300_000)));
    }

    #[test]
    fn usage_equal_to_the_hard_limit_exhausts_without_a_breach() {
        let mut slot = create(&[("t", Limits::hard(10))], None);
        let answer = report_usage(&mut slot, at(2_000), &args(Reserve, &[("t", 10)], None)).unwrap();
        assert_eq!(answer, ReportUsageResult::Ok);
        let status = status(&slot, 2_000);
        assert_eq!((status.exhausted_at, status.hard_breach_count), (Some(at(2_000)), 0));
    }

    #[test]
    fn split_amounts_are_one_and_a_reservation_larger_than_the_limit_does_not_exhaust() {
        let mut slot = create(&[("t", Limits::hard(10))], None);
        let answer = report_usage(&mut slot, at(2_000), &args(Reserve, &[("t", 6), ("t", 6)], None)).unwrap();
        assert_eq!(answer, hard("t", 0));
        assert_eq!(status(&slot, 2_000).exhausted_at, None);
        assert_eq!(status(&slot, 2_000).dimensions[&dimension("t")].usage, 0);
    }

    #[test]
    fn every_dimension_that_a_reservation_does_not_fit_in_rejects_it() {
        // 11 never fits in a; 5 would fit in b alone, but not on top of its 6.
        let mut slot = create(&[("a", Limits::hard(10)), ("b", Limits::hard(10))], None);
        report_usage(&mut slot, at(2_000), &args(Record, &[("b", 6)], None)).unwrap();
        let answer = report_usage(&mut slot, at(2_001), &args(Reserve, &[("b", 5), ("a", 11)], None)).unwrap();
        assert_eq!(answer, hard("a", 0));
        let status = status(&slot, 2_001);
        assert_eq!(status.exhausted_dimension, Some(dimension("b")));
        assert_eq!(status.last_breach_dimension, Some(dimension("a")));
        assert_eq!(status.dimensions[&dimension("b")].usage, 6);
    }

    #[test]
    fn no_usage_passes_the_greatest_integer() {
        let mut slot = create(&[("t", Limits::default())], None);
        report_usage(&mut slot, at(2_000), &args(Record, &[("t", MAX_SAFE_INTEGER)], None)).unwrap();
        let before = slot.clone();
        for mode in [Record, Reserve] {
            let answer = report_usage(&mut slot, at(2_000), &args(mode, &[("a", 1), ("t", 1)], Some("k")));
            assert_eq!(code(answer), Code::InvalidInput);
        }
        assert_eq!(slot, before);
        assert_eq!(status(&slot, 2_000).dimensions[&dimension("t")].usage, MAX_SAFE_INTEGER);
    }

    #[test]
    fn the_65th_undeclared_dimension_is_too_many_but_one_without_amount_is_none() {
        let mut slot = create(&[("t", LIMITS)], None);
        let names: Vec<String> = (0..64).map(|n| format!("u{n}")).collect();
        let amounts: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        report_usage(&mut slot, at(2_000), &args(Record, &amounts, None)).unwrap();
        let before = slot.clone();
        let answer = report_usage(&mut slot, at(2_000), &args(Reserve, &[("more", 1)], None));
        assert_eq!(code(answer), Code::TooManyDimensions);
        assert_eq!(slot, before);
        assert!(report_usage(&mut slot, at(2_000), &args(Record, &[("more", 0), ("u0", 1), ("t", 1)], None)).is_ok());
        assert_eq!(status(&slot, 2_000).dimensions.len(), 65);
    }

    #[test]
    fn a_key_is_remembered_for_24_hours_less_1_ms_through_resets() {
        let mut slot = create(&[("t", Limits::hard(10))], Some(1_000));
        report_usage(&mut slot, at(1_000), &args(Record, &[("t", 8)], None)).unwrap();
        let rejected = args(Reserve, &[("t", 2), ("t", 1)], Some("k"));
        assert_eq!(report_usage(&mut slot, at(1_000), &rejected).unwrap(), hard("t", 8));
        let last = 1_000 + 86_400_000 - 1;
        let before = slot.clone();
        assert_eq!(report_usage(&mut slot, at(last), &args(Reserve, &[("t", 3)], Some("k"))).unwrap(), hard("t", 8));
        for other in [args(Record, &[("t", 3)], Some("k")), args(Reserve, &[("t", 2)], Some("k"))] {
            assert_eq!(code(report_usage(&mut slot, at(last), &other)), Code::DedupKeyConflict);
        }
        assert_eq!(slot, before, "neither a replay nor a refusal stores anything");
        assert_eq!(report_usage(&mut slot, at(last + 1), &rejected).unwrap(), ReportUsageResult::Ok);
    }

    #[test]
    fn lapsed_keys_go_a_bounded_number_per_report() {
        let mut slot = create(&[("t", LIMITS)], None);
        for n in 0..40 {
            let key = format!("k{n}");
            report_usage(&mut slot, at(1_000 + n), &args(Record, &[("t", 1)], Some(&key))).unwrap();
        }
        let count = |slot: &Option<Budget>| slot.as_ref().unwrap().reports.iter().count();
        let later = at(1_000 + 86_400_000 + 29);
        report_usage(&mut slot, later, &args(Record, &[("t", 1)], Some("k0"))).unwrap();
        assert_eq!(count(&slot), 40 - 16 + 1);
        report_usage(&mut slot, later, &args(Record, &[("t", 1)], None)).unwrap();
        assert_eq!(count(&slot), 11, "k30 to k39 and the new k0");
        report_usage(&mut slot, later, &args(Record, &[("t", 1)], None)).unwrap();
        assert_eq!(count(&slot), 11);
    }

    #[test]
    fn missed_resets_are_counted_whoever_looked_and_without_drift() {
        // Due at 61_000, 121_000, ...
        let mut slot = create(&[("t", Limits::hard(10))], Some(60_000));
        report_usage(&mut slot, at(2_000), &args(Record, &[("t", 12)], None)).unwrap();
        let before = status(&slot, 60_999);
        assert_eq!((before.reset_count, before.retry_at, before.last_reset_at), (0, Some(at(61_000)), None));
        let due = status(&slot, 61_000);
        assert_eq!((due.reset_count, due.exhausted_at, due.last_reset_at), (1, None, Some(at(61_000))));
        assert_eq!((due.next_reset_at, due.hard_breach_count), (Some(at(121_000)), 1));
        let late = status(&slot, 151_000);
        assert_eq!((late.reset_count, late.last_reset_at), (2, Some(at(121_000))));
        // A write in between stores it; the count is the same.
        report_usage(&mut slot, at(70_000), &args(Record, &[("t", 1)], None)).unwrap();
        assert_eq!(slot.as_ref().unwrap().record.reset_count, 1);
        let third = status(&slot, 181_000);
        assert_eq!((third.reset_count, third.next_reset_at), (3, Some(at(241_000))));
        assert_eq!(third.dimensions[&dimension("t")].usage, 0);
    }

    #[test]
    fn a_reset_counts_after_those_that_were_due_and_its_key_is_apart() {
        let mut slot = create(&[("t", Limits::hard(10))], Some(60_000));
        report_usage(&mut slot, at(2_000), &args(Record, &[("t", 12)], Some("k"))).unwrap();
        let first = reset_budget(&mut slot, at(130_000), &reset_args("ann", Some("k"))).unwrap();
        let expected =
            ResetBudgetResult { reset_count: 3, last_reset_at: at(130_000), next_reset_at: Some(at(181_000)) };
        assert_eq!(first, expected);
        assert_eq!(reset_budget(&mut slot, at(200_000), &reset_args("ann", Some("k"))).unwrap(), expected);
        let other = reset_budget(&mut slot, at(200_000), &reset_args("bob", Some("k")));
        assert_eq!(code(other), Code::DedupKeyConflict);
        let now = status(&slot, 130_000);
        assert_eq!((now.last_reset_by.as_deref(), now.hard_breach_count, now.exhausted_at), (Some("ann"), 1, None));
        assert_eq!(status(&slot, 181_000).last_reset_by, None);
    }

    #[test]
    fn an_advisory_budget_denies_nobody() {
        let mut slot = create(&[("t", Limits::hard(1))], None);
        slot.as_mut().unwrap().record.enforcement = Enforcement::Advisory;
        report_usage(&mut slot, at(2_000), &args(Record, &[("t", 1)], None)).unwrap();
        let status = status(&slot, 2_000);
        assert_eq!((status.exhausted_at, status.retry_at, status.retry_after_ms), (Some(at(2_000)), None, None));
    }
}
