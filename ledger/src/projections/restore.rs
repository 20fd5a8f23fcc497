//! What of the deletions in the log can be put back, and what was: the last deletion of each item, where its backup lies, and
//! how far putting it back has come.
//!
//! Only what this ledger deleted is here. What was gone before our request is its owner's doing and is not brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::explain::is_unreadable;
use super::fold::{Decoded, Projection, Unreadable, shared};
use super::names::{Names, is_called};
use super::overlay::base_of;
use super::plan::is_true;
use crate::domain::event::{
    DeleteIntended, Event, GoneHow, ItemRestored, NotGone, RestoreIntended,
};
use crate::domain::hash::Hash;
use crate::domain::id::{EntryId, RunId, Subject, Timestamp};

/// One item that this ledger deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The item.
    pub subject: Subject,
    /// Entry of the intent, which holds the backup.
    pub intent: EntryId,
    /// Its number.
    pub seq: u64,
    /// The plan that named it.
    pub plan: Hash,
    /// The run that deleted it.
    pub run: Option<RunId>,
    /// Its class by the policy, as it was found last before the deletion.
    pub class: Arc<str>,
    /// Where it lay.
    pub place: String,
    /// Its id there.
    pub item: String,
    /// SHA-256 of the backup.
    pub backup_sha256: Hash,
    /// Whether the backup's bytes give that digest.
    pub is_true: bool,
    /// It could not be read whole when it was found, so that its backup may not be taken back.
    pub is_unreadable: bool,
    /// How it came to be gone; `None`: that is not known, or it is not gone.
    pub gone: Option<GoneHow>,
    /// The deletion has no outcome yet.
    pub open: bool,
    /// How far putting it back has come.
    pub back: Progress,
    /// Other plans that named it, and their runs, which met it gone by this deletion.
    pub also: Vec<(Hash, Option<RunId>)>,
    /// The deletion by which it was gone when this attempt was begun: it stands, unless this one deleted it anew.
    before: Option<Box<Deletion>>,
}

impl Deletion {
    /// It is gone by this one, and not back.
    fn stands(&self) -> bool {
        let by_us = matches!(
            self.gone,
            Some(GoneHow::Deleted | GoneHow::GoneCauseUnknown)
        );
        by_us && !self.open && self.back.done.is_none()
    }

    /// Whether one of the plans and runs that were to delete it is meant.
    fn is_of(&self, is_meant: &impl Fn(Hash, Option<RunId>) -> bool) -> bool {
        is_meant(self.plan, self.run)
            || self.also.iter().any(|(plan, run)| is_meant(*plan, *run))
            || self.before.as_ref().is_some_and(|it| it.is_of(is_meant))
    }

    fn is_called(&self, text: &str) -> bool {
        self.item == text || is_called(&self.subject, text)
    }

    fn is_of_run(&self, run: RunId) -> bool {
        self.is_of(&|_, of| of == Some(run))
    }

    /// An attempt that met it gone by an earlier one of ours adds nothing to that: what can be put back is what that one deleted.
    fn met(&mut self, how: GoneHow) {
        let Some(mut before) = self.before.take() else {
            return;
        };
        if how != GoneHow::Deleted {
            before.also.append(&mut self.also);
            before.also.push((self.plan, self.run));
            *self = *before;
        }
    }

    /// Why it cannot be put back, if so; in words.
    pub fn hindrance(&self) -> Option<&'static str> {
        if self.open {
            return Some(
                "what became of its deletion is not known yet: run the cleanup of its plan again first",
            );
        }
        match self.gone {
            None => Some("this ledger did not delete it"),
            Some(GoneHow::AlreadyGone) => Some("it was gone before any request of ours"),
            Some(_) if !self.is_true => Some("its backup is not what its digest says"),
            Some(_) => None,
        }
    }

    /// Of an item that is back: the ids under which it must not be there beside the one that it has now.
    pub fn other_ids(&self) -> impl Iterator<Item = &str> {
        let now = self.back.done.as_ref().map(|done| &done.restored.becomes);
        let ids = std::iter::once(&self.item).chain(&self.back.ids);
        let mut seen = BTreeSet::new();
        ids.filter(move |id| now.is_some_and(|now| now != *id) && seen.insert(*id))
            .map(String::as_str)
    }
}

