//! Domain execution.

use async_trait::async_trait;
use ff_core::bounds::CheckArgs;
use ff_core::contracts::{
    Actor, BlockExecutionArgs, BlockExecutionResult, CancelExecutionArgs, CancelExecutionResult, ChangePriorityArgs,
    ChangePriorityResult, CompleteExecutionArgs, CompleteExecutionResult, CreateExecutionArgs, CreateExecutionResult,
    DelayExecutionArgs, DelayExecutionResult, ExpireExecutionArgs, ExpireExecutionResult, ExpiryTimer,
    FailExecutionArgs, FailExecutionResult, MoveToWaitingChildrenArgs, MoveToWaitingChildrenResult,
    ReplayExecutionArgs, ReplayExecutionResult, SetExecutionTagsArgs, SetExecutionTagsResult, UnblockExecutionArgs,
    UnblockExecutionResult, UpdateProgressArgs, UpdateProgressResult,
};
use ff_core::engine_backend::ExecutionOps;
use ff_core::error::EngineError;
use ff_core::ids::LaneId;
use ff_core::policy::{Backoff, Capabilities, ExecutionPolicy};
use ff_core::time::When;

use crate::ValkeyBackend;
use crate::call::{NONE, Pack, pack_map};
use crate::flow;
use crate::record::{Core, Parts, block_number, fresh};

/// Lane and required set, as the names of ready queues end.
fn route(lane: &LaneId, set: &Capabilities) -> String {
    format!("{lane}\n{}", set.joined())
}

/// What Lua reads of a policy beside the header's numbers; nothing for the default policy.
fn frozen(policy: &ExecutionPolicy) -> Vec<u8> {
    let default = ExecutionPolicy::default();
    let same = policy.max_replays == default.max_replays
        && policy.retry.backoff == default.retry.backoff
        && policy.retry.retryable_categories.is_empty()
        && policy.timeouts.deadline.is_none()
        && policy.suspension == default.suspension
        && policy.stream == default.stream
        && policy.max_signals == default.max_signals;
    if same {
        return Vec::new();
    }
    let mut pack = Pack::new();
    pack.num(u64::from(policy.max_replays)).list(|p| match policy.retry.backoff {
        Backoff::Fixed { delay_ms } => {
            p.num(delay_ms);
        }
        Backoff::Exponential { initial_ms, max_ms, multiplier_milli, jitter } => {
            p.num(initial_ms).num(max_ms).num(u64::from(multiplier_milli)).flag(jitter);
        }
    });
    if policy.retry.retryable_categories.is_empty() {
        pack.absent();
    } else {
        pack.list(|p| {
            for category in &policy.retry.retryable_categories {
                p.text(category);
            }
        });
    }
    pack.when(policy.timeouts.deadline).num_opt(policy.suspension.default_timeout_ms);
    // A behavior is data that Rust wrote and Rust reads; Lua hands it on.
    let behavior = serde_json::to_string(&policy.suspension.default_timeout_behavior).unwrap_or_default();
    pack.text(&behavior).num(policy.stream.retention_maxlen).num(u64::from(policy.max_signals));
    pack.finish()
}

