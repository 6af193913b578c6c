//! The names that others build on: each is reached flat, and can be copied, shown, compared and carried.

use std::error::Error;
use std::fmt::Debug;

use ff_core::contracts::*; // that they are reached so is what is tested
use ff_core::operation::OpName;
use ff_core::operations;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn carried<T: Clone + Debug + PartialEq + Serialize + DeserializeOwned>() -> &'static str {
    std::any::type_name::<T>()
}

macro_rules! names {
    ($($Name:ident),+) => {
        [$((stringify!($Name), carried::<$Name>())),+]
    };
}

#[test]
fn every_name_is_a_type_that_can_be_carried() {
    let names = names![
        AddExecutionToFlowArgs,
        AddExecutionToFlowResult,
        AppendFrameArgs,
        AppendFrameResult,
        ApplyDependencyToChildArgs,
        ApplyDependencyToChildResult,
        BlockExecutionArgs,
        BlockExecutionResult,
        BufferSignalArgs,
        BufferSignalResult,
        CancelExecutionArgs,
        CancelExecutionResult,
        CancelFlowArgs,
        CancelFlowResult,
        ChangePriorityArgs,
        ChangePriorityResult,
        CheckAdmissionArgs,
        CheckAdmissionResult,
        ClaimExecutionArgs,
        ClaimExecutionResult,
        ClaimResumedExecutionArgs,
        ClaimResumedExecutionResult,
        CloseWaitpointArgs,
        CloseWaitpointResult,
        CompleteExecutionArgs,
        CompleteExecutionResult,
        CreateBudgetArgs,
        CreateBudgetResult,
        CreateExecutionArgs,
        CreateExecutionResult,
        CreateFlowArgs,
        CreateFlowResult,
        CreatePendingWaitpointArgs,
        CreatePendingWaitpointResult,
        CreateQuotaPolicyArgs,
        CreateQuotaPolicyResult,
        DelayExecutionArgs,
        DelayExecutionResult,
        DeliverSignalArgs,
        DeliverSignalResult,
        EvaluateFlowEligibilityArgs,
        EvaluateFlowEligibilityResult,
        ExpireExecutionArgs,
        ExpireExecutionResult,
        ExpireSuspensionArgs,
        ExpireSuspensionResult,
        FailExecutionArgs,
        FailExecutionResult,
        IssueClaimGrantArgs,
        IssueClaimGrantResult,
        IssueReclaimGrantArgs,
        IssueReclaimGrantResult,
        MarkLeaseExpiredArgs,
        MarkLeaseExpiredResult,
        MoveToWaitingChildrenArgs,
        MoveToWaitingChildrenResult,
        PromoteBlockedToEligibleArgs,
        PromoteBlockedToEligibleResult,
        ReadFramesArgs,
        ReadFramesResult,
        ReclaimExecutionArgs,
        ReclaimExecutionResult,
        ReleaseAdmissionArgs,
        ReleaseAdmissionResult,
        RenewLeaseArgs,
        RenewLeaseResult,
        ReplayExecutionArgs,
        ReplayExecutionResult,
        ReportUsageArgs,
        ReportUsageResult,
        ResetBudgetArgs,
        ResetBudgetResult,
        ResolveDependencyArgs,
        ResolveDependencyResult,
        ResumeExecutionArgs,
        ResumeExecutionResult,
        RevokeLeaseArgs,
        RevokeLeaseResult,
        SetExecutionTagsArgs,
        SetExecutionTagsResult,
        SetFlowTagsArgs,
        SetFlowTagsResult,
        StageDependencyEdgeArgs,
        StageDependencyEdgeResult,
        SuspendExecutionArgs,
        SuspendExecutionResult,
        UnblockExecutionArgs,
        UnblockExecutionResult,
        UpdateProgressArgs,
        UpdateProgressResult,
        ListWaitpointHmacKidsArgs,
        RotateWaitpointHmacSecretArgs,
        RotateWaitpointHmacSecretOutcome,
        AttemptSummary,
        BudgetStatus,
        ClaimGrant,
        ClaimedExecution,
        ClaimedResumedExecution,
        EdgeDirection,
        EdgeSnapshot,
        ExecutionInfo,
        ExecutionSnapshot,
        ExecutionSummary,
        FlowSnapshot,
        LeaseSummary,
        ListExecutionsResult,
        PendingWaitpointInfo,
        ReclaimGrant,
        StateSummary,
        StreamCursor,
        StreamFrame,
        StreamFrames,
        VerifyingKid,
        WaitpointHmacKids
    ];
    assert_eq!(names.len(), 114);
}

/// The arguments and the results of every operation, from the list of operations.
macro_rules! of_operations {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => {
        names![$($($Args),*),*].into_iter().chain(names![$($($Result),*),*]).collect::<Vec<_>>()
    };
}

#[test]
fn what_operations_take_and_give_can_be_carried() {
    assert_eq!(operations!(of_operations).len(), 2 * OpName::ALL.len());
}

#[test]
fn a_cursor_that_cannot_be_parsed_says_why() {
    fn is_error<T: Clone + Debug + PartialEq + Error>(_: &T) {}
    let error: StreamCursorParseError = "".parse::<StreamCursor>().expect_err("empty");
    is_error(&error);
    assert_eq!(error, StreamCursorParseError::Empty);
    const { assert!(STREAM_READ_HARD_CAP > 0) };
}
