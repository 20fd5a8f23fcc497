//! A sealed plan as it lies in the log: its items, who made it, who approved it. How far it has been executed: `progress.rs`.
//!
//! [`load`] gives nothing that was not recomputed: the hash is that of the items found in the log, or there is no plan.

mod items;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

pub use self::items::Items;
use self::items::{Collector, lines};
pub use self::lines::{Lines, LinesError};
use super::fold::{Decoded, Unreadable};
use super::overlay::{Below, Decided, OverlayError, base_of};
pub use super::progress::{OpenIntent, Progress, Reached, family, is_deleted, progress};
use crate::chain::canonical::CanonicalError;
use crate::chain::entry::Entry;
use crate::chain::plan::PlanItem;
use crate::domain::event::{Body, Event, ItemFound, PlanApproved, PlanSealed};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, EventType, RunId, Subject, Timestamp};
use crate::domain::identify::Disposition;
use crate::store::Store;
use crate::store::read::{Filter, ReadError};
use crate::store::spool::SpoolError;

/// Fewest hex digits by which a plan may be named.
pub const PREFIX_DIGITS_MIN: usize = 8;

/// A plan cannot be had from the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The log could not be read.
    #[error("read a plan from the log")]
    Read(#[source] ReadError),
    /// Nobody sealed such a plan.
    #[error("no plan {0} was sealed in this ledger")]
    NoSuchPlan(String),
    /// The text is no hash and no beginning of one.
    #[error("a plan is named by its hash or by its first {PREFIX_DIGITS_MIN} or more hex digits")]
    Name,
    /// Several plans begin like this.
    #[error("{} plans begin with {prefix}", found.len())]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The plans.
        found: Vec<Hash>,
    },
    /// An entry that is needed says nothing.
    #[error("read entry {seq} of the plan: {}", why.words())]
    Unreadable {
        /// Which entry.
        seq: u64,
        /// Why.
        why: Unreadable,
    },
    /// The seal names no run, so its items cannot be told from those of others.
    #[error("the seal of plan {plan}, entry {seq}, belongs to no run")]
    NoRun {
        /// The plan.
        plan: Hash,
        /// Entry of the seal.
        seq: u64,
    },
    /// The seal counts other items than the log holds.
    #[error("plan {plan} was sealed with {sealed} items and the log holds {found}")]
    Count {
        /// The plan.
        plan: Hash,
        /// By the seal.
        sealed: u64,
        /// In the log.
        found: u64,
    },
    /// One item stands in the plan twice.
    #[error("plan {plan} names {subject} more than once")]
    Twice {
        /// The plan.
        plan: Hash,
        /// The item.
        subject: Subject,
    },
    /// The items found do not give the hash.
    #[error("the items in the log give the hash {computed}, and the plan was sealed as {plan}")]
    Mismatch {
        /// The plan.
        plan: Hash,
        /// What the log gives.
        computed: Hash,
    },
    /// It says that it is made of another plan by decisions, and may not be taken as that.
    #[error("plan {plan} is not what its decisions make of the plan below")]
    Overlay {
        /// The plan.
        plan: Hash,
        /// Why.
        #[source]
        source: OverlayError,
    },
    /// Its items could not be kept at hand, or read back.
    #[error("keep the items of a plan at hand")]
    Items(#[source] SpoolError),
    /// A kept item is not what its digest says.
    #[error("the item kept in entry {seq} is not what its digest says")]
    Body {
        /// Which entry.
        seq: u64,
    },
    /// The header cannot be hashed.
    #[error("hash plan {plan}")]
    Canonical {
        /// The plan.
        plan: Hash,
        /// Why.
        #[source]
        source: CanonicalError,
    },
}

/// One line of a plan with what its execution needs, without the item's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedItem {
    /// The item.
    pub subject: Subject,
    /// The entry that found it.
    pub seq: u64,
    /// Where it lies (a calendar).
    pub place: String,
    /// Its id there.
    pub item: String,
    /// Version that was read (an etag); `None` where it could not be.
    pub version: Option<String>,
    /// Class by the policy.
    pub class: String,
    /// Disposition by the policy.
    pub disposition: Disposition,
    /// Why, in words.
    pub reason: String,
    /// Date of the deadline, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// For a future deadline that would go: whether the new system has one that stands for it.
    pub covered: Option<bool>,
    /// Users through whom it was reached.
    pub users: Vec<Subject>,
    /// SHA-256 of the item's bytes, where they are kept.
    pub body_sha256: Option<Hash>,
}

