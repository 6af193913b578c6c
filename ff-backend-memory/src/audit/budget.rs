//! One budget.

use std::collections::BTreeSet;

use ff_core::contracts::{MAX_DIMENSIONS, ReportUsageResult};
use ff_core::ids::BudgetId;
use ff_core::records::BudgetRecord;
use ff_core::time::MAX_SAFE_INTEGER;

use super::{Finding, Findings, Rule};
use crate::model::{Budget, Memory};

pub(super) fn audit(id: &BudgetId, budget: &Budget) -> Vec<Finding> {
    let mut f = Findings::new(format!("budget {id}"));
    let r = &budget.record;
    definition(&mut f, id, r);
    usage(&mut f, r);
    counters(&mut f, r);
    memory(&mut f, "report", &budget.reports);
    memory(&mut f, "reset", &budget.resets);
    for (key, report) in budget.reports.iter() {
        let of = match &report.result {
            ReportUsageResult::Ok => None,
            ReportUsageResult::SoftBreach { dimension, .. } | ReportUsageResult::HardBreach { dimension, .. } => {
                Some(dimension)
            }
        };
        let fits = of.is_none_or(|d| r.dimensions.contains_key(d) && report.content.amounts.contains_key(d));
        f.ensure(Rule::BudgetMemory, fits, || format!("report {key:?} was answered {:?}", report.result));
    }
    f.found
}

fn definition(f: &mut Findings, id: &BudgetId, r: &BudgetRecord) {
    f.ensure(Rule::BudgetDefinition, r.budget_id == *id, || format!("it calls itself {}", r.budget_id));
    let many = r.dimensions.len();
    f.ensure(Rule::BudgetDefinition, (1..=MAX_DIMENSIONS).contains(&many), || format!("{many} dimensions"));
    for (dimension, limits) in &r.dimensions {
        let bounded = |limit: Option<u64>| limit.is_none_or(|n| (1..=MAX_SAFE_INTEGER).contains(&n));
        let ordered = limits.soft.zip(limits.hard).is_none_or(|(soft, hard)| soft <= hard);
        f.ensure(Rule::BudgetDefinition, bounded(limits.hard) && bounded(limits.soft) && ordered, || {
            format!("{dimension} has {limits:?}")
        });
    }
    if let Some(schedule) = &r.schedule {
        let since = schedule.next_at.as_millis().checked_sub(r.created_at.as_millis());
        let whole = since.is_some_and(|ms| ms > 0 && ms.is_multiple_of(schedule.interval_ms.max(1)));
        // At the end of time instants saturate, and boundaries are no longer whole.
        let over = schedule.next_at.as_millis() == MAX_SAFE_INTEGER;
        f.ensure(Rule::BudgetSchedule, whole || over, || format!("created {}, next {schedule:?}", r.created_at));
    }
}

fn usage(f: &mut Findings, r: &BudgetRecord) {
    for (dimension, usage) in &r.usage {
        f.ensure(Rule::BudgetUsage, (1..=MAX_SAFE_INTEGER).contains(usage), || format!("{dimension} has used {usage}"));
        let hard = r.dimensions.get(dimension).and_then(|limits| limits.hard);
        f.ensure(Rule::BudgetExhausted, hard.is_none_or(|hard| *usage < hard) || r.exhausted.is_some(), || {
            format!("{dimension} has used {usage} of {hard:?}")
        });
    }
    let undeclared = r.usage.keys().filter(|d| !r.dimensions.contains_key(*d)).count();
    f.ensure(Rule::BudgetUsage, undeclared <= MAX_DIMENSIONS, || format!("{undeclared} undeclared dimensions"));
    let limited = |d| r.dimensions.get(d).is_some_and(|limits| limits.hard.is_some());
    f.ensure(Rule::BudgetExhausted, r.exhausted.as_ref().is_none_or(|mark| limited(&mark.dimension)), || {
        format!("exhausted by {:?}, which has no hard limit", r.exhausted)
    });
    f.ensure(Rule::BudgetCounters, r.last_breach.as_ref().is_none_or(|mark| limited(&mark.dimension)), || {
        format!("last breach by {:?}, which has no hard limit", r.last_breach)
    });
}

fn counters(f: &mut Findings, r: &BudgetRecord) {
    f.ensure(Rule::BudgetCounters, (r.reset_count > 0) == r.last_reset_at.is_some(), || {
        format!("{} resets, the last at {:?}", r.reset_count, r.last_reset_at)
    });
    f.ensure(Rule::BudgetCounters, r.last_reset_by.is_none() || r.last_reset_at.is_some(), || {
        format!("reset by {:?} at no instant", r.last_reset_by)
    });
    f.ensure(Rule::BudgetCounters, (r.hard_breach_count > 0) == r.last_breach.is_some(), || {
        format!("{} hard breaches, the last {:?}", r.hard_breach_count, r.last_breach)
    });
}

fn memory<C, R>(f: &mut Findings, what: &str, memory: &Memory<C, R>) {
    let by_key: BTreeSet<_> = memory.by_key.iter().map(|(key, call)| (call.recorded_at, key.clone())).collect();
    f.ensure(Rule::BudgetMemory, by_key == memory.by_age, || {
        format!("{what}s by age are {:?}, should be {by_key:?}", memory.by_age)
    });
}
