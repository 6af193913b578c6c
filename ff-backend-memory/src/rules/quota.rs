//! Domain quota: `resources.md`, section 2.
//!
//! A policy is a partition of its own: a rule gets the place where its state is or would be.

use ff_core::contracts::{
    CheckAdmissionArgs, CheckAdmissionResult, CreateQuotaPolicyArgs, CreateQuotaPolicyResult, GetQuotaStatusArgs,
    MAX_QUOTA_WAITERS, MAX_QUOTA_WAKE, QuotaStatus, ReleaseAdmissionArgs, ReleaseAdmissionResult,
};
use ff_core::error::EngineError;
use ff_core::records::{QuotaPolicyRecord, RateWindow};
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use crate::model::{Quota, Slot};

/// How long a refusal for concurrency waits for the next slot to lapse at most, in milliseconds.
const SLOT_RETRY_MS: u64 = 60_000;

fn find(slot: &Option<Quota>) -> Result<&Quota, Refusal> {
    slot.as_ref().ok_or_else(Refusal::quota_policy_not_found)
}

fn find_mut(slot: &mut Option<Quota>) -> Result<&mut Quota, Refusal> {
    slot.as_mut().ok_or_else(Refusal::quota_policy_not_found)
}

const fn within(n: u64, count: usize) -> bool {
    (count as u64) < n
}

/// Creates a policy.
///
/// # Errors
/// `quota_policy_conflict`.
pub fn create_quota_policy(
    slot: &mut Option<Quota>,
    now: TimestampMs,
    args: &CreateQuotaPolicyArgs,
) -> Result<CreateQuotaPolicyResult, EngineError> {
    if let Some(quota) = slot {
        if !quota.record.is_defined_by(args) {
            return Err(Refusal::quota_policy_conflict().into());
        }
        return Ok(CreateQuotaPolicyResult::AlreadyExists { created_at: quota.record.created_at });
    }
    *slot = Some(Quota::new(QuotaPolicyRecord {
        quota_policy_id: args.quota_policy_id.clone(),
        rate: args
            .max_requests_per_window
            .zip(args.window_ms)
            .map(|(max_requests, window_ms)| RateWindow { max_requests, window_ms }),
        max_concurrent: args.max_concurrent,
        jitter_ms: args.jitter_ms,
        created_at: now,
    }));
    Ok(CreateQuotaPolicyResult::Created { created_at: now })
}

/// When a waiter of this rank may expect a place in a window that is full: with t the counting entries in order, the
/// place of t[rank mod maximum] falls free, and once per window again.
fn rate_retry_at(quota: &Quota, rate: RateWindow, rank: usize, now: TimestampMs) -> TimestampMs {
    let maximum = usize::try_from(rate.max_requests).unwrap_or(usize::MAX).max(1);
    let t = quota.window.time_at(rank % maximum).unwrap_or(now);
    let windows = 1 + (rank / maximum) as u64;
    t.after(rate.window_ms.saturating_mul(windows))
}

/// Asks whether an identity may go on, or refreshes its slot.
///
/// # Errors
/// `quota_policy_not_found`.
pub fn check_admission(
    slot: &mut Option<Quota>,
    now: TimestampMs,
    args: &CheckAdmissionArgs,
) -> Result<CheckAdmissionResult, EngineError> {
    let quota = find_mut(slot)?;
    let identity = args.identity();
    let jitter = identity.jitter(quota.record.jitter_ms);
    let slot_expires_at = now.after(args.slot_ttl_ms);
    quota.drop_lapsed(now);

    if let Some(live) = quota.slots.get(&identity) {
        let refreshed = Slot {
            lease_epoch: live.lease_epoch.max(args.lease_epoch),
            expires_at: live.expires_at.max(slot_expires_at),
        };
        quota.slots.put(identity, refreshed);
        return Ok(CheckAdmissionResult::Admitted { slot_expires_at: Some(refreshed.expires_at) });
    }
    let uncharged = quota.record.rate.filter(|_| !quota.window.contains(&identity));
    if let Some(rate) = uncharged
        && !within(rate.max_requests, quota.window.len())
    {
        let rank = quota.waiters.note(identity.execution_id, now).unwrap_or(MAX_QUOTA_WAITERS);
        let retry_at = rate_retry_at(quota, rate, rank, now).after(jitter);
        quota.waiters.told(identity.execution_id, retry_at);
        return Ok(CheckAdmissionResult::RateExceeded { retry_at, retry_after_ms: retry_at.since(now) });
    }
    if let Some(cap) = quota.record.max_concurrent
        && !within(cap, quota.slots.len())
    {
        let at_most = now.after(SLOT_RETRY_MS);
        let retry_at = quota.slots.earliest_end().map_or(at_most, |end| end.min(at_most)).after(jitter);
        quota.waiters.note(identity.execution_id, now);
        quota.waiters.told(identity.execution_id, retry_at);
        return Ok(CheckAdmissionResult::ConcurrencyExceeded { retry_at, retry_after_ms: retry_at.since(now) });
    }
    if uncharged.is_some() {
        quota.window.insert(identity, now);
    }
    let slot_expires_at = quota.record.max_concurrent.map(|_| slot_expires_at);
    if let Some(expires_at) = slot_expires_at {
        quota.slots.put(identity, Slot { lease_epoch: args.lease_epoch, expires_at });
    }
    quota.waiters.remove(identity.execution_id);
    Ok(CheckAdmissionResult::Admitted { slot_expires_at })
}

/// Gives a slot back, and takes the waiters that may use what is free.
///
/// A policy without a cap has no slots, so none is free and nobody is woken: its waiters wait for the window.
///
/// # Errors
/// `quota_policy_not_found`.
pub fn release_admission(
    slot: &mut Option<Quota>,
    now: TimestampMs,
    args: &ReleaseAdmissionArgs,
) -> Result<ReleaseAdmissionResult, EngineError> {
    let quota = find_mut(slot)?;
    let identity = args.identity();
    quota.drop_lapsed(now);
    let released = quota.slots.get(&identity).is_some_and(|live| live.lease_epoch <= args.lease_epoch);
    if released {
        quota.slots.remove(&identity);
    }
    let cap = usize::try_from(quota.record.max_concurrent.unwrap_or(0)).unwrap_or(usize::MAX);
    let free = cap.saturating_sub(quota.slots.len());
    let wake = std::iter::from_fn(|| quota.waiters.take_first()).take(free.min(MAX_QUOTA_WAKE)).collect();
    Ok(ReleaseAdmissionResult { released, wake })
}

/// The policy as of now.
///
/// # Errors
/// `quota_policy_not_found`.
pub fn get_quota_status(
    slot: &Option<Quota>,
    now: TimestampMs,
    _: &GetQuotaStatusArgs,
) -> Result<QuotaStatus, EngineError> {
    let quota = find(slot)?;
    let (in_window, oldest) = match quota.record.rate {
        Some(rate) => quota.window.counting(rate.window_ms, now),
        None => (0, None),
    };
    let in_use = quota.slots.live(now);
    let waiting = quota.waiters.waiting(quota.waiter_grace_ms(), now);
    Ok(QuotaStatus::of(&quota.record, in_window as u64, oldest, in_use as u64, waiting as u64))
}
