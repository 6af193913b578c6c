//! Suspensions, signals and keys together, by values worked out by hand.

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

#[test]
fn a_signal_resumes_the_same_attempt_and_its_retry_is_a_duplicate_for_ever() {
    let mut s = Stage::new();
    let attempt = s.fence.attempt_id;
    let mut args = s.suspension(1);
    args.continuation = Some(Bytes::from_static(b"step 3"));
    let token = s.suspend(&args).remove(0);
    assert_eq!(s.state(), StateName::Suspended);
    assert_eq!(s.x().record.vector.blocking_reason, BlockingReason::WaitingForApproval);
    assert_eq!(s.x().record.lease, None);

    assert_eq!(s.send(1, &token, "noise").unwrap(), SignalEffect::NoOp);
    let mut go = s.signal(1, &token, "go");
    go.payload = Bytes::from((0..=255).collect::<Vec<u8>>());
    go.idempotency_key = Some("k".to_owned());
    s.now += 5;
    assert_eq!(s.deliver(&go).unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!(s.state(), StateName::Ready);

    let info = s.resumed();
    assert_eq!((info.trigger, info.suspension_id), (ResumeTrigger::Signal, suspension(1)));
    assert_eq!(info.continuation.as_deref(), Some(&b"step 3"[..]));
    assert_eq!((info.matched.total, info.matched.closer), (1, Some(go.signal_id)));
    assert_eq!(info.matched.first[0].payload, Some(go.payload.clone()));
    assert_eq!((s.fence.attempt_id, s.fence.lease_epoch.get()), (attempt, 2));

    // The same signal again: by its key under another id, by its id without the key; after the next suspend too.
    let mut by_key = go.clone();
    by_key.signal_id = signal(900);
    let mut by_id = go.clone();
    by_id.idempotency_key = None;
    s.suspend(&s.suspension(2));
    for args in [&go, &by_key, &by_id] {
        assert_eq!(s.again(args), (go.signal_id, SignalEffect::ResumeConditionSatisfied));
    }
    let mut other = go.clone();
    other.payload = Bytes::from_static(b"other");
    let first = Details::SignalConflict { signal_id: go.signal_id };
    assert_eq!(s.refused_signal(&other), first);
    let fresh = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::Satisfied };
    assert_eq!(s.refused_signal(&fresh), closed);
}

#[test]
fn a_repeated_suspend_gets_the_first_answer_under_the_current_kid_and_another_is_a_conflict() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.timeout = after(100, TimeoutBehavior::AutoResume);
    let first = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    s.now += 50;
    let before = s.p.clone();
    assert_eq!(suspend_execution(&mut s.p, at(s.now), &args).unwrap(), first);
    assert_eq!(before, s.p);

    rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k2", 2)).unwrap();
    s.now += 50;
    s.sweep();
    assert_eq!(s.state(), StateName::Ready);
    let SuspendExecutionResult::Suspended { waitpoints, timeout_at, .. } =
        suspend_execution(&mut s.p, at(s.now), &args).unwrap()
    else {
        panic!("the first variant");
    };
    assert_eq!((timeout_at, waitpoints[0].tokens[0].token.kid()), (Some(at(1_100)), Some(kid("k2"))));

    let mut other = args.clone();
    other.detail = Some("?".to_owned());
    assert_eq!(s.refused_suspend(&other), Details::SuspensionConflict {});
    let mut other = args.clone();
    other.fence.attempt_id = AttemptId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused_suspend(&other), Details::SuspensionConflict {});
}

