//! Working on the commands of a run: each under a lease of its own, as many at a time as there are slots.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use ledger::domain::id::Subject;
use ledger::store::commands::{Claim, Claimed, Ended};
use ledger::store::lease::LeaseError;
use tokio_util::sync::CancellationToken;

use super::lease::{Lease, LeaseTimes};
use super::patience::patiently;
use super::place::{Known, Outline, PlaceEnd, one_place};
use super::step::Live;
use super::{EngineError, Progress as Done};

/// A run as one process works on it.
pub(super) struct Work<'a> {
    /// What all commands share; its lease is the one on the plan, where this process has that.
    pub(super) live: &'a Live,
    /// The places by their owners.
    pub(super) places: HashMap<Subject, Outline>,
    /// How far earlier runs have come.
    pub(super) known: Known,
    pub(super) times: LeaseTimes,
    /// This process among the workers.
    pub(super) holder: String,
    pub(super) progress: &'a (dyn Fn(Done) + Sync),
    pub(super) done: std::sync::atomic::AtomicU64,
}

/// A name for this process that no other has: one person may have started several.
pub(super) fn holder(live: &Live) -> String {
    let recorder = &live.recorder;
    let one = recorder.store.clock().uuid();
    format!("{} {}", recorder.actor, &one.simple().to_string()[20..])
}

impl Work<'_> {
    /// Works until no command is left, or until told to stop: then what is begun reaches its outcome and nothing new starts.
    pub(super) async fn until_done(
        &self,
        slots: usize,
        stop: &CancellationToken,
    ) -> Result<(), EngineError> {
        // A slot that fails stops the others in the same orderly way.
        let stop = stop.child_token();
        let slot = |_| async {
            let ended = self.slot(&stop).await;
            if ended.is_err() {
                stop.cancel();
            }
            ended
        };
        let slots = slots.max(1);
        let mut slots = stream::iter(0..slots).map(slot).buffer_unordered(slots);
        let mut first = Ok(());
        while let Some(ended) = slots.next().await {
            first = first.and(ended);
        }
        first
    }

    async fn slot(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        while !stop.is_cancelled() {
            match self.claim().await? {
                Claim::Nothing => return Ok(()),
                Claim::Wait(time) => {
                    tokio::select! {
                        () = self.live.timing.sleep(time) => {}
                        () = stop.cancelled() => {}
                    }
                }
                // `stop` is looked at between its items: one that was begun reaches its outcome.
                Claim::Taken(claimed) => self.command(&claimed, stop).await?,
            }
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Claim, EngineError> {
        let recorder = &self.live.recorder;
        let (run, length) = (recorder.run, self.times.length());
        patiently(|| recorder.store.claim(run, &self.holder, length)).await
    }

    async fn command(
        &self,
        claimed: &Claimed,
        stop: &CancellationToken,
    ) -> Result<(), EngineError> {
        let Some(place) = self.places.get(&claimed.subject) else {
            return Err(EngineError::Internal(format!(
                "{} is not a place of the plan",
                claimed.subject
            )));
        };
        let store = &self.live.recorder.store;
        self.live.executor.share(claimed.standing.hands);
        let take = || Lease::claimed(store, claimed.fence.clone(), self.times);
        let lease = match patiently(take).await {
            Ok(lease) => lease,
            Err(EngineError::Lease(LeaseError::Lost { .. })) => return Ok(()),
            Err(error) => return Err(error),
        };
        let live = Live {
            lease: lease.clone(),
            stop: stop.clone(),
            ..self.live.clone()
        };
        let work = async {
            if claimed.taken_over {
                // What the last holder sent may still arrive.
                tokio::time::sleep(self.times.write_limit()).await;
            }
            let known = if claimed.again {
                live.known_now().await?
            } else {
                self.known.clone()
            };
            one_place(&live, &place.with_items(&live.plan)?, &known, claimed).await
        };
        let end = tokio::select! {
            end = work => end,
            lost = lease.keep() => Err(EngineError::Lease(lost)),
        };
        match end {
            Ok(end) => self.hand_in(claimed, end).await,
            Err(EngineError::Lease(LeaseError::Lost { .. })) => {
                tracing::warn!(place = %claimed.subject, "another worker took a place over");
                Ok(())
            }
            Err(error) if super::is_fence_lost(&error) => {
                tracing::warn!(place = %claimed.subject, "another worker took a place over");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn hand_in(&self, claimed: &Claimed, end: PlaceEnd) -> Result<(), EngineError> {
        let recorder = &self.live.recorder;
        if let Some(reason) = &end.run_stops {
            patiently(|| recorder.store.stop_run(recorder.run, reason)).await?;
        }
        if end.interrupted {
            return patiently(|| recorder.store.give_back(claimed)).await;
        }
        let result = serde_json::to_string(&end.outcome)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let ended = Ended {
            result: &result,
            ended: end.spread.ended,
            bad: end.spread.bad,
            left_over: end.outcome.left(),
        };
        patiently(|| recorder.store.end_command(recorder.run, claimed, ended)).await?;
        let done = self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (self.progress)(Done {
            done,
            all: self.places.len() as u64,
        });
        Ok(())
    }
}
