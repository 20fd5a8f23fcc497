//! `ledger report`: what goes out to people, each copy recorded before it does.

mod letter;
mod page;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use ledger::chain::entry::Hash;
use ledger::chain::merkle;
use ledger::domain::event::ExportMade;
use ledger::domain::id::{RunId, Timestamp};
use ledger::projections::deletions::Part;
use ledger::projections::fold::At;
use ledger::projections::plan;
use ledger::projections::report::Report;
use serde::Serialize;

use super::approve::plan_failure;
use super::export::{Draft, PRIVATE};
use super::review::{Folded, folded, no_such_run};
use super::{Common, export, read_failure};
use crate::args::{Format, Report as Args, ReportDeletions};
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signing;

pub(crate) async fn run(common: &Common<'_>, args: Args) -> Result<Exit, Failure> {
    match args {
        Args::Deletions(args) => deletions(common, &args).await,
        Args::Letter(args) => letter::run(common, &args).await,
    }
}

/// What a report stands on.
#[derive(Debug, Clone, Serialize)]
struct Basis {
    ledger: String,
    name: String,
    as_of: AsOf,
    /// `simulated`, where the times are the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
    /// What was asked for.
    selection: BTreeMap<String, String>,
    /// The last checkpoint.
    checkpoint: Option<Tree>,
    /// Entries that are damaged, missing, sealed without a key at hand, or gone: what they say is not in the report.
    unread: u64,
}

#[derive(Debug, Clone, Serialize)]
struct AsOf {
    seq: u64,
    hash: Hash,
    recorded_at: Timestamp,
}

#[derive(Debug, Clone, Serialize)]
struct Tree {
    size: u64,
    root: Hash,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    basis: &'a Basis,
    #[serde(flatten)]
    report: &'a Report,
}

/// What was written.
#[derive(Serialize)]
struct Answer {
    path: String,
    seq: u64,
    sha256: String,
    entries: u64,
}

async fn basis(
    session: &Session,
    folded: &Folded,
    selection: BTreeMap<String, String>,
) -> Result<Basis, Failure> {
    let store = &session.store;
    let Some((seq, recorded_at)) = folded.pass.last else {
        return Err(Failure::usage("the ledger has no entry"));
    };
    let head = store.get(seq).await.map_err(read_failure)?;
    let head = head.ok_or_else(|| Failure::usage("the last entry is gone"))?;
    let checkpoint = store
        .stored_checkpoint(None)
        .await
        .map_err(signing::failure)?;
    let tree = checkpoint.map(|stored| {
        let tree = stored.checkpoint.checkpoint();
        Tree {
            size: tree.size(),
            root: tree.root(),
        }
    });
    let unreadable: u64 = folded.custody.unreadable().values().sum();
    Ok(Basis {
        ledger: store.id().to_string(),
        name: store.row().name.clone(),
        as_of: AsOf {
            seq,
            hash: head.hash,
            recorded_at,
        },
        clock: store.row().simulated_clock.then_some("simulated"),
        selection,
        checkpoint: tree,
        unread: unreadable + folded.pass.damaged,
    })
}

