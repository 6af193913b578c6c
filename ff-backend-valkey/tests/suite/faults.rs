//! A server that may crash and lose its functions, behind a proxy that makes trouble for replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ff_backend_valkey::{Options, ValkeyBackend};
use ff_conformance::{Fault, Fixture};
use ff_core::time::ManualClock;
use ff_testserver::Kind;
use ff_testserver::process::{Process, durable};
use ff_testserver::proxy::{Proxy, Trouble};
use tokio::sync::Mutex;

/// A server that keeps what it acknowledged, and the proxy that all its clients go through.
pub(crate) struct Faulty {
    server: Mutex<Process>,
    proxy: Proxy,
    clients: AtomicU64,
}

impl Faulty {
    pub(crate) async fn open(kind: Kind, clock: ManualClock) -> Fixture {
        let server = durable(kind).expect("the server's package is installed");
        let proxy = Proxy::start(&server.socket()).expect("a loopback port is free");
        let faulty = Self { server: Mutex::new(server), proxy, clients: AtomicU64::new(0) };
        let first = Arc::new(faulty.client(clock.clone()).await);
        Fixture::new(first, clock).with_guard(faulty)
    }

    /// One more client, with a connection of its own.
    pub(crate) async fn client(&self, clock: ManualClock) -> ValkeyBackend {
        let mut options = Options::default();
        options.clock = Some(clock);
        options.key_load_burst = None;
        // Shorter than the longest delay of the faults tier: some replies come too late.
        options.response_timeout = Duration::from_millis(250);
        options.connection_timeout = Duration::from_secs(2);
        // Every second client learns of each loss at once, and repeats for itself.
        if self.clients.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            options.retry_for = Duration::ZERO;
        }
        ValkeyBackend::connect(&self.proxy.url(), options).await.expect("the private server answers")
    }

    pub(crate) fn can_strike(fault: Fault) -> bool {
        matches!(fault, Fault::Crash | Fault::LibraryLost | Fault::Cut(_) | Fault::Reset | Fault::Delay(_))
    }

    pub(crate) async fn strike(&self, fault: Fault) -> bool {
        let trouble = match fault {
            Fault::Crash => return self.crash().await.is_ok(),
            Fault::LibraryLost => return self.lose_library().await.is_ok(),
            Fault::Cut(after) => Trouble::Cut(after as usize),
            Fault::Reset => Trouble::Reset,
            Fault::Delay(ms) => Trouble::Delay(Duration::from_millis(ms)),
            _ => return false,
        };
        // It is done when a reply has met it.
        let (began, before) = (Instant::now(), self.proxy.struck());
        self.proxy.plan(trouble);
        while self.proxy.struck() == before && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.proxy.struck() > before
    }

    /// Kills the server and starts it again.
    async fn crash(&self) -> std::io::Result<()> {
        let mut server = self.server.lock().await;
        tokio::task::block_in_place(|| {
            server.kill();
            // Clients meet a server that is not there.
            std::thread::sleep(Duration::from_millis(30));
            server.restart()
        })
    }

    /// Takes the functions away, behind the proxy's back.
    async fn lose_library(&self) -> redis::RedisResult<()> {
        let client = redis::Client::open(self.server.lock().await.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut connection).await
    }
}
