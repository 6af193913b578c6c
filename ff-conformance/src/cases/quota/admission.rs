//! Admission from end to end: `resources.md`, section 3.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::ExecutionId;
use ff_core::refusal::Code;
use ff_core::state::{BlockReason, PublicState, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{
    LEASE_MS, Owned, Stage, budget, cap, numbered, question, quota_id, rate, rate_and_cap, record, under,
};

cases! { "quota";
    "admission: X's lease ends by each of complete, fail, cancel, deadline, suspend, delay, wait for children and revoke: one slot is freed exactly once." => endings,
    "admission: a budget exhausted by a record parks the next claim of an attached execution, and it runs after the scheduled reset with no call but sweep and claim." => exhausted,
    "admission: a rate-limited execution is claimable again at retry_at by sweep and claim alone." => rate_limited,
    "admission: an unknown budget or quota policy admits nobody." => unknown,
    "admission: two processes asking for one execution use one slot and one charge." => two_processes,
    "admission: after a crash behind any step of section 3 every execution ends and in_use returns to 0." => crashes,
}

/// The one that a pass admits and claims; it must be this one.
async fn admitted(s: &Stage, id: ExecutionId) -> Owned {
    let mut owned = s.admission_pass().await;
    assert_eq!(owned.iter().map(|o| o.execution_id).collect::<Vec<_>>(), [id]);
    owned.remove(0)
}

async fn endings(s: &Stage) {
    s.create_quota(cap("q", 2)).await;
    s.admitted(question("q", numbered(1), 90_000_000)).await;
    for way in ["complete", "fail", "cancel", "deadline", "suspend", "delay", "children", "revoke"] {
        let mut args = s.creation_with(under(Some("q"), &[]));
        if way == "deadline" {
            std::sync::Arc::make_mut(&mut args.policy).timeouts.deadline = Some(When::After(10_000));
        }
        let flow_id = s.flow().await;
        args.flow = Some(FlowJoin { flow_id, hold: false, edges: Vec::new() });
        let id = s.create(args).await;
        let owned = admitted(s, id).await;
        assert_eq!(s.quota("q").await.in_use, 2, "{way}");
        match way {
            "complete" => drop(s.complete(id, owned.fence).await),
            "fail" => drop(s.fail(id, owned.fence).await),
            "cancel" => drop(s.cancel(id).await),
            "deadline" => {
                s.advance(10_000);
                s.sweep().await;
                assert_eq!(s.vector(id).await, StateVector::done(TerminalOutcome::Expired, true));
            }
            "suspend" => drop(s.suspend_on_any_signal(id, owned.fence).await),
            "delay" => drop(s.delay(id, owned.fence, When::After(1_000)).await),
            "children" => {
                let upstream = s.member(flow_id, &[]).await;
                s.link(flow_id, upstream, id).await;
                match s.wait_for_children(id, owned.fence).await {
                    MoveToWaitingChildrenResult::Moved { unresolved_count: 1, .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            _ => drop(s.revoke(id, owned.fence).await),
        }
        // The worker learns that its lease has ended; the slot is there until it gives it back.
        let renewal = RenewLeaseArgs { execution_id: id, fence: owned.fence, lease_ttl_ms: LEASE_MS };
        let refusal = s.refused(renewal).await;
        let told = [Code::ExecutionNotActive, Code::LeaseRevoked];
        assert!(told.contains(&refusal.code()), "{way}: {refusal}");
        assert_eq!(s.quota("q").await.in_use, 2, "{way}");
        s.no_slot(question("q", numbered(2), 60_000)).await;
        assert!(s.hand_back(&owned).await, "{way}: no slot was freed");
        assert_eq!(s.quota("q").await.in_use, 1, "{way}");
        s.admitted(question("q", numbered(2), 60_000)).await;
        assert!(!s.hand_back(&owned).await, "{way}: freed twice");
        assert_eq!(s.quota("q").await.in_use, 2, "{way}");
        assert!(s.release("q", numbered(2), 1).await.released);
        s.cancel_unless_done(id).await;
    }
}

async fn exhausted(s: &Stage) {
    let start = s.now();
    let mut args = budget("b", &[("t", Limits::hard(10))]);
    args.reset_interval_ms = Some(100_000);
    s.create_budget(args).await;
    let first = s.controlled(None, &["b"]).await;
    let owned = admitted(s, first).await;
    let next = s.controlled(None, &["b"]).await;
    s.report(record("b", &[("t", 10)])).await;
    assert_eq!(s.state(first).await, StateName::Running, "budgets stop admission, not what runs");
    s.complete(first, owned.fence).await;
    s.advance(10);
    assert!(s.admission_pass().await.is_empty());
    let parked = s.describe(next).await;
    assert_eq!((s.state(next).await, parked.public_state), (StateName::Blocked, PublicState::RateLimited));
    let blocks: Vec<_> = parked.blocks.iter().map(|b| (b.reason, b.until)).collect();
    assert_eq!(blocks, [(BlockReason::WaitingForBudget, Some(start.after(100_000)))]);
    s.set(start.after(99_999));
    s.sweep().await;
    assert!(s.admission_pass().await.is_empty());
    assert_eq!(s.state(next).await, StateName::Blocked);
    s.advance(1);
    assert_eq!(s.sweep().await.count(TimerKind::BlockUntil), 1);
    let owned = admitted(s, next).await;
    s.complete(next, owned.fence).await;
    // Of several budgets the one that is exhausted longest parks it.
    s.create_budget(budget("lifetime", &[("t", Limits::hard(1))])).await;
    s.report(record("b", &[("t", 10)])).await;
    s.report(record("lifetime", &[("t", 1)])).await;
    let both = s.controlled(None, &["b", "lifetime"]).await;
    assert!(s.admission_pass().await.is_empty());
    assert_eq!(s.describe(both).await.blocks[0].until, Some(s.now().after(300_000)));
}

async fn rate_limited(s: &Stage) {
    for sweeping in [true, false] {
        let policy = if sweeping { "swept" } else { "claimed" };
        s.create_quota(rate(policy, 1, 10_000)).await;
        let start = s.now();
        let first = s.controlled(Some(policy), &[]).await;
        let owned = admitted(s, first).await;
        s.complete(first, owned.fence).await;
        s.advance(3_000);
        let next = s.controlled(Some(policy), &[]).await;
        assert!(s.admission_pass().await.is_empty());
        let parked = s.describe(next).await;
        assert_eq!(parked.public_state, PublicState::RateLimited);
        let blocks: Vec<_> = parked.blocks.iter().map(|b| (b.reason, b.until)).collect();
        assert_eq!(blocks, [(BlockReason::WaitingForQuota, Some(start.after(10_000)))]);
        s.advance(6_999);
        if sweeping {
            s.sweep().await;
        }
        assert!(s.claim_next(1).await.needs_admission.is_empty());
        assert_eq!(s.state(next).await, StateName::Blocked);
        s.advance(1);
        if sweeping {
            assert_eq!(s.sweep().await.count(TimerKind::BlockUntil), 1);
            assert_eq!(s.state(next).await, StateName::Ready);
        }
        let owned = admitted(s, next).await;
        s.complete(next, owned.fence).await;
    }
}

async fn unknown(s: &Stage) {
    s.create_budget(budget("known", &[("t", Limits::hard(10))])).await;
    let budgetless = s.controlled(None, &["known", "nobody"]).await;
    let policyless = s.controlled(Some("nothing"), &["known"]).await;
    s.refused_with(Code::QuotaPolicyNotFound, question("nothing", policyless, 1_000)).await;
    let release = ReleaseAdmissionArgs {
        quota_policy_id: quota_id("nothing"),
        execution_id: policyless,
        attempt_index: ff_core::ids::AttemptIndex(0),
        lease_epoch: ff_core::ids::LeaseEpoch(1),
    };
    s.refused_with(Code::QuotaPolicyNotFound, release).await;
    s.refused_with(Code::QuotaPolicyNotFound, GetQuotaStatusArgs { quota_policy_id: quota_id("nothing") }).await;
    for _ in 0..3 {
        assert!(s.admission_pass().await.is_empty());
        for (id, reason) in [(budgetless, BlockReason::WaitingForBudget), (policyless, BlockReason::WaitingForQuota)] {
            let x = s.describe(id).await;
            let blocks: Vec<_> = x.blocks.iter().map(|b| (b.reason, b.until)).collect();
            assert_eq!(blocks, [(reason, Some(s.now().after(60_000)))]);
            assert_eq!((x.attempt_count, x.public_state), (0, PublicState::RateLimited));
        }
        s.advance(59_999);
        assert!(s.claim_next(1).await.needs_admission.is_empty());
        s.advance(1);
        assert_eq!(s.claim_next(1).await.needs_admission.len(), 2);
    }
    s.create_budget(budget("nobody", &[("t", Limits::hard(10))])).await;
    s.create_quota(cap("nothing", 1)).await;
    assert_eq!(s.admission_pass().await.len(), 2);
}

async fn two_processes(s: &Stage) {
    s.create_quota(rate_and_cap("q", 5, 60_000, 5)).await;
    let id = s.controlled(Some("q"), &[]).await;
    let listed = [s.claim_next(1).await, s.claim_next(1).await].map(|r| r.needs_admission);
    assert_eq!(listed[0], listed[1]);
    let candidate = &listed[0][0];
    assert!(s.quota_admits(candidate).await);
    s.advance(5);
    assert!(s.quota_admits(candidate).await);
    let status = s.quota("q").await;
    assert_eq!((status.in_use, status.in_window), (1, 1));
    let winner = s.grant(id).await;
    let mut loser = s.grant_args(id, 10_000);
    loser.worker_instance_id = ff_core::ids::WorkerInstanceId::new("worker-2").unwrap_or_else(|e| panic!("{e}"));
    s.refused_with(Code::GrantAlreadyExists, loser).await;
    assert_eq!(winner.execution_id, id);
    let owned = s.take(candidate).await;
    let status = s.quota("q").await;
    assert_eq!((status.in_use, status.in_window), (1, 1));
    // The slot is the winner's, whoever gives it back; the loser released nothing.
    s.complete(id, owned.fence).await;
    assert!(s.hand_back(&owned).await);
    assert_eq!(s.quota("q").await.in_use, 0);
}

/// Where a process of section 3 dies, or what comes in between.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Listed,
    BudgetAsked,
    BudgetDenied,
    Admitted,
    Denied,
    Parked,
    Granted,
    Claimed,
    Renewed,
    Refreshed,
    Ended,
    Released,
    BlockedAfterAdmission,
    WokenBeforeBlock,
    LateRefresh,
}

const CRASHES: [Crash; 15] = [
    Crash::Listed,
    Crash::BudgetAsked,
    Crash::BudgetDenied,
    Crash::Admitted,
    Crash::Denied,
    Crash::Parked,
    Crash::Granted,
    Crash::Claimed,
    Crash::Renewed,
    Crash::Refreshed,
    Crash::Ended,
    Crash::Released,
    Crash::BlockedAfterAdmission,
    Crash::WokenBeforeBlock,
    Crash::LateRefresh,
];

async fn crashes(s: &Stage) {
    for (n, crash) in CRASHES.into_iter().enumerate() {
        let (quota, spent) = (format!("q{n}"), format!("b{n}"));
        s.create_quota(rate_and_cap(&quota, 100, 60_000, 1)).await;
        let mut definition = budget(&spent, &[("t", Limits::hard(10))]);
        definition.reset_interval_ms = Some(100_000);
        s.create_budget(definition).await;
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(s.controlled(Some(&quota), &[&spent]).await);
            s.advance(1);
        }
        until_death(s, crash, &quota, &spent).await;
        for round in 0.. {
            assert!(round < 100, "{crash:?}: not everything ended");
            s.sweep().await;
            for owned in s.admission_pass().await {
                assert_eq!(s.quota(&quota).await.in_use, 1, "{crash:?}");
                s.complete(owned.execution_id, owned.fence).await;
                assert!(s.hand_back(&owned).await, "{crash:?}");
            }
            let mut done = 0;
            for id in &all {
                done += usize::from(s.vector(*id).await == StateVector::done(TerminalOutcome::Success, true));
            }
            if done == all.len() {
                break;
            }
            s.advance(5_000);
        }
        // What a slot outlives its lease by at most.
        if s.quota(&quota).await.in_use > 0 {
            s.advance(LEASE_MS + 10_000 + 5_000);
        }
        assert_eq!(s.quota(&quota).await.in_use, 0, "{crash:?}");
    }
}

/// Plays one process of section 3 up to where it dies.
async fn until_death(s: &Stage, crash: Crash, quota: &str, spent: &str) {
    let listed = s.claim_next(1).await.needs_admission;
    assert_eq!(listed.len(), 3, "{crash:?}");
    let [x, y, _] = listed.as_slice() else { return };
    if matches!(crash, Crash::BudgetDenied) {
        s.report(record(spent, &[("t", 10)])).await;
        assert!(!s.budgets_admit(x).await);
    }
    if matches!(crash, Crash::Listed | Crash::BudgetDenied) {
        return;
    }
    assert!(s.budgets_admit(x).await);
    if matches!(crash, Crash::BudgetAsked) {
        return;
    }
    assert!(s.quota_admits(x).await);
    let ask_for_y = s.first_question(y, &quota_id(quota));
    match crash {
        Crash::Admitted => return,
        Crash::Denied => {
            s.no_slot(ask_for_y).await;
            return;
        }
        Crash::Parked => {
            assert!(!s.quota_admits(y).await);
            return;
        }
        Crash::Granted => {
            s.grant(x.execution_id).await;
            return;
        }
        Crash::BlockedAfterAdmission => {
            s.grant(x.execution_id).await;
            s.park(x.execution_id, BlockReason::WaitingForQuota, Some(2_000)).await;
            s.refused_with(Code::ExecutionNotEligible, s.claim_by_id_args(x.execution_id)).await;
            return;
        }
        _ => {}
    }
    let owned = s.take(x).await;
    if matches!(crash, Crash::Claimed) {
        return;
    }
    s.advance(20_000);
    s.renew(owned.execution_id, owned.fence, LEASE_MS).await;
    if matches!(crash, Crash::Renewed) {
        return;
    }
    let refresh = CheckAdmissionArgs { slot_ttl_ms: LEASE_MS + 5_000, ..s.first_question(x, &quota_id(quota)) };
    assert_eq!(s.admitted(refresh.clone()).await, Some(s.now().after(LEASE_MS + 5_000)));
    if matches!(crash, Crash::Refreshed) {
        return;
    }
    let retry_at = s.no_slot(ask_for_y).await;
    assert!(retry_at > s.now());
    if !matches!(crash, Crash::WokenBeforeBlock) {
        s.park(y.execution_id, BlockReason::WaitingForQuota, Some(retry_at.since(s.now()))).await;
    }
    s.complete(owned.execution_id, owned.fence).await;
    if matches!(crash, Crash::Ended) {
        return;
    }
    let answer = s.release(quota, owned.execution_id, owned.fence.lease_epoch.get()).await;
    assert_eq!(answer, ReleaseAdmissionResult { released: true, wake: vec![y.execution_id] }, "{crash:?}");
    match crash {
        Crash::WokenBeforeBlock => {
            let args = UnblockExecutionArgs { execution_id: y.execution_id, reason: BlockReason::WaitingForQuota };
            match s.backend.unblock_execution(args).await {
                Ok(UnblockExecutionResult::NotBlocked { .. }) => {}
                other => panic!("{other:?}"),
            }
            s.park(y.execution_id, BlockReason::WaitingForQuota, Some(retry_at.since(s.now()))).await;
        }
        Crash::LateRefresh => {
            s.admitted(refresh).await;
            assert_eq!(s.quota(quota).await.in_use, 1);
        }
        _ => {}
    }
}
