//! Domain maintenance.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    CorruptEntry, IndexKind, RebuildIndexesArgs, RebuildReport, RepairAction, SweepArgs, SweepKind, SweepReport,
};
use ff_core::engine_backend::MaintenanceOps;
use ff_core::error::EngineError;
use ff_core::ids::{EdgeId, ExecutionId, FlowId, LaneId};
use ff_core::state::PublicState;
use uuid::Uuid;

use crate::ValkeyBackend;
use crate::call::unreadable;

/// The text form of an id that a report names: what it is of (0 an execution, 1 a flow, 2 an edge), and its uuid.
fn named(partition: u16, id: &[u8]) -> Result<String, EngineError> {
    let (of, uuid) = id.split_first().ok_or_else(|| unreadable("an id"))?;
    let uuid = Uuid::from_slice(uuid).map_err(|_| unreadable("an id"))?;
    Ok(match of {
        0 => ExecutionId::from_parts(partition, uuid).to_string(),
        1 => FlowId::from_parts(partition, uuid).to_string(),
        _ => EdgeId::from_uuid(uuid).to_string(),
    })
}

#[async_trait]
impl MaintenanceOps for ValkeyBackend {
    async fn sweep(&self, args: SweepArgs) -> Result<SweepReport, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.num(u64::from(args.limit));
        let mut reply = self.at("ff_sweep", args.partition, pack).await?;
        let mut report = SweepReport::default();
        let mut counts = reply.list()?;
        while !counts.is_over() {
            let kind = counts.num()?.checked_sub(1).and_then(|n| SweepKind::ALL.get(usize::try_from(n).ok()?));
            let kind = *kind.ok_or_else(|| unreadable("a kind of work"))?;
            *report.counts.entry(kind).or_default() += counts.num()?;
        }
        let mut corrupt = reply.list()?;
        while !corrupt.is_over() {
            let kind = corrupt.word_of()?;
            let id = corrupt.bytes()?;
            report.corrupt.push(CorruptEntry { kind, id: named(args.partition, &id)? });
        }
        report.more = reply.flag()?;
        report.next_due_at = reply.at_opt()?;
        Ok(report)
    }

    async fn rebuild_indexes(&self, args: RebuildIndexesArgs) -> Result<RebuildReport, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.text_opt(args.cursor.as_deref()).num(u64::from(args.limit));
        let mut reply = self.at("ff_rebuild_indexes", args.partition, pack).await?;
        let mut report = RebuildReport { examined: reply.num()?, ..RebuildReport::default() };
        let mut repairs = reply.list()?;
        while !repairs.is_over() {
            let code = usize::try_from(repairs.num()?).unwrap_or(0);
            let n = repairs.num()?;
            let kind = (code / 4).checked_sub(1).and_then(|k| IndexKind::ALL.get(k));
            let action = (code % 4).checked_sub(1).and_then(|a| RepairAction::ALL.get(a));
            let (Some(kind), Some(action)) = (kind, action) else { return Err(unreadable("a repair")) };
            *report.repaired.entry(*kind).or_default().entry(*action).or_default() += n;
        }
        let mut corrupt = reply.list()?;
        while !corrupt.is_over() {
            report.corrupt.push(named(args.partition, &corrupt.bytes()?)?);
        }
        let mut lanes = reply.list()?;
        while !lanes.is_over() {
            let lane = LaneId::new(lanes.text()?).map_err(|_| unreadable("a lane"))?;
            let state = usize::try_from(lanes.num()?).ok().and_then(|n| PublicState::ALL.get(n.checked_sub(1)?));
            let state = *state.ok_or_else(|| unreadable("a public state"))?;
            *report.lane_counts.entry(lane).or_default().entry(state).or_default() += lanes.num()?;
        }
        report.next_cursor = reply.text_opt()?;
        Ok(report)
    }
}
