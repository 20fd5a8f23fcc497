//! What is true of each event of a world, known because the world was made so.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// What kind of item an event is, by the order of the identification rules: the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    /// Recorded, and its account cannot be looked at (dead or unreadable token, disconnected, another account).
    Unreachable,
    /// Recorded, and already gone.
    Gone,
    /// Recorded, and cannot be read.
    Unreadable,
    /// Somebody else's, or of a kind that neither system writes.
    Foreign,
    /// v1's, and v2 relies on it.
    Adopted,
    /// v2's.
    V2Fresh,
    /// v1's, and its user has edited it.
    Edited,
    /// v1's, recorded by it.
    V1Recorded,
    /// v1's, no longer recorded.
    V1Orphan,
    /// A user's own, with the link of a case in it.
    Linked,
    /// A user's own, with a title or words like ours.
    Lookalike,
    /// Nothing that a search would bring up; or where nobody can look.
    NotACandidate,
}

/// What is to be done with an item by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Deleted, once approved.
    Delete,
    /// Left for a person to decide.
    Hold,
    /// Left alone.
    Protect,
    /// Nothing left to do.
    Done,
    /// Cannot be done.
    OutOfReach,
}

impl Class {
    /// The default disposition. An orphan made after v1's freeze is held instead: its [`Truth`] says so.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::V1Recorded | Self::V1Orphan => Disposition::Delete,
            Self::Adopted | Self::Edited | Self::Linked | Self::Unreadable => Disposition::Hold,
            Self::V2Fresh | Self::Lookalike | Self::Foreign | Self::NotACandidate => {
                Disposition::Protect
            }
            Self::Gone => Disposition::Done,
            Self::Unreachable => Disposition::OutOfReach,
        }
    }
}

/// What is true of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// The v1 users who record it, or whose calendar it is on.
    pub users: Vec<String>,
    /// The calendar that has it, or where it is looked for: its account's address. Of an unreachable item the program under
    /// test can know only the user and the event id.
    pub calendar: String,
    /// The event's id.
    pub event_id: String,
    /// Its class.
    pub class: Class,
    /// What is to be done with it by default.
    pub disposition: Disposition,
    /// v1 wrote it.
    pub v1_made: bool,
    /// It is live, and no approved default may delete it.
    pub must_survive: bool,
    /// Its day, where it is a deadline.
    pub deadline: Option<NaiveDate>,
    /// A live v2 event stands for the same deadline.
    pub covered: bool,
    /// In words.
    pub why: String,
}

impl Truth {
    /// Whether an inventory must list it.
    pub fn is_candidate(&self) -> bool {
        self.class != Class::NotACandidate
    }
}
