//! Arguments of the commands that undo.

use clap::{ArgGroup, Args as ClapArgs, Subcommand, ValueEnum};

use super::{CalendarAccess, CommandProgram, Pace};

/// `ledger restore`
#[derive(Debug, Subcommand)]
pub(crate) enum Restore {
    /// Events that a cleanup deleted from users' Google calendars
    Calendar(Box<RestoreCalendar>),
    /// Items that a program of yours deleted
    Command(Box<RestoreCommand>),
    /// What came back, old id and new id, for those who recorded the old ones
    Export(RestoreExport),
}

/// `ledger restore calendar`
#[derive(Debug, ClapArgs)]
pub(crate) struct RestoreCalendar {
    #[command(flatten)]
    pub(crate) meant: Meant,
    #[command(flatten)]
    pub(crate) access: CalendarAccess,
}

/// `ledger restore command`
#[derive(Debug, ClapArgs)]
pub(crate) struct RestoreCommand {
    #[command(flatten)]
    pub(crate) program: CommandProgram,
    #[command(flatten)]
    pub(crate) meant: Meant,
}

/// What is to be put back, why, and how fast.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("meant").required(true).multiple(true).args(["event", "user", "run", "plan"]))]
pub(crate) struct Meant {
    /// Only this item: its id when it was deleted, or its subject
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// Only items of this user: e-mail, id in the retired system, or subject
    #[arg(long, value_name = "EMAIL|UUID")]
    pub(crate) user: Option<String>,
    /// Only items that this run deleted
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Only items that this plan named: its hash, or at least its first 8 digits
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Look at everything, change and record nothing, and say what would come back, by which way, and what would not come back with it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why; it stays in the log for ever, so name a case and no person
    #[arg(long, value_name = "TEXT", value_parser = super::kept_text)]
    pub(crate) reason: Option<String>,
    /// Leave items for which another live one stands; without it they are put back too, and there are two then
    #[arg(long)]
    pub(crate) leave_stand_ins: bool,
    #[command(flatten)]
    pub(crate) pace: Pace,
}

/// `ledger restore export`
#[derive(Debug, ClapArgs)]
pub(crate) struct RestoreExport {
    /// Only what this run put back, or had deleted
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Csv)]
    pub(crate) format: ExportFormat,
    /// Also what came back under its old id, which nobody has to re-point
    #[arg(long)]
    pub(crate) all: bool,
}

/// How `ledger restore export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// RFC 4180, with a header
    Csv,
    /// One JSON document
    Json,
}
