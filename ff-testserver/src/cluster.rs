//! A cluster on loopback ports: primaries that share the slots evenly, each with replicas.

use std::io;
use std::time::Duration;

use crate::Kind;
use crate::process::{Process, free_port, wait_until};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Process>,
    primaries: usize,
}

impl Cluster {
    /// Starts a cluster whose nodes replace a dead primary after about a second, and waits until it serves every slot.
    ///
    /// # Errors
    /// When the program is missing, or the nodes do not find together within twenty seconds.
    pub fn start(kind: Kind, primaries: u16, replicas_each: u16) -> io::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..primaries * (1 + replicas_each) {
            nodes.push(node(kind)?);
        }
        let cluster = Self { nodes, primaries: usize::from(primaries) };
        cluster.join(primaries)?;
        Ok(cluster)
    }

    fn join(&self, primaries: u16) -> io::Result<()> {
        let first = self.nodes.first().ok_or_else(|| io::Error::other("a cluster has nodes"))?;
        for (n, node) in (0..primaries).zip(&self.nodes) {
            let from = u32::from(n) * u32::from(SLOTS) / u32::from(primaries);
            let to = (u32::from(n) + 1) * u32::from(SLOTS) / u32::from(primaries) - 1;
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])?;
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()])?;
        }
        for node in self.nodes.iter().skip(1) {
            let (port, bus) = (node.port().to_string(), bus_of(node));
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        let knows_all = |node: &Process| {
            node.ask(&["CLUSTER", "NODES"])
                .is_ok_and(|known| known.lines().filter(|line| !line.contains("handshake")).count() == self.nodes.len())
        };
        wait_until("the nodes know each other", Duration::from_secs(15), || self.nodes.iter().all(knows_all))?;
        for (n, replica) in self.nodes.iter().enumerate().skip(self.primaries) {
            let id = self.nodes[n % self.primaries].ask(&["CLUSTER", "MYID"])?; // the remainder is a node
            replica.ask(&["CLUSTER", "REPLICATE", &id])?;
        }
        let is_well = |node: &Process| {
            node.ask(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
                && node
                    .ask(&["INFO", "replication"])
                    .is_ok_and(|info| info.contains("role:master") || info.contains("master_link_status:up"))
        };
        wait_until("the cluster is well", Duration::from_secs(15), || self.nodes.iter().all(is_well))
    }

    /// Its nodes: the primaries as it was started, then their replicas, in the same order.
    #[must_use]
    pub fn nodes(&self) -> &[Process] {
        &self.nodes
    }

    /// Its nodes, to be killed and started again.
    pub fn nodes_mut(&mut self) -> &mut [Process] {
        &mut self.nodes
    }

    /// The address of the cluster, by all nodes that were primaries at its start.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes.iter().take(self.primaries).map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

fn bus_of(node: &Process) -> String {
    std::fs::read_to_string(node.folder().join("bus")).unwrap_or_default()
}

fn node(kind: Kind) -> io::Result<Process> {
    let (port, bus) = (free_port()?, free_port()?);
    let args = [
        "--bind 127.0.0.1 --save '' --appendonly no --cluster-enabled yes --cluster-node-timeout 1000",
        "--cluster-replica-validity-factor 0 --cluster-require-full-coverage no --repl-diskless-sync-delay 0",
        "--cluster-config-file nodes.conf --enable-debug-command yes",
    ];
    let mut args: Vec<String> = args.iter().flat_map(|line| line.split(' ')).map(|arg| arg.replace("''", "")).collect();
    args.extend(["--port".into(), port.to_string(), "--cluster-port".into(), bus.to_string()]);
    Process::start(kind, port, args, |folder| std::fs::write(folder.join("bus"), bus.to_string()))
}
