//! The crash table of admission: a process dies between any two steps, and nothing is lost or counted twice.
//!
//! The steps are driven one by one, by several processes that know nothing of each other, on a clock that is turned by
//! hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_core::bounds::Deployment;
use ff_core::contracts::{Actor, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs, Fence, QuotaStatus, RenewLeaseArgs};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::Applied;
use ff_core::ids::LaneId;
use ff_core::layer::{Layer, Layered};
use ff_core::partition::PartitionConfig;
use ff_core::state::PublicState;
use ff_core::time::{ManualClock, TimestampMs};

use super::*;
use crate::{BudgetLimits, QuotaLimits};

const LEASE: Duration = Duration::from_secs(30);
/// Grant, lease and margin: how long a slot lives that was taken before its claim.
const SLOT_MS: u64 = 5_000 + 30_000 + 5_000;
const WINDOW: Duration = Duration::from_secs(600);

struct Bench {
    clock: ManualClock,
    memory: MemoryBackend,
    engine: Engine,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|backend| Arc::new(backend)).await
    }

    async fn with(around: impl FnOnce(MemoryBackend) -> Arc<dyn EngineBackend>) -> Self {
        let clock = ManualClock::at(TimestampMs::saturating(1_000_000));
        let partitions = PartitionConfig::new(1).expect("within bounds");
        let deployment = Deployment { partitions, ..Deployment::default() };
        let memory = MemoryBackend::open(deployment, Arc::new(clock.clone()));
        let engine = Engine::with_backend(around(memory.clone())).await.expect("opens");
        Self { clock, memory, engine }
    }

    /// A bench with a quota policy `q`.
    async fn limited(limits: QuotaLimits) -> Self {
        let bench = Self::new().await;
        bench.engine.quota("q").expect("a name").create(limits).await.expect("created");
        bench
    }

    async fn capped(cap: u64) -> Self {
        Self::limited(QuotaLimits::rate(100, WINDOW).and_concurrent(cap)).await
    }

    async fn submit(&self) -> ExecutionId {
        self.engine.execution("call", &()).quota("q").submit().await.expect("submitted").id()
    }

    /// A process that knows nothing of the others.
    fn process(&self, name: &str) -> Admission {
        Admission::new(
            self.engine.clone(),
            WorkerId::new("w").expect("a name"),
            WorkerInstanceId::new(name).expect("a name"),
            Capabilities::none(),
            LEASE,
        )
    }

    /// Step 1.
    async fn list(&self) -> Vec<AdmissionCandidate> {
        let args = ClaimNextArgs {
            partition: 0,
            lane_id: LaneId::new("default").expect("a name"),
            worker_id: WorkerId::new("w").expect("a name"),
            worker_instance_id: WorkerInstanceId::new("lister").expect("a name"),
            capabilities: Capabilities::none(),
            slots: vec![ClaimSlot::new()],
            lease_ttl_ms: millis(LEASE),
        };
        // Past the layers.
        let found = ff_core::engine_backend::ClaimOps::claim_next(&self.memory, args).await.expect("well formed");
        assert!(found.claimed.is_empty(), "never taken, only listed");
        found.needs_admission
    }

    async fn listed(&self) -> Vec<ExecutionId> {
        self.list().await.into_iter().map(|c| c.execution_id).collect()
    }

    async fn quota(&self) -> QuotaStatus {
        self.engine.quota("q").expect("a name").status().await.expect("exists")
    }

    /// Live slots, charged entries, waiters.
    async fn counts(&self) -> (u64, u64, u64) {
        let quota = self.quota().await;
        (quota.in_use, quota.in_window, quota.waiting)
    }

    async fn state(&self, id: ExecutionId) -> PublicState {
        self.engine.handle(id).describe().await.expect("known").public_state
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(ms);
    }

    /// Steps 1 to 4 by one process for everything that is listed.
    async fn take(&self, process: &Admission) -> Vec<Claim> {
        process.deal(self.list().await).await.claimed
    }

    async fn complete(&self, claim: &NextClaim) {
        let claimed = claimed_of(claim);
        let actor = Actor::Worker(claimed.fence);
        let args = CompleteExecutionArgs::builder().execution_id(claimed.execution_id).actor(actor).build();
        call!(self.engine, complete_execution(args)).expect("owned");
    }

    async fn renew(&self, claim: &NextClaim) {
        let claimed = claimed_of(claim);
        let (execution_id, fence): (ExecutionId, Fence) = (claimed.execution_id, claimed.fence);
        let args = RenewLeaseArgs { execution_id, fence, lease_ttl_ms: millis(LEASE) };
        call!(self.engine, renew_lease(args)).expect("owned");
    }

    /// Lets time pass until everything of `ids` has been done by one process that does not die.
    async fn finish(&self, process: &Admission, ids: &[ExecutionId]) {
        for _ in 0..200 {
            for admitted in self.take(process).await {
                self.complete(&admitted.claim).await;
                if let Some(slot) = &admitted.slot {
                    process.release(slot).await;
                }
            }
            let mut open = 0;
            for id in ids {
                open += usize::from(!self.state(*id).await.is_terminal());
            }
            if open == 0 {
                return;
            }
            self.pass(5_000);
        }
        panic!("something is stranded");
    }
}

