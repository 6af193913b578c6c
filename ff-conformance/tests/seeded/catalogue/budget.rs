//! Lies about budgets.

use std::collections::BTreeSet;

use super::prelude::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "duplicate dimensions pass the limit",
        story: "each entry is checked alone, and all are added",
        by: "budget::report_usage::(t, 6) and (t, 6) in one",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let names: BTreeSet<_> = args.amounts.iter().map(|(name, _)| name).collect();
            if names.len() < args.amounts.len() && args.mode == ReportMode::Reserve {
                let fits = args.amounts.iter().all(|amount| {
                    let mut alone = args.clone();
                    alone.amounts = vec![amount.clone()];
                    alone.dedup_key = None;
                    !matches!(
                        s.pretend(&alone.into()),
                        Ok(Outcome::ReportUsage(ReportUsageResult::HardBreach { .. })) | Err(_)
                    )
                });
                if fits {
                    let mut all = args;
                    all.mode = ReportMode::Record;
                    let _ = s.call(all);
                    return Ok(Outcome::ReportUsage(ReportUsageResult::Ok));
                }
            }
            s.call(args)
        }),
    },
    Bug {
        name: "rejected reservation is added",
        story: "refusal after a write: the counter is raised, compared, and not lowered again",
        by: "budget::report_usage::then reserve 5 answers HardBreach(6, 10) with",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let answer = s.call(args.clone());
            if let Ok(Outcome::ReportUsage(ReportUsageResult::HardBreach { .. })) = &answer
                && args.mode == ReportMode::Reserve
            {
                let mut added = args;
                added.mode = ReportMode::Record;
                added.dedup_key = None;
                let _ = s.call(added);
            }
            answer
        }),
    },
    Bug {
        name: "usage key shared by all budgets",
        story: "dedup scoped too widely: one report on two budgets counts on the first",
        by: "budget::report_usage::one key on two budgets counts on",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let Some(key) = args.dedup_key.clone() else { return s.call(args) };
            let first = s.kept().calls.get(&key).cloned();
            if let Some(Operation::ReportUsage(first)) = first
                && first.budget_id != args.budget_id
                && let Some(answer) = s.kept().answers.get(&key).cloned()
            {
                return Ok(answer);
            }
            let answer = s.call(args.clone());
            if let Ok(outcome) = &answer {
                s.kept().calls.entry(key.clone()).or_insert(args.into());
                s.kept().answers.entry(key).or_insert(outcome.clone());
            }
            answer
        }),
    },
    Bug {
        name: "usage counts again at a retry",
        story: "the dedup key is for the log",
        by: "budget::report_usage::with hard 10 and soft 5, 6",
        operations: &[Op::ReportUsage],
        lie: Asks(|_, mut op| {
            if let Operation::ReportUsage(args) = &mut op {
                args.dedup_key = None;
            }
            op
        }),
    },
    Bug {
        name: "usage key remembered a moment too long",
        story: "expiry compared exclusively: tomorrow's report of the same hour is a repeat",
        by: "budget::report_usage::a key is remembered at 24 h",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let first = s.backend.model().budgets().find(|(id, _)| **id == args.budget_id).and_then(|(_, budget)| {
                let key = args.dedup_key.as_deref()?;
                budget.reports.iter().find(|(known, _)| *known == key).map(|(_, known)| known.recorded_at)
            });
            s.call_late(first.map(|at| at.after(DAY_MS)), args)
        }),
    },
    Bug {
        name: "reset clears the breach counters",
        story: "the record is written anew, with what should have been kept",
        by: "budget::reset_budget::it clears usage and exhaustion, keeps breach",
        operations: &[Op::ResetBudget],
        lie: Tells(|s, op, answer| {
            if let (Operation::ResetBudget(args), Ok(_)) = (op, &answer) {
                s.backend.alter_budget(&args.budget_id, |budget| {
                    budget.record.hard_breach_count = 0;
                    budget.record.soft_breach_count = 0;
                });
            }
            answer
        }),
    },
    Bug {
        name: "reset keeps the exhaustion",
        story: "usage is 0 and nobody is admitted",
        by: "budget::reset_budget::it clears usage and exhaustion, keeps breach",
        operations: &[Op::ResetBudget],
        lie: Call(|s, op| {
            let args = args!(s, op, ResetBudget);
            let id = args.budget_id.clone();
            let exhausted = s
                .backend
                .model()
                .budgets()
                .find(|(known, _)| **known == id)
                .and_then(|(_, budget)| budget.record.exhausted.clone());
            let answer = s.call(args);
            if answer.is_ok() {
                s.backend.alter_budget(&id, |budget| budget.record.exhausted = exhausted);
            }
            answer
        }),
    },
    Bug {
        name: "scheduled reset a moment late",
        story: "due compared exclusively: at midnight the budget is still yesterday's",
        by: "budget::get_budget_status::at the due instant itself the reset",
        operations: &[Op::GetBudgetStatus, Op::ReportUsage],
        lie: Call(|s, op| {
            let id = match &op {
                Operation::GetBudgetStatus(args) => args.budget_id.clone(),
                Operation::ReportUsage(args) => args.budget_id.clone(),
                _ => return s.call(op),
            };
            let due = s.backend.model().budgets().find(|(known, _)| **known == id).and_then(|(_, b)| b.record.schedule);
            let now = s.now().as_millis();
            let exact = due.is_some_and(|schedule| {
                let next = schedule.next_at.as_millis();
                now >= next && (now - next).is_multiple_of(schedule.interval_ms)
            });
            if exact { s.call_at(before(s.now()), op) } else { s.call(op) }
        }),
    },
    Bug {
        name: "refused report half added",
        story: "the first dimension is added before the second is found to overflow",
        by: "budget::report_usage::when the second of two dimensions would",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let answer = s.call(args.clone());
            if refused(&answer, Code::InvalidInput) && args.amounts.len() > 1 {
                let mut half = args;
                half.amounts.truncate(1);
                half.dedup_key = None;
                let _ = s.call(half);
            }
            answer
        }),
    },
    Bug {
        name: "exhaustion moves with every report",
        story: "`exhausted since` is the last report's instant, and the retry after five minutes never comes",
        by: "budget::report_usage::exhausted_at keeps its first instant until a",
        operations: &[Op::ReportUsage],
        lie: Tells(|s, op, answer| {
            if let (Operation::ReportUsage(args), Ok(_)) = (op, &answer) {
                let now = s.now();
                s.backend.alter_budget(&args.budget_id, |budget| {
                    if let Some(mark) = &mut budget.record.exhausted {
                        mark.at = now;
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "other limits are a repeat",
        story: "the id exists, so the creation is told to have happened; the limits are the old ones",
        by: "budget::create_budget::another limit, enforcement or interval under the",
        operations: &[Op::CreateBudget],
        lie: Call(|s, op| {
            let args = args!(s, op, CreateBudget);
            let id = args.budget_id.clone();
            let answer = s.call(args);
            let known = s.backend.model().budgets().find(|(known, _)| **known == id).map(|(_, b)| b.record.created_at);
            match known {
                Some(created_at) if refused(&answer, Code::BudgetConflict) => {
                    Ok(Outcome::CreateBudget(CreateBudgetResult::AlreadyExists { created_at }))
                }
                _ => answer,
            }
        }),
    },
    Bug {
        name: "replayed breach counts again",
        story: "the retried report is recognised and its breach is still counted",
        by: "budget::report_usage::a replayed breach moves no breach counter",
        operations: &[Op::ReportUsage],
        lie: Call(|s, op| {
            let args = args!(s, op, ReportUsage);
            let (id, before) = (args.budget_id.clone(), s.backend.snapshot().budgets);
            let answer = s.call(args);
            let repeat = before == s.backend.snapshot().budgets;
            if let (Ok(Outcome::ReportUsage(ReportUsageResult::HardBreach { .. })), true) = (&answer, repeat) {
                s.backend.alter_budget(&id, |budget| budget.record.hard_breach_count += 1);
            }
            answer
        }),
    },
];
