//! Asking, and what it tells before anything is done.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger::domain::event::Event;
use ledger::domain::hash::Hash;
use ledger::projections::restore::Deletion;
use ledger::store::Store;

use super::place::untried;
use super::report::{Ended, ItemBack};
use crate::engine::EngineError;
use crate::executors::{Found, ItemError, Place};

/// What asking about one id came to.
pub(super) enum Look {
    /// It is there, with its version and whole.
    There(Option<String>, Option<Bytes>),
    /// It was deleted; the version of what is left.
    Deleted(Option<String>),
    Absent,
}

pub(super) async fn look(place: &dyn Place, id: &str) -> Result<Look, ItemError> {
    Ok(match place.read(id).await? {
        Found::Absent => Look::Absent,
        Found::Deleted { version, .. } => Look::Deleted(version),
        Found::There {
            version,
            bytes: Some(bytes),
        } => Look::There(version, Some(bytes)),
        Found::There {
            version,
            bytes: None,
        } => {
            let bytes = match &version {
                Some(version) => place.backup(id, version).await?,
                None => None,
            };
            Look::There(version, bytes)
        }
    })
}

/// The backup in the intent to delete, which was held against its digest.
pub(super) async fn backup_of(
    store: &Store,
    deletion: &Deletion,
) -> Result<Option<Vec<u8>>, EngineError> {
    let recorded = store.get(deletion.seq).await?;
    let json = recorded
        .as_ref()
        .and_then(|recorded| recorded.payload.json());
    let event = json.and_then(|json| Event::decode("item.delete_intended", 1, json).ok());
    let Some(Event::ItemDeleteIntended(intent)) = event else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(&intent.backup.base64).ok();
    Ok(bytes.filter(|bytes| Hash::of(bytes) == deletion.backup_sha256))
}

/// The same for every attempt at one deletion.
pub(super) fn token(deletion: &Deletion) -> String {
    deletion.intent.uuid().as_simple().to_string()
}

pub(super) const NO_BACKUP: &str = "its backup cannot be read from the log: ledger verify says why";

/// Says what would become of an item, by looking alone.
pub(super) async fn preview(
    place: &dyn Place,
    store: &Store,
    deletion: &Deletion,
    ours: &BTreeSet<String>,
    twice: bool,
) -> Result<Result<ItemBack, ItemError>, EngineError> {
    let Some(backup) = backup_of(store, deletion).await? else {
        return Ok(Ok(untried(deletion, Ended::Failed, Some(NO_BACKUP))));
    };
    Ok(preview_of(place, deletion, &backup, ours, twice).await)
}

async fn preview_of(
    place: &dyn Place,
    deletion: &Deletion,
    backup: &[u8],
    ours: &BTreeSet<String>,
    twice: bool,
) -> Result<ItemBack, ItemError> {
    let ways = place
        .ways_back(&deletion.item, backup, &token(deletion))
        .await?;
    let mut possible = None;
    for way in ways {
        match look(place, &way.becomes).await? {
            Look::There(..) => {
                return Ok(ItemBack {
                    new_id: Some(way.becomes),
                    ..untried(deletion, Ended::AlreadyThere, None)
                });
            }
            Look::Deleted(_) if way.becomes == deletion.item => {
                possible.get_or_insert(way);
            }
            // What is gone without a trace can only be made anew.
            Look::Absent if !way.undeletes => {
                possible.get_or_insert(way);
            }
            Look::Absent | Look::Deleted(_) => {}
        }
    }
    if !twice && place.stand_in(backup, ours).await? {
        return Ok(untried(deletion, Ended::StandIn, Some(STAND_IN)));
    }
    Ok(match possible {
        Some(way) => ItemBack {
            new_id: Some(way.becomes),
            way: Some(way.way.into_owned()),
            lost: way.loses,
            ..untried(deletion, Ended::Possible, None)
        },
        None => untried(deletion, Ended::Failed, Some(NO_WAY)),
    })
}

pub(super) const STAND_IN: &str = "another live item stands for the same: with this one there would be two (--override puts it back too)";
pub(super) const NO_WAY: &str = "there is no way left to put it back";
