//! Calls and answers in short, for people: what is absent or usual is left out, and ids are named by what they name.
//!
//! The ids of the random tier's pools read `execution#3`, `lease#12`; any other uuid is cut to its first eight digits.

use std::fmt::Write as _;

use ff_backend_memory::Model;
use ff_core::bounds::Deployment;
use ff_core::error::EngineError;
use ff_core::operation::{Operation, Outcome};
use ff_core::policy::ExecutionPolicy;
use serde_json::Value;

use crate::random::{Call, Disagreement};
use crate::stage::START_MS;

/// A table of the calls that show a disagreement: step, clock, what was asked and what was answered; the last row has
/// what was expected and what came.
#[must_use]
pub fn table(calls: &[Call], found: &Disagreement) -> String {
    let mut model = Model::new(Deployment::default());
    let mut text = String::from("  step  clock  call, and the answer that both gave\n");
    let agreed = found.step.min(calls.len());
    for (at, call) in calls.iter().take(agreed).enumerate() {
        let answered = answer(&model.apply(call.at, &call.operation));
        let clock = call.at.as_millis();
        let _ = writeln!(text, "  {at:>4}  {:>5}  {}", elapsed(clock), operation(&call.operation));
        let _ = writeln!(text, "               -> {answered}");
    }
    let last = if found.step < calls.len() { "" } else { "  (asked after the sequence)" };
    let _ = writeln!(text, "  {:>4}  {:>5}  {}{last}", found.step, elapsed(found.clock.as_millis()), {
        operation(&found.asked)
    });
    let _ = writeln!(text, "      expected -> {}", found.expected);
    let _ = writeln!(text, "      actual   -> {}", found.actual);
    let _ = writeln!(text, "  (the clock shows milliseconds since the sequence began at {START_MS})");
    text
}

fn elapsed(clock: u64) -> String {
    match clock.checked_sub(START_MS) {
        Some(ms) => format!("+{ms}"),
        None => format!("-{}", START_MS - clock),
    }
}

/// An operation with its arguments.
pub(crate) fn operation(operation: &Operation) -> String {
    let value = serde_json::to_value(operation).unwrap_or_default();
    let args = value.get("args").map(inner).unwrap_or_default();
    format!("{} {}", operation.name(), named(&args))
}

/// What an operation answered.
pub(crate) fn answer(answer: &Result<Outcome, EngineError>) -> String {
    match answer {
        Ok(outcome) => {
            let value = serde_json::to_value(outcome).unwrap_or_default();
            named(&value.get("result").map(inner).unwrap_or_default())
        }
        Err(EngineError::Refused(refusal)) => named(&format!("refused, {refusal}")),
        Err(other) => named(&other.to_string()),
    }
}

/// Two answers that differ, in short; in full where the short forms are the same.
pub(crate) fn answers(one: &Result<Outcome, EngineError>, other: &Result<Outcome, EngineError>) -> (String, String) {
    let short = (answer(one), answer(other));
    if short.0 == short.1 { (format!("{one:?}"), format!("{other:?}")) } else { short }
}

/// The fields of an object side by side; anything else as it is.
fn inner(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, v)| !is_nothing(v)).map(|(key, value)| match key.as_str() {
                "policy" => format!("policy={}", one(&beside(value, &usual_policy()))),
                // The derived label says what the six dimensions say.
                "state_vector" => match value.get("public_state") {
                    Some(label) => format!("state={}", one(label)),
                    None => format!("{key}={}", one(value)),
                },
                _ => format!("{key}={}", one(value)),
            });
            let fields: Vec<String> = fields.filter(|f| f != "policy={}").collect();
            if fields.is_empty() { "-".to_owned() } else { fields.join(" ") }
        }
        other => one(other),
    }
}

fn one(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.values().all(is_nothing) => "{}".to_owned(),
        Value::Object(_) => format!("{{{}}}", inner(value)),
        other => other.to_string(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn usual_policy() -> Value {
    serde_json::to_value(ExecutionPolicy::default()).unwrap_or_default()
}

/// What is said beside what is usual.
fn beside(value: &Value, usual: &Value) -> Value {
    match (value, usual) {
        (Value::Object(map), Value::Object(known)) => {
            let differing = map.iter().filter(|(key, value)| known.get(*key) != Some(value));
            let nothing = Value::Null;
            Value::Object(differing.map(|(k, v)| (k.clone(), beside(v, known.get(k).unwrap_or(&nothing)))).collect())
        }
        _ => value.clone(),
    }
}

/// The words of the pools' first bytes.
const POOLS: [&str; 10] =
    ["", "execution", "flow", "lease", "attempt", "waitpoint", "edge", "suspension", "signal", "unknown"];

/// A text with its uuids named.
fn named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = (0..rest.len()).find(|at| uuid_at(rest, *at).is_some()) {
        let (before, from) = rest.split_at(at);
        let uuid = uuid_at(rest, at).unwrap_or_default();
        let name = pool_name(uuid);
        // `e3_` and `f3_` say the partition, which a sequence has only one of.
        let before = match (&name, before.rsplit_once(['e', 'f'])) {
            (Some(_), Some((stem, tail)))
                if tail.strip_suffix('_').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) =>
            {
                stem
            }
            _ => before,
        };
        out.push_str(before);
        out.push_str(&name.unwrap_or_else(|| format!("{}..", &uuid[..8])));
        rest = &from[36..];
    }
    out.push_str(rest);
    out
}

fn uuid_at(text: &str, at: usize) -> Option<&str> {
    let uuid = text.get(at..at + 36)?;
    let fits = uuid.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
    });
    fits.then_some(uuid)
}

fn pool_name(uuid: &str) -> Option<String> {
    let tag: usize = uuid[..2].parse().ok()?;
    let word = POOLS.get(tag).filter(|word| !word.is_empty())?;
    if &uuid[2..28] != "000000-0000-7000-8000-0000" {
        return None;
    }
    Some(format!("{word}#{}", u32::from_str_radix(&uuid[28..], 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_pools_are_named_and_others_cut() {
        assert_eq!(
            named("at e3_01000000-0000-7000-8000-00000000000a of f3_02000000-0000-7000-8000-000000000001."),
            "at execution#10 of flow#1."
        );
        assert_eq!(named("the 01890a5d-ac96-774b-bcce-b302099a8057 one"), "the 01890a5d.. one");
        assert_eq!(named("no id in here"), "no id in here");
    }

    #[test]
    fn what_is_usual_or_absent_is_left_out() {
        let value = serde_json::json!({"a": null, "b": [], "c": 1, "d": {"e": null}, "f": {"g": "h", "i": false}});
        assert_eq!(inner(&value), "c=1 d={} f={g=h i=false}");
        let policy = serde_json::json!({"policy": usual_policy(), "kind": "job"});
        assert_eq!(inner(&policy), "kind=job");
    }
}
