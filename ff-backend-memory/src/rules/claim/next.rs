//! `claim_next`: `execution.md` 5.4.

use ff_core::contracts::{AdmissionCandidate, ClaimNextArgs, ClaimNextResult, NextClaim};
use ff_core::error::EngineError;
use ff_core::policy::Capabilities;
use ff_core::refusal::Refusal;
use ff_core::time::TimestampMs;

use super::{Claimant, is_repeat, next_claim};
use crate::cascade::{self, Call};
use crate::model::{Partition, ReadyKey};
use crate::routines::{Acquisition, acquire, deadline_is_due, end_with_flow, is_covered};
use crate::rules::execution::fire_deadline;
use crate::rules::maintenance::sweep_within;

/// Heads that one call ends or drops at most, over both kinds of queues.
const HEADS_ENDED: u32 = 64;
/// Payload bytes at which a call takes no more; the execution that reaches it is included.
const PAYLOAD_BYTES: usize = 4 << 20;
/// Inputs at which a call takes no more; the execution that reaches it is included.
const INPUTS: usize = 256;
/// Admission-controlled executions that one call lists.
const LISTED: usize = 16;
/// Timers and drain steps that a claim begins with.
const SWEEP_LIMIT: u32 = 64;

/// The best head among the lane's queues that the worker could run.
fn best_head(p: &Partition, args: &ClaimNextArgs, controlled: bool) -> Option<(ReadyKey, Capabilities)> {
    let sets = p.queues.lane(&args.lane_id)?;
    sets.iter()
        .filter(|(set, _)| args.capabilities.covers(set))
        .filter_map(|(set, q)| {
            let queue = if controlled { &q.controlled } else { &q.ordinary };
            queue.first().map(|key| (*key, set))
        })
        .min_by_key(|(key, _)| *key)
        .map(|(key, set)| (key, set.clone()))
}

/// How a head that is not handed out leaves the queue.
fn end_head(
    p: &mut Partition,
    call: &mut Call,
    args: &ClaimNextArgs,
    head: &(ReadyKey, Capabilities),
    controlled: bool,
) -> bool {
    let uuid = head.0.2;
    let known = p.get(uuid).ok().flatten();
    let Some(known) = known.filter(|x| x.stands_at(&args.lane_id, &head.1, controlled, &head.0)) else {
        // One that cannot be decoded; and what only damage leaves, an entry that no record implies.
        p.queues.remove_entry(&args.lane_id, &head.1, controlled, &head.0);
        return true;
    };
    let covered = is_covered(p, known);
    if !covered && !deadline_is_due(known, call.now) {
        return false;
    }
    let Ok(mut x) = p.take(uuid) else { return false };
    if covered {
        end_with_flow(p, call, &mut x);
    } else {
        fire_deadline(p, call, &mut x);
    }
    let now = call.now;
    p.put(x, now);
    cascade::run(p, call);
    true
}

/// Sweeps, and takes the best executions that the worker can run.
///
/// # Errors
/// `lease_id_in_use`.
pub fn claim_next(p: &mut Partition, now: TimestampMs, args: &ClaimNextArgs) -> Result<ClaimNextResult, EngineError> {
    let mut repeats = Vec::new();
    for slot in &args.slots {
        let Some(uuid) = p.leases.get(&slot.lease_id).copied() else { continue };
        let by = Claimant {
            worker_id: &args.worker_id,
            worker_instance_id: &args.worker_instance_id,
            lease_id: slot.lease_id,
            attempt_id: Some(slot.attempt_id),
            kind: None,
        };
        let x = p.get(uuid)?.filter(|x| is_repeat(x, now, &by)).ok_or_else(Refusal::lease_id_in_use)?;
        repeats.extend(next_claim(p, x));
    }
    if !repeats.is_empty() {
        return Ok(result(p, now, args, repeats, Vec::new()));
    }

    let mut call = Call::new(now);
    sweep_within(p, &mut call, SWEEP_LIMIT);
    let mut ended = 0;
    let mut claimed = Vec::new();
    let (mut bytes, mut inputs) = (0, 0);
    let mut slots = args.slots.iter();
    let mut slot = slots.next();
    while let Some(with) = slot {
        if ended >= HEADS_ENDED || bytes >= PAYLOAD_BYTES || inputs >= INPUTS {
            break;
        }
        let Some(head) = best_head(p, args, false) else { break };
        if end_head(p, &mut call, args, &head, false) {
            ended += 1;
            continue;
        }
        let mut x = p.take(head.0.2)?;
        let by = Acquisition {
            worker_id: &args.worker_id,
            worker_instance_id: &args.worker_instance_id,
            lease_id: with.lease_id,
            attempt_id: with.attempt_id,
            lease_ttl_ms: args.lease_ttl_ms,
        };
        acquire(&mut x, now, &by);
        let taken = next_claim(p, &x);
        p.put(x, now);
        if let Some(taken) = taken {
            let c = taken.claimed();
            bytes += c.payload.len();
            inputs += c.inputs.len();
            claimed.push(taken);
        }
        slot = slots.next();
    }
    let needs_admission = list_controlled(p, &mut call, args, &mut ended);
    Ok(result(p, now, args, claimed, needs_admission))
}

fn result(
    p: &Partition,
    now: TimestampMs,
    args: &ClaimNextArgs,
    claimed: Vec<NextClaim>,
    needs_admission: Vec<AdmissionCandidate>,
) -> ClaimNextResult {
    let ready_remaining = p.queues.lane(&args.lane_id).map_or(0, |sets| {
        sets.iter().filter(|(set, _)| args.capabilities.covers(set)).map(|(_, q)| q.ordinary.len() as u64).sum()
    });
    ClaimNextResult { claimed, needs_admission, ready_remaining, next_due_at: p.next_due_at(now) }
}

/// Lists the best admission-controlled executions; ends those that are covered or whose deadline is due.
fn list_controlled(
    p: &mut Partition,
    call: &mut Call,
    args: &ClaimNextArgs,
    ended: &mut u32,
) -> Vec<AdmissionCandidate> {
    let mut listed = Vec::new();
    let mut after: Option<ReadyKey> = None;
    while listed.len() < LISTED {
        let Some(sets) = p.queues.lane(&args.lane_id) else { break };
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let best = sets
            .iter()
            .filter(|(set, _)| args.capabilities.covers(set))
            .filter_map(|(set, q)| q.controlled.range((from, Bound::Unbounded)).next().map(|key| (*key, set)))
            .min_by_key(|(key, _)| *key)
            .map(|(key, set)| (key, set.clone()));
        let Some(head) = best else { break };
        let must_go = match p.get(head.0.2) {
            Ok(Some(x)) => {
                !x.stands_at(&args.lane_id, &head.1, true, &head.0) || is_covered(p, x) || deadline_is_due(x, call.now)
            }
            _ => true,
        };
        if must_go {
            if *ended >= HEADS_ENDED {
                break;
            }
            end_head(p, call, args, &head, true);
            *ended += 1;
            continue;
        }
        if let Ok(Some(x)) = p.get(head.0.2) {
            listed.extend(AdmissionCandidate::of(&x.record));
        }
        after = Some(head.0);
    }
    listed
}
