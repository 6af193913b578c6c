//! A backend around a backend: this one loses answers on purpose and counts calls. Nothing is lost or done twice.
//!
//! `cargo run --example wrapper`

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use async_trait::async_trait;
use clap::Parser as _;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::{Applied, EngineError};
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_engine::{Context, Engine, TaskError, Worker};

const JOBS: u64 = 200;

/// Carries out every operation, and loses every seventh answer.
#[derive(Default)]
struct Lossy {
    calls: AtomicU64,
    by_name: Mutex<BTreeMap<&'static str, u64>>,
}

#[async_trait]
impl Layer for Lossy {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let name = operation.name().as_str();
        *self.by_name.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        let outcome = dispatch(inner, operation).await;
        if self.calls.fetch_add(1, Ordering::Relaxed) % 7 == 6 {
            return Err(EngineError::Transport { applied: Applied::Unknown, message: "lost on purpose".into() });
        }
        outcome
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = ff_examples::Options::parse();
    let store = Engine::builder().unobserved().connect(&options.backend).await?.backend().clone();
    let lossy = Layered::new(store, Lossy::default());
    let counted = lossy.clone();
    let lane = format!("wrapper-{}", std::process::id());
    let engine = Engine::builder().lane(lane).open(Arc::new(lossy)).await?;

    let submitted = engine.submit_all((0..JOBS).map(|n| engine.execution("double", &n))).await;
    let handles = submitted.into_iter().collect::<Result<Vec<_>, _>>()?;
    let ran = Arc::new(AtomicU64::new(0));
    let worker = Worker::builder(&engine).handler("double", {
        let ran = Arc::clone(&ran);
        move |_: Context, n: u64| {
            ran.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, TaskError>(n * 2) }
        }
    });
    let check = async {
        let mut sum = 0;
        for handle in &handles {
            sum += handle.result::<u64>().await?;
        }
        anyhow::Ok(sum)
    };
    let sum = worker.build()?.run_while(check).await??;
    println!("sum {sum}, expected {}", JOBS * (JOBS - 1));
    println!("{} handlers ran for {JOBS} jobs", ran.load(Ordering::Relaxed));
    let by_name = counted.layer().by_name.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, calls) in by_name.iter() {
        println!("{calls:>6} {name}");
    }
    Ok(())
}
