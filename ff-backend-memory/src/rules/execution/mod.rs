//! Domain execution: `execution.md`, section 4.

mod create;
mod end;
mod hold;
mod marks;
mod replay;

pub use create::create_execution;
pub(crate) use create::{Creation, build_execution};
pub(crate) use end::fire_attempt_timeout;
pub(crate) use end::fire_deadline;
pub use end::{cancel_execution, complete_execution, expire_execution, fail_execution};
pub use hold::{block_execution, delay_execution, move_to_waiting_children, unblock_execution};
pub(crate) use hold::{fire_block_until, fire_delay};
pub(crate) use marks::changed_tags;
pub use marks::{change_priority, set_execution_tags, update_progress};
pub(crate) use replay::reopen;
pub use replay::replay_execution;

use ff_core::canon::Digest;
use ff_core::contracts::{Actor, EndedBy, Fence};
use ff_core::records::{LastAnswer, LastBy, LastCall, LastOperation};
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use crate::model::Execution;
use crate::routines::check_fence;

/// The first answer to a call that is repeated, if it is one (`execution.md` section 3, First answers).
fn first_answer(x: &Execution, operation: LastOperation, actor: &Actor, digest: Digest) -> Option<LastAnswer> {
    let last = x.record.last_call.as_ref()?;
    if last.operation != operation || last.digest != digest {
        return None;
    }
    let repeats = match (actor, &last.by) {
        (Actor::Worker(fence), LastBy::Worker(by)) => fence == by,
        (Actor::Operator { identity }, LastBy::Operator { identity: by }) => {
            identity == by && x.record.vector.is_terminal() && last.run == x.record.replay_count
        }
        _ => false,
    };
    repeats.then_some(last.answer)
}

/// Keeps the first answer with the execution.
fn remember(x: &mut Execution, operation: LastOperation, actor: &Actor, digest: Digest, run: u32, answer: LastAnswer) {
    let by = match actor {
        Actor::Worker(fence) => LastBy::Worker(*fence),
        Actor::Operator { identity } => LastBy::Operator { identity: identity.clone() },
    };
    x.record.last_call = Some(LastCall { operation, by, run, digest, answer });
}

/// A worker needs its full, live fence; an operator a live execution.
fn check_actor(x: &Execution, actor: &Actor, now: TimestampMs) -> Result<(), Refusal> {
    match actor {
        Actor::Worker(fence) => check_fence(x, fence, now),
        Actor::Operator { .. } => check_not_terminal(x),
    }
}

fn check_not_terminal(x: &Execution) -> Result<(), Refusal> {
    if x.record.vector.is_terminal() {
        return Err(Refusal::execution_terminal(x.record.vector.terminal_outcome));
    }
    Ok(())
}

/// Who ends it, as it is recorded.
fn ended_by(x: &Execution, actor: &Actor) -> EndedBy {
    match (actor, &x.record.lease) {
        (Actor::Worker(_), Some(lease)) => EndedBy::Worker { worker_instance_id: lease.worker_instance_id.clone() },
        (Actor::Worker(_), None) => EndedBy::Engine,
        (Actor::Operator { identity }, _) => EndedBy::Operator { identity: identity.clone() },
    }
}

/// The actor of a call that only workers make.
const fn worker(fence: Fence) -> Actor {
    Actor::Worker(fence)
}
