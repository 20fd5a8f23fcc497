//! The names of an item that came back under another id: whatever is found under that is the same item.
//!
//! The id stands in the intent to put it back, so that what a dry run finds is known for that item even where nobody heard how the attempt ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::{ItemFound, RestoreIntended};
use crate::domain::id::Subject;

/// Which subjects are other names of an item.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// By place and id, the item that was given the id when it was put back.
    came_back_as: BTreeMap<(String, String), Subject>,
    /// By the subject that a dry run gave what it found there, the item.
    others: BTreeMap<Subject, Subject>,
}

impl Names {
    /// An item gets another id, if it comes back.
    pub(super) fn becomes(&mut self, subject: &Subject, intent: &RestoreIntended) {
        if intent.becomes != intent.item {
            let item = self.of(subject).clone();
            let key = (intent.place.clone(), intent.becomes.clone());
            self.came_back_as.entry(key).or_insert(item);
        }
    }

    /// Something was found, perhaps what came back.
    pub(super) fn found(&mut self, subject: &Subject, found: &ItemFound) {
        if self.came_back_as.is_empty() {
            return;
        }
        let key = (found.place.clone(), found.item.clone());
        if let Some(item) = self.came_back_as.get(&key).filter(|item| *item != subject) {
            self.others.insert(subject.clone(), item.clone());
        }
    }

    /// The name under which an item is kept.
    pub(super) fn of<'a>(&'a self, subject: &'a Subject) -> &'a Subject {
        self.others.get(subject).unwrap_or(subject)
    }

    /// The item of which this is another name.
    pub(super) fn other(&self, subject: &Subject) -> Option<&Subject> {
        self.others.get(subject)
    }

    /// The items that have another name which is this text.
    pub(super) fn called(&self, text: &str) -> BTreeSet<&Subject> {
        let others = self.others.iter();
        let called = others.filter(|(other, _)| is_called(other, text));
        called.map(|(_, item)| item).collect()
    }

    /// The other names of an item.
    pub(super) fn others(&self, item: &Subject) -> impl Iterator<Item = &Subject> {
        let others = self.others.iter();
        others.filter_map(move |(other, of)| (of == item).then_some(other))
    }
}

/// Whether a subject is named so: whole, or by its UUID.
pub(super) fn is_called(subject: &Subject, text: &str) -> bool {
    subject.to_string() == text || subject.uuid().as_hyphenated().to_string() == text
}
