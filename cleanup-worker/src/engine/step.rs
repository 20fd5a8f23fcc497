//! One item: intent, effect, outcome. At every line a crash may come; what it leaves and who mends it stands beside it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Duration, Utc};
use ledger::domain::custody::DeleteOutcome;
use ledger::domain::event::{
    Body, DeleteFailed, DeleteIntended, Event, GoneHow, ItemDeleted, ItemHeld, NotGone, UserFailed,
};
use ledger::domain::id::{EntryId, IdempotencyKey, Subject, Timestamp};
use ledger::projections::plan::{self, Approval, OpenIntent, PlannedItem, Progress, SealedPlan};
use ledger::store::{Appended, Draft};
use tokio_util::sync::CancellationToken;

use super::dry_run::body_of;
use super::lease::Lease;
use super::limits::Limits;
use super::patience::patiently;
use super::place::Known;
use super::runlog::{RunLog, etag_digest};
use super::{EngineError, Recorder};
use crate::clients::retry::{RetryPolicy, Timing};
use crate::clients::{Effect, ErrorClass};
use crate::coalesce::Coalesced;
use crate::executors::{Executor, Found, Freshness, ItemError, Place, Unreachable};

/// Attempts at one item in one run.
const ATTEMPTS_MAX: u32 = 6;
/// The outside clock and ours may differ by so much where a tombstone is dated against an intent.
const TOMBSTONE_SKEW: Duration = Duration::seconds(5);

/// Nothing is begun so shortly before the approval lapses: PostgreSQL dates the intent, after a retry perhaps and by its own
/// clock, and an intent dated after the approval counts as a deletion that nobody approved.
const APPROVAL_MARGIN: Duration = Duration::seconds(60);

/// What all items of a live run share, but for the lease, which is that of their place.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) recorder: Recorder,
    pub(super) plan: Arc<SealedPlan>,
    pub(super) approval: Approval,
    pub(super) lease: Lease,
    pub(super) log: RunLog,
    pub(super) timing: Arc<dyn Timing>,
    pub(super) executor: Arc<dyn Executor>,
    /// Waits where an error can pass.
    pub(super) retry: RetryPolicy,
    /// How far the plan has been executed, as the log says.
    pub(super) reached: Arc<Coalesced<Known>>,
    /// What makes the run stop by itself.
    pub(super) limits: Limits,
    /// Told to stop: what is begun reaches its outcome, nothing new starts.
    pub(super) stop: CancellationToken,
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemEnd {
    Deleted,
    AlreadyGone,
    Held,
    /// Not done, and why; the next item may be.
    Failed(String),
    /// Not done, and nothing more can be done for this user.
    UserStopped(Box<Stopped>),
    /// Not done: nothing new may be begun in this run.
    RunStopped(String),
    /// Not done: this process was told to stop.
    Interrupted,
}

/// Why a user's items are not gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) class: ErrorClass,
    pub(super) status: Option<u16>,
    pub(super) attempt: u32,
    pub(super) date: Option<DateTime<Utc>>,
    /// All users would meet it.
    pub(super) stops_run: bool,
    pub(super) reason: String,
}

impl From<&ItemError> for Stopped {
    fn from(error: &ItemError) -> Self {
        Self {
            class: error.class,
            status: error.status,
            attempt: error.attempt,
            date: error.date,
            stops_run: error.stops_run,
            reason: error.reason.clone(),
        }
    }
}

impl From<&Unreachable> for Stopped {
    fn from(why: &Unreachable) -> Self {
        Self {
            class: why.class,
            status: why.status,
            attempt: why.attempt,
            date: why.date,
            stops_run: why.stops_run,
            reason: why.reason.clone(),
        }
    }
}

/// Why nothing new may be begun under this approval and with what is known, if so.
pub(super) fn nothing_new(
    approval: &Approval,
    fresh: Option<&Freshness>,
    now: Timestamp,
) -> Option<String> {
    if !approval.holds_at(now) || approval.expires_at.instant() - now.instant() < APPROVAL_MARGIN {
        let at = approval.expires_at;
        return Some(format!(
            "the approval lapses at {at}; have the plan approved again then"
        ));
    }
    let over = fresh.filter(|fresh| now.instant() >= fresh.until);
    over.map(|fresh| fresh.then.clone().into_owned())
}

