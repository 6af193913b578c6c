//! What the arguments of suspension, signal and keystore refuse by themselves, in which order, what their digests cover,
//! and what resumed attempts are told.

use bytes::Bytes;
use uuid::Uuid;

use crate::bounds::{CheckArgs, Deployment};
use crate::condition::{Condition, LeafProgress, ResumeCondition};
use crate::contracts::*;
use crate::ids::{AttemptId, AttemptIndex, ExecutionId, Kid, LeaseEpoch, LeaseId, SignalId, SuspensionId, WaitpointId};
use crate::policy::SuspensionPolicy;
use crate::records::{OperatorResume, SignalAuth, SignalRecord, SuspensionRecord, WaitpointRecord};
use crate::refusal::{Details, Refusal};
use crate::time::{MAX_DURATION_MS, MAX_SAFE_INTEGER, TimestampMs};
use crate::token::{PartitionKey, PartitionKeys, WaitpointSecret, WaitpointToken, verify};

fn execution() -> ExecutionId {
    "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id")
}

/// In no partition of a deployment of 16.
fn nowhere() -> ExecutionId {
    ExecutionId::from_parts(16, execution().uuid())
}

fn waitpoint(n: u128) -> WaitpointId {
    WaitpointId::from_uuid(Uuid::from_u128(n))
}

fn suspension_id() -> SuspensionId {
    SuspensionId::from_uuid(execution().uuid())
}

fn fence() -> Fence {
    let uuid = Uuid::from_u128(1);
    Fence { lease_id: LeaseId::from_uuid(uuid), lease_epoch: LeaseEpoch(1), attempt_id: AttemptId::from_uuid(uuid) }
}

fn unsafe_fence() -> Fence {
    Fence { lease_epoch: LeaseEpoch(MAX_SAFE_INTEGER + 1), ..fence() }
}

fn at(ms: u64) -> TimestampMs {
    TimestampMs::saturating(ms)
}

fn check(args: &impl CheckArgs) -> Result<(), String> {
    args.check(&Deployment::default()).map_err(|refusal| word(&refusal))
}

/// The code, and the field where there is one.
fn word(refusal: &Refusal) -> String {
    match refusal.details() {
        Details::InvalidInput { field } => field.clone(),
        _ => refusal.code().as_str().to_owned(),
    }
}

fn refused(word: &str) -> Result<(), String> {
    Err(word.to_owned())
}

fn suspend() -> SuspendExecutionArgs {
    SuspendExecutionArgs::builder()
        .execution_id(execution())
        .fence(fence())
        .suspension_id(suspension_id())
        .waitpoints(vec![
            WaitpointBinding::Fresh {
                waitpoint_id: waitpoint(3),
                sources: vec![SignalSource::new("human", "zoë@example.org")],
            },
            WaitpointBinding::pending(waitpoint(4)),
        ])
        .reason_code(SuspensionReason::WaitingForApproval)
        .detail("publish?")
        .resume_condition(ResumeCondition::signal("approve"))
        .timeout(SuspensionTimeout::After {
            after_ms: 3_600_000,
            behavior: TimeoutBehavior::Escalate { fail_after_ms: None },
        })
        .continuation(Bytes::from_static(&[1]))
        .build()
}

/// The word of a suspend after one change.
fn suspend_with(change: impl FnOnce(&mut SuspendExecutionArgs)) -> Result<(), String> {
    let mut args = suspend();
    change(&mut args);
    check(&args)
}

fn fresh_from(sources: Vec<SignalSource>) -> Vec<WaitpointBinding> {
    vec![WaitpointBinding::Fresh { waitpoint_id: waitpoint(3), sources }]
}