/// How far putting an item back has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Highest attempt so far; 0 where there was none.
    pub attempts: u32,
    /// The ids that earlier attempts would have given it.
    pub ids: BTreeSet<String>,
    /// The attempt in flight.
    pub open: Option<OpenRestore>,
    /// Why the last attempt did not bring it back, if that is so.
    pub failed: Option<String>,
    /// It is back, as far as the log knows.
    pub done: Option<Done>,
}

/// An intent to put an item back without outcome: its effect may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRestore {
    /// The entry, which its outcome names.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// Which attempt.
    pub attempt: u32,
    /// By which way.
    pub way: String,
    /// The id that it would have.
    pub becomes: String,
}

/// That an item is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Number of the entry that says so.
    pub seq: u64,
    /// Hash of that entry.
    pub hash: Hash,
    /// The run that put it back.
    pub run: Option<RunId>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What it says.
    pub restored: ItemRestored,
}

/// A user through whom an item was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Id in the retired system.
    pub id: Option<String>,
    /// E-mail address in the retired system.
    pub email: Option<String>,
    /// Digest of the stored credential, as the last dry run saw it.
    pub credential: Option<String>,
}

/// Which deletions are meant. What is not given does not narrow; everything given has to hold.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The id of an item where it lies, its subject, or the subject's UUID.
    pub item: Option<String>,
    /// Items found through these users.
    pub users: Option<BTreeSet<Subject>>,
    /// Items that this run deleted, or met gone by an earlier deletion of ours.
    pub run: Option<RunId>,
    /// Items that this plan named, or one that is made of the same by decisions.
    pub plan: Option<Hash>,
}

/// An item that came back, for those who recorded its old id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repoint {
    /// Id of the user in the retired system, of the first through whom it was found.
    pub user: Option<String>,
    /// E-mail address of that user.
    pub email: Option<String>,
    /// Where it lies.
    pub place: String,
    /// Its id when it was deleted: what v1, and perhaps v2, recorded.
    pub old_id: String,
    /// Its id now.
    pub new_id: String,
    /// Whether the two differ, so that who recorded the old one has to record the new one.
    pub repoint: bool,
    /// By which way it came back.
    pub way: String,
    /// Its version now.
    pub version: Option<String>,
    /// Fields that are not as in the backup: those first that should be.
    pub differs: Vec<String>,
    /// Fields that could not come back this way.
    pub lost: Vec<String>,
    /// The plan that named it.
    pub plan: Hash,
    /// The run that deleted it.
    pub deleted_by: Option<RunId>,
    /// The run that put it back.
    pub restored_by: Option<RunId>,
    /// When that was recorded.
    pub restored_at: Timestamp,
    /// The entry that says so.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// How an item was found last.
#[derive(Debug)]
struct Found {
    users: Vec<Subject>,
    class: Arc<str>,
    is_unreadable: bool,
}

/// Folds the deletions and what was done to undo them.
#[derive(Debug, Default)]
pub struct RestoreFold {
    deletions: BTreeMap<Subject, Deletion>,
    found: BTreeMap<Subject, Found>,
    classes: BTreeSet<Arc<str>>,
    users: BTreeMap<Subject, User>,
    /// By plan, the one at the bottom of it as a subject: what is executed of all plans above that is one work.
    plans: BTreeMap<Hash, Subject>,
    /// What each run is.
    runs: BTreeMap<RunId, String>,
    /// By place, the last entry that put something back there, and the last that listed it.
    places: BTreeMap<String, (u64, u64)>,
    erased: BTreeSet<Subject>,
    unreadable: BTreeMap<Subject, (u64, Unreadable)>,
    /// Other names of items that came back under another id.
    names: Names,
    /// Of an item that came back and was deleted under its other name, the names in that order.
    deleted_as: BTreeMap<Subject, Subject>,
}

