//! Operations that this backend lacks yet.

use async_trait::async_trait;
use ff_core::contracts::*; // the domains name nearly all of it
use ff_core::engine_backend::*; // and their traits
use ff_core::error::EngineError;

use crate::ValkeyBackend;

macro_rules! unsupported {
    ($($Trait:ident { $($method:ident($Args:ident) -> $Result:ident;)* })*) => { $(
        #[async_trait]
        impl $Trait for ValkeyBackend {
            $(async fn $method(&self, _args: $Args) -> Result<$Result, EngineError> {
                Err(EngineError::Unsupported { what: stringify!($method).to_owned() })
            })*
        }
    )* };
}

unsupported! {
    BudgetOps {
        create_budget(CreateBudgetArgs) -> CreateBudgetResult;
        report_usage(ReportUsageArgs) -> ReportUsageResult;
        reset_budget(ResetBudgetArgs) -> ResetBudgetResult;
        get_budget_status(GetBudgetStatusArgs) -> BudgetStatus;
    }
    QuotaOps {
        create_quota_policy(CreateQuotaPolicyArgs) -> CreateQuotaPolicyResult;
        check_admission(CheckAdmissionArgs) -> CheckAdmissionResult;
        release_admission(ReleaseAdmissionArgs) -> ReleaseAdmissionResult;
        get_quota_status(GetQuotaStatusArgs) -> QuotaStatus;
    }
    StreamOps {
        append_frame(AppendFrameArgs) -> AppendFrameResult;
        read_frames(ReadFramesArgs) -> ReadFramesResult;
        tail_frames(TailFramesArgs) -> TailFramesResult;
    }
}
