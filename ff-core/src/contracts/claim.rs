//! Domain claim: `execution.md`, section 5.

use crate::word_enum;

word_enum! {
    /// Whose capability list.
    pub enum CapabilitySide {
        /// What an execution requires.
        Requirement = "requirement",
        /// What a worker advertises.
        Worker = "worker",
    }
}

word_enum! {
    /// What a claim takes.
    pub enum ClaimKind {
        /// A new attempt of a ready execution.
        New = "new",
        /// A paused attempt goes on.
        Resumed = "resumed",
        /// A new attempt of an execution whose lease was lost or revoked.
        Reclaimed = "reclaimed",
    }
}

word_enum! {
    /// Why an execution is not handed out, in the order in which the causes are reported.
    pub enum NotEligibleCause {
        /// It is not runnable.
        NotRunnable = "not_runnable",
        /// It waits for time.
        Delayed = "delayed",
        /// It waits for incoming edges.
        Dependencies = "dependencies",
        /// It is held by a block.
        Blocked = "blocked",
        /// Its flow is cancelled over it.
        FlowCancelled = "flow_cancelled",
        /// Its deadline is due.
        DeadlinePassed = "deadline_passed",
    }
}

word_enum! {
    /// Why an execution is not reclaimed, in the order in which the causes are reported.
    pub enum NotReclaimableCause {
        /// It is neither LOST nor REVOKED, nor RUNNING past its lease.
        NotLost = "not_lost",
        /// It waits for time.
        Delayed = "delayed",
        /// It is held by a block.
        Blocked = "blocked",
        /// Its flow is cancelled over it.
        FlowCancelled = "flow_cancelled",
        /// Its deadline is due.
        DeadlinePassed = "deadline_passed",
    }
}
