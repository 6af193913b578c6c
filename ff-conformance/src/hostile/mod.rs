//! The hostile tier: malformed, oversized, wrong-typed, swapped and forged input of every kind. Every call is answered
//! with its typed refusal or, where it still is a good one, as the reference model answers it; nothing that is refused
//! changes anything, and nothing panics.
//!
//! `FF_HOSTILE=n` plays `n` malformed calls; forgeries, cursors and spoiled records are in proportion. `FF_STORES=n` spoils `n` stores. `FF_SEED=n` plays one seed alone.

mod bounds;
mod calls;
mod cursors;
mod records;
mod spoil;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ff_core::condition::ResumeCondition;
use ff_core::contracts::{DeliverSignalArgs, IssuedWaitpoint, SuspensionTimeout};
use ff_core::error::EngineError;
use ff_core::ids::{SignalId, WaitpointId};
use ff_core::operation::{Operation, dispatch};
use ff_core::time::{ManualClock, TimestampMs};
use futures::FutureExt;
use libtest_mimic::Failed;

pub use calls::{Done, play};
pub use spoil::{Spoiled, document, spoil};

use self::tokens::{Forgery, Ground};
use crate::harness::{Harness, TestName};
use crate::run::{Sizes, Tally, Trial, Verdict, runtime};
use crate::stage::{self, START_MS, Stage};

/// Malformed calls of one seed.
const CALLS: u64 = 500;
/// Trials that the malformed calls are spread over.
const BLOCKS: u64 = 4;

/// How much of this tier is run.
#[derive(Clone, Copy)]
struct Amount {
    /// Malformed calls.
    calls: u64,
    /// The one seed to play.
    seed: Option<u64>,
}

/// The trials of this tier.
pub(crate) fn trials<H: Harness>(_: &str, harness: &Arc<H>, sizes: &Sizes) -> Vec<Trial> {
    let (push, deep) = harness.malformed_calls();
    let amount = Amount { calls: sizes.count("FF_HOSTILE", push, deep), seed: sizes.seed };
    let mut trials = Vec::new();
    let blocks = if amount.seed.is_some() { 1 } else { BLOCKS };
    for block in 0..blocks {
        let harness = Arc::clone(harness);
        let name = format!("hostile::calls::block {} of {blocks} is refused or served as the model does", block + 1);
        trials.push(Trial::new(name, move |tally| malformed_calls(&harness, amount, block, tally)));
    }
    let held = Arc::clone(harness);
    trials.push(Trial::new(
        "hostile::bounds::every bound is kept at its last value and refused beyond it",
        move |tally| {
            on_stage(&held, "hostile::bounds", async |stage| {
                let (calls, wrong) = bounds::hold(&*stage.backend).await;
                tally.add("bounds tried", calls);
                verdict(wrong)
            })
        },
    ));
    let held = Arc::clone(harness);
    trials.push(Trial::new("hostile::cursors::a forged cursor is refused or a place in its own list", move |tally| {
        on_stage(&held, "hostile::cursors", async |stage| {
            let forged = (amount.calls / 100).max(100);
            let seed = amount.seed.unwrap_or(1);
            let wrong = cursors::hold(stage, seed, forged).await;
            tally.add("cursors forged", forged);
            verdict(wrong)
        })
    }));
    let held = Arc::clone(harness);
    trials.push(Trial::new("hostile::tokens::no forged token lets a signal in", move |tally| {
        on_stage(&held, "hostile::tokens", async |stage| forged_signals(stage, amount, tally).await)
    }));
    trials.push(Trial::new("hostile::tokens::no forgery is verified", move |tally| {
        let count = amount.calls / 2;
        let (reached, wrong) = tokens::judge(amount.seed.unwrap_or(1), count);
        tally.add("tokens forged", count);
        tally.add("forgeries that reached the MAC", reached);
        verdict(wrong)
    }));
    trials.push(Trial::new("hostile::records::a spoiled record is read or refused", move |tally| {
        let (read, wrong) = records::spoil_records(amount.seed.unwrap_or(1), amount.calls / 2);
        tally.add("records spoiled", read.tried);
        tally.add("spoiled records still readable", read.readable);
        verdict(wrong)
    }));
    trials.push(Trial::new("hostile::records::a spoiled answer is read or refused", move |tally| {
        let (read, wrong) = records::spoil_answers(amount.seed.unwrap_or(1), amount.calls / 4);
        tally.add("answers spoiled", read.tried);
        verdict(wrong)
    }));
    let (held, stores) = (Arc::clone(harness), sizes.count("FF_STORES", 6, 2_000));
    let reason = (!harness.can_overwrite()).then(|| "the harness cannot overwrite stored values".to_owned());
    trials.push(
        Trial::new("hostile::store::spoiled values are refused or served, whatever is asked", move |tally| {
            spoiled_stores(&held, amount.seed, stores, tally)
        })
        .ignored(reason),
    );
    trials
}