/// The arguments that describe an execution to be created, from its route to its core.
pub(crate) fn creation(pack: &mut Pack, args: &CreateExecutionArgs) {
    let policy = &*args.policy;
    pack.text(&route(&args.lane_id, &policy.required_capabilities))
        .num(u64::from(!policy.budget_ids.is_empty() || policy.quota_policy_id.is_some()))
        .int(args.priority)
        .digest(&args.fingerprint());
    match (&args.idempotency_key, &args.flow) {
        (None, _) => pack.absent(),
        (Some(key), None) => pack.text(&format!("n{}\n{key}", args.namespace)),
        (Some(key), Some(join)) => {
            let mut field = vec![b'f'];
            field.extend_from_slice(join.flow_id.uuid().as_bytes());
            field.push(b'\n');
            field.extend_from_slice(key.as_bytes());
            pack.bytes(&field)
        }
    };
    pack.num(policy.idempotency_window_ms)
        .when(args.delay)
        .when(policy.timeouts.deadline)
        .num(u64::from(policy.retry.max_retries))
        .num(u64::from(policy.max_reclaims))
        .num(policy.timeouts.attempt_timeout_ms.unwrap_or(NONE))
        .num(policy.retention_ms)
        .bytes(&pack_map(args.tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
        .bytes(&frozen(policy));
    pack.bytes(&core(args).pack());
}

fn core(args: &CreateExecutionArgs) -> Core<'_> {
    Core {
        namespace: &args.namespace,
        kind: &args.kind,
        encoding: args.payload_encoding.as_deref(),
        creator: args.creator.as_deref(),
        key: args.idempotency_key.as_deref(),
        key_in_flow: args.flow.is_some(),
        policy: &args.policy,
    }
}

/// The argument of a creation that nothing delays and no key guards: its record, as `lua/plain.lua` takes it.
fn plain(args: &CreateExecutionArgs, clock: Option<u64>) -> Option<Pack> {
    let policy = &*args.policy;
    if args.flow.is_some()
        || args.idempotency_key.is_some()
        || args.delay.is_some()
        || policy.timeouts.deadline.is_some()
    {
        return None;
    }
    let core = core(args).pack();
    let tags = pack_map(args.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let frozen = frozen(policy);
    let route = route(&args.lane_id, &policy.required_capabilities);
    let parts = Parts { route: &route, tags: &tags, frozen: &frozen, core: &core };
    let mut buf = Vec::with_capacity(512);
    buf.push(1);
    buf.extend_from_slice(&clock.unwrap_or(NONE).to_be_bytes()[1..]);
    buf.extend_from_slice(args.execution_id.uuid().as_bytes());
    fresh(args, &parts, &mut buf)?;
    Some(Pack::whole(buf, Some(args.execution_id.uuid())))
}

/// The argument of a worker's completion, as `lua/execution.lua` takes it.
fn completion(args: &CompleteExecutionArgs, clock: Option<u64>) -> Option<Pack> {
    let Actor::Worker(fence) = &args.actor else { return None };
    // Seven bytes would cut an epoch that no claim ever gave.
    let epoch = Some(fence.lease_epoch.get()).filter(|epoch| *epoch < NONE)?;
    let encoding = args.result_encoding.as_deref();
    let mut buf = Vec::with_capacity(112 + encoding.map_or(0, str::len));
    buf.push(1);
    buf.extend_from_slice(&clock.unwrap_or(NONE).to_be_bytes()[1..]);
    buf.extend_from_slice(args.execution_id.uuid().as_bytes());
    buf.push(u8::from(args.result.is_some()) + 2 * u8::from(encoding.is_some()));
    // What the record says of its last call: digest, answer, fence.
    buf.extend_from_slice(args.digest().as_bytes());
    buf.push(1);
    buf.extend_from_slice(&[0; 14]);
    buf.extend_from_slice(fence.lease_id.uuid().as_bytes());
    buf.extend_from_slice(&epoch.to_be_bytes()[1..]);
    buf.extend_from_slice(fence.attempt_id.uuid().as_bytes());
    buf.extend_from_slice(encoding.unwrap_or_default().as_bytes());
    Some(Pack::whole(buf, Some(args.execution_id.uuid())))
}

#[async_trait]
impl ExecutionOps for ValkeyBackend {
    async fn create_execution(&self, args: CreateExecutionArgs) -> Result<CreateExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let pack = plain(&args, self.manual_now()).unwrap_or_else(|| {
            let mut pack = self.pack();
            pack.uuid(args.execution_id.uuid());
            creation(&mut pack, &args);
            match &args.flow {
                Some(join) => flow::join(&mut pack, join, &args.namespace, self.fixed()),
                None => {
                    pack.absent();
                }
            }
            pack
        });
        let partition = args.execution_id.partition();
        let mut reply = self.at_with("ff_create_execution", partition, pack, &args.payload).await?;
        Ok(match reply.word() {
            "created" => CreateExecutionResult::Created { execution_id: args.execution_id, summary: reply.summary()? },
            "already_exists" => {
                CreateExecutionResult::AlreadyExists { execution_id: args.execution_id, summary: reply.summary()? }
            }
            "duplicate" => {
                CreateExecutionResult::Duplicate { execution_id: reply.execution_id()?, summary: reply.summary()? }
            }
            _ => return Err(reply.unknown()),
        })
    }

    async fn complete_execution(&self, args: CompleteExecutionArgs) -> Result<CompleteExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let pack = completion(&args, self.manual_now()).unwrap_or_else(|| {
            let mut pack = self.pack();
            pack.uuid(args.execution_id.uuid())
                .actor(&args.actor)
                .digest(&args.digest())
                .flag(args.result.is_some())
                .text_opt(args.result_encoding.as_deref());
            pack
        });
        let result = args.result.unwrap_or_default();
        let mut reply = self.at_with("ff_complete_execution", args.execution_id.partition(), pack, &result).await?;
        Ok(CompleteExecutionResult::Completed { summary: reply.summary()? })
    }

    async fn fail_execution(&self, args: FailExecutionArgs) -> Result<FailExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid())
            .actor(&args.actor)
            .digest(&args.digest())
            .text(&args.reason)
            .text(&args.category)
            .flag(args.no_retry);
        let mut reply = self.at("ff_fail_execution", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "retry_scheduled" => {
                FailExecutionResult::RetryScheduled { retry_at: reply.at()?, summary: reply.summary()? }
            }
            "ended" => FailExecutionResult::Ended { summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn cancel_execution(&self, args: CancelExecutionArgs) -> Result<CancelExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).actor(&args.actor).digest(&args.digest()).text(&args.reason);
        let mut reply = self.at("ff_cancel_execution", args.execution_id.partition(), pack).await?;
        Ok(CancelExecutionResult::Cancelled { from: reply.word_of()?, summary: reply.summary()? })
    }

    async fn expire_execution(&self, args: ExpireExecutionArgs) -> Result<ExpireExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid());
        match args.timer {
            ExpiryTimer::Deadline => pack.text("deadline").num(0),
            ExpiryTimer::AttemptTimeout { attempt_index } => {
                pack.text("attempt_timeout").num(u64::from(attempt_index.get()))
            }
        };
        let mut reply = self.at("ff_expire_execution", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "retry_scheduled" => {
                ExpireExecutionResult::RetryScheduled { retry_at: reply.at()?, summary: reply.summary()? }
            }
            "ended" => ExpireExecutionResult::Ended { summary: reply.summary()? },
            "not_due" => ExpireExecutionResult::NotDue { cause: reply.word_of()?, summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn delay_execution(&self, args: DelayExecutionArgs) -> Result<DelayExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).actor(&args.actor).digest(&args.digest()).when(Some(args.until));
        let mut reply = self.at("ff_delay_execution", args.execution_id.partition(), pack).await?;
        Ok(DelayExecutionResult::Delayed { until: reply.at()?, summary: reply.summary()? })
    }

    async fn move_to_waiting_children(
        &self,
        args: MoveToWaitingChildrenArgs,
    ) -> Result<MoveToWaitingChildrenResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).fence(&args.fence).digest(&args.digest());
        let mut reply = self.at("ff_move_to_waiting_children", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "moved" => MoveToWaitingChildrenResult::Moved {
                unresolved_count: reply.u32()?,
                impossible_count: reply.u32()?,
                summary: reply.summary()?,
            },
            "already_satisfied" => MoveToWaitingChildrenResult::AlreadySatisfied {
                impossible_count: reply.u32()?,
                summary: reply.summary()?,
            },
            _ => return Err(reply.unknown()),
        })
    }

    async fn replay_execution(&self, args: ReplayExecutionArgs) -> Result<ReplayExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid())
            .num(u64::from(args.replay_count))
            .text(&args.reason)
            .text(&args.by)
            .when(args.deadline)
            .flag(args.reopen_skipped)
            .digest(&args.digest());
        let mut reply = self.at("ff_replay_execution", args.execution_id.partition(), pack).await?;
        Ok(ReplayExecutionResult::Replayed { replay_count: reply.u32()?, summary: reply.summary()? })
    }

    async fn change_priority(&self, args: ChangePriorityArgs) -> Result<ChangePriorityResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).int(args.priority);
        let mut reply = self.at("ff_change_priority", args.execution_id.partition(), pack).await?;
        Ok(ChangePriorityResult::Changed { old: reply.i32()?, new: reply.i32()?, summary: reply.summary()? })
    }

    async fn update_progress(&self, args: UpdateProgressArgs) -> Result<UpdateProgressResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid())
            .fence(&args.fence)
            .num_opt(args.pct.map(u64::from))
            .text_opt(args.message.as_deref());
        let mut reply = self.at("ff_update_progress", args.execution_id.partition(), pack).await?;
        Ok(UpdateProgressResult::Updated { summary: reply.summary()? })
    }

    async fn set_execution_tags(&self, args: SetExecutionTagsArgs) -> Result<SetExecutionTagsResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).list(|p| {
            for (key, value) in &args.tags {
                p.text(key).text_opt(value.as_deref());
            }
        });
        let mut reply = self.at("ff_set_execution_tags", args.execution_id.partition(), pack).await?;
        Ok(SetExecutionTagsResult::Tagged { count: reply.u32()?, summary: reply.summary()? })
    }

    async fn block_execution(&self, args: BlockExecutionArgs) -> Result<BlockExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let until = args.until.or(args.reason.default_until_ms().map(When::After));
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid())
            .num(block_number(args.reason))
            .text(&args.detail)
            .when(until)
            .text(&args.by);
        let mut reply = self.at("ff_block_execution", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "blocked" => BlockExecutionResult::Blocked { summary: reply.summary()? },
            "not_blocked" => BlockExecutionResult::NotBlocked { summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }

    async fn unblock_execution(&self, args: UnblockExecutionArgs) -> Result<UnblockExecutionResult, EngineError> {
        args.check(self.fixed())?;
        let mut pack = self.pack();
        pack.uuid(args.execution_id.uuid()).num(block_number(args.reason));
        let mut reply = self.at("ff_unblock_execution", args.execution_id.partition(), pack).await?;
        Ok(match reply.word() {
            "unblocked" => UnblockExecutionResult::Unblocked { summary: reply.summary()? },
            "not_blocked" => UnblockExecutionResult::NotBlocked { summary: reply.summary()? },
            _ => return Err(reply.unknown()),
        })
    }
}
