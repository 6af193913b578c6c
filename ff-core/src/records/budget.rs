//! Budget: `resources.md`, sections 1 and 6.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bounds::MAX_NAME_BYTES;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::contracts::{
    CreateBudgetArgs, DEDUP_WINDOW_MS, Enforcement, Limits, MAX_DIMENSIONS, ReportMode, ReportUsageResult,
    ResetBudgetResult,
};
use crate::ids::{BudgetId, Dimension};
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer, read_json, read_list, read_number, write_json};
use crate::time::{MAX_DURATION_MS, MAX_SAFE_INTEGER, TimestampMs};
use crate::word_enum;

/// The schedule of a budget that resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetSchedule {
    /// The interval in milliseconds.
    pub interval_ms: u64,
    /// The next reset.
    pub next_at: TimestampMs,
}

/// Something that happened to one dimension at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionMark {
    /// When.
    pub at: TimestampMs,
    /// The dimension.
    pub dimension: Dimension,
}

/// Counters with limits. Its definition never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// Its id.
    pub budget_id: BudgetId,
    /// Whether exhaustion denies admission.
    pub enforcement: Enforcement,
    /// When it was created.
    pub created_at: TimestampMs,
    /// The declared dimensions and their limits.
    pub dimensions: BTreeMap<Dimension, Limits>,
    /// Usage; a dimension without usage is absent.
    pub usage: BTreeMap<Dimension, u64>,
    /// Its schedule, if it resets.
    pub schedule: Option<ResetSchedule>,
    /// The last reset.
    pub last_reset_at: Option<TimestampMs>,
    /// Who asked for it; none if it was due.
    pub last_reset_by: Option<String>,
    /// Resets so far.
    pub reset_count: u64,
    /// Hard breaches so far.
    pub hard_breach_count: u64,
    /// Soft breaches so far.
    pub soft_breach_count: u64,
    /// The last hard breach.
    pub last_breach: Option<DimensionMark>,
    /// Exhausted since; cleared by a reset only.
    pub exhausted: Option<DimensionMark>,
}

impl BudgetRecord {
    /// The usage of a dimension.
    #[must_use]
    pub fn usage_of(&self, dimension: &Dimension) -> u64 {
        self.usage.get(dimension).copied().unwrap_or_default()
    }

    /// Whether it denies admission: strict and exhausted.
    #[must_use]
    pub fn denies_admission(&self) -> bool {
        self.enforcement == Enforcement::Strict && self.exhausted.is_some()
    }

    /// Whether a creation asks for this very definition.
    #[must_use]
    pub fn is_defined_by(&self, args: &CreateBudgetArgs) -> bool {
        self.dimensions == args.dimensions
            && self.enforcement == args.enforcement
            && self.schedule.map(|s| s.interval_ms) == args.reset_interval_ms
    }

