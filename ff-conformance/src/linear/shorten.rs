//! Making a history that is not linearizable short enough to read.
//!
//! Leaving out calls can make a history wrong that was right: without its creation, a claim is never right. So calls are
//! left out only in ways that keep the contradiction what it was:
//!
//! 1. What comes after the first answer that no order explains, the **culprit**, is cut off: every beginning of a
//!    linearizable history is linearizable.
//! 2. A call is left out if the rest is a contradiction whether this call, and those left out before it, happened or not.
//! 3. That soon makes the search too long. Then it is enough that the rest is one whether this call happened or not, and that
//!    the specification would tell the culprit the same as before.
//!
//! In either way the rest without the culprit must still have an order: so no call is left that only looks wrong because
//! what it needs was left out.

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

/// A history that is being shortened.
struct Shortening<'a, S: Specification> {
    specification: &'a S,
    bound: Bound,
    /// What is left, by invocation.
    calls: Vec<CallOf<S>>,
    /// Calls that were left out in the second way, without their answers.
    silent: Vec<CallOf<S>>,
    /// The position of the culprit.
    culprit: usize,
    /// What the specification would tell it.
    said: Option<S::Outcome>,
}

impl<S: Specification> Shortening<'_, S> {
    fn check(&self, calls: &[&[CallOf<S>]], bound: Bound) -> Verdict<S::Outcome> {
        check(self.specification, &calls.concat(), bound)
    }

    /// Leaves out these calls, given in order, if the contradiction stays what it is.
    fn leave_out(&mut self, gone: &[usize]) -> bool {
        let mut rest = self.calls.clone();
        let mut hushed = Vec::new();
        for at in gone.iter().rev() {
            let mut call = rest.remove(*at);
            call.answer = None;
            if !self.specification.only_reads(&call.operation) {
                hushed.push(call);
            }
        }
        let moved = self.culprit - gone.iter().filter(|at| **at < self.culprit).count();
        let mut without = rest.clone();
        without.remove(moved);
        if !self.check(&[&without], self.bound).is_linearizable() {
            return false;
        }
        let with = self.check(&[&rest], self.bound);
        let told = told(&with, moved);
        // Few configurations: calls without an answer make a search long.
        let few = Bound(self.bound.0.min(400));
        if self.check(&[&rest, &self.silent, &hushed], few).is_not() {
            self.silent.extend(hushed);
            self.said = told;
        } else if !with.is_not()
            || self.said.is_none()
            || told != self.said
            || !self.check(&[&rest, &hushed], few).is_not()
        {
            return false;
        }
        (self.calls, self.culprit) = (rest, moved);
        true
    }

    /// Tries ever smaller runs of calls, from the newest to the oldest: what came last depends on what came first.
    fn leave_out_runs(&mut self) {
        let mut run = self.calls.len().div_ceil(2).max(1);
        loop {
            let mut shorter = false;
            let mut end = self.calls.len();
            while end > 0 {
                let from = end.saturating_sub(run);
                let gone: Vec<usize> = (from..end).filter(|at| *at != self.culprit).collect();
                shorter |= !gone.is_empty() && self.leave_out(&gone);
                end = from;
            }
            if run == 1 && !shorter {
                return;
            }
            run = run.div_ceil(2);
        }
    }

    /// Tries two calls at once: what one makes the other takes away.
    fn leave_out_pairs(&mut self) {
        let mut last = self.calls.len();
        while last > 1 {
            last = last.min(self.calls.len()).saturating_sub(1);
            let firsts = (0..last).rev().filter(|first| *first != self.culprit && last != self.culprit);
            for first in firsts.collect::<Vec<_>>() {
                if self.leave_out(&[first, last]) {
                    break;
                }
            }
        }
    }
}

/// Pairs are tried only among so few calls.
const PAIRS_AMONG: usize = 24;

/// Leaves out what the contradiction does not need. `None` if the history is no contradiction within the bound.
pub fn shorten<S: Specification>(
    specification: &S,
    history: &History<S>,
    bound: Bound,
) -> Option<Shortened<S::Operation, S::Outcome>> {
    let (begun, culprit) = beginning(specification, history, bound)?;
    let mut left = Shortening { specification, bound, calls: begun, silent: Vec::new(), culprit, said: None };
    let first = left.check(&[&left.calls], bound);
    if !first.is_not() {
        return None;
    }
    left.said = told(&first, culprit);
    left.leave_out_runs();
    if left.calls.len() <= PAIRS_AMONG {
        left.leave_out_pairs();
        left.leave_out_runs();
    }
    let verdict = check(specification, &left.calls, bound);
    let left_out = history.len() - left.calls.len();
    Some(Shortened { calls: left.calls, left_out, verdict })
}