#[test]
fn a_refused_suspend_leaves_every_record_as_it_was() {
    let mut s = Stage::new();
    let token = s.pending(8, 1_000).unwrap();
    s.send(8, &token, "go").unwrap();
    let good = s.suspension(1);

    let mut args = good.clone();
    args.fence.lease_id = LeaseId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused_suspend(&args), Details::StaleLease {});
    let invalid = |path: &str, reason| Details::InvalidResumeCondition { path: path.to_owned(), reason };
    let mut args = good.clone();
    args.resume_condition = ResumeCondition::timeout_only();
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::NeedsTimeout));
    args.resume_condition = ResumeCondition::operator_only();
    args.resume_policy.allow_operator_override = false;
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::NeedsOverride));
    let mut args = good.clone();
    args.resume_condition = ResumeCondition::count(2, Distinct::Sources, "go");
    assert_eq!(s.refused_suspend(&args), invalid("/root", ConditionFault::TooFewSources));
    let mut args = good.clone();
    args.waitpoints = vec![WaitpointBinding::fresh(waitpoint(8))];
    assert_eq!(s.refused_suspend(&args), Details::WaitpointAlreadyExists { state: WaitpointState::Pending });
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(9))];
    assert_eq!(s.refused_suspend(&args), Details::WaitpointNotFound {});

    // At its exact expiry it is too late, swept or not; one millisecond earlier it is activated and never expires.
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(8))];
    let mut early = Stage { p: s.p.clone(), now: 1_999, fence: s.fence, signals: 0 };
    assert!(suspend_execution(&mut early.p, at(1_999), &args).is_ok());
    s.now = 2_000;
    assert_eq!(s.refused_suspend(&args), Details::PendingWaitpointExpired {});
    assert_eq!(code(s.pending(8, 1_000)), Code::WaitpointAlreadyExists);
    s.sweep();
    assert_eq!(s.refused_suspend(&args), Details::PendingWaitpointExpired {});
    assert_eq!(s.state(), StateName::Running);
}

#[test]
fn a_partition_without_a_key_suspends_without_waitpoints_only() {
    let mut s = Stage::new();
    s.p.keystore = crate::model::Keystore::default();
    let args = s.suspension(1);
    assert_eq!(s.refused_suspend(&args), Details::HmacSecretNotInitialized {});
    assert_eq!(s.refused(|s| s.pending(1, 10)), Details::HmacSecretNotInitialized {});
    let mut args = args;
    args.waitpoints = Vec::new();
    args.resume_condition = ResumeCondition::operator_only();
    assert_eq!(s.suspend(&args), []);
    assert!(open(&s, true).is_empty());
    let args = s.signal(1, &WaitpointToken::new("ffw1.k1.x"), "go");
    assert_eq!(s.refused_signal(&args), Details::InvalidToken {});
}

