//! The review of deletions: what was deleted, whose, why it was held to be the retired system's, who approved it, where its
//! backup is and what became of it; and what was left alone, and why.
//!
//! E-mails and ids of the outside stand here as far as the keys at hand open the payloads they came from.

use std::collections::{BTreeMap, BTreeSet};

use super::custody::CustodyFold;
use super::fold::{Decoded, Projection};
use super::names::{Names, is_called};
use super::overlay::{Decided, base_of};
use super::plan::is_true;
use crate::domain::custody::{Observation, State, Sums};
use crate::domain::event::{DeleteIntended, Event, ItemFound, PlanSealed};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, RunId, Subject};
use crate::domain::identify::Disposition;
use late::Late;
pub use late::LateLine;

mod late;
mod lines;
mod statement;

pub use lines::{
    ApprovalLine, BackupLine, DecisionLine, ErasedLine, ItemLine, OutcomeLine, PlanLine, Reference,
    RestoredLine, Review, RunLine, SignOffLine, UserLine,
};
pub use statement::Statement;

/// Which part of the review is asked for.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Only items that this run found or worked on, or was to delete.
    pub run: Option<RunId>,
    /// Only items reached through these users.
    pub users: Option<BTreeSet<Subject>>,
    /// Only items that this plan names, or one below it.
    pub plan: Option<Hash>,
}

/// Folds everything that the review tells beside the state of each item.
#[derive(Debug, Default)]
pub struct DeletionsFold {
    waiting: BTreeMap<RunId, Vec<(Subject, Found)>>,
    items: BTreeMap<Subject, Item>,
    /// Other names of items that came back under another id.
    names: Names,
    users: BTreeMap<Subject, UserLine>,
    /// The users that each run looked for.
    looked_for: BTreeMap<RunId, BTreeSet<Subject>>,
    plans: Vec<PlanLine>,
    runs: BTreeMap<RunId, RunLine>,
    overrides: BTreeMap<RunId, Vec<String>>,
    /// Everybody who recorded something in a run.
    acted: BTreeMap<RunId, BTreeSet<Actor>>,
    /// The plan that a run sealed.
    sealed_by: BTreeMap<RunId, Hash>,
    /// What the retired system wrote after the deletions, by place and id; custody says of which of them no plan accounts yet.
    late: BTreeMap<(String, String), Late>,
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
    /// The signals and conditions that held, with what they rest on.
    evidence: BTreeMap<String, Option<String>>,
    users: Vec<Subject>,
    entry: Reference,
}

#[derive(Debug, Default)]
struct Item {
    /// Every sealed plan that names it, oldest first, with what was found of it for that.
    finds: Vec<(Hash, Found)>,
    runs: BTreeSet<RunId>,
    place: Option<(String, String)>,
    /// The plan of the last attempt to delete it.
    begun: Option<Hash>,
    approval: Option<EntryId>,
    backup: Option<BackupLine>,
    attempts: u64,
    outcome: Option<OutcomeLine>,
    undo: Option<OutcomeLine>,
    restored: Option<RestoredLine>,
    observed: Option<Observation>,
    decisions: Vec<(RunId, DecisionLine)>,
    erased: Option<ErasedLine>,
    /// The deletion by which it was gone when the attempt in flight was begun.
    stood: Option<Stood>,
}

/// A deletion by which an item is gone, aside while another plan tries the same.
#[derive(Debug)]
struct Stood {
    place: Option<(String, String)>,
    begun: Option<Hash>,
    approval: Option<EntryId>,
    backup: Option<BackupLine>,
    outcome: Option<OutcomeLine>,
    undo: Option<OutcomeLine>,
}

