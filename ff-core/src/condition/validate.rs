//! Which conditions may be suspended on. `suspension.md` names the faults and their order; where each points to:
//!
//! | fault | path |
//! |---|---|
//! | `unsupported_version` | `/version` |
//! | `too_large`, `unreferenced_waitpoint`, `needs_override` for a timeout that escalates | the whole document, empty |
//! | `too_deep`, `too_many_nodes`, `not_at_root`, `no_waitpoint`, `too_few_sources`, `needs_timeout`, `needs_override` | the node, `/root/of/1` |
//! | `empty_list` | the list, `/root/of` or `/root/waitpoints` |
//! | `duplicate_waitpoint`, `unbound_waitpoint` | the element, `/root/waitpoints/1` (the repeated one), or `/root/waitpoint` |
//! | `count_out_of_range` | `/root/n` |
//! | `bad_matcher` | the matcher's field, `/root/matcher/name` |
//!
//! `too_many_nodes` is the 65th node in document order, `no_waitpoint` the first leaf.

use std::collections::BTreeSet;

use crate::bounds::is_name;
use crate::condition::tree::{self, Leaf, Node, Scope};
use crate::condition::{Condition, Distinct, Matcher, ResumeCondition};
use crate::contracts::{ConditionFault, SignalSource, TimeoutBehavior};
use crate::ids::WaitpointId;
use crate::refusal::Refusal;

/// The longest compact JSON of a condition document, in bytes.
pub const MAX_CONDITION_BYTES: usize = 8192;
/// The depth of the deepest node; the root's is 1.
pub const MAX_CONDITION_DEPTH: usize = 4;
/// The greatest number of nodes.
pub const MAX_CONDITION_NODES: usize = 64;
/// The greatest `n` of a count.
pub const MAX_COUNT: u32 = 1000;

fn fault(path: impl Into<String>, reason: ConditionFault) -> Refusal {
    Refusal::invalid_resume_condition(path, reason)
}

/// Stage 1, before anything is read: version, size, then each node in document order, then the whole against the bound
/// waitpoints. Never recurses, however deep the tree.
///
/// # Errors
/// `invalid_resume_condition` with the first fault.
pub fn validate_form(condition: &ResumeCondition, bound: &[WaitpointId]) -> Result<(), Refusal> {
    if condition.version != ResumeCondition::VERSION {
        return Err(fault("/version", ConditionFault::UnsupportedVersion));
    }
    if exceeds_bytes(condition, MAX_CONDITION_BYTES) {
        return Err(fault("", ConditionFault::TooLarge));
    }
    // No more than 8 KiB hold: a few hundred.
    let nodes: Vec<_> = tree::preorder(&condition.root).collect();
    for (index, node) in nodes.iter().enumerate() {
        if let Some((field, reason)) = node_fault(index, node, bound) {
            return Err(fault(tree::path(&nodes, index) + &field, reason));
        }
    }
    let mut leaves = nodes.iter().enumerate().filter_map(|(index, node)| Some((index, Leaf::of(node.condition)?)));
    if bound.is_empty()
        && let Some((index, _)) = leaves.next()
    {
        return Err(fault(tree::path(&nodes, index), ConditionFault::NoWaitpoint));
    }
    let scopes: Vec<_> = leaves.map(|(_, leaf)| leaf.scope).collect();
    let is_referenced = |waitpoint: &WaitpointId| scopes.iter().any(|scope| scope.contains(waitpoint));
    if !condition.root.is_root_only() && !bound.iter().all(is_referenced) {
        return Err(fault("", ConditionFault::UnreferencedWaitpoint));
    }
    Ok(())
}

/// Whether the compact JSON is longer than `bound`. Counted node by node: the serializer would recurse.
pub(super) fn exceeds_bytes(condition: &ResumeCondition, bound: usize) -> bool {
    const COMPOSITE: usize = r#"{"type":"all_of","of":[]}"#.len(); // any_of has the same length
    let mut bytes = r#"{"version":1,"root":}"#.len();
    for node in tree::preorder(&condition.root) {
        let comma = usize::from(node.position > 0);
        bytes += comma
            + match node.condition {
                Condition::AllOf { .. } | Condition::AnyOf { .. } => COMPOSITE,
                leaf => serde_json::to_string(leaf).map_or(usize::MAX / 2, |text| text.len()),
            };
        if bytes > bound {
            return true;
        }
    }
    false
}

