//! Domain budget.

use std::collections::BTreeMap;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::time::MAX_SAFE_INTEGER;

use super::cases;
use crate::stage::{
    Stage, budget, budget_id, dimension, exhausted, hard_breach, keyed, limits, record, reserve, soft_breach, usage,
    used,
};

cases! { "budget";
    "create_budget: after a refused report on an unknown budget it is Created with its limits in force." => created_later,
    "create_budget: an equal definition answers AlreadyExists with the first created_at and keeps the usage." => equal_definition,
    "create_budget: another limit, enforcement or interval under the same id is budget_conflict and changes nothing." => other_definition,
    "create_budget: soft above hard, a limit of 0, no dimension and 65 dimensions are invalid_input." => bad_definitions,
    "report_usage: an unknown budget is budget_not_found and leaves nothing behind." => unknown,
    "report_usage: with hard 10 and soft 5, 6 answers SoftBreach(6, 5), and its repeat by key the same with usage still 6." => soft,
    "report_usage: then reserve 5 answers HardBreach(6, 10) with usage 6, and record 5 answers HardBreach(11, 10) with usage 11." => hard,
    "report_usage: usage equal to hard answers no HardBreach and exhausts the budget." => equal_to_hard,
    "report_usage: (t, 6) and (t, 6) in one reserve with hard 10 are one amount of 12: HardBreach, usage 0." => merged,
    "report_usage: when the second of two dimensions would exceed 2^53-1 it is invalid_input and neither moves." => overflow,
    "report_usage: 160000000000007 and 2^53-1 come back exactly." => exact,
    "report_usage: a rejected reservation adds to no dimension and its key replays the rejection after a reset too." => rejected,
    "report_usage: a reservation that fits alone exhausts the budget when rejected, one larger than the hard limit does not." => fits_alone,
    "report_usage: exhausted_at keeps its first instant until a reset, also when later reports succeed." => first_exhaustion,
    "report_usage: one key on two budgets counts on both." => two_budgets,
    "report_usage: one key with another amount or mode is dedup_key_conflict; permuted and split entries with equal sums are a repeat." => key_content,
    "report_usage: a key is remembered at 24 h less 1 ms and counts anew at 24 h." => key_lapses,
    "report_usage: a replayed breach moves no breach counter." => replayed_breach,
    "report_usage: undeclared dimensions are counted, the 65th is too_many_dimensions and changes nothing." => undeclared,
    "reset_budget: it clears usage and exhaustion, keeps breach counters and schedule, and its repeat by key resets once." => reset,
    "reset_budget: a usage key and a reset key of the same text do not meet." => key_scopes,
    "get_budget_status: 90 s after the due time it shows one reset, the due time as last_reset_at and the next due time without drift." => late_look,
    "get_budget_status: after three missed intervals reset_count has grown by three, whoever looked in between." => three_intervals,
    "get_budget_status: at the due instant itself the reset has happened, one ms before it has not." => due_instant,
    "get_budget_status: an advisory exhausted budget has no retry_at, a strict one has the earlier of reset and 5 minutes." => retry_at,
}

/// The hard limit 10 and the soft limit 5 on `t`.
fn ten_five() -> CreateBudgetArgs {
    budget("b", &[("t", limits(10, 5))])
}

async fn created_later(s: &Stage) {
    s.refused_with(Code::BudgetNotFound, record("b", &[("t", 3)])).await;
    s.refused_with(Code::BudgetNotFound, GetBudgetStatusArgs { budget_id: budget_id("b") }).await;
    s.advance(7);
    s.create_budget(ten_five()).await;
    let status = s.budget("b").await;
    assert_eq!(status.created_at, s.now());
    let found: Vec<_> =
        status.dimensions.iter().map(|(name, d)| (name.as_str(), d.usage, d.hard, d.soft, d.remaining)).collect();
    assert_eq!(found, [("t", 0, Some(10), Some(5), Some(10))]);
    assert_eq!((status.enforcement, status.reset_interval_ms), (Enforcement::Strict, None));
    assert_eq!(s.report(record("b", &[("t", 6)])).await, soft_breach("t", 6, 5));
    assert_eq!(s.report(record("b", &[("t", 5)])).await, hard_breach("t", 11, 10));
    let t = s.budget("b").await.dimensions[&dimension("t")];
    assert_eq!((t.usage, t.hard, t.soft, t.remaining), (11, Some(10), Some(5), Some(0)));
}

