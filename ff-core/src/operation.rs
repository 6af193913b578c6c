//! THE list of operations, and everything that is generated from it.
//!
//! [`operations!`](crate::operations) hands the list to any macro: domain, trait, variant, method, arguments, result,
//! whether it writes, where it is atomic, and its Valkey function. A trait method that is missing from the list, or a
//! listed operation without a rule, is a compile error.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bounds::{CheckArgs, Deployment};
use crate::contracts::*; // the list below names nearly all of it
use crate::engine_backend::EngineBackend;
use crate::error::EngineError;
use crate::ids::{BudgetId, QuotaPolicyId};
use crate::refusal::Refusal;
use crate::word_enum;

/// Calls `$with!` with the list of operations.
///
/// Per domain: `domain: Trait { Variant = method(Args) -> Result, read|write, atomicity, "function"|none; ... }`, where
/// atomicity is `partition`, `partitions` (each of several), `budget`, `policy`, or `tail` (a partition, waiting).
#[macro_export]
macro_rules! operations {
    ($($with:tt)+) => { $($with)+! {
        execution: ExecutionOps {
            CreateExecution = create_execution(CreateExecutionArgs) -> CreateExecutionResult, write, partition, "ff_create_execution";
            CompleteExecution = complete_execution(CompleteExecutionArgs) -> CompleteExecutionResult, write, partition, "ff_complete_execution";
            FailExecution = fail_execution(FailExecutionArgs) -> FailExecutionResult, write, partition, "ff_fail_execution";
            CancelExecution = cancel_execution(CancelExecutionArgs) -> CancelExecutionResult, write, partition, "ff_cancel_execution";
            ExpireExecution = expire_execution(ExpireExecutionArgs) -> ExpireExecutionResult, write, partition, "ff_expire_execution";
            DelayExecution = delay_execution(DelayExecutionArgs) -> DelayExecutionResult, write, partition, "ff_delay_execution";
            MoveToWaitingChildren = move_to_waiting_children(MoveToWaitingChildrenArgs) -> MoveToWaitingChildrenResult, write, partition, "ff_move_to_waiting_children";
            ReplayExecution = replay_execution(ReplayExecutionArgs) -> ReplayExecutionResult, write, partition, "ff_replay_execution";
            ChangePriority = change_priority(ChangePriorityArgs) -> ChangePriorityResult, write, partition, "ff_change_priority";
            UpdateProgress = update_progress(UpdateProgressArgs) -> UpdateProgressResult, write, partition, "ff_update_progress";
            SetExecutionTags = set_execution_tags(SetExecutionTagsArgs) -> SetExecutionTagsResult, write, partition, "ff_set_execution_tags";
            BlockExecution = block_execution(BlockExecutionArgs) -> BlockExecutionResult, write, partition, "ff_block_execution";
            UnblockExecution = unblock_execution(UnblockExecutionArgs) -> UnblockExecutionResult, write, partition, "ff_unblock_execution";
        }
        claim: ClaimOps {
            IssueClaimGrant = issue_claim_grant(IssueClaimGrantArgs) -> IssueClaimGrantResult, write, partition, "ff_issue_claim_grant";
            ClaimExecution = claim_execution(ClaimExecutionArgs) -> ClaimExecutionResult, write, partition, "ff_claim_execution";
            ClaimResumedExecution = claim_resumed_execution(ClaimResumedExecutionArgs) -> ClaimResumedExecutionResult, write, partition, "ff_claim_resumed_execution";
            ClaimNext = claim_next(ClaimNextArgs) -> ClaimNextResult, write, partition, "ff_claim_next";
            IssueReclaimGrant = issue_reclaim_grant(IssueReclaimGrantArgs) -> IssueReclaimGrantResult, write, partition, "ff_issue_reclaim_grant";
            ReclaimExecution = reclaim_execution(ReclaimExecutionArgs) -> ReclaimExecutionResult, write, partition, "ff_reclaim_execution";
        }
        lease: LeaseOps {
            RenewLease = renew_lease(RenewLeaseArgs) -> RenewLeaseResult, write, partition, "ff_renew_lease";
            MarkLeaseExpired = mark_lease_expired(MarkLeaseExpiredArgs) -> MarkLeaseExpiredResult, write, partition, "ff_mark_lease_expired";
            RevokeLease = revoke_lease(RevokeLeaseArgs) -> RevokeLeaseResult, write, partition, "ff_revoke_lease";
        }
        suspension: SuspensionOps {
            SuspendExecution = suspend_execution(SuspendExecutionArgs) -> SuspendExecutionResult, write, partition, "ff_suspend_execution";
            ResumeExecution = resume_execution(ResumeExecutionArgs) -> ResumeExecutionResult, write, partition, "ff_resume_execution";
            CreatePendingWaitpoint = create_pending_waitpoint(CreatePendingWaitpointArgs) -> CreatePendingWaitpointResult, write, partition, "ff_create_pending_waitpoint";
            CloseWaitpoint = close_waitpoint(CloseWaitpointArgs) -> CloseWaitpointResult, write, partition, "ff_close_waitpoint";
            ExpireSuspension = expire_suspension(ExpireSuspensionArgs) -> ExpireSuspensionResult, write, partition, "ff_expire_suspension";
            ListPendingWaitpoints = list_pending_waitpoints(ListPendingWaitpointsArgs) -> ListPendingWaitpointsResult, read, partition, "ff_list_pending_waitpoints";
        }
        signal: SignalOps {
            DeliverSignal = deliver_signal(DeliverSignalArgs) -> DeliverSignalResult, write, partition, "ff_deliver_signal";
            BufferSignal = buffer_signal(BufferSignalArgs) -> BufferSignalResult, write, partition, "ff_buffer_signal";
            ListSignals = list_signals(ListSignalsArgs) -> ListSignalsResult, read, partition, "ff_list_signals";
        }
        keystore: KeystoreOps {
            RotateWaitpointHmacSecret = rotate_waitpoint_hmac_secret(RotateWaitpointHmacSecretArgs) -> RotateWaitpointHmacSecretOutcome, write, partition, "ff_rotate_waitpoint_hmac_secret";
            RevokeWaitpointKid = revoke_waitpoint_kid(RevokeWaitpointKidArgs) -> RevokeWaitpointKidResult, write, partition, "ff_revoke_waitpoint_kid";
            ListWaitpointHmacKids = list_waitpoint_hmac_kids(ListWaitpointHmacKidsArgs) -> WaitpointHmacKids, read, partition, "ff_list_waitpoint_hmac_kids";
        }
        flow: FlowOps {
            CreateFlow = create_flow(CreateFlowArgs) -> CreateFlowResult, write, partition, "ff_create_flow";
            SubmitFlow = submit_flow(SubmitFlowArgs) -> SubmitFlowResult, write, partition, "ff_submit_flow";
            AddExecutionToFlow = add_execution_to_flow(AddExecutionToFlowArgs) -> AddExecutionToFlowResult, write, partition, "ff_add_execution_to_flow";
            SealFlow = seal_flow(SealFlowArgs) -> SealFlowResult, write, partition, "ff_seal_flow";
            StageDependencyEdge = stage_dependency_edge(StageDependencyEdgeArgs) -> StageDependencyEdgeResult, write, partition, "ff_stage_dependency_edge";
            ApplyDependencyToChild = apply_dependency_to_child(ApplyDependencyToChildArgs) -> ApplyDependencyToChildResult, write, partition, "ff_apply_dependency_to_child";
            ResolveDependency = resolve_dependency(ResolveDependencyArgs) -> ResolveDependencyResult, write, partition, "ff_resolve_dependency";
            EvaluateFlowEligibility = evaluate_flow_eligibility(EvaluateFlowEligibilityArgs) -> EvaluateFlowEligibilityResult, read, partition, "ff_evaluate_flow_eligibility";
            PromoteBlockedToEligible = promote_blocked_to_eligible(PromoteBlockedToEligibleArgs) -> PromoteBlockedToEligibleResult, write, partition, "ff_promote_blocked_to_eligible";
            CancelFlow = cancel_flow(CancelFlowArgs) -> CancelFlowResult, write, partition, "ff_cancel_flow";
            SetFlowTags = set_flow_tags(SetFlowTagsArgs) -> SetFlowTagsResult, write, partition, "ff_set_flow_tags";
            DescribeFlow = describe_flow(DescribeFlowArgs) -> FlowSnapshot, read, partition, "ff_describe_flow";
            DescribeEdge = describe_edge(DescribeEdgeArgs) -> EdgeSnapshot, read, partition, "ff_describe_edge";
            ListEdges = list_edges(ListEdgesArgs) -> ListEdgesResult, read, partition, "ff_list_edges";
            ListFlowMembers = list_flow_members(ListFlowMembersArgs) -> ListFlowMembersResult, read, partition, "ff_list_flow_members";
        }
        budget: BudgetOps {
            CreateBudget = create_budget(CreateBudgetArgs) -> CreateBudgetResult, write, budget, "ff_create_budget";
            ReportUsage = report_usage(ReportUsageArgs) -> ReportUsageResult, write, budget, "ff_report_usage";
            ResetBudget = reset_budget(ResetBudgetArgs) -> ResetBudgetResult, write, budget, "ff_reset_budget";
            GetBudgetStatus = get_budget_status(GetBudgetStatusArgs) -> BudgetStatus, read, budget, "ff_get_budget_status";
        }
        quota: QuotaOps {
            CreateQuotaPolicy = create_quota_policy(CreateQuotaPolicyArgs) -> CreateQuotaPolicyResult, write, policy, "ff_create_quota_policy";
            CheckAdmission = check_admission(CheckAdmissionArgs) -> CheckAdmissionResult, write, policy, "ff_check_admission";
            ReleaseAdmission = release_admission(ReleaseAdmissionArgs) -> ReleaseAdmissionResult, write, policy, "ff_release_admission";
            GetQuotaStatus = get_quota_status(GetQuotaStatusArgs) -> QuotaStatus, read, policy, "ff_get_quota_status";
        }
        stream: StreamOps {
            AppendFrame = append_frame(AppendFrameArgs) -> AppendFrameResult, write, partition, "ff_append_frame";
            ReadFrames = read_frames(ReadFramesArgs) -> ReadFramesResult, read, partition, "ff_read_attempt_stream";
            TailFrames = tail_frames(TailFramesArgs) -> TailFramesResult, read, tail, none;
        }
        reads: ReadsOps {
            GetExecution = get_execution(GetExecutionArgs) -> ExecutionInfo, read, partition, "ff_get_execution";
            DescribeExecution = describe_execution(DescribeExecutionArgs) -> ExecutionSnapshot, read, partition, "ff_describe_execution";
            ListExecutions = list_executions(ListExecutionsArgs) -> ListExecutionsResult, read, partitions, "ff_list_executions";
            ListAttempts = list_attempts(ListAttemptsArgs) -> ListAttemptsResult, read, partition, "ff_list_attempts";
            GetPayload = get_payload(GetPayloadArgs) -> GetPayloadResult, read, partition, "ff_get_payload";
            GetResult = get_result(GetResultArgs) -> GetResultResult, read, partition, "ff_get_result";
            LaneCounts = lane_counts(LaneCountsArgs) -> LaneCounts, read, partitions, "ff_lane_counts";
        }
        maintenance: MaintenanceOps {
            Sweep = sweep(SweepArgs) -> SweepReport, write, partition, "ff_sweep";
            RebuildIndexes = rebuild_indexes(RebuildIndexesArgs) -> RebuildReport, write, partition, "ff_rebuild_indexes";
        }
    } };
}

