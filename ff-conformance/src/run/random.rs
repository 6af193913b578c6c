//! The random tier: blocks of seeds, each a trial.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use ff_core::time::{ManualClock, TimestampMs};
use libtest_mimic::Failed;

use super::{Sizes, Tally, Trial, Verdict, runtime};
use crate::brief;
use crate::harness::{Fixture, Harness, TestName};
use crate::random::{self, Call, Coverage, Disagreement, Step};
use crate::stage::START_MS;
use crate::traces::Trace;

/// Sequences of the random tier, in as many trials as [`BLOCKS`]: on every push, and on demand.
pub(crate) const SEQUENCES: (u64, u64) = (3_000, 50_000);
const BLOCKS: u64 = 12;
/// Steps of each sequence.
pub(crate) const STEPS: usize = 200;

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

async fn open<H: Harness>(harness: &H) -> Fixture {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    harness.open(&TestName("random::sequences".to_owned()), clock).await
}

/// Plays steps on a fresh backend.
pub(crate) async fn play_fresh<H: Harness>(harness: &H, steps: &[Step]) -> Option<Disagreement> {
    let fixture = open(harness).await;
    random::play(&*fixture.backend, &fixture.clock, steps, &mut Coverage::new()).await.err()
}

/// Plays calls on a fresh backend.
pub(super) async fn play_calls<H: Harness>(harness: &H, calls: &[Call]) -> Option<Disagreement> {
    let fixture = open(harness).await;
    random::play_calls(&*fixture.backend, &fixture.clock, calls).await.err()
}

/// A shrunk sequence that convicts.
pub(crate) struct Found {
    calls: Vec<Call>,
    last: Disagreement,
}

impl Found {
    /// The table of its calls.
    pub(crate) fn report(&self) -> String {
        format!("shrunk to {} calls:\n{}", self.calls.len(), brief::table(&self.calls, &self.last))
    }

    /// Its calls, to be kept; the day is for whoever keeps it to give.
    pub(crate) fn trace(&self, name: String) -> Trace {
        let Disagreement { asked, expected, actual, .. } = &self.last;
        let convicted = format!("{}: expected {expected}; actual {actual}", asked.name());
        Trace { name, convicted, date: String::new(), calls: self.calls.clone() }
    }
}

/// Plays a seed; shrinks what fails, first by steps, which are resolved anew each time, then by the calls themselves.
///
/// # Errors
/// A failure that does not come again.
pub(crate) async fn find<H: Harness>(harness: &H, seed: u64, steps: usize) -> Result<Option<Found>, String> {
    let steps = random::draw(seed, steps);
    if play_fresh(harness, &steps).await.is_none() {
        return Ok(None);
    }
    let (steps, found) = random::shrink(steps, |steps| async move { play_fresh(harness, &steps).await }).await;
    let found =
        found.ok_or_else(|| format!("seed {seed} failed once and not again: the backend is not deterministic"))?;
    let mut calls = random::resolve(&steps);
    let last_is_the_call = calls.last().is_some_and(|last| last.operation == *found.asked);
    if found.step < steps.len() && !last_is_the_call {
        // A read between two steps: it becomes a call, since a trace reads everything only at its end.
        calls.push(Call { at: found.clock, operation: (*found.asked).clone() });
    }
    let whole = calls.clone();
    let (calls, last) = random::shrink(calls, |calls| async move { play_calls(harness, &calls).await }).await;
    Ok(Some(match last {
        Some(last) => Found { calls, last },
        // It takes what calls do not carry: shown as it was found.
        None => Found { calls: whole, last: found },
    }))
}

fn run_sequence<H: Harness>(harness: &Arc<H>, seed: u64, tally: &Tally) -> Verdict {
    tally.add("sequences", 1);
    tally.add("steps", u64::try_from(STEPS).unwrap_or(u64::MAX));
    let Some(found) = runtime()?.block_on(find(&**harness, seed, STEPS))? else { return Ok(()) };
    let mut text = format!("seed {seed} (replay with FF_SEED={seed}), {}", found.report());
    if let Some(folder) = std::env::var_os("FF_SAVE_TRACE") {
        let path = PathBuf::from(folder).join(format!("seed-{seed}.jsonl"));
        let trace = found.trace(format!("seed-{seed}")).to_text();
        let kept = trace.and_then(|trace| std::fs::write(&path, trace).map_err(|e| e.to_string()));
        let _ = match kept {
            Ok(()) => writeln!(text, "kept as {}", path.display()),
            Err(error) => writeln!(text, "not kept: {error}"),
        };
    }
    Err(Failed::from(text))
}
