//! Submitting one execution.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::contracts::{CreateExecutionArgs, CreateExecutionResult};
use ff_core::ids::ExecutionId;
use ff_core::operation::{Operation, Outcome};
use ff_core::time::When;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::options::{Options, setters};
use crate::payload::JSON;
use crate::repeat::{BATCH, REPEATS, call, together};

/// An execution on its way. Mistakes are reported by [`submit`](Self::submit).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::time::Duration;
/// use ff_engine::{Engine, Retries};
///
/// let engine = Engine::connect("memory:").await?;
/// let mail = engine
///     .execution("send_mail", &"hello")
///     .idempotency_key("order-17")
///     .retries(Retries::exponential(5, Duration::from_secs(1), Duration::from_secs(60)))
///     .tag("shop.order", "17");
/// let first = mail.submit().await?;
/// # let again = engine.execution("send_mail", &"hello").idempotency_key("order-17")
/// #     .retries(Retries::exponential(5, Duration::from_secs(1), Duration::from_secs(60))).tag("shop.order", "17")
/// #     .submit().await?;
/// # assert_eq!(first.id(), again.id());
/// # Ok::<(), ff_engine::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing exists before it is submitted"]
pub struct ExecutionBuilder {
    engine: Engine,
    id: Option<ExecutionId>,
    kind: String,
    payload: Bytes,
    idempotency_key: Option<String>,
    options: Options,
}

impl ExecutionBuilder {
    pub(crate) fn new(engine: Engine, kind: String, payload: Result<Bytes>) -> Self {
        let mut options = Options::default();
        let payload = payload.unwrap_or_else(|error| {
            options.wrong(error);
            Bytes::new()
        });
        Self { engine, id: None, kind, payload, idempotency_key: None, options }
    }

    fn edit(mut self, with: impl FnOnce(&mut Options)) -> Self {
        with(&mut self.options);
        self
    }

    setters!();

    /// Its id, in place of a fresh one: the same id and content again names the same execution.
    pub fn id(mut self, id: ExecutionId) -> Self {
        self.id = Some(id);
        self
    }

    /// Equal keys name one execution while the key is in force (a day, unless the policy says otherwise).
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Creates it. With an idempotency key that is in force for equal content, the handle is that of the execution that
    /// has it.
    ///
    /// # Errors
    /// The first mistake in what was asked for; `idempotency_conflict` for another content under the key; the backend's
    /// errors.
    pub async fn submit(self) -> Result<Handle> {
        let (engine, args) = self.args()?;
        let (partition, timers) = (args.execution_id.partition(), timers(&args));
        let result = call!(engine, create_execution(args));
        engine.agenda().armed_when(partition, timers);
        Ok(created(&engine, &result?))
    }

    fn args(self) -> Result<(Engine, CreateExecutionArgs)> {
        let Self { engine, id, kind, payload, idempotency_key, options } = self;
        if let Some(mistake) = options.mistake {
            return Err(mistake);
        }
        let config = engine.backend().deployment().partitions;
        let execution_id = id.unwrap_or_else(|| match &idempotency_key {
            Some(key) => ExecutionId::keyed(config, engine.namespace(), key),
            None => ExecutionId::new(config),
        });
        let args = CreateExecutionArgs::builder()
            .execution_id(execution_id)
            .namespace(engine.namespace().clone())
            .lane_id(options.lane.unwrap_or_else(|| engine.default_lane().clone()))
            .kind(kind)
            .payload(payload)
            .payload_encoding(JSON)
            .priority(options.priority)
            .tags(options.tags)
            .policy(Arc::new(options.policy))
            .maybe_delay(options.delay)
            .maybe_idempotency_key(idempotency_key)
            .maybe_creator(engine.creator().map(str::to_owned))
            .build();
        Ok((engine, args))
    }
}

/// The timers that a creation arms.
fn timers(args: &CreateExecutionArgs) -> impl Iterator<Item = When> + use<> {
    [args.delay, args.policy.timeouts.deadline].into_iter().flatten()
}

fn created(engine: &Engine, result: &CreateExecutionResult) -> Handle {
    let (CreateExecutionResult::Created { execution_id, .. }
    | CreateExecutionResult::AlreadyExists { execution_id, .. }
    | CreateExecutionResult::Duplicate { execution_id, .. }) = result;
    engine.handle(*execution_id)
}

impl Engine {
    /// Submits many at once, each for itself: one that is refused keeps none of the others from being created. The
    /// answers come in the order given. Where the backend can, hundreds travel together; they are placed over all
    /// partitions.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ff_engine::Engine;
    /// let engine = Engine::connect("memory:").await?;
    /// let all = engine.submit_all((0..1000).map(|n| engine.execution("square", &n))).await;
    /// assert!(all.iter().all(Result::is_ok));
    /// # Ok::<(), ff_engine::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn submit_all(&self, builders: impl IntoIterator<Item = ExecutionBuilder>) -> Vec<Result<Handle>> {
        let mut handles = Vec::new();
        let mut builders = builders.into_iter().peekable();
        while builders.peek().is_some() {
            let (mut batch, mut places, mut due) = (Vec::new(), Vec::new(), Vec::new());
            for builder in builders.by_ref().take(BATCH) {
                match builder.args() {
                    Ok((_, args)) => {
                        places.push(handles.len());
                        due.push((args.execution_id.partition(), timers(&args)));
                        batch.push(Operation::CreateExecution(args));
                        // Replaced by the answer.
                        handles.push(Err(Error::Setup("not submitted".into())));
                    }
                    Err(mistake) => handles.push(Err(mistake)),
                }
            }
            let answers = together(self, batch, REPEATS).await;
            for (partition, timers) in due {
                self.agenda().armed_when(partition, timers);
            }
            for (place, answer) in places.into_iter().zip(answers) {
                let Some(handle) = handles.get_mut(place) else { continue };
                *handle = match answer {
                    Ok(Outcome::CreateExecution(result)) => Ok(created(self, &result)),
                    Ok(other) => Err(Error::Setup(format!("create_execution was answered by {}", other.name()))),
                    Err(error) => Err(error.into()),
                };
            }
        }
        handles
    }
}
