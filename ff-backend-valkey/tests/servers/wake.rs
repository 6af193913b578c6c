//! Wake-ups of workers that wait.

use std::time::{Duration, Instant};

use ff_backend_valkey::ValkeyBackend;
use ff_core::engine_backend::{ExecutionOps, Host};
use ff_core::ids::LaneId;
use ff_testserver::Kind;
use ff_testserver::cluster::Cluster;
use ff_testserver::process::plain;

use crate::common::{ask, creation, options};

/// Executions that are created while somebody waits wake it; the median of the times it takes.
pub(crate) async fn wakes_within_milliseconds(backend: &ValkeyBackend) {
    let lanes = [LaneId::new("awaited").unwrap(), LaneId::new("other").unwrap()];
    // The first wait begins to listen, and is woken once it does.
    // Connecting wakes whoever waits; it may have been over before, so nothing is said of it.
    let _ = backend.wait_for_work(&lanes, Duration::from_secs(2)).await;
    let mut times = Vec::new();
    for n in 0..20 {
        let waiting = tokio::spawn({
            let (backend, lanes) = (backend.clone(), lanes.clone());
            async move {
                let woken = backend.wait_for_work(&lanes, Duration::from_secs(5)).await;
                (woken, Instant::now())
            }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let began = Instant::now();
        backend.create_execution(creation(n % 16, "awaited")).await.unwrap();
        let (woken, at) = waiting.await.unwrap();
        assert!(woken, "a wake-up was lost");
        times.push(at.duration_since(began));
    }
    times.sort();
    println!("woken after {:?} (median of 20), {:?} at most", times[10], times[19]);
    assert!(times[10] < Duration::from_millis(250), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_execution_wakes_a_waiting_worker_also_after_its_listener_was_cut_off() {
    let server = plain(Kind::Valkey, &[]).expect("the server's package is installed");
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    wakes_within_milliseconds(&backend).await;
    assert_ne!(ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]), "0", "there is a listener to cut off");
    // A listener that lost its connection wakes everybody once it has another: something may have been missed.
    wakes_within_milliseconds(&backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_a_wake_up_comes_from_whichever_node() {
    let mut cluster = Cluster::start(Kind::Valkey, 3, 1).unwrap();
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    wakes_within_milliseconds(&backend).await;
    // The node that is listened to goes away.
    for node in cluster.nodes_mut().iter_mut().take(1) {
        node.kill();
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for partition in 0..16 {
        crate::common::lifecycle(&backend, partition, "between").await.unwrap();
    }
    // Its listener has gone to another one; and so has one that begins now.
    wakes_within_milliseconds(&backend).await;
    let fresh = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    wakes_within_milliseconds(&fresh).await;
}
