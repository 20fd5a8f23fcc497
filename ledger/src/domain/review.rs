//! What persons decide and sign in a review.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::id::RunId;
use super::identify::Disposition;

/// Longest text of a person that stays in the log for ever, in characters.
pub const KEPT_CHARS_MAX: usize = 500;

/// Whether a person's text may stay in the log for ever: it is read by whomever it is about too, so there is no address in it.
pub fn may_be_kept(text: &str) -> bool {
    (1..=KEPT_CHARS_MAX).contains(&text.chars().count()) && !text.contains('@')
}

/// What a person decides about an item that was held.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It goes, once the plan with this decision is approved.
    Delete,
    /// It stays, whatever a later plan makes of it.
    Keep,
}

impl Decision {
    /// The name used in entries and in the digest of decisions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }

    /// The disposition that it gives the item in the plan that is made of it.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Delete => Disposition::Delete,
            Self::Keep => Disposition::Protect,
        }
    }

    /// Whether it may be taken about an item that the plan below has with this disposition. What is to be deleted there and
    /// was held at the moment of deletion may be kept; its version is no longer the one that was reviewed, so it may not go.
    pub fn may_follow(self, disposition: Disposition) -> bool {
        match self {
            Self::Delete => disposition == Disposition::Hold,
            Self::Keep => matches!(disposition, Disposition::Hold | Disposition::Delete),
        }
    }
}

/// `item.decided`: a person decided about an item that was held. It counts once a plan is sealed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemDecided {
    /// The plan that holds it.
    pub plan: Hash,
    /// What was decided.
    pub decision: Decision,
    /// Why, in the person's words.
    pub reason: String,
}

/// `review.signed_off`: a person who did not do the work has looked at what a run did, and closes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewSignedOff {
    /// The run.
    pub run: RunId,
    /// SHA-256 of the statement that was shown, in canonical JSON: each item of the run with its state and the entries that
    /// say so.
    pub statement: Hash,
    /// Items in the statement, by state.
    pub states: BTreeMap<String, u64>,
    /// What the person wants to be known beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// `asserted`: the name was given. `signed`: with the person's own key.
    pub assurance: String,
}
