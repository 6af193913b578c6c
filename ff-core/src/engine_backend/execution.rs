//! Domain execution: `execution.md`, section 4.

use async_trait::async_trait;

use crate::contracts::{
    BlockExecutionArgs, BlockExecutionResult, CancelExecutionArgs, CancelExecutionResult, ChangePriorityArgs,
    ChangePriorityResult, CompleteExecutionArgs, CompleteExecutionResult, CreateExecutionArgs, CreateExecutionResult,
    DelayExecutionArgs, DelayExecutionResult, ExpireExecutionArgs, ExpireExecutionResult, FailExecutionArgs,
    FailExecutionResult, MoveToWaitingChildrenArgs, MoveToWaitingChildrenResult, ReplayExecutionArgs,
    ReplayExecutionResult, SetExecutionTagsArgs, SetExecutionTagsResult, UnblockExecutionArgs, UnblockExecutionResult,
    UpdateProgressArgs, UpdateProgressResult,
};
use crate::error::EngineError;

/// The life of one execution: creation, endings, pauses, replay, and what may be changed of it on the way.
///
/// Every method first refuses what [`CheckArgs`](crate::bounds::CheckArgs) refuses, then `execution_not_found` unless
/// it creates. *The fence check* is, in this order: `execution_not_found`; `execution_not_active`; `lease_revoked`;
/// `lease_expired` (LOST, or `lease_expires_at <= now` although no timer has fired); `stale_lease`. Where a method
/// takes an [`Actor`](crate::contracts::Actor), a worker passes the fence check and an operator is refused only
/// `execution_terminal`. Wherever a member of a cancelled flow would be left in a state that the cancellation covers,
/// it ends cancelled in the same step, and the summary shows it.
///
/// *First answers.* complete, fail, cancel, a worker's delay and a wait for children keep their answer on the
/// execution until the next such call. A worker that repeats its call (same operation, fence and content) gets it,
/// whatever the execution does by now; an operator that repeats an ending gets it while the execution is terminal in
/// the same run. Every field is as it was, the summary is of now, and nothing is written.
#[async_trait]
pub trait ExecutionOps: Send + Sync + 'static {
    /// Creates an execution, as a member of a flow if so asked.
    ///
    /// # Behavior
    /// - Freezes the policy, sets the deadline and the delay from it and from the arguments, writes the key record,
    ///   and runs the gate: READY, DELAYED, or DEPS as a held or dependent member.
    /// - With `flow` it is created, added and its edges are applied in one step; nobody sees it in between.
    /// - A past deadline is legal: the next sweep or `claim_next` of its partition expires it. A delay that is not
    ///   after now is none.
    /// - Registers a non-empty set of required capabilities for (partition, lane) while an execution that is not
    ///   terminal has it.
    ///
    /// # Refuses
    /// - `partition_mismatch`: a member outside its flow's partition; a stand-alone execution outside its key's.
    /// - `execution_already_exists`: the id exists with other content or another key, or is being purged.
    /// - `idempotency_conflict`: the key is in force with other content.
    /// - With `flow`: `flow_not_found`, `flow_already_terminal`, `flow_sealed`, `namespace_mismatch`; per edge
    ///   `dependency_already_exists`, `execution_not_in_flow`, `data_name_conflict`; `flow_too_large`,
    ///   `fan_in_limit`, `fan_out_limit`.
    /// - `too_many_capability_sets`: the set is new to the lane, which holds 256 in this partition.
    ///
    /// # Repeats
    /// The same id, content and key: `AlreadyExists`. Another id under a key in force, with equal content: `Duplicate`
    /// with the first id. Neither writes anything. Content is the creation's, whatever was changed later.
    ///
    /// # Cost
    /// One round trip; O(log n) in the partition's queues and timers, plus the payload and one step per edge.
    async fn create_execution(&self, args: CreateExecutionArgs) -> Result<CreateExecutionResult, EngineError>;

    /// Ends an execution with success and keeps its result.
    ///
    /// # Behavior
    /// - Ends the current attempt, closes suspension and waitpoints, leaves every queue and timer but retention, and
    ///   resolves outgoing edges within the call's budgets.
    /// - The run's result becomes the one given; absent clears it. An operator may complete from any state that is not
    ///   terminal; an execution never claimed stays without an attempt.
    ///
    /// # Refuses
    /// - `payload_too_large`: the result is over the deployment's bound.
    /// - A worker: the fence check. An operator: `execution_terminal`.
    ///
    /// # Repeats
    /// The first answer. Another result under the fence that ended it is `execution_not_active`.
    ///
    /// # Cost
    /// One round trip; O(log n), plus the result and at most 128 cascade steps.
    async fn complete_execution(&self, args: CompleteExecutionArgs) -> Result<CompleteExecutionResult, EngineError>;

    /// Ends an attempt with failure, and schedules another or ends the execution.
    ///
    /// # Behavior
    /// - A worker's failure is retried if `no_retry` is false, retries are left and the policy retries the category:
    ///   the attempt ends, the retry counts, and a backoff of 0 makes it READY at once.
    /// - Else, and always for an operator, the execution ends failed with reason and category.
    /// - The deadline plays no part in the decision; it stays armed and ends the wait as expired.
    ///
    /// # Refuses
    /// A worker: the fence check. An operator: `execution_terminal`.
    ///
    /// # Repeats
    /// The first answer with the same `retry_at`, also after the next attempt has started.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 128 cascade steps when it ends.
    async fn fail_execution(&self, args: FailExecutionArgs) -> Result<FailExecutionResult, EngineError>;

    /// Ends an execution as cancelled, from every state that is not terminal.
    ///
    /// # Behavior
    /// - Records reason and actor; nothing of it is left in a queue or timer except retention.
    /// - A paused attempt becomes `ended_cancelled`; a lost or revoked one keeps `interrupted_reclaimed`.
    ///
    /// # Refuses
    /// A worker: the fence check. An operator: `execution_terminal`.
    ///
    /// # Repeats
    /// The first answer.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 128 cascade steps.
    async fn cancel_execution(&self, args: CancelExecutionArgs) -> Result<CancelExecutionResult, EngineError>;

    /// Fires an attempt timeout or a deadline, if it is due, without waiting for a sweep.
    ///
    /// # Behavior
    /// - `AttemptTimeout`: a failure of category `timeout`, retried like any other. `Deadline`: ends expired.
    /// - Looks at no other timer that is due as well.
    /// - Not due answers `NotDue` and writes nothing: `Terminal`; `Stale` (another attempt is current); `NotArmed` (no
    ///   deadline; not RUNNING, or without attempt timeout); `Early`.
    ///
    /// # Refuses
    /// Nothing but `execution_not_found` and malformed arguments.
    ///
    /// # Repeats
    /// `NotDue`.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 128 cascade steps when it ends.
    async fn expire_execution(&self, args: ExpireExecutionArgs) -> Result<ExpireExecutionResult, EngineError>;

    /// Makes an execution wait for time; a worker thereby pauses its own attempt.
    ///
    /// # Behavior
    /// - Replaces the instant before which it is not claimable, whatever that was for (a backoff too); one that is not
    ///   after now clears it.
    /// - A worker's attempt pauses and its lease goes; the next claim continues the same attempt with the time that it
    ///   had left. An instant in the past gives READY.
    /// - An operator delays any execution that is not terminal: a runnable one is gated anew, a lost or revoked one
    ///   keeps its state and rejoins its queue afterwards, a suspended one stays suspended, a running one is paused.
    ///
    /// # Refuses
    /// A worker: the fence check. An operator: `execution_terminal`.
    ///
    /// # Repeats
    /// A worker: the first answer. An operator: it is set again, counted from the new now.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn delay_execution(&self, args: DelayExecutionArgs) -> Result<DelayExecutionResult, EngineError>;

    /// Pauses the attempt until no incoming edge is unresolved.
    ///
    /// # Behavior
    /// - With nothing unresolved, always so outside a flow, nothing changes and the lease stays.
    /// - Else the attempt pauses, the lease goes, and the next claim continues the same attempt.
    /// - An impossible edge neither ends nor wakes it: it is told how many there are.
    ///
    /// # Refuses
    /// The fence check.
    ///
    /// # Repeats
    /// `Moved`: the first answer. `AlreadySatisfied`: it is asked again.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn move_to_waiting_children(
        &self,
        args: MoveToWaitingChildrenArgs,
    ) -> Result<MoveToWaitingChildrenResult, EngineError>;

    /// Begins a new run of an ended execution.
    ///
    /// # Behavior
    /// - Closes the run's record with how it ended; attempts, streams and results of earlier runs stay readable.
    /// - Retries, reclaims and signals count from 0 again, their totals go on; the end, the failure and the progress
    ///   are cleared; retention is disarmed, also when it is due and has not fired.
    /// - The deadline is the argument's, else the policy's duration counted from now, else the policy's instant if it
    ///   is still to come.
    /// - A member's incoming edges are judged anew and its outgoing ones go back to pending where their children were
    ///   never claimed (`flow.md` 3.6); a finished flow is reopened.
    ///
    /// # Refuses
    /// - `execution_not_terminal`: it is live.
    /// - `stale_replay`: the count differs, or this replay was made with other content.
    /// - `max_replays_exhausted`: the policy allows no more.
    /// - Of a member: `flow_not_found` (its flow is being purged), `flow_already_terminal` (its flow is cancelled),
    ///   `deps_impossible` (an incoming edge is impossible as things stand).
    /// - `too_many_capability_sets`: its set is no longer registered in the lane, which holds 256.
    ///
    /// # Repeats
    /// `Replayed` with the summary of now while the new run is the current one; nothing is replayed twice.
    ///
    /// # Cost
    /// One round trip; O(log n), plus one step per incoming edge and at most 128 cascade steps.
    async fn replay_execution(&self, args: ReplayExecutionArgs) -> Result<ReplayExecutionResult, EngineError>;

    /// Changes the place of an execution in its queue, now or when it gets there.
    ///
    /// # Behavior
    /// - Works in every state that is not terminal; a grant or lease stays.
    /// - Among equal priorities the order stays by age.
    ///
    /// # Refuses
    /// `execution_terminal`.
    ///
    /// # Repeats
    /// `Changed` with `old` equal to `new`.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn change_priority(&self, args: ChangePriorityArgs) -> Result<ChangePriorityResult, EngineError>;

    /// Records what the worker says about its progress.
    ///
    /// # Behavior
    /// - Present fields overwrite, absent ones stay, an empty message clears the message.
    /// - Does not renew the lease. A new attempt starts without progress.
    ///
    /// # Refuses
    /// The fence check; `invalid_input` for more than 100 per cent or for neither field.
    ///
    /// # Repeats
    /// The last write wins.
    ///
    /// # Cost
    /// One round trip; O(1).
    async fn update_progress(&self, args: UpdateProgressArgs) -> Result<UpdateProgressResult, EngineError>;

    /// Sets and deletes tags, all or none of the changes.
    ///
    /// # Behavior
    /// - Works in every phase, terminal too. Deleting an absent tag is no change and no refusal.
    ///
    /// # Refuses
    /// `invalid_tag_key` (deletions included); `too_many_tags`: more than 64 afterwards.
    ///
    /// # Repeats
    /// Leave the same tags.
    ///
    /// # Cost
    /// One round trip; O(changes).
    async fn set_execution_tags(&self, args: SetExecutionTagsArgs) -> Result<SetExecutionTagsResult, EngineError>;

    /// Holds an execution back for one reason.
    ///
    /// # Behavior
    /// - At most one block per reason; a second call of that reason replaces it but for the instant since when. Voids
    ///   the grant and runs the gate.
    /// - A delayed or dependent execution keeps its state and becomes BLOCKED when the gate gets that far; a lost or
    ///   revoked one leaves its queue.
    /// - Blocks for a budget, a quota or a route never stand without an end: 60 s if none is given. An end that is not
    ///   after now takes the block of this reason away instead.
    ///
    /// # Refuses
    /// `execution_terminal`; `execution_not_eligible` (`not_runnable`) unless it is runnable, LOST or REVOKED.
    ///
    /// # Repeats
    /// `Blocked`, the end counted from the new now; `NotBlocked` if that is not after now.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn block_execution(&self, args: BlockExecutionArgs) -> Result<BlockExecutionResult, EngineError>;

    /// Takes the block of exactly one reason away.
    ///
    /// # Behavior
    /// - Other blocks, delays and edges go on holding it; with none it is READY, or back at its old place as LOST or
    ///   REVOKED.
    ///
    /// # Refuses
    /// Nothing but `execution_not_found` and malformed arguments.
    ///
    /// # Repeats
    /// `NotBlocked`, in any phase; nothing is written.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn unblock_execution(&self, args: UnblockExecutionArgs) -> Result<UnblockExecutionResult, EngineError>;
}
