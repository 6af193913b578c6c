//! `suspend_execution`: a running attempt pauses, unless what it waits for has come already.

use ff_core::canon::Digest;
use ff_core::condition::{Evaluation, SignalView, evaluate, validate_policy, validate_sources};
use ff_core::contracts::{
    IssuedToken, IssuedWaitpoint, MatchedSignals, SignalEffect, SignalSource, SuspendExecutionArgs,
    SuspendExecutionResult, SuspensionCloseReason, TimeoutBehavior, WaitpointBinding, WaitpointCloseReason,
    WaitpointState,
};
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, WaitpointId};
use ff_core::records::{PauseKind, SuspensionRecord, WaitpointRecord};
use ff_core::refusal::Refusal;
use ff_core::state::StateVector;
use ff_core::time::TimestampMs;
use ff_core::token::PartitionKey;

use super::state_at;
use super::waitpoint::check_ids;
use crate::cascade::{self, Call};
use crate::model::{Execution, Partition, corrupt_execution};
use crate::routines::{check_fence, end_if_covered, pause, set_vector, touch};
use crate::rules::keystore::signing_key;

/// Pauses a running attempt until its condition is met.
///
/// # Errors
/// `execution_not_found`, `suspension_conflict`; the fence check; `invalid_resume_condition`,
/// `hmac_secret_not_initialized`, `waitpoint_already_exists`, `waitpoint_not_found`, `pending_waitpoint_expired`,
/// `waitpoint_not_pending`, `waitpoint_limit_exceeded`.
pub fn suspend_execution(
    p: &mut Partition,
    now: TimestampMs,
    args: &SuspendExecutionArgs,
) -> Result<SuspendExecutionResult, EngineError> {
    let digest = args.digest();
    let x = p.find(&args.execution_id)?;
    if let Some(s) = x.suspension.as_deref().filter(|s| s.suspension_id == args.suspension_id) {
        if s.fence != args.fence || s.digest != digest {
            return Err(Refusal::suspension_conflict().into());
        }
        let key = key_for(p, &args.waitpoints, now)?;
        return Ok(answer(x, s, key.as_ref()));
    }
    check_fence(x, &args.fence, now)?;
    let timeout = args.timeout.resolve(&x.record.policy.suspension);
    validate_policy(
        &args.resume_condition,
        timeout.map(|(_, behavior)| behavior),
        args.resume_policy.allow_operator_override,
    )?;
    let key = key_for(p, &args.waitpoints, now)?;
    let bound = check_bindings(x, &args.waitpoints, now)?;
    validate_sources(&args.resume_condition, &bound)?;
    let fresh = args.waitpoints.iter().filter(|b| matches!(b, WaitpointBinding::Fresh { .. })).count();
    check_ids(x, fresh)?;

    let Judged { seqs, evaluation } = judge_buffered(x, args);
    let mut call = Call::new(now);
    let mut x = p.take(args.execution_id.uuid())?;
    let mut s = suspension(&x, args, digest, timeout, now);
    let satisfied = evaluation.is_satisfied();
    if satisfied {
        s.closed_at = Some(now);
        s.close_reason = Some(SuspensionCloseReason::AlreadySatisfied);
        s.closer_signal_id = evaluation.closer;
    }
    for (seq, effect) in seqs.into_iter().zip(evaluation.effects) {
        settle(&mut x, seq, effect);
    }
    for binding in &args.waitpoints {
        activate(&mut x, binding, &s, now);
        if satisfied {
            x.close_waitpoint(binding.waitpoint_id(), WaitpointCloseReason::Satisfied, None, now);
        }
    }
    x.suspension = Some(Box::new(s));
    forget_older_signals(&mut x);
    if satisfied {
        touch(&mut x, now);
    } else {
        pause(&mut x, PauseKind::Suspension, now);
        set_vector(&mut x, StateVector::suspended(args.reason_code.blocking_reason()), now);
        end_if_covered(p, &mut call, &mut x);
    }
    let result = x.suspension.as_deref().map(|s| answer(&x, s, key.as_ref()));
    p.put(x, now);
    cascade::run(p, &mut call);
    // It was put there a moment ago.
    result.ok_or_else(corrupt_execution)
}

/// The key to mint with, if there is anything to mint.
fn key_for(p: &Partition, waitpoints: &[WaitpointBinding], now: TimestampMs) -> Result<Option<PartitionKey>, Refusal> {
    if waitpoints.is_empty() { Ok(None) } else { signing_key(p, now).map(Some) }
}

/// What a suspend answers, read from the records.
fn answer(x: &Execution, s: &SuspensionRecord, key: Option<&PartitionKey>) -> SuspendExecutionResult {
    let issue = |id: &WaitpointId| {
        let sources = x.history.waitpoints.get(id).map_or(&[][..], |w| &w.sources);
        let mint = |key| IssuedToken::mint(key, s.execution_id, *id, sources);
        IssuedWaitpoint { waitpoint_id: *id, tokens: key.map(mint).unwrap_or_default() }
    };
    let waitpoints = s.waitpoint_ids.iter().map(issue).collect();
    let (suspension_id, summary) = (s.suspension_id, x.summary());
    if s.close_reason == Some(SuspensionCloseReason::AlreadySatisfied) {
        let matched = MatchedSignals::of(s, x.history.signals.values());
        return SuspendExecutionResult::AlreadySatisfied { suspension_id, waitpoints, matched, summary };
    }
    SuspendExecutionResult::Suspended { suspension_id, waitpoints, timeout_at: s.timeout_at, summary }
}

