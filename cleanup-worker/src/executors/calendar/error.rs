//! What can go wrong for a whole run over calendars, with what to do about each.

use std::time::Duration;

use crate::clients::convex::ExportError;
use crate::clients::google::{GoogleError, GoogleErrorKind, TokenError, TokenErrorKind};
use crate::clients::http::HttpSetupError;
use crate::clients::retry::Retryable as _;
use crate::clients::supabase::{SupabaseError, SupabaseErrorKind};
use crate::clients::{Effect, ErrorClass};
use crate::engine::{EngineError, with_causes};
use crate::executors::{ExecutorError, ItemError, Unreachable};
use ledger::store::spool::SpoolError;

/// What is nobody's fault alone: no user can be gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// v1 could not be read whole.
    #[error("read v1's users and cases from Supabase")]
    Supabase(#[from] SupabaseError),
    /// v1's OAuth client is wrong, so no user can be reached.
    #[error("ask Google for a token as v1's OAuth client")]
    Client(#[source] TokenError),
    /// v2 could not be read.
    #[error("read what v2 records")]
    Export(#[source] ExportError),
    /// No stored token opens with the key: it is another project's key.
    #[error("open v1's stored tokens: ENCRYPTION_KEY opens none of {0}")]
    EncryptionKey(usize),
    /// No case has the column of recorded ids: then nothing is known of what v1 wrote, and everything would pass for somebody else's.
    #[error(
        "read the event ids that v1 recorded: none of its {0} cases has a column calendar_event_ids"
    )]
    NoRecordedIds(usize),
    /// The HTTP client could not be made.
    #[error("set up the HTTP client")]
    Http(#[from] HttpSetupError),
    /// What was read, of v1, of v2 or of calendars, could not be kept here until it was needed.
    #[error("keep what was read")]
    Spool(#[from] SpoolError),
    /// Our clock and an outside service's differ too much.
    #[error("this machine's clock differs from {service}'s by {} s", skew.as_secs())]
    Clock {
        /// Which service.
        service: &'static str,
        /// By how much.
        skew: Duration,
    },
}

impl From<ExportError> for CalendarError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Keep(error) => Self::Spool(error),
            error => Self::Export(error),
        }
    }
}

impl CalendarError {
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Export(ExportError::Live { .. }) => {
                "check CONVEX_URL and CONVEX_DEPLOY_KEY (CONVEX_DEV_…), or give exports instead (--v2-export); nothing was deleted"
            }
            Self::Export(_) => "export v2 with `npx convex export --prod`",
            Self::EncryptionKey(_) => "set ENCRYPTION_KEY to v1's own; nothing was deleted",
            Self::Client(error) if error.kind == TokenErrorKind::Transient => {
                "check the network and GOOGLE_OAUTH_TOKEN_URL; nothing was deleted"
            }
            Self::Client(_) => "check GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET: v1's own",
            Self::Supabase(error) if error.class() == ErrorClass::Network => {
                "check the network and SUPABASE_URL; nothing was deleted"
            }
            Self::Supabase(error)
                if matches!(error.kind, SupabaseErrorKind::TwoUsersTables { .. }) =>
            {
                "give --users-table perm_users or users; nothing was deleted"
            }
            Self::Supabase(_) => {
                "check SUPABASE_URL and SUPABASE_KEY (the service role's key); nothing was deleted"
            }
            Self::NoRecordedIds(_) => {
                "check that SUPABASE_URL is v1's project and that its table cases is whole; nothing was deleted"
            }
            Self::Clock { .. } => "set this machine's clock",
            Self::Spool(_) => "free space in the folder for temporary files (TMPDIR)",
            Self::Http(_) => return None,
        })
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Export(error) => !matches!(error, ExportError::Live { .. }),
            Self::Supabase(error) => matches!(error.kind, SupabaseErrorKind::TwoUsersTables { .. }),
            _ => false,
        }
    }
}

