//! What training stands on: photos in folders.
//!
//! ```text
//! photos/CLASS/… ── dataset ──▶ classes, photos of the training and the validation half ── check ──▶ broken files, duplicates, leaks
//! ```

pub mod dataset;
