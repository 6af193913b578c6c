//! Domain budget: `resources.md`, section 1.

use crate::word_enum;

word_enum! {
    /// Whether an exhausted budget denies admission.
    pub enum Enforcement {
        /// It does.
        Strict = "strict",
        /// It never does; reports and breaches are the same.
        Advisory = "advisory",
    }
}

word_enum! {
    /// How usage is reported.
    pub enum ReportMode {
        /// It has happened: always added.
        Record = "record",
        /// It may happen: added only if no hard limit breaks.
        Reserve = "reserve",
    }
}

/// The limits of one dimension; an absent one does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Usage above it is a hard breach; `1..=2^53-1`.
    pub hard: Option<u64>,
    /// Usage above it is a soft breach; at most the hard one.
    pub soft: Option<u64>,
}

impl crate::canon::Canon for Limits {
    fn canon(&self, out: &mut crate::canon::Canonical) {
        out.put(&self.hard).put(&self.soft);
    }
}
