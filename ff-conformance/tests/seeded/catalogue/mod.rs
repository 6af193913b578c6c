//! The catalogue: lies that real systems have told, domain by domain.

mod budget;
mod claim;
mod execution;
mod flow;
mod keystore;
mod lease;
mod maintenance;
mod prelude;
mod quota;
mod reads;
mod signal;
mod stream;
mod suspension;

use crate::scene::Bug;

/// Every seeded bug.
pub(crate) fn all() -> Vec<&'static Bug> {
    [
        execution::BUGS,
        claim::BUGS,
        lease::BUGS,
        suspension::BUGS,
        signal::BUGS,
        keystore::BUGS,
        flow::BUGS,
        budget::BUGS,
        quota::BUGS,
        stream::BUGS,
        reads::BUGS,
        maintenance::BUGS,
    ]
    .into_iter()
    .flatten()
    .collect()
}