#[test]
fn buffered_signals_satisfy_across_waitpoints_and_keep_the_lease() {
    let mut s = Stage::new();
    let tokens = [s.pending(1, 1_000).unwrap(), s.pending(2, 1_000).unwrap()];
    let sent = [(2, "b"), (1, "noise"), (1, "a"), (2, "late")].map(|(n, name)| {
        let args = s.signal(n, &tokens[n as usize - 1], name);
        assert_eq!(s.deliver(&args).unwrap(), SignalEffect::BufferedForPendingWaitpoint);
        args
    });
    let mut args = s.suspension(1);
    args.waitpoints = vec![WaitpointBinding::pending(waitpoint(2)), WaitpointBinding::pending(waitpoint(1))];
    args.resume_condition = ResumeCondition::all_of([
        Condition::signal_at(waitpoint(1), "a"),
        Condition::signal_at(waitpoint(2), Matcher::named("b")),
    ]);
    args.timeout = after(500, TimeoutBehavior::Fail);
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    let SuspendExecutionResult::AlreadySatisfied { matched, waitpoints, .. } = &answer else { panic!("{answer:?}") };
    assert_eq!((matched.total, matched.closer), (2, Some(sent[2].signal_id)));
    assert_eq!(matched.first.iter().map(|m| m.signal_id).collect::<Vec<_>>(), [sent[0].signal_id, sent[2].signal_id]);
    assert_eq!(waitpoints[0].waitpoint_id, waitpoint(2));
    assert_eq!((s.state(), s.x().record.waitpoint_count), (StateName::Running, 2));
    assert_eq!(suspend_execution(&mut s.p, at(s.now), &args).unwrap(), answer);
    let effects = [
        SignalEffect::AppendedToWaitpoint,
        SignalEffect::NoOp,
        SignalEffect::ResumeConditionSatisfied,
        SignalEffect::NoOp,
    ];
    assert_eq!(listed(&s, false).signals.iter().map(|i| i.effect).collect::<Vec<_>>(), effects);
    for (args, effect) in sent.iter().zip(effects) {
        assert_eq!(s.again(args), (args.signal_id, effect));
    }

    // The ids are spent: an old token does not reach a later suspension.
    s.suspend(&s.suspension(3));
    let old = s.signal(1, &tokens[0], "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::Satisfied };
    assert_eq!(s.refused_signal(&old), closed);
    assert!(listed(&s, false).signals.is_empty());
}

#[test]
fn a_pending_waitpoint_that_is_not_named_waits_on_and_one_that_closes_lets_its_signals_come_to_nothing() {
    let mut s = Stage::new();
    let tokens = [s.pending(2, 5_000).unwrap(), s.pending(3, 5_000).unwrap(), s.pending(4, 1_000).unwrap()];
    let sent = [2, 3, 4].map(|n| {
        let args = s.signal(n, &tokens[n as usize - 2], "go");
        s.deliver(&args).unwrap();
        args
    });
    let close = |fence: Fence, n| CloseWaitpointArgs {
        execution_id: execution(X),
        fence,
        waitpoint_id: waitpoint(n),
        reason: "not needed".to_owned(),
    };
    let mut foreign = close(s.fence, 3);
    foreign.fence.lease_id = LeaseId::from_uuid(Uuid::from_u128(9));
    assert_eq!(s.refused(|s| close_waitpoint(&mut s.p, at(s.now), &foreign)), Details::StaleLease {});
    let args = close(s.fence, 3);
    assert!(matches!(close_waitpoint(&mut s.p, at(s.now), &args), Ok(CloseWaitpointResult::Closed { .. })));
    let before = s.p.clone();
    let again = close_waitpoint(&mut s.p, at(s.now), &foreign).unwrap();
    let withdrawn = WaitpointCloseReason::Withdrawn;
    assert!(matches!(again, CloseWaitpointResult::AlreadyClosed { close_reason, .. } if close_reason == withdrawn));
    assert_eq!(before, s.p);

    s.suspend(&s.suspension(1));
    assert_eq!(
        open(&s, false).iter().map(|w| w.state).collect::<Vec<_>>(),
        [WaitpointState::Active, WaitpointState::Pending, WaitpointState::Pending]
    );
    let active = s.refused(|s| close_waitpoint(&mut s.p, at(s.now), &close(s.fence, 1)));
    assert_eq!(active, Details::WaitpointInUse {});
    let never = SignalEffect::NoOpWaitpointNeverActivated;
    assert_eq!(s.again(&sent[1]).1, never);
    assert_eq!(s.again(&sent[2]).1, SignalEffect::BufferedForPendingWaitpoint);
    s.now = 2_000;
    assert_eq!(s.again(&sent[2]).1, never, "aged out, not swept");
    assert_eq!(open(&s, true).len(), 2);

    resume(&mut s, "ann", None).unwrap();
    s.resumed();
    let mut args = s.suspension(5);
    args.waitpoints.push(WaitpointBinding::pending(waitpoint(2)));
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    assert!(matches!(answer, SuspendExecutionResult::AlreadySatisfied { .. }), "{answer:?}");
}

#[test]
fn each_timeout_behaviour_gives_its_state_and_close_reasons_and_one_timeout_signal() {
    use SuspensionCloseReason as Closed;
    let auto = TimeoutBehavior::AutoResume;
    for (behavior, state, reason) in [
        (TimeoutBehavior::Fail, StateName::Done, Some(Closed::TimedOutFail)),
        (TimeoutBehavior::Cancel, StateName::Done, Some(Closed::TimedOutCancel)),
        (TimeoutBehavior::Expire, StateName::Done, Some(Closed::TimedOutExpire)),
        (auto, StateName::Ready, Some(Closed::TimedOutAutoResume)),
        (TimeoutBehavior::Escalate { fail_after_ms: None }, StateName::Suspended, None),
    ] {
        for by_sweep in [false, true] {
            let mut s = Stage::new();
            s.pending(9, 86_400_000).unwrap();
            let mut args = s.suspension(1);
            args.resume_condition = ResumeCondition::count(2, Distinct::Signals, "go");
            args.timeout = after(100, behavior);
            let token = s.suspend(&args).remove(0);
            assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::AppendedToWaitpoint);
            s.now = 1_099;
            assert_eq!(cause(expire(&mut s, 1)), NotDueCause::Early);
            assert_eq!(cause(expire(&mut s, 2)), NotDueCause::Stale);
            s.now = 1_100;
            let late = s.signal(1, &token, "go");
            let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::TimedOut };
            assert_eq!(s.refused_signal(&late), closed);
            let refused = s.refused(|s| resume(s, "ann", None));
            assert_eq!(refused, Details::SuspensionTimedOut {});
            assert!(open(&s, false).iter().all(|w| w.state == WaitpointState::Pending));
            if by_sweep {
                s.sweep();
            } else {
                let answer = expire(&mut s, 1);
                assert!(matches!(answer, ExpireSuspensionResult::Expired { behavior: b, .. } if b == behavior));
            }
            assert_eq!(s.refused_signal(&late), closed);
            let x = s.x();
            assert_eq!(s.state(), state, "{behavior:?}");
            assert_eq!(x.suspension.as_ref().unwrap().close_reason, reason);
            assert_eq!(x.history.waitpoints[&waitpoint(1)].close_reason, Some(WaitpointCloseReason::TimedOut));
            let of_attempt = (state == StateName::Done).then_some(WaitpointCloseReason::ExecutionEnded);
            assert_eq!(x.history.waitpoints[&waitpoint(9)].close_reason, of_attempt);
            assert_eq!((x.record.signal_count, x.record.next_signal_seq), (1, 3));
            let matched = listed(&s, true).signals;
            let timeout = &matched[1];
            assert_eq!(matched.len(), 2);
            assert_eq!(timeout.signal_id.to_string(), "01890a5d-ac96-874b-bcce-b302099a8001");
            assert_eq!((timeout.name.as_str(), timeout.effect), ("timeout", SignalEffect::TimeoutFired));
            let again = cause(expire(&mut s, 1));
            match state {
                StateName::Done => assert_eq!(again, NotDueCause::Terminal),
                StateName::Ready => assert_eq!(again, NotDueCause::Stale),
                _ => assert_eq!(again, NotDueCause::NotArmed),
            }
            if behavior == auto {
                let info = s.resumed();
                assert_eq!((info.trigger, info.matched.total, info.matched.closer), (ResumeTrigger::Timeout, 2, None));
            }
        }
    }
}

