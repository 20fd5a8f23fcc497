//! Arguments of `ledger review`.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use ledger::domain::custody::State;
use ledger::domain::identify::Disposition;
use ledger::domain::review::Decision;

use super::CalendarAccess;

/// `ledger review`
#[derive(Debug, Subcommand)]
pub(crate) enum Review {
    /// What was deleted, whose, why, who approved it and where its backup is; and what was left alone
    Deletions(ReviewDeletions),
    /// The items of a plan, with filters
    List(ReviewList),
    /// Why one item was or was not deleted, in plain words, each statement with the entry that says so
    Explain(ReviewExplain),
    /// Decide about items that are held, which makes a new plan to be approved; not for who made the plan
    Decide(ReviewDecide),
    /// Close a run: somebody who did not do the work has looked at what it did
    SignOff(ReviewSignOff),
    /// Users for a spot check, picked so that somebody else picks the same: what the log says of each, and what is there now
    Sample(ReviewSample),
}

/// `ledger review deletions`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewDeletions {
    /// Only items that this run found or worked on, or was to delete
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Only items of this user: e-mail, id in the retired system, or subject
    #[arg(long, value_name = "EMAIL|UUID")]
    pub(crate) user: Option<String>,
    /// As the ledger was at this number or time
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) as_of: Option<String>,
}

/// `ledger review list`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewList {
    /// Of this plan: its hash, or at least its first 8 digits; the last sealed one, if left out
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Only this class; can be given several times
    #[arg(long = "class", value_name = "CLASS")]
    pub(crate) classes: Vec<String>,
    /// Only this disposition: delete, hold, protect, done or out_of_reach; can be given several times
    #[arg(long = "disposition", value_name = "DISPOSITION", value_parser = disposition)]
    pub(crate) dispositions: Vec<Disposition>,
    /// Only items of this user: e-mail, id in the retired system, or subject
    #[arg(long, value_name = "EMAIL|UUID")]
    pub(crate) user: Option<String>,
    /// Only what is in this state now: planned, deleted, held, excluded, …; can be given several times
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    pub(crate) states: Vec<State>,
    /// Only future deadlines to be deleted that nothing in the new system stands for
    #[arg(long)]
    pub(crate) uncovered: bool,
}

/// `ledger review explain`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewExplain {
    /// The item: its id in the outside system, its subject, or the number of an entry about it
    pub(crate) event: String,
    /// As the ledger was at this number or time
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) as_of: Option<String>,
}

/// `ledger review decide`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewDecide {
    /// The items: id in the outside system, subject, or number of an entry about it
    #[arg(required = true, value_name = "EVENT")]
    pub(crate) events: Vec<String>,
    /// What is to become of them
    #[arg(value_enum)]
    pub(crate) decision: Choice,
    /// Why, in words that the item's owner may read; name a case and no person
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Of this plan: its hash, or at least its first 8 digits; the last sealed one, if left out
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
}

/// A decision as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// It goes, once the new plan is approved
    Delete,
    /// It stays, whatever a later plan makes of it
    Keep,
}

impl From<Choice> for Decision {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Delete => Self::Delete,
            Choice::Keep => Self::Keep,
        }
    }
}

/// `ledger review sign-off`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewSignOff {
    /// The run
    #[arg(value_name = "UUID")]
    pub(crate) run: String,
    /// What is to be known beside it; it stays in the log for ever, so name a case and no person
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `ledger review sample`
#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewSample {
    /// How many users
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) users: usize,
    /// The same seed picks the same users; take one that nobody could choose, such as a hash of the day
    #[arg(long, value_name = "TEXT")]
    pub(crate) seed: String,
    /// Only items that this run worked on
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Only items of this plan: its hash, or at least its first 8 digits
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// What the log says and no more; otherwise the picked users' items are read again, now and where they lie, with the environment
    /// of a cleanup or with --credentials
    #[arg(long)]
    pub(crate) log_only: bool,
    #[command(flatten)]
    pub(crate) access: CalendarAccess,
}

fn disposition(text: &str) -> Result<Disposition, String> {
    let known = Disposition::ALL.into_iter().find(|it| it.name() == text);
    let names = || Disposition::ALL.map(Disposition::name).join(", ");
    known.ok_or_else(|| format!("must be one of {}", names()))
}

fn state(text: &str) -> Result<State, String> {
    let name = |state: &State| crate::commands::word(state);
    let known = State::ALL.into_iter().find(|state| name(state) == text);
    let names = || State::ALL.iter().map(name).collect::<Vec<_>>().join(", ");
    known.ok_or_else(|| format!("must be one of {}", names()))
}
