//! Payloads about looking again at what a run left behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::RunId;

/// `container.late_written`: the retired system made items in a place after a run had deleted its own there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateWritten {
    /// The run that deleted.
    pub run: RunId,
    /// The place as the outside system writes it.
    pub place: String,
    /// What it made.
    pub items: Vec<LateItem>,
}

/// One item that the retired system made too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateItem {
    /// Its id.
    pub item: String,
    /// When it was made, by the outside system.
    pub written_at: String,
}

/// How good an observation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The run says so itself.
    Reported,
    /// It was looked at again.
    Observed,
    /// It was looked at again by a person who recorded nothing in the run, with credentials of their own.
    Independent,
}

impl Grade {
    /// Its name in entries and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Observed => "observed",
            Self::Independent => "independent",
        }
    }
}
