//! Suspensions, signals and keys together, by values worked out by hand.

mod keystore;
mod resume;
mod signal;
mod suspend;
mod timeout;
mod waitpoint;

use std::collections::BTreeSet;

use bytes::Bytes;
use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition, SignalView, evaluate, timeout_signal_id};
use ff_core::contracts::*; // the tests speak the whole page
use ff_core::error::EngineError;
use ff_core::ids::{AttemptId, ExecutionId, Kid, LeaseId, SignalId, SuspensionId, WaitpointId};
use ff_core::policy::{Capabilities, ExecutionPolicy, SuspensionPolicy};
use ff_core::refusal::{Code, Details};
use ff_core::state::{BlockingReason, StateName};
use ff_core::token::{WaitpointSecret, WaitpointToken};
use uuid::Uuid;

use crate::model::{Execution, Partition, TimerKey};
use crate::rules::claim::claim_next;
use crate::rules::execution::{cancel_execution, complete_execution, replay_execution};
use crate::rules::keystore::{list_waitpoint_hmac_kids, revoke_waitpoint_kid, rotate_waitpoint_hmac_secret};
use crate::rules::maintenance::sweep;
use crate::rules::signal::{buffer_signal, deliver_signal, list_signals};
use crate::rules::suspension::{
    close_waitpoint, create_pending_waitpoint, expire_suspension, list_pending_waitpoints, resume_execution,
    suspend_execution,
};
use crate::rules::testing::{at, claim, code, create, execution, partition};

const X: u128 = 1;

fn waitpoint(n: u128) -> WaitpointId {
    WaitpointId::from_uuid(Uuid::from_u128(0x700 + n))
}

fn suspension(n: u128) -> SuspensionId {
    SuspensionId::from_uuid(Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8000 + n))
}

fn signal(n: u128) -> SignalId {
    SignalId::from_uuid(Uuid::from_u128(0x5000 + n))
}

fn kid(text: &str) -> Kid {
    text.parse().unwrap()
}

/// One execution that a worker runs, in a partition with a key.
struct Stage {
    p: Partition,
    now: u64,
    fence: Fence,
    signals: u128,
}

type Refused<T> = Result<T, EngineError>;

impl Stage {
    fn new() -> Self {
        Self::with(ExecutionPolicy::default())
    }

    fn with(policy: ExecutionPolicy) -> Self {
        let mut p = partition();
        let key = rotation("k1", 1);
        rotate_waitpoint_hmac_secret(&mut p, at(0), &key).unwrap();
        create(&mut p, at(0), execution(X), policy);
        let fence = claim(&mut p, at(1_000)).fence;
        Self { p, now: 1_000, fence, signals: 0 }
    }

    fn x(&self) -> &Execution {
        assert_level(&self.p);
        self.p.find(&execution(X)).unwrap()
    }

    fn state(&self) -> StateName {
        self.x().record.vector.name().unwrap()
    }

    /// A suspension on one fresh waitpoint, waiting for `go`.
    fn suspension(&self, n: u128) -> SuspendExecutionArgs {
        SuspendExecutionArgs::builder()
            .execution_id(execution(X))
            .fence(self.fence)
            .suspension_id(suspension(n))
            .waitpoints(vec![WaitpointBinding::fresh(waitpoint(n))])
            .reason_code(SuspensionReason::WaitingForApproval)
            .resume_condition(ResumeCondition::signal("go"))
            .timeout(SuspensionTimeout::Never)
            .build()
    }

    fn suspend(&mut self, args: &SuspendExecutionArgs) -> Vec<WaitpointToken> {
        match suspend_execution(&mut self.p, at(self.now), args).unwrap() {
            SuspendExecutionResult::Suspended { waitpoints, .. } => first_tokens(waitpoints),
            other @ SuspendExecutionResult::AlreadySatisfied { .. } => panic!("{other:?}"),
        }
    }

    fn pending(&mut self, n: u128, expires_in_ms: u64) -> Refused<WaitpointToken> {
        let args = CreatePendingWaitpointArgs::builder()
            .execution_id(execution(X))
            .fence(self.fence)
            .waitpoint_id(waitpoint(n))
            .expires_in_ms(expires_in_ms)
            .build();
        match create_pending_waitpoint(&mut self.p, at(self.now), &args)? {
            CreatePendingWaitpointResult::Created { tokens, .. }
            | CreatePendingWaitpointResult::AlreadyExists { tokens, .. } => Ok(tokens[0].token.clone()),
        }
    }

    /// A signal that nobody has sent yet.
    fn signal(&mut self, n: u128, token: &WaitpointToken, name: &str) -> DeliverSignalArgs {
        self.signals += 1;
        DeliverSignalArgs::builder()
            .execution_id(execution(X))
            .waitpoint_id(waitpoint(n))
            .waitpoint_token(token.clone())
            .signal_id(signal(self.signals))
            .name(name)
            .source(SignalSource::new("human", "ann"))
            .build()
    }

