//! One item: intent, effect, outcome, and before each intent the question whether it is back already. At every line a crash may come; what it
//! leaves and who mends it stands beside it.
//!
//! No second copy can come of it. A way that makes an item anew gives it an id that comes of the deletion, the same at each attempt; so a request
//! that is repeated, or arrives after its process was killed, meets the first one's id and is refused.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger::domain::event::{BackHow, Event, ItemRestored, RestoreFailed, RestoreIntended};
use ledger::domain::hash::Hash;
use ledger::domain::id::{EntryId, IdempotencyKey, Subject};
use ledger::projections::restore::Deletion;
use ledger::store::Appended;

use super::Restorer;
use super::look::{
    Compared, Look, NO_BACKUP, NO_WAY, STAND_IN, StandIns, backup_of, compare, look, ways_back,
};
use super::place::{STOPPED, untried};
use super::report::{Ended, ItemBack};
use crate::clients::{Effect, ErrorClass};
use crate::engine::EngineError;
use crate::engine::runlog::etag_digest;
use crate::engine::step::Stopped;
use crate::executors::{ItemError, Place, PutBack, Restored, WayBack, Written};

/// Attempts at one item by one way in one run.
const ATTEMPTS_MAX: u32 = 6;

/// Whether the place can be gone on with.
pub(super) enum End {
    GoOn,
    PlaceStopped(Box<Stopped>),
}

const DELETED_SINCE: &str = "it was made anew, and somebody has deleted that since: it is left so";

/// Version of what is left of the item, by the ids under which something is.
type Left = HashMap<String, Option<String>>;

/// One attempt, from its intent to its outcome.
struct Attempt<'a> {
    owner: &'a Subject,
    deletion: &'a Deletion,
    backup: &'a [u8],
    way: &'a WayBack,
    intent: EntryId,
    number: u32,
}

/// How an attempt went on.
enum Next {
    Over(Box<ItemBack>, End),
    Again,
    Otherwise,
}

/// An item that is being put back.
struct Begun<'a> {
    owner: &'a Subject,
    deletion: &'a Deletion,
    backup: &'a [u8],
    /// What is left of it, by the id that a way would give it.
    left: Left,
    /// Attempts so far.
    number: u32,
}

