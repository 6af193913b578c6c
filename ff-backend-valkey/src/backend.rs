//! `ValkeyBackend`: a connection, a prefix, a clock, and one call per operation.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ff_core::bounds::Deployment;
use ff_core::engine_backend::{Durability, Health, Host};
use ff_core::error::{Applied, EngineError};
use ff_core::ids::{BudgetId, LaneId, QuotaPolicyId};
use ff_core::operation::{Operation, Outcome};
use ff_core::time::Clock;
use redis::RedisError;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::call::{Pack, Reply};
use crate::connection::{Connection, Primary, Request, checks};
use crate::keys::KeyCache;
use crate::library::{self, Standing};
use crate::options::{Confirm, ConnectError, Options};
use crate::tails::Tails;
use crate::wake::Wake;

/// The engine on a Valkey or Redis server.
///
/// Clones share the connection. Every operation is one call of a function of the library `ff`, atomic in the server.
#[derive(Clone)]
pub struct ValkeyBackend {
    connection: Connection,
    shared: Arc<Shared>,
    /// Where its calls are collected, while they are.
    batch: Option<Weak<Batch>>,
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
    /// Connects, loads the library where a server lacks it, and records the deployment on first use.
    ///
    /// The address is `redis://[user[:password]@]host[:port][/db]` (`rediss://` with TLS), `redis+unix:///path`,
    /// `redis+cluster://host:port,host:port` by some nodes of a cluster, or `redis+sentinel://host:port,host:port/primary`
    /// by sentinels; `valkey` stands for `redis` everywhere. Behind it: `?ca=`, `&cert=`, `&key=` (files of
    /// [`Tls`](crate::Tls)), `&confirm=` (`memory`, `local_fsync`, `replicas:2`: [`Confirm`]), `&protocol=resp3`. What the
    /// address says wins over the options.
    ///
    /// # Errors
    /// [`ConnectError`]. A server that is not reached is an error at once; one that is loading its data, or of which a
    /// cluster or sentinels still choose the primary, is waited for as long as `retry_for`.
    pub async fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        let mut options = options;
        let connection = Connection::new(url, &mut options)?;
        let deadline = Instant::now() + options.retry_for;
        loop {
            match Self::prepare(&connection, &options).await {
                Ok(()) => break,
                Err(ConnectError::Server(error)) if connection.passes(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(checks::explained(error, &options)),
            }
        }
        let keys = KeyCache::new(options.key_load_burst);
        let wake = Wake::new(connection.clone(), &options.prefix);
        let shared = Arc::new(Shared { options, keys, wake, tails: Tails::default() });
        Ok(Self { connection, shared, batch: None })
    }

    async fn prepare(connection: &Connection, options: &Options) -> Result<(), ConnectError> {
        for mut primary in connection.primaries().await? {
            checks::server(&mut primary, options).await?;
        }
        connection.check_permissions(options).await?;
        let asked = options.deployment.partitions.partitions();
        let key = format!("{}:meta", options.prefix);
        let (mut set, mut get) = (redis::cmd("HSETNX"), redis::cmd("HGET"));
        set.arg(&key).arg("partitions").arg(asked);
        get.arg(&key).arg("partitions");
        connection.once(set, &key).await?;
        let recorded: String = redis::from_redis_value(connection.once(get, &key).await?).map_err(RedisError::from)?;
        if recorded == asked.to_string() {
            return Ok(());
        }
        Err(ConnectError::PartitionCount { prefix: options.prefix.clone(), recorded, asked })
    }

    /// The way to the servers.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What every key begins with.
    pub(crate) fn prefix(&self) -> &str {
        &self.shared.options.prefix
    }

    /// The same, with its calls collected.
    pub(crate) fn in_batch(&self, batch: &Arc<Batch>) -> Self {
        Self { batch: Some(Arc::downgrade(batch)), ..self.clone() }
    }

    /// The same, with its calls sent as they come.
    pub(crate) fn outside_batch(&self) -> Self {
        Self { batch: None, ..self.clone() }
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
        pack.num_opt(self.manual_now());
        pack
    }

