//! Trials played by a program instead of the command line: does anything convict this backend, and what?
//!
//! For those who put the suite itself on trial: wrap your backend in a lie ([`ff_core::layer::Layered`]) and assert that
//! [`convict`] finds it.
//!
//! ```
//! use std::sync::Arc;
//! use ff_backend_memory::MemoryBackend;
//! use ff_conformance::{Fixture, Harness, TestName, Trials, convict};
//! use ff_core::engine_backend::EngineBackend;
//! use ff_core::error::EngineError;
//! use ff_core::layer::{Layer, Layered};
//! use ff_core::operation::{OpName, Operation, Outcome, dispatch};
//! use ff_core::time::ManualClock;
//!
//! /// Forgets every dedup key.
//! struct Forgetful;
//!
//! #[async_trait::async_trait]
//! impl Layer for Forgetful {
//!     async fn around(&self, inner: &dyn EngineBackend, mut call: Operation) -> Result<Outcome, EngineError> {
//!         if let Operation::ReportUsage(args) = &mut call {
//!             args.dedup_key = None;
//!         }
//!         dispatch(inner, call).await
//!     }
//! }
//!
//! struct Wrapped;
//!
//! impl Harness for Wrapped {
//!     async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
//!         let backend = MemoryBackend::with_manual_clock(clock.clone());
//!         Fixture::new(Arc::new(Layered::new(Arc::new(backend), Forgetful)), clock)
//!     }
//! }
//!
//! std::panic::set_hook(Box::new(|_| {})); // a failing case is what we want
//! let conviction = convict(&Arc::new(Wrapped), &Trials::of(&[OpName::ReportUsage])).expect("it is caught");
//! assert!(conviction.trial.starts_with("budget::report_usage::"), "{conviction}");
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ff_core::operation::OpName;

use crate::cases::{Case, all_cases};
use crate::harness::Harness;
use crate::run::{cases, random, runtime, traces};
use crate::traces::{KEPT, Trace};

/// Which trials to play, and in what order.
pub struct Trials {
    traces: bool,
    cases: Vec<Case>,
    seeds: Range<u64>,
    steps: usize,
    case_limit: Duration,
}

impl Trials {
    /// What the command line plays but the concurrent tier: the kept traces, every case, the seeds of the random tier.
    #[must_use]
    pub fn all() -> Self {
        Self {
            traces: true,
            cases: all_cases(),
            seeds: 0..random::SEQUENCES.0,
            steps: random::STEPS,
            case_limit: cases::CASE_LIMIT,
        }
    }

    /// Trials for a fault in these operations: first the cases of these operations, then the other cases of their
    /// domains, then all others, then 200 random sequences. No traces: what an earlier run has found proves nothing
    /// about what this one can find.
    #[must_use]
    pub fn of(operations: &[OpName]) -> Self {
        let mut cases = all_cases();
        let word = |case: &Case, at: usize| case.name.split("::").nth(at).map(str::to_owned);
        let own = |case: &Case| operations.iter().any(|op| word(case, 1).as_deref() == Some(op.as_str()));
        let near = |case: &Case| operations.iter().any(|op| word(case, 0).as_deref() == Some(op.domain()));
        cases.sort_by_key(|case| match (own(case), near(case), counts_far(&case.name)) {
            (true, _, false) => 0,
            (_, true, false) => 1,
            (true, _, true) => 2,
            (_, true, true) => 3,
            (_, _, false) => 4,
            (_, _, true) => 5,
        });
        Self { traces: false, cases, seeds: 0..200, ..Self::all() }
    }

    /// No cases.
    #[must_use]
    pub fn without_cases(mut self) -> Self {
        self.cases.clear();
        self
    }

    /// No kept traces.
    #[must_use]
    pub fn without_traces(mut self) -> Self {
        self.traces = false;
        self
    }

    /// These seeds of the random tier, after the cases.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// How long one case may take; who takes longer is convicted.
    #[must_use]
    pub fn case_limit(mut self, limit: Duration) -> Self {
        self.case_limit = limit;
        self
    }
}

/// Whether a sentence speaks of a thousand of something, or of a crowd: its case takes longer than others.
fn counts_far(sentence: &str) -> bool {
    let mut digits = 0;
    let mut far = sentence.contains("concurrent") || sentence.contains("thousand");
    for c in sentence.chars() {
        match c {
            '0'..='9' => digits += 1,
            ' ' | ',' | '_' if digits > 0 => {}
            _ => digits = 0,
        }
        far |= digits >= 4;
    }
    far
}

/// What showed that a backend breaks the contract.
#[derive(Clone, Debug)]
pub struct Conviction {
    /// The trial: a case's name, `traces::<name>`, or `random::seed <n>`.
    pub trial: String,
    /// What it found, for people: the failed assertion, or the table of a shrunk sequence.
    pub evidence: String,
    /// The shrunk sequence, if a random one convicted.
    pub trace: Option<Trace>,
    /// How many trials were played until then.
    pub played: usize,
    /// How long they took together, shrinking included.
    pub took: Duration,
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} trials, {} ms): {}", self.trial, self.played, self.took.as_millis(), self.evidence)
    }
}

/// Plays trials one after the other until one convicts the backend; `None` if none does.
///
/// Cases that need damage which the harness cannot do are left out. A panic of a case is caught, after the panic hook has
/// seen it: a program that expects convictions sets a quiet one.
#[must_use]
pub fn convict<H: Harness>(harness: &Arc<H>, trials: &Trials) -> Option<Conviction> {
    let begun = Instant::now();
    let mut played = 0;
    let conviction = |trial: String, evidence: String, trace: Option<Trace>, played: usize| {
        Some(Conviction { trial, evidence, trace, played, took: begun.elapsed() })
    };
    for (name, text) in KEPT.iter().filter(|_| trials.traces) {
        played += 1;
        if let Err(failed) = traces::run_trace(harness, name, text) {
            return conviction(
                format!("traces::{name}"),
                failed.message().unwrap_or_default().to_owned(),
                None,
                played,
            );
        }
    }
    for case in trials.cases.iter().filter(|case| case.can_run_on(&**harness)) {
        played += 1;
        let (harness, owned) = (Arc::clone(harness), case.clone());
        let result = cases::within(trials.case_limit, move || cases::run_case(&harness, &owned));
        if let Err(failed) = result {
            return conviction(case.name.clone(), failed.message().unwrap_or_default().to_owned(), None, played);
        }
    }
    for seed in trials.seeds.clone() {
        played += 1;
        let found = match runtime() {
            Ok(runtime) => runtime.block_on(random::find(&**harness, seed, trials.steps)),
            Err(failed) => Err(failed.message().unwrap_or_default().to_owned()),
        };
        match found {
            Ok(None) => {}
            Ok(Some(found)) => {
                let trace = found.trace(format!("seed {seed}"));
                return conviction(format!("random::seed {seed}"), found.report(), Some(trace), played);
            }
            Err(text) => return conviction(format!("random::seed {seed}"), text, None, played),
        }
    }
    None
}