#[test]
fn an_escalated_suspension_waits_for_an_operator_and_then_fails_with_a_second_timeout_signal() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.timeout = after(100, TimeoutBehavior::Escalate { fail_after_ms: Some(50) });
    s.suspend(&args);
    s.now = 1_100;
    s.sweep();
    assert_eq!(s.x().record.vector.blocking_reason, BlockingReason::PausedByOperator);
    let mut other = Stage { p: s.p.clone(), now: s.now, fence: s.fence, signals: 0 };
    resume(&mut other, "ann", Some(suspension(1))).unwrap();
    assert_eq!(other.resumed().trigger, ResumeTrigger::Operator);

    s.now = 1_149;
    assert_eq!(cause(expire(&mut s, 1)), NotDueCause::Early);
    s.now = 1_150;
    s.sweep();
    assert_eq!(s.state(), StateName::Done);
    let ids = listed(&s, true).signals.iter().map(|i| i.signal_id).collect::<Vec<_>>();
    assert_eq!(ids, [false, true].map(|second| timeout_signal_id(suspension(1), second)));
    let s = s.x().suspension.as_ref().unwrap();
    assert_eq!((s.timeout_at, s.close_reason), (Some(at(1_150)), Some(SuspensionCloseReason::TimedOutFail)));
}

#[test]
fn the_policys_timeout_applies_unless_the_call_says_otherwise() {
    let policy = SuspensionPolicy::builder().default_timeout_ms(70).default_timeout_behavior(TimeoutBehavior::Cancel);
    let policy = ExecutionPolicy::builder().suspension(policy.build()).build();
    for (timeout, timeout_at) in [
        (SuspensionTimeout::Default, Some(at(1_070))),
        (SuspensionTimeout::Never, None),
        (after(5, TimeoutBehavior::Fail), Some(at(1_005))),
    ] {
        let mut s = Stage::with(policy.clone());
        let mut args = s.suspension(1);
        args.timeout = timeout;
        s.suspend(&args);
        assert_eq!(s.x().suspension.as_ref().unwrap().timeout_at, timeout_at);
        if timeout_at.is_none() {
            assert_eq!(cause(expire(&mut s, 1)), NotDueCause::NotArmed);
        }
    }
}

