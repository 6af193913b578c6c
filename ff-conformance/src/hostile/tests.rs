//! The tier must be able to fail: each of these backends makes one mistake, and the trial named for it must say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff_backend_memory::MemoryBackend;
use ff_core::contracts::SetExecutionTagsArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::time::ManualClock;
use ff_core::token::WaitpointToken;

use super::{Amount, bounds, cursors, forged_signals, malformed_calls, on_stage, records, tokens, verdict};
use crate::harness::{Fixture, Harness, TestName};
use crate::run::{Tally, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// A refused call leaves a mark on the execution that it names.
    WritesBeforeItRefuses,
    /// A NUL anywhere in a call's texts is too much for it.
    PanicsOnNul,
    /// A limit beyond the bound is lowered to it.
    LowersLimits,
    /// Blanks around a token do not matter.
    TrimsTokens,
    /// What is no cursor begins the walk again.
    ForgetsCursors,
}

struct Wrong(Mistake);

#[async_trait::async_trait]
impl Layer for Wrong {
    async fn around(&self, inner: &dyn EngineBackend, mut operation: Operation) -> Result<Outcome, EngineError> {
        match (&mut operation, self.0) {
            (Operation::ListExecutions(args), Mistake::LowersLimits) => args.limit = args.limit.min(1_000),
            (Operation::DeliverSignal(args), Mistake::TrimsTokens) => {
                args.waitpoint_token = WaitpointToken::new(args.waitpoint_token.expose().trim());
            }
            (Operation::ListExecutions(args), Mistake::ForgetsCursors) if args.position().is_err() => {
                args.cursor = None;
            }
            (operation, Mistake::PanicsOnNul) => {
                let text = serde_json::to_string(operation).unwrap_or_default();
                assert!(!text.contains("\\u0000"), "what is this?");
            }
            _ => {}
        }
        let answer = dispatch(inner, operation.clone()).await;
        if self.0 == Mistake::WritesBeforeItRefuses && answer.is_err() {
            let value = serde_json::to_value(&operation).unwrap_or_default();
            let id = value.pointer("/args/execution_id").and_then(|id| id.as_str()).and_then(|id| id.parse().ok());
            if let Some(execution_id) = id {
                let tags = BTreeMap::from([("wrong.mark".to_owned(), Some("x".to_owned()))]);
                let _ = inner.set_execution_tags(SetExecutionTagsArgs { execution_id, tags }).await;
            }
        }
        answer
    }
}

impl Harness for Wrong {
    async fn open(&self, _: &TestName, clock: ManualClock) -> Fixture {
        let inner = Arc::new(MemoryBackend::with_manual_clock(clock.clone()));
        Fixture::new(Arc::new(Layered::new(inner, Self(self.0))), clock)
    }
}

const AMOUNT: Amount = Amount { calls: 12_000, seed: None };

fn calls(mistake: Mistake) -> Verdict {
    malformed_calls(&Arc::new(Wrong(mistake)), AMOUNT, 0, &Tally::default())
}

fn told(verdict: Verdict) -> String {
    verdict.expect_err("the mistake is found").message().unwrap_or_default().to_owned()
}

#[test]
fn a_backend_without_a_mistake_passes() {
    assert!(calls(Mistake::None).is_ok());
}

#[test]
fn a_refused_call_that_writes_is_found() {
    let text = told(calls(Mistake::WritesBeforeItRefuses));
    assert!(text.contains("expected") || text.contains("changed something"), "{text}");
}

#[test]
fn a_panic_is_found_and_told_with_the_call() {
    let text = told(calls(Mistake::PanicsOnNul));
    assert!(text.contains("it panicked: what is this?") && text.contains("FF_SEED="), "{text}");
}

#[test]
fn a_bound_that_is_not_kept_is_found() {
    let kept = |mistake| {
        on_stage(&Arc::new(Wrong(mistake)), "bounds", async |stage| verdict(bounds::hold(&*stage.backend).await.1))
    };
    assert!(kept(Mistake::None).is_ok());
    let text = told(kept(Mistake::LowersLimits));
    assert!(text.contains("list_executions /args/limit 1001"), "{text}");
}

#[test]
fn a_token_that_is_read_too_kindly_is_found() {
    let sent = |mistake| {
        on_stage(&Arc::new(Wrong(mistake)), "tokens", async |stage| {
            forged_signals(stage, Amount { calls: 20_000, ..AMOUNT }, &Tally::default()).await
        })
    };
    assert!(sent(Mistake::None).is_ok());
    assert!(told(sent(Mistake::TrimsTokens)).contains("blanks"));
}

#[test]
fn a_cursor_that_is_not_looked_at_is_found() {
    let walked = |mistake| {
        on_stage(&Arc::new(Wrong(mistake)), "cursors", async |stage| verdict(cursors::hold(stage, 1, 200).await))
    };
    assert!(walked(Mistake::None).is_ok());
    assert!(told(walked(Mistake::ForgetsCursors)).contains("list_executions takes the cursor"));
}

#[test]
fn forgeries_and_spoiled_records_are_judged_by_what_holds_today() {
    let (reached, wrong) = tokens::judge(7, 4_000);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(reached > 1_000, "only {reached} of 4000 forgeries reached the MAC");
    let (read, wrong) = records::spoil_records(7, 4_000);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(read.readable > 100 && read.readable < read.tried / 2, "{read:?}");
    let (read, wrong) = records::spoil_answers(7, 2_000);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(read.readable > 50, "{read:?}");
}