word_enum! {
    /// Within what an operation is atomic.
    pub enum Atomicity {
        /// One partition.
        Partition = "partition",
        /// Each partition that it reads, one after another.
        EachPartition = "each_partition",
        /// One budget.
        Budget = "budget",
        /// One quota policy.
        Policy = "policy",
    }
}

/// What an operation is addressed to: the unit that it is atomic within.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// One partition.
    Partition(u16),
    /// Every partition, one after another.
    EachPartition,
    /// One budget.
    Budget(BudgetId),
    /// One quota policy.
    Policy(QuotaPolicyId),
}

/// Arguments that say what they are addressed to.
pub trait Addressed {
    /// The unit that the operation is atomic within.
    fn address(&self) -> Address;
}

macro_rules! addressed {
    (by id $field:ident: $($Args:ident),+) => { $(impl Addressed for $Args {
        fn address(&self) -> Address { Address::Partition(self.$field.partition()) }
    })+ };
    (by number: $($Args:ident),+) => { $(impl Addressed for $Args {
        fn address(&self) -> Address { Address::Partition(self.partition) }
    })+ };
    (by maybe: $($Args:ident),+) => { $(impl Addressed for $Args {
        fn address(&self) -> Address { self.partition.map_or(Address::EachPartition, Address::Partition) }
    })+ };
    (by $Variant:ident $field:ident: $($Args:ident),+) => { $(impl Addressed for $Args {
        fn address(&self) -> Address { Address::$Variant(self.$field.clone()) }
    })+ };
}

