//! What is due next in which partition, as far as this process knows.
//!
//! Only a hint about when to look: what is due is decided by the store.

use std::time::Duration;

use ff_core::time::{Clock, SystemClock, TimestampMs};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A process that has seen work this recently polls all partitions every second; an idle one takes turns.
const BUSY: Duration = Duration::from_secs(30);

/// The earliest due instant of each partition.
pub(crate) struct Agenda {
    due: Mutex<Vec<Option<TimestampMs>>>,
    /// An instant came to stand before all others.
    sooner: Notify,
    worked_at: Mutex<Option<Instant>>,
}

impl Agenda {
    pub(crate) fn new(partitions: u16) -> Self {
        let due = Mutex::new(vec![None; usize::from(partitions)]);
        Self { due, sooner: Notify::new(), worked_at: Mutex::new(None) }
    }

    /// The store has told what is due next in a partition.
    pub(crate) fn seen(&self, partition: u16, next_due_at: Option<TimestampMs>) {
        self.set(partition, |_| next_due_at);
    }

    /// A timer has been armed.
    pub(crate) fn armed(&self, partition: u16, at: TimestampMs) {
        self.set(partition, |due| Some(due.map_or(at, |due| due.min(at))));
    }

    /// A timer has been armed, this long from now.
    pub(crate) fn armed_after(&self, partition: u16, ms: u64) {
        self.armed(partition, SystemClock.now().after(ms));
    }

    fn set(&self, partition: u16, to: impl FnOnce(Option<TimestampMs>) -> Option<TimestampMs>) {
        let mut all = self.due.lock();
        let before = all.iter().flatten().min().copied();
        let Some(due) = all.get_mut(usize::from(partition)) else { return };
        *due = to(*due);
        let sooner = due.is_some_and(|due| before.is_none_or(|before| due < before));
        drop(all);
        if sooner {
            self.sooner.notify_waiters();
        }
    }

    /// The earliest of all.
    pub(crate) fn next(&self) -> Option<TimestampMs> {
        self.due.lock().iter().flatten().min().copied()
    }

    /// The partitions in which something is due, by this process's clock.
    pub(crate) fn due(&self) -> Vec<u16> {
        let now = SystemClock.now();
        let all = self.due.lock();
        (0..).zip(all.iter()).filter(|(_, due)| due.is_some_and(|due| due <= now)).map(|(n, _)| n).collect()
    }

    pub(crate) const fn sooner(&self) -> &Notify {
        &self.sooner
    }

    /// There was something to do.
    pub(crate) fn worked(&self) {
        *self.worked_at.lock() = Some(Instant::now());
    }

    /// Whether there was something to do lately.
    pub(crate) fn is_busy(&self) -> bool {
        self.worked_at.lock().is_some_and(|at| at.elapsed() < BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> TimestampMs {
        TimestampMs::saturating(ms)
    }

    #[test]
    fn the_earliest_instant_counts_and_what_the_store_says_stands() {
        let agenda = Agenda::new(2);
        assert_eq!(agenda.next(), None);
        agenda.armed(1, at(50));
        agenda.armed(1, at(70));
        agenda.armed(0, at(60));
        agenda.armed(9, at(1));
        assert_eq!(agenda.next(), Some(at(50)));
        assert_eq!(agenda.due(), [0, 1]);
        agenda.seen(1, None);
        agenda.seen(0, Some(TimestampMs::MAX));
        assert_eq!(agenda.next(), Some(TimestampMs::MAX));
        assert!(agenda.due().is_empty());
    }
}
