//! The random tier: the same sequence of operations on the backend and on the reference model, under one manual clock;
//! outcomes compared after every step, the model audited, a failing sequence shrunk to a minimal one.

mod coverage;
mod world;

use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::contracts::{RebuildIndexesArgs, RotateWaitpointHmacSecretArgs};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::Kid;
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::time::{Clock, ManualClock, TimestampMs};
use ff_core::token::WaitpointSecret;

pub use coverage::{Coverage, NOT_DRAWN, SELDOM, gaps, tables};
pub use world::{Action, PARTITION, Step, World};

use crate::brief;
use crate::stage::START_MS;

/// A step that told backend and model apart, or broke an invariant.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// Its place in the sequence; one past the end for what is asked after it.
    pub step: usize,
    /// What the clock showed.
    pub clock: TimestampMs,
    /// What was asked: the step's operation, or a read after it.
    pub asked: Box<Operation>,
    /// What the model answered, in short.
    pub expected: String,
    /// What the backend answered, in short.
    pub actual: String,
}

/// One call of a sequence as it was made. It names everything by the ids that were used, so it means the same whatever
/// the generator draws later.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What the clock showed.
    pub at: TimestampMs,
    /// What was asked.
    pub operation: Operation,
}

/// The first steps of a sequence mostly found something: executions, flows, budgets, policies, and claims of them.
const FOUNDING: usize = 16;
const FOUNDERS: [OpName; 7] = [
    OpName::CreateExecution,
    OpName::CreateExecution,
    OpName::SubmitFlow,
    OpName::CreateFlow,
    OpName::CreateBudget,
    OpName::CreateQuotaPolicy,
    OpName::ClaimNext,
];

/// Draws a sequence.
#[must_use]
pub fn draw(seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let weights = weights();
    let total: u32 = weights.iter().map(|(_, w)| w).sum();
    (0..steps)
        .map(|serial| {
            let mut at = rng.u32(0..total);
            let mut action = Action::Clock;
            for (candidate, weight) in &weights {
                if at < *weight {
                    action = *candidate;
                    break;
                }
                at -= weight;
            }
            // Something must be there before anything can be done with it.
            if serial < FOUNDING && rng.u32(0..100) < 70 {
                action = Action::Call(FOUNDERS[rng.usize(0..FOUNDERS.len())]);
            }
            Step {
                action,
                serial: u32::try_from(serial).unwrap_or(u32::MAX),
                dice: std::array::from_fn(|_| rng.u32(..)),
            }
        })
        .collect()
}

/// How often each action is drawn: what makes state weighs more than what reads it.
pub(crate) fn weights() -> Vec<(Action, u32)> {
    let mut weights = vec![(Action::Clock, 18)];
    weights.extend(OpName::ALL.iter().map(|name| {
        let weight = match name {
            OpName::ClaimNext => 18,
            OpName::CreateExecution => 14,
            OpName::SuspendExecution | OpName::DeliverSignal => 10,
            OpName::ResumeExecution | OpName::IssueReclaimGrant | OpName::CreatePendingWaitpoint => 6,
            OpName::CompleteExecution | OpName::FailExecution | OpName::ReplayExecution => 8,
            OpName::StageDependencyEdge | OpName::Sweep | OpName::SubmitFlow | OpName::CreateFlow => 5,
            OpName::IssueClaimGrant => 14,
            OpName::ClaimExecution | OpName::ClaimResumedExecution => 6,
            name if !name.writes() => 1,
            _ => 3,
        };
        (Action::Call(*name), weight)
    }));
    weights
}

/// Runs a sequence on a fresh backend and a fresh model.
///
/// # Errors
/// The first step that told them apart, or broke an invariant.
pub async fn play(
    backend: &dyn EngineBackend,
    clock: &ManualClock,
    steps: &[Step],
    coverage: &mut Coverage,
) -> Result<(), Disagreement> {
    let mut model = Model::new(Deployment::default());
    let mut world = World::default();
    clock.set(TimestampMs::saturating(START_MS));
    compare(backend, clock, &mut model, 0, first_key(), &mut world, coverage).await?;
    for (at, step) in steps.iter().enumerate() {
        match step.action {
            Action::Clock => {
                let now = clock.now();
                let due = model.next_due_at(PARTITION, now);
                clock.set(World::clock_step(step, now, due));
            }
            Action::Call(name) => {
                let operation = world.operation(name, step, clock.now());
                compare(backend, clock, &mut model, at, operation, &mut world, coverage).await?;
            }
        }
        if at % LOOK_EVERY == LOOK_EVERY - 1 || at + 1 == steps.len() {
            for look in world.looks() {
                look_at(backend, clock, &mut model, at, look).await?;
            }
        }
    }
    compare(backend, clock, &mut model, steps.len(), rebuild(), &mut world, coverage).await
}

/// Every sequence begins by giving its partition a signing key.
pub(crate) fn first_key() -> Operation {
    RotateWaitpointHmacSecretArgs::builder()
        .partition(PARTITION)
        .new_kid(Kid::new("k0").unwrap_or_else(|e| panic!("{e}")))
        .new_secret(WaitpointSecret::new([0; 32]))
        .build()
        .into()
}

/// Every sequence ends by asking whether an index needs a repair.
pub(crate) fn rebuild() -> Operation {
    RebuildIndexesArgs::builder().partition(PARTITION).limit(1000).build().into()
}