#[tokio::test]
async fn without_a_crash_the_slot_lives_with_the_lease_and_is_freed_once() {
    let bench = Bench::capped(1).await;
    let (x, y) = (bench.submit().await, bench.submit().await);
    let a = bench.process("a");
    let mut taken = bench.take(&a).await;
    assert_eq!(taken.len(), 1);
    let first = taken.remove(0);
    assert_eq!(claimed_of(&first.claim).execution_id, x);
    let slot = first.slot.clone().expect("capped");
    assert_eq!((slot.attempt_index, slot.lease_epoch), (AttemptIndex(0), LeaseEpoch(1)));
    assert_eq!(bench.state(y).await, PublicState::RateLimited);
    assert_eq!(bench.counts().await, (1, 1, 1));
    // Renewals and refreshes hold it as long as it takes.
    for _ in 0..10 {
        bench.pass(10_000);
        bench.renew(&first.claim).await;
        a.refresh(std::slice::from_ref(&slot)).await;
        assert_eq!(bench.quota().await.in_use, 1);
        assert_eq!(bench.take(&a).await.len(), 0, "y asks again and is denied again");
    }
    bench.complete(&first.claim).await;
    a.release(&slot).await;
    // It was woken at once, before its own time.
    assert_eq!(bench.listed().await, [y]);
    a.release(&slot).await;
    assert_eq!(bench.counts().await, (0, 1, 0));
    bench.finish(&a, &[y]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
}

#[tokio::test]
async fn after_the_list_or_the_budgets_or_a_denial_it_is_listed_again() {
    let bench = Bench::capped(1).await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let y = bench.submit().await;
    let holder = bench.take(&a).await.remove(0);
    let x = bench.submit().await;
    assert_eq!(bench.listed().await, [x]);
    let (passed, denied) = b.ask_budgets(bench.list().await).await;
    assert!(denied.is_empty());
    let (passed, denied) = b.ask_quotas(passed).await;
    assert!(passed.is_empty());
    assert_eq!(denied.len(), 1);
    // b dies before it parks x: x is a waiter and still in its queue.
    assert_eq!((bench.listed().await, bench.counts().await), (vec![x], (1, 1, 1)));
    bench.complete(&holder.claim).await;
    // Waking one that is not blocked answers NotBlocked, and its place goes to the next: there is none.
    a.release(holder.slot.as_ref().expect("capped")).await;
    assert_eq!(bench.counts().await, (0, 1, 0));
    bench.finish(&a, &[x, y]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
}

#[tokio::test]
async fn after_the_admission_the_next_who_asks_is_not_charged_again() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let (passed, _) = a.ask_quotas(bench.list().await).await;
    assert_eq!(passed.len(), 1);
    drop(passed);
    assert_eq!((bench.listed().await, bench.counts().await), (vec![x], (1, 1, 0)));
    bench.pass(20_000);
    let taken = bench.take(&b).await;
    assert_eq!((taken.len(), bench.counts().await), (1, (1, 1, 0)));
    bench.complete(&taken[0].claim).await;
    b.release(taken[0].slot.as_ref().expect("capped")).await;
    assert_eq!(bench.counts().await, (0, 1, 0));
}

#[tokio::test]
async fn after_the_admission_a_slot_that_nobody_asks_for_lapses() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let a = bench.process("a");
    drop(a.ask_quotas(bench.list().await).await);
    call!(bench.engine, cancel_execution(cancel(x))).expect("not ended");
    bench.pass(SLOT_MS - 1);
    assert_eq!(bench.quota().await.in_use, 1);
    bench.pass(1);
    assert_eq!(bench.quota().await.in_use, 0);
}