impl PlannedItem {
    fn new(subject: Subject, seq: u64, found: ItemFound) -> Self {
        Self {
            subject,
            seq,
            place: found.place,
            item: found.item,
            version: found.version,
            class: found.class,
            disposition: found.disposition,
            reason: found.reason,
            date: found.date,
            covered: found.covered,
            users: found.users,
            body_sha256: found.body.map(|body| body.sha256),
        }
    }

    /// The line as it is hashed.
    pub fn line(&self) -> PlanItem {
        PlanItem {
            subject: self.subject.clone(),
            version: self.version.clone().unwrap_or_default(),
            class: self.class.clone(),
            disposition: self.disposition.name().to_owned(),
        }
    }
}

/// One approval of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The entry.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Who approved.
    pub person: Actor,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// From then on nothing new is begun under it.
    pub expires_at: Timestamp,
    /// `asserted` or `signed`.
    pub assurance: String,
}

impl Approval {
    pub(super) fn new(entry: &Entry, hash: Hash, approved: &PlanApproved) -> Self {
        Self {
            id: entry.id,
            seq: entry.seq,
            hash,
            person: entry.actor.clone(),
            recorded_at: entry.recorded_at,
            expires_at: approved.expires_at,
            assurance: approved.assurance.clone(),
        }
    }

    /// Whether something new may be begun under it at this time.
    pub fn holds_at(&self, time: Timestamp) -> bool {
        self.recorded_at <= time && time < self.expires_at
    }

    /// Whether it may count at all: given by a person who did not make the plan (four eyes).
    pub fn is_independent_of(&self, makers: &BTreeSet<Actor>) -> bool {
        is_person(&self.person) && !self.person.is_among(makers)
    }
}

/// Whether the actor is a person.
pub fn is_person(actor: &Actor) -> bool {
    actor.as_str().starts_with("person:")
}

/// A sealed plan whose items in the log give its hash.
#[derive(Debug, Clone)]
pub struct SealedPlan {
    /// Its hash, which is what is approved.
    pub hash: Hash,
    /// The plan as a subject.
    pub subject: Subject,
    /// The dry run that made the inventory: its own, or that of the plan at the bottom.
    pub run: RunId,
    /// The plan that it is made of by decisions, the one below that, and so on to the one that a dry run sealed.
    pub below: Vec<Hash>,
    /// The plan at the bottom as a subject. What is executed of it and of all plans above it is under one lease and one row of
    /// attempts.
    pub root: Subject,
    /// Entry of the seal.
    pub entry: Entry,
    /// Hash of that entry.
    pub entry_hash: Hash,
    /// Everybody who sealed this plan or one below it, started the run that did, or decided about an item; none of them may
    /// approve it.
    pub makers: BTreeSet<Actor>,
    /// Those of them who made the inventory; none of them may decide about what it holds.
    pub finders: BTreeSet<Actor>,
    /// The decisions in it, and in those below.
    pub decisions: Vec<Decided>,
    /// What was sealed; the header among it.
    pub sealed: PlanSealed,
    /// Every item, in the order in which they were found.
    pub items: Items,
    /// Items that were erased with their owner since; there are none but in what [`load_what_is_left`] gives.
    pub erased: BTreeSet<Subject>,
    /// Every approval, oldest first, also lapsed ones.
    pub approvals: Vec<Approval>,
}

impl SealedPlan {
    /// The approval under which something new may be begun at this time by `runner`, who must be somebody else too.
    /// `None`: nothing may be begun.
    pub fn approval_at(&self, time: Timestamp, runner: Option<&Actor>) -> Option<&Approval> {
        self.approvals.iter().rev().find(|approval| {
            approval.holds_at(time)
                && approval.is_independent_of(&self.makers)
                && !approval.person.is_among(runner)
        })
    }

