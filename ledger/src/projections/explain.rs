//! Everything that the log says of one item, in order: why it was, or was not, deleted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::custody::CustodyFold;
use super::deletions::{
    ApprovalLine, DecisionLine, ErasedLine, OutcomeLine, Reference, RestoredLine,
};
use super::fold::{Decoded, Projection, Unreadable};
use super::overlay::Decided;
use super::plan::is_true;
use crate::domain::custody::Observation;
use crate::domain::event::{Event, Evidence, ItemFound};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, RunId, Subject};
use crate::domain::identify::Disposition;

/// Conditions stand among the evidence under this prefix; what stands there without it is a signal.
pub const CONDITION: &str = "condition.";
/// What a signal means stands in the header of a dry run under this prefix, and what a condition means under [`CONDITION`].
pub const SIGNAL: &str = "signal.";

/// The signal by which an executor says that it could not read an item whole.
pub const UNREADABLE: &str = "unreadable";

/// Whether an item could not be read whole when it was found. Then nobody knows what it is, nor whether its copy would be taken back.
pub(super) fn is_unreadable(found: &ItemFound) -> bool {
    let signal = found.evidence.get(UNREADABLE);
    signal.is_some_and(|signal| signal.holds)
}

/// That an item was looked at and judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindLine {
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
    /// Who looked.
    pub by: Actor,
    /// Class by the policy.
    pub class: String,
    /// Disposition by the policy, or by a person's decision.
    pub disposition: Disposition,
    /// Why, in words.
    pub reason: String,
    /// Date of the deadline.
    pub date: Option<String>,
    /// For a future deadline to be deleted: whether the new system has one that stands for it.
    pub covered: Option<bool>,
    /// Version that was read.
    pub version: Option<String>,
    /// SHA-256 of the whole copy, where one was kept.
    pub copy_sha256: Option<Hash>,
    /// Everything that was looked at.
    pub evidence: BTreeMap<String, Evidence>,
    /// What its signals and conditions mean, under [`SIGNAL`] and [`CONDITION`], where the run that found it says so.
    #[serde(skip)]
    pub meanings: BTreeMap<String, String>,
    /// The plan that was sealed with it; `None`: it never counted.
    pub plan: Option<PlanOf>,
}

/// The plan of a find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanOf {
    /// Its hash.
    pub plan: Hash,
    /// Who sealed it.
    pub by: Actor,
    /// The seal.
    #[serde(flatten)]
    pub sealed: Reference,
    /// Its approvals.
    pub approvals: Vec<ApprovalLine>,
}

/// One attempt to delete it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptLine {
    /// The intent.
    #[serde(flatten)]
    pub entry: Reference,
    /// Who acted.
    pub by: Actor,
    /// Which attempt.
    pub attempt: u32,
    /// The plan.
    pub plan: Hash,
    /// The approval that it names, where the log has it.
    pub approved: Option<ApprovalLine>,
    /// SHA-256 of the copy in the intent.
    pub backup_sha256: Hash,
    /// Whether the bytes of the copy give that digest.
    pub backup_is_true: bool,
    /// How it ended; `None`: nobody knows.
    pub outcome: Option<OutcomeLine>,
    #[serde(skip)]
    id: EntryId,
    #[serde(skip)]
    approval: EntryId,
}

/// One attempt to put it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoLine {
    /// The intent.
    #[serde(flatten)]
    pub entry: Reference,
    /// Who acted.
    pub by: Actor,
    /// Which attempt.
    pub attempt: u32,
    /// By which way.
    pub way: String,
    /// The id that it has if it is back.
    pub becomes: String,
    /// How it ended; `None`: nobody knows.
    pub outcome: Option<OutcomeLine>,
    /// How it came back, where it did.
    pub restored: Option<RestoredLine>,
    #[serde(skip)]
    id: EntryId,
}

/// Something that was seen or said of it beside an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoteLine {
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
    /// In words.
    pub text: String,
}

/// What a later look showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenLine {
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
    /// What was seen.
    pub observation: Observation,
    /// Whether an entry of this ledger explains it.
    pub explained: bool,
}

/// An entry about it that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SilentLine {
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Why, in words.
    pub why: &'static str,
}