#[test]
fn an_operators_resume_honours_the_delay_and_repeats_for_the_same_operator_only() {
    let mut s = Stage::new();
    let mut args = s.suspension(1);
    args.resume_policy.resume_delay_ms = 50;
    s.suspend(&args);
    let stale = s.refused(|s| resume(s, "ann", Some(suspension(7))));
    assert_eq!(stale, Details::StaleSuspension { suspension_id: Some(suspension(1)) });
    let first = resume(&mut s, "ann", Some(suspension(1))).unwrap();
    assert_eq!(s.state(), StateName::Delayed);
    let before = s.p.clone();
    assert_eq!(resume(&mut s, "ann", Some(suspension(1))).unwrap(), first);
    assert_eq!(before, s.p);
    for (by, id) in [("bob", Some(suspension(1))), ("ann", None)] {
        assert!(matches!(s.refused(|s| resume(s, by, id)), Details::ExecutionNotSuspended { .. }));
    }
    s.now += 50;
    let info = s.resumed();
    assert_eq!((info.trigger, info.operator.unwrap().by.as_str()), (ResumeTrigger::Operator, "ann"));

    let mut args = s.suspension(2);
    args.resume_policy.allow_operator_override = false;
    s.suspend(&args);
    assert_eq!(s.refused(|s| resume(s, "ann", None)), Details::OperatorOverrideForbidden {});
}

#[test]
fn what_ends_the_execution_closes_its_suspension_and_the_ids_stay_spent_after_a_replay() {
    let mut s = Stage::new();
    let args = s.suspension(1);
    let token = s.suspend(&args).remove(0);
    let cancel = CancelExecutionArgs {
        execution_id: execution(X),
        actor: Actor::Operator { identity: "ann".to_owned() },
        reason: "no".to_owned(),
    };
    cancel_execution(&mut s.p, at(s.now), &cancel).unwrap();
    let late = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::ExecutionEnded };
    assert_eq!(s.refused_signal(&late), closed);
    let replay =
        ReplayExecutionArgs::builder().execution_id(execution(X)).replay_count(0).reason("r").by("ann").build();
    replay_execution(&mut s.p, at(s.now), &replay).unwrap();
    s.fence = claim(&mut s.p, at(s.now)).fence;
    let mut again = s.suspension(1);
    assert_eq!(s.refused_suspend(&again), Details::SuspensionConflict {});
    again.suspension_id = suspension(2);
    assert_eq!(s.refused_suspend(&again), Details::WaitpointAlreadyExists { state: WaitpointState::Closed });
}

#[test]
fn behind_a_thousand_signals_of_noise_the_one_that_satisfies_is_accepted() {
    let mut s = Stage::new();
    let token = s.suspend(&s.suspension(1)).remove(0);
    for _ in 0..1_000 {
        assert_eq!(s.send(1, &token, "noise").unwrap(), SignalEffect::NoOp);
    }
    let noise = s.signal(1, &token, "noise");
    let limit = |scope, max| Details::SignalLimitExceeded { scope, max };
    assert_eq!(s.refused_signal(&noise), limit(SignalLimitScope::Waitpoint, 1_000));
    assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!((s.state(), s.x().record.signal_count), (StateName::Ready, 1_001));
}

#[test]
fn a_quorum_needs_two_bound_tokens_and_each_source_has_a_share_and_keys_of_its_own() {
    let mut s = Stage::new();
    let sources = [SignalSource::new("a:b", "c"), SignalSource::new("a", "b:c")];
    let mut args = s.suspension(1);
    args.waitpoints = vec![WaitpointBinding::Fresh { waitpoint_id: waitpoint(1), sources: sources.to_vec() }];
    args.resume_condition = ResumeCondition::count(2, Distinct::Sources, "go");
    let answer = suspend_execution(&mut s.p, at(s.now), &args).unwrap();
    let SuspendExecutionResult::Suspended { waitpoints, .. } = answer else { panic!("{answer:?}") };
    let tokens: Vec<_> = waitpoints[0].tokens.iter().map(|t| t.token.clone()).collect();
    assert_eq!(waitpoints[0].tokens.iter().map(|t| t.source.clone().unwrap()).collect::<Vec<_>>(), sources);

    let call = |s: &mut Stage, token: usize, source: usize, name: &str| {
        let mut args = s.signal(1, &tokens[token], name);
        args.source = sources[source].clone();
        args
    };
    let foreign = call(&mut s, 0, 1, "go");
    assert_eq!(s.refused_signal(&foreign), Details::TokenSourceMismatch {});
    for _ in 0..250 {
        let args = call(&mut s, 0, 0, "noise");
        s.deliver(&args).unwrap();
    }
    let args = call(&mut s, 0, 0, "noise");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Source, max: 250 };
    assert_eq!(s.refused_signal(&args), limit);
    let mut args = call(&mut s, 0, 0, "go");
    args.idempotency_key = Some("one".to_owned());
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::AppendedToWaitpoint);
    let again = call(&mut s, 0, 0, "go");
    assert_eq!(s.refused_signal(&again), limit, "a second one of the same source adds nothing");
    let progress = open(&s, false)[0].suspension.as_ref().unwrap().progress.clone();
    assert_eq!((progress[0].path.as_str(), progress[0].have, progress[0].need), ("/root", 1, 2));
    let mut args = call(&mut s, 1, 1, "go");
    args.idempotency_key = Some("one".to_owned());
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::ResumeConditionSatisfied);
}