async fn deletions(common: &Common<'_>, args: &ReportDeletions) -> Result<Exit, Failure> {
    refuse_existing(args.out.as_deref())?;
    let session = common.open().await?;
    let store = &session.store;
    let folded = folded(store, At::Head).await?;
    let mut selection = BTreeMap::new();
    let mut part = Part::default();
    if let Some(text) = &args.run {
        let run: RunId = text.parse().map_err(Failure::usage)?;
        if !folded.deletions.knows_run(run) {
            return Err(no_such_run());
        }
        selection.insert("run".to_owned(), run.to_string());
        part.run = Some(run);
    }
    if let Some(name) = &args.plan {
        let plan = plan::find(store, name).await.map_err(plan_failure)?;
        selection.insert("plan".to_owned(), plan.to_string());
        part.plan = Some(plan);
    }
    // With a file, `--json` is about the answer and not about the file.
    let format = match (common.json, &args.out) {
        (true, None) => Format::Json,
        _ => args.format,
    };
    let basis = basis(&session, &folded, selection).await?;
    let size = basis.checkpoint.as_ref().map(|tree| tree.size);
    let review = folded.deletions.review(&folded.custody, &part);
    let plans = review.plans.clone();
    let report = Report::of(review, size).map_err(|error| {
        Failure::new(Exit::Unknown, error)
            .hint("nothing was written; `ledger verify` says whether the log was altered")
    })?;
    let document = Document {
        basis: &basis,
        report: &report,
    };
    let (name, text) = match format {
        Format::Csv => ("csv", table::csv(&report)?),
        Format::Json => {
            let text = serde_json::to_string(&document).map_err(std::io::Error::from)?;
            ("json", text + "\n")
        }
        Format::Html => ("html", page::page(&document, &plans, false)),
        Format::Print => ("print", page::page(&document, &plans, true)),
    };
    let made = Made {
        what: "report",
        format: name,
        rests_on: report.entries().into_iter().collect(),
        user: None,
    };
    let written = write(common, &session, &basis, made, args.out.as_deref(), &text).await?;
    session.close().await;
    tell(common, written.as_ref())?;
    Ok(if basis.unread == 0 {
        Exit::Yes
    } else {
        output::note(format_args!(
            "note: not whole: {} entries say nothing (sealed without a key at hand, gone or damaged)",
            basis.unread
        ));
        Exit::Unknown
    })
}

/// A copy that goes out.
struct Made {
    /// `report` or `letter`.
    what: &'static str,
    format: &'static str,
    /// Entries that it repeats something of.
    rests_on: Vec<u64>,
    /// Subject of whom it is about, where it is about one.
    user: Option<String>,
}

/// Evidence is not overwritten.
fn refuse_existing(path: Option<&Path>) -> Result<(), Failure> {
    match path {
        Some(path) if path.exists() => {
            let what = format_args!(
                "{} is there already, and is not overwritten",
                path.display()
            );
            Err(Failure::usage(what).hint("name another file"))
        }
        _ => Ok(()),
    }
}

/// Records a copy and then gives it out: into a file that gets its name last, or to standard output.
async fn write(
    common: &Common<'_>,
    session: &Session,
    basis: &Basis,
    made: Made,
    out: Option<&Path>,
    text: &str,
) -> Result<Option<Answer>, Failure> {
    let mut selection = basis.selection.clone();
    selection.insert("format".to_owned(), made.format.to_owned());
    selection.extend(made.user.map(|user| ("user".to_owned(), user)));
    let count = made.rests_on.len() as u64;
    let sha256 = Hash::of(text.as_bytes());
    let tree = basis.checkpoint.as_ref();
    let entry = ExportMade {
        what: made.what.to_owned(),
        first: made
            .rests_on
            .iter()
            .min()
            .copied()
            .unwrap_or(basis.as_of.seq),
        last: made
            .rests_on
            .iter()
            .max()
            .copied()
            .unwrap_or(basis.as_of.seq),
        entries: count,
        payloads: count,
        selection,
        size: tree.map_or(0, |tree| tree.size),
        root: tree.map_or_else(|| merkle::root_of([]), |tree| tree.root),
        sha256,
    };
    let draft = match out {
        Some(path) => Some(Draft::write(path, text.as_bytes(), PRIVATE)?),
        None => None,
    };
    let seq = export::record(common, session, entry).await?;
    let Some((draft, path)) = draft.zip(out) else {
        if common.json && made.format != "json" {
            output::json(&serde_json::json!({
                "format": made.format,
                "text": text,
                "seq": seq,
                "sha256": sha256,
            }))?;
        } else {
            output::text(text)?;
        }
        return Ok(None);
    };
    draft.rename()?;
    Ok(Some(Answer {
        path: path.display().to_string(),
        seq,
        sha256: sha256.to_string(),
        entries: count,
    }))
}

fn tell(common: &Common<'_>, written: Option<&Answer>) -> Result<(), Failure> {
    let Some(written) = written else {
        return Ok(());
    };
    if common.json {
        output::json(written)
    } else {
        output::line(format_args!(
            "wrote {} (SHA-256 {}), recorded as entry {}",
            written.path, written.sha256, written.seq
        ))
    }
}
