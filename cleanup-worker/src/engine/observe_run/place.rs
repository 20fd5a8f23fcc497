//! One place: what the ledger says of its items, and what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::StreamExt as _;
use ledger::domain::custody::{DeleteOutcome, Observation};
use ledger::domain::event::{
    ContainerListed, Event, ItemObserved, LateItem, LateWritten, UserFailed,
};
use ledger::domain::id::{RunId, Subject};
use ledger::domain::identify::Disposition;
use ledger::projections::fold::{self, At};
use ledger::projections::plan::{self, PlannedItem, Progress};
use ledger::projections::restore::{Done, RestoreFold, Selection};
use ledger::store::Store;
use ledger::store::read::Filter;

use super::report::{ItemSeen, PlaceSeenAgain, Unreached};
use super::{Observed, Observer};
use crate::engine::EngineError;
use crate::engine::pace::Pace;
use crate::executors::{Found, ItemError, Kinds, Place, Places, PlannedUser, Seen, SeenItem};

/// What the ledger says of the items of a plan.
pub(super) struct Expected {
    pub(super) places: Vec<ExpectedPlace>,
    /// Cursors by place's owner: from right before the run, else from the plan.
    cursors: HashMap<Subject, String>,
}

/// The items of one place.
pub(super) struct ExpectedPlace {
    id: String,
    owner: Subject,
    users: Vec<PlannedUser>,
    items: Vec<ExpectedItem>,
    /// Ids that items of this ledger had or have there.
    ours: BTreeSet<String>,
}

struct ExpectedItem {
    subject: Subject,
    /// Its id, the new one where it was put back under another.
    item: String,
    now: Now,
}

/// Where an item has to be.
enum Now {
    /// Gone by our hand or before us, as an outcome says.
    Gone,
    /// Gone when the plan was made.
    GoneBefore,
    /// There in this version, if one is known.
    There(Option<String>),
    /// An attempt has no outcome: nothing is expected.
    Open,
}

fn now(planned: &PlannedItem, progress: Option<&Progress>, done: Option<&Done>) -> Now {
    if let Some(done) = done {
        return Now::There(done.restored.version.clone());
    }
    let outcome = progress.and_then(|progress| progress.outcome);
    match outcome {
        _ if progress.is_some_and(|progress| progress.open.is_some()) => Now::Open,
        Some(
            DeleteOutcome::Deleted { .. }
            | DeleteOutcome::GoneCauseUnknown
            | DeleteOutcome::AlreadyGone,
        ) => Now::Gone,
        // It was no longer the version of the plan then.
        Some(DeleteOutcome::Changed) => Now::There(None),
        Some(DeleteOutcome::Unknown) => Now::Open,
        _ if planned.disposition == Disposition::Done => Now::GoneBefore,
        _ if progress.is_some_and(|progress| progress.held) => Now::There(None),
        _ => Now::There(planned.version.clone()),
    }
}

impl Expected {
    pub(super) async fn read(
        store: &Store,
        of: &Observed,
        kinds: &Kinds,
    ) -> Result<Self, EngineError> {
        let sealed = plan::load(store, of.plan).await?;
        let progress = plan::progress(store, of.plan).await?;
        let mut deletions = RestoreFold::default();
        fold::run(store, At::Head, &mut [&mut deletions]).await?;
        let of_plan = Selection {
            plan: Some(of.plan),
            ..Selection::default()
        };
        let done: HashMap<Subject, Done> = deletions
            .select(&of_plan)
            .into_iter()
            .filter_map(|one| Some((one.subject.clone(), one.back.done.clone()?)))
            .collect();
        let mut grouped: BTreeMap<&str, Vec<&PlannedItem>> = BTreeMap::new();
        for item in &sealed.items {
            let reached = item.disposition != Disposition::OutOfReach && !item.place.is_empty();
            if reached && !item.item.is_empty() {
                grouped.entry(&item.place).or_default().push(item);
            }
        }
        let mut places = Vec::new();
        for (id, items) in grouped {
            let Some(owner) = store.subject_of(&kinds.owner, id).await? else {
                return Err(EngineError::Refused(
                    "an account of the plan has no subject any more".to_owned(),
                ));
            };
            let mut users: Vec<PlannedUser> = Vec::new();
            for item in &items {
                for user in deletions.users_of(&item.subject) {
                    if user.id.is_none() || !users.iter().any(|known| known.id == user.id) {
                        users.push(PlannedUser {
                            id: user.id,
                            credential: user.credential,
                        });
                    }
                }
            }
            let items = items.into_iter().map(|item| {
                let done = done.get(&item.subject);
                let becomes = done.map(|done| done.restored.becomes.clone());
                ExpectedItem {
                    subject: item.subject.clone(),
                    item: becomes.unwrap_or_else(|| item.item.clone()),
                    now: now(item, progress.get(&item.subject), done),
                }
            });
            places.push(ExpectedPlace {
                id: id.to_owned(),
                owner,
                users,
                items: items.collect(),
                ours: deletions.ids_at(id),
            });
        }
        Ok(Self {
            places,
            cursors: cursors(store, sealed.run, of.run).await?,
        })
    }
}

