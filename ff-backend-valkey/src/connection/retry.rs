//! The one policy of repeats: what an error of the server or the connection means.
//!
//! Nearly every operation may be repeated unchanged (law 6 of the contract), so a call is repeated whenever another try may
//! do better, until its time is over. Three count each time (a report or a reset without a key, a frame without a seq):
//! they are repeated only while no try may have been applied. What the last error alone cannot tell is kept along: once a
//! try may have been applied, the whole call may have been.

use std::time::Duration;

use ff_core::contracts::decode::DecodeCause;
use ff_core::error::{Applied, EngineError};
use redis::{ErrorKind, RedisError};
use tokio::time::Instant;

use crate::library;
use crate::record::corrupt;

/// The pause before the first repeat; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A try that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: RedisError,
    /// Whether anything was sent.
    pub(crate) sent: bool,
    /// Whether it is that of a pipeline as a whole: of the single call it tells nothing.
    pub(crate) shared: bool,
}

impl Failure {
    pub(crate) fn before(error: RedisError) -> Self {
        Self { error, sent: false, shared: false }
    }

    pub(crate) fn after(error: RedisError) -> Self {
        Self { error, sent: true, shared: false }
    }
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Tell the caller.
    GiveUp,
    /// Try again in a moment.
    Again,
    /// Connect anew, to whoever is the primary by then, and try again.
    Reconnect,
    /// Load the library and try again.
    Load,
}

/// What a failed try means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) applied: Applied,
    pub(crate) next: Next,
}

const fn not_applied(next: Next) -> Verdict {
    Verdict { applied: Applied::No, next }
}

const fn unknown(next: Next) -> Verdict {
    Verdict { applied: Applied::Unknown, next }
}

/// Judges a failed try.
pub(crate) fn judge(failure: &Failure) -> Verdict {
    let verdict = judge_alone(failure);
    if !failure.shared || !reached(failure) {
        return verdict;
    }
    // It may be the answer to another call, behind which this one was applied; asked alone, it gets its own.
    unknown(if verdict.next == Next::GiveUp { Next::Again } else { verdict.next })
}

/// Whether a server may have got it.
fn reached(failure: &Failure) -> bool {
    let error = &failure.error;
    failure.sent && !error.is_connection_refusal() && error.kind() != ErrorKind::ClusterConnectionNotFound
}

fn judge_alone(failure: &Failure) -> Verdict {
    let error = &failure.error;
    if library::is_missing_function(error) {
        return not_applied(Next::Load);
    }
    if let Some(code) = error.code() {
        // What a function met on its way, behind its first write perhaps.
        let inside = error.detail().is_some_and(|detail| detail.contains("script: "));
        let verdict = match code {
            // A replica, or a primary that was demoted: not to be asked again.
            "READONLY" | "MASTERDOWN" => not_applied(Next::Reconnect),
            "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "NOREPLICAS" | "MOVED" | "ASK" => {
                not_applied(Next::Again)
            }
            "OOM" | "NOPERM" | "NOAUTH" | "WRONGPASS" | "MISCONF" | "CROSSSLOT" => not_applied(Next::GiveUp),
            UNCONFIRMED => unknown(Next::Again),
            _ => unknown(Next::GiveUp),
        };
        return if inside { unknown(Next::GiveUp) } else { verdict };
    }
    let next = match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::EmptySentinelList
        | ErrorKind::RESP3NotSupported => Next::GiveUp,
        ErrorKind::ClusterConnectionNotFound => Next::Again,
        _ => Next::Reconnect,
    };
    if reached(failure) { unknown(next) } else { not_applied(next) }
}

/// A call on its way: when it must end, and what its tries so far have left behind.
pub(super) struct Tries {
    pub(super) deadline: Instant,
    pause: Duration,
    pub(super) applied: Applied,
    pub(super) loads: u32,
    repeatable: bool,
}

impl Tries {
    pub(super) fn new(retry_for: Duration, repeatable: bool) -> Self {
        let deadline = Instant::now() + retry_for;
        Self { deadline, pause: FIRST_PAUSE, applied: Applied::No, loads: 0, repeatable }
    }

    /// Notes a failed try.
    pub(super) fn note(&mut self, failure: &Failure) -> Next {
        let verdict = judge(failure);
        if verdict.applied == Applied::Unknown {
            self.applied = Applied::Unknown;
        }
        if self.applied == Applied::Unknown && !self.repeatable { Next::GiveUp } else { verdict.next }
    }

