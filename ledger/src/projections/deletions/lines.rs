//! What the review of deletions says, line by line.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::fold::Decoded;
use super::super::overlay::Decided;
use super::super::plan::Approval;
use crate::domain::custody::{Observation, State, Sums};
use crate::domain::event::{
    BackHow, DeleteFailed, GoneHow, ItemDeleted, ItemRestored, NotGone, RestoreFailed, is_missed,
};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, RunId, Timestamp};
use crate::domain::identify::Disposition;
use crate::domain::review::Decision;

/// An entry to look at: its number and hash are what a proof is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

impl Reference {
    pub(in crate::projections) fn to(decoded: &Decoded) -> Self {
        Self {
            seq: decoded.entry.seq,
            hash: decoded.hash,
            recorded_at: decoded.entry.recorded_at,
        }
    }
}

/// A user through whom an item was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserLine {
    /// The user as a subject.
    pub subject: String,
    /// Id in the retired system.
    pub id: Option<String>,
    /// E-mail address in the retired system.
    pub email: Option<String>,
    /// `reachable`, or why not.
    pub access: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// The entry that tells this: what is copied of it has to be told of when the user is erased.
    #[serde(skip)]
    pub seq: Option<u64>,
}

impl UserLine {
    /// Why the user could not be reached, if so. Who never gave access is not missed.
    pub fn unreachable(&self) -> Option<&str> {
        self.access.as_deref().filter(|access| is_missed(access))
    }
}

/// A sealed plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// Its hash.
    pub plan: Hash,
    /// Who sealed it.
    pub made_by: Actor,
    /// The seal.
    pub sealed: Reference,
    /// Its items.
    pub items: u64,
    /// The plan that it was made of by decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Hash>,
    /// What the search by text would have deleted.
    pub incumbent_would_delete: u64,
    /// How many of these are not the retired system's.
    pub incumbent_not_ours: u64,
    /// Future deadlines to be deleted for which the new system has none.
    pub uncovered: u64,
    /// Its approvals.
    pub approvals: Vec<ApprovalLine>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApprovalLine {
    /// Who approved.
    pub by: Actor,
    /// `asserted` or `signed`.
    pub assurance: String,
    /// Until when something new could be begun under it.
    pub expires_at: Timestamp,
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
}

impl From<&Approval> for ApprovalLine {
    fn from(approval: &Approval) -> Self {
        Self {
            by: approval.person.clone(),
            assurance: approval.assurance.clone(),
            expires_at: approval.expires_at,
            entry: Reference {
                seq: approval.seq,
                hash: approval.hash,
                recorded_at: approval.recorded_at,
            },
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunLine {
    /// The run.
    pub run: RunId,
    /// `dry_run`, `cleanup`, `restore` or `review`.
    pub verb: String,
    /// Who ran it.
    pub by: Actor,
    /// The plan it executes.
    pub plan: Option<Hash>,
    /// Its begin.
    pub started: Reference,
    /// Its end; `None`: it has not finished.
    pub finished: Option<Reference>,
    /// `complete`, `partial` or `stopped`.
    pub status: Option<String>,
    /// Why it ran before its time, where it did.
    pub overrides: Vec<String>,
    /// Who closed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed_off: Vec<SignOffLine>,
}

/// That a person closed a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignOffLine {
    /// Who.
    pub by: Actor,
    /// `asserted` or `signed`.
    pub assurance: String,
    /// What the person wanted to be known beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Digest of the statement that was signed.
    pub statement: Hash,
    /// Whether the statement about the run is another one by now.
    pub changed_since: bool,
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
}

/// What a person decided about an item that was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionLine {
    /// What was decided.
    pub decision: Decision,
    /// Who decided.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The plan that it was taken about.
    pub about: Hash,
    /// The plan that was sealed with it; `None`: it never counted.
    pub plan: Option<Hash>,
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
}

impl From<&Decided> for DecisionLine {
    fn from(decided: &Decided) -> Self {
        Self {
            decision: decided.decision,
            by: decided.by.clone(),
            reason: decided.reason.clone(),
            about: decided.plan,
            plan: None,
            entry: Reference {
                seq: decided.seq,
                hash: decided.hash,
                recorded_at: decided.recorded_at,
            },
        }
    }
}

/// Where the copy of an item lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupLine {
    /// The intent that carries it.
    #[serde(flatten)]
    pub entry: Reference,
    /// SHA-256 that it was stored with.
    pub sha256: Hash,
    /// Whether its bytes give that digest.
    pub is_true: bool,
}

/// What happened to an item last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutcomeLine {
    /// `deleted`, `already_gone`, `gone_cause_unknown`, `changed`, `adopted`, `failed`, `unknown`, or `held`; `restored`,
    /// `already_there` or `not_restored` where it was put back, or was to be.
    pub what: &'static str,
    /// In words, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Found out after a crash or a lost reply, by asking.
    pub recovered: bool,
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
}

