//! What signals do to a condition.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::condition::tree::{self, Leaf, Node};
use crate::condition::{Condition, Distinct, ResumeCondition};
use crate::contracts::{SignalEffect, SignalSource};
use crate::ids::{SignalId, WaitpointId};
use crate::records::{SignalAuth, SignalRecord};

/// What a condition sees of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalView<'a> {
    /// Its id.
    pub signal_id: SignalId,
    /// Where it was sent.
    pub waitpoint_id: WaitpointId,
    /// Its name.
    pub name: &'a str,
    /// Its category.
    pub category: &'a str,
    /// Who sent it.
    pub source: &'a SignalSource,
    /// Its correlation id.
    pub correlation_id: Option<&'a str>,
    /// Whether its token was bound to its source.
    pub source_bound: bool,
}

impl<'a> SignalView<'a> {
    /// The view of a recorded signal; `None` for one made by the engine, which is never evaluated.
    #[must_use]
    pub fn of(record: &'a SignalRecord) -> Option<Self> {
        let (Some(waitpoint_id), SignalAuth::Token { source_bound, .. }) = (record.waitpoint_id, &record.auth) else {
            return None;
        };
        Some(Self {
            signal_id: record.signal_id,
            waitpoint_id,
            name: &record.name,
            category: &record.category,
            source: &record.source,
            correlation_id: record.correlation_id.as_deref(),
            source_bound: *source_bound,
        })
    }
}

/// How far one leaf of a condition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafProgress {
    /// A JSON pointer to the leaf, into the whole condition document.
    pub path: String,
    /// How many different signals, waitpoints or sources it has.
    pub have: u32,
    /// How many it needs.
    pub need: u32,
}

/// What a list of signals did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The effect of each signal, in order.
    pub effects: Vec<SignalEffect>,
    /// The signal that satisfied the condition, if one did.
    pub closer: Option<SignalId>,
    /// Every leaf, in document order.
    pub progress: Vec<LeafProgress>,
}

impl Evaluation {
    /// Whether the condition is satisfied.
    #[must_use]
    pub const fn is_satisfied(&self) -> bool {
        self.closer.is_some()
    }

    /// The positions of the signals that contributed, the closer among them.
    pub fn contributors(&self) -> impl Iterator<Item = usize> {
        let all = self.effects.iter().enumerate();
        all.filter(|(_, effect)| {
            matches!(effect, SignalEffect::ResumeConditionSatisfied | SignalEffect::AppendedToWaitpoint)
        })
        .map(|(position, _)| position)
    }
}

/// Judges a condition over signals: those of the suspension's waitpoints, `bound`, in `seq` order, engine-made ones left
/// out. It is an [`Evaluator`] that is fed the list, so that judging the whole equals judging one by one.
///
/// ```
/// use ff_core::condition::{Distinct, ResumeCondition, SignalView, evaluate};
/// use ff_core::contracts::{SignalEffect, SignalSource};
/// use ff_core::ids::{SignalId, WaitpointId};
///
/// let waitpoint = WaitpointId::new();
/// let (ann, bob) = (SignalSource::new("human", "ann"), SignalSource::new("human", "bob"));
/// let approval = |source| SignalView {
///     signal_id: SignalId::new(),
///     waitpoint_id: waitpoint,
///     name: "approve",
///     category: "custom",
///     source,
///     correlation_id: None,
///     source_bound: true,
/// };
/// let two_people = ResumeCondition::count(2, Distinct::Sources, "approve");
/// let evaluation = evaluate(&two_people, &[waitpoint], [approval(&ann), approval(&ann), approval(&bob)]);
/// assert_eq!(evaluation.effects, [
///     SignalEffect::AppendedToWaitpoint,
///     SignalEffect::AppendedToWaitpointDuplicate,
///     SignalEffect::ResumeConditionSatisfied,
/// ]);
/// assert!(evaluation.is_satisfied());
/// ```
#[must_use]
pub fn evaluate<'s>(
    condition: &ResumeCondition,
    bound: &[WaitpointId],
    signals: impl IntoIterator<Item = SignalView<'s>>,
) -> Evaluation {
    let mut evaluator = Evaluator::new(condition, bound);
    let effects = signals.into_iter().map(|signal| evaluator.push(&signal)).collect();
    Evaluation { effects, closer: evaluator.closer(), progress: evaluator.progress() }
}

