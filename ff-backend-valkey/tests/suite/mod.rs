//! The servers that the suite can run on: `FF_SERVER=valkey|redis|cluster|tls|acl`.

use std::io;

use ff_testserver::cluster::Cluster;
use ff_testserver::process::{Process, plain};
use ff_testserver::tls::TlsServer;
use ff_testserver::{Kind, Server};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisFuture, RedisResult, TlsCertificates, Value};

/// What runs.
pub(crate) enum Running {
    /// One server.
    Plain(Server),
    /// Three primaries.
    Cluster(Cluster),
    /// One server over TLS.
    Tls(TlsServer),
    /// One server, used by a user with the rules of the README.
    Acl(Process),
}

impl Running {
    /// Starts what `FF_SERVER` names, and says what it is.
    pub(crate) fn name() -> &'static str {
        match std::env::var("FF_SERVER").as_deref() {
            Ok("redis") => "redis-server",
            Ok("cluster") => "valkey-cluster",
            Ok("tls") => "valkey-tls",
            Ok("acl") => "valkey-acl",
            _ => "valkey-server",
        }
    }

    pub(crate) fn start(name: &str) -> io::Result<Self> {
        Ok(match name {
            "redis-server" => Self::Plain(Server::start(Kind::Redis)?),
            "valkey-cluster" => Self::Cluster(Cluster::start(Kind::Valkey, 3, 0)?),
            "valkey-tls" => Self::Tls(TlsServer::start(Kind::Valkey, true)?),
            "valkey-acl" => {
                let server = plain(Kind::Valkey, &[])?;
                let readme = include_str!("../../README.md");
                let block = readme.split_once("```acl\n").and_then(|(_, rest)| rest.split_once("```"));
                let (block, _) = block.ok_or_else(|| io::Error::other("the README has the rules"))?;
                // The suite has a prefix for each trial.
                let block =
                    block.replace("app:*", "t*").replace("&app:w:*", "allchannels").replace("PASSWORD", "secret");
                server.ask(&block.split_whitespace().collect::<Vec<_>>())?;
                Self::Acl(server)
            }
            _ => Self::Plain(Server::start(Kind::Valkey)?),
        })
    }

    /// The address that the backend is given.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Plain(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Tls(server) => server.url(),
            Self::Acl(server) => format!("redis://app:secret@127.0.0.1:{}", server.port()),
        }
    }

    /// A way to the keys behind the backend's back.
    pub(crate) async fn side(&self) -> RedisResult<Side> {
        let client = match self {
            Self::Cluster(cluster) => {
                let nodes: Vec<String> = cluster.nodes().iter().map(Process::url).collect();
                return redis::cluster::ClusterClient::new(nodes)?.get_async_connection().await.map(Side::Cluster);
            }
            Self::Tls(server) => {
                let read = |name: &str| std::fs::read(server.file(name));
                let client_tls =
                    redis::ClientTlsConfig { client_cert: read("client.pem")?, client_key: read("client.key")? };
                let certificates = TlsCertificates { client_tls: Some(client_tls), root_cert: Some(read("ca.pem")?) };
                Client::build_with_tls(server.bare_url(), certificates)?
            }
            Self::Plain(server) => Client::open(server.url())?,
            Self::Acl(server) => Client::open(server.url())?,
        };
        client.get_multiplexed_async_connection().await.map(Side::Node)
    }
}

/// A connection to either kind of servers.
#[derive(Clone)]
pub(crate) enum Side {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Side {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
