//! The shared routines: every operation is composed of them (`README.md` section 6, `execution.md` section 3).
//!
//! They change an execution that a rule holds in its hands. Indexes follow when the rule puts it back
//! ([`Partition::put`]); what an ending means for others is an item on the call's work list
//! ([`crate::cascade::run`]).

use bytes::Bytes;
use ff_core::contracts::{
    BacklogKind, ClaimKind, EndedBy, Fence, SuspensionCloseReason, WaitpointCloseReason, WaitpointState,
};
use ff_core::ids::{AttemptId, AttemptIndex, LeaseEpoch, LeaseId, WorkerId, WorkerInstanceId};
use ff_core::records::{AttemptRecord, EndMark, LeaseRecord, NotBefore, OperatorResume, PauseKind, RunRecord};
use ff_core::refusal::Refusal;
use ff_core::state::{
    AttemptLifecycle, AttemptState, AttemptType, EndCause, LifecyclePhase, NotBeforeKind, OwnershipState, StateName,
    StateVector, TerminalOutcome,
};
use ff_core::time::TimestampMs;

use crate::cascade::Call;
use crate::model::{Execution, Item, Partition, Subject};

/// Sets the vector; a change voids the grant.
pub(crate) fn set_vector(x: &mut Execution, vector: StateVector, now: TimestampMs) {
    if x.record.vector != vector {
        x.record.vector = vector;
        x.record.last_transition_at = now;
        x.record.grant = None;
    }
}

/// Says that something of the execution is written, equal values too.
pub(crate) fn touch(x: &mut Execution, now: TimestampMs) {
    x.record.last_mutation_at = now;
}

/// Whether the execution's flow is cancelled over it.
pub(crate) fn is_covered(p: &Partition, x: &Execution) -> bool {
    use ff_core::contracts::CancellationPolicy;
    let Some(flow) = x.record.flow_id.and_then(|f| p.flow(f.uuid())) else { return false };
    match flow.cancelled.as_ref().map(|c| c.policy) {
        None | Some(CancellationPolicy::FlowOnly) => false,
        Some(CancellationPolicy::CancelAll) => !x.record.vector.is_terminal(),
        Some(CancellationPolicy::CancelPending) => !x.record.vector.is_terminal() && !x.record.vector.is_running(),
    }
}

/// Whether the execution's deadline is due.
pub(crate) fn deadline_is_due(x: &Execution, now: TimestampMs) -> bool {
    x.record.deadline_at.is_some_and(|at| at <= now)
}

/// What a runnable execution may do next; run by everything that makes it runnable or may change where it belongs.
pub(crate) fn gate(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    let now = call.now;
    if !x.record.vector.is_runnable() {
        return;
    }
    let mut changed = false;
    if x.record.not_before.is_some_and(|n| n.at <= now) {
        x.record.not_before = None;
        changed = true;
    }
    if !x.record.blocks.is_empty() {
        let before = x.record.blocks.len();
        x.record.blocks.retain(|_, block| block.until.is_none_or(|until| until > now));
        changed |= x.record.blocks.len() != before;
    }
    if is_covered(p, x) {
        end_with_flow(p, call, x);
        return;
    }
    let a = x.record.vector.attempt_state;
    let mut vector = None;
    if let Some(flow_id) = x.record.flow_id {
        let flow = flow_id.uuid();
        let sealed = p.flow(flow).is_none_or(|f| f.sealed);
        let me = x.uuid();
        let member = p.graph(flow).and_then(|g| g.members.get(&me));
        let (held, unresolved, impossible) =
            member.map_or((false, 0, 0), |m| (m.held, m.unresolved_count, m.impossible_count));
        if held && sealed {
            p.edit_member(flow, me, |m| m.held = false);
        }
        if held && !sealed {
            vector = Some(StateVector::deps(a));
        } else if impossible > 0 && x.record.started_at.is_none() {
            terminate(p, call, x, End::of(TerminalOutcome::Skipped, EndCause::DependencyImpossible, EndedBy::Engine));
            return;
        } else if unresolved > 0 {
            vector = Some(StateVector::deps(a));
        }
    }
    let vector = vector.unwrap_or_else(|| match (x.record.not_before, x.record.blocks.keys().next()) {
        (Some(not_before), _) => StateVector::delayed(not_before.kind, a),
        (None, Some(reason)) => StateVector::blocked(*reason, a),
        (None, None) => StateVector::ready(a),
    });
    if changed || x.record.vector != vector {
        touch(x, now);
    }
    set_vector(x, vector, now);
}

