//! Benchmarks of a backend: `cargo run --release -p ff-bench -- --backend valkey: --compare`.
//!
//! `valkey:` and `redis:` start a private server of their own; another URL names a running one, whose keys under the
//! prefix `bench` are removed. Rounds are played in turn, so that the ratios of one run are worth more than its rates.

mod report;
mod scenarios;
mod target;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use ff_backend_memory::MemoryBackend;
use ff_backend_valkey::{Options, ValkeyBackend};
use ff_testserver::{Kind, Server};

use crate::report::{Machine, Report};
use crate::scenarios::{chain, delay, fan, growth, idle, lifecycle, limit, memory, queue, routing, signal, stream};
use crate::target::Target;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// PING, a function that does nothing, a function with five representative writes. A baseline of `--compare`.
    Limit,
    /// The hand-written queue, one call a step. A baseline of `--compare`.
    Queue,
    /// The hand-written queue, completion and next claim in one call. A baseline of `--compare`.
    Fused,
    /// Create, claim, complete with 4 KiB, one execution a call.
    Lifecycle,
    /// The same with an empty payload.
    Empty,
    /// The same in batches: 64 creations sent together, claims of up to 16.
    Batched,
    /// Flows of ten in a row; a hundredth of the executions.
    Chain,
    /// One root, 1,000 children, one sink; and ten flows of 100.
    Fan,
    /// Suspend, deliver, claim again, by one caller alone; a tenth of the executions.
    Signal,
    /// 50 requirement sets, 100 workers with mixed capabilities.
    Routing,
    /// Executions due over ten seconds, taken by an engine's worker.
    Delay,
    /// Frames of 256 bytes, appended and tailed.
    Stream,
    /// Ten times as many that wait and that are suspended, one worker of 100 lanes, nothing due.
    Idle,
    /// The lifecycle beside many that are stored already.
    Growth,
    /// Bytes of a waiting, a running and a finished execution.
    Memory,
}

impl Scenario {
    /// Whether it speaks to a server past the backend.
    const fn is_baseline(self) -> bool {
        matches!(self, Self::Limit | Self::Queue | Self::Fused)
    }
}

#[derive(Debug, Parser)]
#[command(version, about = "Benchmarks of every backend, with the server's limit and a hand-written queue beside them")]
struct Arguments {
    /// `memory:`, `valkey:`, `redis:` or the URL of a running server, of which the keys `bench:*` are removed.
    #[arg(long, default_value = "memory:")]
    backend: String,
    /// Scenarios, by comma or by repetition; all but the baselines if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Measure the server's limit and the hand-written queue in the same rounds, for the ratios.
    #[arg(long)]
    compare: bool,
    /// Rounds of each scenario.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Executions of one round; scenarios take their size from it.
    #[arg(long, default_value_t = 10_000)]
    executions: usize,
    /// Concurrent workers.
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// How many executions `growth` stores before each of its measurements, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    stored: Vec<usize>,
    /// Write the figures here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.workers > 0, "--workers 0: there must be one");
    ensure!(arguments.executions > 0, "--executions 0: there must be one");
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
    let named = |s: &Scenario| match arguments.scenario.as_slice() {
        [] => !s.is_baseline(),
        some => some.contains(s),
    };
    let scenarios: Vec<Scenario> = Scenario::value_variants()
        .iter()
        .copied()
        .filter(|s| named(s) || (arguments.compare && s.is_baseline()))
        .filter(|s| !(memory && s.is_baseline()))
        .collect();
    ensure!(!scenarios.is_empty(), "the baselines speak to a server: name one with --backend");
    let mut report = Report::default();
    let mut store = "memory".to_owned();
    for round in 0..arguments.rounds {
        for (at, scenario) in scenarios.iter().enumerate() {
            let place = format!("round {} of {}, {} of {}", round + 1, arguments.rounds, at + 1, scenarios.len());
            eprintln!("{place}: {scenario:?}");
            let target = open(url.as_deref(), &arguments).await?;
            if let Ok(server) = target.server() {
                store = report::server_version(server).await?;
            }
            play(*scenario, &target, &arguments, &mut report).await.with_context(|| format!("{scenario:?}"))?;
        }
    }
    println!("{}", report.table());
    if let Some(path) = &arguments.json {
        let settings = serde_json::json!({
            "backend": arguments.backend,
            "executions": arguments.executions,
            "workers": arguments.workers,
            "rounds": arguments.rounds,
        });
        let text = report.json(&store, &settings, &Machine::of_this_process())?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

async fn play(scenario: Scenario, target: &Target, arguments: &Arguments, report: &mut Report) -> Result<()> {
    match scenario {
        Scenario::Limit => limit::run(target, report).await,
        Scenario::Queue => queue::run(target, false, report).await,
        Scenario::Fused => queue::run(target, true, report).await,
        Scenario::Lifecycle => lifecycle::single(target, "lifecycle", 4096, report).await,
        Scenario::Empty => lifecycle::single(target, "empty", 0, report).await,
        Scenario::Batched => lifecycle::batched(target, report).await,
        Scenario::Chain => chain::run(target, report).await,
        Scenario::Fan => fan::run(target, report).await,
        Scenario::Signal => signal::run(target, report).await,
        Scenario::Routing => routing::run(target, report).await,
        Scenario::Delay => delay::run(target, report).await,
        Scenario::Stream => stream::run(target, report).await,
        Scenario::Idle => idle::run(target, report).await,
        Scenario::Growth => growth::run(target, &arguments.stored, report).await,
        Scenario::Memory => memory::run(target, report).await,
    }
}

/// A fresh, empty store.
async fn open(url: Option<&str>, arguments: &Arguments) -> Result<Target> {
    let (workers, executions) = (arguments.workers, arguments.executions);
    let Some(url) = url else {
        return Ok(Target { backend: Arc::new(MemoryBackend::new()), server: None, workers, executions });
    };
    let mut server = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut cursor = 0u64;
    loop {
        // KEYS would hold up a server of a million keys for a second, and its clients' time-outs with it.
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg("bench:*")
            .arg("COUNT")
            .arg(10_000)
            .query_async(&mut server)
            .await?;
        if !keys.is_empty() {
            redis::cmd("DEL").arg(keys).query_async::<()>(&mut server).await?;
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    let mut options = Options::default();
    "bench".clone_into(&mut options.prefix);
    let backend = Arc::new(ValkeyBackend::connect(url, options).await?);
    Ok(Target { backend, server: Some(server), workers, executions })
}
