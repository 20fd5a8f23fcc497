//! One place of a plan: settle what was left open, look, bring each item to its end, look again.

use std::collections::HashSet;
use std::sync::Arc;

use ledger::domain::id::Subject;
use ledger::domain::identify::Disposition;
use ledger::projections::plan::{PlannedItem, Reached, SealedPlan};
use ledger::store::commands::{Claimed, Standing};
use serde::{Deserialize, Serialize};

use super::EngineError;
use super::limits::Spread;
use super::patience::patiently;
use super::step::{ItemEnd, Live, Stopped, ended};
use crate::executors::{ItemError, Place as OpenPlace, PlannedUser};

/// So many items of a user may fail one after another before the user is left for later.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

/// How far earlier runs have come.
pub(super) type Known = Arc<Reached>;

/// One place's part of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOutcome {
    /// Its owner, by which the run's log file tells of the same.
    #[serde(skip)]
    pub(super) place: Option<Subject>,
    /// Id of the user through whom it was reached, or, where nobody has gone there yet, was found first.
    pub user: String,
    /// Ids of all users through whom it was found.
    #[serde(default)]
    pub users: Vec<String>,
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
    /// Tried, or of a user where nothing could be tried, and not done.
    pub failed: u64,
    /// Never tried: the run ended before, or was a canary.
    #[serde(default)]
    pub not_begun: u64,
    /// Changes to planned or recorded items that no entry explains.
    pub unexplained: u64,
    /// Of these: items that were deleted and are there again, or still.
    #[serde(default)]
    pub there_again: u64,
    /// The look afterwards got no answer.
    #[serde(default)]
    pub unseen: bool,
    /// What went wrong, with what to do.
    pub errors: Vec<String>,
}

impl UserOutcome {
    /// A place where nothing was begun: what earlier runs have ended stays so, the rest is not done.
    pub(super) fn not_begun(place: &Place<'_>, known: &Reached) -> Result<Self, EngineError> {
        let mut outcome = Self {
            found: place.items.len() as u64,
            ..Self::default()
        };
        for item in &place.items {
            let progress = known.of(&item.subject)?;
            match ended(&progress) {
                Some(ItemEnd::Deleted) => outcome.deleted += 1,
                Some(ItemEnd::AlreadyGone) => outcome.already_gone += 1,
                Some(ItemEnd::Held) => outcome.held += 1,
                _ if progress.attempts == 0 => outcome.not_begun += 1,
                _ => outcome.failed += 1,
            }
        }
        Ok(outcome)
    }

    /// What is left to be done here.
    pub(super) fn left(&self) -> u64 {
        self.failed + self.not_begun
    }

    /// Says whose the place is, with the address of who leads there for the terminal.
    pub(super) fn belongs_to(&mut self, place: &Outline, address: impl Fn(&str) -> Option<String>) {
        self.place = Some(place.owner.clone());
        self.users = place
            .users
            .iter()
            .filter_map(|user| user.id.clone())
            .collect();
        if self.user.is_empty() {
            self.user = self.users.first().cloned().unwrap_or_default();
        }
        self.email = address(&self.user);
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
    /// Of these: in this visit.
    pub(super) now: HashSet<&'a Subject>,
    /// Left for a person.
    pub(super) held: HashSet<&'a Subject>,
    /// Not done, or not known to be: what a look shows of them is for the next run to settle.
    pub(super) open: HashSet<&'a Subject>,
}

/// A place of the plan, without its items.
#[derive(Debug)]
pub(super) struct Outline {
    /// Its natural id.
    pub(super) id: String,
    pub(super) owner: Subject,
    pub(super) users: Vec<PlannedUser>,
}

impl Outline {
    /// The place with its items, which are in memory as long as something looks at them.
    pub(super) fn with_items(&self, plan: &SealedPlan) -> Result<Place<'_>, EngineError> {
        let all = plan.items.at(&self.id)?.into_iter();
        let (items, left_alone) = all.partition(|item| item.disposition == Disposition::Delete);
        Ok(Place {
            id: &self.id,
            owner: &self.owner,
            users: &self.users,
            items,
            left_alone,
        })
    }
}

/// One place of the plan.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Its natural id.
    pub(super) id: &'a str,
    pub(super) owner: &'a Subject,
    pub(super) users: &'a [PlannedUser],
    /// Its items that are to be deleted.
    pub(super) items: Vec<PlannedItem>,
    /// Those that the plan leaves alone.
    pub(super) left_alone: Vec<PlannedItem>,
}

