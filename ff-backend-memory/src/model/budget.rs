//! One budget: its record, and the reports and resets that it remembers by key.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{DEDUP_WINDOW_MS, ReportUsageResult, ResetBudgetResult};
use ff_core::records::{BudgetRecord, UsageContent};
use ff_core::time::TimestampMs;

/// A call that is remembered by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<C, R> {
    /// When it was made.
    pub recorded_at: TimestampMs,
    /// What it said.
    pub content: C,
    /// What it was answered.
    pub result: R,
}

/// Calls by key. What has lapsed is out of sight at once, and goes a bounded number at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory<C, R> {
    pub(crate) by_key: BTreeMap<String, Remembered<C, R>>,
    pub(crate) by_age: BTreeSet<(TimestampMs, String)>,
}

impl<C, R> Default for Memory<C, R> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_age: BTreeSet::new() }
    }
}

impl<C, R> Memory<C, R> {
    /// How many lapsed keys one call removes: more than the one that it may add, so that a memory in use shrinks to what
    /// is in force.
    pub const FORGOTTEN_PER_CALL: usize = 16;

    fn lapsed(recorded_at: TimestampMs, now: TimestampMs) -> bool {
        recorded_at.after(DEDUP_WINDOW_MS) <= now
    }

    /// The call with this key, unless it has lapsed.
    #[must_use]
    pub fn recall(&self, key: &str, now: TimestampMs) -> Option<&Remembered<C, R>> {
        self.by_key.get(key).filter(|known| !Self::lapsed(known.recorded_at, now))
    }

    /// Every key that is stored, lapsed ones too, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Remembered<C, R>)> {
        self.by_key.iter().map(|(key, known)| (key.as_str(), known))
    }

    /// Remembers a call made now; what its key stood for has lapsed.
    pub(crate) fn remember(&mut self, key: &str, now: TimestampMs, content: C, result: R) {
        let call = Remembered { recorded_at: now, content, result };
        if let Some(replaced) = self.by_key.insert(key.to_owned(), call) {
            self.by_age.remove(&(replaced.recorded_at, key.to_owned()));
        }
        self.by_age.insert((now, key.to_owned()));
    }

    /// Removes the oldest of what has lapsed, at most [`Self::FORGOTTEN_PER_CALL`].
    pub(crate) fn forget_lapsed(&mut self, now: TimestampMs) {
        for _ in 0..Self::FORGOTTEN_PER_CALL {
            let Some(oldest) = self.by_age.pop_first() else { return };
            if !Self::lapsed(oldest.0, now) {
                self.by_age.insert(oldest);
                return;
            }
            self.by_key.remove(&oldest.1);
        }
    }
}

/// One budget, a partition of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its record, as stored: resets that have come due since the last write are not in it.
    pub record: BudgetRecord,
    /// Reports by dedup key.
    pub reports: Memory<UsageContent, ReportUsageResult>,
    /// Resets by dedup key, with who asked.
    pub resets: Memory<String, ResetBudgetResult>,
}

impl Budget {
    /// A budget that remembers nothing.
    pub(crate) fn new(record: BudgetRecord) -> Self {
        Self { record, reports: Memory::default(), resets: Memory::default() }
    }
}
