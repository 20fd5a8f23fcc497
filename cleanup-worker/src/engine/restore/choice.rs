//! What is to be put back: the deletions that are meant, place by place, and what hinders.

use std::collections::{BTreeMap, BTreeSet};

use ledger::domain::hash::Hash;
use ledger::domain::id::Subject;
use ledger::projections::fold::{self, At};
use ledger::projections::restore::{Deletion, RestoreFold, Selection};
use ledger::store::Store;

use crate::engine::EngineError;
use crate::executors::PlannedUser;

/// What is meant by a selection, as the log stands.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What was asked for.
    pub selection: Selection,
    /// Place by place.
    pub(super) places: Vec<ChosenPlace>,
    /// The plans concerned, each with the plan at its bottom, under whose lease it is executed.
    pub(super) plans: BTreeMap<Hash, Subject>,
    /// These and every plan that is executed together with one of them.
    pub(super) together: BTreeSet<Hash>,
    /// Digest of the deletions that are meant, whatever became of them since: by it a run that was interrupted is found again.
    pub(super) digest: Hash,
    /// Items of the whole ledger whose entries cannot be read; whether they are meant cannot be told.
    pub unreadable: u64,
}

impl Choice {
    /// Deletions that are meant.
    pub fn items(&self) -> u64 {
        let items = self.places.iter().map(|place| place.deletions.len() as u64);
        items.sum()
    }

    /// Places that they lie in.
    pub fn places(&self) -> u64 {
        self.places.len() as u64
    }

    /// Nothing remains to be done, and nothing to be looked at.
    pub(super) fn is_settled(&self) -> bool {
        self.back() == self.items() && !self.places.iter().any(|place| place.unseen)
    }

    /// Of these, the ones that are back already.
    pub fn back(&self) -> u64 {
        let deletions = self.places.iter().flat_map(|place| &place.deletions);
        deletions.filter(|one| one.back.done.is_some()).count() as u64
    }
}

/// The deletions of one place that are meant.
#[derive(Debug, Clone)]
pub(super) struct ChosenPlace {
    pub(super) id: String,
    pub(super) users: Vec<PlannedUser>,
    /// Of the first user, for where the place cannot be opened.
    pub(super) user: String,
    pub(super) email: Option<String>,
    pub(super) deletions: Vec<Deletion>,
    /// Ids that items of this ledger had or have there: none of them stands for another.
    pub(super) ours: BTreeSet<String>,
    /// Something was put back there and nobody has looked since: an earlier run was interrupted.
    pub(super) unseen: bool,
    /// Where it stands among the others, for the order of the report.
    pub(super) position: usize,
}

/// Reads what a selection means from the log, of this kind of item.
///
/// # Errors
/// The ledger could not be read.
pub async fn choose(
    store: &Store,
    selection: &Selection,
    kind: &str,
) -> Result<Choice, EngineError> {
    let mut deletions = RestoreFold::default();
    fold::run(store, At::Head, &mut [&mut deletions]).await?;
    let mut places: BTreeMap<String, ChosenPlace> = BTreeMap::new();
    let mut plans = BTreeMap::new();
    let mut digested = String::new();
    let meant = deletions.select(selection).into_iter();
    for deletion in meant.filter(|deletion| deletion.subject.kind() == kind) {
        if let Some(subject) = deletions.root(deletion.plan) {
            plans.insert(deletion.plan, subject.clone());
        }
        digested.push_str(&deletion.intent.to_string());
        let position = places.len();
        let place = places
            .entry(deletion.place.clone())
            .or_insert_with(|| ChosenPlace {
                id: deletion.place.clone(),
                users: Vec::new(),
                user: String::new(),
                email: None,
                deletions: Vec::new(),
                ours: deletions.ids_at(&deletion.place),
                unseen: deletions.is_unseen(&deletion.place),
                position,
            });
        for user in deletions.users_of(&deletion.subject) {
            if place.user.is_empty() {
                place.user = user.id.clone().unwrap_or_default();
                place.email.clone_from(&user.email);
            }
            if user.id.is_none() || !place.users.iter().any(|known| known.id == user.id) {
                place.users.push(PlannedUser {
                    id: user.id,
                    credential: user.credential,
                });
            }
        }
        place.deletions.push(deletion.clone());
    }
    let roots: BTreeSet<Subject> = plans.values().cloned().collect();
    Ok(Choice {
        together: deletions.together(&roots),
        selection: selection.clone(),
        places: places.into_values().collect(),
        plans,
        digest: Hash::of(digested.as_bytes()),
        unreadable: deletions.unreadable().count() as u64,
    })
}
