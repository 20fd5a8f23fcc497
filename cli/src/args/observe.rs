//! Arguments of `ledger cleanup observe`.

use clap::Args as ClapArgs;

use super::{CalendarAccess, Pace};

/// `ledger cleanup observe`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupObserve {
    /// The cleanup's run
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) access: CalendarAccess,
    #[command(flatten)]
    pub(crate) pace: Pace,
}
