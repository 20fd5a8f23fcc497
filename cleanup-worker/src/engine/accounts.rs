//! Each user's calendar: a token, the complete list, and an answer for every recorded id that the list lacks.
//!
//! Users start one interval apart and overlap where one is slow; one user's failure stops nobody.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use super::sources::SourceUser;
use super::{EngineError, Progress, Reader, RunOptions, with_causes};
use crate::clients::ErrorClass;
use crate::clients::google::{
    CalendarReader, GoogleError, GoogleErrorKind, Listing, RawItem, TokenError, TokenErrorKind,
};
use crate::executors::calendar::census::Lookup;
use crate::executors::calendar::event::ParsedEvent;
use crate::secrets::Secret;

/// The calendar that v1 wrote to.
pub const PRIMARY: &str = "primary";

/// What asking a user's calendar came to.
#[derive(Debug)]
pub enum Asked {
    /// It was listed whole.
    Listed(Box<Listed>),
    /// It could not be; nothing is known about its items.
    Unreachable(Unreachable),
}

/// A calendar listed whole.
#[derive(Debug)]
pub struct Listed {
    /// The calendar's resolved id, never `primary`.
    pub calendar: String,
    /// Its events, exactly as they came.
    pub items: Vec<RawItem>,
    /// From here changes can be listed.
    pub sync_token: String,
    /// Google's clock at the last page.
    pub date: Option<DateTime<Utc>>,
    /// Answers for the recorded ids that the list lacks, with the exact bytes where there are any.
    pub lookups: HashMap<String, (Lookup, Option<RawItem>)>,
}

/// Why a user could not be asked.
#[derive(Debug, Clone)]
pub struct Unreachable {
    /// One word, as it stands in entries.
    pub code: &'static str,
    /// Class of the error.
    pub class: ErrorClass,
    /// HTTP status.
    pub status: Option<u16>,
    /// How often it was tried.
    pub attempt: u32,
    /// Google's clock.
    pub date: Option<DateTime<Utc>>,
    /// In words, with what the operator can do.
    pub reason: String,
}

impl Unreachable {
    /// A user whose stored token cannot be used at all.
    pub fn without_token(code: &'static str) -> Self {
        let (class, reason) = match code {
            "undecryptable" => (
                ErrorClass::Decrypt,
                "the stored token does not open with ENCRYPTION_KEY; the user has to connect again",
            ),
            _ => (
                ErrorClass::Auth,
                "v1 holds no token; events it left behind only the user can remove",
            ),
        };
        Self {
            code,
            class,
            status: None,
            attempt: 0,
            date: None,
            reason: reason.to_owned(),
        }
    }

    /// A user whose stored token was replaced and leads to another account than the plan's.
    pub fn other_account() -> Self {
        Self {
            code: "wrong_account",
            class: ErrorClass::Refused,
            status: None,
            attempt: 1,
            date: None,
            reason: "the stored token was replaced after the plan was made and leads to another account: make \
                     a new plan"
                .to_owned(),
        }
    }

    /// A user whose token Google does not take.
    pub fn token(error: &TokenError) -> Self {
        let (code, hint) = match error.kind {
            TokenErrorKind::DeadGrant => (
                "revoked",
                "the grant is revoked or expired; the user has to connect again",
            ),
            TokenErrorKind::Denied => (
                "denied",
                "the user's organisation does not allow it; ask its administrator",
            ),
            _ => ("failed", "Google gave no token; run it again later"),
        };
        Self {
            code,
            class: error.failure.class,
            status: error.failure.status,
            attempt: error.failure.attempt,
            date: error.failure.date,
            reason: format!("{}: {hint}", with_causes(error)),
        }
    }

    /// A user whose calendar does not answer.
    pub fn calendar(error: &GoogleError) -> Self {
        if let GoogleErrorKind::Token(token) = &error.kind {
            return Self::token(token);
        }
        Self {
            code: "failed",
            class: error.class(),
            status: error.status(),
            attempt: error.failure.attempt,
            date: error.failure.date,
            reason: format!("{}: run it again later", with_causes(error)),
        }
    }
}

/// The user's calendar, for reading.
pub fn calendar_of(reader: &Reader, user: &str, token: &Secret) -> CalendarReader {
    let session = reader.google.session(user, token.clone());
    reader.google.calendar(session)
}

