//! `rebuild_indexes`: what the records imply, restored beside normal traffic.

use std::ops::Bound;

use ff_core::contracts::{BacklogKind, IndexKind, RebuildIndexesArgs, RebuildReport, RepairAction};
use ff_core::error::EngineError;
use ff_core::records::StateCounts;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;
use uuid::Uuid;

use crate::cascade::would_move;
use crate::model::{Execution, Item, Partition, Queues, Subject, TimerKey, TimerOf};
use crate::routines::is_covered;

/// Where a walk stands. The text form is a backend's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Executions,
    Flows,
    Remains,
    Queues,
    Timers,
    Leases,
}

impl Phase {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Executions, "x"),
        (Self::Flows, "f"),
        (Self::Remains, "r"),
        (Self::Queues, "q"),
        (Self::Timers, "t"),
        (Self::Leases, "l"),
    ];
}

struct Walk {
    phase: usize,
    /// How many entries of the phase are behind, or the last id, in text.
    after: Option<Uuid>,
    skip: usize,
}

fn parse(cursor: Option<&str>) -> Result<Walk, Refusal> {
    let Some(text) = cursor else { return Ok(Walk { phase: 0, after: None, skip: 0 }) };
    let bad = || Refusal::invalid_input("cursor");
    let (letter, rest) = text.split_once(':').ok_or_else(bad)?;
    let phase = Phase::ALL.iter().position(|(_, l)| *l == letter).ok_or_else(bad)?;
    let by_id = phase < 3;
    Ok(Walk {
        phase,
        after: if by_id && !rest.is_empty() { Some(rest.parse().map_err(|_| bad())?) } else { None },
        skip: if by_id { 0 } else { rest.parse().map_err(|_| bad())? },
    })
}

/// Walks all records in id order, then all index entries, and repairs what the rules imply otherwise.
///
/// # Errors
/// `invalid_input` for a cursor that is none.
pub fn rebuild_indexes(
    p: &mut Partition,
    now: TimestampMs,
    args: &RebuildIndexesArgs,
) -> Result<RebuildReport, EngineError> {
    let mut walk = parse(args.cursor.as_deref())?;
    let mut report = RebuildReport::default();
    let mut left = args.limit as usize;
    while left > 0 {
        let Some((phase, letter)) = Phase::ALL.get(walk.phase) else { break };
        let before = left;
        let more = match phase {
            Phase::Executions => executions(p, now, &mut walk, &mut left, &mut report),
            Phase::Flows => flows(p, now, &mut walk, &mut left, &mut report),
            Phase::Remains => remains(p, &mut walk, &mut left, &mut report),
            Phase::Queues => queue_entries(p, &mut walk, &mut left, &mut report),
            Phase::Timers => timer_entries(p, &mut walk, &mut left, &mut report),
            Phase::Leases => lease_entries(p, &mut walk, &mut left, &mut report),
        };
        report.examined += (before - left) as u64;
        if more {
            let at = walk.after.map_or_else(|| walk.skip.to_string(), |uuid| uuid.to_string());
            report.next_cursor = Some(format!("{letter}:{at}"));
            return Ok(report);
        }
        walk = Walk { phase: walk.phase + 1, after: None, skip: 0 };
    }
    if let Some((_, letter)) = Phase::ALL.get(walk.phase) {
        let start = if walk.phase < 3 { String::new() } else { "0".to_owned() };
        report.next_cursor = Some(format!("{letter}:{start}"));
    }
    Ok(report)
}

fn executions(
    p: &mut Partition,
    now: TimestampMs,
    walk: &mut Walk,
    left: &mut usize,
    report: &mut RebuildReport,
) -> bool {
    while *left > 0 {
        let Some(uuid) = p.execution_ids_after(walk.after).next() else { return false };
        *left -= 1;
        walk.after = Some(uuid);
        examine_execution(p, now, uuid, report);
    }
    p.execution_ids_after(walk.after).next().is_some()
}