async fn equal_definition(s: &Stage) {
    let start = s.now();
    let mut args = budget("b", &[("t", limits(10, 5)), ("u", Limits::default())]);
    args.reset_interval_ms = Some(60_000);
    s.create_budget(args.clone()).await;
    s.report(record("b", &[("t", 4), ("x", 3)])).await;
    s.advance(59_999);
    match s.changes_nothing(args.clone()).await {
        Outcome::CreateBudget(answer) => assert_eq!(answer, CreateBudgetResult::AlreadyExists { created_at: start }),
        other => panic!("{other:?}"),
    }
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), used(&status, "u"), used(&status, "x")), (4, 0, 3));
    assert_eq!(status.created_at, start);
    // The schedule, too, is that of the creation.
    s.advance(1);
    match s.changes_nothing(args).await {
        Outcome::CreateBudget(answer) => assert_eq!(answer, CreateBudgetResult::AlreadyExists { created_at: start }),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.budget("b").await.next_reset_at, Some(start.after(120_000)));
}

async fn other_definition(s: &Stage) {
    let mut first = ten_five();
    first.reset_interval_ms = Some(60_000);
    s.create_budget(first.clone()).await;
    s.report(record("b", &[("t", 4)])).await;
    let with = |change: fn(&mut CreateBudgetArgs)| {
        let mut args = first.clone();
        change(&mut args);
        args
    };
    let others = [
        with(|b| b.dimensions = [(dimension("t"), limits(11, 5))].into()),
        with(|b| b.dimensions = [(dimension("t"), limits(10, 6))].into()),
        with(|b| b.dimensions = [(dimension("t"), Limits::hard(10))].into()),
        with(|b| b.dimensions = [(dimension("t"), Limits::soft(5))].into()),
        with(|b| b.dimensions = [(dimension("t"), limits(10, 5)), (dimension("u"), Limits::default())].into()),
        with(|b| b.dimensions = [(dimension("T"), limits(10, 5))].into()),
        with(|b| b.enforcement = Enforcement::Advisory),
        with(|b| b.reset_interval_ms = Some(60_001)),
        with(|b| b.reset_interval_ms = None),
    ];
    for args in others {
        s.refused_with(Code::BudgetConflict, args).await;
    }
    assert_eq!(used(&s.budget("b").await, "t"), 4);
}

async fn bad_definitions(s: &Stage) {
    let named = |n: u64| (1..=n).map(|i| (dimension(&format!("d{i}")), Limits::hard(i))).collect::<BTreeMap<_, _>>();
    let bad = [
        (budget("b", &[("t", limits(10, 11))]), "dimensions.soft"),
        (budget("b", &[("t", Limits::hard(0))]), "dimensions.hard"),
        (budget("b", &[("t", Limits::soft(0))]), "dimensions.soft"),
        (budget("b", &[("a", Limits::hard(1)), ("t", Limits::hard(MAX_SAFE_INTEGER + 1))]), "dimensions.hard"),
        (budget("b", &[("t", Limits::soft(MAX_SAFE_INTEGER + 1))]), "dimensions.soft"),
        (budget("b", &[]), "dimensions"),
        (CreateBudgetArgs::builder().budget_id(budget_id("b")).dimensions(named(65)).build(), "dimensions"),
    ];
    for (args, field) in bad {
        let refusal = s.refused_with(Code::InvalidInput, args.clone()).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: field.to_owned() }, "{args:?}");
    }
    for reset_interval_ms in [999, 366 * 86_400_000 + 1] {
        let mut args = ten_five();
        args.reset_interval_ms = Some(reset_interval_ms);
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "reset_interval_ms".to_owned() });
    }
    s.refused_with(Code::BudgetNotFound, GetBudgetStatusArgs { budget_id: budget_id("b") }).await;
    // What stands right at the bounds is taken.
    s.create_budget(budget("equal", &[("t", limits(10, 10))])).await;
    s.create_budget(budget("great", &[("t", limits(MAX_SAFE_INTEGER, 1))])).await;
    s.create_budget(CreateBudgetArgs::builder().budget_id(budget_id("b")).dimensions(named(64)).build()).await;
    for (id, ms) in [("short", 1_000), ("long", 366 * 86_400_000)] {
        let mut args = budget(id, &[("t", Limits::default())]);
        args.reset_interval_ms = Some(ms);
        s.create_budget(args).await;
    }
}

