//! Resume conditions: what must arrive before a suspended attempt goes on. `suspension.md`, section 2.

use serde::{Deserialize, Serialize};

use crate::ids::WaitpointId;
use crate::word_enum;

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

/// Which signals a leaf accepts: every given field must be equal, byte by byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The signal's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its source's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// Its correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Whether a source-bound token is demanded; absent is true under `distinct: sources`, else false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated_source: Option<bool>,
}

/// One node of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// One matching signal.
    Signal {
        /// Which; absent is any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        matcher: Option<Matcher>,
        /// On which waitpoint; absent is any bound one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waitpoint: Option<WaitpointId>,
    },
    /// `n` matching signals that differ.
    Count {
        /// How many, `1..=1000`.
        n: u32,
        /// In what they differ.
        distinct: Distinct,
        /// Which; absent is any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        matcher: Option<Matcher>,
        /// On which waitpoints; absent is all bound ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// A condition document, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeCondition {
    /// The document's version: 1.
    pub version: u32,
    /// The whole condition.
    pub root: Condition,
}