/// Stores with spoiled values: as many as asked for, or that of one seed.
fn spoiled_stores<H: Harness>(harness: &Arc<H>, seed: Option<u64>, stores: u64, tally: &Tally) -> Verdict {
    let seeds = seed.map_or(0..stores, |seed| seed..seed + 1);
    runtime()?.block_on(async {
        let (mut corrupt, mut wrong) = (0, std::collections::BTreeMap::new());
        for seed in seeds {
            let asked = store::hold(harness, seed, &mut wrong).await.map_err(Failed::from)?;
            corrupt += asked.corrupt;
            tally.add("stored values spoiled", asked.spoiled);
            tally.add("calls on spoiled stores", asked.calls);
            tally.add("calls that met corruption", asked.corrupt);
        }
        if corrupt == 0 {
            return Err(Failed::from("no call met a spoiled value"));
        }
        verdict(
            wrong
                .into_iter()
                .map(|(text, (times, first))| format!("{times} times, first in {first}: {text}"))
                .collect(),
        )
    })
}

/// The first of what was wrong, and how many.
fn verdict(wrong: Vec<String>) -> Verdict {
    if wrong.is_empty() {
        return Ok(());
    }
    let (count, shown) = (wrong.len(), wrong.into_iter().take(20).collect::<Vec<_>>());
    Err(Failed::from(format!("{count} wrong, the first of them:\n{}", shown.join("\n"))))
}

fn malformed_calls<H: Harness>(harness: &Arc<H>, amount: Amount, block: u64, tally: &Tally) -> Verdict {
    let seeds = (amount.calls / BLOCKS).div_ceil(CALLS).max(1);
    let seeds: Vec<u64> = match amount.seed {
        Some(seed) => vec![seed],
        None => (block * seeds..(block + 1) * seeds).collect(),
    };
    runtime()?.block_on(async {
        let mut all = Done::default();
        for seed in seeds {
            let clock = ManualClock::at(TimestampMs::saturating(START_MS));
            let fixture = harness.open(&TestName("hostile::calls".to_owned()), clock).await;
            let done = play(&*fixture.backend, &fixture.clock, seed, CALLS).await.map_err(Failed::from)?;
            all.add(done);
            tally.add("malformed calls", done.malformed);
            tally.add("malformed calls that are no calls", done.unreadable);
            tally.add("malformed calls refused", done.refused);
            tally.add("malformed calls served", done.served);
        }
        // A spoiler that leaves calls good, or makes none of them readable, tests nothing.
        let (few, none) = (all.malformed / 10, all.malformed / 50);
        if all.refused < few || all.unreadable < few || all.served < none {
            return Err(Failed::from(format!("these calls test too little: {all:?}")));
        }
        Ok(())
    })
}

/// Runs on a fresh stage; a panic is the trial's failure.
fn on_stage<H: Harness>(harness: &Arc<H>, name: &str, run: impl AsyncFnOnce(&Stage) -> Verdict) -> Verdict {
    runtime()?.block_on(async {
        let clock = ManualClock::at(TimestampMs::saturating(START_MS));
        let fixture = harness.open(&TestName(name.to_owned()), clock).await;
        let stage = Stage::open(harness, fixture).await;
        match AssertUnwindSafe(run(&stage)).catch_unwind().await {
            Ok(verdict) => verdict,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                Err(Failed::from(text.unwrap_or_else(|| "the trial panicked".to_owned())))
            }
        }
    })
}

