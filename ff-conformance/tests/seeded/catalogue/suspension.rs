//! Lies about suspensions and waitpoints.

use ff_core::ids::WaitpointId;

use super::prelude::*;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "resume gives the whole time again",
        story: "the attempt timer starts anew at every resume, so that an attempt that pauses often never times out",
        by: "suspension::suspend_execution::the lease is released, the epoch kept",
        operations: &[Op::SuspendExecution],
        lie: Tells(|s, op, answer| {
            if let (Operation::SuspendExecution(args), Ok(_)) = (op, &answer) {
                s.alter(&args.execution_id, |x| {
                    let whole = x.record.policy.timeouts.attempt_timeout_ms;
                    if let Some(attempt) = x.attempt.as_mut().filter(|a| a.timeout_remaining_ms.is_some()) {
                        attempt.timeout_remaining_ms = whole;
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "stale timer ends a later suspension",
        story: "the timeout names the execution; the approval of today is ended by yesterday's timer",
        by: "suspension::expire_suspension::a timer of an earlier suspension never",
        operations: &[Op::ExpireSuspension],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ExpireSuspension);
            let now = s.now();
            if let Some(open) = s.execution(&args.execution_id).and_then(|x| x.open_suspension().cloned())
                && open.suspension_id != args.suspension_id
                && open.timeout_at.is_some()
            {
                args.suspension_id = open.suspension_id;
                s.alter(&args.execution_id, |x| {
                    if let Some(suspension) = &mut x.suspension {
                        suspension.timeout_at = Some(now);
                    }
                });
            }
            s.call(args)
        }),
    },
    Bug {
        name: "suspension expires early",
        story: "whoever calls expire is taken for the timer",
        by: "suspension::expire_suspension::without a timeout, or before it, the",
        operations: &[Op::ExpireSuspension],
        lie: Call(|s, op| {
            let args = args!(s, op, ExpireSuspension);
            let now = s.now();
            s.alter(&args.execution_id, |x| {
                if let Some(suspension) = x.suspension.as_mut().filter(|open| open.is_open()) {
                    suspension.timeout_at = suspension.timeout_at.map(|at| at.min(now));
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "buffered signals are lost at the suspend",
        story: "the callback is faster than the suspend; what came before the wait is never looked at",
        by: "suspension::suspend_execution::buffered signals satisfy every kind of condition",
        operations: &[Op::SuspendExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, SuspendExecution);
            let pending: Vec<WaitpointId> = args
                .waitpoints
                .iter()
                .filter(|bound| matches!(bound, WaitpointBinding::Pending { .. }))
                .map(WaitpointBinding::waitpoint_id)
                .collect();
            s.alter(&args.execution_id, |x| {
                x.history.signals.retain(|_, signal| signal.waitpoint_id.is_none_or(|id| !pending.contains(&id)));
            });
            s.call(args)
        }),
    },
    Bug {
        name: "pending waitpoint activated at its expiry",
        story: "expiry compared exclusively on the one path that binds it",
        by: "suspension::suspend_execution::a pending waitpoint at its exact expiry",
        operations: &[Op::SuspendExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, SuspendExecution);
            let now = s.now();
            s.alter(&args.execution_id, |x| {
                for waitpoint in x.history.waitpoints.values_mut() {
                    if waitpoint.expires_at == Some(now) && waitpoint.state == WaitpointState::Pending {
                        waitpoint.expires_at = Some(now.after(1));
                    }
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "spent waitpoint id taken again",
        story: "the closed waitpoint is overwritten; the token of an old mail opens the new gate",
        by: "suspension::create_pending_waitpoint::a repeat returns the same token and",
        operations: &[Op::CreatePendingWaitpoint],
        lie: Call(|s, op| {
            let args = args!(s, op, CreatePendingWaitpoint);
            s.alter(&args.execution_id, |x| {
                x.history.waitpoints.retain(|id, w| *id != args.waitpoint_id || w.state != WaitpointState::Closed);
            });
            s.call(args)
        }),
    },
    Bug {
        name: "second operator is told that it resumed",
        story: "two people press the button; both are recorded in their tools as the one who approved",
        by: "suspension::resume_execution::a repeat by the same operator gets",
        operations: &[Op::ResumeExecution],
        lie: Call(|s, op| {
            let mut args = args!(s, op, ResumeExecution);
            let answer = s.call(args.clone());
            if let Some(first) = s.execution(&args.execution_id).and_then(|x| x.suspension?.operator)
                && refused(&answer, Code::ExecutionNotSuspended)
            {
                args.by = first.by;
                args.reason = first.reason;
                return s.call(args);
            }
            answer
        }),
    },
    Bug {
        name: "policy without override overridden",
        story: "the flag is stored and shown, and the resume path never reads it",
        by: "suspension::resume_execution::a policy without override refuses the operator",
        operations: &[Op::ResumeExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ResumeExecution);
            s.alter(&args.execution_id, |x| {
                if let Some(suspension) = x.suspension.as_mut().filter(|open| open.is_open()) {
                    suspension.resume_policy.allow_operator_override = true;
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "resume delay forgotten by operators",
        story: "the delay is applied where signals resume, and nowhere else",
        by: "suspension::resume_execution::a resume delay of 50 ms gives",
        operations: &[Op::ResumeExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ResumeExecution);
            s.alter(&args.execution_id, |x| {
                if let Some(suspension) = x.suspension.as_mut().filter(|open| open.is_open()) {
                    suspension.resume_policy.resume_delay_ms = 0;
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "operator resumes after the timeout",
        story: "the timer is late, and until it fires the suspension passes for open",
        by: "suspension::resume_execution::from the timeout instant on an operator",
        operations: &[Op::ResumeExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, ResumeExecution);
            s.alter(&args.execution_id, |x| {
                if let Some(suspension) = x.suspension.as_mut().filter(|open| open.is_open()) {
                    suspension.timeout_at = None;
                }
            });
            s.call(args)
        }),
    },
    Bug {
        name: "suspension stops the deadline",
        story: "all timers are disarmed at the pause, the run's own too; the approval is waited for until the end of time",
        by: "suspension::suspend_execution::the execution deadline keeps running and ends",
        operations: &[Op::SuspendExecution],
        lie: Tells(|s, op, answer| {
            if let (Operation::SuspendExecution(args), Ok(_)) = (op, &answer) {
                s.alter(&args.execution_id, |x| x.record.deadline_at = None);
            }
            answer
        }),
    },
    Bug {
        name: "escalation never fails",
        story: "escalated and forgotten: the second timer is not armed",
        by: "suspension::expire_suspension::an escalation with fail_after_ms ends failed at",
        operations: &[Op::SuspendExecution],
        lie: Asks(|_, mut op| {
            if let Operation::SuspendExecution(args) = &mut op
                && let SuspensionTimeout::After { behavior: TimeoutBehavior::Escalate { fail_after_ms }, .. } =
                    &mut args.timeout
            {
                *fail_after_ms = None;
            }
            op
        }),
    },
    Bug {
        name: "default timeout ignored",
        story: "the policy's default is read for display; a suspension without one of its own waits for ever",
        by: "suspension::expire_suspension::the policy's default timeout applies unless the",
        operations: &[Op::SuspendExecution],
        lie: Asks(|_, mut op| {
            if let Operation::SuspendExecution(args) = &mut op
                && args.timeout == SuspensionTimeout::Default
            {
                args.timeout = SuspensionTimeout::Never;
            }
            op
        }),
    },
    Bug {
        name: "tokens listed unasked",
        story: "a status page lists pending approvals, tokens and all",
        by: "suspension::list_pending_waitpoints::pending and active waitpoints are listed, closed",
        operations: &[Op::ListPendingWaitpoints],
        lie: Asks(|_, mut op| {
            if let Operation::ListPendingWaitpoints(args) = &mut op {
                args.include_tokens = true;
            }
            op
        }),
    },
    Bug {
        name: "waitpoint in use is closed",
        story: "the worker tidies up, and the suspended execution waits at a closed door",
        by: "suspension::close_waitpoint::an active waitpoint is waitpoint_in_use and signals",
        operations: &[Op::CloseWaitpoint],
        lie: Call(|s, op| {
            let args = args!(s, op, CloseWaitpoint);
            let answer = s.call(args.clone());
            if refused(&answer, Code::WaitpointInUse) {
                let now = s.now();
                s.alter(&args.execution_id, |x| {
                    x.open_waitpoints.remove(&args.waitpoint_id);
                    if let Some(waitpoint) = x.history.waitpoints.get_mut(&args.waitpoint_id) {
                        waitpoint.state = WaitpointState::Closed;
                        waitpoint.closed_at = Some(now);
                        waitpoint.close_reason = Some(WaitpointCloseReason::Expired);
                    }
                });
            }
            answer
        }),
    },
];
