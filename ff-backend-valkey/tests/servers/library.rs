//! The life of the library of functions.

use std::time::Duration;

use ff_backend_valkey::{ConnectError, LIBRARY_VERSION, ValkeyBackend, library_source};
use ff_testserver::Kind;
use ff_testserver::process::{Process, plain};

use crate::common::{Traffic, ask, lifecycle, lost, options};

fn server() -> Process {
    plain(Kind::Valkey, &[]).expect("the server's package is installed")
}

/// Our library under another version, serving clients from `oldest` on.
fn library_of_version(version: u64, oldest: u64) -> String {
    let (source, print) = library_source(1);
    let (head, tail) = source.rsplit_once("return {").expect("ff_version answers a list");
    let rest = &tail[tail.find('}').expect("the list ends")..];
    format!("{head}return {{{version}, '{print}', {oldest}{rest}")
}

/// Our library with another text of the same version, and a fingerprint that begins like this.
fn other_text(begin: char) -> (String, String) {
    let (source, print) = library_source(1);
    let other = format!("{begin}{}", &print[1..]);
    (source.replace(&print, &other), other)
}

fn held(server: &Process) -> (u64, String) {
    let mut connection = server.connection().unwrap();
    let (version, print, _): (u64, String, u64) =
        redis::cmd("FCALL").arg("ff_version").arg(0).query(&mut connection).unwrap();
    (version, print)
}

fn held_version(server: &Process) -> u64 {
    held(server).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_of_the_functions_in_mid_traffic_fails_no_call() {
    let server = server();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let traffic = Traffic::start(&backend, 8);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        ask(&server, &["FUNCTION", "FLUSH", "SYNC"]);
    }
    let account = traffic.stop().await;
    println!("20 flushes, {} lifecycles, the longest {:?}", account.ended.len(), account.longest);
    assert!(account.failed.is_empty(), "{:?}", account.failed);
    assert!(!account.ended.is_empty());
    assert_eq!(lost(&backend, &account.ended).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_fails_no_call() {
    let mut server = plain(Kind::Valkey, &["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let traffic = Traffic::start(&backend, 8);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let account = traffic.stop().await;
    println!("3 kills, {} lifecycles, the longest {:?}", account.ended.len(), account.longest);
    assert!(account.failed.is_empty(), "{:?}", account.failed);
    assert_eq!(lost(&backend, &account.ended).await, 0);
}

#[tokio::test]
async fn a_server_that_comes_back_empty_gets_the_library_again() {
    let mut server = server();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    server.kill();
    server.restart().unwrap();
    lifecycle(&backend, 0, "two").await.expect("the library is loaded again");
    assert_eq!(held_version(&server), LIBRARY_VERSION);
}

#[tokio::test]
async fn an_older_library_is_replaced() {
    let server = server();
    ask(&server, &["FUNCTION", "LOAD", &library_of_version(0, 0)]);
    assert_eq!(held_version(&server), 0);
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    assert_eq!(held_version(&server), LIBRARY_VERSION);
    lifecycle(&backend, 0, "one").await.unwrap();
}

#[tokio::test]
async fn a_newer_library_that_serves_this_version_stays_and_is_used() {
    let server = server();
    ask(&server, &["FUNCTION", "LOAD", &library_of_version(LIBRARY_VERSION + 5, 1)]);
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    assert_eq!(held_version(&server), LIBRARY_VERSION + 5, "it is never downgraded");
    let health = ff_core::engine_backend::Host::health(&backend).await.unwrap();
    assert!(health.warnings.iter().any(|warning| warning.contains("newer")), "{:?}", health.warnings);
    assert_eq!(held_version(&server), LIBRARY_VERSION + 5, "nor by a look at its health");
}

#[tokio::test]
async fn of_two_texts_of_one_version_one_stays_whoever_connects_when() {
    // Hexadecimal digits lie between these two.
    let ((lesser, _), (greater, print)) = (other_text('!'), other_text('~'));
    let ours = library_source(1).1;
    let server = server();
    ask(&server, &["FUNCTION", "LOAD", &lesser]);
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    assert_eq!(held(&server), (LIBRARY_VERSION, ours), "the lesser text gives way");
    // The other build comes, whose text is the greater one.
    ask(&server, &["FUNCTION", "LOAD", "REPLACE", &greater]);
    let second = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    lifecycle(&backend, 0, "one").await.unwrap();
    lifecycle(&second, 0, "two").await.unwrap();
    let health = ff_core::engine_backend::Host::health(&backend).await.unwrap();
    assert!(health.warnings.iter().any(|warning| warning.contains("another text")), "{:?}", health.warnings);
    assert_eq!(held(&server), (LIBRARY_VERSION, print), "nobody has replaced it");
}

#[tokio::test]
async fn a_newer_library_that_no_longer_serves_this_version_is_a_clear_error() {
    let server = server();
    let newer = LIBRARY_VERSION + 5;
    ask(&server, &["FUNCTION", "LOAD", &library_of_version(newer, newer - 1)]);
    let error = ValkeyBackend::connect(&server.url(), options("a")).await.expect_err("is refused");
    assert!(matches!(error, ConnectError::NewerLibrary { server, .. } if server == newer), "{error:?}");
    assert!(error.to_string().contains("upgrade"), "{error}");
    assert_eq!(held_version(&server), newer);
}

#[tokio::test]
async fn two_generations_work_side_by_side() {
    let server = server();
    let first = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let mut second = options("b");
    second.generation = 2;
    let second = ValkeyBackend::connect(&server.url(), second).await.unwrap();
    let list = |backend: ValkeyBackend, lane: &'static str| async move {
        for n in 0..10 {
            lifecycle(&backend, n, lane).await.unwrap();
        }
    };
    tokio::join!(list(first.clone(), "x"), list(second.clone(), "y"));
    ask(&server, &["FUNCTION", "DELETE", "ff"]);
    lifecycle(&second, 0, "z").await.expect("the second does not need the first");
    lifecycle(&first, 0, "z").await.expect("the first comes back by itself");
}

#[tokio::test]
async fn many_processes_may_connect_at_once_to_an_empty_server() {
    let server = server();
    let url = server.url();
    let connects = (0..16).map(|_| ValkeyBackend::connect(&url, options("a")));
    for backend in futures::future::join_all(connects).await {
        lifecycle(&backend.unwrap(), 0, &uuid::Uuid::now_v7().to_string()).await.unwrap();
    }
}
