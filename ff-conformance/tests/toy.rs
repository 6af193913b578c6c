//! A backend of somebody who has read half of the page: quotas kept in a map of counters, as one would write them in an
//! evening. The suite must convict it, and say so in a table that somebody who has never seen the suite understands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_conformance::{Fixture, Harness, TestName, Trials, convict};
use ff_core::contracts::{
    CheckAdmissionArgs, CheckAdmissionResult, CreateQuotaPolicyArgs, CreateQuotaPolicyResult, QuotaStatus,
    ReleaseAdmissionResult,
};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::QuotaPolicyId;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::refusal::Refusal;
use ff_core::time::{Clock, ManualClock, TimestampMs};

/// One policy: what was asked for, and two counters.
struct Policy {
    asked: CreateQuotaPolicyArgs,
    created_at: TimestampMs,
    /// When the present window began, and how many it has admitted.
    window: (TimestampMs, u64),
    /// How many are under the cap. Nobody knows who.
    in_use: u64,
}

/// Quotas of its own; everything else is the model's.
struct Toy {
    clock: ManualClock,
    policies: Mutex<HashMap<QuotaPolicyId, Policy>>,
}

impl Toy {
    fn create(&self, args: CreateQuotaPolicyArgs) -> Result<CreateQuotaPolicyResult, Refusal> {
        let now = self.clock.now();
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = policies.get(&args.quota_policy_id) {
            if known.asked != args {
                return Err(Refusal::quota_policy_conflict());
            }
            return Ok(CreateQuotaPolicyResult::AlreadyExists { created_at: known.created_at });
        }
        let id = args.quota_policy_id.clone();
        policies.insert(id, Policy { asked: args, created_at: now, window: (now, 0), in_use: 0 });
        Ok(CreateQuotaPolicyResult::Created { created_at: now })
    }

    fn check(&self, args: &CheckAdmissionArgs) -> Result<CheckAdmissionResult, Refusal> {
        let now = self.clock.now();
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = policies.get_mut(&args.quota_policy_id).ok_or_else(Refusal::quota_policy_not_found)?;
        let window_ms = policy.asked.window_ms.unwrap_or(u64::MAX);
        if now.since(policy.window.0) >= window_ms {
            policy.window = (now, 0);
        }
        let retry_at = policy.window.0.after(window_ms);
        if policy.asked.max_requests_per_window.is_some_and(|max| policy.window.1 >= max) {
            return Ok(CheckAdmissionResult::RateExceeded { retry_at, retry_after_ms: retry_at.since(now) });
        }
        if policy.asked.max_concurrent.is_some_and(|max| policy.in_use >= max) {
            return Ok(CheckAdmissionResult::ConcurrencyExceeded { retry_at, retry_after_ms: retry_at.since(now) });
        }
        policy.window.1 += 1;
        policy.in_use += 1;
        let slot_expires_at = policy.asked.max_concurrent.map(|_| now.after(args.slot_ttl_ms));
        Ok(CheckAdmissionResult::Admitted { slot_expires_at })
    }

    fn release(&self, id: &QuotaPolicyId) -> Result<ReleaseAdmissionResult, Refusal> {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = policies.get_mut(id).ok_or_else(Refusal::quota_policy_not_found)?;
        let released = policy.asked.max_concurrent.is_some() && policy.in_use > 0;
        policy.in_use = policy.in_use.saturating_sub(1);
        Ok(ReleaseAdmissionResult { released, wake: Vec::new() })
    }

    fn status(&self, id: &QuotaPolicyId, mut of_an_empty_one: QuotaStatus) -> Result<QuotaStatus, Refusal> {
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = policies.get(id).ok_or_else(Refusal::quota_policy_not_found)?;
        of_an_empty_one.in_window = policy.window.1;
        of_an_empty_one.in_use = if policy.asked.max_concurrent.is_some() { policy.in_use } else { 0 };
        Ok(of_an_empty_one)
    }
}

#[async_trait]
impl Layer for Toy {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        operation.check(inner.deployment())?;
        Ok(match operation {
            Operation::CreateQuotaPolicy(args) => {
                // The model is told, too, so that it can make the form of a status.
                dispatch(inner, args.clone().into()).await.ok();
                Outcome::CreateQuotaPolicy(self.create(args)?)
            }
            Operation::CheckAdmission(args) => Outcome::CheckAdmission(self.check(&args)?),
            Operation::ReleaseAdmission(args) => Outcome::ReleaseAdmission(self.release(&args.quota_policy_id)?),
            Operation::GetQuotaStatus(args) => {
                let id = args.quota_policy_id.clone();
                let Outcome::GetQuotaStatus(status) = dispatch(inner, args.into()).await? else { unreachable!() };
                Outcome::GetQuotaStatus(self.status(&id, status)?)
            }
            other => dispatch(inner, other).await?,
        })
    }
}

struct ToyHarness;

impl Harness for ToyHarness {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let toy = Toy { clock: clock.clone(), policies: Mutex::default() };
        let memory = MemoryBackend::with_manual_clock(clock.clone());
        Fixture::new(Arc::new(Layered::new(Arc::new(memory), toy)), clock)
    }
}

#[test]
fn a_named_case_convicts_the_toy() {
    // The case's own panic is what is wanted, and no news; the assertions' is.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = convict(&Arc::new(ToyHarness), &Trials::of(&[OpName::CheckAdmission]));
    std::panic::set_hook(loud);
    let found = found.expect("it is wrong");
    assert!(found.trial.starts_with("quota::"), "{found}");
    assert!(found.trace.is_none() && !found.evidence.is_empty(), "{found}");
}

#[test]
fn a_random_sequence_convicts_the_toy_in_a_few_calls_that_can_be_read() {
    let trials = Trials::of(&[OpName::CheckAdmission]).without_cases();
    let found = convict(&Arc::new(ToyHarness), &trials).expect("it is wrong");
    println!("{found}");
    let calls = &found.trace.as_ref().expect("a sequence").calls;
    assert!((2..=6).contains(&calls.len()), "{found}");
    assert!(matches!(calls[0].operation, Operation::CreateQuotaPolicy(_)), "nothing is needed before: {found}");
    // Every call is a line with its step and clock, and the last one has what was expected and what came.
    let lines: Vec<&str> = found.evidence.lines().collect();
    for (step, call) in calls.iter().enumerate() {
        let line = lines.iter().find(|line| line.trim_start().starts_with(&format!("{step} ")));
        let line = line.unwrap_or_else(|| panic!("step {step} has no line: {found}"));
        assert!(line.contains(call.operation.name().as_str()) && line.contains(" +"), "{line}");
        assert!(line.len() < 250, "too long to be read: {line}");
    }
    let said = |word: &str| {
        let line = lines.iter().find_map(|line| line.trim_start().strip_prefix(word));
        line.unwrap_or_else(|| panic!("there is no line of {word:?}: {found}")).trim()
    };
    let (expected, actual) = (said("expected ->"), said("actual   ->"));
    assert!(!expected.is_empty() && !actual.is_empty() && expected != actual, "{found}");
    // Ids are named by what they name.
    assert!(!found.evidence.contains("0000-7000-8000"), "{found}");
}
