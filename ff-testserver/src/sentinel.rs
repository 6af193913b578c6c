//! A primary, a replica, and sentinels that make the replica the primary when that one is gone.

use std::io;
use std::time::Duration;

use crate::Kind;
use crate::process::{Process, free_port, plain, wait_until};

/// What the sentinels call the primary.
pub const NAME: &str = "main";

/// A watched pair of servers.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Process>,
    sentinels: Vec<Process>,
}

impl Sentinels {
    /// Starts two servers and three sentinels, which replace a primary that is gone for half a second.
    ///
    /// # Errors
    /// When the program is missing, or they do not find together within ten seconds.
    pub fn start(kind: Kind) -> io::Result<Self> {
        let more = ["--repl-diskless-sync-delay", "0"];
        let primary = plain(kind, &more)?;
        let (port, more) = (primary.port().to_string(), more.map(str::to_owned));
        let replicaof = format!("127.0.0.1 {port}");
        let replica = plain(kind, &[&more[0], &more[1], "--replicaof", &replicaof])?;
        wait_until("the replica follows", Duration::from_secs(10), || {
            replica.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
        })?;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let listen = free_port()?;
            let config = format!(
                "port {listen}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 2000\n"
            );
            let args = ["sentinel.conf".to_owned(), "--sentinel".to_owned()];
            sentinels.push(Process::start(kind, listen, args, |folder| {
                std::fs::write(folder.join("sentinel.conf"), config)
            })?);
        }
        wait_until("the sentinels know each other", Duration::from_secs(10), || {
            sentinels.iter().all(|sentinel| {
                sentinel
                    .ask(&["INFO", "sentinel"])
                    .is_ok_and(|info| info.contains("slaves=1") && info.contains("sentinels=3"))
            })
        })?;
        Ok(Self { servers: vec![primary, replica], sentinels })
    }

    /// The servers: the primary as it was started, then the replica.
    #[must_use]
    pub fn servers(&self) -> &[Process] {
        &self.servers
    }

    /// The servers, to be killed and started again.
    pub fn servers_mut(&mut self) -> &mut [Process] {
        &mut self.servers
    }

    /// The address of the primary, by its sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }
}
