//! The life of a flow: created, joined by members, sealed, cancelled, tagged.

use std::collections::BTreeMap;

use ff_core::canon::Digest;
use ff_core::contracts::{
    AddExecutionToFlowArgs, AddExecutionToFlowResult, BacklogKind, CancelFlowArgs, CancelFlowResult, CreateFlowArgs,
    CreateFlowResult, FlowPart, Join, SealFlowArgs, SealFlowResult, SetFlowTagsArgs, SetFlowTagsResult,
};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, FlowId, Namespace};
use ff_core::records::{FlowCancellation, FlowRecord, MemberRecord, StateCounts};
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::{already_terminal, find, open_to_structure};
use crate::cascade::{self, Call, remaining};
use crate::model::{Item, ItemKey, Partition, Subject};
use crate::routines::touch;
use crate::rules::execution::changed_tags;

/// An empty, unsealed flow at revision 0.
pub(super) fn new_flow(
    flow_id: FlowId,
    flow_kind: &str,
    namespace: &Namespace,
    tags: &BTreeMap<String, String>,
    spec_digest: Digest,
    now: TimestampMs,
) -> FlowRecord {
    FlowRecord {
        flow_id,
        flow_kind: flow_kind.to_owned(),
        namespace: namespace.clone(),
        created_at: now,
        spec_digest,
        tags: tags.clone(),
        sealed: false,
        graph_revision: 0,
        node_count: 0,
        edge_count: 0,
        next_edge_seq: 1,
        member_counts: StateCounts::default(),
        last_mutation_at: now,
        cancelled: None,
        deferred: 0,
        retain_until: None,
        purge_at: None,
    }
}

/// A member without edges.
pub(super) fn new_member(flow_id: FlowId, execution_id: ExecutionId, held: bool) -> MemberRecord {
    MemberRecord {
        execution_id,
        flow_id,
        member_name: None,
        held,
        join: Join::All,
        incoming_count: 0,
        unresolved_count: 0,
        satisfied_count: 0,
        impossible_count: 0,
    }
}

/// Whether a flow of this id can be created: it can be told from a flow that exists only by its content.
pub(super) fn admit_flow(p: &Partition, flow_id: &FlowId, spec_digest: Digest) -> Result<Option<u64>, Refusal> {
    if let Some(flow) = p.flow(flow_id.uuid()) {
        if flow.spec_digest != spec_digest {
            return Err(Refusal::flow_spec_conflict());
        }
        return Ok(Some(flow.graph_revision));
    }
    if p.is_being_purged(Subject::Flow(flow_id.uuid())) {
        return Err(Refusal::flow_already_terminal(None, None));
    }
    Ok(None)
}

/// Creates an empty flow.
///
/// # Errors
/// `flow_spec_conflict`, `flow_already_terminal`.
pub fn create_flow(
    p: &mut Partition,
    now: TimestampMs,
    args: &CreateFlowArgs,
) -> Result<CreateFlowResult, EngineError> {
    let flow_id = args.flow_id;
    let spec_digest = args.spec_digest();
    if admit_flow(p, &flow_id, spec_digest)?.is_some() {
        return Ok(CreateFlowResult::AlreadyExists { flow_id });
    }
    p.add_flow(new_flow(flow_id, &args.flow_kind, &args.namespace, &args.tags, spec_digest, now), now);
    Ok(CreateFlowResult::Created { flow_id })
}

/// Makes an existing execution a member.
///
/// # Errors
/// `flow_not_found`, `execution_not_found`, `execution_already_in_flow`, `flow_already_terminal`, `flow_sealed`,
/// `namespace_mismatch`, `execution_terminal`, `flow_too_large`.
pub fn add_execution_to_flow(
    p: &mut Partition,
    now: TimestampMs,
    args: &AddExecutionToFlowArgs,
) -> Result<AddExecutionToFlowResult, EngineError> {
    let AddExecutionToFlowArgs { flow_id, execution_id } = *args;
    let flow = p.find_flow(&flow_id)?;
    let x = p.find(&execution_id)?;
    let summary = x.summary();
    match x.record.flow_id {
        Some(its) if its == flow_id => {
            let node_count = flow.node_count;
            return Ok(AddExecutionToFlowResult::AlreadyMember { execution_id, node_count, summary });
        }
        Some(other) => return Err(Refusal::execution_already_in_flow(other).into()),
        None => {}
    }
    open_to_structure(flow)?;
    if x.record.namespace != flow.namespace {
        return Err(Refusal::namespace_mismatch().into());
    }
    if x.record.vector.is_terminal() {
        return Err(Refusal::execution_terminal(x.record.vector.terminal_outcome).into());
    }
    let cap = p.deployment().graph.members;
    if flow.node_count >= cap {
        return Err(Refusal::flow_too_large(FlowPart::Members, cap).into());
    }
    let (new_node_count, new_graph_revision) = (flow.node_count + 1, flow.graph_revision + 1);

    let mut x = p.take(execution_id.uuid())?;
    x.record.flow_id = Some(flow_id);
    touch(&mut x, now);
    p.put(x, now);
    let flow = flow_id.uuid();
    if let Some(graph) = p.graphs.get_mut(&flow) {
        graph.members.insert(execution_id.uuid(), new_member(flow_id, execution_id, false));
    }
    p.count_in_flow(flow, execution_id.uuid(), None, summary.public_state, now);
    p.edit_flow(flow, now, |record| {
        record.node_count = new_node_count;
        record.graph_revision = new_graph_revision;
        record.last_mutation_at = now;
    });
    Ok(AddExecutionToFlowResult::Added { execution_id, new_node_count, new_graph_revision, summary })
}