addressed!(by id execution_id: CreateExecutionArgs, CompleteExecutionArgs, FailExecutionArgs, CancelExecutionArgs,
    ExpireExecutionArgs, DelayExecutionArgs, MoveToWaitingChildrenArgs, ReplayExecutionArgs, ChangePriorityArgs,
    UpdateProgressArgs, SetExecutionTagsArgs, BlockExecutionArgs, UnblockExecutionArgs, IssueClaimGrantArgs,
    ClaimExecutionArgs, ClaimResumedExecutionArgs, IssueReclaimGrantArgs, ReclaimExecutionArgs, RenewLeaseArgs,
    MarkLeaseExpiredArgs, RevokeLeaseArgs, SuspendExecutionArgs, ResumeExecutionArgs, CreatePendingWaitpointArgs,
    CloseWaitpointArgs, ExpireSuspensionArgs, ListPendingWaitpointsArgs, DeliverSignalArgs, BufferSignalArgs,
    ListSignalsArgs, EvaluateFlowEligibilityArgs, PromoteBlockedToEligibleArgs, AppendFrameArgs, ReadFramesArgs,
    TailFramesArgs, GetExecutionArgs, DescribeExecutionArgs, ListAttemptsArgs, GetPayloadArgs, GetResultArgs);
addressed!(by id flow_id: CreateFlowArgs, SubmitFlowArgs, AddExecutionToFlowArgs, SealFlowArgs,
    StageDependencyEdgeArgs, ApplyDependencyToChildArgs, ResolveDependencyArgs, CancelFlowArgs, SetFlowTagsArgs,
    DescribeFlowArgs, DescribeEdgeArgs, ListEdgesArgs, ListFlowMembersArgs);
