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
    ($($Name:ident),+ $(,)?) => {
        vec![$((stringify!($Name), carried::<$Name>())),+]
    };
}

/// The arguments and the results of every operation, from the list of operations.
macro_rules! of_operations {
    ($($domain:ident: $Trait:ident {
        $($Op:ident = $method:ident($Args:ident) -> $Result:ident, $rw:ident, $within:ident, $function:tt;)*
    })*) => {
        names![$($($Args, $Result),*),*]
    };
}

#[test]
fn every_name_is_a_type_that_can_be_carried() {
    let mut names = operations!(of_operations);
    assert_eq!(names.len(), 2 * OpName::ALL.len());
    names.extend(names![
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
        WaitpointHmacKids,
    ]);
    for (name, of) in &names {
        assert_eq!(of.rsplit("::").next(), Some(*name), "{name} is a name for {of}");
    }
}

#[test]
fn a_cursor_that_cannot_be_parsed_says_why() {
    fn is_error<T: Clone + Debug + PartialEq + Error>(_: &T) {}
    let error: StreamCursorParseError = "".parse::<StreamCursor>().expect_err("empty");
    is_error(&error);
    assert_eq!(error, StreamCursorParseError::Empty);
    const { assert!(STREAM_READ_HARD_CAP > 0) };
}
