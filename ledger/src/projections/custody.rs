//! Where every item of the sealed plans is, folded from the log, and from that the answer "was any data lost".
//!
//! Nothing is believed that the log itself can contradict: a plan's items must give its hash, an intent's approval must be
//! there, of that plan and not lapsed, its backup must be the bytes of its digest. What cannot be read makes its item
//! `unaccounted`, never clean.

mod plans;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::plans::{DryRun, Id, Plan};
use self::scope::{Look, OfKind};
use super::fold::{Decoded, Projection, Unreadable, shared};
use super::names::Names;
use super::overlay::Decided;
use super::plan::{Approval, is_true};
use crate::chain::plan::PlanItem;
use crate::domain::custody::{
    Custody, DeleteOutcome, Fact, Item, Observation, RestoreOutcome, State, Sums,
};
use crate::domain::event::{
    BackHow, ContainerListed, DeleteIntended, Event, GoneHow, ItemFound, ItemHeld, NotGone,
    RestoreIntended, RunStarted, UserFound, is_missed,
};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, RunId, Subject};
use crate::domain::identify::Disposition;
use crate::domain::observation::Grade;
use crate::domain::verdict::{Evidence, LostItem, Scope, Unreached};

/// Custody of all items, of whatever kind.
#[derive(Debug, Default)]
pub struct CustodyFold {
    custody: Custody<Subject>,
    /// Items of sealed plans.
    inventory: BTreeSet<Subject>,
    /// Runs whose findings are not sealed yet.
    dry_runs: BTreeMap<RunId, DryRun>,
    sealed_runs: BTreeSet<RunId>,
    actors: BTreeMap<RunId, Actor>,
    /// Everybody who recorded something in a run: whoever went on with it, and workers.
    acted: BTreeMap<RunId, BTreeSet<Actor>>,
    plans: BTreeMap<Hash, Plan>,
    approvals: BTreeMap<EntryId, (Hash, Approval)>,
    unread_seals: bool,
    unread_approvals: BTreeSet<EntryId>,
    traces: BTreeMap<Subject, Trace>,
    unreadable: BTreeMap<Unreadable, u64>,
    /// Seals and approvals among them, which may be about any kind.
    unreadable_plans: u64,
    /// How good the looks of a run are that looked again.
    grades: BTreeMap<RunId, Grade>,
    evidence: Vec<Evidence>,
    /// What is known of each kind of item beside the items themselves.
    kinds: BTreeMap<String, OfKind>,
    /// The kind that a run is about.
    kind_of_run: BTreeMap<RunId, String>,
    /// Items that could not be reached when they got their names.
    unreached: Unreachables,
    /// The names that they have where they were found since.
    known_as: BTreeMap<Subject, Subject>,
    /// Other names of items that came back under another id.
    names: Names,
}

/// Items by a user who could not be reached and their ids.
type Unreachables = BTreeMap<Subject, BTreeMap<String, Subject>>;

/// What is remembered of one item beside its state.
#[derive(Debug, Default)]
struct Trace {
    /// The last entry about it, or the seal of its plan.
    last: Option<Evidence>,
    open: Option<OpenIntent>,
    /// The last time that it went or came back by our hand, or was seen since.
    done: Option<DoneTo>,
    /// The last intent with a true backup.
    backup: Option<u64>,
    /// The last dry run that kept a true copy.
    copy: Option<u64>,
    /// What the log says about it contradicts itself.
    doubtful: bool,
    /// Something about it could not be read: then nothing about it is known, a loss neither.
    unread: bool,
    /// Where it was found last; none as long as it could not be reached.
    place: Option<Arc<str>>,
    /// The id under which it came back, where that is another one than it had.
    id: Option<String>,
    /// A later inventory listed its place whole and did not meet it; nothing else has been said of it since.
    not_met: bool,
}

/// That an item went, or came back, after an intent of ours, or was seen since.
#[derive(Debug, Clone)]
struct DoneTo {
    /// The entry that says so: what was read before it was recorded may have been read before it was so.
    seq: u64,
    /// The version that was to be deleted last.
    version: String,
}

