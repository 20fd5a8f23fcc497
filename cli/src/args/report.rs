//! Arguments of `ledger report`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

/// `ledger report`
#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    /// All that was found, per user and per item, with sums that add up and the proof of each line
    Deletions(ReportDeletions),
    /// What a user is told: what was removed, what was kept, and how to get it back
    Letter(ReportLetter),
}

/// `ledger report deletions`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReportDeletions {
    /// As a table for a spreadsheet, for a program, for a browser, or for paper and PDF
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    pub(crate) format: Format,
    /// Only items that this run found or worked on, or was to delete
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Only items of this plan: its hash, or at least its first 8 digits
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Into this new file of mode 0600 instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// RFC 4180, one table: users, totals, items
    Csv,
    /// One JSON document
    Json,
    /// One page that loads nothing
    Html,
    /// The same with page breaks, to be printed or saved as PDF
    #[value(alias = "pdf-ready-html")]
    Print,
}

/// `ledger report letter`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReportLetter {
    /// To whom: e-mail, id in the retired system, or subject
    #[arg(long, value_name = "EMAIL|UUID", required_unless_present = "all")]
    pub(crate) user: Option<String>,
    /// One letter for each user of whom something was found, or who could not be reached
    #[arg(long, conflicts_with = "user", requires = "out")]
    pub(crate) all: bool,
    /// Plain text or a page
    #[arg(long, value_enum, default_value_t = LetterFormat::Text)]
    pub(crate) format: LetterFormat,
    /// Whom to ask, as the letter is to say it
    #[arg(long, value_name = "TEXT")]
    pub(crate) contact: Option<String>,
    /// Into this new file of mode 0600 instead of standard output; with --all, into this folder
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Form of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LetterFormat {
    /// Plain text
    Text,
    /// One page that loads nothing
    Html,
}
