//! What the log says of the items of a plan by now, and where they lie: what a look at the places is held against.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::domain::event::{ContainerListed, Event, ItemHeld, NotGone, is_missed};
use ledger::domain::id::{Actor, EntryId, RunId, Subject, Timestamp};
use ledger::domain::identify::Disposition;
use ledger::projections::fold::{self, At, Decoded, Projection, Unreadable};
use ledger::projections::plan::{self, PlannedItem, SealedPlan};
use ledger::projections::restore::{Deletion, RestoreFold};
use ledger::store::Store;

use super::Observed;
use super::report::Unreached;
use crate::engine::EngineError;
use crate::executors::{Kinds, PlannedUser};

/// What the ledger says of the items of a plan.
pub(super) struct Expected {
    pub(super) places: Vec<ExpectedPlace>,
    /// What nobody can look at: users that the plan did not reach either, and accounts that were erased since.
    pub(super) out_of_reach: Vec<Unreached>,
    /// Items that were erased with their owner.
    pub(super) erased: u64,
    /// Everybody who recorded something in the run.
    pub(super) actors: BTreeSet<Actor>,
    /// All entries up to this one were read.
    pub(super) seq: u64,
}

/// The items of one place.
pub(super) struct ExpectedPlace {
    pub(super) id: String,
    pub(super) owner: Subject,
    pub(super) users: Vec<PlannedUser>,
    /// Address of the first of them, as the ledger has it.
    pub(super) email: Option<String>,
    pub(super) items: Vec<ExpectedItem>,
    /// Ids that items of this ledger had or have there, and that any plan names.
    pub(super) ours: BTreeSet<String>,
    /// From right before the run.
    pub(super) before: Option<String>,
    /// From the plan.
    pub(super) planned: Option<String>,
    /// What the retired system made after this, the plan does not know.
    pub(super) planned_at: Timestamp,
}

pub(super) struct ExpectedItem {
    pub(super) subject: Subject,
    /// Its id, the new one where it was put back under another.
    pub(super) item: String,
    /// Ids under which it must not be there beside that one.
    pub(super) others: Vec<String>,
    pub(super) now: Now,
}

/// Where an item has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    /// Gone by our hand or before us, as an outcome says.
    Gone,
    /// Gone when the plan was made, or when it was to be deleted.
    GoneBefore,
    /// There in this version, if one is known.
    There(Option<String>),
    /// An attempt has no outcome: nothing is expected.
    Open,
}

/// The last word on an item, whichever plan it was said under.
#[derive(Debug, Default)]
struct Word {
    /// An intent without outcome, and the version that was to be deleted.
    open: Option<(EntryId, Option<String>)>,
    now: Option<Now>,
}

impl Word {
    fn says(&mut self, now: Now) {
        self.open = None;
        self.now = Some(now);
    }

    /// The outcome of the intent in flight, told by the version in that; one of another intent says nothing that could be believed.
    fn ended(&mut self, intent: EntryId, now: impl FnOnce(Option<String>) -> Option<Now>) {
        let open = self.open.take_if(|(open, _)| *open == intent);
        if let Some(now) = open.and_then(|(_, version)| now(version)) {
            self.says(now);
        }
    }

    fn held(&mut self, held: &ItemHeld) {
        match held.cause.as_str() {
            "gone" => self.says(Now::GoneBefore),
            // The new system relies on it; nobody has changed it.
            "adopted" => {}
            // It was no longer the version of the plan then.
            _ => self.says(Now::There(None)),
        }
    }
}

/// Folds the last word on each item, and what a run and its plan say of places and users.
struct Words {
    run: RunId,
    plan: RunId,
    items: HashMap<Subject, Word>,
    actors: BTreeSet<Actor>,
    places: BTreeMap<String, Listed>,
    /// By owner, from right before the run.
    before: HashMap<Subject, Option<String>>,
    /// By account, the users that lead there.
    leads: HashMap<Subject, Vec<Subject>>,
    /// Users that the plan did not reach, and why.
    unreached: BTreeMap<Subject, String>,
    /// What an inventory found, by its run; it counts once a plan is sealed with it.
    found: HashMap<RunId, Vec<(String, String)>>,
    /// By place, the ids that a plan names.
    named: HashMap<String, BTreeSet<String>>,
    /// By item, the owner with whom it was erased.
    erased: HashMap<Subject, Subject>,
}

/// A place as the plan has it.
struct Listed {
    owner: Subject,
    cursor: Option<String>,
    at: Timestamp,
}