#[test]
fn a_suspend_is_checked_in_the_order_of_its_arguments_and_its_condition_last() {
    assert_eq!(check(&suspend()), Ok(()));
    assert_eq!(suspend_with(|a| a.execution_id = nowhere()), refused("invalid_partition"));
    assert_eq!(suspend_with(|a| a.fence = unsafe_fence()), refused("fence.lease_epoch"));

    let ids = |n: u128| (0..n).map(|n| WaitpointBinding::fresh(waitpoint(n))).collect::<Vec<_>>();
    assert_eq!(suspend_with(|a| a.waitpoints = ids(16)), Ok(()));
    assert_eq!(suspend_with(|a| a.waitpoints = ids(17)), refused("waitpoints"));
    let twice = vec![WaitpointBinding::fresh(waitpoint(3)), WaitpointBinding::pending(waitpoint(3))];
    assert_eq!(suspend_with(|a| a.waitpoints = twice), refused("waitpoints.waitpoint_id"));
    let source = |n: usize| SignalSource::new("human", n.to_string());
    assert_eq!(suspend_with(|a| a.waitpoints = fresh_from((0..16).map(source).collect())), Ok(()));
    let seventeen = fresh_from((0..17).map(source).collect());
    assert_eq!(suspend_with(|a| a.waitpoints = seventeen), refused("waitpoints.sources"));
    let repeated = fresh_from(vec![source(1), source(1)]);
    assert_eq!(suspend_with(|a| a.waitpoints = repeated), refused("waitpoints.sources"));
    let engine = fresh_from(vec![SignalSource::engine()]);
    assert_eq!(suspend_with(|a| a.waitpoints = engine), refused("waitpoints.sources.source_type"));
    let nobody = fresh_from(vec![SignalSource::new("human", "")]);
    assert_eq!(suspend_with(|a| a.waitpoints = nobody), refused("waitpoints.sources.source_identity"));

    assert_eq!(suspend_with(|a| a.detail = Some("x".repeat(4097))), refused("detail"));
    let month = ResumePolicy::MAX_RESUME_DELAY_MS;
    assert_eq!(month, 2_592_000_000);
    assert_eq!(suspend_with(|a| a.resume_policy.resume_delay_ms = month), Ok(()));
    let too_long = suspend_with(|a| a.resume_policy.resume_delay_ms = month + 1);
    assert_eq!(too_long, refused("resume_policy.resume_delay_ms"));

    let after = |after_ms, behavior| suspend_with(|a| a.timeout = SuspensionTimeout::After { after_ms, behavior });
    let escalate = |ms| TimeoutBehavior::Escalate { fail_after_ms: Some(ms) };
    for good in [1, MAX_DURATION_MS] {
        assert_eq!(after(good, escalate(good)), Ok(()));
    }
    for bad in [0, MAX_DURATION_MS + 1] {
        assert_eq!(after(bad, TimeoutBehavior::Fail), refused("timeout.after_ms"));
        assert_eq!(after(1, escalate(bad)), refused("timeout.behavior.fail_after_ms"));
    }
    assert_eq!(suspend_with(|a| a.continuation = Some(Bytes::from(vec![0; 1024]))), Ok(()));
    let unbound = ResumeCondition::new(Condition::signal_at(waitpoint(9), "approve"));
    let long = suspend_with(|a| {
        a.resume_condition = unbound.clone();
        a.continuation = Some(Bytes::from(vec![0; 1025]));
    });
    assert_eq!(long, refused("continuation"));
    assert_eq!(suspend_with(|a| a.resume_condition = unbound), refused("invalid_resume_condition"));
}

