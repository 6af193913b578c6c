//! The flat forms of flow, edge and member: `resources.md`, section 6.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{EdgeRecord, EdgeResolution, FlowCancellation, FlowRecord, MemberRecord, StateCounts};
use crate::bounds::{MAX_NAME_BYTES, MAX_TEXT_BYTES, is_tag_key};
use crate::contracts::EdgeState;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::ids::{EdgeId, ExecutionId, FlowId};
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer, read_text};
use crate::state::{PublicState, TerminalOutcome};

const TAG: &str = "tag:";

/// The field of each state's count. A name outside these is an unknown field.
const fn count_field(state: PublicState) -> &'static str {
    match state {
        PublicState::Waiting => "count:waiting",
        PublicState::Delayed => "count:delayed",
        PublicState::RateLimited => "count:rate_limited",
        PublicState::WaitingChildren => "count:waiting_children",
        PublicState::Active => "count:active",
        PublicState::Suspended => "count:suspended",
        PublicState::Completed => "count:completed",
        PublicState::Failed => "count:failed",
        PublicState::Cancelled => "count:cancelled",
        PublicState::Expired => "count:expired",
        PublicState::Skipped => "count:skipped",
    }
}

impl FlowRecord {
    /// The fields that its flat form may have. A field whose whole name is a tag key is an inline tag of an older
    /// layout.
    pub const REGISTRY: Registry = Registry {
        record: "flow",
        fields: &[
            "flow_id",
            "flow_kind",
            "namespace",
            "created_at",
            "spec_digest",
            "sealed",
            "graph_revision",
            "node_count",
            "edge_count",
            "next_edge_seq",
            "count:waiting",
            "count:delayed",
            "count:rate_limited",
            "count:waiting_children",
            "count:active",
            "count:suspended",
            "count:completed",
            "count:failed",
            "count:cancelled",
            "count:expired",
            "count:skipped",
            "last_mutation_at",
            "cancelled_at",
            "cancelled_by",
            "cancel_reason",
            "cancellation_policy",
            "deferred",
            "retain_until",
            "purge_at",
        ],
        prefixes: &[TAG],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("flow_id", &self.flow_id)
            .text("flow_kind", &self.flow_kind)
            .put("namespace", &self.namespace)
            .put("created_at", &self.created_at)
            .put("spec_digest", &self.spec_digest);
        for (key, value) in &self.tags {
            out.text(&format!("{TAG}{key}"), value);
        }
        out.put("sealed", &self.sealed)
            .put("graph_revision", &self.graph_revision)
            .put("node_count", &self.node_count)
            .put("edge_count", &self.edge_count)
            .put("next_edge_seq", &self.next_edge_seq);
        for (state, count) in self.member_counts.iter().filter(|(_, count)| *count > 0) {
            out.put(count_field(state), &count);
        }
        out.put("last_mutation_at", &self.last_mutation_at);
        if let Some(cancelled) = &self.cancelled {
            out.put("cancelled_at", &cancelled.at)
                .text("cancelled_by", &cancelled.by)
                .text("cancel_reason", &cancelled.reason)
                .put("cancellation_policy", &cancelled.policy);
        }
        out.put("deferred", &self.deferred)
            .put_opt("retain_until", self.retain_until.as_ref())
            .put_opt("purge_at", self.purge_at.as_ref());
        out.finish()
    }

