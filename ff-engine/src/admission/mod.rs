//! Admission: the protocol by which executions with budgets or a quota policy are claimed.
//!
//! A claim of the ordinary queues never takes them; it lists their heads. Then each of these is one atomic step that may
//! be repeated, and a process may die between any two of them:
//!
//! 1. the list says what the claim would be;
//! 2. [`Admission::ask_budgets`]: an exhausted budget denies;
//! 3. [`Admission::ask_quotas`]: a full window or cap denies, else the slot is taken and the window charged;
//! 4. [`Admission::grant`], then [`Admission::claim`];
//! 5. [`Admission::refresh`] after every renewal, so that the slot outlives the lease;
//! 6. the lease ends;
//! 7. [`Admission::release`]: the slot is freed, and who waited for it is woken.
//!
//! Who is denied is [parked](Admission::park) until it is worth asking again, and asked for
//! [once more](Admission::ask_parked) then if it waits for a slot. Questions fail closed: without an answer
//! nobody is admitted.
//!
//! The steps take several executions at once, in the order in which they wait, so that sixteen heads cost as many round
//! trips as one.

#[cfg(all(test, feature = "memory"))]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ff_core::contracts::{
    AdmissionCandidate, BlockExecutionArgs, BlockExecutionResult, BudgetStatus, CheckAdmissionArgs,
    CheckAdmissionResult, ClaimExecutionArgs, ClaimExecutionResult, ClaimKind, ClaimResumedExecutionArgs,
    ClaimResumedExecutionResult, ClaimedExecution, GetBudgetStatusArgs, IssueClaimGrantArgs, IssueReclaimGrantArgs,
    IssueReclaimGrantResult, NextClaim, ReclaimExecutionArgs, ReclaimExecutionResult, ReleaseAdmissionArgs,
    UnblockExecutionArgs, UnblockExecutionResult,
};
use ff_core::error::EngineError;
use ff_core::ids::{
    AttemptId, AttemptIndex, BudgetId, ExecutionId, LeaseEpoch, LeaseId, QuotaPolicyId, WorkerId, WorkerInstanceId,
};
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::Capabilities;
use ff_core::refusal::Code;
use ff_core::state::BlockReason;
use ff_core::time::When;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::repeat::{REPEATS, call, is_transport, together};
use crate::retries::millis;

/// How long a grant lives unused: the claim follows at once, so it only has to outlive a few lost answers. A slot whose
/// process died lives that much longer.
const GRANT: Duration = Duration::from_secs(5);
/// How much longer than its lease a slot lives, so that the cap is exact while processes live.
const MARGIN_MS: u64 = 5_000;
/// How long an execution is parked whose question did not get through.
const UNREACHED_MS: u64 = 5_000;
/// How long an execution is parked that asks for something that does not exist: the default of such a block.
const UNKNOWN_MS: u64 = 60_000;
/// How often a question is repeated that did not get through. Others wait behind it, and who is parked asks again.
const ASKED_AGAIN: usize = 1;

/// Who asks for admission, and the leases that it wants.
pub(crate) struct Admission {
    engine: Engine,
    worker_id: WorkerId,
    instance: WorkerInstanceId,
    capabilities: Capabilities,
    lease_ms: u64,
}

/// Why an execution is not admitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) reason: BlockReason,
    /// When to ask again; none is the block's default.
    pub(crate) until: Option<When>,
    pub(crate) detail: String,
    /// What is asked once more when it is parked: all slots were taken, and one may have been freed meanwhile.
    pub(crate) again: Option<AdmissionCandidate>,
}

/// A slot of a quota policy that a lease uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) quota_policy_id: QuotaPolicyId,
    pub(crate) execution_id: ExecutionId,
    pub(crate) attempt_index: AttemptIndex,
    pub(crate) lease_epoch: LeaseEpoch,
}

/// A claim on its way to its handler.
pub(crate) struct Claim {
    pub(crate) claim: NextClaim,
    /// Present exactly when it has a quota policy that caps concurrency.
    pub(crate) slot: Option<Slot>,
    /// When the claim was sent, the questions before it left out: its lease begins no earlier.
    pub(crate) asked_at: Instant,
}

