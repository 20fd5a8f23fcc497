//! What a restoration came to, or would come to.

use std::collections::{BTreeMap, BTreeSet};

use ledger::domain::id::RunId;
use serde::Serialize;

use super::choice::{Choice, ChosenPlace};

/// How one item ended, or how it stands before anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Put back now.
    Restored,
    /// It was there before any request of ours.
    AlreadyThere,
    /// An earlier run put it back, and it is there.
    BackBefore,
    /// Left, as was asked for: another item stands for the same thing.
    StandIn,
    /// Not back.
    Failed,
    /// In a preview: it would be put back.
    Possible,
    /// In a preview: it would be tried, and may be refused.
    Doubtful,
}

impl Ended {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Restored, "restored"),
        (Self::AlreadyThere, "already_there"),
        (Self::BackBefore, "back_before"),
        (Self::StandIn, "stand_in"),
        (Self::Failed, "failed"),
        (Self::Possible, "possible"),
        (Self::Doubtful, "doubtful"),
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        let names = Self::ALL.iter();
        names
            .filter(|(ended, _)| *ended == self)
            .map(|(_, name)| *name)
            .next()
            .unwrap_or_default()
    }
}

/// One item.
#[derive(Debug, Clone, Serialize)]
pub struct ItemBack {
    /// The item as a subject.
    pub subject: String,
    /// Where it lies.
    pub place: String,
    /// Its id when it was deleted.
    pub old_id: String,
    /// Its id now, or as it would be.
    pub new_id: Option<String>,
    /// By which way.
    pub way: Option<String>,
    /// How it ended.
    pub ended: Ended,
    /// Another live item stands for the same thing: with this one there are two, or would be.
    pub double: bool,
    /// Whether it was read back.
    pub verified: bool,
    /// Fields that are not as in the backup although the way can bring them back.
    pub differs: Vec<String>,
    /// Fields that are not as in the backup because the way cannot bring them back; in a preview, that would not be.
    pub lost: Vec<String>,
    /// Why it is not back, or what is the matter with it.
    pub reason: Option<String>,
}

impl ItemBack {
    /// It is there.
    pub fn is_back(&self) -> bool {
        matches!(
            self.ended,
            Ended::Restored | Ended::AlreadyThere | Ended::BackBefore
        )
    }

    /// It is there, or would be, and so is another that stands for the same.
    pub fn is_twice(&self) -> bool {
        self.double && !matches!(self.ended, Ended::StandIn | Ended::Failed)
    }

    /// Nothing remains to be done about it, and it is as the backup says.
    fn is_well(&self) -> bool {
        match self.ended {
            Ended::Restored | Ended::AlreadyThere | Ended::BackBefore => {
                self.verified && self.differs.is_empty() && self.reason.is_none()
            }
            Ended::Possible => true,
            Ended::StandIn | Ended::Failed | Ended::Doubtful => false,
        }
    }
}

/// One place's part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UserBack {
    /// Id in the retired system of the user through whom it was reached.
    pub user: String,
    /// For the terminal of who may see it.
    pub email: Option<String>,
    #[serde(skip)]
    position: usize,
    /// Items that are meant.
    pub chosen: u64,
    /// Put back now; in a preview, would be.
    pub restored: u64,
    /// There before this run.
    pub there: u64,
    /// Left because another item stands for the same.
    pub stand_in: u64,
    /// There, or put back, beside another item that stands for the same.
    pub doubles: u64,
    /// Not back.
    pub failed: u64,
    /// In a preview: would be tried, and may be refused.
    #[serde(skip_serializing_if = "is_none")]
    pub doubtful: u64,
    /// What went wrong, with what to do.
    pub errors: Vec<String>,
    /// Each item.
    #[serde(skip)]
    pub(super) items: Vec<ItemBack>,
}

impl UserBack {
    pub(super) fn new(place: &ChosenPlace) -> Self {
        Self {
            user: place.user.clone(),
            email: place.email.clone(),
            position: place.position,
            chosen: place.deletions.len() as u64,
            ..Self::default()
        }
    }

