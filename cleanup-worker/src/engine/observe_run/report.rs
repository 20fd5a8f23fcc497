//! What looking again at a run came to.

use std::collections::BTreeMap;

use ledger::domain::id::RunId;
use ledger::domain::observation::Grade;
use serde::Serialize;

/// One item that is not as the ledger says.
#[derive(Debug, Clone, Serialize)]
pub struct ItemSeen {
    /// The item as a subject; null for one that no plan names.
    pub subject: Option<String>,
    /// Where it lies.
    pub place: String,
    /// Its id there.
    pub item: String,
    /// What is the matter, in words.
    pub what: String,
}

/// A user or place that could not be looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Unreached {
    /// Id of the first user in the retired system; empty where that is not known any more.
    pub user: String,
    /// Why, with what to do.
    pub reason: String,
}

/// One place as it was seen.
#[derive(Debug, Clone, Default)]
pub struct PlaceSeenAgain {
    /// Changes that an entry of this ledger explains.
    pub(super) explained: u64,
    /// Items of the plan that are as they were.
    pub(super) unchanged: u64,
    /// Items whose last attempt has no outcome: that is for the run to settle.
    pub(super) open: u64,
    /// Changes to items that no plan names and the retired system did not make.
    pub(super) others: u64,
    /// Differences to which the log has something new to say since it was read: it has to be looked at again.
    pub(super) moved: u64,
    /// Listed whole, because there was no usable cursor from before the run.
    pub(super) whole: bool,
    /// Gone by the ledger, and there.
    pub(super) survivors: Vec<ItemSeen>,
    /// Changed without an entry.
    pub(super) unexplained: Vec<ItemSeen>,
    /// Made by the retired system after the plan.
    pub(super) late: Vec<ItemSeen>,
    pub(super) unreached: Option<Unreached>,
}

/// What looking again came to.
#[derive(Debug, Clone, Serialize)]
pub struct ObserveReport {
    /// This observation, which is a run too.
    pub run: RunId,
    /// The run that was looked at.
    pub of: RunId,
    /// How good the evidence is.
    pub grade: Grade,
    /// The run that was looked at has come to its end.
    pub finished: bool,
    /// `as_recorded`, `differs`, or `not_whole`: what could be seen is as recorded, and not all could be.
    pub status: String,
    /// Counts.
    pub totals: BTreeMap<String, u64>,
    /// Gone by the ledger, and there.
    pub survivors: Vec<ItemSeen>,
    /// Changed, and no entry says why.
    pub unexplained: Vec<ItemSeen>,
    /// Made by the retired system after the plan: it is still writing.
    pub late_writes: Vec<ItemSeen>,
    /// Users and places that could not be looked at.
    pub unreached: Vec<Unreached>,
}

impl ObserveReport {
    pub(super) fn new(run: RunId, of: RunId, grade: Grade, finished: bool) -> Self {
        let names = [
            "places",
            "explained",
            "unchanged",
            "open",
            "moved",
            "erased",
            "others",
            "listed_whole",
        ];
        Self {
            run,
            of,
            grade,
            finished,
            status: String::new(),
            totals: names.map(|name| (name.to_owned(), 0)).into(),
            survivors: Vec::new(),
            unexplained: Vec::new(),
            late_writes: Vec::new(),
            unreached: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, seen: PlaceSeenAgain) {
        let mut count = |name: &str, number: u64| {
            *self.totals.entry(name.to_owned()).or_default() += number;
        };
        count("places", 1);
        count("explained", seen.explained);
        count("unchanged", seen.unchanged);
        count("open", seen.open);
        count("moved", seen.moved);
        count("others", seen.others);
        count("listed_whole", u64::from(seen.whole));
        self.survivors.extend(seen.survivors);
        self.unexplained.extend(seen.unexplained);
        self.late_writes.extend(seen.late);
        self.unreached.extend(seen.unreached);
    }

    /// What nobody could look at, with the number of items that were erased.
    pub(super) fn out_of_reach(&mut self, unreached: Vec<Unreached>, erased: u64) {
        self.unreached.extend(unreached);
        self.totals.insert("erased".to_owned(), erased);
    }

    pub(super) fn finish(&mut self) {
        for (name, count) in [
            ("survivors", self.survivors.len()),
            ("unexplained", self.unexplained.len()),
            ("late_writes", self.late_writes.len()),
            ("unreached", self.unreached.len()),
        ] {
            self.totals.insert(name.to_owned(), count as u64);
        }
        for list in [
            &mut self.survivors,
            &mut self.unexplained,
            &mut self.late_writes,
        ] {
            list.sort_by(|a, b| (&a.place, &a.item).cmp(&(&b.place, &b.item)));
        }
        let differs = self.survivors.len() + self.unexplained.len() + self.late_writes.len() > 0;
        let none = |name| self.totals.get(name) == Some(&0);
        let whole = self.unreached.is_empty() && none("open") && none("moved");
        let status = match (differs, whole) {
            (true, _) => "differs",
            (false, false) => "not_whole",
            (false, true) => "as_recorded",
        };
        status.clone_into(&mut self.status);
    }
}
