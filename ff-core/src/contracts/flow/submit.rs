//! A whole flow in one call: its members, its edges, the ids derived from their names, and what is wrong with a graph.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bon::Builder;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lifecycle::at_home;
use super::{DependencyKind, FanInPart, FlowJoin, FlowPart};
use crate::bounds::{self, CheckArgs, Deployment, GraphBounds};
use crate::canon::{Canon, Canonical, Digest};
use crate::contracts::CreateExecutionArgs;
use crate::ids::{DataName, EdgeId, ExecutionId, FlowId, LaneId, Namespace};
use crate::policy::ExecutionPolicy;
use crate::refusal::Refusal;
use crate::time::When;

/// Bytes 0..6 of the flow's uuid; 0x7000 + position; the first 8 bytes of a SHA-256 with the top two bits 10: a
/// well-formed `UUIDv7` that a repeat derives again, and that sorts by position among its like.
fn derived(flow: &FlowId, position: usize, parts: [&str; 2]) -> Uuid {
    let flow = flow.uuid().into_bytes();
    let hash = Digest::of_bytes(&[&flow[..], parts[0].as_bytes(), parts[1].as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&flow[..6]);
    // A list has at most 1024 entries; a longer one is refused before its ids matter.
    let position = u16::try_from(position & 0x0fff).unwrap_or(0);
    bytes[6..8].copy_from_slice(&(0x7000 + position).to_be_bytes());
    bytes[8..].copy_from_slice(&hash.as_bytes()[..8]);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// A member of a submission: a `create_execution` without namespace, flow and idempotency key, under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FlowMemberSpec {
    /// Its name, unique in the submission; edges refer to it.
    pub name: DataName,
    /// The new execution's id. A builder that is not given one leaves [`FlowMemberSpec::UNDERIVED`], which the
    /// submission's constructor replaces by the derived id.
    #[builder(default = FlowMemberSpec::UNDERIVED)]
    pub execution_id: ExecutionId,
    /// The queue it waits in.
    pub lane_id: LaneId,
    /// What kind of work; a name.
    #[builder(into)]
    pub kind: String,
    /// Opaque bytes, within the deployment's bound.
    #[serde(default, with = "crate::wire::base64_bytes")]
    #[builder(default, into)]
    pub payload: Bytes,
    /// The payload's encoding; a label.
    #[serde(default)]
    #[builder(into)]
    pub payload_encoding: Option<String>,
    /// Greater is served first; 0.
    #[serde(default)]
    #[builder(default)]
    pub priority: i32,
    /// At most 64.
    #[serde(default)]
    #[builder(default)]
    pub tags: BTreeMap<String, String>,
    /// Frozen with the execution.
    #[serde(default)]
    #[builder(default, into)]
    pub policy: Arc<ExecutionPolicy>,
    /// Not claimable before.
    #[serde(default)]
    pub delay: Option<When>,
    /// Recorded, not compared; a name.
    #[serde(default)]
    #[builder(into)]
    pub creator: Option<String>,
}

impl FlowMemberSpec {
    /// The place of an id that has yet to be derived.
    pub const UNDERIVED: ExecutionId = ExecutionId::from_parts(0, Uuid::nil());

    /// The id of the member of that name at that position, counted from 0.
    #[must_use]
    pub fn derived_id(flow: &FlowId, position: usize, name: &DataName) -> ExecutionId {
        ExecutionId::from_parts(flow.partition(), derived(flow, position, ["m", name.as_str()]))
    }

    /// The creation that this member amounts to, edges apart: the member's fingerprint is that of this creation.
    /// `hold` is whether the flow is submitted unsealed.
    #[must_use]
    pub fn to_creation(&self, namespace: &Namespace, flow_id: FlowId, hold: bool) -> CreateExecutionArgs {
        CreateExecutionArgs {
            execution_id: self.execution_id,
            namespace: namespace.clone(),
            lane_id: self.lane_id.clone(),
            kind: self.kind.clone(),
            payload: self.payload.clone(),
            payload_encoding: self.payload_encoding.clone(),
            priority: self.priority,
            tags: self.tags.clone(),
            policy: Arc::clone(&self.policy),
            delay: self.delay,
            idempotency_key: None,
            flow: Some(FlowJoin { flow_id, hold, edges: Vec::new() }),
            creator: self.creator.clone(),
        }
    }

    /// The bounds of `create_execution`; partitions apart.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        bounds::name("kind", &self.kind)?;
        deployment.payload("payload", self.payload.len())?;
        bounds::label("payload_encoding", self.payload_encoding.as_deref())?;
        bounds::tags(&self.tags)?;
        self.policy.check()?;
        bounds::when("delay", self.delay)?;
        match &self.creator {
            Some(creator) => bounds::name("creator", creator),
            None => Ok(()),
        }
    }
}