/// The keys that a leaf has seen; never more than it needs.
enum Keys {
    One(bool),
    Waitpoints(BTreeSet<WaitpointId>),
    Signals(BTreeSet<SignalId>),
    Sources(BTreeSet<SignalSource>),
}

impl Keys {
    const fn of(distinct: Option<Distinct>) -> Self {
        match distinct {
            None => Self::One(false),
            Some(Distinct::Waitpoints) => Self::Waitpoints(BTreeSet::new()),
            Some(Distinct::Signals) => Self::Signals(BTreeSet::new()),
            Some(Distinct::Sources) => Self::Sources(BTreeSet::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(seen) => usize::from(*seen),
            Self::Waitpoints(set) => set.len(),
            Self::Signals(set) => set.len(),
            Self::Sources(set) => set.len(),
        }
    }

    fn contain(&self, signal: &SignalView<'_>) -> bool {
        match self {
            Self::One(seen) => *seen,
            Self::Waitpoints(set) => set.contains(&signal.waitpoint_id),
            Self::Signals(set) => set.contains(&signal.signal_id),
            Self::Sources(set) => set.contains(signal.source),
        }
    }

    fn insert(&mut self, signal: &SignalView<'_>) {
        match self {
            Self::One(seen) => *seen = true,
            Self::Waitpoints(set) => _ = set.insert(signal.waitpoint_id),
            Self::Signals(set) => _ = set.insert(signal.signal_id),
            Self::Sources(set) => _ = set.insert(signal.source.clone()),
        }
    }
}

/// A leaf and what it has collected.
struct Collector<'c> {
    leaf: Leaf<'c>,
    /// The position of its node.
    node: usize,
    authenticated: bool,
    keys: Keys,
}

impl Collector<'_> {
    fn accepts(&self, signal: &SignalView<'_>) -> bool {
        if !self.leaf.scope.contains(&signal.waitpoint_id) || (self.authenticated && !signal.source_bound) {
            return false;
        }
        let equal = |want: &Option<String>, have: Option<&str>| want.is_none() || want.as_deref() == have;
        self.leaf.matcher.is_none_or(|matcher| {
            equal(&matcher.name, Some(signal.name))
                && equal(&matcher.category, Some(signal.category))
                && equal(&matcher.source_type, Some(&signal.source.source_type))
                && equal(&matcher.correlation_id, signal.correlation_id)
        })
    }

    fn is_full(&self) -> bool {
        self.keys.len() >= self.leaf.need as usize
    }

    fn lacks(&self, signal: &SignalView<'_>) -> bool {
        !self.is_full() && !self.keys.contain(signal)
    }
}

/// A condition on its way: signals are pushed one by one, in `seq` order.
///
/// Each push costs one look at every leaf (at most 64 in a valid condition) and a search in its keys. Any condition can
/// be evaluated; one that [`validate_form`](crate::condition::validate_form) refuses may be such that nothing satisfies
/// it: an empty list and a count of 0 never become true.
///
/// ```
/// use ff_core::condition::{Condition, Evaluator, ResumeCondition, SignalView};
/// use ff_core::contracts::{SignalEffect, SignalSource};
/// use ff_core::ids::{SignalId, WaitpointId};
///
/// let bound = [WaitpointId::new()];
/// let condition = ResumeCondition::all_of([Condition::signal("paid"), Condition::signal("packed")]);
/// let mut evaluator = Evaluator::new(&condition, &bound);
///
/// let source = SignalSource::new("service", "billing");
/// let paid = SignalView {
///     signal_id: SignalId::new(),
///     waitpoint_id: bound[0],
///     name: "paid",
///     category: "custom",
///     source: &source,
///     correlation_id: None,
///     source_bound: false,
/// };
/// assert!(evaluator.would_contribute(&paid));
/// assert_eq!(evaluator.push(&paid), SignalEffect::AppendedToWaitpoint);
/// assert!(!evaluator.would_contribute(&paid));
/// assert!(!evaluator.is_satisfied());
/// assert_eq!(evaluator.progress()[1].path, "/root/of/1");
/// ```
pub struct Evaluator<'c> {
    bound: &'c [WaitpointId],
    nodes: Vec<Node<'c>>,
    /// Per node: how many children (or, of a leaf, contributions of any number) are still wanted; true at 0.
    wanted: Vec<usize>,
    leaves: Vec<Collector<'c>>,
    closer: Option<SignalId>,
}

