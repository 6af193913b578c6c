//! Resume conditions: what must arrive before a suspended attempt goes on. `suspension.md`, section 2.
//!
//! A condition is a small tree. Its leaves collect signals, each on its own; `all_of` and `any_of` combine them. It
//! is one JSON document with one compact form, judged by one pure function, [`evaluate`], whose one-by-one form is the
//! [`Evaluator`].
//!
//! ```
//! use ff_core::condition::{Condition, Distinct, Matcher, ResumeCondition};
//!
//! // The tests have passed, and two different people have approved with tokens of their own.
//! let condition = ResumeCondition::all_of([
//!     Condition::signal("tests_passed"),
//!     Condition::count(2, Distinct::Sources, Matcher::named("approve").source_type("human")),
//! ]);
//! assert_eq!(
//!     condition.to_json(),
//!     r#"{"version":1,"root":{"type":"all_of","of":[{"type":"signal","matcher":{"name":"tests_passed"}},{"type":"count","n":2,"distinct":"sources","matcher":{"name":"approve","source_type":"human"}}]}}"#
//! );
//! assert_eq!(ResumeCondition::from_json(condition.to_json())?, condition);
//! # Ok::<(), ff_core::condition::InvalidConditionJson>(())
//! ```

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::canon::{Canon, Canonical};
use crate::ids::{SignalId, SuspensionId, WaitpointId};
use crate::word_enum;

mod evaluate;
mod tree;
mod validate;

#[cfg(test)]
mod tests;

pub use evaluate::{Evaluation, Evaluator, LeafProgress, SignalView, evaluate};
pub use validate::{
    MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH, MAX_CONDITION_NODES, MAX_COUNT, validate_form, validate_policy,
    validate_sources,
};

word_enum! {
    /// What a count counts apart.
    pub enum Distinct {
        /// Waitpoints.
        Waitpoints = "waitpoints",
        /// Signals.
        Signals = "signals",
        /// Sources, as pairs.
        Sources = "sources",
    }
}

/// Reads a field that is present: `null` is not another way to leave it out.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Which signals a leaf accepts: every given field must be equal, byte by byte.
///
/// [`Matcher::any`] accepts every signal; a name alone converts from its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The signal's name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its category.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its source's type.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// Its correlation id; a signal without one is not accepted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Whether a source-bound token is demanded; absent is true under `distinct: sources`, else false.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub authenticated_source: Option<bool>,
}

impl Matcher {
    /// Every signal.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// The signals of this name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Of them those of this category.
    #[must_use]
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = Some(category.into());
        self
    }

    /// Of them those whose source has this type.
    #[must_use]
    pub fn source_type(mut self, source_type: impl Into<String>) -> Self {
        self.source_type = Some(source_type.into());
        self
    }

    /// Of them those with this correlation id.
    #[must_use]
    pub fn correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// Says whether the sender must hold a token that is bound to it.
    #[must_use]
    pub const fn authenticated_source(mut self, demanded: bool) -> Self {
        self.authenticated_source = Some(demanded);
        self
    }
}

impl From<&str> for Matcher {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<String> for Matcher {
    fn from(name: String) -> Self {
        Self::named(name)
    }
}

/// One node of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// One matching signal.
    Signal {
        /// Which; absent is any.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        matcher: Option<Matcher>,
        /// On which waitpoint; absent is any bound one.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        waitpoint: Option<WaitpointId>,
    },
    /// `n` matching signals that differ.
    Count {
        /// How many, `1..=1000`.
        n: u32,
        /// In what they differ.
        distinct: Distinct,
        /// Which; absent is any.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        matcher: Option<Matcher>,
        /// On which waitpoints; absent is all bound ones.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        waitpoints: Option<Vec<WaitpointId>>,
    },
    /// Every child.
    AllOf {
        /// The children.
        of: Vec<Condition>,
    },
    /// Some child.
    AnyOf {
        /// The children.
        of: Vec<Condition>,
    },
    /// No signal satisfies it; only as the root.
    OperatorOnly {},
    /// Only its time ends it; only as the root.
    TimeoutOnly {},
}

/// A matcher that accepts everything is left out.
fn unless_any(matcher: impl Into<Matcher>) -> Option<Matcher> {
    Some(matcher.into()).filter(|matcher| *matcher != Matcher::default())
}

impl Condition {
    /// One signal that the matcher (or the name) accepts, on any bound waitpoint.
    #[must_use]
    pub fn signal(matcher: impl Into<Matcher>) -> Self {
        Self::Signal { matcher: unless_any(matcher), waitpoint: None }
    }

    /// One signal that the matcher (or the name) accepts, on this waitpoint.
    #[must_use]
    pub fn signal_at(waitpoint: WaitpointId, matcher: impl Into<Matcher>) -> Self {
        Self::Signal { matcher: unless_any(matcher), waitpoint: Some(waitpoint) }
    }

    /// One signal, whichever.
    #[must_use]
    pub fn any_signal() -> Self {
        Self::signal(Matcher::any())
    }

    /// `n` signals that the matcher (or the name) accepts and that differ in what `distinct` says, on any bound
    /// waitpoints. `n` is `1..=1000`.
    #[must_use]
    pub fn count(n: u32, distinct: Distinct, matcher: impl Into<Matcher>) -> Self {
        Self::Count { n, distinct, matcher: unless_any(matcher), waitpoints: None }
    }

