use super::*;

fn contract_example() -> ResumeCondition {
    ResumeCondition::all_of([
        Condition::signal("tests_passed"),
        Condition::count(2, Distinct::Sources, Matcher::named("approve")),
    ])
}

#[test]
fn the_example_of_the_contract_reads_and_writes_back() {
    let text = r#"{"version":1,"root":{"type":"all_of","of":[{"type":"signal","matcher":{"name":"tests_passed"}},
  {"type":"count","n":2,"distinct":"sources","matcher":{"name":"approve"}}]}}"#;
    let condition = ResumeCondition::from_json(text).expect("well formed");
    assert_eq!(condition, contract_example());
    assert_eq!(condition.to_json(), text.replace("\n  ", ""));
}

#[test]
fn every_node_has_the_contracts_form_with_its_fields_in_order() {
    let one = waitpoint(1);
    let matcher =
        Matcher::named("n").category("c").source_type("human").correlation_id("k").authenticated_source(false);
    for (node, text) in [
        (Condition::any_signal(), r#"{"type":"signal"}"#.to_owned()),
        (
            Condition::signal_at(one, matcher),
            format!(
                r#"{{"type":"signal","matcher":{{"name":"n","category":"c","source_type":"human","correlation_id":"k","authenticated_source":false}},"waitpoint":"{one}"}}"#
            ),
        ),
        (
            Condition::count_at([one], 1, Distinct::Waitpoints, "n"),
            format!(
                r#"{{"type":"count","n":1,"distinct":"waitpoints","matcher":{{"name":"n"}},"waitpoints":["{one}"]}}"#
            ),
        ),
        (
            Condition::count(3, Distinct::Signals, Matcher::any()),
            r#"{"type":"count","n":3,"distinct":"signals"}"#.into(),
        ),
        (Condition::any_of([Condition::any_signal()]), r#"{"type":"any_of","of":[{"type":"signal"}]}"#.into()),
        (ResumeCondition::operator_only().root, r#"{"type":"operator_only"}"#.into()),
        (ResumeCondition::timeout_only().root, r#"{"type":"timeout_only"}"#.into()),
    ] {
        let whole = format!(r#"{{"version":1,"root":{text}}}"#);
        let condition = ResumeCondition::new(node);
        assert_eq!(condition.to_json(), whole);
        assert_eq!(ResumeCondition::from_json(&whole).expect(&whole), condition);
    }
}

#[test]
fn unknown_fields_other_types_nulls_and_repeated_fields_are_refused_everywhere() {
    for bad in [
        r#"{"version":1,"root":{"type":"signal"},"x":1}"#,
        r#"{"version":1,"version":1,"root":{"type":"signal"}}"#,
        r#"{"version":"1","root":{"type":"signal"}}"#,
        r#"{"version":1}"#,
        r#"{"root":{"type":"signal"}}"#,
        r#"{"version":1,"root":{"type":"signal","x":1}}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":null}}"#,
        r#"{"version":1,"root":{"type":"signal","waitpoint":null}}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":{"name":null}}}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":{"names":"a"}}}"#,
        r#"{"version":1,"root":{"type":"signal","matcher":{"name":"a","name":"a"}}}"#,
        r#"{"version":1,"root":{"type":"signal","type":"signal"}}"#,
        r#"{"version":1,"root":{"type":"signal","waitpoint":"01890A5D-AC96-774B-BCCE-B302099A8057"}}"#,
        r#"{"version":1,"root":{"type":"Signal"}}"#,
        r#"{"version":1,"root":{}}"#,
        r#"{"version":1,"root":{"type":"operator_only","of":[]}}"#,
        r#"{"version":1,"root":{"type":"timeout_only","x":null}}"#,
        r#"{"version":1,"root":{"type":"all_of"}}"#,
        r#"{"version":1,"root":{"type":"all_of","of":{}}}"#,
        r#"{"version":1,"root":{"type":"count","n":1}}"#,
        r#"{"version":1,"root":{"type":"count","distinct":"signals"}}"#,
        r#"{"version":1,"root":{"type":"count","n":1.0,"distinct":"signals"}}"#,
        r#"{"version":1,"root":{"type":"count","n":-1,"distinct":"signals"}}"#,
        r#"{"version":1,"root":{"type":"count","n":"1","distinct":"signals"}}"#,
        r#"{"version":1,"root":{"type":"count","n":1,"distinct":"senders"}}"#,
        r#"{"version":1,"root":{"type":"count","n":1,"distinct":"signals","waitpoints":null}}"#,
        r#"{"version":1,"root":{"type":"signal"}} x"#,
        "",
        "[]",
    ] {
        assert!(ResumeCondition::from_json(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_bottomless_text_is_an_error_and_no_overflow() {
    let depth = 100_000;
    let text = format!(
        r#"{{"version":1,"root":{}{{"type":"signal"}}{}}}"#,
        r#"{"type":"all_of","of":["#.repeat(depth),
        "]}".repeat(depth)
    );
    assert!(ResumeCondition::from_json(text).is_err());
}

#[test]
fn a_matcher_that_accepts_everything_is_left_out_by_the_constructors_and_kept_where_it_was_written() {
    assert_eq!(Condition::signal(Matcher::any()), Condition::any_signal());
    let text = r#"{"version":1,"root":{"type":"signal","matcher":{}}}"#;
    assert_eq!(ResumeCondition::from_json(text).expect("well formed").to_json(), text);
}

#[test]
fn in_a_digest_a_condition_is_its_compact_json() {
    let by_form = Canonical::bytes(|c| {
        c.put(&contract_example());
    });
    let by_text = Canonical::bytes(|c| {
        c.put(&contract_example().to_json());
    });
    assert_eq!(by_form, by_text);
}
