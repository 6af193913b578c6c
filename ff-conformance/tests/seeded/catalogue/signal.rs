//! Lies about signals and their tokens.

use bytes::Bytes;
use ff_core::condition::{Condition, Distinct};
use ff_core::ids::SignalId;
use ff_core::token::WaitpointToken;

use super::prelude::*;

fn each_node(condition: &mut Condition, change: &mut dyn FnMut(&mut Condition)) {
    change(condition);
    if let Condition::AllOf { of } | Condition::AnyOf { of } = condition {
        of.iter_mut().for_each(|child| each_node(child, change));
    }
}

/// Remembers the tokens that an answer issues.
fn note_tokens(s: &Scene, answer: &Answer) {
    let tokens: Vec<WaitpointToken> = match answer {
        Ok(Outcome::SuspendExecution(
            SuspendExecutionResult::Suspended { waitpoints, .. }
            | SuspendExecutionResult::AlreadySatisfied { waitpoints, .. },
        )) => waitpoints.iter().flat_map(|w| w.tokens.iter().map(|t| t.token.clone())).collect(),
        Ok(Outcome::CreatePendingWaitpoint(
            CreatePendingWaitpointResult::Created { tokens, .. }
            | CreatePendingWaitpointResult::AlreadyExists { tokens, .. },
        )) => tokens.iter().map(|t| t.token.clone()).collect(),
        _ => Vec::new(),
    };
    s.kept().tokens.extend(tokens);
}

