//! Flows: members, edges, counts, and what is owed.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{BacklogKind, EdgeState};
use ff_core::records::{FlowRecord, StateCounts};
use uuid::Uuid;

use super::{Findings, Rule};
use crate::model::{Execution, Graph, ItemKey, Partition, Subject};

pub(super) fn audit(f: &mut Findings, p: &Partition) {
    for (uuid, graph) in &p.graphs {
        orders(f, p, *uuid, graph);
    }
    for flow in p.flows() {
        let id = flow.flow_id;
        let Some(graph) = p.graph(id.uuid()) else {
            f.ensure(Rule::FlowGraph, false, || format!("{id} has no graph"));
            continue;
        };
        members(f, p, flow, graph);
        edges(f, p, flow, graph);
    }
    for x in p.executions() {
        let Some(flow) = x.record.flow_id else { continue };
        let member = p.graph(flow.uuid()).is_some_and(|g| g.members.contains_key(&x.uuid()));
        f.ensure(Rule::Membership, member, || format!("{} is no member of its {flow}", x.record.execution_id));
    }
}

fn members(f: &mut Findings, p: &Partition, flow: &FlowRecord, graph: &Graph) {
    let id = flow.flow_id;
    let members: Vec<&Execution> = graph.members.keys().filter_map(|m| p.get(*m).ok().flatten()).collect();
    if members.len() == graph.members.len() {
        let mut counts = StateCounts::default();
        for x in &members {
            counts.add(x.record.vector.public_state());
        }
        f.ensure(Rule::FlowCounts, counts == flow.member_counts, || {
            format!("{id} counts {:?}, should be {counts:?}", flow.member_counts)
        });
        let open: BTreeSet<Uuid> =
            members.iter().filter(|x| !x.record.vector.is_terminal()).map(|x| x.uuid()).collect();
        f.ensure(Rule::FlowCounts, open == graph.open, || {
            format!("{id}: open members are {:?}, should be {open:?}", graph.open)
        });
        let over = (flow.cancelled.is_some() || flow.sealed) && open.is_empty();
        f.ensure(Rule::FlowPurge, flow.purge_at.is_some() == over, || {
            format!("{id} is over: {over}, and its purge is {:?}", flow.purge_at)
        });
    }
    for x in members {
        f.ensure(Rule::Membership, x.record.flow_id == Some(id), || {
            format!("{} is a member of {id} and names {:?}", x.record.execution_id, x.record.flow_id)
        });
    }
    for (uuid, member) in &graph.members {
        f.ensure(Rule::Membership, member.flow_id == id && member.execution_id.uuid() == *uuid, || {
            format!("{id}: member {uuid} is {} of {}", member.execution_id, member.flow_id)
        });
    }
    let sizes = (flow.node_count as usize, flow.edge_count as usize);
    f.ensure(Rule::FlowGraph, sizes == (graph.members.len(), graph.edges.len()), || {
        format!("{id} counts {sizes:?}, has {} members and {} edges", graph.members.len(), graph.edges.len())
    });
    let deferred = p
        .backlog
        .iter()
        .filter(|item| match item.key.subject {
            Subject::Flow(of) => of == id.uuid(),
            Subject::Execution(of) => graph.members.contains_key(&of),
        })
        .count();
    f.ensure(Rule::FlowDeferred, flow.deferred as usize == deferred, || {
        format!("{id}: deferred is {}, should be {deferred}", flow.deferred)
    });
}

fn edges(f: &mut Findings, p: &Partition, flow: &FlowRecord, graph: &Graph) {
    let id = flow.flow_id;
    let mut counts: BTreeMap<Uuid, [u32; 4]> = BTreeMap::new();
    for edge in graph.edges.values() {
        let resolved = matches!(edge.edge_state, EdgeState::Satisfied | EdgeState::Impossible);
        f.ensure(
            Rule::EdgeResolution,
            edge.resolution.is_some() == resolved && edge.edge_state != EdgeState::Detached,
            || format!("{id}: edge {} is {} and resolved: {:?}", edge.edge_id, edge.edge_state, edge.resolution),
        );
        let counted = match edge.edge_state {
            EdgeState::Staged | EdgeState::Detached => continue,
            EdgeState::Pending => 1,
            EdgeState::Satisfied => 2,
            EdgeState::Impossible => 3,
        };
        let of = counts.entry(edge.downstream_execution_id.uuid()).or_default();
        of[0] += 1;
        of[counted] += 1;
        if edge.edge_state == EdgeState::Pending && !flow.is_frozen() {
            let upstream = edge.upstream_execution_id.uuid();
            let open = p.get(upstream).ok().flatten().is_none_or(|u| !u.record.vector.is_terminal());
            let key = ItemKey { kind: BacklogKind::Edges, subject: Subject::Execution(upstream) };
            f.ensure(Rule::EdgeOwed, open || p.backlog.get(&key).is_some(), || {
                format!("{id}: edge {} is pending, its upstream has ended and nothing is owed", edge.edge_id)
            });
        }
    }
    for (uuid, member) in &graph.members {
        let counts = counts.get(uuid).copied().unwrap_or_default();
        let stored = [member.incoming_count, member.unresolved_count, member.satisfied_count, member.impossible_count];
        f.ensure(Rule::EdgeCounts, stored == counts, || {
            format!("{id}: member {uuid} counts {stored:?}, should be {counts:?}")
        });
    }
}

/// Every edge stands once in each order, between members; seqs are behind the flow's next one.
fn orders(f: &mut Findings, p: &Partition, flow: Uuid, graph: &Graph) {
    let mut fan_outs: BTreeMap<Uuid, u32> = BTreeMap::new();
    for (edge_id, edge) in &graph.edges {
        let (up, down) = (edge.upstream_execution_id.uuid(), edge.downstream_execution_id.uuid());
        *fan_outs.entry(up).or_default() += 1;
        let placed = graph.outgoing.get(&(up, edge.seq)) == Some(edge_id)
            && graph.incoming.get(&(down, edge.seq)) == Some(edge_id)
            && graph.pairs.get(&(up, down)) == Some(edge_id)
            && edge.edge_id == *edge_id;
        f.ensure(Rule::EdgeOrders, placed, || format!("{flow}: edge {edge_id} is not in its places"));
        let ahead = p.flow(flow).is_some_and(|record| edge.seq >= record.next_edge_seq);
        f.ensure(Rule::EdgeOrders, !ahead, || format!("{flow}: edge {edge_id} has seq {}", edge.seq));
    }
    let many = graph.edges.len();
    let sizes = [graph.outgoing.len(), graph.incoming.len(), graph.pairs.len()];
    f.ensure(Rule::EdgeOrders, sizes == [many; 3], || format!("{flow}: {many} edges and {sizes:?} places"));
    f.ensure(Rule::EdgeOrders, fan_outs == graph.fan_outs, || {
        format!("{flow}: fan-outs are {:?}, should be {fan_outs:?}", graph.fan_outs)
    });
}
