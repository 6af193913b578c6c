//! The named cases: one per 'Must hold' sentence of the contract, with expected values written by hand.

use std::pin::Pin;

use crate::harness::{DamageKind, Harness};
use crate::stage::Stage;

mod budget;
mod claim;
mod execution;
mod flow;
mod keystore;
mod lease;
mod maintenance;
mod quota;
mod reads;
mod signal;
mod stream;
mod suspension;

/// A case under way.
pub type Play<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One 'Must hold' sentence.
#[derive(Clone)]
pub struct Case {
    /// `domain::operation::sentence`.
    pub name: String,
    /// Plays it; a panic convicts the backend.
    pub run: fn(&Stage) -> Play<'_>,
    /// The kinds of damage that it brings about, which only a harness can do.
    pub needs: &'static [DamageKind],
}

impl Case {
    /// Whether the harness can do the damage that the case needs.
    #[must_use]
    pub fn can_run_on<H: Harness>(&self, harness: &H) -> bool {
        self.needs.iter().all(|kind| harness.can_damage(*kind))
    }
}

/// Builds the list of a module's cases: `"operation: sentence" => function`, one per line; after `damage:` those that need
/// a harness that can damage its store, each followed by the kinds it needs: `[Unreadable, Readable]`, or by none, which
/// means all.
macro_rules! cases {
    ($domain:literal; $($sentence:literal => $function:ident),* $(,)?
        $(; damage: $($harmed:literal => $hurt:ident $([$($kind:ident),+])?),* $(,)?)?) => {
        pub(super) fn cases() -> Vec<$crate::cases::Case> {
            vec![
                $($crate::cases::case($domain, $sentence, |s| Box::pin($function(s)), &[]),)*
                $($($crate::cases::case(
                    $domain,
                    $harmed,
                    |s| Box::pin($hurt(s)),
                    $crate::cases::needed!($([$($kind),+])?),
                ),)*)?
            ]
        }
    };
}
pub(crate) use cases;

macro_rules! needed {
    () => {
        $crate::harness::DamageKind::ALL
    };
    ([$($kind:ident),+]) => {
        &[$($crate::harness::DamageKind::$kind),+]
    };
}
pub(crate) use needed;

pub(crate) fn case(domain: &str, sentence: &str, run: fn(&Stage) -> Play<'_>, needs: &'static [DamageKind]) -> Case {
    let (operation, sentence) = sentence.split_once(": ").unwrap_or(("", sentence));
    Case { name: format!("{domain}::{operation}::{sentence}"), run, needs }
}

/// Every case.
#[must_use]
pub fn all_cases() -> Vec<Case> {
    [
        execution::cases(),
        claim::cases(),
        lease::cases(),
        suspension::cases(),
        signal::cases(),
        keystore::cases(),
        budget::cases(),
        quota::cases(),
        stream::cases(),
        flow::cases(),
        reads::cases(),
        maintenance::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
