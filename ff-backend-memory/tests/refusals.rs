//! Every refusal code: an operation that is refused with it has changed nothing, by the whole state's snapshot.
#![allow(clippy::unwrap_used)] // the whole file is a test: a setup that fails is its failure

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ff_backend_memory::{MemoryBackend, Snapshot};
use ff_conformance::stage::*; // the table speaks the stage's words
use ff_conformance::{Fixture, Harness, TestName};
use ff_core::bounds::{Deployment, GraphBounds};
use ff_core::condition::{Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // the table speaks the whole contract
use ff_core::error::EngineError;
use ff_core::ids::{
    AttemptIndex, EdgeId, ExecutionId, FlowId, LeaseId, Namespace, SignalId, SuspensionId, WaitpointId,
    WorkerInstanceId,
};
use ff_core::operation::{Operation, dispatch};
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::TerminalOutcome;
use ff_core::time::ManualClock;
use ff_core::token::WaitpointToken;

struct Memory;

impl Harness for Memory {
    /// A deployment whose graphs are small, so that their bounds are soon reached.
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let graph = GraphBounds { members: 6, edges: 6, incoming: 2, data_incoming: 1, outgoing: 3, cycle_search: 2 };
        let deployment = Deployment { graph, ..Deployment::default() };
        let backend = MemoryBackend::open(deployment, Arc::new(clock.clone()));
        Fixture::new(Arc::new(backend.clone()), clock).with_guard(backend)
    }
}

type Setup = for<'a> fn(&'a Stage) -> Pin<Box<dyn Future<Output = Operation> + Send + 'a>>;

/// What no operation of this backend answers, and why.
const NOT_BY_AN_OPERATION: [(Code, &str); 3] = [
    (Code::FenceRequired, "a boundary's own: Actor::from_parts, before there is an operation"),
    (Code::StaleKid, "of backends that keep keys in a cache: here the current one is at hand"),
    (Code::KeystoreBusy, "of backends that load keys from a store: here they are at hand"),
];

macro_rules! table {
    ($($Code:ident => |$s:ident| $operation:expr;)+) => {
        /// For each code, what leads to it and the operation that is refused.
        fn table() -> Vec<(Code, Setup)> {
            vec![$((Code::$Code, |$s: &Stage| Box::pin(async move { Operation::from($operation) }))),+]
        }
    };
}

