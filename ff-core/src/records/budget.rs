//! Budget: `resources.md`, sections 1 and 6.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contracts::{Enforcement, Limits};
use crate::ids::{BudgetId, Dimension};
use crate::time::TimestampMs;

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