    /// The items of one disposition.
    ///
    /// # Errors
    /// [`PlanError::Items`] for each that cannot be read back.
    pub fn with(
        &self,
        disposition: Disposition,
    ) -> impl Iterator<Item = Result<PlannedItem, PlanError>> + '_ {
        let is_meant = move |item: &Result<PlannedItem, PlanError>| {
            item.as_ref()
                .map_or(true, |item| item.disposition == disposition)
        };
        self.items.iter().filter(is_meant)
    }
}

/// Reads the plan of this hash, recomputed from the entries. Where it was sealed more than once, from the last seal.
///
/// # Errors
/// See [`PlanError`]; a plan whose items do not give its hash is refused, and so is one that its decisions do not make of the
/// plan below.
pub async fn load(store: &Store, hash: Hash) -> Result<SealedPlan, PlanError> {
    load_until(store, hash, u64::MAX, false).await
}

/// The same for looking at what became of it: also a plan of which items were erased with their owners since. What is left of it cannot be
/// held against its hash then, so nothing may be executed by it.
///
/// # Errors
/// As [`load`].
pub async fn load_what_is_left(store: &Store, hash: Hash) -> Result<SealedPlan, PlanError> {
    load_until(store, hash, u64::MAX, true).await
}

/// The same, as if nothing were sealed from this entry on.
async fn load_until(
    store: &Store,
    hash: Hash,
    until: u64,
    also_erased: bool,
) -> Result<SealedPlan, PlanError> {
    let mut seals = Vec::new();
    let mut approvals = Vec::new();
    for_each(store, &["plan.sealed", "plan.approved"], None, |decoded| {
        match &decoded.event {
            Ok(Event::PlanSealed(sealed)) if sealed.plan == hash && decoded.entry.seq < until => {
                seals.push((decoded.entry.clone(), decoded.hash, sealed.clone()));
            }
            // An approval of something not yet sealed approves nothing.
            Ok(Event::PlanApproved(approved)) if approved.plan == hash && !seals.is_empty() => {
                approvals.push(Approval::new(&decoded.entry, decoded.hash, approved));
            }
            _ => {}
        }
        Ok(())
    })
    .await?;
    let mut makers = BTreeSet::new();
    for (entry, ..) in &seals {
        makers.insert(entry.actor.clone());
        for_each(store, &["run.started"], entry.run, |decoded| {
            makers.insert(decoded.entry.actor.clone());
            Ok(())
        })
        .await?;
    }
    let Some((entry, entry_hash, sealed)) = seals.pop() else {
        return Err(PlanError::NoSuchPlan(hash.to_string()));
    };
    let run = entry.run.ok_or(PlanError::NoRun {
        plan: hash,
        seq: entry.seq,
    })?;
    let overlay = |source| PlanError::Overlay { plan: hash, source };
    let base = base_of(&sealed).map_err(overlay)?;
    let (items, erased) = items(store, run, entry.seq).await?;
    if let Some(seq) = erased.values().next().filter(|_| !also_erased) {
        return Err(unreadable(*seq, Unreadable::Erased));
    }
    let mut plan = SealedPlan {
        hash,
        subject: entry.subject.clone(),
        run,
        below: Vec::new(),
        root: entry.subject.clone(),
        entry,
        entry_hash,
        finders: makers.clone(),
        makers,
        decisions: Vec::new(),
        sealed,
        items,
        erased: erased.into_keys().collect(),
        approvals,
    };
    if let Some(base) = base {
        // Sealed before this one, whatever a header says: the row of them has an end.
        let base = Box::pin(load_until(store, base, plan.entry.seq, also_erased)).await?;
        plan.stand_on(base, store).await?;
    }
    plan.check()?;
    Ok(plan)
}

