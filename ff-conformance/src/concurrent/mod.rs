//! The concurrent tier: real clients in parallel on one backend; what they were answered must be what the reference model
//! answers to some order of their calls ([`crate::linear`]).
//!
//! Per history: 6 to 12 clients on a runtime with several threads, 40 to 80 calls on small pools of ids, so that they
//! meet. Clients learn ids that calls need (leases, epochs, tokens) from a world that they share, as answers arrive. Some
//! clients leave before the answer: their call may have happened or not. At the end everything public is read and the
//! indexes are rebuilt: these are calls of the history too, the last ones, so the whole view must be that of the state to
//! which some order leads.
//!
//! **The clock** moves only between phases, when every client has returned. While clients call it stands still: a backend
//! reads it once per call at an instant that nobody outside can see, so a history in which it moved would have to guess for
//! every call which time it saw.
//!
//! **Objects.** An operation is atomic within one partition, budget or quota policy, and each is checked alone: a history is
//! linearizable exactly if it is so for every object (Herlihy and Wing's locality).
//!
//! **What the contract leaves open**, and so is not compared:
//! - `rebuild_indexes`: `examined`, `lane_counts` and the cursor; page boundaries are a backend's own.
//! - `stale_kid` and `keystore_busy`: what a cache of keys answers in a lost race. They say that nothing happened, so the
//!   call is left out of the history.
//! - A signal under a token that was issued to another source, by a kid that was revoked or replaced in this history, which
//!   a process may have cached: `invalid_token` and `token_source_mismatch` both let nobody in.
//! - A transport error that was not applied is left out; one that may have been is a call without an answer.
//!
//! **What must be there** ([`Met`]): a history in which nothing was answered, nothing succeeded or nobody met has always an
//! order. So answers, successes and overlaps are counted, printed, and too few of them fail the trial.

mod draw;
mod judge;
mod meet;
mod play;

pub use draw::{Plan, Theme, draw};
pub use judge::{Judgement, Rules, judge};
pub use meet::Met;
pub use play::{Asked, Record, play};
