//! Domain suspension.

mod buffered;
mod resume;
mod suspend;
mod timeout;
mod waitpoint;

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    [suspend::cases(), buffered::cases(), resume::cases(), waitpoint::cases(), timeout::cases()]
        .into_iter()
        .flatten()
        .collect()
}
