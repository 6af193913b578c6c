//! How the store is, and how the background work of this process goes.

use ff_core::engine_backend::{Durability, Health};
use ff_core::error::EngineError;
use ff_core::time::{Clock, SystemClock, TimestampMs};

use crate::maintenance::Swept;

/// What [`Engine::health`](crate::Engine::health) answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineHealth {
    /// What the backend says of itself.
    pub store: Health,
    /// The background work, as far as this process does it.
    pub maintenance: MaintenanceHealth,
    /// How long something has been due that this process knows of and that was not done yet, in milliseconds. 0 is as it
    /// should be; a growing number means that nobody sweeps.
    pub lag_ms: u64,
    /// What an operator should know, one line each: the store's warnings, and those of the background work.
    pub warnings: Vec<String>,
}

impl EngineHealth {
    pub(crate) fn new(store: Health, maintenance: MaintenanceHealth, next_due_at: Option<TimestampMs>) -> Self {
        let lag_ms = next_due_at.map_or(0, |due| SystemClock.now().since(due));
        let mut warnings = store.warnings.clone();
        if store.durability == Durability::Memory {
            warnings.push(
                "the store confirms before anything is on disk: what it has not saved is lost when it ends".into(),
            );
        }
        if let Some(error) = &maintenance.last_error {
            warnings.push(format!("maintenance has failed {} times in a row: {error}", maintenance.failures_in_a_row));
        }
        if maintenance.corrupt > 0 {
            warnings.push(format!("{} entries name records that cannot be decoded", maintenance.corrupt));
        }
        Self { store, maintenance, lag_ms, warnings }
    }

    /// Whether no round of maintenance is failing. A store that is not reached is an error of
    /// [`Engine::health`](crate::Engine::health) itself.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.maintenance.failures_in_a_row == 0
    }
}

/// The background work that this process did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaintenanceHealth {
    /// When a round last succeeded, by this process's clock; none before the first.
    pub last_success_at: Option<TimestampMs>,
    /// Rounds that failed since then.
    pub failures_in_a_row: u32,
    /// What the last of these met.
    pub last_error: Option<String>,
    /// Timers fired and backlog steps taken so far.
    pub done: u64,
    /// Entries met so far whose record cannot be decoded.
    pub corrupt: u64,
}

impl MaintenanceHealth {
    pub(crate) fn note(&mut self, swept: &Swept, error: Option<&EngineError>) {
        self.done += swept.done;
        self.corrupt += swept.corrupt;
        self.last_error = error.map(ToString::to_string);
        if error.is_some() {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        } else {
            self.last_success_at = Some(SystemClock.now());
            self.failures_in_a_row = 0;
        }
    }
}
