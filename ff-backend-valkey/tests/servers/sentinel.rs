//! A primary that sentinels name.

use std::time::{Duration, Instant};

use ff_backend_valkey::ValkeyBackend;
use ff_testserver::Kind;
use ff_testserver::sentinel::Sentinels;

use crate::common::{Traffic, ask, lifecycle, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentinels_new_primary_is_found_and_no_call_fails() {
    let mut group = Sentinels::start(Kind::Valkey).expect("the server's package is installed");
    let backend = ValkeyBackend::connect(&group.url(), options("a")).await.unwrap();
    let traffic = Traffic::start(&backend, 8);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    group.servers_mut()[0].kill();
    while !ask(&group.servers()[1], &["INFO", "replication"]).contains("role:master") {
        assert!(began.elapsed() < Duration::from_secs(15), "the replica does not take over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failover = began.elapsed();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let account = traffic.stop().await;
    account.no_call_was_lost(failover);
    lifecycle(&backend, 0, "after").await.unwrap();
    // The old primary comes back as a replica; nobody goes back to it.
    group.servers_mut()[0].restart().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    lifecycle(&backend, 0, "later").await.unwrap();
    let fresh = ValkeyBackend::connect(&group.url(), options("a")).await.unwrap();
    lifecycle(&fresh, 0, "fresh").await.unwrap();
}
