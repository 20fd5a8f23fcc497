//! The log and its answers.

pub mod domain;
