//! Time: millisecond instants, relative and absolute arguments, and the clocks.
//!
//! The backend owns the clock; no argument carries "now". A thing is due when `due_at <= now`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canon::{Canon, Canonical};

/// The greatest integer that every backend stores exactly: 2^53-1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The longest duration that an argument may name: 366 days, in milliseconds.
pub const MAX_DURATION_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// An instant: milliseconds since the Unix epoch, `0..=2^53-1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimestampMs(u64);

impl TimestampMs {
    /// The epoch.
    pub const ZERO: Self = Self(0);
    /// The last instant.
    pub const MAX: Self = Self(MAX_SAFE_INTEGER);

    /// The instant, if it is within bounds.
    #[must_use]
    pub const fn new(ms: u64) -> Option<Self> {
        if ms <= MAX_SAFE_INTEGER { Some(Self(ms)) } else { None }
    }

    /// The instant, or the last one if `ms` is beyond it.
    #[must_use]
    pub const fn saturating(ms: u64) -> Self {
        if ms <= MAX_SAFE_INTEGER { Self(ms) } else { Self::MAX }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The instant `ms` later; saturates at the last instant.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self::saturating(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for TimestampMs {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for TimestampMs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(d)?).ok_or_else(|| serde::de::Error::custom("an instant is at most 2^53-1"))
    }
}

impl Canon for TimestampMs {
    fn canon(&self, out: &mut Canonical) {
        out.number(self.0);
    }
}

/// An instant in an argument: absolute, or counted from the backend's now.
///
/// An instant that is not after now is legal and means "due at once".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// At this instant.
    At(TimestampMs),
    /// This many milliseconds from now, `0..=366 days`.
    After(u64),
}

impl When {
    /// The instant meant, at `now`.
    #[must_use]
    pub const fn resolve(self, now: TimestampMs) -> TimestampMs {
        match self {
            Self::At(at) => at,
            Self::After(ms) => now.after(ms),
        }
    }

    /// Whether the duration, if it is one, is within bounds.
    #[must_use]
    pub const fn within_bounds(self) -> bool {
        match self {
            Self::At(_) => true,
            Self::After(ms) => ms <= MAX_DURATION_MS,
        }
    }
}

impl Canon for When {
    fn canon(&self, out: &mut Canonical) {
        match self {
            Self::At(at) => out.put("at").put(at),
            Self::After(ms) => out.put("after").put(ms),
        };
    }
}

/// Where a backend reads its time. A call reads it once.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant.
    fn now(&self) -> TimestampMs;
}

/// The wall clock of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may ask the system
    fn now(&self) -> TimestampMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        TimestampMs::saturating(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that is turned by hand. Clones share the time.
///
/// ```
/// use ff_core::time::{Clock, ManualClock, TimestampMs};
/// let clock = ManualClock::at(TimestampMs::saturating(1_000));
/// clock.advance(500);
/// assert_eq!(clock.now().as_millis(), 1_500);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: TimestampMs) -> Self {
        Self(Arc::new(AtomicU64::new(now.as_millis())))
    }

    /// Sets the time, also backwards.
    pub fn set(&self, now: TimestampMs) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    /// Moves the time forward by `ms`; saturates at the last instant.
    pub fn advance(&self, ms: u64) {
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            Some(TimestampMs::saturating(now.saturating_add(ms)).as_millis())
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimestampMs {
        TimestampMs::saturating(self.0.load(Ordering::SeqCst))
    }
}