async fn unknown(s: &Stage) {
    for args in [
        record("b", &[("t", 3)]),
        reserve("b", &[("t", 3)]),
        keyed(record("b", &[("t", 11)]), "k"),
        keyed(reserve("b", &[("t", 11)]), "k"),
    ] {
        s.refused_with(Code::BudgetNotFound, args).await;
    }
    s.create_budget(ten_five()).await;
    let status = s.budget("b").await;
    assert_eq!(used(&status, "t"), 0);
    assert_eq!((status.hard_breach_count, status.soft_breach_count), (0, 0));
    assert_eq!((exhausted(&status), status.last_breach_at), (None, None));
    // The key was not remembered: other content under it is no conflict, and counts.
    assert_eq!(s.report(keyed(record("b", &[("t", 2)]), "k")).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "t"), 2);
}

async fn soft(s: &Stage) {
    s.create_budget(ten_five()).await;
    let args = keyed(record("b", &[("t", 6)]), "k");
    assert_eq!(s.report(args.clone()).await, soft_breach("t", 6, 5));
    s.advance(10);
    match s.changes_nothing(args).await {
        Outcome::ReportUsage(answer) => assert_eq!(answer, soft_breach("t", 6, 5)),
        other => panic!("{other:?}"),
    }
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), status.soft_breach_count, status.hard_breach_count), (6, 1, 0));
    assert_eq!((status.last_breach_at, exhausted(&status)), (None, None));
    // 5 itself breaks nothing.
    s.create_budget(budget("c", &[("t", limits(10, 5))])).await;
    assert_eq!(s.report(record("c", &[("t", 5)])).await, ReportUsageResult::Ok);
    assert_eq!(s.budget("c").await.soft_breach_count, 0);
}

async fn hard(s: &Stage) {
    s.create_budget(ten_five()).await;
    assert_eq!(s.report(record("b", &[("t", 6)])).await, soft_breach("t", 6, 5));
    s.advance(1);
    let rejected_at = s.now();
    assert_eq!(s.report(reserve("b", &[("t", 5)])).await, hard_breach("t", 6, 10));
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), status.hard_breach_count, status.soft_breach_count), (6, 1, 1));
    assert_eq!((status.last_breach_at, status.last_breach_dimension), (Some(rejected_at), Some(dimension("t"))));
    s.advance(1);
    assert_eq!(s.report(record("b", &[("t", 5)])).await, hard_breach("t", 11, 10));
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), status.hard_breach_count, status.soft_breach_count), (11, 2, 1));
    assert_eq!(status.last_breach_at, Some(rejected_at.after(1)));
    assert_eq!(status.dimensions[&dimension("t")].remaining, Some(0));
    // A reservation of what would fit into usage exactly is no breach.
    s.create_budget(budget("c", &[("t", Limits::hard(10))])).await;
    s.report(record("c", &[("t", 6)])).await;
    assert_eq!(s.report(reserve("c", &[("t", 4)])).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("c").await, "t"), 10);
}

async fn equal_to_hard(s: &Stage) {
    for (id, mode) in [("recorded", ReportMode::Record), ("reserved", ReportMode::Reserve)] {
        s.create_budget(budget(id, &[("t", Limits::hard(10))])).await;
        assert_eq!(s.report(usage(id, mode, &[("t", 9)])).await, ReportUsageResult::Ok);
        assert_eq!(exhausted(&s.budget(id).await), None, "9 of 10 is not exhausted");
        s.advance(3);
        assert_eq!(s.report(usage(id, mode, &[("t", 1)])).await, ReportUsageResult::Ok);
        let status = s.budget(id).await;
        assert_eq!((used(&status, "t"), status.hard_breach_count), (10, 0));
        assert_eq!(exhausted(&status), Some((s.now(), "t")));
        assert_eq!(status.dimensions[&dimension("t")].remaining, Some(0));
        assert_eq!(status.last_breach_at, None);
    }
    s.create_budget(ten_five()).await;
    assert_eq!(s.report(record("b", &[("t", 10)])).await, soft_breach("t", 10, 5));
    assert_eq!(exhausted(&s.budget("b").await), Some((s.now(), "t")));
}

async fn merged(s: &Stage) {
    s.create_budget(budget("b", &[("t", Limits::hard(10))])).await;
    assert_eq!(s.report(reserve("b", &[("t", 6), ("t", 6)])).await, hard_breach("t", 0, 10));
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), status.hard_breach_count), (0, 1));
    assert_eq!(exhausted(&status), None, "12 never fits");
    assert_eq!(s.report(record("b", &[("t", 6), ("u", 1), ("t", 4)])).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "t"), 10);
}

