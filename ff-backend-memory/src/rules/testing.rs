//! What tests of rules share: one partition of a small deployment, a clock turned by hand, and one worker.

use std::sync::Arc;

use ff_core::bounds::Deployment;
use ff_core::contracts::{ClaimNextArgs, ClaimSlot, ClaimedExecution, CreateExecutionArgs};
use ff_core::error::EngineError;
use ff_core::ids::ExecutionId;
use ff_core::policy::{Capabilities, ExecutionPolicy};
use ff_core::refusal::Code;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::model::Partition;
use crate::rules;

/// The instant `ms`.
pub(crate) const fn at(ms: u64) -> TimestampMs {
    TimestampMs::saturating(ms)
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(answer: Result<T, EngineError>) -> Code {
    match answer {
        Err(EngineError::Refused(refusal)) => refusal.code(),
        other => panic!("no refusal: {other:?}"),
    }
}

/// An execution of partition 0.
pub(crate) fn execution(n: u128) -> ExecutionId {
    ExecutionId::from_parts(0, Uuid::from_u128(n))
}

/// Partition 0.
pub(crate) fn partition() -> Partition {
    Partition::new(0, Arc::new(Deployment::default()))
}

/// Creates an execution in lane `l`.
pub(crate) fn create(p: &mut Partition, now: TimestampMs, id: ExecutionId, policy: ExecutionPolicy) {
    let args = CreateExecutionArgs::builder()
        .execution_id(id)
        .namespace("n".parse().unwrap())
        .lane_id("l".parse().unwrap())
        .kind("k")
        .policy(policy)
        .build();
    rules::execution::create_execution(p, now, &args).unwrap();
}

/// Claims the head of lane `l` for 60 s.
pub(crate) fn claim(p: &mut Partition, now: TimestampMs) -> ClaimedExecution {
    let args = ClaimNextArgs {
        partition: 0,
        lane_id: "l".parse().unwrap(),
        worker_id: "w".parse().unwrap(),
        worker_instance_id: "w-1".parse().unwrap(),
        capabilities: Capabilities::none(),
        slots: vec![ClaimSlot::new()],
        lease_ttl_ms: 60_000,
    };
    let answer = rules::claim::claim_next(p, now, &args).unwrap();
    answer.claimed.first().expect("something to claim").claimed().clone()
}
