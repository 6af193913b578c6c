//! Domain claim: `execution.md`, section 5.

use async_trait::async_trait;

use crate::contracts::{
    ClaimExecutionArgs, ClaimExecutionResult, ClaimNextArgs, ClaimNextResult, ClaimResumedExecutionArgs,
    ClaimResumedExecutionResult, IssueClaimGrantArgs, IssueClaimGrantResult, IssueReclaimGrantArgs,
    IssueReclaimGrantResult, ReclaimExecutionArgs, ReclaimExecutionResult,
};
use crate::error::EngineError;

/// How executions get to workers: from the queues of a partition, or one by one through a grant.
///
/// Every claim raises the epoch by one, writes the lease and arms its timer. A new attempt (index = the number of
/// attempts so far) gets the policy's full attempt timeout, a continued one what it had left. A holder is the pair of
/// worker and instance.
///
/// *Repeat of a claim*: while the execution is RUNNING under this lease id, live, of this holder, made by this kind of
/// call (`claim_next`: any) and, for a new attempt, with this attempt id, the same claim is answered from the records
/// and nothing changes. A lease id that the partition knows in any other way is `lease_id_in_use`.
///
/// *Causes* are reported in this order: the state (`not_runnable` or `not_lost`; `delayed`; `dependencies`;
/// `blocked`), then `flow_cancelled`, then `deadline_passed`.
#[async_trait]
pub trait ClaimOps: Send + Sync + 'static {
    /// Promises one READY execution to one holder.
    ///
    /// # Behavior
    /// - The execution leaves its queue and keeps its state until the grant is used, void or lapsed; then it returns to
    ///   its old place.
    /// - Replaces a grant that has lapsed. The grant's kind follows from the state: a new or a continued attempt.
    /// - Void is a grant by every change of the state, a new block and a new delay; not by priority, tags or progress.
    ///
    /// # Refuses
    /// - `execution_not_eligible`: not READY, a member that its flow's cancellation covers, or past its deadline.
    /// - `grant_already_exists`: another holder's grant lives.
    /// - `capability_mismatch`: the worker lacks required tokens.
    ///
    /// # Repeats
    /// The same holder gets the same grant with the same `expires_at`, while it lives.
    ///
    /// # Cost
    /// One round trip; O(log n).
    async fn issue_claim_grant(&self, args: IssueClaimGrantArgs) -> Result<IssueClaimGrantResult, EngineError>;

    /// Starts a new attempt under a grant.
    ///
    /// # Behavior
    /// - READY with a pending attempt becomes RUNNING; the grant is used up.
    /// - The attempt is `initial` for index 0, else `retry` or `replay` as the state says.
    ///
    /// # Refuses
    /// - `lease_id_in_use`: the lease id names a lease that is no repeat of this claim.
    /// - `execution_not_eligible`: as for the grant, also with a grant made earlier.
    /// - `use_claim_resumed_execution`: a paused attempt waits to go on.
    /// - `invalid_claim_grant`: none, or another holder's. `claim_grant_expired`: it lapsed, swept or not.
    ///
    /// # Repeats
    /// The same claim with the same epoch, while its lease lives.
    ///
    /// # Cost
    /// One round trip; O(log n), plus the payload and one step per input.
    async fn claim_execution(&self, args: ClaimExecutionArgs) -> Result<ClaimExecutionResult, EngineError>;

    /// Continues a paused attempt under a grant.
    ///
    /// # Behavior
    /// - READY with an interrupted attempt becomes RUNNING; same attempt id, index and stream, the rest of its time.
    /// - The cause tells why: the delay is over, no edge is unresolved, or what ended the suspension.
    ///
    /// # Refuses
    /// - `lease_id_in_use`; `execution_not_eligible`: as `claim_execution`.
    /// - `not_a_resumed_execution`: there is no paused attempt.
    /// - `invalid_claim_grant`; `claim_grant_expired`: as `claim_execution`.
    ///
    /// # Repeats
    /// The same claim with the same epoch, while its lease lives; a suspension shown is the newest closed one.
    ///
    /// # Cost
    /// One round trip; O(log n), plus the payload and one step per input and matched signal.
    async fn claim_resumed_execution(
        &self,
        args: ClaimResumedExecutionArgs,
    ) -> Result<ClaimResumedExecutionResult, EngineError>;

    /// Claims the best executions of one lane in one partition that the worker can run, one per slot.
    ///
    /// # Behavior
    /// - Begins with `sweep(partition, 64)`, so that due delays, lapsed grants and lapsed leases count.
    /// - Takes the best head (priority descending, age, id) among the ordinary queues whose set is contained in the
    ///   worker's: READY as a new or continued attempt, LOST and REVOKED as a reclaim.
    /// - A head that its flow's cancellation covers ends cancelled, one past its deadline ends expired, one whose record
    ///   cannot be decoded leaves its queue; after 64 of these it stops. It also stops when the payloads taken reach
    ///   4 MiB or their inputs 256, the execution that reaches either included.
    /// - Admission-controlled executions are never taken, the best 16 that the worker could run are listed; covered or
    ///   overdue heads of their queues are ended within the same 64.
    /// - `ready_remaining` and `next_due_at` tell when to come back.
    ///
    /// # Refuses
    /// - `invalid_capabilities`; `invalid_input`: not 1..=64 slots, or an id twice.
    /// - `lease_id_in_use`: any slot's lease id is known and no repeat; nothing is swept then.
    ///
    /// # Repeats
    /// If a slot is a repeat: those claims in slot order and nothing else; nothing is swept and nothing new is taken.
    /// A duplicate that comes after its leases have ended takes new work.
    ///
    /// # Cost
    /// One round trip; O(sets + (slots + ended) log n), plus payloads, inputs and the sweep.
    async fn claim_next(&self, args: ClaimNextArgs) -> Result<ClaimNextResult, EngineError>;

    /// Promises one lost or revoked execution to one holder.
    ///
    /// # Behavior
    /// - A RUNNING execution whose lease has run out loses it first; if that ends it, there is no grant.
    /// - Else as `issue_claim_grant`.
    ///
    /// # Refuses
    /// - `execution_not_reclaimable`: neither LOST nor REVOKED nor RUNNING past its lease; delayed; blocked; covered by
    ///   its flow's cancellation; past its deadline.
    /// - `grant_already_exists`; `capability_mismatch`: as `issue_claim_grant`, checked before anything is lost.
    ///
    /// # Repeats
    /// The same grant, while it lives; after `Ended`: `execution_not_reclaimable`.
    ///
    /// # Cost
    /// One round trip; O(log n), plus at most 128 cascade steps when it ends.
    async fn issue_reclaim_grant(&self, args: IssueReclaimGrantArgs) -> Result<IssueReclaimGrantResult, EngineError>;

    /// Starts a new attempt of a lost or revoked execution under a grant.
    ///
    /// # Behavior
    /// - LOST or REVOKED becomes RUNNING with a new attempt of type `reclaim`.
    /// - Counts nothing: the loss was counted when it happened.
    ///
    /// # Refuses
    /// - `lease_id_in_use`: the lease id names a lease that is no repeat of this claim.
    /// - `execution_not_reclaimable`: not LOST or REVOKED, or one of the causes of `issue_reclaim_grant`.
    /// - `invalid_claim_grant`: none, or another holder's. `claim_grant_expired`: it lapsed, swept or not.
    ///
    /// # Repeats
    /// The same claim with the same epoch, while its lease lives.
    ///
    /// # Cost
    /// One round trip; O(log n), plus the payload and one step per input.
    async fn reclaim_execution(&self, args: ReclaimExecutionArgs) -> Result<ReclaimExecutionResult, EngineError>;
}
