//! Domain stream.

use super::Case;

mod append;
mod cursor;
mod read;
mod tail;

pub(super) fn cases() -> Vec<Case> {
    [append::cases(), read::cases(), tail::cases(), cursor::cases()].into_iter().flatten().collect()
}