/// The intent in flight, and where its item lies.
#[derive(Debug)]
struct OpenIntent {
    id: EntryId,
    evidence: Evidence,
    place: String,
    /// The version that is to be deleted.
    version: Option<String>,
    /// The last intent before it with a true backup.
    backup_before: Option<u64>,
}

impl OpenIntent {
    fn new(decoded: &Decoded, place: &str, backup_before: Option<u64>) -> Self {
        Self {
            id: decoded.entry.id,
            evidence: evidence(decoded),
            place: place.to_owned(),
            version: None,
            backup_before,
        }
    }
}

impl Projection for CustodyFold {
    fn apply(&mut self, decoded: &Decoded) {
        if decoded.is_of_item() {
            self.kind(decoded.entry.subject.kind());
        }
        if let Some(run) = decoded.entry.run {
            let acted = self.acted.entry(run).or_default();
            if !acted.contains(&decoded.entry.actor) {
                acted.insert(decoded.entry.actor.clone());
            }
        }
        let event = match &decoded.event {
            Ok(event) => event,
            Err(Unreadable::Erased) => return self.erased_entry(decoded),
            Err(why) => return self.cannot_read(decoded, *why),
        };
        match event {
            Event::RunStarted(started) => self.started(decoded, started),
            Event::UserFound(found) => self.user_found(decoded, found),
            Event::LateWritten(late) => {
                let kind = self.kind_at(decoded, &late.place);
                for item in &late.items {
                    let key = (late.place.clone(), item.item.clone());
                    self.kind(&kind).late.insert(key, evidence(decoded));
                }
            }
            Event::RunFinished(_) => self.rest_on(decoded),
            Event::ContainerListed(listed) => self.listed(decoded, listed),
            Event::ItemFound(found) => self.found(decoded, found),
            Event::ItemDecided(taken) => {
                self.trace(decoded);
                if let Some(run) = decoded.entry.run {
                    let run = self.dry_runs.entry(run).or_default();
                    run.decided.push(Decided::new(decoded, taken));
                }
            }
            Event::PlanSealed(sealed) => self.sealed(decoded, sealed),
            Event::PlanApproved(approved) => {
                self.rest_on(decoded);
                // What was not sealed by then was not what the person saw.
                if self.plans.contains_key(&approved.plan) {
                    let approval = Approval::new(&decoded.entry, decoded.hash, approved);
                    self.approvals
                        .insert(decoded.entry.id, (approved.plan, approval));
                }
            }
            Event::ItemDeleteIntended(intent) => self.intended(decoded, intent),
            Event::ItemDeleted(deleted) => {
                let outcome = match deleted.outcome {
                    GoneHow::Deleted => DeleteOutcome::Deleted {
                        backup: self.has_backup(self.names.of(&decoded.entry.subject)),
                    },
                    other => other.into(),
                };
                let changed = deleted.outcome != GoneHow::AlreadyGone;
                self.ended(decoded, deleted.intent, outcome, changed);
            }
            Event::ItemDeleteFailed(failed) => {
                let changed = failed.outcome == NotGone::Unknown;
                self.ended(decoded, failed.intent, failed.outcome.into(), changed);
            }
            Event::ItemHeld(held) => self.held(decoded, held),
            Event::ItemRestoreIntended(intent) => self.restore_intended(decoded, intent),
            Event::ItemRestored(restored) => {
                let changed = restored.outcome == BackHow::Restored;
                let is_anew = restored.becomes != restored.item;
                self.trace(decoded).id = is_anew.then(|| restored.becomes.clone());
                let fact = Fact::RestoreEnded(RestoreOutcome::Restored);
                self.settled(decoded, restored.intent, fact, changed);
            }
            Event::ItemRestoreFailed(failed) => {
                let fact = Fact::RestoreEnded(RestoreOutcome::Failed);
                self.settled(decoded, failed.intent, fact, false);
            }
            Event::ItemObserved(seen) => self.seen(decoded, seen.observation),
            Event::SubjectErased(erased) => {
                for of in self.kinds.values_mut() {
                    of.unreached.remove(&decoded.entry.subject);
                }
                for (subject, state) in &erased.items {
                    self.kind(subject.kind());
                    let subject = self.names.of(subject);
                    self.custody.apply(subject, Fact::Erased(*state));
                    let trace = self.traces.entry(subject.clone()).or_default();
                    *trace = Trace {
                        last: Some(evidence(decoded)),
                        ..Trace::default()
                    };
                }
            }
            // A newer program did something to an item, and this one does not know what.
            Event::Unknown(_) if decoded.is_of_item() => {
                self.kind(decoded.entry.subject.kind()).newer_types += 1;
                self.trace(decoded).unread = true;
            }
            _ => {}
        }
    }
}

