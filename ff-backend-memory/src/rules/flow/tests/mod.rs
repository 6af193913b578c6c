//! The trickiest rules of flows, driven on a partition directly. Expected values are worked out by hand from the
//! contract, never taken from an answer.

mod budgets;
mod cancel;
mod graph;
mod life;
mod replay;
mod storm;

use std::sync::Arc;

use ff_core::contracts::{
    Actor, CancelFlowArgs, CancelFlowResult, CancellationPolicy, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs,
    CreateExecutionArgs, CreateFlowArgs, DependencyKind, DescribeFlowArgs, EdgeDirection, EdgeSnapshot, EdgeState,
    FailExecutionArgs, Fence, FlowJoin, FlowSnapshot, IncomingEdge, ListEdgesArgs, NextClaim, RebuildIndexesArgs,
    ReplayExecutionArgs, ReplayExecutionResult, SealFlowArgs, SealFlowResult, StageDependencyEdgeArgs,
    StageDependencyEdgeResult, SweepArgs, SweepReport,
};
use ff_core::error::EngineError;
use ff_core::ids::{EdgeId, FlowId};
use ff_core::policy::{Capabilities, ExecutionPolicy};
use ff_core::records::StateCounts;
use ff_core::refusal::{Code, Refusal};
use ff_core::state::PublicState;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::model::{ItemKey, Partition, Subject};
use crate::rules;
use crate::rules::testing::{at, code, execution, partition};

/// The flow of most tests.
const F: u128 = 0xf;

fn flow(n: u128) -> FlowId {
    FlowId::from_parts(0, Uuid::from_u128(n))
}

/// The edge between two members.
fn edge(up: u128, down: u128) -> EdgeId {
    EdgeId::from_uuid(Uuid::from_u128((up << 64) | down))
}

