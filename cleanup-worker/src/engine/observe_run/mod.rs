//! Looking again at what a run left behind, later, elsewhere, by somebody else perhaps: every change to an item of its plan since right before
//! it is held against what the ledger says by now, under whichever plan, and what does not match is recorded. Nothing outside is changed.

mod expected;
mod place;
mod report;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use ledger::domain::event::{Event, RunFinished, RunStarted};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, RunId, Subject};
use ledger::domain::observation::Grade;
use ledger::store::read::Filter;
use ledger::store::{Draft, Store};

use self::expected::Expected;
pub use self::report::{ItemSeen, ObserveReport, PlaceSeenAgain, Unreached};
use super::pace::Pace;
use super::runlog::RunLog;
use super::{EngineError, Progress, Recorder, RunOptions};
use crate::clients::retry::Timing;
use crate::executors::Places;

/// What an observation is told.
#[derive(Debug, Clone)]
pub struct ObserveTold {
    /// The run whose work is looked at.
    pub of: RunId,
    /// The credentials are the observer's own, not those that the run had.
    pub own_credentials: bool,
    /// Pace and times.
    pub options: RunOptions,
}

/// The run that is looked at.
#[derive(Clone)]
struct Observed {
    run: RunId,
    plan: Hash,
    finished: bool,
}

/// Looks at every place of a run's plan and records what does not match.
///
/// # Errors
/// What concerns the whole observation; places that cannot be reached are entries.
pub async fn observe_run(
    places: &dyn Places,
    timing: Arc<dyn Timing>,
    store: &Store,
    actor: &Actor,
    told: &ObserveTold,
    open_log: &(dyn Fn(RunId) -> std::io::Result<RunLog> + Sync),
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<ObserveReport, EngineError> {
    let of = find(store, told.of).await?;
    let expected = Expected::read(store, &of, &places.kinds()).await?;
    places.prepare().await?;
    // Nobody is independent of what they took part in, whoever began it.
    let grade = if told.own_credentials && !expected.actors.contains(actor) {
        Grade::Independent
    } else {
        Grade::Observed
    };
    let run = store.clock().run_id();
    let log = open_log(run).map_err(EngineError::Log)?;
    let observer = Observer {
        recorder: Recorder {
            store: store.clone(),
            actor: actor.clone(),
            run,
        },
        log,
        of,
    };
    let subject = Subject::new("run", run.uuid())
        .map_err(|error| EngineError::Internal(error.to_string()))?;
    let started = Event::RunStarted(RunStarted {
        verb: "observe".to_owned(),
        // It executes none: a run that does is gone on with by its plan.
        plan: None,
        approval: None,
        options: [
            ("of".to_owned(), told.of.to_string()),
            ("grade".to_owned(), grade.name().to_owned()),
        ]
        .into(),
    });
    observer.record(&started, &subject, &subject).await?;
    let mut report = ObserveReport::new(run, told.of, grade, observer.of.finished);
    let all = expected.places.len() as u64;
    let pace = Pace::new(timing, told.options.user_interval);
    let work = |place| {
        let (pace, observer, expected) = (pace.clone(), &observer, &expected);
        async move { observer.one_place(places, expected, place, &pace).await }
    };
    let mut results = stream::iter(&expected.places)
        .map(work)
        .buffer_unordered(told.options.users_at_once.max(1));
    let mut done = 0;
    while let Some(result) = results.next().await {
        report.add(result?);
        done += 1;
        progress(Progress { done, all });
    }
    drop(results);
    report.out_of_reach(expected.out_of_reach, expected.erased);
    report.finish();
    let finished = Event::RunFinished(RunFinished {
        status: report.status.clone(),
        totals: report.totals.clone(),
    });
    observer.record(&finished, &subject, &subject).await?;
    Ok(report)
}

/// The beginning of a cleanup, by its id.
async fn find(store: &Store, run: RunId) -> Result<Observed, EngineError> {
    let filter = Filter {
        types: ["run.started", "run.finished"]
            .map(str::parse)
            .into_iter()
            .flatten()
            .collect(),
        run: Some(run),
        ..Filter::default()
    };
    let mut entries = std::pin::pin!(store.read(filter));
    let mut found: Option<Observed> = None;
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let entry = &recorded.entry;
        let json = recorded.payload.json().unwrap_or_default();
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::RunStarted(started)) if started.verb == "cleanup" => {
                let Some(plan) = started.plan else { continue };
                found.get_or_insert(Observed {
                    run,
                    plan,
                    finished: false,
                });
            }
            Ok(Event::RunFinished(_)) => {
                if let Some(found) = &mut found {
                    found.finished = true;
                }
            }
            _ => {}
        }
    }
    found.ok_or_else(|| {
        EngineError::Refused(
            "no cleanup of this id was started in this ledger: `ledger log --type run.started` lists the runs"
                .to_owned(),
        )
    })
}

/// What all places of an observation share.
#[derive(Clone)]
struct Observer {
    recorder: Recorder,
    log: RunLog,
    of: Observed,
}

impl Observer {
    async fn record(
        &self,
        event: &Event,
        subject: &Subject,
        owner: &Subject,
    ) -> Result<(), EngineError> {
        let actor = self.recorder.actor.clone();
        let mut draft = Draft::of(event, subject.clone(), actor, owner.clone())?;
        draft.run = Some(self.recorder.run);
        let appended = self.recorder.store.append(draft).await?;
        self.log.event(&appended, event);
        Ok(())
    }
}