fn evidence(decoded: &Decoded) -> Evidence {
    Evidence {
        seq: decoded.entry.seq,
        kind: decoded.entry.event_type.to_string(),
    }
}

impl CustodyFold {
    fn rest_on(&mut self, decoded: &Decoded) {
        self.evidence.push(evidence(decoded));
    }

    fn trace(&mut self, decoded: &Decoded) -> &mut Trace {
        let subject = self.names.of(&decoded.entry.subject).clone();
        let trace = self.traces.entry(subject).or_default();
        trace.last = Some(evidence(decoded));
        trace.not_met = false;
        trace
    }

    fn fact(&mut self, decoded: &Decoded, fact: Fact) {
        let subject = self.names.of(&decoded.entry.subject);
        self.custody.apply(subject, fact);
        self.trace(decoded);
    }

    fn seen(&mut self, decoded: &Decoded, seen: Observation) {
        self.fact(decoded, Fact::Observed(seen));
        if let Some(done) = &mut self.trace(decoded).done {
            done.seq = decoded.entry.seq;
        }
    }

    fn has_backup(&self, subject: &Subject) -> bool {
        self.traces
            .get(subject)
            .is_some_and(|trace| trace.backup.is_some())
    }

    /// An entry that says nothing casts doubt on what it is about.
    fn cannot_read(&mut self, decoded: &Decoded, why: Unreadable) {
        let entry = &decoded.entry;
        let name = entry.event_type.as_str();
        if decoded.is_of_item() {
            *self.unreadable.entry(why).or_default() += 1;
            let of = self.kind(entry.subject.kind());
            of.unreadable += 1;
            of.looked_at = true;
            match (name, entry.run) {
                ("item.found", Some(run)) if !self.sealed_runs.contains(&run) => {
                    let dry_run = self.dry_runs.entry(run).or_default();
                    dry_run.unreadable.push(entry.subject.clone());
                }
                ("item.decided", Some(run)) => {
                    self.dry_runs.entry(run).or_default().undecided += 1;
                    self.trace(decoded).unread = true;
                }
                _ => self.trace(decoded).unread = true,
            }
        } else if matches!(name, "user.found" | "container.late_written") {
            // Somebody who could not be reached, or what the retired system wrote late: work or a loss that nothing else tells of.
            *self.unreadable.entry(why).or_default() += 1;
            let kind = entry.run.and_then(|run| self.kind_of_run.get(&run));
            let kind = kind.cloned().unwrap_or_default();
            self.kind(&kind).unreadable += 1;
        } else if matches!(name, "plan.sealed" | "plan.approved") {
            *self.unreadable.entry(why).or_default() += 1;
            self.unreadable_plans += 1;
            if name == "plan.sealed" {
                self.unread_seals = true;
            } else {
                self.unread_approvals.insert(entry.id);
            }
        }
    }

    /// What it said stands in the entry of the erasure, which is still to come.
    fn erased_entry(&mut self, decoded: &Decoded) {
        let entry = &decoded.entry;
        if !decoded.is_of_item() {
            return;
        }
        self.kind(entry.subject.kind()).looked_at = true;
        match (entry.event_type.as_str(), entry.run) {
            ("item.found", Some(run)) if !self.sealed_runs.contains(&run) => {
                let dry_run = self.dry_runs.entry(run).or_default();
                dry_run.erased.push(entry.subject.clone());
            }
            ("item.decided", Some(run)) => {
                self.dry_runs.entry(run).or_default().undecided += 1;
                self.trace(decoded);
            }
            _ => {
                self.trace(decoded);
            }
        }
    }

