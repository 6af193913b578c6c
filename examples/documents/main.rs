//! Indexes the text files of a folder: one durable flow, with data passed along its edges, failures on purpose, a worker
//! that dies, and a human approval before the index is written.
//!
//! `cargo run --release --example documents -- <folder> [--yes] [--flaky 0.1] [--kill-worker]`
//!
//! On a server, further processes can help, and be killed: the same command with `--worker-only` and the same `--backend`.

mod files;
mod tasks;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use comfy_table::{Table, presets};
use ff_core::state::PublicState;
use ff_engine::{Engine, FlowHandle, Handle, Retries, Task, WorkerReport};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tasks::{Index, RETRIES, Shared};

/// Results that one task takes along its edges at most.
const FAN_IN: usize = 64;
/// Files of one run at most: a flow has at most 10,000 tasks, three for each file and those that join them.
const MAX_FILES: usize = 3_000;
/// The lease of the worker that dies: short, so that its work is soon taken over.
const LEASE: Duration = Duration::from_secs(1);

/// Indexes the text files of a folder as one durable flow.
#[derive(Parser)]
struct Options {
    /// The folder to walk.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Approve the publication without asking.
    #[arg(long)]
    yes: bool,
    /// The share of attempts that fail on purpose, 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    flaky: f64,
    /// Only work on what other processes submit to the same store, until interrupted.
    #[arg(long)]
    worker_only: bool,
    /// Workers of this process.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// How long the work of a process that was killed waits for another one, in seconds.
    #[arg(long, default_value_t = 30)]
    lease: u64,
    /// Let one worker die with its leases; its work is taken over.
    #[arg(long)]
    kill_worker: bool,
    /// Where the index is written.
    #[arg(long, default_value = "index.json")]
    out: PathBuf,
    /// Where executions are kept: memory:, or redis://host:port/0?prefix=app
    #[arg(long, default_value = "memory:")]
    backend: String,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("it must lie between 0 and 0.9".into()) }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.worker_only {
        return end(work(&options));
    }
    if !options.folder.is_dir() {
        eprintln!("{} is not a folder", options.folder.display());
        return ExitCode::from(2);
    }
    let mut found = files::text_files(&options.folder, &options.out);
    if found.files.is_empty() {
        eprintln!("{} holds no text files", options.folder.display());
        return ExitCode::from(2);
    }
    if found.too_large > 0 {
        eprintln!("{} text files over {} MiB are left out", found.too_large, files::MAX_BYTES >> 20);
    }
    if found.files.len() > MAX_FILES {
        eprintln!("{} text files, of which the first {MAX_FILES} are indexed", found.files.len());
        found.files.truncate(MAX_FILES);
    }
    end(run(&options, found.files))
}

