//! The trickiest rules of flows, driven on a partition directly. Expected values are worked out by hand from the contract.