table! {
    InvalidInput => |s| { let mut args = s.creation(); args.kind = String::new(); args };
    InvalidPartition => |s| {
        let mut args = s.creation();
        args.execution_id = ExecutionId::from_parts(256, args.execution_id.uuid());
        args
    };
    PartitionMismatch => |s| {
        let flow_id = s.flow().await;
        let execution_id = ExecutionId::from_parts(PARTITION + 1, s.execution_id().uuid());
        AddExecutionToFlowArgs { flow_id, execution_id }
    };
    PayloadTooLarge => |s| { let mut args = s.creation(); args.payload = Bytes::from(vec![0; (1 << 20) + 1]); args };
    InvalidTagKey => |s| SetExecutionTagsArgs { execution_id: s.ready().await, tags: tag("nodot") };
    ExecutionNotFound => |s| GetExecutionArgs { execution_id: s.execution_id() };
    FlowNotFound => |s| SealFlowArgs::builder().flow_id(s.flow_id()).build();
    AttemptNotFound => |s| read_frames(s.ready().await);
    ExecutionNotActive => |s| {
        let (id, fence) = s.running().await;
        s.complete(id, fence).await;
        RenewLeaseArgs { execution_id: id, fence, lease_ttl_ms: LEASE_MS }
    };
    ExecutionTerminal => |s| {
        let id = s.ready().await;
        s.cancel(id).await;
        ChangePriorityArgs { execution_id: id, priority: 1 }
    };
    StaleLease => |s| {
        let (id, mut fence) = s.running().await;
        fence.lease_id = LeaseId::new();
        s.completion(id, fence, b"late")
    };
    LeaseExpired => |s| {
        let (id, fence) = s.running().await;
        s.advance(LEASE_MS);
        s.completion(id, fence, b"late")
    };
    LeaseRevoked => |s| { let (id, fence) = s.revoked().await; s.completion(id, fence, b"late") };
    TooManyTags => |s| {
        let id = s.ready().await;
        let tags = (0..64).map(|n| (format!("team.{n}"), Some(String::new()))).collect();
        s.call(SetExecutionTagsArgs { execution_id: id, tags }).await.unwrap();
        SetExecutionTagsArgs { execution_id: id, tags: tag("team.one_more") }
    };
    InvalidPolicy => |s| s.creation_with(ExecutionPolicy::builder().max_replays(1_000_001).build());
    InvalidCapabilities => |s| s.creation_with(requires(["a,b"]));
    CapabilityMismatch => |s| { let id = s.ready_with(requires(["gpu"])).await; s.grant_args(id, 1_000) };
    ExecutionAlreadyExists => |s| {
        let mut args = s.creation();
        s.create(args.clone()).await;
        args.priority = 9;
        args
    };
    IdempotencyConflict => |s| {
        let key = key_at_home(&namespace());
        let mut args = s.keyed_creation(&namespace(), &key, ExecutionPolicy::default());
        s.create(args.clone()).await;
        args.execution_id = s.execution_id();
        args.priority = 9;
        args
    };
    LeaseIdInUse => |s| {
        let (_, fence) = s.running().await;
        s.ready().await;
        let mut args = s.claim_args(1);
        args.slots[0].lease_id = fence.lease_id;
        args
    };
    ExecutionNotEligible => |s| { let (id, _) = s.running().await; s.grant_args(id, 1_000) };
    ExecutionNotReclaimable => |s| { let (id, _) = s.running().await; s.reclaim_grant_args(id) };
    GrantAlreadyExists => |s| {
        let id = s.ready().await;
        s.grant(id).await;
        let mut args = s.grant_args(id, 1_000);
        args.worker_instance_id = WorkerInstanceId::new("another").unwrap();
        args
    };
    InvalidClaimGrant => |s| { let id = s.ready().await; s.claim_by_id_args(id) };
    ClaimGrantExpired => |s| {
        let id = s.ready().await;
        s.grant(id).await;
        s.advance(10_000);
        s.claim_by_id_args(id)
    };
    StaleReplay => |s| {
        let id = s.ready().await;
        s.cancel(id).await;
        s.replay_args(id, 1)
    };
    UseClaimResumedExecution => |s| { let id = resumed(s).await; s.grant(id).await; s.claim_by_id_args(id) };
    NotAResumedExecution => |s| { let id = s.ready().await; s.grant(id).await; s.claim_resumed_args(id) };
    ExecutionNotTerminal => |s| { let id = s.ready().await; s.replay_args(id, 0) };
    MaxReplaysExhausted => |s| {
        let id = s.ready_with(ExecutionPolicy::builder().max_replays(0).build()).await;
        s.cancel(id).await;
        s.replay_args(id, 0)
    };
    TooManyCapabilitySets => |s| {
        for n in 0..256 {
            s.ready_with(requires([format!("c{n}").as_str()])).await;
        }
        s.creation_with(requires(["one-more"]))
    };
    InvalidResumeCondition => |s| {
        let (id, fence) = s.running().await;
        s.suspension(id, fence, vec![fresh()], ResumeCondition::count(0, Distinct::Signals, Matcher::any()))
    };
    InvalidToken => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        let mut args = s.signal(id, &waitpoint, "go");
        args.waitpoint_token = WaitpointToken::new("ffw1.k1.forged");
        args
    };
    TokenExpired => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        s.call(s.rotation("k2", 2, 60_000)).await.unwrap();
        s.advance(60_000);
        s.signal(id, &waitpoint, "go")
    };
    TokenSourceMismatch => |s| {
        let (id, fence) = s.running().await;
        let asleep = s.suspend(s.suspension(id, fence, vec![fresh_for(&["ann"])], ResumeCondition::any_signal())).await;
        let mut args = s.signal(id, &asleep.waitpoints[0], "go");
        args.source = human("bob");
        args
    };
    WaitpointNotFound => |s| {
        let (id, fence) = s.running().await;
        CloseWaitpointArgs { execution_id: id, fence, waitpoint_id: WaitpointId::new(), reason: "why".into() }
    };
    KidNotFound => |_s| RevokeWaitpointKidArgs { partition: PARTITION, kid: kid("never") };
    StaleSuspension => |s| {
        let (id, _, _) = s.suspended().await;
        s.resumption(id, Some(SuspensionId::new()))
    };
    SuspensionConflict => |s| {
        let (id, fence) = s.running().await;
        let mut args = s.any_signal(id, fence);
        s.call(args.clone()).await.unwrap();
        args.detail = Some("other".into());
        args
    };
    WaitpointAlreadyExists => |s| {
        let (id, fence) = s.running().await;
        let first = s.pending_for(id, fence, 1_000).await;
        let mut args = s.any_signal(id, fence);
        args.waitpoints = vec![WaitpointBinding::fresh(first.waitpoint_id)];
        args
    };
    SignalConflict => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        let mut args = s.signal(id, &waitpoint, "go");
        s.call(args.clone()).await.unwrap();
        args.name = "other".to_owned();
        args
    };
    OperatorOverrideForbidden => |s| {
        let (id, fence) = s.running().await;
        let mut args = s.any_signal(id, fence);
        args.resume_policy.allow_operator_override = false;
        s.call(args).await.unwrap();
        s.resumption(id, None)
    };
    RotationConflict => |s| s.rotation("k1", 99, 60_000);
    KidRetired => |s| {
        s.call(s.rotation("k2", 2, 60_000)).await.unwrap();
        s.advance(60_000);
        s.rotation("k1", 1, 60_000)
    };
    ExecutionNotSuspended => |s| s.resumption(s.ready().await, None);
    SuspensionTimedOut => |s| {
        let (id, fence) = s.running().await;
        let mut args = s.any_signal(id, fence);
        args.timeout = timeout(10, TimeoutBehavior::Fail);
        s.call(args).await.unwrap();
        s.advance(10);
        s.resumption(id, None)
    };
    WaitpointNotPending => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        to_buffer(&s.signal(id, &waitpoint, "go"))
    };
    PendingWaitpointExpired => |s| {
        let (id, fence) = s.running().await;
        let first = s.pending_for(id, fence, 1_000).await;
        s.advance(1_000);
        let mut args = s.any_signal(id, fence);
        args.waitpoints = vec![WaitpointBinding::Pending { waitpoint_id: first.waitpoint_id }];
        args
    };
    WaitpointInUse => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        s.resume(id).await;
        let claimed = s.claim_resumed(id).await.claimed;
        let again = s.suspend_on_any_signal(id, claimed.fence).await;
        assert_ne!(again.waitpoint_id, waitpoint.waitpoint_id);
        // Nobody owns a suspended execution: its own fence has ended, and the waitpoint is in use before that counts.
        CloseWaitpointArgs {
            execution_id: id,
            fence: claimed.fence,
            waitpoint_id: again.waitpoint_id,
            reason: "why".into(),
        }
    };
    WaitpointClosed => |s| {
        let (id, _, waitpoint) = s.suspended().await;
        s.resume(id).await;
        s.signal(id, &waitpoint, "go")
    };
    HmacSecretNotInitialized => |s| {
        let mut args = s.creation();
        args.execution_id = ExecutionId::from_parts(PARTITION + 1, args.execution_id.uuid());
        let id = s.create(args).await;
        let mut claim = s.claim_args(1);
        claim.partition = PARTITION + 1;
        let claimed = s.backend.claim_next(claim).await.unwrap().claimed.remove(0);
        pending(s, id, claimed.claimed().fence)
    };
    KidIsCurrent => |_s| RevokeWaitpointKidArgs { partition: PARTITION, kid: kid("k1") };
    WaitpointLimitExceeded => |s| {
        let (id, fence) = s.running().await;
        for _ in 0..MAX_WAITPOINTS {
            s.pending_for(id, fence, 1_000).await;
        }
        pending(s, id, fence)
    };
    SignalLimitExceeded => |s| {
        let id = s.ready_with(max_signals(1)).await;
        let fence = s.claim_this(id).await.fence;
        let waitpoint = s.pending_for(id, fence, 1_000).await;
        let mut args = s.signal(id, &waitpoint, "go");
        s.call(args.clone()).await.unwrap();
        args.signal_id = SignalId::new();
        args
    };
    TooManyKids => |s| {
        for n in 2..=MAX_LIVE_KIDS {
            s.call(s.rotation(&format!("k{n}"), u8::try_from(n).unwrap(), 60_000)).await.unwrap();
        }
        s.rotation("k17", 17, 60_000)
    };
    FlowSpecConflict => |s| {
        let flow_id = s.flow().await;
        CreateFlowArgs::builder().flow_id(flow_id).namespace(namespace()).flow_kind("another").build()
    };
    FlowAlreadyTerminal => |s| {
        let flow_id = s.flow().await;
        s.member(flow_id, &[]).await;
        s.cancel_flow(flow_id, CancellationPolicy::CancelAll).await;
        s.member_creation(flow_id, &[])
    };
    FlowSealed => |s| {
        let flow_id = s.flow().await;
        s.member(flow_id, &[]).await;
        s.seal(flow_id).await;
        s.member_creation(flow_id, &[])
    };
    FlowTooLarge => |s| {
        let flow_id = s.flow().await;
        for _ in 0..6 {
            s.member(flow_id, &[]).await;
        }
        s.member_creation(flow_id, &[])
    };
    FanInLimit => |s| {
        let flow_id = s.flow().await;
        let mut up = Vec::new();
        for _ in 0..3 {
            up.push(s.member(flow_id, &[]).await);
        }
        s.member_creation(flow_id, &up)
    };
    FanOutLimit => |s| {
        let flow_id = s.flow().await;
        let up = s.member(flow_id, &[]).await;
        for _ in 0..3 {
            s.member(flow_id, &[up]).await;
        }
        s.member_creation(flow_id, &[up])
    };
    GraphTooLarge => |s| {
        let (flow_id, a, _, d) = chain(s).await;
        s.edge_args(flow_id, d, a)
    };
    StaleGraphRevision => |s| {
        let (flow_id, a, b, _) = chain(s).await;
        let mut args = s.edge_args(flow_id, a, b);
        args.expected_graph_revision = Some(1_000);
        args
    };
    NamespaceMismatch => |s| {
        let flow_id = s.flow().await;
        let mut args = s.creation();
        args.namespace = Namespace::new("other").unwrap();
        AddExecutionToFlowArgs { flow_id, execution_id: s.create(args).await }
    };
    ExecutionAlreadyInFlow => |s| {
        let (first, second) = (s.flow().await, s.flow().await);
        AddExecutionToFlowArgs { flow_id: second, execution_id: s.member(first, &[]).await }
    };
    ExecutionNotInFlow => |s| {
        let (flow_id, a, _, _) = chain(s).await;
        s.edge_args(flow_id, a, s.ready().await)
    };
    NotRunnable => |s| PromoteBlockedToEligibleArgs { execution_id: s.running().await.0 };
    SelfReferencingEdge => |s| { let (flow_id, a, _, _) = chain(s).await; s.edge_args(flow_id, a, a) };
    DuplicateMemberName => |s| s.submission(vec![spec("a"), spec("a")], vec![]);
    UnknownMember => |s| s.submission(vec![spec("a"), spec("b")], vec![arrow("a", "c")]);
    DependencyAlreadyExists => |s| { let (flow_id, a, b, _) = chain(s).await; s.edge_args(flow_id, a, b) };
    DependencySpecMismatch => |s| {
        let mut args = s.application(&staged(s).await);
        args.dependency_kind = DependencyKind::AnyTerminal;
        args
    };
    DependencyResolutionMismatch => |s| {
        let (flow_id, a, b, _) = chain(s).await;
        let edge_id = s.edge_between(flow_id, a, b).await.edge_id;
        s.cancel(a).await;
        ResolveDependencyArgs::builder()
            .flow_id(flow_id)
            .edge_id(edge_id)
            .upstream_outcome(TerminalOutcome::Success)
            .build()
    };
    DataNameConflict => |s| {
        let flow_id = s.flow().await;
        let (a, b) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
        let mut args = s.member_creation(flow_id, &[a, b]);
        for edge in args.flow.iter_mut().flat_map(|join| join.edges.iter_mut()) {
            edge.data_passing_ref = Some(data_name("page"));
        }
        args
    };
    CycleDetected => |s| { let (flow_id, a, b, _) = chain(s).await; s.edge_args(flow_id, b, a) };
    EdgeNotFound => |s| {
        let (flow_id, _, _, _) = chain(s).await;
        DescribeEdgeArgs { flow_id, edge_id: EdgeId::new() }
    };
    EdgeNotApplied => |s| {
        let staged = staged(s).await;
        ResolveDependencyArgs::builder().flow_id(staged.flow_id).edge_id(staged.edge_id).build()
    };
    UpstreamNotTerminal => |s| {
        let (flow_id, a, b, _) = chain(s).await;
        let edge_id = s.edge_between(flow_id, a, b).await.edge_id;
        ResolveDependencyArgs::builder().flow_id(flow_id).edge_id(edge_id).build()
    };
    UpstreamAlreadyTerminal => |s| {
        let flow_id = s.flow().await;
        let (a, b) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
        s.cancel(a).await;
        let mut args = s.edge_args(flow_id, a, b);
        args.on_upstream_terminal = OnUpstreamTerminal::Reject;
        args
    };
    DepsImpossible => |s| {
        let (_, a, b, _) = chain(s).await;
        s.cancel(a).await;
        s.replay_args(b, 0)
    };
    BudgetNotFound => |_s| GetBudgetStatusArgs { budget_id: budget_id(BUDGET) };
    QuotaPolicyNotFound => |_s| GetQuotaStatusArgs { quota_policy_id: quota_id(QUOTA) };
    BudgetConflict => |s| {
        s.call(tokens(10)).await.unwrap();
        tokens(11)
    };
    QuotaPolicyConflict => |s| {
        s.call(polite(1)).await.unwrap();
        polite(2)
    };
    DedupKeyConflict => |s| {
        s.call(tokens(10)).await.unwrap();
        let report = |n| keyed(record(BUDGET, &[("tokens", n)]), "once");
        s.call(report(1)).await.unwrap();
        report(2)
    };
    FrameSeqConflict => |s| {
        let (id, fence) = s.running().await;
        s.call(first_frame(id, fence, "a")).await.unwrap();
        first_frame(id, fence, "b")
    };
    TooManyDimensions => |s| {
        s.call(tokens(10)).await.unwrap();
        let undeclared: Vec<String> = (0..64).map(|n| format!("d{n}")).collect();
        let amounts: Vec<_> = undeclared.iter().map(|name| (name.as_str(), 1)).collect();
        s.call(record(BUDGET, &amounts)).await.unwrap();
        record(BUDGET, &[("one-more", 1)])
    };
    ResultNotAvailable => |s| GetResultArgs::builder().execution_id(s.ready().await).build();
}

