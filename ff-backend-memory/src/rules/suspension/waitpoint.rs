//! Waitpoints by themselves: made ahead, withdrawn, listed.

use std::ops::Bound;

use ff_core::condition::Evaluator;
use ff_core::contracts::{
    CloseWaitpointArgs, CloseWaitpointResult, CreatePendingWaitpointArgs, CreatePendingWaitpointResult, IssuedToken,
    ListPendingWaitpointsArgs, ListPendingWaitpointsResult, MAX_WAITPOINT_IDS, MAX_WAITPOINTS, PendingWaitpointInfo,
    WaitpointCloseReason, WaitpointCursor, WaitpointLimitScope, WaitpointState,
};
use ff_core::error::EngineError;
use ff_core::ids::AttemptIndex;
use ff_core::records::WaitpointRecord;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::{judge, state_at};
use crate::model::{Execution, Partition};
use crate::routines::{check_fence, touch};
use crate::rules::keystore::signing_key;

/// Makes a waitpoint ahead of the suspension that will name it.
///
/// # Errors
/// The fence check; `hmac_secret_not_initialized`, `waitpoint_already_exists`, `waitpoint_limit_exceeded`.
pub fn create_pending_waitpoint(
    p: &mut Partition,
    now: TimestampMs,
    args: &CreatePendingWaitpointArgs,
) -> Result<CreatePendingWaitpointResult, EngineError> {
    let waitpoint_id = args.waitpoint_id;
    let x = p.find(&args.execution_id)?;
    check_fence(x, &args.fence, now)?;
    let key = signing_key(p, now)?;
    let mint = || IssuedToken::mint(&key, args.execution_id, waitpoint_id, &args.sources);
    // Who holds the fence has an attempt.
    let attempt_index = x.record.current_attempt_index().unwrap_or(AttemptIndex(0));
    if let Some(w) = x.history.waitpoints.get(&waitpoint_id) {
        let state = state_at(x, w, now);
        let expires_at = w.created_at.after(args.expires_in_ms);
        let repeats = state == WaitpointState::Pending
            && w.attempt_index == attempt_index
            && w.expires_at == Some(expires_at)
            && w.sources == args.sources;
        if !repeats {
            return Err(Refusal::waitpoint_already_exists(state).into());
        }
        let summary = x.summary();
        return Ok(CreatePendingWaitpointResult::AlreadyExists { waitpoint_id, tokens: mint(), expires_at, summary });
    }
    if open_pending(x, now) >= MAX_WAITPOINTS {
        return Err(Refusal::waitpoint_limit_exceeded(WaitpointLimitScope::Pending, MAX_WAITPOINTS as u64).into());
    }
    check_ids(x, 1)?;

    let mut x = p.take(args.execution_id.uuid())?;
    let expires_at = now.after(args.expires_in_ms);
    x.put_waitpoint(WaitpointRecord {
        execution_id: args.execution_id,
        waitpoint_id,
        attempt_index,
        sources: args.sources.clone(),
        created_at: now,
        state: WaitpointState::Pending,
        expires_at: Some(expires_at),
        suspension_id: None,
        activated_at: None,
        closed_at: None,
        close_reason: None,
        close_detail: None,
        signal_count: 0,
    });
    x.record.waitpoint_count += 1;
    touch(&mut x, now);
    let summary = x.summary();
    p.put(x, now);
    Ok(CreatePendingWaitpointResult::Created { waitpoint_id, tokens: mint(), expires_at, summary })
}

/// Pending waitpoints that are open.
fn open_pending(x: &Execution, now: TimestampMs) -> usize {
    let open = x.open_waitpoints.iter().filter_map(|id| x.history.waitpoints.get(id));
    open.filter(|w| state_at(x, w, now) == WaitpointState::Pending).count()
}

/// Refuses more waitpoint ids than an execution may ever use.
pub(super) fn check_ids(x: &Execution, new: usize) -> Result<(), Refusal> {
    let used = x.record.waitpoint_count as usize + new;
    if used > MAX_WAITPOINT_IDS as usize {
        return Err(Refusal::waitpoint_limit_exceeded(WaitpointLimitScope::Execution, u64::from(MAX_WAITPOINT_IDS)));
    }
    Ok(())
}

/// Withdraws a pending waitpoint. What was buffered on it has come to nothing, which is read from the waitpoint.
///
/// # Errors
/// `execution_not_found`, `waitpoint_not_found`, `waitpoint_in_use`; the fence check.
pub fn close_waitpoint(
    p: &mut Partition,
    now: TimestampMs,
    args: &CloseWaitpointArgs,
) -> Result<CloseWaitpointResult, EngineError> {
    let waitpoint_id = args.waitpoint_id;
    let x = p.find(&args.execution_id)?;
    let w = x.history.waitpoints.get(&waitpoint_id).ok_or_else(Refusal::waitpoint_not_found)?;
    if let Some(close_reason) = w.closed_as(x.open_suspension(), now) {
        return Ok(CloseWaitpointResult::AlreadyClosed { waitpoint_id, close_reason, summary: x.summary() });
    }
    if w.state == WaitpointState::Active {
        return Err(Refusal::waitpoint_in_use().into());
    }
    check_fence(x, &args.fence, now)?;

    let mut x = p.take(args.execution_id.uuid())?;
    x.close_waitpoint(waitpoint_id, WaitpointCloseReason::Withdrawn, Some(args.reason.clone()), now);
    touch(&mut x, now);
    let summary = x.summary();
    p.put(x, now);
    Ok(CloseWaitpointResult::Closed { waitpoint_id, summary })
}

/// The open waitpoints, by id.
///
/// # Errors
/// `execution_not_found`; with tokens to issue `hmac_secret_not_initialized`.
pub fn list_pending_waitpoints(
    p: &Partition,
    now: TimestampMs,
    args: &ListPendingWaitpointsArgs,
) -> Result<ListPendingWaitpointsResult, EngineError> {
    let position = args.position()?;
    let x = p.find(&args.execution_id)?;
    let after = position.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.after));
    let behind = x.open_waitpoints.range((after, Bound::Unbounded));
    let open = behind
        .filter_map(|id| x.history.waitpoints.get(id))
        .filter(|w| w.closed_as(x.open_suspension(), now).is_none());
    let suspension = x.open_suspension();
    let mut judged: Option<Evaluator<'_>> = None;
    let mut page = ListPendingWaitpointsResult::default();
    for w in open {
        if let Some(last) = page.waitpoints.last().filter(|_| page.waitpoints.len() >= args.limit as usize) {
            page.next_cursor = Some(WaitpointCursor { after: last.waitpoint_id }.to_string());
            break;
        }
        let of = suspension.filter(|_| w.state == WaitpointState::Active);
        let of = of.map(|s| (s, judged.get_or_insert_with(|| judge(x, s)).progress_at(&w.waitpoint_id)));
        let mut info = PendingWaitpointInfo::of(w, of);
        if args.include_tokens {
            info.tokens = IssuedToken::mint(&signing_key(p, now)?, args.execution_id, w.waitpoint_id, &w.sources);
        }
        page.waitpoints.push(info);
    }
    Ok(page)
}