#[test]
fn a_run_takes_its_number_of_signals_and_16_mib_of_what_does_not_contribute() {
    let mut s = Stage::with(ExecutionPolicy::builder().max_signals(300).build());
    let token = s.suspend(&s.suspension(1)).remove(0);
    let big = Bytes::from(vec![0; 65_536]);
    for n in 0..257 {
        let mut args = s.signal(1, &token, "noise");
        args.payload = big.clone();
        if n < 256 {
            s.deliver(&args).unwrap();
        } else {
            let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Payload, max: 16 << 20 };
            assert_eq!(s.refused_signal(&args), limit);
        }
    }
    for _ in 256..300 {
        s.send(1, &token, "noise").unwrap();
    }
    let noise = s.signal(1, &token, "noise");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Execution, max: 300 };
    assert_eq!(s.refused_signal(&noise), limit);
    let mut args = s.signal(1, &token, "go");
    args.payload = big;
    assert_eq!(s.deliver(&args).unwrap(), SignalEffect::ResumeConditionSatisfied);
    assert_eq!((s.x().record.signal_bytes, s.x().record.signal_count), (16 << 20, 301));

    // 16 payloads of 64 KiB fill a page of 1 MiB; the cursor is of no use when the execution has suspended again.
    let mut args = ListSignalsArgs::builder().execution_id(execution(X)).limit(1_000).build();
    let page = list_signals(&s.p, at(s.now), &args).unwrap();
    assert_eq!((page.signals.len(), page.next_cursor.is_some()), (16, true));
    args.cursor = page.next_cursor;
    assert_eq!(list_signals(&s.p, at(s.now), &args).unwrap().signals[0].seq, 17);
    s.resumed();
    s.suspend(&s.suspension(2));
    assert_eq!(code(list_signals(&s.p, at(s.now), &args)), Code::StaleSuspension);
}

#[test]
fn a_thousand_signals_are_buffered_over_all_pending_waitpoints_and_sixteen_of_these_are_open() {
    let mut s = Stage::new();
    let tokens = [s.pending(1, 1_000).unwrap(), s.pending(2, 2_000).unwrap()];
    for n in 0..1_000 {
        let of = n % 2 + 1;
        s.send(of, &tokens[of as usize - 1], "x").unwrap();
    }
    let one_more = s.signal(2, &tokens[1], "x");
    let limit = Details::SignalLimitExceeded { scope: SignalLimitScope::Buffered, max: 1_000 };
    assert_eq!(s.refused_signal(&one_more), limit);
    for n in 3..=16 {
        s.pending(n, 2_000).unwrap();
    }
    let limit = Details::WaitpointLimitExceeded { scope: WaitpointLimitScope::Pending, max: 16 };
    assert_eq!(s.refused(|s| s.pending(17, 1_000)), limit);
    // One aged out, swept or not: it and what was buffered on it count no more.
    s.now = 2_000;
    s.pending(17, 1_000).unwrap();
    s.deliver(&one_more).unwrap();
}

