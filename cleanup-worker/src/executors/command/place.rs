//! One place, reached through a running program of its own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger::domain::hash::Hash;
use tokio::time::Instant;

use super::declaration::Declaration;
use super::error::Trouble;
use super::process::{WritingProgram, WritingSession};
use super::wire::{
    Answer, At, BackupAnswer, Change, DeleteAnswer, ObserveAnswer, Question, ReadAnswer,
    RestoreAnswer, text,
};
use crate::clients::Effect;
use crate::clients::retry::{RetryPolicy, Timing};
use crate::executors::{
    Found, ItemError, Place, PutBack, Restored, Seen, SeenItem, WayBack, Written,
};

/// The one way back that a program has.
const WAY: &str = "restore";

/// A place of a plan.
pub(super) struct CommandPlace {
    program: WritingProgram,
    declaration: Arc<Declaration>,
    place: String,
    users: Vec<String>,
    retry: RetryPolicy,
    timing: Arc<dyn Timing>,
    /// The running program, while nobody speaks with it. One that failed is not put back: it was killed.
    idle: Mutex<Option<WritingSession>>,
}

impl CommandPlace {
    pub(super) fn new(
        program: WritingProgram,
        declaration: Arc<Declaration>,
        session: WritingSession,
        (place, users): (String, Vec<String>),
        (retry, timing): (RetryPolicy, Arc<dyn Timing>),
    ) -> Self {
        Self {
            program,
            declaration,
            place,
            users,
            retry,
            timing,
            idle: Mutex::new(Some(session)),
        }
    }

    fn at(&self) -> At<'_> {
        At {
            place: &self.place,
            users: &self.users,
        }
    }

    async fn take(&self) -> Result<WritingSession, Trouble> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match idle {
            Some(session) => Ok(session),
            None => self.program.start(&self.declaration).await,
        }
    }

    fn put_back(&self, session: WritingSession) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    /// Asks one question that has an answer of one line, again where an error can pass.
    async fn ask<T: Answer>(&self, question: Question<'_>) -> Result<T, ItemError> {
        let question = &question;
        let once = |attempt| async move {
            let limit = self.program.limit();
            let none = |trouble: Trouble| trouble.into_error(attempt, Effect::None);
            let mut session = self.take().await.map_err(none)?;
            let until = Instant::now() + limit;
            let said = session.session().ask::<T>(question, until, limit).await;
            let said = said.map_err(none)?;
            self.put_back(session);
            said.map_err(|refusal| refusal.into_error(attempt, Effect::None))
        };
        self.retry.run(&*self.timing, once).await
    }

    /// Sends one change, once. Whatever is not an answer leaves its effect unknown, but where nothing was sent.
    async fn change<'a, T: Answer>(
        &'a self,
        limit: Duration,
        change: impl FnOnce(u64) -> Change<'a> + Send,
    ) -> Result<T, ItemError> {
        let until = Instant::now() + limit;
        let not_sent = |trouble: Trouble| trouble.into_error(1, Effect::None);
        let started = tokio::time::timeout_at(until, self.take()).await;
        let late = |_| Trouble::Late {
            verb: "hello",
            limit,
        };
        let mut session = started
            .map_err(late)
            .and_then(|session| session)
            .map_err(not_sent)?;
        let left = until.saturating_duration_since(Instant::now());
        let change = change(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let said = session.change::<T>(&change, until, limit).await;
        let said = said.map_err(|trouble| trouble.into_error(1, Effect::Unknown))?;
        self.put_back(session);
        said.map_err(|refusal| refusal.into_error(1, Effect::Unknown))
    }

    async fn observe_once(&self, cursor: Option<&str>, attempt: u32) -> Result<Seen, ItemError> {
        let limit = self.program.limit();
        let none = |trouble: Trouble| trouble.into_error(attempt, Effect::None);
        let mut session = self.take().await.map_err(none)?;
        let at = self.at();
        let until = Instant::now() + limit;
        let question = Question::Observe { at, cursor };
        let first = session.session().ask(&question, until, limit).await;
        let mut said = first.map_err(none)?;
        let mut items: Vec<SeenItem> = Vec::new();
        // A listing that goes round in a circle has no end.
        let mut ids: HashSet<Hash> = HashSet::new();
        let mut count = 0;
        loop {
            let line = match said {
                Ok(line) => line,
                Err(refusal) => {
                    self.put_back(session);
                    return Err(refusal.into_error(attempt, Effect::None));
                }
            };
            match line {
                ObserveAnswer::Seen { seen } => {
                    count += 1;
                    if !ids.insert(Hash::of(seen.id.0.as_bytes())) {
                        return Err(none(Trouble::Answer {
                            verb: ObserveAnswer::VERB,
                            how: "an item twice".to_owned(),
                            expected: ObserveAnswer::EXPECTED,
                        }));
                    }
                    items.push(SeenItem {
                        item: seen.id.0,
                        version: text(seen.version),
                        gone: seen.gone,
                        ..SeenItem::default()
                    });
                }
                ObserveAnswer::End(end) if end.count == count => {
                    self.put_back(session);
                    return Ok(Seen {
                        items,
                        whole: end.whole,
                        cursor: text(end.cursor),
                        count,
                        date: end.date,
                    });
                }
                ObserveAnswer::End(end) => {
                    return Err(none(Trouble::Answer {
                        verb: ObserveAnswer::VERB,
                        how: format!("{count} items and the count {}", end.count),
                        expected: ObserveAnswer::EXPECTED,
                    }));
                }
            }
            said = session.session().next(limit).await.map_err(none)?;
        }
    }
}

