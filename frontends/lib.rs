//! Fornax.