/// Who takes an execution, and how.
pub(crate) struct Acquisition<'a> {
    pub(crate) worker_id: &'a WorkerId,
    pub(crate) worker_instance_id: &'a WorkerInstanceId,
    pub(crate) lease_id: LeaseId,
    /// The id of the attempt, if it is new.
    pub(crate) attempt_id: AttemptId,
    pub(crate) lease_ttl_ms: u64,
}

/// Starts owning: a new attempt or the paused one goes on, under a new epoch.
pub(crate) fn acquire(x: &mut Execution, now: TimestampMs, by: &Acquisition<'_>) {
    let kind = x.record.next_claim_kind().unwrap_or(ClaimKind::New);
    let epoch = LeaseEpoch(x.record.lease_epoch.get() + 1);
    x.record.lease_epoch = epoch;
    x.record.lease = Some(LeaseRecord {
        lease_id: by.lease_id,
        claim_kind: kind,
        worker_id: by.worker_id.clone(),
        worker_instance_id: by.worker_instance_id.clone(),
        acquired_at: now,
        expires_at: now.after(by.lease_ttl_ms),
        renewed_at: None,
    });
    if kind == ClaimKind::Resumed
        && let Some(attempt) = &mut x.attempt
    {
        attempt.attempt_state = AttemptLifecycle::Started;
        attempt.lease_id = by.lease_id;
        attempt.lease_epoch = epoch;
        attempt.worker_id = by.worker_id.clone();
        attempt.worker_instance_id = by.worker_instance_id.clone();
        attempt.attempt_deadline_at = attempt.timeout_remaining_ms.take().map(|ms| now.after(ms));
        attempt.resumed_at = Some(now);
    } else {
        let index = x.record.attempt_count;
        let attempt_type = match (index, kind, x.record.vector.attempt_state) {
            (0, _, _) => AttemptType::Initial,
            (_, ClaimKind::Reclaimed, _) => AttemptType::Reclaim,
            (_, _, AttemptState::PendingReplayAttempt) => AttemptType::Replay,
            _ => AttemptType::Retry,
        };
        let attempt = AttemptRecord {
            execution_id: x.record.execution_id,
            attempt_index: AttemptIndex(index),
            attempt_id: by.attempt_id,
            attempt_type,
            run: x.record.replay_count,
            started_at: now,
            attempt_state: AttemptLifecycle::Started,
            lease_id: by.lease_id,
            lease_epoch: epoch,
            worker_id: by.worker_id.clone(),
            worker_instance_id: by.worker_instance_id.clone(),
            attempt_deadline_at: x.record.policy.timeouts.attempt_timeout_ms.map(|ms| now.after(ms)),
            timeout_remaining_ms: None,
            pause_kind: None,
            paused_at: None,
            resumed_at: None,
            ended: None,
            failure_reason: None,
            failure_category: None,
        };
        if let Some(replaced) = x.attempt.replace(attempt) {
            x.history.attempts.push(replaced);
        }
        x.record.attempt_count += 1;
        x.record.progress = None;
    }
    x.record.started_at.get_or_insert(now);
    x.record.not_before = None;
    x.record.grant = None;
    set_vector(x, StateVector::RUNNING, now);
    touch(x, now);
}

/// Stops owning: the lease goes, the epoch stays.
pub(crate) fn release(x: &mut Execution) {
    x.record.lease = None;
    if let Some(attempt) = &mut x.attempt {
        attempt.attempt_deadline_at = None;
    }
}

/// Pauses the running attempt, which keeps what is left of its time, and stops owning. The vector is the caller's.
pub(crate) fn pause(x: &mut Execution, kind: PauseKind, now: TimestampMs) {
    if let Some(attempt) = &mut x.attempt {
        attempt.attempt_state = AttemptLifecycle::Suspended;
        attempt.timeout_remaining_ms = attempt.attempt_deadline_at.map(|at| at.since(now));
        attempt.pause_kind = Some(kind);
        attempt.paused_at = Some(now);
    }
    release(x);
    touch(x, now);
}

