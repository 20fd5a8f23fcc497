//! One place: open it, bring its items back one by one, look at it again.

use std::collections::HashMap;

use ledger::domain::custody::Observation;
use ledger::domain::event::{ContainerListed, Event, ItemObserved, UserFailed};
use ledger::domain::id::Subject;
use ledger::projections::restore::Deletion;
use ledger::store::{Draft, Store};

use super::Restorer;
use super::choice::ChosenPlace;
use super::item::End;
use super::look::{self, StandIns};
use super::report::{Ended, ItemBack, UserBack};
use crate::engine::EngineError;
use crate::engine::pace::Pace;
use crate::engine::step::Stopped;
use crate::executors::{ItemError, Place, Places, SeenItem};

/// So many items of a place may fail one after another before it is left for later.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

pub(super) const STOPPED: &str = "stopped: run the same again";

/// An item of which nothing was tried.
pub(super) fn untried(deletion: &Deletion, ended: Ended, reason: Option<&str>) -> ItemBack {
    let done = deletion.back.done.as_ref().map(|done| &done.restored);
    ItemBack {
        subject: deletion.subject.to_string(),
        place: deletion.place.clone(),
        old_id: deletion.item.clone(),
        new_id: done.map(|restored| restored.becomes.clone()),
        way: done.map(|restored| restored.way.clone()),
        ended,
        double: false,
        verified: done.is_some_and(|restored| restored.verified),
        differs: done
            .map(|restored| restored.differs.clone())
            .unwrap_or_default(),
        lost: done
            .map(|restored| restored.lost.clone())
            .unwrap_or_default(),
        reason: reason.map(str::to_owned),
    }
}

/// What is known of an item before anything outside is asked: it cannot be put back.
fn known(deletion: &Deletion) -> Option<ItemBack> {
    if deletion.back.done.is_some() {
        return None;
    }
    let hindrance = deletion.hindrance()?;
    Some(untried(deletion, Ended::Failed, Some(hindrance)))
}

/// An item at which nobody could look: that it was put back once is all that is known.
pub(super) fn unseen(deletion: &Deletion, reason: &str) -> ItemBack {
    let ended = match deletion.back.done {
        Some(_) => Ended::BackBefore,
        None => Ended::Failed,
    };
    untried(deletion, ended, Some(reason))
}

/// Counts the items of a place that could not be reached.
fn unreached(place: &ChosenPlace, user: &mut UserBack, reason: &str) {
    user.say(reason);
    for deletion in &place.deletions {
        let item = known(deletion);
        user.add(item.unwrap_or_else(|| unseen(deletion, reason)));
    }
}

/// A place of which every item is known without asking.
fn settled(place: &ChosenPlace) -> Option<UserBack> {
    let items: Option<Vec<ItemBack>> = place.deletions.iter().map(known).collect();
    let mut user = UserBack::new(place);
    for item in items? {
        user.say(item.reason.clone().unwrap_or_default());
        user.add(item);
    }
    Some(user)
}

/// Looks at a place and says what would become of each item.
pub(super) async fn preview(
    places: &dyn Places,
    store: &Store,
    place: ChosenPlace,
    leave_stand_ins: bool,
    starts: &Pace,
) -> Result<UserBack, EngineError> {
    if let Some(user) = settled(&place) {
        return Ok(user);
    }
    starts.start().await;
    let mut user = UserBack::new(&place);
    let opened = match places.look(&place.id, &place.users).await {
        Ok(opened) => opened,
        Err(why) => {
            unreached(&place, &mut user, &why.reason);
            return Ok(user);
        }
    };
    let mut stand_ins = StandIns::new(opened.as_ref(), &place.ours, leave_stand_ins);
    for deletion in &place.deletions {
        let back = if let Some(back) = known(deletion) {
            back
        } else {
            let preview = look::preview(opened.as_ref(), store, deletion, &mut stand_ins);
            match preview.await? {
                Ok(back) => back,
                Err(error) => unseen(deletion, &error.reason),
            }
        };
        if back.ended != Ended::StandIn {
            user.say(back.reason.clone().unwrap_or_default());
        }
        user.add(back);
    }
    user.say(stand_ins.untold.unwrap_or_default());
    Ok(user)
}

