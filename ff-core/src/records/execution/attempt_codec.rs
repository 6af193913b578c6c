//! The flat forms of attempts and runs: `resources.md`, section 6.

use super::codec::{read_replay, write_end, write_replay};
use super::{AttemptRecord, ClosedRun, EndMark, RunRecord};
use crate::bounds::{MAX_LABEL_BYTES, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::contracts::decode::DecodeError;
use crate::ids::{AttemptIndex, ExecutionId};
use crate::records::flat::{FlatMap, Reader, Registry, Writer};
use crate::state::{AttemptType, TerminalOutcome};

impl AttemptRecord {
    /// The names of the flat form.
    pub const REGISTRY: Registry = Registry {
        record: "attempt",
        fields: &[
            "execution_id",
            "attempt_index",
            "attempt_id",
            "attempt_type",
            "run",
            "started_at",
            "attempt_state",
            "lease_id",
            "lease_epoch",
            "worker_id",
            "worker_instance_id",
            "attempt_deadline_at",
            "timeout_remaining_ms",
            "pause_kind",
            "paused_at",
            "resumed_at",
            "ended_at",
            "end_cause",
            "ended_by",
            "failure_reason",
            "failure_category",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut w = Writer::new();
        w.put("execution_id", &self.execution_id)
            .put("attempt_index", &self.attempt_index)
            .put("attempt_id", &self.attempt_id)
            .put("attempt_type", &self.attempt_type)
            .put("run", &self.run)
            .put("started_at", &self.started_at)
            .put("attempt_state", &self.attempt_state)
            .put("lease_id", &self.lease_id)
            .put("lease_epoch", &self.lease_epoch)
            .put("worker_id", &self.worker_id)
            .put("worker_instance_id", &self.worker_instance_id)
            .put_opt("attempt_deadline_at", self.attempt_deadline_at.as_ref())
            .put_opt("timeout_remaining_ms", self.timeout_remaining_ms.as_ref())
            .put_opt("pause_kind", self.pause_kind.as_ref())
            .put_opt("paused_at", self.paused_at.as_ref())
            .put_opt("resumed_at", self.resumed_at.as_ref())
            .text_opt("failure_reason", self.failure_reason.as_deref())
            .text_opt("failure_category", self.failure_category.as_deref());
        write_end(&mut w, "ended_at", self.ended.as_ref());
        w.finish()
    }

    /// The record of one attempt of `execution_id`, read strictly.
    ///
    /// # Errors
    /// The first [`DecodeError`]: version, unknown fields by name, fields in the order of the table, rules between
    /// fields.
    pub fn decode(execution_id: ExecutionId, attempt_index: AttemptIndex, map: &FlatMap) -> Result<Self, DecodeError> {
        let r = Reader::open(Self::REGISTRY, map)?;
        r.same_id(r.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        r.same_id(r.get::<AttemptIndex>("attempt_index")? == attempt_index, "attempt_index")?;
        // Fields are read in the order of the table, which decides what is reported first.
        let record = Self {
            execution_id,
            attempt_index,
            attempt_id: r.get("attempt_id")?,
            attempt_type: r.get("attempt_type")?,
            run: r.get("run")?,
            started_at: r.get("started_at")?,
            attempt_state: r.get("attempt_state")?,
            lease_id: r.get("lease_id")?,
            lease_epoch: r.get("lease_epoch")?,
            worker_id: r.get("worker_id")?,
            worker_instance_id: r.get("worker_instance_id")?,
            attempt_deadline_at: r.get_opt("attempt_deadline_at")?,
            timeout_remaining_ms: r.get_opt("timeout_remaining_ms")?,
            pause_kind: match r.group(&["pause_kind", "paused_at"])? {
                true => Some(r.get("pause_kind")?),
                false => None,
            },
            paused_at: r.get_opt("paused_at")?,
            resumed_at: r.get_opt("resumed_at")?,
            ended: match r.group(&["ended_at", "end_cause", "ended_by"])? {
                true => Some(EndMark { at: r.get("ended_at")?, cause: r.get("end_cause")?, by: r.get("ended_by")? }),
                false => None,
            },
            failure_reason: r.text_opt("failure_reason", 0, MAX_TEXT_BYTES)?,
            failure_category: r.text_opt("failure_category", 1, MAX_NAME_BYTES)?,
        };
        let first = record.attempt_index == AttemptIndex(0);
        r.ensure(first == (record.attempt_type == AttemptType::Initial), "attempt_type")?;
        r.ensure(record.resumed_at.is_none() || record.pause_kind.is_some(), "resumed_at")?;
        r.ensure(record.ended.is_some() == record.attempt_state.is_final(), "ended_at")?;
        Ok(record)
    }
}

impl RunRecord {
    /// The names of the flat form.
    pub const REGISTRY: Registry = Registry {
        record: "run",
        fields: &[
            "execution_id",
            "run",
            "result",
            "result_encoding",
            "terminal_outcome",
            "end_cause",
            "ended_by",
            "failure_reason",
            "failure_category",
            "cancel_reason",
            "completed_at",
            "deadline_at",
            "replay_reason",
            "replayed_by",
            "replayed_at",
            "replay_digest",
        ],
        prefixes: &[],
    };

    /// The flat form.
    #[must_use]
    pub fn encode(&self) -> FlatMap {
        let mut w = Writer::new();
        w.put("execution_id", &self.execution_id)
            .put("run", &self.run)
            .text_opt("result_encoding", self.result_encoding.as_deref());
        if let Some(result) = &self.result {
            w.raw("result", result.clone());
        }
        if let Some(closed) = &self.closed {
            w.put("terminal_outcome", &closed.outcome)
                .text_opt("failure_reason", closed.failure_reason.as_deref())
                .text_opt("failure_category", closed.failure_category.as_deref())
                .text_opt("cancel_reason", closed.cancel_reason.as_deref())
                .put_opt("deadline_at", closed.deadline_at.as_ref());
            write_end(&mut w, "completed_at", Some(&closed.ended));
            write_replay(&mut w, closed.replay.as_ref());
        }
        w.finish()
    }

    /// The record of one run of `execution_id`, read strictly.
    ///
    /// # Errors
    /// The first [`DecodeError`]: version, unknown fields by name, fields in the order of the table, rules between
    /// fields.
    pub fn decode(execution_id: ExecutionId, run: u32, map: &FlatMap) -> Result<Self, DecodeError> {
        let r = Reader::open(Self::REGISTRY, map)?;
        r.same_id(r.get::<ExecutionId>("execution_id")? == execution_id, "execution_id")?;
        r.same_id(r.get::<u32>("run")? == run, "run")?;
        let result = r.optional("result").cloned();
        let result_encoding = r.text_opt("result_encoding", 1, MAX_LABEL_BYTES)?;
        let end = match r.group(&["terminal_outcome", "end_cause", "ended_by", "completed_at"])? {
            true => {
                let outcome: TerminalOutcome = r.get("terminal_outcome")?;
                Some((outcome, r.get("end_cause")?, r.get("ended_by")?))
            }
            false => None,
        };
        let failure_reason = r.text_opt("failure_reason", 0, MAX_TEXT_BYTES)?;
        let failure_category = r.text_opt("failure_category", 1, MAX_NAME_BYTES)?;
        let cancel_reason = r.text_opt("cancel_reason", 0, MAX_TEXT_BYTES)?;
        let completed_at = r.get_opt("completed_at")?;
        let deadline_at = r.get_opt("deadline_at")?;
        let replay = read_replay(&r)?;

        let outcome = end.as_ref().map(|(outcome, ..)| *outcome);
        r.ensure(outcome != Some(TerminalOutcome::None), "terminal_outcome")?;
        let may_have_result = outcome.is_none_or(|o| o == TerminalOutcome::Success);
        for field in ["result", "result_encoding"] {
            r.ensure(may_have_result || !r.has(field), field)?;
        }
        for field in ["failure_reason", "failure_category", "cancel_reason", "deadline_at"] {
            r.ensure(outcome.is_some() || !r.has(field), field)?;
        }
        r.ensure(replay.is_some() == (outcome.is_some() && run > 0), "replay_reason")?;
        let closed = end.zip(completed_at).map(|((outcome, cause, by), at)| ClosedRun {
            outcome,
            ended: EndMark { at, cause, by },
            failure_reason,
            failure_category,
            cancel_reason,
            deadline_at,
            replay,
        });
        Ok(Self { execution_id, run, result, result_encoding, closed })
    }
}
