//! Domain quota: `resources.md`, section 2.

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, CheckArgs, Deployment};
use crate::ids::{AttemptIndex, ExecutionId, LeaseEpoch, QuotaPolicyId};
use crate::records::{AdmissionIdentity, QuotaPolicyRecord};
use crate::refusal::Refusal;
use crate::time::TimestampMs;

/// The greatest rate and the greatest cap.
pub const MAX_QUOTA: u64 = 100_000;

/// The greatest spread of `retry_at`: 60 s, in milliseconds.
pub const MAX_JITTER_MS: u64 = 60_000;

/// The greatest number of waiters that one policy notes.
pub const MAX_QUOTA_WAITERS: usize = 10_000;

/// The greatest number of waiters that one release wakes.
pub const MAX_QUOTA_WAKE: usize = 16;

/// Arguments of `create_quota_policy`.
///
/// ```
/// use ff_core::contracts::CreateQuotaPolicyArgs;
/// let args = CreateQuotaPolicyArgs::builder()
///     .quota_policy_id("openai".parse()?)
///     .max_requests_per_window(60)
///     .window_ms(60_000)
///     .max_concurrent(4)
///     .build();
/// # assert_eq!(args.jitter_ms, 0);
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CreateQuotaPolicyArgs {
    /// The new policy's id.
    pub quota_policy_id: QuotaPolicyId,
    /// Admissions per sliding window, `1..=100_000`.
    #[serde(default)]
    pub max_requests_per_window: Option<u64>,
    /// The window in milliseconds, `1..=366 days`; given exactly when the rate is.
    #[serde(default)]
    pub window_ms: Option<u64>,
    /// Slots, `1..=100_000`; this or the rate must be given.
    #[serde(default)]
    pub max_concurrent: Option<u64>,
    /// The spread of `retry_at` in milliseconds, `0..=60_000`; 0.
    #[serde(default)]
    #[builder(default)]
    pub jitter_ms: u64,
}

impl CheckArgs for CreateQuotaPolicyArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        let count = |n: Option<u64>| n.is_none_or(|n| (1..=MAX_QUOTA).contains(&n));
        bounds::ensure(count(self.max_requests_per_window), "max_requests_per_window")?;
        bounds::ensure(self.window_ms.is_some() == self.max_requests_per_window.is_some(), "window_ms")?;
        if let Some(ms) = self.window_ms {
            bounds::duration("window_ms", ms, 1)?;
        }
        let limits_something = self.max_concurrent.is_some() || self.max_requests_per_window.is_some();
        bounds::ensure(count(self.max_concurrent) && limits_something, "max_concurrent")?;
        bounds::ensure(self.jitter_ms <= MAX_JITTER_MS, "jitter_ms")
    }
}

/// Result of `create_quota_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateQuotaPolicyResult {
    /// It was created.
    Created {
        /// Now.
        created_at: TimestampMs,
    },
    /// It exists with an equal definition: a repeat.
    AlreadyExists {
        /// When it was created.
        created_at: TimestampMs,
    },
}

/// Arguments of `check_admission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckAdmissionArgs {
    /// The policy.
    pub quota_policy_id: QuotaPolicyId,
    /// The execution that asks; whether it exists is not looked at.
    pub execution_id: ExecutionId,
    /// The attempt that the claim will start or continue.
    pub attempt_index: AttemptIndex,
    /// Of the lease it is for: before the claim the present epoch + 1, afterwards the lease's own.
    pub lease_epoch: LeaseEpoch,
    /// How long the slot is to live, in milliseconds, `1_000..=90_000_000`.
    pub slot_ttl_ms: u64,
}

impl CheckAdmissionArgs {
    /// What asks.
    #[must_use]
    pub const fn identity(&self) -> AdmissionIdentity {
        AdmissionIdentity { execution_id: self.execution_id, attempt_index: self.attempt_index }
    }
}

impl CheckArgs for CheckAdmissionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::integer("lease_epoch", self.lease_epoch.get())?;
        bounds::ensure((1_000..=90_000_000).contains(&self.slot_ttl_ms), "slot_ttl_ms")
    }
}

/// Result of `check_admission`. A denial is an answer, not a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAdmissionResult {
    /// It may go on.
    Admitted {
        /// When its slot lapses; present exactly when the policy caps concurrency.
        slot_expires_at: Option<TimestampMs>,
    },
    /// The window is full.
    RateExceeded {
        /// When to ask again.
        retry_at: TimestampMs,
        /// The same, counted from now, in milliseconds.
        retry_after_ms: u64,
    },
    /// Every slot is taken.
    ConcurrencyExceeded {
        /// When to ask again.
        retry_at: TimestampMs,
        /// The same, counted from now, in milliseconds.
        retry_after_ms: u64,
    },
}

/// Arguments of `release_admission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAdmissionArgs {
    /// The policy.
    pub quota_policy_id: QuotaPolicyId,
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt.
    pub attempt_index: AttemptIndex,
    /// Of the lease that ended; a slot for a later lease stays.
    pub lease_epoch: LeaseEpoch,
}

impl ReleaseAdmissionArgs {
    /// What is released.
    #[must_use]
    pub const fn identity(&self) -> AdmissionIdentity {
        AdmissionIdentity { execution_id: self.execution_id, attempt_index: self.attempt_index }
    }
}

impl CheckArgs for ReleaseAdmissionArgs {
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.execution_id.partition())?;
        bounds::integer("lease_epoch", self.lease_epoch.get())
    }
}

/// Result of `release_admission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseAdmissionResult {
    /// Whether a live slot was removed.
    pub released: bool,
    /// Executions to unblock, in the order of their first refusal; a hint: who is lost with a reply returns at its
    /// `until`.
    pub wake: Vec<ExecutionId>,
}

