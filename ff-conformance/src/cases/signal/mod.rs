//! Domain signal.

mod deliver;
mod limits;
mod list;
mod token;

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    [token::cases(), deliver::cases(), limits::cases(), list::cases()].into_iter().flatten().collect()
}
