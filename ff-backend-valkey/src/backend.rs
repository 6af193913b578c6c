//! `ValkeyBackend`: a connection, a prefix, a clock, and one call per operation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ff_core::bounds::Deployment;
use ff_core::contracts::decode::DecodeCause;
use ff_core::engine_backend::{Durability, Health, Host};
use ff_core::error::{Applied, EngineError};
use ff_core::ids::{BudgetId, LaneId, QuotaPolicyId};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::time::{Clock, ManualClock};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Value};

use crate::call::{Pack, Reply};
use crate::keys::{KeyCache, LOAD_BURST};
use crate::library;
use crate::record::corrupt;
use crate::tails::Tails;
use crate::wake::Wake;

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server could not be reached, or refused.
    #[error("the server could not be used: {0}")]
    Server(#[from] RedisError),
    /// The server holds a newer library: this process is the older one and must be upgraded.
    #[error("the server's library has version {server}, newer than this process's {ours}: upgrade this process")]
    NewerLibrary {
        /// The server's version.
        server: u64,
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
    /// An option is out of bounds.
    #[error("option `{option}`: {remedy}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What to do.
        remedy: &'static str,
    },
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
    /// How many loads of a partition's signing keys signals with unknown kids may cause in a row, before there is one
    /// per second and the rest are `keystore_busy`; 16. `None` sets no limit.
    pub key_load_burst: Option<u32>,
    /// How long one call may take before its answer counts as lost; 10 s.
    pub response_timeout: Duration,
    /// How long a connection attempt may take; 5 s.
    pub connection_timeout: Duration,
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
        }
    }
}

/// The engine on a Valkey or Redis server.
///
/// Clones share the connection. Every operation is one call of a function of the library `ff`, atomic in the server.
#[derive(Clone)]
pub struct ValkeyBackend {
    connection: ConnectionManager,
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    keys: KeyCache,
    wake: Wake,
    tails: Tails,
}

impl std::fmt::Debug for ValkeyBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValkeyBackend").field("prefix", &self.shared.options.prefix).finish_non_exhaustive()
    }
}

impl ValkeyBackend {
    /// Connects, loads the library where the server lacks it, and records the deployment on first use.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if !(1..=64).contains(&options.prefix.len()) || !options.prefix.bytes().all(good) {
            return Err(ConnectError::Option {
                option: "prefix",
                remedy: "use 1 to 64 characters of letters, digits, dot, underscore, colon and hyphen",
            });
        }
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(options.response_timeout))
            .set_connection_timeout(Some(options.connection_timeout));
        let wake = Wake::new(client.clone(), &options.prefix);
        let mut connection = ConnectionManager::new_with_config(client, config).await?;
        if !options.allow_eviction {
            check_eviction(&mut connection).await?;
        }
        library::ensure(&mut connection, 1).await?;
        let asked = options.deployment.partitions.partitions();
        let key = format!("{}:meta", options.prefix);
        redis::cmd("HSETNX").arg(&key).arg("partitions").arg(asked).query_async::<()>(&mut connection).await?;
        let recorded: String = redis::cmd("HGET").arg(&key).arg("partitions").query_async(&mut connection).await?;
        if recorded != asked.to_string() {
            return Err(ConnectError::PartitionCount { prefix: options.prefix, recorded, asked });
        }
        let keys = KeyCache::new(options.key_load_burst);
        Ok(Self { connection, shared: Arc::new(Shared { options, keys, wake, tails: Tails::default() }) })
    }

    /// The process's signing keys.
    pub(crate) fn keys(&self) -> &KeyCache {
        &self.shared.keys
    }

    /// The tails that wait in this process.
    pub(crate) fn tails(&self) -> &Tails {
        &self.shared.tails
    }

    /// What the deployment fixes.
    pub(crate) fn fixed(&self) -> &Deployment {
        &self.shared.options.deployment
    }

    /// Arguments of a call, begun with the clock: the instant of a manual one, else nothing (the server's own).
    pub(crate) fn pack(&self) -> Pack {
        let mut pack = Pack::new();
        pack.num_opt(self.shared.options.clock.as_ref().map(|clock| clock.now().as_millis()));
        pack
    }

    /// Calls a function on a partition.
    pub(crate) async fn at(&self, function: &str, partition: u16, pack: Pack) -> Result<Reply, EngineError> {
        self.at_with(function, partition, pack, &[]).await
    }

    /// Calls a function on a partition with a payload beside its arguments.
    pub(crate) async fn at_with(
        &self,
        function: &str,
        partition: u16,
        pack: Pack,
        payload: &[u8],
    ) -> Result<Reply, EngineError> {
        let key = format!("{}:{{p{partition}}}:", self.shared.options.prefix);
        self.call(function, &key, pack, payload, partition).await
    }

    /// Calls a function on a budget.
    pub(crate) async fn at_budget(&self, function: &str, id: &BudgetId, pack: Pack) -> Result<Reply, EngineError> {
        let key = format!("{}:{{b:{id}}}:", self.shared.options.prefix);
        self.call(function, &key, pack, &[], 0).await
    }

    /// Calls a function on a quota policy.
    pub(crate) async fn at_policy(&self, function: &str, id: &QuotaPolicyId, pack: Pack) -> Result<Reply, EngineError> {
        let key = format!("{}:{{q:{id}}}:", self.shared.options.prefix);
        self.call(function, &key, pack, &[], 0).await
    }

    async fn call(
        &self,
        function: &str,
        key: &str,
        pack: Pack,
        payload: &[u8],
        partition: u16,
    ) -> Result<Reply, EngineError> {
        let packed = pack.finish();
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("FCALL");
        command.arg(function).arg(1).arg(key).arg(&packed).arg(payload);
        let value = match command.query_async::<Value>(&mut connection).await {
            Err(error) if library::is_missing_function(&error) => {
                // A restart, a failover or FUNCTION FLUSH lost the library: nothing was applied.
                library::ensure(&mut connection, 1)
                    .await
                    .map_err(|error| EngineError::Transport { applied: Applied::No, message: error.to_string() })?;
                command.query_async::<Value>(&mut connection).await
            }
            other => other,
        };
        Reply::open(value.map_err(|error| failed(&error))?, partition)
    }
}

