//! `ledger restore export`: old id and new id of what came back, for v1 and v2 to be re-pointed.

use ledger::domain::id::RunId;
use ledger::projections::fold::{self, At};
use ledger::projections::restore::{Repoint, RestoreFold};
use serde::Serialize;

use crate::args::{ExportFormat, RestoreExport};
use crate::commands::review::no_such_run;
use crate::commands::{Common, read_failure};
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Document {
    items: Vec<Repoint>,
    /// Items of which something was begun and whose entries cannot be read.
    unreadable: u64,
}

/// The columns, in order.
const COLUMNS: [&str; 14] = [
    "user",
    "email",
    "place",
    "old_id",
    "new_id",
    "way",
    "version",
    "differs",
    "lost",
    "deleted_by",
    "restored_by",
    "restored_at",
    "seq",
    "hash",
];

pub(super) async fn run(common: &Common<'_>, args: &RestoreExport) -> Result<Exit, Failure> {
    let run = args.run.as_deref().map(str::parse::<RunId>).transpose();
    let run = run.map_err(Failure::usage)?;
    let session = common.open().await?;
    let mut deletions = RestoreFold::default();
    let pass = fold::run(&session.store, At::Head, &mut [&mut deletions]).await;
    session.close().await;
    pass.map_err(read_failure)?;
    if let Some(run) = run {
        can_have_ids(&deletions, run)?;
    }
    let mut items = deletions.repoints(run);
    items.retain(|item| args.all || item.repoint);
    let document = Document {
        items,
        unreadable: deletions.unreadable().count() as u64,
    };
    if common.json || args.format == ExportFormat::Json {
        output::json(&document)?;
    } else {
        output::line(csv(&COLUMNS))?;
        for item in &document.items {
            output::line(csv(&row(item)))?;
        }
    }
    Ok(if document.unreadable == 0 {
        Exit::Yes
    } else {
        output::note(format_args!(
            "not whole: of {} items the entries cannot be read",
            document.unreadable
        ));
        Exit::Unknown
    })
}

/// Refuses a run that neither deletes nor puts back: an empty list would read as if nothing had to be re-pointed.
fn can_have_ids(deletions: &RestoreFold, run: RunId) -> Result<(), Failure> {
    match deletions.verb(run) {
        None => Err(no_such_run()),
        Some("cleanup" | "restore") => Ok(()),
        Some(verb) => {
            let what = anyhow::anyhow!(
                "run {run} is one of {verb}, which deletes nothing and puts nothing back"
            );
            Err(Failure::new(Exit::No, what)
                .hint("name the run that deleted, or the one that put back; `ledger log --type run.started` lists the runs"))
        }
    }
}

/// One record of RFC 4180, without the line feed that ends it.
fn csv(cells: &[impl AsRef<str>]) -> String {
    let quoted = |cell: &str| {
        if cell.contains([',', '"', '\r', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    };
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell.as_ref())).collect();
    format!("{}\r", cells.join(","))
}

fn row(item: &Repoint) -> [String; 14] {
    let run = |run: Option<RunId>| run.map(|run| run.to_string()).unwrap_or_default();
    [
        item.user.clone().unwrap_or_default(),
        item.email.clone().unwrap_or_default(),
        item.place.clone(),
        item.old_id.clone(),
        item.new_id.clone(),
        item.way.clone(),
        item.version.clone().unwrap_or_default(),
        item.differs.join(" "),
        item.lost.join(" "),
        run(item.deleted_by),
        run(item.restored_by),
        item.restored_at.to_string(),
        item.seq.to_string(),
        item.hash.to_string(),
    ]
}