/// The cursor of each place from right before the run; of a place that the run did not come to, that of the plan.
async fn cursors(
    store: &Store,
    plan: RunId,
    run: RunId,
) -> Result<HashMap<Subject, String>, EngineError> {
    let mut cursors = HashMap::new();
    for (run, phase) in [(run, "before"), (plan, "plan")] {
        let filter = Filter {
            types: "container.listed".parse().into_iter().collect(),
            run: Some(run),
            ..Filter::default()
        };
        let mut entries = std::pin::pin!(store.read(filter));
        while let Some(recorded) = entries.next().await {
            let recorded = recorded?;
            let json = recorded.payload.json().unwrap_or_default();
            if let Ok(Event::ContainerListed(listed)) = Event::decode("container.listed", 1, json)
                && listed.phase == phase
                && let Some(cursor) = listed.sync_token
            {
                // A run that was resumed keeps what its first part listed.
                cursors.entry(recorded.entry.subject).or_insert(cursor);
            }
        }
    }
    Ok(cursors)
}

impl Observer {
    pub(super) async fn one_place(
        &self,
        places: &dyn Places,
        expected: &Expected,
        place: &ExpectedPlace,
        starts: &Pace,
    ) -> Result<PlaceSeenAgain, EngineError> {
        starts.start().await;
        let opened = match places.look(&place.id, &place.users).await {
            Ok(opened) => opened,
            Err(why) => {
                let failed = UserFailed {
                    during: "observe".to_owned(),
                    class: why.class.to_string(),
                    status: why.status,
                    attempt: why.attempt,
                    decision: "skipped".to_owned(),
                    reason: why.reason.clone(),
                    remote_date: why.date.map(|date| date.to_rfc3339()),
                };
                return self.unreached(place, failed).await;
            }
        };
        let opened = opened.as_ref();
        let cursor = expected.cursors.get(&place.owner).map(String::as_str);
        let cursor = cursor.filter(|_| opened.keeps_cursors());
        match self.compare(opened, place, cursor).await? {
            Ok(seen) => Ok(seen),
            Err(error) => {
                let failed = UserFailed {
                    during: "observe".to_owned(),
                    class: error.class.to_string(),
                    status: error.status,
                    attempt: error.attempt,
                    decision: "skipped".to_owned(),
                    reason: error.reason.clone(),
                    remote_date: error.date.map(|date| date.to_rfc3339()),
                };
                self.unreached(place, failed).await
            }
        }
    }

    async fn unreached(
        &self,
        place: &ExpectedPlace,
        failed: UserFailed,
    ) -> Result<PlaceSeenAgain, EngineError> {
        let user = place.users.first().and_then(|user| user.id.clone());
        let unreached = Unreached {
            user: user.unwrap_or_default(),
            reason: failed.reason.clone(),
        };
        let event = Event::UserFailed(failed);
        self.record(&event, &place.owner, &place.owner).await?;
        Ok(PlaceSeenAgain {
            unreached: Some(unreached),
            ..PlaceSeenAgain::default()
        })
    }

