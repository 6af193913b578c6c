//! The random tier: blocks of seeds, each a trial.

use std::sync::Arc;

use ff_core::time::{ManualClock, TimestampMs};
use libtest_mimic::Failed;

use super::{Sizes, Tally, Trial, Verdict, runtime};
use crate::harness::{Harness, TestName};
use crate::random::{self, Coverage, Disagreement, Step};
use crate::stage::START_MS;

/// Sequences of the random tier, in as many trials as [`BLOCKS`]: on every push, and on demand.
const SEQUENCES: (u64, u64) = (3_000, 50_000);
const BLOCKS: u64 = 12;
/// Steps of each sequence.
const STEPS: usize = 200;

/// `FF_SEED` plays one seed alone, `FF_SEQUENCES` sets how many are played.
pub(super) fn trials<H: Harness>(_: &str, harness: &Arc<H>, sizes: &Sizes) -> Vec<Trial> {
    let blocks: Vec<(u64, u64)> = match sizes.seed {
        Some(seed) => vec![(seed, seed + 1)],
        None => {
            let each = sizes.count("FF_SEQUENCES", SEQUENCES.0, SEQUENCES.1).div_ceil(BLOCKS);
            (0..BLOCKS).map(|block| (block * each, (block + 1) * each)).collect()
        }
    };
    let trial = |(from, to): (u64, u64)| {
        let harness = Arc::clone(harness);
        Trial::new(format!("random::sequences::seeds {from} to {}", to - 1), move |tally| {
            (from..to).try_for_each(|seed| run_sequence(&harness, seed, tally))
        })
    };
    let mut trials: Vec<Trial> = blocks.into_iter().map(trial).collect();
    let harness = Arc::clone(harness);
    let every = format!(
        "random::coverage::every operation succeeds and every code comes in some sequence of seeds 0 to {}",
        COVERED - 1
    );
    trials.push(Trial::new(every, move |_| check_coverage(&harness)));
    trials
}

/// Seeds within which every operation must have succeeded at least once (a generator that is refused tests nothing), and
/// every code that is not excused must have come.
const COVERED: u64 = 500;

fn check_coverage<H: Harness>(harness: &Arc<H>) -> Verdict {
    let mut coverage = Coverage::new();
    runtime()?.block_on(async {
        for seed in 0..COVERED {
            let clock = ManualClock::at(TimestampMs::saturating(START_MS));
            let fixture = harness.open(&TestName("random::coverage".to_owned()), clock).await;
            // A disagreement is another trial's to report.
            let _ = random::play(&*fixture.backend, &fixture.clock, &random::draw(seed, STEPS), &mut coverage).await;
        }
    });
    if std::env::var_os("FF_COVERAGE").is_some() {
        println!("{}", random::tables(&coverage));
    }
    let gaps = random::gaps(&coverage);
    if gaps.is_empty() { Ok(()) } else { Err(Failed::from(gaps.join("; "))) }
}

async fn play_fresh<H: Harness>(harness: &H, steps: &[Step]) -> Option<Disagreement> {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    let fixture = harness.open(&TestName("random::sequences".to_owned()), clock).await;
    random::play(&*fixture.backend, &fixture.clock, steps, &mut Coverage::new()).await.err()
}

fn run_sequence<H: Harness>(harness: &Arc<H>, seed: u64, tally: &Tally) -> Verdict {
    runtime()?.block_on(async {
        let steps = random::draw(seed, STEPS);
        tally.add("sequences", 1);
        tally.add("steps", u64::try_from(steps.len()).unwrap_or(u64::MAX));
        if play_fresh(&**harness, &steps).await.is_none() {
            return Ok(());
        }
        let (steps, found) = random::shrink(steps, |steps| async move { play_fresh(&**harness, &steps).await }).await;
        let text = found.map_or_else(
            || format!("seed {seed} failed once and not again: the backend is not deterministic"),
            |found| random::report(seed, &steps, &found),
        );
        Err(Failed::from(text))
    })
}
