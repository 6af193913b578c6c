//! A fan-out of model calls under a budget: when the tokens are used up, what has not begun waits for the next period.
//!
//! `cargo run --example budgeted`

use std::time::{Duration, Instant};

use anyhow::Result;
use ff_engine::{BudgetLimits, Context, QuotaLimits, ReportUsageResult, TaskError, Worker};

const PERIOD: Duration = Duration::from_secs(2);
const TOKENS: u64 = 500;
const PROMPTS: usize = 20;

/// A model that is none: it takes its time and counts words.
async fn model(prompt: &str) -> (String, u64) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    (format!("{} words, you say?", prompt.split_whitespace().count()), 40 + prompt.len() as u64)
}

async fn ask(ctx: Context, prompt: String) -> Result<String, TaskError> {
    let (answer, tokens) = model(&prompt).await;
    // What was used is told, also when that breaks the limit: a budget stops what has not begun, not what runs.
    if let ReportUsageResult::HardBreach { usage, hard_limit, .. } = ctx.report_usage("llm", "tokens", tokens).await? {
        ctx.progress(100, format!("{usage} of {hard_limit} tokens used")).await?;
    }
    Ok(answer)
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = ff_examples::engine("budgeted").await?;
    let budget = engine.budget("llm")?;
    budget.create(BudgetLimits::hard("tokens", TOKENS).reset_every(PERIOD)).await?;
    // The model also wants no more than 4 calls at once.
    engine.quota("model")?.create(QuotaLimits::concurrent(4)).await?;

    let prompts = (0..PROMPTS).map(|n| format!("please tell me all about number {n}"));
    let submitted = engine.submit_all(prompts.map(|p| engine.execution("ask", &p).budget("llm").quota("model"))).await;
    let handles = submitted.into_iter().collect::<Result<Vec<_>, _>>()?;

    let began = Instant::now();
    let worker = Worker::builder(&engine).handler("ask", ask).build()?;
    let watch = async {
        for (n, handle) in handles.iter().enumerate() {
            handle.wait().await?;
            if n % 5 == 4 {
                let status = budget.status().await?;
                let used: u64 = status.dimensions.values().map(|d| d.usage).sum();
                println!(
                    "{:>2} done after {:.1} s; {used} tokens used in this period",
                    n + 1,
                    began.elapsed().as_secs_f64()
                );
            }
        }
        anyhow::Ok(())
    };
    worker.run_while(watch).await??;
    let status = budget.status().await?;
    println!("{} periods ended, {} breaches", status.reset_count, status.hard_breach_count);
    Ok(())
}
