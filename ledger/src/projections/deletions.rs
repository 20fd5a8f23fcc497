//! The review of deletions: what was deleted, whose, why it was held to be the retired system's, who approved it, where its
//! backup is and what became of it; and what was left alone, and why.
//!
//! E-mails and ids of the outside stand here as far as the keys at hand open the payloads they came from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::custody::{CALENDAR_KIND, CustodyFold};
use super::fold::{Decoded, Projection};
use super::plan::{Approval, is_true};
use crate::domain::custody::{Observation, State, Sums};
use crate::domain::event::{
    BackHow, DeleteIntended, Event, GoneHow, ItemFound, ItemRestored, NotGone, PlanSealed,
};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, RunId, Subject, Timestamp};
use crate::domain::identify::Disposition;

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
    fn to(decoded: &Decoded) -> Self {
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
    /// `dry_run`, `cleanup` or `restore`.
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
    /// What happened to it last.
    pub outcome: Option<OutcomeLine>,
    /// How it came back, where it was put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredLine>,
    /// What a later look showed, without an intent of ours.
    pub observed: Option<Observation>,
    /// The erasure that took it along; then all but its state is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased: Option<ErasedLine>,
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
    /// Users whose items could not be reached.
    pub unreachable: Vec<UserLine>,
    /// Entries about items, plans or approvals that say nothing: the review is not whole.
    pub unreadable: u64,
}

/// Which part of the review is asked for.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Only items that this run found or worked on.
    pub run: Option<RunId>,
    /// Only items reached through these users.
    pub users: Option<BTreeSet<Subject>>,
}

/// Folds everything that the review tells beside the state of each item.
#[derive(Debug, Default)]
pub struct DeletionsFold {
    waiting: BTreeMap<RunId, Vec<(Subject, Found)>>,
    items: BTreeMap<Subject, Item>,
    users: BTreeMap<Subject, UserLine>,
    plans: Vec<PlanLine>,
    runs: BTreeMap<RunId, RunLine>,
    overrides: BTreeMap<RunId, Vec<String>>,
}

#[derive(Debug)]
struct Found {
    place: String,
    item: String,
    class: String,
    disposition: Disposition,
    reason: String,
    date: Option<String>,
    covered: Option<bool>,
    users: Vec<Subject>,
    entry: Reference,
}

#[derive(Debug, Default)]
struct Item {
    found: Option<(Hash, Found)>,
    runs: BTreeSet<RunId>,
    place: Option<(String, String)>,
    approval: Option<EntryId>,
    backup: Option<BackupLine>,
    attempts: u64,
    outcome: Option<OutcomeLine>,
    restored: Option<RestoredLine>,
    observed: Option<Observation>,
    erased: Option<ErasedLine>,
}

impl Projection for DeletionsFold {
    fn apply(&mut self, decoded: &Decoded) {
        let entry = &decoded.entry;
        if entry.subject.kind() == "user"
            && let Some(id) = &decoded.natural_id
        {
            self.user(&entry.subject).id = Some(id.clone());
        }
        let Ok(event) = &decoded.event else { return };
        match event {
            Event::UserFound(found) => {
                let user = self.user(&entry.subject);
                user.email.clone_from(&found.email);
                user.access = Some(found.access.clone());
                user.reason = Some(found.reason.clone());
            }
            Event::RunStarted(started) => {
                let Some(run) = entry.run else { return };
                let line = RunLine {
                    run,
                    verb: started.verb.clone(),
                    by: entry.actor.clone(),
                    plan: started.plan,
                    started: Reference::to(decoded),
                    finished: None,
                    status: None,
                    overrides: Vec::new(),
                };
                self.runs.entry(run).or_insert(line);
            }
            Event::RunFinished(finished) => {
                if let Some(line) = entry.run.and_then(|run| self.runs.get_mut(&run)) {
                    line.finished = Some(Reference::to(decoded));
                    line.status = Some(finished.status.clone());
                }
            }
            // It comes before the run's first entry, or between two parts of it.
            Event::GateOverridden(gate) => {
                let Some(run) = entry.run else { return };
                let text = format!("{}: {}", gate.gate, gate.reason);
                self.overrides.entry(run).or_default().push(text);
            }
            Event::PlanSealed(sealed) => self.sealed(decoded, sealed),
            Event::SubjectErased(said) => {
                for subject in said.items.keys() {
                    let item = self.items.entry(subject.clone()).or_default();
                    item.erased = Some(ErasedLine {
                        by: said.approved_by.clone(),
                        legal_basis: said.legal_basis.clone(),
                        entry: Reference::to(decoded),
                    });
                }
            }
            _ if entry.subject.kind() == CALENDAR_KIND => self.of_item(decoded, event),
            _ => {}
        }
    }
}

