//! The tasks: what each does with its input and what it receives along its edges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ff_engine::{Context, Engine, Suspend, Suspended, SuspensionReason, TaskError, Worker, WorkerBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// What is known of some files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Files that were read.
    pub(crate) files: u64,
    /// How often each word occurs, in lower case.
    pub(crate) words: BTreeMap<String, u64>,
    /// The headings of each file that has any.
    pub(crate) headings: BTreeMap<String, Vec<String>>,
}

impl Index {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        for (word, n) in other.words {
            *self.words.entry(word).or_default() += n;
        }
        self.headings.extend(other.headings);
    }

    /// The most frequent words, most frequent first, equals in the order of the alphabet.
    pub(crate) fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> = self.words.iter().map(|(word, n)| (word.as_str(), *n)).collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(n);
        words
    }
}

/// A file's text, on its way to the tasks behind its reading.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    path: String,
    text: String,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The share of attempts that fail on purpose.
    pub(crate) flaky: f64,
    /// Where the index is written.
    pub(crate) out: PathBuf,
    /// Failures on purpose so far.
    pub(crate) failures: Arc<AtomicU64>,
}

impl Shared {
    pub(crate) fn new(flaky: f64, out: &Path) -> Self {
        Self { flaky, out: out.to_owned(), failures: Arc::default() }
    }

    /// Fails by chance, unless the attempt is the last that the policy allows: the program shows retries, not bad luck.
    fn stumble(&self, ctx: &Context) -> Result<(), TaskError> {
        if ctx.claimed().retry_count < RETRIES && fastrand::f64() < self.flaky {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(TaskError::retryable("stumbled on purpose").category("flaky"));
        }
        Ok(())
    }
}

/// Retries that the flow's tasks ask for.
pub(crate) const RETRIES: u32 = 8;

/// A worker that knows all tasks.
pub(crate) fn worker(engine: &Engine, shared: &Shared) -> WorkerBuilder {
    macro_rules! with {
        ($task:ident) => {{
            let shared = shared.clone();
            move |ctx, input| $task(shared.clone(), ctx, input)
        }};
    }
    Worker::builder(engine)
        .handler("read", with!(read))
        .handler("count_words", with!(count_words))
        .handler("extract_headings", with!(extract_headings))
        .handler("merge", with!(merge))
        .handler("index", with!(merge))
        .handler("publish", with!(publish))
}

/// A worker that takes a few files, begins to read them, and never ends: to be killed once it says that it holds some.
pub(crate) fn doomed(engine: &Engine, holds: &Arc<Notify>) -> WorkerBuilder {
    let holds = Arc::clone(holds);
    Worker::builder(engine).handler("read", move |_: Context, _: PathBuf| {
        holds.notify_one();
        std::future::pending::<Result<(), TaskError>>()
    })
}

async fn read(shared: Shared, ctx: Context, path: PathBuf) -> Result<Document, TaskError> {
    shared.stumble(&ctx)?;
    // A file that is gone, or is no text behind its first bytes, is read as far as it goes.
    let bytes = tokio::fs::read(&path).await.unwrap_or_default();
    Ok(Document { path: path.display().to_string(), text: String::from_utf8_lossy(&bytes).into_owned() })
}

async fn count_words(shared: Shared, ctx: Context, (): ()) -> Result<Index, TaskError> {
    shared.stumble(&ctx)?;
    let document: Document = ctx.input("text").await?;
    let mut index = Index { files: 1, ..Index::default() };
    for word in document.text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2) {
        if !word.chars().all(char::is_numeric) {
            *index.words.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    Ok(index)
}

async fn extract_headings(shared: Shared, ctx: Context, (): ()) -> Result<Index, TaskError> {
    shared.stumble(&ctx)?;
    let document: Document = ctx.input("text").await?;
    let is_heading = |line: &&str| line.starts_with('#') && line.trim_start_matches('#').starts_with(' ');
    let title = |line: &str| line.trim_start_matches('#').trim().to_owned();
    let headings: Vec<String> = document.text.lines().filter(is_heading).map(title).collect();
    let mut index = Index::default();
    if !headings.is_empty() {
        index.headings.insert(document.path, headings);
    }
    Ok(index)
}

/// Joins what comes in along all edges.
async fn merge(shared: Shared, ctx: Context, (): ()) -> Result<Index, TaskError> {
    shared.stumble(&ctx)?;
    let mut all = Index::default();
    for input in ctx.inputs() {
        all.add(ctx.input(input.name.as_str()).await?);
    }
    Ok(all)
}

async fn publish(shared: Shared, ctx: Context, (): ()) -> Result<String, TaskError> {
    let index: Index = ctx.input("index").await?;
    if ctx.resume_info().is_none() {
        let question = format!("publish an index of {} files and {} words?", index.files, index.words.len());
        let approval = Suspend::until_signal("approved").reason(SuspensionReason::WaitingForApproval).detail(&question);
        // Whoever approves finds the request, and its token, among the waitpoints of this execution.
        if let Suspended::Paused(paused) = ctx.suspend(approval).await? {
            return Err(paused.into());
        }
    }
    let who = ctx.signals().first().map_or("nobody", |signal| signal.source.source_identity.as_str());
    let json = serde_json::to_vec_pretty(&index)?;
    tokio::fs::write(&shared.out, json).await?;
    Ok(format!("approved by {who}"))
}