/// The history of one item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// Each time it was found.
    pub found: Vec<FindLine>,
    /// What persons decided.
    pub decisions: Vec<DecisionLine>,
    /// Attempts to delete it.
    pub attempts: Vec<AttemptLine>,
    /// Attempts to put it back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<UndoLine>,
    /// It was left for a person when its turn came.
    pub held: Vec<NoteLine>,
    /// What later looks showed.
    pub observed: Vec<SeenLine>,
    /// The erasure that took its entries along.
    pub erased: Option<ErasedLine>,
    /// Entries about it of types that this program does not know.
    pub unknown: Vec<NoteLine>,
    /// Entries about it that say nothing.
    pub unreadable: Vec<SilentLine>,
}

/// Collects the history of one item.
#[derive(Debug)]
pub struct HistoryFold {
    subject: Subject,
    /// All its names.
    names: BTreeSet<Subject>,
    history: History,
    /// Finds and decisions that wait for the seal of their run, by their place in the history.
    waiting: BTreeMap<RunId, (Vec<usize>, Vec<usize>)>,
    /// What signals and conditions mean, as the last dry run said that did.
    meanings: BTreeMap<String, String>,
}

impl HistoryFold {
    /// Of this item, whatever of these names an entry is about.
    pub fn of(subject: Subject, names: BTreeSet<Subject>) -> Self {
        Self {
            subject,
            names,
            history: History::default(),
            waiting: BTreeMap::new(),
            meanings: BTreeMap::new(),
        }
    }

    /// The history, with the approvals of `custody`, which was folded over the same entries.
    pub fn history(mut self, custody: &CustodyFold) -> History {
        for plan in self
            .history
            .found
            .iter_mut()
            .filter_map(|find| find.plan.as_mut())
        {
            let approvals = custody.approvals().into_iter();
            let of_plan = approvals.filter(|(hash, _)| *hash == plan.plan);
            plan.approvals = of_plan.map(|(_, approval)| approval.into()).collect();
        }
        for attempt in &mut self.history.attempts {
            let approval = custody.approval(attempt.approval);
            attempt.approved = approval.map(|(_, approval)| approval.into());
        }
        self.history
    }

    fn sealed(&mut self, decoded: &Decoded, plan: Hash) {
        let run = decoded.entry.run.and_then(|run| self.waiting.remove(&run));
        let (finds, decisions) = run.unwrap_or_default();
        for n in finds {
            if let Some(find) = self.history.found.get_mut(n) {
                find.plan = Some(PlanOf {
                    plan,
                    by: decoded.entry.actor.clone(),
                    sealed: Reference::to(decoded),
                    approvals: Vec::new(),
                });
            }
        }
        for n in decisions {
            if let Some(decision) = self.history.decisions.get_mut(n) {
                decision.plan = Some(plan);
            }
        }
    }

    fn found(&mut self, decoded: &Decoded, found: &ItemFound) {
        if let Some(run) = decoded.entry.run {
            let (finds, _) = self.waiting.entry(run).or_default();
            finds.push(self.history.found.len());
        }
        let copy = found.body.as_ref().filter(|body| is_true(body));
        self.history.found.push(FindLine {
            entry: Reference::to(decoded),
            by: decoded.entry.actor.clone(),
            class: found.class.clone(),
            disposition: found.disposition,
            reason: found.reason.clone(),
            date: found.date.clone(),
            covered: found.covered,
            version: found.version.clone(),
            copy_sha256: copy.map(|body| body.sha256),
            evidence: found.evidence.clone(),
            meanings: self.meanings.clone(),
            plan: None,
        });
    }

    fn ended(&mut self, intent: EntryId, outcome: OutcomeLine) {
        let mut attempts = self.history.attempts.iter_mut();
        match attempts.find(|attempt| attempt.id == intent) {
            Some(attempt) => attempt.outcome = Some(outcome),
            None => self.history.unknown.push(NoteLine {
                text: format!("{}, of an attempt that is not in the log", outcome.what),
                entry: outcome.entry,
            }),
        }
    }

