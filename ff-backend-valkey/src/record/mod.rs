//! Stored records of an execution, unfolded: the packed record, replaced attempts, closed runs.
//!
//! The layout is `lua/record.lua`'s. What cannot be read is corruption; what can is held against the contract's
//! decoders, so that nothing illegal passes.

mod core;
mod fresh;
mod packed;
mod past;
mod words;

use std::collections::BTreeMap;

use ff_core::canon::Digest;
use ff_core::contracts::decode::{DecodeCause, DecodeError, decode_attempt, decode_execution};
use ff_core::contracts::{ClaimKind, EndedBy, Fence};
use ff_core::error::EngineError;
use ff_core::ids::{
    AttemptId, AttemptIndex, ExecutionId, FlowId, LaneId, LeaseEpoch, LeaseId, Namespace, WorkerId, WorkerInstanceId,
};
use ff_core::records::{
    AttemptRecord, Block, EndMark, ExecutionRecord, GrantRecord, KeyScope, KeyUse, LastAnswer, LastBy, LastCall,
    LastOperation, LeaseRecord, NotBefore, Progress, ReplayMark,
};
use ff_core::state::LifecyclePhase;
use ff_core::time::TimestampMs;
use rmpv::Value;

pub(crate) use self::core::Core;
use self::core::fat_policy;
pub(crate) use self::fresh::{Parts, fresh};
use self::packed::{Cut, numbered};
pub(crate) use self::packed::{at_of, bytes_of, number_of, read_packed, text_of};
pub(crate) use self::past::{attempt, run};
use self::words::{attempt_lifecycle, attempt_type, block_reason, not_before_kind, nth, pause_kind};
pub(crate) use self::words::{block_number, end_cause, vector};

const VERSION: u8 = 1;

/// The error of a record that cannot be read.
pub(crate) fn corrupt(record: &str, field: &str, cause: DecodeCause) -> EngineError {
    EngineError::Corruption(DecodeError { record: record.to_owned(), field: field.to_owned(), cause })
}

/// A member's part of its execution's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberPart {
    pub(crate) held: bool,
    pub(crate) incoming: u32,
    pub(crate) unresolved: u32,
    pub(crate) satisfied: u32,
    pub(crate) impossible: u32,
    pub(crate) name: Option<String>,
}

/// What one packed record holds.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: ExecutionRecord,
    /// The newest attempt.
    pub(crate) attempt: Option<AttemptRecord>,
    pub(crate) payload_encoding: Option<String>,
    pub(crate) member: Option<MemberPart>,
}

/// The rarely used fields: a map of short names.
#[derive(Default)]
struct Ext(BTreeMap<String, Value>);

impl Ext {
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let Value::Map(pairs) = read_packed(bytes)? else { return None };
        pairs.into_iter().map(|(k, v)| Some((k.as_str()?.to_owned(), v))).collect::<Option<_>>().map(Self)
    }

    fn text(&self, name: &str) -> Option<Option<String>> {
        self.0.get(name).map_or(Some(None), text_of)
    }

    fn list(&self, name: &str) -> Option<Option<&Vec<Value>>> {
        match self.0.get(name) {
            None => Some(None),
            Some(Value::Array(items)) => Some(Some(items)),
            Some(_) => None,
        }
    }
}

pub(super) fn ended_by(
    by: u8,
    instance: Option<&WorkerInstanceId>,
    identity: Option<String>,
) -> Option<Option<EndedBy>> {
    Some(match by {
        0 => None,
        1 => Some(EndedBy::Engine),
        2 => Some(EndedBy::Worker { worker_instance_id: instance?.clone() }),
        3 => Some(EndedBy::Operator { identity: identity? }),
        _ => return None,
    })
}

pub(super) fn holder(text: &str) -> Option<(WorkerId, WorkerInstanceId)> {
    let (worker, instance) = text.split_once('\n')?;
    Some((WorkerId::new(worker).ok()?, WorkerInstanceId::new(instance).ok()?))
}

