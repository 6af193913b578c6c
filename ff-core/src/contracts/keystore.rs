//! Domain keystore: `suspension.md`, section 6.

use crate::word_enum;

word_enum! {
    /// Which bound on kids.
    pub enum KidLimitScope {
        /// 16 that hold a secret.
        Live = "live",
        /// 10,000 that ever existed.
        Ever = "ever",
    }
}
