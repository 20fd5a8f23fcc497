//! The command line.

mod calendars;
mod command;
mod export;
mod observe;
mod proof;
mod report;
mod restore;
mod review;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use ledger::domain::review::{KEPT_CHARS_MAX, may_be_kept};

pub(crate) use self::calendars::CalendarAccess;
pub(crate) use self::command::{CleanupCommand, CommandProgram, WorkerCommand};
pub(crate) use self::export::Export;
pub(crate) use self::observe::CleanupObserve;
pub(crate) use self::proof::{Checkpoint, CheckpointCommand, Key, Prove};
pub(crate) use self::report::{Format, LetterFormat, Report, ReportDeletions, ReportLetter};
pub(crate) use self::restore::{
    ExportFormat, Meant, Restore, RestoreCalendar, RestoreCommand, RestoreExport,
};
pub(crate) use self::review::{
    Review, ReviewDecide, ReviewDeletions, ReviewExplain, ReviewList, ReviewSample, ReviewSignOff,
};

/// Proves that a migration lost nothing: every action in a hash-chained log, answers folded from it.
#[derive(Debug, Parser)]
#[command(name = "ledger", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Ledger to use, by name or UUID; not needed where there is only one
    #[arg(
        long,
        global = true,
        value_name = "NAME|UUID",
        env = "LEDGER",
        hide_env_values = true
    )]
    pub(crate) ledger: Option<String>,
    /// One JSON document (or one a line) on standard output instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Who acts; else LEDGER_ACTOR, else person:<login name>
    #[arg(long = "as", global = true, value_name = "PERSON")]
    pub(crate) actor: Option<String>,
    /// More about what is going on, on standard error; twice for all of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a ledger, and before the first one prepare the database
    Init(Init),
    /// Record entries, one JSON object a line on standard input
    Append(Append),
    /// Read entries in order
    Log(Log),
    /// Show one entry with its payload
    Show(Show),
    /// Check every entry, payload, link, identity and guard
    Verify(Verify),
    /// Sign what the ledger holds, and show what was signed
    Checkpoint(Checkpoint),
    /// The keys that sign checkpoints
    #[command(subcommand)]
    Key(Key),
    /// Prove that an entry is in the last checkpoint, or that this extends an older one
    Prove(Prove),
    /// Copy entries out: a bundle that anybody can check offline, or the whole tree as files
    Export(Export),
    /// Find and delete what the retired system left behind
    #[command(subcommand)]
    Cleanup(Cleanup),
    /// Put back what a cleanup deleted
    #[command(subcommand)]
    Restore(Restore),
    /// More hands for live runs that are under way
    #[command(subcommand)]
    Worker(Worker),
    /// The whole story on simulators: cleanup, faults, a kill, the answers, an intruder
    Demo(Demo),
    /// Approve a plan that somebody else made, for 24 hours, or a requested erasure, for 7 days
    Approve(Approve),
    /// Was any data lost?
    Loss(Loss),
    /// What was done, told item by item, for a review
    #[command(subcommand)]
    Review(Review),
    /// What goes out to people: the report of deletions, and a letter to each user
    #[command(subcommand)]
    Report(Report),
    /// Watch other ledgers: cosign their checkpoints where each extends the last
    Witness(Witness),
    /// Destroy all that is held on an owner: ask for it, and, when two persons have approved, do it
    Erase(Erase),
    /// Legal holds: what may not be erased
    #[command(subcommand)]
    Hold(Hold),
    /// How long what is about a kind of subject is kept
    #[command(subcommand)]
    Retention(Retention),
    /// What is held on one person
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// Measure append and verify beside raw SQL, in a database of its own that is removed again
    Bench(Bench),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `ledger init`
#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// Name of the ledger: a-z, 0-9 and . _ -
    #[arg(default_value = "migration")]
    pub(crate) name: String,
    /// First part of the checkpoints' origin, a host name or path that is yours; the name, if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
    /// A person who may act; can be given several times
    #[arg(long = "person", value_name = "NAME")]
    pub(crate) persons: Vec<String>,
    /// For tests and demonstrations: the caller gives the time of recording, starting here
    #[arg(long, value_name = "TIME")]
    pub(crate) simulated_clock: Option<String>,
}