    /// The due rule: the budget as of `now`. Every reset that has come due since is counted, whoever looked in
    /// between; boundaries stay at `created_at + n * reset_interval_ms`. Borrowed when nothing was due.
    #[must_use]
    pub fn as_of(&self, now: TimestampMs) -> Cow<'_, Self> {
        match self.schedule {
            Some(schedule) if schedule.next_at <= now => {
                let interval = schedule.interval_ms.max(1);
                let missed = now.since(schedule.next_at) / interval;
                let last = schedule.next_at.after(missed * interval);
                Cow::Owned(Self {
                    usage: BTreeMap::new(),
                    exhausted: None,
                    last_reset_at: Some(last),
                    last_reset_by: None,
                    reset_count: self.reset_count.saturating_add(missed + 1).min(MAX_SAFE_INTEGER),
                    schedule: Some(ResetSchedule { interval_ms: schedule.interval_ms, next_at: last.after(interval) }),
                    ..self.clone()
                })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

const HARD: &str = "hard:";
const SOFT: &str = "soft:";
const USAGE: &str = "usage:";

/// A number from 1 on: limits and usages are never stored as 0.
fn read_positive(bytes: &[u8]) -> Result<u64, DecodeCause> {
    match read_number(bytes)? {
        0 => Err(DecodeCause::OutOfRange),
        n => Ok(n),
    }
}

/// The `<prefix><dimension>` fields, each a number from 1 on.
fn read_dimensions(reader: &Reader<'_>, prefix: &'static str) -> Result<BTreeMap<Dimension, u64>, DecodeError> {
    reader
        .prefixed(prefix)
        .map(|(key, bytes)| {
            let fail = |cause| reader.fail(&format!("{prefix}{key}"), cause);
            let dimension = Dimension::read(key.as_bytes()).map_err(fail)?;
            Ok((dimension, read_positive(bytes).map_err(fail)?))
        })
        .collect()
}

fn read_declared(bytes: &[u8]) -> Result<Vec<Dimension>, DecodeCause> {
    let names = read_list(bytes, true)?;
    if names.len() > MAX_DIMENSIONS {
        return Err(DecodeCause::OutOfRange);
    }
    names.into_iter().map(|name| Dimension::read(name.as_bytes())).collect()
}

impl BudgetRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "budget",
        fields: &[
            "budget_id",
            "enforcement",
            "created_at",
            "dimensions",
            "reset_count",
            "hard_breach_count",
            "soft_breach_count",
            "last_reset_at",
            "last_reset_by",
            "reset_interval_ms",
            "next_reset_at",
            "last_breach_at",
            "last_breach_dimension",
            "exhausted_at",
            "exhausted_dimension",
        ],
        prefixes: &[HARD, SOFT, USAGE],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let declared = self.dimensions.keys().map(Dimension::as_str).collect::<Vec<_>>().join(",");
        let mut out = Writer::new();
        out.put("budget_id", &self.budget_id)
            .put("enforcement", &self.enforcement)
            .put("created_at", &self.created_at)
            .text("dimensions", &declared)
            .put("reset_count", &self.reset_count)
            .put("hard_breach_count", &self.hard_breach_count)
            .put("soft_breach_count", &self.soft_breach_count);
        for (dimension, limits) in &self.dimensions {
            out.put_opt(&format!("{HARD}{dimension}"), limits.hard.as_ref())
                .put_opt(&format!("{SOFT}{dimension}"), limits.soft.as_ref());
        }
        for (dimension, usage) in self.usage.iter().filter(|(_, usage)| **usage > 0) {
            out.put(&format!("{USAGE}{dimension}"), usage);
        }
        out.put_opt("last_reset_at", self.last_reset_at.as_ref())
            .text_opt("last_reset_by", self.last_reset_by.as_deref());
        if let Some(schedule) = &self.schedule {
            out.put("reset_interval_ms", &schedule.interval_ms).put("next_reset_at", &schedule.next_at);
        }
        for (at, dimension, mark) in [
            ("last_breach_at", "last_breach_dimension", &self.last_breach),
            ("exhausted_at", "exhausted_dimension", &self.exhausted),
        ] {
            if let Some(mark) = mark {
                out.put(at, &mark.at).put(dimension, &mark.dimension);
            }
        }
        out.finish()
    }

    /// Reads the flat form of this budget. No due rule is applied.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(budget_id: &BudgetId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        let own: BudgetId = reader.get("budget_id")?;
        reader.same_id(own == *budget_id, "budget_id")?;
        let enforcement = reader.get("enforcement")?;
        let created_at = reader.get("created_at")?;
        let mut dimensions: BTreeMap<_, _> =
            reader.with("dimensions", read_declared)?.into_iter().map(|d| (d, Limits::default())).collect();
        let reset_count = reader.get("reset_count")?;
        let hard_breach_count = reader.get("hard_breach_count")?;
        let soft_breach_count = reader.get("soft_breach_count")?;
        let hard = read_dimensions(&reader, HARD)?;
        let soft = read_dimensions(&reader, SOFT)?;
        let usage = read_dimensions(&reader, USAGE)?;
        let last_reset_at = reader.get_opt("last_reset_at")?;
        let last_reset_by = reader.text_opt("last_reset_by", 1, MAX_NAME_BYTES)?;
        let schedule = reader.group(&["reset_interval_ms", "next_reset_at"])?.then(|| {
            let interval = |bytes: &[u8]| match read_number(bytes)? {
                ms @ 1_000..=MAX_DURATION_MS => Ok(ms),
                _ => Err(DecodeCause::OutOfRange),
            };
            Ok(ResetSchedule {
                interval_ms: reader.with("reset_interval_ms", interval)?,
                next_at: reader.get("next_reset_at")?,
            })
        });
        let schedule = schedule.transpose()?;
        let mark = |at, dimension| {
            reader
                .group(&[at, dimension])?
                .then(|| Ok(DimensionMark { at: reader.get(at)?, dimension: reader.get(dimension)? }))
                .transpose()
        };
        let last_breach = mark("last_breach_at", "last_breach_dimension")?;
        let exhausted = mark("exhausted_at", "exhausted_dimension")?;

        for (prefix, limits) in [(HARD, &hard), (SOFT, &soft)] {
            for (dimension, &limit) in limits {
                let field = || format!("{prefix}{dimension}");
                let declared = dimensions.get_mut(dimension);
                let declared = declared.ok_or_else(|| reader.fail(&field(), DecodeCause::IllegalState))?;
                if prefix == HARD {
                    declared.hard = Some(limit);
                } else {
                    declared.soft = Some(limit);
                    reader.ensure(declared.hard.is_none_or(|hard| limit <= hard), &field())?;
                }
            }
        }
        if let Some(surplus) = usage.keys().filter(|d| !dimensions.contains_key(*d)).nth(MAX_DIMENSIONS) {
            return Err(reader.fail(&format!("{USAGE}{surplus}"), DecodeCause::IllegalState));
        }
        reader.ensure(last_reset_by.is_none() || last_reset_at.is_some(), "last_reset_by")?;
        Ok(Self {
            budget_id: own,
            enforcement,
            created_at,
            dimensions,
            usage,
            schedule,
            last_reset_at,
            last_reset_by,
            reset_count,
            hard_breach_count,
            soft_breach_count,
            last_breach,
            exhausted,
        })
    }
}

