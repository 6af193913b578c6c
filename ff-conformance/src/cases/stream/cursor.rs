//! The text form of positions. It needs no backend; every backend reads and writes it through the core.

use ff_core::contracts::StreamCursorParseError::{BareMarker, Empty, Malformed, OutOfRange};
use ff_core::contracts::{StreamCursor, StreamEntryId};

use crate::cases::cases;
use crate::stage::Stage;

cases! { "stream";
    "StreamCursor: 18446744073709551616 is OutOfRange; `-`, `+` are BareMarker; empty is Empty; `Start`, `1-`, `-1`, `1-2-3`, `01`, ` 1` are Malformed." => texts,
    "StreamCursor: every text that parses is written back unchanged." => written_back,
}

async fn texts(_: &Stage) {
    for (text, cause) in [
        ("18446744073709551616", OutOfRange),
        ("18446744073709551616-0", OutOfRange),
        ("0-18446744073709551616", OutOfRange),
        ("99999999999999999999999999999999999999999", OutOfRange),
        ("-", BareMarker),
        ("+", BareMarker),
        ("", Empty),
        ("Start", Malformed),
        ("END", Malformed),
        ("1-", Malformed),
        ("-1", Malformed),
        ("1-2-3", Malformed),
        ("01", Malformed),
        ("0-01", Malformed),
        ("00", Malformed),
        (" 1", Malformed),
        ("1 ", Malformed),
        ("1 -2", Malformed),
        ("+1", Malformed),
        ("--", Malformed),
        ("1.0", Malformed),
        ("0x1", Malformed),
        ("(1", Malformed),
        ("١", Malformed),
        // Not the grammar comes before too large.
        ("18446744073709551616-", Malformed),
        ("018446744073709551616", Malformed),
    ] {
        assert_eq!(text.parse::<StreamCursor>(), Err(cause), "{text:?}");
        assert!(serde_json::from_value::<StreamCursor>(serde_json::json!(text)).is_err(), "{text:?}");
    }
    for (text, cursor) in [
        ("start", StreamCursor::Start),
        ("end", StreamCursor::End),
        ("0", StreamCursor::Ms(0)),
        ("5", StreamCursor::Ms(5)),
        ("18446744073709551615", StreamCursor::Ms(u64::MAX)),
        ("5-0", StreamCursor::Id(StreamEntryId::new(5, 0))),
        ("18446744073709551615-18446744073709551615", StreamCursor::Id(StreamEntryId::MAX)),
    ] {
        assert_eq!(text.parse::<StreamCursor>(), Ok(cursor), "{text:?}");
    }
}

async fn written_back(_: &Stage) {
    let parts = ["", "0", "1", "9", "10", "01", "007", "18446744073709551615", "18446744073709551616", "start", "end"];
    let joints = ["", "-", "--", " ", "+"];
    let mut parsed = 0;
    let mut candidates = Vec::new();
    for a in parts {
        for joint in joints {
            candidates.extend(parts.map(|b| format!("{a}{joint}{b}")));
        }
    }
    for text in candidates {
        if let Ok(cursor) = text.parse::<StreamCursor>() {
            assert_eq!(cursor.to_string(), text);
            assert_eq!(serde_json::to_value(cursor).ok(), Some(serde_json::json!(text)), "serde writes the same text");
            parsed += 1;
        }
    }
    assert!(parsed >= 30, "only {parsed} texts parsed");
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let text: String = (0..rng.usize(0..6)).map(|_| char::from(b"0123459-+ sten"[rng.usize(0..14)])).collect();
        if let Ok(cursor) = text.parse::<StreamCursor>() {
            assert_eq!(cursor.to_string(), text);
        }
        let id = StreamEntryId::new(rng.u64(..) >> rng.u32(0..64), rng.u64(..) >> rng.u32(0..64));
        let text = format!("{}-{}", id.ms, id.seq);
        assert_eq!(text.parse(), Ok(StreamCursor::Id(id)));
        assert_eq!(id.ms.to_string().parse(), Ok(StreamCursor::Ms(id.ms)));
    }
}
