//! Domain maintenance.

use super::Case;

mod purge;
mod rebuild;
mod sweep;

pub(super) fn cases() -> Vec<Case> {
    [sweep::cases(), purge::cases(), rebuild::cases()].into_iter().flatten().collect()
}
