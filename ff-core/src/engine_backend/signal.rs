//! Domain signal: `suspension.md`, section 5.

use async_trait::async_trait;

use crate::contracts::{
    BufferSignalArgs, BufferSignalResult, DeliverSignalArgs, DeliverSignalResult, ListSignalsArgs, ListSignalsResult,
};
use crate::error::EngineError;

/// Signals: what senders outside tell a suspended execution, let in by a waitpoint token.
///
/// **Authentication comes first.** The token is verified in the process, in the order well formed, kid known, MAC equal;
/// a bad one gets `invalid_token` whether or not execution, waitpoint or kid exists, so that nothing can be learned by
/// guessing. Then claims must equal the call's source. Whether the kid still counts is decided once more inside the
/// atomic step that records the signal, by the store's clock; that step takes addresses and kid from the verified token
/// alone. Failed verifications are counted by reason in the process; nothing is written to the store.
#[async_trait]
pub trait SignalOps: Send + Sync + 'static {
    /// Records a signal at an open waitpoint and resumes the execution if it satisfies the condition.
    ///
    /// # Behavior
    /// - On a pending waitpoint it is buffered (`buffered_for_pending_waitpoint`, tentative), whatever the execution
    ///   does.
    /// - On an active one the condition is judged in the same step. The signal that makes it true closes the suspension
    ///   and its waitpoints and wakes the execution: READY, DELAYED by the resume delay, DEPS, or ended cancelled as a
    ///   covered member. Its effect is `resume_condition_satisfied`; that of others `appended_to_waitpoint` (it
    ///   contributed), `appended_to_waitpoint_duplicate` (it matched and added nothing) or `no_op`.
    /// - Every recorded signal gets the execution's next `seq`: the order of acceptance.
    ///
    /// # Refuses
    /// In this order: `invalid_token`; `keystore_busy` (a well-formed token with an unknown kid, and the budget of loads
    /// is spent: try again soon); `token_source_mismatch`; `token_expired` (the kid's grace is over);
    /// `waitpoint_not_found` (also for a missing execution); `signal_conflict` (a known id or key, with other content);
    /// `waitpoint_closed` (not open; `timed_out` or `expired` also before the sweep); `signal_limit_exceeded`, by scope
    /// in this order: `waitpoint` (1,000 signals), `source` (250 under a bound token), `execution` (the policy's
    /// `max_signals`, by run), `payload` (16 MiB of signals that did not contribute, by run), `buffered` (1,000 on all
    /// pending waitpoints). A signal that would contribute on an active waitpoint is never refused for a limit.
    ///
    /// # Repeats
    /// `Duplicate` with the first signal's id and its effect as it stands now, for as long as the execution exists: after
    /// the resume, after the end, and when limits are reached. A signal is recognised by its key at this waitpoint (under
    /// a bound token: and from this source), else by its id, and must have equal content. A signal that was refused
    /// `waitpoint_closed` was not recorded.
    ///
    /// # Cost
    /// One round trip (and one bounded load when the partition's keys are not cached); O(leaves + log n), the key sets of
    /// the leaves kept or rebuilt from the suspension's signals.
    async fn deliver_signal(&self, args: DeliverSignalArgs) -> Result<DeliverSignalResult, EngineError>;

    /// Records a signal at a pending waitpoint only: for senders that must not resume anything now.
    ///
    /// # Behavior
    /// - As `deliver_signal` on a pending waitpoint. One dedup table serves both: a key used here is known there.
    ///
    /// # Refuses
    /// What `deliver_signal` refuses, in its order, and after `waitpoint_closed` `waitpoint_not_pending` for an active
    /// waitpoint.
    ///
    /// # Repeats
    /// `Duplicate`, as `deliver_signal`.
    ///
    /// # Cost
    /// One round trip (and one bounded load when the partition's keys are not cached); O(log n).
    async fn buffer_signal(&self, args: BufferSignalArgs) -> Result<BufferSignalResult, EngineError>;

    /// Lists the signals of the current, else the last suspension, in order of acceptance, with what each did.
    ///
    /// # Behavior
    /// - The timeout signal is one of them. Signals of waitpoints that no suspension named are not listed.
    /// - The suspension itself and the progress of every leaf of its condition come with each page.
    /// - `matched_only` gives exactly those that contributed, and the timeout signal.
    /// - A page ends before the signal that would bring its payloads over 1 MiB, but holds at least one.
    /// - What is listed stays readable after the end and after a replay, until the execution suspends again.
    ///
    /// # Refuses
    /// `invalid_input` (a cursor that is none); `execution_not_found`; `stale_suspension` (the cursor's suspension is no
    /// longer the current or last one).
    ///
    /// # Repeats
    /// A read: what is recorded then.
    ///
    /// # Cost
    /// One round trip; O(page), plus the judgement of the suspension's signals.
    async fn list_signals(&self, args: ListSignalsArgs) -> Result<ListSignalsResult, EngineError>;
}
