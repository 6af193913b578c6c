//! Answers that get lost: what may be repeated is, what counts each time is not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ff_backend_valkey::ValkeyBackend;
use ff_core::contracts::{
    AppendFrameArgs, CreateBudgetArgs, DescribeExecutionArgs, Fence, GetBudgetStatusArgs, Limits, ReadFramesArgs,
    ReadFramesResult, ReportMode, ReportUsageArgs, ResetBudgetArgs, SetExecutionTagsArgs,
};
use ff_core::engine_backend::{BudgetOps, ClaimOps, ExecutionOps, Host, ReadsOps, StreamOps};
use ff_core::error::{Applied, EngineError};
use ff_core::ids::{AttemptIndex, BudgetId, Dimension, ExecutionId};
use ff_core::operation::Operation;
use ff_testserver::Kind;
use ff_testserver::process::{Process, plain};

use crate::common::{claim_of, creation, options};

/// A way to a server that loses as many answers as it is told to, each with its connection.
struct Lossy {
    port: u16,
    /// How many more are lost.
    lose: Arc<AtomicUsize>,
}

impl Lossy {
    fn before(server: &Process) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lose, to) = (Arc::new(AtomicUsize::new(0)), server.port());
        let left = Arc::clone(&lose);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) else { continue };
                let (mut questions, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut questions, &mut asked);
                    let _ = asked.shutdown(Shutdown::Both);
                });
                let left = Arc::clone(&left);
                thread::spawn(move || answer(server, client, &left));
            }
        });
        Self { port, lose }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the next answers.
    fn lose(&self, count: usize) {
        self.lose.store(count, Ordering::SeqCst);
    }

    fn lost_all(&self) -> bool {
        self.lose.load(Ordering::SeqCst) == 0
    }
}

/// Passes answers on until one is to be lost.
fn answer(mut from: TcpStream, mut to: TcpStream, left: &AtomicUsize) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let lost = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if lost || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

async fn opened() -> (Process, Lossy, ValkeyBackend) {
    let server = plain(Kind::Valkey, &[]).expect("the server's package is installed");
    let way = Lossy::before(&server);
    let backend = ValkeyBackend::connect(&way.url(), options("a")).await.unwrap();
    (server, way, backend)
}

fn is_unknown<T>(answer: &Result<T, EngineError>) -> bool {
    matches!(answer, Err(EngineError::Transport { applied: Applied::Unknown, .. }))
}

async fn owned(backend: &ValkeyBackend) -> (ExecutionId, Fence) {
    let create = creation(0, "one");
    let id = create.execution_id;
    backend.create_execution(create).await.unwrap();
    let claimed = backend.claim_next(claim_of(0, "one")).await.unwrap();
    (id, claimed.claimed.first().expect("it is ready").claimed().fence)
}

fn budget() -> BudgetId {
    BudgetId::new("b").unwrap()
}

fn report(key: Option<&str>) -> ReportUsageArgs {
    ReportUsageArgs::builder()
        .budget_id(budget())
        .mode(ReportMode::Record)
        .amounts(vec![(Dimension::new("tokens").unwrap(), 5)])
        .maybe_dedup_key(key.map(str::to_owned))
        .build()
}

async fn with_budget(backend: &ValkeyBackend) {
    let dimensions = [(Dimension::new("tokens").unwrap(), Limits::default())].into();
    backend
        .create_budget(CreateBudgetArgs::builder().budget_id(budget()).dimensions(dimensions).build())
        .await
        .unwrap();
}

async fn usage(backend: &ValkeyBackend) -> (u64, u64) {
    let status = backend.get_budget_status(GetBudgetStatusArgs { budget_id: budget() }).await.unwrap();
    let used = status.dimensions.values().map(|dimension| dimension.usage).sum();
    (used, status.reset_count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_without_a_key_counts_once_and_is_unknown_and_one_with_a_key_is_repeated() {
    let (_server, way, backend) = opened().await;
    with_budget(&backend).await;
    way.lose(1);
    let answer = backend.report_usage(report(None)).await;
    assert!(way.lost_all() && is_unknown(&answer), "{answer:?}");
    assert_eq!(usage(&backend).await.0, 5, "counted once");
    way.lose(2);
    backend.report_usage(report(Some("k"))).await.expect("repeated until it is answered");
    assert!(way.lost_all());
    assert_eq!(usage(&backend).await.0, 10, "counted once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_without_a_key_happens_once_and_is_unknown_and_one_with_a_key_is_repeated() {
    let (_server, way, backend) = opened().await;
    with_budget(&backend).await;
    let reset = |key: Option<&str>| {
        ResetBudgetArgs::builder().budget_id(budget()).by("ops").maybe_dedup_key(key.map(str::to_owned)).build()
    };
    way.lose(1);
    let answer = backend.reset_budget(reset(None)).await;
    assert!(way.lost_all() && is_unknown(&answer), "{answer:?}");
    assert_eq!(usage(&backend).await.1, 1);
    way.lose(2);
    backend.reset_budget(reset(Some("k"))).await.expect("repeated until it is answered");
    assert_eq!(usage(&backend).await.1, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_without_a_seq_is_appended_once_and_unknown_and_one_with_a_seq_is_repeated() {
    let (_server, way, backend) = opened().await;
    let (id, fence) = owned(&backend).await;
    let frame = |seq: Option<u64>| {
        let frame = AppendFrameArgs::builder().execution_id(id).fence(fence).frame_type("text").payload(b"x".to_vec());
        frame.maybe_seq(seq).build()
    };
    way.lose(1);
    let answer = backend.append_frame(frame(None)).await;
    assert!(way.lost_all() && is_unknown(&answer), "{answer:?}");
    way.lose(2);
    backend.append_frame(frame(Some(1))).await.expect("repeated until it is answered");
    let read = ReadFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(0)).build();
    let ReadFramesResult::Frames(page) = backend.read_frames(read).await.unwrap();
    assert_eq!(page.frames.len(), 2, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_batch_repeats_what_it_may_and_turns_no_order_round() {
    let (_server, way, backend) = opened().await;
    with_budget(&backend).await;
    let (id, _) = owned(&backend).await;
    let tags = |value: &str| -> Operation {
        let tags = [("team.a".to_owned(), Some(value.to_owned()))].into();
        SetExecutionTagsArgs { execution_id: id, tags }.into()
    };
    let batch = vec![
        report(None).into(),
        report(Some("k")).into(),
        tags("first"),
        creation(0, "two").into(),
        tags("second"),
        creation(1, "three").into(),
    ];
    way.lose(1);
    let answers = backend.execute_many(batch).await;
    assert!(way.lost_all());
    assert!(is_unknown(&answers[0]), "{answers:?}");
    assert!(is_unknown(&answers[2]), "a later one on the same execution may have been applied: {answers:?}");
    for n in [1, 3, 4, 5] {
        assert!(answers[n].is_ok(), "{n}: {answers:?}");
    }
    assert_eq!(usage(&backend).await.0, 10, "each counted once");
    let x = backend.describe_execution(DescribeExecutionArgs { execution_id: id }).await.unwrap();
    assert_eq!(x.tags.get("team.a").map(String::as_str), Some("second"));
}