async fn overflow(s: &Stage) {
    s.create_budget(budget("b", &[("a", Limits::hard(10)), ("b", Limits::default())])).await;
    s.report(record("b", &[("b", MAX_SAFE_INTEGER)])).await;
    for args in [
        record("b", &[("a", 1), ("b", 1)]),
        reserve("b", &[("a", 1), ("b", 1)]),
        // Sums come before limits.
        reserve("b", &[("a", 11), ("b", 1)]),
        keyed(record("b", &[("a", 1), ("b", 1)]), "k"),
    ] {
        let refusal = s.refused_with(Code::InvalidInput, args).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "amounts".to_owned() });
    }
    let status = s.budget("b").await;
    assert_eq!((used(&status, "a"), used(&status, "b")), (0, MAX_SAFE_INTEGER));
    assert_eq!((status.hard_breach_count, exhausted(&status)), (0, None));
    // Within one call, sums are refused before the budget is looked for.
    let alone = record("nowhere", &[("t", MAX_SAFE_INTEGER), ("t", 1)]);
    s.refused_with(Code::InvalidInput, alone).await;
    // The key was not remembered.
    assert_eq!(s.report(keyed(record("b", &[("a", 2)]), "k")).await, ReportUsageResult::Ok);
    assert_eq!(s.report(record("b", &[("a", 1), ("b", 0)])).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "a"), 3);
}

async fn exact(s: &Stage) {
    let odd = 160_000_000_000_007;
    s.create_budget(budget("b", &[("odd", limits(odd, odd - 1)), ("top", limits(MAX_SAFE_INTEGER, 1))])).await;
    assert_eq!(s.report(record("b", &[("odd", odd)])).await, soft_breach("odd", odd, odd - 1));
    assert_eq!(s.report(record("b", &[("top", MAX_SAFE_INTEGER)])).await, soft_breach("top", MAX_SAFE_INTEGER, 1));
    assert_eq!(s.report(record("b", &[("free", odd), ("other", MAX_SAFE_INTEGER)])).await, ReportUsageResult::Ok);
    let status = s.budget("b").await;
    assert_eq!((used(&status, "odd"), used(&status, "top")), (odd, MAX_SAFE_INTEGER));
    assert_eq!((used(&status, "free"), used(&status, "other")), (odd, MAX_SAFE_INTEGER));
    let (low, high) = (status.dimensions[&dimension("odd")], status.dimensions[&dimension("top")]);
    assert_eq!((low.hard, low.soft, low.remaining), (Some(odd), Some(odd - 1), Some(0)));
    assert_eq!((high.hard, high.soft, high.remaining), (Some(MAX_SAFE_INTEGER), Some(1), Some(0)));
    // Sums of large numbers, too.
    s.create_budget(budget("c", &[("t", Limits::hard(MAX_SAFE_INTEGER))])).await;
    s.report(record("c", &[("t", odd)])).await;
    s.report(record("c", &[("t", odd)])).await;
    let t = s.budget("c").await.dimensions[&dimension("t")];
    assert_eq!((t.usage, t.remaining), (320_000_000_000_014, Some(8_687_199_254_740_977)));
}

async fn rejected(s: &Stage) {
    let mut args = budget("b", &[("a", Limits::hard(100)), ("b", Limits::hard(10))]);
    args.reset_interval_ms = Some(60_000);
    s.create_budget(args).await;
    let args = keyed(reserve("b", &[("a", 5), ("b", 11), ("c", 3)]), "k");
    assert_eq!(s.report(args.clone()).await, hard_breach("b", 0, 10));
    let status = s.budget("b").await;
    let found: Vec<_> = status.dimensions.iter().map(|(name, d)| (name.as_str(), d.usage)).collect();
    assert_eq!(found, [("a", 0), ("b", 0)]);
    assert_eq!(status.hard_breach_count, 1);
    s.advance(1);
    s.reset_budget("b").await;
    let replayed = async || match s.changes_nothing(args.clone()).await {
        Outcome::ReportUsage(answer) => assert_eq!(answer, hard_breach("b", 0, 10)),
        other => panic!("{other:?}"),
    };
    replayed().await;
    s.advance(60_000);
    replayed().await;
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.hard_breach_count), (2, 1));
    // A rejection keeps the usage that it told, whatever was used since.
    let late = keyed(reserve("b", &[("b", 8)]), "late");
    s.report(record("b", &[("b", 3)])).await;
    assert_eq!(s.report(late.clone()).await, hard_breach("b", 3, 10));
    s.report(record("b", &[("b", 2)])).await;
    assert_eq!(s.report(late).await, hard_breach("b", 3, 10));
    assert_eq!(used(&s.budget("b").await, "b"), 5);
}

