//! The checker for linearizability held against histories that are known to be good or bad and against a second
//! implementation, stateright's; and the concurrent tier against backends that are wrong only when clients meet.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_conformance::concurrent::{Asked, Judgement, Met, Plan, Rules, Theme, draw, judge, play};
use ff_conformance::linear::{Bound, Call, Specification, Verdict, check, shorten, table};
use ff_conformance::random::{Action, Step, World};
use ff_conformance::{Fixture, Harness, TestName, Trials, convict};
use ff_core::bounds::Deployment;
use ff_core::contracts::{CheckAdmissionResult, ClaimNextArgs, ClaimSlot, NextClaim};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, SignalId};
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::time::{ManualClock, TimestampMs};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tokio::task::yield_now;

const BOUND: Bound = Bound(100_000);

/// A register that begins with 0.
struct Register;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    Read,
    Write(u8),
}
use Access::{Read, Write};

impl Specification for Register {
    type State = u8;
    type Operation = Access;
    /// What was read; writes answer what they wrote.
    type Outcome = u8;

    fn initial(&self) -> u8 {
        0
    }

    fn apply(&self, state: &mut u8, operation: &Access) -> u8 {
        if let Write(value) = operation {
            *state = *value;
        }
        *state
    }

    fn only_reads(&self, operation: &Access) -> bool {
        *operation == Read
    }
}

/// A queue; taking from an empty one answers nothing.
struct Queue;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    Put(u8),
    Take,
}
use Pass::{Put, Take};

impl Specification for Queue {
    type State = VecDeque<u8>;
    type Operation = Pass;
    type Outcome = Option<u8>;

    fn initial(&self) -> Self::State {
        VecDeque::new()
    }

    fn apply(&self, state: &mut Self::State, operation: &Pass) -> Option<u8> {
        match operation {
            Put(value) => {
                state.push_back(*value);
                None
            }
            Take => state.pop_front(),
        }
    }

    fn changed_nothing(&self, operation: &Pass, outcome: &Option<u8>) -> bool {
        *operation == Take && outcome.is_none()
    }
}

fn done<O, R>(client: usize, from: u64, to: u64, operation: O, outcome: R) -> Call<O, R> {
    Call::answered(client, from, to, operation, outcome)
}

#[test]
fn histories_of_a_register_that_have_an_order() {
    let good = [
        vec![],
        vec![done(0, 1, 2, Read, 0)],
        vec![done(0, 1, 2, Write(1), 1), done(1, 3, 4, Read, 1)],
        // A read beside a write sees it or not.
        vec![done(0, 1, 4, Write(1), 1), done(1, 2, 3, Read, 0)],
        vec![done(0, 1, 4, Write(1), 1), done(1, 2, 3, Read, 1)],
        // Two writes beside each other end in either order.
        vec![done(0, 1, 3, Write(1), 1), done(1, 2, 4, Write(2), 2), done(0, 5, 6, Read, 1)],
        vec![done(0, 1, 3, Write(1), 1), done(1, 2, 4, Write(2), 2), done(0, 5, 6, Read, 2)],
        // A write without an answer happened late, or never.
        vec![Call::unknown(0, 1, Write(1)), done(1, 2, 3, Read, 0), done(1, 4, 5, Read, 1)],
        vec![Call::unknown(0, 1, Write(1)), done(1, 2, 3, Read, 0)],
        // It had its effect before it could have none any more, or never.
        vec![Call::unknown(0, 1, Write(1)).settled(4), done(1, 2, 3, Read, 0), done(1, 5, 6, Read, 0)],
        vec![Call::unknown(0, 1, Write(1)).settled(4), done(1, 2, 3, Read, 0), done(1, 5, 6, Read, 1)],
        vec![Call::unknown(0, 1, Write(1)).settled(4), done(1, 2, 6, Read, 0), done(2, 7, 8, Read, 1)],
        // A read that is right without it, and would be without it for ever, does not close its time.
        vec![done(2, 1, 9, Read, 1), Call::unknown(0, 2, Write(1)).settled(4), done(1, 5, 6, Read, 1)],
    ];
    for history in good {
        let verdict = check(&Register, &history, BOUND);
        assert!(verdict.is_linearizable(), "{history:?}: {verdict:?}");
    }
}

