//! Replaced attempts and closed runs.

use bytes::Bytes;
use ff_core::contracts::decode::{DecodeCause, decode_attempt, decode_run};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptId, AttemptIndex, ExecutionId, LeaseEpoch, LeaseId};
use ff_core::records::{AttemptRecord, ClosedRun, EndMark, RunRecord};
use rmpv::Value;
use uuid::Uuid;

use super::packed::{at_of, bytes_of, number_of, read_packed, text_of};
use super::words::{attempt_lifecycle, attempt_type, end_cause, outcome, pause_kind};
use super::{corrupt, ended_by, holder, replay_mark};
use crate::call::NONE;

/// A replaced attempt, or the newest as it is packed for lists.
///
/// # Errors
/// `Corruption`.
pub(crate) fn attempt(id: ExecutionId, index: AttemptIndex, bytes: &[u8]) -> Result<AttemptRecord, EngineError> {
    let unfold = || {
        let Value::Array(v) = read_packed(bytes)? else { return None };
        let [
            _,
            aid,
            kind,
            run,
            started,
            state,
            lid,
            epoch,
            owner,
            due,
            left,
            pkind,
            paused,
            resumed,
            ended,
            cause,
            by,
            identity,
            reason,
            category,
        ] = v.as_slice()
        else {
            return None;
        };
        let byte = |v: &Value| number_of(v).and_then(|n| u8::try_from(n).ok());
        let uuid = |v: &Value| bytes_of(v).and_then(|b| Uuid::from_slice(b).ok());
        let (worker_id, worker_instance_id) = holder(owner.as_str()?)?;
        let ended = match at_of(ended)? {
            None => None,
            Some(at) => Some(EndMark {
                at,
                cause: end_cause(byte(cause)?)?,
                by: ended_by(byte(by)?, Some(&worker_instance_id), text_of(identity)?)??,
            }),
        };
        Some(AttemptRecord {
            execution_id: id,
            attempt_index: index,
            attempt_id: AttemptId::from_uuid(uuid(aid)?),
            attempt_type: attempt_type(byte(kind)?)?,
            run: u32::try_from(number_of(run)?).ok()?,
            started_at: at_of(started)??,
            attempt_state: attempt_lifecycle(byte(state)?)?,
            lease_id: LeaseId::from_uuid(uuid(lid)?),
            lease_epoch: LeaseEpoch(number_of(epoch)?),
            worker_id,
            worker_instance_id,
            attempt_deadline_at: at_of(due)?,
            timeout_remaining_ms: number_of(left).filter(|n| *n != NONE),
            pause_kind: pause_kind(byte(pkind)?),
            paused_at: at_of(paused)?,
            resumed_at: at_of(resumed)?,
            ended,
            failure_reason: text_of(reason)?,
            failure_category: text_of(category)?,
        })
    };
    let record = unfold().ok_or_else(|| corrupt("attempt", "version", DecodeCause::IllegalState))?;
    decode_attempt(id, index, &record.encode())?;
    Ok(record)
}

/// A run: its result, and what a replay wrote of it.
///
/// # Errors
/// `Corruption`.
pub(crate) fn run(
    id: ExecutionId,
    run: u32,
    result: Option<Bytes>,
    result_encoding: Option<String>,
    closed: Option<&[u8]>,
) -> Result<RunRecord, EngineError> {
    let unfold = |bytes: &[u8]| {
        let Value::Array(v) = read_packed(bytes)? else { return None };
        let [_, how, at, cause, by, who, reason, category, cancel, deadline, replay] = v.as_slice() else {
            return None;
        };
        let byte = |v: &Value| number_of(v).and_then(|n| u8::try_from(n).ok());
        let who = text_of(who)?;
        let by = match byte(by)? {
            2 => {
                let (_, instance) = holder(who.as_deref()?)?;
                ended_by(2, Some(&instance), None)??
            }
            n => ended_by(n, None, who)??,
        };
        Some(ClosedRun {
            outcome: outcome(byte(how)?)?,
            ended: EndMark { at: at_of(at)??, cause: end_cause(byte(cause)?)?, by },
            failure_reason: text_of(reason)?,
            failure_category: text_of(category)?,
            cancel_reason: text_of(cancel)?,
            deadline_at: at_of(deadline)?,
            replay: replay_mark(replay.as_array())?,
        })
    };
    let closed = match closed {
        None => None,
        Some(bytes) => Some(unfold(bytes).ok_or_else(|| corrupt("run", "version", DecodeCause::IllegalState))?),
    };
    let record = RunRecord { execution_id: id, run, result, result_encoding, closed };
    decode_run(id, run, &record.encode())?;
    Ok(record)
}