fn check(code: Code, setup: Setup) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = ManualClock::at(at(START_MS));
        let fixture = Memory.open(&TestName(code.as_str().to_owned()), clock).await;
        let backend = fixture.guard::<MemoryBackend>().unwrap().clone();
        let stage = Stage::open(&Arc::new(Memory), fixture).await;
        let operation = setup(&stage).await;
        let before = backend.snapshot();
        let model = backend.model();
        match dispatch(&backend, operation.clone()).await {
            Err(EngineError::Refused(refusal)) => assert_eq!(refusal.code(), code, "{}: {refusal}", operation.name()),
            other => panic!("{operation:?} answered {other:?}"),
        }
        let difference = before.difference(&backend.snapshot());
        assert!(difference.is_empty(), "changed\n{}", difference.join("\n"));
        assert_eq!(model, backend.model(), "changed what no snapshot shows");
        assert_eq!(backend.model().audit(), Vec::<String>::new());
    });
}

#[test]
fn a_refusal_of_any_code_changes_nothing() {
    let table = table();
    let failed: Vec<Code> = table
        .into_iter()
        .filter(|(code, setup)| std::panic::catch_unwind(|| check(*code, *setup)).is_err())
        .map(|(code, _)| code)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_code_has_an_entry_or_a_reason() {
    let entries: Vec<Code> = table().iter().map(|(code, _)| *code).collect();
    let excused: Vec<Code> = NOT_BY_AN_OPERATION.iter().map(|(code, _)| *code).collect();
    let all: BTreeSet<Code> = entries.iter().chain(&excused).copied().collect();
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !all.contains(code)).collect();
    assert!(missing.is_empty(), "no entry: {missing:?}");
    assert_eq!(entries.len() + excused.len(), Code::ALL.len(), "an entry too many");
}