#[test]
fn histories_of_a_register_that_have_none() {
    let bad = [
        vec![done(0, 1, 2, Read, 1)],
        vec![done(0, 1, 2, Write(1), 1), done(1, 3, 4, Read, 0)],
        // New and then old again.
        vec![done(0, 1, 8, Write(1), 1), done(1, 2, 3, Read, 1), done(1, 4, 5, Read, 0)],
        // Two readers see two writes in opposite orders.
        vec![
            done(0, 1, 9, Write(1), 1),
            done(1, 2, 10, Write(2), 2),
            done(2, 3, 4, Read, 1),
            done(2, 5, 6, Read, 2),
            done(3, 7, 8, Read, 1),
        ],
        // An answer from before the call.
        vec![done(0, 1, 2, Read, 1), done(1, 3, 4, Write(1), 1)],
        // A write without an answer does not happen twice.
        vec![Call::unknown(0, 1, Write(1)), done(1, 2, 3, Read, 1), done(1, 4, 5, Write(2), 2), done(1, 6, 7, Read, 1)],
        // Nor after its time is over.
        vec![Call::unknown(0, 1, Write(1)).settled(4), done(1, 5, 6, Read, 0), done(1, 7, 8, Read, 1)],
        // Nor before it was asked.
        vec![done(1, 1, 2, Read, 1), Call::unknown(0, 3, Write(1))],
    ];
    for history in bad {
        let verdict = check(&Register, &history, BOUND);
        assert!(verdict.is_not(), "{history:?}: {verdict:?}");
    }
}

#[test]
fn histories_of_a_queue() {
    // The first of Herlihy and Wing's examples: y may be put before x, though x was asked first.
    let good = [
        done(0, 1, 3, Put(1), None),
        done(1, 2, 4, Put(2), None),
        done(0, 5, 6, Take, Some(2)),
        done(1, 7, 8, Take, Some(1)),
    ];
    assert!(check(&Queue, &good, BOUND).is_linearizable());
    // One after the other they come out as they went in.
    let bad = [done(0, 1, 2, Put(1), None), done(1, 3, 4, Put(2), None), done(1, 5, 6, Take, Some(2))];
    assert!(check(&Queue, &bad, BOUND).is_not());
    let twice = [done(0, 1, 2, Put(1), None), done(1, 3, 5, Take, Some(1)), done(2, 4, 6, Take, Some(1))];
    assert!(check(&Queue, &twice, BOUND).is_not());
    let beside = [done(0, 1, 4, Put(1), None), done(1, 2, 3, Take, None), done(1, 5, 6, Take, Some(1))];
    assert!(check(&Queue, &beside, BOUND).is_linearizable());
}

#[test]
fn an_order_that_was_found_explains_every_answer() {
    let mut found = 0;
    for seed in 0..2_000 {
        let history = random_history(&Queue, seed, |rng| if rng.bool() { Put(rng.u8(0..3)) } else { Take });
        if let Verdict::Linearizable(order) = check(&Queue, &history, BOUND) {
            found += 1;
            let mut state = Queue.initial();
            for at in &order {
                let outcome = Queue.apply(&mut state, &history[*at].operation);
                assert!(history[*at].answer.as_ref().is_none_or(|(_, actual)| *actual == outcome), "{history:?}");
            }
            for (place, at) in order.iter().enumerate() {
                let later = &order[place + 1..];
                assert!(later.iter().all(|l| returned(&history[*l]) > history[*at].invoked), "{history:?} {order:?}");
            }
            assert_eq!(order.iter().filter(|at| history[**at].answer.is_some()).count(), answered(&history));
        }
    }
    assert!(found > 500, "{found} histories had an order");
}

#[test]
fn a_search_beyond_its_bound_gives_up() {
    // Sixteen writes at once, and a read of what nobody wrote: every order leads nowhere.
    let mut history: Vec<Call<Access, u8>> = (0..16).map(|n| done(n, 1 + n as u64, 100, Write(1), 1)).collect();
    for (n, call) in history.iter_mut().enumerate() {
        call.answer = Some((100 + n as u64, u8::try_from(n).expect("is small") + 1));
        call.operation = Write(u8::try_from(n).expect("is small") + 1);
    }
    history.push(done(16, 200, 201, Read, 99));
    assert_eq!(check(&Register, &history, Bound(1_000)), Verdict::GaveUp);
}

