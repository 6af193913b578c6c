//! One quota policy.

use std::collections::{BTreeMap, BTreeSet};

use ff_core::contracts::{MAX_JITTER_MS, MAX_QUOTA, MAX_QUOTA_WAITERS};
use ff_core::ids::QuotaPolicyId;

use super::{Finding, Findings, Rule};
use crate::model::Quota;

fn rising<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let items: Vec<T> = items.collect();
    items.windows(2).all(|pair| pair[0] < pair[1])
}

pub(super) fn audit(id: &QuotaPolicyId, quota: &Quota) -> Vec<Finding> {
    let mut f = Findings::new(format!("policy {id}"));
    let r = &quota.record;
    let bounded = |n: u64| (1..=MAX_QUOTA).contains(&n);
    let defined = r.quota_policy_id == *id
        && (r.rate.is_some() || r.max_concurrent.is_some())
        && r.rate.is_none_or(|rate| bounded(rate.max_requests) && rate.window_ms > 0)
        && r.max_concurrent.is_none_or(bounded)
        && r.jitter_ms <= MAX_JITTER_MS;
    f.ensure(Rule::QuotaDefinition, defined, || format!("{r:?}"));

    let window = &quota.window;
    let most = r.rate.map_or(0, |rate| rate.max_requests);
    f.ensure(Rule::QuotaWindow, window.in_order.len() as u64 <= most, || {
        format!("{} entries, {most} at most", window.in_order.len())
    });
    let of: BTreeMap<_, _> = window.in_order.iter().map(|(t, identity)| (*identity, *t)).collect();
    let level = rising(window.in_order.iter()) && of == window.of && of.len() == window.in_order.len();
    f.ensure(Rule::QuotaWindow, level, || {
        format!("entries in order {:?}, by identity {:?}", window.in_order, window.of)
    });

    let slots = &quota.slots;
    let most = r.max_concurrent.unwrap_or(0);
    f.ensure(Rule::QuotaSlots, slots.of.len() as u64 <= most, || format!("{} slots, {most} at most", slots.of.len()));
    let by_end: BTreeSet<_> = slots.of.iter().map(|(identity, slot)| (slot.expires_at, *identity)).collect();
    f.ensure(Rule::QuotaSlots, by_end == slots.by_end, || {
        format!("slots by end {:?}, should be {by_end:?}", slots.by_end)
    });

    let waiters = &quota.waiters;
    f.ensure(Rule::QuotaWaiters, waiters.of.len() <= MAX_QUOTA_WAITERS, || format!("{} waiters", waiters.of.len()));
    let since: BTreeSet<_> = waiters.of.iter().map(|(id, w)| (w.since, *id)).collect();
    let told: BTreeSet<_> = waiters.of.iter().map(|(id, w)| (w.retry_at, *id)).collect();
    f.ensure(Rule::QuotaWaiters, waiters.in_order.iter().eq(since.iter()) && told == waiters.by_retry, || {
        format!("waiters {:?} in order {:?}, by retry {:?}", waiters.of, waiters.in_order, waiters.by_retry)
    });
    f.found
}