/// `ledger append`
#[derive(Debug, ClapArgs)]
pub(crate) struct Append {
    /// Time of recording, in a ledger with a simulated clock
    #[arg(long, value_name = "TIME")]
    pub(crate) recorded_at: Option<String>,
}

/// `ledger log`
#[derive(Debug, ClapArgs)]
pub(crate) struct Log {
    /// From this number on
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<u64>,
    /// Up to and with this number
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<u64>,
    /// As the ledger was at this number or time
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) as_of: Option<String>,
    /// Only this type; can be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only about this subject: kind:uuid, or kind:name as it was given to `append`
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Only of this run
    #[arg(long, value_name = "UUID")]
    pub(crate) run: Option<String>,
    /// Go on with what is appended from now on, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// `ledger show`
#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// Number of the entry
    pub(crate) seq: u64,
}

/// `ledger verify`
#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// A head that was kept outside, to be found again; can be given several times
    #[arg(long = "head", value_name = "SEQ:HASH")]
    pub(crate) heads: Vec<String>,
    /// A checkpoint that was kept outside: what the ledger holds now has to extend it; can be given several times
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Key to check a checkpoint or bundle by, instead of the keys that the ledger or the bundle names; can be given several times
    #[arg(long = "vkey", value_name = "VKEY")]
    pub(crate) vkeys: Vec<String>,
    /// Policy (C2SP tlog-policy): its witnesses must have cosigned a checkpoint, which then anchors the ledger; or the bundle's
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Read only what lies behind this checkpoint, which was verified before: a file, or the size of a stored one
    #[arg(long, value_name = "FILE|SIZE")]
    pub(crate) since: Option<String>,
    /// Check a bundle that `ledger export` wrote, and nothing else: offline, without a database
    #[arg(long, value_name = "FILE", conflicts_with_all = ["heads", "checkpoints", "receipts", "since"])]
    pub(crate) bundle: Option<PathBuf>,
    /// Log file of a run: each entry that it was told of has to be there; can be given several times
    #[arg(long, value_name = "RUNLOG")]
    pub(crate) receipts: Vec<PathBuf>,
}

/// `ledger demo`
#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// Users of the made-up v1
    #[arg(long, default_value_t = 30)]
    pub(crate) users: usize,
    /// Calendar events per user, about
    #[arg(long, default_value_t = 20)]
    pub(crate) events_per_user: usize,
    /// The same seed makes the same world
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
}

/// `ledger cleanup`
#[derive(Debug, Subcommand)]
pub(crate) enum Cleanup {
    /// v1's events in users' Google calendars
    Calendar(Box<CleanupCalendar>),
    /// Look once more at what a run left behind, now or later, also with credentials of your own
    Observe(CleanupObserve),
    /// Items that a program of yours knows how to find and delete (docs/executor-protocol.md)
    Command(Box<CleanupCommand>),
    /// Items of a built-in kind, named by it: `cleanup --kind calendar-event` is `cleanup calendar`
    #[command(long_flag = "kind")]
    Kind(Box<CleanupKind>),
}

/// `ledger cleanup --kind`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupKind {
    /// The kind
    pub(crate) kind: BuiltInKind,
    #[command(flatten)]
    pub(crate) calendar: CleanupCalendar,
}

/// The kinds of items that need no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BuiltInKind {
    /// v1's events in users' Google calendars
    CalendarEvent,
}

/// `ledger cleanup calendar`
#[derive(Debug, ClapArgs)]
pub(crate) struct CleanupCalendar {
    /// Look at everything, change nothing, and seal what would be deleted as a plan
    #[arg(long, conflicts_with = "plan")]
    pub(crate) dry_run: bool,
    /// Execute this approved plan: its hash, or at least its first 8 digits; if left out the one that was begun and has not ended, else the last
    /// one
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    #[command(flatten)]
    pub(crate) sources: CalendarSources,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Rules of identification, instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) caution: Caution,
}

