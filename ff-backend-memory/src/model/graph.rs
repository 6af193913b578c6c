//! A flow's graph: its members and edges, and the orders in which they are walked.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::ids::EdgeId;
use ff_core::records::{EdgeRecord, MemberRecord};
use uuid::Uuid;

/// Members and edges of one flow. They outlive the flow's record while it is being purged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Members by id.
    pub members: BTreeMap<Uuid, MemberRecord>,
    /// Members that have not ended, by id: an index derived from their records.
    pub open: BTreeSet<Uuid>,
    /// Edges by id.
    pub edges: BTreeMap<EdgeId, EdgeRecord>,
    /// Edges by upstream and seq.
    pub outgoing: BTreeMap<(Uuid, u64), EdgeId>,
    /// Edges by downstream and seq.
    pub incoming: BTreeMap<(Uuid, u64), EdgeId>,
    /// The edge of a pair.
    pub pairs: BTreeMap<(Uuid, Uuid), EdgeId>,
    /// How many outgoing edges a member has, if any: counted, since there may be 10 000 of one member.
    pub(crate) fan_outs: BTreeMap<Uuid, u32>,
}

impl Graph {
    /// Adds an edge to every order.
    pub fn add_edge(&mut self, edge: EdgeRecord) {
        let (up, down) = (edge.upstream_execution_id.uuid(), edge.downstream_execution_id.uuid());
        self.outgoing.insert((up, edge.seq), edge.edge_id);
        self.incoming.insert((down, edge.seq), edge.edge_id);
        self.pairs.insert((up, down), edge.edge_id);
        *self.fan_outs.entry(up).or_default() += 1;
        self.edges.insert(edge.edge_id, edge);
    }

    /// Removes an edge from every order.
    pub fn remove_edge(&mut self, id: EdgeId) -> Option<EdgeRecord> {
        let edge = self.edges.remove(&id)?;
        let (up, down) = (edge.upstream_execution_id.uuid(), edge.downstream_execution_id.uuid());
        self.outgoing.remove(&(up, edge.seq));
        self.incoming.remove(&(down, edge.seq));
        self.pairs.remove(&(up, down));
        if let Some(count) = self.fan_outs.get_mut(&up) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.fan_outs.remove(&up);
            }
        }
        Some(edge)
    }

    /// The outgoing edges of a member, by seq, after `seq`.
    pub fn outgoing_after(&self, upstream: Uuid, seq: u64) -> impl Iterator<Item = &EdgeRecord> {
        self.outgoing
            .range((upstream, seq.saturating_add(1))..=(upstream, u64::MAX))
            .filter_map(|(_, id)| self.edges.get(id))
    }

    /// The incoming edges of a member, by seq, after `seq`.
    pub fn incoming_after(&self, downstream: Uuid, seq: u64) -> impl Iterator<Item = &EdgeRecord> {
        self.incoming
            .range((downstream, seq.saturating_add(1))..=(downstream, u64::MAX))
            .filter_map(|(_, id)| self.edges.get(id))
    }

    /// The incoming edges of a member, by seq.
    pub fn incoming_of(&self, downstream: Uuid) -> impl Iterator<Item = &EdgeRecord> {
        self.incoming_after(downstream, 0)
    }

    /// How many outgoing edges a member has.
    #[must_use]
    pub fn fan_out(&self, upstream: Uuid) -> u32 {
        self.fan_outs.get(&upstream).copied().unwrap_or(0)
    }

    /// Whether a member has an outgoing edge.
    #[must_use]
    pub fn has_outgoing(&self, upstream: Uuid) -> bool {
        self.fan_outs.contains_key(&upstream)
    }

    /// Whether a member has an incoming edge.
    #[must_use]
    pub fn has_incoming(&self, downstream: Uuid) -> bool {
        self.incoming.range((downstream, 0)..=(downstream, u64::MAX)).next().is_some()
    }
}
