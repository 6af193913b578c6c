//! Waitpoints by themselves: made ahead, withdrawn, listed, and gone with their execution.

use ff_core::condition::{Condition, Distinct, LeafProgress, Matcher, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{ExecutionId, LeaseId, WaitpointId};
use ff_core::operation::Outcome;
use ff_core::policy::ExecutionPolicy;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::StateName;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

cases! { "suspension";
    "create_pending_waitpoint: a repeat returns the same token and the first expiry; after closing, the id is refused for ever." => created_again,
    "create_pending_waitpoint: the seventeenth open pending waitpoint is refused, and an aged-out one counts no more before any sweep." => seventeen,
    "create_pending_waitpoint: a retried or reclaimed execution finds the pending waitpoints of the old attempt closed and their tokens waitpoint_closed." => old_attempt,
    "close_waitpoint: an active waitpoint is waitpoint_in_use and signals still resume it; a lost or foreign fence closes nothing." => not_closed,
    "close_waitpoint: the signals buffered on a closed or aged-out pending waitpoint read no_op_waitpoint_never_activated." => never_activated,
    "list_pending_waitpoints: pending and active waitpoints are listed, closed, aged-out and timed-out ones are not, and no token appears unasked." => listed,
    "list_pending_waitpoints: after a purge and a full drain no suspension, waitpoint, signal, dedup entry or timer of the execution remains." => purged,
}

async fn created_again(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut args = s.pending_args(id, fence);
    args.expires_in_ms = 5_000;
    args.sources = vec![human("bob"), human("ann")];
    let expires_at = s.now().after(5_000);
    let (created, first_expiry) = s.create_pending(args.clone()).await;
    assert_eq!(first_expiry, expires_at);
    let sources: Vec<_> = created.tokens.iter().map(|issued| issued.source.clone()).collect();
    assert_eq!(sources, [Some(human("bob")), Some(human("ann"))]);
    s.advance(10);
    match s.changes_nothing(args.clone()).await {
        Outcome::CreatePendingWaitpoint(CreatePendingWaitpointResult::AlreadyExists {
            waitpoint_id,
            tokens,
            expires_at: told,
            summary,
        }) => {
            assert_eq!((waitpoint_id, &tokens), (created.waitpoint_id, &created.tokens));
            assert_eq!(told, expires_at);
            assert_eq!(summary.state_vector.name(), Some(StateName::Running));
        }
        other => panic!("{other:?}"),
    }
    let pending = Refusal::waitpoint_already_exists(WaitpointState::Pending);
    let changes: [fn(&mut CreatePendingWaitpointArgs); 3] =
        [|a| a.expires_in_ms = 4_990, |a| a.sources.reverse(), |a| a.sources.clear()];
    for change in changes {
        let mut other = args.clone();
        change(&mut other);
        assert_eq!(s.refused(other).await, pending);
    }
    s.withdraw(id, fence, created.waitpoint_id).await;
    let closed = Refusal::waitpoint_already_exists(WaitpointState::Closed);
    assert_eq!(s.refused(args.clone()).await, closed);
    s.complete(id, fence).await;
    s.replay(id, 0).await;
    args.fence = s.claim_this(id).await.fence;
    assert_eq!(s.refused(args.clone()).await, closed);

    // The id is this execution's alone.
    let (other, fence) = s.running().await;
    args.execution_id = other;
    args.fence = fence;
    let (elsewhere, _) = s.create_pending(args).await;
    assert_ne!(elsewhere.tokens, created.tokens);
}

async fn seventeen(s: &Stage) {
    let (id, fence) = s.running().await;
    let short = s.pending_for(id, fence, 1_000).await;
    let mut others = Vec::new();
    for _ in 0..15 {
        others.push(s.pending_for(id, fence, 60_000).await);
    }
    let full = Refusal::waitpoint_limit_exceeded(WaitpointLimitScope::Pending, 16_u64);
    assert_eq!(s.refused(s.pending_args(id, fence)).await, full);
    s.advance(999);
    assert_eq!(s.refused(s.pending_args(id, fence)).await, full);
    s.advance(1);
    let next = s.pending_for(id, fence, 60_000).await;
    assert_eq!(s.refused(s.pending_args(id, fence)).await, full);
    let open: Vec<_> = s.waitpoints(id).await.iter().map(|w| w.waitpoint_id).collect();
    assert_eq!(open.len(), 16);
    assert!(open.contains(&next.waitpoint_id) && !open.contains(&short.waitpoint_id));
    assert_eq!(s.sweep().await.count(TimerKind::PendingWaitpoint), 1);
    assert_eq!(s.refused(s.pending_args(id, fence)).await, full);
    s.withdraw(id, fence, others[0].waitpoint_id).await;
    s.pending(id, fence).await;
    assert_eq!(s.describe(id).await.waitpoint_count, 18);
    // Another execution has its own sixteen.
    let (other, fence) = s.running().await;
    s.pending(other, fence).await;
}

async fn old_attempt(s: &Stage) {
    let (id, fence) = s.running_with(retries(1, 0)).await;
    let waitpoint = s.pending(id, fence).await;
    let aged = s.pending_for(id, fence, 1_000).await;
    let early = s.signal(id, &waitpoint, "early");
    s.deliver(early.clone()).await;
    s.advance(1_000);
    s.fail_and_retry(id, fence).await;
    let closed = async || {
        assert_eq!(s.waitpoints(id).await, []);
        s.refused_as_closed(s.signal(id, &waitpoint, "go"), WaitpointCloseReason::AttemptEnded).await;
        s.refused_as_closed(s.signal(id, &aged, "go"), WaitpointCloseReason::Expired).await;
        let became = s.duplicate(early.clone()).await;
        assert_eq!(became, (early.signal_id, SignalEffect::NoOpWaitpointNeverActivated));
    };
    closed().await;
    let fence = s.claim_this(id).await.fence;
    closed().await;
    assert_eq!(s.sweep().await.count(TimerKind::PendingWaitpoint), 0, "its timer went with it");
    s.complete(id, fence).await;

    for revoked in [false, true] {
        let (id, fence) = s.running().await;
        let waitpoint = s.pending(id, fence).await;
        if revoked {
            s.revoke(id, fence).await;
        } else {
            s.lose(id, fence).await;
        }
        assert_eq!(s.waitpoints(id).await, []);
        let fence = s.reclaim(id).await.fence;
        s.refused_as_closed(s.signal(id, &waitpoint, "go"), WaitpointCloseReason::AttemptEnded).await;
        match s.changes_nothing(s.withdrawal(id, fence, waitpoint.waitpoint_id)).await {
            Outcome::CloseWaitpoint(CloseWaitpointResult::AlreadyClosed { close_reason, .. }) => {
                assert_eq!(close_reason, WaitpointCloseReason::AttemptEnded);
            }
            other => panic!("{other:?}"),
        }
        s.complete(id, fence).await;
    }
}

/// Withdrawing must find the waitpoint closed for this reason, and change nothing.
async fn already_closed(s: &Stage, args: CloseWaitpointArgs, want: WaitpointCloseReason) {
    let waitpoint = args.waitpoint_id;
    match s.changes_nothing(args).await {
        Outcome::CloseWaitpoint(CloseWaitpointResult::AlreadyClosed { waitpoint_id, close_reason, .. }) => {
            assert_eq!((waitpoint_id, close_reason), (waitpoint, want));
        }
        other => panic!("{other:?}"),
    }
}

async fn not_closed(s: &Stage) {
    let (id, fence, active) = s.suspended().await;
    let mut foreign = fence;
    foreign.lease_id = LeaseId::new();
    for fence in [fence, foreign] {
        let args = s.withdrawal(id, fence, active.waitpoint_id);
        assert_eq!(s.refused(args).await, Refusal::waitpoint_in_use());
    }
    assert_eq!(s.send(id, &active, "go").await, SignalEffect::ResumeConditionSatisfied);
    s.cancel(id).await;
    already_closed(s, s.withdrawal(id, fence, active.waitpoint_id), WaitpointCloseReason::Satisfied).await;

    let (id, fence) = s.running().await;
    let waitpoint = s.pending(id, fence).await.waitpoint_id;
    let unknown = s.withdrawal(id, fence, WaitpointId::new());
    assert_eq!(s.refused(unknown).await, Refusal::waitpoint_not_found());
    let mut foreign = fence;
    foreign.lease_id = LeaseId::new();
    assert_eq!(s.refused(s.withdrawal(id, foreign, waitpoint)).await, Refusal::stale_lease());
    s.advance(LEASE_MS);
    assert_eq!(s.refused(s.withdrawal(id, fence, waitpoint)).await, Refusal::lease_expired());
    let open = s.waitpoints(id).await;
    assert_eq!((open.len(), open[0].state), (1, WaitpointState::Pending));
    s.cancel(id).await;
    already_closed(s, s.withdrawal(id, fence, waitpoint), WaitpointCloseReason::ExecutionEnded).await;

    // The owner does close it, once; and its id stays what it became, whoever asks.
    let (id, fence) = s.running().await;
    let waitpoint = s.pending(id, fence).await;
    s.withdraw(id, fence, waitpoint.waitpoint_id).await;
    assert_eq!(s.sweep().await.next_due_at, Some(s.now().after(LEASE_MS)), "its timer is disarmed");
    let late = s.signal(id, &waitpoint, "go");
    s.refused_as_closed(late, WaitpointCloseReason::Withdrawn).await;
    for fence in [fence, foreign] {
        let args = s.withdrawal(id, fence, waitpoint.waitpoint_id);
        already_closed(s, args, WaitpointCloseReason::Withdrawn).await;
    }
}

async fn never_activated(s: &Stage) {
    let (id, fence) = s.running().await;
    let withdrawn = s.pending(id, fence).await;
    let aged = s.pending_for(id, fence, 1_000).await;
    let signals = [s.signal(id, &withdrawn, "a"), s.signal(id, &aged, "b")];
    for signal in &signals {
        s.deliver(signal.clone()).await;
    }
    let read = async |n: usize, want| {
        let signal = &signals[n];
        assert_eq!(s.duplicate(signal.clone()).await, (signal.signal_id, want));
        match s.changes_nothing(to_buffer(signal)).await {
            Outcome::BufferSignal(BufferSignalResult::Duplicate { signal_id, effect, .. }) => {
                assert_eq!((signal_id, effect), (signal.signal_id, want));
            }
            other => panic!("{other:?}"),
        }
    };
    s.advance(999);
    read(0, SignalEffect::BufferedForPendingWaitpoint).await;
    read(1, SignalEffect::BufferedForPendingWaitpoint).await;
    s.withdraw(id, fence, withdrawn.waitpoint_id).await;
    read(0, SignalEffect::NoOpWaitpointNeverActivated).await;
    read(1, SignalEffect::BufferedForPendingWaitpoint).await;
    s.advance(1);
    read(1, SignalEffect::NoOpWaitpointNeverActivated).await;
    already_closed(s, s.withdrawal(id, fence, aged.waitpoint_id), WaitpointCloseReason::Expired).await;
    assert_eq!(s.sweep().await.count(TimerKind::PendingWaitpoint), 1);
    already_closed(s, s.withdrawal(id, fence, aged.waitpoint_id), WaitpointCloseReason::Expired).await;
    for n in 0..2 {
        read(n, SignalEffect::NoOpWaitpointNeverActivated).await;
    }
    s.complete(id, fence).await;
    for n in 0..2 {
        read(n, SignalEffect::NoOpWaitpointNeverActivated).await;
    }
}

async fn listed(s: &Stage) {
    let (id, fence) = s.running().await;
    let numbered = |n: u128| WaitpointId::from_uuid(uuid::Uuid::from_u128(n));
    // Made in no order: the list is by id.
    let create = async |n: u128, expires_in_ms: u64| {
        let mut args = s.pending_args(id, fence);
        args.waitpoint_id = numbered(n);
        args.expires_in_ms = expires_in_ms;
        args.sources = vec![human("ann")];
        s.create_pending(args).await.0
    };
    let kept = create(5, 86_400_000).await;
    let withdrawn = create(2, 86_400_000).await;
    create(9, 1_000).await;
    let named = create(7, 2_000).await;
    let created_at = s.now();
    let ids = async || s.waitpoints(id).await.iter().map(|w| w.waitpoint_id.uuid().as_u128()).collect::<Vec<_>>();
    assert_eq!(ids().await, [2, 5, 7, 9]);
    s.withdraw(id, fence, withdrawn.waitpoint_id).await;
    assert_eq!(ids().await, [5, 7, 9]);
    s.advance(1_000);
    assert_eq!(ids().await, [5, 7], "aged out, and nothing was swept");
    s.send(id, &kept, "early").await;

    let bindings = vec![WaitpointBinding::pending(named.waitpoint_id), WaitpointBinding::fresh(numbered(1))];
    let condition = Condition::all_of([
        Condition::signal_at(numbered(7), "go"),
        Condition::count_at([numbered(1), numbered(7)], 2, Distinct::Signals, Matcher::any()),
        Condition::signal_at(numbered(1), "go"),
    ]);
    let mut args = s.suspension(id, fence, bindings, condition);
    args.reason_code = SuspensionReason::WaitingForApproval;
    args.detail = Some("publish?".to_owned());
    args.timeout = timeout(10_000, TimeoutBehavior::AutoResume);
    let asleep = s.suspend(args).await;
    s.send(id, &asleep.waitpoints[0], "hm").await;
    let open = s.waitpoints(id).await;
    assert_eq!(open.iter().map(|w| w.waitpoint_id.uuid().as_u128()).collect::<Vec<_>>(), [1, 5, 7]);
    let leaf = |n: u32, have, need| LeafProgress { path: format!("/root/of/{n}"), have, need };
    let [fresh, pending, active] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((pending.state, &pending.suspension), (WaitpointState::Pending, &None));
    assert_eq!((pending.created_at, pending.activated_at), (created_at, None));
    assert_eq!((pending.expires_at, pending.signal_count), (Some(created_at.after(86_400_000)), 1));
    assert_eq!((active.state, active.signal_count), (WaitpointState::Active, 1));
    assert_eq!((active.created_at, active.activated_at), (created_at, Some(s.now())));
    assert_eq!(active.sources, [human("ann")]);
    assert_eq!((fresh.state, fresh.signal_count, fresh.expires_at), (WaitpointState::Active, 0, None));
    assert_eq!((fresh.created_at, fresh.activated_at), (s.now(), Some(s.now())));
    assert_eq!(fresh.sources, []);
    for (waitpoint, progress) in [(fresh, [leaf(1, 1, 2), leaf(2, 0, 1)]), (active, [leaf(0, 0, 1), leaf(1, 1, 2)])] {
        let Some(shown) = &waitpoint.suspension else { panic!("{waitpoint:?}") };
        assert_eq!(shown.suspension_id, asleep.suspension_id);
        assert_eq!(shown.reason_code, SuspensionReason::WaitingForApproval);
        assert_eq!(shown.detail.as_deref(), Some("publish?"));
        assert_eq!((shown.timeout_at, shown.timeout_behavior), (asleep.timeout_at, Some(TimeoutBehavior::AutoResume)));
        assert_eq!(shown.progress, progress);
    }
    assert!(open.iter().all(|w| w.tokens.is_empty()), "no token appears unasked");
    let text = serde_json::to_string(&open).unwrap_or_else(|e| panic!("{e}"));
    for issued in asleep.waitpoints.iter().flat_map(|w| &w.tokens) {
        assert!(!text.contains(issued.token.expose()));
    }
    let reissued = s.reissued(id).await;
    assert_eq!(reissued, [asleep.waitpoints[1].clone(), kept, asleep.waitpoints[0].clone()]);

    let mut walked = Vec::new();
    let mut cursor = None;
    loop {
        let args = ListPendingWaitpointsArgs::builder().execution_id(id).limit(1).maybe_cursor(cursor).build();
        let page = s.backend.list_pending_waitpoints(args).await.unwrap_or_else(|e| panic!("list: {e}"));
        assert!(page.waitpoints.len() <= 1);
        walked.extend(page.waitpoints);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(walked, open);

    s.advance(10_000);
    assert_eq!(ids().await, [5], "timed out, and nothing was swept");
    s.sweep().await;
    assert_eq!(ids().await, [5], "one that no suspension named stays pending");
    s.cancel(id).await;
    assert_eq!(ids().await, [0; 0]);
}

async fn purged(s: &Stage) {
    let id: ExecutionId = s.execution_id();
    let mut creation = s.creation_with(ExecutionPolicy::builder().retention_ms(0).build());
    creation.execution_id = id;
    s.create(creation.clone()).await;
    let fence = s.claim_this(id).await.fence;
    let pending = s.pending(id, fence).await;
    let ignored = s.pending(id, fence).await;
    let key = |mut args: DeliverSignalArgs, payload: &'static [u8]| {
        args.idempotency_key = Some("k".to_owned());
        args.payload = payload.into();
        args
    };
    let buffered = key(s.signal(id, &pending, "early"), b"1");
    s.deliver(buffered.clone()).await;
    s.send(id, &ignored, "early").await;
    let bindings = vec![WaitpointBinding::pending(pending.waitpoint_id), fresh()];
    let condition = ResumeCondition::count(400, Distinct::Signals, Matcher::any());
    let mut suspend = s.suspension(id, fence, bindings, condition);
    suspend.timeout = timeout(60_000, TimeoutBehavior::Fail);
    let asleep = s.suspend(suspend.clone()).await;
    // More records than one step of a purge removes.
    s.send_noise(id, &asleep.waitpoints[1], 300, &bytes::Bytes::new(), SignalEffect::AppendedToWaitpoint).await;
    s.cancel(id).await;
    let swept = s.sweep().await;
    assert_eq!(swept.count(TimerKind::Retention), 1);
    assert_eq!(swept.next_due_at, None, "no timer remains");

    s.gone(id).await;
    for args in [buffered.clone(), s.signal(id, &asleep.waitpoints[1], "go"), s.signal(id, &ignored, "go")] {
        s.refused_with(Code::WaitpointNotFound, args).await;
    }
    let none = Refusal::execution_not_found();
    assert_eq!(s.refused(ListPendingWaitpointsArgs::builder().execution_id(id).build()).await, none);
    assert_eq!(s.refused(ListSignalsArgs::builder().execution_id(id).build()).await, none);
    let expiry = ExpireSuspensionArgs { execution_id: id, suspension_id: asleep.suspension_id };
    assert_eq!(s.refused(expiry).await, none);
    assert_eq!(s.refused(s.resumption(id, None)).await, none);
    let rebuilt = s.rebuild().await;
    assert_eq!((rebuilt.examined, rebuilt.total(), rebuilt.corrupt), (0, 0, Vec::new()));

    // A namesake meets nothing of it: every id and key is free, whatever its content was.
    s.create(creation).await;
    let x = s.describe(id).await;
    assert_eq!((x.waitpoint_count, x.signal_count, x.suspension), (0, 0, None));
    assert_eq!(s.signals(id).await, ListSignalsResult::default());
    let fence = s.claim_this(id).await.fence;
    suspend.fence = fence;
    suspend.detail = Some("another".to_owned());
    suspend.timeout = SuspensionTimeout::Never;
    suspend.waitpoints = asleep.waitpoints.iter().map(|w| WaitpointBinding::fresh(w.waitpoint_id)).collect();
    let again = s.suspend(suspend).await;
    let other = key(buffered, b"2");
    assert_eq!(s.deliver(other).await, SignalEffect::AppendedToWaitpoint);
    let signals = s.signals(id).await.signals;
    assert_eq!((signals.len(), signals[0].seq), (1, 1));
    assert_eq!(again.timeout_at, None);
    s.advance(60_000);
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(id).await, StateName::Suspended);
}