/// Arguments of `get_quota_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetQuotaStatusArgs {
    /// The policy.
    pub quota_policy_id: QuotaPolicyId,
}

impl CheckArgs for GetQuotaStatusArgs {
    fn check(&self, _: &Deployment) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Result of `get_quota_status`.
pub type GetQuotaStatusResult = QuotaStatus;

/// A quota policy as of now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuotaStatus {
    /// Its id.
    pub quota_policy_id: QuotaPolicyId,
    /// Admissions per window.
    pub max_requests_per_window: Option<u64>,
    /// The window in milliseconds.
    pub window_ms: Option<u64>,
    /// Slots.
    pub max_concurrent: Option<u64>,
    /// The spread of `retry_at` in milliseconds.
    pub jitter_ms: u64,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Window entries that count now.
    pub in_window: u64,
    /// Slots that live now.
    pub in_use: u64,
    /// Executions that were refused and have not lapsed.
    pub waiting: u64,
    /// When the oldest entry leaves the window; only while the window is full.
    pub window_free_at: Option<TimestampMs>,
}

impl QuotaStatus {
    /// The status from what is alive now: the number of counting window entries and the oldest one's instant, live
    /// slots, waiters that have not lapsed.
    #[must_use]
    pub fn of(
        record: &QuotaPolicyRecord,
        in_window: u64,
        oldest_in_window: Option<TimestampMs>,
        in_use: u64,
        waiting: u64,
    ) -> Self {
        let window_free_at = record
            .rate
            .filter(|rate| in_window >= rate.max_requests)
            .and_then(|rate| oldest_in_window.map(|t| t.after(rate.window_ms)));
        Self {
            quota_policy_id: record.quota_policy_id.clone(),
            max_requests_per_window: record.rate.map(|r| r.max_requests),
            window_ms: record.rate.map(|r| r.window_ms),
            max_concurrent: record.max_concurrent,
            jitter_ms: record.jitter_ms,
            created_at: record.created_at,
            in_window,
            in_use,
            waiting,
            window_free_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::testing::{refused_code, refused_field};
    use crate::records::RateWindow;
    use crate::refusal::Code;

    fn create(max: Option<u64>, window: Option<u64>, cap: Option<u64>, jitter_ms: u64) -> CreateQuotaPolicyArgs {
        CreateQuotaPolicyArgs {
            quota_policy_id: "q".parse().expect("well formed"),
            max_requests_per_window: max,
            window_ms: window,
            max_concurrent: cap,
            jitter_ms,
        }
    }

    #[test]
    fn a_policy_limits_something_and_a_rate_has_a_window() {
        assert_eq!(refused_field(&create(Some(1), Some(1), None, 0)), None);
        assert_eq!(refused_field(&create(None, None, Some(1), 60_000)), None);
        for (args, field) in [
            (create(Some(1), None, Some(1), 0), "window_ms"),
            (create(None, Some(1), Some(1), 0), "window_ms"),
            (create(None, None, None, 0), "max_concurrent"),
            (create(Some(0), Some(1), None, 0), "max_requests_per_window"),
            (create(Some(100_001), Some(1), None, 0), "max_requests_per_window"),
            (create(Some(1), Some(0), None, 0), "window_ms"),
            (create(Some(1), Some(31_622_400_001), None, 0), "window_ms"),
            (create(None, None, Some(0), 0), "max_concurrent"),
            (create(None, None, Some(100_001), 0), "max_concurrent"),
            (create(None, None, Some(1), 60_001), "jitter_ms"),
        ] {
            assert_eq!(refused_field(&args), Some(field.into()), "{args:?}");
        }
    }

    #[test]
    fn an_admission_names_a_partition_an_epoch_and_a_ttl_within_bounds() {
        let args = |partition: u16, epoch: u64, slot_ttl_ms: u64| CheckAdmissionArgs {
            quota_policy_id: "q".parse().expect("well formed"),
            execution_id: ExecutionId::from_parts(partition, uuid::Uuid::nil()),
            attempt_index: AttemptIndex(0),
            lease_epoch: LeaseEpoch(epoch),
            slot_ttl_ms,
        };
        assert_eq!(refused_code(&args(0, 1, 1_000)), None);
        assert_eq!(refused_code(&args(0, 1, 90_000_000)), None);
        assert_eq!(refused_code(&args(16, 1, 0)), Some(Code::InvalidPartition));
        assert_eq!(refused_field(&args(0, 1 << 53, 0)), Some("lease_epoch".into()));
        assert_eq!(refused_field(&args(0, 1, 999)), Some("slot_ttl_ms".into()));
        assert_eq!(refused_field(&args(0, 1, 90_000_001)), Some("slot_ttl_ms".into()));
    }

    #[test]
    fn the_window_is_free_when_its_oldest_entry_leaves_it() {
        let record = QuotaPolicyRecord {
            quota_policy_id: "q".parse().expect("well formed"),
            rate: Some(RateWindow { max_requests: 2, window_ms: 10_000 }),
            max_concurrent: None,
            jitter_ms: 0,
            created_at: TimestampMs::ZERO,
        };
        let oldest = Some(TimestampMs::saturating(1_000));
        assert_eq!(QuotaStatus::of(&record, 1, oldest, 0, 0).window_free_at, None);
        let full = QuotaStatus::of(&record, 2, oldest, 0, 3);
        assert_eq!((full.window_free_at, full.waiting), (Some(TimestampMs::saturating(11_000)), 3));
        let capped = QuotaPolicyRecord { rate: None, max_concurrent: Some(1), ..record };
        assert_eq!(QuotaStatus::of(&capped, 0, None, 1, 0).window_free_at, None);
    }
}
