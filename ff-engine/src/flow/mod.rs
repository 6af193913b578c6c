//! Putting a flow together: tasks, and what each waits for.

mod handle;
mod submit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ff_core::contracts::DependencyKind;
use ff_core::ids::{DataName, FlowId};
use parking_lot::Mutex;
use serde::Serialize;

pub use self::handle::{FlowHandle, FlowProgress};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::{Options, setters};

/// A flow on its way: a directed acyclic graph of tasks that is submitted as a whole.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use ff_engine::Engine;
///
/// let engine = Engine::connect("memory:").await?;
/// let mut flow = engine.flow("thumbnails");
/// let fetch = flow.task("fetch", &"https://example.org/cat.png")?;
/// let _resize = flow.task("resize", &(64, 64))?.data("original", &fetch);
/// let handle = flow.submit().await?;
/// assert_eq!(handle.progress().await?.total, 2);
/// # Ok::<(), ff_engine::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing exists before it is submitted"]
pub struct FlowBuilder {
    engine: Engine,
    id: Option<FlowId>,
    kind: String,
    tags: BTreeMap<String, String>,
    open: bool,
    draft: Arc<Mutex<Draft>>,
}

/// What has been put together so far.
#[derive(Debug, Default)]
struct Draft {
    nodes: Vec<Node>,
    names: BTreeSet<String>,
}

#[derive(Debug)]
struct Node {
    name: String,
    kind: String,
    payload: Bytes,
    options: Options,
    /// By the position of the upstream: one edge per pair.
    upstreams: BTreeMap<usize, Edge>,
}

#[derive(Clone, Debug)]
struct Edge {
    kind: DependencyKind,
    data: Option<DataName>,
}

impl Draft {
    /// `kind`, or `kind-2`, `kind-3`, .. when that is taken.
    fn free_name(&self, kind: &str) -> String {
        let base: String =
            kind.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let base: String = base.chars().take(52).collect();
        if !self.names.contains(&base) {
            return base;
        }
        (self.nodes.len() + 1..).map(|n| format!("{base}-{n}")).find(|name| !self.names.contains(name)).unwrap_or(base)
    }
}

impl FlowBuilder {
    pub(crate) fn new(engine: Engine, kind: String) -> Self {
        Self { engine, id: None, kind, tags: BTreeMap::new(), open: false, draft: Arc::default() }
    }

    /// Its id, in place of a fresh one: the same id and content again names the same flow.
    pub fn id(mut self, id: FlowId) -> Self {
        self.id = Some(id);
        self
    }

    /// A label of the flow, such as `team.name`.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Leaves it open: its tasks can add [children](crate::Context::child) while it runs. Each task may start as soon as it
    /// exists. Such a flow is kept until it is [sealed](FlowHandle::seal) and over.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Adds a task of this kind. It is named after its kind, with a number behind it where that is taken, unless it is
    /// [named](Task::name).
    ///
    /// # Errors
    /// [`Error::Encode`] when the input cannot be written as JSON.
    pub fn task<T: Serialize + ?Sized>(&mut self, kind: impl Into<String>, input: &T) -> Result<Task> {
        let kind = kind.into();
        let payload = crate::payload::encode(&format!("the input of {kind}"), input)?;
        let mut draft = self.draft.lock();
        let name = draft.free_name(&kind);
        draft.names.insert(name.clone());
        let options = Options::default();
        draft.nodes.push(Node { name, kind, payload, options, upstreams: BTreeMap::new() });
        Ok(Task { position: draft.nodes.len() - 1, draft: Arc::clone(&self.draft) })
    }

    /// How many tasks there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.draft.lock().nodes.len()
    }

    /// Whether there are none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Creates the flow. Up to 256 tasks it is one atomic call; a larger one is built up held and released by a seal, so
    /// that nothing of it starts before all of it exists.
    ///
    /// # Errors
    /// The first mistake in what was asked for; `cycle_detected` and the other refusals of a graph; the backend's errors.
    pub async fn submit(self) -> Result<FlowHandle> {
        submit::submit(self).await
    }
}

/// A task of a flow that is being put together, and a reference to it.
#[derive(Debug)]
pub struct Task {
    position: usize,
    draft: Arc<Mutex<Draft>>,
}

impl Task {
    fn node(self, with: impl FnOnce(&mut Node)) -> Self {
        if let Some(node) = self.draft.lock().nodes.get_mut(self.position) {
            with(node);
        }
        self
    }

    fn edit(self, with: impl FnOnce(&mut Options)) -> Self {
        self.node(|node| with(&mut node.options))
    }

    setters!();

    /// Its name in the flow, by which its [handle](FlowHandle::member) is found.
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let mut draft = self.draft.lock();
        let free = draft.names.insert(name.clone());
        if let Some(node) = draft.nodes.get_mut(self.position) {
            if free {
                let old = std::mem::replace(&mut node.name, name);
                draft.names.remove(&old);
            } else if node.name != name {
                node.options.wrong(Error::Setup(format!("two tasks of the flow are named {name:?}")));
            }
        }
        drop(draft);
        self
    }

    /// Starts only after `upstream` has succeeded; when that is impossible, it is skipped.
    pub fn after(self, upstream: &Task) -> Self {
        self.edge(upstream, DependencyKind::SuccessOnly, None)
    }

    /// Starts only after `upstream` has ended, however it ends.
    pub fn after_any(self, upstream: &Task) -> Self {
        self.edge(upstream, DependencyKind::AnyTerminal, None)
    }

    /// Starts only after `upstream` has succeeded, and can [read](crate::Context::input) its result under this name. A
    /// task takes at most 64 results.
    pub fn data(self, name: impl AsRef<str>, upstream: &Task) -> Self {
        match DataName::new(name) {
            Ok(name) => self.edge(upstream, DependencyKind::SuccessOnly, Some(name)),
            Err(error) => self.edit(|o| o.wrong(error.into())),
        }
    }

    fn edge(self, upstream: &Task, kind: DependencyKind, data: Option<DataName>) -> Self {
        if !Arc::ptr_eq(&self.draft, &upstream.draft) {
            return self.edit(|o| o.wrong(Error::Setup("a task waits for a task of another flow".into())));
        }
        let position = upstream.position;
        self.node(|node| match node.upstreams.get_mut(&position) {
            Some(edge) if edge.data.is_some() && data.is_some() && edge.data != data => {
                let problem = format!("{} takes one result under two names", node.name);
                node.options.wrong(Error::Setup(problem));
            }
            // Waiting for success is the stricter of the two, so it stands; a data name is not lost by a later `after`.
            Some(edge) => {
                edge.data = edge.data.take().or(data);
                if kind == DependencyKind::SuccessOnly {
                    edge.kind = kind;
                }
            }
            None => {
                node.upstreams.insert(position, Edge { kind, data });
            }
        })
    }
}
