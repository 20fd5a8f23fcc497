//! Arguments of the commands about checkpoints, their keys and proofs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::duration;
use crate::publish::Target;

/// `ledger checkpoint`
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Checkpoint {
    /// Sign one each so often, if anything was appended, until SIGTERM or Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) every: Option<Duration>,
    /// Put it outside as well: folder:DIR, git:DIR, s3://BUCKET/PREFIX or postgresql://…; can be given several times
    #[arg(long = "publish", value_name = "TARGET")]
    pub(crate) publish: Vec<Target>,
    #[command(subcommand)]
    pub(crate) command: Option<CheckpointCommand>,
    /// Ask the witnesses of this policy (C2SP tlog-policy) to cosign it; status 1 where the quorum is not met
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// What else can be done with checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Print a stored checkpoint with its cosignatures: the last one, or that of a size
    Show {
        /// Number of entries that it speaks for
        size: Option<u64>,
    },
    /// List the stored checkpoints
    List,
    /// Print how far checkpoints and publications are behind the head, as gauges (OpenMetrics text)
    Lag {
        /// Also how far what this policy's witnesses cosigned is (C2SP tlog-policy)
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// State, signed, that entries were lost when the ledger was restored from an older backup, and write to it again
    Restored {
        /// What happened; it is recorded
        #[arg(long, value_parser = super::kept_text)]
        reason: String,
    },
}

/// `ledger key`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Print the keys in use
    Show {
        /// Only the newest, in the C2SP form for verifiers, and nothing else
        #[arg(long)]
        vkey: bool,
    },
    /// List all keys that the ledger ever had, with the sizes of checkpoints for which each is valid
    List,
    /// Add a new key; from then on checkpoints carry its signature too
    Rotate,
    /// End the use of a key, of which a checkpoint carries the successor's signature
    Retire {
        /// The key, or the 8 hex digits of its id
        #[arg(value_name = "VKEY|ID")]
        key: String,
    },
}

/// `ledger prove`
#[derive(Debug, ClapArgs)]
pub(crate) struct Prove {
    /// Number of the entry to prove to be in the last checkpoint
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    pub(crate) seq: Option<u64>,
    /// A checkpoint that was kept, to prove that the last one extends it
    #[arg(long, value_name = "CHECKPOINT_FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Where to write the proof; standard output, if left out
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
