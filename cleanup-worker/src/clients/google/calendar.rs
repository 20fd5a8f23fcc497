//! Reading calendars: complete listings, changes since a listing, single events.
//!
//! Source: Google Calendar API v3, `events.list` and `events.get`
//! (<https://developers.google.com/workspace/calendar/api/v3/reference/events>), and its guide "Synchronize resources efficiently". A listing has no search
//! text and no time bounds: what is not asked for could not be missed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::error::{GoogleError, GoogleErrorKind};
use super::page::{self, Page, RawItem};
use super::token::{AccessToken, OAuthClient, Session};
use crate::clients::ErrorClass;
use crate::clients::http::{ReadTransport, Request, Response, TransportError};
use crate::clients::retry::{RateLimiter, RetryPolicy, Timing};
use crate::config::WorkerConfig;
use crate::secrets::Secret;

pub(super) const LIST: &str = "calendar.events.list";
pub(super) const GET: &str = "calendar.events.get";
/// The largest page Google gives.
const PAGE_SIZE: &str = "2500";
/// No calendar has as many pages; it ends a listing whose page tokens never repeat and never end.
const PAGES_MAX: usize = 100_000;
/// So many pages one after the other with nothing that had not come before are a circle.
const REPEATED_PAGES_MAX: usize = 100;
/// No calendar is as large; it ends a listing that brings something new for ever.
const LISTING_BYTES_MAX: usize = 1 << 30;
/// What may stand in a path segment as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What all calendar clients of a run share.
#[derive(Clone)]
pub struct Google {
    pub(super) transport: ReadTransport,
    pub(super) base: Url,
    pub(super) oauth: OAuthClient,
    pub(super) limiter: Arc<RateLimiter>,
    pub(super) policy: RetryPolicy,
    pub(super) timing: Arc<dyn Timing>,
}

impl Google {
    /// Reads through `transport`; `limiter` counts the requests of the whole run.
    pub fn new(
        config: &WorkerConfig,
        transport: ReadTransport,
        limiter: Arc<RateLimiter>,
        policy: RetryPolicy,
        timing: Arc<dyn Timing>,
    ) -> Self {
        let oauth = OAuthClient::new(config, transport.clone(), policy, timing.clone());
        let base = config.google_calendar_url.clone();
        Self {
            transport,
            base,
            oauth,
            limiter,
            policy,
            timing,
        }
    }

    /// v1's OAuth client, for the check before a run.
    pub fn oauth(&self) -> &OAuthClient {
        &self.oauth
    }

    /// A session for a user whose stored token was opened. `user` names the user for the rate limits, and is not sent.
    pub fn session(&self, user: impl Into<String>, refresh_token: Secret) -> Arc<Session> {
        Session::new(self.oauth.clone(), user, refresh_token)
    }

    /// A session over an access token that somebody gave.
    pub fn session_given(&self, user: impl Into<String>, access_token: Secret) -> Arc<Session> {
        Session::given(self.oauth.clone(), user, access_token)
    }

    /// The calendars that `session` can read.
    pub fn calendar(&self, session: Arc<Session>) -> CalendarReader {
        CalendarReader {
            google: self.clone(),
            session,
        }
    }
}

/// One user's calendars, read-only. Errors that can pass are retried within each call.
#[derive(Clone)]
pub struct CalendarReader {
    pub(super) google: Google,
    pub(super) session: Arc<Session>,
}

/// A single event as it was answered: the whole resource, without a field mask.
#[derive(Clone)]
pub struct Fetched {
    /// The body, byte for byte, and what could be read of it. `status` `cancelled` is a deleted event.
    pub item: RawItem,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
    /// Which try it was, from 1.
    pub attempt: u32,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched({:?})", self.item)
    }
}

/// A calendar's events, or its changes, to the last page.
#[derive(Clone)]
pub struct Listing {
    /// Each event once. Of one that came twice, the later version.
    pub items: Vec<RawItem>,
    /// From here changes can be listed.
    pub sync_token: String,
    /// The calendar's title: for `primary`, by default, the account's address.
    pub summary: Option<String>,
    /// The user's right on this calendar.
    pub access_role: Option<String>,
    /// The service's clock at the first page.
    pub began: Option<DateTime<Utc>>,
    /// The service's clock at the last page.
    pub ended: Option<DateTime<Utc>>,
    /// Pages read.
    pub pages: usize,
    /// Items that had come before, in an earlier page or version.
    pub repeated: usize,
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Listing({} items in {} pages)",
            self.items.len(),
            self.pages
        )
    }
}

/// Pages one by one, so that memory is bounded by a page.
pub struct Pages<'a> {
    reader: &'a CalendarReader,
    calendar: String,
    sync_token: Option<String>,
    next: Next,
    seen: HashSet<String>,
}

enum Next {
    First,
    Token(String),
    End,
}

