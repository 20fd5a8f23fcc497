//! One place of a plan: settle what was left open, look, bring each item to its end, look again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ledger::domain::id::Subject;
use ledger::projections::plan::{PlannedItem, Progress};
use ledger::store::commands::Standing;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::EngineError;
use super::limits::Spread;
use super::step::{ItemEnd, Live, Stopped, ended};
use super::work::patiently;
use crate::executors::{Place as OpenPlace, PlannedUser};

/// So many items of a user may fail one after another before the user is left for later.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

/// Items by place, with how far earlier runs have come.
pub(super) type Known = Arc<BTreeMap<Subject, Progress>>;

/// One place's part of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOutcome {
    /// Id of the user through whom it was reached.
    pub user: String,
    /// For the terminal of who may see it; never kept.
    pub email: Option<String>,
    /// Items of the plan to be deleted.
    pub found: u64,
    /// Deleted, now or in an earlier run of this plan.
    pub deleted: u64,
    /// Gone before we came.
    pub already_gone: u64,
    /// Left for a person at the moment of deletion.
    pub held: u64,
    /// Not done.
    pub failed: u64,
    /// Changes to planned or recorded items that no entry explains.
    pub unexplained: u64,
    /// What went wrong, with what to do.
    pub errors: Vec<String>,
}

impl UserOutcome {
    /// A place where nothing was begun: what earlier runs have ended stays so, the rest is not done.
    pub(super) fn not_begun(place: &Place, known: &BTreeMap<Subject, Progress>) -> Self {
        let mut outcome = Self {
            found: place.items.len() as u64,
            ..Self::default()
        };
        for item in &place.items {
            match known.get(&item.subject).and_then(ended) {
                Some(ItemEnd::Deleted) => outcome.deleted += 1,
                Some(ItemEnd::AlreadyGone) => outcome.already_gone += 1,
                Some(ItemEnd::Held) => outcome.held += 1,
                _ => outcome.failed += 1,
            }
        }
        outcome
    }

