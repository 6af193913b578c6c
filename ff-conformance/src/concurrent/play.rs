//! Playing a history: clients, the world that they share, and the record of what they saw.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ff_core::contracts::DescribeExecutionArgs;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::ExecutionId;
use ff_core::operation::{Address, Operation, Outcome, dispatch};
use ff_core::time::{Clock, ManualClock, TimestampMs};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::draw::{Draw, Phase, Plan};
use crate::linear::Call;
use crate::random::{Action, PARTITION, World, first_key, rebuild};
use crate::stage::START_MS;

/// An operation, and what the clock showed when it was asked.
#[derive(Clone, PartialEq)]
pub struct Asked {
    /// What the clock showed.
    pub now: TimestampMs,
    /// What was asked.
    pub operation: Operation,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} {:?}", self.now, self.operation)
    }
}

/// One call as its client saw it.
pub type Record = Call<Asked, Result<Outcome, EngineError>>;

/// What all clients of a history share.
struct Shared {
    world: Mutex<World>,
    record: Mutex<Vec<Record>>,
    /// Counts invocations and returns: the clock of the history.
    ticks: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Asks and waits for the answer, and passes on what it teaches. The call and its answer are on their way for so long:
    /// a backend in memory answers before another client can ask, and then nobody would ever meet.
    async fn ask(&self, client: usize, backend: &dyn EngineBackend, now: TimestampMs, operation: Operation, way: u8) {
        let asked = Asked { now, operation: operation.clone() };
        let invoked = self.tick();
        pause(way).await;
        let outcome = dispatch(backend, operation).await;
        pause(way).await;
        let returned = self.tick();
        if let Ok(outcome) = &outcome {
            locked(&self.world).learn(&asked.operation, outcome);
        }
        locked(&self.record).push(Call::answered(client, invoked, returned, asked, outcome));
    }

    /// Asks, looks for the answer a few times, and goes away without it: as a caller whose time is over, or whose
    /// connection broke before the reply.
    async fn ask_and_leave(
        &self,
        client: usize,
        backend: &dyn EngineBackend,
        now: TimestampMs,
        operation: Operation,
        looks: u8,
    ) {
        let asked = Asked { now, operation: operation.clone() };
        let invoked = self.tick();
        {
            let mut call = pin!(dispatch(backend, operation));
            for _ in 0..looks {
                if futures::poll!(call.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        locked(&self.record).push(Call::unknown(client, invoked, asked));
    }
}

/// Lets others go first, so often.
async fn pause(times: u8) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

async fn run_client(
    shared: Arc<Shared>,
    backend: Arc<dyn EngineBackend>,
    client: usize,
    now: TimestampMs,
    draws: Vec<Draw>,
    start: Arc<Barrier>,
) {
    start.wait().await;
    for draw in draws {
        pause(draw.pauses).await;
        let Action::Call(name) = draw.step.action else { continue };
        let operation = locked(&shared.world).operation(name, &draw.step, now);
        match draw.patience {
            None => shared.ask(client, &*backend, now, operation, draw.pauses).await,
            Some(looks) => {
                shared.ask_and_leave(client, &*backend, now, operation.clone(), looks).await;
                if draw.again {
                    shared.ask(client, &*backend, now, operation, draw.pauses).await;
                }
            }
        }
    }
}

/// Waits until calls that were left have had their effect or never will: what was sent over a handle before is served
/// before.
async fn settle(handles: &[Arc<dyn EngineBackend>]) {
    let nobody = ExecutionId::from_parts(PARTITION, Uuid::from_u128(u128::MAX));
    for handle in handles {
        for _ in 0..2 {
            tokio::task::yield_now().await;
            // Its answer says nothing, and nothing depends on it.
            let _ = dispatch(&**handle, DescribeExecutionArgs { execution_id: nobody }.into()).await;
        }
    }
}

async fn run_phase(
    shared: &Arc<Shared>,
    handles: &[Arc<dyn EngineBackend>],
    now: TimestampMs,
    phase: &Phase,
) -> Result<(), String> {
    let start = Arc::new(Barrier::new(phase.clients.len()));
    let mut clients = JoinSet::new();
    for (client, draws) in phase.clients.iter().enumerate() {
        let handle = &handles[client % handles.len()];
        let (shared, handle) = (Arc::clone(shared), Arc::clone(handle));
        clients.spawn(run_client(shared, handle, client, now, draws.clone(), Arc::clone(&start)));
    }
    while let Some(done) = clients.join_next().await {
        done.map_err(|e| format!("a client did not end: {e}"))?;
    }
    settle(handles).await;
    let settled = shared.tick();
    for call in locked(&shared.record).iter_mut().filter(|call| call.answer.is_none()) {
        call.until = call.until.min(settled);
    }
    Ok(())
}

/// Plays a history on a fresh backend. `handles` are handles on the same state, at least one; clients take turns over them.
///
/// Must run on a runtime with several threads. The same plan may come out differently each time.
///
/// # Errors
/// A client panicked, or there is no handle.
pub async fn play(handles: &[Arc<dyn EngineBackend>], clock: &ManualClock, plan: &Plan) -> Result<Vec<Record>, String> {
    let Some(first) = handles.first() else { return Err("no handle on the backend".to_owned()) };
    let shared = Arc::new(Shared { world: Mutex::default(), record: Mutex::default(), ticks: AtomicU64::new(1) });
    clock.set(TimestampMs::saturating(START_MS));
    let founder = plan.clients();
    shared.ask(founder, &**first, clock.now(), first_key(), 0).await;
    for step in &plan.founding {
        let Action::Call(name) = step.action else { continue };
        let operation = locked(&shared.world).operation(name, step, clock.now());
        shared.ask(founder, &**first, clock.now(), operation, 0).await;
    }
    for phase in &plan.phases {
        clock.advance(phase.advance_ms);
        run_phase(&shared, handles, clock.now(), phase).await?;
    }
    look(&shared, &**first, founder, clock.now()).await;
    Ok(std::mem::take(&mut *locked(&shared.record)))
}

/// Reads everything that is public of what is known, then lets the indexes be rebuilt: one call after the other.
async fn look(shared: &Shared, backend: &dyn EngineBackend, client: usize, now: TimestampMs) {
    let looks = locked(&shared.world).looks();
    let named: Vec<Address> = locked(&shared.record).iter().map(|call| call.operation.operation.address()).collect();
    // What nobody spoke of shows nothing.
    let looks: Vec<Operation> = looks.into_iter().filter(|look| named.contains(&look.address())).collect();
    let outcomes = backend.execute_many(looks.clone()).await;
    let calls = looks.into_iter().zip(outcomes).map(|(operation, outcome)| {
        let (invoked, returned) = (shared.tick(), shared.tick());
        Call::answered(client, invoked, returned, Asked { now, operation }, outcome)
    });
    locked(&shared.record).extend(calls);
    shared.ask(client, backend, now, rebuild(), 0).await;
}
