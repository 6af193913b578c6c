//! Judging a history: the model is the sequential specification.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::contracts::SignalSource;
use ff_core::error::EngineError;
use ff_core::ids::Kid;
use ff_core::operation::{Address, Operation, Outcome};
use ff_core::refusal::Code;
use ff_core::token::WaitpointToken;

use super::play::{Asked, Record};
use crate::linear::{Bound, Specification, Verdict, check, shorten, table};
use crate::random::agree;
use crate::traces::{Issued, note_issued};

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
        let _ = asked;
        agree(expected, actual)
    }

    fn only_reads(&self, asked: &Asked) -> bool {
        !asked.operation.name().writes()
    }

    fn changed_nothing(&self, asked: &Asked, outcome: &Self::Outcome) -> bool {
        outcome.is_err() || self.only_reads(asked)
    }
}

/// The rules, for one history: what a cache of keys may have known in it is excused.
struct Excusing<'a> {
    rules: &'a Rules,
    /// What was issued in the history.
    issued: Issued,
    /// Kids that a call of the history asked to revoke or to replace.
    retired: BTreeSet<Kid>,
}

impl<'a> Excusing<'a> {
    fn new(rules: &'a Rules, history: &[Record]) -> Self {
        let mut of = Self { rules, issued: Issued::new(), retired: BTreeSet::new() };
        let mut installed = BTreeSet::new();
        let mut calls: Vec<&Record> = history.iter().collect();
        calls.sort_by_key(|call| call.invoked);
        for call in calls {
            match &call.operation.operation {
                Operation::RevokeWaitpointKid(args) => {
                    of.retired.insert(args.kid.clone());
                }
                Operation::RotateWaitpointHmacSecret(args) => {
                    of.retired.extend(installed.iter().filter(|kid| **kid != args.new_kid).cloned());
                    installed.insert(args.new_kid.clone());
                }
                _ => {}
            }
            if let Some((_, Ok(outcome))) = &call.answer {
                note_issued(&call.operation.operation, outcome, &mut of.issued);
            }
        }
        of
    }

    /// Whether this token was issued to another source by a kid that may be gone: a cache that still has the kid compares
    /// the source, and the model, which has it no more, does not get so far.
    fn excuses(&self, token: &WaitpointToken, source: &SignalSource) -> bool {
        self.issued.get(token).is_some_and(|name| {
            name.source.as_ref().is_some_and(|bound| bound != source) && self.retired.contains(&name.kid)
        })
    }
}

impl Specification for Excusing<'_> {
    type State = Model;
    type Operation = Asked;
    type Outcome = Result<Outcome, EngineError>;

    fn initial(&self) -> Model {
        self.rules.initial()
    }

    fn apply(&self, state: &mut Model, asked: &Asked) -> Self::Outcome {
        self.rules.apply(state, asked)
    }

    fn agrees(&self, asked: &Asked, expected: &Self::Outcome, actual: &Self::Outcome) -> bool {
        let code = |outcome: &Self::Outcome| outcome.as_ref().err().and_then(EngineError::code);
        let excused = || match &asked.operation {
            Operation::DeliverSignal(args) => self.excuses(&args.waitpoint_token, &args.source),
            Operation::BufferSignal(args) => self.excuses(&args.waitpoint_token, &args.source),
            _ => false,
        };
        self.rules.agrees(asked, expected, actual)
            || code(expected) == Some(Code::InvalidToken)
                && code(actual) == Some(Code::TokenSourceMismatch)
                && excused()
    }

    fn only_reads(&self, asked: &Asked) -> bool {
        self.rules.only_reads(asked)
    }

    fn changed_nothing(&self, asked: &Asked, outcome: &Self::Outcome) -> bool {
        self.rules.changed_nothing(asked, outcome)
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
    let rules = Excusing::new(rules, &history);
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
        match check(&rules, calls, BOUND) {
            Verdict::Linearizable(_) => {}
            Verdict::GaveUp => given_up = true,
            Verdict::Not(_) => {
                let mut text = format!("the {} calls on {object:?} have no order\n", calls.len());
                match shorten(&rules, calls, BOUND) {
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
