//! Lies of sweeps and rebuilds.

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "sweep limit ignored",
        story: "one sweep takes the whole night's timers and blocks the store for a minute",
        by: "maintenance::sweep::with limit 1 it does exactly one",
        operations: &[Op::Sweep],
        lie: Asks(|_, mut op| {
            if let Operation::Sweep(args) = &mut op {
                args.limit = 1_000;
            }
            op
        }),
    },
    Bug {
        name: "one bad record stops the sweep",
        story: "the record cannot be decoded, the sweep fails, and every timer behind it waits",
        by: "maintenance::sweep::an undecodable record blocks no other timer",
        operations: &[Op::Sweep],
        lie: Tells(|_, _, answer| {
            if let Ok(Outcome::Sweep(report)) = &answer
                && !report.corrupt.is_empty()
            {
                let what = "the sweep met a record that it cannot decode".to_owned();
                return Err(EngineError::Unsupported { what });
            }
            answer
        }),
    },
    Bug {
        name: "rebuild loses the backlog",
        story: "indexes are rebuilt from records, and what was owed is in none",
        by: "flow::rebuild_indexes::a lost backlog entry comes back and",
        operations: &[Op::RebuildIndexes],
        lie: Tells(|s, op, answer| {
            if let (Operation::RebuildIndexes(args), Ok(_)) = (op, &answer) {
                let _ = s.backend.lose_backlog(args.partition);
            }
            answer
        }),
    },
    Bug {
        name: "due compared exclusively by the sweep",
        story: "what is due now is left for the next millisecond, and next_due_at names an instant that does nothing",
        by: "maintenance::sweep::next_due_at is the earliest armed timer, and",
        operations: &[Op::Sweep],
        lie: Call(|s, op| {
            let args = args!(s, op, Sweep);
            // A backlog is due at once, whatever the clock shows.
            let due = s.backend.model().next_due_at(args.partition, TimestampMs::ZERO);
            s.call_late(due, args)
        }),
    },
    Bug {
        name: "sweep never says more",
        story: "the caller sleeps with a thousand timers due",
        by: "maintenance::sweep::with limit 1 it does exactly one",
        operations: &[Op::Sweep],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::Sweep(report)) = &mut answer {
                report.more = false;
            }
            answer
        }),
    },
    Bug {
        name: "purge leaves a key",
        story: "the job is gone, and its idempotency key refuses the next one for ever",
        by: "execution::create_execution::a key is free at the end",
        operations: &[Op::CreateExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CreateExecution);
            let Some(key) = args.idempotency_key.clone().filter(|_| args.flow.is_none()) else { return s.call(args) };
            let key = format!("{} {key}", args.namespace);
            let first = s.kept().calls.get(&key).cloned();
            if let Some(Operation::CreateExecution(first)) = first
                && first.execution_id != args.execution_id
                && s.execution(&first.execution_id).is_none()
            {
                return Err(Refusal::idempotency_conflict(first.execution_id).into());
            }
            let answer = s.call(args.clone());
            if answer.is_ok() {
                s.kept().calls.entry(key).or_insert(args.into());
            }
            answer
        }),
    },
    Bug {
        name: "timer lost with the first update",
        story: "the priority is changed by writing the record anew, and its timers are not armed again",
        by: "execution::change_priority::i32::MIN and i32::MAX order correctly, and a",
        operations: &[Op::ChangePriority],
        lie: Tells(|s, op, answer| {
            if let (Operation::ChangePriority(args), Ok(_)) = (op, &answer) {
                s.backend.lose_timers(&args.execution_id);
            }
            answer
        }),
    },
];
