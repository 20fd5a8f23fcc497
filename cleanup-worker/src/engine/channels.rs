//! Before the first deletion at a place: what would tell others of each one is stopped. Intent, effect, outcome.

use ledger::domain::event::{ChannelStopFailed, ChannelStopIntended, ChannelStopped, Event};
use ledger::domain::id::Subject;
use ledger::store::Appended;
use ledger::store::identity::Natural;

use super::EngineError;
use super::place::Place;
use super::step::Live;
use crate::executors::{ChannelStop, ItemError, Place as OpenPlace};

/// Kind of a channel's subject.
const KIND: &str = "channel";

impl Live {
    /// Stops every channel of a place. After the first that cannot be stopped nothing may be deleted there.
    pub(super) async fn stop_channels(
        &self,
        opened: &dyn OpenPlace,
        place: &Place<'_>,
    ) -> Result<Result<(), ItemError>, EngineError> {
        for channel in opened.channels() {
            let natural = Natural {
                kind: KIND.to_owned(),
                id: channel.clone(),
                owner: Some(place.owner.clone()),
            };
            let subject = self.recorder.store.identify(&[natural]).await?.pop();
            let subject = subject.ok_or_else(|| EngineError::Internal("no subject".to_owned()))?;
            if let Err(error) = self.stop_channel(opened, place, &channel, &subject).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn stop_channel(
        &self,
        opened: &dyn OpenPlace,
        place: &Place<'_>,
        channel: &str,
        subject: &Subject,
    ) -> Result<Result<(), ItemError>, EngineError> {
        let intended = Event::ChannelStopIntended(ChannelStopIntended {
            plan: self.plan.hash,
            place: place.id.to_owned(),
        });
        // A crash after this line: it may be stopped or not; the next run stops it again, which is answered alike.
        let intent = self
            .record(&intended, subject, place.owner, None, None)
            .await?;
        self.log.entry(&intent, &[]);
        let timing = self.timing.as_ref();
        let stopped = self
            .retry
            .run(timing, |attempt| async move {
                let stopped = opened.stop_channel(channel).await;
                stopped.map_err(|error| ItemError { attempt, ..error })
            })
            .await;
        let (event, word) = outcome(&intent, &stopped);
        let cause = Some(intent.entry.id);
        let appended = self
            .record(&event, subject, place.owner, None, cause)
            .await?;
        self.log.entry(&appended, &[("outcome", word)]);
        Ok(stopped.map(drop))
    }
}

fn outcome(intent: &Appended, stopped: &Result<ChannelStop, ItemError>) -> (Event, &'static str) {
    let intent = intent.entry.id;
    match stopped {
        Ok(end) => {
            let was_over = *end == ChannelStop::WasOver;
            let word = if was_over { "was_over" } else { "stopped" };
            (
                Event::ChannelStopped(ChannelStopped { intent, was_over }),
                word,
            )
        }
        Err(error) => (
            Event::ChannelStopFailed(ChannelStopFailed {
                intent,
                class: error.class.to_string(),
                status: error.status,
                attempt: error.attempt,
                decision: "stopped".to_owned(),
                reason: error.reason.clone(),
                remote_date: error.date.map(|date| date.to_rfc3339()),
            }),
            "failed",
        ),
    }
}