/// `ledger worker`
#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// v1's events in users' Google calendars
    Calendar(Box<WorkerCalendar>),
    /// Items that a program of yours handles
    Command(Box<WorkerCommand>),
}

/// `ledger worker calendar`
#[derive(Debug, ClapArgs)]
pub(crate) struct WorkerCalendar {
    #[command(flatten)]
    pub(crate) sources: CalendarSources,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// End when no run is under way, instead of waiting for the next
    #[arg(long)]
    pub(crate) until_idle: bool,
}

/// Where the calendars' executor reads.
#[derive(Debug, ClapArgs)]
pub(crate) struct CalendarSources {
    /// An export of v2's production (ZIP or folder), where that is not read live (CONVEX_URL), or of a
    /// further deployment. For a live run not older than --v2-max-age
    #[arg(long = "v2-export", value_name = "PATH")]
    pub(crate) v2_exports: Vec<PathBuf>,
    /// The same of v2's development deployment (CONVEX_DEV_URL), which wrote events before going live
    #[arg(long = "v2-dev-export", value_name = "PATH")]
    pub(crate) v2_dev_exports: Vec<PathBuf>,
    /// How old what is known of v2 may be when an event is deleted
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub(crate) v2_max_age: Duration,
    /// When v2 went live; part of the plan, so a live run takes the dry run's, or a later one
    #[arg(long, value_name = "TIME")]
    pub(crate) go_live: Option<String>,
    /// When v1 stopped writing; the time of going live, if left out
    #[arg(long, value_name = "TIME")]
    pub(crate) freeze: Option<String>,
    /// v1's table of users, where both exist: perm_users or users
    #[arg(long, value_name = "TABLE")]
    pub(crate) users_table: Option<String>,
}

/// How fast it goes, and where it writes what it did.
#[derive(Debug, ClapArgs)]
pub(crate) struct Pace {
    /// Users start this far apart, over all workers of a run
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) user_interval: Duration,
    /// Users worked on at the same time, by this process
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) users_at_once: usize,
    /// Folder for the run's log file
    #[arg(long, value_name = "DIR", default_value = "logs")]
    pub(crate) log_dir: PathBuf,
    /// Name users' addresses in the log file, which only its owner can read
    #[arg(long)]
    pub(crate) log_emails: bool,
}

/// What keeps a live run from going too far.
#[derive(Debug, ClapArgs)]
pub(crate) struct Caution {
    /// Run before go-live + 24 h, or without --go-live, for this reason; it is recorded
    #[arg(long, value_name = "REASON", value_parser = kept_text)]
    pub(crate) r#override: Option<String>,
    /// Only the first N users; the rest begins after somebody else has looked (ledger approve HASH --canary)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) canary: Option<u64>,
    /// Stop where more than this share of the items is held or not done, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) bad_percent_max: u64,
    /// Fewer items than this say nothing about that share
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bad_items_min: u64,
    /// Do not begin a plan that deletes more than this of one user
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub(crate) user_deletions_max: u64,
}

/// Reads `90s`, `30m`, `24h`, `250ms`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "must look like 1s, 30m or 24h".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        "d" => Ok(Duration::from_secs(number * 86_400)),
        _ => Err("must end in ms, s, m, h or d".to_owned()),
    }
}

/// A text that stays in the log for ever.
fn kept_text(text: &str) -> Result<String, String> {
    if may_be_kept(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "it must have 1 to {KEPT_CHARS_MAX} characters and no @: it stays in the log for ever"
        ))
    }
}

/// `ledger approve`
#[derive(Debug, ClapArgs)]
pub(crate) struct Approve {
    /// Hash of the plan or of the request's entry, or its first 8 or more hex digits; the request's id
    pub(crate) plan: String,
    /// Let the rest of the plan begin, after its canary was looked at
    #[arg(long)]
    pub(crate) canary: bool,
    /// Time of recording, in a ledger with a simulated clock
    #[arg(long, value_name = "TIME")]
    pub(crate) recorded_at: Option<String>,
}

