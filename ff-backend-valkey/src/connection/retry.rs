//! The one policy of repeats: what an error of the server or the connection means.
//!
//! Nearly every operation may be repeated unchanged (law 6 of the contract), so a call is repeated whenever another try may
//! do better, until its time is over. The three that count each time (a report or a reset without a key, a frame without a
//! seq) are no exception here. What the last error alone cannot tell is kept along: once a try may have been
//! applied, the whole call may have been.

use ff_core::contracts::decode::DecodeCause;
use ff_core::error::{Applied, EngineError};
use redis::{ErrorKind, RedisError};

use crate::library;
use crate::record::corrupt;

/// A try that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: RedisError,
    /// Whether anything was sent.
    pub(crate) sent: bool,
    /// Whether it is that of a pipeline as a whole.
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
    if failure.sent && !error.is_connection_refusal() && error.kind() != ErrorKind::ClusterConnectionNotFound {
        unknown(next)
    } else {
        not_applied(next)
    }
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
    EngineError::Transport { applied, message: error.to_string() }
}
