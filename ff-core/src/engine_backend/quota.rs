//! Domain quota: `resources.md`, section 2.

use async_trait::async_trait;

use crate::contracts::{
    CheckAdmissionArgs, CheckAdmissionResult, CreateQuotaPolicyArgs, CreateQuotaPolicyResult, GetQuotaStatusArgs,
    QuotaStatus, ReleaseAdmissionArgs, ReleaseAdmissionResult,
};
use crate::error::EngineError;

/// Quota policies: a sliding rate window and a concurrency cap, each policy a partition of its own.
///
/// An admission *identity* is (execution, attempt index). It can have, independently, a *window entry* that counts
/// while `now < t + window_ms`, and, where concurrency is capped, a *slot* that lives while `now < expires_at`. A policy
/// has no timer and no sweep: what has lapsed is gone as of the clock.
///
/// *Waiters* are executions that were refused: at most 10,000 per policy, one entry each, ordered by (first refusal,
/// execution id); when the list is full no more are noted. One whose `retry_at + max(window_ms, 60_000) <= now`
/// (`window_ms` as 0 without a rate) no longer counts: it is in no rank and no `wake`, and the next write drops it.
///
/// A policy knows nothing of executions and purges: whether an execution exists is not looked at. The checks bind
/// nobody by themselves; a runtime makes them before it grants a claim.
#[async_trait]
pub trait QuotaOps: Send + Sync + 'static {
    /// Creates a policy. Its definition never changes.
    ///
    /// # Behavior
    /// - Rate and window are given together or not at all; the rate, the cap or both must be given.
    ///
    /// # Refuses
    /// `quota_policy_conflict`: the id exists with another definition.
    ///
    /// # Repeats
    /// `AlreadyExists` with the first `created_at`.
    ///
    /// # Cost
    /// One round trip; O(1).
    async fn create_quota_policy(&self, args: CreateQuotaPolicyArgs) -> Result<CreateQuotaPolicyResult, EngineError>;

    /// Asks whether an attempt may be claimed, or refreshes its slot.
    ///
    /// # Behavior
    /// The first that matches:
    /// 1. The identity has a live slot: it takes the greater epoch and the later end, and is `Admitted`. This is the
    ///    refresh; it never shortens a slot and charges no rate.
    /// 2. A rate is set, the identity has no counting entry, and as many entries as the maximum count: `RateExceeded`.
    ///    The execution becomes a waiter; one that is there keeps its place. With r its rank among the waiters (0-based;
    ///    10,000 when the list is full without it), m the maximum and t the counting entries in order, `retry_at =
    ///    t[r mod m] + window_ms * (1 + r div m) + jitter`.
    /// 3. A cap is set and as many slots live: `ConcurrencyExceeded`, a waiter likewise; `retry_at = min(earliest
    ///    expires_at, now + 60_000) + jitter`. No rate is charged.
    /// 4. Else `Admitted`: an entry at now if a rate is set and none counts, a slot until now + `slot_ttl_ms` if a cap is
    ///    set; no longer a waiter.
    ///
    /// The jitter is a function of the identity alone
    /// ([`AdmissionIdentity::jitter`](crate::records::AdmissionIdentity::jitter)).
    ///
    /// # Refuses
    /// `quota_policy_not_found`.
    ///
    /// # Repeats
    /// `Admitted` again, charged once; a denial again, with the place kept.
    ///
    /// # Cost
    /// One round trip; O(log n) in entries, slots and waiters, plus what has lapsed since the last write.
    async fn check_admission(&self, args: CheckAdmissionArgs) -> Result<CheckAdmissionResult, EngineError>;

    /// Gives a slot back when its lease has ended.
    ///
    /// # Behavior
    /// - Removes the identity's live slot if its stored epoch is at most the given one: a late release never frees the
    ///   slot of a later lease. The window entry stays.
    /// - Then the first waiters, at most the number of free slots and at most 16, leave the list and are returned. `wake`
    ///   is a hint: who is lost with a reply returns at its `until`. Without a cap there is no free slot and nobody is
    ///   woken: such waiters wait for the window.
    ///
    /// # Refuses
    /// `quota_policy_not_found`.
    ///
    /// # Repeats
    /// `released` is false; further waiters may be taken.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 16 waiters.
    async fn release_admission(&self, args: ReleaseAdmissionArgs) -> Result<ReleaseAdmissionResult, EngineError>;

    /// Reads a policy as of now.
    ///
    /// # Behavior
    /// - Counts entries, slots and waiters exactly at this instant. `window_free_at` is shown only while the window is
    ///   full, and at that instant it admits.
    /// - Writes nothing.
    ///
    /// # Refuses
    /// `quota_policy_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(log n), plus what has lapsed since the last write.
    async fn get_quota_status(&self, args: GetQuotaStatusArgs) -> Result<QuotaStatus, EngineError>;
}
