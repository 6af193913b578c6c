//! What an execution's creator asks for: frozen with the execution, read from there, changed by nobody.

use std::collections::BTreeSet;

use bon::Builder;
use serde::{Deserialize, Serialize};

use crate::canon::{Canon, Canonical, u};
use crate::contracts::{CapabilitySide, TimeoutBehavior};
use crate::ids::{BudgetId, ExecutionId, QuotaPolicyId};
use crate::refusal::Refusal;
use crate::time::{MAX_DURATION_MS, When};

/// The greatest number of tokens that an execution may require.
pub const MAX_REQUIREMENT_TOKENS: usize = 32;
/// The greatest number of tokens that a worker may advertise.
pub const MAX_WORKER_TOKENS: usize = 256;

/// A set of capability tokens: what a worker advertises, or what an execution requires.
///
/// Any strings can be put in; an operation that receives a malformed token refuses `invalid_capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// No tokens.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// The tokens, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every token of `required` is here.
    #[must_use]
    pub fn covers(&self, required: &Self) -> bool {
        required.0.is_subset(&self.0)
    }

    /// The tokens of `required` that are missing here, sorted.
    #[must_use]
    pub fn missing(&self, required: &Self) -> Vec<String> {
        required.0.difference(&self.0).cloned().collect()
    }

    /// Comma-joined, ascending; no token holds a comma.
    #[must_use]
    pub fn joined(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Checks every token (1..=64 bytes of 0x21..=0x7E without comma) and their number.
    ///
    /// # Errors
    /// `invalid_capabilities` with the first bad token, or the first beyond the bound.
    pub fn check(&self, side: CapabilitySide) -> Result<(), Refusal> {
        let max = match side {
            CapabilitySide::Requirement => MAX_REQUIREMENT_TOKENS,
            CapabilitySide::Worker => MAX_WORKER_TOKENS,
        };
        let good = |t: &str| (1..=64).contains(&t.len()) && t.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b',');
        if let Some(token) = self.iter().find(|t| !good(t)) {
            return Err(Refusal::invalid_capabilities(side, token));
        }
        match self.iter().nth(max) {
            Some(token) => Err(Refusal::invalid_capabilities(side, token)),
            None => Ok(()),
        }
    }
}

impl<S: Into<String>> FromIterator<S> for Capabilities {
    fn from_iter<I: IntoIterator<Item = S>>(tokens: I) -> Self {
        Self(tokens.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Capabilities {
    fn from(tokens: [S; N]) -> Self {
        tokens.into_iter().collect()
    }
}

impl Canon for Capabilities {
    fn canon(&self, out: &mut Canonical) {
        self.0.canon(out);
    }
}

/// How long to wait before a retry. `n`, the number of retries already made in this run, counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// Always the same.
    Fixed {
        /// Milliseconds, 0..=366 days.
        delay_ms: u64,
    },
    /// `initial_ms`, then each time the last one times `multiplier_milli / 1000`, at most `max_ms`.
    Exponential {
        /// The first delay, `0..=max_ms`.
        initial_ms: u64,
        /// The greatest delay, at most 366 days.
        max_ms: u64,
        /// Thousandths: 2000 doubles. 1000..=100000.
        multiplier_milli: u32,
        /// Spread the delay over `0..=base`, by a function of n and the execution id, equal on every backend.
        jitter: bool,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential { initial_ms: 1_000, max_ms: 60_000, multiplier_milli: 2_000, jitter: false }
    }
}

impl Backoff {
    fn within_bounds(self) -> bool {
        match self {
            Self::Fixed { delay_ms } => delay_ms <= MAX_DURATION_MS,
            Self::Exponential { initial_ms, max_ms, multiplier_milli, .. } => {
                initial_ms <= max_ms && max_ms <= MAX_DURATION_MS && (1_000..=100_000).contains(&multiplier_milli)
            }
        }
    }

    /// The delay in milliseconds before the retry that follows `n` earlier ones.
    #[must_use]
    pub fn delay_ms(self, n: u32, execution_id: &ExecutionId) -> u64 {
        match self {
            Self::Fixed { delay_ms } => delay_ms,
            Self::Exponential { initial_ms, max_ms, multiplier_milli, jitter } => {
                let mut base = initial_ms;
                for _ in 0..n {
                    // Bounded: 366 days times 100 fits a u64 a hundred thousand times over.
                    let next = max_ms.min(base * u64::from(multiplier_milli) / 1000);
                    if next == base {
                        break;
                    }
                    base = next;
                }
                if jitter { u(format!("{n}:{execution_id}").as_bytes()) % (base + 1) } else { base }
            }
        }
    }
}

impl Canon for Backoff {
    fn canon(&self, out: &mut Canonical) {
        match self {
            Self::Fixed { delay_ms } => out.put("fixed").put(delay_ms),
            Self::Exponential { initial_ms, max_ms, multiplier_milli, jitter } => {
                out.put("exponential").put(initial_ms).put(max_ms).put(multiplier_milli).put(jitter)
            }
        };
    }
}

/// When a failed attempt is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Retries per run, `0..=1_000_000`; 0.
    #[builder(default)]
    pub max_retries: u32,
    /// The wait before each.
    #[builder(default)]
    pub backoff: Backoff,
    /// Failure categories that are retried, at most 32; empty is every category.
    #[builder(default)]
    pub retryable_categories: BTreeSet<String>,
}

/// How long an attempt and a run may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutPolicy {
    /// Milliseconds that one attempt may run, pauses left out: `1..=366 days`; none.
    pub attempt_timeout_ms: Option<u64>,
    /// The end of the run; a duration counts from creation or replay. None.
    pub deadline: Option<When>,
}

