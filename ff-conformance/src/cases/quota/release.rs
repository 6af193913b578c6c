//! Giving slots back, waking who waits, and the status.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch};
use ff_core::state::BlockReason;

use crate::cases::cases;
use crate::stage::{Stage, at, cap, numbered, question, quota_id, rate_and_cap};

cases! { "quota";
    "release_admission: with cap 2 and X, Y admitted, a double release of X and a release of unknown Z free exactly one slot; W is admitted, V is not." => double_release,
    "release_admission: a release with the epoch of an earlier lease leaves the slot of the later one." => earlier_epoch,
    "release_admission: it wakes waiters in the order of their first refusal, no more than there are free slots." => wakes,
    "release_admission: a woken execution that was cancelled makes room for the next waiter on the repeated release." => cancelled_waiter,
    "get_quota_status: in_window, in_use and waiting are exact at every instant, and window_free_at admits." => status,
}

async fn double_release(s: &Stage) {
    s.create_quota(cap("q", 2)).await;
    let [x, y, z, w, v] = [1, 2, 3, 4, 5].map(numbered);
    s.admitted(question("q", x, 60_000)).await;
    s.admitted(question("q", y, 60_000)).await;
    assert_eq!(s.release("q", x, 1).await, ReleaseAdmissionResult { released: true, wake: Vec::new() });
    assert_eq!(s.release("q", x, 1).await, ReleaseAdmissionResult { released: false, wake: Vec::new() });
    assert_eq!(s.release("q", z, 1).await, ReleaseAdmissionResult { released: false, wake: Vec::new() });
    assert_eq!(s.quota("q").await.in_use, 1);
    s.admitted(question("q", w, 60_000)).await;
    s.no_slot(question("q", v, 60_000)).await;
    // Another attempt of the same execution is another identity.
    let other = ReleaseAdmissionArgs {
        quota_policy_id: quota_id("q"),
        execution_id: y,
        attempt_index: AttemptIndex(1),
        lease_epoch: LeaseEpoch(9),
    };
    let answer = s.backend.release_admission(other).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((answer.released, s.quota("q").await.in_use), (false, 2));
}

async fn earlier_epoch(s: &Stage) {
    s.create_quota(cap("q", 1)).await;
    let x = numbered(1);
    s.admitted(question("q", x, 60_000)).await;
    s.admitted(CheckAdmissionArgs { lease_epoch: LeaseEpoch(3), ..question("q", x, 60_000) }).await;
    for epoch in [1, 2] {
        assert!(!s.release("q", x, epoch).await.released);
        assert_eq!(s.quota("q").await.in_use, 1);
    }
    s.no_slot(question("q", numbered(2), 60_000)).await;
    assert_eq!(s.release("q", x, 3).await, ReleaseAdmissionResult { released: true, wake: vec![numbered(2)] });
    assert_eq!(s.quota("q").await.in_use, 0);
    // A later epoch frees the slot of an earlier lease.
    s.admitted(question("q", x, 60_000)).await;
    assert!(s.release("q", x, 2).await.released);
}

async fn wakes(s: &Stage) {
    s.create_quota(cap("q", 2)).await;
    let holders = [1, 2].map(numbered);
    for id in holders {
        s.admitted(question("q", id, 60_000)).await;
    }
    // Refused in an order that is not that of their ids, the last two at one instant.
    let [first, second, third, fourth, fifth] = [90, 80, 70, 50, 60].map(numbered);
    for id in [first, second, third] {
        s.no_slot(question("q", id, 60_000)).await;
        s.advance(1);
    }
    s.no_slot(question("q", fifth, 60_000)).await;
    s.no_slot(question("q", fourth, 60_000)).await;
    s.no_slot(question("q", second, 60_000)).await;
    assert_eq!(s.quota("q").await.waiting, 5);
    // Nothing is free: nobody is woken.
    assert_eq!(s.release("q", numbered(7), 1).await, ReleaseAdmissionResult { released: false, wake: Vec::new() });
    assert_eq!(s.release("q", holders[0], 1).await, ReleaseAdmissionResult { released: true, wake: vec![first] });
    assert_eq!(s.quota("q").await.waiting, 4, "who is woken leaves the list");
    assert_eq!(s.release("q", holders[1], 1).await.wake, [second, third], "two are free");
    assert_eq!(s.release("q", holders[1], 1).await.wake, [fourth, fifth], "equals by id");
    assert_eq!(s.release("q", holders[1], 1).await.wake, [] as [ExecutionId; 0]);
    assert_eq!(s.quota("q").await.waiting, 0);

    // At most 16 at once.
    s.create_quota(cap("many", 20)).await;
    for n in 0..20 {
        s.admitted(question("many", numbered(100 + n), 10_000)).await;
    }
    let waiters: Vec<_> = (0..20).map(|n| numbered(200 + n)).collect();
    for id in &waiters {
        s.no_slot(question("many", *id, 10_000)).await;
    }
    s.advance(10_000);
    assert_eq!(
        s.release("many", numbered(100), 1).await,
        ReleaseAdmissionResult { released: false, wake: waiters[..16].to_vec() }
    );
    assert_eq!(s.release("many", numbered(100), 1).await.wake, waiters[16..]);
}

