//! Arguments of `ledger cleanup observe`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Pace;

/// `ledger cleanup observe`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupObserve {
    /// The cleanup's run
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Credentials of your own instead of those that v1 stored: a file of mode 0600 with a line a user,
    /// {"user" or "account": …, "refresh_token" or "access_token": …}; good for reading is enough
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// v1's table of users, where both exist: perm_users or users
    #[arg(long, value_name = "TABLE")]
    pub(crate) users_table: Option<String>,
    #[command(flatten)]
    pub(crate) pace: Pace,
}
