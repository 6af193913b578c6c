//! Generators of records that satisfy the rules between fields, for tests of codecs and of read models.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::*;
use crate::contracts::TimeoutBehavior;
use crate::ids::{BudgetId, QuotaPolicyId};
use crate::policy::{Backoff, Capabilities, RetryPolicy, StreamPolicy, SuspensionPolicy, TimeoutPolicy};
use crate::state::BlockingReason;
use crate::time::{MAX_DURATION_MS, MAX_SAFE_INTEGER, When};

pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..=MAX_SAFE_INTEGER, Just(MAX_SAFE_INTEGER)]
}

pub(crate) fn instant() -> impl Strategy<Value = TimestampMs> {
    number().prop_map(TimestampMs::saturating)
}

pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof![r"[a-z:]{1,12}", r"\PC{1,60}"]
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), r"(?s).{0,60}"]
}

pub(crate) fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// A validated name of `ids.rs`.
pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[A-Za-z0-9._:/-]{1,20}".prop_map(|text| text.parse().expect("within the charset"))
}

pub(crate) fn execution_id() -> impl Strategy<Value = ExecutionId> {
    (any::<u16>(), uuid()).prop_map(|(partition, uuid)| ExecutionId::from_parts(partition, uuid))
}

pub(crate) fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(r"[a-z][a-z0-9_]{0,5}\.[^\p{Cc}]{1,8}", text(), 0..4)
}

pub(crate) fn word<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![instant().prop_map(When::At), (0..=MAX_DURATION_MS).prop_map(When::After)]
}

fn backoff() -> impl Strategy<Value = Backoff> {
    let exponential = (0..=MAX_DURATION_MS, 0..=MAX_DURATION_MS, 1_000..=100_000_u32, any::<bool>());
    prop_oneof![
        (0..=MAX_DURATION_MS).prop_map(|delay_ms| Backoff::Fixed { delay_ms }),
        exponential.prop_map(|(a, b, multiplier_milli, jitter)| Backoff::Exponential {
            initial_ms: a.min(b),
            max_ms: a.max(b),
            multiplier_milli,
            jitter,
        }),
    ]
}

pub(crate) fn policy() -> impl Strategy<Value = Arc<ExecutionPolicy>> {
    let retry = (0..=1_000_000_u32, backoff(), btree_set(name(), 0..3)).prop_map(
        |(max_retries, backoff, retryable_categories)| RetryPolicy { max_retries, backoff, retryable_categories },
    );
    let timeouts = (option::of(1..=MAX_DURATION_MS), option::of(when()))
        .prop_map(|(attempt_timeout_ms, deadline)| TimeoutPolicy { attempt_timeout_ms, deadline });
    let behavior = prop_oneof![
        Just(TimeoutBehavior::Fail),
        Just(TimeoutBehavior::AutoResume),
        option::of(1..=MAX_DURATION_MS).prop_map(|fail_after_ms| TimeoutBehavior::Escalate { fail_after_ms }),
    ];
    let suspension =
        (option::of(1..=MAX_DURATION_MS), behavior).prop_map(|(default_timeout_ms, default_timeout_behavior)| {
            SuspensionPolicy { default_timeout_ms, default_timeout_behavior }
        });
    let admission = (
        vec("[!-+\\--~]{1,10}", 0..4).prop_map(|tokens| tokens.into_iter().collect::<Capabilities>()),
        btree_set(id::<BudgetId>(), 0..3),
        option::of(id::<QuotaPolicyId>()),
    );
    let bounds = (
        0..=1_000_000_u32,
        0..=1_000_000_u32,
        1_000..=MAX_DURATION_MS,
        0..=MAX_DURATION_MS,
        1..=1_000_000_u64,
        1..=1_000_000_u32,
    );
    (retry, timeouts, suspension, admission, bounds).prop_map(|(retry, timeouts, suspension, admission, bounds)| {
        let (required_capabilities, budget_ids, quota_policy_id) = admission;
        let (max_reclaims, max_replays, idempotency_window_ms, retention_ms, retention_maxlen, max_signals) = bounds;
        Arc::new(ExecutionPolicy {
            retry,
            timeouts,
            max_reclaims,
            max_replays,
            required_capabilities,
            budget_ids,
            quota_policy_id,
            idempotency_window_ms,
            retention_ms,
            suspension,
            stream: StreamPolicy { retention_maxlen },
            max_signals,
        })
    })
}