fn cancel(execution_id: ExecutionId) -> ff_core::contracts::CancelExecutionArgs {
    let (actor, reason) = (Actor::operator("zoe"), String::new());
    ff_core::contracts::CancelExecutionArgs { execution_id, actor, reason }
}

#[tokio::test]
async fn after_the_grant_it_lapses_and_comes_back_to_its_place() {
    let bench = Bench::capped(2).await;
    let (x, y) = (bench.submit().await, bench.submit().await);
    let (a, b) = (bench.process("a"), bench.process("b"));
    let list = bench.list().await.into_iter().take(1).collect();
    let (passed, _) = a.ask_quotas(list).await;
    assert_eq!(a.grant(passed).await.len(), 1);
    // a dies. x is out of its queue, with its slot and its charge.
    assert_eq!((bench.listed().await, bench.counts().await), (vec![y], (1, 1, 0)));
    bench.pass(4_999);
    assert_eq!(bench.listed().await, [y]);
    bench.pass(1);
    assert_eq!(bench.listed().await, [x, y]);
    bench.finish(&b, &[x, y]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
}

#[tokio::test]
async fn after_the_claim_the_lease_runs_out_and_the_slot_lapses_behind_it() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    assert_eq!(bench.take(&a).await.len(), 1);
    bench.pass(29_999);
    assert!(bench.listed().await.is_empty());
    bench.pass(1);
    let again = bench.list().await;
    assert_eq!(again.len(), 1);
    let candidate = &again[0];
    assert_eq!((candidate.claim_kind, candidate.attempt_index), (ClaimKind::Reclaimed, AttemptIndex(1)));
    // A new attempt is a new identity: while the dead one's slot lives, the cap is held.
    assert!(bench.take(&b).await.is_empty());
    assert_eq!(bench.counts().await, (1, 1, 1));
    bench.pass(9_999);
    assert_eq!(bench.quota().await.in_use, 1);
    bench.pass(1);
    assert_eq!(bench.quota().await.in_use, 0);
    bench.finish(&b, &[x]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
}

#[tokio::test]
async fn between_renewal_and_refresh_the_slot_lapses_until_the_next_refresh() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let a = bench.process("a");
    let held = bench.take(&a).await.remove(0);
    let slot = held.slot.clone().expect("capped");
    for _ in 0..5 {
        bench.pass(10_000);
        bench.renew(&held.claim).await;
    }
    assert_eq!(bench.state(x).await, PublicState::Active);
    assert_eq!(bench.counts().await, (0, 1, 0), "the lease has outlived its slot");
    a.refresh(std::slice::from_ref(&slot)).await;
    assert_eq!(bench.counts().await, (1, 1, 0), "and gets it back without a charge inside the window");
    bench.complete(&held.claim).await;
    a.release(&slot).await;
    assert_eq!(bench.counts().await, (0, 1, 0));
}

#[tokio::test]
async fn after_the_end_the_slot_lapses_at_most_5_s_after_its_lease_would_have() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let a = bench.process("a");
    let held = bench.take(&a).await.remove(0);
    bench.pass(10_000);
    bench.renew(&held.claim).await;
    a.refresh(held.slot.as_slice()).await;
    bench.complete(&held.claim).await;
    // a dies before the release.
    bench.pass(30_000 + 4_999);
    assert_eq!(bench.counts().await, (1, 1, 0));
    bench.pass(1);
    assert_eq!(bench.counts().await, (0, 1, 0));
    assert_eq!(bench.state(x).await, PublicState::Completed);
}

#[tokio::test]
async fn after_the_release_before_the_wakes_they_return_at_their_time() {
    let bench = Bench::capped(1).await;
    let x = bench.submit().await;
    let a = bench.process("a");
    let held = bench.take(&a).await.remove(0);
    let (y, z) = (bench.submit().await, bench.submit().await);
    assert!(bench.take(&a).await.is_empty());
    assert_eq!(bench.counts().await, (1, 1, 2));
    bench.complete(&held.claim).await;
    let slot = held.slot.expect("capped");
    let args = ReleaseAdmissionArgs {
        quota_policy_id: slot.quota_policy_id.clone(),
        execution_id: x,
        attempt_index: slot.attempt_index,
        lease_epoch: slot.lease_epoch,
    };
    let lost = call!(bench.engine, release_admission(args)).expect("exists");
    assert_eq!((lost.released, lost.wake), (true, vec![y]));
    assert_eq!(bench.counts().await, (0, 1, 1), "y is off the list of waiters");
    assert!(bench.listed().await.is_empty());
    // Their until: when the slot would have lapsed.
    bench.pass(SLOT_MS);
    assert_eq!(bench.listed().await, [y, z]);
    bench.finish(&a, &[y, z]).await;
    assert_eq!(bench.counts().await, (0, 3, 0));
}

