//! Each user's calendar: a token, the complete list, and an answer for every recorded id that the list lacks.
//!
//! Users start one interval apart and overlap where one is slow; one user's failure stops nobody.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use super::census::Lookup;
use super::error::CalendarError;
use super::event::ParsedEvent;
use super::reader::Reader;
use super::sources::SourceUser;
use crate::clients::ErrorClass;
use crate::clients::google::{CalendarReader, GoogleError, GoogleErrorKind, Listing, RawItem};
use crate::engine::RunOptions;
use crate::engine::pace::Pace;
use crate::executors::Unreachable;
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

/// The user's calendar, for reading.
pub fn calendar_of(reader: &Reader, user: &str, token: &Secret) -> CalendarReader {
    let session = reader.google.session(user, token.clone());
    reader.google.calendar(session)
}

/// Asks every user's calendar, one interval apart, and hands each result on in the users' order.
///
/// # Errors
/// Only what concerns all users: v1's OAuth client is refused; or what `take` fails with.
pub async fn ask_all<E: From<CalendarError>>(
    reader: &Reader,
    users: &[SourceUser],
    options: &RunOptions,
    mut take: impl FnMut(usize, Asked) -> Result<(), E>,
) -> Result<(), E> {
    let pace = Pace::new(reader.timing.clone(), options.user_interval);
    let mut results = stream::iter(0..users.len())
        .map(|n| ask_in_turn(reader, &users[n], pace.clone()))
        .buffered(options.users_at_once.max(1));
    let mut n = 0;
    while let Some(result) = results.next().await {
        take(n, result?)?;
        n += 1;
    }
    Ok(())
}

async fn ask_in_turn(
    reader: &Reader,
    user: &SourceUser,
    pace: Pace,
) -> Result<Asked, CalendarError> {
    let token = match &user.access {
        Ok(token) => token,
        Err(why) => return Ok(Asked::Unreachable(Unreachable::without_token(why.code()))),
    };
    pace.start().await;
    match ask(&calendar_of(reader, &user.id, token), user).await {
        Ok(listed) => Ok(Asked::Listed(Box::new(listed))),
        Err(error) => match error.kind {
            GoogleErrorKind::Token(token) if token.is_global() => {
                Err(CalendarError::Client(*token))
            }
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
pub fn resolved_id(listing: &Listing, user: &SourceUser) -> String {
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