pub(crate) fn ended_by() -> impl Strategy<Value = EndedBy> {
    prop_oneof![
        Just(EndedBy::Engine),
        id().prop_map(|worker_instance_id| EndedBy::Worker { worker_instance_id }),
        name().prop_map(|identity| EndedBy::Operator { identity }),
    ]
}

fn end_mark() -> impl Strategy<Value = EndMark> {
    (instant(), word(EndCause::ALL), ended_by()).prop_map(|(at, cause, by)| EndMark { at, cause, by })
}

fn replay_mark() -> impl Strategy<Value = ReplayMark> {
    (text(), name(), instant(), digest()).prop_map(|(reason, by, at, digest)| ReplayMark { reason, by, at, digest })
}

fn fence() -> impl Strategy<Value = Fence> {
    (uuid(), number(), uuid()).prop_map(|(lease, epoch, attempt)| Fence {
        lease_id: LeaseId::from_uuid(lease),
        lease_epoch: LeaseEpoch(epoch),
        attempt_id: AttemptId::from_uuid(attempt),
    })
}

fn last_call() -> impl Strategy<Value = LastCall> {
    let worker = || fence().prop_map(LastBy::Worker).boxed();
    let anyone = || prop_oneof![worker(), name().prop_map(|identity| LastBy::Operator { identity })].boxed();
    let answered = prop_oneof![
        (Just(LastOperation::CompleteExecution), anyone(), Just(LastAnswer::Completed)),
        (Just(LastOperation::FailExecution), anyone(), Just(LastAnswer::Ended)),
        (
            Just(LastOperation::FailExecution),
            worker(),
            instant().prop_map(|retry_at| LastAnswer::RetryScheduled { retry_at })
        ),
        (
            Just(LastOperation::CancelExecution),
            anyone(),
            word(LifecyclePhase::ALL).prop_map(|from| LastAnswer::Cancelled { from })
        ),
        (Just(LastOperation::DelayExecution), worker(), instant().prop_map(|until| LastAnswer::Delayed { until })),
        (
            Just(LastOperation::MoveToWaitingChildren),
            worker(),
            any::<(u32, u32)>().prop_map(|(unresolved_count, impossible_count)| LastAnswer::Moved {
                unresolved_count,
                impossible_count
            })
        ),
    ];
    (answered, any::<u32>(), digest()).prop_map(|((operation, by, answer), run, digest)| LastCall {
        operation,
        by,
        run,
        digest,
        answer,
    })
}

/// Every legal vector.
pub(crate) fn vectors() -> Vec<StateVector> {
    let pending = [
        AttemptState::PendingFirstAttempt,
        AttemptState::PendingRetryAttempt,
        AttemptState::PendingReplayAttempt,
        AttemptState::AttemptInterrupted,
    ];
    let mut all = vec![StateVector::RUNNING, StateVector::LOST, StateVector::REVOKED];
    for a in pending {
        all.extend([StateVector::ready(a), StateVector::deps(a)]);
        all.extend(NotBeforeKind::ALL.iter().map(|kind| StateVector::delayed(*kind, a)));
        all.extend(BlockReason::ALL.iter().map(|reason| StateVector::blocked(*reason, a)));
    }
    all.extend(BlockingReason::ALL.iter().map(|b| StateVector::suspended(*b)).filter(StateVector::is_legal));
    for outcome in TerminalOutcome::ALL.iter().filter(|o| **o != TerminalOutcome::None) {
        all.extend([true, false].map(|attempted| StateVector::done(*outcome, attempted)));
    }
    all
}

