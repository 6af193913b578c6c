//! Budget: `resources.md`, sections 1 and 6.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contracts::{CreateBudgetArgs, Enforcement, Limits};
use crate::ids::{BudgetId, Dimension};
use crate::time::{MAX_SAFE_INTEGER, TimestampMs};

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
