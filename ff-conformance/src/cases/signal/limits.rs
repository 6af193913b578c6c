//! How many signals are taken, and which are taken beyond.

use bytes::Bytes;
use ff_core::condition::{Distinct, ResumeCondition};
use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::ExecutionId;
use ff_core::policy::ExecutionPolicy;

use crate::cases::cases;
use crate::stage::*; // cases speak the stage's words

use SignalEffect::{
    AppendedToWaitpoint as Appended, BufferedForPendingWaitpoint as Buffered, NoOp,
    ResumeConditionSatisfied as Satisfied,
};

cases! { "signal";
    "deliver_signal: the 1,001st signal of a waitpoint, the 251st of a bound source, the one beyond max_signals and the one that passes 16 MiB are refused unless they would contribute on an active waitpoint, and nothing is evicted; replay starts the counts of the execution anew." => limits,
    "deliver_signal: behind 1,000 signals of noise on an active waitpoint the one that satisfies is accepted and resumes." => behind_noise,
    "buffer_signal: the 1,001st buffered signal of an execution over several pending waitpoints is refused." => buffered,
}

/// SUSPENDED until two signals named `go` have arrived at these waitpoints.
async fn asleep(
    s: &Stage,
    policy: ExecutionPolicy,
    bindings: Vec<WaitpointBinding>,
) -> (ExecutionId, Vec<IssuedWaitpoint>) {
    let (id, fence) = s.running_with(policy).await;
    let condition = ResumeCondition::count(2, Distinct::Signals, "go");
    (id, s.suspend(s.suspension(id, fence, bindings, condition)).await.waitpoints)
}

async fn limits(s: &Stage) {
    let nothing = Bytes::new();
    let full: Bytes = vec![7; 65_536].into();

    // Of a waitpoint.
    let (id, at) = asleep(s, ExecutionPolicy::default(), vec![fresh(), fresh()]).await;
    s.send_noise(id, &at[0], 1_000, &nothing, NoOp).await;
    let first = s.signals(id).await.signals[0].signal_id;
    let refused = s.refused(s.signal(id, &at[0], "noise")).await;
    assert_eq!(refused, beyond(SignalLimitScope::Waitpoint, 1_000));
    assert_eq!(s.send(id, &at[1], "noise").await, NoOp, "each waitpoint has its own count");
    assert_eq!(s.send(id, &at[0], "go").await, Appended);
    s.turned_away(s.signal(id, &at[0], "noise"), &beyond(SignalLimitScope::Waitpoint, 1_000)).await;
    let listed = s.walk_signals(id, false, 1000).await.signals;
    assert_eq!((listed.len(), listed[0].signal_id), (1_002, first), "nothing is evicted");
    assert_eq!(s.describe(id).await.signal_count, 1_002);
    assert_eq!(s.send(id, &at[0], "go").await, Satisfied);
    s.cancel(id).await;

    // Of a source that a token binds.
    let (id, at) = asleep(s, ExecutionPolicy::default(), vec![fresh_for(&["ann", "bob"]), fresh()]).await;
    s.send_noise(id, &at[0], 250, &nothing, NoOp).await;
    let refused = s.refused(s.signal(id, &at[0], "noise")).await;
    assert_eq!(refused, beyond(SignalLimitScope::Source, 250));
    assert_eq!(s.deliver(s.signal_by(id, &at[0], 1, "noise")).await, NoOp);
    s.send_noise(id, &at[1], 251, &nothing, NoOp).await; // as ann, but no token says so
    assert_eq!(s.send(id, &at[0], "go").await, Appended);
    assert_eq!(s.signals(id).await.signals.len(), 503);
    assert_eq!(s.send(id, &at[0], "go").await, Satisfied);
    s.cancel(id).await;

    // Of the execution, over all its waitpoints.
    let (id, at) = asleep(s, max_signals(4), vec![fresh(), fresh()]).await;
    s.send_noise(id, &at[0], 2, &nothing, NoOp).await;
    s.send_noise(id, &at[1], 2, &nothing, NoOp).await;
    for waitpoint in &at {
        let refused = s.refused(s.signal(id, waitpoint, "noise")).await;
        assert_eq!(refused, beyond(SignalLimitScope::Execution, 4));
    }
    assert_eq!(s.send(id, &at[1], "go").await, Appended);
    assert_eq!(s.describe(id).await.signal_count, 5);
    assert_eq!(s.send(id, &at[0], "go").await, Satisfied);
    s.cancel(id).await;

    // Of payload bytes: 256 times 64 KiB are 16 MiB.
    let (id, at) = asleep(s, ExecutionPolicy::default(), vec![fresh()]).await;
    let mut go = s.signal(id, &at[0], "go");
    go.payload = full.clone();
    assert_eq!(s.deliver(go).await, Appended, "what contributes is not in the sum");
    s.send_noise(id, &at[0], 255, &full, NoOp).await;
    let mut most = s.signal(id, &at[0], "noise");
    most.payload = full.slice(..65_535);
    assert_eq!(s.deliver(most).await, NoOp);
    let mut two = s.signal(id, &at[0], "noise");
    two.payload = Bytes::from_static(b"xy");
    assert_eq!(s.refused(two).await, beyond(SignalLimitScope::Payload, 16_777_216));
    let mut one = s.signal(id, &at[0], "noise");
    one.payload = Bytes::from_static(b"x");
    assert_eq!(s.deliver(one.clone()).await, NoOp, "16 MiB exactly");
    one.signal_id = ff_core::ids::SignalId::new();
    s.turned_away(one, &beyond(SignalLimitScope::Payload, 16_777_216)).await;
    assert_eq!(s.send(id, &at[0], "noise").await, NoOp, "an empty one still fits");
    assert_eq!(s.describe(id).await.signal_count, 259);
    let mut go = s.signal(id, &at[0], "go");
    go.payload = full.clone();
    assert_eq!(s.deliver(go).await, Satisfied);
    s.cancel(id).await;
    replayed(s, id, &full).await;

    // On a pending waitpoint nothing is known to contribute: a match is refused as well.
    let (id, fence) = s.running_with(max_signals(2)).await;
    let pending = s.pending(id, fence).await;
    s.send_noise(id, &pending, 2, &nothing, Buffered).await;
    let refused = s.refused(s.signal(id, &pending, "go")).await;
    assert_eq!(refused, beyond(SignalLimitScope::Execution, 2));

    // Where several are reached, the waitpoint's comes first, then the source's, the execution's, the payload's.
    let (id, at) = asleep(s, max_signals(250), vec![fresh_for(&["ann", "bob"])]).await;
    s.send_noise(id, &at[0], 250, &nothing, NoOp).await;
    s.turned_away(s.signal(id, &at[0], "noise"), &beyond(SignalLimitScope::Source, 250)).await;
    s.turned_away(s.signal_by(id, &at[0], 1, "noise"), &beyond(SignalLimitScope::Execution, 250)).await;
    s.cancel(id).await;
    let (id, at) = asleep(s, max_signals(1_000), vec![fresh()]).await;
    s.send_noise(id, &at[0], 1_000, &nothing, NoOp).await;
    s.turned_away(s.signal(id, &at[0], "noise"), &beyond(SignalLimitScope::Waitpoint, 1_000)).await;
    // A replay counts from nothing again.
    s.cancel(id).await;
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    let condition = ResumeCondition::signal("go");
    let at = s.suspend(s.suspension(id, fence, vec![fresh(), fresh()], condition)).await.waitpoints;
    s.send_noise(id, &at[0], 600, &nothing, NoOp).await;
    s.send_noise(id, &at[1], 400, &nothing, NoOp).await;
    s.turned_away(s.signal(id, &at[0], "noise"), &beyond(SignalLimitScope::Execution, 1_000)).await;
    assert_eq!(s.describe(id).await.signal_count, 1_000);
}

