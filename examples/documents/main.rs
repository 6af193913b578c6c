//! Indexes the text files of a folder: one durable flow, with data passed along its edges, failures on purpose, a worker
//! that dies, and a human approval before the index is written.
//!
//! `cargo run --release --example documents -- <folder> [--yes] [--flaky 0.1] [--kill-worker]`

mod files;
mod tasks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use comfy_table::{Table, presets};
use ff_core::state::PublicState;
use ff_engine::{Engine, FlowHandle, Retries, Task};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::tasks::{Index, RETRIES, Request, Shared};

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
    /// Let one worker die with its leases; its work is taken over.
    #[arg(long)]
    kill_worker: bool,
    /// Where the index is written.
    #[arg(long, default_value = "index.json")]
    out: PathBuf,
    /// Where executions are kept: memory:, or redis://host:port/0?prefix=app
    #[arg(long, default_value = "memory:?max_payload_bytes=67108864")]
    backend: String,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("it must lie between 0 and 0.9".into()) }
}

fn main() -> ExitCode {
    let options = Options::parse();
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("no runtime").and_then(|runtime| runtime.block_on(run(&options, found.files)));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the index was published.
async fn run(options: &Options, files: Vec<PathBuf>) -> Result<bool> {
    let began = Instant::now();
    let engine = Engine::builder().namespace("documents").connect(&options.backend).await?;
    let (approvals, requests) = mpsc::unbounded_channel();
    let shared = Shared { flaky: options.flaky, out: options.out.clone(), approvals, failures: Arc::default() };
    let flow = submit(&engine, &files).await?;

    if options.kill_worker {
        kill_a_worker(&engine).await?;
    }
    let stop = CancellationToken::new();
    let workers: Vec<_> = (0..2)
        .map(|n| {
            let worker = tasks::worker(&engine, &shared).name(format!("indexer-{n}")).concurrency(16);
            Ok(tokio::spawn(worker.build()?.run_until(stop.clone().cancelled_owned())))
        })
        .collect::<Result<_>>()?;

    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    let approving = tokio::spawn(approve(engine.clone(), requests, options.yes, bar.clone()));
    let interrupted = tokio::select! {
        watched = watch(&flow, &bar) => { watched?; false }
        _ = tokio::signal::ctrl_c() => true,
    };
    if interrupted {
        flow.cancel("operator", "interrupted").await?;
    }
    approving.abort();
    bar.finish_and_clear();
    stop.cancel();
    for worker in workers {
        worker.await.context("a worker panicked")??;
    }
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

/// Shows each request with its token; delivers it when told to, or when the user says yes.
async fn approve(engine: Engine, mut requests: mpsc::UnboundedReceiver<Request>, yes: bool, bar: ProgressBar) {
    while let Some(request) = requests.recv().await {
        // The token is the program's to show: whoever has it may approve.
        bar.suspend(|| {
            println!("{}", request.question);
            println!("  execution {}\n  waitpoint {}", request.execution_id, request.waitpoint_id);
            println!("  token     {}", request.token.expose());
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
                    bar.suspend(|| println!("nobody is there to approve: declined (use --yes)"));
                    let declined = engine.handle(request.execution_id).cancel("documents", "declined").await;
                    if let Err(error) = declined {
                        bar.suspend(|| eprintln!("not cancelled: {error}"));
                    }
                    return;
                }
            }
        }
        let sent = engine
            .signal(request.execution_id, request.waitpoint_id, &request.token, "approved")
            .source("human", if yes { "--yes" } else { "the terminal" })
            .send()
            .await;
        if let Err(error) = sent {
            bar.suspend(|| eprintln!("not approved: {error}"));
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
