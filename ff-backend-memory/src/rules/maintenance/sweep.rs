//! sweep: all the background work there is.

use ff_core::contracts::{
    BacklogKind, CorruptEntry, SweepArgs, SweepKind, SweepReport, TimerKind, WaitpointCloseReason,
};
use ff_core::error::EngineError;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::cascade::{self, Call};
use crate::model::{Item, Partition, Remains, Subject, TimerKey, TimerOf};
use crate::routines::{lose, touch};
use crate::rules::execution::{fire_attempt_timeout, fire_block_until, fire_deadline, fire_delay};
use crate::rules::suspension::fire_suspension_timeout;

/// Fires due timers in order and drains the backlog with what is left of the limit.
///
/// # Errors
/// None of its own.
pub fn sweep(p: &mut Partition, now: TimestampMs, args: &SweepArgs) -> Result<SweepReport, EngineError> {
    let mut call = Call::new(now);
    Ok(sweep_within(p, &mut call, args.limit))
}

/// The same within a call that does more.
pub(crate) fn sweep_within(p: &mut Partition, call: &mut Call, mut limit: u32) -> SweepReport {
    let now = call.now;
    let mut report = SweepReport::default();
    while limit > 0 {
        let Some(timer) = p.timers.first().copied().filter(|t| t.due_at <= now) else { break };
        limit -= 1;
        match fire(p, call, &timer) {
            Fired::Done => report.add(timer.kind),
            Fired::Stale => report.add(SweepKind::Stale),
            Fired::Corrupt => {
                report.corrupt.push(CorruptEntry { kind: timer.kind.into(), id: text_of(p, &timer) });
            }
        }
    }
    let drained = cascade::drain(p, call, &mut limit);
    for (kind, n) in [(SweepKind::Backlog, drained.steps), (SweepKind::Stale, drained.stale)] {
        if n > 0 {
            *report.counts.entry(kind).or_default() += n;
        }
    }
    report.corrupt.extend(drained.corrupt.into_iter().map(|id| CorruptEntry { kind: SweepKind::Backlog, id }));
    report.more = !p.backlog.is_empty() || p.timers.first().is_some_and(|t| t.due_at <= now);
    report.next_due_at = p.next_due_at(now);
    report
}

enum Fired {
    Done,
    Stale,
    Corrupt,
}

/// The id that a timer's entry names, for reports.
fn text_of(p: &Partition, timer: &TimerKey) -> String {
    match timer.of {
        TimerOf::Flow(uuid) => p.flow_id(uuid).to_string(),
        _ => p.execution_id(timer.of.uuid()).to_string(),
    }
}

/// Disarms one due timer and does what its page says, in the same step.
fn fire(p: &mut Partition, call: &mut Call, timer: &TimerKey) -> Fired {
    let uuid = timer.of.uuid();
    if let TimerOf::Flow(_) = timer.of {
        return fire_flow_retention(p, timer, uuid);
    }
    let armed = match p.get(uuid) {
        Err(_) => {
            p.timers.remove(timer);
            return Fired::Corrupt;
        }
        Ok(x) => x.is_some_and(|x| x.implied_timers().contains(timer)),
    };
    let held = if armed { p.take(uuid).ok() } else { None };
    let Some(mut x) = held else {
        p.timers.remove(timer);
        return Fired::Stale;
    };
    let now = call.now;
    match (timer.kind, timer.of) {
        (TimerKind::Lease, _) => lose(p, call, &mut x),
        (TimerKind::AttemptTimeout, _) => {
            fire_attempt_timeout(p, call, &mut x);
        }
        (TimerKind::Deadline, _) => fire_deadline(p, call, &mut x),
        (TimerKind::Delay, _) => fire_delay(p, call, &mut x),
        (TimerKind::SuspensionTimeout, _) => fire_suspension_timeout(p, call, &mut x),
        (TimerKind::PendingWaitpoint, TimerOf::Waitpoint(_, id)) => {
            x.close_waitpoint(id, WaitpointCloseReason::Expired, None, now);
            touch(&mut x, now);
        }
        (TimerKind::Grant, _) => {
            x.record.grant = None;
            touch(&mut x, now);
        }
        (TimerKind::BlockUntil, TimerOf::Block(_, reason)) => fire_block_until(p, call, &mut x, reason),
        (TimerKind::Retention, _) => {
            let x = p.remove(x);
            let own = u32::from(x.attempt.is_some()) + u32::from(x.suspension.is_some());
            p.remains.insert(uuid, Remains { own, history: x.history });
            p.backlog_restart(Item::new(BacklogKind::Purge, Subject::Execution(uuid), false));
            return Fired::Done;
        }
        // A waitpoint's or block's timer always names one.
        (TimerKind::PendingWaitpoint | TimerKind::BlockUntil, _) => {}
    }
    p.put(x, now);
    cascade::run(p, call);
    Fired::Done
}

fn fire_flow_retention(p: &mut Partition, timer: &TimerKey, flow: Uuid) -> Fired {
    if p.damaged_flows.contains(&flow) {
        p.timers.remove(timer);
        return Fired::Corrupt;
    }
    if p.flow(flow).is_none_or(|record| record.purge_at != Some(timer.due_at)) {
        p.timers.remove(timer);
        return Fired::Stale;
    }
    p.remove_flow(flow);
    if p.graph(flow).is_some_and(|g| g.members.is_empty()) {
        p.graphs.remove(&flow);
    }
    p.backlog_restart(Item::new(BacklogKind::Purge, Subject::Flow(flow), false));
    Fired::Done
}
