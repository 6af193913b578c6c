//! Programs live in this package's `examples` folder.
