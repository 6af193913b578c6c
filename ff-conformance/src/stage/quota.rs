//! Words for the domain quota, and the runtime's part in admission: `resources.md`, section 3.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch, QuotaPolicyId};
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::Code;
use ff_core::state::BlockReason;
use ff_core::time::{TimestampMs, When};

use super::{LEASE_MS, Stage, budget_id};

/// How long grants live that the runtime's part issues, in milliseconds.
pub const GRANT_MS: u64 = 10_000;

/// A quota policy's id.
#[must_use]
pub fn quota_id(text: &str) -> QuotaPolicyId {
    QuotaPolicyId::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The creation of a policy with a rate of so many per so many milliseconds.
#[must_use]
pub fn rate(id: &str, max_requests_per_window: u64, window_ms: u64) -> CreateQuotaPolicyArgs {
    CreateQuotaPolicyArgs::builder()
        .quota_policy_id(quota_id(id))
        .max_requests_per_window(max_requests_per_window)
        .window_ms(window_ms)
        .build()
}

/// The creation of a policy with this many slots.
#[must_use]
pub fn cap(id: &str, max_concurrent: u64) -> CreateQuotaPolicyArgs {
    CreateQuotaPolicyArgs::builder().quota_policy_id(quota_id(id)).max_concurrent(max_concurrent).build()
}

/// The creation of a policy with both.
#[must_use]
pub fn rate_and_cap(id: &str, max_requests: u64, window_ms: u64, max_concurrent: u64) -> CreateQuotaPolicyArgs {
    let mut args = rate(id, max_requests, window_ms);
    args.max_concurrent = Some(max_concurrent);
    args
}

/// The question of an execution's attempt 0 for the lease of epoch 1, with a slot of `slot_ttl_ms`.
#[must_use]
pub fn question(id: &str, execution_id: ExecutionId, slot_ttl_ms: u64) -> CheckAdmissionArgs {
    CheckAdmissionArgs {
        quota_policy_id: quota_id(id),
        execution_id,
        attempt_index: AttemptIndex(0),
        lease_epoch: LeaseEpoch(1),
        slot_ttl_ms,
    }
}

/// An execution policy under this quota policy and these budgets.
#[must_use]
pub fn under(quota: Option<&str>, budgets: &[&str]) -> ExecutionPolicy {
    ExecutionPolicy::builder()
        .maybe_quota_policy_id(quota.map(quota_id))
        .budget_ids(budgets.iter().map(|id| budget_id(id)).collect())
        .build()
}

/// What a claim after admission holds.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The attempt that was asked for.
    pub attempt_index: AttemptIndex,
    /// The fence of its owner.
    pub fence: Fence,
    /// Its quota policy.
    pub quota_policy_id: Option<QuotaPolicyId>,
}

impl Stage {
    /// Creates a quota policy; it must be new.
    pub async fn create_quota(&self, args: CreateQuotaPolicyArgs) {
        match self.backend.create_quota_policy(args).await {
            Ok(CreateQuotaPolicyResult::Created { created_at }) => assert_eq!(created_at, self.now()),
            other => panic!("create_quota_policy: {other:?}"),
        }
    }

    /// Asks for admission.
    pub async fn ask(&self, args: CheckAdmissionArgs) -> CheckAdmissionResult {
        self.backend.check_admission(args).await.unwrap_or_else(|e| panic!("check_admission: {e}"))
    }

    /// Asks for admission; it must be given. Answers when its slot lapses.
    pub async fn admitted(&self, args: CheckAdmissionArgs) -> Option<TimestampMs> {
        match self.ask(args).await {
            CheckAdmissionResult::Admitted { slot_expires_at } => slot_expires_at,
            other => panic!("not admitted: {other:?}"),
        }
    }

    /// Asks for admission; the window must be full. Answers when to ask again.
    pub async fn rate_exceeded(&self, args: CheckAdmissionArgs) -> TimestampMs {
        match self.ask(args).await {
            CheckAdmissionResult::RateExceeded { retry_at, retry_after_ms } => {
                assert_eq!(retry_after_ms, retry_at.since(self.now()));
                retry_at
            }
            other => panic!("not RateExceeded: {other:?}"),
        }
    }

    /// Asks for admission; every slot must be taken. Answers when to ask again.
    pub async fn no_slot(&self, args: CheckAdmissionArgs) -> TimestampMs {
        match self.ask(args).await {
            CheckAdmissionResult::ConcurrencyExceeded { retry_at, retry_after_ms } => {
                assert_eq!(retry_after_ms, retry_at.since(self.now()));
                retry_at
            }
            other => panic!("not ConcurrencyExceeded: {other:?}"),
        }
    }

    /// Releases what attempt 0 of the execution holds for leases up to this epoch.
    pub async fn release(&self, id: &str, execution_id: ExecutionId, epoch: u64) -> ReleaseAdmissionResult {
        let args = ReleaseAdmissionArgs {
            quota_policy_id: quota_id(id),
            execution_id,
            attempt_index: AttemptIndex(0),
            lease_epoch: LeaseEpoch(epoch),
        };
        self.backend.release_admission(args).await.unwrap_or_else(|e| panic!("release_admission: {e}"))
    }

    /// A quota policy as of now.
    pub async fn quota(&self, id: &str) -> QuotaStatus {
        let args = GetQuotaStatusArgs { quota_policy_id: quota_id(id) };
        self.backend.get_quota_status(args).await.unwrap_or_else(|e| panic!("get_quota_status: {e}"))
    }

    // --- the runtime's part ---

