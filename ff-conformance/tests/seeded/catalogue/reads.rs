//! Lies of reads.

use ff_core::state::PublicState;

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "last result falls back to an earlier run",
        story: "the replay fails, and the caller reads last week's result as today's",
        by: "reads::get_result::after a replay that fails, Last is",
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
        by: "reads::get_execution::a running execution whose lease is due",
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
        by: "reads::describe_execution::progress, blocks, lease, grant, tags and newest",
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
        by: "reads::list_executions::partition 10 comes after partition 2, limit",
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
        by: "reads::list_executions::a walk in pages of 1 returns",
        operations: &[Op::ListExecutions],
        lie: Tells(|s, op, mut answer| {
            let Operation::ListExecutions(args) = op else { return answer };
            if let Ok(Outcome::ListExecutions(page)) = &mut answer {
                let whole = page.clone();
                let before = args.cursor.as_ref().and_then(|cursor| s.kept().answers.get(cursor).cloned());
                if let Some(Outcome::ListExecutions(before)) = before
                    && let Some(last) = before.executions.last()
                {
                    page.executions.retain(|x| x.created_at != last.created_at);
                }
                if let Some(cursor) = &whole.next_cursor {
                    s.kept().answers.insert(cursor.clone(), Outcome::ListExecutions(whole.clone()));
                }
            }
            answer
        }),
    },
    Bug {
        name: "lost attempts are not listed",
        story: "the history shows what went well",
        by: "reads::list_attempts::initial, retry, reclaim and replay attempts come",
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
        by: "reads::lane_counts::every transition moves exactly one unit, the",
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
        by: "reads::list_executions::a walk in pages of 1 returns",
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
