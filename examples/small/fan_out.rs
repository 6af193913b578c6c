//! Fan-out and fan-in: many tasks in parallel, one that receives all their results, with flaky ones in between.
//!
//! `cargo run --example fan_out`

use std::time::Duration;

use anyhow::Result;
use ff_engine::{Context, Retries, TaskError, Worker};

/// Primes below a bound, counted the slow way. Every third first attempt fails.
async fn count_primes(ctx: Context, (low, high): (u32, u32)) -> Result<u32, TaskError> {
    if (low / 1_000) % 3 == 0 && ctx.attempt_index().get() == 0 {
        return Err(TaskError::retryable("cosmic rays").category("flaky"));
    }
    let is_prime = |n: u32| n > 1 && (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    Ok(u32::try_from((low..high).filter(|n| is_prime(*n)).count())?)
}

async fn sum(ctx: Context, (): ()) -> Result<u32, TaskError> {
    let mut sum = 0;
    for input in ctx.inputs() {
        sum += ctx.input::<u32>(input.name.as_str()).await?;
    }
    Ok(sum)
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = ff_examples::engine("fan-out").await?;
    let mut flow = engine.flow("primes");
    let mut parts = Vec::new();
    for low in (0..20_000).step_by(1_000) {
        let part = flow.task("count_primes", &(low, low + 1_000))?;
        parts.push(part.retries(Retries::exponential(3, Duration::from_millis(20), Duration::from_secs(1))));
    }
    let mut total = flow.task("sum", &())?;
    for (n, part) in parts.iter().enumerate() {
        total = total.data(format!("part-{n}"), part);
    }
    let _total = total;
    // One atomic call: nothing starts before all of it exists.
    let flow = flow.submit().await?;

    let worker = Worker::builder(&engine).handler("count_primes", count_primes).handler("sum", sum).build()?;
    let sum = worker.run_while(flow.result::<u32>("sum")).await??;
    println!("{sum} primes below 20000");
    let (mut attempts, mut retries) = (0, 0);
    for part in flow.list().await? {
        let part = flow.handle(part.execution_id).describe().await?;
        attempts += part.attempt_count;
        retries += part.total_retries;
    }
    println!("{attempts} attempts, {retries} of them retried");
    Ok(())
}