pub(super) fn replay_mark(value: Option<&Vec<Value>>) -> Option<Option<ReplayMark>> {
    let Some(items) = value else { return Some(None) };
    let [reason, by, at, digest] = items.as_slice() else { return None };
    Some(Some(ReplayMark {
        reason: text_of(reason)??,
        by: text_of(by)??,
        at: at_of(at)??,
        digest: Digest::from_bytes(bytes_of(digest)?.try_into().ok()?),
    }))
}

fn last_call(bytes: &[u8]) -> Option<Option<LastCall>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let mut c = Cut { rest: bytes };
    let operation = nth(
        &[
            LastOperation::CompleteExecution,
            LastOperation::FailExecution,
            LastOperation::CancelExecution,
            LastOperation::DelayExecution,
            LastOperation::MoveToWaitingChildren,
        ],
        c.byte()?,
    )?;
    let by = c.byte()?;
    let run = c.u32()?;
    let digest = Digest::from_bytes(c.take(32)?.try_into().ok()?);
    let (kind, v, w) = (c.byte()?, c.long()?, c.long()?);
    let answer = match kind {
        1 => LastAnswer::Completed,
        2 => LastAnswer::RetryScheduled { retry_at: TimestampMs::new(v)? },
        3 => LastAnswer::Ended,
        4 => LastAnswer::Cancelled {
            from: nth(
                &[
                    LifecyclePhase::Runnable,
                    LifecyclePhase::Active,
                    LifecyclePhase::Suspended,
                    LifecyclePhase::Terminal,
                ],
                u8::try_from(v).ok()?,
            )?,
        },
        5 => LastAnswer::Delayed { until: TimestampMs::new(v)? },
        6 => LastAnswer::Moved { unresolved_count: u32::try_from(v).ok()?, impossible_count: u32::try_from(w).ok()? },
        _ => return None,
    };
    let by = match by {
        1 => {
            let fence = Fence {
                lease_id: LeaseId::from_uuid(c.uuid()?),
                lease_epoch: LeaseEpoch(c.long()?),
                attempt_id: AttemptId::from_uuid(c.uuid()?),
            };
            if !c.rest.is_empty() {
                return None;
            }
            LastBy::Worker(fence)
        }
        2 => LastBy::Operator { identity: std::str::from_utf8(c.rest).ok()?.to_owned() },
        _ => return None,
    };
    Some(Some(LastCall { operation, by, run, digest, answer }))
}