impl Canon for FlowMemberSpec {
    /// Without the creator, which is recorded and not compared, as in a creation's fingerprint.
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.name)
            .put(&self.execution_id)
            .put(&self.lane_id)
            .put(&self.kind)
            .put(&self.payload)
            .put(&self.payload_encoding)
            .put(&self.priority)
            .put(&self.tags)
            .put(&self.policy)
            .put(&self.delay);
    }
}

/// An edge of a submission, between members by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Builder)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FlowEdgeSpec {
    /// The member that is waited for.
    pub from: DataName,
    /// The member that waits.
    pub to: DataName,
    /// What satisfies it; `success_only`.
    #[serde(default)]
    #[builder(default)]
    pub dependency_kind: DependencyKind,
    /// The name under which the waiting member receives the other's result.
    #[serde(default)]
    pub data_passing_ref: Option<DataName>,
    /// The new edge's id. A builder that is not given one leaves [`FlowEdgeSpec::UNDERIVED`], which the submission's
    /// constructor replaces by the derived id.
    #[builder(default = FlowEdgeSpec::UNDERIVED)]
    pub edge_id: EdgeId,
}

impl FlowEdgeSpec {
    /// The place of an id that has yet to be derived.
    pub const UNDERIVED: EdgeId = EdgeId::from_uuid(Uuid::nil());

    /// The id of the edge between these members at that position, counted from 0.
    #[must_use]
    pub fn derived_id(flow: &FlowId, position: usize, from: &DataName, to: &DataName) -> EdgeId {
        EdgeId::from_uuid(derived(flow, position, ["e", &format!("{from}>{to}")]))
    }
}

impl Canon for FlowEdgeSpec {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.from).put(&self.to).put(&self.dependency_kind).put(&self.data_passing_ref).put(&self.edge_id);
    }
}

/// Arguments of `submit_flow`.
///
/// The builder derives the ids of members and edges that were not given one, so that the same submission built again
/// has equal ids:
///
/// ```
/// use ff_core::contracts::{FlowEdgeSpec, FlowMemberSpec, SubmitFlowArgs};
/// use ff_core::ids::{FlowId, LaneId, Namespace};
/// use ff_core::partition::PartitionConfig;
///
/// # fn main() -> Result<(), ff_core::ids::InvalidId> {
/// let lane = LaneId::new("default")?;
/// let task = |name: &str, kind| -> Result<_, ff_core::ids::InvalidId> {
///     Ok(FlowMemberSpec::builder().name(name.parse()?).lane_id(lane.clone()).kind(kind).build())
/// };
/// let flow = SubmitFlowArgs::builder()
///     .flow_id(FlowId::new(PartitionConfig::default()))
///     .namespace(Namespace::new("acme")?)
///     .flow_kind("thumbnails")
///     .members(vec![task("fetch", "http")?, task("resize", "image")?])
///     .edges(vec![
///         FlowEdgeSpec::builder()
///             .from("fetch".parse()?)
///             .to("resize".parse()?)
///             .data_passing_ref("original".parse()?)
///             .build(),
///     ])
///     .build();
/// assert_eq!(flow.members[1].execution_id.partition(), flow.flow_id.partition());
/// assert_eq!(flow.clone().derive_ids(), flow);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SubmitFlowArgs {
    /// The new flow's id, minted by the caller.
    pub flow_id: FlowId,
    /// The namespace of the flow and of all its members.
    pub namespace: Namespace,
    /// What kind of flow; an opaque name.
    pub flow_kind: String,
    /// At most 64.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Whether the graph is whole; true. Otherwise the members are held until the seal.
    #[serde(default = "yes")]
    pub sealed: bool,
    /// 1..=256; their payloads are 4 MiB at most in sum.
    pub members: Vec<FlowMemberSpec>,
    /// At most 1024.
    #[serde(default)]
    pub edges: Vec<FlowEdgeSpec>,
}

