//! Domain flow.

use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use ff_core::bounds::{CheckArgs, Deployment};
use ff_core::canon::Digest;
use ff_core::contracts::decode::{DecodeCause, decode_edge, decode_flow, decode_member};
use ff_core::contracts::{
    AddExecutionToFlowArgs, AddExecutionToFlowResult, ApplyDependencyToChildArgs, ApplyDependencyToChildResult,
    CancelFlowArgs, CancelFlowResult, CancellationPolicy, Cascade, CreateFlowArgs, CreateFlowResult, DependencyKind,
    DescribeEdgeArgs, DescribeFlowArgs, EdgeDirection, EdgeSnapshot, EdgeState, EvaluateFlowEligibilityArgs,
    EvaluateFlowEligibilityResult, FlowInput, FlowJoin, FlowMember, FlowSnapshot, Join, ListEdgesArgs, ListEdgesResult,
    ListFlowMembersArgs, ListFlowMembersResult, OnUpstreamTerminal, PromoteBlockedToEligibleArgs,
    PromoteBlockedToEligibleResult, ResolveDependencyArgs, ResolveDependencyResult, SealFlowArgs, SealFlowResult,
    SetFlowTagsArgs, SetFlowTagsResult, StageDependencyEdgeArgs, StageDependencyEdgeResult, SubmitFlowArgs,
    SubmitFlowResult,
};
use ff_core::engine_backend::FlowOps;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, DataName, EdgeId, ExecutionId, FlowId, Namespace};
use ff_core::records::flat::FlatMap;
use ff_core::records::{EdgeRecord, EdgeResolution, FlowRecord, MemberRecord, StateCounts};
use ff_core::refusal::Refusal;
use ff_core::state::{StateSummary, TerminalOutcome};
use ff_core::time::TimestampMs;
use rmpv::Value;
use uuid::Uuid;

use crate::ValkeyBackend;
use crate::call::{Pack, Reply, unreadable};
use crate::execution::creation;
use crate::record::{self, corrupt, read_packed};
use crate::refusal::refusal_of;

const fn kind_number(kind: DependencyKind) -> u64 {
    match kind {
        DependencyKind::SuccessOnly => 1,
        DependencyKind::AnyTerminal => 2,
    }
}

fn name_opt(pack: &mut Pack, name: Option<&DataName>) {
    pack.text_opt(name.map(DataName::as_str));
}

/// The deployment's caps, as one argument.
fn caps(pack: &mut Pack, deployment: &Deployment) {
    let caps = deployment.graph;
    pack.list(|p| {
        for cap in [caps.members, caps.edges, caps.incoming, caps.data_incoming, caps.outgoing, caps.cycle_search] {
            p.num(u64::from(cap));
        }
    });
}

/// Joining at creation, as one argument.
pub(crate) fn join(pack: &mut Pack, join: &FlowJoin, namespace: &Namespace, deployment: &Deployment) {
    pack.list(|p| {
        p.uuid(join.flow_id.uuid()).flag(join.hold).list(|p| {
            for edge in &join.edges {
                p.uuid(edge.edge_id.uuid())
                    .uuid(edge.upstream_execution_id.uuid())
                    .num(kind_number(edge.dependency_kind));
                name_opt(p, edge.data_passing_ref.as_ref());
            }
        });
        caps(p, deployment);
        p.text(namespace.as_str());
    });
}

/// What a claim is handed of its upstreams' results.
pub(crate) fn inputs(reply: Option<Reply>) -> Result<Vec<FlowInput>, EngineError> {
    let mut out = Vec::new();
    let Some(mut inputs) = reply else { return Ok(out) };
    while !inputs.is_over() {
        let mut input = inputs.list()?;
        let edge_id = EdgeId::from_uuid(input.uuid()?);
        let upstream_execution_id = input.execution_id()?;
        out.push(FlowInput {
            name: DataName::from_str(&input.text()?).map_err(|_| unreadable("a data name"))?,
            edge_id,
            upstream_execution_id,
            upstream_outcome: input.word_of()?,
            upstream_run: input.u32()?,
            attempt_index: match input.num_opt()? {
                None => None,
                Some(n) => Some(AttemptIndex(u32::try_from(n).map_err(|_| unreadable("an attempt"))?)),
            },
            size_bytes: input.num_opt()?,
        });
    }
    Ok(out)
}

/// The flat form of a flow that does not exist yet, as one argument; its instants are the store's.
fn flat_form(pack: &mut Pack, record: &FlowRecord) {
    let flat = record.encode();
    pack.list(|p| {
        for (name, value) in &flat {
            p.text(name).bytes(value);
        }
    });
}

