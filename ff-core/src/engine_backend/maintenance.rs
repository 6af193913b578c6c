//! Domain maintenance: `resources.md`, section 7; the cascades' budgets: `flow.md`, sections 3.2 to 3.4.

use async_trait::async_trait;

use crate::contracts::{RebuildIndexesArgs, RebuildReport, SweepArgs, SweepReport};
use crate::error::EngineError;

/// All the background work there is: firing what is due, draining what was too much for one call, and mending indexes.
#[async_trait]
pub trait MaintenanceOps: Send + Sync + 'static {
    /// Fires the due timers of a partition, then drains its backlog, within a limit.
    ///
    /// # Behavior
    /// - While the limit lasts the first due entry, by (due time, kind, id), is disarmed and has its effect in the same
    ///   step. What that arms and is already due takes part.
    /// - What is left of the limit drains the backlog: one step per edge, member or 100 purged records. Every timer taken,
    ///   a stale or corrupt one too, and every step uses one of the limit; the cascades of fired timers use the call's own
    ///   budgets of 128 steps and 64 endings.
    /// - An entry that names nothing current is dropped and counted `stale`. One whose record cannot be decoded is
    ///   dropped, so that it blocks nobody, and listed in `corrupt`; `rebuild_indexes` arms it again once the record is
    ///   readable.
    /// - The retention timer of a stand-alone execution ends its existence for every read and operation in its own step;
    ///   its subordinate records go with the backlog, at most 100 per step, and its id is free only then. A flow goes with
    ///   its members. Budgets and quota policies are never swept.
    /// - Knows no list of lanes; may run anywhere, any number of times, at once.
    ///
    /// # Refuses
    /// Nothing but malformed arguments: finding nothing is an answer.
    ///
    /// # Repeats
    /// Goes on where the last one stopped; after a run without `more` a second one at the same instant does nothing.
    ///
    /// # Cost
    /// One round trip; O(limit log n), plus at most 128 cascade steps.
    async fn sweep(&self, args: SweepArgs) -> Result<SweepReport, EngineError>;

    /// Compares a page of a partition's records with its indexes, and mends the indexes.
    ///
    /// # Behavior
    /// - A walk goes first over all records in id order, then over all index entries; a page examines at most `limit` of
    ///   them in one atomic step, beside normal traffic. The recount of one flow is one examination.
    /// - For a record it computes the exact entries that the rules imply (ready queue and place, timers, backlog, lists,
    ///   lease index, open members and counts of flows) and adds, moves or corrects what differs; a queue, timer or list
    ///   entry that no record implies is removed. Backlog entries are only ever added, at the tail.
    /// - An entry in the wrong place, a wrong due time and a wrong count are reported as `moved`.
    /// - Lane counts are reported, not repaired. No record changes, nothing fires; a record that cannot be decoded is
    ///   skipped and listed in `corrupt`.
    /// - Page boundaries, cursors and `examined` are the backend's own.
    ///
    /// # Refuses
    /// Nothing but malformed arguments: `invalid_input` (`cursor`) for a text that is no cursor of this backend.
    ///
    /// # Repeats
    /// Repairs nothing more; neither does any page on a sound state.
    ///
    /// # Cost
    /// One round trip; O(limit log n).
    async fn rebuild_indexes(&self, args: RebuildIndexesArgs) -> Result<RebuildReport, EngineError>;
}
