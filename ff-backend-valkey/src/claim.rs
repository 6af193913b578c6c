//! Domain claim.

use async_trait::async_trait;
use bytes::Bytes;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::decode::DecodeCause;
use ff_core::contracts::{
    AdmissionCandidate, ClaimExecutionArgs, ClaimExecutionResult, ClaimGrant, ClaimKind, ClaimNextArgs,
    ClaimNextResult, ClaimResumedExecutionArgs, ClaimResumedExecutionResult, ClaimedExecution, ClaimedResumedExecution,
    IssueClaimGrantArgs, IssueClaimGrantResult, IssueReclaimGrantArgs, IssueReclaimGrantResult, NextClaim,
    ReclaimExecutionArgs, ReclaimExecutionResult, ReclaimGrant, ResumeCause, ResumeInfo,
};
use ff_core::engine_backend::ClaimOps;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use ff_core::records::PauseKind;

use crate::ValkeyBackend;
use crate::call::{NONE, Pack, Reply, unreadable};
use crate::flow;
use crate::history;
use crate::record::{self, corrupt};

/// The holder as records name it.
fn holder(worker: &WorkerId, instance: &WorkerInstanceId) -> String {
    format!("{worker}\n{instance}")
}

fn tokens(pack: &mut Pack, capabilities: &Capabilities) {
    pack.list(|p| {
        for token in capabilities.iter() {
            p.text(token);
        }
    });
}

