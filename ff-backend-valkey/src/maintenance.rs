//! Domain maintenance.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{CorruptEntry, RebuildIndexesArgs, RebuildReport, SweepArgs, SweepKind, SweepReport};
use ff_core::engine_backend::MaintenanceOps;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, FlowId};
use uuid::Uuid;

use crate::ValkeyBackend;
use crate::call::unreadable;

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
            let (of, uuid) = id.split_first().ok_or_else(|| unreadable("an id"))?;
            let uuid = Uuid::from_slice(uuid).map_err(|_| unreadable("an id"))?;
            let id = match of {
                0 => ExecutionId::from_parts(args.partition, uuid).to_string(),
                _ => FlowId::from_parts(args.partition, uuid).to_string(),
            };
            report.corrupt.push(CorruptEntry { kind, id });
        }
        report.more = reply.flag()?;
        report.next_due_at = reply.at_opt()?;
        Ok(report)
    }

    async fn rebuild_indexes(&self, args: RebuildIndexesArgs) -> Result<RebuildReport, EngineError> {
        args.check(self.fixed())?;
        Err(EngineError::Unsupported { what: "rebuild_indexes".to_owned() })
    }
}
