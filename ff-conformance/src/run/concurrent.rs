//! The concurrent tier: blocks of seeds, each a trial.

use std::sync::Arc;

use ff_core::time::{ManualClock, TimestampMs};
use libtest_mimic::Failed;

use super::{Sizes, Tally, Trial, Verdict};
use crate::concurrent::{self, Judgement, Met, Rules};
use crate::harness::{Harness, TestName};
use crate::stage::START_MS;

/// Trials that the histories are spread over.
const BLOCKS: u64 = 10;

/// `FF_HISTORIES` sets how many histories are played; `FF_SEED` plays one seed alone, so often, since clients meet
/// differently each time.
pub(super) fn trials<H: Harness>(_: &str, harness: &Arc<H>, sizes: &Sizes) -> Vec<Trial> {
    let (push, deep) = harness.histories();
    let blocks: Vec<(u64, u64, u64)> = match sizes.seed {
        Some(seed) => vec![(seed, seed + 1, sizes.count("FF_HISTORIES", 1, 1))],
        None => {
            let each = sizes.count("FF_HISTORIES", push, deep).div_ceil(BLOCKS);
            (0..BLOCKS).map(|block| (block * each, (block + 1) * each, 1)).collect()
        }
    };
    let trial = |(from, to, times): (u64, u64, u64)| {
        let harness = Arc::clone(harness);
        Trial::new(format!("concurrent::histories::seeds {from} to {}", to - 1), move |tally| {
            run_block(&harness, (from..to).flat_map(|seed| (0..times).map(move |_| seed)), tally)
        })
    };
    blocks.into_iter().map(trial).collect()
}

/// Threads that clients run on: more than there may be cores, so that one is stopped in the middle of a call.
const CLIENT_THREADS: usize = 4;

/// Plays a history of each seed and looks for an order of its calls.
fn run_block<H: Harness>(harness: &Arc<H>, seeds: impl Iterator<Item = u64>, tally: &Tally) -> Verdict {
    let runtime = runtime()?;
    let mut all = Met::default();
    let mut given_up: Vec<String> = Vec::new();
    for seed in seeds {
        let (met, judgement) = runtime.block_on(run_history(&**harness, seed)).map_err(Failed::from)?;
        all.add(&met);
        tell(tally, &met, &judgement);
        match judgement {
            Judgement::Linearizable => {}
            Judgement::GaveUp => given_up.push(seed.to_string()),
            Judgement::Wrong(table) => {
                let again =
                    format!("seed {seed} (FF_SEED={seed} FF_HISTORIES=200 plays it often: no two runs meet alike)");
                return Err(Failed::from(format!("{again}\n{table}")));
            }
        }
    }
    println!("{all}");
    if !given_up.is_empty() {
        let text = format!(
            "the search was given up in {} of {}, seeds {}",
            given_up.len(),
            all.histories,
            given_up.join(", ")
        );
        println!("{text}");
        if given_up.len() as u64 * 100 > all.histories {
            return Err(Failed::from(text));
        }
    }
    let gaps = all.gaps();
    if gaps.is_empty() { Ok(()) } else { Err(Failed::from(format!("{}: {all}", gaps.join("; ")))) }
}

/// Counts a history for the report.
fn tell(tally: &Tally, met: &Met, judgement: &Judgement) {
    tally.add("histories", met.histories);
    tally.add("calls in histories", met.calls);
    tally.add("answers lost in histories", met.calls - met.answered);
    tally.add("answers ok in histories", met.ok);
    tally.add("overlapping calls in histories", met.overlapping);
    tally.add("histories given up", u64::from(*judgement == Judgement::GaveUp));
}

/// Plays one history, counts it and judges it.
pub(crate) async fn run_history<H: Harness>(harness: &H, seed: u64) -> Result<(Met, Judgement), String> {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    let fixture = harness.open(&TestName("concurrent::histories".to_owned()), clock).await;
    let mut handles = vec![Arc::clone(&fixture.backend)];
    handles.extend(harness.second(&fixture).await);
    let rules = Rules(fixture.backend.deployment().clone());
    let plan = concurrent::draw(seed);
    let history = concurrent::play(&handles, &fixture.clock, &plan).await?;
    Ok((Met::of(&history, plan.clients()), concurrent::judge(&rules, history)))
}

/// What clients run on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLIENT_THREADS)
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))
}
