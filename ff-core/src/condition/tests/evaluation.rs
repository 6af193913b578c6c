use proptest::prelude::*;

use super::*;
use crate::contracts::SignalEffect::{
    AppendedToWaitpoint as Appended, AppendedToWaitpointDuplicate as Again, NoOp, ResumeConditionSatisfied as Satisfied,
};
use crate::contracts::{SignalEffect, SignalSource};

/// A signal that owns what a view borrows.
#[derive(Clone, Debug)]
struct Signal {
    id: u8,
    at: u8,
    name: &'static str,
    category: &'static str,
    source: SignalSource,
    correlation_id: Option<&'static str>,
    bound: bool,
}

impl Signal {
    fn view(&self) -> SignalView<'_> {
        SignalView {
            signal_id: signal_id(self.id),
            waitpoint_id: waitpoint(self.at),
            name: self.name,
            category: self.category,
            source: &self.source,
            correlation_id: self.correlation_id,
            source_bound: self.bound,
        }
    }

    fn at(self, at: u8) -> Self {
        Self { at, ..self }
    }

    fn from(self, source_type: &str, identity: &str) -> Self {
        Self { source: SignalSource::new(source_type, identity), bound: true, ..self }
    }

    fn unbound(self) -> Self {
        Self { bound: false, ..self }
    }
}

/// An unbound signal of that name on waitpoint 1.
fn signal(id: u8, name: &'static str) -> Signal {
    let source = SignalSource::new("human", "ann");
    Signal { id, at: 1, name, category: "custom", source, correlation_id: None, bound: false }
}

fn bound() -> Vec<WaitpointId> {
    vec![waitpoint(1), waitpoint(2), waitpoint(3)]
}

fn run(condition: &ResumeCondition, signals: &[Signal]) -> Evaluation {
    evaluate(condition, &bound(), signals.iter().map(Signal::view))
}

fn effects(condition: &ResumeCondition, signals: &[Signal]) -> Vec<SignalEffect> {
    run(condition, signals).effects
}

fn have(condition: &ResumeCondition, signals: &[Signal]) -> Vec<(String, u32, u32)> {
    run(condition, signals).progress.into_iter().map(|leaf| (leaf.path, leaf.have, leaf.need)).collect()
}

