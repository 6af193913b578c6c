//! Domain maintenance: `resources.md`, section 7.

use crate::word_enum;

word_enum! {
    /// The kinds of timers, in the order in which equals fire.
    pub enum TimerKind {
        /// The end of a lease.
        Lease = "lease",
        /// The end of an attempt's time.
        AttemptTimeout = "attempt_timeout",
        /// The end of a run's time.
        Deadline = "deadline",
        /// The end of a delay.
        Delay = "delay",
        /// The end of a suspension's time.
        SuspensionTimeout = "suspension_timeout",
        /// The end of a pending waitpoint.
        PendingWaitpoint = "pending_waitpoint",
        /// The end of a grant.
        Grant = "grant",
        /// The end of a block.
        BlockUntil = "block_until",
        /// The end of an ended execution's or closed flow's retention.
        Retention = "retention",
    }
}

word_enum! {
    /// What stands on a partition's backlog.
    pub enum BacklogKind {
        /// The outgoing edges of an ended or replayed execution.
        Edges = "edges",
        /// The members of a cancelled flow.
        Cancel = "cancel",
        /// The members of a sealed flow.
        Seal = "seal",
        /// The records of what no longer exists.
        Purge = "purge",
    }
}
