//! What is due next in which partition, as far as this process knows.
//!
//! Only a hint about when to look: what is due is decided by the store.

use std::time::Duration;

use ff_core::time::{Clock, SystemClock, TimestampMs, When};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A process that has seen work this recently polls all partitions every second; an idle one takes turns.
const BUSY: Duration = Duration::from_secs(30);

/// What is known of one partition.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    due: Option<TimestampMs>,
    /// How many timers this process has armed there.
    armed: u64,
}

/// Taken before the store is asked what is due next, so that an answer that was on its way while a timer was armed does
/// not make it forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    partition: u16,
    armed: u64,
}

/// The earliest due instant of each partition.
pub(crate) struct Agenda {
    known: Mutex<Vec<Known>>,
    /// An instant came to stand before all others.
    sooner: Notify,
    worked_at: Mutex<Option<Instant>>,
}

impl Agenda {
    pub(crate) fn new(partitions: u16) -> Self {
        let known = Mutex::new(vec![Known::default(); usize::from(partitions)]);
        Self { known, sooner: Notify::new(), worked_at: Mutex::new(None) }
    }

    /// The store is about to be asked.
    pub(crate) fn asks(&self, partition: u16) -> Asked {
        let armed = self.known.lock().get(usize::from(partition)).map_or(0, |known| known.armed);
        Asked { partition, armed }
    }

    /// The store has told what is due next in a partition.
    pub(crate) fn seen(&self, asked: Asked, next_due_at: Option<TimestampMs>) {
        self.set(asked.partition, |known| {
            // What was armed since the question may be missing in the answer.
            known.due = if known.armed == asked.armed { next_due_at } else { earlier(known.due, next_due_at) };
        });
    }

    /// A timer has been armed. To be called after the call that did so, whatever its answer: a look that comes before
    /// finds nothing and forgets it.
    pub(crate) fn armed(&self, partition: u16, at: TimestampMs) {
        self.set(partition, |known| {
            known.due = earlier(known.due, Some(at));
            known.armed += 1;
        });
    }

    /// A timer has been armed, this long from now.
    pub(crate) fn armed_after(&self, partition: u16, ms: u64) {
        self.armed(partition, SystemClock.now().after(ms));
    }

    /// Timers have been armed.
    pub(crate) fn armed_when(&self, partition: u16, timers: impl IntoIterator<Item = When>) {
        for when in timers {
            match when {
                When::At(at) => self.armed(partition, at),
                When::After(ms) => self.armed_after(partition, ms),
            }
        }
    }

    fn set(&self, partition: u16, change: impl FnOnce(&mut Known)) {
        let mut all = self.known.lock();
        let before = all.iter().filter_map(|known| known.due).min();
        let Some(known) = all.get_mut(usize::from(partition)) else { return };
        change(known);
        let sooner = known.due.is_some_and(|due| before.is_none_or(|before| due < before));
        drop(all);
        if sooner {
            self.sooner.notify_waiters();
        }
    }

    /// The earliest of all.
    pub(crate) fn next(&self) -> Option<TimestampMs> {
        self.known.lock().iter().filter_map(|known| known.due).min()
    }

    /// The partitions in which something is due, by this process's clock.
    pub(crate) fn due(&self) -> Vec<u16> {
        let now = SystemClock.now();
        let all = self.known.lock();
        (0..).zip(all.iter()).filter(|(_, known)| known.due.is_some_and(|due| due <= now)).map(|(n, _)| n).collect()
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

fn earlier(one: Option<TimestampMs>, other: Option<TimestampMs>) -> Option<TimestampMs> {
    [one, other].into_iter().flatten().min()
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
        agenda.seen(agenda.asks(1), None);
        agenda.seen(agenda.asks(0), Some(TimestampMs::MAX));
        assert_eq!(agenda.next(), Some(TimestampMs::MAX));
        assert!(agenda.due().is_empty());
    }

    #[test]
    fn a_timer_that_is_armed_while_the_store_is_asked_is_not_forgotten() {
        let agenda = Agenda::new(1);
        let asked = agenda.asks(0);
        agenda.armed(0, at(50));
        agenda.seen(asked, None);
        assert_eq!(agenda.next(), Some(at(50)));
        agenda.seen(asked, Some(at(40)));
        assert_eq!(agenda.next(), Some(at(40)));
        // An answer to a later question counts.
        agenda.seen(agenda.asks(0), None);
        assert_eq!(agenda.next(), None);
    }
}