#[tokio::test]
async fn a_block_that_lands_after_anothers_admission_voids_its_grant() {
    let bench = Bench::capped(1).await;
    let w = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let holder = bench.take(&a).await.remove(0);
    let x = bench.submit().await;
    let (_, denied) = a.ask_quotas(bench.list().await).await;
    assert_eq!(denied.len(), 1);
    // Before a parks it, the slot is freed, and b is admitted and granted.
    bench.complete(&holder.claim).await;
    b.release(holder.slot.as_ref().expect("capped")).await;
    let (passed, _) = b.ask_quotas(bench.list().await).await;
    let granted = b.grant(passed).await;
    assert_eq!(granted.len(), 1);
    assert_eq!(a.park(denied).await.moved, 1);
    assert!(b.claim(granted).await.is_empty(), "its claim is refused");
    assert_eq!((bench.state(x).await, bench.counts().await), (PublicState::RateLimited, (1, 2, 0)));
    bench.finish(&b, &[w, x]).await;
    assert_eq!(bench.counts().await, (0, 2, 0), "the slot was refreshed, and not charged again");
}

#[tokio::test]
async fn a_wake_between_denial_and_block_goes_to_the_next_waiter() {
    let bench = Bench::capped(1).await;
    let w = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let holder = bench.take(&a).await.remove(0);
    let (x, z) = (bench.submit().await, bench.submit().await);
    let list = bench.list().await;
    let (_, mut denied) = a.ask_quotas(list).await;
    assert_eq!(denied.len(), 2);
    let of_x = denied.remove(0);
    assert_eq!((of_x.0, a.park(denied).await.moved), (x, 1));
    bench.complete(&holder.claim).await;
    // x is first on the list and not blocked yet: z is woken in its place.
    a.release(holder.slot.as_ref().expect("capped")).await;
    assert_eq!(a.park(vec![of_x]).await.moved, 1);
    assert_eq!((bench.listed().await, bench.state(x).await), (vec![z], PublicState::RateLimited));
    bench.finish(&b, &[w, x, z]).await;
    assert_eq!(bench.counts().await, (0, 3, 0));
}

