//! How the store is, and how the background work of this process goes.

use std::collections::BTreeMap;

use ff_core::engine_backend::{Durability, Health};
use ff_core::error::EngineError;
use ff_core::time::{Clock, SystemClock, TimestampMs};

use crate::maintenance::Swept;

/// Failing partitions that are warned of one by one.
const MAX_WARNED: usize = 8;

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
        for (partition, failing) in maintenance.failing.iter().take(MAX_WARNED) {
            let Failing { times, error, .. } = failing;
            warnings.push(format!("partition {partition} could not be swept, {times} times in a row: {error}"));
        }
        if maintenance.failing.len() > MAX_WARNED {
            warnings.push(format!("{} further partitions cannot be swept", maintenance.failing.len() - MAX_WARNED));
        }
        if maintenance.corrupt > 0 {
            warnings.push(format!("{} entries name records that cannot be decoded", maintenance.corrupt));
        }
        Self { store, maintenance, lag_ms, warnings }
    }

    /// Whether every partition could be swept when it was last tried. A store that is not reached is an error of
    /// [`Engine::health`](crate::Engine::health) itself.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.maintenance.failing.is_empty()
    }
}

/// A partition whose background work does not get through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failing {
    /// Since when, by this process's clock.
    pub since: TimestampMs,
    /// How often it was tried since then.
    pub times: u32,
    /// What the last try met.
    pub error: String,
}

/// The background work that this process did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaintenanceHealth {
    /// When a partition was last swept, by this process's clock; none before the first.
    pub last_success_at: Option<TimestampMs>,
    /// The partitions that could not be swept when they were last tried, each until it is swept again.
    pub failing: BTreeMap<u16, Failing>,
    /// Timers fired and backlog steps taken so far.
    pub done: u64,
    /// Entries met so far whose record cannot be decoded.
    pub corrupt: u64,
}

impl MaintenanceHealth {
    /// Notes how the sweep of a partition went; how many fail now.
    pub(crate) fn note(&mut self, partition: u16, swept: &Swept, error: Option<&EngineError>) -> usize {
        self.done += swept.done;
        self.corrupt += swept.corrupt;
        let now = SystemClock.now();
        if let Some(error) = error {
            let begun = || Failing { since: now, times: 0, error: String::new() };
            let failing = self.failing.entry(partition).or_insert_with(begun);
            failing.times = failing.times.saturating_add(1);
            failing.error = error.to_string();
        } else {
            self.failing.remove(&partition);
            self.last_success_at = Some(now);
        }
        self.failing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_fails_until_it_is_swept_whatever_becomes_of_the_others() {
        let mut health = MaintenanceHealth::default();
        let error = EngineError::Unsupported { what: "on purpose".into() };
        let swept = Swept::default();
        assert_eq!(health.note(3, &swept, Some(&error)), 1);
        assert_eq!(health.note(4, &swept, None), 1);
        assert_eq!(health.note(3, &swept, Some(&error)), 1);
        assert_eq!((health.failing[&3].times, health.last_success_at.is_some()), (2, true));
        let store = Health::new("x", Durability::LocalFsync);
        let told = EngineHealth::new(store, health.clone(), None);
        assert!(!told.is_healthy() && told.warnings[0].contains("partition 3 could not be swept, 2 times"), "{told:?}");
        assert_eq!(health.note(3, &swept, None), 0);
    }
}