#[test]
fn a_contradiction_is_shortened_to_what_contradicts() {
    let mut history = Vec::new();
    for n in 0..20_u64 {
        history.push(done(0, 10 * n + 1, 10 * n + 2, Put(1), None));
        history.push(done(1, 10 * n + 3, 10 * n + 4, Take, Some(1)));
    }
    history.push(done(2, 301, 302, Put(7), None));
    history.push(done(0, 303, 306, Take, Some(7)));
    history.push(done(1, 304, 305, Take, Some(7)));
    history.push(done(1, 307, 308, Take, None));
    let shortened = shorten(&Queue, &history, BOUND).expect("it is a contradiction");
    let kept: Vec<u64> = shortened.calls.iter().map(|call| call.invoked).collect();
    assert_eq!(kept, [301, 303, 304], "{}", table(&shortened));
    assert_eq!(shortened.left_out, 41);
    let text = table(&shortened);
    assert!(text.contains("Put(7)") && text.contains("then call 1 would have been answered None"), "{text}");
}

fn answered<O, R>(history: &[Call<O, R>]) -> usize {
    history.iter().filter(|call| call.answer.is_some()).count()
}

fn returned<O, R>(call: &Call<O, R>) -> u64 {
    call.answer.as_ref().map_or(u64::MAX, |(at, _)| *at)
}

/// A small history of two to four clients: each call happens at some instant between invocation and return; some answers
/// are those of an earlier state, so that some of the histories have no order.
fn random_history<S: Specification>(
    specification: &S,
    seed: u64,
    mut operation: impl FnMut(&mut fastrand::Rng) -> S::Operation,
) -> Vec<Call<S::Operation, S::Outcome>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut history: Vec<Call<S::Operation, S::Outcome>> = Vec::new();
    let clients = rng.usize(2..=4);
    let calls = rng.usize(4..=8);
    let stale = [0, 40, 90][rng.usize(0..3)];
    let mut states = vec![specification.initial()];
    // What each client waits for: the position of its call, and its outcome once it has happened.
    let mut waits: Vec<Option<(usize, Option<S::Outcome>)>> = vec![None; clients];
    let mut now = 0;
    loop {
        now += 1;
        let client = rng.usize(0..clients);
        match waits[client].take() {
            None if history.len() == calls => break,
            None => {
                waits[client] = Some((history.len(), None));
                history.push(Call::unknown(client, now, operation(&mut rng)));
            }
            Some((at, None)) => {
                let mut state = states.last().expect("there is the first").clone();
                let mut outcome = specification.apply(&mut state, &history[at].operation);
                if rng.u32(0..100) < stale {
                    let mut old = states[rng.usize(0..states.len())].clone();
                    outcome = specification.apply(&mut old, &history[at].operation);
                }
                states.push(state);
                waits[client] = Some((at, Some(outcome)));
            }
            Some((at, Some(outcome))) => history[at].answer = Some((now, outcome)),
        }
    }
    history
}

/// A specification as stateright wants it.
struct Reference<'a, S: Specification> {
    specification: &'a S,
    state: S::State,
}

impl<S: Specification> Clone for Reference<'_, S> {
    fn clone(&self) -> Self {
        Self { specification: self.specification, state: self.state.clone() }
    }
}

impl<S: Specification> SequentialSpec for Reference<'_, S> {
    type Op = S::Operation;
    type Ret = S::Outcome;

    fn invoke(&mut self, operation: &S::Operation) -> S::Outcome {
        self.specification.apply(&mut self.state, operation)
    }
}

/// What stateright says of a history.
fn second_opinion<S: Specification>(specification: &S, history: &[Call<S::Operation, S::Outcome>]) -> bool
where
    S::Operation: Debug,
    S::Outcome: Debug,
{
    let mut tester = LinearizabilityTester::new(Reference { specification, state: specification.initial() });
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (at, call) in history.iter().enumerate() {
        events.push((call.invoked, at, true));
        if let Some((returned, _)) = call.answer {
            events.push((returned, at, false));
        }
    }
    events.sort_unstable();
    for (_, at, begins) in events {
        let call = &history[at];
        let told = match (&call.answer, begins) {
            (_, true) => tester.on_invoke(call.client, call.operation.clone()).map(|_| ()),
            (Some((_, outcome)), false) => tester.on_return(call.client, outcome.clone()).map(|_| ()),
            (None, false) => Ok(()),
        };
        told.expect("a client makes one call after the other");
    }
    tester.is_consistent()
}

