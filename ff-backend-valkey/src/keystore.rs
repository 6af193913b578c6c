//! Domain keystore.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    ListWaitpointHmacKidsArgs, RevokeWaitpointKidArgs, RevokeWaitpointKidResult, RotateWaitpointHmacSecretArgs,
    RotateWaitpointHmacSecretOutcome, VerifyingKid, WaitpointHmacKids,
};
use ff_core::engine_backend::KeystoreOps;
use ff_core::error::EngineError;

use crate::ValkeyBackend;

#[async_trait]
impl KeystoreOps for ValkeyBackend {
    async fn rotate_waitpoint_hmac_secret(
        &self,
        args: RotateWaitpointHmacSecretArgs,
    ) -> Result<RotateWaitpointHmacSecretOutcome, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.text(args.new_kid.as_str())
            .bytes(args.new_secret.expose())
            .digest(&args.new_secret.digest())
            .num(args.grace_ms);
        let mut reply = self.at("ff_rotate_waitpoint_hmac_secret", args.partition, pack).await?;
        Ok(match reply.word() {
            "rotated" => {
                RotateWaitpointHmacSecretOutcome::Rotated { previous_kid: reply.kid_opt()?, new_kid: reply.kid()? }
            }
            "already_current" => RotateWaitpointHmacSecretOutcome::AlreadyCurrent { kid: reply.kid()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn revoke_waitpoint_kid(
        &self,
        args: RevokeWaitpointKidArgs,
    ) -> Result<RevokeWaitpointKidResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.text(args.kid.as_str());
        let mut reply = self.at("ff_revoke_waitpoint_kid", args.partition, pack).await?;
        Ok(match reply.word() {
            "revoked" => RevokeWaitpointKidResult::Revoked { kid: reply.kid()? },
            "already_revoked" => RevokeWaitpointKidResult::AlreadyRevoked { kid: reply.kid()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn list_waitpoint_hmac_kids(
        &self,
        args: ListWaitpointHmacKidsArgs,
    ) -> Result<WaitpointHmacKids, EngineError> {
        args.check(self.fixed())?;
        let pack = self.pack();
        let mut reply = self.at("ff_list_waitpoint_hmac_kids", args.partition, pack).await?;
        let current_kid = reply.kid_opt()?;
        let mut verifying = Vec::new();
        let mut kids = reply.list()?;
        while !kids.is_over() {
            verifying.push(VerifyingKid::new(kids.kid()?, kids.at()?, kids.at()?));
        }
        Ok(WaitpointHmacKids::new(current_kid, verifying))
    }
}