/// Forged tokens, sent: to a waitpoint with an unbound token and to one with bound ones, while other waitpoints, other
/// executions, other partitions and keys of all ages have good tokens.
async fn forged_signals(stage: &Stage, amount: Amount, tally: &Tally) -> Verdict {
    let count = amount.calls / 10;
    let mut rng = fastrand::Rng::with_seed(amount.seed.unwrap_or(1));
    let asleep = |sources: &'static [&'static str]| async move {
        let (id, fence) = stage.running().await;
        let bindings =
            vec![if sources.is_empty() { stage::fresh() } else { stage::fresh_for(sources) }, stage::fresh()];
        let mut args = stage.suspension(id, fence, bindings, ResumeCondition::signal("never"));
        args.timeout = SuspensionTimeout::Never;
        (id, stage.suspend(args).await.waitpoints)
    };
    // Tokens of a kid that is revoked, then of one that still verifies, then of the current one.
    stage.rotate(stage::PARTITION, "k0", 9).await;
    let (revoked, old) = asleep(&[]).await;
    stage.rotate(stage::PARTITION, "k1", 1).await;
    stage.revoke_kid("k0").await;
    let (plain, open) = asleep(&[]).await;
    let (bound, closed) = asleep(&["ann", "bob"]).await;
    let token = |waitpoint: &IssuedWaitpoint, nth: usize| waitpoint.tokens[nth].token.clone();
    let kids = ["k0", "k1", "k9", "K1"].map(stage::kid).to_vec();
    let ann = stage::human("ann");
    let elsewhere = vec![token(&old[0], 0), token(&old[1], 0), token(&open[1], 0), token(&closed[1], 0)];
    let mut grounds = vec![
        Ground {
            execution_id: plain,
            waitpoint_id: open[0].waitpoint_id,
            source: ann.clone(),
            good: vec![token(&open[0], 0)],
            elsewhere: [elsewhere.clone(), vec![token(&closed[0], 0), token(&closed[0], 1)]].concat(),
            others: Vec::new(),
            kids: kids.clone(),
        },
        Ground {
            execution_id: bound,
            waitpoint_id: closed[0].waitpoint_id,
            source: ann,
            good: vec![token(&closed[0], 0)],
            elsewhere: [elsewhere, vec![token(&open[0], 0)]].concat(),
            others: vec![token(&closed[0], 1)],
            kids,
        },
    ];
    // Its own tokens let nobody in any more: their kid is revoked.
    let mut retired = grounds[0].clone();
    (retired.execution_id, retired.waitpoint_id) = (revoked, old[0].waitpoint_id);
    grounds.push(retired);
    // What does not exist is not told from what does.
    let mut nowhere = grounds[0].clone();
    nowhere.waitpoint_id = WaitpointId::new();
    nowhere.elsewhere.extend(nowhere.good.clone());
    grounds.push(nowhere);
    let mut unknown = grounds[0].clone();
    unknown.execution_id = stage.execution_id();
    unknown.elsewhere.extend(unknown.good.clone());
    grounds.push(unknown);
    let before = stage.view().await;
    let mut wrong = Vec::new();
    for n in 0..count {
        let ground = &grounds[rng.usize(0..grounds.len())];
        let Forgery { token, how, code } = ground.forge(&mut rng);
        let args = DeliverSignalArgs::builder()
            .execution_id(ground.execution_id)
            .waitpoint_id(ground.waitpoint_id)
            .waitpoint_token(token)
            .signal_id(SignalId::new())
            .name("never")
            .source(ground.source.clone())
            .build();
        let operation: Operation = if rng.u32(0..4) == 0 { stage::to_buffer(&args).into() } else { args.into() };
        let answer = dispatch(&*stage.backend, operation).await;
        tally.add("forged signals sent", 1);
        if answer.as_ref().err().and_then(EngineError::code) != Some(code) {
            wrong.push(format!("{how}: {answer:?}, not {code:?} (forgery {n})"));
        }
    }
    let changed = crate::view::difference(&before, &stage.view().await);
    wrong.extend(changed.into_iter().map(|line| format!("forged signals changed {line}")));
    // The revoked execution still waits, and the good tokens still are good.
    if stage.vector(revoked).await.lifecycle_phase != ff_core::state::LifecyclePhase::Suspended {
        wrong.push("the execution whose kid was revoked has moved".to_owned());
    }
    if wrong.is_empty() {
        for (id, waitpoint) in [(plain, &open[0]), (bound, &closed[0])] {
            stage.send(id, waitpoint, "never").await;
        }
    }
    verdict(wrong)
}
