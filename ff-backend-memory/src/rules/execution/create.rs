//! `create_execution`: `execution.md` 4.1; members at creation: `flow.md`, Joining at creation.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::canon::LazyDigest;
use ff_core::contracts::{CreateExecutionArgs, CreateExecutionResult};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, FlowId, LeaseEpoch};
use ff_core::policy::ExecutionPolicy;
use ff_core::records::{ExecutionRecord, KeyScope, KeyUse, NotBefore};
use ff_core::refusal::Refusal;
use ff_core::state::{AttemptState, NotBeforeKind, StateVector};
use ff_core::time::{TimestampMs, When};

use crate::cascade::{self, Call};
use crate::model::{Execution, Held, History, KeyOwner, Partition, Subject};
use crate::routines::gate;
use crate::rules::flow::join;

/// What a creation asks for, wherever it comes from: a call of its own or a submitted flow.
pub(crate) struct Creation<'a> {
    pub(crate) args: &'a CreateExecutionArgs,
    pub(crate) flow_id: Option<FlowId>,
    pub(crate) fingerprint: LazyDigest,
}

/// The record of a new execution, with its gate not yet run.
pub(crate) fn build_execution(creation: &Creation<'_>, now: TimestampMs) -> Execution {
    let args = creation.args;
    let policy: &ExecutionPolicy = &args.policy;
    let delay = args.delay.map(|when| when.resolve(now)).filter(|at| *at > now);
    let record = ExecutionRecord {
        execution_id: args.execution_id,
        namespace: args.namespace.clone(),
        lane_id: args.lane_id.clone(),
        kind: args.kind.clone(),
        policy: args.policy.clone(),
        creator: args.creator.clone(),
        created_at: now,
        fingerprint: creation.fingerprint.clone(),
        idempotency: args.idempotency_key.as_ref().map(|key| KeyUse {
            key: key.clone(),
            scope: if creation.flow_id.is_some() { KeyScope::Flow } else { KeyScope::Namespace },
            expires_at: now.after(policy.idempotency_window_ms),
        }),
        flow_id: creation.flow_id,
        vector: StateVector::ready(AttemptState::PendingFirstAttempt),
        priority: args.priority,
        tags: args.tags.clone(),
        attempt_count: 0,
        lease_epoch: LeaseEpoch(0),
        retry_count: 0,
        reclaim_count: 0,
        total_retries: 0,
        total_reclaims: 0,
        replay_count: 0,
        replay: None,
        started_at: None,
        ended: None,
        purge_at: None,
        failure_reason: None,
        failure_category: None,
        cancel_reason: None,
        deadline_at: policy.timeouts.deadline.map(|when| When::resolve(when, now)),
        not_before: delay.map(|at| NotBefore { at, kind: NotBeforeKind::Delay }),
        blocks: BTreeMap::new(),
        progress: None,
        signal_count: 0,
        signal_bytes: 0,
        next_signal_seq: 1,
        waitpoint_count: 0,
        last_call: None,
        last_transition_at: now,
        last_mutation_at: now,
        lease: None,
        grant: None,
    };
    Execution {
        record,
        payload: args.payload.clone(),
        payload_encoding: args.payload_encoding.clone(),
        attempt: None,
        suspension: None,
        open_waitpoints: BTreeSet::new(),
        history: Box::new(History::default()),
    }
}

/// Refuses a creation whose id is taken, or says that it is a repeat.
pub(crate) fn admit_creation(
    p: &Partition,
    id: &ExecutionId,
    fingerprint: &LazyDigest,
    key: Option<&str>,
) -> Result<Option<CreateExecutionResult>, EngineError> {
    if p.is_being_purged(Subject::Execution(id.uuid())) {
        return Err(Refusal::execution_already_exists().into());
    }
    let Some(x) = p.get(id.uuid())? else { return Ok(None) };
    let same_key = x.record.idempotency.as_ref().map(|k| k.key.as_str()) == key;
    if x.record.fingerprint == *fingerprint && same_key {
        return Ok(Some(CreateExecutionResult::AlreadyExists { execution_id: *id, summary: x.summary() }));
    }
    Err(Refusal::execution_already_exists().into())
}

/// Creates an execution, alone or as a member of a flow with its incoming edges.
///
/// # Errors
/// The refusals of `execution.md` 4.1 and of `flow.md`, Joining at creation.
pub fn create_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &CreateExecutionArgs,
) -> Result<CreateExecutionResult, EngineError> {
    let id = args.execution_id;
    let fingerprint = args.lazy_fingerprint();
    if let Some(repeat) = admit_creation(p, &id, &fingerprint, args.idempotency_key.as_deref())? {
        return Ok(repeat);
    }
    let entry = args.idempotency_key.as_ref().map(|key| {
        let owner = match &args.flow {
            Some(join) => KeyOwner::Flow(join.flow_id.uuid()),
            None => KeyOwner::Namespace(args.namespace.clone()),
        };
        (owner, key.clone())
    });
    if let Some(named) = entry.as_ref().and_then(|e| p.idempotency.get(e)).copied()
        && let Some(known) = p.get(named)?
        && known.record.idempotency.as_ref().is_some_and(|k| k.expires_at > now)
    {
        let execution_id = known.record.execution_id;
        if known.record.fingerprint == fingerprint {
            return Ok(CreateExecutionResult::Duplicate { execution_id, summary: known.summary() });
        }
        return Err(Refusal::idempotency_conflict(execution_id).into());
    }
    if let Some(join_args) = &args.flow {
        join::check(p, &args.namespace, join_args)?;
    }
    let required = &args.policy.required_capabilities;
    if !p.queues.has_room(&args.lane_id, &BTreeSet::from([required])) {
        let bound = u32::try_from(crate::model::Queues::MAX_SETS).unwrap_or(u32::MAX);
        return Err(Refusal::too_many_capability_sets(args.lane_id.clone(), bound).into());
    }

    let mut call = Call::new(now);
    let flow_id = args.flow.as_ref().map(|j| j.flow_id);
    let mut x = Held::new(build_execution(&Creation { args, flow_id, fingerprint }, now));
    if let Some(entry) = entry {
        p.idempotency.insert(entry, id.uuid());
    }
    if let Some(join_args) = &args.flow {
        join::apply(p, &mut call, id, join_args);
    }
    let before = x.record.vector.public_state();
    gate(p, &mut call, &mut x);
    call.count_child(before, x.record.vector.public_state());
    p.put(x, now);
    cascade::run(p, &mut call);
    let summary = p.find(&id)?.summary();
    Ok(CreateExecutionResult::Created { execution_id: id, summary })
}
