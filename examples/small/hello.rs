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

    // The worker runs while something waits for the result, then drains. A service uses `run_until` and a signal.
    let worker = Worker::builder(&engine).handler("greet", greet).build()?;
    println!("{}", worker.run_while(handle.result::<String>()).await??);
    println!("{}", handle.explain().await?);
    Ok(())
}
