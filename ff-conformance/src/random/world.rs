//! What a random sequence knows while it runs, and how a symbolic step becomes an operation.
//!
//! A step names nothing by id: it holds numbers that are resolved against what is known when it runs ("the third
//! execution", "its last fence, or an older one"). So a step can be deleted and the rest still makes sense.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition};
use ff_core::contracts::*; // a generator speaks the whole contract
use ff_core::ids::{
    AttemptId, AttemptIndex, BudgetId, DataName, Dimension, EdgeId, ExecutionId, FlowId, Kid, LaneId, LeaseEpoch,
    LeaseId, Namespace, QuotaPolicyId, SignalId, SuspensionId, WaitpointId, WorkerId, WorkerInstanceId,
};
use ff_core::operation::{OpName, Operation, Outcome};
use ff_core::policy::{
    Backoff, Capabilities, ExecutionPolicy, RetryPolicy, StreamPolicy, SuspensionPolicy, TimeoutPolicy,
};
use ff_core::state::{BlockReason, TerminalOutcome};
use ff_core::time::{TimestampMs, When};
use ff_core::token::{WaitpointSecret, WaitpointToken};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The partition that sequences play in.
pub const PARTITION: u16 = 3;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An operation.
    Call(OpName),
    /// A move of the clock.
    Clock,
}

/// One symbolic step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Its place in the sequence that was drawn: what it mints is made of this, also after others are deleted.
    pub serial: u32,
    /// The numbers that its references are resolved with.
    pub dice: [u32; 8],
}

const EXECUTIONS: u32 = 8;
const FLOWS: u32 = 3;

/// What is known of one execution of the pool.
#[derive(Clone, Debug, Default)]
struct Known {
    fences: Vec<Fence>,
    suspensions: Vec<SuspensionId>,
    waitpoints: Vec<(WaitpointId, Vec<IssuedToken>)>,
    replay_count: u32,
    attempts: u32,
}

/// Id, upstream, downstream, kind and data name.
type KnownEdge = (EdgeId, ExecutionId, ExecutionId, DependencyKind, Option<DataName>);

/// Who holds a grant for what.
type Granted = (ExecutionId, WorkerId, WorkerInstanceId, ClaimKind);

/// What is known so far.
#[derive(Clone, Debug, Default)]
pub struct World {
    known: BTreeMap<ExecutionId, Known>,
    members: BTreeMap<FlowId, Vec<ExecutionId>>,
    edges: BTreeMap<FlowId, Vec<KnownEdge>>,
    signals: Vec<(SignalId, String)>,
    granted: Vec<Granted>,
}

struct Dice<'a> {
    step: &'a Step,
    at: std::cell::Cell<usize>,
}

impl Dice<'_> {
    fn roll(&self) -> u32 {
        let at = self.at.get();
        self.at.set(at + 1);
        // More draws than dice: stir the serial in, so that later draws differ from the first.
        let die = self.step.dice[at % 8];
        if at < 8 { die } else { die.rotate_left(7).wrapping_add(u32::try_from(at).unwrap_or(0)) }
    }

    fn below(&self, n: u32) -> u32 {
        self.roll() % n.max(1)
    }

    fn chance(&self, percent: u32) -> bool {
        self.below(100) < percent
    }

    fn pick<'b, T>(&self, of: &'b [T]) -> Option<&'b T> {
        if of.is_empty() { None } else { of.get(self.below(u32::try_from(of.len()).unwrap_or(1)) as usize) }
    }

    /// Mostly the newest, sometimes an older one.
    fn recent<'b, T>(&self, of: &'b [T]) -> Option<&'b T> {
        if self.chance(85) { of.last() } else { self.pick(of) }
    }
}

fn uuid(tag: u8, n: u32) -> Uuid {
    let mut bytes = [0_u8; 16];
    bytes[0] = tag;
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    Uuid::from_bytes(bytes)
}

macro_rules! valid {
    ($Type:ident, $text:expr) => {
        $Type::new($text).unwrap_or_else(|e| panic!("{e}"))
    };
}

impl World {
    fn execution(d: &Dice<'_>) -> ExecutionId {
        ExecutionId::from_parts(PARTITION, uuid(1, d.below(EXECUTIONS)))
    }

    /// An execution that was created, if there is one: most operations should succeed.
    fn existing(&self, d: &Dice<'_>) -> ExecutionId {
        let ids: Vec<ExecutionId> = self.known.keys().copied().collect();
        if d.chance(96) { d.pick(&ids).copied().unwrap_or_else(|| Self::execution(d)) } else { Self::execution(d) }
    }

    fn flow(d: &Dice<'_>) -> FlowId {
        FlowId::from_parts(PARTITION, uuid(2, d.below(FLOWS)))
    }

    /// An execution that was claimed, and a fence of it.
    fn owned(&self, d: &Dice<'_>) -> (ExecutionId, Fence) {
        let owned: Vec<(&ExecutionId, &Known)> = self.known.iter().filter(|(_, k)| !k.fences.is_empty()).collect();
        let foreign = Fence {
            lease_id: LeaseId::from_uuid(uuid(9, 1)),
            lease_epoch: LeaseEpoch(1),
            attempt_id: AttemptId::from_uuid(uuid(9, 2)),
        };
        match d.pick(&owned) {
            Some((id, known)) => (**id, d.recent(&known.fences).copied().unwrap_or(foreign)),
            None => (self.existing(d), foreign),
        }
    }