impl Place<'_> {
    /// Every item of the plan there.
    pub(super) fn planned(&self) -> impl Iterator<Item = &PlannedItem> {
        self.items.iter().chain(&self.left_alone)
    }
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

    /// A place that could not be worked on: what is left there counts as not done.
    async fn unreached(
        live: &Live,
        place: &Place<'_>,
        mut outcome: UserOutcome,
        (error, why): (String, &Stopped),
    ) -> Result<Self, EngineError> {
        outcome.say(error);
        // It was tried as far as one came.
        outcome.failed += std::mem::take(&mut outcome.not_begun);
        live.user_failed(place.owner, "cleanup", "stopped", why)
            .await?;
        let spread = Spread {
            ended: outcome.failed,
            bad: outcome.failed,
        };
        let run_stops = why.stops_run.then(|| why.reason.clone());
        Ok(Self {
            spread,
            ..Self::without_items(outcome, run_stops)
        })
    }
}

/// Works on one place. Whatever is begun reaches its outcome, also where `stop` comes meanwhile.
pub(super) async fn one_place(
    live: &Live,
    place: &Place<'_>,
    known: &Known,
    claimed: &Claimed,
) -> Result<PlaceEnd, EngineError> {
    let standing = &claimed.standing;
    let opened = match live.executor.open(place.id, place.users).await {
        Ok(opened) => opened,
        Err(why) => {
            let mut outcome = UserOutcome::not_begun(place, known)?;
            let first = place.users.iter().find_map(|user| user.id.clone());
            outcome.user = first.unwrap_or_default();
            let told = (why.reason.clone(), &Stopped::from(&why));
            return PlaceEnd::unreached(live, place, outcome, told).await;
        }
    };
    let opened = opened.as_ref();
    let through = opened.through();
    let live = &Live {
        log: live.log.about(|| live.executor.address(&through)),
        ..live.clone()
    };
    let settled = settle(live, opened, place, known).await?;
    let not_begun = |known: &Known| -> Result<UserOutcome, EngineError> {
        Ok(UserOutcome {
            user: through.clone(),
            ..UserOutcome::not_begun(place, known)?
        })
    };
    let known = match settled {
        Ok(known) => known,
        Err(error) => {
            let what = "what became of an earlier deletion could not be asked: run it again";
            let told = (format!("{}: {what}", error.reason), &Stopped::from(&error));
            return PlaceEnd::unreached(live, place, not_begun(known)?, told).await;
        }
    };
    if claimed.settles {
        let store = &live.recorder.store;
        patiently(|| store.settled(live.recorder.run, place.owner)).await?;
    }
    let outcome = not_begun(&known)?;
    let stopped = match &standing.stopped {
        None => live.stopped().await,
        reason => reason.clone(),
    };
    if let Some(reason) = stopped {
        return Ok(PlaceEnd::without_items(outcome, Some(reason)));
    }
    let before = match before_items(live, opened, place, &known).await? {
        Before::Ready(cursor) => cursor,
        Before::Interrupted => {
            return Ok(PlaceEnd {
                interrupted: true,
                ..PlaceEnd::without_items(outcome, None)
            });
        }
        Before::Failed(what, error) => {
            let told = (what, &Stopped::from(&error));
            return PlaceEnd::unreached(live, place, outcome, told).await;
        }
    };
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
        interrupted: false,
        in_a_row: 0,
        left: Vec::new(),
    };
    visit.each_item(&known).await?;
    visit.count_what_was_not_begun().await?;
    // Who goes on looks from the same cursor, so nothing is missed.
    if !visit.interrupted {
        visit.look_again(before.as_deref()).await?;
    }
    Ok(PlaceEnd {
        outcome: visit.outcome,
        spread: visit.spread,
        run_stops: visit.run_stops,
        interrupted: visit.interrupted,
    })
}

/// What comes before the first item.
enum Before {
    /// It was done; from this cursor the look afterwards lists the changes.
    Ready(Option<String>),
    /// This process was told to stop.
    Interrupted,
    /// Something was refused, and what to do about it in words.
    Failed(String, ItemError),
}

/// Looks at the place, and sees to it that nothing tells of each deletion and that what is known is fresh.
async fn before_items(
    live: &Live,
    opened: &dyn OpenPlace,
    place: &Place<'_>,
    known: &Known,
) -> Result<Before, EngineError> {
    if live.stop.is_cancelled() {
        return Ok(Before::Interrupted);
    }
    let cursor = match live.list_before(opened, place).await? {
        Ok(cursor) => cursor,
        Err(error) => {
            let what = format!("{}: run it again later", error.reason);
            return Ok(Before::Failed(what, error));
        }
    };
    let mut is_done = true;
    for item in &place.items {
        is_done = is_done && ended(&known.of(&item.subject)?).is_some();
    }
    if is_done {
        return Ok(Before::Ready(cursor));
    }
    if live.stop.is_cancelled() {
        return Ok(Before::Interrupted);
    }
    if let Err(error) = live.stop_channels(opened, place).await? {
        let what = format!(
            "{}: a watch channel of the retired system could not be stopped, and would tell of each deletion: \
             run it again later",
            error.reason
        );
        return Ok(Before::Failed(what, error));
    }
    live.executor.look_again().await;
    Ok(Before::Ready(cursor))
}