/// Both say the same of every history, and each verdict comes often.
fn agree_on<S: Specification>(
    specification: &S,
    seeds: std::ops::Range<u64>,
    mut operation: impl FnMut(&mut fastrand::Rng, u64) -> S::Operation,
) where
    S::Operation: Debug,
    S::Outcome: Debug,
{
    let (mut good, mut bad) = (0, 0);
    let total = usize::try_from(seeds.end - seeds.start).expect("few");
    for seed in seeds {
        let history = random_history(specification, seed, |rng| operation(rng, seed));
        let verdict = check(specification, &history, BOUND);
        assert!(verdict != Verdict::GaveUp);
        let ours = verdict.is_linearizable();
        assert_eq!(ours, second_opinion(specification, &history), "seed {seed}: {history:#?}");
        if ours { good += 1 } else { bad += 1 }
    }
    assert!(good * 5 > total && bad * 20 > total, "{good} good and {bad} bad of {total}");
}

#[test]
fn two_implementations_agree_on_registers() {
    agree_on(&Register, 0..10_000, |rng, _| if rng.bool() { Write(rng.u8(1..3)) } else { Read });
}

#[test]
fn two_implementations_agree_on_queues() {
    agree_on(&Queue, 0..10_000, |rng, _| if rng.bool() { Put(rng.u8(0..3)) } else { Take });
}

#[test]
fn two_implementations_agree_on_the_model() {
    let names = [OpName::ClaimNext, OpName::CreateExecution, OpName::ReportUsage, OpName::CreateBudget, OpName::Sweep];
    let mut serial = 0;
    agree_on(&Rules(Deployment::default()), 0..1_000, |rng, _| {
        serial += 1;
        let name = names[rng.usize(0..names.len())];
        let step = Step { action: Action::Call(name), serial, dice: std::array::from_fn(|_| rng.u32(..)) };
        let now = TimestampMs::saturating(1_000_000);
        Asked { now, operation: World::default().operation(name, &step, now) }
    });
}

// --- the tier itself ---

/// Plays histories about these themes on a backend with a layer around it, until one is wrong and its table shows what is
/// looked for; how many were played, and the table.
fn play_until_wrong<L: Layer>(
    layer: impl Fn() -> L,
    themes: &[Theme],
    at_most: usize,
    shows: impl Fn(&str) -> bool,
) -> (usize, Option<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("starts");
    let plans = (0..).map(draw).filter(|plan: &Plan| themes.contains(&plan.theme()));
    let mut given_up = 0;
    let mut met = Met::default();
    for (played, plan) in plans.take(at_most).enumerate() {
        assert!((6..=12).contains(&plan.clients()) && (40..=80).contains(&plan.calls()));
        let judgement = runtime.block_on(async {
            let clock = ManualClock::at(TimestampMs::ZERO);
            let inner: Arc<dyn EngineBackend> = Arc::new(MemoryBackend::with_manual_clock(clock.clone()));
            let backend = Layered::new(inner, layer());
            let handles: [Arc<dyn EngineBackend>; 2] = [Arc::new(backend.clone()), Arc::new(backend)];
            let history = play(&handles, &clock, &plan).await.expect("clients end");
            met.add(&Met::of(&history, plan.clients()));
            judge(&Rules(Deployment::default()), history)
        });
        match judgement {
            Judgement::Wrong(text) if shows(&text) => return (played + 1, Some(text)),
            Judgement::Wrong(_) => {}
            Judgement::GaveUp => given_up += 1,
            Judgement::Linearizable => {}
        }
    }
    assert!(given_up * 100 <= at_most, "given up in {given_up} of {at_most}");
    println!("{met}");
    assert_eq!(met.gaps(), Vec::<String>::new());
    (at_most, None)
}

/// Histories within which each mistake must be found.
const BUDGET: usize = 600;

/// The rows of a table: of each call what was asked.
fn asked(table: &str) -> Vec<&str> {
    let rows = table.lines().skip_while(|line| !line.contains("operation -> outcome")).skip(1);
    rows.take_while(|line| line.starts_with("  ")).filter(|line| !line.trim_start().starts_with("->")).collect()
}

