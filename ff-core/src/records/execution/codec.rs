//! The flat form of an execution with its lease and grant: `resources.md`, section 6.
//!
//! Rules between fields are those that the contract's tables state: legal vectors, groups that exist exactly when
//! something else holds, blocks only while runnable, lost or revoked. What follows from the routines beyond that (a
//! READY execution without `not_before`, say) is for audits over whole states, which see more than one record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Block, EndMark, ExecutionRecord, GrantRecord, KeyScope, KeyUse, LastAnswer, LastBy, LastCall, LastOperation,
    LeaseRecord, NotBefore, Progress, ReplayMark,
};
use crate::bounds::{MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::canon::Digest;
use crate::contracts::decode::{DecodeCause, DecodeError};
use crate::contracts::{EndedBy, Fence};
use crate::ids::ExecutionId;
use crate::policy::ExecutionPolicy;
use crate::records::flat::{Field, FlatMap, Reader, Registry, Writer, read_json, read_text, write_json};
use crate::state::{AttemptState, BlockReason, StateName, StateVector};
use crate::time::TimestampMs;

/// `engine`, `worker:<instance>`, `operator:<identity>`.
impl Field for EndedBy {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        if bytes == b"engine" {
            return Ok(Self::Engine);
        }
        match split_once(bytes) {
            Some((b"worker", instance)) => Ok(Self::Worker { worker_instance_id: Field::read(instance)? }),
            Some((b"operator", identity)) => Ok(Self::Operator { identity: read_text(identity, 1, MAX_NAME_BYTES)? }),
            _ => Err(unknown(bytes)),
        }
    }
    fn write(&self) -> Bytes {
        Bytes::from(self.to_string())
    }
}

/// `worker:<lease_id>:<epoch>:<attempt_id>`, `operator:<identity>`.
impl Field for LastBy {
    fn read(bytes: &[u8]) -> Result<Self, DecodeCause> {
        match split_once(bytes) {
            Some((b"worker", fence)) => {
                let mut parts = fence.split(|b| *b == b':');
                let mut part = || parts.next().ok_or(DecodeCause::BadId);
                let fence = Fence {
                    lease_id: Field::read(part()?)?,
                    lease_epoch: Field::read(part()?)?,
                    attempt_id: Field::read(part()?)?,
                };
                if parts.next().is_some() { Err(DecodeCause::BadId) } else { Ok(Self::Worker(fence)) }
            }
            Some((b"operator", identity)) => Ok(Self::Operator { identity: read_text(identity, 1, MAX_NAME_BYTES)? }),
            _ => Err(unknown(bytes)),
        }
    }
    fn write(&self) -> Bytes {
        match self {
            Self::Worker(Fence { lease_id, lease_epoch, attempt_id }) => {
                Bytes::from(format!("worker:{lease_id}:{lease_epoch}:{attempt_id}"))
            }
            Self::Operator { identity } => Bytes::from(format!("operator:{identity}")),
        }
    }
}

/// At the first colon.
fn split_once(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b':')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

fn unknown(bytes: &[u8]) -> DecodeCause {
    if std::str::from_utf8(bytes).is_ok() { DecodeCause::UnknownValue } else { DecodeCause::NotUtf8 }
}

/// All fields present, within bounds, in the one form.
fn read_policy(bytes: &[u8]) -> Result<Arc<ExecutionPolicy>, DecodeCause> {
    let policy: ExecutionPolicy = read_json(bytes)?;
    policy.check().map_err(|_| DecodeCause::BadPolicy)?;
    Ok(Arc::new(policy))
}

pub(super) fn write_end(w: &mut Writer, at: &'static str, ended: Option<&EndMark>) {
    if let Some(ended) = ended {
        w.put(at, &ended.at).put("end_cause", &ended.cause).put("ended_by", &ended.by);
    }
}

pub(super) fn read_replay(r: &Reader<'_>) -> Result<Option<ReplayMark>, DecodeError> {
    if !r.group(&["replay_reason", "replayed_by", "replayed_at", "replay_digest"])? {
        return Ok(None);
    }
    Ok(Some(ReplayMark {
        reason: r.text("replay_reason", 0, MAX_TEXT_BYTES)?,
        by: r.text("replayed_by", 1, MAX_NAME_BYTES)?,
        at: r.get("replayed_at")?,
        digest: r.get("replay_digest")?,
    }))
}