/// What became of some candidates.
#[derive(Default)]
pub(crate) struct Dealt {
    pub(crate) claimed: Vec<Claim>,
    /// Executions that left their queue, so that others stand at its head now.
    pub(crate) moved: usize,
}

/// What became of those who were denied.
#[derive(Default)]
pub(crate) struct Parked {
    /// How many are out of their queue now.
    pub(crate) moved: usize,
    /// Of these, who is to be asked for once more.
    pub(crate) again: Vec<AdmissionCandidate>,
}

/// A candidate that may still be claimed, and whether its policy gave it a slot.
pub(crate) struct Passed {
    pub(crate) candidate: AdmissionCandidate,
    pub(crate) slot: bool,
}

impl Admission {
    pub(crate) fn new(
        engine: Engine,
        worker_id: WorkerId,
        instance: WorkerInstanceId,
        capabilities: Capabilities,
        lease: Duration,
    ) -> Self {
        Self { engine, worker_id, instance, capabilities, lease_ms: millis(lease) }
    }

    /// Steps 2 to 5 for these candidates of one list.
    pub(crate) async fn deal(&self, candidates: Vec<AdmissionCandidate>) -> Dealt {
        let mut dealt = Dealt::default();
        let (passed, denied) = self.ask_budgets(candidates).await;
        dealt.moved += self.park(denied).await.moved;
        let (mut passed, denied) = self.ask_quotas(passed).await;
        let parked = self.park(denied).await;
        dealt.moved += parked.moved;
        passed.extend(self.ask_parked(parked.again).await);
        let granted = self.grant(passed).await;
        dealt.moved += granted.len();
        dealt.claimed = self.claim(granted).await;
        dealt
    }

