//! Each user's calendars: a token, the complete lists, and an answer for every recorded id that the lists lack.
//!
//! Users start one interval apart and overlap where one is slow; one user's failure stops nobody.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use super::census::{CalendarAnswers, Lookup, UserIds, share_out};
use super::error::CalendarError;
use super::event::ParsedEvent;
use super::reader::Reader;
use super::records::Records;
use super::sources::SourceUser;
use crate::clients::ErrorClass;
use crate::clients::google::{
    CalendarReader, GoogleError, GoogleErrorKind, Listing, RawItem, TokenError, TokenErrorKind,
};
use crate::engine::RunOptions;
use crate::engine::pace::Pace;
use crate::executors::Unreachable;
use crate::secrets::Secret;

/// The calendar that v1 wrote to.
pub const PRIMARY: &str = "primary";
/// So many ids one after the other without an answer are the calendar's fault and not theirs.
const UNANSWERED_MAX: u32 = 3;
/// How the id begins that stands for a primary calendar which does not tell its own.
pub(super) const MADE_UP: &str = "primary of v1 user ";

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
    /// The calendar itself says so, and not v1 alone.
    pub is_sure: bool,
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

/// Asks every user's calendar, one interval apart, and hands each result on as it comes: one slow user holds up nobody.
///
/// # Errors
/// Only what concerns all users: v1's OAuth client is refused, by itself or with every grant; or what `take` fails with.
pub async fn ask_all<E: From<CalendarError>>(
    reader: &Reader,
    (users, records): (&[SourceUser], &Records),
    options: &RunOptions,
    mut take: impl FnMut(usize, Asked) -> Result<(), E>,
) -> Result<(), E> {
    let pace = Pace::new(reader.timing.clone(), options.user_interval);
    let mut results = stream::iter(0..users.len())
        .map(|n| {
            let asked = ask_in_turn(reader, &users[n], records, pace.clone());
            async move { (n, asked.await) }
        })
        .buffer_unordered(options.users_at_once.max(1));
    let mut is_taken = false;
    let mut refused = None;
    while let Some((n, result)) = results.next().await {
        let asked = match result? {
            Answer::Taken(asked) => {
                is_taken = true;
                asked
            }
            Answer::NoToken(why) => Asked::Unreachable(why),
            Answer::Refused(error) => {
                let why = Unreachable::token(&error);
                refused = Some(error);
                Asked::Unreachable(why)
            }
        };
        take(n, asked)?;
    }
    // One grant may be another client's; where none is this one's, it is the wrong one.
    match refused {
        Some(error) if !is_taken => Err(CalendarError::Client(error).into()),
        _ => Ok(()),
    }
}

/// What asking one user came to.
enum Answer {
    /// Google gave a token for the user's grant.
    Taken(Asked),
    /// There is none.
    NoToken(Unreachable),
    /// Google gives this client none for the user's grant.
    Refused(TokenError),
}