    /// Waits before the next try; false when there is no time for one.
    pub(super) async fn wait(&mut self) -> bool {
        // Some jitter, so that those who failed together do not come back together.
        let pause = self.pause.mul_f64(0.5 + fraction());
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// A number in 0..1 that differs between calls.
fn fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The code of a write that was applied and not confirmed by as many as the options ask for.
pub(crate) const UNCONFIRMED: &str = "FFUNCONFIRMED";

/// What the caller is told at the end. `applied` is of all tries together.
pub(crate) fn told(error: &RedisError, applied: Applied) -> EngineError {
    if error.code() == Some("FFCORRUPT") {
        let what = error.detail().unwrap_or_default();
        let record = what.split(' ').next().unwrap_or("record");
        return corrupt(record, "version", DecodeCause::IllegalState);
    }
    if error.code() == Some("ERR") && error.detail().is_some_and(is_luas_own) {
        // A function computes before it writes, and trips over nothing but a record that it took for a sound one.
        tracing::error!(%error, "a function of the library met what it cannot read");
        return corrupt("record", "value", DecodeCause::IllegalState);
    }
    EngineError::Transport { applied, message: error.to_string() }
}

/// Whether it is an error of a function itself, none of a command: it begins with the place in the library.
fn is_luas_own(detail: &str) -> bool {
    detail.starts_with("user_function:") && detail.contains("script: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, detail: &str, sent: bool) -> Failure {
        let error = redis::parse_redis_value(format!("-{code} {detail}\r\n").as_bytes()).expect("an error is a value");
        Failure { error: error.extract_error().expect_err("an error"), sent, shared: false }
    }

    #[test]
    fn errors_are_judged_by_what_they_leave_behind() {
        for (code, detail, applied, next) in [
            ("ERR", "Function not found", Applied::No, Next::Load),
            ("LOADING", "the dataset", Applied::No, Next::Again),
            ("BUSY", "a script", Applied::No, Next::Again),
            ("TRYAGAIN", "while resharding", Applied::No, Next::Again),
            ("CLUSTERDOWN", "the cluster", Applied::No, Next::Again),
            ("MOVED", "1 127.0.0.1:2", Applied::No, Next::Again),
            ("ASK", "1 127.0.0.1:2", Applied::No, Next::Again),
            ("READONLY", "a replica", Applied::No, Next::Reconnect),
            ("OOM", "over maxmemory", Applied::No, Next::GiveUp),
            ("NOPERM", "no permissions", Applied::No, Next::GiveUp),
            ("OOM", "over maxmemory script: ff_sweep, on @user_function:1.", Applied::Unknown, Next::GiveUp),
            ("ERR", "anything else", Applied::Unknown, Next::GiveUp),
        ] {
            let verdict = judge(&failure(code, detail, true));
            assert_eq!((verdict.applied, verdict.next), (applied, next), "{code} {detail}");
        }
        let io = |kind: std::io::ErrorKind| RedisError::from(std::io::Error::from(kind));
        let reset = io(std::io::ErrorKind::ConnectionReset);
        assert_eq!(judge(&Failure::after(reset.clone())).applied, Applied::Unknown);
        assert_eq!(judge(&Failure::before(reset)).applied, Applied::No);
        let shared = |failure: Failure| judge(&Failure { shared: true, ..failure });
        for failure in [failure("MOVED", "1 127.0.0.1:2", true), failure("NOPERM", "no permissions", true)] {
            let verdict = shared(failure);
            assert_eq!(
                (verdict.applied, verdict.next),
                (Applied::Unknown, Next::Again),
                "others may have been applied"
            );
        }
        assert_eq!(shared(Failure::before(io(std::io::ErrorKind::ConnectionReset))).applied, Applied::No);
        assert_eq!(shared(Failure::after(io(std::io::ErrorKind::ConnectionRefused))).applied, Applied::No);
        let refused = judge(&Failure::after(io(std::io::ErrorKind::ConnectionRefused)));
        assert_eq!((refused.applied, refused.next), (Applied::No, Next::Reconnect));
    }

    #[tokio::test]
    async fn a_call_stays_unknown_once_one_of_its_tries_was() {
        let mut tries = Tries::new(Duration::from_millis(400), true);
        let reset = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(tries.note(&Failure::after(reset.clone())), Next::Reconnect);
        tries.note(&Failure::before(reset));
        assert_eq!(tries.applied, Applied::Unknown);
        let began = Instant::now();
        let mut waits = 0;
        while tries.wait().await {
            waits += 1;
        }
        // A busy machine may wake it late, but it chose no instant behind the end.
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        assert!((2..30).contains(&waits), "{waits}");
        assert!(!Tries::new(Duration::ZERO, true).wait().await, "zero repeats nothing");
    }

    #[test]
    fn what_counts_each_time_is_given_up_once_it_may_have_been_applied() {
        let reset = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let mut once = Tries::new(Duration::from_secs(1), false);
        assert_eq!(once.note(&Failure::before(reset.clone())), Next::Reconnect);
        assert_eq!(once.note(&Failure::after(reset)), Next::GiveUp);
        assert_eq!(once.applied, Applied::Unknown);
    }
}
