//! The command line: trials are listed, filtered and run by libtest-mimic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use ff_core::time::{ManualClock, TimestampMs};
use futures::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::cases::{Case, all_cases};
use crate::harness::{Harness, TestName};
use crate::random::{self, Coverage, Disagreement, Step};
use crate::stage::{START_MS, Stage};

/// Runs the suite on the backend that `start` opens, and exits.
///
/// `name` is shown in reports. Arguments are those of `cargo test`: filters, `--list`, `--exact`, `--test-threads`.
pub fn main<H: Harness>(name: &str, start: impl FnOnce() -> H) -> ! {
    let arguments = Arguments::from_args();
    let harness = Arc::new(start());
    let mut trials = Vec::new();
    for case in all_cases() {
        let ignored = !case.needs.iter().all(|kind| harness.can_damage(*kind));
        let harness = Arc::clone(&harness);
        let trial = Trial::test(case.name.clone(), move || within_limit(move || run_case(&harness, &case)));
        trials.push(trial.with_kind(format!("{name} cases")).with_ignored_flag(ignored));
    }
    trials.extend(random_trials(name, &harness));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Exiting drops nothing: what the harness started (a server) must end here.
    drop(harness);
    conclusion.exit()
}

/// Sequences of the random tier on every push, in as many trials as [`BLOCKS`].
const SEQUENCES: u64 = 3_000;
const BLOCKS: u64 = 12;
/// Steps of each sequence.
const STEPS: usize = 200;

/// The random tier: blocks of seeds, each a trial. `FF_SEED` plays one seed alone, `FF_SEQUENCES` sets how many are played.
fn random_trials<H: Harness>(name: &str, harness: &Arc<H>) -> Vec<Trial> {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let blocks: Vec<(u64, u64)> = match number("FF_SEED") {
        Some(seed) => vec![(seed, seed + 1)],
        None => {
            let each = number("FF_SEQUENCES").unwrap_or(SEQUENCES).div_ceil(BLOCKS);
            (0..BLOCKS).map(|block| (block * each, (block + 1) * each)).collect()
        }
    };
    let trial = |(from, to): (u64, u64)| {
        let harness = Arc::clone(harness);
        Trial::test(format!("random::sequences::seeds {from} to {}", to - 1), move || {
            (from..to).try_for_each(|seed| run_sequence(&harness, seed))
        })
        .with_kind(format!("{name} random"))
    };
    let mut trials: Vec<Trial> = blocks.into_iter().map(trial).collect();
    let harness = Arc::clone(harness);
    let every = format!(
        "random::coverage::every operation succeeds and every code comes in some sequence of seeds 0 to {}",
        COVERED - 1
    );
    let coverage = Trial::test(every, move || check_coverage(&harness)).with_kind(format!("{name} random"));
    trials.push(coverage);
    trials
}

/// Seeds within which every operation must have succeeded at least once (a generator that is refused tests nothing), and
/// every code that is not excused must have come.
const COVERED: u64 = 500;

fn check_coverage<H: Harness>(harness: &Arc<H>) -> Result<(), Failed> {
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

fn run_sequence<H: Harness>(harness: &Arc<H>, seed: u64) -> Result<(), Failed> {
    runtime()?.block_on(async {
        let steps = random::draw(seed, STEPS);
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

fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))
}

/// How long one case may take. A backend, or a case, that never ends must be told from one that is slow.
const CASE_LIMIT: Duration = Duration::from_secs(300);

/// Runs a trial on a thread of its own, and gives up on it when its time is over.
fn within_limit(trial: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Result<(), Failed> {
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(trial()));
    match hear.recv_timeout(CASE_LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Failed::from(format!("did not end within {} s", CASE_LIMIT.as_secs()))),
        Err(RecvTimeoutError::Disconnected) => Err(Failed::from("the trial's thread panicked")),
    }
}

fn run_case<H: Harness>(harness: &Arc<H>, case: &Case) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        let clock = ManualClock::at(TimestampMs::saturating(START_MS));
        let fixture = harness.open(&TestName(case.name.clone()), clock).await;
        let stage = Stage::open(harness, fixture).await;
        let outcome = AssertUnwindSafe((case.run)(&stage)).catch_unwind().await;
        outcome.map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_else(|| "the case panicked".to_owned());
            Failed::from(text)
        })
    })
}