impl SealedPlan {
    /// Takes from the plan below what the decisions leave as it is.
    async fn stand_on(&mut self, base: Self, store: &Store) -> Result<(), PlanError> {
        let decisions = decisions(store, self.run_of_seal()?, self.entry.seq).await?;
        self.erased.extend(base.erased);
        if self.erased.is_empty() {
            let base_lines: Vec<PlanItem> = lines(&base.items).collect::<Result<_, _>>()?;
            let own_lines: Vec<PlanItem> = lines(&self.items).collect::<Result<_, _>>()?;
            let below = Below {
                plan: base.hash,
                lines: &base_lines,
                finders: &base.finders,
            };
            below
                .overlaid(&self.sealed, &own_lines, &decisions)
                .map_err(|source| PlanError::Overlay {
                    plan: self.hash,
                    source,
                })?;
        }
        // What was decided about: few, beside the inventory.
        let mut own = BTreeMap::new();
        for item in self.items.iter() {
            let item = item?;
            own.insert(item.subject.clone(), item);
        }
        let mut all = Collector::new()?;
        for item in base.items.iter() {
            let item = item?;
            all.push(&own.remove(&item.subject).unwrap_or(item))?;
        }
        self.items = all.done()?;
        self.makers.extend(base.makers);
        self.makers
            .extend(decisions.iter().map(|decided| decided.by.clone()));
        self.finders = base.finders;
        self.run = base.run;
        self.root = base.root;
        self.below = std::iter::once(base.hash).chain(base.below).collect();
        self.decisions = base.decisions;
        self.decisions.extend(decisions);
        Ok(())
    }

    /// Refuses items that are not the ones that were sealed.
    fn check(&self) -> Result<(), PlanError> {
        let plan = self.hash;
        let computed = hash_of(&self.sealed, &self.items)?;
        let found = self.items.count() + self.erased.len() as u64;
        count(plan, &self.sealed, found)?;
        if self.erased.is_empty() && computed != plan {
            return Err(PlanError::Mismatch { plan, computed });
        }
        Ok(())
    }

    fn run_of_seal(&self) -> Result<RunId, PlanError> {
        self.entry.run.ok_or(PlanError::NoRun {
            plan: self.hash,
            seq: self.entry.seq,
        })
    }
}

async fn items(
    store: &Store,
    run: RunId,
    to: u64,
) -> Result<(Items, BTreeMap<Subject, u64>), PlanError> {
    let mut items = Collector::new()?;
    let mut erased = BTreeMap::new();
    for_each(store, &["item.found"], Some(run), |decoded| {
        let seq = decoded.entry.seq;
        if seq > to {
            return Ok(());
        }
        let found = match decoded.event {
            Ok(Event::ItemFound(found)) => found,
            Ok(_) => return Err(unreadable(seq, Unreadable::Malformed)),
            Err(Unreadable::Erased) => {
                erased.insert(decoded.entry.subject, seq);
                return Ok(());
            }
            Err(why) => return Err(unreadable(seq, why)),
        };
        if found.body.as_ref().is_some_and(|body| !is_true(body)) {
            return Err(PlanError::Body { seq });
        }
        let subject = decoded.entry.subject;
        items.push(&PlannedItem::new(subject, seq, found))
    })
    .await?;
    Ok((items.done()?, erased))
}

async fn decisions(store: &Store, run: RunId, to: u64) -> Result<Vec<Decided>, PlanError> {
    let mut decisions = Vec::new();
    for_each(store, &["item.decided"], Some(run), |decoded| {
        let seq = decoded.entry.seq;
        match &decoded.event {
            _ if seq > to => {}
            Ok(Event::ItemDecided(decided)) => decisions.push(Decided::new(&decoded, decided)),
            Ok(_) => return Err(unreadable(seq, Unreadable::Malformed)),
            // The item is missing from the plan then, which says so.
            Err(Unreadable::Erased) => {}
            Err(why) => return Err(unreadable(seq, *why)),
        }
        Ok(())
    })
    .await?;
    Ok(decisions)
}

/// The hash of these items under the header of the seal.
fn hash_of(sealed: &PlanSealed, items: &Items) -> Result<Hash, PlanError> {
    let plan = sealed.plan;
    let failed = |error| match error {
        LinesError::Spool(error) => PlanError::Items(error),
        LinesError::Canonical(source) => PlanError::Canonical { plan, source },
        LinesError::Twice(subject) => PlanError::Twice { plan, subject },
    };
    let mut hashed = Lines::new().map_err(failed)?;
    for line in lines(items) {
        hashed.push(&line?).map_err(failed)?;
    }
    hashed.hash(&header(sealed)).map_err(failed)
}

