//! `ledger append`: entries from standard input, one JSON object a line.

use cleanup_worker::engine::with_causes;
use ledger::domain::event;
use ledger::domain::id::{Actor, EntryId, EventType, IdempotencyKey, RunId, Subject, Timestamp};
use ledger::store::identity::Natural;
use ledger::store::{AppendError, Appended, Draft, Sealing, Store};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

use super::Common;
use crate::args::Append;
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// Lines gathered into one group; those that wait are taken at once, none is waited for.
const LINES_MAX: usize = 1_024;
/// Longest line in bytes: a payload of 8 MiB, escaped.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "type")]
    event_type: String,
    schema: Option<u16>,
    subject: String,
    payload: Box<RawValue>,
    key: Option<String>,
    run: Option<String>,
    cause: Option<String>,
    occurred_at: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Done {
        seq: u64,
        id: EntryId,
        hash: String,
        replayed: bool,
    },
    Refused {
        error: String,
    },
}

pub(crate) async fn run(common: &Common<'_>, args: Append) -> Result<Exit, Failure> {
    let actor = common.actor()?;
    let recorded_at = match &args.recorded_at {
        Some(text) => Some(Timestamp::parse_lenient(text).map_err(Failure::usage)?),
        None => None,
    };
    let session = common.open().await?;
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let reading = tokio_util::task::AbortOnDropHandle::new(spawn_reader(sender));
    let mut exit = Exit::Yes;
    let mut waiting = Vec::new();
    while lines.recv_many(&mut waiting, LINES_MAX).await > 0 {
        let texts: Vec<String> = std::mem::take(&mut waiting);
        let answers = record(&session.store, &texts, &actor, recorded_at).await;
        for answer in answers {
            match answer {
                Ok(answer) => print(common, &answer)?,
                Err((failed, error)) => {
                    exit = worse(exit, failed);
                    print(common, &Answer::Refused { error })?;
                }
            }
        }
    }
    reading
        .await
        .map_err(environment("read standard input"))?
        .map_err(environment("read standard input"))?;
    session.close().await;
    Ok(exit)
}

/// The caller's handle aborts it when the command ends.
fn spawn_reader(sender: mpsc::Sender<String>) -> tokio::task::JoinHandle<std::io::Result<()>> {
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        loop {
            let mut line = Vec::new();
            let mut limited = tokio::io::AsyncReadExt::take(&mut input, LINE_BYTES_MAX as u64);
            if limited.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let text = String::from_utf8(line).map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::InvalidData, "a line is not UTF-8")
            })?;
            if !text.trim().is_empty() && sender.send(text).await.is_err() {
                return Ok(());
            }
        }
    })
}

type Refusal = (Exit, String);

async fn record(
    store: &Store,
    texts: &[String],
    actor: &Actor,
    recorded_at: Option<Timestamp>,
) -> Vec<Result<Answer, Refusal>> {
    let mut drafts = Vec::with_capacity(texts.len());
    let mut answers: Vec<Option<Refusal>> = Vec::with_capacity(texts.len());
    for text in texts {
        match draft(store, text, actor, recorded_at).await {
            Ok(draft) => {
                drafts.push(draft);
                answers.push(None);
            }
            Err(refusal) => answers.push(Some(refusal)),
        }
    }
    let mut recorded = store.append_all(drafts).await.into_iter();
    answers
        .into_iter()
        .filter_map(|refusal| match refusal {
            Some(refusal) => Some(Err(refusal)),
            None => recorded.next().map(answer),
        })
        .collect()
}

fn answer(result: Result<Appended, AppendError>) -> Result<Answer, Refusal> {
    match result {
        Ok(Appended {
            entry,
            hash,
            replayed,
        }) => Ok(Answer::Done {
            seq: entry.seq,
            id: entry.id,
            hash: hash.to_string(),
            replayed,
        }),
        Err(error) => {
            let exit = match &error {
                AppendError::Payload { .. } => Exit::Usage,
                AppendError::KeyReused { .. } | AppendError::Corrupt { .. } => Exit::No,
                _ => Exit::Environment,
            };
            Err((exit, with_causes(&error)))
        }
    }
}