#[test]
fn a_signal_leaf_takes_the_first_match_and_the_closer_ends_it() {
    let condition = ResumeCondition::signal("go");
    let signals = [signal(1, "stop"), signal(2, "go"), signal(3, "go")];
    let evaluation = run(&condition, &signals);
    assert_eq!(evaluation.effects, [NoOp, Satisfied, NoOp]);
    assert_eq!(evaluation.closer, Some(signal_id(2)));
    assert_eq!(evaluation.contributors().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_second_match_of_a_full_leaf_is_a_duplicate() {
    let condition = ResumeCondition::all_of([Condition::signal("a"), Condition::signal("b")]);
    let signals = [signal(1, "a"), signal(2, "a"), signal(3, "c"), signal(4, "b")];
    assert_eq!(effects(&condition, &signals), [Appended, Again, NoOp, Satisfied]);
    assert_eq!(have(&condition, &signals[..3]), [("/root/of/0".into(), 1, 1), ("/root/of/1".into(), 0, 1)]);
}

#[test]
fn one_signal_feeds_every_leaf_that_accepts_it() {
    let condition = ResumeCondition::all_of([Condition::signal("a"), Condition::any_signal()]);
    assert_eq!(effects(&condition, &[signal(1, "a")]), [Satisfied]);
}

#[test]
fn two_sibling_counts_share_no_progress() {
    let count = |name: &str| Condition::count(2, Distinct::Signals, name);
    let condition = ResumeCondition::all_of([count("a"), count("a"), count("b")]);
    let signals = [signal(1, "a"), signal(2, "b"), signal(3, "a"), signal(4, "b")];
    assert_eq!(effects(&condition, &signals), [Appended, Appended, Appended, Satisfied]);
    let progress = have(&condition, &signals[..2]);
    assert_eq!(progress.iter().map(|leaf| leaf.1).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn all_of_in_all_of_over_a_count_completes() {
    let count = Condition::count(2, Distinct::Waitpoints, Matcher::any());
    let condition = ResumeCondition::all_of([Condition::all_of([count])]);
    let signals = [signal(1, "x"), signal(2, "x"), signal(3, "x").at(3)];
    assert_eq!(effects(&condition, &signals), [Appended, Again, Satisfied]);
}

#[test]
fn any_of_needs_one_branch_and_the_others_keep_what_they_have() {
    let condition = ResumeCondition::any_of([
        Condition::count(2, Distinct::Signals, "a"),
        Condition::all_of([Condition::signal("b"), Condition::signal("c")]),
    ]);
    let signals = [signal(1, "a"), signal(2, "b"), signal(3, "c"), signal(4, "a")];
    assert_eq!(effects(&condition, &signals), [Appended, Appended, Satisfied, NoOp]);
    let progress = have(&condition, &signals);
    assert_eq!(
        progress,
        [("/root/of/0".into(), 1, 2), ("/root/of/1/of/0".into(), 1, 1), ("/root/of/1/of/1".into(), 1, 1)]
    );
}

#[test]
fn a_count_of_signals_counts_ids_of_waitpoints_places_and_of_sources_pairs() {
    let of = |distinct| ResumeCondition::count(2, distinct, Matcher::any());
    let twice = [signal(1, "x").from("h", "a"), signal(1, "x").from("h", "a")];
    assert_eq!(effects(&of(Distinct::Signals), &twice), [Appended, Again]);
    let same_place = [signal(1, "x").from("h", "a"), signal(2, "x").from("h", "b")];
    assert_eq!(effects(&of(Distinct::Waitpoints), &same_place), [Appended, Again]);
    assert_eq!(effects(&of(Distinct::Sources), &same_place), [Appended, Satisfied]);
    let same_source = [signal(1, "x").from("h", "a"), signal(2, "x").from("h", "a").at(2)];
    assert_eq!(effects(&of(Distinct::Sources), &same_source), [Appended, Again]);
    assert_eq!(effects(&of(Distinct::Waitpoints), &same_source), [Appended, Satisfied]);
}

#[test]
fn a_source_is_a_pair_that_no_separator_joins() {
    let condition = ResumeCondition::count(2, Distinct::Sources, Matcher::any());
    for (one, other) in [(("a:b", "c"), ("a", "b:c")), (("a\0b", "c"), ("a", "b\0c")), (("ab", "c"), ("a", "bc"))] {
        let signals = [signal(1, "x").from(one.0, one.1), signal(2, "x").from(other.0, other.1)];
        assert_eq!(effects(&condition, &signals), [Appended, Satisfied], "{one:?} {other:?}");
    }
}

#[test]
fn a_quorum_of_sources_takes_only_bound_tokens_unless_it_says_otherwise() {
    let claimed = [signal(1, "x").from("h", "a").unbound(), signal(2, "x").from("h", "b").unbound()];
    for matcher in [Matcher::any(), Matcher::named("x"), Matcher::any().authenticated_source(true)] {
        let condition = ResumeCondition::count(2, Distinct::Sources, matcher);
        assert_eq!(effects(&condition, &claimed), [NoOp, NoOp]);
    }
    let lenient = ResumeCondition::count(2, Distinct::Sources, Matcher::any().authenticated_source(false));
    assert_eq!(effects(&lenient, &claimed), [Appended, Satisfied]);
    let strict = ResumeCondition::signal(Matcher::any().authenticated_source(true));
    assert_eq!(effects(&strict, &[claimed[0].clone(), signal(3, "x").from("h", "a")]), [NoOp, Satisfied]);
}

#[test]
fn every_field_of_a_matcher_must_be_equal_byte_by_byte() {
    let matcher = Matcher::named("n").category("c").source_type("t").correlation_id("k");
    let good = Signal { category: "c", correlation_id: Some("k"), ..signal(1, "n").from("t", "i") };
    let condition = ResumeCondition::signal(matcher);
    assert_eq!(effects(&condition, std::slice::from_ref(&good)), [Satisfied]);
    for bad in [
        Signal { name: "N", ..good.clone() },
        Signal { name: "n ", ..good.clone() },
        Signal { category: "", ..good.clone() },
        good.clone().from("tt", "i"),
        Signal { correlation_id: Some("K"), ..good.clone() },
        Signal { correlation_id: None, ..good.clone() },
    ] {
        assert_eq!(effects(&condition, std::slice::from_ref(&bad)), [NoOp], "{bad:?}");
    }
}

#[test]
fn an_absent_correlation_id_equals_nothing_not_even_the_empty_one() {
    let condition = ResumeCondition::signal(Matcher::any().correlation_id(""));
    assert_eq!(effects(&condition, &[signal(1, "x")]), [NoOp]);
}

#[test]
fn a_leaf_looks_only_at_its_waitpoints_and_at_none_that_is_not_bound() {
    let at_two = ResumeCondition::new(Condition::signal_at(waitpoint(2), Matcher::any()));
    assert_eq!(effects(&at_two, &[signal(1, "x"), signal(2, "x").at(2)]), [NoOp, Satisfied]);
    let of_two = Condition::count_at([waitpoint(1), waitpoint(3)], 2, Distinct::Waitpoints, Matcher::any());
    let signals = [signal(1, "x").at(2), signal(2, "x").at(1), signal(3, "x").at(3)];
    assert_eq!(effects(&of_two.into(), &signals), [NoOp, Appended, Satisfied]);
    let nine = Condition::signal_at(waitpoint(9), Matcher::any());
    assert_eq!(effects(&nine.into(), &[signal(1, "x").at(9)]), [NoOp]);
    assert_eq!(effects(&ResumeCondition::any_signal(), &[signal(1, "x").at(9)]), [NoOp]);
}

#[test]
fn progress_at_a_waitpoint_lists_the_leaves_that_it_feeds() {
    let condition = ResumeCondition::all_of([
        Condition::signal_at(waitpoint(1), "a"),
        Condition::any_of([Condition::signal_at(waitpoint(2), "b"), Condition::any_signal()]),
    ]);
    let bound = bound();
    let evaluator = Evaluator::new(&condition, &bound);
    let paths = |at: u8| evaluator.progress_at(&waitpoint(at)).into_iter().map(|leaf| leaf.path).collect::<Vec<_>>();
    assert_eq!(paths(1), ["/root/of/0", "/root/of/1/of/1"]);
    assert_eq!(paths(2), ["/root/of/1/of/0", "/root/of/1/of/1"]);
    assert_eq!(paths(9), [""; 0]);
}

#[test]
fn a_path_points_into_the_document() {
    let condition = ResumeCondition::any_of([
        Condition::signal("a"),
        Condition::all_of([Condition::count(2, Distinct::Signals, "b"), Condition::signal("c")]),
    ]);
    let document: serde_json::Value = serde_json::from_str(&condition.to_json()).expect("JSON");
    for leaf in run(&condition, &[]).progress {
        let node = document.pointer(&leaf.path).expect("the pointer leads somewhere");
        assert_eq!(node.get("n").map_or(1, |n| n.as_u64().expect("a number")), u64::from(leaf.need));
    }
}

#[test]
fn operator_only_and_timeout_only_stay_whatever_arrives() {
    for condition in [ResumeCondition::operator_only(), ResumeCondition::timeout_only()] {
        let evaluation = run(&condition, &[signal(1, "a"), signal(2, "b")]);
        assert_eq!(evaluation.effects, [NoOp, NoOp]);
        assert!(!evaluation.is_satisfied() && evaluation.progress.is_empty());
    }
}

#[test]
fn what_no_validation_lets_through_is_never_satisfied_by_nothing() {
    for root in [
        Condition::all_of([]),
        Condition::any_of([]),
        Condition::count(0, Distinct::Signals, Matcher::any()),
        Condition::all_of([Condition::all_of([]), Condition::any_signal()]),
    ] {
        let evaluation = run(&root.into(), &[signal(1, "a"), signal(2, "b")]);
        assert!(!evaluation.is_satisfied());
    }
}

#[test]
fn the_closer_is_found_behind_a_thousand_signals_of_noise() {
    let condition = ResumeCondition::signal("go");
    let bound = bound();
    let noise = vec![signal(1, "noise"); 5_000];
    let mut evaluator = Evaluator::new(&condition, &bound);
    assert!(noise.iter().all(|noise| evaluator.push(&noise.view()) == NoOp));
    assert!(evaluator.would_contribute(&signal(2, "go").view()));
    assert_eq!(evaluator.push(&signal(2, "go").view()), Satisfied);
    assert!(!evaluator.would_contribute(&signal(3, "go").view()));
}

#[test]
fn a_full_count_of_a_thousand_closes_at_the_thousandth() {
    let condition = ResumeCondition::count(MAX_COUNT, Distinct::Signals, Matcher::any());
    let bound = bound();
    let mut evaluator = Evaluator::new(&condition, &bound);
    for n in 1..=MAX_COUNT {
        let template = signal(0, "x");
        let view = SignalView { signal_id: SignalId::from_uuid(Uuid::from_u128(n.into())), ..template.view() };
        assert_eq!(evaluator.push(&view), if n < MAX_COUNT { Appended } else { Satisfied });
    }
}

#[test]
fn a_bottomless_tree_is_evaluated_without_overflow() {
    let condition = ResumeCondition::new(nested(100_000, Condition::any_signal()));
    let evaluation = run(&condition, &[signal(1, "a")]);
    assert_eq!(evaluation.effects, [Satisfied]);
    assert_eq!(evaluation.progress[0].path.len(), "/root".len() + 99_999 * "/of/0".len());
    std::mem::forget(condition); // dropping it would recurse
}

// The pages' algorithm once more, word by word: per signal it looks at every leaf and then asks the root.
mod by_the_page {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Key {
        Constant,
        Waitpoint(WaitpointId),
        Signal(SignalId),
        Source(String, String),
    }

    enum Tree<'c> {
        Leaf { condition: &'c Condition, path: String, keys: Vec<Key> },
        All(Vec<Tree<'c>>),
        Any(Vec<Tree<'c>>),
        Never,
    }

    fn tree(condition: &Condition, path: String) -> Tree<'_> {
        match condition {
            Condition::AllOf { of } if !of.is_empty() => {
                Tree::All(of.iter().enumerate().map(|(i, child)| tree(child, format!("{path}/of/{i}"))).collect())
            }
            Condition::AnyOf { of } => {
                Tree::Any(of.iter().enumerate().map(|(i, child)| tree(child, format!("{path}/of/{i}"))).collect())
            }
            Condition::Signal { .. } | Condition::Count { .. } => Tree::Leaf { condition, path, keys: Vec::new() },
            _ => Tree::Never,
        }
    }

    fn need(leaf: &Condition) -> usize {
        if let Condition::Count { n, .. } = leaf { *n as usize } else { 1 }
    }

    fn accepts(leaf: &Condition, bound: &[WaitpointId], s: &SignalView<'_>) -> Option<Key> {
        let (matcher, w, key, sources) = match leaf {
            Condition::Signal { matcher, waitpoint } => (matcher, waitpoint.map(|w| vec![w]), Key::Constant, false),
            Condition::Count { distinct, matcher, waitpoints, .. } => {
                let key = match distinct {
                    Distinct::Waitpoints => Key::Waitpoint(s.waitpoint_id),
                    Distinct::Signals => Key::Signal(s.signal_id),
                    Distinct::Sources => Key::Source(s.source.source_type.clone(), s.source.source_identity.clone()),
                };
                (matcher, waitpoints.clone(), key, *distinct == Distinct::Sources)
            }
            _ => return None,
        };
        let m = matcher.clone().unwrap_or_default();
        let w = w.unwrap_or_else(|| bound.to_vec());
        let ok = bound.contains(&s.waitpoint_id)
            && w.contains(&s.waitpoint_id)
            && m.name.is_none_or(|v| v == s.name)
            && m.category.is_none_or(|v| v == s.category)
            && m.source_type.is_none_or(|v| v == s.source.source_type)
            && m.correlation_id.is_none_or(|v| Some(v.as_str()) == s.correlation_id)
            && (!m.authenticated_source.unwrap_or(sources) || s.source_bound);
        ok.then_some(key)
    }

    impl Tree<'_> {
        fn feed(&mut self, bound: &[WaitpointId], s: &SignalView<'_>) -> (bool, bool) {
            match self {
                Tree::Never => (false, false),
                Tree::All(of) | Tree::Any(of) => of.iter_mut().fold((false, false), |(matched, contributed), child| {
                    let (m, c) = child.feed(bound, s);
                    (matched | m, contributed | c)
                }),
                Tree::Leaf { condition, keys, .. } => match accepts(condition, bound, s) {
                    None => (false, false),
                    Some(key) if keys.len() < need(condition) && !keys.contains(&key) => {
                        keys.push(key);
                        (true, true)
                    }
                    Some(_) => (true, false),
                },
            }
        }

        fn value(&self) -> bool {
            match self {
                Tree::Never => false,
                Tree::All(of) => of.iter().all(Tree::value),
                Tree::Any(of) => of.iter().any(Tree::value),
                Tree::Leaf { condition, keys, .. } => need(condition) > 0 && keys.len() == need(condition),
            }
        }

        fn progress(&self, into: &mut Vec<LeafProgress>) {
            match self {
                Tree::Never => {}
                Tree::All(of) | Tree::Any(of) => of.iter().for_each(|child| child.progress(into)),
                Tree::Leaf { condition, path, keys } => into.push(LeafProgress {
                    path: path.clone(),
                    have: u32::try_from(keys.len()).expect("small"),
                    need: u32::try_from(need(condition)).expect("small"),
                }),
            }
        }
    }

    pub(super) fn evaluate(condition: &ResumeCondition, bound: &[WaitpointId], signals: &[Signal]) -> Evaluation {
        let mut root = tree(&condition.root, "/root".to_owned());
        let mut closer = None;
        let effects = signals
            .iter()
            .map(|signal| {
                if root.value() {
                    return NoOp;
                }
                let view = signal.view();
                let (matched, contributed) = root.feed(bound, &view);
                if root.value() {
                    closer = Some(view.signal_id);
                    Satisfied
                } else if contributed {
                    Appended
                } else if matched {
                    Again
                } else {
                    NoOp
                }
            })
            .collect();
        let mut progress = Vec::new();
        root.progress(&mut progress);
        Evaluation { effects, closer, progress }
    }
}

const TEXTS: [&str; 3] = ["a", "b", "a:b"];

fn any_signal() -> impl Strategy<Value = Signal> {
    let text = || prop::sample::select(TEXTS.as_slice());
    (0..6_u8, 1..5_u8, text(), text(), (text(), text()), prop::option::of(text()), any::<bool>()).prop_map(
        |(id, at, name, category, (source_type, identity), correlation_id, bound)| Signal {
            id,
            at,
            name,
            category,
            source: SignalSource::new(source_type, identity),
            correlation_id,
            bound,
        },
    )
}

fn any_matcher() -> impl Strategy<Value = Option<Matcher>> {
    let text = || prop::option::weighted(0.3, prop::sample::select(TEXTS.as_slice()).prop_map(str::to_owned));
    let fields = (text(), text(), text(), text(), prop::option::weighted(0.3, any::<bool>()));
    prop::option::of(fields.prop_map(|(name, category, source_type, correlation_id, authenticated_source)| Matcher {
        name,
        category,
        source_type,
        correlation_id,
        authenticated_source,
    }))
}

/// Any tree, such that no validation lets through included.
pub(super) fn any_condition() -> impl Strategy<Value = ResumeCondition> {
    let waitpoints = || prop::collection::vec((1..5_u8).prop_map(waitpoint), 0..4);
    let distinct = prop::sample::select(Distinct::ALL);
    let leaf = prop_oneof![
        4 => (any_matcher(), prop::option::of((1..5_u8).prop_map(waitpoint)))
            .prop_map(|(matcher, waitpoint)| Condition::Signal { matcher, waitpoint }),
        4 => (0..5_u32, distinct, any_matcher(), prop::option::of(waitpoints()))
            .prop_map(|(n, distinct, matcher, waitpoints)| Condition::Count { n, distinct, matcher, waitpoints }),
        1 => prop_oneof![Just(Condition::OperatorOnly {}), Just(Condition::TimeoutOnly {})],
    ];
    let tree = leaf.prop_recursive(5, 40, 4, |inner| {
        let of = prop::collection::vec(inner, 0..5);
        (any::<bool>(), of).prop_map(|(all, of)| if all { Condition::AllOf { of } } else { Condition::AnyOf { of } })
    });
    (1..3_u32, tree).prop_map(|(version, root)| ResumeCondition { version, root })
}

proptest! {
    #[test]
    fn evaluation_is_the_pages_algorithm(
        condition in any_condition(),
        signals in prop::collection::vec(any_signal(), 0..40),
    ) {
        prop_assert_eq!(run(&condition, &signals), by_the_page::evaluate(&condition, &bound(), &signals));
    }

    #[test]
    fn the_whole_list_equals_one_by_one_and_every_prefix_of_it(
        condition in any_condition(),
        signals in prop::collection::vec(any_signal(), 0..25),
    ) {
        let whole = run(&condition, &signals);
        let bound = bound();
        let mut evaluator = Evaluator::new(&condition, &bound);
        for (at, signal) in signals.iter().enumerate() {
            let would = evaluator.would_contribute(&signal.view());
            let effect = evaluator.push(&signal.view());
            prop_assert_eq!(effect, whole.effects[at]);
            prop_assert_eq!(would, matches!(effect, Satisfied | Appended));
            let prefix = run(&condition, &signals[..=at]);
            prop_assert_eq!(&prefix.effects[..], &whole.effects[..=at]);
            prop_assert_eq!(prefix.closer, evaluator.closer());
            prop_assert_eq!(prefix.progress, evaluator.progress());
        }
        prop_assert_eq!(whole.closer.is_some(), evaluator.is_satisfied());
        prop_assert_eq!(whole.effects.iter().filter(|effect| **effect == Satisfied).count(), usize::from(whole.is_satisfied()));
    }

    #[test]
    fn a_condition_survives_json(condition in any_condition()) {
        prop_assert_eq!(ResumeCondition::from_json(condition.to_json()).expect("what was written"), condition);
    }
}
