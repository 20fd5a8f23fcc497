//! Asking, and what it tells before anything is done.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger::domain::event::Event;
use ledger::domain::hash::Hash;
use ledger::projections::restore::Deletion;
use ledger::store::Store;

use super::place::{unseen, untried};
use super::report::{Ended, ItemBack};
use crate::engine::EngineError;
use crate::executors::{Found, ItemError, Place, WayBack};

/// The other items of a place that stand for the same as one that is put back.
pub(super) struct StandIns<'a> {
    place: &'a dyn Place,
    /// Ids of items of this ledger: none of them stands for another.
    ours: &'a BTreeSet<String>,
    /// Whether an item for which another one stands is left.
    pub(super) leave: bool,
    /// Why it could not be told; then it is not asked again.
    pub(super) untold: Option<String>,
}

impl<'a> StandIns<'a> {
    pub(super) fn new(place: &'a dyn Place, ours: &'a BTreeSet<String>, leave: bool) -> Self {
        Self {
            place,
            ours,
            leave,
            untold: None,
        }
    }

    /// Whether one stands for the item in this backup.
    ///
    /// # Errors
    /// It could not be told, and nothing is put back without knowing. Where items are put back all the same, what cannot be told is kept
    /// for the report and is no error.
    pub(super) async fn has(&mut self, backup: &[u8]) -> Result<bool, ItemError> {
        if self.untold.is_some() {
            return Ok(false);
        }
        match self.place.stand_in(backup, self.ours).await {
            Err(error) if !self.leave => {
                self.untold = Some(format!(
                    "whether another item stands for the same could not be told: {}",
                    error.reason
                ));
                Ok(false)
            }
            answer => answer,
        }
    }
}

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

/// The ways to put an item back; one that un-does the deletion of what an earlier attempt made, only where there was such an attempt.
pub(super) async fn ways_back(
    place: &dyn Place,
    deletion: &Deletion,
    backup: &[u8],
) -> Result<Vec<WayBack>, ItemError> {
    let mut ways = place
        .ways_back(&deletion.item, backup, &token(deletion))
        .await?;
    ways.retain(|way| {
        !way.undeletes || way.becomes == deletion.item || deletion.back.ids.contains(&way.becomes)
    });
    Ok(ways)
}

/// How what is there differs from a backup.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// It was read and compared.
    pub(super) verified: bool,
    /// Fields that the way cannot bring back.
    pub(super) lost: Vec<String>,
    /// Others.
    pub(super) differs: Vec<String>,
}

pub(super) async fn compare(
    place: &dyn Place,
    backup: &[u8],
    now: Option<&[u8]>,
    loses: &[String],
) -> Compared {
    let differences = match now {
        Some(now) => place.differences(backup, now).await.ok(),
        None => None,
    };
    let verified = differences.is_some();
    let differences = differences.unwrap_or_default().into_iter();
    let (lost, differs) = differences.partition(|name| loses.contains(name));
    Compared {
        verified,
        lost,
        differs,
    }
}

/// Of an item that an earlier run put back: how it stands now; `None` where it is not there any more, or was never put back.
pub(super) async fn still_back(
    place: &dyn Place,
    deletion: &Deletion,
    backup: &[u8],
    ways: &[WayBack],
    stand_ins: &mut StandIns<'_>,
) -> Result<Option<ItemBack>, ItemError> {
    let Some(done) = &deletion.back.done else {
        return Ok(None);
    };
    let restored = &done.restored;
    let Look::There(_, bytes) = look(place, &restored.becomes).await? else {
        return Ok(None);
    };
    let mut back = untried(deletion, Ended::BackBefore, None);
    // What was as it should be then is its owner's to change since.
    if !done.is_faithful() {
        let by = |way: &&WayBack| way.way == restored.way && way.becomes == restored.becomes;
        let loses = ways.iter().find(by).map(|way| way.loses.as_slice());
        let now = compare(place, backup, bytes.as_deref(), loses.unwrap_or_default()).await;
        (back.verified, back.lost, back.differs) = (now.verified, now.lost, now.differs);
    }
    // A request that was taken for lost may have arrived since.
    for other in deletion.other_ids() {
        if let Look::There(..) = look(place, other).await? {
            back.reason = Some(format!("it is there twice: also as {other}"));
        }
    }
    back.double = stand_ins.has(backup).await.unwrap_or_default();
    Ok(Some(back))
}

pub(super) const NO_BACKUP: &str = "its backup cannot be read from the log: ledger verify says why";

/// Says what would become of an item, by looking alone.
pub(super) async fn preview(
    place: &dyn Place,
    store: &Store,
    deletion: &Deletion,
    stand_ins: &mut StandIns<'_>,
) -> Result<Result<ItemBack, ItemError>, EngineError> {
    let Some(backup) = backup_of(store, deletion).await? else {
        return Ok(Ok(unseen(deletion, NO_BACKUP)));
    };
    Ok(preview_of(place, deletion, &backup, stand_ins).await)
}

/// Why an attempt to put an item back may well come to nothing, if so.
fn doubt(deletion: &Deletion) -> Option<String> {
    if let Some(reason) = &deletion.back.failed {
        return Some(format!("the last attempt did not bring it back: {reason}"));
    }
    let unread = "it could not be read whole when it was found, so it may be refused";
    deletion.is_unreadable.then(|| unread.to_owned())
}

async fn preview_of(
    place: &dyn Place,
    deletion: &Deletion,
    backup: &[u8],
    stand_ins: &mut StandIns<'_>,
) -> Result<ItemBack, ItemError> {
    let ways = ways_back(place, deletion, backup).await?;
    if let Some(back) = still_back(place, deletion, backup, &ways, stand_ins).await? {
        return Ok(back);
    }
    let mut possible = None;
    for way in ways {
        match look(place, &way.becomes).await? {
            Look::There(..) => {
                return Ok(ItemBack {
                    new_id: Some(way.becomes),
                    double: stand_ins.has(backup).await.unwrap_or_default(),
                    ..untried(deletion, Ended::AlreadyThere, None)
                });
            }
            Look::Deleted(_) if way.undeletes || way.becomes == deletion.item => {
                possible.get_or_insert(way);
            }
            // What is gone without a trace can only be made anew.
            Look::Absent if !way.undeletes => {
                possible.get_or_insert(way);
            }
            Look::Absent | Look::Deleted(_) => {}
        }
    }
    let double = stand_ins.has(backup).await?;
    if double && stand_ins.leave {
        return Ok(untried(deletion, Ended::StandIn, Some(STAND_IN)));
    }
    Ok(match possible {
        Some(way) => {
            let doubt = doubt(deletion);
            let ended = match doubt {
                Some(_) => Ended::Doubtful,
                None => Ended::Possible,
            };
            ItemBack {
                new_id: Some(way.becomes),
                way: Some(way.way.into_owned()),
                lost: way.loses,
                double,
                ..untried(deletion, ended, doubt.as_deref())
            }
        }
        None => untried(deletion, Ended::Failed, Some(NO_WAY)),
    })
}

pub(super) const STAND_IN: &str =
    "another live item stands for the same: it is left, as was asked for (--leave-stand-ins)";
pub(super) const NO_WAY: &str = "there is no way left to put it back";