word_enum! {
    /// Where a budget's dedup key is unique: the two scopes do not meet.
    pub enum BudgetKeyScope {
        /// Among usage reports.
        Usage = "usage",
        /// Among resets.
        Reset = "reset",
    }
}

/// A call that is remembered with its first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RememberedCall {
    /// A usage report.
    Usage {
        /// Its content: mode and merged amounts.
        content: UsageContent,
        /// Its answer.
        result: ReportUsageResult,
    },
    /// A reset.
    Reset {
        /// Its content: who asked.
        by: String,
        /// Its answer.
        result: ResetBudgetResult,
    },
}

/// What a repeated usage report must have in common with the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageContent {
    /// Its mode.
    pub mode: ReportMode,
    /// Its amounts, entries of one dimension added up.
    pub amounts: BTreeMap<Dimension, u64>,
}

impl UsageContent {
    /// Its one text, which stores may compare byte by byte.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        write_json(self)
    }
}

/// A dedup key of a budget, kept beside it per (scope, key), through resets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetKeyRecord {
    /// When the first call was made.
    pub recorded_at: TimestampMs,
    /// The call and its answer.
    pub call: RememberedCall,
}

impl BudgetKeyRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry =
        Registry { record: "budget_key", fields: &["recorded_at", "content", "result"], prefixes: &[] };

    /// Whether the key is in force: for 24 h less a millisecond.
    #[must_use]
    pub fn is_remembered(&self, now: TimestampMs) -> bool {
        now < self.recorded_at.after(DEDUP_WINDOW_MS)
    }

    /// The scope that it belongs to.
    #[must_use]
    pub const fn scope(&self) -> BudgetKeyScope {
        match self.call {
            RememberedCall::Usage { .. } => BudgetKeyScope::Usage,
            RememberedCall::Reset { .. } => BudgetKeyScope::Reset,
        }
    }

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("recorded_at", &self.recorded_at);
        match &self.call {
            RememberedCall::Usage { content, result } => {
                out.raw("content", content.to_json()).raw("result", write_json(result))
            }
            RememberedCall::Reset { by, result } => out.text("content", by).raw("result", write_json(result)),
        };
        out.finish()
    }

    /// Reads the flat form of a key of this scope.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(scope: BudgetKeyScope, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        let recorded_at = reader.get("recorded_at")?;
        let call = match scope {
            BudgetKeyScope::Usage => RememberedCall::Usage {
                content: reader.with("content", read_usage_content)?,
                result: reader.with("result", read_usage_result)?,
            },
            BudgetKeyScope::Reset => RememberedCall::Reset {
                by: reader.text("content", 1, MAX_NAME_BYTES)?,
                result: reader.with("result", read_reset_result)?,
            },
        };
        Ok(Self { recorded_at, call })
    }
}

