//! Domain suspension.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::decode::DecodeCause;
use ff_core::contracts::{
    CloseWaitpointArgs, CloseWaitpointResult, CreatePendingWaitpointArgs, CreatePendingWaitpointResult,
    ExpireSuspensionArgs, ExpireSuspensionResult, IssuedToken, IssuedWaitpoint, ListPendingWaitpointsArgs,
    ListPendingWaitpointsResult, PendingWaitpointInfo, ResumeExecutionArgs, ResumeExecutionResult, SignalSource,
    SuspendExecutionArgs, SuspendExecutionResult, SuspensionTimeout, WaitpointBinding, WaitpointCursor,
};
use ff_core::engine_backend::SuspensionOps;
use ff_core::error::EngineError;
use ff_core::ids::{Kid, SuspensionId, WaitpointId};
use ff_core::records::flat::write_json;
use ff_core::state::BlockingReason;
use ff_core::token::PartitionKey;

use crate::ValkeyBackend;
use crate::call::Pack;
use crate::history;
use crate::record::corrupt;

/// The number of a suspended vector's label.
const fn label(reason: BlockingReason) -> u64 {
    match reason {
        BlockingReason::WaitingForApproval => 2,
        BlockingReason::WaitingForCallback => 3,
        BlockingReason::WaitingForToolResult => 4,
        BlockingReason::PausedByOperator => 5,
        BlockingReason::PausedByPolicy => 6,
        BlockingReason::WaitingForBudget => 7,
        // The label of waiting_for_signal and step_boundary; no reason of a suspension has another.
        _ => 1,
    }
}

fn kid(key: Option<&PartitionKey>) -> Option<&str> {
    key.map(|key| &key.kid).map(Kid::as_str)
}

fn sources_of(json: &[u8]) -> Result<Vec<SignalSource>, EngineError> {
    serde_json::from_slice(json).map_err(|_| corrupt("waitpoint", "sources", DecodeCause::BadList))
}

/// What is kept of a suspend as it was given: the fields of the suspension's record that Lua only stores.
fn kept(pack: &mut Pack, args: &SuspendExecutionArgs) {
    pack.list(|p| {
        p.text("reason_code").text(args.reason_code.as_str());
        p.text("resume_policy").bytes(&write_json(&args.resume_policy));
        if let Some(detail) = &args.detail {
            p.text("detail").text(detail);
        }
        if let Some(continuation) = &args.continuation {
            p.text("continuation").bytes(continuation);
        }
        if !args.waitpoints.is_empty() {
            let ids: Vec<_> = args.waitpoint_ids().iter().map(ToString::to_string).collect();
            p.text("waitpoint_ids").text(&ids.join(","));
        }
    });
}

