//! Flows, members and edges.

use super::prelude::*;

impl World {
    /// An operation of this domain, or none for one of another.
    pub(super) fn draw_flow(&self, name: OpName, d: &Dice<'_>, n: u32) -> Option<Operation> {
        Some(match name {
            OpName::CreateFlow => CreateFlowArgs::builder()
                .flow_id(Self::flow(d))
                .namespace(valid!(Namespace, "ns"))
                .flow_kind(if d.chance(90) { "pipe" } else { "other" })
                .build()
                .into(),
            OpName::SubmitFlow => Self::submission(d),
            OpName::AddExecutionToFlow => {
                AddExecutionToFlowArgs { flow_id: Self::flow(d), execution_id: self.existing(d) }.into()
            }
            OpName::SealFlow => SealFlowArgs::builder()
                .flow_id(Self::flow(d))
                .maybe_expected_graph_revision(d.chance(8).then_some(99))
                .build()
                .into(),
            OpName::StageDependencyEdge => {
                let flows: Vec<FlowId> =
                    self.members.iter().filter(|(_, members)| members.len() > 1).map(|(id, _)| *id).collect();
                let flow_id = d.pick(&flows).copied().filter(|_| d.chance(85)).unwrap_or_else(|| Self::flow(d));
                let members = self.members.get(&flow_id).cloned().unwrap_or_default();
                let down = d.pick(&members).copied().unwrap_or_else(|| Self::execution(d));
                let others: Vec<ExecutionId> =
                    members.iter().copied().filter(|m| *m != down || d.step.dice[5].is_multiple_of(20)).collect();
                let up = d.pick(&others).copied().unwrap_or_else(|| Self::execution(d));
                StageDependencyEdgeArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(EdgeId::from_uuid(uuid(6, n * 8)))
                    .upstream_execution_id(up)
                    .downstream_execution_id(down)
                    .dependency_kind(Self::kind(d))
                    .apply(d.chance(70))
                    .maybe_data_passing_ref(d.chance(35).then(|| valid!(DataName, "in0")))
                    .on_upstream_terminal(if d.chance(15) {
                        OnUpstreamTerminal::Reject
                    } else {
                        OnUpstreamTerminal::default()
                    })
                    .maybe_expected_graph_revision(d.chance(4).then_some(99))
                    .build()
                    .into()
            }
            OpName::ApplyDependencyToChild => {
                let (flow_id, edge) = self.edge(d);
                ApplyDependencyToChildArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(edge.0)
                    .upstream_execution_id(edge.1)
                    .downstream_execution_id(edge.2)
                    .dependency_kind(if d.chance(90) { edge.3 } else { Self::kind(d) })
                    .maybe_data_passing_ref(edge.4)
                    .build()
                    .into()
            }
            OpName::ResolveDependency => {
                let (flow_id, edge) = self.edge(d);
                ResolveDependencyArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(edge.0)
                    .maybe_upstream_outcome(d.chance(20).then_some(TerminalOutcome::Success))
                    .build()
                    .into()
            }
            OpName::EvaluateFlowEligibility => EvaluateFlowEligibilityArgs { execution_id: self.existing(d) }.into(),
            OpName::PromoteBlockedToEligible => PromoteBlockedToEligibleArgs { execution_id: self.existing(d) }.into(),
            OpName::CancelFlow => CancelFlowArgs::builder()
                .flow_id(Self::flow(d))
                .reason("stop")
                .by("ops")
                .cancellation_policy(CancellationPolicy::ALL[d.below(3) as usize])
                .build()
                .into(),
            OpName::SetFlowTags => SetFlowTagsArgs { flow_id: Self::flow(d), tags: Self::tags(d) }.into(),
            OpName::DescribeFlow => DescribeFlowArgs { flow_id: Self::flow(d) }.into(),
            OpName::DescribeEdge => {
                let (flow_id, edge) = self.edge(d);
                DescribeEdgeArgs { flow_id, edge_id: edge.0 }.into()
            }
            OpName::ListEdges => {
                let node = self.existing(d);
                let direction = if d.chance(50) {
                    EdgeDirection::Incoming { to_node: node }
                } else {
                    EdgeDirection::Outgoing { from_node: node }
                };
                ListEdgesArgs::builder().flow_id(Self::flow(d)).direction(direction).limit(1000).build().into()
            }
            OpName::ListFlowMembers => ListFlowMembersArgs::builder().flow_id(Self::flow(d)).limit(1000).build().into(),
            _ => return None,
        })
    }

    pub(super) fn kind(d: &Dice<'_>) -> DependencyKind {
        if d.chance(70) { DependencyKind::SuccessOnly } else { DependencyKind::AnyTerminal }
    }

    fn edge(&self, d: &Dice<'_>) -> (FlowId, KnownEdge) {
        let flows: Vec<FlowId> = self.edges.keys().copied().collect();
        let flow_id = d.pick(&flows).copied().unwrap_or_else(|| Self::flow(d));
        let none = || {
            let (up, down) = (Self::execution(d), Self::execution(d));
            (EdgeId::from_uuid(uuid(9, 5)), up, down, DependencyKind::SuccessOnly, None)
        };
        let edge = self.edges.get(&flow_id).and_then(|edges| d.pick(edges)).cloned().unwrap_or_else(none);
        (flow_id, edge)
    }

    fn submission(d: &Dice<'_>) -> Operation {
        let spec = |name: &str| {
            FlowMemberSpec::builder()
                .name(valid!(DataName, name))
                .lane_id(Self::lane(d))
                .kind("step")
                .policy(Arc::new(Self::policy(d)))
                .build()
        };
        let edge = |from: &str, to: &str, data: Option<&str>| {
            FlowEdgeSpec::builder()
                .from(valid!(DataName, from))
                .to(valid!(DataName, to))
                .dependency_kind(Self::kind(d))
                .maybe_data_passing_ref(data.map(|name| valid!(DataName, name)))
                .build()
        };
        let mut members = vec![spec("a"), spec("b"), spec("c"), spec("z")];
        let mut edges = vec![
            edge("a", "b", Some("page")),
            edge("a", "c", None),
            edge("b", "z", None),
            edge("c", "z", Some("words")),
        ];
        match d.below(40) {
            0 => members.push(spec("a")),
            1 => edges.push(edge("a", "nobody", None)),
            2 => edges.push(edge("z", "a", None)),
            3 => edges.push(edge("z", "z", None)),
            4 => edges.push(edge("a", "z", Some("words"))),
            5 => edges.push(edge("a", "b", None)),
            _ => {}
        }
        SubmitFlowArgs::builder()
            .flow_id(Self::flow(d))
            .namespace(valid!(Namespace, "ns"))
            .flow_kind("diamond")
            .sealed(d.chance(60))
            .members(members)
            .edges(edges)
            .build()
            .into()
    }
}
