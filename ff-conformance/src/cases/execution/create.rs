//! Creation.

use ff_core::bounds::Deployment;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LaneId, Namespace};
use ff_core::operation::Outcome;
use ff_core::policy::{ExecutionPolicy, StreamPolicy};
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, EndCause, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{Stage, deadline, key_at_home, namespace, not_eligible_cause, numbered, requires};

cases! { "execution";
    "create_execution: a delay in the past creates READY and the next claim_next takes it." => past_delay,
    "create_execution: a delay ends at its exact millisecond and not one earlier." => exact_delay,
    "create_execution: a deadline in the past is never handed out and the next sweep expires it." => past_deadline,
    "create_execution: the same id and content answers AlreadyExists with the state of now and writes nothing." => same_again,
    "create_execution: the same id with one payload byte changed is execution_already_exists." => other_payload,
    "create_execution: the same key and content under a new id answers Duplicate with the first id and creates nothing." => same_key,
    "create_execution: the same key with another lane is idempotency_conflict and leaves no record, queue entry or timer." => other_lane,
    "create_execution: one key in two namespaces, or in two flows, names two executions." => key_scopes,
    "create_execution: a key is free at the end of its window and its execution is not purged before, whatever retention_ms says." => key_window,
    "create_execution: an unknown policy field, a token with a comma or a capability list that is no list changes nothing." => bad_policy,
    "create_execution: a payload of all 256 byte values and its encoding come back identical in the claim." => all_bytes,
}

