//! Arguments of `ledger cleanup observe`.

use clap::Args as ClapArgs;

use super::{CalendarAccess, Pace};

/// `ledger cleanup observe`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupObserve {
    /// The cleanup's run
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The program that handles the items, where they are none that this one knows; it is told to change nothing
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["credentials", "users_table"])]
    pub(crate) exec: Option<String>,
    #[command(flatten)]
    pub(crate) access: CalendarAccess,
    #[command(flatten)]
    pub(crate) pace: Pace,
}