/// What an error of the server means to the caller.
fn failed(error: &RedisError) -> EngineError {
    if error.code() == Some("FFCORRUPT") {
        let what = error.detail().unwrap_or_default();
        let record = what.split(' ').next().unwrap_or("record");
        return corrupt(record, "version", DecodeCause::IllegalState);
    }
    let refused = error.is_connection_refusal()
        || error
            .code()
            .is_some_and(|code| matches!(code, "OOM" | "READONLY" | "LOADING" | "NOPERM" | "NOAUTH" | "MASTERDOWN"));
    EngineError::Transport { applied: if refused { Applied::No } else { Applied::Unknown }, message: error.to_string() }
}

async fn check_eviction(connection: &mut ConnectionManager) -> Result<(), ConnectError> {
    // A server that keeps CONFIG from us says nothing about eviction; health() reports that.
    let asked: Result<Vec<String>, _> =
        redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(connection).await;
    match asked {
        Ok(pair) => match pair.get(1) {
            Some(policy) if policy != "noeviction" => Err(ConnectError::Eviction { policy: policy.clone() }),
            _ => Ok(()),
        },
        Err(error) if error.is_io_error() => Err(error.into()),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl Host for ValkeyBackend {
    fn deployment(&self) -> &Deployment {
        self.fixed()
    }

    async fn execute_many(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>> {
        // One connection carries all of them at once: they are pipelined.
        futures::future::join_all(operations.into_iter().map(|operation| dispatch(self, operation))).await
    }

    async fn wait_for_work(&self, lanes: &[LaneId], timeout: Duration) -> bool {
        self.shared.wake.wait(lanes, timeout).await
    }

    async fn health(&self) -> Result<Health, EngineError> {
        let mut connection = self.connection.clone();
        let info: String =
            redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(|error| failed(&error))?;
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')));
        let server = match (field("valkey_version"), field("redis_version")) {
            (Some(version), _) => format!("valkey {version}"),
            (None, Some(version)) => format!("redis {version}"),
            _ => "unknown server".to_owned(),
        };
        Ok(Health::new(server, Durability::Memory))
    }
}
