//! Making a history that is not linearizable short enough to read.
//!
//! Leaving out calls can make a history wrong that was right: without its creation, a claim is never right. So calls are
//! left out only in ways that keep the contradiction what it was:
//!
//! 1. What comes after the first answer that no order explains, the **culprit**, is cut off: every beginning of a
//!    linearizable history is linearizable.
//! 2. A call whose answer is forgotten may have happened or not. If the rest is a contradiction whichever, the call is left
//!    out.
//! 3. Else it is left out if the rest without the culprit has an order still, the rest with it has none, and the
//!    specification would tell the culprit the same as before.

use super::{Bound, Call, History, Specification, Verdict, check};

/// What is left of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortened<O, R> {
    /// The calls that contradict each other, by invocation. The last answer is the culprit's.
    pub calls: Vec<Call<O, R>>,
    /// How many calls were left out.
    pub left_out: usize,
    /// What the search found in the calls that are left, and where it got furthest.
    pub verdict: Verdict<R>,
}

type CallOf<S> = Call<<S as Specification>::Operation, <S as Specification>::Outcome>;

/// The history as it looked at an instant: calls that had not returned have no answer yet.
fn at_instant<S: Specification>(history: &History<S>, now: u64) -> Vec<CallOf<S>> {
    let begun = history.iter().filter(|call| call.invoked < now).cloned();
    begun
        .map(|mut call| {
            call.answer = call.answer.filter(|(at, _)| *at <= now);
            call
        })
        .collect()
}

/// What the specification would tell the culprit where the search got furthest, if that is where it stopped.
fn told<R: Clone>(verdict: &Verdict<R>, culprit: usize) -> Option<R> {
    let Verdict::Not(stuck) = verdict else { return None };
    stuck.next.iter().find(|(at, _)| *at == culprit).map(|(_, told)| told.clone())
}

/// The shortest beginning that is a contradiction, with the position of its culprit.
fn beginning<S: Specification>(
    specification: &S,
    history: &History<S>,
    bound: Bound,
) -> Option<(Vec<CallOf<S>>, usize)> {
    let mut instants: Vec<u64> = history.iter().filter_map(|call| call.answer.as_ref().map(|(at, _)| *at)).collect();
    instants.sort_unstable();
    let (mut low, mut high) = (0, instants.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if check(specification, &at_instant::<S>(history, instants[middle]), bound).is_not() {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let now = *instants.get(low)?;
    let mut calls = at_instant::<S>(history, now);
    calls.sort_by_key(|call| call.invoked);
    let culprit = calls.iter().position(|call| call.returned() == now)?;
    Some((calls, culprit))
}

/// Leaves out what the contradiction does not need. `None` if the history is no contradiction within the bound.
pub fn shorten<S: Specification>(
    specification: &S,
    history: &History<S>,
    bound: Bound,
) -> Option<Shortened<S::Operation, S::Outcome>> {
    let (mut calls, mut culprit) = beginning(specification, history, bound)?;
    let first = check(specification, &calls, bound);
    if !first.is_not() {
        return None;
    }
    let mut said = told(&first, culprit);
    // Without an answer a call says nothing: it explains nothing away, or there would be no contradiction.
    let mut silent: Vec<CallOf<S>> = Vec::new();
    let mut at = 0;
    while at < calls.len() {
        if calls[at].answer.is_none() {
            silent.push(calls.remove(at));
            culprit -= usize::from(at < culprit);
        } else {
            at += 1;
        }
    }
    if !check(specification, &[calls.clone(), silent.clone()].concat(), bound).is_not() {
        return None;
    }
    let mut run = calls.len().div_ceil(2).max(1);
    loop {
        let mut shorter = false;
        // From the newest to the oldest: what came last depends on what came first.
        let mut end = calls.len();
        while end > 0 {
            let from = end.saturating_sub(run);
            let gone: Vec<usize> = (from..end).filter(|at| *at != culprit).collect();
            if !gone.is_empty() && leave_out(specification, &mut calls, &mut silent, &mut culprit, &gone, &mut said, bound) {
                shorter = true;
            }
            end = from;
        }
        if run == 1 && !shorter {
            break;
        }
        run = if run == 1 { 1 } else { run.div_ceil(2) };
    }
    // Calls whose answers do not matter are not shown: with or without them there is no order.
    let verdict = check(specification, &calls, bound);
    let left_out = history.len() - calls.len();
    Some(Shortened { calls, left_out, verdict })
}

/// Leaves out these calls if the contradiction stays what it is.
fn leave_out<S: Specification>(
    specification: &S,
    calls: &mut Vec<CallOf<S>>,
    silent: &mut Vec<CallOf<S>>,
    culprit: &mut usize,
    gone: &[usize],
    said: &mut Option<S::Outcome>,
    bound: Bound,
) -> bool {
    let mut rest = calls.clone();
    let mut hushed = Vec::new();
    for at in gone.iter().rev() {
        let mut call = rest.remove(*at);
        call.answer = None;
        if !specification.only_reads(&call.operation) {
            hushed.push(call);
        }
    }
    let moved = *culprit - gone.iter().filter(|at| *at < culprit).count();
    // Few configurations: calls without an answer make a search long, and the second way is there.
    let few = Bound(bound.0.min(400));
    let whichever = check(specification, &[rest.clone(), silent.clone(), hushed.clone()].concat(), few);
    if whichever.is_not() {
        silent.extend(hushed);
        (*calls, *culprit) = (rest, moved);
        *said = told(&whichever, moved);
        return true;
    }
    let with = check(specification, &[rest.clone(), silent.clone()].concat(), bound);
    if !with.is_not() || said.is_none() || told(&with, moved) != *said {
        return false;
    }
    let mut without = rest.clone();
    without.remove(moved);
    if !check(specification, &[without, silent.clone()].concat(), bound).is_linearizable() {
        return false;
    }
    (*calls, *culprit) = (rest, moved);
    true
}
