//! Plays cases and random sequences on the changed rules, one change after the other. Written into the copied workspace by
//! `ff-mutants`, which reads what this prints.
//!
//! A change is in force only inside calls on the backend under test: the model that random sequences compare with, and what
//! a case looks up for itself, stay as they are.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ff_backend_memory::{MemoryBackend, mutant};
use ff_conformance::cases::all_cases;
use ff_conformance::{Cause, Damage, DamageKind, Fixture, Harness, TestName, Trials, convict};
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::time::ManualClock;
use serde_json::{Value, json};

struct Armed;

#[async_trait]
impl Layer for Armed {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let mut call = pin!(dispatch(inner, operation));
        std::future::poll_fn(|context| mutant::armed(|| call.as_mut().poll(context))).await
    }
}

struct Memory;

impl Harness for Memory {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let backend = MemoryBackend::with_manual_clock(clock.clone());
        let armed = Layered::new(Arc::new(backend.clone()), Armed);
        Fixture::new(Arc::new(armed), clock).with_guard(backend)
    }

    async fn damage(&self, fixture: &Fixture, damage: Damage) -> bool {
        let Some(backend) = fixture.guard::<MemoryBackend>() else { return false };
        match damage {
            Damage::Unreadable(id) => backend.make_unreadable(&id),
            Damage::Readable(id) => backend.make_readable(&id),
            Damage::IndexesLost(partition) => backend.lose_indexes(partition),
            Damage::BacklogLost(partition) => backend.lose_backlog(partition),
            Damage::ForeignQueueEntry(id) => backend.add_foreign_queue_entry(&id),
            Damage::WrongDueTime(id) => backend.misplace_timer(&id),
            _ => false,
        }
    }

    fn can_damage(&self, _: DamageKind) -> bool {
        true
    }
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Which changes each case, and each random sequence, reaches.
fn reach(seeds: u64) {
    let harness = Arc::new(Memory);
    mutant::track();
    for case in all_cases() {
        let begun = Instant::now();
        let found = convict(&harness, &Trials::none().cases_named(&case.name));
        let wrong = found.map(|f| f.evidence);
        say(&json!({"case": case.name, "ms": begun.elapsed().as_millis(), "hits": mutant::hits(), "wrong": wrong}));
    }
    for seed in 0..seeds {
        let begun = Instant::now();
        let found = convict(&harness, &Trials::none().seeds(seed..seed + 1).unshrunk());
        let wrong = found.map(|f| f.evidence);
        say(&json!({"seed": seed, "ms": begun.elapsed().as_millis(), "hits": mutant::hits(), "wrong": wrong}));
    }
}

/// Tries changes, read as lines `{"mutant":..,"cases":[..],"seeds":[..]}`: the first trial that convicts ends it.
fn try_all(limit: Duration) {
    let harness = Arc::new(Memory);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let Ok(job) = serde_json::from_str::<Value>(&line) else { return };
        let id = job["mutant"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
        let begun = Instant::now();
        mutant::choose(id);
        say(&json!({"begun": id}));
        let words = |name: &str| job[name].as_array().cloned().unwrap_or_default();
        let mut trials: Vec<(String, Trials)> = Vec::new();
        for case in words("cases").iter().filter_map(Value::as_str) {
            trials.push((case.to_owned(), Trials::none().cases_named(case).case_limit(limit)));
        }
        for seed in words("seeds").iter().filter_map(Value::as_u64) {
            trials.push((format!("random::seed {seed}"), Trials::none().seeds(seed..seed + 1).unshrunk()));
        }
        let mut played = BTreeMap::new();
        let killed = trials.into_iter().find_map(|(name, trials)| {
            *played.entry(if name.starts_with("random::") { "sequences" } else { "cases" }).or_insert(0) += 1;
            match std::panic::catch_unwind(AssertUnwindSafe(|| convict(&harness, &trials))) {
                Ok(found) => found.map(|found| (name, found.cause)),
                Err(_) => Some((name, Cause::Broke)),
            }
        });
        let hung = killed.as_ref().is_some_and(|(_, cause)| *cause == Cause::Time);
        let by = killed.as_ref().map(|(name, _)| name);
        say(&json!({"mutant": id, "by": by, "hung": hung, "played": played, "ms": begun.elapsed().as_millis()}));
        if hung {
            // Its thread goes on for ever.
            std::process::exit(3);
        }
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("reach") => reach(words.get(2).and_then(|n| n.parse().ok()).unwrap_or(4)),
        _ => try_all(Duration::from_secs(words.get(2).and_then(|n| n.parse().ok()).unwrap_or(20))),
    }
}
