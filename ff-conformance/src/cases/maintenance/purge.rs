//! What a retention timer does.

use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId};
use ff_core::operation::Operation;
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::Code;
use ff_core::state::{BlockReason, StateName};

use crate::cases::cases;
use crate::stage::{
    FIRST, PARTITION, Stage, every, frame, kept_for, key_at_home, lane, namespace, numbered, retries, tail, whole,
};

cases! { "maintenance";
    "sweep: when a purge has fired every read is not_found and no queue, timer or list names the execution; its id is execution_already_exists until the backlog item is gone and can then be created anew." => gone_and_anew,
    "sweep: an execution with 1_000 subordinate records is gone at once, its records at most 100 per step." => many_records,
    "sweep: an execution replayed in the ms before its purge is kept." => replayed_in_time,
    "sweep: a flow of 1_000 members is gone at once, its members in id order, at most 100 records per step, each readable until its first step." => many_members,
}

/// Everything that can be asked of, or done to, one execution.
fn whatever(s: &Stage, id: ExecutionId, fence: Fence) -> Vec<Operation> {
    vec![
        GetExecutionArgs { execution_id: id }.into(),
        DescribeExecutionArgs { execution_id: id }.into(),
        ListAttemptsArgs::builder().execution_id(id).build().into(),
        GetPayloadArgs { execution_id: id }.into(),
        GetResultArgs::builder().execution_id(id).build().into(),
        whole(id).into(),
        tail(id, "0-0", 0).into(),
        ListSignalsArgs::builder().execution_id(id).build().into(),
        ListPendingWaitpointsArgs::builder().execution_id(id).build().into(),
        EvaluateFlowEligibilityArgs { execution_id: id }.into(),
        frame(id, fence, "x").into(),
        RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: 1_000 }.into(),
        s.completion(id, fence, b"x").into(),
        s.operator_completion(id).into(),
        s.failure(id, fence).into(),
        CancelExecutionArgs { execution_id: id, actor: Actor::operator("ops"), reason: String::new() }.into(),
        s.replay_args(id, 0).into(),
        ChangePriorityArgs { execution_id: id, priority: 1 }.into(),
        SetExecutionTagsArgs { execution_id: id, tags: [("case.a".to_owned(), None)].into() }.into(),
        UnblockExecutionArgs { execution_id: id, reason: BlockReason::PausedByOperator }.into(),
        ExpireExecutionArgs { execution_id: id, timer: ExpiryTimer::Deadline }.into(),
        MarkLeaseExpiredArgs { execution_id: id, lease_epoch: fence.lease_epoch }.into(),
        s.grant_args(id, 1_000).into(),
        s.claim_by_id_args(id).into(),
    ]
}

