//! The log and its answers.

#[cfg(feature = "store")]
pub mod store;
