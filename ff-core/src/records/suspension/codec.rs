//! The flat forms of suspension and waitpoint: `resources.md`, section 6.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{OperatorResume, SuspensionRecord, WaitpointRecord};
use crate::bounds::{MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::condition::{Condition, MAX_CONDITION_BYTES, ResumeCondition, validate_form};
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::contracts::{
    ConditionFault, Fence, MAX_WAITPOINTS, ResumePolicy, SignalSource, SuspensionCloseReason, TimeoutBehavior,
    WaitpointCloseReason, WaitpointState,
};
use crate::ids::{ExecutionId, WaitpointId};
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer, read_json, read_list, write_json};
use crate::refusal::{Details, Refusal};

/// What has structure, where `good` holds it to the bounds of the argument it came from.
fn read_good<T: Serialize + DeserializeOwned>(
    good: impl FnOnce(&T) -> bool,
) -> impl FnOnce(&[u8]) -> Result<T, DecodeCause> {
    move |bytes| read_json(bytes).and_then(|value| if good(&value) { Ok(value) } else { Err(DecodeCause::BadPolicy) })
}

fn read_condition(bytes: &[u8]) -> Result<ResumeCondition, DecodeCause> {
    if bytes.len() > MAX_CONDITION_BYTES {
        return Err(DecodeCause::BadPolicy);
    }
    read_good(is_well_formed)(bytes)
}

/// Whether a condition is one that some waitpoints could be bound to; which are is a rule between fields.
fn is_well_formed(condition: &ResumeCondition) -> bool {
    let (mut bound, mut unnamed) = (BTreeSet::new(), 1);
    // No deeper than the JSON that it was read from, which is bounded.
    let mut rest = vec![&condition.root];
    while let Some(node) = rest.pop() {
        match node {
            Condition::Signal { waitpoint, .. } => bound.extend(waitpoint),
            Condition::Count { waitpoints: Some(waitpoints), .. } => bound.extend(waitpoints),
            Condition::Count { n, waitpoints: None, .. } => unnamed = unnamed.max(*n),
            Condition::AllOf { of } | Condition::AnyOf { of } => rest.extend(of),
            Condition::OperatorOnly {} | Condition::TimeoutOnly {} => {}
        }
    }
    let unnamed = (0..u128::from(unnamed.min(crate::condition::MAX_COUNT)))
        .map(|n| WaitpointId::from_uuid(Uuid::from_u128(n)))
        .filter(|id| !bound.contains(id))
        .collect::<Vec<_>>();
    let bound: Vec<_> = bound.iter().copied().chain(unnamed).collect();
    validate_form(condition, &bound).err().is_none_or(|refusal| concerns_unnamed(&refusal))
}

/// Whether a fault is only that waitpoints are bound which the condition does not name.
fn concerns_unnamed(refusal: &Refusal) -> bool {
    let unnamed = ConditionFault::UnreferencedWaitpoint;
    matches!(refusal.details(), Details::InvalidResumeCondition { reason, .. } if *reason == unnamed)
}

fn read_waitpoint_ids(bytes: &[u8]) -> Result<Vec<WaitpointId>, DecodeCause> {
    let ids = read_list(bytes, false)?;
    if ids.len() > MAX_WAITPOINTS {
        return Err(DecodeCause::OutOfRange);
    }
    ids.into_iter().map(|id| WaitpointId::read(id.as_bytes())).collect()
}

/// As in arguments: at most 16, distinct, names, none of the engine.
fn are_good_sources(sources: &[SignalSource]) -> bool {
    sources.len() <= MAX_WAITPOINTS
        && sources.iter().all(|source| source.check("sources").is_ok())
        && sources.iter().collect::<BTreeSet<_>>().len() == sources.len()
}

