//! What was asked of the services, in order: the record that a test trusts over the program's own.

use std::sync::Mutex;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::http::{Call, Incoming, Service};
use crate::lock;

/// One request. Written when it arrives and completed as it goes, so that a request still parked is seen too.
/// Credentials are never kept: headers and bodies are left out, and query parameters that carry one are blanked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Position, from 1.
    pub number: u64,
    /// When it arrived, by the services' clock.
    pub at: DateTime<Utc>,
    /// Where it was sent.
    pub service: Service,
    /// Which operation it is; none where the address has no such operation.
    pub call: Option<Call>,
    /// HTTP method.
    pub method: String,
    /// Path as sent.
    pub path: String,
    /// Query as sent, credentials blanked.
    pub query: String,
    /// The Google account that the credential stands for, where it stands for one.
    pub account: Option<String>,
    /// The calendar, `primary` resolved.
    pub calendar: Option<String>,
    /// The event named in the path.
    pub event_id: Option<String>,
    /// The `If-Match` header.
    pub if_match: Option<String>,
    /// The fault that met it.
    pub fault: Option<String>,
    /// The status that was answered, or would have been had the answer not been lost; none while it is not answered.
    pub status: Option<u16>,
    /// Whether it changed the service's state.
    pub effect: bool,
    /// Whether the whole answer was handed to the connection.
    pub delivered: bool,
}

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Vec<JournalEntry>>);

impl Journal {
    /// Writes an arriving request and returns its number.
    pub(crate) fn begin(&self, mut entry: JournalEntry) -> u64 {
        let mut entries = lock(&self.0);
        entry.number = entries.len() as u64 + 1;
        let number = entry.number;
        entries.push(entry);
        number
    }

    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut JournalEntry)) {
        let index = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .wrapping_sub(1);
        if let Some(entry) = lock(&self.0).get_mut(index) {
            change(entry);
        }
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry> {
        lock(&self.0).clone()
    }
}

/// The query with the values of credential-bearing parameters blanked.
pub(crate) fn safe_query(request: &Incoming) -> String {
    const SECRET: [&str; 6] = [
        "access_token",
        "apikey",
        "key",
        "oauth_token",
        "token",
        "refresh_token",
    ];
    request
        .raw_query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if SECRET.contains(&name) => format!("{name}=***"),
            _ => pair.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("&")
}