fn lease() -> impl Strategy<Value = LeaseRecord> {
    (uuid(), word(ClaimKind::ALL), id(), id(), instant(), instant(), option::of(instant())).prop_map(
        |(lease, claim_kind, worker_id, worker_instance_id, acquired_at, expires_at, renewed_at)| LeaseRecord {
            lease_id: LeaseId::from_uuid(lease),
            claim_kind,
            worker_id,
            worker_instance_id,
            acquired_at,
            expires_at,
            renewed_at,
        },
    )
}

fn grant() -> impl Strategy<Value = GrantRecord> {
    (id(), id(), instant(), instant()).prop_map(|(worker_id, worker_instance_id, granted_at, expires_at)| GrantRecord {
        worker_id,
        worker_instance_id,
        granted_at,
        expires_at,
    })
}

fn block() -> impl Strategy<Value = Block> {
    (text(), option::of(instant()), name(), instant()).prop_map(|(detail, until, by, blocked_at)| Block {
        detail,
        until,
        by,
        blocked_at,
    })
}

fn progress() -> impl Strategy<Value = Progress> {
    (option::of(0..=100_u8), option::of(text()), instant()).prop_map(|(pct, message, updated_at)| Progress {
        pct,
        message,
        updated_at,
    })
}

fn key_use() -> impl Strategy<Value = KeyUse> {
    (name(), word(KeyScope::ALL), instant()).prop_map(|(key, scope, expires_at)| KeyUse { key, scope, expires_at })
}

/// A legal execution of any state. What the vector and the flow decide is put right afterwards.
pub(crate) fn execution() -> impl Strategy<Value = ExecutionRecord> {
    let identity = (execution_id(), id(), id(), name(), policy(), option::of(name()), instant(), digest());
    let place = (option::of(key_use()), option::of(uuid()), select(vectors()), any::<i32>(), tags());
    let counts =
        (1..=u32::MAX, number(), any::<[u32; 6]>(), prop_oneof![Just(0), any::<u32>()], number(), 1..=MAX_SAFE_INTEGER);
    let marks = (replay_mark(), option::of(instant()), end_mark(), option::of(instant()), option::of(instant()));
    let ends = (option::of(text()), option::of(name()), option::of(text()));
    let holds = (
        option::of((instant(), word(NotBeforeKind::ALL)).prop_map(|(at, kind)| NotBefore { at, kind })),
        btree_map(word(BlockReason::ALL), block(), 0..4),
        option::of(progress()),
        option::of(last_call()),
    );
    let owners = (instant(), instant(), lease(), option::of(grant()));
    (identity, place, counts, marks, ends, holds, owners).prop_map(
        |(identity, place, counts, marks, ends, holds, owners)| {
            let (execution_id, namespace, lane_id, kind, policy, creator, created_at, fingerprint) = identity;
            let (idempotency, flow, vector, priority, tags) = place;
            let (attempts, epoch, [retries, reclaims, total_retries, total_reclaims, signals, waitpoints], ..) = counts;
            let (.., replay_count, signal_bytes, next_signal_seq) = counts;
            let (replay, started_at, ended, purge_at, deadline_at) = marks;
            let (failure_reason, failure_category, cancel_reason) = ends;
            let (not_before, blocks, progress, last_call) = holds;
            let (last_transition_at, last_mutation_at, lease, grant) = owners;
            let flow_id = flow.map(|uuid| FlowId::from_parts(execution_id.partition(), uuid));
            let attempted = match vector.attempt_state {
                AttemptState::None | AttemptState::PendingFirstAttempt => false,
                AttemptState::PendingReplayAttempt => attempts % 2 == 0,
                _ => true,
            };
            let may_be_blocked = vector.is_runnable() || vector.is_reclaimable();
            ExecutionRecord {
                execution_id,
                namespace,
                lane_id,
                kind,
                policy,
                creator,
                created_at,
                fingerprint: fingerprint.into(),
                idempotency: idempotency.filter(|key| key.scope == KeyScope::Namespace || flow_id.is_some()),
                flow_id,
                vector,
                priority,
                tags,
                attempt_count: if attempted { attempts } else { 0 },
                lease_epoch: LeaseEpoch(epoch),
                retry_count: retries,
                reclaim_count: reclaims,
                total_retries,
                total_reclaims,
                replay_count,
                replay: (replay_count > 0).then_some(replay),
                started_at,
                ended: vector.is_terminal().then_some(ended),
                purge_at: purge_at.filter(|_| vector.is_terminal() && flow_id.is_none()),
                failure_reason,
                failure_category,
                cancel_reason,
                deadline_at,
                not_before,
                blocks: if may_be_blocked { blocks } else { BTreeMap::new() },
                progress,
                signal_count: signals,
                signal_bytes,
                next_signal_seq,
                waitpoint_count: waitpoints,
                last_call,
                last_transition_at,
                last_mutation_at,
                lease: vector.is_running().then_some(lease),
                grant,
            }
        },
    )
}

