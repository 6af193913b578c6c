//! Reading one execution: its state, attempts, payload and results.

use std::collections::BTreeMap;

use bytes::Bytes;
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch};
use ff_core::records::PauseKind;
use ff_core::refusal::{Code, Details};
use ff_core::state::{
    AttemptLifecycle, AttemptType, BlockReason, EndCause, NotBeforeKind, PublicState, StateVector, TerminalOutcome,
};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, retries, worker};

cases! { "reads";
    "describe_execution: progress, blocks, lease, grant, tags and newest attempt are what the last operations left." => described,
    "get_execution: a running execution whose lease is due but unswept still reads RUNNING." => due_lease,
    "list_attempts: initial, retry, reclaim and replay attempts come by index with their runs and ends." => attempts,
    "get_payload: 256 byte values and the encoding come back identical, and none given is empty." => payload,
    "get_result: after a replay that fails, Last is result_not_available and Run(0) is the first result." => results_by_run,
    "get_result: Attempt(i) of a failed attempt is result_not_available, of the run's last the result." => results_by_attempt,
}

async fn described(s: &Stage) {
    let start = s.now();
    let mut args = s.creation_with(retries(3, 500));
    args.creator = Some("me".to_owned());
    args.tags = [("case.a".to_owned(), "1".to_owned()), ("case.b".to_owned(), String::new())].into();
    args.priority = -3;
    let id = s.create(args.clone()).await;
    let x = s.describe(id).await;
    assert_eq!((x.execution_id, &x.namespace, &x.lane_id, x.flow_id), (id, &args.namespace, &args.lane_id, None));
    assert_eq!((x.kind.as_str(), x.priority, x.created_at), ("job", -3, start));
    assert_eq!((x.creator.as_deref(), &x.tags, &x.policy), (Some("me"), &args.tags, &args.policy));
    assert_eq!((x.current_attempt, x.current_lease, x.grant, x.progress), (None, None, None, None));
    assert_eq!((x.attempt_count, x.lease_epoch, x.run, x.started_at), (0, LeaseEpoch(0), 0, None));
    assert_eq!((x.last_transition_at, x.last_mutation_at), (start, start));

    s.advance(1);
    s.grant(id).await;
    let x = s.describe(id).await;
    let grant = x.grant.unwrap_or_else(|| panic!("no grant"));
    assert_eq!((grant.worker_id, grant.worker_instance_id), worker());
    assert_eq!((grant.granted_at, grant.expires_at), (start.after(1), start.after(10_001)));
    assert_eq!((x.last_transition_at, x.last_mutation_at), (start, start.after(1)));
    s.advance(20_000);
    assert_eq!(s.describe(id).await.grant.map(|g| g.expires_at), Some(start.after(10_001)), "as stored, lapsed");

    // A claim: the grant is gone, the lease is there.
    let claimed = s.claim_this(id).await;
    let began = start.after(20_001);
    let x = s.describe(id).await;
    let lease = x.current_lease.unwrap_or_else(|| panic!("no lease"));
    assert_eq!(
        (lease.lease_id, lease.lease_epoch, lease.attempt_index),
        (claimed.fence.lease_id, LeaseEpoch(1), AttemptIndex(0))
    );
    assert_eq!((lease.worker_id, lease.worker_instance_id, lease.claim_kind), (worker().0, worker().1, ClaimKind::New));
    assert_eq!((lease.acquired_at, lease.expires_at, lease.renewed_at), (began, began.after(LEASE_MS), None));
    assert_eq!((x.grant, x.started_at, x.attempt_count), (None, Some(began), 1));
    assert_eq!((x.last_transition_at, x.last_mutation_at), (began, began));
    s.advance(10);
    s.renew(id, claimed.fence, LEASE_MS).await;
    let lease = s.describe(id).await.current_lease.unwrap_or_else(|| panic!("no lease"));
    assert_eq!((lease.renewed_at, lease.expires_at), (Some(began.after(10)), began.after(10 + LEASE_MS)));

    // Progress and tags.
    let progress = |pct: Option<u8>, message: Option<&str>| {
        UpdateProgressArgs::builder()
            .execution_id(id)
            .fence(claimed.fence)
            .maybe_pct(pct)
            .maybe_message(message)
            .build()
    };
    let told = async || s.describe(id).await.progress.map(|p| (p.pct, p.message, p.updated_at));
    s.call(progress(Some(40), None)).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(told().await, Some((Some(40), None, began.after(10))));
    s.advance(10);
    s.call(progress(None, Some("half"))).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(told().await, Some((Some(40), Some("half".to_owned()), began.after(20))));
    let tags: BTreeMap<_, _> = [
        ("case.a".to_owned(), None),
        ("case.b".to_owned(), Some("2".to_owned())),
        ("case.c".to_owned(), Some("3".to_owned())),
    ]
    .into();
    s.call(SetExecutionTagsArgs { execution_id: id, tags }).await.unwrap_or_else(|e| panic!("{e}"));
    let wanted = [("case.b".to_owned(), "2".to_owned()), ("case.c".to_owned(), "3".to_owned())];
    assert_eq!(s.describe(id).await.tags, wanted.into());

    // A failed attempt is the newest one until the next begins.
    let retry_at = s.fail_and_retry(id, claimed.fence).await;
    let x = s.describe(id).await;
    let attempt = x.current_attempt.unwrap_or_else(|| panic!("no attempt"));
    assert_eq!((attempt.attempt_id, attempt.attempt_state), (claimed.attempt_id, AttemptLifecycle::EndedFailure));
    assert_eq!(
        (attempt.failure_reason.as_deref(), attempt.failure_category.as_deref()),
        (Some("it broke"), Some("error"))
    );
    assert_eq!((attempt.ended_at, attempt.end_cause), (Some(began.after(20)), Some(EndCause::Failed)));
    assert_eq!(attempt.ended_by, Some(EndedBy::Worker { worker_instance_id: worker().1 }));
    assert_eq!(
        (x.current_lease, x.not_before, x.not_before_kind),
        (None, Some(retry_at), Some(NotBeforeKind::RetryBackoff))
    );
    assert_eq!((x.retry_count, x.total_retries, x.failure_reason), (1, 1, None), "the execution has not failed");

    // Blocks, in the order of the gate, whatever came first.
    let parked = s.now();
    s.block(id, BlockReason::WaitingForQuota).await;
    s.advance(1);
    let args = BlockExecutionArgs::builder()
        .execution_id(id)
        .reason(BlockReason::PausedByOperator)
        .detail("lunch")
        .until(When::After(90_000))
        .by("someone")
        .build();
    s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    let blocks = s.describe(id).await.blocks;
    let told: Vec<_> =
        blocks.iter().map(|b| (b.reason, b.detail.as_str(), b.until, b.by.as_str(), b.blocked_at)).collect();
    let wanted = [
        (BlockReason::PausedByOperator, "lunch", Some(parked.after(90_001)), "someone", parked.after(1)),
        (BlockReason::WaitingForQuota, "", Some(parked.after(60_000)), "ops", parked),
    ];
    assert_eq!(told, wanted);
    s.unblock(id, BlockReason::PausedByOperator).await;
    s.unblock(id, BlockReason::WaitingForQuota).await;
    assert!(s.describe(id).await.blocks.is_empty());

    s.set(retry_at);
    let second = s.claim_this(id).await;
    let x = s.describe(id).await;
    let attempt = x.current_attempt.unwrap_or_else(|| panic!("no attempt"));
    assert_eq!((attempt.attempt_id, attempt.attempt_index), (second.attempt_id, AttemptIndex(1)));
    assert_eq!((attempt.attempt_type, attempt.attempt_state), (AttemptType::Retry, AttemptLifecycle::Started));
    assert_eq!((x.progress, x.not_before, x.attempt_count), (None, None, 2), "a new attempt starts without progress");
    s.cancel(id).await;
    let x = s.describe(id).await;
    assert_eq!((x.end_cause, x.cancel_reason.as_deref()), (Some(EndCause::Cancelled), Some("enough")));
    assert_eq!((x.completed_at, x.purge_at), (Some(s.now()), Some(s.now().after(86_400_000))));
    assert_eq!(x.current_attempt.map(|a| a.attempt_state), Some(AttemptLifecycle::EndedCancelled));
    s.refused_with(Code::ExecutionNotFound, DescribeExecutionArgs { execution_id: s.execution_id() }).await;
}

