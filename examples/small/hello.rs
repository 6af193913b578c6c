//! One worker, one execution, one result.
//!
//! `cargo run --example hello`

use anyhow::Result;
use ff_engine::{Context, TaskError, Worker};

async fn greet(ctx: Context, name: String) -> Result<String, TaskError> {
    ctx.progress(50, "looking for words").await?;
    Ok(format!("hello, {name}"))
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = ff_examples::engine("hello").await?;
    let handle = engine.execution("greet", "world").submit().await?;
    println!("{}", handle.explain().await?);

    // The worker runs until the future is ready, then drains. In a service that is a signal to shut down.
    let worker = Worker::builder(&engine).handler("greet", greet).build()?;
    let done = async { println!("{}", handle.result::<String>().await.unwrap_or_else(|error| error.to_string())) };
    worker.run_until(done).await?;
    println!("{}", handle.explain().await?);
    Ok(())
}
