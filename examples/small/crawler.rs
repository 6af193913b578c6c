//! A polite crawler of a local server: each page once, at most 2 at a time and 20 in a second, whatever the workers.
//!
//! `cargo run --example crawler`

use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::Path;
use axum::{Router, routing};
use ff_engine::{Context, Handle, QuotaLimits, Retries, TaskError, Worker};
use tokio::sync::mpsc;

const PAGES: u32 = 40;

/// Page n links to pages 2n + 1 and 2n + 2, and back to page 0.
async fn page(Path(n): Path<u32>) -> String {
    let links: Vec<String> =
        [2 * n + 1, 2 * n + 2, 0].iter().filter(|n| **n < PAGES).map(|n| format!("/pages/{n}")).collect();
    links.join("\n")
}

#[derive(Clone)]
struct Crawler {
    address: String,
    found: mpsc::UnboundedSender<Handle>,
}

impl Crawler {
    /// Fetches a page, and submits what it links to. The path is the idempotency key, so each page is fetched once,
    /// however many link to it.
    async fn fetch(self, ctx: Context, path: String) -> Result<usize, TaskError> {
        let text = ff_examples::get(&self.address, &path).await.map_err(TaskError::retryable)?;
        for link in text.lines() {
            let next = ctx.engine().execution("fetch", link).idempotency_key(link).quota("polite");
            let next = next.retries(Retries::exponential(3, Duration::from_millis(100), Duration::from_secs(5)));
            self.found.send(next.submit().await?)?;
        }
        Ok(text.len())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = ff_examples::engine("crawler").await?;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = server.local_addr()?.to_string();
    let routes = Router::new().route("/pages/{n}", routing::get(page));
    tokio::spawn(async move { axum::serve(server, routes).await });

    let quota = engine.quota("polite")?;
    quota.create(QuotaLimits::rate(20, Duration::from_secs(1)).and_concurrent(2)).await?;
    let (found, mut all) = mpsc::unbounded_channel();
    let first = engine.execution("fetch", "/pages/0").idempotency_key("/pages/0").quota("polite");
    let first = first.retries(Retries::exponential(3, Duration::from_millis(100), Duration::from_secs(5)));
    found.send(first.submit().await?)?;

    let crawler = Crawler { address, found };
    let handler = move |ctx: Context, path: String| crawler.clone().fetch(ctx, path);
    let worker = Worker::builder(&engine).handler("fetch", handler).build()?;
    let began = Instant::now();
    let watch = async {
        let (mut pages, mut bytes) = (std::collections::BTreeSet::new(), 0);
        // A page's links are sent before it ends, so what was found is complete when all that was found has ended.
        while let Ok(handle) = all.try_recv() {
            let length = handle.result::<usize>().await?;
            if pages.insert(handle.id()) {
                bytes += length;
            }
        }
        println!("{} pages, {bytes} bytes, {:.1} s", pages.len(), began.elapsed().as_secs_f64());
        anyhow::Ok(())
    };
    worker.run_while(watch).await??;
    let quota = quota.status().await?;
    println!("in the last window {}, in use {}", quota.in_window, quota.in_use);
    Ok(())
}