    fn listed(&mut self, decoded: &Decoded, listed: &ContainerListed) {
        let entry = &decoded.entry;
        let grade = entry.run.and_then(|run| self.grades.get(&run)).copied();
        let look = Look {
            at: entry.recorded_at,
            by: entry.actor.clone(),
            grade: grade.unwrap_or(Grade::Reported),
        };
        if let Some(run) = entry.run.filter(|_| listed.whole) {
            let dry_run = self.dry_runs.entry(run).or_default();
            dry_run.listed.insert(listed.place.clone());
        }
        let kind = entry.run.and_then(|run| self.kind_of_run.get(&run));
        let kind = kind.cloned().unwrap_or_default();
        let places = &mut self.kind(&kind).places;
        places.entry(listed.place.clone()).or_default().observed = Some(look);
    }

    /// What is known of a kind, which is known from now on.
    fn kind(&mut self, kind: &str) -> &mut OfKind {
        self.kinds.entry(kind.to_owned()).or_default()
    }

    /// The kind that a run is about, or that was found in this place.
    fn kind_at(&self, decoded: &Decoded, place: &str) -> String {
        let of_run = decoded.entry.run;
        let of_run = of_run.and_then(|run| self.kind_of_run.get(&run));
        let of_place = || {
            let mut kinds = self.kinds.iter();
            Some(kinds.find(|(_, of)| of.found_at.contains(place))?.0)
        };
        of_run.or_else(of_place).cloned().unwrap_or_default()
    }

    fn started(&mut self, decoded: &Decoded, started: &RunStarted) {
        let Some(run) = decoded.entry.run else { return };
        let of_plan = || Some(self.plans.get(&started.plan?)?.kind.clone());
        let of_run = || {
            let of = started.options.get("of")?.parse::<RunId>().ok()?;
            self.kind_of_run.get(&of).cloned()
        };
        let said = started.options.get("kind").cloned();
        if let Some(kind) = said.or_else(of_plan).or_else(of_run) {
            self.kind(&kind).looked_at |= started.verb == "dry_run";
            self.kind_of_run.insert(run, kind);
        }
        if started.verb == "dry_run" {
            let dry_run = self.dry_runs.entry(run).or_default();
            dry_run.started.get_or_insert(decoded.entry.seq);
        }
        if started.verb == "observe" {
            self.observes(decoded, started);
        }
        self.actors.insert(run, decoded.entry.actor.clone());
    }

    /// A run that looks again at what another did says how good that is; independent is nobody of what he did himself.
    fn observes(&mut self, decoded: &Decoded, started: &RunStarted) {
        let Some(run) = decoded.entry.run else { return };
        let of = started.options.get("of");
        let of = of.and_then(|of| of.parse::<RunId>().ok());
        let acted = of.and_then(|of| self.acted.get(&of));
        let is_another = acted.is_some_and(|acted| !acted.contains(&decoded.entry.actor));
        let said = started.options.get("grade").map(String::as_str);
        let grade = match said {
            Some("independent") if is_another => Grade::Independent,
            _ => Grade::Observed,
        };
        self.grades.insert(run, grade);
    }

    /// Who never gave access has nothing that could be looked at. Whoever did and cannot be reached may: no item stands for that.
    fn user_found(&mut self, decoded: &Decoded, found: &UserFound) {
        let Some(run) = decoded.entry.run else { return };
        let user = &decoded.entry.subject;
        let unreached = is_missed(&found.access).then(|| Unreached {
            user: user.to_string(),
            access: found.access.clone(),
            seq: decoded.entry.seq,
        });
        let run = self.dry_runs.entry(run).or_default();
        run.users.push((user.clone(), unreached));
    }

