//! Dead workers: a client is dropped in the middle of whatever it does. What it owned is claimed again once its lease is
//! over and one sweep has run.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ff_core::contracts::*; // workers speak the whole contract
use ff_core::engine_backend::EngineBackend;
use ff_core::error::EngineError;
use ff_core::ids::{ExecutionId, WorkerInstanceId};
use ff_core::refusal::Class;
use ff_core::state::PublicState;

use super::work::LEASE_MS;
use crate::stage::{PARTITION, Stage, frame, lane, slot, worker};

/// Workers that die together.
const CREW: usize = 10;

/// A worker that goes on until it is dropped: it claims, renews, reports and appends.
async fn toil(
    backend: Arc<dyn EngineBackend>,
    number: usize,
    tell: tokio::sync::mpsc::UnboundedSender<(ExecutionId, Fence)>,
) {
    let (worker_id, _) = worker();
    let worker_instance_id = WorkerInstanceId::new(format!("mortal-{number}")).unwrap_or_else(|e| panic!("{e}"));
    let args = ClaimNextArgs {
        partition: PARTITION,
        lane_id: lane(),
        worker_id,
        worker_instance_id,
        capabilities: ff_core::policy::Capabilities::none(),
        slots: vec![slot()],
        lease_ttl_ms: LEASE_MS,
    };
    let Ok(result) = backend.claim_next(args).await else { return };
    let Some(claim) = result.claimed.first() else { return };
    let (execution_id, fence) = (claim.claimed().execution_id, claim.claimed().fence);
    let _ = tell.send((execution_id, fence));
    for pct in (0..=100).cycle() {
        // A backend in this process may never make its caller wait: then this is where it is dropped.
        tokio::task::yield_now().await;
        let _ = backend.renew_lease(RenewLeaseArgs { execution_id, fence, lease_ttl_ms: LEASE_MS }).await;
        let progress = UpdateProgressArgs::builder().execution_id(execution_id).fence(fence).pct(pct).build();
        let _ = backend.update_progress(progress).await;
        let _ = backend.append_frame(frame(execution_id, fence, "still here")).await;
    }
}

/// Kills `count` workers; answers what was wrong.
pub(super) async fn kill(stage: &Stage, seed: u64, count: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let mut wrong = Vec::new();
    let mut killed = 0;
    while killed < count && wrong.len() < 20 {
        let mut executions = Vec::new();
        for _ in 0..CREW {
            executions.push(stage.ready().await);
        }
        let (tell, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let toiling: Vec<_> =
            (0..CREW).map(|n| tokio::spawn(toil(Arc::clone(&stage.backend), n, tell.clone()))).collect();
        drop(tell);
        let mut known = Vec::new();
        for worker in &toiling {
            tokio::time::sleep(Duration::from_micros(rng.u64(0..3_000))).await;
            worker.abort();
        }
        for worker in toiling {
            killed += 1;
            let _ = worker.await;
        }
        while let Some(claimed) = hear.recv().await {
            known.push(claimed);
        }
        // A call that was under way when its client was dropped may still arrive; then it is over.
        tokio::time::sleep(Duration::from_millis(20)).await;
        stage.advance(LEASE_MS);
        stage.sweep_once(1000).await;
        wrong.extend(taken_over(stage, &executions, &known).await);
    }
    let rebuilt = stage.rebuild().await;
    if rebuilt.total() > 0 {
        wrong.push(format!("the indexes were not what the records imply: {:?}", rebuilt.repaired));
    }
    wrong
}

/// All of them are claimed by the next worker, and the dead can do nothing any more.
async fn taken_over(stage: &Stage, executions: &[ExecutionId], dead: &[(ExecutionId, Fence)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let claimed = stage.claim_next(64).await.claimed;
    let taken: Vec<(ExecutionId, Fence)> =
        claimed.iter().map(|claim| (claim.claimed().execution_id, claim.claimed().fence)).collect();
    for id in executions.iter().filter(|id| !taken.iter().any(|(taken, _)| taken == *id)) {
        wrong.push(format!("{id} was not handed out after its lease and one sweep: {:?}", stage.state(*id).await));
    }
    for (id, fence) in dead {
        let args = CompleteExecutionArgs::builder().execution_id(*id).actor(Actor::Worker(*fence)).build();
        match stage.backend.complete_execution(args).await {
            Err(EngineError::Refused(refusal))
                if matches!(refusal.code().class(), Class::State | Class::Contention) => {}
            other => wrong.push(format!("the dead owner of {id} completes it: {other:?}")),
        }
    }
    for (id, fence) in taken {
        let args = CompleteExecutionArgs::builder().execution_id(id).actor(Actor::Worker(fence)).build();
        if let Err(error) = stage.backend.complete_execution(args).await {
            wrong.push(format!("the new owner of {id} cannot complete it: {error}"));
        }
        let x = stage.describe(id).await;
        let lost = dead.iter().any(|(dead, _)| *dead == id);
        if x.public_state != PublicState::Completed || (lost && x.total_reclaims != 1) || x.attempt_count > 2 {
            wrong.push(format!(
                "{id}: {:?}, {} reclaims, {} attempts",
                x.public_state, x.total_reclaims, x.attempt_count
            ));
        }
    }
    wrong
}
