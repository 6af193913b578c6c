//! The handle of a flow.

use std::collections::BTreeMap;

use ff_core::contracts::{
    CancelFlowArgs, CancellationPolicy, DescribeFlowArgs, FlowMember, FlowSnapshot, ListFlowMembersArgs,
    PublicFlowState, SealFlowArgs,
};
use ff_core::ids::{ExecutionId, FlowId};
use ff_core::records::StateCounts;
use ff_core::state::PublicState;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::poll::Pace;
use crate::repeat::call;

/// One flow, by its id, and its tasks by name.
#[derive(Clone, Debug)]
pub struct FlowHandle {
    engine: Engine,
    id: FlowId,
    members: BTreeMap<String, ExecutionId>,
}

/// How far a flow has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowProgress {
    /// The flow's state.
    pub state: PublicFlowState,
    /// Tasks that have ended, however they ended.
    pub ended: u64,
    /// All tasks.
    pub total: u64,
    /// Tasks by state.
    pub counts: StateCounts,
}

impl FlowProgress {
    fn of(flow: &FlowSnapshot) -> Self {
        let total = flow.member_counts.total();
        let ended = total - flow.member_counts.open().min(total);
        Self { state: flow.public_flow_state, ended, total, counts: flow.member_counts }
    }

    /// How many tasks are in this state.
    #[must_use]
    pub fn count(&self, state: PublicState) -> u32 {
        self.counts.get(state)
    }

    /// Whether every task has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.is_finished() && self.ended == self.total
    }
}

impl FlowHandle {
    pub(crate) fn new(engine: Engine, id: FlowId, members: BTreeMap<String, ExecutionId>) -> Self {
        Self { engine, id, members }
    }

    pub(crate) async fn load(engine: Engine, id: FlowId) -> Result<Self> {
        let mut handle = Self::new(engine, id, BTreeMap::new());
        let named = handle.list().await?.into_iter();
        handle.members =
            named.filter_map(|m| m.member_name.map(|name| (name.as_str().to_owned(), m.execution_id))).collect();
        Ok(handle)
    }

    /// Its id, to keep and to come back with ([`Engine::flow_handle`]).
    #[must_use]
    pub fn id(&self) -> FlowId {
        self.id
    }

    /// The task of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Handle> {
        self.members.get(name).map(|id| self.engine.handle(*id))
    }

    /// The handle of one of its tasks that is known by its id, as [`list`](Self::list) shows it.
    #[must_use]
    pub fn handle(&self, execution_id: ExecutionId) -> Handle {
        self.engine.handle(execution_id)
    }

    /// The names of its tasks, ascending, as far as they are known here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Waits for the task of that name, and reads its result.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such task; otherwise as [`Handle::result`].
    pub async fn result<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let handle = self.member(name).ok_or_else(|| Error::Missing(format!("the flow has no task {name:?}")))?;
        handle.result().await
    }

    /// Waits until every task has ended.
    ///
    /// # Errors
    /// `flow_not_found` (also when it was purged meanwhile), and the backend's errors.
    pub async fn wait(&self) -> Result<FlowProgress> {
        let mut pace = Pace::new();
        loop {
            let progress = self.progress().await?;
            if progress.is_over() {
                return Ok(progress);
            }
            pace.pause().await;
        }
    }

    /// How far it has come: one cheap read.
    ///
    /// # Errors
    /// `flow_not_found`, and the backend's errors.
    pub async fn progress(&self) -> Result<FlowProgress> {
        self.describe().await.map(|flow| FlowProgress::of(&flow))
    }

    /// Its record.
    ///
    /// # Errors
    /// `flow_not_found`, and the backend's errors.
    pub async fn describe(&self) -> Result<FlowSnapshot> {
        call!(self.engine, describe_flow(DescribeFlowArgs { flow_id: self.id })).map_err(Error::from)
    }

    /// All its tasks as they are now, by execution id.
    ///
    /// # Errors
    /// `flow_not_found`, and the backend's errors.
    pub async fn list(&self) -> Result<Vec<FlowMember>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let args = ListFlowMembersArgs::builder().flow_id(self.id).limit(1000).maybe_cursor(cursor.take()).build();
            let page = call!(self.engine, list_flow_members(args))?;
            all.extend(page.members);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Closes a flow that was [left open](super::FlowBuilder::open): no task is added any more, and it is purged when it
    /// is over and its retention has passed. Sealing again changes nothing.
    ///
    /// # Errors
    /// `flow_not_found`, and the backend's errors.
    pub async fn seal(&self) -> Result<()> {
        let args = SealFlowArgs::builder().flow_id(self.id).build();
        call!(self.engine, seal_flow(args)).map(drop).map_err(Error::from)
    }

    /// Cancels the flow and every task that has not ended.
    ///
    /// # Errors
    /// `flow_already_terminal` when it is over, and the backend's errors.
    pub async fn cancel(&self, by: impl Into<String>, reason: impl Into<String>) -> Result<()> {
        self.cancel_with(CancellationPolicy::CancelAll, by, reason).await
    }

    /// Cancels the flow, and of its tasks those that the policy covers.
    ///
    /// # Errors
    /// `flow_already_terminal` when it is over, and the backend's errors.
    pub async fn cancel_with(
        &self,
        policy: CancellationPolicy,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<()> {
        let args = CancelFlowArgs::builder().flow_id(self.id).reason(reason).cancellation_policy(policy).by(by).build();
        call!(self.engine, cancel_flow(args))?;
        self.engine.ended().notify_waiters();
        Ok(())
    }
}
