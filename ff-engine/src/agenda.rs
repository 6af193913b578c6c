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
    /// It cannot be swept: what is due there is looked at in a time of its own.
    failing: bool,
    /// Sweeps of it that are under way: somebody sees to what is due there.
    sweeping: u32,
}

impl Known {
    /// What is due there, can be done, and is seen to by nobody.
    fn sweepable(&self) -> Option<TimestampMs> {
        self.due.filter(|_| !self.failing && self.sweeping == 0)
    }
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
        let before = all.iter().filter_map(Known::sweepable).min();
        let Some(known) = all.get_mut(usize::from(partition)) else { return };
        change(known);
        let sooner = known.sweepable().is_some_and(|due| before.is_none_or(|before| due < before));
        drop(all);
        if sooner {
            self.sooner.notify_waiters();
        }
    }

    /// The earliest of all, in partitions that fail as well: what is late there is late.
    pub(crate) fn earliest(&self) -> Option<TimestampMs> {
        self.known.lock().iter().filter_map(|known| known.due).min()
    }

    /// The earliest of the partitions that can be swept and are not being so.
    pub(crate) fn next(&self) -> Option<TimestampMs> {
        self.known.lock().iter().filter_map(Known::sweepable).min()
    }

    /// What is due next in each of these.
    pub(crate) fn each(&self) -> Vec<Option<TimestampMs>> {
        self.known.lock().iter().map(Known::sweepable).collect()
    }

    /// A sweep of this partition is under way until the answer is dropped: what is due there is not the next meanwhile,
    /// however long that takes.
    pub(crate) fn sweeps(&self, partition: u16) -> Sweeping<'_> {
        self.set(partition, |known| known.sweeping += 1);
        Sweeping { agenda: self, partition }
    }

    /// Whether a partition cannot be swept: it keeps the others' instants from being the next no longer.
    pub(crate) fn fails(&self, partition: u16, failing: bool) {
        self.set(partition, |known| known.failing = failing);
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

/// See [`Agenda::sweeps`].
pub(crate) struct Sweeping<'a> {
    agenda: &'a Agenda,
    partition: u16,
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.agenda.set(self.partition, |known| known.sweeping = known.sweeping.saturating_sub(1));
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
        assert_eq!(agenda.each(), [Some(at(60)), Some(at(50))]);
        agenda.seen(agenda.asks(1), None);
        agenda.seen(agenda.asks(0), Some(TimestampMs::MAX));
        assert_eq!(agenda.next(), Some(TimestampMs::MAX));
        assert_eq!(agenda.each(), [Some(TimestampMs::MAX), None]);
    }

    #[tokio::test]
    async fn what_is_due_where_nothing_can_be_done_hides_no_other_instant() {
        let agenda = Agenda::new(2);
        agenda.armed(0, at(50));
        agenda.fails(0, true);
        assert_eq!((agenda.next(), agenda.earliest()), (None, Some(at(50))));
        let sooner = agenda.sooner().notified();
        tokio::pin!(sooner);
        assert!(!sooner.as_mut().enable());
        agenda.armed(1, at(70));
        assert!(sooner.as_mut().enable(), "whoever sleeps is woken for it");
        assert_eq!((agenda.next(), agenda.earliest()), (Some(at(70)), Some(at(50))));
        agenda.fails(0, false);
        assert_eq!(agenda.next(), Some(at(50)));
        let sweeping = agenda.sweeps(0);
        assert_eq!(agenda.next(), Some(at(70)));
        drop(sweeping);
        assert_eq!(agenda.next(), Some(at(50)));
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
