//! Benchmarks of a backend: `cargo run --release -p ff-bench -- --backend valkey:`.
//!
//! `valkey:` and `redis:` start a private server of their own; another URL names a running one, whose keys under the
//! prefix `bench` are removed. Rounds are played in turn, so that the ratios of one run are worth more than its rates.

mod lifecycle;
mod limit;
mod queue;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use ff_backend_memory::MemoryBackend;
use ff_backend_valkey::{Options, ValkeyBackend};
use ff_core::engine_backend::EngineBackend;
use ff_testserver::{Kind, Server};

use crate::report::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// PING, a function that does nothing, a function with five representative writes.
    Limit,
    /// Create, claim, complete with 4 KiB, one execution a call.
    Lifecycle,
    /// The same with an empty payload.
    Empty,
    /// The same in batches: 64 creations sent together, claims of up to 16.
    Batched,
    /// The hand-written queue, one call a step.
    Queue,
    /// The hand-written queue, completion and next claim in one call.
    Fused,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// `memory:`, `valkey:`, `redis:` or the URL of a running server.
    #[arg(long, default_value = "memory:")]
    backend: String,
    /// Scenarios; all that the backend has if none is named.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Rounds of each scenario.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Executions of one round.
    #[arg(long, default_value_t = 10_000)]
    executions: usize,
    /// Concurrent workers.
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Write the figures here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The store under test and a raw way to its server, if it has one.
#[derive(Clone)]
struct Target {
    backend: Arc<dyn EngineBackend>,
    server: Option<redis::aio::MultiplexedConnection>,
    workers: usize,
    executions: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let memory = arguments.backend == "memory:";
    let runtime = if memory {
        // One core, as the targets of the in-memory backend are stated.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?
    };
    runtime.block_on(run(arguments, memory))
}

async fn run(arguments: Arguments, memory: bool) -> Result<()> {
    let mut private = None;
    let url = match arguments.backend.as_str() {
        "valkey:" => Some(private.insert(Server::start(Kind::Valkey).context("valkey-server")?).url()),
        "redis:" => Some(private.insert(Server::start(Kind::Redis).context("redis-server")?).url()),
        "memory:" => None,
        url => Some(url.to_owned()),
    };
    let scenarios =
        if arguments.scenario.is_empty() { Scenario::value_variants().to_vec() } else { arguments.scenario.clone() };
    let mut report = Report::default();
    for round in 0..arguments.rounds {
        for scenario in &scenarios {
            let raw = matches!(scenario, Scenario::Limit | Scenario::Queue | Scenario::Fused);
            if memory && raw {
                continue;
            }
            eprintln!("round {} of {}: {scenario:?}", round + 1, arguments.rounds);
            let target = open(url.as_deref(), &arguments).await?;
            match scenario {
                Scenario::Limit => limit::run(&target, &mut report).await?,
                Scenario::Lifecycle => lifecycle::single(&target, "lifecycle", 4096, &mut report).await?,
                Scenario::Empty => lifecycle::single(&target, "empty", 0, &mut report).await?,
                Scenario::Batched => lifecycle::batched(&target, &mut report).await?,
                Scenario::Queue => queue::run(&target, false, &mut report).await?,
                Scenario::Fused => queue::run(&target, true, &mut report).await?,
            }
        }
    }
    println!("{}", report.table());
    if let Some(path) = arguments.json {
        std::fs::write(&path, report.json(&arguments.backend)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// A fresh, empty store.
async fn open(url: Option<&str>, arguments: &Arguments) -> Result<Target> {
    let (workers, executions) = (arguments.workers, arguments.executions);
    let Some(url) = url else {
        return Ok(Target { backend: Arc::new(MemoryBackend::new()), server: None, workers, executions });
    };
    let mut server = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("bench:*").query_async(&mut server).await?;
    for some in keys.chunks(500) {
        redis::cmd("UNLINK").arg(some).query_async::<()>(&mut server).await?;
    }
    let mut options = Options::default();
    "bench".clone_into(&mut options.prefix);
    let backend = Arc::new(ValkeyBackend::connect(url, options).await?);
    Ok(Target { backend, server: Some(server), workers, executions })
}