    /// [`count`](Self::count) on these waitpoints.
    #[must_use]
    pub fn count_at(
        waitpoints: impl IntoIterator<Item = WaitpointId>,
        n: u32,
        distinct: Distinct,
        matcher: impl Into<Matcher>,
    ) -> Self {
        let waitpoints = Some(waitpoints.into_iter().collect());
        Self::Count { n, distinct, matcher: unless_any(matcher), waitpoints }
    }

    /// Every one of these.
    #[must_use]
    pub fn all_of(of: impl IntoIterator<Item = Self>) -> Self {
        Self::AllOf { of: of.into_iter().collect() }
    }

    /// At least one of these.
    #[must_use]
    pub fn any_of(of: impl IntoIterator<Item = Self>) -> Self {
        Self::AnyOf { of: of.into_iter().collect() }
    }

    /// The children of a combining node.
    fn children(&self) -> &[Self] {
        match self {
            Self::AllOf { of } | Self::AnyOf { of } => of,
            Self::Signal { .. } | Self::Count { .. } | Self::OperatorOnly {} | Self::TimeoutOnly {} => &[],
        }
    }

    /// Whether only something else than a signal ends it.
    const fn is_root_only(&self) -> bool {
        matches!(self, Self::OperatorOnly {} | Self::TimeoutOnly {})
    }
}

/// A condition document, version 1.
///
/// It holds any tree; [`validate_form`] and its sisters tell which may be suspended on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeCondition {
    /// The document's version: 1.
    pub version: u32,
    /// The whole condition.
    pub root: Condition,
}

/// A text that is no condition document.
#[derive(Debug, thiserror::Error)]
#[error("not a resume condition: {0}")]
pub struct InvalidConditionJson(#[from] serde_json::Error);

impl ResumeCondition {
    /// The version that this build writes and reads.
    pub const VERSION: u32 = 1;

    /// The document with this root.
    #[must_use]
    pub const fn new(root: Condition) -> Self {
        Self { version: Self::VERSION, root }
    }

    /// Resumes on one signal that the matcher (or the name) accepts.
    ///
    /// ```
    /// use ff_core::condition::{Matcher, ResumeCondition};
    ///
    /// let approved = ResumeCondition::signal("approve");
    /// let approved_by_alice = ResumeCondition::signal(Matcher::named("approve").authenticated_source(true));
    /// # assert_ne!(approved, approved_by_alice);
    /// ```
    #[must_use]
    pub fn signal(matcher: impl Into<Matcher>) -> Self {
        Self::new(Condition::signal(matcher))
    }

    /// Resumes on the first signal, whichever.
    #[must_use]
    pub fn any_signal() -> Self {
        Self::new(Condition::any_signal())
    }

    /// Resumes on `n` signals that the matcher (or the name) accepts and that differ in what `distinct` says.
    #[must_use]
    pub fn count(n: u32, distinct: Distinct, matcher: impl Into<Matcher>) -> Self {
        Self::new(Condition::count(n, distinct, matcher))
    }

    /// Resumes when every one of these is met.
    #[must_use]
    pub fn all_of(of: impl IntoIterator<Item = Condition>) -> Self {
        Self::new(Condition::all_of(of))
    }

    /// Resumes when at least one of these is met.
    #[must_use]
    pub fn any_of(of: impl IntoIterator<Item = Condition>) -> Self {
        Self::new(Condition::any_of(of))
    }

    /// Resumes by an operator alone; signals are recorded and change nothing.
    #[must_use]
    pub const fn operator_only() -> Self {
        Self::new(Condition::OperatorOnly {})
    }

    /// Waits for its timeout; signals are recorded and change nothing.
    #[must_use]
    pub const fn timeout_only() -> Self {
        Self::new(Condition::TimeoutOnly {})
    }

    /// Reads JSON strictly: unknown and repeated fields are refused, and so is `null` for an option that is left out.
    ///
    /// # Errors
    /// The text is no condition document, or nested deeper than `serde_json` reads (128).
    pub fn from_json(text: impl AsRef<[u8]>) -> Result<Self, InvalidConditionJson> {
        Ok(serde_json::from_slice(text.as_ref())?)
    }

    /// The compact JSON: the one form in records, digests and size limits.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and lists always serialise")
    }
}

impl From<Condition> for ResumeCondition {
    fn from(root: Condition) -> Self {
        Self::new(root)
    }
}

impl Canon for ResumeCondition {
    /// In digests a condition is its compact JSON.
    fn canon(&self, out: &mut Canonical) {
        out.field(self.to_json().as_bytes());
    }
}

/// The id of the signal that the engine records when a suspension's time is over: the suspension's id with the version
/// digit 8, and with the last bit flipped for the second timeout, the one after an escalation.
///
/// ```
/// use ff_core::condition::timeout_signal_id;
///
/// let suspension = "01890a5d-ac96-774b-bcce-b302099a8057".parse()?;
/// assert_eq!(timeout_signal_id(suspension, false).to_string(), "01890a5d-ac96-874b-bcce-b302099a8057");
/// assert_eq!(timeout_signal_id(suspension, true).to_string(), "01890a5d-ac96-874b-bcce-b302099a8056");
/// # Ok::<(), ff_core::ids::InvalidId>(())
/// ```
#[must_use]
pub const fn timeout_signal_id(suspension_id: SuspensionId, after_escalation: bool) -> SignalId {
    let mut bytes = *suspension_id.uuid().as_bytes();
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[15] ^= after_escalation as u8;
    SignalId::from_uuid(Uuid::from_bytes(bytes))
}