/// Every bound waitpoint with the sources declared for it.
fn check_bindings<'a>(
    x: &'a Execution,
    waitpoints: &'a [WaitpointBinding],
    now: TimestampMs,
) -> Result<Vec<(WaitpointId, &'a [SignalSource])>, Refusal> {
    let check = |binding: &'a WaitpointBinding| {
        let known = x.history.waitpoints.get(&binding.waitpoint_id());
        match (binding, known) {
            (WaitpointBinding::Fresh { .. }, Some(w)) => Err(Refusal::waitpoint_already_exists(state_at(x, w, now))),
            (WaitpointBinding::Fresh { waitpoint_id, sources }, None) => Ok((*waitpoint_id, &sources[..])),
            (WaitpointBinding::Pending { .. }, None) => Err(Refusal::waitpoint_not_found()),
            (WaitpointBinding::Pending { waitpoint_id }, Some(w)) => match w.closed_as(x.open_suspension(), now) {
                None if w.state == WaitpointState::Pending => Ok((*waitpoint_id, &w.sources[..])),
                None => Err(Refusal::waitpoint_not_pending(w.state)),
                Some(WaitpointCloseReason::Expired) => Err(Refusal::pending_waitpoint_expired()),
                Some(_) => Err(Refusal::waitpoint_not_pending(WaitpointState::Closed)),
            },
        }
    };
    waitpoints.iter().map(check).collect()
}

/// What the buffered signals do to the condition.
struct Judged {
    /// The buffered signals, in order.
    seqs: Vec<u64>,
    evaluation: Evaluation,
}

fn judge_buffered(x: &Execution, args: &SuspendExecutionArgs) -> Judged {
    let ids = args.waitpoint_ids();
    // A fresh waitpoint has no signals, so that what stands under a bound one was buffered on a pending one.
    let buffered = x.history.signals.values().filter_map(|signal| {
        let view = SignalView::of(signal).filter(|view| ids.contains(&view.waitpoint_id))?;
        Some((signal.seq, view))
    });
    let (seqs, views): (Vec<u64>, Vec<SignalView<'_>>) = buffered.unzip();
    Judged { seqs, evaluation: evaluate(&args.resume_condition, &ids, views) }
}

/// The new suspension, open.
fn suspension(
    x: &Execution,
    args: &SuspendExecutionArgs,
    digest: Digest,
    timeout: Option<(u64, TimeoutBehavior)>,
    now: TimestampMs,
) -> SuspensionRecord {
    SuspensionRecord {
        execution_id: args.execution_id,
        suspension_id: args.suspension_id,
        // Who holds the fence has an attempt.
        attempt_index: x.record.current_attempt_index().unwrap_or(AttemptIndex(0)),
        fence: args.fence,
        digest,
        reason_code: args.reason_code,
        detail: args.detail.clone(),
        continuation: args.continuation.clone(),
        condition: args.resume_condition.clone(),
        resume_policy: args.resume_policy,
        waitpoint_ids: args.waitpoint_ids(),
        created_at: now,
        timeout_at: timeout.map(|(ms, _)| now.after(ms)),
        timeout_behavior: timeout.map(|(_, behavior)| behavior),
        escalated_at: None,
        closed_at: None,
        close_reason: None,
        closer_signal_id: None,
        operator: None,
    }
}

/// Gives a buffered signal its final effect.
fn settle(x: &mut Execution, seq: u64, effect: SignalEffect) {
    let Some(signal) = x.history.signals.get_mut(&seq) else { return };
    signal.effect = effect;
    if let Some(entry) = x.history.dedup.get_mut(&signal.signal_id) {
        entry.effect = effect;
    }
}

/// Makes a bound waitpoint an active one of the suspension.
fn activate(x: &mut Execution, binding: &WaitpointBinding, s: &SuspensionRecord, now: TimestampMs) {
    match binding {
        WaitpointBinding::Fresh { waitpoint_id, sources } => {
            x.put_waitpoint(WaitpointRecord {
                execution_id: s.execution_id,
                waitpoint_id: *waitpoint_id,
                attempt_index: s.attempt_index,
                sources: sources.clone(),
                created_at: now,
                state: WaitpointState::Active,
                expires_at: None,
                suspension_id: Some(s.suspension_id),
                activated_at: Some(now),
                closed_at: None,
                close_reason: None,
                close_detail: None,
                signal_count: 0,
            });
            x.record.waitpoint_count += 1;
        }
        WaitpointBinding::Pending { waitpoint_id } => {
            if let Some(w) = x.history.waitpoints.get_mut(waitpoint_id) {
                w.state = WaitpointState::Active;
                w.suspension_id = Some(s.suspension_id);
                w.activated_at = Some(now);
            }
        }
    }
}

/// Drops the signals of earlier suspensions and of waitpoints that closed unnamed: nothing reads them any more, and
/// their effects stay with their dedup entries. A suspension id that is used again cannot find its namesake's timeout.
fn forget_older_signals(x: &mut Execution) {
    let history = &mut *x.history;
    let Some(s) = x.suspension.as_deref() else { return };
    let waitpoints = &history.waitpoints;
    let is_pending = |id: &WaitpointId| waitpoints.get(id).is_some_and(|w| w.state == WaitpointState::Pending);
    history
        .signals
        .retain(|_, signal| signal.waitpoint_id.is_some_and(|id| s.waitpoint_ids.contains(&id) || is_pending(&id)));
}