impl Restorer {
    /// Brings one item back, by the best way that is not refused.
    pub(super) async fn bring_back(
        &self,
        place: &dyn Place,
        owner: &Subject,
        deletion: &Deletion,
        stand_ins: &mut StandIns<'_>,
    ) -> Result<(ItemBack, End), EngineError> {
        let failed = |reason: &str| (untried(deletion, Ended::Failed, Some(reason)), End::GoOn);
        let Some(backup) = backup_of(&self.recorder.store, deletion).await? else {
            return Ok(failed(NO_BACKUP));
        };
        let ways = match ways_back(place, deletion, &backup).await {
            Ok(ways) => ways,
            Err(error) => return Ok(Self::unasked(deletion, &error)),
        };
        let mut number = deletion.back.attempts;
        if let Some(open) = &deletion.back.open {
            // A crash left this intent open. Nothing else is done before the place has said what became of it.
            let is_it = |way: &&WayBack| way.becomes == open.becomes && way.way == open.way;
            let Some(way) = ways.iter().find(is_it) else {
                return Ok(failed(
                    "an earlier attempt was made by a way that is not known",
                ));
            };
            let attempt = Attempt {
                owner,
                deletion,
                backup: &backup,
                way,
                intent: open.id,
                number: open.attempt,
            };
            match self.recover(place, &attempt).await? {
                Ok(None) => {}
                Ok(Some(mut back)) => {
                    back.double = stand_ins.has(&backup).await.unwrap_or_default();
                    return Ok((back, End::GoOn));
                }
                Err(error) => return Ok(Self::unasked(deletion, &error)),
            }
        }
        // Is it back already? Under its own id, or under one that an earlier attempt would have given it.
        let mut left = Left::new();
        for way in &ways {
            let known = way.becomes == deletion.item || deletion.back.ids.contains(&way.becomes);
            if !known || left.contains_key(&way.becomes) {
                continue;
            }
            match look(place, &way.becomes).await {
                Ok(Look::There(version, bytes)) => {
                    let how = match number {
                        0 => BackHow::AlreadyThere,
                        // An earlier attempt of ours may have arrived late.
                        _ => BackHow::Restored,
                    };
                    number += 1;
                    let (attempt, _) = self.intend(owner, deletion, &backup, way, number).await?;
                    let seen = Ok(Look::There(version, bytes));
                    let written = Written::default();
                    let mut back = self
                        .back(place, &attempt, how, true, written, None, seen)
                        .await?;
                    back.double = stand_ins.has(&backup).await.unwrap_or_default();
                    return Ok((back, End::GoOn));
                }
                Ok(Look::Deleted(version)) => {
                    left.insert(way.becomes.clone(), version);
                }
                Ok(Look::Absent) => {}
                Err(error) => return Ok(Self::unasked(deletion, &error)),
            }
        }
        let double = match stand_ins.has(&backup).await {
            Ok(double) => double,
            Err(error) => return Ok(Self::unasked(deletion, &error)),
        };
        if double && self.leave_stand_ins {
            let back = untried(deletion, Ended::StandIn, Some(STAND_IN));
            return Ok((back, End::GoOn));
        }
        // An id under which something was made anew is used up: that is un-deleted, or there is nothing to un-delete.
        let is_open = |way: &&WayBack| {
            let old = way.becomes == deletion.item;
            old || left.contains_key(&way.becomes) == way.undeletes
        };
        let ways: Vec<&WayBack> = ways.iter().filter(is_open).collect();
        let begun = Begun {
            owner,
            deletion,
            backup: &backup,
            left,
            number,
        };
        let (mut back, end) = self.by_ways(place, &ways, begun).await?;
        back.double = double && back.ended != Ended::Failed;
        Ok((back, end))
    }

    /// Tries one way after the other, each as often as it can pass.
    async fn by_ways(
        &self,
        place: &dyn Place,
        ways: &[&WayBack],
        mut begun: Begun<'_>,
    ) -> Result<(ItemBack, End), EngineError> {
        let (owner, deletion, backup) = (begun.owner, begun.deletion, begun.backup);
        let failed = |reason: &str| (untried(deletion, Ended::Failed, Some(reason)), End::GoOn);
        for (n, way) in ways.iter().copied().enumerate() {
            let another = n + 1 < ways.len();
            let mut doubted = false;
            for tried in 1..=ATTEMPTS_MAX {
                if self.stop.is_cancelled() {
                    return Ok(failed(STOPPED));
                }
                // What is waited for is waited for now, and not once the intent stands.
                if let Err(error) = place.ready().await {
                    return Ok(Self::unasked(deletion, &error));
                }
                begun.number += 1;
                let intended = self.intend(owner, deletion, backup, way, begun.number);
                let (attempt, is_new) = intended.await?;
                if !is_new {
                    // The answer to its append was lost: what became of it is asked, and another attempt has an intent of its own.
                    match self.recover(place, &attempt).await? {
                        Ok(None) => continue,
                        Ok(Some(back)) => return Ok((back, End::GoOn)),
                        Err(error) => return Ok(Self::unasked(deletion, &error)),
                    }
                }
                let last = tried == ATTEMPTS_MAX;
                match self
                    .attempt(
                        place,
                        &attempt,
                        &mut begun.left,
                        last,
                        another,
                        &mut doubted,
                    )
                    .await?
                {
                    Next::Over(back, end) => return Ok((*back, end)),
                    Next::Again => {}
                    Next::Otherwise => break,
                }
            }
        }
        Ok(failed(NO_WAY))
    }

    /// Nobody could be asked about an item; nothing was begun.
    fn unasked(deletion: &Deletion, error: &ItemError) -> (ItemBack, End) {
        let end = if error.stops_user || error.stops_run {
            End::PlaceStopped(Box::new(Stopped::from(error)))
        } else {
            End::GoOn
        };
        let back = untried(deletion, Ended::Failed, Some(&error.reason));
        (back, end)
    }

