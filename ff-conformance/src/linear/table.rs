//! A history as a table for people.

use std::fmt::{Debug, Write as _};

use super::{Call, Shortened, Verdict};

/// Longer texts are cut here: what was asked and answered is told apart long before.
const WIDE: usize = 900;

fn cut(text: &impl Debug) -> String {
    let text = format!("{text:?}");
    match text.char_indices().nth(WIDE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The calls by invocation: client, when invoked and returned, what was asked and answered; then the longest order that
/// explains a part of them, and what should have been answered next.
#[must_use]
pub fn table<O: Debug, R: Debug>(shortened: &Shortened<O, R>) -> String {
    let Shortened { calls, left_out, verdict } = shortened;
    let mut text = String::new();
    let _ = writeln!(text, "{} calls contradict each other; {left_out} that do not matter are left out", calls.len());
    let _ = writeln!(text, "  call  client  invoked  returned  operation -> outcome");
    for (at, Call { client, invoked, operation, answer, .. }) in calls.iter().enumerate() {
        let (returned, outcome) = match answer {
            Some((returned, outcome)) => (returned.to_string(), cut(outcome)),
            None => ("never".to_owned(), "unknown".to_owned()),
        };
        let _ = writeln!(text, "  {at:>4}  {client:>6}  {invoked:>7}  {returned:>8}  {}", cut(operation));
        let _ = writeln!(text, "{:>35}-> {outcome}", "");
    }
    if let Verdict::Not(stuck) = verdict {
        let order: Vec<String> = stuck.prefix.iter().map(ToString::to_string).collect();
        let order = if order.is_empty() { "none".to_owned() } else { order.join(", ") };
        let _ = writeln!(text, "the longest order that explains them: {order}");
        for (at, expected) in &stuck.next {
            let _ = writeln!(text, "  then call {at} would have been answered {}", cut(expected));
        }
    }
    text
}