    /// Step 2. Each budget is asked once, however many candidates have it.
    pub(crate) async fn ask_budgets(
        &self,
        candidates: Vec<AdmissionCandidate>,
    ) -> (Vec<AdmissionCandidate>, Vec<(ExecutionId, Denial)>) {
        let budgets: BTreeSet<&BudgetId> = candidates.iter().flat_map(|c| &c.budget_ids).collect();
        let budgets: Vec<BudgetId> = budgets.into_iter().cloned().collect();
        let questions =
            budgets.iter().map(|id| Operation::GetBudgetStatus(GetBudgetStatusArgs { budget_id: id.clone() }));
        let answers = together(&self.engine, questions.collect(), ASKED_AGAIN).await;
        let denials: BTreeMap<&BudgetId, Wait> = budgets
            .iter()
            .zip(answers)
            .filter_map(|(id, answer)| {
                let wait = match answer {
                    Ok(Outcome::GetBudgetStatus(BudgetStatus { retry_after_ms, .. })) => Wait::Told(retry_after_ms?),
                    Ok(_) => Wait::Unknown,
                    Err(error) => Wait::after(&error),
                };
                Some((id, wait))
            })
            .collect();
        let (mut passed, mut denied) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let waits = candidate.budget_ids.iter().filter_map(|id| Some((*denials.get(id)?, id)));
            match waits.max_by_key(|(wait, _)| wait.ms()) {
                None => passed.push(candidate),
                Some((wait, id)) => {
                    let detail = format!("budget {id}: {}", wait.why("exhausted"));
                    let reason = BlockReason::WaitingForBudget;
                    denied.push((candidate.execution_id, Denial { reason, until: wait.until(), detail, again: None }));
                }
            }
        }
        (passed, denied)
    }

    /// What step 3 asks for a candidate.
    fn question(&self, candidate: &AdmissionCandidate) -> Option<Operation> {
        Some(Operation::CheckAdmission(CheckAdmissionArgs {
            quota_policy_id: candidate.quota_policy_id.clone()?,
            execution_id: candidate.execution_id,
            attempt_index: candidate.attempt_index,
            lease_epoch: candidate.lease_epoch,
            slot_ttl_ms: millis(GRANT) + self.lease_ms + MARGIN_MS,
        }))
    }

    /// Step 3, in the order of the candidates.
    pub(crate) async fn ask_quotas(
        &self,
        candidates: Vec<AdmissionCandidate>,
    ) -> (Vec<Passed>, Vec<(ExecutionId, Denial)>) {
        let questions = candidates.iter().filter_map(|c| self.question(c));
        let mut answers = together(&self.engine, questions.collect(), ASKED_AGAIN).await.into_iter();
        let (mut passed, mut denied) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let Some(policy) = &candidate.quota_policy_id else {
                passed.push(Passed { candidate, slot: false });
                continue;
            };
            let mut is_full = false;
            let (wait, full) = match answers.next() {
                Some(Ok(Outcome::CheckAdmission(CheckAdmissionResult::Admitted { slot_expires_at }))) => {
                    passed.push(Passed { candidate, slot: slot_expires_at.is_some() });
                    continue;
                }
                Some(Ok(Outcome::CheckAdmission(CheckAdmissionResult::RateExceeded { retry_after_ms, .. }))) => {
                    (Wait::Told(retry_after_ms), "its rate is used up")
                }
                Some(Ok(Outcome::CheckAdmission(CheckAdmissionResult::ConcurrencyExceeded {
                    retry_after_ms, ..
                }))) => {
                    is_full = true;
                    (Wait::Told(retry_after_ms), "all its slots are taken")
                }
                Some(Err(error)) => (Wait::after(&error), ""),
                Some(Ok(_)) | None => (Wait::Unknown, ""),
            };
            let detail = format!("quota policy {policy}: {}", wait.why(full));
            let (reason, execution_id) = (BlockReason::WaitingForQuota, candidate.execution_id);
            let again = is_full.then_some(candidate);
            denied.push((execution_id, Denial { reason, until: wait.until(), detail, again }));
        }
        (passed, denied)
    }

    /// Blocks those who were denied.
    pub(crate) async fn park(&self, mut denied: Vec<(ExecutionId, Denial)>) -> Parked {
        let due: Vec<(u16, When)> = denied
            .iter()
            .map(|(execution_id, denial)| (execution_id.partition(), denial.until.unwrap_or(When::After(UNKNOWN_MS))))
            .collect();
        let again: Vec<_> = denied.iter_mut().map(|(_, denial)| denial.again.take()).collect();
        let blocks = denied.into_iter().map(|(execution_id, denial)| {
            Operation::BlockExecution(
                BlockExecutionArgs::builder()
                    .execution_id(execution_id)
                    .reason(denial.reason)
                    .detail(denial.detail)
                    .maybe_until(denial.until)
                    .by(self.instance.as_str())
                    .build(),
            )
        });
        let answers = together(&self.engine, blocks.collect(), REPEATS).await;
        for (partition, until) in due {
            self.engine.agenda().armed_when(partition, [until]);
        }
        let mut parked = Parked::default();
        for (answer, again) in answers.into_iter().zip(again) {
            match answer {
                Ok(Outcome::BlockExecution(BlockExecutionResult::Blocked { .. })) => {
                    parked.moved += 1;
                    parked.again.extend(again);
                }
                // Refused: it is in nobody's queue any more.
                Err(error) if error.refusal().is_some() => parked.moved += 1,
                Ok(_) | Err(_) => {}
            }
        }
        parked
    }

    /// Step 3 once more for those who were parked because all slots were taken. One that was freed between the denial and
    /// the block woke nobody: who was not blocked yet answered that, and had lost its place among those who wait. From
    /// now on it is there again and blocked, so that no wake misses it. Who gets a slot is let go and goes on to step 4.
    pub(crate) async fn ask_parked(&self, parked: Vec<AdmissionCandidate>) -> Vec<Passed> {
        let questions = parked.iter().filter_map(|candidate| self.question(candidate)).collect();
        let answers = together(&self.engine, questions, ASKED_AGAIN).await;
        let admitted: Vec<Passed> = parked
            .into_iter()
            .zip(answers)
            .filter_map(|(candidate, answer)| match answer {
                Ok(Outcome::CheckAdmission(CheckAdmissionResult::Admitted { slot_expires_at })) => {
                    Some(Passed { candidate, slot: slot_expires_at.is_some() })
                }
                _ => None,
            })
            .collect();
        let unblocks = admitted.iter().map(|passed| {
            let (execution_id, reason) = (passed.candidate.execution_id, BlockReason::WaitingForQuota);
            Operation::UnblockExecution(UnblockExecutionArgs { execution_id, reason })
        });
        let answers = together(&self.engine, unblocks.collect(), REPEATS).await;
        admitted.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(passed, _)| passed).collect()
    }

    /// Step 4, its first half. Who is refused is dropped: somebody else was faster, or it left its queue.
    pub(crate) async fn grant(&self, passed: Vec<Passed>) -> Vec<Passed> {
        let grants = passed.iter().map(|p| {
            let (execution_id, grant_ttl_ms) = (p.candidate.execution_id, millis(GRANT));
            let (worker_id, worker_instance_id) = (self.worker_id.clone(), self.instance.clone());
            let capabilities = self.capabilities.clone();
            match p.candidate.claim_kind {
                ClaimKind::New | ClaimKind::Resumed => Operation::IssueClaimGrant(IssueClaimGrantArgs {
                    execution_id,
                    worker_id,
                    worker_instance_id,
                    capabilities,
                    grant_ttl_ms,
                }),
                ClaimKind::Reclaimed => Operation::IssueReclaimGrant(IssueReclaimGrantArgs {
                    execution_id,
                    worker_id,
                    worker_instance_id,
                    capabilities,
                    grant_ttl_ms,
                }),
            }
        });
        let answers = together(&self.engine, grants.collect(), REPEATS).await;
        passed
            .into_iter()
            .zip(answers)
            .filter_map(|(passed, answer)| match answer {
                Ok(Outcome::IssueReclaimGrant(IssueReclaimGrantResult::Ended { .. })) => None,
                Ok(_) => Some(passed),
                Err(error) => {
                    tracing::debug!(execution = %passed.candidate.execution_id, %error, "no grant");
                    None
                }
            })
            .collect()
    }

    /// Step 4, its second half, and step 5 for those that are not what was asked for.
    pub(crate) async fn claim(&self, granted: Vec<Passed>) -> Vec<Claim> {
        let claims = granted.iter().map(|g| {
            let (execution_id, lease_ttl_ms, lease_id) = (g.candidate.execution_id, self.lease_ms, LeaseId::new());
            let (worker_id, worker_instance_id) = (self.worker_id.clone(), self.instance.clone());
            match g.candidate.claim_kind {
                ClaimKind::New => Operation::ClaimExecution(ClaimExecutionArgs {
                    execution_id,
                    worker_id,
                    worker_instance_id,
                    lease_id,
                    attempt_id: AttemptId::new(),
                    lease_ttl_ms,
                }),
                ClaimKind::Resumed => Operation::ClaimResumedExecution(ClaimResumedExecutionArgs {
                    execution_id,
                    worker_id,
                    worker_instance_id,
                    lease_id,
                    lease_ttl_ms,
                }),
                ClaimKind::Reclaimed => Operation::ReclaimExecution(ReclaimExecutionArgs {
                    execution_id,
                    worker_id,
                    worker_instance_id,
                    lease_id,
                    attempt_id: AttemptId::new(),
                    lease_ttl_ms,
                }),
            }
        });
        let asked_at = Instant::now();
        let answers = together(&self.engine, claims.collect(), REPEATS).await;
        let (mut admitted, mut others) = (Vec::new(), Vec::new());
        for (Passed { candidate, slot }, answer) in granted.into_iter().zip(answers) {
            let claim = match answer {
                Ok(Outcome::ClaimExecution(ClaimExecutionResult::Claimed(claimed))) => NextClaim::New(claimed),
                Ok(Outcome::ClaimResumedExecution(ClaimResumedExecutionResult::Claimed(claimed))) => {
                    NextClaim::Resumed(claimed)
                }
                Ok(Outcome::ReclaimExecution(ReclaimExecutionResult::Reclaimed(claimed))) => {
                    NextClaim::Reclaimed(claimed)
                }
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(execution = %candidate.execution_id, %error, "not claimed");
                    continue;
                }
            };
            let claimed = claimed_of(&claim);
            for due in [claimed.deadline_at, claimed.attempt_deadline_at].into_iter().flatten() {
                self.engine.agenda().armed(claimed.execution_id.partition(), due);
            }
            let slot = candidate.quota_policy_id.clone().filter(|_| slot).map(|policy| Slot::of(policy, &claim));
            let asked_for = (candidate.attempt_index, candidate.lease_epoch);
            others.extend(slot.iter().filter(|s| (s.attempt_index, s.lease_epoch) != asked_for).cloned());
            admitted.push(Claim { claim, slot, asked_at });
        }
        self.refresh(&others).await;
        admitted
    }

    /// Step 5: slots live on with their leases. What is denied, or gets no answer, is asked for again at the next
    /// renewal; the lease goes on.
    pub(crate) async fn refresh(&self, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        let questions = slots.iter().map(|slot| {
            Operation::CheckAdmission(CheckAdmissionArgs {
                quota_policy_id: slot.quota_policy_id.clone(),
                execution_id: slot.execution_id,
                attempt_index: slot.attempt_index,
                lease_epoch: slot.lease_epoch,
                slot_ttl_ms: self.lease_ms + MARGIN_MS,
            })
        });
        for (slot, answer) in slots.iter().zip(together(&self.engine, questions.collect(), 0).await) {
            match answer {
                Ok(Outcome::CheckAdmission(CheckAdmissionResult::Admitted { .. })) => {}
                other => tracing::debug!(execution = %slot.execution_id, ?other, "slot not refreshed"),
            }
        }
    }

    /// Step 7, to be called when no refresh of the slot is on its way: frees it, and wakes who waited for it. What gets
    /// lost here heals by itself: the slot lapses, and those who wait ask again at their time.
    pub(crate) async fn release(&self, slot: &Slot) {
        loop {
            let args = ReleaseAdmissionArgs {
                quota_policy_id: slot.quota_policy_id.clone(),
                execution_id: slot.execution_id,
                attempt_index: slot.attempt_index,
                lease_epoch: slot.lease_epoch,
            };
            let wake = match call!(self.engine, release_admission(args)) {
                Ok(answer) => answer.wake,
                Err(error) => {
                    tracing::debug!(execution = %slot.execution_id, %error, "slot not released; it will lapse");
                    return;
                }
            };
            let unblocks = wake.into_iter().map(|execution_id| {
                let reason = BlockReason::WaitingForQuota;
                Operation::UnblockExecution(UnblockExecutionArgs { execution_id, reason })
            });
            let answers = together(&self.engine, unblocks.collect(), REPEATS).await;
            // Who does not wait any more leaves its place to the next.
            let again = answers.iter().any(|answer| match answer {
                Ok(Outcome::UnblockExecution(UnblockExecutionResult::NotBlocked { .. })) => true,
                Err(error) => error.code() == Some(Code::ExecutionNotFound),
                Ok(_) => false,
            });
            if !again {
                return;
            }
        }
    }
}

