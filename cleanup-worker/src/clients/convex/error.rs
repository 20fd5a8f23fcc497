//! Convex's errors: a body `{"code": …, "message": …}`, of which the status and the code decide.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use ledger::store::spool::SpoolError;
use serde_json::Value;

use super::ExportError;
use crate::clients::http::{Response, TransportError};
use crate::clients::retry::Retryable;
use crate::clients::{ErrorClass, Failure, machine_word};

/// The code of an answer that says that the plan has no streaming export.
const NO_STREAMING: &str = "StreamingExportNotEnabled";
/// The code of an answer that says that another export is not done yet.
const EXPORT_IN_PROGRESS: &str = "ExportInProgress";

/// A read of a deployment that did not succeed.
#[derive(Debug)]
pub struct ConvexError {
    /// Class, status, attempt, the remote `Date`.
    pub failure: Box<Failure>,
    /// Convex's code, where there was one.
    pub code: Option<String>,
    /// How it failed.
    pub kind: ConvexErrorKind,
}

/// How a read failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConvexErrorKind {
    /// The service answered with an error status.
    Answered,
    /// There was no whole answer.
    Transport(Box<TransportError>),
    /// A success whose content is not what it has to be; what, in our words.
    Malformed(&'static str),
    /// The pages lead in a circle, or never end.
    PageLoop,
    /// The deployment has no such table.
    NoTable(&'static str),
    /// A document is not what it has to be; which table, its `_id` where it has one, and what is wrong.
    Document(&'static str, String, &'static str),
    /// The deployment says that its export failed.
    ExportFailed,
    /// The export did not become complete in this time.
    ExportUnfinished(Duration),
    /// The export that was downloaded cannot be read.
    Export(Box<ExportError>),
    /// What was read could not be kept here; the deployment is not to blame.
    Keep(SpoolError),
}

impl fmt::Display for ConvexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ConvexErrorKind::Answered => {
                write!(f, "{}", self.failure)?;
                if let Some(code) = &self.code {
                    write!(f, ": {code}")?;
                }
                match self.failure.status {
                    Some(401 | 403) if !self.is_no_streaming() => {
                        f.write_str(": the deploy key is not one of this deployment")
                    }
                    _ => Ok(()),
                }
            }
            ConvexErrorKind::Transport(_) => write!(f, "{}", self.failure),
            ConvexErrorKind::Malformed(what) => write!(f, "{}: {what}", self.failure),
            ConvexErrorKind::PageLoop => write!(f, "{}: the pages lead in a circle", self.failure),
            ConvexErrorKind::NoTable(table) => write!(
                f,
                "there is no table {table}: is the address that of v2's deployment?"
            ),
            ConvexErrorKind::Document(table, id, what) if id.is_empty() => {
                write!(f, "a document of the table {table} cannot be read: {what}")
            }
            ConvexErrorKind::Document(table, id, what) => {
                write!(
                    f,
                    "the document {id} of the table {table} cannot be read: {what}"
                )
            }
            ConvexErrorKind::ExportFailed => {
                f.write_str("the deployment says that its export failed; run it again")
            }
            ConvexErrorKind::ExportUnfinished(limit) => write!(
                f,
                "the export was not complete within {} s; run it again later, or give one with --v2-export",
                limit.as_secs()
            ),
            ConvexErrorKind::Export(_) => f.write_str("read the export that was downloaded"),
            ConvexErrorKind::Keep(_) => f.write_str("keep what was read"),
        }
    }
}

impl Error for ConvexError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ConvexErrorKind::Transport(error) => Some(error.as_ref()),
            ConvexErrorKind::Export(error) => Some(error.as_ref()),
            ConvexErrorKind::Keep(error) => Some(error),
            _ => None,
        }
    }
}

impl ConvexError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        self.failure.class
    }

    pub(super) fn new(
        operation: &'static str,
        attempt: u32,
        class: ErrorClass,
        kind: ConvexErrorKind,
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
            code: None,
            kind,
        }
    }

    fn with_answer(mut self, answer: &Response) -> Self {
        self.failure.status = Some(answer.status);
        self.failure.date = answer.date;
        self.failure.retry_after = answer.retry_after();
        self
    }

    pub(super) fn answered(operation: &'static str, attempt: u32, answer: &Response) -> Self {
        let class = match answer.status {
            401 | 403 => ErrorClass::Auth,
            404 => ErrorClass::NotFound,
            429 => ErrorClass::Quota,
            // 560 is Convex's own: a function failed, and will again.
            560 => ErrorClass::Refused,
            200..=299 | 408 | 500.. => ErrorClass::Server,
            _ => ErrorClass::Refused,
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut error =
            Self::new(operation, attempt, class, ConvexErrorKind::Answered).with_answer(answer);
        error.code = body["code"].as_str().and_then(machine_word);
        error
    }

    pub(super) fn transport(operation: &'static str, attempt: u32, source: TransportError) -> Self {
        let class = source.class();
        let status = source.status();
        let kind = ConvexErrorKind::Transport(Box::new(source));
        let mut error = Self::new(operation, attempt, class, kind);
        error.failure.status = status;
        error
    }

    pub(super) fn malformed(
        operation: &'static str,
        attempt: u32,
        answer: &Response,
        what: &'static str,
    ) -> Self {
        let kind = ConvexErrorKind::Malformed(what);
        Self::new(operation, attempt, ErrorClass::Server, kind).with_answer(answer)
    }

    fn refusal(&self) -> Option<&str> {
        let refused = matches!(self.kind, ConvexErrorKind::Answered)
            && self.failure.status.is_some_and(|status| status < 500);
        self.code.as_deref().filter(|_| refused)
    }

    /// The plan has no streaming export: an export has to be asked for.
    pub(super) fn is_no_streaming(&self) -> bool {
        self.refusal() == Some(NO_STREAMING)
    }

    /// Another export has to be complete first.
    pub(super) fn is_export_in_progress(&self) -> bool {
        self.refusal() == Some(EXPORT_IN_PROGRESS)
    }
}

impl Retryable for ConvexError {
    fn may_pass(&self) -> bool {
        match &self.kind {
            ConvexErrorKind::Transport(error) => error.may_pass(),
            ConvexErrorKind::Malformed(_) => true,
            ConvexErrorKind::Answered => {
                matches!(self.failure.class, ErrorClass::Server | ErrorClass::Quota)
            }
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }
}