/// Unfolds a packed record. Legality between fields is the decoder's: [`execution`].
fn unfold(id: ExecutionId, bytes: &[u8]) -> Option<Stored> {
    let mut c = Cut { rest: bytes };
    if c.byte()? != VERSION {
        return None;
    }
    let (s, a, b) = (c.byte()?, c.byte()?, c.byte()?);
    let (member, ext, waitpoint_count) = (c.length(2)?, c.length(4)?, c.u32()?);
    let (nb_kind, not_before) = (c.byte()?, c.at_opt()?);
    let (route, tags, frozen, core) = (c.length(2)?, c.length(4)?, c.length(2)?, c.length(4)?);
    let (deadline_at, _attempt_timeout, replay_count) = (c.at_opt()?, c.take(7)?, c.u32()?);
    let (_retention, key_end) = (c.take(7)?, c.at_opt()?);
    let (holder_bytes, attempt_count, started_at) = (c.length(2)?, c.u32()?, c.at_opt()?);
    let (lease_id, lease_epoch) = (LeaseId::from_uuid(c.uuid()?), LeaseEpoch(c.long()?));
    let (attempt_id, a_type, a_run, a_started) = (AttemptId::from_uuid(c.uuid()?), c.byte()?, c.u32()?, c.at_opt()?);
    let (p_kind, paused_at, resumed_at) = (c.byte()?, c.at_opt()?, c.at_opt()?);
    let last = c.length(2)?;
    let (last_transition_at, last_mutation_at) = (c.at()?, c.at()?);
    let (completed_at, purge_at, cause, by) = (c.at_opt()?, c.at_opt()?, c.byte()?, c.byte()?);
    let (a_state, attempt_deadline_at, timeout_remaining_ms) = (c.byte()?, c.at_opt()?, c.long_opt()?);
    let (a_ended, a_cause, a_by) = (c.at_opt()?, c.byte()?, c.byte()?);
    let (l_kind, l_acquired, l_expires, l_renewed) = (c.byte()?, c.at_opt()?, c.at_opt()?, c.at_opt()?);
    let _admission_controlled = c.byte()?;
    let (priority, created_at) = (i32::from_be_bytes(c.take(4)?.try_into().ok()?), c.at()?);
    let (retry_count, reclaim_count, total_retries, total_reclaims) = (c.u32()?, c.u32()?, c.u32()?, c.u32()?);
    let (signal_count, signal_bytes, next_signal_seq) = (c.u32()?, c.long()?, c.long()?);
    let (_suspension_timeout_at, _max_retries, _max_reclaims) = (c.at_opt()?, c.u32()?, c.u32()?);
    let fingerprint = Digest::from_bytes(c.take(32)?.try_into().ok()?);
    let (lane, _set) = c.text(route)?.split_once('\n')?;
    let lane_id = LaneId::new(lane).ok()?;
    let (flow_id, member) = match c.take(member)? {
        [] => (None, None),
        bytes => {
            let mut m = Cut { rest: bytes };
            let flow = FlowId::from_parts(id.partition(), m.uuid()?);
            let held = m.byte()? == 1;
            let (incoming, unresolved, satisfied, impossible) = (m.u32()?, m.u32()?, m.u32()?, m.u32()?);
            let name = std::str::from_utf8(m.rest).ok().map(str::to_owned)?;
            let name = (!name.is_empty()).then_some(name);
            (Some(flow), Some(MemberPart { held, incoming, unresolved, satisfied, impossible, name }))
        }
    };
    let tags = match c.take(tags)? {
        [] => BTreeMap::new(),
        bytes => match read_packed(bytes)? {
            Value::Map(pairs) => pairs
                .iter()
                .map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned())))
                .collect::<Option<_>>()?,
            _ => return None,
        },
    };
    let _frozen = c.take(frozen)?;
    let Value::Array(core) = read_packed(c.take(core)?)? else { return None };
    let [namespace, kind, encoding, creator, key, key_in_flow, policy] = core.as_slice() else { return None };
    let owner = match c.text(holder_bytes)? {
        "" => None,
        text => Some(holder(text)?),
    };
    let instance = owner.as_ref().map(|(_, instance)| instance);
    let last_call = last_call(c.take(last)?)?;
    let ext = Ext::read(c.take(ext)?)?;
    if !c.rest.is_empty() {
        return None;
    }

    let idempotency = match (text_of(key)?, key_end) {
        (None, None) => None,
        (Some(key), Some(expires_at)) => {
            let scope = if key_in_flow.as_bool()? { KeyScope::Flow } else { KeyScope::Namespace };
            Some(KeyUse { key, scope, expires_at })
        }
        _ => return None,
    };
    let mut blocks = BTreeMap::new();
    if let Some(list) = ext.0.get("bl") {
        for (reason, block) in numbered(list)? {
            let Value::Array(block) = block else { return None };
            let [detail, until, by, at] = block.as_slice() else { return None };
            blocks.insert(
                block_reason(reason)?,
                Block { detail: text_of(detail)??, until: at_of(until)?, by: text_of(by)??, blocked_at: at_of(at)?? },
            );
        }
    }
    let progress = match ext.list("pr")?.map(Vec::as_slice) {
        None => None,
        Some([pct, message, at]) => Some(Progress {
            pct: match number_of(pct) {
                Some(n) => Some(u8::try_from(n).ok()?),
                None => None,
            },
            message: text_of(message)?,
            updated_at: at_of(at)??,
        }),
        Some(_) => return None,
    };
    let grant = match ext.list("gr")?.map(Vec::as_slice) {
        None => None,
        Some([by, at, until]) => {
            let (worker_id, worker_instance_id) = holder(by.as_str()?)?;
            Some(GrantRecord { worker_id, worker_instance_id, granted_at: at_of(at)??, expires_at: at_of(until)?? })
        }
        Some(_) => return None,
    };
    let mark = |at: Option<TimestampMs>, cause: u8, by: u8, identity: Option<String>| match at {
        None => Some(None),
        Some(at) => Some(Some(EndMark { at, cause: end_cause(cause)?, by: ended_by(by, instance, identity)?? })),
    };
    let lease = if s == 5 {
        let (worker_id, worker_instance_id) = owner.clone()?;
        Some(LeaseRecord {
            lease_id,
            claim_kind: nth(ClaimKind::ALL, l_kind)?,
            worker_id,
            worker_instance_id,
            acquired_at: l_acquired?,
            expires_at: l_expires?,
            renewed_at: l_renewed,
        })
    } else {
        None
    };
    let attempt = match attempt_count.checked_sub(1) {
        None => None,
        Some(index) => {
            let (worker_id, worker_instance_id) = owner.clone()?;
            Some(AttemptRecord {
                execution_id: id,
                attempt_index: AttemptIndex(index),
                attempt_id,
                attempt_type: attempt_type(a_type)?,
                run: a_run,
                started_at: a_started?,
                attempt_state: attempt_lifecycle(a_state)?,
                lease_id,
                lease_epoch,
                worker_id,
                worker_instance_id,
                attempt_deadline_at,
                timeout_remaining_ms,
                pause_kind: pause_kind(p_kind),
                paused_at,
                resumed_at,
                ended: mark(a_ended, a_cause, a_by, ext.text("ab")?)?,
                failure_reason: ext.text("afr")?,
                failure_category: ext.text("afc")?,
            })
        }
    };
    let record = ExecutionRecord {
        execution_id: id,
        namespace: Namespace::new(namespace.as_str()?).ok()?,
        lane_id,
        kind: kind.as_str()?.to_owned(),
        policy: fat_policy(bytes_of(policy)?)?,
        creator: text_of(creator)?,
        created_at,
        fingerprint: fingerprint.into(),
        idempotency,
        flow_id,
        vector: vector(s, a, b, attempt_count > 0)?,
        priority,
        tags,
        attempt_count,
        lease_epoch,
        retry_count,
        reclaim_count,
        total_retries,
        total_reclaims,
        replay_count,
        replay: replay_mark(ext.list("rp")?)?,
        started_at,
        ended: mark(completed_at, cause, by, ext.text("eb")?)?,
        purge_at,
        failure_reason: ext.text("fr")?,
        failure_category: ext.text("fc")?,
        cancel_reason: ext.text("cr")?,
        deadline_at,
        not_before: match not_before {
            None => None,
            Some(at) => Some(NotBefore { at, kind: not_before_kind(nb_kind)? }),
        },
        blocks,
        progress,
        signal_count,
        signal_bytes,
        next_signal_seq,
        waitpoint_count,
        last_call,
        last_transition_at,
        last_mutation_at,
        lease,
        grant,
    };
    Some(Stored { record, attempt, payload_encoding: text_of(encoding)?, member })
}

/// The execution of a packed record.
///
/// # Errors
/// `Corruption`, also of what is well packed but not legal.
pub(crate) fn execution(id: ExecutionId, bytes: &[u8]) -> Result<Stored, EngineError> {
    let stored = unfold(id, bytes).ok_or_else(|| {
        let version = bytes.first().is_some_and(|v| *v != VERSION);
        let cause = if version { DecodeCause::UnsupportedVersion } else { DecodeCause::IllegalState };
        corrupt("execution", "version", cause)
    })?;
    decode_execution(id, &stored.record.encode())?;
    if let Some(attempt) = &stored.attempt {
        decode_attempt(id, attempt.attempt_index, &attempt.encode())?;
    }
    Ok(stored)
}
