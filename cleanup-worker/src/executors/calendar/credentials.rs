//! Credentials that an operator brings along: a file of JSON lines, each with the user or the account that it is for and a token, which for
//! looking need be good for reading alone. With them calendars are looked at, and events put back, without the retired system's database and
//! keys: when that system is gone.

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;

use super::executor::kinds;
use super::place::CalendarPlace;
use super::reader::Reader;
use super::writing::Writing;
use crate::clients::ErrorClass;
use crate::clients::http::WriteTransport;
use crate::engine::{EngineError, RunOptions};
use crate::executors::{Kinds, Place, Places, PlannedUser, Unreachable};
use crate::secrets::Secret;

/// The file cannot be used. No text holds anything out of it but the number of a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("read the file of credentials")]
    Read(#[source] std::io::Error),
    /// Others may read it.
    #[error("the file of credentials may be read by others (mode {mode:o}): chmod 600 it")]
    Mode {
        /// Its mode.
        mode: u32,
    },
    /// A line is not what it has to be.
    #[error(
        "line {line} of the credentials is not {{\"user\" or \"account\": …, \"refresh_token\" or \"access_token\": …}}"
    )]
    Line {
        /// Which, from 1.
        line: usize,
    },
}

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Id of the user in the retired system.
    user: Option<String>,
    /// The account's address, which is its calendar's id.
    account: Option<String>,
    refresh_token: Option<Secret>,
    access_token: Option<Secret>,
}

enum Token {
    Refresh(Secret),
    Access(Secret),
}

struct Credential {
    user: Option<String>,
    account: Option<String>,
    token: Token,
}

/// Calendars as whoever has these credentials reaches them.
pub struct CalendarCredentials {
    reader: Reader,
    writing: Writing,
    credentials: Vec<Credential>,
}

impl CalendarCredentials {
    /// Reads the file, which others must not be able to read.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn open(
        reader: Reader,
        options: &RunOptions,
        path: &Path,
    ) -> Result<Self, CredentialsError> {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(path).map_err(CredentialsError::Read)?;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Mode { mode });
        }
        let text = std::fs::read_to_string(path).map_err(CredentialsError::Read)?;
        Ok(Self {
            writing: Writing::new(&reader, options),
            reader,
            credentials: parse(&text)?,
        })
    }

    async fn reach(
        &self,
        place: &str,
        users: &[PlannedUser],
        writing: Option<WriteTransport>,
    ) -> Result<Box<dyn Place>, Unreachable> {
        let mut last = without(users);
        let mut matching = self.matching(place, users);
        while let Some(credential) = matching.pop() {
            let opened = self.open_with(credential, place, users, writing.clone());
            // One that is dead, or of another account, hides no other one. An access token is known to be dead only once it is used.
            match opened.await {
                Ok(opened) if matching.is_empty() => return Ok(Box::new(opened)),
                Ok(opened) => match opened.is_there().await {
                    Ok(true) => return Ok(Box::new(opened)),
                    Ok(false) => {}
                    Err(why) => last = why,
                },
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Those that may lead to a place, the best last: of its account, and before them of one of its users.
    fn matching(&self, place: &str, users: &[PlannedUser]) -> Vec<&Credential> {
        let mut of_users = Vec::new();
        let mut of_account = Vec::new();
        for one in self.credentials.iter().rev() {
            let account = one.account.as_deref();
            let is_of = |user: &PlannedUser| user.id.is_some() && user.id == one.user;
            if account.is_some_and(|account| account.eq_ignore_ascii_case(place)) {
                of_account.push(one);
            } else if users.iter().any(is_of) {
                of_users.push(one);
            }
        }
        of_users.append(&mut of_account);
        of_users
    }

    async fn open_with(
        &self,
        credential: &Credential,
        place: &str,
        users: &[PlannedUser],
        writing: Option<WriteTransport>,
    ) -> Result<CalendarPlace, Unreachable> {
        let user = users.first().and_then(|user| user.id.clone());
        let user = user.unwrap_or_else(|| place.to_owned());
        let google = &self.reader.google;
        let session = match &credential.token {
            Token::Refresh(token) => google.session(&user, token.clone()),
            Token::Access(token) => google.session_given(&user, token.clone()),
        };
        session
            .token()
            .await
            .map_err(|error| Unreachable::token(&error))?;
        // By the calendar's own id: an account that cannot see it gets no other one, and a cursor is the calendar's.
        Ok(CalendarPlace::named(google, writing, place, session, user))
    }
}

fn parse(text: &str) -> Result<Vec<Credential>, CredentialsError> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, text)| {
            let wrong = || CredentialsError::Line { line: n + 1 };
            let line: Line = serde_json::from_str(text).map_err(|_| wrong())?;
            let token = match (line.refresh_token, line.access_token) {
                (Some(token), None) => Token::Refresh(token),
                (None, Some(token)) => Token::Access(token),
                _ => return Err(wrong()),
            };
            if line.user.is_none() && line.account.is_none() {
                return Err(wrong());
            }
            Ok(Credential {
                user: line.user,
                account: line.account,
                token,
            })
        })
        .collect()
}

#[async_trait]
impl Places for CalendarCredentials {
    fn kinds(&self) -> Kinds {
        kinds()
    }

    async fn prepare(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// No address but those in the ledger.
    fn address(&self, _user: &str) -> Option<String> {
        None
    }

    async fn open(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let writing = self.writing.transport().await?;
        self.reach(place, users, Some(writing)).await
    }

    async fn look(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        self.reach(place, users, None).await
    }
}

fn without(users: &[PlannedUser]) -> Unreachable {
    let user = users.first().and_then(|user| user.id.as_deref());
    Unreachable {
        code: "no_credential".into(),
        class: ErrorClass::Auth,
        status: None,
        attempt: 0,
        date: None,
        stops_run: false,
        reason: match user {
            Some(user) => format!("the file of credentials has none for user {user}"),
            None => "the file of credentials has none for this account".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_names_whose_it_is_and_one_token() {
        let good = "{\"user\":\"u1\",\"refresh_token\":\"r\"}\n\n{\"account\":\"a@example.com\",\"access_token\":\"t\"}\n";
        assert_eq!(parse(good).map(|lines| lines.len()).ok(), Some(2));
        for bad in [
            "{\"user\":\"u1\"}",
            "{\"refresh_token\":\"r\"}",
            "{\"user\":\"u1\",\"refresh_token\":\"r\",\"access_token\":\"t\"}",
            "{\"user\":\"u1\",\"refresh_token\":\"r\",\"other\":1}",
            "not JSON with a secret-token in it",
        ] {
            let error = parse(&format!("\n{bad}")).err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.starts_with("line 2 "), "{bad}: {text}");
            assert!(!text.contains("secret-token"));
        }
    }
}