pub(super) fn write_replay(w: &mut Writer, replay: Option<&ReplayMark>) {
    if let Some(replay) = replay {
        w.text("replay_reason", &replay.reason)
            .text("replayed_by", &replay.by)
            .put("replayed_at", &replay.at)
            .put("replay_digest", &replay.digest);
    }
}

fn read_key(r: &Reader<'_>) -> Result<Option<KeyUse>, DecodeError> {
    if !r.group(&["idempotency_key", "idempotency_scope", "idempotency_expires_at"])? {
        return Ok(None);
    }
    Ok(Some(KeyUse {
        key: r.text("idempotency_key", 1, MAX_KEY_BYTES)?,
        scope: r.get("idempotency_scope")?,
        expires_at: r.get("idempotency_expires_at")?,
    }))
}

fn read_not_before(r: &Reader<'_>) -> Result<Option<NotBefore>, DecodeError> {
    if !r.group(&["not_before", "not_before_kind"])? {
        return Ok(None);
    }
    Ok(Some(NotBefore { at: r.get("not_before")?, kind: r.get("not_before_kind")? }))
}

const BLOCK_PREFIXES: [&str; 4] = ["block_at:", "block_by:", "block_detail:", "block_until:"];

fn read_blocks(r: &Reader<'_>) -> Result<BTreeMap<BlockReason, Block>, DecodeError> {
    for prefix in BLOCK_PREFIXES {
        for (reason, _) in r.prefixed(prefix) {
            if reason.parse::<BlockReason>().is_err() {
                return Err(r.fail(&format!("{prefix}{reason}"), DecodeCause::UnknownValue));
            }
        }
    }
    let mut blocks = BTreeMap::new();
    for reason in BlockReason::ALL {
        let [at, by, detail, until] = BLOCK_PREFIXES.map(|prefix| format!("{prefix}{reason}"));
        if !r.group(&[&at, &by, &detail])? {
            continue;
        }
        let block = Block {
            blocked_at: r.get(&at)?,
            by: r.text(&by, 1, MAX_NAME_BYTES)?,
            detail: r.text(&detail, 0, MAX_TEXT_BYTES)?,
            until: r.get_opt(&until)?,
        };
        blocks.insert(*reason, block);
    }
    Ok(blocks)
}

fn read_progress(r: &Reader<'_>) -> Result<Option<Progress>, DecodeError> {
    let updated_at: Option<TimestampMs> = r.get_opt("progress_updated_at")?;
    let pct = r.with_opt("progress_pct", |bytes| match u8::read(bytes)? {
        pct if pct <= 100 => Ok(pct),
        _ => Err(DecodeCause::OutOfRange),
    })?;
    let message = r.text_opt("progress_message", 0, MAX_TEXT_BYTES)?;
    Ok(updated_at.map(|updated_at| Progress { pct, message, updated_at }))
}

fn read_last_call(r: &Reader<'_>) -> Result<Option<LastCall>, DecodeError> {
    if !r.group(&["last_operation", "last_by", "last_run", "last_digest", "last_answer"])? {
        return Ok(None);
    }
    Ok(Some(LastCall {
        operation: r.get("last_operation")?,
        by: r.get("last_by")?,
        run: r.get("last_run")?,
        digest: r.get("last_digest")?,
        answer: r.with("last_answer", read_json)?,
    }))
}

fn read_lease(r: &Reader<'_>) -> Result<Option<LeaseRecord>, DecodeError> {
    const GROUP: [&str; 6] = [
        "lease_id",
        "lease_claim_kind",
        "lease_worker_id",
        "lease_worker_instance_id",
        "lease_acquired_at",
        "lease_expires_at",
    ];
    if !r.group(&GROUP)? {
        return Ok(None);
    }
    Ok(Some(LeaseRecord {
        lease_id: r.get("lease_id")?,
        claim_kind: r.get("lease_claim_kind")?,
        worker_id: r.get("lease_worker_id")?,
        worker_instance_id: r.get("lease_worker_instance_id")?,
        acquired_at: r.get("lease_acquired_at")?,
        expires_at: r.get("lease_expires_at")?,
        renewed_at: r.get_opt("lease_renewed_at")?,
    }))
}