/// Makes a paused execution runnable with its interrupted attempt, wherever the gate then puts it.
pub(crate) fn become_runnable(p: &mut Partition, call: &mut Call, x: &mut Execution, a: AttemptState) {
    // The gate decides from the record alone; READY is only where it starts from, and the grant of an execution that
    // was not runnable cannot have lived.
    set_vector(x, StateVector::ready(a), call.now);
    touch(x, call.now);
    gate(p, call, x);
}

/// Ends the current attempt, unless it is final already; its pending waitpoints close.
pub(crate) fn end_attempt(
    x: &mut Execution,
    state: AttemptLifecycle,
    mark: EndMark,
    failure: (Option<String>, Option<String>),
    waitpoints: WaitpointCloseReason,
) {
    let now = mark.at;
    if let Some(attempt) = x.attempt.as_mut().filter(|a| !a.attempt_state.is_final()) {
        attempt.attempt_state = state;
        attempt.ended = Some(mark);
        attempt.failure_reason = failure.0;
        attempt.failure_category = failure.1;
    }
    x.close_waitpoints(WaitpointState::Pending, waitpoints, now);
}

/// How an execution ends.
pub(crate) struct End {
    pub(crate) outcome: TerminalOutcome,
    pub(crate) cause: EndCause,
    pub(crate) by: EndedBy,
    pub(crate) failure_reason: Option<String>,
    pub(crate) failure_category: Option<String>,
    pub(crate) cancel_reason: Option<String>,
    pub(crate) result: Option<Bytes>,
    pub(crate) result_encoding: Option<String>,
}

impl End {
    pub(crate) fn of(outcome: TerminalOutcome, cause: EndCause, by: EndedBy) -> Self {
        Self {
            outcome,
            cause,
            by,
            failure_reason: None,
            failure_category: None,
            cancel_reason: None,
            result: None,
            result_encoding: None,
        }
    }
}

/// Ends an execution: the only way.
pub(crate) fn terminate(p: &mut Partition, call: &mut Call, x: &mut Execution, end: End) {
    let now = call.now;
    let mark = EndMark { at: now, cause: end.cause, by: end.by };
    let attempt_state = match end.outcome {
        TerminalOutcome::Success => AttemptLifecycle::EndedSuccess,
        TerminalOutcome::Cancelled => AttemptLifecycle::EndedCancelled,
        _ => AttemptLifecycle::EndedFailure,
    };
    end_attempt(
        x,
        attempt_state,
        mark.clone(),
        (end.failure_reason.clone(), end.failure_category.clone()),
        WaitpointCloseReason::ExecutionEnded,
    );
    if x.open_suspension().is_some() {
        close_suspension(x, SuspensionCloseReason::ExecutionEnded, WaitpointCloseReason::ExecutionEnded, now, None);
    }
    x.close_waitpoints(WaitpointState::Active, WaitpointCloseReason::ExecutionEnded, now);
    release(x);
    x.record.grant = None;
    x.record.not_before = None;
    x.record.blocks.clear();
    let run = x.record.replay_count;
    x.history.runs.truncate(run as usize);
    if end.outcome == TerminalOutcome::Success {
        // Most executions have one run: no room for more is kept.
        x.history.runs.reserve_exact(1);
        x.history.runs.push(RunRecord {
            execution_id: x.record.execution_id,
            run,
            result: end.result,
            result_encoding: end.result_encoding,
            closed: None,
        });
    }
    x.record.failure_reason = end.failure_reason;
    x.record.failure_category = end.failure_category;
    x.record.cancel_reason = end.cancel_reason;
    x.record.ended = Some(mark);
    let attempted = x.record.attempt_count > 0;
    set_vector(x, StateVector::done(end.outcome, attempted), now);
    touch(x, now);
    let kept_until = now.after(x.record.policy.retention_ms);
    let kept_until = x.record.idempotency.as_ref().map_or(kept_until, |key| kept_until.max(key.expires_at));
    match x.record.flow_id {
        None => x.record.purge_at = Some(kept_until),
        Some(flow_id) => {
            p.edit_flow(flow_id.uuid(), now, |flow| {
                flow.retain_until = Some(flow.retain_until.map_or(kept_until, |at| at.max(kept_until)));
            });
            walk_outgoing_edges(p, call, x, false);
        }
    }
}

