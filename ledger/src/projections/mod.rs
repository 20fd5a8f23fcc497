//! Answers: folded from the log, and from nothing else.
//!
//! A projection takes in one decoded entry after the other and does nothing but count and remember, so that the same
//! log gives the same answer and every answer can be asked as of an earlier entry. What cannot be read is handed to it
//! too, by name: a projection that skips something says so.

pub mod approve;
pub mod custody;
pub mod decide;
pub mod deletions;
pub mod erasure;
pub mod explain;
pub mod fold;
pub mod loss;
mod names;
pub mod overlay;
pub mod plan;
mod progress;
pub mod report;
pub mod restore;
pub mod sample;
pub mod sign_off;
#[cfg(test)]
mod testing;