impl From<CalendarError> for EngineError {
    fn from(error: CalendarError) -> Self {
        let (usage, hint) = (error.is_usage(), error.hint());
        let error = if usage {
            ExecutorError::usage(error)
        } else {
            ExecutorError::environment(error)
        };
        Self::Executor(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

/// For where it keeps a place from being opened.
impl From<CalendarError> for Unreachable {
    fn from(error: CalendarError) -> Self {
        Self {
            code: "failed".into(),
            class: ErrorClass::Server,
            status: None,
            attempt: 1,
            date: None,
            stops_run: false,
            reason: with_causes(&error),
        }
    }
}

impl From<&GoogleError> for ItemError {
    fn from(error: &GoogleError) -> Self {
        let class = error.class();
        Self {
            class,
            status: error.status(),
            attempt: error.failure.attempt,
            date: error.failure.date,
            retry_after: error.retry_after(),
            effect: error.effect(),
            may_pass: error.may_pass(),
            stops_user: matches!(class, ErrorClass::Auth | ErrorClass::Quota)
                || matches!(
                    error.reason.as_deref(),
                    Some("insufficientPermissions" | "requiredAccessLevel")
                ),
            stops_run: is_common(error),
            reason: with_causes(error),
        }
    }
}

/// Whether every user would meet it: the OAuth client is wrong, or its project may not use the interface.
fn is_common(error: &GoogleError) -> bool {
    match &error.kind {
        GoogleErrorKind::Token(token) => token.is_global(),
        _ => matches!(
            error.reason.as_deref(),
            Some("accessNotConfigured" | "SERVICE_DISABLED")
        ),
    }
}

impl From<GoogleError> for ItemError {
    fn from(error: GoogleError) -> Self {
        Self::from(&error)
    }
}

/// A fault that nobody caused outside: the executor was asked for what it does not know.
pub(super) fn unknown(what: &str) -> ItemError {
    ItemError {
        class: ErrorClass::Refused,
        status: None,
        attempt: 1,
        date: None,
        retry_after: None,
        effect: Effect::None,
        may_pass: false,
        stops_user: false,
        stops_run: false,
        reason: what.to_owned(),
    }
}

impl Unreachable {
    /// A user whose stored token cannot be used at all.
    pub(super) fn without_token(code: &'static str) -> Self {
        let (class, reason) = match code {
            "undecryptable" => (
                ErrorClass::Decrypt,
                "the stored token does not open with ENCRYPTION_KEY; the user has to connect again",
            ),
            "never_connected" => (
                ErrorClass::Auth,
                "v1 holds no token and recorded nothing: the user never connected a calendar",
            ),
            "unknown_owner" => (
                ErrorClass::NotFound,
                "v1's cases name this owner and its table of users does not, so nobody's token leads to the \
                 events: is it the right --users-table?",
            ),
            _ => (
                ErrorClass::Auth,
                "v1 holds no token that is to be used; events it left behind only the user can remove",
            ),
        };
        Self {
            code: code.into(),
            class,
            status: None,
            attempt: 0,
            date: None,
            stops_run: false,
            reason: reason.to_owned(),
        }
    }

    /// A user whose stored token was replaced and leads to another account than the plan's.
    pub(super) fn other_account() -> Self {
        Self {
            code: "wrong_account".into(),
            class: ErrorClass::Refused,
            status: None,
            attempt: 1,
            date: None,
            stops_run: false,
            reason: "the stored token was replaced after the plan was made and leads to another account: make \
                     a new plan"
                .to_owned(),
        }
    }

    /// A user whose token Google does not take.
    pub(super) fn token(error: &TokenError) -> Self {
        let (code, hint) = match error.kind {
            TokenErrorKind::DeadGrant => (
                "revoked",
                "the grant is revoked or expired; the user has to connect again",
            ),
            TokenErrorKind::Denied => (
                "denied",
                "the user's organisation does not allow it; ask its administrator",
            ),
            TokenErrorKind::Client => (
                "failed",
                "check GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, then run it again",
            ),
            TokenErrorKind::NotThisClients => (
                "failed",
                "Google does not take this grant from v1's OAuth client; the user has to connect again",
            ),
            _ => ("failed", "Google gave no token; run it again later"),
        };
        Self {
            code: code.into(),
            class: error.failure.class,
            status: error.failure.status,
            attempt: error.failure.attempt,
            date: error.failure.date,
            stops_run: error.is_global(),
            reason: format!("{}: {hint}", with_causes(error)),
        }
    }

    /// A user whose calendar does not answer.
    pub(super) fn calendar(error: &GoogleError) -> Self {
        if let GoogleErrorKind::Token(token) = &error.kind {
            return Self::token(token);
        }
        Self {
            code: "failed".into(),
            class: error.class(),
            status: error.status(),
            attempt: error.failure.attempt,
            date: error.failure.date,
            stops_run: is_common(error),
            reason: format!("{}: run it again later", with_causes(error)),
        }
    }
}