fn read_grant(r: &Reader<'_>) -> Result<Option<GrantRecord>, DecodeError> {
    if !r.group(&["grant_worker_id", "grant_worker_instance_id", "granted_at", "grant_expires_at"])? {
        return Ok(None);
    }
    Ok(Some(GrantRecord {
        worker_id: r.get("grant_worker_id")?,
        worker_instance_id: r.get("grant_worker_instance_id")?,
        granted_at: r.get("granted_at")?,
        expires_at: r.get("grant_expires_at")?,
    }))
}

/// Whether the answer is one of the operation's, and the caller one whose first answer is kept.
fn is_answer_of(call: &LastCall) -> bool {
    let by_worker = matches!(call.by, LastBy::Worker(_));
    match call.operation {
        LastOperation::CompleteExecution => call.answer == LastAnswer::Completed,
        LastOperation::FailExecution => match call.answer {
            // An operator's failure is always final.
            LastAnswer::RetryScheduled { .. } => by_worker,
            answer => answer == LastAnswer::Ended,
        },
        LastOperation::CancelExecution => matches!(call.answer, LastAnswer::Cancelled { .. }),
        LastOperation::DelayExecution => by_worker && matches!(call.answer, LastAnswer::Delayed { .. }),
        LastOperation::MoveToWaitingChildren => by_worker && matches!(call.answer, LastAnswer::Moved { .. }),
    }
}

impl ExecutionRecord {
    /// The names of the flat form.
    pub const REGISTRY: Registry = Registry {
        record: "execution",
        fields: &[
            "execution_id",
            "namespace",
            "lane_id",
            "kind",
            "policy",
            "creator",
            "created_at",
            "fingerprint",
            "idempotency_key",
            "idempotency_scope",
            "idempotency_expires_at",
            "flow_id",
            "lifecycle_phase",
            "ownership_state",
            "eligibility_state",
            "blocking_reason",
            "terminal_outcome",
            "attempt_state",
            "priority",
            "attempt_count",
            "lease_epoch",
            "retry_count",
            "reclaim_count",
            "total_retries",
            "total_reclaims",
            "replay_count",
            "replay_reason",
            "replayed_by",
            "replayed_at",
            "replay_digest",
            "started_at",
            "completed_at",
            "purge_at",
            "end_cause",
            "ended_by",
            "failure_reason",
            "failure_category",
            "cancel_reason",
            "deadline_at",
            "not_before",
            "not_before_kind",
            "progress_updated_at",
            "progress_pct",
            "progress_message",
            "signal_count",
            "signal_bytes",
            "next_signal_seq",
            "waitpoint_count",
            "last_operation",
            "last_by",
            "last_run",
            "last_digest",
            "last_answer",
            "last_transition_at",
            "last_mutation_at",
            "lease_id",
            "lease_claim_kind",
            "lease_worker_id",
            "lease_worker_instance_id",
            "lease_acquired_at",
            "lease_expires_at",
            "lease_renewed_at",
            "grant_worker_id",
            "grant_worker_instance_id",
            "granted_at",
            "grant_expires_at",
        ],
        prefixes: &["tag:", "block_at:", "block_by:", "block_detail:", "block_until:"],
    };

