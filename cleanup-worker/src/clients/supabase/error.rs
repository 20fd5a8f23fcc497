//! PostgREST's errors.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::UsersTable;
use crate::clients::http::{Response, TransportError};
use crate::clients::retry::Retryable;
use crate::clients::{ErrorClass, Failure};

pub(super) const READ: &str = "supabase.rest.select";

/// A read of v1's database that did not succeed.
#[derive(Debug)]
pub struct SupabaseError {
    /// Class, status, attempt, the remote `Date`.
    pub failure: Box<Failure>,
    /// How it failed.
    pub kind: SupabaseErrorKind,
}

/// How a read failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupabaseErrorKind {
    /// The service answered with an error status.
    Answered(Box<PostgrestError>),
    /// There was no whole answer.
    Transport(Box<TransportError>),
    /// A success whose content is not what it has to be; what, in our words.
    Malformed(&'static str),
    /// Rows received and rows counted differ: no verdict can rest on this read.
    Incomplete {
        /// The table.
        table: String,
        /// Rows that came.
        received: u64,
        /// Rows that the server counted.
        total: u64,
    },
    /// Neither name of the users' table answers, or the chosen one does not.
    NoUsersTable {
        /// The operator's choice.
        chosen: Option<UsersTable>,
    },
    /// Both names of the users' table answer, and the operator has to choose.
    TwoUsersTables {
        /// Rows of `perm_users`.
        perm_users: u64,
        /// Rows of `users`.
        users: u64,
        /// Whether both hold the same ids.
        same_ids: bool,
    },
    /// The key works and sees no user at all.
    NoUsers {
        /// The table.
        table: UsersTable,
    },
}

/// The four fields of PostgREST's error body, with anything personal masked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostgrestError {
    /// PostgreSQL's or PostgREST's code (`42703`, `PGRST205`).
    pub code: Option<String>,
    /// What PostgREST adds.
    pub details: Option<String>,
    /// What it suggests.
    pub hint: Option<String>,
    /// What it says.
    pub message: Option<String>,
}

impl PostgrestError {
    fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |name: &str| body.get(name)?.as_str().map(mask);
        Self {
            code: field("code"),
            details: field("details"),
            hint: field("hint"),
            message: field("message"),
        }
    }
}

/// Keeps the words of a message and drops what could be somebody's: words with `@`, long opaque words, and values in brackets after `=`.
fn mask(text: &str) -> String {
    let masked = text.split(' ').map(|word| {
        let opaque = word.len() > 40 || word.starts_with("eyJ") || word.contains(")=(");
        if word.contains('@') || opaque {
            "[masked]"
        } else {
            word
        }
    });
    masked
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}

impl fmt::Display for SupabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SupabaseErrorKind::Answered(body) => {
                write!(f, "{}", self.failure)?;
                for text in [&body.code, &body.message].into_iter().flatten() {
                    write!(f, ": {text}")?;
                }
                match self.failure.status {
                    Some(540) => f.write_str(": the project is paused"),
                    Some(401) => f.write_str(": SUPABASE_KEY is not a key of this project"),
                    _ => Ok(()),
                }
            }
            SupabaseErrorKind::Transport(_) => write!(f, "{}", self.failure),
            SupabaseErrorKind::Malformed(what) => write!(f, "{}: {what}", self.failure),
            SupabaseErrorKind::Incomplete { table, received, total } => write!(
                f,
                "read v1's table {table}: {received} rows came and {total} were counted, so the read is not complete; freeze v1 and read again"
            ),
            SupabaseErrorKind::NoUsersTable { chosen: None } => f.write_str(
                "find v1's users: there is neither a table perm_users nor users; is SUPABASE_URL v1's project?",
            ),
            SupabaseErrorKind::NoUsersTable { chosen: Some(table) } => {
                write!(f, "find v1's users: there is no table {}, which was chosen", table.name())
            }
            SupabaseErrorKind::TwoUsersTables { perm_users, users, same_ids } => write!(
                f,
                "find v1's users: both perm_users ({perm_users} rows) and users ({users} rows) exist, with {} ids; choose one with --users-table",
                if *same_ids { "the same" } else { "different" }
            ),
            SupabaseErrorKind::NoUsers { table } => write!(
                f,
                "read v1's users: {} has 0 rows for this key, which is no success; an anon key, or row-level security, hides rows without an error: use the service role key",
                table.name()
            ),
        }
    }
}