/// Runs a part of the program to its end; whether it succeeded.
fn end(part: impl Future<Output = Result<bool>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.context("no runtime").and_then(|runtime| runtime.block_on(part)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Opens the store. An index of many files is larger than results are by default.
async fn open(options: &Options) -> Result<Engine> {
    let mut url = options.backend.clone();
    if !url.contains("max_payload_bytes=") {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str("max_payload_bytes=67108864");
    }
    Engine::builder().namespace("documents").connect(&url).await.context("the store was not opened")
}

/// Workers of this process, until they are told to stop.
struct Workers {
    stop: CancellationToken,
    running: Vec<JoinHandle<ff_engine::Result<WorkerReport>>>,
}

impl Workers {
    fn start(engine: &Engine, options: &Options, shared: &Shared) -> Result<Self> {
        let stop = CancellationToken::new();
        let lease = Duration::from_secs(options.lease);
        let worker =
            |n| tasks::worker(engine, shared).name(format!("indexer-{n}")).concurrency(16).lease(lease).build();
        let running = (0..options.workers)
            .map(|n| Ok(tokio::spawn(worker(n)?.run_until(stop.clone().cancelled_owned()))))
            .collect::<Result<_>>()?;
        Ok(Self { stop, running })
    }

    async fn drain(self) -> Result<()> {
        self.stop.cancel();
        for worker in self.running {
            worker.await.context("a worker panicked")??;
        }
        Ok(())
    }
}

/// Works on what others submit, until interrupted.
async fn work(options: &Options) -> Result<bool> {
    let engine = open(options).await?;
    let workers = Workers::start(&engine, options, &Shared::new(options.flaky, &options.out))?;
    println!("at work");
    tokio::signal::ctrl_c().await?;
    workers.drain().await?;
    Ok(true)
}

/// Whether the index was published.
async fn run(options: &Options, files: Vec<PathBuf>) -> Result<bool> {
    let began = Instant::now();
    let engine = open(options).await?;
    let shared = Shared::new(options.flaky, &options.out);
    let flow = submit(&engine, &files).await?;

    if options.kill_worker {
        kill_a_worker(&engine).await?;
    }
    let workers = Workers::start(&engine, options, &shared)?;
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    let publish = flow.member("publish").context("the flow has a publication")?;
    let approving = tokio::spawn(approve(engine.clone(), publish, options.yes, bar.clone()));
    let interrupted = tokio::select! {
        watched = watch(&flow, &bar) => { watched?; false }
        _ = tokio::signal::ctrl_c() => true,
    };
    if interrupted {
        flow.cancel("operator", "interrupted").await?;
    }
    approving.abort();
    bar.finish_and_clear();
    workers.drain().await?;
    report(&flow, files.len(), began.elapsed(), shared.failures.load(Ordering::Relaxed)).await?;
    let published = !interrupted && flow.result::<String>("publish").await.is_ok();
    if published {
        println!("written: {}", options.out.display());
    } else {
        println!("not published");
    }
    Ok(published)
}

/// Per file: read, then count and headings in parallel; then everything joined, in steps of what one task takes; then the
/// publication.
async fn submit(engine: &Engine, files: &[PathBuf]) -> Result<FlowHandle> {
    let retries = || Retries::fixed(RETRIES, Duration::from_millis(20)).only(["flaky", "panic", "timeout"]);
    let mut flow = engine.flow("documents");
    let mut parts: Vec<Task> = Vec::with_capacity(files.len() * 2);
    for file in files {
        let read = flow.task("read", file)?.retries(retries());
        for kind in ["count_words", "extract_headings"] {
            parts.push(flow.task(kind, &())?.data("text", &read).retries(retries()));
        }
    }
    while parts.len() > FAN_IN {
        let mut merged = Vec::with_capacity(parts.len() / FAN_IN + 1);
        for parts in parts.chunks(FAN_IN) {
            merged.push(join(flow.task("merge", &())?, parts).retries(retries()));
        }
        parts = merged;
    }
    let index = join(flow.task("index", &())?, &parts).retries(retries());
    let _publish = flow.task("publish", &())?.data("index", &index);
    Ok(flow.submit().await?)
}

fn join(task: Task, parts: &[Task]) -> Task {
    parts.iter().enumerate().fold(task, |task, (n, part)| task.data(format!("part-{n}"), part))
}

/// Starts a worker, waits until it holds some work, and drops it where it stands, as a crash would.
async fn kill_a_worker(engine: &Engine) -> Result<()> {
    let holds = Arc::new(Notify::new());
    let doomed = tasks::doomed(engine, &holds).name("doomed").concurrency(4).lease(LEASE).without_maintenance();
    let dying = tokio::spawn(doomed.build()?.run_until(std::future::pending()));
    holds.notified().await;
    // So that it holds all it can.
    tokio::time::sleep(Duration::from_millis(20)).await;
    dying.abort();
    let _ = dying.await;
    println!("one worker was killed with its leases");
    Ok(())
}

/// Shows each request for an approval with its token, whatever process the publication paused in; answers it when told to,
/// or when the user says yes.
async fn approve(engine: Engine, publish: Handle, yes: bool, bar: ProgressBar) {
    let mut answered = BTreeSet::new();
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        // A publication whose worker was killed asks again, at another waitpoint.
        let open = engine.waitpoints(publish.id()).await.unwrap_or_default();
        let Some((waitpoint_id, token)) = open.into_iter().find_map(|waitpoint| {
            let id = waitpoint.waitpoint_id;
            let token = waitpoint.tokens.into_iter().next().filter(|_| !answered.contains(&id))?.token;
            Some((id, token))
        }) else {
            continue;
        };
        let question = match publish.explain().await {
            Ok(now) => now.to_string(),
            Err(error) => error.to_string(),
        };
        // The token is the program's to show: whoever has it may approve.
        bar.suspend(|| {
            println!("{question}");
            println!("  execution {}\n  waitpoint {waitpoint_id}", publish.id());
            println!("  token     {}", token.expose());
        });
        let mut approved = yes;
        while !approved {
            bar.suspend(|| println!("type yes to approve"));
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
            });
            match line.await {
                Ok(Ok(Some(line))) => approved = matches!(line.trim(), "y" | "yes"),
                _ => {
                    bar.suspend(|| println!("nobody is there to approve, so it is declined: run it with --yes"));
                    if let Err(error) = publish.cancel("documents", "declined").await {
                        bar.suspend(|| eprintln!("not cancelled: {error}"));
                    }
                    return;
                }
            }
        }
        let by = if yes { "--yes" } else { "the terminal" };
        match engine.signal(publish.id(), waitpoint_id, &token, "approved").source("human", by).send().await {
            Ok(_) => {
                answered.insert(waitpoint_id);
            }
            Err(error) => bar.suspend(|| eprintln!("not approved: {error}")),
        }
    }
}

/// Shows the flow until it is over.
async fn watch(flow: &FlowHandle, bar: &ProgressBar) -> Result<()> {
    loop {
        let progress = flow.progress().await?;
        bar.set_length(progress.total);
        bar.set_position(progress.ended);
        let busy = [PublicState::Active, PublicState::Delayed, PublicState::Suspended]
            .map(|state| format!("{} {state}", progress.count(state)));
        bar.set_message(busy.join(", "));
        if progress.is_over() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn report(flow: &FlowHandle, files: usize, took: Duration, stumbled: u64) -> Result<()> {
    let engine_progress = flow.progress().await?;
    let (mut attempts, mut retries, mut reclaims) = (0_u64, 0_u64, 0_u64);
    for member in flow.list().await? {
        let execution = flow.handle(member.execution_id).describe().await?;
        attempts += u64::from(execution.attempt_count);
        retries += u64::from(execution.total_retries);
        reclaims += u64::from(execution.total_reclaims);
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.add_row(["files".to_owned(), files.to_string()]);
    for (state, n) in engine_progress.counts.iter().filter(|(_, n)| *n > 0) {
        table.add_row([format!("executions {state}"), n.to_string()]);
    }
    table.add_row(["attempts".to_owned(), attempts.to_string()]);
    table.add_row(["retries".to_owned(), format!("{retries} ({stumbled} failures on purpose)")]);
    table.add_row(["reclaims".to_owned(), reclaims.to_string()]);
    if let Ok(index) = flow.result::<Index>("index").await {
        for (n, (word, count)) in index.top(10).into_iter().enumerate() {
            let label = if n == 0 { "most frequent words" } else { "" };
            table.add_row([label.to_owned(), format!("{word} {count}")]);
        }
    }
    table.add_row(["time taken".to_owned(), format!("{:.2} s", took.as_secs_f64())]);
    println!("{table}");
    Ok(())
}
