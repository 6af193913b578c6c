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

#[cfg(test)]
mod tests {
    use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch};
    use ff_core::refusal::Code;

    use super::*;
    use crate::rules::testing::{at, code, execution};

    fn policy(rate: Option<(u64, u64)>, cap: Option<u64>, jitter_ms: u64) -> Option<Quota> {
        let mut slot = None;
        let args = CreateQuotaPolicyArgs::builder()
            .quota_policy_id("q".parse().unwrap())
            .maybe_max_requests_per_window(rate.map(|r| r.0))
            .maybe_window_ms(rate.map(|r| r.1))
            .maybe_max_concurrent(cap)
            .jitter_ms(jitter_ms)
            .build();
        create_quota_policy(&mut slot, at(0), &args).unwrap();
        slot
    }

    /// Attempt 0 of execution `n`, epoch 1, for 10 s.
    fn ask_args(id: ExecutionId) -> CheckAdmissionArgs {
        CheckAdmissionArgs {
            quota_policy_id: "q".parse().unwrap(),
            execution_id: id,
            attempt_index: AttemptIndex(0),
            lease_epoch: LeaseEpoch(1),
            slot_ttl_ms: 10_000,
        }
    }

    fn ask(slot: &mut Option<Quota>, now: u64, n: u128) -> CheckAdmissionResult {
        check_admission(slot, at(now), &ask_args(execution(n))).unwrap()
    }

    fn release(slot: &mut Option<Quota>, now: u64, n: u128, epoch: u64) -> (bool, Vec<ExecutionId>) {
        let args = ReleaseAdmissionArgs {
            quota_policy_id: "q".parse().unwrap(),
            execution_id: execution(n),
            attempt_index: AttemptIndex(0),
            lease_epoch: LeaseEpoch(epoch),
        };
        let answer = release_admission(slot, at(now), &args).unwrap();
        (answer.released, answer.wake)
    }

    fn status(slot: &Option<Quota>, now: u64) -> QuotaStatus {
        get_quota_status(slot, at(now), &GetQuotaStatusArgs { quota_policy_id: "q".parse().unwrap() }).unwrap()
    }

    fn counts(slot: &Option<Quota>, now: u64) -> (u64, u64, u64) {
        let status = status(slot, now);
        (status.in_window, status.in_use, status.waiting)
    }

    const ADMITTED: CheckAdmissionResult = CheckAdmissionResult::Admitted { slot_expires_at: None };

    fn rate_exceeded(retry_at: u64, now: u64) -> CheckAdmissionResult {
        CheckAdmissionResult::RateExceeded { retry_at: at(retry_at), retry_after_ms: retry_at - now }
    }

    fn concurrency_exceeded(retry_at: u64, now: u64) -> CheckAdmissionResult {
        CheckAdmissionResult::ConcurrencyExceeded { retry_at: at(retry_at), retry_after_ms: retry_at - now }
    }

    #[test]
    fn one_per_ten_seconds() {
        let mut slot = policy(Some((1, 10_000)), None, 0);
        assert_eq!(ask(&mut slot, 1_000, 1), ADMITTED);
        assert_eq!(ask(&mut slot, 4_000, 2), rate_exceeded(11_000, 4_000));
        assert_eq!(status(&slot, 10_999).window_free_at, Some(at(11_000)));
        assert_eq!(status(&slot, 11_000).window_free_at, None);
        assert_eq!(ask(&mut slot, 10_999, 2), rate_exceeded(11_000, 10_999));
        assert_eq!(ask(&mut slot, 11_000, 2), ADMITTED);
    }

    #[test]
    fn refused_executions_are_spread_over_the_windows_to_come_in_order_of_first_refusal() {
        let mut slot = policy(Some((2, 10_000)), None, 0);
        assert_eq!((ask(&mut slot, 0, 1), ask(&mut slot, 1_000, 2)), (ADMITTED, ADMITTED));
        let places = [10_000, 11_000, 20_000, 21_000, 30_000];
        // Later ones with smaller ids: who was refused first stands first.
        for (n, place) in places.iter().enumerate() {
            assert_eq!(ask(&mut slot, 2_000 + n as u64, 20 - n as u128), rate_exceeded(*place, 2_000 + n as u64));
        }
        assert_eq!(ask(&mut slot, 3_000, 18), rate_exceeded(20_000, 3_000));
        // The second leaves by being admitted; who stood behind it moves up.
        assert_eq!(ask(&mut slot, 10_000, 19), ADMITTED);
        assert_eq!(ask(&mut slot, 10_001, 18), rate_exceeded(20_000, 10_001));
        assert_eq!(counts(&slot, 10_001), (2, 0, 4));
    }

    #[test]
    fn among_waiters_of_one_instant_the_id_decides() {
        let mut slot = policy(Some((1, 10_000)), None, 0);
        ask(&mut slot, 0, 9);
        assert_eq!(ask(&mut slot, 5, 3), rate_exceeded(10_000, 5));
        assert_eq!(ask(&mut slot, 5, 2), rate_exceeded(10_000, 5));
        assert_eq!(ask(&mut slot, 6, 3), rate_exceeded(20_000, 6));
    }

    #[test]
    fn the_jitter_is_that_of_the_vector() {
        let id: ExecutionId = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let mut slot = policy(Some((1, 10_000)), None, 1_000);
        ask(&mut slot, 0, 1);
        for (attempt, jitter) in [(0, 24), (1, 258), (2, 472), (10, 109)] {
            for now in [5, 6] {
                let args = CheckAdmissionArgs { attempt_index: AttemptIndex(attempt), ..ask_args(id) };
                assert_eq!(check_admission(&mut slot, at(now), &args).unwrap(), rate_exceeded(10_000 + jitter, now));
            }
        }
        assert_eq!(status(&slot, 6).waiting, 1, "one entry per execution");
    }

    #[test]
    fn the_window_slides() {
        let mut slot = policy(Some((2, 10_000)), None, 0);
        ask(&mut slot, 0, 1);
        ask(&mut slot, 9_000, 2);
        assert_eq!(ask(&mut slot, 10_000, 3), ADMITTED);
        assert_eq!(ask(&mut slot, 10_000, 4), rate_exceeded(19_000, 10_000));
    }

    #[test]
    fn a_repeat_is_charged_once_and_a_new_attempt_anew() {
        let mut slot = policy(Some((2, 10_000)), None, 0);
        assert_eq!((ask(&mut slot, 0, 1), ask(&mut slot, 1, 1)), (ADMITTED, ADMITTED));
        assert_eq!(status(&slot, 1).in_window, 1);
        let second = CheckAdmissionArgs { attempt_index: AttemptIndex(1), ..ask_args(execution(1)) };
        assert_eq!(check_admission(&mut slot, at(1), &second).unwrap(), ADMITTED);
        assert_eq!(status(&slot, 1).in_window, 2);
        assert_eq!(ask(&mut slot, 2, 1), ADMITTED, "its entry counts, so a full window is none of its business");
    }

    #[test]
    fn a_clock_that_steps_back_keeps_the_order_of_entries() {
        let mut slot = policy(Some((3, 10_000)), None, 0);
        ask(&mut slot, 5_000, 1);
        ask(&mut slot, 3_000, 2);
        ask(&mut slot, 4_000, 3);
        assert_eq!(ask(&mut slot, 4_000, 4), rate_exceeded(13_000, 4_000));
        assert_eq!(ask(&mut slot, 4_000, 5), rate_exceeded(14_000, 4_000));
        assert_eq!(ask(&mut slot, 4_000, 6), rate_exceeded(15_000, 4_000));
    }

    #[test]
    fn a_slot_lives_to_its_end_and_a_refresh_never_shortens_it() {
        let mut slot = policy(None, Some(1), 0);
        let until = |ms| CheckAdmissionResult::Admitted { slot_expires_at: Some(at(ms)) };
        assert_eq!(ask(&mut slot, 0, 1), until(10_000));
        let brief = CheckAdmissionArgs { slot_ttl_ms: 1_000, ..ask_args(execution(1)) };
        assert_eq!(check_admission(&mut slot, at(5_000), &brief).unwrap(), until(10_000));
        assert_eq!(ask(&mut slot, 9_999, 2), concurrency_exceeded(10_000, 9_999));
        assert_eq!(counts(&slot, 9_999), (0, 1, 1));
        assert_eq!(counts(&slot, 10_000), (0, 0, 1));
        assert_eq!(ask(&mut slot, 10_000, 2), until(20_000));
        assert_eq!(counts(&slot, 10_000), (0, 1, 0));
    }

    #[test]
    fn a_far_slot_is_asked_for_again_within_a_minute() {
        let mut slot = policy(None, Some(1), 0);
        let long = CheckAdmissionArgs { slot_ttl_ms: 90_000_000, ..ask_args(execution(1)) };
        check_admission(&mut slot, at(0), &long).unwrap();
        assert_eq!(ask(&mut slot, 7, 2), concurrency_exceeded(60_007, 7));
    }

    #[test]
    fn rate_goes_before_concurrency_and_a_denial_charges_nothing() {
        let mut slot = policy(Some((1, 10_000)), Some(1), 0);
        ask(&mut slot, 0, 1);
        assert_eq!(ask(&mut slot, 1, 2), rate_exceeded(10_000, 1));
        let refreshed = CheckAdmissionArgs { slot_ttl_ms: 20_000, ..ask_args(execution(1)) };
        let until = CheckAdmissionResult::Admitted { slot_expires_at: Some(at(20_001)) };
        assert_eq!(check_admission(&mut slot, at(1), &refreshed).unwrap(), until);
        assert_eq!(ask(&mut slot, 10_000, 2), concurrency_exceeded(20_001, 10_000));
        assert_eq!(counts(&slot, 10_000), (0, 1, 1));
    }

    #[test]
    fn after_a_release_the_same_identity_is_not_charged_again() {
        let mut slot = policy(Some((1, 10_000)), Some(1), 0);
        ask(&mut slot, 0, 1);
        assert_eq!(release(&mut slot, 1, 1, 1), (true, vec![]));
        assert!(matches!(ask(&mut slot, 2, 1), CheckAdmissionResult::Admitted { .. }));
        assert_eq!(counts(&slot, 2), (1, 1, 0));
    }

    #[test]
    fn a_double_release_and_one_of_nobody_free_one_slot() {
        let mut slot = policy(None, Some(2), 0);
        ask(&mut slot, 0, 1);
        ask(&mut slot, 0, 2);
        assert_eq!(release(&mut slot, 1, 1, 1), (true, vec![]));
        assert_eq!(release(&mut slot, 1, 1, 1), (false, vec![]));
        assert_eq!(release(&mut slot, 1, 9, 1), (false, vec![]));
        assert!(matches!(ask(&mut slot, 2, 3), CheckAdmissionResult::Admitted { .. }));
        assert!(matches!(ask(&mut slot, 2, 4), CheckAdmissionResult::ConcurrencyExceeded { .. }));
    }

    #[test]
    fn a_late_release_leaves_the_slot_of_a_later_lease() {
        let mut slot = policy(None, Some(1), 0);
        ask(&mut slot, 0, 1);
        let later = CheckAdmissionArgs { lease_epoch: LeaseEpoch(3), ..ask_args(execution(1)) };
        check_admission(&mut slot, at(0), &later).unwrap();
        ask(&mut slot, 1, 1);
        assert_eq!(release(&mut slot, 1, 1, 2), (false, vec![]));
        assert_eq!(counts(&slot, 1), (0, 1, 0));
        assert_eq!(release(&mut slot, 1, 1, 3), (true, vec![]));
    }

    #[test]
    fn a_release_wakes_as_many_as_there_are_free_slots_in_order_and_at_most_16() {
        let mut slot = policy(None, Some(20), 0);
        for n in 1..=20 {
            ask(&mut slot, 0, n);
        }
        for n in 0..40u64 {
            ask(&mut slot, 1 + n, 100 - u128::from(n));
        }
        assert_eq!(release(&mut slot, 50, 1, 1), (true, vec![execution(100)]));
        assert_eq!(release(&mut slot, 50, 2, 1), (true, vec![execution(99), execution(98)]));
        // A woken one that was cancelled does not ask: the repeat takes the next.
        assert_eq!(release(&mut slot, 50, 2, 1), (false, vec![execution(97), execution(96)]));
        // The other slots lapse at 10_000; 20 are free.
        let (released, wake) = release(&mut slot, 10_000, 3, 1);
        assert_eq!((released, wake.len(), wake[0], wake[15]), (false, 16, execution(95), execution(80)));
        assert_eq!(status(&slot, 10_000).waiting, 19);
    }

    #[test]
    fn a_policy_without_a_cap_wakes_nobody() {
        let mut slot = policy(Some((1, 10_000)), None, 0);
        ask(&mut slot, 0, 1);
        ask(&mut slot, 0, 2);
        assert_eq!(release(&mut slot, 1, 1, 1), (false, vec![]));
        assert_eq!(counts(&slot, 1), (1, 0, 1));
    }

    #[test]
    fn a_waiter_that_has_not_asked_again_lapses() {
        // Told 10_000; the window is shorter than a minute, so it counts until 70_000.
        let mut slot = policy(Some((1, 10_000)), None, 0);
        ask(&mut slot, 0, 1);
        assert_eq!(ask(&mut slot, 1, 2), rate_exceeded(10_000, 1));
        assert_eq!(status(&slot, 69_999).waiting, 1);
        assert_eq!(status(&slot, 70_000).waiting, 0);
        ask(&mut slot, 69_999, 3);
        assert_eq!(ask(&mut slot, 69_999, 4), rate_exceeded(89_999, 69_999));
        assert_eq!(ask(&mut slot, 70_000, 4), rate_exceeded(79_999, 70_000), "the lapsed one is in no rank");
        assert_eq!(status(&slot, 70_000).waiting, 1);
    }

    #[test]
    fn a_full_list_notes_nobody_and_ranks_them_behind_all() {
        let mut slot = policy(Some((100, 10_000)), None, 0);
        for n in 0..100 {
            ask(&mut slot, 0, n);
        }
        for n in 1_000..11_000 {
            ask(&mut slot, 1, n);
        }
        // Rank 10_000 of 100 per window: the 101st window from the first entry.
        assert_eq!(ask(&mut slot, 2, 20_000), rate_exceeded(1_010_000, 2));
        assert_eq!(ask(&mut slot, 2, 10_999), rate_exceeded(1_000_000, 2));
        assert_eq!(status(&slot, 2).waiting, 10_000);
    }

    #[test]
    fn an_unknown_policy_admits_nobody() {
        let mut slot = None;
        assert_eq!(code(check_admission(&mut slot, at(0), &ask_args(execution(1)))), Code::QuotaPolicyNotFound);
        assert_eq!(slot, None);
    }
}