async fn due_lease(s: &Stage) {
    let (id, fence) = s.running().await;
    let acquired = s.now();
    s.advance(LEASE_MS + 5);
    let args = GetExecutionArgs { execution_id: id };
    let info = s.backend.get_execution(args.clone()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((info.summary.state_vector, info.public_state), (StateVector::RUNNING, PublicState::Active));
    assert_eq!((info.lease_epoch, info.attempt_count), (fence.lease_epoch, 1));
    assert_eq!((info.last_mutation_at, info.started_at), (acquired, Some(acquired)));
    let lease = s.describe(id).await.current_lease.unwrap_or_else(|| panic!("no lease"));
    assert_eq!(lease.expires_at, acquired.after(LEASE_MS));
    s.sweep().await;
    let info = s.backend.get_execution(args).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((info.summary.state_vector, info.last_mutation_at), (StateVector::LOST, s.now()));
    s.refused_with(Code::ExecutionNotFound, GetExecutionArgs { execution_id: s.execution_id() }).await;
}

async fn attempts(s: &Stage) {
    let start = s.now();
    let id = s.ready_with(retries(3, 0)).await;
    assert!(s.attempts(id).await.is_empty());
    let first = s.claim_this(id).await.fence;
    s.advance(1);
    s.fail_and_retry(id, first).await;
    let second = s.claim_this(id).await.fence;
    s.lose(id, second).await;
    let third = s.claim_this(id).await.fence;
    s.advance(1);
    s.delay(id, third, When::At(start)).await;
    s.advance(1);
    let third_again = s.claim_this(id).await.fence;
    s.complete(id, third_again).await;
    s.advance(1);
    s.replay(id, 0).await;
    let fourth = s.claim_this(id).await.fence;
    let found = s.attempts(id).await;
    let told: Vec<_> =
        found.iter().map(|a| (a.attempt_index.get(), a.attempt_type, a.run, a.attempt_state, a.end_cause)).collect();
    let wanted = [
        (0, AttemptType::Initial, 0, AttemptLifecycle::EndedFailure, Some(EndCause::Failed)),
        (1, AttemptType::Retry, 0, AttemptLifecycle::InterruptedReclaimed, Some(EndCause::LeaseExpired)),
        (2, AttemptType::Reclaim, 0, AttemptLifecycle::EndedSuccess, Some(EndCause::Completed)),
        (3, AttemptType::Replay, 1, AttemptLifecycle::Started, None),
    ];
    assert_eq!(told, wanted);
    let ids: Vec<_> = found.iter().map(|a| (a.attempt_id, a.lease_id, a.lease_epoch)).collect();
    let of = |fence: Fence| (fence.attempt_id, fence.lease_id, fence.lease_epoch);
    assert_eq!(ids, [of(first), of(second), of(third_again), of(fourth)], "the last owner of each");
    assert_eq!((third.attempt_id, third_again.lease_epoch), (third_again.attempt_id, LeaseEpoch(4)));
    let lost = start.after(1 + LEASE_MS);
    let times: Vec<_> = found.iter().map(|a| (a.started_at, a.ended_at)).collect();
    let wanted = [
        (start, Some(start.after(1))),
        (start.after(1), Some(lost)),
        (lost, Some(lost.after(2))),
        (lost.after(3), None),
    ];
    assert_eq!(times, wanted);
    assert_eq!((found[2].pause_kind, found[2].paused_at), (Some(PauseKind::Delay), Some(lost.after(1))));
    assert_eq!(found[2].resumed_at, Some(lost.after(2)));
    assert_eq!((found[0].pause_kind, found[0].paused_at, found[0].resumed_at), (None, None, None));
    let by: Vec<_> = found.iter().map(|a| a.ended_by.clone()).collect();
    let worker = || Some(EndedBy::Worker { worker_instance_id: worker().1 });
    assert_eq!(by, [worker(), Some(EndedBy::Engine), worker(), None]);

    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let args = ListAttemptsArgs::builder().execution_id(id).limit(1).maybe_cursor(cursor).build();
        let page = s.backend.list_attempts(args).await.unwrap_or_else(|e| panic!("{e}"));
        assert!(page.attempts.len() <= 1);
        paged.extend(page.attempts);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, found);
    let unknown = ListAttemptsArgs::builder().execution_id(s.execution_id()).build();
    s.refused_with(Code::ExecutionNotFound, unknown).await;
}

