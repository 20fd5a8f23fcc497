//! What v2 records, kept as fresh as a deletion needs it.
//!
//! v2 can take an event of v1's over at any time, and that changes nothing in the calendar. So before an event is deleted it must be known,
//! not older than the caller allows, that v2 does not record it. An id that was ever seen stays one that v2 relies on: v2 also clears ids of
//! events that it leaves in the calendar.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use futures_util::future::join_all;
use ledger::store::spool::SpoolError;
use tokio::sync::RwLock;

use super::{
    ConvexError, ConvexErrorKind, ConvexReader, ExportError, Origin, TakenAt, V2Case, V2Export,
    V2Profile, V2Recorder, V2Records, V2Sink, off_thread, read_export,
};
use crate::coalesce::Coalesced;
use crate::config::Deployment;

/// So often the changes are listed while events are being deleted.
const LOOK_EVERY: Duration = Duration::seconds(5);
/// A deployment that did not answer is left alone for so long, or for a quarter of the allowed age.
const PAUSE: Duration = Duration::seconds(30);

/// Where v2's records are read from.
#[derive(Clone, Default)]
pub struct V2Sources {
    /// Deployments, which can be read again at any time.
    pub live: Vec<ConvexReader>,
    /// Exports, with the deployment that each shows.
    pub files: Vec<(PathBuf, Deployment)>,
}

impl V2Sources {
    /// Nothing tells what v2 records.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.files.is_empty()
    }

    /// Reads all of them: first the deployments, then the exports, each in the order given.
    ///
    /// # Errors
    /// [`ExportError`] of the first that cannot be read, also where the same export is given twice, which would pass for two deployments;
    /// there is no partial result.
    pub async fn read(&self) -> Result<(Vec<V2Export>, V2Records), ExportError> {
        let mut records = V2Recorder::new()?;
        let mut exports: Vec<V2Export> = Vec::new();
        for reader in &self.live {
            records.begin(reader.deployment());
            exports.push(read_live(reader, &mut records).await?);
        }
        for (path, deployment) in &self.files {
            records.begin(*deployment);
            let export = read_file(path.clone(), *deployment, &mut records).await?;
            let mut earlier = exports.iter().skip(self.live.len());
            if let Some(earlier) = earlier.find(|earlier| earlier.digest == export.digest) {
                let (one, other) = (earlier.origin.clone(), export.origin);
                return Err(ExportError::Twice { one, other });
            }
            exports.push(export);
        }
        Ok((exports, records.done()?))
    }
}

async fn read_live(reader: &ConvexReader, sink: &mut dyn V2Sink) -> Result<V2Export, ExportError> {
    match reader.read(sink).await {
        Err(ConvexError {
            kind: ConvexErrorKind::Keep(error),
            ..
        }) => Err(error.into()),
        read => read.map_err(|source| ExportError::Live {
            deployment: reader.deployment(),
            source: Box::new(source),
        }),
    }
}

async fn read_file(
    path: PathBuf,
    deployment: Deployment,
    sink: &mut dyn V2Sink,
) -> Result<V2Export, ExportError> {
    let ended_early = ExportError::Read {
        origin: Origin::File(path.clone()),
        source: std::io::Error::other("reading it did not end"),
    };
    let read = move |sink: &mut dyn V2Sink| read_export(&path, deployment, None, sink);
    off_thread(read, sink).await?.ok_or(ended_early)?
}

/// One source, as it was read last.
struct Side {
    /// How to read it again; none of a file.
    reader: Option<ConvexReader>,
    taken_at: DateTime<Utc>,
    /// Changes since can be listed, at the cost of one request.
    streams: bool,
}

struct State {
    /// What v2 records since the beginning.
    since: HashSet<String>,
    sides: Vec<Side>,
    /// When it could not be read again.
    failed_at: Option<DateTime<Utc>>,
}

/// The ids that v2 records, at most so old.
pub struct V2Watch {
    /// What v2 recorded at the beginning.
    first: Arc<V2Records>,
    max_age: Duration,
    state: RwLock<State>,
    /// Reading again, which one does for all who wait for it.
    looks: Coalesced<()>,
}

impl V2Watch {
    /// Begins with `exports` and `first`, which were read from `sources` just now.
    pub fn new(
        sources: &V2Sources,
        exports: &[V2Export],
        first: Arc<V2Records>,
        max_age: std::time::Duration,
    ) -> Self {
        let readers = sources.live.iter().cloned().map(Some);
        let readers = readers.chain(std::iter::repeat(None));
        let sides = exports
            .iter()
            .zip(readers)
            .map(|(export, reader)| Side {
                reader,
                taken_at: export.taken_at,
                streams: export.taken_at_source == TakenAt::Stream,
            })
            .collect();
        Self {
            first,
            max_age: Duration::from_std(max_age).unwrap_or(Duration::MAX),
            state: RwLock::new(State {
                since: HashSet::new(),
                sides,
                failed_at: None,
            }),
            looks: Coalesced::default(),
        }
    }

