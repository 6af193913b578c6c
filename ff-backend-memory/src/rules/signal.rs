//! Domain signal: `suspension.md`, section 5.

use ff_core::condition::SignalView;
use ff_core::contracts::{
    BufferSignalArgs, BufferSignalResult, DeliverSignalArgs, DeliverSignalResult, ListSignalsArgs, ListSignalsResult,
    MAX_BUFFERED_SIGNALS, MAX_SIGNAL_BYTES, MAX_SIGNAL_PAGE_BYTES, MAX_SOURCE_SIGNALS, MAX_WAITPOINT_SIGNALS,
    SignalCall, SignalCursor, SignalEffect, SignalInfo, SignalLimitScope, SuspensionCloseReason, SuspensionInfo,
    WaitpointState,
};
use ff_core::error::EngineError;
use ff_core::ids::SignalId;
use ff_core::records::{SignalAuth, WaitpointRecord};
use ff_core::refusal::Refusal;
use ff_core::state::StateSummary;
use ff_core::time::TimestampMs;
use ff_core::token::{VerifiedToken, verify};

use super::keystore::{keys_of, status_of};
use super::suspension::judge;
use crate::cascade::{self, Call};
use crate::model::{Execution, Partition, SignalKey};
use crate::routines::{touch, wake};

/// What became of a signal that was let in.
struct Taken {
    signal_id: SignalId,
    effect: SignalEffect,
    summary: StateSummary,
    /// It was recorded before.
    duplicate: bool,
}

/// Records a signal at an open waitpoint; the one that satisfies the condition resumes the execution.
///
/// # Errors
/// `invalid_token`, `token_source_mismatch`, `token_expired`, `waitpoint_not_found`, `signal_conflict`,
/// `waitpoint_closed`, `signal_limit_exceeded`.
pub fn deliver_signal(
    p: &mut Partition,
    now: TimestampMs,
    args: &DeliverSignalArgs,
) -> Result<DeliverSignalResult, EngineError> {
    let Taken { signal_id, effect, summary, duplicate } = take_in(p, now, &args.call(), false)?;
    Ok(if duplicate {
        DeliverSignalResult::Duplicate { signal_id, effect, summary }
    } else {
        DeliverSignalResult::Accepted { signal_id, effect, summary }
    })
}

/// Records a signal at a pending waitpoint only.
///
/// # Errors
/// Those of [`deliver_signal`]; `waitpoint_not_pending`.
pub fn buffer_signal(
    p: &mut Partition,
    now: TimestampMs,
    args: &BufferSignalArgs,
) -> Result<BufferSignalResult, EngineError> {
    let Taken { signal_id, effect, summary, duplicate } = take_in(p, now, &args.call(), true)?;
    Ok(if duplicate {
        BufferSignalResult::Duplicate { signal_id, effect, summary }
    } else {
        BufferSignalResult::Buffered { signal_id, effect, summary }
    })
}

fn take_in(
    p: &mut Partition,
    now: TimestampMs,
    signal: &SignalCall<'_>,
    pending_only: bool,
) -> Result<Taken, EngineError> {
    // Who may not signal learns nothing else: the token is judged before anything of the execution is read.
    let keys = keys_of(p, signal.waitpoint_token.kid().as_ref(), now);
    let verified = verify(&keys, signal.execution_id, signal.waitpoint_id, signal.source, signal.waitpoint_token)?;
    // In one step with the commit: from here on what was verified says where the signal goes.
    status_of(&p.keystore, verified.kid(), now).admit()?;
    let x = p.get(verified.execution_id().uuid())?.ok_or_else(Refusal::waitpoint_not_found)?;
    let waitpoint = x.history.waitpoints.get(&verified.waitpoint_id()).ok_or_else(Refusal::waitpoint_not_found)?;
    if let Some(known) = duplicate(x, &verified, signal, now)? {
        return Ok(known);
    }
    if let Some(reason) = waitpoint.closed_as(x.open_suspension(), now) {
        return Err(Refusal::waitpoint_closed(reason).into());
    }
    if pending_only && waitpoint.state != WaitpointState::Pending {
        return Err(Refusal::waitpoint_not_pending(waitpoint.state).into());
    }
    let effect = effect_of(x, waitpoint, &verified, signal);
    if !contributes(effect) {
        check_limits(x, waitpoint, &verified, signal, now)?;
    }

    let mut call = Call::new(now);
    let mut x = p.take(verified.execution_id().uuid())?;
    record(&mut x, &verified, signal, effect, now);
    if effect == SignalEffect::ResumeConditionSatisfied {
        if let Some(s) = &mut x.suspension {
            s.closer_signal_id = Some(signal.signal_id);
        }
        wake(p, &mut call, &mut x, SuspensionCloseReason::Satisfied, None);
    }
    let summary = x.summary();
    p.put(x, now);
    cascade::run(p, &mut call);
    Ok(Taken { signal_id: signal.signal_id, effect, summary, duplicate: false })
}