async fn payload(s: &Stage) {
    let every: Vec<u8> = (0..=255).collect();
    let read = async |id: ExecutionId| {
        let answer = s.backend.get_payload(GetPayloadArgs { execution_id: id }).await;
        answer.map(|p| (p.payload.to_vec(), p.payload_encoding)).unwrap_or_else(|e| panic!("{e}"))
    };
    let mut args = s.creation();
    (args.payload, args.payload_encoding) = (Bytes::from(every.clone()), Some("application/x".to_owned()));
    let id = s.create(args).await;
    assert_eq!(read(id).await, (every.clone(), Some("application/x".to_owned())));
    let plain = s.ready().await;
    assert_eq!(read(plain).await, (Vec::new(), None));
    let mut args = s.creation();
    args.payload_encoding = Some("nothing".to_owned());
    let labelled = s.create(args).await;
    assert_eq!(read(labelled).await, (Vec::new(), Some("nothing".to_owned())));
    // Whatever becomes of the execution.
    s.cancel(id).await;
    s.replay(id, 0).await;
    assert_eq!(read(id).await, (every, Some("application/x".to_owned())));
    s.refused_with(Code::ExecutionNotFound, GetPayloadArgs { execution_id: s.execution_id() }).await;
}

fn of(id: ExecutionId, of: ResultSelector) -> GetResultArgs {
    GetResultArgs::builder().execution_id(id).of(of).build()
}