impl Projection for DeletionsFold {
    fn apply(&mut self, decoded: &Decoded) {
        let entry = &decoded.entry;
        if decoded.is_of_user()
            && let Some(id) = &decoded.natural_id
        {
            self.user(&entry.subject).id = Some(id.clone());
        }
        if let Some(run) = entry.run {
            self.acted
                .entry(run)
                .or_default()
                .insert(entry.actor.clone());
        }
        let Ok(event) = &decoded.event else { return };
        match event {
            Event::UserFound(found) => {
                let user = self.user(&entry.subject);
                user.email.clone_from(&found.email);
                user.access = Some(found.access.clone());
                user.reason = Some(found.reason.clone());
                user.seq = Some(entry.seq);
                if let Some(run) = entry.run {
                    let users = self.looked_for.entry(run).or_default();
                    users.insert(entry.subject.clone());
                }
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
                    signed_off: Vec::new(),
                };
                self.runs.entry(run).or_insert(line);
            }
            Event::RunFinished(finished) => {
                if let Some(line) = entry.run.and_then(|run| self.runs.get_mut(&run)) {
                    line.finished = Some(Reference::to(decoded));
                    line.status = Some(finished.status.clone());
                }
            }
            Event::ReviewSignedOff(signed) => {
                if let Some(line) = self.runs.get_mut(&signed.run) {
                    line.signed_off.push(SignOffLine {
                        by: entry.actor.clone(),
                        assurance: signed.assurance.clone(),
                        note: signed.note.clone(),
                        statement: signed.statement,
                        changed_since: false,
                        entry: Reference::to(decoded),
                    });
                }
            }
            // It comes before the run's first entry, or between two parts of it.
            Event::GateOverridden(gate) => {
                let Some(run) = entry.run else { return };
                let text = format!("{}: {}", gate.gate, gate.reason);
                self.overrides.entry(run).or_default().push(text);
            }
            Event::PlanSealed(sealed) => self.sealed(decoded, sealed),
            Event::LateWritten(late) => self.late_written(decoded, late),
            Event::SubjectErased(said) => {
                for subject in said.items.keys() {
                    let subject = self.names.of(subject).clone();
                    let item = self.items.entry(subject).or_default();
                    item.erased = Some(ErasedLine {
                        by: said.approved_by.clone(),
                        legal_basis: said.legal_basis.clone(),
                        entry: Reference::to(decoded),
                    });
                }
            }
            _ if decoded.is_of_item() => self.of_item(decoded, event),
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
            base: base_of(sealed).ok().flatten(),
            incumbent_would_delete: sealed.incumbent_would_delete,
            incumbent_not_ours: sealed.incumbent_not_ours,
            uncovered: sealed.uncovered,
            approvals: Vec::new(),
        });
        let found = run.and_then(|run| self.waiting.remove(&run));
        for (subject, found) in found.unwrap_or_default() {
            let item = self.items.entry(subject).or_default();
            item.finds.push((sealed.plan, found));
            item.runs.extend(run);
            let decisions = item.decisions.iter_mut();
            for (_, decision) in decisions.filter(|(of, _)| Some(*of) == run) {
                decision.plan = Some(sealed.plan);
            }
        }
        self.sealed_by.extend(run.map(|run| (run, sealed.plan)));
    }

    fn of_item(&mut self, decoded: &Decoded, event: &Event) {
        let subject = &decoded.entry.subject;
        if let Event::ItemFound(found) = event {
            self.names.found(subject, found);
            if let Some(run) = decoded.entry.run {
                let subject = self.names.of(subject).clone();
                let found = (subject, Found::new(decoded, found));
                self.waiting.entry(run).or_default().push(found);
            }
            return;
        }
        if let Event::ItemRestoreIntended(intent) = event {
            self.names.becomes(subject, intent);
        }
        let subject = self.names.of(subject).clone();
        let item = self.items.entry(subject).or_default();
        item.runs.extend(decoded.entry.run);
        let entry = Reference::to(decoded);
        match event {
            Event::ItemDeleteIntended(intent) => item.intended(entry, intent),
            Event::ItemDeleted(deleted) => item.ended(OutcomeLine::deleted(entry, deleted)),
            Event::ItemDeleteFailed(failed) => item.ended(OutcomeLine::failed(entry, failed)),
            // Another plan came to what one has deleted: that stays the last thing that was done to it.
            Event::ItemHeld(_) if item.stands() => {}
            Event::ItemHeld(held) => {
                item.outcome = Some(OutcomeLine {
                    what: "held",
                    reason: Some(held.reason.clone()),
                    status: None,
                    recovered: false,
                    entry,
                });
            }
            // Gone again, it is being put back once more: what was true of the last time no longer is.
            Event::ItemRestoreIntended(_) => {
                item.restored = None;
                item.undo = None;
            }
            Event::ItemRestored(restored) => {
                item.restored = Some(restored.into());
                item.undo = Some(OutcomeLine::restored(entry, restored));
            }
            Event::ItemRestoreFailed(failed) => {
                item.undo = Some(OutcomeLine::not_restored(entry, failed));
            }
            Event::ItemObserved(seen) => item.observed = Some(seen.observation),
            Event::ItemDecided(taken) => {
                let line = DecisionLine::from(&Decided::new(decoded, taken));
                item.decisions
                    .extend(decoded.entry.run.map(|run| (run, line)));
            }
            _ => {}
        }
    }

    /// The items of this id in the outside system, also of the one that they got when they were put back, or of this subject or
    /// its UUID.
    pub fn items_named(&self, text: &str) -> BTreeSet<Subject> {
        let called = self.names.called(text);
        let named = |(subject, item): &(&Subject, &Item)| {
            let found = item.finds.iter().any(|(_, found)| found.item == text);
            let place = item.place.as_ref().map(|(_, id)| id.as_str());
            let restored = item.restored.as_ref().map(|back| back.event_id.as_str());
            found
                || [place, restored].contains(&Some(text))
                || is_called(subject, text)
                || called.contains(subject)
        };
        let named = self.items.iter().filter(named);
        named.map(|(subject, _)| subject.clone()).collect()
    }

    /// An item, its place and the users through whom it was reached: what tells two of one id apart.
    pub fn whereabouts<'a>(
        &'a self,
        subject: &'a Subject,
    ) -> (&'a Subject, Option<&'a str>, Vec<UserLine>) {
        let item = self.items.get(subject);
        let found = item.and_then(|item| self.told(item, None));
        let found = found.map(|(_, found)| (found.place.as_str(), found.users.iter()));
        let (place, users) = found.unzip();
        let users = users.into_iter().flatten();
        (
            subject,
            place,
            users.map(|user| self.user_line(user)).collect(),
        )
    }

    /// One item, with its state of `custody`, which was folded over the same entries.
    pub fn item(&self, subject: &Subject, custody: &CustodyFold) -> Option<ItemLine> {
        let subject = custody.known_as(subject).unwrap_or(subject);
        let state = custody.state(subject).unwrap_or(State::Unaccounted);
        let item = self.items.get(self.names.of(subject))?;
        Some(self.line(subject, item, state, custody))
    }

    /// Whether a subject is an item that something was recorded about.
    pub fn knows_item(&self, subject: &Subject) -> bool {
        self.items.contains_key(self.names.of(subject))
    }

    /// The last sealed plan that names an item, and the entry that found it for that.
    pub fn last_find(&self, subject: &Subject) -> Option<(Hash, &Reference)> {
        let item = self.items.get(self.names.of(subject))?;
        let (plan, found) = item.finds.last()?;
        Some((*plan, &found.entry))
    }

    /// What a person decided about an item last, where a plan was sealed with it.
    pub fn last_decision(&self, subject: &Subject) -> Option<&DecisionLine> {
        let item = self.items.get(self.names.of(subject))?;
        let decisions = item.decisions.iter().rev();
        decisions
            .map(|(_, line)| line)
            .find(|line| line.plan.is_some())
    }

    /// The plan that was sealed last.
    pub fn last_plan(&self) -> Option<Hash> {
        self.plans.last().map(|line| line.plan)
    }

    /// The plan that is made of this one by decisions, of which another one is made, and so on to the newest.
    pub fn newest(&self, plan: Hash) -> Hash {
        let mut newest = plan;
        // Each one was sealed after the one below: in their order one pass finds the end of the row.
        for line in &self.plans {
            if line.base == Some(newest) {
                newest = line.plan;
            }
        }
        newest
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
        let plans = part.plan.map(|plan| self.with_those_below(plan));
        let executed = part.run.and_then(|run| self.executed_by(run));
        let is_part = |subject: &Subject| {
            let item = self.items.get(subject).unwrap_or(&none);
            self.is_part(item, part, plans.as_ref(), executed.as_ref())
        };
        let mut subjects = custody.subjects();
        subjects.retain(|subject| is_part(subject));
        // What a plan names by a former name is told by the one that it has now.
        let formers = custody.former_names();
        let formers = formers.filter(|(former, _)| is_part(former));
        subjects.extend(formers.map(|(_, now)| now));
        let mut items = Vec::new();
        for subject in subjects {
            let item = self.items.get(subject).unwrap_or(&none);
            let state = custody.state(subject).unwrap_or(State::Unaccounted);
            items.push(self.line(subject, item, state, custody));
        }
        items.extend(self.late_lines(custody, part));
        items.sort_by(|a, b| order(a).cmp(&order(b)));
        let whole = part.run.is_none() && part.users.is_none() && part.plan.is_none();
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
            self.compare(line, custody);
        }
        runs.sort_by_key(|run| run.started.seq);
        let users = self.users_of(part);
        let is_unreachable = |user: &&UserLine| user.unreachable().is_some();
        let unreachable = users.iter().filter(is_unreachable).cloned().collect();
        Review {
            plans,
            runs,
            total: sum.total(),
            sum,
            items,
            users,
            unreachable,
            unreadable: custody.unreadable().values().sum(),
        }
    }

    /// What tells what an item is: what was found of it last. Of what is gone by an attempt it is what was found for the plan of that
    /// attempt: a dry run that finds it gone since, or cannot reach it, or had looked before, adds nothing to that.
    fn told<'a>(&self, item: &'a Item, state: Option<State>) -> Option<&'a (Hash, Found)> {
        let last = item.finds.last();
        let (Some(plan), Some(intent)) = (item.begun, &item.backup) else {
            return last;
        };
        let plans = self.with_those_below(plan);
        let finds = || {
            let finds = item.finds.iter().rev();
            finds.filter(|(plan, _)| plans.contains(plan))
        };
        // A plan may name what came back under its old id too, under which it is gone.
        let id = item.place.as_ref().map(|(_, id)| id);
        let mut told = finds().find(|(_, found)| Some(&found.item) == id);
        told = told.or_else(|| finds().next());
        if matches!(
            state,
            Some(State::Deleted | State::BackupErased | State::Missing)
        ) {
            return told.or(last);
        }
        let mut is_gone = item.is_gone();
        let since = item.finds.iter();
        for find in since.filter(|(_, found)| found.entry.seq > intent.entry.seq) {
            let is_nothing_new = matches!(
                find.1.disposition,
                Disposition::Done | Disposition::OutOfReach
            );
            let back = item.restored.as_ref();
            let is_old_id = back.is_some_and(|back| back.event_id != find.1.item);
            if !((is_gone || is_old_id) && is_nothing_new) {
                is_gone = false;
                told = Some(find);
            }
        }
        told.or(last)
    }

    fn is_part(
        &self,
        item: &Item,
        part: &Part,
        plans: Option<&BTreeSet<Hash>>,
        executed: Option<&BTreeSet<Hash>>,
    ) -> bool {
        let users = || {
            self.told(item, None)
                .map(|(_, found)| found.users.as_slice())
        };
        part.run.is_none_or(|run| item.is_of(run, executed))
            && plans.is_none_or(|asked| item.finds.iter().any(|(plan, _)| asked.contains(plan)))
            && part.users.as_ref().is_none_or(|asked| {
                users().is_some_and(|users| users.iter().any(|user| asked.contains(user)))
            })
    }

    fn line(
        &self,
        subject: &Subject,
        item: &Item,
        state: State,
        custody: &CustodyFold,
    ) -> ItemLine {
        let told = self.told(item, Some(state));
        let found = told.map(|(_, found)| found);
        let place = found
            .map(|found| (found.place.clone(), found.item.clone()))
            .or_else(|| item.place.clone());
        let users = found
            .map(|found| found.users.as_slice())
            .unwrap_or_default();
        let approved = item.approval.and_then(|id| custody.approval(id));
        ItemLine {
            calendar: place.as_ref().map(|(place, _)| place.clone()),
            event_id: place.map(|(_, id)| id),
            users: users.iter().map(|user| self.user_line(user)).collect(),
            class: found.map(|found| found.class.clone()),
            disposition: found.map(|found| found.disposition),
            reason: found.map(|found| found.reason.clone()),
            date: found.and_then(|found| found.date.clone()),
            covered: found.and_then(|found| found.covered),
            evidence: found
                .map(|found| found.evidence.clone())
                .unwrap_or_default(),
            plan: told.map(|(plan, _)| *plan),
            found: found.map(|found| found.entry.clone()),
            approved: approved.map(|(_, approval)| approval.into()),
            backup: item.backup.clone(),
            attempts: item.attempts,
            decisions: item
                .decisions
                .iter()
                .map(|(_, line)| line.clone())
                .collect(),
            outcome: item.outcome.clone(),
            undo: item.undo.clone(),
            restored: item.restored.clone(),
            observed: item.observed,
            erased: item.erased.clone(),
            there_again: custody.is_there_again(subject),
            ..ItemLine::unknown(subject.to_string(), state)
        }
    }

    /// The users of a part, as far as a dry run looked for them.
    fn users_of(&self, part: &Part) -> Vec<UserLine> {
        let of_plan = |plan: Hash| {
            let plans = self.with_those_below(plan);
            let mut runs = self.sealed_by.iter();
            runs.find_map(|(run, sealed)| {
                let users = self.looked_for.get(run)?;
                plans.contains(sealed).then_some(users)
            })
        };
        let of_run = |run: RunId| {
            let plan = || self.plan_of(run);
            self.looked_for.get(&run).or_else(|| of_plan(plan()?))
        };
        let of_run = part.run.and_then(of_run);
        let of_plan = part.plan.and_then(of_plan);
        let asked = [of_run, of_plan, part.users.as_ref()];
        let known = self.users.iter().filter(|(subject, user)| {
            let mut asked = asked.into_iter().flatten();
            user.access.is_some() && asked.all(|asked| asked.contains(*subject))
        });
        known.map(|(_, user)| user.clone()).collect()
    }

    /// What is known of a user.
    pub fn user_line(&self, subject: &Subject) -> UserLine {
        self.users.get(subject).cloned().unwrap_or(UserLine {
            subject: subject.to_string(),
            ..UserLine::default()
        })
    }
}

