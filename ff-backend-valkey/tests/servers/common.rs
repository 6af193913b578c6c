//! Work that runs while something happens to the servers, and the account of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ff_backend_valkey::{Options, ValkeyBackend};
use ff_core::contracts::{
    Actor, ClaimNextArgs, ClaimSlot, CompleteExecutionArgs, CreateExecutionArgs, GetExecutionArgs,
};
use ff_core::engine_backend::{ClaimOps, ExecutionOps, Host, ReadsOps};
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, LaneId, Namespace, WorkerId, WorkerInstanceId};
use ff_core::policy::Capabilities;
use ff_core::state::PublicState;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Options with a prefix.
pub(crate) fn options(prefix: &str) -> Options {
    let mut options = Options::default();
    options.prefix = prefix.to_owned();
    options
}

/// A creation in a lane.
pub(crate) fn creation(partition: u16, lane: &str) -> CreateExecutionArgs {
    CreateExecutionArgs::builder()
        .execution_id(ExecutionId::from_parts(partition, Uuid::now_v7()))
        .namespace(Namespace::new("test").unwrap())
        .lane_id(LaneId::new(lane).unwrap())
        .kind("test")
        .payload(b"payload".to_vec())
        .build()
}

/// A claim of one execution in a lane.
pub(crate) fn claim_of(partition: u16, lane: &str) -> ClaimNextArgs {
    ClaimNextArgs {
        partition,
        lane_id: LaneId::new(lane).unwrap(),
        worker_id: WorkerId::new("w").unwrap(),
        worker_instance_id: WorkerInstanceId::new(format!("w-{lane}")).unwrap(),
        capabilities: Capabilities::none(),
        slots: vec![ClaimSlot::new()],
        lease_ttl_ms: 60_000,
    }
}

/// One execution from its creation to its end.
pub(crate) async fn lifecycle(backend: &ValkeyBackend, partition: u16, lane: &str) -> Result<ExecutionId, EngineError> {
    let create = creation(partition, lane);
    let id = create.execution_id;
    backend.create_execution(create).await?;
    let claimed = backend.claim_next(claim_of(partition, lane)).await?;
    let claimed = claimed.claimed.first().expect("its own lane has its own execution").claimed().clone();
    assert_eq!(claimed.execution_id, id, "nobody else is in this lane");
    let done = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(claimed.fence)).build();
    backend.complete_execution(done).await?;
    Ok(id)
}

/// What came of some traffic.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) ended: Vec<ExecutionId>,
    pub(crate) failed: Vec<EngineError>,
    /// The longest time that one lifecycle took.
    pub(crate) longest: Duration,
}

impl Account {
    /// Tells what came of traffic over a failover, and that no call was lost on the way. Replication is asynchronous:
    /// what the dead primary had acknowledged last may be gone, and then the next call on it is refused.
    pub(crate) fn no_call_was_lost(&self, failover: Duration) {
        let (ended, failed, longest) = (self.ended.len(), self.failed.len(), self.longest);
        println!("failover {failover:?}, {ended} lifecycles, {failed} failed, the longest {longest:?}");
        let transport: Vec<_> = self.failed.iter().filter(|error| error.refusal().is_none()).collect();
        assert!(transport.is_empty(), "{transport:?}");
    }
}

/// Lifecycles one after another in some lanes, until they are told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Account>>,
}

impl Traffic {
    pub(crate) fn start(backend: &ValkeyBackend, clients: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let partitions = backend.deployment().partitions.partitions();
        let tasks = (0..clients).map(|n| {
            let (backend, stop) = (backend.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut account = Account::default();
                let mut round = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    // A lane of its own each time: a failed round leaves its execution behind.
                    round += 1;
                    match lifecycle(&backend, n % partitions, &format!("lane-{n}-{round}")).await {
                        Ok(id) => account.ended.push(id),
                        Err(error) => account.failed.push(error),
                    }
                    account.longest = account.longest.max(began.elapsed());
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                account
            })
        });
        Self { tasks: tasks.collect(), stop }
    }

    pub(crate) async fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Account::default();
        for task in self.tasks {
            let one = task.await.expect("traffic does not panic");
            sum.ended.extend(one.ended);
            sum.failed.extend(one.failed);
            sum.longest = sum.longest.max(one.longest);
        }
        sum
    }
}

/// How many of these have not ended as they were said to.
pub(crate) async fn lost(backend: &ValkeyBackend, ids: &[ExecutionId]) -> usize {
    let mut lost = 0;
    for id in ids {
        match backend.get_execution(GetExecutionArgs { execution_id: *id }).await {
            Ok(info) if info.public_state == PublicState::Completed => {}
            other => {
                eprintln!("{id}: {other:?}");
                lost += 1;
            }
        }
    }
    lost
}

/// Runs a command.
pub(crate) fn ask(server: &ff_testserver::process::Process, words: &[&str]) -> String {
    server.ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}
