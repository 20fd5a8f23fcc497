//! Looking again, live, at the items of a spot check: reads and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cleanup_worker::executors::calendar::executor::KIND;
use cleanup_worker::executors::{Found, Place, Places, PlannedUser};
use ledger::domain::custody::State;
use ledger::projections::deletions::ItemLine;
use ledger::store::Clock;
use serde::Serialize;

use super::Common;
use crate::args::{CalendarAccess, Pace};
use crate::commands::calendars;
use crate::commands::cleanup::{engine_failure, options};
use crate::exit::{Exit, Failure};

/// What was seen of one item.
#[derive(Debug, Serialize)]
pub(super) struct Look {
    pub(super) subject: String,
    /// `there`, `gone`, or `unknown` where it could not be asked.
    pub(super) seen: &'static str,
    /// What the log lets expect; none where either would do.
    pub(super) expected: Option<&'static str>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl Look {
    pub(super) fn is_as_expected(&self) -> bool {
        self.expected.is_none_or(|expected| expected == self.seen)
    }
}

/// What the log lets expect of each item, by its place and the id that it was found under; what came back under another id is gone from there.
pub(super) type Known = BTreeMap<(String, String), Option<&'static str>>;

/// The same of these.
pub(super) fn known(items: Vec<ItemLine>) -> Known {
    let one = |item: ItemLine| {
        let id = item.event_id.clone()?;
        let back = item
            .restored
            .as_ref()
            .filter(|_| item.state == State::Restored);
        let expected = match back {
            Some(back) if back.event_id != id => Some("gone"),
            _ => expected(&item),
        };
        Some(((item.calendar.unwrap_or_default(), id), expected))
    };
    items.into_iter().filter_map(one).collect()
}

/// What the log lets expect of an item.
fn expected(item: &ItemLine) -> Option<&'static str> {
    match item.state {
        // We deleted it: that another look saw it there since makes it no more right.
        State::Unaccounted if item.there_again => Some("gone"),
        State::Deleted | State::BackupErased | State::Missing | State::GoneBefore => Some("gone"),
        State::Held | State::Excluded | State::Planned | State::Restored => Some("there"),
        _ => None,
    }
}

/// Where the items lie, ready to be looked at.
///
/// # Errors
/// This program cannot look at items of such a kind, or its services cannot be reached.
pub(super) async fn places(
    common: &Common<'_>,
    kinds: &BTreeSet<String>,
    access: &CalendarAccess,
    clock: Clock,
) -> Result<Arc<dyn Places>, Failure> {
    if kinds.iter().any(|kind| kind != KIND) {
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let what = format!(
            "this program can look again at {KIND} only, and these are {}",
            kinds.join(", ")
        );
        return Err(Failure::usage(what).hint("--log-only leaves it out; look by other means"));
    }
    let pace = Pace {
        user_interval: Duration::ZERO,
        users_at_once: 1,
        log_dir: PathBuf::new(),
        log_emails: false,
    };
    let options = options(common, &pace, None)?;
    let (places, _) = calendars::reach(common, access, options, clock).await?;
    places.prepare().await.map_err(engine_failure)?;
    Ok(places)
}

/// Looks at items, place by place.
pub(super) async fn look(calendars: &dyn Places, items: &[ItemLine], known: &Known) -> Vec<Look> {
    let mut places: BTreeMap<&str, Vec<&ItemLine>> = BTreeMap::new();
    for item in items {
        let place = item.calendar.as_deref().unwrap_or_default();
        places.entry(place).or_default().push(item);
    }
    let mut looks = Vec::new();
    for (place, items) in places {
        let ids: BTreeSet<&str> = items
            .iter()
            .flat_map(|item| &item.users)
            .filter_map(|user| user.id.as_deref())
            .collect();
        // Without the digest of the credential of then the executor finds out which place this one leads to.
        let users = ids.into_iter().map(|id| PlannedUser {
            id: Some(id.to_owned()),
            credential: None,
        });
        let users: Vec<PlannedUser> = users.collect();
        let opened = calendars.look(place, &users).await;
        for item in items {
            looks.push(match &opened {
                Ok(place) => at(place.as_ref(), item, known).await,
                Err(why) => unknown(item, why.reason.clone()),
            });
        }
    }
    looks
}

async fn at(place: &dyn Place, item: &ItemLine, known: &Known) -> Look {
    // What came back may have another id than it had.
    let restored = item
        .restored
        .as_ref()
        .filter(|_| item.state == State::Restored);
    let id = restored.map(|back| back.event_id.as_str());
    let Some(id) = id.or(item.event_id.as_deref()) else {
        return unknown(item, "its id is not known".to_owned());
    };
    let other = Some(id).filter(|id| item.event_id.as_deref() != Some(*id));
    let key = |id: &str| (item.calendar.clone().unwrap_or_default(), id.to_owned());
    let of_other = other.and_then(|id| known.get(&key(id))).copied();
    match place.read(id).await {
        Ok(found) => Look {
            subject: item.subject.clone(),
            seen: match found {
                Found::There { .. } => "there",
                Found::Deleted { .. } | Found::Absent => "gone",
            },
            expected: of_other.unwrap_or_else(|| expected(item)),
            why: None,
        },
        Err(error) => unknown(item, cleanup_worker::engine::with_causes(&error)),
    }
}

fn unknown(item: &ItemLine, why: String) -> Look {
    Look {
        subject: item.subject.clone(),
        seen: "unknown",
        expected: expected(item),
        why: Some(why),
    }
}

/// The status of a spot check: one item that is not as the log says is a no.
pub(super) fn exit(looks: &[Look]) -> Exit {
    if looks
        .iter()
        .any(|look| look.seen != "unknown" && !look.is_as_expected())
    {
        Exit::No
    } else if looks
        .iter()
        .any(|look| look.seen == "unknown" && look.expected.is_some())
    {
        Exit::Unknown
    } else {
        Exit::Yes
    }
}