const ISSUE_AND_DELIVER: &[Op] = &[Op::DeliverSignal, Op::SuspendExecution, Op::CreatePendingWaitpoint];

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "duplicate signal counts twice",
        story: "the sender's retry is a second vote",
        by: "signal::deliver_signal::one signal id twice counts once; the",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let mut args = args!(s, op, DeliverSignal);
            let known = s.execution(&args.execution_id).is_some_and(|x| x.history.dedup.contains_key(&args.signal_id));
            if known && args.idempotency_key.is_none() {
                args.signal_id = SignalId::new();
            }
            s.call(args)
        }),
    },
    Bug {
        name: "idempotency key of signals forgotten",
        story: "the key is stored with the signal and looked up under another name",
        by: "signal::deliver_signal::one signal id twice counts once; the",
        operations: &[Op::DeliverSignal],
        lie: Asks(|_, mut op| {
            if let Operation::DeliverSignal(args) = &mut op {
                args.idempotency_key = None;
            }
            op
        }),
    },
    Bug {
        name: "signal key shared by all senders",
        story: "dedup scoped too widely: `approve-1` of one sender swallows `approve-1` of the other",
        by: "signal::deliver_signal::one idempotency key under the bound tokens",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let args = args!(s, op, DeliverSignal);
            let Some(key) = &args.idempotency_key else { return s.call(args) };
            let key = format!("{} {} {key}", args.execution_id, args.waitpoint_id);
            let first = s.kept().calls.get(&key).cloned();
            if let Some(Operation::DeliverSignal(first)) = first
                && first.source != args.source
            {
                return s.call(first);
            }
            let answer = s.call(args.clone());
            if answer.is_ok() {
                s.kept().calls.entry(key).or_insert(args.into());
            }
            answer
        }),
    },
    Bug {
        name: "signal taken at the timeout's instant",
        story: "`now <= timeout_at` on the way in, and the timer has the same instant: resumed and expired",
        by: "signal::deliver_signal::a signal at the exact timeout instant",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let args = args!(s, op, DeliverSignal);
            let ends = s.execution(&args.execution_id).and_then(|x| x.open_suspension()?.timeout_at);
            s.call_late(ends, args)
        }),
    },
    Bug {
        name: "token of another waitpoint accepted",
        story: "the MAC is checked, but not that it is this waitpoint's of this execution",
        by: "signal::deliver_signal::a token of one execution, partition or",
        operations: ISSUE_AND_DELIVER,
        lie: Call(|s, op| {
            let Operation::DeliverSignal(mut args) = op else {
                let answer = s.call(op);
                note_tokens(s, &answer);
                return answer;
            };
            let answer = s.call(args.clone());
            if refused(&answer, Code::InvalidToken) && s.kept().tokens.contains(&args.waitpoint_token) {
                let good = s.good_tokens(args.execution_id).into_iter();
                let right = good
                    .filter(|(id, source, _)| {
                        *id == args.waitpoint_id && source.as_ref().is_none_or(|own| *own == args.source)
                    })
                    .map(|(_, _, token)| token);
                if let Some(right) = right.last() {
                    args.waitpoint_token = right;
                    return s.call(args);
                }
            }
            answer
        }),
    },
    Bug {
        name: "token of a revoked kid accepted",
        story: "keys are cached without end, and a revocation reaches no running process",
        by: "keystore::revoke_waitpoint_kid::a kid revoked between verification and commit",
        operations: ISSUE_AND_DELIVER,
        lie: Call(|s, op| {
            let Operation::DeliverSignal(mut args) = op else {
                let answer = s.call(op);
                note_tokens(s, &answer);
                return answer;
            };
            let list = ListWaitpointHmacKidsArgs { partition: args.execution_id.partition() };
            let Ok(Outcome::ListWaitpointHmacKids(kids)) = s.call(list) else { return s.call(args) };
            let kid = args.waitpoint_token.kid();
            let alive = kids.current_kid == kid || kids.verifying.iter().any(|v| Some(&v.kid) == kid.as_ref());
            if kid.is_some() && !alive && s.kept().tokens.contains(&args.waitpoint_token) {
                let good = s.good_tokens(args.execution_id).into_iter();
                let mut own = good.filter(|(id, source, _)| *id == args.waitpoint_id && source.is_none());
                args.waitpoint_token = own.next().map_or(args.waitpoint_token, |(_, _, token)| token);
            }
            s.call(args)
        }),
    },
    Bug {
        name: "bound source not compared",
        story: "one approver's link fills the whole quorum under other names",
        by: "signal::deliver_signal::a token of one execution, partition or",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let mut args = args!(s, op, DeliverSignal);
            let answer = s.call(args.clone());
            if refused(&answer, Code::TokenSourceMismatch) {
                let good = s.good_tokens(args.execution_id).into_iter();
                let mut own =
                    good.filter(|(id, source, _)| *id == args.waitpoint_id && source.as_ref() == Some(&args.source));
                if let Some((_, _, token)) = own.next() {
                    args.waitpoint_token = token;
                    return s.call(args);
                }
            }
            answer
        }),
    },
    Bug {
        name: "condition evaluated on the wrong suspension",
        story: "an old approval link, clicked late, resumes the suspension that is open now",
        by: "suspension::resume_execution::after an operator resume and a new",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let mut args = args!(s, op, DeliverSignal);
            let answer = s.call(args.clone());
            if refused(&answer, Code::WaitpointClosed)
                && let Some((waitpoint_id, source, token)) = s.good_tokens(args.execution_id).into_iter().next()
            {
                args.waitpoint_id = waitpoint_id;
                args.waitpoint_token = token;
                args.source = source.unwrap_or(args.source);
                return s.call(args);
            }
            answer
        }),
    },
    Bug {
        name: "quorum counts signals, not senders",
        story: "two clicks of one person are two approvals",
        by: "signal::deliver_signal::one token cannot fill a quorum of",
        operations: &[Op::SuspendExecution],
        lie: Asks(|_, mut op| {
            if let Operation::SuspendExecution(args) = &mut op {
                each_node(&mut args.resume_condition.root, &mut |condition| {
                    if let Condition::Count { distinct, .. } = condition {
                        *distinct = Distinct::Signals;
                    }
                });
            }
            op
        }),
    },
    Bug {
        name: "all_of evaluated as any_of",
        story: "the fold begins with the wrong neutral element",
        by: "signal::deliver_signal::one signal on two matching leaves feeds",
        operations: &[Op::SuspendExecution],
        lie: Asks(|_, mut op| {
            if let Operation::SuspendExecution(args) = &mut op {
                each_node(&mut args.resume_condition.root, &mut |condition| {
                    if let Condition::AllOf { of } = condition {
                        *condition = Condition::AnyOf { of: std::mem::take(of) };
                    }
                });
            }
            op
        }),
    },
    Bug {
        name: "signal acknowledged and lost",
        story: "the webhook is answered with 200 before anything is stored",
        by: "signal::deliver_signal::a signal at the exact timeout instant",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| s.pretend(&op)),
    },
    Bug {
        name: "signal payload goes through text",
        story: "a binary callback body comes back with question marks",
        by: "signal::deliver_signal::payload bytes 0x00 to 0xff come back",
        operations: &[Op::DeliverSignal, Op::BufferSignal],
        lie: Asks(|_, mut op| {
            let text = |payload: &Bytes| Bytes::from(String::from_utf8_lossy(payload).into_owned());
            match &mut op {
                Operation::DeliverSignal(args) => args.payload = text(&args.payload),
                Operation::BufferSignal(args) => args.payload = text(&args.payload),
                _ => {}
            }
            op
        }),
    },
    Bug {
        name: "the limit drops the signal that matters",
        story: "after a thousand signals of noise the one that was waited for is refused",
        by: "signal::deliver_signal::behind 1,000 signals of noise on an",
        operations: &[Op::DeliverSignal],
        lie: Call(|s, op| {
            let args = args!(s, op, DeliverSignal);
            let full = s
                .execution(&args.execution_id)
                .is_some_and(|x| x.history.waitpoints.get(&args.waitpoint_id).is_some_and(|w| w.signal_count >= 1_000));
            if full {
                return Err(Refusal::signal_limit_exceeded(SignalLimitScope::Waitpoint, 1_000_u64).into());
            }
            s.call(args)
        }),
    },
    Bug {
        name: "matched_only ignored",
        story: "an approval record shows the signals that did not count among those that did",
        by: "signal::list_signals::signals come in order with final effects",
        operations: &[Op::ListSignals],
        lie: Asks(|_, mut op| {
            if let Operation::ListSignals(args) = &mut op {
                args.matched_only = false;
            }
            op
        }),
    },
];