/// What was read, if it can be decoded. A record that the server's functions take and the decoders do not is in nobody's
/// way: its lease runs out, and what else was claimed is not lost with it.
fn passing_over<T>(read: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(EngineError::Corruption(error)) => {
            tracing::error!(%error, "a claimed record cannot be decoded");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The argument of `claim_next`, as `lua/claim.lua` takes it. None beyond lengths that no valid arguments reach.
fn next_claims(args: &ClaimNextArgs, clock: Option<u64>) -> Option<Pack> {
    let holder = holder(&args.worker_id, &args.worker_instance_id);
    let lane = args.lane_id.as_str();
    let mut buf = Vec::with_capacity(64 + lane.len() + holder.len() + args.slots.len() * 32);
    buf.extend_from_slice(&clock.unwrap_or(NONE).to_be_bytes()[1..]);
    buf.extend_from_slice(&args.lease_ttl_ms.to_be_bytes()[1..]);
    buf.push(u8::try_from(args.slots.len()).ok()?);
    buf.extend_from_slice(&u16::try_from(lane.len()).ok()?.to_be_bytes());
    buf.extend_from_slice(&u16::try_from(holder.len()).ok()?.to_be_bytes());
    buf.extend_from_slice(lane.as_bytes());
    buf.extend_from_slice(holder.as_bytes());
    for slot in &args.slots {
        buf.extend_from_slice(slot.lease_id.uuid().as_bytes());
    }
    for slot in &args.slots {
        buf.extend_from_slice(slot.attempt_id.uuid().as_bytes());
    }
    buf.extend_from_slice(args.capabilities.joined().as_bytes());
    Some(Pack::whole(buf, None))
}

/// One claim: uuid, kind, record, payload, inputs, resume information.
fn claim(reply: &mut Reply) -> Result<NextClaim, EngineError> {
    let id = reply.execution_id()?;
    let _kind = reply.num()?;
    let stored = record::execution(id, &reply.bytes()?)?;
    let payload = reply.bytes_opt()?.unwrap_or_else(Bytes::new);
    let inputs = flow::inputs(reply.list_opt()?)?;
    let resumed = reply.list_opt()?;
    let illegal = || corrupt("execution", "attempt_count", DecodeCause::IllegalState);
    let attempt = stored.attempt.as_ref().ok_or_else(illegal)?;
    let kind = stored.record.lease.as_ref().map(|lease| lease.claim_kind).ok_or_else(illegal)?;
    let claimed =
        ClaimedExecution::of(&stored.record, payload, stored.payload_encoding, attempt, inputs).ok_or_else(illegal)?;
    Ok(match kind {
        ClaimKind::New => NextClaim::New(claimed),
        ClaimKind::Reclaimed => NextClaim::Reclaimed(claimed),
        ClaimKind::Resumed => {
            let cause = match attempt.pause_kind {
                Some(PauseKind::Delay) => ResumeCause::DelayOver,
                Some(PauseKind::Children) => {
                    let member = stored.member.as_ref();
                    ResumeCause::ChildrenDone {
                        satisfied_count: member.map_or(0, |m| m.satisfied),
                        impossible_count: member.map_or(0, |m| m.impossible),
                    }
                }
                Some(PauseKind::Suspension) => {
                    let mut resumed = resumed.ok_or_else(|| unreadable("a claim's suspension"))?;
                    let (suspension, matched) = history::matched(id, &mut resumed)?;
                    let open = || corrupt("suspension", "closed_at", DecodeCause::IllegalState);
                    ResumeCause::Suspension(ResumeInfo::with(&suspension, matched).ok_or_else(open)?)
                }
                None => return Err(unreadable("a claim's cause")),
            };
            NextClaim::Resumed(ClaimedResumedExecution::of(claimed, cause))
        }
    })
}

impl ValkeyBackend {
    /// The record of an execution that holds the grant asked for.
    async fn grant(
        &self,
        function: &str,
        id: ExecutionId,
        who: (&WorkerId, &WorkerInstanceId),
        capabilities: &Capabilities,
        ttl: u64,
    ) -> Result<Reply, EngineError> {
        let mut pack = self.pack();
        pack.uuid(id.uuid()).text(&holder(who.0, who.1));
        tokens(&mut pack, capabilities);
        pack.num(ttl);
        self.at(function, id.partition(), pack).await
    }

    async fn claim_by_id(
        &self,
        function: &str,
        id: ExecutionId,
        who: (&WorkerId, &WorkerInstanceId),
        lease: uuid::Uuid,
        attempt: Option<uuid::Uuid>,
        ttl: u64,
    ) -> Result<NextClaim, EngineError> {
        let mut pack = self.pack();
        pack.uuid(id.uuid()).text(&holder(who.0, who.1)).uuid(lease);
        match attempt {
            Some(attempt) => pack.uuid(attempt),
            None => pack.text(""),
        };
        pack.num(ttl);
        claim(&mut self.at(function, id.partition(), pack).await?.list()?)
    }
}

#[async_trait]
impl ClaimOps for ValkeyBackend {
    async fn issue_claim_grant(&self, args: IssueClaimGrantArgs) -> Result<IssueClaimGrantResult, EngineError> {
        args.check(self.fixed())?;
        let who = (&args.worker_id, &args.worker_instance_id);
        let id = args.execution_id;
        let mut reply = self.grant("ff_issue_claim_grant", id, who, &args.capabilities, args.grant_ttl_ms).await?;
        let stored = record::execution(id, &reply.bytes()?)?;
        ClaimGrant::of(&stored.record).map(IssueClaimGrantResult::Granted).ok_or_else(|| unreadable("a grant"))
    }

    async fn claim_execution(&self, args: ClaimExecutionArgs) -> Result<ClaimExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let who = (&args.worker_id, &args.worker_instance_id);
        let (lease, attempt) = (args.lease_id.uuid(), Some(args.attempt_id.uuid()));
        match self.claim_by_id("ff_claim_execution", args.execution_id, who, lease, attempt, args.lease_ttl_ms).await? {
            NextClaim::New(claimed) => Ok(ClaimExecutionResult::Claimed(claimed)),
            _ => Err(unreadable("another kind of claim")),
        }
    }

    async fn claim_resumed_execution(
        &self,
        args: ClaimResumedExecutionArgs,
    ) -> Result<ClaimResumedExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let who = (&args.worker_id, &args.worker_instance_id);
        let lease = args.lease_id.uuid();
        let id = args.execution_id;
        match self.claim_by_id("ff_claim_resumed_execution", id, who, lease, None, args.lease_ttl_ms).await? {
            NextClaim::Resumed(claimed) => Ok(ClaimResumedExecutionResult::Claimed(claimed)),
            _ => Err(unreadable("another kind of claim")),
        }
    }

    async fn claim_next(&self, args: ClaimNextArgs) -> Result<ClaimNextResult, EngineError> {
        args.check(self.fixed())?;
        let pack = next_claims(&args, self.manual_now()).ok_or_else(|| unreadable("arguments of a claim"))?;
        let mut reply = self.at("ff_claim_next", args.partition, pack).await?;
        let mut claimed = Vec::with_capacity(args.slots.len());
        let mut claims = reply.list()?;
        while !claims.is_over() {
            claimed.extend(passing_over(claim(&mut claims.list()?))?);
        }
        let mut needs_admission = Vec::new();
        let mut candidates = reply.list()?;
        while !candidates.is_over() {
            let id = candidates.execution_id()?;
            let Some(stored) = passing_over(record::execution(id, &candidates.bytes()?))? else { continue };
            needs_admission.push(AdmissionCandidate::of(&stored.record).ok_or_else(|| unreadable("a candidate"))?);
        }
        Ok(ClaimNextResult { claimed, needs_admission, ready_remaining: reply.num()?, next_due_at: reply.at_opt()? })
    }

    async fn issue_reclaim_grant(&self, args: IssueReclaimGrantArgs) -> Result<IssueReclaimGrantResult, EngineError> {
        args.check(self.fixed())?;
        let who = (&args.worker_id, &args.worker_instance_id);
        let id = args.execution_id;
        let mut reply = self.grant("ff_issue_reclaim_grant", id, who, &args.capabilities, args.grant_ttl_ms).await?;
        if reply.word() == "ended" {
            return Ok(IssueReclaimGrantResult::Ended { summary: reply.summary()? });
        }
        let stored = record::execution(id, &reply.bytes()?)?;
        ReclaimGrant::of(&stored.record).map(IssueReclaimGrantResult::Granted).ok_or_else(|| unreadable("a grant"))
    }

    async fn reclaim_execution(&self, args: ReclaimExecutionArgs) -> Result<ReclaimExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let who = (&args.worker_id, &args.worker_instance_id);
        let (lease, attempt) = (args.lease_id.uuid(), Some(args.attempt_id.uuid()));
        let id = args.execution_id;
        match self.claim_by_id("ff_reclaim_execution", id, who, lease, attempt, args.lease_ttl_ms).await? {
            NextClaim::Reclaimed(claimed) => Ok(ReclaimExecutionResult::Reclaimed(claimed)),
            _ => Err(unreadable("another kind of claim")),
        }
    }
}
