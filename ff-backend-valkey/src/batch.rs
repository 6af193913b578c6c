//! Many operations at once: the calls that they make are collected and sent together, one pipeline for each server.
//!
//! The operations run as they always do; only the way of their calls differs. Whenever all that can run have handed in
//! a call, what was handed in is sent.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use ff_core::error::{Applied, EngineError};
use ff_core::operation::{Address, OpName, Operation, Outcome, dispatch};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use redis::Value;
use tokio::sync::oneshot;

use crate::ValkeyBackend;
use crate::connection::Request;

type Answer = Result<Value, EngineError>;

/// The calls that wait to be sent together.
#[derive(Default)]
pub(crate) struct Batch {
    waiting: Mutex<Vec<(Request, oneshot::Sender<Answer>)>>,
}

impl Batch {
    /// Hands in a call and waits for its answer.
    pub(crate) async fn call(self: Arc<Self>, request: Request) -> Answer {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((request, tell));
        // Whoever drives the batch holds it as well.
        drop(self);
        told.await.unwrap_or_else(|_| {
            Err(EngineError::Transport { applied: Applied::Unknown, message: "the batch was given up".to_owned() })
        })
    }

    fn take(&self) -> Vec<(Request, oneshot::Sender<Answer>)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether an operation makes one call whatever it meets: then calls behind it on its partition need not wait for its
/// answer to take effect after it. Those about tokens may have to load keys first, and a tail waits.
const fn is_one_call(name: OpName) -> bool {
    !matches!(
        name,
        OpName::DeliverSignal
            | OpName::BufferSignal
            | OpName::SuspendExecution
            | OpName::CreatePendingWaitpoint
            | OpName::ListPendingWaitpoints
            | OpName::TailFrames
            | OpName::ListExecutions
            | OpName::LaneCounts
    )
}

/// Carries out operations on one unit in their order, as many at once as that allows.
async fn in_order(
    backend: &ValkeyBackend,
    operations: Vec<(usize, Operation)>,
) -> Vec<(usize, Result<Outcome, EngineError>)> {
    let mut results = Vec::with_capacity(operations.len());
    let mut operations = operations.into_iter().peekable();
    while let Some((n, first)) = operations.next() {
        if !is_one_call(first.name()) {
            results.push((n, dispatch(backend, first).await));
            continue;
        }
        let mut run = vec![(n, first)];
        while let Some(next) = operations.next_if(|(_, next)| is_one_call(next.name())) {
            run.push(next);
        }
        let calls = run.into_iter().map(|(n, operation)| async move { (n, dispatch(backend, operation).await) });
        results.extend(join_all(calls).await);
    }
    results
}

impl ValkeyBackend {
    /// Carries out operations together.
    pub(crate) async fn together(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, EngineError>> {
        let count = operations.len();
        let mut units: BTreeMap<Address, Vec<(usize, Operation)>> = BTreeMap::new();
        let reads_all = |address: &Address| *address == Address::EachPartition;
        let mut everywhere = Vec::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let address = operation.address();
            if reads_all(&address) {
                everywhere.push((n, operation));
            } else {
                units.entry(address).or_default().push((n, operation));
            }
        }
        let batch = Arc::new(Batch::default());
        let lane = self.in_batch(&batch);
        let mut work = pin!(join_all(units.into_values().map(|unit| in_order(&lane, unit))));
        let mut sending = FuturesUnordered::new();
        let done = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                let (requests, tellers): (Vec<_>, Vec<_>) = batch.take().into_iter().unzip();
                if !requests.is_empty() {
                    sending.push(async move {
                        let answers = self.connection().call_all(&requests).await;
                        for (teller, answer) in tellers.into_iter().zip(answers) {
                            // Nobody waits any more for what was given up.
                            let _ = teller.send(answer);
                        }
                    });
                }
                match sending.poll_next_unpin(cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        let mut results: Vec<Option<Result<Outcome, EngineError>>> = (0..count).map(|_| None).collect();
        // What asks every partition follows those that it might see.
        let last = join_all(everywhere.into_iter().map(|(n, op)| async move { (n, dispatch(self, op).await) })).await;
        for (n, result) in done.into_iter().flatten().chain(last) {
            if let Some(place) = results.get_mut(n) {
                *place = Some(result);
            }
        }
        let lost = || EngineError::Transport { applied: Applied::Unknown, message: "no answer came".to_owned() };
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(lost()))).collect()
    }
}