fn count(plan: Hash, sealed: &PlanSealed, found: u64) -> Result<(), PlanError> {
    if found == sealed.items {
        return Ok(());
    }
    Err(PlanError::Count {
        plan,
        sealed: sealed.items,
        found,
    })
}

/// The header as it is hashed.
pub(super) fn header(sealed: &PlanSealed) -> serde_json::Value {
    sealed
        .header
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Whether the bytes are those of the digest.
pub fn is_true(body: &Body) -> bool {
    STANDARD
        .decode(&body.base64)
        .is_ok_and(|bytes| Hash::of(&bytes) == body.sha256)
}

/// The plan that a person names by its hash or an unambiguous beginning of it.
///
/// # Errors
/// There is none, or more than one.
pub async fn find(store: &Store, name: &str) -> Result<Hash, PlanError> {
    let name = name.to_ascii_lowercase();
    let digits = name.bytes().all(|b| b.is_ascii_hexdigit());
    if !digits || !(PREFIX_DIGITS_MIN..=64).contains(&name.len()) {
        return Err(PlanError::Name);
    }
    let mut found = BTreeSet::new();
    for_each(store, &["plan.sealed"], None, |decoded| {
        if let Ok(Event::PlanSealed(sealed)) = &decoded.event
            && sealed.plan.to_string().starts_with(&name)
        {
            found.insert(sealed.plan);
        }
        Ok(())
    })
    .await?;
    let mut found = found.into_iter();
    match (found.next(), found.len()) {
        (None, _) => Err(PlanError::NoSuchPlan(name)),
        (Some(hash), 0) => Ok(hash),
        (Some(hash), _) => Err(PlanError::Ambiguous {
            prefix: name,
            found: std::iter::once(hash).chain(found).collect(),
        }),
    }
}

/// The plan of this kind of item that is in hand: that of a cleanup which was begun and has not ended, else the one sealed last. Whether it may
/// be executed is not said by this.
///
/// # Errors
/// The ledger could not be read.
pub async fn in_hand(store: &Store, kind: &str) -> Result<Option<Hash>, PlanError> {
    let mut of_kind = BTreeSet::new();
    let mut last = None;
    let mut begun: Vec<(Option<RunId>, Hash)> = Vec::new();
    let types = ["plan.sealed", "run.started", "run.finished"];
    for_each(store, &types, None, |decoded| {
        match &decoded.event {
            Ok(Event::PlanSealed(sealed))
                if sealed.header.get("kind").is_none_or(|it| it == kind) =>
            {
                of_kind.insert(sealed.plan);
                last = Some(sealed.plan);
            }
            Ok(Event::RunStarted(started)) if started.verb == "cleanup" => {
                begun.extend(started.plan.map(|plan| (decoded.entry.run, plan)));
            }
            Ok(Event::RunFinished(_)) => begun.retain(|(run, _)| *run != decoded.entry.run),
            _ => {}
        }
        Ok(())
    })
    .await?;
    let mut begun = begun.into_iter().rev();
    let open = begun.find(|(_, plan)| of_kind.contains(plan));
    Ok(open.map(|(_, plan)| plan).or(last))
}

pub(super) fn unreadable(seq: u64, why: Unreadable) -> PlanError {
    PlanError::Unreadable { seq, why }
}

/// Goes through the entries of these types, of one run or of all.
pub(super) async fn for_each(
    store: &Store,
    types: &[&str],
    run: Option<RunId>,
    mut take: impl FnMut(Decoded) -> Result<(), PlanError>,
) -> Result<(), PlanError> {
    #[expect(clippy::expect_used, reason = "the types are this program's own")]
    let types: Vec<EventType> = types
        .iter()
        .map(|name| name.parse().expect("an event type"))
        .collect();
    let filter = Filter {
        types,
        run,
        ..Filter::default()
    };
    let mut entries = pin!(store.read(filter));
    while let Some(recorded) = entries.next().await {
        take(Decoded::from(recorded.map_err(PlanError::Read)?))?;
    }
    Ok(())
}
