//! After the faults: what is in doubt is asked again, everything is brought to its end, and the ledger is compared with
//! the state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use ff_core::contracts::*; // the whole contract is looked at
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, ExecutionId, LeaseId, SignalId, WaitpointId};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::refusal::{Class, Code};
use ff_core::state::{AttemptLifecycle, PublicState};
use ff_core::time::ManualClock;
use ff_core::token::WaitpointToken;
use uuid::Uuid;

use super::ledger::{Entry, Standing};
use super::work::{BUDGET, Crew, DIMENSION, wake_up};
use crate::stage::{PARTITION, budget_id, dimension, lane, slot, worker};

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Calls that were acknowledged.
    pub acknowledged: u64,
    /// Calls in doubt, asked again.
    pub doubtful: u64,
    /// Executions that were brought to their end.
    pub executions: u64,
    /// Acknowledged things that the state does not show.
    pub lost: u64,
}

/// How long the store may take to serve again.
const RECOVERY: Duration = Duration::from_secs(20);
/// Rounds of a sweep, a claim and a turn of the clock within which everything must have ended.
const ROUNDS: u32 = 400;
/// How far the clock is turned in each.
const ROUND_MS: u64 = 5_000;

/// A suspended execution, its waitpoint and the token that wakes it.
type Sleeper = (ExecutionId, WaitpointId, WaitpointToken);

pub(super) struct Judge<'a> {
    pub(super) backend: &'a dyn EngineBackend,
    pub(super) clock: &'a ManualClock,
    pub(super) wrong: Vec<String>,
    pub(super) settled: Settled,
    rng: Rng,
}

impl<'a> Judge<'a> {
    pub(super) fn new(backend: &'a dyn EngineBackend, clock: &'a ManualClock, seed: u64) -> Self {
        let rng = Rng::with_seed(seed ^ 0x6a75_6467_6500_0000);
        Self { backend, clock, wrong: Vec::new(), settled: Settled::default(), rng }
    }

    fn lost(&mut self, what: impl std::fmt::Display) {
        self.settled.lost += 1;
        self.wrong.push(format!("lost: {what}"));
    }