/// Puts the walk over a member's outgoing edges on the call's work list, if there is anything to walk.
pub(crate) fn walk_outgoing_edges(p: &Partition, call: &mut Call, x: &Execution, reopen: bool) {
    let Some(flow_id) = x.record.flow_id else { return };
    let alive = p.flow(flow_id.uuid()).is_some_and(|flow| !flow.is_frozen());
    if alive && p.graph(flow_id.uuid()).is_some_and(|g| g.has_outgoing(x.uuid())) {
        call.work.restart(Item::new(BacklogKind::Edges, Subject::Execution(x.uuid()), reopen));
    }
}

/// Ends a covered member as its flow's cancellation says.
pub(crate) fn end_with_flow(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    let cancelled = x.record.flow_id.and_then(|f| p.flow(f.uuid())).and_then(|f| f.cancelled.clone());
    let Some(cancelled) = cancelled else { return };
    let end = End {
        cancel_reason: Some(cancelled.reason),
        ..End::of(TerminalOutcome::Cancelled, EndCause::FlowCancelled, EndedBy::Operator { identity: cancelled.by })
    };
    terminate(p, call, x, end);
}

/// Ends the member if what was just done to it leaves it covered (`flow.md` 3.5).
pub(crate) fn end_if_covered(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    if is_covered(p, x) {
        end_with_flow(p, call, x);
    }
}

/// Takes a running execution's ownership away: the lease ran out.
pub(crate) fn lose(p: &mut Partition, call: &mut Call, x: &mut Execution) {
    let now = call.now;
    let mark = EndMark { at: now, cause: EndCause::LeaseExpired, by: EndedBy::Engine };
    end_attempt(x, AttemptLifecycle::InterruptedReclaimed, mark, (None, None), WaitpointCloseReason::AttemptEnded);
    release(x);
    if x.record.reclaim_count < x.record.policy.max_reclaims {
        x.record.reclaim_count += 1;
        x.record.total_reclaims = x.record.total_reclaims.saturating_add(1);
        set_vector(x, StateVector::LOST, now);
        touch(x, now);
        end_if_covered(p, call, x);
    } else {
        let end = End::of(TerminalOutcome::Failed, EndCause::MaxReclaimsExceeded, EndedBy::Engine);
        terminate(p, call, x, end);
    }
}

/// Withdraws a running execution's ownership.
pub(crate) fn revoke(p: &mut Partition, call: &mut Call, x: &mut Execution, by: &str, reason: &str) {
    let now = call.now;
    let mark = EndMark { at: now, cause: EndCause::LeaseRevoked, by: EndedBy::Operator { identity: by.to_owned() } };
    end_attempt(
        x,
        AttemptLifecycle::InterruptedReclaimed,
        mark,
        (Some(reason.to_owned()), None),
        WaitpointCloseReason::AttemptEnded,
    );
    release(x);
    set_vector(x, StateVector::REVOKED, now);
    touch(x, now);
    end_if_covered(p, call, x);
}

/// A failed attempt.
pub(crate) struct Failure {
    pub(crate) cause: EndCause,
    pub(crate) by: EndedBy,
    pub(crate) reason: Option<String>,
    pub(crate) category: String,
    pub(crate) may_retry: bool,
}

