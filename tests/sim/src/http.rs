//! A request as the services see it, and their answer, before either touches a socket.

use std::fmt;

use axum::http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which outside service a request was sent to; each has an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// v1's Supabase project (PostgREST).
    Supabase,
    /// Google's token endpoint.
    Oauth,
    /// Google Calendar v3.
    Calendar,
    /// v2's production deployment.
    Convex,
    /// v2's development deployment.
    ConvexDev,
}

/// One operation of one service: what a fault can be set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Call {
    /// `GET` (or `HEAD`) of a table.
    #[serde(rename = "supabase.select")]
    Select,
    /// `POST`, `PATCH`, `PUT` or `DELETE` of a table.
    #[serde(rename = "supabase.write")]
    TableWrite,
    /// Exchange of a refresh token.
    #[serde(rename = "oauth.token")]
    Token,
    /// Revocation of a grant.
    #[serde(rename = "oauth.revoke")]
    Revoke,
    /// `events.list`.
    #[serde(rename = "events.list")]
    EventsList,
    /// `events.instances`.
    #[serde(rename = "events.instances")]
    EventsInstances,
    /// `events.get`.
    #[serde(rename = "events.get")]
    EventsGet,
    /// `events.insert`.
    #[serde(rename = "events.insert")]
    EventsInsert,
    /// `events.import`.
    #[serde(rename = "events.import")]
    EventsImport,
    /// `events.patch`.
    #[serde(rename = "events.patch")]
    EventsPatch,
    /// `events.update`.
    #[serde(rename = "events.update")]
    EventsUpdate,
    /// `events.delete`.
    #[serde(rename = "events.delete")]
    EventsDelete,
    /// `calendarList.list`.
    #[serde(rename = "calendarList.list")]
    CalendarList,
    /// `channels.stop`.
    #[serde(rename = "channels.stop")]
    ChannelsStop,
    /// `GET /api/json_schemas` of a Convex deployment, as all that follow.
    #[serde(rename = "convex.json_schemas")]
    ConvexSchemas,
    /// `/api/list_snapshot`.
    #[serde(rename = "convex.list_snapshot")]
    ConvexListSnapshot,
    /// `/api/document_deltas`.
    #[serde(rename = "convex.document_deltas")]
    ConvexDeltas,
    /// `/api/query`.
    #[serde(rename = "convex.query")]
    ConvexQuery,
    /// A mutation, an action or an import.
    #[serde(rename = "convex.write")]
    ConvexWrite,
    /// `POST /api/export/request/zip`.
    #[serde(rename = "convex.export_request")]
    ConvexExportRequest,
    /// `GET /api/export/zip/{start_ts}`.
    #[serde(rename = "convex.export_zip")]
    ConvexExportZip,
}

impl Call {
    /// Every call, for tests that cross them with every fault.
    pub const ALL: [Self; 21] = [
        Self::Select,
        Self::TableWrite,
        Self::Token,
        Self::Revoke,
        Self::EventsList,
        Self::EventsInstances,
        Self::EventsGet,
        Self::EventsInsert,
        Self::EventsImport,
        Self::EventsPatch,
        Self::EventsUpdate,
        Self::EventsDelete,
        Self::CalendarList,
        Self::ChannelsStop,
        Self::ConvexSchemas,
        Self::ConvexListSnapshot,
        Self::ConvexDeltas,
        Self::ConvexQuery,
        Self::ConvexWrite,
        Self::ConvexExportRequest,
        Self::ConvexExportZip,
    ];

    /// Its name, as faults and the journal write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Select => "supabase.select",
            Self::TableWrite => "supabase.write",
            Self::Token => "oauth.token",
            Self::Revoke => "oauth.revoke",
            Self::EventsList => "events.list",
            Self::EventsInstances => "events.instances",
            Self::EventsGet => "events.get",
            Self::EventsInsert => "events.insert",
            Self::EventsImport => "events.import",
            Self::EventsPatch => "events.patch",
            Self::EventsUpdate => "events.update",
            Self::EventsDelete => "events.delete",
            Self::CalendarList => "calendarList.list",
            Self::ChannelsStop => "channels.stop",
            Self::ConvexSchemas => "convex.json_schemas",
            Self::ConvexListSnapshot => "convex.list_snapshot",
            Self::ConvexDeltas => "convex.document_deltas",
            Self::ConvexQuery => "convex.query",
            Self::ConvexWrite => "convex.write",
            Self::ConvexExportRequest => "convex.export_request",
            Self::ConvexExportZip => "convex.export_zip",
        }
    }

    /// The service it belongs to; of the two deployments of v2, production.
    pub const fn service(self) -> Service {
        match self {
            Self::Select | Self::TableWrite => Service::Supabase,
            Self::Token | Self::Revoke => Service::Oauth,
            Self::ConvexSchemas
            | Self::ConvexListSnapshot
            | Self::ConvexDeltas
            | Self::ConvexQuery
            | Self::ConvexWrite
            | Self::ConvexExportRequest
            | Self::ConvexExportZip => Service::Convex,
            _ => Service::Calendar,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: Method,
    /// As it was sent, still percent-encoded.
    pub(crate) path: String,
    /// Decoded, split at the slashes that were not encoded.
    pub(crate) segments: Vec<String>,
    pub(crate) raw_query: String,
    /// Decoded, in order, repeated names kept.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Incoming {
    pub(crate) fn new(parts: &axum::http::request::Parts, body: bytes::Bytes) -> Self {
        let path = parts.uri.path().to_owned();
        let segments = path
            .split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let raw_query = parts.uri.query().unwrap_or_default().to_owned();
        let query = url::form_urlencoded::parse(raw_query.as_bytes())
            .into_owned()
            .collect();
        Self {
            method: parts.method.clone(),
            path,
            segments,
            raw_query,
            query,
            headers: parts.headers.clone(),
            body,
        }
    }

    /// The first value of a query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The credential of `Authorization: Bearer ...`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, credential) = self.header("authorization")?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| credential.trim())
    }
}

/// A service's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header names and values beyond those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// Whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// No body at all, as 204 has.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A JSON document, already as text.
    pub fn json_text(status: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=UTF-8".to_owned())],
            body: text.into(),
        }
    }

    /// A JSON document.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::json_text(status, value.to_string())
    }

    /// An HTML page, as a proxy in front of the service sends.
    pub fn html(status: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/html; charset=UTF-8".to_owned())],
            body: text.into(),
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
