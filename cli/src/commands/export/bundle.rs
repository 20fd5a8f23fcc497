//! `ledger export --bundle`: evidence in one file.

use std::collections::BTreeMap;
use std::path::Path;

use ledger::chain::bundle::Selection;
use ledger::domain::event::ExportMade;
use ledger::domain::id::EventType;
use ledger::store::bundle_file::BundleFiles;
use ledger::store::export::Proved;

use super::draft::{Draft, PRIVATE};
use super::{Answer, answer, failure, record};
use crate::args::{Export, Log};
use crate::commands::Common;
use crate::commands::{log, read_failure};
use crate::database::Session;
use crate::exit::{Failure, environment};
use crate::output;

pub(super) async fn write(
    common: &Common<'_>,
    session: &Session,
    path: &Path,
    args: &Export,
) -> Result<Answer, Failure> {
    if path.exists() {
        let what = format_args!(
            "{} is there already, and evidence is not overwritten",
            path.display()
        );
        return Err(Failure::usage(what).hint("name another file"));
    }
    let store = &session.store;
    let asked = log::filter(store, &log_of(args)).await?;
    let selection = Selection {
        from: asked.from,
        to: asked.to,
        as_of: asked.as_of,
        types: asked.types,
        subject: asked.subject,
        run: asked.run,
    };
    let proved = store.last_proved().await.map_err(failure)?;
    tell_uncovered(session, &proved, &selection).await?;
    let filters = filters(&selection, args.redact);
    let tree = proved.checkpoint.checkpoint().clone();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let spool = || {
        let what = format!("make a file in {}", folder.display());
        tempfile::tempfile_in(folder).map_err(environment(what))
    };
    let (draft, out) = Draft::open(path, PRIVATE)?;
    let files = BundleFiles {
        out,
        entries: spool()?,
        payloads: spool()?,
    };
    let written = store.write_bundle(proved, selection, args.redact, files);
    let written = written.await.map_err(failure)?;
    let made = ExportMade {
        what: "bundle".to_owned(),
        first: written.first,
        last: written.last,
        entries: written.entries,
        payloads: written.payloads,
        selection: filters,
        size: tree.size(),
        root: tree.root(),
        sha256: written.sha256,
    };
    let seq = record(common, session, made.clone()).await?;
    draft.rename()?;
    Ok(answer(
        "bundle",
        path.display().to_string(),
        Some(seq),
        &made,
        1,
    ))
}

/// The same filters as those of `ledger log`.
fn log_of(args: &Export) -> Log {
    Log {
        from: args.from,
        to: args.to,
        as_of: args.as_of.clone(),
        types: args.types.clone(),
        subject: args.subject.clone(),
        run: args.run.clone(),
        follow: false,
    }
}

/// Says that there are entries which no checkpoint covers yet.
async fn tell_uncovered(
    session: &Session,
    proved: &Proved,
    selection: &Selection,
) -> Result<(), Failure> {
    let size = proved.checkpoint.checkpoint().size();
    let head = session.store.head().await.map_err(read_failure)?;
    let wanted = selection.to.map_or(head.size, |to| to.min(head.size));
    if wanted > size {
        output::note(format_args!(
            "note: entries {} to {wanted} are not in it: no checkpoint covers them yet (`ledger checkpoint`)",
            size + 1
        ));
    }
    Ok(())
}

fn filters(selection: &Selection, redacted: bool) -> BTreeMap<String, String> {
    let mut filters = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        filters.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("from", selection.from.map(|from| from.to_string()));
    put("to", selection.to.map(|to| to.to_string()));
    put("as_of", selection.as_of.map(|time| time.to_string()));
    let types: Vec<&str> = selection.types.iter().map(EventType::as_str).collect();
    put("type", (!types.is_empty()).then(|| types.join(" ")));
    put(
        "subject",
        selection.subject.as_ref().map(ToString::to_string),
    );
    put("run", selection.run.map(|run| run.to_string()));
    put("redact", redacted.then(|| "yes".to_owned()));
    filters
}
