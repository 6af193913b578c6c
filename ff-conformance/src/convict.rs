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
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ff_core::operation::OpName;

use libtest_mimic::Failed;

use crate::cases::{Case, all_cases};
use crate::concurrent::{Judgement, Met};
use crate::harness::Harness;
use crate::random::draw;
use crate::run::{cases, concurrent, random, runtime, traces};
use crate::traces::{KEPT, Trace};

/// Which trials to play, and in what order.
pub struct Trials {
    traces: Vec<(&'static str, &'static str)>,
    cases: Vec<Case>,
    seeds: Range<u64>,
    steps: usize,
    shrinks: bool,
    histories: Range<u64>,
    case_limit: Duration,
}

impl Trials {
    /// What the command line plays but the concurrent tier: the kept traces, every case, the seeds of the random tier.
    #[must_use]
    pub fn all() -> Self {
        Self {
            traces: KEPT.to_vec(),
            cases: all_cases(),
            seeds: 0..random::SEQUENCES.0,
            steps: random::STEPS,
            shrinks: true,
            histories: 0..0,
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
        Self { traces: Vec::new(), cases, seeds: 0..200, ..Self::all() }
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
        self.traces.clear();
        self
    }

    /// No trials at all, to begin with: what is wanted is added.
    #[must_use]
    pub fn none() -> Self {
        Self { traces: Vec::new(), cases: Vec::new(), seeds: 0..0, ..Self::all() }
    }

    /// Those cases alone whose name has these words in it.
    #[must_use]
    pub fn cases_named(mut self, words: &str) -> Self {
        self.cases = all_cases();
        self.cases.retain(|case| case.name.contains(words));
        self
    }

    /// The kept trace of this name alone.
    #[must_use]
    pub fn trace(mut self, name: &str) -> Self {
        self.traces = KEPT.iter().copied().filter(|(kept, _)| *kept == name).collect();
        self
    }

    /// How many cases there are to play.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.cases.len()
    }

    /// These seeds of the random tier, after the cases.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// A random sequence that fails is not shrunk: for those who only count.
    #[must_use]
    pub fn unshrunk(mut self) -> Self {
        self.shrinks = false;
        self
    }

    /// The histories of the concurrent tier of these seeds, after the random sequences.
    #[must_use]
    pub fn histories(mut self, seeds: Range<u64>) -> Self {
        self.histories = seeds;
        self
    }

    /// How long one case may take. Who takes longer is convicted, by [`Cause::Time`].
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

/// What kind of thing ended a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What was answered, held against what is right.
    Answer,
    /// Its time was over.
    Time,
    /// Something broke that is none of the trial's assertions: the harness panicked, a client did not end, or a failure
    /// did not come again. It may say more of the harness than of the backend.
    Broke,
}

/// What showed that a backend breaks the contract.
#[derive(Clone, Debug)]
pub struct Conviction {
    /// The trial: a case's name, `traces::<name>`, `random::seed <n>`, or `concurrent::seed <n>`.
    pub trial: String,
    /// What kind of thing it was.
    pub cause: Cause,
    /// What it found, for people: the failed assertion, or the table of a shrunk sequence.
    pub evidence: String,
    /// The shrunk sequence, if a random one convicted.
    pub trace: Option<Trace>,
    /// How many trials were played until then.
    pub played: usize,
    /// How many steps of random sequences, at most, or calls of histories were made until then.
    pub steps: u64,
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
    let mut session = Session { harness, trials, played: 0, steps: 0 };
    let found = session.traces().or_else(|| session.cases()).or_else(|| session.random());
    let Found { trial, cause, evidence, trace } = found.or_else(|| session.concurrent())?;
    let (played, steps) = (session.played, session.steps);
    Some(Conviction { trial, cause, evidence, trace, played, steps, took: begun.elapsed() })
}

/// What a trial found.
struct Found {
    trial: String,
    cause: Cause,
    evidence: String,
    trace: Option<Trace>,
}

/// Trials that are being played.
struct Session<'a, H> {
    harness: &'a Arc<H>,
    trials: &'a Trials,
    played: usize,
    steps: u64,
}

