//! Defining policies and asking for admission.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseEpoch};
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};

use crate::cases::cases;
use crate::stage::{Stage, at, cap, numbered, question, quota_id, rate, rate_and_cap};

cases! { "quota";
    "create_quota_policy: a rate without window, a window without rate and neither rate nor cap are invalid_input." => bad_definitions,
    "create_quota_policy: an equal definition is AlreadyExists, another jitter is quota_policy_conflict." => definitions,
    "check_admission: at 1 per 10 s with the first at 1_000, the second at 4_000 is refused with retry_after_ms 7_000 and admitted at 11_000, not at 10_999." => one_per_window,
    "check_admission: at 2 per 10 s without jitter, full by 0 and 1_000, five refused executions get retry_at 10_000, 11_000, 20_000, 21_000, 30_000, and one that asks again keeps its place." => ranks,
    "check_admission: jitter equals the vector of section 2 on every backend and is the same in every repeat." => jitter,
    "check_admission: the window slides: with 2 per 10 s and admissions at 0 and 9_000, at 10_000 exactly one more is admitted." => sliding,
    "check_admission: a repeat of one identity is charged once, attempt 1 is charged apart from attempt 0." => charged_once,
    "check_admission: a refresh of a live slot is Admitted though window and cap are full, and never shortens the slot." => refresh,
    "check_admission: a slot is gone at its expires_at and not one ms earlier." => slot_end,
    "check_admission: a denial for concurrency charges no rate." => uncharged_denial,
    "check_admission: when rate and cap are both full the answer is RateExceeded." => both_full,
    "check_admission: a policy without cap answers no slot_expires_at and keeps no slot." => no_cap,
    "check_admission: after release the same identity inside the window takes a slot without being charged." => released_inside,
}

fn attempt(args: CheckAdmissionArgs, index: u32) -> CheckAdmissionArgs {
    CheckAdmissionArgs { attempt_index: AttemptIndex(index), ..args }
}

fn epoch(args: CheckAdmissionArgs, epoch: u64) -> CheckAdmissionArgs {
    CheckAdmissionArgs { lease_epoch: LeaseEpoch(epoch), ..args }
}

async fn bad_definitions(s: &Stage) {
    let blank = || CreateQuotaPolicyArgs::builder().quota_policy_id(quota_id("q"));
    let bad = [
        (blank().max_requests_per_window(1).build(), "window_ms"),
        (blank().window_ms(1_000).build(), "window_ms"),
        (blank().max_requests_per_window(1).max_concurrent(1).build(), "window_ms"),
        (blank().window_ms(1_000).max_concurrent(1).build(), "window_ms"),
        (blank().build(), "max_concurrent"),
        (blank().jitter_ms(5).build(), "max_concurrent"),
        (rate("q", 0, 1_000), "max_requests_per_window"),
        (rate("q", 100_001, 1_000), "max_requests_per_window"),
        (rate("q", 1, 0), "window_ms"),
        (rate("q", 1, 366 * 86_400_000 + 1), "window_ms"),
        (cap("q", 0), "max_concurrent"),
        (cap("q", 100_001), "max_concurrent"),
        (blank().max_concurrent(1).jitter_ms(60_001).build(), "jitter_ms"),
    ];
    for (args, field) in bad {
        let refusal = s.refused_with(Code::InvalidInput, args.clone()).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: field.to_owned() }, "{args:?}");
    }
    s.refused_with(Code::QuotaPolicyNotFound, GetQuotaStatusArgs { quota_policy_id: quota_id("q") }).await;
    // What stands right at the bounds is taken.
    s.create_quota(rate("small", 1, 1)).await;
    let mut great = rate_and_cap("great", 100_000, 366 * 86_400_000, 100_000);
    great.jitter_ms = 60_000;
    s.create_quota(great).await;
    s.create_quota(cap("q", 1)).await;
    let status = s.quota("great").await;
    assert_eq!((status.max_requests_per_window, status.window_ms), (Some(100_000), Some(31_622_400_000)));
    assert_eq!((status.max_concurrent, status.jitter_ms, status.created_at), (Some(100_000), 60_000, s.now()));
    let status = s.quota("q").await;
    assert_eq!((status.max_requests_per_window, status.window_ms, status.max_concurrent), (None, None, Some(1)));
    assert_eq!((status.in_window, status.in_use, status.waiting, status.window_free_at), (0, 0, 0, None));
}