    fn found(&mut self, decoded: &Decoded, found: &ItemFound) {
        let of = self.kind(decoded.entry.subject.kind());
        of.looked_at = true;
        let place = shared(&mut of.found_at, &found.place);
        self.names.found(&decoded.entry.subject, found);
        if found.body.as_ref().is_some_and(is_true) {
            let seq = decoded.entry.seq;
            let subject = self.names.of(&decoded.entry.subject).clone();
            let trace = self.traces.entry(subject);
            trace.or_default().copy = Some(seq);
        }
        let line = PlanItem {
            subject: decoded.entry.subject.clone(),
            version: found.version.clone().unwrap_or_default(),
            class: found.class.clone(),
            disposition: found.disposition.name().to_owned(),
        };
        match decoded.entry.run {
            Some(run) if !self.sealed_runs.contains(&run) => {
                let dry_run = self.dry_runs.entry(run).or_default();
                dry_run.found.push((line, found.disposition));
                dry_run.ids.push(Id {
                    place,
                    item: found.item.clone(),
                    users: found.users.clone(),
                });
            }
            // After the seal of its run, or of no run: no seal counts it.
            _ => self.kind(decoded.entry.subject.kind()).extra += 1,
        }
    }

    /// Whether the intent was covered: an item of that plan in that version, approved by somebody else, in time.
    fn is_approved(&self, decoded: &Decoded, intent: &DeleteIntended) -> bool {
        let (Some(plan), Some((approved, approval))) = (
            self.plans.get(&intent.plan),
            self.approvals.get(&intent.approval),
        ) else {
            return false;
        };
        *approved == intent.plan
            && approval.is_independent_of(&plan.makers)
            && approval.holds_at(decoded.entry.recorded_at)
            && plan.deletes.get(&decoded.entry.subject) == Some(&intent.version)
    }

    fn intended(&mut self, decoded: &Decoded, intent: &DeleteIntended) {
        let approved = self.is_approved(decoded, intent);
        self.fact(decoded, Fact::DeleteIntended { approved });
        // Whether it was approved stands in an entry that says nothing.
        let unread = self.unread_approvals.contains(&intent.approval)
            || (self.unread_seals && !self.plans.contains_key(&intent.plan));
        let seq = decoded.entry.seq;
        let trace = self.trace(decoded);
        trace.unread |= unread;
        // Two in flight at once: which of them an outcome ends cannot be told.
        trace.doubtful |= trace.open.is_some();
        trace.open = Some(OpenIntent {
            version: Some(intent.version.clone()),
            ..OpenIntent::new(decoded, &intent.place, trace.backup)
        });
        trace.backup = if is_true(&intent.backup) {
            Some(seq)
        } else {
            None
        };
    }

    fn restore_intended(&mut self, decoded: &Decoded, intent: &RestoreIntended) {
        self.names.becomes(&decoded.entry.subject, intent);
        self.fact(decoded, Fact::RestoreIntended);
        let trace = self.trace(decoded);
        trace.doubtful |= trace.open.is_some();
        trace.open = Some(OpenIntent::new(decoded, &intent.place, trace.backup));
    }

    fn ended(&mut self, decoded: &Decoded, intent: EntryId, outcome: DeleteOutcome, changed: bool) {
        let trace = self.trace(decoded);
        let before = trace.open.as_ref().and_then(|open| open.backup_before);
        // It is not by this attempt that it is gone: what an earlier one kept can put it back.
        if !matches!(outcome, DeleteOutcome::Deleted { .. }) {
            trace.backup = trace.backup.or(before);
        }
        self.settled(decoded, intent, Fact::DeleteEnded(outcome), changed);
    }

    /// An intent has its outcome; `changed`: something outside is not as it was.
    fn settled(&mut self, decoded: &Decoded, intent: EntryId, fact: Fact, changed: bool) {
        self.fact(decoded, fact);
        let recorded_at = decoded.entry.recorded_at;
        let is_done = matches!(
            fact,
            Fact::RestoreEnded(RestoreOutcome::Restored)
                | Fact::DeleteEnded(
                    DeleteOutcome::Deleted { .. }
                        | DeleteOutcome::AlreadyGone
                        | DeleteOutcome::GoneCauseUnknown
                )
        );
        let trace = self.trace(decoded);
        match trace.open.take() {
            Some(open) => {
                trace.doubtful |= open.id != intent;
                if is_done {
                    let before = trace.done.take().map(|done| done.version);
                    trace.done = Some(DoneTo {
                        seq: decoded.entry.seq,
                        version: open.version.or(before).unwrap_or_default(),
                    });
                }
                if changed {
                    let places = &mut self.kind(decoded.entry.subject.kind()).places;
                    let place = places.entry(open.place).or_default();
                    place.changed_at = place.changed_at.max(Some(recorded_at));
                }
            }
            None => trace.doubtful = true,
        }
    }