    /// The instant of a manual clock.
    pub(crate) fn manual_now(&self) -> Option<u64> {
        self.shared.options.clock.as_ref().map(|clock| clock.now().as_millis())
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
        let mut command = redis::cmd("FCALL");
        let keys = self.connection.keys(key);
        command.arg(&*library::function(self.shared.options.generation, function));
        let (repeatable, subject) = (pack.repeatable(), pack.subject());
        command.arg(keys.len()).arg(keys).arg(pack.finish()).arg(payload);
        let request = Request { command, key: key.to_owned(), writes: library::writes(function), repeatable, subject };
        let value = match self.batch.as_ref().and_then(Weak::upgrade) {
            Some(batch) => batch.call(request).await?,
            None => self.connection.call(&request).await?,
        };
        Reply::open(value, partition)
    }

    async fn health_of(&self, primary: &mut Primary, health: &mut Health) -> Result<bool, RedisError> {
        let info = checks::info(primary).await?;
        let sync = checks::appendfsync(primary).await?;
        let options = &self.shared.options;
        let mut warn = |text: String| {
            if !health.warnings.contains(&text) {
                health.warnings.push(text);
            }
        };
        match info.policy.as_deref() {
            Some("noeviction") => {}
            Some(policy) => warn(format!("maxmemory-policy is {policy}: the server may evict records")),
            None => warn("the server does not tell its maxmemory-policy: it may evict records".to_owned()),
        }
        if !info.appendonly {
            warn("appendonly is off: what the server has not saved is lost when it ends".to_owned());
        } else {
            match sync.as_deref() {
                Some("always") => {}
                Some(sync) if options.confirm == Confirm::Memory => {
                    warn(format!("appendfsync is {sync}: the last writes are lost when the server's machine fails"));
                }
                Some(_) => {}
                None => {
                    warn("the server's user may not read appendfsync (CONFIG GET): durability is not known".to_owned());
                }
            }
        }
        if !info.aof_write_ok || !info.rdb_ok {
            warn("the server failed to write its data to disk the last time".to_owned());
        }
        if let Confirm::Replicas(n) = options.confirm
            && info.replicas < u64::from(n)
        {
            warn(format!("{} of {n} replicas are connected: writes are not confirmed", info.replicas));
        }
        match library::ensure(primary, options.generation).await {
            Ok(Standing::Same) => {}
            Ok(Standing::Newer(version)) => {
                warn(format!("the server's library has version {version}, newer than this process's: upgrade it soon"));
            }
            Ok(Standing::OtherText) => warn(
                "the server's library has this process's version and another text: two builds differ; give one a new version"
                    .to_owned(),
            ),
            Err(error) => warn(error.to_string()),
        }
        if health.backend.is_empty() {
            health.backend = info.name();
        }
        Ok(info.appendonly && sync.as_deref() == Some("always"))
    }
}

#[async_trait]
impl Host for ValkeyBackend {
    fn deployment(&self) -> &Deployment {
        self.fixed()
    }

    async fn execute_many(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>> {
        self.together(operations).await
    }

    async fn wait_for_work(&self, lanes: &[LaneId], timeout: Duration) -> bool {
        self.shared.wake.wait(lanes, timeout).await
    }

    async fn health(&self) -> Result<Health, EngineError> {
        let failed = |error: RedisError| EngineError::Transport { applied: Applied::No, message: error.to_string() };
        let mut health = Health::new("", Durability::Memory);
        let mut synced = true;
        for mut primary in self.connection.primaries().await.map_err(failed)? {
            synced &= self.health_of(&mut primary, &mut health).await.map_err(failed)?;
        }
        health.durability = match self.shared.options.confirm {
            Confirm::Replicas(_) => Durability::Replicas,
            Confirm::LocalFsync => Durability::LocalFsync,
            Confirm::Memory if synced => Durability::LocalFsync,
            Confirm::Memory => Durability::Memory,
        };
        Ok(health)
    }
}