impl<'c> Evaluator<'c> {
    /// The condition before any signal, over the suspension's waitpoints.
    #[must_use]
    pub fn new(condition: &'c ResumeCondition, bound: &'c [WaitpointId]) -> Self {
        let nodes: Vec<_> = tree::preorder(&condition.root).collect();
        let wanted = nodes.iter().map(|node| match node.condition {
            Condition::AllOf { of } => of.len(),
            _ => 1,
        });
        let leaves = nodes.iter().enumerate().filter_map(|(node, at)| {
            let leaf = Leaf::of(at.condition)?;
            let authenticated = leaf.demands_authenticated();
            Some(Collector { leaf, node, authenticated, keys: Keys::of(leaf.distinct) })
        });
        Self { bound, wanted: wanted.collect(), leaves: leaves.collect(), nodes, closer: None }
    }

    /// Takes the next signal in and says what it did. Signals behind the closer do nothing.
    pub fn push(&mut self, signal: &SignalView<'_>) -> SignalEffect {
        if self.is_closed_to(signal) {
            return SignalEffect::NoOp;
        }
        let (mut matched, mut contributed, mut satisfied) = (false, false, false);
        for at in 0..self.leaves.len() {
            let leaf = &mut self.leaves[at]; // within its own length
            if !leaf.accepts(signal) {
                continue;
            }
            matched = true;
            if leaf.lacks(signal) {
                contributed = true;
                leaf.keys.insert(signal);
                if leaf.is_full() {
                    let node = leaf.node;
                    satisfied |= self.settle(node);
                }
            }
        }
        if satisfied {
            self.closer = Some(signal.signal_id);
            return SignalEffect::ResumeConditionSatisfied;
        }
        match (contributed, matched) {
            (true, _) => SignalEffect::AppendedToWaitpoint,
            (false, true) => SignalEffect::AppendedToWaitpointDuplicate,
            (false, false) => SignalEffect::NoOp,
        }
    }

    /// Whether the signal, if it came next, would contribute (the closer does, too). It changes nothing.
    #[must_use]
    pub fn would_contribute(&self, signal: &SignalView<'_>) -> bool {
        !self.is_closed_to(signal) && self.leaves.iter().any(|leaf| leaf.lacks(signal) && leaf.accepts(signal))
    }

    /// Whether the condition is satisfied.
    #[must_use]
    pub const fn is_satisfied(&self) -> bool {
        self.closer.is_some()
    }

    /// The signal that satisfied it.
    #[must_use]
    pub const fn closer(&self) -> Option<SignalId> {
        self.closer
    }

    /// Every leaf, in document order.
    #[must_use]
    pub fn progress(&self) -> Vec<LeafProgress> {
        self.leaves.iter().map(|leaf| self.progress_of(leaf)).collect()
    }

    /// The leaves that the signals of one bound waitpoint can feed, in document order.
    #[must_use]
    pub fn progress_at(&self, waitpoint_id: &WaitpointId) -> Vec<LeafProgress> {
        let feeds = |leaf: &&Collector<'_>| self.bound.contains(waitpoint_id) && leaf.leaf.scope.contains(waitpoint_id);
        self.leaves.iter().filter(feeds).map(|leaf| self.progress_of(leaf)).collect()
    }

    fn progress_of(&self, leaf: &Collector<'_>) -> LeafProgress {
        LeafProgress {
            path: tree::path(&self.nodes, leaf.node),
            // No more than it needs, which is a u32.
            have: u32::try_from(leaf.keys.len()).unwrap_or(leaf.leaf.need),
            need: leaf.leaf.need,
        }
    }

    fn is_closed_to(&self, signal: &SignalView<'_>) -> bool {
        self.is_satisfied() || !self.bound.contains(&signal.waitpoint_id)
    }

    /// A node has become true, and with it as many above it as follow; whether the root is among them. Values never
    /// fall back, so every node comes here once.
    fn settle(&mut self, node: usize) -> bool {
        let mut at = node;
        loop {
            // Positions of the walk that both lists were made from.
            self.wanted[at] = 0;
            let Some(parent) = self.nodes[at].parent else { return true };
            if self.wanted[parent] == 0 {
                return false;
            }
            self.wanted[parent] -= 1;
            if self.wanted[parent] > 0 {
                return false;
            }
            at = parent;
        }
    }
}
