//! Malformed calls: good ones of the random tier, each spoiled, on the backend and on the reference model.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use fastrand::Rng;
use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::contracts::TailFramesArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::time::{Clock, ManualClock, TimestampMs};
use futures::FutureExt;

use super::spoil::{Spoiled, document, spoil};
use crate::random::{self, Action, PARTITION, Step, World, draw};
use crate::stage::START_MS;

/// What a run of malformed calls did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Calls that were spoiled.
    pub malformed: u64,
    /// Of these, calls whose text is no call at all.
    pub unreadable: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls that were, spoiled as they are, still good.
    pub served: u64,
}

impl Done {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.malformed += other.malformed;
        self.unreadable += other.unreadable;
        self.refused += other.refused;
        self.served += other.served;
    }
}

/// Good steps that a sequence begins with: there must be something to do harm to.
const FOUNDATION: usize = 150;
/// A good step, or a move of the clock, after so many malformed calls.
const GOOD_EVERY: u64 = 8;
/// Everything that is public is compared after so many malformed calls.
const LOOK_EVERY: u64 = 100;
/// Of the refused calls one in so many is surrounded by looks at the backend alone.
const WATCH_EVERY: u64 = 150;
/// A call that takes longer hangs.
const CALL_LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Play<'a> {
    backend: &'a dyn EngineBackend,
    pub(super) clock: &'a ManualClock,
    model: Model,
    pub(super) world: World,
    seed: u64,
}

/// Plays one seed: a foundation of good calls, then `calls` malformed ones with good ones between.
///
/// # Errors
/// What convicts the backend: another answer than the model's, a change by a refused call, a panic, a call that hangs.
pub async fn play(backend: &dyn EngineBackend, clock: &ManualClock, seed: u64, calls: u64) -> Result<Done, String> {
    let mut play = Play::founded(backend, clock, seed, FOUNDATION).await?;
    let mut rng = Rng::with_seed(seed ^ 0x686f_7374_696c_6500);
    let mut done = Done::default();
    for n in 0..calls {
        let serial = u32::try_from(n).unwrap_or(u32::MAX).saturating_add(100_000);
        if n % GOOD_EVERY == GOOD_EVERY - 1 {
            let action = if rng.u32(0..8) == 0 { Action::Clock } else { Action::Call(any_name(&mut rng)) };
            play.step(&Step { action, serial, dice: std::array::from_fn(|_| rng.u32(..)) }).await?;
        }
        let name = any_name(&mut rng);
        let now = clock.now();
        let mut drawn = |name, serial| {
            let step = Step { action: Action::Call(name), serial, dice: std::array::from_fn(|_| rng.u32(..)) };
            play.world.operation(name, &step, now)
        };
        let good = drawn(name, serial);
        let other = drawn(OpName::ALL[(serial as usize * 7) % OpName::ALL.len()], serial.saturating_add(1));
        let spoiled = spoil(&mut rng, &document(&good), &document(&other));
        done.malformed += 1;
        play.malformed(n, &good, &spoiled, &mut done).await?;
        if n % LOOK_EVERY == LOOK_EVERY - 1 || n + 1 == calls {
            play.look(&format!("after malformed call {n}")).await?;
        }
    }
    if let Outcome::RebuildIndexes(report) = play.good(&random::rebuild()).await?.unwrap_or_else(|e| panic!("{e}"))
        && report.total() > 0
    {
        return Err(format!("seed {seed}: the indexes were not what the records imply: {report:?}"));
    }
    Ok(done)
}

fn any_name(rng: &mut Rng) -> OpName {
    OpName::ALL[rng.usize(0..OpName::ALL.len())]
}

/// Carries out a call; a panic or a call that hangs is an error.
pub(super) async fn ask(
    backend: &dyn EngineBackend,
    operation: Operation,
) -> Result<Result<Outcome, EngineError>, String> {
    let call = AssertUnwindSafe(dispatch(backend, operation)).catch_unwind();
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(panic)) => Err(format!("it panicked: {}", told(&*panic))),
        Err(_) => Err(format!("it did not answer within {} s", CALL_LIMIT.as_secs())),
    }
}

/// What a panic said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "nothing".to_owned())
}

/// Whether two answers agree; where a spoiled limit or cursor makes pages, their boundaries are a backend's own.
fn agree(
    operation: &Operation,
    expected: &Result<Outcome, EngineError>,
    actual: &Result<Outcome, EngineError>,
) -> bool {
    if random::agree(expected, actual) {
        return true;
    }
    let (Ok(expected), Ok(actual)) = (expected, actual) else { return false };
    let paged = |outcome: &Outcome| {
        let value = serde_json::to_value(outcome).unwrap_or_default();
        value.pointer("/result/next_cursor").is_some_and(|cursor| !cursor.is_null())
    };
    !operation.name().writes() && (paged(expected) || paged(actual))
}

