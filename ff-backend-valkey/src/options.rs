//! How a backend is opened, and why that may fail.

use std::path::PathBuf;
use std::time::Duration;

use ff_core::bounds::Deployment;
use ff_core::time::ManualClock;
use redis::RedisError;

use crate::keys::LOAD_BURST;

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be read. What it says is not repeated: it may hold a password.
    #[error("the server's address cannot be used: {problem}; {remedy}")]
    Address {
        /// What is wrong, without any part of the address.
        problem: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// The server could not be reached, or refused.
    #[error("the server could not be used: {0}")]
    Server(#[from] RedisError),
    /// The server is older than what the library of functions needs.
    #[error("the server is {found}: use Valkey 7.2 or later, or Redis 7.0 or later")]
    ServerVersion {
        /// What it says of itself.
        found: String,
    },
    /// The user may not run what the engine needs.
    #[error("the server's user lacks permissions: {}; give it the rules of the crate's README", missing.join(", "))]
    Permission {
        /// What is missing, as the rule that grants it: `+zadd`, `~app:*`, `&app:w:*`.
        missing: Vec<String>,
    },
    /// The server has a newer library that no longer serves clients of this version.
    #[error(
        "the server's library has version {server} and serves clients from {oldest} on; this process has {ours}: upgrade it"
    )]
    NewerLibrary {
        /// The server's version.
        server: u64,
        /// The oldest client that it serves.
        oldest: u64,
        /// Ours.
        ours: u64,
    },
    /// The deployment was first used with another number of partitions.
    #[error(
        "this deployment (prefix `{prefix}`) has {recorded} partitions, not {asked}: open it with {recorded}, or choose \
         another prefix"
    )]
    PartitionCount {
        /// The prefix.
        prefix: String,
        /// What was recorded on first use.
        recorded: String,
        /// What was asked for.
        asked: u16,
    },
    /// The server may evict keys.
    #[error(
        "the server's maxmemory-policy is `{policy}`: it may evict records of executions; set `noeviction`, or allow it \
         with `Options::allow_eviction`"
    )]
    Eviction {
        /// The policy.
        policy: String,
    },
    /// The server cannot confirm writes as the options ask for.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What it lacks, and what to do.
        what: String,
    },
    /// An option is out of bounds.
    #[error("option `{option}`: {remedy}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

/// What a write waits for before it is acknowledged.
///
/// A write that is not confirmed in time is `Transport` with `Applied::Unknown`: it may be there. Repeating the call waits
/// again and gives its first answer, where the contract's law 6 gives one. Reads by themselves wait for nothing, and so may
/// show a write that is not confirmed yet; in a batch they go, and wait, with the writes beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// The server's memory. What it has not saved is lost with it.
    #[default]
    Memory,
    /// The append-only file of the server, synced (`WAITAOF`): Valkey, or Redis 7.2 and later, with `appendonly yes`.
    LocalFsync,
    /// The memory of that many replicas (`WAIT`), 1..=16.
    Replicas(u8),
}

/// Certificates of a TLS connection. Files are read when the backend is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// The authorities that the server's certificate is checked against, PEM; those of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate, PEM, for servers that ask for one; with `key`.
    pub cert: Option<PathBuf>,
    /// The client's private key, PEM.
    pub key: Option<PathBuf>,
}

/// How a backend is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What every key begins with; `ff`. 1..=64 bytes of `[A-Za-z0-9._:-]`. It isolates deployments on one server.
    pub prefix: String,
    /// What the deployment fixes.
    pub deployment: Deployment,
    /// A clock that is turned by hand instead of the server's.
    pub clock: Option<ManualClock>,
    /// Use a server that may evict keys.
    pub allow_eviction: bool,
    /// How many loads of a partition's signing keys signals may cause in a row, whose kid is unknown or whose source is
    /// another than their token's, before there is one per second and the rest are `keystore_busy`; 16. `None` sets no
    /// limit.
    pub key_load_burst: Option<u32>,
    /// How long one call may take before its answer counts as lost; 10 s. A tail waits in this process and may block for
    /// longer.
    pub response_timeout: Duration,
    /// How long a connection attempt may take; 5 s.
    pub connection_timeout: Duration,
    /// How long a call that was lost, or met a server that is restarting, failing over or resharding, is repeated
    /// unchanged before the caller learns of it; 10 s. Zero repeats nothing. What counts each time (a report or a reset of
    /// a budget without a dedup key, a frame without a seq) is not repeated once it may have been applied.
    pub retry_for: Duration,
    /// How many calls may be on their way at once, 1..=65536; 1024. Others wait their turn, at most `retry_for`.
    pub max_in_flight: u32,
    /// What a write waits for; the server's memory.
    pub confirm: Confirm,
    /// Certificates, for `rediss:` and the like. The address may name them too: `?ca=`, `&cert=`, `&key=`.
    pub tls: Tls,
    /// The generation of the protocol: functions `ff_..` of library `ff` in the first, `ff2_..` of `ff2` in the second.
    #[doc(hidden)]
    pub generation: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: "ff".to_owned(),
            deployment: Deployment::default(),
            clock: None,
            allow_eviction: false,
            key_load_burst: Some(LOAD_BURST),
            response_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(5),
            retry_for: Duration::from_secs(10),
            max_in_flight: 1024,
            confirm: Confirm::Memory,
            tls: Tls::default(),
            generation: 1,
        }
    }
}

impl Options {
    /// Refuses what is out of bounds.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let refused = |option, remedy| Err(ConnectError::Option { option, remedy });
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.bytes().all(good) {
            return refused("prefix", "use 1 to 64 characters of letters, digits, dot, underscore, colon and hyphen");
        }
        if !(1..=65_536).contains(&self.max_in_flight) {
            return refused("max_in_flight", "use 1 to 65536 calls");
        }
        if self.response_timeout.is_zero() {
            return refused("response_timeout", "give calls some time");
        }
        if self.connection_timeout.is_zero() {
            return refused("connection_timeout", "give connections some time");
        }
        if matches!(self.confirm, Confirm::Replicas(n) if !(1..=16).contains(&n)) {
            return refused("confirm", "wait for 1 to 16 replicas");
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return refused("tls", "give the client's certificate and its key, or neither");
        }
        if self.generation == 0 {
            return refused("generation", "generations begin at 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_out_of_bounds_is_named() {
        let named = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            match options.check() {
                Err(ConnectError::Option { option, .. }) => option,
                other => panic!("{other:?}"),
            }
        };
        assert!(Options::default().check().is_ok());
        assert_eq!(named(|o| o.prefix.clear()), "prefix");
        assert_eq!(named(|o| o.max_in_flight = 0), "max_in_flight");
        assert_eq!(named(|o| o.response_timeout = Duration::ZERO), "response_timeout");
        assert_eq!(named(|o| o.connection_timeout = Duration::ZERO), "connection_timeout");
        assert_eq!(named(|o| o.confirm = Confirm::Replicas(0)), "confirm");
        assert_eq!(named(|o| o.tls.cert = Some(PathBuf::from("cert.pem"))), "tls");
        assert_eq!(named(|o| o.generation = 0), "generation");
    }
}
