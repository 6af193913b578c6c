//! The tier must be able to fail: each of these backends lies once in a while, and each lie must be found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ff_backend_memory::MemoryBackend;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::{Applied, EngineError};
use ff_core::layer::{Layer, Layered};
use ff_core::operation::{OpName, Operation, Outcome, dispatch};
use ff_core::time::{ManualClock, TimestampMs};

use super::{CLIENTS, Settled, campaign};
use crate::stage::START_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// None: trouble alone, told as it is.
    None,
    /// It answers and has done nothing.
    Forgets(OpName),
    /// It says that nothing was applied and has applied it.
    DeniesApplied,
    /// A usage report counts twice.
    CountsTwice,
    /// A stale owner's completion is acknowledged.
    TakesStaleCompletions,
}

struct Liar {
    lie: Lie,
    /// Where what is forgotten is done instead.
    elsewhere: MemoryBackend,
    calls: AtomicU64,
}

#[async_trait::async_trait]
impl Layer for Liar {
    async fn around(&self, inner: &dyn EngineBackend, operation: Operation) -> Result<Outcome, EngineError> {
        let turn = self.calls.fetch_add(1, Ordering::SeqCst);
        let lost = EngineError::Transport { applied: Applied::Unknown, message: "the reply is lost".to_owned() };
        match self.lie {
            Lie::Forgets(name) if operation.name() == name && turn.is_multiple_of(7) => {
                dispatch(&self.elsewhere, operation).await
            }
            Lie::DeniesApplied if operation.name() == OpName::CreateExecution => {
                let _ = dispatch(inner, operation).await;
                Err(EngineError::Transport { applied: Applied::No, message: "not at all".to_owned() })
            }
            Lie::CountsTwice if turn.is_multiple_of(7) => {
                if let Operation::ReportUsage(args) = &operation {
                    let mut second = args.clone();
                    second.dedup_key = None;
                    let _ = inner.report_usage(second).await;
                }
                dispatch(inner, operation).await
            }
            Lie::TakesStaleCompletions => match (&operation, dispatch(inner, operation.clone()).await) {
                (Operation::CompleteExecution(args), Err(EngineError::Refused(_))) => {
                    // Under whoever owns it now, or nobody.
                    let mut forced = args.clone();
                    forced.actor = ff_core::contracts::Actor::operator("liar");
                    dispatch(inner, forced.into()).await
                }
                (_, answer) => answer,
            },
            // Now and then a reply is lost, before or behind the deed.
            _ if turn.is_multiple_of(23) => {
                let _ = dispatch(inner, operation).await;
                Err(lost)
            }
            _ if turn.is_multiple_of(29) => Err(lost),
            _ => dispatch(inner, operation).await,
        }
    }
}

async fn lied_to(lie: Lie) -> (Settled, Vec<String>) {
    let clock = ManualClock::at(TimestampMs::saturating(START_MS));
    let elsewhere = MemoryBackend::with_manual_clock(clock.clone());
    let inner = Arc::new(MemoryBackend::with_manual_clock(clock.clone()));
    let liar = Arc::new(Layered::new(inner, Liar { lie, elsewhere, calls: AtomicU64::new(1) }));
    let clients: Vec<Arc<dyn EngineBackend>> = (0..CLIENTS).map(|_| Arc::clone(&liar) as _).collect();
    // By the clock that the campaign turns, a lease lasts half a second.
    let strikes = if lie == Lie::TakesStaleCompletions { 50 } else { 10 };
    let trouble = async |n: u64| {
        tokio::time::sleep(Duration::from_millis(40)).await;
        n < strikes
    };
    let (_, settled, wrong) = campaign(&clients, &clock, 1, trouble).await;
    (settled, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_told_as_they_are_lose_nothing() {
    let (settled, wrong) = lied_to(Lie::None).await;
    assert_eq!(wrong, Vec::<String>::new());
    assert!(settled.doubtful > 0 && settled.executions > 20, "{settled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_creation_that_was_never_made_is_found() {
    let (settled, wrong) = lied_to(Lie::Forgets(OpName::CreateExecution)).await;
    assert!(settled.lost > 0, "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_usage_report_that_counts_twice_is_found() {
    let (_, wrong) = lied_to(Lie::CountsTwice).await;
    assert!(wrong.iter().any(|w| w.contains("more than")), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_denied_and_done_is_found() {
    let (_, wrong) = lied_to(Lie::DeniesApplied).await;
    assert!(wrong.iter().any(|w| w.contains("was told not to be applied")), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_by_a_stale_owner_is_found() {
    let (_, wrong) = lied_to(Lie::TakesStaleCompletions).await;
    assert!(!wrong.is_empty());
}
