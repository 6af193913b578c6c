//! Lies about flows, members and edges.

use ff_core::state::{PublicState, StateVector};

use super::prelude::*;

/// The backlog is gone after the call: what the call did not reach is never reached.
fn forget_the_rest(s: &Scene, op: Operation, partition: u16) -> Answer {
    let answer = s.call(op);
    if answer.is_ok() {
        let _ = s.backend.lose_backlog(partition);
    }
    answer
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "cancel misses the 65th member",
        story: "the first batch is cancelled in the call, and the rest was to be somebody else's work",
        by: "flow::cancel_flow::with 1, 64, 65 and 5 000",
        operations: &[Op::CancelFlow],
        lie: Call(|s, op| {
            let args = args!(s, op, CancelFlow);
            let partition = args.flow_id.partition();
            forget_the_rest(s, args.into(), partition)
        }),
    },
    Bug {
        name: "skip cascade stops at its bound for ever",
        story: "the failure skips 64 descendants, and the 65th waits for the end of time",
        by: "flow::fail_execution::in a chain of 300 the first",
        operations: &[Op::FailExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, FailExecution);
            let partition = args.execution_id.partition();
            forget_the_rest(s, args.into(), partition)
        }),
    },
    Bug {
        name: "fan-out stops at 128",
        story: "the same for success: the 129th child is never told",
        by: "flow::complete_execution::with exactly 128 children no backlog entry",
        operations: &[Op::CompleteExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CompleteExecution);
            let partition = args.execution_id.partition();
            forget_the_rest(s, args.into(), partition)
        }),
    },
    Bug {
        name: "seal releases the first batch only",
        story: "a flow of 200 held members starts 128",
        by: "flow::seal_flow::it releases 128 members in the call",
        operations: &[Op::SealFlow],
        lie: Call(|s, op| {
            let args = args!(s, op, SealFlow);
            let partition = args.flow_id.partition();
            forget_the_rest(s, args.into(), partition)
        }),
    },
    Bug {
        name: "edge to a finished upstream never resolves",
        story: "the upstream ended between the read and the insert; its cascade has been and gone",
        by: "flow::stage_dependency_edge::an edge to a succeeded upstream is",
        operations: &[Op::StageDependencyEdge],
        lie: Call(|s, op| {
            let mut args = args!(s, op, StageDependencyEdge);
            let over = s.execution(&args.upstream_execution_id).is_some_and(|up| up.record.vector.is_terminal());
            if over && args.apply {
                let answer = s.pretend(&args.clone().into());
                args.apply = false;
                let _ = s.call(args);
                return answer;
            }
            s.call(args)
        }),
    },
    Bug {
        name: "any_terminal taken for success_only",
        story: "the clean-up step is skipped just when it is needed",
        by: "flow::apply_dependency_to_child::after the upstream ended it resolves at once",
        operations: &[Op::StageDependencyEdge],
        lie: Asks(|_, mut op| {
            if let Operation::StageDependencyEdge(args) = &mut op {
                args.dependency_kind = DependencyKind::SuccessOnly;
            }
            op
        }),
    },
    Bug {
        name: "any_terminal of a creation taken for success_only",
        story: "the same default on the one path that takes edges with the creation",
        by: "flow::create_execution::a member created with an edge and",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op
                && let Some(join) = &mut args.flow
            {
                join.edges.iter_mut().for_each(|edge| edge.dependency_kind = DependencyKind::SuccessOnly);
            }
            op
        }),
    },
    Bug {
        name: "grant survives a new edge",
        story: "admitted, then made dependent, then started before what it depends on",
        by: "flow::stage_dependency_edge::a grant issued before the edge is",
        operations: &[Op::StageDependencyEdge],
        lie: Call(|s, op| {
            let args = args!(s, op, StageDependencyEdge);
            let id = args.downstream_execution_id;
            s.keeping_grant(&id, args.into())
        }),
    },
    Bug {
        name: "covered member runs on",
        story: "cancel spares the running ones, and their retry after it is not stopped by anything",
        by: "flow::cancel_flow::a retry, delay, suspension, signal or lost",
        operations: &[Op::FailExecution, Op::DelayExecution, Op::SuspendExecution],
        lie: Call(|s, op| {
            let id = match &op {
                Operation::FailExecution(args) => args.execution_id,
                Operation::DelayExecution(args) => args.execution_id,
                Operation::SuspendExecution(args) => args.execution_id,
                _ => return s.call(op),
            };
            let Some(flow) = s.execution(&id).and_then(|x| x.record.flow_id) else { return s.call(op) };
            let cancelled = s.flow(&flow).and_then(|f| f.cancelled);
            s.backend.alter_flow(&flow, |f| f.cancelled = None);
            let answer = s.call(op);
            s.backend.alter_flow(&flow, |f| f.cancelled = cancelled);
            answer
        }),
    },
    Bug {
        name: "expected revision ignored",
        story: "two planners extend the graph that each has read; one builds on what the other has changed",
        by: "flow::stage_dependency_edge::without expected revision concurrent stagers all succeed",
        operations: &[Op::StageDependencyEdge, Op::SealFlow],
        lie: Asks(|_, mut op| {
            match &mut op {
                Operation::StageDependencyEdge(args) => args.expected_graph_revision = None,
                Operation::SealFlow(args) => args.expected_graph_revision = None,
                _ => {}
            }
            op
        }),
    },
    Bug {
        name: "repeated add counts again",
        story: "node_count is raised before the member is found to be one",
        by: "flow::add_execution_to_flow::a repeat answers AlreadyMember and raises no",
        operations: &[Op::AddExecutionToFlow],
        lie: Tells(|s, op, answer| {
            if let (
                Operation::AddExecutionToFlow(args),
                Ok(Outcome::AddExecutionToFlow(AddExecutionToFlowResult::AlreadyMember { .. })),
            ) = (op, &answer)
            {
                s.backend.alter_flow(&args.flow_id, |f| f.node_count += 1);
            }
            answer
        }),
    },
    Bug {
        name: "diamond's sink starts after one middle",
        story: "the remaining count is lowered twice for one upstream: by the ending and by its notification",
        by: "flow::complete_execution::in a diamond the sink is claimable",
        operations: &[Op::CompleteExecution],
        lie: Call(|s, op| {
            let args = args!(s, op, CompleteExecution);
            let id = args.execution_id;
            let first = s.execution(&id).is_some_and(|x| !x.record.vector.is_terminal());
            let answer = s.call(args);
            for edge in s.outgoing(&id) {
                let child = edge.downstream_execution_id;
                if let (Ok(_), true, Some(member)) = (&answer, first, s.member(&child))
                    && member.unresolved_count == 1
                {
                    s.backend.alter_member(&edge.flow_id, &child, |m| {
                        m.unresolved_count = 0;
                        m.satisfied_count += 1;
                    });
                    s.alter(&child, |x| {
                        if x.record.vector == StateVector::deps(x.record.vector.attempt_state) {
                            x.record.vector = StateVector::ready(x.record.vector.attempt_state);
                        }
                    });
                }
            }
            answer
        }),
    },
    Bug {
        name: "last edge of a submission lost",
        story: "edges are written in batches, and the last batch is not full",
        by: "flow::submit_flow::no member can be claimed before all edges exist",
        operations: &[Op::SubmitFlow],
        lie: Asks(|_, mut op| {
            if let Operation::SubmitFlow(args) = &mut op {
                args.edges.pop();
            }
            op
        }),
    },
    Bug {
        name: "hold ignored",
        story: "members start before the flow that they belong to is whole",
        by: "flow::create_execution::a member created for a flow with",
        operations: &[Op::CreateExecution],
        lie: Asks(|_, mut op| {
            if let Operation::CreateExecution(args) = &mut op
                && let Some(join) = &mut args.flow
            {
                join.hold = false;
            }
            op
        }),
    },
    Bug {
        name: "members' page skips at its edge",
        story: "the cursor is the first of the next page, and `after` leaves it out",
        by: "flow::list_flow_members::pages over 10 000 members hold each",
        operations: &[Op::ListFlowMembers],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::ListFlowMembers(page)) = &mut answer
                && page.next_cursor.is_some()
            {
                page.members.pop();
            }
            answer
        }),
    },
    Bug {
        name: "edges' page skips at its edge",
        story: "the same with edges",
        by: "flow::list_edges::both directions are ordered by seq and",
        operations: &[Op::ListEdges],
        lie: Tells(|_, _, mut answer| {
            if let Ok(Outcome::ListEdges(page)) = &mut answer
                && page.next_cursor.is_some()
            {
                page.edges.pop();
            }
            answer
        }),
    },
    Bug {
        name: "replay reopens nobody",
        story: "the skipped descendants stay skipped, and the flow ends without its end",
        by: "flow::replay_execution::reopen_skipped replays skipped descendants except those behind",
        operations: &[Op::ReplayExecution],
        lie: Asks(|_, mut op| {
            if let Operation::ReplayExecution(args) = &mut op {
                args.reopen_skipped = false;
            }
            op
        }),
    },
    Bug {
        name: "replay reopens everybody",
        story: "a replay for one branch wakes the ones that were given up",
        by: "flow::replay_execution::an entry left from before the replay skips no child",
        operations: &[Op::ReplayExecution],
        lie: Asks(|_, mut op| {
            if let Operation::ReplayExecution(args) = &mut op {
                args.reopen_skipped = true;
            }
            op
        }),
    },
    Bug {
        name: "narrower cancellation widens",
        story: "every cancel of a flow ends what runs, whatever it was asked to spare",
        by: "flow::cancel_flow::cancel_pending leaves running members alone until they",
        operations: &[Op::CancelFlow],
        lie: Asks(|_, mut op| {
            if let Operation::CancelFlow(args) = &mut op {
                args.cancellation_policy = CancellationPolicy::CancelAll;
            }
            op
        }),
    },
    Bug {
        name: "promotion before the upstream has ended",
        story: "the operator's promote is a way past every dependency",
        by: "flow::promote_blocked_to_eligible::behind a running upstream it answers StillBlocked",
        operations: &[Op::PromoteBlockedToEligible],
        lie: Call(|s, op| {
            let args = args!(s, op, PromoteBlockedToEligible);
            let id = args.execution_id;
            let answer = s.call(args);
            if let Ok(Outcome::PromoteBlockedToEligible(PromoteBlockedToEligibleResult::StillBlocked { .. })) = &answer
            {
                s.alter(&id, |x| {
                    if x.record.vector.public_state() == PublicState::WaitingChildren {
                        x.record.vector = StateVector::ready(x.record.vector.attempt_state);
                    }
                });
            }
            answer
        }),
    },
    Bug {
        name: "rejected edge accepted",
        story: "on_upstream_terminal: reject is read by the check that came first and skipped by the one that counts",
        by: "flow::stage_dependency_edge::reject refuses a terminal upstream",
        operations: &[Op::StageDependencyEdge],
        lie: Asks(|_, mut op| {
            if let Operation::StageDependencyEdge(args) = &mut op {
                args.on_upstream_terminal = OnUpstreamTerminal::default();
            }
            op
        }),
    },
];