const fn yes() -> bool {
    true
}

#[bon::bon]
impl SubmitFlowArgs {
    /// A submission whose ids are derived where none was given.
    #[builder]
    pub fn new(
        flow_id: FlowId,
        namespace: Namespace,
        #[builder(into)] flow_kind: String,
        #[builder(default)] tags: BTreeMap<String, String>,
        #[builder(default = true)] sealed: bool,
        members: Vec<FlowMemberSpec>,
        #[builder(default)] edges: Vec<FlowEdgeSpec>,
    ) -> Self {
        Self { flow_id, namespace, flow_kind, tags, sealed, members, edges }.derive_ids()
    }
}

impl SubmitFlowArgs {
    /// The greatest number of members of one submission.
    pub const MAX_MEMBERS: usize = 256;
    /// The greatest number of edges of one submission.
    pub const MAX_EDGES: usize = 1024;
    /// The greatest sum of its members' payloads, in bytes.
    pub const MAX_PAYLOAD_BYTES: u64 = 4 << 20;

    /// Gives every member and edge without an id of its own the derived one. The builder has done this; it is for
    /// those who change `members` or `edges` afterwards. An id that is there stays, also when its entry has moved.
    #[must_use]
    pub fn derive_ids(mut self) -> Self {
        for (position, member) in self.members.iter_mut().enumerate() {
            if member.execution_id == FlowMemberSpec::UNDERIVED {
                member.execution_id = FlowMemberSpec::derived_id(&self.flow_id, position, &member.name);
            }
        }
        for (position, edge) in self.edges.iter_mut().enumerate() {
            if edge.edge_id == FlowEdgeSpec::UNDERIVED {
                edge.edge_id = FlowEdgeSpec::derived_id(&self.flow_id, position, &edge.from, &edge.to);
            }
        }
        self
    }

    /// The digest that equal content is judged by, whatever changed later: all arguments but the members' creators,
    /// which are recorded and not compared.
    #[must_use]
    pub fn spec_digest(&self) -> Digest {
        Digest::of("submit_flow", |c| {
            c.put(&self.flow_id)
                .put(&self.namespace)
                .put(&self.flow_kind)
                .put(&self.tags)
                .put(&self.sealed)
                .put(&self.members)
                .put(&self.edges);
        })
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &DataName) -> Option<&FlowMemberSpec> {
        self.members.iter().find(|m| m.name == *name)
    }

    /// The members by name and id, as the answer lists them.
    #[must_use]
    pub fn member_ids(&self) -> Vec<(DataName, ExecutionId)> {
        self.members.iter().map(|m| (m.name.clone(), m.execution_id)).collect()
    }

    /// The first member, in list order, whose id an earlier member has. Every member is created as by
    /// `create_execution`, so where the flow is new this one is `execution_already_exists`.
    #[must_use]
    pub fn repeated_member(&self) -> Option<&FlowMemberSpec> {
        let mut seen = BTreeSet::new();
        self.members.iter().find(|m| !seen.insert(m.execution_id))
    }