    /// Left for a person at the moment of deletion. It says something of what was to be deleted, and of nothing else.
    fn held(&mut self, decoded: &Decoded, held: &ItemHeld) {
        let item = self.custody.get(self.names.of(&decoded.entry.subject));
        match item.map(|item| (item.state(), item.is_open())) {
            Some((State::Planned, false)) if held.cause == "gone" => {
                self.fact(decoded, Fact::Observed(Observation::Gone));
            }
            Some((State::Planned, false)) => self.fact(decoded, Fact::Found(Disposition::Hold)),
            // It was read right before: another version of what was deleted under an earlier plan is there.
            Some((State::Deleted | State::BackupErased, false)) if held.cause == "changed" => {
                self.seen(decoded, Observation::Changed);
            }
            Some(_) => {}
            None => self.trace(decoded).doubtful = true,
        }
    }

    /// The state of an item, with what the entries themselves show.
    pub fn state(&self, subject: &Subject) -> Option<State> {
        let subject = self.known_as(subject).unwrap_or(subject);
        let known = self.custody.get(subject).map(Item::state);
        let trace = self.traces.get(subject);
        let unread = trace.is_some_and(|trace| trace.unread);
        let doubtful = trace.is_some_and(|trace| trace.doubtful);
        match known {
            _ if unread => Some(State::Unaccounted),
            // What is known to be lost stays so, whatever else is doubtful.
            Some(State::Missing) => Some(State::Missing),
            _ if doubtful => Some(State::Unaccounted),
            // Also where it was found out by looking: without a backup it cannot be put back.
            Some(State::Deleted) if trace.is_none_or(|trace| trace.backup.is_none()) => {
                Some(State::Missing)
            }
            Some(State::Planned | State::Held) if trace.is_some_and(|trace| trace.not_met) => {
                Some(State::ChangedSince)
            }
            Some(state) => Some(state),
            None if self.inventory.contains(subject) => Some(State::Unaccounted),
            None => None,
        }
    }

    /// Whether it was gone by our hand and is there again, which nothing in the log explains.
    pub fn is_there_again(&self, subject: &Subject) -> bool {
        let subject = self.known_as(subject).unwrap_or(subject);
        let item = self.custody.get(subject);
        item.is_some_and(Item::is_there_again) && self.state(subject) == Some(State::Unaccounted)
    }

    /// Every item of a sealed plan, and every other that something was done to; each by the name that it has now.
    pub fn subjects(&self) -> BTreeSet<&Subject> {
        let touched = self.custody.iter().map(|(subject, _)| subject);
        let doubtful = self.traces.iter();
        let doubtful = doubtful.filter(|(_, trace)| trace.doubtful || trace.unread);
        let doubtful = doubtful.map(|(subject, _)| subject);
        self.inventory
            .iter()
            .chain(touched)
            .chain(doubtful)
            .filter(|subject| self.known_as(subject).is_none())
            .collect()
    }

    /// The name under which an item is kept of which this is another one: it came back under an id that got this one. Or it could not be
    /// reached when it got this one; as soon as the log says anything else of that, the two are two.
    pub fn known_as(&self, former: &Subject) -> Option<&Subject> {
        if let Some(item) = self.names.other(former) {
            return Some(item);
        }
        let now = self.known_as.get(former)?;
        let item = self.custody.get(former)?;
        let trace = self.traces.get(former);
        let is_clear = trace.is_none_or(|trace| !trace.doubtful && !trace.unread);
        (is_clear && !item.is_open() && item.state() == State::OutOfReach).then_some(now)
    }

    /// An item by all its names.
    pub fn names_of(&self, item: &Subject) -> BTreeSet<Subject> {
        let item = self.known_as(item).unwrap_or(item);
        let names = self.names.others(item).cloned();
        names.chain([item.clone()]).collect()
    }

    /// The items that could not be reached when they got one name and have another now, with that.
    pub(super) fn former_names(&self) -> impl Iterator<Item = (&Subject, &Subject)> {
        let formers = self.known_as.keys();
        formers.filter_map(|former| Some((former, self.known_as(former)?)))
    }

