//! `ledger export`: copies that leave the ledger, each recorded before it gets its name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ledger::chain::bundle::Selection;
use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::entry::Hash;
use ledger::chain::tiles::{Kind, Tile};
use ledger::domain::event::ExportMade;
use ledger::domain::id::EventType;
use ledger::store::checkpoint::ProveError;
use ledger::store::export::{ExportError, Proved};
use ledger::store::read::ReadError;
use serde::Serialize;

use super::Common;
use crate::args::{Export, Log};
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

/// Longest checkpoint file that is read.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 20;

/// Payloads are nobody else's; tiles and checkpoints are for everybody.
pub(super) const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

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
        (Some(path), _) => bundle(common, &session, path, &args).await?,
        (None, Some(folder)) => tiles(common, &session, folder).await?,
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

async fn bundle(
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
    let asked = super::log::filter(store, &log_of(args)).await?;
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
    let bundle = store.bundle(proved, selection, args.redact);
    let bundle = bundle.await.map_err(failure)?;
    let numbers = bundle.numbers();
    let bytes = bundle
        .pack()
        .map_err(|error| failure(ExportError::Unsound(error)))?;
    let tree = bundle.checkpoint.checkpoint();
    let made = ExportMade {
        what: "bundle".to_owned(),
        first: numbers.first().copied().unwrap_or_default(),
        last: numbers.last().copied().unwrap_or_default(),
        entries: numbers.len() as u64,
        payloads: bundle.payloads.len() as u64,
        selection: filters,
        size: tree.size(),
        root: tree.root(),
        sha256: Hash::of(&bytes),
    };
    let draft = Draft::write(path, &bytes, PRIVATE)?;
    let seq = record(common, session, made.clone()).await?;
    draft.rename()?;
    Ok(answer("bundle", path, Some(seq), &made, 1))
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
    let head = session.store.head().await.map_err(super::read_failure)?;
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

async fn tiles(common: &Common<'_>, session: &Session, folder: &Path) -> Result<Answer, Failure> {
    let store = &session.store;
    let proved = store.last_proved().await.map_err(failure)?;
    let note = proved.checkpoint.to_string();
    let path = folder.join("checkpoint");
    let old = read_old(&path)?;
    if let Some(old) = &old {
        extends(session, &proved.checkpoint, old, &path).await?;
    }
    let tree = proved.checkpoint.checkpoint();
    let from = old.as_ref().map_or(0, |old| old.checkpoint().size());
    let mut made = ExportMade {
        what: "tiles".to_owned(),
        first: from + 1,
        last: tree.size(),
        entries: tree.size() - from,
        payloads: 0,
        selection: BTreeMap::new(),
        size: tree.size(),
        root: tree.root(),
        sha256: Hash::of(note.as_bytes()),
    };
    if old.is_some_and(|old| old.to_string() == note) {
        return Ok(answer("tiles", folder, None, &made, 0));
    }
    // A new cosignature alone is no new entry outside.
    made.first = made.first.min(made.last);
    store
        .check_root(&proved.checkpoint)
        .await
        .map_err(failure)?;
    let files = write_tiles(session, folder, from, tree.size()).await?;
    // Last, so that whoever reads it finds all that it speaks for.
    let draft = Draft::write(&path, note.as_bytes(), PUBLIC)?;
    let seq = record(common, session, made.clone()).await?;
    draft.rename()?;
    Ok(answer("tiles", folder, Some(seq), &made, files + 1))
}

/// The checkpoint that the folder is at.
fn read_old(path: &Path) -> Result<Option<SignedCheckpoint>, Failure> {
    let what = format!("read {}", path.display());
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(environment(what)(error)),
        Ok(found) if found.len() > CHECKPOINT_BYTES_MAX => Vec::new(),
        Ok(_) => fs::read(path).map_err(environment(what.clone()))?,
    };
    let old = SignedCheckpoint::parse(&bytes).map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(what))
            .hint("the folder holds something else: name another one")
    })?;
    Ok(Some(old))
}

