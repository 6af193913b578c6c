//! Domain execution.

mod change;
mod create;
mod end;
mod pause;
mod replay;

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    [create::cases(), end::cases(), pause::cases(), replay::cases(), change::cases()].into_iter().flatten().collect()
}
