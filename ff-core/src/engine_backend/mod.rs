//! The trait that a backend implements, domain by domain. Its documentation is the contract that implementers read.
//!
//! Every method follows one template: what it does in a sentence; `# Behavior`; `# Refuses` (a refusal changes
//! nothing); `# Repeats` (what a second identical call answers); `# Cost`.
//!
//! A backend implements the domain traits and [`Host`]; [`EngineBackend`] follows. `Arc<dyn EngineBackend>` is the
//! normal way to hold one; a component that only renews can ask for `Arc<dyn LeaseOps>`.

mod budget;
mod claim;
mod execution;
mod flow;
mod host;
mod keystore;
mod lease;
mod maintenance;
mod quota;
mod reads;
mod signal;
mod stream;
mod suspension;

pub use budget::BudgetOps;
pub use claim::ClaimOps;
pub use execution::ExecutionOps;
pub use flow::FlowOps;
pub use host::{Durability, Health, Host};
pub use keystore::KeystoreOps;
pub use lease::LeaseOps;
pub use maintenance::MaintenanceOps;
pub use quota::QuotaOps;
pub use reads::ReadsOps;
pub use signal::SignalOps;
pub use stream::StreamOps;
pub use suspension::SuspensionOps;

macro_rules! supertrait {
    ($($domain:ident: $Trait:ident { $($rest:tt)* })*) => {
        /// An engine for durable, interruptible work: all operations of the contract, and the [`Host`] around them.
        pub trait EngineBackend: $($Trait +)* Host {}
        impl<T: ?Sized + $($Trait +)* Host> EngineBackend for T {}
    };
}
crate::operations!(supertrait);