async fn fits_alone(s: &Stage) {
    let define = |id| budget(id, &[("a", Limits::hard(100)), ("t", Limits::hard(10)), ("u", Limits::hard(10))]);
    s.create_budget(define("b")).await;
    s.report(record("b", &[("t", 6)])).await;
    assert_eq!(s.report(reserve("b", &[("t", 11)])).await, hard_breach("t", 6, 10));
    assert_eq!(exhausted(&s.budget("b").await), None, "11 would never fit");
    s.advance(5);
    assert_eq!(s.report(reserve("b", &[("a", 1), ("t", 10)])).await, hard_breach("t", 6, 10));
    assert_eq!(exhausted(&s.budget("b").await), Some((s.now(), "t")), "10 would fit alone");
    // The first that rejects and would fit alone, not the first that rejects.
    s.create_budget(define("c")).await;
    s.report(record("c", &[("t", 6), ("u", 6)])).await;
    assert_eq!(s.report(reserve("c", &[("u", 5), ("t", 11)])).await, hard_breach("t", 6, 10));
    assert_eq!(exhausted(&s.budget("c").await), Some((s.now(), "u")));
    // A reservation looks at usage, not at exhaustion.
    assert_eq!(s.report(reserve("c", &[("t", 4)])).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("c").await, "t"), 10);
}

async fn first_exhaustion(s: &Stage) {
    let start = s.now();
    s.create_budget(budget("b", &[("a", Limits::hard(5)), ("t", Limits::hard(10))])).await;
    s.report(record("b", &[("t", 10)])).await;
    assert_eq!(exhausted(&s.budget("b").await), Some((start, "t")));
    s.advance(100);
    assert_eq!(s.report(record("b", &[("a", 1)])).await, ReportUsageResult::Ok);
    assert_eq!(s.report(reserve("b", &[("a", 1)])).await, ReportUsageResult::Ok);
    assert_eq!(s.report(record("b", &[("t", 1)])).await, hard_breach("t", 11, 10));
    assert_eq!(s.report(record("b", &[("a", 5)])).await, hard_breach("a", 7, 5));
    assert_eq!(s.report(record("b", &[("other", 1)])).await, ReportUsageResult::Ok);
    let status = s.budget("b").await;
    assert_eq!(exhausted(&status), Some((start, "t")));
    assert_eq!((status.hard_breach_count, status.last_breach_dimension), (2, Some(dimension("a"))));
    s.reset_budget("b").await;
    assert_eq!(exhausted(&s.budget("b").await), None);
    s.advance(1);
    s.report(record("b", &[("a", 5), ("t", 10)])).await;
    assert_eq!(exhausted(&s.budget("b").await), Some((start.after(101), "a")), "the first by name");
}

async fn two_budgets(s: &Stage) {
    for id in ["b", "c"] {
        s.create_budget(budget(id, &[("t", Limits::hard(10))])).await;
    }
    assert_eq!(s.report(keyed(record("b", &[("t", 3)]), "k")).await, ReportUsageResult::Ok);
    assert_eq!(s.report(keyed(record("c", &[("t", 4)]), "k")).await, ReportUsageResult::Ok);
    assert_eq!((used(&s.budget("b").await, "t"), used(&s.budget("c").await, "t")), (3, 4));
}

async fn key_content(s: &Stage) {
    s.create_budget(budget("b", &[("t", Limits::hard(100)), ("u", Limits::hard(100))])).await;
    let first = keyed(record("b", &[("t", 6), ("u", 2)]), "k");
    s.report(first).await;
    for other in [
        record("b", &[("t", 7), ("u", 2)]),
        record("b", &[("t", 6), ("u", 1)]),
        record("b", &[("t", 6)]),
        record("b", &[("t", 6), ("u", 2), ("v", 1)]),
        record("b", &[("t", 2), ("u", 6)]),
        reserve("b", &[("t", 6), ("u", 2)]),
    ] {
        s.refused_with(Code::DedupKeyConflict, keyed(other, "k")).await;
    }
    for same in [record("b", &[("u", 2), ("t", 6)]), record("b", &[("t", 1), ("u", 1), ("t", 5), ("u", 1)])] {
        match s.changes_nothing(keyed(same, "k")).await {
            Outcome::ReportUsage(answer) => assert_eq!(answer, ReportUsageResult::Ok),
            other => panic!("{other:?}"),
        }
    }
    let status = s.budget("b").await;
    assert_eq!((used(&status, "t"), used(&status, "u")), (6, 2));
    // A conflict comes before what else would be wrong with the report.
    let too_much = keyed(record("b", &[("t", MAX_SAFE_INTEGER)]), "k");
    s.refused_with(Code::DedupKeyConflict, too_much).await;
    // Without a key it counts again.
    s.report(record("b", &[("t", 6)])).await;
    assert_eq!(used(&s.budget("b").await, "t"), 12);
}

