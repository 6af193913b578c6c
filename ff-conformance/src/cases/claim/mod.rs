//! Domain claim.

mod by_id;
mod next;

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    [by_id::cases(), next::cases()].into_iter().flatten().collect()
}