impl Restorer {
    /// Brings back what can be of one place.
    pub(super) async fn one_place(
        &self,
        place: ChosenPlace,
        starts: &Pace,
    ) -> Result<UserBack, EngineError> {
        if !place.unseen
            && let Some(user) = settled(&place)
        {
            return Ok(user);
        }
        starts.start().await;
        let mut user = UserBack::new(&place);
        let kind = self.places.kinds().owner;
        let owner = self.recorder.store.subject_of(&kind, &place.id).await?;
        let Some(owner) = owner else {
            unreached(
                &place,
                &mut user,
                "its account has no subject in this ledger any more",
            );
            return Ok(user);
        };
        let opened = match self.places.open(&place.id, &place.users).await {
            Ok(opened) => opened,
            Err(why) => {
                unreached(&place, &mut user, &why.reason);
                if why.stops_run {
                    self.stop.cancel();
                }
                if why.attempt > 0 {
                    self.user_failed(&owner, "restore", "stopped", &Stopped::from(&why))
                        .await?;
                }
                return Ok(user);
            }
        };
        user.user = opened.through();
        user.email = self.places.address(&user.user).or(user.email);
        let this = Self {
            log: self.log.about(|| user.email.clone()),
            ..self.clone()
        };
        let tried = this
            .each_item(opened.as_ref(), &owner, &place, &mut user)
            .await?;
        if tried || place.unseen {
            this.look_again(opened.as_ref(), &owner, &place, &mut user)
                .await?;
        }
        Ok(user)
    }

    /// Gives whether anything was tried.
    async fn each_item(
        &self,
        opened: &dyn Place,
        owner: &Subject,
        place: &ChosenPlace,
        user: &mut UserBack,
    ) -> Result<bool, EngineError> {
        let mut in_a_row = 0;
        let mut tried = false;
        // After this nothing more is begun here.
        let mut over: Option<String> = None;
        let mut stand_ins = StandIns::new(opened, &place.ours, self.leave_stand_ins);
        for deletion in &place.deletions {
            if let Some(back) = known(deletion) {
                user.add(back);
                continue;
            }
            if let Some(reason) = &over {
                user.add(unseen(deletion, reason));
                continue;
            }
            if self.stop.is_cancelled() {
                over = Some(STOPPED.to_owned());
                user.say(STOPPED);
                user.add(unseen(deletion, STOPPED));
                continue;
            }
            if deletion.back.done.is_some() {
                match self.still_back(opened, deletion, &mut stand_ins).await? {
                    Ok(Some(back)) => {
                        user.say(back.reason.clone().unwrap_or_default());
                        user.add(back);
                        continue;
                    }
                    // Somebody deleted it since.
                    Ok(None) => self.gone_since(deletion, owner).await?,
                    Err(error) => {
                        user.say(error.reason.clone());
                        user.add(unseen(deletion, &error.reason));
                        if error.stops_user {
                            let why = Stopped::from(&error);
                            self.user_failed(owner, "restore", "stopped", &why).await?;
                            over = Some(why.reason);
                        }
                        continue;
                    }
                }
            }
            tried = true;
            let (back, end) = self
                .bring_back(opened, owner, deletion, &mut stand_ins)
                .await?;
            if back.ended == Ended::Failed {
                in_a_row += 1;
                user.say(back.reason.clone().unwrap_or_default());
            } else {
                in_a_row = 0;
            }
            user.add(back);
            if let End::PlaceStopped(why) = end {
                if why.stops_run {
                    self.stop.cancel();
                }
                self.user_failed(owner, "restore", "stopped", &why).await?;
                over = Some(why.reason);
            } else if in_a_row >= FAILURES_IN_A_ROW_MAX {
                let reason = format!("{in_a_row} items failed one after another: run it again");
                user.say(reason.clone());
                over = Some(reason);
            }
        }
        user.say(stand_ins.untold.unwrap_or_default());
        Ok(tried)
    }

    /// How an item stands that an earlier run put back; `None`: it is gone.
    async fn still_back(
        &self,
        opened: &dyn Place,
        deletion: &Deletion,
        stand_ins: &mut StandIns<'_>,
    ) -> Result<Result<Option<ItemBack>, ItemError>, EngineError> {
        let Some(backup) = look::backup_of(&self.recorder.store, deletion).await? else {
            return Ok(Ok(Some(unseen(deletion, look::NO_BACKUP))));
        };
        let ways = match look::ways_back(opened, deletion, &backup).await {
            Ok(ways) => ways,
            Err(error) => return Ok(Err(error)),
        };
        Ok(look::still_back(opened, deletion, &backup, &ways, stand_ins).await)
    }

