//! One execution: its vector, its attempts and runs, what holds it, and that something will wake it.

use ff_core::contracts::{BacklogKind, EdgeState};
use ff_core::state::{AttemptLifecycle, AttemptState, BlockReason, StateName};

use super::{Findings, Rule, index};
use crate::model::{Execution, ItemKey, Partition, Subject};

pub(super) fn audit(f: &mut Findings, p: &Partition, x: &Execution) {
    let r = &x.record;
    let id = r.execution_id;
    let Some(state) = r.vector.name() else {
        f.ensure(Rule::LegalVector, false, || format!("{id} has the vector {:?}", r.vector));
        return;
    };
    let (running, done) = (state == StateName::Running, state == StateName::Done);
    f.ensure(Rule::LeaseWhileRunning, r.lease.is_some() == running, || {
        format!("{id} is {state:?} and its lease is {:?}", r.lease)
    });
    f.ensure(Rule::EndWhenDone, r.ended.is_some() == done, || {
        format!("{id} is {state:?} and its end is {:?}", r.ended)
    });
    f.ensure(Rule::PurgeWhenDone, r.purge_at.is_some() == (done && r.flow_id.is_none()), || {
        format!("{id} is {state:?}, in flow {:?}, and its purge is {:?}", r.flow_id, r.purge_at)
    });
    attempts(f, x, state);
    runs(f, x);
    holds(f, x, state);
    let awaited = match state {
        StateName::Done | StateName::Running => true,
        StateName::Ready => r.grant.is_some() || index::belongs_in_queue(x),
        StateName::Delayed => r.not_before.is_some(),
        StateName::Blocked => !r.blocks.is_empty(),
        StateName::Lost | StateName::Revoked => {
            r.grant.is_some() || r.not_before.is_some() || !r.blocks.is_empty() || index::belongs_in_queue(x)
        }
        StateName::Suspended => x.suspension.as_ref().is_some_and(|s| s.closed_at.is_none()),
        StateName::Deps => deps_end(p, x),
    };
    f.ensure(Rule::NobodyStranded, awaited, || format!("{id} is {state:?} and nothing will ever wake it"));
}

fn attempts(f: &mut Findings, x: &Execution, state: StateName) {
    let r = &x.record;
    let id = r.execution_id;
    let count = r.attempt_count as usize;
    f.ensure(Rule::AttemptsCounted, x.history.attempts.len() + usize::from(x.attempt.is_some()) == count, || {
        format!("{id} counts {count} attempts and has {} and {:?}", x.history.attempts.len(), x.attempt)
    });
    for (index, attempt) in x.history.attempts.iter().chain(x.attempt.as_ref()).enumerate() {
        f.ensure(Rule::AttemptsCounted, attempt.attempt_index.get() as usize == index, || {
            format!("{id}: attempt {index} has index {}", attempt.attempt_index)
        });
        let is_final = attempt.attempt_state.is_final();
        f.ensure(Rule::AttemptsEnd, attempt.ended.is_some() == is_final, || {
            format!("{id}: attempt {index} is {} and its end is {:?}", attempt.attempt_state, attempt.ended)
        });
        f.ensure(Rule::AttemptsEnd, index + 1 >= count || is_final, || {
            format!("{id}: attempt {index} was replaced before its end")
        });
        f.ensure(Rule::AttemptDeadline, attempt.attempt_deadline_at.is_none() || state == StateName::Running, || {
            format!("{id} is {state:?} and attempt {index} has a deadline")
        });
    }
    let newest = x.attempt.as_ref().map(|a| a.attempt_state);
    let a = r.vector.attempt_state;
    let fits = match state {
        StateName::Running => newest == Some(AttemptLifecycle::Started),
        StateName::Suspended => newest == Some(AttemptLifecycle::Suspended),
        StateName::Lost | StateName::Revoked => newest == Some(AttemptLifecycle::InterruptedReclaimed),
        StateName::Done => newest.is_none_or(AttemptLifecycle::is_final) && (a == AttemptState::None) == (count == 0),
        _ if a == AttemptState::AttemptInterrupted => newest == Some(AttemptLifecycle::Suspended),
        _ => newest.is_none_or(AttemptLifecycle::is_final),
    };
    f.ensure(Rule::AttemptFits, fits, || format!("{id} is {state:?}({a}) and its newest attempt is {newest:?}"));
}

/// A run is stored when a replay closes it, and the present one once it has ended in success.
fn runs(f: &mut Findings, x: &Execution) {
    let r = &x.record;
    let id = r.execution_id;
    for (number, run) in x.history.runs.iter().enumerate() {
        let closed = number < r.replay_count as usize;
        f.ensure(Rule::RunsCounted, run.run as usize == number && run.closed.is_some() == closed, || {
            format!("{id}, in run {}: run {number} is {run:?}", r.replay_count)
        });
    }
    let stored = x.history.runs.len();
    let present = r.replay_count as usize;
    f.ensure(Rule::RunsCounted, stored == present || stored == present + 1, || {
        format!("{id} is in run {present} and has {stored} runs")
    });
}

fn holds(f: &mut Findings, x: &Execution, state: StateName) {
    let r = &x.record;
    let id = r.execution_id;
    let may_hold = r.vector.is_runnable() || r.vector.is_reclaimable();
    f.ensure(Rule::Blocks, r.blocks.is_empty() || may_hold, || format!("{id} is {state:?} and blocked"));
    for (reason, block) in &r.blocks {
        let by_hand = matches!(reason, BlockReason::PausedByOperator | BlockReason::PausedByPolicy);
        f.ensure(Rule::Blocks, by_hand || block.until.is_some(), || format!("{id}: a {reason} block without end"));
    }
    let open = x.suspension.as_ref().is_some_and(|s| s.closed_at.is_none());
    f.ensure(Rule::SuspensionOpen, open == (state == StateName::Suspended), || {
        format!("{id} is {state:?} and its suspension is open: {open}")
    });
    f.ensure(Rule::GrantUsable, r.grant.is_none() || state == StateName::Ready || r.vector.is_reclaimable(), || {
        format!("{id} is {state:?} and granted")
    });
    if state == StateName::Done {
        let waits = r.not_before.is_some() || r.grant.is_some() || !x.open_waitpoints.is_empty();
        f.ensure(Rule::NothingAfterEnd, !waits, || format!("{id} has ended and still waits"));
    }
}

/// Whether something named will re-run the gate of a member that waits: an edge's upstream, the backlog, or the seal.
fn deps_end(p: &Partition, x: &Execution) -> bool {
    let Some(flow_id) = x.record.flow_id else { return false };
    let flow = flow_id.uuid();
    let Some(graph) = p.graph(flow) else { return false };
    let Some(member) = graph.members.get(&x.uuid()) else { return false };
    let owed = |kind, subject| p.backlog.get(&ItemKey { kind, subject }).is_some();
    let sealed = p.flow(flow).is_none_or(|record| record.sealed);
    if owed(BacklogKind::Cancel, Subject::Flow(flow)) {
        return true;
    }
    if member.held {
        return !sealed || owed(BacklogKind::Seal, Subject::Flow(flow));
    }
    let mut waits = false;
    for edge in graph.incoming_of(x.uuid()).filter(|e| e.edge_state == EdgeState::Pending) {
        let upstream = edge.upstream_execution_id.uuid();
        let alive = p.get(upstream).ok().flatten().is_none_or(|u| !u.record.vector.is_terminal());
        if !alive && !owed(BacklogKind::Edges, Subject::Execution(upstream)) {
            return false;
        }
        waits = true;
    }
    waits
}
