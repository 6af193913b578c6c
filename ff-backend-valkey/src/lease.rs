//! Domain lease.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    MarkLeaseExpiredArgs, MarkLeaseExpiredResult, RenewLeaseArgs, RenewLeaseResult, RevokeLeaseArgs, RevokeLeaseResult,
};
use ff_core::engine_backend::LeaseOps;
use ff_core::error::EngineError;
use ff_core::ids::{LeaseEpoch, LeaseId};

use crate::ValkeyBackend;

#[async_trait]
impl LeaseOps for ValkeyBackend {
    async fn renew_lease(&self, args: RenewLeaseArgs) -> Result<RenewLeaseResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).fence(&args.fence).num(args.lease_ttl_ms);
        let mut reply = self.at("ff_renew_lease", args.execution_id.partition(), pack).await?;
        Ok(RenewLeaseResult::Renewed {
            lease_expires_at: reply.at()?,
            deadline_at: reply.at_opt()?,
            attempt_deadline_at: reply.at_opt()?,
            summary: reply.summary()?,
        })
    }

    async fn mark_lease_expired(&self, args: MarkLeaseExpiredArgs) -> Result<MarkLeaseExpiredResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).num(args.lease_epoch.get());
        let mut reply = self.at("ff_mark_lease_expired", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "lost" => MarkLeaseExpiredResult::Lost { summary: reply.summary()? },
            "ended" => MarkLeaseExpiredResult::Ended { summary: reply.summary()? },
            "not_due" => MarkLeaseExpiredResult::NotDue { cause: reply.word_of()?, summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn revoke_lease(&self, args: RevokeLeaseArgs) -> Result<RevokeLeaseResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).uuid(args.lease_id.uuid()).text(&args.reason).text(&args.by);
        let mut reply = self.at("ff_revoke_lease", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "revoked" => RevokeLeaseResult::Revoked {
                lease_id: LeaseId::from_uuid(reply.uuid()?),
                lease_epoch: LeaseEpoch(reply.num()?),
                summary: reply.summary()?,
            },
            "already_released" => RevokeLeaseResult::AlreadyReleased { summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }
}