impl Projection for Words {
    fn apply(&mut self, decoded: &Decoded) {
        let entry = &decoded.entry;
        let (subject, run) = (&entry.subject, entry.run);
        if run == Some(self.run) {
            self.actors.insert(entry.actor.clone());
        }
        let event = match &decoded.event {
            Ok(event) => event,
            Err(Unreadable::Erased) => return,
            Err(_) => {
                let name = entry.event_type.as_str();
                let starts = ["item.delete", "item.restore", "item.held"];
                if starts.iter().any(|start| name.starts_with(start)) {
                    self.word(subject).says(Now::Open);
                }
                return;
            }
        };
        match event {
            Event::UserFound(found) if run == Some(self.plan) => {
                if let Some(account) = &found.account {
                    let users = self.leads.entry(account.clone()).or_default();
                    users.push(subject.clone());
                } else if is_missed(&found.access) {
                    self.unreached.insert(subject.clone(), found.reason.clone());
                }
            }
            Event::ContainerListed(listed) => self.listed(decoded, listed),
            Event::ItemFound(found) => {
                if let Some(run) = run {
                    let found = (found.place.clone(), found.item.clone());
                    self.found.entry(run).or_default().push(found);
                }
            }
            Event::PlanSealed(_) => {
                let found = run.and_then(|run| self.found.remove(&run));
                for (place, item) in found.unwrap_or_default() {
                    self.named.entry(place).or_default().insert(item);
                }
            }
            Event::ItemDeleteIntended(intent) => {
                self.word(subject).open = Some((entry.id, Some(intent.version.clone())));
            }
            Event::ItemDeleted(deleted) => {
                let word = self.word(subject);
                word.ended(deleted.intent, |_| Some(Now::Gone));
            }
            Event::ItemDeleteFailed(failed) => {
                let now = |version| match failed.outcome {
                    NotGone::Changed => Now::There(None),
                    NotGone::Unknown => Now::Open,
                    NotGone::Adopted | NotGone::Failed => Now::There(version),
                };
                let word = self.word(subject);
                word.ended(failed.intent, |version| Some(now(version)));
            }
            Event::ItemHeld(held) => self.word(subject).held(held),
            Event::ItemRestoreIntended(_) => self.word(subject).open = Some((entry.id, None)),
            Event::ItemRestored(restored) => {
                let now = Now::There(restored.version.clone());
                self.word(subject).ended(restored.intent, |_| Some(now));
            }
            Event::ItemRestoreFailed(failed) => {
                self.word(subject).ended(failed.intent, |_| None);
            }
            Event::SubjectErased(said) => {
                let items = said.items.keys().cloned();
                self.erased
                    .extend(items.map(|item| (item, subject.clone())));
            }
            _ => {}
        }
    }
}

impl Words {
    fn word(&mut self, item: &Subject) -> &mut Word {
        self.items.entry(item.clone()).or_default()
    }

    fn listed(&mut self, decoded: &Decoded, listed: &ContainerListed) {
        let entry = &decoded.entry;
        match listed.phase.as_str() {
            "plan" if entry.run == Some(self.plan) => {
                let by_service = listed.remote_date.as_deref();
                let by_service = by_service.and_then(|date| Timestamp::parse_lenient(date).ok());
                let place = Listed {
                    owner: entry.subject.clone(),
                    cursor: listed.sync_token.clone(),
                    at: by_service.unwrap_or(entry.recorded_at),
                };
                self.places.insert(listed.place.clone(), place);
            }
            // A run that was resumed keeps what its first part listed.
            "before" if entry.run == Some(self.run) => {
                let before = self.before.entry(entry.subject.clone());
                before.or_insert_with(|| listed.sync_token.clone());
            }
            _ => {}
        }
    }

    fn now(&self, planned: &PlannedItem) -> Now {
        let as_planned = || match planned.disposition {
            Disposition::Done => Now::GoneBefore,
            _ => Now::There(planned.version.clone()),
        };
        let Some(word) = self.items.get(&planned.subject) else {
            return as_planned();
        };
        if word.open.is_some() {
            return Now::Open;
        }
        word.now.clone().unwrap_or_else(as_planned)
    }
}