#[test]
fn a_snapshot_is_plain_data_without_secrets() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = ManualClock::at(at(START_MS));
        let fixture = Memory.open(&TestName("snapshot".to_owned()), clock).await;
        let backend = fixture.guard::<MemoryBackend>().unwrap().clone();
        let s = &Stage::open(&Arc::new(Memory), fixture).await;
        let mut args = s.creation();
        args.payload = Bytes::from_static(&[0xff, 0, 1]);
        s.create(args).await;
        let taken = s.claim().await;
        s.call(first_frame(taken.execution_id, taken.fence, "a")).await.unwrap();
        s.complete_with(taken.execution_id, taken.fence, b"done").await;
        let (id, _, waitpoint) = s.suspended().await;
        s.call(s.signal(id, &waitpoint, "go")).await.unwrap();
        chain(s).await;
        s.call(tokens(10)).await.unwrap();
        s.call(keyed(record(BUDGET, &[("tokens", 3)]), "once")).await.unwrap();
        s.call(polite(1)).await.unwrap();
        for id in [s.execution_id(), s.execution_id()] {
            s.call(question(QUOTA, id, 1_000)).await.unwrap();
        }
        let snapshot = backend.snapshot();
        assert_eq!(snapshot, backend.model().snapshot());
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
        for byte in [1_u8, 2] {
            let hex: String = (0..32).map(|_| format!("{byte:02x}")).collect();
            assert!(!text.contains(&hex), "a secret shows");
        }
        let token = serde_json::to_string(waitpoint.tokens[0].token.expose()).unwrap();
        assert!(!text.contains(token.trim_matches('"')), "a token shows");
        // What differs is named by its path.
        let before = snapshot;
        s.call(ChangePriorityArgs { execution_id: s.ready().await, priority: 3 }).await.unwrap();
        let lines = before.difference(&backend.snapshot());
        assert!(lines.iter().any(|line| line.starts_with("/partitions/5/executions/")), "{lines:?}");
        // An empty partition is no part of it.
        assert_eq!(before.partitions.keys().collect::<Vec<_>>(), [&PARTITION]);
    });
}