/// By state, then by user, place, date and id, as a person reads it.
fn order(item: &ItemLine) -> (State, [Option<&str>; 4], &str) {
    let email = item.users.first().and_then(|user| user.email.as_deref());
    let (place, date) = (item.calendar.as_deref(), item.date.as_deref());
    let id = item.event_id.as_deref();
    (item.state, [email, place, date, id], &item.subject)
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
            evidence: found
                .evidence
                .iter()
                .filter(|(_, evidence)| evidence.holds)
                .map(|(name, evidence)| (name.clone(), evidence.detail.clone()))
                .collect(),
            users: found.users.clone(),
            entry: Reference::to(decoded),
        }
    }
}

impl Item {
    fn intended(&mut self, entry: Reference, intent: &DeleteIntended) {
        if self.stands() {
            self.stood = Some(Stood {
                place: self.place.take(),
                begun: self.begun,
                approval: self.approval,
                backup: self.backup.take(),
                outcome: self.outcome.take(),
                undo: self.undo.take(),
            });
        }
        self.place = Some((intent.place.clone(), intent.item.clone()));
        self.approval = Some(intent.approval);
        self.begun = Some(intent.plan);
        self.attempts += 1;
        // What became of the attempt before is history now.
        self.outcome = None;
        self.undo = None;
        self.restored = None;
        self.backup = Some(BackupLine {
            entry,
            sha256: intent.backup.sha256,
            is_true: is_true(&intent.backup),
        });
    }

