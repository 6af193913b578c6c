//! Domain reads, and the decoders of stored records.

use super::Case;

mod decode;
mod execution;
mod list;
mod stored;

pub(super) fn cases() -> Vec<Case> {
    [execution::cases(), list::cases(), decode::cases()].into_iter().flatten().collect()
}