#[test]
fn what_no_operation_answers_is_a_boundarys() {
    assert_eq!(Actor::from_parts(None, None, None, None), Err(Refusal::fence_required()));
}

// --- what the entries are made of ---

fn tag(key: &str) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([(key.to_owned(), Some("x".to_owned()))])
}

fn read_frames(id: ExecutionId) -> ReadFramesArgs {
    ReadFramesArgs::builder().execution_id(id).attempt_index(AttemptIndex(0)).build()
}

/// The first frame of the worker's own counting.
fn first_frame(id: ExecutionId, fence: Fence, payload: &'static str) -> AppendFrameArgs {
    numbered_frame(frame(id, fence, payload), 1)
}

/// A suspended execution that an operator has resumed: READY, with a paused attempt.
async fn resumed(s: &Stage) -> ExecutionId {
    let (id, _, _) = s.suspended().await;
    s.resume(id).await;
    id
}

/// The arguments of a pending waitpoint that lives for a second.
fn pending(s: &Stage, id: ExecutionId, fence: Fence) -> CreatePendingWaitpointArgs {
    let mut args = s.pending_args(id, fence);
    args.expires_in_ms = 1_000;
    args
}

/// A chain of four members: the flow, the first, the second and the last.
async fn chain(s: &Stage) -> (FlowId, ExecutionId, ExecutionId, ExecutionId) {
    let flow_id = s.flow().await;
    let ids = s.chain(flow_id, 4).await;
    (flow_id, ids[0], ids[1], ids[3])
}

/// An edge that is only staged, the one of its flow.
async fn staged(s: &Stage) -> StageDependencyEdgeArgs {
    let flow_id = s.flow().await;
    let (a, b) = (s.member(flow_id, &[]).await, s.member(flow_id, &[]).await);
    let mut args = s.edge_args(flow_id, a, b);
    args.apply = false;
    s.stage(args.clone()).await;
    args
}

const BUDGET: &str = "tokens-of-today";
const QUOTA: &str = "polite";

fn tokens(hard: u64) -> CreateBudgetArgs {
    budget(BUDGET, &[("tokens", Limits::hard(hard))])
}

fn polite(max_concurrent: u64) -> CreateQuotaPolicyArgs {
    rate_and_cap(QUOTA, 5, 10_000, max_concurrent)
}