async fn past_delay(s: &Stage) {
    let mut args = s.creation();
    args.delay = Some(When::At(s.now()));
    let id = s.create(args).await;
    assert_eq!(s.vector(id).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    s.claim_this(id).await;
}

async fn exact_delay(s: &Stage) {
    let id = s.delayed(500).await;
    s.advance(499);
    assert!(s.claim_next(1).await.claimed.is_empty());
    assert_eq!(s.state(id).await, StateName::Delayed);
    s.advance(1);
    s.claim_this(id).await;
}

async fn past_deadline(s: &Stage) {
    let policy = || deadline(When::At(s.now()));
    let id = s.ready_with(policy()).await;
    assert_eq!(s.state(id).await, StateName::Ready);
    let refusal = s.refused_with(Code::ExecutionNotEligible, s.grant_args(id, 1_000)).await;
    assert_eq!(not_eligible_cause(&refusal), NotEligibleCause::DeadlinePassed);
    let report = s.sweep().await;
    assert_eq!(report.count(TimerKind::Deadline), 1);
    let x = s.describe(id).await;
    assert_eq!(x.summary.state_vector, StateVector::done(TerminalOutcome::Expired, false));
    assert_eq!(x.end_cause, Some(EndCause::DeadlinePassed));
    assert_eq!(x.ended_by, Some(EndedBy::Engine));

    let other = s.ready_with(policy()).await;
    assert!(s.claim_next(1).await.claimed.is_empty());
    assert_eq!(s.vector(other).await, StateVector::done(TerminalOutcome::Expired, false));
}

async fn same_again(s: &Stage) {
    let args = s.creation();
    let id = s.create(args.clone()).await;
    s.claim_this(id).await;
    s.advance(5);
    let summary = s.describe(id).await.summary;
    assert_eq!(summary.state_vector, StateVector::RUNNING);
    let outcome = s.changes_nothing(args).await;
    assert_eq!(outcome, Outcome::CreateExecution(CreateExecutionResult::AlreadyExists { execution_id: id, summary }));
}

async fn other_payload(s: &Stage) {
    let mut args = s.creation();
    args.payload = vec![1, 2, 3].into();
    s.create(args.clone()).await;
    args.payload = vec![1, 2, 4].into();
    s.refused_with(Code::ExecutionAlreadyExists, args).await;
}

async fn same_key(s: &Stage) {
    let key = key_at_home(&namespace());
    let id = s.create(s.keyed_creation(&namespace(), &key, ExecutionPolicy::default())).await;
    let again = s.keyed_creation(&namespace(), &key, ExecutionPolicy::default());
    let new_id = again.execution_id;
    assert_ne!(new_id, id);
    let summary = s.describe(id).await.summary;
    let outcome = s.changes_nothing(again).await;
    assert_eq!(outcome, Outcome::CreateExecution(CreateExecutionResult::Duplicate { execution_id: id, summary }));
    s.gone(new_id).await;
    s.claim_this(id).await;
    assert!(s.claim_next(1).await.claimed.is_empty());
}

async fn other_lane(s: &Stage) {
    let key = key_at_home(&namespace());
    let id = s.create(s.keyed_creation(&namespace(), &key, ExecutionPolicy::default())).await;
    let mut other = s.keyed_creation(&namespace(), &key, deadline(When::After(1_000)));
    other.lane_id = LaneId::new("other").unwrap_or_else(|e| panic!("{e}"));
    other.delay = Some(When::After(500));
    let (other_id, other_lane) = (other.execution_id, other.lane_id.clone());
    let refusal = s.refused_with(Code::IdempotencyConflict, other).await;
    assert_eq!(refusal.details(), &Details::IdempotencyConflict { execution_id: id });
    s.gone(other_id).await;
    assert_eq!(s.sweep().await.next_due_at, None);
    s.advance(1_000);
    assert_eq!(s.sweep().await.total(), 0);
    let mut claim = s.claim_args(1);
    claim.lane_id = other_lane;
    let result = s.backend.claim_next(claim).await.unwrap_or_else(|e| panic!("claim_next: {e}"));
    assert_eq!(result, ClaimNextResult::default());
    assert_eq!(s.rebuild().await.total(), 0);
}

async fn key_scopes(s: &Stage) {
    // Two namespaces, the same partition: what tells the two apart is the scope, not the place.
    let partitions = Deployment::default().partitions;
    let place = |namespace: &Namespace| ExecutionId::partition_of_key(partitions, namespace, "key");
    // The low bits of the hash depend on the low bits of each byte alone, so for two given namespaces it may be that
    // no key puts them together: it is the namespace that is searched, and only among a thousand.
    let other = (0..1_000)
        .filter_map(|i| Namespace::new(format!("other-{i}")).ok())
        .find(|other| place(other) == place(&namespace()))
        .unwrap_or_else(|| panic!("no namespace shares its partition with {}", namespace()));
    let key = "key".to_owned();
    let first = s.create(s.keyed_creation(&namespace(), &key, ExecutionPolicy::default())).await;
    let second = s.create(s.keyed_creation(&other, &key, ExecutionPolicy::default())).await;
    assert_ne!(first, second);

    let (one, two) = (s.flow().await, s.flow().await);
    let member = |flow_id| {
        let mut args = s.creation();
        args.idempotency_key = Some(key.clone());
        args.flow = Some(FlowJoin::held(flow_id));
        args
    };
    let in_one = s.create(member(one)).await;
    let in_two = s.create(member(two)).await;
    for (flow_id, id) in [(one, in_one), (two, in_two)] {
        match s.changes_nothing(member(flow_id)).await {
            Outcome::CreateExecution(CreateExecutionResult::Duplicate { execution_id, .. }) => {
                assert_eq!(execution_id, id);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn key_window(s: &Stage) {
    let key = key_at_home(&namespace());
    let policy = ExecutionPolicy::builder().retention_ms(0).idempotency_window_ms(5_000).build();
    let again = || s.keyed_creation(&namespace(), &key, policy.clone());
    let first = s.create(again()).await;
    let start = s.now();
    let fence = s.claim_this(first).await.fence;
    s.complete(first, fence).await;
    assert_eq!(s.describe(first).await.purge_at, Some(start.after(5_000)));

    s.advance(4_999);
    assert_eq!(s.sweep().await.total(), 0);
    match s.changes_nothing(again()).await {
        Outcome::CreateExecution(CreateExecutionResult::Duplicate { execution_id, .. }) => {
            assert_eq!(execution_id, first);
        }
        other => panic!("{other:?}"),
    }

    s.advance(1);
    let second = s.create(again()).await;
    assert_ne!(second, first);
    s.sweep().await;
    s.gone(first).await;
    match s.changes_nothing(again()).await {
        Outcome::CreateExecution(CreateExecutionResult::Duplicate { execution_id, .. }) => {
            assert_eq!(execution_id, second, "the purge of the first took the second's key");
        }
        other => panic!("{other:?}"),
    }
}

async fn bad_policy(s: &Stage) {
    let args = s.creation_with(requires(["gpu,ssd"]));
    let id = args.execution_id;
    s.refused_with(Code::InvalidCapabilities, args).await;
    s.gone(id).await;

    let bad = ExecutionPolicy::builder().stream(StreamPolicy { retention_maxlen: 0 }).build();
    let refusal = s.refused_with(Code::InvalidPolicy, s.creation_with(bad)).await;
    assert_eq!(refusal.details(), &Details::InvalidPolicy { field: "stream.retention_maxlen".to_owned() });

    // What a typed policy cannot even hold never becomes an operation.
    let code = |json: &str| ExecutionPolicy::from_json(json.as_bytes()).map_err(|refusal| refusal.code());
    assert_eq!(code(r#"{"surprise":1}"#), Err(Code::InvalidPolicy));
    assert_eq!(code(r#"{"required_capabilities":"gpu"}"#), Err(Code::InvalidCapabilities));
    assert_eq!(code(r#"{"required_capabilities":["gpu,ssd"]}"#), Err(Code::InvalidCapabilities));

    assert!(s.claim_next(1).await.claimed.is_empty());
    assert_eq!(s.sweep().await.next_due_at, None);
}

async fn all_bytes(s: &Stage) {
    let payload: Vec<u8> = (0..=255).collect();
    let mut args = s.creation();
    args.execution_id = numbered(1);
    args.payload = payload.clone().into();
    args.payload_encoding = Some("application/x-all; v=\"1\"".to_owned());
    let id = s.create(args.clone()).await;
    let claimed = s.claim_this(id).await;
    assert_eq!(claimed.payload, payload);
    assert_eq!(claimed.payload_encoding, args.payload_encoding);
    let stored = s.backend.get_payload(GetPayloadArgs { execution_id: id }).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(stored, GetPayloadResult { payload: payload.into(), payload_encoding: args.payload_encoding });
}
