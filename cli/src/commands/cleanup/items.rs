//! A dry run's answer as one JSON document: its items are read back from the ledger, one by one, so that a plan of any size is printed
//! in the same memory.

use std::collections::{BTreeMap, HashMap};

use cleanup_worker::engine::dry_run::DryRunReport;
use futures_util::StreamExt as _;
use ledger::domain::event::Event;
use ledger::domain::id::{RunId, Subject};
use ledger::domain::identify::Disposition;
use ledger::store::Store;
use ledger::store::read::Filter;
use serde::Serialize;

use crate::commands::read_failure;
use crate::exit::{Failure, environment};
use crate::output;

/// What a kind of item calls its places and its ids.
pub(super) struct Names {
    place: &'static str,
    item: &'static str,
    /// More than one, in words.
    pub(super) items: &'static str,
    /// Whether each is a deadline that something in the new system may stand for.
    pub(super) have_deadlines: bool,
}

/// As the calendar's answers have it.
pub(super) const CALENDAR: Names = Names {
    place: "calendar",
    item: "event_id",
    items: "events",
    have_deadlines: true,
};
/// For items that a program handles.
pub(super) const ANY: Names = Names {
    place: "place",
    item: "item",
    items: "items",
    have_deadlines: false,
};

/// One candidate; where it lies and its id there are named by [`Names`].
#[derive(Serialize)]
struct Line<'a> {
    subject: &'a Subject,
    /// Id of the user through whom it was reached first.
    user: &'a str,
    /// The place's id, null where it could not be resolved, and its id there, null where nothing of it could be read.
    #[serde(flatten)]
    at: BTreeMap<&'static str, Option<&'a str>>,
    class: &'a str,
    disposition: Disposition,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    covered: Option<bool>,
}

pub(super) async fn print(
    store: &Store,
    run: RunId,
    report: &DryRunReport,
    names: &Names,
) -> Result<(), Failure> {
    let text = serde_json::to_string(report).map_err(environment("write the report as JSON"))?;
    let mut list = output::List::open(&text, "items")?;
    let users: HashMap<&Subject, &str> = report
        .users
        .iter()
        .map(|user| (&user.subject, user.user.as_str()))
        .collect();
    let mut entries = std::pin::pin!(store.read(Filter {
        types: "item.found".parse().into_iter().collect(),
        run: Some(run),
        ..Filter::default()
    }));
    while let Some(recorded) = entries.next().await {
        let recorded = recorded.map_err(read_failure)?;
        let json = recorded.payload.json().unwrap_or_default();
        let Ok(Event::ItemFound(found)) = Event::decode("item.found", 1, json) else {
            return Err(Failure::new(
                crate::exit::Exit::Unknown,
                anyhow::anyhow!("entry {} of the plan cannot be read", recorded.entry.seq),
            ));
        };
        let resolved = found.disposition != Disposition::OutOfReach && !found.place.is_empty();
        list.push(&Line {
            subject: &recorded.entry.subject,
            user: found
                .users
                .first()
                .and_then(|user| users.get(user))
                .copied()
                .unwrap_or_default(),
            at: BTreeMap::from([
                (names.place, resolved.then_some(found.place.as_str())),
                (
                    names.item,
                    Some(found.item.as_str()).filter(|id| !id.is_empty()),
                ),
            ]),
            class: &found.class,
            disposition: found.disposition,
            reason: &found.reason,
            covered: found.covered,
        })?;
    }
    list.close()
}
