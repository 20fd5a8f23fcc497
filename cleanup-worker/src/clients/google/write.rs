//! Changing calendars: delete, insert, patch. Each call is one request, but for the repetition after a 401.
//!
//! Source: Google Calendar API v3, `events.delete`, `.insert`, `.patch`, and its guide on conditional requests (`If-Match`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use reqwest::header::IF_MATCH;
use serde_json::Value;

use super::calendar::{CalendarReader, Fetched, Google, Send, json};
use super::error::{GoogleError, GoogleErrorKind};
use super::page;
use super::token::Session;
use crate::clients::ErrorClass;
use crate::clients::http::{Request, Response, TransportError, WriteTransport};

const DELETE: &str = "calendar.events.delete";
const INSERT: &str = "calendar.events.insert";
const PATCH: &str = "calendar.events.patch";
const STOP: &str = "calendar.channels.stop";

/// What became of a watch channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelEnd {
    /// It was open, and is no longer.
    Stopped,
    /// Google knows none of that name that this client opened for this user: it has expired, or was stopped before.
    WasOver,
}

/// That a change was made.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// HTTP status of the answer.
    pub status: u16,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
}

/// One user's calendars, to be changed. Only a [`WriteTransport`] makes one.
///
/// Nothing is retried here: one request belongs to one intent. [`GoogleError::effect`] says whether a failed one may have had its effect, and
/// [`Retryable`](crate::clients::retry::Retryable) whether a new attempt can succeed.
#[derive(Clone)]
pub struct CalendarWriter {
    reader: CalendarReader,
    transport: WriteTransport,
    /// The next request has been waited for and counted.
    ready: Arc<AtomicBool>,
}

impl CalendarWriter {
    /// The calendars that `session` can change, over `transport`.
    pub fn new(google: &Google, transport: WriteTransport, session: Arc<Session>) -> Self {
        Self {
            reader: google.calendar(session),
            transport,
            ready: Arc::default(),
        }
    }

    /// Waits until a request can be sent: for a token and for the rate limits. It counts then, and the next one goes without waiting.
    ///
    /// # Errors
    /// There is no token.
    pub async fn ready(&self) -> Result<(), GoogleError> {
        if !self.ready.load(Ordering::Acquire) {
            self.reader.turn("calendar.write").await?;
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The same calendars, for reading.
    pub fn reader(&self) -> &CalendarReader {
        &self.reader
    }

    /// Deletes one event if it still has the version `etag`. No mail is sent to guests.
    ///
    /// # Errors
    /// [`GoogleError`]: class `gone` (410) where it was deleted already, `not_found` (404), `conflict` (412) where it has changed since; each of
    /// these says that this request changed nothing.
    pub async fn delete(
        &self,
        calendar: &str,
        event: &str,
        etag: &str,
    ) -> Result<Written, GoogleError> {
        let etag = precondition(DELETE, etag)?;
        let mut url = self
            .reader
            .url(DELETE, &["calendars", calendar, "events", event])?;
        url.query_pairs_mut().append_pair("sendUpdates", "none");
        let request = Request::new(DELETE, url).header(IF_MATCH, etag);
        let answer = self.send(send_delete, DELETE, request).await?;
        done(DELETE, &answer)?;
        Ok(Written {
            status: answer.status,
            date: answer.date,
        })
    }

    /// [`CalendarWriter::delete`] that ends within `limit`, the wait for a token and for the rate limits included. Past it the request may
    /// have been sent, and may be acted on.
    ///
    /// # Errors
    /// As [`CalendarWriter::delete`].
    pub async fn delete_within(
        &self,
        calendar: &str,
        event: &str,
        etag: &str,
        limit: Duration,
    ) -> Result<Written, GoogleError> {
        within(DELETE, limit, self.delete(calendar, event, etag)).await
    }

    /// Stops a watch channel, which would tell its owner of each deletion. Only the OAuth client and the user that opened it can. Sent again, it
    /// answers that the channel is over.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn stop_channel(
        &self,
        channel: &str,
        resource: &str,
    ) -> Result<ChannelEnd, GoogleError> {
        let url = self.reader.url(STOP, &["channels", "stop"])?;
        let body = serde_json::json!({"id": channel, "resourceId": resource});
        let request = Request::new(STOP, url).json(json(&body));
        let answer = self.send(send_post, STOP, request).await?;
        match done(STOP, &answer) {
            Ok(()) => Ok(ChannelEnd::Stopped),
            Err(error) if error.class() == ErrorClass::NotFound => Ok(ChannelEnd::WasOver),
            Err(error) => Err(error),
        }
    }

    /// Makes an event out of `event`, its JSON. An id in it that is taken, by a deleted event too, is refused (409). No mail is sent to
    /// guests.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn insert(&self, calendar: &str, event: Bytes) -> Result<Fetched, GoogleError> {
        let mut url = self
            .reader
            .url(INSERT, &["calendars", calendar, "events"])?;
        url.query_pairs_mut()
            .append_pair("sendUpdates", "none")
            .append_pair("supportsAttachments", "true");
        let request = Request::new(INSERT, url).json(event);
        let answer = self.send(send_post, INSERT, request).await?;
        fetched(INSERT, &answer)
    }

