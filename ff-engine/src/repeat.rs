//! Law 6: a caller that lost the reply repeats the call unchanged and gets the first answer.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use ff_core::error::EngineError;
use ff_core::operation::{Operation, Outcome};

use crate::engine::Engine;

/// How often a call is repeated that does not get through: within some five seconds.
pub(crate) const REPEATS: usize = 8;
/// How many operations are sent together.
pub(crate) const BATCH: usize = 256;

/// The pauses between repeats: 20 ms, each twice the one before, a second at most, and jitter.
fn pauses(repeats: usize) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_factor(2.0)
        .with_max_times(repeats)
        .with_jitter()
}

/// Repeats a call that did not reach the backend, or whose answer was lost. `call` must make the same call each time:
/// ids and all.
pub(crate) async fn unchanged<T, F, Fut>(call: F) -> Result<T, EngineError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, EngineError>>,
{
    call.retry(pauses(REPEATS)).when(is_transport).await
}

/// Carries out operations together, and repeats, unchanged and at most `repeats` times, those that did not get through.
/// Only for operations of which none depends on another one.
pub(crate) async fn together(
    engine: &Engine,
    operations: Vec<Operation>,
    repeats: usize,
) -> Vec<Result<Outcome, EngineError>> {
    if operations.is_empty() {
        return Vec::new();
    }
    let mut results = engine.backend().execute_many(operations.clone()).await;
    for pause in pauses(repeats).build() {
        let lost: Vec<usize> =
            results.iter().enumerate().filter(|(_, r)| r.as_ref().is_err_and(is_transport)).map(|(i, _)| i).collect();
        if lost.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        let again = lost.iter().filter_map(|i| operations.get(*i).cloned()).collect();
        for (i, result) in lost.into_iter().zip(engine.backend().execute_many(again).await) {
            if let Some(slot) = results.get_mut(i) {
                *slot = result;
            }
        }
    }
    results
}

/// Carries out operations of which later ones depend on earlier ones; the first refusal is the answer. What did not get
/// through may have kept what follows it from being accepted, so all are repeated, unchanged: what was done answers as a
/// repeat.
pub(crate) async fn in_order(engine: &Engine, operations: &[Operation]) -> Result<(), EngineError> {
    let carry_out = || async {
        let results = engine.backend().execute_many(operations.to_vec()).await;
        let lost = results.iter().find(|r| r.as_ref().is_err_and(is_transport)).cloned();
        lost.into_iter().chain(results).try_for_each(|result| result.map(drop))
    };
    unchanged(carry_out).await
}

pub(crate) fn is_transport(error: &EngineError) -> bool {
    matches!(error, EngineError::Transport { .. })
}

/// Makes a call on an engine's backend, repeated unchanged while it does not get through.
macro_rules! call {
    ($engine:expr, $method:ident($args:expr)) => {{
        let args = $args;
        let backend = $engine.backend();
        $crate::repeat::unchanged(|| backend.$method(args.clone())).await
    }};
}
pub(crate) use call;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use ff_core::error::Applied;
    use ff_core::refusal::Refusal;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_asked_for_again_and_a_refusal_is_not() {
        let calls = AtomicU32::new(0);
        let lost = || EngineError::Transport { applied: Applied::Unknown, message: "reset".into() };
        let answer = unchanged(|| async { if calls.fetch_add(1, Ordering::SeqCst) < 3 { Err(lost()) } else { Ok(7) } });
        assert_eq!(answer.await, Ok(7));
        assert_eq!(calls.swap(0, Ordering::SeqCst), 4);
        let refused = unchanged(|| async {
            calls.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(EngineError::from(Refusal::stale_lease()))
        });
        assert!(refused.await.is_err());
        assert_eq!(calls.swap(0, Ordering::SeqCst), 1);
        let gone = unchanged(|| async {
            calls.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(lost())
        });
        assert!(gone.await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 9);
    }
}