impl ValkeyBackend {
    async fn suspend(
        &self,
        args: &SuspendExecutionArgs,
        key: Option<PartitionKey>,
    ) -> Result<SuspendExecutionResult, EngineError> {
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid())
            .fence(&args.fence)
            .uuid(args.suspension_id.uuid())
            .digest(&args.digest())
            .text_opt(kid(key.as_ref()))
            .list(|p| {
                for binding in &args.waitpoints {
                    p.uuid(binding.waitpoint_id().uuid());
                    match binding {
                        WaitpointBinding::Fresh { sources, .. } => p.bytes(&write_json(sources)),
                        WaitpointBinding::Pending { .. } => p.absent(),
                    };
                }
            })
            .num(label(args.reason_code.blocking_reason()))
            .bytes(&write_json(&args.resume_condition))
            .flag(args.resume_policy.allow_operator_override);
        match args.timeout {
            SuspensionTimeout::Default => pack.num(0).absent().absent(),
            SuspensionTimeout::Never => pack.num(1).absent().absent(),
            SuspensionTimeout::After { after_ms, behavior } => pack.num(2).num(after_ms).bytes(&write_json(&behavior)),
        };
        kept(&mut pack, args);
        let mut reply = self.at("ff_suspend_execution", id.partition(), pack).await?;
        let mut sources = reply.list()?;
        let mut waitpoints = Vec::with_capacity(args.waitpoints.len());
        for waitpoint_id in args.waitpoint_ids() {
            let sources = sources_of(&sources.bytes()?)?;
            let mint = |key| IssuedToken::mint(key, id, waitpoint_id, &sources);
            waitpoints.push(IssuedWaitpoint { waitpoint_id, tokens: key.as_ref().map(mint).unwrap_or_default() });
        }
        let suspension_id = args.suspension_id;
        Ok(match reply.word() {
            "suspended" => SuspendExecutionResult::Suspended {
                suspension_id,
                waitpoints,
                timeout_at: reply.at_opt()?,
                summary: reply.summary()?,
            },
            "already_satisfied" => {
                let (_, matched) = history::matched(id, &mut reply.list()?)?;
                SuspendExecutionResult::AlreadySatisfied {
                    suspension_id,
                    waitpoints,
                    matched,
                    summary: reply.summary()?,
                }
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn create_waitpoint(
        &self,
        args: &CreatePendingWaitpointArgs,
        key: Option<PartitionKey>,
    ) -> Result<CreatePendingWaitpointResult, EngineError> {
        let (id, waitpoint_id) = (args.execution_id, args.waitpoint_id);
        let mut pack = self.pack();
        pack.uuid(id.uuid())
            .fence(&args.fence)
            .uuid(waitpoint_id.uuid())
            .num(args.expires_in_ms)
            .bytes(&write_json(&args.sources))
            .text_opt(kid(key.as_ref()));
        let mut reply = self.at("ff_create_pending_waitpoint", id.partition(), pack).await?;
        let mint = |key| IssuedToken::mint(key, id, waitpoint_id, &args.sources);
        let tokens = key.as_ref().map(mint).unwrap_or_default();
        let (expires_at, summary) = (reply.at()?, reply.summary()?);
        Ok(match reply.word() {
            "created" => CreatePendingWaitpointResult::Created { waitpoint_id, tokens, expires_at, summary },
            "already_exists" => {
                CreatePendingWaitpointResult::AlreadyExists { waitpoint_id, tokens, expires_at, summary }
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn list_waitpoints(
        &self,
        args: &ListPendingWaitpointsArgs,
        key: Option<PartitionKey>,
    ) -> Result<ListPendingWaitpointsResult, EngineError> {
        let id = args.execution_id;
        let mut pack = self.pack();
        pack.uuid(id.uuid());
        match args.position()? {
            Some(cursor) => pack.uuid(cursor.after.uuid()),
            None => pack.absent(),
        };
        pack.num(u64::from(args.limit)).flag(args.include_tokens).text_opt(kid(key.as_ref()));
        let mut reply = self.at("ff_list_pending_waitpoints", id.partition(), pack).await?;
        let mut items = reply.list()?;
        let suspension = reply.list_opt()?.map(|mut flat| history::suspension(id, &mut flat)).transpose()?;
        let mut page = ListPendingWaitpointsResult::default();
        while !items.is_over() {
            let waitpoint_id = WaitpointId::from_uuid(items.uuid()?);
            let waitpoint = history::waitpoint(id, waitpoint_id, &items.bytes()?)?;
            let progress = items.list_opt()?.map(|mut flat| history::progress(&mut flat)).transpose()?;
            let mut info = PendingWaitpointInfo::of(&waitpoint, suspension.as_ref().zip(progress));
            if args.include_tokens {
                let mint = |key| IssuedToken::mint(key, id, waitpoint_id, &waitpoint.sources);
                info.tokens = key.as_ref().map(mint).unwrap_or_default();
            }
            page.waitpoints.push(info);
        }
        if reply.flag()? {
            page.next_cursor =
                page.waitpoints.last().map(|last| WaitpointCursor { after: last.waitpoint_id }.to_string());
        }
        Ok(page)
    }
}

#[async_trait]
impl SuspensionOps for ValkeyBackend {
    async fn suspend_execution(&self, args: SuspendExecutionArgs) -> Result<SuspendExecutionResult, EngineError> {
        args.check(self.fixed())?;
        if args.waitpoints.is_empty() {
            return self.suspend(&args, None).await;
        }
        let partition = args.execution_id.partition();
        self.keys().signing(partition, || self.load_keys(partition), |key| self.suspend(&args, key)).await
    }

    async fn resume_execution(&self, args: ResumeExecutionArgs) -> Result<ResumeExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid());
        match args.suspension_id {
            Some(id) => pack.uuid(id.uuid()),
            None => pack.absent(),
        };
        pack.text(&args.by).text(&args.reason);
        let mut reply = self.at("ff_resume_execution", args.execution_id.partition(), pack).await?;
        Ok(ResumeExecutionResult::Resumed {
            suspension_id: SuspensionId::from_uuid(reply.uuid()?),
            summary: reply.summary()?,
        })
    }

    async fn create_pending_waitpoint(
        &self,
        args: CreatePendingWaitpointArgs,
    ) -> Result<CreatePendingWaitpointResult, EngineError> {
        args.check(self.fixed())?;
        let partition = args.execution_id.partition();
        self.keys().signing(partition, || self.load_keys(partition), |key| self.create_waitpoint(&args, key)).await
    }

    async fn close_waitpoint(&self, args: CloseWaitpointArgs) -> Result<CloseWaitpointResult, EngineError> {
        args.check(self.fixed())?;
        let waitpoint_id = args.waitpoint_id;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).fence(&args.fence).uuid(waitpoint_id.uuid()).text(&args.reason);
        let mut reply = self.at("ff_close_waitpoint", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "closed" => CloseWaitpointResult::Closed { waitpoint_id, summary: reply.summary()? },
            "already_closed" => CloseWaitpointResult::AlreadyClosed {
                waitpoint_id,
                close_reason: reply.word_of()?,
                summary: reply.summary()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn expire_suspension(&self, args: ExpireSuspensionArgs) -> Result<ExpireSuspensionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).uuid(args.suspension_id.uuid());
        let mut reply = self.at("ff_expire_suspension", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "expired" => {
                let behavior = serde_json::from_slice(&reply.bytes()?);
                ExpireSuspensionResult::Expired {
                    behavior: behavior.map_err(|_| corrupt("suspension", "timeout", DecodeCause::BadPolicy))?,
                    summary: reply.summary()?,
                }
            }
            "not_due" => ExpireSuspensionResult::NotDue { cause: reply.word_of()?, summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn list_pending_waitpoints(
        &self,
        args: ListPendingWaitpointsArgs,
    ) -> Result<ListPendingWaitpointsResult, EngineError> {
        args.check(self.fixed())?;
        if !args.include_tokens {
            return self.list_waitpoints(&args, None).await;
        }
        let partition = args.execution_id.partition();
        self.keys().signing(partition, || self.load_keys(partition), |key| self.list_waitpoints(&args, key)).await
    }
}
