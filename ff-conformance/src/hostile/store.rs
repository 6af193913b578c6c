//! A store whose values were spoiled behind the backend's back: every operation is answered with an outcome, a refusal or
//! `Corruption`, never with a panic, an error of the machinery or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use ff_core::error::EngineError;
use ff_core::operation::{OpName, Operation};
use ff_core::time::{Clock, ManualClock, TimestampMs};

use super::calls::{Play, ask};
use super::records::spoil_bytes;
use crate::harness::{Harness, StoredValue, TestName};
use crate::random::{Action, Step};
use crate::stage::START_MS;

/// Values that are spoiled in one store, one after another.
pub(super) const SPOILS: u64 = 12;
/// How often each operation is asked after each of them.
const EACH: u32 = 2;
/// Good steps that a store is filled by.
const FOUNDATION: usize = 250;

/// What was asked of spoiled stores, and how it was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Values that were spoiled.
    pub(super) spoiled: u64,
    /// Operations that were asked for.
    pub(super) calls: u64,
    /// Those that met the damage.
    pub(super) corrupt: u64,
}

/// Fills a store, spoils it value by value, and asks for every operation after each; what was wrong is counted by its
/// text.
pub(super) async fn hold<H: Harness>(
    harness: &Arc<H>,
    seed: u64,
    wrong: &mut BTreeMap<String, (u64, String)>,
) -> Result<Asked, String> {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    let fixture = harness.open(&TestName("hostile::store".to_owned()), clock).await;
    let mut play = Play::founded(&*fixture.backend, &fixture.clock, seed, FOUNDATION).await?;
    let mut rng = Rng::with_seed(seed ^ 0x7374_6f72_6500_0000);
    let mut asked = Asked::default();
    let mut serial = 200_000;
    for n in 0..SPOILS {
        let mut values = harness.stored(&fixture).await;
        values.sort();
        if values.is_empty() {
            return Err(format!("seed {seed}: the harness shows no stored value"));
        }
        let other = values[rng.usize(0..values.len())].bytes.clone();
        let value = values.swap_remove(rng.usize(0..values.len()));
        let (how, bytes) = match spoil_bytes(&mut rng, &value.bytes, &other) {
            Some(bytes) => ("changed", bytes),
            None => ("empty", Vec::new()),
        };
        let spoiled = StoredValue { bytes, ..value };
        if !harness.overwrite(&fixture, &spoiled).await {
            return Err(format!("seed {seed}: the harness could not overwrite {spoiled:?}"));
        }
        asked.spoiled += 1;
        let drawn: Vec<Operation> = OpName::ALL
            .iter()
            .flat_map(|name| (0..EACH).map(move |_| *name))
            .map(|name| {
                serial += 1;
                let step = Step { action: Action::Call(name), serial, dice: std::array::from_fn(|_| rng.u32(..)) };
                play.world.operation(name, &step, fixture.clock.now())
            })
            .collect();
        let mut calls = play.world.looks();
        calls.extend(drawn);
        for operation in calls {
            asked.calls += 1;
            let text = match ask(&*fixture.backend, operation.clone()).await {
                Ok(Ok(outcome)) => {
                    play.world.learn(&operation, &outcome);
                    continue;
                }
                Ok(Err(EngineError::Refused(_))) => continue,
                Ok(Err(EngineError::Corruption(_))) => {
                    asked.corrupt += 1;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(what) => what,
            };
            let known = wrong.entry(format!("{}: {text}", operation.name())).or_default();
            known.0 += 1;
            if known.0 == 1 {
                known.1 = format!("seed {seed}, value {n} ({}, {how})", spoiled.what);
            }
        }
        // Due timers meet what is spoiled, too.
        let due = play.clock.now().after(rng.u64(0..60_000));
        play.clock.set(due);
    }
    Ok(asked)
}