#[test]
fn buffer_signal_wants_a_pending_waitpoint_and_shares_the_dedup_table() {
    let mut s = Stage::new();
    let pending = s.pending(2, 1_000).unwrap();
    let token = s.suspend(&s.suspension(1)).remove(0);
    let buffer = |args: &DeliverSignalArgs| {
        let token = if args.waitpoint_id == waitpoint(1) { &token } else { &pending };
        let args = args.clone();
        BufferSignalArgs::builder()
            .execution_id(args.execution_id)
            .waitpoint_id(args.waitpoint_id)
            .waitpoint_token(token.clone())
            .signal_id(args.signal_id)
            .name(args.name)
            .source(args.source)
            .maybe_idempotency_key(args.idempotency_key)
            .build()
    };
    let active = buffer(&s.signal(1, &token, "go"));
    let refused = s.refused(|s| buffer_signal(&mut s.p, at(s.now), &active));
    assert_eq!(refused, Details::WaitpointNotPending { state: WaitpointState::Active });
    let mut args = s.signal(2, &pending, "go");
    args.idempotency_key = Some("k".to_owned());
    let answer = buffer_signal(&mut s.p, at(s.now), &buffer(&args)).unwrap();
    assert!(matches!(answer, BufferSignalResult::Buffered { .. }));
    assert_eq!(s.again(&args), (args.signal_id, SignalEffect::BufferedForPendingWaitpoint));
    s.now = 2_000;
    let late = buffer(&s.signal(2, &pending, "go"));
    let refused = s.refused(|s| buffer_signal(&mut s.p, at(s.now), &late));
    assert_eq!(refused, Details::WaitpointClosed { close_reason: WaitpointCloseReason::Expired });
}

#[test]
fn a_token_lives_as_long_as_its_kid() {
    const DAY: u64 = 86_400_000;
    let mut s = Stage::new();
    let rotate =
        |s: &mut Stage, kid: &str, byte| rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation(kid, byte));
    let old = s.suspend(&s.suspension(1)).remove(0);
    s.now = 2_000;
    rotate(&mut s, "k2", 2).unwrap();
    let refused_with = |s: &mut Stage| {
        let args = s.signal(1, &old, "noise");
        s.refused_signal(&args)
    };
    s.now = 2_000 + DAY - 1;
    s.send(1, &old, "noise").unwrap();
    s.now = 2_000 + DAY;
    assert_eq!(refused_with(&mut s), Details::TokenExpired {});
    assert!(
        list_waitpoint_hmac_kids(&s.p, at(s.now), &ListWaitpointHmacKidsArgs { partition: 0 })
            .unwrap()
            .verifying
            .is_empty()
    );
    assert_eq!(s.refused(|s| rotate(s, "k1", 1)), Details::KidRetired { revoked: false });
    assert_eq!(s.refused(|s| rotate(s, "k1", 9)), Details::RotationConflict { kid: kid("k1") });
    s.now = 2_000 + 2 * DAY;
    assert_eq!(refused_with(&mut s), Details::InvalidToken {});
    assert!(s.p.keystore.kids[&kid("k1")].secret.is_some());

    // The next rotation takes the secret; the clock that steps back does not bring the kid back.
    rotate(&mut s, "k3", 3).unwrap();
    assert!(s.p.keystore.kids[&kid("k1")].secret.is_none());
    s.now = 2_001;
    assert_eq!(refused_with(&mut s), Details::InvalidToken {});
    s.now = 2_000 + 2 * DAY;
    assert_eq!(s.refused(|s| rotate(s, "k1", 1)), Details::KidRetired { revoked: false });

    // The approval outlives its kid: the listing issues a token anew.
    let token = open(&s, true)[0].tokens[0].token.clone();
    assert_eq!(token.kid(), Some(kid("k3")));
    let revoke = |s: &mut Stage, of: &str| {
        revoke_waitpoint_kid(&mut s.p, at(s.now), &RevokeWaitpointKidArgs { partition: 0, kid: kid(of) })
    };
    assert_eq!(s.refused(|s| revoke(s, "k3")), Details::KidIsCurrent {});
    assert_eq!(s.refused(|s| revoke(s, "k9")), Details::KidNotFound {});
    rotate(&mut s, "k4", 4).unwrap();
    let before = s.p.clone();
    let repeat = rotate(&mut s, "k4", 4).unwrap();
    assert_eq!(repeat, RotateWaitpointHmacSecretOutcome::AlreadyCurrent { kid: kid("k4") });
    assert_eq!(before, s.p);
    assert_eq!(
        rotate(&mut s, "k3", 3).unwrap(),
        RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: Some(kid("k4")), new_kid: kid("k3") }
    );
    rotate(&mut s, "k5", 5).unwrap();
    assert_eq!(revoke(&mut s, "k4").unwrap(), RevokeWaitpointKidResult::Revoked { kid: kid("k4") });
    assert_eq!(revoke(&mut s, "k4").unwrap(), RevokeWaitpointKidResult::AlreadyRevoked { kid: kid("k4") });
    assert_eq!(s.refused(|s| rotate(s, "k4", 4)), Details::KidRetired { revoked: true });
    assert_eq!(s.send(1, &token, "go").unwrap(), SignalEffect::ResumeConditionSatisfied);
}

