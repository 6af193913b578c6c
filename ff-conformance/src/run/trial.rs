//! A trial, and what it tells the run while it plays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Failed;

/// What ended a trial: the text convicts the backend.
pub type Verdict = Result<(), Failed>;

/// One named trial of a tier.
pub struct Trial {
    pub(super) name: String,
    pub(super) ignored: Option<String>,
    pub(super) play: Box<dyn FnOnce(&Tally) -> Verdict + Send>,
}

impl Trial {
    /// A trial that plays like this.
    pub fn new(name: impl Into<String>, play: impl FnOnce(&Tally) -> Verdict + Send + 'static) -> Self {
        Self { name: name.into(), ignored: None, play: Box::new(play) }
    }

    /// The same trial, not played, for this reason, if there is one.
    #[must_use]
    pub fn ignored(mut self, reason: Option<String>) -> Self {
        self.ignored = reason;
        self
    }
}

/// Where trials tell the run what they did: counts, which nothing shows so far. Clones are one tally.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    /// Adds to a count (`sequences`, `steps`, `histories`).
    pub fn add(&self, what: &str, number: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_owned()).or_default() += number;
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
