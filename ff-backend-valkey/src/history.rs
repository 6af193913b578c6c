//! Stored records of suspensions, waitpoints and signals, unfolded and held against the contract's decoders.

use bytes::Bytes;
use ff_core::condition::LeafProgress;
use ff_core::contracts::decode::{DecodeCause, decode_signal, decode_suspension, decode_waitpoint};
use ff_core::contracts::{MatchedSignals, SignalEffect, SignalSource, WaitpointState};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId, Kid, SignalId, SuspensionId, WaitpointId};
use ff_core::records::flat::FlatMap;
use ff_core::records::{SignalAuth, SignalRecord, SuspensionRecord, WaitpointRecord};
use rmpv::Value;
use uuid::Uuid;

use crate::call::Reply;
use crate::record::{at_of, bytes_of, corrupt, number_of, read_packed, text_of};

fn list(bytes: &[u8]) -> Option<Vec<Value>> {
    match read_packed(bytes)? {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn uuid_of(value: &Value) -> Option<Option<Uuid>> {
    match value {
        Value::Boolean(false) => Some(None),
        value => bytes_of(value).and_then(|b| Uuid::from_slice(b).ok()).map(Some),
    }
}

fn u32_of(value: &Value) -> Option<u32> {
    number_of(value).and_then(|n| u32::try_from(n).ok())
}

/// An enum's value by its number from 1.
fn nth<T: Copy>(all: &[T], value: &Value) -> Option<T> {
    let n = number_of(value).and_then(|n| usize::try_from(n).ok())?;
    all.get(n.checked_sub(1)?).copied()
}

/// The present or last suspension, stored as the flat form.
///
/// # Errors
/// `Corruption`.
pub(crate) fn suspension(id: ExecutionId, flat: &mut Reply) -> Result<SuspensionRecord, EngineError> {
    let mut map = FlatMap::new();
    while !flat.is_over() {
        let field = flat.text()?;
        map.insert(field, flat.bytes()?);
    }
    Ok(decode_suspension(id, &map)?)
}

/// A packed waitpoint.
///
/// # Errors
/// `Corruption`.
pub(crate) fn waitpoint(
    id: ExecutionId,
    waitpoint_id: WaitpointId,
    bytes: &[u8],
) -> Result<WaitpointRecord, EngineError> {
    let unfold = || {
        let items = list(bytes)?;
        let [_, attempt, sources, created, state, expires, suspension, activated, closed, reason, detail, count] =
            items.as_slice()
        else {
            return None;
        };
        Some(WaitpointRecord {
            execution_id: id,
            waitpoint_id,
            attempt_index: AttemptIndex(u32_of(attempt)?),
            sources: serde_json::from_slice::<Vec<SignalSource>>(bytes_of(sources)?).ok()?,
            created_at: at_of(created)??,
            state: nth(WaitpointState::ALL, state)?,
            expires_at: at_of(expires)?,
            suspension_id: uuid_of(suspension)?.map(SuspensionId::from_uuid),
            activated_at: at_of(activated)?,
            closed_at: at_of(closed)?,
            close_reason: text_of(reason)?.map(|word| word.parse()).transpose().ok()?,
            close_detail: text_of(detail)?,
            signal_count: u32_of(count)?,
        })
    };
    let record = unfold().ok_or_else(|| corrupt("waitpoint", "v", DecodeCause::IllegalState))?;
    decode_waitpoint(id, waitpoint_id, &record.encode())?;
    Ok(record)
}

fn signal(id: ExecutionId, seq: u64, bytes: &[u8], payload: Bytes) -> Result<SignalRecord, EngineError> {
    let unfold = || {
        let items = list(bytes)?;
        let [_, signal, at, waitpoint, name, category, kind, identity, correlation, key, encoding, kid, bound, effect] =
            items.as_slice()
        else {
            return None;
        };
        let auth = match text_of(kid)? {
            None => SignalAuth::Engine,
            Some(kid) => SignalAuth::Token { kid: Kid::new(kid).ok()?, source_bound: bound.as_bool()? },
        };
        Some(SignalRecord {
            execution_id: id,
            signal_id: SignalId::from_uuid(uuid_of(signal)??),
            seq,
            accepted_at: at_of(at)??,
            waitpoint_id: uuid_of(waitpoint)?.map(WaitpointId::from_uuid),
            name: text_of(name)??,
            category: text_of(category)??,
            source: SignalSource::new(text_of(kind)??, text_of(identity)??),
            correlation_id: text_of(correlation)?,
            idempotency_key: text_of(key)?,
            payload,
            encoding: text_of(encoding)?,
            auth,
            effect: nth(SignalEffect::ALL, effect)?,
        })
    };
    let record = unfold().ok_or_else(|| corrupt("signal", "v", DecodeCause::IllegalState))?;
    decode_signal(id, seq, &record.encode())?;
    Ok(record)
}

/// Signals with their payloads: seq, packed, payload, and so on.
///
/// # Errors
/// `Corruption`.
pub(crate) fn signals(id: ExecutionId, flat: &mut Reply) -> Result<Vec<SignalRecord>, EngineError> {
    let mut out = Vec::new();
    while !flat.is_over() {
        let (seq, packed) = (flat.num()?, flat.bytes()?);
        let payload = flat.bytes_opt()?.unwrap_or_else(Bytes::new);
        out.push(signal(id, seq, &packed, payload)?);
    }
    Ok(out)
}

/// The last suspension and its matched signals: suspension, their number, the first of them.
///
/// # Errors
/// `Corruption`.
pub(crate) fn matched(id: ExecutionId, reply: &mut Reply) -> Result<(SuspensionRecord, MatchedSignals), EngineError> {
    let suspension = suspension(id, &mut reply.list()?)?;
    let total = reply.num()?;
    let first = signals(id, &mut reply.list()?)?;
    let matched = MatchedSignals::of_first(total, &suspension, &first);
    Ok((suspension, matched))
}

/// How far leaves are: path, have, need, and so on.
///
/// # Errors
/// That of a reply that cannot be read.
pub(crate) fn progress(flat: &mut Reply) -> Result<Vec<LeafProgress>, EngineError> {
    let mut out = Vec::new();
    while !flat.is_over() {
        out.push(LeafProgress { path: flat.text()?, have: flat.u32()?, need: flat.u32()? });
    }
    Ok(out)
}