#[test]
fn a_suspends_digest_covers_everything_but_its_id_and_fence() {
    // Worked out from the contract's canonical form, outside this code base.
    let want = "72523825369a67bd55d7815093cee0051b41f3e3b641243791b81785a4b5d72f";
    assert_eq!(suspend().digest().to_hex(), want);
    let digest = |change: fn(&mut SuspendExecutionArgs)| {
        let mut args = suspend();
        change(&mut args);
        args.digest().to_hex()
    };
    assert_eq!(digest(|a| a.fence = unsafe_fence()), want);
    assert_eq!(digest(|a| a.suspension_id = SuspensionId::from_uuid(Uuid::nil())), want);
    let changes: [fn(&mut SuspendExecutionArgs); 9] = [
        |a| a.execution_id = nowhere(),
        |a| drop(a.waitpoints.pop()),
        |a| a.waitpoints.reverse(),
        |a| a.reason_code = SuspensionReason::WaitingForSignal,
        |a| a.detail = None,
        |a| a.resume_condition = ResumeCondition::any_signal(),
        |a| a.resume_policy.allow_operator_override = false,
        |a| a.timeout = SuspensionTimeout::Default,
        |a| a.continuation = Some(Bytes::new()),
    ];
    let mut digests: Vec<_> = changes.into_iter().map(digest).chain([want.to_owned()]).collect();
    // Absent and empty are different values; so are a default and the same said in words.
    digests.push(digest(|a| a.continuation = None));
    digests.push(digest(|a| a.detail = Some(String::new())));
    digests.push(digest(|a| a.timeout = SuspensionTimeout::Never));
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn a_timeout_is_the_calls_or_the_policys() {
    let cancel = TimeoutBehavior::Cancel;
    let policy = SuspensionPolicy { default_timeout_ms: Some(7), default_timeout_behavior: cancel };
    let none = SuspensionPolicy { default_timeout_ms: None, default_timeout_behavior: cancel };
    let own = SuspensionTimeout::After { after_ms: 5, behavior: TimeoutBehavior::AutoResume };
    assert_eq!(SuspensionTimeout::Default.resolve(&policy), Some((7, cancel)));
    assert_eq!(SuspensionTimeout::Default.resolve(&none), None);
    assert_eq!(SuspensionTimeout::Never.resolve(&policy), None);
    assert_eq!(own.resolve(&policy), Some((5, TimeoutBehavior::AutoResume)));
}

#[test]
fn a_timeout_behavior_is_read_strictly() {
    let read = |text: &str| serde_json::from_str::<TimeoutBehavior>(text).ok();
    for behavior in [
        TimeoutBehavior::Fail,
        TimeoutBehavior::Cancel,
        TimeoutBehavior::Expire,
        TimeoutBehavior::AutoResume,
        TimeoutBehavior::Escalate { fail_after_ms: None },
        TimeoutBehavior::Escalate { fail_after_ms: Some(5) },
    ] {
        let text = serde_json::to_string(&behavior).expect("serialises");
        assert!(text.starts_with(&format!(r#"{{"type":"{}""#, behavior.as_str())), "{text}");
        assert_eq!(read(&text), Some(behavior));
    }
    for bad in [r#"{"type":"fail","fail_after_ms":5}"#, r#"{"type":"escalate","x":5}"#, r#""fail""#, "{}"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn the_other_suspension_arguments_are_checked_in_order() {
    let resume = |execution_id, by: &str, reason: &str| {
        check(&ResumeExecutionArgs::builder().execution_id(execution_id).by(by).reason(reason).build())
    };
    assert_eq!(resume(execution(), "me", ""), Ok(()));
    assert_eq!(resume(nowhere(), "", ""), refused("invalid_partition"));
    assert_eq!(resume(execution(), "", &"x".repeat(5000)), refused("by"));
    assert_eq!(resume(execution(), "me", &"x".repeat(4097)), refused("reason"));

    let create = |fence, expires_in_ms, sources| {
        let args = CreatePendingWaitpointArgs::builder().execution_id(execution()).fence(fence);
        check(&args.waitpoint_id(waitpoint(3)).expires_in_ms(expires_in_ms).sources(sources).build())
    };
    assert_eq!(create(fence(), 86_400_000, vec![SignalSource::new("a", "b")]), Ok(()));
    assert_eq!(create(unsafe_fence(), 0, vec![]), refused("fence.lease_epoch"));
    assert_eq!(create(fence(), 0, vec![SignalSource::engine()]), refused("expires_in_ms"));
    assert_eq!(create(fence(), 86_400_001, vec![]), refused("expires_in_ms"));
    assert_eq!(create(fence(), 1, vec![SignalSource::engine()]), refused("sources.source_type"));
    let defaults = CreatePendingWaitpointArgs::builder().execution_id(execution()).fence(fence());
    assert_eq!(defaults.waitpoint_id(waitpoint(3)).build().expires_in_ms, 60_000);

    let close = |execution_id, fence, reason: &str| {
        check(&CloseWaitpointArgs { execution_id, fence, waitpoint_id: waitpoint(3), reason: reason.to_owned() })
    };
    assert_eq!(close(execution(), fence(), ""), Ok(()));
    assert_eq!(close(nowhere(), unsafe_fence(), ""), refused("invalid_partition"));
    assert_eq!(close(execution(), unsafe_fence(), &"x".repeat(4097)), refused("fence.lease_epoch"));
    assert_eq!(close(execution(), fence(), &"x".repeat(4097)), refused("reason"));

    let expire = |execution_id| check(&ExpireSuspensionArgs { execution_id, suspension_id: suspension_id() });
    assert_eq!((expire(execution()), expire(nowhere())), (Ok(()), refused("invalid_partition")));
}

#[test]
fn a_cursor_is_of_its_own_list() {
    let waitpoints = |cursor: &str, limit| {
        ListPendingWaitpointsArgs::builder().execution_id(execution()).cursor(cursor).limit(limit).build()
    };
    let signals =
        |cursor: &str, limit| ListSignalsArgs::builder().execution_id(execution()).cursor(cursor).limit(limit).build();
    let after_waitpoint = WaitpointCursor { after: waitpoint(3) };
    let after_signal = SignalCursor { suspension_id: suspension_id(), after: 7 };
    let (w, s) = (after_waitpoint.to_string(), after_signal.to_string());
    assert_eq!(waitpoints(&w, 1).position(), Ok(Some(after_waitpoint)));
    assert_eq!(signals(&s, 1).position(), Ok(Some(after_signal)));
    for bad in ["", "w1.", &s, &w[1..], "w1.01890A5D-ac96-774b-bcce-b302099a8057"] {
        assert_eq!(check(&waitpoints(bad, 0)), refused("cursor"), "{bad}");
    }
    for bad in ["", "s1.", &w, &format!("{s}.1"), &format!("s1.{}.07", suspension_id()), &format!("{s} ")] {
        assert_eq!(check(&signals(bad, 0)), refused("cursor"), "{bad}");
    }
    for bad in [0, 1001] {
        assert_eq!(check(&waitpoints(&w, bad)), refused("limit"));
        assert_eq!(check(&signals(&s, bad)), refused("limit"));
    }
    let first = ListSignalsArgs::builder().execution_id(execution()).build();
    assert_eq!((first.position(), first.limit, first.matched_only), (Ok(None), 100, false));
}

fn deliver() -> DeliverSignalArgs {
    DeliverSignalArgs::builder()
        .execution_id(execution())
        .waitpoint_id(waitpoint(3))
        .waitpoint_token(WaitpointToken::new("not a token"))
        .signal_id(SignalId::from_uuid(Uuid::from_u128(5)))
        .name("approve")
        .source(SignalSource::new("human", "zoë@example.org"))
        .payload(Bytes::from_static(&[0x00, 0xff]))
        .encoding("application/json")
        .build()
}

/// The word of a delivery after one change; that of the same buffered signal is the same.
fn deliver_with(change: impl FnOnce(&mut DeliverSignalArgs)) -> Result<(), String> {
    let mut args = deliver();
    change(&mut args);
    let text = serde_json::to_string(&args).expect("serialises");
    let buffered: BufferSignalArgs = serde_json::from_str(&text).expect("has the same fields");
    let word = check(&args);
    assert_eq!(check(&buffered), word);
    word
}

#[test]
fn a_signal_is_checked_in_the_order_of_its_arguments() {
    // The token is judged by `verify` alone, so that every bad one ends in one code.
    assert_eq!(check(&deliver()), Ok(()));
    assert_eq!(deliver().category, "custom");
    assert_eq!(deliver_with(|a| a.execution_id = nowhere()), refused("invalid_partition"));
    for bad in ["", "__retry", &"x".repeat(257)] {
        assert_eq!(deliver_with(|a| a.name = bad.to_owned()), refused("name"), "{bad}");
    }
    assert_eq!(deliver_with(|a| a.name = "_x__".to_owned()), Ok(()));
    assert_eq!(deliver_with(|a| a.category = String::new()), refused("category"));
    assert_eq!(deliver_with(|a| a.source = SignalSource::engine()), refused("source.source_type"));
    assert_eq!(deliver_with(|a| a.source = SignalSource::new("human", "")), refused("source.source_identity"));
    assert_eq!(deliver_with(|a| a.source = SignalSource::new("a", "engine")), Ok(()));
    assert_eq!(deliver_with(|a| a.payload = Bytes::from(vec![0; 65_536])), Ok(()));
    assert_eq!(deliver_with(|a| a.payload = Bytes::from(vec![0; 65_537])), refused("payload_too_large"));
    assert_eq!(deliver_with(|a| a.encoding = Some("x".repeat(65))), refused("encoding"));
    assert_eq!(deliver_with(|a| a.correlation_id = Some(String::new())), refused("correlation_id"));
    assert_eq!(deliver_with(|a| a.idempotency_key = Some("x".repeat(257))), refused("idempotency_key"));
}

#[test]
fn equal_content_is_what_a_signal_says_and_where_and_by_whom() {
    // Worked out from the contract's canonical form, outside this code base.
    let want = "e51ef93d45b6f765ab8e51a96d9a1a37ff97582b312dc52777b9eb3ed789d3e7";
    assert_eq!(deliver().call().digest().to_hex(), want);
    let digest = |change: fn(&mut DeliverSignalArgs)| {
        let mut args = deliver();
        change(&mut args);
        args.call().digest().to_hex()
    };
    let same: [fn(&mut DeliverSignalArgs); 4] = [
        |a| a.execution_id = nowhere(),
        |a| a.waitpoint_token = WaitpointToken::new("another"),
        |a| a.signal_id = SignalId::from_uuid(Uuid::nil()),
        |a| a.idempotency_key = Some("k".to_owned()),
    ];
    assert!(same.into_iter().all(|change| digest(change) == want));
    let other: [fn(&mut DeliverSignalArgs); 7] = [
        |a| a.waitpoint_id = waitpoint(4),
        |a| a.name = "reject".to_owned(),
        |a| a.category = "human".to_owned(),
        |a| a.source = SignalSource::new("huma", "nzoë@example.org"),
        |a| a.correlation_id = Some(String::new()),
        |a| a.payload = Bytes::new(),
        |a| a.encoding = None,
    ];
    let digests: std::collections::BTreeSet<_> = other.into_iter().map(digest).chain([want.to_owned()]).collect();
    assert_eq!(digests.len(), 8);
}

fn key() -> PartitionKey {
    PartitionKey::new(Kid::new("k1").expect("a kid"), WaitpointSecret::new([7; 32]), None)
}

#[test]
fn a_signals_records_take_address_and_key_from_the_verified_token() {
    let source = deliver().source;
    let token = key().mint(execution(), waitpoint(3), Some(&source));
    let mut keys = PartitionKeys::none(execution().partition());
    keys.keys.push(key());
    let verified = verify(&keys, execution(), waitpoint(3), &source, &token).expect("is good");
    let mut args = deliver();
    args.idempotency_key = Some("once".to_owned());
    let record = args.call().record(&verified, 9, at(5), SignalEffect::NoOp);
    assert_eq!(record.auth, SignalAuth::Token { kid: key().kid, source_bound: true });
    assert_eq!((record.execution_id, record.waitpoint_id, record.seq), (execution(), Some(waitpoint(3)), 9));
    assert_eq!((record.payload.as_ref(), record.encoding.as_deref()), (&[0x00, 0xff][..], Some("application/json")));
    let dedup = args.call().dedup(&verified, SignalEffect::NoOp);
    assert_eq!((dedup.signal_id, dedup.digest), (record.signal_id, args.call().digest()));
    assert_eq!(dedup.idempotency_key.as_deref(), Some("once"));
    let info = SignalInfo::of(&record);
    assert_eq!((info.seq, &info.source, &info.auth, &info.payload), (9, &source, &record.auth, &record.payload));
}

#[test]
fn a_waitpoint_gets_a_token_for_each_source_or_one_for_all() {
    let (ann, bob) = (SignalSource::new("human", "ann"), SignalSource::new("human", "bob"));
    let open = IssuedToken::mint(&key(), execution(), waitpoint(3), &[]);
    assert_eq!(open, [IssuedToken { source: None, token: key().mint(execution(), waitpoint(3), None) }]);
    let bound = IssuedToken::mint(&key(), execution(), waitpoint(3), &[bob.clone(), ann.clone()]);
    assert_eq!(bound.iter().map(|t| t.source.as_ref()).collect::<Vec<_>>(), [Some(&bob), Some(&ann)]);
    assert!(bound.iter().all(|t| t.token == key().mint(execution(), waitpoint(3), t.source.as_ref())));
    // What is logged or recorded of an answer holds no token.
    let shown = format!("{bound:?} {}", serde_json::to_string(&bound).expect("serialises"));
    assert!(bound.iter().all(|t| !shown.contains(t.token.expose())), "{shown}");
}

/// A closed suspension with one waitpoint.
fn closed(reason: SuspensionCloseReason) -> SuspensionRecord {
    let args = suspend();
    SuspensionRecord {
        execution_id: execution(),
        suspension_id: suspension_id(),
        attempt_index: AttemptIndex(0),
        fence: fence(),
        digest: args.digest(),
        reason_code: args.reason_code,
        detail: args.detail,
        continuation: args.continuation,
        condition: args.resume_condition,
        resume_policy: args.resume_policy,
        waitpoint_ids: vec![waitpoint(3)],
        created_at: at(5),
        timeout_at: None,
        timeout_behavior: None,
        escalated_at: None,
        closed_at: Some(at(9)),
        close_reason: Some(reason),
        closer_signal_id: None,
        operator: None,
    }
}

fn signal(seq: u64, bytes: usize, effect: SignalEffect) -> SignalRecord {
    SignalRecord {
        execution_id: execution(),
        signal_id: SignalId::from_uuid(Uuid::from_u128(u128::from(seq))),
        seq,
        accepted_at: at(seq),
        waitpoint_id: Some(waitpoint(3)),
        name: "approve".to_owned(),
        category: "custom".to_owned(),
        source: SignalSource::new("human", "ann"),
        correlation_id: None,
        idempotency_key: None,
        payload: Bytes::from(vec![7; bytes]),
        encoding: None,
        auth: SignalAuth::Token { kid: key().kid, source_bound: false },
        effect,
    }
}

#[test]
fn of_seventeen_matched_signals_sixteen_are_shown() {
    let closer = SignalId::from_uuid(Uuid::from_u128(19));
    let suspension = SuspensionRecord { closer_signal_id: Some(closer), ..closed(SuspensionCloseReason::Satisfied) };
    let mut signals: Vec<_> = (1..=16).map(|seq| signal(seq, 1, SignalEffect::AppendedToWaitpoint)).collect();
    signals.insert(3, signal(17, 0, SignalEffect::NoOp));
    signals.push(signal(18, 0, SignalEffect::AppendedToWaitpointDuplicate));
    signals.push(signal(19, 1, SignalEffect::ResumeConditionSatisfied));
    let elsewhere = SignalRecord { waitpoint_id: Some(waitpoint(4)), ..signals[0].clone() };
    let matched = MatchedSignals::of(&suspension, signals.iter().chain([&elsewhere]));
    assert_eq!((matched.total, matched.closer, matched.first.len()), (17, Some(closer), 16));
    assert_eq!(matched.first.iter().map(|s| s.seq).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
    assert!(matched.first.iter().all(|s| s.payload.is_some()));
}

#[test]
fn the_payload_that_passes_the_sum_and_all_behind_it_are_left_out() {
    let appended = SignalEffect::AppendedToWaitpoint;
    let shown = |sizes: &[usize]| {
        let signals: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| signal(seq, *bytes, appended)).collect();
        let matched = MatchedSignals::of(&closed(SuspensionCloseReason::Satisfied), &signals);
        matched.first.iter().map(|s| s.payload.as_ref().map(Bytes::len)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[65_535, 1, 0]), [Some(65_535), Some(1), Some(0)]);
    assert_eq!(shown(&[65_535, 2, 0, 1]), [Some(65_535), None, None, None]);
    assert_eq!(shown(&[0]), [Some(0)]);
}

#[test]
fn a_resumed_attempt_is_told_what_ended_its_pause() {
    let appended = [signal(1, 1, SignalEffect::AppendedToWaitpoint)];
    let told = |suspension: &SuspensionRecord, signals: &[SignalRecord]| ResumeInfo::of(suspension, signals);
    for reason in SuspensionCloseReason::ALL {
        let trigger = told(&closed(*reason), &appended).map(|info| info.trigger);
        assert_eq!(trigger, ResumeTrigger::of(*reason), "{reason}");
    }
    let operator = OperatorResume { by: "me".to_owned(), reason: "late".to_owned() };
    let resumed =
        SuspensionRecord { operator: Some(operator.clone()), ..closed(SuspensionCloseReason::OperatorResume) };
    let info = told(&resumed, &appended).expect("it goes on");
    assert_eq!((info.trigger, info.operator, info.matched.total), (ResumeTrigger::Operator, Some(operator), 1));
    assert_eq!(info.continuation.as_deref(), Some(&[1][..]));

    let timed_out = closed(SuspensionCloseReason::TimedOutAutoResume);
    let signals = [appended[0].clone(), timed_out.timeout_signal(2, at(9))];
    let info = told(&timed_out, &signals).expect("it goes on");
    assert_eq!((info.trigger, info.matched.total, info.matched.closer), (ResumeTrigger::Timeout, 2, None));
    assert_eq!(info.matched.first[1].effect, SignalEffect::TimeoutFired);

    assert_eq!(told(&closed(SuspensionCloseReason::ExecutionEnded), &appended), None);
    let open = SuspensionRecord { closed_at: None, close_reason: None, ..resumed };
    assert_eq!(told(&open, &appended), None);
    assert!(!serde_json::to_string(&SuspensionInfo::of(&open)).expect("serialises").contains("lease"));
}

#[test]
fn an_open_waitpoint_shows_its_suspension_and_no_token() {
    let suspension = SuspensionRecord {
        closed_at: None,
        close_reason: None,
        timeout_at: Some(at(100)),
        timeout_behavior: Some(TimeoutBehavior::Cancel),
        ..closed(SuspensionCloseReason::Satisfied)
    };
    let record = WaitpointRecord {
        execution_id: execution(),
        waitpoint_id: waitpoint(3),
        attempt_index: AttemptIndex(0),
        sources: vec![SignalSource::new("human", "ann")],
        created_at: at(5),
        state: WaitpointState::Active,
        expires_at: None,
        suspension_id: Some(suspension_id()),
        activated_at: Some(at(5)),
        closed_at: None,
        close_reason: None,
        close_detail: None,
        signal_count: 2,
    };
    let progress = vec![LeafProgress { path: "/root".to_owned(), have: 0, need: 1 }];
    let info = PendingWaitpointInfo::of(&record, Some((&suspension, progress.clone())));
    assert_eq!((info.waitpoint_id, info.state, info.signal_count), (waitpoint(3), WaitpointState::Active, 2));
    let of = info.suspension.expect("it is active");
    assert_eq!((of.timeout_at, of.timeout_behavior), (Some(at(100)), Some(TimeoutBehavior::Cancel)));
    assert_eq!((of.detail.as_deref(), of.progress), (Some("publish?"), progress));
    assert!(info.tokens.is_empty());
}

#[test]
fn the_keystores_arguments_are_checked() {
    let rotate = |partition, grace_ms| {
        let args = RotateWaitpointHmacSecretArgs::builder().partition(partition).new_kid(key().kid);
        check(&args.new_secret(key().secret).grace_ms(grace_ms).build())
    };
    assert_eq!((rotate(15, 60_000), rotate(15, MAX_DURATION_MS)), (Ok(()), Ok(())));
    assert_eq!(rotate(16, 0), refused("invalid_partition"));
    for bad in [59_999, MAX_DURATION_MS + 1] {
        assert_eq!(rotate(0, bad), refused("grace_ms"));
    }
    for partition in [15, 16] {
        let word = if partition == 15 { Ok(()) } else { refused("invalid_partition") };
        assert_eq!(check(&RevokeWaitpointKidArgs { partition, kid: key().kid }), word);
        assert_eq!(check(&ListWaitpointHmacKidsArgs { partition }), word);
    }
    let read = r#"{"partition":7,"new_kid":"k1","new_secret":"0707070707070707070707070707070707070707070707070707070707070707"}"#;
    let args: RotateWaitpointHmacSecretArgs = serde_json::from_str(read).expect("parses");
    assert_eq!((args.grace_ms, args.new_secret == key().secret), (86_400_000, true));
    let shown = format!("{args:?} {}", serde_json::to_string(&args).expect("serialises"));
    assert!(!shown.contains("0707"), "{shown}");
}