    /// An attempt to put it back has come to its end.
    fn undone(&mut self, intent: EntryId, outcome: OutcomeLine, restored: Option<RestoredLine>) {
        let mut undone = self.history.undone.iter_mut();
        match undone.find(|attempt| attempt.id == intent) {
            Some(attempt) => {
                attempt.outcome = Some(outcome);
                attempt.restored = restored;
            }
            None => self.history.unknown.push(NoteLine {
                text: format!("{}, of an attempt that is not in the log", outcome.what),
                entry: outcome.entry,
            }),
        }
    }

    fn of_item(&mut self, decoded: &Decoded, event: &Event) {
        let entry = Reference::to(decoded);
        match event {
            Event::ItemFound(found) => self.found(decoded, found),
            Event::ItemDecided(taken) => {
                if let Some(run) = decoded.entry.run {
                    let (_, decisions) = self.waiting.entry(run).or_default();
                    decisions.push(self.history.decisions.len());
                }
                let line = (&Decided::new(decoded, taken)).into();
                self.history.decisions.push(line);
            }
            Event::ItemDeleteIntended(intent) => self.history.attempts.push(AttemptLine {
                entry,
                by: decoded.entry.actor.clone(),
                attempt: intent.attempt,
                plan: intent.plan,
                approved: None,
                backup_sha256: intent.backup.sha256,
                backup_is_true: is_true(&intent.backup),
                outcome: None,
                id: decoded.entry.id,
                approval: intent.approval,
            }),
            Event::ItemDeleted(deleted) => {
                let outcome = OutcomeLine::deleted(entry, deleted);
                self.ended(deleted.intent, outcome);
            }
            Event::ItemDeleteFailed(failed) => {
                let outcome = OutcomeLine::failed(entry, failed);
                self.ended(failed.intent, outcome);
            }
            Event::ItemRestoreIntended(intent) => self.history.undone.push(UndoLine {
                entry,
                by: decoded.entry.actor.clone(),
                attempt: intent.attempt,
                way: intent.way.clone(),
                becomes: intent.becomes.clone(),
                outcome: None,
                restored: None,
                id: decoded.entry.id,
            }),
            Event::ItemRestored(restored) => {
                let outcome = OutcomeLine::restored(entry, restored);
                self.undone(restored.intent, outcome, Some(restored.into()));
            }
            Event::ItemRestoreFailed(failed) => {
                let outcome = OutcomeLine::not_restored(entry, failed);
                self.undone(failed.intent, outcome, None);
            }
            Event::ItemHeld(held) => self.history.held.push(NoteLine {
                entry,
                text: held.reason.clone(),
            }),
            Event::ItemObserved(seen) => self.history.observed.push(SeenLine {
                entry,
                observation: seen.observation,
                explained: seen.explained,
            }),
            other => self.history.unknown.push(NoteLine {
                entry,
                text: other.name().to_owned(),
            }),
        }
    }
}

impl Projection for HistoryFold {
    fn apply(&mut self, decoded: &Decoded) {
        let is_about = self.names.contains(&decoded.entry.subject);
        match &decoded.event {
            Ok(Event::PlanSealed(sealed)) => self.sealed(decoded, sealed.plan),
            Ok(Event::RunStarted(started)) => {
                let said = started.options.get("kind").map(String::as_str);
                if said == Some(self.subject.kind()) {
                    let options = started.options.iter();
                    let of_names = options.filter(|(name, _)| {
                        name.starts_with(SIGNAL) || name.starts_with(CONDITION)
                    });
                    self.meanings = of_names
                        .map(|(name, is)| (name.clone(), is.clone()))
                        .collect();
                }
            }
            Ok(Event::SubjectErased(said)) if said.items.contains_key(&self.subject) => {
                self.history.erased = Some(ErasedLine {
                    by: said.approved_by.clone(),
                    legal_basis: said.legal_basis.clone(),
                    entry: Reference::to(decoded),
                });
            }
            Ok(event) if is_about => self.of_item(decoded, event),
            Err(why) if is_about => self.silent(decoded, *why),
            _ => {}
        }
    }
}

impl HistoryFold {
    fn silent(&mut self, decoded: &Decoded, why: Unreadable) {
        self.history.unreadable.push(SilentLine {
            entry: Reference::to(decoded),
            event_type: decoded.entry.event_type.to_string(),
            why: why.words(),
        });
    }
}