fn said(failed: &Failed) -> String {
    failed.message().unwrap_or_default().to_owned()
}

impl<H: Harness> Session<'_, H> {
    fn traces(&mut self) -> Option<Found> {
        self.trials.traces.iter().find_map(|(name, text)| {
            self.played += 1;
            let failed = traces::run_trace(self.harness, name, text).err()?;
            let evidence = said(&failed);
            Some(Found { trial: format!("traces::{name}"), cause: Cause::Answer, evidence, trace: None })
        })
    }

    fn cases(&mut self) -> Option<Found> {
        self.trials.cases.iter().filter(|case| case.can_run_on(&**self.harness)).find_map(|case| {
            self.played += 1;
            let (harness, owned, begun) = (Arc::clone(self.harness), case.clone(), Instant::now());
            let (tell, hear) = channel();
            let played = cases::within(self.trials.case_limit, move || {
                // What the case asserts, it catches itself.
                let played = std::panic::catch_unwind(AssertUnwindSafe(|| cases::run_case(&harness, &owned)));
                // Nobody hears it whose time is over.
                let _ = tell.send(played.is_ok());
                played.unwrap_or_else(|_| Err(Failed::from("the harness panicked")))
            });
            let evidence = said(&played.err()?);
            let cause = match hear.try_recv() {
                Ok(true) => Cause::Answer,
                Err(_) if begun.elapsed() >= self.trials.case_limit => Cause::Time,
                Ok(false) | Err(_) => Cause::Broke,
            };
            Some(Found { trial: case.name.clone(), cause, evidence, trace: None })
        })
    }

    fn random(&mut self) -> Option<Found> {
        self.trials.seeds.clone().find_map(|seed| {
            self.played += 1;
            self.steps += u64::try_from(self.trials.steps).unwrap_or(u64::MAX);
            let trial = format!("random::seed {seed}");
            if !self.trials.shrinks {
                let steps = draw(seed, self.trials.steps);
                let found = runtime().ok()?.block_on(random::play_fresh(&**self.harness, &steps))?;
                let evidence = format!("expected {}; actual {}", found.expected, found.actual);
                return Some(Found { trial, cause: Cause::Answer, evidence, trace: None });
            }
            let found = match runtime() {
                Ok(runtime) => runtime.block_on(random::find(&**self.harness, seed, self.trials.steps)),
                Err(failed) => Err(said(&failed)),
            };
            match found {
                Ok(found) => {
                    let found = found?;
                    let trace = Some(found.trace(format!("seed {seed}")));
                    Some(Found { trial, cause: Cause::Answer, evidence: found.report(), trace })
                }
                Err(evidence) => Some(Found { trial, cause: Cause::Broke, evidence, trace: None }),
            }
        })
    }

    fn concurrent(&mut self) -> Option<Found> {
        if self.trials.histories.is_empty() {
            return None;
        }
        let broke = |trial: String, evidence: String| Found { trial, cause: Cause::Broke, evidence, trace: None };
        let runtime = match concurrent::runtime() {
            Ok(runtime) => runtime,
            Err(failed) => return Some(broke("concurrent::runtime".to_owned(), said(&failed))),
        };
        let mut all = Met::default();
        for seed in self.trials.histories.clone() {
            self.played += 1;
            let trial = format!("concurrent::seed {seed}");
            let (met, judgement) = match runtime.block_on(concurrent::run_history(&**self.harness, seed)) {
                Ok(played) => played,
                Err(evidence) => return Some(broke(trial, evidence)),
            };
            self.steps += met.calls;
            all.add(&met);
            if let Judgement::Wrong(evidence) = judgement {
                return Some(Found { trial, cause: Cause::Answer, evidence, trace: None });
            }
        }
        let gaps = all.gaps();
        (!gaps.is_empty()).then(|| Found {
            trial: "concurrent::answers".to_owned(),
            cause: Cause::Answer,
            evidence: format!("{}: {all}", gaps.join("; ")),
            trace: None,
        })
    }
}