#[tokio::test]
async fn a_wake_between_denial_and_block_is_made_good_by_asking_once_more() {
    let bench = Bench::capped(1).await;
    let w = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let holder = bench.take(&b).await.remove(0);
    let x = bench.submit().await;
    let (_, denied) = a.ask_quotas(bench.list().await).await;
    // Nobody else waits: the slot is free, and nobody is woken for it.
    bench.complete(&holder.claim).await;
    b.release(holder.slot.as_ref().expect("capped")).await;
    let parked = a.park(denied).await;
    assert_eq!((parked.moved, bench.state(x).await, bench.counts().await), (1, PublicState::RateLimited, (0, 1, 0)));
    let passed = a.ask_parked(parked.again).await;
    assert_eq!((passed.len(), bench.counts().await), (1, (1, 2, 0)));
    let claimed = a.claim(a.grant(passed).await).await;
    assert_eq!(claimed.len(), 1, "no time had to pass");
    bench.complete(&claimed[0].claim).await;
    a.release(claimed[0].slot.as_ref().expect("capped")).await;
    bench.finish(&b, &[w, x]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
}

#[tokio::test]
async fn who_is_denied_once_more_waits_again_and_is_woken() {
    let bench = Bench::capped(1).await;
    let _ = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let holder = bench.take(&b).await.remove(0);
    let (x, y) = (bench.submit().await, bench.submit().await);
    let mut list = bench.list().await;
    let of_y = list.split_off(1);
    let (_, denied) = a.ask_quotas(list).await;
    // The slot is freed, and taken by another before x is parked: x is not on the list of waiters any more.
    bench.complete(&holder.claim).await;
    b.release(holder.slot.as_ref().expect("capped")).await;
    let holder = b.deal(of_y).await.claimed.remove(0);
    assert_eq!((claimed_of(&holder.claim).execution_id, bench.counts().await), (y, (1, 2, 0)));
    let parked = a.park(denied).await;
    assert!(a.ask_parked(parked.again).await.is_empty());
    assert_eq!(bench.counts().await, (1, 2, 1), "x waits again");
    bench.complete(&holder.claim).await;
    b.release(holder.slot.as_ref().expect("capped")).await;
    assert_eq!(bench.listed().await, [x], "and is woken at once");
}

#[tokio::test]
async fn a_late_refresh_after_the_release_lapses() {
    let bench = Bench::capped(1).await;
    let _ = bench.submit().await;
    let a = bench.process("a");
    let held = bench.take(&a).await.remove(0);
    bench.complete(&held.claim).await;
    a.release(held.slot.as_ref().expect("capped")).await;
    a.refresh(held.slot.as_slice()).await;
    assert_eq!(bench.counts().await, (1, 1, 0), "a slot without a lease");
    bench.pass(35_000);
    assert_eq!(bench.counts().await, (0, 1, 0));
}

#[tokio::test]
async fn two_processes_that_ask_for_one_use_one_slot_and_one_charge() {
    let bench = Bench::capped(5).await;
    let x = bench.submit().await;
    let (a, b) = (bench.process("a"), bench.process("b"));
    let (for_a, for_b) = (bench.list().await, bench.list().await);
    let (from_a, from_b) = tokio::join!(a.deal(for_a), b.deal(for_b));
    let mut winners: Vec<Claim> = from_a.claimed.into_iter().chain(from_b.claimed).collect();
    assert_eq!((winners.len(), bench.counts().await), (1, (1, 1, 0)));
    let winner = winners.remove(0);
    bench.complete(&winner.claim).await;
    a.release(winner.slot.as_ref().expect("capped")).await;
    assert_eq!((bench.state(x).await, bench.counts().await), (PublicState::Completed, (0, 1, 0)));
}

#[tokio::test]
async fn a_claim_that_differs_from_what_was_asked_for_takes_the_slot_of_its_lease() {
    let bench = Bench::capped(5).await;
    let _ = bench.submit().await;
    let a = bench.process("a");
    let mut list = bench.list().await;
    list[0].lease_epoch = LeaseEpoch(0);
    let held = a.deal(list).await.claimed.remove(0);
    // The slot follows the lease: only a release with its epoch frees it.
    bench.complete(&held.claim).await;
    let slot = held.slot.as_ref().expect("capped");
    a.release(&Slot { lease_epoch: LeaseEpoch(0), ..slot.clone() }).await;
    assert_eq!(bench.counts().await, (1, 1, 0));
    a.release(slot).await;
    assert_eq!(bench.counts().await, (0, 1, 0));
}

/// Carries out each operation and loses every other answer.
struct Lossy(AtomicU64);

#[async_trait]
impl Layer for Lossy {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let outcome = ff_core::operation::dispatch(inner, operation).await;
        if self.0.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err(EngineError::Transport { applied: Applied::Unknown, message: "lost".into() });
        }
        outcome
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_repeated_and_nothing_happens_twice() {
    let bench = Bench::with(|memory| Arc::new(Layered::new(Arc::new(memory), Lossy(AtomicU64::new(0))))).await;
    let limits = QuotaLimits::rate(100, WINDOW).and_concurrent(1);
    bench.engine.quota("q").expect("a name").create(limits).await.expect("created");
    let (x, y) = (bench.submit().await, bench.submit().await);
    let a = bench.process("a");
    bench.finish(&a, &[x, y]).await;
    assert_eq!(bench.counts().await, (0, 2, 0));
    for id in [x, y] {
        let end = bench.engine.handle(id).describe().await.expect("known");
        assert_eq!((end.attempt_count, end.lease_epoch), (1, LeaseEpoch(1)));
    }
}

/// Answers no question.
struct Deaf;

#[async_trait]
impl Layer for Deaf {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        match operation {
            Operation::GetBudgetStatus(_) | Operation::CheckAdmission(_) => {
                Err(EngineError::Transport { applied: Applied::No, message: "down".into() })
            }
            other => ff_core::operation::dispatch(inner, other).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_is_admitted_and_sixteen_heads_hide_nobody() {
    let bench = Bench::with(|memory| Arc::new(Layered::new(Arc::new(memory), Deaf))).await;
    let mut all = Vec::new();
    for n in 0..20 {
        let builder = bench.engine.execution("call", &n);
        let builder = if n % 2 == 0 { builder.quota("q") } else { builder.budget("b") };
        all.push(builder.submit().await.expect("submitted").id());
    }
    let a = bench.process("a");
    for expected in [16, 4, 0] {
        let list = bench.list().await;
        assert_eq!(list.len(), expected);
        let dealt = a.deal(list).await;
        assert_eq!((dealt.claimed.len(), dealt.moved), (0, expected));
    }
    bench.pass(4_999);
    assert!(bench.listed().await.is_empty());
    bench.pass(1);
    assert_eq!(bench.listed().await, all[..16]);
}

#[tokio::test]
async fn what_does_not_exist_admits_nobody_for_a_minute() {
    let bench = Bench::new().await;
    let by_quota = bench.submit().await;
    let by_budget = bench.engine.execution("call", &()).budget("b").submit().await.expect("submitted").id();
    let a = bench.process("a");
    assert!(bench.take(&a).await.is_empty());
    bench.pass(59_999);
    assert!(bench.listed().await.is_empty());
    bench.pass(1);
    assert_eq!(bench.listed().await.len(), 2);
    bench.engine.quota("q").expect("a name").create(QuotaLimits::concurrent(1)).await.expect("created");
    bench.engine.budget("b").expect("a name").create(BudgetLimits::hard("calls", 1)).await.expect("created");
    bench.finish(&a, &[by_quota, by_budget]).await;
}

#[tokio::test]
async fn an_exhausted_budget_parks_until_the_longest_wait_of_all_its_budgets() {
    let bench = Bench::new().await;
    let budget = |id: &str| bench.engine.budget(id).expect("a name");
    let day = Duration::from_secs(86_400);
    budget("day").create(BudgetLimits::hard("calls", 1).reset_every(day)).await.expect("created");
    budget("minute")
        .create(BudgetLimits::hard("calls", 1).reset_every(Duration::from_secs(60)))
        .await
        .expect("created");
    for id in ["day", "minute"] {
        budget(id).record("calls", 1, None).await.expect("counted");
    }
    let x = bench.engine.execution("call", &()).budget("day").budget("minute").submit().await.expect("submitted").id();
    let a = bench.process("a");
    assert!(bench.take(&a).await.is_empty());
    assert_eq!(bench.state(x).await, PublicState::RateLimited);
    // At most five minutes, whatever the schedule.
    bench.pass(299_999);
    assert!(bench.listed().await.is_empty());
    bench.pass(1);
    assert_eq!(bench.listed().await, [x]);
    assert!(bench.take(&a).await.is_empty(), "the day is not over");
    bench.pass(86_400_000);
    assert_eq!(bench.take(&a).await.len(), 1);
}

#[tokio::test]
async fn whatever_step_a_process_dies_behind_everything_ends_and_no_slot_is_left() {
    for step in 0..=6 {
        let bench = Bench::capped(2).await;
        let ids = [bench.submit().await, bench.submit().await, bench.submit().await, bench.submit().await];
        let dying = bench.process("dying");
        let list = bench.list().await;
        if step >= 1 {
            let (passed, denied) = dying.ask_quotas(list).await;
            if step >= 2 {
                let parked = dying.park(denied).await;
                assert!(dying.ask_parked(parked.again).await.is_empty(), "no slot was freed");
            }
            if step >= 3 {
                let granted = dying.grant(passed).await;
                if step >= 4 {
                    let admitted = dying.claim(granted).await;
                    assert_eq!(admitted.len(), 2);
                    if step >= 5 {
                        bench.complete(&admitted[0].claim).await;
                    }
                    if step >= 6 {
                        dying.release(admitted[0].slot.as_ref().expect("capped")).await;
                    }
                }
            }
        }
        let heir = bench.process("heir");
        bench.finish(&heir, &ids).await;
        bench.pass(SLOT_MS);
        let (in_use, in_window, waiting) = bench.counts().await;
        let attempts: u64 = {
            let mut attempts = 0;
            for id in ids {
                attempts += u64::from(bench.engine.handle(id).describe().await.expect("known").attempt_count);
            }
            attempts
        };
        assert_eq!((in_use, in_window, waiting), (0, attempts, 0), "behind step {step}");
    }
}
