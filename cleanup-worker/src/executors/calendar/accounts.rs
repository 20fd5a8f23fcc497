//! Each user's calendars: a token, the complete lists, and an answer for every recorded id that the lists lack.
//!
//! Users start one interval apart and overlap where one is slow; one user's failure stops nobody.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use super::census::{CalendarAnswers, Lookup, UserIds, share_out};
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

/// What asking a user's calendars came to.
#[derive(Debug)]
pub enum Asked {
    /// The primary one was listed whole. It is the first; those that v1 recorded beside it follow, as far as they could be listed.
    Listed(Vec<Listed>),
    /// It could not be; nothing is known about its items.
    Unreachable(Unreachable),
}

/// A calendar listed whole.
#[derive(Debug)]
pub struct Listed {
    /// The calendar's resolved id, never `primary`.
    pub calendar: String,
    /// Address of the account: the resolved id of its primary calendar.
    pub account: String,
    /// The user's recorded ids that are judged here.
    pub ids: UserIds,
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
        Ok(listed) => Ok(Asked::Listed(listed)),
        Err(error) => match error.kind {
            GoogleErrorKind::Token(token) if token.is_global() => {
                Err(CalendarError::Client(*token))
            }
            _ => Ok(Asked::Unreachable(Unreachable::calendar(&error))),
        },
    }
}

/// A calendar by the name it is asked for, and what it answered.
struct Answered<'a> {
    name: &'a str,
    listing: Listing,
    listed: HashSet<String>,
    lookups: HashMap<String, (Lookup, Option<RawItem>)>,
}

impl<'a> Answered<'a> {
    async fn list(calendar: &CalendarReader, name: &'a str) -> Result<Self, GoogleError> {
        let listing = calendar.list_all(name).await?;
        let listed = listing.items.iter().filter_map(|item| item.id.clone());
        Ok(Self {
            name,
            listed: listed.collect(),
            listing,
            lookups: HashMap::new(),
        })
    }
}

async fn ask(calendar: &CalendarReader, user: &SourceUser) -> Result<Vec<Listed>, GoogleError> {
    let primary = Answered::list(calendar, PRIMARY).await?;
    let account = resolved_id(&primary.listing, user);
    let mut answered = vec![primary];
    let mut unasked = 0;
    for name in &user.calendars {
        if name.eq_ignore_ascii_case(&account) {
            continue;
        }
        match Answered::list(calendar, name).await {
            Ok(other) => answered.push(other),
            Err(error) if matches!(error.kind, GoogleErrorKind::Token(_)) => return Err(error),
            Err(error) => {
                let why = crate::engine::with_causes(&error);
                tracing::warn!(user = user.id, %why, "a calendar that v1 recorded could not be listed");
                unasked += 1;
            }
        }
    }
    for id in user.ids.v1.iter().chain(&user.ids.v2) {
        if answered.iter().any(|one| one.listed.contains(id)) {
            continue;
        }
        for one in &mut answered {
            if !one.lookups.contains_key(id) {
                let found = look_up(calendar, one.name, id).await?;
                one.lookups.insert(id.clone(), found);
            }
        }
    }
    let shares = shares(&user.ids, &answered, unasked);
    let listed = answered.into_iter().zip(shares).map(|(one, ids)| Listed {
        calendar: if one.name == PRIMARY {
            account.clone()
        } else {
            one.name.to_owned()
        },
        account: account.clone(),
        ids,
        sync_token: one.listing.sync_token,
        date: one.listing.ended,
        items: one.listing.items,
        lookups: one.lookups,
    });
    Ok(listed.collect())
}

/// Which of the ids are judged on which calendar.
fn shares(ids: &UserIds, answered: &[Answered<'_>], unasked: usize) -> Vec<UserIds> {
    let lookups: Vec<HashMap<String, Lookup>> = answered
        .iter()
        .map(|one| {
            let lookups = one.lookups.iter();
            lookups
                .map(|(id, (lookup, _))| (id.clone(), lookup.clone()))
                .collect()
        })
        .collect();
    let nothing = HashMap::new();
    let asked = answered.iter().zip(&lookups);
    let mut answers: Vec<CalendarAnswers<'_>> = asked
        .map(|(one, lookups)| CalendarAnswers {
            listed: Some(&one.listed),
            lookups,
        })
        .collect();
    answers.extend((0..unasked).map(|_| CalendarAnswers {
        listed: None,
        lookups: &nothing,
    }));
    share_out(ids, &answers)
}

/// Looks for a user's recorded ids on the primary calendar of an account that another user's token leads to.
///
/// # Errors
/// [`GoogleError`]; then nothing is known.
pub(super) async fn look_for(
    calendar: &CalendarReader,
    ids: &UserIds,
    listed: &HashSet<String>,
) -> Result<HashMap<String, (Lookup, Option<RawItem>)>, GoogleError> {
    let mut lookups = HashMap::new();
    for id in ids.v1.iter().chain(&ids.v2) {
        if !listed.contains(id) && !lookups.contains_key(id) {
            lookups.insert(id.clone(), look_up(calendar, PRIMARY, id).await?);
        }
    }
    Ok(lookups)
}

async fn look_up(
    calendar: &CalendarReader,
    name: &str,
    id: &str,
) -> Result<(Lookup, Option<RawItem>), GoogleError> {
    match calendar.get(name, id).await {
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