    /// The flat form: without payload and its encoding, which are kept beside it; with lease and grant.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut w = Writer::new();
        w.put("execution_id", &self.execution_id)
            .put("namespace", &self.namespace)
            .put("lane_id", &self.lane_id)
            .text("kind", &self.kind)
            .raw("policy", write_json(&*self.policy))
            .text_opt("creator", self.creator.as_deref())
            .put("created_at", &self.created_at)
            .put("fingerprint", &self.fingerprint.get())
            .put_opt("flow_id", self.flow_id.as_ref())
            .put("lifecycle_phase", &self.vector.lifecycle_phase)
            .put("ownership_state", &self.vector.ownership_state)
            .put("eligibility_state", &self.vector.eligibility_state)
            .put("blocking_reason", &self.vector.blocking_reason)
            .put("terminal_outcome", &self.vector.terminal_outcome)
            .put("attempt_state", &self.vector.attempt_state)
            .put("priority", &self.priority)
            .tags(&self.tags)
            .put("attempt_count", &self.attempt_count)
            .put("lease_epoch", &self.lease_epoch)
            .put("retry_count", &self.retry_count)
            .put("reclaim_count", &self.reclaim_count)
            .put("total_retries", &self.total_retries)
            .put("total_reclaims", &self.total_reclaims)
            .put("replay_count", &self.replay_count)
            .put_opt("started_at", self.started_at.as_ref())
            .put_opt("purge_at", self.purge_at.as_ref())
            .text_opt("failure_reason", self.failure_reason.as_deref())
            .text_opt("failure_category", self.failure_category.as_deref())
            .text_opt("cancel_reason", self.cancel_reason.as_deref())
            .put_opt("deadline_at", self.deadline_at.as_ref())
            .put("signal_count", &self.signal_count)
            .put("signal_bytes", &self.signal_bytes)
            .put("next_signal_seq", &self.next_signal_seq)
            .put("waitpoint_count", &self.waitpoint_count)
            .put("last_transition_at", &self.last_transition_at)
            .put("last_mutation_at", &self.last_mutation_at);
        write_replay(&mut w, self.replay.as_ref());
        write_end(&mut w, "completed_at", self.ended.as_ref());
        if let Some(key) = &self.idempotency {
            w.text("idempotency_key", &key.key)
                .put("idempotency_scope", &key.scope)
                .put("idempotency_expires_at", &key.expires_at);
        }
        if let Some(not_before) = &self.not_before {
            w.put("not_before", &not_before.at).put("not_before_kind", &not_before.kind);
        }
        for (reason, block) in &self.blocks {
            let [at, by, detail, until] = BLOCK_PREFIXES.map(|prefix| format!("{prefix}{reason}"));
            w.put(&at, &block.blocked_at)
                .text(&by, &block.by)
                .text(&detail, &block.detail)
                .put_opt(&until, block.until.as_ref());
        }
        if let Some(progress) = &self.progress {
            w.put("progress_updated_at", &progress.updated_at)
                .put_opt("progress_pct", progress.pct.as_ref())
                .text_opt("progress_message", progress.message.as_deref());
        }
        if let Some(call) = &self.last_call {
            w.put("last_operation", &call.operation)
                .put("last_by", &call.by)
                .put("last_run", &call.run)
                .put("last_digest", &call.digest)
                .raw("last_answer", write_json(&call.answer));
        }
        if let Some(lease) = &self.lease {
            w.put("lease_id", &lease.lease_id)
                .put("lease_claim_kind", &lease.claim_kind)
                .put("lease_worker_id", &lease.worker_id)
                .put("lease_worker_instance_id", &lease.worker_instance_id)
                .put("lease_acquired_at", &lease.acquired_at)
                .put("lease_expires_at", &lease.expires_at)
                .put_opt("lease_renewed_at", lease.renewed_at.as_ref());
        }
        if let Some(grant) = &self.grant {
            w.put("grant_worker_id", &grant.worker_id)
                .put("grant_worker_instance_id", &grant.worker_instance_id)
                .put("granted_at", &grant.granted_at)
                .put("grant_expires_at", &grant.expires_at);
        }
        w.finish()
    }

    /// The record of `execution_id`, read strictly.
    ///
    /// # Errors
    /// The first [`DecodeError`]: version, unknown fields by name, fields in the order of the table, rules between
    /// fields.
    pub fn decode(execution_id: ExecutionId, map: &FlatMap) -> Result<Self, DecodeError> {
        let r = Reader::open(Self::REGISTRY, map)?;
        r.same_id(r.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        // Fields are read in the order of the table, which decides what is reported first.
        let purge_at;
        let record = Self {
            execution_id,
            namespace: r.get("namespace")?,
            lane_id: r.get("lane_id")?,
            kind: r.text("kind", 1, MAX_NAME_BYTES)?,
            policy: r.with("policy", read_policy)?,
            creator: r.text_opt("creator", 1, MAX_NAME_BYTES)?,
            created_at: r.get("created_at")?,
            fingerprint: r.get::<Digest>("fingerprint")?.into(),
            idempotency: read_key(&r)?,
            flow_id: r.get_opt("flow_id")?,
            vector: StateVector {
                lifecycle_phase: r.get("lifecycle_phase")?,
                ownership_state: r.get("ownership_state")?,
                eligibility_state: r.get("eligibility_state")?,
                blocking_reason: r.get("blocking_reason")?,
                terminal_outcome: r.get("terminal_outcome")?,
                attempt_state: r.get("attempt_state")?,
            },
            priority: r.get("priority")?,
            tags: r.tags()?,
            attempt_count: r.get("attempt_count")?,
            lease_epoch: r.get("lease_epoch")?,
            retry_count: r.get("retry_count")?,
            reclaim_count: r.get("reclaim_count")?,
            total_retries: r.get("total_retries")?,
            total_reclaims: r.get("total_reclaims")?,
            replay_count: r.get("replay_count")?,
            replay: read_replay(&r)?,
            started_at: r.get_opt("started_at")?,
            ended: match r.group(&["completed_at", "end_cause", "ended_by"])? {
                true => {
                    let at = r.get("completed_at")?;
                    purge_at = r.get_opt("purge_at")?;
                    Some(EndMark { at, cause: r.get("end_cause")?, by: r.get("ended_by")? })
                }
                false => {
                    purge_at = r.get_opt("purge_at")?;
                    None
                }
            },
            purge_at,
            failure_reason: r.text_opt("failure_reason", 0, MAX_TEXT_BYTES)?,
            failure_category: r.text_opt("failure_category", 1, MAX_NAME_BYTES)?,
            cancel_reason: r.text_opt("cancel_reason", 0, MAX_TEXT_BYTES)?,
            deadline_at: r.get_opt("deadline_at")?,
            not_before: read_not_before(&r)?,
            blocks: read_blocks(&r)?,
            progress: read_progress(&r)?,
            signal_count: r.get("signal_count")?,
            signal_bytes: r.get("signal_bytes")?,
            next_signal_seq: r.with("next_signal_seq", |bytes| match u64::read(bytes)? {
                0 => Err(DecodeCause::OutOfRange),
                seq => Ok(seq),
            })?,
            waitpoint_count: r.get("waitpoint_count")?,
            last_call: read_last_call(&r)?,
            last_transition_at: r.get("last_transition_at")?,
            last_mutation_at: r.get("last_mutation_at")?,
            lease: read_lease(&r)?,
            grant: read_grant(&r)?,
        };
        record.check_rules(&r)?;
        Ok(record)
    }

    /// The rules between fields, in the order of the table.
    fn check_rules(&self, r: &Reader<'_>) -> Result<(), DecodeError> {
        let name = self.vector.name().ok_or_else(|| r.fail("lifecycle_phase", DecodeCause::IllegalState))?;
        let terminal = name == StateName::Done;
        let attempted = self.attempt_count > 0;
        if let Some(key) = &self.idempotency {
            r.ensure(key.scope == KeyScope::Namespace || self.flow_id.is_some(), "idempotency_scope")?;
        }
        let attempt_state_fits = match self.vector.attempt_state {
            AttemptState::None | AttemptState::PendingFirstAttempt => !attempted,
            AttemptState::PendingReplayAttempt => true,
            AttemptState::PendingRetryAttempt
            | AttemptState::RunningAttempt
            | AttemptState::AttemptInterrupted
            | AttemptState::AttemptTerminal => attempted,
        };
        r.ensure(attempt_state_fits, "attempt_count")?;
        r.ensure(self.replay.is_some() == (self.replay_count > 0), "replay_reason")?;
        r.ensure(self.ended.is_some() == terminal, "completed_at")?;
        r.ensure(self.purge_at.is_none() || (terminal && self.flow_id.is_none()), "purge_at")?;
        for (reason, _) in r.prefixed("block_until:") {
            let stands = reason.parse().is_ok_and(|reason: BlockReason| self.blocks.contains_key(&reason));
            r.ensure(stands, &format!("block_until:{reason}"))?;
        }
        if let Some(reason) = self.blocks.keys().next() {
            let may_be_blocked = self.vector.is_runnable() || self.vector.is_reclaimable();
            r.ensure(may_be_blocked, &format!("block_at:{reason}"))?;
        }
        for field in ["progress_pct", "progress_message"] {
            r.ensure(self.progress.is_some() || !r.has(field), field)?;
        }
        if let Some(call) = &self.last_call {
            r.ensure(is_answer_of(call), "last_answer")?;
        }
        r.ensure(self.lease.is_some() == (name == StateName::Running), "lease_id")?;
        r.ensure(self.lease.is_some() || !r.has("lease_renewed_at"), "lease_renewed_at")
    }
}
