use proptest::prelude::*;

use super::evaluation::any_condition;
use super::*;
use crate::contracts::{ConditionFault, SignalSource, TimeoutBehavior};
use crate::refusal::{Details, Refusal};

#[track_caller]
fn refused(result: Result<(), Refusal>, path: &str, reason: ConditionFault) {
    let refusal = result.expect_err("should be refused");
    assert_eq!(*refusal.details(), Details::InvalidResumeCondition { path: path.to_owned(), reason });
}

#[track_caller]
fn form(root: Condition, bound: &[WaitpointId], path: &str, reason: ConditionFault) {
    refused(validate_form(&ResumeCondition::new(root), bound), path, reason);
}

#[track_caller]
fn form_passes(root: Condition, bound: &[WaitpointId]) {
    assert_eq!(validate_form(&ResumeCondition::new(root), bound), Ok(()));
}

fn w() -> [WaitpointId; 3] {
    [waitpoint(1), waitpoint(2), waitpoint(3)]
}

fn any() -> Condition {
    Condition::any_signal()
}

#[test]
fn another_version_comes_before_everything() {
    let condition = ResumeCondition { version: 2, root: nested(9, Condition::all_of([])) };
    refused(validate_form(&condition, &[]), "/version", ConditionFault::UnsupportedVersion);
    let condition = ResumeCondition { version: 0, ..condition };
    refused(validate_form(&condition, &[]), "/version", ConditionFault::UnsupportedVersion);
}

#[test]
fn the_compact_json_may_have_8192_bytes_and_no_more() {
    // One name is stretched so that the sum is exact.
    let with = |length: usize| {
        let full = (0..33).map(|_| Condition::signal("n".repeat(200)));
        ResumeCondition::all_of(full.chain([Condition::signal("n".repeat(length))]))
    };
    let fixed = with(1).to_json().len() - 1;
    let room = MAX_CONDITION_BYTES - fixed;
    assert!((1..=256).contains(&room), "{room}");
    assert_eq!(with(room).to_json().len(), MAX_CONDITION_BYTES);
    assert_eq!(validate_form(&with(room), &w()), Ok(()));
    refused(validate_form(&with(room + 1), &w()), "", ConditionFault::TooLarge);
}

#[test]
fn size_counts_what_json_escapes() {
    let escaped = Condition::all_of((0..8).map(|_| Condition::signal("\u{1}".repeat(256))));
    form(escaped, &w(), "", ConditionFault::TooLarge);
}

#[test]
fn size_comes_before_the_nodes() {
    let many = Condition::all_of((0..600).map(|_| any()));
    form(many, &w(), "", ConditionFault::TooLarge);
}

#[test]
fn the_fourth_level_passes_and_the_fifth_is_refused_at_its_node() {
    form_passes(nested(4, any()), &w());
    form(nested(5, any()), &w(), "/root/of/0/of/0/of/0/of/0", ConditionFault::TooDeep);
    let second = Condition::all_of([any(), nested(4, Condition::all_of([]))]);
    form(second, &w(), "/root/of/1/of/0/of/0/of/0", ConditionFault::TooDeep);
}

#[test]
fn a_bottomless_tree_is_refused_without_overflow() {
    let condition = ResumeCondition::new(nested(1_000_000, any()));
    refused(validate_form(&condition, &w()), "", ConditionFault::TooLarge);
    assert_eq!(validate_policy(&condition, None, true), Ok(()));
    assert_eq!(validate_sources(&condition, &[(waitpoint(1), vec![])]), Ok(()));
    std::mem::forget(condition); // dropping it would recurse
}

#[test]
fn the_64th_node_passes_and_the_65th_in_document_order_is_refused() {
    form_passes(Condition::all_of((0..63).map(|_| any())), &w());
    form(Condition::all_of((0..64).map(|_| any())), &w(), "/root/of/63", ConditionFault::TooManyNodes);
    let wide = |n| Condition::any_of((0..n).map(|_| any()));
    // The root, 1 + 40 and 1 + 21 are 64: the 65th is the 22nd child of the second branch.
    form(Condition::all_of([wide(40), wide(30)]), &w(), "/root/of/1/of/21", ConditionFault::TooManyNodes);
}

#[test]
fn operator_only_and_timeout_only_stand_only_at_the_root() {
    for root_only in [Condition::OperatorOnly {}, Condition::TimeoutOnly {}] {
        form_passes(root_only.clone(), &[]);
        form_passes(root_only.clone(), &w());
        form(Condition::any_of([any(), root_only]), &w(), "/root/of/1", ConditionFault::NotAtRoot);
    }
}

#[test]
fn no_list_is_empty() {
    form(Condition::all_of([]), &w(), "/root/of", ConditionFault::EmptyList);
    form(Condition::any_of([any(), Condition::any_of([])]), &w(), "/root/of/1/of", ConditionFault::EmptyList);
    let nowhere = Condition::count_at([], 1, Distinct::Signals, Matcher::any());
    form(nowhere, &w(), "/root/waitpoints", ConditionFault::EmptyList);
}