/// `ledger erase`
#[derive(Debug, ClapArgs)]
pub(crate) struct Erase {
    /// Whose data: kind:uuid, or kind:name as it was given to `append`
    pub(crate) subject: String,
    /// Ask for it, for this reason; it stays in the log for ever, so name a case and no person
    #[arg(long, value_name = "TEXT", requires = "legal_basis")]
    pub(crate) reason: Option<String>,
    /// By which law or contract
    #[arg(long, value_name = "TEXT", requires = "reason")]
    pub(crate) legal_basis: Option<String>,
    /// Ask for it against a legal hold, a retention or an altered payload, for this reason
    #[arg(long, value_name = "REASON", requires = "reason")]
    pub(crate) r#override: Option<String>,
    /// Until when copies of the key-encryption key may exist elsewhere: till then backups still reveal
    #[arg(long, value_name = "TIME", requires = "reason")]
    pub(crate) copies_until: Option<String>,
}

/// `ledger hold`
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Forbid the erasure of a subject, or of everything
    Place {
        /// kind:uuid, or kind:name as it was given to `append`; everything, if left out
        subject: Option<String>,
        /// Why; it stays in the log for ever, so name a case and no person
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold
    Lift {
        /// Number of the entry that placed it
        seq: u64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Holds that are in force
    List,
}

/// `ledger retention`
#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Keep what is about subjects of a kind until a time; said again, the last time counts
    Set {
        /// Kind of the subjects: calendar-event
        kind: String,
        /// Until when: the end of the window in which a deletion can be undone, say
        #[arg(long, value_name = "TIME")]
        until: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// What is kept until when
    List,
}

/// `ledger subject`
#[derive(Debug, Subcommand)]
pub(crate) enum SubjectCommand {
    /// Everything held on an owner as one JSON document; that it was handed out is an entry
    Export(SubjectExport),
}

/// `ledger subject export`
#[derive(Debug, ClapArgs)]
pub(crate) struct SubjectExport {
    /// Whose data, kind:uuid
    #[arg(required_unless_present = "natural")]
    pub(crate) subject: Option<String>,
    /// Whose data, by the id that the outside gives it: user:ann@example.com
    #[arg(long, value_name = "KIND:ID", conflicts_with = "subject")]
    pub(crate) natural: Option<String>,
    /// Into this new file of mode 0600 instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `ledger loss`
#[derive(Debug, ClapArgs)]
pub(crate) struct Loss {
    /// As the ledger was at this number or time
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) as_of: Option<String>,
    /// Answer for this scope alone; can be given several times
    #[arg(long = "scope", value_name = "SCOPE", value_enum)]
    pub(crate) scopes: Vec<ScopeName>,
    /// A checkpoint that was kept outside: up to there the answer is anchored; can be given several times
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Policy (C2SP tlog-policy) whose witnesses must have cosigned a checkpoint, which then anchors the answer
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// A scope as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScopeName {
    /// Calendar events
    Calendar,
    /// Records of the database
    Records,
    /// Files in storage
    Files,
}

/// `ledger bench`
#[derive(Debug, ClapArgs)]
pub(crate) struct Bench {
    /// Entries that 32 and 256 writers append in each round; one writer appends an eighth of it, bulk four times it
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(256..=1_000_000))]
    pub(crate) entries: u32,
    /// Length of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 400, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub(crate) payload: u32,
    /// Rounds of each measurement, ours and raw in turn; the median is what counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
}

/// `ledger witness`
#[derive(Debug, ClapArgs)]
pub(crate) struct Witness {
    /// Name of the witness, a host name or path that is yours: witness.example.org/w1
    #[arg(long)]
    pub(crate) name: String,
    /// Key of a log to follow, as `ledger key show --vkey` prints it; may be repeated
    #[arg(long, value_name = "VKEY", required = true)]
    pub(crate) log: Vec<String>,
    /// Address to listen on; TLS is for a proxy in front
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7380")]
    pub(crate) listen: String,
    /// Folder of the key and of what was cosigned; `witness` below LEDGER_HOME, if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
