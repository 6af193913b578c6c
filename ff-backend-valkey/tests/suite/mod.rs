//! The servers that the suite can run on: `FF_SERVER=valkey|redis|cluster|tls|acl`.

pub(crate) mod faults;

use std::io;
use std::time::Duration;

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
    /// One server over TLS that asks for a certificate, used by a user with the rules of the README.
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
            "valkey-tls" => {
                let server = TlsServer::start(Kind::Valkey, true)?;
                let mut admin =
                    certified(&server).and_then(|client| client.get_connection()).map_err(io::Error::other)?;
                let mut set = Cmd::new();
                for word in rules()? {
                    set.arg(word);
                }
                set.query::<()>(&mut admin).map_err(io::Error::other)?;
                Self::Tls(server)
            }
            "valkey-acl" => {
                let (server, rules) = (plain(Kind::Valkey, &[])?, rules()?);
                server.ask(&rules.iter().map(String::as_str).collect::<Vec<_>>())?;
                Self::Acl(server)
            }
            _ => Self::Plain(Server::start(Kind::Valkey)?),
        })
    }

    /// Which server, if it is a single one without anything special: the faults tier starts its own ones of this kind.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Plain(server) => Some(server.kind()),
            _ => None,
        }
    }

    /// The address that the backend is given.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Plain(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Tls(server) => server.url().replacen("rediss://", "rediss://app:secret@", 1),
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
            Self::Tls(server) => certified(server)?,
            Self::Plain(server) => Client::open(server.url())?,
            Self::Acl(server) => Client::open(server.url())?,
        };
        // The client's own half a second is short for all keys of a store on a busy machine.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        client.get_multiplexed_async_connection_with_config(&config).await.map(Side::Node)
    }
}

/// The rules that the README gives a user, as a command; for the prefixes that the suite has for its trials.
fn rules() -> io::Result<Vec<String>> {
    let readme = include_str!("../../README.md");
    let block = readme.split_once("```acl\n").and_then(|(_, rest)| rest.split_once("```"));
    let (block, _) = block.ok_or_else(|| io::Error::other("the README has the rules"))?;
    // Patterns of channels must be given literally, so one rule for all prefixes is one for all channels.
    let block = block.replace("&app:w:*", "allchannels").replace("app:*", "t*").replace("PASSWORD", "secret");
    Ok(block.split_whitespace().map(str::to_owned).collect())
}

/// A client that shows the server its certificate.
fn certified(server: &TlsServer) -> RedisResult<Client> {
    // Where two cryptographies are built in, one must be chosen; the backend does so too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |name: &str| std::fs::read(server.file(name));
    let client_tls = redis::ClientTlsConfig { client_cert: read("client.pem")?, client_key: read("client.key")? };
    let certificates = TlsCertificates { client_tls: Some(client_tls), root_cert: Some(read("ca.pem")?) };
    Client::build_with_tls(server.bare_url(), certificates)
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