impl OutcomeLine {
    pub(in crate::projections) fn deleted(entry: Reference, deleted: &ItemDeleted) -> Self {
        Self {
            what: match deleted.outcome {
                GoneHow::Deleted => "deleted",
                GoneHow::AlreadyGone => "already_gone",
                GoneHow::GoneCauseUnknown => "gone_cause_unknown",
            },
            reason: None,
            status: deleted.status,
            recovered: deleted.recovered,
            entry,
        }
    }

    pub(in crate::projections) fn failed(entry: Reference, failed: &DeleteFailed) -> Self {
        Self {
            what: match failed.outcome {
                NotGone::Changed => "changed",
                NotGone::Adopted => "adopted",
                NotGone::Failed => "failed",
                NotGone::Unknown => "unknown",
            },
            reason: Some(failed.reason.clone()),
            status: failed.status,
            recovered: failed.recovered,
            entry,
        }
    }

    pub(in crate::projections) fn restored(entry: Reference, restored: &ItemRestored) -> Self {
        Self {
            what: match restored.outcome {
                BackHow::Restored => "restored",
                BackHow::AlreadyThere => "already_there",
            },
            reason: None,
            status: restored.status,
            recovered: restored.recovered,
            entry,
        }
    }

    pub(in crate::projections) fn not_restored(entry: Reference, failed: &RestoreFailed) -> Self {
        Self {
            what: "not_restored",
            reason: Some(failed.reason.clone()),
            status: failed.status,
            recovered: failed.recovered,
            entry,
        }
    }
}

/// How an item came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredLine {
    /// Its id there now.
    pub event_id: String,
    /// By which way.
    pub way: String,
    /// It was read back and held against the backup.
    pub verified: bool,
    /// Fields that are not as in the backup although the way can bring them back.
    pub differs: Vec<String>,
    /// Fields that are not as in the backup because the way cannot bring them back.
    pub lost: Vec<String>,
}

impl From<&ItemRestored> for RestoredLine {
    fn from(restored: &ItemRestored) -> Self {
        Self {
            event_id: restored.becomes.clone(),
            way: restored.way.clone(),
            verified: restored.verified,
            differs: restored.differs.clone(),
            lost: restored.lost.clone(),
        }
    }
}

/// That an item's entries were erased with its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasedLine {
    /// Who approved it.
    pub by: Vec<Actor>,
    /// By which law or contract.
    pub legal_basis: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
}

/// One item of the review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemLine {
    /// The item as a subject.
    pub subject: String,
    /// Where it is now.
    pub state: State,
    /// Calendar it lies in.
    pub calendar: Option<String>,
    /// Its id there.
    pub event_id: Option<String>,
    /// Users through whom it was reached.
    pub users: Vec<UserLine>,
    /// Class by the policy.
    pub class: Option<String>,
    /// Disposition by the policy.
    pub disposition: Option<Disposition>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Date of the deadline.
    pub date: Option<String>,
    /// For a future deadline to be deleted: whether the new system has one that stands for it.
    pub covered: Option<bool>,
    /// The signals and conditions that held when it was found, with what they rest on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, Option<String>>,
    /// The plan that names it last.
    pub plan: Option<Hash>,
    /// The entry that found it.
    pub found: Option<Reference>,
    /// Who approved its deletion, where one was begun.
    pub approved: Option<ApprovalLine>,
    /// Where its copy is, where a deletion was begun.
    pub backup: Option<BackupLine>,
    /// Deletions begun.
    pub attempts: u64,
    /// What persons decided about it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<DecisionLine>,
    /// How its deletion ended, or that it was held when its turn came.
    pub outcome: Option<OutcomeLine>,
    /// How the last attempt to put it back ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<OutcomeLine>,
    /// How it came back, where it was put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredLine>,
    /// What a later look showed, without an intent of ours.
    pub observed: Option<Observation>,
    /// It was gone by our hand and is there again, which nothing in the log explains.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub there_again: bool,
    /// The erasure that took it along; then all but its state is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased: Option<ErasedLine>,
}

impl ItemLine {
    /// Of this subject and in this state, and nothing else is known.
    pub(super) fn unknown(subject: String, state: State) -> Self {
        Self {
            subject,
            state,
            calendar: None,
            event_id: None,
            users: Vec::new(),
            class: None,
            disposition: None,
            reason: None,
            date: None,
            covered: None,
            evidence: BTreeMap::new(),
            plan: None,
            found: None,
            approved: None,
            backup: None,
            attempts: 0,
            decisions: Vec::new(),
            outcome: None,
            undo: None,
            restored: None,
            observed: None,
            there_again: false,
            erased: None,
        }
    }
}

/// The review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// Sealed plans, oldest first.
    pub plans: Vec<PlanLine>,
    /// Runs, oldest first.
    pub runs: Vec<RunLine>,
    /// The items per state. Without a filter this is the custody sum, and adds up to what was sealed.
    pub sum: Sums,
    /// Items in `sum`.
    pub total: u64,
    /// The items, by state.
    pub items: Vec<ItemLine>,
    /// The users that were looked for: of the plan or the run that is asked for, where that can be told.
    pub users: Vec<UserLine>,
    /// Of these, those whose items could not be reached.
    pub unreachable: Vec<UserLine>,
    /// Entries about items, plans or approvals that say nothing: the review is not whole.
    pub unreadable: u64,
}