async fn definitions(s: &Stage) {
    let start = s.now();
    let mut first = rate_and_cap("q", 2, 10_000, 3);
    first.jitter_ms = 5;
    s.create_quota(first.clone()).await;
    s.admitted(question("q", numbered(1), 5_000)).await;
    s.advance(7);
    match s.changes_nothing(first.clone()).await {
        Outcome::CreateQuotaPolicy(answer) => {
            assert_eq!(answer, CreateQuotaPolicyResult::AlreadyExists { created_at: start });
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((s.quota("q").await.in_window, s.quota("q").await.in_use), (1, 1));
    let with = |change: fn(&mut CreateQuotaPolicyArgs)| {
        let mut args = first.clone();
        change(&mut args);
        args
    };
    for other in [
        with(|q| q.jitter_ms = 6),
        with(|q| q.jitter_ms = 0),
        with(|q| q.max_requests_per_window = Some(3)),
        with(|q| q.window_ms = Some(10_001)),
        with(|q| q.max_concurrent = Some(4)),
        with(|q| q.max_concurrent = None),
        with(|q| (q.max_requests_per_window, q.window_ms) = (None, None)),
    ] {
        s.refused_with(Code::QuotaPolicyConflict, other).await;
    }
}

async fn one_per_window(s: &Stage) {
    s.set(at(1_000));
    s.create_quota(rate("q", 1, 10_000)).await;
    s.admitted(question("q", numbered(1), 1_000)).await;
    s.set(at(4_000));
    let second = question("q", numbered(2), 1_000);
    let denied = CheckAdmissionResult::RateExceeded { retry_at: at(11_000), retry_after_ms: 7_000 };
    assert_eq!(s.ask(second.clone()).await, denied);
    s.set(at(10_999));
    let denied = CheckAdmissionResult::RateExceeded { retry_at: at(11_000), retry_after_ms: 1 };
    assert_eq!(s.ask(second.clone()).await, denied);
    s.set(at(11_000));
    assert_eq!(s.ask(second).await, CheckAdmissionResult::Admitted { slot_expires_at: None });
}

async fn ranks(s: &Stage) {
    s.set(at(0));
    s.create_quota(rate("q", 2, 10_000)).await;
    s.admitted(question("q", numbered(1), 1_000)).await;
    s.set(at(1_000));
    s.admitted(question("q", numbered(2), 1_000)).await;
    // Ids that descend: the order is that of the first refusals.
    let waiters: Vec<ExecutionId> = [90, 80, 70, 60, 50].map(numbered).into();
    let wanted = [10_000, 11_000, 20_000, 21_000, 30_000].map(at);
    for (id, retry_at) in waiters.iter().zip(wanted) {
        s.advance(1);
        assert_eq!(s.rate_exceeded(question("q", *id, 1_000)).await, retry_at);
    }
    assert_eq!(s.quota("q").await.waiting, 5);
    s.set(at(5_000));
    for place in [2, 0, 4, 1, 3] {
        assert_eq!(s.rate_exceeded(question("q", waiters[place], 1_000)).await, wanted[place], "asked again");
    }
    // Another attempt of the same execution is the same waiter.
    assert_eq!(s.rate_exceeded(attempt(question("q", waiters[1], 1_000), 1)).await, at(11_000));
    assert_eq!(s.quota("q").await.waiting, 5);
    // Refused at one instant, the ids decide, whoever asked first.
    assert_eq!(s.rate_exceeded(question("q", numbered(45), 1_000)).await, at(31_000));
    assert_eq!(s.rate_exceeded(question("q", numbered(40), 1_000)).await, at(31_000));
    assert_eq!(s.rate_exceeded(question("q", numbered(45), 1_000)).await, at(40_000));
    // Who is admitted is no longer in anybody's way.
    s.set(at(10_000));
    s.admitted(question("q", waiters[0], 1_000)).await;
    assert_eq!(s.quota("q").await.waiting, 6);
    assert_eq!(s.rate_exceeded(question("q", waiters[1], 1_000)).await, at(11_000), "rank 0 of 1_000 and 10_000");
    assert_eq!(s.rate_exceeded(question("q", waiters[2], 1_000)).await, at(20_000));
    assert_eq!(s.rate_exceeded(question("q", waiters[3], 1_000)).await, at(21_000));
}

async fn jitter(s: &Stage) {
    let id: ExecutionId = "e7_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap_or_else(|e| panic!("{e}"));
    let mut slots = cap("slots", 1);
    let mut window = rate("window", 1, 10_000);
    (slots.jitter_ms, window.jitter_ms) = (1_000, 1_000);
    s.create_quota(slots).await;
    s.create_quota(window).await;
    s.create_quota(rate("plain", 1, 10_000)).await;
    let start = s.now();
    let expires_at = s.admitted(question("slots", numbered(1), 5_000)).await;
    assert_eq!(expires_at, Some(start.after(5_000)), "no jitter on a slot");
    s.admitted(question("window", numbered(1), 5_000)).await;
    s.admitted(question("plain", numbered(1), 5_000)).await;
    for pause in [0, 0, 700] {
        s.advance(pause);
        for (index, jitter) in [(0, 24), (1, 258), (2, 472), (10, 109)] {
            let of = |policy| attempt(question(policy, id, 5_000), index);
            assert_eq!(s.rate_exceeded(of("window")).await, start.after(10_000 + jitter), "attempt {index}");
            assert_eq!(s.no_slot(of("slots")).await, start.after(5_000 + jitter), "attempt {index}");
            assert_eq!(s.rate_exceeded(of("plain")).await, start.after(10_000), "attempt {index}");
        }
    }
}

async fn sliding(s: &Stage) {
    s.set(at(0));
    s.create_quota(rate("q", 2, 10_000)).await;
    s.admitted(question("q", numbered(1), 1_000)).await;
    s.set(at(9_000));
    s.admitted(question("q", numbered(2), 1_000)).await;
    s.set(at(9_999));
    assert_eq!(s.rate_exceeded(question("q", numbered(3), 1_000)).await, at(10_000));
    s.set(at(10_000));
    assert_eq!(s.quota("q").await.in_window, 1);
    s.admitted(question("q", numbered(3), 1_000)).await;
    assert_eq!(s.rate_exceeded(question("q", numbered(4), 1_000)).await, at(19_000), "of 9_000 and 10_000");
    assert_eq!(s.quota("q").await.in_window, 2);
    s.set(at(18_999));
    s.rate_exceeded(question("q", numbered(4), 1_000)).await;
    s.set(at(19_000));
    s.admitted(question("q", numbered(4), 1_000)).await;
    assert_eq!(s.rate_exceeded(question("q", numbered(5), 1_000)).await, at(20_000));
}

async fn charged_once(s: &Stage) {
    s.create_quota(rate("q", 2, 10_000)).await;
    let first = question("q", numbered(1), 1_000);
    s.admitted(first.clone()).await;
    s.advance(100);
    match s.changes_nothing(first.clone()).await {
        Outcome::CheckAdmission(answer) => assert_eq!(answer, CheckAdmissionResult::Admitted { slot_expires_at: None }),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.quota("q").await.in_window, 1);
    s.admitted(attempt(first.clone(), 1)).await;
    assert_eq!(s.quota("q").await.in_window, 2);
    s.rate_exceeded(attempt(first.clone(), 2)).await;
    s.rate_exceeded(question("q", numbered(2), 1_000)).await;
    // Both are inside the full window, and go on being admitted; under another epoch, too.
    s.admitted(first.clone()).await;
    s.admitted(epoch(attempt(first.clone(), 1), 9)).await;
    assert_eq!(s.quota("q").await.in_window, 2);
    // The entry's time is that of the charge, not of the repeat.
    s.advance(9_899);
    assert_eq!(s.quota("q").await.in_window, 2);
    s.advance(1);
    assert_eq!(s.quota("q").await.in_window, 1);
    s.admitted(first).await;
    assert_eq!(s.quota("q").await.in_window, 2, "charged anew after the window");
}

async fn refresh(s: &Stage) {
    let start = s.now();
    s.create_quota(rate_and_cap("q", 2, 10_000, 2)).await;
    let x = question("q", numbered(1), 30_000);
    assert_eq!(s.admitted(x.clone()).await, Some(start.after(30_000)));
    s.advance(10_000);
    // X's entry has left the window; two others fill it, and one of them keeps the second slot.
    s.admitted(question("q", numbered(2), 60_000)).await;
    s.release("q", numbered(2), 1).await;
    s.admitted(question("q", numbered(3), 60_000)).await;
    let status = s.quota("q").await;
    assert_eq!((status.in_window, status.in_use), (2, 2));
    s.advance(1);
    s.rate_exceeded(question("q", numbered(4), 1_000)).await;
    let shorter = CheckAdmissionArgs { slot_ttl_ms: 1_000, ..x.clone() };
    assert_eq!(s.admitted(shorter).await, Some(start.after(30_000)), "never shorter");
    let longer = CheckAdmissionArgs { slot_ttl_ms: 25_000, ..x.clone() };
    assert_eq!(s.admitted(epoch(longer, 5)).await, Some(start.after(35_001)));
    let status = s.quota("q").await;
    assert_eq!((status.in_window, status.in_use), (2, 2), "a refresh is charged nothing");
    // The epoch only rises: a late refresh for an earlier lease does not hand the slot to its release.
    s.admitted(epoch(x, 2)).await;
    assert!(!s.release("q", numbered(1), 4).await.released);
    assert!(s.release("q", numbered(1), 5).await.released);
}

async fn slot_end(s: &Stage) {
    let start = s.now();
    s.create_quota(cap("q", 1)).await;
    assert_eq!(s.admitted(question("q", numbered(1), 20_000)).await, Some(start.after(20_000)));
    assert_eq!(s.no_slot(question("q", numbered(2), 20_000)).await, start.after(20_000));
    s.advance(19_999);
    assert_eq!(s.no_slot(question("q", numbered(2), 20_000)).await, start.after(20_000));
    assert_eq!(s.quota("q").await.in_use, 1);
    s.advance(1);
    assert_eq!(s.quota("q").await.in_use, 0);
    assert_eq!(s.admitted(question("q", numbered(2), 90_000_000)).await, Some(start.after(20_000 + 90_000_000)));
    // A denial looks a minute ahead at most.
    assert_eq!(s.no_slot(question("q", numbered(1), 20_000)).await, start.after(20_000 + 60_000));
    assert!(!s.release("q", numbered(1), 1).await.released, "a slot that is gone is not freed");
    for ttl in [999, 90_000_001] {
        let refusal = s.refused_with(Code::InvalidInput, question("q", numbered(3), ttl)).await;
        assert_eq!(refusal.details(), &Details::InvalidInput { field: "slot_ttl_ms".to_owned() });
    }
    s.refused_with(Code::QuotaPolicyNotFound, question("nowhere", numbered(3), 1_000)).await;
}

async fn uncharged_denial(s: &Stage) {
    s.create_quota(rate_and_cap("q", 2, 10_000, 1)).await;
    s.admitted(question("q", numbered(1), 5_000)).await;
    for _ in 0..3 {
        s.no_slot(question("q", numbered(2), 5_000)).await;
    }
    let status = s.quota("q").await;
    assert_eq!((status.in_window, status.in_use, status.waiting), (1, 1, 1));
    s.release("q", numbered(1), 1).await;
    s.admitted(question("q", numbered(2), 5_000)).await;
    assert_eq!(s.quota("q").await.in_window, 2);
}

async fn both_full(s: &Stage) {
    let start = s.now();
    s.create_quota(rate_and_cap("q", 1, 10_000, 1)).await;
    s.admitted(question("q", numbered(1), 5_000)).await;
    assert_eq!(s.rate_exceeded(question("q", numbered(2), 5_000)).await, start.after(10_000));
    // Only one of them full: the other answer.
    s.advance(5_000);
    assert_eq!(s.rate_exceeded(question("q", numbered(2), 5_000)).await, start.after(10_000));
    s.advance(5_000);
    s.admitted(question("q", numbered(2), 60_000)).await;
    s.advance(10_000);
    assert_eq!(s.no_slot(question("q", numbered(3), 5_000)).await, start.after(10_000 + 60_000));
}

async fn no_cap(s: &Stage) {
    s.create_quota(rate("q", 2, 10_000)).await;
    for n in [1, 1, 2] {
        assert_eq!(s.admitted(question("q", numbered(n), 60_000)).await, None);
    }
    s.rate_exceeded(question("q", numbered(3), 60_000)).await;
    let status = s.quota("q").await;
    assert_eq!((status.in_use, status.in_window, status.max_concurrent), (0, 2, None));
    assert!(!s.release("q", numbered(1), 1).await.released);
    assert_eq!(s.quota("q").await.in_window, 2, "the entry stays");
}

async fn released_inside(s: &Stage) {
    let start = s.now();
    s.create_quota(rate_and_cap("q", 1, 10_000, 1)).await;
    s.admitted(question("q", numbered(1), 5_000)).await;
    s.advance(100);
    assert!(s.release("q", numbered(1), 1).await.released);
    let status = s.quota("q").await;
    assert_eq!((status.in_window, status.in_use), (1, 0));
    assert_eq!(s.rate_exceeded(question("q", numbered(2), 5_000)).await, start.after(10_000));
    assert_eq!(s.admitted(epoch(question("q", numbered(1), 5_000), 2)).await, Some(start.after(5_100)));
    let status = s.quota("q").await;
    assert_eq!((status.in_window, status.in_use), (1, 1));
    s.set(start.after(10_000));
    assert_eq!(s.quota("q").await.in_window, 0, "the entry is that of the first admission");
}