    /// Records what is about to be done; gives whether it was not recorded before.
    async fn intend<'a>(
        &self,
        owner: &'a Subject,
        deletion: &'a Deletion,
        backup: &'a [u8],
        way: &'a WayBack,
        number: u32,
    ) -> Result<(Attempt<'a>, bool), EngineError> {
        let event = Event::ItemRestoreIntended(RestoreIntended {
            deletion: deletion.intent,
            backup_sha256: deletion.backup_sha256,
            deleted_by: deletion.run,
            attempt: number,
            way: way.way.clone().into_owned(),
            place: deletion.place.clone(),
            item: deletion.item.clone(),
            becomes: way.becomes.clone(),
        });
        let mut draft = self.draft(&event, &deletion.subject, owner)?;
        draft.key = Some(key(deletion, number, "intent")?);
        draft.cause = Some(deletion.intent);
        // A crash after this line: the intent is open, and the next run asks what became of it before anything else.
        let intent = self.append(draft, self.fence(deletion.plan)).await?;
        let attempt = number.to_string();
        self.log
            .entry(&intent, &[("way", &way.way), ("attempt", &attempt)]);
        let attempt = Attempt {
            owner,
            deletion,
            backup,
            way,
            intent: intent.entry.id,
            number,
        };
        Ok((attempt, !intent.replayed))
    }

    async fn attempt(
        &self,
        place: &dyn Place,
        attempt: &Attempt<'_>,
        left: &mut Left,
        last: bool,
        another: bool,
        doubted: &mut bool,
    ) -> Result<Next, EngineError> {
        let limit = self.write_limit(attempt.deletion.plan).await;
        let (way, deletion) = (attempt.way, attempt.deletion);
        let version = left.get(&way.becomes).and_then(Option::as_deref);
        let put = PutBack {
            way: &way.way,
            item: &deletion.item,
            becomes: &way.becomes,
            version,
            backup: attempt.backup,
        };
        // A crash after this line: it may be back, and the ledger does not know yet; `recover` finds out.
        let error = match place.restore(&put, limit).await {
            Ok(Restored { version, written }) => {
                let seen = look(place, &way.becomes).await;
                if let Ok(Look::Deleted(_) | Look::Absent) = seen {
                    let reason = "the service said that it is back, and it is not there";
                    self.not_back(attempt, None, decision(last), false, reason)
                        .await?;
                    return Ok(if last {
                        Self::over(deletion, reason)
                    } else {
                        self.wait(attempt.number, None).await;
                        Next::Again
                    });
                }
                let how = BackHow::Restored;
                let back = self
                    .back(place, attempt, how, false, written, version, seen)
                    .await?;
                return Ok(Next::Over(Box::new(back), End::GoOn));
            }
            Err(error) => error,
        };
        let answered = error.effect == Effect::None;
        let is_no = matches!(
            error.class,
            ErrorClass::Conflict | ErrorClass::NotFound | ErrorClass::Gone
        );
        if answered && !is_no {
            return self.refused(attempt, &error, last, another).await;
        }
        // It may have happened, or the answer speaks of something that has to be looked at.
        match look(place, &way.becomes).await {
            // The intent stays open; the next run asks again.
            Err(asked) => {
                let (back, end) = Self::unasked(deletion, &asked);
                Ok(Next::Over(Box::new(back), end))
            }
            Ok(Look::There(version, bytes)) => {
                let written = Written {
                    status: error.status,
                    date: error.date,
                };
                let seen = Ok(Look::There(version, bytes));
                let how = BackHow::Restored;
                let back = self
                    .back(place, attempt, how, true, written, None, seen)
                    .await?;
                Ok(Next::Over(Box::new(back), End::GoOn))
            }
            Ok(Look::Deleted(_)) if !way.undeletes && way.becomes != deletion.item => {
                self.not_back(attempt, Some(&error), "given_up", true, DELETED_SINCE)
                    .await?;
                Ok(Self::over(deletion, DELETED_SINCE))
            }
            Ok(found) => {
                let is_left = matches!(found, Look::Deleted(_));
                if let Look::Deleted(version) = found {
                    left.insert(way.becomes.clone(), version);
                }
                let is_gone = matches!(error.class, ErrorClass::NotFound | ErrorClass::Gone);
                // A proxy says 404 too: what is still there to be un-done is tried once more.
                let doubtful = is_left && !std::mem::replace(doubted, true);
                if answered && is_gone && !doubtful {
                    return self.refused(attempt, &error, true, another).await;
                }
                let reason = format!("{}; it is not there", error.reason);
                self.not_back(attempt, Some(&error), decision(last), !answered, &reason)
                    .await?;
                if last || !self.retry.waits_for(error.retry_after) {
                    return Ok(Self::over(deletion, &reason));
                }
                self.wait(attempt.number, error.retry_after).await;
                Ok(Next::Again)
            }
        }
    }

    /// The service said no.
    async fn refused(
        &self,
        attempt: &Attempt<'_>,
        error: &ItemError,
        last: bool,
        another: bool,
    ) -> Result<Next, EngineError> {
        let deletion = attempt.deletion;
        let waits = self.retry.waits_for(error.retry_after);
        if error.may_pass && !last && waits {
            self.not_back(attempt, Some(error), "retried", false, &error.reason)
                .await?;
            self.wait(attempt.number, error.retry_after).await;
            return Ok(Next::Again);
        }
        if error.stops_user || error.stops_run || !waits {
            self.not_back(attempt, Some(error), "given_up", false, &error.reason)
                .await?;
            let back = untried(deletion, Ended::Failed, Some(&error.reason));
            let end = End::PlaceStopped(Box::new(Stopped::from(error)));
            return Ok(Next::Over(Box::new(back), end));
        }
        if another && !error.may_pass {
            self.not_back(attempt, Some(error), "next_way", false, &error.reason)
                .await?;
            return Ok(Next::Otherwise);
        }
        self.not_back(attempt, Some(error), "given_up", false, &error.reason)
            .await?;
        Ok(Self::over(deletion, &error.reason))
    }

    fn over(deletion: &Deletion, reason: &str) -> Next {
        let back = untried(deletion, Ended::Failed, Some(reason));
        Next::Over(Box::new(back), End::GoOn)
    }

    /// Finds out what became of an intent that a crash left open, and records it.
    async fn recover(
        &self,
        place: &dyn Place,
        attempt: &Attempt<'_>,
    ) -> Result<Result<Option<ItemBack>, ItemError>, EngineError> {
        match look(place, &attempt.way.becomes).await {
            Err(error) => Ok(Err(error)),
            Ok(Look::There(version, bytes)) => {
                let seen = Ok(Look::There(version, bytes));
                let how = BackHow::Restored;
                let written = Written::default();
                let back = self
                    .back(place, attempt, how, true, written, None, seen)
                    .await?;
                Ok(Ok(Some(back)))
            }
            Ok(_) => {
                let reason = "it is not there";
                self.not_back(attempt, None, "retried", true, reason)
                    .await?;
                Ok(Ok(None))
            }
        }
    }

    /// Records that it is back, held against the backup as it was read back.
    #[expect(clippy::too_many_arguments, reason = "each is one member of the entry")]
    async fn back(
        &self,
        place: &dyn Place,
        attempt: &Attempt<'_>,
        outcome: BackHow,
        recovered: bool,
        written: Written,
        version: Option<String>,
        seen: Result<Look, ItemError>,
    ) -> Result<ItemBack, EngineError> {
        let (deletion, way) = (attempt.deletion, attempt.way);
        let (now, bytes) = match seen {
            Ok(Look::There(now, bytes)) => (now, bytes),
            _ => (None, None),
        };
        let Compared {
            verified,
            lost,
            differs,
        } = compare(place, attempt.backup, bytes.as_deref(), &way.loses).await;
        let restored = ItemRestored {
            intent: attempt.intent,
            outcome,
            way: way.way.clone().into_owned(),
            place: deletion.place.clone(),
            item: deletion.item.clone(),
            becomes: way.becomes.clone(),
            version: now.or(version),
            verified,
            differs: differs.clone(),
            lost: lost.clone(),
            recovered,
            status: written.status,
            remote_date: text(written.date),
        };
        let digest = restored.version.as_deref().map(etag_digest);
        let appended = self
            .outcome(&Event::ItemRestored(restored), attempt)
            .await?;
        let ended = match outcome {
            BackHow::Restored => Ended::Restored,
            BackHow::AlreadyThere => Ended::AlreadyThere,
        };
        let etag = digest.unwrap_or_default();
        self.log.entry(
            &appended,
            &[
                ("class", &deletion.class),
                ("outcome", ended.name()),
                ("way", &way.way),
                ("etag", &etag),
            ],
        );
        Ok(ItemBack {
            new_id: Some(way.becomes.clone()),
            way: Some(way.way.clone().into_owned()),
            verified,
            differs,
            lost,
            ..untried(deletion, ended, None)
        })
    }

    async fn not_back(
        &self,
        attempt: &Attempt<'_>,
        error: Option<&ItemError>,
        decision: &str,
        recovered: bool,
        reason: &str,
    ) -> Result<(), EngineError> {
        let class = error.map_or(ErrorClass::Network, |error| error.class);
        let event = Event::ItemRestoreFailed(RestoreFailed {
            intent: attempt.intent,
            way: attempt.way.way.clone().into_owned(),
            class: class.to_string(),
            status: error.and_then(|error| error.status),
            attempt: attempt.number,
            decision: decision.to_owned(),
            recovered,
            reason: reason.to_owned(),
            remote_date: text(error.and_then(|error| error.date)),
        });
        let appended = self.outcome(&event, attempt).await?;
        let class = &attempt.deletion.class;
        self.log
            .entry(&appended, &[("class", class), ("outcome", decision)]);
        Ok(())
    }

    async fn outcome(&self, event: &Event, attempt: &Attempt<'_>) -> Result<Appended, EngineError> {
        let mut draft = self.draft(event, &attempt.deletion.subject, attempt.owner)?;
        draft.key = Some(key(attempt.deletion, attempt.number, "outcome")?);
        draft.cause = Some(attempt.intent);
        self.append(draft, self.fence(attempt.deletion.plan)).await
    }

    /// Appends an entry about an item under the fence of its plan.
    pub(super) async fn about(
        &self,
        event: &Event,
        subject: &Subject,
        owner: &Subject,
        plan: Hash,
    ) -> Result<Appended, EngineError> {
        let draft = self.draft(event, subject, owner)?;
        self.append(draft, self.fence(plan)).await
    }

    /// How long a request may take, once it ends before the lease could pass to somebody else.
    async fn write_limit(&self, plan: Hash) -> Duration {
        let of_plan = self.leases.iter().find(|(of, _)| *of == plan);
        match of_plan {
            Some((_, lease)) => {
                lease.until_safe().await;
                lease.write_limit()
            }
            None => super::LeaseTimes::default().write_limit(),
        }
    }

    async fn wait(&self, attempt: u32, asked: Option<Duration>) {
        let wait = self.retry.wait(attempt, asked, self.timing.jitter());
        tokio::select! {
            () = self.timing.sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

fn decision(last: bool) -> &'static str {
    if last { "given_up" } else { "retried" }
}

fn text(date: Option<DateTime<Utc>>) -> Option<String> {
    date.map(|date| date.to_rfc3339())
}

fn key(deletion: &Deletion, attempt: u32, what: &str) -> Result<IdempotencyKey, EngineError> {
    format!("restore/{}/{attempt}/{what}", deletion.intent.uuid())
        .parse()
        .map_err(|error| EngineError::Internal(format!("build a key: {error}")))
}