/// What a suspension does that names no timeout of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(default, deny_unknown_fields)]
pub struct SuspensionPolicy {
    /// Milliseconds, `1..=366 days`; none is for ever.
    pub default_timeout_ms: Option<u64>,
    /// What happens then; fail.
    #[builder(default)]
    pub default_timeout_behavior: TimeoutBehavior,
}

/// How much of a stream is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(default, deny_unknown_fields)]
pub struct StreamPolicy {
    /// Frames kept per attempt, `1..=1_000_000`; `10_000`.
    #[builder(default = 10_000)]
    pub retention_maxlen: u64,
}

impl Default for StreamPolicy {
    fn default() -> Self {
        Self { retention_maxlen: 10_000 }
    }
}

/// What an execution's creator asks for. Frozen at creation; no later caller can loosen it.
///
/// ```
/// use ff_core::policy::{Backoff, ExecutionPolicy, RetryPolicy};
/// let policy = ExecutionPolicy::builder()
///     .retry(RetryPolicy::builder().max_retries(3).backoff(Backoff::Fixed { delay_ms: 250 }).build())
///     .build();
/// assert!(policy.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionPolicy {
    /// When a failed attempt is tried again.
    #[builder(default)]
    pub retry: RetryPolicy,
    /// How long attempts and the run may take.
    #[builder(default)]
    pub timeouts: TimeoutPolicy,
    /// Leases that may be lost per run before the execution fails, `0..=1_000_000`; 100.
    #[builder(default = 100)]
    pub max_reclaims: u32,
    /// Replays allowed, `0..=1_000_000`; 10.
    #[builder(default = 10)]
    pub max_replays: u32,
    /// What a worker must advertise, at most 32 tokens.
    #[builder(default)]
    pub required_capabilities: Capabilities,
    /// Budgets that must not be exhausted when it is admitted, at most 16.
    #[builder(default)]
    pub budget_ids: BTreeSet<BudgetId>,
    /// The quota policy that admits it.
    pub quota_policy_id: Option<QuotaPolicyId>,
    /// How long an idempotency key is in force, `1_000..=366 days`; a day.
    #[builder(default = 86_400_000)]
    pub idempotency_window_ms: u64,
    /// How long an ended execution is kept, `0..=366 days`; a day.
    #[builder(default = 86_400_000)]
    pub retention_ms: u64,
    /// Defaults of its suspensions.
    #[builder(default)]
    pub suspension: SuspensionPolicy,
    /// How much of its streams is kept.
    #[builder(default)]
    pub stream: StreamPolicy,
    /// Signals accepted per run, `1..=1_000_000`; `10_000`.
    #[builder(default = 10_000)]
    pub max_signals: u32,
}

impl Default for ExecutionPolicy {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl ExecutionPolicy {
    /// Decodes JSON strictly: an unknown field, a wrong type or a value out of bounds is refused, absent fields take
    /// their defaults.
    ///
    /// # Errors
    /// `invalid_policy` naming the field, or `invalid_capabilities` for a bad token list.
    pub fn from_json(text: &[u8]) -> Result<Self, Refusal> {
        let policy = crate::wire::from_json_with_path(text).map_err(|field| {
            if field == "required_capabilities" || field.starts_with("required_capabilities.") {
                Refusal::invalid_capabilities(CapabilitySide::Requirement, "")
            } else {
                Refusal::invalid_policy(field)
            }
        })?;
        let policy: Self = policy;
        policy.check()?;
        Ok(policy)
    }

