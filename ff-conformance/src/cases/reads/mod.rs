//! Domain reads, and the decoders of stored records.

use super::Case;

mod execution;
mod list;

pub(super) fn cases() -> Vec<Case> {
    [execution::cases(), list::cases()].into_iter().flatten().collect()
}