async fn gone_and_anew(s: &Stage) {
    let key = key_at_home(&namespace());
    let mut policy = retries(1, 0);
    (policy.retention_ms, policy.idempotency_window_ms) = (5_000, 2_000);
    let mut creation = s.keyed_creation(&namespace(), &key, policy);
    creation.payload = "payload".into();
    creation.tags.insert("case.a".to_owned(), "1".to_owned());
    let id = s.create(creation.clone()).await;
    let fence = s.claim_this(id).await.fence;
    s.append(frame(id, fence, "x")).await;
    s.pending(id, fence).await;
    s.fail_and_retry(id, fence).await;
    let fence = s.claim_this(id).await.fence;
    let waitpoint = s.suspend_on_any_signal(id, fence).await;
    s.send(id, &waitpoint, "go").await;
    let fence = s.claim_this(id).await.fence;
    s.complete_with(id, fence, b"result").await;
    let completed = s.now();
    assert_eq!(s.describe(id).await.purge_at, Some(completed.after(5_000)));
    s.set(completed.after(4_999));
    assert_eq!(s.sweep().await.total(), 0);
    s.advance(1);
    // Due is not fired.
    s.describe(id).await;
    assert_eq!(s.step().await.0, Some(SweepKind::Retention));

    for operation in whatever(s, id, fence) {
        s.refused_with(Code::ExecutionNotFound, operation).await;
    }
    assert!(s.walk(&every(), 1000).await.is_empty());
    assert!(s.lane_counts(lane()).await.is_empty());
    let mut other = creation.clone();
    other.payload = "other".into();
    let mut plain = s.creation();
    plain.execution_id = id;
    for args in [creation.clone(), other, plain.clone()] {
        s.refused_with(Code::ExecutionAlreadyExists, args).await;
    }
    // The key is free already.
    let again = s.create(s.keyed_creation(&namespace(), &key, kept_for(5_000))).await;
    s.cancel(again).await;
    let (kind, report) = s.step().await;
    assert_eq!((kind, report.more), (Some(SweepKind::Backlog), false), "all its records fit one step");
    // Only the other one's retention is left, which its key holds off: no timer and no backlog entry names it.
    assert_eq!(report.next_due_at, Some(s.now().after(86_400_000)));
    let page = s.claim_next(10).await;
    assert_eq!((page.claimed.len(), page.ready_remaining, page.needs_admission.len()), (0, 0, 0));
    assert_eq!(s.rebuild().await.total(), 0);

    s.create(plain).await;
    let x = s.describe(id).await;
    assert_eq!((x.attempt_count, x.lease_epoch.get(), x.run, x.waitpoint_count), (0, 0, 0, 0));
    assert_eq!((x.tags.len(), x.idempotency_key, x.suspension, x.signal_count), (0, None, None, 0));
    s.refused_with(Code::AttemptNotFound, whole(id)).await;
    let claimed = s.claim_this(id).await;
    assert_eq!((claimed.attempt_index, claimed.fence.lease_epoch.get(), claimed.payload.len()), (FIRST, 1, 0));
    assert_eq!(s.append(frame(id, claimed.fence, "y")).await.seq, 0);
    assert_eq!(s.frames(whole(id)).await.frames.len(), 1);
    assert!(s.signals(id).await.signals.is_empty());
}

/// An ended execution of this many attempts, each with so many frames. Its records are the attempts and their streams.
async fn ended_after(s: &Stage, id: ExecutionId, args: CreateExecutionArgs, attempts: u32, frames: u32) {
    let mut args = args;
    args.execution_id = id;
    args.priority = i32::MAX;
    Arc::make_mut(&mut args.policy).retry = retries(attempts - 1, 0).retry;
    s.create(args).await;
    for n in 1..=attempts {
        let fence = s.claim_this(id).await.fence;
        for _ in 0..frames {
            s.append(frame(id, fence, "x")).await;
        }
        if n < attempts {
            s.fail_and_retry(id, fence).await;
        } else {
            s.fail_for_good(id, fence).await;
        }
    }
}

/// Sweeps step by step until the id can be created anew: how many steps of the backlog that took.
async fn steps_until_free(s: &Stage, id: ExecutionId) -> u32 {
    let mut args = s.creation_with(ExecutionPolicy::default());
    args.execution_id = id;
    for steps in 1..1_000 {
        s.refused_with(Code::ExecutionAlreadyExists, args.clone()).await;
        let (kind, report) = s.step().await;
        assert_eq!(kind, Some(SweepKind::Backlog));
        s.gone(id).await;
        if !report.more {
            s.create(args).await;
            s.cancel(id).await;
            return steps;
        }
    }
    panic!("the purge never ends");
}

async fn many_records(s: &Stage) {
    let id = s.execution_id();
    // 500 attempts and 500 streams; how many frames a stream has is nobody's concern.
    ended_after(s, id, s.creation_with(kept_for(1_000)), 500, 3).await;
    assert_eq!(s.attempts(id).await.len(), 500);
    s.advance(1_000);
    assert_eq!(s.step().await.0, Some(SweepKind::Retention));
    s.gone(id).await;
    let refused = ReadFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(499)).build();
    s.refused_with(Code::ExecutionNotFound, refused).await;
    assert_eq!(steps_until_free(s, id).await, 10);

    // One attempt and one stream of 1_000 frames are two records.
    let id = s.execution_id();
    ended_after(s, id, s.creation_with(kept_for(1_000)), 1, 1_000).await;
    s.advance(1_000);
    assert_eq!(s.step().await.0, Some(SweepKind::Retention));
    assert_eq!(steps_until_free(s, id).await, 1);

    // 100 records are one step, 102 are two.
    for (attempts, steps) in [(50, 1), (51, 2)] {
        let id = s.execution_id();
        ended_after(s, id, s.creation_with(kept_for(1_000)), attempts, 1).await;
        s.advance(1_000);
        assert_eq!(s.step().await.0, Some(SweepKind::Retention));
        assert_eq!(steps_until_free(s, id).await, steps);
    }
}

