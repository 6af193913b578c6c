//! What a write waits for before it is acknowledged.

use std::time::Duration;

use ff_backend_valkey::{Confirm, ConnectError, ValkeyBackend};
use ff_core::engine_backend::{Durability, ExecutionOps, Host, ReadsOps};
use ff_core::error::{Applied, EngineError};
use ff_core::operation::Operation;
use ff_testserver::Kind;
use ff_testserver::cluster::Cluster;
use ff_testserver::process::{plain, wait_until};

use crate::common::{ask, creation, lifecycle, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_file_confirms_writes_and_only_writes() {
    let server = plain(Kind::Valkey, &["--appendonly", "yes", "--appendfsync", "everysec"]).unwrap();
    let mut synced = options("a");
    synced.confirm = Confirm::LocalFsync;
    let backend = ValkeyBackend::connect(&server.url(), synced).await.unwrap();
    let waits = || {
        let stats = ask(&server, &["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_waitaof")).unwrap_or_default().to_owned();
        line.split("calls=").nth(1).and_then(|n| n.split(',').next()).and_then(|n| n.parse().ok()).unwrap_or(0_u64)
    };
    let create = creation(0, "one");
    let id = create.execution_id;
    backend.create_execution(create).await.unwrap();
    assert_eq!(waits(), 1);
    backend.get_payload(ff_core::contracts::GetPayloadArgs { execution_id: id }).await.unwrap();
    assert_eq!(waits(), 1, "a read waits for nothing");
    let batch: Vec<Operation> = (0..64).map(|n| creation(n % 16, "two").into()).collect();
    assert!(backend.execute_many(batch).await.iter().all(Result::is_ok));
    assert_eq!(waits(), 2, "a batch waits once");
    let health = backend.health().await.unwrap();
    assert_eq!(health.durability, Durability::LocalFsync);
}

#[tokio::test]
async fn a_server_without_waitaof_or_without_a_file_is_unsupported() {
    let mut synced = options("a");
    synced.confirm = Confirm::LocalFsync;
    let server = plain(Kind::Valkey, &[]).unwrap();
    let error = ValkeyBackend::connect(&server.url(), synced.clone()).await.expect_err("it has no file");
    assert!(matches!(&error, ConnectError::Unsupported { what } if what.contains("appendonly")), "{error:?}");
    let server = plain(Kind::Redis, &["--appendonly", "yes"]).unwrap();
    let version = ask(&server, &["INFO", "server"]);
    if version.contains("redis_version:7.0") {
        let error = ValkeyBackend::connect(&server.url(), synced).await.expect_err("it has no WAITAOF");
        assert!(matches!(&error, ConnectError::Unsupported { what } if what.contains("WAITAOF")), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_confirm_writes_and_a_write_that_they_do_not_is_unknown() {
    let primary = plain(Kind::Valkey, &["--repl-diskless-sync-delay", "0"]).unwrap();
    let follow = format!("127.0.0.1 {}", primary.port());
    let mut replica = plain(Kind::Valkey, &["--replicaof", &follow]).unwrap();
    wait_until("the replica follows", Duration::from_secs(20), || {
        // Both say so: until the primary does, it counts no confirmation.
        replica.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
            && primary.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("state=online"))
    })
    .unwrap();
    let mut replicated = options("a");
    replicated.confirm = Confirm::Replicas(1);
    replicated.response_timeout = Duration::from_secs(3);
    replicated.retry_for = Duration::from_secs(4);
    let backend = ValkeyBackend::connect(&primary.url(), replicated).await.unwrap();
    for n in 0..20 {
        lifecycle(&backend, n % 16, &format!("lane-{n}")).await.unwrap();
    }
    assert_eq!(backend.health().await.unwrap().durability, Durability::Replicas);
    replica.kill();
    let create = creation(0, "alone");
    match backend.create_execution(create.clone()).await {
        Err(EngineError::Transport { applied: Applied::Unknown, message }) => {
            assert!(message.contains("0 of 1"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let health = backend.health().await.unwrap();
    assert!(health.warnings.iter().any(|warning| warning.contains("0 of 1")), "{:?}", health.warnings);
    // It is there nevertheless, and a repeat is its first answer once a replica has it.
    replica.restart().unwrap();
    wait_until("the replica follows again", Duration::from_secs(20), || {
        replica.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
    })
    .unwrap();
    let again = backend.create_execution(create).await.expect("confirmed now");
    assert!(format!("{again:?}").contains("AlreadyExists"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_connection_for_a_confirmation_waits_no_longer_than_calls_are_repeated() {
    let alone = plain(Kind::Valkey, &[]).unwrap();
    let mut replicated = options("a");
    replicated.confirm = Confirm::Replicas(1);
    replicated.response_timeout = Duration::from_secs(4);
    replicated.retry_for = Duration::from_millis(500);
    let backend = ValkeyBackend::connect(&alone.url(), replicated).await.unwrap();
    let began = std::time::Instant::now();
    // There are sixteen such connections, and each waits three seconds in vain.
    let answers = futures::future::join_all((0..40).map(|_| backend.create_execution(creation(0, "one")))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let count = |wanted: Applied| {
        answers
            .iter()
            .filter(|a| matches!(a, Err(EngineError::Transport { applied, .. }) if *applied == wanted))
            .count()
    };
    assert_eq!((count(Applied::Unknown), count(Applied::No)), (16, 24), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_the_replicas_of_each_primary_confirm_its_writes() {
    let cluster = Cluster::start(Kind::Valkey, 2, 1).unwrap();
    let mut replicated = options("a");
    replicated.confirm = Confirm::Replicas(1);
    let backend = ValkeyBackend::connect(&cluster.url(), replicated).await.unwrap();
    for partition in 0..16 {
        lifecycle(&backend, partition, "one").await.unwrap();
    }
    let batch: Vec<Operation> = (0..64).map(|n| creation(n % 16, "two").into()).collect();
    assert!(backend.execute_many(batch).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_server_that_syncs_always_is_known_to() {
    let server = plain(Kind::Valkey, &["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let health = backend.health().await.unwrap();
    assert_eq!((health.durability, health.warnings), (Durability::LocalFsync, Vec::new()));
    ask(&server, &["CONFIG", "SET", "appendfsync", "everysec"]);
    let health = backend.health().await.unwrap();
    assert_eq!(health.durability, Durability::Memory);
    assert!(health.warnings.iter().any(|warning| warning.contains("everysec")), "{:?}", health.warnings);
}
