//! Google's errors: one type, one class each.
//!
//! Source of the table: the Calendar guide "Handle API errors"
//! (<https://developers.google.com/workspace/calendar/api/guides/errors>). The status and `errors[0].reason` decide; messages are for people and may hold
//! personal data, so they are dropped. A proxy's HTML page is an error without a reason.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::token::TokenError;
use crate::clients::http::{Response, TransportError};
use crate::clients::retry::Retryable;
use crate::clients::{Effect, ErrorClass, Failure, machine_word};

/// A call of Google's that did not succeed.
#[derive(Debug)]
pub struct GoogleError {
    /// Class, status, attempt, the remote `Date`.
    pub failure: Box<Failure>,
    /// Google's `reason`, where there was one.
    pub reason: Option<String>,
    /// How it failed.
    pub kind: GoogleErrorKind,
}

/// How a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum GoogleErrorKind {
    /// Google answered with an error status.
    Answered,
    /// The sync token is too old: list the calendar from the start (410).
    FullSyncRequired,
    /// There was no whole answer.
    Transport(Box<TransportError>),
    /// There is no access token to call with.
    Token(Box<TokenError>),
    /// A success whose content is not what it has to be; what, in our words.
    Malformed(&'static str),
    /// A page token came back that was already followed: the listing would never end.
    PageLoop,
    /// An id that cannot be part of an address; nothing was sent.
    UnusableId,
    /// An etag that is no precondition; nothing was sent.
    UnusableVersion,
}

impl fmt::Display for GoogleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.kind, GoogleErrorKind::Token(_)) {
            return write!(
                f,
                "{} was not sent: no access token",
                self.failure.operation
            );
        }
        write!(f, "{}", self.failure)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.kind {
            GoogleErrorKind::Answered
            | GoogleErrorKind::Transport(_)
            | GoogleErrorKind::Token(_) => Ok(()),
            GoogleErrorKind::FullSyncRequired => {
                f.write_str(": the sync token is too old, list from the start")
            }
            GoogleErrorKind::Malformed(what) => write!(f, ": {what}"),
            GoogleErrorKind::PageLoop => f.write_str(": the pages lead in a circle, or never end"),
            GoogleErrorKind::UnusableId => f.write_str(": the id cannot be part of an address"),
            GoogleErrorKind::UnusableVersion => f.write_str(": the etag names no version"),
        }
    }
}

impl Error for GoogleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            GoogleErrorKind::Transport(error) => Some(error.as_ref()),
            GoogleErrorKind::Token(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl GoogleError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        self.failure.class
    }

    /// HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.failure.status
    }

    /// Whether the call may have changed something although it failed. An answer from 300 to 499 is a "no".
    pub fn effect(&self) -> Effect {
        match &self.kind {
            GoogleErrorKind::Transport(error) => error.effect(),
            GoogleErrorKind::Answered if matches!(self.failure.status, Some(300..=499)) => {
                Effect::None
            }
            GoogleErrorKind::Answered | GoogleErrorKind::Malformed(_) => Effect::Unknown,
            GoogleErrorKind::FullSyncRequired
            | GoogleErrorKind::Token(_)
            | GoogleErrorKind::PageLoop
            | GoogleErrorKind::UnusableId
            | GoogleErrorKind::UnusableVersion => Effect::None,
        }
    }

    /// Whether the sync token has to be dropped.
    pub fn is_full_sync_required(&self) -> bool {
        matches!(self.kind, GoogleErrorKind::FullSyncRequired)
    }

    pub(super) fn new(
        operation: &'static str,
        attempt: u32,
        class: ErrorClass,
        kind: GoogleErrorKind,
    ) -> Self {
        let failure = Failure {
            operation,
            class,
            status: None,
            attempt,
            date: None,
            retry_after: None,
        };
        Self {
            failure: Box::new(failure),
            reason: None,
            kind,
        }
    }

    /// An answer with another status than the call's success.
    pub(super) fn answered(operation: &'static str, attempt: u32, answer: &Response) -> Self {
        let said = Said::read(&answer.body, answer.status);
        let reason = said.as_ref().and_then(|said| said.reason.clone());
        let class = match answer.status {
            // A proxy's page says nothing about what Google has.
            404 | 410 if said.is_none() => ErrorClass::Server,
            status => classify(status, reason.as_deref()),
        };
        let mut error = Self::new(operation, attempt, class, GoogleErrorKind::Answered);
        error.failure.status = Some(answer.status);
        error.failure.date = answer.date;
        error.failure.retry_after = answer.retry_after();
        error.reason = reason;
        error
    }

    pub(super) fn transport(operation: &'static str, attempt: u32, source: TransportError) -> Self {
        let class = source.class();
        let status = source.status();
        let kind = GoogleErrorKind::Transport(Box::new(source));
        let mut error = Self::new(operation, attempt, class, kind);
        error.failure.status = status;
        error
    }

    pub(super) fn token(operation: &'static str, source: TokenError) -> Self {
        let failure = Failure {
            operation,
            ..(*source.failure).clone()
        };
        let reason = source.code.clone();
        let kind = GoogleErrorKind::Token(Box::new(source));
        Self {
            failure: Box::new(failure),
            reason,
            kind,
        }
    }

    pub(super) fn malformed(
        operation: &'static str,
        attempt: u32,
        answer: &Response,
        what: &'static str,
    ) -> Self {
        let kind = GoogleErrorKind::Malformed(what);
        let mut error = Self::new(operation, attempt, ErrorClass::Server, kind);
        error.failure.status = Some(answer.status);
        error.failure.date = answer.date;
        error
    }
}