/// Ends a failed attempt: in a retry, whose instant is returned, or for good. A retry that the flow's cancellation ends at
/// once is an end: where an answer has `Ended`, it is the answer whenever x is terminal afterwards.
pub(crate) fn fail_attempt(
    p: &mut Partition,
    call: &mut Call,
    x: &mut Execution,
    failure: Failure,
) -> Option<TimestampMs> {
    let now = call.now;
    let retry = &x.record.policy.retry;
    let n = x.record.retry_count;
    if failure.may_retry && n < retry.max_retries && x.record.policy.retries_category(&failure.category) {
        let delay_ms = retry.backoff.delay_ms(n, &x.record.execution_id);
        let mark = EndMark { at: now, cause: failure.cause, by: failure.by };
        end_attempt(
            x,
            AttemptLifecycle::EndedFailure,
            mark,
            (failure.reason, Some(failure.category)),
            WaitpointCloseReason::AttemptEnded,
        );
        release(x);
        x.record.retry_count += 1;
        x.record.total_retries = x.record.total_retries.saturating_add(1);
        let retry_at = now.after(delay_ms);
        x.record.not_before = (delay_ms > 0).then_some(NotBefore { at: retry_at, kind: NotBeforeKind::RetryBackoff });
        become_runnable(p, call, x, AttemptState::PendingRetryAttempt);
        return (!x.record.vector.is_terminal()).then_some(retry_at);
    }
    let end = End {
        failure_reason: failure.reason,
        failure_category: Some(failure.category),
        ..End::of(TerminalOutcome::Failed, failure.cause, failure.by)
    };
    terminate(p, call, x, end);
    None
}

/// Closes the open suspension and its active waitpoints.
pub(crate) fn close_suspension(
    x: &mut Execution,
    reason: SuspensionCloseReason,
    waitpoints: WaitpointCloseReason,
    now: TimestampMs,
    operator: Option<OperatorResume>,
) {
    if let Some(s) = x.suspension.as_mut().filter(|s| s.is_open()) {
        s.closed_at = Some(now);
        s.close_reason = Some(reason);
        s.operator = operator;
    }
    x.close_waitpoints(WaitpointState::Active, waitpoints, now);
    touch(x, now);
}

/// From suspended to runnable: the only way. The suspension is closed, its resume delay counts from now.
pub(crate) fn wake(
    p: &mut Partition,
    call: &mut Call,
    x: &mut Execution,
    reason: SuspensionCloseReason,
    operator: Option<OperatorResume>,
) {
    let now = call.now;
    let waitpoints = match reason {
        SuspensionCloseReason::OperatorResume => WaitpointCloseReason::OperatorResume,
        SuspensionCloseReason::TimedOutAutoResume => WaitpointCloseReason::TimedOut,
        _ => WaitpointCloseReason::Satisfied,
    };
    let delay_ms = x.suspension.as_ref().map_or(0, |s| s.resume_policy.resume_delay_ms);
    close_suspension(x, reason, waitpoints, now, operator);
    if delay_ms > 0 {
        let at = now.after(delay_ms);
        if x.record.not_before.is_none_or(|n| n.at < at) {
            x.record.not_before = Some(NotBefore { at, kind: NotBeforeKind::ResumeDelay });
        }
    }
    become_runnable(p, call, x, AttemptState::AttemptInterrupted);
}

/// The fence check, in the contract's order. The caller has looked for a repeat of what ended this very fence.
///
/// # Errors
/// `execution_not_active`, `lease_revoked`, `lease_expired`, `stale_lease`.
pub(crate) fn check_fence(x: &Execution, fence: &Fence, now: TimestampMs) -> Result<(), Refusal> {
    let r = &x.record;
    if r.vector.lifecycle_phase != LifecyclePhase::Active {
        return Err(Refusal::execution_not_active(
            r.vector.lifecycle_phase,
            r.vector.terminal_outcome,
            r.lease_epoch,
            x.attempt.as_ref().map(|a| a.attempt_id),
        ));
    }
    if r.vector.ownership_state == OwnershipState::LeaseRevoked {
        return Err(Refusal::lease_revoked());
    }
    let Some(lease) = r.lease.as_ref().filter(|l| l.expires_at > now) else {
        return Err(Refusal::lease_expired());
    };
    let attempt_id = x.attempt.as_ref().map(|a| a.attempt_id);
    if lease.lease_id != fence.lease_id || r.lease_epoch != fence.lease_epoch || attempt_id != Some(fence.attempt_id) {
        return Err(Refusal::stale_lease());
    }
    Ok(())
}

/// The row of the vector. A stored vector is always legal.
pub(crate) fn state_name(x: &Execution) -> StateName {
    x.record.vector.name().unwrap_or(StateName::Done)
}
