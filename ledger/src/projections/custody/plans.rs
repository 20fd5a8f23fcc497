//! What sealed plans say: the inventory of a dry run, and the decisions of a person over one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::scope::{OfKind, v2_observed_at};
use super::{CustodyFold, evidence};
use crate::chain::plan::{PlanItem, plan_hash};
use crate::domain::custody::{Fact, State};
use crate::domain::event::PlanSealed;
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, Subject};
use crate::domain::identify::Disposition;
use crate::domain::review::Decision;
use crate::domain::verdict::Unreached;
use crate::projections::fold::Decoded;
use crate::projections::overlay::{Below, Decided, base_of};
use crate::projections::plan::header;

/// A run that is not sealed yet: a dry run, or one that decides about what a plan holds.
#[derive(Debug, Default)]
pub(super) struct DryRun {
    /// The entry that began it, before anything was read.
    pub(super) started: Option<u64>,
    pub(super) found: Vec<(PlanItem, Disposition)>,
    /// Where each was found.
    pub(super) ids: Vec<Id>,
    /// The places that were listed whole.
    pub(super) listed: BTreeSet<String>,
    pub(super) decided: Vec<Decided>,
    /// Decisions that cannot be read.
    pub(super) undecided: u64,
    /// Items whose entry cannot be read.
    pub(super) unreadable: Vec<Subject>,
    /// Items whose entry was erased with its owner.
    pub(super) erased: Vec<Subject>,
    /// The users that were looked for; those who could not be reached although they had given access.
    pub(super) users: Vec<(Subject, Option<Unreached>)>,
}

/// Where an item was found, and through whom.
#[derive(Debug)]
pub(super) struct Id {
    /// Empty where it could not be reached.
    pub(super) place: Arc<str>,
    pub(super) item: String,
    pub(super) users: Vec<Subject>,
}

