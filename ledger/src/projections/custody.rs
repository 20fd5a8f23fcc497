//! Where every item of the sealed plans is, folded from the log, and from that the answer "was any data lost".
//!
//! Nothing is believed that the log itself can contradict: a plan's items must give its hash, an intent's approval must be
//! there, of that plan and not lapsed, its backup must be the bytes of its digest. What cannot be read makes its item
//! `unaccounted`, never clean.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::fold::{Decoded, Projection, Unreadable};
use super::overlay::{Below, Decided, base_of};
use super::plan::{Approval, header, is_true};
use crate::chain::plan::{PlanItem, plan_hash};
use crate::domain::custody::{
    Custody, DeleteOutcome, Fact, Item, Observation, RestoreOutcome, State, Sums,
};
use crate::domain::event::{
    BackHow, ContainerListed, DeleteIntended, Event, GoneHow, ItemFound, ItemHeld, NotGone,
    PlanSealed, RestoreIntended, RunStarted,
};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, RunId, Subject, Timestamp};
use crate::domain::identify::Disposition;
use crate::domain::observation::Grade;
use crate::domain::review::Decision;
use crate::domain::verdict::{Evidence, LostItem, Scope, ScopeFacts, Side};

/// Kind of the subjects that the calendar scope is about.
pub const CALENDAR_KIND: &str = "calendar-event";

/// Custody of the calendar scope.
#[derive(Debug, Default)]
pub struct CustodyFold {
    custody: Custody<Subject>,
    /// Items of sealed plans.
    inventory: BTreeSet<Subject>,
    /// Items that the seals count and the log does not hold.
    missing: u64,
    /// Items that the log holds and no seal counts.
    extra: u64,
    /// Runs whose findings are not sealed yet.
    dry_runs: BTreeMap<RunId, DryRun>,
    sealed_runs: BTreeSet<RunId>,
    actors: BTreeMap<RunId, Actor>,
    plans: BTreeMap<Hash, Plan>,
    approvals: BTreeMap<EntryId, (Hash, Approval)>,
    unread_seals: bool,
    unread_approvals: BTreeSet<EntryId>,
    traces: BTreeMap<Subject, Trace>,
    places: BTreeMap<String, Place>,
    unreadable: BTreeMap<Unreadable, u64>,
    newer_types: u64,
    plans_not_as_sealed: u64,
    sealed_at: Option<Timestamp>,
    v2_observed_at: Option<DateTime<Utc>>,
    /// What the retired system wrote after the deletions, by place and id, until a sealed plan names it.
    late: BTreeMap<(String, String), Evidence>,
    /// How good the looks of a run are that looked again.
    grades: BTreeMap<RunId, Grade>,
    evidence: Vec<Evidence>,
    looked_at: bool,
}

/// A run that is not sealed yet: a dry run, or one that decides about what a plan holds.
#[derive(Debug, Default)]
struct DryRun {
    found: Vec<(PlanItem, Disposition)>,
    /// Place and id of each.
    ids: Vec<(String, String)>,
    decided: Vec<Decided>,
    /// Decisions that cannot be read.
    undecided: u64,
    /// Items whose entry cannot be read.
    unreadable: Vec<Subject>,
    /// Items whose entry was erased with its owner.
    erased: Vec<Subject>,
}

/// What later entries are held against.
#[derive(Debug, Default)]
struct Plan {
    makers: BTreeSet<Actor>,
    /// Who made the inventory.
    finders: BTreeSet<Actor>,
    /// Its lines, as far as they can be read; none where they do not give its hash.
    lines: Vec<PlanItem>,
    /// Items in the log.
    known: u64,
    /// Entries of items and decisions that cannot be read, or were erased with their owner.
    hidden: u64,
    /// Versions of the items to be deleted.
    deletes: BTreeMap<Subject, String>,
}

/// What is remembered of one item beside its state.
#[derive(Debug, Default)]
struct Trace {
    /// The last entry about it, or the seal of its plan.
    last: Option<Evidence>,
    open: Option<OpenIntent>,
    /// The last intent with a true backup.
    backup: Option<u64>,
    /// The last dry run that kept a true copy.
    copy: Option<u64>,
    /// What the log says about it contradicts itself.
    doubtful: bool,
    /// Something about it could not be read: then nothing about it is known, a loss neither.
    unread: bool,
}

