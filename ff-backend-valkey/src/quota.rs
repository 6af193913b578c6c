//! Domain quota.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::decode::decode_quota_policy;
use ff_core::contracts::{
    CheckAdmissionArgs, CheckAdmissionResult, CreateQuotaPolicyArgs, CreateQuotaPolicyResult, GetQuotaStatusArgs,
    QuotaStatus, ReleaseAdmissionArgs, ReleaseAdmissionResult,
};
use ff_core::engine_backend::QuotaOps;
use ff_core::error::EngineError;
use ff_core::ids::ExecutionId;
use ff_core::records::AdmissionIdentity;
use uuid::Uuid;

use crate::ValkeyBackend;
use crate::call::unreadable;

/// Partition, uuid and attempt index, big-endian: ordered as execution ids are.
fn packed(identity: &AdmissionIdentity) -> Vec<u8> {
    let id = identity.execution_id;
    let mut bytes = Vec::with_capacity(22);
    bytes.extend_from_slice(&id.partition().to_be_bytes());
    bytes.extend_from_slice(id.uuid().as_bytes());
    bytes.extend_from_slice(&identity.attempt_index.get().to_be_bytes());
    bytes
}

/// Partition and uuid of a waiter.
fn waiter(bytes: &[u8]) -> Option<ExecutionId> {
    let (partition, uuid) = bytes.split_first_chunk::<2>()?;
    Some(ExecutionId::from_parts(u16::from_be_bytes(*partition), Uuid::from_slice(uuid).ok()?))
}

#[async_trait]
impl QuotaOps for ValkeyBackend {
    async fn create_quota_policy(&self, args: CreateQuotaPolicyArgs) -> Result<CreateQuotaPolicyResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.text(args.quota_policy_id.as_str())
            .num_opt(args.max_requests_per_window)
            .num_opt(args.window_ms)
            .num_opt(args.max_concurrent)
            .num(args.jitter_ms);
        let mut reply = self.at_policy("ff_create_quota_policy", &args.quota_policy_id, pack).await?;
        Ok(match reply.word() {
            "created" => CreateQuotaPolicyResult::Created { created_at: reply.at()? },
            "already_exists" => CreateQuotaPolicyResult::AlreadyExists { created_at: reply.at()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn check_admission(&self, args: CheckAdmissionArgs) -> Result<CheckAdmissionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.bytes(&packed(&args.identity()))
            .num(u64::from(args.attempt_index.get()))
            .text(&args.execution_id.to_string())
            .num(args.lease_epoch.get())
            .num(args.slot_ttl_ms);
        let mut reply = self.at_policy("ff_check_admission", &args.quota_policy_id, pack).await?;
        Ok(match reply.word() {
            "admitted" => CheckAdmissionResult::Admitted { slot_expires_at: reply.at_opt()? },
            "rate_exceeded" => {
                CheckAdmissionResult::RateExceeded { retry_at: reply.at()?, retry_after_ms: reply.num()? }
            }
            "concurrency_exceeded" => {
                CheckAdmissionResult::ConcurrencyExceeded { retry_at: reply.at()?, retry_after_ms: reply.num()? }
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn release_admission(&self, args: ReleaseAdmissionArgs) -> Result<ReleaseAdmissionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.bytes(&packed(&args.identity())).num(args.lease_epoch.get());
        let mut reply = self.at_policy("ff_release_admission", &args.quota_policy_id, pack).await?;
        let released = reply.flag()?;
        let mut wake = Vec::new();
        let mut waiters = reply.list()?;
        while !waiters.is_over() {
            wake.push(waiter(&waiters.bytes()?).ok_or_else(|| unreadable("not a waiter"))?);
        }
        Ok(ReleaseAdmissionResult { released, wake })
    }

    async fn get_quota_status(&self, args: GetQuotaStatusArgs) -> Result<QuotaStatus, EngineError> {
        args.check(self.fixed())?;
        let mut reply = self.at_policy("ff_get_quota_status", &args.quota_policy_id, self.pack()).await?;
        let record = decode_quota_policy(&args.quota_policy_id, &reply.list()?.flat_map()?)?;
        let (in_window, oldest) = (reply.num()?, reply.at_opt()?);
        Ok(QuotaStatus::of(&record, in_window, oldest, reply.num()?, reply.num()?))
    }
}