/// Finds out what became of the intents that were left open here, before anything else is done; the error where that cannot be asked.
async fn settle(
    live: &Live,
    opened: &dyn OpenPlace,
    place: &Place<'_>,
    known: &Known,
) -> Result<Result<Known, ItemError>, EngineError> {
    let mut asked = false;
    for item in &place.items {
        if let Some(open) = known.of(&item.subject)?.open {
            if let Err(error) = live.recover(opened, place.owner, item, &open).await? {
                return Ok(Err(error));
            }
            asked = true;
        }
    }
    Ok(Ok(if asked {
        live.known_now().await?
    } else {
        known.clone()
    }))
}

struct Visit<'a> {
    live: &'a Live,
    opened: &'a dyn OpenPlace,
    place: &'a Place<'a>,
    outcome: UserOutcome,
    ends: Ends<'a>,
    spread: Spread,
    /// How the run stands over all its workers, asked anew before each item.
    standing: Standing,
    run_stops: Option<String>,
    /// After this nothing more is begun here; what earlier runs have ended is still counted.
    over: bool,
    /// This process was told to stop before it was through.
    interrupted: bool,
    in_a_row: u32,
    /// Not gone on with because the whole run ended.
    left: Vec<&'a Subject>,
}

impl<'a> Visit<'a> {
    /// Brings each item to its end, or as many as it may.
    async fn each_item(&mut self, known: &Reached) -> Result<(), EngineError> {
        let place = self.place;
        for item in &place.items {
            let progress = known.of(&item.subject)?;
            let end = match ended(&progress) {
                Some(end) => end,
                None if self.over => ItemEnd::Failed(String::new()),
                None if self.live.stop.is_cancelled() => ItemEnd::Interrupted,
                None => {
                    let end = self.bring_to_its_end(item, progress.attempts).await?;
                    if matches!(end, ItemEnd::Deleted | ItemEnd::AlreadyGone) {
                        self.ends.now.insert(&item.subject);
                    }
                    end
                }
            };
            self.take(&item.subject, end).await?;
            if !self.over
                && let Some(reason) = self.live.limits.exceeded(&self.standing, self.spread)
            {
                self.run_stops = Some(reason);
                self.over = true;
            }
        }
        Ok(())
    }

    /// Begins an item, if nothing has stopped the run meanwhile, here or in another worker.
    async fn bring_to_its_end(
        &mut self,
        item: &PlannedItem,
        attempts: u32,
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
        let owner = self.place.owner;
        let end = self
            .live
            .execute(self.opened, owner, item, attempts)
            .await?;
        self.spread.add(&end);
        Ok(end)
    }

    /// Of what the end of the run left: what no intent was written for was not begun, and did not fail.
    async fn count_what_was_not_begun(&mut self) -> Result<(), EngineError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let known = self.live.known_now().await?;
        for subject in std::mem::take(&mut self.left) {
            if known.of(subject)?.attempts == 0 {
                self.outcome.failed -= 1;
                self.outcome.not_begun += 1;
            }
        }
        Ok(())
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
                    self.left
                        .extend(self.run_stops.is_some().then_some(subject));
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
                self.live
                    .user_failed(self.place.owner, "cleanup", "stopped", &why)
                    .await?;
                self.over = true;
            }
            ItemEnd::Interrupted => {
                self.ends.open.insert(subject);
                outcome.failed += 1;
                self.interrupted = true;
                self.over = true;
            }
            ItemEnd::RunStopped(reason) => {
                self.ends.open.insert(subject);
                outcome.failed += 1;
                self.left.push(subject);
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
            Ok(unexplained) => {
                self.outcome.unexplained = unexplained.all;
                self.outcome.there_again = unexplained.there_again;
                if unexplained.there_again > 0 {
                    self.outcome.say(format!(
                        "{} items that were deleted are there: ledger cleanup observe {} names them",
                        unexplained.there_again, self.live.recorder.run
                    ));
                }
            }
            Err(error) => {
                let why = Stopped::from(&error);
                self.outcome.unseen = true;
                self.outcome.say(format!(
                    "{}: whether the deletions are all that changed was not seen",
                    why.reason
                ));
                self.live
                    .user_failed(self.place.owner, "observe", "skipped", &why)
                    .await?;
            }
        }
        Ok(())
    }
}
