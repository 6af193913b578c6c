//! Children: members that a running member adds to its flow, and then waits for.

use bytes::Bytes;
use ff_core::canon::Digest;
use ff_core::contracts::{CreateExecutionResult, DependencyKind, StageDependencyEdgeArgs};
use ff_core::ids::{DataName, EdgeId, ExecutionId};
use uuid::Uuid;

use super::Context;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::options::{Options, setters};
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
        let execution_id = ExecutionId::from_parts(flow_id.partition(), derived("child", parent, &name));
        let edge_id = EdgeId::from_uuid(derived("child_edge", parent, &name));
        let timers = options.timers();
        let member = options.into_member(engine, execution_id, name.clone(), &claimed.lane_id, kind, payload);
        let args = member.to_creation(&claimed.namespace, flow_id, false);
        let created = call!(engine, create_execution(args));
        engine.agenda().armed_when(flow_id.partition(), timers);
        let (CreateExecutionResult::Created { execution_id, .. }
        | CreateExecutionResult::AlreadyExists { execution_id, .. }
        | CreateExecutionResult::Duplicate { execution_id, .. }) = created?;
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

/// A well-formed `UUIDv7` that the same parent derives again for the same name: the parent's time, and 74 bits of a hash
/// over the whole of both.
fn derived(what: &str, parent: ExecutionId, name: &DataName) -> Uuid {
    let digest = Digest::of(what, |fields| {
        fields.put(&parent.to_string()).put(name.as_str());
    });
    let mut bytes = parent.uuid().into_bytes();
    bytes[6..].copy_from_slice(&digest.as_bytes()[..10]);
    bytes[6] = bytes[6] & 0x0f | 0x70;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn children_of_one_name_differ_by_the_whole_of_their_parents() {
        let name = DataName::new("word-0").expect("a name");
        // Parents of one flow that differ in the upper half, in the lower half, and in few bits.
        let parents: Vec<u128> = (0..64).map(|bit| 1 << (2 * bit)).chain((0..5_000).map(|n| n << 12)).collect();
        let parents: BTreeSet<u128> = parents.into_iter().collect();
        let ids: BTreeSet<Uuid> =
            parents.iter().map(|n| derived("child", ExecutionId::from_parts(3, Uuid::from_u128(*n)), &name)).collect();
        assert_eq!(ids.len(), parents.len());
        let parent = ExecutionId::from_parts(3, Uuid::now_v7());
        let id = derived("child", parent, &name);
        assert_eq!(id, derived("child", parent, &name));
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_ne!(id, derived("child_edge", parent, &name));
    }
}
