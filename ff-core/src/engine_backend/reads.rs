//! Domain reads: `resources.md`, section 5.

use async_trait::async_trait;

use crate::contracts::{
    DescribeExecutionArgs, ExecutionInfo, ExecutionSnapshot, GetExecutionArgs, GetPayloadArgs, GetPayloadResult,
    GetResultArgs, GetResultResult, LaneCounts, LaneCountsArgs, ListAttemptsArgs, ListAttemptsResult,
    ListExecutionsArgs, ListExecutionsResult,
};
use crate::error::EngineError;

/// Reads that span domains.
///
/// They write nothing and are one consistent snapshot of the thing read; one over several partitions is one snapshot of
/// each. They show what is stored: a timer that is due but has not fired has had no effect. Their models are pure
/// functions of decoded records.
#[async_trait]
pub trait ReadsOps: Send + Sync + 'static {
    /// Reads an execution at a glance.
    ///
    /// # Behavior
    /// - A running execution whose lease is due but unswept still reads RUNNING.
    ///
    /// # Refuses
    /// `execution_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(1).
    async fn get_execution(&self, args: GetExecutionArgs) -> Result<ExecutionInfo, EngineError>;

    /// Reads everything about an execution but its payload and result.
    ///
    /// # Behavior
    /// - With policy, tags, blocks, progress, the newest attempt, the lease, the grant as stored (also when lapsed) and
    ///   the present or last suspension.
    ///
    /// # Refuses
    /// `execution_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(size of the records).
    async fn describe_execution(&self, args: DescribeExecutionArgs) -> Result<ExecutionSnapshot, EngineError>;

    /// Lists executions that pass every given filter, by execution id.
    ///
    /// # Behavior
    /// - Without `partition` all partitions are walked in ascending order. A tag matches by equal key and value.
    /// - A page may be short or empty while `next_cursor` is set; only its absence ends the walk. One call examines a
    ///   bounded number of records.
    /// - A cursor names a position, not the filters. Over a walk an execution that exists and matches throughout comes
    ///   exactly once, one that changes at most once.
    /// - A record that cannot be decoded is never left out silently: the page that would examine it is `Corruption`.
    ///
    /// # Refuses
    /// Nothing but malformed arguments: `invalid_tag_key`; `invalid_input` (`cursor`) for a text that is no cursor or
    /// stands outside the given partition. A list of nothing is empty.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip per partition looked at; O(records examined), a bounded number.
    async fn list_executions(&self, args: ListExecutionsArgs) -> Result<ListExecutionsResult, EngineError>;

    /// Lists the attempts of an execution, of all its runs, by index.
    ///
    /// # Behavior
    /// - Initial, retry, reclaim and replay attempts with their runs and ends, the current one included.
    ///
    /// # Refuses
    /// `execution_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(page).
    async fn list_attempts(&self, args: ListAttemptsArgs) -> Result<ListAttemptsResult, EngineError>;

    /// Reads the payload that the execution was created with.
    ///
    /// # Behavior
    /// - Bytes and encoding come back as given; none given is empty.
    ///
    /// # Refuses
    /// `execution_not_found`.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(payload).
    async fn get_payload(&self, args: GetPayloadArgs) -> Result<GetPayloadResult, EngineError>;

    /// Reads the result of a run that ended in success.
    ///
    /// # Behavior
    /// - Of the present run, of the run with a number, or of the run whose last attempt has an index. A run that ended in
    ///   success has one result, perhaps without bytes, kept until the purge, through replays.
    ///
    /// # Refuses
    /// - `execution_not_found`.
    /// - `attempt_not_found`: the attempt named has not started.
    /// - `result_not_available`: that run did not end in success or never was, or the attempt is not the last of its run;
    ///   with the present public state.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip; O(result).
    async fn get_result(&self, args: GetResultArgs) -> Result<GetResultResult, EngineError>;

    /// Counts the stored executions of a lane by public state.
    ///
    /// # Behavior
    /// - One snapshot per partition; without `partition` a sum over all. All 11 states are listed; a lane never seen is
    ///   all 0.
    ///
    /// # Refuses
    /// Nothing but malformed arguments.
    ///
    /// # Repeats
    /// Reads again.
    ///
    /// # Cost
    /// One round trip per partition looked at; O(1) in each.
    async fn lane_counts(&self, args: LaneCountsArgs) -> Result<LaneCounts, EngineError>;
}