impl Expected {
    pub(super) async fn read(
        store: &Store,
        of: &Observed,
        kinds: &Kinds,
    ) -> Result<Self, EngineError> {
        let sealed = plan::load_what_is_left(store, of.plan).await?;
        super::super::live::of_kind(&sealed, &kinds.item)?;
        let mut deletions = RestoreFold::default();
        let mut words = Words {
            run: of.run,
            plan: sealed.run,
            items: HashMap::new(),
            actors: BTreeSet::new(),
            places: BTreeMap::new(),
            before: HashMap::new(),
            leads: HashMap::new(),
            unreached: BTreeMap::new(),
            found: HashMap::new(),
            named: HashMap::new(),
            erased: HashMap::new(),
        };
        let pass = fold::run(store, At::Head, &mut [&mut deletions, &mut words]).await?;
        let mut expected = Self {
            places: Vec::new(),
            out_of_reach: Vec::new(),
            erased: sealed.erased.len() as u64,
            actors: std::mem::take(&mut words.actors),
            seq: pass.last.map(|(seq, _)| seq).unwrap_or_default(),
        };
        expected
            .lay_out(store, &sealed, &deletions, &words, kinds)
            .await?;
        expected.not_seen(store, &sealed, &words).await?;
        Ok(expected)
    }

    /// Every place of the plan with its items; also those in which it has none, where the retired system may write all the same.
    async fn lay_out(
        &mut self,
        store: &Store,
        sealed: &SealedPlan,
        deletions: &RestoreFold,
        words: &Words,
        kinds: &Kinds,
    ) -> Result<(), EngineError> {
        let mut places: BTreeSet<String> = words.places.keys().cloned().collect();
        let reached = |item: &PlannedItem| {
            let reached = item.disposition != Disposition::OutOfReach && !item.place.is_empty();
            reached && !item.item.is_empty()
        };
        for item in sealed.items.iter() {
            let item = item?;
            if reached(&item) && !places.contains(&item.place) {
                places.insert(item.place);
            }
        }
        for id in &places {
            let mut items = sealed.items.at(id)?;
            items.retain(reached);
            let listed = words.places.get(id);
            let owner = match listed {
                Some(listed) => Some(listed.owner.clone()),
                None => store.subject_of(&kinds.owner, id).await?,
            };
            let Some(owner) = owner else {
                self.out_of_reach.push(Unreached {
                    user: String::new(),
                    reason: "an account of the plan has no subject in this ledger any more"
                        .to_owned(),
                });
                continue;
            };
            let of_items = items.iter().map(|item| &item.subject);
            let mut users: Vec<PlannedUser> = Vec::new();
            let mut email = None;
            let found = of_items.flat_map(|subject| deletions.users_of(subject));
            let leads = words.leads.get(&owner).into_iter().flatten();
            for user in found.chain(leads.map(|subject| deletions.user(subject))) {
                email = email.or(user.email);
                if user.id.is_none() || !users.iter().any(|known| known.id == user.id) {
                    users.push(PlannedUser {
                        id: user.id,
                        credential: user.credential,
                    });
                }
            }
            let items = items.iter().map(|item| {
                let deletion = deletions.last(&item.subject);
                let done = deletion.and_then(|deletion| deletion.back.done.as_ref());
                let becomes = done.map(|done| done.restored.becomes.clone());
                let others = deletion.into_iter().flat_map(Deletion::other_ids);
                ExpectedItem {
                    subject: item.subject.clone(),
                    item: becomes.unwrap_or_else(|| item.item.clone()),
                    others: others.map(str::to_owned).collect(),
                    now: words.now(item),
                }
            });
            let mut ours = deletions.ids_at(id);
            ours.extend(words.named.get(id).into_iter().flatten().cloned());
            self.places.push(ExpectedPlace {
                id: id.to_owned(),
                items: items.collect(),
                users,
                email,
                ours,
                before: words.before.get(&owner).cloned().flatten(),
                planned: listed.and_then(|listed| listed.cursor.clone()),
                planned_at: listed.map_or(sealed.entry.recorded_at, |listed| listed.at),
                owner,
            });
        }
        Ok(())
    }

    /// What cannot be looked at, so that nobody takes it for seen.
    async fn not_seen(
        &mut self,
        store: &Store,
        sealed: &SealedPlan,
        words: &Words,
    ) -> Result<(), EngineError> {
        for (user, reason) in &words.unreached {
            let id = store.natural_id(user).await?;
            self.out_of_reach.push(Unreached {
                user: id.unwrap_or_else(|| user.to_string()),
                reason: format!("the plan did not reach this user either: {reason}"),
            });
        }
        let mut owners: BTreeMap<Option<&Subject>, u64> = BTreeMap::new();
        for item in &sealed.erased {
            *owners.entry(words.erased.get(item)).or_default() += 1;
        }
        self.out_of_reach
            .extend(owners.into_values().map(|items| Unreached {
                user: String::new(),
                reason: format!("{items} items of the plan were erased with their owner, and nobody knows where they lay"),
            }));
        Ok(())
    }
}
