//! The ledger: what clients asked for, and what they were told.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use ff_core::engine_backend::EngineBackend;
use ff_core::error::{Applied, EngineError};
use ff_core::operation::{Operation, Outcome, dispatch};
use ff_core::refusal::Refusal;

/// How a call stands.
#[expect(clippy::large_enum_variant, reason = "nearly all are acknowledged")]
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It was answered: it holds for ever.
    Acknowledged(Outcome),
    /// It was refused. `doubtful`: an earlier try may have been applied.
    Refused {
        /// With what.
        refusal: Refusal,
        /// Whether an earlier try may have been applied.
        doubtful: bool,
    },
    /// Every answer was lost, and the client gave up: it happened once or not at all.
    Unknown,
    /// The client was told that it did not happen, and gave up.
    NotApplied,
}

/// One call and how it stands.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was asked.
    pub operation: Operation,
    /// How it stands.
    pub standing: Standing,
}

/// What all clients did. Shared by them.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Vec<Entry>>,
    broken: Mutex<Vec<String>>,
}

/// Tries of one call before its client gives up for good.
const TRIES: u32 = 400;

impl Ledger {
    fn push(&self, operation: Operation, standing: Standing) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(Entry { operation, standing });
    }

    /// Notes what no fault excuses.
    pub fn broken(&self, what: String) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// How many calls were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| matches!(entry.standing, Standing::Acknowledged(_))).count()
    }

    /// What was noted.
    #[must_use]
    pub fn take(&self) -> (Vec<Entry>, Vec<String>) {
        let entries = std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        let broken = std::mem::take(&mut *self.broken.lock().unwrap_or_else(PoisonError::into_inner));
        (entries, broken)
    }

    /// Calls until there is an answer, as a client does: the same call again and again. With `patience` below 100 it
    /// sometimes gives up, with the call in doubt.
    pub async fn ask(
        &self,
        backend: &dyn EngineBackend,
        operation: impl Into<Operation>,
        patience: u32,
        rng: &mut Rng,
    ) -> Option<Outcome> {
        let operation = operation.into();
        let mut doubtful = false;
        for _ in 0..TRIES {
            match dispatch(backend, operation.clone()).await {
                Ok(outcome) => {
                    self.push(operation, Standing::Acknowledged(outcome.clone()));
                    return Some(outcome);
                }
                Err(EngineError::Refused(refusal)) => {
                    self.push(operation, Standing::Refused { refusal, doubtful });
                    return None;
                }
                Err(EngineError::Transport { applied, .. }) => doubtful |= applied == Applied::Unknown,
                Err(error) => {
                    // Neither a lost library nor a lost connection excuses these.
                    self.broken(format!("{}: {error}", operation.name()));
                    self.push(operation, Standing::Unknown);
                    return None;
                }
            }
            if rng.u32(0..100) >= patience {
                break;
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(2..25))).await;
        }
        self.push(operation, if doubtful { Standing::Unknown } else { Standing::NotApplied });
        None
    }
}
