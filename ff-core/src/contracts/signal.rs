//! Domain signal: `suspension.md`, section 5.

use serde::{Deserialize, Serialize};

use crate::canon::{Canon, Canonical};
use crate::word_enum;

/// Who sends a signal: as claimed, unless the token binds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalSource {
    /// A name; `engine` is refused in arguments.
    pub source_type: String,
    /// A name.
    pub source_identity: String,
}

impl SignalSource {
    /// A source.
    pub fn new(source_type: impl Into<String>, source_identity: impl Into<String>) -> Self {
        Self { source_type: source_type.into(), source_identity: source_identity.into() }
    }
}

impl Canon for SignalSource {
    fn canon(&self, out: &mut Canonical) {
        out.put(&self.source_type).put(&self.source_identity);
    }
}

word_enum! {
    /// What a signal did.
    pub enum SignalEffect {
        /// It waits for its waitpoint to be named by a suspension.
        BufferedForPendingWaitpoint = "buffered_for_pending_waitpoint",
        /// It closed the suspension.
        ResumeConditionSatisfied = "resume_condition_satisfied",
        /// It contributed.
        AppendedToWaitpoint = "appended_to_waitpoint",
        /// It matched, but added nothing.
        AppendedToWaitpointDuplicate = "appended_to_waitpoint_duplicate",
        /// It matched nothing.
        NoOp = "no_op",
        /// Its waitpoint ceased to be open without being activated.
        NoOpWaitpointNeverActivated = "no_op_waitpoint_never_activated",
        /// It is the engine's own record of a timeout.
        TimeoutFired = "timeout_fired",
    }
}

word_enum! {
    /// Which bound on signals.
    pub enum SignalLimitScope {
        /// 1,000 per waitpoint.
        Waitpoint = "waitpoint",
        /// 250 per waitpoint from one bound source.
        Source = "source",
        /// The policy's `max_signals` per run.
        Execution = "execution",
        /// 16 MiB of payloads per run that did not contribute.
        Payload = "payload",
        /// 1,000 buffered per execution.
        Buffered = "buffered",
    }
}
