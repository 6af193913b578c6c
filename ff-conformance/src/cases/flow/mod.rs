//! Domain flow.
//!
//! A sentence of the flow page is a case of this domain also where its operation is another domain's: the page has one
//! domain.

mod cancel;
mod cascade;
mod create;
mod edges;
mod fanout;
mod join;
mod purge;
mod reads;
mod replay;
mod resolve;
mod submit;
mod waiting;

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    [
        create::cases(),
        submit::cases(),
        join::cases(),
        edges::cases(),
        resolve::cases(),
        cascade::cases(),
        fanout::cases(),
        waiting::cases(),
        cancel::cases(),
        replay::cases(),
        reads::cases(),
        purge::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