/// How an item ended in an earlier run, if it did.
pub(super) fn ended(progress: &Progress) -> Option<ItemEnd> {
    match progress.outcome {
        // What was put back is for a person: it takes a new plan to delete it again.
        _ if progress.held || progress.restored => Some(ItemEnd::Held),
        _ if progress.open.is_some() => None,
        Some(DeleteOutcome::Deleted { .. } | DeleteOutcome::GoneCauseUnknown) => {
            Some(ItemEnd::Deleted)
        }
        Some(DeleteOutcome::AlreadyGone) => Some(ItemEnd::AlreadyGone),
        Some(DeleteOutcome::Changed | DeleteOutcome::Adopted) => Some(ItemEnd::Held),
        Some(DeleteOutcome::Failed | DeleteOutcome::Unknown) | None => None,
    }
}

/// What asking about an item after an intent came to.
enum Trace {
    /// The version that was approved is there.
    Alive,
    /// Another version is there.
    Changed,
    /// A tombstone, and when it was made.
    Tombstone(Option<DateTime<Utc>>),
    /// No trace.
    Gone,
}

impl Live {
    /// How far the plan has been executed by now. Of all places that ask at a time one reads the log.
    pub(super) async fn known_now(&self) -> Result<Known, EngineError> {
        let (store, plan) = (&self.recorder.store, self.plan.hash);
        let read = Box::pin(async {
            let known = patiently(|| plan::progress(store, plan)).await;
            known.map(Arc::new)
        });
        self.reached.ask(read).await
    }

    /// Appends an entry of this run under its fence.
    pub(super) async fn record(
        &self,
        event: &Event,
        subject: &Subject,
        owner: &Subject,
        key: Option<IdempotencyKey>,
        cause: Option<EntryId>,
    ) -> Result<Appended, EngineError> {
        let actor = self.recorder.actor.clone();
        let mut draft = Draft::of(event, subject.clone(), actor, owner.clone())?;
        draft.run = Some(self.recorder.run);
        draft.key = key;
        draft.cause = cause;
        draft.fence = Some(self.lease.fence().clone());
        // An append waits for its answer; what it needs before it is sent does not.
        patiently(|| self.recorder.store.append(draft.clone())).await
    }

    /// The receipt of an entry about an item, in the run's log file.
    fn log_item(&self, item: &PlannedItem, appended: &Appended, words: &[(&str, &str)]) {
        let version = etag_digest(item.version.as_deref().unwrap_or_default());
        let mut all = vec![("class", item.class.as_str()), ("etag", version.as_str())];
        all.extend(words);
        self.log.entry(appended, &all);
    }

    /// Of the plan at the bottom: an attempt that was made before a decision is not made again after it.
    fn key(&self, item: &Subject, attempt: u32, what: &str) -> Result<IdempotencyKey, EngineError> {
        format!("{}/{}/{attempt}/{what}", self.plan.root.uuid(), item.uuid())
            .parse()
            .map_err(|error| EngineError::Internal(format!("build a key: {error}")))
    }

    /// Why nothing new may be begun, if so.
    pub(super) async fn stopped(&self) -> Option<String> {
        let fresh = self.executor.fresh_until().await;
        nothing_new(
            &self.approval,
            fresh.as_ref(),
            self.recorder.store.clock().now(),
        )
    }

    /// Brings one item that has not ended yet to its end, after so many attempts of earlier runs.
    pub(super) async fn execute(
        &self,
        place: &dyn Place,
        owner: &Subject,
        item: &PlannedItem,
        attempts: u32,
    ) -> Result<ItemEnd, EngineError> {
        let first = attempts + 1;
        for attempt in first..first + ATTEMPTS_MAX {
            if self.stop.is_cancelled() {
                return Ok(ItemEnd::Interrupted);
            }
            if let Some(reason) = self.stopped().await {
                return Ok(ItemEnd::RunStopped(reason));
            }
            let last = attempt + 1 == first + ATTEMPTS_MAX;
            if let Some(end) = self.attempt(place, owner, item, attempt, last).await? {
                return Ok(end);
            }
        }
        Ok(ItemEnd::Failed(format!("{ATTEMPTS_MAX} attempts failed")))
    }