/// A legal attempt of any state.
pub(crate) fn attempt() -> impl Strategy<Value = AttemptRecord> {
    let identity = (execution_id(), prop_oneof![Just(0), any::<u32>()], uuid(), word(AttemptType::ALL), any::<u32>());
    let life = (instant(), word(AttemptLifecycle::ALL), end_mark(), option::of(text()), option::of(name()));
    let owner = (uuid(), number(), id(), id(), option::of(instant()), option::of(number()));
    let pause = (option::of((word(PauseKind::ALL), instant())), option::of(instant()));
    (identity, life, owner, pause).prop_map(|(identity, life, owner, (pause, resumed_at))| {
        let (execution_id, index, attempt, attempt_type, run) = identity;
        let (started_at, attempt_state, ended, failure_reason, failure_category) = life;
        let (lease, epoch, worker_id, worker_instance_id, attempt_deadline_at, timeout_remaining_ms) = owner;
        let attempt_type = match (index, attempt_type) {
            (0, _) => AttemptType::Initial,
            (_, AttemptType::Initial) => AttemptType::Retry,
            (_, other) => other,
        };
        AttemptRecord {
            execution_id,
            attempt_index: AttemptIndex(index),
            attempt_id: AttemptId::from_uuid(attempt),
            attempt_type,
            run,
            started_at,
            attempt_state,
            lease_id: LeaseId::from_uuid(lease),
            lease_epoch: LeaseEpoch(epoch),
            worker_id,
            worker_instance_id,
            attempt_deadline_at,
            timeout_remaining_ms,
            pause_kind: pause.map(|(kind, _)| kind),
            paused_at: pause.map(|(_, at)| at),
            resumed_at: resumed_at.filter(|_| pause.is_some()),
            ended: attempt_state.is_final().then_some(ended),
            failure_reason,
            failure_category,
        }
    })
}

/// A legal run, closed or current.
pub(crate) fn run() -> impl Strategy<Value = RunRecord> {
    let outcome = word(TerminalOutcome::ALL).prop_filter("an outcome", |o| *o != TerminalOutcome::None);
    let closed = option::of((
        (outcome, end_mark()),
        (option::of(text()), option::of(name()), option::of(text())),
        (option::of(instant()), replay_mark()),
    ));
    let result = option::of(vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let head = (execution_id(), prop_oneof![Just(0), any::<u32>()]);
    (head, result, option::of(r"[a-z/]{1,20}"), closed).prop_map(|((execution_id, run), result, encoding, closed)| {
        let closed = closed.map(|((outcome, ended), (failure_reason, failure_category, cancel_reason), rest)| {
            let (deadline_at, replay) = rest;
            let replay = (run > 0).then_some(replay);
            ClosedRun { outcome, ended, failure_reason, failure_category, cancel_reason, deadline_at, replay }
        });
        let success = closed.as_ref().is_none_or(|c| c.outcome == TerminalOutcome::Success);
        RunRecord {
            execution_id,
            run,
            result: result.filter(|_| success),
            result_encoding: encoding.filter(|_| success),
            closed,
        }
    })
}