impl SuspensionRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "suspension",
        fields: &[
            "execution_id",
            "suspension_id",
            "attempt_index",
            "lease_id",
            "lease_epoch",
            "attempt_id",
            "digest",
            "reason_code",
            "detail",
            "continuation",
            "condition",
            "resume_policy",
            "waitpoint_ids",
            "created_at",
            "timeout_at",
            "timeout_behavior",
            "escalated_at",
            "closed_at",
            "close_reason",
            "closer_signal_id",
            "operator_by",
            "operator_reason",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("suspension_id", &self.suspension_id)
            .put("attempt_index", &self.attempt_index)
            .put("lease_id", &self.fence.lease_id)
            .put("lease_epoch", &self.fence.lease_epoch)
            .put("attempt_id", &self.fence.attempt_id)
            .put("digest", &self.digest)
            .put("reason_code", &self.reason_code)
            .text_opt("detail", self.detail.as_deref());
        if let Some(continuation) = &self.continuation {
            out.raw("continuation", continuation.clone());
        }
        out.raw("condition", write_json(&self.condition)).raw("resume_policy", write_json(&self.resume_policy));
        if !self.waitpoint_ids.is_empty() {
            let ids: Vec<_> = self.waitpoint_ids.iter().map(ToString::to_string).collect();
            out.text("waitpoint_ids", &ids.join(","));
        }
        out.put("created_at", &self.created_at).put_opt("timeout_at", self.timeout_at.as_ref());
        if let Some(behavior) = &self.timeout_behavior {
            out.raw("timeout_behavior", write_json(behavior));
        }
        out.put_opt("escalated_at", self.escalated_at.as_ref())
            .put_opt("closed_at", self.closed_at.as_ref())
            .put_opt("close_reason", self.close_reason.as_ref())
            .put_opt("closer_signal_id", self.closer_signal_id.as_ref());
        if let Some(operator) = &self.operator {
            out.text("operator_by", &operator.by).text("operator_reason", &operator.reason);
        }
        out.finish()
    }

    /// Reads the flat form of this execution's suspension. Its id is one of its fields: an execution has one slot.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(execution_id: ExecutionId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        let suspension_id = reader.get("suspension_id")?;
        let attempt_index = reader.get("attempt_index")?;
        let fence = Fence {
            lease_id: reader.get("lease_id")?,
            lease_epoch: reader.get("lease_epoch")?,
            attempt_id: reader.get("attempt_id")?,
        };
        let digest = reader.get("digest")?;
        let reason_code = reader.get("reason_code")?;
        let detail = reader.text_opt("detail", 0, MAX_TEXT_BYTES)?;
        let continuation = reader.optional("continuation").cloned();
        let condition = reader.with("condition", read_condition)?;
        let resume_policy = reader.with("resume_policy", read_good(|policy: &ResumePolicy| policy.within_bounds()))?;
        let waitpoint_ids = reader.with_opt("waitpoint_ids", read_waitpoint_ids)?.unwrap_or_default();
        let created_at = reader.get("created_at")?;
        let timeout_at = reader.get_opt("timeout_at")?;
        let behavior = read_good(|behavior: &TimeoutBehavior| behavior.within_bounds());
        let timeout_behavior = reader.with_opt("timeout_behavior", behavior)?;
        let escalated_at = reader.get_opt("escalated_at")?;
        reader.group(&["closed_at", "close_reason"])?;
        let closed_at = reader.get_opt("closed_at")?;
        let close_reason = reader.get_opt("close_reason")?;
        let closer_signal_id = reader.get_opt("closer_signal_id")?;
        reader.group(&["operator_by", "operator_reason"])?;
        let by = reader.text_opt("operator_by", 1, MAX_NAME_BYTES)?;
        let reason = reader.text_opt("operator_reason", 0, MAX_TEXT_BYTES)?;
        let operator = by.zip(reason).map(|(by, reason)| OperatorResume { by, reason });

        reader.ensure(validate_form(&condition, &waitpoint_ids).is_ok(), "condition")?;
        reader.ensure(timeout_at.is_none() || timeout_behavior.is_some(), "timeout_at")?;
        let satisfied =
            matches!(close_reason, Some(SuspensionCloseReason::Satisfied | SuspensionCloseReason::AlreadySatisfied));
        reader.ensure(closer_signal_id.is_some() == satisfied, "closer_signal_id")?;
        let resumed = close_reason == Some(SuspensionCloseReason::OperatorResume);
        reader.ensure(operator.is_some() == resumed, "operator_by")?;
        Ok(Self {
            execution_id,
            suspension_id,
            attempt_index,
            fence,
            digest,
            reason_code,
            detail,
            continuation,
            condition,
            resume_policy,
            waitpoint_ids,
            created_at,
            timeout_at,
            timeout_behavior,
            escalated_at,
            closed_at,
            close_reason,
            closer_signal_id,
            operator,
        })
    }
}