impl Pages<'_> {
    /// The next page, or `None` after the last, which is the one with a sync token. An item that moved while listing can come twice.
    ///
    /// # Errors
    /// [`GoogleError`]; a page token that repeats is [`GoogleErrorKind::PageLoop`]. After an error the listing is over, and what came
    /// so far is not the whole.
    pub async fn next(&mut self) -> Result<Option<Page>, GoogleError> {
        let token = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return Ok(None),
            Next::First => None,
            Next::Token(token) => Some(token),
        };
        let page = self
            .reader
            .list_page(&self.calendar, self.sync_token.as_deref(), token.as_deref())
            .await?;
        if let Some(token) = &page.next_page_token {
            if !self.seen.insert(token.clone()) || self.seen.len() > PAGES_MAX {
                let kind = GoogleErrorKind::PageLoop;
                return Err(GoogleError::new(LIST, 1, ErrorClass::Server, kind));
            }
            self.next = Next::Token(token.clone());
        }
        Ok(Some(page))
    }
}

impl CalendarReader {
    /// The user's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// One page: of the whole calendar, or, with a `sync_token`, of what changed since (deleted events included).
    ///
    /// # Errors
    /// [`GoogleError`]; an expired `sync_token` is [`GoogleErrorKind::FullSyncRequired`].
    pub async fn list_page(
        &self,
        calendar: &str,
        sync_token: Option<&str>,
        page_token: Option<&str>,
    ) -> Result<Page, GoogleError> {
        let mut url = self.url(LIST, &["calendars", calendar, "events"])?;
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("maxResults", PAGE_SIZE)
                .append_pair("singleEvents", "false");
            match sync_token {
                // `showDeleted=false` is refused together with a sync token.
                Some(token) => query.append_pair("syncToken", token),
                None => query.append_pair("showDeleted", "false"),
            };
            if let Some(token) = page_token {
                query.append_pair("pageToken", token);
            }
        }
        let page = self
            .read(LIST, url, |_, answer| {
                page::parse(&answer.body, answer.date)
            })
            .await;
        page.map_err(|mut error| {
            if sync_token.is_some() && error.status() == Some(410) {
                error.kind = GoogleErrorKind::FullSyncRequired;
            }
            error
        })
    }

    /// Whether the calendar can be listed at all.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn probe(&self, calendar: &str) -> Result<(), GoogleError> {
        let mut url = self.url(LIST, &["calendars", calendar, "events"])?;
        url.query_pairs_mut().append_pair("maxResults", "1");
        let page = self.read(LIST, url, |_, answer| {
            page::parse(&answer.body, answer.date)
        });
        page.await.map(|_| ())
    }

    /// All events that are not deleted, page by page; recurring ones as their series, and with it the instances that were cancelled.
    pub fn pages(&self, calendar: &str) -> Pages<'_> {
        self.pages_since(calendar, None)
    }

    /// All changes since a listing, page by page.
    pub fn change_pages(&self, calendar: &str, sync_token: &str) -> Pages<'_> {
        self.pages_since(calendar, Some(sync_token.to_owned()))
    }

    fn pages_since(&self, calendar: &str, sync_token: Option<String>) -> Pages<'_> {
        let calendar = calendar.to_owned();
        Pages {
            reader: self,
            calendar,
            sync_token,
            next: Next::First,
            seen: HashSet::new(),
        }
    }

    /// All events of [`CalendarReader::pages`], each once, and the sync token from which [`CalendarReader::list_changes`] goes on.
    ///
    /// # Errors
    /// [`GoogleError`]; there is no partial result.
    pub async fn list_all(&self, calendar: &str) -> Result<Listing, GoogleError> {
        collect(self.pages(calendar)).await
    }

    /// Every event that was added, changed or deleted since `sync_token`, each once.
    ///
    /// # Errors
    /// [`GoogleError`]; [`GoogleError::is_full_sync_required`] where the token is too old.
    pub async fn list_changes(
        &self,
        calendar: &str,
        sync_token: &str,
    ) -> Result<Listing, GoogleError> {
        collect(self.change_pages(calendar, sync_token)).await
    }

    /// One event, whole. Google answers 200 also for a deleted one while it still holds it: `status` tells.
    ///
    /// # Errors
    /// [`GoogleError`], of class `not_found` for 404 and `gone` for 410.
    pub async fn get(&self, calendar: &str, event: &str) -> Result<Fetched, GoogleError> {
        let url = self.url(GET, &["calendars", calendar, "events", event])?;
        self.read(GET, url, |attempt, answer| {
            let mut item = page::parse_event(&answer.body)?;
            // The header says it again, for an event whose own field cannot be read.
            item.etag = item
                .etag
                .or_else(|| answer.header("etag").map(str::to_owned));
            if item.id.as_deref().is_some_and(|id| id != event) {
                return Err("the answer is another event");
            }
            Ok(Fetched {
                item,
                date: answer.date,
                attempt,
            })
        })
        .await
    }

    /// A read, retried where it can pass; `parse` says what a success has to be.
    async fn read<T>(
        &self,
        operation: &'static str,
        url: Url,
        parse: impl Fn(u32, &Response) -> Result<T, &'static str>,
    ) -> Result<T, GoogleError> {
        let request = Request::new(operation, url);
        let (parse, request) = (&parse, &request);
        let call = |attempt| async move {
            let request = request.clone();
            let answer = self
                .authorised(
                    (&self.google.transport, send_get),
                    false,
                    operation,
                    attempt,
                    request,
                )
                .await?;
            if answer.status != 200 {
                return Err(GoogleError::answered(operation, attempt, &answer));
            }
            parse(attempt, &answer)
                .map_err(|what| GoogleError::malformed(operation, attempt, &answer, what))
        };
        self.google
            .policy
            .run(self.google.timing.as_ref(), call)
            .await
    }

    /// Waits for a token and for the rate limits, and counts one request.
    pub(super) async fn turn(&self, operation: &'static str) -> Result<AccessToken, GoogleError> {
        let token = self.session.token().await;
        let token = token.map_err(|error| GoogleError::token(operation, error))?;
        self.google.limiter.acquire(self.session.user()).await;
        Ok(token)
    }

    /// Sends with the user's token, within the rate limits; `is_ready`: the first request has had its turn. A 401 gets one new token and one
    /// repetition: it says that nothing was done.
    pub(super) async fn authorised<T: Sync>(
        &self,
        (transport, send): (&T, Send<T>),
        mut is_ready: bool,
        operation: &'static str,
        attempt: u32,
        request: Request,
    ) -> Result<Response, GoogleError> {
        let mut renewed = false;
        loop {
            let access = if std::mem::take(&mut is_ready) {
                let token = self.session.token().await;
                token.map_err(|error| GoogleError::token(operation, error))?
            } else {
                self.turn(operation).await?
            };
            let request = request.clone().bearer(&access.token);
            let answer = send(transport, request)
                .await
                .map_err(|error| GoogleError::transport(operation, attempt, error))?;
            if answer.status != 401 || renewed {
                return Ok(answer);
            }
            self.session.drop_token(&access).await;
            renewed = true;
        }
    }

    /// The address of `segments` below the base, each percent-encoded.
    pub(super) fn url(
        &self,
        operation: &'static str,
        segments: &[&str],
    ) -> Result<Url, GoogleError> {
        let mut path = self.google.base.path().trim_end_matches('/').to_owned();
        for segment in segments {
            // A dot segment is resolved away, encoded or not, and would turn an event's address into its calendar's.
            if matches!(*segment, "" | "." | "..") {
                let kind = GoogleErrorKind::UnusableId;
                return Err(GoogleError::new(operation, 1, ErrorClass::Refused, kind));
            }
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        let mut url = self.google.base.clone();
        url.set_path(&path);
        Ok(url)
    }
}