    /// One attempt; none where another one should follow.
    async fn attempt(
        &self,
        place: &dyn Place,
        owner: &Subject,
        item: &PlannedItem,
        attempt: u32,
        last: bool,
    ) -> Result<Option<ItemEnd>, EngineError> {
        // Also asked again once nothing has to be waited for any more; here it spares the requests.
        if let Some(reason) = self.executor.relied_on(&item.item).await? {
            return self.hold(owner, item, "adopted", &reason).await.map(Some);
        }
        let version = item.version.as_deref().unwrap_or_default();
        if version.is_empty() {
            let reason = "no version of it was read, so no deletion can be made conditional";
            return self.hold(owner, item, "unreadable", reason).await.map(Some);
        }
        // Read again right before: the backup is of the very version that goes.
        let backup = match place.read(&item.item).await {
            Ok(Found::Deleted { .. } | Found::Absent) => {
                if self.is_deleted_by_us(&item.subject).await? {
                    return Ok(Some(ItemEnd::Deleted));
                }
                self.planned_body(item).await?
            }
            Ok(Found::There {
                version: Some(now),
                bytes,
            }) if now == version => match bytes {
                Some(bytes) => Some(body_of(&bytes)),
                None => match place.backup(&item.item, version).await {
                    Ok(bytes) => bytes.map(|bytes| body_of(&bytes)),
                    Err(error) => return self.after_failed_read(owner, &error).await.map(Some),
                },
            },
            Ok(Found::There { .. }) => {
                let reason = "it was changed after the plan was made";
                return self.hold(owner, item, "changed", reason).await.map(Some);
            }
            Err(error) => return self.after_failed_read(owner, &error).await.map(Some),
        };
        let Some(backup) = backup else {
            let reason = "the plan kept no copy of it, so it could not be put back";
            return self.hold(owner, item, "unreadable", reason).await.map(Some);
        };
        // What is waited for is waited for now, and not once the intent stands.
        if let Err(error) = place.ready().await {
            return self.after_failed_read(owner, &error).await.map(Some);
        }
        if let Some(end) = self.after_waiting(owner, item).await? {
            return Ok(Some(end));
        }
        let intended = Event::ItemDeleteIntended(DeleteIntended {
            plan: self.plan.hash,
            approval: self.approval.id,
            attempt,
            place: item.place.clone(),
            item: item.item.clone(),
            version: version.to_owned(),
            backup,
        });
        let key = self.key(&item.subject, attempt, "intent")?;
        // A crash after this line: the intent is open, and `recover` asks what became of it before anything else.
        let intent = self
            .record(&intended, &item.subject, owner, Some(key), None)
            .await?;
        self.log_item(item, &intent, &[("attempt", &attempt.to_string())]);
        if intent.replayed {
            // It stood there already: the answer to its append was lost, or somebody was here before. It is never acted on again; what
            // became of it is asked, and another attempt has an intent of its own.
            let attempt = Attempt {
                owner,
                item,
                intent: &intent,
                number: attempt,
            };
            return match trace(place, &item.item, version).await {
                Ok(found) => {
                    let at = intent.entry.recorded_at;
                    self.conclude(&attempt, found, at, last, None).await
                }
                Err(error) => self.after_failed_read(owner, &error).await.map(Some),
            };
        }
        self.lease.until_safe().await;
        // A crash after this line: it may be gone, and the ledger does not know yet; `recover` finds out.
        let limit = self.lease.write_limit();
        let answer = place.delete(&item.item, version, limit).await;
        let attempt = Attempt {
            owner,
            item,
            intent: &intent,
            number: attempt,
        };
        match answer {
            Ok(written) => {
                let date = written.date;
                self.gone(&attempt, GoneHow::Deleted, false, written.status, date)
                    .await?;
                Ok(Some(ItemEnd::Deleted))
            }
            Err(error) => {
                self.after_failed_delete(place, item, &attempt, &error, last)
                    .await
            }
        }
    }

    /// Asks once more, right before the intent, for what may have changed while the item was read and its turn was waited for; the end
    /// where it may not be begun any more.
    async fn after_waiting(
        &self,
        owner: &Subject,
        item: &PlannedItem,
    ) -> Result<Option<ItemEnd>, EngineError> {
        if self.stop.is_cancelled() {
            return Ok(Some(ItemEnd::Interrupted));
        }
        if let Some(reason) = self.stopped().await {
            return Ok(Some(ItemEnd::RunStopped(reason)));
        }
        // After the line above, which may have looked what the new system relies on by now.
        if let Some(reason) = self.executor.relied_on(&item.item).await? {
            return self.hold(owner, item, "adopted", &reason).await.map(Some);
        }
        Ok(None)
    }

