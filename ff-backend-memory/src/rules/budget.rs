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
use ff_core::records::{BudgetRecord, DimensionMark, ResetSchedule};
use ff_core::refusal::Refusal;
use ff_core::time::{MAX_SAFE_INTEGER, TimestampMs};

use crate::model::{Budget, ReportContent};

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
    let content = ReportContent { mode: args.mode, amounts: args.merged()? };
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