async fn cancelled_waiter(s: &Stage) {
    s.create_quota(cap("q", 1)).await;
    let holder = s.controlled(Some("q"), &[]).await;
    let owned = s.admission_pass().await.remove(0);
    assert_eq!(owned.execution_id, holder);
    let first = s.controlled(Some("q"), &[]).await;
    s.advance(1);
    let second = s.controlled(Some("q"), &[]).await;
    assert!(s.admission_pass().await.is_empty());
    assert_eq!(s.quota("q").await.waiting, 2);
    s.cancel(first).await;
    s.complete(holder, owned.fence).await;

    assert_eq!(s.release("q", holder, 1).await, ReleaseAdmissionResult { released: true, wake: vec![first] });
    let args = UnblockExecutionArgs { execution_id: first, reason: BlockReason::WaitingForQuota };
    match s.backend.unblock_execution(args).await {
        Ok(UnblockExecutionResult::NotBlocked { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(s.release("q", holder, 1).await, ReleaseAdmissionResult { released: false, wake: vec![second] });
    s.unblock(second, BlockReason::WaitingForQuota).await;
    assert_eq!(s.admission_pass().await.remove(0).execution_id, second);
    assert_eq!(s.release("q", holder, 1).await, ReleaseAdmissionResult { released: false, wake: Vec::new() });
}

async fn status(s: &Stage) {
    s.set(at(0));
    s.create_quota(rate_and_cap("q", 2, 10_000, 2)).await;
    let seen = async |now: u64, in_window: u64, in_use: u64, waiting: u64, free_at: Option<u64>| {
        s.set(at(now));
        let status = s.quota("q").await;
        let found = (status.in_window, status.in_use, status.waiting, status.window_free_at);
        assert_eq!(found, (in_window, in_use, waiting, free_at.map(at)), "at {now}");
    };
    seen(0, 0, 0, 0, None).await;
    s.admitted(question("q", numbered(1), 5_000)).await;
    seen(0, 1, 1, 0, None).await;
    seen(1_000, 1, 1, 0, None).await;
    s.admitted(question("q", numbered(2), 20_000)).await;
    seen(1_000, 2, 2, 0, Some(10_000)).await;
    seen(2_000, 2, 2, 0, Some(10_000)).await;
    assert_eq!(s.rate_exceeded(question("q", numbered(3), 20_000)).await, at(10_000));
    seen(4_999, 2, 2, 1, Some(10_000)).await;
    seen(5_000, 2, 1, 1, Some(10_000)).await;
    seen(9_999, 2, 1, 1, Some(10_000)).await;
    s.rate_exceeded(question("q", numbered(3), 20_000)).await;
    seen(10_000, 1, 1, 1, None).await;
    s.admitted(question("q", numbered(3), 20_000)).await;
    seen(10_000, 2, 2, 0, Some(11_000)).await;
    assert_eq!(s.rate_exceeded(question("q", numbered(4), 1_000)).await, at(11_000));
    seen(10_999, 2, 2, 1, Some(11_000)).await;
    seen(11_000, 1, 2, 1, None).await;
    seen(19_999, 1, 2, 1, None).await;
    seen(20_000, 0, 2, 1, None).await;
    seen(20_999, 0, 2, 1, None).await;
    seen(21_000, 0, 1, 1, None).await;
    seen(29_999, 0, 1, 1, None).await;
    seen(30_000, 0, 0, 1, None).await;
    // A waiter lapses at its retry_at and a minute, the greater of that and the window.
    seen(70_999, 0, 0, 1, None).await;
    seen(71_000, 0, 0, 0, None).await;
    assert_eq!(s.release("q", numbered(1), 1).await.wake, [] as [ExecutionId; 0], "who lapsed is woken no more");
    // With a window above a minute it is the window.
    s.create_quota(rate_and_cap("long", 1, 100_000, 1)).await;
    s.admitted(question("long", numbered(1), 1_000)).await;
    assert_eq!(s.rate_exceeded(question("long", numbered(2), 1_000)).await, at(171_000));
    s.set(at(270_999));
    assert_eq!(s.quota("long").await.waiting, 1);
    s.set(at(271_000));
    assert_eq!(s.quota("long").await.waiting, 0);
}