    /// A deletion that was answered with an error, or not at all.
    async fn after_failed_delete(
        &self,
        place: &dyn Place,
        item: &PlannedItem,
        attempt: &Attempt<'_>,
        error: &ItemError,
        last: bool,
    ) -> Result<Option<ItemEnd>, EngineError> {
        if error.effect == Effect::Unknown {
            // No answer: it may have happened. Whoever was asked knows.
            let version = item.version.as_deref().unwrap_or_default();
            let recorded_at = attempt.intent.entry.recorded_at;
            let trace = match trace(place, &item.item, version).await {
                Ok(trace) => trace,
                // The intent stays open; the next run asks again.
                Err(error) => {
                    let end = self.after_failed_read(attempt.owner, &error).await?;
                    return Ok(Some(end));
                }
            };
            let end = self
                .conclude(attempt, trace, recorded_at, last, Some(error))
                .await?;
            if end.is_none() {
                self.back_off(error, attempt.number).await;
            }
            return Ok(end);
        }
        match error.class {
            ErrorClass::Gone | ErrorClass::NotFound => {
                // A proxy says 404 too: only an item that cannot be found is gone.
                let version = item.version.as_deref().unwrap_or_default();
                match trace(place, &item.item, version).await {
                    Ok(Trace::Tombstone(_) | Trace::Gone) => {}
                    Ok(found) => {
                        let at = attempt.intent.entry.recorded_at;
                        let end = self.conclude(attempt, found, at, last, Some(error)).await?;
                        if end.is_none() {
                            self.back_off(error, attempt.number).await;
                        }
                        return Ok(end);
                    }
                    Err(error) => {
                        let end = self.after_failed_read(attempt.owner, &error).await?;
                        return Ok(Some(end));
                    }
                }
                self.was_gone(attempt, error).await.map(Some)
            }
            ErrorClass::Conflict => {
                // Deleting it changes it too.
                let version = item.version.as_deref().unwrap_or_default();
                let found = trace(place, &item.item, version).await;
                if let Ok(Trace::Tombstone(_) | Trace::Gone) = found {
                    return self.was_gone(attempt, error).await.map(Some);
                }
                let reason = "it was changed after the plan was made";
                self.not_gone(
                    attempt,
                    NotGone::Changed,
                    "held",
                    Some(error),
                    false,
                    reason,
                )
                .await?;
                Ok(Some(ItemEnd::Held))
            }
            _ if error.may_pass && !last && self.retry.waits_for(error.retry_after) => {
                let reason = error.reason.clone();
                self.not_gone(
                    attempt,
                    NotGone::Failed,
                    "retried",
                    Some(error),
                    false,
                    &reason,
                )
                .await?;
                self.back_off(error, attempt.number).await;
                Ok(None)
            }
            _ => {
                let reason = error.reason.clone();
                self.not_gone(
                    attempt,
                    NotGone::Failed,
                    "given_up",
                    Some(error),
                    false,
                    &reason,
                )
                .await?;
                Ok(Some(self.stops(error).unwrap_or(ItemEnd::Failed(reason))))
            }
        }
    }

    /// It was gone when the request came: by somebody else's hand, or by an earlier attempt of ours that arrived after we asked about it.
    async fn was_gone(
        &self,
        attempt: &Attempt<'_>,
        error: &ItemError,
    ) -> Result<ItemEnd, EngineError> {
        let (how, end) = match attempt.number {
            1 => (GoneHow::AlreadyGone, ItemEnd::AlreadyGone),
            _ => (GoneHow::GoneCauseUnknown, ItemEnd::Deleted),
        };
        self.gone(attempt, how, false, error.status, error.date)
            .await?;
        Ok(end)
    }