    /// The items per state. What a seal counts and the log does not hold is `unaccounted`.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for subject in self.subjects() {
            sums.add(self.state(subject).unwrap_or(State::Unaccounted), 1);
        }
        for of in self.kinds.values() {
            sums.add(State::Unaccounted, of.missing);
            sums.add(State::LateWrite, of.late.len() as u64);
        }
        sums
    }

    /// Entries about items, plans or approvals that could not be read, by reason.
    pub fn unreadable(&self) -> &BTreeMap<Unreadable, u64> {
        &self.unreadable
    }

    /// An approval by its entry, and the plan it is of.
    pub fn approval(&self, id: EntryId) -> Option<&(Hash, Approval)> {
        self.approvals.get(&id)
    }

    /// Who made a plan: nobody of them may approve it. Empty where nobody sealed it.
    pub fn makers(&self, plan: Hash) -> BTreeSet<Actor> {
        let plan = self.plans.get(&plan);
        plan.map(|plan| plan.makers.clone()).unwrap_or_default()
    }

    /// All approvals, oldest first.
    pub fn approvals(&self) -> Vec<&(Hash, Approval)> {
        let mut approvals: Vec<_> = self.approvals.values().collect();
        approvals.sort_by_key(|(_, approval)| approval.seq);
        approvals
    }

    /// Each lost item, with what can restore it.
    pub fn lost(&self) -> Vec<LostItem> {
        let lost = |subject: &&Subject| self.state(subject) == Some(State::Missing);
        let newest = |subject| {
            self.traces
                .get(subject)
                .and_then(|trace| trace.last.as_ref())
        };
        self.subjects()
            .into_iter()
            .filter(lost)
            .map(|subject| {
                let trace = self.traces.get(subject);
                let backup = trace.and_then(|trace| trace.backup);
                let copy = trace.and_then(|trace| trace.copy);
                LostItem {
                    scope: Scope::of_kind(subject.kind()),
                    subject: subject.to_string(),
                    state: State::Missing,
                    restore: backup
                        .map(|seq| format!("the backup in entry {seq}"))
                        .or_else(|| copy.map(|seq| format!("the copy kept in entry {seq}"))),
                    seq: newest(subject).map_or(0, |last| last.seq),
                }
            })
            .chain(self.late().map(|(kind, key, shown)| LostItem {
                scope: Scope::of_kind(kind),
                subject: late_subject(key),
                state: State::LateWrite,
                restore: Some(
                    "the item itself, which is in its place: see that the new system has what it says"
                        .to_owned(),
                ),
                seq: shown.seq,
            }))
            .collect()
    }

    /// What the retired system wrote late: kind, place and id, and the entry that tells of it.
    pub(super) fn late(&self) -> impl Iterator<Item = (&str, &(String, String), &Evidence)> {
        let late = |(kind, of)| {
            let of: &OfKind = of;
            let kind: &String = kind;
            let late = of.late.iter();
            late.map(move |(key, shown)| (kind.as_str(), key, shown))
        };
        self.kinds.iter().flat_map(late)
    }

    /// The entries that the verdict rests on: seals, approvals, ends of runs, intents in flight, and what shows a loss.
    pub fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = self.evidence.clone();
        let open = self.traces.values().filter_map(|trace| trace.open.as_ref());
        evidence.extend(open.map(|open| open.evidence.clone()));
        let lost = |subject: &&Subject| self.state(subject) == Some(State::Missing);
        let lost = self.traces.iter().filter(|(subject, _)| lost(subject));
        evidence.extend(lost.filter_map(|(_, trace)| trace.last.clone()));
        evidence.extend(self.late().map(|(.., shown)| shown.clone()));
        evidence
    }
}

/// What the retired system wrote late has no identity of its own here until a dry run finds it: the digest of its place and id tells it
/// apart. Copies of one event lie in several calendars under one id.
pub(super) fn late_subject((place, item): &(String, String)) -> String {
    let digest = Hash::of(format!("{place}\0{item}").as_bytes()).to_string();
    format!("late-item:{}", digest.get(..16).unwrap_or_default())
}

#[cfg(test)]
#[path = "custody_tests.rs"]
mod tests;
