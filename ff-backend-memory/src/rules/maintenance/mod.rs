//! Domain maintenance: `resources.md`, section 7.

mod rebuild;
mod sweep;

pub use rebuild::rebuild_indexes;
pub use sweep::sweep;
pub(crate) use sweep::sweep_within;