/// The calls that a sequence makes while backend and model agree, its first key among them.
#[must_use]
pub fn resolve(steps: &[Step]) -> Vec<Call> {
    let mut model = Model::new(Deployment::default());
    let mut world = World::default();
    let mut now = TimestampMs::saturating(START_MS);
    let mut calls = Vec::new();
    let mut make = |model: &mut Model, world: &mut World, at: TimestampMs, operation: Operation| {
        if let Ok(outcome) = model.apply(at, &operation) {
            world.learn(&operation, &outcome);
        }
        calls.push(Call { at, operation });
    };
    make(&mut model, &mut world, now, first_key());
    for step in steps {
        match step.action {
            Action::Clock => now = World::clock_step(step, now, model.next_due_at(PARTITION, now)),
            Action::Call(name) => {
                let operation = world.operation(name, step, now);
                make(&mut model, &mut world, now, operation);
            }
        }
    }
    calls
}

/// Plays calls on a fresh backend and a fresh model, then compares everything public.
///
/// # Errors
/// The first call that told them apart, or broke an invariant.
pub async fn play_calls(backend: &dyn EngineBackend, clock: &ManualClock, calls: &[Call]) -> Result<(), Disagreement> {
    let mut model = Model::new(Deployment::default());
    let mut world = World::default();
    let mut coverage = Coverage::new();
    for (at, call) in calls.iter().enumerate() {
        clock.set(call.at);
        compare(backend, clock, &mut model, at, call.operation.clone(), &mut world, &mut coverage).await?;
    }
    for look in world.looks() {
        look_at(backend, clock, &mut model, calls.len(), look).await?;
    }
    compare(backend, clock, &mut model, calls.len(), rebuild(), &mut world, &mut coverage).await
}

/// Steps between two comparisons of everything that is public.
const LOOK_EVERY: usize = 50;

/// Compares what one read shows; it counts for no coverage, and changes nothing.
async fn look_at(
    backend: &dyn EngineBackend,
    clock: &ManualClock,
    model: &mut Model,
    step: usize,
    look: Operation,
) -> Result<(), Disagreement> {
    let now = clock.now();
    let expected = model.apply(now, &look);
    let actual = dispatch(backend, look.clone()).await;
    if expected == actual {
        return Ok(());
    }
    let (expected, actual) = brief::answers(&expected, &actual);
    Err(Disagreement { step, clock: now, asked: Box::new(look), expected, actual })
}

async fn compare(
    backend: &dyn EngineBackend,
    clock: &ManualClock,
    model: &mut Model,
    step: usize,
    operation: Operation,
    world: &mut World,
    coverage: &mut Coverage,
) -> Result<(), Disagreement> {
    let now = clock.now();
    let disagreement = |expected: String, actual: String| Disagreement {
        step,
        clock: now,
        asked: Box::new(operation.clone()),
        expected,
        actual,
    };
    let refused_before = step.is_multiple_of(16).then(|| model.clone());
    let expected = model.apply(now, &operation);
    let actual = dispatch(backend, operation.clone()).await;
    let label = match &expected {
        Ok(outcome) => outcome.variant(),
        Err(error) => error.code().map_or_else(|| "error".to_owned(), |code| code.as_str().to_owned()),
    };
    *coverage.entry((operation.name(), label)).or_default() += 1;
    if !agree(&expected, &actual) {
        let (expected, actual) = brief::answers(&expected, &actual);
        return Err(disagreement(expected, actual));
    }
    if let (Err(EngineError::Refused(_)), Some(before)) = (&expected, &refused_before)
        && before != model
        // An empty partition that was looked into is no change.
        && before.snapshot() != model.snapshot()
    {
        return Err(disagreement("a refusal changes nothing".to_owned(), "the model changed".to_owned()));
    }
    let mut findings = model.audit();
    if step.is_multiple_of(16) {
        findings.extend(model.audit_forms());
    }
    if !findings.is_empty() {
        return Err(disagreement("the invariants hold".to_owned(), findings.join("; ")));
    }
    if let Ok(Outcome::RebuildIndexes(report)) = &actual
        && report.total() > 0
    {
        return Err(disagreement("nothing to repair".to_owned(), format!("{report:?}")));
    }
    if let Ok(outcome) = &expected {
        world.learn(&operation, outcome);
    }
    Ok(())
}

/// Whether two answers agree. Page boundaries and the count of what a rebuild examined are a backend's own.
pub(crate) fn agree(expected: &Result<Outcome, EngineError>, actual: &Result<Outcome, EngineError>) -> bool {
    match (expected, actual) {
        (Ok(Outcome::RebuildIndexes(a)), Ok(Outcome::RebuildIndexes(b))) => {
            a.repaired == b.repaired && a.corrupt == b.corrupt
        }
        _ => expected == actual,
    }
}

/// Shrinks a failing sequence, of steps or of calls: ever smaller runs are left out for as long as it goes on failing.
///
/// `fails` plays a sequence on a fresh backend.
pub async fn shrink<T, F, Fut>(mut steps: Vec<T>, mut fails: F) -> (Vec<T>, Option<Disagreement>)
where
    T: Clone,
    F: FnMut(Vec<T>) -> Fut,
    Fut: Future<Output = Option<Disagreement>>,
{
    let mut last = fails(steps.clone()).await;
    if let Some(found) = &last {
        steps.truncate(found.step + 1);
    }
    let mut run = steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + run).min(steps.len()));
            match fails(fewer.clone()).await {
                Some(found) => {
                    fewer.truncate(found.step + 1);
                    steps = fewer;
                    last = Some(found);
                    shorter = true;
                }
                None => at += run,
            }
        }
        if run == 1 && !shorter {
            return (steps, last);
        }
        run = run.div_ceil(2).max(1);
    }
}