/// The first fault of one node, and what stands behind the node's path.
fn node_fault(index: usize, node: &Node<'_>, bound: &[WaitpointId]) -> Option<(String, ConditionFault)> {
    let here = |reason| Some((String::new(), reason));
    if node.depth > MAX_CONDITION_DEPTH {
        return here(ConditionFault::TooDeep);
    }
    if index >= MAX_CONDITION_NODES {
        return here(ConditionFault::TooManyNodes);
    }
    match node.condition {
        Condition::OperatorOnly {} | Condition::TimeoutOnly {} => {
            if node.parent.is_some() {
                here(ConditionFault::NotAtRoot)
            } else {
                None
            }
        }
        Condition::AllOf { of } | Condition::AnyOf { of } => {
            of.is_empty().then(|| ("/of".to_owned(), ConditionFault::EmptyList))
        }
        Condition::Signal { matcher, waitpoint } => {
            let unbound = waitpoint.is_some_and(|waitpoint| !bound.contains(&waitpoint));
            let unbound = unbound.then(|| ("/waitpoint".to_owned(), ConditionFault::UnboundWaitpoint));
            unbound.or_else(|| matcher_fault(matcher.as_ref()))
        }
        Condition::Count { n, distinct, matcher, waitpoints } => waitpoints
            .as_ref()
            .and_then(|waitpoints| list_fault(waitpoints, bound))
            .or_else(|| count_fault(*n, *distinct, waitpoints.as_ref().map_or(bound.len(), Vec::len)))
            .or_else(|| matcher_fault(matcher.as_ref())),
    }
}

fn list_fault(waitpoints: &[WaitpointId], bound: &[WaitpointId]) -> Option<(String, ConditionFault)> {
    if waitpoints.is_empty() {
        return Some(("/waitpoints".to_owned(), ConditionFault::EmptyList));
    }
    let at = |position, reason| (format!("/waitpoints/{position}"), reason);
    let mut seen = BTreeSet::new();
    if let Some(position) = waitpoints.iter().position(|waitpoint| !seen.insert(waitpoint)) {
        return Some(at(position, ConditionFault::DuplicateWaitpoint));
    }
    let unbound = waitpoints.iter().position(|waitpoint| !bound.contains(waitpoint))?;
    Some(at(unbound, ConditionFault::UnboundWaitpoint))
}

fn count_fault(n: u32, distinct: Distinct, waitpoints: usize) -> Option<(String, ConditionFault)> {
    let too_many = distinct == Distinct::Waitpoints && n as usize > waitpoints;
    (!(1..=MAX_COUNT).contains(&n) || too_many).then(|| ("/n".to_owned(), ConditionFault::CountOutOfRange))
}

fn matcher_fault(matcher: Option<&Matcher>) -> Option<(String, ConditionFault)> {
    let Matcher { name, category, source_type, correlation_id, authenticated_source: _ } = matcher?;
    let is_bad = |text: &Option<String>, allowed: fn(&str) -> bool| {
        text.as_deref().is_some_and(|text| !is_name(text) || !allowed(text))
    };
    let field = if is_bad(name, |name| !name.starts_with("__")) {
        "name"
    } else if is_bad(category, |_| true) {
        "category"
    } else if is_bad(source_type, |source_type| source_type != "engine") {
        "source_type"
    } else if is_bad(correlation_id, |_| true) {
        "correlation_id"
    } else {
        return None;
    };
    Some((format!("/matcher/{field}"), ConditionFault::BadMatcher))
}

/// Stage 2, when the policy is known: `timeout` is what happens when the suspension's time is over, none if it has no
/// timeout.
///
/// # Errors
/// `invalid_resume_condition` with `needs_timeout` or `needs_override`.
pub fn validate_policy(
    condition: &ResumeCondition,
    timeout: Option<TimeoutBehavior>,
    allow_operator_override: bool,
) -> Result<(), Refusal> {
    if condition.root == (Condition::TimeoutOnly {}) && timeout.is_none() {
        return Err(fault("/root", ConditionFault::NeedsTimeout));
    }
    if !allow_operator_override {
        if condition.root == (Condition::OperatorOnly {}) {
            return Err(fault("/root", ConditionFault::NeedsOverride));
        }
        if matches!(timeout, Some(TimeoutBehavior::Escalate { .. })) {
            return Err(fault("", ConditionFault::NeedsOverride));
        }
    }
    Ok(())
}

/// Stage 3, when the bindings were read: `bound` is every waitpoint with the sources declared for it.
///
/// # Errors
/// `invalid_resume_condition` with `too_few_sources`, for the first leaf in document order.
pub fn validate_sources<S: AsRef<[SignalSource]>>(
    condition: &ResumeCondition,
    bound: &[(WaitpointId, S)],
) -> Result<(), Refusal> {
    let nodes: Vec<_> = tree::preorder(&condition.root).collect();
    for (index, node) in nodes.iter().enumerate() {
        let Some(leaf) = Leaf::of(node.condition).filter(Leaf::demands_authenticated) else { continue };
        let need = if leaf.distinct == Some(Distinct::Sources) { leaf.need as usize } else { 1 };
        if declared(leaf.scope, bound) < need {
            return Err(fault(tree::path(&nodes, index), ConditionFault::TooFewSources));
        }
    }
    Ok(())
}

/// How many different sources the waitpoints of a leaf declare.
fn declared<S: AsRef<[SignalSource]>>(scope: Scope<'_>, bound: &[(WaitpointId, S)]) -> usize {
    let of_scope = bound.iter().filter(|(waitpoint, _)| scope.contains(waitpoint));
    of_scope.flat_map(|(_, sources)| sources.as_ref()).collect::<BTreeSet<_>>().len()
}
