//! The concurrent tier: blocks of seeds, each a trial.

use std::sync::Arc;

use ff_core::time::{ManualClock, TimestampMs};
use libtest_mimic::Failed;

use super::{Sizes, Tally, Trial, Verdict};
use crate::concurrent::{self, Judgement, Rules};
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLIENT_THREADS)
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))?;
    let (mut played, mut given_up) = (0_u64, 0_u64);
    for seed in seeds {
        played += 1;
        match runtime.block_on(run_history(&**harness, seed, tally)).map_err(Failed::from)? {
            Judgement::Linearizable => {}
            Judgement::GaveUp => given_up += 1,
            Judgement::Wrong(table) => {
                let again =
                    format!("seed {seed} (FF_SEED={seed} FF_HISTORIES=200 plays it often: no two runs meet alike)");
                return Err(Failed::from(format!("{again}\n{table}")));
            }
        }
    }
    if given_up > 0 {
        println!("the search was given up in {given_up} of {played} histories");
    }
    if given_up * 100 > played {
        return Err(Failed::from(format!("the search was given up in {given_up} of {played} histories")));
    }
    Ok(())
}

async fn run_history<H: Harness>(harness: &H, seed: u64, tally: &Tally) -> Result<Judgement, String> {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    let fixture = harness.open(&TestName("concurrent::histories".to_owned()), clock).await;
    let mut handles = vec![Arc::clone(&fixture.backend)];
    handles.extend(harness.second(&fixture).await);
    let rules = Rules(fixture.backend.deployment().clone());
    let history = concurrent::play(&handles, &fixture.clock, &concurrent::draw(seed)).await?;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    tally.add("histories", 1);
    tally.add("calls in histories", count(history.len()));
    tally.add("answers lost in histories", count(history.iter().filter(|call| call.answer.is_none()).count()));
    let judgement = concurrent::judge(&rules, history);
    tally.add("histories given up", u64::from(judgement == Judgement::GaveUp));
    Ok(judgement)
}