/// Whether the signal did something for the condition when it was recorded.
const fn contributes(effect: SignalEffect) -> bool {
    matches!(effect, SignalEffect::ResumeConditionSatisfied | SignalEffect::AppendedToWaitpoint)
}

/// The table entry of an idempotency key: equal keys of two sources with bound tokens name two signals.
fn key_of(verified: &VerifiedToken, signal: &SignalCall<'_>) -> Option<SignalKey> {
    let source = verified.source_bound().then(|| signal.source.clone());
    Some((verified.waitpoint_id(), source, signal.idempotency_key?.to_owned()))
}

/// The first signal, if this is it again.
fn duplicate(
    x: &Execution,
    verified: &VerifiedToken,
    signal: &SignalCall<'_>,
    now: TimestampMs,
) -> Result<Option<Taken>, Refusal> {
    let by_key = key_of(verified, signal).and_then(|key| x.history.signal_keys.get(&key));
    let Some(first) = x.history.dedup.get(by_key.unwrap_or(&signal.signal_id)) else { return Ok(None) };
    if first.digest != signal.digest() {
        return Err(Refusal::signal_conflict(first.signal_id));
    }
    // Equal content names the waitpoint too, so that the first signal's is the call's.
    let waitpoint = x.history.waitpoints.get(&first.waitpoint_id);
    let effect = waitpoint.map_or(first.effect, |w| first.effect.at(w, now));
    Ok(Some(Taken { signal_id: first.signal_id, effect, summary: x.summary(), duplicate: true }))
}

/// What the signal would do at its open waitpoint.
fn effect_of(
    x: &Execution,
    waitpoint: &WaitpointRecord,
    verified: &VerifiedToken,
    signal: &SignalCall<'_>,
) -> SignalEffect {
    match x.open_suspension() {
        Some(s) if waitpoint.state == WaitpointState::Active => judge(x, s).push(&SignalView {
            signal_id: signal.signal_id,
            waitpoint_id: verified.waitpoint_id(),
            name: signal.name,
            category: signal.category,
            source: signal.source,
            correlation_id: signal.correlation_id,
            source_bound: verified.source_bound(),
        }),
        _ => SignalEffect::BufferedForPendingWaitpoint,
    }
}