impl DeletionsFold {
    fn user(&mut self, subject: &Subject) -> &mut UserLine {
        let user = self.users.entry(subject.clone()).or_default();
        user.subject = subject.to_string();
        user
    }

    fn sealed(&mut self, decoded: &Decoded, sealed: &PlanSealed) {
        let run = decoded.entry.run;
        self.plans.push(PlanLine {
            plan: sealed.plan,
            made_by: decoded.entry.actor.clone(),
            sealed: Reference::to(decoded),
            items: sealed.items,
            incumbent_would_delete: sealed.incumbent_would_delete,
            incumbent_not_ours: sealed.incumbent_not_ours,
            uncovered: sealed.uncovered,
            approvals: Vec::new(),
        });
        let found = run.and_then(|run| self.waiting.remove(&run));
        for (subject, found) in found.unwrap_or_default() {
            let item = self.items.entry(subject).or_default();
            item.found = Some((sealed.plan, found));
            item.runs.extend(run);
        }
    }

    fn of_item(&mut self, decoded: &Decoded, event: &Event) {
        let subject = &decoded.entry.subject;
        if let Event::ItemFound(found) = event {
            if let Some(run) = decoded.entry.run {
                let found = (subject.clone(), Found::new(decoded, found));
                self.waiting.entry(run).or_default().push(found);
            }
            return;
        }
        let item = self.items.entry(subject.clone()).or_default();
        item.runs.extend(decoded.entry.run);
        let entry = Reference::to(decoded);
        match event {
            Event::ItemDeleteIntended(intent) => item.intended(entry, intent),
            Event::ItemDeleted(deleted) => {
                item.outcome = Some(OutcomeLine {
                    what: match deleted.outcome {
                        GoneHow::Deleted => "deleted",
                        GoneHow::AlreadyGone => "already_gone",
                        GoneHow::GoneCauseUnknown => "gone_cause_unknown",
                    },
                    reason: None,
                    status: deleted.status,
                    recovered: deleted.recovered,
                    entry,
                });
            }
            Event::ItemDeleteFailed(failed) => {
                item.outcome = Some(OutcomeLine {
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
                });
            }
            Event::ItemHeld(held) => {
                item.outcome = Some(OutcomeLine {
                    what: "held",
                    reason: Some(held.reason.clone()),
                    status: None,
                    recovered: false,
                    entry,
                });
            }
            Event::ItemRestored(restored) => {
                item.restored = Some(restored.into());
                item.outcome = Some(OutcomeLine {
                    what: match restored.outcome {
                        BackHow::Restored => "restored",
                        BackHow::AlreadyThere => "already_there",
                    },
                    reason: None,
                    status: restored.status,
                    recovered: restored.recovered,
                    entry,
                });
            }
            Event::ItemRestoreFailed(failed) => {
                item.outcome = Some(OutcomeLine {
                    what: "not_restored",
                    reason: Some(failed.reason.clone()),
                    status: failed.status,
                    recovered: failed.recovered,
                    entry,
                });
            }
            Event::ItemObserved(seen) => item.observed = Some(seen.observation),
            _ => {}
        }
    }

    /// The users whose e-mail, id in the retired system, subject or subject's UUID is this text.
    pub fn users_named(&self, text: &str) -> BTreeSet<Subject> {
        let named = |(subject, user): &(&Subject, &UserLine)| {
            user.email
                .as_deref()
                .is_some_and(|email| email.eq_ignore_ascii_case(text))
                || user.id.as_deref() == Some(text)
                || subject.to_string() == text
                || subject.uuid().as_hyphenated().to_string() == text
        };
        let named = self.users.iter().filter(named);
        named.map(|(subject, _)| subject.clone()).collect()
    }