impl Projection for RestoreFold {
    fn apply(&mut self, decoded: &Decoded) {
        let entry = &decoded.entry;
        let subject = &entry.subject;
        if decoded.is_of_user()
            && let Some(id) = &decoded.natural_id
        {
            self.users.entry(subject.clone()).or_default().id = Some(id.clone());
        }
        let event = match &decoded.event {
            Ok(event) => event,
            Err(why) => return self.cannot_read(decoded, *why),
        };
        match event {
            Event::RunStarted(started) => {
                if let Some(run) = entry.run {
                    let verb = self.runs.entry(run);
                    verb.or_insert_with(|| started.verb.clone());
                }
            }
            Event::UserFound(found) => {
                let user = self.users.entry(subject.clone()).or_default();
                user.email.clone_from(&found.email);
                user.credential.clone_from(&found.token_fingerprint);
            }
            Event::PlanSealed(sealed) => {
                let base = base_of(sealed).ok().flatten();
                let root = base
                    .and_then(|base| self.plans.get(&base))
                    .unwrap_or(subject);
                self.plans.insert(sealed.plan, root.clone());
            }
            Event::ContainerListed(listed) => {
                self.places.entry(listed.place.clone()).or_default().1 = entry.seq;
            }
            Event::ItemFound(found) => {
                self.names.found(subject, found);
                let found = Found {
                    users: found.users.clone(),
                    class: shared(&mut self.classes, &found.class),
                    is_unreadable: is_unreadable(found),
                };
                self.found.insert(subject.clone(), found);
            }
            Event::ItemDeleteIntended(intent) => self.delete_intended(decoded, intent),
            Event::ItemDeleted(deleted) => {
                if let Some(deletion) = self.of_intent(subject, deleted.intent) {
                    deletion.open = false;
                    deletion.gone = Some(deleted.outcome);
                    deletion.met(deleted.outcome);
                }
            }
            Event::ItemDeleteFailed(failed) => {
                if let Some(deletion) = self.of_intent(subject, failed.intent) {
                    deletion.open = failed.outcome == NotGone::Unknown;
                    if let Some(before) = deletion.before.take_if(|_| !deletion.open) {
                        *deletion = *before;
                    }
                }
            }
            Event::ItemRestoreIntended(intent) => self.restore_intended(decoded, intent),
            Event::ItemRestored(restored) => self.restored(decoded, restored),
            Event::ItemRestoreFailed(failed) => {
                if self.restore_ended(subject, failed.intent)
                    && let Some(deletion) = self.deletions.get_mut(subject)
                {
                    deletion.back.failed = Some(failed.reason.clone());
                }
            }
            Event::SubjectErased(said) => {
                for subject in said.items.keys() {
                    self.deletions.remove(subject);
                    self.erased.insert(subject.clone());
                }
            }
            _ => {}
        }
    }
}

impl RestoreFold {
    /// An entry that says nothing about an item makes it one of which nothing is done.
    fn cannot_read(&mut self, decoded: &Decoded, why: Unreadable) {
        let entry = &decoded.entry;
        let about_deletions = ["item.delete", "item.restore"];
        let name = entry.event_type.as_str();
        if !about_deletions.iter().any(|start| name.starts_with(start)) {
            return;
        }
        if why == Unreadable::Erased {
            self.erased.insert(entry.subject.clone());
        } else {
            let known = self.unreadable.entry(entry.subject.clone());
            known.or_insert((entry.seq, why));
        }
    }

    fn of_intent(&mut self, subject: &Subject, intent: EntryId) -> Option<&mut Deletion> {
        let deletion = self.deletions.get_mut(subject)?;
        (deletion.intent == intent).then_some(deletion)
    }

    fn delete_intended(&mut self, decoded: &Decoded, intent: &DeleteIntended) {
        let entry = &decoded.entry;
        // The one deletion that can be undone is that of what came back.
        let item = self.names.of(&entry.subject);
        if *item != entry.subject {
            self.deleted_as.insert(item.clone(), entry.subject.clone());
        }
        let before = match self.deletions.remove(&entry.subject) {
            Some(stands) if stands.stands() => Some(Box::new(stands)),
            // Of an attempt that nobody knows the end of, the one before may still stand.
            other => other.and_then(|attempt| attempt.before),
        };
        let deletion = Deletion {
            subject: entry.subject.clone(),
            intent: entry.id,
            seq: entry.seq,
            plan: intent.plan,
            run: entry.run,
            class: self
                .found
                .get(&entry.subject)
                .map_or_else(|| Arc::from(""), |found| Arc::clone(&found.class)),
            place: intent.place.clone(),
            item: intent.item.clone(),
            backup_sha256: intent.backup.sha256,
            is_true: is_true(&intent.backup),
            is_unreadable: self
                .found
                .get(&entry.subject)
                .is_some_and(|found| found.is_unreadable),
            gone: None,
            open: true,
            back: Progress::default(),
            also: Vec::new(),
            before,
        };
        self.deletions.insert(entry.subject.clone(), deletion);
    }