/// Refuses a signal that does not contribute and is one too many.
fn check_limits(
    x: &Execution,
    waitpoint: &WaitpointRecord,
    verified: &VerifiedToken,
    signal: &SignalCall<'_>,
    now: TimestampMs,
) -> Result<(), Refusal> {
    let below = |count: u64, scope: SignalLimitScope, max: u64| {
        if count < max { Ok(()) } else { Err(Refusal::signal_limit_exceeded(scope, max)) }
    };
    let r = &x.record;
    below(waitpoint.signal_count.into(), SignalLimitScope::Waitpoint, MAX_WAITPOINT_SIGNALS.into())?;
    if verified.source_bound() && waitpoint.signal_count >= MAX_SOURCE_SIGNALS {
        // Counted are those that came with a token of this source: nobody uses up another's share by naming it.
        let is_its = |auth: &SignalAuth| matches!(auth, SignalAuth::Token { source_bound: true, .. });
        let of_source = x.history.signals.values().filter(|s| {
            s.waitpoint_id == Some(waitpoint.waitpoint_id) && s.source == *signal.source && is_its(&s.auth)
        });
        below(of_source.count() as u64, SignalLimitScope::Source, MAX_SOURCE_SIGNALS.into())?;
    }
    below(r.signal_count.into(), SignalLimitScope::Execution, r.policy.max_signals.into())?;
    if r.signal_bytes + signal.payload.len() as u64 > MAX_SIGNAL_BYTES {
        return Err(Refusal::signal_limit_exceeded(SignalLimitScope::Payload, MAX_SIGNAL_BYTES));
    }
    if waitpoint.state == WaitpointState::Pending {
        let open = x.open_waitpoints.iter().filter_map(|id| x.history.waitpoints.get(id));
        let pending = open.filter(|w| w.state == WaitpointState::Pending && w.closed_as(None, now).is_none());
        let buffered = pending.map(|w| u64::from(w.signal_count)).sum();
        below(buffered, SignalLimitScope::Buffered, MAX_BUFFERED_SIGNALS.into())?;
    }
    Ok(())
}

/// Records a signal from a sender.
fn record(
    x: &mut Execution,
    verified: &VerifiedToken,
    signal: &SignalCall<'_>,
    effect: SignalEffect,
    now: TimestampMs,
) {
    let seq = x.record.next_signal_seq;
    x.record.next_signal_seq += 1;
    x.record.signal_count = x.record.signal_count.saturating_add(1);
    if !contributes(effect) {
        x.record.signal_bytes += signal.payload.len() as u64;
    }
    if let Some(waitpoint) = x.history.waitpoints.get_mut(&verified.waitpoint_id()) {
        waitpoint.signal_count = waitpoint.signal_count.saturating_add(1);
    }
    if let Some(key) = key_of(verified, signal) {
        x.history.signal_keys.insert(key, signal.signal_id);
    }
    x.history.dedup.insert(signal.signal_id, signal.dedup(verified, effect));
    x.history.signals.insert(seq, signal.record(verified, seq, now, effect));
    touch(x, now);
}

/// The signals of the current, else the last suspension.
///
/// # Errors
/// `execution_not_found`; `stale_suspension` for the cursor of one that is gone.
pub fn list_signals(p: &Partition, _: TimestampMs, args: &ListSignalsArgs) -> Result<ListSignalsResult, EngineError> {
    let position = args.position()?;
    let x = p.find(&args.execution_id)?;
    let current = x.suspension.as_deref();
    if position.is_some_and(|cursor| current.is_none_or(|s| s.suspension_id != cursor.suspension_id)) {
        return Err(Refusal::stale_suspension(current.map(|s| s.suspension_id)).into());
    }
    let Some(s) = current else { return Ok(ListSignalsResult::default()) };
    let mut page = ListSignalsResult {
        suspension: Some(SuspensionInfo::of(s)),
        progress: judge(x, s).progress(),
        ..ListSignalsResult::default()
    };
    let after = position.map_or(0, |cursor| cursor.after);
    let behind = x.history.signals.range(after.saturating_add(1)..).map(|(_, signal)| signal);
    let wanted = behind.filter(|signal| s.has(signal) && (!args.matched_only || signal.effect.is_match()));
    let mut bytes = 0;
    for signal in wanted {
        bytes += signal.payload.len();
        let full = page.signals.len() >= args.limit as usize || bytes > MAX_SIGNAL_PAGE_BYTES;
        if let Some(last) = page.signals.last().filter(|_| full) {
            let cursor = SignalCursor { suspension_id: s.suspension_id, after: last.seq };
            page.next_cursor = Some(cursor.to_string());
            break;
        }
        page.signals.push(SignalInfo::of(signal));
    }
    Ok(page)
}