fn new_flow(
    flow_id: FlowId,
    flow_kind: &str,
    namespace: &Namespace,
    tags: &std::collections::BTreeMap<String, String>,
    spec_digest: Digest,
    sealed: bool,
) -> FlowRecord {
    FlowRecord {
        flow_id,
        flow_kind: flow_kind.to_owned(),
        namespace: namespace.clone(),
        created_at: TimestampMs::ZERO,
        spec_digest,
        tags: tags.clone(),
        sealed,
        graph_revision: 0,
        node_count: 0,
        edge_count: 0,
        next_edge_seq: 1,
        member_counts: StateCounts::default(),
        last_mutation_at: TimestampMs::ZERO,
        cancelled: None,
        deferred: 0,
        retain_until: None,
        purge_at: None,
    }
}

fn cascade(reply: &mut Reply) -> Result<Cascade, EngineError> {
    let mut c = reply.list()?;
    Ok(Cascade { steps: c.u32()?, promoted: c.u32()?, skipped: c.u32()?, deferred: c.u32()? })
}

/// An edge as it is stored.
fn edge(flow_id: FlowId, edge_id: EdgeId, bytes: &[u8]) -> Result<EdgeRecord, EngineError> {
    let unfold = || {
        let Value::Array(v) = read_packed(bytes)? else { return None };
        let [_, seq, up, down, kind, created, name, state, applied, run, outcome, attempt, resolved] = v.as_slice()
        else {
            return None;
        };
        let member = |v: &Value| {
            let Value::String(s) = v else { return None };
            Uuid::from_slice(s.as_bytes()).ok().map(|uuid| ExecutionId::from_parts(flow_id.partition(), uuid))
        };
        let at = |v: &Value| v.as_u64().and_then(TimestampMs::new);
        let small = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let absent = |v: &Value| matches!(v, Value::Boolean(false));
        let resolution = if absent(run) {
            None
        } else {
            Some(EdgeResolution {
                upstream_run: small(run)?,
                upstream_outcome: match outcome.as_u64()? {
                    1 => TerminalOutcome::Success,
                    2 => TerminalOutcome::Failed,
                    3 => TerminalOutcome::Cancelled,
                    4 => TerminalOutcome::Expired,
                    5 => TerminalOutcome::Skipped,
                    _ => return None,
                },
                upstream_attempt_index: if absent(attempt) { None } else { Some(AttemptIndex(small(attempt)?)) },
                resolved_at: at(resolved)?,
            })
        };
        Some(EdgeRecord {
            edge_id,
            flow_id,
            seq: seq.as_u64()?,
            upstream_execution_id: member(up)?,
            downstream_execution_id: member(down)?,
            dependency_kind: match kind.as_u64()? {
                1 => DependencyKind::SuccessOnly,
                2 => DependencyKind::AnyTerminal,
                _ => return None,
            },
            created_at: at(created)?,
            data_passing_ref: if absent(name) { None } else { Some(DataName::from_str(name.as_str()?).ok()?) },
            edge_state: match state.as_u64()? {
                1 => EdgeState::Staged,
                2 => EdgeState::Pending,
                3 => EdgeState::Satisfied,
                4 => EdgeState::Impossible,
                _ => return None,
            },
            applied_at: if absent(applied) { None } else { Some(at(applied)?) },
            resolution,
        })
    };
    let record = unfold().ok_or_else(|| corrupt("edge", "version", DecodeCause::IllegalState))?;
    decode_edge(flow_id, edge_id, &record.encode())?;
    Ok(record)
}

/// Edges as reads get them, and whether more remain.
fn edges(flow_id: FlowId, reply: &mut Reply) -> Result<(Vec<EdgeSnapshot>, bool), EngineError> {
    let frozen = reply.flag()?;
    let mut list = reply.list()?;
    let mut out = Vec::new();
    while !list.is_over() {
        let edge_id = EdgeId::from_uuid(list.uuid()?);
        let record = edge(flow_id, edge_id, &list.bytes()?)?;
        out.push(EdgeSnapshot::of(&record, frozen, list.u32()?, Join::All));
    }
    Ok((out, reply.flag()?))
}

