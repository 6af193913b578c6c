//! How long to sleep before the next look.

use std::time::Duration;

use ff_core::time::{Clock, SystemClock, TimestampMs};

/// The longest sleep: a wake-up may have been lost.
const LONGEST: Duration = Duration::from_secs(1);

/// Sleeps until the next due instant, and backs off while what is due does not go away (as under a clock that is turned
/// by hand, or while another process is at it).
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    vain: u32,
}

impl Sleep {
    /// Something happened: the next sleep may be short again.
    pub(crate) fn reset(&mut self) {
        self.vain = 0;
    }

    /// The longest that it sleeps.
    #[allow(clippy::unused_self)] // asked of the one that sleeps
    pub(crate) const fn longest(&self) -> Duration {
        LONGEST
    }

    /// The time until the next look.
    pub(crate) fn until(&mut self, next_due_at: Option<TimestampMs>) -> Duration {
        let Some(due) = next_due_at else {
            self.vain = 0;
            return LONGEST;
        };
        let wait = due.since(SystemClock.now());
        if wait > 0 {
            self.vain = 0;
            return Duration::from_millis(wait).min(LONGEST);
        }
        self.vain = (self.vain + 1).min(10);
        Duration::from_millis(1 << self.vain).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_due_is_looked_at_ever_less_often() {
        let mut sleep = Sleep::default();
        assert_eq!(sleep.until(None), LONGEST);
        let past = Some(TimestampMs::ZERO);
        let waits: Vec<u128> = (0..12).map(|_| sleep.until(past).as_millis()).collect();
        assert_eq!(waits[..4], [2, 4, 8, 16]);
        assert_eq!(waits[11], 1_000);
        sleep.reset();
        assert_eq!(sleep.until(past).as_millis(), 2);
        assert_eq!(sleep.until(Some(TimestampMs::MAX)), LONGEST);
    }
}