/// The result must not be available, and the refusal must tell this state.
async fn unavailable(s: &Stage, id: ExecutionId, selector: ResultSelector, public_state: PublicState) {
    let refusal = s.refused_with(Code::ResultNotAvailable, of(id, selector)).await;
    assert_eq!(refusal.details(), &Details::ResultNotAvailable { public_state }, "{selector:?}");
}

async fn results_by_run(s: &Stage) {
    let (id, fence) = s.running().await;
    unavailable(s, id, ResultSelector::Last, PublicState::Active).await;
    unavailable(s, id, ResultSelector::Run(0), PublicState::Active).await;
    let completed = s.now();
    let mut args = s.completion(id, fence, b"first");
    args.result_encoding = Some("text".to_owned());
    s.call(args).await.unwrap_or_else(|e| panic!("{e}"));
    let first = |found: GetResultResult| {
        assert_eq!((found.run, found.completed_at), (0, completed));
        assert_eq!((found.result.as_deref(), found.result_encoding.as_deref()), (Some(&b"first"[..]), Some("text")));
    };
    first(s.result(id, ResultSelector::Last).await);
    first(s.result(id, ResultSelector::Run(0)).await);
    unavailable(s, id, ResultSelector::Run(1), PublicState::Completed).await;
    s.advance(5);
    s.replay(id, 0).await;
    unavailable(s, id, ResultSelector::Last, PublicState::Waiting).await;
    first(s.result(id, ResultSelector::Run(0)).await);
    let fence = s.claim_this(id).await.fence;
    s.fail_for_good(id, fence).await;
    unavailable(s, id, ResultSelector::Last, PublicState::Failed).await;
    unavailable(s, id, ResultSelector::Run(1), PublicState::Failed).await;
    unavailable(s, id, ResultSelector::Run(2), PublicState::Failed).await;
    first(s.result(id, ResultSelector::Run(0)).await);
    // A success without bytes has a result without bytes.
    s.advance(5);
    s.replay(id, 1).await;
    let fence = s.claim_this(id).await.fence;
    s.complete(id, fence).await;
    let found = s.result(id, ResultSelector::Last).await;
    assert_eq!((found.run, found.completed_at, found.result, found.result_encoding), (2, s.now(), None, None));
    unavailable(s, id, ResultSelector::Run(1), PublicState::Completed).await;
    // And an empty one an empty one.
    let (empty, fence) = s.running().await;
    s.complete_with(empty, fence, b"").await;
    assert_eq!(s.result(empty, ResultSelector::Last).await.result, Some(Bytes::new()));
    s.refused_with(Code::ExecutionNotFound, of(s.execution_id(), ResultSelector::Last)).await;
}

async fn results_by_attempt(s: &Stage) {
    let (id, fence) = s.running_with(retries(1, 0)).await;
    let attempt = |n| ResultSelector::Attempt(AttemptIndex(n));
    s.refused_with(Code::AttemptNotFound, of(id, attempt(1))).await;
    s.fail_and_retry(id, fence).await;
    unavailable(s, id, attempt(0), PublicState::Waiting).await;
    let fence = s.claim_this(id).await.fence;
    unavailable(s, id, attempt(1), PublicState::Active).await;
    s.complete_with(id, fence, b"second try").await;
    let found = s.result(id, attempt(1)).await;
    assert_eq!((found.run, found.result.as_deref()), (0, Some(&b"second try"[..])));
    unavailable(s, id, attempt(0), PublicState::Completed).await;
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    s.revoke(id, fence).await;
    let fence = s.claim_this(id).await.fence;
    s.complete_with(id, fence, b"replayed").await;
    let found = s.result(id, attempt(3)).await;
    assert_eq!((found.run, found.result.as_deref()), (1, Some(&b"replayed"[..])));
    let found = s.result(id, attempt(1)).await;
    assert_eq!((found.run, found.result.as_deref()), (0, Some(&b"second try"[..])));
    unavailable(s, id, attempt(2), PublicState::Completed).await;
    s.refused_with(Code::AttemptNotFound, of(id, attempt(4))).await;
    assert_eq!(s.vector(id).await, StateVector::done(TerminalOutcome::Success, true));
}