    /// Whether v2 records this event.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub async fn relies_on(&self, event: &str) -> Result<bool, SpoolError> {
        Ok(self.first.records(event)? || self.state.read().await.since.contains(event))
    }

    /// When the oldest of what is known is too old to act on; never where there is no source at all.
    pub async fn stale_at(&self) -> DateTime<Utc> {
        let state = self.state.read().await;
        let oldest = state.sides.iter().map(|side| side.taken_at).min();
        oldest
            .and_then(|oldest| oldest.checked_add_signed(self.max_age))
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Looks what v2 has recorded meanwhile, before the first deletion at an account: the changes where they can be listed, else the
    /// whole where more than half of the allowed age is over. A look that ends well serves all who asked before it began.
    ///
    /// # Errors
    /// [`ExportError`]. What was known before stays known, and may be acted on until [`V2Watch::stale_at`].
    pub async fn renew(&self, now: DateTime<Utc>) -> Result<(), ExportError> {
        let asked = tokio::time::Instant::now();
        let look = async {
            let result = self.read_again(now, asked).await;
            self.state.write().await.failed_at = result.is_err().then_some(now);
            result
        };
        self.looks.ask(look).await
    }

    /// `now` was the time when it was `asked` for.
    async fn read_again(
        &self,
        now: DateTime<Utc>,
        asked: tokio::time::Instant,
    ) -> Result<(), ExportError> {
        // What is said to be of a later time than that of the answer is of that at most.
        let answered = || now + Duration::from_std(asked.elapsed()).unwrap_or_default();
        let sides: Vec<(usize, ConvexReader, DateTime<Utc>, bool)> = {
            let state = self.state.read().await;
            let sides = state.sides.iter().enumerate();
            sides
                .filter_map(|(n, side)| {
                    Some((n, side.reader.clone()?, side.taken_at, side.streams))
                })
                .collect()
        };
        let looks = sides
            .into_iter()
            .map(|(n, reader, taken_at, streams)| async move {
                let mut new = New::beside(&self.first);
                if streams && let Ok(changes) = reader.case_changes(taken_at).await {
                    changes
                        .cases
                        .into_iter()
                        .try_for_each(|case| new.case(case))?;
                    self.learn(n, new, changes.until.min(answered())).await;
                } else if streams || now - taken_at > self.max_age / 2 {
                    let export = read_live(&reader, &mut new).await?;
                    self.learn(n, new, export.taken_at.min(answered())).await;
                }
                Ok(())
            });
        // What one of them says is learned also where another gives no answer.
        join_all(looks).await.into_iter().collect()
    }

    /// [`V2Watch::renew`], where the last look is some seconds old and the changes can be listed, or half of the allowed age is over.
    ///
    /// # Errors
    /// As [`V2Watch::renew`].
    pub async fn keep_fresh(&self, now: DateTime<Utc>) -> Result<(), ExportError> {
        let due = {
            let state = self.state.read().await;
            let pause = PAUSE.min(self.max_age / 4);
            if state.failed_at.is_some_and(|at| now - at < pause) {
                return Ok(());
            }
            let mut live = state.sides.iter().filter(|side| side.reader.is_some());
            live.any(|side| {
                let age = now - side.taken_at;
                age > self.max_age / 2 || (side.streams && age > LOOK_EVERY)
            })
        };
        if due { self.renew(now).await } else { Ok(()) }
    }

    async fn learn(&self, side: usize, new: New<'_>, at: DateTime<Utc>) {
        let mut state = self.state.write().await;
        state.since.extend(new.events);
        if let Some(side) = state.sides.get_mut(side) {
            side.taken_at = side.taken_at.max(at);
        }
    }
}

/// The events that v2 records and did not at the beginning.
struct New<'a> {
    first: &'a V2Records,
    events: HashSet<String>,
}

impl<'a> New<'a> {
    fn beside(first: &'a V2Records) -> Self {
        let events = HashSet::new();
        Self { first, events }
    }
}

impl V2Sink for New<'_> {
    fn case(&mut self, case: V2Case) -> Result<(), SpoolError> {
        for (_, event) in case.calendar_event_ids {
            if !self.first.records(&event)? {
                self.events.insert(event);
            }
        }
        Ok(())
    }

    fn profile(&mut self, _: V2Profile) -> Result<(), SpoolError> {
        Ok(())
    }
}