/// One complete look at a place.
#[derive(Debug, Clone)]
struct Look {
    at: Timestamp,
    by: Actor,
    grade: Grade,
}

/// The intent in flight, and where its item lies.
#[derive(Debug)]
struct OpenIntent {
    id: EntryId,
    evidence: Evidence,
    place: String,
}

impl OpenIntent {
    fn new(decoded: &Decoded, place: &str) -> Self {
        Self {
            id: decoded.entry.id,
            evidence: evidence(decoded),
            place: place.to_owned(),
        }
    }
}

/// A place that holds items.
#[derive(Debug, Default)]
struct Place {
    observed: Option<Look>,
    changed_at: Option<Timestamp>,
}

impl Projection for CustodyFold {
    fn apply(&mut self, decoded: &Decoded) {
        let event = match &decoded.event {
            Ok(event) => event,
            Err(Unreadable::Erased) => return self.erased_entry(decoded),
            Err(why) => return self.cannot_read(decoded, *why),
        };
        match event {
            Event::RunStarted(started) => {
                self.looked_at |= started.verb == "dry_run";
                if started.verb == "observe" {
                    self.observes(decoded, started);
                }
                if let Some(run) = decoded.entry.run {
                    self.actors.insert(run, decoded.entry.actor.clone());
                }
            }
            Event::LateWritten(late) => {
                for item in &late.items {
                    let key = (late.place.clone(), item.item.clone());
                    self.late.insert(key, evidence(decoded));
                }
            }
            Event::RunFinished(_) => self.rest_on(decoded),
            Event::ContainerListed(listed) => self.listed(decoded, listed),
            Event::ItemFound(found) if is_calendar(decoded) => self.found(decoded, found),
            Event::ItemDecided(taken) if is_calendar(decoded) => {
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
            Event::ItemDeleteIntended(intent) if is_calendar(decoded) => {
                self.intended(decoded, intent);
            }
            Event::ItemDeleted(deleted) if is_calendar(decoded) => {
                let outcome = match deleted.outcome {
                    GoneHow::Deleted => DeleteOutcome::Deleted {
                        backup: self.has_backup(&decoded.entry.subject),
                    },
                    other => other.into(),
                };
                let changed = deleted.outcome != GoneHow::AlreadyGone;
                self.ended(decoded, deleted.intent, outcome, changed);
            }
            Event::ItemDeleteFailed(failed) if is_calendar(decoded) => {
                let changed = failed.outcome == NotGone::Unknown;
                self.ended(decoded, failed.intent, failed.outcome.into(), changed);
            }
            Event::ItemHeld(held) if is_calendar(decoded) => self.held(decoded, held),
            Event::ItemRestoreIntended(intent) if is_calendar(decoded) => {
                self.restore_intended(decoded, intent);
            }
            Event::ItemRestored(restored) if is_calendar(decoded) => {
                let changed = restored.outcome == BackHow::Restored;
                let fact = Fact::RestoreEnded(RestoreOutcome::Restored);
                self.settled(decoded, restored.intent, fact, changed);
            }
            Event::ItemRestoreFailed(failed) if is_calendar(decoded) => {
                let fact = Fact::RestoreEnded(RestoreOutcome::Failed);
                self.settled(decoded, failed.intent, fact, false);
            }
            Event::ItemObserved(seen) if is_calendar(decoded) => {
                self.fact(decoded, Fact::Observed(seen.observation));
            }
            Event::SubjectErased(erased) => {
                for (subject, state) in &erased.items {
                    self.custody.apply(subject, Fact::Erased(*state));
                    let trace = self.traces.entry(subject.clone()).or_default();
                    *trace = Trace {
                        last: Some(evidence(decoded)),
                        ..Trace::default()
                    };
                }
            }
            // A newer program did something to an item, and this one does not know what.
            Event::Unknown(event) if is_calendar(decoded) && event.name.starts_with("item.") => {
                self.newer_types += 1;
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

fn is_calendar(decoded: &Decoded) -> bool {
    decoded.entry.subject.kind() == CALENDAR_KIND
}

impl Plan {
    fn take(&mut self, lines: Vec<PlanItem>) {
        let delete = Disposition::Delete.name();
        let deletes = lines.iter().filter(|line| line.disposition == delete);
        self.deletes
            .extend(deletes.map(|line| (line.subject.clone(), line.version.clone())));
        self.lines = lines;
    }
}

impl CustodyFold {
    fn rest_on(&mut self, decoded: &Decoded) {
        self.evidence.push(evidence(decoded));
    }

    fn trace(&mut self, decoded: &Decoded) -> &mut Trace {
        let trace = self
            .traces
            .entry(decoded.entry.subject.clone())
            .or_default();
        trace.last = Some(evidence(decoded));
        trace
    }

    fn fact(&mut self, decoded: &Decoded, fact: Fact) {
        self.custody.apply(&decoded.entry.subject, fact);
        self.trace(decoded);
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
        if is_calendar(decoded) && name.starts_with("item.") {
            *self.unreadable.entry(why).or_default() += 1;
            self.looked_at = true;
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
        } else if matches!(name, "plan.sealed" | "plan.approved") {
            *self.unreadable.entry(why).or_default() += 1;
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
        if !is_calendar(decoded) || !entry.event_type.as_str().starts_with("item.") {
            return;
        }
        self.looked_at = true;
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
        let place = self.places.entry(listed.place.clone()).or_default();
        place.observed = Some(Look {
            at: entry.recorded_at,
            by: entry.actor.clone(),
            grade: grade.unwrap_or(Grade::Reported),
        });
    }

    /// A run that looks again at what another did says how good that is; independent is nobody of what he did himself.
    fn observes(&mut self, decoded: &Decoded, started: &RunStarted) {
        let Some(run) = decoded.entry.run else { return };
        let of = started.options.get("of");
        let of = of.and_then(|of| of.parse::<RunId>().ok());
        let first = of.and_then(|of| self.actors.get(&of));
        let is_another = first.is_some_and(|first| *first != decoded.entry.actor);
        let said = started.options.get("grade").map(String::as_str);
        let grade = match said {
            Some("independent") if is_another => Grade::Independent,
            _ => Grade::Observed,
        };
        self.grades.insert(run, grade);
    }

    fn found(&mut self, decoded: &Decoded, found: &ItemFound) {
        self.looked_at = true;
        if found.body.as_ref().is_some_and(is_true) {
            let seq = decoded.entry.seq;
            let trace = self.traces.entry(decoded.entry.subject.clone());
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
                dry_run.ids.push((found.place.clone(), found.item.clone()));
            }
            // After the seal of its run, or of no run: no seal counts it.
            _ => self.extra += 1,
        }
    }

    fn sealed(&mut self, decoded: &Decoded, sealed: &PlanSealed) {
        self.looked_at = true;
        self.rest_on(decoded);
        let run = decoded.entry.run;
        let dry_run = run.and_then(|run| self.dry_runs.remove(&run));
        let dry_run = dry_run.unwrap_or_default();
        self.sealed_runs.extend(run);
        // From now on the plan says where it is.
        for key in &dry_run.ids {
            self.late.remove(key);
        }
        match base_of(sealed) {
            Ok(None) => self.inventoried(decoded, sealed, dry_run),
            Ok(Some(base)) => self.overlaid(decoded, sealed, Some(base), dry_run),
            Err(_) => self.overlaid(decoded, sealed, None, dry_run),
        }
    }

    /// Who seals a plan and who started the run that does.
    fn sealers(&self, decoded: &Decoded) -> BTreeSet<Actor> {
        let starter = decoded.entry.run.and_then(|run| self.actors.get(&run));
        std::iter::once(&decoded.entry.actor)
            .chain(starter)
            .cloned()
            .collect()
    }

    /// A dry run has ended: what it found is the inventory.
    fn inventoried(&mut self, decoded: &Decoded, sealed: &PlanSealed, dry_run: DryRun) {
        let recorded_at = decoded.entry.recorded_at;
        self.sealed_at = self.sealed_at.max(Some(recorded_at));
        self.v2_observed_at = self.v2_observed_at.max(v2_observed_at(sealed, recorded_at));

        let hidden = (dry_run.unreadable.len() + dry_run.erased.len()) as u64;
        let known = dry_run.found.len() as u64 + hidden;
        self.count(sealed, known);
        let lines: Vec<PlanItem> = dry_run.found.iter().map(|(line, _)| line.clone()).collect();
        let is_as_sealed = plan_hash(&header(sealed), &lines).ok() == Some(sealed.plan);
        // With an entry unread the hash cannot be had, and that is said already.
        let is_told_apart = hidden == 0;
        self.plans_not_as_sealed += u64::from(!is_as_sealed && is_told_apart);

        let sealers = self.sealers(decoded);
        let plan = self.plans.entry(sealed.plan).or_default();
        plan.makers.extend(sealers.iter().cloned());
        plan.finders.extend(sealers);
        plan.known = known;
        plan.hidden = hidden;
        // What was approved is the hash: items that do not give it are nobody's approval.
        if is_as_sealed || !is_told_apart {
            plan.take(lines);
        }
        let mut named = BTreeSet::new();
        for (line, disposition) in dry_run.found {
            self.custody.apply(&line.subject, Fact::Found(disposition));
            self.inventory.insert(line.subject.clone());
            let trace = self.traces.entry(line.subject.clone()).or_default();
            trace.last = Some(evidence(decoded));
            trace.doubtful |= !named.insert(line.subject);
        }
        self.inventory.extend(dry_run.erased);
        for subject in dry_run.unreadable {
            self.traces.entry(subject.clone()).or_default().unread = true;
            self.inventory.insert(subject);
        }
    }

    /// A person has decided about what a plan holds: the items are the same, and nothing was looked at anew.
    fn overlaid(
        &mut self,
        decoded: &Decoded,
        sealed: &PlanSealed,
        base: Option<Hash>,
        run: DryRun,
    ) {
        let below = base.and_then(|base| Some((base, self.plans.get(&base)?)));
        let found: Vec<PlanItem> = run.found.iter().map(|(line, _)| line.clone()).collect();
        let mut makers = self.sealers(decoded);
        makers.extend(run.decided.iter().map(|decided| decided.by.clone()));
        let Some((base, below)) = below else {
            // Of a plan that nobody sealed: nothing can be made of it.
            self.plans_not_as_sealed += 1;
            self.plans
                .entry(sealed.plan)
                .or_default()
                .makers
                .extend(makers);
            return;
        };
        makers.extend(below.makers.iter().cloned());
        let (finders, known) = (below.finders.clone(), below.known);
        let unread = (run.unreadable.len() + run.erased.len()) as u64 + run.undecided;
        let hidden = below.hidden + unread;
        let rules = Below {
            plan: base,
            lines: &below.lines,
            finders: &finders,
        };
        let lines = if hidden == 0 {
            let lines = rules.overlaid(sealed, &found, &run.decided).ok();
            lines.filter(|lines| plan_hash(&header(sealed), lines).ok() == Some(sealed.plan))
        } else {
            Some(rules.as_far_as_told(&found, &run.decided))
        };
        self.count(sealed, known);
        let is_sound = lines.is_some();
        self.plans_not_as_sealed += u64::from(!is_sound);
        let plan = self.plans.entry(sealed.plan).or_default();
        plan.makers.extend(makers);
        plan.finders.extend(finders);
        plan.known = known;
        plan.hidden = hidden;
        plan.take(lines.unwrap_or_default());
        for subject in run.unreadable {
            self.traces.entry(subject).or_default().unread = true;
        }
        if !is_sound {
            return;
        }
        let taken = run.decided.into_iter();
        let taken: BTreeMap<Subject, Decision> =
            taken.map(|one| (one.subject, one.decision)).collect();
        for line in found {
            let fact = match taken.get(&line.subject) {
                Some(Decision::Delete) => Fact::Found(Disposition::Delete),
                Some(Decision::Keep) => Fact::Excluded,
                None => continue,
            };
            self.custody.apply(&line.subject, fact);
            let trace = self.traces.entry(line.subject).or_default();
            trace.last = Some(evidence(decoded));
        }
    }

    /// Holds the count of a seal against what the log has.
    fn count(&mut self, sealed: &PlanSealed, known: u64) {
        self.missing += sealed.items.saturating_sub(known);
        self.extra += known.saturating_sub(sealed.items);
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
        trace.open = Some(OpenIntent::new(decoded, &intent.place));
        trace.backup = if is_true(&intent.backup) {
            Some(seq)
        } else {
            None
        };
    }

    fn restore_intended(&mut self, decoded: &Decoded, intent: &RestoreIntended) {
        self.fact(decoded, Fact::RestoreIntended);
        let trace = self.trace(decoded);
        trace.doubtful |= trace.open.is_some();
        trace.open = Some(OpenIntent::new(decoded, &intent.place));
    }

    fn ended(&mut self, decoded: &Decoded, intent: EntryId, outcome: DeleteOutcome, changed: bool) {
        self.settled(decoded, intent, Fact::DeleteEnded(outcome), changed);
    }

    /// An intent has its outcome; `changed`: something outside is not as it was.
    fn settled(&mut self, decoded: &Decoded, intent: EntryId, fact: Fact, changed: bool) {
        self.fact(decoded, fact);
        let recorded_at = decoded.entry.recorded_at;
        let trace = self.trace(decoded);
        match trace.open.take() {
            Some(open) => {
                trace.doubtful |= open.id != intent;
                if changed {
                    let place = self.places.entry(open.place).or_default();
                    place.changed_at = place.changed_at.max(Some(recorded_at));
                }
            }
            None => trace.doubtful = true,
        }
    }

    /// Left for a person at the moment of deletion. It says something of what was to be deleted, and of nothing else.
    fn held(&mut self, decoded: &Decoded, held: &ItemHeld) {
        let item = self.custody.get(&decoded.entry.subject);
        match item.map(|item| (item.state(), item.is_open())) {
            Some((State::Planned, false)) if held.cause == "gone" => {
                self.fact(decoded, Fact::Observed(Observation::Gone));
            }
            Some((State::Planned, false)) => self.fact(decoded, Fact::Found(Disposition::Hold)),
            Some(_) => {}
            None => self.trace(decoded).doubtful = true,
        }
    }

    /// The state of an item, with what the entries themselves show.
    pub fn state(&self, subject: &Subject) -> Option<State> {
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
            Some(state) => Some(state),
            None if self.inventory.contains(subject) => Some(State::Unaccounted),
            None => None,
        }
    }

    /// Every item of a sealed plan, and every other that something was done to.
    pub fn subjects(&self) -> BTreeSet<&Subject> {
        let touched = self.custody.iter().map(|(subject, _)| subject);
        let doubtful = self.traces.iter();
        let doubtful = doubtful.filter(|(_, trace)| trace.doubtful || trace.unread);
        let doubtful = doubtful.map(|(subject, _)| subject);
        self.inventory
            .iter()
            .chain(touched)
            .chain(doubtful)
            .collect()
    }

    /// The items per state. What a seal counts and the log does not hold is `unaccounted`.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for subject in self.subjects() {
            sums.add(self.state(subject).unwrap_or(State::Unaccounted), 1);
        }
        sums.add(State::Unaccounted, self.missing);
        sums.add(State::LateWrite, self.late.len() as u64);
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

    /// The facts of the scope, as the verdict takes them; `None` where nobody ever looked at it.
    pub fn facts(&self) -> Option<ScopeFacts> {
        if !self.looked_at && self.subjects().is_empty() {
            return None;
        }
        let sealed = self
            .sealed_at
            .map(|_| (self.inventory.len() as u64 + self.missing).saturating_sub(self.extra));
        let mut sums = self.sums();
        if sealed.is_none() {
            // An interrupted inventory: shown as far as it came.
            for (_, disposition) in self.dry_runs.values().flat_map(|run| &run.found) {
                sums.add(State::of_disposition(*disposition), 1);
            }
        }
        Some(ScopeFacts {
            sealed,
            sums,
            unreadable_entries: self.unreadable.values().sum::<u64>() + self.newer_types,
            plans_not_as_sealed: self.plans_not_as_sealed,
            sides: self.sides(),
            ..ScopeFacts::default()
        })
    }

    fn sides(&self) -> Vec<Side> {
        // Of the places that we changed, the one looked at longest ago speaks for all; without any, of all places. Each is
        // held against our own changes to it alone.
        let any_changed = self.places.values().any(|place| place.changed_at.is_some());
        let speaking = self.places.values();
        let speaking = speaking.filter(|place| !any_changed || place.changed_at.is_some());
        let looks = speaking.map(|place| place.observed.as_ref());
        let oldest = looks.min_by_key(|look| look.map(|look| look.at)).flatten();
        let seen_at = |place: &Place| place.observed.as_ref().map(|look| look.at);
        let stale = self
            .places
            .values()
            .filter(|place| place.changed_at.is_some() && seen_at(place) < place.changed_at);
        let stale_before = stale.filter_map(|place| place.changed_at).max();
        let side = |name: &str, observed_at| Side {
            name: name.to_owned(),
            observed_at,
            ..Side::default()
        };
        vec![
            side("v1", self.sealed_at.map(Timestamp::instant)),
            side("v2", self.v2_observed_at),
            Side {
                observed_by: oldest.map(|look| look.by.clone()),
                grade: oldest.map(|look| look.grade),
                stale_before: stale_before.map(Timestamp::instant),
                ..side("google", oldest.map(|look| look.at.instant()))
            },
        ]
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
                    scope: Scope::Calendar,
                    subject: subject.to_string(),
                    state: State::Missing,
                    restore: backup
                        .map(|seq| format!("the backup in entry {seq}"))
                        .or_else(|| copy.map(|seq| format!("the copy kept in entry {seq}"))),
                    seq: newest(subject).map_or(0, |last| last.seq),
                }
            })
            .chain(self.late.iter().map(|((_, item), shown)| LostItem {
                scope: Scope::Calendar,
                subject: late_subject(item),
                state: State::LateWrite,
                restore: Some(
                    "the event itself, which is in the calendar: see that the new system has what it says"
                        .to_owned(),
                ),
                seq: shown.seq,
            }))
            .collect()
    }