    /// Reads the flat form of this flow.
    ///
    /// Inline tags of an older layout are tags, over which `tag:` fields win; encoded again they are `tag:` fields.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(flow_id: FlowId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open_with(Self::REGISTRY, map, is_tag_key)?;
        reader.same_id(reader.get::<FlowId>("flow_id")? == flow_id, "flow_id")?;
        let flow_kind = reader.text("flow_kind", 1, MAX_NAME_BYTES)?;
        let namespace = reader.get("namespace")?;
        let created_at = reader.get("created_at")?;
        let spec_digest = reader.get("spec_digest")?;
        let tags = tags(&reader, map)?;
        let sealed = reader.get("sealed")?;
        let graph_revision = reader.get("graph_revision")?;
        let node_count = reader.get("node_count")?;
        let edge_count = reader.get("edge_count")?;
        let next_edge_seq = reader.get("next_edge_seq")?;
        let member_counts = counts(&reader)?;
        let last_mutation_at = reader.get("last_mutation_at")?;
        let was_cancelled = reader.group(&["cancelled_at", "cancelled_by", "cancellation_policy"])?;
        let at = reader.get_opt("cancelled_at")?;
        let by = reader.text_opt("cancelled_by", 1, MAX_NAME_BYTES)?;
        let reason = reader.text_opt("cancel_reason", 0, MAX_TEXT_BYTES)?;
        let policy = reader.get_opt("cancellation_policy")?;
        let deferred = reader.get("deferred")?;
        let retain_until = reader.get_opt("retain_until")?;
        let purge_at = reader.get_opt("purge_at")?;
        reader.ensure(member_counts.total() == u64::from(node_count), "node_count")?;
        reader.ensure(reason.is_some() == was_cancelled, "cancel_reason")?;
        let cancelled = match (at, by, reason, policy) {
            (Some(at), Some(by), Some(reason), Some(policy)) => Some(FlowCancellation { at, by, reason, policy }),
            _ => None,
        };
        Ok(Self {
            flow_id,
            flow_kind,
            namespace,
            created_at,
            spec_digest,
            tags,
            sealed,
            graph_revision,
            node_count,
            edge_count,
            next_edge_seq,
            member_counts,
            last_mutation_at,
            cancelled,
            deferred,
            retain_until,
            purge_at,
        })
    }
}

/// The `tag:` fields, and the inline tags of an older layout that they do not replace.
fn tags(reader: &Reader<'_>, map: &FlatMap) -> Result<BTreeMap<String, String>, DecodeError> {
    let (mut inline, mut tags) = (BTreeMap::new(), BTreeMap::new());
    for (name, bytes) in map {
        let value = |bytes: &Bytes| read_text(bytes, 0, MAX_TEXT_BYTES).map_err(|cause| reader.fail(name, cause));
        if let Some(key) = name.strip_prefix(TAG) {
            if !is_tag_key(key) {
                return Err(reader.fail(name, DecodeCause::OutOfRange));
            }
            tags.insert(key.to_owned(), value(bytes)?);
        } else if is_tag_key(name) {
            inline.insert(name.clone(), value(bytes)?);
        }
    }
    inline.append(&mut tags);
    Ok(inline)
}

/// The counts; a stored 0 is out of range, since an absent count is 0.
fn counts(reader: &Reader<'_>) -> Result<StateCounts, DecodeError> {
    let positive = |bytes: &[u8]| match u32::read(bytes)? {
        0 => Err(DecodeCause::OutOfRange),
        count => Ok(count),
    };
    PublicState::ALL
        .iter()
        .map(|state| Ok((*state, reader.with_opt(count_field(*state), positive)?.unwrap_or(0))))
        .collect()
}

/// An edge's stored state: `detached` is only ever shown.
fn stored_state(bytes: &[u8]) -> Result<EdgeState, DecodeCause> {
    match EdgeState::read(bytes)? {
        EdgeState::Detached => Err(DecodeCause::UnknownValue),
        state => Ok(state),
    }
}

/// How a run ended: `none` is no end.
fn ended(bytes: &[u8]) -> Result<TerminalOutcome, DecodeCause> {
    match TerminalOutcome::read(bytes)? {
        TerminalOutcome::None => Err(DecodeCause::UnknownValue),
        outcome => Ok(outcome),
    }
}