    /// Records that what was put back is gone again; then it can be put back again.
    async fn gone_since(&self, deletion: &Deletion, owner: &Subject) -> Result<(), EngineError> {
        let event = Event::ItemObserved(ItemObserved {
            run: self.recorder.run,
            observation: Observation::Gone,
            explained: false,
            version: None,
        });
        let appended = self
            .about(&event, &deletion.subject, owner, deletion.plan)
            .await?;
        self.log.entry(&appended, &[("observed", "unexplained")]);
        Ok(())
    }

    /// Lists the place whole: what was put back has to be there, and what was not has not.
    async fn look_again(
        &self,
        opened: &dyn Place,
        owner: &Subject,
        place: &ChosenPlace,
        user: &mut UserBack,
    ) -> Result<(), EngineError> {
        let seen = match opened.observe(None).await {
            Ok(seen) => seen,
            Err(error) => {
                user.say(format!("it could not be looked at again: {}", error.reason));
                let why = Stopped::from(&error);
                return self.user_failed(owner, "observe", "skipped", &why).await;
            }
        };
        let by_id: HashMap<&str, &SeenItem> = seen
            .items
            .iter()
            .map(|item| (item.item.as_str(), item))
            .collect();
        let there = |id: &str| by_id.get(id).is_some_and(|item| !item.gone);
        let mut unexplained = 0;
        let deletions = place.deletions.iter().zip(&mut user.items);
        for (deletion, back) in deletions {
            let id = back.new_id.as_deref().unwrap_or(&deletion.item);
            let mut others = std::iter::once(&deletion.item).chain(&deletion.back.ids);
            let is_back = back.is_back();
            let (observation, what) = match back.ended {
                _ if is_back && !there(id) => (Observation::Gone, "it is not there any more"),
                _ if is_back && others.any(|other| other != id && there(other)) => {
                    (Observation::Changed, "it is there twice, under two ids")
                }
                Ended::StandIn if there(id) => (Observation::Changed, "it was left, and is there"),
                // Of a failed one the next run finds out.
                _ => continue,
            };
            back.reason = Some(format!("when the place was looked at again: {what}"));
            unexplained += 1;
            let event = Event::ItemObserved(ItemObserved {
                run: self.recorder.run,
                observation,
                explained: false,
                version: by_id.get(id).and_then(|item| item.version.clone()),
            });
            let appended = self
                .about(&event, &deletion.subject, owner, deletion.plan)
                .await?;
            self.log.entry(&appended, &[("observed", "unexplained")]);
        }
        let listed = Event::ContainerListed(ContainerListed {
            phase: "after".to_owned(),
            place: place.id.clone(),
            sync_token: seen.cursor.clone(),
            items: seen.count,
            whole: false,
            remote_date: seen.date.map(|date| date.to_rfc3339()),
            unexplained,
        });
        let draft = self.draft(&listed, owner, owner)?;
        let appended = self.append(draft, self.any_fence()).await?;
        self.log.entry(&appended, &[("phase", "after")]);
        if unexplained > 0 {
            user.say(format!(
                "{unexplained} items are not as they were left when the place was looked at again"
            ));
        }
        Ok(())
    }

    pub(super) fn draft(
        &self,
        event: &Event,
        subject: &Subject,
        owner: &Subject,
    ) -> Result<Draft, EngineError> {
        let actor = self.recorder.actor.clone();
        Ok(Draft::of(event, subject.clone(), actor, owner.clone())?)
    }

    async fn user_failed(
        &self,
        owner: &Subject,
        during: &str,
        decision: &str,
        why: &Stopped,
    ) -> Result<(), EngineError> {
        let class = why.class.to_string();
        let event = Event::UserFailed(UserFailed {
            during: during.to_owned(),
            class: class.clone(),
            status: why.status,
            attempt: why.attempt,
            decision: decision.to_owned(),
            reason: why.reason.clone(),
            remote_date: why.date.map(|date| date.to_rfc3339()),
        });
        let draft = self.draft(&event, owner, owner)?;
        let appended = self.append(draft, self.any_fence()).await?;
        self.log
            .entry(&appended, &[("class", &class), ("decision", decision)]);
        Ok(())
    }
}