    /// Adds to what went wrong; the same thing stands there once.
    pub(super) fn say(&mut self, error: impl Into<String>) {
        let error = error.into();
        if !error.is_empty() && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn add(&mut self, item: ItemBack) {
        self.doubles += u64::from(item.is_twice());
        match item.ended {
            Ended::Restored | Ended::Possible => self.restored += 1,
            Ended::AlreadyThere | Ended::BackBefore => self.there += 1,
            Ended::StandIn => self.stand_in += 1,
            Ended::Failed => self.failed += 1,
            Ended::Doubtful => self.doubtful += 1,
        }
        self.items.push(item);
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What a restoration came to; a preview names no run.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The run.
    pub run: Option<RunId>,
    /// `complete`, `partial`, `interrupted` or `preview`.
    pub status: String,
    /// Items by how they ended.
    pub totals: BTreeMap<String, u64>,
    /// Items by way.
    pub ways: BTreeMap<String, u64>,
    /// By way, the fields that are not as in the backups because the way cannot bring them back; in a preview, that would not be.
    pub lost: BTreeMap<String, BTreeSet<String>>,
    /// Per place.
    pub users: Vec<UserBack>,
    /// Each item.
    pub items: Vec<ItemBack>,
    /// Items of the whole ledger whose entries cannot be read; whether they were meant cannot be told.
    pub unreadable: u64,
}

impl RestoreReport {
    pub(super) fn new(run: Option<RunId>, choice: &Choice) -> Self {
        Self {
            run,
            status: String::new(),
            totals: BTreeMap::new(),
            ways: BTreeMap::new(),
            lost: BTreeMap::new(),
            users: Vec::new(),
            items: Vec::new(),
            unreadable: choice.unreadable,
        }
    }

    pub(super) fn add(&mut self, user: UserBack) {
        self.users.push(user);
    }

    /// Whether everything that was meant is back as it was, but for what its way cannot bring back.
    pub fn all_back(&self) -> bool {
        let items = self.users.iter().flat_map(|user| &user.items);
        items.into_iter().chain(&self.items).all(ItemBack::is_well)
    }

    /// Whether all of it was put back before, and nothing of that is gone again.
    pub(super) fn is_all_before(&self) -> bool {
        let mut items = self.items.iter();
        items.all(|item| item.ended == Ended::BackBefore)
    }

    pub(super) fn finish(&mut self, status: &str) {
        self.users.sort_by_key(|user| user.position);
        for user in &mut self.users {
            self.items.append(&mut user.items);
        }
        let mut total = |name: &str, count: usize| {
            self.totals.insert(name.to_owned(), count as u64);
        };
        total("chosen", self.items.len());
        for (ended, name) in Ended::ALL {
            let count = self.items.iter().filter(|item| item.ended == ended).count();
            if count > 0 || !matches!(ended, Ended::Possible | Ended::Doubtful) {
                total(name, count);
            }
        }
        total(
            "doubles",
            self.items.iter().filter(|item| item.is_twice()).count(),
        );
        let back = || self.items.iter().filter(|item| item.is_back());
        total(
            "differing",
            back().filter(|item| !item.differs.is_empty()).count(),
        );
        total(
            "not_read_back",
            back().filter(|item| !item.verified).count(),
        );
        let moved = |item: &&ItemBack| item.new_id.as_ref().is_some_and(|id| *id != item.old_id);
        total("new_ids", self.items.iter().filter(moved).count());
        for item in &self.items {
            let Some(way) = item.way.as_ref() else {
                continue;
            };
            if matches!(
                item.ended,
                Ended::Restored | Ended::Possible | Ended::Doubtful
            ) {
                *self.ways.entry(way.clone()).or_default() += 1;
                let lost = self.lost.entry(way.clone()).or_default();
                lost.extend(item.lost.iter().cloned());
            }
        }
        status.clone_into(&mut self.status);
    }
}
