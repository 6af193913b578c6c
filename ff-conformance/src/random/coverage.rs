//! What a run of the random tier has met: outcomes and refusals by operation, and what it must have met.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ff_core::operation::OpName;
use ff_core::refusal::Code;

/// How often each outcome was seen, by operation and variant or refusal code.
pub type Coverage = BTreeMap<(OpName, String), u64>;

/// Refusals that random sequences do not meet, and why. Each is met elsewhere, as said.
pub const NOT_DRAWN: &[(Code, &str)] = &[
    (Code::FenceRequired, "a boundary's own, before there is an operation"),
    (Code::StaleKid, "of backends that keep keys in a cache, and only in a lost race: unit tests of the cache"),
    (Code::KeystoreBusy, "of backends that keep keys in a cache; the suite sets no limit: unit tests of the cache"),
    (Code::TooManyCapabilitySets, "takes 256 sets in one lane: a case"),
    (Code::WaitpointLimitExceeded, "takes 16 pending waitpoints of one attempt: a case"),
    (Code::TooManyKids, "takes 17 rotations within a grace: a case"),
    (Code::FlowTooLarge, "takes 10,000 members: a case"),
    (Code::FanInLimit, "takes 64 incoming edges: a case"),
    (Code::FanOutLimit, "takes 10,000 outgoing edges: a case"),
    (Code::GraphTooLarge, "takes a graph of 2,000 edges: a case"),
];

/// Outcomes that random sequences meet seldom or never, and why. Each is played by cases.
pub const SELDOM: &[(OpName, &str, &str)] = &[
    (OpName::MoveToWaitingChildren, "moved", "takes an edge staged upon a running member, and no other step between"),
    (
        OpName::ResolveDependency,
        "satisfied",
        "takes an edge that the backlog still owes: more than 128 steps in one call",
    ),
    (OpName::ResolveDependency, "impossible", "the same"),
];

fn is_refusal(label: &str) -> bool {
    Code::from_word(label).is_some()
}

/// What should have been met and was not: operations that never succeeded, codes that never came.
#[must_use]
pub fn gaps(coverage: &Coverage) -> Vec<String> {
    let met = |code: &Code| coverage.keys().any(|(_, label)| label == code.as_str());
    let excused = |code: &Code| NOT_DRAWN.iter().any(|(not, _)| not == code);
    let succeeded = |name: &OpName| coverage.keys().any(|(op, label)| op == name && !is_refusal(label));
    let operations = OpName::ALL.iter().filter(|name| !succeeded(name)).map(|name| format!("{name} never succeeded"));
    let codes = Code::ALL.iter().filter(|code| !met(code) && !excused(code));
    operations.chain(codes.map(|code| format!("{} never came", code.as_str()))).collect()
}

/// Two tables: outcomes by operation, and refusals by operation; and what is not met on purpose.
#[must_use]
pub fn tables(coverage: &Coverage) -> String {
    let mut text = String::new();
    for (title, refusals) in [("operation x outcome", false), ("operation x refusal", true)] {
        let _ = writeln!(text, "{title}");
        for name in OpName::ALL {
            let cells: Vec<String> = coverage
                .iter()
                .filter(|((op, label), _)| op == name && is_refusal(label) == refusals)
                .map(|((_, label), n)| format!("{label} {n}"))
                .collect();
            let _ = writeln!(text, "  {:<30} {}", name.as_str(), cells.join(", "));
        }
    }
    let _ = writeln!(text, "not met by random sequences");
    for (code, why) in NOT_DRAWN {
        let _ = writeln!(text, "  {:<30} {why}", code.as_str());
    }
    for (name, outcome, why) in SELDOM {
        let _ = writeln!(text, "  {:<30} {why}", format!("{name} {outcome}"));
    }
    text
}
