//! With what calendars are reached once the cleanup is over.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Whose credentials.
#[derive(Debug, ClapArgs)]
pub(crate) struct CalendarAccess {
    /// Credentials of your own instead of those that v1 stored, which need not be there any more: a file of mode 0600 with a line a user,
    /// {"user" or "account": …, "refresh_token" or "access_token": …}; where nothing is put back, good for reading is enough
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// v1's table of users, where both exist: perm_users or users
    #[arg(long, value_name = "TABLE", conflicts_with = "credentials")]
    pub(crate) users_table: Option<String>,
}

impl CalendarAccess {
    /// Something was said about it.
    pub(crate) fn is_given(&self) -> bool {
        self.credentials.is_some() || self.users_table.is_some()
    }
}
