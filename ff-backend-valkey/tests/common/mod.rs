//! A stage of the conformance suite on a private server, with a way to its keys behind the backend's back.

// Each test program uses its own part of it.
#![allow(dead_code)]

use std::sync::Arc;

use ff_backend_valkey::{Options, ValkeyBackend};
use ff_conformance::stage::{PARTITION, Stage};
use ff_conformance::{Fixture, Harness, TestName};
use ff_core::time::{ManualClock, TimestampMs};
use ff_testserver::{Kind, Server};
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

/// What every key of these tests begins with.
pub(crate) const PREFIX: &str = "t";

struct Plain(String);

impl Harness for Plain {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let mut options = Options::default();
        options.prefix = PREFIX.to_owned();
        options.clock = Some(clock.clone());
        options.key_load_burst = None;
        let backend = ValkeyBackend::connect(&self.0, options).await.expect("the private server answers");
        Fixture::new(Arc::new(backend), clock)
    }
}

/// The server that tests run on: Redis if `FF_SERVER=redis` says so, or where Valkey is not installed.
pub(crate) fn kind() -> Kind {
    let redis = std::env::var("FF_SERVER").is_ok_and(|s| s == "redis");
    let valkey = || std::process::Command::new(Kind::Valkey.program()).arg("--version").output().is_ok();
    if redis || !valkey() { Kind::Redis } else { Kind::Valkey }
}

/// A stage and its store.
pub(crate) struct Opened {
    pub(crate) s: Stage,
    pub(crate) store: MultiplexedConnection,
    pub(crate) url: String,
    _server: Option<Server>,
}

impl Opened {
    /// On a server of its own.
    pub(crate) async fn fresh() -> Self {
        Self::on(Server::start(kind()).expect("the server's package is installed")).await
    }

    /// On this server.
    pub(crate) async fn on(server: Server) -> Self {
        let url = server.url();
        let client = redis::Client::open(url.clone()).expect("the private server's URL is one");
        let store = client.get_multiplexed_async_connection().await.expect("the private server answers");
        let harness = Arc::new(Plain(url.clone()));
        let clock = ManualClock::at(TimestampMs::new(1_000_000).expect("is an instant"));
        let fixture = harness.open(&TestName("valkey".to_owned()), clock).await;
        Self { s: Stage::open(&harness, fixture).await, store, url, _server: Some(server) }
    }

    /// A command; its key is that of the stage's partition with this rest.
    pub(crate) async fn at<T: FromRedisValue>(&self, verb: &str, rest: &[u8], args: &[&[u8]]) -> T {
        let mut command = redis::cmd(verb);
        command.arg(key(rest));
        for arg in args {
            command.arg(*arg);
        }
        command.query_async(&mut self.store.clone()).await.unwrap_or_else(|e| panic!("{verb}: {e}"))
    }
}

/// A key of the stage's partition.
pub(crate) fn key(rest: &[u8]) -> Vec<u8> {
    let mut key = format!("{PREFIX}:{{p{PARTITION}}}:").into_bytes();
    key.extend_from_slice(rest);
    key
}

/// The rest of a key: letters and a raw id.
pub(crate) fn of(letters: &str, id: Uuid) -> Vec<u8> {
    let mut rest = letters.as_bytes().to_vec();
    rest.extend_from_slice(id.as_bytes());
    rest
}