    async fn compare(
        &self,
        opened: &dyn Place,
        place: &ExpectedPlace,
        cursor: Option<&str>,
    ) -> Result<Result<PlaceSeenAgain, ItemError>, EngineError> {
        let seen = match opened.observe(cursor).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let by_id: HashMap<&str, &SeenItem> = seen
            .items
            .iter()
            .map(|item| (item.item.as_str(), item))
            .collect();
        let mut result = PlaceSeenAgain {
            whole: seen.whole,
            ..PlaceSeenAgain::default()
        };
        let mut known: HashSet<&str> = place.ours.iter().map(String::as_str).collect();
        for item in &place.items {
            known.insert(item.item.as_str());
            let there = match by_id.get(item.item.as_str()) {
                Some(now) if now.gone => There::No,
                Some(now) => There::Yes(now.version.clone()),
                None if seen.whole => There::No,
                // It did not change since the cursor; whether it had been gone by then is asked.
                None if matches!(item.now, Now::Gone) => match opened.read(&item.item).await {
                    Ok(Found::There { version, .. }) => There::Yes(version),
                    Ok(Found::Deleted { .. } | Found::Absent) => There::No,
                    Err(error) => return Ok(Err(error)),
                },
                None => There::Unchanged,
            };
            self.judge(place, item, there, &mut result).await?;
        }
        self.late(place, &seen, &known, &mut result).await?;
        let unexplained = result.survivors.len() + result.unexplained.len() + result.late.len();
        let listed = Event::ContainerListed(ContainerListed {
            phase: "observe".to_owned(),
            place: place.id.clone(),
            sync_token: seen.cursor.clone(),
            items: seen.count,
            remote_date: seen.date.map(|date| date.to_rfc3339()),
            unexplained: unexplained as u64,
        });
        self.record(&listed, &place.owner, &place.owner).await?;
        Ok(Ok(result))
    }

    /// Holds one item against what the ledger says, and records it where the two do not match.
    async fn judge(
        &self,
        place: &ExpectedPlace,
        item: &ExpectedItem,
        there: There,
        result: &mut PlaceSeenAgain,
    ) -> Result<(), EngineError> {
        let (observation, version, what) = match (&item.now, there) {
            (Now::Open, _) => {
                result.open += 1;
                return Ok(());
            }
            (Now::Gone | Now::GoneBefore, There::No) => {
                result.explained += 1;
                return Ok(());
            }
            (_, There::Unchanged) => {
                result.unchanged += 1;
                return Ok(());
            }
            (Now::There(wanted), There::Yes(version)) if wanted.is_none() || *wanted == version => {
                result.unchanged += 1;
                return Ok(());
            }
            (Now::Gone | Now::GoneBefore, There::Yes(version)) => (
                Observation::Changed,
                version,
                "the ledger says that it is gone, and it is there",
            ),
            (Now::There(_), There::Yes(version)) => (
                Observation::Changed,
                version,
                "it was changed, and no entry says by whom",
            ),
            (Now::There(_), There::No) => (
                Observation::Gone,
                None,
                "it is gone, and no entry says by whom",
            ),
        };
        let line = ItemSeen {
            subject: Some(item.subject.to_string()),
            place: place.id.clone(),
            item: item.item.clone(),
            what: what.to_owned(),
        };
        let event = Event::ItemObserved(ItemObserved {
            run: self.of.run,
            observation,
            explained: false,
            version,
        });
        self.record(&event, &item.subject, &place.owner).await?;
        if matches!(item.now, Now::Gone | Now::GoneBefore) {
            result.survivors.push(line);
        } else {
            result.unexplained.push(line);
        }
        Ok(())
    }

    /// What the retired system made after the run; the rest is counted.
    async fn late(
        &self,
        place: &ExpectedPlace,
        seen: &Seen,
        known: &HashSet<&str>,
        result: &mut PlaceSeenAgain,
    ) -> Result<(), EngineError> {
        let mut items = Vec::new();
        let others = seen
            .items
            .iter()
            .filter(|item| !known.contains(item.item.as_str()));
        for other in others {
            let late = other
                .retired_wrote
                .filter(|at| !other.gone && *at > self.of.started_at.instant());
            let Some(at) = late else {
                // A whole listing shows everything that was ever there, which is no change.
                result.others += u64::from(!seen.whole);
                continue;
            };
            result.late.push(ItemSeen {
                subject: None,
                place: place.id.clone(),
                item: other.item.clone(),
                what: "the retired system made it after the run: it is still writing".to_owned(),
            });
            items.push(LateItem {
                item: other.item.clone(),
                written_at: at.to_rfc3339(),
            });
        }
        if items.is_empty() {
            return Ok(());
        }
        let event = Event::LateWritten(LateWritten {
            run: self.of.run,
            place: place.id.clone(),
            items,
        });
        self.record(&event, &place.owner, &place.owner).await
    }
}

/// Whether an item is there.
enum There {
    Yes(Option<String>),
    No,
    /// The changes since the cursor do not name it.
    Unchanged,
}