    fn deliver(&mut self, args: &DeliverSignalArgs) -> Refused<SignalEffect> {
        match deliver_signal(&mut self.p, at(self.now), args)? {
            DeliverSignalResult::Accepted { effect, .. } => Ok(effect),
            DeliverSignalResult::Duplicate { .. } => panic!("a duplicate"),
        }
    }

    fn send(&mut self, n: u128, token: &WaitpointToken, name: &str) -> Refused<SignalEffect> {
        let args = self.signal(n, token, name);
        self.deliver(&args)
    }

    fn again(&mut self, args: &DeliverSignalArgs) -> (SignalId, SignalEffect) {
        let before = self.p.clone();
        let answer = deliver_signal(&mut self.p, at(self.now), args).unwrap();
        assert_eq!(before, self.p, "a repeat writes nothing");
        match answer {
            DeliverSignalResult::Duplicate { signal_id, effect, .. } => (signal_id, effect),
            other @ DeliverSignalResult::Accepted { .. } => panic!("{other:?}"),
        }
    }

    /// The call must be refused and change nothing.
    fn refused<T: std::fmt::Debug>(&mut self, call: impl FnOnce(&mut Self) -> Refused<T>) -> Details {
        let before = self.p.clone();
        let refusal = match call(self) {
            Err(EngineError::Refused(refusal)) => refusal,
            other => panic!("no refusal: {other:?}"),
        };
        assert_eq!(before, self.p, "{refusal} changed something");
        refusal.details().clone()
    }

    fn refused_suspend(&mut self, args: &SuspendExecutionArgs) -> Details {
        self.refused(|s| suspend_execution(&mut s.p, at(s.now), args))
    }

    fn refused_signal(&mut self, args: &DeliverSignalArgs) -> Details {
        self.refused(|s| deliver_signal(&mut s.p, at(s.now), args))
    }

    fn sweep(&mut self) {
        sweep(&mut self.p, at(self.now), &SweepArgs::builder().partition(0).build()).unwrap();
    }

    /// Claims the resumed attempt; what it is told.
    fn resumed(&mut self) -> ResumeInfo {
        let args = ClaimNextArgs {
            partition: 0,
            lane_id: "l".parse().unwrap(),
            worker_id: "w".parse().unwrap(),
            worker_instance_id: "w-1".parse().unwrap(),
            capabilities: Capabilities::none(),
            slots: vec![ClaimSlot::new()],
            lease_ttl_ms: 60_000,
        };
        let answer = claim_next(&mut self.p, at(self.now), &args).unwrap();
        self.fence = answer.claimed[0].claimed().fence;
        match &answer.claimed[0] {
            NextClaim::Resumed(ClaimedResumedExecution { cause: ResumeCause::Suspension(info), .. }) => info.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn first_tokens(waitpoints: Vec<IssuedWaitpoint>) -> Vec<WaitpointToken> {
    waitpoints.into_iter().map(|w| w.tokens[0].token.clone()).collect()
}

fn rotation(new_kid: &str, byte: u8) -> RotateWaitpointHmacSecretArgs {
    RotateWaitpointHmacSecretArgs::builder()
        .partition(0)
        .new_kid(kid(new_kid))
        .new_secret(WaitpointSecret::new([byte; 32]))
        .build()
}

/// Every timer that the records imply is armed, and no other.
fn assert_level(p: &Partition) {
    let implied: BTreeSet<TimerKey> = p.executions().flat_map(Execution::implied_timers).collect();
    assert_eq!(p.timers, implied);
}

fn after(after_ms: u64, behavior: TimeoutBehavior) -> SuspensionTimeout {
    SuspensionTimeout::After { after_ms, behavior }
}

fn resume(s: &mut Stage, by: &str, suspension_id: Option<SuspensionId>) -> Refused<ResumeExecutionResult> {
    let args = ResumeExecutionArgs::builder()
        .execution_id(execution(X))
        .maybe_suspension_id(suspension_id)
        .by(by)
        .reason("looked at it")
        .build();
    resume_execution(&mut s.p, at(s.now), &args)
}

fn expire(s: &mut Stage, n: u128) -> ExpireSuspensionResult {
    let args = ExpireSuspensionArgs { execution_id: execution(X), suspension_id: suspension(n) };
    expire_suspension(&mut s.p, at(s.now), &args).unwrap()
}

fn cause(result: ExpireSuspensionResult) -> NotDueCause {
    match result {
        ExpireSuspensionResult::NotDue { cause, .. } => cause,
        other @ ExpireSuspensionResult::Expired { .. } => panic!("{other:?}"),
    }
}

fn listed(s: &Stage, matched_only: bool) -> ListSignalsResult {
    let args = ListSignalsArgs::builder().execution_id(execution(X)).matched_only(matched_only).build();
    list_signals(&s.p, at(s.now), &args).unwrap()
}

fn open(s: &Stage, include_tokens: bool) -> Vec<PendingWaitpointInfo> {
    let args = ListPendingWaitpointsArgs::builder().execution_id(execution(X)).include_tokens(include_tokens).build();
    list_pending_waitpoints(&s.p, at(s.now), &args).unwrap().waitpoints
}
