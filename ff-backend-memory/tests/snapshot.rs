//! The engine and the model hold the same state after the same calls, by whole snapshots; a snapshot survives JSON.
#![allow(clippy::unwrap_used)] // the whole file is a test

use ff_backend_memory::{MemoryBackend, Model, Snapshot};
use ff_conformance::random::{Action, PARTITION, World, draw};
use ff_core::bounds::Deployment;
use ff_core::operation::{Operation, dispatch};
use ff_core::time::{Clock, ManualClock, TimestampMs};

async fn play(seed: u64) {
    let clock = ManualClock::at(TimestampMs::saturating(1_000_000));
    let backend = MemoryBackend::with_manual_clock(clock.clone());
    let mut model = Model::new(Deployment::default());
    let mut world = World::default();
    for (at, step) in draw(seed, 150).iter().enumerate() {
        let now = clock.now();
        let name = match step.action {
            Action::Clock => {
                clock.set(World::clock_step(step, now, model.next_due_at(PARTITION, now)));
                continue;
            }
            Action::Call(name) => name,
        };
        let operation: Operation = world.operation(name, step, now);
        let outcome = model.apply(now, &operation);
        assert_eq!(dispatch(&backend, operation.clone()).await, outcome, "seed {seed}, step {at}");
        if let Ok(outcome) = &outcome {
            world.learn(&operation, outcome);
        }
        if at % 10 == 0 {
            let difference = model.snapshot().difference(&backend.snapshot());
            assert!(difference.is_empty(), "seed {seed}, step {at}:\n{}", difference.join("\n"));
        }
    }
    let snapshot = model.snapshot();
    let text = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot, "seed {seed}");
}

#[test]
fn the_engine_holds_what_the_model_holds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for seed in 0..40 {
            play(seed).await;
        }
    });
}
