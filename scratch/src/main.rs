//! A new user's first crate: a worker, a flow, and the test of a workflow that waits for a week.

use std::time::Duration;

use ff_engine::{Context, Engine, Error, TaskError, Worker, WorkerBuilder};

async fn fetch(_ctx: Context, page: String) -> Result<String, TaskError> {
    Ok(format!("the text of {page}"))
}

async fn count(ctx: Context, (): ()) -> Result<usize, TaskError> {
    let mut words = 0;
    for input in ctx.inputs() {
        words += ctx.input::<String>(input.name.as_str()).await?.split(' ').count();
    }
    Ok(words)
}

async fn remind(ctx: Context, name: String) -> Result<String, TaskError> {
    if ctx.resumed().is_none() {
        return Err(TaskError::delay(Duration::from_secs(7 * 86_400)));
    }
    Ok(format!("{name}, a week has passed"))
}

fn worker(engine: &Engine) -> WorkerBuilder {
    Worker::builder(engine).handler("fetch", fetch).handler("count", count).handler("remind", remind)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let engine = Engine::connect("memory:").await?;
    let mut flow = engine.flow("words");
    let one = flow.task("fetch", "page one")?;
    let two = flow.task("fetch", "page two")?;
    let _count = flow.task("count", &())?.data("one", &one).data("two", &two);
    let flow = flow.submit().await?;
    let words = worker(&engine).build()?.run_while(flow.result::<usize>("count")).await??;
    println!("{words} words");
    Ok(())
}

#[tokio::test]
async fn after_a_week_it_reminds() -> Result<(), Error> {
    let test = Engine::in_memory().await?;
    test.serve(worker(&test))?;
    let zoe = test.execution("remind", "Zoe").submit().await?;
    test.advance(Duration::from_secs(7 * 86_400 - 1)).await?;
    test.assert_delayed(&zoe).await;
    test.advance(Duration::from_secs(1)).await?;
    test.assert_result(&zoe, "Zoe, a week has passed").await;
    Ok(())
}