    /// What the operation refuses of a graph, in its order; each code is looked for in the whole list before the next.
    fn check_graph(&self, caps: &GraphBounds) -> Result<(), Refusal> {
        let nodes = self.nodes()?;
        let mut edges = Vec::with_capacity(self.edges.len());
        for edge in &self.edges {
            let node = |name: &DataName| nodes.get(name).copied().ok_or_else(|| Refusal::unknown_member(name.as_str()));
            edges.push((node(&edge.from)?, node(&edge.to)?));
        }
        if let Some(edge) = self.edges.iter().find(|e| e.from == e.to) {
            return Err(Refusal::self_referencing_edge().about_member(edge.to.as_str()));
        }
        self.check_distinct()?;
        self.check_fan(caps)?;
        if self.members.len() > caps.members as usize {
            return Err(Refusal::flow_too_large(FlowPart::Members, caps.members));
        }
        if self.edges.len() > caps.edges as usize {
            return Err(Refusal::flow_too_large(FlowPart::Edges, caps.edges));
        }
        match first_cycle(self.members.len(), &edges) {
            Some(cycle) => {
                let ids = cycle.iter().filter_map(|node| self.members.get(*node)).map(|m| m.execution_id);
                Err(Refusal::cycle_detected(ids.collect::<Vec<_>>()))
            }
            None => Ok(()),
        }
    }

    /// The members' positions by name.
    fn nodes(&self) -> Result<BTreeMap<&DataName, usize>, Refusal> {
        let mut nodes = BTreeMap::new();
        for (position, member) in self.members.iter().enumerate() {
            if nodes.insert(&member.name, position).is_some() {
                let name = member.name.as_str();
                return Err(Refusal::duplicate_member_name(name).about_member(name));
            }
        }
        Ok(nodes)
    }

    /// No edge id and no pair twice, and then no data name twice into one member.
    fn check_distinct(&self) -> Result<(), Refusal> {
        let (mut ids, mut pairs, mut data) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        for edge in &self.edges {
            if !ids.insert(edge.edge_id) {
                return Err(Refusal::dependency_already_exists(edge.edge_id).about_member(edge.to.as_str()));
            }
            if let Some(earlier) = pairs.insert((&edge.from, &edge.to), edge.edge_id) {
                return Err(Refusal::dependency_already_exists(earlier).about_member(edge.to.as_str()));
            }
        }
        for edge in &self.edges {
            if let Some(name) = &edge.data_passing_ref
                && let Some(earlier) = data.insert((&edge.to, name), edge.edge_id)
            {
                return Err(Refusal::data_name_conflict(earlier).about_member(edge.to.as_str()));
            }
        }
        Ok(())
    }

    /// Incoming edges, those with data among them, and then outgoing edges, per member.
    fn check_fan(&self, caps: &GraphBounds) -> Result<(), Refusal> {
        let (mut incoming, mut outgoing) = (BTreeMap::<_, (u32, u32)>::new(), BTreeMap::<_, u32>::new());
        for edge in &self.edges {
            let (all, data) = incoming.entry(&edge.to).or_default();
            *all += 1;
            *data += u32::from(edge.data_passing_ref.is_some());
            let refusal = if *all > caps.incoming {
                Refusal::fan_in_limit(FanInPart::Edges, caps.incoming)
            } else if *data > caps.data_incoming {
                Refusal::fan_in_limit(FanInPart::DataEdges, caps.data_incoming)
            } else {
                continue;
            };
            return Err(refusal.about_member(edge.to.as_str()));
        }
        for edge in &self.edges {
            let all = outgoing.entry(&edge.from).or_default();
            *all += 1;
            if *all > caps.outgoing {
                return Err(Refusal::fan_out_limit(caps.outgoing).about_member(edge.from.as_str()));
            }
        }
        Ok(())
    }
}