    fn restore_intended(&mut self, decoded: &Decoded, intent: &RestoreIntended) {
        let entry = &decoded.entry;
        self.names.becomes(&entry.subject, intent);
        let Some(deletion) = self.of_intent(&entry.subject, intent.deletion) else {
            return;
        };
        let back = &mut deletion.back;
        // What was put back was gone again.
        back.done = None;
        back.failed = None;
        back.attempts = back.attempts.max(intent.attempt);
        back.ids.insert(intent.becomes.clone());
        back.open = Some(OpenRestore {
            id: entry.id,
            seq: entry.seq,
            attempt: intent.attempt,
            way: intent.way.clone(),
            becomes: intent.becomes.clone(),
        });
    }

    fn restored(&mut self, decoded: &Decoded, restored: &ItemRestored) {
        let entry = &decoded.entry;
        self.places.entry(restored.place.clone()).or_default().0 = entry.seq;
        // An outcome of another intent says nothing that could be believed.
        if self.restore_ended(&entry.subject, restored.intent)
            && let Some(deletion) = self.deletions.get_mut(&entry.subject)
        {
            deletion.back.done = Some(Done {
                seq: entry.seq,
                hash: decoded.hash,
                run: entry.run,
                recorded_at: entry.recorded_at,
                restored: restored.clone(),
            });
        }
    }

    /// Closes the intent in flight; false where it is another one.
    fn restore_ended(&mut self, subject: &Subject, intent: EntryId) -> bool {
        let Some(deletion) = self.deletions.get_mut(subject) else {
            return false;
        };
        let open = &mut deletion.back.open;
        let is_it = open.as_ref().is_some_and(|open| open.id == intent);
        if is_it {
            *open = None;
        }
        is_it
    }

    /// The last deletion of each item that is meant, by place and id. Items whose entries cannot be read are not among them.
    pub fn select(&self, selection: &Selection) -> Vec<&Deletion> {
        let text = selection.item.as_deref();
        let called = text.map(|text| self.names.called(text)).unwrap_or_default();
        let mut selected: Vec<_> = self
            .deletions
            .values()
            .filter(|deletion| !self.unreadable.contains_key(&deletion.subject))
            .filter(|deletion| !self.is_deleted_since(&deletion.subject))
            .filter(|deletion| self.is_meant(deletion, selection, &called))
            .collect();
        selected.sort_by(|a, b| (&a.place, &a.item).cmp(&(&b.place, &b.item)));
        selected
    }

    fn is_meant(
        &self,
        deletion: &Deletion,
        selection: &Selection,
        called: &BTreeSet<&Subject>,
    ) -> bool {
        let subject = &deletion.subject;
        let named = |text: &String| {
            let back = deletion.back.done.as_ref();
            let former = self.names.other(subject);
            let former = former.and_then(|item| self.deletions.get(item));
            deletion.is_called(text)
                || back.is_some_and(|back| *text == back.restored.becomes)
                || former.is_some_and(|former| former.is_called(text))
                || called.contains(subject)
        };
        let of_users = |asked: &BTreeSet<Subject>| {
            let found = self.found.get(subject);
            found.is_some_and(|found| found.users.iter().any(|user| asked.contains(user)))
        };
        selection.item.as_ref().is_none_or(named)
            && selection.users.as_ref().is_none_or(of_users)
            && selection.run.is_none_or(|run| deletion.is_of_run(run))
            && selection
                .plan
                .is_none_or(|asked| deletion.is_of(&|plan, _| self.is_of(plan, asked)))
    }

    /// What came back of it under another name was deleted since, and that was not without effect.
    fn is_deleted_since(&self, subject: &Subject) -> bool {
        let since = self.deleted_as.get(self.names.of(subject));
        let since = since.filter(|since| *since != subject);
        let since = since.and_then(|since| self.deletions.get(since));
        since.is_some_and(|deletion| deletion.open || deletion.gone.is_some())
    }

    /// The last deletion of an item, whatever plan named it.
    pub fn last(&self, item: &Subject) -> Option<&Deletion> {
        self.deletions.get(item)
    }

    /// Whether two plans are one, or made of one by decisions.
    fn is_of(&self, plan: Hash, asked: Hash) -> bool {
        let root = |plan| self.plans.get(&plan);
        plan == asked || (root(plan).is_some() && root(plan) == root(asked))
    }

