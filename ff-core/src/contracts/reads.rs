//! Domain reads: `resources.md`, section 5.