async fn replayed_in_time(s: &Stage) {
    for late in [1, 0] {
        let (id, fence) = s.running_with(kept_for(1_000)).await;
        s.complete(id, fence).await;
        let purge_at = s.now().after(1_000);
        s.set(purge_at);
        if late == 1 {
            s.set(crate::stage::at(purge_at.as_millis() - 1));
        }
        s.replay(id, 0).await;
        assert_eq!(s.describe(id).await.purge_at, None);
        s.set(purge_at);
        let report = s.sweep().await;
        assert_eq!((report.total(), report.next_due_at), (0, None), "{late} ms before its purge");
        s.advance(100_000);
        assert_eq!(s.sweep().await.total(), 0);
        assert_eq!(s.state(id).await, StateName::Ready);
        // It ends anew, and is kept from then on.
        let fence = s.claim_this(id).await.fence;
        s.complete(id, fence).await;
        assert_eq!(s.describe(id).await.purge_at, Some(s.now().after(1_000)));
        s.advance(999);
        s.sweep().await;
        s.describe(id).await;
        s.advance(1);
        s.sweep().await;
        s.gone(id).await;
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, EngineError>, code: Code, what: &str) {
    assert_eq!(answer.map_err(|e| e.code()).err().flatten(), Some(code), "{what}");
}

async fn many_members(s: &Stage) {
    let flow_id = s.flow().await;
    let member = || {
        let mut args = s.creation_with(kept_for(1_000));
        args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
        args
    };
    // 150 attempts with their streams: 300 records.
    let heavy = numbered(500);
    ended_after(s, heavy, member(), 150, 1).await;
    for number in (1..=1_000).rev().filter(|n| *n != 500) {
        let mut args = member();
        args.execution_id = numbered(number);
        s.create(args).await;
        s.cancel(numbered(number)).await;
    }
    s.seal(flow_id).await;
    assert_eq!(s.describe_flow(flow_id).await.purge_at, Some(s.now().after(1_000)));
    s.advance(1_000);
    assert_eq!(s.step().await.0, Some(SweepKind::Retention));

    let flow = || CreateFlowArgs::builder().flow_id(flow_id).namespace(namespace()).flow_kind("pipeline").build();
    s.refused_with(Code::FlowNotFound, DescribeFlowArgs { flow_id }).await;
    refused(s.call(flow()).await, Code::FlowAlreadyTerminal, "its id is taken");
    refused(s.call(s.replay_args(numbered(7), 0)).await, Code::FlowNotFound, "a replay needs the flow");
    assert_eq!(s.walk(&every(), 1000).await.len(), 1_000, "listed as ever");

    let read = async |number: u128| s.backend.get_execution(GetExecutionArgs { execution_id: numbered(number) }).await;
    let mut anew = s.creation();
    for number in 1..=1_000_u128 {
        assert!(read(number).await.is_ok(), "{number} is readable until its first step");
        anew.execution_id = numbered(number);
        let steps = if number == 500 { 3 } else { 1 };
        for step in 1..=steps {
            if step > 1 {
                refused(s.call(anew.clone()).await, Code::ExecutionAlreadyExists, "records of it are left");
            }
            let (kind, report) = s.step().await;
            assert_eq!((kind, report.more), (Some(SweepKind::Backlog), number < 1_000), "step {step} of {number}");
            refused(read(number).await, Code::ExecutionNotFound, &format!("{number} is gone at its first step"));
        }
        if number % 250 == 0 || number == 1_000 {
            let left = s.walk(&every(), 1000).await;
            let ids: Vec<_> = left.iter().map(|x| x.execution_id).collect();
            assert_eq!(ids, (number + 1..=1_000).map(numbered).collect::<Vec<_>>());
        }
        if number < 1_000 {
            assert!(read(number + 1).await.is_ok());
        }
    }
    assert_eq!(s.step().await.1, SweepReport::default());
    assert!(s.lane_counts(lane()).await.is_empty());
    for number in [1, 500, 1_000] {
        anew.execution_id = numbered(number);
        s.create(anew.clone()).await;
    }
    match s.backend.create_flow(flow()).await {
        Ok(CreateFlowResult::Created { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(PARTITION, flow_id.partition());
}