#[test]
fn a_repeated_waitpoint_is_refused_at_its_second_place_before_an_unbound_one() {
    let count = Condition::count_at([waitpoint(9), waitpoint(1), waitpoint(9)], 1, Distinct::Signals, Matcher::any());
    form(count, &w(), "/root/waitpoints/2", ConditionFault::DuplicateWaitpoint);
}

#[test]
fn an_unbound_waitpoint_is_refused_where_it_is_named() {
    form(Condition::signal_at(waitpoint(9), "x"), &w(), "/root/waitpoint", ConditionFault::UnboundWaitpoint);
    let count = Condition::count_at([waitpoint(1), waitpoint(9)], 1, Distinct::Signals, Matcher::any());
    form(count, &w(), "/root/waitpoints/1", ConditionFault::UnboundWaitpoint);
    form(Condition::signal_at(waitpoint(1), "x"), &[], "/root/waitpoint", ConditionFault::UnboundWaitpoint);
}

#[test]
fn a_count_is_1_to_1000_and_of_waitpoints_at_most_as_many_as_it_looks_at() {
    let count = |n, distinct| Condition::count(n, distinct, Matcher::any());
    for distinct in [Distinct::Signals, Distinct::Sources] {
        form_passes(count(1, distinct), &w());
        form_passes(count(1000, distinct), &w());
    }
    for distinct in Distinct::ALL {
        form(count(0, *distinct), &w(), "/root/n", ConditionFault::CountOutOfRange);
        form(count(1001, *distinct), &w(), "/root/n", ConditionFault::CountOutOfRange);
    }
    form_passes(count(3, Distinct::Waitpoints), &w());
    form(count(4, Distinct::Waitpoints), &w(), "/root/n", ConditionFault::CountOutOfRange);
    let named = |n| Condition::count_at([waitpoint(1), waitpoint(3)], n, Distinct::Waitpoints, Matcher::any());
    form_passes(Condition::all_of([named(2), any()]), &w());
    form(Condition::all_of([any(), named(3)]), &w(), "/root/of/1/n", ConditionFault::CountOutOfRange);
}

#[test]
fn a_matchers_texts_are_names_and_it_names_nothing_of_the_engines() {
    let passes = [
        Matcher::any(),
        Matcher::named("_x").category("__c").source_type("engines").correlation_id("__k"),
        Matcher::named("n".repeat(256)).source_type("e".repeat(256)),
        Matcher::named("é".repeat(128)),
    ];
    for matcher in passes {
        form_passes(Condition::signal(matcher), &w());
    }
    for (field, matcher) in [
        ("name", Matcher::named("")),
        ("name", Matcher::named("n".repeat(257))),
        ("name", Matcher::named("é".repeat(129))),
        ("name", Matcher::named("__x").category("")),
        ("category", Matcher::named("x").category("").source_type("engine")),
        ("category", Matcher::any().category("c".repeat(257))),
        ("source_type", Matcher::any().source_type("engine").correlation_id("")),
        ("source_type", Matcher::any().source_type("")),
        ("correlation_id", Matcher::any().correlation_id("")),
        ("correlation_id", Matcher::any().correlation_id("k".repeat(257))),
    ] {
        form(Condition::signal(matcher.clone()), &w(), &format!("/root/matcher/{field}"), ConditionFault::BadMatcher);
        let count = Condition::any_of([any(), Condition::count(1, Distinct::Signals, matcher)]);
        form(count, &w(), &format!("/root/of/1/matcher/{field}"), ConditionFault::BadMatcher);
    }
}

#[test]
fn the_faults_of_a_node_come_in_the_stated_order_and_nodes_in_document_order() {
    let broken = |waitpoints: Vec<_>, n| Condition::Count {
        n,
        distinct: Distinct::Signals,
        matcher: Some(Matcher::named("")),
        waitpoints: Some(waitpoints),
    };
    let w9 = waitpoint(9);
    form(broken(vec![w9, w9], 0), &w(), "/root/waitpoints/1", ConditionFault::DuplicateWaitpoint);
    form(broken(vec![w9], 0), &w(), "/root/waitpoints/0", ConditionFault::UnboundWaitpoint);
    form(broken(vec![waitpoint(1)], 0), &w(), "/root/n", ConditionFault::CountOutOfRange);
    form(broken(vec![waitpoint(1)], 1), &w(), "/root/matcher/name", ConditionFault::BadMatcher);
    let both = Condition::all_of([Condition::any_of([broken(vec![waitpoint(1)], 0)]), Condition::all_of([])]);
    form(both, &w(), "/root/of/0/of/0/n", ConditionFault::CountOutOfRange);
}

