//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};

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
