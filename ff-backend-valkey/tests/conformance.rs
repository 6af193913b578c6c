//! Valkey and Redis held against the contract: `FF_SERVER=redis` runs the suite on Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ff_backend_valkey::{Options, ValkeyBackend};
use ff_conformance::{Fixture, Harness, TestName};
use ff_core::time::ManualClock;
use ff_testserver::{Kind, Server};

struct Valkey {
    server: Arc<Server>,
    opened: AtomicU64,
}

impl Harness for Valkey {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let mut options = Options::default();
        options.prefix = format!("t{}", self.opened.fetch_add(1, Ordering::Relaxed));
        options.clock = Some(clock.clone());
        let backend = ValkeyBackend::connect(&self.server.url(), options).await.expect("the private server answers");
        Fixture::new(Arc::new(backend), clock)
    }
}

fn main() {
    let kind = if std::env::var("FF_SERVER").is_ok_and(|s| s == "redis") { Kind::Redis } else { Kind::Valkey };
    ff_conformance::main(kind.program(), move || Valkey {
        server: Arc::new(Server::start(kind).expect("the server's package is installed")),
        opened: AtomicU64::new(0),
    })
}
