//! One place: what is there, held against what the ledger says of its items.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::StreamExt as _;
use ledger::domain::custody::Observation;
use ledger::domain::event::{
    ContainerListed, Event, ItemObserved, LateItem, LateWritten, UserFailed,
};
use ledger::domain::id::Subject;
use ledger::store::read::Filter;

use super::Observer;
use super::expected::{Expected, ExpectedItem, ExpectedPlace, Now};
use super::report::{ItemSeen, PlaceSeenAgain, Unreached};
use crate::engine::EngineError;
use crate::engine::pace::Pace;
use crate::executors::{Found, ItemError, Place, Places, Seen, SeenItem};

/// An item that is not as the ledger says.
struct Difference<'a> {
    item: &'a ExpectedItem,
    /// Under which id that was seen.
    id: &'a str,
    observation: Observation,
    version: Option<String>,
    what: &'static str,
    /// The ledger says that it is gone.
    survives: bool,
}

/// An item that the retired system made.
struct Late<'a> {
    id: &'a str,
    written_at: String,
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
        let this = Self {
            log: self.log.about(|| {
                let address = places.address(&opened.through());
                address.or_else(|| place.email.clone())
            }),
            ..self.clone()
        };
        match this.compare(opened.as_ref(), expected, place).await? {
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
                this.unreached(place, failed).await
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
        expected: &Expected,
        place: &ExpectedPlace,
    ) -> Result<Result<PlaceSeenAgain, ItemError>, EngineError> {
        let keeps = opened.keeps_cursors();
        let before = place.before.as_deref().filter(|_| keeps);
        let planned = place.planned.as_deref().filter(|_| keeps);
        let seen = match opened.observe(before.or(planned)).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        // What the retired system made between the plan and the run is no change since right before the run.
        let earlier = if seen.whole || before.is_none() {
            None
        } else {
            match opened.observe(planned).await {
                Ok(earlier) => Some(earlier),
                Err(error) => return Ok(Err(error)),
            }
        };
        let mut result = PlaceSeenAgain {
            whole: seen.whole,
            ..PlaceSeenAgain::default()
        };
        let mut differences = Vec::new();
        if let Err(error) = differing(opened, place, &seen, &mut result, &mut differences).await {
            return Ok(Err(error));
        }
        let mut late = late_in(place, &seen);
        let of_before: HashSet<&str> = late.iter().map(|one| one.id).collect();
        let more = earlier.as_ref().map(|earlier| late_in(place, earlier));
        let more = more.into_iter().flatten();
        let of_late = of_before.len() as u64;
        late.extend(more.filter(|one| !of_before.contains(one.id)));
        if !differences.is_empty() || !late.is_empty() {
            // A run or an undo may be under way: what it did meanwhile is no difference.
            let news = self.news(expected.seq).await?;
            let all = differences.len() + late.len();
            differences.retain(|one| !news.items.contains(&one.item.subject));
            late.retain(|one| !news.ids.contains(one.id));
            result.moved = (all - differences.len() - late.len()) as u64;
        }
        if !seen.whole {
            let known = place.known();
            let others = seen.items.iter();
            let others = others.filter(|item| !known.contains(item.item.as_str()));
            result.others = (others.count() as u64).saturating_sub(of_late);
        }
        self.record_differences(place, differences, &mut result)
            .await?;
        self.record_late(place, late, &mut result).await?;
        let unexplained = result.survivors.len() + result.unexplained.len() + result.late.len();
        let listed = Event::ContainerListed(ContainerListed {
            phase: "observe".to_owned(),
            place: place.id.clone(),
            sync_token: seen.cursor.clone(),
            items: seen.count,
            whole: false,
            remote_date: seen.date.map(|date| date.to_rfc3339()),
            unexplained: unexplained as u64,
        });
        self.record(&listed, &place.owner, &place.owner).await?;
        Ok(Ok(result))
    }

    async fn record_differences(
        &self,
        place: &ExpectedPlace,
        differences: Vec<Difference<'_>>,
        result: &mut PlaceSeenAgain,
    ) -> Result<(), EngineError> {
        for one in differences {
            let line = ItemSeen {
                subject: Some(one.item.subject.to_string()),
                place: place.id.clone(),
                item: one.id.to_owned(),
                what: one.what.to_owned(),
            };
            let event = Event::ItemObserved(ItemObserved {
                run: self.of.run,
                observation: one.observation,
                explained: false,
                version: one.version,
            });
            self.record(&event, &one.item.subject, &place.owner).await?;
            if one.survives {
                result.survivors.push(line);
            } else {
                result.unexplained.push(line);
            }
        }
        Ok(())
    }

    async fn record_late(
        &self,
        place: &ExpectedPlace,
        late: Vec<Late<'_>>,
        result: &mut PlaceSeenAgain,
    ) -> Result<(), EngineError> {
        if late.is_empty() {
            return Ok(());
        }
        let mut items = Vec::new();
        for one in late {
            result.late.push(ItemSeen {
                subject: None,
                place: place.id.clone(),
                item: one.id.to_owned(),
                what: "the retired system made it after the plan: it is still writing".to_owned(),
            });
            items.push(LateItem {
                item: one.id.to_owned(),
                written_at: one.written_at,
            });
        }
        let event = Event::LateWritten(LateWritten {
            run: self.of.run,
            place: place.id.clone(),
            items,
        });
        self.record(&event, &place.owner, &place.owner).await
    }

    /// What the log says of items since this entry. An intent is in it before its effect is to be seen.
    async fn news(&self, seq: u64) -> Result<News, EngineError> {
        const TYPES: [&str; 7] = [
            "item.delete_intended",
            "item.deleted",
            "item.delete_failed",
            "item.held",
            "item.restore_intended",
            "item.restored",
            "item.restore_failed",
        ];
        let filter = Filter {
            from: Some(seq + 1),
            types: TYPES.map(str::parse).into_iter().flatten().collect(),
            ..Filter::default()
        };
        let mut news = News::default();
        let mut entries = std::pin::pin!(self.recorder.store.read(filter));
        while let Some(recorded) = entries.next().await {
            let recorded = recorded?;
            let entry = recorded.entry;
            let json = recorded.payload.json().unwrap_or_default();
            if let Ok(Event::ItemRestoreIntended(intent)) =
                Event::decode(entry.event_type.as_str(), entry.schema, json)
            {
                news.ids.insert(intent.becomes);
            }
            news.items.insert(entry.subject);
        }
        Ok(news)
    }
}