/// Histories show the mistake in calls of this operation, and in more than one; sequences show nothing, since it is made only
/// when clients meet. Of a wrong history what stands out first may be a later read of what went wrong: others are played.
fn convicts<L: Layer>(layer: fn() -> L, themes: &[Theme], operation: &str) {
    let alone = Arc::new(Alone(layer));
    let found = convict(&alone, &Trials::none().seeds(0..12));
    assert!(found.is_none(), "it is wrong without any meeting: {found:?}");
    let shows = |table: &str| {
        let rows = asked(table);
        let of_it = rows.iter().any(|row| row.contains(&format!(" {operation}(")));
        of_it && rows.len() > 1 && table.contains("would have been answered")
    };
    let (played, table) = play_until_wrong(layer, themes, BUDGET, shows);
    let table = table.unwrap_or_else(|| panic!("not found in {played} histories"));
    println!("found in history {played}\n{table}");
}

/// One backend under a layer, which one caller uses alone.
struct Alone<L>(fn() -> L);

impl<L: Layer> Harness for Alone<L> {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let memory = MemoryBackend::with_manual_clock(clock.clone());
        Fixture::new(Arc::new(Layered::new(Arc::new(memory), (self.0)())), clock)
    }
}

/// How many are between asking and being answered. Whoever goes away without the answer is no more among them.
#[derive(Default)]
struct Between(AtomicUsize);

struct Inside<'a> {
    between: &'a Between,
    /// Whether others were inside when this one entered.
    met: bool,
}

impl Between {
    fn enter(&self) -> Inside<'_> {
        Inside { between: self, met: self.0.fetch_add(1, Ordering::SeqCst) > 0 }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.between.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn who_goes_away_in_the_middle_of_a_call_is_no_more_between() {
    let between = Between::default();
    let mut call = Box::pin(async {
        let inside = between.enter();
        yield_now().await;
        inside.met
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut context).is_pending());
    assert!(between.enter().met);
    drop(call);
    assert!(!between.enter().met);
}

/// Lets others go between asking, doing and answering: nothing wrong, only slow.
struct Slow;

#[async_trait]
impl Layer for Slow {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        yield_now().await;
        let outcome = dispatch(inner, operation).await;
        yield_now().await;
        outcome
    }
}

#[test]
fn a_backend_that_is_only_slow_is_not_convicted() {
    let (played, table) = play_until_wrong(|| Slow, &Theme::ALL, 700, |_| true);
    assert!(table.is_none(), "history {played}: {}", table.unwrap_or_default());
}

/// A claim that looks at the queue, and takes from it later: of two that meet, one that finds nothing left is granted what
/// the other was, under a lease of its own.
#[derive(Default)]
struct TwiceGranted {
    between: Between,
    seen: Mutex<Option<(ClaimNextArgs, NextClaim)>>,
}

/// The same grant to another caller.
fn granted_to(slot: &ClaimSlot, claim: &NextClaim) -> NextClaim {
    let mut claim = claim.clone();
    let claimed = match &mut claim {
        NextClaim::New(claimed) | NextClaim::Reclaimed(claimed) => claimed,
        NextClaim::Resumed(resumed) => &mut resumed.claimed,
    };
    claimed.fence.lease_id = slot.lease_id;
    claimed.fence.attempt_id = slot.attempt_id;
    claim
}

#[async_trait]
impl Layer for TwiceGranted {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let Operation::ClaimNext(args) = &operation else { return dispatch(inner, operation).await };
        let args = args.clone();
        let inside = self.between.enter();
        if !inside.met {
            *self.seen.lock().expect("not poisoned") = None;
        }
        yield_now().await;
        let mut outcome = dispatch(inner, operation).await;
        if let Ok(Outcome::ClaimNext(result)) = &mut outcome {
            let mut seen = self.seen.lock().expect("not poisoned");
            match (result.claimed.first(), &*seen, args.slots.first()) {
                (Some(NextClaim::New(claimed)), ..) => *seen = Some((args, NextClaim::New(claimed.clone()))),
                // One of the same lane that can do the same.
                (None, Some((first, claim)), Some(slot))
                    if first.lane_id == args.lane_id && first.capabilities == args.capabilities =>
                {
                    result.claimed = vec![granted_to(slot, claim)];
                }
                _ => {}
            }
        }
        yield_now().await;
        outcome
    }
}