impl EdgeRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "edge",
        fields: &[
            "edge_id",
            "flow_id",
            "seq",
            "upstream_execution_id",
            "downstream_execution_id",
            "dependency_kind",
            "created_at",
            "data_passing_ref",
            "edge_state",
            "applied_at",
            "upstream_run",
            "upstream_outcome",
            "upstream_attempt_index",
            "resolved_at",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("edge_id", &self.edge_id)
            .put("flow_id", &self.flow_id)
            .put("seq", &self.seq)
            .put("upstream_execution_id", &self.upstream_execution_id)
            .put("downstream_execution_id", &self.downstream_execution_id)
            .put("dependency_kind", &self.dependency_kind)
            .put("created_at", &self.created_at)
            .put_opt("data_passing_ref", self.data_passing_ref.as_ref())
            .put("edge_state", &self.edge_state)
            .put_opt("applied_at", self.applied_at.as_ref());
        if let Some(resolution) = &self.resolution {
            out.put("upstream_run", &resolution.upstream_run)
                .put("upstream_outcome", &resolution.upstream_outcome)
                .put_opt("upstream_attempt_index", resolution.upstream_attempt_index.as_ref())
                .put("resolved_at", &resolution.resolved_at);
        }
        out.finish()
    }

    /// Reads the flat form of this edge of this flow.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(flow_id: FlowId, edge_id: EdgeId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<EdgeId>("edge_id")? == edge_id, "edge_id")?;
        reader.same_id(reader.get::<FlowId>("flow_id")? == flow_id, "flow_id")?;
        let seq = reader.get("seq")?;
        let upstream_execution_id = reader.get("upstream_execution_id")?;
        let downstream_execution_id = reader.get("downstream_execution_id")?;
        let dependency_kind = reader.get("dependency_kind")?;
        let created_at = reader.get("created_at")?;
        let data_passing_ref = reader.get_opt("data_passing_ref")?;
        let edge_state = reader.with("edge_state", stored_state)?;
        let applied_at = reader.get_opt("applied_at")?;
        let was_resolved = reader.group(&["upstream_run", "upstream_outcome", "resolved_at"])?;
        let upstream_run = reader.get_opt("upstream_run")?;
        let upstream_outcome = reader.with_opt("upstream_outcome", ended)?;
        let upstream_attempt_index = reader.get_opt("upstream_attempt_index")?;
        let resolved_at = reader.get_opt("resolved_at")?;
        let resolved = matches!(edge_state, EdgeState::Satisfied | EdgeState::Impossible);
        reader.ensure(applied_at.is_some() == (edge_state != EdgeState::Staged), "applied_at")?;
        reader.ensure(was_resolved == resolved, "upstream_run")?;
        reader.ensure(resolved || upstream_attempt_index.is_none(), "upstream_attempt_index")?;
        let resolution = match (upstream_run, upstream_outcome, resolved_at) {
            (Some(upstream_run), Some(upstream_outcome), Some(resolved_at)) => {
                Some(EdgeResolution { upstream_run, upstream_outcome, upstream_attempt_index, resolved_at })
            }
            _ => None,
        };
        Ok(Self {
            edge_id,
            flow_id,
            seq,
            upstream_execution_id,
            downstream_execution_id,
            dependency_kind,
            created_at,
            data_passing_ref,
            edge_state,
            applied_at,
            resolution,
        })
    }
}

impl MemberRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "member",
        fields: &[
            "execution_id",
            "flow_id",
            "member_name",
            "held",
            "join",
            "incoming_count",
            "unresolved_count",
            "satisfied_count",
            "impossible_count",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("flow_id", &self.flow_id)
            .put_opt("member_name", self.member_name.as_ref())
            .put("held", &self.held)
            .put("join", &self.join)
            .put("incoming_count", &self.incoming_count)
            .put("unresolved_count", &self.unresolved_count)
            .put("satisfied_count", &self.satisfied_count)
            .put("impossible_count", &self.impossible_count);
        out.finish()
    }

    /// Reads the flat form of this execution's member record. The flow is one of its fields: an execution is in one.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(execution_id: ExecutionId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        let flow_id = reader.get("flow_id")?;
        let member_name = reader.get_opt("member_name")?;
        let held = reader.get("held")?;
        let join = reader.get("join")?;
        let incoming_count: u32 = reader.get("incoming_count")?;
        let unresolved_count: u32 = reader.get("unresolved_count")?;
        let satisfied_count: u32 = reader.get("satisfied_count")?;
        let impossible_count: u32 = reader.get("impossible_count")?;
        let sum = u64::from(unresolved_count) + u64::from(satisfied_count) + u64::from(impossible_count);
        reader.ensure(u64::from(incoming_count) == sum, "incoming_count")?;
        Ok(Self {
            execution_id,
            flow_id,
            member_name,
            held,
            join,
            incoming_count,
            unresolved_count,
            satisfied_count,
            impossible_count,
        })
    }
}