/// How a transport sends: one of its methods, so that what cannot be sent cannot be named.
pub(super) type Send<T> =
    for<'a> fn(&'a T, Request) -> BoxFuture<'a, Result<Response, TransportError>>;

fn send_get(
    transport: &ReadTransport,
    request: Request,
) -> BoxFuture<'_, Result<Response, TransportError>> {
    Box::pin(transport.get(request))
}

async fn collect(mut pages: Pages<'_>) -> Result<Listing, GoogleError> {
    let mut listing = Listing {
        items: Vec::new(),
        sync_token: String::new(),
        summary: None,
        access_role: None,
        began: None,
        ended: None,
        pages: 0,
        repeated: 0,
    };
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut bytes = 0;
    let mut nothing_new = 0;
    while let Some(page) = pages.next().await? {
        listing.pages += 1;
        let before = listing.items.len();
        bytes += page
            .items
            .iter()
            .map(|item| item.bytes.len())
            .sum::<usize>();
        listing.began = listing.began.or(page.date);
        listing.ended = page.date.or(listing.ended);
        listing.summary = listing.summary.or(page.summary);
        listing.access_role = listing.access_role.or(page.access_role);
        listing.sync_token = page.next_sync_token.unwrap_or_default();
        for item in page.items {
            let Some(id) = item.id.clone() else {
                listing.items.push(item);
                continue;
            };
            match places.entry(id) {
                Entry::Vacant(place) => {
                    place.insert(listing.items.len());
                    listing.items.push(item);
                }
                Entry::Occupied(place) => {
                    listing.repeated += 1;
                    let kept = &mut listing.items[*place.get()];
                    if is_later(&item, kept) {
                        *kept = item;
                    }
                }
            }
        }
        // Page tokens that are new each time can lead in a circle too.
        nothing_new = if listing.items.len() > before {
            0
        } else {
            nothing_new + 1
        };
        if nothing_new > REPEATED_PAGES_MAX || bytes > LISTING_BYTES_MAX {
            let kind = GoogleErrorKind::PageLoop;
            return Err(GoogleError::new(LIST, 1, ErrorClass::Server, kind));
        }
    }
    Ok(listing)
}

/// Google's etags are quoted numbers that grow; where they are not, the one that came later is taken.
fn is_later(came: &RawItem, kept: &RawItem) -> bool {
    let number = |item: &RawItem| item.etag.as_ref()?.trim_matches('"').parse::<u64>().ok();
    match (number(came), number(kept)) {
        (Some(came), Some(kept)) => came >= kept,
        _ => true,
    }
}

/// Bytes of an event to send.
pub(super) fn json(body: &serde_json::Value) -> Bytes {
    Bytes::from(body.to_string())
}
