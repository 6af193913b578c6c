//! Judging a history: the model is the sequential specification.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::error::EngineError;
use ff_core::operation::{Address, Operation, Outcome};
use ff_core::refusal::Code;

use super::play::{Asked, Record};
use crate::linear::{Bound, Specification, Verdict, check, shorten, table};
use crate::random::agree;

/// The reference model, as the specification of one partition, budget or quota policy.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub Deployment);

impl Specification for Rules {
    type State = Model;
    type Operation = Asked;
    type Outcome = Result<Outcome, EngineError>;

    fn initial(&self) -> Model {
        Model::new(self.0.clone())
    }

    fn apply(&self, state: &mut Model, asked: &Asked) -> Self::Outcome {
        state.apply(asked.now, &asked.operation)
    }

    fn agrees(&self, asked: &Asked, expected: &Self::Outcome, actual: &Self::Outcome) -> bool {
        let code = |outcome: &Self::Outcome| outcome.as_ref().err().and_then(EngineError::code);
        let signal = matches!(asked.operation, Operation::DeliverSignal(_) | Operation::BufferSignal(_));
        let cached =
            signal && code(expected) == Some(Code::InvalidToken) && code(actual) == Some(Code::TokenSourceMismatch);
        cached || agree(expected, actual)
    }

    fn only_reads(&self, asked: &Asked) -> bool {
        !asked.operation.name().writes()
    }

    fn changed_nothing(&self, asked: &Asked, outcome: &Self::Outcome) -> bool {
        outcome.is_err() || self.only_reads(asked)
    }
}

/// What became of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every object's calls have an order.
    Linearizable,
    /// The search was given up for some object, and no other is wrong.
    GaveUp,
    /// Some object's calls have no order: a table for people.
    Wrong(String),
}

/// Configurations that are tried per object before the search is given up: each may keep a copy of the state.
const BOUND: Bound = Bound(10_000);

/// Whether the answer says that nothing happened, for a reason that is no part of the state.
fn says_nothing(outcome: &Result<Outcome, EngineError>) -> bool {
    match outcome {
        Err(EngineError::Transport { .. }) => true,
        Err(error) => matches!(error.code(), Some(Code::StaleKid | Code::KeystoreBusy)),
        Ok(_) => false,
    }
}

/// Looks for an order of every object's calls.
#[must_use]
pub fn judge(rules: &Rules, history: Vec<Record>) -> Judgement {
    let mut objects: BTreeMap<Address, Vec<Record>> = BTreeMap::new();
    for mut call in history {
        if let Some((_, outcome)) = call.answer.take_if(|(_, outcome)| says_nothing(outcome))
            && !outcome.err().is_some_and(|error| error.may_have_been_applied())
        {
            continue;
        }
        objects.entry(call.operation.operation.address()).or_default().push(call);
    }
    let mut given_up = false;
    for (object, calls) in &objects {
        match check(rules, calls, BOUND) {
            Verdict::Linearizable(_) => {}
            Verdict::GaveUp => given_up = true,
            Verdict::Not(_) => {
                let mut text = format!("the {} calls on {object:?} have no order\n", calls.len());
                match shorten(rules, calls, BOUND) {
                    Some(shortened) => text.push_str(&table(&shortened)),
                    None => {
                        let _ = writeln!(text, "no shorter history was found within the bound: {calls:#?}");
                    }
                }
                return Judgement::Wrong(text);
            }
        }
    }
    if given_up { Judgement::GaveUp } else { Judgement::Linearizable }
}
