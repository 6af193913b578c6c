//! Flows on the in-memory backend: order, data, size, cancellation.

use std::time::Duration;

use ff_core::contracts::PublicFlowState;
use ff_core::state::PublicState;
use ff_engine::{Context, Engine, Error, TaskError, Worker, WorkerBuilder};
use tokio::time::timeout;

use crate::common::{SOON, memory, until};

async fn engine() -> Engine {
    memory(4).await
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

/// Counts down: each call adds the children that are left, waits, and reports what it saw when it goes on.
async fn parent(ctx: Context, children: u32) -> Result<(u32, u32), TaskError> {
    if !ctx.children_done() {
        for n in 0..children {
            ctx.child(format!("child-{n}"), "child", &n).required().spawn().await?;
        }
        if ctx.attempt_index().get() == 0 && children == 3 {
            return Err(TaskError::retryable("after the children are there"));
        }
        return Err(TaskError::wait_for_children());
    }
    let mut sum = 0;
    for input in ctx.inputs() {
        sum += ctx.optional_input::<u32>(input.name.as_str()).await?.unwrap_or_default();
    }
    Ok((sum, ctx.failed_children()))
}

#[tokio::test]
async fn a_task_waits_for_the_children_that_it_added_and_is_told_how_they_ended() {
    let test = Engine::in_memory().await.expect("in memory");
    let worker = Worker::builder(&test).handler("parent", parent).handler("child", |_: Context, n: u32| async move {
        match n {
            1 => Err(TaskError::delay(Duration::from_secs(3600))),
            7 => Err(TaskError::permanent("unlucky")),
            n => Ok(n),
        }
    });
    // Child 1 pauses for ever and again: until it is completed from outside.
    test.serve(worker).expect("well put together");
    let mut flow = test.flow("family").open();
    flow.task("parent", &0_u32).expect("encodes").name("childless");
    flow.task("parent", &1_u32).expect("encodes").name("one");
    flow.task("parent", &3_u32).expect("encodes").name("three").retries(ff_engine::Retries::immediate(1));
    flow.task("parent", &9_u32).expect("encodes").name("nine");
    let flow = flow.submit().await.expect("submitted");
    test.run_until_idle().await.expect("idle");
    let member = |name: &str| flow.member(name).expect("named");
    test.assert_result(&member("childless"), &(0, 0)).await;
    test.assert_result(&member("one"), &(0, 0)).await;
    test.assert_state(&member("three"), PublicState::WaitingChildren).await;
    assert_eq!(flow.progress().await.expect("known").total, 4 + 1 + 3 + 9);
    for child in flow.list().await.expect("known") {
        if child.public_state == PublicState::Delayed {
            let args = ff_core::contracts::CompleteExecutionArgs::builder()
                .execution_id(child.execution_id)
                .actor(ff_core::contracts::Actor::operator("zoe"))
                .result("100")
                .build();
            test.backend().complete_execution(args).await.expect("not ended");
        }
    }
    test.run_until_idle().await.expect("idle");
    test.assert_result(&member("three"), &(102, 0)).await;
    assert_eq!(member("three").describe().await.expect("known").attempt_count, 2);
    // The parent that was tried again has the same children, not more.
    assert_eq!(flow.progress().await.expect("known").total, 4 + 1 + 3 + 9);
    // 0 + 100 + 2 + 3 + 4 + 5 + 6 + 8; the seventh failed.
    test.assert_result(&member("nine"), &(128, 1)).await;
    flow.seal().await.expect("open");
    assert!(flow.progress().await.expect("known").is_over());
    test.assert_sound();
}

#[tokio::test]
async fn an_open_flow_waits_for_edges_that_do_not_fit_into_one_creation() {
    let test = Engine::in_memory().await.expect("in memory");
    let worker = Worker::builder(&test)
        .handler("number", |ctx: Context, n: u64| async move { Ok::<_, TaskError>(n + u64::from(ctx.claimed().run)) });
    test.serve(worker).expect("well put together");
    let mut flow = test.flow("wide").open();
    let mut last = flow.task("number", &1000_u64).expect("encodes").name("last");
    for n in 0..100_u64 {
        let before = flow.task("number", &n).expect("encodes").delay(Duration::from_secs(n));
        last = last.after(&before);
    }
    let flow = flow.submit().await.expect("submitted");
    test.advance(Duration::from_secs(98)).await.expect("passes");
    test.assert_state(&flow.member("last").expect("named"), PublicState::WaitingChildren).await;
    test.advance(Duration::from_secs(1)).await.expect("passes");
    test.assert_completed(&flow.member("last").expect("named")).await;
}

#[tokio::test]
async fn children_need_an_open_flow() {
    let test = Engine::in_memory().await.expect("in memory");
    test.serve(Worker::builder(&test).handler("parent", parent)).expect("well put together");
    let alone = test.execution("parent", &1_u32).submit().await.expect("submitted");
    let mut flow = test.flow("sealed");
    let _ = flow.task("parent", &1_u32).expect("encodes");
    let flow = flow.submit().await.expect("submitted");
    test.run_until_idle().await.expect("idle");
    for (handle, why) in [(alone, "only a flow's task"), (flow.member("parent").expect("named"), "flow_sealed")] {
        let end = handle.describe().await.expect("known");
        assert_eq!(end.public_state, PublicState::Failed);
        let reason = end.failure_reason.expect("given");
        assert!(reason.contains(why), "{reason}");
    }
}
