//! Domain suspension: `suspension.md`, section 4.

use async_trait::async_trait;

use crate::contracts::{
    CloseWaitpointArgs, CloseWaitpointResult, CreatePendingWaitpointArgs, CreatePendingWaitpointResult,
    ExpireSuspensionArgs, ExpireSuspensionResult, ListPendingWaitpointsArgs, ListPendingWaitpointsResult,
    ResumeExecutionArgs, ResumeExecutionResult, SuspendExecutionArgs, SuspendExecutionResult,
};
use crate::error::EngineError;

/// Pauses that wait for signals, and the waitpoints that signals are sent to.
///
/// A waitpoint is **open** while it is pending with `now < expires_at`, or active with its suspension's `timeout_at`
/// absent or later than now. Everything asks for openness by the clock, whether or not a timer has fired. Waitpoint ids
/// are single-use: one that was used in an execution is never free again until the execution is purged, a replay
/// included.
///
/// **Minting.** An operation that issues tokens names its kid to the store, which refuses `stale_kid` unless that is the
/// partition's current one; the backend then reloads the partition's keys and tries once more, so that callers see
/// `stale_kid` only when the second try lost, too. All tokens of one call have one kid. A waitpoint with declared
/// sources gets one token bound to each and no unbound one, a waitpoint without them one unbound token. Tokens are
/// never stored.
#[async_trait]
pub trait SuspensionOps: Send + Sync + 'static {
    /// Pauses a running attempt until its condition is met by signals, or its time is over, or an operator resumes it.
    ///
    /// # Behavior
    /// - The signals buffered on all pending bindings are gathered in `seq` order and the condition is judged over them,
    ///   in the same step that activates the waitpoints: no accepted signal is ever lost between the two.
    /// - Not satisfied: RUNNING becomes SUSPENDED, labelled by `reason_code`; the lease is released and its epoch kept;
    ///   the attempt is `suspended` and keeps what is left of its time for the resumed claim. Fresh and pending
    ///   waitpoints are active, buffered signals get their final effects, and the timeout is armed at now plus its
    ///   duration. The execution's deadline keeps running.
    /// - Satisfied: nothing pauses and the lease is kept. The suspension is recorded already closed
    ///   (`already_satisfied`), its waitpoints closed (`satisfied`) and their ids spent.
    /// - Pending waitpoints that the call does not name stay pending. The suspension before is gone from the record.
    ///
    /// # Refuses
    /// In this order: `invalid_resume_condition` (its form); `execution_not_found`; `suspension_conflict` (the id of the
    /// current or last suspension, with another fence or content); the fence check: `execution_not_active`,
    /// `lease_revoked`, `lease_expired`, `stale_lease`; `invalid_resume_condition` (`needs_timeout`, `needs_override`);
    /// if anything is bound `hmac_secret_not_initialized`, `stale_kid`; per binding in order `waitpoint_already_exists`
    /// (fresh, in whatever state), or `waitpoint_not_found`, `pending_waitpoint_expired` (swept or not),
    /// `waitpoint_not_pending` (pending); `invalid_resume_condition` (`too_few_sources`); `waitpoint_limit_exceeded`
    /// (10,000 ids per execution).
    ///
    /// # Repeats
    /// The same suspension, fence and content: the first answer, with the `timeout_at` of now and tokens under the kid
    /// current now; also after the suspension closed, while it is the last. Later the fence check answers.
    ///
    /// # Cost
    /// One round trip; O(w + s log n) in the bindings (at most 16) and the buffered signals (at most 1,000), times the
    /// condition's leaves (at most 64).
    async fn suspend_execution(&self, args: SuspendExecutionArgs) -> Result<SuspendExecutionResult, EngineError>;

    /// Ends the open suspension on an operator's word.
    ///
    /// # Behavior
    /// - The condition is not asked. The suspension closes (`operator_resume`, with `by` and `reason`), its waitpoints
    ///   with it, its timer is disarmed.
    /// - The resume delay is honoured: `not_before` becomes the later of itself and now plus the delay.
    /// - The same attempt goes on: the execution is READY, DELAYED or DEPS, or ends cancelled as a covered member of a
    ///   flow. The resumed claim is told `operator`, whatever had matched.
    ///
    /// # Refuses
    /// In this order: `execution_not_found`; `execution_not_suspended`; `stale_suspension` (another one is open);
    /// `operator_override_forbidden` (its policy); `suspension_timed_out` (from the instant of the timeout on, until that
    /// has been applied).
    ///
    /// # Repeats
    /// With the id of the last suspension, closed by an operator's resume with equal `by` and `reason`: the first answer.
    /// Another operator, or a call without the id: `execution_not_suspended`.
    ///
    /// # Cost
    /// One round trip; O(w + log n) in its waitpoints (at most 16), plus at most 128 cascade steps when it ends.
    async fn resume_execution(&self, args: ResumeExecutionArgs) -> Result<ResumeExecutionResult, EngineError>;

    /// Makes a waitpoint ahead of the suspension that will listen at it, so that its tokens can be handed out before
    /// the pause and signals that come early are kept.
    ///
    /// # Behavior
    /// - No transition. The waitpoint is pending, buffers signals, and belongs to the attempt: when that ends, it closes.
    /// - At `expires_at` it ages out (`expired`) unless a suspension has named it by then; an active one never does.
    ///
    /// # Refuses
    /// In this order: the fence check (`execution_not_found`, `execution_not_active`, `lease_revoked`, `lease_expired`,
    /// `stale_lease`); `hmac_secret_not_initialized`; `stale_kid`; `waitpoint_already_exists` (a record that is no
    /// repeat); `waitpoint_limit_exceeded` (16 open pending ones, or 10,000 ids, per execution).
    ///
    /// # Repeats
    /// The same id under the same attempt, still open and pending, with equal `expires_in_ms` and sources:
    /// `AlreadyExists` with the same fields, the first `expires_at` among them.
    ///
    /// # Cost
    /// One round trip; O(log n) in the execution's waitpoints.
    async fn create_pending_waitpoint(
        &self,
        args: CreatePendingWaitpointArgs,
    ) -> Result<CreatePendingWaitpointResult, EngineError>;

    /// Withdraws a pending waitpoint that is not needed any more.
    ///
    /// # Behavior
    /// - No transition. An open pending waitpoint closes (`withdrawn`, with the reason as its detail), its timer is
    ///   disarmed; the signals buffered on it end as `no_op_waitpoint_never_activated`.
    ///
    /// # Refuses
    /// In this order: `execution_not_found`; `waitpoint_not_found`; `waitpoint_in_use` (active and open: only its
    /// suspension closes it); the fence check: `execution_not_active`, `lease_revoked`, `lease_expired`, `stale_lease`.
    ///
    /// # Repeats
    /// `AlreadyClosed` with the recorded reason (`expired` or `timed_out` also before the sweep), whatever the fence and
    /// whoever closed it.
    ///
    /// # Cost
    /// One round trip; O(s) in the signals buffered on it (at most 1,000).
    async fn close_waitpoint(&self, args: CloseWaitpointArgs) -> Result<CloseWaitpointResult, EngineError>;

    /// Applies the timeout of a suspension that is due, without waiting for a sweep. Anyone may call it.
    ///
    /// # Behavior
    /// - Due at `timeout_at <= now`. First the timeout signal is recorded: name and category `timeout`, source
    ///   (`engine`, `engine`), an id derived from the suspension's. Then, by the behaviour:
    /// - `fail`, `cancel`, `expire`: the suspension closes and the execution ends failed, cancelled or expired with
    ///   `suspension_timeout`; the retry policy is not asked.
    /// - `auto_resume`: as a resume, the delay counted from now; the resumed claim is told `timeout`.
    /// - `escalate`: the suspension stays open and counts as operator-only, labelled `paused_by_operator`; its waitpoints
    ///   close for ever; its time is now plus `fail_after_ms` with the behaviour `fail`, or none. A covered member of a
    ///   flow ends cancelled.
    /// - Its waitpoints close as `timed_out`.
    /// - Otherwise `NotDue`, and nothing is written: `Terminal`; `Stale` (not the open suspension); `NotArmed` (it has no
    ///   timeout); `Early`.
    ///
    /// # Refuses
    /// `execution_not_found`.
    ///
    /// # Repeats
    /// `NotDue`.
    ///
    /// # Cost
    /// One round trip; O(w + log n) in its waitpoints (at most 16), plus at most 128 cascade steps when it ends.
    async fn expire_suspension(&self, args: ExpireSuspensionArgs) -> Result<ExpireSuspensionResult, EngineError>;

    /// Lists the open waitpoints of an execution, pending and active, by waitpoint id; with tokens if asked.
    ///
    /// # Behavior
    /// - One atomic read. Closed, aged-out and timed-out waitpoints are left out.
    /// - An active waitpoint shows its suspension and how far the leaves are that it feeds.
    /// - With `include_tokens` tokens are minted under the kid current now: this is how they are re-issued after a
    ///   rotation. Gateways treat the flag as a permission of its own.
    ///
    /// # Refuses
    /// `invalid_input` (a cursor that is none); `execution_not_found`; with tokens to issue
    /// `hmac_secret_not_initialized`, `stale_kid`.
    ///
    /// # Repeats
    /// A read: what is open then.
    ///
    /// # Cost
    /// One round trip; O(page), plus the judgement of the open suspension's signals.
    async fn list_pending_waitpoints(
        &self,
        args: ListPendingWaitpointsArgs,
    ) -> Result<ListPendingWaitpointsResult, EngineError>;
}