    fn actor(&self, d: &Dice<'_>) -> (ExecutionId, Actor) {
        if d.chance(70) {
            let (id, fence) = self.owned(d);
            (id, Actor::Worker(fence))
        } else {
            (self.existing(d), Actor::operator(["ops", "boss"][d.below(2) as usize]))
        }
    }

    fn policy(d: &Dice<'_>) -> ExecutionPolicy {
        let retry = RetryPolicy::builder()
            .max_retries(d.below(3))
            .backoff(if d.chance(50) {
                Backoff::Fixed { delay_ms: u64::from(d.below(3)) * 500 }
            } else {
                Backoff::Exponential { initial_ms: 100, max_ms: 5_000, multiplier_milli: 3_000, jitter: d.chance(50) }
            })
            .build();
        let timeouts = TimeoutPolicy::builder()
            .maybe_attempt_timeout_ms(d.chance(30).then_some(5_000))
            .maybe_deadline(d.chance(25).then(|| When::After(u64::from(d.below(4)) * 20_000)))
            .build();
        let suspension = SuspensionPolicy::builder()
            .maybe_default_timeout_ms(d.chance(40).then_some(8_000))
            .default_timeout_behavior(Self::behavior(d))
            .build();
        ExecutionPolicy::builder()
            .retry(retry)
            .timeouts(timeouts)
            .suspension(suspension)
            .stream(StreamPolicy { retention_maxlen: 3 })
            .max_reclaims(d.below(3))
            .max_replays(2)
            .required_capabilities(if d.chance(25) { Capabilities::from(["gpu"]) } else { Capabilities::none() })
            .maybe_quota_policy_id(d.chance(15).then(|| Self::quota_id(d)))
            .retention_ms(if d.chance(50) { 30_000 } else { 86_400_000 })
            .idempotency_window_ms(10_000)
            .build()
    }

    fn behavior(d: &Dice<'_>) -> TimeoutBehavior {
        match d.below(6) {
            0 => TimeoutBehavior::Fail,
            1 => TimeoutBehavior::Cancel,
            2 => TimeoutBehavior::Expire,
            3 => TimeoutBehavior::AutoResume,
            4 => TimeoutBehavior::Escalate { fail_after_ms: None },
            _ => TimeoutBehavior::Escalate { fail_after_ms: Some(4_000) },
        }
    }

    fn lane(d: &Dice<'_>) -> LaneId {
        valid!(LaneId, if d.chance(85) { "a" } else { "b" })
    }

    fn worker(d: &Dice<'_>) -> (WorkerId, WorkerInstanceId) {
        let instance = if d.chance(80) { "w1" } else { "w2" };
        (valid!(WorkerId, "w"), valid!(WorkerInstanceId, instance))
    }

    /// Often an execution that has suspended, which a grant may then resume.
    fn paused_or_any(&self, d: &Dice<'_>) -> ExecutionId {
        let paused: Vec<ExecutionId> =
            self.known.iter().filter(|(_, k)| !k.suspensions.is_empty()).map(|(id, _)| *id).collect();
        match d.pick(&paused) {
            Some(id) if d.chance(60) => *id,
            _ => self.existing(d),
        }
    }

    /// The execution and holder of a claim by id: mostly those of the last grant for such a claim.
    fn claimant(&self, d: &Dice<'_>, kind: ClaimKind) -> (ExecutionId, WorkerId, WorkerInstanceId) {
        let last = self.granted.iter().rev().find(|(_, _, _, of)| *of == kind);
        match last {
            Some((id, worker_id, instance, _)) if d.chance(80) => (*id, worker_id.clone(), instance.clone()),
            _ => {
                let (worker_id, instance) = Self::worker(d);
                (self.existing(d), worker_id, instance)
            }
        }
    }

    fn capabilities(d: &Dice<'_>) -> Capabilities {
        if d.chance(70) { Capabilities::from(["gpu"]) } else { Capabilities::none() }
    }

    fn quota_id(d: &Dice<'_>) -> QuotaPolicyId {
        valid!(QuotaPolicyId, ["q0", "q1"][d.below(2) as usize])
    }

    fn budget_id(d: &Dice<'_>) -> BudgetId {
        valid!(BudgetId, ["b0", "b1"][d.below(2) as usize])
    }

    fn lease_ttl(d: &Dice<'_>) -> u64 {
        [1_000, 3_000, 10_000][d.below(3) as usize]
    }

    fn when(d: &Dice<'_>, now: TimestampMs) -> When {
        match d.below(4) {
            0 => When::At(now),
            1 => When::After(0),
            2 => When::After(1_000),
            _ => When::At(now.after(2_500)),
        }
    }

    fn source(d: &Dice<'_>) -> SignalSource {
        SignalSource::new("human", ["ann", "bob"][d.below(2) as usize])
    }

