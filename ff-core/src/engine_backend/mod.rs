//! The trait that a backend implements, domain by domain. Its documentation is the contract that implementers read.
//!
//! Every method follows one template: what it does in a sentence; `# Behavior`; `# Refuses` (a refusal changes
//! nothing); `# Repeats` (what a second identical call answers); `# Cost`.

mod claim;
mod execution;
mod flow;
mod lease;

pub use claim::ClaimOps;
pub use execution::ExecutionOps;
pub use flow::FlowOps;
pub use lease::LeaseOps;