async fn key_lapses(s: &Stage) {
    s.create_budget(budget("b", &[("t", Limits::hard(100))])).await;
    let args = keyed(record("b", &[("t", 6)]), "k");
    s.report(args.clone()).await;
    s.advance(86_399_999);
    s.changes_nothing(args.clone()).await;
    s.refused_with(Code::DedupKeyConflict, keyed(record("b", &[("t", 7)]), "k")).await;
    assert_eq!(used(&s.budget("b").await, "t"), 6);
    s.advance(1);
    assert_eq!(s.report(args.clone()).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "t"), 12);
    // Remembered anew, from then on.
    s.advance(86_399_999);
    s.changes_nothing(args.clone()).await;
    s.advance(1);
    assert_eq!(
        s.report(keyed(record("b", &[("t", 7)]), "k")).await,
        ReportUsageResult::Ok,
        "other content is free too"
    );
    assert_eq!(used(&s.budget("b").await, "t"), 19);
}

async fn replayed_breach(s: &Stage) {
    s.create_budget(ten_five()).await;
    let soft = keyed(record("b", &[("t", 6)]), "soft");
    let hard = keyed(record("b", &[("t", 5)]), "hard");
    let rejected = keyed(reserve("b", &[("t", 5)]), "rejected");
    s.report(soft.clone()).await;
    s.report(hard.clone()).await;
    s.report(rejected.clone()).await;
    let before = s.budget("b").await;
    assert_eq!((before.soft_breach_count, before.hard_breach_count), (1, 2));
    s.advance(10);
    for (args, first) in
        [(soft, soft_breach("t", 6, 5)), (hard, hard_breach("t", 11, 10)), (rejected, hard_breach("t", 11, 10))]
    {
        match s.changes_nothing(args).await {
            Outcome::ReportUsage(answer) => assert_eq!(answer, first),
            other => panic!("{other:?}"),
        }
    }
    let after = s.budget("b").await;
    assert_eq!((after.soft_breach_count, after.hard_breach_count), (1, 2));
    assert_eq!(after.last_breach_at, before.last_breach_at);
}

async fn undeclared(s: &Stage) {
    s.create_budget(budget("b", &[("t", Limits::hard(10))])).await;
    let names: Vec<String> = (0..64).map(|n| format!("x{n:02}")).collect();
    let amounts: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    assert_eq!(s.report(record("b", &amounts)).await, ReportUsageResult::Ok);
    let status = s.budget("b").await;
    assert_eq!(status.dimensions.len(), 65);
    for name in &names {
        let d = status.dimensions[&dimension(name)];
        assert_eq!((d.usage, d.hard, d.soft, d.remaining), (2, None, None, None));
    }
    for args in [
        record("b", &[("t", 1), ("y", 1)]),
        reserve("b", &[("t", 1), ("y", 1)]),
        // It is told before any breach.
        reserve("b", &[("t", 11), ("y", 1)]),
        keyed(record("b", &[("y", 1)]), "k"),
    ] {
        s.refused_with(Code::TooManyDimensions, args).await;
    }
    // Known ones, declared ones, and an amount of nothing do not make a 65th.
    assert_eq!(s.report(record("b", &[("x63", 1), ("t", 4), ("y", 0)])).await, ReportUsageResult::Ok);
    let status = s.budget("b").await;
    assert_eq!((used(&status, "x63"), used(&status, "t")), (3, 4));
    assert!(!status.dimensions.contains_key(&dimension("y")), "without usage it is not listed");
    // Possible again after a reset.
    s.reset_budget("b").await;
    let status = s.budget("b").await;
    assert_eq!(status.dimensions.keys().map(ToString::to_string).collect::<Vec<_>>(), ["t"]);
    assert_eq!(s.report(keyed(record("b", &[("y", 1)]), "k")).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "y"), 1);
}

