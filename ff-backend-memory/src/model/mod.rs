//! The state as plain data: ordered maps of records, no clock, no randomness, no locks.

mod backlog;
mod budget;
mod execution;
mod graph;
mod partition;
mod queue;
mod quota;
pub mod snapshot;
mod timer;
mod whole;

pub use backlog::{Cursor, Fifo, Item, ItemKey, Subject};
pub use budget::{Budget, Memory, Remembered};
pub use execution::{Execution, History, SignalKey, Stream};
pub use graph::Graph;
pub(crate) use partition::{Held, corrupt, corrupt_execution};
pub use partition::{KeyOwner, Keystore, LaneCounts, Partition, Remains, Wakes};
pub use queue::{Queues, ReadyKey, SetQueues};
pub use quota::{Quota, Slot, Slots, Waiter, Waiters, Window};
pub use snapshot::Snapshot;
pub use timer::{TimerKey, TimerOf};
pub use whole::Model;
