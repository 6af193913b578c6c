//! The command line: trials are listed, filtered and run by libtest-mimic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ff_core::time::{ManualClock, TimestampMs};
use futures::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::cases::{Case, all_cases};
use crate::harness::{Harness, TestName};
use crate::stage::{START_MS, Stage};

/// Runs the suite on the backend that `start` opens, and exits.
///
/// `name` is shown in reports. Arguments are those of `cargo test`: filters, `--list`, `--exact`, `--test-threads`.
pub fn main<H: Harness>(name: &str, start: impl FnOnce() -> H) -> ! {
    let arguments = Arguments::from_args();
    let harness = Arc::new(start());
    let mut trials = Vec::new();
    for case in all_cases() {
        let ignored = case.needs_damage && !harness.can_damage();
        let harness = Arc::clone(&harness);
        let trial = Trial::test(case.name.clone(), move || run_case(&harness, &case));
        trials.push(trial.with_kind(format!("{name} cases")).with_ignored_flag(ignored));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit()
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
