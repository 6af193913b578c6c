//! Domain budget.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::decode::{decode_budget, decode_budget_key};
use ff_core::contracts::{
    BudgetStatus, CreateBudgetArgs, CreateBudgetResult, GetBudgetStatusArgs, ReportUsageArgs, ReportUsageResult,
    ResetBudgetArgs, ResetBudgetResult,
};
use ff_core::engine_backend::BudgetOps;
use ff_core::error::EngineError;
use ff_core::ids::Dimension;
use ff_core::records::flat::{FlatMap, VERSION};
use ff_core::records::{BudgetKeyRecord, BudgetKeyScope, RememberedCall, UsageContent};
use serde::de::DeserializeOwned;

use crate::ValkeyBackend;
use crate::call::{Reply, unreadable};

/// An answer that the library has just made.
fn answer<T: DeserializeOwned>(reply: &mut Reply) -> Result<T, EngineError> {
    serde_json::from_slice(&reply.bytes()?).map_err(|_| unreadable("the answer of a budget"))
}

/// What is remembered under a dedup key: when, content and first answer follow.
fn remembered(scope: BudgetKeyScope, reply: &mut Reply) -> Result<RememberedCall, EngineError> {
    let fields = [
        ("v", VERSION.into()),
        ("recorded_at", reply.num()?.to_string().into()),
        ("content", reply.bytes()?),
        ("result", reply.bytes()?),
    ];
    let map: FlatMap = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let BudgetKeyRecord { call, .. } = decode_budget_key(scope, &map)?;
    Ok(call)
}

#[async_trait]
impl BudgetOps for ValkeyBackend {
    async fn create_budget(&self, args: CreateBudgetArgs) -> Result<CreateBudgetResult, EngineError> {
        args.check(self.fixed())?;
        let names = args.dimensions.keys().map(Dimension::as_str).collect::<Vec<_>>().join(",");
        let mut pack = self.pack();
        pack.text(args.budget_id.as_str())
            .text(&names)
            .list(|p| {
                for (dimension, limits) in &args.dimensions {
                    for (kind, limit) in [("hard", limits.hard), ("soft", limits.soft)] {
                        if let Some(limit) = limit {
                            p.text(&format!("{kind}:{dimension}")).text(&limit.to_string());
                        }
                    }
                }
            })
            .text(args.enforcement.as_str())
            .text_opt(args.reset_interval_ms.map(|ms| ms.to_string()).as_deref());
        let mut reply = self.at_budget("ff_create_budget", &args.budget_id, pack).await?;
        Ok(match reply.word() {
            "created" => CreateBudgetResult::Created { created_at: reply.at()? },
            "already_exists" => CreateBudgetResult::AlreadyExists { created_at: reply.at()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn report_usage(&self, args: ReportUsageArgs) -> Result<ReportUsageResult, EngineError> {
        args.check(self.fixed())?;
        let content = UsageContent { mode: args.mode, amounts: args.merged()? };
        let mut pack = self.pack();
        pack.text(args.mode.as_str())
            .list(|p| {
                for (dimension, amount) in &content.amounts {
                    p.text(dimension.as_str()).num(*amount);
                }
            })
            .text_opt(args.dedup_key.as_deref())
            .bytes(&content.to_json());
        if args.dedup_key.is_none() {
            pack.once();
        }
        let mut reply = self.at_budget("ff_report_usage", &args.budget_id, pack).await?;
        match reply.word() {
            "usage" => answer(&mut reply),
            "again" => match remembered(BudgetKeyScope::Usage, &mut reply)? {
                RememberedCall::Usage { result, .. } => Ok(result),
                RememberedCall::Reset { .. } => Err(reply.unknown()),
            },
            _ => Err(reply.unknown()),
        }
    }

    async fn reset_budget(&self, args: ResetBudgetArgs) -> Result<ResetBudgetResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.text(&args.by).text_opt(args.dedup_key.as_deref());
        if args.dedup_key.is_none() {
            pack.once();
        }
        let mut reply = self.at_budget("ff_reset_budget", &args.budget_id, pack).await?;
        match reply.word() {
            "reset" => answer(&mut reply),
            "again" => match remembered(BudgetKeyScope::Reset, &mut reply)? {
                RememberedCall::Reset { result, .. } => Ok(result),
                RememberedCall::Usage { .. } => Err(reply.unknown()),
            },
            _ => Err(reply.unknown()),
        }
    }

    async fn get_budget_status(&self, args: GetBudgetStatusArgs) -> Result<BudgetStatus, EngineError> {
        args.check(self.fixed())?;
        let mut reply = self.at_budget("ff_get_budget_status", &args.budget_id, self.pack()).await?;
        let now = reply.at()?;
        let record = decode_budget(&args.budget_id, &reply.list()?.flat_map()?)?;
        Ok(BudgetStatus::of(&record, now))
    }
}