/// What later entries are held against.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Kind of its items.
    pub(super) kind: String,
    pub(super) makers: BTreeSet<Actor>,
    /// Who made the inventory.
    pub(super) finders: BTreeSet<Actor>,
    /// Its lines, as far as they can be read; none where they do not give its hash.
    pub(super) lines: Vec<PlanItem>,
    /// Items in the log.
    pub(super) known: u64,
    /// Entries of items and decisions that cannot be read, or were erased with their owner.
    pub(super) hidden: u64,
    /// Versions of the items to be deleted.
    pub(super) deletes: BTreeMap<Subject, String>,
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
    pub(super) fn sealed(&mut self, decoded: &Decoded, sealed: &PlanSealed) {
        self.rest_on(decoded);
        let run = decoded.entry.run;
        let dry_run = run.and_then(|run| self.dry_runs.remove(&run));
        let dry_run = dry_run.unwrap_or_default();
        self.sealed_runs.extend(run);
        let base = base_of(sealed);
        let kind = self.kind_of_plan(sealed, base.as_ref().ok().copied().flatten(), &dry_run);
        let of = self.kind(&kind);
        of.looked_at = true;
        // From now on the plan says where it is.
        if !of.late.is_empty() {
            for id in &dry_run.ids {
                of.late.remove(&(id.place.to_string(), id.item.clone()));
            }
        }
        self.plans.entry(sealed.plan).or_default().kind = kind;
        match base {
            Ok(None) => self.inventoried(decoded, sealed, dry_run),
            Ok(Some(base)) => self.overlaid(decoded, sealed, Some(base), dry_run),
            Err(_) => self.overlaid(decoded, sealed, None, dry_run),
        }
    }

    /// What kind of item a plan is about: as it says, as the plan below it says, or as its items are.
    fn kind_of_plan(&self, sealed: &PlanSealed, base: Option<Hash>, run: &DryRun) -> String {
        let below = || Some(self.plans.get(&base?)?.kind.clone());
        let of_item = || Some(run.found.first()?.0.subject.kind().to_owned());
        let said = sealed.header.get("kind").cloned();
        said.or_else(below).or_else(of_item).unwrap_or_default()
    }

    /// What is known of the kind of a plan that was sealed.
    fn kind_of(&mut self, plan: Hash) -> &mut OfKind {
        let kind = self.plans.get(&plan).map(|plan| plan.kind.clone());
        self.kind(&kind.unwrap_or_default())
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
        let of = self.kind_of(sealed.plan);
        of.sealed_at = of.sealed_at.max(Some(recorded_at));
        for (user, unreached) in dry_run.users {
            match unreached {
                Some(unreached) => of.unreached.insert(user, unreached),
                None => of.unreached.remove(&user),
            };
        }
        of.v2_observed_at = of.v2_observed_at.max(v2_observed_at(sealed, recorded_at));

        let hidden = (dry_run.unreadable.len() + dry_run.erased.len()) as u64;
        let known = dry_run.found.len() as u64 + hidden;
        self.count(sealed, known);
        let lines: Vec<PlanItem> = dry_run.found.iter().map(|(line, _)| line.clone()).collect();
        let is_as_sealed = plan_hash(&header(sealed), &lines).ok() == Some(sealed.plan);
        // With an entry unread the hash cannot be had, and that is said already.
        let is_told_apart = hidden == 0;
        self.kind_of(sealed.plan).plans_not_as_sealed += u64::from(!is_as_sealed && is_told_apart);

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
        let here = dry_run.found.iter().map(|(line, _)| line.subject.clone());
        let here: BTreeSet<Subject> = here.collect();
        self.rename(&dry_run.found, &dry_run.ids, &here);
        let mut named = BTreeSet::new();
        let mut met = BTreeSet::new();
        for ((mut line, disposition), id) in dry_run.found.into_iter().zip(dry_run.ids) {
            let is_new = named.insert(line.subject.clone());
            line.subject = self.names.of(&line.subject).clone();
            let is_gone = matches!(disposition, Disposition::Done | Disposition::OutOfReach);
            // That its old id is gone says nothing of what came back under another one.
            let is_old = is_gone && self.has_another_id(&line.subject, &id.item);
            let is_before = is_old || self.was_read_before(&line, disposition, dry_run.started);
            let fact = if is_before {
                Fact::FoundBefore(disposition)
            } else {
                Fact::Found(disposition)
            };
            self.custody.apply(&line.subject, fact);
            self.inventory.insert(line.subject.clone());
            let trace = self.traces.entry(line.subject.clone()).or_default();
            trace.last = Some(evidence(decoded));
            trace.not_met = false;
            if let Some(done) = trace.done.as_mut().filter(|_| !is_before) {
                done.seq = decoded.entry.seq;
            }
            trace.doubtful |= !is_new;
            if is_old {
                continue;
            }
            met.insert(line.subject.clone());
            if disposition != Disposition::OutOfReach {
                trace.place = Some(id.place);
            } else if trace.place.is_none() {
                self.known_as.remove(&line.subject);
                for user in id.users {
                    let items = self.unreached.entry(user).or_default();
                    items.insert(id.item.clone(), line.subject.clone());
                }
            }
        }
        // What was found and cannot be read was met all the same.
        let unread = dry_run.erased.iter().chain(&dry_run.unreadable);
        met.extend(unread.map(|subject| self.names.of(subject).clone()));
        self.not_met(sealed.plan, &met, &dry_run.listed);
        let erased = dry_run.erased.into_iter();
        let erased = erased.map(|subject| self.names.of(&subject).clone());
        self.inventory.extend(erased);
        for subject in dry_run.unreadable {
            let subject = self.names.of(&subject).clone();
            self.traces.entry(subject.clone()).or_default().unread = true;
            self.inventory.insert(subject);
        }
    }

    /// Whether an item came back under another id than this one.
    fn has_another_id(&self, subject: &Subject, id: &str) -> bool {
        let trace = self.traces.get(subject);
        let now = trace.and_then(|trace| trace.id.as_deref());
        now.is_some_and(|now| now != id)
    }

    /// Whether what a dry run found of an item was read before it went or came back by our hand, or was seen since. What was so before the dry
    /// run began was so before it looked. Of what was done meanwhile the version tells: the one that we deleted is from before.
    /// Without a version nothing shows that, and what is there counts as there.
    fn was_read_before(
        &self,
        line: &PlanItem,
        disposition: Disposition,
        started: Option<u64>,
    ) -> bool {
        let trace = self.traces.get(&line.subject);
        let Some(done) = trace.and_then(|trace| trace.done.as_ref()) else {
            return false;
        };
        if started.is_some_and(|started| started > done.seq) {
            return false;
        }
        match disposition {
            Disposition::Delete | Disposition::Hold | Disposition::Protect => {
                !line.version.is_empty() && line.version == done.version
            }
            Disposition::Done | Disposition::OutOfReach => true,
        }
    }

    /// An item that cannot be reached is named by its user, since nobody knows where it lies, and by its place as soon as it is found there:
    /// it is one item. Not where both names were known before, side by side, or still are.
    fn rename(&mut self, found: &[(PlanItem, Disposition)], ids: &[Id], here: &BTreeSet<Subject>) {
        for ((line, disposition), id) in found.iter().zip(ids) {
            let is_new = !self.inventory.contains(&line.subject)
                && self.names.other(&line.subject).is_none();
            if *disposition == Disposition::OutOfReach || !is_new {
                continue;
            }
            for user in &id.users {
                let items = self.unreached.get_mut(user);
                let Some(former) = items.as_ref().and_then(|items| items.get(&id.item)) else {
                    continue;
                };
                if former.kind() == line.subject.kind() && !here.contains(former) {
                    self.known_as.insert(former.clone(), line.subject.clone());
                    items.and_then(|items| items.remove(&id.item));
                }
            }
        }
    }

    /// What lay in a place that was listed whole and is not among what was found there now has changed or gone without us.
    fn not_met(&mut self, plan: Hash, found: &BTreeSet<Subject>, listed: &BTreeSet<String>) {
        let kind = self.plans.get(&plan).map(|plan| plan.kind.clone());
        for (subject, trace) in &mut self.traces {
            let was_there = trace.place.as_deref();
            let was_there = was_there.is_some_and(|place| listed.contains(place));
            if was_there && Some(subject.kind()) == kind.as_deref() && !found.contains(subject) {
                trace.not_met = true;
            }
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
            self.kind_of(sealed.plan).plans_not_as_sealed += 1;
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
        self.kind_of(sealed.plan).plans_not_as_sealed += u64::from(!is_sound);
        let plan = self.plans.entry(sealed.plan).or_default();
        plan.makers.extend(makers);
        plan.finders.extend(finders);
        plan.known = known;
        plan.hidden = hidden;
        plan.take(lines.unwrap_or_default());
        for subject in run.unreadable {
            let subject = self.names.of(&subject).clone();
            self.traces.entry(subject).or_default().unread = true;
        }
        if !is_sound {
            return;
        }
        let taken = run.decided.into_iter();
        let taken: BTreeMap<Subject, Decision> =
            taken.map(|one| (one.subject, one.decision)).collect();
        for line in found {
            let subject = self.names.of(&line.subject).clone();
            let fact = match taken.get(&line.subject) {
                // Nobody has looked at it for a decision, so what was deleted meanwhile is not there again by that.
                Some(Decision::Delete) if self.is_gone_by_us(&subject) => {
                    Fact::FoundBefore(Disposition::Delete)
                }
                Some(Decision::Delete) => Fact::Found(Disposition::Delete),
                Some(Decision::Keep) => Fact::Excluded,
                None => continue,
            };
            self.custody.apply(&subject, fact);
            let trace = self.traces.entry(subject).or_default();
            trace.last = Some(evidence(decoded));
        }
    }

    fn is_gone_by_us(&self, subject: &Subject) -> bool {
        let item = self.custody.get(subject);
        item.is_some_and(|item| {
            let state = item.state();
            matches!(state, State::Deleted | State::BackupErased | State::Missing)
        })
    }

    /// Holds the count of a seal against what the log has.
    fn count(&mut self, sealed: &PlanSealed, known: u64) {
        let of = self.kind_of(sealed.plan);
        of.missing += sealed.items.saturating_sub(known);
        of.extra += known.saturating_sub(sealed.items);
    }
}

#[cfg(test)]
#[path = "plans_tests.rs"]
mod tests;