    /// Items of which something was begun and whose entries cannot be read, with the first such entry: nothing is done to them.
    pub fn unreadable(&self) -> impl Iterator<Item = (&Subject, u64, Unreadable)> {
        let unreadable = self.unreadable.iter();
        unreadable.map(|(subject, (seq, why))| (subject, *seq, *why))
    }

    /// Items that were erased with their owner: their backups are gone, and nothing brings them back.
    pub fn erased(&self) -> &BTreeSet<Subject> {
        &self.erased
    }

    /// Every id that an item of this place had when it was deleted, or was given or meant to be given when it was put back.
    pub fn ids_at(&self, place: &str) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for deletion in self.deletions.values().filter(|one| one.place == place) {
            ids.insert(deletion.item.clone());
            ids.extend(deletion.back.ids.iter().cloned());
        }
        ids
    }

    /// Whether something was put back in this place and nobody has looked at it since.
    pub fn is_unseen(&self, place: &str) -> bool {
        let at = self.places.get(place);
        at.is_some_and(|(changed, listed)| changed > listed)
    }

    /// What a run is (`cleanup`, `restore`, `dry_run`, …); `None`: no run of this id was started.
    pub fn verb(&self, run: RunId) -> Option<&str> {
        self.runs.get(&run).map(String::as_str)
    }

    /// The plan at the bottom of a plan, as a subject.
    pub fn root(&self, plan: Hash) -> Option<&Subject> {
        self.plans.get(&plan)
    }

    /// Every plan that is executed together with one of these: made of the same by decisions.
    pub fn together(&self, roots: &BTreeSet<Subject>) -> BTreeSet<Hash> {
        let plans = self.plans.iter();
        let together = plans.filter(|(_, root)| roots.contains(*root));
        together.map(|(plan, _)| *plan).collect()
    }

    /// The users through whom an item was found.
    pub fn users_of(&self, subject: &Subject) -> Vec<User> {
        let users = self
            .found
            .get(subject)
            .into_iter()
            .flat_map(|found| &found.users);
        users.map(|user| self.user(user)).collect()
    }

    /// What is known of a user.
    pub fn user(&self, subject: &Subject) -> User {
        self.users.get(subject).cloned().unwrap_or_default()
    }

    /// The users whose e-mail, id in the retired system, subject or subject's UUID is this text.
    pub fn users_named(&self, text: &str) -> BTreeSet<Subject> {
        let named = |(subject, user): &(&Subject, &User)| {
            let email = user.email.as_deref();
            email.is_some_and(|email| email.eq_ignore_ascii_case(text))
                || user.id.as_deref() == Some(text)
                || subject.to_string() == text
                || subject.uuid().as_hyphenated().to_string() == text
        };
        let named = self.users.iter().filter(named);
        named.map(|(subject, _)| subject.clone()).collect()
    }

    /// What came back, of one run, of that which deleted or of that which restored, or of all; in the order in which it came back.
    pub fn repoints(&self, run: Option<RunId>) -> Vec<Repoint> {
        let mut repoints = Vec::new();
        for deletion in self.deletions.values() {
            let Some(done) = &deletion.back.done else {
                continue;
            };
            if run.is_some_and(|run| done.run != Some(run) && !deletion.is_of_run(run)) {
                continue;
            }
            let user = self
                .users_of(&deletion.subject)
                .into_iter()
                .next()
                .unwrap_or_default();
            let restored = &done.restored;
            repoints.push(Repoint {
                user: user.id,
                email: user.email,
                place: deletion.place.clone(),
                old_id: deletion.item.clone(),
                new_id: restored.becomes.clone(),
                repoint: deletion.item != restored.becomes,
                way: restored.way.clone(),
                version: restored.version.clone(),
                differs: restored.differs.clone(),
                lost: restored.lost.clone(),
                plan: deletion.plan,
                deleted_by: deletion.run,
                restored_by: done.run,
                restored_at: done.recorded_at,
                seq: done.seq,
                hash: done.hash,
            });
        }
        repoints.sort_by_key(|line| line.seq);
        repoints
    }
}

impl Done {
    /// Back as it was, but for what its way cannot bring back.
    pub fn is_faithful(&self) -> bool {
        self.restored.verified && self.restored.differs.is_empty()
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