#[test]
fn a_claim_granted_twice_when_two_meet_is_convicted() {
    convicts(TwiceGranted::default, &[Theme::Claims, Theme::Leases], "ClaimNext");
}

/// A budget that reads its usage and writes the sum later: of two reports that meet, one is lost.
#[derive(Default)]
struct LostUpdate {
    between: Between,
}

#[async_trait]
impl Layer for LostUpdate {
    async fn around(&self, inner: &dyn EngineBackend, mut operation: Operation) -> Result<Outcome, EngineError> {
        if operation.name() != OpName::ReportUsage || operation.check(inner.deployment()).is_err() {
            return dispatch(inner, operation).await;
        }
        let inside = self.between.enter();
        yield_now().await;
        if let (Operation::ReportUsage(args), true) = (&mut operation, inside.met) {
            args.dedup_key = None;
            args.amounts.iter_mut().for_each(|(_, amount)| *amount = 0);
        }
        dispatch(inner, operation).await
    }
}

#[test]
fn a_report_lost_when_two_meet_is_convicted() {
    convicts(LostUpdate::default, &[Theme::Resources], "ReportUsage");
}

/// A signal that is sent once more when another is on its way.
#[derive(Default)]
struct CountedTwice {
    between: Between,
}

#[async_trait]
impl Layer for CountedTwice {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let Operation::DeliverSignal(args) = &operation else { return dispatch(inner, operation).await };
        let mut again = args.clone();
        again.signal_id = SignalId::from_uuid(uuid::Uuid::from_u128(again.signal_id.uuid().as_u128() ^ (1 << 80)));
        again.idempotency_key = None;
        let inside = self.between.enter();
        yield_now().await;
        let outcome = dispatch(inner, operation).await;
        if inside.met && outcome.is_ok() {
            let _ = dispatch(inner, again.into()).await;
        }
        yield_now().await;
        outcome
    }
}

#[test]
fn a_signal_counted_twice_when_two_meet_is_convicted() {
    convicts(CountedTwice::default, &[Theme::Signals], "DeliverSignal");
}

/// A cache of reads that writes empty, and that a read which began before the write then fills.
#[derive(Default)]
struct FilledLate {
    kept: Mutex<Vec<(ExecutionId, Outcome)>>,
}

#[async_trait]
impl Layer for FilledLate {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        if operation.name().writes() {
            let outcome = dispatch(inner, operation).await;
            self.kept.lock().expect("not poisoned").clear();
            return outcome;
        }
        let Operation::DescribeExecution(args) = &operation else { return dispatch(inner, operation).await };
        let id = args.execution_id;
        let known = self.kept.lock().expect("not poisoned").iter().find(|(of, _)| *of == id).cloned();
        if let Some((_, outcome)) = known {
            return Ok(outcome);
        }
        let outcome = dispatch(inner, operation).await?;
        for _ in 0..4 {
            yield_now().await;
        }
        self.kept.lock().expect("not poisoned").push((id, outcome.clone()));
        Ok(outcome)
    }
}

#[test]
fn a_cache_filled_with_what_was_is_convicted() {
    convicts(FilledLate::default, &[Theme::Claims, Theme::Endings, Theme::Leases], "DescribeExecution");
}

/// An admission that looks for a place, and takes it later: two that meet get the same.
#[derive(Default)]
struct PlaceGivenTwice {
    between: Between,
    seen: Mutex<Option<CheckAdmissionResult>>,
}

#[async_trait]
impl Layer for PlaceGivenTwice {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        if operation.name() != OpName::CheckAdmission {
            return dispatch(inner, operation).await;
        }
        let inside = self.between.enter();
        if !inside.met {
            *self.seen.lock().expect("not poisoned") = None;
        }
        yield_now().await;
        let mut outcome = dispatch(inner, operation).await;
        if let Ok(Outcome::CheckAdmission(result)) = &mut outcome {
            let mut seen = self.seen.lock().expect("not poisoned");
            match (&*result, &*seen) {
                (CheckAdmissionResult::Admitted { .. }, _) => *seen = Some(*result),
                (_, Some(place)) => *result = *place,
                _ => {}
            }
        }
        yield_now().await;
        outcome
    }
}

#[test]
fn a_place_given_twice_when_two_meet_is_convicted() {
    convicts(PlaceGivenTwice::default, &[Theme::Resources], "CheckAdmission");
}
