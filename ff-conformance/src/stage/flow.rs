//! Words for the domain flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff_core::contracts::*; // cases speak the whole contract
use ff_core::ids::{DataName, EdgeId, ExecutionId, FlowId};
use ff_core::refusal::{Code, Refusal};
use ff_core::state::{BlockReason, StateSummary, TerminalOutcome};
use ff_core::time::When;
use futures::future::join_all;

use super::{Stage, deadline, lane, namespace};

/// How many calls [`Stage::members`] has under way at once: a store behind a network serves them together.
const TOGETHER: usize = 64;

/// A data or member name.
#[must_use]
pub fn data_name(text: &str) -> DataName {
    DataName::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// A member of a submission: lane `main`, kind `job`, no payload, the default policy.
#[must_use]
pub fn spec(name: &str) -> FlowMemberSpec {
    FlowMemberSpec::builder().name(data_name(name)).lane_id(lane()).kind("job").build()
}

/// A success-only edge of a submission.
#[must_use]
pub fn arrow(from: &str, to: &str) -> FlowEdgeSpec {
    FlowEdgeSpec::builder().from(data_name(from)).to(data_name(to)).build()
}

/// An edge of this kind into a member that is being created, with a fresh id and without data.
#[must_use]
pub fn edge_from(up: ExecutionId, dependency_kind: DependencyKind) -> IncomingEdge {
    IncomingEdge { dependency_kind, ..IncomingEdge::new(EdgeId::new(), up) }
}

/// Tags from pairs.
#[must_use]
pub fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// What a cascade counted: steps, promoted, skipped, deferred.
#[must_use]
pub fn counted(cascade: Cascade) -> (u32, u32, u32, u32) {
    (cascade.steps, cascade.promoted, cascade.skipped, cascade.deferred)
}

/// The details of a refusal, where the whole view is too large to be compared.
///
/// # Panics
/// If the call was not refused with this code.
pub fn refusal_of<T: std::fmt::Debug>(
    answer: Result<T, ff_core::error::EngineError>,
    code: Code,
) -> ff_core::refusal::Details {
    match answer {
        Err(ff_core::error::EngineError::Refused(refusal)) if refusal.code() == code => refusal.details().clone(),
        other => panic!("must be refused with {code:?}, answered {other:?}"),
    }
}

/// The fields of `flow_already_terminal`.
#[must_use]
pub fn terminal_flow(refusal: &Refusal) -> (Option<PublicFlowState>, Option<CancellationPolicy>) {
    match refusal.details() {
        ff_core::refusal::Details::FlowAlreadyTerminal { public_flow_state, cancellation_policy } => {
            (*public_flow_state, *cancellation_policy)
        }
        other => panic!("{other:?}"),
    }
}

impl Stage {
    // --- structure ---

    /// A submission of these members and edges: flow kind `pipeline`, sealed, fresh flow id.
    #[must_use]
    pub fn submission(&self, members: Vec<FlowMemberSpec>, edges: Vec<FlowEdgeSpec>) -> SubmitFlowArgs {
        SubmitFlowArgs::builder()
            .flow_id(self.flow_id())
            .namespace(namespace())
            .flow_kind("pipeline")
            .members(members)
            .edges(edges)
            .build()
    }

    /// Submits; it must be new. Answers the members' ids in list order.
    pub async fn submit(&self, args: SubmitFlowArgs) -> Vec<ExecutionId> {
        match self.backend.submit_flow(args).await {
            Ok(SubmitFlowResult::Created { members, .. }) => members.into_iter().map(|(_, id)| id).collect(),
            other => panic!("submit_flow: {other:?}"),
        }
    }

    /// The creation of a member, not held, behind these upstreams (success only).
    #[must_use]
    pub fn member_creation(&self, flow_id: FlowId, upstreams: &[ExecutionId]) -> CreateExecutionArgs {
        self.member_behind(flow_id, upstreams.iter().map(|up| IncomingEdge::new(EdgeId::new(), *up)).collect())
    }

    /// The creation of a member, not held, behind these edges.
    #[must_use]
    pub fn member_behind(&self, flow_id: FlowId, edges: Vec<IncomingEdge>) -> CreateExecutionArgs {
        let mut args = self.creation();
        args.flow = Some(FlowJoin { flow_id, hold: false, edges });
        args
    }

    /// A held member of an unsealed flow.
    pub async fn held_member(&self, flow_id: FlowId) -> ExecutionId {
        let mut args = self.creation();
        args.flow = Some(FlowJoin::held(flow_id));
        self.create(args).await
    }

    /// This many members behind these upstreams, not held, created together: ids ascend as the list does, the order of
    /// their edges is the backend's.
    pub async fn members(&self, flow_id: FlowId, n: usize, upstreams: &[ExecutionId]) -> Vec<ExecutionId> {
        let mut creations: Vec<_> = (0..n).map(|_| self.member_creation(flow_id, upstreams)).collect();
        creations.sort_by_key(|args| args.execution_id);
        self.create_all(creations).await
    }

    /// This many members that are held, created together.
    pub async fn held_members(&self, flow_id: FlowId, n: usize) -> Vec<ExecutionId> {
        let mut creations: Vec<_> = (0..n)
            .map(|_| {
                let mut args = self.creation();
                args.flow = Some(FlowJoin::held(flow_id));
                args
            })
            .collect();
        creations.sort_by_key(|args| args.execution_id);
        self.create_all(creations).await
    }

    /// Creates all of them, some at once; all must be new.
    pub async fn create_all(&self, creations: Vec<CreateExecutionArgs>) -> Vec<ExecutionId> {
        let mut ids = Vec::with_capacity(creations.len());
        for some in creations.chunks(TOGETHER) {
            ids.extend(join_all(some.iter().map(|args| self.create(args.clone()))).await);
        }
        ids
    }

    /// Members one behind the other, the first without upstream; each edge is staged with its downstream's creation.
    pub async fn chain(&self, flow_id: FlowId, n: usize) -> Vec<ExecutionId> {
        let mut ids: Vec<ExecutionId> = Vec::with_capacity(n);
        for _ in 0..n {
            let upstream: Vec<_> = ids.last().copied().into_iter().collect();
            ids.push(self.member(flow_id, &upstream).await);
        }
        ids
    }

    /// The arguments of a success-only edge, applied, with a fresh id.
    #[must_use]
    pub fn edge_args(&self, flow_id: FlowId, up: ExecutionId, down: ExecutionId) -> StageDependencyEdgeArgs {
        StageDependencyEdgeArgs::builder()
            .flow_id(flow_id)
            .edge_id(EdgeId::new())
            .upstream_execution_id(up)
            .downstream_execution_id(down)
            .build()
    }

    /// Stages an edge; it must be new.
    pub async fn stage(&self, args: StageDependencyEdgeArgs) -> (EdgeState, StateSummary, Cascade) {
        let id = args.edge_id;
        match self.backend.stage_dependency_edge(args).await {
            Ok(StageDependencyEdgeResult::Staged { edge_id, edge_state, child, cascade, .. }) if edge_id == id => {
                (edge_state, child, cascade)
            }
            other => panic!("stage_dependency_edge: {other:?}"),
        }
    }

    /// A success-only edge, applied: its id.
    pub async fn link(&self, flow_id: FlowId, up: ExecutionId, down: ExecutionId) -> EdgeId {
        let args = self.edge_args(flow_id, up, down);
        let edge_id = args.edge_id;
        self.stage(args).await;
        edge_id
    }

    /// The arguments that apply an edge as it was staged.
    #[must_use]
    pub fn application(&self, staged: &StageDependencyEdgeArgs) -> ApplyDependencyToChildArgs {
        ApplyDependencyToChildArgs::builder()
            .flow_id(staged.flow_id)
            .edge_id(staged.edge_id)
            .upstream_execution_id(staged.upstream_execution_id)
            .downstream_execution_id(staged.downstream_execution_id)
            .dependency_kind(staged.dependency_kind)
            .maybe_data_passing_ref(staged.data_passing_ref.clone())
            .build()
    }

    /// Joins an existing execution to a flow; it must be new there.
    pub async fn join(&self, flow_id: FlowId, execution_id: ExecutionId) -> StateSummary {
        match self.backend.add_execution_to_flow(AddExecutionToFlowArgs { flow_id, execution_id }).await {
            Ok(AddExecutionToFlowResult::Added { summary, .. }) => summary,
            other => panic!("add_execution_to_flow: {other:?}"),
        }
    }

    // --- life ---

    /// The arguments of a cancellation by `ops` with reason `called off`.
    #[must_use]
    pub fn cancellation(&self, flow_id: FlowId, policy: CancellationPolicy) -> CancelFlowArgs {
        CancelFlowArgs::builder().flow_id(flow_id).reason("called off").cancellation_policy(policy).by("ops").build()
    }

    /// Cancels a flow as `ops`.
    pub async fn cancel_flow(&self, flow_id: FlowId, policy: CancellationPolicy) -> CancelFlowResult {
        let args = self.cancellation(flow_id, policy);
        self.backend.cancel_flow(args).await.unwrap_or_else(|e| panic!("cancel_flow: {e}"))
    }

    /// Fails for good as the operator `ops`.
    pub async fn fail_as_operator(&self, id: ExecutionId) -> StateSummary {
        let args = FailExecutionArgs::builder()
            .execution_id(id)
            .actor(Actor::operator("ops"))
            .reason("it broke")
            .category("error")
            .build();
        match self.backend.fail_execution(args).await {
            Ok(FailExecutionResult::Ended { summary }) => summary,
            other => panic!("fail_execution: {other:?}"),
        }
    }

    /// Promotes.
    pub async fn promote(&self, execution_id: ExecutionId) -> PromoteBlockedToEligibleResult {
        let args = PromoteBlockedToEligibleArgs { execution_id };
        self.backend.promote_blocked_to_eligible(args).await.unwrap_or_else(|e| panic!("promote: {e}"))
    }

    /// Resolves an edge, comparing no outcome.
    pub async fn resolve(&self, flow_id: FlowId, edge_id: EdgeId) -> ResolveDependencyResult {
        let args = ResolveDependencyArgs::builder().flow_id(flow_id).edge_id(edge_id).build();
        self.backend.resolve_dependency(args).await.unwrap_or_else(|e| panic!("resolve_dependency: {e}"))
    }

    /// Replays as `ops`, with the skipped descendants.
    pub async fn replay_and_reopen(&self, id: ExecutionId, replay_count: u32) -> StateSummary {
        let mut args = self.replay_args(id, replay_count);
        args.reopen_skipped = true;
        match self.backend.replay_execution(args).await {
            Ok(ReplayExecutionResult::Replayed { summary, .. }) => summary,
            Err(e) => panic!("replay_execution: {e}"),
        }
    }

    /// Signals a waitpoint of a suspended execution: its state afterwards.
    pub async fn wake_by_signal(&self, id: ExecutionId, waitpoint: &IssuedWaitpoint) -> StateSummary {
        match self.backend.deliver_signal(self.signal(id, waitpoint, "go")).await {
            Ok(DeliverSignalResult::Accepted { summary, .. }) => summary,
            other => panic!("deliver_signal: {other:?}"),
        }
    }

    /// A member of the flow that has this public state. A member that is `skipped` is one behind `failed`, a failed
    /// member of the flow.
    pub async fn member_that_is(&self, flow_id: FlowId, state: PublicState, failed: &[ExecutionId]) -> ExecutionId {
        let mut args = self.member_creation(flow_id, if state == PublicState::Skipped { failed } else { &[] });
        match state {
            PublicState::Delayed => args.delay = Some(When::After(1_000)),
            PublicState::Expired => args.policy = Arc::new(deadline(When::After(0))),
            PublicState::WaitingChildren => args.flow = Some(FlowJoin::held(flow_id)),
            _ => {}
        }
        let id = self.create(args).await;
        self.bring_to(id, state).await;
        id
    }

    /// Brings a READY execution to a public state. One that is to be `waiting_children` or `skipped` is so already, and
    /// one that is to be `expired` has a deadline that is due.
    pub async fn bring_to(&self, id: ExecutionId, state: PublicState) {
        match state {
            PublicState::Waiting | PublicState::WaitingChildren | PublicState::Skipped => {}
            PublicState::Delayed => {
                self.delay_as_operator(id, When::After(1_000)).await;
            }
            PublicState::RateLimited => {
                self.block(id, BlockReason::WaitingForBudget).await;
            }
            PublicState::Active => {
                self.claim_by_id(id).await;
            }
            PublicState::Suspended => {
                let fence = self.claim_by_id(id).await.fence;
                self.suspend_on_any_signal(id, fence).await;
            }
            PublicState::Completed => {
                self.complete_as_operator(id).await;
            }
            PublicState::Failed => {
                self.fail_as_operator(id).await;
            }
            PublicState::Cancelled => {
                self.cancel(id).await;
            }
            PublicState::Expired => {
                let answer = self.expire(id, ExpiryTimer::Deadline).await;
                assert!(matches!(answer, ExpireExecutionResult::Ended { .. }), "{answer:?}");
            }
        }
        assert_eq!(self.vector(id).await.public_state(), state, "{id}");
    }

    // --- looking ---

    /// How it ended; `None` if it has not.
    pub async fn outcome(&self, id: ExecutionId) -> TerminalOutcome {
        self.vector(id).await.terminal_outcome
    }

    /// The outcome must be this, for all of them.
    pub async fn all_ended(&self, ids: &[ExecutionId], outcome: TerminalOutcome) {
        for id in ids {
            assert_eq!(self.outcome(*id).await, outcome, "{id}");
        }
    }

    /// One edge.
    pub async fn edge(&self, flow_id: FlowId, edge_id: EdgeId) -> EdgeSnapshot {
        let args = DescribeEdgeArgs { flow_id, edge_id };
        self.backend.describe_edge(args).await.unwrap_or_else(|e| panic!("describe_edge: {e}"))
    }

    /// The state of the one edge between two members.
    pub async fn edge_between(&self, flow_id: FlowId, up: ExecutionId, down: ExecutionId) -> EdgeSnapshot {
        let mut edges = self.incoming(flow_id, down).await;
        edges.retain(|e| e.upstream_execution_id == up);
        assert_eq!(edges.len(), 1, "edges from {up} to {down}");
        edges.remove(0)
    }

    /// All edges in a direction, by seq.
    pub async fn edges(&self, flow_id: FlowId, direction: EdgeDirection) -> Vec<EdgeSnapshot> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let args =
                ListEdgesArgs::builder().flow_id(flow_id).direction(direction).limit(1000).maybe_cursor(cursor).build();
            let page = self.backend.list_edges(args).await.unwrap_or_else(|e| panic!("list_edges: {e}"));
            all.extend(page.edges);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }

    /// All edges into a member.
    pub async fn incoming(&self, flow_id: FlowId, to_node: ExecutionId) -> Vec<EdgeSnapshot> {
        self.edges(flow_id, EdgeDirection::Incoming { to_node }).await
    }

    /// All edges out of a member.
    pub async fn outgoing(&self, flow_id: FlowId, from_node: ExecutionId) -> Vec<EdgeSnapshot> {
        self.edges(flow_id, EdgeDirection::Outgoing { from_node }).await
    }

    /// All members of a flow, in pages of `limit`.
    pub async fn list_members(&self, flow_id: FlowId, limit: u32) -> Vec<FlowMember> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let args = ListFlowMembersArgs::builder().flow_id(flow_id).limit(limit).maybe_cursor(cursor).build();
            let page = self.backend.list_flow_members(args).await.unwrap_or_else(|e| panic!("list_flow_members: {e}"));
            assert!(page.members.len() <= limit as usize);
            all.extend(page.members);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }

    /// One member as the list shows it.
    pub async fn member_of(&self, flow_id: FlowId, id: ExecutionId) -> FlowMember {
        let members = self.list_members(flow_id, 1000).await;
        members.into_iter().find(|m| m.execution_id == id).unwrap_or_else(|| panic!("{id} is no member"))
    }

    /// The counts of one member: unresolved, satisfied, impossible.
    pub async fn counts_of(&self, flow_id: FlowId, id: ExecutionId) -> (u32, u32, u32) {
        let member = self.member_of(flow_id, id).await;
        (member.unresolved_count, member.satisfied_count, member.impossible_count)
    }

    /// Members of a flow with this public state, by its counters.
    pub async fn count_of(&self, flow_id: FlowId, state: PublicState) -> u32 {
        self.describe_flow(flow_id).await.member_counts.get(state)
    }

    /// What the backlog still owes the flow.
    pub async fn deferred(&self, flow_id: FlowId) -> u32 {
        self.describe_flow(flow_id).await.deferred
    }

    /// What `evaluate_flow_eligibility` says.
    pub async fn eligibility(&self, execution_id: ExecutionId) -> EvaluateFlowEligibilityResult {
        let args = EvaluateFlowEligibilityArgs { execution_id };
        self.backend.evaluate_flow_eligibility(args).await.unwrap_or_else(|e| panic!("evaluate: {e}"))
    }

    /// The flow must not exist.
    pub async fn flow_gone(&self, flow_id: FlowId) {
        let answer = self.backend.describe_flow(DescribeFlowArgs { flow_id }).await;
        assert_eq!(answer.map_err(|e| e.code()), Err(Some(Code::FlowNotFound)), "{flow_id} still exists");
    }

    /// The counters of the flow must be what counting its members gives.
    pub async fn recount(&self, flow_id: FlowId, after: &str) {
        let flow = self.describe_flow(flow_id).await;
        let members = self.list_members(flow_id, 1000).await;
        assert_eq!(u64::from(flow.node_count), members.len() as u64, "after {after}");
        for state in PublicState::ALL {
            let counted = members.iter().filter(|m| m.public_state == *state).count();
            assert_eq!(flow.member_counts.get(*state) as usize, counted, "{state} after {after}");
        }
    }
}