fn read_usage_content(bytes: &[u8]) -> Result<UsageContent, DecodeCause> {
    let content: UsageContent = read_json(bytes)?;
    let within = (1..=MAX_DIMENSIONS).contains(&content.amounts.len())
        && content.amounts.values().all(|amount| *amount <= MAX_SAFE_INTEGER);
    if within { Ok(content) } else { Err(DecodeCause::BadPolicy) }
}

fn read_usage_result(bytes: &[u8]) -> Result<ReportUsageResult, DecodeCause> {
    let result: ReportUsageResult = read_json(bytes)?;
    match result {
        ReportUsageResult::SoftBreach { usage, soft_limit: limit, .. }
        | ReportUsageResult::HardBreach { usage, hard_limit: limit, .. }
            if usage > MAX_SAFE_INTEGER || !(1..=MAX_SAFE_INTEGER).contains(&limit) =>
        {
            Err(DecodeCause::BadPolicy)
        }
        _ => Ok(result),
    }
}

fn read_reset_result(bytes: &[u8]) -> Result<ResetBudgetResult, DecodeCause> {
    let result: ResetBudgetResult = read_json(bytes)?;
    if result.reset_count <= MAX_SAFE_INTEGER { Ok(result) } else { Err(DecodeCause::BadPolicy) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contracts::BudgetStatus;
    use crate::contracts::decode::{decode_budget, decode_budget_key};
    use crate::records::testing::{Damage, cause, damage, damaged, decodes_or_tells, dimension, instant, name, number};

    fn limits() -> impl Strategy<Value = Limits> {
        let pair = (1..=MAX_SAFE_INTEGER, 1..=MAX_SAFE_INTEGER);
        (proptest::option::of(pair), any::<[bool; 2]>()).prop_map(|(pair, [with_hard, with_soft])| match pair {
            Some((a, b)) => Limits { hard: with_hard.then_some(a.max(b)), soft: with_soft.then_some(a.min(b)) },
            None => Limits::default(),
        })
    }

    fn mark() -> impl Strategy<Value = Option<DimensionMark>> {
        proptest::option::of((instant(), dimension()).prop_map(|(at, dimension)| DimensionMark { at, dimension }))
    }

    fn usage() -> impl Strategy<Value = BTreeMap<Dimension, u64>> {
        proptest::collection::btree_map(dimension(), 1..=MAX_SAFE_INTEGER, 0..6)
    }

    fn budget() -> impl Strategy<Value = BudgetRecord> {
        let id = "[A-Za-z0-9._:/-]{1,128}".prop_map(|text| BudgetId::new(text).expect("of its charset"));
        let definition = (
            id,
            proptest::sample::select(Enforcement::ALL),
            instant(),
            proptest::collection::btree_map(dimension(), limits(), 1..6),
        );
        let schedule = proptest::option::of(
            (1_000..=MAX_DURATION_MS, instant())
                .prop_map(|(interval_ms, next_at)| ResetSchedule { interval_ms, next_at }),
        );
        let reset = proptest::option::of((instant(), proptest::option::of(name())));
        let counts = (number(), number(), number());
        (definition, usage(), schedule, reset, counts, mark(), mark()).prop_map(
            |(definition, usage, schedule, reset, counts, last_breach, exhausted)| {
                let (budget_id, enforcement, created_at, dimensions) = definition;
                let (reset_count, hard_breach_count, soft_breach_count) = counts;
                BudgetRecord {
                    budget_id,
                    enforcement,
                    created_at,
                    dimensions,
                    usage,
                    schedule,
                    last_reset_at: reset.as_ref().map(|(at, _)| *at),
                    last_reset_by: reset.and_then(|(_, by)| by),
                    reset_count,
                    hard_breach_count,
                    soft_breach_count,
                    last_breach,
                    exhausted,
                }
            },
        )
    }

    fn remembered() -> impl Strategy<Value = BudgetKeyRecord> {
        let amounts = proptest::collection::btree_map(dimension(), number(), 1..5);
        let content = (proptest::sample::select(ReportMode::ALL), amounts)
            .prop_map(|(mode, amounts)| UsageContent { mode, amounts });
        let result =
            (0_u8..3, dimension(), number(), 1..=MAX_SAFE_INTEGER).prop_map(|(which, dimension, usage, limit)| {
                match which {
                    0 => ReportUsageResult::Ok,
                    1 => ReportUsageResult::SoftBreach { dimension, usage, soft_limit: limit },
                    _ => ReportUsageResult::HardBreach { dimension, usage, hard_limit: limit },
                }
            });
        let reset = (number(), instant(), proptest::option::of(instant())).prop_map(
            |(reset_count, last_reset_at, next_reset_at)| ResetBudgetResult {
                reset_count,
                last_reset_at,
                next_reset_at,
            },
        );
        let call = prop_oneof![
            (content, result).prop_map(|(content, result)| RememberedCall::Usage { content, result }),
            (name(), reset).prop_map(|(by, result)| RememberedCall::Reset { by, result }),
        ];
        (instant(), call).prop_map(|(recorded_at, call)| BudgetKeyRecord { recorded_at, call })
    }

    proptest! {
        #[test]
        fn budgets_survive_their_flat_form(budget in budget()) {
            prop_assert_eq!(decode_budget(&budget.budget_id, &budget.encode()), Ok(budget));
        }

        #[test]
        fn damaged_budgets_decode_or_tell(budget in budget(), damage in damage()) {
            let map = damaged(budget.encode(), &damage);
            decodes_or_tells(&map, decode_budget(&budget.budget_id, &map), BudgetRecord::encode);
        }

        #[test]
        fn remembered_keys_survive_their_flat_form(key in remembered()) {
            prop_assert_eq!(decode_budget_key(key.scope(), &key.encode()), Ok(key));
        }

        #[test]
        fn damaged_keys_decode_or_tell(key in remembered(), damage in damage(), scope in 0_usize..2) {
            let map = damaged(key.encode(), &damage);
            decodes_or_tells(&map, decode_budget_key(BudgetKeyScope::ALL[scope], &map), BudgetKeyRecord::encode);
        }

        /// Whoever looks in between, the budget of a later instant is the same.
        #[test]
        fn the_due_rule_does_not_depend_on_who_looked(budget in budget(), a in instant(), b in instant()) {
            let (early, late) = (a.min(b), a.max(b));
            // At the last instant a schedule saturates and is due for ever; nothing real gets there.
            prop_assume!(late < TimestampMs::MAX && budget.reset_count < MAX_SAFE_INTEGER / 2);
            let by_steps = budget.as_of(early).as_of(late).into_owned();
            let at_once = budget.as_of(late).into_owned();
            prop_assert_eq!(&by_steps, &at_once);
            if let (Some(before), Some(after)) = (budget.schedule, at_once.schedule) {
                prop_assert!(after.next_at > late);
                if after.next_at < TimestampMs::MAX {
                    prop_assert_eq!(after.next_at.since(before.next_at) % before.interval_ms, 0);
                }
                if at_once.reset_count > budget.reset_count {
                    prop_assert!(at_once.usage.is_empty() && at_once.exhausted.is_none());
                    prop_assert!(at_once.last_reset_at.is_some_and(|at| at <= late));
                }
            }
        }
    }

    fn plain() -> BudgetRecord {
        let dimension: Dimension = "t".parse().expect("well formed");
        BudgetRecord {
            budget_id: "b".parse().expect("well formed"),
            enforcement: Enforcement::Strict,
            created_at: TimestampMs::saturating(1_000),
            dimensions: BTreeMap::from([(dimension.clone(), Limits { hard: Some(10), soft: Some(5) })]),
            usage: BTreeMap::from([(dimension.clone(), 12), ("other".parse().expect("well formed"), 3)]),
            schedule: Some(ResetSchedule { interval_ms: 60_000, next_at: TimestampMs::saturating(61_000) }),
            last_reset_at: None,
            last_reset_by: None,
            reset_count: 0,
            hard_breach_count: 1,
            soft_breach_count: 0,
            last_breach: Some(DimensionMark { at: TimestampMs::saturating(2_000), dimension: dimension.clone() }),
            exhausted: Some(DimensionMark { at: TimestampMs::saturating(2_000), dimension }),
        }
    }

    #[test]
    fn at_the_due_instant_the_reset_has_happened_and_one_ms_before_it_has_not() {
        let budget = plain();
        assert_eq!(*budget.as_of(TimestampMs::saturating(60_999)), budget);
        let due = budget.as_of(TimestampMs::saturating(61_000));
        assert_eq!((due.reset_count, due.last_reset_at), (1, Some(TimestampMs::saturating(61_000))));
        assert_eq!(due.schedule.map(|s| s.next_at.as_millis()), Some(121_000));
        assert!(due.usage.is_empty() && due.exhausted.is_none() && due.last_breach.is_some());
        let late = budget.as_of(TimestampMs::saturating(61_000 + 150_000));
        assert_eq!((late.reset_count, late.last_reset_at), (3, Some(TimestampMs::saturating(181_000))));
        assert_eq!(late.schedule.map(|s| s.next_at.as_millis()), Some(241_000));
    }

    #[test]
    fn a_status_shows_what_is_left_and_when_to_ask_again() {
        let mut budget = plain();
        let status = BudgetStatus::of(&budget, TimestampMs::saturating(3_000));
        let t = &status.dimensions[&"t".parse().expect("well formed")];
        assert_eq!((t.usage, t.hard, t.soft, t.remaining), (12, Some(10), Some(5), Some(0)));
        let other = &status.dimensions[&"other".parse().expect("well formed")];
        assert_eq!((other.usage, other.hard, other.remaining), (3, None, None));
        assert_eq!((status.retry_at, status.retry_after_ms), (Some(TimestampMs::saturating(61_000)), Some(58_000)));

        budget.schedule = None;
        let status = BudgetStatus::of(&budget, TimestampMs::saturating(3_000));
        assert_eq!(status.retry_after_ms, Some(300_000));
        budget.enforcement = Enforcement::Advisory;
        let status = BudgetStatus::of(&budget, TimestampMs::saturating(3_000));
        assert_eq!((status.retry_at, status.exhausted_at), (None, Some(TimestampMs::saturating(2_000))));
    }

    #[test]
    fn broken_budgets_are_told_apart() {
        let with = |name: &str, value: &str| {
            let map =
                damaged(plain().encode(), &[Damage::Add(name.to_owned(), Bytes::copy_from_slice(value.as_bytes()))]);
            cause(decode_budget(&plain().budget_id, &map))
        };
        let without = |name: &str| {
            let mut map = plain().encode();
            map.remove(name).expect("was there");
            cause(decode_budget(&plain().budget_id, &map))
        };
        for bad in ["abc", "1.0", "+1", "01", ""] {
            assert_eq!(with("usage:t", bad), ("usage:t".into(), DecodeCause::NotANumber), "{bad:?}");
        }
        assert_eq!(with("usage:t", "9007199254740992").1, DecodeCause::OutOfRange);
        assert_eq!(with("usage:t", "0").1, DecodeCause::OutOfRange);
        assert_eq!(with("usage:a b", "1"), ("usage:a b".into(), DecodeCause::BadId));
        assert_eq!(with("hard:x", "1"), ("hard:x".into(), DecodeCause::IllegalState));
        assert_eq!(with("soft:t", "11"), ("soft:t".into(), DecodeCause::IllegalState));
        assert_eq!(with("last_reset_by", "me"), ("last_reset_by".into(), DecodeCause::IllegalState));
        assert_eq!(with("dimensions", "t,a"), ("dimensions".into(), DecodeCause::BadList));
        assert_eq!(with("budget_id", "c"), ("budget_id".into(), DecodeCause::IdMismatch));
        assert_eq!(with("enforcement", "lax"), ("enforcement".into(), DecodeCause::UnknownValue));
        assert_eq!(with("reset_interval_ms", "999"), ("reset_interval_ms".into(), DecodeCause::OutOfRange));
        assert_eq!(with("surprise", "1"), ("surprise".into(), DecodeCause::UnknownField));
        assert_eq!(with("v", "2.0"), ("v".into(), DecodeCause::UnsupportedVersion));
        assert_eq!(without("next_reset_at"), ("next_reset_at".into(), DecodeCause::IncompleteGroup));
        assert_eq!(without("exhausted_at"), ("exhausted_at".into(), DecodeCause::IncompleteGroup));
        assert_eq!(without("created_at"), ("created_at".into(), DecodeCause::Missing));
        assert_eq!(cause(decode_budget(&plain().budget_id, &FlatMap::new())), ("v".into(), DecodeCause::Missing));
    }

    #[test]
    fn a_key_is_remembered_for_a_day_less_a_millisecond() {
        let key = BudgetKeyRecord {
            recorded_at: TimestampMs::saturating(5),
            call: RememberedCall::Reset {
                by: "me".into(),
                result: ResetBudgetResult {
                    reset_count: 1,
                    last_reset_at: TimestampMs::saturating(5),
                    next_reset_at: None,
                },
            },
        };
        assert!(key.is_remembered(TimestampMs::saturating(86_400_004)));
        assert!(!key.is_remembered(TimestampMs::saturating(86_400_005)));
    }

    #[test]
    fn the_stored_text_of_a_report_has_one_form() {
        let content = UsageContent {
            mode: ReportMode::Reserve,
            amounts: BTreeMap::from([("b".parse().expect("well formed"), 2), ("a".parse().expect("well formed"), 1)]),
        };
        assert_eq!(content.to_json(), r#"{"mode":"reserve","amounts":{"a":1,"b":2}}"#);
        for bad in [
            r#"{"mode":"reserve","amounts":{"b":2,"a":1}}"#,
            r#"{"mode":"reserve","amounts":{"a":1,"a":1}}"#,
            r#"{"mode":"reserve","amounts":{}}"#,
            r#"{"mode":"reserve","amounts":{"a":9007199254740992}}"#,
            r#"{"amounts":{"a":1},"mode":"reserve"}"#,
            r#"{"mode":"reserve", "amounts":{"a":1}}"#,
            r#"{"mode":"reserve","amounts":{"a":1},"x":1}"#,
        ] {
            assert_eq!(read_usage_content(bad.as_bytes()), Err(DecodeCause::BadPolicy), "{bad}");
        }
    }
}
