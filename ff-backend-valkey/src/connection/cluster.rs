//! A cluster: the redis crate's connection finds the primary of a slot and follows the slots when they move.
//!
//! The crate repeats nothing by itself (`retries(0)`): it learns from MOVED, from lost connections and from READONLY
//! where slots are, and tells us, who repeat. So there is one policy of repeats, and whether a try may have been applied
//! is known. ASK is not followed either: while a slot moves, every call on it is to fail as a whole, until the slot is in
//! one place again. Both declared keys of a call see to that; `Connection::keys` says how.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use redis::aio::PubSub;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisResult, TlsCertificates, Value};

use super::address::tcp;
use super::primary::{Primary, route};
use super::renewed::Renewed;
use super::retry::Failure;

/// Who serves which slots, as far as was known when it was asked.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// First and last slot, and the number of the owner.
    ranges: Vec<(u16, u16, usize)>,
    /// A slot of each owner.
    slots: Vec<u16>,
    hosts: Vec<(String, u16)>,
}

impl Owners {
    fn read(answer: Value) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut owners = Self::default();
        let mut numbers = HashMap::new();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
                return None;
            };
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
            let host = match host {
                Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
                _ => String::new(),
            };
            let port = u16::try_from(*port).ok()?;
            let number = *numbers.entry((host.clone(), port)).or_insert_with(|| {
                owners.slots.push(first);
                owners.hosts.push((host, port));
                owners.slots.len() - 1
            });
            owners.ranges.push((first, last, number));
        }
        (!owners.slots.is_empty()).then_some(owners)
    }

    /// A slot that has the same owner as this one; itself where the owner is not known.
    pub(super) fn neighbour(&self, slot: u16) -> u16 {
        let owner = self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        owner.and_then(|(_, _, number)| self.slots.get(*number)).copied().unwrap_or(slot)
    }
}

pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    connection: Renewed<ClusterConnection>,
    owners: Mutex<Option<Arc<Owners>>>,
}

impl Cluster {
    pub(super) fn new(
        seeds: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
        response: Duration,
        attempt: Duration,
    ) -> Self {
        let (nodes, certs) = (seeds.clone(), certificates.clone());
        let connection = Renewed::new(move |_| {
            let mut builder = ClusterClient::builder(nodes.clone())
                .retries(0)
                .tcp_settings(tcp())
                .response_timeout(response)
                .connection_timeout(attempt)
                .max_connection_attempts(NonZeroUsize::MIN);
            if let Some(certificates) = &certs {
                builder = builder.certs(certificates.clone());
            }
            async move { builder.build()?.get_async_connection().await }.boxed()
        });
        Self { seeds, certificates, connection, owners: Mutex::default() }
    }

    /// Who serves what. Asked once, until something contradicts it.
    pub(super) async fn owners(&self) -> RedisResult<Arc<Owners>> {
        if let Some(known) = &*self.owners.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(known));
        }
        let mut connection = self.connection.get().await.1?;
        let ask = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
        let answer = connection.route_command(ask, RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random)).await?;
        let owners = Owners::read(answer.extract_error()?).ok_or_else(|| {
            redis::RedisError::from((redis::ErrorKind::ClusterConnectionNotFound, "no primary serves any slot"))
        })?;
        let owners = Arc::new(owners);
        *self.owners.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&owners));
        Ok(owners)
    }

    fn forget_owners(&self) {
        *self.owners.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) async fn primaries(&self) -> RedisResult<Vec<Primary>> {
        self.forget_owners();
        let owners = self.owners().await?;
        let connection = self.connection.get().await.1?;
        Ok(owners.slots.iter().map(|slot| Primary::Slot(connection.clone(), *slot)).collect())
    }

    pub(super) async fn primary(&self, slot: u16) -> RedisResult<Primary> {
        Ok(Primary::Slot(self.connection.get().await.1?, slot))
    }

    fn failed(&self, number: u64, failure: Failure) -> Failure {
        // The crate connects to nodes again by itself. What it cannot mend is its own task, gone with the runtime that it
        // ran on; that shows as a broken pipe, as a node that went away may.
        if failure.error.is_io_error() {
            let text = failure.error.to_string().to_lowercase();
            if text.contains("broken pipe") || text.contains("unable to") {
                self.connection.lost(number);
            }
        }
        self.forget_owners();
        failure
    }

    pub(super) async fn send(&self, command: &Cmd, slot: u16) -> Result<Value, Failure> {
        let (number, connection) = self.connection.get().await;
        let mut connection = connection.map_err(Failure::before)?;
        let answer = connection.route_command(command.clone(), RoutingInfo::SingleNode(route(slot))).await;
        let answer = answer.and_then(Value::extract_error);
        answer.map_err(|error| {
            if crate::library::is_missing_function(&error) {
                return Failure::after(error);
            }
            self.failed(number, Failure::after(error))
        })
    }

    /// Sends all at once to the primary of one slot; each gets its own answer. One answer of a slot that has moved is
    /// the answer to all: the others may have been applied.
    pub(super) async fn send_all(&self, pipeline: Pipeline, count: usize, slot: u16) -> Vec<Result<Value, Failure>> {
        let (number, connection) = self.connection.get().await;
        let answers = match connection {
            Err(error) => return vec![Err(Failure::before(error)); count],
            Ok(mut connection) => connection.route_pipeline(pipeline, 0, count, route(slot)).await,
        };
        match answers {
            Err(error) => {
                let failure = self.failed(number, Failure::after(error));
                vec![Err(Failure { shared: count > 1, ..failure }); count]
            }
            answers => super::each(answers, count),
        }
    }

    /// A connection for messages: what is published on one node is heard on all.
    pub(super) async fn listen(&self, attempt: usize) -> RedisResult<PubSub> {
        let mut places: Vec<ConnectionInfo> = self.seeds.clone();
        if let (Ok(owners), Some(seed)) = (self.owners().await, self.seeds.first()) {
            for (host, port) in owners.hosts.iter().filter(|(host, _)| !host.is_empty()) {
                let addr = match seed.addr() {
                    ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                        host: host.clone(),
                        port: *port,
                        insecure: *insecure,
                        tls_params: tls_params.clone(),
                    },
                    _ => ConnectionAddr::Tcp(host.clone(), *port),
                };
                places.push(seed.clone().set_addr(addr));
            }
        }
        let place = places.swap_remove(attempt % places.len());
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(place, certificates.clone())?,
            None => Client::open(place)?,
        };
        client.get_async_pubsub().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_and_know_their_slots() {
        let node = |port: i64| Value::Array(vec![Value::BulkString(b"127.0.0.1".to_vec()), Value::Int(port)]);
        let range = |a, b, port| Value::Array(vec![Value::Int(a), Value::Int(b), node(port), node(9)]);
        let answer = Value::Array(vec![range(0, 99, 1), range(100, 199, 2), range(200, 16_383, 1)]);
        let owners = Owners::read(answer).expect("is one");
        assert_eq!(owners.slots, [0, 100]);
        assert_eq!((owners.neighbour(300), owners.neighbour(150), owners.neighbour(100)), (0, 100, 100));
        assert!(Owners::read(Value::Array(Vec::new())).is_none());
        assert!(Owners::read(Value::Nil).is_none());
    }
}