/// What was recorded while it was looked.
#[derive(Default)]
struct News {
    items: HashSet<Subject>,
    /// Ids that items were to be given.
    ids: HashSet<String>,
}

impl ExpectedPlace {
    /// The ids of items of this ledger, under which nothing is new.
    fn known(&self) -> BTreeSet<&str> {
        let ours = self.ours.iter().map(String::as_str);
        let items = self.items.iter().map(|item| item.item.as_str());
        ours.chain(items).collect()
    }
}

/// What the retired system made after the plan.
fn late_in<'a>(place: &ExpectedPlace, seen: &'a Seen) -> Vec<Late<'a>> {
    let known = place.known();
    let since = place.planned_at.instant();
    let items = seen.items.iter();
    let late = items.filter(|item| !item.gone && !known.contains(item.item.as_str()));
    late.filter_map(|item| {
        let at = item.retired_wrote.filter(|at| *at > since)?;
        Some(Late {
            id: &item.item,
            written_at: at.to_rfc3339(),
        })
    })
    .collect()
}

/// Holds each item of a place against what the ledger says, and counts those that are as it says.
async fn differing<'a>(
    opened: &dyn Place,
    place: &'a ExpectedPlace,
    seen: &Seen,
    result: &mut PlaceSeenAgain,
    differences: &mut Vec<Difference<'a>>,
) -> Result<(), ItemError> {
    let by_id: HashMap<&str, &SeenItem> = seen
        .items
        .iter()
        .map(|item| (item.item.as_str(), item))
        .collect();
    // What did not change since the cursor and has to be gone may have been there by then: it is asked.
    let there = async |id: &str, has_to_be_gone: bool| match by_id.get(id) {
        Some(now) if now.gone => Ok(There::No),
        Some(now) => Ok(There::Yes(now.version.clone())),
        None if seen.whole => Ok(There::No),
        None if has_to_be_gone => Ok::<_, ItemError>(match opened.read(id).await? {
            Found::There { version, .. } => There::Yes(version),
            Found::Deleted { .. } | Found::Absent => There::No,
        }),
        None => Ok(There::Unchanged),
    };
    for item in &place.items {
        let differs = |id, observation, version, what, survives| Difference {
            item,
            id,
            observation,
            version,
            what,
            survives,
        };
        let mut twice = false;
        for other in &item.others {
            if let There::Yes(version) = there(other, true).await? {
                twice = true;
                let what = "it was put back under another id, and is there under this one too";
                differences.push(differs(other, Observation::Changed, version, what, true));
            }
        }
        let id = item.item.as_str();
        let gone = matches!(item.now, Now::Gone | Now::GoneBefore);
        match (&item.now, there(id, item.now == Now::Gone).await?) {
            (Now::Open, _) => result.open += 1,
            (Now::Gone | Now::GoneBefore, There::No) => result.explained += 1,
            (_, There::Unchanged) => result.unchanged += u64::from(!twice),
            (Now::There(wanted), There::Yes(version)) if wanted.is_none() || *wanted == version => {
                result.unchanged += u64::from(!twice);
            }
            (_, There::Yes(version)) => {
                let what = if gone {
                    "the ledger says that it is gone, and it is there"
                } else {
                    "it was changed, and no entry says by whom"
                };
                differences.push(differs(id, Observation::Changed, version, what, gone));
            }
            (Now::There(_), There::No) => {
                let what = "it is gone, and no entry says by whom";
                differences.push(differs(id, Observation::Gone, None, what, false));
            }
        }
    }
    Ok(())
}

/// Whether an item is there.
enum There {
    Yes(Option<String>),
    No,
    /// The changes since the cursor do not name it.
    Unchanged,
}