impl Error for SupabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            SupabaseErrorKind::Transport(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl SupabaseError {
    pub(super) fn new(attempt: u32, class: ErrorClass, kind: SupabaseErrorKind) -> Self {
        let failure = Failure {
            operation: READ,
            class,
            status: None,
            attempt,
            date: None,
            retry_after: None,
        };
        Self {
            failure: Box::new(failure),
            kind,
        }
    }

    pub(super) fn with_answer(mut self, answer: &Response) -> Self {
        self.failure.status = Some(answer.status);
        self.failure.date = answer.date;
        self.failure.retry_after = answer.retry_after();
        self
    }

    pub(super) fn answered(attempt: u32, answer: &Response) -> Self {
        let class = match answer.status {
            401 => ErrorClass::Auth,
            404 => ErrorClass::NotFound,
            429 => ErrorClass::Quota,
            200..=299 | 408 | 500.. => ErrorClass::Server,
            _ => ErrorClass::Refused,
        };
        let body = Box::new(PostgrestError::read(&answer.body));
        Self::new(attempt, class, SupabaseErrorKind::Answered(body)).with_answer(answer)
    }

    pub(super) fn transport(attempt: u32, source: TransportError) -> Self {
        let class = source.class();
        let status = source.status();
        let mut error = Self::new(
            attempt,
            class,
            SupabaseErrorKind::Transport(Box::new(source)),
        );
        error.failure.status = status;
        error
    }

    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        self.failure.class
    }

    /// Whether rows and count differed.
    pub fn is_incomplete(&self) -> bool {
        matches!(self.kind, SupabaseErrorKind::Incomplete { .. })
    }

    fn code(&self) -> Option<&str> {
        match &self.kind {
            SupabaseErrorKind::Answered(body) => body.code.as_deref(),
            _ => None,
        }
    }

    pub(super) fn is_no_such_table(&self) -> bool {
        matches!(self.code(), Some("PGRST205" | "42P01"))
    }

    /// No such column, or no such way to order by it: the query is at fault and not the table.
    pub(super) fn is_query_refused(&self) -> bool {
        self.failure.status == Some(400)
    }
}

impl Retryable for SupabaseError {
    fn may_pass(&self) -> bool {
        match &self.kind {
            SupabaseErrorKind::Transport(error) => error.may_pass(),
            SupabaseErrorKind::Malformed(_) => true,
            // 540 is Supabase's "project paused": it stays so until a person resumes it.
            SupabaseErrorKind::Answered(_) => {
                matches!(self.failure.class, ErrorClass::Server | ErrorClass::Quota)
                    && self.failure.status != Some(540)
            }
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_fields_are_kept_and_nothing_personal() {
        let body = br#"{"code":"42703","details":null,"hint":"Perhaps you meant \"users.email\".","message":"column users.mail does not exist"}"#;
        let error = PostgrestError::read(body);
        assert_eq!(error.code.as_deref(), Some("42703"));
        assert_eq!(error.details, None);
        assert_eq!(
            error.hint.as_deref(),
            Some("Perhaps you meant \"users.email\".")
        );
        assert_eq!(
            error.message.as_deref(),
            Some("column users.mail does not exist")
        );
        let personal =
            mask("Key (email)=(me@example.com) and (id)=(7) of a@example.com eyJhbGci.x");
        assert_eq!(personal, "Key [masked] and [masked] of [masked] [masked]");
        assert_eq!(PostgrestError::read(b"<html>"), PostgrestError::default());
    }
}