addressed!(by number: ClaimNextArgs, SweepArgs, RebuildIndexesArgs, RotateWaitpointHmacSecretArgs,
    RevokeWaitpointKidArgs, ListWaitpointHmacKidsArgs);
addressed!(by maybe: ListExecutionsArgs, LaneCountsArgs);
addressed!(by Budget budget_id: CreateBudgetArgs, ReportUsageArgs, ResetBudgetArgs, GetBudgetStatusArgs);
addressed!(by Policy quota_policy_id: CreateQuotaPolicyArgs, CheckAdmissionArgs, ReleaseAdmissionArgs,
    GetQuotaStatusArgs);

macro_rules! atomicity {
    (partition) => {
        Atomicity::Partition
    };
    (tail) => {
        Atomicity::Partition
    };
    (partitions) => {
        Atomicity::EachPartition
    };
    (budget) => {
        Atomicity::Budget
    };
    (policy) => {
        Atomicity::Policy
    };
}

macro_rules! writes {
    (write) => {
        true
    };
    (read) => {
        false
    };
}

macro_rules! function {
    (none) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

macro_rules! define {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => {
        /// One operation with its arguments.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "operation", content = "args", rename_all = "snake_case")]
        #[allow(clippy::large_enum_variant)] // passed once, by value, beside a round trip
        pub enum Operation { $($(
            #[doc = concat!("`", stringify!($method), "`")]
            $Op($Args),
        )*)* }

        /// The result of one operation.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "operation", content = "result", rename_all = "snake_case")]
        #[allow(clippy::large_enum_variant)] // passed once, by value, beside a round trip
        pub enum Outcome { $($(
            #[doc = concat!("Of `", stringify!($method), "`")]
            $Op($Result),
        )*)* }

        /// The name of an operation, for metrics, errors and coverage tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum OpName { $($(
            #[doc = concat!("`", stringify!($method), "`")]
            $Op,
        )*)* }

        impl OpName {
            /// Every operation, in the order of the list.
            pub const ALL: &'static [Self] = &[$($(Self::$Op),*),*];

            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize { self as usize }

            /// The method's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$Op => stringify!($method),)*)* }
            }

            /// The operation whose method has this name.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|name| name.as_str() == word)
            }

            /// The domain.
            #[must_use]
            pub const fn domain(self) -> &'static str {
                match self { $($(Self::$Op => stringify!($domain),)*)* }
            }

            /// Whether it may write.
            #[must_use]
            pub const fn writes(self) -> bool {
                match self { $($(Self::$Op => writes!($rw),)*)* }
            }

            /// Within what it is atomic.
            #[must_use]
            pub const fn atomicity(self) -> Atomicity {
                match self { $($(Self::$Op => atomicity!($within),)*)* }
            }

            /// Its Valkey function, if it has one.
            #[must_use]
            pub const fn function(self) -> Option<&'static str> {
                match self { $($(Self::$Op => function!($function),)*)* }
            }

            /// The names of its argument and result types.
            #[must_use]
            pub const fn types(self) -> (&'static str, &'static str) {
                match self { $($(Self::$Op => (stringify!($Args), stringify!($Result)),)*)* }
            }
        }

        impl Operation {
            /// Its name.
            #[must_use]
            pub const fn name(&self) -> OpName {
                match self { $($(Self::$Op(_) => OpName::$Op,)*)* }
            }

            /// What it is addressed to.
            #[must_use]
            pub fn address(&self) -> Address {
                match self { $($(Self::$Op(args) => args.address(),)*)* }
            }

            /// Refuses arguments that no state could make right.
            ///
            /// # Errors
            /// The first refusal in the contract's order of checks.
            pub fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
                match self { $($(Self::$Op(args) => args.check(deployment),)*)* }
            }
        }

        impl Outcome {
            /// The name of its operation.
            #[must_use]
            pub const fn name(&self) -> OpName {
                match self { $($(Self::$Op(_) => OpName::$Op,)*)* }
            }
        }

        $($(impl From<$Args> for Operation {
            fn from(args: $Args) -> Self { Self::$Op(args) }
        })*)*

        /// Calls the method of an operation.
        ///
        /// # Errors
        /// Those of the operation.
        pub async fn dispatch<B: EngineBackend + ?Sized>(backend: &B, operation: Operation) -> Result<Outcome, EngineError> {
            match operation {
                $($(Operation::$Op(args) => backend.$method(args).await.map(Outcome::$Op),)*)*
            }
        }
    };
}
operations!(define);

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for OpName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for OpName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<str>::deserialize(d)?;
        Self::from_word(&word).ok_or_else(|| serde::de::Error::custom("no operation has this name"))
    }
}

impl Outcome {
    /// The variant's word: `created`, `already_exists`, ...; `answer` where a result has only one form.
    #[must_use]
    pub fn variant(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        match value.get("result") {
            Some(serde_json::Value::String(word)) => word.clone(),
            Some(serde_json::Value::Object(map)) if map.len() == 1 => map
                .iter()
                .next()
                .filter(|(_, inner)| inner.is_object())
                .map_or_else(|| "answer".to_owned(), |(word, _)| word.clone()),
            _ => "answer".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_contracts_table() {
        assert_eq!(OpName::ALL.len(), 69);
        for name in OpName::ALL {
            assert_eq!(OpName::from_word(name.as_str()), Some(*name));
            match name.function() {
                Some(function) if *name == OpName::ReadFrames => assert_eq!(function, "ff_read_attempt_stream"),
                Some(function) => assert_eq!(function, format!("ff_{name}")),
                None => assert_eq!(*name, OpName::TailFrames),
            }
        }
        assert_eq!(OpName::ALL.iter().filter(|n| !n.writes()).count(), 19);
    }
}
