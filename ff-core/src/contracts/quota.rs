//! Domain quota: `resources.md`, section 2.