    /// The waitpoint and one of its tokens, mostly fitting.
    fn waitpoint(&self, d: &Dice<'_>, id: ExecutionId) -> (WaitpointId, WaitpointToken, SignalSource) {
        let none = (WaitpointId::from_uuid(uuid(9, 3)), WaitpointToken::new("ffw1.k1.bad"), Self::source(d));
        let Some(known) = self.known.get(&id) else { return none };
        let Some((waitpoint, tokens)) = d.recent(&known.waitpoints) else { return none };
        match d.pick(tokens) {
            Some(issued) if d.chance(97) => {
                let source = issued.source.clone().unwrap_or_else(|| Self::source(d));
                (*waitpoint, issued.token.clone(), source)
            }
            _ => (*waitpoint, none.1, none.2),
        }
    }

    fn tags(d: &Dice<'_>) -> BTreeMap<String, Option<String>> {
        let key = ["team.name", "cost.center"][d.below(2) as usize].to_owned();
        BTreeMap::from([(key, d.chance(70).then(|| format!("v{}", d.below(3))))])
    }

    fn condition(d: &Dice<'_>) -> ResumeCondition {
        match d.below(6) {
            0 | 1 => ResumeCondition::any_signal(),
            2 => ResumeCondition::signal("go"),
            3 => ResumeCondition::count(2, Distinct::Signals, Matcher::any()),
            4 => ResumeCondition::all_of([Condition::signal("go"), Condition::signal("stop")]),
            _ => ResumeCondition::any_of([
                Condition::signal("stop"),
                Condition::count(2, Distinct::Sources, Matcher::any()),
            ]),
        }
    }

    /// The distance of a clock step, given when something is next due.
    #[must_use]
    pub fn clock_step(step: &Step, now: TimestampMs, next_due: Option<TimestampMs>) -> u64 {
        let d = Dice { step, at: std::cell::Cell::new(0) };
        let due = next_due.map(|at| at.since(now));
        match (d.below(8), due) {
            (0..=2, Some(ms)) => ms,
            (3, Some(ms)) => ms.saturating_sub(1),
            (4, Some(ms)) => ms + 1,
            (5, _) => 1,
            (6, _) => 700,
            (7, _) if d.chance(10) => 86_400_000,
            _ => 100,
        }
    }

