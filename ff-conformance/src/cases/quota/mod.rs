//! Domain quota, and admission from end to end.

use super::Case;

mod admission;
mod check;
mod release;

pub(super) fn cases() -> Vec<Case> {
    [check::cases(), release::cases(), admission::cases()].into_iter().flatten().collect()
}
