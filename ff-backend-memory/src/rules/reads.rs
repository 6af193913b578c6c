//! Domain reads: `resources.md`, section 5.
//!
//! A rule sees one partition. Lists and counts over several are put together by [`list_executions`] and
//! [`sum_lane_counts`] from what each partition answers, so that a backend locks one at a time.

use std::ops::RangeInclusive;

use ff_core::contracts::{
    AttemptCursor, AttemptSummary, DescribeExecutionArgs, ExecutionCursor, ExecutionInfo, ExecutionSnapshot,
    ExecutionSummary, GetExecutionArgs, GetPayloadArgs, GetPayloadResult, GetResultArgs, GetResultResult, LaneCounts,
    LaneCountsArgs, ListAttemptsArgs, ListAttemptsResult, ListExecutionsArgs, ListExecutionsResult, ResultSelector,
};
use ff_core::error::EngineError;
use ff_core::partition::PartitionConfig;
use ff_core::refusal::Refusal;
use ff_core::state::{PublicState, TerminalOutcome};
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::model::{Execution, Partition};

/// The greatest number of records that one call of `list_executions` examines; an empty partition counts as one.
pub const EXAMINED_PER_LIST: usize = 10_000;

/// An execution at a glance.
///
/// # Errors
/// `execution_not_found`.
pub fn get_execution(p: &Partition, _: TimestampMs, args: &GetExecutionArgs) -> Result<ExecutionInfo, EngineError> {
    Ok(ExecutionInfo::of(&p.find(&args.execution_id)?.record))
}

/// Everything about an execution but its payload and result.
///
/// # Errors
/// `execution_not_found`.
pub fn describe_execution(
    p: &Partition,
    _: TimestampMs,
    args: &DescribeExecutionArgs,
) -> Result<ExecutionSnapshot, EngineError> {
    let x = p.find(&args.execution_id)?;
    Ok(ExecutionSnapshot::of(&x.record, x.attempt.as_ref()))
}

/// What one partition adds to a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionPage {
    /// Executions that pass the filters, by id.
    pub executions: Vec<ExecutionSummary>,
    /// How many records were examined.
    pub examined: usize,
    /// The last one examined, if the partition has more behind it.
    pub more_after: Option<Uuid>,
}

/// The executions of one partition that pass the filters, after `after`: at most `limit`, among the next `examine`
/// records; both are at least 1, so that every page gets on.
///
/// # Errors
/// Corruption: a record that cannot be decoded may pass the filters or not, and a list that leaves it out would read as
/// complete.
pub fn list_in_partition(
    p: &Partition,
    filters: &ListExecutionsArgs,
    after: Option<Uuid>,
    examine: usize,
    limit: usize,
) -> Result<PartitionPage, EngineError> {
    let mut page = PartitionPage::default();
    let mut last = after;
    for uuid in p.execution_ids_after(after) {
        if page.examined == examine.max(1) || page.executions.len() == limit.max(1) {
            page.more_after = last;
            break;
        }
        page.examined += 1;
        last = Some(uuid);
        if let Some(x) = p.get(uuid)?.filter(|x| filters.matches(&x.record)) {
            page.executions.push(ExecutionSummary::of(&x.record));
        }
    }
    Ok(page)
}

/// The partitions that a call is about: the given one, or all.
fn partitions_of(given: Option<u16>, config: PartitionConfig) -> RangeInclusive<u16> {
    match given {
        Some(partition) => partition..=partition,
        None => 0..=config.partitions().saturating_sub(1),
    }
}

/// Walks the partitions for one page. `read` answers for one partition as [`list_in_partition`] does: it is given the
/// partition, the position in it, how many records it may examine, and how many executions are wanted.
///
/// # Errors
/// Those of `read`; `invalid_input` (`cursor`).
pub fn list_executions(
    args: &ListExecutionsArgs,
    config: PartitionConfig,
    mut read: impl FnMut(u16, Option<Uuid>, usize, usize) -> Result<PartitionPage, EngineError>,
) -> Result<ListExecutionsResult, EngineError> {
    let position = args.position()?;
    let (first, last) = partitions_of(args.partition, config).into_inner();
    let first = position.map_or(first, |cursor| cursor.after.partition());
    let mut examine = EXAMINED_PER_LIST;
    let mut result = ListExecutionsResult::default();
    let mut after = position.map(|cursor| cursor.after.uuid());
    for partition in first..=last {
        let wanted = args.limit as usize - result.executions.len();
        let page = read(partition, after.take(), examine, wanted)?;
        result.executions.extend(page.executions);
        examine = examine.saturating_sub(page.examined.max(1));
        let cursor = match page.more_after {
            Some(uuid) => ExecutionCursor { after: ff_core::ids::ExecutionId::from_parts(partition, uuid) },
            None if partition < last && (examine == 0 || result.executions.len() >= args.limit as usize) => {
                ExecutionCursor::end_of(partition)
            }
            None => continue,
        };
        result.next_cursor = Some(cursor.to_string());
        break;
    }
    Ok(result)
}

