//! Arguments of the commands about items that a program handles.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{Caution, Pace};

/// `ledger cleanup command`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupCommand {
    #[command(flatten)]
    pub(crate) program: CommandProgram,
    /// Look at everything, change nothing, and seal what would be deleted as a plan
    #[arg(
        long,
        conflicts_with = "plan",
        required_unless_present = "plan",
        requires = "policy"
    )]
    pub(crate) dry_run: bool,
    /// Execute this approved plan: its hash, or at least its first 8 digits
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Rules of identification over the signals that the program declares
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    pub(crate) policy: Option<PathBuf>,
    /// Another command that counts the items and prints the number; nothing is sealed where it differs
    #[arg(long, value_name = "COMMAND", conflicts_with = "plan")]
    pub(crate) count_command: Option<String>,
    #[command(flatten)]
    pub(crate) pace: Pace,
    #[command(flatten)]
    pub(crate) caution: Caution,
}

/// `ledger worker command`
#[derive(Debug, ClapArgs)]
pub(crate) struct WorkerCommand {
    #[command(flatten)]
    pub(crate) program: CommandProgram,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// End when no run is under way, instead of waiting for the next
    #[arg(long)]
    pub(crate) until_idle: bool,
}

/// The program.
#[derive(Debug, ClapArgs)]
pub(crate) struct CommandProgram {
    /// The program, with its arguments; words are separated by blanks and grouped by quotes
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: String,
    /// When the new system went live; part of the plan, so a live run takes the dry run's, or a later one
    #[arg(long, value_name = "TIME")]
    pub(crate) go_live: Option<String>,
}
