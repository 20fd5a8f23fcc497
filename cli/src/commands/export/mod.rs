//! `ledger export`: copies that leave the ledger, each recorded before it gets its name.

mod bundle;
mod draft;
mod place;
mod tiles;

use ledger::domain::event::ExportMade;
use ledger::store::checkpoint::ProveError;
use ledger::store::export::ExportError;
use ledger::store::read::ReadError;
use serde::Serialize;

pub(super) use self::draft::{Draft, PRIVATE};
pub(crate) use self::place::Place;
use super::Common;
use crate::args::Export;
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signing;

/// What was exported.
#[derive(Serialize)]
struct Answer {
    what: &'static str,
    path: String,
    /// Number of the entry that records it; none where nothing was written.
    seq: Option<u64>,
    entries: u64,
    payloads: u64,
    /// Entries of the checkpoint.
    size: u64,
    root: String,
    sha256: String,
    /// Files written.
    files: u64,
}

pub(crate) async fn run(common: &Common<'_>, args: Export) -> Result<Exit, Failure> {
    let session = common.open().await?;
    let answer = match (&args.bundle, &args.tiles) {
        (Some(path), _) => bundle::write(common, &session, path, &args).await?,
        (None, Some(place)) => tiles::write(common, &session, place).await?,
        (None, None) => return Err(Failure::usage("say what to export: --bundle or --tiles")),
    };
    session.close().await;
    if common.json {
        output::json(&answer)?;
    } else if let Some(seq) = answer.seq {
        output::line(format_args!(
            "wrote {}: {} entries, {} payloads, proved by the checkpoint of {} entries; recorded as entry {seq}",
            answer.path, answer.entries, answer.payloads, answer.size
        ))?;
        output::line(format_args!("sha256: {}", answer.sha256))?;
    } else {
        output::line(format_args!(
            "{} is up to date: the checkpoint of {} entries",
            answer.path, answer.size
        ))?;
    }
    Ok(Exit::Yes)
}

pub(super) async fn record(
    common: &Common<'_>,
    session: &Session,
    made: ExportMade,
) -> Result<u64, Failure> {
    let actor = common.actor()?;
    let recorded = session.store.record_export(made, actor).await;
    recorded.map_err(failure)
}

fn answer(
    what: &'static str,
    path: String,
    seq: Option<u64>,
    made: &ExportMade,
    files: u64,
) -> Answer {
    Answer {
        what,
        path,
        seq,
        entries: made.entries,
        payloads: made.payloads,
        size: made.size,
        root: made.root.to_string(),
        sha256: made.sha256.to_string(),
        files,
    }
}

/// An export that was not made, with its status and what to do.
fn failure(error: ExportError) -> Failure {
    match error {
        ExportError::Read(error) => super::read_failure(error),
        ExportError::Prove(ProveError::Read(error @ ReadError::Damaged { .. })) => {
            super::read_failure(error)
        }
        ExportError::Prove(error) => signing::failure(error),
        ExportError::NoCheckpoint => {
            Failure::new(Exit::No, error).hint("make one with `ledger checkpoint`")
        }
        ExportError::Nothing { .. } => Failure::new(Exit::No, error)
            .hint("`ledger log` takes the same filters; `ledger checkpoint` covers newer entries"),
        ExportError::Unsound(_) | ExportError::Altered { .. } | ExportError::Tile(_) => {
            Failure::new(Exit::No, error).hint("`ledger verify` names what is wrong")
        }
        other => Failure::new(Exit::Environment, other),
    }
}