impl<'a> Play<'a> {
    /// A backend and the model after so many good steps of a seed.
    pub(super) async fn founded(
        backend: &'a dyn EngineBackend,
        clock: &'a ManualClock,
        seed: u64,
        steps: usize,
    ) -> Result<Self, String> {
        clock.set(TimestampMs::saturating(START_MS));
        let mut play = Self { backend, clock, model: Model::new(Deployment::default()), world: World::default(), seed };
        let _ = play.good(&random::first_key()).await?;
        for step in draw(seed, steps) {
            play.step(&step).await?;
        }
        Ok(play)
    }

    fn convict(&self, what: &str, operation: &Operation, how: &str) -> String {
        format!(
            "seed {}: {what}\n  asked   {operation:?}\n  spoiled {how}\n  (replay with FF_SEED={})",
            self.seed, self.seed
        )
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step.action {
            Action::Clock => {
                let now = self.clock.now();
                let due = self.model.next_due_at(PARTITION, now);
                self.clock.set(World::clock_step(step, now, due));
            }
            Action::Call(name) => {
                let operation = self.world.operation(name, step, self.clock.now());
                let _ = self.good(&operation).await?;
            }
        }
        Ok(())
    }

    /// A call as the generator means it.
    async fn good(&mut self, operation: &Operation) -> Result<Result<Outcome, EngineError>, String> {
        self.both(operation, "not at all").await
    }

    /// The call on both; they must agree, and neither may answer but as the contract says.
    async fn both(&mut self, operation: &Operation, how: &str) -> Result<Result<Outcome, EngineError>, String> {
        let expected = self.model.apply(self.clock.now(), operation);
        let actual = match ask(self.backend, operation.clone()).await {
            Ok(actual) => actual,
            Err(what) => return Err(self.convict(&what, operation, how)),
        };
        if let Err(error) = &expected
            && error.refusal().is_none()
        {
            return Err(self.convict(&format!("the model answered {error}"), operation, how));
        }
        if !agree(operation, &expected, &actual) {
            let what = format!("expected {expected:?}\n  but     {actual:?}");
            return Err(self.convict(&what, operation, how));
        }
        if let Ok(outcome) = &expected {
            self.world.learn(operation, outcome);
        }
        Ok(actual)
    }

    async fn malformed(&mut self, n: u64, good: &Operation, spoiled: &Spoiled, done: &mut Done) -> Result<(), String> {
        let Spoiled { text, how } = spoiled;
        let read = std::panic::catch_unwind(|| serde_json::from_str::<Operation>(text));
        let Ok(read) = read else { return Err(self.convict("reading it panicked", good, how)) };
        let Ok(mut operation) = read else {
            done.unreadable += 1;
            return Ok(());
        };
        if let Operation::TailFrames(TailFramesArgs { block_ms, .. }) = &mut operation
            && *block_ms <= 30_000
        {
            // It would wait in real time.
            *block_ms = 0;
        }
        let watched = n % WATCH_EVERY == WATCH_EVERY - 1;
        let before = if watched { self.seen().await? } else { Vec::new() };
        let answer = self.both(&operation, how).await?;
        match answer {
            Ok(_) => done.served += 1,
            Err(_) => {
                done.refused += 1;
                if watched && before != self.seen().await? {
                    return Err(self.convict("it was refused and changed something", &operation, how));
                }
            }
        }
        Ok(())
    }

    /// What the backend shows of everything.
    async fn seen(&self) -> Result<Vec<Result<Outcome, EngineError>>, String> {
        let mut seen = Vec::new();
        for look in self.world.looks() {
            seen.push(ask(self.backend, look.clone()).await.map_err(|what| self.convict(&what, &look, "not at all"))?);
        }
        Ok(seen)
    }

    /// Compares what both show of everything, and audits the model.
    async fn look(&mut self, when: &str) -> Result<(), String> {
        for look in self.world.looks() {
            let _ = self.both(&look, &format!("not at all, {when}")).await?;
        }
        let mut findings = self.model.audit();
        findings.extend(self.model.audit_forms());
        if findings.is_empty() {
            return Ok(());
        }
        Err(format!("seed {}: {when} the model's invariants do not hold: {}", self.seed, findings.join("; ")))
    }
}