    /// Adds to what went wrong; the same thing stands there once.
    fn say(&mut self, error: impl Into<String>) {
        let error = error.into();
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// How the items of a place ended, for the look at it afterwards.
#[derive(Debug, Default)]
pub(super) struct Ends<'a> {
    /// Gone, as the ledger says.
    pub(super) gone: HashSet<&'a Subject>,
    /// Left for a person.
    pub(super) held: HashSet<&'a Subject>,
    /// Not done, or not known to be: what a look shows of them is for the next run to settle.
    pub(super) open: HashSet<&'a Subject>,
}

/// The items of one place that are to be deleted.
#[derive(Debug)]
pub(super) struct Place {
    /// Its natural id.
    pub(super) id: String,
    pub(super) owner: Subject,
    pub(super) users: Vec<PlannedUser>,
    pub(super) items: Vec<PlannedItem>,
}

/// What working on a place came to.
#[derive(Debug)]
pub(super) struct PlaceEnd {
    pub(super) outcome: UserOutcome,
    /// What this visit brought to an end, and how much of it was bad.
    pub(super) spread: Spread,
    /// Why the whole run stops, if it does.
    pub(super) run_stops: Option<String>,
    /// This process was told to stop: the rest is for another visit.
    pub(super) interrupted: bool,
}

impl PlaceEnd {
    fn without_items(outcome: UserOutcome, run_stops: Option<String>) -> Self {
        Self {
            outcome,
            spread: Spread::default(),
            run_stops,
            interrupted: false,
        }
    }
}

/// Works on one place. Whatever is begun reaches its outcome, also where `stop` comes meanwhile.
pub(super) async fn one_place(
    live: &Live,
    place: &Place,
    known: &Known,
    standing: &Standing,
    stop: &CancellationToken,
) -> Result<PlaceEnd, EngineError> {
    let opened = match live.executor.open(&place.id, &place.users).await {
        Ok(opened) => opened,
        Err(why) => {
            let mut outcome = UserOutcome::not_begun(place, known);
            let first = place.users.iter().find_map(|user| user.id.clone());
            outcome.user = first.unwrap_or_default();
            outcome.say(why.reason.clone());
            if why.attempt > 0 {
                live.user_stopped(place, &Stopped::from(&why)).await?;
            }
            return Ok(PlaceEnd::without_items(outcome, None));
        }
    };
    let opened = opened.as_ref();
    let through = opened.through();
    let live = &Live {
        address: live
            .log
            .names_addresses()
            .then(|| live.executor.address(&through))
            .flatten(),
        ..live.clone()
    };
    let known = settle(live, opened, place, known).await?;
    let mut outcome = UserOutcome {
        user: through.clone(),
        ..UserOutcome::not_begun(place, &known)
    };
    let stopped = match &standing.stopped {
        None => live.stopped().await,
        reason => reason.clone(),
    };
    if let Some(reason) = stopped {
        return Ok(PlaceEnd::without_items(outcome, Some(reason)));
    }
    let before = match live.list_before(opened, place).await? {
        Ok(before) => before,
        Err(error) => {
            outcome.say(format!("{}: run it again later", error.reason));
            live.user_stopped(place, &Stopped::from(&error)).await?;
            return Ok(PlaceEnd::without_items(outcome, None));
        }
    };
    let is_done = |item: &PlannedItem| known.get(&item.subject).and_then(ended).is_some();
    if !place.items.iter().all(is_done) {
        if let Err(error) = live.stop_channels(opened, place).await? {
            outcome.say(format!(
                "{}: a watch channel of the retired system could not be stopped, and would tell of each deletion: \
                 run it again later",
                error.reason
            ));
            live.user_stopped(place, &Stopped::from(&error)).await?;
            return Ok(PlaceEnd::without_items(outcome, None));
        }
        live.executor.look_again().await;
    }
    let mut visit = Visit {
        live,
        opened,
        place,
        outcome: UserOutcome {
            user: through,
            found: place.items.len() as u64,
            ..UserOutcome::default()
        },
        ends: Ends::default(),
        spread: Spread::default(),
        standing: standing.clone(),
        run_stops: None,
        over: false,
        in_a_row: 0,
    };
    let interrupted = visit.each_item(&known, stop).await?;
    // Who goes on looks from the same cursor, so nothing is missed.
    if !interrupted {
        visit.look_again(before.as_deref()).await?;
    }
    Ok(PlaceEnd {
        outcome: visit.outcome,
        spread: visit.spread,
        run_stops: visit.run_stops,
        interrupted,
    })
}

/// Finds out what became of the intents that were left open here, before anything else is done.
async fn settle(
    live: &Live,
    opened: &dyn OpenPlace,
    place: &Place,
    known: &Known,
) -> Result<Known, EngineError> {
    let mut asked = false;
    for item in &place.items {
        let open = known
            .get(&item.subject)
            .and_then(|progress| progress.open.as_ref());
        if let Some(open) = open {
            asked |= live.recover(opened, &place.owner, item, open).await?;
        }
    }
    if asked {
        return live.known_now().await;
    }
    Ok(known.clone())
}

struct Visit<'a> {
    live: &'a Live,
    opened: &'a dyn OpenPlace,
    place: &'a Place,
    outcome: UserOutcome,
    ends: Ends<'a>,
    spread: Spread,
    /// How the run stands over all its workers, asked anew before each item.
    standing: Standing,
    run_stops: Option<String>,
    /// After this nothing more is begun here; what earlier runs have ended is still counted.
    over: bool,
    in_a_row: u32,
}

