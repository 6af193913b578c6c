//! Lies of reads.

use ff_core::state::PublicState;

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "last result falls back to an earlier run",
        story: "the replay fails, and the caller reads last week's result as today's",
        operations: &[Op::GetResult],
        lie: Call(|s, op| {
            let args = args!(s, op, GetResult);
            let answer = s.call(args.clone());
            if refused(&answer, Code::ResultNotAvailable) && args.of == ResultSelector::Last {
                let runs = s.execution(&args.execution_id).map_or(0, |x| x.record.replay_count);
                for run in (0..runs).rev() {
                    let mut earlier = args.clone();
                    earlier.of = ResultSelector::Run(run);
                    if let Ok(found) = s.call(earlier) {
                        return Ok(found);
                    }
                }
            }
            answer
        }),
    },
    Bug {
        name: "read sweeps first",
        story: "looking at a job changes it: the read fires the timers that are due",
        operations: &[Op::GetExecution, Op::DescribeExecution],
        lie: Call(|s, op| {
            let partition = match &op {
                Operation::GetExecution(args) => args.execution_id.partition(),
                Operation::DescribeExecution(args) => args.execution_id.partition(),
                _ => return s.call(op),
            };
            let _ = s.call(SweepArgs::builder().partition(partition).build());
            s.call(op)
        }),
    },
    Bug {
        name: "stale replica answers",
        story: "reads go to a replica that is one answer behind",
        operations: &[Op::GetExecution, Op::DescribeExecution],
        lie: Call(|s, op| {
            let key = format!("{op:?}");
            let fresh = s.call(op);
            let Ok(outcome) = &fresh else { return fresh };
            Ok(s.kept().answers.insert(key, outcome.clone()).unwrap_or_else(|| outcome.clone()))
        }),
    },
    Bug {
        name: "limit 0 is served",
        story: "an empty page with a cursor, and a client that walks for ever",
        operations: &[Op::ListExecutions],
        lie: Asks(|_, mut op| {
            if let Operation::ListExecutions(args) = &mut op {
                args.limit = args.limit.max(1);
            }
            op
        }),
    },
    Bug {
        name: "cursor skips ties",
        story: "the page goes on behind the last one's key, and its equals are never shown",
        operations: &[Op::ListExecutions],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::ListExecutions(page)) = &mut answer
                && page.next_cursor.is_some()
                && page.executions.len() > 1
            {
                page.executions.pop();
            }
            answer
        }),
    },
    Bug {
        name: "lost attempts are not listed",
        story: "the history shows what went well",
        operations: &[Op::ListAttempts],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::ListAttempts(page)) = &mut answer {
                page.attempts.retain(|a| a.attempt_state != ff_core::state::AttemptLifecycle::InterruptedReclaimed);
            }
            answer
        }),
    },
    Bug {
        name: "suspended executions are not counted",
        story: "the dashboard's sum is not the number of jobs",
        operations: &[Op::LaneCounts],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::LaneCounts(lane)) = &mut answer
                && let Some(count) = lane.counts.get_mut(&PublicState::Suspended)
            {
                *count = 0;
            }
            answer
        }),
    },
    Bug {
        name: "filter by state is forgotten on later pages",
        story: "the cursor carries the position and not the question",
        operations: &[Op::ListExecutions],
        lie: Asks(|_, mut op| {
            if let Operation::ListExecutions(args) = &mut op
                && args.cursor.is_some()
            {
                args.public_state = None;
            }
            op
        }),
    },
];