/// Closes a flow's structure and releases the members that were held for it.
///
/// # Errors
/// `flow_not_found`, `stale_graph_revision`.
pub fn seal_flow(p: &mut Partition, now: TimestampMs, args: &SealFlowArgs) -> Result<SealFlowResult, EngineError> {
    let (record, graph) = find(p, &args.flow_id)?;
    let flow = args.flow_id.uuid();
    let graph_revision = record.graph_revision;
    if record.sealed {
        let remaining = remaining(p, BacklogKind::Seal, flow).unwrap_or(0);
        return Ok(SealFlowResult::AlreadySealed { graph_revision, remaining });
    }
    if args.expected_graph_revision.is_some_and(|expected| expected != graph_revision) {
        return Err(Refusal::stale_graph_revision(graph_revision).into());
    }

    let mut call = Call::new(now);
    if !graph.open.is_empty() {
        call.work.restart(Item::new(BacklogKind::Seal, Subject::Flow(flow), false));
    }
    p.edit_flow(flow, now, |record| {
        record.sealed = true;
        record.last_mutation_at = now;
    });
    cascade::run(p, &mut call);
    let remaining = remaining(p, BacklogKind::Seal, flow).unwrap_or(0);
    Ok(SealFlowResult::Sealed { graph_revision, remaining, cascade: call.cascade })
}

/// Cancels a flow: its structure is closed, and the policy says which members end with it.
///
/// "The walk" that a repeat carries on is the one that ends members: a repeat under `flow_only` leaves the release of
/// held members to the backlog, as a repeated seal does.
///
/// # Errors
/// `flow_not_found`, `flow_already_terminal`.
pub fn cancel_flow(
    p: &mut Partition,
    now: TimestampMs,
    args: &CancelFlowArgs,
) -> Result<CancelFlowResult, EngineError> {
    let (record, graph) = find(p, &args.flow_id)?;
    if record.cancelled.is_none() && record.is_closed() {
        return Err(already_terminal(record).into());
    }
    let flow = args.flow_id.uuid();
    let key = ItemKey { kind: BacklogKind::Cancel, subject: Subject::Flow(flow) };
    let entry = p.backlog.get(&key);
    let stored = record.cancelled.as_ref().map(|c| c.policy);
    let policy = stored.map_or(args.cancellation_policy, |stored| stored.max(args.cancellation_policy));

    let mut call = Call::new(now);
    if stored == Some(policy) {
        if let Some(entry) = entry {
            call.work.resume(entry);
        }
    } else {
        // A walk of a narrower policy that has nobody left to look at is over with this one.
        if policy.covers_members() && (!graph.open.is_empty() || entry.is_some()) {
            call.work.restart(Item { key, cursor: None, reopen: false });
        } else if !policy.covers_members() && !record.sealed && !graph.open.is_empty() {
            call.work.restart(Item::new(BacklogKind::Seal, Subject::Flow(flow), false));
        }
        p.edit_flow(flow, now, |record| {
            let first = FlowCancellation { at: now, by: args.by.clone(), reason: args.reason.clone(), policy };
            record.cancelled.get_or_insert(first).policy = policy;
            record.sealed = true;
            record.last_mutation_at = now;
        });
    }
    cascade::run(p, &mut call);

    let nonterminal = p.graph(flow).map_or(0, |g| u32::try_from(g.open.len()).unwrap_or(u32::MAX));
    let cancelled = call.cancelled;
    Ok(match remaining(p, BacklogKind::Cancel, flow) {
        None => CancelFlowResult::Cancelled { cancellation_policy: policy, cancelled, nonterminal },
        Some(remaining) => {
            CancelFlowResult::CancellationScheduled { cancellation_policy: policy, cancelled, remaining, nonterminal }
        }
    })
}

/// Sets and deletes tags, all or none.
///
/// # Errors
/// `flow_not_found`, `too_many_tags`.
pub fn set_flow_tags(
    p: &mut Partition,
    now: TimestampMs,
    args: &SetFlowTagsArgs,
) -> Result<SetFlowTagsResult, EngineError> {
    let tags = changed_tags(&p.find_flow(&args.flow_id)?.tags, &args.tags)?;
    let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
    p.edit_flow(args.flow_id.uuid(), now, |record| {
        record.tags = tags;
        record.last_mutation_at = now;
    });
    Ok(SetFlowTagsResult::Tagged { count })
}