fn examine_execution(p: &mut Partition, now: TimestampMs, uuid: Uuid, report: &mut RebuildReport) {
    let (record, implied, owner, flow) = match p.get(uuid) {
        Ok(Some(x)) => {
            // A key whose window is over is free: another execution may have had it since, and have gone.
            let in_force = x.record.idempotency.as_ref().filter(|k| k.expires_at > now);
            let owner = in_force.map(|k| (p.key_owner(x), k.key.clone()));
            (x.record.clone(), x.implied(), owner, x.record.flow_id)
        }
        Ok(None) => return,
        Err(_) => {
            report.corrupt.push(p.execution_id(uuid).to_string());
            return;
        }
    };
    report.add_lane(&record.lane_id, implied.public_state);
    // The ready queue.
    let controlled = record.policy.is_admission_controlled();
    let set = &record.policy.required_capabilities;
    if let Some(priority) = implied.queued {
        let key = Queues::key(&record, priority);
        if !p.queues.contains(&record.lane_id, set, controlled, &key) {
            let elsewhere: Vec<_> = p
                .queues
                .entries()
                .filter(|(_, _, _, k)| k.2 == uuid)
                .map(|(lane, set, c, k)| (lane.clone(), set.clone(), c, k))
                .collect();
            for (lane, set, c, k) in &elsewhere {
                p.queues.remove_entry(lane, set, *c, k);
            }
            p.queues.update(&record, (true, true), (None, Some(priority)));
            let action = if elsewhere.is_empty() { RepairAction::Added } else { RepairAction::Moved };
            report.add(IndexKind::ReadyQueue, action);
        }
    }
    // The timers.
    for timer in &implied.timers {
        if !p.timers.contains(timer) {
            let wrong: Vec<TimerKey> =
                p.timers.iter().filter(|t| t.kind == timer.kind && t.of == timer.of).copied().collect();
            for t in &wrong {
                p.timers.remove(t);
            }
            p.timers.insert(*timer);
            let action = if wrong.is_empty() { RepairAction::Added } else { RepairAction::Moved };
            report.add(IndexKind::Timer, action);
        }
    }
    // The lists: leases, idempotency keys, open members.
    if let Some(lease_id) = implied.lease_id
        && p.leases.get(&lease_id) != Some(&uuid)
    {
        p.leases.insert(lease_id, uuid);
        report.add(IndexKind::List, RepairAction::Added);
    }
    if let Some(entry) = owner
        && !p.idempotency.contains_key(&entry)
    {
        p.idempotency.insert(entry, uuid);
        report.add(IndexKind::List, RepairAction::Added);
    }
    if let Some(flow_id) = flow {
        let open = !implied.public_state.is_terminal();
        if let Some(graph) = p.graphs.get_mut(&flow_id.uuid()) {
            if open && graph.open.insert(uuid) {
                report.add(IndexKind::List, RepairAction::Added);
            } else if !open && graph.open.remove(&uuid) {
                report.add(IndexKind::List, RepairAction::Removed);
            }
        }
        if owes_edges(p, flow_id.uuid(), uuid) {
            owe(p, Item::new(BacklogKind::Edges, Subject::Execution(uuid), false), report);
        }
    }
}

/// Whether examining an outgoing edge would change it, and the flow is not frozen.
fn owes_edges(p: &Partition, flow: Uuid, upstream: Uuid) -> bool {
    if p.flow(flow).is_none_or(ff_core::records::FlowRecord::is_frozen) {
        return false;
    }
    let Some(graph) = p.graph(flow) else { return false };
    graph.outgoing_after(upstream, 0).any(|edge| would_move(p, flow, edge.edge_id))
}

fn owe(p: &mut Partition, item: Item, report: &mut RebuildReport) {
    if p.backlog.get(&item.key).is_none() {
        p.backlog_restart(item);
        report.add(IndexKind::Backlog, RepairAction::Added);
    }
}

fn flows(p: &mut Partition, now: TimestampMs, walk: &mut Walk, left: &mut usize, report: &mut RebuildReport) -> bool {
    let from = |after: Option<Uuid>| after.map_or(Bound::Unbounded, Bound::Excluded);
    while *left > 0 {
        let next = p.graphs.range((from(walk.after), Bound::Unbounded)).next().map(|(uuid, _)| *uuid);
        let Some(flow) = next else { return false };
        *left -= 1;
        walk.after = Some(flow);
        examine_flow(p, now, flow, report);
    }
    p.graphs.range((from(walk.after), Bound::Unbounded)).next().is_some()
}

