//! The way to the servers: one call or many, repeated while that may help, a bounded number at once.

mod address;
pub(crate) mod checks;
mod cluster;
mod confirming;
mod node;
mod primary;
mod renewed;
mod retry;
mod sorting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ff_core::error::{Applied, EngineError};
use redis::aio::PubSub;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisResult, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use self::address::{Address, Place};
use self::cluster::Cluster;
use self::confirming::Confirming;
use self::node::{Node, Source};
pub(crate) use self::primary::Primary;
use self::retry::{Failure, Next, Tries, UNCONFIRMED, judge, told};
use self::sorting::sort_out;
use crate::library;
use crate::options::{Confirm, ConnectError, Options};

/// How many commands are sent at once to one server at most.
const CHUNK: usize = 256;

/// How often one call loads the library before it gives up.
const LOADS: u32 = 5;

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) command: Cmd,
    /// The key that says where it goes.
    pub(crate) key: String,
    /// Whether it may write.
    pub(crate) writes: bool,
    /// Whether it may be made again, unchanged, when its outcome is not known.
    pub(crate) repeatable: bool,
    /// The execution or flow that it is on, where it is on one.
    pub(crate) subject: Option<Uuid>,
}

impl Request {
    fn slot(&self) -> u16 {
        slot_of(&self.key)
    }

    /// Whether its effect or its answer may differ behind a later call of its batch: both of one unit, and not on two
    /// executions or flows each.
    fn minds(&self, later: &Self) -> bool {
        let apart = matches!((self.subject, later.subject), (Some(one), Some(other)) if one != other);
        later.writes && self.key == later.key && !apart
    }
}

/// The slot of a key: that of what stands between the first braces, if something does.
fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % 16_384
}

/// The answer to each command of a pipeline; a failure of the whole is one of each.
fn each(answers: RedisResult<Vec<Value>>, count: usize) -> Vec<Result<Value, Failure>> {
    match answers {
        Ok(answers) if answers.len() == count => {
            answers.into_iter().map(|answer| answer.extract_error().map_err(Failure::after)).collect()
        }
        Ok(_) => {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "another number of answers than calls");
            vec![Err(Failure::after(error.into())); count]
        }
        Err(error) => vec![Err(Failure { shared: count > 1, ..Failure::after(error) }); count],
    }
}

/// A connection of either kind.
enum Link {
    Node(Box<Node>),
    Cluster(Box<Cluster>),
}

impl Link {
    fn open(address: &Address, options: &Options) -> Self {
        let certificates = address.certificates.clone();
        let source = match &address.place {
            Place::Cluster(seeds) => {
                let (response, attempt) = (options.response_timeout, options.connection_timeout);
                return Self::Cluster(Box::new(Cluster::new(seeds.clone(), certificates, response, attempt)));
            }
            Place::Server(info) => Source::Server(info.clone(), certificates),
            Place::Sentinel(place) => Source::Sentinel(place.clone(), certificates),
        };
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(options.response_timeout))
            .set_connection_timeout(Some(options.connection_timeout));
        Self::Node(Box::new(Node::new(source, config, options.connection_timeout, options.generation)))
    }

    async fn primaries(&self) -> RedisResult<Vec<Primary>> {
        match self {
            Self::Node(node) => Ok(vec![node.primary().await?]),
            Self::Cluster(cluster) => cluster.primaries().await,
        }
    }

    async fn send(&self, request: &Request) -> Result<Value, Failure> {
        match self {
            Self::Node(node) => node.send(&request.command).await,
            Self::Cluster(cluster) => cluster.send(&request.command, request.slot()).await,
        }
    }

    /// One pipeline to one server; with a confirmation of everything in it that was written.
    async fn send_group(&self, requests: &[&Request], confirm: Option<&Confirming>) -> Vec<Result<Value, Failure>> {
        if let ([request], None) = (requests, confirm) {
            return vec![self.send(request).await];
        }
        let mut pipeline = Pipeline::with_capacity(requests.len() + 2);
        for request in requests {
            pipeline.add_command(request.command.clone());
        }
        let (Some(confirming), Some(last)) = (confirm, requests.last()) else {
            return self.send_pipeline(pipeline, requests.len(), last_slot(requests)).await;
        };
        // A write of its own: what is confirmed is everything up to it, also what an earlier call on another
        // connection has written, of which this one is the repeat.
        pipeline.cmd("SET").arg(format!("{}!", last.key)).arg("");
        pipeline.add_command(confirming.command());
        let mut answers = self.send_pipeline(pipeline, requests.len() + 2, last_slot(requests)).await;
        let confirmation = answers.pop();
        let written = answers.pop();
        let confirmed = match (written, confirmation) {
            (Some(Ok(_)), Some(Ok(answer))) => confirming.is_met(&answer),
            (Some(Err(failure)), _) | (_, Some(Err(failure))) => Err(failure.error.to_string()),
            _ => Err("no answer".to_owned()),
        };
        if let Err(what) = confirmed {
            for answer in &mut answers {
                if answer.is_ok() {
                    let error = redis::make_extension_error(UNCONFIRMED.to_owned(), Some(what.clone()));
                    *answer = Err(Failure::after(error));
                }
            }
        }
        answers
    }

    async fn send_pipeline(&self, pipeline: Pipeline, count: usize, slot: u16) -> Vec<Result<Value, Failure>> {
        match self {
            Self::Node(node) => node.send_all(&pipeline, count).await,
            Self::Cluster(cluster) => cluster.send_all(pipeline, count, slot).await,
        }
    }
}

