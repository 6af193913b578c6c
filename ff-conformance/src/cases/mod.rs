//! The named cases: one per 'Must hold' sentence of the contract, with expected values written by hand.

use std::pin::Pin;

use crate::stage::Stage;

mod claim;
mod execution;
mod lease;

/// A case under way.
pub type Play<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One 'Must hold' sentence.
pub struct Case {
    /// `domain::operation::sentence`.
    pub name: String,
    /// Plays it; a panic convicts the backend.
    pub run: fn(&Stage) -> Play<'_>,
    /// Whether it needs a damage that only a harness can do.
    pub needs_damage: bool,
}

/// Builds the list of a module's cases: `"operation: sentence" => function`, one per line; after `damage:` those that need
/// a harness that can damage its store.
macro_rules! cases {
    ($domain:literal; $($sentence:literal => $function:ident),* $(,)? $(; damage: $($harmed:literal => $hurt:ident),* $(,)?)?) => {
        pub(super) fn cases() -> Vec<$crate::cases::Case> {
            vec![
                $($crate::cases::case($domain, $sentence, |s| Box::pin($function(s)), false),)*
                $($($crate::cases::case($domain, $harmed, |s| Box::pin($hurt(s)), true),)*)?
            ]
        }
    };
}
pub(crate) use cases;

pub(crate) fn case(domain: &str, sentence: &str, run: fn(&Stage) -> Play<'_>, needs_damage: bool) -> Case {
    let (operation, sentence) = sentence.split_once(": ").unwrap_or(("", sentence));
    Case { name: format!("{domain}::{operation}::{sentence}"), run, needs_damage }
}

/// Every case.
#[must_use]
pub fn all_cases() -> Vec<Case> {
    [execution::cases(), claim::cases(), lease::cases()].into_iter().flatten().collect()
}