/// How long a denial holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// As long as the answer says.
    Told(u64),
    /// What was asked does not exist, or cannot be read.
    Unknown,
    /// The question did not get through.
    Unreached,
}

impl Wait {
    fn after(error: &EngineError) -> Self {
        if is_transport(error) { Self::Unreached } else { Self::Unknown }
    }

    const fn ms(self) -> u64 {
        match self {
            Self::Told(ms) => ms,
            Self::Unknown => UNKNOWN_MS,
            Self::Unreached => UNREACHED_MS,
        }
    }

    fn until(self) -> Option<When> {
        match self {
            Self::Unknown => None,
            Self::Told(_) | Self::Unreached => Some(When::After(self.ms().min(ff_core::time::MAX_DURATION_MS))),
        }
    }

    const fn why(self, full: &'static str) -> &'static str {
        match self {
            Self::Told(_) => full,
            Self::Unknown => "it does not exist, or cannot be read",
            Self::Unreached => "it was not reached",
        }
    }
}

impl Slot {
    fn of(quota_policy_id: QuotaPolicyId, claim: &NextClaim) -> Self {
        let claimed = claimed_of(claim);
        Self {
            quota_policy_id,
            execution_id: claimed.execution_id,
            attempt_index: claimed.attempt_index,
            lease_epoch: claimed.fence.lease_epoch,
        }
    }
}

/// What every form of a claim holds.
pub(crate) const fn claimed_of(claim: &NextClaim) -> &ClaimedExecution {
    match claim {
        NextClaim::New(claimed) | NextClaim::Reclaimed(claimed) => claimed,
        NextClaim::Resumed(resumed) => &resumed.claimed,
    }
}
