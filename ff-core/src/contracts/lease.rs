//! Domain lease: `execution.md`, section 6.
