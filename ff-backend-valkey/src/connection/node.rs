//! One server, or the primary that sentinels name: one multiplexed connection.

use std::time::Duration;

use futures::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, RedisResult, TlsCertificates, TlsMode, Value,
};

use super::address::{Sentinels, tcp};
use super::primary::Primary;
use super::renewed::Renewed;
use super::retry::{Failure, Next, judge};
use crate::library;

/// Where the server is found.
#[derive(Clone)]
pub(super) enum Source {
    Server(ConnectionInfo, Option<TlsCertificates>),
    Sentinel(Sentinels, Option<TlsCertificates>),
}

impl Source {
    /// A client of the server, or of the primary as the sentinels see it now.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Server(info, None) => Client::open(info.clone()),
            Self::Server(info, Some(certificates)) => Client::build_with_tls(info.clone(), certificates.clone()),
            Self::Sentinel(place, certificates) => {
                let mut builder =
                    SentinelClientBuilder::new(place.hosts.clone(), place.master.clone(), SentinelServerType::Master)?
                        .set_client_to_redis_tcp_settings(tcp())
                        .set_client_to_redis_db(place.server.db())
                        .set_client_to_redis_protocol(place.server.protocol());
                if let Some(user) = place.server.username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = place.server.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if let Some(user) = place.sentinel.username() {
                    builder = builder.set_client_to_sentinel_username(user);
                }
                if let Some(password) = place.sentinel.password() {
                    builder = builder.set_client_to_sentinel_password(password);
                }
                if place.tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                    if let Some(certificates) = certificates {
                        builder = builder
                            .set_client_to_redis_certificates(certificates.clone())
                            .set_client_to_sentinel_certificates(certificates.clone());
                    }
                }
                builder.build()?.async_get_client().await
            }
        }
    }
}

/// A server and the connection to it.
pub(super) struct Node {
    source: Source,
    connection: Renewed<MultiplexedConnection>,
}

impl Node {
    pub(super) fn new(source: Source, config: AsyncConnectionConfig, attempt: Duration, generation: u32) -> Self {
        let place = source.clone();
        let connection = Renewed::new(move |first| {
            let (source, config) = (place.clone(), config.clone());
            async move {
                let opening = async {
                    let client = source.client().await?;
                    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                    if !first {
                        // Another server may be there by now, or one that has restarted without the library. What it
                        // says now of a library is said again by the first call, if it matters.
                        let _ = library::ensure(&mut Primary::Node(connection.clone()), generation).await;
                        // A replica, or a server that was demoted, is no use: the call says so and connects again.
                        connection.req_packed_command(&redis::cmd("PING")).await?;
                    }
                    Ok(connection)
                };
                tokio::time::timeout(attempt, opening).await.unwrap_or_else(|_| {
                    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection within its time").into())
                })
            }
            .boxed()
        });
        Self { source, connection }
    }

    pub(super) async fn primary(&self) -> RedisResult<Primary> {
        self.connection.get().await.1.map(Primary::Node)
    }

    /// A connection for messages.
    pub(super) async fn listen(&self) -> RedisResult<PubSub> {
        self.source.client().await?.get_async_pubsub().await
    }

    fn failed(&self, number: u64, failure: Failure) -> Failure {
        if judge(&failure).next == Next::Reconnect {
            self.connection.lost(number);
        }
        failure
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        let (number, connection) = self.connection.get().await;
        let mut connection = connection.map_err(Failure::before)?;
        let answer = command.query_async::<Value>(&mut connection).await;
        answer.map_err(|error| self.failed(number, Failure::after(error)))
    }

    /// Sends all at once; each gets its own answer.
    pub(super) async fn send_all(&self, pipeline: &Pipeline, count: usize) -> Vec<Result<Value, Failure>> {
        let (number, connection) = self.connection.get().await;
        let answers = match connection {
            Err(error) => return vec![Err(Failure::before(error)); count],
            Ok(mut connection) => connection.req_packed_commands(pipeline, 0, count).await,
        };
        super::each(answers, count).into_iter().map(|a| a.map_err(|failure| self.failed(number, failure))).collect()
    }
}