async fn reset(s: &Stage) {
    let start = s.now();
    let mut args = ten_five();
    args.reset_interval_ms = Some(60_000);
    s.create_budget(args).await;
    s.report(record("b", &[("t", 6)])).await;
    s.report(record("b", &[("t", 5), ("x", 1)])).await;
    s.advance(10);
    let args = ResetBudgetArgs::builder().budget_id(budget_id("b")).by("ops").dedup_key("k").build();
    let first = s.backend.reset_budget(args.clone()).await;
    let expected =
        ResetBudgetResult { reset_count: 1, last_reset_at: start.after(10), next_reset_at: Some(start.after(60_000)) };
    assert_eq!(first, Ok(expected));
    let status = s.budget("b").await;
    assert_eq!(
        status.dimensions.iter().map(|(n, d)| (n.to_string(), d.usage)).collect::<Vec<_>>(),
        [("t".to_owned(), 0)]
    );
    assert_eq!((exhausted(&status), status.retry_at, status.retry_after_ms), (None, None, None));
    assert_eq!((status.hard_breach_count, status.soft_breach_count), (1, 1));
    assert_eq!((status.last_breach_at, status.last_breach_dimension), (Some(start), Some(dimension("t"))));
    assert_eq!((status.reset_count, status.last_reset_by.as_deref()), (1, Some("ops")));
    assert_eq!((status.last_reset_at, status.next_reset_at), (Some(start.after(10)), Some(start.after(60_000))));
    assert_eq!(status.reset_interval_ms, Some(60_000));

    s.report(record("b", &[("t", 3)])).await;
    s.advance(10);
    match s.changes_nothing(args.clone()).await {
        Outcome::ResetBudget(answer) => assert_eq!(answer, expected),
        other => panic!("{other:?}"),
    }
    assert_eq!(used(&s.budget("b").await, "t"), 3, "it was reset twice");
    let mut other = args.clone();
    other.by = "somebody else".to_owned();
    s.refused_with(Code::DedupKeyConflict, other).await;
    // Without a key it is another reset; the key is remembered for 24 h.
    assert_eq!(s.reset_budget("b").await.reset_count, 2);
    s.set(start.after(10 + 86_399_999));
    match s.changes_nothing(args.clone()).await {
        Outcome::ResetBudget(answer) => assert_eq!(answer, expected),
        other => panic!("{other:?}"),
    }
    s.advance(1);
    let again = s.backend.reset_budget(args).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.reset_count, 2 + 1_440 + 1, "1440 minutes came due, and this one");
    assert_eq!(again.last_reset_at, start.after(10 + 86_400_000));
    assert_eq!(again.next_reset_at, Some(start.after(86_400_000 + 60_000)));
    let missing = ResetBudgetArgs::builder().budget_id(budget_id("nowhere")).by("ops").build();
    s.refused_with(Code::BudgetNotFound, missing).await;
}

async fn key_scopes(s: &Stage) {
    s.create_budget(ten_five()).await;
    let reset = ResetBudgetArgs::builder().budget_id(budget_id("b")).by("ops").dedup_key("k").build();
    s.report(keyed(record("b", &[("t", 3)]), "k")).await;
    let answer = s.backend.reset_budget(reset.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((answer.reset_count, answer.next_reset_at), (1, None));
    assert_eq!(used(&s.budget("b").await, "t"), 0);
    // And each is still remembered under its own.
    s.changes_nothing(keyed(record("b", &[("t", 3)]), "k")).await;
    s.changes_nothing(reset).await;
    assert_eq!(used(&s.budget("b").await, "t"), 0);
}

async fn late_look(s: &Stage) {
    let start = s.now();
    let mut args = ten_five();
    args.reset_interval_ms = Some(300_000);
    s.create_budget(args).await;
    s.report(record("b", &[("t", 10), ("x", 1)])).await;
    s.advance(390_000);
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.last_reset_at), (1, Some(start.after(300_000))));
    assert_eq!((status.next_reset_at, status.last_reset_by.clone()), (Some(start.after(600_000)), None));
    assert_eq!((used(&status, "t"), status.dimensions.len(), exhausted(&status)), (0, 1, None));
    // A write stores the same; a manual reset before the next one is forgotten as who made it, not in the count.
    s.report(record("b", &[("t", 1)])).await;
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.last_reset_at), (1, Some(start.after(300_000))));
    assert_eq!((status.next_reset_at, used(&status, "t")), (Some(start.after(600_000)), 1));
    s.reset_budget("b").await;
    assert_eq!(s.budget("b").await.last_reset_by.as_deref(), Some("ops"));
    s.advance(300_000);
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.last_reset_at), (3, Some(start.after(600_000))));
    assert_eq!((status.next_reset_at, status.last_reset_by), (Some(start.after(900_000)), None));
}