    /// It was deleted, and not put back.
    fn stands(&self) -> bool {
        let outcome = self.outcome.as_ref().map(|outcome| outcome.what);
        matches!(outcome, Some("deleted" | "gone_cause_unknown")) && self.restored.is_none()
    }

    /// An attempt has its outcome. One that met the item gone by an earlier deletion, or did nothing, leaves that standing.
    fn ended(&mut self, outcome: OutcomeLine) {
        let what = outcome.what;
        self.outcome = Some(outcome);
        if what == "deleted" {
            self.stood = None;
        } else if let Some(stood) = self.stood.take_if(|_| what != "unknown") {
            self.place = stood.place;
            self.begun = stood.begun;
            self.approval = stood.approval;
            self.backup = stood.backup;
            self.outcome = stood.outcome;
            self.undo = stood.undo;
        }
    }

    /// Whether a run has an entry about it, or executes these plans, by which it was to be deleted.
    fn is_of(&self, run: RunId, executed: Option<&BTreeSet<Hash>>) -> bool {
        let in_plan = |plans: &BTreeSet<Hash>| {
            let mut finds = self.finds.iter().rev();
            let find = finds.find(|(plan, _)| plans.contains(plan));
            find.is_some_and(|(_, found)| found.disposition == Disposition::Delete)
        };
        self.runs.contains(&run) || executed.is_some_and(in_plan)
    }

    /// It went by an attempt, or may have, and nothing brought it back.
    fn is_gone(&self) -> bool {
        let outcome = self.outcome.as_ref().map(|outcome| outcome.what);
        let went = outcome.is_none_or(|what| {
            ["deleted", "already_gone", "gone_cause_unknown", "unknown"].contains(&what)
        });
        went && self.restored.is_none()
    }
}

#[cfg(test)]
#[path = "deletions_tests.rs"]
mod tests;
