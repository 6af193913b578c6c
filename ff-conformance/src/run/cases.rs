//! The tier of named cases.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use ff_core::time::{ManualClock, TimestampMs};
use futures::FutureExt;
use libtest_mimic::Failed;

use super::{Sizes, Trial, Verdict};
use crate::cases::{Case, all_cases};
use crate::harness::{Harness, TestName};
use crate::stage::{START_MS, Stage};

/// One trial per case.
pub(super) fn trials<H: Harness>(_: &str, harness: &Arc<H>, _: &Sizes) -> Vec<Trial> {
    let trial = |case: Case| {
        let lacks: Vec<String> =
            case.needs.iter().filter(|kind| !harness.can_damage(**kind)).map(|kind| format!("{kind:?}")).collect();
        let reason =
            (!lacks.is_empty()).then(|| format!("the harness cannot bring about the damage {}", lacks.join(", ")));
        let harness = Arc::clone(harness);
        Trial::new(case.name.clone(), move |_| within(CASE_LIMIT, move || run_case(&harness, &case))).ignored(reason)
    };
    all_cases().into_iter().map(trial).collect()
}

/// How long one case may take. A backend, or a case, that never ends must be told from one that is slow.
pub(crate) const CASE_LIMIT: Duration = Duration::from_secs(300);

/// Runs a trial on a thread of its own, and gives up on it when its time is over.
pub(crate) fn within(limit: Duration, trial: impl FnOnce() -> Verdict + Send + 'static) -> Verdict {
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(trial()));
    match hear.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Failed::from(format!("did not end within {} s", limit.as_secs()))),
        Err(RecvTimeoutError::Disconnected) => Err(Failed::from("the trial's thread panicked")),
    }
}

pub(crate) fn run_case<H: Harness>(harness: &Arc<H>, case: &Case) -> Verdict {
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
