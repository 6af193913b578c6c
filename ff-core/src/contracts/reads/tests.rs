//! The arguments, cursors and models of reads.

use proptest::prelude::*;

use super::*;
use crate::contracts::StreamClosed;
use crate::contracts::testing::{refused_code, refused_field};
use crate::ids::AttemptIndex;
use crate::records::generate;
use crate::refusal::Code;
use crate::state::PublicState;

fn id(partition: u16, n: u128) -> ExecutionId {
    ExecutionId::from_parts(partition, uuid::Uuid::from_u128(n))
}

#[test]
fn cursors_parse_strictly_and_write_back() {
    let cursor = ExecutionCursor { after: id(10, 7) };
    assert_eq!(cursor.to_string().parse(), Ok(cursor));
    assert!(ExecutionCursor::end_of(2).after < cursor.after, "partition 10 comes after partition 2");
    let attempt = AttemptCursor { after: AttemptIndex(u32::MAX) };
    assert_eq!(attempt.to_string().parse(), Ok(attempt));
    for foreign in ["", "x1.", "x1.e1_x", "x2.e1_01890a5d-ac96-774b-bcce-b302099a8057", "a1.0", &id(1, 1).to_string()] {
        assert_eq!(foreign.parse::<ExecutionCursor>(), Err(InvalidCursor), "{foreign:?}");
    }
    for foreign in ["", "a1.", "a1.01", "a1.-1", "a1.4294967296", "a1. 1", &cursor.to_string()] {
        assert_eq!(foreign.parse::<AttemptCursor>(), Err(InvalidCursor), "{foreign:?}");
    }
}

#[test]
fn a_list_of_executions_refuses_foreign_cursors_and_bad_tags() {
    let all = || ListExecutionsArgs::builder().build();
    let at = |after| Some(ExecutionCursor { after }.to_string());
    assert_eq!(refused_code(&all()), None);
    assert_eq!(refused_code(&ListExecutionsArgs { cursor: at(id(3, 1)), ..all() }), None);
    assert_eq!(refused_code(&ListExecutionsArgs { cursor: at(id(3, 1)), partition: Some(3), ..all() }), None);
    for (cursor, partition) in [(at(id(3, 1)), Some(2)), (at(id(16, 1)), None), (Some("a1.0".to_owned()), None)] {
        let args = ListExecutionsArgs { cursor, partition, ..all() };
        assert_eq!(refused_field(&args), Some("cursor".into()), "{args:?}");
    }
    for limit in [0, 1001] {
        assert_eq!(refused_field(&ListExecutionsArgs { limit, ..all() }), Some("limit".into()));
    }
    let foreign = ListExecutionsArgs { partition: Some(16), limit: 0, ..all() };
    assert_eq!(refused_code(&foreign), Some(Code::InvalidPartition));
    let tagged = ListExecutionsArgs::builder().tag("Team", "x").build();
    assert_eq!(refused_code(&tagged), Some(Code::InvalidTagKey));
    let tagged = ListExecutionsArgs::builder().tag("team.name", "x".repeat(4097)).build();
    assert_eq!(refused_field(&tagged), Some("tag".into()));
}

#[test]
fn a_list_of_attempts_goes_on_behind_its_cursor() {
    let all = || ListAttemptsArgs::builder().execution_id(id(0, 1)).build();
    assert_eq!(all().first(), Ok(Some(AttemptIndex(0))));
    let behind = |n| ListAttemptsArgs { cursor: Some(AttemptCursor { after: AttemptIndex(n) }.to_string()), ..all() };
    assert_eq!(behind(4).first(), Ok(Some(AttemptIndex(5))));
    assert_eq!(behind(u32::MAX).first(), Ok(None));
    let foreign = ListAttemptsArgs { cursor: Some("5".into()), limit: 0, ..all() };
    assert_eq!(refused_field(&foreign), Some("cursor".into()));
}

#[test]
fn results_are_asked_for_in_words() {
    let args = GetResultArgs::builder().execution_id(id(0, 1)).build();
    assert_eq!(args.of, ResultSelector::Last);
    let text = serde_json::to_string(&GetResultArgs { of: ResultSelector::Run(2), ..args }).expect("plain data");
    assert!(text.ends_with(r#""of":{"run":2}}"#), "{text}");
}

proptest! {
    /// The three models of one execution agree where they overlap, survive JSON, and show groups whole.
    #[test]
    fn summary_info_and_snapshot_agree(
        record in generate::execution(),
        attempt in proptest::option::of(generate::attempt()),
    ) {
        let snapshot = ExecutionSnapshot::of(&record, attempt.as_ref(), None);
        let (summary, info) = (ExecutionSummary::of(&record), ExecutionInfo::of(&record));
        let json = (serde_json::to_value(&summary), serde_json::to_value(&info), serde_json::to_value(&snapshot));
        let (small, medium, large) = (json.0.expect("plain"), json.1.expect("plain"), json.2.expect("plain"));
        for (less, more) in [(&small, &medium), (&medium, &large)] {
            for (name, field) in less.as_object().expect("a struct") {
                prop_assert_eq!(more.get(name), Some(field), "{}", name);
            }
        }
        prop_assert_eq!(info.run, record.replay_count);
        prop_assert_eq!(snapshot.current_lease.is_some(), record.vector.is_running());
        prop_assert_eq!(snapshot.end_cause.is_some(), record.vector.is_terminal());
        prop_assert!(snapshot.blocks.windows(2).all(|pair| pair[0].reason < pair[1].reason));
        prop_assert_eq!(serde_json::from_value::<ExecutionSummary>(small).expect("its own"), summary);
        prop_assert_eq!(serde_json::from_value::<ExecutionInfo>(medium).expect("its own"), info);
        prop_assert_eq!(serde_json::from_value::<ExecutionSnapshot>(large).expect("its own"), snapshot);
    }

    #[test]
    fn a_stream_is_closed_exactly_when_its_attempt_is_final(attempt in generate::attempt()) {
        let closed = StreamClosed::of(&attempt);
        prop_assert_eq!(closed.is_some(), attempt.attempt_state.is_final());
        let summary = AttemptSummary::of(&attempt);
        prop_assert_eq!(closed.map(|c| c.at), summary.ended_at);
        prop_assert_eq!(closed.map(|c| c.cause), summary.end_cause);
    }
}

#[test]
fn a_lane_never_seen_counts_nothing_in_all_eleven_states() {
    let mut counts = LaneCounts::default();
    assert_eq!((counts.counts.len(), counts.total()), (11, 0));
    counts.add(PublicState::Active, 2);
    assert_eq!((counts.count(PublicState::Active), counts.total()), (2, 2));
    let text = serde_json::to_string(&counts).expect("string keys");
    assert_eq!(serde_json::from_str::<LaneCounts>(&text).expect("its own text"), counts);
}