    /// The operation that a step means now.
    #[must_use]
    #[allow(clippy::too_many_lines)] // one arm per operation of the list
    pub fn operation(&self, name: OpName, step: &Step, now: TimestampMs) -> Operation {
        let d = &Dice { step, at: std::cell::Cell::new(0) };
        let n = step.serial;
        let lease_id = LeaseId::from_uuid(uuid(3, n));
        let attempt_id = AttemptId::from_uuid(uuid(4, n));
        match name {
            OpName::CreateExecution => {
                let mut id = Self::execution(d);
                let flow = d.chance(35).then(|| Self::flow(d));
                let members = flow.and_then(|f| self.members.get(&f)).cloned().unwrap_or_default();
                let key = d.chance(20).then(|| format!("key{}", d.below(2)));
                let namespace = valid!(Namespace, "ns");
                let config = ff_core::partition::PartitionConfig::default();
                if let (Some(key), None) = (&key, flow) {
                    // Equal keys meet where their key belongs; elsewhere the call is refused.
                    let home = ExecutionId::partition_of_key(config, &namespace, key);
                    if d.chance(90) {
                        id = ExecutionId::from_parts(home, id.uuid());
                    }
                }
                let join = flow.map(|flow_id| {
                    let edges = members
                        .iter()
                        .filter(|m| **m != id)
                        .take(d.below(3) as usize)
                        .enumerate()
                        .map(|(i, up)| {
                            let serial = n * 8 + u32::try_from(i).unwrap_or(0);
                            let mut edge = IncomingEdge::new(EdgeId::from_uuid(uuid(6, serial)), *up);
                            edge.dependency_kind = Self::kind(d);
                            edge.data_passing_ref = d.chance(40).then(|| valid!(DataName, format!("in{i}")));
                            edge
                        })
                        .collect();
                    FlowJoin { flow_id, hold: d.chance(30), edges }
                });
                CreateExecutionArgs::builder()
                    .execution_id(id)
                    .namespace(namespace)
                    .lane_id(Self::lane(d))
                    .kind("job")
                    .payload(Bytes::from(vec![0_u8; d.below(4) as usize]))
                    .priority([0, 0, 5, i32::MIN, i32::MAX][d.below(5) as usize])
                    .policy(Arc::new(Self::policy(d)))
                    .maybe_delay(d.chance(20).then(|| Self::when(d, now)))
                    .maybe_idempotency_key(key)
                    .maybe_flow(join)
                    .build()
                    .into()
            }
            OpName::CompleteExecution => {
                let (id, actor) = self.actor(d);
                CompleteExecutionArgs::builder()
                    .execution_id(id)
                    .actor(actor)
                    .maybe_result(d.chance(50).then(|| Bytes::from_static(b"done")))
                    .build()
                    .into()
            }
            OpName::FailExecution => {
                let (id, actor) = self.actor(d);
                FailExecutionArgs::builder()
                    .execution_id(id)
                    .actor(actor)
                    .reason("broke")
                    .category("error")
                    .no_retry(d.chance(10))
                    .build()
                    .into()
            }
            OpName::CancelExecution => {
                let (execution_id, actor) = self.actor(d);
                CancelExecutionArgs { execution_id, actor, reason: "enough".to_owned() }.into()
            }
            OpName::ExpireExecution => {
                let execution_id = self.existing(d);
                let attempts = self.known.get(&execution_id).map_or(0, |k| k.attempts);
                let timer = if d.chance(50) {
                    ExpiryTimer::AttemptTimeout { attempt_index: AttemptIndex(attempts.saturating_sub(1)) }
                } else {
                    ExpiryTimer::Deadline
                };
                ExpireExecutionArgs { execution_id, timer }.into()
            }
            OpName::DelayExecution => {
                let (execution_id, actor) = self.actor(d);
                DelayExecutionArgs { execution_id, actor, until: Self::when(d, now) }.into()
            }
            OpName::MoveToWaitingChildren => {
                let (execution_id, fence) = self.owned(d);
                MoveToWaitingChildrenArgs { execution_id, fence }.into()
            }
            OpName::ReplayExecution => {
                let id = self.existing(d);
                let count = self.known.get(&id).map_or(0, |k| k.replay_count);
                let count = if d.chance(90) { count } else { count.saturating_sub(1) };
                ReplayExecutionArgs::builder()
                    .execution_id(id)
                    .replay_count(count)
                    .reason("again")
                    .by("ops")
                    .reopen_skipped(d.chance(50))
                    .build()
                    .into()
            }
            OpName::ChangePriority => {
                let priority = [0, 7, i32::MIN, i32::MAX][d.below(4) as usize];
                ChangePriorityArgs { execution_id: self.existing(d), priority }.into()
            }
            OpName::UpdateProgress => {
                let (id, fence) = self.owned(d);
                let pct = u8::try_from(d.below(102)).unwrap_or(0);
                UpdateProgressArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .pct(pct)
                    .maybe_message(d.chance(40).then(|| "half".to_owned()))
                    .build()
                    .into()
            }
            OpName::SetExecutionTags => {
                SetExecutionTagsArgs { execution_id: self.existing(d), tags: Self::tags(d) }.into()
            }
            OpName::BlockExecution => BlockExecutionArgs::builder()
                .execution_id(self.existing(d))
                .reason(BlockReason::ALL[d.below(5) as usize])
                .maybe_until(d.chance(50).then(|| Self::when(d, now)))
                .by("ops")
                .build()
                .into(),
            OpName::UnblockExecution => {
                UnblockExecutionArgs { execution_id: self.existing(d), reason: BlockReason::ALL[d.below(5) as usize] }
                    .into()
            }
            OpName::IssueClaimGrant => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                IssueClaimGrantArgs {
                    execution_id: self.paused_or_any(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    grant_ttl_ms: 2_000,
                }
                .into()
            }
            OpName::IssueReclaimGrant => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                IssueReclaimGrantArgs {
                    execution_id: self.existing(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    grant_ttl_ms: 2_000,
                }
                .into()
            }
            OpName::ClaimExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::New);
                let lease_ttl_ms = Self::lease_ttl(d);
                ClaimExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, attempt_id, lease_ttl_ms }
                    .into()
            }
            OpName::ClaimResumedExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::Resumed);
                let lease_ttl_ms = Self::lease_ttl(d);
                ClaimResumedExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, lease_ttl_ms }.into()
            }
            OpName::ReclaimExecution => {
                let (execution_id, worker_id, worker_instance_id) = self.claimant(d, ClaimKind::Reclaimed);
                let lease_ttl_ms = Self::lease_ttl(d);
                ReclaimExecutionArgs { execution_id, worker_id, worker_instance_id, lease_id, attempt_id, lease_ttl_ms }
                    .into()
            }
            OpName::ClaimNext => {
                let (worker_id, worker_instance_id) = Self::worker(d);
                let slots = (0..=d.below(3))
                    .map(|i| ClaimSlot {
                        lease_id: LeaseId::from_uuid(uuid(3, n * 4 + i + 1_000_000)),
                        attempt_id: AttemptId::from_uuid(uuid(4, n * 4 + i + 1_000_000)),
                    })
                    .collect();
                ClaimNextArgs {
                    partition: PARTITION,
                    lane_id: Self::lane(d),
                    worker_id,
                    worker_instance_id,
                    capabilities: Self::capabilities(d),
                    slots,
                    lease_ttl_ms: Self::lease_ttl(d),
                }
                .into()
            }
            OpName::RenewLease => {
                let (execution_id, fence) = self.owned(d);
                RenewLeaseArgs { execution_id, fence, lease_ttl_ms: Self::lease_ttl(d) }.into()
            }
            OpName::MarkLeaseExpired => {
                let (execution_id, fence) = self.owned(d);
                MarkLeaseExpiredArgs { execution_id, lease_epoch: fence.lease_epoch }.into()
            }
            OpName::RevokeLease => {
                let (execution_id, fence) = self.owned(d);
                let (reason, by) = ("drain".to_owned(), "ops".to_owned());
                RevokeLeaseArgs { execution_id, lease_id: fence.lease_id, reason, by }.into()
            }
            OpName::SuspendExecution => {
                let (id, fence) = self.owned(d);
                let fresh = WaitpointBinding::Fresh {
                    waitpoint_id: WaitpointId::from_uuid(uuid(5, n)),
                    sources: if d.chance(40) {
                        vec![SignalSource::new("human", "ann"), SignalSource::new("human", "bob")]
                    } else {
                        Vec::new()
                    },
                };
                let mut waitpoints = vec![fresh];
                let pending = self.known.get(&id).and_then(|k| k.waitpoints.last());
                if let Some((waitpoint_id, _)) = pending
                    && d.chance(40)
                {
                    waitpoints.push(WaitpointBinding::Pending { waitpoint_id: *waitpoint_id });
                }
                let timeout = match d.below(4) {
                    0 => SuspensionTimeout::Never,
                    1 | 2 => SuspensionTimeout::After {
                        after_ms: 1 + u64::from(d.below(3)) * 1_500,
                        behavior: Self::behavior(d),
                    },
                    _ => SuspensionTimeout::Default,
                };
                SuspendExecutionArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .suspension_id(SuspensionId::from_uuid(uuid(7, n)))
                    .waitpoints(waitpoints)
                    .reason_code(SuspensionReason::ALL[d.below(9) as usize])
                    .resume_condition(Self::condition(d))
                    .resume_policy(ResumePolicy {
                        resume_delay_ms: if d.chance(30) { 500 } else { 0 },
                        allow_operator_override: true,
                    })
                    .timeout(timeout)
                    .build()
                    .into()
            }
            OpName::ResumeExecution => {
                let id = self.existing(d);
                let suspension = self.known.get(&id).and_then(|k| d.recent(&k.suspensions)).copied();
                ResumeExecutionArgs::builder()
                    .execution_id(id)
                    .maybe_suspension_id(suspension.filter(|_| d.chance(60)))
                    .by("ops")
                    .reason("go on")
                    .build()
                    .into()
            }
            OpName::CreatePendingWaitpoint => {
                let (id, fence) = self.owned(d);
                CreatePendingWaitpointArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .waitpoint_id(WaitpointId::from_uuid(uuid(5, n)))
                    .expires_in_ms([1_000, 60_000][d.below(2) as usize])
                    .build()
                    .into()
            }
            OpName::CloseWaitpoint => {
                let (execution_id, fence) = self.owned(d);
                let (waitpoint_id, _, _) = self.waitpoint(d, execution_id);
                CloseWaitpointArgs { execution_id, fence, waitpoint_id, reason: "not needed".to_owned() }.into()
            }
            OpName::ExpireSuspension => {
                let id = self.existing(d);
                let suspension = self.known.get(&id).and_then(|k| d.recent(&k.suspensions)).copied();
                let suspension_id = suspension.unwrap_or(SuspensionId::from_uuid(uuid(9, 4)));
                ExpireSuspensionArgs { execution_id: id, suspension_id }.into()
            }
            OpName::ListPendingWaitpoints => ListPendingWaitpointsArgs::builder()
                .execution_id(self.existing(d))
                .include_tokens(d.chance(30))
                .build()
                .into(),
            OpName::DeliverSignal | OpName::BufferSignal => self.signal(name, d, n),
            OpName::ListSignals => {
                ListSignalsArgs::builder().execution_id(self.existing(d)).matched_only(d.chance(30)).build().into()
            }
            OpName::RotateWaitpointHmacSecret => {
                let which = u8::try_from(d.below(3)).unwrap_or(0);
                let secret = if d.chance(95) { which } else { which + 9 };
                RotateWaitpointHmacSecretArgs::builder()
                    .partition(PARTITION)
                    .new_kid(valid!(Kid, format!("k{which}")))
                    .new_secret(WaitpointSecret::new([secret; 32]))
                    .grace_ms(60_000)
                    .build()
                    .into()
            }
            OpName::RevokeWaitpointKid => {
                RevokeWaitpointKidArgs { partition: PARTITION, kid: valid!(Kid, format!("k{}", d.below(4))) }.into()
            }
            OpName::ListWaitpointHmacKids => ListWaitpointHmacKidsArgs { partition: PARTITION }.into(),
            OpName::CreateFlow => CreateFlowArgs::builder()
                .flow_id(Self::flow(d))
                .namespace(valid!(Namespace, "ns"))
                .flow_kind(if d.chance(90) { "pipe" } else { "other" })
                .build()
                .into(),
            OpName::SubmitFlow => Self::submission(d),
            OpName::AddExecutionToFlow => {
                AddExecutionToFlowArgs { flow_id: Self::flow(d), execution_id: self.existing(d) }.into()
            }
            OpName::SealFlow => SealFlowArgs::builder().flow_id(Self::flow(d)).build().into(),
            OpName::StageDependencyEdge => {
                let flow_id = Self::flow(d);
                let members = self.members.get(&flow_id).cloned().unwrap_or_default();
                let up = d.pick(&members).copied().unwrap_or_else(|| Self::execution(d));
                let down = d.pick(&members).copied().unwrap_or_else(|| Self::execution(d));
                StageDependencyEdgeArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(EdgeId::from_uuid(uuid(6, n * 8)))
                    .upstream_execution_id(up)
                    .downstream_execution_id(down)
                    .dependency_kind(Self::kind(d))
                    .apply(d.chance(70))
                    .build()
                    .into()
            }
            OpName::ApplyDependencyToChild => {
                let (flow_id, edge) = self.edge(d);
                ApplyDependencyToChildArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(edge.0)
                    .upstream_execution_id(edge.1)
                    .downstream_execution_id(edge.2)
                    .dependency_kind(edge.3)
                    .maybe_data_passing_ref(edge.4)
                    .build()
                    .into()
            }
            OpName::ResolveDependency => {
                let (flow_id, edge) = self.edge(d);
                ResolveDependencyArgs::builder()
                    .flow_id(flow_id)
                    .edge_id(edge.0)
                    .maybe_upstream_outcome(d.chance(20).then_some(TerminalOutcome::Success))
                    .build()
                    .into()
            }
            OpName::EvaluateFlowEligibility => EvaluateFlowEligibilityArgs { execution_id: self.existing(d) }.into(),
            OpName::PromoteBlockedToEligible => PromoteBlockedToEligibleArgs { execution_id: self.existing(d) }.into(),
            OpName::CancelFlow => CancelFlowArgs::builder()
                .flow_id(Self::flow(d))
                .reason("stop")
                .by("ops")
                .cancellation_policy(CancellationPolicy::ALL[d.below(3) as usize])
                .build()
                .into(),
            OpName::SetFlowTags => SetFlowTagsArgs { flow_id: Self::flow(d), tags: Self::tags(d) }.into(),
            OpName::DescribeFlow => DescribeFlowArgs { flow_id: Self::flow(d) }.into(),
            OpName::DescribeEdge => {
                let (flow_id, edge) = self.edge(d);
                DescribeEdgeArgs { flow_id, edge_id: edge.0 }.into()
            }
            OpName::ListEdges => {
                let node = self.existing(d);
                let direction = if d.chance(50) {
                    EdgeDirection::Incoming { to_node: node }
                } else {
                    EdgeDirection::Outgoing { from_node: node }
                };
                ListEdgesArgs::builder().flow_id(Self::flow(d)).direction(direction).limit(1000).build().into()
            }
            OpName::ListFlowMembers => ListFlowMembersArgs::builder().flow_id(Self::flow(d)).limit(1000).build().into(),
            OpName::CreateBudget => {
                let limits = Limits { hard: Some(10), soft: d.chance(50).then_some(5) };
                CreateBudgetArgs::builder()
                    .budget_id(Self::budget_id(d))
                    .dimensions(BTreeMap::from([(valid!(Dimension, "tokens"), limits)]))
                    .maybe_reset_interval_ms(d.chance(60).then_some(5_000))
                    .build()
                    .into()
            }
            OpName::ReportUsage => {
                let dimension = valid!(Dimension, ["tokens", "calls"][d.below(2) as usize]);
                ReportUsageArgs::builder()
                    .budget_id(Self::budget_id(d))
                    .amounts(vec![(dimension, u64::from(d.below(8)))])
                    .mode(if d.chance(50) { ReportMode::Record } else { ReportMode::Reserve })
                    .maybe_dedup_key(d.chance(30).then(|| format!("u{}", d.below(3))))
                    .build()
                    .into()
            }
            OpName::ResetBudget => ResetBudgetArgs::builder()
                .budget_id(Self::budget_id(d))
                .by("ops")
                .maybe_dedup_key(d.chance(30).then(|| "r".to_owned()))
                .build()
                .into(),
            OpName::GetBudgetStatus => GetBudgetStatusArgs { budget_id: Self::budget_id(d) }.into(),
            OpName::CreateQuotaPolicy => CreateQuotaPolicyArgs::builder()
                .quota_policy_id(Self::quota_id(d))
                .max_requests_per_window(2)
                .window_ms(10_000)
                .maybe_max_concurrent(d.chance(60).then_some(1))
                .build()
                .into(),
            OpName::CheckAdmission => CheckAdmissionArgs {
                quota_policy_id: Self::quota_id(d),
                execution_id: Self::execution(d),
                attempt_index: AttemptIndex(d.below(2)),
                lease_epoch: LeaseEpoch(u64::from(d.below(3)) + 1),
                slot_ttl_ms: 5_000,
            }
            .into(),
            OpName::ReleaseAdmission => ReleaseAdmissionArgs {
                quota_policy_id: Self::quota_id(d),
                execution_id: Self::execution(d),
                attempt_index: AttemptIndex(d.below(2)),
                lease_epoch: LeaseEpoch(u64::from(d.below(3)) + 1),
            }
            .into(),
            OpName::GetQuotaStatus => GetQuotaStatusArgs { quota_policy_id: Self::quota_id(d) }.into(),
            OpName::AppendFrame => {
                let (id, fence) = self.owned(d);
                AppendFrameArgs::builder()
                    .execution_id(id)
                    .fence(fence)
                    .frame_type("log")
                    .payload(Bytes::from(vec![7_u8; d.below(3) as usize]))
                    .maybe_seq(d.chance(50).then(|| u64::from(d.below(6)) + 1))
                    .build()
                    .into()
            }
            OpName::ReadFrames => {
                let (execution_id, attempt_index) = self.attempt(d);
                ReadFramesArgs::builder().execution_id(execution_id).attempt_index(attempt_index).build().into()
            }
            OpName::TailFrames => {
                let (execution_id, attempt_index) = self.attempt(d);
                TailFramesArgs::builder()
                    .execution_id(execution_id)
                    .attempt_index(attempt_index)
                    .block_ms(0)
                    .build()
                    .into()
            }
            OpName::GetExecution => GetExecutionArgs { execution_id: self.existing(d) }.into(),
            OpName::DescribeExecution => DescribeExecutionArgs { execution_id: self.existing(d) }.into(),
            OpName::ListExecutions => ListExecutionsArgs::builder().partition(PARTITION).limit(1000).build().into(),
            OpName::ListAttempts => {
                ListAttemptsArgs::builder().execution_id(self.existing(d)).limit(1000).build().into()
            }
            OpName::GetPayload => GetPayloadArgs { execution_id: self.existing(d) }.into(),
            OpName::GetResult => {
                let of = match d.below(3) {
                    0 => ResultSelector::Last,
                    1 => ResultSelector::Run(d.below(2)),
                    _ => ResultSelector::Attempt(AttemptIndex(d.below(3))),
                };
                GetResultArgs::builder().execution_id(self.existing(d)).of(of).build().into()
            }
            OpName::LaneCounts => LaneCountsArgs::builder().lane_id(Self::lane(d)).partition(PARTITION).build().into(),
            OpName::Sweep => {
                let limit = [1, 2, 100][d.below(3) as usize];
                SweepArgs::builder().partition(PARTITION).limit(limit).build().into()
            }
            OpName::RebuildIndexes => RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).build().into(),
        }
    }

    fn kind(d: &Dice<'_>) -> DependencyKind {
        if d.chance(70) { DependencyKind::SuccessOnly } else { DependencyKind::AnyTerminal }
    }

    fn attempt(&self, d: &Dice<'_>) -> (ExecutionId, AttemptIndex) {
        let id = self.existing(d);
        let attempts = self.known.get(&id).map_or(0, |k| k.attempts);
        (id, AttemptIndex(d.below(attempts + u32::from(d.chance(10)))))
    }

    fn edge(&self, d: &Dice<'_>) -> (FlowId, KnownEdge) {
        let flows: Vec<FlowId> = self.edges.keys().copied().collect();
        let flow_id = d.pick(&flows).copied().unwrap_or_else(|| Self::flow(d));
        let none = || {
            let (up, down) = (Self::execution(d), Self::execution(d));
            (EdgeId::from_uuid(uuid(9, 5)), up, down, DependencyKind::SuccessOnly, None)
        };
        let edge = self.edges.get(&flow_id).and_then(|edges| d.pick(edges)).cloned().unwrap_or_else(none);
        (flow_id, edge)
    }

    fn submission(d: &Dice<'_>) -> Operation {
        let spec = |name: &str| {
            FlowMemberSpec::builder()
                .name(valid!(DataName, name))
                .lane_id(Self::lane(d))
                .kind("step")
                .policy(Arc::new(Self::policy(d)))
                .build()
        };
        let edge = |from: &str, to: &str, data: Option<&str>| {
            FlowEdgeSpec::builder()
                .from(valid!(DataName, from))
                .to(valid!(DataName, to))
                .dependency_kind(Self::kind(d))
                .maybe_data_passing_ref(data.map(|name| valid!(DataName, name)))
                .build()
        };
        SubmitFlowArgs::builder()
            .flow_id(Self::flow(d))
            .namespace(valid!(Namespace, "ns"))
            .flow_kind("diamond")
            .sealed(d.chance(60))
            .members(vec![spec("a"), spec("b"), spec("c"), spec("z")])
            .edges(vec![
                edge("a", "b", Some("page")),
                edge("a", "c", None),
                edge("b", "z", None),
                edge("c", "z", Some("words")),
            ])
            .build()
            .into()
    }

    fn signal(&self, name: OpName, d: &Dice<'_>, n: u32) -> Operation {
        let ids: Vec<ExecutionId> =
            self.known.iter().filter(|(_, k)| !k.waitpoints.is_empty()).map(|(id, _)| *id).collect();
        let id = d.pick(&ids).copied().unwrap_or_else(|| self.existing(d));
        let (waitpoint_id, token, source) = self.waitpoint(d, id);
        let (signal_id, word) = match d.pick(&self.signals) {
            Some((signal_id, word)) if d.chance(12) => (*signal_id, word.clone()),
            _ => (SignalId::from_uuid(uuid(8, n)), ["go", "stop", "noise"][d.below(3) as usize].to_owned()),
        };
        let key = d.chance(25).then(|| format!("s{}", d.below(4)));
        if name == OpName::DeliverSignal {
            DeliverSignalArgs::builder()
                .execution_id(id)
                .waitpoint_id(waitpoint_id)
                .waitpoint_token(token)
                .signal_id(signal_id)
                .name(word)
                .source(source)
                .maybe_idempotency_key(key)
                .build()
                .into()
        } else {
            BufferSignalArgs::builder()
                .execution_id(id)
                .waitpoint_id(waitpoint_id)
                .waitpoint_token(token)
                .signal_id(signal_id)
                .name(word)
                .source(source)
                .maybe_idempotency_key(key)
                .build()
                .into()
        }
    }

    fn learn_claim(&mut self, claimed: &ClaimedExecution) {
        let known = self.known.entry(claimed.execution_id).or_default();
        known.fences.push(claimed.fence);
        known.attempts = claimed.attempt_index.get() + 1;
    }

    /// Takes in what an operation answered.
    pub fn learn(&mut self, operation: &Operation, outcome: &Outcome) {
        match (operation, outcome) {
            (Operation::CreateExecution(args), Outcome::CreateExecution(CreateExecutionResult::Created { .. })) => {
                self.known.insert(args.execution_id, Known::default());
                if let Some(join) = &args.flow {
                    self.members.entry(join.flow_id).or_default().push(args.execution_id);
                    for e in &join.edges {
                        let edge = (
                            e.edge_id,
                            e.upstream_execution_id,
                            args.execution_id,
                            e.dependency_kind,
                            e.data_passing_ref.clone(),
                        );
                        self.edges.entry(join.flow_id).or_default().push(edge);
                    }
                }
            }
            (Operation::SubmitFlow(args), Outcome::SubmitFlow(SubmitFlowResult::Created { members, .. })) => {
                for (_, id) in members {
                    self.known.insert(*id, Known::default());
                }
                self.members.insert(args.flow_id, members.iter().map(|(_, id)| *id).collect());
                let id_of = |name: &DataName| members.iter().find(|(n, _)| n == name).map(|(_, id)| *id);
                let edges = args.edges.iter().filter_map(|e| {
                    let (up, down) = (id_of(&e.from)?, id_of(&e.to)?);
                    Some((e.edge_id, up, down, e.dependency_kind, e.data_passing_ref.clone()))
                });
                self.edges.insert(args.flow_id, edges.collect());
            }
            (Operation::AddExecutionToFlow(args), Outcome::AddExecutionToFlow(_)) => {
                let members = self.members.entry(args.flow_id).or_default();
                if !members.contains(&args.execution_id) {
                    members.push(args.execution_id);
                }
            }
            (Operation::StageDependencyEdge(args), Outcome::StageDependencyEdge(_)) => {
                let edge = (
                    args.edge_id,
                    args.upstream_execution_id,
                    args.downstream_execution_id,
                    args.dependency_kind,
                    args.data_passing_ref.clone(),
                );
                self.edges.entry(args.flow_id).or_default().push(edge);
            }
            (_, Outcome::IssueClaimGrant(IssueClaimGrantResult::Granted(g))) => {
                let grant = (g.execution_id, g.worker_id.clone(), g.worker_instance_id.clone(), g.claim_kind);
                self.granted.push(grant);
            }
            (_, Outcome::IssueReclaimGrant(IssueReclaimGrantResult::Granted(g))) => {
                let holder = (g.worker_id.clone(), g.worker_instance_id.clone());
                self.granted.push((g.execution_id, holder.0, holder.1, ClaimKind::Reclaimed));
            }
            (_, Outcome::ClaimExecution(ClaimExecutionResult::Claimed(c)))
            | (_, Outcome::ReclaimExecution(ReclaimExecutionResult::Reclaimed(c))) => self.learn_claim(c),
            (_, Outcome::ClaimResumedExecution(ClaimResumedExecutionResult::Claimed(c))) => {
                self.learn_claim(&c.claimed);
            }
            (_, Outcome::ClaimNext(result)) => {
                for claim in &result.claimed {
                    self.learn_claim(claim.claimed());
                }
            }
            (Operation::ReplayExecution(args), Outcome::ReplayExecution(result)) => {
                let ReplayExecutionResult::Replayed { replay_count, .. } = result;
                self.known.entry(args.execution_id).or_default().replay_count = *replay_count;
            }
            (Operation::SuspendExecution(args), Outcome::SuspendExecution(result)) => {
                let known = self.known.entry(args.execution_id).or_default();
                known.suspensions.push(args.suspension_id);
                let (SuspendExecutionResult::Suspended { waitpoints, .. }
                | SuspendExecutionResult::AlreadySatisfied { waitpoints, .. }) = result;
                known.waitpoints.extend(waitpoints.iter().map(|w| (w.waitpoint_id, w.tokens.clone())));
            }
            (Operation::CreatePendingWaitpoint(args), Outcome::CreatePendingWaitpoint(result)) => {
                let (CreatePendingWaitpointResult::Created { tokens, .. }
                | CreatePendingWaitpointResult::AlreadyExists { tokens, .. }) = result;
                let known = self.known.entry(args.execution_id).or_default();
                known.waitpoints.push((args.waitpoint_id, tokens.clone()));
            }
            (Operation::DeliverSignal(args), Outcome::DeliverSignal(_)) => {
                self.signals.push((args.signal_id, args.name.clone()));
            }
            _ => {}
        }
    }
}
