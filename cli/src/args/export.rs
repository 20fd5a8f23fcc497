//! Arguments of `ledger export`, and of the verification of what it wrote.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs};

use crate::commands::export::Place;

/// `ledger export`
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["bundle", "tiles"]))]
pub(crate) struct Export {
    /// Write entries with everything that proves them to this ZIP file, to be checked offline by anybody
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Write or bring up to date the whole tree and all entries as files, for clients of transparency logs (C2SP tlog-tiles), in a
    /// folder or a bucket (AWS_ variables)
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    pub(crate) tiles: Option<Place>,
    /// Leave out the payloads; the entries stay provable
    #[arg(long, requires = "bundle")]
    pub(crate) redact: bool,
    /// From this number on
    #[arg(long, alias = "from-seq", value_name = "SEQ", requires = "bundle")]
    pub(crate) from: Option<u64>,
    /// Up to and with this number
    #[arg(long, alias = "to-seq", value_name = "SEQ", requires = "bundle")]
    pub(crate) to: Option<u64>,
    /// As the ledger was at this number or time
    #[arg(long, value_name = "SEQ|TIME", requires = "bundle")]
    pub(crate) as_of: Option<String>,
    /// Only this type; can be given several times
    #[arg(long = "type", value_name = "TYPE", requires = "bundle")]
    pub(crate) types: Vec<String>,
    /// Only about this subject: kind:uuid, or kind:name as it was given to `append`
    #[arg(long, requires = "bundle")]
    pub(crate) subject: Option<String>,
    /// Only of this run
    #[arg(long, value_name = "UUID", requires = "bundle")]
    pub(crate) run: Option<String>,
}
