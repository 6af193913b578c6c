//! Servers for tests.

use ff_testserver::Kind;
use ff_testserver::process::{Process, plain};

/// A server of its own, of the kind that `FF_SERVER` names, else Valkey, else, where that is not installed, Redis.
pub(crate) fn server(more: &[&str]) -> Process {
    let kinds: &[Kind] = match std::env::var("FF_SERVER").as_deref() {
        Ok("redis") => &[Kind::Redis],
        Ok(_) => &[Kind::Valkey],
        Err(_) => &[Kind::Valkey, Kind::Redis],
    };
    kinds.iter().find_map(|kind| plain(*kind, more).ok()).expect("a server is installed")
}
