//! The command line: tiers are chosen here; their trials are listed, filtered and run by libtest-mimic.

pub(crate) mod cases;
pub(crate) mod concurrent;
pub(crate) mod random;
mod sizes;
pub(crate) mod traces;
mod trial;

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed};

pub use self::sizes::{Depth, Sizes};
pub use self::trial::{Tally, Trial, Verdict};
use crate::harness::Harness;

macro_rules! tiers {
    ($($(#[$doc:meta])* $Tier:ident $word:literal $trials:path,)+) => {
        /// The parts of the suite, in the order in which they run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Tier { $($(#[$doc])* $Tier,)+ }

        impl Tier {
            /// Every tier.
            pub const ALL: &'static [Self] = &[$(Self::$Tier),+];

            /// Its name on the command line and in reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Tier => $word),+ }
            }

            /// Its trials on this backend, named `name`.
            fn trials<H: Harness>(self, name: &str, harness: &Arc<H>, sizes: &Sizes) -> Vec<Trial> {
                match self { $(Self::$Tier => $trials(name, harness, sizes)),+ }
            }
        }
    };
}

// A tier is one line here and one function: `fn trials<H: Harness>(&str, &Arc<H>, &Sizes) -> Vec<Trial>`.
tiers! {
    /// Counterexamples that earlier runs have found.
    Traces "traces" traces::trials,
    /// Every 'Must hold' sentence of the contract, against expected values written in the case.
    Cases "cases" cases::trials,
    /// Random sequences, the same on the backend and on the reference model.
    Random "random" random::trials,
    /// Clients in parallel: what they were answered must have an order that the reference model explains.
    Concurrent "concurrent" concurrent::trials,
    /// Malformed, oversized, wrong-typed, swapped and forged input of every kind.
    Hostile "hostile" crate::hostile::trials,
    /// Crashes, lost replies and dead workers, and what of the acknowledged work is left.
    Faults "faults" crate::faults::trials,
}

/// Runs the suite on the backend that `start` opens, and exits.
///
/// `name` is shown in reports. Arguments are those of `cargo test`: filters, `--list`, `--exact`, `--test-threads`;
/// beside them `--tier NAME[,NAME]`, which runs these tiers alone, and `--deep`, which runs them on demand's sizes.
pub fn main<H: Harness>(name: &str, start: impl FnOnce() -> H) -> ! {
    let asked = sizes::parse(std::env::args_os()).unwrap_or_else(|wrong| wrong_usage(&wrong));
    let sizes = Sizes::of(asked.depth).unwrap_or_else(|wrong| wrong_usage(&wrong));
    let arguments = Arguments::from_iter(asked.rest);
    let harness = Arc::new(start());
    let tally = Tally::default();
    let mut trials = Vec::new();
    for tier in asked.tiers {
        for trial in tier.trials(name, &harness, &sizes) {
            let tally = tally.clone();
            let Trial { name: title, ignored, play } = trial;
            let kind = format!("{name} {}", tier.as_str());
            let ready = libtest_mimic::Trial::test(title, move || play(&tally)).with_kind(kind);
            trials.push(ready.with_ignored_flag(ignored.is_some()));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Exiting drops nothing: what the harness started (a server) must end here.
    drop(harness);
    conclusion.exit()
}

/// Ends the program: the command line or the environment asks for what there is not.
fn wrong_usage(what: &str) -> ! {
    eprintln!("error: {what}");
    std::process::exit(2)
}

/// What most trials run on: one thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failed::from(format!("no runtime: {e}")))
}
