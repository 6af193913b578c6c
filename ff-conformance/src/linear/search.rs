//! The search for an order.

use std::collections::HashMap;

use super::{Call, History, Specification, Stuck, Verdict};

/// How many configurations a search may visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(pub usize);

/// The calls that have been given their place, a bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Box<[u64]>);

impl Done {
    fn none_of(calls: usize) -> Self {
        Self(vec![0; calls.div_ceil(64)].into_boxed_slice())
    }

    fn has(&self, call: usize) -> bool {
        self.0[call / 64] >> (call % 64) & 1 == 1 // as many words as the calls need
    }

    fn with(&self, call: usize) -> Self {
        let mut more = self.clone();
        more.0[call / 64] |= 1 << (call % 64);
        more
    }
}

/// A configuration whose continuations are being tried.
struct Frame {
    done: Done,
    /// Which state, of those kept.
    state: usize,
    /// What may come next and was not tried yet, the most likely last.
    next: Vec<usize>,
}

struct Search<'a, S: Specification> {
    specification: &'a S,
    history: &'a History<S>,
    /// Calls by invocation: those that may come next are among the first that are not done.
    by_invocation: Vec<usize>,
    states: Vec<S::State>,
    /// States met, by the calls that led there.
    met: HashMap<Done, Vec<usize>>,
    configurations: usize,
    stuck: Option<Stuck<S::Outcome>>,
}

/// What trying a call came to.
enum Tried<R> {
    /// It answers right, and this is the state afterwards.
    Right { state: usize, unchanged: bool },
    /// The specification would answer this instead.
    Wrong(R),
    /// It need not be tried: without an answer and without an effect.
    Idle,
}

impl<S: Specification> Search<'_, S> {
    /// The calls that may come next: invoked before any other that is not done returned. Those that only read come last,
    /// because a read that is right needs no alternative; of the others the one that returned first; those without an answer
    /// come first, since mostly the rest can be explained without them.
    fn candidates(&self, done: &Done) -> Vec<usize> {
        let mut horizon = u64::MAX;
        let mut found = Vec::new();
        for at in &self.by_invocation {
            let call = &self.history[*at]; // positions are made from the history
            if call.invoked > horizon {
                break;
            }
            if !done.has(*at) {
                horizon = horizon.min(call.returned());
                found.push(*at);
            }
        }
        // What comes next happens after everything that is done was asked.
        let latest = self.by_invocation.iter().rev().find(|at| done.has(**at));
        let latest = latest.map_or(0, |at| self.history[*at].invoked);
        found.retain(|at| self.history[*at].invoked < horizon && !self.is_over(*at, latest));
        found.sort_by_key(|at| {
            let call = &self.history[*at];
            (self.specification.only_reads(&call.operation), std::cmp::Reverse(call.returned()))
        });
        found
    }

    /// Whether a call never had an answer and can have no effect any more at this instant.
    fn is_over(&self, at: usize, now: u64) -> bool {
        self.history[at].answer.is_none() && self.history[at].until < now
    }

    /// Whether some call could still take effect before this one, and not after it.
    fn closes(&self, done: &Done, at: usize) -> bool {
        let now = self.history[at].invoked;
        (0..self.history.len()).any(|other| !done.has(other) && self.is_over(other, now))
    }

    fn attempt(&mut self, state: usize, at: usize) -> Tried<S::Outcome> {
        let Call { operation, answer, .. } = &self.history[at];
        let actual = answer.as_ref().map(|(_, outcome)| outcome);
        if self.specification.only_reads(operation) {
            let Some(actual) = actual else { return Tried::Idle };
            // Nothing is changed, so nothing is copied.
            let expected = self.specification.apply(&mut self.states[state], operation);
            return if self.specification.agrees(operation, &expected, actual) {
                Tried::Right { state, unchanged: true }
            } else {
                Tried::Wrong(expected)
            };
        }
        let mut after = self.states[state].clone();
        let expected = self.specification.apply(&mut after, operation);
        let unchanged = self.specification.changed_nothing(operation, &expected);
        match actual {
            None if unchanged => return Tried::Idle,
            Some(actual) if !self.specification.agrees(operation, &expected, actual) => return Tried::Wrong(expected),
            _ => {}
        }
        if unchanged {
            return Tried::Right { state, unchanged };
        }
        self.states.push(after);
        Tried::Right { state: self.states.len() - 1, unchanged }
    }

    /// Whether a configuration is new. If it is not, a state that was made for it is forgotten.
    fn enter(&mut self, done: &Done, state: usize, made: bool) -> bool {
        let known = self.met.entry(done.clone()).or_default();
        if known.iter().any(|k| *k == state || self.states[*k] == self.states[state]) {
            if made {
                self.states.pop();
            }
            return false;
        }
        known.push(state);
        self.configurations += 1;
        true
    }

    fn run(mut self, bound: Bound) -> Verdict<S::Outcome> {
        let start = Done::none_of(self.history.len());
        let mut frames = vec![Frame { next: self.candidates(&start), done: start, state: 0 }];
        let mut order: Vec<usize> = Vec::new();
        let answered = self.history.iter().filter(|call| call.answer.is_some()).count();
        let mut placed = 0;
        // Answers that were wrong at the top frame, for the report.
        let mut wrong: Vec<(usize, S::Outcome)> = Vec::new();
        loop {
            if placed == answered {
                return Verdict::Linearizable(order);
            }
            let Some(frame) = frames.last_mut() else {
                return Verdict::Not(self.stuck.unwrap_or(Stuck { prefix: Vec::new(), next: Vec::new() }));
            };
            let Some(at) = frame.next.pop() else {
                if self.stuck.as_ref().is_none_or(|stuck| order.len() > stuck.prefix.len()) {
                    self.stuck = Some(Stuck { prefix: order.clone(), next: std::mem::take(&mut wrong) });
                }
                wrong.clear();
                frames.pop();
                if let Some(last) = order.pop()
                    && self.history[last].answer.is_some()
                {
                    placed -= 1;
                }
                continue;
            };
            let (done, state) = (frame.done.clone(), frame.state);
            match self.attempt(state, at) {
                Tried::Idle => {}
                Tried::Wrong(expected) => wrong.push((at, expected)),
                Tried::Right { state, unchanged } => {
                    if unchanged
                        && !self.closes(&done, at)
                        && let Some(frame) = frames.last_mut()
                    {
                        // It is right here and leaves everything as it is: whatever is possible without it first is
                        // possible with it first, unless it ends the time of a call without an answer.
                        frame.next.clear();
                    }
                    let done = done.with(at);
                    if !self.enter(&done, state, !unchanged) {
                        continue;
                    }
                    if self.configurations > bound.0 {
                        return Verdict::GaveUp;
                    }
                    wrong.clear();
                    order.push(at);
                    placed += usize::from(self.history[at].answer.is_some());
                    frames.push(Frame { next: self.candidates(&done), done, state });
                }
            }
        }
    }
}

/// Searches for an order in which the specification answers what was answered.
pub fn check<S: Specification>(specification: &S, history: &History<S>, bound: Bound) -> Verdict<S::Outcome> {
    let mut by_invocation: Vec<usize> = (0..history.len()).collect();
    by_invocation.sort_by_key(|at| history[*at].invoked);
    let search = Search {
        specification,
        history,
        by_invocation,
        states: vec![specification.initial()],
        met: HashMap::new(),
        configurations: 0,
        stuck: None,
    };
    search.run(bound)
}
