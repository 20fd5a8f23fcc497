//! `ledger subject export`: everything held on a person, for that person.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use futures_util::TryStreamExt as _;
use ledger::chain::entry::Hash;
use ledger::domain::erasure::SubjectExported;
use ledger::domain::event::Event;
use ledger::domain::id::Subject;
use ledger::projections::erasure;
use ledger::store::read::{Filter, Recorded};
use ledger::store::{Store, keys};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Common, log, read_failure};
use crate::args::{SubjectCommand, SubjectExport};
use crate::database::environment_key;
use crate::exit::{Exit, Failure, environment};
use crate::output;

#[derive(Serialize)]
struct Document {
    ledger: String,
    name: String,
    owner: Subject,
    /// The ledger's head when it was read.
    size: u64,
    subjects: Vec<SubjectLine>,
    /// As `ledger log --json` prints them.
    entries: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct SubjectLine {
    subject: Subject,
    natural_id: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    owner: Subject,
    file: String,
    entries: u64,
    sha256: Hash,
    seq: u64,
    hash: Hash,
}

pub(crate) async fn run(common: &Common<'_>, args: SubjectCommand) -> Result<Exit, Failure> {
    let SubjectCommand::Export(args) = args;
    export(common, args).await
}

async fn export(common: &Common<'_>, args: SubjectExport) -> Result<Exit, Failure> {
    let person = common.actor()?;
    let session = common.open().await?;
    let store = &session.store;
    let named = args.natural.or(args.subject).unwrap_or_default();
    let named = log::subject(store, &named).await?;
    let owner = erasure::owner(store, &named)
        .await
        .map_err(super::erase::failure)?;
    let document = document(store, &owner).await?;
    let entries = document.entries.len() as u64;
    let text = serde_json::to_string(&document).map_err(environment("write the document"))?;
    let sha256 = Hash::of(format!("{text}\n").as_bytes());

    // The file is made before the entry and filled after it: no copy goes out that the log does not know of.
    let file = args.out.as_deref().map(new_file).transpose()?;
    let to = match &args.out {
        Some(path) => path.display().to_string(),
        None => "standard output".to_owned(),
    };
    let event = Event::SubjectExported(SubjectExported {
        owner: owner.clone(),
        to: to.clone(),
        entries,
        sha256,
    });
    // Of the export and not of the owner: where the copy went has to be known after the owner's erasure.
    let uuid = uuid::Builder::from_random_bytes(keys::random().map_err(environment_key)?);
    let subject = Subject::new("export", uuid.into_uuid()).map_err(Failure::usage)?;
    let recorded = erasure::govern(store, &event, subject, &person, None)
        .await
        .map_err(super::erase::failure)?;
    session.close().await;

    let Some((mut file, path)) = file.zip(args.out) else {
        output::exactly(&text)?;
        return Ok(Exit::Yes);
    };
    let what = format!("write {}", path.display());
    writeln!(file, "{text}").map_err(environment(what.clone()))?;
    file.sync_all().map_err(environment(what))?;
    let answer = Answer {
        owner,
        file: to,
        entries,
        sha256,
        seq: recorded.entry.seq,
        hash: recorded.hash,
    };
    if common.json {
        output::json(&answer)?;
    } else {
        output::line(format_args!(
            "{}: {} entries about {} (SHA-256 {}), recorded as entry {}",
            answer.file, answer.entries, answer.owner, answer.sha256, answer.seq
        ))?;
    }
    Ok(Exit::Yes)
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(environment(format!("make the file {}", path.display())))
}

async fn document(store: &Store, owner: &Subject) -> Result<Document, Failure> {
    let size = store.head().await.map_err(read_failure)?.size;
    let held = store.erasable(owner).await;
    let held = held.map_err(environment("look at what is held"))?;
    let (mut subjects, ranges) = held
        .map(|held| (held.subjects, held.ranges))
        .unwrap_or_default();
    if !subjects.contains(owner) {
        subjects.insert(0, owner.clone());
    }
    let mut entries: BTreeMap<u64, Recorded> = BTreeMap::new();
    let mut lines = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let filter = Filter {
            subject: Some(subject.clone()),
            to: Some(size),
            ..Filter::default()
        };
        let about: Vec<Recorded> = store
            .read(filter)
            .try_collect()
            .await
            .map_err(read_failure)?;
        entries.extend(
            about
                .into_iter()
                .map(|recorded| (recorded.entry.seq, recorded)),
        );
        let natural_id = store.natural_id(&subject).await;
        lines.push(SubjectLine {
            natural_id: natural_id.map_err(environment("open a natural id"))?,
            subject,
        });
    }
    for seq in ranges.iter().filter(|seq| *seq <= size) {
        if !entries.contains_key(&seq)
            && let Some(recorded) = store.get(seq).await.map_err(read_failure)?
        {
            entries.insert(seq, recorded);
        }
    }
    if entries.is_empty() {
        return Err(Failure::new(
            Exit::No,
            anyhow::anyhow!("nothing is held on {owner}"),
        ));
    }
    let entries = entries
        .values()
        .map(|recorded| RawValue::from_string(log::json_line(recorded)))
        .collect::<Result<_, _>>()
        .map_err(environment("write the document"))?;
    Ok(Document {
        ledger: store.id().to_string(),
        name: store.row().name.clone(),
        owner: owner.clone(),
        size,
        subjects: lines,
        entries,
    })
}
