//! Flows on the in-memory backend: order, data, size, cancellation.
#![cfg(feature = "memory")]

use std::time::Duration;

use ff_core::contracts::PublicFlowState;
use ff_core::state::PublicState;
use ff_engine::{Context, Engine, Error, TaskError, Worker, WorkerBuilder};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

async fn engine() -> Engine {
    Engine::connect("memory:?partitions=4").await.expect("an empty store")
}

fn worker(engine: &Engine) -> WorkerBuilder {
    Worker::builder(engine)
        .handler("number", |_: Context, n: u64| async move { Ok::<_, TaskError>(n) })
        .handler("sum", |ctx: Context, (): ()| async move {
            let mut sum = 0;
            for input in ctx.inputs() {
                sum += ctx.input::<u64>(input.name.as_str()).await?;
            }
            Ok::<_, TaskError>(sum)
        })
        .handler("fail", |_: Context, (): ()| async move { Err::<(), _>(TaskError::permanent("on purpose")) })
}

async fn until(worker: WorkerBuilder, done: impl Future<Output = ()>) {
    let worker = worker.build().expect("well put together");
    timeout(SOON, worker.run_until(done)).await.expect("in time").expect("no refusal of claims");
}

#[tokio::test]
async fn results_are_passed_along_the_edges_by_name() {
    let engine = engine().await;
    let mut flow = engine.flow("sums");
    let a = flow.task("number", &3).expect("encodes");
    let b = flow.task("number", &4).expect("encodes").after(&a);
    let _sum = flow.task("sum", &()).expect("encodes").data("a", &a).data("b", &b).after(&b);
    let flow = flow.submit().await.expect("submitted");
    assert_eq!(flow.names().collect::<Vec<_>>(), ["number", "number-2", "sum"]);
    until(worker(&engine), async {
        assert_eq!(flow.result::<u64>("sum").await.expect("summed"), 7);
        let end = flow.wait().await.expect("known");
        assert_eq!((end.state, end.ended, end.total), (PublicFlowState::Completed, 3, 3));
    })
    .await;
    assert!(matches!(flow.result::<u64>("product").await, Err(Error::Missing(_))));
    let known = engine.flow_handle(flow.id()).await.expect("known");
    assert_eq!(known.member("sum").expect("named").id(), flow.member("sum").expect("named").id());
}

#[tokio::test]
async fn what_waits_for_a_failure_is_skipped_unless_it_takes_any_end() {
    let engine = engine().await;
    let mut flow = engine.flow("ends");
    let bad = flow.task("fail", &()).expect("encodes");
    let _skipped = flow.task("sum", &()).expect("encodes").name("skipped").after(&bad);
    let _cleanup = flow.task("sum", &()).expect("encodes").name("cleanup").after_any(&bad);
    let flow = flow.submit().await.expect("submitted");
    until(worker(&engine), async {
        let end = flow.wait().await.expect("known");
        assert_eq!(end.state, PublicFlowState::Failed);
        let count = |state| end.count(state);
        let ends = [PublicState::Failed, PublicState::Skipped, PublicState::Completed].map(count);
        assert_eq!(ends, [1, 1, 1]);
        assert_eq!(flow.result::<u64>("cleanup").await.expect("it ran"), 0);
    })
    .await;
}

#[tokio::test]
async fn a_flow_that_is_too_large_for_one_call_is_built_held_and_sealed() {
    let engine = engine().await;
    let mut flow = engine.flow("large");
    let numbers: Vec<_> = (0..600_u64).map(|n| flow.task("number", &n).expect("encodes")).collect();
    let mut sums = Vec::new();
    for chunk in numbers.chunks(60) {
        let mut sum = flow.task("sum", &()).expect("encodes");
        for (i, number) in chunk.iter().enumerate() {
            sum = sum.data(format!("n{i}"), number);
        }
        sums.push(sum);
    }
    let mut total = flow.task("sum", &()).expect("encodes").name("total");
    for (i, sum) in sums.iter().enumerate() {
        total = total.data(format!("s{i}"), sum);
    }
    // More edges than one creation takes.
    let mut last = flow.task("number", &1).expect("encodes").name("last");
    for number in &numbers {
        last = last.after(number);
    }
    let id = ff_core::ids::FlowId::new(engine.backend().deployment().partitions);
    let _ = last;
    let flow = flow.id(id).submit().await.expect("submitted");
    let progress = flow.progress().await.expect("known");
    assert_eq!(progress.total, 612);
    until(worker(&engine).concurrency(32), async {
        assert_eq!(flow.result::<u64>("total").await.expect("summed"), 599 * 300);
        let end = flow.wait().await.expect("known");
        assert_eq!((end.state, end.count(PublicState::Completed)), (PublicFlowState::Completed, 612));
    })
    .await;
}

#[tokio::test]
async fn the_same_flow_again_is_the_same_flow_and_another_one_is_refused() {
    let engine = engine().await;
    let id = ff_core::ids::FlowId::new(engine.backend().deployment().partitions);
    for size in [3, 300] {
        let id = if size == 3 { id } else { ff_core::ids::FlowId::new(engine.backend().deployment().partitions) };
        let build = |first: u64| {
            let mut flow = engine.flow("again").id(id);
            let mut before = flow.task("number", &first).expect("encodes");
            for n in 1..size {
                before = flow.task("number", &n).expect("encodes").after(&before);
            }
            flow.submit()
        };
        let first = build(0).await.expect("submitted");
        let again = build(0).await.expect("a repeat");
        assert!(first.names().eq(again.names()));
        assert_eq!(first.member("number").map(|h| h.id()), again.member("number").map(|h| h.id()));
        assert!(build(9).await.is_err(), "other content under the same id");
        assert_eq!(first.progress().await.expect("known").total, size);
    }
}

#[tokio::test]
async fn cancelling_a_flow_ends_all_its_tasks() {
    let engine = engine().await;
    let mut flow = engine.flow("stopped");
    let first = flow.task("number", &1).expect("encodes").delay(Duration::from_secs(3600));
    let _second = flow.task("number", &2).expect("encodes").after(&first);
    let flow = flow.submit().await.expect("submitted");
    flow.cancel("zoe", "changed my mind").await.expect("cancelled");
    let end = timeout(SOON, flow.wait()).await.expect("in time").expect("known");
    assert_eq!((end.state, end.count(PublicState::Cancelled)), (PublicFlowState::Cancelled, 2));
}

#[tokio::test]
async fn mistakes_are_named_before_anything_is_created() {
    let engine = engine().await;
    assert!(engine.flow("empty").submit().await.is_err());
    let mut flow = engine.flow("twins");
    let a = flow.task("number", &1).expect("encodes").name("one");
    let _b = flow.task("number", &1).expect("encodes").name("one").after(&a);
    let error = flow.submit().await.expect_err("one name, two tasks").to_string();
    assert_eq!(error, "two tasks of the flow are named \"one\"");
    let mut flow = engine.flow("stranger");
    let _c = flow.task("number", &1).expect("encodes").after(&a);
    assert!(flow.submit().await.expect_err("a stranger").to_string().contains("another flow"));
    let mut flow = engine.flow("lane");
    let _d = flow.task("number", &1).expect("encodes").lane("no spaces");
    assert!(matches!(flow.submit().await, Err(Error::InvalidId(_))));
}