async fn three_intervals(s: &Stage) {
    let start = s.now();
    let ids = ["unseen", "read", "written", "refused", "replayed"];
    for id in ids {
        let mut args = budget(id, &[("t", limits(10, 5))]);
        args.reset_interval_ms = Some(60_000);
        s.create_budget(args).await;
        s.report(keyed(record(id, &[("t", 3)]), "k")).await;
        assert_eq!(s.reset_budget(id).await.reset_count, 1);
    }
    for _ in 0..3 {
        s.advance(60_005);
        s.budget("read").await;
        s.report(record("written", &[("t", 1)])).await;
        s.refused_with(Code::DedupKeyConflict, keyed(record("refused", &[("t", 4)]), "k")).await;
        s.changes_nothing(keyed(record("replayed", &[("t", 3)]), "k")).await;
    }
    for id in ids {
        let status = s.budget(id).await;
        assert_eq!(status.reset_count, 4, "{id}");
        assert_eq!(status.last_reset_at, Some(start.after(180_000)), "{id}");
        assert_eq!(status.next_reset_at, Some(start.after(240_000)), "{id}");
        assert_eq!(used(&status, "t"), u64::from(id == "written"), "{id}");
    }
}

async fn due_instant(s: &Stage) {
    let start = s.now();
    let mut args = ten_five();
    args.reset_interval_ms = Some(1_000);
    s.create_budget(args).await;
    s.report(record("b", &[("t", 10)])).await;
    s.advance(999);
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.last_reset_at, used(&status, "t")), (0, None, 10));
    assert_eq!((exhausted(&status), status.next_reset_at), (Some((start, "t")), Some(start.after(1_000))));
    assert_eq!(s.report(reserve("b", &[("t", 1)])).await, hard_breach("t", 10, 10));
    s.advance(1);
    let status = s.budget("b").await;
    assert_eq!((status.reset_count, status.last_reset_at), (1, Some(start.after(1_000))));
    assert_eq!((used(&status, "t"), exhausted(&status)), (0, None));
    assert_eq!(status.next_reset_at, Some(start.after(2_000)));
    assert_eq!(s.report(reserve("b", &[("t", 1)])).await, ReportUsageResult::Ok);
    assert_eq!(used(&s.budget("b").await, "t"), 1);
}

async fn retry_at(s: &Stage) {
    let start = s.now();
    let with = |id, enforcement, reset_interval_ms| {
        let mut args = budget(id, &[("t", Limits::hard(10))]);
        (args.enforcement, args.reset_interval_ms) = (enforcement, reset_interval_ms);
        args
    };
    s.create_budget(with("advisory", Enforcement::Advisory, Some(100_000))).await;
    s.create_budget(with("lifetime", Enforcement::Strict, None)).await;
    s.create_budget(with("soon", Enforcement::Strict, Some(100_000))).await;
    s.create_budget(with("late", Enforcement::Strict, Some(400_000))).await;
    let ids = ["advisory", "lifetime", "soon", "late"];
    for id in ids {
        s.report(record(id, &[("t", 9)])).await;
        let status = s.budget(id).await;
        assert_eq!((status.retry_at, status.retry_after_ms), (None, None), "{id} is not exhausted");
        s.report(record(id, &[("t", 1)])).await;
    }
    let told = async |id| {
        let status = s.budget(id).await;
        assert_eq!(status.retry_after_ms, status.retry_at.map(|at| at.since(s.now())), "{id}");
        status.retry_at
    };
    s.advance(60_000);
    assert_eq!(exhausted(&s.budget("advisory").await), Some((start, "t")));
    assert_eq!(told("advisory").await, None);
    assert_eq!(told("lifetime").await, Some(start.after(360_000)));
    assert_eq!(told("soon").await, Some(start.after(100_000)));
    assert_eq!(told("late").await, Some(start.after(360_000)));
    s.advance(39_999);
    assert_eq!(told("soon").await, Some(start.after(100_000)));
    assert_eq!(told("late").await, Some(start.after(399_999)));
    s.advance(1);
    assert_eq!(told("soon").await, None, "reset");
    assert_eq!(told("late").await, Some(start.after(400_000)));
    s.advance(1);
    assert_eq!(told("late").await, Some(start.after(400_000)));
    assert_eq!(told("lifetime").await, Some(start.after(400_001)));
}