impl<'a> Visit<'a> {
    /// Brings each item to its end; gives whether it was told to stop before it was through.
    async fn each_item(
        &mut self,
        known: &BTreeMap<Subject, Progress>,
        stop: &CancellationToken,
    ) -> Result<bool, EngineError> {
        let none = Progress::default();
        let mut interrupted = false;
        let place = self.place;
        for item in &place.items {
            let progress = known.get(&item.subject).unwrap_or(&none);
            let end = match ended(progress) {
                Some(end) => end,
                None if self.over => ItemEnd::Failed(String::new()),
                None if stop.is_cancelled() => {
                    interrupted = true;
                    self.over = true;
                    ItemEnd::Failed(String::new())
                }
                // Nobody could be asked about it; until somebody can, nothing is done to this item.
                None if progress.open.is_some() => ItemEnd::Failed(
                    "what became of an earlier deletion could not be asked: run it again"
                        .to_owned(),
                ),
                None => self.bring_to_its_end(item, progress).await?,
            };
            self.take(&item.subject, end).await?;
            if !self.over
                && let Some(reason) = self.live.limits.exceeded(&self.standing, self.spread)
            {
                self.run_stops = Some(reason);
                self.over = true;
            }
        }
        Ok(interrupted)
    }

    /// Begins an item, if nothing has stopped the run meanwhile, here or in another worker.
    async fn bring_to_its_end(
        &mut self,
        item: &PlannedItem,
        progress: &Progress,
    ) -> Result<ItemEnd, EngineError> {
        let recorder = &self.live.recorder;
        let standing = patiently(|| recorder.store.standing(recorder.run)).await?;
        self.standing = standing.unwrap_or_else(|| Standing {
            stopped: Some("the run was ended meanwhile".to_owned()),
            ..self.standing.clone()
        });
        if let Some(reason) = &self.standing.stopped {
            return Ok(ItemEnd::RunStopped(reason.clone()));
        }
        let owner = &self.place.owner;
        let end = self
            .live
            .execute(self.opened, owner, item, progress)
            .await?;
        self.spread.add(&end);
        Ok(end)
    }

    async fn take(&mut self, subject: &'a Subject, end: ItemEnd) -> Result<(), EngineError> {
        let outcome = &mut self.outcome;
        match end {
            ItemEnd::Deleted => {
                self.ends.gone.insert(subject);
                outcome.deleted += 1;
                self.in_a_row = 0;
            }
            ItemEnd::AlreadyGone => {
                self.ends.gone.insert(subject);
                outcome.already_gone += 1;
                self.in_a_row = 0;
            }
            ItemEnd::Held => {
                self.ends.held.insert(subject);
                outcome.held += 1;
                self.in_a_row = 0;
            }
            ItemEnd::Failed(reason) => {
                self.ends.open.insert(subject);
                outcome.failed += 1;
                if self.over {
                    return Ok(());
                }
                self.in_a_row += 1;
                outcome.say(reason);
                if self.in_a_row >= FAILURES_IN_A_ROW_MAX {
                    outcome.say(format!(
                        "{} items failed one after another: run it again",
                        self.in_a_row
                    ));
                    self.over = true;
                }
            }
            ItemEnd::UserStopped(why) => {
                self.ends.open.insert(subject);
                outcome.failed += 1;
                outcome.say(why.reason.clone());
                self.live.user_stopped(self.place, &why).await?;
                self.over = true;
            }
            ItemEnd::RunStopped(reason) => {
                self.ends.open.insert(subject);
                outcome.failed += 1;
                self.run_stops = Some(reason);
                self.over = true;
            }
        }
        Ok(())
    }

    async fn look_again(&mut self, before: Option<&str>) -> Result<(), EngineError> {
        let seen = self
            .live
            .observe_after(self.opened, self.place, before, &self.ends)
            .await?;
        match seen {
            Ok(unexplained) => self.outcome.unexplained = unexplained,
            Err(error) => {
                let why = Stopped::from(&error);
                self.outcome.errors.push(why.reason.clone());
                self.live
                    .user_failed(&self.place.owner, "observe", "skipped", &why)
                    .await?;
            }
        }
        Ok(())
    }
}

impl Live {
    /// Records that the rest of a user's items is left for another run.
    async fn user_stopped(&self, place: &Place, why: &Stopped) -> Result<(), EngineError> {
        self.user_failed(&place.owner, "cleanup", "stopped", why)
            .await
    }
}