    /// Blocks a listed execution for a reason, for so long, or without `until`.
    pub async fn park(&self, id: ExecutionId, reason: BlockReason, after_ms: Option<u64>) {
        let args = BlockExecutionArgs::builder()
            .execution_id(id)
            .reason(reason)
            .maybe_until(after_ms.map(When::After))
            .by("runtime")
            .build();
        self.backend.block_execution(args).await.unwrap_or_else(|e| panic!("block_execution: {e}"));
    }

    /// Step 2: whether its budgets let it go on; else it is parked.
    pub async fn budgets_admit(&self, candidate: &AdmissionCandidate) -> bool {
        let (mut denied, mut after) = (false, Some(0));
        for budget_id in &candidate.budget_ids {
            let args = GetBudgetStatusArgs { budget_id: budget_id.clone() };
            match self.backend.get_budget_status(args).await {
                Ok(status) if status.retry_at.is_none() => {}
                Ok(status) => (denied, after) = (true, after.max(status.retry_after_ms)),
                Err(e) if e.code() == Some(Code::BudgetNotFound) => (denied, after) = (true, None),
                Err(e) => panic!("get_budget_status: {e}"),
            }
        }
        if denied {
            self.park(candidate.execution_id, BlockReason::WaitingForBudget, after).await;
        }
        !denied
    }

    /// The question of step 3.
    #[must_use]
    pub fn first_question(&self, candidate: &AdmissionCandidate, policy: &QuotaPolicyId) -> CheckAdmissionArgs {
        CheckAdmissionArgs {
            quota_policy_id: policy.clone(),
            execution_id: candidate.execution_id,
            attempt_index: candidate.attempt_index,
            lease_epoch: candidate.lease_epoch,
            slot_ttl_ms: GRANT_MS + LEASE_MS + 5_000,
        }
    }

    /// Step 3: whether its quota policy lets it go on; else it is parked.
    pub async fn quota_admits(&self, candidate: &AdmissionCandidate) -> bool {
        let Some(policy) = &candidate.quota_policy_id else { return true };
        let after = match self.backend.check_admission(self.first_question(candidate, policy)).await {
            Ok(CheckAdmissionResult::Admitted { .. }) => return true,
            Ok(
                CheckAdmissionResult::RateExceeded { retry_after_ms, .. }
                | CheckAdmissionResult::ConcurrencyExceeded { retry_after_ms, .. },
            ) => Some(retry_after_ms),
            Err(e) if e.code() == Some(Code::QuotaPolicyNotFound) => None,
            Err(e) => panic!("check_admission: {e}"),
        };
        self.park(candidate.execution_id, BlockReason::WaitingForQuota, after).await;
        false
    }

    /// Step 4: grant and claim.
    pub async fn take(&self, candidate: &AdmissionCandidate) -> Owned {
        let claimed = match candidate.claim_kind {
            ClaimKind::New => self.claim_by_id(candidate.execution_id).await,
            ClaimKind::Resumed => self.claim_resumed(candidate.execution_id).await.claimed,
            ClaimKind::Reclaimed => self.reclaim(candidate.execution_id).await,
        };
        assert_eq!(claimed.attempt_index, candidate.attempt_index, "not the attempt that was listed");
        assert_eq!(claimed.fence.lease_epoch, candidate.lease_epoch, "not the epoch that was listed");
        Owned {
            execution_id: candidate.execution_id,
            attempt_index: candidate.attempt_index,
            fence: claimed.fence,
            quota_policy_id: candidate.quota_policy_id.clone(),
        }
    }

    /// Steps 1 to 4 for whatever is listed: who was admitted, claimed.
    pub async fn admission_pass(&self) -> Vec<Owned> {
        let result = self.claim_next(1).await;
        assert!(result.claimed.iter().all(|c| !self.is_controlled(c)), "claim_next took an admission-controlled one");
        let mut owned = Vec::new();
        for candidate in &result.needs_admission {
            if self.budgets_admit(candidate).await && self.quota_admits(candidate).await {
                owned.push(self.take(candidate).await);
            }
        }
        owned
    }

    /// Whether what `claim_next` took carries the tag that these cases put on admission-controlled executions.
    #[must_use]
    fn is_controlled(&self, claim: &NextClaim) -> bool {
        claim.claimed().tags.contains_key("case.controlled")
    }

    /// An admission-controlled execution.
    pub async fn controlled(&self, quota: Option<&str>, budgets: &[&str]) -> ExecutionId {
        let mut args = self.creation_with(under(quota, budgets));
        args.tags.insert("case.controlled".to_owned(), "yes".to_owned());
        self.create(args).await
    }

    /// Step 7, with the wakes: whether a slot was freed.
    pub async fn hand_back(&self, owned: &Owned) -> bool {
        let Some(quota_policy_id) = owned.quota_policy_id.clone() else { return false };
        let args = ReleaseAdmissionArgs {
            quota_policy_id,
            execution_id: owned.execution_id,
            attempt_index: owned.attempt_index,
            lease_epoch: owned.fence.lease_epoch,
        };
        let mut released = false;
        loop {
            let answer = self.backend.release_admission(args.clone()).await;
            let answer = answer.unwrap_or_else(|e| panic!("release_admission: {e}"));
            released |= answer.released;
            let mut again = false;
            for execution_id in answer.wake {
                let args = UnblockExecutionArgs { execution_id, reason: BlockReason::WaitingForQuota };
                again |=
                    !matches!(self.backend.unblock_execution(args).await, Ok(UnblockExecutionResult::Unblocked { .. }));
            }
            if !again {
                return released;
            }
        }
    }
}
