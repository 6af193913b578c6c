//! Replay.

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::AttemptIndex;
use ff_core::operation::Outcome;
use ff_core::refusal::{Code, Details};
use ff_core::state::{AttemptState, AttemptType, StateName, StateVector, TerminalOutcome};
use ff_core::time::When;

use crate::cases::cases;
use crate::stage::{LEASE_MS, Stage, deadline, retries};

cases! { "execution";
    "replay_execution: an exhausted execution gets its full retries and reclaims again and the totals keep counting." => fresh_counts,
    "replay_execution: after revoke, cancel and replay, claim, renew and complete all succeed." => after_revoke,
    "replay_execution: its repeat after the new run has ended replays nothing." => replayed_twice,
    "replay_execution: the same replay_count with another reason, by, deadline or reopen_skipped is stale_replay and changes nothing." => other_replay,
    "replay_execution: max_replays 2 allows two replays and 0 none; the next is max_replays_exhausted, and the last one's repeat is not." => exhausted,
    "replay_execution: a never-claimed execution's first attempt is index 0 and initial." => never_claimed,
    "replay_execution: a due purge that has not fired does not take the replayed execution away." => due_purge,
    "replay_execution: a passed policy instant is not armed again, a duration is." => deadlines,
}

async fn fresh_counts(s: &Stage) {
    let mut policy = retries(1, 0);
    policy.max_reclaims = 1;
    let id = s.ready_with(policy).await;
    for run in 0..2 {
        let fence = s.claim_this(id).await.fence;
        s.fail_and_retry(id, fence).await;
        let fence = s.claim_this(id).await.fence;
        s.lose(id, fence).await;
        let claimed = s.claim_this(id).await;
        assert_eq!((claimed.run, claimed.retry_count, claimed.reclaim_count), (run, 1, 1));
        s.fail_for_good(id, claimed.fence).await;
        let x = s.describe(id).await;
        assert_eq!((x.total_retries, x.total_reclaims), (run + 1, run + 1));
        if run == 0 {
            let summary = s.replay(id, 0).await;
            assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingReplayAttempt));
            let x = s.describe(id).await;
            assert_eq!((x.run, x.retry_count, x.reclaim_count), (1, 0, 0));
            assert_eq!((x.total_retries, x.total_reclaims), (1, 1));
            assert_eq!((x.started_at, x.completed_at, x.end_cause, x.purge_at), (None, None, None, None));
            assert_eq!((x.failure_reason, x.failure_category), (None, None));
        }
    }
    let attempts = s.attempts(id).await;
    let types: Vec<_> = attempts.iter().map(|a| (a.run, a.attempt_type)).collect();
    assert_eq!(
        types,
        [
            (0, AttemptType::Initial),
            (0, AttemptType::Retry),
            (0, AttemptType::Reclaim),
            (1, AttemptType::Replay),
            (1, AttemptType::Retry),
            (1, AttemptType::Reclaim),
        ]
    );
}

async fn after_revoke(s: &Stage) {
    let (id, _) = s.revoked().await;
    s.cancel(id).await;
    s.replay(id, 0).await;
    let claimed = s.claim_this(id).await;
    assert_eq!((claimed.attempt_type, claimed.attempt_index), (AttemptType::Replay, AttemptIndex(1)));
    s.advance(10);
    assert_eq!(s.renew(id, claimed.fence, LEASE_MS).await, s.now().after(LEASE_MS));
    let summary = s.complete(id, claimed.fence).await;
    assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Success, true));
}

async fn replayed_twice(s: &Stage) {
    let (id, fence) = s.running().await;
    s.complete(id, fence).await;
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    let ended = s.complete_with(id, fence, b"second").await;
    let outcome = s.changes_nothing(s.replay_args(id, 0)).await;
    assert_eq!(outcome, Outcome::ReplayExecution(ReplayExecutionResult::Replayed { replay_count: 1, summary: ended }));
    assert_eq!(s.result(id, ResultSelector::Last).await.run, 1);
}

