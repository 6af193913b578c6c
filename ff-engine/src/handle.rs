//! The handle of one execution.

use ff_core::contracts::{
    Actor, CancelExecutionArgs, DescribeExecutionArgs, ExecutionSnapshot, GetExecutionArgs, GetResultArgs,
};
use ff_core::ids::ExecutionId;
use ff_core::state::PublicState;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::{Error, Result};
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
    /// and elsewhere when it next renews its lease.
    ///
    /// # Errors
    /// `execution_terminal` when it has ended otherwise, and the backend's errors.
    pub async fn cancel(&self, by: impl Into<String>, reason: impl Into<String>) -> Result<()> {
        let args = CancelExecutionArgs { execution_id: self.id, actor: Actor::operator(by), reason: reason.into() };
        call!(self.engine, cancel_execution(args))?;
        self.engine.ended().notify_waiters();
        Ok(())
    }

    /// Everything about it but its payload and result.
    ///
    /// # Errors
    /// `execution_not_found`, and the backend's errors.
    pub async fn describe(&self) -> Result<ExecutionSnapshot> {
        call!(self.engine, describe_execution(DescribeExecutionArgs { execution_id: self.id })).map_err(Error::from)
    }
}
