//! What convicts, and what does not: a harness that breaks is told from a backend that is wrong, silence convicts, and kept
//! traces are played.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ff_backend_memory::MemoryBackend;
use ff_conformance::concurrent::{Asked, Met, Record};
use ff_conformance::linear::Call;
use ff_conformance::traces::KEPT;
use ff_conformance::{Cause, Conviction, Fixture, Harness, TestName, Trials, convict};
use ff_core::contracts::SweepArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::{Applied, EngineError};
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::time::{ManualClock, TimestampMs};

/// How a backend is no backend at all.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    OpenPanics,
    NeverAnswers,
    OnlyTransport,
    ForgetsClaims,
}

struct Faulty(Fault);

#[async_trait]
impl Layer for Faulty {
    async fn around(&self, inner: &dyn EngineBackend, call: Operation) -> Result<Outcome, EngineError> {
        match self.0 {
            Fault::NeverAnswers => std::future::pending().await,
            Fault::OnlyTransport => Err(EngineError::Transport { applied: Applied::No, message: "down".to_owned() }),
            Fault::ForgetsClaims if call.name() == OpName::ClaimNext => {
                let mut answer = dispatch(inner, call).await;
                if let Ok(Outcome::ClaimNext(result)) = &mut answer {
                    result.claimed.clear();
                }
                answer
            }
            _ => dispatch(inner, call).await,
        }
    }
}

impl Harness for Faulty {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        assert!(self.0 != Fault::OpenPanics, "there is nothing to open");
        let memory = MemoryBackend::with_manual_clock(clock.clone());
        Fixture::new(Arc::new(Layered::new(Arc::new(memory), Self(self.0))), clock)
    }
}

fn tried(fault: Fault, trials: &Trials) -> Option<Conviction> {
    convict(&Arc::new(Faulty(fault)), trials)
}

#[test]
fn a_harness_that_panics_and_a_case_without_end_are_told_from_a_wrong_answer() {
    let trials = Trials::none().cases_named("a delay in the past creates READY").case_limit(Duration::from_secs(5));
    assert_eq!(trials.cases(), 1);
    assert!(tried(Fault::None, &trials).is_none());
    let causes = [Fault::OpenPanics, Fault::NeverAnswers].map(|fault| tried(fault, &trials).map(|found| found.cause));
    assert_eq!(causes, [Some(Cause::Broke), Some(Cause::Time)]);
}

#[test]
fn a_backend_that_answers_nothing_but_transport_errors_is_convicted_by_its_histories() {
    let trials = Trials::none().histories(0..60);
    let found = tried(Fault::OnlyTransport, &trials).expect("nothing is shown by silence");
    assert_eq!((found.trial.as_str(), found.cause), ("concurrent::answers", Cause::Answer), "{found}");
    assert!(found.evidence.contains("transport errors") && found.evidence.contains("did not meet"), "{found}");
}

#[test]
fn every_kept_trace_is_played_first_and_can_convict() {
    assert!(KEPT.len() >= 12, "{} traces are kept", KEPT.len());
    for (name, _) in KEPT {
        let found = tried(Fault::OnlyTransport, &Trials::none().trace(name)).expect("nothing is answered");
        assert_eq!(found.trial, format!("traces::{name}"));
        assert!(found.evidence.contains("expected ->") && found.evidence.contains("actual   ->"), "{found}");
    }
    let first = tried(Fault::OnlyTransport, &Trials::all()).expect("nothing is answered");
    assert_eq!((first.trial, first.played), (format!("traces::{}", KEPT[0].0), 1));
    // A trace convicts by what it holds: one without a claim has nothing to say about claims.
    let claims = |text: &str| text.contains("\"operation\":\"claim_next\"");
    let mut blamed = 0;
    for (name, text) in KEPT {
        let found = tried(Fault::ForgetsClaims, &Trials::none().trace(name));
        assert!(claims(text) || found.is_none(), "{name} has no claim: {found:?}");
        blamed += usize::from(found.is_some());
    }
    assert!(blamed >= 12, "{blamed} of {} traces tell that claims are forgotten", KEPT.len());
    let none = KEPT.iter().find_map(|(name, _)| tried(Fault::None, &Trials::none().trace(name)));
    assert!(none.is_none(), "{none:?}");
}

fn call(client: usize, from: u64, to: u64, partition: u16) -> Record {
    let operation: Operation = SweepArgs::builder().partition(partition).build().into();
    let refusal = EngineError::Unsupported { what: "a refusal".to_owned() };
    Call::answered(client, from, to, Asked { now: TimestampMs::ZERO, operation }, Err(refusal))
}

#[test]
fn only_calls_of_two_clients_on_one_object_at_one_time_overlap() {
    let overlapping = |history: &[Record]| Met::of(history, 2).overlapping;
    assert_eq!(overlapping(&[call(0, 1, 3, 7), call(1, 2, 4, 7)]), 2);
    assert_eq!(overlapping(&[call(0, 1, 2, 7), call(1, 3, 4, 7)]), 0, "one after the other");
    assert_eq!(overlapping(&[call(0, 1, 3, 7), call(1, 2, 4, 8)]), 0, "two objects");
    assert_eq!(overlapping(&[call(0, 1, 3, 7), call(0, 2, 4, 7)]), 0, "one client");
    assert_eq!(overlapping(&[call(0, 1, 3, 7), call(2, 2, 4, 7)]), 0, "no client, but what prepares and reads");
}

#[test]
fn silence_refusals_and_solitude_are_gaps_of_many_histories_and_not_of_a_few() {
    let good = Met {
        histories: 100,
        calls: 5_000,
        answered: 4_900,
        ok: 2_000,
        transport: 0,
        overlapping: 900,
        overlapping_ok: 400,
    };
    assert_eq!(good.gaps(), Vec::<String>::new());
    let bad = [
        Met { answered: 4_000, ..good },
        Met { transport: 50, ..good },
        Met { ok: 900, ..good },
        Met { overlapping_ok: 99, ..good },
    ];
    for met in bad {
        assert_eq!(met.gaps().len(), 1, "{met}: {:?}", met.gaps());
        assert!(Met { histories: 49, ..met }.gaps().is_empty());
    }
}