    /// The wait before another attempt, which ends where the process is told to stop.
    async fn back_off(&self, error: &ItemError, attempt: u32) {
        let wait = self
            .retry
            .wait(attempt, error.retry_after, self.timing.jitter());
        tokio::select! {
            () = self.timing.sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// What else an error ends: the run, where all users would meet it, or this user's part of it.
    fn stops(&self, error: &ItemError) -> Option<ItemEnd> {
        if error.stops_run {
            return Some(ItemEnd::RunStopped(error.reason.clone()));
        }
        let asked = error.retry_after.filter(|_| error.may_pass);
        let is_long = !self.retry.waits_for(asked);
        if !error.stops_user && !is_long {
            return None;
        }
        let mut why = Stopped::from(error);
        if let Some(asked) = asked.filter(|_| is_long) {
            let seconds = asked.as_secs();
            why.reason = format!("{}; it is to be asked again in {seconds} s", why.reason);
        }
        Some(ItemEnd::UserStopped(Box::new(why)))
    }

    /// A question about an item that got no answer: recorded, and the item is left for another run.
    async fn after_failed_read(
        &self,
        owner: &Subject,
        error: &ItemError,
    ) -> Result<ItemEnd, EngineError> {
        let stops = self.stops(error);
        if let Some(end @ ItemEnd::UserStopped(_)) = stops {
            return Ok(end);
        }
        let why = Stopped::from(error);
        self.user_failed(owner, "cleanup", "skipped", &why).await?;
        Ok(stops.unwrap_or(ItemEnd::Failed(why.reason)))
    }

    /// Records that something about an account could not be done.
    pub(super) async fn user_failed(
        &self,
        owner: &Subject,
        during: &str,
        decision: &str,
        why: &Stopped,
    ) -> Result<(), EngineError> {
        let event = Event::UserFailed(UserFailed {
            during: during.to_owned(),
            class: why.class.to_string(),
            status: why.status,
            attempt: why.attempt,
            decision: decision.to_owned(),
            reason: why.reason.clone(),
            remote_date: why.date.map(|date| date.to_rfc3339()),
        });
        let appended = self.record(&event, owner, owner, None, None).await?;
        let class = why.class.to_string();
        self.log
            .entry(&appended, &[("class", &class), ("decision", decision)]);
        Ok(())
    }

    /// Records what became of an attempt whose reply is not known, with the error that there was instead of it.
    async fn conclude(
        &self,
        attempt: &Attempt<'_>,
        trace: Trace,
        intended_at: Timestamp,
        last: bool,
        error: Option<&ItemError>,
    ) -> Result<Option<ItemEnd>, EngineError> {
        match trace {
            Trace::Tombstone(made) => {
                let before = made.is_some_and(|made| is_before(made, intended_at.instant()));
                let how = match made {
                    Some(_) if before => GoneHow::AlreadyGone,
                    Some(_) => GoneHow::Deleted,
                    None => GoneHow::GoneCauseUnknown,
                };
                self.gone(attempt, how, true, None, None).await?;
                Ok(Some(if before {
                    ItemEnd::AlreadyGone
                } else {
                    ItemEnd::Deleted
                }))
            }
            Trace::Gone => {
                self.gone(attempt, GoneHow::GoneCauseUnknown, true, None, None)
                    .await?;
                Ok(Some(ItemEnd::Deleted))
            }
            Trace::Changed => {
                let reason = "it was changed after the plan was made";
                self.not_gone(attempt, NotGone::Changed, "held", error, true, reason)
                    .await?;
                Ok(Some(ItemEnd::Held))
            }
            Trace::Alive => {
                let decision = if last { "given_up" } else { "retried" };
                let mut reason = "it is there as before".to_owned();
                if let Some(error) = error {
                    reason = format!("{}; {reason}", error.reason);
                }
                self.not_gone(attempt, NotGone::Failed, decision, error, true, &reason)
                    .await?;
                Ok(last.then_some(ItemEnd::Failed(reason)))
            }
        }
    }

    /// Finds out what became of an intent that a crash left open, and records it; the error where there was no answer.
    pub(super) async fn recover(
        &self,
        place: &dyn Place,
        owner: &Subject,
        item: &PlannedItem,
        open: &OpenIntent,
    ) -> Result<Result<(), ItemError>, EngineError> {
        let found = trace(place, &open.item, &open.version).await;
        let trace = match found {
            Ok(trace) => trace,
            Err(error) => return Ok(Err(error)),
        };
        let recorded = patiently(|| self.recorder.store.get(open.seq)).await?;
        let Some(recorded) = recorded else {
            return Err(EngineError::Internal(format!(
                "entry {} is not there",
                open.seq
            )));
        };
        let intent = Appended {
            hash: recorded.hash,
            entry: recorded.entry,
            replayed: true,
        };
        let attempt = Attempt {
            owner,
            item,
            intent: &intent,
            number: open.attempt,
        };
        self.conclude(&attempt, trace, open.recorded_at, false, None)
            .await?;
        Ok(Ok(()))
    }

    async fn gone(
        &self,
        attempt: &Attempt<'_>,
        outcome: GoneHow,
        recovered: bool,
        status: Option<u16>,
        date: Option<DateTime<Utc>>,
    ) -> Result<(), EngineError> {
        let event = Event::ItemDeleted(ItemDeleted {
            intent: attempt.intent.entry.id,
            outcome,
            recovered,
            status,
            remote_date: date.map(|date| date.to_rfc3339()),
        });
        let word = match outcome {
            GoneHow::Deleted => "deleted",
            GoneHow::AlreadyGone => "already_gone",
            GoneHow::GoneCauseUnknown => "gone_cause_unknown",
        };
        self.outcome(&event, attempt, word).await
    }

    async fn not_gone(
        &self,
        attempt: &Attempt<'_>,
        outcome: NotGone,
        decision: &str,
        error: Option<&ItemError>,
        recovered: bool,
        reason: &str,
    ) -> Result<(), EngineError> {
        let event = Event::ItemDeleteFailed(DeleteFailed {
            intent: attempt.intent.entry.id,
            outcome,
            class: error
                .map_or(ErrorClass::Network, |error| error.class)
                .to_string(),
            status: error.and_then(|error| error.status),
            attempt: attempt.number,
            decision: decision.to_owned(),
            recovered,
            reason: reason.to_owned(),
            remote_date: error
                .and_then(|error| error.date)
                .map(|date| date.to_rfc3339()),
        });
        self.outcome(&event, attempt, decision).await
    }

    async fn outcome(
        &self,
        event: &Event,
        attempt: &Attempt<'_>,
        word: &str,
    ) -> Result<(), EngineError> {
        let item = attempt.item;
        let key = self.key(&item.subject, attempt.number, "outcome")?;
        let cause = Some(attempt.intent.entry.id);
        let appended = self
            .record(event, &item.subject, attempt.owner, Some(key), cause)
            .await?;
        self.log_item(item, &appended, &[("outcome", word)]);
        Ok(())
    }

    async fn hold(
        &self,
        owner: &Subject,
        item: &PlannedItem,
        cause: &str,
        reason: &str,
    ) -> Result<ItemEnd, EngineError> {
        let event = Event::ItemHeld(ItemHeld {
            plan: self.plan.hash,
            cause: cause.to_owned(),
            reason: reason.to_owned(),
        });
        let key = self.key(&item.subject, 0, "held")?;
        let appended = self
            .record(&event, &item.subject, owner, Some(key), None)
            .await?;
        self.log_item(item, &appended, &[("outcome", "held"), ("cause", cause)]);
        Ok(ItemEnd::Held)
    }

    /// Whether the last that the log says of an item is that it is gone by our hand: another inventory found it before, and its plan was
    /// executed. Nothing is left to be done then, and an answer that it is gone already would be recorded as somebody else's doing.
    async fn is_deleted_by_us(&self, item: &Subject) -> Result<bool, EngineError> {
        patiently(|| plan::is_deleted(&self.recorder.store, item)).await
    }

    /// The copy that the plan kept, which was checked against its digest when the plan was loaded.
    async fn planned_body(&self, item: &PlannedItem) -> Result<Option<Body>, EngineError> {
        let recorded = patiently(|| self.recorder.store.get(item.seq)).await?;
        let json = recorded
            .as_ref()
            .and_then(|recorded| recorded.payload.json());
        let found = json.and_then(|json| Event::decode("item.found", 1, json).ok());
        let Some(Event::ItemFound(found)) = found else {
            return Ok(None);
        };
        Ok(found
            .body
            .filter(|body| STANDARD.decode(&body.base64).is_ok()))
    }
}

struct Attempt<'a> {
    owner: &'a Subject,
    item: &'a PlannedItem,
    intent: &'a Appended,
    number: u32,
}

async fn trace(place: &dyn Place, item: &str, version: &str) -> Result<Trace, ItemError> {
    Ok(match place.read(item).await? {
        Found::Deleted { at, .. } => Trace::Tombstone(at),
        Found::Absent => Trace::Gone,
        Found::There {
            version: Some(now), ..
        } if now == version => Trace::Alive,
        Found::There { .. } => Trace::Changed,
    })
}

/// Whether a tombstone was made before an intent, by more than the clocks may differ. However far away the time is that it was dated with:
/// two times have a difference, and a time moved by a span need not be one.
fn is_before(made: DateTime<Utc>, intended: DateTime<Utc>) -> bool {
    intended - made > TOMBSTONE_SKEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_dated_however_far_its_time_is_away() {
        let intended: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
        assert!(!is_before(intended, intended));
        assert!(!is_before(intended - TOMBSTONE_SKEW, intended));
        assert!(is_before(intended - Duration::seconds(6), intended));
        assert!(!is_before(DateTime::<Utc>::MAX_UTC, intended));
        assert!(is_before(DateTime::<Utc>::MIN_UTC, intended));
    }
}