fn last_slot(requests: &[&Request]) -> u16 {
    requests.last().map_or(0, |request| request.slot())
}

struct Inner {
    link: Link,
    address: Address,
    confirming: Option<Confirming>,
    flights: Semaphore,
    most: u32,
    retry_for: Duration,
    generation: u32,
    /// Held while the library is loaded.
    loading: tokio::sync::Mutex<()>,
    listened: AtomicUsize,
}

/// The way to the servers. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    inner: Arc<Inner>,
}

fn lost() -> EngineError {
    EngineError::Transport { applied: Applied::Unknown, message: "no answer came".to_owned() }
}

fn too_many() -> EngineError {
    EngineError::Transport {
        applied: Applied::No,
        message: "too many calls are on their way, and none ended in time".to_owned(),
    }
}

impl Connection {
    /// Reads the address. Nothing is opened yet.
    pub(crate) fn new(url: &str, options: &mut Options) -> Result<Self, ConnectError> {
        let address = address::read(url, options)?;
        options.check()?;
        if address.certificates.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Where two cryptographies are built in, rustls wants to be told; an application that has told it stays right.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let confirming = (options.confirm != Confirm::Memory).then(|| Confirming::new(&address, options));
        let inner = Inner {
            link: Link::open(&address, options),
            address,
            confirming,
            flights: Semaphore::new(usize::try_from(options.max_in_flight).unwrap_or(usize::MAX)),
            most: options.max_in_flight,
            retry_for: options.retry_for,
            generation: options.generation,
            loading: tokio::sync::Mutex::default(),
            listened: AtomicUsize::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The keys that a call on this unit declares.
    ///
    /// Outside a cluster it is one, the unit's. In a cluster a second one is declared, and neither exists: while a slot
    /// is moving, the server that has it answers ASK then, and the one that gets it TRYAGAIN (several keys, some of them
    /// missing). With one key it would run the function where half of the records are still missing.
    pub(crate) fn keys(&self, unit: &str) -> Vec<String> {
        match self.inner.link {
            Link::Node(_) => vec![unit.to_owned()],
            Link::Cluster(_) => vec![unit.to_owned(), format!("{unit}?")],
        }
    }

    /// Every primary, to be spoken to one by one.
    pub(crate) async fn primaries(&self) -> RedisResult<Vec<Primary>> {
        self.inner.link.primaries().await
    }

    /// Runs a command once, where its key is.
    pub(crate) async fn once(&self, command: Cmd, key: &str) -> RedisResult<Value> {
        let request = Request { command, key: key.to_owned(), writes: true, repeatable: true, subject: None };
        self.inner.link.send(&request).await.map_err(|failure| failure.error)
    }

    /// Asks every primary of a cluster what its user may do; a single one was asked already.
    pub(crate) async fn check_permissions(&self, options: &Options) -> Result<(), ConnectError> {
        let Link::Cluster(cluster) = &self.inner.link else { return Ok(()) };
        let owners = cluster.owners().await?;
        let mut asked = Vec::new();
        for partition in 0..options.deployment.partitions.partitions() {
            let key = format!("{}:{{p{partition}}}:", options.prefix);
            let slot = owners.neighbour(slot_of(&key));
            if !asked.contains(&slot) {
                asked.push(slot);
                let mut primary = cluster.primary(slot_of(&key)).await?;
                checks::permissions(&mut primary, &key, options).await?;
            }
        }
        Ok(())
    }

    /// The primary that has a key.
    pub(crate) async fn primary_of(&self, key: &str) -> RedisResult<Primary> {
        match &self.inner.link {
            Link::Node(node) => node.primary().await,
            Link::Cluster(cluster) => cluster.primary(slot_of(key)).await,
        }
    }

    /// Whether who is the primary can change, so that a connection attempt that fails is worth repeating.
    pub(crate) fn fails_over(&self) -> bool {
        !matches!(self.inner.address.place, Place::Server(_))
    }

    /// Whether an error met while connecting will pass.
    pub(crate) fn passes(&self, error: &redis::RedisError) -> bool {
        let next = judge(&Failure::before(error.clone())).next;
        next == Next::Again || (next == Next::Reconnect && (self.fails_over() || error.code().is_some()))
    }

    /// A connection for messages. `&self` counts, so that the nodes of a cluster are tried in turn.
    pub(crate) async fn listen(&self) -> RedisResult<PubSub> {
        match &self.inner.link {
            Link::Node(node) => node.listen().await,
            Link::Cluster(cluster) => {
                let attempt = self.inner.listened.fetch_add(1, Ordering::Relaxed);
                cluster.listen(attempt).await
            }
        }
    }

    /// Loads the library on every primary that lacks it.
    async fn load(&self) -> Result<(), ConnectError> {
        let _one = self.inner.loading.lock().await;
        for mut primary in self.primaries().await? {
            library::ensure(&mut primary, self.inner.generation).await?;
        }
        Ok(())
    }

    /// Makes one call; repeats it while that may help.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value, EngineError> {
        let mut tries = Tries::new(self.inner.retry_for, request.repeatable);
        let flight = tokio::time::timeout_at(self.wait_until(&tries), self.inner.flights.acquire()).await;
        let _flight = flight.map_err(|_| too_many())?;
        loop {
            let answer = match &self.inner.confirming {
                Some(confirming) if request.writes => {
                    let mut answers = self.confirmed(&[request], confirming, self.wait_until(&tries)).await;
                    answers.pop().unwrap_or_else(|| {
                        Err(Failure::after(redis::RedisError::from(std::io::Error::new(
                            std::io::ErrorKind::InvalidData,
                            "no answer",
                        ))))
                    })
                }
                _ => self.inner.link.send(request).await,
            };
            let failure = match answer {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match tries.note(&failure) {
                Next::GiveUp => return Err(told(&failure.error, tries.applied)),
                Next::Load => self.load_for(&mut tries).await?,
                Next::Again | Next::Reconnect => {
                    if !tries.wait().await {
                        return Err(told(&failure.error, tries.applied));
                    }
                }
            }
        }
    }

    /// Until when a call waits for its turn: also one that is never repeated may wait for a moment.
    fn wait_until(&self, tries: &Tries) -> Instant {
        tries.deadline.max(Instant::now() + Duration::from_secs(1))
    }

    async fn load_for(&self, tries: &mut Tries) -> Result<(), EngineError> {
        tries.loads += 1;
        let applied = tries.applied;
        let failed = |message: String| EngineError::Transport { applied, message };
        if tries.loads > LOADS {
            return Err(failed("the library of functions is lost as soon as it is loaded".to_owned()));
        }
        match self.load().await {
            Ok(()) => Ok(()),
            Err(ConnectError::Server(error)) if judge(&Failure::before(error.clone())).next != Next::GiveUp => {
                if tries.wait().await { Ok(()) } else { Err(failed(error.to_string())) }
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Sends a group over a connection that nothing else uses until it is confirmed, which is waited for until `until`.
    async fn confirmed(
        &self,
        requests: &[&Request],
        confirming: &Confirming,
        until: Instant,
    ) -> Vec<Result<Value, Failure>> {
        let permit = tokio::time::timeout_at(until, confirming.free.acquire()).await;
        // Given back before the permit: whoever gets that one finds a connection.
        let taken = permit.as_ref().ok().and_then(|_| confirming.take());
        let Some(link) = taken.as_ref().and_then(confirming::Taken::link) else {
            let what = "all connections for confirmed writes wait for confirmations";
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
            return vec![Err(Failure::before(error.into())); requests.len()];
        };
        let answers = link.send_group(requests, Some(confirming)).await;
        drop(taken);
        answers
    }

    /// Makes many calls, one pipeline for each server; repeats those of them that need it. Calls on one key take effect
    /// in their order.
    pub(crate) async fn call_all(&self, requests: &[Request]) -> Vec<Result<Value, EngineError>> {
        let mut done: Vec<Option<Result<Value, EngineError>>> = vec![None; requests.len()];
        let mut tries: Vec<Tries> = requests.iter().map(|r| Tries::new(self.inner.retry_for, r.repeatable)).collect();
        let Some(first) = tries.first() else { return Vec::new() };
        let until = self.wait_until(first);
        let seats = u32::try_from(requests.len()).unwrap_or(u32::MAX).min(self.inner.most);
        let flight = tokio::time::timeout_at(until, self.inner.flights.acquire_many(seats)).await;
        let Ok(_flight) = flight else {
            return requests.iter().map(|_| Err(too_many())).collect();
        };
        let mut left: Vec<usize> = (0..requests.len()).collect();
        let mut by_server = true;
        while !left.is_empty() {
            let groups = self.groups(requests, &left, by_server).await;
            let sent = groups.iter().map(|group| self.send_chunks(requests, group, until));
            let mut answers: BTreeMap<usize, Result<Value, Failure>> =
                futures::future::join_all(sent).await.into_iter().flatten().collect();
            by_server &= !answers.values().any(|answer| answer.as_ref().is_err_and(|failure| failure.shared));
            let sorted = sort_out(requests, &left, &mut answers, &mut tries);
            for (n, answer) in sorted.done {
                done[n] = Some(answer); // of `0..requests.len()`
            }
            let Some(slowest) = sorted.again.first() else { break };
            let one = &mut tries[*slowest];
            let gone_on = if sorted.load {
                self.load_for(one).await
            } else if one.wait().await {
                Ok(())
            } else {
                Err(sorted.failure.unwrap_or_else(lost))
            };
            if let Err(error) = gone_on {
                for n in sorted.again {
                    done[n] = Some(Err(match &error {
                        EngineError::Transport { message, .. } => {
                            EngineError::Transport { applied: tries[n].applied, message: message.clone() }
                        }
                        other => other.clone(),
                    }));
                }
                break;
            }
            left = sorted.again;
        }
        done.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost()))).collect()
    }

    /// Which calls go together: those of one server, or, when that was not right, of one slot.
    async fn groups(&self, requests: &[Request], left: &[usize], by_server: bool) -> Vec<Vec<usize>> {
        let Link::Cluster(cluster) = &self.inner.link else { return vec![left.to_vec()] };
        let owners = if by_server { cluster.owners().await.ok() } else { None };
        let mut groups: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for n in left {
            let slot = requests[*n].slot(); // of `0..requests.len()`
            groups.entry(owners.as_ref().map_or(slot, |owners| owners.neighbour(slot))).or_default().push(*n);
        }
        groups.into_values().collect()
    }

    /// Sends a group, a bounded number of calls at once. Behind a chunk in which a call failed nothing more is sent: what
    /// comes later must not take effect before it.
    async fn send_chunks(
        &self,
        requests: &[Request],
        group: &[usize],
        until: Instant,
    ) -> Vec<(usize, Result<Value, Failure>)> {
        let mut answers = Vec::with_capacity(group.len());
        for chunk in group.chunks(CHUNK) {
            let sent: Vec<&Request> = chunk.iter().map(|n| &requests[*n]).collect(); // of `0..requests.len()`
            let got = match &self.inner.confirming {
                Some(confirming) if sent.iter().any(|request| request.writes) => {
                    self.confirmed(&sent, confirming, until).await
                }
                _ => self.inner.link.send_group(&sent, None).await,
            };
            let failed = got.iter().any(Result::is_err);
            answers.extend(chunk.iter().copied().zip(got));
            if failed {
                break;
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_unit_share_a_slot() {
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("123456789"), 12_739);
        assert_eq!(slot_of("app:{p7}:"), slot_of("other:{p7}:e"));
        assert_eq!(slot_of("app:{p7}:"), slot_of("p7"));
        assert_eq!(slot_of("{}foo"), slot_of("{}foo"));
        assert_ne!(slot_of("{}foo"), slot_of("foo"));
        assert!(
            (0..16).map(|n| slot_of(&format!("a:{{p{n}}}:"))).collect::<std::collections::BTreeSet<_>>().len() > 10
        );
    }
}