async fn other_replay(s: &Stage) {
    let (id, fence) = s.running().await;
    s.complete(id, fence).await;
    s.replay(id, 0).await;
    let change = |edit: fn(&mut ReplayExecutionArgs)| {
        let mut args = s.replay_args(id, 0);
        edit(&mut args);
        args
    };
    for args in [
        change(|args| args.reason = "another".to_owned()),
        change(|args| args.by = "someone".to_owned()),
        change(|args| args.deadline = Some(When::After(1_000))),
        change(|args| args.reopen_skipped = true),
    ] {
        let refusal = s.refused_with(Code::StaleReplay, args).await;
        assert_eq!(refusal.details(), &Details::StaleReplay { replay_count: 1 });
    }
    let fence = s.claim_this(id).await.fence;
    s.complete(id, fence).await;
    s.refused_with(Code::StaleReplay, change(|args| args.reason = "another".to_owned())).await;
}

async fn exhausted(s: &Stage) {
    for max_replays in [0, 2] {
        let mut policy = retries(0, 0);
        policy.max_replays = max_replays;
        let id = s.ready_with(policy).await;
        for replay_count in 0..max_replays {
            s.cancel(id).await;
            s.replay(id, replay_count).await;
        }
        s.cancel(id).await;
        let refusal = s.refused_with(Code::MaxReplaysExhausted, s.replay_args(id, max_replays)).await;
        assert_eq!(refusal.details(), &Details::MaxReplaysExhausted { replay_count: max_replays, max_replays });
        if let Some(last) = max_replays.checked_sub(1) {
            let summary = s.replay(id, last).await;
            assert_eq!(summary.state_vector, StateVector::done(TerminalOutcome::Cancelled, false));
        }
    }
}

async fn never_claimed(s: &Stage) {
    let id = s.ready().await;
    s.cancel(id).await;
    let summary = s.replay(id, 0).await;
    assert_eq!(summary.state_vector, StateVector::ready(AttemptState::PendingReplayAttempt));
    let claimed = s.claim_this(id).await;
    assert_eq!(claimed.attempt_index, AttemptIndex(0));
    assert_eq!(claimed.attempt_type, AttemptType::Initial);
    assert_eq!(claimed.run, 1);
}

async fn due_purge(s: &Stage) {
    let (id, fence) = s.running().await;
    s.complete(id, fence).await;
    s.advance(86_400_000);
    assert_eq!(s.describe(id).await.purge_at, Some(s.now()));
    s.replay(id, 0).await;
    assert_eq!(s.sweep().await.total(), 0);
    s.advance(86_400_000);
    assert_eq!(s.sweep().await.total(), 0);
    assert_eq!(s.state(id).await, StateName::Ready);
    s.claim_this(id).await;
}

async fn deadlines(s: &Stage) {
    let instant = s.now().after(1_000);
    let ended = async |when: When| {
        let (id, fence) = s.running_with(deadline(when)).await;
        s.complete(id, fence).await;
        id
    };
    let passed = ended(When::At(instant)).await;
    let ahead = ended(When::At(instant.after(10_000))).await;
    let duration = ended(When::After(1_000)).await;
    let given = ended(When::After(1_000)).await;
    s.advance(2_000);
    for id in [passed, ahead, duration] {
        s.replay(id, 0).await;
    }
    let mut args = s.replay_args(given, 0);
    args.deadline = Some(When::After(300));
    s.backend.replay_execution(args).await.unwrap_or_else(|e| panic!("replay_execution: {e}"));
    assert_eq!(s.describe(passed).await.deadline_at, None);
    assert_eq!(s.describe(ahead).await.deadline_at, Some(instant.after(10_000)));
    assert_eq!(s.describe(duration).await.deadline_at, Some(s.now().after(1_000)));
    assert_eq!(s.describe(given).await.deadline_at, Some(s.now().after(300)));
    s.advance(1_000);
    s.sweep().await;
    assert_eq!(s.state(passed).await, StateName::Ready);
    assert_eq!(s.vector(duration).await, StateVector::done(TerminalOutcome::Expired, true));
}