    /// Whether a run of this id was started.
    pub fn knows_run(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// The review, with the states of `custody`, which was folded over the same entries.
    pub fn review(&self, custody: &CustodyFold, part: &Part) -> Review {
        let none = Item::default();
        let mut items = Vec::new();
        for subject in custody.subjects() {
            let item = self.items.get(subject).unwrap_or(&none);
            if item.is_part(part) {
                let state = custody.state(subject).unwrap_or(State::Unaccounted);
                items.push(self.line(subject, item, state, custody));
            }
        }
        items.sort_by(|a, b| order(a).cmp(&order(b)));
        let whole = part.run.is_none() && part.users.is_none();
        let sum = if whole {
            custody.sums()
        } else {
            let mut sum = Sums::new();
            for item in &items {
                sum.add(item.state, 1);
            }
            sum
        };
        let mut plans = self.plans.clone();
        for (plan, approval) in custody.approvals() {
            for line in plans.iter_mut().filter(|line| line.plan == *plan) {
                line.approvals.push(approval.into());
            }
        }
        let mut runs: Vec<_> = self.runs.values().cloned().collect();
        for line in &mut runs {
            let overrides = self.overrides.get(&line.run);
            line.overrides = overrides.cloned().unwrap_or_default();
        }
        runs.sort_by_key(|run| run.started.seq);
        let unreachable = self.users.iter().filter(|(subject, user)| {
            let asked = part.users.as_ref();
            user.access
                .as_deref()
                .is_some_and(|access| access != "reachable")
                && asked.is_none_or(|asked| asked.contains(subject))
        });
        Review {
            plans,
            runs,
            total: sum.total(),
            sum,
            items,
            unreachable: unreachable.map(|(_, user)| user.clone()).collect(),
            unreadable: custody.unreadable().values().sum(),
        }
    }

    fn line(
        &self,
        subject: &Subject,
        item: &Item,
        state: State,
        custody: &CustodyFold,
    ) -> ItemLine {
        let found = item.found.as_ref().map(|(_, found)| found);
        let place = found
            .map(|found| (found.place.clone(), found.item.clone()))
            .or_else(|| item.place.clone());
        let users = found
            .map(|found| found.users.as_slice())
            .unwrap_or_default();
        let user = |subject: &Subject| {
            self.users.get(subject).cloned().unwrap_or(UserLine {
                subject: subject.to_string(),
                ..UserLine::default()
            })
        };
        let approved = item.approval.and_then(|id| custody.approval(id));
        ItemLine {
            subject: subject.to_string(),
            state,
            calendar: place.as_ref().map(|(place, _)| place.clone()),
            event_id: place.map(|(_, id)| id),
            users: users.iter().map(user).collect(),
            class: found.map(|found| found.class.clone()),
            disposition: found.map(|found| found.disposition),
            reason: found.map(|found| found.reason.clone()),
            date: found.and_then(|found| found.date.clone()),
            covered: found.and_then(|found| found.covered),
            plan: item.found.as_ref().map(|(plan, _)| *plan),
            found: found.map(|found| found.entry.clone()),
            approved: approved.map(|(_, approval)| approval.into()),
            backup: item.backup.clone(),
            attempts: item.attempts,
            outcome: item.outcome.clone(),
            restored: item.restored.clone(),
            observed: item.observed,
            erased: item.erased.clone(),
        }
    }
}

/// By state, then by user, calendar and date, as a person reads it.
fn order(item: &ItemLine) -> (State, Option<&str>, Option<&str>, Option<&str>, &str) {
    let email = item.users.first().and_then(|user| user.email.as_deref());
    let (calendar, date) = (item.calendar.as_deref(), item.date.as_deref());
    (item.state, email, calendar, date, &item.subject)
}

impl Found {
    fn new(decoded: &Decoded, found: &ItemFound) -> Self {
        Self {
            place: found.place.clone(),
            item: found.item.clone(),
            class: found.class.clone(),
            disposition: found.disposition,
            reason: found.reason.clone(),
            date: found.date.clone(),
            covered: found.covered,
            users: found.users.clone(),
            entry: Reference::to(decoded),
        }
    }
}

impl Item {
    fn intended(&mut self, entry: Reference, intent: &DeleteIntended) {
        self.place = Some((intent.place.clone(), intent.item.clone()));
        self.approval = Some(intent.approval);
        self.attempts += 1;
        // What became of the attempt before is history now.
        self.outcome = None;
        self.restored = None;
        self.backup = Some(BackupLine {
            entry,
            sha256: intent.backup.sha256,
            is_true: is_true(&intent.backup),
        });
    }

    fn is_part(&self, part: &Part) -> bool {
        let users = self.found.as_ref().map(|(_, found)| found.users.as_slice());
        part.run.is_none_or(|run| self.runs.contains(&run))
            && part.users.as_ref().is_none_or(|asked| {
                users.is_some_and(|users| users.iter().any(|user| asked.contains(user)))
            })
    }
}

#[cfg(test)]
#[path = "deletions_tests.rs"]
mod tests;