async fn ask_in_turn(
    reader: &Reader,
    user: &SourceUser,
    records: &Records,
    pace: Pace,
) -> Result<Answer, CalendarError> {
    let token = match &user.access {
        Ok(token) => token,
        Err(why) => {
            let why = Unreachable::without_token(why.code());
            return Ok(Answer::NoToken(why));
        }
    };
    pace.start().await;
    let recorded = records.of(user)?.ids;
    match ask(&calendar_of(reader, &user.id, token), user, &recorded).await {
        Ok(listed) => Ok(Answer::Taken(Asked::Listed(listed))),
        Err(error) => match error.kind {
            GoogleErrorKind::Token(token) if token.is_global() => {
                Err(CalendarError::Client(*token))
            }
            GoogleErrorKind::Token(token) if token.kind == TokenErrorKind::NotThisClients => {
                Ok(Answer::Refused(*token))
            }
            GoogleErrorKind::Token(token) => Ok(Answer::NoToken(Unreachable::token(&token))),
            _ => Ok(Answer::Taken(Asked::Unreachable(Unreachable::calendar(
                &error,
            )))),
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

async fn ask(
    calendar: &CalendarReader,
    user: &SourceUser,
    recorded: &UserIds,
) -> Result<Vec<Listed>, GoogleError> {
    let primary = Answered::list(calendar, PRIMARY).await?;
    let account = resolved_id(&primary.listing, user);
    let is_sure = address_of(&primary.listing).is_some();
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
    let mut in_a_row = 0;
    for id in recorded.v1.iter().chain(&recorded.v2) {
        if answered.iter().any(|one| one.listed.contains(id)) {
            continue;
        }
        for one in &mut answered {
            if !one.lookups.contains_key(id) {
                let found = look_up(calendar, one.name, id, &mut in_a_row).await?;
                one.lookups.insert(id.clone(), found);
            }
        }
    }
    let shares = shares(recorded, &answered, unasked);
    let listed = answered.into_iter().zip(shares).map(|(one, ids)| Listed {
        calendar: if one.name == PRIMARY {
            account.clone()
        } else {
            // As its owner's own listing is called, if it is somebody's primary one.
            one.name.to_lowercase()
        },
        account: account.clone(),
        is_sure,
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
    let mut in_a_row = 0;
    for id in ids.v1.iter().chain(&ids.v2) {
        if !listed.contains(id) && !lookups.contains_key(id) {
            let found = look_up(calendar, PRIMARY, id, &mut in_a_row).await?;
            lookups.insert(id.clone(), found);
        }
    }
    Ok(lookups)
}

/// Asks for one id. What Google cannot answer about one of them costs the others nothing; `in_a_row` counts those that came last.
async fn look_up(
    calendar: &CalendarReader,
    name: &str,
    id: &str,
    in_a_row: &mut u32,
) -> Result<(Lookup, Option<RawItem>), GoogleError> {
    let error = match calendar.get(name, id).await {
        Ok(fetched) => {
            *in_a_row = 0;
            let event = ParsedEvent::known(&fetched.item.bytes, Some(id));
            return Ok((Lookup::Found(event), Some(fetched.item)));
        }
        Err(error) => error,
    };
    let lookup = match (error.class(), &error.kind) {
        (ErrorClass::Gone, _) => Lookup::Gone,
        // An id that cannot be part of an address, or that Google takes for none, is no event's id on any calendar.
        (ErrorClass::NotFound, _) | (_, GoogleErrorKind::UnusableId) => Lookup::NotFound,
        (ErrorClass::Refused, _) if error.status() == Some(400) => {
            // It says nothing about an event whose id could be one, and nothing against the calendar.
            if is_no_id(id) {
                Lookup::NotFound
            } else {
                Lookup::Unanswered("unanswered_400".to_owned())
            }
        }
        (
            ErrorClass::Server | ErrorClass::Refused,
            GoogleErrorKind::Answered | GoogleErrorKind::Malformed(_),
        ) if error.reason.as_deref() != Some("insufficientPermissions") => {
            *in_a_row += 1;
            if *in_a_row >= UNANSWERED_MAX {
                return Err(error);
            }
            let status = error.status().map_or(String::new(), |it| format!("_{it}"));
            return Ok((Lookup::Unanswered(format!("unanswered{status}")), None));
        }
        _ => return Err(error),
    };
    *in_a_row = 0;
    Ok((lookup, None))
}

/// Whether no event can have this id: Google's own are letters and digits, those of imported events have signs among them.
fn is_no_id(id: &str) -> bool {
    !id.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-@.:".contains(&b))
}

/// The calendar's own id. With an events scope alone it can only be read off: own events name their organizer, and the title of a primary
/// calendar is its address until somebody renames it.
pub fn resolved_id(listing: &Listing, user: &SourceUser) -> String {
    let said = address_of(listing).or_else(|| user.google_email.clone());
    said.map_or_else(|| nameless(user), |address| address.to_lowercase())
}

/// The address as the calendar itself says it; a stored one may be stale, and be another account's.
fn address_of(listing: &Listing) -> Option<String> {
    let organizers: BTreeSet<String> = listing
        .items
        .iter()
        .filter_map(|item| {
            let event: Organized = serde_json::from_slice(&item.bytes).ok()?;
            event.organizer.own.then_some(event.organizer.email)
        })
        .map(|address| address.to_lowercase())
        .collect();
    let title = listing.summary.as_deref().map(str::to_lowercase);
    match title.filter(|title| is_address(title)) {
        // Of several, as after a change of the address, the one that the calendar is called by now.
        Some(title) if organizers.is_empty() || organizers.contains(&title) => Some(title),
        _ => organizers.into_iter().next(),
    }
}

/// What of an event names its calendar.
#[derive(Deserialize)]
struct Organized {
    organizer: Organizer,
}

#[derive(Deserialize)]
struct Organizer {
    email: String,
    #[serde(rename = "self", default)]
    own: bool,
}

/// One word of the form of an address: a title may hold an `@` and be none.
fn is_address(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(name, domain)| {
        let plain = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '@' || c == ',')
        };
        plain(name)
            && plain(domain)
            && domain
                .split_once('.')
                .is_some_and(|(host, rest)| !host.is_empty() && !rest.is_empty())
    })
}

/// How a primary calendar is called of which nothing tells the address.
pub(super) fn nameless(user: &SourceUser) -> String {
    format!("{MADE_UP}{}", user.id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn listing(summary: Option<&str>, events: &[Value]) -> Listing {
        let items = events
            .iter()
            .map(|event| RawItem::new(Bytes::from(event.to_string())));
        Listing {
            items: items.collect(),
            sync_token: String::new(),
            summary: summary.map(str::to_owned),
            access_role: None,
            began: None,
            ended: None,
            pages: 1,
            repeated: 0,
        }
    }

    #[test]
    fn what_could_be_an_id_is_one() {
        for id in [
            "0a1b2c3d4e5f6g7h",
            "abc_20260101T000000Z",
            "_60q30c1g60o30e1i60o4ac1g60rj8gpl88rj2c1h84s34h9g60s30c1g60o30c1g",
            "040000008200E00074C5B7101A82E008@example.com",
        ] {
            assert!(!is_no_id(id), "{id}");
        }
        for other in ["none yet", "a/b", "{x}", "é", "a,b", "<id>"] {
            assert!(is_no_id(other), "{other}");
        }
    }

    #[test]
    fn a_calendar_is_called_as_its_own_events_say_then_by_a_title_that_is_an_address() {
        let own = |address: &str| json!({"id": "a", "organizer": {"email": address, "self": true}});
        let others = json!({"id": "b", "organizer": {"email": "x@example.com"}});
        let odd = json!({"id": "c", "organizer": "me", "creator": {"self": true}});
        for (title, events, address) in [
            (Some("Me@example.com"), vec![], Some("me@example.com")),
            (Some("Me @ Work"), vec![], None),
            (Some("Deadlines@Firm"), vec![], None),
            (Some("a@example.com,c"), vec![], None),
            (Some("@example.com"), vec![], None),
            (
                Some("me@example.com (work)"),
                vec![others.clone(), odd.clone()],
                None,
            ),
            (
                Some("Me @ Work"),
                vec![others, odd, own("Me@example.com")],
                Some("me@example.com"),
            ),
            (
                Some("old@example.com"),
                vec![own("me@example.com")],
                Some("me@example.com"),
            ),
            (
                Some("me@example.com"),
                vec![own("a.old@example.com"), own("me@example.com")],
                Some("me@example.com"),
            ),
            (
                None,
                vec![own("b@example.com"), own("a@example.com")],
                Some("a@example.com"),
            ),
            (None, vec![], None),
        ] {
            let found = address_of(&listing(title, &events));
            assert_eq!(found.as_deref(), address, "{title:?} {events:?}");
        }
    }
}
