//! Servers that may crash and lose their functions, behind a proxy that makes trouble for replies; and a pair of servers
//! of which one takes the other's place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ff_backend_valkey::{Confirm, Options, ValkeyBackend};
use ff_conformance::{Fault, Fixture};
use ff_core::time::ManualClock;
use ff_testserver::Kind;
use ff_testserver::process::{Process, durable, wait_until};
use ff_testserver::proxy::{Proxy, Trouble};
use ff_testserver::sentinel::Sentinels;
use tokio::sync::Mutex;

/// What all clients of a trial use.
pub(crate) struct Faulty {
    store: Store,
    clients: AtomicU64,
}

enum Store {
    /// A server that syncs every change before it answers, and the proxy that all its clients go through.
    One { server: Mutex<Process>, proxy: Proxy },
    /// A primary and its replica, which confirms every write.
    Pair(Mutex<Sentinels>),
}

impl Faulty {
    /// A store for which these faults can be brought about.
    pub(crate) async fn open(kind: Kind, clock: ManualClock, faults: &[Fault]) -> Fixture {
        let store = if faults.contains(&Fault::Failover) {
            let pair = tokio::task::block_in_place(|| Sentinels::start(kind)).expect("the servers find together");
            tokio::task::block_in_place(|| follows(&pair)).expect("the replica follows");
            Store::Pair(Mutex::new(pair))
        } else {
            let server = durable(kind).expect("the server's package is installed");
            let proxy = Proxy::start(&server.socket()).expect("a loopback port is free");
            Store::One { server: Mutex::new(server), proxy }
        };
        let faulty = Self { store, clients: AtomicU64::new(0) };
        let first = Arc::new(faulty.client(clock.clone()).await);
        Fixture::new(first, clock).with_guard(faulty)
    }

    /// One more client, with a connection of its own.
    pub(crate) async fn client(&self, clock: ManualClock) -> ValkeyBackend {
        let mut options = Options::default();
        options.clock = Some(clock);
        options.key_load_burst = None;
        options.connection_timeout = Duration::from_secs(2);
        // Every second client learns of each loss at once, and repeats for itself.
        if self.clients.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            options.retry_for = Duration::ZERO;
        }
        let url = match &self.store {
            Store::One { proxy, .. } => {
                // Shorter than the longest delay of the faults tier: some replies come too late.
                options.response_timeout = Duration::from_secs(1);
                proxy.url()
            }
            Store::Pair(pair) => {
                options.response_timeout = Duration::from_secs(2);
                options.confirm = Confirm::Replicas(1);
                pair.lock().await.url()
            }
        };
        let began = Instant::now();
        loop {
            // A client that repeats nothing may find a busy machine too slow.
            match ValkeyBackend::connect(&url, options.clone()).await {
                Ok(backend) => return backend,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "the private server answers: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn can_strike(fault: Fault) -> bool {
        matches!(
            fault,
            Fault::Crash | Fault::Failover | Fault::LibraryLost | Fault::Cut(_) | Fault::Reset | Fault::Delay(_)
        )
    }

    pub(crate) async fn strike(&self, fault: Fault) -> bool {
        match (&self.store, fault) {
            (Store::One { server, .. }, Fault::Crash) => {
                let mut server = server.lock().await;
                tokio::task::block_in_place(|| crash(&mut server)).is_ok()
            }
            (Store::One { server, .. }, Fault::LibraryLost) => lose_library(&server.lock().await.url()).await.is_ok(),
            (Store::One { proxy, .. }, Fault::Cut(after)) => meet(proxy, Trouble::Cut(after as usize)).await,
            (Store::One { proxy, .. }, Fault::Reset) => meet(proxy, Trouble::Reset).await,
            (Store::One { proxy, .. }, Fault::Delay(ms)) => {
                meet(proxy, Trouble::Delay(Duration::from_millis(ms))).await
            }
            (Store::Pair(pair), Fault::Failover) => {
                let mut pair = pair.lock().await;
                tokio::task::block_in_place(|| fail_over(&mut pair)).is_ok()
            }
            _ => false,
        }
    }
}

/// Makes trouble for the next reply: it is done when one has met it.
async fn meet(proxy: &Proxy, trouble: Trouble) -> bool {
    let (began, before) = (Instant::now(), proxy.struck());
    proxy.plan(trouble);
    while proxy.struck() == before && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    proxy.struck() > before
}

/// Kills the server and starts it again.
fn crash(server: &mut Process) -> io::Result<()> {
    server.kill();
    // Clients meet a server that is not there.
    std::thread::sleep(Duration::from_millis(30));
    server.restart()
}

/// Takes the functions away, behind the proxy's back.
async fn lose_library(url: &str) -> redis::RedisResult<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut connection).await
}

/// Kills the primary, waits until the replica has its place, and starts the dead one again as the replica.
fn fail_over(pair: &mut Sentinels) -> io::Result<()> {
    let primary = pair.servers().iter().position(is_primary).ok_or_else(|| io::Error::other("there is no primary"))?;
    pair.servers_mut()[primary].kill();
    let other = &pair.servers()[1 - primary];
    wait_until("the replica is the primary", Duration::from_secs(20), || is_primary(other))?;
    pair.servers_mut()[primary].restart()?;
    follows(pair)
}

fn is_primary(server: &Process) -> bool {
    server.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("role:master"))
}

/// Waits until one is the other's replica and both say so: until the primary does, it counts no confirmation.
fn follows(pair: &Sentinels) -> io::Result<()> {
    let says =
        |n: usize, what: &str| pair.servers()[n].ask(&["INFO", "replication"]).is_ok_and(|info| info.contains(what));
    wait_until("one follows the other", Duration::from_secs(20), || {
        [(0, 1), (1, 0)]
            .iter()
            .any(|(primary, replica)| says(*primary, "state=online") && says(*replica, "master_link_status:up"))
    })
}
