//! Children: members that a running member adds to its flow, and then waits for.

use std::sync::Arc;

use bytes::Bytes;
use ff_core::contracts::{
    CreateExecutionArgs, CreateExecutionResult, DependencyKind, FlowEdgeSpec, FlowJoin, FlowMemberSpec,
    StageDependencyEdgeArgs,
};
use ff_core::ids::DataName;

use super::Context;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::options::{Options, setters};
use crate::payload::JSON;
use crate::repeat::call;

/// A child on its way. Made by [`Context::child`]. Mistakes are reported by [`spawn`](Self::spawn).
#[derive(Debug)]
#[must_use = "nothing exists before it is spawned"]
pub struct ChildBuilder {
    context: Context,
    name: String,
    kind: String,
    payload: Bytes,
    required: bool,
    options: Options,
}

impl ChildBuilder {
    pub(super) fn new(context: Context, name: String, kind: String, payload: Result<Bytes>) -> Self {
        let mut options = Options::default();
        let payload = payload.unwrap_or_else(|error| {
            options.wrong(error);
            Bytes::new()
        });
        Self { context, name, kind, payload, required: false, options }
    }

    fn edit(mut self, with: impl FnOnce(&mut Options)) -> Self {
        with(&mut self.options);
        self
    }

    setters!();

    /// Its failure is no end that the parent can go on from: the edge to the parent then counts as impossible, and the
    /// child's result can be [read](Context::input) under its name, as long as there are at most 64 such.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Creates it, with an edge to the parent that [waiting for children](super::TaskError::wait_for_children) waits for.
    ///
    /// # Errors
    /// The first mistake in what was asked for; [`Error::Setup`] outside a flow; `flow_sealed` in a flow that was not
    /// [left open](crate::FlowBuilder::open); `execution_already_exists` for other content under the same name; the
    /// backend's errors.
    pub async fn spawn(self) -> Result<Handle> {
        let Self { context, name, kind, payload, required, options } = self;
        if let Some(mistake) = options.mistake {
            return Err(mistake);
        }
        let (engine, claimed) = (context.engine(), context.claimed());
        let Some(flow_id) = claimed.flow_id else {
            return Err(Error::Setup("only a flow's task has children".into()));
        };
        let name = DataName::new(&name)?;
        let parent = claimed.execution_id;
        // Derived, so that the same child again, by a retried or reclaimed parent, is the same child.
        let place = usize::try_from(parent.uuid().as_u64_pair().1).unwrap_or(usize::MAX);
        let execution_id = FlowMemberSpec::derived_id(&flow_id, place, &name);
        let edge_id = FlowEdgeSpec::derived_id(&flow_id, place, &name, &name);
        options.arm(engine, flow_id.partition());
        let mut join = FlowJoin::held(flow_id);
        join.hold = false;
        let args = CreateExecutionArgs::builder()
            .execution_id(execution_id)
            .namespace(claimed.namespace.clone())
            .lane_id(options.lane.unwrap_or_else(|| claimed.lane_id.clone()))
            .kind(kind)
            .payload(payload)
            .payload_encoding(JSON)
            .priority(options.priority)
            .tags(options.tags)
            .policy(Arc::new(options.policy))
            .maybe_delay(options.delay)
            .flow(join)
            .maybe_creator(engine.creator().map(str::to_owned))
            .build();
        let (CreateExecutionResult::Created { execution_id, .. }
        | CreateExecutionResult::AlreadyExists { execution_id, .. }
        | CreateExecutionResult::Duplicate { execution_id, .. }) = call!(engine, create_execution(args))?;
        // A result is handed on along an edge that waits for success only.
        let kind = if required { DependencyKind::SuccessOnly } else { DependencyKind::AnyTerminal };
        let args = StageDependencyEdgeArgs::builder()
            .flow_id(flow_id)
            .edge_id(edge_id)
            .upstream_execution_id(execution_id)
            .downstream_execution_id(parent)
            .dependency_kind(kind)
            .maybe_data_passing_ref(required.then_some(name))
            .build();
        call!(engine, stage_dependency_edge(args))?;
        Ok(engine.handle(execution_id))
    }
}