fn examine_flow(p: &mut Partition, now: TimestampMs, flow: Uuid, report: &mut RebuildReport) {
    if p.damaged_flows.contains(&flow) {
        report.corrupt.push(p.flow_id(flow).to_string());
        return;
    }
    let Some(graph) = p.graph(flow) else { return };
    let damaged = graph.edges.keys().filter(|edge| p.damaged_edges.contains(edge));
    report.corrupt.extend(damaged.map(ToString::to_string));
    let members: Vec<&Execution> = graph.members.keys().filter_map(|m| p.get(*m).ok().flatten()).collect();
    let readable = members.len() == graph.members.len();
    let Some(record) = p.flow(flow) else {
        if !graph.members.is_empty() {
            owe(p, Item::new(BacklogKind::Purge, Subject::Flow(flow), false), report);
        }
        return;
    };
    let mut counts = StateCounts::default();
    for x in &members {
        counts.add(x.record.vector.public_state());
    }
    let covered = members.iter().any(|x| is_covered(p, x));
    let held =
        record.sealed && !record.is_frozen() && graph.open.iter().any(|m| graph.members.get(m).is_some_and(|m| m.held));
    let deferred = p
        .backlog
        .iter()
        .filter(|item| match item.key.subject {
            Subject::Flow(f) => f == flow,
            Subject::Execution(x) => graph.members.contains_key(&x),
        })
        .count();
    let deferred = u32::try_from(deferred).unwrap_or(u32::MAX);
    if readable && (counts != record.member_counts || deferred != record.deferred) {
        p.edit_flow(flow, now, |record| {
            record.member_counts = counts;
            record.deferred = deferred;
        });
        report.add(IndexKind::Counter, RepairAction::Moved);
    }
    let purge_at = p.flow(flow).and_then(|f| f.purge_at);
    if let Some(due_at) = purge_at {
        let timer = TimerKey { due_at, kind: ff_core::contracts::TimerKind::Retention, of: TimerOf::Flow(flow) };
        if !p.timers.contains(&timer) {
            let wrong: Vec<TimerKey> = p.timers.iter().filter(|t| t.of == timer.of).copied().collect();
            for t in &wrong {
                p.timers.remove(t);
            }
            p.timers.insert(timer);
            let action = if wrong.is_empty() { RepairAction::Added } else { RepairAction::Moved };
            report.add(IndexKind::Timer, action);
        }
    }
    if covered {
        owe(p, Item::new(BacklogKind::Cancel, Subject::Flow(flow), false), report);
    }
    if held {
        owe(p, Item::new(BacklogKind::Seal, Subject::Flow(flow), false), report);
    }
}

fn remains(p: &mut Partition, walk: &mut Walk, left: &mut usize, report: &mut RebuildReport) -> bool {
    let from = |after: Option<Uuid>| after.map_or(Bound::Unbounded, Bound::Excluded);
    while *left > 0 {
        let next = p.remains.range((from(walk.after), Bound::Unbounded)).next().map(|(uuid, _)| *uuid);
        let Some(uuid) = next else { return false };
        *left -= 1;
        walk.after = Some(uuid);
        // What is left of a member is its flow's purge to remove.
        if !p.graphs.values().any(|g| g.members.contains_key(&uuid)) {
            owe(p, Item::new(BacklogKind::Purge, Subject::Execution(uuid), false), report);
        }
    }
    p.remains.range((from(walk.after), Bound::Unbounded)).next().is_some()
}

fn queue_entries(p: &mut Partition, walk: &mut Walk, left: &mut usize, report: &mut RebuildReport) -> bool {
    let page: Vec<_> = p
        .queues
        .entries()
        .skip(walk.skip)
        .take(*left + 1)
        .map(|(lane, set, c, key)| (lane.clone(), set.clone(), c, key))
        .collect();
    for (lane, set, controlled, key) in page.iter().take(*left) {
        let right = p.get(key.2).ok().flatten().is_some_and(|x| x.stands_at(lane, set, *controlled, key));
        // Of a record that cannot be decoded nothing is known: what stands for it is left alone.
        if right || p.get(key.2).is_err() {
            walk.skip += 1;
        } else {
            p.queues.remove_entry(lane, set, *controlled, key);
            report.add(IndexKind::ReadyQueue, RepairAction::Removed);
        }
    }
    let more = page.len() > *left;
    *left -= page.len().min(*left);
    more
}

fn timer_entries(p: &mut Partition, walk: &mut Walk, left: &mut usize, report: &mut RebuildReport) -> bool {
    let page: Vec<TimerKey> = p.timers.iter().skip(walk.skip).take(*left + 1).copied().collect();
    for timer in page.iter().take(*left) {
        let right = match timer.of {
            TimerOf::Flow(flow) => {
                p.damaged_flows.contains(&flow) || p.flow(flow).is_some_and(|f| f.purge_at == Some(timer.due_at))
            }
            _ => match p.get(timer.of.uuid()) {
                Ok(x) => x.is_some_and(|x| x.implied_timers().contains(timer)),
                Err(_) => true,
            },
        };
        if right {
            walk.skip += 1;
        } else {
            p.timers.remove(timer);
            report.add(IndexKind::Timer, RepairAction::Removed);
        }
    }
    let more = page.len() > *left;
    *left -= page.len().min(*left);
    more
}

fn lease_entries(p: &mut Partition, walk: &mut Walk, left: &mut usize, report: &mut RebuildReport) -> bool {
    let page: Vec<_> = p.leases.iter().skip(walk.skip).take(*left + 1).map(|(l, x)| (*l, *x)).collect();
    for (lease_id, uuid) in page.iter().take(*left) {
        let right = match p.get(*uuid) {
            Ok(x) => x.and_then(|x| x.record.lease.as_ref()).is_some_and(|l| l.lease_id == *lease_id),
            Err(_) => true,
        };
        if right {
            walk.skip += 1;
        } else {
            p.leases.remove(lease_id);
            report.add(IndexKind::List, RepairAction::Removed);
        }
    }
    let more = page.len() > *left;
    *left -= page.len().min(*left);
    more
}
