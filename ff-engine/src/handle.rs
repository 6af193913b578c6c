//! The handle of one execution.

use ff_core::contracts::{
    Actor, CancelExecutionArgs, ChangePriorityArgs, DescribeExecutionArgs, ExecutionSnapshot, GetExecutionArgs,
    GetResultArgs, ReplayExecutionArgs, ReplayExecutionResult, SetExecutionTagsArgs,
};
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::records::Progress;
use ff_core::state::PublicState;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::explain::Explanation;
use crate::output::OutputFrame;
use crate::poll::Pace;
use crate::repeat::call;

/// One execution, by its id.
#[derive(Clone, Debug)]
pub struct Handle {
    engine: Engine,
    id: ExecutionId,
}

impl Handle {
    pub(crate) fn new(engine: Engine, id: ExecutionId) -> Self {
        Self { engine, id }
    }

    /// Its id, to keep and to come back with ([`Engine::handle`]).
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Waits until it has ended, however it ends.
    ///
    /// # Errors
    /// `execution_not_found` (also when it was purged meanwhile), and the backend's errors.
    pub async fn wait(&self) -> Result<PublicState> {
        let mut pace = Pace::new();
        loop {
            let info = call!(self.engine, get_execution(GetExecutionArgs { execution_id: self.id }))?;
            if info.public_state.is_terminal() {
                return Ok(info.public_state);
            }
            pace.pause().await;
        }
    }

    /// Waits until it has ended, and reads its result.
    ///
    /// # Errors
    /// [`Error::Ended`] when it did not end with success, [`Error::Decode`] when its result is no `T`, and the
    /// backend's errors.
    pub async fn result<T: DeserializeOwned>(&self) -> Result<T> {
        if self.wait().await? != PublicState::Completed {
            let end = self.describe().await?;
            return Err(Error::Ended {
                execution_id: self.id,
                state: end.public_state,
                cause: end.end_cause,
                reason: end.failure_reason.or(end.cancel_reason),
                category: end.failure_category,
            });
        }
        let result = call!(self.engine, get_result(GetResultArgs::builder().execution_id(self.id).build()))?;
        let what = format!("the result of {}", self.id);
        crate::payload::decode(&what, result.result.as_ref(), result.result_encoding.as_deref())
    }

    /// Ends it as cancelled, whatever it is doing. The worker that runs it, if any, hears of it at once in this process,
    /// and elsewhere too where the store has output streams, else when it next renews its lease.
    ///
    /// # Errors
    /// `execution_terminal` when it has ended otherwise, and the backend's errors.
    pub async fn cancel(&self, by: impl Into<String>, reason: impl Into<String>) -> Result<()> {
        let args = CancelExecutionArgs { execution_id: self.id, actor: Actor::operator(by), reason: reason.into() };
        call!(self.engine, cancel_execution(args))?;
        self.engine.ended().notify_waiters();
        Ok(())
    }

    /// Runs it again from the beginning, after it has ended: with new retries, reclaims and, if it had a duration as its
    /// deadline, a new deadline. Attempts, output and results of earlier runs stay readable. Answers the new run's number.
    ///
    /// # Errors
    /// `execution_not_terminal`, `max_replays_exhausted` (10, unless the policy says otherwise), `stale_replay` when
    /// somebody else replays it at the same time, `deps_impossible` of a member whose upstream failed, and the backend's
    /// errors.
    pub async fn replay(&self, by: impl Into<String>, reason: impl Into<String>) -> Result<u32> {
        let info = call!(self.engine, get_execution(GetExecutionArgs { execution_id: self.id }))?;
        let args =
            ReplayExecutionArgs::builder().execution_id(self.id).replay_count(info.run).by(by).reason(reason).build();
        let ReplayExecutionResult::Replayed { replay_count, .. } = call!(self.engine, replay_execution(args))?;
        Ok(replay_count)
    }

    /// Sets a tag, such as `team.name`, also when it has ended.
    ///
    /// # Errors
    /// `invalid_tag_key`, `too_many_tags` for a 65th, and the backend's errors.
    pub async fn set_tag(&self, key: impl Into<String>, value: impl Into<String>) -> Result<()> {
        self.change_tags([(key.into(), Some(value.into()))]).await
    }

    /// Removes a tag, if it is there.
    ///
    /// # Errors
    /// As [`set_tag`](Self::set_tag).
    pub async fn remove_tag(&self, key: impl Into<String>) -> Result<()> {
        self.change_tags([(key.into(), None)]).await
    }

    /// Sets and removes tags, all or none.
    ///
    /// # Errors
    /// As [`set_tag`](Self::set_tag).
    pub async fn change_tags(&self, changes: impl IntoIterator<Item = (String, Option<String>)>) -> Result<()> {
        let args = SetExecutionTagsArgs { execution_id: self.id, tags: changes.into_iter().collect() };
        call!(self.engine, set_execution_tags(args)).map(drop).map_err(Error::from)
    }

    /// Moves it forwards or backwards in its queue; greater is served first.
    ///
    /// # Errors
    /// `execution_terminal`, and the backend's errors.
    pub async fn set_priority(&self, priority: i32) -> Result<()> {
        let args = ChangePriorityArgs { execution_id: self.id, priority };
        call!(self.engine, change_priority(args)).map(drop).map_err(Error::from)
    }

    /// Why it is not running, or that it is.
    ///
    /// # Errors
    /// `execution_not_found`, and the backend's errors.
    pub async fn explain(&self) -> Result<Explanation> {
        self.engine.explain(self.id).await
    }

    /// The frames that its attempts write with [`Context::frame`](crate::Context::frame), from the first on, as they are
    /// written; the stream ends when the execution has ended and all were read.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ff_engine::{Context, Engine, TaskError, Worker};
    /// use futures::{StreamExt, TryStreamExt};
    ///
    /// let engine = Engine::connect("memory:").await?;
    /// let handle = engine.execution("poem", &()).submit().await?;
    /// let worker = Worker::builder(&engine)
    ///     .handler("poem", |ctx: Context, (): ()| async move {
    ///         for line in ["roses are red", "violets are blue"] {
    ///             ctx.frame("line", line).await?;
    ///         }
    ///         Ok::<_, TaskError>(())
    ///     })
    ///     .build()?;
    /// worker.run_until(async {
    ///     let lines: Vec<String> = handle.output().map(|f| f?.json()).try_collect().await.expect("readable");
    ///     assert_eq!(lines, ["roses are red", "violets are blue"]);
    /// }).await?;
    /// # Ok::<(), ff_engine::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn output(&self) -> BoxStream<'static, Result<OutputFrame>> {
        self.output_from(AttemptIndex(0))
    }

    /// As [`output`](Self::output), from that attempt on.
    #[must_use]
    pub fn output_from(&self, attempt: AttemptIndex) -> BoxStream<'static, Result<OutputFrame>> {
        crate::output::frames(self.engine.clone(), self.id, attempt).boxed()
    }

    /// What its worker says with [`Context::progress`](crate::Context::progress), whenever that has changed, until the
    /// execution has ended. What is said twice between two looks (at most 100 ms apart) is seen once.
    #[must_use]
    pub fn progress(&self) -> BoxStream<'static, Result<Progress>> {
        crate::output::progress(self.engine.clone(), self.id).boxed()
    }

    /// Everything about it but its payload and result.
    ///
    /// # Errors
    /// `execution_not_found`, and the backend's errors.
    pub async fn describe(&self) -> Result<ExecutionSnapshot> {
        call!(self.engine, describe_execution(DescribeExecutionArgs { execution_id: self.id })).map_err(Error::from)
    }
}
