//! Domain flow: graphs of executions, the edges between them, and what an end means to those behind it.

use async_trait::async_trait;

use crate::contracts::{
    AddExecutionToFlowArgs, AddExecutionToFlowResult, ApplyDependencyToChildArgs, ApplyDependencyToChildResult,
    CancelFlowArgs, CancelFlowResult, CreateFlowArgs, CreateFlowResult, DescribeEdgeArgs, DescribeFlowArgs,
    EdgeSnapshot, EvaluateFlowEligibilityArgs, EvaluateFlowEligibilityResult, FlowSnapshot, ListEdgesArgs,
    ListEdgesResult, ListFlowMembersArgs, ListFlowMembersResult, PromoteBlockedToEligibleArgs,
    PromoteBlockedToEligibleResult, ResolveDependencyArgs, ResolveDependencyResult, SealFlowArgs, SealFlowResult,
    SetFlowTagsArgs, SetFlowTagsResult, StageDependencyEdgeArgs, StageDependencyEdgeResult, SubmitFlowArgs,
    SubmitFlowResult,
};
use crate::error::EngineError;

/// Flows: directed acyclic graphs whose members wait for each other.
///
/// A flow's members, edges and the flow itself share one partition, and every operation is one atomic call in it. When
/// a member ends, the same call examines its outgoing edges, oldest first, within two budgets per call: **128 steps**
/// (an edge or a member examined) and **64 endings** (members ended as skipped, or by the flow's cancellation). What is
/// left over stands on the partition's backlog, which `sweep`, and so every `claim_next`, drains; nothing is lost and
/// nothing overtakes. The `cascade` of an answer counts over the whole call.
///
/// All methods check their arguments first ([`CheckArgs`](crate::bounds::CheckArgs)): `invalid_partition`, each
/// argument by its bounds, `partition_mismatch` (an execution id that does not carry the flow's partition). Those
/// refusals are not repeated below; a field is named where a bound is not that of its type.
///
/// Where answers of writes carry an `edge_state`, it is the stored one; `detached` is only shown by the reads
/// `describe_edge` and `list_edges`. `held` is shown as stored: also for a member of a sealed flow whose release the
/// backlog still owes.
#[async_trait]
pub trait FlowOps: Send + Sync + 'static {
    /// Creates an empty flow that takes members and edges until it is sealed or cancelled.
    ///
    /// # Behavior
    /// - The flow is unsealed, at revision 0, and shows `open`.
    /// - It is kept until it is sealed or cancelled and its retention is over: an unsealed flow is never purged.
    ///
    /// # Refuses
    /// - `invalid_input` (`flow_kind`, `tags`), `invalid_tag_key`.
    /// - `flow_spec_conflict`: the id is a flow of other content, or one that `submit_flow` made.
    /// - `flow_already_terminal` (without details): a flow of this id is being purged.
    ///
    /// # Repeats
    /// `AlreadyExists`, and nothing is written. Content is compared by the digest of the creation, so that tags set
    /// later, a seal or a cancellation do not matter.
    ///
    /// # Cost
    /// One round trip; constant.
    async fn create_flow(&self, args: CreateFlowArgs) -> Result<CreateFlowResult, EngineError>;

    /// Creates a flow with up to 256 members and 1024 edges in one step.
    ///
    /// # Behavior
    /// - The flow, then every member as by `create_execution` with this flow and `hold` when unsealed, then all edges,
    ///   applied, with seq 1.. in list order, then each member's gate. Nobody can claim a member before all of it
    ///   exists. Revision 1.
    /// - Members share `created_at`; ids that the constructors derive make them sort in list order within a priority.
    /// - Sealed, which is the default, the graph is whole. With `sealed = false` the members are held, further ones may
    ///   join and edges be staged, and `seal_flow` releases them.
    /// - A member's fingerprint is that of [`FlowMemberSpec::to_creation`](crate::contracts::FlowMemberSpec): a
    ///   later `create_execution` with that content and id is a repeat.
    ///
    /// # Refuses
    /// - `invalid_input` (`members` outside 1..=256, `edges` above 1024, a member's field as `members.<field>`),
    ///   `payload_too_large` (`members`: more than 4 MiB in sum; `members.payload`), `invalid_tag_key`,
    ///   `invalid_policy`, `invalid_capabilities`; a refusal of one member names it.
    /// - `duplicate_member_name`, `unknown_member`, `self_referencing_edge`.
    /// - `dependency_already_exists`: an edge id or a pair comes twice; names the earlier edge.
    /// - `data_name_conflict`: two edges into one member have one data name; names the earlier edge.
    /// - `fan_in_limit`, `fan_out_limit`, `flow_too_large`: the caps of the deployment.
    /// - `cycle_detected`: as if the edges were staged one by one, the first in list order that closes a cycle.
    /// - `flow_spec_conflict`: the id is a flow of other content, or one that `create_flow` made.
    /// - `flow_already_terminal` (without details): a flow of this id is being purged.
    /// - `execution_already_exists`: the first member in list order whose id is in use, by an execution or by an
    ///   earlier member of the call.
    /// - `too_many_capability_sets`: a member's required set is new to its lane, which has 256.
    ///
    /// Everything up to `cycle_detected` is judged from the arguments alone. Each code is looked for in the whole list
    /// before the next one.
    ///
    /// # Repeats
    /// `AlreadyExists` with the same ids and the revision of now, and nothing is written. Content is compared by the
    /// digest of all arguments but the members' creators, which are recorded and not compared.
    ///
    /// # Cost
    /// One round trip; linear in members, edges and payload bytes.
    async fn submit_flow(&self, args: SubmitFlowArgs) -> Result<SubmitFlowResult, EngineError>;

    /// Makes an existing execution a member.
    ///
    /// # Behavior
    /// - It is a member without name, not held, without edges; its state, grant and lease stay as they are.
    /// - Revision + 1; `last_mutation_at` of the flow moves. From now on it is purged with its flow.
    /// - A flow that showed `completed` or `failed`, being unsealed, is open again.
    ///
    /// # Refuses
    /// - `flow_not_found`, `execution_not_found`.
    /// - `execution_already_in_flow`: names the other flow.
    /// - `flow_already_terminal`: cancelled, or sealed with no open member. `flow_sealed`: sealed otherwise.
    /// - `namespace_mismatch`. `execution_terminal`. `flow_too_large` (members).
    ///
    /// # Repeats
    /// `AlreadyMember`, also when the flow is sealed or closed by now, and nothing is written.
    ///
    /// # Cost
    /// One round trip; constant.
    async fn add_execution_to_flow(
        &self,
        args: AddExecutionToFlowArgs,
    ) -> Result<AddExecutionToFlowResult, EngineError>;

    /// Closes a flow's structure and releases the members that were held for it.
    ///
    /// # Behavior
    /// - No member and no edge joins any more; staged edges stay staged and may still be applied.
    /// - Open members are gone through in id order, each costing a step: a runnable one passes its gate, so that edges
    ///   and delays alone decide. What the budgets leave is `remaining`, and the backlog's.
    /// - A sealed flow without an open member is closed: its retention is armed.
    /// - The revision stays.
    ///
    /// # Refuses
    /// - `flow_not_found`.
    /// - `stale_graph_revision`: not the expected one; details have the present one.
    ///
    /// # Repeats
    /// `AlreadySealed` with the present `remaining`, also when a cancellation sealed it and whatever revision is
    /// expected; nothing is written.
    ///
    /// # Cost
    /// One round trip; at most 128 members.
    async fn seal_flow(&self, args: SealFlowArgs) -> Result<SealFlowResult, EngineError>;

    /// Lets one member wait for another.
    ///
    /// # Behavior
    /// - The edge gets the next `seq`; revision + 1.
    /// - With `apply`, the default, it counts at once: a terminal upstream resolves it in this call, a runnable
    ///   downstream passes its gate (a grant is void when it leaves READY; one that was never claimed ends skipped
    ///   behind an impossible edge unless it is held), and what follows is run. An active or suspended downstream only
    ///   counts, and obeys at its next gate.
    /// - Without `apply` the edge gates nobody, and no end of its upstream moves it, until `apply_dependency_to_child`.
    /// - Cycle search: breadth first from the downstream along outgoing edges by seq, staged ones too, each node
    ///   expanded once; the path that meets the upstream is the witness. None is made when the upstream has no
    ///   incoming or the downstream no outgoing edge, so that a chain grows from either end at no cost. A faster method
    ///   gives the same answers.
    ///
    /// # Refuses
    /// - `self_referencing_edge`. `flow_not_found`.
    /// - `dependency_already_exists`: the id is an edge of other endpoints, kind or data name.
    /// - `flow_already_terminal`: cancelled, or sealed with no open member. `flow_sealed`: sealed otherwise.
    /// - `stale_graph_revision`: not the expected one; details have the present one.
    /// - `execution_not_in_flow`: the upstream, then the downstream. `execution_terminal`: the downstream.
    /// - `upstream_already_terminal`: only with `on_upstream_terminal = reject`.
    /// - `dependency_already_exists`: the pair has an edge, of whatever kind; names it.
    /// - `data_name_conflict`: another incoming edge of the downstream has the name; names it.
    /// - `flow_too_large` (edges), `fan_in_limit`, `fan_out_limit`.
    /// - `cycle_detected`: with the cycle, from the upstream back to it.
    /// - `graph_too_large`: the search would have to read more than 2 000 edges.
    ///
    /// # Repeats
    /// `AlreadyStaged` with what is stored now, whatever `apply`, the expected revision and the state of the flow; it
    /// applies nothing and writes nothing.
    ///
    /// # Cost
    /// One round trip; the cycle search reads at most 2 000 edges, what follows is within the budgets.
    async fn stage_dependency_edge(
        &self,
        args: StageDependencyEdgeArgs,
    ) -> Result<StageDependencyEdgeResult, EngineError>;

    /// Makes a staged edge count.
    ///
    /// # Behavior
    /// - What `stage_dependency_edge` does with `apply`; a sealed flow is no obstacle, and the revision stays.
    /// - Endpoints, kind and data name are given again and compared, so that a caller cannot apply another edge than
    ///   it means.
    ///
    /// # Refuses
    /// - `flow_not_found`, `edge_not_found`.
    /// - `dependency_spec_mismatch`: names the first of `upstream_execution_id`, `downstream_execution_id`,
    ///   `dependency_kind`, `data_passing_ref` that differs.
    /// - `flow_already_terminal`: cancelled, or sealed with no open member. `execution_terminal`: the downstream.
    ///
    /// # Repeats
    /// `AlreadyApplied` with what is stored now, whatever the state of the flow; nothing is written.
    ///
    /// # Cost
    /// One round trip; what follows is within the budgets.
    async fn apply_dependency_to_child(
        &self,
        args: ApplyDependencyToChildArgs,
    ) -> Result<ApplyDependencyToChildResult, EngineError>;

    /// Resolves one edge of an ended upstream now, ahead of the backlog.
    ///
    /// # Behavior
    /// - The edge is examined as a cascade would: the upstream's outcome and the edge's kind decide, the downstream's
    ///   counts move, a runnable downstream passes its gate, and what follows is run.
    /// - The backlog's walk later finds the edge level and leaves it.
    /// - `upstream_outcome` is a claim to verify, never the source of the outcome.
    ///
    /// # Refuses
    /// - `invalid_input` (`upstream_outcome`: `none` is no outcome).
    /// - `flow_not_found`, `edge_not_found`. `edge_not_applied`: it is only staged.
    /// - `dependency_resolution_mismatch`: it is resolved, and the recorded outcome is another; details have that.
    /// - `flow_already_terminal`: the flow is cancelled with a policy that covers members.
    /// - `upstream_not_terminal`: with its public state.
    /// - `dependency_resolution_mismatch`: the upstream ended otherwise; details have how.
    ///
    /// # Repeats
    /// `AlreadyResolved` with what is stored now, whatever the state of the flow; nothing is written.
    ///
    /// # Cost
    /// One round trip; what follows is within the budgets.
    async fn resolve_dependency(&self, args: ResolveDependencyArgs) -> Result<ResolveDependencyResult, EngineError>;

    /// Tells where an execution stands towards being claimed, as far as flows decide.
    ///
    /// # Behavior
    /// - `status` is the first that matches: `terminal`; `owned` (active); `not_runnable` (suspended); `impossible` (an
    ///   impossible incoming edge); `blocked_by_dependencies` (DEPS); `eligible`, also when a delay or a block holds it.
    /// - `claimable`: READY, and its flow's cancellation is not over it.
    /// - `pending_resolution`: pending incoming edges whose upstream has ended, which is what the backlog owes it. Edges
    ///   count as stored: in a flow whose cancellation covers members, nothing is owed and they stay as they are.
    /// - Outside a flow `held` is false and the counts are 0. It writes nothing.
    ///
    /// # Refuses
    /// - `execution_not_found`.
    ///
    /// # Repeats
    /// It is a read: the state of now.
    ///
    /// # Cost
    /// One round trip; linear in the member's incoming edges, at most 1 000.
    async fn evaluate_flow_eligibility(
        &self,
        args: EvaluateFlowEligibilityArgs,
    ) -> Result<EvaluateFlowEligibilityResult, EngineError>;

    /// Releases a member's hold and pulls what the backlog owes it.
    ///
    /// # Behavior
    /// - Not in DEPS: nothing happens.
    /// - In DEPS: `held` is cleared, for this member alone. Its pending incoming edges whose upstream has ended are
    ///   examined by seq, each costing a step, until it ends or the steps are used; then its gate decides, and what
    ///   follows is run.
    /// - `Promoted` means that it left DEPS, perhaps for DELAYED or BLOCKED. Running upstreams keep it where it is.
    ///
    /// # Refuses
    /// - `execution_not_found`. `execution_terminal`.
    /// - `not_runnable`: active or suspended; details have which.
    /// - `flow_already_terminal`: its flow is cancelled with a policy that covers members.
    ///
    /// # Repeats
    /// `AlreadyEligible` once it left DEPS, else `StillBlocked`; a repeat pulls what became possible in between.
    ///
    /// # Cost
    /// One round trip; at most 128 edges and what follows within the budgets.
    async fn promote_blocked_to_eligible(
        &self,
        args: PromoteBlockedToEligibleArgs,
    ) -> Result<PromoteBlockedToEligibleResult, EngineError>;

    /// Cancels a flow: its structure is closed, and the policy says which members end with it.
    ///
    /// # Behavior
    /// - The first call records when, who, why and the policy, and seals the flow. It cannot be taken back.
    /// - `cancel_all` ends every open member, `cancel_pending` every one that is not RUNNING; members in id order, 64 in
    ///   this call, the rest by the backlog. From this call on no covered member is claimed, also with a grant made
    ///   before, and none ends skipped: unresolved edges read `detached` and stay as they are.
    /// - A RUNNING member under `cancel_pending`, and any under `cancel_all` that the walk has not reached, keeps an
    ///   outcome that its completion or final failure gives it; whatever else would leave it covered (a retry, a delay,
    ///   a suspension, a lost lease, ...) ends it cancelled in that call.
    /// - `flow_only` ends nobody; if the flow was not sealed, held members are released as by a seal.
    /// - A wider policy on a cancelled flow replaces the policy and starts the walk from the first member; time, `by` and
    ///   `reason` stay those of the first call. The revision stays always.
    /// - `remaining` counts the open members that the walk has yet to reach, `nonterminal` all open members: under
    ///   `cancel_pending` and `flow_only` it need not become 0 by itself.
    ///
    /// # Refuses
    /// - `invalid_input` (`reason`, `by`).
    /// - `flow_not_found`.
    /// - `flow_already_terminal`: sealed with no open member, and not cancelled.
    ///
    /// # Repeats
    /// An equal or narrower policy changes no field; the walk goes on from where it stands within this call's budgets,
    /// and the answer has the stored policy and what remains. The walk is the one that ends members: under `flow_only`
    /// there is none, and held members that wait for their release stay the backlog's. Where a walk waits that has
    /// nobody left to look at, a repeat or a wider policy is its end: the answer is `Cancelled`.
    ///
    /// # Cost
    /// One round trip; at most 128 members examined, 64 ended.
    async fn cancel_flow(&self, args: CancelFlowArgs) -> Result<CancelFlowResult, EngineError>;

    /// Sets and deletes tags of a flow.
    ///
    /// # Behavior
    /// - All changes or none; the last write wins; on every existing flow, closed ones too. The revision stays,
    ///   `last_mutation_at` moves, also when the values are equal.
    /// - Tags that an older layout left inline in a flow's stored map count as tags, and are moved to the tags' own
    ///   place by this call; tags that are there, or in the call, win over them.
    ///
    /// # Refuses
    /// - `invalid_input` (`tags`: 1..=64 changes, values within their bound), `invalid_tag_key`, deletions included.
    /// - `flow_not_found`.
    /// - `too_many_tags`: more than 64 afterwards.
    ///
    /// # Repeats
    /// It does and answers the same.
    ///
    /// # Cost
    /// One round trip; linear in the flow's tags.
    async fn set_flow_tags(&self, args: SetFlowTagsArgs) -> Result<SetFlowTagsResult, EngineError>;

    /// Shows a flow: its state, counts and tags.
    ///
    /// # Behavior
    /// - `public_flow_state` is derived from the flow's record alone; see [`PublicFlowState`](crate::contracts::PublicFlowState).
    /// - `deferred` above 0 says that the backlog still owes something: a terminal parent may be seen with a child that
    ///   has not heard of it.
    ///
    /// # Refuses
    /// - `flow_not_found`: never made, or purged, or being purged.
    ///
    /// # Repeats
    /// It is a read: the state of now.
    ///
    /// # Cost
    /// One round trip; linear in the flow's tags.
    async fn describe_flow(&self, args: DescribeFlowArgs) -> Result<FlowSnapshot, EngineError>;

    /// Shows an edge.
    ///
    /// # Behavior
    /// - `edge_state` is live: `detached` for a staged or pending edge of a flow whose cancellation covers members.
    /// - `stale_upstream`: the run that resolved it is below the upstream's present run.
    ///
    /// # Refuses
    /// - `flow_not_found`.
    /// - `edge_not_found`: the flow has no such edge.
    ///
    /// # Repeats
    /// It is a read: the state of now.
    ///
    /// # Cost
    /// One round trip; constant.
    async fn describe_edge(&self, args: DescribeEdgeArgs) -> Result<EdgeSnapshot, EngineError>;

    /// Lists the edges that end at a member, or those that start at it.
    ///
    /// # Behavior
    /// - By seq, as `describe_edge` shows them. Edges added while paging come at the end; none is lost or doubled.
    /// - `next_cursor` is present exactly while more may remain.
    ///
    /// # Refuses
    /// - `invalid_input` (`limit` outside 1..=1000; `cursor`: no cursor of this list).
    /// - `flow_not_found`. `execution_not_in_flow`: the node.
    ///
    /// # Repeats
    /// It is a read: the state of now.
    ///
    /// # Cost
    /// One round trip; linear in the page.
    async fn list_edges(&self, args: ListEdgesArgs) -> Result<ListEdgesResult, EngineError>;

    /// Lists a flow's members.
    ///
    /// # Behavior
    /// - By execution id, ended ones too. A walk holds each that was a member throughout exactly once.
    /// - `next_cursor` is present exactly while more may remain.
    ///
    /// # Refuses
    /// - `invalid_input` (`limit` outside 1..=1000; `cursor`: no cursor of this list).
    /// - `flow_not_found`.
    ///
    /// # Repeats
    /// It is a read: the state of now.
    ///
    /// # Cost
    /// One round trip; linear in the page.
    async fn list_flow_members(&self, args: ListFlowMembersArgs) -> Result<ListFlowMembersResult, EngineError>;
}