#[test]
fn a_leaf_needs_something_bound() {
    form(any(), &[], "/root", ConditionFault::NoWaitpoint);
    form(Condition::all_of([Condition::any_of([any()]), any()]), &[], "/root/of/0/of/0", ConditionFault::NoWaitpoint);
    // A node's own faults come first.
    form(Condition::all_of([any(), Condition::all_of([])]), &[], "/root/of/1/of", ConditionFault::EmptyList);
}

#[test]
fn every_bound_waitpoint_is_looked_at_by_some_leaf() {
    let one = Condition::signal_at(waitpoint(1), "x");
    let rest = Condition::count_at([waitpoint(2), waitpoint(3)], 1, Distinct::Signals, Matcher::any());
    form(one.clone(), &w(), "", ConditionFault::UnreferencedWaitpoint);
    form_passes(Condition::all_of([one.clone(), rest]), &w());
    form_passes(Condition::all_of([one, any()]), &w());
}

#[test]
fn timeout_only_needs_a_timeout_and_operator_only_an_operator() {
    let fail = Some(TimeoutBehavior::Fail);
    let escalate = Some(TimeoutBehavior::Escalate { fail_after_ms: None });
    let (timeout_only, operator_only) = (ResumeCondition::timeout_only(), ResumeCondition::operator_only());
    let signal = ResumeCondition::any_signal();
    refused(validate_policy(&timeout_only, None, true), "/root", ConditionFault::NeedsTimeout);
    refused(validate_policy(&timeout_only, None, false), "/root", ConditionFault::NeedsTimeout);
    refused(validate_policy(&operator_only, fail, false), "/root", ConditionFault::NeedsOverride);
    for condition in [&timeout_only, &signal] {
        refused(validate_policy(condition, escalate, false), "", ConditionFault::NeedsOverride);
    }
    for (condition, timeout, allowed) in [
        (&timeout_only, fail, false),
        (&timeout_only, escalate, true),
        (&operator_only, None, true),
        (&signal, None, false),
        (&signal, fail, false),
        (&signal, escalate, true),
    ] {
        assert_eq!(validate_policy(condition, timeout, allowed), Ok(()), "{condition:?}");
    }
}

fn sources(names: &[&str]) -> Vec<SignalSource> {
    names.iter().map(|name| SignalSource::new("human", *name)).collect()
}

#[test]
fn a_leaf_that_demands_authenticated_sources_needs_them_declared_on_its_waitpoints() {
    let strict = || Matcher::any().authenticated_source(true);
    let declared =
        [(waitpoint(1), sources(&[])), (waitpoint(2), sources(&["a", "b"])), (waitpoint(3), sources(&["b"]))];
    let passes = |root: Condition| assert_eq!(validate_sources(&root.into(), &declared), Ok(()));
    let too_few = |root: Condition, path| {
        refused(validate_sources(&root.into(), &declared), path, ConditionFault::TooFewSources);
    };
    passes(any());
    passes(Condition::signal(strict()));
    too_few(Condition::signal_at(waitpoint(1), strict()), "/root");
    passes(Condition::signal_at(waitpoint(1), Matcher::any().authenticated_source(false)));
    passes(Condition::signal_at(waitpoint(3), strict()));
    // One is enough where sources are not what is counted.
    passes(Condition::count(9, Distinct::Signals, strict()));
    // The same source on two waitpoints is one.
    passes(Condition::count(2, Distinct::Sources, Matcher::any()));
    too_few(Condition::count(3, Distinct::Sources, Matcher::any()), "/root");
    passes(Condition::count(3, Distinct::Sources, Matcher::any().authenticated_source(false)));
    let at = |waitpoints: &[u8], n| {
        Condition::count_at(waitpoints.iter().map(|w| waitpoint(*w)), n, Distinct::Sources, Matcher::any())
    };
    too_few(Condition::all_of([any(), at(&[1, 3], 2)]), "/root/of/1");
    passes(Condition::all_of([any(), at(&[2, 3], 2)]));
    let none: [(WaitpointId, &[SignalSource]); 1] = [(waitpoint(1), &[])];
    let quorum = ResumeCondition::count(1, Distinct::Sources, Matcher::any());
    refused(validate_sources(&quorum, &none), "/root", ConditionFault::TooFewSources);
}

proptest! {
    #[test]
    fn whatever_the_tree_validation_answers_and_a_path_points_into_the_document(condition in any_condition()) {
        let Err(refusal) = validate_form(&condition, &w()) else { return Ok(()) };
        let Details::InvalidResumeCondition { path, .. } = refusal.details() else { panic!("{refusal}") };
        let document: serde_json::Value = serde_json::from_str(&condition.to_json()).expect("JSON");
        prop_assert!(document.pointer(path).is_some(), "{} in {}", path, document);
    }

    #[test]
    fn the_counted_size_is_that_of_the_compact_json(condition in any_condition()) {
        let condition = ResumeCondition { version: 1, ..condition };
        let bytes = condition.to_json().len();
        prop_assert!(!validate::exceeds_bytes(&condition, bytes));
        prop_assert!(validate::exceeds_bytes(&condition, bytes - 1));
    }
}