    /// Asks until there is an answer; the store serves again, or the trial fails.
    async fn sure(&mut self, operation: impl Into<Operation>) -> Result<Outcome, EngineError> {
        let operation = operation.into();
        let began = Instant::now();
        loop {
            match dispatch(self.backend, operation.clone()).await {
                Err(EngineError::Transport { .. }) if began.elapsed() < RECOVERY => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Settles and judges a campaign.
    pub(super) async fn judge(mut self, crew: &Crew) -> (Settled, Vec<String>) {
        let (mut entries, broken) = crew.ledger.take();
        self.wrong.extend(broken);
        self.budget(&entries, "before anything was asked again").await;
        let mut sleepers = crew.take_sleepers();
        self.ask_again(&mut entries, &mut sleepers).await;
        self.budget(&entries, "after what was in doubt was asked again").await;
        for (execution_id, waitpoint_id, token) in sleepers {
            let signal_id = SignalId::from_uuid(Uuid::from_u128(self.rng.u128(..)));
            let _ = self.sure(wake_up(execution_id, waitpoint_id, token, signal_id)).await;
        }
        let mut results = BTreeMap::new();
        let listed = self.bring_to_end(&mut results).await;
        self.settled.executions = listed.len() as u64;
        self.settled.acknowledged =
            entries.iter().filter(|e| matches!(e.standing, Standing::Acknowledged(_))).count() as u64;
        self.existence(&entries, &listed);
        self.endings(&entries, &listed, results).await;
        self.attempts(&entries).await;
        self.frames(&entries).await;
        self.signals(&entries).await;
        self.flows(&entries).await;
        self.indexes(&listed).await;
        (self.settled, self.wrong)
    }

    /// What is in doubt is asked again, unchanged: it gets the first answer, or is done now.
    async fn ask_again(&mut self, entries: &mut [Entry], sleepers: &mut Vec<Sleeper>) {
        for entry in entries.iter_mut() {
            if let (Operation::DeliverSignal(args), Standing::NotApplied) = (&entry.operation, &entry.standing) {
                // Nobody else will wake its sleeper.
                let token = args.waitpoint_token.clone();
                sleepers.push((args.execution_id, args.waitpoint_id, token));
            }
            if let Standing::Refused { refusal, doubtful: true } = &entry.standing {
                self.doubtful_refusal(&entry.operation, refusal.code());
            }
            if entry.standing != Standing::Unknown {
                continue;
            }
            self.settled.doubtful += 1;
            entry.standing = match self.sure(entry.operation.clone()).await {
                Ok(outcome) => {
                    if let Outcome::SuspendExecution(SuspendExecutionResult::Suspended { waitpoints, .. }) = &outcome
                        && let Operation::SuspendExecution(args) = &entry.operation
                    {
                        let tokens =
                            waitpoints.iter().flat_map(|w| w.tokens.iter().map(|t| (w.waitpoint_id, &t.token)));
                        sleepers.extend(tokens.map(|(waitpoint, token)| (args.execution_id, waitpoint, token.clone())));
                    }
                    // And once more: two repeats agree.
                    let again = self.sure(entry.operation.clone()).await;
                    if entry.operation.name().writes() && again.as_ref().ok().map(Outcome::name) != Some(outcome.name())
                    {
                        let name = entry.operation.name();
                        self.wrong.push(format!("{name}: its repeat was answered, the next one not: {again:?}"));
                    }
                    Standing::Acknowledged(outcome)
                }
                Err(EngineError::Refused(refusal)) => {
                    self.doubtful_refusal(&entry.operation, refusal.code());
                    Standing::Refused { refusal, doubtful: true }
                }
                Err(error) => {
                    self.wrong.push(format!("{} asked again: {error}", entry.operation.name()));
                    Standing::Unknown
                }
            };
        }
    }

    /// A repeat may come too late for its lease, never be a stranger to what it did.
    fn doubtful_refusal(&mut self, operation: &Operation, code: Code) {
        let late = matches!(code.class(), Class::Contention | Class::State);
        let late_claim = matches!(operation, Operation::ClaimNext(_)) && code == Code::LeaseIdInUse;
        // A frame in doubt whose client went on with the next one has lost its turn.
        let skipped = matches!(operation, Operation::AppendFrame(_)) && code == Code::FrameSeqConflict;
        if !late && !late_claim && !skipped {
            self.wrong
                .push(format!("{} in doubt was refused {code:?} when asked again: {operation:?}", operation.name()));
        }
    }

    /// The budget shows what was acknowledged, and of what is in doubt any part.
    async fn budget(&mut self, entries: &[Entry], when: &str) {
        let (mut least, mut most) = (0, 0);
        for entry in entries {
            let Operation::ReportUsage(args) = &entry.operation else { continue };
            let amount: u64 = args.amounts.iter().map(|(_, n)| n).sum();
            match entry.standing {
                Standing::Acknowledged(_) => (least, most) = (least + amount, most + amount),
                Standing::Unknown | Standing::Refused { doubtful: true, .. } => most += amount,
                _ => {}
            }
        }
        match self.sure(GetBudgetStatusArgs { budget_id: budget_id(BUDGET) }).await {
            Ok(Outcome::GetBudgetStatus(status)) => {
                let used = status.dimensions.get(&dimension(DIMENSION)).map_or(0, |d| d.usage);
                if used < least {
                    self.lost(format!("{when} the budget shows {used} of {least} that were acknowledged"));
                }
                if used > most {
                    self.wrong.push(format!("{when} the budget shows {used}, more than the {most} ever reported"));
                }
            }
            other => self.wrong.push(format!("get_budget_status: {other:?}")),
        }
    }

    async fn list(&mut self) -> BTreeMap<ExecutionId, PublicState> {
        let (mut listed, mut cursor) = (BTreeMap::new(), None);
        loop {
            let args = ListExecutionsArgs::builder().partition(PARTITION).limit(1000).maybe_cursor(cursor).build();
            match self.sure(args).await {
                Ok(Outcome::ListExecutions(page)) => {
                    for x in page.executions {
                        if listed.insert(x.execution_id, x.public_state).is_some() {
                            self.wrong.push(format!("{} is listed twice", x.execution_id));
                        }
                    }
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        return listed;
                    }
                }
                other => {
                    self.wrong.push(format!("list_executions: {other:?}"));
                    return listed;
                }
            }
        }
    }

    /// Sweeps, claims and completes until everything has ended; notes the results that this gave.
    async fn bring_to_end(
        &mut self,
        results: &mut BTreeMap<ExecutionId, BTreeSet<Bytes>>,
    ) -> BTreeMap<ExecutionId, PublicState> {
        for round in 0..ROUNDS {
            self.clock.advance(ROUND_MS);
            while let Ok(Outcome::Sweep(report)) =
                self.sure(SweepArgs::builder().partition(PARTITION).limit(1000).build()).await
            {
                if !report.corrupt.is_empty() {
                    self.wrong.push(format!("sweep: corrupt {:?}", report.corrupt));
                }
                if !report.more {
                    break;
                }
            }
            let mut took = 0;
            loop {
                let (worker_id, worker_instance_id) = worker();
                let args = ClaimNextArgs {
                    partition: PARTITION,
                    lane_id: lane(),
                    worker_id,
                    worker_instance_id,
                    capabilities: ff_core::policy::Capabilities::none(),
                    slots: (0..64).map(|_| slot()).collect(),
                    lease_ttl_ms: 60_000,
                };
                let Ok(Outcome::ClaimNext(result)) = self.sure(args).await else { break };
                if result.claimed.is_empty() {
                    break;
                }
                for claim in result.claimed {
                    took += 1;
                    let claimed = claim.claimed();
                    let bytes = Bytes::from(format!("settled {}", claimed.execution_id));
                    let args = CompleteExecutionArgs::builder()
                        .execution_id(claimed.execution_id)
                        .actor(Actor::Worker(claimed.fence))
                        .result(bytes.clone())
                        .build();
                    match self.sure(args).await {
                        Ok(_) => drop(results.entry(claimed.execution_id).or_default().insert(bytes)),
                        Err(error) => {
                            self.wrong.push(format!("{} is claimed and not ended: {error}", claimed.execution_id));
                        }
                    }
                }
            }
            let listed = self.list().await;
            if self.wrong.len() > 50 {
                return listed;
            }
            if took == 0 && listed.values().all(|state| is_over(*state)) {
                return listed;
            }
            if round + 1 == ROUNDS {
                let open: Vec<_> = listed.iter().filter(|(_, state)| !is_over(**state)).take(5).collect();
                self.wrong.push(format!("after {ROUNDS} rounds of sweeps these have not ended: {open:?}"));
                return listed;
            }
        }
        BTreeMap::new()
    }

    /// Every acknowledged creation is there, nothing that did not happen is, and nothing that nobody asked for.
    fn existence(&mut self, entries: &[Entry], listed: &BTreeMap<ExecutionId, PublicState>) {
        let mut known = BTreeSet::new();
        for entry in entries {
            let ids: Vec<ExecutionId> = match &entry.operation {
                Operation::CreateExecution(args) => vec![args.execution_id],
                Operation::SubmitFlow(args) => args.members.iter().map(|m| m.execution_id).collect(),
                _ => continue,
            };
            let name = entry.operation.name();
            for id in ids {
                match (&entry.standing, listed.contains_key(&id)) {
                    (Standing::Acknowledged(_), false) => {
                        self.lost(format!("{name} {id} was acknowledged and is not there"));
                    }
                    (Standing::NotApplied, true) => {
                        self.wrong.push(format!("{name} {id} was told not to be applied and is there"));
                    }
                    _ => {}
                }
                known.insert(id);
            }
        }
        for id in listed.keys().filter(|id| !known.contains(id)) {
            self.wrong.push(format!("{id} is there and nobody asked for it"));
        }
    }

    /// One end each, that which was acknowledged, with its result.
    async fn endings(
        &mut self,
        entries: &[Entry],
        listed: &BTreeMap<ExecutionId, PublicState>,
        mut results: BTreeMap<ExecutionId, BTreeSet<Bytes>>,
    ) {
        let mut ends: BTreeMap<ExecutionId, BTreeSet<String>> = BTreeMap::new();
        let mut acknowledged: BTreeMap<ExecutionId, Bytes> = BTreeMap::new();
        let (mut retried, mut failures): (BTreeMap<ExecutionId, u32>, BTreeMap<ExecutionId, u32>) = Default::default();
        for entry in entries {
            let told = match &entry.standing {
                Standing::Acknowledged(outcome) => Some(outcome),
                _ => None,
            };
            match (&entry.operation, told) {
                (Operation::CompleteExecution(args), told) => {
                    let bytes = args.result.clone().unwrap_or_default();
                    results.entry(args.execution_id).or_default().insert(bytes.clone());
                    if told.is_some() {
                        ends.entry(args.execution_id).or_default().insert(format!("completed by {:?}", args.actor));
                        acknowledged.insert(args.execution_id, bytes);
                    }
                }
                (Operation::CancelExecution(args), Some(_)) => {
                    ends.entry(args.execution_id).or_default().insert(format!("cancelled by {:?}", args.actor));
                }
                (Operation::FailExecution(args), told) => {
                    *failures.entry(args.execution_id).or_default() += 1;
                    match told {
                        Some(Outcome::FailExecution(FailExecutionResult::Ended { .. })) => {
                            ends.entry(args.execution_id).or_default().insert(format!("failed by {:?}", args.actor));
                        }
                        Some(_) => *retried.entry(args.execution_id).or_default() += 1,
                        None => {}
                    }
                }
                _ => {}
            }
        }
        for (id, how) in ends.iter().filter(|(_, how)| how.len() > 1) {
            self.wrong.push(format!("{id} ended more than once: {how:?}"));
        }
        for (id, how) in &ends {
            let expected = match how.iter().next().map(|text| text.split(' ').next().unwrap_or_default()) {
                Some("completed") => PublicState::Completed,
                Some("cancelled") => PublicState::Cancelled,
                _ => PublicState::Failed,
            };
            if let Some(state) = listed.get(id)
                && *state != expected
            {
                self.lost(format!("{id} was acknowledged as {expected:?} and is {state:?}"));
            }
        }
        for (id, state) in listed {
            if *state == PublicState::Completed {
                let args = GetResultArgs::builder().execution_id(*id).build();
                match self.sure(args).await {
                    Ok(Outcome::GetResult(got)) => {
                        let bytes = got.result.unwrap_or_default();
                        if acknowledged.get(id).is_some_and(|sent| *sent != bytes) {
                            self.lost(format!("the acknowledged result of {id} is another's"));
                        }
                        if !results.get(id).is_some_and(|sent| sent.contains(&bytes)) {
                            self.wrong.push(format!("nobody sent the result of {id}"));
                        }
                    }
                    other => self.lost(format!("the result of {id}: {other:?}")),
                }
            }
            let (least, most) = (retried.get(id).copied().unwrap_or(0), failures.get(id).copied().unwrap_or(0));
            if most > 0
                && let Ok(Outcome::DescribeExecution(x)) = self.sure(DescribeExecutionArgs { execution_id: *id }).await
                && !(least..=most).contains(&x.total_retries)
            {
                self.wrong
                    .push(format!("{id} was retried {} times, {least} acknowledged, {most} asked", x.total_retries));
            }
        }
    }

    /// Every acknowledged claim is an attempt, and no lease was given to two.
    async fn attempts(&mut self, entries: &[Entry]) {
        let mut epochs: BTreeMap<(ExecutionId, u64), LeaseId> = BTreeMap::new();
        let mut claimed: BTreeMap<ExecutionId, Vec<ClaimedExecution>> = BTreeMap::new();
        let mut completed: BTreeMap<ExecutionId, Fence> = BTreeMap::new();
        for entry in entries {
            if let (Operation::CompleteExecution(args), Standing::Acknowledged(_)) = (&entry.operation, &entry.standing)
                && let Actor::Worker(fence) = &args.actor
            {
                completed.insert(args.execution_id, *fence);
            }
            let Standing::Acknowledged(Outcome::ClaimNext(result)) = &entry.standing else { continue };
            for claim in &result.claimed {
                let c = claim.claimed();
                let (id, fence) = (c.execution_id, c.fence);
                let first = epochs.insert((id, fence.lease_epoch.get()), fence.lease_id);
                if first.is_some_and(|first| first != fence.lease_id) {
                    self.wrong.push(format!("{id}: two leases have epoch {}", fence.lease_epoch.get()));
                }
                claimed.entry(id).or_default().push(c.clone());
            }
        }
        for (id, claims) in claimed {
            let args = ListAttemptsArgs::builder().execution_id(id).limit(1000).build();
            let attempts = match self.sure(args).await {
                Ok(Outcome::ListAttempts(page)) => page.attempts,
                other => {
                    self.lost(format!("the attempts of {id}: {other:?}"));
                    continue;
                }
            };
            for (index, attempt) in attempts.iter().enumerate() {
                if usize::try_from(attempt.attempt_index.get()).ok() != Some(index) {
                    self.wrong.push(format!("{id}: its attempts have a gap before {}", attempt.attempt_index.get()));
                }
            }
            if let Some(fence) = completed.get(&id) {
                let newest = attempts.last();
                let by_it = newest.is_some_and(|a| {
                    a.attempt_id == fence.attempt_id && a.attempt_state == AttemptLifecycle::EndedSuccess
                });
                if !by_it {
                    self.wrong.push(format!(
                        "{id}: a completion under {fence:?} was acknowledged, and its newest attempt is {newest:?}"
                    ));
                }
            }
            for c in claims {
                let index = c.attempt_index.get() as usize;
                if attempts.get(index).map(|a| a.attempt_id) != Some(c.attempt_id) {
                    self.lost(format!("{id}: attempt {index}, acknowledged to a claim, is another"));
                }
            }
        }
    }

    /// Every acknowledged frame is there, once, in order, and no other.
    async fn frames(&mut self, entries: &[Entry]) {
        let mut sent: BTreeMap<(ExecutionId, String), BTreeMap<Bytes, Option<StreamEntryId>>> = BTreeMap::new();
        for entry in entries {
            let Operation::AppendFrame(args) = &entry.operation else { continue };
            let text = String::from_utf8_lossy(&args.payload).into_owned();
            let attempt = text.split(' ').next().unwrap_or_default().to_owned();
            let id = match &entry.standing {
                Standing::Acknowledged(Outcome::AppendFrame(result)) => Some(result.entry_id),
                // A refusal answers the last try. A backend that repeats lost calls for its caller may have applied an earlier
                // one, before the lease was over.
                Standing::Refused { refusal, doubtful } if !doubtful && refusal.code().class() != Class::State => {
                    continue;
                }
                Standing::NotApplied => continue,
                _ => None,
            };
            sent.entry((args.execution_id, attempt)).or_default().insert(args.payload.clone(), id);
        }
        for ((id, attempt), sent) in sent {
            let index = AttemptIndex(attempt.parse().unwrap_or(0));
            let args = ReadFramesArgs::builder().execution_id(id).attempt_index(index).limit(10_000).build();
            let frames = match self.sure(args).await {
                Ok(Outcome::ReadFrames(ReadFramesResult::Frames(page))) => page.frames,
                other => {
                    self.lost(format!("the frames of {id}: {other:?}"));
                    continue;
                }
            };
            for pair in frames.windows(2) {
                if pair[0].id >= pair[1].id || pair[0].seq >= pair[1].seq {
                    self.wrong.push(format!("{id}: frames {} and {} are not in order", pair[0].id, pair[1].id));
                }
            }
            for frame in &frames {
                if !sent.contains_key(&frame.payload) {
                    self.wrong.push(format!("{id}: nobody sent frame {}", frame.id));
                }
            }
            for (payload, told) in &sent {
                let stored = frames.iter().find(|frame| frame.payload == *payload);
                if let Some(told) = told
                    && stored.map(|frame| frame.id) != Some(*told)
                {
                    self.lost(format!("{id}: frame {told}, acknowledged"));
                }
            }
        }
    }

    /// Every acknowledged signal is known: sent again it is a duplicate, and nothing moves.
    async fn signals(&mut self, entries: &[Entry]) {
        for entry in entries {
            let (Operation::DeliverSignal(args), Standing::Acknowledged(_)) = (&entry.operation, &entry.standing)
            else {
                continue;
            };
            match self.sure(args.clone()).await {
                Ok(Outcome::DeliverSignal(DeliverSignalResult::Duplicate { signal_id, .. }))
                    if signal_id == args.signal_id => {}
                other => self.lost(format!("signal {} of {}: {other:?}", args.signal_id, args.execution_id)),
            }
            let list = ListSignalsArgs::builder().execution_id(args.execution_id).limit(1000).build();
            if let Ok(Outcome::ListSignals(page)) = self.sure(list).await
                && page.signals.iter().filter(|s| s.signal_id == args.signal_id).count() > 1
            {
                self.wrong.push(format!("signal {} of {} is recorded twice", args.signal_id, args.execution_id));
            }
        }
    }

    /// Every acknowledged flow is whole and over.
    async fn flows(&mut self, entries: &[Entry]) {
        for entry in entries {
            let (Operation::SubmitFlow(args), Standing::Acknowledged(_)) = (&entry.operation, &entry.standing) else {
                continue;
            };
            let flow_id = args.flow_id;
            let flow = match self.sure(DescribeFlowArgs { flow_id }).await {
                Ok(Outcome::DescribeFlow(flow)) => flow,
                other => {
                    self.lost(format!("flow {flow_id}: {other:?}"));
                    continue;
                }
            };
            let members = match self.sure(ListFlowMembersArgs::builder().flow_id(flow_id).limit(1000).build()).await {
                Ok(Outcome::ListFlowMembers(page)) => page.members,
                other => {
                    self.lost(format!("the members of {flow_id}: {other:?}"));
                    continue;
                }
            };
            if flow.node_count != 4 || flow.edge_count != 4 || members.len() != 4 {
                self.wrong.push(format!("{flow_id} has {} members and {} edges", flow.node_count, flow.edge_count));
            }
            let mut recount: BTreeMap<PublicState, u32> = BTreeMap::new();
            for member in &members {
                *recount.entry(member.public_state).or_default() += 1;
                if member.unresolved_count > 0 {
                    self.wrong.push(format!("{flow_id}: an edge of {} is never resolved", member.execution_id));
                }
            }
            let counts: BTreeMap<PublicState, u32> = flow.member_counts.iter().filter(|(_, n)| *n > 0).collect();
            if counts != recount || flow.deferred > 0 {
                self.wrong.push(format!("{flow_id} counts {counts:?}, its members are {recount:?}"));
            }
        }
    }

    /// Queues, timers and lists are what the records imply; lane counts are a recount.
    async fn indexes(&mut self, listed: &BTreeMap<ExecutionId, PublicState>) {
        let (mut cursor, mut repaired) = (None, Vec::new());
        loop {
            let args = RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).maybe_cursor(cursor).build();
            match self.sure(args).await {
                Ok(Outcome::RebuildIndexes(page)) => {
                    if page.total() > 0 || !page.corrupt.is_empty() {
                        repaired.push(format!("{:?}, corrupt {:?}", page.repaired, page.corrupt));
                    }
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                other => {
                    self.wrong.push(format!("rebuild_indexes: {other:?}"));
                    return;
                }
            }
        }
        if !repaired.is_empty() {
            self.wrong.push(format!("the indexes were not what the records imply: {}", repaired.join("; ")));
        }
        let mut recount: BTreeMap<PublicState, u64> = BTreeMap::new();
        for state in listed.values() {
            *recount.entry(*state).or_default() += 1;
        }
        match self.sure(LaneCountsArgs::builder().lane_id(lane()).partition(PARTITION).build()).await {
            Ok(Outcome::LaneCounts(counts)) => {
                let counts: BTreeMap<PublicState, u64> =
                    counts.counts.iter().filter(|(_, n)| **n > 0).map(|(state, n)| (*state, *n)).collect();
                if counts != recount {
                    self.wrong.push(format!("the lane counts {counts:?}, its executions are {recount:?}"));
                }
            }
            other => self.wrong.push(format!("lane_counts: {other:?}")),
        }
    }
}

fn is_over(state: PublicState) -> bool {
    matches!(
        state,
        PublicState::Completed
            | PublicState::Failed
            | PublicState::Cancelled
            | PublicState::Expired
            | PublicState::Skipped
    )
}