/// One partition with flow `F`, and a clock turned by hand. Executions are named by number.
struct Bench {
    p: Partition,
    now: u64,
    policy: Arc<ExecutionPolicy>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { p: partition(), now: 1_000, policy: Arc::default() };
        bench.create_flow(F);
        bench
    }

    fn at(&self) -> TimestampMs {
        at(self.now)
    }

    fn create_flow(&mut self, n: u128) {
        let args = CreateFlowArgs::builder().flow_id(flow(n)).namespace("n".parse().unwrap()).flow_kind("k").build();
        super::create_flow(&mut self.p, at(self.now), &args).unwrap();
    }

    fn creation(&self, n: u128, join: Option<FlowJoin>) -> CreateExecutionArgs {
        CreateExecutionArgs::builder()
            .execution_id(execution(n))
            .namespace("n".parse().unwrap())
            .lane_id("l".parse().unwrap())
            .kind("k")
            .policy(Arc::clone(&self.policy))
            .maybe_flow(join)
            .build()
    }

    /// A member of `F`, created for it without hold.
    fn member(&mut self, n: u128) {
        self.join(n, false, &[]);
    }

    fn held(&mut self, n: u128) {
        self.join(n, true, &[]);
    }

    /// A member of `F` created behind others.
    fn join(&mut self, n: u128, hold: bool, upstreams: &[u128]) {
        let edges = upstreams.iter().map(|up| IncomingEdge::new(edge(*up, n), execution(*up))).collect();
        let args = self.creation(n, Some(FlowJoin { flow_id: flow(F), hold, edges }));
        rules::execution::create_execution(&mut self.p, at(self.now), &args).unwrap();
    }

    /// An upstream and children 1000.. of it, each behind it alone.
    fn fan(&mut self, up: u128, children: std::ops::Range<u128>) {
        self.member(up);
        for child in children {
            self.join(child, false, &[up]);
        }
    }

    fn stage_args(up: u128, down: u128) -> StageDependencyEdgeArgs {
        StageDependencyEdgeArgs::builder()
            .flow_id(flow(F))
            .edge_id(edge(up, down))
            .upstream_execution_id(execution(up))
            .downstream_execution_id(execution(down))
            .build()
    }

    fn try_stage(&mut self, args: &StageDependencyEdgeArgs) -> Result<StageDependencyEdgeResult, EngineError> {
        super::stage_dependency_edge(&mut self.p, at(self.now), args)
    }

    fn stage(&mut self, up: u128, down: u128) -> StageDependencyEdgeResult {
        self.try_stage(&Self::stage_args(up, down)).unwrap()
    }

    fn stage_any(&mut self, up: u128, down: u128) {
        let mut args = Self::stage_args(up, down);
        args.dependency_kind = DependencyKind::AnyTerminal;
        self.try_stage(&args).unwrap();
    }

    fn operator() -> Actor {
        Actor::operator("op")
    }

    fn complete(&mut self, n: u128) {
        let args = CompleteExecutionArgs::builder().execution_id(execution(n)).actor(Self::operator()).build();
        rules::execution::complete_execution(&mut self.p, at(self.now), &args).unwrap();
    }

    fn fail(&mut self, n: u128) {
        let args = FailExecutionArgs::builder()
            .execution_id(execution(n))
            .actor(Self::operator())
            .reason("no")
            .category("c")
            .build();
        rules::execution::fail_execution(&mut self.p, at(self.now), &args).unwrap();
    }

    /// Claims up to so many; says whom.
    fn claim(&mut self, slots: usize) -> Vec<(u128, Fence)> {
        let args = ClaimNextArgs {
            partition: 0,
            lane_id: "l".parse().unwrap(),
            worker_id: "w".parse().unwrap(),
            worker_instance_id: "w-1".parse().unwrap(),
            capabilities: Capabilities::none(),
            slots: (0..slots).map(|_| ClaimSlot::new()).collect(),
            lease_ttl_ms: 60_000,
        };
        let answer = rules::claim::claim_next(&mut self.p, at(self.now), &args).unwrap();
        answer.claimed.iter().map(NextClaim::claimed).map(|c| (c.execution_id.uuid().as_u128(), c.fence)).collect()
    }

    /// Claims the head, which is to be `n`.
    fn run(&mut self, n: u128) -> Fence {
        let claimed = self.claim(1);
        assert_eq!(claimed.iter().map(|c| c.0).collect::<Vec<_>>(), [n]);
        claimed[0].1
    }

    fn try_replay(&mut self, n: u128, reopen: bool) -> Result<ReplayExecutionResult, EngineError> {
        let replay_count = self.p.find(&execution(n)).unwrap().record.replay_count;
        let args = ReplayExecutionArgs::builder()
            .execution_id(execution(n))
            .replay_count(replay_count)
            .reason("again")
            .by("me")
            .reopen_skipped(reopen)
            .build();
        rules::execution::replay_execution(&mut self.p, at(self.now), &args)
    }

    fn replay(&mut self, n: u128, reopen: bool) {
        self.try_replay(n, reopen).unwrap();
    }

    fn seal(&mut self) -> SealFlowResult {
        super::seal_flow(&mut self.p, at(self.now), &SealFlowArgs::builder().flow_id(flow(F)).build()).unwrap()
    }

    fn try_cancel(&mut self, policy: CancellationPolicy) -> Result<CancelFlowResult, EngineError> {
        let args =
            CancelFlowArgs::builder().flow_id(flow(F)).reason("why").by("me").cancellation_policy(policy).build();
        super::cancel_flow(&mut self.p, at(self.now), &args)
    }

    fn cancel(&mut self, policy: CancellationPolicy) -> CancelFlowResult {
        self.try_cancel(policy).unwrap()
    }

    fn sweep(&mut self, limit: u32) -> SweepReport {
        let args = SweepArgs::builder().partition(0).limit(limit).build();
        rules::maintenance::sweep(&mut self.p, at(self.now), &args).unwrap()
    }

    fn state(&self, n: u128) -> PublicState {
        self.p.find(&execution(n)).unwrap().record.vector.public_state()
    }

    fn states(&self, range: std::ops::Range<u128>) -> Vec<PublicState> {
        range.map(|n| self.state(n)).collect()
    }

    /// How many of them are in this state.
    fn count(&self, range: std::ops::Range<u128>, state: PublicState) -> usize {
        self.states(range).iter().filter(|s| **s == state).count()
    }

    fn edge_of(&self, up: u128, down: u128) -> EdgeSnapshot {
        let args = ff_core::contracts::DescribeEdgeArgs { flow_id: flow(F), edge_id: edge(up, down) };
        super::describe_edge(&self.p, self.at(), &args).unwrap()
    }

    fn edge_state(&self, up: u128, down: u128) -> EdgeState {
        self.edge_of(up, down).edge_state
    }

    fn flow(&self) -> FlowSnapshot {
        super::describe_flow(&self.p, self.at(), &DescribeFlowArgs { flow_id: flow(F) }).unwrap()
    }

    /// Unresolved, satisfied, impossible.
    fn counts(&self, n: u128) -> (u32, u32, u32) {
        let m = self.p.member(self.p.find(&execution(n)).unwrap()).unwrap();
        (m.unresolved_count, m.satisfied_count, m.impossible_count)
    }

    fn backlog(&self) -> Vec<ItemKey> {
        self.p.backlog.iter().map(|item| item.key).collect()
    }

    /// What must hold of every state: counts equal recounts, and nothing is to be repaired.
    fn check(&self) {
        let flow_record = self.p.flow(Uuid::from_u128(F)).expect("the flow exists");
        let graph = self.p.graph(Uuid::from_u128(F)).unwrap();
        let mut counts = StateCounts::default();
        for (uuid, member) in &graph.members {
            let x = self.p.get(*uuid).unwrap().unwrap();
            counts.add(x.record.vector.public_state());
            assert_eq!(graph.open.contains(uuid), !x.record.vector.is_terminal());
            let of = |state| graph.incoming_of(*uuid).filter(|e| e.edge_state == state).map(|_| 1).sum::<u32>();
            let recount = [EdgeState::Pending, EdgeState::Satisfied, EdgeState::Impossible].map(of);
            assert_eq!(recount, [member.unresolved_count, member.satisfied_count, member.impossible_count]);
            assert_eq!(member.incoming_count, recount.iter().sum::<u32>());
            assert_eq!(graph.fan_out(*uuid) as usize, graph.outgoing_after(*uuid, 0).count());
        }
        assert_eq!(counts, flow_record.member_counts);
        assert_eq!(flow_record.node_count as usize, graph.members.len());
        assert_eq!(flow_record.edge_count as usize, graph.edges.len());
        let mut p = self.p.clone();
        let args = RebuildIndexesArgs::builder().partition(0).limit(1000).build();
        let mut cursor = None;
        loop {
            let mut args = args.clone();
            args.cursor = cursor;
            let report = rules::maintenance::rebuild_indexes(&mut p, self.at(), &args).unwrap();
            assert_eq!(report.repaired, Default::default());
            cursor = report.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert!(p == self.p);
    }

    /// Asserts that a call is refused with this, and that it changed nothing.
    fn refused<T: std::fmt::Debug>(
        &mut self,
        expected: &Refusal,
        call: impl FnOnce(&mut Self) -> Result<T, EngineError>,
    ) {
        let before = self.p.clone();
        let answer = call(self);
        assert_eq!(answer.map_err(|e| e.refusal().cloned()).expect_err("it is refused").as_ref(), Some(expected));
        assert!(self.p == before, "a refusal changed something: {expected}");
    }

    fn listed(&self, direction: EdgeDirection, cursor: Option<&str>, limit: u32) -> (Vec<u64>, Option<String>) {
        let mut args = ListEdgesArgs::builder().flow_id(flow(F)).direction(direction).limit(limit).build();
        args.cursor = cursor.map(str::to_owned);
        let page = super::list_edges(&self.p, self.at(), &args).unwrap();
        (page.edges.iter().map(|e| e.seq).collect(), page.next_cursor)
    }
}

fn of_execution(kind: ff_core::contracts::BacklogKind, n: u128) -> ItemKey {
    ItemKey { kind, subject: Subject::Execution(execution(n).uuid()) }
}

fn of_flow(kind: ff_core::contracts::BacklogKind, n: u128) -> ItemKey {
    ItemKey { kind, subject: Subject::Flow(Uuid::from_u128(n)) }
}
