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
    Ok(ExecutionSnapshot::of(&x.record, x.attempt.as_ref(), x.suspension.as_deref()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use ff_core::bounds::Deployment;
    use ff_core::contracts::{
        Actor, CompleteExecutionArgs, CreateExecutionArgs, FailExecutionArgs, Fence, ReplayExecutionArgs,
    };
    use ff_core::ids::{AttemptIndex, ExecutionId};
    use ff_core::policy::{ExecutionPolicy, RetryPolicy};
    use ff_core::refusal::Code;
    use ff_core::state::{AttemptType, EndCause};

    use super::*;
    use crate::rules::execution::{complete_execution, create_execution, fail_execution, replay_execution};
    use crate::rules::testing::{at, claim, code, create, execution, partition};

    const X: u128 = 1;

    fn complete(p: &mut Partition, now: u64, fence: Fence, result: Option<&'static [u8]>) {
        let args = CompleteExecutionArgs::builder()
            .execution_id(execution(X))
            .actor(Actor::Worker(fence))
            .maybe_result(result.map(Bytes::from_static))
            .build();
        complete_execution(p, at(now), &args).unwrap();
    }

    fn fail(p: &mut Partition, now: u64, fence: Fence) {
        let args = FailExecutionArgs::builder()
            .execution_id(execution(X))
            .actor(Actor::Worker(fence))
            .reason("r")
            .category("c")
            .build();
        fail_execution(p, at(now), &args).unwrap();
    }

    fn replay(p: &mut Partition, now: u64, replay_count: u32) {
        let args = ReplayExecutionArgs::builder()
            .execution_id(execution(X))
            .replay_count(replay_count)
            .reason("again")
            .by("ann")
            .build();
        replay_execution(p, at(now), &args).unwrap();
    }

    fn result(p: &Partition, of: ResultSelector) -> Result<GetResultResult, EngineError> {
        get_result(p, at(0), &GetResultArgs::builder().execution_id(execution(X)).of(of).build())
    }

    /// Attempts 0 (failed, retried) and 1 (success) of run 0; 2 and 3 (failed twice) of run 1; 4 (success) of run 2.
    fn three_runs() -> Partition {
        let mut p = partition();
        let retry = RetryPolicy::builder().max_retries(1).backoff(ff_core::policy::Backoff::Fixed { delay_ms: 0 });
        create(&mut p, at(0), execution(X), ExecutionPolicy::builder().retry(retry.build()).build());
        let fence = claim(&mut p, at(1)).fence;
        fail(&mut p, 2, fence);
        let fence = claim(&mut p, at(3)).fence;
        complete(&mut p, 4, fence, Some(b"first"));
        replay(&mut p, 5, 0);
        for now in [6, 8] {
            let fence = claim(&mut p, at(now)).fence;
            fail(&mut p, now + 1, fence);
        }
        p
    }

    #[test]
    fn results_are_found_by_run_and_by_the_last_attempt_of_a_run() {
        let mut p = three_runs();
        let first =
            GetResultResult { run: 0, completed_at: at(4), result: Some("first".into()), result_encoding: None };
        for of in [ResultSelector::Run(0), ResultSelector::Attempt(AttemptIndex(1))] {
            assert_eq!(result(&p, of).unwrap(), first);
        }
        let none = [
            ResultSelector::Last,
            ResultSelector::Run(1),
            ResultSelector::Run(2),
            ResultSelector::Attempt(AttemptIndex(0)),
            ResultSelector::Attempt(AttemptIndex(2)),
            ResultSelector::Attempt(AttemptIndex(3)),
        ];
        for of in none {
            assert_eq!(result(&p, of), Err(Refusal::result_not_available(PublicState::Failed).into()));
        }
        assert_eq!(code(result(&p, ResultSelector::Attempt(AttemptIndex(4)))), Code::AttemptNotFound);

        replay(&mut p, 10, 1);
        let fence = claim(&mut p, at(11)).fence;
        assert_eq!(code(result(&p, ResultSelector::Attempt(AttemptIndex(4)))), Code::ResultNotAvailable);
        complete(&mut p, 12, fence, None);
        let last = GetResultResult { run: 2, completed_at: at(12), result: None, result_encoding: None };
        for of in [ResultSelector::Last, ResultSelector::Run(2), ResultSelector::Attempt(AttemptIndex(4))] {
            assert_eq!(result(&p, of).unwrap(), last);
        }
        assert_eq!(result(&p, ResultSelector::Run(0)).unwrap(), first);
    }

    #[test]
    fn attempts_of_all_runs_come_by_index_in_pages() {
        let p = three_runs();
        let mut args = ListAttemptsArgs::builder().execution_id(execution(X)).limit(1).build();
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = list_attempts(&p, at(0), &args).unwrap();
            seen.extend(page.attempts.iter().map(|a| (a.attempt_index.get(), a.attempt_type, a.run, a.end_cause)));
            pages += 1;
            match page.next_cursor {
                Some(cursor) => args.cursor = Some(cursor),
                None => break,
            }
        }
        let failed = Some(EndCause::Failed);
        let expected = [
            (0, AttemptType::Initial, 0, failed),
            (1, AttemptType::Retry, 0, Some(EndCause::Completed)),
            (2, AttemptType::Replay, 1, failed),
            (3, AttemptType::Retry, 1, failed),
        ];
        assert_eq!((seen.as_slice(), pages), (expected.as_slice(), 4));
    }

    fn deployment() -> BTreeMap<u16, Partition> {
        let mut partitions = BTreeMap::new();
        for number in 0..16 {
            partitions.insert(number, Partition::new(number, Arc::new(Deployment::default())));
        }
        for (number, uuid) in [(2, 7), (10, 1), (2, 3), (15, 2), (2, 5), (10, u128::MAX)] {
            let args = CreateExecutionArgs::builder()
                .execution_id(ExecutionId::from_parts(number, Uuid::from_u128(uuid)))
                .namespace("n".parse().unwrap())
                .lane_id(if uuid == 5 { "other" } else { "l" }.parse().unwrap())
                .kind("k")
                .tags([("team.name".to_owned(), if uuid > 3 { "big" } else { "small" }.to_owned())].into())
                .build();
            create_execution(partitions.get_mut(&number).unwrap(), at(0), &args).unwrap();
        }
        partitions
    }

    fn walk(partitions: &BTreeMap<u16, Partition>, mut args: ListExecutionsArgs, examine: usize) -> Vec<(u16, u128)> {
        let mut seen = Vec::new();
        loop {
            let page = list_executions(&args, PartitionConfig::default(), |n, after, may_examine, wanted| {
                list_in_partition(&partitions[&n], &args, after, may_examine.min(examine), wanted)
            })
            .unwrap();
            assert!(page.executions.len() <= args.limit as usize);
            seen.extend(page.executions.iter().map(|e| (e.execution_id.partition(), e.execution_id.uuid().as_u128())));
            match page.next_cursor {
                Some(cursor) => args.cursor = Some(cursor),
                None => return seen,
            }
        }
    }

    #[test]
    fn a_walk_in_any_pages_lists_the_same_in_the_order_of_partitions_as_numbers() {
        let partitions = deployment();
        let all = [(2, 3), (2, 5), (2, 7), (10, 1), (10, u128::MAX), (15, 2)];
        for (limit, examine) in [(1, 1), (1, 10), (2, 2), (3, 1), (1000, 1), (1000, 10_000)] {
            let args = |partition| ListExecutionsArgs::builder().limit(limit).maybe_partition(partition);
            assert_eq!(walk(&partitions, args(None).build(), examine), all);
            assert_eq!(walk(&partitions, args(Some(2)).build(), examine), all[..3]);
            assert_eq!(walk(&partitions, args(Some(3)).build(), examine), []);
            let in_lane = args(None).lane_id("l".parse().unwrap()).tag("team.name", "big").build();
            assert_eq!(walk(&partitions, in_lane, examine), [(2, 7), (10, u128::MAX)]);
            assert_eq!(walk(&partitions, args(None).tag("team.name", "none").build(), examine), []);
        }
    }

    #[test]
    fn a_record_that_cannot_be_decoded_is_never_left_out_silently() {
        let mut partitions = deployment();
        partitions.get_mut(&2).unwrap().damaged.insert(Uuid::from_u128(5));
        let args = ListExecutionsArgs::builder().build();
        let answer = list_in_partition(&partitions[&2], &args, None, 10, 10);
        assert!(matches!(answer, Err(EngineError::Corruption(_))));
    }

    #[test]
    fn lane_counts_are_summed_over_partitions() {
        let partitions = deployment();
        let count = |lane: &str, partition| {
            let args = LaneCountsArgs::builder().lane_id(lane.parse().unwrap()).maybe_partition(partition).build();
            sum_lane_counts(&args, PartitionConfig::default(), |n| lane_counts(&partitions[&n], at(0), &args)).unwrap()
        };
        assert_eq!((count("l", None).count(PublicState::Waiting), count("l", None).total()), (5, 5));
        assert_eq!((count("l", Some(2)).total(), count("other", None).total()), (2, 1));
        assert_eq!(count("never", None), LaneCounts::default());
    }

    #[test]
    fn missing_things_are_refused() {
        let p = partition();
        let args = GetPayloadArgs { execution_id: execution(X) };
        assert_eq!(code(get_payload(&p, at(0), &args)), Code::ExecutionNotFound);
    }
}