#[async_trait]
impl Place for CommandPlace {
    fn through(&self) -> String {
        self.users.first().cloned().unwrap_or_default()
    }

    fn keeps_cursors(&self) -> bool {
        true
    }

    async fn read(&self, item: &str) -> Result<Found, ItemError> {
        let at = self.at();
        Ok(match self.ask(Question::Read { at, item }).await? {
            ReadAnswer::There { version, base64 } => Found::There {
                version: text(version),
                bytes: base64.map(|base64| base64.0),
            },
            ReadAnswer::Deleted { at } => Found::Deleted { at, version: None },
            ReadAnswer::Absent {} => Found::Absent,
        })
    }

    async fn backup(&self, item: &str, version: &str) -> Result<Option<Bytes>, ItemError> {
        let at = self.at();
        let answer: BackupAnswer = self.ask(Question::Backup { at, item, version }).await?;
        Ok(answer.base64.map(|base64| base64.0))
    }

    async fn delete(
        &self,
        item: &str,
        version: &str,
        limit: Duration,
    ) -> Result<Written, ItemError> {
        let at = self.at();
        let delete = |limit_ms| Change::Delete {
            at,
            item,
            version,
            limit_ms,
        };
        let answer: DeleteAnswer = self.change(limit, delete).await?;
        Ok(Written {
            status: answer.status,
            date: answer.date,
        })
    }

    async fn ways_back(
        &self,
        item: &str,
        _backup: &[u8],
        _token: &str,
    ) -> Result<Vec<WayBack>, ItemError> {
        let way = || WayBack {
            way: WAY.into(),
            becomes: item.to_owned(),
            undeletes: false,
            loses: Vec::new(),
        };
        Ok(self.declaration.limits.undo.then(way).into_iter().collect())
    }

    async fn restore(&self, back: &PutBack<'_>, limit: Duration) -> Result<Restored, ItemError> {
        let (at, base64) = (self.at(), STANDARD.encode(back.backup));
        let restore = |limit_ms| Change::Restore {
            at,
            item: back.item,
            base64,
            limit_ms,
        };
        let answer: RestoreAnswer = self.change(limit, restore).await?;
        Ok(Restored {
            version: text(answer.restored.version),
            written: Written {
                status: answer.status,
                date: answer.date,
            },
        })
    }

    async fn differences(&self, backup: &[u8], now: &[u8]) -> Result<Vec<String>, ItemError> {
        // What the bytes mean only the program knows.
        let differs = (backup != now).then(|| "content".to_owned());
        Ok(differs.into_iter().collect())
    }

    async fn observe(&self, since: Option<&str>) -> Result<Seen, ItemError> {
        let once = |attempt| self.observe_once(since, attempt);
        self.retry.run(&*self.timing, once).await
    }
}