impl CheckArgs for SubmitFlowArgs {
    /// Ends with the refusals of the graph, which the operation's list has before existence: they are functions of the
    /// arguments alone.
    fn check(&self, deployment: &Deployment) -> Result<(), Refusal> {
        deployment.partition(self.flow_id.partition())?;
        for member in &self.members {
            deployment
                .partition(member.execution_id.partition())
                .map_err(|refusal| refusal.about_member(member.name.as_str()))?;
        }
        bounds::name("flow_kind", &self.flow_kind)?;
        bounds::tags(&self.tags)?;
        bounds::ensure((1..=Self::MAX_MEMBERS).contains(&self.members.len()), "members")?;
        let payloads = self.members.iter().map(|m| m.payload.len()).fold(0_usize, usize::saturating_add);
        bounds::payload("members", payloads, Self::MAX_PAYLOAD_BYTES)?;
        for member in &self.members {
            let about = |refusal: Refusal| refusal.nested("members").about_member(member.name.as_str());
            member.check(deployment).map_err(about)?;
        }
        bounds::ensure(self.edges.len() <= Self::MAX_EDGES, "edges")?;
        for member in &self.members {
            at_home(&self.flow_id, &[member.execution_id])
                .map_err(|refusal| refusal.about_member(member.name.as_str()))?;
        }
        self.check_graph(&deployment.graph)
    }
}

// Below, an edge is a pair of positions in the list of members, so every node that it names is below `nodes`.

/// The cycle that the first edge in list order closes, as the nodes along it from that edge's upstream back to it.
fn first_cycle(nodes: usize, edges: &[(usize, usize)]) -> Option<Vec<usize>> {
    if is_acyclic(nodes, edges) {
        return None;
    }
    let mut successors = vec![Vec::new(); nodes];
    for &(from, to) in edges {
        if let Some(path) = path(&successors, to, from) {
            return Some(std::iter::once(from).chain(path).collect());
        }
        successors[from].push(to);
    }
    None
}

/// Takes away nodes without incoming edges until none is left, or every one that is left lies on or behind a cycle.
fn is_acyclic(nodes: usize, edges: &[(usize, usize)]) -> bool {
    let (mut incoming, mut successors) = (vec![0_usize; nodes], vec![Vec::new(); nodes]);
    for &(from, to) in edges {
        incoming[to] += 1;
        successors[from].push(to);
    }
    let mut free: Vec<usize> = (0..nodes).filter(|node| incoming[*node] == 0).collect();
    let mut taken = 0;
    while let Some(node) = free.pop() {
        taken += 1;
        for &next in &successors[node] {
            incoming[next] -= 1;
            if incoming[next] == 0 {
                free.push(next);
            }
        }
    }
    taken == nodes
}

/// The path that a breadth-first search finds, outgoing edges in list order, each node expanded once: the witness that
/// staging the edges one by one would give.
fn path(successors: &[Vec<usize>], start: usize, goal: usize) -> Option<Vec<usize>> {
    let mut found_from = BTreeMap::from([(start, start)]);
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        if node == goal {
            let mut path = vec![node];
            let mut at = node;
            while at != start {
                at = *found_from.get(&at)?;
                path.push(at);
            }
            path.reverse();
            return Some(path);
        }
        for &next in &successors[node] {
            found_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                node
            });
        }
    }
    None
}

/// Result of `submit_flow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmitFlowResult {
    /// All of it was created.
    Created {
        /// The flow.
        flow_id: FlowId,
        /// The flow's revision: 1.
        graph_revision: u64,
        /// The members by name and id, in list order.
        members: Vec<(DataName, ExecutionId)>,
    },
    /// The flow exists with equal content: a repeat.
    AlreadyExists {
        /// The flow.
        flow_id: FlowId,
        /// The flow's revision of now.
        graph_revision: u64,
        /// The members by name and id, in list order.
        members: Vec<(DataName, ExecutionId)>,
    },
}

impl SubmitFlowResult {
    /// The members by name and id, whether the call created them or was a repeat.
    #[must_use]
    pub fn members(&self) -> &[(DataName, ExecutionId)] {
        match self {
            Self::Created { members, .. } | Self::AlreadyExists { members, .. } => members,
        }
    }
}