async fn draft(
    store: &Store,
    text: &str,
    actor: &Actor,
    recorded_at: Option<Timestamp>,
) -> Result<Draft, Refusal> {
    let usage = |error: &dyn std::fmt::Display| (Exit::Usage, error.to_string());
    let line: Line = serde_json::from_str(text).map_err(|error| (Exit::Usage, unread(&error)))?;
    let event_type: EventType = line.event_type.parse().map_err(|error| usage(&error))?;
    if event::is_written_by_program(&event_type) {
        let why = format!("{event_type} is written by the commands of this program only");
        return Err((Exit::Usage, why));
    }
    let (subject, owner) = subject(store, &line.subject).await?;
    let sealing = if event::is_plain(&event_type) {
        Sealing::Plain
    } else {
        Sealing::Owner(owner)
    };
    let parsed = |text: &Option<String>| text.clone();
    Ok(Draft {
        event_type,
        schema: line.schema.unwrap_or(1).max(1),
        subject,
        actor: actor.clone(),
        payload: line.payload.get().to_owned(),
        sealing,
        key: parse::<IdempotencyKey>(parsed(&line.key))?,
        run: parse::<RunId>(parsed(&line.run))?,
        cause: parse::<EntryId>(parsed(&line.cause))?,
        occurred_at: match &line.occurred_at {
            Some(text) => Some(Timestamp::parse_lenient(text).map_err(|error| usage(&error))?),
            None => None,
        },
        fence: None,
        recorded_at,
    })
}

/// Why a line is no entry, and where. serde's own words would repeat what stands there.
fn unread(error: &serde_json::Error) -> String {
    let why = match error.classify() {
        serde_json::error::Category::Data => {
            "it must be an object of type, subject, payload and perhaps schema (a number), key, run, cause, occurred_at"
        }
        _ => "it is not JSON",
    };
    format!("read a line as an entry: {why} (column {})", error.column())
}

fn parse<T>(text: Option<String>) -> Result<Option<T>, Refusal>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| {
        text.parse()
            .map_err(|error: T::Err| (Exit::Usage, error.to_string()))
    })
    .transpose()
}

/// The subject and its owner. A plain `kind:name` gets its UUID through identity.
async fn subject(store: &Store, text: &str) -> Result<(Subject, Subject), Refusal> {
    let failed =
        |error: ledger::store::identity::IdentityError| (Exit::Environment, with_causes(&error));
    if let Ok(subject) = text.parse::<Subject>() {
        let owner = store.owner_of(&subject).await.map_err(failed)?;
        return Ok((subject, owner));
    }
    let Some((kind, name)) = text.split_once(':').filter(|(_, name)| !name.is_empty()) else {
        return Err((
            Exit::Usage,
            "a subject looks like kind:uuid or kind:name".to_owned(),
        ));
    };
    ledger::domain::id::check_kind(kind).map_err(|error| (Exit::Usage, error.to_string()))?;
    let natural = Natural {
        kind: kind.to_owned(),
        id: name.to_owned(),
        owner: None,
    };
    let mut subjects = store.identify(&[natural]).await.map_err(failed)?;
    let subject = subjects
        .pop()
        .ok_or((Exit::Environment, "no subject was made".to_owned()))?;
    Ok((subject.clone(), subject))
}

fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit| match exit {
        Exit::Yes => 0,
        Exit::No => 1,
        Exit::Usage => 2,
        Exit::Unknown => 3,
        Exit::Environment => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn print(common: &Common<'_>, answer: &Answer) -> Result<(), Failure> {
    if common.json {
        return output::json(answer);
    }
    match answer {
        Answer::Done {
            seq,
            hash,
            replayed,
            ..
        } => {
            let again = if *replayed { "  (recorded before)" } else { "" };
            output::line(format_args!("{seq}  {hash}{again}"))
        }
        Answer::Refused { error } => {
            output::note(format_args!("error: {error}"));
            Ok(())
        }
    }
}