/// Refuses a folder of another ledger, or of another history of this one.
async fn extends(
    session: &Session,
    new: &SignedCheckpoint,
    old: &SignedCheckpoint,
    path: &Path,
) -> Result<(), Failure> {
    let (new, old) = (new.checkpoint(), old.checkpoint());
    if old.origin() != new.origin() {
        let what = format_args!("{} is of {}, another ledger", path.display(), old.origin());
        return Err(Failure::usage(what).hint("name another folder"));
    }
    if old.size() > new.size() {
        let what = anyhow::anyhow!(
            "{} speaks for {} entries, and the last checkpoint here for {}",
            path.display(),
            old.size(),
            new.size()
        );
        return Err(Failure::new(Exit::No, what)
            .hint("checkpoints are gone, or the database was restored: `ledger verify --checkpoint` that file"));
    }
    if old.size() > 0 {
        let proof = session.store.prove_consistency(old, new).await;
        proof.map_err(signing::failure)?;
    }
    Ok(())
}

async fn write_tiles(session: &Session, folder: &Path, from: u64, to: u64) -> Result<u64, Failure> {
    let store = &session.store;
    let bar = output::bar("entries exported");
    let mut sizes = Vec::new();
    let mut after = from;
    while after < to {
        let page = store
            .stored_checkpoints(after)
            .await
            .map_err(signing::failure)?;
        let found = page
            .iter()
            .map(|stored| stored.checkpoint.checkpoint().size());
        sizes.extend(found.filter(|size| *size <= to));
        match sizes.last() {
            Some(last) if *last > after => after = *last,
            _ => break,
        }
    }
    let mut files = 0;
    let mut done = from;
    for size in sizes {
        for tile in Tile::added(done, size) {
            let bytes = store.tile(tile).await.map_err(failure)?;
            files += u64::from(put(folder, tile, &bytes)?);
            if tile.kind() == Kind::Entries {
                bar.set(tile.first() + u64::from(tile.width()), to);
            }
        }
        done = size;
    }
    bar.clear();
    Ok(files)
}

/// Writes a tile, unless it is there; false where it is.
fn put(folder: &Path, tile: Tile, bytes: &[u8]) -> Result<bool, Failure> {
    let path = folder.join(tile.to_string());
    let what = format!("write {}", path.display());
    match fs::read(&path) {
        Ok(there) if there == bytes => return Ok(false),
        Ok(_) => {
            let what = anyhow::anyhow!(
                "{} holds something else than this ledger does",
                path.display()
            );
            return Err(Failure::new(Exit::No, what)
                .hint("a tile never changes: the folder is of another history; name another one and compare"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(environment(what)(error)),
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(environment(what))?;
    }
    Draft::write(&path, bytes, PUBLIC)?.rename()?;
    Ok(true)
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
    path: &Path,
    seq: Option<u64>,
    made: &ExportMade,
    files: u64,
) -> Answer {
    Answer {
        what,
        path: path.display().to_string(),
        seq,
        entries: made.entries,
        payloads: made.payloads,
        size: made.size,
        root: made.root.to_string(),
        sha256: made.sha256.to_string(),
        files,
    }
}

/// A whole file that has not got its name yet; it is removed where it never does.
pub(super) struct Draft {
    from: PathBuf,
    to: PathBuf,
    renamed: bool,
}

impl Draft {
    pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<Self, Failure> {
        let what = format!("write {}", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = Self {
            from: path.with_file_name(format!(".{name}.{}.new", std::process::id())),
            to: path.to_owned(),
            renamed: false,
        };
        let write = || -> std::io::Result<()> {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            let mut file = options.mode(mode).open(&draft.from)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(environment(what))?;
        Ok(draft)
    }

    pub(super) fn rename(mut self) -> Result<(), Failure> {
        let what = format!("write {}", self.to.display());
        fs::rename(&self.from, &self.to).map_err(environment(what))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            drop(fs::remove_file(&self.from));
        }
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
        ExportError::Unsound(_) | ExportError::Tile(_) => {
            Failure::new(Exit::No, error).hint("`ledger verify` names what is wrong")
        }
        other => Failure::new(Exit::Environment, other),
    }
}