    /// [`CalendarWriter::insert`] that ends within `limit`, as [`CalendarWriter::delete_within`] does.
    ///
    /// # Errors
    /// As [`CalendarWriter::insert`].
    pub async fn insert_within(
        &self,
        calendar: &str,
        event: Bytes,
        limit: Duration,
    ) -> Result<Fetched, GoogleError> {
        within(INSERT, limit, self.insert(calendar, event)).await
    }

    /// Changes the fields that `change` holds, if the event still has the version `etag`. `{"status":"confirmed"}` un-cancels a deleted event.
    ///
    /// # Errors
    /// [`GoogleError`].
    pub async fn patch(
        &self,
        calendar: &str,
        event: &str,
        etag: Option<&str>,
        change: &Value,
    ) -> Result<Fetched, GoogleError> {
        let mut url = self
            .reader
            .url(PATCH, &["calendars", calendar, "events", event])?;
        url.query_pairs_mut().append_pair("sendUpdates", "none");
        let mut request = Request::new(PATCH, url).json(json(change));
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, precondition(PATCH, etag)?);
        }
        let answer = self.send(send_patch, PATCH, request).await?;
        fetched(PATCH, &answer)
    }

    /// [`CalendarWriter::patch`] that ends within `limit`, as [`CalendarWriter::delete_within`] does.
    ///
    /// # Errors
    /// As [`CalendarWriter::patch`].
    pub async fn patch_within(
        &self,
        calendar: &str,
        event: &str,
        etag: Option<&str>,
        change: &Value,
        limit: Duration,
    ) -> Result<Fetched, GoogleError> {
        within(PATCH, limit, self.patch(calendar, event, etag, change)).await
    }

    async fn send(
        &self,
        send: Send<WriteTransport>,
        operation: &'static str,
        request: Request,
    ) -> Result<Response, GoogleError> {
        let is_ready = self.ready.swap(false, Ordering::AcqRel);
        self.reader
            .authorised((&self.transport, send), is_ready, operation, 1, request)
            .await
    }
}

async fn within<T>(
    operation: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, GoogleError>>,
) -> Result<T, GoogleError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let late = TransportError::TimedOut { operation, limit };
        Err(GoogleError::transport(operation, 1, late))
    })
}

/// An empty value and `*` would match every version.
fn precondition<'a>(operation: &'static str, etag: &'a str) -> Result<&'a str, GoogleError> {
    if matches!(etag.trim(), "" | "*") {
        let kind = GoogleErrorKind::UnusableVersion;
        return Err(GoogleError::new(operation, 1, ErrorClass::Refused, kind));
    }
    Ok(etag)
}

/// Google answers what has no result with 204 and no content. A page that says 200 is of something in between, and whether the request
/// came through it cannot tell.
fn done(operation: &'static str, answer: &Response) -> Result<(), GoogleError> {
    let is_empty = answer.body.iter().all(u8::is_ascii_whitespace);
    match answer.status {
        200 | 204 if is_empty => Ok(()),
        200..=299 => {
            let what = "the answer has content, which this call's has not";
            Err(GoogleError::malformed(operation, 1, answer, what))
        }
        _ => Err(GoogleError::answered(operation, 1, answer)),
    }
}

fn fetched(operation: &'static str, answer: &Response) -> Result<Fetched, GoogleError> {
    if answer.status != 200 {
        return Err(GoogleError::answered(operation, 1, answer));
    }
    let item = page::parse_event(&answer.body)
        .map_err(|what| GoogleError::malformed(operation, 1, answer, what))?;
    Ok(Fetched {
        item,
        date: answer.date,
        attempt: 1,
    })
}

type Sent<'a> = BoxFuture<'a, Result<Response, TransportError>>;

fn send_delete(transport: &WriteTransport, request: Request) -> Sent<'_> {
    Box::pin(transport.delete(request))
}

fn send_post(transport: &WriteTransport, request: Request) -> Sent<'_> {
    Box::pin(transport.post(request))
}

fn send_patch(transport: &WriteTransport, request: Request) -> Sent<'_> {
    Box::pin(transport.patch(request))
}
