//! Domain execution.

use ff_core::engine_backend::ExecutionOps;
use ff_core::state::{AttemptState, StateName, StateVector};
use ff_core::time::When;

use super::cases;
use crate::stage::Stage;

cases! { "execution";
    "create_execution: a delay in the past creates READY and the next claim_next takes it." => past_delay,
    "create_execution: a delay ends at its exact millisecond and not one earlier." => exact_delay,
}

async fn past_delay(s: &Stage) {
    let mut args = s.creation();
    args.delay = Some(When::At(s.now()));
    let id = s.create(args).await;
    assert_eq!(s.vector(id).await, StateVector::ready(AttemptState::PendingFirstAttempt));
    s.claim_this(id).await;
}

async fn exact_delay(s: &Stage) {
    let id = s.delayed(500).await;
    s.advance(499);
    assert!(s.claim_next(1).await.claimed.is_empty());
    assert_eq!(s.state(id).await, StateName::Delayed);
    s.advance(1);
    s.claim_this(id).await;
}
