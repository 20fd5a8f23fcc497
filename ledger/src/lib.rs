//! The log and its answers.
