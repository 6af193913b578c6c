//! The tier of kept counterexamples.

use std::sync::Arc;

use libtest_mimic::Failed;

use super::random::play_calls;
use super::{Sizes, Trial, Verdict, runtime};
use crate::brief;
use crate::harness::Harness;
use crate::traces::{KEPT, Trace};

/// One trial per trace.
pub(super) fn trials<H: Harness>(_: &str, harness: &Arc<H>, _: &Sizes) -> Vec<Trial> {
    let trial = |(name, text): &(&'static str, &'static str)| {
        let (harness, name, text) = (Arc::clone(harness), *name, *text);
        Trial::new(format!("traces::{name}"), move |_| run_trace(&harness, name, text))
    };
    KEPT.iter().map(trial).collect()
}

/// Plays a kept trace.
pub(crate) fn run_trace<H: Harness>(harness: &Arc<H>, name: &str, text: &str) -> Verdict {
    let trace = Trace::parse(text).map_err(|e| format!("{name}: {e}"))?;
    match runtime()?.block_on(play_calls(&**harness, &trace.calls)) {
        None => Ok(()),
        Some(found) => {
            let table = brief::table(&trace.calls, &found);
            Err(Failed::from(format!("{name}, kept on {} ({}):\n{table}", trace.date, trace.convicted)))
        }
    }
}
