//! A checker for linearizability: whether a history of calls that overlapped could have happened one after the other.
//!
//! A history holds, per call, when it was invoked, when it returned, and what it answered. It is linearizable if every
//! call can be given one instant between the two at which it happens whole, such that a sequential [`Specification`]
//! answers in that order what was answered (Herlihy and Wing, "Linearizability: a correctness condition for concurrent
//! objects", 1990). A call without an answer may have happened at any time since its invocation, or not at all.
//!
//! The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's memory of configurations
//! that led nowhere ("Testing for linearizability", 2017): a configuration is the set of calls done and the state they
//! led to. States are compared by value, not by a digest, so no collision can hide anything. It is bounded by the number of
//! configurations; beyond the bound the verdict is [`Verdict::GaveUp`], which is neither.

mod search;
mod shorten;
mod table;

pub use search::{Bound, check};
pub use shorten::{Shortened, shorten};
pub use table::table;

/// What calls do when they happen one after the other.
pub trait Specification {
    /// The whole state of one object.
    type State: Clone + PartialEq;
    /// What is asked.
    type Operation: Clone;
    /// What is answered.
    type Outcome: Clone + PartialEq;

    /// The state before the first call.
    fn initial(&self) -> Self::State;

    /// Carries out one operation.
    fn apply(&self, state: &mut Self::State, operation: &Self::Operation) -> Self::Outcome;

    /// Whether an answer is one that the specification allows where it would have given `expected` itself.
    fn agrees(&self, operation: &Self::Operation, expected: &Self::Outcome, actual: &Self::Outcome) -> bool {
        let _ = operation;
        expected == actual
    }

    /// Whether this operation changes no state, whatever it answers. Such calls cost no copy of the state.
    fn only_reads(&self, operation: &Self::Operation) -> bool {
        let _ = operation;
        false
    }

    /// Whether an operation that answered this has changed no state. Saying so of more answers makes the search shorter;
    /// saying so of one that did change something makes it wrong.
    fn changed_nothing(&self, operation: &Self::Operation, outcome: &Self::Outcome) -> bool {
        let _ = outcome;
        self.only_reads(operation)
    }
}

/// One call of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O, R> {
    /// Who called.
    pub client: usize,
    /// When, by a clock that all clients share and that never shows the same twice.
    pub invoked: u64,
    /// What was asked.
    pub operation: O,
    /// When the answer came and what it was; none if it never came.
    pub answer: Option<(u64, R)>,
    /// Of a call without an answer: when it can no longer take effect. The end of time if nobody knows.
    pub until: u64,
}

impl<O, R> Call<O, R> {
    /// A call that was answered.
    pub const fn answered(client: usize, invoked: u64, returned: u64, operation: O, outcome: R) -> Self {
        Self { client, invoked, operation, answer: Some((returned, outcome)), until: u64::MAX }
    }

    /// A call whose answer never came.
    pub const fn unknown(client: usize, invoked: u64, operation: O) -> Self {
        Self { client, invoked, operation, answer: None, until: u64::MAX }
    }

    /// The same call, which takes no effect from this instant on if it has had none.
    #[must_use]
    pub fn settled(mut self, at: u64) -> Self {
        self.until = at;
        self
    }

    /// When the answer came; the end of time if it never did.
    pub(crate) fn returned(&self) -> u64 {
        self.answer.as_ref().map_or(u64::MAX, |(at, _)| *at)
    }
}

/// The calls of a specification's object.
pub type History<S> = [Call<<S as Specification>::Operation, <S as Specification>::Outcome>];

/// Where the search got furthest before it had to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck<R> {
    /// The longest order of calls, as positions in the history, in which every answer is right.
    pub prefix: Vec<usize>,
    /// The calls that could come next, and what the specification would answer them; each differs from what was answered.
    pub next: Vec<(usize, R)>,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<R> {
    /// An order exists: positions in the history. Calls without an answer are in it where they took effect.
    Linearizable(Vec<usize>),
    /// No order exists.
    Not(Stuck<R>),
    /// The bound was reached first.
    GaveUp,
}

impl<R> Verdict<R> {
    /// Whether an order exists.
    pub const fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable(_))
    }

    /// Whether no order exists.
    pub const fn is_not(&self) -> bool {
        matches!(self, Self::Not(_))
    }
}