impl Retryable for GoogleError {
    fn may_pass(&self) -> bool {
        match &self.kind {
            GoogleErrorKind::Transport(error) => error.may_pass(),
            GoogleErrorKind::Malformed(_) => true,
            GoogleErrorKind::Answered => match self.failure.class {
                ErrorClass::Server => true,
                // The daily and the usage limit pass in hours, not in seconds.
                ErrorClass::Quota => !matches!(
                    self.reason.as_deref(),
                    Some("quotaExceeded" | "dailyLimitExceeded" | "calendarUsageLimitsExceeded")
                ),
                _ => false,
            },
            // The token client has already tried as often as it may.
            GoogleErrorKind::Token(_)
            | GoogleErrorKind::FullSyncRequired
            | GoogleErrorKind::PageLoop
            | GoogleErrorKind::UnusableId
            | GoogleErrorKind::UnusableVersion => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }
}

fn classify(status: u16, reason: Option<&str>) -> ErrorClass {
    match (status, reason) {
        (401, _) => ErrorClass::Auth,
        (
            403,
            Some(
                "userRateLimitExceeded"
                | "rateLimitExceeded"
                | "quotaExceeded"
                | "dailyLimitExceeded"
                | "calendarUsageLimitsExceeded",
            ),
        )
        | (429, _) => ErrorClass::Quota,
        (404, _) => ErrorClass::NotFound,
        (409 | 412, _) => ErrorClass::Conflict,
        (410, _) => ErrorClass::Gone,
        // 2xx comes here only where the call has another success status.
        (408 | 200..=299 | 500.., _) => ErrorClass::Server,
        _ => ErrorClass::Refused,
    }
}

/// Google's own error, as opposed to what stands between.
struct Said {
    reason: Option<String>,
}

impl Said {
    fn read(body: &[u8], status: u16) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error")?;
        let reason = error
            .pointer("/errors/0/reason")
            .or_else(|| error.get("status"))
            .and_then(Value::as_str);
        let repeats_status = error.get("code").and_then(Value::as_u64) == Some(u64::from(status));
        (reason.is_some() || repeats_status).then(|| Self {
            reason: reason.and_then(machine_word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_and_reason_has_its_class_and_retry() {
        let table = [
            (400, Some("invalid"), ErrorClass::Refused),
            (401, Some("authError"), ErrorClass::Auth),
            (403, Some("userRateLimitExceeded"), ErrorClass::Quota),
            (403, Some("rateLimitExceeded"), ErrorClass::Quota),
            (403, Some("quotaExceeded"), ErrorClass::Quota),
            (403, Some("forbiddenForNonOrganizer"), ErrorClass::Refused),
            (403, Some("insufficientPermissions"), ErrorClass::Refused),
            (403, None, ErrorClass::Refused),
            (404, Some("notFound"), ErrorClass::NotFound),
            (409, Some("duplicate"), ErrorClass::Conflict),
            (410, Some("deleted"), ErrorClass::Gone),
            (412, Some("conditionNotMet"), ErrorClass::Conflict),
            (429, Some("rateLimitExceeded"), ErrorClass::Quota),
            (429, None, ErrorClass::Quota),
            (500, Some("backendError"), ErrorClass::Server),
            (503, None, ErrorClass::Server),
        ];
        for (status, reason, class) in table {
            assert_eq!(classify(status, reason), class, "{status} {reason:?}");
        }
    }

    #[test]
    fn only_a_machines_word_is_taken_from_a_body() {
        let reason = |body: &[u8]| Said::read(body, 404).map(|said| said.reason);
        let envelope =
            br#"{"error":{"errors":[{"domain":"global","reason":"notFound","message":"me@example.com"}],"code":404}}"#;
        assert_eq!(reason(envelope), Some(Some("notFound".to_owned())));
        assert_eq!(
            reason(br#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#),
            Some(Some("PERMISSION_DENIED".to_owned()))
        );
        assert_eq!(
            reason(br#"{"error":{"code":404,"message":"x"}}"#),
            Some(None)
        );
        assert_eq!(reason(br#"{"error":{"code":500}}"#), None);
        for other in ["<html>502</html>", "", "[]", r#"{"error":"x"}"#] {
            assert_eq!(reason(other.as_bytes()), None, "{other}");
        }
        let personal = br#"{"error":{"errors":[{"reason":"me@example.com"}]}}"#;
        assert_eq!(reason(personal), Some(None));
    }
}