    /// The entries that the verdict rests on: seals, approvals, ends of runs, intents in flight, and what shows a loss.
    pub fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = self.evidence.clone();
        let open = self.traces.values().filter_map(|trace| trace.open.as_ref());
        evidence.extend(open.map(|open| open.evidence.clone()));
        let lost = |subject: &&Subject| self.state(subject) == Some(State::Missing);
        let lost = self.traces.iter().filter(|(subject, _)| lost(subject));
        evidence.extend(lost.filter_map(|(_, trace)| trace.last.clone()));
        evidence.extend(self.late.values().cloned());
        evidence
    }
}

/// What the retired system wrote late has no identity of its own here until a dry run finds it: its id's digest tells it apart.
fn late_subject(item: &str) -> String {
    let digest = Hash::of(item.as_bytes()).to_string();
    format!("late-item:{}", digest.get(..16).unwrap_or_default())
}

/// When the new system was observed for a plan: its oldest export, by the export's own time. `None`: there was none.
fn v2_observed_at(sealed: &PlanSealed, recorded_at: Timestamp) -> Option<DateTime<Utc>> {
    let exports = || {
        sealed
            .header
            .iter()
            .filter(|(name, _)| name.starts_with("v2_export"))
    };
    let taken = exports().filter(|(name, _)| name.ends_with("_taken_at"));
    let taken = taken.filter_map(|(_, time)| Timestamp::parse_lenient(time).ok());
    exports().next()?;
    Some(taken.min().unwrap_or(recorded_at).instant())
}

#[cfg(test)]
#[path = "custody_tests.rs"]
mod tests;