#[test]
fn the_seventeenth_kid_with_a_secret_is_refused() {
    let mut s = Stage::new();
    for n in 2..=16 {
        rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation(&format!("k{n}"), n)).unwrap();
    }
    let refused = s.refused(|s| rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k17", 17)));
    assert_eq!(refused, Details::TooManyKids { scope: KidLimitScope::Live, max: 16 });
    let args = RevokeWaitpointKidArgs { partition: 0, kid: kid("k3") };
    revoke_waitpoint_kid(&mut s.p, at(s.now), &args).unwrap();
    rotate_waitpoint_hmac_secret(&mut s.p, at(s.now), &rotation("k17", 17)).unwrap();
}

#[test]
fn no_execution_sleeps_beside_signals_that_satisfy_it_and_effects_are_those_of_the_whole_list() {
    let condition = || {
        let at_both = Condition::count(2, Distinct::Waitpoints, "a");
        let three = Condition::count(3, Distinct::Signals, Matcher::any());
        ResumeCondition::all_of([at_both, Condition::any_of([three, Condition::signal("b")])])
    };
    let mut random = fastrand::Rng::with_seed(7);
    let (mut buffered_only, mut delivered, mut asleep) = (0, 0, 0);
    for _ in 0..1_000 {
        let mut s = Stage::new();
        let tokens = [s.pending(1, 50_000).unwrap(), s.pending(2, 50_000).unwrap()];
        let mut args = s.suspension(1);
        args.waitpoints = vec![WaitpointBinding::pending(waitpoint(1)), WaitpointBinding::pending(waitpoint(2))];
        args.resume_condition = condition();
        let calls = random.u32(1..8);
        let suspend_before = random.u32(0..=calls);
        for n in 0..=calls {
            if n == suspend_before {
                suspend_execution(&mut s.p, at(s.now), &args).unwrap();
            } else {
                let of = random.u128(1..=2);
                let name = ["a", "b", "c"][random.usize(0..3)];
                let args = s.signal(of, &tokens[of as usize - 1], name);
                match deliver_signal(&mut s.p, at(s.now), &args) {
                    Ok(_) => {}
                    Err(EngineError::Refused(r)) if r.code() == Code::WaitpointClosed => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let x = s.x();
        let records: Vec<_> = x.history.signals.values().collect();
        let views = records.iter().filter_map(|r| SignalView::of(r));
        let whole = evaluate(&args.resume_condition, &args.waitpoint_ids(), views);
        assert_eq!(records.iter().map(|r| r.effect).collect::<Vec<_>>(), whole.effects);
        assert_eq!(x.suspension.as_ref().unwrap().closer_signal_id, whole.closer);
        assert_eq!(listed(&s, false).progress, whole.progress);
        match s.state() {
            StateName::Running => buffered_only += 1,
            StateName::Ready => delivered += 1,
            _ => asleep += 1,
        }
        assert_eq!(s.state() == StateName::Suspended, !whole.is_satisfied());
    }
    assert!(buffered_only > 20 && delivered > 20 && asleep > 20, "{buffered_only} {delivered} {asleep}");
}

#[test]
fn completing_ends_the_attempts_pending_waitpoints() {
    let mut s = Stage::new();
    let token = s.pending(1, 10_000).unwrap();
    let args = CompleteExecutionArgs::builder().execution_id(execution(X)).actor(Actor::Worker(s.fence)).build();
    complete_execution(&mut s.p, at(s.now), &args).unwrap();
    let late = s.signal(1, &token, "go");
    let closed = Details::WaitpointClosed { close_reason: WaitpointCloseReason::ExecutionEnded };
    assert_eq!(s.refused_signal(&late), closed);
    let mut elsewhere = late;
    elsewhere.execution_id = ExecutionId::from_parts(0, Uuid::from_u128(77));
    assert_eq!(s.refused_signal(&elsewhere), Details::InvalidToken {}, "before it is asked whether that exists");
}
