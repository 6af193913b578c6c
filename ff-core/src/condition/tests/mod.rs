//! Tests of the conditions: `json` is the document, `evaluation` what signals do, `validation` what is refused.

use uuid::Uuid;

use super::*;

mod evaluation;
mod json;
mod validation;

fn waitpoint(n: u8) -> WaitpointId {
    WaitpointId::from_uuid(Uuid::from_bytes([n; 16]))
}

fn signal_id(n: u8) -> SignalId {
    SignalId::from_uuid(Uuid::from_bytes([n; 16]))
}

/// A tree of `depth` nodes, one in the other.
fn nested(depth: usize, innermost: Condition) -> Condition {
    (1..depth).fold(innermost, |inner, _| Condition::all_of([inner]))
}

#[test]
fn the_timeout_signal_id_flips_the_version_and_after_an_escalation_the_last_bit() {
    for (suspension, first, second) in [
        (
            "01890a5d-ac96-774b-bcce-b302099a8057",
            "01890a5d-ac96-874b-bcce-b302099a8057",
            "01890a5d-ac96-874b-bcce-b302099a8056",
        ),
        (
            "00000000-0000-0000-0000-000000000000",
            "00000000-0000-8000-0000-000000000000",
            "00000000-0000-8000-0000-000000000001",
        ),
    ] {
        let suspension = suspension.parse().expect("an id");
        assert_eq!(timeout_signal_id(suspension, false).to_string(), first);
        assert_eq!(timeout_signal_id(suspension, true).to_string(), second);
    }
}