    /// Compact JSON with every field; [`Self::from_json`] takes it back.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks every bound, in the order of the fields.
    ///
    /// # Errors
    /// `invalid_policy` naming the field, or `invalid_capabilities`.
    pub fn check(&self) -> Result<(), Refusal> {
        const COUNT: u32 = 1_000_000;
        let timeout = |ms: Option<u64>| ms.is_none_or(|ms| (1..=MAX_DURATION_MS).contains(&ms));
        let field = |ok: bool, name: &str| if ok { Ok(()) } else { Err(Refusal::invalid_policy(name)) };
        field(self.retry.max_retries <= COUNT, "retry.max_retries")?;
        field(self.retry.backoff.within_bounds(), "retry.backoff")?;
        field(
            self.retry.retryable_categories.len() <= 32
                && self.retry.retryable_categories.iter().all(|c| crate::bounds::is_name(c)),
            "retry.retryable_categories",
        )?;
        field(timeout(self.timeouts.attempt_timeout_ms), "timeouts.attempt_timeout_ms")?;
        field(self.timeouts.deadline.is_none_or(When::within_bounds), "timeouts.deadline")?;
        field(self.max_reclaims <= COUNT, "max_reclaims")?;
        field(self.max_replays <= COUNT, "max_replays")?;
        self.required_capabilities.check(CapabilitySide::Requirement)?;
        field(self.budget_ids.len() <= 16, "budget_ids")?;
        field((1_000..=MAX_DURATION_MS).contains(&self.idempotency_window_ms), "idempotency_window_ms")?;
        field(self.retention_ms <= MAX_DURATION_MS, "retention_ms")?;
        field(timeout(self.suspension.default_timeout_ms), "suspension.default_timeout_ms")?;
        field(
            self.suspension.default_timeout_behavior.within_bounds(),
            "suspension.default_timeout_behavior.fail_after_ms",
        )?;
        field((1..=u64::from(COUNT)).contains(&self.stream.retention_maxlen), "stream.retention_maxlen")?;
        field((1..=COUNT).contains(&self.max_signals), "max_signals")
    }

    /// Whether claims need an admission: it names a budget or a quota policy.
    #[must_use]
    pub fn is_admission_controlled(&self) -> bool {
        !self.budget_ids.is_empty() || self.quota_policy_id.is_some()
    }

    /// Whether a failure of this category may be retried at all.
    #[must_use]
    pub fn retries_category(&self, category: &str) -> bool {
        self.retry.retryable_categories.is_empty() || self.retry.retryable_categories.contains(category)
    }
}

impl Canon for ExecutionPolicy {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.retry.max_retries)
            .put(&self.retry.backoff)
            .put(&self.retry.retryable_categories)
            .put(&self.timeouts.attempt_timeout_ms)
            .put(&self.timeouts.deadline)
            .put(&self.max_reclaims)
            .put(&self.max_replays)
            .put(&self.required_capabilities)
            .put(&self.budget_ids)
            .put(&self.quota_policy_id)
            .put(&self.idempotency_window_ms)
            .put(&self.retention_ms)
            .put(&self.suspension.default_timeout_ms)
            .put(&self.suspension.default_timeout_behavior)
            .put(&self.stream.retention_maxlen)
            .put(&self.max_signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Details;

    #[test]
    fn backoff_vectors_of_the_contract() {
        let id: ExecutionId = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("well formed");
        let plain = Backoff::Exponential { initial_ms: 1_000, max_ms: 60_000, multiplier_milli: 1_500, jitter: false };
        let delays: Vec<u64> = (0..7).map(|n| plain.delay_ms(n, &id)).collect();
        assert_eq!(delays, [1000, 1500, 2250, 3375, 5062, 7593, 11389]);
        let spread = Backoff::Exponential { initial_ms: 1_000, max_ms: 60_000, multiplier_milli: 2_000, jitter: true };
        for (n, delay) in [(0, 24), (1, 1189), (2, 2259), (10, 53665)] {
            assert_eq!(spread.delay_ms(n, &id), delay, "n = {n}");
        }
        assert_eq!(plain.delay_ms(1_000_000, &id), 60_000);
    }

    #[test]
    fn policy_json_is_strict() {
        assert_eq!(ExecutionPolicy::from_json(b"{}").expect("all defaults"), ExecutionPolicy::default());
        let policy = ExecutionPolicy::default();
        assert_eq!(ExecutionPolicy::from_json(policy.to_json().as_bytes()).expect("own text"), policy);
        let field = |text: &str| match ExecutionPolicy::from_json(text.as_bytes()).expect_err(text).details() {
            Details::InvalidPolicy { field } => field.clone(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(field(r#"{"retry":{"max_retries":1000001}}"#), "retry.max_retries");
        assert_eq!(field(r#"{"retry":{"max_retries":"3"}}"#), "retry.max_retries");
        assert_eq!(field(r#"{"retry":{"surprise":3}}"#), "retry.surprise");
        assert_eq!(field(r#"{"surprise":1}"#), "surprise");
        assert_eq!(field(r#"{"max_signals":0}"#), "max_signals");
        for text in [r#"{"required_capabilities":["a,b"]}"#, r#"{"required_capabilities":"gpu"}"#] {
            let refusal = ExecutionPolicy::from_json(text.as_bytes()).expect_err(text);
            assert!(matches!(refusal.details(), Details::InvalidCapabilities { .. }), "{text}: {refusal}");
        }
    }
}