/// A member's record beside its execution; none outside a flow.
fn member_of(stored: &record::Stored) -> Result<Option<MemberRecord>, EngineError> {
    let (Some(part), Some(flow_id)) = (&stored.member, stored.record.flow_id) else { return Ok(None) };
    let record = MemberRecord {
        execution_id: stored.record.execution_id,
        flow_id,
        member_name: match &part.name {
            None => None,
            Some(name) => Some(
                DataName::from_str(name).map_err(|_| corrupt("member", "member_name", DecodeCause::UnknownValue))?,
            ),
        },
        held: part.held,
        join: Join::All,
        incoming_count: part.incoming,
        unresolved_count: part.unresolved,
        satisfied_count: part.satisfied,
        impossible_count: part.impossible,
    };
    decode_member(stored.record.execution_id, &record.encode())?;
    Ok(Some(record))
}

fn summary_of(stored: &record::Stored) -> StateSummary {
    StateSummary::new(stored.record.vector, stored.record.attempt_count.checked_sub(1).map(AttemptIndex))
}

#[async_trait]
impl FlowOps for ValkeyBackend {
    async fn create_flow(&self, args: CreateFlowArgs) -> Result<CreateFlowResult, EngineError> {
        args.check(self.fixed())?;
        let flow_id = args.flow_id;
        let digest = args.spec_digest();
        let mut pack = self.pack();
        pack.uuid(flow_id.uuid());
        flat_form(&mut pack, &new_flow(flow_id, &args.flow_kind, &args.namespace, &args.tags, digest, false));
        pack.text(&digest.to_hex());
        let reply = self.at("ff_create_flow", flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "created" => CreateFlowResult::Created { flow_id },
            "already_exists" => CreateFlowResult::AlreadyExists { flow_id },
            _ => return Err(reply.unknown()),
        })
    }

    async fn submit_flow(&self, args: SubmitFlowArgs) -> Result<SubmitFlowResult, EngineError> {
        args.check(self.fixed())?;
        let flow_id = args.flow_id;
        let digest = args.spec_digest();
        let mut pack = self.pack();
        pack.uuid(flow_id.uuid());
        flat_form(&mut pack, &new_flow(flow_id, &args.flow_kind, &args.namespace, &args.tags, digest, args.sealed));
        pack.text(&digest.to_hex()).flag(args.sealed).list(|p| {
            for spec in &args.members {
                p.list(|p| {
                    p.uuid(spec.execution_id.uuid()).text(spec.name.as_str());
                    creation(p, &spec.to_creation(&args.namespace, flow_id, !args.sealed));
                    p.bytes(&spec.payload);
                });
            }
        });
        let index = |name: &DataName| args.members.iter().position(|m| m.name == *name).map_or(0, |n| n as u64 + 1);
        pack.list(|p| {
            for edge in &args.edges {
                p.uuid(edge.edge_id.uuid())
                    .num(index(&edge.from))
                    .num(index(&edge.to))
                    .num(kind_number(edge.dependency_kind));
                name_opt(p, edge.data_passing_ref.as_ref());
            }
        });
        let mut reply = self.at("ff_submit_flow", flow_id.partition(), pack).await?;
        let members = args.member_ids();
        Ok(match reply.word() {
            "created" => SubmitFlowResult::Created { flow_id, graph_revision: reply.num()?, members },
            "already_exists" => SubmitFlowResult::AlreadyExists { flow_id, graph_revision: reply.num()?, members },
            "about" => {
                let name = reply.text()?;
                return Err(refusal_of(&mut reply)?.about_member(&name).into());
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn add_execution_to_flow(
        &self,
        args: AddExecutionToFlowArgs,
    ) -> Result<AddExecutionToFlowResult, EngineError> {
        args.check(self.fixed())?;
        let execution_id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid()).uuid(execution_id.uuid());
        caps(&mut pack, self.fixed());
        let mut reply = self.at("ff_add_execution_to_flow", args.flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "added" => AddExecutionToFlowResult::Added {
                execution_id,
                new_node_count: reply.u32()?,
                new_graph_revision: reply.num()?,
                summary: reply.summary()?,
            },
            "already_member" => AddExecutionToFlowResult::AlreadyMember {
                execution_id,
                node_count: reply.u32()?,
                summary: reply.summary()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn seal_flow(&self, args: SealFlowArgs) -> Result<SealFlowResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid()).num_opt(args.expected_graph_revision);
        let mut reply = self.at("ff_seal_flow", args.flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "sealed" => SealFlowResult::Sealed {
                graph_revision: reply.num()?,
                remaining: reply.u32()?,
                cascade: cascade(&mut reply)?,
            },
            "already_sealed" => SealFlowResult::AlreadySealed { graph_revision: reply.num()?, remaining: reply.u32()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn stage_dependency_edge(
        &self,
        args: StageDependencyEdgeArgs,
    ) -> Result<StageDependencyEdgeResult, EngineError> {
        args.check(self.fixed())?;
        let edge_id = args.edge_id;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid())
            .uuid(edge_id.uuid())
            .uuid(args.upstream_execution_id.uuid())
            .uuid(args.downstream_execution_id.uuid())
            .num(kind_number(args.dependency_kind));
        name_opt(&mut pack, args.data_passing_ref.as_ref());
        pack.flag(args.apply)
            .flag(args.on_upstream_terminal == OnUpstreamTerminal::Reject)
            .num_opt(args.expected_graph_revision);
        caps(&mut pack, self.fixed());
        let mut reply = self.at("ff_stage_dependency_edge", args.flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "staged" => StageDependencyEdgeResult::Staged {
                edge_id,
                new_graph_revision: reply.num()?,
                edge_state: reply.word_of()?,
                child: reply.summary()?,
                cascade: cascade(&mut reply)?,
            },
            "already_staged" => StageDependencyEdgeResult::AlreadyStaged {
                edge_id,
                graph_revision: reply.num()?,
                edge_state: reply.word_of()?,
                child: reply.summary()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn apply_dependency_to_child(
        &self,
        args: ApplyDependencyToChildArgs,
    ) -> Result<ApplyDependencyToChildResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid())
            .uuid(args.edge_id.uuid())
            .uuid(args.upstream_execution_id.uuid())
            .uuid(args.downstream_execution_id.uuid())
            .num(kind_number(args.dependency_kind));
        name_opt(&mut pack, args.data_passing_ref.as_ref());
        let mut reply = self.at("ff_apply_dependency_to_child", args.flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "applied" => ApplyDependencyToChildResult::Applied {
                unresolved_count: reply.u32()?,
                edge_state: reply.word_of()?,
                child: reply.summary()?,
                cascade: cascade(&mut reply)?,
            },
            "already_applied" => ApplyDependencyToChildResult::AlreadyApplied {
                unresolved_count: reply.u32()?,
                edge_state: reply.word_of()?,
                child: reply.summary()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn resolve_dependency(&self, args: ResolveDependencyArgs) -> Result<ResolveDependencyResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid())
            .uuid(args.edge_id.uuid())
            .text_opt(args.upstream_outcome.as_ref().map(|outcome| outcome.as_str()));
        let mut reply = self.at("ff_resolve_dependency", args.flow_id.partition(), pack).await?;
        Ok(match reply.word() {
            "satisfied" => {
                ResolveDependencyResult::Satisfied { child: reply.summary()?, cascade: cascade(&mut reply)? }
            }
            "impossible" => ResolveDependencyResult::Impossible {
                child: reply.summary()?,
                child_skipped: reply.flag()?,
                cascade: cascade(&mut reply)?,
            },
            "already_resolved" => {
                ResolveDependencyResult::AlreadyResolved { edge_state: reply.word_of()?, child: reply.summary()? }
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn evaluate_flow_eligibility(
        &self,
        args: EvaluateFlowEligibilityArgs,
    ) -> Result<EvaluateFlowEligibilityResult, EngineError> {
        args.check(self.fixed())?;
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid());
        let mut reply = self.at("ff_evaluate_flow_eligibility", id.partition(), pack).await?;
        let stored = record::execution(id, &reply.bytes()?)?;
        let member = member_of(&stored)?;
        Ok(EvaluateFlowEligibilityResult::of(summary_of(&stored), member.as_ref(), reply.flag()?, reply.u32()?))
    }

    async fn promote_blocked_to_eligible(
        &self,
        args: PromoteBlockedToEligibleArgs,
    ) -> Result<PromoteBlockedToEligibleResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid());
        let mut reply = self.at("ff_promote_blocked_to_eligible", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "promoted" => {
                PromoteBlockedToEligibleResult::Promoted { summary: reply.summary()?, cascade: cascade(&mut reply)? }
            }
            "skipped" => {
                PromoteBlockedToEligibleResult::Skipped { summary: reply.summary()?, cascade: cascade(&mut reply)? }
            }
            "still_blocked" => PromoteBlockedToEligibleResult::StillBlocked {
                unresolved_count: reply.u32()?,
                impossible_count: reply.u32()?,
                summary: reply.summary()?,
                cascade: cascade(&mut reply)?,
            },
            "already_eligible" => PromoteBlockedToEligibleResult::AlreadyEligible { summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn cancel_flow(&self, args: CancelFlowArgs) -> Result<CancelFlowResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid()).text(&args.reason).text(args.cancellation_policy.as_str()).text(&args.by);
        let mut reply = self.at("ff_cancel_flow", args.flow_id.partition(), pack).await?;
        let cancellation_policy: CancellationPolicy = reply.word_of()?;
        let cancelled = reply.u32()?;
        Ok(match reply.word() {
            "cancelled" => CancelFlowResult::Cancelled { cancellation_policy, cancelled, nonterminal: reply.u32()? },
            "scheduled" => CancelFlowResult::CancellationScheduled {
                cancellation_policy,
                cancelled,
                remaining: reply.u32()?,
                nonterminal: reply.u32()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn set_flow_tags(&self, args: SetFlowTagsArgs) -> Result<SetFlowTagsResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid()).list(|p| {
            for (key, value) in &args.tags {
                p.text(key).text_opt(value.as_deref());
            }
        });
        let mut reply = self.at("ff_set_flow_tags", args.flow_id.partition(), pack).await?;
        Ok(SetFlowTagsResult::Tagged { count: reply.u32()? })
    }

    async fn describe_flow(&self, args: DescribeFlowArgs) -> Result<FlowSnapshot, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid());
        let mut reply = self.at("ff_describe_flow", args.flow_id.partition(), pack).await?;
        let mut fields = reply.list()?;
        let mut flat = FlatMap::new();
        while !fields.is_over() {
            let name = fields.text()?;
            flat.insert(name, fields.bytes().unwrap_or_else(|_| Bytes::new()));
        }
        Ok(FlowSnapshot::of(&decode_flow(args.flow_id, &flat)?))
    }

    async fn describe_edge(&self, args: DescribeEdgeArgs) -> Result<EdgeSnapshot, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid()).uuid(args.edge_id.uuid());
        let mut reply = self.at("ff_describe_edge", args.flow_id.partition(), pack).await?;
        let (edges, _) = edges(args.flow_id, &mut reply)?;
        edges.into_iter().next().ok_or_else(|| unreadable("an edge"))
    }

    async fn list_edges(&self, args: ListEdgesArgs) -> Result<ListEdgesResult, EngineError> {
        args.check(self.fixed())?;
        // A cursor is the last seq of the page before.
        let after = match args.cursor.as_deref() {
            None => 0,
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|seq| seq.to_string() == text && *seq < crate::call::NONE)
                .ok_or_else(|| Refusal::invalid_input("cursor"))?,
        };
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid())
            .uuid(args.direction.node().uuid())
            .flag(matches!(args.direction, EdgeDirection::Outgoing { .. }))
            .num(after)
            .num(u64::from(args.limit));
        let mut reply = self.at("ff_list_edges", args.flow_id.partition(), pack).await?;
        let (edges, more) = edges(args.flow_id, &mut reply)?;
        let next_cursor = edges.last().filter(|_| more).map(|edge| edge.seq.to_string());
        Ok(ListEdgesResult { edges, next_cursor })
    }

    async fn list_flow_members(&self, args: ListFlowMembersArgs) -> Result<ListFlowMembersResult, EngineError> {
        args.check(self.fixed())?;
        let partition = args.flow_id.partition();
        // A cursor is the last execution id of the page before.
        let after = match args.cursor.as_deref() {
            None => None,
            Some(text) => Some(
                text.parse::<ExecutionId>()
                    .ok()
                    .filter(|id| id.partition() == partition)
                    .ok_or_else(|| Refusal::invalid_input("cursor"))?,
            ),
        };
        let mut pack = self.pack();
        pack.uuid(args.flow_id.uuid());
        match after {
            Some(id) => pack.uuid(id.uuid()),
            None => pack.absent(),
        };
        pack.num(u64::from(args.limit));
        let mut reply = self.at("ff_list_flow_members", partition, pack).await?;
        let mut records = reply.list()?;
        let mut members = Vec::new();
        while !records.is_over() {
            let stored = record::execution(records.execution_id()?, &records.bytes()?)?;
            let member = member_of(&stored)?.ok_or_else(|| corrupt("member", "flow_id", DecodeCause::Missing))?;
            members.push(FlowMember::of(&member, summary_of(&stored)));
        }
        let more = reply.flag()?;
        let next_cursor = members.last().filter(|_| more).map(|member| member.execution_id.to_string());
        Ok(ListFlowMembersResult { members, next_cursor })
    }
}