/// The execution, whose first run was full of payload, takes as much again once it is replayed.
async fn replayed(s: &Stage, id: ExecutionId, full: &Bytes) {
    s.replay(id, 0).await;
    let fence = s.claim_this(id).await.fence;
    let condition = ResumeCondition::signal("go");
    let at = s.suspend(s.suspension(id, fence, vec![fresh()], condition)).await.waitpoints;
    s.send_noise(id, &at[0], 256, full, NoOp).await;
    let mut one = s.signal(id, &at[0], "noise");
    one.payload = Bytes::from_static(b"x");
    s.turned_away(one, &beyond(SignalLimitScope::Payload, 16_777_216)).await;
    s.cancel(id).await;
}

async fn behind_noise(s: &Stage) {
    let (id, fence) = s.running().await;
    let at = s.suspend(s.suspension(id, fence, vec![fresh()], ResumeCondition::signal("go"))).await.waitpoints;
    s.send_noise(id, &at[0], 1_000, &Bytes::from_static(b"noise"), NoOp).await;
    s.turned_away(s.signal(id, &at[0], "noise"), &beyond(SignalLimitScope::Waitpoint, 1_000)).await;
    let go = s.signal(id, &at[0], "go");
    assert_eq!(s.deliver(go.clone()).await, Satisfied);
    assert_eq!(s.vector(id).await, INTERRUPTED);
    let (_, info) = s.claim_awake(id).await;
    assert_eq!((info.matched.total, info.matched.closer), (1, Some(go.signal_id)));
    assert_eq!(info.matched.first[0].seq, 1_001);
}

async fn buffered(s: &Stage) {
    let (id, fence) = s.running().await;
    let mut pending = Vec::new();
    for _ in 0..4 {
        pending.push(s.pending(id, fence).await);
    }
    for waitpoint in &pending {
        for _ in 0..250 {
            s.buffer(&s.signal(id, waitpoint, "noise")).await;
        }
    }
    let want = beyond(SignalLimitScope::Buffered, 1_000);
    for waitpoint in [&pending[0], &pending[3]] {
        let next = s.signal(id, waitpoint, "noise");
        assert_eq!(s.refused(to_buffer(&next)).await, want);
        assert_eq!(s.refused(next).await, want);
    }
    let fifth = s.pending(id, fence).await;
    s.turned_away(s.signal(id, &fifth, "noise"), &want).await;
    // What a closed waitpoint had is buffered no more.
    s.withdraw(id, fence, pending[1].waitpoint_id).await;
    for _ in 0..250 {
        s.buffer(&s.signal(id, &fifth, "noise")).await;
    }
    s.turned_away(s.signal(id, &pending[0], "noise"), &want).await;
    // Nor is what a suspension has taken up.
    let bindings = vec![WaitpointBinding::pending(pending[2].waitpoint_id)];
    s.suspend(s.suspension(id, fence, bindings, ResumeCondition::signal("go"))).await;
    assert_eq!(s.signals(id).await.signals.len(), 250);
    s.buffer(&s.signal(id, &pending[0], "noise")).await;
}
