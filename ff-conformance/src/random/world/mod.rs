//! What a random sequence knows while it runs, and how a symbolic step becomes an operation.
//!
//! A step names nothing by id: it holds numbers that are resolved against what is known when it runs ("the third
//! execution", "its last fence, or an older one"). So a step can be deleted and the rest still makes sense.

mod claim;
mod execution;
mod flow;
mod learn;
mod prelude;
mod reads;
mod resources;
mod suspension;

use self::prelude::*;

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

/// What an execution was last seen doing, as far as answers of its own calls tell: timers may have changed it since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    Running,
    Suspended,
    Completed,
    #[default]
    Otherwise,
}

/// What is known of one execution of the pool.
#[derive(Clone, Debug, Default)]
struct Known {
    fences: Vec<Fence>,
    suspensions: Vec<SuspensionId>,
    waitpoints: Vec<(WaitpointId, Vec<IssuedToken>)>,
    replay_count: u32,
    attempts: u32,
    seen: Seen,
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
    /// The last calls of each operation that changed something, to be made again.
    past: BTreeMap<OpName, Vec<Operation>>,
}

/// How many calls of one operation are kept to be made again.
const PAST: usize = 6;

struct Dice<'a> {
    step: &'a Step,
    at: std::cell::Cell<usize>,
}

impl Dice<'_> {
    fn roll(&self) -> u32 {
        let at = self.at.get();
        self.at.set(at + 1);
        // More draws than dice: the dice come again, turned and with the draw's place added, so that later draws differ
        // from the first.
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

    /// Mostly one that was last seen like this.
    fn seen(&self, d: &Dice<'_>, seen: Seen) -> ExecutionId {
        let ids: Vec<ExecutionId> = self.known.iter().filter(|(_, k)| k.seen == seen).map(|(id, _)| *id).collect();
        match d.pick(&ids) {
            Some(id) if d.chance(75) => *id,
            _ => self.existing(d),
        }
    }

    /// An execution that was claimed, mostly one that still runs, and a fence of it.
    fn owned(&self, d: &Dice<'_>) -> (ExecutionId, Fence) {
        if let Some(known) = self.known.get_key_value(&self.seen(d, Seen::Running))
            && let Some(last) = known.1.fences.last()
            && d.chance(80)
        {
            return (*known.0, *last);
        }
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
            .max_replays(if d.chance(2) { 1_000_001 } else { 2 })
            .max_signals(if d.chance(15) { 1 } else { 10_000 })
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
        match d.below(100) {
            0 => Capabilities::from(["a,b"]),
            1..=70 => Capabilities::from(["gpu"]),
            _ => Capabilities::none(),
        }
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

    fn tags(d: &Dice<'_>) -> BTreeMap<String, Option<String>> {
        if d.chance(8) {
            let of = d.below(2);
            return (0..40).map(|i| (format!("bulk{of}.t{i}"), Some(String::new()))).collect();
        }
        let key = ["team.name", "cost.center", "plain"][if d.chance(5) { 2 } else { d.below(2) as usize }].to_owned();
        BTreeMap::from([(key, d.chance(70).then(|| format!("v{}", d.below(3))))])
    }

    /// Where a clock step leads, given when something is next due: often there, or right before or behind it; seldom back.
    #[must_use]
    pub fn clock_step(step: &Step, now: TimestampMs, next_due: Option<TimestampMs>) -> TimestampMs {
        let d = Dice { step, at: std::cell::Cell::new(0) };
        let due = next_due.map(|at| at.since(now));
        let forward = match (d.below(8), due) {
            (0..=2, Some(ms)) => ms,
            (3, Some(ms)) => ms.saturating_sub(1),
            (4, Some(ms)) => ms + 1,
            (5, _) => 1,
            (6, _) => 700,
            (7, _) if d.chance(10) => 86_400_000,
            (7, _) if d.chance(10) => return TimestampMs::saturating(now.as_millis().saturating_sub(700)),
            _ => 100,
        };
        now.after(forward)
    }

    /// Sometimes an earlier call is made again as it was; a creation under a key also under another id.
    fn again(&self, name: OpName, step: &Step) -> Option<Operation> {
        let [.., which, whether, how] = step.dice;
        let past = self.past.get(&name).filter(|_| whether % 100 < 10)?;
        let mut operation = past.get(which as usize % past.len().max(1))?.clone();
        if let Operation::CreateExecution(args) = &mut operation
            && how % 3 == 0
        {
            args.execution_id = ExecutionId::from_parts(args.execution_id.partition(), uuid(1, how % EXECUTIONS));
        }
        Some(operation)
    }

    /// Reads that show everything public of what is known: compared now and then, and at the end.
    #[must_use]
    pub fn looks(&self) -> Vec<Operation> {
        let mut looks: Vec<Operation> = Vec::new();
        for (id, known) in &self.known {
            let execution_id = *id;
            looks.push(DescribeExecutionArgs { execution_id }.into());
            looks.push(GetPayloadArgs { execution_id }.into());
            looks.push(ListAttemptsArgs::builder().execution_id(execution_id).limit(1000).build().into());
            looks.push(ListSignalsArgs::builder().execution_id(execution_id).limit(1000).build().into());
            looks.push(ListPendingWaitpointsArgs::builder().execution_id(execution_id).limit(1000).build().into());
            looks.push(GetResultArgs::builder().execution_id(execution_id).build().into());
            for index in 0..known.attempts {
                let attempt_index = AttemptIndex(index);
                looks.push(
                    ReadFramesArgs::builder().execution_id(execution_id).attempt_index(attempt_index).build().into(),
                );
            }
        }
        for n in 0..FLOWS {
            let flow_id = FlowId::from_parts(PARTITION, uuid(2, n));
            looks.push(DescribeFlowArgs { flow_id }.into());
            looks.push(ListFlowMembersArgs::builder().flow_id(flow_id).limit(1000).build().into());
            for edge in self.edges.get(&flow_id).into_iter().flatten() {
                looks.push(DescribeEdgeArgs { flow_id, edge_id: edge.0 }.into());
            }
        }
        for lane in ["a", "b"] {
            let lane_id = valid!(LaneId, lane);
            looks.push(LaneCountsArgs::builder().lane_id(lane_id).partition(PARTITION).build().into());
        }
        for n in ["0", "1"] {
            looks.push(GetBudgetStatusArgs { budget_id: valid!(BudgetId, format!("b{n}")) }.into());
            looks.push(GetQuotaStatusArgs { quota_policy_id: valid!(QuotaPolicyId, format!("q{n}")) }.into());
        }
        looks.push(ListWaitpointHmacKidsArgs { partition: PARTITION }.into());
        looks.push(ListExecutionsArgs::builder().partition(PARTITION).limit(1000).build().into());
        looks
    }

    /// The operation that a step means now.
    #[must_use]
    pub fn operation(&self, name: OpName, step: &Step, now: TimestampMs) -> Operation {
        let d = &Dice { step, at: std::cell::Cell::new(0) };
        let n = step.serial;
        if let Some(again) = self.again(name, step) {
            return again;
        }
        self.draw_execution(name, d, n, now)
            .or_else(|| self.draw_claim(name, d, n))
            .or_else(|| self.draw_suspension(name, d, n))
            .or_else(|| self.draw_flow(name, d, n))
            .or_else(|| self.draw_resources(name, d))
            .or_else(|| self.draw_reads(name, d))
            .unwrap_or_else(|| panic!("nothing draws {name}"))
    }
}