/// The attempts of an execution, by index.
///
/// # Errors
/// `execution_not_found`; `invalid_input` (`cursor`).
pub fn list_attempts(
    p: &Partition,
    _: TimestampMs,
    args: &ListAttemptsArgs,
) -> Result<ListAttemptsResult, EngineError> {
    let first = args.first()?;
    let x = p.find(&args.execution_id)?;
    let Some(first) = first else { return Ok(ListAttemptsResult::default()) };
    let end = x.record.attempt_count.min(first.get().saturating_add(args.limit));
    let attempts: Vec<_> = (first.get()..end).filter_map(|index| x.attempt_at(index)).map(AttemptSummary::of).collect();
    let next_cursor = attempts
        .last()
        .filter(|_| end < x.record.attempt_count)
        .map(|last| AttemptCursor { after: last.attempt_index }.to_string());
    Ok(ListAttemptsResult { attempts, next_cursor })
}

/// The payload as it was given.
///
/// # Errors
/// `execution_not_found`.
pub fn get_payload(p: &Partition, _: TimestampMs, args: &GetPayloadArgs) -> Result<GetPayloadResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    Ok(GetPayloadResult { payload: x.payload.clone(), payload_encoding: x.payload_encoding.clone() })
}

/// When a run ended in success; none if it did not, or never was.
fn succeeded_at(x: &Execution, run: u32) -> Option<TimestampMs> {
    let r = &x.record;
    let (outcome, ended) = if run == r.replay_count {
        (r.vector.terminal_outcome, r.ended.as_ref()?)
    } else {
        let closed = x.run(run)?.closed.as_ref()?;
        (closed.outcome, &closed.ended)
    };
    (outcome == TerminalOutcome::Success).then_some(ended.at)
}

/// The result of a run that ended in success.
///
/// # Errors
/// `execution_not_found`; `attempt_not_found`; `result_not_available`.
pub fn get_result(p: &Partition, _: TimestampMs, args: &GetResultArgs) -> Result<GetResultResult, EngineError> {
    let x = p.find(&args.execution_id)?;
    let run = match args.of {
        ResultSelector::Last => Some(x.record.replay_count),
        ResultSelector::Run(run) => Some(run),
        ResultSelector::Attempt(index) => {
            let attempt = x.attempt_at(index.get()).ok_or_else(Refusal::attempt_not_found)?;
            let next = index.get().checked_add(1).and_then(|next| x.attempt_at(next));
            let is_last = next.is_none_or(|next| next.run != attempt.run);
            is_last.then_some(attempt.run)
        }
    };
    let found = run.and_then(|run| Some((run, succeeded_at(x, run)?)));
    let (run, completed_at) = found.ok_or_else(|| Refusal::result_not_available(x.record.vector.public_state()))?;
    let kept = x.run(run);
    Ok(GetResultResult {
        run,
        completed_at,
        result: kept.and_then(|kept| kept.result.clone()),
        result_encoding: kept.and_then(|kept| kept.result_encoding.clone()),
    })
}

/// The executions of a lane by public state, in one partition.
///
/// # Errors
/// None.
pub fn lane_counts(p: &Partition, _: TimestampMs, args: &LaneCountsArgs) -> Result<LaneCounts, EngineError> {
    let mut counts = LaneCounts::default();
    if let Some(counted) = p.lane_counts.get(&args.lane_id) {
        for (state, n) in PublicState::ALL.iter().zip(counted) {
            counts.add(*state, *n);
        }
    }
    Ok(counts)
}

/// Sums up what each partition that the call is about counts. `read` answers for one as [`lane_counts`] does.
///
/// # Errors
/// Those of `read`.
pub fn sum_lane_counts(
    args: &LaneCountsArgs,
    config: PartitionConfig,
    mut read: impl FnMut(u16) -> Result<LaneCounts, EngineError>,
) -> Result<LaneCounts, EngineError> {
    let mut sum = LaneCounts::default();
    for partition in partitions_of(args.partition, config) {
        for (state, n) in read(partition)?.counts {
            sum.add(state, n);
        }
    }
    Ok(sum)
}
