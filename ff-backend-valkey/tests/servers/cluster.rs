//! A cluster: routing, the library on every primary, failover, moving slots.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ff_backend_valkey::ValkeyBackend;
use ff_core::contracts::{AppendFrameArgs, TailFramesArgs, TailFramesResult};
use ff_core::engine_backend::{ClaimOps, ExecutionOps, Host, StreamOps};
use ff_core::ids::AttemptIndex;
use ff_core::operation::Operation;
use ff_testserver::Kind;
use ff_testserver::cluster::Cluster;
use ff_testserver::process::Process;

use crate::common::{Traffic, ask, claim_of, creation, lifecycle, lost, options};

fn holds_library(node: &Process) -> bool {
    ask(node, &["FUNCTION", "STATS"]);
    let mut connection = node.connection().unwrap();
    redis::cmd("FCALL").arg("ff_version").arg(0).query::<redis::Value>(&mut connection).is_ok()
}

fn keys(node: &Process) -> u64 {
    let mut connection = node.connection().unwrap();
    redis::cmd("DBSIZE").query(&mut connection).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_works_and_every_primary_gets_its_share_and_its_library_back() {
    let cluster = Cluster::start(Kind::Valkey, 3, 0).expect("the server's package is installed");
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    assert!(cluster.nodes().iter().all(holds_library));
    let alone = ValkeyBackend::connect(&cluster.nodes()[0].url(), options("a")).await.expect_err("a part of a whole");
    assert!(alone.to_string().contains("redis+cluster"), "{alone}");
    for partition in 0..16 {
        lifecycle(&backend, partition, "one").await.unwrap();
    }
    assert!(cluster.nodes().iter().all(|node| keys(node) > 10), "sixteen partitions spread over three primaries");
    let health = backend.health().await.unwrap();
    assert!(health.backend.contains("valkey"), "{health:?}");
    // One primary loses its functions in mid-traffic.
    let traffic = Traffic::start(&backend, 16);
    for node in cluster.nodes().iter().cycle().take(9) {
        tokio::time::sleep(Duration::from_millis(40)).await;
        ask(node, &["FUNCTION", "FLUSH", "SYNC"]);
    }
    let account = traffic.stop().await;
    assert!(account.failed.is_empty(), "{:?}", account.failed);
    assert_eq!(lost(&backend, &account.ended).await, 0);
    assert!(cluster.nodes().iter().all(holds_library));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_to_every_primary_and_comes_back_in_its_order() {
    let cluster = Cluster::start(Kind::Valkey, 3, 0).unwrap();
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    let creations: Vec<_> = (0..640).map(|n| creation(n % 16, "one")).collect();
    let operations: Vec<Operation> = creations.iter().cloned().map(Operation::from).collect();
    let results = backend.execute_many(operations.clone()).await;
    for (creation, result) in creations.iter().zip(&results) {
        let text = format!("{:?}", result.as_ref().expect("created"));
        assert!(text.contains(&creation.execution_id.to_string()), "{text}");
    }
    let again = backend.execute_many(operations).await;
    assert!(again.iter().all(|result| format!("{result:?}").contains("AlreadyExists")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_fails_no_call() {
    let mut cluster = Cluster::start(Kind::Valkey, 3, 1).unwrap();
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    let traffic = Traffic::start(&backend, 16);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    cluster.nodes_mut()[0].kill();
    let took_over = |cluster: &Cluster| ask(&cluster.nodes()[3], &["INFO", "replication"]).contains("role:master");
    while !took_over(&cluster) {
        assert!(began.elapsed() < Duration::from_secs(15), "the replica does not take over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failover = began.elapsed();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let account = traffic.stop().await;
    account.no_call_was_lost(failover);
    for partition in 0..16 {
        lifecycle(&backend, partition, "after").await.expect("all slots are served again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_in_mid_traffic_loses_nothing_and_fails_no_call() {
    let cluster = Cluster::start(Kind::Valkey, 2, 0).unwrap();
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    let traffic = Traffic::start(&backend, 16);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (nodes, mut moved) = (cluster.nodes(), BTreeSet::new());
    for partition in 0..16 {
        let number = keyslot(&nodes[0], partition);
        let (from, to) = if number < 8192 { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
        if moved.len() < 4 && moved.insert(number) {
            move_slot(number, from, to).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let account = traffic.stop().await;
    println!("4 slots moved, {} lifecycles, the longest {:?}", account.ended.len(), account.longest);
    assert!(account.failed.is_empty(), "{:?}", account.failed);
    assert_eq!(lost(&backend, &account.ended).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_on_a_primary_that_does_not_answer_keep_no_others_waiting() {
    let cluster = Cluster::start(Kind::Valkey, 2, 0).unwrap();
    let backend = ValkeyBackend::connect(&cluster.url(), options("a")).await.unwrap();
    let at_first = |partition: &u16| keyslot(&cluster.nodes()[0], *partition) < 8192;
    let silent = (0..16).find(at_first).expect("one of sixteen is there");
    let well = (0..16).find(|partition| !at_first(partition)).expect("one of sixteen is there");
    let mut tails = Vec::new();
    let mut fences = Vec::new();
    for partition in [silent, well] {
        let create = creation(partition, "one");
        let id = create.execution_id;
        backend.create_execution(create).await.unwrap();
        let claimed = backend.claim_next(claim_of(partition, "one")).await.unwrap();
        fences.push((id, claimed.claimed.first().expect("it is ready").claimed().fence));
        let tail = TailFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(0)).block_ms(5_000).build();
        let backend = backend.clone();
        tails.push(tokio::spawn(async move { backend.tail_frames(tail).await }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    ask(&cluster.nodes()[0], &["CLIENT", "PAUSE", "4000", "ALL"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (id, fence) = fences[1];
    let frame = AppendFrameArgs::builder().execution_id(id).fence(fence).frame_type("text").payload(b"x".to_vec());
    let began = Instant::now();
    backend.append_frame(frame.build()).await.unwrap();
    let TailFramesResult::Frames(page) = tails.remove(1).await.unwrap().unwrap();
    assert_eq!(page.frames.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    tails.remove(0).await.unwrap().expect("an empty page, once its primary answers again");
}

fn keyslot(node: &Process, partition: u16) -> u16 {
    let mut connection = node.connection().unwrap();
    let key = format!("a:{{p{partition}}}:");
    redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut connection).unwrap()
}

/// Moves a slot as an operator's tool does: announced on both sides, its keys a few at a time.
async fn move_slot(slot: u16, from: &Process, to: &Process) {
    let (from_id, to_id) = (ask(from, &["CLUSTER", "MYID"]), ask(to, &["CLUSTER", "MYID"]));
    let slot = slot.to_string();
    ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let mut connection = from.connection().unwrap();
    loop {
        let keys: Vec<Vec<u8>> =
            redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(&slot).arg(10).query(&mut connection).unwrap();
        if keys.is_empty() {
            break;
        }
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
        migrate.query::<redis::Value>(&mut connection).expect("no key is in both places");
        // Time in which calls meet a slot that is in two places.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for node in [to, from] {
        ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
}