/// Asks every user's calendar, one interval apart, and hands each result on in the users' order.
///
/// # Errors
/// Only what concerns all users: v1's OAuth client is refused.
pub async fn ask_all(
    reader: &Reader,
    users: &[SourceUser],
    options: &RunOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Asked>, EngineError> {
    let all = users.len() as u64;
    let mut asked = Vec::with_capacity(users.len());
    let pace = Pace::new(reader, options);
    let mut results = stream::iter(users)
        .map(|user| ask_in_turn(reader, user, pace.clone()))
        .buffered(options.users_at_once.max(1));
    while let Some(result) = results.next().await {
        asked.push(result?);
        progress(Progress {
            done: asked.len() as u64,
            all,
        });
    }
    Ok(asked)
}

/// Lets one user start per interval. Users without a usable token cost no time.
#[derive(Clone)]
pub struct Pace {
    reader: Reader,
    interval: std::time::Duration,
    next: Arc<tokio::sync::Mutex<Option<std::time::Duration>>>,
}

impl Pace {
    /// The first user starts at once.
    pub fn new(reader: &Reader, options: &RunOptions) -> Self {
        let (reader, interval) = (reader.clone(), options.user_interval);
        Self {
            reader,
            interval,
            next: Arc::default(),
        }
    }

    /// Waits for the next start.
    pub async fn start(&self) {
        let mut next = self.next.lock().await;
        let now = self.reader.timing.elapsed();
        let start = next.unwrap_or(now).max(now);
        *next = Some(start + self.interval);
        drop(next);
        if start > now {
            self.reader.timing.sleep(start.saturating_sub(now)).await;
        }
    }
}

async fn ask_in_turn(reader: &Reader, user: &SourceUser, pace: Pace) -> Result<Asked, EngineError> {
    let token = match &user.access {
        Ok(token) => token,
        Err(why) => return Ok(Asked::Unreachable(Unreachable::without_token(why.code()))),
    };
    pace.start().await;
    match ask(&calendar_of(reader, &user.id, token), user).await {
        Ok(listed) => Ok(Asked::Listed(Box::new(listed))),
        Err(error) => match error.kind {
            GoogleErrorKind::Token(token) if token.is_global() => Err(EngineError::Client(*token)),
            _ => Ok(Asked::Unreachable(Unreachable::calendar(&error))),
        },
    }
}

async fn ask(calendar: &CalendarReader, user: &SourceUser) -> Result<Listed, GoogleError> {
    let listing = calendar.list_all(PRIMARY).await?;
    let mut lookups = HashMap::new();
    let listed: std::collections::HashSet<&str> = listing
        .items
        .iter()
        .filter_map(|item| item.id.as_deref())
        .collect();
    for id in user.ids.v1.iter().chain(&user.ids.v2) {
        if listed.contains(id.as_str()) || lookups.contains_key(id) {
            continue;
        }
        lookups.insert(id.clone(), look_up(calendar, id).await?);
    }
    Ok(Listed {
        calendar: resolved_id(&listing, user),
        sync_token: listing.sync_token,
        date: listing.ended,
        items: listing.items,
        lookups,
    })
}

async fn look_up(
    calendar: &CalendarReader,
    id: &str,
) -> Result<(Lookup, Option<RawItem>), GoogleError> {
    match calendar.get(PRIMARY, id).await {
        Ok(fetched) => {
            let event = ParsedEvent::parse(&fetched.item.bytes);
            Ok((Lookup::Found(event), Some(fetched.item)))
        }
        Err(error) => match (error.class(), &error.kind) {
            (ErrorClass::Gone, _) => Ok((Lookup::Gone, None)),
            // An id that cannot be part of an address is no event's id on any calendar.
            (ErrorClass::NotFound, _) | (_, GoogleErrorKind::UnusableId) => {
                Ok((Lookup::NotFound, None))
            }
            _ => Err(error),
        },
    }
}

/// The calendar's own id. With an events scope alone it can only be read off: the title of a primary calendar is its
/// address unless the user renamed it, and own events name their organizer.
pub(super) fn resolved_id(listing: &Listing, user: &SourceUser) -> String {
    let from_title = listing.summary.clone().filter(|title| title.contains('@'));
    let from_events = || {
        listing.items.iter().find_map(|item| {
            let event: serde_json::Value = serde_json::from_slice(&item.bytes).ok()?;
            let organizer = event.get("organizer")?;
            let own = organizer.get("self")?.as_bool()?;
            own.then(|| organizer.get("email")?.as_str().map(str::to_owned))
                .flatten()
        })
    };
    let address = from_title
        .or_else(from_events)
        .or_else(|| user.google_email.clone());
    address.map_or_else(
        || format!("primary of v1 user {}", user.id),
        |it| it.to_lowercase(),
    )
}
