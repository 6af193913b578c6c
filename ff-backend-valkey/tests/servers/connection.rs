//! Time-outs, back-pressure, batches, addresses.

use std::time::{Duration, Instant};

use ff_backend_valkey::{ConnectError, ValkeyBackend};
use ff_core::contracts::{TailFramesArgs, TailFramesResult};
use ff_core::engine_backend::{ExecutionOps, Host, StreamOps};
use ff_core::error::{Applied, EngineError};
use ff_core::ids::AttemptIndex;
use ff_core::operation::{Operation, dispatch};
use ff_testserver::process::plain;
use ff_testserver::{Kind, Server};

use crate::common::{ask, creation, options};

#[tokio::test]
async fn a_tail_may_block_for_longer_than_a_call_may_take() {
    let server = Server::start(Kind::Valkey).expect("the server's package is installed");
    let mut short = options("a");
    short.response_timeout = Duration::from_millis(300);
    let backend = ValkeyBackend::connect(&server.url(), short).await.unwrap();
    let (mut create, claim) = (creation(0, "one"), crate::common::claim_of(0, "one"));
    create.payload = Vec::new().into();
    let id = create.execution_id;
    backend.create_execution(create).await.unwrap();
    ff_core::engine_backend::ClaimOps::claim_next(&backend, claim).await.unwrap();
    let tail = TailFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(0)).block_ms(1_500).build();
    let began = Instant::now();
    let TailFramesResult::Frames(page) = backend.tail_frames(tail).await.expect("an empty page, no time-out");
    assert!(page.frames.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_that_gets_no_answer_is_unknown_and_one_that_got_no_turn_is_not_applied() {
    let server = plain(Kind::Valkey, &[]).unwrap();
    let mut narrow = options("a");
    narrow.max_in_flight = 1;
    narrow.retry_for = Duration::ZERO;
    narrow.response_timeout = Duration::from_secs(2);
    let backend = ValkeyBackend::connect(&server.url(), narrow).await.unwrap();
    ask(&server, &["CLIENT", "PAUSE", "4000", "ALL"]);
    let first = tokio::spawn({
        let backend = backend.clone();
        async move { backend.create_execution(creation(0, "one")).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let applied = |result: Result<_, EngineError>| match result {
        Err(EngineError::Transport { applied, message }) => (applied, message),
        other => panic!("{other:?}"),
    };
    let (second, message) = applied(backend.create_execution(creation(0, "two")).await);
    assert_eq!(second, Applied::No, "{message}");
    assert!(message.contains("on their way"), "{message}");
    assert_eq!(applied(first.await.unwrap()).0, Applied::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_number_of_calls_is_on_its_way_and_all_get_their_turn() {
    let server = Server::start(Kind::Valkey).unwrap();
    let mut narrow = options("a");
    narrow.max_in_flight = 3;
    let backend = ValkeyBackend::connect(&server.url(), narrow).await.unwrap();
    let calls = (0..500).map(|n| backend.create_execution(creation(n % 16, "one")));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    let batch = (0..500).map(|n| Operation::from(creation(n % 16, "two"))).collect();
    assert!(backend.execute_many(batch).await.iter().all(Result::is_ok), "a batch is no more than its bound at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_not_much_slower_than_its_calls_side_by_side() {
    let server = Server::start(Kind::Valkey).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let batch = |lane: &str| -> Vec<Operation> { (0..512).map(|n| creation(n % 16, lane).into()).collect() };
    // Once each before it counts.
    assert!(backend.execute_many(batch("warm")).await.iter().all(Result::is_ok));
    let (mut joined, mut piped) = (Duration::MAX, Duration::MAX);
    for round in 0..8 {
        let operations = batch(&format!("joined{round}"));
        let began = Instant::now();
        let results = futures::future::join_all(operations.into_iter().map(|op| dispatch(&backend, op))).await;
        joined = joined.min(began.elapsed());
        assert!(results.iter().all(Result::is_ok));
        let operations = batch(&format!("piped{round}"));
        let began = Instant::now();
        let results = backend.execute_many(operations).await;
        piped = piped.min(began.elapsed());
        assert!(results.iter().all(Result::is_ok));
    }
    let per_second = |time: Duration| 512.0 / time.as_secs_f64();
    println!("joined {:.0} calls/s, in one pipeline {:.0} calls/s", per_second(joined), per_second(piped));
    assert!(piped < joined * 2, "joined {joined:?}, in one pipeline {piped:?}");
}

#[tokio::test]
async fn operations_of_a_batch_on_one_partition_take_effect_in_their_order() {
    use ff_core::contracts::{Actor, CancelExecutionArgs, ListWaitpointHmacKidsArgs};
    let server = Server::start(Kind::Valkey).unwrap();
    let backend = ValkeyBackend::connect(&server.url(), options("a")).await.unwrap();
    let create = creation(3, "one");
    let id = create.execution_id;
    let actor = Actor::Operator { identity: "test".to_owned() };
    let cancel = CancelExecutionArgs { execution_id: id, actor, reason: "over".to_owned() };
    let operations: Vec<Operation> =
        vec![create.clone().into(), ListWaitpointHmacKidsArgs { partition: 3 }.into(), cancel.into(), create.into()];
    let results = backend.execute_many(operations).await;
    let text: Vec<String> = results.iter().map(|r| format!("{:?}", r.as_ref().expect("accepted"))).collect();
    assert!(text[0].contains("Created"), "{text:?}");
    assert!(text[2].contains("Cancelled"), "{text:?}");
    assert!(text[3].contains("AlreadyExists") && text[3].contains("ancelled"), "{text:?}");
}

#[tokio::test]
async fn no_error_of_connecting_shows_a_password() {
    let mut quick = options("a");
    quick.connection_timeout = Duration::from_secs(1);
    let server = plain(Kind::Valkey, &["--requirepass", "correct"]).unwrap();
    for url in [
        format!("redis://:hunter2@127.0.0.1:{}", server.port()),
        format!("redis://hunter2:hunter2@127.0.0.1:{}", server.port()),
        "redis://:hunter2@127.0.0.1:1".to_owned(),
        "redis+sentinel://:hunter2@127.0.0.1:1/main".to_owned(),
        "redis+cluster://:hunter2@127.0.0.1:1".to_owned(),
        "hunter2".to_owned(),
    ] {
        let mut options = quick.clone();
        options.retry_for = Duration::from_millis(300);
        let error = ValkeyBackend::connect(&url, options).await.expect_err("cannot be opened");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_user_and_a_password_open_a_server_that_asks_for_them() {
    let server = plain(Kind::Valkey, &["--requirepass", "p%ss word"]).unwrap();
    let url = format!("valkey://default:p%25ss%20word@127.0.0.1:{}/2?protocol=resp3", server.port());
    let backend = ValkeyBackend::connect(&url, options("a")).await.unwrap();
    crate::common::lifecycle(&backend, 0, "one").await.unwrap();
    crate::wake::wakes_within_milliseconds(&backend).await;
}

#[tokio::test]
async fn an_evicting_server_is_refused_unless_it_is_allowed() {
    let server = plain(Kind::Valkey, &["--maxmemory-policy", "allkeys-lru"]).unwrap();
    let error = ValkeyBackend::connect(&server.url(), options("a")).await.expect_err("it may evict");
    assert!(matches!(error, ConnectError::Eviction { .. }), "{error:?}");
    let mut allowed = options("a");
    allowed.allow_eviction = true;
    let backend = ValkeyBackend::connect(&server.url(), allowed).await.unwrap();
    let health = backend.health().await.unwrap();
    assert!(health.warnings.iter().any(|warning| warning.contains("allkeys-lru")), "{:?}", health.warnings);
}
