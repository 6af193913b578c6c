//! Walks over a condition that do not recurse: a caller may build a tree of any depth, and none may exhaust a stack.

use crate::condition::{Condition, Distinct, Matcher};
use crate::ids::WaitpointId;

/// A node and its place.
pub(super) struct Node<'c> {
    pub(super) condition: &'c Condition,
    /// The parent's position in document order; none for the root.
    pub(super) parent: Option<usize>,
    /// Its position in its parent's list.
    pub(super) position: usize,
    /// The root's is 1.
    pub(super) depth: usize,
}

/// Every node in document order: a node before its children.
pub(super) fn preorder(root: &Condition) -> impl Iterator<Item = Node<'_>> {
    let mut stack = vec![Node { condition: root, parent: None, position: 0, depth: 1 }];
    let mut index = 0;
    std::iter::from_fn(move || {
        let node = stack.pop()?;
        let children = node.condition.children().iter().enumerate().rev();
        stack.extend(children.map(|(position, condition)| Node {
            condition,
            parent: Some(index),
            position,
            depth: node.depth + 1,
        }));
        index += 1;
        Some(node)
    })
}

/// The JSON pointer, into the whole document, of the node at `index` of a walk.
pub(super) fn path(nodes: &[Node<'_>], index: usize) -> String {
    let mut positions = Vec::new();
    let mut at = nodes.get(index);
    while let Some(Node { parent: Some(parent), position, .. }) = at {
        positions.push(*position);
        at = nodes.get(*parent);
    }
    let mut path = "/root".to_owned();
    for position in positions.iter().rev() {
        path.push_str("/of/");
        path.push_str(&position.to_string());
    }
    path
}

/// The waitpoints that a leaf looks at.
#[derive(Clone, Copy)]
pub(super) enum Scope<'c> {
    /// All that are bound.
    All,
    /// These.
    Only(&'c [WaitpointId]),
}

impl Scope<'_> {
    /// Whether a bound waitpoint is one of them.
    pub(super) fn contains(self, bound: &WaitpointId) -> bool {
        match self {
            Self::All => true,
            Self::Only(waitpoints) => waitpoints.contains(bound),
        }
    }
}

/// What a leaf asks for.
#[derive(Clone, Copy)]
pub(super) struct Leaf<'c> {
    pub(super) matcher: Option<&'c Matcher>,
    pub(super) scope: Scope<'c>,
    /// None for a single signal, whose key is one constant.
    pub(super) distinct: Option<Distinct>,
    pub(super) need: u32,
}

impl<'c> Leaf<'c> {
    /// The leaf, if the node is one.
    pub(super) fn of(condition: &'c Condition) -> Option<Self> {
        match condition {
            Condition::Signal { matcher, waitpoint } => Some(Self {
                matcher: matcher.as_ref(),
                scope: waitpoint.as_ref().map_or(Scope::All, |one| Scope::Only(std::slice::from_ref(one))),
                distinct: None,
                need: 1,
            }),
            Condition::Count { n, distinct, matcher, waitpoints } => Some(Self {
                matcher: matcher.as_ref(),
                scope: waitpoints.as_ref().map_or(Scope::All, |these| Scope::Only(these)),
                distinct: Some(*distinct),
                need: *n,
            }),
            Condition::AllOf { .. }
            | Condition::AnyOf { .. }
            | Condition::OperatorOnly {}
            | Condition::TimeoutOnly {} => None,
        }
    }

    /// Whether it takes only signals that came with a source-bound token. A leaf without a matcher says nothing about
    /// it, so that it demands them under `distinct: sources` as one with a silent matcher does.
    pub(super) fn demands_authenticated(&self) -> bool {
        let said = self.matcher.and_then(|matcher| matcher.authenticated_source);
        said.unwrap_or(self.distinct == Some(Distinct::Sources))
    }
}