impl WaitpointRecord {
    /// The fields that its flat form may have.
    pub const REGISTRY: Registry = Registry {
        record: "waitpoint",
        fields: &[
            "execution_id",
            "waitpoint_id",
            "attempt_index",
            "sources",
            "created_at",
            "state",
            "expires_at",
            "suspension_id",
            "activated_at",
            "closed_at",
            "close_reason",
            "close_detail",
            "signal_count",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut out = Writer::new();
        out.put("execution_id", &self.execution_id)
            .put("waitpoint_id", &self.waitpoint_id)
            .put("attempt_index", &self.attempt_index)
            .raw("sources", write_json(&self.sources))
            .put("created_at", &self.created_at)
            .put("state", &self.state)
            .put_opt("expires_at", self.expires_at.as_ref())
            .put_opt("suspension_id", self.suspension_id.as_ref())
            .put_opt("activated_at", self.activated_at.as_ref())
            .put_opt("closed_at", self.closed_at.as_ref())
            .put_opt("close_reason", self.close_reason.as_ref())
            .text_opt("close_detail", self.close_detail.as_deref())
            .put("signal_count", &self.signal_count);
        out.finish()
    }

    /// Reads the flat form of this waitpoint of this execution.
    ///
    /// What its state requires is `missing` where it is absent; what stands beside the wrong state is `illegal_state`.
    ///
    /// # Errors
    /// The first thing that is wrong: version, unknown fields, fields in the table's order, rules between them.
    pub fn decode(execution_id: ExecutionId, waitpoint_id: WaitpointId, map: &FlatMap) -> Result<Self, DecodeError> {
        let reader = Reader::open(Self::REGISTRY, map)?;
        reader.same_id(reader.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        reader.same_id(reader.get::<WaitpointId>("waitpoint_id")? == waitpoint_id, "waitpoint_id")?;
        let attempt_index = reader.get("attempt_index")?;
        let sources = reader.with("sources", read_good(|sources: &Vec<SignalSource>| are_good_sources(sources)))?;
        let created_at = reader.get("created_at")?;
        let state = reader.get("state")?;
        let needs = |when, field| if state == when { reader.required(field).map(drop) } else { Ok(()) };
        needs(WaitpointState::Pending, "expires_at")?;
        let expires_at = reader.get_opt("expires_at")?;
        reader.group(&["suspension_id", "activated_at"])?;
        needs(WaitpointState::Active, "suspension_id")?;
        let suspension_id = reader.get_opt("suspension_id")?;
        let activated_at = reader.get_opt("activated_at")?;
        let closed = reader.group(&["closed_at", "close_reason"])?;
        let closed_at = reader.get_opt("closed_at")?;
        let close_reason = reader.get_opt("close_reason")?;
        let close_detail = reader.text_opt("close_detail", 0, MAX_TEXT_BYTES)?;
        let signal_count = reader.get("signal_count")?;

        reader.ensure(closed == (state == WaitpointState::Closed), "closed_at")?;
        let withdrawn = close_reason == Some(WaitpointCloseReason::Withdrawn);
        reader.ensure(close_detail.is_some() == withdrawn, "close_detail")?;
        Ok(Self {
            execution_id,
            waitpoint_id,
            attempt_index,
            sources,
            created_at,
            state,
            expires_at,
            suspension_id,
            activated_at,
            closed_at,
            close_reason,
            close_detail,
            signal_count,
        })
    }
}
